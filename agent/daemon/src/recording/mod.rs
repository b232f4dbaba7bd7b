//! The flight recorder: every input of the engine and what came of it, so that `palisade replay` can feed them again. It
//! records; it decides nothing, and guarding never waits for it.
//!
//! Segments lie beside the journal. Each begins with a snapshot of the engine and its configuration and holds every input from
//! there on; when one could not be taken, the segment ends with a mark that says so, and the next one begins as soon as it can.
//! Every frame is handed to the kernel at once, so a process that dies loses none; a power cut loses at most [`SYNC`].

mod format;
mod frame;
mod read;
mod recorded;
mod segments;
mod writer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use palisade_core::replay::Outcome;
use palisade_proto::Time;

pub(crate) use format::{Head, LAYOUT};
pub(crate) use read::{Ending, Segment};
pub(crate) use recorded::Recorded;
pub(crate) use segments::list;

use crate::counters::Counters;

/// The recording's directory, in the journal's.
pub(crate) const DIR: &str = "recording";
/// Where the recording goes to its next segment.
pub(crate) const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// All segments together; the oldest goes when one more could pass this. By size, not by number, so that an agent that is
/// started again and again does not push out what led there.
pub(crate) const TOTAL_BYTES: u64 = 64 * 1024 * 1024;
/// The most segments, however small.
pub(crate) const SEGMENTS_MAX: usize = 256;
/// Inputs that may wait for the disk: some ten seconds of a busy cluster.
const QUEUE_STEPS: usize = 1024;
/// Bytes that may wait for the disk. More than one snapshot always has room in an empty queue.
const QUEUE_BYTES: usize = 1024 * 1024;
/// How often what is written is synced, on the recorder's thread.
const SYNC: Duration = Duration::from_secs(5);
/// Between two tries on a disk that refuses.
const RETRY: Duration = Duration::from_secs(5);

/// How a recording is kept.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Its directory; made if missing.
    pub(crate) dir: PathBuf,
    /// See [`SEGMENT_BYTES`].
    pub(crate) segment_bytes: u64,
    /// When the next segment is wanted: what waits in the queue then still fits.
    pub(crate) full_bytes: u64,
    /// See [`TOTAL_BYTES`].
    pub(crate) total_bytes: u64,
    /// See [`RETRY`].
    pub(crate) retry: Duration,
}

impl Options {
    /// The recording beside the journal in `journal_dir`, limits as designed.
    pub(crate) fn new(journal_dir: &std::path::Path) -> Self {
        Self {
            dir: journal_dir.join(DIR),
            segment_bytes: SEGMENT_BYTES,
            full_bytes: SEGMENT_BYTES - 2 * QUEUE_BYTES as u64,
            total_bytes: TOTAL_BYTES,
            retry: RETRY,
        }
    }
}

/// What goes to the writer.
enum Pending {
    /// A new segment begins.
    Begin {
        /// In postcard.
        head: Vec<u8>,
        at_ms: u64,
        /// Inputs since the last one recorded that found the queue full.
        lost: u64,
    },
    /// One input.
    Step {
        at_ms: u64,
        /// Whose heartbeat it is, if it is one.
        peer: Option<u8>,
        /// The input, in postcard.
        input: Vec<u8>,
        digest: Option<palisade_core::replay::Digest>,
        events: Vec<String>,
    },
}

impl Pending {
    fn bytes(&self) -> usize {
        match self {
            Self::Begin { head, .. } => head.len(),
            Self::Step { input, events, .. } => input.len() + events.iter().map(String::len).sum::<usize>(),
        }
    }
}

/// What the run loop's end and the writer both see.
#[derive(Default)]
struct Shared {
    /// Bytes handed over and not dealt with.
    queued_bytes: AtomicUsize,
    /// The writer wants a new segment: the present one is full, or there is none and the disk may take one again.
    wanted: AtomicBool,
    /// One was handed over, and the writer has not come to it: what it wants meanwhile is of the one before.
    beginning: AtomicBool,
    failing: Mutex<Option<String>>,
}

/// The run loop's end of the recording.
pub(crate) struct Recorder {
    queue: mpsc::SyncSender<Pending>,
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    /// Whether everything since the last beginning was handed over.
    whole: bool,
    /// The next input is to begin a new segment all the same.
    renew: bool,
    lost: u64,
    done: tokio::sync::oneshot::Receiver<()>,
}

impl Recorder {
    /// Starts the writer; whatever fails on the disk shows in [`Self::alarm`] and is tried again.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub(crate) fn open(options: Options, counters: Arc<Counters>) -> std::io::Result<Self> {
        Self::open_on(options, counters, writer::Disk)
    }

    fn open_on(
        options: Options,
        counters: Arc<Counters>,
        disk: impl writer::Storage,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (queue, pending) = mpsc::sync_channel(QUEUE_STEPS);
        let (end, done) = tokio::sync::oneshot::channel();
        writer::spawn(options, disk, pending, shared.clone(), counters.clone(), end)?;
        Ok(Self { queue, shared, counters, whole: false, renew: false, lost: 0, done })
    }

    /// Whether a new segment should begin now, and the queue has room for it.
    fn wants_segment(&self) -> bool {
        let wanted = !self.whole || self.renew || self.shared.wanted.load(Ordering::Acquire);
        wanted
            && !self.shared.beginning.load(Ordering::Acquire)
            && self.shared.queued_bytes.load(Ordering::Acquire) <= QUEUE_BYTES / 2
    }

    /// Begins a segment with `head`, an engine between two inputs. Never waits.
    fn begin(&mut self, head: &Head) {
        // A head is numbers, texts and bytes: it always serialises.
        let Ok(bytes) = postcard::to_allocvec(head) else { return };
        let begin = Pending::Begin { head: bytes, at_ms: head.at_ms, lost: self.lost };
        self.shared.beginning.store(true, Ordering::Release);
        if self.hand_over(begin) {
            (self.whole, self.renew, self.lost) = (true, false, 0);
        } else {
            self.shared.beginning.store(false, Ordering::Release);
        }
    }

    /// The next input begins a new segment, as soon as there is room.
    fn renew(&mut self) {
        self.renew = true;
    }

    /// Notes an input, in postcard, and what came of it. Never waits.
    fn note(&mut self, at: Time, peer: Option<u8>, input: Vec<u8>, outcome: &Outcome) {
        let events = outcome.events.iter().filter_map(|event| serde_json::to_string(event).ok()).collect();
        let step = Pending::Step { at_ms: at.0, peer, input, digest: outcome.digest, events };
        if self.whole && self.hand_over(step) {
            return;
        }
        self.whole = false;
        self.lost += 1;
        self.counters.recording_lost.count();
    }

    fn hand_over(&self, pending: Pending) -> bool {
        let bytes = pending.bytes();
        // SAFE-12: what waits for the disk is bounded in number (the channel) and in bytes.
        if self.shared.queued_bytes.load(Ordering::Acquire).saturating_add(bytes) > QUEUE_BYTES {
            return false;
        }
        self.shared.queued_bytes.fetch_add(bytes, Ordering::AcqRel);
        let taken = self.queue.try_send(pending).is_ok();
        if !taken {
            self.shared.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
        }
        taken
    }

    /// What is wrong with the recording, in words for an operator.
    fn alarm(&self) -> Option<String> {
        let failing = self.shared.failing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        failing.map(|error| format!("nothing is recorded for `palisade replay`: {error}; guarding goes on"))
    }

    /// No more inputs. The writer ends once it has written what waits; the receiver then resolves. Wait for it with a time
    /// limit: a stuck disk never answers.
    fn close(self) -> tokio::sync::oneshot::Receiver<()> {
        self.done
    }
}

#[cfg(test)]
pub(crate) mod flight;
#[cfg(test)]
pub(crate) mod tests;
