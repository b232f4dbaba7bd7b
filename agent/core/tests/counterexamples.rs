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

mod common;

use std::sync::Arc;

use common::{BEGIN, Bench, WITNESS, answer_readings, cluster, life, unadmitted};
use palisade_core::action::{Act, WorkloadReport};
use palisade_core::standing::{Saved, SavedState};
use palisade_ladder::{Reading, Response};
use palisade_proto::message::{Echo, Grant, Place, Presence};
use palisade_proto::{AskKind, Duration, Founding, Time, WorkloadId};

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
    bench.engine.handle_device(look.id, Ok(Response::Reads(Reading::On)), Time(bench.now));
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
        bench.engine.handle_device(order.id, Ok(Response::Reads(Reading::Off)), Time(bench.now));
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

#[test]
fn ce09_no_cold_start_beside_a_host_that_may_live() {
    let mut bench = Bench::new(3, "", &[]);
    for (power, admitted) in [(Reading::On, false), (Reading::Unknown, false), (Reading::Off, true)] {
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
        answer_readings(&mut bench, Reading::On);
    }
    assert_eq!(bench.engine.lock(), Some(lock), "silence");
    for _ in 0..30 {
        bench.wait(100);
        answer_readings(&mut bench, Reading::Off);
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
