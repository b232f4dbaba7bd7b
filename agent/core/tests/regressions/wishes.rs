//! What operators want of hosts: drained ones, disarmed fencing.

use palisade_core::action::{Act, Action, ExitKind, Request, RequestRefused, Seen, WorkloadReport};
use palisade_core::engine::Wished;
use palisade_core::record::Event;
use palisade_core::standing::{Saved, SavedState};
use palisade_ladder::{Command, Reading, Response};
use palisade_proto::message::{Maintenance, Presence, Wishes};
use palisade_proto::{Duration, Founding, Heartbeat, HostId, Incarnation, Names, Time, WorkloadId};

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
                word.speaks = 4;
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
    let wishes = Wishes { version: 7, drained: 1, disarmed: Duration::secs(5), ..Wishes::default() };
    bench.live_new(100, &b_and_c(), |word| word.wishes = wishes.clone());
    let told = bench.told().wishes.clone();
    assert!(told.version == 7 && told.drained == 1 && (4_000..=5_000).contains(&told.disarmed.0), "{told:?}");
    // What is older, and what is the same, changes nothing: no clock is set back by it.
    let older = Wishes { version: 6, drained: 0, disarmed: HOUR, ..Wishes::default() };
    bench.live_new(1_000, &b_and_c(), |word| word.wishes = older.clone());
    let same = Wishes { disarmed: Duration::secs(9), ..wishes };
    bench.live_new(1_000, &b_and_c(), |word| word.wishes = same.clone());
    assert!(bench.told().wishes.disarmed.0 < 4_000);
    assert_eq!(bench.recorded(|event| matches!(event, Event::Wished { .. })), 1);
    assert_eq!(
        (bench.saved.wished.version, bench.saved.wished.drained),
        (7, 1),
        "a restart of the agent knows it"
    );
}

/// After a boot the journal says what was wished; a peer says for how much longer.
#[test]
fn a_new_boot_asks_a_peer_for_how_much_longer() {
    let journal = |saved: &mut Saved| {
        (saved.wished.version, saved.wished.disarm_unknown) = (3, true);
    };
    let mut bench = runs(journal);
    assert_eq!(bench.told().wishes.disarmed, Duration(0));
    bench.live_new(100, &b_and_c(), |word| {
        word.wishes = Wishes { version: 3, disarmed: HOUR, ..Wishes::default() };
    });
    assert!(bench.told().wishes.disarmed.0 > 3_000_000);
}

/// Two operators at once, on two hosts: neither's word is lost, and both hosts end with the same.
#[test]
fn two_wishes_of_one_version_are_both_granted() {
    let mut bench = runs(|_| ());
    bench.disarm(HOUR).unwrap();
    bench.live_new(100, &b_and_c(), |word| {
        word.wishes = Wishes { version: 1, drained: 4, ..Wishes::default() };
    });
    let told = bench.told().wishes.clone();
    assert!(told.version == 2 && told.drained == 4 && told.disarmed.0 > 3_000_000, "{told:?}");
    bench.live_new(500, &b_and_c(), |word| word.wishes = told.clone());
    assert_eq!(bench.told().wishes.version, 2, "they agree");
    // One disarmed where the other armed: the longer time holds on both.
    bench.disarm(Duration(0)).unwrap();
    bench.live_new(100, &b_and_c(), |word| {
        word.wishes = Wishes { version: 3, drained: 4, disarmed: HOUR, ..Wishes::default() };
    });
    let told = &bench.told().wishes;
    assert!(told.version == 4 && told.disarmed.0 > 3_000_000, "{told:?}");
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

impl Bench {
    fn maintain(&mut self, host: u8, length: Option<Duration>) -> Result<String, RequestRefused> {
        let host = HostId::new(host).unwrap();
        let (reason, by) = ("a new board".to_owned(), "root".to_owned());
        self.asks(Request::Maintain { host, length, reason, by })
    }

    /// b hears what a told last, and c lives as ever, until there is nothing new to tell.
    fn settle_wishes(&mut self) {
        for _ in 0..3 {
            let wishes = self.told().wishes.clone();
            self.live_new(100, &b_and_c(), |word| word.wishes = wishes.clone());
        }
    }
}

fn maintained(host: u8, left: Duration) -> Wishes {
    let one = Maintenance { host: HostId::new(host).unwrap(), left };
    Wishes { version: 1, maintenance: [one].into_iter().collect(), ..Wishes::default() }
}

/// PROTOCOL, "Leaving and restarting": "(in maintenance: on every heartbeat)".
#[test]
fn a_host_in_maintenance_leaves_and_says_so_until_it_is_let_back() {
    let mut bench = runs(|_| ());
    bench.maintain(0, Some(HOUR)).unwrap();
    bench.settle_wishes();
    assert_eq!(bench.acts, [(WorkloadId(0), Act::Stop)]);
    assert_eq!(bench.told().presence, Presence::Admitted, "not before what it runs is stopped");
    bench.report(WorkloadReport::Stopped);
    bench.live_new(1_000, &b_and_c(), |word| word.wishes = maintained(0, HOUR));
    let told = bench.told().clone();
    assert_eq!(told.presence, Presence::Left);
    assert!(bench.saved.left && bench.exits().is_empty(), "the process stays");
    bench.live_new(20_000, &b_and_c(), |word| word.wishes = maintained(0, HOUR));
    let said = bench.sent.iter().filter(|word| word.presence == Presence::Left).count();
    assert!(said >= 100 && bench.told().seq > told.seq && bench.offs().is_empty(), "{said}");
    let of_b = bench.told().echo_of(HostId::new(1).unwrap()).map(|echo| echo.of);
    assert_eq!(of_b, Some(life(1, 1)), "a cold start waits for its echo");
    assert!(bench.has_alarm("a is in maintenance: it runs nothing"));
    bench.maintain(0, None).unwrap();
    assert_eq!(bench.exits(), [ExitKind::Reborn]);
    assert!(bench.saved.wished.maintenance.is_empty(), "else the next life is out at once");
}

/// A host that knows of its maintenance from the journal looks at its workloads, and is out without ever joining.
#[test]
fn a_new_life_in_maintenance_looks_first_and_joins_nobody() {
    let mut saved = Saved::new(0);
    saved.wished.maintenance.insert(HostId::new(0).unwrap(), Time(BEGIN + 3_600_000));
    saved.wished.version = 1;
    let mut bench = Bench::start_unseen(cluster(3, ""), SavedState::Found(Box::new(saved)), BEGIN);
    bench.wait(3_000);
    assert!(bench.sent.is_empty(), "SAFE-9: nothing is said before every workload was looked at");
    bench.report(WorkloadReport::Seen(Seen::Running));
    assert_eq!(bench.acts, [(WorkloadId(0), Act::Kill)]);
    bench.report(WorkloadReport::Stopped);
    bench.wait(30_000);
    assert!(bench.sent.len() > 100 && bench.sent.iter().all(|word| word.presence == Presence::Left));
    assert!(bench.sent.iter().all(|word| word.lock.is_none()) && bench.exits().is_empty());
    assert!(!bench.has_alarm("no member"), "that is what was wanted");
}

/// Its next life does the same, after a restart as after a stop.
#[test]
fn a_process_in_maintenance_ends_when_it_is_to() {
    for restarts in [false, true] {
        let mut bench = runs(|_| ());
        bench.maintain(0, Some(HOUR)).unwrap();
        bench.report(WorkloadReport::Stopped);
        bench.live_new(1_000, &b_and_c(), |_| ());
        assert!(bench.exits().is_empty());
        match restarts {
            true => bench.engine.handle_restart(Time(bench.now)),
            false => bench.engine.handle_leave("stopped", Time(bench.now)),
        }
        bench.drain();
        assert_eq!(bench.exits(), [ExitKind::Left]);
        let again = Bench::start(cluster(3, ""), SavedState::Found(Box::new(bench.saved.clone())), bench.now);
        assert!(again.me() != bench.me() && again.saved.wished.maintenance.len() == 1);
    }
}

/// What it left behind is nobody's prey: no fence, no power, and no place in the electorate while it does not know yet.
#[test]
fn nothing_fences_a_host_in_maintenance_or_takes_it_in() {
    let mut bench = runs(|_| ());
    bench.maintain(2, Some(HOUR)).unwrap();
    let wishes = maintained(2, HOUR);
    bench.live_new(100, &b_and_c(), |word| {
        word.wishes = wishes.clone();
        if word.from == life(2, 1) {
            word.presence = Presence::Left;
        }
    });
    bench.live_new(20_000, &b_and_c()[..1], |word| word.wishes = wishes.clone());
    assert!(bench.is_dead(life(2, 1)) || !bench.engine.counted().contains(&life(2, 1)));
    let of_c = |bench: &Bench| bench.orders.iter().filter(|order| order.host.number() == 2).count();
    assert_eq!(of_c(&bench), 0);
    assert_eq!(
        bench.asks(Request::Unfence {
            host: HostId::new(2).unwrap(),
            reason: "too soon".to_owned(),
            by: "root".to_owned(),
        }),
        Err(RequestRefused::InMaintenance)
    );
    // An agent of c that has lost its journal wants to join.
    for maintenance in [true, false] {
        if !maintenance {
            bench.maintain(2, None).unwrap();
        }
        bench.live_new(15_000, &[life(1, 1), life(2, 2)], |word| {
            if word.from == life(2, 2) {
                (word.presence, word.found) = (Presence::Joining, None);
                (word.electorate, word.view) = (Names::new(), Names::new());
            } else {
                word.electorate = word.electorate.iter().filter(|who| *who != life(2, 2)).collect();
            }
        });
        assert_eq!(bench.engine.counted().contains(&life(2, 2)), !maintenance);
    }
}

/// A host that was fenced and has been put into maintenance meanwhile does not get its power back.
#[test]
fn nothing_powers_a_host_in_maintenance_on() {
    for maintenance in [false, true] {
        let mut bench = runs(|_| ());
        bench.live_new(2_000, &b_and_c()[..1], |_| ());
        assert_eq!(bench.offs(), [2]);
        if maintenance {
            bench.maintain(2, Some(HOUR)).unwrap();
        }
        for _ in 0..20 {
            for order in std::mem::take(&mut bench.orders) {
                let response = match order.command {
                    Command::Off | Command::On => Response::Acknowledged,
                    Command::Read | Command::Prove => Response::Reads(Reading::Off),
                };
                bench.answer(&order, response);
            }
            bench.live_new(100, &b_and_c()[..1], |_| ());
        }
        assert!(bench.is_dead(life(2, 1)), "the fence went on");
        assert_eq!(bench.ons().is_empty(), maintenance);
    }
}

#[test]
fn a_maintenance_that_lasts_too_long_is_told_and_goes_on() {
    let mut bench = runs(|_| ());
    bench.maintain(1, Some(Duration::secs(5))).unwrap();
    bench.live_new(4_000, &b_and_c(), |_| ());
    assert!(bench.has_alarm("b is in maintenance: "));
    bench.live_new(2_000, &b_and_c(), |_| ());
    assert!(bench.has_alarm("b is in maintenance for longer than was said"));
    assert_eq!(
        bench.told().wishes.maintenance,
        [Maintenance { host: HostId::new(1).unwrap(), left: Duration(0) }]
    );
    bench.maintain(1, None).unwrap();
    bench.live_new(100, &b_and_c(), |_| ());
    assert!(!bench.has_alarm("maintenance") && bench.told().wishes.maintenance.is_empty());
}

#[test]
fn somebody_is_left_and_can_read_it() {
    let mut bench = runs(|_| ());
    let most = Duration::secs(31 * 86_400);
    assert_eq!(bench.maintain(1, Some(Duration(most.0 + 1))), Err(RequestRefused::TooLong { most }));
    bench.maintain(1, Some(HOUR)).unwrap();
    bench.maintain(2, Some(HOUR)).unwrap();
    assert_eq!(bench.maintain(0, Some(HOUR)), Err(RequestRefused::LastHost));
    bench.live_new(500, &b_and_c(), |word| word.speaks = 3);
    assert_eq!(bench.told().wishes, Wishes::default(), "who cannot read all of it hears nothing of it");
    assert_eq!(bench.maintain(1, Some(HOUR)), Err(RequestRefused::OlderAgents));
    // And takes nothing away by a newer wish of its own.
    bench.live_new(100, &b_and_c()[..1], |word| {
        word.speaks = 3;
        word.wishes = Wishes { version: 9, drained: 4, ..Wishes::default() };
    });
    let wished = &bench.saved.wished;
    assert!(wished.maintenance.len() == 2 && wished.drained == 4 && wished.version == 9, "{wished:?}");
    // Whoever has no quorum may still let a host back: it may be the one that is needed for it.
    bench.wait(3_000);
    assert_eq!(bench.maintain(1, Some(HOUR)), Err(RequestRefused::NotQuorate));
    assert!(bench.maintain(1, None).unwrap().contains("b may come back"));
    assert!(bench.maintain(1, None).unwrap().contains("b is not in maintenance"));
}

/// The operator hears beforehand what nobody else can run.
#[test]
fn what_stops_for_good_is_said() {
    let mut bench = runs(|_| ());
    bench.drain_host(1, true).unwrap();
    bench.drain_host(2, true).unwrap();
    assert!(bench.maintain(0, Some(HOUR)).unwrap().contains("(no other host may run w0)"));
}

/// A boot knows what its journal said last, and the time that was left then.
#[test]
fn a_journal_tells_the_next_boot() {
    let mut bench = runs(|_| ());
    bench.drain_host(2, true).unwrap();
    bench.maintain(1, Some(HOUR)).unwrap();
    let mut events = bench.done.iter().filter_map(|(_, action)| match action {
        Action::Record { event, .. } if matches!(**event, Event::Wished { .. }) => Some(event),
        _ => None,
    });
    let wished = Wished::recorded(events.next_back().unwrap(), &bench.cluster, Time(5_000)).unwrap();
    assert_eq!((wished.version, wished.drained, wished.disarm_unknown), (2, 4, true));
    assert_eq!(wished.maintenance, [(HostId::new(1).unwrap(), Time(3_605_000))].into_iter().collect());
}
