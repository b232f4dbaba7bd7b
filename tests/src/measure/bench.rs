//! The benchmark: silent death to running workload, medians, against the budgets of DESIGN.md.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{kill_and_wait, ready};
use crate::lab::hardware::Hardware;
use crate::lab::trouble::{Context, Result};
use crate::lab::wait;
use crate::scenario::budget::{self, AGENT_CPU_PERCENT};

/// One row: how many hosts, with the witness or not, which profile, and the budget for the median.
struct Row {
    hosts: usize,
    witness: bool,
    profile: &'static str,
    budget_ms: u64,
}

/// Long enough for many rounds of every timer.
const QUIET: Duration = Duration::from_secs(60);
/// Not a part of any heartbeat interval.
const PHASE: Duration = Duration::from_millis(37);

const ROWS: [Row; 4] = [
    Row { hosts: 3, witness: false, profile: "default", budget_ms: 1500 },
    Row { hosts: 2, witness: true, profile: "default", budget_ms: 1800 },
    Row { hosts: 3, witness: false, profile: "fast", budget_ms: 500 },
    Row { hosts: 2, witness: true, profile: "fast", budget_ms: 700 },
];

/// Measures `deaths` of each row, then the BMC orders; prints a table and says whether every median is within its budget.
///
/// # Errors
/// A cluster did not come up or did not recover.
pub fn run(deaths: usize) -> Result<bool> {
    let mut within = true;
    println!("silent death -> workload running on a survivor, off read back; {deaths} deaths each, ms");
    println!("{:<28} {:>8} {:>8} {:>8} {:>8}", "", "median", "best", "worst", "budget");
    for row in ROWS {
        let mut totals = Vec::new();
        for death in 0..deaths {
            let lab = ready(&Hardware::plain(row.hosts, row.witness, row.profile))?;
            // Each death meets the heartbeats in another phase.
            wait::pause(PHASE * u32::try_from(death).unwrap_or(0));
            totals.push(kill_and_wait(&lab, "a")?.total_ms());
        }
        totals.sort_unstable();
        let median = median(&totals).unwrap_or(0);
        within &= median <= row.budget_ms;
        let hosts =
            format!("{} hosts{}, {}", row.hosts, if row.witness { " + witness" } else { "" }, row.profile);
        let (best, worst) = (totals.first().copied().unwrap_or(0), totals.last().copied().unwrap_or(0));
        println!("{hosts:<28} {median:>8} {best:>8} {worst:>8} {:>8}", row.budget_ms);
    }
    Ok(within)
}

/// Measures what each agent of eight takes of a core and holds the median against the budget; the machine should be idle.
///
/// # Errors
/// The cluster did not come up.
pub fn eight() -> Result<bool> {
    let lab = ready(&Hardware::plain(8, true, "default"))?;
    println!("\neight hosts and the witness, left alone for {} s", QUIET.as_secs());
    println!("{:<12} {:>12} {:>10}", "", "resident KiB", "% of core");
    let mut shares = Vec::new();
    for usage in budget::measure(&lab, QUIET)? {
        println!("{:<12} {:>12} {:>10.2}", usage.name, usage.rss_kib, usage.cpu_percent);
        shares.extend(usage.turns.map(|_| usage.cpu_percent));
    }
    shares.sort_by(f64::total_cmp);
    let median = median(&shares).unwrap_or(f64::INFINITY);
    println!("median of the agents: {median:.2} % of a core, at most {AGENT_CPU_PERCENT}");
    Ok(median <= AGENT_CPU_PERCENT)
}

/// Runs the comparison of BMC orders (ours, ipmitool, fence_ipmilan on the same BMCs); it prints its own table.
///
/// # Errors
/// cargo cannot be run.
pub fn devices() -> Result<bool> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let setup = Command::new("sh").args(["tests/setup.sh", "all"]).current_dir(&top).status();
    if !setup.during("tests/setup.sh")?.success() {
        return Ok(false);
    }
    let mut all_well = true;
    for example in ["ipmi_bench", "redfish_bench", "enforce_bench", "network_bench"] {
        let mut compare = Command::new("cargo");
        compare.current_dir(&top).args([
            "run",
            "--quiet",
            "--release",
            "-p",
            "palisade-devices",
            "--example",
            example,
        ]);
        all_well &= compare.status().during("cargo")?.success();
    }
    Ok(all_well)
}

/// The middle of sorted values; of two middle ones the later, so that a budget is never met by rounding.
fn median<T: Copy>(sorted: &[T]) -> Option<T> {
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_later_of_two_middle_values_is_the_median() {
        assert_eq!(median(&[1, 2, 3, 4]), Some(3));
        assert_eq!(median(&[1, 2, 3]), Some(2));
    }
}
