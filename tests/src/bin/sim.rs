//! `sim --seed N [--trace] [--only 1,5]`, `sim --seeds A..B`, `sim --recovery N`: histories of whole clusters in virtual time.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use palisade_tests::sim::{self, History, Plot, Report, measure, shrink::shrink, sweep::sweep};

/// The most failing seeds that are shrunk and printed with their trace.
const MAX_TOLD: usize = 5;
/// The most lines of a trace that a failing seed prints unasked.
const TRACE_TAIL: usize = 60;

/// Runs simulated clusters against the invariants of the protocol. A failing seed prints itself, the fewest of its faults that
/// still fail, and the end of that history.
#[derive(Parser)]
struct Arguments {
    /// One seed.
    #[arg(long, conflicts_with_all = ["seeds", "recovery"])]
    seed: Option<u64>,
    /// A range of seeds, `A..B`, B excluded.
    #[arg(long, value_parser = range, conflicts_with = "recovery")]
    seeds: Option<(u64, u64)>,
    /// With `--seed`: print everything that happened.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// With `--seed`: these of its faults only, by position, as a shrunk failure names them.
    #[arg(long, requires = "seed", value_delimiter = ',')]
    only: Option<Vec<usize>>,
    /// This plot instead of the seed's own.
    #[arg(long, value_parser = plot, conflicts_with = "recovery")]
    plot: Option<Plot>,
    /// Print how long recovery takes, over so many seeds for each kind of cluster.
    #[arg(long)]
    recovery: Option<u64>,
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let parts = text.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    parts.filter(|(a, b)| a < b).ok_or_else(|| format!("`{text}` is not a range such as 0..20000"))
}

fn plot(name: &str) -> Result<Plot, String> {
    let found = Plot::NAMES.iter().find(|(known, _)| *known == name).map(|(_, plot)| *plot);
    found.ok_or_else(|| {
        let names: Vec<&str> = Plot::NAMES.iter().map(|(name, _)| *name).collect();
        format!("there is none called `{name}`; all are: {}", names.join(", "))
    })
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let plot = arguments.plot;
    let well = match (arguments.seed, arguments.seeds, arguments.recovery) {
        (Some(seed), _, _) => one(History { seed, plot }, arguments.only, arguments.trace),
        (None, _, Some(count)) => recovery(count),
        (None, Some((from, to)), None) => many(from, to, plot),
        (None, None, None) => many(0, 1000, plot),
    };
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(history: History, only: Option<Vec<usize>>, whole: bool) -> bool {
    let report = match &only {
        Some(only) => sim::run_with(history, |at| only.contains(&at), true),
        None => sim::run(history, true),
    };
    let seed = history.seed;
    if whole {
        report.trace.iter().for_each(|line| println!("{line}"));
    }
    match &report.failure {
        Some(failure) => {
            println!("seed {seed} FAILED: {failure}");
            if !whole {
                tell_shrunk(history);
            }
        }
        None => println!("seed {seed}: no failure in {} events", report.events),
    }
    report.failure.is_none()
}

fn many(from: u64, to: u64, plot: Option<Plot>) -> bool {
    let began = Instant::now();
    let mut told = std::io::stderr();
    let tally = sweep(from..to, plot, &mut told);
    println!(
        "{} histories, {} events, {} power cuts, {} without a failure, {:.1} s",
        to - from,
        tally.events,
        tally.cuts,
        (to - from) - tally.failed.len() as u64,
        began.elapsed().as_secs_f64()
    );
    tally.failed.keys().take(MAX_TOLD).for_each(|seed| tell_shrunk(History { seed: *seed, plot }));
    tally.failed.iter().for_each(|(seed, failure)| println!("failing seed {seed}: {failure}"));
    tally.failed.is_empty()
}

fn tell_shrunk(history: History) {
    let seed = history.seed;
    let Some((kept, report)) = shrink(history) else { return };
    let Report { trace, failure, .. } = report;
    println!("seed {seed}, shrunk to {} faults: {}", kept.len(), failure.unwrap_or_default());
    trace.iter().skip(trace.len().saturating_sub(TRACE_TAIL)).for_each(|line| println!("  {line}"));
    let plot = history.plot.map_or_else(String::new, |plot| format!(" --plot {}", plot.name()));
    println!("whole: sim --seed {seed}{plot} --only {} --trace", list(&kept));
}

fn list(kept: &BTreeSet<usize>) -> String {
    kept.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
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
