//! What central monitoring hears: this host's state (retained, with a last will) and each record. Nothing here decides or
//! delays anything; it is the first to be shed under load (SAFE-12), and no host acts on it (SAFE-11). Orders from afar come by the
//! same session and are only passed on.
//!
//! Each event goes through the spool on the disk ([`keeper`]) and leaves it once the broker has acknowledged it, so that a broker
//! that is away, or a restart of the agent, costs none; it may come twice, with the same id. What is retained is not spooled: only
//! the newest of each topic says anything, so of those one each waits, in memory, and an older one goes before any event does.

mod keeper;
mod ledger;
mod said;
mod spool;
mod store;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use palisade_core::config::{Cluster, Level};
use palisade_core::health::LevelReport;
use palisade_core::status::Status;
use rumqttc::{AsyncClient, LastWill, Publish, QoS};
use tokio::sync::mpsc;

use crate::counters::{Counters, OrderRefused};
use crate::health::Health;
use crate::mqtt::{self, Access, Session, Settings, Talk};
pub(crate) use keeper::{Keeper, Outlet, Seat, outlet};
pub(crate) use said::{SCHEMA, Teller, since_epoch};
use spool::Item;

/// What may wait for the session: the events under way, and states.
pub(crate) const QUEUE: usize = 64;
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// The longest message and its topic. A state of 32 hosts and 256 workloads takes half of it.
const PACKET_MAX: usize = said::EVENT_BYTES_MAX + 1024;

/// One thing to tell.
pub(crate) enum Tell {
    /// This host's state changed, or its time has come.
    State(Box<Status>),
    /// An event of the spool, for this session.
    Spooled(Item, u64),
    /// The answer to an order from afar.
    Order(Vec<u8>),
}

/// Keeps the session up until `outbox` closes. A configuration without telemetry ends it at once. `out` is the other end of
/// `outbox`, for the spool.
pub(crate) async fn run(
    cluster: &Cluster,
    host: &str,
    access: Access,
    session: &Session,
    (out, outbox, orders): (mpsc::WeakSender<Tell>, mpsc::Receiver<Tell>, Option<mpsc::Sender<Vec<u8>>>),
    keeper: Keeper,
    counters: Arc<Counters>,
    health: Health,
) {
    let Some(telemetry) = cluster.telemetry() else {
        return;
    };
    let state_topic = format!("palisade/{}/host/{host}/state", cluster.name());
    let gone = said::gone(cluster.name(), host);
    let settings = Settings {
        broker: telemetry.broker().clone(),
        client_id: format!("palisade-{}-{host}-telemetry", cluster.name()),
        access,
        keep_alive: KEEP_ALIVE,
        last_will: Some(LastWill::new(state_topic.as_str(), gone, QoS::AtLeastOnce, true)),
        queue: QUEUE,
        packet_max: PACKET_MAX,
    };
    let talk = Telling {
        event_topic: format!("palisade/{}/event", cluster.name()),
        health_topic: format!("palisade/{}/host/{host}/health", cluster.name()),
        health,
        told_health: Vec::new(),
        order_topic: format!("palisade/{}/host/{host}/order", cluster.name()),
        command_topic: format!("palisade/{}/command", cluster.name()),
        orders,
        state_topic,
        state: None,
        keeper,
        out,
        begun: None,
        unnamed: VecDeque::new(),
        named: VecDeque::new(),
        counters,
    };
    mqtt::keep(settings, session, outbox, talk).await;
}

struct Telling {
    state_topic: String,
    event_topic: String,
    order_topic: String,
    command_topic: String,
    /// To whom orders from afar go; absent where none are taken.
    orders: Option<mpsc::Sender<Vec<u8>>>,
    /// Of all four levels; each has one below it.
    health_topic: String,
    health: Health,
    /// What is retained there.
    told_health: Vec<LevelReport>,
    /// What is retained at the broker, to be said again after the last will has replaced it.
    state: Option<Vec<u8>>,
    keeper: Keeper,
    out: mpsc::WeakSender<Tell>,
    /// By which number the spool knows this session.
    begun: Option<u64>,
    /// What was published and has no packet identifier yet, in order: an event's number, or none for what is not spooled.
    unnamed: VecDeque<Option<u64>>,
    /// Packet identifiers that the broker is to acknowledge, with the number of the event.
    named: VecDeque<(u16, Option<u64>)>,
    counters: Arc<Counters>,
}

impl Telling {
    fn publish(&mut self, topic: Topic, payload: Vec<u8>, number: Option<u64>, client: &AsyncClient) -> bool {
        let (topic, retain) = match topic {
            Topic::State => (self.state_topic.clone(), true),
            Topic::Health(level) => (format!("{}/{}", self.health_topic, level.name()), true),
            Topic::Event => (self.event_topic.clone(), false),
            Topic::Order => (self.order_topic.clone(), false),
        };
        let fits = payload.len() + topic.len() + 16 <= PACKET_MAX;
        if !fits || client.try_publish(topic, QoS::AtLeastOnce, retain, payload).is_err() {
            self.counters.telemetry_shed.count();
            return false;
        }
        self.unnamed.push_back(number);
        true
    }

    /// Tells of each level that has changed, but for the ages of its samples.
    fn tell_health(&mut self, client: &AsyncClient) {
        let levels = self.health.board().levels(Health::now());
        for (at, level) in levels.into_iter().enumerate() {
            if self.told_health.get(at).is_some_and(|told| said::is_same(told, &level)) {
                continue;
            }
            let payload = said::level(&level, SystemTime::now());
            if !self.publish(Topic::Health(level.level), payload, None, client) {
                return;
            }
            match self.told_health.get_mut(at) {
                Some(told) => *told = level,
                None => self.told_health.push(level),
            }
        }
    }

    fn begin(&mut self) {
        self.begun = self.keeper.begin(self.out.clone());
    }
}

#[derive(Clone, Copy)]
enum Topic {
    State,
    Health(Level),
    Event,
    Order,
}

impl Talk for Telling {
    type Out = Tell;

    fn topic(&self) -> Option<&str> {
        self.orders.as_ref().map(|_| self.command_topic.as_str())
    }

    fn connected(&mut self, client: &AsyncClient) {
        self.unnamed.clear();
        self.named.clear();
        self.counters.telemetry_connected.set(1);
        // The last will has replaced what was retained.
        if let Some(state) = self.state.clone() {
            self.publish(Topic::State, state, None, client);
        }
        self.told_health.clear();
        self.tell_health(client);
        self.begin();
    }

    fn lost(&mut self) {
        self.begun = None;
        self.counters.telemetry_connected.set(0);
    }

    fn say(&mut self, tell: Tell, client: &AsyncClient) {
        match tell {
            Tell::State(status) => {
                let state = said::state(&status, SystemTime::now());
                self.state = Some(state.clone());
                self.publish(Topic::State, state, None, client);
                self.tell_health(client);
            }
            Tell::Order(answer) => {
                self.publish(Topic::Order, answer, None, client);
            }
            // Handed over for the connection before this one: told again for this one, in order.
            Tell::Spooled(_, session) if self.begun != Some(session) => {}
            Tell::Spooled(Item { number, payload }, _) => {
                if !self.publish(Topic::Event, payload, Some(number), client) {
                    // It stays in the spool; what comes after it must not overtake it.
                    self.begin();
                }
            }
        }
    }

    fn keep(&mut self, tell: Tell) {
        match tell {
            Tell::State(status) => self.state = Some(said::state(&status, SystemTime::now())),
            Tell::Spooled(..) | Tell::Order(_) => {}
        }
    }

    fn sent(&mut self, packet: u16) {
        if let Some(number) = self.unnamed.pop_front() {
            self.named.push_back((packet, number));
        }
    }

    fn turned(&mut self) {
        // The spool had no room to hear of this session.
        if self.begun.is_none() {
            self.begin();
        }
    }

    fn acknowledged(&mut self, packet: u16) {
        let at = self.named.iter().position(|(named, _)| *named == packet);
        let number = at.and_then(|at| self.named.remove(at)).and_then(|(_, number)| number);
        if let Some(number) = number
            && !self.keeper.acknowledged(number)
        {
            // The spool does not know: it tells all again that it does not know of.
            self.begin();
        }
    }

    /// SAFE-11: nothing here looks at what it says.
    fn hear(&mut self, publish: Publish) {
        let Some(orders) = &self.orders else { return };
        if publish.retain {
            return self.counters.order_refused(OrderRefused::Retained);
        }
        if orders.try_send(publish.payload.to_vec()).is_err() {
            self.counters.order_refused(OrderRefused::Busy);
        }
    }
}

#[cfg(test)]
mod tests;
