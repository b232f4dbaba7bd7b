//! Who is counted (E), who is proven dead (D), whose paths are cut (C). Shrinks by proof alone.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

use palisade_ladder::Proof;
use palisade_proto::mutant::{self, Mutant};
use palisade_proto::{Duration, HostId, Incarnation, Time};

use crate::standing::SavedDeath;

/// PROTOCOL, "Words": beyond those in E, the 4 last learned deaths of each host are kept.
const DEATHS_KEPT: usize = 4;

/// E, D and C of one host.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Electorate {
    counted: BTreeSet<Incarnation>,
    /// In the order learned.
    dead: Vec<SavedDeath>,
    /// With the digest of the configuration that said what a cut of it takes.
    cut: BTreeMap<Incarnation, [u8; 8]>,
}

impl Electorate {
    pub(crate) fn restore(
        counted: &[Incarnation],
        dead: &[SavedDeath],
        cut: &[Incarnation],
        cut_under: &[(Incarnation, [u8; 8])],
    ) -> Self {
        let under = |who: &Incarnation| cut_under.iter().find(|(cut, _)| cut == who);
        Self {
            counted: counted.iter().copied().collect(),
            dead: dead.to_vec(),
            // One that an older version wrote down is cut from nothing that is known.
            cut: cut.iter().map(|who| (*who, under(who).map_or([0; 8], |(_, digest)| *digest))).collect(),
        }
    }

    /// E.
    pub(crate) fn counted(&self) -> &BTreeSet<Incarnation> {
        &self.counted
    }

    pub(crate) fn counts(&self, who: Incarnation) -> bool {
        self.counted.contains(&who)
    }

    /// E \ D.
    pub(crate) fn living(&self) -> impl Iterator<Item = Incarnation> + '_ {
        self.counted.iter().copied().filter(|who| !self.is_dead(*who))
    }

    pub(crate) fn is_living(&self, who: Incarnation) -> bool {
        self.counts(who) && !self.is_dead(who)
    }

    /// The incarnations of one host in E.
    pub(crate) fn of_host(&self, host: HostId) -> impl Iterator<Item = Incarnation> + '_ {
        self.counted.iter().copied().filter(move |who| who.host == host)
    }

    /// D, in the order learned.
    pub(crate) fn deaths(&self) -> &[SavedDeath] {
        &self.dead
    }

    pub(crate) fn is_dead(&self, who: Incarnation) -> bool {
        let of_host = |death: &SavedDeath| mutant::on(Mutant::LivesAreOne) && death.who.host == who.host;
        self.dead.iter().any(|death| death.who == who || of_host(death))
    }

    /// Somebody says that a fence cut the power of `who`, whose death is known. True if that is news.
    pub(crate) fn was_fenced(&mut self, who: Incarnation) -> bool {
        let unaware = self.dead.iter_mut().find(|death| death.who == who && !death.fenced);
        unaware.map(|death| death.fenced = true).is_some()
    }

    /// C.
    pub(crate) fn cut(&self) -> impl Iterator<Item = Incarnation> + '_ {
        self.cut.keys().copied()
    }

    /// C, each with the digest of the configuration that it is cut under.
    pub(crate) fn cut_under(&self) -> Vec<(Incarnation, [u8; 8])> {
        self.cut.iter().map(|(who, digest)| (*who, *digest)).collect()
    }

    /// Whether it is cut, by devices of whichever configuration: nobody opens its paths again.
    pub(crate) fn is_cut(&self, who: Incarnation) -> bool {
        self.cut.contains_key(&who)
    }

    /// Whether it is cut by the devices of this configuration, so that this says from what.
    pub(crate) fn is_cut_under(&self, who: Incarnation, digest: [u8; 8]) -> bool {
        self.cut.get(&who) == Some(&digest)
    }

    /// Takes a proof of isolation by value: its victim is cut until it leaves E, from what this configuration says. True if that is
    /// news.
    pub(crate) fn isolate(&mut self, proof: Proof, digest: [u8; 8]) -> bool {
        !proof.kills() && self.learn_cut(proof.victim(), digest)
    }

    /// A member of the same configuration says so of one that is counted here, too. True if that is news.
    pub(crate) fn learn_cut(&mut self, who: Incarnation, digest: [u8; 8]) -> bool {
        self.is_living(who) && self.cut.insert(who, digest) != Some(digest)
    }

    /// Counts `who` from now on. True if it was not counted.
    pub(crate) fn count(&mut self, who: Incarnation) -> bool {
        self.counted.insert(who)
    }

    /// Takes a proof of death by value and writes the death down. The vote stays counted: see [`Self::forget`].
    /// True if it was not known. `fenced`: a fence is known to have cut its power, whatever this proof rests on.
    pub(crate) fn bury(&mut self, proof: Proof, fenced: bool, now: Time) -> bool {
        let who = proof.victim();
        if !proof.kills() || self.is_dead(who) {
            return false;
        }
        self.dead.push(SavedDeath { who, learned: now, fenced: fenced || proof.spent_budget() });
        if mutant::on(Mutant::DeathsForgotten) {
            self.trim();
        }
        true
    }

    /// A newcomer takes an admitted host's whole D ("D(x) |= D(p)"), also what it does not count.
    pub(crate) fn learn_death(&mut self, who: Incarnation, fenced: bool, from: Incarnation, now: Time) {
        self.bury(Proof::gossiped(who, from, fenced, now), fenced, now);
        self.trim();
    }

    /// PROTOCOL, "Death and shrinking": "x leaves E only vls after h learned it: votes x cast just before it died may still
    /// be counted elsewhere." Returns who left E.
    pub(crate) fn forget(&mut self, voter_lease: Duration, now: Time) -> Vec<Incarnation> {
        let voter_lease = if mutant::on(Mutant::DeadLeaveAtOnce) { Duration(0) } else { voter_lease };
        let gone: Vec<Incarnation> = self
            .dead
            .iter()
            .filter(|death| self.counted.contains(&death.who) && now >= death.learned.after(voter_lease))
            .map(|death| death.who)
            .collect();
        for who in &gone {
            self.counted.remove(who);
            self.cut.remove(who);
        }
        if !gone.is_empty() {
            self.trim();
        }
        gone
    }

    /// When [`Self::forget`] has something to do next.
    pub(crate) fn next_forget(&self, voter_lease: Duration) -> Option<Time> {
        self.dead
            .iter()
            .filter(|death| self.counted.contains(&death.who))
            .map(|death| death.learned.after(voter_lease))
            .min()
    }

    fn trim(&mut self) {
        let (counted, dead) = (&self.counted, &self.dead);
        let newest = dead.last().copied();
        let kept = if mutant::on(Mutant::DeathsKeptInEOnly) { 0 } else { DEATHS_KEPT };
        let keep: Vec<SavedDeath> = dead
            .iter()
            .enumerate()
            .filter(|(index, death)| {
                let later = dead.iter().skip(index + 1);
                let newer = later
                    .filter(|other| other.who.host == death.who.host && !counted.contains(&other.who))
                    .count();
                if mutant::on(Mutant::DeathsForgotten) {
                    return Some(**death) == newest;
                }
                counted.contains(&death.who) || newer < kept
            })
            .map(|(_, death)| *death)
            .collect();
        self.dead = keep;
    }

    /// Takes an admission back: what no rule does (see [`Mutant::AdmissionTakenBack`]).
    pub(crate) fn uncount(&mut self, who: Incarnation) {
        self.counted.remove(&who);
    }

    /// Begins another lineage with nothing counted; what is dead stays dead.
    pub(crate) fn clear_counted(&mut self) {
        self.counted.clear();
        self.cut.clear();
        self.trim();
    }

    /// The first electorate of a cold start.
    pub(crate) fn found(&mut self, members: BTreeSet<Incarnation>) {
        self.counted = members;
        self.cut.clear();
        self.trim();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(host: u8, life: u8) -> Incarnation {
        Incarnation::new(HostId::new(host).unwrap(), [life; 8])
    }

    /// Counterexample 1 of PROTOCOL: x removed from E at once, while a vote x cast is still counted elsewhere.
    #[test]
    fn ce01_the_dead_stay_counted_for_a_voters_lease() {
        let mut electorate = Electorate::default();
        electorate.count(life(0, 1));
        electorate.count(life(1, 1));
        assert!(electorate.bury(Proof::left(life(1, 1), Time(5000)), false, Time(5000)));
        assert!(!electorate.is_living(life(1, 1)));
        assert!(electorate.forget(Duration::ms(1011), Time(6010)).is_empty());
        assert!(electorate.counts(life(1, 1)));
        assert_eq!(electorate.forget(Duration::ms(1011), Time(6011)), [life(1, 1)]);
        assert!(!electorate.counts(life(1, 1)) && electorate.is_dead(life(1, 1)));
    }

    /// Counterexample 17 of PROTOCOL: D forgotten while still in E.
    #[test]
    fn ce17_a_death_is_kept_while_counted_and_the_four_last_of_each_host_beyond() {
        let mut electorate = Electorate::default();
        for n in 1..=7 {
            electorate.count(life(1, n));
            electorate.bury(Proof::left(life(1, n), Time(u64::from(n))), false, Time(u64::from(n)));
        }
        electorate.forget(Duration::ms(10), Time(16));
        assert!(electorate.is_dead(life(1, 7)), "still counted");
        assert_eq!((1..=6).filter(|n| electorate.is_dead(life(1, *n))).collect::<Vec<u8>>(), [3, 4, 5, 6]);
    }
}
