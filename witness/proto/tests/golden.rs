//! Golden bytes of each wire version, one file a message. They are never edited: other bytes are another version.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod common;

use common::{bare, full, name};
use palisade_proto::message::{Desired, Echo, Grant, HealthClass, Maintenance, Place, Presence, Wishes};
use palisade_proto::wire::{
    MAX_DATAGRAM, decode_answer, decode_ask, decode_heartbeat, encode_answer, encode_ask, encode_heartbeat,
};
use palisade_proto::{
    Answer, Ask, AskKind, Drift, Duration, Founding, Heartbeat, HostId, Incarnation, Names, Verdict,
    WorkloadId,
};

/// The bytes of a golden file: hexadecimal digits, white space between them, `#` starts a comment.
fn golden(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .lines()
        .flat_map(|line| line.split('#').next().unwrap().chars().filter(|digit| !digit.is_whitespace()))
        .map(|digit| u8::try_from(digit.to_digit(16).unwrap()).unwrap())
        .collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn hex(bytes: &[u8]) -> String {
    let lines =
        bytes.chunks(32).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    lines.collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn same(written: &[u8], text: &str) -> Vec<u8> {
    let golden = golden(text);
    assert!(written == golden, "written:\n{}\ngolden:\n{}", hex(written), hex(&golden));
    golden
}

/// A member of three that grants, echoes, places and knows of a death.
fn heartbeat() -> Heartbeat {
    let (a, b, c) = (name(0, 0xa1), name(1, 0xb1), name(2, 0xc1));
    let names = |list: &[Incarnation]| list.iter().copied().collect::<Names>();
    Heartbeat {
        presence: Presence::Admitted,
        silent: false,
        quorate: true,
        found: Some(Founding { decider: a, epoch: 8_000_000 }),
        electorate: names(&[a, b, c]),
        dead: names(&[c, name(1, 0xb0)]),
        fenced: names(&[c]),
        cut: names(&[b]),
        view: names(&[a, b]),
        heard: names(&[a, b]),
        echo: [Echo { of: a, seq: 90_000_000 }, Echo { of: b, seq: 70_000_000 }].into_iter().collect(),
        grants: [Grant { to: a, seq: 90_000_000 }, Grant { to: b, seq: 69_999_990 }].into_iter().collect(),
        lock: Some(Founding { decider: b, epoch: 5 }),
        busy: [1, 9].map(WorkloadId).into_iter().collect(),
        refused: [16].map(WorkloadId).into_iter().collect(),
        awaits: names(&[b]),
        place: [Place { workload: WorkloadId(7), on: b }].into_iter().collect(),
        desired: Desired { version: 300, stopped: [0].map(WorkloadId).into_iter().collect() },
        health: HealthClass::Degraded,
        load: 250,
        watchdog_bound: Duration::ms(32_300),
        ..bare(a, 90_000_001)
    }
}

#[test]
fn heartbeats() {
    let (left, full) = (Heartbeat { presence: Presence::Left, ..bare(name(5, 0x50), 77) }, full(32, 32));
    let walls = [name(1, 0xb1), name(2, 0xc1)].into_iter().collect();
    let walls = Heartbeat { walls, walled: [name(1, 0xb1)].into_iter().collect(), ..heartbeat() };
    let wishes = Wishes { version: 300, drained: 2, disarmed: Duration::secs(3600), ..Wishes::default() };
    let ails = [0x0102_0304, 0xdead_beef].into_iter().collect();
    let ails = Heartbeat { ails, wishes, ..walls.clone() };
    let maintained = [(0, 0), (3, 14_400)]
        .map(|(id, left)| Maintenance { host: HostId::new(id).unwrap(), left: Duration::secs(left) });
    let wishes = Wishes { maintenance: maintained.into_iter().collect(), ..ails.wishes.clone() };
    let maintenance = Heartbeat { wishes, ..ails.clone() };
    for (heartbeat, text) in [
        (heartbeat(), include_str!("golden/heartbeat.hex")),
        (left, include_str!("golden/heartbeat-left.hex")),
        (full, include_str!("golden/heartbeat-full.hex")),
        (walls, include_str!("golden/heartbeat-walls.hex")),
        (ails, include_str!("golden/heartbeat-ails.hex")),
        (maintenance, include_str!("golden/heartbeat-maintenance.hex")),
    ] {
        let mut out = [0; MAX_DATAGRAM];
        let len = encode_heartbeat(&heartbeat, &mut out).unwrap();
        let golden = same(&out[..len], text);
        assert_eq!(decode_heartbeat(heartbeat.from, heartbeat.seq, &golden), Ok(heartbeat));
    }
}

#[test]
fn asks() {
    let (a, b) = (name(0, 0xa1), name(1, 0xb1));
    let ask = |kind, view: &[Incarnation]| Ask {
        from: a,
        seq: 90_000_002,
        kind,
        view: view.iter().copied().collect(),
        lease: Duration::ms(1000),
        drift: Drift { ppm: 10_000 },
    };
    for (ask, text) in [
        (ask(AskKind::Ordinary { incumbent: false }, &[a, b]), include_str!("golden/ask.hex")),
        (ask(AskKind::Ordinary { incumbent: true }, &[a]), include_str!("golden/ask-incumbent.hex")),
        (ask(AskKind::Cold, &[a, b]), include_str!("golden/ask-cold.hex")),
        (ask(AskKind::Beacon, &[]), include_str!("golden/ask-beacon.hex")),
    ] {
        let mut out = [0; MAX_DATAGRAM];
        let len = encode_ask(&ask, &mut out).unwrap();
        let golden = same(&out[..len], text);
        assert_eq!(decode_ask(ask.from, ask.seq, &golden), Ok(ask));
    }
}

#[test]
fn answers() {
    let verdicts = [
        Verdict::Granted,
        Verdict::Noted,
        Verdict::Silent,
        Verdict::IncumbentsOnly,
        Verdict::Conflict,
        Verdict::ElectorateLives,
        Verdict::OtherTiming,
        Verdict::Full,
    ];
    let mut written = Vec::new();
    for verdict in verdicts {
        let answer = Answer { start: [0x77; 8], seq: 3, to: name(0, 0xa1), ask: 90_000_002, verdict };
        let mut out = [0; MAX_DATAGRAM];
        let len = encode_answer(&answer, &mut out).unwrap();
        assert_eq!(decode_answer(answer.start, answer.seq, &out[..len]), Ok(answer));
        written.extend_from_slice(&out[..len]);
    }
    same(&written, include_str!("golden/answers.hex"));
}

#[cfg(feature = "seal")]
#[test]
fn sealed_datagrams() {
    use palisade_proto::seal::{Keyring, Kind, Opener, RootKey, Sealer, Sender};
    use palisade_proto::{HostId, LifeName};

    let root = RootKey::parse(b"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n").unwrap();
    let ring = || Keyring::new("edge-a", [(5, root.clone())]).unwrap();
    let host = Sender::Host(HostId::new(3).unwrap());
    for (kind, sender, text) in [
        (Kind::Heartbeat, host, include_str!("golden/sealed-heartbeat.hex")),
        (Kind::Ask, host, include_str!("golden/sealed-ask.hex")),
        (Kind::Answer, Sender::Witness, include_str!("golden/sealed-answer.hex")),
    ] {
        let life = LifeName(*b"lifename");
        let mut out = [0; MAX_DATAGRAM];
        let mut sealer = Sealer::new(&ring(), kind, sender, life).unwrap();
        let len = sealer.seal(0x0102_0304_0506, b"\x01the message", &mut out).unwrap();
        let golden = same(&out[..len], text);
        let opened = Opener::<1>::new(ring(), kind).open(&golden, &mut out).unwrap().message.to_vec();
        assert_eq!(opened, b"\x01the message");
    }
}
