//! The two cipher suites: HMAC and AES-CBC-128 with the keys of a login (IPMI 2.0 sections 13.28 to 13.32).
//!
//! Key material is wiped when dropped, save the inner states of ring's HMAC keys, which ring does not wipe; they live
//! as long as the session they authenticate.

use core::fmt;

use aes::cipher::{Array, BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use ring::hmac;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::rmcp::Ignored;

/// AES block and key length, in bytes.
pub(super) const BLOCK_LEN: usize = 16;
/// Longest HMAC of the two suites, in bytes.
const DIGEST_LEN_MAX: usize = 32;

/// The cipher suites that authenticate and encrypt (section 22.15.2, table 22-20). No other one is ever spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// 3: HMAC-SHA1, HMAC-SHA1-96, AES-CBC-128.
    Three,
    /// 17: HMAC-SHA256, HMAC-SHA256-128, AES-CBC-128.
    Seventeen,
}

impl Suite {
    /// Authentication, integrity and confidentiality algorithm as numbered in tables 13-17, 13-18 and 13-19.
    pub(super) const fn algorithms(self) -> [u8; 3] {
        match self {
            Self::Three => [0x01, 0x01, 0x01],
            Self::Seventeen => [0x03, 0x04, 0x01],
        }
    }

    /// Length of a whole HMAC, as in RAKP messages 2 and 3, in bytes.
    pub(super) const fn digest_len(self) -> usize {
        match self {
            Self::Three => 20,
            Self::Seventeen => DIGEST_LEN_MAX,
        }
    }

    /// Length of the truncated HMAC in RAKP message 4 and behind each packet, in bytes.
    pub(super) const fn tag_len(self) -> usize {
        match self {
            Self::Three => 12,
            Self::Seventeen => 16,
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Three => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Seventeen => hmac::HMAC_SHA256,
        }
    }

    /// HMAC of `parts` one after the other.
    pub(super) fn mac(self, key: &[u8], parts: &[&[u8]]) -> Mac {
        mac_with(&hmac::Key::new(self.hmac(), key), parts)
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Three => "3",
            Self::Seventeen => "17",
        })
    }
}

/// An HMAC; compared in constant time only.
pub(super) struct Mac(Zeroizing<Vec<u8>>);

impl Mac {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The first `len` bytes; all of it if it is shorter.
    pub(super) fn truncated(&self, len: usize) -> &[u8] {
        self.0.get(..len).unwrap_or(&self.0)
    }

    /// Whether `received` is this HMAC cut to `len` bytes.
    pub(super) fn matches(&self, len: usize, received: &[u8]) -> bool {
        let ours = self.truncated(len);
        ours.len() == len && bool::from(ours.ct_eq(received))
    }
}

fn mac_with(key: &hmac::Key, parts: &[&[u8]]) -> Mac {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(part);
    }
    Mac(Zeroizing::new(context.sign().as_ref().to_vec()))
}

/// The keys that a finished login leaves (section 13.32): K1 authenticates, K2 encrypts.
pub(super) struct SessionKeys {
    suite: Suite,
    k1: hmac::Key,
    k2: Zeroizing<[u8; BLOCK_LEN]>,
}

impl SessionKeys {
    /// Both constants are 20 bytes long, under SHA-256 too (section 13.32 names the length by SHA-1; every BMC took it so).
    pub(super) fn derive(suite: Suite, session_integrity_key: &[u8]) -> Self {
        let k1 = suite.mac(session_integrity_key, &[&[0x01; 20]]);
        let k2 = suite.mac(session_integrity_key, &[&[0x02; 20]]);
        let mut aes = Zeroizing::new([0; BLOCK_LEN]);
        for (to, from) in aes.iter_mut().zip(k2.bytes()) {
            *to = *from;
        }
        Self { suite, k1: hmac::Key::new(suite.hmac(), k1.bytes()), k2: aes }
    }

    pub(super) fn tag_len(&self) -> usize {
        self.suite.tag_len()
    }

    pub(super) fn tag(&self, covered: &[u8]) -> Mac {
        mac_with(&self.k1, &[covered])
    }

    /// Pads (01 02 03 .. and the pad's length, section 13.29) and encrypts; `iv` comes first in what is returned.
    pub(super) fn encrypt(&self, iv: [u8; BLOCK_LEN], plain: &[u8]) -> Vec<u8> {
        let pad_len = (BLOCK_LEN - (plain.len() + 1) % BLOCK_LEN) % BLOCK_LEN;
        let mut sealed = Vec::with_capacity(BLOCK_LEN + plain.len() + pad_len + 1);
        sealed.extend_from_slice(&iv);
        sealed.extend_from_slice(plain);
        sealed.extend((1u8..).take(pad_len));
        sealed.push(u8::try_from(pad_len).unwrap_or(0));
        if let Some(body) = sealed.get_mut(BLOCK_LEN..) {
            let mut cipher = cbc::Encryptor::<aes::Aes128>::new(&(*self.k2).into(), &iv.into());
            cipher.encrypt_blocks(Array::slice_as_chunks_mut(body).0);
        }
        sealed
    }

    /// The reverse of [`Self::encrypt`]; only ever called on what carries a right tag.
    pub(super) fn decrypt(&self, sealed: &[u8]) -> Result<Vec<u8>, Ignored> {
        let (iv, body) = sealed.split_first_chunk().ok_or(Ignored::Garbage("no room for an IV"))?;
        if body.is_empty() || body.len() % BLOCK_LEN != 0 {
            return Err(Ignored::Garbage("ciphertext is not whole blocks"));
        }
        let mut plain = body.to_vec();
        let mut cipher = cbc::Decryptor::<aes::Aes128>::new(&(*self.k2).into(), &(*iv).into());
        cipher.decrypt_blocks(Array::slice_as_chunks_mut(&mut plain).0);
        let pad_len = usize::from(plain.pop().unwrap_or(0));
        let len = plain.len().checked_sub(pad_len).ok_or(Ignored::Garbage("pad longer than the payload"))?;
        // Section 13.29: the pad must be looked at; 16 or more can only come from another encoding.
        if pad_len >= BLOCK_LEN || !plain.iter().skip(len).copied().eq((1u8..).take(pad_len)) {
            return Err(Ignored::Garbage("pad is not 01 02 03 .."));
        }
        plain.truncate(len);
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn hmac_goldens() {
        // RFC 2202 test 2 and RFC 4231 test 2.
        let (key, text) = (b"Jefe", b"what do ya want for nothing?");
        let sha1 = Suite::Three.mac(key, &[text]);
        assert_eq!(hex(sha1.bytes()), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
        let sha256 = Suite::Seventeen.mac(key, &[&text[..5], &text[5..]]);
        assert_eq!(hex(sha256.truncated(16)), "5bdcc146bf60754e6a042426089575c7");
        assert!(sha1.matches(12, &sha1.bytes()[..12]));
        assert!(!sha1.matches(12, &sha1.bytes()[..11]) && !sha1.matches(12, sha1.bytes()));
        assert!(!sha1.matches(12, &[0; 12]) && !sha1.matches(40, sha1.bytes()));
    }

    #[test]
    fn k1_and_k2_come_from_20_bytes_under_sha_256_too() {
        let keys = SessionKeys::derive(Suite::Seventeen, &[7; 32]);
        let expected = Suite::Seventeen.mac(&[7; 32], &[&[2; 20]]);
        assert_eq!(keys.k2[..], expected.bytes()[..16]);
        let tag = Suite::Seventeen.mac(Suite::Seventeen.mac(&[7; 32], &[&[1; 20]]).bytes(), &[b"x"]);
        assert!(keys.tag(b"x").matches(16, tag.truncated(16)));
    }

    #[test]
    fn encryption_golden() {
        // Made with OpenSSL: the AES key is the HMAC-SHA1 of twenty 02 under a SIK of twenty 00, the IV sixteen aa.
        let keys = SessionKeys::derive(Suite::Three, &[0; 20]);
        let sealed = keys.encrypt([0xaa; 16], &[0x20, 0x00, 0xe0]);
        assert_eq!(sealed.len(), 32);
        assert_eq!(hex(&keys.decrypt(&sealed).unwrap()), "2000e0");
        assert_eq!(hex(&sealed), include_str!("golden/aes_cbc.hex").trim());
    }

    proptest! {
        #[test]
        fn what_is_encrypted_decrypts(plain in proptest::collection::vec(any::<u8>(), 0..200), iv: [u8; 16]) {
            let keys = SessionKeys::derive(Suite::Seventeen, b"sik");
            let sealed = keys.encrypt(iv, &plain);
            prop_assert_eq!(sealed.len() % 16, 0);
            prop_assert_eq!(keys.decrypt(&sealed).unwrap(), plain);
        }

        #[test]
        fn no_bytes_can_panic_the_decryption(sealed in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = SessionKeys::derive(Suite::Three, b"sik").decrypt(&sealed);
        }
    }
}
