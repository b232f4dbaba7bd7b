//! One device on its way to what is wanted of it: switch, then read back until it reads so (SAFE-4).
//!
//! Decides: the device's next command, whether an answer brings it nearer. Never: takes an acknowledgement for a success,
//! accepts an answer to an earlier attempt, orders a cycle.

use core::fmt;

use palisade_proto::mutant::{self, Mutant};
use palisade_proto::{Duration, Time};
use serde::{Deserialize, Serialize};

use crate::proof::OffReading;
use crate::{Command, DeviceId, Failure, Opening, PlannedDevice, Reading, Response};

/// How long a reading before the off may hold the off up.
pub const FIRST_READING: Duration = Duration::ms(500);
/// The pause before the second reading; it doubles from there. Real switches take from 10 ms to seconds.
pub const READ_PAUSE: Duration = Duration::ms(5);
/// The longest pause between readings.
pub const READ_PAUSE_MAX: Duration = Duration::ms(1000);
/// The pause before the next try, so that a device which refuses at once is not asked in a tight loop.
pub const TRY_PAUSE: Duration = Duration::ms(100);
/// The pause before another look while the budget forbids to cut.
pub const LOOK_PAUSE: Duration = Duration::ms(1000);
/// Power comes back no earlier than this many device deadlines after an off that was never answered: it may yet execute.
pub const SETTLE_DEADLINES: u64 = 3;

/// One command for one device. Each is carried out and answered, or withdrawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use = "an order is carried out and answered, or withdrawn"]
pub struct Order {
    /// Which device.
    pub device: DeviceId,
    /// What to do.
    pub command: Command,
    /// When an answer counts no more; the driver stops then.
    pub deadline: Time,
    /// Goes back with the answer; answers to earlier attempts are ignored.
    pub attempt: u32,
}

/// Why a try of a device did not reach its goal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setback {
    /// The command brought no answer to build on.
    Failed(Failure),
    /// The device took the order, yet reads so.
    Reads(Reading),
    /// The device took the order, and nothing could be read afterwards: assumed, never proven.
    Unread,
    /// The answer is of a shape that this command cannot have.
    Misfit(Response),
    /// The level was given up, or the order's time ended, before this device came to an end.
    Stopped,
}

impl fmt::Display for Setback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failure) => failure.fmt(f),
            Self::Reads(Reading::On) => f.write_str("took the order but still reads on"),
            Self::Reads(Reading::Off) => f.write_str("took the order but still reads off"),
            Self::Reads(Reading::Unknown) => {
                f.write_str("took the order but its reading says neither on nor off")
            }
            Self::Unread => f.write_str("took the order but could not be read afterwards"),
            Self::Misfit(response) => write!(f, "gave an answer that does not fit the command: {response:?}"),
            Self::Stopped => f.write_str("was stopped before it came to an end"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Goal {
    Off(Opening),
    On,
}

impl Goal {
    fn switch(self) -> Command {
        match self {
            Self::Off(_) => Command::Off,
            Self::On => Command::On,
        }
    }

    fn wanted(self) -> Reading {
        match self {
            Self::Off(_) => Reading::Off,
            Self::On => Reading::On,
        }
    }

    fn first_step(self) -> Step {
        match self {
            Self::Off(Opening::LookFirst | Opening::OnlyIfOff) => Step::Look,
            Self::Off(Opening::CutAtOnce) | Self::On => Step::Switch,
        }
    }
}

/// What the device is asked next, or now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// Read before the off. Proves nothing.
    Look,
    /// Switch.
    Switch,
    /// Read back; only reached by an answer to the switch of the same attempt.
    ReadBack { back: ReadBack },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReadBack {
    already: bool,
    answered_at: Time,
    /// After this a further reading is not begun.
    until: Time,
    pause: Duration,
    /// The last reading of this attempt.
    last: Option<Reading>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Flight {
    Due(Time),
    Sent { at: Time, deadline: Time },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    Going {
        step: Step,
        flight: Flight,
    },
    Reached(OffReading),
    /// Every try of this run is used up.
    Failed(Setback),
    /// Another host's device: not asked again within this fence.
    Refused(Failure),
}

/// What the ladder is told when something worth a record happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// The budget forbids to cut what reads so.
    Withheld {
        reads: Reading,
    },
    /// A try ended with an acknowledgement and no reading.
    Assumed {
        attempt: u32,
    },
    WrongIdentity(Failure),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Course {
    device: PlannedDevice,
    goal: Goal,
    state: State,
    attempt: u32,
    tries: u32,
    run_ends: Time,
    last_reading: Option<Reading>,
    switched: bool,
    unsettled_until: Time,
    /// A switch went unanswered: the device may be slow and hold it in its queue. Nothing more is put there before it answers
    /// something.
    owes_answer: bool,
}

impl Course {
    pub(crate) fn new(
        device: PlannedDevice,
        goal: Goal,
        first_attempt: u32,
        now: Time,
        run_ends: Time,
    ) -> Self {
        Self {
            device,
            goal,
            state: State::Going { step: goal.first_step(), flight: Flight::Due(now) },
            attempt: first_attempt,
            tries: 0,
            run_ends,
            last_reading: None,
            switched: false,
            unsettled_until: Time(0),
            owes_answer: false,
        }
    }

    fn first_step(&self) -> Step {
        if self.owes_answer { Step::Look } else { self.goal.first_step() }
    }

    /// Another run; a refused device stays refused.
    pub(crate) fn begin(&mut self, now: Time, run_ends: Time) {
        if !matches!(self.state, State::Refused(_)) {
            self.state = State::Going { step: self.first_step(), flight: Flight::Due(now) };
            self.tries = 0;
            self.run_ends = run_ends;
        }
    }

    /// No further command in this run.
    pub(crate) fn stop(&mut self, now: Time) {
        if let State::Going { step, flight } = self.state {
            self.note_unanswered(step, flight, now);
            self.state = State::Failed(Setback::Stopped);
        }
    }

    pub(crate) fn id(&self) -> DeviceId {
        self.device.id
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }

    pub(crate) fn in_flight(&self) -> bool {
        matches!(self.state, State::Going { flight: Flight::Sent { .. }, .. })
    }

    /// The device took a switch order that may have changed something, or has one that it has not answered yet.
    pub(crate) fn switched(&self) -> bool {
        let open = matches!(self.state, State::Going { step: Step::Switch, flight: Flight::Sent { .. } });
        self.switched || (open && self.last_reading != Some(self.goal.wanted()))
    }

    /// From when on no unanswered switch of this device can be expected to execute any more.
    pub(crate) fn settled_at(&self) -> Time {
        self.unsettled_until
    }

    pub(crate) fn wake(&self) -> Option<Time> {
        match &self.state {
            State::Going { flight: Flight::Due(at) | Flight::Sent { deadline: at, .. }, .. } => Some(*at),
            State::Reached(_) | State::Failed(_) | State::Refused(_) => None,
        }
    }

    pub(crate) fn poll_order(&mut self, now: Time) -> Option<Order> {
        let State::Going { step, flight: Flight::Due(due) } = self.state else { return None };
        if now < due {
            return None;
        }
        let (command, allowed) = match step {
            Step::Look if self.owes_answer => (Command::Read, self.device.deadline),
            Step::Look => (Command::Read, Duration(FIRST_READING.0.min(self.device.deadline.0))),
            Step::Switch => (self.goal.switch(), self.device.deadline),
            Step::ReadBack { .. } => (Command::Read, self.device.deadline),
        };
        match step {
            // A look and each switch are attempts of their own, so that a late look never passes for a reading back (SAFE-4).
            Step::Look | Step::Switch => self.attempt = self.attempt.saturating_add(1),
            Step::ReadBack { .. } => {}
        }
        let deadline = now.after(allowed).min(self.run_ends);
        self.state = State::Going { step, flight: Flight::Sent { at: now, deadline } };
        Some(Order { device: self.device.id, command, deadline, attempt: self.attempt })
    }

    /// The order in flight was not sent; it is due again after a pause.
    pub(crate) fn withdraw(&mut self, now: Time) {
        if let State::Going { step, flight: Flight::Sent { .. } } = self.state {
            self.state = State::Going { step, flight: Flight::Due(now.after(TRY_PAUSE)) };
        }
    }

    /// An order that outlived its deadline counts as unanswered.
    pub(crate) fn handle_time(&mut self, now: Time) -> Option<Note> {
        match self.state {
            State::Going { flight: Flight::Sent { at, deadline }, .. } if now >= deadline => {
                self.take(Err(Failure::NoAnswer { waited_ms: now.since(at).0 }), now)
            }
            State::Going { .. } | State::Reached(_) | State::Failed(_) | State::Refused(_) => None,
        }
    }

    /// Whether this answers the order in flight.
    pub(crate) fn awaits(&self, command: Command, attempt: u32) -> bool {
        let State::Going { step, flight: Flight::Sent { .. } } = self.state else { return false };
        let sent = match step {
            Step::Look | Step::ReadBack { .. } => Command::Read,
            Step::Switch => self.goal.switch(),
        };
        sent == command && self.attempt == attempt
    }

    pub(crate) fn handle_answer(
        &mut self,
        command: Command,
        attempt: u32,
        answer: Result<Response, Failure>,
        now: Time,
    ) -> Option<Note> {
        if self.awaits(command, attempt) { self.take(answer, now) } else { None }
    }

    fn take(&mut self, answer: Result<Response, Failure>, now: Time) -> Option<Note> {
        let State::Going { step, flight } = self.state else { return None };
        if let Err(failure @ Failure::WrongIdentity { .. }) = &answer {
            self.state = State::Refused(failure.clone());
            return Some(Note::WrongIdentity(failure.clone()));
        }
        match step {
            Step::Look => self.take_look(answer, now),
            Step::Switch => {
                if answer.as_ref().is_err_and(may_have_acted) {
                    self.note_unanswered(step, flight, now);
                }
                self.take_switch(answer, now);
                None
            }
            Step::ReadBack { back } => self.take_reading(back, answer, now),
        }
    }

    fn take_look(&mut self, answer: Result<Response, Failure>, now: Time) -> Option<Note> {
        let waits = matches!(self.goal, Goal::Off(Opening::CutAtOnce | Opening::LookFirst) | Goal::On);
        match answer {
            Err(failure) if self.owes_answer && waits => {
                self.fail(Setback::Failed(failure), now);
                return None;
            }
            Ok(_) => self.owes_answer = false,
            Err(_) => {}
        }
        let reads = match answer {
            Ok(Response::Reads(power)) => power,
            Ok(Response::Acknowledged | Response::AlreadySo | Response::Proven(_)) | Err(_) => {
                Reading::Unknown
            }
        };
        let before = self.last_reading.replace(reads);
        match (reads, self.goal) {
            // SAFE-8: the budget is spent, and this host has power or may have.
            (Reading::On | Reading::Unknown, Goal::Off(Opening::OnlyIfOff)) => {
                self.go(Step::Look, now.after(LOOK_PAUSE));
                (before != Some(reads)).then_some(Note::Withheld { reads })
            }
            (
                Reading::On | Reading::Unknown,
                Goal::Off(Opening::CutAtOnce | Opening::LookFirst) | Goal::On,
            )
            | (Reading::Off, Goal::Off(_) | Goal::On) => {
                self.go(Step::Switch, now);
                None
            }
        }
    }

    fn take_switch(&mut self, answer: Result<Response, Failure>, now: Time) {
        let already = match answer {
            Ok(Response::Acknowledged) => false,
            Ok(Response::AlreadySo) => true,
            Ok(misfit @ (Response::Reads(_) | Response::Proven(_))) => {
                return self.fail(Setback::Misfit(misfit), now);
            }
            Err(failure) => return self.fail(Setback::Failed(failure), now),
        };
        if !already && self.last_reading != Some(self.goal.wanted()) {
            self.switched = true;
        }
        if mutant::on(Mutant::ProofWithoutReading) {
            return self.reach(already, now, now);
        }
        let until = now.after(self.device.deadline);
        let back = ReadBack { already, answered_at: now, until, pause: READ_PAUSE, last: None };
        self.go(Step::ReadBack { back }, now);
    }

    fn take_reading(
        &mut self,
        mut back: ReadBack,
        answer: Result<Response, Failure>,
        now: Time,
    ) -> Option<Note> {
        if let Ok(Response::Reads(power)) = answer {
            back.last = Some(power);
            self.last_reading = Some(power);
            if power == self.goal.wanted() {
                // SAFE-4: read after the device's answer to the switch, in the same attempt.
                self.reach(back.already, back.answered_at, now);
                return None;
            }
        }
        let next = now.after(back.pause);
        if next <= back.until {
            back.pause = Duration(back.pause.0.saturating_mul(2).min(READ_PAUSE_MAX.0));
            self.go(Step::ReadBack { back }, next);
            return None;
        }
        match back.last {
            Some(power) => {
                self.fail(Setback::Reads(power), now);
                None
            }
            None => {
                self.fail(Setback::Unread, now);
                Some(Note::Assumed { attempt: self.attempt })
            }
        }
    }

    fn reach(&mut self, already_off: bool, answered_at: Time, read_at: Time) {
        let (device, attempt) = (self.device.id, self.attempt);
        self.state = State::Reached(OffReading { device, attempt, already_off, answered_at, read_at });
    }

    fn go(&mut self, step: Step, at: Time) {
        self.state = State::Going { step, flight: Flight::Due(at) };
    }

    /// One try is over.
    fn fail(&mut self, setback: Setback, now: Time) {
        self.tries = self.tries.saturating_add(1);
        if self.tries < self.device.retries.max(1) {
            self.go(self.first_step(), now.after(TRY_PAUSE));
        } else {
            self.state = State::Failed(setback);
        }
    }

    fn note_unanswered(&mut self, step: Step, flight: Flight, now: Time) {
        if step == Step::Switch && matches!(flight, Flight::Sent { .. }) {
            let settled = now.after(self.device.deadline.times(SETTLE_DEADLINES));
            self.unsettled_until = self.unsettled_until.max(settled);
            self.owes_answer = true;
            if self.last_reading != Some(self.goal.wanted()) {
                self.switched = true;
            }
        }
    }
}

/// Whether a device that ends a command so may still carry it out.
fn may_have_acted(failure: &Failure) -> bool {
    match failure {
        Failure::NoAnswer { .. }
        | Failure::Unreachable { .. }
        | Failure::Garbage { .. }
        | Failure::Cancelled => true,
        Failure::LoginRefused { .. }
        | Failure::PrivilegeTooLow { .. }
        | Failure::WrongIdentity { .. }
        | Failure::NoCommonCipher { .. }
        | Failure::Refused { .. } => false,
    }
}

#[cfg(test)]
mod tests;
