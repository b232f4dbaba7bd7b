//! Claims and starts.

use palisade_core::action::{Act, Action, Request, StorageHealth, WorkloadReport};
use palisade_core::standing::{Saved, SavedState};
use palisade_proto::message::{Echo, Grant, HealthClass};
use palisade_proto::{Founding, Time, WorkloadId};

use crate::common::{BEGIN, Bench, cluster, life};

const W: WorkloadId = WorkloadId(0);
const STORAGE: &str = "[[storage]]\nname = \"images\"\npath = \"/srv/images\"\n\
    [[workload]]\nid = 1\nname = \"stored\"\nhosts = [\"a\", \"b\"]\nstorage = [\"images\"]\n\
    [workload.command]\nstart = [\"/s\"]\nstop = [\"/s\"]\nstatus = [\"/s\"]\n";

/// Host a has claimed what is placed on it and waits for c, whose words echo nothing new.
fn claimed(extra: &str) -> Bench {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, extra, &[b, c]);
    if !extra.is_empty() {
        bench.engine.handle_storage(0, StorageHealth::Healthy, Time(bench.now));
        bench.drain();
    }
    bench.wait(250);
    stale_words(&mut bench, 2_500);
    assert!(bench.sent.last().unwrap().busy.contains(W), "claimed");
    bench
}

fn stale_words(bench: &mut Bench, ms: u64) {
    let (b, c) = (life(1, 1), life(2, 1));
    let stale = bench.sent[0].seq;
    for _ in 0..ms / 50 {
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
}

/// What this host cannot start any more is not kept from the others: "A claim is withdrawn when place names another", and place
/// names another only for what nobody is busy with.
#[test]
fn a_claim_that_cannot_start_here_is_given_back() {
    let [journal, unfit, storage]: [fn(&mut Bench); 3] = [
        |bench| bench.engine.handle_journal(Some("no space".to_owned()), Time(bench.now)),
        |bench| bench.engine.handle_unfit(vec!["an enabled unit".to_owned()], Time(bench.now)),
        |bench| bench.engine.handle_storage(0, StorageHealth::Failed("EIO".to_owned()), Time(bench.now)),
    ];
    for (extra, id, fail) in [("", W, journal), ("", W, unfit), (STORAGE, WorkloadId(1), storage)] {
        let mut bench = claimed(extra);
        assert!(bench.sent.last().unwrap().busy.contains(id));
        fail(&mut bench);
        bench.drain();
        stale_words(&mut bench, 100);
        let said = bench.sent.last().unwrap();
        assert!(!said.busy.contains(id) && said.refused.contains(id));
        assert!(
            said.place.iter().any(|place| place.workload == id && place.on == life(1, 1)),
            "b has it now"
        );
        assert!(bench.acts.is_empty());
    }
}

/// The same for a start whose intent the disk never takes.
#[test]
fn a_start_that_waits_for_a_dead_disk_is_given_back() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.disk_hangs = true;
    bench.live(2_500, &[b, c]);
    assert!(bench.sent.last().unwrap().busy.contains(W) && bench.waiting.len() == 1);
    bench.engine.handle_journal(Some("the disk has not answered".to_owned()), Time(bench.now));
    bench.drain();
    bench.live(100, &[b, c]);
    assert!(!bench.sent.last().unwrap().busy.contains(W));
    // The disk answers late: what was given back does not start.
    bench.release_disk();
    assert_eq!(bench.acts, []);
}

/// DESIGN, "Workloads": after three failures another host is placed; that is no verdict for ever.
#[test]
fn failed_starts_are_forgotten_after_a_while_and_by_a_success() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_000, &[b, c]);
    for failure in 1..=3 {
        bench.live(500, &[b, c]);
        assert_eq!(bench.acts.len(), failure);
        bench.report(WorkloadReport::StartFailed("its storage is away".to_owned()));
    }
    bench.live(3_000, &[b, c]);
    assert!(bench.sent.last().unwrap().refused.contains(W) && bench.acts.len() == 3);
    assert!(bench.has_alarm("failed 3 times"));
    bench.wait(600_000);
    bench.live(3_000, &[b, c]);
    assert!(!bench.sent.last().unwrap().refused.contains(W));
    assert_eq!(bench.acts.len(), 4, "tried again");
    bench.report(WorkloadReport::Started);
    assert!(!bench.has_alarm("failed 3 times"), "it runs");
}

/// PROTOCOL, "Acting": "claim = its next seq; in /run". A process that is killed right after the start must not have forgotten.
#[test]
fn a_claim_is_in_run_before_its_start() {
    let mut saved = Saved::new(0);
    (saved.admitted, saved.found) = (true, Some(Founding { decider: life(9, 9), epoch: 1 }));
    let me = Bench::start(cluster(2, ""), SavedState::Absent, BEGIN).me();
    saved.electorate = vec![me];
    // Alone in E: its own heartbeat makes it quorate, and nobody's word is waited for.
    let mut bench = Bench::start(cluster(2, ""), SavedState::Found(Box::new(saved)), BEGIN);
    while !bench.engine.is_quorate(Time(bench.now)) {
        assert!(bench.now < BEGIN + 3_000);
        bench.wait(1);
    }
    assert_eq!(bench.acts, []);
    // An input within the gap in which no other heartbeat goes out.
    bench.now += 1;
    bench.engine.handle_health(HealthClass::Healthy, 0, Time(bench.now));
    bench.drain();
    assert_eq!(bench.acts, [(W, Act::Start)]);
    let start = bench.done.iter().position(|(_, action)| matches!(action, Action::Workload { .. })).unwrap();
    let saved = bench.done[..start].iter().rev().find_map(|(_, action)| match action {
        Action::Save(saved) => Some(saved),
        _ => None,
    });
    assert_eq!(saved.expect("saved").claims, [W]);
}

/// DESIGN, "Workloads": "desired state, which persists: what an operator stopped stays stopped".
#[test]
fn what_an_operator_stopped_stays_stopped_until_it_is_started() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_500, &[b, c]);
    bench.report(WorkloadReport::Started);
    let desire = |bench: &mut Bench, run: bool| {
        let request =
            Request::Desire { workload: WorkloadId(0), run, reason: "test".into(), by: "root".into() };
        bench.engine.handle_request(request, Time(bench.now)).unwrap();
        bench.drain();
    };
    desire(&mut bench, false);
    assert_eq!(bench.acts.last(), Some(&(WorkloadId(0), Act::Stop)));
    bench.report(WorkloadReport::Stopped);
    bench.live(2_000, &[b, c]);
    assert_eq!(bench.acts.len(), 2, "not placed again");
    // Over a leave and the next life of the same boot, too.
    assert!(bench.saved.stopped == [WorkloadId(0)] && bench.saved.desired_version == 1);
    let left = Saved { left: true, ..bench.saved.clone() };
    let mut next =
        Bench::start(std::sync::Arc::clone(&bench.cluster), SavedState::Found(Box::new(left)), bench.now);
    next.wait(700);
    assert!(next.sent.last().unwrap().desired.stopped.contains(WorkloadId(0)));
    // A peer that knows less takes it over; then it is started again.
    desire(&mut bench, true);
    bench.live(2_000, &[b, c]);
    assert_eq!(bench.acts.last(), Some(&(WorkloadId(0), Act::Start)));
}
