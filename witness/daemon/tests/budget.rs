//! What the witness may cost (DESIGN, "Budgets"): memory with 1,000 clusters, and asks a second. The figures are printed; of
//! a debug build they say little.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

mod parts;

use std::io::{BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use palisade_proto::seal::{Kind, Sealer, Sender};
use palisade_proto::wire::{self, MAX_DATAGRAM};
use palisade_proto::{Ask, AskKind, Drift, Duration, HostId, Incarnation, Names, Verdict};
use parts::host::{Host, ORDINARY, keyring, life};
use parts::{Directory, KEY, LIMIT, broker, free_port, witness};

const CLUSTERS: usize = 1000;
/// 3 MB.
const RSS_KIB_MAX: u64 = 3 * 1000 * 1000 / 1024;
const LEASE_MS: u64 = 1000;

fn cluster(n: usize) -> String {
    format!("site-{n:04}")
}

#[test]
fn a_thousand_small_clusters_fit_three_megabytes() {
    let (directory, port) = (Directory::new(), free_port());
    let _broker = broker(&directory, port);
    // As users have it: a key file for each cluster.
    let mut text = format!("broker = \"mqtt://127.0.0.1:{port}\"\n");
    for n in 0..CLUSTERS {
        let key = directory.write(&format!("{n}.key"), &format!("{}\n", "5a".repeat(32)));
        text += &format!(
            "[[cluster]]\nname = \"{}\"\nkeys = [ {{ id = 1, file = \"{}\" }} ]\nlease = \"1s\"\ndrift = \"1%\"\nhosts = {}\n",
            cluster(n),
            key.display(),
            2 + n % 3
        );
    }
    let path = directory.write("witness.toml", &text);
    let began = Instant::now();
    let mut witness = witness(&path);
    let start = witness.wait_for("clusters in");
    witness.wait_for("listening");
    println!("{start}; listening after {:?}", began.elapsed());
    let idle = witness.status_kib("VmRSS");

    // Every cluster has asked: whatever memory is touched by serving is touched.
    let mut load = Load::connect(port, CLUSTERS);
    for _ in 0..3 {
        load.ask_everywhere();
    }
    let mut host = Host::new(port, &cluster(7), 1, LEASE_MS);
    host.ask_until(ORDINARY, &[life(1)], Verdict::Granted);
    let (rss, anonymous, file) =
        (witness.status_kib("VmRSS"), witness.status_kib("RssAnon"), witness.status_kib("RssFile"));
    println!(
        "RSS with {CLUSTERS} clusters: {rss} KiB after {} asks, {idle} KiB before (own memory {anonymous}, mapped files {file}); peak {} KiB",
        load.answered,
        witness.status_kib("VmHWM")
    );
    // What ships is static. Of a debug build, whose code is many times as large, and of one that maps the whole C library,
    // only its own memory counts.
    let ships = cfg!(all(target_env = "musl", not(debug_assertions)));
    let counted = if ships { rss } else { anonymous };
    assert!(counted <= RSS_KIB_MAX, "{counted} KiB");
}

#[test]
fn asks_are_answered_as_fast_as_they_come() {
    let (directory, port) = (Directory::new(), free_port());
    let _broker = broker(&directory, port);
    let names: Vec<String> = (0..100).map(cluster).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut witness = witness(&parts::config(&directory, port, &names, "1s"));
    witness.wait_for("listening");
    let mut load = Load::connect(port, names.len());
    let rounds = if cfg!(debug_assertions) { 20 } else { 400 };
    load.ask_everywhere();
    let (began, cpu) = (Instant::now(), witness.cpu_ticks());
    for _ in 0..rounds {
        load.ask_everywhere();
    }
    let (took, cpu) = (began.elapsed().as_secs_f64(), (witness.cpu_ticks() - cpu) as f64 / 100.0);
    let asks = f64::from(rounds * 100);
    println!(
        "{asks} asks in {took:.2} s: {:.0} a second through the broker on this machine; {:.0} a second of the witness's processor time",
        asks / took,
        asks / cpu.max(0.01)
    );
}

/// A plain MQTT client that asks in many clusters at once and counts the answers.
struct Load {
    stream: BufReader<TcpStream>,
    sealers: Vec<(String, Sealer)>,
    seq: u64,
    answered: usize,
}

impl Load {
    fn connect(port: u16, clusters: usize) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_nodelay(true).unwrap();
        let from = me();
        let sealers = (0..clusters).map(|n| {
            let sealer =
                Sealer::new(&keyring(&cluster(n), KEY), Kind::Ask, Sender::Host(from.host), from.life);
            (format!("palisade/{}/witness/ask/{}", cluster(n), from.host), sealer.unwrap())
        });
        let mut load = Self {
            sealers: sealers.collect(),
            stream: BufReader::with_capacity(1 << 16, stream),
            seq: 0,
            answered: 0,
        };
        load.send(&packet(0x10, &[&[0, 4], &b"MQTT"[..], &[4, 2, 0, 60], &[0, 4], b"load"]));
        assert_eq!(load.receive().0, 0x20, "CONNACK");
        let filter = format!("palisade/+/witness/answer/{}", from.host);
        load.send(&packet(0x82, &[&[0, 1], &string(&filter), &[0]]));
        assert_eq!(load.receive().0, 0x90, "SUBACK");
        load
    }

    /// One beacon or ask in each cluster, all at once; waits for as many answers.
    fn ask_everywhere(&mut self) {
        self.seq += 1;
        let from = me();
        let view: Names = [from].into_iter().collect();
        let kind = AskKind::Ordinary { incumbent: true };
        let drift = Drift { ppm: 10_000 };
        let ask = Ask { from, seq: self.seq, kind, view, lease: Duration::ms(LEASE_MS), drift };
        let (mut message, mut datagram) = ([0; MAX_DATAGRAM], [0; MAX_DATAGRAM]);
        let len = wire::encode_ask(&ask, &mut message).unwrap();
        let mut all = Vec::new();
        for (topic, sealer) in &mut self.sealers {
            let len = sealer.seal(self.seq, &message[..len], &mut datagram).unwrap();
            all.extend(packet(0x30, &[&string(topic), &datagram[..len]]));
        }
        self.send(&all);
        for _ in 0..self.sealers.len() {
            let (kind, body) = self.receive();
            assert_eq!(kind, 0x30, "a PUBLISH at QoS 0, not retained: {body:?}");
            self.answered += 1;
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    fn receive(&mut self) -> (u8, Vec<u8>) {
        let mut byte = || {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap();
            byte[0]
        };
        let kind = byte();
        let (mut len, mut shift) = (0, 0);
        loop {
            let next = byte();
            len |= usize::from(next & 0x7f) << shift;
            shift += 7;
            if next & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; len];
        self.stream.read_exact(&mut body).unwrap();
        (kind, body)
    }
}

fn me() -> Incarnation {
    Incarnation::new(HostId::new(0).unwrap(), *b"loadtest")
}

/// An MQTT string: its length, then its bytes.
fn string(text: &str) -> Vec<u8> {
    let mut bytes = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

fn packet(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let (mut bytes, mut len) = (vec![kind], body.len());
    loop {
        let more = len > 0x7f;
        bytes.push(u8::try_from(len & 0x7f).unwrap() | if more { 0x80 } else { 0 });
        len >>= 7;
        if !more {
            break;
        }
    }
    bytes.extend(body);
    bytes
}
