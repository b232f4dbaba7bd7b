//! The simulation as tests: a bounded number of seeds, and how fast recovery is.

use palisade_tests::sim::{self, measure};

/// A share of the seeds for each test, so that they run side by side.
const SHARE: u64 = 250;

fn seeds(share: u64) {
    let failed: Vec<String> = (share * SHARE..(share + 1) * SHARE)
        .filter_map(|seed| Some(format!("seed {seed}: {}", sim::run(seed, false).failure?)))
        .collect();
    assert!(failed.is_empty(), "run `sim --seed N --trace` for:\n{}", failed.join("\n"));
}

macro_rules! shares {
    ($($name:ident $share:literal)*) => {
        $(
            /// I0, P, I1, I2, I3, I4, SAFE-1, SAFE-2, SAFE-3, SAFE-8, SAFE-9 over a share of the seeds.
            #[test]
            fn $name() {
                seeds($share);
            }
        )*
    };
}

shares! {
    seeds_0 0
    seeds_1 1
    seeds_2 2
    seeds_3 3
    seeds_4 4
    seeds_5 5
    seeds_6 6
    seeds_7 7
}

/// SAFE-8, I4: restarts, leaves and short freezes of agents and witness cost nobody his power.
#[test]
fn nobody_is_fenced_who_stands_well() {
    let failed: Vec<String> = (0..100)
        .filter_map(|seed| {
            Some(format!(
                "harmless seed {seed}: {}",
                sim::run(sim::History { seed, plot: Some(sim::Plot::Harmless) }, false).failure?
            ))
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_seed_is_one_history() {
    let (one, other) = (sim::run(42, true), sim::run(42, true));
    assert!(one.trace.len() > 10);
    assert_eq!(one.trace, other.trace);
}

/// A snapshot is the whole engine: one that is read back goes on exactly as the one it was taken of.
#[test]
fn a_snapshot_goes_on_as_the_engine_it_was_taken_of() {
    for seed in 0..20 {
        let (plain, through) = (sim::run(seed, true), sim::run_through_snapshots(seed));
        assert_eq!(plain.trace, through.trace, "seed {seed}");
    }
}

/// The budgets of DESIGN.md, in virtual time; the benchmark measures them in real time.
#[test]
fn recovery_is_within_its_budget() {
    for (subject, budget) in measure::SUBJECTS.into_iter().zip([1500, 1800, 500, 700]) {
        let took = (0..40).map(|seed| measure::recovery(subject, seed).map_err(|report| report.failure));
        let took: Vec<u64> = took.collect::<Result<_, _>>().expect("a recovery");
        let [median, ..] = measure::percentiles(took).expect("some");
        assert!(median / 1000 <= budget, "{}: {} ms", subject.name, median / 1000);
    }
}
