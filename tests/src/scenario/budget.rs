//! The budgets of DESIGN.md that a lab can measure: memory and processor time of agents and witness, from /proc.

use std::fs;
use std::time::Duration;

use crate::lab::trouble::{Context, Result, Trouble};
use crate::lab::{Lab, wait};

/// Resident memory of one agent, in KiB.
const AGENT_RSS_KIB: u64 = 15 * 1024;
/// Processor time of one agent, in percent of one core.
const AGENT_CPU_PERCENT: f64 = 1.0;
/// Resident memory of the witness, in KiB.
const WITNESS_RSS_KIB: u64 = 3 * 1024;
/// Clock ticks per second in /proc/PID/stat (`getconf CLK_TCK`; 100 on every Linux that we run on).
const TICKS_PER_S: f64 = 100.0;

/// What one process used.
#[derive(Clone, Debug)]
pub struct Usage {
    /// `agent a`, `witness`.
    pub name: String,
    /// Resident memory at the end, in KiB.
    pub rss_kib: u64,
    /// Processor time, in percent of one core.
    pub cpu_percent: f64,
}

/// Measures all agents and the witness for `time`.
///
/// # Errors
/// One of them is not there, or was replaced meanwhile.
pub fn measure(lab: &Lab, time: Duration) -> Result<Vec<Usage>> {
    let mut processes = Vec::new();
    for (host, machine) in &lab.machines {
        let pid = machine.agent_pid().during(format!("agent of {host}"))?;
        processes.push((format!("agent {host}"), pid, ticks(pid)?));
    }
    if let Some(witness) = &lab.witness {
        let pid = i32::try_from(witness.pid().during("witness")?).during("witness")?;
        processes.push(("witness".into(), pid, ticks(pid)?));
    }
    wait::pause(time);
    let usage = |(name, pid, before): (String, i32, u64)| {
        #[expect(clippy::cast_precision_loss, reason = "ticks of one minute")]
        let used_s = (ticks(pid)?.saturating_sub(before)) as f64 / TICKS_PER_S;
        Ok(Usage { name, rss_kib: rss_kib(pid)?, cpu_percent: 100.0 * used_s / time.as_secs_f64() })
    };
    processes.into_iter().map(usage).collect()
}

/// Measures and holds against the budgets; prints every figure.
///
/// # Errors
/// A budget is broken; the error names all that are.
pub fn hold(lab: &Lab, time: Duration) -> Result<()> {
    let mut broken = Vec::new();
    for usage in measure(lab, time)? {
        println!(
            "         {}: {} KiB resident, {:.2} % of a core",
            usage.name, usage.rss_kib, usage.cpu_percent
        );
        let agent = usage.name != "witness";
        let (rss_kib, cpu_percent) =
            if agent { (AGENT_RSS_KIB, AGENT_CPU_PERCENT) } else { (WITNESS_RSS_KIB, f64::INFINITY) };
        if usage.rss_kib > rss_kib {
            broken.push(format!("{}: {} KiB resident, at most {rss_kib}", usage.name, usage.rss_kib));
        }
        if usage.cpu_percent > cpu_percent {
            broken
                .push(format!("{}: {:.2} % of a core, at most {cpu_percent}", usage.name, usage.cpu_percent));
        }
    }
    if broken.is_empty() { Ok(()) } else { Err(Trouble::new(broken.join("; "))) }
}

/// User and system time so far, in clock ticks (proc(5): fields 14 and 15 of stat).
fn ticks(pid: i32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).during(format!("process {pid}"))?;
    let (_, after_name) = stat.rsplit_once(") ").during("/proc/PID/stat")?;
    let mut fields = after_name.split(' ').skip(11).map_while(|field| field.parse::<u64>().ok());
    Ok(fields.next().unwrap_or(0) + fields.next().unwrap_or(0))
}

fn rss_kib(pid: i32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).during(format!("process {pid}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).during("VmRSS")?;
    line.trim().trim_end_matches(" kB").parse().during("VmRSS")
}
