//! One MQTT session, kept up: connects, subscribes again after each connect, backs off with jitter, and throws away what
//! an old connection still held (a late message is worse than none). What is said and heard is the caller's.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use palisade_core::config::Broker;
use rumqttc::{AsyncClient, Event, EventLoop, LastWill, MqttOptions, NetworkOptions, Outgoing, Packet};
use rumqttc::{Publish, QoS, SubscribeReasonCode, TlsConfiguration, Transport, mqttbytes};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

/// The first wait after a failed connection; it doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest wait: a broker that is back is noticed within seconds.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// TCP connect, CONNACK and each flush must be done within this.
const CONNECT_TIMEOUT_S: u64 = 3;
/// For what is still queued when the agent ends.
const FLUSH: Duration = Duration::from_millis(200);
/// Larger than anything that is heard on these topics.
const HEARD_MAX: usize = 16 * 1024;

/// User and password at a broker.
pub(crate) type Credentials = (String, Zeroizing<String>);

/// What the configuration's files hold for a session with a broker.
#[derive(Clone, Default)]
pub(crate) struct Access {
    /// User and password, if the broker asks for them.
    pub(crate) login: Option<Credentials>,
    /// Whom to believe, and how to be believed; there if and only if the broker's address says so.
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
}

/// How to reach a broker.
pub(crate) struct Settings {
    /// Where it listens.
    pub(crate) broker: Broker,
    /// The client id: two sessions with one id throw each other out.
    pub(crate) client_id: String,
    /// The files' part of it.
    pub(crate) access: Access,
    /// An idle connection is tested this often; a silent broker is given up after twice as long.
    pub(crate) keep_alive: Duration,
    /// What the broker says for us when we fall silent.
    pub(crate) last_will: Option<LastWill>,
    /// How many messages may wait for the socket.
    pub(crate) queue: usize,
    /// The longest packet that is said. A longer one would end the connection.
    pub(crate) packet_max: usize,
}

impl Settings {
    fn options(&self) -> MqttOptions {
        // rumqttc joins host and port with a colon: an IPv6 address needs its brackets.
        let host = self.broker.host();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let mut options = MqttOptions::new(self.client_id.as_str(), host, self.broker.port());
        options
            .set_keep_alive(self.keep_alive)
            .set_clean_session(true)
            .set_max_packet_size(HEARD_MAX, self.packet_max);
        if let Some(tls) = &self.access.tls {
            options.set_transport(Transport::Tls(TlsConfiguration::Rustls(tls.clone())));
        }
        if let Some((user, password)) = &self.access.login {
            options.set_credentials(user.as_str(), password.as_str());
        }
        if let Some(will) = &self.last_will {
            options.set_last_will(will.clone());
        }
        options
    }
}

/// Whether the session stands, for whoever wants to know. After a reload the one before may still be ending.
#[derive(Debug, Default)]
pub(crate) struct Session {
    connected: AtomicBool,
    latest: Mutex<Latest>,
}

/// The session begun last, and why it does not stand.
#[derive(Debug, Default)]
struct Latest {
    number: u64,
    trouble: Option<String>,
}

/// One session's own say in [`Session`]: what a replaced one says changes nothing.
pub(crate) struct Own<'session> {
    session: &'session Session,
    number: u64,
    connected: Cell<bool>,
}

impl Session {
    /// Whether the broker has accepted this connection.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Relaxed)
    }

    /// Why it does not stand.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.latest.lock().ok().and_then(|latest| latest.trouble.clone())
    }

    /// A new session takes the place of the one before.
    pub(crate) fn begin(&self) -> Own<'_> {
        let number = self.latest.lock().map_or(0, |mut latest| {
            latest.number += 1;
            latest.number
        });
        Own { session: self, number, connected: Cell::new(false) }
    }
}

impl Own<'_> {
    fn is_connected(&self) -> bool {
        self.connected.get()
    }

    /// Says how it stands: `None`, it does.
    pub(crate) fn set(&self, trouble: Option<String>) {
        self.connected.set(trouble.is_none());
        if let Ok(mut latest) = self.session.latest.lock()
            && latest.number == self.number
        {
            self.session.connected.store(trouble.is_none(), Relaxed);
            latest.trouble = trouble;
        }
    }
}

/// What is said over a session.
pub(crate) trait Talk {
    /// What the rest of the process hands over to be said.
    type Out;

    /// The topic to listen on.
    fn topic(&self) -> Option<&str>;

    /// The broker accepted the connection (again).
    fn connected(&mut self, client: &AsyncClient);

    /// Publishes one message; full or lost, it is dropped.
    fn say(&mut self, out: Self::Out, client: &AsyncClient);

    /// A message arrived on the topic.
    fn hear(&mut self, publish: Publish);

    /// The connection is no more.
    fn lost(&mut self) {}

    /// Handed over while there is no connection.
    fn keep(&mut self, _out: Self::Out) {}

    /// The oldest message that was published without one has this packet identifier, 0 if none.
    fn sent(&mut self, _packet: u16) {}

    /// The broker acknowledged the message with this packet identifier.
    fn acknowledged(&mut self, _packet: u16) {}

    /// After anything was sent or heard.
    fn turned(&mut self) {}
}

/// Keeps a session up until `outbox` closes.
pub(crate) async fn keep<T: Talk>(
    settings: Settings,
    session: &Session,
    mut outbox: mpsc::Receiver<T::Out>,
    talk: T,
) {
    let talk = RefCell::new(talk);
    let mut backoff = BACKOFF_MIN;
    let session = &session.begin();
    session.set(Some("not connected yet".to_owned()));
    loop {
        // A new client each time: requests queued for the old connection must not come out of the new one.
        let (client, mut events) = AsyncClient::new(settings.options(), settings.queue);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        network.set_connection_timeout(CONNECT_TIMEOUT_S);
        events.set_network_options(network);
        let trouble = tokio::select! {
            trouble = listen(&mut events, &client, session, &talk) => trouble,
            () = forward(&mut outbox, &client, session, &talk) => {
                let connected = session.is_connected();
                session.set(Some("closed".to_owned()));
                if !connected {
                    // Polled now it would connect, and throw out the session that took its place.
                    return;
                }
                // With a goodbye the broker would keep the last will to itself, and what is retained would go on saying
                // that all is well.
                if settings.last_will.is_none() {
                    drop(client.try_disconnect());
                }
                // What is still queued goes out first, and acknowledgements come in.
                drop(tokio::time::timeout(FLUSH, listen(&mut events, &client, session, &talk)).await);
                return;
            }
        };
        talk.borrow_mut().lost();
        if session.is_connected() {
            backoff = BACKOFF_MIN;
            tracing::warn!(broker = %settings.broker, session = settings.client_id, "broker lost: {trouble}");
        } else if backoff == BACKOFF_MIN {
            tracing::warn!(broker = %settings.broker, session = settings.client_id, "broker not reached: {trouble}");
        }
        session.set(Some(trouble));
        let wait = tokio::time::sleep(jittered(backoff));
        tokio::select! {
            () = wait => {}
            () = pass_over(&mut outbox, &talk) => {
                session.set(Some("closed".to_owned()));
                return;
            }
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// Handles what the connection yields until it fails; says why it did.
async fn listen<T: Talk>(
    events: &mut EventLoop,
    client: &AsyncClient,
    session: &Own<'_>,
    talk: &RefCell<T>,
) -> String {
    loop {
        let packet = match events.poll().await {
            Ok(Event::Incoming(packet)) => packet,
            Ok(Event::Outgoing(outgoing)) => {
                if let Outgoing::Publish(packet) = outgoing {
                    talk.borrow_mut().sent(packet);
                }
                continue;
            }
            Err(error) => return error.to_string(),
        };
        match packet {
            Packet::ConnAck(_) => {
                let mut talk = talk.borrow_mut();
                // rumqttc does not subscribe again by itself.
                if let Some(topic) = talk.topic()
                    && let Err(error) = client.try_subscribe(topic, QoS::AtMostOnce)
                {
                    return format!("cannot subscribe: {error}");
                }
                session.set(None);
                talk.connected(client);
            }
            Packet::SubAck(ack) if ack.return_codes.contains(&SubscribeReasonCode::Failure) => {
                return "the broker refuses the subscription (check its access list)".to_owned();
            }
            Packet::Publish(publish) => talk.borrow_mut().hear(publish),
            Packet::PubAck(ack) => talk.borrow_mut().acknowledged(ack.pkid),
            Packet::Disconnect => return "the broker ended the connection".to_owned(),
            // Pings are rumqttc's own business; the rest is never sent to a client.
            mqttbytes::v4::Packet::Connect(_)
            | Packet::SubAck(_)
            | Packet::PubRec(_)
            | Packet::PubRel(_)
            | Packet::PubComp(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::UnsubAck(_)
            | Packet::PingReq
            | Packet::PingResp => {}
        }
        talk.borrow_mut().turned();
    }
}

/// Says what comes out of `outbox` while connected and has it kept else; ends when the outbox closes.
async fn forward<T: Talk>(
    outbox: &mut mpsc::Receiver<T::Out>,
    client: &AsyncClient,
    session: &Own<'_>,
    talk: &RefCell<T>,
) {
    while let Some(out) = outbox.recv().await {
        let mut talk = talk.borrow_mut();
        if session.is_connected() { talk.say(out, client) } else { talk.keep(out) }
    }
}

/// The same between two connections.
async fn pass_over<T: Talk>(outbox: &mut mpsc::Receiver<T::Out>, talk: &RefCell<T>) {
    while let Some(out) = outbox.recv().await {
        talk.borrow_mut().keep(out);
    }
}

/// Between half of `wait` and one and a half: hosts that lost the broker together do not come back in step.
pub(crate) fn jittered(wait: Duration) -> Duration {
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    let thousandths = u32::try_from(random % 1000).unwrap_or(0);
    wait / 2 + wait * thousandths / 1000
}

#[cfg(test)]
pub(crate) mod broker;
pub(crate) mod tls;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use palisade_core::config::Cluster;

    use super::*;
    use crate::testing::run;

    struct Silent;

    impl Talk for Silent {
        type Out = ();

        fn topic(&self) -> Option<&str> {
            None
        }

        fn connected(&mut self, _: &AsyncClient) {}

        fn say(&mut self, (): (), _: &AsyncClient) {}

        fn hear(&mut self, _: Publish) {}
    }

    #[test]
    fn a_replaced_session_never_marks_the_new_one_closed() {
        run(async {
            // Nobody listens there any more: the session fails, and waits.
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let text = format!(
                "[cluster]\nname = \"t\"\nkeys = [ {{ id = 1, file = \"/k\" }} ]\n\
                 [telemetry]\nbroker = \"mqtt://127.0.0.1:{port}\"\n\
                 [[host]]\nid = 0\nname = \"a\"\nmachine = \"00000001-0000-0000-0000-000000000001\"\nlinks = [\"127.0.0.1:7411\"]\n\
                 [[host]]\nid = 1\nname = \"b\"\nmachine = \"00000002-0000-0000-0000-000000000001\"\nlinks = [\"127.0.0.1:7412\"]\n"
            );
            let cluster = Cluster::parse(&text, "t").unwrap();
            let settings = Settings {
                broker: cluster.telemetry().unwrap().broker().clone(),
                client_id: "test".to_owned(),
                access: Access::default(),
                keep_alive: Duration::from_secs(5),
                last_will: None,
                queue: 1,
                packet_max: 1024,
            };
            let session = Session::default();
            let (out, outbox) = mpsc::channel(1);
            let old = keep(settings, &session, outbox, Silent);
            let reload = async {
                while session.trouble().is_none_or(|trouble| trouble == "not connected yet") {
                    tokio::task::yield_now().await;
                }
                let new = session.begin();
                new.set(None);
                drop(out);
                new
            };
            let ((), new) = tokio::join!(old, reload);
            assert!(session.is_connected() && session.trouble().is_none(), "{:?}", session.trouble());
            new.set(Some("lost".to_owned()));
            assert_eq!((session.is_connected(), session.trouble().as_deref()), (false, Some("lost")));
        });
    }

    #[test]
    fn jitter_stays_within_half_and_one_and_a_half() {
        for _ in 0..1000 {
            let wait = jittered(Duration::from_secs(10));
            assert!((Duration::from_secs(5)..Duration::from_secs(15)).contains(&wait), "{wait:?}");
        }
    }
}
