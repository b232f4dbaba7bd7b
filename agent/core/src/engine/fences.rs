//! Whom the coordinator fences, within which limits, and how an order reaches a device: intent on the disk, standing checked,
//! then sent.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use palisade_ladder::{
    After, Command, DeviceId, Exhaustion, Failure, Fence, Level, Opening, Order, Outcome, Plan,
    PlannedDevice, Power, Response,
};
use palisade_proto::message::Presence;
use palisade_proto::mutant::{self, Mutant};
use palisade_proto::{HostId, Incarnation, Time};

use super::Engine;
use crate::action::{Action, DeviceOrder, OrderId, Ticket};
use crate::config::AfterOff;
use crate::record::Event;

/// The most victims fenced at once, most workloads first (DESIGN, "Proof").
const MAX_AT_ONCE: usize = 4;
/// Fence times kept for the budget; the budget itself is far below.
const MAX_FENCE_TIMES: usize = 256;

/// Everything under way with fence devices.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Fences {
    running: BTreeMap<Incarnation, Running>,
    intended: BTreeMap<Ticket, Intended>,
    flights: BTreeMap<OrderId, Flight>,
    next_order: u64,
    /// The last proof of each path, and what is wrong with it.
    pub(crate) paths: BTreeMap<DeviceId, Path>,
}

/// When a fence path was last proven, and how the last try ended.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Path {
    pub(crate) proven: Option<Time>,
    pub(crate) error: Option<String>,
}

/// Who ordered a fence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Authority {
    /// SAFE-2: the coordinator of a quorate view.
    Coordinator,
    /// An operator at this quorate host.
    Operator,
}

#[derive(Debug, Serialize, Deserialize)]
struct Running {
    fence: Fence,
    authority: Authority,
    opening: Opening,
    /// What the devices of the level that failed last had to say.
    setbacks: String,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Intended {
    Fence { victim: Incarnation, order: Order },
    PowerBack { host: HostId, device: DeviceId, deadline: Time },
    ColdOff { host: HostId, device: DeviceId, deadline: Time },
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Flight {
    victim: Option<Incarnation>,
    host: HostId,
    device: DeviceId,
    command: Command,
    attempt: u32,
    sent: Time,
}

impl Engine {
    pub(super) fn run_fences(&mut self) {
        self.give_up_unwanted();
        self.return_owed_power();
        self.start_fences();
        self.drive_fences();
    }

    /// A host that lost its power to an order of ours and has no fence any more gets it back, unless it is still to be fenced or
    /// has left since: nobody powers on what is in maintenance.
    fn return_owed_power(&mut self) {
        if self.power_owed.is_empty() || !self.is_quorate(self.now) {
            return;
        }
        let wanted = |host: HostId| {
            let outside = self.electorate.living().filter(|who| !self.view.contains(who));
            outside.chain(self.fences.running.keys().copied()).any(|who| who.host == host)
        };
        let (later, now): (Vec<HostId>, Vec<HostId>) =
            self.power_owed.iter().partition(|host| wanted(**host));
        self.power_owed = later;
        for host in now {
            let left = self.accepted(host).is_some_and(|last| last.heartbeat.presence == Presence::Left);
            if !left {
                self.give_back_power(host);
            }
        }
    }

    /// PROTOCOL, "Acting": "The coordinator of a quorate view fences every member of E\D not in V (except un-admitted ones it
    /// hears, within join_timeout, and those `away`, within restart_hold)."
    fn is_victim(&self, who: Incarnation) -> bool {
        if !self.electorate.is_living(who) || self.view.contains(&who) || who == self.me {
            return false;
        }
        // Another life of that host stands in the view: its power is not ours to cut, and its heartbeat proves the old one dead.
        if self.view.iter().any(|member| member.host == who.host) {
            return false;
        }
        let timely = self.now < self.counted_since(who).after(self.timing().join_timeout());
        !(timely && self.hears_joining(who)) && self.hold_ends(who).is_none_or(|end| self.now >= end)
    }

    fn hears_joining(&self, who: Incarnation) -> bool {
        self.hears(who).is_some_and(|heartbeat| heartbeat.presence == Presence::Joining)
    }

    /// "The coordinator does not fence x until restart_hold [...] after it first accepted `away`". A process in whose view a
    /// member has never stood cannot know whether that has said `away`: agents that are restarted together, as an upgrade
    /// does, miss one another's word. So it waits as long from its own beginning on.
    fn hold_ends(&self, who: Incarnation) -> Option<Time> {
        let away = self.peers.get(&who.host).and_then(|peer| peer.away_since);
        let said = away.filter(|_| self.heartbeat_of(who).is_some() && !mutant::on(Mutant::HoldIgnored));
        let unknown = !self.outside_since.contains_key(&who)
            && !self.hears_joining(who)
            && !mutant::on(Mutant::UnknownsFenced);
        let since = said.max(unknown.then(|| self.counted_since(who)))?;
        Some(since.after(self.timing().restart_hold()))
    }

    /// Since when this process has counted a member: since it learned of it, or since it began.
    fn counted_since(&self, who: Incarnation) -> Time {
        self.joining.get(&who).copied().unwrap_or(self.started)
    }

    fn give_up_unwanted(&mut self) {
        let unwanted: Vec<Incarnation> = self
            .fences
            .running
            .iter()
            .filter(|(who, running)| {
                !running.fence.has_proven() && !self.is_wanted(**who, &running.authority)
            })
            .map(|(who, _)| *who)
            .collect();
        for who in unwanted {
            self.abandon(who);
            let what = format!("the fence of {} goes no further", self.name(who.host));
            let why = match () {
                () if self.electorate.is_dead(who) => "it is proven dead".to_owned(),
                () if self.view.contains(&who) => "it is back in the view".to_owned(),
                () if !self.is_quorate(self.now) => "this host has lost its quorum".to_owned(),
                () => "this host is not the coordinator any more".to_owned(),
            };
            self.record(Event::Withheld { what, why });
        }
        let outside = self.electorate.living().filter(|who| !self.view.contains(who));
        let holds: Vec<Time> = outside.filter_map(|who| self.hold_ends(who)).collect();
        holds.into_iter().for_each(|end| self.wake_at(end));
    }

    fn is_wanted(&self, who: Incarnation, authority: &Authority) -> bool {
        match authority {
            Authority::Coordinator => self.is_coordinator(self.now) && self.is_victim(who),
            Authority::Operator => {
                self.is_quorate(self.now) && !self.is_about_to_leave() && self.electorate.is_living(who)
            }
        }
    }

    fn abandon(&mut self, who: Incarnation) {
        let Some(running) = self.fences.running.remove(&who) else { return };
        if running.fence.has_cut() && !running.fence.has_proven() {
            self.spend_budget(who);
            if self.hears_another_life(who) && !self.power_owed.contains(&who.host) {
                self.power_owed.push(who.host);
            }
        }
        let abandoned = running.fence.abandon();
        self.fences
            .intended
            .retain(|_, intended| !matches!(intended, Intended::Fence { victim, .. } if *victim == who));
        let cancelled: Vec<OrderId> = self
            .fences
            .flights
            .iter()
            .filter(|(_, flight)| flight.victim == Some(who) && abandoned.in_flight.contains(&flight.device))
            .map(|(id, _)| *id)
            .collect();
        for id in cancelled {
            self.fences.flights.remove(&id);
            self.actions.push_back(Action::CancelDevice(id));
        }
    }

    /// Whether the host has come back by itself: only then is its power ours to give back. Whoever was confirmed dead by hand
    /// may have somebody at the open machine.
    fn hears_another_life(&self, who: Incarnation) -> bool {
        self.accepted(who.host).is_some_and(|last| {
            let now = last.heartbeat.from;
            now != who && !self.electorate.is_dead(now) && last.heartbeat.presence != Presence::Left
        })
    }

    fn start_fences(&mut self) {
        if !self.is_coordinator(self.now) {
            self.alarms.clear(&mut self.actions, "budget");
            return self.alarms.clear(&mut self.actions, "journal fencing");
        }
        let mut victims: Vec<Incarnation> =
            self.electorate.living().filter(|who| self.is_victim(*who)).collect();
        if victims.is_empty() {
            self.alarms.clear(&mut self.actions, "budget");
            return;
        }
        // SAFE-5: "If the journal cannot be written, automatic fencing stops and says so".
        if let Some(error) = self.journal_failing.clone() {
            let what = format!("automatic fencing stands still: the journal cannot be written ({error})");
            return self.alarms.raise_for(&mut self.actions, "journal fencing".to_owned(), what);
        }
        self.alarms.clear(&mut self.actions, "journal fencing");
        victims.sort_by_key(|who| {
            std::cmp::Reverse(self.heartbeat_of(*who).map_or(0, |heartbeat| heartbeat.busy.len()))
        });
        let mut spent = false;
        for who in victims {
            let opening = if self.budget_left(who) { Opening::LookFirst } else { Opening::OnlyIfOff };
            spent |= opening == Opening::OnlyIfOff;
            match self.fences.running.get(&who) {
                // The budget is free again: a fence that could only look may cut now.
                Some(running) if running.opening == Opening::OnlyIfOff && opening == Opening::LookFirst => {
                    self.abandon(who)
                }
                Some(_) => continue,
                None => {}
            }
            let under_way =
                self.fences.running.values().filter(|running| !running.fence.has_proven()).count();
            if under_way >= MAX_AT_ONCE {
                break;
            }
            let because = self.why_fence(who);
            self.start_fence(who, Authority::Coordinator, opening, because);
        }
        // One victim may be within the budget and another not: the alarm is about any.
        let fencing = self.cluster.fencing();
        let (budget, window) = (fencing.budget(), fencing.budget_window());
        let what = spent.then(|| {
            format!("the fence budget of {budget} in {window} is spent: hosts are fenced only if they read off already")
        });
        self.alarms.set(&mut self.actions, "budget", what);
    }

    /// SAFE-8: "Fences are limited: by default at most floor(n/2) in 10 minutes, counted on every host from gossiped deaths".
    /// A fence under way counts as spent; a victim does not stand in its own way.
    fn budget_left(&mut self, victim: Incarnation) -> bool {
        let window = self.cluster.fencing().budget_window();
        self.forget_fences();
        let under_way = self
            .fences
            .running
            .iter()
            .filter(|(who, running)| {
                !running.fence.has_proven() && running.opening != Opening::OnlyIfOff && **who != victim
            })
            .map(|(who, _)| *who);
        let cut = self.fence_times.iter().map(|(who, _)| *who).filter(|who| *who != victim);
        let spent = under_way.chain(cut).collect::<std::collections::BTreeSet<_>>().len();
        let budget = self.cluster.fencing().budget();
        let left = spent < budget as usize || mutant::on(Mutant::BudgetIgnored);
        if let Some((_, first)) = self.fence_times.first()
            && !left
        {
            self.wake_at(first.after(window));
        }
        left
    }

    /// A fence cut the power of this life, or may have.
    pub(super) fn spend_budget(&mut self, victim: Incarnation) {
        self.forget_fences();
        if !self.has_spent_budget(victim) {
            self.fence_times.push((victim, self.now));
        }
    }

    /// Whether a fence within the window cut the power of this life, or may have.
    pub(super) fn has_spent_budget(&self, victim: Incarnation) -> bool {
        self.fence_times.iter().any(|(who, _)| *who == victim)
    }

    fn forget_fences(&mut self) {
        let (now, window) = (self.now, self.cluster.fencing().budget_window());
        self.fence_times.retain(|(_, time)| now < time.after(window));
        let excess = self.fence_times.len().saturating_sub(MAX_FENCE_TIMES);
        self.fence_times.drain(..excess);
    }

    fn why_fence(&self, who: Incarnation) -> String {
        match self.accepted(who.host).filter(|accepted| accepted.heartbeat.from == who) {
            None => "it is counted and this process has never heard it".to_owned(),
            Some(accepted) if self.hears(who).is_none() => {
                format!("not heard for {} ms", self.now.since(accepted.at).0)
            }
            Some(accepted) if accepted.heartbeat.presence == Presence::Joining => {
                format!("it did not become a member within {}", self.timing().join_timeout())
            }
            Some(accepted) if accepted.heartbeat.presence == Presence::Away => {
                format!("it announced a restart and has not returned within {}", self.timing().restart_hold())
            }
            Some(_) => "it is heard, but not linked with every member of the view".to_owned(),
        }
    }

    pub(super) fn start_fence(
        &mut self,
        who: Incarnation,
        authority: Authority,
        opening: Opening,
        because: String,
    ) {
        let plan = self.plan(who.host, opening);
        let victim = self.who(who);
        self.record(Event::FenceDecided { victim, because });
        let fence = Fence::new(who, plan, self.now);
        self.fences.running.insert(who, Running { fence, authority, opening, setbacks: String::new() });
    }

    pub(super) fn is_fencing(&self, who: Incarnation) -> bool {
        self.fences.running.get(&who).is_some_and(|running| !running.fence.has_proven())
    }

    fn plan(&self, host: HostId, opening: Opening) -> Plan {
        let mut levels: BTreeMap<u8, Level> = BTreeMap::new();
        let reads_soon = self.cluster.devices_of(host).all(|device| device.kind().reads_soon());
        // A look that is cut off tells nothing, and costs its time.
        let opening = match opening {
            Opening::LookFirst if !reads_soon => Opening::CutAtOnce,
            Opening::LookFirst | Opening::CutAtOnce | Opening::OnlyIfOff => opening,
        };
        for (id, device) in (0u16..).zip(self.cluster.devices()).filter(|(_, device)| device.fences() == host)
        {
            levels.entry(device.level()).or_default().devices.push(PlannedDevice {
                id: DeviceId(id),
                deadline: device.deadline(),
                retries: device.retries(),
            });
        }
        let after_off = match self.cluster.fencing().after_off() {
            AfterOff::On => After::On,
            AfterOff::Off => After::Off,
        };
        Plan {
            levels: levels.into_values().collect(),
            opening,
            after_off,
            order_deadline: self.timing().order_deadline(),
        }
    }

    fn drive_fences(&mut self) {
        let victims: Vec<Incarnation> = self.fences.running.keys().copied().collect();
        for who in victims {
            // An outcome may begin something (giving the power back) that orders in the same turn.
            while self.drive_fence(who) {}
            match self.fences.running.get(&who).map(|running| (running.fence.is_done(), running.fence.wake()))
            {
                Some((true, _)) => self.abandon(who),
                Some((false, Some(at))) => self.wake_at(at),
                Some((false, None)) | None => {}
            }
        }
    }

    /// One order or outcome of a fence; false when there is neither.
    fn drive_fence(&mut self, who: Incarnation) -> bool {
        let now = self.now;
        let Some(running) = self.fences.running.get_mut(&who) else { return false };
        if let Some(order) = running.fence.poll_order(now) {
            self.intend(who, order);
            return true;
        }
        if let Some(outcome) = running.fence.poll_outcome() {
            self.take_outcome(who, outcome);
            return true;
        }
        false
    }

    /// SAFE-5: the intent is on the disk before a command that changes anything leaves. A reading changes nothing and waits
    /// for nothing.
    fn intend(&mut self, victim: Incarnation, order: Order) {
        let event = Event::OrderIntended {
            victim: self.who(victim),
            device: self.device_name(order.device),
            command: order.command,
            attempt: order.attempt,
        };
        match order.command {
            Command::PowerOff | Command::PowerOn => {
                let ticket = self.record_intent(event);
                self.fences.intended.retain(|_, intended| {
                    !matches!(intended, Intended::Fence { victim: other, order: older } if *other == victim && older.device == order.device)
                });
                if mutant::on(Mutant::OrderUnintended) {
                    return self.send_order(victim, order);
                }
                self.fences.intended.insert(ticket, Intended::Fence { victim, order });
            }
            Command::ReadPower | Command::Prove => {
                let id = self.send_to_device(victim.host, order.device, order.command, order.deadline);
                let flight = Flight {
                    victim: Some(victim),
                    host: victim.host,
                    device: order.device,
                    command: order.command,
                    attempt: order.attempt,
                    sent: self.now,
                };
                self.fences.flights.insert(id, flight);
            }
        }
    }

    /// An intent is durable: check standing, send. True if the ticket was a fence's.
    pub(super) fn fence_durable(&mut self, ticket: Ticket) -> bool {
        match self.fences.intended.remove(&ticket) {
            Some(Intended::Fence { victim, order }) => self.send_order(victim, order),
            Some(Intended::ColdOff { host, device, deadline }) => {
                if self.holds_consent(host) && self.now < deadline {
                    let id = self.send_to_device(host, device, Command::PowerOff, deadline);
                    let flight = Flight {
                        victim: None,
                        host,
                        device,
                        command: Command::PowerOff,
                        attempt: 1,
                        sent: self.now,
                    };
                    self.fences.flights.insert(id, flight);
                }
            }
            Some(Intended::PowerBack { host, device, deadline }) => {
                if self.is_quorate(self.now) && self.now < deadline {
                    let id = self.send_to_device(host, device, Command::PowerOn, deadline);
                    let flight = Flight {
                        victim: None,
                        host,
                        device,
                        command: Command::PowerOn,
                        attempt: 1,
                        sent: self.now,
                    };
                    self.fences.flights.insert(id, flight);
                }
            }
            None => return false,
        }
        true
    }

    fn send_order(&mut self, victim: Incarnation, order: Order) {
        let Some(running) = self.fences.running.get(&victim) else { return };
        // SAFE-2: standing is checked immediately before each device command. Power comes back only by a quorate host's order.
        let allowed = match order.command {
            Command::PowerOff | Command::PowerOn if mutant::on(Mutant::StaleStanding) => true,
            Command::PowerOff => self.is_wanted(victim, &running.authority),
            Command::PowerOn | Command::ReadPower | Command::Prove => self.is_quorate(self.now),
        };
        if allowed && self.now < order.deadline {
            let id = self.send_to_device(victim.host, order.device, order.command, order.deadline);
            let flight = Flight {
                victim: Some(victim),
                host: victim.host,
                device: order.device,
                command: order.command,
                attempt: order.attempt,
                sent: self.now,
            };
            self.fences.flights.insert(id, flight);
            return;
        }
        let (now, device) = (self.now, self.device_name(order.device));
        // Past its deadline the fence has counted it as unanswered, and may have another one in flight by now.
        if now < order.deadline
            && let Some(running) = self.fences.running.get_mut(&victim)
        {
            running.fence.withdraw(order.device, now);
        }
        let why = if allowed {
            "the journal took longer than the order's deadline"
        } else {
            "standing was lost while the journal wrote"
        };
        self.record(Event::Withheld { what: format!("sending the order to {device}"), why: why.to_owned() });
    }

    pub(super) fn send_to_device(
        &mut self,
        host: HostId,
        device: DeviceId,
        command: Command,
        deadline: Time,
    ) -> OrderId {
        self.fences.next_order += 1;
        let id = OrderId(self.fences.next_order);
        let standing_until = match command {
            // SAFE-2: without standing it may not be sent at all.
            Command::PowerOff | Command::PowerOn => Some(self.standing_for(command).unwrap_or(self.now)),
            Command::ReadPower | Command::Prove => None,
        };
        let order = DeviceOrder { id, device, host, command, deadline, standing_until };
        self.actions.push_back(Action::Device(order));
        id
    }

    /// SAFE-2: until when a power order under way may be put on the wire, as things are now; none if it may not any more.
    #[must_use]
    pub fn order_stands_until(&self, id: OrderId) -> Option<Time> {
        let flight = self.fences.flights.get(&id)?;
        let stands = match (flight.command, flight.victim) {
            (Command::PowerOff, Some(victim)) => {
                let running = self.fences.running.get(&victim);
                running.is_some_and(|running| self.is_wanted(victim, &running.authority))
            }
            (Command::PowerOff, None) => self.holds_consent(flight.host),
            (Command::PowerOn, _) => self.is_quorate(self.now),
            (Command::ReadPower | Command::Prove, _) => false,
        };
        stands.then(|| self.standing_for(flight.command)).flatten()
    }

    /// How far this host's right to switch power reaches: its quorum, or in a cold start the witness's consent to an off.
    fn standing_for(&self, command: Command) -> Option<Time> {
        if command == Command::PowerOff && !self.is_admitted() {
            self.cold.consent_until()
        } else {
            self.quorum_until
        }
    }

    /// A device answered an order, or its deadline passed.
    pub fn handle_device(&mut self, order: OrderId, answer: Result<Response, Failure>, now: Time) {
        self.begin(now);
        if !self.take_cold_reading(order, &answer)
            && let Some(flight) = self.fences.flights.remove(&order)
        {
            let event = Event::OrderAnswered {
                victim: self.who(flight.victim.unwrap_or(Incarnation::new(flight.host, [0; 8]))),
                device: self.device_name(flight.device),
                command: flight.command,
                answer: answer_in_words(&answer),
                took_ms: self.now.since(flight.sent).0,
            };
            self.record(event);
            if let Some(running) = flight.victim.and_then(|victim| self.fences.running.get_mut(&victim)) {
                running.fence.handle_answer(flight.device, flight.command, flight.attempt, answer, self.now);
            }
            if flight.victim.is_none() && flight.command == Command::PowerOff {
                self.cold.read_at_once(flight.host);
            }
            // The proof is taken before anything else happens: what it releases should not wait for another input.
            self.drive_fences();
        }
        self.settle();
    }

    /// A fence path was tried without harm: it works, or why not.
    pub fn handle_fence_path(
        &mut self,
        device: DeviceId,
        result: Result<palisade_ladder::Proven, Failure>,
        now: Time,
    ) {
        self.begin(now);
        let path = self.fences.paths.entry(device).or_default();
        let error = match result {
            Ok(proven) if proven.may_fence => {
                path.proven = Some(self.now);
                None
            }
            Ok(_) => Some("the login may not switch power".to_owned()),
            Err(failure) => Some(failure.to_string()),
        };
        path.error.clone_from(&error);
        let what =
            error.map(|error| format!("the fence path {} does not work: {error}", self.device_name(device)));
        self.alarms.set(&mut self.actions, &format!("path {}", device.0), what);
        self.settle();
    }

    fn take_outcome(&mut self, who: Incarnation, outcome: Outcome) {
        let key = format!("fence {}", who.host);
        let (name, now) = (self.name(who.host).to_owned(), self.now);
        match outcome {
            Outcome::Proven(proof) => {
                self.alarms.clear(&mut self.actions, &key);
                if mutant::on(Mutant::ProofNamesTheLiving) {
                    let now_there: Vec<Incarnation> = self.electorate.of_host(who.host).collect();
                    now_there.into_iter().for_each(|life| {
                        self.bury(palisade_ladder::Proof::gossiped(life, who, false, now));
                    });
                }
                self.bury(proof);
                if let Some(running) = self.fences.running.get_mut(&who) {
                    running.fence.power_on_phase(now);
                }
            }
            Outcome::Assumed { device, attempt } => {
                let what = format!("taking {name} for dead after try {attempt}");
                let why = format!(
                    "{} acknowledged the off, but nothing could be read back",
                    self.device_name(device)
                );
                self.record(Event::Withheld { what, why });
            }
            Outcome::Withheld { device, reads } => {
                let what = format!("cutting the power of {name}");
                let why = format!(
                    "the fence budget is spent and {} reads {}",
                    self.device_name(device),
                    power_in_words(reads)
                );
                self.record(Event::Withheld { what, why });
            }
            Outcome::WrongIdentity { device, failure } => {
                let what = format!(
                    "{}: {failure}; nothing was ordered, and it is not used again for this fence",
                    self.device_name(device)
                );
                self.alarms.raise_for(&mut self.actions, format!("identity {}", device.0), what);
            }
            Outcome::LevelFailed { level, setbacks } => {
                let what = format!("taking {name} for dead by fence level {}", level + 1);
                let told: Vec<String> = setbacks
                    .iter()
                    .map(|(device, setback)| format!("{}: {setback}", self.device_name(*device)))
                    .collect();
                let why = if told.is_empty() { "it has no device".to_owned() } else { told.join("; ") };
                if let Some(running) = self.fences.running.get_mut(&who) {
                    running.setbacks.clone_from(&why);
                }
                self.record(Event::Withheld { what, why });
            }
            Outcome::Exhausted { why, retry_at } => {
                let why = match why {
                    Exhaustion::EveryLevelFailed => "no level could prove",
                    Exhaustion::OrderDeadline => "the order's deadline passed",
                    Exhaustion::NothingToTry => "there is no device to try",
                };
                let setbacks = self.fences.running.get(&who).map_or("", |running| running.setbacks.as_str());
                let why = if setbacks.is_empty() { why.to_owned() } else { format!("{why}: {setbacks}") };
                let retry_in_ms = retry_at.map_or(0, |at| at.since(now).0);
                let victim = self.who(who);
                self.record(Event::FenceFailed { victim, why: why.clone(), retry_in_ms });
                let what = format!(
                    "{name} cannot be fenced ({why}); its workloads stay down until it is proven dead; if it surely is, say `palisade confirm {name}`"
                );
                self.alarms.raise_for(&mut self.actions, key, what);
            }
            Outcome::PowerRestored { .. } => {}
            Outcome::PowerNotRestored { device, setback } => {
                let what = format!(
                    "{name} stays off: {} did not give the power back ({setback})",
                    self.device_name(device)
                );
                self.alarms.raise_for(&mut self.actions, format!("power {}", who.host), what);
            }
        }
    }

    /// A cold start's off, with the witness's consent: intent first.
    pub(super) fn cold_off(&mut self, host: HostId) {
        let waiting = self
            .fences
            .intended
            .values()
            .any(|intended| matches!(intended, Intended::ColdOff { host: other, .. } if *other == host))
            || self.fences.flights.values().any(|flight| flight.host == host && flight.victim.is_none());
        if waiting || self.journal_failing.is_some() {
            return;
        }
        self.cold.force(host, self.now);
        for (device, deadline, ticket) in self.intend_on_all(host, Command::PowerOff) {
            self.fences.intended.insert(ticket, Intended::ColdOff { host, device, deadline });
        }
    }

    /// A cold start cut this host's power, and an electorate stands now: the power comes back, as after any fence.
    pub(super) fn give_back_power(&mut self, host: HostId) {
        if self.cluster.fencing().after_off() == AfterOff::Off {
            return;
        }
        for (device, deadline, ticket) in self.intend_on_all(host, Command::PowerOn) {
            self.fences.intended.insert(ticket, Intended::PowerBack { host, device, deadline });
        }
    }

    fn intend_on_all(&mut self, host: HostId, command: Command) -> Vec<(DeviceId, Time, Ticket)> {
        let devices: Vec<(DeviceId, Time)> = (0u16..)
            .zip(self.cluster.devices())
            .filter(|(_, device)| device.fences() == host)
            .map(|(id, device)| (DeviceId(id), self.now.after(device.deadline())))
            .collect();
        let victim = self.who(Incarnation::new(host, [0; 8]));
        let mut intents = Vec::new();
        for (device, deadline) in devices {
            let name = self.device_name(device);
            let event = Event::OrderIntended { victim: victim.clone(), device: name, command, attempt: 1 };
            intents.push((device, deadline, self.record_intent(event)));
        }
        intents
    }

    pub(super) fn device_name(&self, device: DeviceId) -> String {
        self.cluster
            .devices()
            .get(usize::from(device.0))
            .map_or_else(|| format!("device {}", device.0), |device| device.name().to_owned())
    }

    /// The configuration changed: device ids mean something else now.
    pub(super) fn forget_devices(&mut self) {
        let running: Vec<Incarnation> = self.fences.running.keys().copied().collect();
        running.into_iter().for_each(|who| self.abandon(who));
        self.fences.intended.clear();
        self.fences.flights.clear();
        self.fences.paths.clear();
        self.cold.forget_devices();
    }
}

fn answer_in_words(answer: &Result<Response, Failure>) -> String {
    match answer {
        Ok(Response::Acknowledged) => "acknowledged".to_owned(),
        Ok(Response::AlreadySo) => "refused, it is so already".to_owned(),
        Ok(Response::Power(power)) => format!("reads {}", power_in_words(*power)),
        Ok(Response::Proven(proven)) => format!("works, identity {}", proven.identity),
        Err(failure) => failure.to_string(),
    }
}

fn power_in_words(power: Power) -> &'static str {
    match power {
        Power::On => "on",
        Power::Off => "off",
        Power::Unknown => "neither on nor off",
    }
}
