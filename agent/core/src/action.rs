//! What the engine wants done. The shell carries these out in the order they are polled and decides nothing itself.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

use palisade_ladder::{Command, DeviceId};

use palisade_proto::{Ask, Duration, Heartbeat, HostId, Time, WorkloadId};

use crate::record::Event;
use crate::standing::Saved;

/// One thing to do. Serialised, it is what recordings compare decisions by.
#[derive(Clone, Debug, Serialize)]
pub enum Action {
    /// Write this to `/run` before any later action; if it cannot be written, end the process rather than go on (a heartbeat
    /// must never say what a restart would forget).
    Save(Box<Saved>),
    /// Seal and send to every configured host, on each of its links.
    Send(Arc<Heartbeat>),
    /// Seal and publish to the witness.
    Ask(Box<Ask>),
    /// Append to the journal. With a ticket: call `handle_durable` once it is on the disk, and only then (SAFE-5).
    Record {
        /// Names the step that waits for the disk.
        ticket: Option<Ticket>,
        /// What happened, or is intended.
        event: Box<Event>,
    },
    /// Have a device carry out one command. The intent is durable and standing was checked a moment ago: do it at once, or
    /// not at all.
    Device(DeviceOrder),
    /// Forget a device order that has not been answered: the answer no longer matters.
    CancelDevice(OrderId),
    /// Start, stop or kill a workload on this host.
    Workload {
        /// Which.
        id: WorkloadId,
        /// What to do with it.
        act: Act,
    },
    /// Open the hardware watchdog and feed it for the first time.
    ArmWatchdog,
    /// Feed the watchdog: standing was checked a moment ago.
    FeedWatchdog,
    /// Stop the watchdog by magic close: this life leaves.
    DisarmWatchdog,
    /// Reboot this host at once, without a shutdown, and without waiting for any disk. What follows holds if it fails.
    Reboot {
        /// Why, for the kernel's log.
        why: String,
    },
    /// Everything is said and written: end the process.
    Exit(ExitKind),
}

/// Names a step that waits for the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ticket(pub u64);

/// Names one command sent to one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OrderId(pub u64);

/// One command for one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceOrder {
    /// Quoted in the answer.
    pub id: OrderId,
    /// Position in the configuration's list of devices.
    pub device: DeviceId,
    /// The host that the device acts on.
    pub host: HostId,
    /// What to do.
    pub command: Command,
    /// When to give up, on the engine's clock.
    pub deadline: Time,
    /// A power order may be put on the wire only before this, unless `Engine::order_stands_until` renews it while it is
    /// under way. None for what changes nothing.
    pub standing_until: Option<Time>,
}

/// What to do with a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Act {
    /// Start it. Its claim is cleared and the intent is durable.
    Start,
    /// Stop it gracefully, within its stop time-out, else kill it.
    Stop,
    /// Kill it at once (SAFE-3: a kill, not a shutdown).
    Kill,
}

/// Why the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitKind {
    /// This life has left; the next start is a new life.
    Left,
    /// A planned restart of the agent; the life goes on.
    Restart,
    /// This life is dead in the eyes of its peers, or cut: start again as a new life.
    Reborn,
}

/// What a workload's driver reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkloadReport {
    /// A start succeeded: status read back as running.
    Started,
    /// A start failed; nothing runs.
    StartFailed(String),
    /// A stop or kill succeeded: status read back as stopped.
    Stopped,
    /// A stop or kill failed: it may still run.
    StopFailed(String),
    /// A look, not an act.
    Seen(Seen),
}

/// What a look at a workload on this host says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seen {
    /// It runs here.
    Running,
    /// It does not run here.
    Stopped,
    /// Cannot be told; taken for running wherever that is the safer reading.
    Unknown(String),
}

/// What a probe of a storage says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StorageHealth {
    /// A write with fsync went through.
    Healthy,
    /// It failed.
    Failed(String),
    /// Not probed yet, or the probe hangs. A workload is not started on it.
    Unknown,
}

/// An operator's statement. The shell has read it: it is about that host and its life, made just now, and the signature is good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// Word by word, with the signature under it if there is one: for the record.
    pub text: String,
    /// What the operator looked at.
    pub checked: String,
    /// Which of the configured operators has signed it.
    pub signer: Option<String>,
}

/// What an operator asks of this host's agent, on the local socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Fence a host now.
    Fence {
        /// The victim.
        host: HostId,
        /// The operator's words.
        reason: String,
        /// Who asks: the local user.
        by: String,
    },
    /// Stop a workload for good, or start it again.
    Desire {
        /// Which.
        workload: WorkloadId,
        /// Whether it is to run.
        run: bool,
        /// The operator's words.
        reason: String,
        /// Who asks: the local user.
        by: String,
    },
    /// State that a host is dead.
    Confirm {
        /// The host.
        host: HostId,
        /// Why it is stated.
        reason: String,
        /// Who asks: the local user.
        by: String,
        /// What is stated, if more than the reason is; or why that is not taken, as the clock and the signature tell.
        statement: Result<Option<Statement>, String>,
    },
    /// Have a host give its workloads away and take none, or let it run some again.
    Drain {
        /// The host.
        host: HostId,
        /// Whether it is drained.
        drain: bool,
        /// The operator's words.
        reason: String,
        /// Who asks: the local user.
        by: String,
    },
    /// Stop all automatic fencing for a while, or go on with it.
    Arm {
        /// For so long nothing is fenced; zero: it goes on.
        disarmed: Duration,
        /// The operator's words.
        reason: String,
        /// Who asks: the local user.
        by: String,
    },
    /// Let a host return that is kept out: give it its power and paths back, and end its quarantine.
    Unfence {
        /// The host.
        host: HostId,
        /// The operator's words.
        reason: String,
        /// Who asks: the local user.
        by: String,
    },
    /// Have a host leave and stay out, or end that.
    Maintain {
        /// The host.
        host: HostId,
        /// For how long it is said to last; `None`: it ends.
        length: Option<Duration>,
        /// The operator's words.
        reason: String,
        /// Who asks: the local user.
        by: String,
    },
}

/// An operator's order from afar, as the shell has read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FromAfar {
    /// What is asked; or why it is not taken, as clock, signatures and policy tell.
    pub request: Result<Request, String>,
    /// Who signed it.
    pub by: String,
    /// What it is, in words, for one that is not taken.
    pub order: String,
    /// Word by word, with its signatures; nothing of what no operator signed.
    pub text: Option<String>,
}

/// Why an operator's request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestRefused {
    /// This host has no quorum: its order could oppose another's.
    NotQuorate,
    /// A statement of death about a host that is heard (SAFE proof table: refused while any member hears the host).
    StillHeard {
        /// Who hears it.
        by: String,
    },
    /// That host is not counted by anybody: there is nothing to fence or confirm.
    NotCounted,
    /// A host does not fence or confirm itself.
    Itself,
    /// It has no fence device.
    NoDevice,
    /// The statement is not taken: why.
    Statement(String),
    /// The configuration names operators, and none of them has signed (SAFE-7).
    Unsigned,
    /// The journal does not take the intent (SAFE-5).
    JournalFailing(String),
    /// A fence of that host is under way.
    UnderWay,
    /// Another host decides that.
    NotCoordinator {
        /// Which.
        coordinator: String,
    },
    /// That host is counted: it needs no help to return, or is not proven dead yet.
    StillCounted,
    /// That host has left by its own word: it returns by itself.
    HasLeft,
    /// Fences are only recorded.
    Shadow,
    /// Somebody is heard who could not be told.
    OlderAgents,
    /// That host is in maintenance.
    InMaintenance,
    /// Nobody would be left.
    LastHost,
    /// Nothing of the kind lasts for so long.
    TooLong {
        /// The longest.
        most: Duration,
    },
}

impl core::fmt::Display for RequestRefused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotQuorate => f.write_str("this host has no quorum; ask on a host that has"),
            Self::StillHeard { by } => write!(f, "{by} hears that host: it is alive"),
            Self::NotCounted => {
                f.write_str("that host is in no electorate: it can do no harm and needs no fence")
            }
            Self::Itself => f.write_str("a host does not fence or confirm itself; ask on another one"),
            Self::NoDevice => f.write_str("the configuration names no fence device for that host"),
            Self::JournalFailing(error) => {
                write!(f, "the journal cannot be written ({error}); no order goes out unrecorded")
            }
            Self::Statement(why) => f.write_str(why),
            Self::Unsigned => f.write_str(
                "the configuration names operators ([[operator]]), so one of them has to sign this: add --key FILE",
            ),
            Self::UnderWay => f.write_str("a fence of that host is already under way"),
            Self::NotCoordinator { coordinator } => {
                write!(f, "{coordinator} coordinates, and decides who returns: ask there")
            }
            Self::StillCounted => f.write_str(
                "that host is counted: it is a member, or not proven dead yet, and gets nothing back before that",
            ),
            Self::HasLeft => f.write_str("that host has left: start it, or its agent, there"),
            Self::OlderAgents => f.write_str("the agent of a host that is heard is too old to be told: upgrade it first"),
            Self::InMaintenance => f.write_str("that host is in maintenance: end that first, with `palisade maintenance off`"),
            Self::LastHost => f.write_str("no other member would be left to go on: stop the agents instead, with `systemctl stop palisade`"),
            Self::TooLong { most } => write!(f, "it lasts for at most {most} at once: it must not be forgotten"),
            Self::Shadow => f.write_str("fencing is in shadow mode ([fencing] mode): nothing is switched"),
        }
    }
}
