//! `sim --seed N [--trace]`, `sim --seeds A..B`, `sim --recovery`: histories of whole clusters in virtual time.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use palisade_tests::sim::{self, measure};

/// Histories per thread between two looks at the counter.
const THREADS: usize = 2;
/// The most failing seeds that are printed with their trace.
const MAX_TOLD: usize = 5;
/// The most lines of a trace that a failing seed prints unasked.
const TRACE_TAIL: usize = 60;

/// Runs simulated clusters against the invariants of the protocol. A failing seed prints itself and the end of its trace.
#[derive(Parser)]
struct Arguments {
    /// One seed.
    #[arg(long, conflicts_with_all = ["seeds", "recovery"])]
    seed: Option<u64>,
    /// A range of seeds, `A..B`, B excluded.
    #[arg(long, value_parser = range, conflicts_with = "recovery")]
    seeds: Option<(u64, u64)>,
    /// With `--seed`: print everything that happened.
    #[arg(long)]
    trace: bool,
    /// Print how long recovery takes, over so many seeds for each kind of cluster.
    #[arg(long)]
    recovery: Option<u64>,
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let parts = text.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    parts.filter(|(a, b)| a < b).ok_or_else(|| format!("`{text}` is not a range such as 0..20000"))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let well = match (arguments.seed, arguments.seeds, arguments.recovery) {
        (Some(seed), _, _) => one(seed, arguments.trace),
        (None, _, Some(count)) => recovery(count),
        (None, Some((from, to)), None) => many(from, to),
        (None, None, None) => many(0, 1000),
    };
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(seed: u64, whole: bool) -> bool {
    let report = sim::run(seed, true);
    let skip = if whole { 0 } else { report.trace.len().saturating_sub(TRACE_TAIL) };
    if whole || report.failure.is_some() {
        report.trace.iter().skip(skip).for_each(|line| println!("{line}"));
    }
    match &report.failure {
        Some(failure) => println!("seed {seed} FAILED: {failure}"),
        None => println!("seed {seed}: no failure in {} events", report.events),
    }
    report.failure.is_none()
}

fn many(from: u64, to: u64) -> bool {
    let began = Instant::now();
    let next = AtomicU64::new(from);
    let total = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| work(&next, to))).collect();
        let mut total = Tally::default();
        for worker in workers {
            match worker.join() {
                Ok(tally) => total.add(tally),
                Err(_) => total.failed.push(u64::MAX),
            }
        }
        total
    });
    let mut failed = total.failed;
    failed.sort_unstable();
    let took = began.elapsed();
    println!(
        "{} histories, {} events, {} power cuts, {} without a failure, {:.1} s",
        to - from,
        total.events,
        total.cuts,
        (to - from) - failed.len() as u64,
        took.as_secs_f64()
    );
    for seed in failed.iter().take(MAX_TOLD).filter(|seed| **seed != u64::MAX) {
        one(*seed, false);
    }
    if !failed.is_empty() {
        println!("failing seeds: {failed:?}");
    }
    failed.is_empty()
}

#[derive(Default)]
struct Tally {
    events: u64,
    cuts: u64,
    failed: Vec<u64>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.events += other.events;
        self.cuts += other.cuts;
        self.failed.extend(other.failed);
    }
}

fn work(next: &AtomicU64, to: u64) -> Tally {
    let mut tally = Tally::default();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= to {
            return tally;
        }
        let report = sim::run(seed, false);
        tally.events += report.events;
        tally.cuts += report.cuts;
        if report.failure.is_some() {
            tally.failed.push(seed);
        }
    }
}

fn recovery(count: u64) -> bool {
    let mut well = true;
    println!(
        "from the loss of a host to its workload running elsewhere, off read back (BMC 10 ms, start 20 ms), in ms of virtual time"
    );
    println!("{:<24}{:>8}{:>8}{:>8}{:>8}", "", "seeds", "p50", "p99", "max");
    for subject in measure::SUBJECTS {
        let mut took = Vec::new();
        for seed in 0..count {
            match measure::recovery(subject, seed) {
                Ok(micros) => took.push(micros),
                Err(report) => {
                    well = false;
                    println!(
                        "{} seed {seed}: {}",
                        subject.name,
                        report.failure.unwrap_or_else(|| "no recovery".to_owned())
                    );
                }
            }
        }
        let seeds = took.len();
        if let Some(figures) = measure::percentiles(took) {
            let [p50, p99, max] = figures.map(|micros| micros / 1000);
            println!("{:<24}{seeds:>8}{p50:>8}{p99:>8}{max:>8}", subject.name);
        }
    }
    well
}
