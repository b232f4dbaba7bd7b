//! Workloads that are three programs: start, stop, status. They run outside the agent's cgroup and sandbox, as transient units
//! where systemd runs and else in a cgroup or session of their own, so that they outlive the agent's process and can be killed
//! whole.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use palisade_proto::WorkloadId;
use tokio::process::Child;
use tokio::sync::Mutex;

use super::cgroup::{Cgroup, kill_marked, mount};
use super::driver::{Host, Limits, Place, SWEEP};
use super::process::{Output, Program, RunError, run};
use super::{Observed, STATUS_TIMEOUT};
use crate::bus::Transient;
use crate::identity;

/// The LSB's word for "not running".
const LSB_STOPPED: i32 = 3;
/// What a status program that outlives a kill is given, of the budget.
const LAST_WORD: Duration = Duration::from_millis(1500);
/// What a running workload has said is dropped at the next look once it is more than this.
const OUTPUT_MAX: u64 = 1024 * 1024;

pub(super) struct Command {
    host: Arc<Host>,
    id: WorkloadId,
    name: String,
    argv: [Vec<String>; 3],
    limits: Limits,
    environment: [(&'static str, String); 2],
    /// A status program that SIGKILL did not end. No second one is started beside it.
    hanging: Mutex<Option<Child>>,
}

impl Command {
    pub(super) fn new(
        host: Arc<Host>,
        id: WorkloadId,
        name: &str,
        argv: [Vec<String>; 3],
        limits: Limits,
    ) -> Self {
        // Of this boot, this host and this workload: the mark by which its processes are found where there is no cgroup.
        let boot = identity::boot_id().map_or_else(|_| "unknown".to_owned(), |boot| boot.to_string());
        let environment = [
            ("PALISADE_WORKLOAD", name.to_owned()),
            ("PALISADE_RUN", format!("{boot}{}/{id}", host.options.run_dir.display())),
        ];
        Self { host, id, name: name.to_owned(), argv, limits, environment, hanging: Mutex::new(None) }
    }

    fn unit(&self, suffix: &str) -> String {
        format!("palisade-workload-{}{suffix}.service", self.id)
    }

    fn cgroup(&self) -> Option<Cgroup> {
        match &self.host.place {
            Place::Cgroups(parent) => Some(Cgroup::at(parent.join(format!("palisade-workload-{}", self.id)))),
            Place::Units => {
                let slice = mount()?.join("system.slice");
                Some(Cgroup::at(slice.join(self.unit(""))))
            }
            Place::Sessions => None,
        }
    }

    pub(super) async fn start(&self) -> Result<(), String> {
        let [start, stop, _] = &self.argv;
        if let Place::Units = self.host.place {
            return self.start_unit(start, stop).await;
        }
        let cgroup =
            self.cgroup().map(|cgroup| cgroup.enter()).transpose().map_err(|error| error.to_string())?;
        let output = self.output_file();
        self.exit_zero(start, self.limits.start, cgroup, Output::File(&output)).await
    }

    fn output_file(&self) -> PathBuf {
        self.host.options.run_dir.join(format!("workload-{}.out", self.id))
    }

    /// SAFE-12: the workload writes to its output for as long as it runs, beside the standing of this boot, which must never
    /// lack room. It appends, so that it goes on at the new end.
    fn bound_output(&self) {
        let path = self.output_file();
        // Not there before the first start.
        let Ok(found) = std::fs::metadata(&path) else { return };
        if found.len() <= OUTPUT_MAX {
            return;
        }
        if let Err(error) = File::options().write(true).open(&path).and_then(|file| file.set_len(0)) {
            tracing::warn!(path = %path.display(), %error, "a workload's output grows without bound");
        }
    }

    pub(super) async fn stop(&self) -> Result<(), String> {
        let [_, stop, _] = &self.argv;
        if let Place::Units = self.host.place {
            return self.stop_unit().await;
        }
        self.exit_zero(stop, self.limits.stop, None, Output::Kept).await?;
        // What a stopped workload leaves behind could still write.
        self.sweep().await
    }

    /// Runs a program that must end with exit status 0.
    async fn exit_zero(
        &self,
        argv: &[String],
        timeout: Duration,
        cgroup: Option<File>,
        output: Output<'_>,
    ) -> Result<(), String> {
        let program = Program { argv, environment: &self.environment, cgroup, output, timeout };
        let ended = run(program).await.map_err(|error| error.to_string())?;
        if ended.status.success() {
            return Ok(());
        }
        // SAFE-6: of what it was given and what it says, only its path: both may hold a secret. The output is in the debug log.
        Err(format!("{}: {}", argv.first().map_or("", String::as_str), ended.how()))
    }

    pub(super) async fn kill(&self) -> Result<(), String> {
        self.sweep().await?;
        if let Place::Units = self.host.place {
            self.cancel_start().await;
        }
        match self.look(LAST_WORD).await {
            Observed::Stopped | Observed::Unknown { .. } => Ok(()),
            // Its processes are not ours (a container's, say): its own stop program is what is left.
            Observed::Running => {
                let [_, stop, _] = &self.argv;
                self.exit_zero(stop, LAST_WORD, None, Output::Kept).await
            }
        }
    }

    /// Kills every process that a start left, and sees that they are gone.
    async fn sweep(&self) -> Result<(), String> {
        let cgroup = self.cgroup();
        let emptied = match &cgroup {
            Some(cgroup) => cgroup.kill(SWEEP).await,
            None => {
                let [_, (name, value)] = &self.environment;
                kill_marked(&format!("{name}={value}"), SWEEP).await
            }
        };
        match emptied {
            Ok(true) => {
                if let (Place::Cgroups(_), Some(cgroup)) = (&self.host.place, cgroup) {
                    cgroup.remove();
                }
                Ok(())
            }
            Ok(false) => Err(format!("processes outlive SIGKILL by {} ms", SWEEP.as_millis())),
            Err(error) => Err(error.to_string()),
        }
    }

    pub(super) async fn status(&self) -> Observed {
        self.look(STATUS_TIMEOUT).await
    }

    /// One look, of at most `timeout`.
    pub(super) async fn look(&self, timeout: Duration) -> Observed {
        let [_, _, status] = &self.argv;
        if let Place::Units = self.host.place {
            return self.status_unit(status, timeout).await;
        }
        self.bound_output();
        let mut hanging = self.hanging.lock().await;
        if let Some(child) = hanging.as_mut() {
            match child.try_wait() {
                Ok(None) => {
                    let pid = child.id().unwrap_or_default();
                    let why = format!("the last status program (process {pid}) hangs and cannot be killed");
                    return Observed::Unknown { why };
                }
                Ok(Some(_)) | Err(_) => *hanging = None,
            }
        }
        let environment = &self.environment;
        let program = Program { argv: status, environment, cgroup: None, output: Output::Kept, timeout };
        match run(program).await {
            Ok(ended) => match ended.status.code() {
                Some(code) => self.read(code),
                None => Observed::Unknown { why: format!("status program: {}", ended.how()) },
            },
            Err(error) => {
                let why = error.to_string();
                if let RunError::TimedOut { hanging: Some(child), .. } = error {
                    *hanging = Some(child);
                }
                Observed::Unknown { why }
            }
        }
    }

    fn read(&self, code: i32) -> Observed {
        match code {
            0 => Observed::Running,
            LSB_STOPPED => Observed::Stopped,
            other => {
                Observed::Unknown { why: format!("status program of {}: exit status {other}", self.name) }
            }
        }
    }

    async fn start_unit(&self, start: &[String], stop: &[String]) -> Result<(), String> {
        let name = self.unit("");
        let description = format!("Palisade workload {}", self.name);
        let environment: Vec<String> =
            self.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let unit = Transient {
            name: &name,
            description: &description,
            start,
            stop: Some(stop),
            environment: &environment,
            start_timeout: self.limits.start,
            stop_timeout: self.limits.stop,
        };
        let work = async {
            let systemd = self.host.systemd().await?;
            systemd.run(&unit).await
        };
        let job = self.on_bus(self.limits.start + self.limits.stop, work).await?;
        if job == "done" { Ok(()) } else { Err(format!("{name}: systemd's start job ended as {job:?}")) }
    }

    async fn stop_unit(&self) -> Result<(), String> {
        let name = self.unit("");
        let work = async {
            let systemd = self.host.systemd().await?;
            match systemd.stop(&name).await {
                // Nothing of it is there: as stopped as can be, and the look that follows tells.
                Err(error) if error.is_no_such_unit() => Ok("done".to_owned()),
                other => other,
            }
        };
        let job = self.on_bus(self.limits.stop + SWEEP, work).await?;
        if job == "done" { Ok(()) } else { Err(format!("{name}: systemd's stop job ended as {job:?}")) }
    }

    /// A start job that goes on would fork again after the sweep.
    async fn cancel_start(&self) {
        let name = self.unit("");
        let work = async {
            let systemd = self.host.systemd().await?;
            let (state, _) = systemd.state(&name).await?;
            if state == "activating" { systemd.stop(&name).await.map(drop) } else { Ok(()) }
        };
        if let Err(why) = self.on_bus(LAST_WORD, work).await {
            tracing::warn!(why, "a start may still go on");
        }
    }

    async fn status_unit(&self, status: &[String], timeout: Duration) -> Observed {
        let name = self.unit("-status");
        let description = format!("Palisade status of workload {}", self.name);
        let environment: Vec<String> =
            self.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let unit = Transient {
            name: &name,
            description: &description,
            start: status,
            stop: None,
            environment: &environment,
            start_timeout: timeout,
            stop_timeout: SWEEP,
        };
        let work = async {
            let systemd = self.host.systemd().await?;
            systemd.run(&unit).await?;
            let code = systemd.exit_status(&name).await?;
            // Stopped and forgotten, so that the name is free for the next look.
            systemd.stop(&name).await?;
            systemd.reset_failed(&name).await?;
            Ok(code)
        };
        match self.on_bus(timeout + SWEEP, work).await {
            Ok(Some(code)) => self.read(code),
            Ok(None) => Observed::Unknown { why: format!("{name}: the status program was killed") },
            Err(why) => Observed::Unknown { why },
        }
    }

    async fn on_bus<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, crate::bus::BusError>>,
    ) -> Result<T, String> {
        let why = match tokio::time::timeout(limit, work).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("systemd: no end after {} ms", limit.as_millis()),
        };
        self.host.drop_systemd().await;
        Err(why)
    }
}
