//! Fences: their budget, and orders that the disk holds up.

use palisade_core::action::{Request, RequestRefused, Statement, WorkloadReport};
use palisade_core::record::Event;
use palisade_core::standing::SavedState;
use palisade_ladder::{Command, Reading, Response};
use palisade_proto::Time;
use palisade_proto::message::{Names, Presence};

use crate::common::{Bench, WITNESS, life};

/// SAFE-8: "counted on every host from gossiped deaths": a host that comes back from a fence, and coordinates by its low id, does
/// not find an empty budget.
#[test]
fn a_newcomer_counts_the_fences_it_learns_of() {
    let (b, c, fenced) = (life(1, 1), life(2, 1), life(2, 9));
    for (by_a_fence, offs) in [(false, vec![2]), (true, vec![])] {
        let mut bench = Bench::new(3, "", &[]);
        bench.wait(400);
        for from in [b, c] {
            let mut word = bench.word(from, bench.now * 1000, &[b, c]);
            word.dead = [fenced].into_iter().collect();
            if by_a_fence {
                word.fenced = [fenced].into_iter().collect();
            }
            bench.hear(word);
        }
        assert!(bench.engine.admitted());
        bench.live(2_500, &[b, c]);
        bench.live(1_300, &[b]);
        let look = *bench.orders.last().expect("c is looked at in any case");
        bench.answer(&look, Response::Reads(Reading::On));
        bench.live(200, &[b]);
        assert_eq!(bench.offs(), offs);
        assert_eq!(bench.has_alarm("fence budget"), by_a_fence);
    }
}

/// SAFE-8: "counted on every host from gossiped deaths". Who came back is dead by its own word. When a member says later that a fence had cut its power, that counts (found by the
/// simulation, seed 12558).
#[test]
fn a_fence_that_is_heard_of_after_its_victim_counts() {
    let (b, c, again) = (life(1, 1), life(2, 1), life(2, 2));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_500, &[b, c]);
    bench.live(1_300, &[b]);
    let mut reborn = bench.word(again, 5, &[]);
    reborn.presence = Presence::Joining;
    bench.hear(reborn);
    assert!(bench.is_dead(c));
    let says_fenced = |bench: &Bench| bench.sent.last().unwrap().fenced.contains(c);
    bench.live(500, &[b]);
    assert!(!says_fenced(&bench));
    let mut word = bench.word(b, bench.now * 1000 + 1, &[b]);
    word.dead = [c].into_iter().collect();
    word.fenced = word.dead.clone();
    bench.hear(word);
    bench.live(500, &[b]);
    assert!(says_fenced(&bench));
}

/// "... in 10 minutes": what a newcomer is told of earlier fences ends with their window, too.
#[test]
fn old_fences_are_in_nobodys_budget() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_500, &[b, c]);
    let mut word = bench.word(b, bench.now * 1000 + 1, &[b]);
    word.dead = [c].into_iter().collect();
    word.fenced = word.dead.clone();
    bench.hear(word);
    bench.live(500, &[b]);
    let said = |bench: &Bench| {
        let last = bench.sent.last().unwrap();
        (last.dead.contains(c), last.fenced.contains(c))
    };
    assert_eq!(said(&bench), (true, true));
    bench.now += 600_000;
    bench.live(500, &[b]);
    assert_eq!(said(&bench), (true, false));
}

/// Two victims, of whom the budget allows one: that is one alarm, which stands.
#[test]
fn the_alarm_about_a_spent_budget_stands_still() {
    let members = [life(1, 1), life(2, 1), life(3, 1), life(4, 1)];
    let mut bench = Bench::new(5, "[fencing]\nbudget = 1\n", &members);
    bench.live(2_500, &members);
    bench.live(3_000, &members[..2]);
    assert!(bench.looks(3) > 0 && bench.looks(4) > 0);
    let about_budget = |what: &str| what.contains("fence budget");
    assert_eq!(bench.recorded(|event| matches!(event, Event::Alarm { what } if about_budget(what))), 1);
    assert_eq!(
        bench.recorded(|event| matches!(event, Event::AlarmCleared { what } if about_budget(what))),
        0
    );
}

/// An off that was acknowledged has cut, whoever proves the death in the end.
#[test]
fn a_fence_that_cut_is_counted_although_another_proof_came_first() {
    let (b, c, reborn) = (life(1, 1), life(2, 1), life(2, 2));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_500, &[b, c]);
    bench.live(1_300, &[b]);
    for response in [Response::Reads(Reading::On), Response::Acknowledged] {
        let order = *bench.orders.last().unwrap();
        bench.answer(&order, response);
    }
    assert_eq!(bench.offs(), [2]);
    let mut word = bench.word(reborn, 5, &[]);
    word.presence = Presence::Joining;
    bench.hear(word);
    bench.live(300, &[b]);
    assert!(bench.is_dead(c));
    let counted: Vec<_> = bench.saved.fences.iter().map(|(who, _)| *who).collect();
    assert_eq!(counted, [c]);
}

/// STYLE 10: fences older than the window are not kept, on hosts that fence nobody either.
#[test]
fn fences_are_forgotten_when_their_window_is_over() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "[fencing]\nquarantine_window = \"10min\"\n", &[b, c]);
    bench.live(2_000, &[b, c]);
    for n in 1..=3 {
        let dead = life(2, n);
        let mut word = bench.word(b, bench.now * 1000 + 1, &[b]);
        word.electorate = [bench.me(), b, dead].into_iter().collect();
        bench.hear(word);
        bench.wait(1);
        let mut word = bench.word(b, bench.now * 1000 + 1, &[b]);
        word.dead = [dead].into_iter().collect::<Names>();
        word.fenced = word.dead.clone();
        bench.hear(word);
        assert!(bench.is_dead(dead));
        bench.wait(20);
        let kept: Vec<_> = bench.saved.fences.iter().map(|(who, _)| *who).collect();
        assert_eq!(kept, [dead]);
        bench.now += 601_000;
        bench.wait(10);
    }
}

/// SAFE-2: "standing is checked immediately before each device command", and each copy of an order is one: an order under way
/// is renewed while this host may still give it, and not after.
#[test]
fn safe_2_an_off_under_way_stands_only_as_long_as_the_quorum() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_500, &[b, c]);
    bench.live(1_300, &[b]);
    let look = *bench.orders.last().expect("a look");
    assert_eq!((look.command, look.standing_until), (Command::Read, None), "reading needs no standing");
    bench.answer(&look, Response::Reads(Reading::On));
    let off = *bench.orders.last().unwrap();
    assert_eq!(off.command, Command::Off);
    assert!(off.standing_until.is_some() && off.standing_until == bench.engine.quorum_until());
    bench.live(500, &[b]);
    assert!(bench.engine.order_stands_until(off.id) > off.standing_until, "renewed with the quorum");
    bench.wait(1_500);
    assert_eq!(bench.engine.order_stands_until(off.id), None);
    bench.live(1_500, &[b]);
    assert!(bench.engine.is_quorate(Time(bench.now)));
    assert_eq!(bench.engine.order_stands_until(off.id), None, "the next quorum is another order's");
}

/// An intent that reaches the disk after its order's deadline concerns nobody any more, least of all the order in flight by then.
#[test]
fn a_late_intent_leaves_the_order_in_flight_alone() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_500, &[b, c]);
    bench.disk_hangs = true;
    bench.live(1_300, &[b]);
    let look = *bench.orders.last().expect("a look");
    bench.answer(&look, Response::Reads(Reading::On));
    assert_eq!(bench.waiting.len(), 1, "the off waits for the disk");
    let looks = bench.looks(2);
    while bench.looks(2) == looks {
        assert!(bench.waiting.len() == 1 && bench.now < look.deadline.0 + 10_000);
        bench.live(50, &[b]);
    }
    // Past the off's deadline; a look is in flight.
    bench.release_disk();
    bench.live(1_000, &[b]);
    assert_eq!((bench.looks(2), bench.offs()), (looks + 1, vec![]), "not asked twice at once");
    let look = *bench.orders.last().unwrap();
    assert_eq!(look.command, Command::Read);
    bench.answer(&look, Response::Reads(Reading::On));
    assert_eq!(bench.offs(), [2], "and its answer counts");
}

/// SAFE-8: the budget is the host's. A coordinator that leaves and is started again in the same boot has spent what it has spent
/// (found by the simulation, seeds 52674, 73709 and 126928: it fenced as if it never had).
#[test]
fn a_leave_does_not_forget_the_fences_of_this_boot() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_500, &[b, c]);
    bench.report(WorkloadReport::Started);
    bench.live(1_300, &[b]);
    for response in [Response::Reads(Reading::On), Response::Acknowledged, Response::Reads(Reading::Off)] {
        let order = *bench.orders.last().unwrap();
        bench.answer(&order, response);
    }
    assert!(bench.is_dead(c) && bench.offs() == [2]);
    bench.engine.handle_leave("test", Time(bench.now));
    bench.drain();
    bench.report(WorkloadReport::Stopped);
    bench.wait(1_000);
    assert!(bench.saved.left);
    let saved = SavedState::Found(Box::new(bench.saved.clone()));
    let again = Bench::start(bench.cluster.clone(), saved, bench.now + 100);
    assert_ne!(again.me(), bench.me(), "a new life");
    let counted: Vec<_> = again.saved.fences.iter().map(|(who, _)| *who).collect();
    assert_eq!(counted, [c]);
}

/// I4: agents that are restarted together, as an upgrade does, miss one another's `away`. A process in whose view a member has
/// never stood waits for it as for one that has announced a restart (found by exploration: it cut the power of a host whose
/// agent was being restarted), and then waits no more.
#[test]
fn whoever_may_be_restarting_unheard_is_not_fenced() {
    let (b, c) = (life(1, 1), life(2, 1));
    let hold = |bench: &Bench| bench.cluster.timing().restart_hold().0;
    // c is not heard at all.
    let mut bench = Bench::new(3, "", &[b, c]);
    let began = bench.now;
    bench.live(hold(&bench) - 200, &[b]);
    assert!(bench.engine.is_coordinator(Time(bench.now)) && bench.looks(2) == 0);
    bench.live(began + hold(&bench) + 300 - bench.now, &[b]);
    assert!(bench.looks(2) > 0);
    // c is back, and has not heard everybody yet.
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_500, &[b]);
    assert!(bench.engine.is_coordinator(Time(bench.now)));
    let mut word = bench.word(c, bench.now * 1000 + 1, &[c]);
    word.heard = Names::new();
    bench.hear(word);
    bench.live(500, &[b]);
    assert_eq!(bench.looks(2), 0);
    // A member that has stood here is held by its own word alone.
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_500, &[b, c]);
    bench.live(1_300, &[b]);
    assert!(bench.looks(2) > 0);
}

/// I4: an off is under way when its victim speaks as a new life: that life loses its power to it. The fence is over then, and
/// whoever ordered the off gives the power back (found by exploration: nobody did) - but not to a host that has left.
#[test]
fn power_that_a_fence_cut_in_vain_comes_back() {
    for (presence, powered_on) in [(Presence::Joining, true), (Presence::Left, false)] {
        let (b, c, reborn) = (life(1, 1), life(2, 1), life(2, 2));
        let mut bench = Bench::new(3, "", &[b, c]);
        bench.live(2_500, &[b, c]);
        bench.live(1_300, &[b]);
        let look = *bench.orders.last().unwrap();
        bench.answer(&look, Response::Reads(Reading::On));
        assert_eq!(bench.offs(), [2]);
        let mut word = bench.word(reborn, 5, &[]);
        word.presence = presence;
        bench.hear(word);
        bench.live(300, &[b]);
        assert!(bench.is_dead(c) && bench.engine.is_quorate(Time(bench.now)));
        // The off may lie in the BMC's queue: an on before it would be undone.
        let is_on = |bench: &Bench| bench.orders.iter().any(|order| order.command == Command::On);
        assert!(!is_on(&bench));
        bench.live(12_000, &[b]);
        assert_eq!(is_on(&bench), powered_on);
        if !powered_on {
            continue;
        }
        // It is read back, and tried again.
        let on = *bench.orders.last().unwrap();
        bench.answer(&on, Response::Acknowledged);
        let read = *bench.orders.last().unwrap();
        assert_eq!(read.command, Command::Read);
        bench.live(5_000, &[b]);
        assert!(bench.orders.iter().filter(|order| order.command == Command::On).count() > 1);
    }
}

/// SAFE-7: where the configuration names operators, nobody else's word is a proof; what was stated is on the record either way.
#[test]
fn an_unsigned_word_counts_only_where_no_operator_is_named() {
    const ANNA: &str = "[[operator]]\nname = \"anna\"\nkey = \"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEbhDzOQfy0ZC42T0lRFxLcYUPqhEwjSQxMf9JperkpT\"\n";
    let (b, c) = (life(1, 1), life(2, 1));
    let word = |signer: Option<&str>| Statement {
        text: "word by word".to_owned(),
        checked: "the cords are out".to_owned(),
        signer: signer.map(str::to_owned),
    };
    for (operators, statement, counts) in [
        ("", Ok(None), true),
        ("", Ok(Some(word(None))), true),
        (ANNA, Ok(None), false),
        (ANNA, Ok(Some(word(None))), false),
        (ANNA, Ok(Some(word(Some("anna")))), true),
        ("", Err("too old".to_owned()), false),
    ] {
        let mut bench = Bench::new(3, operators, &[b, c]);
        bench.live(2_500, &[b, c]);
        bench.live(1_300, &[b]);
        let stated = matches!(statement, Ok(Some(_)));
        let outcome = bench.confirm_with(2, statement);
        assert_eq!((outcome.is_ok(), bench.is_dead(c)), (counts, counts), "{outcome:?}");
        let recorded = bench.recorded(|event| {
            matches!(event, Event::Operator { asked, statement, .. }
                if statement.is_some() == stated && asked.contains("checked: the cords are out") == stated)
        });
        assert_eq!(recorded, 1);
    }
}

/// A host that an operator confirms dead stays off: somebody may be at the open machine.
#[test]
fn a_confirmation_switches_nothing_on() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_500, &[b, c]);
    bench.live(1_300, &[b]);
    for response in [Response::Reads(Reading::On), Response::Acknowledged] {
        let order = *bench.orders.last().unwrap();
        bench.answer(&order, response);
    }
    assert_eq!(bench.offs(), [2]);
    bench.confirm(2).unwrap();
    bench.live(1_000, &[b]);
    assert!(bench.is_dead(c) && bench.engine.is_quorate(Time(bench.now)));
    assert!(bench.orders.iter().all(|order| order.command != Command::On));
}

/// What is given back is owed until it is done: a quorum that lapses in between changes nothing of that.
#[test]
fn power_that_is_owed_outlasts_a_lapse_of_the_quorum() {
    let (b, c, reborn) = (life(1, 1), life(2, 1), life(2, 2));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_500, &[b, c]);
    bench.live(1_300, &[b]);
    let look = *bench.orders.last().unwrap();
    bench.answer(&look, Response::Reads(Reading::On));
    let mut word = bench.word(reborn, 5, &[]);
    word.presence = Presence::Joining;
    bench.hear(word);
    bench.live(12_300, &[b]);
    let ons = |bench: &Bench| bench.orders.iter().filter(|order| order.command == Command::On).count();
    let before = ons(&bench);
    assert!(before > 0);
    bench.wait(1_500);
    assert!(!bench.engine.is_quorate(Time(bench.now)));
    bench.live(60_000, &[b]);
    assert!(ons(&bench) > before);
}

/// One of three members is fenced as often as told, each time comes back as a new life and is taken in, as long as it may be.
fn fenced_again_and_again(bench: &mut Bench, b: palisade_proto::Incarnation, times: u8) {
    for n in 1..=times {
        bench.now += 601_000; // the budget is free again
        bench.live(2_500, &[b, life(2, n)]);
        bench.live(1_300, &[b]);
        for response in [Response::Reads(Reading::On), Response::Acknowledged, Response::Reads(Reading::Off)]
        {
            let order = *bench.orders.last().unwrap();
            assert_eq!(order.host.number(), 2);
            bench.answer(&order, response);
        }
        assert!(bench.is_dead(life(2, n)));
        bench.live(1_500, &[b]);
        join(bench, b, life(2, n + 1), 12_000);
    }
}

/// An un-admitted host that everybody hears.
fn join(bench: &mut Bench, b: palisade_proto::Incarnation, who: palisade_proto::Incarnation, ms: u64) {
    for _ in 0..ms / 50 {
        bench.live(50, &[b]);
        let mut word = bench.word(who, bench.now * 1000 + 1, &[]);
        word.presence = Presence::Joining;
        word.heard = [bench.me(), b].into_iter().collect();
        bench.hear(word);
        let mut word = bench.word(b, bench.now * 1000 + 2, &[b]);
        word.heard = [bench.me(), who].into_iter().collect();
        bench.hear(word);
    }
}

/// SAFE-8: "quarantine of flapping hosts".
#[test]
fn a_host_that_is_fenced_again_and_again_is_kept_out_until_an_operator_says_so() {
    let (b, c) = (life(1, 1), life(2, 1));
    for (after, quarantined) in [(0, false), (2, true), (3, false)] {
        let mut bench = Bench::new(3, &format!("[fencing]\nquarantine_after = {after}\n"), &[b, c]);
        fenced_again_and_again(&mut bench, b, 2);
        let again = life(2, 3);
        let ons = |bench: &Bench| bench.orders.iter().filter(|order| order.command == Command::On).count();
        assert_eq!(bench.engine.counted().contains(&again), !quarantined, "after {after}");
        assert_eq!(bench.has_alarm("c is quarantined"), quarantined);
        // The power of a quarantined host stays off.
        assert_eq!(ons(&bench), if quarantined { 1 } else { 2 });
        if !quarantined {
            continue;
        }
        bench.live(2_000, &[b]);
        let host = palisade_proto::HostId::new(2).unwrap();
        let request = Request::Unfence { host, reason: "new memory".to_owned(), by: "root".to_owned() };
        assert!(bench.engine.handle_request(request, Time(bench.now)).is_ok());
        bench.drain();
        assert_eq!(ons(&bench), 2);
        join(&mut bench, b, again, 12_000);
        assert!(bench.engine.counted().contains(&again));
        assert_eq!(
            bench.recorded(
                |event| matches!(event, Event::AlarmCleared { what } if what.contains("quarantined"))
            ),
            1
        );
    }
}

/// "decide, record, send nothing".
#[test]
fn in_shadow_mode_a_fence_is_told_and_not_sent() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "[fencing]\nmode = \"shadow\"\n", &[b, c]);
    bench.live(2_500, &[b, c]);
    bench.live(5_000, &[b]);
    assert!(bench.orders.is_empty() && !bench.is_dead(c));
    let told = |event: &Event| matches!(event, Event::Withheld { what, why } if what == "sending off to bmc-c (level 1)" && why.contains("would have"));
    assert_eq!(bench.recorded(told), 1);
    assert!(bench.has_alarm("shadow mode"));
    let request = Request::Fence { host: c.host, reason: "test".to_owned(), by: "root".to_owned() };
    assert_eq!(bench.engine.handle_request(request, Time(bench.now)), Err(RequestRefused::Shadow));
}

/// "until an operator says so": time alone ends no quarantine, and a new process of the agent remembers it.
#[test]
fn a_quarantine_does_not_end_by_itself() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "[fencing]\nquarantine_after = 2\n", &[b, c]);
    fenced_again_and_again(&mut bench, b, 2);
    assert!(bench.has_alarm("c is quarantined") && bench.saved.quarantined == [c.host]);
    bench.now += 7_200_000;
    bench.live(3_000, &[b]);
    join(&mut bench, b, life(2, 3), 15_000);
    assert!(!bench.engine.counted().contains(&life(2, 3)) && bench.has_alarm("c is quarantined"));
}

/// "a confirmation switches nothing on": neither does anything that was owed to an earlier life of that host.
#[test]
fn a_confirmation_ends_what_was_owed() {
    let (b, c, reborn) = (life(1, 1), life(2, 1), life(2, 2));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_500, &[b, c]);
    bench.live(1_300, &[b]);
    let look = *bench.orders.last().unwrap();
    bench.answer(&look, Response::Reads(Reading::On));
    // The off is never answered, and c comes back by itself: it is owed its power.
    join(&mut bench, b, reborn, 25_000);
    assert!(bench.engine.counted().contains(&reborn));
    bench.live(2_000, &[b]);
    let ons = |bench: &Bench| bench.orders.iter().filter(|order| order.command == Command::On).count();
    let before = ons(&bench);
    bench.confirm(2).unwrap();
    bench.live(60_000, &[b]);
    assert!(bench.is_dead(reborn));
    assert_eq!(ons(&bench), before);
}

#[test]
fn power_that_is_being_given_back_outlasts_a_reload() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_500, &[b, c]);
    bench.live(1_300, &[b]);
    for response in [Response::Reads(Reading::On), Response::Acknowledged, Response::Reads(Reading::Off)] {
        let order = *bench.orders.last().unwrap();
        bench.answer(&order, response);
    }
    assert!(bench.is_dead(c));
    let told = bench.orders.len();
    let same = std::sync::Arc::clone(&bench.cluster);
    bench.engine.handle_cluster(same, Time(bench.now)).unwrap();
    bench.drain();
    bench.live(30_000, &[b]);
    assert!(bench.orders[told..].iter().any(|order| order.command == Command::On));
}

/// I4: a split heals, and the witness answers before the two hosts are linked again (found by a scenario, once in many runs).
#[test]
fn whoever_is_only_just_heard_again_is_not_fenced_at_once() {
    let b = life(1, 1);
    let mut bench = Bench::new(2, WITNESS, &[b]);
    bench.live(2_500, &[b]);
    bench.wait(30_000);
    assert!(bench.offs().is_empty() && bench.looks(1) == 0, "no quorum, no fence");
    let heals = |bench: &mut Bench| {
        // It has not heard us yet.
        let mut word = bench.word(b, bench.now * 1000, &[b]);
        word.heard = Names::new();
        word.view = [b].into_iter().collect();
        bench.hear(word);
        for ask in std::mem::take(&mut bench.asks) {
            bench.consent(&ask);
        }
    };
    for _ in 0..18 {
        heals(&mut bench);
        bench.wait(50);
    }
    assert!(bench.engine.is_quorate(Time(bench.now)));
    assert_eq!(bench.looks(1), 0);
    // One that stays deaf is fenced.
    for _ in 0..20 {
        heals(&mut bench);
        bench.wait(50);
    }
    assert!(bench.looks(1) > 0);
}

/// I4: this host was cut off from everybody and comes back, and the witness is the first that it hears (found by a scenario, once in
/// many runs). A host that is lost while the witness answers is not waited for.
#[test]
fn whoever_may_be_about_to_be_heard_again_is_not_fenced_at_once() {
    let b = life(1, 1);
    for cut_off in [true, false] {
        let mut bench = Bench::new(2, WITNESS, &[b]);
        bench.live(2_500, &[b]);
        let mut lost_for = 0;
        while bench.looks(1) == 0 && lost_for < 30_000 {
            bench.wait(50);
            lost_for += 50;
            for ask in std::mem::take(&mut bench.asks) {
                if !cut_off || lost_for > 20_000 {
                    bench.consent(&ask);
                }
            }
        }
        let suspect = bench.cluster.timing().suspect().0;
        if cut_off {
            assert!((20_000 + suspect..21_000 + suspect).contains(&lost_for), "{lost_for}");
        } else {
            assert!(lost_for < 2 * suspect, "{lost_for}");
        }
    }
}

/// A leave and the next life of the same boot forget no quarantine.
#[test]
fn a_quarantine_outlasts_a_leave_of_who_holds_it() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "[fencing]\nquarantine_after = 2\n", &[b, c]);
    fenced_again_and_again(&mut bench, b, 2);
    assert!(bench.saved.quarantined == [c.host]);
    let mut saved = bench.saved.clone();
    saved.left = true;
    let cluster = std::sync::Arc::clone(&bench.cluster);
    let mut again = Bench::start(cluster, SavedState::Found(Box::new(saved)), bench.now + 601_000);
    again.wait(400);
    for _ in 0..2 {
        let mut word = again.word(b, again.now * 1000, &[b]);
        word.dead = [life(2, 1), life(2, 2)].into_iter().collect();
        again.hear(word);
        again.wait(50);
    }
    assert!(again.engine.admitted());
    join(&mut again, b, life(2, 3), 25_000);
    assert!(!again.engine.counted().contains(&life(2, 3)));
}

/// A cut in vain of a host that lives on keeps it out of nothing, a month later neither.
#[test]
fn nobody_is_quarantined_while_it_stands() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "[fencing]\nquarantine_after = 1\n", &[b, c]);
    bench.live(2_500, &[b, c]);
    bench.live(1_300, &[b]);
    for response in [Response::Reads(Reading::On), Response::Acknowledged] {
        let order = *bench.orders.last().unwrap();
        bench.answer(&order, response);
    }
    bench.live(2_500, &[b, c]);
    assert!(bench.engine.view().contains(&c) && !bench.is_dead(c) && bench.saved.quarantined.is_empty());
    bench.now += 30 * 86_400_000;
    bench.live(2_500, &[b, c]);
    let mut word = bench.word(c, bench.now * 1000 + 1, &[b]);
    word.presence = Presence::Left;
    bench.hear(word);
    bench.live(1_500, &[b]);
    join(&mut bench, b, life(2, 2), 15_000);
    assert!(bench.engine.counted().contains(&life(2, 2)));
}

/// One packet now and then from a host that hears nobody holds no fence up.
#[test]
fn a_deaf_host_that_is_heard_now_and_then_is_fenced() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::new(3, "", &[b, c]);
    bench.live(2_500, &[b, c]);
    let (mut pending, mut seen, mut off) = (Vec::new(), bench.orders.len(), false);
    for n in 0..2_000u32 {
        bench.live(50, &[b]);
        if n.is_multiple_of(22) && !off {
            let mut word = bench.word(c, bench.now * 1000 + 1, &[]);
            word.heard = Names::new();
            word.view = [c].into_iter().collect();
            bench.hear(word);
        }
        while let Some(order) = bench.orders.get(seen).copied() {
            pending.push((bench.now + 150, order));
            seen += 1;
        }
        let now = bench.now;
        let due: Vec<_> = pending.iter().filter(|(at, _)| *at <= now).map(|(_, order)| *order).collect();
        pending.retain(|(at, _)| *at > now);
        for order in due {
            off |= order.command == Command::Off;
            let reads = Response::Reads(if off { Reading::Off } else { Reading::On });
            bench.answer(&order, if order.command == Command::Off { Response::Acknowledged } else { reads });
        }
    }
    assert!(bench.is_dead(c));
}
