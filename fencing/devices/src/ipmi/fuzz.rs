//! What a BMC, or whoever sits on its network, may send: each kind of datagram by itself. [`dialogue`] has whole sessions.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a broken property ends the run"
)]

mod bmc;
pub(crate) mod dialogue;

use ipmi_rs_core::connection::IpmiCommand;
use palisade_ladder::Reading;
use palisade_proto::fuzz::{Bytes, check_words};

use super::Suite;
use super::crypto::SessionKeys;
use super::message::{self, CodeName, GetChassisStatus, GetSystemGuid, SetSessionPrivilege};
use super::rakp::{Denied, Login, Step, status_name};
use super::rmcp::{self, DATAGRAM_LEN_MAX, Payload};

const CONSOLE_SESSION: u32 = 0x0102_0304;
const BMC_SESSION: u32 = 0x0a0b_0c0d;
const SESSION_HEADER: [u8; 12] = [6, 0, 0xff, 7, 6, 0xc0, 4, 3, 2, 1, 5, 0];

/// Nothing but what was sealed with the session's keys is taken, whole and unchanged; no login ends without the password; a
/// host reads as off only if the answer says so.
///
/// # Panics
/// If not.
pub fn ipmi_reply(bytes: &[u8]) {
    let mut bytes = Bytes::new(bytes);
    let mode = bytes.byte();
    let suite = if mode & 0x80 == 0 { Suite::Three } else { Suite::Seventeen };
    let keys = SessionKeys::derive(suite, &[0x5a; 20]);
    match mode % 5 {
        0 => datagram(&keys, bytes.rest()),
        1 => login(suite, bytes.rest()),
        2 => answer(bytes.rest()),
        3 => sealed(&keys, &mut bytes),
        _ => tagged(&keys, bytes.rest()),
    }
}

fn datagram(keys: &SessionKeys, bytes: &[u8]) {
    for payload in [Payload::OpenSessionResponse, Payload::Rakp2, Payload::Rakp4, Payload::Ipmi] {
        if let Ok(body) = rmcp::parse_login(payload, bytes) {
            assert!(bytes.len() <= DATAGRAM_LEN_MAX && body.len() + 16 <= bytes.len());
            // Anything may follow a body; a frame of the body alone says the same.
            let framed = rmcp::frame_login(payload, body);
            assert_eq!(rmcp::parse_login(payload, &framed), Ok(body));
        }
    }
    if let Ok(inner) = rmcp::parse_sessionless(bytes) {
        drop(message::decode(inner));
    }
    assert!(rmcp::open(keys, CONSOLE_SESSION, bytes).is_err(), "SAFE-4: taken without a key");
}

fn login(suite: Suite, bytes: &[u8]) {
    let login = Login {
        suite,
        user: b"admin",
        password: b"secret",
        kg: None,
        privilege: 3,
        tag: 0x7e,
        console_session: CONSOLE_SESSION,
        console_random: [0x11; 16],
    };
    let known = proven(suite);
    // As it came, and behind the head that makes it an answer to us.
    let mut ours = vec![0x7e, 0, 0, 0, 4, 3, 2, 1];
    ours.extend_from_slice(bytes);
    for body in [bytes, &ours] {
        match login.opened(body) {
            Ok(session) => {
                assert!(session != 0 && body.len() >= 36, "session {session:#x} out of {} bytes", body.len());
                let chosen = [body[16] & 0x3f, body[24] & 0x3f, body[32] & 0x3f];
                assert_eq!(chosen, suite.algorithms(), "followed down to another suite");
            }
            Err(Step::Denied(Denied::Status(status))) => {
                assert!(status != 0 && body.get(1) == Some(&status));
                assert!(!status_name(status).is_empty());
            }
            Err(Step::Denied(Denied::Algorithms(_) | Denied::Proof) | Step::Ignore(_)) => {}
        }
        if let Ok(challenge) = login.challenged(BMC_SESSION, body) {
            assert_eq!(body[8..], known[..], "a proof without the password");
            let finished = login.finished(BMC_SESSION, &challenge, body);
            assert!(finished.is_err(), "one message proves two things");
        }
    }
}

/// What follows the head of the one message 2 that a BMC with the password sends here (see rakp's own tests).
fn proven(suite: Suite) -> Vec<u8> {
    let golden = match suite {
        Suite::Three => include_str!("golden/rakp_suite_3.hex"),
        Suite::Seventeen => include_str!("golden/rakp_suite_17.hex"),
    };
    let proof = golden.lines().next().unwrap();
    let proof = (0..proof.len() / 2).map(|at| u8::from_str_radix(&proof[2 * at..2 * at + 2], 16).unwrap());
    [0x22; 16].into_iter().chain([0x33; 16]).chain(proof).collect()
}

fn answer(bytes: &[u8]) {
    let Ok(answer) = message::decode(bytes) else { return };
    assert_eq!(answer.data.len() + 8, bytes.len());
    check_words(&CodeName(answer.completion));
    // Two sums cover every byte: a change of one is always seen.
    for at in 0..bytes.len().min(64) {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 0x41;
        assert!(message::decode(&damaged).is_err(), "byte {at} is covered by no sum");
    }
    match GetChassisStatus::parse_success_response(&answer.data) {
        Ok(Reading::Off) => assert!(answer.data.len() >= 3 && answer.data[0] & 1 == 0, "SAFE-4"),
        Ok(Reading::On) => assert!(answer.data[0] & 1 == 1),
        Ok(Reading::Unknown) => panic!("a status says on or off"),
        Err(_) => assert!(answer.data.len() < 3),
    }
    assert_eq!(GetSystemGuid::parse_success_response(&answer.data).is_ok(), answer.data.len() == 16);
    let level = SetSessionPrivilege::parse_success_response(&answer.data);
    assert!(level.is_ok_and(|level| level < 16) || answer.data.is_empty());
}

fn sealed(keys: &SessionKeys, bytes: &mut Bytes<'_>) {
    let (sequence, at, flip) = (bytes.word(), usize::from(bytes.short()), bytes.byte());
    let sequence = u32::from_le_bytes([sequence as u8, (sequence >> 8) as u8, (sequence >> 16) as u8, 0]);
    let text = bytes.rest();
    let mut datagram = rmcp::seal(keys, CONSOLE_SESSION, sequence, [flip; 16], text);
    if datagram.len() > DATAGRAM_LEN_MAX {
        return assert!(rmcp::open(keys, CONSOLE_SESSION, &datagram).is_err(), "longer than any answer");
    }
    let opened = rmcp::open(keys, CONSOLE_SESSION, &datagram);
    assert_eq!(opened, Ok((sequence, text.to_vec())));
    assert!(rmcp::open(keys, CONSOLE_SESSION + 1, &datagram).is_err(), "another session's");
    assert!(rmcp::open(keys, CONSOLE_SESSION, &datagram[..at % datagram.len()]).is_err(), "cut");
    let at = at % datagram.len();
    datagram[at] ^= flip.max(1);
    assert!(rmcp::open(keys, CONSOLE_SESSION, &datagram).is_err(), "SAFE-4: byte {at} was changed");
}

/// A BMC with the keys that seals nonsense: the tag holds, and what it covers is anything.
fn tagged(keys: &SessionKeys, bytes: &[u8]) {
    let mut datagram = SESSION_HEADER.to_vec();
    datagram.extend_from_slice(bytes);
    let tag = keys.tag(&datagram[4..]);
    datagram.extend_from_slice(tag.truncated(keys.tag_len()));
    if let Ok((_, text)) = rmcp::open(keys, CONSOLE_SESSION, &datagram) {
        assert!(text.len() < bytes.len());
        answer(&text);
    }
}
