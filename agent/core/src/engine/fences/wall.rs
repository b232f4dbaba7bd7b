//! Walls: a host is cut from the network of every other one, by the firewall of each. The coordinator orders it in its heartbeats,
//! each host reads its own firewall back in its own, and only all of them together are a proof.
//!
//! A wall is against one life. Once up it stays until that life is dead, whatever becomes of the order: somebody may hold the proof
//! by then (PROTOCOL, "Isolation": "It is never opened again for that incarnation").

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use palisade_ladder::{Command, DeviceId, Failure, Order, Reading, Response};
use palisade_proto::message::Presence;
use palisade_proto::mutant::{self, Mutant};
use palisade_proto::wire::WALLS_VERSION;
use palisade_proto::{Duration, Heartbeat, HostId, Incarnation, Names, Time};

use super::super::Engine;
use super::Purpose;
use super::outcomes::answer_in_words;
use crate::config::{Device, FencingMode};
use crate::record::Event;

/// Whoever flushes the rules of a host takes the wall down with them: so often a wall that stands is read again.
const WATCH: Duration = Duration::secs(1);
/// What was read so long ago says nothing of now.
const STALE: Duration = Duration::secs(3);
/// Before what did not help is tried again; it doubles up to [`REST_MAX`].
const REST: Duration = Duration::secs(1);
const REST_MAX: Duration = Duration::secs(60);

/// What this host's own firewall does about one other host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Wall {
    /// The life that is kept out, or was; without a name while a new process looks what an earlier one has left.
    against: Incarnation,
    /// Whether it is to be kept out. Else the wall goes, and then this.
    wanted: bool,
    /// Read from the firewall after the last change.
    reads: Option<Reading>,
    read_at: Time,
    /// When to do the next thing, or to look again.
    due: Time,
    /// Before the next try, if this one does not help.
    rest: Duration,
    /// A switch was sent since it last read as it should.
    switched: bool,
    /// Until when an answer is awaited.
    asked: Option<Time>,
}

impl Wall {
    pub(super) fn restored(against: Incarnation, now: Time) -> Self {
        let (reads, asked) = (None, None);
        Self { against, wanted: true, reads, read_at: now, due: now, rest: REST, switched: false, asked }
    }

    /// Of a host that nothing is known about.
    pub(super) fn unknown(host: HostId, now: Time) -> Self {
        Self { wanted: false, ..Self::restored(Incarnation::new(host, [0; 8]), now) }
    }

    /// Whether it has a life to name.
    fn is_named(&self) -> bool {
        self.against.life.0 != [0; 8]
    }

    fn stands(&self, now: Time) -> bool {
        self.wanted && self.reads == Some(Reading::Off) && now < self.read_at.after(STALE)
    }

    /// Begins anew.
    fn turn(&mut self, wanted: bool, now: Time) {
        (self.wanted, self.reads, self.due, self.rest, self.switched) = (wanted, None, now, REST, false);
    }

    /// What was tried did not help: less and less often again.
    fn tire(&mut self, now: Time) {
        self.due = now.after(self.rest);
        self.rest = Duration(self.rest.0.saturating_mul(2).min(REST_MAX.0));
    }
}

impl Engine {
    /// The device by which every other host keeps this one out.
    pub(super) fn wall_device(&self, host: HostId) -> Option<(DeviceId, &Device)> {
        (0u16..)
            .map(DeviceId)
            .zip(self.cluster.devices())
            .find(|(_, device)| device.fences() == host && device.kind().is_wall())
    }

    pub(super) fn is_wall(&self, device: DeviceId) -> bool {
        self.cluster.devices().get(usize::from(device.0)).is_some_and(|device| device.kind().is_wall())
    }

    /// What an earlier process has left standing, before anything else is known.
    pub(in crate::engine) fn remember_walls(&mut self, saved: &[Incarnation]) {
        let now = self.now;
        let hosts: Vec<HostId> = self
            .cluster
            .devices()
            .iter()
            .filter(|device| device.kind().is_wall())
            .map(Device::fences)
            .collect();
        for host in hosts.into_iter().filter(|host| *host != self.me.host) {
            self.fences.walls.insert(host, Wall::unknown(host, now));
        }
        for who in saved {
            self.fences.walls.insert(who.host, Wall::restored(*who, now));
        }
    }

    /// The lives that this host's firewall is to keep out: for `/run`.
    pub(in crate::engine) fn wanted_walls(&self) -> impl Iterator<Item = Incarnation> {
        self.fences.walls.values().filter(|wall| wall.wanted).map(|wall| wall.against)
    }

    /// What the heartbeat says of walls: nothing while somebody is heard who could not read it.
    pub(in crate::engine) fn told_walls(&self) -> (Names, Names) {
        let old = self.heard().any(|accepted| accepted.heartbeat.speaks < WALLS_VERSION);
        let walls = || self.fences.walls.values().filter(|wall| !old && wall.is_named());
        let walled = walls().filter(|wall| wall.stands(self.now)).map(|wall| wall.against).collect();
        (walls().map(|wall| wall.against).collect(), walled)
    }

    /// SAFE-2: an order counts if it is the coordinator's, of a view in which this host stands and with a quorum of its own. A host
    /// that is not taken in yet has neither, and follows whoever coordinates.
    pub(in crate::engine) fn follow_walls(&mut self, heartbeat: &Heartbeat) {
        if heartbeat.walls.is_empty()
            || heartbeat.digest != self.digest
            || heartbeat.presence != Presence::Admitted
            || self.shadows()
            || self.leaving.is_some()
        {
            return;
        }
        let joins = self.presence == Presence::Joining;
        let coordinates = match joins {
            false => {
                self.view.first() == Some(&heartbeat.from)
                    && heartbeat.found == self.found
                    && self.is_quorate(self.now)
            }
            true => is_coordinators(heartbeat),
        };
        if !coordinates {
            return;
        }
        for who in heartbeat.walls.iter().filter(|who| who.host != self.me.host).collect::<Vec<_>>() {
            // A member fences nobody whom it would not fence itself: what is said may be a wall that only still stands.
            let lost = match joins {
                true => !heartbeat.view.contains(who) && !heartbeat.dead.contains(who),
                false => self.is_victim(who),
            };
            if lost {
                self.raise_wall(who);
            }
        }
    }

    fn raise_wall(&mut self, who: Incarnation) {
        let now = self.now;
        let stands = self.fences.walls.get(&who.host).is_some_and(|wall| wall.wanted && wall.against == who);
        if stands || self.wall_device(who.host).is_none() {
            return;
        }
        let asked = self.fences.walls.get(&who.host).and_then(|wall| wall.asked);
        // It is put up without a look first.
        let wall = Wall { reads: Some(Reading::Unknown), asked, ..Wall::restored(who, now) };
        self.fences.walls.insert(who.host, wall);
        self.dirty = true;
        // A restart of the agent must know whom the rules are against.
        self.save();
    }

    /// Lives for which there is no reason any more.
    fn lower_walls(&mut self) {
        let wanted: Vec<Incarnation> = self.wanted_walls().collect();
        let over: Vec<Incarnation> = wanted.into_iter().filter(|who| self.is_wall_over(*who)).collect();
        let now = self.now;
        let walls = self.fences.walls.values_mut();
        for wall in walls.filter(|wall| wall.wanted && over.contains(&wall.against)) {
            wall.turn(false, now);
        }
        if !over.is_empty() {
            self.dirty = true;
            self.save();
        }
    }

    /// Whether the life that a wall is against is over.
    fn is_wall_over(&self, who: Incarnation) -> bool {
        let said =
            || self.heard().map(|accepted| &*accepted.heartbeat).filter(|said| said.digest == self.digest);
        let mut coordinators = said().filter(|said| is_coordinators(said));
        match self.presence {
            // Nobody heard is no word that it is dead; and one that is counted by now is as good as a member.
            Presence::Joining => {
                let over = |said: &Heartbeat| {
                    said.dead.contains(who) || !(said.walls.contains(who) || said.electorate.contains(who))
                };
                !self.electorate.is_living(who) && coordinators.any(over)
            }
            Presence::Admitted | Presence::Away if mutant::on(Mutant::WallFallsWithOrder) => {
                let ordered = coordinators.any(|said| said.walls.contains(who))
                    || self.fences.running.contains_key(&who)
                    || self.electorate.is_cut(who);
                !self.electorate.is_living(who) || !ordered
            }
            Presence::Admitted | Presence::Away => !self.electorate.is_living(who),
            // The next life keeps it until it has heard.
            Presence::Left => false,
        }
    }

    /// Does what is due about each wall of this host.
    pub(super) fn run_walls(&mut self) {
        if self.fences.walls.is_empty() && self.electorate.cut().next().is_none() {
            return;
        }
        // Whoever is cut is kept out by everybody, also by those who learned it from others.
        let cut =
            self.electorate.cut().filter(|who| who.host != self.me.host && self.electorate.is_living(*who));
        let cut: Vec<Incarnation> =
            cut.filter(|_| self.presence != Presence::Left && !self.shadows()).collect();
        cut.into_iter().for_each(|who| self.raise_wall(who));
        self.lower_walls();
        let hosts: Vec<HostId> = self.fences.walls.keys().copied().collect();
        hosts.into_iter().for_each(|host| self.keep_wall(host));
    }

    fn keep_wall(&mut self, host: HostId) {
        let now = self.now;
        let device = self.wall_device(host).map(|(id, device)| (id, device.deadline()));
        let Some(wall) = self.fences.walls.get_mut(&host) else { return };
        let Some((device, deadline)) = device else {
            let what = format!(
                "the firewall of this host keeps {} out, and its device is gone from the configuration: remove the table by hand (nft delete table inet palisade)",
                self.name(host)
            );
            return self.alarms.raise_for(&mut self.actions, wall_alarm(host), what);
        };
        if let Some(until) = wall.asked.filter(|until| now < *until) {
            return self.wake_at(until);
        }
        wall.asked = None;
        if now < wall.due {
            let due = wall.due;
            return self.wake_at(due);
        }
        let (against, wanted) = (wall.against, wall.wanted);
        let command = match (wanted, wall.reads) {
            (false, Some(Reading::On)) => {
                self.fences.walls.remove(&host);
                self.alarms.clear(&mut self.actions, &wall_alarm(host));
                self.dirty = true;
                return;
            }
            (_, None) | (true, Some(Reading::Off)) => Command::Read,
            (true, Some(Reading::On | Reading::Unknown)) => Command::Off,
            (false, Some(Reading::Off | Reading::Unknown)) => Command::On,
        };
        let may = match command {
            Command::Off => self.may_wall(against),
            // Of what an earlier life has left nobody here knows more than those who are members.
            Command::On => {
                against.life.0 != [0; 8] || self.presence != Presence::Joining || self.hears_coordinator()
            }
            Command::Read | Command::Prove => true,
        };
        if !may {
            return self.wait_with_wall(host, self.timing().heartbeat());
        }
        let deadline = now.after(deadline);
        if let Some(wall) = self.fences.walls.get_mut(&host) {
            wall.asked = Some(deadline.after(REST));
            wall.switched |= command != Command::Read;
        }
        self.wake_at(deadline.after(REST));
        self.intend(Purpose::Wall(against), Order { device, command, deadline, attempt: 1 });
    }

    fn wait_with_wall(&mut self, host: HostId, pause: Duration) {
        let due = self.now.after(pause);
        if let Some(wall) = self.fences.walls.get_mut(&host) {
            (wall.due, wall.asked) = (due, None);
        }
        self.wake_at(due);
    }

    fn shadows(&self) -> bool {
        self.cluster.fencing().mode() == FencingMode::Shadow
    }

    fn hears_coordinator(&self) -> bool {
        let mut said = self.heard().map(|accepted| &accepted.heartbeat);
        said.any(|said| is_coordinators(said) && said.digest == self.digest)
    }

    /// SAFE-2: whether this host may put up the wall now: while it takes the life for lost and has a quorum, or once that life is cut
    /// for good. Whoever is not a member yet follows the coordinator that it hears.
    fn may_wall(&self, who: Incarnation) -> bool {
        if self.presence == Presence::Joining || self.shadows() {
            return !self.shadows();
        }
        let quorate = self.is_quorate(self.now) || mutant::on(Mutant::WallUnasked);
        let lost = quorate && !self.view.contains(&who);
        self.electorate.is_living(who) && (lost || self.electorate.is_cut(who))
    }

    pub(super) fn may_switch_wall(&self, who: Incarnation, command: Command) -> bool {
        let wall = self.fences.walls.get(&who.host).filter(|wall| wall.against == who);
        match command {
            Command::Off => wall.is_some_and(|wall| wall.wanted) && self.may_wall(who),
            Command::On => wall.is_some_and(|wall| !wall.wanted),
            Command::Read | Command::Prove => false,
        }
    }

    /// How far the right to switch it reaches: opening needs none, and neither does what is cut for good.
    pub(super) fn wall_stands_until(&self, who: Incarnation, command: Command) -> Option<Time> {
        match command {
            Command::Off if self.presence != Presence::Joining && !self.electorate.is_cut(who) => {
                self.quorum_until
            }
            Command::Off | Command::On | Command::Read | Command::Prove => Some(Time(u64::MAX)),
        }
    }

    /// It was not sent: standing was lost, or the journal was slow.
    pub(super) fn withdraw_wall(&mut self, who: Incarnation) {
        self.wait_with_wall(who.host, self.timing().heartbeat());
    }

    /// This host's own firewall has answered. False if nothing is new: that is not written down.
    pub(super) fn take_wall_answer(
        &mut self,
        who: Incarnation,
        command: Command,
        answer: &Result<Response, Failure>,
    ) -> bool {
        let (now, heartbeat) = (self.now, self.timing().heartbeat());
        let name = self.name(who.host).to_owned();
        let Some(wall) = self.fences.walls.get_mut(&who.host) else { return false };
        wall.asked = None;
        let before = (wall.stands(now), wall.reads);
        // One that was raised or lowered meanwhile is looked at anew.
        let current = wall.against == who
            && (command != Command::Off || wall.wanted)
            && (command != Command::On || !wall.wanted);
        let should = if wall.wanted { Reading::Off } else { Reading::On };
        match answer {
            _ if !current => (wall.reads, wall.due) = (None, now),
            Ok(Response::Reads(reading)) if *reading == should => {
                (wall.reads, wall.read_at, wall.rest, wall.switched) = (Some(should), now, REST, false);
                wall.due = if wall.wanted { now.after(WATCH) } else { now };
            }
            Ok(Response::Reads(reading)) => {
                (wall.reads, wall.due) = (Some(*reading), now);
                if wall.switched {
                    wall.tire(now);
                }
            }
            Ok(Response::Acknowledged | Response::AlreadySo | Response::Proven(_)) => {
                (wall.reads, wall.due) = (None, now);
            }
            Err(Failure::Cancelled) => (wall.reads, wall.due) = (None, now.after(heartbeat)),
            Err(_) => {
                (wall.reads, wall.switched) = (None, false);
                wall.tire(now);
            }
        }
        let news = before.1 != wall.reads && (wall.is_named() || wall.reads != Some(Reading::On));
        let (after, due) = (wall.stands(now), wall.due);
        self.dirty |= before.0 != after;
        self.wake_at(due);
        let what = answer.as_ref().err().filter(|failure| **failure != Failure::Cancelled);
        let what = what.map(|failure| {
            format!("the firewall of this host does not do what it is told about {name}: {failure}")
        });
        self.alarms.set(&mut self.actions, &wall_alarm(who.host), what);
        command != Command::Read || (answer.is_ok() && news)
    }

    /// What the coordinator orders of a device that is everybody's firewall: its own is one of them.
    pub(super) fn order_walls(&mut self, purpose: Purpose, order: Order) {
        let host = purpose.host();
        let answer = match (purpose, order.command) {
            (Purpose::Fence(victim), Command::Off) => {
                self.raise_wall(victim);
                Ok(Response::Acknowledged)
            }
            (Purpose::Restore(..), Command::On) => Ok(Response::Acknowledged),
            (Purpose::Fence(victim), Command::Read) => Ok(Response::Reads(self.walls_read(victim))),
            (Purpose::Restore(..), Command::Read) => Ok(Response::Reads(self.walls_open(host))),
            (Purpose::Fence(_), Command::On | Command::Prove)
            | (Purpose::Restore(..), Command::Off | Command::Prove)
            | (Purpose::Cold(_) | Purpose::Wall(_), _) => Err(Failure::Cancelled),
        };
        if matches!(order.command, Command::Off | Command::On) {
            // SAFE-4: only what a host says after it has heard of this order is a reading of it.
            self.fences.wall_orders.insert(host, self.next_seq);
            self.dirty = true;
        }
        let wanted = match purpose {
            Purpose::Restore(..) => Reading::On,
            Purpose::Fence(_) | Purpose::Cold(_) | Purpose::Wall(_) => Reading::Off,
        };
        let answers = !matches!(&answer, Ok(Response::Reads(reading)) if *reading != wanted);
        if answers {
            let event = Event::OrderAnswered {
                victim: self.who(self.whom(purpose)),
                device: self.device_name(order.device),
                command: order.command,
                answer: answer_in_words(&answer),
                took_ms: 0,
            };
            self.record(event);
        }
        let now = self.now;
        if let Some(chain) = self.chain_of(purpose, order.device) {
            chain.handle_answer(order.device, order.command, order.attempt, answer, now);
        }
    }

    /// SAFE-4: off is what this host and every other one that could serve the victim has read back, after the order.
    fn walls_read(&self, victim: Incarnation) -> Reading {
        let mine = self.fences.walls.get(&victim.host).filter(|wall| wall.against == victim);
        match mine {
            None => Reading::On,
            Some(wall) if wall.stands(self.now) && self.walls_lack(victim).is_empty() => Reading::Off,
            Some(_) => Reading::Unknown,
        }
    }

    /// Who has not said since the order that it keeps this life out: members, and whoever else is heard.
    pub(super) fn walls_lack(&self, victim: Incarnation) -> Vec<HostId> {
        if mutant::on(Mutant::WallOfOneProves) {
            return Vec::new();
        }
        let ordered = self.fences.wall_orders.get(&victim.host);
        let says = |heartbeat: &Heartbeat| {
            let echo = heartbeat.echo_of(self.me.host).filter(|echo| echo.of == self.me);
            let knows = echo.is_some_and(|echo| ordered.is_some_and(|ordered| echo.seq >= *ordered));
            // A peer that reads another configuration keeps out other addresses.
            let alike = heartbeat.digest == self.digest;
            knows && alike && heartbeat.walled.contains(victim)
        };
        let members = self.electorate.living().filter(|who| *who != self.me && who.host != victim.host);
        let silent = members.filter(|who| !self.hears(*who).is_some_and(says)).map(|who| who.host);
        let others = self.heard().map(|accepted| &accepted.heartbeat).filter(|other| {
            other.presence != Presence::Left && other.from.host != victim.host && !says(other)
        });
        let lack: BTreeSet<HostId> = silent.chain(others.map(|other| other.from.host)).collect();
        lack.into_iter().collect()
    }

    /// On is what nobody who is counted says anything against, this host included, and after the order.
    fn walls_open(&self, host: HostId) -> Reading {
        let mine = self.fences.walls.get(&host);
        if mine.is_some_and(|wall| wall.is_named() || wall.reads.is_some_and(|reads| reads != Reading::On)) {
            return Reading::Unknown;
        }
        let ordered = self.fences.wall_orders.get(&host);
        let open = |heartbeat: &Heartbeat| {
            let echo = heartbeat.echo_of(self.me.host).filter(|echo| echo.of == self.me);
            echo.is_some_and(|echo| ordered.is_some_and(|ordered| echo.seq >= *ordered))
                && heartbeat.digest == self.digest
                && heartbeat.walls.iter().all(|who| who.host != host)
        };
        let mut members = self.electorate.living().filter(|who| *who != self.me && who.host != host);
        match members.all(|who| self.heartbeat_of(who).is_some_and(open)) {
            true => Reading::On,
            false => Reading::Unknown,
        }
    }

    /// The configuration changed: what was asked of the devices of before is not awaited.
    pub(super) fn look_at_walls_anew(&mut self) {
        let now = self.now;
        self.fences.wall_orders.clear();
        for wall in self.fences.walls.values_mut() {
            wall.turn(wall.wanted, now);
            wall.asked = None;
        }
    }
}

/// Whether this is what the coordinator of a quorate view says, as far as its own word goes.
fn is_coordinators(heartbeat: &Heartbeat) -> bool {
    heartbeat.presence == Presence::Admitted
        && heartbeat.quorate
        && heartbeat.view.iter().next() == Some(heartbeat.from)
}

fn wall_alarm(host: HostId) -> String {
    format!("wall {host}")
}
