//! What central monitoring hears: this host's state (retained, with a last will) and each record. Nothing here decides or
//! delays anything; it is the first to be shed under load (SAFE-12), and no host acts on it (SAFE-11).

use std::sync::Arc;
use std::time::Duration;

use palisade_core::config::Cluster;
use palisade_core::record::Event;
use palisade_core::status::Status;
use rumqttc::{AsyncClient, LastWill, Publish, QoS};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::counters::Counters;
use crate::mqtt::{self, Credentials, Session, Settings, Talk};

/// What may wait for the broker; the rest is shed.
pub(crate) const QUEUE: usize = 256;
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// One thing to tell.
pub(crate) enum Tell {
    /// This host's state changed, or its time has come.
    State(Box<Status>),
    /// Something happened.
    Event(Box<Event>),
}

/// Keeps the session up until `outbox` closes. A configuration without telemetry ends it at once.
pub(crate) async fn run(
    cluster: &Cluster,
    host: &str,
    login: Option<Credentials>,
    session: &Session,
    outbox: mpsc::Receiver<Tell>,
    counters: Arc<Counters>,
) {
    let Some(telemetry) = cluster.telemetry() else {
        return;
    };
    let state_topic = format!("palisade/{}/host/{host}/state", cluster.name());
    let gone = format!("{{\"host\":{},\"agent\":\"gone\"}}", serde_json::Value::from(host));
    let settings = Settings {
        broker: telemetry.broker().clone(),
        client_id: format!("palisade-{}-{host}-telemetry", cluster.name()),
        login,
        keep_alive: KEEP_ALIVE,
        last_will: Some(LastWill::new(state_topic.as_str(), gone, QoS::AtLeastOnce, true)),
        queue: QUEUE,
    };
    let talk = Telling {
        event_topic: format!("palisade/{}/event", cluster.name()),
        state_topic,
        host: host.to_owned(),
        last_state: None,
        counters,
    };
    mqtt::keep(settings, session, outbox, talk).await;
}

struct Telling {
    state_topic: String,
    event_topic: String,
    host: String,
    last_state: Option<Vec<u8>>,
    counters: Arc<Counters>,
}

/// An event as consumers read it.
#[derive(Serialize)]
struct Told<'a> {
    host: &'a str,
    time_ms: u128,
    event: &'a Event,
    text: String,
}

impl Telling {
    fn publish(&self, client: &AsyncClient, topic: &str, qos: QoS, retain: bool, payload: Vec<u8>) {
        if client.try_publish(topic, qos, retain, payload).is_err() {
            self.counters.telemetry_shed.count();
        }
    }
}

impl Talk for Telling {
    type Out = Tell;

    fn topic(&self) -> Option<&str> {
        None
    }

    fn connected(&mut self, client: &AsyncClient) {
        // The last will has replaced what was retained.
        if let Some(state) = self.last_state.clone() {
            self.publish(client, &self.state_topic, QoS::AtLeastOnce, true, state);
        }
    }

    fn say(&mut self, tell: Tell, client: &AsyncClient) {
        match tell {
            Tell::State(status) => match serde_json::to_vec(&status) {
                Ok(state) => {
                    self.last_state = Some(state.clone());
                    self.publish(client, &self.state_topic, QoS::AtLeastOnce, true, state);
                }
                Err(error) => tracing::error!("the state cannot be written as JSON: {error}"),
            },
            Tell::Event(event) => {
                let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                let told = Told {
                    host: &self.host,
                    time_ms: since_epoch.map_or(0, |time| time.as_millis()),
                    text: event.to_string(),
                    event: &event,
                };
                match serde_json::to_vec(&told) {
                    Ok(payload) => self.publish(client, &self.event_topic, QoS::AtLeastOnce, false, payload),
                    Err(error) => tracing::error!("an event cannot be written as JSON: {error}"),
                }
            }
        }
    }

    fn hear(&mut self, _publish: Publish) {}
}
