//! Sealing what one life says in one direction.

use ring::aead::Aad;

use super::keys::{ClusterName, DerivedKey, nonce};
use super::{Keyring, KeyringError, Kind, Origin, SealError, Sender};
use crate::wire::{HEADER_LEN, TAG_LEN};
use crate::{LifeName, Seq};

/// Seals the messages of one kind that one life of one sender says.
#[derive(Debug)]
pub struct Sealer {
    cluster: ClusterName,
    origin: Origin,
    key: DerivedKey,
    last: Option<Seq>,
}

impl Sealer {
    /// A sealer with the first key of `keyring`.
    ///
    /// # Errors
    /// [`KeyringError::NoKey`].
    pub fn new(keyring: &Keyring, kind: Kind, sender: Sender, life: LifeName) -> Result<Self, KeyringError> {
        let key_id = keyring.sealing_id().ok_or(KeyringError::NoKey)?;
        let origin = Origin { kind, key_id, sender, life };
        let key = keyring.derive(&origin).ok_or(KeyringError::NoKey)?;
        Ok(Self { cluster: keyring.cluster().clone(), origin, key, last: None })
    }

    /// Seals `message` into `out` as a whole datagram; how many bytes it took.
    ///
    /// The same datagram may be sent to any number of peers on any number of links; another message needs another seq.
    ///
    /// # Errors
    /// [`SealError::SeqNotRising`] for a seq not above every earlier one, [`SealError::TooLarge`] if `out` is too small.
    pub fn seal(&mut self, seq: Seq, message: &[u8], out: &mut [u8]) -> Result<usize, SealError> {
        if let Some(last) = self.last.filter(|last| seq <= *last) {
            return Err(SealError::SeqNotRising { seq, last });
        }
        let len = HEADER_LEN + message.len() + TAG_LEN;
        let out = out.get_mut(..len).ok_or(SealError::TooLarge)?;
        let (to_header, rest) = out.split_at_mut(HEADER_LEN);
        let (text, to_tag) = rest.split_at_mut(message.len());
        let header = self.origin.header(seq);
        to_header.copy_from_slice(&header);
        text.copy_from_slice(message);
        let additional = Aad::from(self.cluster.additional(&header));
        self.last = Some(seq);
        let cipher = self.key.cipher().ok_or(SealError::Cipher)?;
        let tag =
            cipher.seal_in_place_separate_tag(nonce(seq), additional, text).map_err(|_| SealError::Cipher)?;
        to_tag.copy_from_slice(tag.as_ref());
        Ok(len)
    }
}
