//! What other settings would have decided on the same inputs.
//!
//! Two engines run side by side: one as recorded, one with the other settings. The inputs are those of the recorded world:
//! peers and devices do not react to what the second one does. Only what would be an artefact of the replay is put right:
//! peers' echoes and grants name the heartbeat that this host would have sent by then, the timer rings when the second engine
//! wants it, its own journal answers at once after the two have parted, and a device's answer counts only for the same order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use palisade_ladder::{Command, DeviceId};
use palisade_proto::{HostId, Incarnation, Seq, Time};

use super::{Decision, Outcome, Parting, Step, parting};
use crate::action::{Action, OrderId, Ticket};
use crate::config::{ConfigError, Override};
use crate::record::Event;
use crate::{Engine, Input};

/// Own heartbeats whose answers are still looked for; a lease's worth is far less.
const SENT_MAX: usize = 4096;
/// Ticks between two recorded inputs. A recording has an input at least each heartbeat interval.
const TICKS_MAX: usize = 10_000;

/// One line of the two time lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Decided either way.
    Both(Decision),
    /// Decided then; not so, or not then, with the other settings.
    Recorded(Decision),
    /// Only with the other settings.
    Otherwise(Decision),
}

/// What other settings would have done.
#[derive(Clone, Debug, Default)]
pub struct Otherwise {
    /// Inputs that were fed.
    pub inputs: u64,
    /// Both time lines.
    pub lines: Vec<Told>,
    /// Where this program parts from the recording already without other settings, if anywhere. Nothing is fed after that.
    pub parting: Option<Parting>,
}

/// Feeds `steps` to `was`, as recorded, and to `would`, the same engine under the other settings.
///
/// # Errors
/// A configuration that was loaded on the way contradicts the other settings.
pub fn otherwise(
    was: Engine,
    would: Engine,
    overrides: &[Override],
    steps: impl IntoIterator<Item = Step>,
) -> Result<Otherwise, ConfigError> {
    let mut sides = Sides { was: Side::new(was), would: Side::new(would), apart: false };
    let mut told = Otherwise::default();
    for step in steps {
        told.inputs += 1;
        let at = step.at;
        sides.tick_until(at, &mut told.lines);
        let other = if let Input::Cluster(written) = &step.input {
            Some(Input::Cluster(written.with(overrides)?))
        } else {
            sides.as_it_would_be(&step.input)
        };
        if let Input::Durable(ticket) = step.input {
            sides.was.intents.retain(|other| *other != ticket);
            sides.would.intents.retain(|other| *other != ticket || sides.apart);
        }
        drop(sides.was.engine.take(step.input.clone(), at));
        let outcome = Outcome::of(&sides.was.engine);
        if outcome != step.outcome {
            told.parting = Some(parting(&sides.was.engine, told.inputs, step, outcome));
            break;
        }
        sides.was.drain(at);
        if let Some(other) = other {
            drop(sides.would.engine.take(other, at));
        }
        let would = Outcome::of(&sides.would.engine);
        sides.would.drain(at);
        sides.apart |= would.digest != outcome.digest;
        let more = sides.answer_intents(at);
        compare(at, outcome.events, would.events.into_iter().chain(more).collect(), &mut told.lines);
    }
    Ok(told)
}

fn compare(at: Time, recorded: Vec<Event>, would: Vec<Event>, lines: &mut Vec<Told>) {
    let decision = |event| Decision { at, event };
    let mut would = would;
    for event in recorded {
        match would.iter().position(|other| *other == event) {
            Some(same) => {
                would.remove(same);
                lines.push(Told::Both(decision(event)));
            }
            None => lines.push(Told::Recorded(decision(event))),
        }
    }
    lines.extend(would.into_iter().map(|event| Told::Otherwise(decision(event))));
}

struct Sides {
    was: Side,
    would: Side,
    /// Whether they have decided differently; from then on a number of one is not the other's.
    apart: bool,
}

impl Sides {
    /// Lets time pass for the second engine as it wants, where that is not as recorded.
    fn tick_until(&mut self, at: Time, lines: &mut Vec<Told>) {
        for _ in 0..TICKS_MAX {
            let wake = self.would.engine.wake();
            if wake >= at || wake == self.was.engine.wake() || wake <= self.would.last {
                return;
            }
            drop(self.would.engine.take(Input::Tick, wake));
            let outcome = Outcome::of(&self.would.engine);
            self.would.drain(wake);
            self.apart |= outcome.digest.is_some();
            let more = self.answer_intents(wake);
            compare(wake, Vec::new(), outcome.events.into_iter().chain(more).collect(), lines);
        }
    }

    /// The recorded input as the second engine would meet it; `None`: not at all.
    fn as_it_would_be(&self, input: &Input) -> Option<Input> {
        let me = self.would.engine.me();
        match input {
            Input::Heartbeat(heartbeat) => {
                let mut heartbeat = Arc::clone(heartbeat);
                let ours = |of: Incarnation| of == me;
                if heartbeat.echo.iter().any(|echo| ours(echo.of)) {
                    let heartbeat = Arc::make_mut(&mut heartbeat);
                    for echo in heartbeat.echo.iter_mut().filter(|echo| ours(echo.of)) {
                        echo.seq = self.would.sent.then(echo.seq, &self.was.sent);
                    }
                    for grant in heartbeat.grants.iter_mut().filter(|grant| ours(grant.to)) {
                        grant.seq = self.would.sent.then(grant.seq, &self.was.sent);
                    }
                }
                Some(Input::Heartbeat(heartbeat))
            }
            Input::Answer(answer) => {
                let mut answer = *answer;
                answer.ask = self.would.asked.then(answer.ask, &self.was.asked);
                Some(Input::Answer(answer))
            }
            // Answered by `answer_intents`.
            Input::Durable(_) if self.apart => None,
            Input::Device(id, _) if self.was.orders.get(id) != self.would.orders.get(id) => None,
            Input::Tick
            | Input::Slept
            | Input::Durable(_)
            | Input::Journal(_)
            | Input::Device(..)
            | Input::FencePath(..)
            | Input::Workload(..)
            | Input::Storage(..)
            | Input::Health(..)
            | Input::Unfit(_)
            | Input::Watchdog(_)
            | Input::Request(_)
            | Input::Leave(_)
            | Input::Restart
            | Input::Cluster(_)
            | Input::Ills(_)
            | Input::FromAfar(_) => Some(input.clone()),
        }
    }

    /// The second engine's journal, once its intents are not the recorded ones.
    fn answer_intents(&mut self, at: Time) -> Vec<Event> {
        let mut events = Vec::new();
        while self.apart
            && let Some(ticket) = self.would.intents.pop_front()
        {
            drop(self.would.engine.take(Input::Durable(ticket), at));
            events.extend(Outcome::of(&self.would.engine).events);
            self.would.drain(at);
        }
        events
    }
}

/// One of the two engines, and what it has done so far.
struct Side {
    engine: Engine,
    last: Time,
    sent: Sent,
    asked: Sent,
    orders: BTreeMap<OrderId, (DeviceId, HostId, Command)>,
    /// Waiting for the journal.
    intents: VecDeque<Ticket>,
}

impl Side {
    fn new(engine: Engine) -> Self {
        Self {
            engine,
            last: Time(0),
            sent: Sent::default(),
            asked: Sent::default(),
            orders: BTreeMap::new(),
            intents: VecDeque::new(),
        }
    }

    fn drain(&mut self, at: Time) {
        self.last = self.last.max(at);
        while let Some(action) = self.engine.poll_action() {
            match action {
                Action::Send(heartbeat) => self.sent.note(heartbeat.seq, at),
                Action::Ask(ask) => self.asked.note(ask.seq, at),
                Action::Device(order) => {
                    self.orders.insert(order.id, (order.device, order.host, order.command));
                }
                Action::Record { ticket: Some(ticket), .. } => self.intents.push_back(ticket),
                Action::Record { ticket: None, .. }
                | Action::Save(_)
                | Action::CancelDevice(_)
                | Action::Workload { .. }
                | Action::ArmWatchdog
                | Action::FeedWatchdog
                | Action::DisarmWatchdog
                | Action::Reboot { .. }
                | Action::Exit(_) => {}
            }
        }
    }
}

/// The packets that a side has sent since the recording began, by seq, and when.
#[derive(Default)]
struct Sent(BTreeMap<Seq, Time>);

impl Sent {
    fn note(&mut self, seq: Seq, at: Time) {
        self.0.insert(seq, at);
        while self.0.len() > SENT_MAX {
            self.0.pop_first();
        }
    }

    /// The packet of this side that a peer would speak of where it spoke of `seq` of `other`'s: the last one sent by then.
    fn then(&self, seq: Seq, other: &Self) -> Seq {
        // One sent before the recording began is the same for both.
        let Some(at) = other.0.get(&seq) else { return seq };
        self.0.iter().rev().find(|(_, sent)| *sent <= at).map_or(seq, |(own, _)| *own)
    }
}
