//! One engine on a bench: a clock, everything it wanted done, and words that its peers could say.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::Arc;

use palisade_core::Engine;
use palisade_core::action::{
    Act, Action, DeviceOrder, ExitKind, Request, RequestRefused, Seen, Statement, Ticket, WorkloadReport,
};
use palisade_core::config::Cluster;
use palisade_core::record::Event;
use palisade_core::standing::{Awakening, Birth, Saved, SavedState, awaken};
use palisade_ladder::{Command, Reading, Response};
use palisade_proto::message::{Desired, Echo, Grant, HealthClass, Presence, Verdict};
use palisade_proto::{
    Answer, Ask, Drift, Duration, Founding, Heartbeat, HostId, Incarnation, Names, Time, WorkloadId,
    WorkloadSet,
};

pub(crate) const BEGIN: u64 = 1_000_000;
pub(crate) const WITNESS: &str =
    "[witness]\nbroker = \"mqtt://10.0.0.9\"\nkeys = [ { id = 1, file = \"/w\" } ]\n";
pub(crate) const WATCHDOG: &str =
    "[watchdog]\ndevice = \"/dev/watchdog0\"\ntimeout = \"10s\"\nruns_while_frozen = true\n";

/// Hosts a, b, ..., each with a power device, and workload 0, which a and b may run.
pub(crate) fn cluster(hosts: u8, extra: &str) -> Arc<Cluster> {
    cluster_of(hosts, extra, &[0])
}

/// The same with these workloads.
pub(crate) fn cluster_of(hosts: u8, extra: &str, workloads: &[u8]) -> Arc<Cluster> {
    parsed(&text(hosts, extra, workloads))
}

pub(crate) fn parsed(text: &str) -> Arc<Cluster> {
    Arc::new(Cluster::parse(text, "test").unwrap_or_else(|error| panic!("{error}")))
}

/// The configuration as an operator would write it.
pub(crate) fn text(hosts: u8, extra: &str, workloads: &[u8]) -> String {
    let mut text = format!("[cluster]\nname = \"t\"\nkeys = [ {{ id = 1, file = \"/k\" }} ]\n{extra}");
    for id in 0..hosts {
        let (name, n) = (char::from(b'a' + id), id + 1);
        text += &format!(
            "[[host]]\nid = {id}\nname = \"{name}\"\nmachine = \"4c4c4544-0051-3510-8052-0000000000{n:02x}\"\n\
             links = [\"10.0.0.{n}:7411\"]\n[[device]]\nname = \"bmc-{name}\"\nkind = \"ipmi\"\nfences = \"{name}\"\n\
             address = \"10.0.1.{n}:623\"\nuser = \"u\"\npassword = {{ file = \"/p\" }}\nguid = \"a123456789abcdefa123456789abcd{n:02x}\"\n"
        );
    }
    for id in workloads {
        text += &format!(
            "[[workload]]\nid = {id}\nname = \"w{id}\"\nhosts = [\"a\", \"b\"]\n[workload.command]\n\
             start = [\"/s\"]\nstop = [\"/s\"]\nstatus = [\"/s\"]\n"
        );
    }
    text
}

pub(crate) fn life(host: u8, life: u8) -> Incarnation {
    Incarnation::new(HostId::new(host).unwrap(), [life; 8])
}

/// One engine, its clock, and everything it wanted.
pub(crate) struct Bench {
    pub(crate) now: u64,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) engine: Engine,
    pub(crate) saved: Saved,
    pub(crate) sent: Vec<Arc<Heartbeat>>,
    pub(crate) orders: Vec<DeviceOrder>,
    pub(crate) asks: Vec<Ask>,
    pub(crate) acts: Vec<(WorkloadId, Act)>,
    /// Every action in its order, and when.
    pub(crate) done: Vec<(u64, Action)>,
    /// The disk hangs: what waits for it is kept in `waiting`.
    pub(crate) disk_hangs: bool,
    pub(crate) waiting: Vec<Ticket>,
    pub(crate) ticks: usize,
}

impl Bench {
    /// Host a in its first life; `members` makes it an admitted one that counts these and itself.
    pub(crate) fn new(hosts: u8, extra: &str, members: &[Incarnation]) -> Self {
        let cluster = cluster(hosts, extra);
        let mut saved = Saved::new(0);
        if !members.is_empty() {
            saved.admitted = true;
            saved.found = Some(Founding { decider: life(9, 9), epoch: 1 });
        }
        let mut bench = Self::start(cluster, SavedState::Found(Box::new(saved.clone())), BEGIN);
        if !members.is_empty() {
            saved.electorate = members.iter().copied().chain([bench.engine.me()]).collect();
            bench = Self::start(Arc::clone(&bench.cluster), SavedState::Found(Box::new(saved)), BEGIN);
        }
        bench
    }

    /// A process that has found its workload stopped.
    pub(crate) fn start(cluster: Arc<Cluster>, saved: SavedState, now: u64) -> Self {
        let mut bench = Self::start_unseen(cluster, saved, now);
        bench.report(WorkloadReport::Seen(Seen::Stopped));
        bench
    }

    /// A process that has not looked at its workloads yet.
    pub(crate) fn start_unseen(cluster: Arc<Cluster>, saved: SavedState, now: u64) -> Self {
        let host = HostId::new(0).unwrap();
        let machine = cluster.host(host).unwrap().machine().bytes();
        let birth = Birth {
            host,
            boot_id: [7; 16],
            machine,
            first_seq: now * 1000,
            saved,
            journal_says_admitted: false,
        };
        let Awakening::Live { me, saved, resumed } = awaken(&birth) else { panic!("must reboot") };
        let engine = Engine::new(Arc::clone(&cluster), &birth, me, *saved.clone(), resumed, Time(now));
        let mut bench = Self {
            now,
            cluster,
            engine,
            saved: *saved,
            sent: vec![],
            orders: vec![],
            asks: vec![],
            acts: vec![],
            done: vec![],
            disk_hangs: false,
            waiting: vec![],
            ticks: 0,
        };
        bench.drain();
        bench
    }

    pub(crate) fn drain(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            self.done.push((self.now, action.clone()));
            match action {
                Action::Save(saved) => self.saved = *saved,
                Action::Send(heartbeat) => self.sent.push(heartbeat),
                Action::Device(order) => self.orders.push(order),
                Action::Ask(ask) => self.asks.push(*ask),
                Action::Workload { id, act } => self.acts.push((id, act)),
                Action::Record { ticket: Some(ticket), .. } if self.disk_hangs => self.waiting.push(ticket),
                Action::Record { ticket: Some(ticket), .. } => {
                    self.engine.handle_durable(ticket, Time(self.now))
                }
                _ => {}
            }
        }
    }

    pub(crate) fn wait(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.engine.wake().0 <= end {
            self.now = self.now.max(self.engine.wake().0);
            self.tick();
        }
        self.now = end;
    }

    pub(crate) fn tick(&mut self) {
        self.ticks += 1;
        self.engine.handle_tick(Time(self.now));
        self.drain();
    }

    /// The disk answers for everything that waits, and hangs no more.
    pub(crate) fn release_disk(&mut self) {
        self.disk_hangs = false;
        for ticket in std::mem::take(&mut self.waiting) {
            self.engine.handle_durable(ticket, Time(self.now));
        }
        self.drain();
    }

    pub(crate) fn me(&self) -> Incarnation {
        self.engine.me()
    }

    /// The last heartbeat that was sent.
    pub(crate) fn told(&self) -> &Heartbeat {
        self.sent.last().unwrap()
    }

    /// The last seq that was sent; what a live peer echoes.
    pub(crate) fn last_seq(&self) -> u64 {
        self.sent.last().map_or(0, |heartbeat| heartbeat.seq)
    }

    /// A heartbeat as a well-behaved member of `view` would say it now: it has heard us, and echoes our last packet.
    pub(crate) fn word(&self, from: Incarnation, seq: u64, view: &[Incarnation]) -> Heartbeat {
        let all: Vec<Incarnation> = view.iter().copied().chain([self.me(), from]).collect();
        Heartbeat {
            from,
            seq,
            machine: self.cluster.host(from.host).unwrap().machine().bytes(),
            speaks: 1,
            presence: Presence::Admitted,
            silent: false,
            quorate: false,
            found: self.engine.found().or(Some(Founding { decider: life(9, 9), epoch: 1 })),
            digest: self.cluster.digest(),
            lease: Duration::secs(1),
            drift: Drift { ppm: 10_000 },
            electorate: self.engine.counted().iter().copied().chain(all.iter().copied()).collect(),
            dead: Default::default(),
            fenced: Default::default(),
            cut: Default::default(),
            ails: heapless::Vec::new(),
            wishes: palisade_proto::message::Wishes::default(),
            walls: Names::new(),
            walled: Names::new(),
            view: all.iter().copied().collect(),
            heard: all.iter().copied().collect(),
            echo: [Echo { of: self.me(), seq: self.last_seq() }].into_iter().collect(),
            grants: Default::default(),
            lock: None,
            busy: WorkloadSet::EMPTY,
            refused: WorkloadSet::EMPTY,
            awaits: Default::default(),
            place: Default::default(),
            desired: Desired::default(),
            health: HealthClass::Healthy,
            load: 0,
            watchdog_bound: Duration::ms(0),
        }
    }

    pub(crate) fn hear(&mut self, heartbeat: Heartbeat) {
        self.engine.handle_heartbeat(Arc::new(heartbeat), Time(self.now));
        self.drain();
    }

    /// Runs for a while with these members saying what members say, each granting what is asked.
    pub(crate) fn live(&mut self, ms: u64, members: &[Incarnation]) {
        self.live_in_view(ms, members, members);
    }

    /// The same, while only some of the view speak.
    pub(crate) fn live_in_view(&mut self, ms: u64, speakers: &[Incarnation], view: &[Incarnation]) {
        for _ in 0..ms / 50 {
            self.wait(50);
            for member in speakers {
                let mut word = self.word(*member, self.now * 1000, view);
                word.grants = [Grant { to: self.me(), seq: self.last_seq() }].into_iter().collect();
                self.hear(word);
            }
        }
    }

    /// Workload 0's driver reports.
    pub(crate) fn report(&mut self, report: WorkloadReport) {
        self.engine.handle_workload(WorkloadId(0), report, Time(self.now));
        self.drain();
    }

    pub(crate) fn confirm(&mut self, host: u8) -> Result<String, RequestRefused> {
        self.confirm_with(host, Ok(None))
    }

    pub(crate) fn confirm_with(
        &mut self,
        host: u8,
        statement: Result<Option<Statement>, String>,
    ) -> Result<String, RequestRefused> {
        let host = HostId::new(host).unwrap();
        let request = Request::Confirm { host, reason: "seen".to_owned(), by: "root".to_owned(), statement };
        let outcome = self.engine.handle_request(request, Time(self.now));
        self.drain();
        outcome
    }

    pub(crate) fn answer(&mut self, order: &DeviceOrder, response: Response) {
        self.engine.handle_device(order.id, Ok(response), Time(self.now));
        self.drain();
    }

    /// The witness says yes to this ask.
    pub(crate) fn consent(&mut self, ask: &Ask) {
        let answer =
            Answer { start: [1; 8], seq: ask.seq, to: self.me(), ask: ask.seq, verdict: Verdict::Granted };
        self.engine.handle_answer(&answer, Time(self.now));
        self.drain();
    }

    pub(crate) fn lease_of(&self, holder: Incarnation) -> Option<Vec<Incarnation>> {
        self.engine.leases().find(|(who, ..)| *who == holder).map(|(_, view, _)| view.to_vec())
    }

    pub(crate) fn is_dead(&self, who: Incarnation) -> bool {
        self.engine.dead().any(|dead| dead == who)
    }

    /// The hosts whose power was ordered off, in order.
    pub(crate) fn offs(&self) -> Vec<u8> {
        self.ordered(Command::Off)
    }

    /// The hosts whose power was ordered on, in order.
    pub(crate) fn ons(&self) -> Vec<u8> {
        self.ordered(Command::On)
    }

    /// How often this host's power was to be read.
    pub(crate) fn looks(&self, host: u8) -> usize {
        self.ordered(Command::Read).into_iter().filter(|other| *other == host).count()
    }

    fn ordered(&self, command: Command) -> Vec<u8> {
        let orders = self.done.iter().filter_map(|(_, action)| match action {
            Action::Device(order) if order.command == command => Some(order.host.number()),
            _ => None,
        });
        orders.collect()
    }

    pub(crate) fn exits(&self) -> Vec<ExitKind> {
        let exits = self.done.iter().filter_map(|(_, action)| match action {
            Action::Exit(kind) => Some(*kind),
            _ => None,
        });
        exits.collect()
    }

    /// What is on the record of this kind.
    pub(crate) fn recorded(&self, kind: impl Fn(&Event) -> bool) -> usize {
        let events = self.done.iter().filter_map(|(_, action)| match action {
            Action::Record { event, .. } => Some(event),
            _ => None,
        });
        events.filter(|event| kind(event)).count()
    }

    pub(crate) fn has_alarm(&self, words: &str) -> bool {
        self.engine.status(Time(self.now)).alarms.iter().any(|alarm| alarm.contains(words))
    }
}

/// Answers every order under way with this reading.
pub(crate) fn answer_readings(bench: &mut Bench, power: Reading) {
    for order in std::mem::take(&mut bench.orders) {
        bench.engine.handle_device(order.id, Ok(Response::Reads(power)), Time(bench.now));
    }
    bench.drain();
}

/// Host b, un-admitted, locked as told.
pub(crate) fn unadmitted(bench: &Bench, lock: Option<Founding>) -> Heartbeat {
    unadmitted_host(bench, life(1, 1), lock)
}

/// Any host, un-admitted, locked as told.
pub(crate) fn unadmitted_host(bench: &Bench, from: Incarnation, lock: Option<Founding>) -> Heartbeat {
    let mut word = bench.word(from, bench.now * 1000, &[]);
    word.presence = Presence::Joining;
    word.found = None;
    word.electorate = Default::default();
    word.view = Default::default();
    word.lock = lock;
    word
}
