//! Asks a storage whether it can be written: a small file, written and synced, on a thread of its own, because a dead NFS
//! server or a hung path holds its caller for as long as it likes. At most one thread hangs per storage.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::libc;

use crate::identity::boottime_ms;
use crate::realtime::THREAD_STACK_BYTES;

/// What a probe says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StorageHealth {
    /// A write with fsync went through.
    Healthy {
        /// In this time.
        took: Duration,
    },
    /// It was refused.
    Failed {
        /// The file and the kernel's answer.
        why: String,
    },
    /// No answer yet: neither good nor bad, and nothing is started on it.
    Unknown {
        /// Since when.
        why: String,
    },
}

/// One storage of the configuration.
pub(crate) struct StorageProbe {
    file: PathBuf,
    timeout: Duration,
    /// When the probe that has not returned began (CLOCK_BOOTTIME ms, never 0); 0 if there is none.
    since: Arc<AtomicU64>,
}

impl StorageProbe {
    /// Probes the directory `path`. The file is named after `host`, because hosts share storages.
    pub(crate) fn new(path: &Path, host: &str, timeout: Duration) -> Self {
        Self { file: path.join(format!(".palisade-probe-{host}")), timeout, since: Arc::default() }
    }

    /// Writes, syncs, and says how it went, after `timeout` at the latest.
    pub(crate) async fn probe(&self) -> StorageHealth {
        self.probe_by(write_and_sync).await
    }

    async fn probe_by(&self, write: impl FnOnce(&Path) -> io::Result<()> + Send + 'static) -> StorageHealth {
        let now_ms = boottime_ms().max(1);
        if let Err(since) = self.since.compare_exchange(0, now_ms, Ordering::AcqRel, Ordering::Acquire) {
            let age_ms = now_ms.saturating_sub(since);
            return self.unknown(&format!("a write has not returned for {age_ms} ms"));
        }
        let (answer, answered) = tokio::sync::oneshot::channel();
        let (file, since) = (self.file.clone(), self.since.clone());
        let work = move || {
            let begin = Instant::now();
            let result = write(&file);
            since.store(0, Ordering::Release);
            // Nobody waits any more after a time-out.
            drop(answer.send(result.map(|()| begin.elapsed())));
        };
        let builder = std::thread::Builder::new().name("storage-probe".into()).stack_size(THREAD_STACK_BYTES);
        if let Err(error) = builder.spawn(work) {
            self.since.store(0, Ordering::Release);
            return self.unknown(&format!("no thread for the probe: {error}"));
        }
        match tokio::time::timeout(self.timeout, answered).await {
            Ok(Ok(Ok(took))) => StorageHealth::Healthy { took },
            Ok(Ok(Err(error))) => StorageHealth::Failed { why: format!("{}: {error}", self.file.display()) },
            Ok(Err(_)) => self.unknown("the probe ended without an answer"),
            Err(_) => self.unknown(&format!("no answer in {} ms", self.timeout.as_millis())),
        }
    }

    fn unknown(&self, why: &str) -> StorageHealth {
        StorageHealth::Unknown { why: format!("{}: {why}", self.file.display()) }
    }
}

fn write_and_sync(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    // Written over, never truncated first: a full disk must fail here and not lend the block it just freed. No symbolic link is
    // followed: others may write to that directory.
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC;
    let mut file = options.write(true).create(true).mode(0o600).custom_flags(flags).open(path)?;
    file.write_all(format!("{:020}\n", boottime_ms()).as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TempDir, run};
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_storage_that_takes_a_write_is_healthy() {
        let dir = TempDir::new();
        let probe = StorageProbe::new(dir.path(), "a", LONG);
        run(async {
            assert!(matches!(probe.probe().await, StorageHealth::Healthy { .. }));
            assert!(matches!(probe.probe().await, StorageHealth::Healthy { .. }));
        });
        assert_eq!(std::fs::read(dir.path().join(".palisade-probe-a")).unwrap().len(), 21);
    }

    #[test]
    fn a_missing_path_and_a_planted_link_fail_by_name() {
        let dir = TempDir::new();
        let probe = StorageProbe::new(&dir.path().join("gone"), "a", LONG);
        let health = run(probe.probe());
        assert!(
            matches!(&health, StorageHealth::Failed { why } if why.contains("gone/.palisade-probe-a: No such")),
            "{health:?}"
        );
        std::fs::write(dir.path().join("precious"), "content").unwrap();
        std::os::unix::fs::symlink("precious", dir.path().join(".palisade-probe-a")).unwrap();
        let health = run(StorageProbe::new(dir.path(), "a", LONG).probe());
        assert!(matches!(health, StorageHealth::Failed { .. }), "{health:?}");
        assert_eq!(std::fs::read(dir.path().join("precious")).unwrap(), b"content");
    }

    #[test]
    fn a_hung_probe_is_unknown_and_does_not_pile_up() {
        let dir = TempDir::new();
        let probe = StorageProbe::new(dir.path(), "a", Duration::from_millis(20));
        let (let_go, hangs) = mpsc::channel::<()>();
        run(async {
            let first = probe.probe_by(move |_| hangs.recv().map_err(io::Error::other)).await;
            assert!(
                matches!(&first, StorageHealth::Unknown { why } if why.contains("no answer in 20 ms")),
                "{first:?}"
            );
            for _ in 0..3 {
                let next = probe.probe_by(|_| panic!("a second thread was made")).await;
                assert!(
                    matches!(&next, StorageHealth::Unknown { why } if why.contains("has not returned")),
                    "{next:?}"
                );
            }
            let_go.send(()).unwrap();
            while probe.since.load(Ordering::Acquire) != 0 {
                tokio::task::yield_now().await;
            }
            let patient = StorageProbe { timeout: LONG, ..probe };
            assert!(matches!(patient.probe().await, StorageHealth::Healthy { .. }));
        });
    }
}
