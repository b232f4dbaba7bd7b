//! The exploration as tests: every scene with few deviations, gone through to its end. The program `explore` goes further.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may panic")]

use palisade_tests::explore::{Bounds, Failure, run, scenes};

/// Every history of a scene with at most so many deviations keeps the invariants; there are at least so many states.
fn holds(name: &str, deviations: u8, least: u64) {
    let scenes = scenes();
    let scene = scenes.iter().find(|scene| scene.name == name).expect("a scene of this name");
    let outcome = run(scene, Bounds { deviations, states: 200_000, threads: 2 });
    if let Some(Failure { what, path }) = outcome.failure {
        let path: Vec<String> = path.iter().map(|(at, index)| format!("{at}:{index}")).collect();
        panic!("{what}; whole: explore {name} --path {}", path.join(","));
    }
    assert!(outcome.exhausted, "{name} was not gone through to its end");
    assert!(outcome.states >= least, "{name} has {} states only", outcome.states);
}

macro_rules! scenes {
    ($($test:ident $name:literal $deviations:literal $least:literal)*) => {
        $(
            /// I0, P, I1, I2, I3, I4, SAFE-2, SAFE-9 in every history of this scene within the bound.
            #[test]
            fn $test() {
                holds($name, $deviations, $least);
            }
        )*
    };
}

scenes! {
    two_and_witness "two-and-witness" 2 60_000
    two_deep "two-deep" 2 13_000
    three "three" 1 700
    three_deep "three-deep" 2 25_000
    three_and_witness "three-and-witness" 2 19_000
    growth_three "growth-three" 1 7_000
    growth_deep "growth-deep" 1 3_000
    cold_two_witness "cold-two-witness" 1 3_000
    cold_three "cold-three" 1 7_000
    old_lineage "old-lineage" 1 3_000
    old_lock "old-lock" 1 3_000
    leaving "leaving" 1 11_000
    old_ask "old-ask" 1 6_000
    harmless_two "harmless-two" 2 5_000
    harmless_three "harmless-three" 2 10_000
}

/// Nothing but the adversary's choice decides: the number of states is the same however the work is shared out.
#[test]
fn one_thread_finds_what_two_find() {
    let scenes = scenes();
    let scene = scenes.iter().find(|scene| scene.name == "three").expect("a scene of this name");
    let states = |threads| run(scene, Bounds { deviations: 1, states: 200_000, threads }).states;
    assert_eq!(states(1), states(2));
}
