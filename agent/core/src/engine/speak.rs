//! What this host says, and when: the heartbeat, the asks to the witness.

use std::sync::Arc;

use palisade_proto::message::{Grant, MAX_PLACES, Presence};
use palisade_proto::mutant::{self, Mutant};
use palisade_proto::{Ask, AskKind, Duration, Heartbeat, Names, Seq};

use super::{Engine, MIN_GAP, claims::Here};
use crate::action::Action;
use crate::config::OnQuorumLoss;
use crate::standing::Saved;

/// PROTOCOL, "Witness": "Every quorate host sends a beacon each 5 s."
const BEACON_INTERVAL: Duration = Duration::secs(5);
/// The highest wire version that this build reads.
const SPEAKS: u8 = palisade_proto::wire::HEARTBEAT_VERSION;
/// Asks to the witness whose answer is still looked for.
const MAX_PENDING_ASKS: usize = 256;

impl Engine {
    pub(super) fn speak(&mut self) {
        // SAFE-9: nothing is said before every workload was looked at and what ran is dead.
        if self.presence == Presence::Joining
            && (!self.unseen.is_empty() || !self.here.is_empty())
            && !self.leaves_for_good()
        {
            return;
        }
        if self.is_ending() {
            return;
        }
        let urgent = self.last_sent.filter(|_| self.dirty).map(|last| last.after(MIN_GAP));
        let due = urgent.map_or(self.next_send, |urgent| urgent.min(self.next_send));
        if self.now < due {
            return self.wake_at(due);
        }
        self.say();
        // This host's own vote is renewed by its own heartbeat.
        self.refresh_standing();
        let next = if self.dirty { self.now.after(MIN_GAP) } else { self.next_send };
        self.wake_at(next);
    }

    /// Sends one heartbeat, whatever the time.
    pub(super) fn say(&mut self) {
        self.save();
        let seq = self.take_seq();
        if self.is_admitted() {
            self.support.asked(seq, self.now);
            let view: Vec<_> = self.view.iter().copied().collect();
            // "(A host also asks itself.)"
            if self.view.contains(&self.me) && self.voter.grant(self.me, &view, self.now).is_ok() {
                self.support.granted(self.me, seq, self.now);
            }
        }
        let heartbeat = Arc::new(self.heartbeat(seq));
        self.told_health = heartbeat.health;
        self.actions.push_back(Action::Send(heartbeat));
        self.last_sent = Some(self.now);
        self.next_send = self.now.after(self.timing().heartbeat());
        self.dirty = false;
    }

    fn take_seq(&mut self) -> Seq {
        let seq = self.next_seq;
        self.next_seq = self.next_seq.saturating_add(1);
        seq
    }

    fn heartbeat(&self, seq: Seq) -> Heartbeat {
        let counted = self.electorate.counted();
        let deaths = self.electorate.deaths();
        let in_e = deaths.iter().filter(|death| counted.contains(&death.who));
        let past = deaths.iter().rev().filter(|death| !counted.contains(&death.who));
        let dead: Names = in_e.chain(past).map(|death| death.who).collect();
        // SAFE-8: what a newcomer is to count; older fences are in nobody's budget any more.
        let window = self.cluster.fencing().budget_window();
        let fenced = deaths
            .iter()
            .filter(|death| {
                death.fenced && !mutant::on(Mutant::FencesUntold) && self.now < death.learned.after(window)
            })
            .filter(|death| dead.contains(death.who))
            .map(|death| death.who)
            .collect();
        let (walls, walled) = self.told_walls();
        let speaks_as_voter = self.is_admitted() || mutant::on(Mutant::UnadmittedVote);
        let grants = self.peers.values().filter_map(|peer| {
            let (grant, seen) = (peer.granted?, peer.last_seen?);
            (seen.of == grant.to).then_some(Grant { to: grant.to, seq: grant.seq })
        });
        Heartbeat {
            from: self.me,
            seq,
            machine: self.machine,
            speaks: SPEAKS,
            presence: self.presence,
            silent: self.voter.is_silent(self.now),
            quorate: self.is_quorate(self.now),
            found: self.found,
            digest: self.digest,
            lease: self.timing().lease(),
            drift: self.timing().drift(),
            electorate: counted.iter().copied().collect(),
            dead,
            fenced,
            // Whoever reads another configuration, or one that has changed since, would take it for a cut from something else.
            cut: self
                .electorate
                .cut()
                .filter(|who| self.electorate.is_cut_under(*who, self.digest))
                .collect(),
            walls,
            walled,
            view: self.view.iter().copied().collect(),
            // Whoever is about to restart hears nobody any more: an un-admitted host has no other word for it. And whoever said
            // that it restarts is not heard before it speaks again: else it is back in a view by what was said of its last
            // process, and out of it, its hold over, at the next word (I4; a quorum is lost by it, too).
            heard: self
                .heard()
                .filter(|accepted| !self.is_parting() && accepted.heartbeat.presence != Presence::Away)
                .map(|accepted| accepted.heartbeat.from)
                .collect(),
            echo: self.peers.values().filter_map(|peer| peer.last_seen).collect(),
            grants: grants.filter(|_| speaks_as_voter).collect(),
            lock: self.cold.lock(),
            busy: self.busy(),
            refused: self.my_refusals(),
            awaits: self.awaited().into_iter().collect(),
            place: self
                .place
                .iter()
                .map(|(workload, on)| super::place(*workload, *on))
                .take(MAX_PLACES)
                .collect(),
            desired: self.desired,
            health: self.own_health(),
            load: self.load,
            ails: self.told_ails(),
            wishes: self.told_wishes(),
            watchdog_bound: self.advertised_bound(),
        }
    }

    fn advertised_bound(&self) -> Duration {
        let runs = self.cluster.watchdog().filter(|watchdog| watchdog.runs_while_frozen());
        match runs {
            Some(watchdog) if self.watchdog_armed && self.cluster.on_quorum_loss() == OnQuorumLoss::Stop => {
                watchdog.bound(self.timing().drift())
            }
            Some(_) | None => Duration::ms(0),
        }
    }

    /// Written before the heartbeat that says it: a restart must never forget what peers were told.
    pub(super) fn save(&mut self) {
        let saved = Saved {
            life: self.life,
            left: self.presence == Presence::Left && !mutant::on(Mutant::LeftUnwritten),
            admitted: matches!(self.presence, Presence::Admitted | Presence::Away)
                || (mutant::on(Mutant::LeftUnwritten) && self.saved.admitted),
            found: self.found,
            electorate: self.electorate.counted().iter().copied().collect(),
            dead: self.electorate.deaths().to_vec(),
            cut: self.electorate.cut().collect(),
            cut_under: self.electorate.cut_under(),
            quarantined: self.quarantined.iter().copied().collect(),
            walls: self.wanted_walls().collect(),
            lock: self.cold.lock(),
            claims: self.here.keys().copied().filter(|_| !mutant::on(Mutant::ClaimsUnwritten)).collect(),
            unsettled: self
                .here
                .iter()
                .filter(|(_, here)| **here != Here::Running)
                .map(|(id, _)| *id)
                .collect(),
            desired_version: self.desired.version,
            stopped: self.desired.stopped.iter().collect(),
            wished: self.wished.clone(),
            watchdog_armed: self.watchdog_armed,
            fences: self.fence_times.clone(),
            lost_since: self.lost_since,
        };
        if saved != self.saved {
            self.saved = saved.clone();
            self.actions.push_back(Action::Save(Box::new(saved)));
        }
    }

    pub(super) fn ask_witness(&mut self) {
        if self.cluster.witness().is_none() || self.last_sent.is_none() || self.is_ending() {
            return;
        }
        if self.now >= self.next_ask {
            self.ask_for_support();
        } else {
            self.wake_at(self.next_ask);
        }
        if self.is_quorate(self.now) && self.now >= self.next_beacon {
            self.next_beacon = self.now.after(BEACON_INTERVAL);
            self.ask(AskKind::Beacon, Names::new());
        }
    }

    /// As often as a heartbeat goes, but at once when the view has changed or the hesitation is over.
    fn ask_for_support(&mut self) {
        if self.is_admitted() && self.may_ask_witness() {
            let view = self.view.iter().copied().collect();
            let kind = AskKind::Ordinary { incumbent: self.support.is_incumbent(self.now) };
            let seq = self.ask(kind, view);
            self.support.asked_witness(seq, self.now);
        } else if let Some(present) = self.cold_ask.clone() {
            let seq = self.ask(AskKind::Cold, present.into_iter().collect());
            let until = self.now.after(self.timing().lease());
            self.cold.asked_consent(seq, until);
        } else {
            return;
        }
        self.next_ask = self.now.after(self.timing().heartbeat());
        self.wake_at(self.next_ask);
    }

    fn ask(&mut self, kind: AskKind, view: Names) -> Seq {
        let seq = self.take_seq();
        while self.pending_asks.len() >= MAX_PENDING_ASKS {
            self.pending_asks.pop_first();
        }
        self.pending_asks.insert(seq, self.now);
        self.witness_awaited.get_or_insert(self.now);
        let (lease, drift) = (self.timing().lease(), self.timing().drift());
        self.actions.push_back(Action::Ask(Box::new(Ask { from: self.me, seq, kind, view, lease, drift })));
        seq
    }
}
