//! What the agent tells systemd, and what systemd keeps for it: readiness, status, the service watchdog, descriptors that
//! outlive the process, and whether it is being stopped or restarted. Without systemd each of these is nothing.

use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::bus::{BusError, Systemd};

/// Longer than this a stop does not wait to learn what it is: in doubt it is a stop.
const STOP_QUESTION: Duration = Duration::from_millis(500);

/// Why the process was told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopKind {
    /// Stop, shutdown, or nobody could say.
    Stop,
    /// systemd starts us again at once.
    Restart,
}

/// Says that the agent serves. Also ends a reload.
pub(crate) fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The line that `systemctl status` shows.
pub(crate) fn status(status: &str) {
    notify(&[NotifyState::Status(status)]);
}

/// Says that the configuration is being read again; [`ready`] ends it.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "systemd is not told of the reload"),
    }
}

/// Says that the agent ends, and why.
pub(crate) fn stopping(status: &str) {
    notify(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// Feeds the service watchdog (`WatchdogSec=`); call it every [`watchdog_interval`].
pub(crate) fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// How often systemd wants to hear [`alive`]: half of what it allows. `None`: it does not.
pub(crate) fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|allowed| allowed / 2)
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd is not told");
    }
}

/// Has systemd keep `fd` under `name` for our next process. `FDPOLL=0`: a device that polls as hung up is kept all the same.
pub(crate) fn store(fd: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let states = [NotifyState::FdStore, NotifyState::FdName(name), NotifyState::Custom("FDPOLL=0")];
    sd_notify::notify_with_fds(&states, &[fd])
}

/// Has systemd close what it keeps under `name`.
pub(crate) fn forget(name: &str) -> io::Result<()> {
    sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)])
}

/// The descriptors that systemd passed to this process, by name. Taken once, at the start of `main`.
#[derive(Debug, Default)]
pub(crate) struct Passed(Vec<(String, OwnedFd)>);

impl Passed {
    /// Takes what was passed.
    ///
    /// # Safety
    /// Once a process, before anything else has opened descriptors: the numbers from 3 on are taken for ours.
    pub(crate) unsafe fn take() -> io::Result<Self> {
        let passed = sd_notify::listen_fds_with_names()?;
        // SAFETY: systemd opened these for this process (LISTEN_PID is checked), and by our caller's word nothing else owns
        // them yet.
        let owned = passed.map(|(fd, name)| (name, unsafe { OwnedFd::from_raw_fd(fd) }));
        Ok(Self(owned.collect()))
    }

    /// The first descriptor with this name. Further ones with it are closed: systemd can hold two after a crash between
    /// storing and removing, and they are of one open device.
    pub(crate) fn by_name(&mut self, name: &str) -> Option<OwnedFd> {
        let (mut named, rest) =
            std::mem::take(&mut self.0).into_iter().partition::<Vec<_>, _>(|(of, _)| of == name);
        self.0 = rest;
        (!named.is_empty()).then(|| named.swap_remove(0).1)
    }
}

/// Whether systemd started this process as a service.
pub(crate) fn runs_us() -> bool {
    std::env::var_os("INVOCATION_ID").is_some() && std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Why this process was told to end: asks systemd which job is queued for our unit. Answers within half a second; without an
/// answer it is a stop, which is always right and merely slower for the workloads.
pub(crate) async fn stop_or_restart() -> StopKind {
    if !runs_us() {
        return StopKind::Stop;
    }
    match tokio::time::timeout(STOP_QUESTION, own_job()).await {
        Ok(Ok(Some(job))) if job == "restart" => StopKind::Restart,
        Ok(Ok(job)) => {
            tracing::debug!(?job, "systemd's job for this unit");
            StopKind::Stop
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "cannot ask systemd whether this is a restart; taken for a stop");
            StopKind::Stop
        }
        Err(_) => {
            tracing::warn!("systemd does not say whether this is a restart; taken for a stop");
            StopKind::Stop
        }
    }
}

async fn own_job() -> Result<Option<String>, BusError> {
    let systemd = Systemd::connect().await?;
    let unit = systemd.unit_of_process(std::process::id()).await?;
    systemd.queued_job(&unit).await
}

impl fmt::Display for StopKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stop => "stop",
            Self::Restart => "restart",
        })
    }
}
