//! The driver of SCSI reservations against real targets: Debian's `tgtd` on loopback; and, for what that cannot do (PREEMPT AND
//! ABORT), whichever `PALISADE_ISCSI` names, in the tests marked `ignore`: `cargo lab guests scsi` runs them at LIO.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy knows a test only inside #[test]"
)]

mod iscsi;
mod outcome;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use iscsi::{CLUSTER, DEADLINE, Host, Place, Tgt, device, life, name_of, open, reads, run};
use outcome::in_time;
use palisade_devices::scsi::{Key, Me, Request, Scsi, ScsiConfig};
use palisade_devices::{Device as _, Standing, Warrant};
use palisade_ladder::{Command, Failure, Reading, Response};
use palisade_proto::HostId;
use tokio::time::Instant;

const TARGETS: &str = "PALISADE_ISCSI=PORTAL,IQN,LUN names a target that does PREEMPT AND ABORT";

/// PERSISTENT RESERVE OUT, past the driver: until it is carried out.
fn by_hand(host: &Host, path: usize, (action, kind): (u8, u8), key: [u8; 8], new: [u8; 8]) {
    let cdb = vec![0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0];
    let out = [key, new, [0; 8]].concat();
    let request = Request { cdb, out, expect: 0, within: Duration::from_secs(5) };
    let session = host.session(path);
    let mut session = session.lock().unwrap();
    let done = (0..8).any(|_| session.command(&request).unwrap().status == 0);
    assert!(done, "service action {action:x}h");
}

const REGISTER_AND_IGNORE: (u8, u8) = (0x06, 0);
const RESERVE_FOR_ONE: (u8, u8) = (0x01, 0x01);
const CLEAR: (u8, u8) = (0x03, 0);

#[tokio::test]
async fn a_life_opens_its_paths_and_nobody_else_writes() {
    let (_tgt, places) = Tgt::start(2);
    let (a, b) = (Host::new("a", &places, 2), Host::new("b", &places, 1));
    let mut of_a = device(&a, &places, 0, life(0, 1));
    assert_eq!(reads(&mut of_a).await, Reading::Unknown, "without a reservation everybody may write");
    assert!(b.writes(0));
    open(&a, &places, life(0, 1)).await;
    assert!((0..4).all(|path| a.writes(path)), "by each path to each logical unit");
    assert!(!b.writes(0), "b is not registered");
    open(&b, &places, life(1, 1)).await;
    assert!(b.writes(0) && b.writes(1) && a.writes(0));
    // Said twice it is the same.
    open(&b, &places, life(1, 1)).await;
}

/// What its kernel could not bring to the disk while it was cut would come now.
#[tokio::test]
async fn a_host_that_was_cut_in_this_boot_is_not_let_in_before_it_reboots() {
    let (_tgt, places) = Tgt::start(1);
    let (a, b) = (Host::new("a", &places, 1), Host::new("b", &places, 1));
    open(&b, &places, life(1, 1)).await;
    let luns = [places[0].name.clone()];
    let config = ScsiConfig::new(CLUSTER, &luns, HostId::new(0).unwrap()).unwrap();
    let mut second = Scsi::new(config, Some(Me { life: life(0, 2), first_of_boot: false }), a.clone());
    let refused = run(&mut second, Command::On, Some(life(0, 2))).await.unwrap_err();
    assert!(refused.to_string().contains("reboot this host"), "{refused}");
    assert!(!a.writes(0));
    // After a stop its key is there still: nothing was refused meanwhile.
    open(&a, &places, life(0, 2)).await;
    assert_eq!(run(&mut second, Command::On, Some(life(0, 2))).await, Ok(Response::Acknowledged));
}

#[tokio::test]
async fn a_path_is_proven_by_reservation_and_own_key_and_nothing_changes() {
    let (_tgt, places) = Tgt::start(1);
    let (a, b) = (Host::new("a", &places, 1), Host::new("b", &places, 1));
    let mut of_a = device(&b, &places, 0, life(1, 1));
    let refused = run(&mut of_a, Command::Prove, None).await.unwrap_err();
    assert!(matches!(&refused, Failure::Refused { code } if code.contains("is not reserved")), "{refused}");
    open(&a, &places, life(0, 1)).await;
    let proven = |outcome| match outcome {
        Ok(Response::Proven(proven)) => proven,
        other => panic!("{other:?}"),
    };
    let refused = run(&mut of_a, Command::Prove, None).await.unwrap_err();
    assert!(refused.to_string().contains("0 of 1 paths of this host are registered"), "{refused}");
    open(&b, &places, life(1, 1)).await;
    let found = proven(run(&mut of_a, Command::Prove, None).await);
    assert!(found.may_fence && found.reads == Reading::On && found.identity.0 == places[0].name);
    assert!(a.writes(0));
}

/// SAFE-4
#[tokio::test]
async fn another_logical_unit_behind_a_path_gets_no_order() {
    let (_tgt, places) = Tgt::start(2);
    // The kernel's note of the name is from before somebody mapped another unit there.
    let swapped = [Place { name: places[1].name.clone(), ..places[0].clone() }];
    let a = Host::new("a", &swapped, 1);
    let counted = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&counted);
    let before_order = Arc::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let a = Host { before_order, ..a };
    let mut own = device(&a, &swapped, 0, life(0, 1));
    for command in [Command::On, Command::Read, Command::Prove] {
        let refused = run(&mut own, command, Some(life(0, 1))).await.unwrap_err();
        assert!(
            matches!(&refused, Failure::WrongIdentity { found, .. } if found.0.contains(&places[0].name)),
            "{refused}"
        );
    }
    assert_eq!(counted.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_target_that_cannot_abort_is_refused_in_so_many_words() {
    let (_tgt, places) = Tgt::start(1);
    let (a, b) = (Host::new("a", &places, 1), Host::new("b", &places, 1));
    open(&a, &places, life(0, 1)).await;
    open(&b, &places, life(1, 1)).await;
    let mut of_a = device(&b, &places, 0, life(1, 1));
    let refused = run(&mut of_a, Command::Off, Some(life(0, 1))).await.unwrap_err();
    let words = refused.to_string();
    assert!(matches!(refused, Failure::Refused { .. }) && words.contains("PREEMPT AND ABORT"), "{words}");
    assert_eq!(reads(&mut of_a).await, Reading::On);
}

#[tokio::test]
async fn an_order_names_a_life_of_the_devices_host_and_never_its_own() {
    let (_tgt, places) = Tgt::start(1);
    let (a, b) = (Host::new("a", &places, 1), Host::new("b", &places, 1));
    open(&a, &places, life(0, 1)).await;
    open(&b, &places, life(1, 1)).await;
    let mut of_a = device(&b, &places, 0, life(1, 1));
    for whom in [None, Some(life(2, 1)), Some(life(1, 1))] {
        assert!(matches!(run(&mut of_a, Command::Off, whom).await, Err(Failure::Refused { .. })), "{whom:?}");
    }
    // A life that has no key there is not another one: nothing is taken.
    assert_eq!(run(&mut of_a, Command::Off, Some(life(0, 7))).await, Ok(Response::AlreadySo));
    assert_eq!(reads(&mut of_a).await, Reading::On, "the life that is there is not off by that");
    let opened_for_another = run(&mut of_a, Command::On, Some(life(0, 1))).await;
    assert!(matches!(opened_for_another, Err(Failure::Refused { .. })));
    let mut own = device(&b, &places, 1, life(1, 1));
    assert!(matches!(run(&mut own, Command::Off, Some(life(1, 1))).await, Err(Failure::Refused { .. })));
    assert!(a.writes(0) && b.writes(0));
}

#[tokio::test]
async fn a_reservation_of_another_kind_is_told_and_left_alone() {
    let (_tgt, places) = Tgt::start(1);
    let (a, x) = (Host::new("a", &places, 1), Host::new("x", &places, 1));
    // Somebody else's software: write exclusive, for itself alone.
    by_hand(&x, 0, REGISTER_AND_IGNORE, [0; 8], [7; 8]);
    by_hand(&x, 0, RESERVE_FOR_ONE, [7; 8], [0; 8]);
    let mut own = device(&a, &places, 0, life(0, 1));
    let refused = run(&mut own, Command::On, Some(life(0, 1))).await.unwrap_err();
    assert!(refused.to_string().contains("reserved by somebody else (type 1h)"), "{refused}");
    assert_ne!(reads(&mut own).await, Reading::On);
    assert!(x.writes(0) && !a.writes(0));
}

#[tokio::test]
async fn silence_ends_by_the_deadline() {
    let (tgt, places) = Tgt::start(1);
    let (a, b) = (Host::new("a", &places, 1), Host::new("b", &places, 1));
    open(&a, &places, life(0, 1)).await;
    open(&b, &places, life(1, 1)).await;
    let mut of_a = device(&b, &places, 0, life(1, 1));
    tgt.freeze(true);
    for command in [Command::Read, Command::Prove, Command::Off, Command::Read] {
        let deadline = Instant::now() + Duration::from_millis(100);
        let warrant = Warrant { deadline, standing: None, whom: Some(life(0, 1)) };
        let outcome = in_time("a frozen target", &mut of_a, command, warrant).await;
        assert!(
            matches!(outcome, Err(Failure::NoAnswer { .. } | Failure::Unreachable { .. })),
            "{outcome:?}"
        );
    }
    tgt.freeze(false);
}

#[tokio::test]
async fn a_target_that_is_gone_and_a_missing_disk_are_named() {
    let (mut tgt, places) = Tgt::start(1);
    let a = Host::new("a", &places, 1);
    tgt.stop();
    let mut own = device(&a, &places, 0, life(0, 1));
    assert!(matches!(run(&mut own, Command::Read, None).await, Err(Failure::Unreachable { .. })));
    let elsewhere = [Place { name: "naa.6001405ffffffffffffffffffffffff1".into(), ..places[0].clone() }];
    let mut missing = device(&a, &elsewhere, 0, life(0, 1));
    let why = run(&mut missing, Command::Prove, None).await.unwrap_err().to_string();
    assert!(why.contains("no path to naa.6001405fff"), "{why}");
}

/// SAFE-2: between two paths the standing may be lost.
#[tokio::test]
async fn safe_2_each_order_is_checked_right_before_it_is_sent() {
    let (_tgt, places) = Tgt::start(1);
    let a = Host::new("a", &places, 2);
    let standing = Standing::new(u64::MAX, || 0);
    let sent = Arc::new(AtomicU64::new(0));
    let (count, lost) = (Arc::clone(&sent), standing.clone());
    let a = Host {
        before_order: Arc::new(move || {
            // The first registration is on its way: from here on nothing more may be.
            count.fetch_add(1, Ordering::SeqCst);
            lost.end();
        }),
        ..a
    };
    let mut own = device(&a, &places, 0, life(0, 1));
    let warrant =
        Warrant { deadline: Instant::now() + DEADLINE, standing: Some(standing), whom: Some(life(0, 1)) };
    assert_eq!(own.run(Command::On, warrant).await, Err(Failure::Cancelled));
    assert_eq!(sent.load(Ordering::SeqCst), 1);
}

/// Logical units of a target that does everything: `PORTAL,IQN,LUN[,LUN...]`.
fn lio() -> Vec<Place> {
    let text = std::env::var("PALISADE_ISCSI").unwrap_or_else(|_| panic!("not set: {TARGETS}"));
    let mut parts = text.split(',');
    let (portal, target) = (parts.next().unwrap().parse().unwrap(), parts.next().unwrap().to_owned());
    let places = parts.map(|lun| Place {
        portal,
        target: target.clone(),
        lun: lun.parse().unwrap(),
        name: String::new(),
    });
    places.map(|place| Place { name: name_of(&place), ..place }).collect()
}

/// Begins with nobody registered.
fn cleared(places: &[Place]) {
    let cleaner = Host::new("cleaner", places, 1);
    for path in 0..places.len() {
        by_hand(&cleaner, path, REGISTER_AND_IGNORE, [0; 8], [9; 8]);
        by_hand(&cleaner, path, CLEAR, [9; 8], [0; 8]);
    }
}

#[tokio::test]
#[ignore = "needs LIO: `cargo lab guests scsi` runs it"]
async fn lio_a_lost_host_is_cut_on_every_path_and_reads_off_only_then() {
    let places = lio();
    cleared(&places);
    let (a, b) = (Host::new("a", &places, 2), Host::new("b", &places, 1));
    open(&a, &places, life(0, 1)).await;
    open(&b, &places, life(1, 1)).await;
    let mut of_a = device(&b, &places, 0, life(1, 1));
    assert_eq!(reads(&mut of_a).await, Reading::On);
    assert_eq!(run(&mut of_a, Command::Off, Some(life(0, 1))).await, Ok(Response::Acknowledged));
    assert_eq!(reads(&mut of_a).await, Reading::Off);
    assert!((0..places.len() * 2).all(|path| !a.writes(path)), "a writes no more, by any path");
    assert!(b.writes(0));
    assert_eq!(run(&mut of_a, Command::Off, Some(life(0, 1))).await, Ok(Response::AlreadySo));
    assert_eq!(reads(&mut of_a).await, Reading::Off);
    // Its next life opens its paths itself; the order for the one before finds nothing to take.
    open(&a, &places, life(0, 2)).await;
    assert_eq!(run(&mut of_a, Command::Off, Some(life(0, 1))).await, Ok(Response::AlreadySo));
    assert_eq!(
        reads(&mut of_a).await,
        Reading::On,
        "a late order for an old life is no proof about the new one"
    );
    assert!(a.writes(0));
}

#[tokio::test]
#[ignore = "needs LIO: `cargo lab guests scsi` runs it"]
async fn lio_one_path_that_keeps_a_key_is_no_proof() {
    let places = lio();
    cleared(&places);
    let (a, b) = (Host::new("a", &places, 1), Host::new("b", &places, 1));
    // An adapter of a by another name.
    let other = Host::new("a-by-another-adapter", &places, 1);
    open(&a, &places, life(0, 1)).await;
    open(&b, &places, life(1, 1)).await;
    let mut of_a = device(&b, &places, 0, life(1, 1));
    // By hand, behind our back: it has a key of another life of a.
    let key = Key::of(CLUSTER, life(0, 9)).to_string();
    let key = u64::from_str_radix(key.trim_start_matches("0x"), 16).unwrap().to_be_bytes();
    by_hand(&other, 0, REGISTER_AND_IGNORE, [0; 8], key);
    assert_eq!(run(&mut of_a, Command::Off, Some(life(0, 1))).await, Ok(Response::Acknowledged));
    assert_eq!(reads(&mut of_a).await, Reading::On, "the other path is open");
    assert!(!a.writes(0) && other.writes(0));
    // A rebooted host clears what its earlier lives have left.
    open(&a, &places, life(0, 2)).await;
    assert_eq!(run(&mut of_a, Command::Off, Some(life(0, 2))).await, Ok(Response::Acknowledged));
    assert_eq!(reads(&mut of_a).await, Reading::Off);
}

#[tokio::test]
#[ignore = "needs LIO: `cargo lab guests scsi` runs it"]
async fn lio_the_holder_of_the_reservation_is_cut_and_the_reservation_stands() {
    let places = lio();
    cleared(&places);
    let (a, b, c) = (Host::new("a", &places, 1), Host::new("b", &places, 1), Host::new("c", &places, 1));
    open(&a, &places, life(0, 1)).await;
    open(&b, &places, life(1, 1)).await;
    let mut of_a = device(&b, &places, 0, life(1, 1));
    assert_eq!(run(&mut of_a, Command::Off, Some(life(0, 1))).await, Ok(Response::Acknowledged));
    assert_eq!(reads(&mut of_a).await, Reading::Off);
    assert!(!a.writes(0) && !c.writes(0) && b.writes(0));
    // A host that is not registered itself may not cut.
    let mut of_b = device(&c, &places, 1, life(2, 1));
    let refused = run(&mut of_b, Command::Off, Some(life(1, 1))).await.unwrap_err();
    assert!(refused.to_string().contains("not registered itself"), "{refused}");
    assert_eq!(reads(&mut of_b).await, Reading::On);
}
