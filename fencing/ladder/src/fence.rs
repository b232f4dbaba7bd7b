//! One fence of one victim: level after level, run after run, until what it takes away (its power, its storage, its network) reads
//! off.
//!
//! Decides: which level works, when a run is over and when the next begins, when readings are a proof. Never: whether to
//! fence at all (that is quorum's), or that a silent device has done its work.

use std::collections::VecDeque;

use palisade_proto::{Duration, Incarnation, Time};
use serde::{Deserialize, Serialize};

use crate::course::{Course, Goal, Note, State};
use crate::{
    After, Command, DeviceId, Failure, Order, Plan, PlannedDevice, Proof, Reading, Response, Setback,
};

/// The rest after the first run that did not prove.
pub const REST: Duration = Duration::secs(1);
/// The longest rest; it doubles up to here.
pub const REST_MAX: Duration = Duration::secs(60);

/// What a fence has to tell; in order, each once.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "an outcome is recorded, and a proof handed to recovery"]
pub enum Outcome {
    /// The victim is cut off; the fence sends nothing more, unless [`Fence::give_back`] is called.
    Proven(Proof),
    /// A device acknowledged the off, and nothing could be read back. This is not a proof and never becomes one; the fence goes on.
    Assumed {
        /// Which device.
        device: DeviceId,
        /// Which of its attempts.
        attempt: u32,
    },
    /// SAFE-8: the budget is spent and the victim reads so; the fence goes on looking. Told again only when the reading changes.
    Withheld {
        /// Which device.
        device: DeviceId,
        /// What it reads.
        reads: Reading,
    },
    /// The device is another host's: refused for good within this fence. An alarm.
    WrongIdentity {
        /// Which device.
        device: DeviceId,
        /// With the expected and the found identity.
        failure: Failure,
    },
    /// A level cannot prove in this run; the next one begins, if there is one.
    LevelFailed {
        /// Counted from 0.
        level: usize,
        /// Each device that did not get there, and why.
        setbacks: Vec<(DeviceId, Setback)>,
    },
    /// A run is over without a proof. An alarm.
    Exhausted {
        /// What ended it.
        why: Exhaustion,
        /// When the next run begins; `None`: never, only an operator (or another proof) can help.
        retry_at: Option<Time>,
    },
    /// What was taken is given back at this device: it reads on.
    Restored {
        /// Which device.
        device: DeviceId,
    },
    /// It could not be given back at this device: it does not read on. An alarm; the host stays cut off.
    NotRestored {
        /// Which device.
        device: DeviceId,
        /// Why.
        setback: Setback,
    },
}

/// Why a run ended without a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Exhaustion {
    /// Each level was tried, and none proved.
    EveryLevelFailed,
    /// The order deadline came first.
    OrderDeadline,
    /// The victim has no device, or each level has one that was refused for good.
    NothingToTry,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    Cutting { level: usize, ends: Time },
    Resting { until: Option<Time> },
    Proven,
    Restoring,
    Done,
}

/// A fence in flight. It is polled until it has proven, or given up explicitly with [`Fence::abandon`].
#[derive(Debug, Serialize, Deserialize)]
#[must_use = "a fence in flight is driven to its end or abandoned explicitly"]
pub struct Fence {
    victim: Incarnation,
    plan: Plan,
    phase: Phase,
    rest: Duration,
    levels: Vec<Vec<Course>>,
    restoring: Vec<Course>,
    /// Drained within the input that made them, so a snapshot has none.
    #[serde(skip)]
    outcomes: VecDeque<Outcome>,
}

/// What an abandoned fence leaves behind.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "orders still in flight must be cancelled"]
pub struct Abandoned {
    /// Whom it was for.
    pub victim: Incarnation,
    /// Devices with an order in flight, to be cancelled.
    pub in_flight: Vec<DeviceId>,
    /// From when on nothing that it sent and was not answered can be expected to execute any more.
    pub settled_at: Time,
}

impl Fence {
    /// Begins at once. The victim is the incarnation that is fenced by whatever order this fence sends: a proof names it
    /// even when the answer arrives after the host has come back as another one.
    pub fn new(victim: Incarnation, plan: Plan, now: Time) -> Self {
        let ends = now.after(plan.order_deadline);
        let mut fence = Self::idle(victim, plan, Phase::Cutting { level: 0, ends }, now);
        fence.advance(now);
        fence
    }

    fn idle(victim: Incarnation, plan: Plan, phase: Phase, now: Time) -> Self {
        let ends = now.after(plan.order_deadline);
        let goal = Goal::Off(plan.opening);
        let course = |device: &PlannedDevice| Course::new(*device, goal, 0, now, ends);
        let levels = plan.levels.iter().map(|level| level.devices.iter().map(course).collect()).collect();
        Self { victim, plan, phase, rest: REST, levels, restoring: Vec::new(), outcomes: VecDeque::new() }
    }

    /// Whom this fence is for.
    #[must_use]
    pub fn victim(&self) -> Incarnation {
        self.victim
    }

    /// Whether a proof was given.
    #[must_use]
    pub fn has_proven(&self) -> bool {
        match self.phase {
            Phase::Proven | Phase::Restoring | Phase::Done => true,
            Phase::Cutting { .. } | Phase::Resting { .. } => false,
        }
    }

    /// Whether nothing is left to do: proven, and what was taken given back or not asked for.
    #[must_use]
    pub fn is_done(&self) -> bool {
        match self.phase {
            Phase::Proven | Phase::Done => true,
            Phase::Cutting { .. } | Phase::Resting { .. } | Phase::Restoring => false,
        }
    }

    /// The next command to carry out now, if any: poll until `None`. The caller makes the intent durable, checks its standing
    /// and sends it, or withdraws it (SAFE-2, SAFE-5).
    pub fn poll_order(&mut self, now: Time) -> Option<Order> {
        self.handle_time(now);
        self.working().iter_mut().find_map(|course| course.poll_order(now))
    }

    /// The order just polled for this device was not sent; it comes again after a pause.
    pub fn withdraw(&mut self, device: DeviceId, now: Time) {
        if let Some(course) = self.working().iter_mut().find(|course| course.id() == device) {
            course.withdraw(now);
        }
    }

    /// What the device said to an order. Late answers, and answers to no order, change nothing.
    pub fn handle_answer(
        &mut self,
        device: DeviceId,
        command: Command,
        attempt: u32,
        answer: Result<Response, Failure>,
        now: Time,
    ) {
        let Some(course) = self.working().iter_mut().find(|course| course.id() == device) else { return };
        let note = course.handle_answer(command, attempt, answer, now);
        self.tell(device, note);
        self.handle_time(now);
    }

    /// Lets time pass: orders past their deadline, the end of a run, the end of a rest. [`Fence::poll_order`] does it too.
    pub fn handle_time(&mut self, now: Time) {
        if let Phase::Resting { until: Some(until) } = self.phase
            && now >= until
        {
            self.begin_run(now);
        }
        let overdue: Vec<(DeviceId, Note)> = self
            .working()
            .iter_mut()
            .filter_map(|course| course.handle_time(now).map(|note| (course.id(), note)))
            .collect();
        for (device, note) in overdue {
            self.tell(device, Some(note));
        }
        self.advance(now);
    }

    /// What happened, oldest first.
    pub fn poll_outcome(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }

    /// When to call [`Fence::poll_order`] (or [`Fence::handle_time`]) again at the latest.
    #[must_use]
    pub fn wake(&self) -> Option<Time> {
        match self.phase {
            Phase::Cutting { level, ends } => {
                let courses = self.levels.get(level).map(Vec::as_slice).unwrap_or_default();
                courses.iter().filter_map(Course::wake).chain([ends]).min()
            }
            Phase::Resting { until } => until,
            Phase::Restoring => self.restoring.iter().filter_map(Course::wake).min(),
            Phase::Proven | Phase::Done => None,
        }
    }

    /// Only gives back, at every device of the plan, for a host that lives and may have been cut off in an earlier life.
    pub fn restore(host: Incarnation, plan: Plan, now: Time) -> Self {
        let mut fence = Self::idle(host, plan, Phase::Restoring, now);
        let ends = now.after(fence.plan.order_deadline);
        // In the reverse order of the levels.
        let devices = fence.plan.levels.iter().rev().flat_map(|level| &level.devices);
        fence.restoring = devices.map(|device| Course::new(*device, Goal::On, 0, now, ends)).collect();
        fence.advance(now);
        fence
    }

    /// Gives back what was taken. Only after a proof, and only if the plan says so; the caller decides that the host may have it
    /// (never one that has left). It waits until no unanswered off can execute any more. True if the phase has begun.
    pub fn give_back(&mut self, now: Time) -> bool {
        if self.phase != Phase::Proven || self.plan.after_off == After::Off {
            return false;
        }
        let all = || self.levels.iter().flatten();
        let from = self.settled_at().max(now);
        let ends = from.after(self.plan.order_deadline);
        // Whatever was switched off is switched on, also on a level that failed.
        let devices = all().filter(|course| course.attempt() > 0);
        self.restoring = devices
            .filter_map(|course| {
                let planned = self.plan.levels.iter().flat_map(|level| &level.devices);
                let device = planned.copied().find(|device| device.id == course.id())?;
                Some(Course::new(device, Goal::On, course.attempt(), from, ends))
            })
            .collect();
        self.phase = Phase::Restoring;
        self.advance(now);
        true
    }

    /// From when on nothing that this fence sent and was not answered can be expected to execute any more.
    #[must_use]
    pub fn settled_at(&self) -> Time {
        let all = self.levels.iter().flatten().chain(&self.restoring);
        all.map(Course::settled_at).fold(Time(0), Time::max)
    }

    /// Gives the fence up: the victim is dead by another proof, or an operator said so. An order in flight counts as unanswered.
    pub fn abandon(mut self, now: Time) -> Abandoned {
        let courses = self.working();
        let in_flight = courses.iter().filter(|course| course.in_flight()).map(Course::id).collect();
        courses.iter_mut().for_each(|course| course.stop(now));
        Abandoned { victim: self.victim, in_flight, settled_at: self.settled_at() }
    }

    /// SAFE-8: whether an off of this fence may have cut what was not off already. True before any proof, too.
    #[must_use]
    pub fn has_cut(&self) -> bool {
        self.levels.iter().flatten().any(Course::switched)
    }

    fn working(&mut self) -> &mut [Course] {
        match self.phase {
            Phase::Cutting { level, .. } => {
                self.levels.get_mut(level).map(Vec::as_mut_slice).unwrap_or_default()
            }
            Phase::Restoring => &mut self.restoring,
            Phase::Resting { .. } | Phase::Proven | Phase::Done => &mut [],
        }
    }

    fn tell(&mut self, device: DeviceId, note: Option<Note>) {
        self.outcomes.extend(note.map(|note| match note {
            Note::Withheld { reads } => Outcome::Withheld { device, reads },
            Note::Assumed { attempt } => Outcome::Assumed { device, attempt },
            Note::WrongIdentity(failure) => Outcome::WrongIdentity { device, failure },
        }));
    }

    fn begin_run(&mut self, now: Time) {
        let ends = now.after(self.plan.order_deadline);
        for course in self.levels.iter_mut().flatten() {
            course.begin(now, ends);
        }
        self.phase = Phase::Cutting { level: 0, ends };
    }

    /// Draws the consequences of the courses' states.
    fn advance(&mut self, now: Time) {
        match self.phase {
            Phase::Cutting { level, ends } => self.advance_cutting(level, ends, now),
            Phase::Restoring => self.advance_restoring(),
            Phase::Resting { .. } | Phase::Proven | Phase::Done => {}
        }
    }

    fn advance_cutting(&mut self, mut level: usize, ends: Time, now: Time) {
        while let Some(courses) = self.levels.get_mut(level) {
            let readings: Vec<_> = courses.iter().filter_map(Course::reading).collect();
            if !courses.is_empty() && readings.len() == courses.len() {
                let cut = self.has_cut();
                // SAFE-4: every device of the level read off after it took the off.
                self.outcomes.push_back(Outcome::Proven(Proof::read_off(
                    self.victim,
                    self.plan.effect,
                    readings,
                    cut,
                    now,
                )));
                self.phase = Phase::Proven;
                return;
            }
            let lost = courses.is_empty() || courses.iter().any(|course| course.setback().is_some());
            if !lost && now < ends {
                self.phase = Phase::Cutting { level, ends };
                return;
            }
            courses.iter_mut().for_each(|course| course.stop(now));
            let setbacks =
                courses.iter().filter_map(|course| Some((course.id(), course.setback()?))).collect();
            self.outcomes.push_back(Outcome::LevelFailed { level, setbacks });
            if now >= ends {
                return self.end_run(Exhaustion::OrderDeadline, now);
            }
            level += 1;
            for course in self.levels.get_mut(level).into_iter().flatten() {
                course.begin(now, ends);
            }
        }
        self.end_run(Exhaustion::EveryLevelFailed, now);
    }

    fn end_run(&mut self, why: Exhaustion, now: Time) {
        let hopeless = |courses: &Vec<Course>| courses.is_empty() || courses.iter().any(Course::is_refused);
        if self.levels.iter().all(hopeless) {
            self.phase = Phase::Resting { until: None };
            self.outcomes.push_back(Outcome::Exhausted { why: Exhaustion::NothingToTry, retry_at: None });
            return;
        }
        let until = Some(now.after(self.rest));
        self.rest = Duration(self.rest.0.saturating_mul(2).min(REST_MAX.0));
        self.phase = Phase::Resting { until };
        self.outcomes.push_back(Outcome::Exhausted { why, retry_at: until });
    }

    fn advance_restoring(&mut self) {
        let mut open = false;
        for course in &mut self.restoring {
            match course.state() {
                State::Going { .. } => open = true,
                State::Reached(_) | State::Failed(_) | State::Refused(_) => {}
            }
        }
        if open {
            return;
        }
        for course in &self.restoring {
            let device = course.id();
            self.outcomes.push_back(match course.setback() {
                None => Outcome::Restored { device },
                Some(setback) => Outcome::NotRestored { device, setback },
            });
        }
        self.phase = Phase::Done;
    }
}

impl Course {
    fn reading(&self) -> Option<crate::OffReading> {
        match self.state() {
            State::Reached(reading) => Some(reading.clone()),
            State::Going { .. } | State::Failed(_) | State::Refused(_) => None,
        }
    }

    fn setback(&self) -> Option<Setback> {
        match self.state() {
            State::Failed(setback) => Some(setback.clone()),
            State::Refused(failure) => Some(Setback::Failed(failure.clone())),
            State::Going { .. } | State::Reached(_) => None,
        }
    }

    fn is_refused(&self) -> bool {
        matches!(self.state(), State::Refused(_))
    }
}

#[cfg(test)]
mod tests;
