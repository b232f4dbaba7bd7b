//! A host as far as the witness sees it.

use std::time::{Duration, Instant};

use palisade_proto::seal::{Keyring, Kind, Opener, RootKey, Sealer, Sender};
use palisade_proto::wire::{self, MAX_DATAGRAM};
use palisade_proto::{Answer, Ask, AskKind, Drift, HostId, Incarnation, Names, Verdict};
use rumqttc::{Client, Connection, Event, Incoming, MqttOptions, QoS};

use super::{KEY, LIMIT};

pub(crate) const ORDINARY: AskKind = AskKind::Ordinary { incumbent: false };
pub(crate) const INCUMBENT: AskKind = AskKind::Ordinary { incumbent: true };

/// Between two asks of one host that repeats itself.
const PACE: Duration = Duration::from_millis(10);

/// A host that publishes asks and reads answers.
pub(crate) struct Host {
    pub(crate) me: Incarnation,
    cluster: String,
    lease: palisade_proto::Duration,
    seq: u64,
    sealer: Sealer,
    opener: Opener<8>,
    client: Client,
    connection: Connection,
}

pub(crate) fn life(host: u8) -> Incarnation {
    Incarnation::new(HostId::new(host).unwrap(), [0x40 + host; 8])
}

pub(crate) fn keyring(cluster: &str, key: [u8; 32]) -> Keyring {
    Keyring::new(cluster, [(1, RootKey::new(key))]).unwrap()
}

impl Host {
    /// Connects and subscribes to the answers.
    #[track_caller]
    pub(crate) fn new(port: u16, cluster: &str, host: u8, lease_ms: u64) -> Self {
        Self::with_key(port, cluster, host, lease_ms, KEY)
    }

    #[track_caller]
    pub(crate) fn with_key(port: u16, cluster: &str, host: u8, lease_ms: u64, key: [u8; 32]) -> Self {
        let me = life(host);
        let mut options = MqttOptions::new(format!("{cluster}-{host}-{:x}", rand_id()), "127.0.0.1", port);
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, connection) = Client::new(options, 64);
        let ring = keyring(cluster, key);
        let mut host = Self {
            me,
            cluster: cluster.to_owned(),
            lease: palisade_proto::Duration::ms(lease_ms),
            seq: 0,
            sealer: Sealer::new(&ring, Kind::Ask, Sender::Host(me.host), me.life).unwrap(),
            opener: Opener::new(ring, Kind::Answer),
            client,
            connection,
        };
        let topic = format!("palisade/{cluster}/witness/answer/{}", me.host);
        host.client.subscribe(topic, QoS::AtMostOnce).unwrap();
        host.wait_until(|event| matches!(event, Event::Incoming(Incoming::SubAck(_))));
        host
    }

    /// A sealed ask with the next seq.
    pub(crate) fn sealed(&mut self, kind: AskKind, view: &[Incarnation]) -> Vec<u8> {
        self.seq += 1;
        let ask = Ask {
            from: self.me,
            seq: self.seq,
            kind,
            view: view.iter().copied().collect::<Names>(),
            lease: self.lease,
            drift: Drift { ppm: 10_000 },
        };
        let (mut message, mut datagram) = ([0; MAX_DATAGRAM], [0; MAX_DATAGRAM]);
        let len = wire::encode_ask(&ask, &mut message).unwrap();
        let len = self.sealer.seal(self.seq, &message[..len], &mut datagram).unwrap();
        datagram[..len].to_vec()
    }

    /// Publishes with the next wait.
    pub(crate) fn publish(&mut self, topic: &str, retain: bool, payload: Vec<u8>) {
        self.client.publish(topic, QoS::AtMostOnce, retain, payload).unwrap();
    }

    /// Publishes and waits until the broker has it.
    #[track_caller]
    pub(crate) fn deliver(&mut self, topic: &str, retain: bool, payload: Vec<u8>) {
        self.client.publish(topic, QoS::AtLeastOnce, retain, payload).unwrap();
        self.wait_until(|event| matches!(event, Event::Incoming(Incoming::PubAck(_))));
    }

    pub(crate) fn topic(&self) -> String {
        format!("palisade/{}/witness/ask/{}", self.cluster, self.me.host)
    }

    /// Publishes an ask; the answer that comes first must be to it.
    #[track_caller]
    pub(crate) fn ask(&mut self, kind: AskKind, view: &[Incarnation]) -> Verdict {
        let sealed = self.sealed(kind, view);
        let topic = self.topic();
        self.publish(&topic, false, sealed);
        let answer = self.next_answer();
        assert_eq!((answer.to, answer.ask), (self.me, self.seq), "an answer to something else: {answer:?}");
        answer.verdict
    }

    /// Asks until the answer is `verdict`; the answers before it, without repetitions.
    #[track_caller]
    pub(crate) fn ask_until(
        &mut self,
        kind: AskKind,
        view: &[Incarnation],
        verdict: Verdict,
    ) -> Vec<Verdict> {
        let end = Instant::now() + LIMIT;
        let mut before = Vec::new();
        loop {
            let got = self.ask(kind, view);
            if got == verdict {
                return before;
            }
            if before.last() != Some(&got) {
                before.push(got);
            }
            assert!(Instant::now() < end, "never {verdict:?}, but {before:?}");
            // Not faster than a host would: the machine is shared with the other tests.
            let _ = self.connection.recv_timeout(PACE);
        }
    }

    /// The next answer, whatever it is to.
    #[track_caller]
    pub(crate) fn next_answer(&mut self) -> Answer {
        let mut payload = Vec::new();
        self.wait_until(|event| {
            let Event::Incoming(Incoming::Publish(publish)) = event else { return false };
            assert!(!publish.retain, "an answer is never retained");
            payload = publish.payload.to_vec();
            true
        });
        let mut out = [0; MAX_DATAGRAM];
        let opened = self.opener.open(&payload, &mut out).unwrap();
        wire::decode_answer(opened.life.0, opened.seq, opened.message).unwrap()
    }

    /// Polls the connection until an event is the one; through losses of the connection.
    #[track_caller]
    pub(crate) fn wait_until(&mut self, mut is_it: impl FnMut(&Event) -> bool) {
        let end = Instant::now() + LIMIT;
        while Instant::now() < end {
            if let Ok(Ok(event)) = self.connection.recv_timeout(Duration::from_millis(100))
                && is_it(&event)
            {
                return;
            }
        }
        panic!("nothing came within {LIMIT:?}");
    }
}

fn rand_id() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::hash::RandomState::new().build_hasher().finish()
}
