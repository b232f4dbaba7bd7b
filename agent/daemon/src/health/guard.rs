//! Runs what may never return: on a thread of its own, because a dead NFS server or a hung path holds its caller for as long as it
//! likes. At most one thread hangs for each thing that is looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use palisade_core::health::Sample;

use crate::identity::boottime_ms;
use crate::realtime::THREAD_STACK_BYTES;

/// One thing that is looked at by blocking calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guard {
    /// When the look that has not returned began (CLOCK_BOOTTIME ms, never 0); 0 if there is none.
    since: Arc<AtomicU64>,
}

impl Guard {
    /// Looks, and says what came within `timeout`; while an earlier look hangs, for how long it has.
    pub(crate) async fn look(
        &self,
        timeout: Duration,
        work: impl FnOnce() -> Sample + Send + 'static,
    ) -> Sample {
        let now_ms = boottime_ms().max(1);
        if let Err(since) = self.since.compare_exchange(0, now_ms, Ordering::AcqRel, Ordering::Acquire) {
            return Sample::Hung { for_ms: now_ms.saturating_sub(since) };
        }
        let (answer, answered) = tokio::sync::oneshot::channel();
        let since = self.since.clone();
        let work = move || {
            let sample = work();
            since.store(0, Ordering::Release);
            // Nobody waits any more after a time-out.
            drop(answer.send(sample));
        };
        let builder = std::thread::Builder::new().name("palisade-look".into()).stack_size(THREAD_STACK_BYTES);
        if let Err(error) = builder.spawn(work) {
            self.since.store(0, Ordering::Release);
            return Sample::Untaken(format!("no thread to look with: {error}"));
        }
        match tokio::time::timeout(timeout, answered).await {
            Ok(Ok(sample)) => sample,
            Ok(Err(_)) => Sample::Untaken("the look ended without an answer".to_owned()),
            Err(_) => Sample::Hung { for_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX) },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::testing::run;

    #[test]
    fn a_hung_look_is_told_and_does_not_pile_up() {
        let guard = Guard::default();
        let (let_go, hangs) = mpsc::channel::<()>();
        run(async {
            let short = Duration::from_millis(20);
            let first = guard.look(short, move || {
                let _ = hangs.recv();
                Sample::Processes(1)
            });
            assert_eq!(first.await, Sample::Hung { for_ms: 20 });
            for _ in 0..3 {
                let next = guard.look(short, || panic!("a second thread was made")).await;
                assert!(matches!(next, Sample::Hung { .. }), "{next:?}");
            }
            let_go.send(()).unwrap();
            while guard.since.load(Ordering::Acquire) != 0 {
                tokio::task::yield_now().await;
            }
            let after = guard.look(Duration::from_secs(20), || Sample::Processes(2)).await;
            assert_eq!(after, Sample::Processes(2));
        });
    }
}
