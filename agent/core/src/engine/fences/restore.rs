//! Giving back: power that a fence cut in vain, and paths that are to be open before a host is taken in.

use serde::{Deserialize, Serialize};

use palisade_ladder::course::SETTLE_DEADLINES;
use palisade_ladder::{Abandoned, Effect, Fence, Opening, Outcome};
use palisade_proto::message::Presence;
use palisade_proto::mutant::{self, Mutant};
use palisade_proto::{Duration, HostId, Incarnation, Time};

use super::super::Engine;
use super::Purpose;
use crate::config::{AfterOff, FencingMode};

/// The rest after a try that failed; it doubles up to [`REST_MAX`].
const REST: Duration = Duration::secs(5);
const REST_MAX: Duration = Duration::secs(60);

/// Something that a host is to get back.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Restore {
    /// For which life; for power, whichever comes.
    pub(super) whom: Incarnation,
    /// Absent while it rests after a try that failed.
    pub(super) fence: Option<Fence>,
    again_at: Time,
    rest: Duration,
    /// What the last device that did not give back had to say.
    failed: Option<String>,
}

impl Restore {
    /// To begin at `again_at`.
    pub(super) fn new(whom: Incarnation, again_at: Time) -> Self {
        Self { whom, fence: None, again_at, rest: REST, failed: None }
    }
}

impl Engine {
    /// A host that lost its power to an order of ours and has no fence any more gets it back, unless it is still to be fenced or
    /// has left since, or is in maintenance: nobody powers on what people may have their hands in.
    pub(super) fn return_owed_power(&mut self) {
        if self.power_owed.is_empty() || !self.is_quorate(self.now) {
            return;
        }
        let owed: Vec<(HostId, Time)> = self.power_owed.iter().map(|(host, at)| (*host, *at)).collect();
        for (host, settled_at) in owed {
            if self.is_to_be_fenced(host) || self.is_quarantined(host) {
                continue;
            }
            // An off that was never answered may lie in the device's queue.
            if self.now < settled_at {
                self.wake_at(settled_at);
                continue;
            }
            self.power_owed.remove(&host);
            let asked = self.pardoned.contains(&host);
            let wanted = asked || self.cluster.fencing().after_off() == AfterOff::On;
            if wanted && !self.has_left(host) && !self.keeps_out(host) {
                self.begin_restore(host, Effect::Power, Incarnation::new(host, [0; 8]));
            }
        }
    }

    /// An operator lets a host return: it gets its power back, and is taken in when it speaks.
    pub(in crate::engine) fn let_return(&mut self, host: HostId) {
        self.pardoned.insert(host);
        self.counts_from.insert(host, self.now);
        self.quarantined.remove(&host);
        if let Some(settled_at) = self.power_owed.remove(&host) {
            self.note_unsettled(host, Effect::Power, settled_at);
        }
        self.begin_restore(host, Effect::Power, Incarnation::new(host, [0; 8]));
        if let Some(effect) = self.isolation_of(host) {
            self.begin_restore(host, effect, Incarnation::new(host, [0; 8]));
        }
    }

    /// A life of that host is counted: it is up, whatever was owed to it.
    pub(in crate::engine) fn is_up(&mut self, host: HostId) {
        self.pardoned.remove(&host);
        self.quarantined.remove(&host);
        self.drop_restore(host, Effect::Power);
        self.power_owed.remove(&host);
        self.alarms.clear(&mut self.actions, &format!("power {host}"));
    }

    /// An operator says that it is dead: it is not switched on by any order of before.
    pub(in crate::engine) fn forget_power_of(&mut self, host: HostId) {
        let running: Vec<Incarnation> =
            self.fences.running.keys().copied().filter(|who| who.host == host).collect();
        running.into_iter().for_each(|who| self.abandon(who));
        self.drop_restore(host, Effect::Power);
        self.power_owed.remove(&host);
    }

    fn is_to_be_fenced(&self, host: HostId) -> bool {
        let outside = self.electorate.living().filter(|who| !self.view.contains(who));
        outside.chain(self.fences.running.keys().copied()).any(|who| who.host == host)
    }

    pub(in crate::engine) fn has_left(&self, host: HostId) -> bool {
        self.accepted(host).is_some_and(|last| last.heartbeat.presence == Presence::Left)
    }

    pub(super) fn begin_restore(&mut self, host: HostId, effect: Effect, whom: Incarnation) {
        let key = (host, effect);
        if effect != Effect::Power && self.opens_itself(host) {
            // Its next life does, before it is taken in.
            self.fences.closed.remove(&host);
            return;
        }
        // One that is under way began after every earlier life was dead: it serves this one as well.
        if let Some(restore) = self.fences.restores.get_mut(&key) {
            restore.whom = whom;
            return;
        }
        let again_at = match effect {
            Effect::Power => self.now,
            Effect::Storage | Effect::Network => self.settled_before_us(host, effect),
        };
        self.fences.restores.insert(key, Restore::new(whom, again_at));
    }

    /// What is still owed stays owed, and what was sent and not answered is awaited before anything rests on it.
    pub(super) fn drop_restore(&mut self, host: HostId, effect: Effect) {
        let Some(Restore { fence, whom, .. }) = self.fences.restores.remove(&(host, effect)) else { return };
        let mut settled_at = self.now;
        if let Some(fence) = fence {
            let Abandoned { in_flight, settled_at: at, .. } = fence.abandon(self.now);
            settled_at = settled_at.max(at);
            self.cancel(Purpose::Restore(host, effect), effect == Effect::Power, &in_flight);
        }
        self.note_unsettled(host, effect, settled_at);
        self.alarms.clear(&mut self.actions, &restore_alarm(host, effect));
        match effect {
            Effect::Power => {
                self.power_owed.insert(host, settled_at);
            }
            Effect::Storage | Effect::Network
                if self.electorate.is_dead(whom) || self.heartbeat_of(whom).is_none() =>
            {
                self.fences.closed.insert(host);
            }
            Effect::Storage | Effect::Network => {}
        }
    }

    pub(super) fn note_unsettled(&mut self, host: HostId, effect: Effect, settled_at: Time) {
        let until = self.fences.unsettled.entry((host, effect)).or_insert(settled_at);
        *until = (*until).max(settled_at);
    }

    /// Paths that this host closed are opened once their life is dead, also when this host could not at that time.
    pub(super) fn open_closed_paths(&mut self) {
        let now = self.now;
        self.fences.unsettled.retain(|_, until| now < *until);
        let closed: Vec<HostId> = self.fences.closed.iter().copied().collect();
        for host in closed {
            let Some(effect) = self.isolation_of(host) else { continue };
            if self.may_restore(host, effect) && !self.fences.restores.contains_key(&(host, effect)) {
                self.begin_restore(host, effect, Incarnation::new(host, [0; 8]));
            }
        }
    }

    /// SAFE-2, and PROTOCOL "Isolation": "It is never opened again for that incarnation": not while a life of that host may be
    /// counted as cut.
    pub(super) fn may_restore(&self, host: HostId, effect: Effect) -> bool {
        match effect {
            Effect::Power => {
                self.is_quorate(self.now)
                    && self.cluster.fencing().mode() == FencingMode::Enforce
                    && !self.is_to_be_fenced(host)
                    && !self.has_left(host)
                    && !self.keeps_out(host)
                    && !self.view.iter().any(|who| who.host == host)
            }
            Effect::Storage | Effect::Network if self.opens_itself(host) => {
                host == self.me.host && self.may_open_own_paths()
            }
            Effect::Storage | Effect::Network => {
                self.is_coordinator(self.now)
                    && self.cluster.fencing().mode() == FencingMode::Enforce
                    && (self.electorate.of_host(host).all(|who| self.electorate.is_dead(who))
                        || mutant::on(Mutant::CutOpenedAgain))
            }
        }
    }

    pub(super) fn drive_restores(&mut self) {
        let under_way: Vec<(HostId, Effect)> = self.fences.restores.keys().copied().collect();
        for (host, effect) in under_way {
            if !self.may_restore(host, effect) {
                self.drop_restore(host, effect);
                // It is up, or away for good.
                if self.has_left(host) || self.keeps_out(host) || self.view.iter().any(|who| who.host == host)
                {
                    self.power_owed.remove(&host);
                }
                continue;
            }
            self.begin_again(host, effect);
            while self.drive_restore(host, effect) {}
            self.end_restore(host, effect);
        }
        let opened: Vec<Incarnation> =
            self.fences.opened.iter().copied().filter(|who| *who != self.me).collect();
        for who in opened.into_iter().filter(|who| self.heartbeat_of(*who).is_none()).collect::<Vec<_>>() {
            self.fences.opened.remove(&who);
        }
    }

    fn begin_again(&mut self, host: HostId, effect: Effect) {
        let (now, key) = (self.now, (host, effect));
        let Some(restore) = self.fences.restores.get(&key).filter(|restore| restore.fence.is_none()) else {
            return;
        };
        // What is on its way to close, or to switch off, would be read too early.
        let settled_at = self.fences.unsettled.get(&key).copied().unwrap_or(Time(0));
        let (whom, again_at) = (restore.whom, restore.again_at.max(settled_at));
        if now < again_at {
            return self.wake_at(again_at);
        }
        let fence = Fence::restore(whom, self.plan(host, effect, Opening::LookFirst), now);
        if let Some(restore) = self.fences.restores.get_mut(&key) {
            (restore.fence, restore.failed) = (Some(fence), None);
        }
    }

    fn drive_restore(&mut self, host: HostId, effect: Effect) -> bool {
        let (now, key) = (self.now, (host, effect));
        let Some(fence) = self.fences.restores.get_mut(&key).and_then(|restore| restore.fence.as_mut())
        else {
            return false;
        };
        if let Some(order) = fence.poll_order(now) {
            self.intend(Purpose::Restore(host, effect), order);
            return true;
        }
        let Some(outcome) = fence.poll_outcome() else { return false };
        if let Outcome::NotRestored { device, setback } = outcome {
            let failed = format!("{}: {setback}", self.device_name(device));
            if let Some(restore) = self.fences.restores.get_mut(&key) {
                restore.failed = Some(failed);
            }
        }
        true
    }

    fn end_restore(&mut self, host: HostId, effect: Effect) {
        let (now, key) = (self.now, (host, effect));
        let alarm = restore_alarm(host, effect);
        let Some(restore) = self.fences.restores.get_mut(&key) else { return };
        let Some(fence) = &restore.fence else { return };
        if !fence.is_done() {
            if let Some(at) = fence.wake() {
                self.wake_at(at);
            }
            return;
        }
        let settled_at = fence.settled_at();
        if let Some(failed) = restore.failed.clone() {
            restore.fence = None;
            restore.again_at = now.after(restore.rest);
            restore.rest = Duration(restore.rest.0.saturating_mul(2).min(REST_MAX.0));
            let again_at = restore.again_at;
            self.wake_at(again_at);
            self.note_unsettled(host, effect, settled_at);
            let name = self.name(host);
            let what = match effect {
                Effect::Power => format!("{name} does not get its power back ({failed})"),
                Effect::Storage | Effect::Network => {
                    format!("{name} waits to be taken in: its paths cannot be opened ({failed})")
                }
            };
            return self.alarms.raise_for(&mut self.actions, alarm, what);
        }
        // "no open of unknown outcome may be outstanding then"
        let earlier = self.fences.unsettled.get(&key).copied().unwrap_or(Time(0));
        let settled_at = settled_at.max(earlier);
        if now < settled_at {
            return self.wake_at(settled_at);
        }
        if effect != Effect::Power {
            let whom = restore.whom;
            self.fences.opened.insert(whom);
            self.dirty |= whom == self.me;
            self.fences.closed.remove(&host);
        }
        self.fences.restores.remove(&key);
        self.alarms.clear(&mut self.actions, &alarm);
        if effect == Effect::Power {
            self.alarms.clear(&mut self.actions, &format!("power {host}"));
        }
    }

    /// PROTOCOL, "Isolation": "x's path is opened (unfence) once [...] and has completed before x says admitted". Here by the
    /// coordinator, before it takes x in, where the devices are not x's own (see [`Engine::open_own_paths`]). What a coordinator
    /// before it sent has settled by then.
    pub(in crate::engine) fn opens_paths_of(&mut self, x: Incarnation) -> bool {
        let Some(effect) = self.isolation_of(x.host) else { return true };
        let shadow = self.cluster.fencing().mode() == FencingMode::Shadow;
        if shadow || self.opens_itself(x.host) || self.fences.opened.contains(&x) {
            return true;
        }
        self.begin_restore(x.host, effect, x);
        self.drive_restores();
        false
    }

    /// From when on nothing that a coordinator before this one sent to those devices can execute any more. What hosts do about their
    /// own firewalls they say themselves, until it is done.
    fn settled_before_us(&self, host: HostId, effect: Effect) -> Time {
        let began = self.coordinates_since.max(self.quorate_since).unwrap_or(self.now);
        let sent = self.devices_of(host, effect).filter(|(_, device)| !device.kind().is_wall());
        let Some(longest) = sent.map(|(_, device)| device.deadline()).max() else { return self.now };
        let settles = longest.times(SETTLE_DEADLINES + 1);
        began.after(self.timing().rejoin_hold().max(settles))
    }
}

fn restore_alarm(host: HostId, effect: Effect) -> String {
    format!("restore {host} {}", effect.proves())
}
