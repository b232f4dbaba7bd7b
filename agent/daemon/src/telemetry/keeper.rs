//! The spool's thread, the only one of telemetry that waits for a disk; and the run loop's end of it, which never waits.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use palisade_core::record::Event;
use tokio::sync::mpsc;

use super::Tell;
use super::ledger::{Limits, WINDOW};
use super::said::Teller;
use super::spool::Spool;
use super::store::{Disk, Store};
use crate::counters::Counters;
use crate::identity::boottime_us;
use crate::realtime::THREAD_STACK_BYTES;

/// Events that may wait for the spool; an incident makes some hundreds within minutes.
const EVENTS_MAX: usize = 256;
/// Room for what is no event: an acknowledgement for each event under way, and sessions that begin.
const OTHERS_MAX: usize = 2 * WINDOW;
/// Half of other threads': what is locked is resident, and this one's deepest call writes JSON.
const STACK_BYTES: usize = THREAD_STACK_BYTES / 2;
/// Between two tries on a disk that refuses, or at a session whose queue is full.
const RETRY: Duration = Duration::from_secs(1);

/// What the thread is told.
enum Input {
    Event { boot_us: u64, time: SystemTime, event: Box<Event> },
    Lost { lost: u64, first_us: u64, last_us: u64 },
    Size(u64),
    Session(mpsc::WeakSender<Tell>, u64),
    Acknowledged(u64),
    Close(mpsc::Sender<Tell>),
}

/// What the other threads see of the spool.
#[derive(Debug, Default)]
struct Seen {
    events_queued: AtomicUsize,
    sessions: AtomicU64,
    trouble: Mutex<Option<String>>,
}

/// The run loop's end.
pub(crate) struct Outlet {
    inputs: SyncSender<Input>,
    seen: Arc<Seen>,
    counters: Arc<Counters>,
    last_us: u64,
    /// How many events found no room, and when the first and the last of them were passed on.
    lost: Option<(u64, u64, u64)>,
}

/// What the thread will need, until there is telemetry to keep.
pub(crate) struct Seat {
    inputs: Receiver<Input>,
    keeper: Keeper,
    teller: Teller,
    counters: Arc<Counters>,
}

/// A session's end.
#[derive(Clone)]
pub(crate) struct Keeper {
    inputs: SyncSender<Input>,
    seen: Arc<Seen>,
}

/// The two ends of a spool that is not begun.
pub(crate) fn outlet(teller: Teller, counters: Arc<Counters>) -> (Outlet, Seat) {
    let (sender, inputs) = sync_channel(EVENTS_MAX + OTHERS_MAX);
    let seen = Arc::new(Seen::default());
    let keeper = Keeper { inputs: sender.clone(), seen: seen.clone() };
    let outlet = Outlet { inputs: sender, seen, counters: counters.clone(), last_us: 0, lost: None };
    (outlet, Seat { inputs, keeper, teller, counters })
}

impl Outlet {
    /// The time of a record, in us since the boot: rises strictly, for the id (see `said`).
    pub(crate) fn stamp_us(&mut self) -> u64 {
        self.last_us = boottime_us().max(self.last_us + 1);
        self.last_us
    }

    /// Passes a record on. Never waits: one that finds no room is counted, and a gap told in its place.
    pub(crate) fn event(&mut self, boot_us: u64, event: Box<Event>) {
        self.tell_lost();
        let passed =
            self.lost.is_none() && self.send_event(Input::Event { boot_us, time: SystemTime::now(), event });
        if !passed {
            // SAFE-12: telemetry is shed first.
            self.counters.telemetry_shed.count();
            let (lost, first_us, _) = self.lost.unwrap_or((0, boot_us, boot_us));
            self.lost = Some((lost + 1, first_us, boot_us));
        }
    }

    /// Says what was shed, once there is room again.
    pub(crate) fn tell_lost(&mut self) {
        if let Some((lost, first_us, last_us)) = self.lost
            && self.send_event(Input::Lost { lost, first_us, last_us })
        {
            self.lost = None;
        }
    }

    /// The configured size.
    pub(crate) fn set_size(&self, bytes: u64) {
        // Full: the next reload says it again.
        drop(self.inputs.try_send(Input::Size(bytes)));
    }

    /// No more events: the session ends once it has been handed all there are.
    pub(crate) fn close(&self, session: mpsc::Sender<Tell>) {
        drop(self.inputs.try_send(Input::Close(session)));
    }

    /// What is wrong with the spool, in an operator's words.
    pub(crate) fn alarm(&self) -> Option<String> {
        let trouble = self.seen.trouble.lock().ok().and_then(|trouble| trouble.clone())?;
        Some(format!("telemetry's spool cannot be written, and events are kept in memory alone: {trouble}"))
    }

    fn send_event(&self, input: Input) -> bool {
        // Only so many of the places are for events.
        if self.seen.events_queued.fetch_add(1, Ordering::AcqRel) < EVENTS_MAX
            && self.inputs.try_send(input).is_ok()
        {
            return true;
        }
        self.seen.events_queued.fetch_sub(1, Ordering::AcqRel);
        false
    }
}

impl Keeper {
    /// A session wants to be handed events from the oldest that is not acknowledged on, marked with the number returned. `None`:
    /// ask again.
    pub(super) fn begin(&self, out: mpsc::WeakSender<Tell>) -> Option<u64> {
        let number = self.seen.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        self.inputs.try_send(Input::Session(out, number)).is_ok().then_some(number)
    }

    /// The broker has it. False: not taken, so begin again.
    pub(super) fn acknowledged(&self, number: u64) -> bool {
        self.inputs.try_send(Input::Acknowledged(number)).is_ok()
    }
}

impl Seat {
    /// Begins the thread. It ends with the process, or once every sender is gone.
    pub(crate) fn begin(self, dir: &Path, bytes: u64) -> io::Result<Keeper> {
        self.begin_on(Disk::new(dir), Limits::of(bytes))
    }

    pub(super) fn begin_on(self, store: impl Store, limits: Limits) -> io::Result<Keeper> {
        let Self { inputs, keeper, teller, counters } = self;
        let seen = keeper.seen.clone();
        std::thread::Builder::new().name("palisade-spool".to_owned()).stack_size(STACK_BYTES).spawn(
            move || {
                let spool = Spool::new(store, limits, teller.clone());
                let session = None;
                Thread { spool, teller, inputs, seen, counters, session, refused: false }.run();
            },
        )?;
        Ok(keeper)
    }
}

struct Thread<S> {
    spool: Spool<S>,
    teller: Teller,
    inputs: Receiver<Input>,
    seen: Arc<Seen>,
    counters: Arc<Counters>,
    session: Option<(mpsc::WeakSender<Tell>, u64)>,
    /// Whether the session's queue was full.
    refused: bool,
}

impl<S: Store> Thread<S> {
    fn run(mut self) {
        loop {
            self.say_how_it_stands();
            let input = if self.spool.trouble().is_some() || self.refused {
                self.inputs.recv_timeout(RETRY)
            } else {
                self.inputs.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match input {
                Ok(input) => self.take(input),
                Err(RecvTimeoutError::Timeout) => self.spool.flush(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // What waits already, before the place is written down once.
            loop {
                match self.inputs.try_recv() {
                    Ok(input) => self.take(input),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            self.spool.save();
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Event { boot_us, time, event } => {
                let id = self.teller.id(boot_us);
                self.spool.put(self.teller.event(&id, boot_us, time, &event));
                self.seen.events_queued.fetch_sub(1, Ordering::AcqRel);
            }
            Input::Lost { lost, first_us, last_us } => {
                self.spool.put_gap(lost, first_us, last_us);
                self.seen.events_queued.fetch_sub(1, Ordering::AcqRel);
            }
            Input::Size(bytes) => self.spool.set_limits(Limits::of(bytes)),
            Input::Session(out, number) => {
                self.session = Some((out, number));
                self.spool.begin_session();
            }
            Input::Acknowledged(number) => {
                self.counters.telemetry_acknowledged.count();
                self.spool.acknowledged(number);
            }
            Input::Close(session) => {
                self.hand_over();
                // With the last sender the session ends, after what was handed to it.
                drop(session);
            }
        }
        self.hand_over();
    }

    fn hand_over(&mut self) {
        self.refused = false;
        let Some((out, number)) = &self.session else { return };
        let Some(out) = out.upgrade() else {
            self.session = None;
            return;
        };
        loop {
            match out.try_reserve() {
                Ok(place) => {
                    let Some(item) = self.spool.next() else { return };
                    self.spool.told(&item);
                    place.send(Tell::Spooled(item, *number));
                }
                Err(mpsc::error::TrySendError::Full(())) => {
                    self.refused = true;
                    return;
                }
                Err(mpsc::error::TrySendError::Closed(())) => {
                    self.session = None;
                    return;
                }
            }
        }
    }

    fn say_how_it_stands(&mut self) {
        let (disk, memory) = self.spool.bytes();
        self.counters.spool_bytes.set(disk);
        self.counters.spool_memory_bytes.set(memory as u64);
        self.counters.spool_events.set(self.spool.waiting());
        self.counters.spool_lost.set(self.spool.lost());
        self.counters.spool_failing.set(u64::from(self.spool.trouble().is_some()));
        if let Ok(mut trouble) = self.seen.trouble.lock()
            && trouble.as_deref() != self.spool.trouble()
        {
            *trouble = self.spool.trouble().map(str::to_owned);
        }
    }
}
