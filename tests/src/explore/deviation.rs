//! What the adversary may do at the beginning of a step. Each counts as one deviation, whatever it sets off.

use core::fmt;

use super::world::{Later, Way, World};
use palisade_core::Engine;

use crate::sim::NAMES;

/// The group of a host that the scene does not have.
pub(super) const NONE: u8 = u8::MAX;
/// How long a short trouble lasts, in steps: longer than `suspect`, so that a view changes.
pub(super) const BRIEF: u64 = 6;
/// How long a long one lasts: longer than a fence, a boot and a return take together.
pub(super) const LONG: u64 = 20;

/// One deviation from what happens by itself. Hosts are given by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deviation {
    /// From now on hosts of different groups do not reach each other.
    Part([u8; 4]),
    /// One way loses everything for a few steps.
    Deaf(usize, usize),
    /// One way loses everything until it is mended or released.
    Cut(usize, usize),
    /// A way is open again.
    Mend(usize, usize),
    /// What is sent on one way in this step arrives so many steps later.
    Late(usize, usize, u64),
    /// What is sent on one way is kept from now on, the first three packets.
    Hold(usize, usize),
    /// What was kept arrives now, in order, and the way is open again.
    Release(usize, usize),
    /// Only the first packet that was kept arrives now; the way stays as it is.
    Leak(usize, usize),
    /// A host does not reach the witness for a few steps.
    NoWitness(usize),
    /// What a host asks the witness in this step arrives so many steps later.
    LateAsk(usize, u64),
    /// What the witness answers a host in this step arrives so many steps later.
    LateAnswer(usize, u64),
    /// The witness's process is gone and starts anew after so many steps.
    WitnessRestart(u64),
    /// Power is lost and comes back after so many steps.
    Reboot(usize, u64),
    /// Power is lost until somebody gives it back.
    PowerLoss(usize),
    /// Power is given back.
    PowerOn(usize),
    /// The agent's process dies and is started again after so many steps.
    Crash(usize, u64),
    /// A planned restart of the agent; it is down for so many steps.
    Restart(usize, u64),
    /// A planned leave; the agent is started again so many steps after its end.
    Leave(usize, u64),
    /// The host stands still for so many steps.
    Freeze(usize, u64),
    /// The host's BMC acknowledges the next off at once and carries it out so many steps later.
    LateOff(usize, u64),
    /// The host's BMC answers the next order or reading so many steps late.
    LateReading(usize, u64),
    /// The host's BMC neither does nor answers anything for so many steps.
    NoBmc(usize, u64),
}

impl World {
    /// Whether this would do anything now.
    pub(super) fn can_deviate(&self, deviation: Deviation) -> bool {
        let body = &self.body;
        let runs = |host: usize| self.engines[host].is_some() && !body.machines[host].frozen;
        let awaited = |host: usize| {
            body.agenda.iter().any(|(_, later)| matches!(later, Later::Boot(of) if *of == host))
        };
        match deviation {
            Deviation::Part(groups) => body.groups.iter().zip(groups).any(|(now, then)| *now != then),
            Deviation::Deaf(from, to)
            | Deviation::Cut(from, to)
            | Deviation::Late(from, to, _)
            | Deviation::Hold(from, to) => body.ways[from][to] == Way::Open && body.machines[from].up,
            Deviation::Mend(from, to) => body.ways[from][to] == Way::Cut,
            Deviation::Release(from, to) | Deviation::Leak(from, to) => {
                body.machines[to].up && body.held.iter().any(|(f, t, _)| (*f, *t) == (from, to))
            }
            Deviation::NoWitness(host) | Deviation::LateAsk(host, _) => {
                body.ask_ways[host] == Way::Open && self.engines[host].is_some()
            }
            Deviation::LateAnswer(host, _) => {
                body.answer_ways[host] == Way::Open && self.engines[host].is_some()
            }
            Deviation::WitnessRestart(_) => body.witness.is_some(),
            Deviation::Reboot(host, _) => body.machines[host].power && !awaited(host),
            Deviation::PowerLoss(host) => body.machines[host].power,
            Deviation::PowerOn(host) => !body.machines[host].power && !awaited(host),
            Deviation::Crash(host, _) | Deviation::Restart(host, _) | Deviation::Leave(host, _) => runs(host),
            Deviation::Freeze(host, _) => body.machines[host].up && !body.machines[host].frozen,
            Deviation::LateOff(host, _) => body.machines[host].late_off.is_none(),
            Deviation::LateReading(host, _) => body.machines[host].late_answer.is_none(),
            Deviation::NoBmc(host, _) => !body.machines[host].no_bmc,
        }
    }

    pub(super) fn deviate(&mut self, deviation: Deviation) {
        match deviation {
            Deviation::Part(groups) => self.body.groups = groups.into_iter().take(self.hosts()).collect(),
            Deviation::Deaf(from, to) => {
                self.body.ways[from][to] = Way::Cut;
                self.after_steps(BRIEF, Later::WayBack { from, to });
            }
            Deviation::Cut(from, to) => self.body.ways[from][to] = Way::Cut,
            Deviation::Mend(from, to) => self.body.ways[from][to] = Way::Open,
            Deviation::Late(from, to, steps) => self.body.ways[from][to] = Way::Late(steps),
            Deviation::Hold(from, to) => self.body.ways[from][to] = Way::Held,
            Deviation::Release(from, to) => {
                self.body.ways[from][to] = Way::Open;
                let all: Vec<_> = self.body.held.extract_if(.., |(f, t, _)| (*f, *t) == (from, to)).collect();
                all.into_iter().for_each(|(_, to, heartbeat)| self.arrives(to, heartbeat));
            }
            Deviation::Leak(from, to) => {
                if let Some(first) = self.body.held.iter().position(|(f, t, _)| (*f, *t) == (from, to)) {
                    let (_, to, heartbeat) = self.body.held.remove(first);
                    self.arrives(to, heartbeat);
                }
            }
            Deviation::NoWitness(host) => {
                self.body.ask_ways[host] = Way::Cut;
                self.body.answer_ways[host] = Way::Cut;
                self.after_steps(BRIEF, Later::WitnessWayBack(host));
            }
            Deviation::LateAsk(host, steps) => self.body.ask_ways[host] = Way::Late(steps),
            Deviation::LateAnswer(host, steps) => self.body.answer_ways[host] = Way::Late(steps),
            Deviation::WitnessRestart(steps) => {
                self.body.witness = None;
                self.after_steps(steps, Later::WitnessStarts);
            }
            Deviation::Reboot(host, steps) => {
                self.lose_power(host);
                self.body.machines[host].power = true;
                self.after_steps(steps, Later::Boot(host));
            }
            Deviation::PowerLoss(host) => self.lose_power(host),
            Deviation::PowerOn(host) => self.give_power(host),
            Deviation::Crash(host, steps) => self.kill_agent(host, Some(steps)),
            Deviation::Restart(host, steps) => {
                self.body.machines[host].back_after = Some(steps);
                self.with_engine(host, Engine::handle_restart);
            }
            Deviation::Leave(host, steps) => {
                self.body.machines[host].back_after = Some(steps);
                self.with_engine(host, |engine, now| engine.handle_leave("stopped", now));
            }
            Deviation::Freeze(host, steps) => {
                self.body.machines[host].frozen = true;
                self.after_steps(steps, Later::Thaw(host));
            }
            Deviation::LateOff(host, steps) => self.body.machines[host].late_off = Some(steps),
            Deviation::LateReading(host, steps) => self.body.machines[host].late_answer = Some(steps),
            Deviation::NoBmc(host, steps) => {
                self.body.machines[host].no_bmc = true;
                self.after_steps(steps, Later::BmcBack(host));
            }
        }
    }

    fn arrives(&mut self, to: usize, heartbeat: std::sync::Arc<palisade_proto::Heartbeat>) {
        self.queue.push_back(super::world::Input::Packet { to, heartbeat });
    }

    /// Everything that is out of order is put in order; whoever has no power or agent gets it back.
    pub(super) fn mend(&mut self) {
        self.body.groups.fill(0);
        self.body.ways.iter_mut().flatten().for_each(|way| *way = Way::Open);
        self.body.ask_ways.fill(Way::Open);
        self.body.answer_ways.fill(Way::Open);
        self.body.held.clear();
        if self.body.witness.is_none() {
            self.start_witness();
        }
        for host in 0..self.hosts() {
            self.body.machines[host].late_off = None;
            self.body.machines[host].late_answer = None;
            self.body.machines[host].no_bmc = false;
            let booting =
                self.body.agenda.iter().any(|(_, later)| matches!(later, Later::Boot(of) if *of == host));
            if !self.body.machines[host].power && !booting {
                self.give_power(host);
            }
            if self.body.machines[host].up && self.engines[host].is_none() {
                self.after_steps(1, Later::StartAgent(host));
            }
        }
    }

    /// Whether nothing is out of order.
    pub(super) fn is_mended(&self) -> bool {
        let body = &self.body;
        let ways = body.ways.iter().flatten().chain(&body.ask_ways).chain(&body.answer_ways);
        body.groups.iter().all(|group| *group == 0)
            && ways.into_iter().all(|way| *way == Way::Open)
            && body.held.is_empty()
            && (body.witness.is_some() || self.cluster.witness().is_none())
            && body.machines.iter().all(|machine| {
                let bmc = machine.late_off.is_none() && machine.late_answer.is_none() && !machine.no_bmc;
                machine.up && bmc
            })
            && self.engines.iter().all(Option::is_some)
    }
}

/// `part a|bc`, `crash b`: short, and the same in scenes and traces.
impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = |host: usize| NAMES[host % NAMES.len()];
        match *self {
            Self::Part(groups) => {
                f.write_str("part ")?;
                (0..4u8).try_for_each(|group| {
                    let members: String = (0..4).filter(|host| groups[*host] == group).map(n).collect();
                    if members.is_empty() { Ok(()) } else { write!(f, "{members}|") }
                })
            }
            Self::Deaf(from, to) => write!(f, "deaf {}>{} for {BRIEF}", n(from), n(to)),
            Self::Cut(from, to) => write!(f, "cut {}>{}", n(from), n(to)),
            Self::Mend(from, to) => write!(f, "mend {}>{}", n(from), n(to)),
            Self::Late(from, to, steps) => write!(f, "late {}>{} by {steps}", n(from), n(to)),
            Self::Hold(from, to) => write!(f, "hold {}>{}", n(from), n(to)),
            Self::Release(from, to) => write!(f, "release {}>{}", n(from), n(to)),
            Self::Leak(from, to) => write!(f, "leak {}>{}", n(from), n(to)),
            Self::NoWitness(host) => write!(f, "no witness for {} for {BRIEF}", n(host)),
            Self::LateAsk(host, steps) => write!(f, "ask of {} late by {steps}", n(host)),
            Self::LateAnswer(host, steps) => write!(f, "answer to {} late by {steps}", n(host)),
            Self::WitnessRestart(steps) => write!(f, "witness restarts, down {steps}"),
            Self::Reboot(host, steps) => write!(f, "reboot {}, off {steps}", n(host)),
            Self::PowerLoss(host) => write!(f, "power loss {}", n(host)),
            Self::PowerOn(host) => write!(f, "power on {}", n(host)),
            Self::Crash(host, steps) => write!(f, "crash {}, down {steps}", n(host)),
            Self::Restart(host, steps) => write!(f, "restart {}, down {steps}", n(host)),
            Self::Leave(host, steps) => write!(f, "leave {}, back after {steps}", n(host)),
            Self::Freeze(host, steps) => write!(f, "freeze {} for {steps}", n(host)),
            Self::LateOff(host, steps) => write!(f, "off of {} late by {steps}", n(host)),
            Self::NoBmc(host, steps) => write!(f, "no BMC of {} for {steps}", n(host)),
            Self::LateReading(host, steps) => write!(f, "BMC of {} answers late by {steps}", n(host)),
        }
    }
}
