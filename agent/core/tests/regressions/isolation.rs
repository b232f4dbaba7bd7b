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
    let mut answered = bench.orders.len();
    let mut reads_open = false;
    for _ in 0..1_200 {
        join(&mut bench, 50);
        assert!(reads_open || !bench.engine.counted().contains(&again), "not before its paths read open");
        while let Some(order) = bench.orders.get(answered).copied() {
            answered += 1;
            if order.device == SAN {
                let on = order.command == Command::On;
                reads_open |= !on;
                bench.answer(&order, if on { Response::Acknowledged } else { Response::Reads(Reading::On) });
            }
        }
    }
    assert!(bench.is_dead(c) && bench.engine.counted().contains(&again) && !bench.is_cut(c));
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
fn a_life_that_hears_that_it_is_cut_off_ends_and_others_are_cut_only_by_the_same_configuration() {
    let (b, c) = (life(1, 1), life(2, 1));
    for same_digest in [false, true] {
        let mut bench = Bench::new(3, "", &[b, c]);
        bench.live(2_500, &[b, c]);
        bench.report(WorkloadReport::Started);
        let mut word = bench.word(b, bench.now * 1000 + 1, &[b, c]);
        word.cut = [c].into_iter().collect();
        if !same_digest {
            word.digest = [0; 8];
        }
        bench.hear(word.clone());
        bench.live(300, &[b, c]);
        assert_eq!(bench.is_cut(c), same_digest);
        word.seq = bench.now * 1000 + 1;
        word.cut = [bench.me()].into_iter().collect();
        bench.hear(word);
        assert_eq!(bench.acts.last(), Some(&(WorkloadId(0), Act::Kill)), "whatever it is cut from");
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

/// What a cut frees is what was cut: another configuration that says more of it makes no proof of that.
#[test]
fn a_reload_does_not_widen_what_was_cut() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = lost("level = 2\nrace = true");
    bench.san_reads(Command::Off, Reading::Off);
    bench.bmc_is_gone(1_500, &[b]);
    assert!(bench.is_cut(c));
    assert_eq!(bench.acts, [(WorkloadId(0), Act::Start)]);
    let told = bench.orders.len();
    let wider = cluster(
        "level = 2\nrace = true\n[[device]]\nname = \"san2-c\"\nkind = \"agent\"\nfences = \"c\"\nagent = \"fence_san\"\n\
         options = { plug = 4 }\nproof = \"storage_revoked\"\nstorage = [\"local\"]\nlevel = 2\nrace = true",
    );
    bench.cluster = Arc::clone(&wider);
    bench.engine.handle_cluster(wider, Time(bench.now)).unwrap();
    bench.drain();
    bench.live(3_000, &[b]);
    assert_eq!(bench.acts, [(WorkloadId(0), Act::Start)], "w1 is not free before `local` is cut as well");
    assert!(!bench.is_cut(c), "nor is that passed on under another configuration");
    let ordered: Vec<DeviceId> = bench.orders[told..].iter().map(|order| order.device).collect();
    assert!(ordered.contains(&SAN) && ordered.contains(&DeviceId(4)), "both are cut anew");
}

/// a alone; one other host has a device that cuts its network.
fn alone(host: &str) -> Bench {
    let net = format!(
        "[[device]]\nname = \"net\"\nkind = \"agent\"\nfences = \"{host}\"\nagent = \"fence_net\"\n\
         options = {{ plug = 3 }}\nproof = \"network_cut\"\nlevel = 2\n[[workload]]"
    );
    let cluster = parsed(&text(3, "", &[0]).replacen("[[workload]]", &net, 1));
    let mut saved = Saved::new(0);
    (saved.admitted, saved.found) = (true, Some(Founding { decider: life(9, 9), epoch: 1 }));
    let me = Bench::start(Arc::clone(&cluster), SavedState::Found(Box::new(saved.clone())), BEGIN).me();
    saved.electorate = vec![me];
    Bench::start(cluster, SavedState::Found(Box::new(saved)), BEGIN)
}

/// These want to be taken in; `answer` sees each new order.
fn joining(bench: &mut Bench, ms: u64, who: &[Incarnation], mut answer: impl FnMut(&mut Bench, DeviceOrder)) {
    let mut told = bench.orders.len();
    for _ in 0..ms / 50 {
        bench.wait(50);
        for x in who {
            let mut word = bench.word(*x, bench.now * 1000 + 1, &[]);
            word.presence = Presence::Joining;
            word.heard = [bench.me()].into_iter().collect();
            bench.hear(word);
        }
        while let Some(order) = bench.orders.get(told).copied() {
            told += 1;
            answer(bench, order);
        }
    }
}

#[test]
fn a_device_that_does_not_answer_keeps_nobody_else_out() {
    let (b, c) = (life(1, 2), life(2, 2));
    let mut bench = alone("b");
    joining(&mut bench, 60_000, &[b, c], |bench, order| {
        let gone = Err(Failure::Unreachable { error: "no route".to_owned() });
        bench.engine.handle_device(order.id, gone, Time(bench.now));
        bench.drain();
    });
    assert!(bench.engine.counted().contains(&c) && !bench.engine.counted().contains(&b));
}

/// "no open of unknown outcome may be outstanding then": also not one of an earlier try.
#[test]
fn an_opening_that_was_never_answered_is_awaited_before_its_host_is_taken_in() {
    let c = life(2, 2);
    let mut bench = alone("c");
    let (mut first_on, mut orders, mut counted) = (None, 0, None);
    joining(&mut bench, 120_000, &[c], |bench, order| {
        orders += 1;
        if order.command == Command::On {
            first_on = first_on.or(Some(bench.now));
        }
        if orders > 2 {
            let on = order.command == Command::On;
            bench.answer(&order, if on { Response::Acknowledged } else { Response::Reads(Reading::On) });
        }
        if bench.engine.counted().contains(&c) {
            counted = counted.or(Some(bench.now));
        }
    });
    joining(&mut bench, 100, &[c], |_, _| {});
    assert!(bench.engine.counted().contains(&c));
    let (first_on, counted) = (first_on.unwrap(), counted.unwrap_or(bench.now));
    // Its deadline is 9 s, and three of them more may pass until it executes.
    assert!(counted >= first_on + 36_000, "{} ms", counted - first_on);
}

/// The coordinator's agent was restarted, by an upgrade or in the incident itself: it has never heard the one that is lost.
#[test]
fn a_restarted_coordinator_isolates_whom_it_counts() {
    let b = life(1, 1);
    let bench = lost("level = 2");
    let mut again = Bench::start(
        cluster("level = 2"),
        SavedState::Found(Box::new(bench.saved.clone())),
        bench.now + 1_000,
    );
    (1..3).for_each(|id| {
        let report = WorkloadReport::Seen(palisade_core::action::Seen::Stopped);
        again.engine.handle_workload(WorkloadId(id), report, Time(again.now));
    });
    again.drain();
    again.bmc_is_gone(20_000, &[b]);
    assert!(again.orders.iter().any(|order| order.device == SAN && order.command == Command::Off));
}

/// What was said of a life is over with it.
#[test]
fn alarms_about_a_life_end_with_it() {
    let (b, c, again) = (life(1, 1), life(2, 1), life(2, 2));
    let mut bench = lost("level = 2\nrace = true");
    bench.bmc_is_gone(2_000, &[b]);
    bench.live(400, &[b, c]);
    assert!(bench.has_alarm("the isolation of c was begun and not ended"));
    for _ in 0..100 {
        bench.live(50, &[b]);
        let mut word = bench.word(again, bench.now * 1000 + 1, &[]);
        word.presence = Presence::Joining;
        bench.hear(word);
    }
    assert!(bench.is_dead(c));
    let alarms = bench.engine.status(Time(bench.now)).alarms;
    assert!(alarms.is_empty(), "{alarms:?}");
}

/// SAFE-4: one port that is read off twice says nothing of a second fabric.
#[test]
fn one_plug_is_one_device() {
    let twice = "level = 2\n[[device]]\nname = \"san2-c\"\nkind = \"agent\"\nfences = \"c\"\nagent = \"fence_san\"\n\
                 options = { plug = 3 }\nproof = \"storage_revoked\"\nstorage = [\"local\"]\nlevel = 2";
    let error = std::panic::catch_unwind(|| cluster(twice)).unwrap_err();
    let error = error.downcast_ref::<String>().unwrap();
    assert!(error.contains("device `san2-c` is `san-c` once more"), "{error}");
}

/// A life that was cut is told so, whatever became of the one who cut it: it must not live on beside what it lost.
#[test]
fn a_cut_life_is_told_after_a_restart_and_after_a_reload() {
    let (b, c) = (life(1, 1), life(2, 1));
    for reload in [false, true] {
        let mut bench = lost("level = 2\nrace = true");
        bench.san_reads(Command::Off, Reading::Off);
        bench.bmc_is_gone(1_500, &[b]);
        assert!(bench.is_cut(c) && bench.saved.cut == [c]);
        let mut after = if reload {
            let other = cluster("level = 3\nrace = true");
            bench.cluster = Arc::clone(&other);
            bench.engine.handle_cluster(other, Time(bench.now)).unwrap();
            bench.drain();
            bench
        } else {
            let saved = SavedState::Found(Box::new(bench.saved.clone()));
            let mut again = Bench::start(cluster("level = 2\nrace = true"), saved, bench.now + 1_000);
            (1..3).for_each(|id| {
                let report = WorkloadReport::Seen(palisade_core::action::Seen::Stopped);
                again.engine.handle_workload(WorkloadId(id), report, Time(again.now));
            });
            again.drain();
            again
        };
        // c thaws, and whatever it is sent anew is answered.
        let (told, mut answered) = (after.sent.len(), after.orders.len());
        for _ in 0..200 {
            after.live_busy(50, b, c);
            while let Some(order) = after.orders.get(answered).copied() {
                answered += 1;
                if order.device == SAN {
                    let off = order.command == Command::Off;
                    after.answer(
                        &order,
                        if off { Response::Acknowledged } else { Response::Reads(Reading::Off) },
                    );
                }
            }
        }
        assert!(after.sent[told..].iter().any(|word| word.cut.contains(c)), "reload: {reload}");
        assert!(!after.engine.view().contains(&c), "it stands with nobody before it has ended");
    }
}

/// What was closed is opened once its life is dead, also when the quorum lapses at that very time.
#[test]
fn closed_paths_outlast_a_lapse_of_the_quorum() {
    let (b, c) = (life(1, 1), life(2, 1));
    for lapse in [false, true] {
        let mut bench = lost("level = 2\nrace = true");
        bench.san_reads(Command::Off, Reading::Off);
        for response in [Response::Reads(Reading::On), Response::Acknowledged, Response::Reads(Reading::Off)]
        {
            let order = bench.last(BMC).unwrap();
            bench.answer(&order, response);
        }
        assert!(bench.is_dead(c));
        if lapse {
            bench.wait(1_500);
            assert!(!bench.engine.is_quorate(Time(bench.now)));
        }
        let told = bench.orders.len();
        bench.live(60_000, &[b]);
        let on = |order: &DeviceOrder| order.device == SAN && order.command == Command::On;
        assert!(bench.orders[told..].iter().any(on), "lapse {lapse}");
    }
}

/// SAFE-8: power that is cut long after the storage of the same life was is a cut of now.
#[test]
fn a_later_cut_of_the_same_life_counts_anew() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = lost("level = 2\nrace = true");
    bench.san_reads(Command::Off, Reading::Off);
    bench.bmc_is_gone(1_500, &[b]);
    bench.now += 660_000;
    bench.live(3_000, &[b]);
    let (mut told, mut is_off) = (bench.orders.len(), false);
    for _ in 0..3_000 {
        bench.live(50, &[b]);
        while let Some(order) = bench.orders.get(told).copied() {
            told += 1;
            if order.device == BMC && !bench.is_dead(c) {
                is_off |= order.command == Command::Off;
                let reads = if is_off { Reading::Off } else { Reading::On };
                let off = order.command == Command::Off;
                bench.answer(&order, if off { Response::Acknowledged } else { Response::Reads(reads) });
            }
        }
    }
    assert!(bench.is_dead(c));
    let counted: Vec<_> = bench.saved.fences.iter().map(|(who, at)| (*who, at.0 > BEGIN + 600_000)).collect();
    assert_eq!(counted, [(c, true)]);
}

/// The same cluster, in which c is cut from `lun` by its reservation keys, which each life registers itself.
fn reserved() -> Arc<Cluster> {
    let agent = "kind = \"agent\"\nfences = \"c\"\nagent = \"fence_san\"\noptions = { plug = 3 }\nproof = \"storage_revoked\"\n";
    let mut text = text(3, "", &[0, 1, 2]).replace("hosts = [\"a\", \"b\"]", "hosts = [\"c\", \"a\"]").replacen(
        "[[workload]]",
        &format!(
            "[[storage]]\nname = \"lun\"\npath = \"/lun\"\nluns = [\"naa.6001405aaaaaaaaaaaaaaaaaaaaaaaa1\"]\n\
             [[device]]\nname = \"san-c\"\n{agent}storage = [\"lun\"]\nlevel = 2\n\
             [[device]]\nname = \"san-a\"\n{agent}storage = [\"lun\"]\nlevel = 2\n[[workload]]"
        ),
        1,
    );
    text = text.replace(agent, "kind = \"scsi\"\nfences = \"c\"\n");
    text = text.replacen(
        "name = \"san-a\"\nkind = \"scsi\"\nfences = \"c\"",
        "name = \"san-a\"\nkind = \"scsi\"\nfences = \"a\"",
        1,
    );
    parsed(&text)
}

const OWN: DeviceId = DeviceId(4);

/// "x's path is opened (unfence) once, by x, and has completed before x says admitted"
#[test]
fn a_life_opens_its_own_paths_before_it_is_taken_in_and_never_again() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::start(reserved(), SavedState::Absent, BEGIN);
    bench.drain();
    bench.live(300, &[]);
    assert_eq!(bench.last(OWN), None, "what an earlier life has left may still run, and write");
    (0..3).for_each(|id| {
        let report = WorkloadReport::Seen(palisade_core::action::Seen::Stopped);
        bench.engine.handle_workload(WorkloadId(id), report, Time(bench.now));
    });
    bench.live(300, &[]);
    let order = bench.last(OWN).unwrap();
    assert_eq!(order.command, Command::On);
    assert!(order.standing_until.is_some_and(|until| until > order.deadline), "it needs nobody's leave");
    assert_eq!(bench.engine.order_whom(order.id), Some(bench.me()), "for this very life");
    // Until then it is nobody's candidate, and joins nobody.
    bench.live(3_000, &[b, c]);
    assert!(!bench.engine.admitted());
    assert_eq!(bench.sent.last().unwrap().health, palisade_proto::message::HealthClass::Failed);
    let order = bench.last(OWN).unwrap();
    bench.answer(&order, Response::Acknowledged);
    let read = bench.last(OWN).unwrap();
    assert_eq!(read.command, Command::Read);
    bench.answer(&read, Response::Reads(Reading::On));
    bench.live(300, &[b, c]);
    assert_ne!(bench.sent.last().unwrap().health, palisade_proto::message::HealthClass::Failed);
    let opened =
        bench.orders.iter().filter(|order| order.device == OWN && order.command == Command::On).count();
    bench.live(2_000, &[b, c]);
    let again =
        bench.orders.iter().filter(|order| order.device == OWN && order.command == Command::On).count();
    assert_eq!(opened, again);
    // An agent that restarts in an admitted life does not either.
    let mut saved = Saved::new(0);
    (saved.admitted, saved.found) = (true, Some(Founding { decider: life(9, 9), epoch: 1 }));
    saved.electorate = vec![bench.me(), b, c];
    let mut restarted = Bench::start(reserved(), SavedState::Found(Box::new(saved)), BEGIN);
    restarted.live(2_000, &[b, c]);
    assert_eq!(restarted.last(OWN), None);
}

/// "A cut of x is ordered only after its sender heard x say admitted"
#[test]
fn keys_are_taken_only_from_a_life_that_said_that_it_was_admitted() {
    let b = life(1, 1);
    let mut bench = lost_with(reserved());
    bench.bmc_is_gone(30_000, &[b]);
    let look = bench.last(SAN).unwrap();
    assert_eq!(look.command, Command::Read);
    bench.answer(&look, Response::Reads(Reading::On));
    let order = bench.last(SAN).unwrap();
    assert_eq!((order.command, bench.engine.order_whom(order.id)), (Command::Off, Some(life(2, 1))));
    bench.san_reads(Command::Off, Reading::Off);
    assert!(bench.is_cut(life(2, 1)));
    // This process has heard c never: it may still be registering.
    let mut saved = Saved::new(0);
    (saved.admitted, saved.found) = (true, Some(Founding { decider: life(9, 9), epoch: 1 }));
    saved.electorate = vec![bench.me(), b, life(2, 1)];
    let mut deaf = Bench::start(reserved(), SavedState::Found(Box::new(saved)), BEGIN);
    deaf.live(2_000, &[b]);
    deaf.bmc_is_gone(30_000, &[b]);
    assert!(deaf.last(BMC).is_some(), "its power is tried");
    assert_eq!(deaf.last(SAN), None);
}
