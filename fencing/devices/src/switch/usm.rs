//! The user-based security model of SNMPv3 (RFC 3414; RFC 7860 for SHA-256; RFC 3826 for AES), with authentication and privacy and
//! never with less. Pure.
//!
//! Decides what a switch with the user's keys has said. A report that nobody has signed is told apart from what is: it is a reason
//! to fail, and for nothing else.

use std::ops::Range;

use aes::cipher::KeyIvInit as _;
use ring::{digest, hmac};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::ber::{self, Reader, Wrong};
use super::message::{Kind, Pdu, VERSION_3};

/// RFC 3414 section 11.2.
pub(super) const PASSWORD_LEN_MIN: usize = 8;
/// msgFlags, RFC 3412 section 6.4.
const AUTH: u8 = 0x01;
const PRIV: u8 = 0x02;
const REPORTABLE: u8 = 0x04;
/// The user-based model's number, and the largest answer that is read.
const SECURITY_MODEL: i64 = 3;
pub(super) const ANSWER_LEN_MAX: usize = 16 * 1024;
/// A password is repeated to this many bytes (RFC 3414 section A.2).
const STRETCHED_LEN: usize = 1024 * 1024;
const AES_KEY_LEN: usize = 16;
const SALT_LEN: usize = 8;
/// RFC 3411, SnmpEngineID.
const ENGINE_ID_LEN_MAX: usize = 32;
/// usmStats, RFC 3414 section 5.
const USM_STATS: [u32; 9] = [1, 3, 6, 1, 6, 3, 15, 1, 1];

/// With what messages are signed; the keys come from the same hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthProtocol {
    /// HMAC-SHA-96 (RFC 3414).
    Sha1,
    /// HMAC-192-SHA-256 (RFC 7860).
    Sha256,
}

impl AuthProtocol {
    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
        }
    }

    const fn tag_len(self) -> usize {
        match self {
            Self::Sha1 => 12,
            Self::Sha256 => 24,
        }
    }
}

/// The switch's engine: its name, how often it has booted, and its seconds since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Engine {
    pub(super) id: Vec<u8>,
    pub(super) boots: u32,
    pub(super) time: u32,
}

/// A user's keys at one engine (RFC 3414 section 2.6).
pub(super) struct Keys {
    protocol: AuthProtocol,
    auth: hmac::Key,
    privacy: Zeroizing<[u8; AES_KEY_LEN]>,
}

impl Keys {
    pub(super) fn new(protocol: AuthProtocol, auth: &[u8], privacy: &[u8], engine_id: &[u8]) -> Self {
        let mut aes = Zeroizing::new([0; AES_KEY_LEN]);
        aes.iter_mut().zip(localized(protocol, privacy, engine_id).iter()).for_each(|(to, from)| *to = *from);
        let auth = hmac::Key::new(protocol.hmac(), &localized(protocol, auth, engine_id));
        Self { protocol, auth, privacy: aes }
    }

    /// RFC 3826 section 3.1.2.1.
    fn iv(engine: &Engine, salt: &[u8; SALT_LEN]) -> [u8; AES_KEY_LEN] {
        let mut iv = [0; AES_KEY_LEN];
        let parts = [&engine.boots.to_be_bytes()[..], &engine.time.to_be_bytes(), salt].concat();
        iv.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        iv
    }

    fn tag(&self, message: &[u8]) -> Vec<u8> {
        let tag = hmac::sign(&self.auth, message);
        tag.as_ref().iter().take(self.protocol.tag_len()).copied().collect()
    }
}

/// RFC 3414 section A.2.2.
fn localized(protocol: AuthProtocol, password: &[u8], engine_id: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut stretched = digest::Context::new(protocol.digest());
    // Whole turns of the password make long pieces; the last one is cut.
    let piece: Zeroizing<Vec<u8>> =
        Zeroizing::new(password.iter().copied().cycle().take(password.len().max(1) * 64).collect());
    let mut left = if piece.is_empty() { 0 } else { STRETCHED_LEN };
    while left > 0 {
        let part = piece.get(..left).unwrap_or(&piece);
        stretched.update(part);
        left -= part.len();
    }
    let stretched = stretched.finish();
    let mut local = digest::Context::new(protocol.digest());
    for part in [stretched.as_ref(), engine_id, stretched.as_ref()] {
        local.update(part);
    }
    Zeroizing::new(local.finish().as_ref().to_vec())
}

/// Asks for the engine's name; signed by nobody (RFC 3414 section 4).
pub(super) fn discovery(message_id: i64) -> Vec<u8> {
    let nobody = Engine { id: Vec::new(), boots: 0, time: 0 };
    let pdu = Pdu { kind: Kind::Get, request: message_id, status: 0, index: 0, bindings: Vec::new() };
    let scoped = ber::sequence(ber::SEQUENCE, &[ber::octets(&[]), ber::octets(&[]), pdu.write()]);
    message(message_id, REPORTABLE, &nobody, b"", &[], &[], scoped)
}

/// `pdu`, encrypted and signed by `user`.
pub(super) fn seal(
    user: &str,
    keys: &Keys,
    engine: &Engine,
    salt: [u8; SALT_LEN],
    message_id: i64,
    pdu: &Pdu,
) -> Vec<u8> {
    let mut scoped = ber::sequence(ber::SEQUENCE, &[ber::octets(&engine.id), ber::octets(&[]), pdu.write()]);
    let iv = Keys::iv(engine, &salt);
    cfb_mode::Encryptor::<aes::Aes128>::new(&(*keys.privacy).into(), &iv.into()).encrypt(&mut scoped);
    let flags = AUTH | PRIV | REPORTABLE;
    let unsigned = vec![0; keys.protocol.tag_len()];
    let sealed = ber::octets(&scoped);
    let mut whole = message(message_id, flags, engine, user.as_bytes(), &unsigned, &salt, sealed);
    // Signed with zeros where the signature comes (RFC 3414 section 6.3.1); where that is, the reader knows.
    if let Ok(place) = Header::read(&whole).map(|header| header.tag) {
        let tag = keys.tag(&whole);
        whole.iter_mut().skip(place.start).zip(tag).for_each(|(to, from)| *to = from);
    }
    whole
}

fn message(
    id: i64,
    flags: u8,
    engine: &Engine,
    user: &[u8],
    tag: &[u8],
    salt: &[u8],
    data: Vec<u8>,
) -> Vec<u8> {
    let largest = i64::try_from(ANSWER_LEN_MAX).unwrap_or(i64::MAX);
    let global =
        [ber::integer(id), ber::integer(largest), ber::octets(&[flags]), ber::integer(SECURITY_MODEL)];
    let security = ber::sequence(
        ber::SEQUENCE,
        &[
            ber::octets(&engine.id),
            ber::integer(i64::from(engine.boots)),
            ber::integer(i64::from(engine.time)),
            ber::octets(user),
            ber::octets(tag),
            ber::octets(salt),
        ],
    );
    let parts =
        [ber::integer(VERSION_3), ber::sequence(ber::SEQUENCE, &global), ber::octets(&security), data];
    ber::sequence(ber::SEQUENCE, &parts)
}

/// What a message of version 3 says around its PDU (RFC 3412 section 6, RFC 3414 section 2.4).
struct Header<'a> {
    id: i64,
    flags: u8,
    engine: Engine,
    user: &'a [u8],
    /// Where the signature stands.
    tag: Range<usize>,
    salt: &'a [u8],
    data: Reader<'a>,
}

impl<'a> Header<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Wrong> {
        let mut data = Reader::new(bytes).expect(ber::SEQUENCE)?;
        if data.integer()? != VERSION_3 {
            return Err("another version than 3");
        }
        let mut global = data.expect(ber::SEQUENCE)?;
        let id = global.integer()?;
        global.integer()?;
        let &[flags] = global.octets()? else { return Err("flags that are none") };
        if global.integer()? != SECURITY_MODEL {
            return Err("another security model than the user-based one");
        }
        let mut security = data.expect(ber::OCTETS)?.expect(ber::SEQUENCE)?;
        let engine_id = security.octets()?;
        if engine_id.len() > ENGINE_ID_LEN_MAX {
            return Err("an engine id that is none");
        }
        let mut number = || u32::try_from(security.integer()?).map_err(|_| "an engine's time that is none");
        let (boots, time) = (number()?, number()?);
        let engine = Engine { id: engine_id.to_vec(), boots, time };
        let user = security.octets()?;
        let tag = security.expect(ber::OCTETS)?.rest().1;
        Ok(Self { id, flags, engine, user, tag, salt: security.octets()?, data })
    }
}

/// An answer of version 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// Of a switch that has the user's keys, and encrypted.
    Answer { message_id: i64, pdu: Pdu },
    /// The engine takes the question for none of its own.
    Report { message_id: i64, what: Report, engine: Engine, signed: bool },
}

/// What a report counts (RFC 3414 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    UnsupportedSecurityLevel,
    NotInTimeWindow,
    UnknownUser,
    UnknownEngine,
    WrongDigest,
    DecryptionError,
    Other,
}

/// Reads an answer. With `login` absent there is none but a report that nobody has signed.
pub(super) fn open(bytes: &[u8], login: Option<(&str, &Keys, &[u8])>) -> Result<Opened, Wrong> {
    let mut header = Header::read(bytes)?;
    let (message_id, engine) = (header.id, header.engine.clone());
    let signed = header.flags & AUTH != 0;
    let mut plain = Vec::new();
    if signed {
        let (user, keys, engine_id) = login.ok_or("signed before there was a key")?;
        if header.user != user.as_bytes() || engine.id != engine_id {
            return Err("another user or engine");
        }
        let received = bytes.get(header.tag.clone()).unwrap_or_default();
        let mut unsigned = bytes.to_vec();
        unsigned.iter_mut().take(header.tag.end).skip(header.tag.start).for_each(|byte| *byte = 0);
        if !bool::from(keys.tag(&unsigned).as_slice().ct_eq(received)) {
            return Err("a wrong signature");
        }
        if header.flags & PRIV != 0 {
            let salt = header.salt.try_into().map_err(|_| "a salt that is none")?;
            plain = header.data.octets()?.to_vec();
            let iv = Keys::iv(&engine, salt);
            cfb_mode::Decryptor::<aes::Aes128>::new(&(*keys.privacy).into(), &iv.into()).decrypt(&mut plain);
        }
    }
    let encrypted = signed && header.flags & PRIV != 0;
    let mut data = if encrypted { Reader::new(&plain) } else { header.data };
    let mut scoped = data.expect(ber::SEQUENCE)?;
    scoped.octets()?;
    scoped.octets()?;
    let pdu = Pdu::read(&mut scoped)?;
    match pdu.kind {
        Kind::Response if encrypted => Ok(Opened::Answer { message_id, pdu }),
        Kind::Report => Ok(Opened::Report { message_id, what: report(&pdu), engine, signed }),
        Kind::Response | Kind::Get | Kind::GetBulk | Kind::Set => {
            Err("an answer without signature or encryption")
        }
    }
}

fn report(pdu: &Pdu) -> Report {
    let object = pdu.bindings.first().map(|(object, _)| object.as_slice());
    match object.and_then(|object| object.strip_prefix(&USM_STATS)) {
        Some([1, ..]) => Report::UnsupportedSecurityLevel,
        Some([2, ..]) => Report::NotInTimeWindow,
        Some([3, ..]) => Report::UnknownUser,
        Some([4, ..]) => Report::UnknownEngine,
        Some([5, ..]) => Report::WrongDigest,
        Some([6, ..]) => Report::DecryptionError,
        Some(_) | None => Report::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Value;
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    const ENGINE_ID: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

    /// RFC 3414 section A.3.2; for SHA-256 what Python's `hashlib` makes of the same.
    #[test]
    fn keys_are_made_of_passwords_as_the_standard_shows() {
        let key = localized(AuthProtocol::Sha1, b"maplesyrup", &ENGINE_ID);
        assert_eq!(hex(&key), "6695febc9288e36282235fc7151f128497b38f3f");
        let key = localized(AuthProtocol::Sha256, b"maplesyrup", &ENGINE_ID);
        assert_eq!(hex(&key), "8982e0e549e866db361a6b625d84cccc11162d453ee8ce3a6445c2d6776f0f8b");
    }

    fn engine() -> Engine {
        Engine { id: ENGINE_ID.to_vec(), boots: 3, time: 77 }
    }

    fn answer(kind: Kind) -> Pdu {
        let bindings = vec![(vec![1, 3, 6, 1, 6, 3, 15, 1, 1, 2, 0], Value::Integer(1))];
        Pdu { kind, request: 9, status: 0, index: 0, bindings }
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_keys_alone() {
        for protocol in [AuthProtocol::Sha1, AuthProtocol::Sha256] {
            let keys = Keys::new(protocol, b"maplesyrup", b"syrupmaple", &ENGINE_ID);
            let pdu = answer(Kind::Response);
            let bytes = seal("b", &keys, &engine(), [7; 8], 5, &pdu);
            let opened = open(&bytes, Some(("b", &keys, &ENGINE_ID)));
            assert_eq!(opened, Ok(Opened::Answer { message_id: 5, pdu }));
            assert!(open(&bytes, Some(("c", &keys, &ENGINE_ID))).is_err());
            assert!(open(&bytes, Some(("b", &keys, &[1; 12]))).is_err());
            assert!(open(&bytes, None).is_err());
            let others = Keys::new(protocol, b"maplesyrup2", b"syrupmaple", &ENGINE_ID);
            assert_eq!(open(&bytes, Some(("b", &others, &ENGINE_ID))), Err("a wrong signature"));
            for at in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[at] ^= 1;
                assert!(open(&changed, Some(("b", &keys, &ENGINE_ID))).is_err(), "byte {at}");
                assert!(open(&bytes[..at], Some(("b", &keys, &ENGINE_ID))).is_err(), "cut to {at}");
            }
        }
    }

    /// SAFE-4: an answer is the switch's own only with the user's keys.
    #[test]
    fn without_signature_and_encryption_nothing_is_an_answer() {
        let keys = Keys::new(AuthProtocol::Sha1, b"maplesyrup", b"syrupmaple", &ENGINE_ID);
        let plain = |kind, flags| {
            let scoped =
                ber::sequence(ber::SEQUENCE, &[ber::octets(&[]), ber::octets(&[]), answer(kind).write()]);
            message(5, flags, &engine(), b"b", &[], &[], scoped)
        };
        let login = Some(("b", &keys, &ENGINE_ID[..]));
        assert_eq!(open(&plain(Kind::Response, 0), login), Err("an answer without signature or encryption"));
        assert_eq!(
            open(&plain(Kind::Response, PRIV), login),
            Err("an answer without signature or encryption")
        );
        assert_eq!(open(&plain(Kind::Response, AUTH), login), Err("a wrong signature"));
        let what = Report::NotInTimeWindow;
        let report = Opened::Report { message_id: 5, what, engine: engine(), signed: false };
        assert_eq!(open(&plain(Kind::Report, 0), login), Ok(report.clone()));
        assert_eq!(open(&plain(Kind::Report, 0), None), Ok(report));
    }
}
