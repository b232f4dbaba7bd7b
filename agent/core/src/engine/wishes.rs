//! What operators want of hosts: which are drained or in maintenance, and whether fencing is disarmed, and for how much longer.
//!
//! Every host knows it by the heartbeats; the higher version wins. A disarmed cluster arms itself again when its time is over, on each
//! host by that host's own clock: nobody has to remember. Maintenance lasts until somebody ends it, and is told when it lasts too long.

use std::collections::BTreeMap;

use palisade_proto::message::{Maintenance, Presence, Wishes};
use palisade_proto::mutant::{self, Mutant};
use palisade_proto::wire::{CARE_VERSION, HEARTBEAT_VERSION};
use palisade_proto::{Duration, Heartbeat, HostId, Time};
use serde::{Deserialize, Serialize};

use super::Engine;
use crate::action::RequestRefused;
use crate::config::Cluster;
use crate::record::{Event, Maintained};

/// The longest that fencing may be disarmed for at once.
const DISARM_MAX: Duration = Duration::secs(24 * 3600);
/// The longest that a maintenance may be said to last.
const MAINTENANCE_MAX: Duration = Duration::secs(31 * 24 * 3600);
/// Two hosts that tell the same time differ by what a word takes, and by what their clocks do: this much, and a 64th of the time.
const SAME: Duration = Duration::secs(10);

/// What operators want of hosts, as one host knows it. Outlives a life in `/run`, and a boot in the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wished {
    /// Rises with each change.
    pub version: u64,
    /// Hosts that are to run nothing: one bit for each host id.
    pub drained: u32,
    /// Until when fencing is disarmed, on this boot's clock.
    pub disarmed_until: Option<Time>,
    /// For how much longer fencing is disarmed is not known, and taken for not at all, until a peer tells.
    pub disarm_unknown: bool,
    /// Hosts in maintenance, and until when each was said to be, on this boot's clock.
    pub maintenance: BTreeMap<HostId, Time>,
}

impl Wished {
    /// What a journal's last [`Event::Wished`] tells after a boot, at `now`. It cannot tell for how much longer fencing is disarmed.
    #[must_use]
    pub fn recorded(event: &Event, cluster: &Cluster, now: Time) -> Option<Self> {
        let Event::Wished { version, drained, maintenance, .. } = event else { return None };
        let named = |name: &str| cluster.host_named(name).map(crate::config::Host::id);
        Some(Self {
            version: *version,
            drained: drained.iter().filter_map(|name| named(name)).fold(0, |bits, host| bits | bit(host)),
            disarmed_until: None,
            disarm_unknown: true,
            maintenance: maintenance
                .iter()
                .filter_map(|one| Some((named(&one.host)?, now.after(Duration(one.left_ms)))))
                .collect(),
        })
    }

    fn disarmed_left(&self, now: Time) -> Duration {
        self.disarmed_until.filter(|until| now < *until).map_or(Duration(0), |until| until.since(now))
    }

    fn told(&self, now: Time) -> Wishes {
        let maintenance =
            self.maintenance.iter().map(|(host, until)| Maintenance { host: *host, left: left(*until, now) });
        Wishes {
            version: self.version,
            drained: self.drained,
            disarmed: self.disarmed_left(now),
            maintenance: maintenance.collect(),
        }
    }

    /// Takes in what a peer tells, who reads wire version `speaks`. Whether it is news.
    fn merge(&mut self, theirs: &Wishes, speaks: u8, now: Time) -> bool {
        let disarmed = theirs.disarmed.min(DISARM_MAX);
        let disarmed_until = (disarmed.0 > 0).then(|| now.after(disarmed));
        let maintenance: BTreeMap<HostId, Time> = if speaks < HEARTBEAT_VERSION {
            self.maintenance.clone()
        } else {
            let told = theirs.maintenance.iter();
            told.map(|one| (one.host, now.after(one.left.min(MAINTENANCE_MAX)))).collect()
        };
        if theirs.version > self.version {
            self.version = theirs.version;
            self.drained = theirs.drained;
            self.disarmed_until = disarmed_until;
            // It may be a host's that has booted since, and does not know for how much longer.
            self.disarm_unknown = disarmed.0 == 0;
            self.maintenance = maintenance;
            return true;
        }
        if theirs.version < self.version || theirs.version == 0 {
            return false;
        }
        if self.disarm_unknown && disarmed.0 > 0 {
            self.disarmed_until = disarmed_until;
            self.disarm_unknown = false;
            return true;
        }
        let longer = is_longer(disarmed, self.disarmed_left(now));
        if theirs.drained != self.drained || longer || !self.maintenance.keys().eq(maintenance.keys()) {
            // Two operators spoke at once, on two hosts: what keeps most from being done is done, and has a version of its own.
            self.version = self.version.saturating_add(1);
            self.drained |= theirs.drained;
            self.disarmed_until = if longer { disarmed_until } else { self.disarmed_until };
            for (host, until) in maintenance {
                self.maintenance.entry(host).or_insert(until);
            }
            return true;
        }
        // Whoever has been off meanwhile does not know how much time that took.
        for (host, until) in maintenance {
            if let Some(ours) =
                self.maintenance.get_mut(&host).filter(|ours| is_longer(left(**ours, now), left(until, now)))
            {
                *ours = until;
            }
        }
        false
    }
}

impl Engine {
    /// Whether an operator wants this host to run nothing.
    pub(super) fn is_drained(&self, host: HostId) -> bool {
        self.wished.drained & bit(host) != 0 || self.is_in_maintenance(host)
    }

    /// Whether an operator wants this host out: nothing fences it once it has left, and nothing powers it on.
    pub(super) fn is_in_maintenance(&self, host: HostId) -> bool {
        self.wished.maintenance.contains_key(&host)
    }

    /// For how much longer it was said to last; zero: it outlasts its time.
    pub(super) fn maintenance_left(&self, host: HostId, now: Time) -> Option<Duration> {
        self.wished.maintenance.get(&host).map(|until| left(*until, now))
    }

    /// Whether no host is fenced automatically, because an operator said so a while ago.
    pub(super) fn is_disarmed(&self) -> bool {
        self.wished.disarmed_until.is_some_and(|until| self.now < until)
    }

    pub(super) fn drain_by_hand(
        &mut self,
        host: HostId,
        drain: bool,
        by: &str,
    ) -> Result<String, RequestRefused> {
        self.may_wish(CARE_VERSION)?;
        let before = self.wished.drained;
        let drained = if drain { before | bit(host) } else { before & !bit(host) };
        if drained != before {
            self.wished.drained = drained;
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
        self.may_wish(CARE_VERSION)?;
        if disarmed > DISARM_MAX {
            return Err(RequestRefused::TooLong { most: DISARM_MAX });
        }
        self.wished.disarmed_until = (disarmed.0 > 0).then(|| self.now.after(disarmed));
        self.wish(format!("operator {by}"));
        Ok(if disarmed.0 > 0 {
            format!(
                "for {disarmed} no host is fenced automatically, and nothing comes back from a host that is lost"
            )
        } else {
            "fencing is armed: a host that is lost is fenced".to_owned()
        })
    }

    pub(super) fn begin_maintenance(
        &mut self,
        host: HostId,
        length: Duration,
        by: &str,
    ) -> Result<String, RequestRefused> {
        self.may_wish(HEARTBEAT_VERSION)?;
        if length > MAINTENANCE_MAX {
            return Err(RequestRefused::TooLong { most: MAINTENANCE_MAX });
        }
        if !self.view.iter().any(|who| who.host != host && !self.is_in_maintenance(who.host)) {
            return Err(RequestRefused::LastHost);
        }
        let stops = self.stops_for_maintenance(host);
        self.wished.maintenance.insert(host, self.now.after(length));
        self.wish(format!("operator {by}"));
        let name = self.name(host);
        let does = match self.electorate.of_host(host).any(|who| self.electorate.is_living(who)) {
            true => format!("{name} stops what it runs and leaves{stops}"),
            false => format!("{name} is no member, and stays out"),
        };
        Ok(format!(
            "{does}; once it is out nothing fences it or powers it on before `palisade maintenance off {name}`; after {length} an alarm reminds you"
        ))
    }

    /// What becomes of the workloads of a host that leaves, as far as one can tell.
    fn stops_for_maintenance(&self, host: HostId) -> String {
        let busy = match host == self.me.host {
            true => self.busy(),
            false => self.accepted(host).map(|accepted| accepted.heartbeat.busy).unwrap_or_default(),
        };
        let running = self.cluster.workloads().iter().filter(|workload| busy.contains(workload.id()));
        let stays = |workload: &&crate::config::Workload| {
            let mut others = self.view.iter().map(|who| who.host).filter(|other| *other != host);
            !others.any(|other| workload.hosts().contains(&other) && !self.is_drained(other))
        };
        let names: Vec<&str> = running.filter(stays).map(crate::config::Workload::name).collect();
        if names.is_empty() {
            String::new()
        } else {
            format!(" (no other host may run {})", names.join(", "))
        }
    }

    /// Nobody is harmed by a host that comes back by the rules, and whoever is left may be no quorum without it.
    pub(super) fn end_maintenance(&mut self, host: HostId, by: &str) -> Result<String, RequestRefused> {
        self.may_record()?;
        let name = self.name(host).to_owned();
        if self.wished.maintenance.remove(&host).is_none() {
            return Ok(format!("{name} is not in maintenance"));
        }
        self.wish(format!("operator {by}"));
        Ok(format!(
            "{name} may come back: it is taken in when its agent speaks; nothing powers it on, and no workload comes back by itself"
        ))
    }

    fn may_wish(&self, version: u8) -> Result<(), RequestRefused> {
        if !self.is_quorate(self.now) {
            return Err(RequestRefused::NotQuorate);
        }
        self.may_record()?;
        if self.speaks_to_older(version) {
            return Err(RequestRefused::OlderAgents);
        }
        Ok(())
    }

    fn may_record(&self) -> Result<(), RequestRefused> {
        self.journal_failing.clone().map_or(Ok(()), |error| Err(RequestRefused::JournalFailing(error)))
    }

    fn wish(&mut self, by: String) {
        self.wished.version = self.wished.version.saturating_add(1);
        self.wished.disarm_unknown = false;
        self.dirty = true;
        self.record_wishes(by);
    }

    fn record_wishes(&mut self, by: String) {
        let hosts = || self.cluster.hosts().iter();
        let drained = hosts().filter(|host| self.wished.drained & bit(host.id()) != 0);
        let maintained = hosts().filter_map(|host| {
            let left = self.maintenance_left(host.id(), self.now)?;
            Some(Maintained { host: host.name().to_owned(), left_ms: left.0 })
        });
        let event = Event::Wished {
            version: self.wished.version,
            drained: drained.map(|host| host.name().to_owned()).collect(),
            disarmed_ms: self.wished.disarmed_left(self.now).0,
            by,
            maintenance: maintained.collect(),
        };
        self.record(event);
    }

    /// Nothing while somebody is heard who could not read it, or would tell on but a part of it.
    pub(super) fn told_wishes(&self) -> Wishes {
        let needed = if self.wished.maintenance.is_empty() { CARE_VERSION } else { HEARTBEAT_VERSION };
        if self.speaks_to_older(needed) { Wishes::default() } else { self.wished.told(self.now) }
    }

    pub(super) fn merge_wishes(&mut self, heartbeat: &Heartbeat) {
        if self.wished.merge(&heartbeat.wishes, heartbeat.speaks, self.now) {
            self.dirty = true;
            self.record_wishes(format!("word of {}", self.name(heartbeat.from.host)));
        }
    }

    /// Alarms about hosts that another configuration does not know, and names that it has given to others.
    pub(super) fn retell_wishes(&mut self) {
        for number in 0..u8::try_from(u32::BITS).unwrap_or(0) {
            if let Some(host) = HostId::new(number) {
                self.alarms.clear(&mut self.actions, &format!("drained {host}"));
                self.alarms.clear(&mut self.actions, &format!("maintenance {host}"));
            }
        }
        self.told_wished = (0, BTreeMap::new());
    }

    /// A disarmed cluster, a drained host and one in maintenance cannot be forgotten: each is an alarm for as long as it lasts.
    pub(super) fn run_wishes(&mut self) {
        if let Some(until) = self.wished.disarmed_until {
            if self.now < until {
                self.wake_at(until);
            } else {
                self.wished.disarmed_until = None;
                self.wished.disarm_unknown = false;
                self.dirty = true;
                self.record_wishes("the time that it was disarmed for is over".to_owned());
            }
        }
        let what = self.wished.disarmed_until.map(|_| {
            "fencing is disarmed by an operator: no host is fenced automatically, nothing comes back from a lost one".to_owned()
        });
        self.alarms.set(&mut self.actions, "disarmed", what);
        let ends: Vec<Time> = self.wished.maintenance.values().copied().collect();
        ends.into_iter().for_each(|until| self.wake_at(until));
        let overdue: BTreeMap<HostId, bool> =
            self.wished.maintenance.iter().map(|(host, until)| (*host, self.now >= *until)).collect();
        let told = (self.wished.drained, overdue);
        if self.told_wished != told {
            self.tell_wished(&told.1);
            self.told_wished = told;
        }
        // PROTOCOL, "Leaving and restarting": "(in maintenance: on every heartbeat)".
        if self.is_in_maintenance(self.me.host) {
            self.leave_for_maintenance();
        }
    }

    fn tell_wished(&mut self, overdue: &BTreeMap<HostId, bool>) {
        let cluster = std::sync::Arc::clone(&self.cluster);
        for host in cluster.hosts() {
            let (id, name) = (host.id(), host.name());
            let drained = (self.wished.drained & bit(id) != 0)
                .then(|| format!("{name} is drained by an operator: it runs no workload before `palisade host undrain {name}`"));
            self.alarms.set(&mut self.actions, &format!("drained {id}"), drained);
            let lasts = overdue.get(&id).map(|overdue| {
                let too_long = if *overdue { " for longer than was said" } else { "" };
                format!("{name} is in maintenance{too_long}: it runs nothing, and nothing fences it or powers it on, before `palisade maintenance off {name}`")
            });
            self.alarms.set(&mut self.actions, &format!("maintenance {id}"), lasts);
        }
    }

    /// For `status`: for how much longer.
    pub(super) fn disarmed_for(&self, now: Time) -> Option<Duration> {
        Some(self.wished.disarmed_left(now)).filter(|left| left.0 > 0)
    }

    /// PROTOCOL, "Leaving and restarting", has this as `left`, which nobody fences. What an operator keeps out is kept out also where
    /// it has not heard so itself.
    pub(super) fn keeps_out(&self, host: HostId) -> bool {
        self.is_in_maintenance(host) && !mutant::on(Mutant::MaintenanceForgotten)
    }

    /// Whether the last life of that host has ended by its own word, or nobody counts one.
    pub(super) fn is_out(&self, host: HostId) -> bool {
        if host == self.me.host {
            return self.presence == Presence::Left;
        }
        !self.electorate.of_host(host).any(|who| self.electorate.is_living(who))
    }
}

fn bit(host: HostId) -> u32 {
    1 << host.number()
}

fn left(until: Time, now: Time) -> Duration {
    if now < until { until.since(now) } else { Duration(0) }
}

fn is_longer(one: Duration, other: Duration) -> bool {
    one.0 > other.0.saturating_add(SAME.0).saturating_add(one.0 / 64)
}
