//! Cold start: readings, consent, an operator's word, a reload in the middle.

use palisade_core::action::{Act, Seen, WorkloadReport};
use palisade_core::record::Event;
use palisade_core::standing::SavedState;
use palisade_ladder::{Command, Reading, Response};
use palisade_proto::message::Names;
use palisade_proto::{Ask, AskKind, Incarnation, Time, WorkloadId};

use crate::common::{BEGIN, Bench, WITNESS, answer_readings, cluster_of, life, unadmitted, unadmitted_host};

/// A while in which these un-admitted hosts say that they are locked on us, and every device reads so.
fn pass(bench: &mut Bench, ms: u64, locked: &[Incarnation], power: Option<Reading>) {
    for _ in 0..ms / 100 {
        bench.wait(100);
        for from in locked {
            let word = unadmitted_host(bench, *from, bench.engine.lock());
            bench.hear(word);
        }
        if let Some(power) = power {
            answer_readings(bench, power);
        }
    }
}

/// With a witness, and a minute until a silent host may be sent off.
fn soon() -> String {
    format!("[timing]\ncold_off_wait = \"60s\"\n{WITNESS}")
}

fn cold_asks(bench: &Bench) -> Vec<Ask> {
    bench.asks.iter().filter(|ask| ask.kind == AskKind::Cold).cloned().collect()
}

/// "the operator confirms it dead" is about the silence at that time: a host that has spoken since is no dead one.
#[test]
fn a_host_that_speaks_takes_back_an_operators_word() {
    let (b, c) = (life(1, 1), life(2, 1));
    for (returns, admitted) in [(false, true), (true, false)] {
        let mut bench = Bench::new(3, "", &[]);
        pass(&mut bench, 4_000, &[], Some(Reading::On));
        assert!(bench.confirm(2).is_ok());
        if returns {
            let word = unadmitted_host(&bench, c, None);
            bench.hear(word);
        }
        pass(&mut bench, 5_000, &[b], Some(Reading::On));
        assert_eq!(bench.engine.admitted(), admitted, "c was heard again: {returns}");
    }
}

/// "Consent is [...] a right to fence, not a quorum", asked for in a cold start alone.
#[test]
fn no_cold_ask_outlives_the_cold_start() {
    let mut bench = Bench::new(2, &soon(), &[]);
    pass(&mut bench, 65_000, &[], Some(Reading::On));
    assert!(!cold_asks(&bench).is_empty());
    assert!(bench.confirm(1).is_ok());
    bench.wait(2_000);
    assert!(bench.engine.admitted());
    bench.asks.clear();
    bench.wait(10_000);
    assert_eq!(cold_asks(&bench), []);
}

/// Consent is to those who were present when it was asked for: with others present it is asked for again.
#[test]
fn consent_ends_with_the_company_it_was_given_to() {
    let (b, c) = (life(1, 1), life(2, 1));
    // Enough for consent without c (2 of 4), and too few without b (1 of 3).
    for (hosts, present, goes) in [(4, vec![b, c], c), (3, vec![b], b)] {
        for (leaves, offs) in [(false, 1), (true, 0)] {
            let mut bench = Bench::new(hosts, &soon(), &[]);
            pass(&mut bench, 61_000, &present, Some(Reading::On));
            while cold_asks(&bench).is_empty() {
                pass(&mut bench, 100, &present, Some(Reading::On));
            }
            bench.disk_hangs = true;
            let ask = cold_asks(&bench).pop().unwrap();
            bench.consent(&ask);
            assert_eq!(bench.waiting.len(), 1, "an off waits for the disk");
            bench.wait(250);
            if leaves {
                let mut word = unadmitted_host(&bench, goes, None);
                word.seq += 1;
                bench.hear(word);
            }
            bench.release_disk();
            assert_eq!(bench.offs().len(), offs, "{present:?} of {hosts}, one goes: {leaves}");
        }
    }
}

/// "5. A host silent [...] that reads "on" or cannot be read": looked at before anybody is asked to have it cut.
#[test]
fn a_silent_host_is_looked_at_before_its_power_is_cut() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(4, &soon(), &[]);
    // c is heard and does not lock: nobody's silence is asked about on its account, nor d's.
    for _ in 0..650 {
        bench.wait(100);
        let word = unadmitted(&bench, bench.engine.lock());
        assert_eq!(word.from, b);
        bench.hear(word);
        let word = unadmitted_host(&bench, c, None);
        bench.hear(word);
    }
    assert!(bench.looks(3) > 0, "d has been silent for longer than cold_off_wait");
    assert_eq!(cold_asks(&bench), [], "and no reading has come back yet");
    answer_readings(&mut bench, Reading::On);
    bench.wait(300);
    assert!(!cold_asks(&bench).is_empty());
}

/// "for each silent one a BMC read, sent after that point [...], says off": not one from the same millisecond before it.
#[test]
fn a_reading_from_before_the_point_counts_for_nothing() {
    let b = life(1, 1);
    let mut bench = Bench::new(3, "", &[]);
    bench.wait(3_000);
    let mut word = unadmitted_host(&bench, b, bench.engine.lock());
    bench.hear(word.clone());
    let before = *bench.orders.last().expect("c is read");
    // b goes and comes back at once: another point.
    word.heard = Names::new();
    word.seq += 1;
    bench.hear(word.clone());
    word.heard = [bench.me()].into_iter().collect();
    word.seq += 1;
    bench.hear(word);
    let after = *bench.orders.last().unwrap();
    assert!(after.id != before.id && after.command == Command::Read);
    bench.answer(&before, Response::Reads(Reading::Off));
    for _ in 0..3 {
        bench.wait(50);
        let word = unadmitted_host(&bench, b, bench.engine.lock());
        bench.hear(word);
    }
    assert!(!bench.engine.admitted());
    bench.answer(&after, Response::Reads(Reading::Off));
    pass(&mut bench, 300, &[b], None);
    assert!(bench.engine.admitted());
}

/// After a reload a device's number may mean another device: what was asked before it neither counts nor is waited for.
#[test]
fn a_reload_forgets_readings_under_way() {
    let b = life(1, 1);
    let mut bench = Bench::new(3, "", &[]);
    pass(&mut bench, 3_000, &[b], None);
    let before = *bench.orders.last().expect("c is read");
    let same = bench.cluster.clone();
    bench.engine.handle_cluster(same, Time(bench.now)).unwrap();
    bench.drain();
    pass(&mut bench, 1_500, &[b], None);
    let after = *bench.orders.last().unwrap();
    assert!(after.id != before.id, "read again");
    bench.answer(&before, Response::Reads(Reading::Off));
    pass(&mut bench, 500, &[b], None);
    assert!(!bench.engine.admitted());
    bench.answer(&after, Response::Reads(Reading::Off));
    pass(&mut bench, 500, &[b], None);
    assert!(bench.engine.admitted());
}

#[test]
fn a_reload_forgets_orders_under_way() {
    let b = life(1, 1);
    let mut bench = Bench::new(3, &soon(), &[]);
    let consented = |bench: &mut Bench, offs: usize| {
        for _ in 0..200 {
            pass(bench, 100, &[b], None);
            if bench.offs().len() == offs {
                return;
            }
            let looks = std::mem::take(&mut bench.orders);
            for look in looks.iter().filter(|order| order.command == Command::Read) {
                bench.answer(look, Response::Reads(Reading::On));
            }
            if let Some(ask) = cold_asks(bench).pop() {
                bench.consent(&ask);
            }
        }
        panic!("no off number {offs}");
    };
    pass(&mut bench, 61_000, &[b], Some(Reading::On));
    consented(&mut bench, 1);
    // Nobody will ever answer that off.
    let same = bench.cluster.clone();
    bench.engine.handle_cluster(same, Time(bench.now)).unwrap();
    bench.drain();
    consented(&mut bench, 2);
}

fn joining(workloads: &[u8]) -> Bench {
    Bench::start_unseen(cluster_of(3, "", workloads), SavedState::Absent, BEGIN)
}

fn reload(bench: &mut Bench, workloads: &[u8]) {
    let new = cluster_of(3, "", workloads);
    bench.engine.handle_cluster(new.clone(), Time(bench.now)).unwrap();
    bench.cluster = new;
    bench.drain();
}

/// SAFE-9: "an un-admitted life that finds one running kills it before its first heartbeat", and no look comes for a workload that
/// is not configured any more.
#[test]
fn a_reload_while_joining_looks_at_what_is_new_and_waits_for_nothing_that_is_gone() {
    let mut bench = joining(&[0]);
    reload(&mut bench, &[1]);
    bench.wait(1_000);
    assert!(bench.sent.is_empty(), "workload 1 may run");
    bench.engine.handle_workload(WorkloadId(1), WorkloadReport::Seen(Seen::Stopped), Time(bench.now));
    bench.drain();
    bench.wait(1_000);
    assert!(!bench.sent.is_empty(), "workload 0 is gone");
    // What was added after every other one had been looked at.
    let mut bench = joining(&[0]);
    bench.report(WorkloadReport::Seen(Seen::Stopped));
    reload(&mut bench, &[0, 1]);
    bench.wait(1_000);
    assert!(bench.sent.is_empty());
    bench.engine.handle_workload(WorkloadId(1), WorkloadReport::Seen(Seen::Running), Time(bench.now));
    bench.drain();
    assert_eq!(bench.acts, [(WorkloadId(1), Act::Kill)]);
}

/// A reading that has not come back is waited for, not asked after each millisecond.
#[test]
fn a_reading_under_way_makes_no_tight_loop() {
    let b = life(1, 1);
    let mut bench = Bench::new(3, "", &[]);
    pass(&mut bench, 5_000, &[b], None);
    let before = bench.ticks;
    pass(&mut bench, 5_000, &[b], None);
    assert!(bench.ticks - before <= 150, "{} ticks in 5 s", bench.ticks - before);
}

/// A clone and its original both speak: that is one alarm, not two records for each heartbeat.
#[test]
fn a_clone_is_one_alarm_until_it_is_gone() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b, c]);
    for _ in 0..20 {
        bench.live(200, &[b, c]);
        let mut clone = bench.word(life(1, 2), bench.now * 1000, &[]);
        clone.machine = [9; 16];
        bench.hear(clone);
    }
    let about_clone = |what: &str| what.contains("another machine");
    assert_eq!(bench.recorded(|event| matches!(event, Event::Alarm { what } if about_clone(what))), 1);
    assert_eq!(bench.recorded(|event| matches!(event, Event::AlarmCleared { what } if about_clone(what))), 0);
    bench.live(31_000, &[b, c]);
    assert!(!bench.has_alarm("another machine"));
}

/// A cold start's off was never answered, and somebody went there: it is not switched on over them.
#[test]
fn a_host_that_is_confirmed_after_a_cold_off_stays_off() {
    let b = life(1, 1);
    let mut bench = Bench::new(3, &soon(), &[]);
    pass(&mut bench, 61_000, &[b], Some(Reading::On));
    while cold_asks(&bench).is_empty() {
        pass(&mut bench, 100, &[b], Some(Reading::On));
    }
    let ask = cold_asks(&bench).pop().unwrap();
    bench.consent(&ask);
    assert_eq!(bench.offs(), [2]);
    assert!(bench.confirm(2).is_ok());
    pass(&mut bench, 3_000, &[b], None);
    assert!(bench.engine.admitted());
    bench.live(60_000, &[b]);
    assert!(bench.orders.iter().all(|order| order.command != Command::On));
}

/// An operator has disarmed fencing: a cold start switches nobody off either, whatever the witness consents to, until that is over.
#[test]
fn a_disarmed_cold_start_switches_nobody_off() {
    let b = life(1, 1);
    for disarmed in [false, true] {
        let mut bench = Bench::new(3, &soon(), &[]);
        pass(&mut bench, 1_000, &[b], Some(Reading::On));
        let mut word = unadmitted_host(&bench, b, bench.engine.lock());
        let length = palisade_proto::Duration::secs(if disarmed { 90 } else { 0 });
        word.seq += 1;
        word.speaks = 3;
        word.wishes = palisade_proto::message::Wishes { version: 1, disarmed: length, ..Default::default() };
        bench.hear(word);
        let consent = |bench: &mut Bench, seconds: u64| {
            for _ in 0..seconds {
                pass(bench, 1_000, &[b], Some(Reading::On));
                if let Some(ask) = cold_asks(bench).pop() {
                    bench.consent(&ask);
                }
            }
        };
        consent(&mut bench, 75);
        assert_eq!(bench.offs().is_empty(), disarmed);
        consent(&mut bench, 30);
        assert!(!bench.offs().is_empty(), "it arms itself");
    }
}
