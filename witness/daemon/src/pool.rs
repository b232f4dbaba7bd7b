//! The clusters in memory: allocated once, at the start, in three sizes; nothing grows afterwards.

use palisade_proto::seal::KeyringError;
use palisade_proto::{LifeName, Time};

use crate::cluster::{Cluster, FixedCluster};
use crate::config::ClusterConfig;

/// The hosts of the two smaller size classes; the third serves any cluster.
const SMALL_HOSTS: usize = 4;
const MEDIUM_HOSTS: usize = 8;
const LARGE_HOSTS: usize = palisade_proto::MAX_HOSTS;

/// Lives remembered at once: every host's, and the former life of some of them. More than these within one lease's length
/// are told that there is no room.
type Small = FixedCluster<SMALL_HOSTS, 6>;
type Medium = FixedCluster<MEDIUM_HOSTS, 12>;
type Large = FixedCluster<LARGE_HOSTS, 48>;

/// Every configured cluster, each class sorted by name.
pub(crate) struct Pool {
    small: Box<[Small]>,
    medium: Box<[Medium]>,
    large: Box<[Large]>,
}

impl Pool {
    pub(crate) fn new(
        clusters: Vec<ClusterConfig>,
        start: LifeName,
        now: Time,
    ) -> Result<Self, KeyringError> {
        let count = |class| clusters.iter().filter(|cluster| class_of(cluster) == class).count();
        let mut small = Vec::with_capacity(count(Class::Small));
        let mut medium = Vec::with_capacity(count(Class::Medium));
        let mut large = Vec::with_capacity(count(Class::Large));
        for cluster in clusters {
            match class_of(&cluster) {
                Class::Small => small.push(Small::new(cluster, start, now)?),
                Class::Medium => medium.push(Medium::new(cluster, start, now)?),
                Class::Large => large.push(Large::new(cluster, start, now)?),
            }
        }
        Ok(Self { small: sorted(small), medium: sorted(medium), large: sorted(large) })
    }

    /// The cluster with this name.
    pub(crate) fn find(&mut self, name: &str) -> Option<&mut dyn Cluster> {
        if let Some(cluster) = find(&mut self.small, name) {
            return Some(cluster);
        }
        match find(&mut self.medium, name) {
            Some(cluster) => Some(cluster),
            None => find(&mut self.large, name).map(|cluster| cluster as &mut dyn Cluster),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &dyn Cluster> {
        let small = self.small.iter().map(|cluster| cluster as &dyn Cluster);
        let medium = self.medium.iter().map(|cluster| cluster as &dyn Cluster);
        small.chain(medium).chain(self.large.iter().map(|cluster| cluster as &dyn Cluster))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut dyn Cluster> {
        let small = self.small.iter_mut().map(|cluster| cluster as &mut dyn Cluster);
        let medium = self.medium.iter_mut().map(|cluster| cluster as &mut dyn Cluster);
        small.chain(medium).chain(self.large.iter_mut().map(|cluster| cluster as &mut dyn Cluster))
    }

    /// How many bytes the clusters take.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.small) + size_of_val(&*self.medium) + size_of_val(&*self.large)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Small,
    Medium,
    Large,
}

fn class_of(cluster: &ClusterConfig) -> Class {
    if cluster.hosts <= SMALL_HOSTS {
        Class::Small
    } else if cluster.hosts <= MEDIUM_HOSTS {
        Class::Medium
    } else {
        Class::Large
    }
}

fn sorted<C: Cluster>(mut clusters: Vec<C>) -> Box<[C]> {
    clusters.sort_unstable_by(|a, b| a.name().cmp(b.name()));
    clusters.into_boxed_slice()
}

fn find<'pool, C: Cluster>(clusters: &'pool mut [C], name: &str) -> Option<&'pool mut C> {
    let at = clusters.binary_search_by(|cluster| cluster.name().cmp(name)).ok()?;
    clusters.get_mut(at)
}
