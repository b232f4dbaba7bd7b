//! Over real sockets on loopback: what counts, what is dropped and counted, what a second link is good for.

use std::net::{SocketAddr, UdpSocket};

use palisade_proto::message::{Desired, HealthClass, Presence};
use palisade_proto::seal::RootKey;
use palisade_proto::{Drift, Duration, LifeName, Names, WorkloadSet};

use super::*;
use crate::testing::run;

const MACHINE: [u8; 16] = [7; 16];

/// Two hosts with `links` links each, all on loopback.
fn cluster(links: usize) -> Cluster {
    let free = |_| UdpSocket::bind("127.0.0.1:0").unwrap();
    let held: Vec<Vec<UdpSocket>> = (0..2).map(|_| (0..links).map(free).collect()).collect();
    let hosts = held.iter().enumerate().map(|(id, sockets)| {
        let links: Vec<String> =
            sockets.iter().map(|socket| format!("\"{}\"", socket.local_addr().unwrap())).collect();
        format!(
            "[[host]]\nid = {id}\nname = \"h{id}\"\nmachine = \"0000000{}-0000-0000-0000-000000000001\"\nlinks = [{}]\n",
            id + 1,
            links.join(", ")
        )
    });
    let text = format!(
        "[cluster]\nname = \"t\"\nkeys = [ {{ id = 1, file = \"/k\" }} ]\n{}",
        hosts.collect::<String>()
    );
    Cluster::parse(&text, "t").unwrap()
}

fn ring(cluster: &str, id: u8, key: u8) -> Keyring {
    Keyring::new(cluster, [(id, RootKey::new([key; 32]))]).unwrap()
}

fn life(host: u8, life: u8) -> Incarnation {
    Incarnation::new(HostId::new(host).unwrap(), [life; 8])
}

fn heartbeat(from: Incarnation, seq: Seq) -> Heartbeat {
    Heartbeat {
        from,
        seq,
        machine: MACHINE,
        speaks: 1,
        presence: Presence::Joining,
        silent: false,
        quorate: false,
        found: None,
        digest: [0; 8],
        lease: Duration::ms(1000),
        drift: Drift { ppm: 10_000 },
        electorate: Names::new(),
        dead: Names::new(),
        fenced: Names::new(),
        cut: Names::new(),
        ails: Default::default(),
        wishes: palisade_proto::message::Wishes::default(),
        walls: Names::new(),
        walled: Names::new(),
        view: Names::new(),
        heard: Names::new(),
        echo: Default::default(),
        grants: Default::default(),
        lock: None,
        busy: WorkloadSet::EMPTY,
        refused: WorkloadSet::EMPTY,
        awaits: Names::new(),
        place: Default::default(),
        desired: Desired::default(),
        health: HealthClass::Healthy,
        load: 0,
        watchdog_bound: Duration(0),
    }
}

fn links(cluster: &Cluster, me: Incarnation) -> (Links, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    (Links::open(cluster, me, ring("t", 1, 1), counters.clone()).unwrap(), counters)
}

fn address(cluster: &Cluster, host: usize, link: usize) -> SocketAddr {
    cluster.hosts()[host].links()[link]
}

/// `message` as the life `from` would send it under these keys.
fn sealed(ring: Keyring, kind: Kind, from: Incarnation, seq: Seq, message: &[u8]) -> Vec<u8> {
    let mut datagram = [0; MAX_DATAGRAM];
    let mut sealer = Sealer::new(&ring, kind, Sender::Host(from.host), from.life).unwrap();
    let len = sealer.seal(seq, message, &mut datagram).unwrap();
    datagram[..len].to_vec()
}

fn packet(ring: Keyring, heartbeat: &Heartbeat) -> Vec<u8> {
    let mut message = [0; MAX_MESSAGE];
    let len = wire::encode_heartbeat(heartbeat, &mut message).unwrap();
    sealed(ring, Kind::Heartbeat, heartbeat.from, heartbeat.seq, &message[..len])
}

#[test]
fn a_heartbeat_goes_from_host_to_host() {
    run(async {
        let cluster = cluster(1);
        let (mut a, _) = links(&cluster, life(0, 1));
        let (mut b, counters) = links(&cluster, life(1, 1));
        let said = heartbeat(life(0, 1), 5);
        a.send(&said);
        assert_eq!(*b.recv().await, said);
        assert_eq!(counters.received.value(), 1);
        // The same seq again would use a nonce twice: it does not leave.
        a.send(&heartbeat(life(0, 1), 5));
        a.send(&heartbeat(life(0, 1), 6));
        assert_eq!(b.recv().await.seq, 6);
    });
}

#[test]
fn safe_7_what_is_not_a_new_heartbeat_of_a_peer_is_counted_and_dropped() {
    run(async {
        let cluster = cluster(1);
        let (mut b, counters) = links(&cluster, life(1, 1));
        let good = |seq| packet(ring("t", 1, 1), &heartbeat(life(0, 1), seq));
        let mut other_version = good(50);
        other_version[0] ^= 0x40;
        let mut flipped = good(51);
        *flipped.last_mut().unwrap() ^= 1;
        let mut own = heartbeat(life(1, 9), 9);
        own.machine = cluster.hosts()[1].machine().bytes();
        let random: Vec<u8> =
            (0u32..300).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 | 0x80).collect();

        let table: Vec<(&str, Vec<u8>, Dropped)> = vec![
            ("nothing", Vec::new(), Dropped::Size),
            ("cut to 10 bytes", good(52)[..10].to_vec(), Dropped::Size),
            ("too long", vec![1; MAX_DATAGRAM + 1], Dropped::Size),
            ("cut by one byte", good(53).split_last().unwrap().1.to_vec(), Dropped::Forged),
            ("a bit flipped", flipped, Dropped::Forged),
            ("random", random, Dropped::Version),
            ("another version", other_version, Dropped::Version),
            ("another cluster's", packet(ring("u", 1, 1), &heartbeat(life(0, 1), 54)), Dropped::Forged),
            (
                "another key under our id",
                packet(ring("t", 1, 2), &heartbeat(life(0, 1), 55)),
                Dropped::Forged,
            ),
            ("an old key", packet(ring("t", 9, 1), &heartbeat(life(0, 1), 56)), Dropped::UnknownKey),
            ("an ask", sealed(ring("t", 1, 1), Kind::Ask, life(0, 1), 57, b"x"), Dropped::Undecodable),
            (
                "no message",
                sealed(ring("t", 1, 1), Kind::Heartbeat, life(0, 1), 5000, b"x"),
                Dropped::Undecodable,
            ),
            ("of nobody", packet(ring("t", 1, 1), &heartbeat(life(5, 1), 59)), Dropped::UnknownHost),
            ("our own", packet(ring("t", 1, 1), &heartbeat(life(1, 1), 60)), Dropped::OwnEcho),
            ("our earlier life's", packet(ring("t", 1, 1), &own), Dropped::OldLife),
            ("replayed", good(99), Dropped::Replayed),
        ];
        let intruder = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = address(&cluster, 1, 0);
        intruder.send_to(&good(100), to).unwrap();
        assert_eq!(b.recv().await.seq, 100);
        for (n, (what, datagram, why)) in (1u64..).zip(&table) {
            let before = counters.dropped(*why);
            intruder.send_to(datagram, to).unwrap();
            // What follows is the next heartbeat that gets through: the one before it did not.
            intruder.send_to(&good(100 + n), to).unwrap();
            assert_eq!(b.recv().await.seq, 100 + n, "{what}");
            assert_eq!(counters.dropped(*why), before + 1, "{what}");
        }
        for seq in [1000, 1000, 1001] {
            intruder.send_to(&good(seq), to).unwrap();
        }
        assert_eq!((b.recv().await.seq, b.recv().await.seq), (1000, 1001));
        assert_eq!(counters.dropped(Dropped::Duplicate), 1);
        assert_eq!(counters.received.value(), 3 + table.len() as u64);
    });
}

#[test]
fn another_machine_under_our_own_name_reaches_the_engine() {
    run(async {
        let cluster = cluster(1);
        let (mut b, _) = links(&cluster, life(1, 1));
        let clone = heartbeat(life(1, 9), 9);
        let intruder = UdpSocket::bind("127.0.0.1:0").unwrap();
        intruder.send_to(&packet(ring("t", 1, 1), &clone), address(&cluster, 1, 0)).unwrap();
        assert_eq!(*b.recv().await, clone, "its machine is not the pinned one: an alarm");
    });
}

#[test]
fn a_second_link_carries_alone_and_its_copy_counts_for_link_health_only() {
    run(async {
        let cluster = cluster(2);
        let (mut a, _) = links(&cluster, life(0, 1));
        let (mut b, counters) = links(&cluster, life(1, 1));
        a.send(&heartbeat(life(0, 1), 1));
        assert_eq!(b.recv().await.seq, 1);
        a.send(&heartbeat(life(0, 1), 2));
        assert_eq!(b.recv().await.seq, 2);
        assert_eq!(counters.received.value(), 2);
        assert!(counters.dropped(Dropped::Duplicate) >= 1, "the copy of 1 was read before 2");
        assert_eq!(b.alarms(), Vec::<String>::new());

        // Only link 2 still carries.
        let datagram = packet(ring("t", 1, 1), &heartbeat(life(0, 1), 3));
        let wire = UdpSocket::bind("127.0.0.1:0").unwrap();
        wire.send_to(&datagram, address(&cluster, 1, 1)).unwrap();
        assert_eq!(b.recv().await.seq, 3);
    });
}

#[test]
fn a_link_without_its_address_is_an_alarm_and_the_other_one_works() {
    run(async {
        let text = cluster(1);
        let here = address(&text, 0, 0);
        // An address of the documentation network (RFC 5737): never here.
        let text = format!(
            "[cluster]\nname = \"t\"\nkeys = [ {{ id = 1, file = \"/k\" }} ]\n\
             [[host]]\nid = 0\nname = \"h0\"\nmachine = \"00000001-0000-0000-0000-000000000001\"\n\
             links = [\"192.0.2.1:7411\", \"{here}\"]\n\
             [[host]]\nid = 1\nname = \"h1\"\nmachine = \"00000002-0000-0000-0000-000000000001\"\n\
             links = [\"192.0.2.2:7411\", \"{}\"]\n",
            address(&text, 1, 0)
        );
        let cluster = Cluster::parse(&text, "t").unwrap();
        let (mut a, counters) = links(&cluster, life(0, 1));
        let (mut b, _) = links(&cluster, life(1, 1));
        a.send(&heartbeat(life(0, 1), 1));
        assert_eq!(b.recv().await.seq, 1);
        assert_eq!(counters.send_failed.value(), 1);
        let alarms = a.alarms();
        assert!(alarms.iter().any(|alarm| alarm.contains("192.0.2.1:7411")), "{alarms:?}");
    });
}

#[test]
fn a_reload_keeps_sockets_and_takes_the_new_key() {
    run(async {
        let cluster = cluster(1);
        let (mut a, _) = links(&cluster, life(0, 1));
        let (mut b, counters) = links(&cluster, life(1, 1));
        // Rotation: first both keys open everywhere, then the new one seals.
        let both = |first: (u8, u8), second: (u8, u8)| {
            let key = |(id, byte)| (id, RootKey::new([byte; 32]));
            Keyring::new("t", [key(first), key(second)]).unwrap()
        };
        b.reload(&cluster, both((1, 1), (2, 2))).unwrap();
        a.send(&heartbeat(life(0, 1), 1));
        assert_eq!(b.recv().await.seq, 1);
        a.reload(&cluster, both((2, 2), (1, 1))).unwrap();
        a.send(&heartbeat(life(0, 1), 2));
        assert_eq!(b.recv().await.seq, 2);
        assert_eq!(counters.dropped(Dropped::UnknownKey), 0);
        let LifeName(name) = life(0, 1).life;
        assert_eq!(name, [1; 8]);
    });
}
