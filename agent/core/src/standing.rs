//! What of a life must outlast its agent's process: kept in `/run`, gone with the boot on purpose.

use palisade_proto::{Founding, HostId, Incarnation, LifeName, Seq, Time, WorkloadId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::engine::Wished;

/// The part of the engine's state that an agent restart keeps (PROTOCOL, "State and heartbeats"): written before the
/// heartbeat that says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Which life of this boot: 0 for the first.
    pub life: u64,
    /// This life has ended; the next start is life + 1, with nothing else kept.
    pub left: bool,
    /// Whether this life was admitted.
    pub admitted: bool,
    /// Which cold start the electorate stems from.
    pub found: Option<Founding>,
    /// E.
    pub electorate: Vec<Incarnation>,
    /// D, in the order learned, each with the time it was learned.
    pub dead: Vec<SavedDeath>,
    /// C.
    pub cut: Vec<Incarnation>,
    /// C once more, with the digest of the configuration that said what each is cut from.
    #[serde(default)]
    pub cut_under: Vec<(Incarnation, [u8; 8])>,
    /// Hosts that an operator must let return (SAFE-8).
    #[serde(default)]
    pub quarantined: Vec<HostId>,
    /// The lives that this host's own firewall is to keep out.
    #[serde(default)]
    pub walls: Vec<Incarnation>,
    /// The cold-start lock.
    pub lock: Option<Founding>,
    /// Claims: workloads this host runs or may start.
    pub claims: Vec<WorkloadId>,
    /// The claims whose start has not been seen to succeed: a new process kills these before it goes on.
    pub unsettled: Vec<WorkloadId>,
    /// The version of what operators want to run; outlives this life.
    #[serde(default)]
    pub desired_version: u64,
    /// Workloads that an operator stopped.
    #[serde(default)]
    pub stopped: Vec<WorkloadId>,
    /// What operators want of hosts; outlives this life.
    #[serde(default)]
    pub wished: Wished,
    /// The watchdog was armed by this life.
    pub watchdog_armed: bool,
    /// Which lives lost their power by a fence, and when, for the budget (SAFE-8); times of this boot.
    pub fences: Vec<(Incarnation, Time)>,
    /// Since when there has been no quorum: a new process does not begin its `grace` anew (SAFE-3).
    pub lost_since: Option<Time>,
}

/// One known death.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedDeath {
    /// Who.
    pub who: Incarnation,
    /// When this host learned it, on its boot clock.
    pub learned: Time,
    /// A fence cut its power.
    pub fenced: bool,
}

impl Saved {
    /// A life of which nothing is known yet.
    #[must_use]
    pub fn new(life: u64) -> Self {
        Self {
            life,
            left: false,
            admitted: false,
            found: None,
            electorate: Vec::new(),
            dead: Vec::new(),
            cut: Vec::new(),
            cut_under: Vec::new(),
            quarantined: Vec::new(),
            walls: Vec::new(),
            lock: None,
            claims: Vec::new(),
            unsettled: Vec::new(),
            desired_version: 0,
            stopped: Vec::new(),
            wished: Wished::default(),
            watchdog_armed: false,
            fences: Vec::new(),
            lost_since: None,
        }
    }
}

/// What a starting process knows of itself. Read by the shell, judged by [`awaken`].
#[derive(Clone, Debug)]
pub struct Birth {
    /// Which configured host this is.
    pub host: HostId,
    /// The kernel's boot id.
    pub boot_id: [u8; 16],
    /// DMI product UUID.
    pub machine: [u8; 16],
    /// `CLOCK_BOOTTIME` in microseconds: the first seq.
    pub first_seq: Seq,
    /// What `/run` holds.
    pub saved: SavedState,
    /// Whether the journal's records of this boot say that a life of it was admitted.
    pub journal_says_admitted: bool,
}

/// What was found in `/run`.
#[derive(Clone, Debug)]
pub enum SavedState {
    /// Nothing: no agent has run in this boot, or its state was removed.
    Absent,
    /// There, but unreadable.
    Unreadable(String),
    /// There.
    Found(Box<Saved>),
}

/// With which life a process begins.
#[derive(Clone, Debug)]
pub enum Awakening {
    /// Go on, or begin, with this state.
    Live {
        /// The life's name.
        me: Incarnation,
        /// Its state; to be written to `/run` before anything is sent.
        saved: Box<Saved>,
        /// Whether an earlier process lived it.
        resumed: bool,
    },
    /// An earlier process of this boot was admitted and what it promised is lost: only a reboot ends that life for sure.
    MustReboot {
        /// What is missing.
        why: String,
    },
}

/// Decides with which life a process begins. PROTOCOL: "life is in /run, 0 at boot. An agent restart keeps it; [...] the
/// first agent start after a leave writes life+1 and erases the rest of that state in one write"; "If /run is unreadable
/// although this boot already had an admitted agent [...]: reboot; never start as new."
#[must_use]
pub fn awaken(birth: &Birth) -> Awakening {
    let live = |saved: Saved, resumed| Awakening::Live {
        me: Incarnation { host: birth.host, life: life_name(birth.boot_id, saved.life) },
        saved: Box::new(saved),
        resumed,
    };
    match &birth.saved {
        SavedState::Found(saved) if saved.left => {
            let (desired_version, stopped) = (saved.desired_version, saved.stopped.clone());
            // SAFE-8: the budget is the host's, whichever of its lives has spent it.
            let (fences, quarantined) = (saved.fences.clone(), saved.quarantined.clone());
            // Whoever is kept out is so until somebody who knows says that it is dead.
            let walls = saved.walls.clone();
            let next = Saved::new(saved.life.saturating_add(1));
            let wished = saved.wished.clone();
            live(Saved { desired_version, stopped, fences, quarantined, walls, wished, ..next }, false)
        }
        SavedState::Found(saved) => live(Saved::clone(saved), true),
        SavedState::Absent if birth.journal_says_admitted => Awakening::MustReboot {
            why: "the standing of this boot is missing from /run, but an agent was admitted in it".to_owned(),
        },
        SavedState::Unreadable(error) if birth.journal_says_admitted => Awakening::MustReboot {
            why: format!(
                "the standing of this boot cannot be read, but an agent was admitted in it: {error}"
            ),
        },
        SavedState::Absent | SavedState::Unreadable(_) => live(Saved::new(0), false),
    }
}

/// The 64-bit name of a life: the first eight bytes of SHA-256 over boot id and life number.
#[must_use]
pub fn life_name(boot_id: [u8; 16], life: u64) -> LifeName {
    let digest = Sha256::new()
        .chain_update(b"palisade life v1")
        .chain_update(boot_id)
        .chain_update(life.to_be_bytes())
        .finalize();
    let mut name = [0; 8];
    name.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    LifeName(name)
}
