//! Many seeds at once, on every core.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{History, Plot, run};

/// How often a long sweep says how far it is.
const TELL_EVERY: u64 = 50_000;

/// What many histories came to.
#[derive(Debug, Default)]
pub struct Tally {
    /// Things that happened in all of them.
    pub events: u64,
    /// Power cuts in all of them.
    pub cuts: u64,
    /// The seeds that failed, and how.
    pub failed: BTreeMap<u64, String>,
}

/// Runs every seed of the range, in this plot or in its own; a failure is said on `told` when it is found.
///
/// # Panics
/// If a history panics.
pub fn sweep(seeds: Range<u64>, plot: Option<Plot>, told: &mut (impl Write + Send)) -> Tally {
    let next = AtomicU64::new(seeds.start);
    let told = std::sync::Mutex::new(told);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..threads).map(|_| scope.spawn(|| work(&next, seeds.end, plot, &told))).collect();
        let tallies = workers.into_iter().map(|worker| worker.join().expect("no history panics"));
        tallies.fold(Tally::default(), |mut all, one| {
            all.events += one.events;
            all.cuts += one.cuts;
            all.failed.extend(one.failed);
            all
        })
    })
}

fn work(
    next: &AtomicU64,
    end: u64,
    plot: Option<Plot>,
    told: &std::sync::Mutex<&mut (impl Write + Send)>,
) -> Tally {
    let mut tally = Tally::default();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return tally;
        }
        let report = run(History { seed, plot }, false);
        tally.events += report.events;
        tally.cuts += report.cuts;
        let mut words = String::new();
        if let Some(failure) = report.failure {
            words = format!("failing seed {seed}: {failure}\n");
            tally.failed.insert(seed, failure);
        }
        if seed > 0 && seed.is_multiple_of(TELL_EVERY) {
            words.push_str(&format!("seed {seed}\n"));
        }
        if !words.is_empty()
            && let Ok(mut told) = told.lock()
        {
            // Nobody listening is no reason to stop.
            let _ = told.write_all(words.as_bytes());
        }
    }
}
