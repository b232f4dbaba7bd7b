//! The witness as its clusters see it: through a real broker.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

mod parts;

use std::os::unix::net::UnixDatagram;

use nix::sys::signal::Signal;
use palisade_proto::seal::{Kind, Sealer, Sender};
use palisade_proto::wire::MAX_DATAGRAM;
use palisade_proto::{AskKind, Verdict};
use parts::host::{Host, INCUMBENT, ORDINARY, keyring, life};
use parts::{Directory, LIMIT, broker, config, free_port, start, witness, witness_command};

/// Short, so that silent periods are; long enough for a loaded machine to ask again within it.
const LEASE_MS: u64 = 400;
const LEASE: &str = "400ms";

#[test]
fn one_half_is_served_and_the_other_is_not() {
    let (directory, port) = (Directory::new(), free_port());
    let _broker = broker(&directory, port);
    let mut witness = witness(&config(&directory, port, &["edge-a", "edge-b"], LEASE));
    witness.wait_for("listening");
    let (mut a, mut b) = (Host::new(port, "edge-a", 0, LEASE_MS), Host::new(port, "edge-a", 1, LEASE_MS));
    let mut other = Host::new(port, "edge-b", 0, LEASE_MS);

    a.ask_until(ORDINARY, &[life(0)], Verdict::Granted);
    assert_eq!(b.ask(ORDINARY, &[life(1)]), Verdict::Conflict);
    assert_eq!(b.ask(AskKind::Beacon, &[]), Verdict::Noted);
    assert_eq!(b.ask(AskKind::Cold, &[life(1)]), Verdict::ElectorateLives);
    assert_eq!(other.ask(ORDINARY, &[life(0)]), Verdict::Granted, "another cluster is another matter");
    // a stops asking: its lease runs out.
    let before = b.ask_until(ORDINARY, &[life(1)], Verdict::Granted);
    assert!(before.iter().all(|verdict| *verdict == Verdict::Conflict), "{before:?}");

    let mut slow = Host::new(port, "edge-a", 2, 1000);
    assert_eq!(slow.ask(ORDINARY, &[life(2)]), Verdict::OtherTiming);
}

#[test]
fn a_broker_that_comes_back_is_subscribed_to_again() {
    let (directory, port) = (Directory::new(), free_port());
    let first = broker(&directory, port);
    let mut witness = witness(&config(&directory, port, &["edge-a"], LEASE));
    witness.wait_for("listening");
    let mut a = Host::new(port, "edge-a", 0, LEASE_MS);
    a.ask_until(ORDINARY, &[life(0)], Verdict::Granted);

    drop(first);
    witness.wait_for("WARN: broker");
    let _second = broker(&directory, port);
    witness.wait_for("listening");
    let mut a = Host::new(port, "edge-a", 1, LEASE_MS);
    let before = a.ask_until(ORDINARY, &[life(1)], Verdict::Granted);
    assert!(!before.contains(&Verdict::Silent), "the witness itself did not start anew: {before:?}");
}

/// "cold asks: only if it has been up for, and has heard no beacon and no ordinary ask for, `beacon_ttl` (15 s)": without its
/// broker it hears none, and that says nothing.
#[test]
fn a_witness_that_was_cut_off_does_not_consent_to_a_cold_start_at_once() {
    let (directory, port) = (Directory::new(), free_port());
    let first = broker(&directory, port);
    let mut witness = witness(&config(&directory, port, &["edge-a"], LEASE));
    witness.wait_for("listening");
    let mut a = Host::new(port, "edge-a", 0, LEASE_MS);
    assert_eq!(a.ask_until(AskKind::Cold, &[life(0)], Verdict::Granted), [Verdict::ElectorateLives]);

    drop(first);
    witness.wait_for("WARN: broker");
    let _second = broker(&directory, port);
    witness.wait_for("listening");
    let mut b = Host::new(port, "edge-a", 1, LEASE_MS);
    assert_eq!(b.ask(AskKind::Cold, &[life(1)]), Verdict::ElectorateLives);
}

#[test]
fn the_broker_may_come_after_the_witness() {
    let (directory, port) = (Directory::new(), free_port());
    let mut witness = witness(&config(&directory, port, &["edge-a"], LEASE));
    witness.wait_for("WARN: broker");
    let _broker = broker(&directory, port);
    witness.wait_for("listening");
    assert_eq!(Host::new(port, "edge-a", 0, LEASE_MS).ask(AskKind::Beacon, &[]), Verdict::Noted);
}

/// PROTOCOL, counterexample 13, through the real process: the witness restarts during a split of two.
#[test]
fn a_restarted_witness_is_silent_and_then_serves_incumbents_only() {
    let (directory, port) = (Directory::new(), free_port());
    let _broker = broker(&directory, port);
    let path = config(&directory, port, &["edge-a"], "2s");
    let mut before = witness(&path);
    before.wait_for("listening");
    let (mut a, mut b) = (Host::new(port, "edge-a", 0, 2000), Host::new(port, "edge-a", 1, 2000));
    a.ask_until(ORDINARY, &[life(0)], Verdict::Granted);
    assert_eq!(b.ask(ORDINARY, &[life(1)]), Verdict::Conflict);

    before.signal(Signal::SIGKILL);
    drop(before);
    let mut after = witness(&path);
    after.wait_for("listening");
    assert_eq!(b.ask(ORDINARY, &[life(1)]), Verdict::Silent);
    assert_eq!(a.ask_until(INCUMBENT, &[life(0)], Verdict::Granted), [Verdict::Silent]);
    // The loser comes again and again while a keeps its lease: it stays the loser.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(3);
    let mut verdicts = Vec::new();
    while std::time::Instant::now() < end {
        verdicts.push(b.ask(ORDINARY, &[life(1)]));
        assert_eq!(a.ask(INCUMBENT, &[life(0)]), Verdict::Granted);
    }
    verdicts.dedup();
    assert_eq!(verdicts, [Verdict::IncumbentsOnly, Verdict::Conflict]);
}

/// SAFE-7: a replayed, delayed or forged message changes nothing and is counted.
#[test]
fn safe_7_what_is_not_authentic_and_fresh_is_dropped_and_counted() {
    let (directory, port) = (Directory::new(), free_port());
    let _broker = broker(&directory, port);
    let mut witness = witness(&config(&directory, port, &["edge-a", "edge-b"], LEASE));
    witness.wait_for("listening");
    let mut a = Host::new(port, "edge-a", 0, LEASE_MS);
    let topic = a.topic();
    a.ask_until(ORDINARY, &[life(0)], Verdict::Granted);

    let replay = a.sealed(AskKind::Beacon, &[]);
    a.publish(&topic, false, replay.clone());
    assert_eq!(a.next_answer().verdict, Verdict::Noted);
    a.publish(&topic, false, replay.clone());

    let mut flipped = a.sealed(AskKind::Beacon, &[]);
    *flipped.last_mut().unwrap() ^= 1;
    a.publish(&topic, false, flipped);
    let other_key = keyring("edge-a", [7; 32]);
    let mut sealer = Sealer::new(&other_key, Kind::Ask, Sender::Host(life(0).host), life(0).life).unwrap();
    let mut out = [0; MAX_DATAGRAM];
    let len = sealer.seal(1 << 40, b"\x01", &mut out).unwrap();
    let foreign = out[..len].to_vec();
    a.publish(&topic, false, foreign);
    // Of this cluster's key, but said in another cluster's topic, and in another host's.
    let elsewhere = a.sealed(AskKind::Beacon, &[]);
    a.publish("palisade/edge-b/witness/ask/0", false, elsewhere.clone());
    a.publish("palisade/edge-a/witness/ask/1", false, elsewhere);
    a.publish("palisade/edge-a/witness/ask/77", false, replay.clone());
    a.publish("palisade/edge-z/witness/ask/0", false, replay);
    a.publish(&topic, false, Vec::new());
    a.publish(&topic, false, vec![0xff; 300]);
    a.publish(&topic, false, vec![1; 10_000]);
    let mut unknown_key = a.sealed(AskKind::Beacon, &[]);
    unknown_key[2] = 9;
    a.publish(&topic, false, unknown_key);
    let without_self = a.sealed(ORDINARY, &[life(1)]);
    a.publish(&topic, false, without_self);

    // Everything above came before this, and none of it was answered.
    assert_eq!(a.ask(ORDINARY, &[life(0)]), Verdict::Granted);

    witness.signal(Signal::SIGTERM);
    let (status, lines) = witness.end();
    assert!(status.success(), "{status}");
    // The count may have been logged in parts.
    let all = lines.join("\n");
    for expected in [
        "old_seq=1",
        "forged=3",
        "other_sender=1",
        "unknown_topic=1",
        "too_short=1",
        "not_in_own_view=1",
        "wrong_version=1",
        "other_kind=1",
        "unknown_key=1",
    ] {
        assert!(all.contains(expected), "{expected}: {all}");
    }
}

#[test]
fn a_retained_ask_is_no_ask() {
    let (directory, port) = (Directory::new(), free_port());
    let _broker = broker(&directory, port);
    let mut a = Host::new(port, "edge-a", 0, LEASE_MS);
    let (topic, kept) = (a.topic(), a.sealed(AskKind::Beacon, &[]));
    a.deliver(&topic, true, kept);
    let mut b = Host::new(port, "edge-a", 1, LEASE_MS);
    let mut witness = witness(&config(&directory, port, &["edge-a"], LEASE));
    witness.wait_for("listening");
    assert_eq!(b.ask(AskKind::Beacon, &[]), Verdict::Noted);
    assert_eq!(a.ask(AskKind::Beacon, &[]), Verdict::Noted, "the first answer is to this one");
    witness.signal(Signal::SIGTERM);
    let (_, lines) = witness.end();
    assert!(lines.join("\n").contains(" retained=1"), "{lines:#?}");
}

#[test]
fn an_oversized_message_costs_one_connection_at_most() {
    let (directory, port) = (Directory::new(), free_port());
    let _broker = broker(&directory, port);
    let mut witness = witness(&config(&directory, port, &["edge-a"], LEASE));
    witness.wait_for("listening");
    let mut a = Host::new(port, "edge-a", 0, LEASE_MS);
    let topic = a.topic();
    a.deliver(&topic, false, vec![7; 200_000]);
    witness.wait_for("WARN: broker");
    witness.wait_for("listening");
    let mut b = Host::new(port, "edge-a", 1, LEASE_MS);
    assert_eq!(b.ask(AskKind::Beacon, &[]), Verdict::Noted);
}

#[test]
fn systemd_hears_that_it_is_ready_alive_and_stopping() {
    let (directory, port) = (Directory::new(), free_port());
    let path = config(&directory, port, &["edge-a"], LEASE);
    let socket = UnixDatagram::bind(directory.path("notify")).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let mut command = witness_command(&path);
    command.env("NOTIFY_SOCKET", directory.path("notify")).env("WATCHDOG_USEC", "200000");
    let process = start(command);
    let next = || {
        let mut bytes = [0; 256];
        let len = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..len].to_vec()).unwrap()
    };
    // Without a broker too: one that is away is no reason to restart the witness.
    assert_eq!(next().trim(), "READY=1");
    assert_eq!(next().trim(), "WATCHDOG=1");
    assert_eq!(next().trim(), "WATCHDOG=1");
    process.signal(Signal::SIGTERM);
    while next().trim() != "STOPPING=1" {}
    assert!(process.end().0.success());
}

#[test]
fn a_wrong_configuration_is_told_with_its_place() {
    let directory = Directory::new();
    let path = directory.write("witness.toml", "broker = \"mqtt://127.0.0.1\"\nclusters = 3\n");
    let (status, lines) = witness(&path).end();
    assert_eq!(status.code(), Some(2));
    let expected = format!("ERROR: {}: line 2, column 1: unknown field `clusters`", path.display());
    assert!(lines[0].starts_with(&expected), "{lines:?}");
}
