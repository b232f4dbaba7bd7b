//! The voter's grant rule: one for every voter, host or witness.
//!
//! Decides: whether an ask for support conflicts with a lease that still runs. Never: who the asker is, whether the message
//! was fresh (the caller has checked that), or what a host adds to the rule (condition 3 of PROTOCOL, "Grant rule").

use core::fmt;
use serde::{Deserialize, Serialize};

use heapless::Vec;

use crate::mutant::{self, Mutant};
use crate::{Duration, Incarnation, Time};

/// A voter's support for one asking incarnation and the view it stands with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease<const VIEW: usize> {
    /// Who was granted support. Witness and hosts key leases by incarnation, never by host.
    pub holder: Incarnation,
    /// The view that was supported; contains the holder.
    pub view: Vec<Incarnation, VIEW>,
    /// On the voter's clock: the lease binds before this instant.
    pub expires: Time,
}

impl<const VIEW: usize> Lease<VIEW> {
    /// PROTOCOL, "Grant rule": a lease (g, Wg) conflicts with an ask (h, V) iff g != h and (g not in V or h not in Wg).
    fn conflicts(&self, asker: Incarnation, view: &[Incarnation]) -> bool {
        let same = if mutant::on(Mutant::WitnessLeasesByHost) {
            self.holder.host == asker.host
        } else {
            self.holder == asker
        };
        let names_asker = self.view.contains(&asker) || mutant::on(Mutant::OneSidedConflict);
        !(same || view.contains(&self.holder) && names_asker)
    }
}

/// Why a voter did not grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The voter's process has not yet run for a lease's length: it may have granted in an earlier life.
    SilentPeriod,
    /// An unexpired lease excludes this view.
    Conflict {
        /// Who holds it.
        with: Incarnation,
    },
    /// The ask does not name its own sender in its view.
    NotInOwnView,
    /// The view has more members than this voter has room for.
    ViewTooLarge,
    /// Every lease of the fixed table binds; none is evicted.
    TableFull,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SilentPeriod => f.write_str("the voter is in its silent period"),
            Self::Conflict { with } => write!(f, "a lease of {with} excludes this view"),
            Self::NotInOwnView => f.write_str("the asker is not in the view it asks for"),
            Self::ViewTooLarge => f.write_str("the view has more members than this voter serves"),
            Self::TableFull => f.write_str("every lease of the table binds"),
        }
    }
}

/// The leases of one voter. At most one per asking incarnation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Voter<const LEASES: usize, const VIEW: usize> {
    leases: Vec<Lease<VIEW>, LEASES>,
    may_grant_from: Time,
    length: Duration,
}

impl<const LEASES: usize, const VIEW: usize> Voter<LEASES, VIEW> {
    /// A voter whose process started at `started` and whose leases last `length` (see [`crate::time::voter_length`]).
    #[must_use]
    pub const fn new(started: Time, length: Duration) -> Self {
        Self { leases: Vec::new(), may_grant_from: started.after(length), length }
    }

    /// Whether the silent period still runs: what this voter granted before it started may still be counted.
    #[must_use]
    pub fn is_silent(&self, now: Time) -> bool {
        now < self.may_grant_from
    }

    /// When the silent period ends.
    #[must_use]
    pub const fn silent_until(&self) -> Time {
        self.may_grant_from
    }

    /// Conditions 1 and 2 of the grant rule. On success the new lease replaces the asker's older one.
    ///
    /// # Errors
    /// Why nothing was granted; the leases are then as they were.
    pub fn grant(&mut self, asker: Incarnation, view: &[Incarnation], now: Time) -> Result<(), Refusal> {
        if self.is_silent(now) {
            return Err(Refusal::SilentPeriod);
        }
        if !view.contains(&asker) {
            return Err(Refusal::NotInOwnView);
        }
        self.forget_expired(now);
        if let Some(lease) = self.leases.iter().find(|lease| lease.conflicts(asker, view)) {
            return Err(Refusal::Conflict { with: lease.holder });
        }
        let granted = Lease {
            holder: asker,
            view: Vec::from_slice(view).map_err(|_| Refusal::ViewTooLarge)?,
            expires: now.after(self.length),
        };
        match self.leases.iter_mut().find(|lease| lease.holder == asker) {
            Some(lease) => *lease = granted,
            None => self.leases.push(granted).map_err(|_| Refusal::TableFull)?,
        }
        Ok(())
    }

    /// Drops the lease of one incarnation: a host does so when it is dead or says `away`; the witness never does.
    pub fn drop_lease(&mut self, holder: Incarnation) {
        self.leases.retain(|lease| lease.holder != holder);
    }

    /// Ends the silent period before its time.
    #[cfg(feature = "mutants")]
    pub fn end_silence(&mut self) {
        self.may_grant_from = Time(0);
    }

    /// Drops every lease: a life that has left grants nothing.
    pub fn clear(&mut self) {
        self.leases.clear();
    }

    /// The leases that bind at `now`.
    pub fn leases(&self, now: Time) -> impl Iterator<Item = &Lease<VIEW>> {
        self.leases.iter().filter(move |lease| now < lease.expires)
    }

    /// The lease of `holder`, if it binds at `now`.
    #[must_use]
    pub fn lease_of(&self, holder: Incarnation, now: Time) -> Option<&Lease<VIEW>> {
        self.leases(now).find(|lease| lease.holder == holder)
    }

    fn forget_expired(&mut self, now: Time) {
        self.leases.retain(|lease| now < lease.expires);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostId;

    fn host(id: u8) -> Incarnation {
        Incarnation::new(HostId::new(id).unwrap(), [id; 8])
    }

    fn voter() -> Voter<4, 4> {
        Voter::new(Time(0), Duration::ms(1011))
    }

    const LATER: Time = Time(5000);

    #[test]
    fn a_voter_grants_nothing_in_its_silent_period() {
        let (a, b) = (host(0), host(1));
        assert_eq!(voter().grant(a, &[a, b], Time(1010)), Err(Refusal::SilentPeriod));
        assert_eq!(voter().grant(a, &[a, b], Time(1011)), Ok(()));
    }

    #[test]
    fn leases_conflict_unless_each_stands_in_the_others_view() {
        let (a, b, c) = (host(0), host(1), host(2));
        // Lease holder, its view, asker, its view, conflict.
        type Case<'a> = (Incarnation, &'a [Incarnation], Incarnation, &'a [Incarnation], bool);
        let table: [Case<'_>; 6] = [
            (a, &[a, b], b, &[a, b], false),
            (a, &[a], b, &[a, b], true),
            (a, &[a, b], b, &[b], true),
            (a, &[a], b, &[b], true),
            (a, &[a, b], a, &[a], false),
            (a, &[a, b, c], c, &[a, c], false),
        ];
        for (holder, lease_view, asker, view, conflict) in table {
            let mut voter = voter();
            voter.grant(holder, lease_view, LATER).unwrap();
            let expected = if conflict { Err(Refusal::Conflict { with: holder }) } else { Ok(()) };
            assert_eq!(
                voter.grant(asker, view, LATER),
                expected,
                "{holder} {lease_view:?} against {asker} {view:?}"
            );
        }
    }

    #[test]
    fn a_conflict_ends_with_the_lease_and_not_before() {
        let (a, b) = (host(0), host(1));
        let mut voter = voter();
        voter.grant(a, &[a], LATER).unwrap();
        assert!(voter.grant(b, &[b], Time(LATER.0 + 1010)).is_err());
        assert!(voter.grant(b, &[b], Time(LATER.0 + 1011)).is_ok());
    }

    #[test]
    fn another_life_of_the_same_host_is_another_holder() {
        let old = host(0);
        let new = Incarnation::new(old.host, [9; 8]);
        let mut voter = voter();
        voter.grant(old, &[old], LATER).unwrap();
        assert_eq!(voter.grant(new, &[new], LATER), Err(Refusal::Conflict { with: old }));
    }

    #[test]
    fn a_full_table_refuses_and_keeps_what_it_has() {
        let everyone: Vec<Incarnation, 8> = (0..5).map(host).collect();
        let mut voter: Voter<4, 8> = Voter::new(Time(0), Duration::ms(1011));
        for asker in everyone.iter().take(4) {
            voter.grant(*asker, &everyone, LATER).unwrap();
        }
        assert_eq!(voter.grant(host(4), &everyone, LATER), Err(Refusal::TableFull));
        assert_eq!(voter.leases(LATER).count(), 4);
    }
}
