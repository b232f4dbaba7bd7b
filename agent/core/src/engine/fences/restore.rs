//! Giving back: power that a fence cut in vain, and paths that are to be open before a host is taken in.

use serde::{Deserialize, Serialize};

use palisade_ladder::{Effect, Fence, Opening, Outcome};
use palisade_proto::message::Presence;
use palisade_proto::mutant::{self, Mutant};
use palisade_proto::{Duration, HostId, Incarnation, Time};

use super::super::Engine;
use super::Purpose;
use crate::config::AfterOff;

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

impl Engine {
    /// A host that lost its power to an order of ours and has no fence any more gets it back, unless it is still to be fenced or
    /// has left since: nobody powers on what is in maintenance.
    pub(super) fn return_owed_power(&mut self) {
        if self.power_owed.is_empty() || !self.is_quorate(self.now) {
            return;
        }
        let owed: Vec<(HostId, Time)> = self.power_owed.iter().map(|(host, at)| (*host, *at)).collect();
        for (host, settled_at) in owed {
            if self.is_to_be_fenced(host) {
                continue;
            }
            // An off that was never answered may lie in the device's queue.
            if self.now < settled_at {
                self.wake_at(settled_at);
                continue;
            }
            self.power_owed.remove(&host);
            if self.cluster.fencing().after_off() == AfterOff::On && !self.has_left(host) {
                self.begin_restore(host, Effect::Power, Incarnation::new(host, [0; 8]));
            }
        }
    }

    fn is_to_be_fenced(&self, host: HostId) -> bool {
        let outside = self.electorate.living().filter(|who| !self.view.contains(who));
        outside.chain(self.fences.running.keys().copied()).any(|who| who.host == host)
    }

    fn has_left(&self, host: HostId) -> bool {
        self.accepted(host).is_some_and(|last| last.heartbeat.presence == Presence::Left)
    }

    pub(super) fn begin_restore(&mut self, host: HostId, effect: Effect, whom: Incarnation) {
        let key = (host, effect);
        if self.fences.restores.get(&key).is_some_and(|restore| restore.whom == whom) {
            return;
        }
        self.drop_restore(host, effect);
        let restore = Restore { whom, fence: None, again_at: self.now, rest: REST, failed: None };
        self.fences.restores.insert(key, restore);
    }

    fn drop_restore(&mut self, host: HostId, effect: Effect) {
        if let Some(Restore { fence: Some(fence), .. }) = self.fences.restores.remove(&(host, effect)) {
            let in_flight = fence.abandon(self.now).in_flight;
            self.cancel(Purpose::Restore(host, effect), &in_flight);
        }
    }

    /// SAFE-2, and PROTOCOL "Isolation": "It is never opened again for that incarnation": not while a life of that host may be
    /// counted as cut.
    pub(super) fn may_restore(&self, host: HostId, effect: Effect) -> bool {
        match effect {
            Effect::Power => self.is_quorate(self.now) && !self.is_to_be_fenced(host) && !self.has_left(host),
            Effect::Storage | Effect::Network => {
                self.is_coordinator(self.now)
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
                continue;
            }
            self.begin_again(host, effect);
            while self.drive_restore(host, effect) {}
            self.end_restore(host, effect);
        }
        let opened: Vec<Incarnation> = self.fences.opened.iter().copied().collect();
        for who in opened.into_iter().filter(|who| self.heartbeat_of(*who).is_none()).collect::<Vec<_>>() {
            self.fences.opened.remove(&who);
        }
    }

    fn begin_again(&mut self, host: HostId, effect: Effect) {
        let (now, key) = (self.now, (host, effect));
        let Some(restore) = self.fences.restores.get(&key).filter(|restore| restore.fence.is_none()) else {
            return;
        };
        let (whom, again_at) = (restore.whom, restore.again_at);
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
        let alarm = format!("restore {host} {}", effect.proves());
        let Some(restore) = self.fences.restores.get_mut(&key) else { return };
        let Some(fence) = &restore.fence else { return };
        if !fence.is_done() {
            if let Some(at) = fence.wake() {
                self.wake_at(at);
            }
            return;
        }
        if let Some(failed) = restore.failed.clone() {
            restore.fence = None;
            restore.again_at = now.after(restore.rest);
            restore.rest = Duration(restore.rest.0.saturating_mul(2).min(REST_MAX.0));
            let again_at = restore.again_at;
            self.wake_at(again_at);
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
        let settled_at = fence.settled_at();
        if now < settled_at {
            return self.wake_at(settled_at);
        }
        if effect != Effect::Power {
            let whom = restore.whom;
            self.fences.opened.insert(whom);
        }
        self.fences.restores.remove(&key);
        self.alarms.clear(&mut self.actions, &alarm);
    }

    /// PROTOCOL, "Isolation": "x's path is opened (unfence) once [...] and has completed before x says admitted". Here by the
    /// coordinator, before it takes x in: its devices are not x's own. What a coordinator before it sent is answered or given up by
    /// every device after rejoin_hold, which is longer than any deadline.
    pub(in crate::engine) fn opens_paths_of(&mut self, x: Incarnation) -> bool {
        let Some(effect) = self.isolation_of(x.host) else { return true };
        if self.fences.opened.contains(&x) {
            return true;
        }
        let began = self.coordinates_since.max(self.quorate_since).unwrap_or(self.now);
        let from = began.after(self.timing().rejoin_hold());
        if self.now < from {
            self.wake_at(from);
        } else {
            self.begin_restore(x.host, effect, x);
            self.drive_restores();
        }
        false
    }
}
