//! Against the broker that users run: mosquitto. A witness that answers each ask plays the other end.

use palisade_proto::message::AskKind;
use palisade_proto::seal::RootKey;
use palisade_proto::{Drift, HostId, Names, Verdict};
use rumqttc::{Event, MqttOptions, Packet};

use super::*;
use crate::mqtt::broker::Broker;
use crate::testing::run;

fn cluster(port: u16) -> Cluster {
    let host = |id: u8| {
        format!(
            "[[host]]\nid = {id}\nname = \"h{id}\"\nmachine = \"0000000{}-0000-0000-0000-000000000001\"\nlinks = [\"127.0.0.1:{}\"]\n",
            id + 1,
            7411 + u16::from(id)
        )
    };
    let text = format!(
        "[cluster]\nname = \"t\"\nkeys = [ {{ id = 1, file = \"/k\" }} ]\n\
         [witness]\nbroker = \"mqtt://127.0.0.1:{port}\"\nkeys = [ {{ id = 1, file = \"/w\" }} ]\n{}{}",
        host(0),
        host(1)
    );
    Cluster::parse(&text, "t").unwrap()
}

fn ring() -> Keyring {
    Keyring::new("t", [(1, RootKey::new([3; 32]))]).unwrap()
}

fn me() -> Incarnation {
    Incarnation::new(HostId::new(1).unwrap(), [1; 8])
}

fn ask(seq: Seq) -> Box<Ask> {
    let (lease, drift) = (palisade_proto::Duration::ms(1000), Drift { ppm: 10_000 });
    Box::new(Ask { from: me(), seq, kind: AskKind::Beacon, view: Names::new(), lease, drift })
}

/// Answers every ask, after a forged answer to it.
async fn witness(port: u16) {
    let mut options = MqttOptions::new("the-witness", "127.0.0.1", port);
    options.set_keep_alive(Duration::from_secs(5));
    let (client, mut events) = AsyncClient::new(options, 8);
    let mut opener: Opener<2> = Opener::new(ring(), Kind::Ask);
    let start = palisade_proto::LifeName([8; 8]);
    let mut sealer = Sealer::new(&ring(), Kind::Answer, Sender::Witness, start).unwrap();
    loop {
        let publish = match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                client.try_subscribe("palisade/t/witness/ask/+", QoS::AtMostOnce).unwrap();
                continue;
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => publish,
            Ok(_) => continue,
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let mut message = [0; MAX_DATAGRAM];
        let opened = opener.open(&publish.payload, &mut message).unwrap();
        assert_eq!(
            (opened.sender, publish.topic.as_str()),
            (Sender::Host(me().host), "palisade/t/witness/ask/1")
        );
        let answer =
            Answer { start: start.0, seq: opened.seq, to: me(), ask: opened.seq, verdict: Verdict::Noted };
        let (mut text, mut datagram) = ([0; MAX_MESSAGE], [0; MAX_DATAGRAM]);
        let len = wire::encode_answer(&answer, &mut text).unwrap();
        let len = sealer.seal(answer.seq, &text[..len], &mut datagram).unwrap();
        let mut forged = datagram[..len].to_vec();
        forged[len - 1] ^= 1;
        for payload in [forged, datagram[..len].to_vec()] {
            client.try_publish("palisade/t/witness/answer/1", QoS::AtMostOnce, false, payload).unwrap();
        }
    }
}

#[test]
fn asks_are_answered_again_after_the_broker_was_away() {
    run(async {
        let broker = Broker::start(None);
        let port = broker.port;
        let (way, counters) = (Arc::new(Way::default()), Arc::new(Counters::default()));
        let (asks, outbox) = mpsc::channel(ASKS_MAX);
        let (answers, mut heard) = mpsc::channel(ANSWERS_MAX);
        let (session_way, session_counters) = (way.clone(), counters.clone());
        let session = async move {
            let access = Access { keyring: ring(), broker: mqtt::Access::default() };
            super::run(&cluster(port), me(), access, session_way, outbox, answers, session_counters)
                .await
                .unwrap();
        };
        let play = async {
            let mut seq = 0;
            // The first asks may go before the witness listens: asked until answered, as the engine does.
            let mut answered = async |heard: &mut mpsc::Receiver<Answer>| {
                let mut again = tokio::time::interval(Duration::from_millis(50));
                loop {
                    tokio::select! {
                        answer = heard.recv() => return answer.unwrap(),
                        _ = again.tick() => {
                            seq += 1;
                            drop(asks.try_send(ask(seq)));
                        }
                    }
                }
            };
            let first = answered(&mut heard).await;
            assert_eq!((first.to, first.verdict), (me(), Verdict::Noted));
            assert!(way.is_connected() && way.round_trip().is_some());
            assert!(counters.witness_dropped.value() >= 1, "SAFE-7: the forged answer is dropped");

            let port = broker.stop();
            while heard.try_recv().is_ok() {}
            while way.is_connected() {
                tokio::task::yield_now().await;
            }
            let alarm = way.alarm(palisade_proto::Duration::ms(1000)).unwrap();
            assert!(alarm.starts_with("no connection to the witness's broker"), "{alarm}");

            let _broker = Broker::start(Some(port));
            let again = answered(&mut heard).await;
            assert!(again.ask > first.ask, "subscribed again, and nothing of the old session came late");
            assert_eq!(way.alarm(palisade_proto::Duration::ms(60_000)), None);
            drop(asks);
        };
        tokio::select! {
            () = witness(port) => unreachable!("it answers for ever"),
            ((), ()) = async { tokio::join!(session, play) } => {}
        }
    });
}

#[test]
fn safe_10_a_round_trip_of_half_a_lease_is_an_alarm() {
    let way = Way::default();
    way.session.begin().set(None);
    way.measured(Duration::from_millis(499));
    assert_eq!(way.alarm(palisade_proto::Duration::ms(1000)), None);
    for _ in 0..32 {
        way.measured(Duration::from_millis(600));
    }
    let alarm = way.alarm(palisade_proto::Duration::ms(1000)).unwrap();
    assert!(alarm.contains("less than timing.lease/2 (500 ms)"), "{alarm}");
}
