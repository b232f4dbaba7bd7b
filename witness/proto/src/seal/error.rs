//! What can go wrong with keys and seals.

use core::fmt;

use super::{Kind, MAX_CLUSTER_NAME, MAX_KEYS};
use crate::Seq;

/// Why a text is no root key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootKeyError {
    /// It is not 64 characters and at most one newline.
    WrongLength {
        /// The characters found, the newline at the end not counted.
        got: usize,
    },
    /// A character is no hexadecimal digit. It is not named: it may be part of a secret.
    NotHexadecimal {
        /// The position, from 1.
        position: usize,
    },
}

impl fmt::Display for RootKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongLength { got } => write!(f, "a key is 64 hexadecimal digits, not {got} characters"),
            Self::NotHexadecimal { position } => write!(f, "character {position} is no hexadecimal digit"),
        }
    }
}

impl core::error::Error for RootKeyError {}

/// Why a keyring cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyringError {
    /// The cluster's name is empty or too long.
    BadClusterName,
    /// More keys than a ring holds.
    TooManyKeys,
    /// A key id stands twice.
    KeyIdTwice(u8),
    /// There is no key to seal with.
    NoKey,
}

impl fmt::Display for KeyringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadClusterName => write!(f, "a cluster's name has 1 to {MAX_CLUSTER_NAME} bytes"),
            Self::TooManyKeys => write!(f, "at most {MAX_KEYS} keys"),
            Self::KeyIdTwice(id) => write!(f, "key id {id} stands twice"),
            Self::NoKey => f.write_str("no key"),
        }
    }
}

impl core::error::Error for KeyringError {}

/// Why nothing was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealError {
    /// The seq is not above the last one: sealing would use a nonce twice.
    SeqNotRising {
        /// The seq asked for.
        seq: Seq,
        /// The last one sealed.
        last: Seq,
    },
    /// The datagram does not fit the buffer.
    TooLarge,
    /// The cipher refused.
    Cipher,
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SeqNotRising { seq, last } => {
                write!(f, "seq {seq} is not above {last}: it would use a nonce twice")
            }
            Self::TooLarge => f.write_str("the datagram does not fit its buffer"),
            Self::Cipher => f.write_str("the cipher refused"),
        }
    }
}

impl core::error::Error for SealError {}

/// Why a datagram was not opened. Each is counted: see [`OpenError::index`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// Shorter than header and tag.
    TooShort,
    /// Longer than the buffer given.
    TooLong,
    /// Another wire version.
    WrongVersion(u8),
    /// A kind that this version does not have.
    UnknownKind(u8),
    /// A kind that does not belong here, such as an answer on a heartbeat's port.
    OtherKind(Kind),
    /// A sender that there cannot be, or that does not say such a thing.
    UnknownSender(u8),
    /// No root key has this id.
    UnknownKey(u8),
    /// It was not sealed so, with this key, for this cluster.
    Forged,
}

impl OpenError {
    /// How many different errors there are: the length of an array of counters.
    pub const COUNT: usize = 8;
    /// A word for each, by [`Self::index`].
    pub const REASONS: [&'static str; Self::COUNT] = [
        "too_short",
        "too_long",
        "wrong_version",
        "unknown_kind",
        "other_kind",
        "unknown_sender",
        "unknown_key",
        "forged",
    ];

    /// The place of this error in an array of counters.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::TooShort => 0,
            Self::TooLong => 1,
            Self::WrongVersion(_) => 2,
            Self::UnknownKind(_) => 3,
            Self::OtherKind(_) => 4,
            Self::UnknownSender(_) => 5,
            Self::UnknownKey(_) => 6,
            Self::Forged => 7,
        }
    }

    /// The word for this error.
    #[must_use]
    pub fn reason(self) -> &'static str {
        Self::REASONS.get(self.index()).copied().unwrap_or("other")
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => f.write_str("shorter than a header and a tag"),
            Self::TooLong => f.write_str("longer than any message"),
            Self::WrongVersion(got) => {
                write!(f, "wire version {got}, this build reads {}", crate::wire::VERSION)
            }
            Self::UnknownKind(code) => write!(f, "unknown kind {code}"),
            Self::OtherKind(kind) => write!(f, "a {kind:?} does not belong here"),
            Self::UnknownSender(code) => write!(f, "no such sender: {code}"),
            Self::UnknownKey(id) => write!(f, "no key has the id {id}"),
            Self::Forged => f.write_str("not sealed with this key for this cluster"),
        }
    }
}

impl core::error::Error for OpenError {}
