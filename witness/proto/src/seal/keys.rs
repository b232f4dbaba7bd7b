//! Root keys of a cluster and what is derived from them.

use core::fmt;

use heapless::Vec;
use ring::aead::{CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf;
use zeroize::Zeroize;

use super::{KeyringError, MAX_CLUSTER_NAME, Origin, RootKeyError};
use crate::Seq;
use crate::wire::HEADER_LEN;

/// The most root keys of one ring: the one in use, its successor and its predecessor while a rotation runs, and one spare.
pub const MAX_KEYS: usize = 4;
const KEY_LEN: usize = 32;
const SALT: &[u8] = b"palisade seal v1";

/// A secret of 32 bytes; wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct RootKey([u8; KEY_LEN]);

impl RootKey {
    /// The key with these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// A key file's content: 64 hexadecimal digits and at most one newline.
    ///
    /// # Errors
    /// What is wrong with it, without any of it.
    pub fn parse(text: &[u8]) -> Result<Self, RootKeyError> {
        let digits = text.strip_suffix(b"\n").unwrap_or(text);
        if digits.len() != 2 * KEY_LEN {
            return Err(RootKeyError::WrongLength { got: digits.len() });
        }
        let mut key = Self([0; KEY_LEN]);
        for (position, digit) in digits.iter().enumerate() {
            let value = char::from(*digit)
                .to_digit(16)
                .and_then(|value| u8::try_from(value).ok())
                .ok_or(RootKeyError::NotHexadecimal { position: position + 1 })?;
            if let Some(byte) = key.0.get_mut(position / 2) {
                *byte = *byte << 4 | value;
            }
        }
        Ok(key)
    }
}

impl Drop for RootKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKey(not shown)")
    }
}

/// The name of a cluster, which is part of every key and of every tag.
#[derive(Clone, Debug)]
pub(super) struct ClusterName(Vec<u8, MAX_CLUSTER_NAME, u8>);

impl ClusterName {
    fn new(name: &str) -> Result<Self, KeyringError> {
        match Vec::from_slice(name.as_bytes()) {
            Ok(name) if !name.is_empty() => Ok(Self(name)),
            Ok(_) | Err(_) => Err(KeyringError::BadClusterName),
        }
    }

    /// The additional data: the header and the cluster's name.
    pub(super) fn additional(&self, header: &[u8; HEADER_LEN]) -> Additional {
        let mut bytes = Vec::new();
        // HEADER_LEN + MAX_CLUSTER_NAME always fit.
        let fits = bytes.extend_from_slice(header).and_then(|()| bytes.extend_from_slice(&self.0));
        debug_assert!(fits.is_ok());
        bytes
    }
}

pub(super) type Additional = Vec<u8, { HEADER_LEN + MAX_CLUSTER_NAME }>;

/// The root keys of one cluster, by id. The first seals, all open: that is how keys are rotated.
#[derive(Clone, Debug)]
pub struct Keyring {
    cluster: ClusterName,
    keys: Vec<(u8, RootKey), MAX_KEYS, u8>,
}

impl Keyring {
    /// The ring of the cluster with this name.
    ///
    /// # Errors
    /// A bad name, no key, too many, or an id that stands twice.
    pub fn new(cluster: &str, keys: impl IntoIterator<Item = (u8, RootKey)>) -> Result<Self, KeyringError> {
        let mut ring = Self { cluster: ClusterName::new(cluster)?, keys: Vec::new() };
        for (id, key) in keys {
            if ring.keys.iter().any(|(known, _)| *known == id) {
                return Err(KeyringError::KeyIdTwice(id));
            }
            ring.keys.push((id, key)).map_err(|_| KeyringError::TooManyKeys)?;
        }
        if ring.keys.is_empty() { Err(KeyringError::NoKey) } else { Ok(ring) }
    }

    /// The id of the key that seals.
    pub(super) fn sealing_id(&self) -> Option<u8> {
        self.keys.first().map(|(id, _)| *id)
    }

    /// The key of one life of one sender in one direction. `None`: no root key has that id.
    pub(super) fn derive(&self, origin: &Origin) -> Option<DerivedKey> {
        let (_, root) = self.keys.iter().find(|(id, _)| *id == origin.key_id)?;
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(&root.0);
        // Every field but the last has one length only, so no two origins share an info.
        let fields = [origin.key_id, origin.kind.code(), origin.sender.code()];
        let mut key = DerivedKey([0; KEY_LEN]);
        root.expand(&[&fields, &origin.life.0, &self.cluster.0], hkdf::HKDF_SHA256)
            .ok()?
            .fill(&mut key.0)
            .ok()?;
        Some(key)
    }

    pub(super) const fn cluster(&self) -> &ClusterName {
        &self.cluster
    }
}

/// 32 bytes rather than ring's own type, which has room for AES tables: a witness holds thousands of these.
pub(super) struct DerivedKey([u8; KEY_LEN]);

impl DerivedKey {
    pub(super) fn cipher(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&CHACHA20_POLY1305, &self.0).ok().map(LessSafeKey::new)
    }
}

impl Drop for DerivedKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for DerivedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DerivedKey(not shown)")
    }
}

pub(super) fn nonce(seq: Seq) -> Nonce {
    let mut nonce = [0; 12];
    for (to, from) in nonce.iter_mut().zip(seq.to_le_bytes()) {
        *to = from;
    }
    Nonce::assume_unique_for_key(nonce)
}
