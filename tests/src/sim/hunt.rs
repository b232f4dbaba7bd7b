//! Looking for the first history that sees a broken rule.

use palisade_proto::mutant::Mutant;

use super::shrink::kind;
use super::{Report, run, run_harmless};

/// How far to look for one broken rule.
#[derive(Clone, Copy, Debug)]
pub struct Hunt {
    /// Which rule.
    pub mutant: Mutant,
    /// The number of seeds within which it must be seen.
    pub within: u64,
}

/// Where a broken rule was seen.
#[derive(Clone, Debug)]
pub struct Found {
    /// Which invariant failed.
    pub invariant: String,
    /// In which kind of history.
    pub history: &'static str,
    /// Of which seed.
    pub seed: u64,
}

/// Every rule that can be broken, with its number of seeds.
#[must_use]
pub fn hunts() -> Vec<Hunt> {
    Mutant::ALL.iter().map(|mutant| Hunt { mutant: *mutant, within: within(*mutant) }).collect()
}

/// The first seed, on every core, whose history fails. Histories with faults come first, then those in which nothing may cost
/// anybody his power.
#[must_use]
pub fn hunt(hunt: &Hunt, times: u64) -> Option<Found> {
    let within = hunt.within.saturating_mul(times);
    let faulty = || first("seed", within, |seed| run(seed, false));
    let harmless = || first("harmless seed", within.min(HARMLESS), |seed| run_harmless(seed, false));
    if is_seen_by_the_harmless(hunt.mutant) { harmless().or_else(faulty) } else { faulty().or_else(harmless) }
}

/// Harmless histories are long and say little new after so many.
const HARMLESS: u64 = 300;

fn first(history: &'static str, within: u64, one: impl Fn(u64) -> Report + Sync) -> Option<Found> {
    use std::sync::atomic::{AtomicU64, Ordering};
    let (next, best) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let found = std::sync::Mutex::new(None::<Found>);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= within || seed > best.load(Ordering::Relaxed) {
                        return;
                    }
                    // A broken rule may also end in an assertion.
                    let report = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| one(seed)));
                    let invariant = match report {
                        Ok(report) => kind(&report),
                        Err(_) => Some("panic".to_owned()),
                    };
                    if let Some(invariant) = invariant
                        && best.fetch_min(seed, Ordering::Relaxed) > seed
                        && let Ok(mut found) = found.lock()
                        && found.as_ref().is_none_or(|found| found.seed > seed)
                    {
                        *found = Some(Found { invariant, history, seed });
                    }
                }
            });
        }
    });
    found.into_inner().ok().flatten()
}

/// Rules whose loss costs a host its power that stood well.
fn is_seen_by_the_harmless(mutant: Mutant) -> bool {
    matches!(
        mutant,
        Mutant::HoldIgnored
            | Mutant::HoldEndsWhenHeard
            | Mutant::NewcomersUnheard
            | Mutant::SpeaksAtOnce
            | Mutant::SilentCountAsVoters
    )
}

/// Within how many seeds each is seen: about twice as many as it took when this was written.
fn within(_mutant: Mutant) -> u64 {
    3000
}
