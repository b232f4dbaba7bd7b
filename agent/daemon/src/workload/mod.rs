//! Workloads on this host: starts, stops, kills and looks when told to, one operation a workload at a time, and reports what it
//! *read* afterwards. It never decides: which workload, where, and whether a start is safe is the core's.

mod cgroup;
mod command;
mod driver;
mod libvirt;
pub(crate) mod process;
mod unit;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use palisade_proto::{MAX_WORKLOADS, WorkloadId};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use driver::{Driver, Host};

/// A look that takes longer says nothing. Shorter than the L1 interval.
pub(crate) const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// Within this every kill has ended or failed: `grace` plus this must stay below the watchdog's time-out (SAFE-10).
pub(crate) const KILL_BUDGET: Duration = Duration::from_secs(5);
/// Looks at a time: each may fork a process, and 256 at once would be felt.
const LOOKS_AT_ONCE: usize = 8;
/// Reports that may wait for the run loop: each workload has at most one operation running and one just cut short.
const EVENTS: usize = 2 * MAX_WORKLOADS;

/// What runs a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Three programs with their arguments.
    Command {
        /// Exit 0: started.
        start: Vec<String>,
        /// Exit 0: stopped.
        stop: Vec<String>,
        /// Exit 0: running; 3: stopped; else unknown.
        status: Vec<String>,
    },
    /// A unit of systemd.
    Systemd {
        /// Its full name.
        unit: String,
    },
    /// A transient libvirt domain.
    Libvirt {
        /// Its name, as in the XML.
        domain: String,
        /// The file with its XML.
        xml: PathBuf,
    },
}

/// One workload, as far as running it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    /// Its permanent id.
    pub(crate) id: WorkloadId,
    /// Its name, for people.
    pub(crate) name: String,
    /// What runs it.
    pub(crate) kind: Kind,
    /// A start that takes longer has failed.
    pub(crate) start_timeout: Duration,
    /// A stop that takes longer becomes a kill.
    pub(crate) stop_timeout: Duration,
}

/// What to do with a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Start it, then look. What a failed start leaves behind is killed. Cuts short a look that goes on.
    Start,
    /// Stop it gracefully, kill it after its stop time-out, then look. Cuts short a look that goes on.
    Stop,
    /// SIGKILL, then look. Cuts short whatever else goes on with it.
    Kill,
    /// Look.
    Status,
    /// Look whether the host would start it by itself (SAFE-9).
    Autostart,
}

impl Op {
    /// A kill cuts short whatever goes on. A look that hangs must not hold up a start or stop.
    fn cuts_short(self, other: Self) -> bool {
        match self {
            Self::Kill => other != Self::Kill,
            Self::Start | Self::Stop => matches!(other, Self::Status | Self::Autostart),
            Self::Status | Self::Autostart => false,
        }
    }
}

/// What a look says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Observed {
    /// It runs here.
    Running,
    /// It does not run here.
    Stopped,
    /// It cannot be told; neither of the two.
    Unknown {
        /// Why not.
        why: String,
    },
}

/// Whether the host starts a workload by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Autostart {
    /// It does not.
    Off,
    /// It does: the agent must not arm (SAFE-9).
    On {
        /// What is enabled, and how to disable it.
        what: String,
    },
    /// It cannot be told.
    Unknown {
        /// Why not.
        why: String,
    },
}

/// What an operation found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// After a start, stop, kill or look: what was read last. A start or stop that went by the book and reads otherwise is told
    /// as it reads.
    State(Observed),
    /// After [`Op::Autostart`].
    Autostart(Autostart),
}

/// An operation did not go by the book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpError {
    /// What failed, with the program's or manager's own words.
    pub(crate) why: String,
    /// What was read afterwards.
    pub(crate) after: Observed,
}

impl fmt::Display for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (then read: {})", self.why, self.after)
    }
}

impl std::error::Error for OpError {}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => f.write_str("running"),
            Self::Stopped => f.write_str("stopped"),
            Self::Unknown { why } => write!(f, "unknown: {why}"),
        }
    }
}

/// An operation ended. Each accepted one reports exactly once, except a look that makes way for a start or stop: it repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkloadEvent {
    /// The workload.
    pub(crate) id: WorkloadId,
    /// What was done.
    pub(crate) op: Op,
    /// How it ended.
    pub(crate) result: Result<Answer, OpError>,
}

/// An operation was not begun; nothing will be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// No workload with this id is configured.
    NoSuchWorkload,
    /// This is going on with it already.
    Busy(Op),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchWorkload => f.write_str("no such workload"),
            Self::Busy(op) => write!(f, "busy: {op:?} goes on"),
        }
    }
}

impl std::error::Error for Refused {}

/// How workloads are run on this host.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// A directory of this boot (`/run/palisade`): what start programs say is kept there while they run.
    pub(crate) run_dir: PathBuf,
    /// Where libvirt is; `qemu:///system`.
    pub(crate) libvirt_uri: String,
}

impl Options {
    /// As installed.
    pub(crate) fn new(run_dir: PathBuf) -> Self {
        Self { run_dir, libvirt_uri: "qemu:///system".to_owned() }
    }
}

/// The workloads of this host.
pub(crate) struct Workloads {
    entries: BTreeMap<WorkloadId, Entry>,
    host: Arc<Host>,
    events: mpsc::Sender<WorkloadEvent>,
    looks: Arc<Semaphore>,
}

struct Entry {
    spec: Spec,
    driver: Arc<Driver>,
    running: Option<Running>,
}

/// An operation that goes on.
struct Running {
    op: Op,
    /// Cuts it short.
    cancel: Option<oneshot::Sender<Op>>,
    task: JoinHandle<()>,
}

impl Workloads {
    /// The workloads of `specs`, and where their events come out.
    pub(crate) fn new(specs: Vec<Spec>, options: Options) -> (Self, mpsc::Receiver<WorkloadEvent>) {
        Self::on(Host::new(options), specs)
    }

    fn on(host: Host, specs: Vec<Spec>) -> (Self, mpsc::Receiver<WorkloadEvent>) {
        let (events, receiver) = mpsc::channel(EVENTS);
        let host = Arc::new(host);
        let looks = Arc::new(Semaphore::new(LOOKS_AT_ONCE));
        let mut workloads = Self { entries: BTreeMap::new(), host, events, looks };
        workloads.replace(specs);
        (workloads, receiver)
    }

    /// Takes a new configuration. Operations that go on end as they began; a workload that is gone from the configuration is
    /// left as it is.
    pub(crate) fn replace(&mut self, specs: Vec<Spec>) {
        let mut old = std::mem::take(&mut self.entries);
        for spec in specs {
            let id = spec.id;
            let entry = match old.remove(&id) {
                Some(entry) if entry.spec == spec => entry,
                changed => {
                    let running = changed.and_then(|entry| entry.running);
                    let driver = Arc::new(Driver::new(&spec, &self.host));
                    Entry { spec, driver, running }
                }
            };
            self.entries.insert(id, entry);
        }
    }

    /// What goes on with a workload.
    pub(crate) fn busy(&self, id: WorkloadId) -> Option<Op> {
        let running = self.entries.get(&id)?.running.as_ref()?;
        (!running.task.is_finished()).then_some(running.op)
    }

    /// Begins [`Op::Start`].
    pub(crate) fn start(&mut self, id: WorkloadId) -> Result<(), Refused> {
        self.begin(id, Op::Start)
    }

    /// Begins [`Op::Stop`].
    pub(crate) fn stop(&mut self, id: WorkloadId) -> Result<(), Refused> {
        self.begin(id, Op::Stop)
    }

    /// Begins [`Op::Kill`], at once: whatever else goes on with the workload reports that it was cut short. Refused only if a
    /// kill goes on.
    pub(crate) fn kill(&mut self, id: WorkloadId) -> Result<(), Refused> {
        self.begin(id, Op::Kill)
    }

    /// Begins [`Op::Status`].
    pub(crate) fn status(&mut self, id: WorkloadId) -> Result<(), Refused> {
        self.begin(id, Op::Status)
    }

    /// Begins [`Op::Autostart`].
    pub(crate) fn autostart(&mut self, id: WorkloadId) -> Result<(), Refused> {
        self.begin(id, Op::Autostart)
    }

    fn begin(&mut self, id: WorkloadId, op: Op) -> Result<(), Refused> {
        let entry = self.entries.get_mut(&id).ok_or(Refused::NoSuchWorkload)?;
        let mut before = entry.running.take_if(|running| !running.task.is_finished());
        match &mut before {
            Some(running) if op.cuts_short(running.op) => {
                if let Some(cancel) = running.cancel.take() {
                    // Ended a moment ago: then there is nothing to cut short.
                    let _ = cancel.send(op);
                }
            }
            Some(running) => {
                let refused = Refused::Busy(running.op);
                entry.running = before;
                return Err(refused);
            }
            None => {}
        }
        let (cancel, cancelled) = oneshot::channel();
        let (driver, events, looks) = (entry.driver.clone(), self.events.clone(), self.looks.clone());
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                // Ended first: a start that is cut short must not fork after the kill has swept up.
                drop(before.task.await);
            }
            let result = tokio::select! {
                // What cuts short comes first if both are ready.
                biased;
                by = cut_short(cancelled) => {
                    if by != Op::Kill {
                        return;
                    }
                    Err(OpError {
                        why: format!("{op:?} was cut short by a kill"),
                        after: Observed::Unknown { why: "being killed".into() },
                    })
                }
                result = perform(&driver, op, &looks) => result,
            };
            // The run loop is gone only when the agent ends.
            drop(events.send(WorkloadEvent { id, op, result }).await);
        });
        entry.running = Some(Running { op, cancel: Some(cancel), task });
        Ok(())
    }
}

/// Waits for what cuts an operation short. A workload that is gone from the configuration can no longer be killed, and what goes
/// on with it ends as it began.
async fn cut_short(cancelled: oneshot::Receiver<Op>) -> Op {
    match cancelled.await {
        Ok(by) => by,
        Err(_) => std::future::pending().await,
    }
}

async fn perform(driver: &Driver, op: Op, looks: &Semaphore) -> Result<Answer, OpError> {
    match op {
        Op::Start => driver.start().await.map(Answer::State),
        Op::Stop => driver.stop().await.map(Answer::State),
        Op::Kill => driver.kill().await.map(Answer::State),
        Op::Status => {
            // Never closed, so the permit always comes.
            let _permit = looks.acquire().await;
            Ok(Answer::State(driver.status().await))
        }
        Op::Autostart => {
            let _permit = looks.acquire().await;
            Ok(Answer::Autostart(driver.autostart().await))
        }
    }
}

#[cfg(test)]
mod on_systemd;
#[cfg(test)]
mod tests;
