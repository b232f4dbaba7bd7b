//! Power orders on real BMCs, well-behaved and not: what the driver says, what the host has, and how often it was told.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy knows a test only inside #[test]"
)]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::proxy::{Proxy, Way};
use common::{Bmc, GUID, PASSWORD, USER, config};
use nix::sys::signal::Signal;
use palisade_devices::ipmi::{Ipmi, Privilege, Suite};
use palisade_devices::{Device, Standing, Warrant};
use palisade_ladder::{Command, Failure, Reading, Response};
use tokio::time::Instant;

const DEADLINE: Duration = Duration::from_secs(4);

async fn run(device: &mut Ipmi, command: Command) -> Result<Response, Failure> {
    run_within(device, command, DEADLINE).await
}

async fn run_within(device: &mut Ipmi, command: Command, wait: Duration) -> Result<Response, Failure> {
    let started = Instant::now();
    let outcome = device.run(command, (started + wait).into()).await;
    assert!(started.elapsed() < wait + Duration::from_millis(100), "{command:?} overran its deadline");
    outcome
}

fn all() -> Vec<(Bmc, Suite)> {
    vec![(Bmc::sim(), Suite::Three), (Bmc::pyghmi(), Suite::Three), (Bmc::pyghmi(), Suite::Seventeen)]
}

#[tokio::test]
async fn off_is_ordered_once_and_read_back() {
    for (bmc, suite) in all() {
        let mut device = bmc.device(suite);
        for round in 1..=3 {
            assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
            assert_eq!(run(&mut device, Command::Read).await, Ok(Response::Reads(Reading::Off)));
            assert!(!bmc.power_is_on());
            assert_eq!(bmc.calls("set power 0"), round, "{:?}", bmc.kind);
            assert_eq!(run(&mut device, Command::On).await, Ok(Response::Acknowledged));
            assert_eq!(run(&mut device, Command::Read).await, Ok(Response::Reads(Reading::On)));
            assert!(bmc.power_is_on());
        }
    }
}

#[tokio::test]
async fn a_refusal_counts_as_already_so_only_if_the_bmc_reads_so() {
    let bmc = Bmc::pyghmi();
    let mut device = bmc.device(Suite::Seventeen);
    bmc.knob("strict", "");
    assert_eq!(run(&mut device, Command::On).await, Ok(Response::AlreadySo));
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::AlreadySo));
    assert_eq!(run(&mut device, Command::On).await, Ok(Response::Acknowledged));
    // The same code from a BMC whose host is on.
    for code in ["d5", "ff", "80"] {
        bmc.knob("refuse", code);
        let failure = run(&mut device, Command::Off).await.unwrap_err();
        assert!(matches!(&failure, Failure::Refused { code: said } if said.contains(code)), "{failure:?}");
    }
    assert!(bmc.power_is_on());
    // Codes that speak of something else are never taken so, not even with the host off.
    bmc.unset("refuse");
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    bmc.knob("refuse", "cc");
    assert!(matches!(run(&mut device, Command::Off).await, Err(Failure::Refused { .. })));
    bmc.knob("refuse", "d4");
    assert!(matches!(run(&mut device, Command::Off).await, Err(Failure::PrivilegeTooLow { .. })));
}

#[tokio::test]
async fn a_busy_bmc_is_asked_again_and_then_named() {
    let bmc = Bmc::pyghmi();
    let mut device = bmc.device(Suite::Three);
    bmc.knob("refuse", "c0");
    let failure = run(&mut device, Command::Off).await.unwrap_err();
    assert!(matches!(&failure, Failure::Refused { code } if code.contains("NodeBusy")), "{failure:?}");
    assert_eq!(bmc.calls("set power 0"), 4, "once, and three times more");
}

#[tokio::test]
async fn a_failing_chassis_is_a_refusal() {
    let bmc = Bmc::sim();
    let mut device = bmc.device(Suite::Three);
    bmc.knob("fail", "");
    let failure = run(&mut device, Command::Off).await.unwrap_err();
    assert!(matches!(failure, Failure::Refused { .. }), "{failure:?}");
    assert!(bmc.power_is_on());
}

#[tokio::test]
async fn safe_4_a_lying_bmc_is_reported_as_it_reads() {
    for (bmc, suite) in all() {
        let mut device = bmc.device(suite);
        bmc.knob("lie", "");
        assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
        assert_eq!(run(&mut device, Command::Read).await, Ok(Response::Reads(Reading::On)));
        assert!(bmc.power_is_on());
    }
}

#[tokio::test]
async fn a_slow_bmc_is_ordered_once_and_a_later_on_stays() {
    let bmc = Bmc::sim();
    let mut device = bmc.device(Suite::Three);
    assert!(run(&mut device, Command::Prove).await.is_ok());
    bmc.knob("delay_set", "6");
    let failure = run(&mut device, Command::Off).await.unwrap_err();
    assert!(matches!(failure, Failure::NoAnswer { .. }), "{failure:?}");
    bmc.knob("delay_set", "0");
    // The off is still under way in the BMC. The on waits until nothing of it is left, and then stands.
    let long = Duration::from_secs(15);
    assert_eq!(run_within(&mut device, Command::On, long).await, Ok(Response::Acknowledged));
    assert_eq!(run(&mut device, Command::Read).await, Ok(Response::Reads(Reading::On)));
    assert_eq!(bmc.calls("set power 0"), 1, "executed once");
    assert!(bmc.power_is_on());
}

#[tokio::test]
async fn a_slow_off_is_acknowledged_within_a_longer_deadline() {
    let bmc = Bmc::sim();
    let mut device = bmc.device(Suite::Three);
    bmc.knob("delay_set", "2");
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!(run(&mut device, Command::Read).await, Ok(Response::Reads(Reading::Off)));
    assert_eq!(bmc.calls("set power 0"), 1);
}

#[tokio::test]
async fn a_restarted_bmc_is_logged_in_to_again_within_the_command() {
    for (mut bmc, suite) in all() {
        let mut device = bmc.device(suite);
        assert!(run(&mut device, Command::Prove).await.is_ok());
        bmc.restart();
        assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
        bmc.restart();
        assert_eq!(run(&mut device, Command::Read).await, Ok(Response::Reads(Reading::Off)));
        assert_eq!(bmc.calls("set power 0"), 1, "{:?}", bmc.kind);
    }
}

#[tokio::test]
async fn a_bmc_that_restarts_during_an_order_still_takes_it() {
    let mut bmc = Bmc::sim();
    let mut device = bmc.device(Suite::Three);
    assert!(run(&mut device, Command::Prove).await.is_ok());
    bmc.signal(Signal::SIGSTOP);
    let order = tokio::spawn(async move { (run(&mut device, Command::Off).await, device) });
    bmc = tokio::task::spawn_blocking(move || {
        bmc.restart();
        bmc
    })
    .await
    .unwrap();
    let (outcome, mut device) = order.await.unwrap();
    match outcome {
        Ok(Response::Acknowledged) => {}
        // It was down for the moment that was tried in; the next try of the ladder takes it.
        Err(Failure::Unreachable { .. }) => {
            assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
        }
        other => panic!("{other:?}"),
    }
    assert!(!bmc.power_is_on());
}

#[tokio::test]
async fn a_cancelled_command_leaves_a_working_device() {
    let bmc = Bmc::sim();
    let mut device = bmc.device(Suite::Three);
    assert!(run(&mut device, Command::Prove).await.is_ok());
    bmc.knob("delay", "0.02");
    for _ in 0..50 {
        // Dropped at whatever await it has come to.
        let soon = Instant::now() + DEADLINE;
        let _ = tokio::time::timeout(Duration::from_millis(7), device.run(Command::Prove, soon.into())).await;
    }
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!(run(&mut device, Command::Read).await, Ok(Response::Reads(Reading::Off)));
}

/// The first copy of an off is held back on the way, a second one gets through. When the first arrives at last, after an
/// on, it must change nothing.
#[tokio::test]
async fn a_late_copy_of_an_off_cannot_undo_a_later_on() {
    let bmc = Bmc::sim();
    let hold = Arc::new(Mutex::new(false));
    let held = Arc::new(Mutex::new(Vec::new()));
    let (hold_here, held_here) = (Arc::clone(&hold), Arc::clone(&held));
    let release = Arc::new(Mutex::new(false));
    let release_here = Arc::clone(&release);
    let rule = move |way: Way, datagram: &[u8]| {
        if way == Way::ToBmc && std::mem::take(&mut *hold_here.lock().unwrap()) {
            held_here.lock().unwrap().push(datagram.to_vec());
            return Vec::new();
        }
        let mut out = vec![datagram.to_vec()];
        if way == Way::ToBmc && std::mem::take(&mut *release_here.lock().unwrap()) {
            out.splice(0..0, held_here.lock().unwrap().drain(..));
        }
        out
    };
    let proxy = Proxy::start(bmc.address, Box::new(rule)).await;
    let mut device =
        Ipmi::new(config(proxy.address, Suite::Three, (USER, PASSWORD), None, Privilege::Operator, GUID));
    assert!(run(&mut device, Command::Prove).await.is_ok());

    *hold.lock().unwrap() = true;
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!(held.lock().unwrap().len(), 1, "the first copy is held");
    assert_eq!(bmc.calls("set power 0"), 1, "the second went through");
    assert_eq!(run(&mut device, Command::On).await, Ok(Response::Acknowledged));

    *release.lock().unwrap() = true;
    for _ in 0..3 {
        assert_eq!(run(&mut device, Command::Read).await, Ok(Response::Reads(Reading::On)));
    }
    assert!(held.lock().unwrap().is_empty(), "the first copy has arrived");
    assert_eq!(bmc.calls("set power 0"), 1);
    assert!(bmc.power_is_on());
}

/// What happens to standing while the first copy of an off is on its way. That copy is lost.
async fn first_copy_lost(and_then: fn(&Standing)) -> (Bmc, Result<Response, Failure>, Ipmi, Proxy) {
    let bmc = Bmc::sim();
    let lose = Arc::new(Mutex::new(false));
    let lose_here = Arc::clone(&lose);
    let standing = Standing::new(2, || 1);
    let moved = standing.clone();
    let rule = move |way: Way, datagram: &[u8]| {
        if way == Way::ToBmc && std::mem::take(&mut *lose_here.lock().unwrap()) {
            and_then(&moved);
            return Vec::new();
        }
        vec![datagram.to_vec()]
    };
    let proxy = Proxy::start(bmc.address, Box::new(rule)).await;
    let mut device =
        Ipmi::new(config(proxy.address, Suite::Three, (USER, PASSWORD), None, Privilege::Operator, GUID));
    assert!(run(&mut device, Command::Prove).await.is_ok());
    *lose.lock().unwrap() = true;
    let warrant = Warrant { deadline: Instant::now() + DEADLINE, standing: Some(standing), whom: None };
    let outcome = device.run(Command::Off, warrant).await;
    (bmc, outcome, device, proxy)
}

/// The question that follows an unanswered off is answered after standing was lost: the off is not sent again.
#[tokio::test]
async fn safe_2_no_second_copy_of_an_off_once_standing_is_lost() {
    let (bmc, outcome, mut device, _proxy) = first_copy_lost(Standing::end).await;
    assert_eq!(outcome, Err(Failure::Cancelled));
    assert_eq!(run(&mut device, Command::Read).await, Ok(Response::Reads(Reading::On)), "reading is free");
    assert_eq!(bmc.calls("set power 0"), 0);
    assert!(bmc.power_is_on());
    // A new order, given by one who has standing, is not held up.
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
}

#[tokio::test]
async fn an_off_whose_giver_keeps_standing_is_sent_again() {
    let (bmc, outcome, _device, _proxy) = first_copy_lost(|standing| standing.set(3)).await;
    assert_eq!(outcome, Ok(Response::Acknowledged));
    assert_eq!(bmc.calls("set power 0"), 1);
}

/// Standing is lost while the login that the order needs is under way: not even the first copy leaves.
#[tokio::test]
async fn safe_2_no_off_leaves_after_a_login_that_outlasted_standing() {
    let bmc = Bmc::sim();
    let standing = Standing::new(2, || 1);
    let moved = standing.clone();
    let rule = move |way: Way, datagram: &[u8]| {
        if way == Way::FromBmc {
            moved.end();
        }
        vec![datagram.to_vec()]
    };
    let proxy = Proxy::start(bmc.address, Box::new(rule)).await;
    let mut device =
        Ipmi::new(config(proxy.address, Suite::Three, (USER, PASSWORD), None, Privilege::Operator, GUID));
    let warrant = Warrant { deadline: Instant::now() + DEADLINE, standing: Some(standing), whom: None };
    assert_eq!(device.run(Command::Off, warrant).await, Err(Failure::Cancelled));
    assert_eq!(run(&mut device, Command::Read).await, Ok(Response::Reads(Reading::On)));
    assert_eq!(bmc.calls("set power 0"), 0);
}
