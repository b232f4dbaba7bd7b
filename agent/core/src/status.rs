//! What `palisade status --json` prints: the agent's own view of things. Names are the configured ones; times in ms.

use serde::{Deserialize, Serialize};

use crate::config::{Level, Policy};
use crate::health::Verdict;

/// The whole status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The cluster's name.
    pub cluster: String,
    /// This host.
    pub host: String,
    /// This life's name.
    pub incarnation: String,
    /// Whether this life is admitted.
    pub admitted: bool,
    /// Whether this host may act.
    pub quorate: bool,
    /// Which cold start its electorate stems from.
    pub found: Option<String>,
    /// Who acts for the view, if it is quorate.
    pub coordinator: Option<String>,
    /// With whom it stands.
    pub view: Vec<String>,
    /// Whom it counts.
    pub electorate: Vec<String>,
    /// Whom it knows to be dead, in the order learned.
    pub dead: Vec<String>,
    /// Each configured host.
    pub hosts: Vec<HostStatus>,
    /// Each configured workload.
    pub workloads: Vec<WorkloadStatus>,
    /// The witness.
    pub witness: WitnessStatus,
    /// Each fence path as this host last proved it.
    pub fence_paths: Vec<FencePathStatus>,
    /// Why this host is not armed; empty when it is.
    pub not_armed: Vec<String>,
    /// The journal.
    pub journal: JournalStatus,
    /// For how much longer an operator keeps fencing disarmed; absent while it is armed.
    #[serde(default)]
    pub disarmed_ms: Option<u64>,
    /// Probes of this host that are not healthy.
    #[serde(default)]
    pub ills: Vec<IllStatus>,
    /// What a person should look at.
    pub alarms: Vec<String>,
}

/// One host as this one sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: u8,
    /// `member`, `joining`, `suspect`, `fencing`, `isolated` (cut from storage or network, its power not yet proven off), `dead`,
    /// `left`, `away`, `unheard`, or `maintenance` once it is out for that.
    pub state: String,
    /// Whether an operator wants it to run nothing.
    #[serde(default)]
    pub drained: bool,
    /// Whether an operator has put it into maintenance, and for how much longer it was said to last; zero: it outlasts its time.
    #[serde(default)]
    pub maintenance_ms: Option<u64>,
    /// The last life known of it.
    pub incarnation: Option<String>,
    /// How long ago it was heard.
    pub heard_ms: Option<u64>,
    /// `healthy`, `degraded` or `failed`, by its own word.
    pub health: Option<String>,
}

/// One workload as this host sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadStatus {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: u8,
    /// `running` or `stopped`.
    pub desired: String,
    /// Who says that it runs or claims it.
    pub on: Vec<String>,
    /// `stopped`, `claimed`, `starting`, `running`, `stopping` or `failed`, on this host.
    pub here: String,
}

/// The witness as this host sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessStatus {
    /// Whether the configuration names one.
    pub configured: bool,
    /// How long ago an ask was sent that it answered.
    pub proven_ms: Option<u64>,
    /// Whether its support counts now.
    pub granting: bool,
}

/// One fence path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FencePathStatus {
    /// The device's name.
    pub device: String,
    /// The host it fences.
    pub fences: String,
    /// How long ago it was proven: login, privilege, identity.
    pub proven_ms: Option<u64>,
    /// What is wrong with it.
    pub error: Option<String>,
}

/// A probe of this host that is not healthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IllStatus {
    /// The probe's name.
    pub probe: String,
    /// Its level.
    pub level: Level,
    /// Its verdict: also `healthy`, while fewer failures than it takes were seen.
    pub verdict: Verdict,
    /// What a verdict of failure leads to.
    pub policy: Policy,
    /// In words.
    pub why: String,
}

/// The journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalStatus {
    /// Whether it takes records.
    pub ok: bool,
    /// Why not.
    pub error: Option<String>,
}
