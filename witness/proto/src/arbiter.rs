//! The witness's rules for one cluster (PROTOCOL, "Witness").
//!
//! Decides: what the witness answers to an authentic ask. Never: knows an electorate, a view or a death; reads a clock; learns
//! what it granted before it started, which is why it starts silent.

use core::fmt;

use heapless::Vec;
use serde::Serialize;

use crate::mutant::{self, Mutant};
use crate::time::voter_length;
use crate::voter::{Refusal, Voter};
use crate::{Ask, AskKind, Drift, Duration, Incarnation, Seq, Time, Verdict};

/// PROTOCOL, "Witness": "has heard no beacon and no ordinary ask for, `beacon_ttl` (15 s). Every quorate host sends a beacon
/// each 5 s."
pub const BEACON_TTL: Duration = Duration::secs(15);

/// An arbiter for clusters of up to 4 hosts, with room for the last life of two of them.
pub type SmallArbiter = Arbiter<4, 6>;
/// An arbiter for any cluster, with room for the last life of every host.
pub type LargeArbiter = Arbiter<{ crate::MAX_HOSTS }, { 2 * crate::MAX_HOSTS }>;

/// The witness of one cluster of up to `HOSTS` hosts; it remembers `LIVES` incarnations at once.
#[derive(Clone, Debug, Serialize)]
pub struct Arbiter<const HOSTS: usize, const LIVES: usize> {
    lease: Duration,
    drift: Drift,
    voter: Voter<LIVES, HOSTS>,
    heard: Vec<Heard, LIVES, u8>,
    /// Since when no beacon and no ordinary ask has said that an electorate lives, as far as this process could hear.
    quiet_since: Time,
}

/// The last that an incarnation asked.
#[derive(Clone, Debug, Serialize)]
struct Heard {
    from: Incarnation,
    seq: Seq,
    at: Time,
}

/// Why an ask gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// Its seq is not above the last one of its sender: reordered, doubled or replayed.
    OldSeq,
    /// It asks for a view without its sender.
    NotInOwnView,
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OldSeq => "its seq is not above the last one",
            Self::NotInOwnView => "its view does not contain its sender",
        })
    }
}

impl<const HOSTS: usize, const LIVES: usize> Arbiter<HOSTS, LIVES> {
    /// The arbiter of a witness process that started at `started`, for a cluster with this lease length and drift bound.
    #[must_use]
    pub const fn new(started: Time, lease: Duration, drift: Drift) -> Self {
        Self {
            lease,
            drift,
            voter: Voter::new(started, voter_length(lease, drift)),
            heard: Vec::new(),
            quiet_since: started,
        }
    }

    /// What the witness says to `ask`. `now` was read after the ask had left the socket.
    ///
    /// # Errors
    /// Why it says nothing; nothing has changed then.
    pub fn handle(&mut self, ask: &Ask, now: Time) -> Result<Verdict, Ignored> {
        if ask.kind != AskKind::Beacon && !ask.view.contains(ask.from) {
            return Err(Ignored::NotInOwnView);
        }
        #[cfg(feature = "mutants")]
        if mutant::on(Mutant::WitnessSkipsSilence) {
            self.voter.end_silence();
        }
        let has_room = self.note_seq(ask, now)?;
        if ask.kind != AskKind::Cold {
            self.quiet_since = now;
        }
        if !has_room {
            return Ok(Verdict::Full);
        }
        // PROTOCOL, "Grant rule": "3. Ls and drift equal v's".
        if ask.lease != self.lease || ask.drift != self.drift {
            return Ok(Verdict::OtherTiming);
        }
        Ok(match ask.kind {
            // "W answers each beacon."
            AskKind::Beacon => Verdict::Noted,
            AskKind::Ordinary { incumbent } => {
                // "during the Ls after its silent period it grants only asks marked incumbent. (Else a witness restart can
                // hand a running split to the loser, and both fence.)"
                if !incumbent && !self.voter.is_silent(now) && self.serves_incumbents_only(now) {
                    Verdict::IncumbentsOnly
                } else {
                    self.grant(ask, now)
                }
            }
            AskKind::Cold if self.electorate_may_live(now) => Verdict::ElectorateLives,
            // A cold grant is a lease like any other: conflicting cold asks exclude each other.
            AskKind::Cold => self.grant(ask, now),
        })
    }

    /// The way to the hosts was interrupted until now: beacons may have been missed. Having heard none counts from here.
    pub const fn was_deaf(&mut self, now: Time) {
        self.quiet_since = now;
    }

    /// Whether nothing has been granted that still binds.
    #[must_use]
    pub fn is_idle(&self, now: Time) -> bool {
        self.voter.leases(now).next().is_none()
    }

    fn grant(&mut self, ask: &Ask, now: Time) -> Verdict {
        match self.voter.grant(ask.from, ask.view.as_slice(), now) {
            Ok(()) => Verdict::Granted,
            Err(Refusal::SilentPeriod) => Verdict::Silent,
            Err(Refusal::Conflict { .. }) => Verdict::Conflict,
            // handle() has checked the view against its sender; the rest is a lack of room.
            Err(Refusal::NotInOwnView | Refusal::ViewTooLarge | Refusal::TableFull) => Verdict::Full,
        }
    }

    fn serves_incumbents_only(&self, now: Time) -> bool {
        now < self.voter.silent_until().after(voter_length(self.lease, self.drift))
            && !mutant::on(Mutant::WitnessServesAnyone)
    }

    /// "cold asks: only if it has been up for, and has heard no beacon and no ordinary ask for, `beacon_ttl` (15 s)."
    fn electorate_may_live(&self, now: Time) -> bool {
        now.since(self.quiet_since) < BEACON_TTL && !mutant::on(Mutant::ConsentWhileAlive)
    }

    /// Notes the ask's seq, whatever becomes of the ask. False: there is no room to.
    fn note_seq(&mut self, ask: &Ask, now: Time) -> Result<bool, Ignored> {
        if let Some(heard) = self.heard.iter_mut().find(|heard| heard.from == ask.from) {
            // SAFE-7: "Older seq: ignored." (An old ask must not replace a newer lease.)
            if ask.seq <= heard.seq && !mutant::on(Mutant::WitnessTakesOldAsks) {
                return Err(Ignored::OldSeq);
            }
            (heard.seq, heard.at) = (ask.seq, now);
            return Ok(true);
        }
        let new = Heard { from: ask.from, seq: ask.seq, at: now };
        let Err(new) = self.heard.push(new) else { return Ok(true) };
        // A seq is kept for as long as its lease binds: without it an old ask could replace that lease.
        let voter = &self.voter;
        let unbound = self.heard.iter_mut().filter(|heard| voter.lease_of(heard.from, now).is_none());
        match unbound.min_by_key(|heard| heard.at) {
            Some(oldest) => {
                *oldest = new;
                Ok(true)
            }
            None => Ok(false),
        }
    }
}
