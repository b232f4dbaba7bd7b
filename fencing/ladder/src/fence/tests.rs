//! The ladder as a whole, and the one property that everything rests on: no proof without a reading.

use super::*;
use crate::course::{SETTLE_DEADLINES, TRY_PAUSE};
use crate::{Effect, Evidence, Identity, Level, Opening, ProofKind};
use palisade_proto::HostId;
use proptest::prelude::*;

const DEADLINE: Duration = Duration::ms(4000);

fn victim() -> Incarnation {
    Incarnation::new(HostId::new(2).unwrap(), [5; 8])
}

fn plan(levels: &[&[u16]]) -> Plan {
    let device = |id: &u16| PlannedDevice { id: DeviceId(*id), deadline: DEADLINE, retries: 2 };
    let level = |ids: &&[u16]| Level { devices: ids.iter().map(device).collect() };
    Plan {
        effect: Effect::Power,
        levels: levels.iter().map(level).collect(),
        opening: Opening::CutAtOnce,
        after_off: After::On,
        order_deadline: Duration::secs(20),
    }
}

fn answer(fence: &mut Fence, order: Order, answer: Result<Response, Failure>, now: Time) {
    fence.handle_answer(order.device, order.command, order.attempt, answer, now);
}

fn refused() -> Result<Response, Failure> {
    Err(Failure::Refused { code: "0xc0".into() })
}

fn is_proven(outcome: &Option<Outcome>) -> bool {
    matches!(outcome, Some(Outcome::Proven(_)))
}

/// SAFE-4
#[test]
fn off_acknowledged_and_read_back_is_the_proof() {
    let mut fence = Fence::new(victim(), plan(&[&[1]]), Time(0));
    let off = fence.poll_order(Time(0)).unwrap();
    assert_eq!((off.command, off.deadline), (Command::Off, Time(4000)));
    assert_eq!(fence.poll_order(Time(0)), None, "one order at a time");
    answer(&mut fence, off, Ok(Response::Acknowledged), Time(10));
    assert_eq!(fence.poll_outcome(), None, "an acknowledgement says nothing");
    let read = fence.poll_order(Time(10)).unwrap();
    assert_eq!(read.command, Command::Read);
    answer(&mut fence, read, Ok(Response::Reads(Reading::Off)), Time(20));
    let Some(Outcome::Proven(proof)) = fence.poll_outcome() else { panic!() };
    assert_eq!((proof.victim(), proof.kind(), proof.at()), (victim(), ProofKind::PowerOff, Time(20)));
    assert!(proof.kills() && proof.spent_budget());
    assert_eq!(proof.to_string(), "2/0505050505050505 is off: device 1 acknowledged, then read off");
    assert!(fence.is_done() && fence.poll_order(Time(30)).is_none());
}

/// SAFE-8
#[test]
fn a_host_that_was_off_already_is_proven_and_costs_no_budget() {
    let mut fence = Fence::new(victim(), plan(&[&[1]]), Time(0));
    let off = fence.poll_order(Time(0)).unwrap();
    answer(&mut fence, off, Ok(Response::AlreadySo), Time(10));
    let read = fence.poll_order(Time(10)).unwrap();
    answer(&mut fence, read, Ok(Response::Reads(Reading::Off)), Time(20));
    let Some(Outcome::Proven(proof)) = fence.poll_outcome() else { panic!() };
    assert!(!proof.spent_budget());
}

#[test]
fn every_device_of_a_level_must_read_off() {
    let mut fence = Fence::new(victim(), plan(&[&[1, 2]]), Time(0));
    let offs = [fence.poll_order(Time(0)).unwrap(), fence.poll_order(Time(0)).unwrap()];
    assert_eq!(offs.map(|order| order.device), [DeviceId(1), DeviceId(2)], "both at once");
    for (index, off) in offs.into_iter().enumerate() {
        answer(&mut fence, off, Ok(Response::Acknowledged), Time(10));
        let read = fence.poll_order(Time(10)).unwrap();
        assert_eq!(read.device, off.device);
        answer(&mut fence, read, Ok(Response::Reads(Reading::Off)), Time(20));
        assert_eq!(is_proven(&fence.poll_outcome()), index == 1);
    }
}

#[test]
fn the_next_level_works_when_one_cannot() {
    let mut fence = Fence::new(victim(), plan(&[&[1, 2], &[3]]), Time(0));
    let mut now = Time(0);
    let hanging = [fence.poll_order(now).unwrap(), fence.poll_order(now).unwrap()];
    answer(&mut fence, hanging[0], refused(), now);
    now = now.after(TRY_PAUSE);
    let again = fence.poll_order(now).unwrap();
    answer(&mut fence, again, refused(), now);
    let Some(Outcome::LevelFailed { level: 0, setbacks }) = fence.poll_outcome() else { panic!() };
    assert_eq!(setbacks[1], (DeviceId(2), Setback::Stopped), "its sibling is stopped");
    let off = fence.poll_order(now).unwrap();
    assert_eq!((off.device, off.command), (DeviceId(3), Command::Off));
    answer(&mut fence, hanging[1], Ok(Response::Acknowledged), now);
    assert_eq!(fence.poll_order(now), None, "the old level's late answer starts nothing");
    answer(&mut fence, off, Ok(Response::Acknowledged), now);
    let read = fence.poll_order(now).unwrap();
    answer(&mut fence, read, Ok(Response::Reads(Reading::Off)), now);
    assert!(is_proven(&fence.poll_outcome()));
}

/// SAFE-4, DESIGN "Proof": what is proven is what the devices take, and isolation is not death.
#[test]
fn a_fence_proves_what_its_devices_take() {
    for (effect, kind) in
        [(Effect::Storage, ProofKind::StorageRevoked), (Effect::Network, ProofKind::NetworkCut)]
    {
        let mut fence = Fence::new(victim(), Plan { effect, ..plan(&[&[1, 2]]) }, Time(0));
        for device in [1, 2] {
            let off = fence.poll_order(Time(0)).unwrap();
            assert_eq!((off.device, off.command), (DeviceId(device), Command::Off));
            answer(&mut fence, off, Ok(Response::Acknowledged), Time(10));
            let read = fence.poll_order(Time(10)).unwrap();
            assert_eq!(fence.poll_outcome(), None, "one path is still open");
            answer(&mut fence, read, Ok(Response::Reads(Reading::Off)), Time(20));
        }
        let Some(Outcome::Proven(proof)) = fence.poll_outcome() else { panic!() };
        assert_eq!((proof.kind(), proof.kills(), proof.spent_budget()), (kind, false, true));
        assert!(
            proof.to_string().contains("no more: device 1 acknowledged, then read off, device 2"),
            "{proof}"
        );
    }
}

/// A path is opened only once nothing that was sent earlier can still close it, or open it after a later cut.
#[test]
fn a_restore_gives_back_at_every_device_and_tells_when_it_is_settled() {
    let mut fence =
        Fence::restore(victim(), Plan { effect: Effect::Network, ..plan(&[&[1], &[2]]) }, Time(0));
    assert!(!fence.is_done());
    let first = fence.poll_order(Time(0)).unwrap();
    assert_eq!((first.device, first.command), (DeviceId(2), Command::On), "the last level first");
    let second = fence.poll_order(Time(0)).unwrap();
    answer(&mut fence, second, Ok(Response::AlreadySo), Time(5));
    let read = fence.poll_order(Time(5)).unwrap();
    answer(&mut fence, read, Ok(Response::Reads(Reading::On)), Time(6));
    // The other one stays without an answer, is sent again, and reads on.
    fence.handle_time(Time(4000));
    let look = fence.poll_order(Time(4100)).unwrap();
    assert_eq!(look.command, Command::Read, "first an answer to anything");
    answer(&mut fence, look, Ok(Response::Reads(Reading::On)), Time(4101));
    let again = fence.poll_order(Time(4101)).unwrap();
    answer(&mut fence, again, Ok(Response::AlreadySo), Time(4102));
    let read = fence.poll_order(Time(4102)).unwrap();
    answer(&mut fence, read, Ok(Response::Reads(Reading::On)), Time(4103));
    let restored: Vec<_> = std::iter::from_fn(|| fence.poll_outcome()).collect();
    assert_eq!(restored, [2, 1].map(|device| Outcome::Restored { device: DeviceId(device) }));
    assert!(fence.is_done());
    assert_eq!(fence.settled_at(), Time(4000).after(DEADLINE.times(SETTLE_DEADLINES)));
}

#[test]
fn runs_repeat_with_a_rest_that_doubles_up_to_a_minute() {
    let mut fence = Fence::new(victim(), plan(&[&[1]]), Time(0));
    let mut now = Time(0);
    let mut rests = Vec::new();
    while rests.len() < 8 {
        if let Some(order) = fence.poll_order(now) {
            answer(&mut fence, order, refused(), now);
        }
        while let Some(outcome) = fence.poll_outcome() {
            if let Outcome::Exhausted { why, retry_at } = outcome {
                assert_eq!(why, Exhaustion::EveryLevelFailed);
                rests.push(retry_at.unwrap().since(now).0);
            }
        }
        now = fence.wake().unwrap();
    }
    assert_eq!(rests, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
}

#[test]
fn a_run_ends_with_the_order_deadline_whatever_the_device_does() {
    let mut fence =
        Fence::new(victim(), Plan { order_deadline: Duration::secs(5), ..plan(&[&[1]]) }, Time(0));
    let _unanswered = fence.poll_order(Time(0)).unwrap();
    fence.handle_time(Time(4000));
    let second = fence.poll_order(Time(4100)).unwrap();
    assert_eq!(second.deadline, Time(5000), "no order outlives its run");
    assert_eq!(fence.wake(), Some(Time(5000)));
    fence.handle_time(Time(5000));
    assert!(matches!(fence.poll_outcome(), Some(Outcome::LevelFailed { level: 0, .. })));
    let Some(Outcome::Exhausted { retry_at, .. }) = fence.poll_outcome() else { panic!() };
    assert_eq!(retry_at, Some(Time(6000)));
}

#[test]
fn another_hosts_device_is_refused_for_good() {
    let mut fence = Fence::new(victim(), plan(&[&[1]]), Time(0));
    let off = fence.poll_order(Time(0)).unwrap();
    let failure = Failure::WrongIdentity { expected: Identity("a1".into()), found: Identity("b2".into()) };
    answer(&mut fence, off, Err(failure.clone()), Time(10));
    assert_eq!(fence.poll_outcome(), Some(Outcome::WrongIdentity { device: DeviceId(1), failure }));
    assert!(matches!(fence.poll_outcome(), Some(Outcome::LevelFailed { .. })));
    let nothing = Outcome::Exhausted { why: Exhaustion::NothingToTry, retry_at: None };
    assert_eq!(fence.poll_outcome(), Some(nothing));
    assert_eq!((fence.wake(), fence.poll_order(Time(1_000_000))), (None, None));
}

#[test]
fn a_host_without_a_device_is_never_proven_and_says_so_at_once() {
    let mut fence = Fence::new(victim(), plan(&[]), Time(0));
    let nothing = Outcome::Exhausted { why: Exhaustion::NothingToTry, retry_at: None };
    assert_eq!(fence.poll_outcome(), Some(nothing));
}

/// SAFE-2: an order that lost its standing between decision and sending is not lost and not counted.
#[test]
fn a_withdrawn_order_comes_again() {
    let mut fence = Fence::new(victim(), plan(&[&[1]]), Time(0));
    for _ in 0..10 {
        let now = fence.wake().unwrap();
        assert_eq!(fence.poll_order(now).unwrap().command, Command::Off);
        fence.withdraw(DeviceId(1), now);
        assert_eq!(fence.poll_order(now), None, "after a pause");
        assert!(!fence.has_cut());
    }
}

#[test]
fn power_comes_back_only_once_no_unanswered_off_can_execute() {
    let mut fence = Fence::new(victim(), plan(&[&[1]]), Time(0));
    assert!(!fence.give_back(Time(0)), "not before a proof");
    let _lost = fence.poll_order(Time(0)).unwrap();
    fence.handle_time(Time(4000));
    let look = fence.poll_order(Time(4100)).unwrap();
    answer(&mut fence, look, Ok(Response::Reads(Reading::On)), Time(4105));
    let off = fence.poll_order(Time(4105)).unwrap();
    answer(&mut fence, off, Ok(Response::AlreadySo), Time(4110));
    let read = fence.poll_order(Time(4110)).unwrap();
    answer(&mut fence, read, Ok(Response::Reads(Reading::Off)), Time(4120));
    let Some(Outcome::Proven(proof)) = fence.poll_outcome() else { panic!() };
    assert!(proof.spent_budget(), "the lost off may have cut it");
    assert!(fence.give_back(Time(4120)));
    let settled = Time(4000).after(DEADLINE.times(SETTLE_DEADLINES));
    assert_eq!((fence.poll_order(Time(4120)), fence.wake()), (None, Some(settled)));
    let on = fence.poll_order(settled).unwrap();
    assert_eq!(on.command, Command::On);
    answer(&mut fence, on, Ok(Response::Acknowledged), settled);
    let read = fence.poll_order(settled).unwrap();
    answer(&mut fence, read, Ok(Response::Reads(Reading::On)), settled);
    assert_eq!(fence.poll_outcome(), Some(Outcome::Restored { device: DeviceId(1) }));
    assert!(fence.is_done() && fence.poll_order(settled).is_none());
}

/// A slow device that queues what it is sent must not be given a second off before it has answered something.
#[test]
fn an_unanswered_off_is_followed_by_looks_until_the_device_answers() {
    let mut fence = Fence::new(victim(), plan(&[&[1]]), Time(0));
    let mut now = Time(0);
    let mut offs = 0;
    for _ in 0..40 {
        if let Some(order) = fence.poll_order(now) {
            offs += usize::from(order.command == Command::Off);
        }
        now = fence.wake().unwrap();
    }
    assert_eq!(offs, 1, "nothing was ever answered");
    let look = loop {
        if let Some(order) = fence.poll_order(now) {
            break order;
        }
        now = fence.wake().unwrap();
    };
    assert_eq!(look.command, Command::Read);
    answer(&mut fence, look, Ok(Response::Reads(Reading::On)), now);
    assert_eq!(fence.poll_order(now).unwrap().command, Command::Off);
}

#[test]
fn a_plan_that_leaves_the_power_off_never_gives_it_back() {
    let mut fence = Fence::new(victim(), Plan { after_off: After::Off, ..plan(&[&[1]]) }, Time(0));
    for reply in [Response::Acknowledged, Response::Reads(Reading::Off)] {
        let order = fence.poll_order(Time(0)).unwrap();
        answer(&mut fence, order, Ok(reply), Time(0));
    }
    assert!(is_proven(&fence.poll_outcome()));
    assert!(!fence.give_back(Time(1)));
}

#[test]
fn an_abandoned_fence_names_the_orders_to_cancel() {
    let mut fence = Fence::new(victim(), plan(&[&[1, 2]]), Time(0));
    let order = fence.poll_order(Time(0)).unwrap();
    let settled_at = Time(7).after(DEADLINE.times(SETTLE_DEADLINES));
    let left = Abandoned { victim: victim(), in_flight: vec![order.device], settled_at };
    assert_eq!(fence.abandon(Time(7)), left);
}

/// SAFE-8: found by the simulation (seed 1549): standing was lost between an off and its answer, the next fence found the host
/// off already, and nobody had counted the cut.
#[test]
fn an_off_in_flight_may_have_cut() {
    let mut fence = Fence::new(victim(), Plan { opening: Opening::LookFirst, ..plan(&[&[1]]) }, Time(0));
    let look = fence.poll_order(Time(0)).unwrap();
    answer(&mut fence, look, Ok(Response::Reads(Reading::On)), Time(10));
    assert!(!fence.has_cut());
    let off = fence.poll_order(Time(10)).unwrap();
    assert!(off.command == Command::Off && fence.has_cut());
    fence.withdraw(off.device, Time(11));
    assert!(!fence.has_cut(), "it was not sent");
}

/// One thing that the outside may do to a fence.
#[derive(Clone, Copy, Debug)]
enum Act {
    Wait(u64),
    Poll,
    /// Answers the n-th last order ever polled, whatever became of it.
    Answer(usize, u8),
    Withdraw,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0u64..6000).prop_map(Act::Wait),
        Just(Act::Poll),
        Just(Act::Poll),
        (0usize..6, 0u8..8).prop_map(|(order, answer)| Act::Answer(order, answer)),
        (0usize..2, 0u8..4).prop_map(|(order, answer)| Act::Answer(order, answer)),
        Just(Act::Withdraw),
    ]
}

fn any_answer(n: u8) -> Result<Response, Failure> {
    match n {
        0 => Ok(Response::Acknowledged),
        1 => Ok(Response::AlreadySo),
        2 => Ok(Response::Reads(Reading::Off)),
        3 => Ok(Response::Reads(Reading::On)),
        4 => Ok(Response::Reads(Reading::Unknown)),
        5 => Err(Failure::NoAnswer { waited_ms: 1 }),
        6 => refused(),
        _ => Err(Failure::Garbage { detail: "noise".into() }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// SAFE-4: whatever answers come, in whatever order and however late: a proof means that each device of one level
    /// answered an off, and afterwards a reading that was sent after that answer said off, both of one attempt.
    #[test]
    fn no_proof_without_a_reading_after_the_off(
        acts in prop::collection::vec(act(), 1..120),
        opening in prop_oneof![Just(Opening::CutAtOnce), Just(Opening::LookFirst), Just(Opening::OnlyIfOff)],
        levels in prop_oneof![Just(vec![vec![1u16]]), Just(vec![vec![1, 2]]), Just(vec![vec![1], vec![2, 3]])],
    ) {
        let refs: Vec<&[u16]> = levels.iter().map(Vec::as_slice).collect();
        let mut fence = Fence::new(victim(), Plan { opening, ..plan(&refs) }, Time(0));
        let mut now = Time(0);
        let mut orders: Vec<Order> = Vec::new();
        let mut log: Vec<(Order, &str)> = Vec::new(); // "sent", then what was answered
        for act in acts {
            match act {
                Act::Wait(ms) => now = now.after(Duration::ms(ms)),
                Act::Poll => if let Some(order) = fence.poll_order(now) {
                    prop_assert!(order.command != Command::Prove);
                    prop_assert!(order.command != Command::On, "never a cycle");
                    prop_assert!(order.deadline > now);
                    orders.push(order);
                    log.push((order, "sent"));
                },
                Act::Withdraw => if let Some(order) = orders.last() {
                    fence.withdraw(order.device, now);
                },
                Act::Answer(back, n) => if let Some(order) = orders.iter().rev().nth(back).copied() {
                    let fits = if order.command == Command::Off { n <= 1 } else { n == 2 };
                    log.push((order, if fits { "good" } else { "bad" }));
                    answer(&mut fence, order, any_answer(n), now);
                },
            }
            while let Some(outcome) = fence.poll_outcome() {
                let Outcome::Proven(proof) = outcome else { continue };
                let Evidence::PowerOff { readings, .. } = proof.evidence() else { panic!() };
                let proving: Vec<u16> = readings.iter().map(|reading| reading.device.0).collect();
                prop_assert!(levels.contains(&proving), "a whole level");
                for reading in readings {
                    let of = |want: Command, what: &str| {
                        log.iter().enumerate().filter(move |(_, (order, said))| {
                            order.device == reading.device && order.attempt == reading.attempt
                                && order.command == want && *said == what
                        }).map(|(at, _)| at).collect::<Vec<_>>()
                    };
                    let answered = of(Command::Off, "good");
                    prop_assert!(!answered.is_empty());
                    let sent = of(Command::Read, "sent");
                    let read = of(Command::Read, "good");
                    prop_assert!(sent.iter().any(|sent| sent > &answered[0]) , "read sent after the answer to the off");
                    prop_assert!(read.iter().any(|read| read > &answered[0]));
                }
            }
        }
    }

    /// A fence whose devices answer nothing, or nonsense, wakes for ever and never spins.
    #[test]
    fn a_fence_that_is_kept_goes_on_for_ever_and_never_spins(seed in 0u8..8) {
        let mut fence = Fence::new(victim(), plan(&[&[1], &[2, 3]]), Time(0));
        let (mut now, mut orders) = (Time(0), 0);
        while now < Time(600_000) {
            while let Some(order) = fence.poll_order(now) {
                orders += 1;
                if seed != 0 && order.command == Command::Off {
                    answer(&mut fence, order, any_answer(seed), now);
                }
            }
            while let Some(outcome) = fence.poll_outcome() {
                prop_assert!(!matches!(outcome, Outcome::Proven(_)));
            }
            let wake = fence.wake().unwrap();
            prop_assert!(wake > now);
            now = wake;
        }
        prop_assert!(orders > 20 && orders < 2000, "{orders}");
    }
}
