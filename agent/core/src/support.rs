//! The support that a host holds for its view: asks sent, grants counted, and until when they make a quorum.
//!
//! A grant counts from the *sending* of its ask for one lease, on the holder's clock; it counts for the view it was asked
//! for, and for a larger one, never for another.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use palisade_proto::mutant::{self, Mutant};
use palisade_proto::{Duration, Incarnation, Seq, Time};

/// Asks whose answer can still count: a lease's worth at one ask each 10 ms, with a margin for the fast profile.
const MAX_ASKS: usize = 256;

/// What a host holds of others' support.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Support {
    lease: Duration,
    asks: VecDeque<SentAsk>,
    grants: BTreeMap<Incarnation, Time>,
    witness_asks: VecDeque<SentAsk>,
    witness_until: Option<Time>,
    /// When the last grant that the witness ever gave expires or expired; decides whether this host is its incumbent.
    witness_last: Option<Time>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct SentAsk {
    seq: Seq,
    sent: Time,
}

/// What of a quorum is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    /// The voters whose grants run, in their order.
    pub(crate) votes: Vec<Incarnation>,
    /// Whether the witness's does.
    pub(crate) witness: bool,
    /// n: how many are counted.
    pub(crate) counted: usize,
    /// The quorum holds strictly before this instant; `None`: there is none.
    pub(crate) until: Option<Time>,
}

impl Support {
    pub(crate) fn new(lease: Duration) -> Self {
        Self {
            lease,
            asks: VecDeque::new(),
            grants: BTreeMap::new(),
            witness_asks: VecDeque::new(),
            witness_until: None,
            witness_last: None,
        }
    }

    /// A heartbeat left as an ask; `sent` was read before it was built.
    pub(crate) fn asked(&mut self, seq: Seq, sent: Time) {
        Self::remember(&mut self.asks, seq, sent);
    }

    /// An ask left for the witness.
    pub(crate) fn asked_witness(&mut self, seq: Seq, sent: Time) {
        Self::remember(&mut self.witness_asks, seq, sent);
    }

    fn remember(asks: &mut VecDeque<SentAsk>, seq: Seq, sent: Time) {
        if asks.len() == MAX_ASKS {
            asks.pop_front();
        }
        asks.push_back(SentAsk { seq, sent });
    }

    /// PROTOCOL, "Grant rule": "h counts a grant until (send time of that seq) + Ls on its own clock." An unknown or void seq
    /// counts for nothing, nor does a grant that comes when its time is over.
    pub(crate) fn granted(&mut self, voter: Incarnation, seq: Seq, now: Time) {
        let Some(mut expires) = Self::expiry(&self.asks, seq, self.lease).filter(|expires| now < *expires)
        else {
            return;
        };
        if mutant::on(Mutant::LeaseFromReceipt) {
            expires = now.after(self.lease);
        }
        let held = self.grants.entry(voter).or_insert(expires);
        *held = (*held).max(expires);
    }

    /// The same for the witness.
    pub(crate) fn witness_granted(&mut self, seq: Seq) {
        let Some(expires) = Self::expiry(&self.witness_asks, seq, self.lease) else { return };
        self.witness_until = self.witness_until.max(Some(expires));
        self.witness_last = self.witness_last.max(Some(expires));
    }

    fn expiry(asks: &VecDeque<SentAsk>, seq: Seq, lease: Duration) -> Option<Time> {
        asks.iter().find(|ask| ask.seq == seq).map(|ask| ask.sent.after(lease))
    }

    /// PROTOCOL, "Grant rule": "When V changes to V': each grant held, and each ask still unanswered, whose view is a subset
    /// of V' is from now on one for V'; every other one is void for good, also if V returns later."
    /// What is held or unanswered is always for the present view, so `grows` (old view within the new) decides for all.
    pub(crate) fn view_changed(&mut self, grows: bool) {
        if !grows && !mutant::on(Mutant::ViewsReturnWithGrants) {
            self.void();
        }
    }

    /// Voids all that is held and unanswered.
    pub(crate) fn void(&mut self) {
        self.asks.clear();
        self.grants.clear();
        self.witness_asks.clear();
        self.witness_until = None;
    }

    /// PROTOCOL, "Witness": incumbent is who holds a grant of the witness, or held one that expired less than 3*Ls ago.
    pub(crate) fn is_incumbent(&self, now: Time) -> bool {
        self.witness_last.is_some_and(|last| now < last.after(self.lease.times(3)))
    }

    /// The grants held, the witness's under `None`, each with the instant before which it counts.
    pub(crate) fn held(&self) -> impl Iterator<Item = (Option<Incarnation>, Time)> {
        let hosts = self.grants.iter().map(|(voter, until)| (Some(*voter), *until));
        hosts.chain(self.witness_until.map(|until| (None, until)))
    }

    /// PROTOCOL, "Quorum": hosts > n/2, or n even and hosts == n/2 and the witness.
    pub(crate) fn tally(&self, electorate: &BTreeSet<Incarnation>, now: Time) -> Tally {
        let running = self.grants.iter().filter(|(voter, until)| now < **until && electorate.contains(voter));
        let (votes, mut expiries): (Vec<Incarnation>, Vec<Time>) =
            running.map(|(voter, until)| (*voter, *until)).unzip();
        let counted = electorate.len();
        expiries.sort_unstable_by(|a, b| b.cmp(a));
        let witness_until = self.witness_until.filter(|until| now < *until);
        // The quorum lasts as long as the last-but-(k-1) of its k votes.
        let needed = if mutant::on(Mutant::HalfIsQuorum) { counted.div_ceil(2) } else { counted / 2 + 1 };
        let by_hosts = expiries.get(needed.saturating_sub(1)).copied();
        let by_half = (counted > 0 && counted.is_multiple_of(2))
            .then(|| expiries.get(counted / 2 - 1).copied().zip(witness_until))
            .flatten()
            .map(|(hosts, witness)| hosts.min(witness));
        Tally { votes, witness: witness_until.is_some(), counted, until: by_hosts.max(by_half) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_proto::HostId;

    fn host(id: u8) -> Incarnation {
        Incarnation::new(HostId::new(id).unwrap(), [id; 8])
    }

    fn support() -> Support {
        Support::new(Duration::ms(1000))
    }

    #[test]
    fn a_quorum_is_more_than_half_or_half_with_the_witness() {
        // (counted, votes, witness, quorate)
        let table = [
            (1, 1, false, true),
            (2, 1, false, false),
            (2, 1, true, true),
            (2, 2, false, true),
            (3, 1, true, false),
            (3, 2, false, true),
            (4, 2, false, false),
            (4, 2, true, true),
            (4, 1, true, false),
            (5, 3, false, true),
        ];
        for (counted, votes, witness, quorate) in table {
            let electorate: BTreeSet<Incarnation> = (0..counted).map(host).collect();
            let mut support = support();
            support.asked(7, Time(100));
            support.asked_witness(8, Time(100));
            (0..votes).for_each(|voter| support.granted(host(voter), 7, Time(200)));
            if witness {
                support.witness_granted(8);
            }
            assert_eq!(
                support.tally(&electorate, Time(200)).until.is_some(),
                quorate,
                "{votes} of {counted}, witness {witness}"
            );
        }
    }

    #[test]
    fn a_grant_counts_from_the_sending_of_its_ask() {
        let electorate: BTreeSet<Incarnation> = [host(0)].into();
        let mut support = support();
        support.asked(7, Time(100));
        support.granted(host(0), 7, Time(200));
        assert_eq!(support.tally(&electorate, Time(1099)).until, Some(Time(1100)));
        assert_eq!(support.tally(&electorate, Time(1100)).until, None);
    }

    #[test]
    fn a_voter_outside_the_electorate_does_not_count() {
        let mut support = support();
        support.asked(7, Time(100));
        support.granted(host(1), 7, Time(200));
        assert_eq!(support.tally(&[host(0)].into(), Time(200)).until, None);
    }

    /// Counterexample 3 of PROTOCOL: a view flapping A-B-A counts a replaced grant.
    #[test]
    fn ce03_a_view_that_returns_does_not_bring_back_its_grants() {
        let electorate: BTreeSet<Incarnation> = [host(0)].into();
        let mut support = support();
        support.asked(7, Time(100));
        support.granted(host(0), 7, Time(200));
        support.asked(8, Time(150));
        support.view_changed(false);
        support.view_changed(false);
        support.granted(host(0), 7, Time(200));
        support.granted(host(0), 8, Time(200));
        assert_eq!(support.tally(&electorate, Time(200)).until, None);
    }

    #[test]
    fn a_growing_view_keeps_what_it_has() {
        let electorate: BTreeSet<Incarnation> = [host(0)].into();
        let mut support = support();
        support.asked(7, Time(100));
        support.view_changed(true);
        support.granted(host(0), 7, Time(200));
        assert_eq!(support.tally(&electorate, Time(200)).until, Some(Time(1100)));
    }

    #[test]
    fn an_incumbent_stays_one_for_three_leases() {
        let mut support = support();
        assert!(!support.is_incumbent(Time(0)));
        support.asked_witness(1, Time(0));
        support.witness_granted(1);
        support.view_changed(false);
        assert!(support.is_incumbent(Time(3999)) && !support.is_incumbent(Time(4000)));
    }
}
