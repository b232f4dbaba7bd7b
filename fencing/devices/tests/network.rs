//! A bad network, or a bad neighbour, between the driver and a real BMC.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy knows a test only inside #[test]"
)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::proxy::{Dice, Proxy, Rule, Way};
use common::{Bmc, GUID, PASSWORD, USER, config};
use palisade_devices::Device;
use palisade_devices::ipmi::{Ipmi, Privilege, Suite};
use palisade_ladder::{Command, Failure, Reading, Response};
use tokio::time::Instant;

const DEADLINE: Duration = Duration::from_secs(4);
const ROUNDS: usize = 40;

async fn run(device: &mut Ipmi, command: Command) -> Result<Response, Failure> {
    let started = Instant::now();
    let outcome = device.run(command, (started + DEADLINE).into()).await;
    assert!(started.elapsed() < DEADLINE + Duration::from_millis(100), "{command:?} overran its deadline");
    outcome
}

async fn through(bmc: &Bmc, suite: Suite, rule: Box<Rule>) -> (Proxy, Ipmi) {
    let proxy = Proxy::start(bmc.address, rule).await;
    let config = config(proxy.address, suite, (USER, PASSWORD), None, Privilege::Operator, GUID);
    (proxy, Ipmi::new(config))
}

fn all() -> Vec<(Bmc, Suite)> {
    vec![(Bmc::sim(), Suite::Three), (Bmc::pyghmi(), Suite::Seventeen)]
}

/// Off, read, on, read; the host must have what was read.
async fn rounds(bmc: &Bmc, device: &mut Ipmi, count: usize) {
    for round in 0..count {
        for (order, power) in [(Command::Off, Reading::Off), (Command::On, Reading::On)] {
            let outcome = run(device, order).await;
            assert!(
                matches!(outcome, Ok(Response::Acknowledged | Response::AlreadySo)),
                "{:?} round {round} {order:?}: {outcome:?}",
                bmc.kind
            );
            let outcome = run(device, Command::Read).await;
            assert_eq!(outcome, Ok(Response::Reads(power)), "{:?} round {round} after {order:?}", bmc.kind);
            assert_eq!(bmc.power_is_on(), power == Reading::On, "{:?} round {round}", bmc.kind);
        }
    }
}

#[tokio::test]
async fn five_percent_loss_and_five_percent_duplication_are_survived() {
    for (seed, (bmc, suite)) in (1..).zip(all()) {
        let dice = Dice::new(seed);
        let rule = move |_: Way, datagram: &[u8]| match dice.percent() {
            0..5 => Vec::new(),
            5..10 => vec![datagram.to_vec(), datagram.to_vec()],
            _ => vec![datagram.to_vec()],
        };
        let (_proxy, mut device) = through(&bmc, suite, Box::new(rule)).await;
        rounds(&bmc, &mut device, ROUNDS).await;
        // And from cold, where the login meets the loss.
        for _ in 0..ROUNDS {
            device.close(Instant::now()).await;
            assert!(run(&mut device, Command::Prove).await.is_ok());
        }
    }
}

#[tokio::test]
async fn safe_7_stale_answers_are_never_taken_for_fresh_ones() {
    for (bmc, suite) in all() {
        let mut old: Vec<Vec<u8>> = Vec::new();
        // Before each answer, every earlier one comes again.
        let rule = move |way: Way, datagram: &[u8]| match way {
            Way::ToBmc => vec![datagram.to_vec()],
            Way::FromBmc => {
                old.push(datagram.to_vec());
                old.clone()
            }
        };
        let (_proxy, mut device) = through(&bmc, suite, Box::new(rule)).await;
        rounds(&bmc, &mut device, 20).await;
    }
}

#[tokio::test]
async fn safe_7_forged_answers_change_nothing() {
    for (bmc, suite) in all() {
        // An unauthenticated "off" for every request number precedes each answer, under the right session id.
        let rule = move |way: Way, datagram: &[u8]| {
            let mut out = Vec::new();
            if way == Way::FromBmc && datagram.len() > 16 {
                for request in 0..64u8 {
                    let mut message =
                        vec![0x81, 0x04, 0x7b, 0x20, request << 2, 0x01, 0x00, 0x00, 0x00, 0x00];
                    let sum = message[3..].iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
                    message.push(sum.wrapping_neg());
                    let mut forged = datagram[..16].to_vec();
                    forged[5] = 0x00;
                    forged[14] = 11;
                    forged[15] = 0;
                    forged.extend(&message);
                    out.push(forged.clone());
                    // And one that claims to be sealed.
                    forged[5] = 0xc0;
                    forged.extend([0xff, 0xff, 0x02, 0x07]);
                    forged.extend([0; 16]);
                    out.push(forged);
                }
            }
            out.push(datagram.to_vec());
            out
        };
        let (_proxy, mut device) = through(&bmc, suite, Box::new(rule)).await;
        for _ in 0..10 {
            assert_eq!(run(&mut device, Command::Read).await, Ok(Response::Reads(Reading::On)));
        }
        rounds(&bmc, &mut device, 3).await;
    }
}

#[tokio::test]
async fn damaged_answers_are_garbage_at_the_deadline() {
    for (bmc, suite) in all() {
        let damage = Arc::new(AtomicBool::new(false));
        let damaging = Arc::clone(&damage);
        let dice = Dice::new(7);
        let rule = move |way: Way, datagram: &[u8]| {
            let mut datagram = datagram.to_vec();
            if way == Way::FromBmc && damaging.load(Ordering::Relaxed) {
                // One bit anywhere in a sealed answer; the length of an unsealed one.
                if datagram[5] == 0xc0 {
                    let at = 16 + usize::try_from(dice.percent()).unwrap() * (datagram.len() - 16) / 100;
                    datagram[at] ^= 1 << (dice.percent() % 8);
                } else {
                    datagram.truncate(datagram.len() - 3);
                }
            }
            vec![datagram]
        };
        let (_proxy, mut warm) = through(&bmc, suite, Box::new(rule)).await;
        assert!(run(&mut warm, Command::Prove).await.is_ok());
        damage.store(true, Ordering::Relaxed);
        let mut cold =
            Ipmi::new(config(_proxy.address, suite, (USER, PASSWORD), None, Privilege::Operator, GUID));
        for device in [&mut warm, &mut cold] {
            let failure = run(device, Command::Read).await.unwrap_err();
            assert!(matches!(failure, Failure::Garbage { .. }), "{:?}: {failure:?}", bmc.kind);
        }
        damage.store(false, Ordering::Relaxed);
        assert_eq!(run(&mut warm, Command::Read).await, Ok(Response::Reads(Reading::On)), "it recovers");
    }
}

#[tokio::test]
async fn random_datagrams_change_nothing() {
    let bmc = Bmc::pyghmi();
    let dice = Dice::new(11);
    let rule = move |way: Way, datagram: &[u8]| {
        let mut out = Vec::new();
        if way == Way::FromBmc {
            for _ in 0..20 {
                let len = usize::try_from(dice.percent()).unwrap() * 20;
                let mut noise: Vec<u8> =
                    (0..len).map(|_| u8::try_from(dice.percent()).unwrap().wrapping_mul(3)).collect();
                // Half of them look like RMCP+ at first.
                if dice.percent() < 50 {
                    noise.splice(0..0, datagram[..dice.percent() as usize % datagram.len()].iter().copied());
                }
                out.push(noise);
            }
        }
        out.push(datagram.to_vec());
        out
    };
    let (_proxy, mut device) = through(&bmc, Suite::Seventeen, Box::new(rule)).await;
    rounds(&bmc, &mut device, 10).await;
}

/// An order is never repeated on its own: not unless a later question was answered.
#[tokio::test]
async fn a_silent_path_carries_one_copy_of_an_order() {
    let bmc = Bmc::sim();
    let silent = Arc::new(AtomicBool::new(false));
    let swallowed = Arc::new(Mutex::new(Vec::new()));
    let (silence, sink) = (Arc::clone(&silent), Arc::clone(&swallowed));
    let rule = move |way: Way, datagram: &[u8]| {
        if silence.load(Ordering::Relaxed) {
            if way == Way::ToBmc {
                sink.lock().unwrap().push(datagram.to_vec());
            }
            return Vec::new();
        }
        vec![datagram.to_vec()]
    };
    let (_proxy, mut device) = through(&bmc, Suite::Three, Box::new(rule)).await;
    assert!(run(&mut device, Command::Prove).await.is_ok());
    silent.store(true, Ordering::Relaxed);
    let failure = run(&mut device, Command::Off).await.unwrap_err();
    assert!(matches!(failure, Failure::NoAnswer { .. }), "{failure:?}");
    // Sealed ones only: knocks and logins are harmless. An order's plaintext has 8 bytes, a question's 7, so the length is
    // the same; the counts tell: one order, and its question repeated at most a few times.
    let sealed = swallowed.lock().unwrap().iter().filter(|datagram| datagram[5] == 0xc0).count();
    assert!((2..=8).contains(&sealed), "{sealed}");
    silent.store(false, Ordering::Relaxed);
    assert_eq!(run(&mut device, Command::Read).await, Ok(Response::Reads(Reading::On)));
    assert_eq!(bmc.calls("set power 0"), 0);
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!(bmc.calls("set power 0"), 1);
}
