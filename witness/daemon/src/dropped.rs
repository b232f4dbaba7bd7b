//! What was dropped and why (SAFE-7: counted, and nothing else), logged at a bounded rate.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use palisade_proto::Ignored;
use palisade_proto::seal::OpenError;
use palisade_proto::wire::DecodeError;

/// The count goes to the log at most this often.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Why a message got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DropReason {
    /// Its topic is none of ours.
    UnknownTopic,
    /// It names a cluster that is not configured here.
    UnknownCluster,
    /// The broker had kept it: an ask is never retained.
    Retained,
    /// It was not opened.
    Sealed(OpenError),
    /// The host that sealed it is not the one in its topic.
    OtherSender,
    /// It is authentic and makes no sense.
    Undecodable(DecodeError),
    /// The arbiter ignores it.
    Ignored(Ignored),
    /// The answer could not be sealed.
    NotSealed,
}

const OWN_REASONS: [&str; 8] = [
    "unknown_topic",
    "unknown_cluster",
    "retained",
    "other_sender",
    "undecodable",
    "old_seq",
    "not_in_own_view",
    "not_sealed",
];
const REASONS: usize = OWN_REASONS.len() + OpenError::COUNT;

impl DropReason {
    const fn index(self) -> usize {
        match self {
            Self::UnknownTopic => 0,
            Self::UnknownCluster => 1,
            Self::Retained => 2,
            Self::OtherSender => 3,
            Self::Undecodable(_) => 4,
            Self::Ignored(Ignored::OldSeq) => 5,
            Self::Ignored(Ignored::NotInOwnView) => 6,
            Self::NotSealed => 7,
            Self::Sealed(error) => OWN_REASONS.len() + error.index(),
        }
    }
}

/// The counters since the process started.
#[derive(Debug)]
pub(crate) struct Dropped {
    counts: [u64; REASONS],
    logged: [u64; REASONS],
    last_logged: Option<Instant>,
}

impl Dropped {
    pub(crate) const fn new() -> Self {
        Self { counts: [0; REASONS], logged: [0; REASONS], last_logged: None }
    }

    pub(crate) fn count(&mut self, drop: DropReason) {
        if let Some(count) = self.counts.get_mut(drop.index()) {
            *count = count.saturating_add(1);
        }
    }

    /// Logs what changed, if the last time was long enough ago.
    pub(crate) fn log_when_due(&mut self) {
        if self.last_logged.is_none_or(|last| last.elapsed() >= LOG_EVERY) {
            self.log();
        }
    }

    /// Logs what changed.
    pub(crate) fn log(&mut self) {
        if self.counts == self.logged {
            return;
        }
        tracing::warn!("dropped since the start:{}", self.changed());
        self.logged = self.counts;
        self.last_logged = Some(Instant::now());
    }

    fn changed(&self) -> String {
        let names = OWN_REASONS.into_iter().chain(OpenError::REASONS);
        let mut text = String::new();
        for ((name, count), logged) in names.zip(self.counts).zip(self.logged) {
            if count != logged {
                // Writing to a string does not fail.
                let _ = write!(text, " {name}={count}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_counted_by_its_reason_and_logged_when_it_changes() {
        let mut dropped = Dropped::new();
        dropped.count(DropReason::UnknownTopic);
        dropped.count(DropReason::Sealed(OpenError::Forged));
        dropped.count(DropReason::Sealed(OpenError::Forged));
        assert_eq!(dropped.changed(), " unknown_topic=1 forged=2");
        dropped.log_when_due();
        assert_eq!(dropped.changed(), "");
        dropped.count(DropReason::Sealed(OpenError::TooShort));
        dropped.log_when_due();
        assert_eq!(dropped.changed(), " too_short=1", "not again within the minute");
    }
}
