//! Sealing: only the right key, cluster, kind, sender, life and seq open a datagram.
#![cfg(feature = "seal")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use palisade_proto::seal::{
    Keyring, KeyringError, Kind, OpenError, Opener, RootKey, RootKeyError, SealError, Sealer, Sender,
};
use palisade_proto::wire::{HEADER_LEN, MAX_DATAGRAM, MAX_MESSAGE, TAG_LEN};
use palisade_proto::{HostId, LifeName};
use proptest::prelude::*;

const MESSAGE: &[u8] = b"\x01a message";

fn key(byte: u8) -> RootKey {
    RootKey::new([byte; 32])
}

fn ring(cluster: &str, ids: &[u8]) -> Keyring {
    Keyring::new(cluster, ids.iter().map(|id| (*id, key(*id)))).unwrap()
}

fn host(id: u8) -> Sender {
    Sender::Host(HostId::new(id).unwrap())
}

fn life(n: u8) -> LifeName {
    LifeName([n; 8])
}

fn sealed(ring: Keyring, kind: Kind, sender: Sender, seq: u64) -> Vec<u8> {
    let mut out = [0; MAX_DATAGRAM];
    let len = Sealer::new(&ring, kind, sender, life(7)).unwrap().seal(seq, MESSAGE, &mut out).unwrap();
    out[..len].to_vec()
}

fn opened(ring: Keyring, kind: Kind, datagram: &[u8]) -> Result<(Sender, LifeName, u64, Vec<u8>), OpenError> {
    let mut out = [0; MAX_DATAGRAM];
    let opened = Opener::<4>::new(ring, kind).open(datagram, &mut out)?;
    assert_eq!(opened.kind, kind);
    Ok((opened.sender, opened.life, opened.seq, opened.message.to_vec()))
}

#[test]
fn what_is_sealed_opens() {
    for (kind, sender) in [(Kind::Heartbeat, host(3)), (Kind::Ask, host(31)), (Kind::Answer, Sender::Witness)]
    {
        let datagram = sealed(ring("edge-a", &[1]), kind, sender, 42);
        assert_eq!(datagram.len(), HEADER_LEN + MESSAGE.len() + TAG_LEN);
        assert_eq!(
            opened(ring("edge-a", &[1]), kind, &datagram),
            Ok((sender, life(7), 42, MESSAGE.to_vec()))
        );
    }
}

#[test]
fn safe_7_another_cluster_key_or_kind_does_not_open_it() {
    let datagram = sealed(ring("edge-a", &[1]), Kind::Ask, host(3), 42);
    assert_eq!(opened(ring("edge-b", &[1]), Kind::Ask, &datagram), Err(OpenError::Forged));
    assert_eq!(opened(ring("edge-a", &[2]), Kind::Ask, &datagram), Err(OpenError::UnknownKey(1)));
    let other_key = Keyring::new("edge-a", [(1, key(9))]).unwrap();
    assert_eq!(opened(other_key, Kind::Ask, &datagram), Err(OpenError::Forged));
    assert_eq!(
        opened(ring("edge-a", &[1]), Kind::Heartbeat, &datagram),
        Err(OpenError::OtherKind(Kind::Ask))
    );

    let mut relabelled = datagram;
    relabelled[1] = 1;
    assert_eq!(opened(ring("edge-a", &[1]), Kind::Heartbeat, &relabelled), Err(OpenError::Forged));
}

#[test]
fn safe_7_every_changed_bit_is_noticed() {
    let good = sealed(ring("edge-a", &[1]), Kind::Heartbeat, host(3), 42);
    let mut opener = Opener::<4>::new(ring("edge-a", &[1]), Kind::Heartbeat);
    let mut out = [0; MAX_DATAGRAM];
    for bit in 0..good.len() * 8 {
        let mut datagram = good.clone();
        datagram[bit / 8] ^= 1 << (bit % 8);
        let error = opener.open(&datagram, &mut out).unwrap_err();
        let expected = match bit / 8 {
            0 => matches!(error, OpenError::WrongVersion(_)),
            1 => matches!(error, OpenError::UnknownKind(_) | OpenError::OtherKind(_)),
            2 => matches!(error, OpenError::UnknownKey(_)),
            3 => matches!(error, OpenError::UnknownSender(_) | OpenError::Forged),
            _ => error == OpenError::Forged,
        };
        assert!(expected, "bit {bit}: {error}");
    }
    for len in 0..good.len() {
        let expected = if len < HEADER_LEN + TAG_LEN { OpenError::TooShort } else { OpenError::Forged };
        assert_eq!(opener.open(&good[..len], &mut out).unwrap_err(), expected);
    }
    assert!(opener.open(&good, &mut out).is_ok(), "the datagram as it was still opens");
}

#[test]
fn the_witness_does_not_ask_and_a_host_does_not_answer() {
    for (kind, sender) in
        [(Kind::Answer, host(1)), (Kind::Ask, Sender::Witness), (Kind::Heartbeat, Sender::Witness)]
    {
        let datagram = sealed(ring("edge-a", &[1]), kind, sender, 1);
        let code = datagram[3];
        assert_eq!(opened(ring("edge-a", &[1]), kind, &datagram), Err(OpenError::UnknownSender(code)));
    }
}

#[test]
fn a_nonce_is_never_used_twice() {
    let mut sealer = Sealer::new(&ring("edge-a", &[1]), Kind::Heartbeat, host(0), life(1)).unwrap();
    let mut out = [0; MAX_DATAGRAM];
    assert!(sealer.seal(5, MESSAGE, &mut out).is_ok());
    for seq in [5, 4, 0] {
        assert_eq!(sealer.seal(seq, MESSAGE, &mut out), Err(SealError::SeqNotRising { seq, last: 5 }));
    }
    assert!(sealer.seal(6, MESSAGE, &mut out).is_ok());
}

#[test]
fn keys_rotate_without_a_gap() {
    let old = sealed(ring("edge-a", &[1]), Kind::Heartbeat, host(0), 1);
    let new = sealed(ring("edge-a", &[2, 1]), Kind::Heartbeat, host(0), 2);
    assert_eq!((old[2], new[2]), (1, 2), "the first key seals");
    for both in [[1, 2], [2, 1]] {
        assert!(opened(ring("edge-a", &both), Kind::Heartbeat, &old).is_ok());
        assert!(opened(ring("edge-a", &both), Kind::Heartbeat, &new).is_ok());
    }
    assert_eq!(opened(ring("edge-a", &[2]), Kind::Heartbeat, &old), Err(OpenError::UnknownKey(1)));
}

#[test]
fn a_small_cache_serves_more_lives_than_it_holds() {
    let mut opener = Opener::<2>::new(ring("edge-a", &[1]), Kind::Heartbeat);
    let mut out = [0; MAX_DATAGRAM];
    for round in 0..3 {
        for id in 0..5 {
            let datagram = sealed(ring("edge-a", &[1]), Kind::Heartbeat, host(id), round);
            assert_eq!(opener.open(&datagram, &mut out).map(|opened| opened.sender), Ok(host(id)));
        }
    }
    assert_eq!(opener.lives(), 2);
}

#[test]
fn safe_7_a_forged_life_takes_no_place_in_the_cache() {
    let mut opener = Opener::<2>::new(ring("edge-a", &[1]), Kind::Heartbeat);
    let mut out = [0; MAX_DATAGRAM];
    let good = sealed(ring("edge-a", &[1]), Kind::Heartbeat, host(0), 1);
    opener.open(&good, &mut out).unwrap();
    for forged_life in 100..110 {
        let mut forged = good.clone();
        forged[4] = forged_life;
        assert_eq!(opener.open(&forged, &mut out).unwrap_err(), OpenError::Forged);
        assert_eq!(opener.lives(), 1);
    }
    opener.open(&good, &mut out).unwrap();
    assert_eq!(opener.lives(), 1, "a life has one place");
}

#[test]
fn buffers_that_are_too_small_are_refused() {
    let mut sealer = Sealer::new(&ring("edge-a", &[1]), Kind::Heartbeat, host(0), life(1)).unwrap();
    assert_eq!(sealer.seal(1, &[0; MAX_MESSAGE + 1], &mut [0; MAX_DATAGRAM]), Err(SealError::TooLarge));
    let datagram = sealed(ring("edge-a", &[1]), Kind::Heartbeat, host(0), 1);
    let mut opener = Opener::<2>::new(ring("edge-a", &[1]), Kind::Heartbeat);
    assert_eq!(opener.open(&datagram, &mut [0; 8]), Err(OpenError::TooLong));
}

#[test]
fn keyrings_and_keys_are_checked() {
    let of = |cluster: &str, ids: &[u8]| Keyring::new(cluster, ids.iter().map(|id| (*id, key(*id)))).err();
    assert_eq!(of("edge-a", &[]), Some(KeyringError::NoKey));
    assert_eq!(of("edge-a", &[1, 1]), Some(KeyringError::KeyIdTwice(1)));
    assert_eq!(of("edge-a", &[1, 2, 3, 4, 5]), Some(KeyringError::TooManyKeys));
    assert_eq!(of("", &[1]), Some(KeyringError::BadClusterName));
    assert_eq!(of(&"x".repeat(33), &[1]), Some(KeyringError::BadClusterName));

    let digits = "0aF3".repeat(16);
    assert!(RootKey::parse(format!("{digits}\n").as_bytes()).is_ok());
    assert_eq!(RootKey::parse(&[b'7'; 64]), Ok(RootKey::new([0x77; 32])));
    assert_eq!(RootKey::parse(b"77\n"), Err(RootKeyError::WrongLength { got: 2 }));
    let bad = digits.replacen('3', "g", 1);
    assert_eq!(RootKey::parse(bad.as_bytes()), Err(RootKeyError::NotHexadecimal { position: 4 }));
}

#[test]
fn safe_6_no_key_is_shown() {
    let ring = ring("edge-a", &[0x5a]);
    let sealer = Sealer::new(&ring, Kind::Ask, host(0), life(1)).unwrap();
    let shown = format!("{ring:?} {sealer:?} {:?}", key(0x5a));
    assert!(!shown.contains("90, 90") && !shown.contains("5a5a"), "{shown}");
}

#[test]
fn each_open_error_has_a_counter_of_its_own() {
    let all = [
        OpenError::TooShort,
        OpenError::TooLong,
        OpenError::WrongVersion(0),
        OpenError::UnknownKind(0),
        OpenError::OtherKind(Kind::Ask),
        OpenError::UnknownSender(0),
        OpenError::UnknownKey(0),
        OpenError::Forged,
    ];
    assert_eq!(all.map(OpenError::index).to_vec(), (0..OpenError::COUNT).collect::<Vec<_>>());
    assert_eq!(OpenError::Forged.reason(), "forged");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn safe_7_random_datagrams_never_open(mut datagram in prop::collection::vec(any::<u8>(), 0..1500), header: bool) {
        if header {
            for (to, from) in datagram.iter_mut().zip([1, 1, 1, 3]) {
                *to = from;
            }
        }
        prop_assert!(opened(ring("edge-a", &[1]), Kind::Heartbeat, &datagram).is_err());
    }
}
