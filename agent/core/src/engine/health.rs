//! What the host's own verdicts lead to: what it says of itself, who takes its workloads, and when it fences itself.
//!
//! Never: a fence of another host, or anything towards a host that is healthy by its own word. SAFE-8: nothing at all for a cause
//! that half or more of the hosts share.

use std::cmp::Reverse;

use heapless::Vec as Few;
use palisade_proto::message::{Ail, HealthClass, MAX_AILS};
use palisade_proto::mutant::{self, Mutant};
use palisade_proto::wire::CARE_VERSION;
use palisade_proto::{Duration, Time, WorkloadId};
use serde::{Deserialize, Serialize};

use super::{Engine, claims::Here};
use crate::action::Action;
use crate::config::{Cluster, FencingMode, Policy, Probe, ProbeId, Workload};
use crate::health::{Ill, Verdict};
use crate::record::Event;

/// For so long after it was not served in time a host takes itself for worse than others: what it missed was its own doing.
const BLAME: Duration = Duration::secs(10);

/// What is known of one probe that is not plainly healthy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Standing {
    ill: Ill,
    /// From when on a verdict of failure may be acted on.
    due: Time,
}

/// What a workload is given away for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// A failure of this host's own.
    Failure(Policy),
    /// An operator's wish.
    Operator,
}

impl Engine {
    /// Which of this host's probes are not plainly healthy: all of them, each time.
    pub fn handle_ills(&mut self, ills: Vec<Ill>, now: Time) {
        self.begin(now);
        let first = !self.looked;
        let known: Vec<(Ill, Probe)> = ills
            .into_iter()
            .filter_map(|ill| Some((ill.clone(), self.cluster.probe(ill.probe)?.clone())))
            .collect();
        let healthy: Vec<ProbeId> =
            self.ills.keys().copied().filter(|id| !known.iter().any(|(ill, _)| ill.probe == *id)).collect();
        for id in healthy {
            if let (Some(before), Some(probe)) = (self.ills.remove(&id), self.cluster.probe(id).cloned()) {
                self.turned(&probe, before.ill.verdict, Verdict::Healthy, String::new());
                self.alarms.clear(&mut self.actions, &format!("common {}", probe.name()));
            }
        }
        for (ill, probe) in known {
            let told = self.ills.get(&ill.probe).is_some_and(|before| before.ill.looked);
            let before = self.ills.get(&ill.probe).map(|before| (before.ill.verdict, before.due));
            let verdict = before.map_or(Verdict::Healthy, |(verdict, _)| verdict);
            let due = before.filter(|(verdict, _)| *verdict == ill.verdict).map(|(_, due)| due);
            let due = due
                .unwrap_or_else(|| self.now.after(self.hold(&probe, first || verdict == Verdict::Unknown)));
            self.ills.insert(ill.probe, Standing { ill: ill.clone(), due });
            if ill.looked {
                let told = if told { verdict } else { Verdict::Healthy };
                self.turned(&probe, told, ill.verdict, ill.why);
            }
        }
        self.looked = true;
        self.dirty = true;
        self.settle();
    }

    /// What another configuration does not look at any more.
    pub(super) fn forget_probes(&mut self, new: &Cluster) {
        let gone: Vec<ProbeId> = self.ills.keys().copied().filter(|id| new.probe(*id).is_none()).collect();
        for id in gone {
            self.ills.remove(&id);
            if let Some(name) = self.cluster.probe(id).map(|probe| probe.name().to_owned()) {
                self.alarms.clear(&mut self.actions, &format!("probe {name}"));
                self.alarms.clear(&mut self.actions, &format!("common {name}"));
            }
        }
    }

    fn turned(&mut self, probe: &Probe, from: Verdict, to: Verdict, why: String) {
        // That nothing was known yet, and then is as it should be, is nothing to tell.
        if from == to {
            return;
        }
        if matches!((from, to), (Verdict::Unknown, Verdict::Healthy)) {
            return self.alarms.clear(&mut self.actions, &format!("probe {}", probe.name()));
        }
        let (name, host) = (probe.name(), self.name(self.me.host));
        let what = match to {
            Verdict::Failed => Some(format!("{name} of {host} has failed: {why}")),
            // It would lead to something, and cannot.
            Verdict::Unknown if probe.on_failure() > Policy::Report => {
                Some(format!("{name} of {host} is not known: {why}"))
            }
            Verdict::Healthy | Verdict::Degraded | Verdict::Unknown => None,
        };
        self.alarms.set(&mut self.actions, &format!("probe {}", probe.name()), what);
        let (probe, level) = (probe.name().to_owned(), probe.level());
        self.record(Event::Probe { probe, level, verdict: to, why });
    }

    /// What this host says of itself. One that may not be armed, or that is to give its workloads away, cannot serve.
    pub(super) fn own_health(&self) -> HealthClass {
        if self.is_unfit() || self.whole_host_drains().is_some() {
            return HealthClass::Failed;
        }
        let stalled = self.stalled.is_some_and(|at| self.now < at.after(BLAME));
        let ails = self.ills.values().any(|standing| standing.ill.verdict != Verdict::Healthy);
        if stalled || ails { self.health.max(HealthClass::Degraded) } else { self.health }
    }

    /// Every input begins here: a host whose loop was not served for long was starved itself, whatever it has missed meanwhile.
    /// It blames itself before its peers, in its rank and in nothing else: no lease lasts longer for it.
    pub(super) fn notice_stall(&mut self) {
        if self.now.since(self.wake).0 > self.timing().suspect().0 / 2 {
            self.stalled = Some(self.now);
        }
    }

    /// What of this the heartbeat names, if it may lead to something; and nothing while somebody is heard who could not read it.
    pub(super) fn told_ails(&self) -> Few<Ail, MAX_AILS> {
        if self.speaks_to_older(CARE_VERSION) {
            return Few::new();
        }
        let mut ailing: Vec<(Reverse<Policy>, Ail)> = self
            .cluster
            .probes()
            .iter()
            .filter(|probe| probe.is_on(self.me.host) && probe.on_failure() > Policy::Report)
            .filter(|probe| {
                !self.looked || self.ills.get(&probe.id()).is_some_and(|standing| standing.ill.ails())
            })
            .map(|probe| (Reverse(probe.on_failure()), probe.id().0))
            .collect();
        ailing.sort_unstable();
        ailing.into_iter().map(|(_, ail)| ail).take(MAX_AILS).collect()
    }

    /// Whether somebody is heard who cannot read this wire version.
    pub(super) fn speaks_to_older(&self, version: u8) -> bool {
        self.heard().any(|accepted| accepted.heartbeat.speaks < version)
    }

    /// SAFE-8: "never a host because half or more of the hosts fail the same probe". Of the hosts that are heard and look at it, this
    /// one among them; one alone has nothing in common with anybody. Told is a first failure, acted on is a verdict: whatever
    /// befalls all of them shows on each before it has made a verdict on one.
    fn common(&self, probe: &Probe) -> Option<(usize, usize)> {
        if mutant::on(Mutant::CommonCauseDrains) {
            return None;
        }
        let (mut looking, mut failing) = (1, 1);
        for accepted in self.heard() {
            let said = &accepted.heartbeat;
            if probe.is_on(said.from.host) {
                looking += 1;
                // Whoever reads another configuration may not look at it at all, and whoever names as many as fit may have left it out.
                let untold = said.digest != self.digest || said.ails.is_full();
                failing += usize::from(untold || said.ails.contains(&probe.id().0));
            }
        }
        (failing >= 2 && failing * 2 >= looking).then_some((failing, looking))
    }

    /// For so long after its own verdict a host has heard of every other whether it fails, too, or does not hear it: two intervals
    /// and a time-out until each has looked and has told, less those that its own row took, and what it takes to hear or to lose one.
    /// A row that begins when nothing is known yet takes no time to speak of: looks come sooner then.
    fn hold(&self, probe: &Probe, quick: bool) -> Duration {
        let rest = if quick { 3 } else { 3u32.saturating_sub(probe.after()) };
        Duration(probe.every().0.saturating_mul(u64::from(rest)).saturating_add(self.timing().suspect().0))
    }

    /// The failures that call for more than a report, that are still seen, and whose cause is this host's own.
    fn own_failures(&self) -> impl Iterator<Item = (&Probe, &Ill)> {
        // While somebody is heard who could not be told, nobody tells.
        let told = !self.ills.is_empty() && !self.speaks_to_older(CARE_VERSION);
        self.ills
            .values()
            .filter(move |_| told)
            .filter(|standing| {
                standing.ill.verdict == Verdict::Failed && standing.ill.last == Verdict::Failed
            })
            .filter_map(|standing| Some((self.cluster.probe(standing.ill.probe)?, standing)))
            .filter(|(probe, standing)| {
                probe.on_failure() > Policy::Report
                    && self.now >= standing.due
                    && self.common(probe).is_none()
            })
            .map(|(probe, standing)| (probe, &standing.ill))
    }

    /// Why this host is to run nothing at all. A storage concerns those alone that need it.
    fn whole_host_drains(&self) -> Option<String> {
        self.own_failures()
            .find(|(probe, _)| probe.storage().is_none())
            .map(|(probe, ill)| format!("{} has failed: {}", probe.name(), ill.why))
    }

    /// Why this host is not to run `workload`, and what may be done about it: what an operator drains is given away, and no more.
    fn drains(&self, workload: &Workload) -> Option<(Cause, String)> {
        let by_hand = || {
            self.is_drained(self.me.host)
                .then(|| (Cause::Operator, "an operator drains this host".to_owned()))
        };
        self.fails(workload).map(|(policy, why)| (Cause::Failure(policy), why)).or_else(by_hand)
    }

    fn fails(&self, workload: &Workload) -> Option<(Policy, String)> {
        self.own_failures()
            .filter(|(probe, _)| {
                probe.storage().is_none_or(|storage| workload.storage().iter().any(|name| name == storage))
            })
            .map(|(probe, ill)| (probe.on_failure(), format!("{} has failed: {}", probe.name(), ill.why)))
            .max_by_key(|(policy, _)| *policy)
    }

    /// Gives away what this host is not to run, as far as somebody else takes it.
    pub(super) fn run_health(&mut self) {
        // It may have changed by the time that has passed.
        self.dirty |= self.own_health() != self.told_health;
        if self.ills.is_empty() && self.stays.is_empty() && !self.is_drained(self.me.host) {
            if self.alarms.any() {
                self.alarms.clear(&mut self.actions, "fences itself");
            }
            return;
        }
        self.tell_common_causes();
        let failed = self.ills.values().filter(|standing| standing.ill.verdict == Verdict::Failed);
        let due = failed.map(|standing| standing.due).filter(|due| self.now < *due).min();
        if let Some(due) = due {
            self.wake_at(due);
        }
        // SAFE-2, SAFE-3: whoever is not in the majority neither gives away nor fences itself: nobody could take what it runs.
        if self.leaving.is_some() || !self.is_quorate(self.now) {
            return;
        }
        let cluster = std::sync::Arc::clone(&self.cluster);
        let mut fence = None;
        // What nobody else can run would end with a reboot, for nothing.
        let here = cluster.workloads().iter().filter(|workload| self.here.contains_key(&workload.id()));
        let spares = here.clone().any(|workload| !self.has_elsewhere(workload));
        for workload in cluster.workloads() {
            let id = workload.id();
            let drains = self.here.get(&id).copied().zip(self.drains(workload));
            let stays = drains.is_some() && !self.has_elsewhere(workload);
            self.tell_that_it_stays(
                workload,
                drains.as_ref().filter(|_| stays).map(|(_, (_, why))| why.as_str()),
            );
            let Some((here, (cause, why))) = drains.filter(|_| !stays) else { continue };
            let fences = cause == Cause::Failure(Policy::Fence);
            let cause = if fences && spares { Cause::Failure(Policy::Drain) } else { cause };
            match (cause, here) {
                (Cause::Failure(Policy::Fence), Here::Running | Here::Starting | Here::Stopping { .. })
                // "drain; if it cannot, fence itself": what not even a kill ends may write for as long as this host runs.
                | (Cause::Failure(Policy::Drain), Here::Stopping { kill: true, failed: true }) => {
                    fence.get_or_insert((workload.name().to_owned(), why));
                }
                (
                    Cause::Operator | Cause::Failure(Policy::Drain),
                    Here::Running | Here::Claimed(_) | Here::Intended(..),
                )
                | (Cause::Failure(Policy::Fence), Here::Claimed(_) | Here::Intended(..)) => {
                    self.stop(id, &format!("this host gives it away: {why}"));
                }
                (Cause::Operator | Cause::Failure(Policy::Drain), Here::Starting | Here::Stopping { .. })
                | (Cause::Failure(Policy::Report), _) => {}
            }
        }
        match fence {
            Some((workload, why)) => self.fence_itself(&workload, &why),
            None => self.alarms.clear(&mut self.actions, "fences itself"),
        }
    }

    fn tell_that_it_stays(&mut self, workload: &Workload, why: Option<&str>) {
        let told =
            if why.is_some() { self.stays.insert(workload.id()) } else { self.stays.remove(workload.id()) };
        if told {
            let host = self.name(self.me.host);
            let what = why.map(|why| {
                let name = workload.name();
                format!("workload {name} stays on {host} although {why}: no other host that may run it can")
            });
            self.alarms.set(&mut self.actions, &format!("stays {}", workload.id()), what);
        }
    }

    /// Whether somebody in the view takes it, as far as this host knows.
    fn has_elsewhere(&self, workload: &Workload) -> bool {
        let others = self.view.iter().filter(|who| **who != self.me && workload.hosts().contains(&who.host));
        others.filter_map(|who| self.heartbeat_of(*who)).any(|said| {
            said.health != HealthClass::Failed
                && !said.refused.contains(workload.id())
                && !self.electorate.is_cut(said.from)
                && !self.is_drained(said.from.host)
                && !self.has_neighbour(workload, said.from)
        })
    }

    /// By a reboot at once, never a shutdown. It is the end of this life whatever the kernel does: if the reboot fails, what runs is
    /// killed as far as it can be, and the peers, who hear nothing any more, fence.
    fn fence_itself(&mut self, workload: &str, why: &str) {
        let why = format!("{why}, and another host can run {workload}");
        // SAFE-8: it is a fence like any other, and counted; and whoever is left must be able to go on.
        let hindered = match () {
            () if !self.others_suffice() => Some("the others would not be a quorum without it"),
            () if !self.budget_left(self.me) => Some("the fence budget is spent"),
            () => None,
        };
        if let Some(hindered) = hindered {
            let what = format!("{} would fence itself: {why}; but {hindered}", self.name(self.me.host));
            return self.alarms.set(&mut self.actions, "fences itself", Some(what));
        }
        if self.is_disarmed() {
            let what = format!("{} would fence itself: {why}; fencing is disarmed", self.name(self.me.host));
            return self.alarms.set(&mut self.actions, "fences itself", Some(what));
        }
        if self.cluster.fencing().mode() == FencingMode::Shadow {
            let what =
                format!("{} would fence itself: {why}; fencing is in shadow mode", self.name(self.me.host));
            return self.alarms.set(&mut self.actions, "fences itself", Some(what));
        }
        // SAFE-5: "self-fencing never depends on it": the record is on its way, and is not waited for.
        self.record(Event::Reboots { why: why.clone() });
        self.actions.push_back(Action::Reboot { why: why.clone() });
        self.end_this_life(&why);
    }

    /// Whether those in the view but this host hold a quorum by themselves, with the witness where it takes one.
    fn others_suffice(&self) -> bool {
        let (counted, others) = (self.electorate.counted().len(), self.view.len().saturating_sub(1));
        let witness =
            self.witness_answered.is_some_and(|at| self.now < at.after(super::report::WITNESS_PROVEN));
        others * 2 > counted || (others * 2 == counted && self.cluster.witness().is_some() && witness)
    }

    fn tell_common_causes(&mut self) {
        let cluster = std::sync::Arc::clone(&self.cluster);
        for probe in cluster.probes() {
            let Some(standing) = self.ills.get(&probe.id()) else { continue };
            let shared = self.common(probe).filter(|_| standing.ill.verdict == Verdict::Failed);
            let what = shared.map(|(failing, looking)| {
                let name = probe.name();
                format!("{name} fails on {failing} of {looking} hosts: a common cause, for which none of them drains or fences itself")
            });
            self.alarms.set(&mut self.actions, &format!("common {}", probe.name()), what);
        }
    }

    /// What ails this host, for `status`.
    pub(super) fn ills(&self) -> impl Iterator<Item = (&Probe, &Ill)> {
        let known = |standing: &'_ Standing| self.cluster.probe(standing.ill.probe);
        self.ills.values().filter_map(move |standing| Some((known(standing)?, &standing.ill)))
    }

    /// Something that would have it given away is not known yet, or fails since nothing was: a host that has just fenced itself does
    /// not take again what it did that for.
    fn may_have_to_drain(&self, workload: &Workload) -> bool {
        self.ills.values().map(|standing| &standing.ill).any(|ill| {
            let open = ill.verdict == Verdict::Unknown && (!ill.looked || ill.last == Verdict::Failed);
            let probe = self.cluster.probe(ill.probe).filter(|probe| probe.on_failure() > Policy::Report);
            open && probe.is_some_and(|probe| {
                probe.storage().is_none_or(|storage| workload.storage().iter().any(|name| name == storage))
                    && self.common(probe).is_none()
            })
        })
    }

    /// What is placed here is not taken where it would be given away at once.
    pub(super) fn would_give_away(&self, id: WorkloadId) -> bool {
        let may = !self.ills.is_empty() || self.is_drained(self.me.host);
        may && self
            .cluster
            .workload(id)
            .is_some_and(|workload| self.drains(workload).is_some() || self.may_have_to_drain(workload))
    }
}
