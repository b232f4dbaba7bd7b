//! Reservation keys: 64 bits that tell cluster, host and life.
//!
//! | bytes | what |
//! |---|---|
//! | 0-2 | which cluster: of SHA-256 of its name |
//! | 3 | the host's id + 1, so that no key is zero (zero means "none": SPC-4 5.13.7) |
//! | 4-7 | which life: of SHA-256 of cluster and incarnation |
//!
//! A life that began after an order was given has another key, so the order, however late, finds nothing to take away.

use core::fmt;

use palisade_proto::{HostId, Incarnation};
use ring::digest::{Context, SHA256};

/// A reservation key, as it stands in SCSI's parameter data: big-endian.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub(crate) [u8; 8]);

impl Key {
    /// The key of one life.
    #[must_use]
    pub fn of(cluster: &str, who: Incarnation) -> Self {
        let [a, b, c, d] = Keys::new(cluster, who.host).prefix;
        let mut context = Context::new(&SHA256);
        context.update(b"palisade life\0");
        context.update(cluster.as_bytes());
        context.update(&[0, who.host.number()]);
        context.update(&who.life.0);
        let digest = context.finish();
        let mut life = digest.as_ref().iter().copied();
        let mut next = || life.next().unwrap_or_default();
        Self([a, b, c, d, next(), next(), next(), next()])
    }

    /// The same number as it stands in NVMe's data.
    pub(super) fn to_le_bytes(self) -> [u8; 8] {
        let mut bytes = self.0;
        bytes.reverse();
        bytes
    }

    pub(super) fn from_le_bytes(mut bytes: [u8; 8]) -> Self {
        bytes.reverse();
        Self(bytes)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The keys of every life of one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    prefix: [u8; 4],
}

impl Keys {
    pub(crate) fn new(cluster: &str, host: HostId) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(b"palisade cluster\0");
        context.update(cluster.as_bytes());
        let digest = context.finish();
        let mut prefix = [0; 4];
        prefix.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        prefix[3] = host.number().saturating_add(1);
        Self { prefix }
    }

    pub(crate) fn contains(self, key: Key) -> bool {
        key.0.starts_with(&self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(host: u8, life: u8) -> Incarnation {
        Incarnation::new(HostId::new(host).unwrap(), [life; 8])
    }

    #[test]
    fn a_key_tells_cluster_host_and_life() {
        let key = Key::of("edge-7", life(2, 1));
        let of = |cluster, host| Keys::new(cluster, HostId::new(host).unwrap());
        assert!(of("edge-7", 2).contains(key));
        assert!(!of("edge-7", 3).contains(key) && !of("edge-8", 2).contains(key));
        assert_ne!(key, Key::of("edge-7", life(2, 2)), "another life");
        assert!(of("edge-7", 2).contains(Key::of("edge-7", life(2, 2))));
        assert_ne!(key.0, [0; 8]);
    }

    /// Keys stand on LUNs while hosts are upgraded: never to be edited.
    #[test]
    fn golden_a_key_is_the_same_in_every_version() {
        assert_eq!(Key::of("edge-7", life(2, 1)).to_string(), "0x47a81a03b81e29d3");
    }
}
