//! The journal: hash-chained JSON lines, written and synced by a thread of their own. It records; it decides nothing, and it
//! never makes the run loop wait (SAFE-5): an append is a hand-over, and what is durable comes back on a channel.
//!
//! A disk that refuses or hangs shows in [`Journal::health`]; records wait in a bounded queue and are written when the disk
//! recovers, and what found the queue full is counted in the journal itself.

mod file;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod line;
mod read;
mod verify;
mod writer;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, SystemTime};

use serde::Serialize;

#[cfg(test)]
pub(crate) use file::list;
use line::Draft;
pub(crate) use line::{Line, LineHash, MAX_EVENT_BYTES};
pub(crate) use read::{last_matching, scan, scan_file, scan_raw};
pub(crate) use verify::{Broken, ChainError, follows, verify};

use crate::identity::boottime_ms;

/// Records that may wait for the disk. An incident makes some hundreds.
pub(crate) const QUEUE_RECORDS: usize = 4096;
/// Bytes of records that may wait for the disk.
pub(crate) const QUEUE_BYTES: usize = 1024 * 1024;
/// Where the journal goes to its next file.
pub(crate) const FILE_BYTES: u64 = 16 * 1024 * 1024;
/// All files together; the oldest goes when one more would pass this.
pub(crate) const TOTAL_BYTES: u64 = 256 * 1024 * 1024;
/// An append unanswered for so long means that the disk is stuck. Shorter than the default `grace`, longer than a disk that
/// spins up or a flush behind a full cache.
pub(crate) const STALL: Duration = Duration::from_secs(2);

/// How a journal is kept.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Its directory; made if missing.
    pub(crate) dir: PathBuf,
    /// This host's name in the configuration.
    pub(crate) host: String,
    /// The incarnation's life name.
    pub(crate) life: [u8; 8],
    /// See [`FILE_BYTES`].
    pub(crate) file_bytes: u64,
    /// See [`TOTAL_BYTES`].
    pub(crate) total_bytes: u64,
    /// See [`STALL`].
    pub(crate) stall: Duration,
}

impl Options {
    /// The journal in `dir`, sizes and limits as designed.
    pub(crate) fn new(dir: PathBuf, host: &str, life: [u8; 8]) -> Self {
        Self {
            dir,
            host: host.to_owned(),
            life,
            file_bytes: FILE_BYTES,
            total_bytes: TOTAL_BYTES,
            stall: STALL,
        }
    }
}

/// A record is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Durable {
    /// As given to [`Journal::try_append_at`].
    pub(crate) token: u64,
    /// The line's number.
    pub(crate) n: u64,
}

/// Whether records become durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JournalHealth {
    /// They do.
    Ok,
    /// The disk refuses them; they are tried again.
    Failing {
        /// The file and the kernel's answer.
        error: String,
    },
    /// The disk has not answered.
    Stalled {
        /// The age of the oldest append without an answer.
        ms: u64,
    },
}

/// A record was not taken.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// The queue is full; the loss is counted and will stand in the journal.
    Full,
    /// The event is longer than [`MAX_EVENT_BYTES`].
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The event cannot be written as JSON.
    Serialise(serde_json::Error),
    /// The writer has ended.
    Closed,
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => write!(
                f,
                "journal: more than {QUEUE_RECORDS} records or {QUEUE_BYTES} bytes wait for the disk"
            ),
            Self::TooLong { bytes } => {
                write!(f, "journal: an event of {bytes} bytes, at most {MAX_EVENT_BYTES} are taken")
            }
            Self::Serialise(error) => write!(f, "journal: the event is no JSON: {error}"),
            Self::Closed => f.write_str("journal: the writer has ended"),
        }
    }
}

impl std::error::Error for AppendError {}

/// What goes to the writer.
struct Pending {
    draft: Draft,
    token: Option<u64>,
}

/// What the handle and the writer both see.
#[derive(Default)]
struct Shared {
    /// Records that the writer has answered for, in the order of their appending.
    answered: AtomicU64,
    /// Bytes of events handed over and not answered for.
    queued_bytes: AtomicUsize,
    /// Records refused since the last gap that was written down.
    lost: AtomicU64,
    /// The handle is gone: stop trying.
    closing: AtomicBool,
    failing: Mutex<Option<String>>,
}

impl Shared {
    fn set_failing(&self, error: Option<String>) {
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }
}

/// The run loop's end of the journal.
pub(crate) struct Journal {
    queue: Option<mpsc::SyncSender<Pending>>,
    shared: Arc<Shared>,
    /// When each record still unanswered was handed over (CLOCK_BOOTTIME ms); the first is number `shared.answered + 1`.
    waiting: VecDeque<u64>,
    popped: u64,
    stall: Duration,
    done: Option<tokio::sync::oneshot::Receiver<()>>,
    thread: std::thread::Thread,
}

impl Journal {
    /// Starts the writer. Opening the directory, and finding the chain's end, happens on its thread: a failure there shows in
    /// [`Self::health`] and is tried again. Errors only if the thread cannot be made.
    pub(crate) fn open(options: Options) -> io::Result<(Self, tokio::sync::mpsc::Receiver<Durable>)> {
        Self::open_on(options, file::Disk)
    }

    fn open_on(
        options: Options,
        disk: impl file::Storage,
    ) -> io::Result<(Self, tokio::sync::mpsc::Receiver<Durable>)> {
        let shared = Arc::new(Shared::default());
        let (queue, pending) = mpsc::sync_channel(QUEUE_RECORDS);
        // Room for every record that can wait, so a slow run loop holds up the writer and never loses an answer.
        let (durable, answers) = tokio::sync::mpsc::channel(QUEUE_RECORDS);
        let (end, done) = tokio::sync::oneshot::channel();
        let stall = options.stall;
        let thread = writer::spawn(options, disk, pending, durable, shared.clone(), end)?;
        let waiting = VecDeque::new();
        Ok((
            Self { queue: Some(queue), shared, waiting, popped: 0, stall, done: Some(done), thread },
            answers,
        ))
    }

    /// Hands over a record of `boot_ms` (CLOCK_BOOTTIME, a moment ago). With a token, its [`Durable`] follows once the line is
    /// synced. Never waits.
    pub(crate) fn try_append_at(
        &mut self,
        event: &impl Serialize,
        token: Option<u64>,
        boot_ms: u64,
    ) -> Result<(), AppendError> {
        let event = serde_json::to_vec(event).map_err(AppendError::Serialise)?;
        if event.len() > MAX_EVENT_BYTES {
            return Err(AppendError::TooLong { bytes: event.len() });
        }
        self.forget_answered();
        let bytes = event.len();
        // SAFE-12: what waits for the disk is bounded in records (the channel) and in bytes.
        if self.shared.queued_bytes.load(Ordering::Acquire).saturating_add(bytes) > QUEUE_BYTES {
            return Err(self.refuse());
        }
        let pending = Pending { draft: Draft { time: SystemTime::now(), boot_ms, event }, token };
        self.shared.queued_bytes.fetch_add(bytes, Ordering::AcqRel);
        match self.queue.as_ref().map(|queue| queue.try_send(pending)) {
            Some(Ok(())) => {
                self.waiting.push_back(boot_ms);
                Ok(())
            }
            Some(Err(mpsc::TrySendError::Full(_))) => {
                self.shared.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
                Err(self.refuse())
            }
            Some(Err(mpsc::TrySendError::Disconnected(_))) | None => Err(AppendError::Closed),
        }
    }

    /// The same for a record of just now.
    pub(crate) fn try_append(
        &mut self,
        event: &impl Serialize,
        token: Option<u64>,
    ) -> Result<(), AppendError> {
        self.try_append_at(event, token, boottime_ms())
    }

    fn refuse(&self) -> AppendError {
        self.shared.lost.fetch_add(1, Ordering::AcqRel);
        AppendError::Full
    }

    /// Whether records become durable. Look at each turn of the run loop: a stuck disk announces nothing.
    pub(crate) fn health(&mut self) -> JournalHealth {
        self.forget_answered();
        let oldest_ms = self.waiting.front().map_or(0, |since| boottime_ms().saturating_sub(*since));
        if let Some(error) = self.shared.failing.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return JournalHealth::Failing { error };
        }
        // SAFE-5: a disk that hangs is found by the age of its oldest unanswered append, never by waiting for it.
        if u128::from(oldest_ms) > self.stall.as_millis() {
            return JournalHealth::Stalled { ms: oldest_ms };
        }
        JournalHealth::Ok
    }

    /// No more records. The writer ends once it has written what waits, or at its next failure; the receiver then resolves.
    /// Wait for it with a time limit: a stuck disk never answers.
    pub(crate) fn close(mut self) -> tokio::sync::oneshot::Receiver<()> {
        self.done.take().unwrap_or_else(|| tokio::sync::oneshot::channel().1)
    }

    fn forget_answered(&mut self) {
        let answered = self.shared.answered.load(Ordering::Acquire);
        while self.popped < answered && self.waiting.pop_front().is_some() {
            self.popped += 1;
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.queue = None;
        self.shared.closing.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

#[cfg(test)]
mod tests;
