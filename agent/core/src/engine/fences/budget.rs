//! The fence budget (SAFE-8): how many hosts may be cut off within a window.

use palisade_ladder::Opening;
use palisade_proto::Incarnation;
use palisade_proto::mutant::{self, Mutant};

use super::super::Engine;

/// Fence times kept for the budget; the budget itself is far below.
const MAX_FENCE_TIMES: usize = 256;

impl Engine {
    /// SAFE-8: "Fences are limited: by default at most floor(n/2) in 10 minutes, counted on every host from gossiped deaths".
    /// A fence under way counts as spent; a victim does not stand in its own way.
    pub(super) fn budget_left(&mut self, victim: Incarnation) -> bool {
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
        let cut = self.fence_times.iter().map(|(who, _)| *who).filter(|who| *who != victim);
        let spent = under_way.chain(cut).collect::<std::collections::BTreeSet<_>>().len();
        let budget = self.cluster.fencing().budget();
        let left = spent < budget as usize || mutant::on(Mutant::BudgetIgnored);
        if let Some((_, first)) = self.fence_times.first()
            && !left
        {
            self.wake_at(first.after(window));
        }
        left
    }

    /// A fence cut this life off, or may have.
    pub(in crate::engine) fn spend_budget(&mut self, victim: Incarnation) {
        self.forget_fences();
        if !self.has_spent_budget(victim) {
            self.fence_times.push((victim, self.now));
        }
    }

    /// Whether a fence within the window cut the power of this life, or may have.
    pub(in crate::engine) fn has_spent_budget(&self, victim: Incarnation) -> bool {
        self.fence_times.iter().any(|(who, _)| *who == victim)
    }

    fn forget_fences(&mut self) {
        let (now, window) = (self.now, self.cluster.fencing().budget_window());
        self.fence_times.retain(|(_, time)| now < time.after(window));
        let excess = self.fence_times.len().saturating_sub(MAX_FENCE_TIMES);
        self.fence_times.drain(..excess);
    }
}
