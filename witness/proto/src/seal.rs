//! Sealing: who may have said something, in which cluster, and that nobody changed it.
//!
//! Decides: whether a datagram is authentic (SAFE-7). Never: whether it is fresh (PROTOCOL's seq and echo) or what it means
//! ([`crate::wire`]).
//!
//! A datagram is a clear header, the ChaCha20-Poly1305 ciphertext of the message, and its tag:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | wire version |
//! | 1 | kind: 1 heartbeat, 2 ask, 3 answer |
//! | 1 | id of the root key |
//! | 1 | sender: a host's id, or 255 for the witness |
//! | 8 | name of the sender's life; of the witness: its start id |
//! | 8 | seq, little endian |
//!
//! The additional data is that header and then the cluster's name. The key is HKDF-SHA256 of the root key with salt
//! `palisade seal v1` and info `key id, kind, sender, life, cluster's name`, so each life of each sender has a key of its own in
//! each direction; the nonce is the seq, little endian, and four zero bytes. A seq never repeats within a life, so neither
//! does a nonce under a key.

mod error;
mod keys;
mod opener;
mod sealer;

pub use error::{KeyringError, OpenError, RootKeyError, SealError};
pub use keys::{Keyring, MAX_KEYS, RootKey};
pub use opener::{Opened, Opener};
pub use sealer::Sealer;

use crate::wire::{HEADER_LEN, VERSION};
use crate::{HostId, LifeName, Seq};

/// The longest cluster name, in bytes.
pub const MAX_CLUSTER_NAME: usize = 32;

/// Which message is sealed: the direction is part of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Host to host.
    Heartbeat,
    /// Host to witness.
    Ask,
    /// Witness to host.
    Answer,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Heartbeat => 1,
            Self::Ask => 2,
            Self::Answer => 3,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Heartbeat),
            2 => Some(Self::Ask),
            3 => Some(Self::Answer),
            _ => None,
        }
    }

    /// Whether this is what such a sender says.
    const fn is_said_by(self, sender: Sender) -> bool {
        match (self, sender) {
            (Self::Heartbeat | Self::Ask, Sender::Host(_)) | (Self::Answer, Sender::Witness) => true,
            (Self::Heartbeat | Self::Ask, Sender::Witness) | (Self::Answer, Sender::Host(_)) => false,
        }
    }
}

/// Who sealed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A host.
    Host(HostId),
    /// The witness.
    Witness,
}

impl Sender {
    const WITNESS: u8 = 0xFF;

    const fn code(self) -> u8 {
        match self {
            Self::Host(host) => host.number(),
            Self::Witness => Self::WITNESS,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        if code == Self::WITNESS {
            return Some(Self::Witness);
        }
        match HostId::new(code) {
            Some(host) => Some(Self::Host(host)),
            None => None,
        }
    }
}

/// The header apart from its seq: what one key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Origin {
    kind: Kind,
    key_id: u8,
    sender: Sender,
    life: LifeName,
}

impl Origin {
    fn header(&self, seq: Seq) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        let fixed = [VERSION, self.kind.code(), self.key_id, self.sender.code()];
        let fields = fixed.into_iter().chain(self.life.0).chain(seq.to_le_bytes());
        for (to, from) in header.iter_mut().zip(fields) {
            *to = from;
        }
        header
    }
}
