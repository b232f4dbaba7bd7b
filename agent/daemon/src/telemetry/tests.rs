use rumqttc::{Event as Mqtt, MqttOptions, Packet};

use palisade_core::record::Event;

use super::ledger::Limits;
use super::store::Disk;
use super::*;
use crate::mqtt::broker::Broker;
use crate::testing::{TempDir, run};

mod central;
mod examples;

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

/// An agent's telemetry: what its run loop holds, and the session.
struct Agent {
    outlet: Outlet,
    tell: Option<mpsc::Sender<Tell>>,
    counters: Arc<Counters>,
}

impl Agent {
    fn event(&mut self, event: Box<Event>) {
        let boot_us = self.outlet.stamp_us();
        self.outlet.event(boot_us, event);
    }
}

fn agent(port: u16, dir: &TempDir) -> (Agent, impl Future<Output = ()>) {
    let counters = Arc::new(Counters::default());
    let teller = Teller { host: "a".to_owned(), life: "00000000000000aa".to_owned() };
    let (outlet, seat) = outlet(teller, counters.clone());
    let keeper = seat.begin_on(Disk::new(dir.path()), Limits::of(1 << 20)).unwrap();
    let (tell, outbox) = mpsc::channel(QUEUE);
    let ends = (tell.downgrade(), outbox, None);
    let agent = Agent { outlet, tell: Some(tell), counters: counters.clone() };
    let session = async move {
        let session = Session::default();
        super::run(
            &cluster(port),
            "a",
            Access::default(),
            &session,
            ends,
            keeper,
            counters,
            Default::default(),
        )
        .await;
    };
    (agent, session)
}

/// A consumer of everything.
struct Central {
    client: AsyncClient,
    events: rumqttc::EventLoop,
}

impl Central {
    fn new(port: u16) -> Self {
        let (client, events) = AsyncClient::new(MqttOptions::new("central", "127.0.0.1", port), 8);
        Self { client, events }
    }

    /// Waits for the next message: `None` once a subscription stands.
    async fn next(&mut self) -> Option<(String, serde_json::Value)> {
        loop {
            match self.events.poll().await {
                Ok(Mqtt::Incoming(Packet::ConnAck(_))) => {
                    self.client.try_subscribe("palisade/t/#", QoS::AtLeastOnce).unwrap();
                }
                Ok(Mqtt::Incoming(Packet::SubAck(_))) => return None,
                Ok(Mqtt::Incoming(Packet::Publish(publish))) => {
                    return Some((publish.topic, serde_json::from_slice(&publish.payload).unwrap()));
                }
                Ok(_) => {}
                // The broker is not up yet.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }
}

fn event(n: u32) -> Box<Event> {
    Box::new(Event::Alarm { what: format!("number {n}") })
}

#[test]
fn monitoring_hears_events_and_the_state_and_that_the_agent_is_gone() {
    run(async {
        let broker = Broker::start(None);
        let dir = TempDir::new();
        let (mut agent, session) = agent(broker.port, &dir);
        let central = async {
            let mut central = Central::new(broker.port);
            while central.next().await.is_some() {}
            agent.event(Box::new(Event::Away));
            let state = Tell::State(serde_json::from_str(STATUS).unwrap());
            assert!(agent.tell.as_ref().unwrap().try_send(state).is_ok());
            let (mut away, mut quorate, mut levels) = (false, false, std::collections::BTreeSet::new());
            loop {
                let Some((topic, said)) = central.next().await else { continue };
                assert_eq!(said["schema"], said::SCHEMA, "{topic}");
                match topic.as_str() {
                    "palisade/t/event" => away = said["host"] == "a" && said["event"]["kind"] == "away",
                    "palisade/t/host/a/state" if said["agent"] == "gone" => break,
                    "palisade/t/host/a/state" => quorate = said["quorate"] == true,
                    health => {
                        let level = health.strip_prefix("palisade/t/host/a/health/").expect(health);
                        assert_eq!(said["level"], level);
                        levels.insert(level.to_owned());
                    }
                }
                if away && quorate && levels.len() == 4 {
                    // The agent ends.
                    agent.tell.take();
                }
            }
        };
        tokio::join!(session, central);
    });
}

/// What the agent says last, as its stop, is out before it ends.
#[test]
fn the_last_events_before_the_end_are_handed_over() {
    run(async {
        let broker = Broker::start(None);
        let dir = TempDir::new();
        let (mut agent, session) = agent(broker.port, &dir);
        let central = async {
            let mut central = Central::new(broker.port);
            while central.next().await.is_some() {}
            while agent.counters.telemetry_connected.value() == 0 {
                tokio::task::yield_now().await;
            }
            agent.event(event(1));
            agent.event(Box::new(Event::Left { why: "stopped".to_owned() }));
            agent.outlet.close(agent.tell.take().unwrap());
            let mut kinds = Vec::new();
            while kinds.len() < 2 {
                if let Some((topic, said)) = central.next().await
                    && topic == "palisade/t/event"
                {
                    kinds.push(said["event"]["kind"].as_str().unwrap().to_owned());
                }
            }
            assert_eq!(kinds, ["alarm", "left"]);
        };
        tokio::join!(session, central);
    });
}

/// The broker is killed, events go on, the agent itself restarts meanwhile, and the broker comes back.
#[test]
fn events_outlast_the_broker_and_the_agent() {
    run(async {
        let broker = Broker::start(None);
        let dir = TempDir::new();
        let port = broker.port;
        let (mut first, session) = agent(port, &dir);
        let before = async {
            first.event(event(0));
            while first.counters.telemetry_acknowledged.value() == 0 {
                tokio::task::yield_now().await;
            }
            broker.stop();
            while first.counters.telemetry_connected.value() == 1 {
                tokio::task::yield_now().await;
            }
            for n in 1..100 {
                first.event(event(n));
            }
            first.outlet.close(first.tell.take().unwrap());
        };
        tokio::join!(session, before);
        drop(first);

        // Another process, the same spool.
        let (mut second, session) = agent(port, &dir);
        let after = async {
            for n in 100..200 {
                second.event(event(n));
            }
            // The consumer is there before the first of them is sent.
            let _broker = Broker::start(Some(port));
            let mut central = Central::new(port);
            let (mut heard, mut ids) = (Vec::new(), std::collections::BTreeSet::new());
            while heard.last() != Some(&199) {
                let Some((topic, said)) = central.next().await else { continue };
                if topic == "palisade/t/event" {
                    let n = said["event"]["what"].as_str().unwrap().strip_prefix("number ").unwrap();
                    assert!(ids.insert(said["id"].as_str().unwrap().to_owned()), "{said}");
                    heard.push(n.parse::<u32>().unwrap());
                }
            }
            assert!(heard.is_sorted(), "{heard:?}");
            second.tell.take();
            heard
        };
        let ((), heard) = tokio::join!(session, after);
        // The consumer subscribed while the agent was already telling: what it heard has no hole.
        let first = heard[0];
        assert_eq!(heard, (first..200).collect::<Vec<_>>());
    });
}

#[test]
fn what_finds_no_room_is_told_as_a_gap() {
    let counters = Arc::new(Counters::default());
    let teller = Teller { host: "a".to_owned(), life: "00000000000000aa".to_owned() };
    let (mut outlet, _seat) = outlet(teller, counters.clone());
    // Nobody takes anything from the queue: the run loop is not held up, and counts.
    for n in 0..1000 {
        let boot_us = outlet.stamp_us();
        outlet.event(boot_us, event(n));
    }
    assert_eq!(counters.telemetry_shed.value(), 1000 - 256);
}

/// SAFE-6: nothing that a record holds comes from a secret, and what is long is cut.
#[test]
fn a_record_that_is_too_long_goes_without_its_body() {
    let teller = Teller { host: "a".to_owned(), life: "00000000000000aa".to_owned() };
    let long = Event::Alarm { what: "é".repeat(said::EVENT_BYTES_MAX) };
    let said = teller.event(&teller.id(1), 1, SystemTime::UNIX_EPOCH, &long);
    assert!(said.len() < 8192, "{}", said.len());
    let said: serde_json::Value = serde_json::from_slice(&said).unwrap();
    assert_eq!(said["event"], serde_json::json!({"kind": "too_long"}));
}
