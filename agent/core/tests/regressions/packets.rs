//! What packets that should change nothing must not change, and what a sleep takes away.

use palisade_core::action::{Act, WorkloadReport};
use palisade_proto::{Time, WorkloadId};

use crate::common::{Bench, life, parsed, text};

/// SAFE-7: whoever replays recorded packets of a dead life takes nothing from the living one.
#[test]
fn a_replayed_packet_of_a_dead_life_takes_no_grant_from_the_living_one() {
    let (dead, b, c) = (life(1, 9), life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_000, &[b, c]);
    for seq in 1..40 {
        bench.live(50, &[b, c]);
        let mut replayed = bench.word(dead, seq, &[]);
        replayed.echo = Default::default();
        bench.hear(replayed);
    }
    bench.wait(250);
    let said = bench.sent.last().unwrap();
    assert!(said.grant_to(b).is_some(), "{:?}", said.echo);
    assert!(!bench.is_dead(b));
}

/// PROTOCOL, "Words": "the host slept: drop all grants, start a new silent period".
#[test]
fn a_sleep_drops_all_grants_and_starts_a_silent_period() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_000, &[b, c]);
    assert!(bench.engine.is_quorate(Time(bench.now)));
    bench.engine.handle_slept(Time(bench.now));
    assert!(!bench.engine.is_quorate(Time(bench.now)));
    assert_eq!(bench.engine.leases().count(), 0);
    bench.live(500, &[b, c]);
    assert!(bench.sent.last().unwrap().silent && bench.engine.leases().count() == 0);
    bench.live(1_000, &[b, c]);
    assert!(bench.engine.is_quorate(Time(bench.now)) && bench.engine.leases().count() > 0);
}

/// SAFE-1: a workload that became another thing in the configuration would run on unseen beside the new one.
#[test]
fn a_reload_does_not_change_what_a_running_workload_is() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_500, &[b, c]);
    assert_eq!(bench.acts, [(WorkloadId(0), Act::Start)]);
    bench.engine.handle_workload(WorkloadId(0), WorkloadReport::Started, Time(bench.now));
    let changed = text(3, "", &[0]).replacen("start = [\"/s\"]", "start = [\"/other\"]", 1);
    let refused = bench.engine.handle_cluster(parsed(&changed), Time(bench.now)).unwrap_err();
    assert!(refused.contains("stop it first"), "{refused}");
}
