//! What happened, as the journal keeps it. The same record serves audit, `why`, telemetry and metrics.

use core::fmt;

use palisade_ladder::Command;
use palisade_proto::{Incarnation, WorkloadId};
use serde::{Deserialize, Serialize};

use crate::config::Level;
use crate::health::Verdict;

/// A host in one of its lives, as a reader knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The configured name.
    pub host: String,
    /// The life's name, 16 hexadecimal digits.
    pub life: String,
}

impl Who {
    /// `incarnation`, with the host's configured name.
    #[must_use]
    pub fn new(host: &str, incarnation: Incarnation) -> Self {
        Self { host: host.to_owned(), life: incarnation.life.to_string() }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)
    }
}

/// A workload as a reader knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct What {
    /// The permanent id.
    pub id: WorkloadId,
    /// The configured name.
    pub name: String,
}

/// A host in maintenance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintained {
    /// Its name.
    pub host: String,
    /// For how much longer it was said to last, in ms; zero: it outlasts its time.
    pub left_ms: u64,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// One step of the agent's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// The agent's process started.
    Started {
        /// Its life.
        me: Who,
        /// Whether it goes on with the life of an earlier process.
        resumed: bool,
    },
    /// A cold start's lock was taken or given up.
    Lock {
        /// Whose lock; `None`: given up.
        on: Option<Who>,
        /// Why.
        why: String,
    },
    /// This decider committed a cold start.
    Founded {
        /// The first electorate.
        electorate: Vec<Who>,
    },
    /// This life was admitted.
    Admitted {
        /// Who is counted.
        electorate: Vec<Who>,
    },
    /// Who is counted changed.
    Electorate {
        /// Counted from now on.
        joined: Vec<Who>,
        /// No longer counted.
        removed: Vec<Who>,
        /// How many are counted now.
        count: usize,
    },
    /// The view changed.
    View {
        /// With whom this host stands.
        view: Vec<Who>,
        /// Who fell out of it, and for how long each had not been heard, in ms.
        lost: Vec<Lost>,
    },
    /// Standing changed.
    Standing {
        /// Whether a quorum is held.
        quorate: bool,
        /// Who supports this host's view.
        votes: Vec<Who>,
        /// Whether the witness does.
        witness: bool,
        /// Votes needed of how many counted.
        needed: String,
    },
    /// The witness said something new.
    Witness {
        /// What it said.
        verdict: String,
    },
    /// The coordinator decided that a host must be fenced.
    FenceDecided {
        /// The victim.
        victim: Who,
        /// Why.
        because: String,
    },
    /// A device command is intended; nothing has left yet (SAFE-5).
    OrderIntended {
        /// The victim.
        victim: Who,
        /// The device's configured name.
        device: String,
        /// What will be sent.
        command: Command,
        /// Which try this is.
        attempt: u32,
    },
    /// A device answered, or did not.
    OrderAnswered {
        /// The victim.
        victim: Who,
        /// The device's configured name.
        device: String,
        /// What had been sent.
        command: Command,
        /// What came, in words.
        answer: String,
        /// From the order to the answer, in ms.
        took_ms: u64,
    },
    /// A proof that an incarnation is dead was obtained or learned.
    Dead {
        /// The dead.
        victim: Who,
        /// Which proof.
        proof: String,
        /// Its evidence, or from whom it was learned.
        evidence: String,
    },
    /// A proof that an incarnation is cut from what it could harm was obtained or learned. It lives, and its vote is counted.
    Isolated {
        /// The one that is cut off.
        victim: Who,
        /// Which proof.
        proof: String,
        /// Its evidence, or from whom it was learned.
        evidence: String,
        /// The workloads that may run elsewhere because of it.
        frees: Vec<What>,
    },
    /// A fence came to no proof; it goes on later.
    FenceFailed {
        /// The victim.
        victim: Who,
        /// What each device said.
        why: String,
        /// When it is tried again, in ms.
        retry_in_ms: u64,
    },
    /// Something was not done, on purpose.
    Withheld {
        /// What.
        what: String,
        /// Why.
        why: String,
    },
    /// The coordinator named who should run a workload.
    Placed {
        /// What.
        workload: What,
        /// On which host.
        on: Who,
        /// Why there and why now.
        because: String,
    },
    /// This host claimed a workload.
    Claimed {
        /// What.
        workload: What,
    },
    /// A claim was given up.
    ClaimDropped {
        /// What.
        workload: What,
        /// Why.
        why: String,
    },
    /// A start is intended; nothing has started yet (SAFE-5).
    StartIntended {
        /// What.
        workload: What,
        /// What clears it: who said that it does not run it, and who is proven dead (SAFE-1).
        cleared_by: String,
    },
    /// A workload's state on this host changed.
    Workload {
        /// What.
        workload: What,
        /// `starting`, `running`, `stopping`, `stopped`, `failed`.
        state: String,
        /// Details.
        detail: String,
    },
    /// Every workload was killed because standing was lost (SAFE-3).
    SelfFenced {
        /// Why.
        why: String,
    },
    /// This host fences itself: it reboots at once.
    Reboots {
        /// Why.
        why: String,
    },
    /// A probe's verdict on this host turned.
    Probe {
        /// The probe's name.
        probe: String,
        /// Its level.
        level: Level,
        /// What it is now.
        verdict: Verdict,
        /// Why, unless it is healthy.
        why: String,
    },
    /// This life announces its end.
    Left {
        /// Why.
        why: String,
    },
    /// This process announces its restart.
    Away,
    /// What operators want to run changed; the last such record of a journal is what holds after a boot.
    Desired {
        /// Rises with each change.
        version: u64,
        /// The workloads that stay stopped.
        stopped: Vec<What>,
        /// Who changed it, or who told this host.
        by: String,
    },
    /// What operators want of hosts changed; the last such record of a journal is what holds after a boot.
    Wished {
        /// Rises with each change.
        version: u64,
        /// The hosts that are to run nothing, by name.
        drained: Vec<String>,
        /// For how much longer nothing is fenced automatically, in ms; zero: fencing is armed.
        disarmed_ms: u64,
        /// Who changed it, or who told this host.
        by: String,
        /// The hosts in maintenance.
        #[serde(default)]
        maintenance: Vec<Maintained>,
    },
    /// Something that a person should look at; said once when it begins.
    Alarm {
        /// What.
        what: String,
    },
    /// That is no longer so.
    AlarmCleared {
        /// What was.
        what: String,
    },
    /// The configuration was read, or refused.
    Configuration {
        /// What came of it.
        outcome: String,
    },
    /// An operator asked for something.
    Operator {
        /// Who.
        by: String,
        /// What.
        asked: String,
        /// Granted, or why not.
        outcome: String,
        /// What an operator stated, as it was signed, with the signature: `ssh-keygen -Y verify` checks it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        statement: Option<String>,
    },
}

/// A host that fell out of the view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Who.
    pub who: Who,
    /// For how long this host had not heard it, in ms.
    pub silent_ms: u64,
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    if items.is_empty() {
        return "nobody".to_owned();
    }
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn nothing_or(workloads: &[What]) -> String {
    if workloads.is_empty() { "nothing".to_owned() } else { list(workloads) }
}

/// One sentence for a reader who did not build this.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { me, resumed: true } => {
                write!(f, "agent of {me} started and goes on with its life {}", me.life)
            }
            Self::Started { me, resumed: false } => write!(f, "agent of {me} started a new life {}", me.life),
            Self::Lock { on: Some(on), why } => write!(f, "cold start: locked on {on} ({why})"),
            Self::Lock { on: None, why } => write!(f, "cold start: lock given up ({why})"),
            Self::Founded { electorate } => {
                write!(f, "cold start: founded the electorate {}", list(electorate))
            }
            Self::Admitted { electorate } => write!(f, "admitted; counted are {}", list(electorate)),
            Self::Electorate { joined, removed, count } => {
                if !joined.is_empty() {
                    write!(f, "counts {} from now on; ", list(joined))?;
                }
                if !removed.is_empty() {
                    write!(f, "no longer counts {}; ", list(removed))?;
                }
                write!(f, "{count} are counted")
            }
            Self::View { view, lost } => {
                write!(f, "stands with {}", list(view))?;
                lost.iter().try_for_each(|lost| {
                    write!(f, "; lost {} (not heard for {} ms)", lost.who, lost.silent_ms)
                })
            }
            Self::Standing { quorate: true, votes, witness, needed } => {
                let witness = if *witness { " and the witness" } else { "" };
                write!(f, "quorate by {}{witness} ({needed})", list(votes))
            }
            Self::Standing { quorate: false, votes, witness, needed } => {
                let witness = if *witness { " and the witness" } else { "" };
                write!(f, "NOT quorate: supported by {}{witness} only ({needed})", list(votes))
            }
            Self::Witness { verdict } => write!(f, "witness: {verdict}"),
            Self::FenceDecided { victim, because } => write!(f, "{victim} must be fenced: {because}"),
            Self::OrderIntended { victim, device, command, attempt } => {
                write!(f, "fence {victim}: will send {} to {device} (try {attempt})", words(*command))
            }
            Self::OrderAnswered { victim, device, command, answer, took_ms } => {
                write!(f, "fence {victim}: {device} on {}: {answer} ({took_ms} ms)", words(*command))
            }
            Self::Dead { victim, proof, evidence } => {
                write!(f, "{victim} is proven dead by {proof}: {evidence}")
            }
            Self::Isolated { victim, proof, evidence, frees } => {
                let frees = nothing_or(frees);
                write!(
                    f,
                    "{victim} is proven cut off by {proof}: {evidence}; that frees {frees}, and proves no death"
                )
            }
            Self::FenceFailed { victim, why, retry_in_ms } => {
                write!(f, "fence {victim}: no proof ({why}); next try in {retry_in_ms} ms")
            }
            Self::Withheld { what, why } => write!(f, "NOT done: {what}, because {why}"),
            Self::Placed { workload, on, because } => write!(f, "{workload} is to run on {on}: {because}"),
            Self::Claimed { workload } => write!(f, "claims {workload}"),
            Self::ClaimDropped { workload, why } => write!(f, "gives up its claim on {workload}: {why}"),
            Self::StartIntended { workload, cleared_by } => {
                write!(f, "will start {workload}; cleared by {cleared_by}")
            }
            Self::Workload { workload, state, detail } if detail.is_empty() => {
                write!(f, "{workload} is {state}")
            }
            Self::Workload { workload, state, detail } => write!(f, "{workload} is {state}: {detail}"),
            Self::SelfFenced { why } => write!(f, "killed its own workloads: {why}"),
            Self::Reboots { why } => write!(f, "fences itself by a reboot: {why}"),
            Self::Probe { probe, level, verdict: Verdict::Healthy, .. } => {
                write!(f, "{} {probe} is healthy again", level.name())
            }
            Self::Probe { probe, level, verdict, why } => {
                write!(f, "{} {probe} is {verdict}: {why}", level.name())
            }
            Self::Left { why } => write!(f, "leaves: {why}"),
            Self::Away => f.write_str("announces a restart of its agent; workloads run on"),
            Self::Desired { stopped, by, .. } => {
                write!(f, "to stay stopped, by {by}: {}", nothing_or(stopped))
            }
            Self::Wished { drained, disarmed_ms, by, maintenance, .. } => {
                match disarmed_ms {
                    0 => f.write_str("fencing is armed")?,
                    ms => write!(f, "fencing is DISARMED for {}", palisade_proto::Duration(*ms))?,
                }
                write!(f, ", drained: {}", list(drained))?;
                if !maintenance.is_empty() {
                    let hosts: Vec<String> = maintenance.iter().map(|one| one.host.clone()).collect();
                    write!(f, ", in MAINTENANCE: {}", list(&hosts))?;
                }
                write!(f, ", by {by}")
            }
            Self::Alarm { what } => write!(f, "ALARM: {what}"),
            Self::AlarmCleared { what } => write!(f, "alarm over: {what}"),
            Self::Configuration { outcome } => write!(f, "configuration: {outcome}"),
            Self::Operator { by, asked, outcome, statement: _ } => {
                write!(f, "operator {by} asked: {asked}: {outcome}")
            }
        }
    }
}

fn words(command: Command) -> &'static str {
    match command {
        Command::Off => "off",
        Command::On => "on",
        Command::Read => "status",
        Command::Prove => "prove",
    }
}
