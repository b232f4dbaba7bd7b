//! What is said, as meaning: the heartbeat of a host, the ask to the witness and its answer. [`crate::wire`] has the bytes.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::{Drift, Duration, HostId, Incarnation, MAX_HOSTS, WorkloadId, WorkloadSet};

/// The most distinct incarnations one heartbeat can name. 32 live ones, and as many that are dead but not yet forgotten.
pub const MAX_NAMES: usize = 64;
/// The most placements in one heartbeat; a coordinator with more orphans places the rest as these are claimed.
pub const MAX_PLACES: usize = 128;

/// The most failing probes that one heartbeat names; more of them say no more.
pub const MAX_AILS: usize = 8;

/// A sender's counter: starts at `CLOCK_BOOTTIME` in microseconds, so it never repeats within an incarnation. Not a time.
pub type Seq = u64;

/// A set of incarnations, in a fixed order, at most [`MAX_NAMES`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names(Vec<Incarnation, MAX_NAMES>);

impl Names {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Puts `name` in. False if the set is full and `name` was not in it.
    pub fn insert(&mut self, name: Incarnation) -> bool {
        match self.0.binary_search(&name) {
            Ok(_) => true,
            Err(at) => self.0.insert(at, name).is_ok(),
        }
    }

    /// Whether `name` is in the set.
    #[must_use]
    pub fn contains(&self, name: Incarnation) -> bool {
        self.0.binary_search(&name).is_ok()
    }

    /// The names in their fixed order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Incarnation> + '_ {
        self.0.iter().copied()
    }

    /// The names in their fixed order.
    #[must_use]
    pub fn as_slice(&self) -> &[Incarnation] {
        &self.0
    }

    /// How many names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Names past [`MAX_NAMES`] are left out; a caller that must not lose one bounds its set first.
impl FromIterator<Incarnation> for Names {
    fn from_iter<I: IntoIterator<Item = Incarnation>>(names: I) -> Self {
        let mut set = Self::new();
        for name in names {
            set.insert(name);
        }
        set
    }
}

/// A cold start, by its decider and the decider's seq at which it locked on itself. Names the lock, and afterwards (as
/// `found`) the lineage of every electorate that stems from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Founding {
    /// Who decides this cold start.
    pub decider: Incarnation,
    /// The decider's seq when it took the lock on itself.
    pub epoch: Seq,
}

/// "This is the last packet that I received from you", accepted or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// The packet's sender.
    pub of: Incarnation,
    /// Its seq.
    pub seq: Seq,
}

/// Support for the view that `to` asked for in its heartbeat `seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The asker.
    pub to: Incarnation,
    /// The seq of the ask.
    pub seq: Seq,
}

/// A coordinator's word on who should run an orphaned workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// What to run.
    pub workload: WorkloadId,
    /// Who should claim it.
    pub on: Incarnation,
}

/// How well a host is, as its own verdict says; orders views, witness ties and placement.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum HealthClass {
    /// Every level healthy.
    #[default]
    Healthy,
    /// Something is worse than it should be, or not known.
    Degraded,
    /// It cannot serve.
    Failed,
}

/// What operators want to run, as versioned by the host that last changed it. The higher version wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Rises with each change; ties fall to the greater stop set's bytes, so that every host decides alike.
    pub version: u64,
    /// Workloads that an operator stopped: they stay stopped until an operator starts them.
    pub stopped: WorkloadSet,
}

/// What operators want of hosts, as versioned by the host that last changed it. The higher version wins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wishes {
    /// Rises with each change; where two changes got the same one, what keeps most from being done holds.
    pub version: u64,
    /// Hosts that are to give their workloads away and take none: one bit for each host id.
    pub drained: u32,
    /// For how much longer nothing is fenced automatically; zero: fencing is armed.
    pub disarmed: Duration,
    /// Hosts in maintenance, each once, by rising id.
    pub maintenance: Vec<Maintenance, MAX_HOSTS>,
}

/// A host that is to leave, and to stay out: nobody fences it or powers it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// Which.
    pub host: HostId,
    /// For how much longer it was said to last, told in whole minutes, rounded up; zero: it outlasts its time.
    pub left: Duration,
}

/// Names a probe that fails: the first four bytes of its name's SHA-256, the first in the highest bits.
pub type Ail = u32;

/// Where a host stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Presence {
    /// Heartbeats only: no asks, no grants, no workloads.
    Joining,
    /// Admitted: the heartbeat is its ask for support of its view.
    Admitted,
    /// Admitted, announcing a planned restart of its agent: `view` is empty, it asks and grants nothing.
    Away,
    /// This life has ended by its own word. It never again asks, grants, claims, locks or runs.
    Left,
}

/// One heartbeat: an ask, a grant and the gossip at once (PROTOCOL, "State and heartbeats").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The sender.
    pub from: Incarnation,
    /// The sender's counter.
    pub seq: Seq,
    /// The sender's machine identity (DMI product UUID).
    pub machine: [u8; 16],
    /// The highest wire version that the sender can read.
    pub speaks: u8,
    /// Where it stands.
    pub presence: Presence,
    /// Its process is within its silent period: it cannot vote.
    pub silent: bool,
    /// It held a quorum when this was built. For display; nobody acts on it.
    pub quorate: bool,
    /// Which cold start its electorate stems from.
    pub found: Option<Founding>,
    /// Digest of the safety part of its configuration.
    pub digest: [u8; 8],
    /// Its lease length.
    pub lease: Duration,
    /// Its drift bound.
    pub drift: Drift,
    /// E: the incarnations it counts.
    pub electorate: Names,
    /// D: the incarnations it holds proof are dead (those in E, and as many of the others as there is room for).
    pub dead: Names,
    /// The part of `dead` that died by a fence which cut power: counted against the fence budget (SAFE-8).
    pub fenced: Names,
    /// C: the incarnations whose paths to shared state are cut.
    pub cut: Names,
    /// The incarnations that its own firewall keeps out, or is about to, or has not let through again yet. The coordinator's are an
    /// order to every other host.
    pub walls: Names,
    /// The part of `walls` that it has read back from its own firewall.
    pub walled: Names,
    /// V: the view it asks support for.
    pub view: Names,
    /// The incarnations it accepted a packet from within `suspect`.
    pub heard: Names,
    /// The last packet received from each host.
    pub echo: Vec<Echo, MAX_HOSTS>,
    /// The last ask granted to each host; always of an incarnation that `echo` names.
    pub grants: Vec<Grant, MAX_HOSTS>,
    /// Its cold-start lock.
    pub lock: Option<Founding>,
    /// Workloads it runs or has claimed.
    pub busy: WorkloadSet,
    /// Workloads it could not start, or may not: to be placed elsewhere.
    pub refused: WorkloadSet,
    /// Members whose echo of its claim is lacking.
    pub awaits: Names,
    /// Placements (coordinator only).
    pub place: Vec<Place, MAX_PLACES>,
    /// What operators want to run.
    pub desired: Desired,
    /// Its own verdict on itself.
    pub health: HealthClass,
    /// Load in 1/1000 of its capacity; orders placement among equals.
    pub load: u16,
    /// Probes of its own that fail, in rising order: a cause common to many hosts shows by it.
    pub ails: Vec<Ail, MAX_AILS>,
    /// What operators want of hosts.
    pub wishes: Wishes,
    /// The bound after which its silence means that its hardware watchdog has fired; zero: none is armed.
    pub watchdog_bound: Duration,
}

impl Heartbeat {
    /// The last packet of `host` that the sender had received.
    #[must_use]
    pub fn echo_of(&self, host: HostId) -> Option<Echo> {
        self.echo.iter().copied().find(|echo| echo.of.host == host)
    }

    /// The last ask of `asker` that the sender granted.
    #[must_use]
    pub fn grant_to(&self, asker: Incarnation) -> Option<Seq> {
        self.grants.iter().find(|grant| grant.to == asker).map(|grant| grant.seq)
    }
}

/// What a host wants of the witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AskKind {
    /// Support for an exact half. `incumbent`: the asker's last grant from the witness expired less than 3*Ls ago, or has not.
    Ordinary {
        /// See above.
        incumbent: bool,
    },
    /// Consent to fence in a cold start: a right to fence, never a quorum.
    Cold,
    /// "A quorate electorate lives": sent every 5 s by every quorate host, answered, never granted.
    Beacon,
}

/// A host's message to the witness. `view` is empty in a beacon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// The asker.
    pub from: Incarnation,
    /// The asker's counter (the same as for its heartbeats).
    pub seq: Seq,
    /// What is wanted.
    pub kind: AskKind,
    /// The view (or, for [`AskKind::Cold`], the hosts present) to support.
    pub view: Names,
    /// The asker's lease length: must be the witness's.
    pub lease: Duration,
    /// The asker's drift bound: must be the witness's.
    pub drift: Drift,
}

/// What the witness says to an ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Supported.
    Granted,
    /// A beacon was noted.
    Noted,
    /// Its process started less than a lease ago.
    Silent,
    /// Just out of its silent period: only an incumbent is served.
    IncumbentsOnly,
    /// Another view is supported.
    Conflict,
    /// A cold ask while an electorate lives, or may live.
    ElectorateLives,
    /// Lease length or drift differ from the witness's configuration.
    OtherTiming,
    /// No room: the cluster is larger than the witness was built for, or its table is full.
    Full,
}

/// The witness's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The life of the witness: a random name drawn at its start.
    pub start: [u8; 8],
    /// The witness's counter within that life.
    pub seq: Seq,
    /// Whose ask this answers.
    pub to: Incarnation,
    /// The seq of that ask.
    pub ask: Seq,
    /// What it says.
    pub verdict: Verdict,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_a_set_and_a_full_one_says_so() {
        let name = |n: u8| Incarnation::new(HostId::new(n % 32).unwrap(), [n; 8]);
        let mut names: Names = (0..64).rev().map(name).collect();
        assert_eq!(names.len(), 64);
        assert!(names.insert(name(5)), "already in");
        assert!(!names.insert(name(64)), "no room");
        assert!(names.contains(name(63)) && !names.contains(name(64)));
    }
}
