//! Fewer faults with the same failure: what a person reads first.

use std::collections::BTreeSet;

use super::{History, Report, run_with};

/// The most histories that a shrinking may run.
const MAX_TRIES: usize = 2000;

/// The smallest set of a failing history's faults that was found to fail in the same way, by their positions, and its history.
/// `None`: it does not fail.
#[must_use]
pub fn shrink(history: History) -> Option<(BTreeSet<usize>, Report)> {
    let whole = run_with(history, |_| true, false);
    let kind = kind(&whole)?;
    let mut kept: BTreeSet<usize> = (0..whole.faults).collect();
    let mut tries = 0;
    let mut share = kept.len().div_ceil(2).max(1);
    // Leaves out ever smaller runs of faults, until no single one can be spared.
    loop {
        let mut spared = false;
        let order: Vec<usize> = kept.iter().copied().collect();
        for run in order.chunks(share) {
            let fewer: BTreeSet<usize> = kept.iter().copied().filter(|at| !run.contains(at)).collect();
            tries += 1;
            if fails_so(history, &fewer, &kind) {
                (kept, spared) = (fewer, true);
            }
        }
        if tries > MAX_TRIES || (share == 1 && !spared) {
            break;
        }
        share = if spared { share.min(kept.len().max(1)) } else { share.div_ceil(2) };
    }
    let report = run_with(history, |at| kept.contains(&at), true);
    Some((kept, report))
}

fn fails_so(history: History, kept: &BTreeSet<usize>, kind: &str) -> bool {
    self::kind(&run_with(history, |at| kept.contains(&at), false)).as_deref() == Some(kind)
}

/// Which invariant failed: `I2`, `SAFE-8`.
#[must_use]
pub fn kind(report: &Report) -> Option<String> {
    let failure = report.failure.as_ref()?;
    Some(failure.split(':').next().unwrap_or_default().to_owned())
}
