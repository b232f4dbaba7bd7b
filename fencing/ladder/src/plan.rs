//! What a fence of one host consists of: levels of devices, tried in order. Data only.

use core::fmt;

use palisade_proto::Duration;
use serde::{Deserialize, Serialize};

use crate::ProofKind;

/// A fence device, by its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceId(pub u16);

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a device takes from a host, and so what its reading proves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Its power: the host is dead.
    #[default]
    Power,
    /// Its way to shared storage: it lives, and harms no disk there.
    Storage,
    /// Its network: it lives, and harms nothing that is reached by network alone.
    Network,
}

impl Effect {
    /// What off readings of such devices prove.
    #[must_use]
    pub const fn proves(self) -> ProofKind {
        match self {
            Self::Power => ProofKind::PowerOff,
            Self::Storage => ProofKind::StorageRevoked,
            Self::Network => ProofKind::NetworkCut,
        }
    }
}

/// How to take one thing from one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What all of its devices take.
    pub effect: Effect,
    /// In the order in which they are tried; a level is left for the next one only when it cannot prove.
    pub levels: Vec<Level>,
    /// How the first command is chosen.
    pub opening: Opening,
    /// Whether it gets back what was taken, once its proof is there.
    pub after_off: After,
    /// The end of one run through all levels; then a rest, then the next run.
    pub order_deadline: Duration,
}

/// Devices that work together: the level proves only when each of them does (a host with two power feeds).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// Never empty in a plan from a checked configuration; an empty level proves nothing.
    pub devices: Vec<PlannedDevice>,
}

/// One device within a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedDevice {
    /// Which one.
    pub id: DeviceId,
    /// How long one command may take, and how long an acknowledged off may take to be read back.
    pub deadline: Duration,
    /// The most tries of the off within one run, the first included; zero counts as one.
    pub retries: u32,
}

/// What a fence does first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Opening {
    /// The off, at once: the fastest way. An off that the device acknowledges counts against the budget, since many devices
    /// acknowledge even when the power is off already.
    #[default]
    CutAtOnce,
    /// A reading first, waited for no longer than [`crate::course::FIRST_READING`]: a host that reads off already costs no
    /// budget (SAFE-8). Then the off in any case.
    LookFirst,
    /// A reading first, and the off only if it reads off: for when the budget is spent (SAFE-8).
    OnlyIfOff,
}

/// What becomes of what was taken from a host, once that is proven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum After {
    /// It comes back (the caller starts this: [`crate::Fence::give_back`]).
    #[default]
    On,
    /// It stays off.
    Off,
}
