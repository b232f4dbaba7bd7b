//! The same inputs, fed to the same engine again: whether they lead to the same decisions, and what other settings would have
//! made of them.
//!
//! Decides what counts as the same. Never: reads a recording; the shell takes its steps out of the file.

mod otherwise;

use palisade_proto::Time;
use sha2::{Digest as _, Sha256};

use crate::action::Action;
use crate::record::Event;
use crate::{Engine, Input};

pub use otherwise::{Otherwise, Told, otherwise};

/// Eight bytes that differ when the actions that followed from an input differ.
pub type Digest = [u8; 8];

/// One input of a recording, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When it was taken, on the engine's clock.
    pub at: Time,
    /// What happened.
    pub input: Input,
    /// What followed.
    pub outcome: Outcome,
}

/// What followed from one input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Of every action in its order; `None`: there was none.
    pub digest: Option<Digest>,
    /// The records among them.
    pub events: Vec<Event>,
}

impl Outcome {
    /// Of the input that `engine` took last, while none of its actions has been polled.
    #[must_use]
    pub fn of(engine: &Engine) -> Self {
        let mut events = Vec::new();
        let (mut hash, mut bytes, mut some) = (Sha256::new(), Vec::new(), false);
        for action in engine.actions() {
            some = true;
            bytes.clear();
            bytes = match postcard::to_extend(action, bytes) {
                Ok(bytes) => bytes,
                // An action is plain data and always serialises; were one not to, it would at least be counted.
                Err(_) => vec![u8::MAX],
            };
            hash.update(&bytes);
            if let Action::Record { event, .. } = action {
                events.push(Event::clone(event));
            }
        }
        let digest = some.then(|| {
            let mut digest = Digest::default();
            digest.iter_mut().zip(hash.finalize()).for_each(|(byte, hashed)| *byte = hashed);
            digest
        });
        Self { digest, events }
    }
}

/// Where a recording and the engine part.
#[derive(Clone, Debug)]
pub struct Parting {
    /// When the input was taken, on the engine's clock.
    pub at: Time,
    /// Which input of the recording, from 1.
    pub number: u64,
    /// What it was.
    pub input: Input,
    /// What was recorded then.
    pub recorded: Vec<Event>,
    /// What this engine decides.
    pub decided: Vec<Event>,
    /// Everything that this engine does, records included, one line each.
    pub actions: Vec<String>,
}

/// One decision and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// When, on the engine's clock.
    pub at: Time,
    /// What.
    pub event: Event,
}

/// What came of a replay.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    /// Inputs that were fed.
    pub inputs: u64,
    /// What was decided, up to where they part.
    pub decisions: Vec<Decision>,
    /// Where the recording says something else first, if anywhere. Nothing is fed after that.
    pub parting: Option<Parting>,
}

/// Feeds `steps` to `engine`, which stands where the recording began, and compares each outcome with the recorded one.
#[must_use]
pub fn replay(mut engine: Engine, steps: impl IntoIterator<Item = Step>) -> Replayed {
    let mut replayed = Replayed::default();
    for step in steps {
        replayed.inputs += 1;
        // What is told to an operator stands in the record, too.
        drop(engine.take(step.input.clone(), step.at));
        let outcome = Outcome::of(&engine);
        if outcome != step.outcome {
            replayed.parting = Some(parting(&engine, replayed.inputs, step, outcome));
            break;
        }
        while engine.poll_action().is_some() {}
        let at = step.at;
        replayed.decisions.extend(outcome.events.into_iter().map(|event| Decision { at, event }));
    }
    replayed
}

fn parting(engine: &Engine, number: u64, step: Step, outcome: Outcome) -> Parting {
    Parting {
        at: step.at,
        number,
        input: step.input,
        recorded: step.outcome.events,
        decided: outcome.events,
        actions: engine.actions().map(|action| format!("{action:?}")).collect(),
    }
}
