//! What the agent tells systemd, and what systemd keeps for it: readiness, status, the service watchdog, descriptors that
//! outlive the process, and whether it is being stopped or restarted. Without systemd each of these is nothing.

use std::fmt::{self, Write as _};
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use sd_notify::NotifyState;

use crate::bus::{BusError, Systemd};

/// systemd did not take our "ready" for now; it waits for that word, so it is said again with the next sign of life.
static READY_OWED: AtomicBool = AtomicBool::new(false);
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
    let said = notify(&[NotifyState::Ready, NotifyState::Status(status)]);
    READY_OWED.store(!said, Relaxed);
}

/// The line that `systemctl status` shows.
pub(crate) fn status(status: &str) {
    notify(&[NotifyState::Status(status)]);
}

/// Says that the configuration is being read again; [`ready`] ends it.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => drop(notify(&[NotifyState::Reloading, now])),
        Err(error) => tracing::warn!(%error, "systemd is not told of the reload"),
    }
}

/// Says that the agent ends, and why.
pub(crate) fn stopping(status: &str) {
    notify(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// Feeds the service watchdog (`WatchdogSec=`); call it every [`watchdog_interval`].
pub(crate) fn alive() {
    if READY_OWED.load(Relaxed) {
        let said = notify(&[NotifyState::Ready, NotifyState::Watchdog]);
        READY_OWED.store(!said, Relaxed);
    } else {
        notify(&[NotifyState::Watchdog]);
    }
}

/// How often systemd wants to hear [`alive`]: half of what it allows. `None`: it does not.
pub(crate) fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|allowed| allowed / 2)
}

/// Whether systemd has taken it, if it runs us.
fn notify(states: &[NotifyState<'_>]) -> bool {
    let sent = send(states, &[]);
    if let Err(error) = &sent {
        tracing::warn!(%error, "systemd is not told");
    }
    sent.is_ok()
}

/// Has systemd keep `fd` under `name` for our next process. `FDPOLL=0`: a device that polls as hung up is kept all the same.
pub(crate) fn store(fd: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    send(&[NotifyState::FdStore, NotifyState::FdName(name), NotifyState::Custom("FDPOLL=0")], &[fd])
}

/// Has systemd close what it keeps under `name`.
pub(crate) fn forget(name: &str) -> io::Result<()> {
    send(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)], &[])
}

fn send(states: &[NotifyState<'_>], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    std::env::var_os("NOTIFY_SOCKET").map_or(Ok(()), |socket| send_to(Path::new(&socket), states, fds))
}

/// At once or not at all (SAFE-5): a PID 1 that is frozen or busy takes nothing more once its queue is full, and the run loop
/// does not wait for it. (sd_notify's own call would.)
fn send_to(socket: &Path, states: &[NotifyState<'_>], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut text = String::new();
    for state in states {
        writeln!(text, "{state}").map_err(io::Error::other)?;
    }
    let systemd = UnixDatagram::unbound()?;
    systemd.connect(socket)?;
    let fds: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let rights = if fds.is_empty() { &[] } else { rights.as_slice() };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(systemd.as_raw_fd(), &[IoSlice::new(text.as_bytes())], rights, flags, None)?;
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TempDir, run};
    use std::fs;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::process::Command;

    #[test]
    fn without_systemd_nothing_is_said_and_an_end_is_a_stop() {
        ready("serving");
        status("serving");
        stopping("leaving");
        assert_eq!(watchdog_interval(), None);
        assert_eq!(run(stop_or_restart()), StopKind::Stop);
    }

    #[test]
    fn safe_5_a_systemd_that_takes_nothing_more_is_not_waited_for() {
        let dir = TempDir::new();
        let path = dir.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        let (end, _other) = std::io::pipe().unwrap();
        // Blocking until it is full is what this must not do: nobody reads.
        let full = (0..100_000).find_map(|_| send_to(&path, &[NotifyState::Watchdog], &[]).err());
        assert_eq!(full.expect("a queue without an end").kind(), io::ErrorKind::WouldBlock);
        let full = send_to(&path, &[NotifyState::FdStore], &[end.as_fd()]);
        assert_eq!(full.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let mut said = [0; 64];
        let len = systemd.recv(&mut said).unwrap();
        assert_eq!(said.get(..len).unwrap(), b"WATCHDOG=1\n");
        send_to(&path, &[NotifyState::Status("again")], &[]).unwrap();
    }

    const UNIT: &str = "palisade-test-notify.service";
    const SAID: &str = "/run/palisade-test-notify";

    fn systemctl(arguments: &[&str]) -> String {
        let output = Command::new("systemctl").args(arguments).output().expect("no systemctl");
        assert!(output.status.success(), "systemctl {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    #[ignore = "needs systemd as PID 1"]
    fn on_systemd_a_service_is_ready_keeps_its_descriptor_and_tells_a_restart_from_a_stop() {
        let program = std::env::current_exe().unwrap();
        let arguments = "--ignored --exact --nocapture systemd::tests::on_systemd_the_service_itself";
        let text = format!(
            "[Service]\nType=notify\nWatchdogSec=30\nFileDescriptorStoreMax=2\nEnvironment=PALISADE_TEST_SERVICE=1\nExecStart={} {arguments}\n",
            program.display()
        );
        fs::write(format!("/etc/systemd/system/{UNIT}"), text).unwrap();
        drop(fs::remove_file(SAID));
        systemctl(&["daemon-reload"]);
        // Returns once the service has said that it is ready.
        systemctl(&["start", UNIT]);
        assert_eq!(systemctl(&["show", "-P", "StatusText", UNIT]).trim(), "serving");
        systemctl(&["restart", UNIT]);
        systemctl(&["stop", UNIT]);
        let said = fs::read_to_string(SAID).unwrap();
        let expected = "kept: none\nwatchdog: 15s\nend: restart\nkept: hello\nwatchdog: 15s\nend: stop\n";
        assert_eq!(said, expected);
    }

    #[test]
    #[ignore = "the service of the test above"]
    fn on_systemd_the_service_itself() {
        if std::env::var_os("PALISADE_TEST_SERVICE").is_none() {
            return;
        }
        let mut said = fs::OpenOptions::new().create(true).append(true).open(SAID).unwrap();
        // SAFETY: systemd's descriptors are from 3 on, and the test harness has taken none of those.
        let mut passed = unsafe { Passed::take() }.unwrap();
        match passed.by_name("pipe") {
            Some(fd) => {
                let mut text = [0; 5];
                fs::File::from(fd).read_exact(&mut text).unwrap();
                writeln!(said, "kept: {}", String::from_utf8_lossy(&text)).unwrap();
            }
            None => writeln!(said, "kept: none").unwrap(),
        }
        writeln!(said, "watchdog: {:?}", watchdog_interval().unwrap()).unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"hello").unwrap();
        store(reader.as_fd(), "pipe").unwrap();
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap().block_on(async {
            let terminate = tokio::signal::unix::SignalKind::terminate();
            let mut terminated = tokio::signal::unix::signal(terminate).unwrap();
            ready("serving");
            alive();
            terminated.recv().await;
            stopping("ending");
            writeln!(said, "end: {}", stop_or_restart().await).unwrap();
        });
    }
}
