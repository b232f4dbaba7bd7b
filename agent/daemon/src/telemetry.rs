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

#[cfg(test)]
mod tests {
    use rumqttc::{Event as Mqtt, MqttOptions, Packet};

    use super::*;
    use crate::mqtt::broker::Broker;
    use crate::testing::run;

    const STATUS: &str = r#"{"cluster":"t","host":"a","incarnation":"x","admitted":true,"quorate":true,"found":null,
        "coordinator":"a","view":["a"],"electorate":["a"],"dead":[],"hosts":[],"workloads":[],
        "witness":{"configured":false,"proven_ms":null,"granting":false},"fence_paths":[],"not_armed":[],
        "journal":{"ok":true,"error":null},"alarms":[]}"#;

    fn cluster(port: u16) -> Cluster {
        let host = |id: u8, name: &str| {
            format!(
                "[[host]]\nid = {id}\nname = \"{name}\"\nmachine = \"0000000{}-0000-0000-0000-000000000001\"\n\
                 links = [\"127.0.0.1:{}\"]\n",
                id + 1,
                7411 + u16::from(id)
            )
        };
        let text = format!(
            "[cluster]\nname = \"t\"\nkeys = [ {{ id = 1, file = \"/k\" }} ]\n\
             [telemetry]\nbroker = \"mqtt://127.0.0.1:{port}\"\n{}{}",
            host(0, "a"),
            host(1, "b")
        );
        Cluster::parse(&text, "t").unwrap()
    }

    #[test]
    fn monitoring_hears_events_and_the_state_and_that_the_agent_is_gone() {
        run(async {
            let broker = Broker::start(None);
            let cluster = cluster(broker.port);
            let (tell, outbox) = mpsc::channel(QUEUE);
            let session = Session::default();
            let agent = super::run(&cluster, "a", None, &session, outbox, Arc::default());
            let central = async {
                let options = MqttOptions::new("central", "127.0.0.1", broker.port);
                let (client, mut events) = AsyncClient::new(options, 8);
                let mut tell = Some(tell);
                let mut heard = Vec::new();
                let mut again = tokio::time::interval(Duration::from_millis(300));
                loop {
                    let publish = tokio::select! {
                        event = events.poll() => match event {
                            Ok(Mqtt::Incoming(Packet::ConnAck(_))) => {
                                client.try_subscribe("palisade/t/#", QoS::AtLeastOnce).unwrap();
                                continue;
                            }
                            Ok(Mqtt::Incoming(Packet::Publish(publish))) => publish,
                            Ok(_) | Err(_) => continue,
                        },
                        // What is told while the broker is away is shed: told again until it was heard.
                        _ = again.tick(), if tell.is_some() => {
                            let tell = tell.as_ref().unwrap();
                            drop(tell.try_send(Tell::Event(Box::new(Event::Away))));
                            drop(tell.try_send(Tell::State(serde_json::from_str(STATUS).unwrap())));
                            continue;
                        }
                    };
                    let said: serde_json::Value = serde_json::from_slice(&publish.payload).unwrap();
                    heard.push(publish.topic.clone());
                    match publish.topic.as_str() {
                        "palisade/t/event" => {
                            assert_eq!(
                                (&said["host"], &said["event"]["kind"]),
                                (&"a".into(), &"away".into())
                            );
                        }
                        "palisade/t/host/a/state" if said["agent"] == "gone" => return heard,
                        "palisade/t/host/a/state" => {
                            assert_eq!(said["quorate"], true);
                            // The agent ends.
                            tell = None;
                        }
                        other => panic!("{other}"),
                    }
                }
            };
            let ((), heard) = tokio::join!(agent, central);
            assert!(heard.iter().any(|topic| topic == "palisade/t/event"), "{heard:?}");
        });
    }
}
