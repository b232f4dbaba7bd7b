//! What can go wrong.

use super::{Micros, Rng, ms};

/// How packets fare between hosts (and, in its own instance, between hosts and witness).
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Each packet takes between these, in microseconds.
    pub delay: (Micros, Micros),
    /// So many of 1000 packets take up to `spike` instead.
    pub spike_permille: u64,
    /// See above; several leases at the worst.
    pub spike: Micros,
    /// So many of 1000 are lost.
    pub loss_permille: u64,
    /// So many of 1000 arrive twice.
    pub duplicate_permille: u64,
}

impl Weather {
    /// A quiet local network.
    pub const CALM: Self =
        Self { delay: (100, 1500), spike_permille: 0, spike: 0, loss_permille: 0, duplicate_permille: 0 };
    /// A broker in reach, with nothing wrong.
    pub const BROKER: Self =
        Self { delay: (500, 5000), spike_permille: 0, spike: 0, loss_permille: 0, duplicate_permille: 0 };

    pub(super) fn draw(rng: &mut Rng, lease: u64) -> Self {
        let low = rng.scale(50, 2000);
        Self {
            delay: (low, low + rng.scale(100, ms(lease / 4))),
            spike_permille: rng.pick(&[0, 0, 5, 50, 300]),
            spike: rng.scale(1000, ms(lease * 4)),
            loss_permille: rng.pick(&[0, 0, 10, 100, 400]),
            duplicate_permille: rng.pick(&[0, 0, 20, 300]),
        }
    }
}

/// How a BMC behaves. It never reads what is not so: that would be a lie no protocol survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BmcMode {
    /// Answers and acts within so many microseconds.
    Fine(Micros),
    /// Nothing comes back, nothing is done.
    Dead,
    /// Acts, but no answer arrives.
    Deaf(Micros),
    /// Acknowledges and does nothing.
    Lying,
    /// Acknowledges at once and acts so much later.
    Late(Micros),
    /// Acts at once, and once more so much later: a queue that keeps what it was sent twice.
    Twice(Micros),
    /// Refuses every command.
    Refusing,
    /// Says that it cannot tell, half of the time.
    Vague,
    /// Calls itself by another host's name.
    Stranger,
}

/// One thing that happens to the cluster.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The network between hosts changes.
    Weather(Weather),
    /// The way to the broker changes.
    Broker(Weather),
    /// One direction between two hosts is cut, or restored.
    Way {
        /// Sender.
        from: usize,
        /// Receiver.
        to: usize,
        /// Cut or restored.
        cut: bool,
    },
    /// The way to the witness is cut for one host, or restored.
    WitnessWay {
        /// Which host.
        host: usize,
        /// Cut or restored.
        cut: bool,
    },
    /// Power is lost; with a time, it comes back then.
    PowerLoss {
        /// Which host.
        host: usize,
        /// After how long it boots again.
        back: Option<Micros>,
    },
    /// The agent's process dies between two of its actions; it is started again after the time.
    AgentCrash {
        /// Which host.
        host: usize,
        /// After how long it starts.
        down: Micros,
        /// How many actions of its next input it still carries out.
        after_actions: usize,
    },
    /// A planned restart (upgrade).
    AgentRestart {
        /// Which host.
        host: usize,
        /// After how long it starts.
        down: Micros,
    },
    /// A planned leave; with a time, the agent is started again then.
    Leave {
        /// Which host.
        host: usize,
        /// After how long it starts.
        back: Option<Micros>,
    },
    /// The whole host stands still.
    Freeze {
        /// Which host.
        host: usize,
        /// For how long.
        length: Micros,
    },
    /// The whole host stands still between the agent's decision to feed its watchdog and the feed.
    FreezeAtFeed {
        /// Which host.
        host: usize,
        /// For how long.
        length: Micros,
    },
    /// The whole host stands still while its journal writes that it is about to fence.
    FreezeAtIntent {
        /// Which host.
        host: usize,
        /// For how long.
        length: Micros,
    },
    /// Whenever the machine boots, something starts a workload on it that nobody guards: an init script, a hypervisor's autostart.
    Autostart {
        /// Which host.
        host: usize,
        /// Which, by position.
        workload: usize,
    },
    /// For a while, whatever a host says comes a second time, late: also what it said to nobody over a cut link.
    Echo {
        /// Which host.
        host: usize,
        /// For how long it speaks so.
        length: Micros,
        /// How much later the copies arrive.
        late: Micros,
    },
    /// The witness's process dies and starts after the time.
    WitnessRestart {
        /// After how long.
        down: Micros,
    },
    /// The broker's process dies and starts after the time; what its clients send meanwhile is lost, or arrives late.
    BrokerRestart {
        /// After how long.
        down: Micros,
        /// Whether clients keep what they could not send.
        keeps: bool,
    },
    /// A BMC behaves otherwise.
    Bmc {
        /// Of which host.
        host: usize,
        /// How.
        mode: BmcMode,
    },
    /// The device that cuts a host's network behaves otherwise.
    Path {
        /// Of which host.
        host: usize,
        /// How.
        mode: BmcMode,
    },
    /// Whether the BMC says so when the power is already off.
    BmcSaysAlready {
        /// Of which host.
        host: usize,
        /// True: it refuses with "already off".
        says: bool,
    },
    /// The journal can be written, or not.
    Journal {
        /// Which host.
        host: usize,
        /// Whether it fails.
        fails: bool,
    },
    /// Starts of workloads fail here, or no more.
    StartsFail {
        /// Which host.
        host: usize,
        /// Whether they fail.
        fails: bool,
    },
    /// A probe of a host fails, or no longer does.
    Ail {
        /// Which host.
        host: usize,
        /// Which, by position.
        probe: usize,
        /// Whether it fails.
        fails: bool,
    },
    /// An operator drains a host, or lets it run workloads again.
    OperatorDrains {
        /// On which host it is said.
        on: usize,
        /// Which.
        host: usize,
        /// Whether it is drained.
        drain: bool,
    },
    /// An operator puts a host into maintenance, or lets it back.
    OperatorMaintains {
        /// On which host it is said.
        on: usize,
        /// Which.
        host: usize,
        /// Whether it begins.
        begins: bool,
    },
    /// An operator disarms fencing for so long.
    OperatorDisarms {
        /// On which host it is said.
        on: usize,
        /// For how long.
        length: Micros,
    },
    /// An operator orders a fence.
    OperatorFence {
        /// On which host the order is given.
        on: usize,
        /// Whom to fence.
        victim: usize,
    },
    /// An operator looks, and if the host really is off, says so.
    OperatorConfirm {
        /// On which host it is said.
        on: usize,
        /// Who is dead.
        victim: usize,
    },
    /// An operator stops a workload for good, or lets it run again.
    OperatorDesires {
        /// On which host it is said.
        on: usize,
        /// Which, by position.
        workload: usize,
        /// Whether it is to run.
        run: bool,
    },
    /// Everything is mended; the quiet end begins.
    Heal {
        /// A host that stays dead for good, if the cluster can be expected to go on without it.
        dead_for_good: Option<usize>,
    },
}

/// A timeline, by rising time.
pub type Timeline = Vec<(Micros, Fault)>;
