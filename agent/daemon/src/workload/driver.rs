//! One grammar for every kind of workload, and what they share: the host's place for them and the connection to systemd.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::Mutex;

use super::command::Command;
use super::libvirt::Domain;
use super::unit::Unit;
use super::{Autostart, KILL_BUDGET, Kind, Observed, OpError, Options, Spec, cgroup};
use crate::bus::{BusError, Systemd};
use std::sync::Arc;

/// Of [`KILL_BUDGET`], for the processes to be gone after SIGKILL.
pub(super) const SWEEP: Duration = Duration::from_secs(1);

/// A start that went by the book may need so long until it reads as running: programs that return before what they started has
/// written its pid file.
const SETTLE: Duration = Duration::from_secs(2);
/// Between two looks of them.
const SETTLE_LOOK: Duration = Duration::from_millis(50);

/// Where `command` workloads run.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// As transient units.
    Units,
    /// In cgroups below this one.
    Cgroups(PathBuf),
    /// In sessions of their own, known by their environment.
    Sessions,
}

/// What the workloads of a host share.
pub(super) struct Host {
    pub(super) options: Options,
    pub(super) place: Place,
    bus: Mutex<Option<Systemd>>,
}

impl Host {
    pub(super) fn new(options: Options) -> Self {
        // An error here means that /run cannot be looked at; then systemd is not there to ask either.
        let place = if sd_notify::booted().unwrap_or(false) {
            Place::Units
        } else {
            cgroup::parent_of_own().map_or(Place::Sessions, Place::Cgroups)
        };
        Self { options, place, bus: Mutex::new(None) }
    }

    #[cfg(test)]
    pub(super) fn placed(options: Options, place: Place) -> Self {
        Self { options, place, bus: Mutex::new(None) }
    }

    /// systemd, connected on first use.
    pub(super) async fn systemd(&self) -> Result<Systemd, BusError> {
        let mut bus = self.bus.lock().await;
        if let Some(systemd) = bus.as_ref() {
            return Ok(systemd.clone());
        }
        let systemd = Systemd::connect().await?;
        *bus = Some(systemd.clone());
        Ok(systemd)
    }

    /// A call failed: connect anew next time, whatever the reason was.
    pub(super) async fn drop_systemd(&self) {
        *self.bus.lock().await = None;
    }
}

/// The driver of one workload.
pub(super) enum Driver {
    Command(Box<Command>),
    Systemd(Unit),
    Libvirt(Domain),
}

impl Driver {
    pub(super) fn new(spec: &Spec, host: &Arc<Host>) -> Self {
        let (host, limits) = (host.clone(), Limits { start: spec.start_timeout, stop: spec.stop_timeout });
        match &spec.kind {
            Kind::Command { start, stop, status } => {
                let [start, stop, status] = [start, stop, status].map(Clone::clone);
                Self::Command(Box::new(Command::new(
                    host,
                    spec.id,
                    &spec.name,
                    [start, stop, status],
                    limits,
                )))
            }
            Kind::Systemd { unit } => Self::Systemd(Unit::new(host, unit, limits)),
            Kind::Libvirt { domain, xml } => Self::Libvirt(Domain::new(&host, domain, xml, limits)),
        }
    }

    pub(super) async fn start(&self) -> Result<Observed, OpError> {
        let result = match self {
            Self::Command(command) => command.start().await,
            Self::Systemd(unit) => unit.start().await,
            Self::Libvirt(domain) => domain.start().await,
        };
        match result {
            Ok(()) => Ok(self.settled().await),
            // What is left of a start that failed must not run on unseen.
            Err(why) => Err(self.after_kill(why).await),
        }
    }

    /// What it reads once it runs, or else at the end of the time for that.
    async fn settled(&self) -> Observed {
        let runs = async {
            while self.status().await != Observed::Running {
                tokio::time::sleep(SETTLE_LOOK).await;
            }
        };
        match tokio::time::timeout(SETTLE, runs).await {
            Ok(()) => Observed::Running,
            Err(_) => self.status().await,
        }
    }

    pub(super) async fn stop(&self) -> Result<Observed, OpError> {
        let result = match self {
            Self::Command(command) => command.stop().await,
            Self::Systemd(unit) => unit.stop().await,
            Self::Libvirt(domain) => domain.stop().await,
        };
        match result {
            Ok(()) => Ok(self.status().await),
            Err(why) => Err(self.after_kill(why).await),
        }
    }

    async fn after_kill(&self, why: String) -> OpError {
        match self.kill().await {
            Ok(after) => OpError { why, after },
            Err(kill) => {
                OpError { why: format!("{why}; and the kill after it: {}", kill.why), after: kill.after }
            }
        }
    }

    /// SAFE-3: a kill, not a shutdown, and within [`KILL_BUDGET`].
    pub(super) async fn kill(&self) -> Result<Observed, OpError> {
        let killed = async {
            match self {
                Self::Command(command) => command.kill().await,
                Self::Systemd(unit) => unit.kill().await,
                Self::Libvirt(domain) => domain.kill().await,
            }?;
            Ok(self.status().await)
        };
        let unread = |why: String| OpError { after: Observed::Unknown { why: why.clone() }, why };
        match tokio::time::timeout(KILL_BUDGET, killed).await {
            Ok(Ok(observed)) => Ok(observed),
            Ok(Err(why)) => Err(unread(why)),
            Err(_) => Err(unread(format!("no end of the kill after {} ms", KILL_BUDGET.as_millis()))),
        }
    }

    pub(super) async fn status(&self) -> Observed {
        match self {
            Self::Command(command) => command.status().await,
            Self::Systemd(unit) => unit.status().await,
            Self::Libvirt(domain) => domain.status().await,
        }
    }

    pub(super) async fn autostart(&self) -> Autostart {
        match self {
            // Nothing but the agent knows of its programs.
            Self::Command(_) => Autostart::Off,
            Self::Systemd(unit) => unit.autostart().await,
            Self::Libvirt(domain) => domain.autostart().await,
        }
    }
}

#[cfg(test)]
impl Driver {
    pub(super) fn virsh_of(&self) -> &Domain {
        match self {
            Self::Libvirt(domain) => domain,
            Self::Command(_) | Self::Systemd(_) => panic!("not a domain"),
        }
    }
}

/// A workload's time limits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) start: Duration,
    pub(super) stop: Duration,
}
