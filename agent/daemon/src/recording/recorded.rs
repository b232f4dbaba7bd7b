//! The engine behind its recorder: the only way for an input to reach the engine, so that none reaches it unrecorded.

use std::ops::Deref;
use std::time::{SystemTime, UNIX_EPOCH};

use palisade_core::action::Action;
use palisade_core::config::{Host, Written};
use palisade_core::replay::Outcome;
use palisade_core::{Engine, Input};
use palisade_proto::Time;
use palisade_proto::wire;

use super::{Head, LAYOUT, Recorder};

/// An engine whose inputs are recorded. Read, it is the engine; there is no way to change it but [`Self::take`].
pub(crate) struct Recorded {
    engine: Engine,
    written: Written,
    recorder: Recorder,
}

impl Deref for Recorded {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl Recorded {
    /// `engine`, under this configuration, from its start on. The recording begins with its first input.
    pub(crate) fn new(engine: Engine, written: Written, recorder: Recorder) -> Self {
        Self { engine, written, recorder }
    }

    /// Hands one input to the engine, and to the recorder with what came of it. What is told to whoever asked.
    ///
    /// # Errors
    /// Those of [`Engine::take`].
    pub(crate) fn take(&mut self, input: Input, now: Time) -> Result<String, String> {
        if self.recorder.wants_segment()
            && let Some(head) = self.head(now)
        {
            self.recorder.begin(&head);
        }
        let peer =
            if let Input::Heartbeat(heartbeat) = &input { Some(heartbeat.from.host.number()) } else { None };
        // An input is plain data and always serialises.
        let bytes = postcard::to_allocvec(&input).unwrap_or_default();
        let written = if let Input::Cluster(written) = &input { Some(written.clone()) } else { None };
        let told = self.engine.take(input, now);
        self.recorder.note(now, peer, bytes, &Outcome::of(&self.engine));
        if let (Some(written), Ok(_)) = (written, &told) {
            // A segment carries the configuration that it begins under.
            self.written = written;
            self.recorder.renew();
        }
        told
    }

    /// See [`Engine::poll_action`].
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.engine.poll_action()
    }

    /// What is wrong with the recording, in words for an operator.
    pub(crate) fn alarm(&self) -> Option<String> {
        self.recorder.alarm()
    }

    /// See [`Recorder::close`].
    pub(crate) fn close(self) -> tokio::sync::oneshot::Receiver<()> {
        self.recorder.close()
    }

    fn head(&self, now: Time) -> Option<Head> {
        let me = self.engine.me();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Some(Head {
            layout: LAYOUT,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            wire: wire::HEARTBEAT_VERSION,
            host: self.engine.cluster().host(me.host).map_or("", Host::name).to_owned(),
            life: me.life.to_string(),
            unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            at_ms: now.0,
            configuration: self.written.text().to_owned(),
            engine: postcard::to_allocvec(&self.engine).ok()?,
        })
    }
}
