//! Whom the coordinator fences, and how a fence goes on: its power, and beside it or after it one way of isolation.

mod budget;
mod isolation;
mod orders;
mod outcomes;
mod restore;
mod wall;

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

use palisade_ladder::{
    Abandoned, After, Command, DeviceId, Effect, Fence, Level, Opening, Order, Plan, PlannedDevice,
};
use palisade_proto::message::Presence;
use palisade_proto::mutant::{self, Mutant};
use palisade_proto::{HostId, Incarnation, Seq, Time};

use super::Engine;
use crate::action::{Action, OrderId, Ticket};
use crate::config::{AfterOff, Device, FencingMode};
use crate::record::Event;

use restore::Restore;
use wall::Wall;

/// The most victims fenced at once, most workloads first (DESIGN, "Proof").
const MAX_AT_ONCE: usize = 4;

/// Everything under way with fence devices.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Fences {
    running: BTreeMap<Incarnation, Running>,
    restores: BTreeMap<(HostId, Effect), Restore>,
    /// Lives that are not counted yet whose paths read open, by an order that nothing of ours can undo any more.
    opened: BTreeSet<Incarnation>,
    /// Until when an order that was never answered may execute, of those that open or close the paths of a host.
    unsettled: BTreeMap<(HostId, Effect), Time>,
    /// Whose paths this host closed in a life that is dead, and has not opened since.
    closed: BTreeSet<HostId>,
    /// What this host's own firewall does about the others.
    walls: BTreeMap<HostId, Wall>,
    /// The seq that whoever answers the last order about everybody's firewalls has heard.
    wall_orders: BTreeMap<HostId, Seq>,
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
    power: Fence,
    /// Its storage or its network; absent while power alone is tried, and where there is no such device.
    isolation: Option<Fence>,
    authority: Authority,
    opening: Opening,
    /// The highest level of power that failed: what comes after it in the ladder may begin.
    power_failed: Option<u8>,
    /// What the devices of the level that failed last had to say.
    setbacks: String,
}

impl Running {
    fn chain(&mut self, effect: Effect) -> Option<&mut Fence> {
        match effect {
            Effect::Power => Some(&mut self.power),
            Effect::Storage | Effect::Network => self.isolation.as_mut(),
        }
    }
}

/// What an order is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Purpose {
    Fence(Incarnation),
    Restore(HostId, Effect),
    Cold(HostId),
    /// To keep this life out by this host's own firewall, or to let its host through again.
    Wall(Incarnation),
}

impl Purpose {
    fn host(self) -> HostId {
        match self {
            Self::Fence(victim) | Self::Wall(victim) => victim.host,
            Self::Restore(host, _) | Self::Cold(host) => host,
        }
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Intended {
    purpose: Purpose,
    order: Order,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Flight {
    purpose: Purpose,
    device: DeviceId,
    command: Command,
    attempt: u32,
    sent: Time,
}

impl Engine {
    pub(super) fn run_fences(&mut self) {
        let shadow = self.cluster.fencing().mode() == FencingMode::Shadow;
        let what =
            shadow.then(|| "fencing is in shadow mode: no host is fenced, whatever happens".to_owned());
        self.alarms.set(&mut self.actions, "shadow", what);
        self.note_heard_again();
        self.give_up_unwanted();
        self.return_owed_power();
        self.open_closed_paths();
        self.open_own_paths();
        self.tell_quarantine();
        self.start_fences();
        self.drive_fences();
        self.run_walls();
    }

    /// PROTOCOL, "Acting": "The coordinator of a quorate view fences every member of E\D not in V (except un-admitted ones it
    /// hears, within join_timeout, and those `away`, within restart_hold)."
    pub(super) fn is_victim(&self, who: Incarnation) -> bool {
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
        let since = said.max(unknown.then(|| self.counted_since(who)));
        Some(since?.after(self.timing().restart_hold()))
    }

    /// Whoever is heard again after it was lost has not had the time to hear us: where a split heals, the witness may answer one side
    /// before the two are linked. Once for each time that it is lost, and no fence that has begun waits for it.
    fn note_heard_again(&mut self) {
        let outside: Vec<Incarnation> =
            self.electorate.living().filter(|who| !self.view.contains(who) && *who != self.me).collect();
        self.heard_again.retain(|who, _| outside.contains(who));
        for who in outside {
            let silent = self.hears(who).is_none();
            match self.heard_again.get(&who) {
                // Lost without a word, so far.
                None if silent => {
                    self.heard_again.insert(who, None);
                }
                Some(None) if !silent => {
                    self.heard_again.insert(who, Some(self.now));
                }
                Some(_) | None => {}
            }
        }
    }

    /// The witness answers after it did not for a while: it may be this host that was cut off and is back, and the witness the first
    /// that it hears. Whoever was lost meanwhile may be the next.
    pub(super) fn note_witness_again(&mut self) {
        self.heard_again.values_mut().for_each(|again| *again = again.or(Some(self.now)));
    }

    fn links_until(&self, who: Incarnation) -> Option<Time> {
        (*self.heard_again.get(&who)?).map(|again| again.after(self.timing().suspect()))
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
                !running.power.has_proven() && !self.is_wanted(**who, &running.authority)
            })
            .map(|(who, _)| *who)
            .collect();
        for who in unwanted {
            self.abandon(who);
            let what = format!("the fence of {} goes no further", self.name(who.host));
            let why = match () {
                () if self.electorate.is_dead(who) => "it is proven dead".to_owned(),
                () if self.view.contains(&who) => "it is back in the view".to_owned(),
                () if self.is_disarmed() => "an operator has disarmed fencing".to_owned(),
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
            Authority::Coordinator => {
                self.is_coordinator(self.now) && self.is_victim(who) && !self.is_disarmed()
            }
            Authority::Operator => {
                self.is_quorate(self.now) && !self.is_about_to_leave() && self.electorate.is_living(who)
            }
        }
    }

    fn abandon(&mut self, who: Incarnation) {
        self.abandon_isolation(who);
        let Some(running) = self.fences.running.remove(&who) else { return };
        let cut_in_vain = running.power.has_cut() && !running.power.has_proven();
        let owed = running.power.has_proven() && !running.power.is_done();
        let Abandoned { in_flight, settled_at, .. } = running.power.abandon(self.now);
        if cut_in_vain {
            self.spend_budget(who);
            if self.hears_another_life(who) {
                self.power_owed.insert(who.host, settled_at.max(self.now));
            }
        }
        if owed {
            self.power_owed.insert(who.host, settled_at.max(self.now));
        }
        self.cancel(Purpose::Fence(who), true, &in_flight);
    }

    /// Takes back whatever was not sent yet to switch the power, or else what isolates, and forgets what was sent to these devices.
    fn cancel(&mut self, purpose: Purpose, power: bool, in_flight: &[DeviceId]) {
        let cluster = &self.cluster;
        let is_power = |device: DeviceId| {
            let device = cluster.devices().get(usize::from(device.0));
            device.is_none_or(|device| device.effect() == Effect::Power)
        };
        self.fences
            .intended
            .retain(|_, intended| intended.purpose != purpose || is_power(intended.order.device) != power);
        let is_meant = |device: DeviceId| in_flight.contains(&device);
        let cancelled: Vec<OrderId> = self
            .fences
            .flights
            .iter()
            .filter(|(_, flight)| flight.purpose == purpose && is_meant(flight.device))
            .map(|(id, _)| *id)
            .collect();
        for id in cancelled {
            self.fences.flights.remove(&id);
            self.actions.push_back(Action::CancelDevice(id));
        }
    }

    /// Whether the host has come back by itself: only then is its power ours to give back. Whoever was confirmed dead by hand
    /// may have somebody at the open machine.
    pub(super) fn hears_another_life(&self, who: Incarnation) -> bool {
        self.accepted(who.host).is_some_and(|last| {
            let now = last.heartbeat.from;
            now != who && !self.electorate.is_dead(now) && last.heartbeat.presence != Presence::Left
        })
    }

    fn start_fences(&mut self) {
        if !self.is_coordinator(self.now) {
            self.shadowed.clear();
            self.alarms.clear(&mut self.actions, "budget");
            return self.alarms.clear(&mut self.actions, "journal fencing");
        }
        let mut victims: Vec<Incarnation> =
            self.electorate.living().filter(|who| self.is_victim(*who)).collect();
        if victims.is_empty() {
            self.shadowed.clear();
            self.alarms.clear(&mut self.actions, "budget");
            return;
        }
        // SAFE-5: "If the journal cannot be written, automatic fencing stops and says so".
        if let Some(error) = self.journal_failing.clone() {
            let what = format!("automatic fencing stands still: the journal cannot be written ({error})");
            return self.alarms.raise_for(&mut self.actions, "journal fencing".to_owned(), what);
        }
        self.alarms.clear(&mut self.actions, "journal fencing");
        if self.cluster.fencing().mode() == FencingMode::Shadow {
            self.alarms.clear(&mut self.actions, "budget");
            return self.tell_shadows(victims, "fencing is in shadow mode: it would have been sent");
        }
        if self.is_disarmed() {
            self.alarms.clear(&mut self.actions, "budget");
            return self
                .tell_shadows(victims, "an operator has disarmed fencing: it is sent once that is over");
        }
        victims.sort_by_key(|who| {
            std::cmp::Reverse(self.heartbeat_of(*who).map_or(0, |heartbeat| heartbeat.busy.len()))
        });
        let mut spent = false;
        for who in victims {
            let links = self.links_until(who).filter(|until| self.now < *until);
            if let Some(until) = links.filter(|_| !self.fences.running.contains_key(&who)) {
                self.wake_at(until);
                continue;
            }
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
            // Whoever is isolated waits for its power, and takes nobody's place.
            let waits = |who: &Incarnation| self.electorate.is_cut_under(*who, self.digest);
            let running = self.fences.running.iter();
            let under_way =
                running.filter(|(who, running)| !running.power.has_proven() && !waits(who)).count();
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

    /// What would have been done, once for each victim.
    fn tell_shadows(&mut self, victims: Vec<Incarnation>, why: &str) {
        self.shadowed.retain(|who| victims.contains(who));
        for who in victims {
            if !self.shadowed.insert(who) {
                continue;
            }
            let because = self.why_fence(who);
            self.record(Event::FenceDecided { victim: self.who(who), because });
            let mut devices: Vec<(u8, &str)> =
                self.cluster.devices_of(who.host).map(|device| (device.level(), device.name())).collect();
            devices.sort_unstable();
            let devices: Vec<String> =
                devices.iter().map(|(level, name)| format!("{name} (level {level})")).collect();
            let what = format!("sending off to {}", devices.join(", "));
            self.record(Event::Withheld { what, why: why.to_owned() });
        }
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
        let plan = self.plan(who.host, Effect::Power, opening);
        let victim = self.who(who);
        self.record(Event::FenceDecided { victim, because });
        let power = Fence::new(who, plan, self.now);
        let (isolation, power_failed, setbacks) = (None, None, String::new());
        let running = Running { power, isolation, authority, opening, power_failed, setbacks };
        self.fences.running.insert(who, running);
    }

    pub(super) fn is_fencing(&self, who: Incarnation) -> bool {
        self.fences.running.get(&who).is_some_and(|running| !running.power.has_proven())
    }

    fn devices_of(&self, host: HostId, effect: Effect) -> impl Iterator<Item = (DeviceId, &Device)> {
        (0u16..)
            .map(DeviceId)
            .zip(self.cluster.devices())
            .filter(move |(_, device)| device.fences() == host && device.effect() == effect)
    }

    fn effect_of(&self, device: DeviceId) -> Effect {
        self.cluster.devices().get(usize::from(device.0)).map_or(Effect::Power, Device::effect)
    }

    fn plan(&self, host: HostId, effect: Effect, opening: Opening) -> Plan {
        let mut levels: BTreeMap<u8, Level> = BTreeMap::new();
        let reads_soon = self.devices_of(host, effect).all(|(_, device)| device.kind().reads_soon());
        // A look that is cut off tells nothing, and costs its time.
        let opening = match opening {
            Opening::LookFirst if !reads_soon => Opening::CutAtOnce,
            Opening::LookFirst | Opening::CutAtOnce | Opening::OnlyIfOff => opening,
        };
        for (id, device) in self.devices_of(host, effect) {
            let (deadline, retries) = (device.deadline(), device.retries());
            levels.entry(device.level()).or_default().devices.push(PlannedDevice { id, deadline, retries });
        }
        let after_off = match self.cluster.fencing().after_off() {
            AfterOff::On => After::On,
            AfterOff::Off => After::Off,
        };
        let order_deadline = self.timing().order_deadline();
        Plan { effect, levels: levels.into_values().collect(), opening, after_off, order_deadline }
    }

    fn drive_fences(&mut self) {
        let victims: Vec<Incarnation> = self.fences.running.keys().copied().collect();
        for who in victims {
            // It may have got its power back in this very turn else.
            if self.keeps_out(who.host) && self.electorate.is_dead(who) {
                self.abandon(who);
                continue;
            }
            self.begin_isolation(who);
            // An outcome may begin something (giving the power back) that orders in the same turn.
            let beside = self.isolation_of(who.host).unwrap_or(Effect::Storage);
            while self.drive_fence(who, Effect::Power) || self.drive_fence(who, beside) {
                self.begin_isolation(who);
            }
            let Some(running) = self.fences.running.get(&who) else { continue };
            if running.power.is_done() {
                self.abandon(who);
                continue;
            }
            let wakes: Vec<Time> =
                [&running.power].into_iter().chain(&running.isolation).filter_map(Fence::wake).collect();
            wakes.into_iter().for_each(|at| self.wake_at(at));
        }
        self.drive_restores();
    }

    /// One order or outcome of one chain of a fence; false when there is neither.
    fn drive_fence(&mut self, who: Incarnation, effect: Effect) -> bool {
        let now = self.now;
        let Some(chain) = self.fences.running.get_mut(&who).and_then(|running| running.chain(effect)) else {
            return false;
        };
        if let Some(order) = chain.poll_order(now) {
            self.intend(Purpose::Fence(who), order);
            return true;
        }
        if let Some(outcome) = chain.poll_outcome() {
            self.take_outcome(who, effect, outcome);
            return true;
        }
        false
    }

    /// The configuration changed: device ids mean something else now.
    pub(super) fn forget_devices(&mut self) {
        let running: Vec<Incarnation> = self.fences.running.keys().copied().collect();
        running.into_iter().for_each(|who| self.abandon(who));
        let restores: Vec<(HostId, Effect)> = self.fences.restores.keys().copied().collect();
        restores.into_iter().for_each(|(host, effect)| self.drop_restore(host, effect));
        self.fences.opened.clear();
        // What another configuration's devices were sent is awaited as if another host had sent it.
        self.coordinates_since = None;
        self.fences.intended.clear();
        self.fences.flights.clear();
        self.fences.paths.clear();
        self.look_at_walls_anew();
        self.cold.forget_devices();
    }
}
