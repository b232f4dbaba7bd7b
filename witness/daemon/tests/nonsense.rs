//! A broker that talks nonsense: the witness may lose the connection, never its mind. Seeds are fixed; a failure repeats.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

mod parts;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use nix::sys::signal::Signal;
use parts::{Directory, LIMIT, config, witness};

/// What a real broker says first: CONNACK, SUBACK of packet 1.
const GREETING: &[u8] = &[0x20, 2, 0, 0, 0x90, 3, 0, 1, 0];
const CONNECTIONS: usize = 40;

/// xorshift64*: enough to make nonsense with.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> usize {
        usize::try_from(self.next() % bound).unwrap()
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// A packet of some kind: well formed, half well formed, or noise.
fn packet(random: &mut Random) -> Vec<u8> {
    let topic = [
        &b"palisade/edge-a/witness/ask/1"[..],
        b"palisade/edge-a/witness/ask/+",
        b"\xff\xfe",
        b"",
        b"$SYS/x",
    ];
    let topic = topic[random.below(5)];
    let topic_len = u8::try_from(topic.len()).unwrap();
    let payload_len = random.below(90);
    let payload = random.bytes(payload_len);
    let body = match random.below(4) {
        0 => random.bytes(payload_len),
        1 => [&[0, 1][..], &payload].concat(),
        _ => [&[0, topic_len][..], topic, &payload].concat(),
    };
    let kind = match random.below(3) {
        0 => random.bytes(1)[0],
        _ => 0x30 | u8::try_from(random.below(16)).unwrap(),
    };
    // Sometimes the length lies, or is no length.
    let stated = if random.below(4) == 0 { random.below(128) } else { body.len() };
    let mut bytes = vec![kind, u8::try_from(stated).unwrap()];
    if random.below(20) == 0 {
        bytes = [&[kind][..], &[0xff; 5]].concat();
    }
    bytes.extend(body);
    bytes
}

/// Waits for the witness's CONNECT, then talks; ends the connection.
fn nonsense(mut stream: TcpStream, random: &mut Random) {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut connect = [0; 256];
    assert!(stream.read(&mut connect).unwrap() > 0);
    let mut said = match random.below(4) {
        0 => Vec::new(),
        1 => vec![0x20, 2, 0, u8::try_from(random.below(256)).unwrap()],
        _ => GREETING.to_vec(),
    };
    for _ in 0..random.below(20) {
        said.extend(packet(random));
    }
    // The witness may have hung up already.
    let _ = stream.write_all(&said);
}

#[test]
fn a_broker_that_talks_nonsense_is_left_and_tried_again() {
    let directory = Directory::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let path = config(&directory, port, &["edge-a"], "1s");
    let began = Instant::now();
    // Each process backs off after a few failures: several short lives come further than one long one.
    let mut random = Random(0x5eed);
    for _ in 0..CONNECTIONS / 4 {
        let process = witness(&path);
        for _ in 0..4 {
            nonsense(listener.accept().unwrap().0, &mut random);
        }
        let _last = listener.accept().unwrap();
        process.signal(Signal::SIGTERM);
        let (status, lines) = process.end();
        assert!(status.success(), "{status}: {lines:#?}");
        assert!(!lines.iter().any(|line| line.contains("panicked")), "{lines:#?}");
    }
    println!("{CONNECTIONS} connections in {:?}", began.elapsed());
}
