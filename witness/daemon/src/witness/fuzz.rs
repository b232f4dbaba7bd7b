//! Whatever is published on the topics of asks: raw, and as asks that are truly sealed but say anything.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a broken property ends the run"
)]

use palisade_proto::fuzz::Bytes;
use palisade_proto::seal::{Keyring, Kind, Opener, RootKey, Sealer, Sender};
use palisade_proto::time::voter_length;
use palisade_proto::wire::{self, MAX_MESSAGE};
use palisade_proto::{Ask, Drift, Duration, HostId, Ignored, Incarnation, Names, Time, Verdict};

use super::*;
use crate::cluster::{Cluster, FixedCluster};

/// Large enough for a lease and every life of a small cluster.
const ASKS_MAX: usize = 64;
const LEASE: Duration = Duration::ms(1000);
const DRIFT: Drift = Drift { ppm: 10_000 };
const START: LifeName = LifeName([9; 8]);
const BEGAN: Time = Time(50_000);

fn ring() -> Keyring {
    Keyring::new("t", [(1, RootKey::new([3; 32])), (2, RootKey::new([4; 32]))]).unwrap()
}

fn config(name: &str, hosts: usize) -> ClusterConfig {
    ClusterConfig { name: name.into(), keyring: ring(), lease: LEASE, drift: DRIFT, hosts }
}

/// A raw message is answered only if it is an authentic ask; an authentic ask of any content gets one answer at most, sealed
/// for it alone; no two grants that bind at once oppose each other, and none is given in the silent period.
///
/// # Panics
/// If not.
pub fn witness_ask(bytes: &[u8]) {
    let mut bytes = Bytes::new(bytes);
    if bytes.byte().is_multiple_of(4) {
        raw(&mut bytes);
    } else {
        sealed(&mut bytes);
    }
}

fn raw(bytes: &mut Bytes<'_>) {
    let clusters = vec![config("t", 4), config("u", 8), config("v", 32)];
    let clock = Clock::start().unwrap();
    let clusters = Pool::new(clusters, START, clock.now()).unwrap();
    let out = Box::new([0; MAX_DATAGRAM]);
    let mut witness = Witness { clusters, clock, start: START, seq: 0, dropped: Dropped::new(), out };
    let (retained, topic, payload) = (bytes.byte() % 2 == 1, bytes.part(), bytes.rest());
    let known = ["palisade/t/witness/ask/1", "palisade/u/witness/ask/7", "palisade/v/witness/ask/31"];
    let topic = match std::str::from_utf8(topic) {
        Ok("") => known[payload.len() % known.len()],
        Ok(topic) => topic,
        Err(_) => return,
    };
    if let Some((cluster, host)) = asked(topic) {
        assert_eq!(format!("palisade/{cluster}/witness/ask/{host}"), topic, "two topics of one host");
    }
    // Nobody can seal by chance.
    assert!(witness.handle(topic, payload, retained).is_none(), "a forged ask was answered");
}

/// A grant that binds.
struct Granted {
    to: Incarnation,
    view: Names,
    until: Time,
}

fn sealed(bytes: &mut Bytes<'_>) {
    let mut cluster = FixedCluster::<4, 6>::new(config("t", 4), START, BEGAN).unwrap();
    let mut answers: Opener<2> = Opener::new(ring(), Kind::Answer);
    let mut grants: Vec<Granted> = Vec::new();
    let (mut now, mut silent_until) = (BEGAN, BEGAN.after(voter_length(LEASE, DRIFT)));
    for seq in 1..=ASKS_MAX as u64 {
        if bytes.is_empty() {
            return;
        }
        now = now.after(Duration::ms([0, 1, 100, 500, 1100, 16_000, 3, 40][bytes.below(8)]));
        match bytes.byte() % 32 {
            0 => {
                // It slept: what it granted before is forgotten, and it is silent for as long as that could bind.
                cluster.start(now);
                silent_until = now.after(voter_length(LEASE, DRIFT));
                continue;
            }
            1 => cluster.was_deaf(now),
            _ => {}
        }
        let from = Incarnation::new(HostId::new(bytes.byte() % 6).unwrap(), [bytes.byte() % 4; 8]);
        let message = message(from, bytes);
        let ask_seq = seq * 4 + u64::from(bytes.byte() % 8);
        let mut sealer = Sealer::new(&ring(), Kind::Ask, Sender::Host(from.host), from.life).unwrap();
        let mut datagram = [0; MAX_DATAGRAM];
        let Ok(len) = sealer.seal(ask_seq, &message, &mut datagram) else { continue };
        let datagram = &mut datagram[..len];
        let damage = bytes.byte();
        let mut out = [0; MAX_DATAGRAM];
        if damage >= 0xf0 {
            datagram[usize::from(bytes.short()) % len] ^= 1 << (damage & 7);
            let dropped = cluster.answer(from.host, datagram, now, seq, &mut out);
            assert!(matches!(dropped, Err(DropReason::Sealed(_))), "damaged and taken: {dropped:?}");
            continue;
        }
        let other = HostId::new(from.host.number() + 1).unwrap();
        let wrong = cluster.answer(other, datagram, now, seq, &mut out);
        assert_eq!(wrong, Err(DropReason::OtherSender), "an ask on another host's topic");
        let Ok(len) = cluster.answer(from.host, datagram, now, seq, &mut out) else { continue };
        let again = cluster.answer(from.host, datagram, now, seq + 1, &mut [0; MAX_DATAGRAM]);
        let verdict = answered(&mut answers, &out[..len], from, ask_seq, seq);
        assert!(
            matches!(again, Err(DropReason::Ignored(Ignored::OldSeq))) || verdict == Verdict::Full,
            "SAFE-7: a replay was answered"
        );
        let ask = wire::decode_ask(from, ask_seq, &message).expect("it was answered");
        if verdict == Verdict::Granted {
            judge(&mut grants, &ask, now, silent_until);
        }
    }
}

/// An ask that makes sense, or any bytes.
fn message(from: Incarnation, bytes: &mut Bytes<'_>) -> Vec<u8> {
    let shape = bytes.byte();
    if shape >= 0xc0 {
        return bytes.part().to_vec();
    }
    let mask = bytes.short();
    let member = |bit: u8| Incarnation::new(HostId::new(bit % 4).unwrap(), [bit / 4; 8]);
    let mut view: Names = (0..16).filter(|bit| mask >> bit & 1 == 1).map(member).collect();
    if shape & 0x10 == 0 {
        view.insert(from);
    }
    let kind = match shape & 3 {
        0 => wire_kind(false),
        1 => wire_kind(true),
        2 => palisade_proto::AskKind::Cold,
        _ => palisade_proto::AskKind::Beacon,
    };
    let lease = if shape & 0x2c == 0x2c { Duration(bytes.word()) } else { LEASE };
    let mut out = [0; MAX_MESSAGE];
    let ask = Ask { from, seq: 0, kind, view, lease, drift: DRIFT };
    let len = wire::encode_ask(&ask, &mut out).unwrap();
    out[..len].to_vec()
}

fn wire_kind(incumbent: bool) -> palisade_proto::AskKind {
    palisade_proto::AskKind::Ordinary { incumbent }
}

/// What the answer says, which must be to this ask and to nobody else.
fn answered(answers: &mut Opener<2>, sealed: &[u8], to: Incarnation, ask: Seq, seq: Seq) -> Verdict {
    let mut text = [0; MAX_DATAGRAM];
    let opened = answers.open(sealed, &mut text).expect("the witness's own seal");
    assert_eq!((opened.sender, opened.life, opened.seq), (Sender::Witness, START, seq));
    let answer = wire::decode_answer(opened.life.0, opened.seq, opened.message).unwrap();
    assert_eq!((answer.to, answer.ask), (to, ask));
    answer.verdict
}

/// PROTOCOL, "Grant rule", told a second time: no two leases that bind at once leave each other's holder out.
fn judge(grants: &mut Vec<Granted>, ask: &Ask, now: Time, silent_until: Time) {
    assert!(now >= silent_until, "granted in the silent period");
    assert!(ask.view.contains(ask.from) && ask.lease == LEASE && ask.drift == DRIFT);
    grants.retain(|granted| now < granted.until && granted.to != ask.from);
    for granted in grants.iter() {
        assert!(
            ask.view.contains(granted.to) && granted.view.contains(ask.from),
            "{} was granted {:?} while {} holds {:?}",
            ask.from,
            ask.view,
            granted.to,
            granted.view
        );
    }
    let until = now.after(voter_length(LEASE, DRIFT));
    grants.push(Granted { to: ask.from, view: ask.view.clone(), until });
}
