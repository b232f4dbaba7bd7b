//! A bounded model checker over the shipped code: engines, voters and arbiter, never a model of them.
//!
//! Time goes in steps of a heartbeat interval, in which everything sent arrives. An adversary deviates from that a bounded
//! number of times, at any step: cuts ways, holds packets, takes power, ends processes. Every such history of a [`Scene`] is
//! gone through; worlds that are the same (see `fingerprint`) once. What the random simulation rarely meets is met here for
//! sure, within these bounds: all clocks go alike, a host looks at its clock once a step, and no more deviations than stated.

#![allow(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a simulated world that contradicts itself should stop at once"
)]

use palisade_proto::mutant::Mutant;

mod deviation;
mod fingerprint;
mod machines;
mod scene;
mod search;
mod truth;
mod world;

pub use deviation::Deviation;
pub use scene::{Scene, scenes};
pub use search::{replay, run};

/// How far a scene is explored.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Deviations in one history.
    pub deviations: u8,
    /// Distinct states; at this many the search ends unfinished.
    pub states: u64,
    /// Threads.
    pub threads: usize,
}

/// What an exploration found.
#[derive(Debug)]
pub struct Outcome {
    /// Distinct states.
    pub states: u64,
    /// Steps taken.
    pub transitions: u64,
    /// Steps from the scene's beginning to its deepest new state.
    pub deepest: u64,
    /// Every history within the number of deviations was gone through.
    pub exhausted: bool,
    /// The first failure found, with the fewest deviations of those found at the same time.
    pub failure: Option<Failure>,
}

/// A history that fails.
#[derive(Debug)]
pub struct Failure {
    /// Which invariant, and how.
    pub what: String,
    /// Which deviation of the scene's list, at which step of the scene.
    pub path: Vec<(u64, usize)>,
}

/// Rules whose loss a scene shows within its own bounds and random histories do not, or late: which rule, and the scene.
pub const SEEN: [(Mutant, &str); 10] = [
    (Mutant::LockedJoinsAnyone, "old-lineage"),
    (Mutant::LockReleasedOnSilence, "old-lineage"),
    (Mutant::ColdStartUnconfirmed, "old-lock"),
    (Mutant::WitnessLeasesByHost, "old-ask"),
    (Mutant::OldLeftCounts, "leaving"),
    (Mutant::LockReleasedOnOldPacket, "old-unlocked"),
    (Mutant::NewcomerBuries, "lost-word"),
    (Mutant::OldReadingCounts, "old-reading"),
    (Mutant::WitnessServesAnyone, "split"),
    (Mutant::UnknownsFenced, "harmless-two"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::hunt::hunts;

    #[test]
    fn every_rule_is_hunted_in_one_place() {
        for mutant in Mutant::ALL.iter().copied() {
            let places = hunts().iter().filter(|hunt| hunt.mutant == mutant).count()
                + SEEN.iter().filter(|(seen, _)| *seen == mutant).count();
            assert_eq!(places, 1, "{}", mutant.name());
        }
    }
}
