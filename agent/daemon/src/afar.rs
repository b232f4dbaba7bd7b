//! Orders from afar: an operator's signed word, over the telemetry broker, to the agent of one host.
//!
//! The broker and whoever writes to it are believed nothing. What is authentic, fresh, not taken before and signed by as many as the
//! policy asks is handed to the run loop, where it is what the same order on the local socket would be; the rest is counted, answered
//! and on the record, and changes nothing (SAFE-7).

#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod judge;
mod used;
pub(crate) mod written;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use palisade_core::config::Cluster;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::api::{ApiRequest, FromAfar, Outcome};
use crate::counters::{Counters, OrderRefused};
use crate::telemetry::{SCHEMA, Tell, since_epoch};
pub(crate) use judge::COUNTS_MAX;
use judge::{Judged, Refusal, judge};
pub(crate) use used::Used;

/// Orders that may wait for the one before them.
pub(crate) const WAITING_MAX: usize = 8;
/// How long the run loop may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// So many refusals in a row are answered and on the record, and one more each [`REFUSAL_EVERY`]: whoever may write to the broker
/// must not fill a journal (SAFE-12). All are counted.
const REFUSALS: u32 = 16;
const REFUSAL_EVERY: Duration = Duration::from_secs(10);

/// What is said back, on `palisade/<cluster>/host/<host>/order`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) schema: u32,
    /// Which order this answers.
    pub(crate) nonce: String,
    /// When, by this host's clock.
    pub(crate) time_ms: u64,
    /// Whether it was taken on.
    pub(crate) accepted: bool,
    /// What happens now, or why nothing does.
    pub(crate) message: String,
}

/// What takes orders from afar for one host.
pub(crate) struct Orders {
    pub(crate) cluster: Arc<Cluster>,
    /// This host's name.
    pub(crate) host: String,
    /// Which orders were taken: one for the process, as a reload has two of these for a while.
    pub(crate) used: Arc<Mutex<Used>>,
    /// To the run loop.
    pub(crate) requests: mpsc::Sender<ApiRequest>,
    /// To the broker.
    pub(crate) out: mpsc::WeakSender<Tell>,
    pub(crate) counters: Arc<Counters>,
}

impl Orders {
    /// Takes orders until nobody hands any over any more.
    pub(crate) async fn run(self, mut heard: mpsc::Receiver<Vec<u8>>) {
        let mut refusals = Refusals::new();
        while let Some(message) = heard.recv().await {
            let judged = judge(&message, &self.cluster, &self.host, SystemTime::now());
            let (mut order, nonce, refusal) = match judged {
                Judged::NotOurs => continue,
                Judged::Sound(sound) => {
                    let noted = note(self.used.clone(), sound.written.clone()).await;
                    let nonce = sound.written.nonce.clone();
                    let (wanted, order) = (sound.wanted, sound.written.words());
                    (
                        Said { wanted: Ok(wanted), by: sound.by, order, text: Some(sound.text) },
                        Some(nonce),
                        noted.err(),
                    )
                }
                Judged::Refused { refusal, by, written, text } => {
                    let nonce = written.as_ref().map(|written| written.nonce.clone());
                    let order =
                        written.map_or_else(|| "an order from afar".to_owned(), |written| written.words());
                    let by = by.unwrap_or_else(|| "somebody from afar".to_owned());
                    (Said { wanted: Err(String::new()), by, order, text }, nonce, Some(refusal))
                }
            };
            if let Some(refusal) = refusal {
                self.counters.order_refused(refusal.kind());
                let Some(untold) = refusals.next(Instant::now()) else { continue };
                let more = if untold > 0 { format!(" (and {untold} more before it)") } else { String::new() };
                order.wanted = Err(format!("{refusal}{more}"));
            }
            let outcome = self.hand_over(order).await;
            if let Some(nonce) = nonce {
                self.answer(nonce, outcome);
            }
        }
    }

    async fn hand_over(&self, said: Said) -> Result<String, String> {
        let (reply, answer) = oneshot::channel();
        let Said { wanted, by, order, text } = said;
        let sound = wanted.is_ok();
        let request = ApiRequest::FromAfar(FromAfar { wanted, by, order, text, reply });
        let busy = |_| "the agent is busy or stopping: make the order anew and send it again".to_owned();
        self.requests.try_send(request).map_err(busy)?;
        let outcome = match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => {
                return Err("the agent did not answer in time; its journal tells".to_owned());
            }
        };
        let accepted = matches!(outcome, Outcome::Accepted { .. });
        match accepted {
            true => self.counters.orders_taken.count(),
            false if sound => self.counters.order_refused(OrderRefused::Engine),
            // Counted before.
            false => {}
        }
        if accepted { Ok(outcome.message()) } else { Err(outcome.message()) }
    }

    fn answer(&self, nonce: String, outcome: Result<String, String>) {
        let accepted = outcome.is_ok();
        let message = outcome.unwrap_or_else(|why| why);
        let answer =
            Answer { schema: SCHEMA, nonce, time_ms: since_epoch(SystemTime::now()), accepted, message };
        if let (Some(out), Ok(payload)) = (self.out.upgrade(), serde_json::to_vec(&answer)) {
            // Full or closed: the journal has it.
            drop(out.try_send(Tell::Order(payload)));
        }
    }
}

/// What the run loop is told.
struct Said {
    wanted: Result<crate::order::Wanted, String>,
    by: String,
    order: String,
    text: Option<String>,
}

/// SAFE-7: it is on the disk that this order was taken before anything is done for it.
async fn note(used: Arc<Mutex<Used>>, written: written::Written) -> Result<(), Refusal> {
    let noted = tokio::task::spawn_blocking(move || {
        let mut used = used.lock().map_err(|poisoned| Refusal::NotNoted(poisoned.to_string()))?;
        used.note(&written, SystemTime::now())
    });
    noted.await.unwrap_or_else(|error| Err(Refusal::NotNoted(error.to_string())))
}

/// How many refusals more may be told of.
struct Refusals {
    left: u32,
    since: Instant,
    untold: u64,
}

impl Refusals {
    fn new() -> Self {
        Self { left: REFUSALS, since: Instant::now(), untold: 0 }
    }

    /// How many before this one were not told of; `None`: nor is this one.
    fn next(&mut self, now: Instant) -> Option<u64> {
        let earned = now.saturating_duration_since(self.since).as_secs() / REFUSAL_EVERY.as_secs();
        if earned > 0 {
            self.left = self.left.saturating_add(u32::try_from(earned).unwrap_or(u32::MAX)).min(REFUSALS);
            self.since = now;
        }
        if self.left == 0 {
            self.untold += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests;
