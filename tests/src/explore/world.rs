//! The world around the real engines: machines, network, witness, BMCs, and the step by which time passes.
//!
//! Everything happens on a grid of [`STEP_MS`]: in each step every host looks at its clock once, in the order of ids, and what
//! is sent arrives at once unless a deviation has put it off. All clocks read the same.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use palisade_core::Engine;
use palisade_core::action::{OrderId, Ticket, WorkloadReport};
use palisade_core::config::Cluster;
use palisade_core::standing::Saved;
use palisade_ladder::{Command, Failure, Response};
use palisade_proto::{Answer, Arbiter, Ask, Drift, Duration, Heartbeat, Incarnation, Time, WorkloadId};
use serde::Serialize;

use super::deviation::Deviation;
use super::truth::WitnessLease;
use crate::sim::{NAMES, Setup};

/// The length of a step: one heartbeat interval.
pub(super) const STEP_MS: u64 = 100;
/// The most packets that are kept of one way while it is held.
const MAX_HELD: usize = 3;
/// The most inputs of one step; beyond it something spins.
const MAX_INPUTS: usize = 10_000;

/// The witness of up to 4 hosts.
pub(super) type Witness = Arbiter<4, 8>;

/// What reaches a node. Those of one instant are taken in the order in which they arose.
#[derive(Clone, Debug, Serialize)]
pub(super) enum Input {
    Packet { to: usize, heartbeat: Arc<Heartbeat> },
    Ask(Arc<Ask>),
    Answer { to: usize, answer: Answer },
    Durable { to: usize, ticket: Ticket },
    Done { to: usize, id: WorkloadId, report: WorkloadReport },
    BmcSays { to: usize, order: OrderId, answer: Result<Response, Failure> },
}

impl Input {
    fn host(&self) -> Option<usize> {
        match self {
            Self::Packet { to, .. }
            | Self::Answer { to, .. }
            | Self::Durable { to, .. }
            | Self::Done { to, .. }
            | Self::BmcSays { to, .. } => Some(*to),
            Self::Ask(_) => None,
        }
    }

    /// Whether it dies with the process that it is for.
    fn dies_with_process(&self) -> bool {
        matches!(self, Self::Durable { .. } | Self::Done { .. } | Self::BmcSays { .. })
    }
}

/// What happens by itself later.
#[derive(Clone, Debug, Serialize)]
pub(super) enum Later {
    Input(Input),
    Boot(usize),
    StartAgent(usize),
    Thaw(usize),
    WitnessStarts,
    WitnessWayBack(usize),
    WayBack { from: usize, to: usize },
    BmcBack(usize),
    BmcActs { by: usize, order: OrderId, host: usize, command: Command },
}

/// What becomes of what is sent on a way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) enum Way {
    #[default]
    Open,
    Cut,
    /// Kept until it is released.
    Held,
    /// Put off by so many steps; for one step.
    Late(u64),
}

/// One machine. See the simulation's for the meanings.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Machine {
    pub(super) power: bool,
    pub(super) up: bool,
    pub(super) frozen: bool,
    pub(super) deferred: Vec<Input>,
    pub(super) run_dir: Option<Saved>,
    pub(super) journal_says_admitted: bool,
    pub(super) me: Option<Incarnation>,
    pub(super) runs: BTreeSet<WorkloadId>,
    /// When the agent comes back from a planned end.
    pub(super) back_after: Option<u64>,
    /// Its BMC carries the next off out so many steps late.
    pub(super) late_off: Option<u64>,
    /// Its BMC answers the next off or reading so many steps late.
    pub(super) late_answer: Option<u64>,
    /// Its BMC is not there.
    pub(super) no_bmc: bool,
    #[serde(skip)]
    pub(super) boots: u64,
    #[serde(skip)]
    pub(super) processes: u64,
}

/// Everything but the engines.
#[derive(Clone, Serialize)]
pub(super) struct Body {
    pub(super) now: Time,
    pub(super) machines: Vec<Machine>,
    /// Hosts of different groups do not reach each other.
    pub(super) groups: Vec<u8>,
    pub(super) ways: Vec<Vec<Way>>,
    pub(super) ask_ways: Vec<Way>,
    pub(super) answer_ways: Vec<Way>,
    pub(super) witness: Option<Witness>,
    pub(super) held: Vec<(usize, usize, Arc<Heartbeat>)>,
    pub(super) agenda: Vec<(Time, Later)>,
    pub(super) leases: Vec<WitnessLease>,
    #[serde(skip)]
    pub(super) steps: u64,
    #[serde(skip)]
    pub(super) cut: Vec<bool>,
}

/// A world, put down.
pub(super) struct Snapshot {
    body: Body,
    engines: Vec<Option<Vec<u8>>>,
}

/// A cluster and everything around it.
pub(super) struct World {
    pub(super) body: Body,
    pub(super) engines: Vec<Option<Engine>>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) queue: VecDeque<Input>,
    pub(super) failure: Option<String>,
    /// What happened, line by line, if it is told.
    pub(super) told: Option<Vec<String>>,
}

/// The timings of every scene: short, and each relation that the configuration checks holds.
pub(super) fn setup(hosts: usize, witness: bool) -> Setup {
    Setup {
        heartbeat: STEP_MS,
        lease: 4 * STEP_MS,
        suspect: 410,
        rejoin_hold: 500,
        join_timeout: 1000,
        boot_wait: 200,
        restart_hold: 2400,
        grace: 1000,
        budget: 31,
        deadline: 500,
        ..Setup::plain(hosts, witness, false)
    }
}

impl World {
    /// Nothing has power yet.
    pub(super) fn new(cluster: &Arc<Cluster>, tells: bool) -> Self {
        let hosts = cluster.hosts().len();
        let mut world = Self {
            body: Body {
                now: Time(1_000_000),
                machines: vec![Machine::default(); hosts],
                groups: vec![0; hosts],
                ways: vec![vec![Way::Open; hosts]; hosts],
                ask_ways: vec![Way::Open; hosts],
                answer_ways: vec![Way::Open; hosts],
                witness: None,
                held: Vec::new(),
                agenda: Vec::new(),
                leases: Vec::new(),
                steps: 0,
                cut: vec![false; hosts],
            },
            engines: (0..hosts).map(|_| None).collect(),
            cluster: Arc::clone(cluster),
            queue: VecDeque::new(),
            failure: None,
            told: tells.then(Vec::new),
        };
        world.start_witness();
        world
    }

    pub(super) fn hosts(&self) -> usize {
        self.engines.len()
    }

    /// Puts the world down. Only between two steps, when every action is polled.
    pub(super) fn snapshot(&self) -> Snapshot {
        let put_down = |engine: &Option<Engine>| {
            engine.as_ref().map(|engine| postcard::to_stdvec(engine).expect("an engine is plain data"))
        };
        Snapshot { body: self.body.clone(), engines: self.engines.iter().map(put_down).collect() }
    }

    /// Goes back to a snapshot.
    pub(super) fn restore(&mut self, snapshot: &Snapshot) {
        self.body = snapshot.body.clone();
        self.failure = None;
        self.queue.clear();
        let cluster = &self.cluster;
        let pick_up = |bytes: &Option<Vec<u8>>| {
            bytes.as_ref().map(|bytes| {
                let engine: Engine = postcard::from_bytes(bytes).expect("what was written is read");
                engine.configured(Arc::clone(cluster))
            })
        };
        self.engines = snapshot.engines.iter().map(pick_up).collect();
    }

    /// One step, with what the adversary does at its beginning.
    pub(super) fn step(&mut self, deviation: Option<Deviation>) {
        self.body.now = self.body.now.after(Duration(STEP_MS));
        self.body.steps += 1;
        self.tell(|| "--".to_owned());
        if let Some(deviation) = deviation {
            self.tell(|| format!("=== {deviation}"));
            self.deviate(deviation);
        }
        self.run_agenda();
        self.drain_queue();
        for host in 0..self.hosts() {
            if !self.body.machines[host].frozen {
                self.with_engine(host, Engine::handle_tick);
                self.drain_queue();
            }
        }
        for way in self
            .body
            .ways
            .iter_mut()
            .flatten()
            .chain(&mut self.body.ask_ways)
            .chain(&mut self.body.answer_ways)
        {
            if matches!(way, Way::Late(_)) {
                *way = Way::Open;
            }
        }
        self.check_all();
    }

    pub(super) fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(told) = &mut self.told {
            told.push(format!("{:>4} {}", self.body.steps, line()));
        }
    }

    pub(super) fn fail(&mut self, what: String) {
        if self.failure.is_none() {
            self.tell(|| format!("FAILURE: {what}"));
            self.failure = Some(what);
        }
    }

    pub(super) fn after_steps(&mut self, steps: u64, later: Later) {
        let at = self.body.now.after(Duration(steps * STEP_MS));
        self.body.agenda.push((at, later));
    }

    fn run_agenda(&mut self) {
        let now = self.body.now;
        let due: Vec<Later> =
            self.body.agenda.extract_if(.., |(at, _)| *at <= now).map(|(_, later)| later).collect();
        for later in due {
            match later {
                Later::Input(input) => self.queue.push_back(input),
                Later::Boot(host) => self.boot(host),
                Later::StartAgent(host) => self.start_agent(host),
                Later::Thaw(host) => self.thaw(host),
                Later::WitnessStarts => self.start_witness(),
                Later::WitnessWayBack(host) => {
                    self.body.ask_ways[host] = Way::Open;
                    self.body.answer_ways[host] = Way::Open;
                }
                Later::BmcBack(host) => self.body.machines[host].no_bmc = false,
                Later::WayBack { from, to } => self.body.ways[from][to] = Way::Open,
                Later::BmcActs { by, order, host, command } => self.bmc_acts(by, order, host, command, false),
            }
            self.drain_queue();
        }
    }

    /// Takes what arose until nothing is left.
    pub(super) fn drain_queue(&mut self) {
        let mut taken = 0;
        while let Some(input) = self.queue.pop_front() {
            taken += 1;
            if taken > MAX_INPUTS {
                return self.fail("one step does not end: something spins".to_owned());
            }
            if let Some(host) = input.host()
                && self.body.machines[host].frozen
            {
                self.body.machines[host].deferred.push(input);
                continue;
            }
            match input {
                Input::Packet { to, heartbeat } => {
                    self.with_engine(to, |engine, now| engine.handle_heartbeat(heartbeat, now));
                }
                Input::Ask(ask) => self.witness_hears(&ask),
                Input::Answer { to, answer } => {
                    self.with_engine(to, |engine, now| engine.handle_answer(&answer, now))
                }
                Input::Durable { to, ticket } => {
                    self.with_engine(to, |engine, now| engine.handle_durable(ticket, now))
                }
                Input::Done { to, id, report } => {
                    self.with_engine(to, |engine, now| engine.handle_workload(id, report, now));
                }
                Input::BmcSays { to, order, answer } => {
                    self.with_engine(to, |engine, now| engine.handle_device(order, answer, now));
                }
            }
        }
    }

    /// What a process waited for means nothing to the next one; packets do.
    pub(super) fn forget_inputs_of(&mut self, host: usize) {
        let stale = |input: &Input| input.host() == Some(host) && input.dies_with_process();
        self.queue.retain(|input| !stale(input));
        self.body.machines[host].deferred.retain(|input| !stale(input));
        self.body.agenda.retain(|(_, later)| !matches!(later, Later::Input(input) if stale(input)));
    }

    // The network.

    pub(super) fn send(&mut self, from: usize, heartbeat: &Arc<Heartbeat>) {
        for to in (0..self.hosts()).filter(|to| *to != from) {
            if self.body.groups[from] != self.body.groups[to] {
                continue;
            }
            let packet = Input::Packet { to, heartbeat: Arc::clone(heartbeat) };
            match self.body.ways[from][to] {
                Way::Open if self.body.machines[to].up => self.queue.push_back(packet),
                Way::Open | Way::Cut => {}
                Way::Held => {
                    let kept = self.body.held.iter().filter(|(f, t, _)| (*f, *t) == (from, to)).count();
                    if kept < MAX_HELD {
                        self.body.held.push((from, to, Arc::clone(heartbeat)));
                    }
                }
                Way::Late(steps) => self.after_steps(steps, Later::Input(packet)),
            }
        }
    }

    pub(super) fn send_ask(&mut self, from: usize, ask: Ask) {
        let ask = Input::Ask(Arc::new(ask));
        self.through(self.body.ask_ways[from], ask);
    }

    fn through(&mut self, way: Way, input: Input) {
        match way {
            Way::Open => self.queue.push_back(input),
            Way::Cut | Way::Held => {}
            Way::Late(steps) => self.after_steps(steps, Later::Input(input)),
        }
    }

    // The witness.

    pub(super) fn start_witness(&mut self) {
        if self.cluster.witness().is_some() {
            let timing = self.cluster.timing();
            let drift: Drift = timing.drift();
            self.body.witness = Some(Witness::new(self.body.now, timing.lease(), drift));
            self.tell(|| "witness: starts".to_owned());
        }
    }

    fn witness_hears(&mut self, ask: &Ask) {
        let now = self.body.now;
        let Some(witness) = &mut self.body.witness else { return };
        let Ok(verdict) = witness.handle(ask, now) else { return };
        self.tell(|| {
            format!(
                "witness: {:?} of {} for {}: {verdict:?}",
                ask.kind,
                name(ask.from),
                names(ask.view.iter())
            )
        });
        if verdict == palisade_proto::Verdict::Granted {
            self.witness_granted(ask);
        }
        // Nobody looks at the witness's life or counter.
        let answer = Answer { start: [0; 8], seq: 0, to: ask.from, ask: ask.seq, verdict };
        let to = ask.from.host.index();
        self.through(self.body.answer_ways[to], Input::Answer { to, answer });
    }
}

/// `b/1f3a`: a host's letter and enough of its life.
pub(super) fn name(who: Incarnation) -> String {
    format!("{}/{:02x}{:02x}", NAMES[who.host.index() % NAMES.len()], who.life.0[0], who.life.0[1])
}

pub(super) fn names(who: impl IntoIterator<Item = Incarnation>) -> String {
    let names: Vec<String> = who.into_iter().map(name).collect();
    format!("{{{}}}", names.join(" "))
}
