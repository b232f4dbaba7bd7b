//! The bytes of a heartbeat.
//!
//! One table holds every incarnation that the heartbeat names, once; each set is a bit mask over that table and each
//! single name an index into it. That is what keeps 32 hosts below [`super::MAX_DATAGRAM`].

use heapless::Vec;
use serde::{Deserialize, Serialize};

use super::{
    CARE_VERSION, DecodeError, EncodeError, Field, HEARTBEAT_VERSION, VERSION, WALLS_VERSION, WireName,
    names_from_wire, whole, wire_name, write_as,
};
use crate::message::{
    Ail, Desired, Echo, Grant, HealthClass, MAX_AILS, MAX_NAMES, MAX_PLACES, Maintenance, Place, Presence,
    Wishes,
};
use crate::{
    Drift, Duration, Founding, Heartbeat, HostId, Incarnation, MAX_HOSTS, MAX_WORKLOADS, Names, Seq,
    WorkloadId, WorkloadSet,
};

const SILENT: u8 = 1;
const QUORATE: u8 = 2;

/// Set bits are members of the table, the first in the lowest bit.
type Mask = u64;

/// Table index of the decider, epoch.
type WireFounding = (u8, u64);

#[derive(Serialize, Deserialize)]
struct Body<'a> {
    machine: [u8; 16],
    speaks: u8,
    presence: u8,
    flags: u8,
    digest: [u8; 8],
    lease_ms: u64,
    drift_ppm: u32,
    table: Vec<WireName, MAX_NAMES>,
    found: Option<WireFounding>,
    lock: Option<WireFounding>,
    electorate: Mask,
    dead: Mask,
    fenced: Mask,
    cut: Mask,
    view: Mask,
    heard: Mask,
    awaits: Mask,
    echoed: Mask,
    /// One for each name in `echoed`, in table order: seq, then 0 for no grant or 1 + how far the granted seq lies behind.
    echoes: Vec<(u64, u64), MAX_HOSTS>,
    #[serde(borrow)]
    busy: &'a [u8],
    #[serde(borrow)]
    refused: &'a [u8],
    /// Workload, table index.
    place: Vec<(u8, u8), MAX_PLACES>,
    desired: u64,
    #[serde(borrow)]
    stopped: &'a [u8],
    health: u8,
    load: u16,
    watchdog_bound_ms: u64,
}

/// What version 2 says beyond version 1. It is written only when there is something to say: whoever reads version 1 alone goes on
/// hearing of everything else.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Walls {
    walls: Mask,
    walled: Mask,
}

/// What version 3 says beyond version 2. It, too, is written only when there is something to say.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Care {
    ails: Vec<Ail, MAX_AILS>,
    version: u64,
    drained: u32,
    disarmed_ms: u64,
}

const MINUTE: u64 = 60_000;

/// What version 4 says beyond version 3, with the same rule: one bit for each host id, and for each the minutes that are left.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Maintained {
    hosts: u32,
    left: Vec<u32, MAX_HOSTS>,
}

/// Writes `heartbeat` without its `from` and `seq`, which its sealed header carries; how many bytes it took.
///
/// What does not fit into table or buffer is left out of `dead` as far as nothing else names it: those outside the
/// electorate are gossip that may come later. A grant without an echo of the same incarnation and at least its seq
/// is left out too, as is a `fenced` name that is not dead, or a `walled` one that is not in `walls`: less is said, never more.
///
/// # Errors
/// Why it cannot be written; what `out` then holds is not to be sent.
pub fn encode_heartbeat(heartbeat: &Heartbeat, out: &mut [u8]) -> Result<usize, EncodeError> {
    let needed = needed_names(heartbeat)?;
    let spare = heartbeat.dead.iter().filter(|name| !needed.contains(*name)).count();
    let mut gossip = spare.min(MAX_NAMES - needed.len());
    loop {
        match encode_with(heartbeat, &needed, gossip, out) {
            Err(EncodeError::TooLarge) if gossip > 0 => gossip -= 1,
            result => return result,
        }
    }
}

/// Every name that cannot be left out.
fn needed_names(heartbeat: &Heartbeat) -> Result<Names, EncodeError> {
    let sets = [
        &heartbeat.electorate,
        &heartbeat.cut,
        &heartbeat.walls,
        &heartbeat.view,
        &heartbeat.heard,
        &heartbeat.awaits,
    ];
    let members = sets.into_iter().flat_map(Names::iter);
    let foundings = [heartbeat.found, heartbeat.lock].into_iter().flatten().map(|founding| founding.decider);
    let echoed = heartbeat.echo.iter().map(|echo| echo.of);
    let placed = heartbeat.place.iter().map(|place| place.on);
    let mut needed = Names::new();
    for name in members.chain(foundings).chain(echoed).chain(placed) {
        if !needed.insert(name) {
            return Err(EncodeError::TooManyNames);
        }
    }
    Ok(needed)
}

/// Writes with the first `gossip` of the dead that `needed` does not hold.
fn encode_with(
    heartbeat: &Heartbeat,
    needed: &Names,
    gossip: usize,
    out: &mut [u8],
) -> Result<usize, EncodeError> {
    let mut table = needed.clone();
    for name in heartbeat.dead.iter().filter(|name| !needed.contains(*name)).take(gossip) {
        table.insert(name);
    }
    let dead = mask(&heartbeat.dead, &table);
    let (echoed, echoes) = echoes(heartbeat, &table)?;
    let (busy, refused) = (heartbeat.busy.to_bytes(), heartbeat.refused.to_bytes());
    let stopped = heartbeat.desired.stopped.to_bytes();
    let place = heartbeat.place.iter().filter_map(|place| Some((place.workload.0, index(place.on, &table)?)));
    let founding = |founding: Founding| Some((index(founding.decider, &table)?, founding.epoch));
    let body = Body {
        machine: heartbeat.machine,
        speaks: heartbeat.speaks,
        presence: presence_code(heartbeat.presence),
        flags: if heartbeat.silent { SILENT } else { 0 } | if heartbeat.quorate { QUORATE } else { 0 },
        digest: heartbeat.digest,
        lease_ms: heartbeat.lease.0,
        drift_ppm: heartbeat.drift.ppm,
        table: table.iter().map(wire_name).collect(),
        found: heartbeat.found.and_then(founding),
        lock: heartbeat.lock.and_then(founding),
        electorate: mask(&heartbeat.electorate, &table),
        dead,
        fenced: mask(&heartbeat.fenced, &table) & dead,
        cut: mask(&heartbeat.cut, &table),
        view: mask(&heartbeat.view, &table),
        heard: mask(&heartbeat.heard, &table),
        awaits: mask(&heartbeat.awaits, &table),
        echoed,
        echoes,
        busy: trimmed(&busy),
        refused: trimmed(&refused),
        place: place.collect(),
        desired: heartbeat.desired.version,
        stopped: trimmed(&stopped),
        health: health_code(heartbeat.health),
        load: heartbeat.load,
        watchdog_bound_ms: heartbeat.watchdog_bound.0,
    };
    let walls = mask(&heartbeat.walls, &table);
    let walls = Walls { walls, walled: mask(&heartbeat.walled, &table) & walls };
    let (care, maintained) = (care(heartbeat), maintained(heartbeat));
    if maintained.hosts != 0 {
        write_as(HEARTBEAT_VERSION, &(body, walls, care, maintained), out)
    } else if care != Care::default() {
        write_as(CARE_VERSION, &(body, walls, care), out)
    } else if walls != Walls::default() {
        write_as(WALLS_VERSION, &(body, walls), out)
    } else {
        write_as(VERSION, &body, out)
    }
}

/// One set of failing probes has one encoding.
fn care(heartbeat: &Heartbeat) -> Care {
    let mut ails: Vec<Ail, MAX_AILS> = Vec::new();
    let mut sorted = heartbeat.ails.clone();
    sorted.sort_unstable();
    for ail in sorted {
        if ails.last() != Some(&ail) {
            // No longer than what it is taken from.
            let _ = ails.push(ail);
        }
    }
    let Wishes { version, drained, disarmed, .. } = heartbeat.wishes;
    Care { ails, version, drained, disarmed_ms: disarmed.0 }
}

/// One set of hosts has one encoding; of two words on one host the shorter is told.
fn maintained(heartbeat: &Heartbeat) -> Maintained {
    let mut told = Maintained::default();
    let mut sorted = heartbeat.wishes.maintenance.clone();
    sorted.sort_unstable_by_key(|one| (one.host, one.left.0));
    for Maintenance { host, left } in sorted {
        let bit = 1 << host.number();
        if told.hosts & bit == 0 {
            told.hosts |= bit;
            // No longer than what it is taken from.
            let _ = told.left.push(u32::try_from(left.0.div_ceil(MINUTE)).unwrap_or(u32::MAX));
        }
    }
    told
}

fn read_maintained(told: &Maintained) -> Result<Vec<Maintenance, MAX_HOSTS>, DecodeError> {
    let hosts = (0..).take(MAX_HOSTS).filter_map(HostId::new);
    let named = hosts.filter(|host| told.hosts & 1 << host.number() != 0);
    if named.clone().count() != told.left.len() {
        return Err(DecodeError::MaintenanceCount);
    }
    let read = named.zip(&told.left);
    Ok(read.map(|(host, left)| Maintenance { host, left: Duration(u64::from(*left) * MINUTE) }).collect())
}

/// Reads a heartbeat; `from` and `seq` are those of the sealed header.
///
/// # Errors
/// What is wrong with it. Everything in a decoded heartbeat is consistent in itself: see [`DecodeError`].
pub fn decode_heartbeat(from: Incarnation, seq: Seq, bytes: &[u8]) -> Result<Heartbeat, DecodeError> {
    let none = Maintained::default();
    let (body, walls, care, maintained): (Body<'_>, Walls, Care, Maintained) = match bytes.split_first() {
        Some((&VERSION, rest)) => (whole(rest)?, Walls::default(), Care::default(), none),
        Some((&WALLS_VERSION, rest)) => {
            let (body, walls) = whole(rest)?;
            (body, walls, Care::default(), none)
        }
        Some((&CARE_VERSION, rest)) => {
            let (body, walls, care) = whole(rest)?;
            (body, walls, care, none)
        }
        Some((&HEARTBEAT_VERSION, rest)) => whole(rest)?,
        Some((&got, _)) => return Err(DecodeError::OtherVersion { got }),
        None => return Err(DecodeError::Truncated),
    };
    // One message has one encoding.
    if bytes.first() == Some(&WALLS_VERSION) && walls.walls == 0 {
        return Err(if walls.walled == 0 { DecodeError::NoWalls } else { DecodeError::WalledWithoutWall });
    }
    if bytes.first() == Some(&CARE_VERSION) && care == Care::default() {
        return Err(DecodeError::NoCare);
    }
    if bytes.first() == Some(&HEARTBEAT_VERSION) && maintained.hosts == 0 {
        return Err(DecodeError::NoMaintenance);
    }
    if !care.ails.iter().zip(care.ails.iter().skip(1)).all(|(ail, next)| ail < next) {
        return Err(DecodeError::AilsNotRising);
    }
    if walls.walled & !walls.walls != 0 {
        return Err(DecodeError::WalledWithoutWall);
    }
    let table = names_from_wire(&body.table)?;
    let (echo, grants) = read_echoes(&body, &table)?;
    if body.fenced & !body.dead != 0 {
        return Err(DecodeError::FencedNotDead);
    }
    if body.flags & !(SILENT | QUORATE) != 0 {
        return Err(DecodeError::UnknownCode { field: Field::Flags, code: body.flags });
    }
    let mut place = Vec::new();
    for &(workload, on) in &body.place {
        let on = named(on, &table, Field::Place)?;
        place.push(Place { workload: WorkloadId(workload), on }).map_err(|_| DecodeError::Malformed)?;
    }
    Ok(Heartbeat {
        from,
        seq,
        machine: body.machine,
        speaks: body.speaks,
        presence: presence(body.presence)?,
        silent: body.flags & SILENT != 0,
        quorate: body.flags & QUORATE != 0,
        found: founding(body.found, &table, Field::Found)?,
        digest: body.digest,
        lease: Duration(body.lease_ms),
        drift: Drift { ppm: body.drift_ppm },
        electorate: unmask(body.electorate, &table, Field::Electorate)?,
        dead: unmask(body.dead, &table, Field::Dead)?,
        fenced: unmask(body.fenced, &table, Field::Fenced)?,
        cut: unmask(body.cut, &table, Field::Cut)?,
        walls: unmask(walls.walls, &table, Field::Walls)?,
        walled: unmask(walls.walled, &table, Field::Walled)?,
        view: unmask(body.view, &table, Field::View)?,
        heard: unmask(body.heard, &table, Field::Heard)?,
        echo,
        grants,
        lock: founding(body.lock, &table, Field::Lock)?,
        busy: workloads(body.busy, Field::Busy)?,
        refused: workloads(body.refused, Field::Refused)?,
        awaits: unmask(body.awaits, &table, Field::Awaits)?,
        place,
        desired: Desired { version: body.desired, stopped: workloads(body.stopped, Field::Stopped)? },
        health: health(body.health)?,
        load: body.load,
        ails: care.ails,
        wishes: Wishes {
            version: care.version,
            drained: care.drained,
            disarmed: Duration(care.disarmed_ms),
            maintenance: read_maintained(&maintained)?,
        },
        watchdog_bound: Duration(body.watchdog_bound_ms),
    })
}

fn index(name: Incarnation, table: &Names) -> Option<u8> {
    table.as_slice().binary_search(&name).ok().and_then(|at| u8::try_from(at).ok())
}

fn named(index: u8, table: &Names, field: Field) -> Result<Incarnation, DecodeError> {
    table.as_slice().get(usize::from(index)).copied().ok_or(DecodeError::BeyondTable { field })
}

fn mask(set: &Names, table: &Names) -> Mask {
    set.iter().filter_map(|name| index(name, table)).fold(0, |mask, at| mask | 1 << at)
}

fn unmask(mask: Mask, table: &Names, field: Field) -> Result<Names, DecodeError> {
    let within = if table.len() < MAX_NAMES { (1 << table.len()) - 1 } else { Mask::MAX };
    if mask & !within != 0 {
        return Err(DecodeError::BeyondTable { field });
    }
    Ok(table.iter().enumerate().filter(|(at, _)| mask & (1 << at) != 0).map(|(_, name)| name).collect())
}

fn founding(
    founding: Option<WireFounding>,
    table: &Names,
    field: Field,
) -> Result<Option<Founding>, DecodeError> {
    founding
        .map(|(decider, epoch)| Ok(Founding { decider: named(decider, table, field)?, epoch }))
        .transpose()
}

type WireEchoes = (Mask, Vec<(u64, u64), MAX_HOSTS>);

fn echoes(heartbeat: &Heartbeat, table: &Names) -> Result<WireEchoes, EncodeError> {
    let mut in_order: Vec<Echo, MAX_HOSTS> = heartbeat.echo.clone();
    in_order.sort_unstable_by_key(|echo| echo.of);
    if let Some(host) = host_twice(&in_order) {
        return Err(EncodeError::TwoEchoes { host });
    }
    let echoed: Names = in_order.iter().map(|echo| echo.of).collect();
    let pairs = in_order.iter().map(|echo| {
        let grant = heartbeat.grant_to(echo.of).and_then(|granted| echo.seq.checked_sub(granted));
        (echo.seq, grant.and_then(|behind| behind.checked_add(1)).unwrap_or(0))
    });
    Ok((mask(&echoed, table), pairs.collect()))
}

type Echoes = (Vec<Echo, MAX_HOSTS>, Vec<Grant, MAX_HOSTS>);

fn read_echoes(body: &Body<'_>, table: &Names) -> Result<Echoes, DecodeError> {
    let echoed = unmask(body.echoed, table, Field::Echo)?;
    if echoed.len() != body.echoes.len() {
        return Err(DecodeError::EchoCount);
    }
    let (mut echo, mut grants) = (Vec::new(), Vec::new());
    for (of, &(seq, grant)) in echoed.iter().zip(&body.echoes) {
        echo.push(Echo { of, seq }).map_err(|_| DecodeError::EchoCount)?;
        if let Some(behind) = grant.checked_sub(1) {
            let granted = seq.checked_sub(behind).ok_or(DecodeError::GrantBelowZero)?;
            grants.push(Grant { to: of, seq: granted }).map_err(|_| DecodeError::EchoCount)?;
        }
    }
    match host_twice(&echo) {
        Some(host) => Err(DecodeError::TwoEchoes { host }),
        None => Ok((echo, grants)),
    }
}

/// A host that stands twice in echoes sorted by name.
fn host_twice(echoes: &[Echo]) -> Option<crate::HostId> {
    let following = echoes.iter().skip(1);
    echoes.iter().zip(following).find(|(a, b)| a.of.host == b.of.host).map(|(a, _)| a.of.host)
}

fn trimmed(set: &[u8]) -> &[u8] {
    let used = set.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    set.get(..used).unwrap_or(set)
}

fn workloads(bytes: &[u8], field: Field) -> Result<WorkloadSet, DecodeError> {
    if bytes.len() > MAX_WORKLOADS / 8 {
        return Err(DecodeError::SetTooLong { field });
    }
    Ok(WorkloadSet::from_bytes(bytes))
}

fn presence_code(presence: Presence) -> u8 {
    match presence {
        Presence::Joining => 0,
        Presence::Admitted => 1,
        Presence::Away => 2,
        Presence::Left => 3,
    }
}

fn presence(code: u8) -> Result<Presence, DecodeError> {
    match code {
        0 => Ok(Presence::Joining),
        1 => Ok(Presence::Admitted),
        2 => Ok(Presence::Away),
        3 => Ok(Presence::Left),
        code => Err(DecodeError::UnknownCode { field: Field::Presence, code }),
    }
}

fn health_code(health: HealthClass) -> u8 {
    match health {
        HealthClass::Healthy => 0,
        HealthClass::Degraded => 1,
        HealthClass::Failed => 2,
    }
}

fn health(code: u8) -> Result<HealthClass, DecodeError> {
    match code {
        0 => Ok(HealthClass::Healthy),
        1 => Ok(HealthClass::Degraded),
        2 => Ok(HealthClass::Failed),
        code => Err(DecodeError::UnknownCode { field: Field::Health, code }),
    }
}
