//! Looking for the first history that sees a broken rule.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use palisade_proto::mutant::Mutant;

use super::shrink::kind;
use super::{History, Plot, run};

/// How far to look for one broken rule.
#[derive(Clone, Copy, Debug)]
pub struct Hunt {
    /// Which rule.
    pub mutant: Mutant,
    /// In which histories; `None`: in those that the seeds draw.
    pub plot: Option<Plot>,
    /// The number of seeds within which it must be seen.
    pub within: u64,
}

/// Where a broken rule was seen.
#[derive(Clone, Debug)]
pub struct Found {
    /// Which invariant failed.
    pub invariant: String,
    /// In which seed.
    pub seed: u64,
}

/// The seeds within which a rule is seen unless a number of its own is stated.
const WITHIN: u64 = 300;

/// Every rule that can be broken, where its loss is seen soonest, and within how many seeds: at least twice as many as it took
/// when this was written.
#[must_use]
pub fn hunts() -> Vec<Hunt> {
    let hunt = |mutant: &Mutant| {
        let (plot, within) = place(*mutant);
        Hunt { mutant: *mutant, plot, within }
    };
    Mutant::ALL.iter().map(hunt).collect()
}

fn place(mutant: Mutant) -> (Option<Plot>, u64) {
    use Mutant as M;
    let (plot, within) = match mutant {
        M::DeadBootsSpeak => (Plot::OldWords, WITHIN),
        M::WitnessTakesOldAsks => (Plot::Halves, WITHIN),
        M::WatchdogBoundOnce | M::WatchdogFedUnasked => (Plot::WatchdogAlone, WITHIN),
        M::WatchdogGapForgotten => (Plot::Seesaw, WITHIN),
        M::WatchdogNeverArmed => (Plot::LateJoin, WITHIN),
        M::ColdStartUnconfirmed
        | M::LockedJoinsAnyone
        | M::LockReleasedOnSilence
        | M::LockReleasedOnOldPacket
        | M::LockNeverReleased
        | M::OldLeftCounts
        | M::OldReadingCounts
        | M::ColdOffUnasked
        | M::ConsentWhileAlive => (Plot::ColdChaos, 3000),
        M::HoldIgnored
        | M::HoldEndsWhenHeard
        | M::NewcomersUnheard
        | M::SpeaksAtOnce
        | M::SilentCountAsVoters => (Plot::Harmless, WITHIN),
        _ => return (None, 3000),
    };
    (Some(plot), within)
}

/// The first seed, on every core, whose history fails.
#[must_use]
pub fn hunt(hunt: &Hunt, times: u64) -> Option<Found> {
    let within = hunt.within.saturating_mul(times);
    let (next, best) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let found = Mutex::new(None::<Found>);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= within || seed > best.load(Ordering::Relaxed) {
                return;
            }
            let history = History { seed, plot: hunt.plot };
            // A broken rule may also end in an assertion.
            let report = std::panic::catch_unwind(|| run(history, false));
            let invariant = match report {
                Ok(report) => kind(&report),
                Err(_) => Some("panic".to_owned()),
            };
            if let Some(invariant) = invariant
                && best.fetch_min(seed, Ordering::Relaxed) > seed
                && let Ok(mut found) = found.lock()
                && found.as_ref().is_none_or(|found| found.seed > seed)
            {
                *found = Some(Found { invariant, seed });
            }
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    found.into_inner().ok().flatten()
}
