//! The budgets of DESIGN.md that a lab can measure: memory and processor time of agents and witness, from /proc.
//!
//! A scenario holds what no machine changes: memory, and how often the run loop turns. Processor time depends on the machine
//! and on who else runs there, so it is measured by the benchmark alone ([`crate::measure::bench`]).

use std::fs;
use std::time::Duration;

use crate::lab::trouble::{Context, Result, Trouble};
use crate::lab::{Lab, api, wait};

/// Resident memory of one agent, in KiB.
const AGENT_RSS_KIB: u64 = 15 * 1024;
/// Processor time of one agent, in percent of one core.
pub const AGENT_CPU_PERCENT: f64 = 1.0;
/// Turns of an agent's run loop a second and host: each peer's five heartbeats, and as many for timers and answers that fall
/// between them.
const AGENT_TURNS: f64 = 10.0;
/// Resident memory of the witness, in KiB.
const WITNESS_RSS_KIB: u64 = 3 * 1024;
/// The metric that counts the turns of the run loop.
const TURNS: &str = "palisade_loop_turns_total";
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
    /// Turns of an agent's run loop a second.
    pub turns: Option<f64>,
}

struct Begun {
    name: String,
    host: Option<String>,
    pid: i32,
    ticks: u64,
    turns: u64,
}

/// Measures all agents and the witness for `time`.
///
/// # Errors
/// One of them is not there, or was replaced meanwhile.
pub fn measure(lab: &Lab, time: Duration) -> Result<Vec<Usage>> {
    let mut processes = Vec::new();
    for (host, machine) in &lab.machines {
        let pid = machine.agent_pid().during(format!("agent of {host}"))?;
        let (name, turns) = (format!("agent {host}"), api::metric(machine, TURNS)?);
        processes.push(Begun { name, host: Some(host.clone()), pid, ticks: ticks(pid)?, turns });
    }
    if let Some(witness) = &lab.witness {
        let pid = i32::try_from(witness.pid().during("witness")?).during("witness")?;
        processes.push(Begun { name: "witness".into(), host: None, pid, ticks: ticks(pid)?, turns: 0 });
    }
    wait::pause(time);
    #[expect(clippy::cast_precision_loss, reason = "what happens in a minute")]
    let per_second = |from: u64, to: u64| to.saturating_sub(from) as f64 / time.as_secs_f64();
    let usage = |Begun { name, host, pid, ticks: before, turns: begun }: Begun| {
        let turns = host.map(|host| api::metric(lab.machine(&host)?, TURNS)).transpose()?;
        let used_s = per_second(before, ticks(pid)?) / TICKS_PER_S;
        Ok(Usage {
            name,
            rss_kib: rss_kib(pid)?,
            cpu_percent: 100.0 * used_s,
            turns: turns.map(|turns| per_second(begun, turns)),
        })
    };
    processes.into_iter().map(usage).collect()
}

/// Measures and holds memory and turns against their bounds; prints every figure.
///
/// # Errors
/// A bound is broken; the error names all that are.
pub fn hold(lab: &Lab, time: Duration) -> Result<()> {
    let mut broken = Vec::new();
    #[expect(clippy::cast_precision_loss, reason = "a lab's few hosts")]
    let most_turns = AGENT_TURNS * lab.machines.len() as f64;
    for usage in measure(lab, time)? {
        let turns = usage.turns.map(|turns| format!(", {turns:.1} turns a second")).unwrap_or_default();
        println!(
            "         {}: {} KiB resident, {:.2} % of a core{turns}",
            usage.name, usage.rss_kib, usage.cpu_percent
        );
        let rss_kib = if usage.turns.is_some() { AGENT_RSS_KIB } else { WITNESS_RSS_KIB };
        if usage.rss_kib > rss_kib {
            broken.push(format!("{}: {} KiB resident, at most {rss_kib}", usage.name, usage.rss_kib));
        }
        if let Some(turns) = usage.turns.filter(|turns| *turns > most_turns) {
            broken.push(format!("{}: {turns:.1} turns a second, at most {most_turns}", usage.name));
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
