//! What a host's own verdicts lead to: who takes its workloads, when it fences itself, and when it does nothing (SAFE-8).

use std::sync::Arc;

use palisade_core::action::{Act, Action, WorkloadReport};
use palisade_core::config::{Cluster, ProbeId};
use palisade_core::health::{Ill, Verdict};
use palisade_core::record::Event;
use palisade_core::standing::{Saved, SavedState};
use palisade_proto::message::HealthClass;
use palisade_proto::{Founding, Heartbeat, Time, WorkloadId};

use crate::common::{BEGIN, Bench, life, parsed, text};

/// What a row of three needs no more of: the hold is what it takes to hear or to lose a peer.
const HOLD_MS: u64 = 1_020;

/// Hosts a, b, c; workload 0 runs on a and may run on b. Three probes, of which one is of the storage that nobody needs.
fn cluster(extra: &str) -> Arc<Cluster> {
    parsed(&text_of_cluster(extra))
}

fn text_of_cluster(extra: &str) -> String {
    let probe = |name: &str, more: &str| format!("[[probe]]\nname = \"{name}\"\nevery = \"500ms\"\n{more}\n");
    let tcp = "kind = \"tcp\"\naddress = \"10.0.9.1:1\"";
    let probes = probe("gate", &format!("{tcp}\non_failure = \"drain\""))
        + &probe("core", &format!("{tcp}\non_failure = \"fence\""))
        + &probe("rack", &format!("{tcp}\non_failure = \"report\""))
        + "[[storage]]\nname = \"other\"\npath = \"/x\"\n"
        + &probe("disk", "kind = \"storage\"\nstorage = \"other\"\non_failure = \"drain\"");
    text(3, &format!("{extra}{probes}"), &[0])
}

/// a is a member that runs workload 0, stands with b and c, and finds nothing wrong with itself.
fn runs(extra: &str) -> Bench {
    runs_from(cluster(extra), |_| ())
}

fn runs_from(cluster: Arc<Cluster>, change: impl Fn(&mut Saved)) -> Bench {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut saved = Saved::new(0);
    (saved.admitted, saved.found) = (true, Some(Founding { decider: life(9, 9), epoch: 1 }));
    let me = Bench::start(Arc::clone(&cluster), SavedState::Found(Box::new(saved.clone())), BEGIN).me();
    saved.electorate = vec![me, b, c];
    saved.claims = vec![WorkloadId(0)];
    change(&mut saved);
    let mut bench = Bench::start_unseen(cluster, SavedState::Found(Box::new(saved)), BEGIN);
    bench.report(WorkloadReport::Seen(palisade_core::action::Seen::Running));
    bench.ill(&[]);
    bench.live_with(2_500, &[]);
    assert!(bench.engine.is_quorate(Time(bench.now)) && bench.acts.is_empty());
    bench
}

impl Bench {
    fn ill(&mut self, ills: &[(&str, Verdict, Verdict)]) {
        let ill = |(name, verdict, last): &(&str, Verdict, Verdict)| Ill {
            probe: ProbeId::of(name),
            verdict: *verdict,
            last: *last,
            looked: true,
            why: "no answer".to_owned(),
        };
        self.engine.handle_ills(ills.iter().map(ill).collect(), Time(self.now));
        self.drain();
    }

    fn fails(&mut self, name: &str) {
        self.ill(&[(name, Verdict::Failed, Verdict::Failed)]);
    }

    /// b and c live; each of b's words is changed so.
    fn live_changed(&mut self, ms: u64, change: impl Fn(&mut Heartbeat)) {
        let (b, c) = (life(1, 1), life(2, 1));
        for _ in 0..ms / 50 {
            self.wait(50);
            for member in [b, c] {
                let mut word = self.word(member, self.now * 1000, &[b, c]);
                word.speaks = 3;
                word.grants = [palisade_proto::message::Grant { to: self.me(), seq: self.last_seq() }]
                    .into_iter()
                    .collect();
                if member == b {
                    change(&mut word);
                }
                self.hear(word);
            }
        }
    }

    /// b ails so.
    fn live_with(&mut self, ms: u64, ails: &[&str]) {
        let ails: Vec<u32> = ails.iter().map(|name| ProbeId::of(name).0).collect();
        self.live_changed(ms, |word| word.ails = ails.iter().copied().collect());
    }

    fn reboots(&self) -> bool {
        self.done.iter().any(|(_, action)| matches!(action, Action::Reboot { .. }))
    }
}

#[test]
fn a_host_that_cannot_serve_gives_its_workloads_away() {
    let mut bench = runs("");
    bench.ill(&[("gate", Verdict::Healthy, Verdict::Failed)]);
    bench.live_with(500, &[]);
    assert_eq!(bench.told().ails.as_slice(), [ProbeId::of("gate").0], "a first failure is told");
    assert_eq!((bench.told().health, bench.acts.len()), (HealthClass::Healthy, 0), "and is no verdict");
    bench.fails("gate");
    bench.live_with(HOLD_MS - 50, &[]);
    assert_eq!(
        (bench.told().health, bench.acts.len()),
        (HealthClass::Degraded, 0),
        "others may fail as well"
    );
    bench.live_with(100, &[]);
    assert_eq!(bench.acts, [(WorkloadId(0), Act::Stop)]);
    assert!(bench.told().health == HealthClass::Failed && bench.told().refused.contains(WorkloadId(0)));
    bench.report(WorkloadReport::Stopped);
    bench.live_with(500, &[]);
    assert!(!bench.told().place.is_empty() && bench.told().place.iter().all(|place| place.on == life(1, 1)));
    assert!(!bench.reboots() && bench.has_alarm("gate of a has failed: no answer"));
    bench.ill(&[]);
    bench.live_with(100, &[]);
    assert_eq!(bench.told().health, HealthClass::Healthy);
    assert!(!bench.has_alarm("gate") && bench.told().ails.is_empty() && bench.told().refused.is_empty());
}

#[test]
fn a_host_fences_itself_once_the_others_have_had_their_say() {
    let mut bench = runs("");
    bench.fails("core");
    bench.live_with(HOLD_MS - 50, &[]);
    assert!(!bench.reboots());
    bench.live_with(100, &[]);
    assert!(bench.reboots());
    assert_eq!(bench.recorded(|event| matches!(event, Event::Reboots { .. })), 1);
    // The kernel did not do it: what runs is killed, nothing more is said, and the process ends.
    assert_eq!(bench.acts, [(WorkloadId(0), Act::Kill)]);
    let said = bench.sent.len();
    bench.live_with(1_000, &[]);
    assert_eq!(bench.sent.len(), said);
}

/// SAFE-8: "never a host because half or more of the hosts fail the same probe".
#[test]
fn safe_8_a_cause_that_half_of_the_hosts_share_moves_nothing() {
    for probe in ["gate", "core"] {
        let mut bench = runs("");
        bench.fails(probe);
        bench.live_with(5_000, &[probe]);
        assert!(bench.acts.is_empty() && !bench.reboots(), "{probe}");
        assert!(bench.has_alarm("fails on 2 of 3 hosts: a common cause"));
        assert_eq!(bench.told().health, HealthClass::Degraded);
        bench.live_with(200, &[]);
        assert!(!bench.acts.is_empty(), "{probe}: b is well again, a is not");
        assert!(!bench.has_alarm("a common cause"));
    }
}

/// What fails no more is nobody's cause, though its verdict stands until it is taken back.
#[test]
fn a_failure_that_is_seen_no_more_moves_nothing() {
    let mut bench = runs("");
    bench.fails("core");
    bench.live_with(900, &[]);
    bench.ill(&[("core", Verdict::Failed, Verdict::Healthy)]);
    bench.live_with(5_000, &[]);
    assert!(bench.acts.is_empty() && !bench.reboots());
    assert_eq!(bench.told().ails.as_slice(), [ProbeId::of("core").0], "the peers do not rely on it yet");
}

/// A process that has not looked yet vouches for nothing: a peer that fails must not take it for well.
#[test]
fn who_has_not_looked_yet_ails() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::start(cluster(""), SavedState::Absent, BEGIN);
    bench.wait(400);
    bench.live_with(400, &[]);
    assert_eq!(bench.told().ails.len(), 3, "what leads to nothing is not told");
    bench.ill(&[]);
    bench.live_with(400, &[]);
    assert!(bench.told().ails.is_empty());
    // Nobody is told what he could not read.
    bench.fails("gate");
    bench.live(400, &[b, c]);
    assert!(bench.told().ails.is_empty());
}

/// SAFE-8: a peer that may not look at it, that had no room to name it, or that could not be told, vouches for nothing.
#[test]
fn safe_8_who_cannot_say_is_not_taken_for_well() {
    for untold in ["another configuration", "no room", "an older agent"] {
        let mut bench = runs("");
        bench.fails("core");
        bench.live_changed(5_000, |word| match untold {
            "another configuration" => word.digest = [0; 8],
            "no room" => word.ails = (1..=8).collect(),
            _ => word.speaks = 2,
        });
        assert!(bench.acts.is_empty() && !bench.reboots(), "{untold}");
        bench.live_with(300, &[]);
        assert!(bench.reboots(), "{untold}");
    }
}

/// SAFE-8: while nothing is known a host looks sooner than the others, and so waits until each of them has looked as often.
#[test]
fn safe_8_a_verdict_that_came_quickly_waits_for_the_others() {
    let mut bench = runs("");
    bench.ill(&[("core", Verdict::Unknown, Verdict::Failed)]);
    bench.live_with(100, &[]);
    bench.fails("core");
    bench.live_with(3 * 500 + HOLD_MS - 50, &[]);
    assert!(!bench.reboots());
    bench.live_with(100, &[]);
    assert!(bench.reboots());
}

/// SAFE-5: "self-fencing never depends on it": neither on a journal that fails, nor on one that never answers.
#[test]
fn safe_5_a_host_fences_itself_although_its_journal_is_lost() {
    let mut bench = runs("");
    bench.disk_hangs = true;
    bench.engine.handle_journal(Some("no answer".to_owned()), Time(bench.now));
    bench.drain();
    bench.fails("core");
    bench.live_with(HOLD_MS + 50, &[]);
    assert!(bench.reboots());
}

/// SAFE-8: a host that fences itself is one more fence. The budget of three hosts is one.
#[test]
fn safe_8_a_host_fences_itself_within_the_budget_alone() {
    let window = "[fencing]\nbudget_window = \"60s\"\n";
    let mut bench = runs_from(cluster(window), |saved| saved.fences = vec![(life(1, 9), Time(BEGIN))]);
    bench.fails("core");
    bench.live_with(3_000, &[]);
    assert!(!bench.reboots() && bench.has_alarm("would fence itself: core has failed"));
    assert!(bench.has_alarm("the fence budget is spent"));
    bench.live_with(60_000, &[]);
    assert!(bench.reboots(), "it is free again");
}

/// A reboot would end, for nothing, what nobody else can run: what can move is given away, and the rest stays.
#[test]
fn a_host_does_not_fence_itself_over_what_nobody_else_can_run() {
    let only_here = "[[workload]]\nid = 1\nname = \"w1\"\nhosts = [\"a\"]\n[workload.command]\n\
                     start = [\"/s\"]\nstop = [\"/s\"]\nstatus = [\"/s\"]\n";
    let cluster = parsed(&format!("{}{only_here}", text_of_cluster("")));
    let mut bench = runs_from(cluster, |saved| saved.claims.push(WorkloadId(1)));
    bench.fails("core");
    bench.live_with(3_000, &[]);
    assert_eq!(bench.acts, [(WorkloadId(0), Act::Stop)]);
    assert!(!bench.reboots() && bench.has_alarm("workload w1 stays on a although core has failed"));
}

/// Anti-affinity: where its neighbour runs it could not start.
#[test]
fn nothing_is_given_to_where_its_neighbour_runs() {
    let text = text_of_cluster("").replace("name = \"w0\"\n", "name = \"w0\"\nanti_affinity = \"db\"\n");
    let neighbour = "[[workload]]\nid = 1\nname = \"w1\"\nhosts = [\"b\"]\nanti_affinity = \"db\"\n[workload.command]\n\
                     start = [\"/s\"]\nstop = [\"/s\"]\nstatus = [\"/s\"]\n";
    let mut bench = runs_from(parsed(&format!("{text}{neighbour}")), |_| ());
    let busy = |word: &mut Heartbeat| {
        word.busy.insert(WorkloadId(1));
    };
    bench.fails("gate");
    bench.live_changed(3_000, busy);
    assert!(bench.acts.is_empty() && bench.has_alarm("workload w0 stays on a"));
    bench.live_with(200, &[]);
    assert_eq!(bench.acts, [(WorkloadId(0), Act::Stop)]);
}

/// Without this host the other one is half of the electorate: it could run nothing.
#[test]
fn a_host_whom_the_others_need_for_their_quorum_does_not_fence_itself() {
    let mut bench = runs("");
    let c = life(2, 1);
    bench.live_changed(1_500, |_| ());
    // c leaves by its own word: a and b are two, without a witness.
    let mut word = bench.word(c, bench.now * 1000 + 1, &[life(1, 1), c]);
    word.speaks = 3;
    word.presence = palisade_proto::message::Presence::Left;
    bench.hear(word);
    bench.fails("core");
    for _ in 0..60 {
        bench.wait(50);
        let b = life(1, 1);
        let mut word = bench.word(b, bench.now * 1000, &[b]);
        (word.speaks, word.dead) = (3, [c].into_iter().collect());
        word.grants =
            [palisade_proto::message::Grant { to: bench.me(), seq: bench.last_seq() }].into_iter().collect();
        bench.hear(word);
    }
    assert!(bench.engine.is_quorate(Time(bench.now)) && !bench.reboots());
    assert!(bench.has_alarm("would fence itself") && bench.has_alarm("would not be a quorum without it"));
}

/// Until it is known whether a host can serve it takes nothing that it would have to give away.
#[test]
fn what_may_have_to_be_given_away_is_not_taken() {
    let mut bench = runs("");
    bench.ill(&[("core", Verdict::Unknown, Verdict::Failed)]);
    bench.live_with(300, &[]);
    assert!(bench.told().refused.contains(WorkloadId(0)) && bench.acts.is_empty());
    // A missing tool is no reason.
    bench.ill(&[("core", Verdict::Unknown, Verdict::Unknown)]);
    bench.live_with(300, &[]);
    assert!(bench.told().refused.is_empty(), "{:?}", bench.told().refused);
    assert!(bench.has_alarm("core of a is not known"), "{:?}", bench.engine.status(Time(bench.now)).alarms);
}

#[test]
fn what_nobody_else_can_run_stays() {
    for name in ["failed", "refuses"] {
        for probe in ["gate", "core"] {
            let mut bench = runs("");
            bench.fails(probe);
            bench.live_changed(3_000, |word| match name {
                "failed" => word.health = HealthClass::Failed,
                _ => {
                    word.refused.insert(WorkloadId(0));
                }
            });
            assert!(bench.acts.is_empty() && !bench.reboots(), "{name} {probe}");
            assert!(bench.has_alarm("workload w0 stays on a although"), "{name} {probe}");
            bench.live_with(200, &[]);
            assert!(!bench.acts.is_empty() && !bench.has_alarm("stays on a"), "{name} {probe}");
        }
    }
}

/// SAFE-2: without a quorum nobody could take anything, and SAFE-3 rules. b and c are heard, and vote for somebody else.
#[test]
fn safe_2_without_a_quorum_nothing_is_given_away() {
    for probe in ["gate", "core"] {
        let mut bench = runs("on_quorum_loss = \"keep\"\n");
        let (b, c) = (life(1, 1), life(2, 1));
        for round in 0..140 {
            bench.wait(50);
            for member in [b, c] {
                let mut word = bench.word(member, bench.now * 1000, &[b, c]);
                word.speaks = 3;
                bench.hear(word);
            }
            if round == 40 {
                assert!(!bench.engine.is_quorate(Time(bench.now)) && bench.engine.view().len() == 3);
                bench.fails(probe);
            }
        }
        assert!(bench.acts.is_empty() && !bench.reboots(), "{probe}");
    }
}

/// "drain; if it cannot, fence itself": a process that not even a kill ends may write again.
#[test]
fn a_host_that_cannot_stop_what_it_gives_away_fences_itself() {
    let mut bench = runs("");
    bench.fails("gate");
    bench.live_with(HOLD_MS + 50, &[]);
    assert_eq!(bench.acts, [(WorkloadId(0), Act::Stop)]);
    bench.report(WorkloadReport::StopFailed("no end".to_owned()));
    assert_eq!(bench.acts.last(), Some(&(WorkloadId(0), Act::Kill)));
    bench.live_with(200, &[]);
    assert!(!bench.reboots(), "the kill goes on");
    bench.report(WorkloadReport::StopFailed("in the kernel".to_owned()));
    bench.live_with(200, &[]);
    assert!(bench.reboots());
}

#[test]
fn a_storage_concerns_those_that_need_it_alone() {
    let mut bench = runs("");
    bench.fails("disk");
    bench.live_with(5_000, &[]);
    assert!(bench.acts.is_empty());
    assert_eq!(bench.told().health, HealthClass::Degraded);
}

#[test]
fn a_report_is_a_report() {
    let mut bench = runs("");
    bench.fails("rack");
    bench.live_with(2_500, &[]);
    // All of them are told each time that one changes.
    bench.fails("rack");
    bench.live_with(2_500, &[]);
    assert!(bench.acts.is_empty() && !bench.reboots() && bench.has_alarm("rack of a has failed"));
    assert_eq!(bench.recorded(|event| matches!(event, Event::Probe { .. })), 1);
}

#[test]
fn in_shadow_mode_no_host_fences_itself() {
    let mut bench = runs("[fencing]\nmode = \"shadow\"\n");
    bench.fails("core");
    bench.live_with(3_000, &[]);
    assert!(bench.acts.is_empty() && !bench.reboots());
    assert!(bench.has_alarm("a would fence itself: core has failed: no answer"));
}

/// A host that was starved itself blames itself: in its rank, and in nothing else.
#[test]
fn a_host_that_was_not_served_ranks_itself_lower_for_a_while() {
    let mut bench = runs("");
    let before = bench.engine.quorum_until();
    bench.now += 800;
    bench.tick();
    assert_eq!(
        bench.engine.quorum_until().filter(|until| Some(*until) != before),
        None,
        "no lease is longer for it"
    );
    bench.live_with(1_000, &[]);
    assert_eq!(bench.told().health, HealthClass::Degraded);
    bench.live_with(10_000, &[]);
    assert_eq!(bench.told().health, HealthClass::Healthy);
}

/// A reload forgets what is not looked at any more, and judges the rest by the new words.
#[test]
fn a_reload_forgets_probes_that_are_gone() {
    let mut bench = runs("");
    bench.ill(&[("rack", Verdict::Failed, Verdict::Failed), ("gate", Verdict::Degraded, Verdict::Degraded)]);
    let without = parsed(&text(3, "[[storage]]\nname = \"other\"\npath = \"/x\"\n", &[0]));
    bench.engine.handle_cluster(without, Time(bench.now)).unwrap();
    bench.drain();
    bench.live_with(200, &[]);
    assert_eq!(bench.engine.status(Time(bench.now)).ills, []);
    assert!(!bench.has_alarm("rack"));
}
