//! What operators want of hosts: drained ones, disarmed fencing.

use palisade_core::action::{Act, Request, RequestRefused, WorkloadReport};
use palisade_core::record::Event;
use palisade_core::standing::{Saved, SavedState};
use palisade_proto::message::Wishes;
use palisade_proto::{Duration, Founding, Heartbeat, HostId, Incarnation, Time, WorkloadId};

use crate::common::{BEGIN, Bench, cluster, life};

const HOUR: Duration = Duration::secs(3600);

fn b_and_c() -> [Incarnation; 2] {
    [life(1, 1), life(2, 1)]
}

/// a is a member that runs workload 0, and coordinates b and c.
fn runs(change: impl Fn(&mut Saved)) -> Bench {
    let mut saved = Saved::new(0);
    (saved.admitted, saved.found) = (true, Some(Founding { decider: life(9, 9), epoch: 1 }));
    let me = Bench::start(cluster(3, ""), SavedState::Found(Box::new(saved.clone())), BEGIN).me();
    saved.electorate = b_and_c().into_iter().chain([me]).collect();
    saved.claims = vec![WorkloadId(0)];
    change(&mut saved);
    let mut bench = Bench::start_unseen(cluster(3, ""), SavedState::Found(Box::new(saved)), BEGIN);
    bench.report(WorkloadReport::Seen(palisade_core::action::Seen::Running));
    bench.engine.handle_ills(Vec::new(), Time(BEGIN));
    bench.live_new(2_500, &b_and_c(), |_| ());
    bench
}

impl Bench {
    /// These live, speak the newest version, and say so much more.
    fn live_new(&mut self, ms: u64, members: &[Incarnation], change: impl Fn(&mut Heartbeat)) {
        for _ in 0..ms / 50 {
            self.wait(50);
            for member in members {
                let mut word = self.word(*member, self.now * 1000, members);
                word.speaks = 3;
                word.grants = [palisade_proto::message::Grant { to: self.me(), seq: self.last_seq() }]
                    .into_iter()
                    .collect();
                change(&mut word);
                self.hear(word);
            }
        }
    }

    fn asks(&mut self, request: Request) -> Result<String, RequestRefused> {
        let outcome = self.engine.handle_request(request, Time(self.now));
        self.drain();
        outcome
    }

    fn drain_host(&mut self, host: u8, drain: bool) -> Result<String, RequestRefused> {
        let host = HostId::new(host).unwrap();
        self.asks(Request::Drain { host, drain, reason: "a new disk".to_owned(), by: "root".to_owned() })
    }

    fn disarm(&mut self, disarmed: Duration) -> Result<String, RequestRefused> {
        self.asks(Request::Arm { disarmed, reason: "a new switch".to_owned(), by: "root".to_owned() })
    }
}

#[test]
fn a_drained_host_gives_its_workloads_away_and_stays_a_member() {
    let mut bench = runs(|_| ());
    bench.drain_host(0, true).unwrap();
    bench.live_new(200, &b_and_c(), |_| ());
    assert_eq!(bench.acts, [(WorkloadId(0), Act::Stop)]);
    bench.report(WorkloadReport::Stopped);
    bench.live_new(300, &b_and_c(), |_| ());
    assert!(bench.told().place.iter().all(|place| place.on == life(1, 1)) && !bench.told().place.is_empty());
    assert_eq!((bench.told().wishes.version, bench.told().wishes.drained), (1, 1));
    assert!(bench.engine.is_quorate(Time(bench.now)) && bench.has_alarm("a is drained by an operator"));
    // Nobody fences himself for an operator's wish, whatever becomes of the stop.
    bench.drain_host(0, false).unwrap();
    bench.live_new(100, &b_and_c(), |_| ());
    assert!(!bench.has_alarm("drained") && bench.told().wishes.version == 2);
}

#[test]
fn a_host_that_cannot_stop_what_an_operator_drains_lives_on() {
    let mut bench = runs(|_| ());
    bench.drain_host(0, true).unwrap();
    bench.live_new(100, &b_and_c(), |_| ());
    bench.report(WorkloadReport::StopFailed("no end".to_owned()));
    bench.report(WorkloadReport::StopFailed("in the kernel".to_owned()));
    bench.live_new(3_000, &b_and_c(), |_| ());
    assert_eq!(bench.recorded(|event| matches!(event, Event::Reboots { .. })), 0);
}

#[test]
fn nothing_is_placed_on_a_drained_host_and_what_has_nowhere_to_go_stays() {
    let mut bench = runs(|_| ());
    bench.drain_host(1, true).unwrap();
    bench.drain_host(0, true).unwrap();
    bench.live_new(2_000, &b_and_c(), |_| ());
    assert!(
        bench.acts.is_empty()
            && bench.has_alarm("workload w0 stays on a although an operator drains this host")
    );
    bench.drain_host(1, false).unwrap();
    bench.live_new(200, &b_and_c(), |_| ());
    assert_eq!(bench.acts, [(WorkloadId(0), Act::Stop)]);
}

#[test]
fn a_disarmed_cluster_fences_nobody_and_arms_itself() {
    let mut bench = runs(|_| ());
    bench.disarm(Duration::secs(10)).unwrap();
    assert!(bench.has_alarm("fencing is disarmed by an operator"));
    bench.live_new(8_000, &b_and_c()[..1], |_| ());
    assert!(bench.offs().is_empty() && !bench.is_dead(life(2, 1)));
    assert_eq!(bench.recorded(|event| matches!(event, Event::Withheld { .. })), 1, "said once");
    bench.live_new(3_000, &b_and_c()[..1], |_| ());
    assert!(!bench.offs().is_empty(), "its time is over");
    assert!(!bench.has_alarm("disarmed"));
}

/// A fence that has begun goes no further, and begins anew afterwards.
#[test]
fn disarming_ends_what_goes_on() {
    let mut bench = runs(|_| ());
    bench.live_new(2_000, &b_and_c()[..1], |_| ());
    assert_eq!(bench.offs(), [2]);
    bench.disarm(HOUR).unwrap();
    bench.live_new(5_000, &b_and_c()[..1], |_| ());
    assert_eq!(bench.offs(), [2]);
    bench.disarm(Duration(0)).unwrap();
    bench.live_new(500, &b_and_c()[..1], |_| ());
    assert_eq!(bench.offs(), [2, 2]);
}

#[test]
fn an_operator_may_fence_while_nobody_else_does() {
    let mut bench = runs(|_| ());
    bench.disarm(HOUR).unwrap();
    let host = HostId::new(2).unwrap();
    bench.asks(Request::Fence { host, reason: "smoke".to_owned(), by: "root".to_owned() }).unwrap();
    bench.live_new(200, &b_and_c(), |_| ());
    assert_eq!(bench.looks(2), 1);
}

#[test]
fn the_higher_version_holds_everywhere_and_is_told_on() {
    let mut bench = runs(|_| ());
    let wishes = Wishes { version: 7, drained: 1, disarmed: Duration::secs(5) };
    bench.live_new(100, &b_and_c(), |word| word.wishes = wishes);
    let told = bench.told().wishes;
    assert!(told.version == 7 && told.drained == 1 && (4_000..=5_000).contains(&told.disarmed.0), "{told:?}");
    // What is older, and what is the same, changes nothing: no clock is set back by it.
    let older = Wishes { version: 6, drained: 0, disarmed: HOUR };
    bench.live_new(1_000, &b_and_c(), |word| word.wishes = older);
    bench.live_new(1_000, &b_and_c(), |word| word.wishes = Wishes { disarmed: HOUR, ..wishes });
    assert!(bench.told().wishes.disarmed.0 < 4_000);
    assert_eq!(bench.recorded(|event| matches!(event, Event::Wished { .. })), 1);
    assert_eq!((bench.saved.wish_version, bench.saved.drained), (7, 1), "a restart of the agent knows it");
}

/// After a boot the journal says what was wished; a peer says for how much longer.
#[test]
fn a_new_boot_asks_a_peer_for_how_much_longer() {
    let journal = |saved: &mut Saved| {
        (saved.wish_version, saved.disarm_unknown) = (3, true);
    };
    let mut bench = runs(journal);
    assert_eq!(bench.told().wishes.disarmed, Duration(0));
    bench.live_new(100, &b_and_c(), |word| word.wishes = Wishes { version: 3, drained: 0, disarmed: HOUR });
    assert!(bench.told().wishes.disarmed.0 > 3_000_000);
}

/// Two operators at once, on two hosts: neither's word is lost, and both hosts end with the same.
#[test]
fn two_wishes_of_one_version_are_both_granted() {
    let mut bench = runs(|_| ());
    bench.disarm(HOUR).unwrap();
    bench.live_new(100, &b_and_c(), |word| {
        word.wishes = Wishes { version: 1, drained: 4, disarmed: Duration(0) };
    });
    let told = bench.told().wishes;
    assert!(told.version == 2 && told.drained == 4 && told.disarmed.0 > 3_000_000, "{told:?}");
    bench.live_new(500, &b_and_c(), |word| word.wishes = told);
    assert_eq!(bench.told().wishes.version, 2, "they agree");
}

#[test]
fn what_cannot_be_told_to_all_or_for_ever_is_refused() {
    let mut bench = runs(|_| ());
    assert_eq!(
        bench.disarm(Duration::secs(25 * 3600)).unwrap_err(),
        RequestRefused::TooLong { most: Duration::secs(86_400) }
    );
    bench.live_new(100, &b_and_c(), |word| word.speaks = 2);
    assert_eq!(bench.drain_host(1, true), Err(RequestRefused::OlderAgents));
    bench.wait(2_000);
    assert_eq!(bench.disarm(HOUR), Err(RequestRefused::NotQuorate));
}
