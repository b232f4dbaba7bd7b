//! Names of hosts, of their lives, and of workloads. Names only: nothing here is ordered in time.

use core::fmt;

use serde::{Deserialize, Serialize};

/// The most hosts one cluster may have: host ids are 0..=31.
pub const MAX_HOSTS: usize = 32;
/// The most workloads one cluster may name: workload ids are 0..=255.
pub const MAX_WORKLOADS: usize = 256;

/// A configured hypervisor host, by its explicit and permanent id (0..=31).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct HostId(u8);

impl HostId {
    /// The host with this id; `None` above 31.
    #[must_use]
    pub const fn new(id: u8) -> Option<Self> {
        if (id as usize) < MAX_HOSTS { Some(Self(id)) } else { None }
    }

    /// The id as a number, 0..=31.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The id as an index into an array of [`MAX_HOSTS`].
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A host id above 31.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostIdTooLarge(pub u8);

impl fmt::Display for HostIdTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host id {} is above 31", self.0)
    }
}

impl TryFrom<u8> for HostId {
    type Error = HostIdTooLarge;
    fn try_from(id: u8) -> Result<Self, HostIdTooLarge> {
        Self::new(id).ok_or(HostIdTooLarge(id))
    }
}

impl From<HostId> for u8 {
    fn from(id: HostId) -> u8 {
        id.0
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One life of one boot of a host's agent: an opaque 64-bit name (a digest of boot id and life), never ordered in time.
/// `Ord` exists for deterministic sets only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation {
    /// The host that lives.
    pub host: HostId,
    /// Which of its lives.
    pub life: LifeName,
}

/// The 64-bit name of a life; eight raw bytes on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LifeName(pub [u8; 8]);

impl Incarnation {
    /// The incarnation of `host` whose life has this name.
    #[must_use]
    pub const fn new(host: HostId, life: [u8; 8]) -> Self {
        Self { host, life: LifeName(life) }
    }
}

impl fmt::Display for LifeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LifeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `3/0123456789abcdef`: the host's id, then the life's name in hexadecimal.
impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.life)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A workload, by its explicit and permanent id (0..=255).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkloadId(pub u8);

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A set of workloads: one bit an id.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadSet([u64; MAX_WORKLOADS / 64]);

impl WorkloadSet {
    /// No workload.
    pub const EMPTY: Self = Self([0; MAX_WORKLOADS / 64]);

    /// Whether `id` is in the set.
    #[must_use]
    pub fn contains(&self, id: WorkloadId) -> bool {
        self.0.get(usize::from(id.0) / 64).is_some_and(|word| word & (1 << (id.0 % 64)) != 0)
    }

    /// Puts `id` in; true if it was not there.
    pub fn insert(&mut self, id: WorkloadId) -> bool {
        let new = !self.contains(id);
        if let Some(word) = self.0.get_mut(usize::from(id.0) / 64) {
            *word |= 1 << (id.0 % 64);
        }
        new
    }

    /// Takes `id` out; true if it was there.
    pub fn remove(&mut self, id: WorkloadId) -> bool {
        let was = self.contains(id);
        if let Some(word) = self.0.get_mut(usize::from(id.0) / 64) {
            *word &= !(1 << (id.0 % 64));
        }
        was
    }

    /// The ids in rising order.
    pub fn iter(&self) -> impl Iterator<Item = WorkloadId> + '_ {
        (0..=u8::MAX).map(WorkloadId).filter(|id| self.contains(*id))
    }

    /// How many workloads are in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether no workload is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; MAX_WORKLOADS / 64]
    }

    /// The set as 32 bytes, id 0 in the lowest bit of the first.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; MAX_WORKLOADS / 8] {
        let mut bytes = [0; MAX_WORKLOADS / 8];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// The set in up to 32 bytes as [`Self::to_bytes`] writes it; missing bytes are zero, further ones are ignored.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut set = Self::EMPTY;
        for (index, byte) in bytes.iter().take(MAX_WORKLOADS / 8).enumerate() {
            if let Some(word) = set.0.get_mut(index / 8) {
                *word |= u64::from(*byte) << (8 * (index % 8));
            }
        }
        set
    }
}

impl FromIterator<WorkloadId> for WorkloadSet {
    fn from_iter<I: IntoIterator<Item = WorkloadId>>(ids: I) -> Self {
        let mut set = Self::EMPTY;
        for id in ids {
            set.insert(id);
        }
        set
    }
}

impl fmt::Debug for WorkloadSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|id| id.0)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_id_above_31_is_refused() {
        assert_eq!(HostId::new(31).map(HostId::number), Some(31));
        assert_eq!(HostId::new(32), None);
    }

    #[test]
    fn a_workload_set_survives_its_bytes() {
        let set: WorkloadSet = [0, 1, 63, 64, 200, 255].map(WorkloadId).into_iter().collect();
        assert_eq!(WorkloadSet::from_bytes(&set.to_bytes()), set);
        assert_eq!(set.len(), 6);
        assert_eq!(WorkloadSet::from_bytes(&[3]).iter().count(), 2);
    }
}
