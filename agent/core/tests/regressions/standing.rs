//! Quorum, watchdog, grace.

use palisade_core::action::{Act, Action, Seen, WorkloadReport};
use palisade_core::standing::SavedState;
use palisade_ladder::{Command, Reading, Response};
use palisade_proto::message::Names;
use palisade_proto::{Duration, Incarnation, Time, WorkloadId};

use crate::common::{Bench, WATCHDOG, life};

const BOUND: Duration = Duration::secs(32);

fn watchdog_actions(bench: &Bench, wanted: fn(&Action) -> bool) -> usize {
    bench.done.iter().filter(|(_, action)| wanted(action)).count()
}

fn arms(bench: &Bench) -> usize {
    watchdog_actions(bench, |action| matches!(action, Action::ArmWatchdog))
}

fn feeds(bench: &Bench) -> usize {
    watchdog_actions(bench, |action| matches!(action, Action::FeedWatchdog))
}

fn disarms(bench: &Bench) -> usize {
    watchdog_actions(bench, |action| matches!(action, Action::DisarmWatchdog))
}

/// A word of `from` that links it with nobody: it is heard, and in no view.
fn lonely(bench: &Bench, from: Incarnation, bound: Duration) -> palisade_proto::Heartbeat {
    let mut word = bench.word(from, bench.now * 1000 + 1, &[]);
    word.heard = Names::new();
    word.view = [from].into_iter().collect();
    word.watchdog_bound = bound;
    word
}

/// PROTOCOL, "Death and shrinking", watchdog: a host that was frozen before it could arm is not dead by the bound that it says
/// once it is back. Silence counts from its last word, whatever that said.
#[test]
fn a_watchdogs_bound_counts_from_the_last_word_of_its_host() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_500, &[b, c]);
    bench.live(40_000, &[b]);
    let word = lonely(&bench, c, BOUND);
    bench.hear(word);
    bench.live(3_000, &[b]);
    assert!(bench.engine.is_quorate(Time(bench.now)) && !bench.engine.view().contains(&c));
    assert!(!bench.is_dead(c), "it spoke 3 s ago");
    bench.live(32_000, &[b]);
    assert!(bench.is_dead(c), "silent for longer than its bound");
}

/// DESIGN, table of proofs: "silence past the bound". A host that speaks has a watchdog that did not fire.
#[test]
fn a_host_that_is_heard_is_not_dead_by_its_watchdog() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_500, &[b, c]);
    for _ in 0..100 {
        bench.live(500, &[b]);
        let word = lonely(&bench, c, BOUND);
        bench.hear(word);
        assert!(!bench.engine.view().contains(&c) && !bench.is_dead(c));
    }
}

/// "A process opens the device only right after a check says quorate, or at admission": it is armed before it first asks.
#[test]
fn admission_arms_the_watchdog() {
    let b = life(1, 1);
    let mut bench = Bench::new(2, WATCHDOG, &[]);
    bench.wait(400);
    let mut word = bench.word(b, bench.now * 1000, &[b]);
    word.electorate = [b, bench.me()].into_iter().collect();
    assert_eq!(arms(&bench), 0, "an un-admitted life arms nothing");
    bench.hear(word);
    assert!(bench.engine.admitted() && !bench.engine.is_quorate(Time(bench.now)));
    assert_eq!(arms(&bench), 1);
}

/// SAFE-2: "standing is checked immediately before each device command": the quorum of a view that has just ended is none.
#[test]
fn an_order_leaves_only_under_the_quorum_of_the_view_that_stands() {
    let members = [life(1, 1), life(2, 1), life(3, 1), life(4, 1)];
    let [b, c, d, _] = members;
    let mut bench = Bench::new(5, "", &members);
    bench.live(2_500, &members);
    bench.disk_hangs = true;
    bench.live(1_200, &[b, c, d]);
    let look = *bench.orders.last().expect("a look");
    bench.answer(&look, Response::Reads(Reading::On));
    assert_eq!(bench.waiting.len(), 1, "the off waits for the disk");
    // c speaks a last time; the disk answers at the very moment when it is no longer heard.
    let silent_at = bench.now + bench.cluster.timing().suspect().0;
    bench.live_in_view(1_000, &[b, d], &[b, c, d]);
    assert!(bench.engine.is_quorate(Time(silent_at)) && bench.engine.view().contains(&c));
    bench.now = silent_at;
    bench.release_disk();
    assert!(!bench.engine.view().contains(&c));
    assert!(bench.offs().is_empty(), "every grant held was for a view that is no more");
    bench.live(1_000, &[b, d]);
    assert!(bench.orders.iter().any(|order| order.command == Command::Off), "the view has its own by now");
}

/// PROTOCOL, "Leaving": a host "writes `left`, stops its watchdog" after its workloads have stopped; until then it feeds.
#[test]
fn a_leaving_host_feeds_its_watchdog_until_it_has_left() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, WATCHDOG, &[b, c]);
    bench.live(2_500, &[b, c]);
    bench.engine.handle_watchdog(Ok(()), Time(bench.now));
    bench.report(WorkloadReport::Started);
    bench.engine.handle_leave("test", Time(bench.now));
    bench.drain();
    let before = feeds(&bench);
    bench.live(30_000, &[b, c]);
    assert!(feeds(&bench) >= before + 10, "every quarter of 10 s while the workload stops");
    assert_eq!(disarms(&bench), 0);
    bench.report(WorkloadReport::Stopped);
    assert!(disarms(&bench) == 1 && bench.saved.left);
}

#[test]
fn a_watchdog_that_failed_is_armed_again_after_a_rest() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, WATCHDOG, &[b, c]);
    bench.live(2_500, &[b, c]);
    bench.engine.handle_watchdog(Ok(()), Time(bench.now));
    bench.engine.handle_watchdog(Err("feed: input/output error".to_owned()), Time(bench.now));
    bench.drain();
    let before = arms(&bench);
    bench.live(900, &[b, c]);
    assert_eq!(arms(&bench), before, "not in a tight loop");
    bench.live(500, &[b, c]);
    assert_eq!(arms(&bench), before + 1);
}

/// The device may run although its last feed failed: a leave that did not stop it would be followed by a reset.
#[test]
fn a_leave_stops_a_watchdog_whose_feed_has_failed() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, WATCHDOG, &[b, c]);
    bench.live(2_500, &[b, c]);
    bench.report(WorkloadReport::StartFailed("test".to_owned()));
    bench.engine.handle_watchdog(Ok(()), Time(bench.now));
    bench.engine.handle_watchdog(Err("feed: input/output error".to_owned()), Time(bench.now));
    bench.engine.handle_leave("test", Time(bench.now));
    bench.drain();
    bench.wait(50);
    assert!(disarms(&bench) == 1 && bench.saved.left);
}

/// Unfed it would reset a healthy host; stopped without quorum, or before the peers hear that there is no bound, it would make
/// `WatchdogExpired` a lie.
#[test]
fn a_watchdog_that_is_configured_no_more_is_stopped_once_quorate_and_not_before() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut before = Bench::new(3, WATCHDOG, &[b, c]);
    before.live(2_500, &[b, c]);
    before.engine.handle_watchdog(Ok(()), Time(before.now));
    before.live(500, &[b, c]);
    assert!(before.saved.watchdog_armed);
    let again = || {
        let saved = SavedState::Found(Box::new(before.saved.clone()));
        Bench::start(crate::common::cluster(3, ""), saved, before.now + 50)
    };
    let mut bench = again();
    bench.wait(1_500);
    assert!(disarms(&bench) == 0 && bench.saved.watchdog_armed, "not quorate");
    bench.live(2_500, &[b, c]);
    assert!(disarms(&bench) == 1 && !bench.saved.watchdog_armed);
    assert!(bench.sent.iter().all(|word| word.watchdog_bound == Duration::ms(0)));
    assert_eq!((feeds(&bench), arms(&bench)), (0, 0));
    let mut bench = again();
    bench.live(900, &[b, c]);
    assert_eq!(disarms(&bench), 0, "peers may not have heard it yet");
}

/// SAFE-3: "a host that is not quorate kills its workloads within `grace`", however often its agent crashes meanwhile.
#[test]
fn a_crash_of_the_agent_does_not_begin_the_grace_anew() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_500, &[b, c]);
    bench.report(WorkloadReport::Started);
    let crashed = |bench: &Bench| {
        let saved = SavedState::Found(Box::new(bench.saved.clone()));
        let mut again = Bench::start_unseen(bench.cluster.clone(), saved, bench.now + 50);
        again.report(WorkloadReport::Seen(Seen::Running));
        again
    };
    bench.live(500, &[b, c]);
    assert!(bench.engine.is_quorate(Time(bench.now)));
    // A crash under quorum: the new process has the whole grace (3 s) to find it again.
    let mut again = crashed(&bench);
    again.wait(2_500);
    assert!(!again.acts.contains(&(WorkloadId(0), Act::Kill)));
    // Crashes before the first word count as well.
    let mut again = crashed(&bench);
    for _ in 0..30 {
        again.wait(100);
        assert!(again.sent.is_empty());
        again = crashed(&again);
    }
    assert!(again.acts.contains(&(WorkloadId(0), Act::Kill)));
    // Without quorum for 2 s, then a crash, and another one: what is left of the grace is left.
    bench.wait(3_000);
    assert!(
        !bench.engine.is_quorate(Time(bench.now)) && bench.acts.last() == Some(&(WorkloadId(0), Act::Start))
    );
    let mut again = crashed(&bench);
    again.wait(400);
    let mut again = crashed(&again);
    again.wait(1_500);
    assert!(again.acts.contains(&(WorkloadId(0), Act::Kill)));
}

/// A host that may not act waits for what comes in; it does not spin.
#[test]
fn an_unfed_watchdog_makes_no_tight_loop() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, WATCHDOG, &[b, c]);
    bench.live(2_500, &[b, c]);
    bench.engine.handle_watchdog(Ok(()), Time(bench.now));
    bench.drain();
    bench.live(5_000, &[b, c]);
    bench.wait(10_000);
    let before = bench.ticks;
    bench.wait(10_000);
    assert!(bench.ticks - before <= 200, "{} ticks in 10 s", bench.ticks - before);
}

/// Who asks for another view has no quorum until it is answered: the answer does not wait for the next periodic heartbeat.
#[test]
fn an_ask_for_another_view_is_answered_at_once() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b]);
    bench.live(2_500, &[b]);
    bench.wait(30);
    let (seq, grants) = (bench.now * 1000, |bench: &Bench| bench.sent.last().unwrap().grant_to(b));
    let same = bench.word(b, seq, &[b]);
    bench.hear(same);
    bench.wait(10);
    assert_ne!(grants(&bench), Some(seq), "an ask for the same view can wait");
    let mut other = bench.word(b, seq + 1, &[b]);
    other.view = [bench.me(), b, c].into_iter().collect();
    bench.hear(other);
    bench.wait(10);
    assert_eq!(grants(&bench), Some(seq + 1));
}
