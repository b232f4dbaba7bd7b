//! What a peer says: a sound word of a live member, with any part of it changed.

use palisade_proto::fuzz::Bytes;
use palisade_proto::message::{Desired, Echo, Grant, HealthClass, Maintenance, Place, Presence, Wishes};
use palisade_proto::{
    Drift, Duration, Founding, Heartbeat, HostId, Incarnation, Names, WorkloadId, WorkloadSet,
};

use super::bench::Bench;

/// The cold start that an admitted life stems from.
pub(super) const FOUND: Founding = Founding { decider: peer(1, 0), epoch: 1 };

/// A life of a host.
pub(super) const fn peer(host: u8, life: u8) -> Incarnation {
    match HostId::new(host) {
        Some(host) => Incarnation::new(host, [life; 8]),
        None => unreachable!(),
    }
}

/// One of four lives of host 0, 1, 2, or 3, which is not configured.
pub(super) fn life(bytes: &mut Bytes<'_>) -> Incarnation {
    let byte = bytes.byte();
    peer((byte & 7) % 4, byte >> 3 & 3)
}

/// Any set of these lives, and this host's own.
fn names(bench: &Bench, bytes: &mut Bytes<'_>) -> Names {
    let mask = bytes.short();
    let mut names: Names =
        (0..15).filter(|bit| mask >> bit & 1 == 1).map(|bit| peer(bit % 4, bit / 4)).collect();
    if mask >> 15 == 1 {
        names.insert(bench.engine.me());
    }
    names
}

/// A heartbeat as a member of a's view would say it now, then changed as the bytes say.
pub(super) fn heartbeat(bench: &Bench, bytes: &mut Bytes<'_>) -> Heartbeat {
    let me = bench.engine.me();
    let from = life(bytes);
    let all: Names = [me, peer(1, 0), peer(2, 0), from].into_iter().collect();
    let machine = bench.cluster.host(from.host).map_or([0; 16], |host| host.machine().bytes());
    let timing = bench.cluster.timing();
    let mut word = Heartbeat {
        from,
        seq: bench.now().0 * 1000,
        machine,
        speaks: 1,
        presence: Presence::Admitted,
        silent: false,
        quorate: true,
        found: bench.founding(),
        digest: bench.cluster.digest(),
        lease: timing.lease(),
        drift: timing.drift(),
        electorate: all.clone(),
        dead: Names::new(),
        fenced: Names::new(),
        cut: Names::new(),
        ails: Default::default(),
        wishes: palisade_proto::message::Wishes::default(),
        walls: Names::new(),
        walled: Names::new(),
        view: all.clone(),
        heard: all,
        echo: [Echo { of: me, seq: bench.last_seq }].into_iter().collect(),
        grants: [Grant { to: me, seq: bench.last_seq }].into_iter().collect(),
        lock: None,
        busy: WorkloadSet::EMPTY,
        refused: WorkloadSet::EMPTY,
        awaits: Names::new(),
        place: Default::default(),
        desired: Desired::default(),
        health: HealthClass::Healthy,
        load: 0,
        watchdog_bound: Duration(0),
    };
    for _ in 0..bytes.byte() % 8 {
        change(&mut word, bench, bytes);
    }
    word
}

fn change(word: &mut Heartbeat, bench: &Bench, bytes: &mut Bytes<'_>) {
    let workloads = |bytes: &mut Bytes<'_>| WorkloadSet::from_bytes(&[bytes.byte()]);
    match bytes.byte() % 24 {
        0 => word.seq = word.seq.wrapping_add(u64::from(bytes.byte())).wrapping_sub(128),
        1 => word.seq = bytes.word(),
        2 => word.machine = bytes.array(),
        3 => {
            word.presence = match bytes.byte() % 4 {
                0 => Presence::Joining,
                1 => Presence::Admitted,
                2 => Presence::Away,
                _ => Presence::Left,
            }
        }
        4 => word.silent = !word.silent,
        5 => word.quorate = !word.quorate,
        6 => word.found = founding(bench, bytes),
        7 => word.lock = founding(bench, bytes),
        8 => word.digest = bytes.array(),
        9 => word.lease = Duration(bytes.word()),
        10 => word.drift = Drift { ppm: bytes.short().into() },
        11 => word.electorate = names(bench, bytes),
        12 => word.dead = names(bench, bytes),
        13 => word.fenced = word.dead.clone(),
        14 => match bytes.byte() % 5 {
            0 => word.cut = names(bench, bytes),
            1 => word.walls = names(bench, bytes),
            2 => word.ails = (0..bytes.below(8)).map(|_| bench.probe(bytes)).collect(),
            3 => {
                let (version, disarmed) = (bytes.short().into(), Duration(bytes.short().into()));
                let maintained = (0..bytes.byte() % 4).map(|_| Maintenance {
                    host: HostId::new(bytes.byte() % 32).expect("below 32"),
                    left: Duration(bytes.short().into()),
                });
                let maintenance = maintained.collect();
                word.wishes = Wishes { version, drained: bytes.byte().into(), disarmed, maintenance };
            }
            _ => word.walled = names(bench, bytes),
        },
        15 => word.view = names(bench, bytes),
        16 => word.heard = names(bench, bytes),
        17 => word.echo = [Echo { of: life(bytes), seq: bytes.word() }].into_iter().collect(),
        18 => {
            word.grants.clear();
            let seq = bench.last_seq.wrapping_add(u64::from(bytes.byte())).wrapping_sub(8);
            word.grants = [Grant { to: bench.engine.me(), seq }].into_iter().collect();
        }
        19 => word.busy = workloads(bytes),
        20 => word.refused = workloads(bytes),
        21 => word.awaits = names(bench, bytes),
        22 => {
            let on = if bytes.byte().is_multiple_of(2) { bench.engine.me() } else { life(bytes) };
            // At most seven changes: there is room.
            let _ = word.place.push(Place { workload: WorkloadId(bytes.byte() % 3), on });
        }
        _ => {
            word.desired = Desired { version: bytes.short().into(), stopped: workloads(bytes) };
            word.health =
                if bytes.byte().is_multiple_of(2) { HealthClass::Failed } else { HealthClass::Degraded };
            word.watchdog_bound = Duration(bytes.short().into());
            word.load = bytes.short();
        }
    }
}

fn founding(bench: &Bench, bytes: &mut Bytes<'_>) -> Option<Founding> {
    match bytes.byte() % 4 {
        0 => None,
        1 => bench.engine.lock(),
        2 => Some(Founding { decider: bench.engine.me(), epoch: bench.last_seq }),
        _ => Some(Founding { decider: life(bytes), epoch: bytes.short().into() }),
    }
}
