//! Datagrams of RMCP and RMCP+ (IPMI 2.0 sections 13.1.3 and 13.6): bytes in, checked payload out. Pure.

use super::crypto::{BLOCK_LEN, SessionKeys};

/// RMCP version 1.0, no RMCP sequence (no acknowledgement), class IPMI.
const RMCP_HEADER: [u8; 4] = [0x06, 0x00, 0xff, 0x07];
/// Authentication type "RMCP+": the session header of IPMI 2.0 follows.
const FORMAT_RMCP_PLUS: u8 = 0x06;
/// Authentication type "none": the session header of IPMI 1.5 follows.
const FORMAT_NONE: u8 = 0x00;
const ENCRYPTED: u8 = 0x80;
const AUTHENTICATED: u8 = 0x40;
/// The fixed value of the next-header byte (section 13.6, table 13-8).
const NEXT_HEADER: u8 = 0x07;
/// RMCP header and RMCP+ session header, in bytes.
const HEADER_LEN: usize = 16;
/// Longest datagram looked at. The longest answer that is asked for here has 100 bytes.
pub(super) const DATAGRAM_LEN_MAX: usize = 512;

/// What a payload is (section 13.27.3, table 13-16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Payload {
    Ipmi,
    OpenSessionRequest,
    OpenSessionResponse,
    Rakp1,
    Rakp2,
    Rakp3,
    Rakp4,
}

impl Payload {
    const fn code(self) -> u8 {
        match self {
            Self::Ipmi => 0x00,
            Self::OpenSessionRequest => 0x10,
            Self::OpenSessionResponse => 0x11,
            Self::Rakp1 => 0x12,
            Self::Rakp2 => 0x13,
            Self::Rakp3 => 0x14,
            Self::Rakp4 => 0x15,
        }
    }
}

/// Why a datagram is passed over. Whoever waits for an answer goes on waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ignored {
    /// Well formed, but for another session, another step or an earlier request.
    NotOurs,
    /// A copy or a late one: its session sequence number is not above the last one taken.
    Replayed,
    /// Not what the protocol allows, or not authentic.
    Garbage(&'static str),
}

/// A datagram of a login: neither authenticated nor encrypted, session 0, sequence 0 (section 13.6).
pub(super) fn frame_login(payload: Payload, body: &[u8]) -> Vec<u8> {
    let mut datagram = header(payload.code(), 0, 0, body.len());
    datagram.extend_from_slice(body);
    datagram
}

/// The body of a login's datagram, if it carries `payload`.
pub(super) fn parse_login(payload: Payload, datagram: &[u8]) -> Result<&[u8], Ignored> {
    let (kind, session, _sequence, rest) = parse_header(datagram)?;
    // Nothing before the end of a login may claim a session: such a datagram belongs to an earlier one.
    if kind != payload.code() || session != 0 {
        return Err(Ignored::NotOurs);
    }
    body_of(rest).map(|(body, _)| body)
}

/// A datagram within a session: encrypted and authenticated. `iv` must be fresh and random.
pub(super) fn seal(
    keys: &SessionKeys,
    session: u32,
    sequence: u32,
    iv: [u8; BLOCK_LEN],
    message: &[u8],
) -> Vec<u8> {
    let body = keys.encrypt(iv, message);
    let mut datagram =
        header(Payload::Ipmi.code() | ENCRYPTED | AUTHENTICATED, session, sequence, body.len());
    datagram.extend_from_slice(&body);
    // What the tag covers (from the format byte through the next-header byte) must be a multiple of 4 long.
    let covered_len = datagram.len() - RMCP_HEADER.len() + 2;
    let pad_len = (4 - covered_len % 4) % 4;
    datagram.extend([0xff; 3].iter().take(pad_len));
    datagram.push(u8::try_from(pad_len).unwrap_or(0));
    datagram.push(NEXT_HEADER);
    let tag = keys.tag(datagram.get(RMCP_HEADER.len()..).unwrap_or_default());
    datagram.extend_from_slice(tag.truncated(keys.tag_len()));
    datagram
}

/// Opens a datagram of session `session`: its sequence number and the message within. The tag is checked before
/// anything that it covers is believed.
pub(super) fn open(keys: &SessionKeys, session: u32, datagram: &[u8]) -> Result<(u32, Vec<u8>), Ignored> {
    let (kind, id, sequence, rest) = parse_header(datagram)?;
    if id != session {
        return Err(Ignored::NotOurs);
    }
    // A BMC's own unencrypted or unauthenticated answer is refused: the suite asked for both.
    if kind != Payload::Ipmi.code() | ENCRYPTED | AUTHENTICATED {
        return Err(Ignored::Garbage("payload not encrypted and authenticated"));
    }
    let (body, trailer) = body_of(rest)?;
    let covered_len = datagram
        .len()
        .checked_sub(keys.tag_len())
        .filter(|len| *len > RMCP_HEADER.len())
        .ok_or(Ignored::Garbage("no room for an authentication code"))?;
    let (covered, tag) = datagram.split_at(covered_len);
    let covered = covered.get(RMCP_HEADER.len()..).unwrap_or_default();
    if !keys.tag(covered).matches(keys.tag_len(), tag) {
        return Err(Ignored::Garbage("authentication code differs"));
    }
    let trailer_len = trailer.len().checked_sub(keys.tag_len()).ok_or(Ignored::Garbage("trailer cut off"))?;
    match trailer.get(..trailer_len) {
        Some([pad @ .., pad_len, NEXT_HEADER]) if usize::from(*pad_len) == pad.len() && pad.len() < 4 => {}
        Some(_) | None => return Err(Ignored::Garbage("integrity pad malformed")),
    }
    Ok((sequence, keys.decrypt(body)?))
}

/// A datagram outside any session in the format of IPMI 1.5, which every BMC answers (section 13.6, table 13-8).
pub(super) fn frame_sessionless(message: &[u8]) -> Vec<u8> {
    let mut datagram = RMCP_HEADER.to_vec();
    datagram.push(FORMAT_NONE);
    datagram.extend_from_slice(&[0; 8]);
    datagram.push(u8::try_from(message.len()).unwrap_or(u8::MAX));
    datagram.extend_from_slice(message);
    datagram
}

/// The message of a datagram outside any session, in either format. Nothing vouches for it.
pub(super) fn parse_sessionless(datagram: &[u8]) -> Result<&[u8], Ignored> {
    let rest = datagram.strip_prefix(&RMCP_HEADER).ok_or(Ignored::Garbage("not RMCP of class IPMI"))?;
    match rest {
        [FORMAT_NONE, 0, 0, 0, 0, 0, 0, 0, 0, len, message @ ..] => {
            message.get(..usize::from(*len)).ok_or(Ignored::Garbage("message cut off"))
        }
        [FORMAT_RMCP_PLUS, ..] => parse_login(Payload::Ipmi, datagram),
        _ => Err(Ignored::NotOurs),
    }
}

fn header(kind: u8, session: u32, sequence: u32, body_len: usize) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(DATAGRAM_LEN_MAX);
    datagram.extend_from_slice(&RMCP_HEADER);
    datagram.extend_from_slice(&[FORMAT_RMCP_PLUS, kind]);
    datagram.extend_from_slice(&session.to_le_bytes());
    datagram.extend_from_slice(&sequence.to_le_bytes());
    datagram.extend_from_slice(&u16::try_from(body_len).unwrap_or(u16::MAX).to_le_bytes());
    datagram
}

/// Payload type, session id, sequence number, and the rest from the length field on.
fn parse_header(datagram: &[u8]) -> Result<(u8, u32, u32, &[u8]), Ignored> {
    if datagram.len() > DATAGRAM_LEN_MAX {
        return Err(Ignored::Garbage("longer than any answer"));
    }
    let rest = datagram.strip_prefix(&RMCP_HEADER).ok_or(Ignored::Garbage("not RMCP of class IPMI"))?;
    match rest {
        [FORMAT_RMCP_PLUS, kind, i0, i1, i2, i3, s0, s1, s2, s3, rest @ ..] => {
            let session = u32::from_le_bytes([*i0, *i1, *i2, *i3]);
            let sequence = u32::from_le_bytes([*s0, *s1, *s2, *s3]);
            Ok((*kind, session, sequence, rest))
        }
        [FORMAT_RMCP_PLUS, ..] => Err(Ignored::Garbage("session header cut off")),
        _ => Err(Ignored::NotOurs),
    }
}

/// Splits what follows the sequence number into the body, as long as its length field says, and the trailer.
fn body_of(rest: &[u8]) -> Result<(&[u8], &[u8]), Ignored> {
    let (len, rest) = rest.split_first_chunk().ok_or(Ignored::Garbage("session header cut off"))?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*len))).ok_or(Ignored::Garbage("payload cut off"))
}

const _: () = assert!(HEADER_LEN == RMCP_HEADER.len() + 12);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::crypto::Suite;
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    fn keys(suite: Suite) -> SessionKeys {
        SessionKeys::derive(suite, &[0x5a; 20])
    }

    #[test]
    fn login_frame_golden() {
        let datagram = frame_login(Payload::OpenSessionRequest, &[0xab, 0xcd]);
        assert_eq!(hex(&datagram), "0600ff07061000000000000000000200abcd");
        assert_eq!(parse_login(Payload::OpenSessionRequest, &datagram), Ok(&[0xab, 0xcd][..]));
        assert_eq!(parse_login(Payload::Rakp2, &datagram), Err(Ignored::NotOurs));
        assert!(matches!(parse_login(Payload::Rakp2, &datagram[..9]), Err(Ignored::Garbage(_))));
        assert!(matches!(
            parse_login(Payload::OpenSessionRequest, &datagram[..17]),
            Err(Ignored::Garbage(_))
        ));
    }

    #[test]
    fn sealed_frame_goldens() {
        // tests/peers/golden_rmcp.py makes these with Python's hmac and OpenSSL.
        let message = [0x20, 0x00, 0xe0, 0x81, 0x04, 0x01, 0x7a];
        for (suite, golden) in [
            (Suite::Three, include_str!("golden/sealed_suite_3.hex")),
            (Suite::Seventeen, include_str!("golden/sealed_suite_17.hex")),
        ] {
            let datagram = seal(&keys(suite), 0x0403_0201, 7, [0xaa; 16], &message);
            assert_eq!(hex(&datagram), golden.trim(), "suite {suite}");
            assert_eq!(open(&keys(suite), 0x0403_0201, &datagram), Ok((7, message.to_vec())));
            assert_eq!(open(&keys(suite), 0x0403_0202, &datagram), Err(Ignored::NotOurs));
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let datagram = seal(&keys(Suite::Seventeen), 1, 1, [1; 16], b"twenty bytes of text");
        for bit in 0..datagram.len() * 8 {
            let mut bad = datagram.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&keys(Suite::Seventeen), 1, &bad).is_err(), "bit {bit}");
        }
        for len in 0..datagram.len() {
            assert!(open(&keys(Suite::Seventeen), 1, &datagram[..len]).is_err(), "length {len}");
        }
    }

    #[test]
    fn sessionless_frame_golden() {
        let datagram = frame_sessionless(&[1, 2, 3]);
        assert_eq!(hex(&datagram), "0600ff0700000000000000000003010203");
        assert_eq!(parse_sessionless(&datagram), Ok(&[1, 2, 3][..]));
        assert_eq!(parse_sessionless(&frame_login(Payload::Ipmi, &[9])), Ok(&[9][..]));
        assert!(parse_sessionless(&datagram[..15]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_can_panic_a_parser(tail in proptest::collection::vec(any::<u8>(), 0..600), real: bool) {
            let mut datagram = if real { vec![6, 0, 0xff, 7, 6] } else { Vec::new() };
            datagram.extend(tail);
            let _ = parse_login(Payload::Rakp2, &datagram);
            let _ = parse_sessionless(&datagram);
            prop_assert!(open(&keys(Suite::Three), 1, &datagram).is_err());
        }

        #[test]
        fn what_is_sealed_opens(message in proptest::collection::vec(any::<u8>(), 0..100), session: u32, sequence: u32) {
            for suite in [Suite::Three, Suite::Seventeen] {
                let datagram = seal(&keys(suite), session, sequence, [3; 16], &message);
                prop_assert_eq!(open(&keys(suite), session, &datagram), Ok((sequence, message.clone())));
            }
        }
    }
}
