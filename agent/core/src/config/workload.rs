//! Workloads and the storages they need.

use std::path::{Path, PathBuf};

use palisade_ladder::Effect;
use palisade_proto::{Duration, HostId, WorkloadId};

/// A storage that workloads may name; probed by write and fsync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) luns: Vec<String>,
}

impl Storage {
    /// What workloads call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The absolute path at which it is mounted on each host.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The logical units that it is made of, for reservations: `naa.`, `eui.` or `uuid.` and lower-case hexadecimal digits, as VPD page
    /// 83h (SPC-4 7.8.6) and `/sys/block/sd*/device/wwid` tell them, or `/sys/block/nvme*/wwid`.
    #[must_use]
    pub fn luns(&self) -> &[String] {
        &self.luns
    }
}

/// What people run this for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    pub(super) id: WorkloadId,
    pub(super) name: String,
    pub(super) hosts: Vec<HostId>,
    pub(super) priority: i32,
    pub(super) start_after: Vec<WorkloadId>,
    pub(super) anti_affinity: Option<String>,
    pub(super) storage: Vec<String>,
    pub(super) proofs: Vec<Effect>,
    pub(super) start_timeout: Duration,
    pub(super) stop_timeout: Duration,
    pub(super) kind: WorkloadKind,
}

impl Workload {
    /// Explicit and permanent.
    #[must_use]
    pub fn id(&self) -> WorkloadId {
        self.id
    }

    /// What operators call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it may run, the preferred host first; never empty.
    #[must_use]
    pub fn hosts(&self) -> &[HostId] {
        &self.hosts
    }

    /// Higher is placed first.
    #[must_use]
    pub fn priority(&self) -> i32 {
        self.priority
    }

    /// The workloads that must run before it starts; without a circle.
    #[must_use]
    pub fn start_after(&self) -> &[WorkloadId] {
        &self.start_after
    }

    /// Workloads of one group are kept on different hosts.
    #[must_use]
    pub fn anti_affinity(&self) -> Option<&str> {
        self.anti_affinity.as_deref()
    }

    /// The names of the storages that must be healthy where it runs.
    #[must_use]
    pub fn storage(&self) -> &[String] {
        &self.storage
    }

    /// Which isolation of a host is as good as its word that it does not run this: [`Effect::Storage`] where every disk of the
    /// workload lies on storages that a fence device takes away, [`Effect::Network`] where the network is its only way to shared
    /// state. A death suffices always.
    #[must_use]
    pub fn proofs(&self) -> &[Effect] {
        &self.proofs
    }

    /// How long a start may take.
    #[must_use]
    pub fn start_timeout(&self) -> Duration {
        self.start_timeout
    }

    /// How long a graceful stop may take.
    #[must_use]
    pub fn stop_timeout(&self) -> Duration {
        self.stop_timeout
    }

    /// How it is started, stopped and asked.
    #[must_use]
    pub fn kind(&self) -> &WorkloadKind {
        &self.kind
    }
}

/// How a workload is started, stopped and asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkloadKind {
    /// Three commands, each a program's absolute path with its arguments.
    Command {
        /// Exit 0: started.
        start: Vec<String>,
        /// Exit 0: stopped.
        stop: Vec<String>,
        /// Exit 0: running; 3: stopped; anything else: unknown.
        status: Vec<String>,
    },
    /// A systemd unit, never an enabled one (SAFE-9).
    Systemd {
        /// Its full name, such as `db.service`.
        unit: String,
    },
    /// A transient libvirt domain, never an autostarted one (SAFE-9).
    Libvirt {
        /// The domain's name.
        domain: String,
        /// The absolute path of its XML.
        xml: PathBuf,
    },
}
