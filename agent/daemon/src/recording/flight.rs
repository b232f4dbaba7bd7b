//! For tests: host a of three, its engine recorded, with peers that say what well-behaved members say.

use std::sync::Arc;

use palisade_core::action::{Action, Seen, Ticket, WorkloadReport};
use palisade_core::config::Written;
use palisade_core::record::Event;
use palisade_core::standing::{Awakening, Birth, Saved, SavedState, awaken, life_name};
use palisade_core::{Engine, Input};
use palisade_proto::message::{Desired, Echo, Grant, HealthClass, Presence};
use palisade_proto::{
    Drift, Duration, Founding, Heartbeat, HostId, Incarnation, Time, WorkloadId, WorkloadSet,
};

use super::{Recorded, Recorder};

const BEGIN_MS: u64 = 1_000_000;
const BOOT: [u8; 16] = [7; 16];

/// The configuration of hosts a, b and c, with a workload.
pub(crate) fn text(extra: &str) -> String {
    let mut text = format!("[cluster]\nname = \"t\"\nkeys = [ {{ id = 1, file = \"/k\" }} ]\n{extra}");
    for (n, name) in ["a", "b", "c"].into_iter().enumerate() {
        text += &format!(
            "[[host]]\nid = {n}\nname = \"{name}\"\nmachine = \"4c4c4544-0051-3510-8052-0000000000{n:02x}\"\n\
             links = [\"10.0.0.{}:7411\"]\n[[device]]\nname = \"bmc-{name}\"\nkind = \"ipmi\"\nfences = \"{name}\"\n\
             address = \"10.0.1.{}:623\"\nuser = \"u\"\npassword = {{ file = \"/p\" }}\nguid = \"a123456789abcdefa123456789abcd{n:02x}\"\n",
            n + 1,
            n + 1,
        );
    }
    text + "[[workload]]\nid = 0\nname = \"db\"\nhosts = [\"a\", \"b\"]\n[workload.command]\nstart = [\"/s\"]\n\
            stop = [\"/s\"]\nstatus = [\"/s\"]\n"
}

/// A host in the one life that it has in these tests.
pub(crate) fn life(host: u8) -> Incarnation {
    Incarnation { host: HostId::new(host).unwrap(), life: life_name(BOOT, 0) }
}

/// Host a, on its way.
pub(crate) struct Flight {
    pub(crate) engine: Recorded,
    /// Everything that it decided since the recording began.
    pub(crate) decided: Vec<Event>,
    /// Inputs since then.
    pub(crate) inputs: u64,
    now: u64,
    seq: u64,
    waiting: Vec<Ticket>,
}

impl Flight {
    /// An admitted member that has just started.
    pub(crate) fn begin(extra: &str, recorder: Recorder) -> Self {
        let written = Written::parse(&text(extra), "test").unwrap();
        let cluster = written.cluster().clone();
        let mut saved = Saved::new(0);
        saved.admitted = true;
        saved.found = Some(Founding { decider: life(0), epoch: 1 });
        saved.electorate = (0..3).map(life).collect();
        let birth = Birth {
            host: HostId::new(0).unwrap(),
            boot_id: BOOT,
            machine: cluster.host(HostId::new(0).unwrap()).unwrap().machine().bytes(),
            first_seq: BEGIN_MS * 1000,
            saved: SavedState::Found(Box::new(saved)),
            journal_says_admitted: false,
        };
        let Awakening::Live { me, saved, resumed } = awaken(&birth) else { panic!("must reboot") };
        let mut engine = Engine::new(cluster, &birth, me, *saved, resumed, Time(BEGIN_MS));
        while engine.poll_action().is_some() {}
        let mut flight = Self {
            engine: Recorded::new(engine, written, recorder),
            decided: Vec::new(),
            inputs: 0,
            now: BEGIN_MS,
            seq: BEGIN_MS * 1000,
            waiting: Vec::new(),
        };
        flight.take(Input::Workload(WorkloadId(0), WorkloadReport::Seen(Seen::Stopped)));
        flight
    }

    pub(crate) fn take(&mut self, input: Input) {
        self.inputs += 1;
        drop(self.engine.take(input, Time(self.now)));
        while let Some(action) = self.engine.poll_action() {
            if let Action::Send(heartbeat) = action {
                self.seq = heartbeat.seq;
            } else if let Action::Record { ticket, event } = action {
                self.waiting.extend(ticket);
                self.decided.push(*event);
            }
        }
    }

    /// Lets time pass; the journal takes 3 ms for a record.
    pub(crate) fn wait(&mut self, ms: u64) {
        let end = self.now + ms;
        loop {
            for ticket in std::mem::take(&mut self.waiting) {
                self.now += 3;
                self.take(Input::Durable(ticket));
            }
            let wake = self.engine.wake().0;
            if wake > end {
                break;
            }
            self.now = self.now.max(wake);
            self.take(Input::Tick);
        }
        self.now = self.now.max(end);
    }

    /// These hosts speak each 100 ms, and grant what is asked.
    pub(crate) fn live(&mut self, ms: u64, speakers: &[u8]) {
        for _ in 0..ms / 100 {
            self.wait(100);
            for host in speakers {
                let word = self.word(life(*host));
                self.take(Input::Heartbeat(Arc::new(word)));
            }
        }
    }

    fn word(&self, from: Incarnation) -> Heartbeat {
        let (me, all) = (life(0), || (0..3).map(life).collect());
        let machine = self.engine.cluster().host(from.host).unwrap().machine().bytes();
        Heartbeat {
            from,
            seq: self.now * 1000,
            machine,
            speaks: 1,
            presence: Presence::Admitted,
            silent: false,
            quorate: true,
            found: self.engine.found(),
            digest: self.engine.cluster().digest(),
            lease: Duration::secs(1),
            drift: Drift { ppm: 10_000 },
            electorate: all(),
            dead: Default::default(),
            fenced: Default::default(),
            cut: Default::default(),
            ails: Default::default(),
            wishes: Default::default(),
            walls: Default::default(),
            walled: Default::default(),
            view: all(),
            heard: all(),
            echo: [Echo { of: me, seq: self.seq }].into_iter().collect(),
            grants: [Grant { to: me, seq: self.seq }].into_iter().collect(),
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

    /// Lands: what waits is written.
    pub(crate) fn land(self) {
        crate::testing::run(async { self.engine.close().await.expect("the recorder ended without a word") });
    }
}
