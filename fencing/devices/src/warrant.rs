//! How long a command may be carried out: to its deadline, and a power order only while whoever gave it may give it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use palisade_ladder::Failure;
use palisade_proto::Incarnation;
use tokio::time::{self, Instant};

/// Until when whoever gave an order may still give it, on their own clock. Clones share one instant: the giver moves it
/// while the order is under way, and the driver looks at it right before each copy that it sends.
#[derive(Clone, Debug)]
pub struct Standing {
    until_us: Arc<AtomicU64>,
    now_us: fn() -> u64,
}

impl Standing {
    /// Holds until `until_us`, as `now_us` counts.
    #[must_use]
    pub fn new(until_us: u64, now_us: fn() -> u64) -> Self {
        Self { until_us: Arc::new(AtomicU64::new(until_us)), now_us }
    }

    /// Holds until `until_us` from now on: renewed, or cut short.
    pub fn set(&self, until_us: u64) {
        self.until_us.store(until_us, Ordering::Release);
    }

    /// Over, at once.
    pub fn end(&self) {
        self.set(0);
    }

    /// Whether it holds now.
    #[must_use]
    pub fn holds(&self) -> bool {
        (self.now_us)() < self.until_us.load(Ordering::Acquire)
    }
}

/// How long one command may be carried out.
#[derive(Clone, Debug)]
pub struct Warrant {
    /// When to give up.
    pub deadline: Instant,
    /// A power order is put on the wire only while this holds. A reading needs none; nor does an order given by hand.
    pub standing: Option<Standing>,
    /// The life that an order is about, for devices that tell lives apart.
    pub whom: Option<Incarnation>,
}

impl From<Instant> for Warrant {
    fn from(deadline: Instant) -> Self {
        Self { deadline, standing: None, whom: None }
    }
}

impl Warrant {
    /// Whether a power order may be put on the wire now. A timer around the order does not say so: a thawed process sees
    /// an old answer before it sees that its time is over.
    #[must_use]
    pub fn holds(&self) -> bool {
        // SAFE-2: neither past the deadline nor without standing.
        Instant::now() < self.deadline && self.stands()
    }

    /// What `work` comes to, or silence once the deadline has passed.
    pub(crate) async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let started = Instant::now();
        time::timeout_at(self.deadline, work).await.unwrap_or_else(|_| Err(no_answer_since(started)))
    }

    /// Whether the order may still be given, whatever its deadline.
    pub(crate) fn stands(&self) -> bool {
        self.standing.as_ref().is_none_or(Standing::holds)
    }
}

/// Nothing has answered since `started`.
pub(crate) fn no_answer_since(started: Instant) -> Failure {
    Failure::NoAnswer { waited_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn safe_2_a_warrant_ends_with_its_deadline_and_with_standing_and_is_renewed_from_outside() {
        let standing = Standing::new(1001, || 1000);
        let deadline = Instant::now() + Duration::from_secs(1);
        let warrant = Warrant { deadline, standing: Some(standing.clone()), whom: None };
        assert!(warrant.holds());
        standing.set(1000);
        assert!(!warrant.holds(), "exactly at its end it is over");
        standing.set(2000);
        assert!(warrant.holds());
        standing.end();
        assert!(!warrant.holds());
        standing.set(u64::MAX);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!warrant.holds(), "the deadline ends it, standing or not");
        assert!(!Warrant::from(deadline).holds());
    }
}
