//! The wire format: what is written is read back, sizes stay within their bounds, nonsense is refused by name.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod common;

use common::{any_heartbeat, bare, full, name};
use palisade_proto::message::{Echo, Grant, MAX_AILS, Maintenance, Wishes};
use palisade_proto::wire::{
    self, DecodeError, EncodeError, Field, HEADER_LEN, MAX_DATAGRAM, MAX_MESSAGE, TAG_LEN, decode_heartbeat,
    encode_heartbeat,
};
use palisade_proto::{Answer, Ask, AskKind, Drift, Duration, Heartbeat, HostId, Incarnation, Names, Verdict};
use proptest::prelude::*;

const ROOM: usize = 4096;

fn bytes(heartbeat: &Heartbeat) -> Vec<u8> {
    let mut out = [0; ROOM];
    let len = encode_heartbeat(heartbeat, &mut out).unwrap();
    out[..len].to_vec()
}

fn sealed_len(heartbeat: &Heartbeat) -> usize {
    HEADER_LEN + bytes(heartbeat).len() + TAG_LEN
}

/// The same host, which keeps all others out.
fn walled(heartbeat: Heartbeat) -> Heartbeat {
    let walls = heartbeat.electorate.clone();
    Heartbeat { walls: walls.clone(), walled: walls, ..heartbeat }
}

fn maintenance(id: u8, secs: u64) -> Maintenance {
    Maintenance { host: HostId::new(id).unwrap(), left: Duration::secs(secs) }
}

/// The same host, which ails in every way and knows of every wish.
fn ailing(heartbeat: Heartbeat) -> Heartbeat {
    let ails = (0..MAX_AILS).map(|at| u32::MAX - 10 + u32::try_from(at).unwrap()).collect();
    let maintenance = (0..8).map(|id| maintenance(id, 31 * 86_400)).collect();
    let drained = u32::MAX >> (32 - heartbeat.electorate.len());
    let disarmed = Duration::secs(86_400);
    let wishes = Wishes { version: u64::MAX, drained, disarmed, maintenance };
    Heartbeat { ails, wishes, ..heartbeat }
}

#[test]
fn eight_hosts_with_all_to_say_fit_one_kib() {
    // 8 live, and for each host the 4 last dead lives (PROTOCOL, "D(h)").
    let heartbeat = ailing(walled(full(8, 32)));
    assert_eq!(heartbeat.dead.len(), 40);
    let len = sealed_len(&heartbeat);
    println!("8 hosts, everything full: {len} bytes sealed");
    assert!(len <= 1024, "{len}");
    assert_eq!(decode_heartbeat(heartbeat.from, heartbeat.seq, &bytes(&heartbeat)), Ok(heartbeat));
}

#[test]
fn thirty_two_hosts_with_all_to_say_fit_one_datagram() {
    let heartbeat = walled(full(32, 32));
    assert_eq!((heartbeat.dead.len(), heartbeat.place.len()), (64, 128));
    let len = sealed_len(&heartbeat);
    println!("32 hosts, everything full: {len} bytes sealed");
    assert!(len <= MAX_DATAGRAM, "{len}");
    assert_eq!(decode_heartbeat(heartbeat.from, heartbeat.seq, &bytes(&heartbeat)), Ok(heartbeat));
}

/// With what came last there is no room for all the dead of old: they are told as there is.
#[test]
fn thirty_two_hosts_that_ail_leave_out_nothing_but_some_of_the_dead_of_old() {
    let heartbeat = ailing(walled(full(32, 32)));
    let mut out = [0; MAX_MESSAGE];
    let len = encode_heartbeat(&heartbeat, &mut out).unwrap();
    let read = decode_heartbeat(heartbeat.from, heartbeat.seq, &out[..len]).unwrap();
    let left_out = heartbeat.dead.iter().filter(|who| !read.dead.contains(*who)).collect::<Vec<_>>();
    assert!((1..=8).contains(&left_out.len()), "{left_out:?}");
    assert!(left_out.iter().all(|who| !heartbeat.electorate.contains(*who)));
    let fenced = heartbeat.fenced.iter().filter(|who| read.dead.contains(*who)).collect();
    assert_eq!(read, Heartbeat { dead: read.dead.clone(), fenced, ..heartbeat });
}

#[test]
fn small_clusters_say_little() {
    for hosts in [2, 3, 8] {
        let mut heartbeat = full(hosts, 0);
        heartbeat.dead = Names::new();
        heartbeat.fenced = Names::new();
        heartbeat.place.clear();
        println!("{hosts} hosts, nobody dead, nothing to place: {} bytes sealed", sealed_len(&heartbeat));
    }
}

#[test]
fn only_the_dead_outside_the_electorate_are_left_out_when_there_is_no_room() {
    let mut heartbeat = full(32, 32);
    let mut out = [0; MAX_MESSAGE];
    // Grants far behind their echoes take three bytes each instead of one.
    for grant in &mut heartbeat.grants {
        grant.seq -= 1_000_000;
    }
    let len = encode_heartbeat(&heartbeat, &mut out).unwrap();
    let read = decode_heartbeat(heartbeat.from, heartbeat.seq, &out[..len]).unwrap();
    assert!(read.dead.len() < heartbeat.dead.len(), "something had to go");
    assert!(read.dead.len() >= heartbeat.dead.len() - 8, "no more than needed: {}", read.dead.len());
    assert!(heartbeat.electorate.iter().all(|member| read.dead.contains(member)));
    assert!(read.fenced.iter().all(|name| read.dead.contains(name)));
    heartbeat.dead = read.dead.clone();
    heartbeat.fenced = read.fenced.clone();
    assert_eq!(read, heartbeat, "all else is said in full");
}

#[test]
fn a_table_too_small_for_the_dead_leaves_them_out_too() {
    let mut heartbeat = full(32, 0);
    heartbeat.heard = (0..32).map(|host| name(host, 0xf0)).collect();
    heartbeat.dead = (0..32).map(|host| name(host, 0x01)).collect();
    heartbeat.fenced = Names::new();
    let read = decode_heartbeat(heartbeat.from, heartbeat.seq, &bytes(&heartbeat)).unwrap();
    assert_eq!((read.dead.len(), read.heard.len(), read.electorate.len()), (0, 32, 32));

    heartbeat.lock = Some(palisade_proto::Founding { decider: name(3, 0xaa), epoch: 1 });
    assert_eq!(encode_heartbeat(&heartbeat, &mut [0; ROOM]), Err(EncodeError::TooManyNames));
}

#[test]
fn a_grant_without_its_echo_is_not_said() {
    let mut heartbeat = bare(name(0, 1), 5);
    heartbeat.echo.push(Echo { of: name(1, 1), seq: 9 }).unwrap();
    for (to, seq) in [(name(1, 1), 10), (name(1, 2), 9), (name(2, 1), 1)] {
        heartbeat.grants.clear();
        heartbeat.grants.push(Grant { to, seq }).unwrap();
        let read = decode_heartbeat(heartbeat.from, heartbeat.seq, &bytes(&heartbeat)).unwrap();
        assert!(read.grants.is_empty(), "{to} {seq}");
        assert_eq!(read.echo, heartbeat.echo);
    }
}

#[test]
fn a_fenced_name_that_is_not_dead_is_not_said() {
    let mut heartbeat = bare(name(0, 1), 5);
    heartbeat.electorate = [name(0, 1), name(1, 1)].into_iter().collect();
    heartbeat.dead.insert(name(1, 1));
    heartbeat.fenced = heartbeat.electorate.clone();
    let read = decode_heartbeat(heartbeat.from, heartbeat.seq, &bytes(&heartbeat)).unwrap();
    assert_eq!(read.fenced, heartbeat.dead);
}

/// Whoever reads version 1 alone hears of everything but walls; and a wall that does not stand is not read back.
#[test]
fn version_2_is_written_only_to_tell_of_walls() {
    let mut heartbeat = bare(name(0, 1), 5);
    heartbeat.walled.insert(name(1, 1));
    assert_eq!(bytes(&heartbeat)[0], 1);
    heartbeat.walls.insert(name(2, 1));
    assert_eq!(bytes(&heartbeat)[0], 2);
    let read = decode_heartbeat(heartbeat.from, heartbeat.seq, &bytes(&heartbeat)).unwrap();
    assert_eq!((read.walls, read.walled), (heartbeat.walls, palisade_proto::Names::new()));
}

/// Whoever reads version 2 alone hears of everything but what ails the sender and what operators wish.
#[test]
fn version_3_is_written_only_to_tell_of_ails_and_wishes() {
    let heartbeat = Heartbeat { walls: [name(2, 1)].into_iter().collect(), ..bare(name(0, 1), 5) };
    assert_eq!(bytes(&heartbeat)[0], 2);
    let ails: heapless::Vec<u32, MAX_AILS> = [9, 5, 9, 7].into_iter().collect();
    let ailing = Heartbeat { ails, walls: Names::new(), ..heartbeat.clone() };
    assert_eq!(bytes(&ailing)[0], 3);
    let read = decode_heartbeat(ailing.from, ailing.seq, &bytes(&ailing)).unwrap();
    assert_eq!((read.ails.as_slice(), read.walls), (&[5, 7, 9][..], Names::new()));
    let wished = Heartbeat { wishes: Wishes { version: 1, ..Wishes::default() }, ..heartbeat };
    assert_eq!(bytes(&wished)[0], 3);
    assert_eq!(decode_heartbeat(wished.from, wished.seq, &bytes(&wished)), Ok(wished));
}

/// Whoever reads version 3 alone hears of everything but who is in maintenance; and one set has one encoding.
#[test]
fn version_4_is_written_only_to_tell_of_maintenance() {
    let mut heartbeat = bare(name(0, 1), 5);
    heartbeat.wishes.version = 1;
    assert_eq!(bytes(&heartbeat)[0], 3);
    // Whole minutes, and the shorter of two words on one host.
    heartbeat.wishes.maintenance =
        [(2, 900), (1, 0), (2, 61)].map(|(id, s)| maintenance(id, s)).into_iter().collect();
    assert_eq!(bytes(&heartbeat)[0], 4);
    let read = decode_heartbeat(heartbeat.from, heartbeat.seq, &bytes(&heartbeat)).unwrap();
    assert_eq!(read.wishes.maintenance, [maintenance(1, 0), maintenance(2, 120)]);
}

#[test]
fn two_echoes_of_one_host_are_not_written() {
    let mut heartbeat = bare(name(0, 1), 5);
    heartbeat.echo.push(Echo { of: name(1, 1), seq: 9 }).unwrap();
    heartbeat.echo.push(Echo { of: name(1, 2), seq: 9 }).unwrap();
    let host = name(1, 1).host;
    assert_eq!(encode_heartbeat(&heartbeat, &mut [0; ROOM]), Err(EncodeError::TwoEchoes { host }));
}

/// Bytes of a bare heartbeat whose parts stand at known places, to break one part at a time.
mod place {
    pub(super) const PRESENCE: usize = 18;
    pub(super) const FLAGS: usize = 19;
    /// Lease takes 2 bytes, drift 2.
    pub(super) const TABLE_LEN: usize = 32;
    pub(super) const TABLE: usize = 33;
    pub(super) const SETS: usize = TABLE + 2 * 9 + 2;
}

#[test]
fn each_inconsistency_is_refused_by_name() {
    let mut heartbeat = bare(name(0, 1), 5);
    heartbeat.electorate = [name(0, 1), name(1, 1)].into_iter().collect();
    let good = bytes(&heartbeat);
    assert_eq!(good[place::TABLE_LEN], 2);
    assert_eq!(good[place::SETS], 0b11);
    let broken = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        decode_heartbeat(heartbeat.from, heartbeat.seq, &bytes).unwrap_err()
    };

    assert_eq!(broken(&|bytes| bytes[0] = 0), DecodeError::OtherVersion { got: 0 });
    assert_eq!(broken(&|bytes| bytes[0] = 5), DecodeError::OtherVersion { got: 5 });
    assert_eq!(broken(&|bytes| bytes[0] = 2), DecodeError::Truncated, "walls are said at the end");
    let with_walls = |walls: u8, walled: u8| {
        broken(&|bytes| {
            bytes[0] = 2;
            bytes.extend([walls, walled]);
        })
    };
    assert_eq!(broken(&|bytes| bytes[0] = 3), DecodeError::Truncated, "and care after them");
    let with_care = |care: &[u8]| {
        broken(&|bytes| {
            bytes[0] = 3;
            bytes.extend([0, 0]);
            bytes.extend(care);
        })
    };
    let with_maintenance = |hosts: &[u8]| {
        broken(&|bytes| {
            bytes[0] = 4;
            bytes.extend([0, 0, 0, 1, 0, 0]);
            bytes.extend(hosts);
        })
    };
    assert_eq!(with_maintenance(&[0, 0]), DecodeError::NoMaintenance);
    assert_eq!(with_maintenance(&[0b11, 1, 7]), DecodeError::MaintenanceCount);
    assert_eq!(with_maintenance(&[0b01, 2, 7, 7]), DecodeError::MaintenanceCount);
    assert_eq!(with_care(&[0, 0, 0, 0]), DecodeError::NoCare);
    assert_eq!(with_care(&[2, 5, 5, 0, 0, 0]), DecodeError::AilsNotRising);
    assert_eq!(with_care(&[9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0]), DecodeError::Malformed, "too many");
    assert_eq!(with_walls(0, 0), DecodeError::NoWalls);
    assert_eq!(with_walls(0, 1), DecodeError::WalledWithoutWall);
    assert_eq!(with_walls(1, 2), DecodeError::WalledWithoutWall);
    assert_eq!(with_walls(4, 0), DecodeError::BeyondTable { field: Field::Walls });
    assert_eq!(
        broken(&|bytes| bytes[place::PRESENCE] = 4),
        DecodeError::UnknownCode { field: Field::Presence, code: 4 }
    );
    assert_eq!(
        broken(&|bytes| bytes[place::FLAGS] = 4),
        DecodeError::UnknownCode { field: Field::Flags, code: 4 }
    );
    assert_eq!(broken(&|bytes| bytes[place::TABLE] = 32), DecodeError::NoSuchHost { id: 32 });
    assert_eq!(broken(&|bytes| bytes[place::TABLE] = 1), DecodeError::NamesNotRising, "a name twice");
    assert_eq!(broken(&|bytes| bytes[place::TABLE] = 9), DecodeError::NamesNotRising);
    let too_many_names = |bytes: &mut Vec<u8>| {
        bytes[place::TABLE_LEN] = 65;
        bytes.resize(ROOM, 0);
    };
    assert_eq!(broken(&too_many_names), DecodeError::Malformed);
    let sets =
        [Field::Electorate, Field::Dead, Field::Fenced, Field::Cut, Field::View, Field::Heard, Field::Awaits];
    for (at, field) in sets.into_iter().enumerate() {
        let expected = if field == Field::Fenced {
            DecodeError::FencedNotDead
        } else {
            DecodeError::BeyondTable { field }
        };
        assert_eq!(broken(&|bytes| bytes[place::SETS + at] = 0b100), expected);
    }
    assert_eq!(broken(&|bytes| bytes[place::SETS + 2] = 1), DecodeError::FencedNotDead);
    assert_eq!(broken(&|bytes| bytes[place::SETS + 7] = 1), DecodeError::EchoCount);
    assert_eq!(broken(&|bytes| bytes.push(0)), DecodeError::TrailingBytes { count: 1 });
    assert_eq!(broken(&|bytes| bytes.truncate(40)), DecodeError::Truncated);
    assert_eq!(broken(&Vec::clear), DecodeError::Truncated);
}

#[test]
fn inconsistent_echoes_are_refused() {
    let mut heartbeat = bare(name(0, 1), 5);
    heartbeat.electorate = [name(1, 1), name(1, 2)].into_iter().collect();
    heartbeat.echo.push(Echo { of: name(1, 1), seq: 3 }).unwrap();
    let good = bytes(&heartbeat);
    let at = place::SETS + 7;
    assert_eq!(good[at..at + 4], [0b01, 1, 3, 0], "one echo of the first name: seq 3, no grant");
    let read = |bytes: &[u8]| decode_heartbeat(heartbeat.from, heartbeat.seq, bytes);

    let mut granted = good.clone();
    granted[at + 3] = 4;
    assert_eq!(read(&granted).unwrap().grant_to(name(1, 1)), Some(0));
    granted[at + 3] = 5;
    assert_eq!(read(&granted), Err(DecodeError::GrantBelowZero));

    let mut twice = good.clone();
    twice.splice(at..at + 4, [0b11, 2, 3, 0, 3, 0]);
    assert_eq!(read(&twice), Err(DecodeError::TwoEchoes { host: name(1, 1).host }));
}

fn any_name() -> impl Strategy<Value = Incarnation> {
    (0_u8..32, any::<[u8; 8]>())
        .prop_map(|(host, life)| Incarnation::new(palisade_proto::HostId::new(host).unwrap(), life))
}

fn any_ask() -> impl Strategy<Value = Ask> {
    let kind = prop_oneof![
        any::<bool>().prop_map(|incumbent| AskKind::Ordinary { incumbent }),
        Just(AskKind::Cold),
        Just(AskKind::Beacon)
    ];
    let view = prop::collection::vec(any_name(), 0..=64);
    (any_name(), any::<u64>(), kind, view, any::<u64>(), any::<u32>()).prop_map(
        |(from, seq, kind, view, lease, ppm)| Ask {
            from,
            seq,
            kind,
            view: view.into_iter().collect(),
            lease: Duration(lease),
            drift: Drift { ppm },
        },
    )
}

fn any_answer() -> impl Strategy<Value = Answer> {
    let verdict = prop::sample::select(vec![
        Verdict::Granted,
        Verdict::Noted,
        Verdict::Silent,
        Verdict::IncumbentsOnly,
        Verdict::Conflict,
        Verdict::ElectorateLives,
        Verdict::OtherTiming,
        Verdict::Full,
    ]);
    (any::<[u8; 8]>(), any::<u64>(), any_name(), any::<u64>(), verdict)
        .prop_map(|(start, seq, to, ask, verdict)| Answer { start, seq, to, ask, verdict })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_heartbeat_survives_its_bytes(heartbeat in any_heartbeat()) {
        prop_assert_eq!(decode_heartbeat(heartbeat.from, heartbeat.seq, &bytes(&heartbeat)), Ok(heartbeat));
    }

    #[test]
    fn a_heartbeat_fits_its_buffer_or_says_so(heartbeat in any_heartbeat(), room in 0_usize..1500) {
        let mut out = vec![0; room];
        match encode_heartbeat(&heartbeat, &mut out) {
            Ok(len) => {
                let read = decode_heartbeat(heartbeat.from, heartbeat.seq, &out[..len]).unwrap();
                prop_assert!(heartbeat.electorate.iter().all(
                    |member| heartbeat.dead.contains(member) == read.dead.contains(member)));
                prop_assert_eq!(read.electorate, heartbeat.electorate);
                prop_assert_eq!(read.grants, heartbeat.grants);
            }
            Err(error) => prop_assert_eq!(error, EncodeError::TooLarge),
        }
    }

    #[test]
    fn a_cut_heartbeat_is_refused(heartbeat in any_heartbeat(), cut in any::<prop::sample::Index>()) {
        let bytes = bytes(&heartbeat);
        prop_assert!(decode_heartbeat(heartbeat.from, heartbeat.seq, &bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn flipped_bits_never_panic_and_what_is_read_can_be_written(
        heartbeat in any_heartbeat(),
        flips in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..4),
    ) {
        let mut bytes = bytes(&heartbeat);
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << (bit % 8);
        }
        if let Ok(read) = decode_heartbeat(heartbeat.from, heartbeat.seq, &bytes) {
            prop_assert!(read.fenced.iter().all(|name| read.dead.contains(name)));
            let mut out = [0; ROOM];
            let len = encode_heartbeat(&read, &mut out).unwrap();
            prop_assert_eq!(decode_heartbeat(read.from, read.seq, &out[..len]), Ok(read));
        }
    }

    #[test]
    fn random_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..1500), versioned: bool) {
        if versioned && let Some(first) = bytes.first_mut() {
            *first = wire::VERSION;
        }
        let from = name(0, 1);
        let _ = decode_heartbeat(from, 1, &bytes);
        let _ = wire::decode_ask(from, 1, &bytes);
        let _ = wire::decode_answer([0; 8], 1, &bytes);
    }

    #[test]
    fn asks_and_answers_survive_their_bytes(ask in any_ask(), answer in any_answer(), cut: prop::sample::Index) {
        let mut out = [0; MAX_MESSAGE];
        let len = wire::encode_ask(&ask, &mut out).unwrap();
        prop_assert!(wire::decode_ask(ask.from, ask.seq, &out[..cut.index(len)]).is_err());
        prop_assert_eq!(wire::decode_ask(ask.from, ask.seq, &out[..len]), Ok(ask));
        let len = wire::encode_answer(&answer, &mut out).unwrap();
        prop_assert!(wire::decode_answer(answer.start, answer.seq, &out[..cut.index(len)]).is_err());
        prop_assert_eq!(wire::decode_answer(answer.start, answer.seq, &out[..len]), Ok(answer));
    }
}
