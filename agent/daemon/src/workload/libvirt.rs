//! Workloads that are libvirt domains: transient ones, made from their XML by `virsh create`, so that nothing of them is left
//! for libvirt to start by itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::{Semaphore, oneshot};

use super::driver::{Host, Limits};
use super::process::{Output, Program, run};
use super::{Autostart, Observed, STATUS_TIMEOUT};
use crate::realtime::THREAD_STACK_BYTES;

/// Where libvirt's QEMU driver notes the processes of its domains.
const PID_DIR: &str = "/run/libvirt/qemu";
/// What libvirt is given for its part of a kill.
const DESTROY: Duration = Duration::from_millis(2500);
/// Between two looks at a guest that shuts down.
const SHUTDOWN_LOOK: Duration = Duration::from_millis(500);

pub(super) struct Domain {
    uri: String,
    name: String,
    xml: PathBuf,
    limits: Limits,
    /// One read of the XML at a time: at most one thread hangs per domain.
    reading: Arc<Semaphore>,
}

impl Domain {
    pub(super) fn new(host: &Arc<Host>, name: &str, xml: &Path, limits: Limits) -> Self {
        Self {
            uri: host.options.libvirt_uri.clone(),
            name: name.to_owned(),
            xml: xml.to_owned(),
            limits,
            reading: Arc::new(Semaphore::new(1)),
        }
    }

    /// On a thread of its own: the XML may lie on the shared storage that hangs, and fencing and kills must not wait for it.
    pub(super) async fn read_xml(&self, limit: Duration) -> Result<String, String> {
        let fail = |why: String| format!("{}: {why}", self.xml.display());
        let Ok(permit) = self.reading.clone().try_acquire_owned() else {
            return Err(fail("an earlier read of it still hangs".to_owned()));
        };
        let (path, (tell, told)) = (self.xml.clone(), oneshot::channel());
        let builder = std::thread::Builder::new().name("domain-xml".into()).stack_size(THREAD_STACK_BYTES);
        let reader = builder.spawn(move || {
            let read = fs::read_to_string(path);
            drop(permit);
            // Nobody waits for it any more after the time limit.
            let _ = tell.send(read);
        });
        reader.map_err(|error| fail(format!("no thread to read it: {error}")))?;
        match tokio::time::timeout(limit, told).await {
            Ok(Ok(read)) => read.map_err(|error| fail(error.to_string())),
            Ok(Err(_)) => Err(fail("its reader ended without a word".to_owned())),
            Err(_) => Err(fail(format!("not read after {} ms", limit.as_millis()))),
        }
    }

    pub(super) async fn start(&self) -> Result<(), String> {
        let xml = self.read_xml(STATUS_TIMEOUT).await?;
        let named = name_in(&xml);
        if named != Some(&self.name) {
            // Created under another name it would run unseen.
            let found = named.unwrap_or("no name");
            return Err(format!(
                "{}: expected the domain {:?}, found {found:?}",
                self.xml.display(),
                self.name
            ));
        }
        if self.state(STATUS_TIMEOUT).await? == State::Crashed {
            // What is left of a crashed guest keeps its name.
            self.virsh(&["destroy", &self.name], DESTROY).await?;
        }
        self.virsh(&["create", &self.xml.to_string_lossy()], self.limits.start).await.map(drop)
    }

    pub(super) async fn stop(&self) -> Result<(), String> {
        if self.state(STATUS_TIMEOUT).await? == State::Absent {
            return Ok(());
        }
        self.virsh(&["shutdown", &self.name], STATUS_TIMEOUT).await?;
        let ended = async {
            loop {
                match self.state(STATUS_TIMEOUT).await? {
                    State::Absent | State::Crashed => return Ok(()),
                    State::Active | State::Other(_) => tokio::time::sleep(SHUTDOWN_LOOK).await,
                }
            }
        };
        let late = |_| {
            format!("{}: the guest has not shut down after {} ms", self.name, self.limits.stop.as_millis())
        };
        tokio::time::timeout(self.limits.stop, ended).await.map_err(late)?
    }

    pub(super) async fn kill(&self) -> Result<(), String> {
        // The process first: a libvirt daemon that hangs must not keep a guest alive.
        let process = kill_process(Path::new(PID_DIR), &self.name);
        match self.virsh(&["destroy", &self.name], DESTROY).await {
            Ok(_) => Ok(()),
            Err(why) => match (process, self.state(STATUS_TIMEOUT).await) {
                (_, Ok(State::Absent)) => Ok(()),
                (Some(pid), _) => {
                    let domain = &self.name;
                    tracing::warn!(
                        why,
                        pid,
                        domain,
                        "libvirt did not destroy a domain; its process was killed"
                    );
                    Ok(())
                }
                (None, _) => Err(why),
            },
        }
    }

    pub(super) async fn status(&self) -> Observed {
        match self.state(STATUS_TIMEOUT).await {
            Ok(State::Active) => Observed::Running,
            // A crashed guest executes nothing and is destroyed before the next start.
            Ok(State::Absent | State::Crashed) => Observed::Stopped,
            Ok(State::Other(state)) => {
                Observed::Unknown { why: format!("libvirt calls {} {state:?}", self.name) }
            }
            Err(why) => Observed::Unknown { why },
        }
    }

    async fn state(&self, timeout: Duration) -> Result<State, String> {
        match self.virsh(&["domstate", &self.name], timeout).await {
            Ok(state) => Ok(State::from(state.as_str())),
            // virsh says the same whether libvirt knows no such domain or could not look: only the list of all tells.
            Err(why) if why.contains("failed to get domain") => {
                let all = self.virsh(&["list", "--all", "--name"], timeout).await?;
                if all.lines().any(|name| name.trim() == self.name) { Err(why) } else { Ok(State::Absent) }
            }
            Err(why) => Err(why),
        }
    }

    pub(super) async fn autostart(&self) -> Autostart {
        match self.virsh(&["dominfo", &self.name], STATUS_TIMEOUT).await {
            Ok(info) => autostart(&self.name, &info),
            Err(why) => match self.state(STATUS_TIMEOUT).await {
                Ok(State::Absent) => Autostart::Off,
                Ok(State::Active | State::Crashed | State::Other(_)) | Err(_) => Autostart::Unknown { why },
            },
        }
    }

    async fn virsh(&self, arguments: &[&str], timeout: Duration) -> Result<String, String> {
        let argv: Vec<String> = ["virsh", "-q", "-c", &self.uri]
            .into_iter()
            .chain(arguments.iter().copied())
            .map(str::to_owned)
            .collect();
        let program = Program { argv: &argv, environment: &[], cgroup: None, output: Output::Kept, timeout };
        let ended = run(program).await.map_err(|error| {
            let hint =
                if is_missing(&error) { "; install libvirt's client (Debian: libvirt-clients)" } else { "" };
            format!("{error}{hint}")
        })?;
        if ended.status.success() {
            return Ok(ended.output);
        }
        let said = ended.output.replace('\n', "; ");
        Err(format!("virsh {} {}: {}: {said}", arguments.first().unwrap_or(&""), self.name, ended.how()))
    }
}

fn is_missing(error: &super::process::RunError) -> bool {
    matches!(error, super::process::RunError::Spawn { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

/// What `virsh domstate` says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// A process is there that may write.
    Active,
    /// Not there.
    Absent,
    /// There, executing nothing.
    Crashed,
    /// A word we do not know.
    Other(String),
}

impl From<&str> for State {
    fn from(word: &str) -> Self {
        match word {
            "running" | "idle" | "paused" | "in shutdown" | "pmsuspended" => Self::Active,
            "shut off" => Self::Absent,
            "crashed" => Self::Crashed,
            other => Self::Other(other.to_owned()),
        }
    }
}

fn autostart(domain: &str, info: &str) -> Autostart {
    let flag = info.lines().find_map(|line| line.strip_prefix("Autostart:")).map(str::trim);
    match flag {
        Some("disable") => Autostart::Off,
        Some("enable") => Autostart::On {
            what: format!(
                "domain {domain} is on autostart: run `virsh autostart --disable {domain}`, the agent starts it"
            ),
        },
        Some(_) | None => Autostart::Unknown {
            why: format!("virsh dominfo {domain} does not say whether it is on autostart"),
        },
    }
}

/// The text of the first `name` element: in libvirt's XML, the domain's.
fn name_in(xml: &str) -> Option<&str> {
    let (_, after) = xml.split_once("<name>")?;
    let (name, _) = after.split_once("</name>")?;
    Some(name.trim())
}

/// SIGKILL to the process that libvirt noted for a domain, if that process still is this domain's.
fn kill_process(pid_dir: &Path, domain: &str) -> Option<i32> {
    let pid: i32 = fs::read_to_string(pid_dir.join(format!("{domain}.pid"))).ok()?.trim().parse().ok()?;
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let guest = format!("guest={domain}");
    let of_domain =
        |argument: &[u8]| argument.split(|byte| *byte == b',').any(|part| part == guest.as_bytes());
    if pid > 1 && arguments.split(|byte| *byte == 0).any(of_domain) {
        kill(Pid::from_raw(pid), Signal::SIGKILL).ok()?;
        return Some(pid);
    }
    None
}

#[cfg(test)]
mod tests;
