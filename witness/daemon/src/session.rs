//! The MQTT session: connects, subscribes after every connect (rumqttc does not), hands asks to the witness and its answers
//! back; after a loss waits and begins anew. Decides nothing.
//!
//! Answers go to the socket directly, not through rumqttc's queue of requests: it takes one from there for each ten packets
//! that it reads, so that under load the queue would overflow and answers would come late. So the broker's own pace holds
//! the witness back, and nothing waits in between.

use std::cell::RefCell;
use std::convert::Infallible;
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, NetworkOptions, Outgoing, Packet, Publish, QoS, StateError,
    SubAck, SubscribeFilter, SubscribeReasonCode,
};

use crate::config::Settings;
use crate::witness::Witness;

/// The first wait after a lost or failed connection; it doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest wait: hosts that need a witness must not wait long for one that only waits for its broker.
const BACKOFF_MAX: Duration = Duration::from_secs(3);
/// A connection that lasted this long was a good one.
const GOOD_CONNECTION: Duration = Duration::from_secs(10);
/// A silent broker is noticed after twice this.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// TCP connect and CONNACK, and each flush, must be done within this.
const NETWORK_TIMEOUT_S: u64 = 3;
/// Larger than any ask or subscription; a longer message ends the connection before it is read.
const PACKET_MAX: usize = 16 * 1024;
/// Clusters in one SUBSCRIBE, so that it stays below [`PACKET_MAX`].
const FILTERS_PER_SUBSCRIBE: usize = 64;

/// Keeps the session up for ever.
pub(crate) async fn keep(settings: &Settings, witness: &RefCell<Witness>) -> Infallible {
    let mut backoff = Backoff::new();
    loop {
        let mut session = Session::new(settings, witness);
        let began = tokio::time::Instant::now();
        let trouble = session.run().await;
        // One line for each loss, and one for the first of several failed attempts.
        if session.connected || backoff.is_fresh() {
            tracing::warn!("broker {}: {trouble}", settings.broker);
        }
        tokio::time::sleep(jittered(backoff.next(session.connected && began.elapsed() >= GOOD_CONNECTION)))
            .await;
    }
}

/// How long to wait for the next attempt.
struct Backoff(Duration);

impl Backoff {
    const fn new() -> Self {
        Self(BACKOFF_MIN)
    }

    fn is_fresh(&self) -> bool {
        self.0 == BACKOFF_MIN
    }

    /// The wait now that a connection has failed; `was_good`: after it had lasted.
    fn next(&mut self, was_good: bool) -> Duration {
        if was_good {
            *self = Self::new();
        }
        let wait = self.0;
        self.0 = (wait * 2).min(BACKOFF_MAX);
        wait
    }
}

/// One connection. Each has a client of its own: what an old one still held must not come out of a new one.
struct Session<'run> {
    events: EventLoop,
    client: AsyncClient,
    witness: &'run RefCell<Witness>,
    connected: bool,
    /// Answers lie in the write buffer.
    unflushed: bool,
    /// Filters not yet acknowledged, by the packet id of their SUBSCRIBE once it is sent.
    subscribing: Vec<(Option<u16>, Vec<String>)>,
}

impl<'run> Session<'run> {
    fn new(settings: &Settings, witness: &'run RefCell<Witness>) -> Self {
        let id = format!("palisade-witness-{}", witness.borrow().start_id());
        let mut options = MqttOptions::new(id, settings.broker.host(), settings.broker.port());
        options
            .set_keep_alive(KEEP_ALIVE)
            .set_clean_session(true)
            .set_max_packet_size(PACKET_MAX, PACKET_MAX);
        if let Some(login) = &settings.login {
            options.set_credentials(login.username.as_str(), login.password.as_str());
        }
        let filters: Vec<String> = witness.borrow().filters().collect();
        let subscribing = filters.chunks(FILTERS_PER_SUBSCRIBE).map(|chunk| (None, chunk.to_vec())).collect();
        let (client, mut events) = AsyncClient::new(options, filters.len().div_ceil(FILTERS_PER_SUBSCRIBE));
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        network.set_connection_timeout(NETWORK_TIMEOUT_S);
        events.set_network_options(network);
        Self { events, client, witness, connected: false, unflushed: false, subscribing }
    }

    /// Serves until the connection fails; says why it did.
    async fn run(&mut self) -> String {
        loop {
            let done = match self.events.poll().await {
                Ok(Event::Incoming(packet)) => self.incoming(packet).await,
                Ok(Event::Outgoing(Outgoing::Subscribe(id))) => {
                    self.subscribe_sent(id);
                    Ok(())
                }
                Ok(Event::Outgoing(_)) => Ok(()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(trouble) = done.and(self.flush_when_read().await) {
                return trouble;
            }
        }
    }

    async fn incoming(&mut self, packet: Packet) -> Result<(), String> {
        match packet {
            Packet::ConnAck(_) => {
                self.connected = true;
                self.subscribe()
            }
            Packet::SubAck(ack) => {
                self.subscribed(&ack);
                Ok(())
            }
            Packet::Publish(publish) => self.asked(&publish).await,
            Packet::Disconnect => Err("the broker ended the connection".to_owned()),
            // Acknowledgements and pings are rumqttc's own business; the rest is never sent to a client.
            Packet::Connect(_)
            | Packet::PubAck(_)
            | Packet::PubRec(_)
            | Packet::PubRel(_)
            | Packet::PubComp(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::UnsubAck(_)
            | Packet::PingReq
            | Packet::PingResp => Ok(()),
        }
    }

    fn subscribe(&mut self) -> Result<(), String> {
        for (_, filters) in &self.subscribing {
            let filters = filters.iter().map(|filter| SubscribeFilter::new(filter.clone(), QoS::AtMostOnce));
            self.client.try_subscribe_many(filters).map_err(|error| format!("cannot subscribe: {error}"))?;
        }
        Ok(())
    }

    /// SUBSCRIBEs leave in the order in which they were queued.
    fn subscribe_sent(&mut self, id: u16) {
        if let Some((sent, _)) = self.subscribing.iter_mut().find(|(sent, _)| sent.is_none()) {
            *sent = Some(id);
        }
    }

    fn subscribed(&mut self, ack: &SubAck) {
        let Some(at) = self.subscribing.iter().position(|(sent, _)| *sent == Some(ack.pkid)) else { return };
        let (_, filters) = self.subscribing.swap_remove(at);
        for (filter, code) in filters.iter().zip(&ack.return_codes) {
            if *code == SubscribeReasonCode::Failure {
                tracing::error!("the broker refuses {filter} (check its access list)");
            }
        }
        if self.subscribing.is_empty() {
            self.subscribing = Vec::new();
            self.witness.borrow_mut().hears_again();
            tracing::info!("listening on {}", self.events.mqtt_options.broker_address().0);
        }
    }

    async fn asked(&mut self, ask: &Publish) -> Result<(), String> {
        let reply = self.witness.borrow_mut().handle(&ask.topic, &ask.payload, ask.retain).map(|reply| {
            // Never retained: a late answer is worth nothing.
            Publish::new(reply.topic, QoS::AtMostOnce, reply.payload)
        });
        if let (Some(reply), Some(network)) = (reply, self.events.network.as_mut()) {
            self.unflushed = true;
            in_time(network.write(Packet::Publish(reply))).await?;
        }
        Ok(())
    }

    /// Sends what has been written once every packet that was read is handled: ten answers then take one system call.
    async fn flush_when_read(&mut self) -> Result<(), String> {
        if !self.unflushed || !self.events.state.events.is_empty() {
            return Ok(());
        }
        self.unflushed = false;
        match self.events.network.as_mut() {
            Some(network) => in_time(network.flush()).await,
            None => Ok(()),
        }
    }
}

async fn in_time(write: impl Future<Output = Result<(), StateError>>) -> Result<(), String> {
    match tokio::time::timeout(Duration::from_secs(NETWORK_TIMEOUT_S), write).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("it does not take what is sent to it".to_owned()),
    }
}

/// Between half of `wait` and one and a half: many that lost one broker do not come back in step.
fn jittered(wait: Duration) -> Duration {
    let mut random = [0; 2];
    // Without random numbers it is the middle.
    let random =
        if SystemRandom::new().fill(&mut random).is_ok() { u16::from_le_bytes(random) } else { 1 << 15 };
    wait / 2 + wait * u32::from(random) / (1 << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_limit_and_begin_anew_after_a_good_connection() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..7).map(|_| backoff.next(false).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3000, 3000]);
        assert_eq!((backoff.next(true).as_millis(), backoff.next(false).as_millis()), (100, 200));
    }

    #[test]
    fn jitter_stays_within_half_and_one_and_a_half() {
        for _ in 0..1000 {
            let wait = jittered(Duration::from_secs(10));
            assert!((Duration::from_secs(5)..Duration::from_secs(15)).contains(&wait), "{wait:?}");
        }
    }
}
