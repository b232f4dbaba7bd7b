//! PROTOCOL, "Isolation": what a host that cannot be proven dead is cut from, what that frees, and when it gets it back.

use std::sync::Arc;

use palisade_core::action::{Act, DeviceOrder, StorageHealth, WorkloadReport};
use palisade_core::config::Cluster;
use palisade_core::record::Event;
use palisade_core::standing::{Saved, SavedState};
use palisade_ladder::{Command, DeviceId, Failure, Reading, Response};
use palisade_proto::message::Presence;
use palisade_proto::{Founding, Incarnation, Time, WorkloadId};

use crate::common::{BEGIN, Bench, life, parsed, text};

const BMC: DeviceId = DeviceId(2);
const SAN: DeviceId = DeviceId(3);

/// Hosts a, b, c; c has a BMC, and a device that takes storage `lun` from it. w0 lies on `lun`, w1 on `lun` and `local`, w2 says
/// nothing of its storage.
fn cluster(san: &str) -> Arc<Cluster> {
    cluster_with(san, if san == "level = 1" { 2 } else { 1 })
}

fn cluster_with(san: &str, bmc_level: u8) -> Arc<Cluster> {
    let san = format!(
        "[[storage]]\nname = \"lun\"\npath = \"/lun\"\n[[storage]]\nname = \"local\"\npath = \"/local\"\n\
         [[device]]\nname = \"san-c\"\nkind = \"agent\"\nfences = \"c\"\nagent = \"fence_san\"\noptions = {{ plug = 3 }}\n\
         proof = \"storage_revoked\"\nstorage = [\"lun\"]\n{san}\n"
    );
    let mut text = text(3, "", &[0, 1, 2]).replace("hosts = [\"a\", \"b\"]", "hosts = [\"c\", \"a\"]");
    text = text.replacen("[[workload]]", &format!("{san}[[workload]]"), 1);
    text = text.replacen("name = \"bmc-c\"\n", &format!("name = \"bmc-c\"\nlevel = {bmc_level}\n"), 1);
    let of = |id: u8, storage: &str| {
        (format!("name = \"w{id}\"\n"), format!("name = \"w{id}\"\nstorage = {storage}\n"))
    };
    for (from, to) in [of(0, "[\"lun\"]"), of(1, "[\"lun\", \"local\"]")] {
        text = text.replacen(&from, &to, 1);
    }
    parsed(&text)
}

/// a counts b and c, and c runs everything; then c is not heard any more.
fn lost(san: &str) -> Bench {
    lost_with(cluster(san))
}

fn lost_with(cluster: Arc<Cluster>) -> Bench {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut saved = Saved::new(0);
    (saved.admitted, saved.found) = (true, Some(Founding { decider: life(9, 9), epoch: 1 }));
    let me = Bench::start(Arc::clone(&cluster), SavedState::Found(Box::new(saved.clone())), BEGIN).me();
    saved.electorate = vec![me, b, c];
    let mut bench = Bench::start(cluster, SavedState::Found(Box::new(saved)), BEGIN);
    (0..2).for_each(|at| bench.engine.handle_storage(at, StorageHealth::Healthy, Time(bench.now)));
    (1..3).for_each(|id| {
        let report = WorkloadReport::Seen(palisade_core::action::Seen::Stopped);
        bench.engine.handle_workload(WorkloadId(id), report, Time(bench.now));
    });
    bench.drain();
    bench.live_busy(2_500, b, c);
    assert!(bench.acts.is_empty());
    bench.live(1_300, &[b]);
    bench
}

impl Bench {
    /// The same as `live`, while c says that it runs everything.
    fn live_busy(&mut self, ms: u64, b: Incarnation, c: Incarnation) {
        for _ in 0..ms / 50 {
            self.live(50, &[b, c]);
            let mut word = self.word(c, self.now * 1000 + 1, &[b, c]);
            word.busy = (0..3).map(WorkloadId).collect();
            self.hear(word);
        }
    }

    /// What a device was ordered last.
    fn last(&self, device: DeviceId) -> Option<DeviceOrder> {
        self.orders.iter().rev().find(|order| order.device == device).copied()
    }

    /// The BMC went with its host: nothing that it is sent has an answer but that.
    fn bmc_is_gone(&mut self, ms: u64, members: &[Incarnation]) {
        let mut told = 0;
        for _ in 0..ms / 50 {
            let orders: Vec<DeviceOrder> = self.orders[told..].to_vec();
            told = self.orders.len();
            for order in orders.iter().filter(|order| order.device == BMC) {
                let gone = Err(Failure::Unreachable { error: "no route".to_owned() });
                self.engine.handle_device(order.id, gone, Time(self.now));
                self.drain();
            }
            self.live(50, members);
        }
    }

    fn san_reads(&mut self, command: Command, reads: Reading) {
        let order = self.last(SAN).unwrap();
        assert_eq!(order.command, command);
        self.answer(&order, Response::Acknowledged);
        let read = self.last(SAN).unwrap();
        assert_eq!(read.command, Command::Read);
        self.answer(&read, Response::Reads(reads));
    }

    fn is_cut(&self, who: Incarnation) -> bool {
        self.sent.last().unwrap().cut.contains(who)
    }

    fn state_of(&self, host: usize) -> String {
        self.engine.status(Time(self.now)).hosts[host].state.clone()
    }
}

#[test]
fn storage_is_taken_when_power_cannot_be_and_frees_what_lies_there_alone() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = lost("level = 2");
    assert_eq!(bench.last(SAN), None, "the ladder begins with its first level");
    bench.bmc_is_gone(1_000, &[b]);
    assert_eq!(bench.last(SAN).map(|order| order.command), Some(Command::Off));
    bench.live(200, &[b]);
    assert!(!bench.is_cut(c) && bench.acts.is_empty(), "ordered is not done");
    bench.san_reads(Command::Off, Reading::Off);
    bench.bmc_is_gone(1_500, &[b]);
    assert!(bench.is_cut(c) && bench.saved.cut == [c] && !bench.is_dead(c), "isolation is not death");
    assert_eq!(bench.acts, [(WorkloadId(0), Act::Start)], "w1 has another disk, w2 says nothing of its own");
    let cleared = |event: &Event| matches!(event, Event::StartIntended { cleared_by, .. } if cleared_by.contains("proven cut off: c"));
    assert_eq!(bench.recorded(cleared), 1);
    assert_eq!(bench.state_of(2), "isolated");
    assert!(bench.has_alarm("c cannot be fenced"), "its power is still to be proven off");
    // It thaws and is in the view again: nobody opens anything for that life.
    bench.live_busy(2_000, b, c);
    assert!(bench.is_cut(c) && bench.orders.iter().all(|order| order.command != Command::On));
    // It speaks as a new life: its paths are opened and read open before it is taken in.
    let again = life(2, 2);
    let join = |bench: &mut Bench, ms: u64| {
        for _ in 0..ms / 50 {
            bench.live(50, &[b]);
            let mut word = bench.word(again, bench.now * 1000 + 1, &[]);
            word.presence = Presence::Joining;
            word.heard = [bench.me(), b].into_iter().collect();
            bench.hear(word);
            let mut word = bench.word(b, bench.now * 1000 + 2, &[b]);
            word.heard = [bench.me(), again].into_iter().collect();
            bench.hear(word);
        }
    };
    join(&mut bench, 14_000);
    assert!(bench.is_dead(c));
    assert_eq!(bench.last(SAN).map(|order| order.command), Some(Command::On));
    assert!(!bench.engine.counted().contains(&again), "not before its paths read open");
    bench.san_reads(Command::On, Reading::On);
    join(&mut bench, 500);
    assert!(bench.engine.counted().contains(&again) && !bench.is_cut(c));
}

#[test]
fn a_race_begins_at_once_and_a_level_that_comes_first_too() {
    for (san, bmc) in [("level = 2\nrace = true", 1), ("level = 1", 2)] {
        let bench = lost_with(cluster_with(san, bmc));
        assert_eq!(bench.last(SAN).map(|order| order.command), Some(Command::Off), "{san}");
        assert_eq!(bench.last(BMC).map(|order| order.command), Some(Command::Read), "{san}");
    }
}

/// A path that is still open is no proof, however often the order was acknowledged.
#[test]
fn safe_4_storage_that_still_reads_open_frees_nothing() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = lost("level = 2\nrace = true");
    bench.san_reads(Command::Off, Reading::On);
    for _ in 0..40 {
        if let Some(read) = bench.last(SAN).filter(|order| order.command == Command::Read) {
            bench.answer(&read, Response::Reads(Reading::On));
        }
        bench.live(50, &[b]);
    }
    assert!(!bench.is_cut(c) && bench.acts.is_empty());
}

/// "an x that hears x in C stops its workloads, leaves, and rejoins as a new life".
#[test]
fn a_life_that_hears_that_it_is_cut_off_ends_and_a_stranger_to_its_configuration_is_not_believed() {
    let (b, c) = (life(1, 1), life(2, 1));
    for same_digest in [false, true] {
        let mut bench = Bench::new(3, "", &[b, c]);
        bench.live(2_500, &[b, c]);
        bench.report(WorkloadReport::Started);
        let mut word = bench.word(b, bench.now * 1000 + 1, &[b, c]);
        word.cut = [bench.me(), c].into_iter().collect();
        if !same_digest {
            word.digest = [0; 8];
        }
        bench.hear(word);
        let killed = bench.acts.last() == Some(&(WorkloadId(0), Act::Kill));
        assert_eq!(killed, same_digest);
    }
}

/// What only takes storage says nothing of a host's power: a cold start does not take its reading for that.
#[test]
fn a_cold_start_reads_power_devices_alone() {
    let cluster = cluster("level = 1");
    let mut bench = Bench::start(cluster, SavedState::Absent, BEGIN);
    (1..3).for_each(|id| {
        let report = WorkloadReport::Seen(palisade_core::action::Seen::Stopped);
        bench.engine.handle_workload(WorkloadId(id), report, Time(bench.now));
    });
    bench.drain();
    bench.wait(8_000);
    let read: Vec<DeviceId> = bench.orders.iter().map(|order| order.device).collect();
    assert!(read.contains(&BMC) && !read.contains(&SAN), "{read:?}");
}
