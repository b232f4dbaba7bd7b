//! What a host looks at on itself: the probes, and what their verdicts are to lead to.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use palisade_proto::{Duration, HostId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Names a probe on the wire and in memory: the first four bytes of its name's SHA-256. Two names of one configuration never share
/// one: it would not load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProbeId(pub u32);

impl ProbeId {
    /// That of a probe with this name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let hash = Sha256::digest(name.as_bytes());
        Self(hash.iter().take(4).fold(0, |id, byte| id << 8 | u32::from(*byte)))
    }
}

/// Which of the four questions a probe belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Liveness: are the processes there.
    L1,
    /// Readiness: can the host serve.
    L2,
    /// Capacity: is there room.
    L3,
    /// The cluster as a whole.
    L4,
}

impl Level {
    /// All of them, in their order.
    pub const ALL: [Self; 4] = [Self::L1, Self::L2, Self::L3, Self::L4];

    /// `l1` to `l4`, as topics and files call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::L1 => "l1",
            Self::L2 => "l2",
            Self::L3 => "l3",
            Self::L4 => "l4",
        }
    }
}

/// What a verdict of failure leads to. Whatever it is, it leads to an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Nothing more.
    Report,
    /// The host gives its workloads to others that may run them, and takes none; what cannot be stopped, it fences itself for.
    Drain,
    /// The host reboots at once, without a shutdown, if somebody else may run what it runs.
    Fence,
}

/// The levels' defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    pub(super) after: u32,
    pub(super) back: u32,
    pub(super) every: [Duration; 4],
    pub(super) on_failure: [Policy; 4],
}

impl Default for Health {
    fn default() -> Self {
        Self {
            after: 3,
            back: 3,
            every: [Duration::secs(10), Duration::secs(30), Duration::secs(60), Duration::secs(300)],
            on_failure: [Policy::Report, Policy::Drain, Policy::Report, Policy::Report],
        }
    }
}

impl Health {
    /// How often a level is looked at, unless a probe says otherwise.
    #[must_use]
    pub fn every(&self, level: Level) -> Duration {
        let [l1, l2, l3, l4] = self.every;
        match level {
            Level::L1 => l1,
            Level::L2 => l2,
            Level::L3 => l3,
            Level::L4 => l4,
        }
    }

    /// What a failure on a level leads to, unless a probe says otherwise.
    #[must_use]
    pub fn on_failure(&self, level: Level) -> Policy {
        let [l1, l2, l3, l4] = self.on_failure;
        match level {
            Level::L1 => l1,
            Level::L2 => l2,
            Level::L3 => l3,
            Level::L4 => l4,
        }
    }

    /// So many failures in a row make a verdict.
    #[must_use]
    pub fn after(&self) -> u32 {
        self.after
    }

    /// So many good samples in a row take it back.
    #[must_use]
    pub fn back(&self) -> u32 {
        self.back
    }
}

/// One thing that is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub(super) id: ProbeId,
    /// It stands in the file, and is none of those that every host has.
    pub(super) written: bool,
    pub(super) name: String,
    pub(super) level: Level,
    pub(super) kind: ProbeKind,
    pub(super) on: Vec<HostId>,
    pub(super) every: Duration,
    pub(super) timeout: Duration,
    pub(super) slow: Option<Duration>,
    pub(super) after: u32,
    pub(super) back: u32,
    pub(super) on_failure: Policy,
}

impl Probe {
    /// Its permanent name on the wire.
    #[must_use]
    pub fn id(&self) -> ProbeId {
        self.id
    }

    /// What operators call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The level that it belongs to.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// What is looked at, and how.
    #[must_use]
    pub fn kind(&self) -> &ProbeKind {
        &self.kind
    }

    /// Whether it is looked at on `host`.
    #[must_use]
    pub fn is_on(&self, host: HostId) -> bool {
        self.on.contains(&host)
    }

    /// How often.
    #[must_use]
    pub fn every(&self) -> Duration {
        self.every
    }

    /// No answer within this is a failure.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// An answer that takes longer is `Degraded`.
    #[must_use]
    pub fn slow(&self) -> Option<Duration> {
        self.slow
    }

    /// So many failures in a row make a verdict.
    #[must_use]
    pub fn after(&self) -> u32 {
        self.after
    }

    /// So many good samples in a row take it back.
    #[must_use]
    pub fn back(&self) -> u32 {
        self.back
    }

    /// What a verdict of failure leads to.
    #[must_use]
    pub fn on_failure(&self) -> Policy {
        self.on_failure
    }

    /// From the first failure to the verdict, at most: every sample up to the last in the row, and the last one's time-out.
    #[must_use]
    pub fn verdict_within(&self) -> Duration {
        Duration(self.every.0.saturating_mul(u64::from(self.after)).saturating_add(self.timeout.0))
    }

    /// The storage that it looks at, if it is one of those that workloads name.
    #[must_use]
    pub fn storage(&self) -> Option<&str> {
        match &self.kind {
            ProbeKind::Storage { storage, .. } => storage.as_deref(),
            ProbeKind::Process { .. }
            | ProbeKind::Unit { .. }
            | ProbeKind::Tcp { .. }
            | ProbeKind::Http(_)
            | ProbeKind::Command { .. }
            | ProbeKind::Gateway { .. }
            | ProbeKind::Libvirt { .. }
            | ProbeKind::Capacity(_)
            | ProbeKind::Clock { .. } => None,
        }
    }
}

/// What is looked at, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// At least one process has this name (`/proc/PID/comm`).
    Process {
        /// At most 15 bytes: what the kernel keeps.
        name: String,
    },
    /// A systemd unit is active.
    Unit {
        /// Its full name.
        unit: String,
    },
    /// Something accepts connections.
    Tcp {
        /// Where.
        address: SocketAddr,
    },
    /// An HTTP resource answers with 2xx.
    Http(HttpProbe),
    /// A program ends with status 0; with 1 it calls the thing degraded (as monitoring plug-ins do), with 3 unknown.
    Command {
        /// Its absolute path and its arguments.
        command: Vec<String>,
    },
    /// A small file can be written and synced.
    Storage {
        /// The storage of the configuration, if it is one.
        storage: Option<String>,
        /// The directory.
        path: PathBuf,
    },
    /// A neighbour answers an echo (ICMP).
    Gateway {
        /// Whose address.
        address: IpAddr,
    },
    /// A hypervisor's API answers: `virsh -c URI list`.
    Libvirt {
        /// Its connection URI.
        uri: String,
    },
    /// Processor, memory, pressure, disk space and temperature.
    Capacity(CapacityLimits),
    /// The host's clock is disciplined.
    Clock {
        /// It may be off by so much.
        within: Duration,
    },
}

impl ProbeKind {
    /// As the configuration calls it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Process { .. } => "process",
            Self::Unit { .. } => "unit",
            Self::Tcp { .. } => "tcp",
            Self::Http(_) => "http",
            Self::Command { .. } => "command",
            Self::Storage { .. } => "storage",
            Self::Gateway { .. } => "gateway",
            Self::Libvirt { .. } => "libvirt",
            Self::Capacity(_) => "capacity",
            Self::Clock { .. } => "clock",
        }
    }
}

/// `http://ADDRESS[:PORT]/PATH`, with a numeric address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProbe {
    pub(super) address: SocketAddr,
    pub(super) path: String,
}

impl HttpProbe {
    /// Where.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is asked for, from the first slash.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// From where on a host has too little left. In 1/1000.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapacityLimits {
    pub(super) memory: u32,
    pub(super) pressure: u32,
    pub(super) disk: u32,
    pub(super) disk_full: u32,
    pub(super) disks: Vec<PathBuf>,
}

impl CapacityLimits {
    /// More memory taken is `Degraded`.
    #[must_use]
    pub fn memory(&self) -> u32 {
        self.memory
    }

    /// More time spent waiting for any of processor, memory and disk is `Degraded`.
    #[must_use]
    pub fn pressure(&self) -> u32 {
        self.pressure
    }

    /// More space taken is `Degraded`.
    #[must_use]
    pub fn disk(&self) -> u32 {
        self.disk
    }

    /// More space taken is `Failed`.
    #[must_use]
    pub fn disk_full(&self) -> u32 {
        self.disk_full
    }

    /// The file systems looked at, by a path on each.
    pub fn disks(&self) -> impl Iterator<Item = &Path> {
        self.disks.iter().map(PathBuf::as_path)
    }
}
