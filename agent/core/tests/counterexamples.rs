//! The counterexamples listed at the end of PROTOCOL, each as one engine and the packets that once broke it. (1, 3 and 17 stand
//! beside the electorate and the support, 13 beside the witness; 18 belongs to storage fencing.)

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at the variants it is about")]

use std::sync::Arc;

use palisade_core::Engine;
use palisade_core::action::{Act, Action, DeviceOrder, Seen, WorkloadReport};
use palisade_core::config::Cluster;
use palisade_core::standing::{Awakening, Birth, Saved, SavedState, awaken};
use palisade_ladder::{Command, Power, Response};
use palisade_proto::message::{Desired, Echo, Grant, HealthClass, Place, Presence};
use palisade_proto::{
    AskKind, Drift, Duration, Founding, Heartbeat, HostId, Incarnation, Time, WorkloadId, WorkloadSet,
};

const BEGIN: u64 = 1_000_000;

fn cluster(hosts: u8, extra: &str) -> Arc<Cluster> {
    let mut text = format!("[cluster]\nname = \"t\"\nkeys = [ {{ id = 1, file = \"/k\" }} ]\n{extra}");
    for id in 0..hosts {
        let (name, n) = (char::from(b'a' + id), id + 1);
        text += &format!(
            "[[host]]\nid = {id}\nname = \"{name}\"\nmachine = \"4c4c4544-0051-3510-8052-0000000000{n:02x}\"\n\
             links = [\"10.0.0.{n}:7411\"]\n[[device]]\nname = \"bmc-{name}\"\nkind = \"ipmi\"\nfences = \"{name}\"\n\
             address = \"10.0.1.{n}:623\"\nuser = \"u\"\npassword = {{ file = \"/p\" }}\nguid = \"a123456789abcdefa123456789abcd{n:02x}\"\n"
        );
    }
    text += "[[workload]]\nid = 0\nname = \"w\"\nhosts = [\"a\", \"b\"]\n[workload.command]\nstart = [\"/s\"]\nstop = [\"/s\"]\nstatus = [\"/s\"]\n";
    Arc::new(Cluster::parse(&text, "test").unwrap_or_else(|error| panic!("{error}")))
}

const WITNESS: &str = "[witness]\nbroker = \"mqtt://10.0.0.9\"\nkeys = [ { id = 1, file = \"/w\" } ]\n";

fn life(host: u8, life: u8) -> Incarnation {
    Incarnation::new(HostId::new(host).unwrap(), [life; 8])
}

/// One engine, its clock, and everything it wanted.
struct Bench {
    now: u64,
    cluster: Arc<Cluster>,
    engine: Engine,
    saved: Saved,
    sent: Vec<Arc<Heartbeat>>,
    orders: Vec<DeviceOrder>,
    asks: Vec<palisade_proto::Ask>,
    acts: Vec<(WorkloadId, Act)>,
}

impl Bench {
    /// Host a in its first life; `members` makes it an admitted one that counts these and itself.
    fn new(hosts: u8, extra: &str, members: &[Incarnation]) -> Self {
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

    fn start(cluster: Arc<Cluster>, saved: SavedState, now: u64) -> Self {
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
        };
        bench.engine.handle_workload(WorkloadId(0), WorkloadReport::Seen(Seen::Stopped), Time(now));
        bench.drain();
        bench
    }

    fn drain(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            match action {
                Action::Save(saved) => self.saved = *saved,
                Action::Send(heartbeat) => self.sent.push(heartbeat),
                Action::Device(order) => self.orders.push(order),
                Action::Ask(ask) => self.asks.push(*ask),
                Action::Workload { id, act } => self.acts.push((id, act)),
                Action::Record { ticket: Some(ticket), .. } => {
                    self.engine.handle_durable(ticket, Time(self.now))
                }
                _ => {}
            }
        }
    }

    fn wait(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.engine.wake().0 <= end {
            self.now = self.now.max(self.engine.wake().0);
            self.engine.handle_tick(Time(self.now));
            self.drain();
        }
        self.now = end;
    }

    fn me(&self) -> Incarnation {
        self.engine.me()
    }

    /// The last seq that was sent; what a live peer echoes.
    fn last_seq(&self) -> u64 {
        self.sent.last().map_or(0, |heartbeat| heartbeat.seq)
    }

    /// A heartbeat as a well-behaved member of `view` would say it now: it has heard us, and echoes our last packet.
    fn word(&self, from: Incarnation, seq: u64, view: &[Incarnation]) -> Heartbeat {
        let all: Vec<Incarnation> = view.iter().copied().chain([self.me(), from]).collect();
        Heartbeat {
            from,
            seq,
            machine: self.cluster.host(from.host).unwrap().machine().bytes(),
            speaks: 1,
            presence: Presence::Admitted,
            silent: false,
            quorate: false,
            found: Some(Founding { decider: life(9, 9), epoch: 1 }),
            digest: self.cluster.digest(),
            lease: Duration::secs(1),
            drift: Drift { ppm: 10_000 },
            electorate: self.engine.counted().iter().copied().chain(all.iter().copied()).collect(),
            dead: Default::default(),
            fenced: Default::default(),
            cut: Default::default(),
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

    fn hear(&mut self, heartbeat: Heartbeat) {
        self.engine.handle_heartbeat(Arc::new(heartbeat), Time(self.now));
        self.drain();
    }

    /// Runs for a while with these members saying what members say, each granting what is asked.
    fn live(&mut self, ms: u64, members: &[Incarnation]) {
        for _ in 0..ms / 50 {
            self.wait(50);
            for member in members {
                let mut word = self.word(*member, self.now * 1000, members);
                word.grants = [Grant { to: self.me(), seq: self.last_seq() }].into_iter().collect();
                self.hear(word);
            }
        }
    }

    fn lease_of(&self, holder: Incarnation) -> Option<Vec<Incarnation>> {
        self.engine.leases().find(|(who, ..)| *who == holder).map(|(_, view, _)| view.to_vec())
    }

    fn is_dead(&self, who: Incarnation) -> bool {
        self.engine.dead().any(|dead| dead == who)
    }

    fn offs(&self) -> Vec<u8> {
        self.orders
            .iter()
            .filter(|order| order.command == Command::PowerOff)
            .map(|order| order.host.number())
            .collect()
    }
}

#[test]
fn ce02_a_reordered_old_ask_does_not_replace_a_newer_lease() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_000, &[b, c]);
    let seq = bench.now * 1000 + 10;
    let newer = bench.word(b, seq, &[c]);
    bench.hear(newer);
    let full = bench.lease_of(b).expect("granted");
    let older = bench.word(b, seq - 5, &[]);
    bench.hear(older);
    assert_eq!(bench.lease_of(b), Some(full));
}

#[test]
fn ce04_a_delayed_packet_of_a_dead_boot_proves_nothing() {
    let (old, new, c) = (life(1, 1), life(1, 2), life(2, 1));
    let mut bench = Bench::new(3, "", &[new, c]);
    let mut delayed = bench.word(old, bench.now * 1000, &[c]);
    bench.live(2_000, &[new, c]);
    // It echoes what it had heard before the new boot spoke.
    delayed.echo = [Echo { of: bench.me(), seq: bench.sent[0].seq }].into_iter().collect();
    bench.hear(delayed);
    assert!(!bench.is_dead(new));
    // And the packet of a new boot that echoes a fresh one does prove the old one dead.
    let newest = life(1, 3);
    bench.wait(250);
    let fresh = bench.word(newest, 5, &[]);
    bench.hear(fresh);
    assert!(bench.is_dead(new) && !bench.is_dead(newest));
}

#[test]
fn ce05_a_slow_answer_is_about_the_life_that_was_fenced() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_500, &[b, c]);
    bench.live(1_500, &[b]);
    // Look first, then off: the victim is c, in the life that was counted then.
    let look = *bench.orders.last().expect("a look");
    bench.engine.handle_device(look.id, Ok(Response::Power(Power::On)), Time(bench.now));
    bench.drain();
    assert_eq!(bench.offs(), [2]);
    let off = *bench.orders.last().unwrap();
    // Meanwhile the host has come back, and is heard.
    let reborn = life(2, 2);
    let mut word = bench.word(reborn, 5, &[]);
    word.presence = Presence::Joining;
    bench.hear(word);
    assert!(bench.is_dead(c) && !bench.is_dead(reborn));
    bench.engine.handle_device(off.id, Ok(Response::Acknowledged), Time(bench.now));
    bench.drain();
    for order in bench.orders.clone() {
        bench.engine.handle_device(order.id, Ok(Response::Power(Power::Off)), Time(bench.now));
        bench.drain();
    }
    assert!(!bench.is_dead(reborn));
}

#[test]
fn ce06_a_watchdog_bound_counts_from_silence_arming_and_an_unbroken_quorum() {
    let (b, c) = (life(1, 1), life(2, 1));
    let bound = Duration::secs(32);
    let prepare = |armed: bool| {
        let mut bench = Bench::new(3, "", &[b, c]);
        bench.live(2_500, &[b, c]);
        let mut last = bench.word(c, bench.now * 1000 + 1, &[b]);
        last.watchdog_bound = if armed { bound } else { Duration::ms(0) };
        bench.hear(last);
        bench
    };
    let mut bench = prepare(true);
    bench.live(32_000, &[b]);
    assert!(!bench.is_dead(c), "before the bound");
    bench.live(2_000, &[b]);
    assert!(bench.is_dead(c), "past the bound");
    let mut bench = prepare(false);
    bench.live(40_000, &[b]);
    assert!(!bench.is_dead(c), "never armed");
    // The prover's own gap in quorum starts the count again: here it was frozen for 5 s.
    let mut bench = prepare(true);
    bench.live(20_000, &[b]);
    bench.now += 5_000;
    bench.live(15_000, &[b]);
    assert!(!bench.is_dead(c), "a gap");
    bench.live(20_000, &[b]);
    assert!(bench.is_dead(c), "past the bound after the gap");
}

#[test]
fn ce07_an_agent_restart_forgets_neither_electorate_nor_deaths() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_500, &[b, c]);
    let mut parting = bench.word(c, bench.now * 1000 + 1, &[]);
    parting.presence = Presence::Left;
    bench.hear(parting);
    bench.wait(20);
    assert!(bench.is_dead(c) && bench.engine.counted().contains(&c));
    let again = Bench::start(
        Arc::clone(&bench.cluster),
        SavedState::Found(Box::new(bench.saved.clone())),
        bench.now + 100,
    );
    assert_eq!(again.engine.me(), bench.me());
    assert!(again.is_dead(c) && again.engine.counted() == bench.engine.counted() && again.engine.admitted());
}

#[test]
fn ce08_a_newcomer_is_admitted_once_every_member_counts_it() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[]);
    bench.wait(400);
    let fresh = |bench: &Bench, from, counts: bool| {
        let mut word = bench.word(from, bench.now * 1000, &[b, c]);
        word.electorate = [b, c].into_iter().chain(counts.then(|| bench.me())).collect();
        word
    };
    let word = fresh(&bench, b, true);
    bench.hear(word);
    bench.wait(50);
    let word = fresh(&bench, c, false);
    bench.hear(word);
    assert!(!bench.engine.admitted(), "c does not count it yet");
    bench.wait(50);
    let word = fresh(&bench, c, true);
    bench.hear(word);
    assert!(bench.engine.admitted());
}

/// Answers every reading of a BMC with this.
fn answer_readings(bench: &mut Bench, power: Power) {
    for order in std::mem::take(&mut bench.orders) {
        bench.engine.handle_device(order.id, Ok(Response::Power(power)), Time(bench.now));
    }
    bench.drain();
}

/// Host b, un-admitted, locked as told.
fn unadmitted(bench: &Bench, lock: Option<Founding>) -> Heartbeat {
    let mut word = bench.word(life(1, 1), bench.now * 1000, &[]);
    word.presence = Presence::Joining;
    word.found = None;
    word.electorate = Default::default();
    word.view = Default::default();
    word.lock = lock;
    word
}

#[test]
fn ce09_no_cold_start_beside_a_host_that_may_live() {
    let mut bench = Bench::new(3, "", &[]);
    for (power, admitted) in [(Power::On, false), (Power::Unknown, false), (Power::Off, true)] {
        for _ in 0..100 {
            bench.wait(100);
            let word = unadmitted(&bench, bench.engine.lock());
            bench.hear(word);
            answer_readings(&mut bench, power);
        }
        assert_eq!(bench.engine.admitted(), admitted, "c reads {power:?}");
    }
    assert_eq!(bench.engine.counted().len(), 2);
}

#[test]
fn ce10_a_commit_waits_until_every_locked_host_has_confirmed() {
    let mut bench = Bench::new(2, WITNESS, &[]);
    bench.wait(700);
    let lock = bench.engine.lock();
    assert!(lock.is_some());
    // It locks, but has not heard what was said since.
    let mut word = unadmitted(&bench, lock);
    word.echo = [Echo { of: bench.me(), seq: bench.last_seq() }].into_iter().collect();
    bench.hear(word.clone());
    bench.wait(600);
    word.seq += 1;
    bench.hear(word);
    assert!(!bench.engine.admitted(), "a stale echo confirms nothing");
    bench.wait(50);
    let word = unadmitted(&bench, lock);
    bench.hear(word);
    assert!(bench.engine.admitted());
}

#[test]
fn ce11_a_locked_host_follows_its_lock_alone() {
    // b and c are the members of a dead lineage that counted this host; d (host 3) decides a cold start.
    let (b, c) = (life(1, 1), life(2, 1));
    let lock = Founding { decider: b, epoch: 50 };
    let mut saved = Saved::new(0);
    saved.lock = Some(lock);
    let mut bench = Bench::start(cluster(4, ""), SavedState::Found(Box::new(saved)), BEGIN);
    bench.wait(400);
    // Another lineage's members count it: they are not what it is locked on.
    for from in [c, life(3, 1)] {
        let mut word = bench.word(from, bench.now * 1000, &[c, life(3, 1)]);
        word.electorate = [c, life(3, 1), bench.me()].into_iter().collect();
        bench.hear(word);
    }
    assert!(!bench.engine.admitted() && bench.engine.lock() == Some(lock));
    // A packet from before the epoch releases nothing.
    let mut stale = unadmitted(&bench, None);
    stale.seq = 49;
    bench.hear(stale);
    assert_eq!(bench.engine.lock(), Some(lock), "a stale packet");
    // Mere silence releases nothing; a reading of on neither.
    for _ in 0..50 {
        bench.wait(100);
        answer_readings(&mut bench, Power::On);
    }
    assert_eq!(bench.engine.lock(), Some(lock), "silence");
    for _ in 0..30 {
        bench.wait(100);
        answer_readings(&mut bench, Power::Off);
    }
    assert_ne!(bench.engine.lock(), Some(lock), "silent and off");
}

#[test]
fn ce12_a_start_waits_for_everyones_word_on_the_claim() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.wait(250);
    // Quorate by b, and coordinator; c's words echo nothing new, so it may have claimed or run w meanwhile.
    let stale = bench.last_seq();
    for _ in 0..60 {
        bench.wait(50);
        for from in [b, c] {
            let mut word = bench.word(from, bench.now * 1000, &[b, c]);
            word.grants = [Grant { to: bench.me(), seq: bench.last_seq() }].into_iter().collect();
            if from == c {
                word.echo = [Echo { of: bench.me(), seq: stale }].into_iter().collect();
                word.grants = Default::default();
            }
            bench.hear(word);
        }
    }
    assert!(bench.sent.last().unwrap().busy.contains(WorkloadId(0)), "claimed");
    assert_eq!(bench.acts, [], "c has not spoken since the claim");
    // c says that it is busy with it: the claim is withdrawn.
    bench.wait(50);
    let mut word = bench.word(c, bench.now * 1000, &[b, c]);
    word.busy.insert(WorkloadId(0));
    bench.hear(word);
    assert_eq!(bench.acts, []);
    // And once it is free everywhere, it starts.
    bench.live(1_000, &[b, c]);
    assert_eq!(bench.acts, [(WorkloadId(0), Act::Start)]);
}

#[test]
fn only_the_coordinators_placements_count() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_000, &[b, c]);
    let mut word = bench.word(b, bench.now * 1000 + 1, &[b, c]);
    word.place = [Place { workload: WorkloadId(0), on: b }].into_iter().collect();
    bench.hear(word);
    assert_eq!(bench.acts, [(WorkloadId(0), Act::Start)], "a coordinates, not b");
}

#[test]
fn ce14_a_silent_member_makes_the_other_ask_the_witness() {
    let b = life(1, 1);
    let mut bench = Bench::new(2, WITNESS, &[b]);
    bench.live(2_000, &[b]);
    bench.asks.clear();
    bench.live(1_000, &[b]);
    assert!(bench.asks.iter().all(|ask| ask.kind == AskKind::Beacon), "both can vote");
    for _ in 0..10 {
        bench.wait(50);
        let mut word = bench.word(b, bench.now * 1000, &[]);
        word.silent = true;
        bench.hear(word);
    }
    assert!(bench.asks.iter().any(|ask| matches!(ask.kind, AskKind::Ordinary { .. })), "b cannot vote");
}

#[test]
fn ce15_left_ends_one_life_and_that_life_grants_nothing() {
    let (old, new, c) = (life(1, 1), life(1, 2), life(2, 1));
    let mut bench = Bench::new(3, "", &[new, c]);
    let mut delayed = bench.word(old, bench.now * 1000, &[]);
    delayed.presence = Presence::Left;
    bench.live(2_000, &[new, c]);
    bench.engine.handle_workload(WorkloadId(0), WorkloadReport::Started, Time(bench.now));
    bench.hear(delayed);
    assert!(!bench.is_dead(new), "another life's word");
    // Our own leave: said only after it is written, and nothing is granted from then on.
    bench.engine.handle_leave("test", Time(bench.now));
    bench.drain();
    assert_eq!(bench.acts.last(), Some(&(WorkloadId(0), Act::Stop)));
    bench.wait(300);
    assert!(
        !bench.saved.left && bench.sent.last().unwrap().presence == Presence::Admitted,
        "its workload still runs"
    );
    bench.engine.handle_workload(WorkloadId(0), WorkloadReport::Stopped, Time(bench.now));
    bench.drain();
    assert!(bench.saved.left);
    let parting = bench.sent.last().unwrap();
    assert!(parting.presence == Presence::Left && parting.grants.is_empty() && parting.view.is_empty());
    assert_eq!(bench.engine.leases().count(), 0);
}

#[test]
fn ce16_away_drops_the_lease_and_holds_the_fence_until_back_or_overdue() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_500, &[b, c]);
    assert!(bench.lease_of(c).is_some());
    let mut away = bench.word(c, bench.now * 1000 + 1, &[]);
    away.presence = Presence::Away;
    bench.hear(away);
    assert!(bench.lease_of(c).is_none() && !bench.engine.view().contains(&c));
    bench.live(4_500, &[b]);
    assert!(bench.orders.is_empty(), "held");
    // Back, then silent again: an ordinary silence from now on, not the rest of the hold.
    bench.live(1_000, &[b, c]);
    assert!(bench.engine.view().contains(&c));
    bench.live(900, &[b]);
    assert!(bench.orders.is_empty());
    bench.live(400, &[b]);
    assert!(!bench.orders.is_empty(), "an ordinary silence");
    // And one that does not come back in time is fenced.
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_500, &[b, c]);
    let mut away = bench.word(c, bench.now * 1000 + 1, &[]);
    away.presence = Presence::Away;
    bench.hear(away);
    bench.live(5_500, &[b]);
    assert!(!bench.orders.is_empty(), "overdue");
}

#[test]
fn another_machine_under_a_hosts_name_is_an_alarm_and_never_a_proof() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_000, &[b, c]);
    let mut clone = bench.word(life(1, 2), 5, &[]);
    clone.machine = [9; 16];
    bench.hear(clone);
    assert!(!bench.is_dead(b));
    assert!(
        bench.engine.status(Time(bench.now)).alarms.iter().any(|alarm| alarm.contains("another machine"))
    );
}
