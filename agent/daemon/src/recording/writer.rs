//! The recorder's thread: the only place of the agent that waits for this disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, mpsc};
use std::time::Instant;

use super::format::{MAGIC, Mark, Said, difference};
use super::{Options, Pending, SYNC, Shared, frame, segments};
use crate::counters::Counters;
use crate::realtime::THREAD_STACK_BYTES;

/// What the recording does to a disk; a fault-injecting one stands in for it in tests.
pub(super) trait Storage: Send + 'static {
    fn write(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<()>;
}

/// The disk itself.
pub(super) struct Disk;

impl Storage for Disk {
    fn write(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }
}

/// The segment being written.
struct Current {
    path: PathBuf,
    file: File,
    /// Bytes of whole frames.
    len: u64,
    at_ms: u64,
    /// The last heartbeat of each host in this segment.
    heard: BTreeMap<u8, Vec<u8>>,
    /// Since when something is not synced.
    unsynced: Option<Instant>,
}

struct Writer<S> {
    options: Options,
    disk: S,
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    current: Option<Current>,
    /// When the disk last refused.
    refused: Option<Instant>,
    /// Inputs that were taken over and could not be written, since the last one that was.
    lost: u64,
}

pub(super) fn spawn(
    options: Options,
    disk: impl Storage,
    pending: mpsc::Receiver<Pending>,
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    end: tokio::sync::oneshot::Sender<()>,
) -> io::Result<()> {
    let mut writer = Writer { options, disk, shared, counters, current: None, refused: None, lost: 0 };
    let builder = std::thread::Builder::new().name("recording".into()).stack_size(THREAD_STACK_BYTES);
    builder.spawn(move || {
        writer.run(&pending);
        // Nobody may be waiting for the end.
        let _ = end.send(());
    })?;
    Ok(())
}

impl<S: Storage> Writer<S> {
    fn run(&mut self, pending: &mpsc::Receiver<Pending>) {
        loop {
            match pending.recv_timeout(SYNC) {
                Ok(pending) => {
                    let bytes = pending.bytes();
                    self.deal_with(pending);
                    self.shared.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
            self.sync(false);
        }
        self.end_segment(0);
    }

    fn deal_with(&mut self, pending: Pending) {
        match pending {
            Pending::Begin { head, at_ms, lost } => {
                self.shared.wanted.store(false, Ordering::Release);
                self.begin(&head, at_ms, lost);
                self.shared.beginning.store(false, Ordering::Release);
            }
            Pending::Step { at_ms, peer, input, digest, events } => {
                let Some(current) = self.current.as_mut() else { return self.lose() };
                let after_ms = at_ms.saturating_sub(current.at_ms);
                let said = said(&current.heard, peer, &input);
                let written = self.write(&Mark::Step { after_ms, input: said, digest, events });
                match (written, self.current.as_mut()) {
                    (Ok(()), Some(current)) => {
                        current.at_ms = at_ms;
                        if let Some(peer) = peer {
                            current.heard.insert(peer, input);
                        }
                        if current.len >= self.options.full_bytes {
                            self.shared.wanted.store(true, Ordering::Release);
                        }
                    }
                    (Ok(()), None) => self.lose(),
                    (Err(error), _) => {
                        self.refuse(&error);
                        self.lose();
                    }
                }
            }
        }
    }

    /// Ends the segment before and begins the next one with `head`.
    fn begin(&mut self, head: &[u8], at_ms: u64, lost: u64) {
        let lost = lost.saturating_add(std::mem::take(&mut self.lost));
        self.end_segment(lost);
        match self.begin_segment(head, at_ms) {
            Ok(()) => {
                if self.refused.take().is_some() || lost > 0 {
                    tracing::warn!(lost, "the recording goes on, without the inputs in between");
                }
                self.set_failing(None);
            }
            Err(error) => {
                self.lost = lost;
                self.refuse(&error);
            }
        }
    }

    fn begin_segment(&mut self, head: &[u8], at_ms: u64) -> io::Result<()> {
        let (path, mut file) = segments::next(&self.options)?;
        let mut bytes = MAGIC.to_vec();
        if !frame::put(&mut bytes, head) {
            return Err(io::Error::other("the snapshot is longer than a frame may be"));
        }
        if let Err(error) = self.disk.write(&mut file, &bytes) {
            // A segment without its head tells nothing.
            drop(std::fs::remove_file(&path));
            return Err(error);
        }
        self.count(bytes.len());
        let (len, heard) = (bytes.len() as u64, BTreeMap::new());
        self.current = Some(Current { path, file, len, at_ms, heard, unsynced: Some(Instant::now()) });
        Ok(())
    }

    /// The last mark of the present segment, if there is one.
    fn end_segment(&mut self, lost: u64) {
        if self.current.is_none() {
            return;
        }
        let mark = if lost > 0 { Mark::Gap { lost } } else { Mark::End };
        // A disk that does not take it: a reader sees where the segment ends all the same.
        drop(self.write(&mark));
        self.sync(true);
        self.current = None;
    }

    /// Appends one frame; after an error the segment ends with the whole frame before.
    fn write(&mut self, mark: &Mark) -> io::Result<()> {
        let Some(current) = self.current.as_mut() else { return Ok(()) };
        let body = postcard::to_allocvec(mark).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(body.len() + 8);
        let fits = frame::put(&mut bytes, &body)
            && current.len.saturating_add(bytes.len() as u64) <= self.options.segment_bytes;
        if !fits {
            return Err(io::Error::other("the segment is full"));
        }
        if let Err(error) = self.disk.write(&mut current.file, &bytes) {
            // What a full disk took of it; if that cannot be cut off, a reader sees a torn end.
            drop(current.file.set_len(current.len));
            return Err(error);
        }
        current.len += bytes.len() as u64;
        current.unsynced.get_or_insert_with(Instant::now);
        self.count(bytes.len());
        Ok(())
    }

    fn sync(&mut self, now: bool) {
        let Some(current) = self.current.as_mut() else { return };
        if current.unsynced.is_some_and(|since| now || since.elapsed() >= SYNC) {
            current.unsynced = None;
            if let Err(error) = current.file.sync_data() {
                self.refuse(&error);
            }
        }
    }

    fn count(&self, bytes: usize) {
        self.counters.recording_bytes.add(bytes as u64);
    }

    fn lose(&mut self) {
        self.lost += 1;
        self.counters.recording_lost.count();
        if self.refused.is_none_or(|since| since.elapsed() >= self.options.retry) {
            self.shared.wanted.store(true, Ordering::Release);
        }
    }

    /// The disk does not take it. Told once; guarding goes on.
    fn refuse(&mut self, error: &io::Error) {
        let path = self.current.take().map_or(self.options.dir.clone(), |current| current.path);
        if self.refused.is_none() {
            tracing::error!(%error, path = %path.display(), "the recording cannot be written; guarding goes on without it");
        }
        self.refused = Some(Instant::now());
        self.set_failing(Some(format!("{}: {error}", path.display())));
    }

    fn set_failing(&self, error: Option<String>) {
        *self.shared.failing.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }
}

fn said(heard: &BTreeMap<u8, Vec<u8>>, peer: Option<u8>, input: &[u8]) -> Said {
    let like = peer.and_then(|host| {
        let runs = difference(heard.get(&host)?, input)?;
        Some(Said::Like { host, runs })
    });
    like.unwrap_or_else(|| Said::Whole(input.to_vec()))
}
