//! What the engine tells of itself: status, alarms about peers, evidence in words.

use palisade_ladder::{Evidence, Proof};
use palisade_proto::message::{HealthClass, Presence};
use palisade_proto::{Duration, HostId, Incarnation, Time, Verdict};

use super::{Engine, claims::Here};
use crate::status::{
    FencePathStatus, HostStatus, IllStatus, JournalStatus, Status, WitnessStatus, WorkloadStatus,
};

/// The witness was proven so long ago at most, else an alarm (DESIGN, "Between the processes": 30 s).
pub(super) const WITNESS_PROVEN: Duration = Duration::secs(30);

/// A clone that has been silent for so long is taken for gone.
const CLONE_GONE: Duration = Duration::secs(30);
/// A host that is no member after so long deserves a look.
const ADMISSION_EXPECTED: Duration = Duration::secs(60);

impl Engine {
    /// What is not as it should be with the peers.
    pub(super) fn watch_peers(&mut self) {
        let silent: Vec<HostId> = self
            .clones
            .iter()
            .filter(|(_, last)| self.now >= last.after(CLONE_GONE))
            .map(|(host, _)| *host)
            .collect();
        for host in silent {
            self.clones.remove(&host);
            self.alarms.clear(&mut self.actions, &format!("clone {host}"));
        }
        let waits =
            !self.is_admitted() && !self.stays_out() && self.now >= self.started.after(ADMISSION_EXPECTED);
        let what = waits.then(|| self.why_not_admitted());
        self.alarms.set(&mut self.actions, "admission", what);
        let others: Vec<(Incarnation, bool, bool)> = self
            .heard()
            .map(|accepted| {
                let heartbeat = &accepted.heartbeat;
                let timing =
                    heartbeat.lease == self.timing().lease() && heartbeat.drift == self.timing().drift();
                (heartbeat.from, heartbeat.digest == self.digest, timing)
            })
            .collect();
        for (who, same_digest, same_timing) in others {
            let name = self.name(who.host).to_owned();
            let what = match (same_timing, same_digest) {
                (false, _) => {
                    Some(format!("{name} runs with another lease or drift: it gets no vote of this host"))
                }
                (true, false) => {
                    Some(format!("{name} runs with another configuration: reload it there or here"))
                }
                (true, true) => None,
            };
            self.alarms.set(&mut self.actions, &format!("digest {}", who.host), what);
        }
        if !self.is_quorate(self.now) {
            self.alarms.clear(&mut self.actions, "witness");
        } else if self.cluster.witness().is_some() {
            let since = self.witness_answered.max(self.quorate_since).unwrap_or(self.now);
            let what = (self.now >= since.after(WITNESS_PROVEN))
                .then(|| format!("the witness has not answered for more than {WITNESS_PROVEN}"));
            self.alarms.set(&mut self.actions, "witness", what);
        }
    }

    fn why_not_admitted(&self) -> String {
        let name = self.name(self.me.host);
        if !self.unfit.is_empty() {
            return format!("{name} is no member: it is not armed");
        }
        if self.awaits_own_paths() {
            return format!("{name} is no member: it waits until its paths to shared storage are open");
        }
        if !self.unseen.is_empty() || !self.here.is_empty() {
            return format!(
                "{name} is no member: it waits until each of its workloads is known to be stopped here"
            );
        }
        let lock = self.cold.lock();
        let missing: Vec<&str> = self
            .cluster
            .hosts()
            .iter()
            .filter(|host| host.id() != self.me.host)
            .filter(|host| {
                let heartbeat =
                    self.accepted(host.id()).and_then(|accepted| self.hears(accepted.heartbeat.from));
                heartbeat.is_none_or(|heartbeat| lock.is_some() && heartbeat.lock != lock)
            })
            .map(crate::config::Host::name)
            .collect();
        format!(
            "{name} is no member yet; not heard, or not waiting for the same cold start: {}",
            missing.join(", ")
        )
    }

    pub(super) fn in_words(&self, proof: &Proof) -> String {
        match proof.evidence() {
            Evidence::PowerOff { readings, cut } | Evidence::Isolated { readings, cut } => {
                let read: Vec<String> = readings
                    .iter()
                    .map(|reading| {
                        let answer = if reading.already_off {
                            "said that it is off already"
                        } else {
                            "acknowledged the off"
                        };
                        format!("{} {answer} and then read off", self.device_name(reading.device))
                    })
                    .collect();
                let cut = if *cut { "" } else { " (it was off before)" };
                format!("{}{cut}", read.join(", "))
            }
            Evidence::Left => "its own word".to_owned(),
            Evidence::Reborn { by } => format!("the same machine speaks as life {}", by.life),
            Evidence::WatchdogExpired { silent, bound } => {
                format!("not in the view for {silent}, its watchdog's bound is {bound}")
            }
            Evidence::Operator { by, statement } => format!("operator {by} states: {statement}"),
            Evidence::Gossiped { from, .. } => format!("{} holds the proof", self.name(from.host)),
        }
    }

    /// What `palisade status` shows, as far as the engine knows it.
    #[must_use]
    pub fn status(&self, now: Time) -> Status {
        let names = |who: &mut dyn Iterator<Item = Incarnation>| {
            who.map(|who| self.name(who.host).to_owned()).collect()
        };
        let quorate = self.is_quorate(now);
        let unreached = (0u16..).zip(self.cluster.devices()).map(|(id, device)| {
            let path = self.fences.paths.get(&palisade_ladder::DeviceId(id));
            FencePathStatus {
                device: device.name().to_owned(),
                fences: self.name(device.fences()).to_owned(),
                proven_ms: path.and_then(|path| path.proven).map(|at| now.since(at).0),
                error: path.and_then(|path| path.error.clone()),
            }
        });
        Status {
            cluster: self.cluster.name().to_owned(),
            host: self.name(self.me.host).to_owned(),
            incarnation: self.me.life.to_string(),
            admitted: self.is_admitted(),
            quorate,
            found: self.found.map(|found| format!("{} at {}", self.name(found.decider.host), found.epoch)),
            coordinator: self.view.first().filter(|_| quorate).map(|who| self.name(who.host).to_owned()),
            view: names(&mut self.view.iter().copied()),
            electorate: names(&mut self.electorate.counted().iter().copied()),
            dead: names(&mut self.electorate.deaths().iter().map(|death| death.who)),
            hosts: self.cluster.hosts().iter().map(|host| self.host_status(host, now)).collect(),
            workloads: self
                .cluster
                .workloads()
                .iter()
                .map(|workload| self.workload_status(workload))
                .collect(),
            witness: WitnessStatus {
                configured: self.cluster.witness().is_some(),
                proven_ms: self.witness_answered.map(|at| now.since(at).0),
                granting: self.told_votes.1,
            },
            fence_paths: unreached.collect(),
            not_armed: self.unfit.clone(),
            journal: JournalStatus {
                ok: self.journal_failing.is_none(),
                error: self.journal_failing.clone(),
            },
            disarmed_ms: self.disarmed_for(now).map(|left| left.0),
            ills: self
                .ills()
                .map(|(probe, ill)| IllStatus {
                    probe: probe.name().to_owned(),
                    level: probe.level(),
                    verdict: ill.verdict,
                    policy: probe.on_failure(),
                    why: ill.why.clone(),
                })
                .collect(),
            alarms: self.alarms.all().map(str::to_owned).collect(),
        }
    }

    fn host_status(&self, host: &crate::config::Host, now: Time) -> HostStatus {
        let id = host.id();
        let accepted = self.accepted(id);
        let counted = self.electorate.of_host(id).next();
        let living = self.electorate.of_host(id).find(|who| self.electorate.is_living(*who));
        let mine = id == self.me.host;
        let life = if mine {
            Some(self.me)
        } else {
            accepted.map(|accepted| accepted.heartbeat.from).or(living).or(counted)
        };
        let heard = life.and_then(|who| self.hears(who));
        let presence = if mine { Some(self.presence) } else { heard.map(|heartbeat| heartbeat.presence) };
        let state = match (presence, living) {
            _ if self.is_in_maintenance(id) && self.is_out(id) => "maintenance",
            (Some(Presence::Left), _) => "left",
            (Some(Presence::Away), _) => "away",
            (Some(Presence::Joining), _) => "joining",
            (Some(Presence::Admitted), _) if mine || life.is_some_and(|who| self.view.contains(&who)) => {
                "member"
            }
            (_, Some(who)) if self.electorate.is_cut(who) => "isolated",
            (_, Some(who)) if self.is_fencing(who) => "fencing",
            (_, Some(_)) => "suspect",
            (Some(Presence::Admitted), None) => "suspect",
            (None, None) if counted.is_some() || life.is_some_and(|who| self.electorate.is_dead(who)) => {
                "dead"
            }
            (None, None) => "unheard",
        };
        let health = if mine { Some(self.own_health()) } else { heard.map(|heartbeat| heartbeat.health) };
        HostStatus {
            name: host.name().to_owned(),
            id: id.number(),
            state: state.to_owned(),
            drained: self.is_drained(id),
            maintenance_ms: self.maintenance_left(id, now).map(|left| left.0),
            incarnation: life.map(|who| who.life.to_string()),
            heard_ms: accepted.map(|accepted| now.since(accepted.at).0),
            health: health.map(|class| match class {
                HealthClass::Healthy => "healthy".to_owned(),
                HealthClass::Degraded => "degraded".to_owned(),
                HealthClass::Failed => "failed".to_owned(),
            }),
        }
    }

    fn workload_status(&self, workload: &crate::config::Workload) -> WorkloadStatus {
        let id = workload.id();
        let peers = self
            .heard()
            .map(|accepted| &accepted.heartbeat)
            .filter(|heartbeat| heartbeat.busy.contains(id))
            .map(|heartbeat| heartbeat.from);
        let mine = self.here.contains_key(&id).then_some(self.me);
        WorkloadStatus {
            name: workload.name().to_owned(),
            id: id.0,
            desired: if self.desired.stopped.contains(id) {
                "stopped".to_owned()
            } else {
                "running".to_owned()
            },
            on: mine.into_iter().chain(peers).map(|who| self.name(who.host).to_owned()).collect(),
            here: match self.here.get(&id) {
                Some(Here::Claimed(_)) => "claimed",
                Some(Here::Intended(..) | Here::Starting) => "starting",
                Some(Here::Running) => "running",
                Some(Here::Stopping { .. }) => "stopping",
                None if self.has_failed(id) => "failed",
                None => "stopped",
            }
            .to_owned(),
        }
    }
}

/// What the witness said, for a reader.
pub(super) fn verdict_in_words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Granted => "supports this host's view",
        Verdict::Noted => "has noted the beacon",
        Verdict::Silent => "has just started and may not vote yet",
        Verdict::IncumbentsOnly => "has just started and serves only those it served before",
        Verdict::Conflict => "supports another view",
        Verdict::ElectorateLives => "knows of a living electorate, or may not: no consent",
        Verdict::OtherTiming => "is configured with another lease or drift",
        Verdict::Full => "has no room for this cluster",
    }
}
