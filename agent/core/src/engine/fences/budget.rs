//! The fence budget (SAFE-8): how many hosts may be cut off within a window.

use palisade_ladder::Opening;
use palisade_proto::mutant::{self, Mutant};
use palisade_proto::{HostId, Incarnation, Time};

use super::super::Engine;

/// Fence times kept for the budget; the budget itself is far below.
const MAX_FENCE_TIMES: usize = 256;

impl Engine {
    /// SAFE-8: "Fences are limited: by default at most floor(n/2) in 10 minutes, counted on every host from gossiped deaths".
    /// A fence under way counts as spent; a victim does not stand in its own way.
    pub(in crate::engine) fn budget_left(&mut self, victim: Incarnation) -> bool {
        let window = self.cluster.fencing().budget_window();
        self.forget_fences();
        let under_way = self
            .fences
            .running
            .iter()
            .filter(|(who, running)| {
                !running.power.has_proven() && running.opening != Opening::OnlyIfOff && **who != victim
            })
            .map(|(who, _)| *who);
        let (now, others) = (self.now, |who: &Incarnation| *who != victim);
        let recent = || self.fence_times.iter().filter(move |(_, time)| now < time.after(window));
        let cut = recent().map(|(who, _)| *who).filter(others);
        let spent = under_way.chain(cut).collect::<std::collections::BTreeSet<_>>().len();
        let budget = self.cluster.fencing().budget();
        let left = spent < budget as usize || mutant::on(Mutant::BudgetIgnored);
        let free_again = recent().map(|(_, time)| time.after(window)).min();
        if let Some(at) = free_again.filter(|_| !left) {
            self.wake_at(at);
        }
        left
    }

    /// A fence cut this life off, or may have.
    pub(in crate::engine) fn spend_budget(&mut self, victim: Incarnation) {
        self.forget_fences();
        let (now, window) = (self.now, self.cluster.fencing().budget_window());
        match self.fence_times.iter_mut().find(|(who, _)| *who == victim) {
            // Once more, long after the first time.
            Some((_, time)) if now >= time.after(window) => *time = now,
            Some(_) => {}
            None => self.fence_times.push((victim, now)),
        }
        self.fence_times.sort_by_key(|(_, time)| *time);
        self.note_quarantine(victim.host);
    }

    /// A host is gone for now, and whether it was fenced too often is clear then: not while a life of it stands.
    pub(in crate::engine) fn note_quarantine(&mut self, host: HostId) {
        if self.electorate.of_host(host).any(|who| self.electorate.is_living(who)) {
            return;
        }
        let after = self.cluster.fencing().quarantine_after() as usize;
        let (now, window) = (self.now, self.cluster.fencing().quarantine_window());
        let from = self.counts_from.get(&host).copied().unwrap_or(Time(0));
        let counts = |time: Time| time > from && now < time.after(window);
        let often = self.fence_times.iter().filter(|(who, time)| who.host == host && counts(*time)).count();
        if after > 0 && often >= after && self.quarantined.insert(host) {
            self.pardoned.remove(&host);
            self.dirty = true;
        }
    }

    /// Whether a fence within the window cut the power of this life, or may have.
    pub(in crate::engine) fn has_spent_budget(&self, victim: Incarnation) -> bool {
        let (now, window) = (self.now, self.cluster.fencing().budget_window());
        self.fence_times.iter().any(|(who, time)| *who == victim && now < time.after(window))
    }

    /// SAFE-8: "quarantine of flapping hosts": one that was fenced so often within the window is not taken in again, and does not
    /// get its power back, until an operator says so to the coordinator.
    pub(in crate::engine) fn is_quarantined(&self, host: HostId) -> bool {
        self.quarantined.contains(&host)
    }

    /// Whoever waits in quarantine is told of, for as long as it does.
    pub(super) fn tell_quarantine(&mut self) {
        if self.quarantined.is_empty() && !self.alarms.any() {
            return;
        }
        let hosts: Vec<HostId> = self.cluster.hosts().iter().map(crate::config::Host::id).collect();
        for host in hosts {
            let waits = self.is_coordinator(self.now)
                && self.is_quarantined(host)
                && self.electorate.of_host(host).all(|who| self.electorate.is_dead(who));
            let (name, fencing) = (self.name(host), self.cluster.fencing());
            let what = waits.then(|| {
                format!(
                    "{name} is quarantined: fenced {} times within {}; find out why, then say `palisade unfence {name}`",
                    fencing.quarantine_after(),
                    fencing.quarantine_window()
                )
            });
            self.alarms.set(&mut self.actions, &format!("quarantine {host}"), what);
        }
    }

    fn forget_fences(&mut self) {
        let fencing = self.cluster.fencing();
        let (now, window) = (self.now, fencing.budget_window().max(fencing.quarantine_window()));
        self.fence_times.retain(|(_, time)| now < time.after(window));
        let excess = self.fence_times.len().saturating_sub(MAX_FENCE_TIMES);
        self.fence_times.drain(..excess);
    }
}
