//! The last words of a life and of a process.

use palisade_core::action::{Act, Action, ExitKind, Seen, WorkloadReport};
use palisade_core::standing::SavedState;
use palisade_ladder::{Reading, Response};
use palisade_proto::WorkloadId;
use palisade_proto::message::{Grant, Names, Presence};

use crate::common::{BEGIN, Bench, cluster, life, unadmitted_host};

/// Words of both members that ask for an answer, every few milliseconds, as a live cluster has them.
fn hear_busily(bench: &mut Bench, ms: u64) {
    let members = [life(1, 1), life(2, 1)];
    for _ in 0..ms / 5 {
        bench.wait(5);
        for member in members {
            let mut word = bench.word(member, bench.now * 1000, &members);
            word.awaits = [bench.me()].into_iter().collect();
            bench.hear(word);
        }
    }
}

fn nothing_follows_the_exit(bench: &Bench) -> bool {
    matches!(bench.done.last(), Some((_, Action::Exit(_))))
}

/// SAFE-9: `left` vouches that nothing runs. A life that has not looked ends without a word.
#[test]
fn a_life_that_has_not_looked_at_its_workloads_leaves_without_a_word() {
    let mut bench = Bench::start_unseen(cluster(3, ""), SavedState::Absent, BEGIN);
    bench.wait(500);
    bench.engine.handle_leave("test", palisade_proto::Time(bench.now));
    bench.drain();
    bench.wait(500);
    assert!(bench.sent.is_empty() && bench.saved.left);
    assert_eq!(bench.exits(), [ExitKind::Left]);
    // One that has looked, and has been heard, says it.
    let mut bench = Bench::new(3, "", &[]);
    bench.wait(500);
    bench.engine.handle_leave("test", palisade_proto::Time(bench.now));
    bench.drain();
    assert_eq!(bench.sent.last().unwrap().presence, Presence::Left);
}

/// PROTOCOL, "Leaving and restarting": "says `away` one to three times with V empty, sends and grants nothing more, and exits".
#[test]
fn a_restart_says_away_at_most_three_times_and_nothing_else() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_500, &[b, c]);
    let before = bench.sent.len();
    bench.engine.handle_restart(palisade_proto::Time(bench.now));
    bench.drain();
    hear_busily(&mut bench, 500);
    let words = &bench.sent[before..];
    assert!((1..=3).contains(&words.len()), "{} words", words.len());
    assert!(
        words.iter().all(|word| {
            word.presence == Presence::Away && word.view.is_empty() && word.grants.is_empty()
        })
    );
    assert_eq!(bench.exits(), [ExitKind::Restart]);
    assert!(nothing_follows_the_exit(&bench));
}

#[test]
fn nothing_is_sent_after_the_last_left() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.wait(300);
    let before = bench.sent.len();
    bench.engine.handle_leave("test", palisade_proto::Time(bench.now));
    bench.drain();
    hear_busily(&mut bench, 1_000);
    let words = &bench.sent[before..];
    assert!((2..=5).contains(&words.len()), "at once and a few times more: {}", words.len());
    assert!(words.iter().all(|word| word.presence == Presence::Left && word.grants.is_empty()));
    assert_eq!(bench.exits(), [ExitKind::Left]);
    assert!(nothing_follows_the_exit(&bench));
}

fn names_us_dead(bench: &Bench) -> palisade_proto::Heartbeat {
    let mut word = bench.word(life(1, 1), bench.now * 1000 + 1, &[life(2, 1)]);
    word.dead = [bench.me()].into_iter().collect();
    word
}

/// Whoever is proven dead acts and votes no more, from that moment on and not only once its workloads are killed.
#[test]
fn a_life_that_is_over_neither_speaks_nor_grants_nor_fences() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_500, &[b, c]);
    bench.report(WorkloadReport::Started);
    bench.live(500, &[b, c]);
    let word = names_us_dead(&bench);
    bench.hear(word);
    assert_eq!(bench.acts.last(), Some(&(WorkloadId(0), Act::Kill)));
    let now = palisade_proto::Time(bench.now);
    assert!(!bench.engine.is_quorate(now) && !bench.engine.is_coordinator(now));
    let (sent, orders) = (bench.sent.len(), bench.orders.len());
    // c falls silent while the kill takes its time; b asks for another view.
    for _ in 0..60 {
        bench.wait(50);
        let mut word = bench.word(b, bench.now * 1000, &[b]);
        word.grants = [Grant { to: bench.me(), seq: bench.last_seq() }].into_iter().collect();
        bench.hear(word);
    }
    assert_eq!((bench.sent.len(), bench.orders.len()), (sent, orders));
    assert!(bench.lease_of(b).is_none(), "the last lease has run out, and none followed");
    bench.report(WorkloadReport::Stopped);
    bench.wait(1_000);
    assert!(bench.saved.left && bench.exits() == [ExitKind::Reborn]);
}

/// A life that was proven dead before it was admitted could wait for ever: nobody takes in the dead.
#[test]
fn an_unadmitted_life_that_is_named_dead_ends() {
    let mut bench = Bench::new(3, "", &[]);
    bench.wait(400);
    let mut word = names_us_dead(&bench);
    word.electorate = [life(1, 1), life(2, 1)].into_iter().collect::<Names>();
    bench.hear(word);
    bench.wait(1_000);
    assert!(bench.saved.left && bench.exits() == [ExitKind::Reborn]);
}

/// A look may have begun before the start that is now being ended: only the driver's own word ends a stop.
#[test]
fn a_look_does_not_end_a_stop() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_500, &[b, c]);
    assert_eq!(bench.acts, [(WorkloadId(0), Act::Start)]);
    bench.report(WorkloadReport::Started);
    bench.engine.handle_leave("test", palisade_proto::Time(bench.now));
    bench.drain();
    bench.report(WorkloadReport::Seen(Seen::Stopped));
    bench.live(500, &[b, c]);
    assert!(!bench.saved.left && bench.sent.last().unwrap().busy.contains(WorkloadId(0)));
    // A stop that failed becomes a kill, and a kill that failed is over once a look finds nothing.
    bench.report(WorkloadReport::StopFailed("it hangs".to_owned()));
    assert_eq!(bench.acts.last(), Some(&(WorkloadId(0), Act::Kill)));
    bench.report(WorkloadReport::Seen(Seen::Stopped));
    assert!(!bench.saved.left);
    bench.report(WorkloadReport::StopFailed("it hangs".to_owned()));
    bench.report(WorkloadReport::Seen(Seen::Stopped));
    assert!(bench.saved.left);
}

/// I4: a host that restarts its agent before it is a member says so by hearing nobody. It is not counted then, and whoever has
/// just counted it waits for it. Found by exploration: it was counted while its agent was away, and lost its power.
#[test]
fn a_restart_before_the_admission_costs_no_power() {
    let (b, c) = (life(1, 1), life(2, 1));
    let joins = |bench: &mut Bench, ms: u64| {
        for _ in 0..ms / 50 {
            bench.live(50, &[b]);
            let mut word = bench.word(b, bench.now * 1000 + 1, &[b]);
            word.heard = [bench.me(), c].into_iter().collect();
            bench.hear(word);
            let mut word = unadmitted_host(bench, c, None);
            word.heard = [bench.me(), b].into_iter().collect();
            bench.hear(word);
        }
    };
    let restarts = |bench: &mut Bench| {
        let mut word = unadmitted_host(bench, c, None);
        (word.seq, word.heard) = (word.seq + 2, Names::new());
        bench.hear(word);
    };
    // Before it is counted.
    let mut bench = Bench::new(3, "", &[b]);
    joins(&mut bench, 9_000);
    restarts(&mut bench);
    bench.live(2_500, &[b]);
    assert_eq!((bench.engine.counted().len(), bench.looks(2)), (2, 0));
    // After that, and in time again.
    let mut bench = Bench::new(3, "", &[b]);
    joins(&mut bench, 12_000);
    assert!(bench.engine.counted().contains(&c));
    restarts(&mut bench);
    bench.live(3_000, &[b]);
    assert_eq!(bench.looks(2), 0);
    // After that, and never again.
    bench.live(4_000, &[b]);
    assert!(bench.looks(2) > 0);
}

/// I4: whoever returns from an announced restart comes back into a view when its new process is heard, not when peers say that
/// they have heard its last one: the view would flicker, and every flicker costs the quorum (found by the simulation).
#[test]
fn whoever_is_away_is_not_said_to_be_heard() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_500, &[b, c]);
    let says_heard = |bench: &Bench| bench.sent.last().unwrap().heard.contains(c);
    assert!(says_heard(&bench));
    let mut word = bench.word(c, bench.now * 1000 + 1, &[]);
    (word.presence, word.view, word.heard) = (Presence::Away, Names::new(), Names::new());
    bench.hear(word);
    bench.live(150, &[b]);
    assert!(bench.cluster.timing().suspect().0 > 150 && !says_heard(&bench));
    bench.live(150, &[b, c]);
    assert!(says_heard(&bench));
}

/// SAFE-2: whoever leaves orders nothing in its last turn: it would not be there to read what came of it (found by the simulation,
/// seed 186425).
#[test]
fn an_off_that_waited_for_the_disk_does_not_go_out_with_the_last_word() {
    let (b, c) = (life(1, 1), life(2, 1));
    for leaves in [false, true] {
        let mut bench = Bench::new(3, "", &[b, c]);
        bench.disk_hangs = true;
        bench.live(2_500, &[b, c]);
        bench.live(1_300, &[b]);
        let look = *bench.orders.last().unwrap();
        bench.answer(&look, Response::Reads(Reading::On));
        assert_eq!(bench.waiting.len(), 2, "a claimed workload's start and the off wait for the disk");
        if leaves {
            bench.engine.handle_leave("test", palisade_proto::Time(bench.now));
        }
        bench.waiting.reverse();
        bench.release_disk();
        assert_eq!((bench.offs().is_empty(), bench.acts.is_empty()), (leaves, leaves));
        assert_eq!(bench.saved.left, leaves);
    }
}
