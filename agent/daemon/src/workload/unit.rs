//! Workloads that are units of systemd.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::cgroup::{Cgroup, mount};
use super::driver::{Host, Limits, SWEEP};
use super::{Autostart, Observed, STATUS_TIMEOUT};
use crate::bus::BusError;

/// What systemd is given for its part of a kill.
const KILL_JOB: Duration = Duration::from_secs(2);

/// Between two SIGKILLs while systemd stops the unit.
const AGAIN: Duration = Duration::from_millis(20);

pub(super) struct Unit {
    host: Arc<Host>,
    name: String,
    limits: Limits,
    /// Where its processes were when it was looked at last: a kill does not depend on D-Bus.
    cgroup: Mutex<Option<Cgroup>>,
}

impl Unit {
    pub(super) fn new(host: Arc<Host>, name: &str, limits: Limits) -> Self {
        Self { host, name: name.to_owned(), limits, cgroup: Mutex::new(None) }
    }

    pub(super) async fn start(&self) -> Result<(), String> {
        let work = async { self.host.systemd().await?.start(&self.name).await };
        let job = self.on_bus(self.limits.start, work).await?;
        if job == "done" {
            Ok(())
        } else {
            Err(format!("{}: systemd's start job ended as {job:?}", self.name))
        }
    }

    pub(super) async fn stop(&self) -> Result<(), String> {
        let work = async { self.host.systemd().await?.stop(&self.name).await };
        let job = self.on_bus(self.limits.stop, work).await?;
        if job == "done" {
            Ok(())
        } else {
            Err(format!("{}: systemd's stop job ended as {job:?}", self.name))
        }
    }

    pub(super) async fn kill(&self) -> Result<(), String> {
        let cgroup = self.known_cgroup();
        let swept = async {
            match &cgroup {
                Some(cgroup) => cgroup.kill(SWEEP).await.map_err(|error| error.to_string()),
                None => Ok(true),
            }
        };
        let told = async {
            let systemd = self.host.systemd().await?;
            // Stopped as well as killed, or `Restart=` would bring it back. Killed until the stop has ended: what it waits for,
            // or runs (`ExecStop=`), has no time to be graceful.
            let stopped = systemd.stop(&self.name);
            tokio::pin!(stopped);
            loop {
                tokio::select! {
                    biased;
                    job = &mut stopped => return job.map(drop),
                    () = tokio::time::sleep(AGAIN) => {}
                }
                match systemd.kill(&self.name).await {
                    // Nothing is there that could be killed; what it reads afterwards counts.
                    Ok(()) | Err(_) => {}
                }
            }
        };
        let (swept, told) = tokio::join!(swept, self.on_bus(KILL_JOB, told));
        match (swept, told) {
            (_, Ok(())) => Ok(()),
            (Ok(true), Err(why)) if cgroup.is_some() => {
                tracing::warn!(why, unit = self.name, "killed by its cgroup; systemd did not take part");
                Ok(())
            }
            (Ok(_), Err(told)) => Err(told),
            (Err(swept), Err(told)) => Err(format!("{swept}; {told}")),
        }
    }

    pub(super) async fn status(&self) -> Observed {
        let work = async { self.host.systemd().await?.state(&self.name).await };
        let (state, cgroup) = match self.on_bus(STATUS_TIMEOUT, work).await {
            Ok(found) => found,
            Err(why) => return Observed::Unknown { why },
        };
        let cgroup = mount()
            .filter(|_| !cgroup.is_empty())
            .map(|mount| Cgroup::at(mount.join(cgroup.trim_start_matches('/'))));
        let populated = cgroup.as_ref().is_some_and(|cgroup| cgroup.populated().unwrap_or(true));
        if cgroup.is_some() {
            *self.cgroup.lock().unwrap_or_else(PoisonError::into_inner) = cgroup;
        }
        read(&self.name, &state, populated)
    }

    /// As last seen; else where systemd puts services unless told otherwise.
    fn known_cgroup(&self) -> Option<Cgroup> {
        let seen = self.cgroup.lock().unwrap_or_else(PoisonError::into_inner).clone();
        seen.or_else(|| Some(Cgroup::at(mount()?.join("system.slice").join(&self.name))))
    }

    pub(super) async fn autostart(&self) -> Autostart {
        let work = async {
            let systemd = self.host.systemd().await?;
            let state = systemd.unit_file_state(&self.name).await?;
            Ok((state, systemd.started_by(&self.name).await?))
        };
        match self.on_bus(STATUS_TIMEOUT, work).await {
            Ok((state, by)) => autostart(&self.name, &state, &by),
            Err(why) => Autostart::Unknown { why },
        }
    }

    async fn on_bus<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, BusError>>,
    ) -> Result<T, String> {
        let why = match tokio::time::timeout(limit, work).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("{}: systemd has not ended after {} ms", self.name, limit.as_millis()),
        };
        self.host.drop_systemd().await;
        Err(why)
    }
}

/// A unit runs in every state in which it may have processes.
fn read(unit: &str, state: &str, populated: bool) -> Observed {
    match state {
        "active" | "reloading" | "refreshing" | "activating" | "deactivating" | "maintenance" => {
            Observed::Running
        }
        "inactive" | "failed" if populated => {
            Observed::Unknown { why: format!("{unit} is {state}, but processes are left in its cgroup") }
        }
        "inactive" | "failed" => Observed::Stopped,
        other => Observed::Unknown { why: format!("{unit} is {other:?}") },
    }
}

/// SAFE-9: what the unit file says of itself is half of it: a unit that is not enabled starts with what wants, requires, upholds
/// or triggers it.
fn autostart(unit: &str, state: &str, by: &[String]) -> Autostart {
    match state {
        "enabled" | "enabled-runtime" => Autostart::On {
            what: format!("{unit} is {state}: run `systemctl disable {unit}`, the agent starts it"),
        },
        "masked" | "masked-runtime" => Autostart::Off,
        "disabled" | "static" | "indirect" | "linked" | "linked-runtime" | "transient" if by.is_empty() => {
            Autostart::Off
        }
        "disabled" | "static" | "indirect" | "linked" | "linked-runtime" | "transient" => {
            let by = by.join(", ");
            let what = format!(
                "{unit} is started by {by}: disable these or remove what in them names {unit}, the agent starts it"
            );
            Autostart::On { what }
        }
        other => Autostart::Unknown { why: format!("{unit}: systemd calls its unit file {other:?}") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_that_may_have_processes_runs() {
        for state in ["active", "reloading", "activating", "deactivating"] {
            assert_eq!(read("x.service", state, false), Observed::Running);
        }
        assert_eq!(read("x.service", "inactive", false), Observed::Stopped);
        assert_eq!(read("x.service", "failed", false), Observed::Stopped);
        assert!(matches!(read("x.service", "failed", true), Observed::Unknown { .. }));
        assert!(matches!(read("x.service", "new-word", false), Observed::Unknown { .. }));
    }

    #[test]
    fn safe_9_an_enabled_unit_is_autostarted_and_an_unheard_of_state_is_not_taken_for_off() {
        assert!(
            matches!(autostart("x.service", "enabled", &[]), Autostart::On { what } if what.contains("systemctl disable x.service"))
        );
        assert!(matches!(autostart("x.service", "enabled-runtime", &[]), Autostart::On { .. }));
        assert_eq!(autostart("x.service", "disabled", &[]), Autostart::Off);
        assert_eq!(autostart("x.service", "static", &[]), Autostart::Off);
        assert!(matches!(autostart("x.service", "generated", &[]), Autostart::Unknown { .. }));
    }

    #[test]
    fn safe_9_a_unit_that_another_unit_starts_is_autostarted() {
        let by = ["x.timer".to_owned(), "site.target".to_owned()];
        for state in ["disabled", "static", "indirect", "linked"] {
            let found = autostart("x.service", state, &by);
            assert!(
                matches!(&found, Autostart::On { what } if what.contains("started by x.timer, site.target")),
                "{found:?}"
            );
        }
        assert_eq!(autostart("x.service", "masked", &by), Autostart::Off, "nothing can start it");
    }
}
