//! The journal's thread: takes what waits, chains it, writes it with one sync, answers. The only place of the agent that
//! waits for this disk.

use std::fs::File;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime};

use nix::fcntl::Flock;
use serde::Serialize;

use super::file::{self, Current, End, Storage};
use super::line::{self, Draft};
use super::{Durable, Options, Pending, Shared};
use crate::identity::boottime_ms;
use crate::realtime::THREAD_STACK_BYTES;

/// Bytes of lines written with one sync: a batch bounds what one failure repeats.
const BATCH_BYTES: usize = 256 * 1024;
/// Between two tries on a disk that refuses.
const RETRY: Duration = Duration::from_millis(500);

/// What the journal says about itself.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Own {
    /// A crash tore the end of a file; what was torn is in the file named, or was dropped for want of room.
    JournalTorn { bytes: u64, moved_to: Option<String> },
    /// Records were refused because the queue was full.
    JournalGap { lost: u64 },
}

/// A line waiting for its sync.
struct Encoded {
    n: u64,
    bytes: Vec<u8>,
    answer: Option<Answer>,
}

/// What is owed to the handle for a record of its own.
struct Answer {
    event_bytes: usize,
    token: Option<u64>,
}

struct Writer<S> {
    options: Options,
    life: String,
    disk: S,
    durable: tokio::sync::mpsc::Sender<Durable>,
    shared: Arc<Shared>,
    /// Held for as long as this process writes; the kernel gives it back when the process ends.
    lock: Option<Flock<File>>,
    current: Option<Current>,
    /// The chain's end, counting the lines in `batch`.
    end: End,
    /// Encoded, not durable.
    batch: Vec<Encoded>,
}

pub(super) fn spawn(
    options: Options,
    disk: impl Storage,
    pending: mpsc::Receiver<Pending>,
    durable: tokio::sync::mpsc::Sender<Durable>,
    shared: Arc<Shared>,
    end: tokio::sync::oneshot::Sender<()>,
) -> io::Result<std::thread::Thread> {
    let life = options.life.iter().map(|byte| format!("{byte:02x}")).collect();
    let start = End { n: 0, hash: line::LineHash::NONE };
    let mut writer = Writer {
        options,
        life,
        disk,
        durable,
        shared,
        lock: None,
        current: None,
        end: start,
        batch: Vec::new(),
    };
    let builder = std::thread::Builder::new().name("journal".into()).stack_size(THREAD_STACK_BYTES);
    let thread = builder.spawn(move || {
        writer.run(&pending);
        // Whoever waits for the end may open the journal at once.
        drop(writer);
        // Nobody may be waiting for the end.
        let _ = end.send(());
    })?;
    Ok(thread.thread().clone())
}

impl<S: Storage> Writer<S> {
    fn run(&mut self, pending: &mpsc::Receiver<Pending>) {
        if self.until_it_works(Self::recover).is_none() {
            return;
        }
        loop {
            // Own records first (what recovery found); else wait for one.
            if self.batch.is_empty() {
                match pending.recv() {
                    Ok(record) => self.encode(record),
                    Err(mpsc::RecvError) => return,
                }
            }
            let mut bytes: usize = self.batch.iter().map(|encoded| encoded.bytes.len()).sum();
            while bytes < BATCH_BYTES
                && let Ok(record) = pending.try_recv()
            {
                self.encode(record);
                bytes += self.batch.last().map_or(0, |encoded| encoded.bytes.len());
            }
            let lost = self.shared.lost.swap(0, Ordering::AcqRel);
            if lost > 0 {
                self.encode_own(&Own::JournalGap { lost });
            }
            if self.until_it_works(Self::commit).is_none() {
                return;
            }
        }
    }

    /// Tries `work` until it succeeds, and says meanwhile why it does not; `None` when the handle is gone.
    fn until_it_works(&mut self, mut work: impl FnMut(&mut Self) -> io::Result<()>) -> Option<()> {
        let mut failed = false;
        loop {
            match work(self) {
                Ok(()) => {
                    if failed {
                        tracing::info!("the journal is written again");
                        self.shared.set_failing(None);
                    }
                    return Some(());
                }
                Err(error) => {
                    if !failed {
                        tracing::error!(%error, "the journal cannot be written; trying again");
                    }
                    failed = true;
                    self.shared.set_failing(Some(error.to_string()));
                }
            }
            if self.shared.closing.load(Ordering::Acquire) {
                return None;
            }
            std::thread::park_timeout(RETRY);
        }
    }

    fn recover(&mut self) -> io::Result<()> {
        if self.lock.is_none() {
            self.lock = Some(file::lock(&self.options.dir)?);
        }
        let found = file::recover(&self.options.dir, self.options.file_bytes)?;
        self.end = found.end;
        self.current = found.current;
        for (bytes, moved_to) in found.torn {
            let moved_to = moved_to.map(|path| path.display().to_string());
            self.encode_own(&Own::JournalTorn { bytes, moved_to });
        }
        Ok(())
    }

    fn encode_own(&mut self, own: &Own) {
        // Two numbers and a path always serialise.
        let event = serde_json::to_vec(own).unwrap_or_else(|_| b"null".to_vec());
        let draft = Draft { time: SystemTime::now(), boot_ms: boottime_ms(), event };
        self.chain(&draft, None);
    }

    fn encode(&mut self, record: Pending) {
        let answer = Answer { event_bytes: record.draft.event.len(), token: record.token };
        self.chain(&record.draft, Some(answer));
    }

    fn chain(&mut self, draft: &Draft, answer: Option<Answer>) {
        let n = self.end.n + 1;
        let mut bytes = Vec::with_capacity(draft.event.len() + 512);
        let hash = line::encode(&mut bytes, n, draft, &self.options.host, &self.life, self.end.hash);
        self.end = End { n, hash };
        self.batch.push(Encoded { n, bytes, answer });
    }

    /// Writes the batch, one sync a file, and answers for what is durable. On an error the rest stays in the batch.
    fn commit(&mut self) -> io::Result<()> {
        while let Some(first) = self.batch.first() {
            let full = |current: &Current| {
                current.len > 0 && current.len + first.bytes.len() as u64 > self.options.file_bytes
            };
            if self.current.as_ref().is_none_or(full) {
                let Options { dir, file_bytes, total_bytes, .. } = &self.options;
                // The chain is carried over: the first line of the new file names the last hash of the old one.
                self.current = Some(file::begin(dir, first.n, *file_bytes, *total_bytes)?);
            }
            let Some(current) = self.current.as_mut() else { continue };
            let mut joined = Vec::new();
            let mut count = 0;
            for encoded in &self.batch {
                let len = current.len + (joined.len() + encoded.bytes.len()) as u64;
                if count > 0 && len > self.options.file_bytes {
                    break;
                }
                joined.extend_from_slice(&encoded.bytes);
                count += 1;
            }
            // Written again from the same place after a failed sync: the kernel may have dropped the pages it could not
            // write and call the next sync a success.
            let written = self.disk.write_at(&current.file, &joined, current.len);
            // SAFE-5: durable means synced; nothing is answered before.
            written.and_then(|()| self.disk.sync(&current.file)).map_err(file::at(&current.path))?;
            current.len += joined.len() as u64;
            self.answer(count);
        }
        Ok(())
    }

    fn answer(&mut self, count: usize) {
        for encoded in self.batch.drain(..count) {
            let Some(answer) = encoded.answer else { continue };
            self.shared.queued_bytes.fetch_sub(answer.event_bytes, Ordering::AcqRel);
            self.shared.answered.fetch_add(1, Ordering::AcqRel);
            if let Some(token) = answer.token {
                // The receiver is gone only when the agent ends.
                let _ = self.durable.blocking_send(Durable { token, n: encoded.n });
            }
        }
    }
}
