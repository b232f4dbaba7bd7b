//! The world around the engines: machines, network, broker, witness, BMCs; and the loop that lets time pass.

use std::sync::Arc;

use palisade_core::config::Cluster;
use palisade_proto::{Answer, Arbiter, Ask, AskKind, Drift, Duration, Heartbeat, Incarnation, WorkloadId};

use super::calm::Calm;
use super::event::{Event, Queue};
use super::faults::{Fault, Timeline, Weather};
use super::machine::Machine;
use super::truth::Truth;
use super::{Clock, Micros, NAMES, Rng, Setup, ms};

/// How long after the last fault a cluster may take until all is well again. Rests of a fence grow up to a minute.
const QUIET_END: Micros = ms(240_000);
/// How often the world is looked at as a whole once everything is mended.
const JUDGE_EVERY: Micros = ms(250);
/// The most lines of a trace that are kept.
const MAX_TRACE: usize = 200_000;
/// Between this many hosts and witnesses a history must end; beyond it something spins.
const MAX_EVENTS: u64 = 3_000_000;

/// What became of one history.
#[derive(Debug, Default)]
pub struct Report {
    /// The first thing that was not as it must be.
    pub failure: Option<String>,
    /// What happened, line by line, if it was asked for.
    pub trace: Vec<String>,
    /// How many faults its timeline had.
    pub faults: usize,
    /// How many events happened.
    pub events: u64,
    /// How often power was cut by an order.
    pub cuts: u64,
    /// True time from the last fault to all being well.
    pub well_after: Option<Micros>,
    /// True time from the first loss of power to the last lost workload's start, if that was asked for.
    pub recovery: Option<Micros>,
}

/// A cluster and everything around it.
pub struct World {
    pub(super) cluster: Arc<Cluster>,
    pub(super) setup: Setup,
    pub(super) rng: Rng,
    pub(super) now: Micros,
    pub(super) queue: Queue,
    pub(super) machines: Vec<Machine>,
    pub(super) truth: Truth,
    pub(super) next_process: u64,
    pub(super) next_step: u64,
    timeline: Timeline,
    weather: Weather,
    broker: Weather,
    /// The broker is down until then; whether what its clients send meanwhile arrives late.
    broker_back: Option<(Micros, bool)>,
    /// How many faults cut each way, by sender and receiver.
    ways: Vec<Vec<u32>>,
    witness_ways: Vec<u32>,
    witness: Option<Box<Arbiter<32, 64>>>,
    witness_clock: Clock,
    witness_life: u64,
    witness_seq: u64,
    healed: Option<Micros>,
    measuring: bool,
    /// Who may be without quorum since the last fault, in a history in which nobody else may be.
    pub(super) calm: Option<Calm>,
    /// No host may act for a cause that half of them share: on a network on which each hears of it.
    pub(super) expects_no_common_cause: bool,
    /// Every engine is read back from a snapshot of itself after each input.
    through_snapshots: bool,
    pub(super) tracing: bool,
    pub(super) report: Report,
}

impl World {
    /// A cluster whose hosts boot at the given times, with everything that will go wrong.
    #[must_use]
    pub fn new(setup: Setup, boots: &[Micros], timeline: Timeline, rng: Rng, tracing: bool) -> Self {
        let cluster = setup.cluster();
        let (hosts, faults) = (setup.hosts, timeline.len());
        let mut world = Self {
            machines: setup.clock_ppm.iter().take(hosts).map(|ppm| Machine::new(*ppm)).collect(),
            witness_clock: Clock::new(0, setup.clock_ppm.last().copied().unwrap_or(0)),
            ways: vec![vec![0; hosts]; hosts],
            witness_ways: vec![0; hosts],
            truth: Truth::new(hosts),
            cluster,
            setup,
            rng,
            now: 0,
            queue: Queue::default(),
            next_process: 0,
            next_step: 0,
            timeline,
            weather: Weather::CALM,
            broker: Weather::BROKER,
            broker_back: None,
            witness: None,
            witness_life: 0,
            witness_seq: 0,
            healed: None,
            measuring: false,
            calm: None,
            expects_no_common_cause: false,
            through_snapshots: false,
            tracing,
            report: Report { faults, ..Report::default() },
        };
        for (host, at) in boots.iter().enumerate() {
            world.machines[host].power = true;
            world.queue.push(*at, Event::Boot { host });
        }
        if world.setup.witness {
            world.queue.push(0, Event::WitnessStarts);
        }
        for (index, (at, _)) in world.timeline.iter().enumerate() {
            world.queue.push(*at, Event::Fault(index));
        }
        world
    }

    /// Lets the history happen until something fails, all is well at the end, or `until`.
    #[must_use]
    pub fn run(mut self, until: Micros) -> Report {
        while self.report.failure.is_none() && !(self.measuring && self.report.recovery.is_some()) {
            let Some((at, event)) = self.queue.pop().filter(|(at, _)| *at <= until) else { break };
            self.now = self.now.max(at);
            self.report.events += 1;
            if self.report.events > MAX_EVENTS {
                self.fail("the history does not end: something spins".to_owned());
            }
            if matches!(event, Event::Judge) && self.judge() {
                break;
            }
            self.dispatch(event);
        }
        self.report
    }

    /// Measures the time from the first loss of power to all that ran there running elsewhere, and ends the history then.
    pub fn measure_recovery(&mut self) {
        self.measuring = true;
    }

    pub(super) fn is_calm(&self) -> bool {
        self.weather.delay == Weather::CALM.delay
    }

    /// Lets no fault cost any host its quorum but the one that it strikes.
    pub fn expect_unbroken_quorum(&mut self) {
        self.calm = Some(Calm::default());
    }

    /// Replaces every engine by its own snapshot after each input: nothing may change by it.
    pub fn go_through_snapshots(&mut self) {
        self.through_snapshots = true;
    }

    pub(super) fn fail(&mut self, what: String) {
        if self.report.failure.is_none() {
            self.trace(|| format!("FAILURE: {what}"));
            self.report.failure = Some(what);
        }
    }

    pub(super) fn trace(&mut self, line: impl FnOnce() -> String) {
        if self.tracing && self.report.trace.len() < MAX_TRACE {
            let at = self.now;
            self.report.trace.push(format!("{:>4}.{:06} {}", at / 1_000_000, at % 1_000_000, line()));
        }
    }

    fn dispatch(&mut self, event: Event) {
        if let Some(host) = event.needs()
            && self.machines[host].frozen
        {
            // A socket's buffer and a process's timers wait; what does not fit is lost.
            if self.machines[host].deferred.len() < 512 {
                self.machines[host].deferred.push_back(event);
            }
            return;
        }
        match event {
            Event::Packet { to, heartbeat } => {
                self.with_engine(to, |engine, now| engine.handle_heartbeat(heartbeat, now))
            }
            Event::Answer { to, answer } => {
                self.with_engine(to, |engine, now| engine.handle_answer(&answer, now))
            }
            Event::Tick { host, process } => {
                if self.is_process(host, process)
                    && self.machines[host].process.as_ref().is_some_and(|process| process.tick <= self.now)
                {
                    if let Some(process) = &mut self.machines[host].process {
                        process.tick = Micros::MAX;
                    }
                    self.with_engine(host, |engine, now| engine.handle_tick(now));
                }
            }
            Event::Durable { host, process, ticket } => self.durable(host, process, ticket),
            Event::Ask(ask) => self.witness_hears(&ask),
            Event::BmcActs { by, process, order, given, say_at } => {
                self.bmc_acts(by, process, &order, given, say_at);
            }
            Event::BmcSays { to, process, order, answer } => {
                if self.is_process(to, process) {
                    self.with_engine(to, |engine, now| engine.handle_device(order, answer, now));
                }
            }
            Event::WorkloadDone { host, boot, id, step, fails } => {
                self.workload_done(host, boot, id, step, fails)
            }
            Event::DogBites { host, boot, fed } => {
                let machine = &self.machines[host];
                if machine.boot == boot && machine.dog.as_ref().is_some_and(|dog| dog.fed == fed) {
                    self.trace(|| format!("{}: the watchdog resets the machine", NAMES[host]));
                    self.reset(host);
                }
            }
            Event::Boot { host } => self.boot(host),
            Event::StartAgent { host, boot } => {
                if self.machines[host].boot == boot {
                    self.start_agent(host);
                }
            }
            Event::Look { host, process } => self.look(host, process),
            Event::Sample { host, process } => self.sample(host, process),
            Event::Thaw { host, boot } => self.thaw(host, boot),
            Event::WitnessStarts => self.start_witness(),
            Event::BrokerBack => self.broker_is_back(),
            Event::Fault(index) => {
                let fault = self.timeline[index].1.clone();
                self.trace(|| format!("--- {fault:?}"));
                self.strike(fault);
            }
            Event::Judge => {}
        }
    }

    pub(super) fn is_process(&self, host: usize, id: u64) -> bool {
        self.machines[host].process.as_ref().is_some_and(|process| process.id == id)
    }

    pub(super) fn goes_through_snapshots(&self) -> bool {
        self.through_snapshots
    }

    pub(super) fn is_measuring(&self) -> bool {
        self.measuring
    }

    pub(super) fn is_mended_since(&self, length: Micros) -> bool {
        self.healed.is_some_and(|healed| self.now >= healed + length)
    }

    /// Whether everything had been mended, and all was well, by then.
    pub(super) fn is_well_since(&self, at: Micros) -> bool {
        self.truth.well_since().is_some_and(|since| since < at)
    }

    pub(super) fn is_mended(&self) -> bool {
        self.healed.is_some()
    }

    // The network.

    pub(super) fn send(&mut self, from: usize, heartbeat: &Arc<Heartbeat>) {
        for to in (0..self.machines.len()).filter(|to| *to != from) {
            self.echo(from, Event::Packet { to, heartbeat: Arc::clone(heartbeat) });
            if self.ways[from][to] > 0 || !self.machines[to].up {
                continue;
            }
            let weather = self.weather;
            self.transmit(weather, || Event::Packet { to, heartbeat: Arc::clone(heartbeat) });
        }
    }

    pub(super) fn send_ask(&mut self, from: usize, ask: Ask) {
        if self.witness_ways[from] == 0 && self.setup.witness {
            let ask = Arc::new(ask);
            self.echo(from, Event::Ask(Arc::clone(&ask)));
            self.through_broker(|| Event::Ask(Arc::clone(&ask)));
        }
    }

    fn echo(&mut self, from: usize, event: Event) {
        if let Some((until, late)) = self.machines[from].echo
            && self.now < until
        {
            let late = late + self.rng.below(ms(20));
            self.queue.push(self.now + late, event);
        }
    }

    fn transmit(&mut self, weather: Weather, mut event: impl FnMut() -> Event) {
        let copies = 1 + u32::from(self.rng.chance(weather.duplicate_permille));
        for _ in 0..copies {
            if self.rng.chance(weather.loss_permille) {
                continue;
            }
            let mut delay = self.rng.range(weather.delay.0, weather.delay.1);
            if self.rng.chance(weather.spike_permille) {
                delay = self.rng.below(weather.spike);
            }
            self.queue.push(self.now + delay, event());
        }
    }

    fn through_broker(&mut self, mut event: impl FnMut() -> Event) {
        match self.broker_back {
            Some((back, keeps)) if self.now < back => {
                if keeps {
                    let after = self.rng.range(self.broker.delay.0, self.broker.delay.1);
                    self.queue.push(back + after, event());
                }
            }
            Some(_) | None => {
                let broker = self.broker;
                self.transmit(broker, event);
            }
        }
    }

    /// The witness cannot know what it missed (SAFE-11).
    fn broker_is_back(&mut self) {
        let now = self.witness_clock.time(self.now);
        if self.broker_back.is_some_and(|(back, _)| self.now >= back)
            && let Some(witness) = &mut self.witness
        {
            witness.was_deaf(now);
        }
    }

    // The witness.

    fn start_witness(&mut self) {
        self.witness_life += 1;
        self.witness_seq = 0;
        let started = self.witness_clock.time(self.now);
        let drift = Drift { ppm: self.setup.drift_ppm as u32 };
        self.witness = Some(Box::new(Arbiter::new(started, Duration::ms(self.setup.lease), drift)));
        self.trace(|| "witness: starts".to_owned());
    }

    fn witness_hears(&mut self, ask: &Ask) {
        let now = self.witness_clock.time(self.now);
        let Some(witness) = &mut self.witness else { return };
        let life = self.witness_life;
        let Ok(verdict) = witness.handle(ask, now) else { return };
        self.trace(|| {
            format!(
                "witness: {:?} of {} for {}: {verdict:?}",
                ask.kind,
                name(ask.from),
                names(ask.view.iter())
            )
        });
        if verdict == palisade_proto::Verdict::Granted {
            let until = self.witness_clock.when(now.after(self.cluster.timing().voter_lease()));
            let failure = self.truth.witness_granted(ask, self.now, until, life);
            if let Some(failure) = failure.filter(|_| self.clocks_keep_bound()) {
                self.fail(failure);
            }
        }
        if ask.kind != AskKind::Cold {
            self.truth.note_alive(self.now, life);
        }
        self.witness_seq += 1;
        let answer = Answer {
            start: self.witness_life.to_be_bytes(),
            seq: self.witness_seq,
            to: ask.from,
            ask: ask.seq,
            verdict,
        };
        let to = ask.from.host.index();
        if self.witness_ways[to] == 0 {
            self.through_broker(|| Event::Answer { to, answer });
        }
    }

    // Faults.

    pub(super) fn strike(&mut self, fault: Fault) {
        self.note_calm(&fault);
        match fault {
            Fault::Weather(weather) => self.weather = weather,
            Fault::Broker(weather) => self.broker = weather,
            Fault::Way { from, to, cut } => count(&mut self.ways[from][to], cut),
            Fault::WitnessWay { host, cut } => count(&mut self.witness_ways[host], cut),
            Fault::PowerLoss { host, back } => {
                if self.measuring {
                    self.truth.lost = self.machines[host].runs.keys().copied().collect();
                    self.truth.lost_at = Some(self.now);
                }
                self.lose_power(host, back);
            }
            Fault::AgentCrash { host, down, after_actions } => {
                self.machines[host].dies_after = Some((after_actions, down))
            }
            Fault::AgentRestart { host, down } => self.plan_restart(host, down),
            Fault::Leave { host, back } => self.plan_leave(host, back),
            Fault::Freeze { host, length } => self.freeze(host, length),
            Fault::Echo { host, length, late } => self.machines[host].echo = Some((self.now + length, late)),
            Fault::FreezeAtFeed { host, length } => self.machines[host].freezes_at_feed = Some(length),
            Fault::FreezeAtIntent { host, length } => self.machines[host].freezes_at_intent = Some(length),
            Fault::Autostart { host, workload } => {
                self.machines[host].autostarts = Some(WorkloadId(workload as u8));
            }
            Fault::WitnessRestart { down } => {
                if self.witness.take().is_some() {
                    self.queue.push(self.now + down, Event::WitnessStarts);
                }
            }
            Fault::BrokerRestart { down, keeps } => {
                let back = self.now + down;
                self.broker_back = Some((back, keeps));
                self.queue.push(back, Event::BrokerBack);
            }
            Fault::Bmc { host, mode } => self.machines[host].bmc.mode = mode,
            Fault::Path { host, mode } => self.machines[host].path.mode = mode,
            Fault::BmcSaysAlready { host, says } => self.machines[host].bmc.says_already = says,
            Fault::Journal { host, fails } => self.set_journal(host, fails),
            Fault::Ail { host, probe, fails } => self.set_ail(host, probe, fails),
            Fault::StartsFail { host, fails } => self.machines[host].starts_fail = fails,
            Fault::OperatorDrains { on, host, drain } => self.operator_drains(on, host, drain),
            Fault::OperatorMaintains { on, host, begins } => self.operator_maintains(on, host, begins),
            Fault::OperatorDisarms { on, length } => self.operator_arms(on, length),
            Fault::OperatorFence { on, victim } => self.operator_fences(on, victim),
            Fault::OperatorConfirm { on, victim } => self.operator_confirms(on, victim),
            Fault::OperatorDesires { on, workload, run } => self.operator_desires(on, workload, run),
            Fault::Heal { dead_for_good } => self.heal(dead_for_good),
        }
    }

    fn heal(&mut self, dead_for_good: Option<usize>) {
        self.healed = Some(self.now);
        self.weather = Weather::CALM;
        self.broker = Weather::BROKER;
        self.broker_back = None;
        if self.setup.wild {
            self.set_clocks_right();
        }
        self.ways.iter_mut().flatten().for_each(|way| *way = 0);
        self.witness_ways.iter_mut().for_each(|way| *way = 0);
        if let Some(host) = dead_for_good {
            self.machines[host].broken = true;
            self.lose_power(host, None);
        }
        for host in 0..self.machines.len() {
            self.mend(host);
        }
        if self.setup.witness && self.witness.is_none() {
            self.queue.push(self.now + ms(100), Event::WitnessStarts);
        }
        self.queue.push(self.now + JUDGE_EVERY, Event::Judge);
    }

    fn set_clocks_right(&mut self) {
        let now = self.now;
        self.witness_clock = self.witness_clock.at_rate(0, now);
        for machine in &mut self.machines {
            machine.clock = machine.clock.at_rate(0, now);
            if let Some(process) = &mut machine.process {
                // The tick that is due was reckoned with the old rate.
                process.tick = now;
            }
        }
        let running = self.machines.iter().enumerate();
        let ticks: Vec<Event> = running
            .filter_map(|(host, machine)| Some(Event::Tick { host, process: machine.process.as_ref()?.id }))
            .collect();
        ticks.into_iter().for_each(|tick| self.queue.push(now, tick));
    }

    /// Looks at the whole; true when the history may end.
    fn judge(&mut self) -> bool {
        let Some(healed) = self.healed else { return false };
        let what_lacks = self.what_lacks();
        let quiet = ms(self.setup.suspect * 3);
        match self.truth.note_wellness(what_lacks.is_none(), self.report.cuts, self.now) {
            Some(since) if self.now >= since + quiet => {
                self.report.well_after = Some(since.saturating_sub(healed));
                return true;
            }
            Some(_) | None => {}
        }
        if let Some(lacks) = what_lacks
            && self.now > healed + QUIET_END
        {
            self.fail(format!("I4: {} s after the last fault, {lacks}", QUIET_END / 1_000_000));
        }
        self.operator_walks_round(healed);
        self.queue.push(self.now + JUDGE_EVERY, Event::Judge);
        false
    }
}

fn count(cuts: &mut u32, cut: bool) {
    *cuts = if cut { *cuts + 1 } else { cuts.saturating_sub(1) };
}

/// `b/1f3a`: a host's letter and enough of its life.
pub(super) fn name(who: Incarnation) -> String {
    format!("{}/{:02x}{:02x}", NAMES[who.host.index() % NAMES.len()], who.life.0[0], who.life.0[1])
}

pub(super) fn names(who: impl IntoIterator<Item = Incarnation>) -> String {
    let names: Vec<String> = who.into_iter().map(name).collect();
    format!("{{{}}}", names.join(" "))
}
