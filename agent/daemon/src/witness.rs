//! The way to the witness: an MQTT session of its own, apart from telemetry. Seals asks, opens answers, measures the
//! round trip. It never judges an answer, and silence here is never evidence of anything (SAFE-11).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use palisade_core::config::Cluster;
use palisade_proto::seal::{Keyring, KeyringError, Kind, Opener, Sealer, Sender};
use palisade_proto::wire::{self, MAX_DATAGRAM, MAX_MESSAGE};
use palisade_proto::{Answer, Ask, Incarnation, Seq};
use rumqttc::{AsyncClient, Publish, QoS};
use tokio::sync::mpsc;

use crate::counters::Counters;
use crate::mqtt::{self, Session, Settings, Talk};

/// Asks that may wait for the session: more than a round trip's worth is late anyway.
pub(crate) const ASKS_MAX: usize = 4;
/// Answers that may wait for the run loop.
pub(crate) const ANSWERS_MAX: usize = 16;
/// Asks whose answer is still awaited, for the round trip.
const UNANSWERED_MAX: usize = 16;
/// Messages that may wait for the socket.
const QUEUE: usize = 8;
/// An ask is a few hundred bytes.
const PACKET_MAX: usize = 16 * 1024;
/// A broker that hangs is given up after twice this.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Lives of the witness whose keys are kept: this one and the one before.
const LIVES: usize = 2;

/// What the rest of the agent sees of the session.
#[derive(Debug, Default)]
pub(crate) struct Way {
    session: Session,
    /// Mean of the last round trips in us, each new one weighing an eighth; 0: none yet.
    round_trip_us: AtomicU64,
}

impl Way {
    /// Whether the broker has accepted the session.
    pub(crate) fn is_connected(&self) -> bool {
        self.session.is_connected()
    }

    /// From an ask to its answer, as measured.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        let us = self.round_trip_us.load(Relaxed);
        (us > 0).then(|| Duration::from_micros(us))
    }

    /// What is wrong with it, in an operator's words. SAFE-10: the measured round trip stays below half a lease.
    pub(crate) fn alarm(&self, lease: palisade_proto::Duration) -> Option<String> {
        if let Some(trouble) = self.session.trouble() {
            return Some(format!("no connection to the witness's broker: {trouble}"));
        }
        let measured_ms = self.round_trip().map_or(0, |trip| trip.as_millis());
        (measured_ms.saturating_mul(2) >= u128::from(lease.0)).then(|| {
            format!(
                "the witness answers in {measured_ms} ms; this must be less than timing.lease/2 ({} ms)",
                lease.0 / 2
            )
        })
    }

    fn measured(&self, trip: Duration) {
        let trip = u64::try_from(trip.as_micros()).unwrap_or(u64::MAX).max(1);
        let old = self.round_trip_us.load(Relaxed);
        let mean = if old == 0 { trip } else { old - old / 8 + trip / 8 };
        self.round_trip_us.store(mean.max(1), Relaxed);
    }
}

/// How to reach the witness.
pub(crate) struct Access {
    /// The keys shared with the witness, never the cluster's own.
    pub(crate) keyring: Keyring,
    /// At its broker.
    pub(crate) broker: mqtt::Access,
}

/// Keeps the session up until `asks` closes.
pub(crate) async fn run(
    cluster: &Cluster,
    me: Incarnation,
    access: Access,
    way: Arc<Way>,
    asks: mpsc::Receiver<Box<Ask>>,
    answers: mpsc::Sender<Answer>,
    counters: Arc<Counters>,
) -> Result<(), KeyringError> {
    let Some(witness) = cluster.witness() else {
        return Ok(());
    };
    let host = cluster.host(me.host).map_or("", |host| host.name());
    let settings = Settings {
        broker: witness.broker().clone(),
        client_id: format!("palisade-{}-{host}-witness", cluster.name()),
        access: access.broker,
        keep_alive: KEEP_ALIVE,
        last_will: None,
        queue: QUEUE,
        packet_max: PACKET_MAX,
    };
    let talk = Asking {
        ask_topic: format!("palisade/{}/witness/ask/{}", cluster.name(), me.host),
        answer_topic: format!("palisade/{}/witness/answer/{}", cluster.name(), me.host),
        sealer: Sealer::new(&access.keyring, Kind::Ask, Sender::Host(me.host), me.life)?,
        opener: Opener::new(access.keyring, Kind::Answer),
        unanswered: VecDeque::with_capacity(UNANSWERED_MAX),
        way: way.clone(),
        answers,
        counters,
    };
    mqtt::keep(settings, &way.session, asks, talk).await;
    Ok(())
}

struct Asking {
    ask_topic: String,
    answer_topic: String,
    sealer: Sealer,
    opener: Opener<LIVES>,
    unanswered: VecDeque<(Seq, Instant)>,
    way: Arc<Way>,
    answers: mpsc::Sender<Answer>,
    counters: Arc<Counters>,
}

impl Asking {
    fn seal(&mut self, ask: &Ask) -> Result<Vec<u8>, String> {
        let mut message = [0; MAX_MESSAGE];
        let mut datagram = [0; MAX_DATAGRAM];
        let len = wire::encode_ask(ask, &mut message).map_err(|error| error.to_string())?;
        let message = message.get(..len).unwrap_or_default();
        let len = self.sealer.seal(ask.seq, message, &mut datagram).map_err(|error| error.to_string())?;
        Ok(datagram.get(..len).unwrap_or_default().to_vec())
    }

    /// SAFE-7: an answer acts only if the witness sealed it. Whether it answers an open ask is the engine's to judge.
    fn open(&mut self, payload: &[u8]) -> Option<Answer> {
        let mut message = [0; MAX_DATAGRAM];
        let opened = self.opener.open(payload, &mut message).ok()?;
        wire::decode_answer(opened.life.0, opened.seq, opened.message).ok()
    }
}

impl Talk for Asking {
    type Out = Box<Ask>;

    fn topic(&self) -> Option<&str> {
        Some(&self.answer_topic)
    }

    fn connected(&mut self, _client: &AsyncClient) {
        self.unanswered.clear();
    }

    fn say(&mut self, ask: Box<Ask>, client: &AsyncClient) {
        let payload = match self.seal(&ask) {
            Ok(payload) => payload,
            Err(error) => return tracing::error!("an ask of the witness cannot be sealed: {error}"),
        };
        if client.try_publish(self.ask_topic.as_str(), QoS::AtMostOnce, false, payload).is_err() {
            return self.counters.witness_unsent.count();
        }
        self.counters.witness_asked.count();
        if self.unanswered.len() == UNANSWERED_MAX {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back((ask.seq, Instant::now()));
    }

    fn hear(&mut self, publish: Publish) {
        // A retained answer is an old one: never published so, hence not the witness's.
        let answer = if publish.retain { None } else { self.open(&publish.payload) };
        let Some(answer) = answer else {
            return self.counters.witness_dropped.count();
        };
        self.counters.witness_answered.count();
        if let Some(at) = self.unanswered.iter().position(|(seq, _)| *seq == answer.ask)
            && let Some((_, asked)) = self.unanswered.drain(..=at).next_back()
        {
            self.way.measured(asked.elapsed());
        }
        if self.answers.try_send(answer).is_err() {
            self.counters.witness_dropped.count();
        }
    }
}

#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;
