//! A workload that tells on itself: a process that appends a line to a file which all hosts share, every 20 ms.
//!
//! Two hosts that run it at the same time leave lines that overlap; that is how the lab knows that something ran twice.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::inside::SHARED;
use super::shell;
use super::trouble::{Context, Result, Trouble};
use super::wait;

/// Between two lines.
const LINE_EVERY: Duration = Duration::from_millis(20);
/// A process that was told to stop is gone sooner.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// What `status` exits with when the workload does not run (LSB).
const NOT_RUNNING: i32 = 3;

/// `lab workload NAME start|stop|status|run`: what the cluster file names as commands. Gives the exit code.
///
/// # Errors
/// The process cannot be started or ended.
pub fn main(name: &str, order: &str) -> Result<i32> {
    let pid_file = PathBuf::from(format!("/run/{name}.pid"));
    match order {
        "start" => {
            if running(&pid_file).is_some() {
                return Ok(0);
            }
            let lab = std::env::current_exe().during("the lab's own binary")?;
            let mut process = Command::new(lab);
            process.args(["workload", name, "run"]).process_group(0);
            process.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let process = process.spawn().during("starting the writer")?;
            shell::write(&pid_file, &process.id().to_string(), 0o644)?;
            Ok(0)
        }
        "stop" => {
            let Some(pid) = running(&pid_file) else { return Ok(0) };
            kill(pid, Signal::SIGTERM).during("stopping the writer")?;
            let gone = wait::until_quick(Instant::now() + STOP_LIMIT, || running(&pid_file).is_none());
            Ok(i32::from(!gone))
        }
        "status" => Ok(if running(&pid_file).is_some() { 0 } else { NOT_RUNNING }),
        "run" => write_lines(name),
        _ => Err(Trouble::new(format!("workload: {order}: start, stop, status or run"))),
    }
}

fn running(pid_file: &Path) -> Option<Pid> {
    let pid: i32 = fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // A zombie runs nothing; its state stands after the name in brackets.
    let state = status.rsplit(") ").next()?.chars().next()?;
    (state != 'Z').then(|| Pid::from_raw(pid))
}

fn write_lines(name: &str) -> Result<i32> {
    let path = format!("{SHARED}/{name}.log");
    let mut log = fs::OpenOptions::new().create(true).append(true).open(&path).during(&path)?;
    let host = fs::read_to_string("/proc/sys/kernel/hostname").during("host name")?;
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").during("boot id")?;
    let life = format!("{} {} {}", host.trim(), boot_id.trim(), std::process::id());
    loop {
        // One write a line: lines of two hosts never mix.
        let line = format!("{} {life}\n", super::clock_ms());
        log.write_all(line.as_bytes()).during(&path)?;
        wait::pause(LINE_EVERY);
    }
}

/// One uninterrupted run of a workload, as its lines show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The host that it ran on.
    pub host: String,
    /// That host's boot.
    pub boot_id: String,
    /// The writer's process number in the host.
    pub pid: u32,
    /// Time of the first line, [`super::clock_ms`].
    pub first_ms: u64,
    /// Time of the last line.
    pub last_ms: u64,
}

/// Every run of a workload so far, by its first line.
#[must_use]
pub fn runs(shared: &Path, name: &str) -> Vec<Run> {
    let text = fs::read_to_string(shared.join(format!("{name}.log"))).unwrap_or_default();
    let mut runs: BTreeMap<(String, String, u32), Run> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let (Some(time_ms), Some(host), Some(boot_id), Some(pid)) =
            (words.next().and_then(|word| word.parse().ok()), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let Ok(pid) = pid.parse() else { continue };
        let run = runs.entry((host.into(), boot_id.into(), pid)).or_insert_with(|| Run {
            host: host.into(),
            boot_id: boot_id.into(),
            pid,
            first_ms: time_ms,
            last_ms: time_ms,
        });
        run.last_ms = time_ms;
    }
    let mut runs: Vec<Run> = runs.into_values().collect();
    runs.sort_by_key(|run| run.first_ms);
    runs
}

/// Two runs that overlap, if there are any: the one thing that must never happen (I2).
#[must_use]
pub fn ran_twice(runs: &[Run]) -> Option<(&Run, &Run)> {
    runs.iter().zip(runs.iter().skip(1)).find(|(earlier, later)| later.first_ms <= earlier.last_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(host: &str, first_ms: u64, last_ms: u64) -> Run {
        Run { host: host.into(), boot_id: "boot".into(), pid: 7, first_ms, last_ms }
    }

    #[test]
    fn runs_one_after_another_are_not_twice() {
        assert_eq!(ran_twice(&[run("a", 0, 100), run("b", 101, 200)]), None);
    }

    #[test]
    fn a_run_that_begins_before_the_last_one_ended_is_twice() {
        let runs = [run("a", 0, 100), run("b", 100, 200)];
        assert_eq!(
            ran_twice(&runs).map(|(earlier, later)| (earlier.host.as_str(), later.host.as_str())),
            Some(("a", "b"))
        );
    }
}
