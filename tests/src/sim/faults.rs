//! What goes wrong, and when: a timeline drawn from the seed before the history begins.

use super::{Micros, Rng, Setup, ms};

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

    fn draw(rng: &mut Rng, lease: u64) -> Self {
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
    /// The witness's process dies and starts after the time.
    WitnessRestart {
        /// After how long.
        down: Micros,
    },
    /// A BMC behaves otherwise.
    Bmc {
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
    /// Everything is mended; the quiet end begins.
    Heal {
        /// A host that stays dead for good, if the cluster can be expected to go on without it.
        dead_for_good: Option<usize>,
    },
}

/// A timeline, by rising time.
pub type Timeline = Vec<(Micros, Fault)>;

/// When each host boots, and what happens until the quiet end.
pub(super) fn draw(rng: &mut Rng, setup: &Setup) -> (Vec<Micros>, Timeline) {
    let mut line = Timeline::new();
    let boots = boots(rng, setup);
    let lease = setup.lease;
    if rng.chance(300) {
        line.push((0, Fault::Weather(Weather::draw(rng, lease))));
    }
    for host in 0..setup.hosts {
        let says = rng.chance(500);
        line.push((0, Fault::BmcSaysAlready { host, says }));
    }
    // Most histories let the cluster form first.
    let begin = match rng.below(10) {
        0..=1 => 0,
        _ => boots.iter().copied().max().unwrap_or(0) + ms(setup.rejoin_hold + 2 * setup.lease),
    };
    let length = ms(rng.scale(3000, 40_000));
    // A focus makes one kind of fault likely, so that rare rules meet.
    let focus = rng.below(12);
    for _ in 0..rng.range(1, 9) {
        let at = begin + rng.below(length);
        let kind = if rng.chance(600) { focus } else { rng.below(12) };
        draw_fault(rng, setup, at, kind, &mut line);
    }
    let end = begin + length;
    let bearable = setup.hosts > 2 || setup.witness;
    let dead_for_good = (bearable && rng.chance(150)).then(|| rng.index(setup.hosts));
    line.retain(|(at, _)| *at < end);
    line.push((end, Fault::Heal { dead_for_good }));
    line.sort_by_key(|(at, _)| *at);
    (boots, line)
}

fn boots(rng: &mut Rng, setup: &Setup) -> Vec<Micros> {
    let spread = match rng.below(10) {
        0..=5 => ms(300),
        6..=7 => ms(setup.boot_wait * 2),
        _ => ms(30_000),
    };
    (0..setup.hosts).map(|_| rng.below(spread)).collect()
}

fn draw_fault(rng: &mut Rng, setup: &Setup, at: Micros, kind: u64, line: &mut Timeline) {
    let lease = setup.lease;
    let host = rng.index(setup.hosts);
    let for_a_while = |rng: &mut Rng| ms(rng.scale(lease / 8, lease * 12));
    match kind {
        0 => {
            line.push((at, Fault::Weather(Weather::draw(rng, lease))));
            if rng.chance(700) {
                line.push((at + for_a_while(rng), Fault::Weather(Weather::CALM)));
            }
        }
        1 => {
            let length = for_a_while(rng);
            one_way(rng, setup, at, length, line);
        }
        2 => {
            let length = for_a_while(rng);
            partition(rng, setup, at, length, line);
        }
        3 => {
            let back = rng.chance(800).then(|| ms(rng.scale(50, 20_000)));
            line.push((at, Fault::PowerLoss { host, back }));
            if rng.chance(200) {
                let on = rng.index(setup.hosts);
                line.push((at + ms(rng.scale(100, 10_000)), Fault::OperatorConfirm { on, victim: host }));
            }
        }
        4 => {
            let down = ms(rng.scale(20, lease * 4));
            line.push((at, Fault::AgentCrash { host, down, after_actions: rng.index(6) }));
        }
        5 => line.push((at, Fault::AgentRestart { host, down: ms(rng.scale(20, lease * 6)) })),
        6 => {
            let back = rng.chance(800).then(|| ms(rng.scale(20, 15_000)));
            line.push((at, Fault::Leave { host, back }));
        }
        7 => line.push((at, Fault::Freeze { host, length: for_a_while(rng) })),
        8 => {
            line.push((at, Fault::WitnessRestart { down: ms(rng.scale(1, lease * 4)) }));
            if rng.chance(500) {
                // A restart of the witness bites when it is needed.
                let (before, length) = (ms(rng.below(lease * 2)), for_a_while(rng));
                partition(rng, setup, at.saturating_sub(before), length, line);
            }
        }
        9 => {
            let weather = Weather::draw(rng, lease);
            line.push((at, Fault::Broker(weather)));
            line.push((at + for_a_while(rng), Fault::Broker(Weather::BROKER)));
            if rng.chance(500) {
                let cut = rng.chance(700);
                line.push((at, Fault::WitnessWay { host, cut }));
                line.push((at + for_a_while(rng), Fault::WitnessWay { host, cut: false }));
            }
        }
        10 => {
            let mode = match rng.below(9) {
                0..=1 => BmcMode::Fine(ms(rng.scale(5, 12_000))),
                2 => BmcMode::Dead,
                3 => BmcMode::Deaf(ms(rng.scale(5, 2000))),
                4 => BmcMode::Lying,
                5 => BmcMode::Late(ms(rng.scale(5, 12_000))),
                6 => BmcMode::Refusing,
                7 => BmcMode::Vague,
                _ => BmcMode::Stranger,
            };
            line.push((at, Fault::Bmc { host, mode }));
            if rng.chance(600) {
                let other = rng.below(8);
                draw_fault(rng, setup, at, other, line);
            }
        }
        _ => match rng.below(4) {
            0 => {
                line.push((at, Fault::Journal { host, fails: true }));
                line.push((at + for_a_while(rng) * 2, Fault::Journal { host, fails: false }));
            }
            1 => {
                line.push((at, Fault::StartsFail { host, fails: true }));
                line.push((at + for_a_while(rng) * 2, Fault::StartsFail { host, fails: false }));
            }
            2 => line.push((at, Fault::OperatorFence { on: rng.index(setup.hosts), victim: host })),
            _ => line.push((at, Fault::OperatorConfirm { on: rng.index(setup.hosts), victim: host })),
        },
    }
}

fn one_way(rng: &mut Rng, setup: &Setup, at: Micros, length: Micros, line: &mut Timeline) {
    let from = rng.index(setup.hosts);
    let to = (from + 1 + rng.index(setup.hosts - 1)) % setup.hosts;
    let mut at = at;
    // Sometimes the link flaps.
    for _ in 0..rng.pick(&[1, 1, 1, 4, 12]) {
        line.push((at, Fault::Way { from, to, cut: true }));
        line.push((at + length, Fault::Way { from, to, cut: false }));
        at += length + ms(rng.scale(1, setup.lease * 2));
    }
}

fn partition(rng: &mut Rng, setup: &Setup, at: Micros, length: Micros, line: &mut Timeline) {
    let side: Vec<bool> = (0..setup.hosts).map(|_| rng.chance(500)).collect();
    let both = rng.chance(800);
    let healed = rng.chance(700).then_some(at + length);
    for from in 0..setup.hosts {
        for to in 0..setup.hosts {
            if side[from] != side[to] && (both || side[from]) {
                line.push((at, Fault::Way { from, to, cut: true }));
                line.extend(healed.map(|healed| (healed, Fault::Way { from, to, cut: false })));
            }
        }
    }
    if setup.witness && rng.chance(400) {
        for host in (0..setup.hosts).filter(|host| side[*host]) {
            line.push((at, Fault::WitnessWay { host, cut: true }));
            line.extend(healed.map(|healed| (healed, Fault::WitnessWay { host, cut: false })));
        }
    }
}
