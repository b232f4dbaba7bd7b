//! The spool: ledger and disk together, one step at a time. Its thread is in [`super::keeper`].

use std::io;
use std::time::SystemTime;

use super::ledger::{Gap, Kept, Ledger, Limits, Next, Position, Room};
use super::said::{self, Teller};
use super::store::{self, Read, Store};
use crate::identity::boottime_us;

/// Something on its way to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// What its acknowledgement names.
    pub(super) number: u64,
    /// The message.
    pub(super) payload: Vec<u8>,
}

pub(super) struct Spool<S> {
    store: S,
    ledger: Ledger,
    limits: Limits,
    teller: Teller,
    opened: bool,
    saved: Option<Position>,
    /// Why the disk takes nothing, as long as it does not.
    trouble: Option<String>,
    /// Events that were shed.
    lost: u64,
}

impl<S: Store> Spool<S> {
    /// Opens it; a disk that cannot be opened is tried again with each event.
    pub(super) fn new(store: S, limits: Limits, teller: Teller) -> Self {
        let first = first_number();
        let ledger = Ledger::new(limits, Vec::new(), first, Position { unacknowledged: first, gap: None });
        let mut spool =
            Self { store, ledger, limits, teller, opened: false, saved: None, trouble: None, lost: 0 };
        spool.flush();
        spool
    }

    /// Keeps an event until the broker has acknowledged it.
    pub(super) fn put(&mut self, payload: Vec<u8>) {
        let number = self.ledger.number();
        let if_shed = said::if_shed(number, &payload);
        let before = self.ledger.memory_lost();
        // Behind what waits already, so that all stay in order.
        self.ledger.keep(Kept { payload, if_shed });
        self.lost += self.ledger.memory_lost().saturating_sub(before);
        self.flush();
    }

    /// Events are missing before the next one.
    pub(super) fn put_gap(&mut self, lost: u64, first_us: u64, last_us: u64) {
        self.lost += lost;
        let id = |us| Some(self.teller.id(us));
        let gap = Gap { number: 0, lost, first: id(first_us), last: id(last_us) };
        let payload = self.teller.gap(&gap, boottime_us(), SystemTime::now());
        self.put(payload);
    }

    /// Another size: what is too much goes with the next event.
    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.ledger.set_limits(limits);
    }

    /// Writes what waits in memory, oldest first, as far as the disk takes it.
    pub(super) fn flush(&mut self) {
        let flushed = self.try_flush();
        match (&self.trouble, flushed) {
            (None, Err(error)) => {
                tracing::error!(%error, "the telemetry's spool cannot be written; memory keeps its newest events");
                self.trouble = Some(error.to_string());
            }
            (Some(_), Ok(())) => {
                tracing::info!("the telemetry's spool is written again");
                self.trouble = None;
            }
            (Some(_), Err(error)) => self.trouble = Some(error.to_string()),
            (None, Ok(())) => {}
        }
    }

    fn try_flush(&mut self) -> io::Result<()> {
        if !self.opened {
            self.open()?;
        }
        let mut wrote = false;
        while let Some(waiting) = self.ledger.waiting() {
            let (number, line) = match waiting {
                Ok(kept) => (kept.if_shed.number, store::line(kept.if_shed.number, &kept.payload)),
                Err(gap) => {
                    let payload = self.teller.gap(gap, boottime_us(), SystemTime::now());
                    (gap.number, store::line(gap.number, &payload))
                }
            };
            self.write(number, &line)?;
            self.ledger.waits_no_more();
            wrote = true;
        }
        if self.trouble.is_some() && !wrote {
            // The broker took what waited. Whether the disk is well again shows in a write alone.
            self.store.save(&self.ledger.position())?;
        }
        Ok(())
    }

    fn open(&mut self) -> io::Result<()> {
        let found = self.store.open()?;
        if found.torn > 0 {
            tracing::warn!(bytes = found.torn, "a torn end of the telemetry's spool was cut off");
        }
        let begins = found.segments.first().map_or_else(first_number, |(first, _)| *first);
        let position = found.position.unwrap_or(Position { unacknowledged: begins, gap: None });
        let told = position.gap.as_ref().map_or(0, |gap| gap.number + 1).max(position.unacknowledged);
        let end = found.end.max(told);
        let ledger = Ledger::new(self.limits, found.segments, end, position);
        let earlier = std::mem::replace(&mut self.ledger, ledger);
        // What came before the disk could be opened gets its numbers behind what lies there.
        self.ledger.take_over(earlier);
        self.opened = true;
        Ok(())
    }

    fn write(&mut self, number: u64, line: &[u8]) -> io::Result<()> {
        loop {
            match self.ledger.room(line.len() as u64) {
                Room::Shed { segment, from } => {
                    let end = self.ledger.end_of(segment);
                    if from < end && !self.ledger.is_lost(end - 1) {
                        let lost = store::lost(&mut self.store, segment, from, end);
                        self.lost += lost.as_ref().map_or(0, |gap| gap.lost);
                        self.ledger.lose(lost);
                        self.save();
                    }
                    self.store.remove(segment)?;
                    self.ledger.deleted();
                }
                Room::Begin { segment } => {
                    self.store.begin(segment)?;
                    self.ledger.begun(segment);
                }
                Room::Here { segment, at } => {
                    self.store.write(segment, at, line)?;
                    self.ledger.wrote(number, line.len() as u64);
                    return Ok(());
                }
            }
        }
    }

    /// A session with the broker begins.
    pub(super) fn begin_session(&mut self) {
        self.ledger.begin_session();
    }

    /// What is to be published next, if anything is and the window has room. The caller says [`Self::told`] once it is handed over.
    pub(super) fn next(&mut self) -> Option<Item> {
        loop {
            let (segment, from) = match self.ledger.to_tell()? {
                Next::Gap(gap) => {
                    let payload = self.teller.gap(&gap, boottime_us(), SystemTime::now());
                    return Some(Item { number: gap.number, payload });
                }
                Next::Memory { number, payload } => return Some(Item { number, payload: payload.to_vec() }),
                Next::Disk { segment, from } => (segment, from),
            };
            let end = self.ledger.end_of(segment);
            let read = self.store.read(segment, from).unwrap_or_else(|error| {
                tracing::warn!(%error, "the telemetry's spool cannot be read; what lies there is passed over");
                Read::End { damaged: end.saturating_sub(from).max(1) }
            });
            let (next, damaged) = match read {
                // Damage before the very one that is looked for was told already.
                Read::Event { number, payload, damaged }
                    if number < end && (damaged == 0 || number == from) =>
                {
                    return Some(Item { number, payload });
                }
                Read::Event { number, damaged, .. } if number < end => (number, damaged),
                Read::Event { damaged, .. } | Read::End { damaged } => (end, damaged),
            };
            self.ledger.pass_over(next);
            if damaged > 0 && next > from {
                self.lost += damaged;
                let gap = Gap { number: next - 1, lost: damaged, first: None, last: None };
                let payload = self.teller.gap(&gap, boottime_us(), SystemTime::now());
                return Some(Item { number: gap.number, payload });
            }
        }
    }

    /// That item is on its way.
    pub(super) fn told(&mut self, item: &Item) {
        self.ledger.told(item.number, item.payload.len());
    }

    /// The broker has it.
    pub(super) fn acknowledged(&mut self, number: u64) {
        self.ledger.acknowledged(number);
        while let Some(segment) = self.ledger.done() {
            // First, so that a restart takes nothing for lost.
            self.save();
            // Left for the next time if the disk does not do it.
            if self.store.remove(segment).is_err() {
                break;
            }
            self.ledger.deleted();
        }
    }

    /// Remembers up to where the broker has acknowledged, if that changed. A failure costs no more than events told again.
    pub(super) fn save(&mut self) {
        let position = self.ledger.position();
        if self.opened && self.saved.as_ref() != Some(&position) && self.store.save(&position).is_ok() {
            self.saved = Some(position);
        }
    }

    /// Why the disk takes nothing.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Events that were shed since the start.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Events without an acknowledgement.
    pub(super) fn waiting(&self) -> u64 {
        self.ledger.unacknowledged()
    }

    /// Bytes on the disk, and in memory for want of it.
    pub(super) fn bytes(&self) -> (u64, usize) {
        (self.ledger.disk_bytes(), self.ledger.memory_bytes())
    }
}

/// The number of the first event of a new spool: the wall clock's ms, so that a spool that was deleted does not begin anew.
fn first_number() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests;
