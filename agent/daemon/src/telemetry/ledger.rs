//! What the spool keeps while the broker is away, what goes when there is no room, where the gap stands, and what may be under
//! way to the broker at once. It decides only: it opens no file and knows no time.
//!
//! Events are numbered in their order. The oldest lie in segments of the disk; what the disk did not take waits in memory, and is
//! always younger than what lies on the disk. Each of the two sheds its oldest when it is full, and keeps one [`Gap`] in the
//! place of what it shed, which is told in its turn like any event.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Events under way to the broker at once. More would only lie in its buffers, and be sent again after each lost connection.
pub(super) const WINDOW: usize = 16;
/// And their bytes: they lie in memory until the broker has acknowledged them (SAFE-12).
pub(super) const WINDOW_BYTES: usize = 256 * 1024;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Of all segments together.
    pub(super) disk_bytes: u64,
    /// Of one segment: what is shed at once.
    pub(super) segment_bytes: u64,
    /// Of what waits for a disk that takes nothing.
    pub(super) memory_bytes: usize,
}

impl Limits {
    /// Of a spool of so many bytes: segments of a sixteenth of it, so that little is shed at once, and of no more than
    /// 1 MiB, so that one is read through quickly.
    pub(super) fn of(disk_bytes: u64) -> Self {
        Self {
            disk_bytes,
            segment_bytes: (disk_bytes / 16).clamp(1024, 1024 * 1024),
            memory_bytes: 256 * 1024,
        }
    }
}

/// Events that were shed before the broker had acknowledged them. Some of them may have reached it all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Gap {
    /// The number of the last one: the gap stands in its place.
    pub(super) number: u64,
    /// How many.
    pub(super) lost: u64,
    /// The id of the first one, unless it could not be read any more.
    pub(super) first: Option<String>,
    /// And of the last one.
    pub(super) last: Option<String>,
}

impl Gap {
    /// What is lost with an event that is none.
    pub(super) fn of(number: u64, id: &str) -> Self {
        Self { number, lost: 1, first: Some(id.to_owned()), last: Some(id.to_owned()) }
    }

    /// `later` follows at once.
    pub(super) fn extend(&mut self, later: Self) {
        self.number = later.number;
        self.lost = self.lost.saturating_add(later.lost);
        self.first = self.first.take().or(later.first);
        self.last = later.last.or(self.last.take());
    }
}

/// Takes `later` into the gap that stands already, if one does.
fn widen(gap: &mut Option<Gap>, later: Gap) {
    match gap {
        Some(gap) => gap.extend(later),
        None => *gap = Some(later),
    }
}

/// Where a restart goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// The oldest event that the broker has not acknowledged.
    pub(super) unacknowledged: u64,
    /// What is to be told before it.
    pub(super) gap: Option<Gap>,
}

/// An event with what is lost when it is shed: of a gap that was written down, what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) payload: Vec<u8>,
    pub(super) if_shed: Gap,
}

/// What must be done before so many more bytes can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// Delete this segment, and say what was in it with numbers of at least `from`.
    Shed { segment: u64, from: u64 },
    /// Begin a segment of this name: the number after the last one on the disk, so that a hole before it is a loss. Numbers
    /// that memory shed lie within it.
    Begin { segment: u64 },
    /// Nothing: write at this place of this segment.
    Here { segment: u64, at: u64 },
}

/// What is told next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next<'a> {
    /// That events are missing.
    Gap(Gap),
    /// The first event of the disk with this number or a later one, in this segment.
    Disk { segment: u64, from: u64 },
    /// An event that waits in memory.
    Memory { number: u64, payload: &'a [u8] },
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    first: u64,
    bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    number: u64,
    bytes: usize,
    acknowledged: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Ledger {
    limits: Limits,
    /// Oldest first; the last one is written.
    segments: VecDeque<Segment>,
    /// The number after the last one on the disk.
    disk_end: u64,
    disk_gap: Option<Gap>,
    memory: VecDeque<Kept>,
    memory_used: usize,
    memory_gap: Option<Gap>,
    memory_lost: u64,
    /// What the next event will be called.
    next: u64,
    /// The oldest one that the broker has not acknowledged.
    unacknowledged: u64,
    /// The next one to be told; `None` without a session.
    to_tell: Option<u64>,
    under_way: VecDeque<UnderWay>,
}

impl Ledger {
    /// What was found on the disk: the segments, each with its first number and its bytes, the number after the last event, and
    /// what is still to be told.
    pub(super) fn new(limits: Limits, found: Vec<(u64, u64)>, end: u64, position: Position) -> Self {
        let segments: VecDeque<Segment> =
            found.into_iter().map(|(first, bytes)| Segment { first, bytes }).collect();
        let Position { unacknowledged, gap } = position;
        let mut ledger = Self {
            limits,
            segments,
            disk_end: end,
            disk_gap: gap,
            memory: VecDeque::new(),
            memory_used: 0,
            memory_gap: None,
            memory_lost: 0,
            next: end,
            unacknowledged,
            to_tell: None,
            under_way: VecDeque::new(),
        };
        // What should be there and is not, as after a loss of power.
        let begins = ledger.segments.front().map_or(end, |segment| segment.first);
        let should = unacknowledged.max(ledger.disk_gap.as_ref().map_or(0, |gap| gap.number + 1));
        if should < begins {
            let lost = begins - should;
            widen(&mut ledger.disk_gap, Gap { number: begins - 1, lost, first: None, last: None });
        }
        ledger
    }

    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The number of an event that is to be kept.
    pub(super) fn number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }

    /// Whether `bytes` more can be written to the disk, and where.
    pub(super) fn room(&self, bytes: u64) -> Room {
        // SAFE-12: the oldest goes first, before the limit is passed.
        if let Some(oldest) = self.segments.front()
            && self.disk_bytes().saturating_add(bytes) > self.limits.disk_bytes
        {
            return Room::Shed { segment: oldest.first, from: self.unacknowledged.max(oldest.first) };
        }
        match self.segments.back() {
            Some(last)
                if last.bytes == 0 || last.bytes.saturating_add(bytes) <= self.limits.segment_bytes =>
            {
                Room::Here { segment: last.first, at: last.bytes }
            }
            Some(_) | None => Room::Begin { segment: self.disk_end },
        }
    }

    /// This is lost with the oldest segment. Said before it is deleted, so that no crash hides it.
    pub(super) fn lose(&mut self, lost: Option<Gap>) {
        if let Some(lost) = lost {
            widen(&mut self.disk_gap, lost);
        }
    }

    /// Whether that event is known to be lost already: its segment was not deleted at the first try.
    pub(super) fn is_lost(&self, number: u64) -> bool {
        self.disk_gap.as_ref().is_some_and(|gap| gap.number >= number)
    }

    /// The oldest segment is deleted.
    pub(super) fn deleted(&mut self) {
        self.segments.pop_front();
    }

    /// That segment was begun.
    pub(super) fn begun(&mut self, segment: u64) {
        self.segments.push_back(Segment { first: segment, bytes: 0 });
    }

    /// This event was written.
    pub(super) fn wrote(&mut self, number: u64, bytes: u64) {
        if let Some(last) = self.segments.back_mut() {
            last.bytes += bytes;
        }
        self.disk_end = number + 1;
    }

    /// The disk did not take this event: memory keeps it, and sheds its oldest for it (SAFE-12).
    pub(super) fn keep(&mut self, kept: Kept) {
        self.memory_used += kept.payload.len();
        self.memory.push_back(kept);
        // The newest stays, whatever its size.
        while self.memory_used > self.limits.memory_bytes
            && self.memory.len() > 1
            && let Some(oldest) = self.memory.pop_front()
        {
            self.memory_used -= oldest.payload.len();
            self.memory_lost += oldest.if_shed.lost;
            widen(&mut self.memory_gap, oldest.if_shed);
        }
    }

    /// What was kept in memory before the disk could be opened, behind what was found there.
    pub(super) fn take_over(&mut self, earlier: Self) {
        if let Some(mut gap) = earlier.memory_gap {
            gap.number = self.number();
            self.memory_gap = Some(gap);
        }
        for mut kept in earlier.memory {
            kept.if_shed.number = self.number();
            self.memory_used += kept.payload.len();
            self.memory.push_back(kept);
        }
        self.memory_lost = earlier.memory_lost;
        if earlier.to_tell.is_some() {
            self.begin_session();
        }
    }

    /// The oldest that waits in memory for the disk: a gap, or an event.
    pub(super) fn waiting(&self) -> Option<Result<&Kept, &Gap>> {
        match &self.memory_gap {
            Some(gap) => Some(Err(gap)),
            None => self.memory.front().map(Ok),
        }
    }

    /// That is on the disk now.
    pub(super) fn waits_no_more(&mut self) {
        if self.memory_gap.take().is_none()
            && let Some(kept) = self.memory.pop_front()
        {
            self.memory_used -= kept.payload.len();
        }
    }

    /// A session with the broker begins: what was under way before it is told again, in order.
    pub(super) fn begin_session(&mut self) {
        self.under_way.clear();
        self.to_tell = Some(self.unacknowledged);
    }

    /// What is told next, if anything waits and more may be under way.
    pub(super) fn to_tell(&self) -> Option<Next<'_>> {
        let from = self.to_tell?;
        let bytes: usize = self.under_way.iter().map(|under_way| under_way.bytes).sum();
        if self.under_way.len() >= WINDOW || bytes >= WINDOW_BYTES {
            return None;
        }
        if let Some(gap) = self.disk_gap.as_ref().filter(|gap| gap.number >= from) {
            return Some(Next::Gap(gap.clone()));
        }
        if from < self.disk_end
            && let Some(segment) = self.segments.iter().rev().find(|segment| segment.first <= from)
        {
            return Some(Next::Disk { segment: segment.first, from });
        }
        if from < self.disk_end
            && let Some(segment) = self.segments.front()
        {
            return Some(Next::Disk { segment: segment.first, from: segment.first });
        }
        if let Some(gap) = self.memory_gap.as_ref().filter(|gap| gap.number >= from) {
            return Some(Next::Gap(gap.clone()));
        }
        let kept = self.memory.iter().find(|kept| kept.if_shed.number >= from)?;
        Some(Next::Memory { number: kept.if_shed.number, payload: &kept.payload })
    }

    /// It is under way.
    pub(super) fn told(&mut self, number: u64, bytes: usize) {
        self.under_way.push_back(UnderWay { number, bytes, acknowledged: false });
        self.to_tell = Some(number + 1);
    }

    /// From here to `to` the disk holds nothing that can be told.
    pub(super) fn pass_over(&mut self, to: u64) {
        self.to_tell = self.to_tell.map(|from| from.max(to));
    }

    /// The first number of the segment after this one, or of what comes after the last one.
    pub(super) fn end_of(&self, segment: u64) -> u64 {
        self.segments.iter().find(|later| later.first > segment).map_or(self.disk_end, |later| later.first)
    }

    /// The broker acknowledged this one. It leaves only once everything before it has.
    pub(super) fn acknowledged(&mut self, number: u64) {
        if let Some(under_way) = self.under_way.iter_mut().find(|under_way| under_way.number == number) {
            under_way.acknowledged = true;
        }
        while let Some(first) = self.under_way.pop_front_if(|first| first.acknowledged) {
            self.unacknowledged = self.unacknowledged.max(first.number + 1);
        }
        self.disk_gap.take_if(|gap| gap.number < self.unacknowledged);
        self.memory_gap.take_if(|gap| gap.number < self.unacknowledged);
        while let Some(kept) = self.memory.pop_front_if(|kept| kept.if_shed.number < self.unacknowledged) {
            self.memory_used -= kept.payload.len();
        }
    }

    /// A segment with nothing in it that is still to be acknowledged: to be deleted, then [`Self::deleted`]. The one that is
    /// written stays until it is worth it.
    pub(super) fn done(&self) -> Option<u64> {
        let oldest = self.segments.front()?;
        let end = self.end_of(oldest.first);
        let worth = self.segments.len() > 1 || oldest.bytes >= self.limits.segment_bytes / 2;
        (end <= self.unacknowledged && worth).then_some(oldest.first)
    }

    /// Where a restart would go on.
    pub(super) fn position(&self) -> Position {
        Position { unacknowledged: self.unacknowledged, gap: self.disk_gap.clone() }
    }

    /// Bytes on the disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Events that memory has shed.
    pub(super) fn memory_lost(&self) -> u64 {
        self.memory_lost
    }

    /// Bytes that wait in memory for the disk.
    pub(super) fn memory_bytes(&self) -> usize {
        self.memory_used
    }

    /// Events that the broker has not acknowledged, gaps counted as the events that they stand for.
    pub(super) fn unacknowledged(&self) -> u64 {
        self.next.saturating_sub(self.unacknowledged)
    }
}
