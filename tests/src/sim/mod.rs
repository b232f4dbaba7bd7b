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
mod clock;
mod event;
mod faults;
mod hosts;
pub mod hunt;
mod lemmas;
mod machine;
pub mod measure;
mod rng;
mod setup;
pub mod shrink;
pub mod sweep;
mod timeline;
mod truth;
mod world;

pub use clock::{Clock, Micros, ms};
pub use faults::{BmcMode, Fault, Timeline, Weather};
pub use rng::Rng;
pub use setup::{NAMES, Setup};
pub use world::{Report, World};

/// The history of one seed.
#[must_use]
pub fn run(seed: u64, tracing: bool) -> Report {
    run_with(seed, |_| true, tracing)
}

/// The history of one seed with those of its faults only whose position `happens` accepts.
#[must_use]
pub fn run_with(seed: u64, happens: impl Fn(usize) -> bool, tracing: bool) -> Report {
    let mut rng = Rng::new(seed);
    let setup = Setup::draw(&mut rng);
    let (boots, timeline) = timeline::draw(&mut rng, &setup);
    let faults = timeline.into_iter().enumerate();
    // The end of all faults is none.
    let kept = faults.filter(|(at, (_, fault))| happens(*at) || matches!(fault, Fault::Heal { .. }));
    let timeline = kept.map(|(_, fault)| fault).collect();
    World::new(setup, &boots, timeline, rng, tracing).run(Micros::MAX)
}

/// The history of one seed, told whole, with every engine read back from a snapshot of itself after each input.
#[must_use]
pub fn run_through_snapshots(seed: u64) -> Report {
    let mut rng = Rng::new(seed);
    let setup = Setup::draw(&mut rng);
    let (boots, timeline) = timeline::draw(&mut rng, &setup);
    let mut world = World::new(setup, &boots, timeline, rng, true);
    world.go_through_snapshots();
    world.run(Micros::MAX)
}

/// A history of one seed in which nothing happens that could cost a host its power; any cut is a failure.
#[must_use]
pub fn run_harmless(seed: u64, tracing: bool) -> Report {
    let mut rng = Rng::new(seed);
    let setup = Setup::draw(&mut rng);
    let (boots, timeline) = timeline::harmless(&mut rng, &setup);
    let mut report = World::new(setup, &boots, timeline, rng, tracing).run(Micros::MAX);
    if report.failure.is_none() && report.cuts > 0 {
        report.failure = Some(format!("I4: {} power cuts, and every host stood well", report.cuts));
    }
    report
}
