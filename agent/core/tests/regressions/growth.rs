//! Who is counted, and what a newcomer or a member makes of what it hears.

use palisade_core::record::Event;
use palisade_core::standing::{Saved, SavedState};
use palisade_ladder::Reading;
use palisade_proto::message::{Echo, Names, Presence};
use palisade_proto::{Founding, Incarnation};

use crate::common::{BEGIN, Bench, answer_readings, cluster, life, unadmitted_host};

/// PROTOCOL, "Cold start" 3: "While locked on (d, epoch), h joins (Growing 2, 3) no found other than (d, epoch)." Also what it
/// had begun to join before it took the lock.
#[test]
fn a_locked_host_is_not_admitted_into_a_lineage_it_was_joining() {
    let (b, c, d) = (life(1, 1), life(2, 1), life(3, 1));
    let dead_lineage = Founding { decider: c, epoch: 7 };
    let me = Bench::new(4, "", &[]).me();
    let mut saved = Saved::new(0);
    saved.found = Some(dead_lineage);
    saved.electorate = vec![me, c, d];
    let delayed_words = |lock: Option<Founding>| {
        let mut saved = saved.clone();
        saved.lock = lock;
        let mut bench = Bench::start(cluster(4, ""), SavedState::Found(Box::new(saved)), BEGIN);
        bench.wait(400);
        for from in [c, d] {
            let mut word = bench.word(from, bench.now * 1000, &[c, d]);
            (word.found, word.electorate) = (Some(dead_lineage), [c, d, me].into_iter().collect());
            bench.hear(word);
        }
        bench.wait(50);
        bench
    };
    assert!(delayed_words(None).engine.admitted());
    let lock = Some(Founding { decider: b, epoch: 50 });
    let bench = delayed_words(lock);
    assert!(!bench.engine.admitted() && bench.engine.lock() == lock);
}

/// I0: a host that another lineage counts does not follow the delayed word of a dead one, only that of a host that has heard it
/// since. Found by exploration: c is counted by a's cold start and has heard that from a alone; a loses its power and comes back,
/// which ends c's lock; then a word of b's dead life arrives, from before the cold start, and c was admitted beside b's new life.
#[test]
fn a_counted_newcomer_turns_to_another_lineage_only_on_a_fresh_word() {
    let (b, c) = (life(1, 1), life(2, 1));
    let me = Bench::new(3, "", &[]).me();
    let (dead, newer) = (Founding { decider: b, epoch: 7 }, Founding { decider: c, epoch: 9 });
    let mut saved = Saved::new(0);
    saved.found = Some(newer);
    saved.electorate = vec![me, life(1, 2), c];
    let mut bench = Bench::start(cluster(3, ""), SavedState::Found(Box::new(saved)), BEGIN);
    bench.wait(400);
    let begun = bench.sent.first().unwrap().seq;
    let word = |bench: &Bench, echoed: Option<u64>| {
        let mut word = bench.word(b, bench.now * 1000, &[b]);
        (word.found, word.electorate) = (Some(dead), [b, me].into_iter().collect());
        word.echo = echoed.map(|seq| Echo { of: me, seq }).into_iter().collect();
        word
    };
    // The life that is dead now was the last that was heard of its host.
    let mut earlier = word(&bench, Some(begun));
    (earlier.presence, earlier.electorate) = (Presence::Joining, Names::new());
    bench.hear(earlier);
    for echoed in [None, Some(begun - 1)] {
        bench.wait(50);
        bench.hear(word(&bench, echoed));
        bench.wait(50);
        assert_eq!((bench.engine.found(), bench.engine.admitted()), (Some(newer), false));
    }
    let answer = word(&bench, Some(bench.last_seq()));
    bench.hear(answer);
    bench.wait(50);
    assert_eq!((bench.engine.found(), bench.engine.admitted()), (Some(dead), true));
}

/// PROTOCOL, "Growing": "not admitted within `join_timeout`" counts from when a member was counted, not from when the process
/// of the one who counts began: hosts may boot minutes apart.
#[test]
fn a_member_has_its_join_timeout_from_when_it_was_counted() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[]);
    for _ in 0..300 {
        bench.wait(50);
        let word = unadmitted_host(&bench, b, bench.engine.lock());
        bench.hear(word);
        answer_readings(&mut bench, Reading::On);
    }
    while !bench.engine.admitted() {
        bench.wait(50);
        for from in [b, c] {
            let word = unadmitted_host(&bench, from, bench.engine.lock());
            bench.hear(word);
        }
    }
    // b follows at once, and with it there is a quorum; of c only words from before come in for a while.
    let lock = bench.engine.found();
    for _ in 0..100 {
        bench.live(50, &[b]);
        let mut word = unadmitted_host(&bench, c, lock);
        word.seq += 1;
        bench.hear(word);
    }
    assert!(bench.engine.is_coordinator(palisade_proto::Time(bench.now)));
    assert_eq!(bench.recorded(|event| matches!(event, Event::FenceDecided { .. })), 0);
    for _ in 0..120 {
        bench.live(50, &[b]);
        let mut word = unadmitted_host(&bench, c, lock);
        word.seq += 1;
        bench.hear(word);
    }
    assert_eq!(bench.recorded(|event| matches!(event, Event::FenceDecided { .. })), 1, "11 s are too long");
}

/// "If accepted and h is admitted, every other incarnation of j in E is proven dead": also one that comes into E, by gossip,
/// after its successor was first heard.
#[test]
fn each_fresh_word_proves_the_other_lives_of_its_host_dead() {
    let (b, old, new) = (life(1, 1), life(2, 1), life(2, 2));
    let mut bench = Bench::new(3, "", &[b]);
    bench.live(2_000, &[b]);
    let joins = |bench: &Bench| unadmitted_host(bench, new, None);
    let word = joins(&bench);
    bench.hear(word);
    bench.wait(250);
    let heard = bench.last_seq();
    let mut word = bench.word(b, bench.now * 1000, &[b]);
    word.electorate = [bench.me(), b, old].into_iter().collect();
    bench.hear(word);
    assert!(bench.engine.counted().contains(&old) && !bench.is_dead(old));
    bench.wait(250);
    // A packet that may be from before the old one was counted proves nothing.
    let mut word = joins(&bench);
    word.echo = [Echo { of: bench.me(), seq: heard }].into_iter().collect();
    bench.hear(word);
    assert!(!bench.is_dead(old));
    bench.wait(250);
    let word = joins(&bench);
    bench.hear(word);
    assert!(bench.is_dead(old) && !bench.is_dead(new));
}

/// A host that is locked on somebody's cold start may join nothing else: to count it is to fence it when its time is up.
#[test]
fn a_host_that_is_bound_by_a_lock_is_not_counted() {
    let (b, c, d) = (life(1, 1), life(2, 1), life(3, 1));
    let lock = Some(Founding { decider: c, epoch: 5 });
    let mut bench = Bench::new(4, "", &[b]);
    let run = |bench: &mut Bench, ms: u64, joining: &[Incarnation]| {
        for _ in 0..ms / 50 {
            bench.live(50, &[b]);
            let heard: Names = joining.iter().copied().chain([bench.me(), b]).collect();
            // b hears d alone: c itself is linked with nobody but us.
            let mut word = bench.word(b, bench.now * 1000 + 1, &[b]);
            word.heard = [bench.me(), d].into_iter().collect();
            bench.hear(word);
            for from in joining {
                let mut word = unadmitted_host(bench, *from, lock);
                word.heard = heard.clone();
                assert_eq!(word.presence, Presence::Joining);
                bench.hear(word);
            }
        }
    };
    run(&mut bench, 20_000, &[c, d]);
    assert_eq!(bench.engine.counted().len(), 2, "bound by c, which is there");
    run(&mut bench, 3_000, &[d]);
    assert!(bench.engine.counted().contains(&d), "c is gone: whoever counts d lets it go on");
}
