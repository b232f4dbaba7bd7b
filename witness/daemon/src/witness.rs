//! From a published ask to the answer to publish.

use std::fmt;

use palisade_proto::seal::KeyringError;
use palisade_proto::wire::MAX_DATAGRAM;
use palisade_proto::{HostId, LifeName, Seq};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::clock::Clock;
use crate::cluster::Datagram;
use crate::config::ClusterConfig;
use crate::dropped::{DropReason, Dropped};
use crate::pool::Pool;

/// The witness process: its clusters, its clock and its counters.
pub(crate) struct Witness {
    clusters: Pool,
    clock: Clock,
    start: LifeName,
    /// One counter for all clusters; a seq never repeats within a start.
    seq: Seq,
    dropped: Dropped,
    out: Box<Datagram>,
}

/// What to publish.
#[derive(Debug)]
pub(crate) struct Reply<'witness> {
    pub(crate) topic: String,
    pub(crate) payload: &'witness [u8],
}

/// Why the witness cannot start.
#[derive(Debug)]
pub(crate) enum StartError {
    Clock(nix::Error),
    Random,
    Keys(KeyringError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clock(error) => write!(f, "the system's clocks cannot be read: {error}"),
            Self::Random => f.write_str("the system has no random numbers"),
            Self::Keys(error) => write!(f, "keys: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl Witness {
    pub(crate) fn start(clusters: Vec<ClusterConfig>) -> Result<Self, StartError> {
        let clock = Clock::start().map_err(StartError::Clock)?;
        // Names this start and, as part of every key, keeps nonces from repeating after a restart.
        let mut start = LifeName([0; 8]);
        SystemRandom::new().fill(&mut start.0).map_err(|_| StartError::Random)?;
        let clusters = Pool::new(clusters, start, clock.now()).map_err(StartError::Keys)?;
        let count = clusters.iter().count();
        tracing::info!("start {start}, {count} clusters in {} KiB", clusters.bytes() / 1024);
        let (dropped, out) = (Dropped::new(), Box::new([0; MAX_DATAGRAM]));
        Ok(Self { clusters, clock, start, seq: 0, dropped, out })
    }

    /// The id of this start.
    pub(crate) const fn start_id(&self) -> LifeName {
        self.start
    }

    /// Handles what the broker delivered just now.
    pub(crate) fn handle(&mut self, topic: &str, payload: &[u8], retained: bool) -> Option<Reply<'_>> {
        self.notice_sleep();
        match self.answer(topic, payload, retained) {
            Ok((topic, len)) => self.out.get(..len).map(|payload| Reply { topic, payload }),
            Err(drop) => {
                self.dropped.count(drop);
                None
            }
        }
    }

    fn answer(&mut self, topic: &str, payload: &[u8], retained: bool) -> Result<(String, usize), DropReason> {
        let (cluster, host) = asked(topic).ok_or(DropReason::UnknownTopic)?;
        // SAFE-11: a retained message is never evidence of anything.
        if retained {
            return Err(DropReason::Retained);
        }
        let reply = format!("palisade/{cluster}/witness/answer/{host}");
        let cluster = self.clusters.find(cluster).ok_or(DropReason::UnknownCluster)?;
        // Read after the ask has left the socket: a voter's time is late rather than early.
        let now = self.clock.now();
        self.seq += 1;
        let len = cluster.answer(host, payload, now, self.seq, &mut self.out)?;
        Ok((reply, len))
    }

    /// The connection stands and every cluster is subscribed to, after a time without.
    pub(crate) fn hears_again(&mut self) {
        let now = self.clock.now();
        self.clusters.iter_mut().for_each(|cluster| cluster.was_deaf(now));
    }

    pub(crate) fn keep_house(&mut self) {
        self.notice_sleep();
        self.dropped.log_when_due();
    }

    pub(crate) fn log_dropped(&mut self) {
        self.dropped.log();
    }

    /// What to subscribe to.
    pub(crate) fn filters(&self) -> impl Iterator<Item = String> {
        self.clusters.iter().map(|cluster| format!("palisade/{}/witness/ask/+", cluster.name()))
    }

    fn notice_sleep(&mut self) {
        if self.clock.has_slept() {
            tracing::warn!("the system slept; silent for a lease's length, as after a start");
            let now = self.clock.now();
            self.clusters.iter_mut().for_each(|cluster| cluster.start(now));
        }
    }
}

/// Cluster and host of `palisade/<cluster>/witness/ask/<host>`.
fn asked(topic: &str) -> Option<(&str, HostId)> {
    let (cluster, host) = topic.strip_prefix("palisade/")?.split_once("/witness/ask/")?;
    let canonical = host.len() == 1 || !host.starts_with('0');
    let number = if canonical && host.bytes().all(|byte| byte.is_ascii_digit()) {
        host.parse().ok()?
    } else {
        return None;
    };
    (!cluster.contains('/')).then_some((cluster, HostId::new(number)?))
}

#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_topics_of_asks_are_read() {
        let host = |id| HostId::new(id).unwrap();
        assert_eq!(asked("palisade/edge-a/witness/ask/0"), Some(("edge-a", host(0))));
        assert_eq!(asked("palisade/edge-a/witness/ask/31"), Some(("edge-a", host(31))));
        for topic in [
            "",
            "palisade/edge-a/witness/ask/32",
            "palisade/edge-a/witness/ask/",
            "palisade/edge-a/witness/ask/01",
            "palisade/edge-a/witness/ask/+1",
            "palisade/edge-a/witness/ask/1/2",
            "palisade/edge-a/witness/answer/1",
            "palisade/a/b/witness/ask/1",
            "edge-a/witness/ask/1",
        ] {
            assert_eq!(asked(topic), None, "{topic}");
        }
    }
}
