//! Cold start: how a first electorate forms when none may live. "No electorate may form while an older one may live. So every
//! host of H must be in the new one or proven off."

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

use palisade_ladder::{Command, DeviceId, Effect, Failure, Reading, Response};
use palisade_proto::message::{HealthClass, Names, Presence};
use palisade_proto::mutant::{self, Mutant};
use palisade_proto::{Duration, Founding, HostId, Incarnation, Seq, Time};

use super::Engine;
use crate::action::OrderId;
use crate::record::Event;

/// The rest between two readings of a BMC that did not say off.
const READ_REST: Duration = Duration::secs(1);

/// The rest between two offs for one host.
const FORCE_REST: Duration = Duration::secs(5);

/// The state of a cold start: this host's lock and, if it decides, how far it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Cold {
    lock: Option<Founding>,
    commit: Option<Commit>,
    reads: BTreeMap<HostId, Reads>,
    /// Hosts that an operator stated to be dead in this cold start.
    confirmed: BTreeSet<HostId>,
    /// The decider that this host was locked on was heard as another incarnation, or is dead.
    decider_gone: Option<String>,
    /// When each host's power was last ordered off, with the witness's consent.
    forced: BTreeMap<HostId, Time>,
    consent_for: BTreeSet<Incarnation>,
    consent_asks: BTreeMap<Seq, Time>,
    consent_until: Option<Time>,
}

/// The decider's way to a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Commit {
    /// "that point": every host of H is locked here, left or silent.
    point: Seq,
    at: Time,
    standing: BTreeMap<HostId, Presented>,
    /// Set once the last answer is in: every locked host must echo this seq or a later one.
    confirm: Option<Seq>,
}

/// How a host presents itself to the decider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Presented {
    Locked(Incarnation),
    Left(Incarnation),
    Silent,
}

/// The readings of one host's power devices.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Reads {
    in_flight: BTreeMap<OrderId, (DeviceId, Time)>,
    off: BTreeMap<DeviceId, Time>,
    next: Option<Time>,
    last: Option<String>,
}

impl Cold {
    pub(crate) fn restore(lock: Option<Founding>) -> Self {
        Self { lock, ..Self::default() }
    }

    pub(crate) fn lock(&self) -> Option<Founding> {
        self.lock
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The hosts whose power this cold start cut.
    pub(crate) fn forced(&self) -> Vec<HostId> {
        self.forced.keys().copied().collect()
    }

    /// An off is on its way to a host: it is read back at once, and ordered again only after a rest.
    pub(crate) fn force(&mut self, host: HostId, now: Time) {
        self.forced.insert(host, now);
    }

    /// The configuration changed: device ids mean something else now.
    pub(crate) fn forget_devices(&mut self) {
        self.reads.clear();
        self.commit = None;
    }

    pub(crate) fn read_at_once(&mut self, host: HostId) {
        self.reads.entry(host).or_default().next = None;
    }

    /// Growing, while locked: only what stems from this lock may be joined.
    pub(crate) fn may_join(&mut self, me: Incarnation, found: Option<Founding>) -> bool {
        match self.lock {
            Some(lock) if lock.decider == me => {
                self.lock = None;
                self.commit = None;
                true
            }
            Some(lock) => found == Some(lock) || mutant::on(Mutant::LockedJoinsAnyone),
            None => true,
        }
    }

    pub(crate) fn other_incarnation(&mut self, from: Incarnation) {
        if self.lock.is_some_and(|lock| lock.decider.host == from.host && lock.decider != from) {
            self.decider_gone = Some("its decider was heard in another life".to_owned());
        }
    }

    pub(crate) fn gossiped_deaths(&mut self, dead: &Names) {
        if self.lock.is_some_and(|lock| dead.contains(lock.decider)) {
            self.decider_gone = Some("its decider is proven dead".to_owned());
        }
    }

    pub(crate) fn consented(&mut self, ask: Seq, _now: Time) {
        if let Some(until) = self.consent_asks.remove(&ask) {
            self.consent_until = self.consent_until.max(Some(until));
        }
    }

    /// How far the witness's consent to an off reaches.
    pub(crate) fn consent_until(&self) -> Option<Time> {
        self.consent_until
    }

    pub(crate) fn asked_consent(&mut self, ask: Seq, until: Time) {
        // A lease's worth: older asks cannot be answered in time any more.
        while self.consent_asks.len() >= 64 {
            self.consent_asks.pop_first();
        }
        self.consent_asks.insert(ask, until);
    }

    /// An operator's word was about the silence before: a host that speaks takes it back.
    pub(crate) fn heard(&mut self, host: HostId) {
        self.confirmed.remove(&host);
    }

    pub(crate) fn confirm_dead(&mut self, host: HostId) {
        self.confirmed.insert(host);
        self.forced.remove(&host);
        if self.lock.is_some_and(|lock| lock.decider.host == host) {
            self.decider_gone = Some("an operator states that its decider is dead".to_owned());
        }
    }
}

impl Engine {
    pub(super) fn run_cold_start(&mut self) {
        self.cold_ask = None;
        if self.is_admitted()
            || self.presence != Presence::Joining
            || self.leaving.is_some()
            || self.is_unfit()
        {
            return;
        }
        self.release_lock();
        self.take_lock();
        if self.cold.lock.is_some_and(|lock| lock.decider == self.me) {
            self.decide();
        } else {
            self.cold.commit = None;
        }
        self.force_silent_hosts();
    }

    fn hears_admitted(&self) -> bool {
        self.heard()
            .any(|accepted| matches!(accepted.heartbeat.presence, Presence::Admitted | Presence::Away))
    }

    /// Un-admitted hosts with the same configuration, linked with this one, by rising id.
    fn linked_unadmitted(&self) -> Vec<Incarnation> {
        let linked = self.heard().map(|accepted| &accepted.heartbeat).filter(|heartbeat| {
            heartbeat.presence == Presence::Joining
                && heartbeat.health != HealthClass::Failed
                && heartbeat.digest == self.digest
                && heartbeat.heard.contains(self.me)
        });
        linked.map(|heartbeat| heartbeat.from).collect()
    }

    fn set_lock(&mut self, lock: Option<Founding>, why: &str) {
        if self.cold.lock == lock {
            return;
        }
        let on = lock.map(|lock| self.who(lock.decider));
        self.cold.lock = lock;
        self.cold.commit = None;
        self.cold.consent_until = None;
        self.cold.consent_asks.clear();
        self.cold.decider_gone = None;
        self.dirty = true;
        self.record(Event::Lock { on, why: why.to_owned() });
    }

    /// "1. An un-admitted host that hears no admitted host takes one lock (d, epoch): on itself (epoch = its next seq) if no
    /// linked un-admitted host has a lower index; else on the lowest linked one, d, once d's heartbeat says lock == (d, epoch).
    /// A self-locked host moves to a lower self-locked d that it is linked with, and drops its own lock when it hears an
    /// admitted host."
    fn take_lock(&mut self) {
        let mine = self.cold.lock.is_some_and(|lock| lock.decider == self.me);
        if self.hears_admitted() {
            if mine {
                self.set_lock(None, "an admitted host is heard");
            }
            return;
        }
        if self.cold.lock.is_some() && !mine {
            return;
        }
        let lower: Vec<Incarnation> =
            self.linked_unadmitted().into_iter().filter(|who| who.host < self.me.host).collect();
        let self_locked = |who: Incarnation| {
            self.heartbeat_of(who).and_then(|heartbeat| heartbeat.lock).filter(|lock| lock.decider == who)
        };
        let offered = if mine {
            lower.iter().find_map(|who| self_locked(*who))
        } else {
            lower.first().and_then(|who| self_locked(*who))
        };
        match offered {
            Some(lock) => self.set_lock(Some(lock), "the lowest host in reach decides"),
            // A host that has not listened yet cannot know that no lower host is in reach.
            None if lower.is_empty() && !mine && self.last_sent.is_some() => {
                self.set_lock(
                    Some(Founding { decider: self.me, epoch: self.next_seq }),
                    "no lower host in reach",
                );
            }
            None => {}
        }
    }

    /// "2. A lock on another host is released only when: d's heartbeat with seq >= epoch says another lock, or admitted with
    /// another found; or another incarnation of d's host is accepted; or d is in gossiped D; or d was silent for `boot_wait`
    /// (2 s) and a BMC read sent then says off."
    fn release_lock(&mut self) {
        let Some(lock) = self.cold.lock.filter(|lock| lock.decider != self.me) else { return };
        if mutant::on(Mutant::LockNeverReleased) {
            return;
        }
        if let Some(why) = self.cold.decider_gone.take() {
            return self.set_lock(None, &why);
        }
        if let Some(heartbeat) = self
            .heartbeat_of(lock.decider)
            .filter(|heartbeat| heartbeat.seq >= lock.epoch || mutant::on(Mutant::LockReleasedOnOldPacket))
        {
            let moved = match heartbeat.presence {
                Presence::Admitted | Presence::Away => heartbeat.found != Some(lock),
                Presence::Joining | Presence::Left => heartbeat.lock != Some(lock),
            };
            if moved {
                return self.set_lock(None, "its decider says another lock");
            }
        }
        let host = lock.decider.host;
        if let Some(silent_from) = self.silent_since(host)
            && (mutant::on(Mutant::LockReleasedOnSilence) || self.reads_off(host, silent_from))
        {
            self.set_lock(None, "its decider is silent and reads off");
        }
    }

    /// When a host's silence became long enough to be read (boot_wait after its last packet, or after this process began).
    fn silent_since(&mut self, host: HostId) -> Option<Time> {
        let last = self.accepted(host).map_or(self.started, |accepted| accepted.at.max(self.started));
        let from = last.after(self.timing().boot_wait());
        if self.now >= from {
            Some(from)
        } else {
            self.wake_at(from);
            None
        }
    }

    /// "4. d commits when, in this order: every host of H is either linked and locked on (d, epoch), or says `left` in a
    /// heartbeat that echoes a seq d sent after that point and at most rejoin_hold ago [...], or silent for boot_wait; for each
    /// silent one a BMC read, sent after that point and at most rejoin_hold ago, says off; and then every locked host, still
    /// locked, has echoed a seq that d sent after the last of these answers."
    fn decide(&mut self) {
        let Some(lock) = self.cold.lock else { return };
        let Some(standing) = self.everyone_presented(lock) else {
            self.cold.commit = None;
            return;
        };
        if !self.unseen.is_empty() || !self.nothing_runs_here() {
            return;
        }
        let commit = match self.cold.commit.clone() {
            Some(commit) if commit.standing == standing => commit,
            Some(_) | None => {
                self.dirty = true;
                // "sent after that point": what was read or asked before counts no more.
                if !mutant::on(Mutant::OldReadingCounts) {
                    self.cold.reads.clear();
                }
                Commit { point: self.next_seq, at: self.now, standing, confirm: None }
            }
        };
        let answered = self.all_answered(&commit);
        let confirm = answered.then(|| commit.confirm.unwrap_or(self.next_seq));
        self.dirty |= confirm.is_some() && commit.confirm.is_none();
        let commit = Commit { confirm, ..commit };
        self.cold.commit = Some(commit.clone());
        let Some(confirm) = confirm else { return };
        let locked: Vec<Incarnation> = commit
            .standing
            .values()
            .filter_map(|presented| match presented {
                Presented::Locked(who) => Some(*who),
                Presented::Left(_) | Presented::Silent => None,
            })
            .collect();
        let confirmed = locked.iter().all(|who| self.has_echoed(*who, confirm));
        if confirmed || mutant::on(Mutant::ColdStartUnconfirmed) {
            let members: BTreeSet<Incarnation> = locked.into_iter().chain([self.me]).collect();
            let electorate = self.whos(&members);
            self.record(Event::Founded { electorate });
            self.electorate.found(members);
            self.found = Some(lock);
            self.admit();
        }
    }

    fn everyone_presented(&mut self, lock: Founding) -> Option<BTreeMap<HostId, Presented>> {
        let linked = self.linked_unadmitted();
        let hosts: Vec<HostId> = self
            .cluster
            .hosts()
            .iter()
            .map(crate::config::Host::id)
            .filter(|host| *host != self.me.host)
            .collect();
        let hold = self.timing().rejoin_hold();
        let mut standing = BTreeMap::new();
        for host in hosts {
            let accepted = self.accepted(host).map(|accepted| {
                (
                    Incarnation::clone(&accepted.heartbeat.from),
                    accepted.heartbeat.lock,
                    accepted.heartbeat.presence,
                    accepted.at,
                )
            });
            let presented = match accepted {
                Some((from, theirs, Presence::Joining, _))
                    if theirs == Some(lock) && linked.contains(&from) =>
                {
                    Presented::Locked(from)
                }
                Some((from, _, Presence::Left, at))
                    if self.now < at.after(hold) || mutant::on(Mutant::OldLeftCounts) =>
                {
                    Presented::Left(from)
                }
                Some(_) | None => {
                    self.silent_since(host)?;
                    Presented::Silent
                }
            };
            standing.insert(host, presented);
        }
        Some(standing)
    }

    fn all_answered(&mut self, commit: &Commit) -> bool {
        let mut all = true;
        for (host, presented) in &commit.standing {
            let answered = match presented {
                Presented::Locked(_) => true,
                Presented::Left(who) => {
                    self.has_echoed(*who, commit.point) || mutant::on(Mutant::OldLeftCounts)
                }
                Presented::Silent if mutant::on(Mutant::ColdStartWithoutSilent) => true,
                Presented::Silent => self.cold.confirmed.contains(host) || self.reads_off(*host, commit.at),
            };
            all &= answered;
        }
        all
    }

    fn has_echoed(&self, who: Incarnation, seq: Seq) -> bool {
        let echo = self.heartbeat_of(who).and_then(|heartbeat| heartbeat.echo_of(self.me.host));
        echo.is_some_and(|echo| echo.of == self.me && echo.seq >= seq)
    }

    /// Whether every power device of the host's first level read off by a read sent since `from` and at most rejoin_hold ago;
    /// asks for the readings that are missing.
    fn reads_off(&mut self, host: HostId, from: Time) -> bool {
        let devices = self.first_level(host);
        let (now, hold) = (self.now, self.timing().rejoin_hold());
        let fresh =
            |sent: &Time| (*sent >= from && now < sent.after(hold)) || mutant::on(Mutant::OldReadingCounts);
        let reads = self.cold.reads.entry(host).or_default();
        if !devices.is_empty() && devices.iter().all(|(device, _)| reads.off.get(device).is_some_and(fresh)) {
            return true;
        }
        let rested = reads.next.is_none_or(|next| now >= next);
        if !rested || !reads.in_flight.is_empty() {
            if let Some(next) = reads.next {
                self.wake_at(next);
            }
            return false;
        }
        reads.next = Some(now.after(READ_REST));
        for (device, deadline) in devices {
            let id = self.send_to_device(host, device, Command::Read, now.after(deadline), None);
            self.cold.reads.entry(host).or_default().in_flight.insert(id, (device, now));
        }
        let name = self.name(host).to_owned();
        let last = self.cold.reads.get(&host).and_then(|reads| reads.last.clone());
        let what = last.map(|last| format!("cold start waits for {name}: it is silent, and its power {last}; once it is surely dead, say `palisade confirm {name}`"));
        self.alarms.set(&mut self.actions, &format!("cold {host}"), what);
        false
    }

    fn first_level(&self, host: HostId) -> Vec<(DeviceId, Duration)> {
        let numbered = || {
            let power =
                |device: &crate::config::Device| device.fences() == host && device.effect() == Effect::Power;
            (0u16..).zip(self.cluster.devices()).filter(move |(_, device)| power(device))
        };
        let lowest = numbered().map(|(_, device)| device.level()).min();
        numbered()
            .filter(|(_, device)| Some(device.level()) == lowest)
            .map(|(id, device)| (DeviceId(id), device.deadline()))
            .collect()
    }

    /// A device answered a cold start's reading. True if the order was one of these.
    pub(super) fn take_cold_reading(&mut self, order: OrderId, answer: &Result<Response, Failure>) -> bool {
        let Some((host, reads)) =
            self.cold.reads.iter_mut().find(|(_, reads)| reads.in_flight.contains_key(&order))
        else {
            return false;
        };
        let host = *host;
        let Some((device, sent)) = reads.in_flight.remove(&order) else { return false };
        let off = match answer {
            Ok(Response::Reads(Reading::Off)) => true,
            Ok(
                Response::Reads(Reading::On | Reading::Unknown)
                | Response::Acknowledged
                | Response::AlreadySo
                | Response::Proven(_),
            )
            | Err(_) => false,
        };
        reads.last = Some(match answer {
            Ok(Response::Reads(Reading::On)) => "reads on".to_owned(),
            Ok(Response::Reads(Reading::Off)) => "reads off".to_owned(),
            Ok(_) => "cannot be told".to_owned(),
            Err(failure) => format!("cannot be read ({failure})"),
        });
        if off {
            reads.off.insert(device, sent);
            self.alarms.clear(&mut self.actions, &format!("cold {host}"));
        } else {
            reads.off.remove(&device);
        }
        true
    }

    /// "5. A host silent to d for cold_off_wait (10 min, also since d's process start) that reads "on" or cannot be read: [...]
    /// with |present| >= N/2 and W's consent, d (or a host locked on a silent d) sends OFF and reads again."
    fn force_silent_hosts(&mut self) {
        let Some(lock) = self.cold.lock else { return };
        let wait = self.timing().cold_off_wait();
        let hosts: Vec<HostId> = if lock.decider == self.me {
            self.cluster
                .hosts()
                .iter()
                .map(crate::config::Host::id)
                .filter(|host| *host != self.me.host)
                .collect()
        } else {
            vec![lock.decider.host]
        };
        let mut overdue = Vec::new();
        for host in hosts {
            let last = self.accepted(host).map_or(self.started, |accepted| accepted.at.max(self.started));
            let from = last.after(wait);
            if self.keeps_out(host) {
                continue;
            }
            let known_off = self.cold.reads.get(&host).is_some_and(|reads| !reads.off.is_empty());
            let rested = self.cold.forced.get(&host).map(|last| last.after(FORCE_REST));
            if self.now >= from && !known_off && !self.cold.confirmed.contains(&host) {
                match rested.filter(|next| self.now < *next) {
                    Some(next) => self.wake_at(next),
                    // "... that reads "on" or cannot be read": looked at first, in any case.
                    None if self.reads_off(host, from) => {}
                    None if self.cold.reads.get(&host).is_some_and(|reads| reads.last.is_some()) => {
                        overdue.push(host)
                    }
                    None => {}
                }
            } else if self.now < from {
                self.wake_at(from);
            }
        }
        let present = self.may_force().unwrap_or_default();
        let wanted = !overdue.is_empty() && !present.is_empty();
        if self.cold.consent_for != present {
            // The witness's consent was to those present then.
            self.cold.consent_until = None;
            self.cold.consent_asks.clear();
            self.cold.consent_for.clone_from(&present);
        }
        self.cold_ask = wanted.then_some(present);
        let consent = self.cold.consent_until.is_some_and(|until| self.now < until);
        if !wanted || self.is_disarmed() || !(consent || mutant::on(Mutant::ColdOffUnasked)) {
            return;
        }
        for host in overdue {
            self.cold_off(host);
        }
    }

    /// "with |present| >= N/2 and W's consent, d (or a host locked on a silent d)": who is present, if this host may act for them.
    fn may_force(&self) -> Option<BTreeSet<Incarnation>> {
        let lock = self.cold.lock?;
        let with_me: Vec<Incarnation> = self
            .linked_unadmitted()
            .into_iter()
            .filter(|who| self.heartbeat_of(*who).is_some_and(|heartbeat| heartbeat.lock == Some(lock)))
            .collect();
        let acts = lock.decider == self.me || with_me.iter().all(|who| who.host > self.me.host);
        let half = (with_me.len() + 1) * 2 >= self.cluster.hosts().len();
        (acts && half && self.cluster.witness().is_some())
            .then(|| with_me.into_iter().chain([self.me]).collect())
    }

    /// The right that `force_silent_hosts` acts on, checked again right before the command is sent.
    pub(super) fn holds_consent(&self, host: HostId) -> bool {
        let silent = self
            .accepted(host)
            .is_none_or(|accepted| self.now >= accepted.at.after(self.timing().cold_off_wait()));
        !self.is_admitted()
            && silent
            && self.may_force().is_some_and(|present| present == self.cold.consent_for)
            && (self.cold.consent_until.is_some_and(|until| self.now < until)
                || mutant::on(Mutant::ColdOffUnasked))
    }
}
