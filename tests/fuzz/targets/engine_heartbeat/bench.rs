//! One engine, its clock, what it wants done, and what must hold of that.

use std::sync::{Arc, OnceLock};

use palisade_core::Engine;
use palisade_core::action::{Act, Action, DeviceOrder, Ticket};
use palisade_core::config::Cluster;
use palisade_core::record::Event;
use palisade_core::standing::{Awakening, Birth, Saved, SavedState, awaken};
use palisade_ladder::Command;
use palisade_proto::fuzz::Bytes;
use palisade_proto::wire::{MAX_MESSAGE, decode_heartbeat, encode_heartbeat};
use palisade_proto::{Ask, Founding, Heartbeat, HostId, Incarnation, Time};

const BEGIN_MS: u64 = 1_000_000;
/// The most actions that one input may draw: a heartbeat, a save, and a few records for each of 3 hosts and 2 workloads.
const ACTIONS_MAX: usize = 512;
/// So many ticks may a step of time take, and one more for each ms of it.
const TICKS_MIN: u64 = 64;
/// The most ticks of one run: an input that only lets time pass is slow and finds nothing.
const TICKS_MAX: u64 = 1024;

/// What an engine intended, as far as it is durable: nothing else may leave the host (SAFE-5).
#[derive(Clone, PartialEq, Eq)]
enum Intent {
    Order { device: String, command: Command },
    Start { workload: u8 },
}

/// See the module.
pub(super) struct Bench {
    pub(super) engine: Engine,
    pub(super) asks: Vec<Ask>,
    pub(super) last_seq: u64,
    pub(super) disk_hangs: bool,
    exited: bool,
    pub(super) cluster: Arc<Cluster>,
    now_ms: u64,
    ticks: u64,
    orders: Vec<DeviceOrder>,
    waiting: Vec<(Ticket, Option<Intent>)>,
    durable: Vec<Intent>,
}

fn cluster() -> Arc<Cluster> {
    static CLUSTER: OnceLock<Arc<Cluster>> = OnceLock::new();
    let read = || {
        let mut text = "[cluster]\nname = \"t\"\nkeys = [ { id = 1, file = \"/k\" } ]\n\
             [witness]\nbroker = \"mqtt://10.0.0.9\"\nkeys = [ { id = 1, file = \"/w\" } ]\n\
             [watchdog]\ndevice = \"/dev/watchdog0\"\ntimeout = \"10s\"\nruns_while_frozen = true\n\
             [[storage]]\nname = \"s\"\npath = \"/s\"\n\
             [[probe]]\nname = \"gate\"\nkind = \"gateway\"\naddress = \"10.0.0.9\"\non_failure = \"fence\"\n"
            .to_owned();
        for id in 0..3 {
            let (name, n) = (["a", "b", "c"][id], id + 1);
            text += &format!(
                "[[host]]\nid = {id}\nname = \"{name}\"\nmachine = \"4c4c4544-0051-3510-8052-0000000000{n:02x}\"\n\
                 links = [\"10.0.0.{n}:7411\"]\n[[device]]\nname = \"bmc-{name}\"\nkind = \"ipmi\"\nfences = \"{name}\"\n\
                 address = \"10.0.1.{n}:623\"\nuser = \"u\"\npassword = {{ file = \"/p\" }}\n\
                 guid = \"a123456789abcdefa123456789abcd{n:02x}\"\n\
                 [[device]]\nname = \"net-{name}\"\nkind = \"nft\"\non = \"survivors\"\nfences = \"{name}\"\n\
                 level = 2\nrace = true\naddresses = [\"10.0.0.{n}\"]\n"
            );
        }
        for (id, hosts) in [(0, "\"a\", \"b\""), (1, "\"a\", \"b\", \"c\"")] {
            text += &format!(
                "[[workload]]\nid = {id}\nname = \"w{id}\"\nhosts = [{hosts}]\nstorage = [\"s\"]\n[workload.command]\n\
                 start = [\"/s\"]\nstop = [\"/s\"]\nstatus = [\"/s\"]\n"
            );
        }
        Arc::new(Cluster::parse(&text, "test").unwrap_or_else(|error| panic!("{error}")))
    };
    Arc::clone(CLUSTER.get_or_init(read))
}

impl Bench {
    /// One of the probes of the configuration, or none of them.
    pub(super) fn probe(&self, bytes: &mut Bytes<'_>) -> u32 {
        let at = usize::from(bytes.byte() % 8);
        self.cluster.probes().get(at).map_or(7, |probe| probe.id().0)
    }

    /// Host a: in a first life that nobody has admitted, or one that counts b and c.
    pub(super) fn new(bytes: &mut Bytes<'_>) -> Self {
        let cluster = cluster();
        let host = HostId::new(0).unwrap();
        let mut saved = Saved::new(bytes.byte().into());
        let kind = bytes.byte();
        let machine = cluster.host(host).unwrap().machine().bytes();
        let birth = |saved: &Saved| Birth {
            host,
            boot_id: [7; 16],
            machine,
            first_seq: BEGIN_MS * 1000,
            saved: SavedState::Found(Box::new(saved.clone())),
            journal_says_admitted: false,
        };
        if !kind.is_multiple_of(4) {
            let Awakening::Live { me, .. } = awaken(&birth(&saved)) else { unreachable!("it is there") };
            saved.admitted = true;
            saved.found = Some(super::words::FOUND);
            saved.electorate = vec![me, super::words::peer(1, 0), super::words::peer(2, 0)];
            saved.claims = if kind & 8 == 0 { Vec::new() } else { vec![palisade_proto::WorkloadId(1)] };
            saved.lost_since = (kind & 16 == 0).then_some(Time(BEGIN_MS - 500));
        }
        let birth = birth(&saved);
        let Awakening::Live { me, saved, resumed } = awaken(&birth) else { unreachable!("it is there") };
        let engine = Engine::new(Arc::clone(&cluster), &birth, me, *saved, resumed, Time(BEGIN_MS));
        let mut bench = Self {
            engine,
            asks: Vec::new(),
            last_seq: 0,
            disk_hangs: false,
            exited: false,
            cluster,
            now_ms: BEGIN_MS,
            ticks: 0,
            orders: Vec::new(),
            waiting: Vec::new(),
            durable: Vec::new(),
        };
        bench.drain();
        bench
    }

    pub(super) fn now(&self) -> Time {
        Time(self.now_ms)
    }

    pub(super) fn founding(&self) -> Option<Founding> {
        self.engine.found().or(Some(super::words::FOUND))
    }

    /// Lets time pass as the run loop does, with a tick whenever one is due.
    pub(super) fn wait(&mut self, step_ms: u64) {
        let (end, before) = (self.now_ms + step_ms, self.ticks);
        while !self.is_over() && self.engine.wake().0 <= end {
            self.now_ms = self.now_ms.max(self.engine.wake().0);
            self.tick();
            let ticks = self.ticks - before;
            assert!(ticks <= TICKS_MIN + step_ms, "{ticks} ticks in {step_ms} ms");
        }
        self.now_ms = end;
    }

    /// The whole host stands still for a while, and then goes on.
    pub(super) fn freeze(&mut self, frozen_ms: u64) {
        self.now_ms += frozen_ms;
        self.tick();
    }

    fn tick(&mut self) {
        self.ticks += 1;
        self.engine.handle_tick(self.now());
        self.drain();
        assert!(self.exited || self.engine.wake() > self.now(), "the clock stands still");
    }

    /// Whether nothing more is to be seen of this run.
    pub(super) fn is_over(&self) -> bool {
        self.exited || self.ticks >= TICKS_MAX
    }

    pub(super) fn hear(&mut self, heartbeat: Heartbeat) {
        self.engine.handle_heartbeat(Arc::new(heartbeat), self.now());
    }

    /// The disk has taken one of the records that wait.
    pub(super) fn durable(&mut self, at: usize) {
        if at < self.waiting.len() {
            let (ticket, intent) = self.waiting.remove(at);
            self.durable.extend(intent);
            self.engine.handle_durable(ticket, self.now());
        }
    }

    pub(super) fn take_order(&mut self, at: usize) -> Option<DeviceOrder> {
        (at < self.orders.len()).then(|| self.orders.remove(at))
    }

    /// Polls until there is nothing more to do, and looks at each thing.
    pub(super) fn drain(&mut self) {
        let mut count = 0;
        while let Some(action) = self.engine.poll_action() {
            count += 1;
            assert!(count <= ACTIONS_MAX, "one input draws {count} actions and more");
            self.act(action);
            if !self.disk_hangs {
                self.durable(0);
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Send(heartbeat) => self.sent(&heartbeat),
            Action::Ask(ask) => {
                assert_eq!(ask.from, self.engine.me());
                self.asks.push(*ask);
            }
            Action::Record { ticket, event } => {
                palisade_proto::fuzz::check_words(&event);
                let intent = match *event {
                    Event::OrderIntended { device, command, .. } => Some(Intent::Order { device, command }),
                    Event::StartIntended { workload, .. } => Some(Intent::Start { workload: workload.id.0 }),
                    _ => None,
                };
                self.waiting.extend(ticket.map(|ticket| (ticket, intent)));
            }
            Action::Device(order) => self.ordered(order),
            Action::CancelDevice(id) => self.orders.retain(|order| order.id != id),
            Action::Workload { id, act: Act::Start } => self.spend(&Intent::Start { workload: id.0 }),
            Action::Exit(_) => self.exited = true,
            Action::Save(_)
            | Action::Workload { .. }
            | Action::ArmWatchdog
            | Action::FeedWatchdog
            | Action::Reboot { .. }
            | Action::DisarmWatchdog => {}
        }
    }

    fn sent(&mut self, heartbeat: &Heartbeat) {
        assert!(heartbeat.from == self.engine.me() && heartbeat.seq > self.last_seq, "a nonce twice");
        self.last_seq = heartbeat.seq;
        let mut message = [0; MAX_MESSAGE];
        let len = encode_heartbeat(heartbeat, &mut message)
            .unwrap_or_else(|error| panic!("{error}: {heartbeat:?}"));
        let read = decode_heartbeat(heartbeat.from, heartbeat.seq, &message[..len]).unwrap();
        assert_eq!(
            (&read.view, &read.electorate, &read.lock),
            (&heartbeat.view, &heartbeat.electorate, &heartbeat.lock)
        );
    }

    /// SAFE-2 and SAFE-5: a power order has standing, and its intent is durable.
    fn ordered(&mut self, order: DeviceOrder) {
        if matches!(order.command, Command::Off | Command::On) {
            let until = order.standing_until.expect("a power order without an end to its standing");
            assert!(until > self.now(), "{:?} of host {} without standing", order.command, order.host);
            let device = self.cluster.devices().get(usize::from(order.device.0)).unwrap().name().to_owned();
            self.spend(&Intent::Order { device, command: order.command });
        }
        assert!(order.host != self.engine.me().host || order.command != Command::Off, "it fences itself");
        self.orders.push(order);
    }

    fn spend(&mut self, intent: &Intent) {
        let at = self.durable.iter().position(|durable| durable == intent);
        self.durable.remove(at.expect("it acts before its intent is durable"));
    }

    /// What only reads must hold, too: a status that can be told, and no death of this life while it lives on.
    pub(super) fn check_readers(&self) {
        let status = self.engine.status(self.now());
        assert_eq!(status.hosts.len(), self.cluster.hosts().len());
        assert!(self.exited || self.engine.dead().all(|dead| dead != self.engine.me()), "dead and alive");
        let coordinates = self.engine.is_coordinator(self.now());
        assert!(!coordinates || self.engine.is_quorate(self.now()), "SAFE-2: who acts has a quorum");
        let holders: Vec<Incarnation> = self.engine.leases().map(|(holder, ..)| holder).collect();
        assert!(holders.iter().all(|who| holders.iter().filter(|other| *other == who).count() == 1));
    }
}
