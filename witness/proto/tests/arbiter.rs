//! The witness's rules (PROTOCOL, "Witness"), and the counterexamples of PROTOCOL that concern the witness.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

mod common;

use std::collections::BTreeMap;

use common::name;
use palisade_proto::arbiter::{BEACON_TTL, SmallArbiter};
use palisade_proto::time::voter_length;
use palisade_proto::{Arbiter, Ask, AskKind, Drift, Duration, Ignored, Incarnation, Names, Time, Verdict};
use proptest::prelude::*;

const LEASE: Duration = Duration::ms(1000);
const DRIFT: Drift = Drift { ppm: 10_000 };
const VLS: Duration = voter_length(LEASE, DRIFT);
const ORDINARY: AskKind = AskKind::Ordinary { incumbent: false };
const INCUMBENT: AskKind = AskKind::Ordinary { incumbent: true };

fn ask(from: Incarnation, seq: u64, kind: AskKind, view: &[Incarnation]) -> Ask {
    Ask { from, seq, kind, view: view.iter().copied().collect(), lease: LEASE, drift: DRIFT }
}

fn beacon(from: Incarnation, seq: u64) -> Ask {
    ask(from, seq, AskKind::Beacon, &[])
}

fn started(at: Time) -> SmallArbiter {
    SmallArbiter::new(at, LEASE, DRIFT)
}

/// An arbiter that started at 0, at the time from which it serves everyone.
fn settled() -> (SmallArbiter, Time) {
    (started(Time(0)), Time(0).after(VLS).after(VLS))
}

fn later(time: Time, ms: u64) -> Time {
    time.after(Duration::ms(ms))
}

#[test]
fn two_halves_of_two_exclude_each_other() {
    let (a, b) = (name(0, 1), name(1, 1));
    let (mut witness, now) = settled();
    assert_eq!(witness.handle(&ask(a, 1, ORDINARY, &[a]), now), Ok(Verdict::Granted));
    assert_eq!(witness.handle(&ask(b, 1, ORDINARY, &[b]), now), Ok(Verdict::Conflict));
    assert_eq!(witness.handle(&ask(b, 2, ORDINARY, &[b]), later(now, VLS.0 - 1)), Ok(Verdict::Conflict));
    assert_eq!(witness.handle(&ask(b, 3, ORDINARY, &[b]), now.after(VLS)), Ok(Verdict::Granted));
}

#[test]
fn nothing_is_granted_in_the_silent_period() {
    let a = name(0, 1);
    let mut witness = started(Time(500));
    let end = Time(500).after(VLS);
    for kind in [ORDINARY, INCUMBENT] {
        let seq = u64::from(kind == INCUMBENT) + 1;
        assert_eq!(witness.handle(&ask(a, seq, kind, &[a]), Time(end.0 - 1)), Ok(Verdict::Silent));
    }
    assert_eq!(witness.handle(&beacon(a, 3), Time(end.0 - 1)), Ok(Verdict::Noted));
    assert_eq!(witness.handle(&ask(a, 4, INCUMBENT, &[a]), end), Ok(Verdict::Granted));
}

/// PROTOCOL, counterexample 2: a reordered old ask replaces a newer lease.
#[test]
fn counterexample_2_a_reordered_old_ask_does_not_replace_a_newer_lease() {
    let (a, b) = (name(0, 1), name(1, 1));
    let (mut witness, now) = settled();
    // a stood with b, then without; the ask from before comes late.
    assert_eq!(witness.handle(&ask(a, 7, ORDINARY, &[a]), now), Ok(Verdict::Granted));
    assert_eq!(witness.handle(&ask(a, 6, ORDINARY, &[a, b]), later(now, 1)), Err(Ignored::OldSeq));
    assert_eq!(witness.handle(&ask(a, 7, ORDINARY, &[a, b]), later(now, 1)), Err(Ignored::OldSeq));
    // With it, b would be served although a counts a grant for a view without b.
    assert_eq!(witness.handle(&ask(b, 1, ORDINARY, &[a, b]), later(now, 2)), Ok(Verdict::Conflict));
}

/// PROTOCOL, counterexample 2: nor after so many other lives that its seq could have been forgotten.
#[test]
fn a_seq_is_not_forgotten_while_its_lease_binds() {
    let mut witness: Arbiter<4, 2> = Arbiter::new(Time(0), LEASE, DRIFT);
    let now = Time(0).after(VLS).after(VLS);
    let (a, b, c) = (name(0, 1), name(1, 1), name(2, 1));
    let view = [a, b, c];
    assert_eq!(witness.handle(&ask(a, 7, ORDINARY, &view), now), Ok(Verdict::Granted));
    assert_eq!(witness.handle(&ask(b, 1, ORDINARY, &view), later(now, 1)), Ok(Verdict::Granted));
    assert_eq!(witness.handle(&ask(c, 1, ORDINARY, &view), later(now, 2)), Ok(Verdict::Full));
    assert_eq!(witness.handle(&ask(a, 6, ORDINARY, &[a]), later(now, 3)), Err(Ignored::OldSeq));
    assert_eq!(
        witness.handle(&ask(c, 2, ORDINARY, &view), now.after(VLS)),
        Ok(Verdict::Granted),
        "a's has run out"
    );
    assert_eq!(witness.handle(&ask(a, 8, ORDINARY, &view), now.after(VLS)), Ok(Verdict::Full), "b's has not");
}

#[test]
fn the_life_not_heard_for_longest_makes_room() {
    let mut witness: Arbiter<4, 2> = Arbiter::new(Time(0), LEASE, DRIFT);
    let (a, b, c) = (name(0, 1), name(1, 1), name(2, 1));
    witness.handle(&beacon(a, 5), Time(10)).unwrap();
    witness.handle(&beacon(b, 5), Time(20)).unwrap();
    witness.handle(&beacon(a, 6), Time(30)).unwrap();
    assert_eq!(witness.handle(&beacon(c, 5), Time(40)), Ok(Verdict::Noted));
    assert_eq!(witness.handle(&beacon(a, 6), Time(50)), Err(Ignored::OldSeq), "a is still known");
    assert_eq!(witness.handle(&beacon(b, 5), Time(60)), Ok(Verdict::Noted), "b was forgotten");
}

/// PROTOCOL, counterexample 13: the witness restarts during a split of two: the lease flips and both fence.
#[test]
fn counterexample_13_a_witness_restart_in_a_split_serves_the_incumbent_first() {
    let (a, b) = (name(0, 1), name(1, 1));
    let (mut before, now) = settled();
    assert_eq!(before.handle(&ask(a, 1, ORDINARY, &[a]), now), Ok(Verdict::Granted));
    assert_eq!(before.handle(&ask(b, 1, ORDINARY, &[b]), now), Ok(Verdict::Conflict));

    let restart = later(now, 100);
    let mut witness = started(restart);
    let silent_ends = restart.after(VLS);
    let all_served = silent_ends.after(VLS);
    assert_eq!(witness.handle(&ask(b, 2, ORDINARY, &[b]), later(restart, 1)), Ok(Verdict::Silent));
    // The loser comes first, and stays the loser.
    assert_eq!(witness.handle(&ask(b, 3, ORDINARY, &[b]), silent_ends), Ok(Verdict::IncumbentsOnly));
    assert_eq!(witness.handle(&ask(a, 2, INCUMBENT, &[a]), later(silent_ends, 190)), Ok(Verdict::Granted));
    assert_eq!(
        witness.handle(&ask(b, 4, ORDINARY, &[b]), Time(all_served.0 - 1)),
        Ok(Verdict::IncumbentsOnly)
    );
    assert_eq!(witness.handle(&ask(a, 3, INCUMBENT, &[a]), Time(all_served.0 - 1)), Ok(Verdict::Granted));
    assert_eq!(witness.handle(&ask(b, 5, ORDINARY, &[b]), all_served), Ok(Verdict::Conflict));
}

#[test]
fn without_an_incumbent_the_other_half_is_served_a_lease_later() {
    let b = name(1, 1);
    let mut witness = started(Time(0));
    let all_served = Time(0).after(VLS).after(VLS);
    let before = Time(all_served.0 - 1);
    assert_eq!(witness.handle(&ask(b, 1, ORDINARY, &[b]), before), Ok(Verdict::IncumbentsOnly));
    assert_eq!(witness.handle(&ask(b, 2, ORDINARY, &[b]), all_served), Ok(Verdict::Granted));
}

/// PROTOCOL, "Rules whose removal random search finds rarely": witness leases keyed by incarnation.
#[test]
fn leases_are_keyed_by_incarnation() {
    let (a, b, reborn) = (name(0, 1), name(1, 1), name(0, 2));
    let (mut witness, now) = settled();
    assert_eq!(witness.handle(&ask(a, 900, ORDINARY, &[a]), now), Ok(Verdict::Granted));
    // Its next life counts seqs anew and inherits nothing: the old life may still act on its grant.
    assert_eq!(witness.handle(&ask(reborn, 1, ORDINARY, &[reborn, b]), later(now, 1)), Ok(Verdict::Conflict));
    assert_eq!(witness.handle(&ask(b, 1, ORDINARY, &[reborn, b]), later(now, 1)), Ok(Verdict::Conflict));
    assert_eq!(witness.handle(&ask(reborn, 2, ORDINARY, &[reborn, b]), now.after(VLS)), Ok(Verdict::Granted));
    assert_eq!(witness.handle(&ask(b, 2, ORDINARY, &[reborn, b]), now.after(VLS)), Ok(Verdict::Granted));
}

#[test]
fn an_ask_with_other_timing_is_refused() {
    let a = name(0, 1);
    let (mut witness, now) = settled();
    let other_lease = Ask { lease: Duration::ms(999), ..ask(a, 1, ORDINARY, &[a]) };
    let other_drift = Ask { drift: Drift { ppm: 1 }, ..ask(a, 2, INCUMBENT, &[a]) };
    let other_beacon = Ask { lease: Duration::ms(250), ..beacon(a, 3) };
    for other in [other_lease, other_drift, other_beacon] {
        assert_eq!(witness.handle(&other, now), Ok(Verdict::OtherTiming));
    }
    assert!(witness.is_idle(now));
}

#[test]
fn an_ask_without_its_sender_in_the_view_is_ignored() {
    let (a, b) = (name(0, 1), name(1, 1));
    let (mut witness, now) = settled();
    assert_eq!(witness.handle(&ask(a, 1, ORDINARY, &[b]), now), Err(Ignored::NotInOwnView));
    assert_eq!(witness.handle(&ask(a, 1, AskKind::Cold, &[]), now), Err(Ignored::NotInOwnView));
    assert_eq!(witness.handle(&ask(a, 1, ORDINARY, &[a]), now), Ok(Verdict::Granted), "nothing was noted");
}

#[test]
fn a_cluster_larger_than_the_arbiter_is_refused() {
    let five: Vec<Incarnation> = (0..5).map(|host| name(host, 1)).collect();
    let (mut witness, now) = settled();
    assert_eq!(witness.handle(&ask(five[0], 1, ORDINARY, &five), now), Ok(Verdict::Full));
    assert!(witness.is_idle(now));
}

#[test]
fn a_cold_start_needs_a_witness_that_has_heard_of_no_electorate() {
    let (a, b) = (name(0, 1), name(1, 1));
    let cold = |from, seq| ask(from, seq, AskKind::Cold, &[from]);
    let mut witness = started(Time(0));
    let up = Time(0).after(BEACON_TTL);
    assert_eq!(witness.handle(&cold(a, 1), Time(up.0 - 1)), Ok(Verdict::ElectorateLives));
    assert_eq!(
        witness.handle(&cold(a, 2), up),
        Ok(Verdict::Granted),
        "a cold ask is no sign of an electorate"
    );

    for (seq, sign) in [(10, beacon(b, 10)), (20, ask(b, 20, ORDINARY, &[b]))] {
        let heard = up.after(BEACON_TTL.times(seq));
        witness.handle(&sign, heard).unwrap();
        let quiet = heard.after(BEACON_TTL);
        assert_eq!(witness.handle(&cold(a, seq), Time(quiet.0 - 1)), Ok(Verdict::ElectorateLives));
        assert_eq!(witness.handle(&cold(a, seq + 1), quiet), Ok(Verdict::Granted));
    }
}

#[test]
fn a_witness_that_could_not_hear_has_not_heard_of_no_electorate() {
    let a = name(0, 1);
    let cold = |seq| ask(a, seq, AskKind::Cold, &[a]);
    let start = Time(70_000);
    let mut witness = started(start);
    assert_eq!(witness.handle(&cold(1), Time(start.0 + BEACON_TTL.0 - 1)), Ok(Verdict::ElectorateLives));
    let back = start.after(BEACON_TTL.times(9));
    witness.was_deaf(back);
    assert_eq!(witness.handle(&cold(2), Time(back.0 + BEACON_TTL.0 - 1)), Ok(Verdict::ElectorateLives));
    assert_eq!(witness.handle(&cold(3), back.after(BEACON_TTL)), Ok(Verdict::Granted));
}

#[test]
fn a_beacon_without_room_for_it_is_a_sign_of_an_electorate_all_the_same() {
    let mut witness: Arbiter<4, 2> = Arbiter::new(Time(0), LEASE, DRIFT);
    let (a, b, c) = (name(0, 1), name(1, 1), name(2, 1));
    let now = Time(0).after(BEACON_TTL);
    for member in [a, b] {
        assert_eq!(witness.handle(&ask(member, 1, AskKind::Cold, &[a, b]), now), Ok(Verdict::Granted));
    }
    assert_eq!(witness.handle(&beacon(c, 1), now), Ok(Verdict::Full));
    assert_eq!(witness.handle(&ask(a, 2, AskKind::Cold, &[a, b]), now), Ok(Verdict::ElectorateLives));
}

#[test]
fn an_ask_with_other_timing_is_a_sign_of_an_electorate_all_the_same() {
    let (a, b) = (name(0, 1), name(1, 1));
    let mut witness = started(Time(0));
    let now = Time(0).after(BEACON_TTL);
    witness.handle(&Ask { lease: Duration::ms(250), ..beacon(b, 1) }, now).unwrap();
    assert_eq!(witness.handle(&ask(a, 1, AskKind::Cold, &[a]), now), Ok(Verdict::ElectorateLives));
}

#[test]
fn conflicting_cold_asks_exclude_each_other_and_ordinary_ones() {
    let (a, b) = (name(0, 1), name(1, 1));
    let mut witness = started(Time(0));
    let now = Time(0).after(BEACON_TTL);
    assert_eq!(witness.handle(&ask(a, 1, AskKind::Cold, &[a]), now), Ok(Verdict::Granted));
    assert_eq!(witness.handle(&ask(b, 1, AskKind::Cold, &[b]), now), Ok(Verdict::Conflict));
    assert_eq!(witness.handle(&ask(b, 2, ORDINARY, &[b]), now), Ok(Verdict::Conflict));
}

/// What the world knows of the grants that were ever made, whatever witness process made them.
#[derive(Default)]
struct Truth {
    /// By holder: the highest seq granted, its view, until when it may be counted.
    grants: BTreeMap<Incarnation, (u64, Names, Time)>,
}

impl Truth {
    /// I3: the witness never has two conflicting unexpired grants, restarts included.
    fn granted(&mut self, ask: &Ask, now: Time) -> Result<(), String> {
        self.grants.retain(|_, (_, _, expires)| now < *expires);
        for (holder, (seq, view, _)) in &self.grants {
            let together = view.contains(ask.from) && ask.view.contains(*holder);
            if *holder != ask.from && !together {
                return Err(format!("{now:?}: {ask:?} granted beside {holder}, seq {seq}, {view:?}"));
            }
        }
        let known = self.grants.get(&ask.from).map_or(0, |(seq, _, _)| *seq);
        if ask.seq > known {
            self.grants.insert(ask.from, (ask.seq, ask.view.clone(), now.after(VLS)));
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Event {
    Ask {
        who: usize,
        with: u8,
        kind: u8,
        incumbent: bool,
    },
    /// An ask sent earlier arrives (again).
    Replay {
        which: prop::sample::Index,
    },
    Restart,
    Wait {
        ms: u64,
    },
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => (0_usize..6, any::<u8>(), 0_u8..8, any::<bool>())
            .prop_map(|(who, with, kind, incumbent)| Event::Ask { who, with, kind, incumbent }),
        4 => any::<prop::sample::Index>().prop_map(|which| Event::Replay { which }),
        1 => Just(Event::Restart),
        6 => (0_u64..400).prop_map(|ms| Event::Wait { ms }),
        1 => (0_u64..20_000).prop_map(|ms| Event::Wait { ms }),
    ]
}

fn i3_holds(events: &[Event]) -> Result<u64, String> {
    // Three hosts in two lives each.
    let lives: Vec<Incarnation> = (0..6).map(|n| name(n % 3, 1 + n / 3)).collect();
    let mut now = Time(10_000);
    let mut witness: Arbiter<3, 4> = Arbiter::new(now, LEASE, DRIFT);
    let (mut truth, mut sent, mut granted) = (Truth::default(), Vec::<Ask>::new(), 0);
    for event in events {
        let arrived = match event {
            Event::Wait { ms } => {
                now = later(now, *ms);
                continue;
            }
            Event::Restart => {
                witness = Arbiter::new(now, LEASE, DRIFT);
                continue;
            }
            Event::Replay { .. } if sent.is_empty() => continue,
            Event::Replay { which } => which.get(&sent).clone(),
            Event::Ask { who, with, kind, incumbent } => {
                let view = lives.iter().enumerate().filter(|(at, _)| at == who || with & (1 << at) != 0);
                let view: Vec<Incarnation> = view.map(|(_, name)| *name).collect();
                let kind = match kind {
                    0 => AskKind::Beacon,
                    1 => AskKind::Cold,
                    _ => AskKind::Ordinary { incumbent: *incumbent },
                };
                let ask = ask(lives[*who], sent.len() as u64 + 1, kind, &view);
                sent.push(ask.clone());
                // Some are only on their way: they arrive by a later Replay.
                if with & 0x80 != 0 {
                    continue;
                }
                ask
            }
        };
        if witness.handle(&arrived, now) == Ok(Verdict::Granted) {
            granted += 1;
            truth.granted(&arrived, now)?;
        }
    }
    Ok(granted)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn i3_never_two_conflicting_unexpired_grants(events in prop::collection::vec(any_event(), 0..120)) {
        if let Err(violation) = i3_holds(&events) {
            return Err(TestCaseError::fail(violation));
        }
    }
}

/// The property above would hold of a witness that grants nothing.
#[test]
fn the_random_histories_of_i3_do_contain_grants() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let histories = prop::collection::vec(any_event(), 120);
    let granted: u64 =
        (0..100).map(|_| i3_holds(&histories.new_tree(&mut runner).unwrap().current()).unwrap()).sum();
    assert!(granted > 300, "{granted} grants in 100 histories");
}
