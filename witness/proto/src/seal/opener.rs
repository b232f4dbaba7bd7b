//! Opening what others sealed.

use heapless::Vec;
use ring::aead::Aad;

use super::keys::{DerivedKey, nonce};
use super::{Keyring, Kind, OpenError, Origin, Sender};
use crate::wire::{HEADER_LEN, TAG_LEN, VERSION};
use crate::{LifeName, Seq};

/// An authentic message: `sender`'s life `life` said it, in this cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened<'out> {
    /// Its kind: the one that the opener was made for.
    pub kind: Kind,
    /// Who said it: one that says such a kind.
    pub sender: Sender,
    /// Which of its lives.
    pub life: LifeName,
    /// The sender's counter.
    pub seq: Seq,
    /// The bytes for [`crate::wire`].
    pub message: &'out [u8],
}

/// Opens the datagrams of one kind in one cluster and keeps the keys of the `LIVES` lives last heard.
#[derive(Debug)]
pub struct Opener<const LIVES: usize> {
    keyring: Keyring,
    kind: Kind,
    cache: Vec<Cached, LIVES, u8>,
    opened: u32,
}

#[derive(Debug)]
struct Cached {
    origin: Origin,
    key: DerivedKey,
    /// The opener's count of opened datagrams when this one was last used. It wraps: the cache then forgets
    /// the wrong life once, which costs one derivation.
    used: u32,
}

impl<const LIVES: usize> Opener<LIVES> {
    /// An opener with every key of `keyring`, for one kind.
    #[must_use]
    pub const fn new(keyring: Keyring, kind: Kind) -> Self {
        Self { keyring, kind, cache: Vec::new(), opened: 0 }
    }

    /// Opens `datagram`; the message is put into `out`.
    ///
    /// # Errors
    /// Why it was not opened. Nothing has changed then (SAFE-7): a forged packet evicts no cached key.
    pub fn open<'out>(&mut self, datagram: &[u8], out: &'out mut [u8]) -> Result<Opened<'out>, OpenError> {
        let (header, sealed) = datagram.split_first_chunk::<HEADER_LEN>().ok_or(OpenError::TooShort)?;
        if sealed.len() < TAG_LEN {
            return Err(OpenError::TooShort);
        }
        let (origin, seq) = self.read_header(header)?;
        let text = out.get_mut(..sealed.len()).ok_or(OpenError::TooLong)?;
        text.copy_from_slice(sealed);

        let additional = Aad::from(self.keyring.cluster().additional(header));
        let at = self.cache.iter().position(|cached| cached.origin == origin);
        let new = if at.is_some() { None } else { self.keyring.derive(&origin) };
        let key = at.and_then(|at| self.cache.get(at)).map(|cached| &cached.key).or(new.as_ref());
        let cipher = key.ok_or(OpenError::UnknownKey(origin.key_id))?.cipher().ok_or(OpenError::Forged)?;
        // SAFE-7: a message acts only if authentic.
        let message = cipher.open_in_place(nonce(seq), additional, text).map_err(|_| OpenError::Forged)?;

        // Only from here on is the life known to be real: only now may it take a place in the cache.
        self.opened = self.opened.wrapping_add(1);
        match (at, new) {
            (Some(at), _) => self.touch(at),
            (None, Some(key)) => self.remember(origin, key),
            (None, None) => {}
        }
        Ok(Opened { kind: origin.kind, sender: origin.sender, life: origin.life, seq, message })
    }

    /// How many lives' keys are kept just now, at most `LIVES`.
    #[must_use]
    pub fn lives(&self) -> usize {
        self.cache.len()
    }

    fn read_header(&self, header: &[u8; HEADER_LEN]) -> Result<(Origin, Seq), OpenError> {
        let [version, kind, key_id, sender, rest @ ..] = header;
        if *version != VERSION {
            return Err(OpenError::WrongVersion(*version));
        }
        let kind = Kind::from_code(*kind).ok_or(OpenError::UnknownKind(*kind))?;
        if kind != self.kind {
            return Err(OpenError::OtherKind(kind));
        }
        let unknown = OpenError::UnknownSender(*sender);
        let sender = Sender::from_code(*sender).filter(|sender| kind.is_said_by(*sender)).ok_or(unknown)?;
        let [l0, l1, l2, l3, l4, l5, l6, l7, seq @ ..] = *rest;
        let life = LifeName([l0, l1, l2, l3, l4, l5, l6, l7]);
        Ok((Origin { kind, key_id: *key_id, sender, life }, Seq::from_le_bytes(seq)))
    }

    fn touch(&mut self, at: usize) {
        if let Some(cached) = self.cache.get_mut(at) {
            cached.used = self.opened;
        }
    }

    /// Puts a key into the cache, in place of the one unused for longest if there is no room.
    fn remember(&mut self, origin: Origin, key: DerivedKey) {
        let cached = Cached { origin, key, used: self.opened };
        if let Err(cached) = self.cache.push(cached)
            && let Some(oldest) = self.cache.iter_mut().min_by_key(|cached| cached.used)
        {
            *oldest = cached;
        }
    }
}
