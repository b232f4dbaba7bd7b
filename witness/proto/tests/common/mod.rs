//! Heartbeats to test with.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::{BTreeMap, BTreeSet};

use palisade_proto::message::{
    Ail, Desired, Echo, Grant, HealthClass, MAX_AILS, Maintenance, Place, Presence, Wishes,
};
use palisade_proto::{
    Drift, Duration, Founding, Heartbeat, HostId, Incarnation, MAX_HOSTS, Names, WorkloadId, WorkloadSet,
};
use proptest::prelude::*;

pub(crate) fn name(host: u8, life: u8) -> Incarnation {
    Incarnation::new(HostId::new(host).unwrap(), [life; 8])
}

/// A heartbeat that says nothing.
pub(crate) fn bare(from: Incarnation, seq: u64) -> Heartbeat {
    Heartbeat {
        from,
        seq,
        machine: [0x4c; 16],
        speaks: 1,
        presence: Presence::Joining,
        silent: true,
        quorate: false,
        found: None,
        digest: [0xd1; 8],
        lease: Duration::ms(1000),
        drift: Drift { ppm: 10_000 },
        electorate: Names::new(),
        dead: Names::new(),
        fenced: Names::new(),
        cut: Names::new(),
        ails: heapless::Vec::new(),
        wishes: palisade_proto::message::Wishes::default(),
        walls: Names::new(),
        walled: Names::new(),
        view: Names::new(),
        heard: Names::new(),
        echo: heapless::Vec::new(),
        grants: heapless::Vec::new(),
        lock: None,
        busy: WorkloadSet::EMPTY,
        refused: WorkloadSet::EMPTY,
        awaits: Names::new(),
        place: heapless::Vec::new(),
        desired: Desired::default(),
        health: HealthClass::Healthy,
        load: 0,
        watchdog_bound: Duration::ms(0),
    }
}

/// All that `hosts` hosts can say at once: every set full, `dead_elsewhere` dead names outside the electorate, seqs of a
/// host that has been up for ten years.
pub(crate) fn full(hosts: u8, dead_elsewhere: u8) -> Heartbeat {
    const TEN_YEARS_US: u64 = 10 * 365 * 86_400 * 1_000_000;
    let electorate: Names = (0..hosts).map(|host| name(host, 0xe0)).collect();
    let elsewhere = (0..dead_elsewhere).map(|n| name(n % hosts, 0x10 + n / hosts));
    let dead: Names = electorate.iter().chain(elsewhere).collect();
    let founding = Founding { decider: name(0, 0xe0), epoch: TEN_YEARS_US };
    let every: WorkloadSet = (0..=255).map(WorkloadId).collect();
    let echo: Vec<Echo> =
        electorate.iter().map(|of| Echo { of, seq: TEN_YEARS_US + u64::from(of.host.number()) }).collect();
    let place =
        (0..128).map(|workload| Place { workload: WorkloadId(workload), on: name(workload % hosts, 0xe0) });
    Heartbeat {
        presence: Presence::Admitted,
        silent: false,
        quorate: true,
        found: Some(founding),
        fenced: dead.clone(),
        dead,
        cut: electorate.clone(),
        view: electorate.clone(),
        heard: electorate.clone(),
        awaits: electorate.clone(),
        electorate,
        grants: echo.iter().map(|echo| Grant { to: echo.of, seq: echo.seq - 1 }).collect(),
        echo: echo.into_iter().collect(),
        lock: Some(founding),
        busy: every,
        refused: every,
        place: place.collect(),
        desired: Desired { version: 1_000_000, stopped: every },
        health: HealthClass::Failed,
        load: u16::MAX,
        watchdog_bound: Duration::secs(3600),
        ..bare(name(0, 0xe0), TEN_YEARS_US)
    }
}

/// Any heartbeat that is consistent in itself and names no more than fits.
pub(crate) fn any_heartbeat() -> impl Strategy<Value = Heartbeat> {
    let pool = prop::collection::btree_set((0_u8..32, any::<[u8; 8]>()), 1..=64);
    let incarnation = |(host, life): (u8, [u8; 8])| Incarnation::new(HostId::new(host).unwrap(), life);
    let pool = pool.prop_map(move |pool| pool.into_iter().map(incarnation).collect::<Vec<_>>());
    pool.prop_flat_map(|pool| {
        let sets = (any::<[u64; 7]>(), any::<Option<[u64; 2]>>(), any_care());
        (Just(pool), sets, any::<[u8; 24]>(), any_numbers(), any_lists())
    })
    .prop_map(|(pool, masks, bytes, numbers, lists)| assemble(&pool, masks, bytes, &numbers, &lists))
}

#[derive(Debug, Clone)]
struct Numbers {
    presence: u8,
    flags: (bool, bool),
    founding: (bool, usize, u64),
    lock: (bool, usize, u64),
    timing: (u64, u32, u64),
    desired: u64,
    health: u8,
    load: u16,
    seq: u64,
    speaks: u8,
}

fn any_numbers() -> impl Strategy<Value = Numbers> {
    let founding = || (any::<bool>(), any::<usize>(), any::<u64>());
    (
        (0_u8..4, any::<(bool, bool)>(), founding(), founding(), any::<(u64, u32, u64)>()),
        (any::<u64>(), 0_u8..3, any::<u16>(), any::<u64>(), any::<u8>()),
    )
        .prop_map(|((presence, flags, founding, lock, timing), (desired, health, load, seq, speaks))| {
            Numbers { presence, flags, founding, lock, timing, desired, health, load, seq, speaks }
        })
}

type Care = (BTreeSet<Ail>, Wishes);

fn any_care() -> impl Strategy<Value = Care> {
    let maintained = prop::collection::btree_map(0..MAX_HOSTS as u8, any::<u32>(), 0..=MAX_HOSTS);
    let maintained = prop_oneof![Just(Default::default()), maintained];
    let wishes = (any::<Option<(u64, u32, u64)>>(), maintained).prop_map(|(wishes, maintained)| {
        wishes.map_or(Wishes::default(), |(version, drained, disarmed)| Wishes {
            version,
            drained,
            disarmed: Duration(disarmed),
            maintenance: maintained
                .into_iter()
                .map(|(id, left)| Maintenance {
                    host: HostId::new(id).unwrap(),
                    left: Duration::secs(60 * u64::from(left)),
                })
                .collect(),
        })
    });
    (prop::collection::btree_set(any::<Ail>(), 0..=MAX_AILS), wishes)
}

#[derive(Debug, Clone)]
struct Lists {
    echo: Vec<(usize, u64, Option<u64>)>,
    place: Vec<(u8, usize)>,
    busy: Vec<u8>,
    refused: Vec<u8>,
    stopped: Vec<u8>,
}

fn any_lists() -> impl Strategy<Value = Lists> {
    let set = || prop::collection::vec(any::<u8>(), 0..=32);
    (
        prop::collection::vec((any::<usize>(), any::<u64>(), any::<Option<u64>>()), 0..=32),
        prop::collection::vec((any::<u8>(), any::<usize>()), 0..=100),
        set(),
        set(),
        set(),
    )
        .prop_map(|(echo, place, busy, refused, stopped)| Lists { echo, place, busy, refused, stopped })
}

fn assemble(
    pool: &[Incarnation],
    (masks, walls, care): ([u64; 7], Option<[u64; 2]>, Care),
    bytes: [u8; 24],
    numbers: &Numbers,
    lists: &Lists,
) -> Heartbeat {
    let pick = |at: usize| pool[at % pool.len()];
    let set = |mask: u64| -> Names {
        pool.iter().enumerate().filter(|(at, _)| mask & (1 << at) != 0).map(|(_, name)| *name).collect()
    };
    let founding =
        |(some, at, epoch): (bool, usize, u64)| some.then(|| Founding { decider: pick(at), epoch });
    // One echo a host, in the order of names.
    let echoes: BTreeMap<HostId, (Incarnation, u64, Option<u64>)> =
        lists.echo.iter().map(|&(at, seq, grant)| (pick(at).host, (pick(at), seq, grant))).collect();
    let echo = echoes.values().map(|&(of, seq, _)| Echo { of, seq });
    let grants = echoes.values().filter_map(|&(to, seq, grant)| {
        let granted = grant.map(|behind| seq - behind % seq.max(1))?;
        // A delta of the whole 64 bits has no code.
        (seq - granted < u64::MAX).then_some(Grant { to, seq: granted })
    });
    Heartbeat {
        from: pool[0],
        seq: numbers.seq,
        machine: bytes[..16].try_into().unwrap(),
        speaks: numbers.speaks,
        presence: [Presence::Joining, Presence::Admitted, Presence::Away, Presence::Left]
            [usize::from(numbers.presence)],
        silent: numbers.flags.0,
        quorate: numbers.flags.1,
        found: founding(numbers.founding),
        digest: bytes[16..].try_into().unwrap(),
        lease: Duration(numbers.timing.0),
        drift: Drift { ppm: numbers.timing.1 },
        electorate: set(masks[0]),
        dead: set(masks[1] | masks[2]),
        fenced: set(masks[2]),
        cut: set(masks[3]),
        walls: walls.map_or(Names::new(), |[more, walled]| set(more | walled)),
        walled: walls.map_or(Names::new(), |[_, walled]| set(walled)),
        view: set(masks[4]),
        heard: set(masks[5]),
        echo: echo.collect(),
        grants: grants.collect(),
        lock: founding(numbers.lock),
        busy: WorkloadSet::from_bytes(&lists.busy),
        refused: WorkloadSet::from_bytes(&lists.refused),
        awaits: set(masks[6]),
        place: lists
            .place
            .iter()
            .map(|&(workload, at)| Place { workload: WorkloadId(workload), on: pick(at) })
            .collect(),
        desired: Desired { version: numbers.desired, stopped: WorkloadSet::from_bytes(&lists.stopped) },
        health: [HealthClass::Healthy, HealthClass::Degraded, HealthClass::Failed]
            [usize::from(numbers.health)],
        load: numbers.load,
        ails: care.0.into_iter().collect(),
        wishes: care.1,
        watchdog_bound: Duration(numbers.timing.2),
    }
}
