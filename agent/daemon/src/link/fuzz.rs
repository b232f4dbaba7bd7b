//! Datagrams as they come out of the socket: raw, and as packets that are truly sealed but say anything in any order.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a broken property ends the run"
)]

use std::collections::BTreeMap;

use palisade_proto::LifeName;
use palisade_proto::fuzz::Bytes;
use palisade_proto::seal::RootKey;

use super::*;

/// Packets of one run.
const PACKETS_MAX: usize = 64;
/// The kinds of packet that a sealed byte run is made of; the last is no heartbeat.
const KINDS: [Kind; 4] = [Kind::Heartbeat, Kind::Heartbeat, Kind::Heartbeat, Kind::Ask];

fn ring(key: u8) -> Keyring {
    Keyring::new("t", [(1, RootKey::new([key; 32]))]).unwrap()
}

/// Host a of three, without a socket.
fn links() -> Links {
    let cluster = crate::fuzz::cluster();
    let me = Incarnation::new(HostId::new(0).unwrap(), [7; 8]);
    let peers = cluster.hosts().iter().filter(|host| host.id() != me.host);
    Links {
        me,
        machine: cluster.host(me.host).unwrap().machine().bytes(),
        sockets: Vec::new(),
        peers: peers
            .map(|host| Peer {
                host: host.id(),
                name: host.name().to_owned(),
                addresses: host.links().to_vec(),
                heard: vec![None; 1],
            })
            .collect(),
        sealer: Sealer::new(&ring(1), Kind::Heartbeat, Sender::Host(me.host), me.life).unwrap(),
        last_seq: None,
        opener: Box::new(Opener::new(ring(1), Kind::Heartbeat)),
        recent: Recent::default(),
        counters: Arc::default(),
        datagram: Box::new([0; MAX_DATAGRAM + 1]),
        message: Box::new([0; MAX_DATAGRAM]),
        turn: 0,
    }
}

impl Links {
    fn receive(&mut self, datagram: &[u8]) -> Result<Arc<Heartbeat>, Dropped> {
        let len = datagram.len().min(self.datagram.len());
        self.datagram[..len].copy_from_slice(&datagram[..len]);
        self.read(0, len)
    }
}

/// SAFE-7: nothing unsealed, damaged, foreign or too long is taken; what is sealed is taken once, as its sender's and under its
/// own seq, never after a newer one of the same life, and never as this host's own.
///
/// # Panics
/// If not.
pub fn heartbeat_sealed(bytes: &[u8]) {
    let mut links = links();
    let mut bytes = Bytes::new(bytes);
    if bytes.byte().is_multiple_of(4) {
        let dropped = links.receive(bytes.rest());
        assert!(dropped.is_err() && links.opener.lives() == 0, "taken without a key");
        return assert!(bytes.rest().len() <= MAX_DATAGRAM || dropped == Err(Dropped::Size));
    }
    let mut newest: BTreeMap<Incarnation, Seq> = BTreeMap::new();
    for _ in 0..PACKETS_MAX {
        if bytes.is_empty() {
            break;
        }
        packet(&mut links, &mut newest, &mut bytes);
    }
}

fn packet(links: &mut Links, newest: &mut BTreeMap<Incarnation, Seq>, bytes: &mut Bytes<'_>) {
    // Host 3 is not configured; four lives of each host are what is remembered.
    let life = match bytes.byte() % 5 {
        4 => links.me.life,
        life => LifeName([life; 8]),
    };
    let from = Incarnation { host: HostId::new(bytes.byte() % 4).unwrap(), life };
    let (kind, key) = (KINDS[bytes.below(KINDS.len())], if bytes.byte() == 0xff { 2 } else { 1 });
    let (seq, message) = (u64::from(bytes.byte()), bytes.part());
    let mut datagram = [0; MAX_DATAGRAM];
    let mut sealer = Sealer::new(&ring(key), kind, Sender::Host(from.host), from.life).unwrap();
    let Ok(len) = sealer.seal(seq, message, &mut datagram) else {
        return assert!(message.len() > MAX_MESSAGE, "{} bytes are not sealed", message.len());
    };
    let datagram = &mut datagram[..len];
    let damage = bytes.byte();
    if damage >= 0xf0 {
        datagram[usize::from(bytes.short()) % len] ^= 1 << (damage & 7);
        let lives = links.opener.lives();
        assert!(links.receive(datagram).is_err(), "damaged and taken");
        return assert_eq!(links.opener.lives(), lives, "a damaged packet takes a key's place");
    }
    let heard = links.receive(datagram);
    let own_key = key == 1 && kind == Kind::Heartbeat;
    let Ok(heartbeat) = heard else { return };
    assert!(own_key, "of another key or kind and taken");
    assert_eq!((heartbeat.from, heartbeat.seq), (from, seq), "another sender");
    assert_eq!(wire::decode_heartbeat(from, seq, message).as_ref(), Ok(&*heartbeat));
    assert_ne!(from, links.me, "its own packet");
    if from.host == links.me.host {
        return assert_ne!(heartbeat.machine, links.machine, "an earlier life of this machine speaks");
    }
    assert!(from.host.number() < 3, "a host that is not configured");
    let last = newest.insert(from, seq);
    assert!(last.is_none_or(|last| last < seq), "seq {seq} after {last:?}");
    assert_eq!(links.receive(datagram), Err(Dropped::Duplicate), "taken twice");
}
