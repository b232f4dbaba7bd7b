//! What a person looks at rather than passes or fails: the demonstration, the benchmarks, the quiet run.

pub mod bench;
pub mod demo;
pub mod quiet;
pub mod scsi;

use std::time::Duration;

use crate::lab::hardware::Hardware;
use crate::lab::trouble::Result;
use crate::lab::{Lab, clock_ms};
use crate::scenario::check::{self, Mark};
use crate::scenario::step::Condition;

/// A cluster of hosts that were switched on together is ready sooner, also on a busy machine.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Far beyond every budget: what takes longer has failed.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);

/// A lab whose hosts are all quorate, with every fence path proven and `db` running on the first host.
///
/// # Errors
/// It did not come that far in time; the error carries the journals.
pub fn ready(hardware: &Hardware) -> Result<Lab> {
    let lab = Lab::build(hardware)?;
    let mark = Mark::default();
    let hosts = hardware.hosts.clone();
    let first = hosts.first().cloned().into_iter().collect();
    for wanted in
        [Condition::Quorate(hosts.clone()), Condition::Armed(hosts), Condition::RunsOn("db".into(), first)]
    {
        wait(&lab, &mark, READY_LIMIT, &wanted)?;
    }
    Ok(lab)
}

/// Waits for a condition; a failure carries the journals.
///
/// # Errors
/// It did not become so in time.
pub fn wait(lab: &Lab, mark: &Mark, limit: Duration, wanted: &Condition) -> Result<()> {
    let what = format!("{wanted:?}");
    lab.wait_until(limit, &what, |lab| check::check(lab, mark, wanted))
        .map_err(|trouble| crate::lab::trouble::Trouble::new(format!("{trouble}\n{}", lab.dump())))
}

/// One silent death, measured.
#[derive(Clone, Debug)]
pub struct Death {
    /// When the wires were cut, [`clock_ms`].
    pub killed_ms: u64,
    /// When the workload's first line on a survivor was written.
    pub running_ms: u64,
    /// That survivor.
    pub survivor: String,
}

impl Death {
    /// From the death to the workload's first line elsewhere.
    #[must_use]
    pub fn total_ms(&self) -> u64 {
        self.running_ms.saturating_sub(self.killed_ms)
    }
}

/// Kills the host that runs `db` and waits until a survivor runs it, off having been read.
///
/// # Errors
/// Nobody runs it in time, or somebody does without a proof.
pub fn kill_and_wait(lab: &Lab, victim: &str) -> Result<Death> {
    let mark = Mark::now(lab)?;
    let killed_ms = clock_ms();
    lab.machine(victim)?.die_silently()?;
    let survivors: Vec<String> = lab.hardware.hosts.iter().filter(|host| *host != victim).cloned().collect();
    wait(lab, &mark, RECOVERY_LIMIT, &Condition::RunsOn("db".into(), survivors))?;
    check::check(lab, &mark, &Condition::Fenced(victim.into()))?;
    check::invariants(lab)?;
    let first = lab.runs("db").into_iter().find(|run| run.first_ms >= killed_ms && run.host != victim);
    let run = crate::lab::trouble::Context::during(first, "the survivor's first line")?;
    Ok(Death { killed_ms, running_ms: run.first_ms, survivor: run.host })
}
