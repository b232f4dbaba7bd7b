//! Whole clusters in virtual time: the shipped engines, voters and arbiter, and a world that goes wrong around them.
//!
//! One seed is one history. The world knows the truth (who has power, what runs where) and checks the protocol's invariants
//! against it after every event; nothing here decides anything for a host.

#![allow(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a simulated world that contradicts itself should stop at once"
)]
#![allow(clippy::wildcard_enum_match_arm, reason = "the world acts on the few events that it knows")]

mod act;
mod ailing;
mod calm;
mod clock;
mod event;
mod faults;
mod hosts;
pub mod hunt;
mod lemmas;
mod machine;
mod maintenance;
pub mod measure;
mod plots;
mod rng;
mod setup;
pub mod shrink;
pub mod sweep;
mod timeline;
mod truth;
mod world;

pub use clock::{Clock, Micros, ms};
pub use faults::{BmcMode, Fault, Timeline, Weather};
pub use plots::Plot;
pub use rng::Rng;
pub use setup::{NAMES, Setup};
pub use world::{Report, World};

/// Which history: a seed, and a plot that is not the seed's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// Everything is drawn from it.
    pub seed: u64,
    /// What the history is about; `None`: that is drawn, too.
    pub plot: Option<Plot>,
}

impl From<u64> for History {
    fn from(seed: u64) -> Self {
        Self { seed, plot: None }
    }
}

/// What happens in `history`.
#[must_use]
pub fn run(history: impl Into<History>, tracing: bool) -> Report {
    run_with(history.into(), |_| true, tracing)
}

/// What happens in `history` with those of its faults only whose position `happens` accepts.
#[must_use]
pub fn run_with(history: History, happens: impl Fn(usize) -> bool, tracing: bool) -> Report {
    let report = world(history, happens, tracing).run(Micros::MAX);
    match (history.plot, report.cuts) {
        (Some(Plot::Harmless), 1..) if report.failure.is_none() => {
            let failure = Some(format!("I4: {} power cuts, and every host stood well", report.cuts));
            Report { failure, ..report }
        }
        _ => report,
    }
}

/// What happens in `history`, told whole, with every engine read back from a snapshot of itself after each input.
#[must_use]
pub fn run_through_snapshots(history: impl Into<History>) -> Report {
    let mut world = world(history.into(), |_| true, true);
    world.go_through_snapshots();
    world.run(Micros::MAX)
}

fn world(history: History, happens: impl Fn(usize) -> bool, tracing: bool) -> World {
    let mut rng = Rng::new(history.seed);
    let setup = loop {
        let setup = Setup::draw(&mut rng);
        if history.plot.is_none_or(|plot| plot.suits(&setup)) {
            break setup;
        }
    };
    let (boots, timeline) = timeline::draw(&mut rng, &setup, history.plot);
    let faults = timeline.into_iter().enumerate();
    // The end of all faults is none.
    let kept = faults.filter(|(at, (_, fault))| happens(*at) || matches!(fault, Fault::Heal { .. }));
    let timeline = kept.map(|(_, fault)| fault).collect();
    let mut world = World::new(setup, &boots, timeline, rng, tracing);
    if history.plot == Some(Plot::Harmless) {
        world.expect_unbroken_quorum();
    }
    world.expects_no_common_cause = history.plot == Some(Plot::Ailing);
    world
}
