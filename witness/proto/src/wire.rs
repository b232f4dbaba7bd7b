//! Bytes of the heartbeat (versions 1 to 4), the ask and the answer (version 1): postcard bodies behind a version byte.
//!
//! Decides: what bytes mean, and that what they say is consistent in itself. Never: whether they are authentic
//! ([`crate::seal`]), fresh or authorised (the caller). Sender and seq travel in the sealed header and are not repeated.

mod error;
mod heartbeat;
mod witness;

pub use error::{DecodeError, EncodeError, Field};
pub use heartbeat::{decode_heartbeat, encode_heartbeat};
pub use witness::{decode_answer, decode_ask, encode_answer, encode_ask};

use serde::{Deserialize, Serialize};

use crate::{HostId, Incarnation, LifeName, Names};

/// The version of the sealed header, of asks and answers, and of a heartbeat that tells of nothing that came later.
pub const VERSION: u8 = 1;
/// The version of a heartbeat that tells of walls.
pub const WALLS_VERSION: u8 = 2;
/// The version of a heartbeat that tells of failing probes or of operators' wishes.
pub const CARE_VERSION: u8 = 3;
/// The version of a heartbeat that tells of hosts in maintenance; the highest that this build reads.
pub const HEARTBEAT_VERSION: u8 = 4;
/// The clear header of a sealed datagram (see [`crate::seal`]).
pub const HEADER_LEN: usize = 20;
/// The authentication tag at its end.
pub const TAG_LEN: usize = 16;
/// The longest sealed datagram: stays below the usual MTU of 1,500 with IPv6 and a tunnel around it.
pub const MAX_DATAGRAM: usize = 1400;
/// The longest message, before it is sealed.
pub const MAX_MESSAGE: usize = MAX_DATAGRAM - HEADER_LEN - TAG_LEN;

/// An incarnation on the wire: host id, then the life's name as eight raw bytes (a varint would make it up to ten).
type WireName = (u8, [u8; 8]);

fn wire_name(name: Incarnation) -> WireName {
    (name.host.number(), name.life.0)
}

/// The names of a list that must be in strictly rising order: one list has one encoding, and no name stands twice.
fn names_from_wire(list: &[WireName]) -> Result<Names, DecodeError> {
    let mut names = Names::new();
    let mut last = None;
    for &(host, life) in list {
        let host = HostId::new(host).ok_or(DecodeError::NoSuchHost { id: host })?;
        let name = Incarnation { host, life: LifeName(life) };
        if last.is_some_and(|last| last >= name) {
            return Err(DecodeError::NamesNotRising);
        }
        last = Some(name);
        names.insert(name);
    }
    Ok(names)
}

/// The version byte, then `body`.
fn write<T: Serialize>(body: &T, out: &mut [u8]) -> Result<usize, EncodeError> {
    write_as(VERSION, body, out)
}

fn write_as<T: Serialize>(version: u8, body: &T, out: &mut [u8]) -> Result<usize, EncodeError> {
    let (first, rest) = out.split_first_mut().ok_or(EncodeError::TooLarge)?;
    *first = version;
    let body = postcard::to_slice(body, rest).map_err(|_| EncodeError::TooLarge)?;
    Ok(1 + body.len())
}

/// The body behind a version byte; every byte must belong to it.
fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    let (&version, rest) = bytes.split_first().ok_or(DecodeError::Truncated)?;
    if version != VERSION {
        return Err(DecodeError::OtherVersion { got: version });
    }
    whole(rest)
}

/// All of `bytes`.
fn whole<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    let (body, left) = postcard::take_from_bytes(bytes).map_err(|error| {
        if error == postcard::Error::DeserializeUnexpectedEnd {
            DecodeError::Truncated
        } else {
            DecodeError::Malformed
        }
    })?;
    if left.is_empty() { Ok(body) } else { Err(DecodeError::TrailingBytes { count: left.len() }) }
}
