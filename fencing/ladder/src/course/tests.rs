//! Every step against every answer.

use super::*;
use crate::{Identity, Proven};

const DEADLINE: Duration = Duration::ms(4000);
const NOW: Time = Time(1000);

fn device() -> PlannedDevice {
    PlannedDevice { id: DeviceId(7), deadline: DEADLINE, retries: 2 }
}

fn course(goal: Goal) -> Course {
    Course::new(device(), goal, 0, NOW, Time(100_000))
}

/// A course with the order of the named step in flight.
fn at(step: &str) -> Course {
    let mut course = match step {
        "look first" => course(Goal::Off(Opening::LookFirst)),
        "only if off" => course(Goal::Off(Opening::OnlyIfOff)),
        "off" | "read back" => course(Goal::Off(Opening::CutAtOnce)),
        "power on" | "read on" => course(Goal::On),
        other => panic!("{other}"),
    };
    let first = course.poll_order(NOW).unwrap();
    if matches!(step, "read back" | "read on") {
        assert_eq!(course.handle_answer(first.command, first.attempt, Ok(Response::Acknowledged), NOW), None);
        assert_eq!(course.poll_order(NOW).unwrap().command, Command::Read, "read back at once");
    }
    course
}

fn answers() -> Vec<(&'static str, Result<Response, Failure>)> {
    let identity = |name: &str| Identity(name.into());
    let proven = Proven { identity: identity("a1"), may_fence: true, reads: Reading::Off };
    vec![
        ("ack", Ok(Response::Acknowledged)),
        ("already", Ok(Response::AlreadySo)),
        ("on", Ok(Response::Reads(Reading::On))),
        ("off", Ok(Response::Reads(Reading::Off))),
        ("unknown", Ok(Response::Reads(Reading::Unknown))),
        ("proven", Ok(Response::Proven(proven))),
        ("no answer", Err(Failure::NoAnswer { waited_ms: 4000 })),
        ("unreachable", Err(Failure::Unreachable { error: "no route".into() })),
        ("login", Err(Failure::LoginRefused { at: "RAKP 4".into() })),
        ("privilege", Err(Failure::PrivilegeTooLow { detail: "user".into() })),
        ("identity", Err(Failure::WrongIdentity { expected: identity("a1"), found: identity("b2") })),
        ("cipher", Err(Failure::NoCommonCipher { detail: "0".into() })),
        ("refused", Err(Failure::Refused { code: "0xc1".into() })),
        ("garbage", Err(Failure::Garbage { detail: "short".into() })),
        ("cancelled", Err(Failure::Cancelled)),
    ]
}

/// What the course does next, in a word.
fn word(course: &Course) -> &'static str {
    match course.state() {
        State::Reached(_) => "REACHED",
        State::Failed(_) => "failed",
        State::Refused(_) => "refused",
        State::Going { step, flight: Flight::Due(due) } => match (step, *due == NOW) {
            (Step::Look, true) => "look now",
            (Step::Look, false) => "look later",
            (Step::Switch, true) => "switch now",
            (Step::Switch, false) => "switch later",
            (Step::ReadBack { .. }, true) => "read now",
            (Step::ReadBack { .. }, false) => "read later",
        },
        State::Going { flight: Flight::Sent { .. }, .. } => "in flight",
    }
}

/// SAFE-4: of all steps and answers, only a reading back that says the wanted state reaches the goal.
#[test]
fn every_step_against_every_answer() {
    let off = |answer: &str| match answer {
        "ack" | "already" => "read now",
        "identity" => "refused",
        // It may hold the order in a queue of its own: it is asked before anything more is put there.
        "no answer" | "unreachable" | "garbage" | "cancelled" => "look later",
        _ => "switch later",
    };
    let expected = |step: &str, answer: &str| match step {
        "look first" => match answer {
            "identity" => "refused",
            _ => "switch now",
        },
        "only if off" => match answer {
            "identity" => "refused",
            "off" => "switch now",
            _ => "look later",
        },
        "off" | "power on" => off(answer),
        "read back" => match answer {
            "off" => "REACHED",
            "identity" => "refused",
            _ => "read later",
        },
        "read on" => match answer {
            "on" => "REACHED",
            "identity" => "refused",
            _ => "read later",
        },
        other => panic!("{other}"),
    };
    for step in ["look first", "only if off", "off", "read back", "power on", "read on"] {
        for (name, answer) in answers() {
            let mut course = at(step);
            course.take(answer, NOW);
            assert_eq!(word(&course), expected(step, name), "{step} x {name}");
        }
    }
}

/// SAFE-4: an answer counts for the order in flight and for no other.
#[test]
fn an_answer_to_another_attempt_changes_nothing() {
    for step in ["look first", "only if off", "off", "read back"] {
        let mut course = at(step);
        let (attempt, before) = (course.attempt(), course.state().clone());
        for command in [Command::Off, Command::On, Command::Read, Command::Prove] {
            for (_, answer) in answers() {
                assert_eq!(course.handle_answer(command, attempt + 1, answer.clone(), NOW), None);
                assert_eq!(course.handle_answer(command, attempt.wrapping_sub(1), answer.clone(), NOW), None);
                if !course.awaits(command, attempt) {
                    assert_eq!(course.handle_answer(command, attempt, answer, NOW), None);
                }
            }
        }
        assert_eq!(course.state(), &before, "{step}");
    }
}

/// SAFE-4: a look that was given up and answers late must not pass for the reading back.
#[test]
fn a_late_look_is_not_a_reading_back() {
    let mut course = course(Goal::Off(Opening::LookFirst));
    let look = course.poll_order(NOW).unwrap();
    assert_eq!(look.deadline, NOW.after(FIRST_READING), "the look does not hold the off up");
    assert_eq!(course.handle_time(look.deadline), None);
    let off = course.poll_order(look.deadline).unwrap();
    assert_eq!(off.command, Command::Off);
    course.handle_answer(Command::Off, off.attempt, Ok(Response::Acknowledged), Time(1600));
    assert_eq!(course.poll_order(Time(1600)).unwrap().command, Command::Read);
    course.handle_answer(Command::Read, look.attempt, Ok(Response::Reads(Reading::Off)), Time(1601));
    assert_eq!(word(&course), "in flight");
}

#[test]
fn readings_back_off_from_5_ms_to_1_s_and_end_with_the_device_deadline() {
    let mut course = at("read back");
    let (mut now, mut gaps) = (NOW, Vec::new());
    while matches!(course.state(), State::Going { step: Step::ReadBack { .. }, .. }) {
        course.handle_answer(Command::Read, course.attempt(), Ok(Response::Reads(Reading::On)), now);
        let wake = course.wake().unwrap();
        gaps.push(wake.since(now).0);
        now = wake;
        course.poll_order(now);
    }
    assert_eq!(gaps, [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000, 100], "then the next try, after a pause");
    assert!(now <= NOW.after(DEADLINE).after(TRY_PAUSE));
}

#[test]
fn a_device_is_tried_as_often_as_planned_and_no_more() {
    let mut course = course(Goal::Off(Opening::CutAtOnce));
    let mut now = NOW;
    for attempt in 1..=2 {
        let order = course.poll_order(now).unwrap();
        assert_eq!((order.command, order.attempt), (Command::Off, attempt));
        course.handle_answer(order.command, attempt, Err(Failure::Refused { code: "0xc0".into() }), now);
        now = now.after(TRY_PAUSE);
    }
    assert_eq!(course.state(), &State::Failed(Setback::Failed(Failure::Refused { code: "0xc0".into() })));
    assert_eq!(course.poll_order(now), None);
}

#[test]
fn an_acknowledgement_without_any_reading_is_assumed_and_said_so() {
    let mut course = at("read back");
    let (mut now, mut assumed) = (NOW, Vec::new());
    while !matches!(course.state(), State::Failed(_)) {
        let order = course.poll_order(now);
        assumed.extend(course.handle_time(now));
        if let Some(order) = order
            && order.command == Command::Off
        {
            assumed.extend(course.handle_answer(
                order.command,
                order.attempt,
                Ok(Response::Acknowledged),
                now,
            ));
        }
        now = course.wake().unwrap_or(now);
    }
    assert_eq!(assumed, [Note::Assumed { attempt: 1 }, Note::Assumed { attempt: 2 }]);
    assert_eq!(course.state(), &State::Failed(Setback::Unread));
}

/// SAFE-8
#[test]
fn power_counts_as_cut_unless_it_was_off_before() {
    let run = |opening, look: Option<Reading>, off: Result<Response, Failure>| {
        let mut course = course(Goal::Off(opening));
        if let Some(power) = look {
            let order = course.poll_order(NOW).unwrap();
            course.handle_answer(order.command, order.attempt, Ok(Response::Reads(power)), NOW);
        }
        let order = course.poll_order(NOW).unwrap();
        assert_eq!(order.command, Command::Off);
        course.handle_answer(order.command, order.attempt, off, NOW);
        course.switched()
    };
    let late = || Err(Failure::NoAnswer { waited_ms: 4000 });
    assert!(run(Opening::CutAtOnce, None, Ok(Response::Acknowledged)));
    assert!(!run(Opening::CutAtOnce, None, Ok(Response::AlreadySo)));
    assert!(run(Opening::CutAtOnce, None, late()), "it may have acted");
    assert!(!run(Opening::CutAtOnce, None, Err(Failure::LoginRefused { at: "RAKP 2".into() })));
    assert!(run(Opening::LookFirst, Some(Reading::On), Ok(Response::Acknowledged)));
    assert!(run(Opening::LookFirst, Some(Reading::Unknown), Ok(Response::Acknowledged)));
    assert!(!run(Opening::LookFirst, Some(Reading::Off), Ok(Response::Acknowledged)));
    assert!(!run(Opening::OnlyIfOff, Some(Reading::Off), Ok(Response::Acknowledged)));
}

/// SAFE-8
#[test]
fn with_the_budget_spent_a_host_that_reads_on_is_looked_at_and_never_cut() {
    let mut course = course(Goal::Off(Opening::OnlyIfOff));
    let (mut now, mut notes) = (NOW, Vec::new());
    for reads in [Reading::On, Reading::On, Reading::Unknown, Reading::On] {
        let order = course.poll_order(now).unwrap();
        assert_eq!(order.command, Command::Read);
        notes.extend(course.handle_answer(order.command, order.attempt, Ok(Response::Reads(reads)), now));
        now = course.wake().unwrap();
    }
    let told = [Reading::On, Reading::Unknown, Reading::On].map(|reads| Note::Withheld { reads });
    assert_eq!(notes, told, "told when it changes");
}
