//! A secret of a device: a password or a key. It is wiped when dropped and never printed (SAFE-6).

use core::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Bytes that only a device may see.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over; the caller wipes its own copies.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes themselves, for the driver that sends a proof of them.
    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// In constant time for secrets of one length; for a reload that asks whether anything changed.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose().ct_eq(other.expose()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)") // SAFE-6: not even its length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn safe_6_a_secret_is_not_printed() {
        let shown = format!("{:?}", Secret::new(b"hunter2".to_vec()));
        assert_eq!(shown, "Secret(..)");
    }
}
