//! What operators want of hosts: which are drained, and whether fencing is disarmed, and for how much longer.
//!
//! Every host knows it by the heartbeats; the higher version wins. A disarmed cluster arms itself again when its time is over, on each
//! host by that host's own clock: nobody has to remember.

use palisade_proto::message::Wishes;
use palisade_proto::{Duration, Heartbeat, HostId, Time};

use super::Engine;
use crate::action::RequestRefused;
use crate::record::Event;

/// The longest that fencing may be disarmed for at once.
const DISARM_MAX: Duration = Duration::secs(24 * 3600);

impl Engine {
    /// Whether an operator wants this host to run nothing.
    pub(super) fn is_drained(&self, host: HostId) -> bool {
        self.drained & bit(host) != 0
    }

    /// Whether no host is fenced automatically, because an operator said so a while ago.
    pub(super) fn is_disarmed(&self) -> bool {
        self.disarmed_until.is_some_and(|until| self.now < until)
    }

    pub(super) fn drain_by_hand(
        &mut self,
        host: HostId,
        drain: bool,
        by: &str,
    ) -> Result<String, RequestRefused> {
        self.may_wish()?;
        let drained = if drain { self.drained | bit(host) } else { self.drained & !bit(host) };
        if drained != self.drained {
            self.drained = drained;
            self.wish(format!("operator {by}"));
        }
        let name = self.name(host);
        Ok(if drain {
            format!(
                "{name} gives its workloads away, as far as another host may run them, and takes none; it stays a member"
            )
        } else {
            format!("{name} may run workloads again; none comes back to it by itself")
        })
    }

    pub(super) fn arm_by_hand(&mut self, disarmed: Duration, by: &str) -> Result<String, RequestRefused> {
        self.may_wish()?;
        if disarmed > DISARM_MAX {
            return Err(RequestRefused::TooLong { most: DISARM_MAX });
        }
        self.disarmed_until = (disarmed.0 > 0).then(|| self.now.after(disarmed));
        self.wish(format!("operator {by}"));
        Ok(if disarmed.0 > 0 {
            format!(
                "for {disarmed} no host is fenced automatically, and nothing comes back from a host that is lost"
            )
        } else {
            "fencing is armed: a host that is lost is fenced".to_owned()
        })
    }

    fn may_wish(&self) -> Result<(), RequestRefused> {
        if !self.is_quorate(self.now) {
            return Err(RequestRefused::NotQuorate);
        }
        if let Some(error) = &self.journal_failing {
            return Err(RequestRefused::JournalFailing(error.clone()));
        }
        if self.speaks_to_older() {
            return Err(RequestRefused::OlderAgents);
        }
        Ok(())
    }

    fn wish(&mut self, by: String) {
        self.wish_version = self.wish_version.saturating_add(1);
        self.disarm_unknown = false;
        self.dirty = true;
        self.record_wishes(by);
    }

    fn record_wishes(&mut self, by: String) {
        let hosts = self.cluster.hosts().iter().filter(|host| self.is_drained(host.id()));
        let drained = hosts.map(|host| host.name().to_owned()).collect();
        let event =
            Event::Wished { version: self.wish_version, drained, disarmed_ms: self.disarmed_left().0, by };
        self.record(event);
    }

    fn disarmed_left(&self) -> Duration {
        self.disarmed_until
            .filter(|until| self.now < *until)
            .map_or(Duration(0), |until| until.since(self.now))
    }

    /// Nothing while somebody is heard who could not read it.
    pub(super) fn told_wishes(&self) -> Wishes {
        if self.speaks_to_older() {
            return Wishes::default();
        }
        Wishes { version: self.wish_version, drained: self.drained, disarmed: self.disarmed_left() }
    }

    pub(super) fn merge_wishes(&mut self, heartbeat: &Heartbeat) {
        let theirs = heartbeat.wishes;
        let left = theirs.disarmed.min(DISARM_MAX);
        if theirs.version == self.wish_version && theirs.drained != self.drained {
            // Two operators spoke at once, on two hosts: what keeps most from being done is done, and has a version of its own.
            self.drained |= theirs.drained;
            self.wish_version = self.wish_version.saturating_add(1);
            let longer = left > self.disarmed_left();
            self.disarmed_until = if longer { Some(self.now.after(left)) } else { self.disarmed_until };
        } else if theirs.version > self.wish_version {
            self.wish_version = theirs.version;
            self.drained = theirs.drained;
            self.disarmed_until = (left.0 > 0).then(|| self.now.after(left));
            // It may be a host's that has booted since, and does not know for how much longer.
            self.disarm_unknown = left.0 == 0;
        } else if theirs.version == self.wish_version && self.disarm_unknown && left.0 > 0 {
            // After a boot the journal tells which wishes there are, and nobody but a peer for how much longer.
            self.disarmed_until = Some(self.now.after(left));
            self.disarm_unknown = false;
        } else {
            return;
        }
        self.dirty = true;
        self.record_wishes(format!("word of {}", self.name(heartbeat.from.host)));
    }

    /// Alarms about hosts that another configuration does not know, and names that it has given to others.
    pub(super) fn retell_wishes(&mut self) {
        for number in 0..u8::try_from(u32::BITS).unwrap_or(0) {
            if let Some(host) = HostId::new(number) {
                self.alarms.clear(&mut self.actions, &format!("drained {host}"));
            }
        }
        self.told_drained = 0;
    }

    /// A disarmed cluster and a drained host cannot be forgotten: both are alarms for as long as they last.
    pub(super) fn run_wishes(&mut self) {
        if let Some(until) = self.disarmed_until {
            if self.now < until {
                self.wake_at(until);
            } else {
                self.disarmed_until = None;
                self.disarm_unknown = false;
                self.dirty = true;
                self.record_wishes("the time that it was disarmed for is over".to_owned());
            }
        }
        let what = self.disarmed_until.map(|_| {
            "fencing is disarmed by an operator: no host is fenced automatically, nothing comes back from a lost one".to_owned()
        });
        self.alarms.set(&mut self.actions, "disarmed", what);
        if self.told_drained == self.drained {
            return;
        }
        self.told_drained = self.drained;
        let cluster = std::sync::Arc::clone(&self.cluster);
        for host in cluster.hosts() {
            let name = host.name();
            let what = self
                .is_drained(host.id())
                .then(|| format!("{name} is drained by an operator: it runs no workload before `palisade host undrain {name}`"));
            self.alarms.set(&mut self.actions, &format!("drained {}", host.id()), what);
        }
    }

    /// For `status`: for how much longer.
    pub(super) fn disarmed_for(&self, now: Time) -> Option<Duration> {
        self.disarmed_until.filter(|until| now < *until).map(|until| until.since(now))
    }
}

fn bit(host: HostId) -> u32 {
    1 << host.number()
}
