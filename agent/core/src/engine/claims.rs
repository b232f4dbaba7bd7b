//! Who runs which workload: placement by the coordinator, claims and starts by each host.
//!
//! SAFE-1: "A workload starts on a host only with a sufficient proof for every incarnation that may still run it": a start
//! waits until each counted, living incarnation has said, after the claim, that it does not run the workload.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

use palisade_proto::message::{HealthClass, Presence};
use palisade_proto::mutant::{self, Mutant};
use palisade_proto::{Duration, Heartbeat, Incarnation, Seq, Time, WorkloadId, WorkloadSet};

use super::Engine;
use crate::action::{Act, Action, Seen, StorageHealth, Ticket, WorkloadReport};
use crate::config::Workload;
use crate::record::Event;

/// After so many failed starts in a row another host is placed (DESIGN, "Workloads").
const MAX_FAILURES: u32 = 3;

/// After so long a workload that failed too often may be tried here again.
const FAILURE_MEMORY: Duration = Duration::secs(600);

/// Where a workload stands on this host. Each of these is `busy`; a workload without an entry is stopped here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Here {
    /// Claimed at this seq: waiting for everyone else's word.
    Claimed(Seq),
    /// Cleared; the intent is on its way to the disk.
    Intended(Seq, Ticket),
    /// The driver starts it.
    Starting,
    /// It runs.
    Running,
    /// The driver stops or kills it.
    Stopping {
        /// By a kill.
        kill: bool,
        /// A kill has failed: it is tried again at each look.
        failed: bool,
    },
}

impl Engine {
    pub(super) fn busy(&self) -> WorkloadSet {
        self.here.keys().copied().collect()
    }

    pub(super) fn nothing_runs_here(&self) -> bool {
        self.here.is_empty()
    }

    /// PROTOCOL, "Acting": "The coordinator names in `place` who should run an orphan (nobody in V busy with it)."
    pub(super) fn run_placement(&mut self) {
        if !self.is_coordinator(self.now) {
            self.place.clear();
            return;
        }
        let cluster = std::sync::Arc::clone(&self.cluster);
        let mut workloads: Vec<&Workload> = cluster.workloads().iter().collect();
        workloads.sort_by_key(|workload| (std::cmp::Reverse(workload.priority()), workload.id()));
        for workload in workloads {
            let id = workload.id();
            if self.desired.stopped.contains(id) || self.someone_busy(id) {
                self.place.remove(&id);
                if self.alarms.any() {
                    self.alarms.clear(&mut self.actions, &format!("place {id}"));
                }
                continue;
            }
            let standing = self.place.get(&id).copied().filter(|on| self.may_place(workload, *on));
            let chosen = standing.or_else(|| self.choose(workload));
            let alarm = format!("place {id}");
            match chosen {
                Some(on) if standing.is_none() => {
                    self.place.insert(id, on);
                    self.dirty = true;
                    let event = Event::Placed {
                        workload: self.what(id),
                        on: self.who(on),
                        because: "nobody in the view runs it".to_owned(),
                    };
                    self.record(event);
                    self.alarms.clear(&mut self.actions, &alarm);
                }
                Some(_) => {}
                None => {
                    self.place.remove(&id);
                    // Right after a start nothing has been probed yet: that is no alarm.
                    let settled = self
                        .quorate_since
                        .is_some_and(|since| self.now >= since.after(self.timing().rejoin_hold()));
                    let what = settled.then(|| {
                        format!("workload {} runs nowhere: no host that may run it can", workload.name())
                    });
                    self.alarms.set(&mut self.actions, &alarm, what);
                }
            }
        }
    }

    /// Whether somebody in V is busy with it, or somebody `away` last said so: "A workload last said busy by such an x is no
    /// orphan."
    fn someone_busy(&self, id: WorkloadId) -> bool {
        if self.here.contains_key(&id) {
            return true;
        }
        self.electorate.living().filter(|who| *who != self.me).any(|who| {
            let away = self.peers.get(&who.host).and_then(|peer| peer.away_since);
            let held = away.is_some_and(|since| self.now < since.after(self.timing().restart_hold()));
            (self.view.contains(&who) || held)
                && !self.is_harmless_to(who, id)
                && self.heartbeat_of(who).is_some_and(|heartbeat| heartbeat.busy.contains(id))
        })
    }

    fn refuses(&self, who: Incarnation, id: WorkloadId) -> bool {
        if who == self.me {
            self.my_refusals().contains(id)
        } else {
            self.heartbeat_of(who).is_none_or(|heartbeat| heartbeat.refused.contains(id))
        }
    }

    fn may_place(&self, workload: &Workload, on: Incarnation) -> bool {
        let health = if on == self.me {
            self.own_health()
        } else {
            self.heartbeat_of(on).map_or(HealthClass::Failed, |heartbeat| heartbeat.health)
        };
        self.view.contains(&on)
            && workload.hosts().contains(&on.host)
            && health != HealthClass::Failed
            && !self.electorate.is_cut(on)
            && !self.is_drained(on.host)
            && !self.refuses(on, workload.id())
            && !self.has_neighbour(workload, on)
            && workload
                .start_after()
                .iter()
                .all(|earlier| self.desired.stopped.contains(*earlier) || self.someone_busy(*earlier))
    }

    /// Anti-affinity: another workload of the same group runs or is placed there.
    pub(super) fn has_neighbour(&self, workload: &Workload, on: Incarnation) -> bool {
        let Some(group) = workload.anti_affinity() else { return false };
        self.cluster
            .workloads()
            .iter()
            .filter(|other| other.id() != workload.id() && other.anti_affinity() == Some(group))
            .any(|other| {
                let busy = if on == self.me {
                    self.here.contains_key(&other.id())
                } else {
                    self.heartbeat_of(on).is_some_and(|heartbeat| heartbeat.busy.contains(other.id()))
                };
                busy || self.place.get(&other.id()) == Some(&on)
            })
    }

    /// The healthiest of the hosts that may run it; among equals the one named first.
    fn choose(&self, workload: &Workload) -> Option<Incarnation> {
        let fit = workload.hosts().iter().enumerate().filter_map(|(rank, host)| {
            let on = self.view.iter().copied().find(|who| who.host == *host)?;
            let health = if on == self.me { self.own_health() } else { self.heartbeat_of(on)?.health };
            self.may_place(workload, on).then_some((health, rank, on))
        });
        fit.min_by_key(|(health, rank, _)| (*health, *rank)).map(|(_, _, on)| on)
    }

    /// What this host does not start now: failed too often, a storage not known to be healthy, not fit, or leaving.
    pub(super) fn my_refusals(&self) -> WorkloadSet {
        let mut refused: WorkloadSet =
            self.cluster.workloads().iter().map(Workload::id).filter(|id| self.has_failed(*id)).collect();
        for workload in self.cluster.workloads() {
            let healthy = |name: &String| {
                let at = self.cluster.storages().iter().position(|storage| storage.name() == name);
                // "It is claimed on a host only if every storage it names is Healthy there; Unknown is no."
                at.and_then(|at| self.storages.get(at)) == Some(&StorageHealth::Healthy)
            };
            if self.leaving.is_some()
                || !self.unfit.is_empty()
                || self.journal_failing.is_some()
                || self.would_give_away(workload.id())
                || !workload.storage().iter().all(healthy)
            {
                refused.insert(workload.id());
            }
        }
        refused
    }

    pub(super) fn has_failed(&self, id: WorkloadId) -> bool {
        self.failures
            .get(&id)
            .is_some_and(|(count, last)| *count >= MAX_FAILURES && self.now < last.after(FAILURE_MEMORY))
    }

    /// What the coordinator wants here.
    fn placed_here(&self) -> Vec<WorkloadId> {
        match self.view.first() {
            Some(coordinator) if *coordinator == self.me => {
                self.place.iter().filter(|(_, on)| **on == self.me).map(|(id, _)| *id).collect()
            }
            Some(coordinator) => self
                .heartbeat_of(*coordinator)
                .map(|heartbeat| {
                    heartbeat
                        .place
                        .iter()
                        .filter(|place| place.on == self.me)
                        .map(|place| place.workload)
                        .collect()
                })
                .unwrap_or_default(),
            None => Vec::new(),
        }
    }

    /// "A claim is withdrawn when place names another."
    pub(super) fn follow_coordinator(&mut self, heartbeat: &Heartbeat) {
        if self.view.first() != Some(&heartbeat.from) {
            return;
        }
        let me = self.me;
        for place in heartbeat.place.iter().filter(|place| place.on != me) {
            self.withdraw_claim(place.workload, "the coordinator names another host");
        }
    }

    fn withdraw_claim(&mut self, id: WorkloadId, why: &str) {
        match self.here.get(&id) {
            Some(Here::Claimed(_) | Here::Intended(..)) => {
                self.here.remove(&id);
                self.dirty = true;
                let workload = self.what(id);
                self.record(Event::ClaimDropped { workload, why: why.to_owned() });
            }
            Some(Here::Starting | Here::Running | Here::Stopping { .. }) | None => {}
        }
    }

    /// "y, when placed and quorate, claims w [...]. y starts w iff it is quorate and every m in E(y)\D(y)\{y} has sent a heartbeat
    /// that echoes a seq of y's >= the claim and does not list w as busy."
    pub(super) fn run_claims(&mut self) {
        if self.leaving.is_some() {
            return;
        }
        if self.is_quorate(self.now) {
            let refused = self.my_refusals();
            for id in self.placed_here() {
                if self.here.contains_key(&id)
                    || refused.contains(id)
                    || self.cluster.workload(id).is_none()
                    || self.desired.stopped.contains(id)
                {
                    continue;
                }
                self.here.insert(id, Here::Claimed(self.next_seq));
                self.dirty = true;
                let workload = self.what(id);
                self.record(Event::Claimed { workload });
            }
        }
        // What became impossible between the claim and the start is given back, so that another host may have it.
        let refused = self.my_refusals();
        let refused_claims: Vec<WorkloadId> =
            self.here.keys().copied().filter(|id| refused.contains(*id)).collect();
        for id in refused_claims {
            self.withdraw_claim(id, "this host cannot start it now");
        }
        let claimed: Vec<(WorkloadId, Seq)> = self
            .here
            .iter()
            .filter_map(|(id, here)| match here {
                Here::Claimed(seq) => Some((*id, *seq)),
                Here::Intended(..) | Here::Starting | Here::Running | Here::Stopping { .. } => None,
            })
            .collect();
        for (id, seq) in claimed {
            match self.clearance(id, seq) {
                Clearance::Cleared { by } if self.journal_failing.is_none() => {
                    let workload = self.what(id);
                    let ticket = self.record_intent(Event::StartIntended { workload, cleared_by: by });
                    self.here.insert(id, Here::Intended(seq, ticket));
                    if mutant::on(Mutant::StartUnintended) {
                        self.start_durable(ticket);
                    }
                }
                Clearance::Busy { on } => {
                    self.withdraw_claim(id, &format!("{on} says that it is busy with it"))
                }
                Clearance::Cleared { .. } | Clearance::Awaiting => {}
            }
        }
        self.stop_undesired();
    }

    fn clearance(&self, id: WorkloadId, claim: Seq) -> Clearance {
        if !self.is_quorate(self.now) {
            return Clearance::Awaiting;
        }
        let (mut said, mut cut) = (Vec::new(), Vec::new());
        for member in self.electorate.living().filter(|who| *who != self.me) {
            if mutant::on(Mutant::ClaimAwaitsViewOnly) && !self.view.contains(&member) {
                continue;
            }
            if self.is_harmless_to(member, id) {
                cut.push(self.name(member.host).to_owned());
                continue;
            }
            let Some(heartbeat) = self.heartbeat_of(member) else { return Clearance::Awaiting };
            if !echoes(heartbeat, self.me, claim) && !mutant::on(Mutant::ClaimUnawaited) {
                return Clearance::Awaiting;
            }
            if heartbeat.busy.contains(id) {
                return Clearance::Busy { on: self.name(member.host).to_owned() };
            }
            said.push(self.name(member.host).to_owned());
        }
        let dead: Vec<String> = self
            .electorate
            .counted()
            .iter()
            .filter(|who| self.electorate.is_dead(**who))
            .map(|who| self.name(who.host).to_owned())
            .collect();
        let mut by = if said.is_empty() {
            "nobody else is counted".to_owned()
        } else {
            format!("the word of {}", said.join(", "))
        };
        if !dead.is_empty() {
            by = format!("{by}; proven dead: {}", dead.join(", "));
        }
        if !cut.is_empty() {
            by = format!("{by}; proven cut off: {}", cut.join(", "));
        }
        Clearance::Cleared { by }
    }

    /// The members whose word on a claim of this host is lacking.
    pub(super) fn awaited(&self) -> BTreeSet<Incarnation> {
        let claims = self.here.values().filter_map(|here| match here {
            Here::Claimed(seq) => Some(*seq),
            Here::Intended(..) | Here::Starting | Here::Running | Here::Stopping { .. } => None,
        });
        let Some(newest) = claims.max() else { return BTreeSet::new() };
        let lacking = |who: &Incarnation| {
            !self.heartbeat_of(*who).is_some_and(|heartbeat| echoes(heartbeat, self.me, newest))
        };
        self.electorate.living().filter(|who| *who != self.me).filter(lacking).collect()
    }

    /// A start's intent is durable: recheck, then start. True if the ticket was a start's.
    pub(super) fn start_durable(&mut self, ticket: Ticket) -> bool {
        let found = self.here.iter().find_map(|(id, here)| match here {
            Here::Intended(seq, waiting) if *waiting == ticket => Some((*id, *seq)),
            Here::Intended(..)
            | Here::Claimed(_)
            | Here::Starting
            | Here::Running
            | Here::Stopping { .. } => None,
        });
        let Some((id, seq)) = found else { return false };
        match self.clearance(id, seq) {
            Clearance::Cleared { .. } if self.leaving.is_none() => {
                self.here.insert(id, Here::Starting);
                self.save();
                self.act(id, Act::Start);
                self.tell(id, "starting", String::new());
            }
            Clearance::Cleared { .. } | Clearance::Awaiting => {
                self.here.insert(id, Here::Claimed(seq));
            }
            Clearance::Busy { on } => self.withdraw_claim(id, &format!("{on} says that it is busy with it")),
        }
        true
    }

    fn stop_undesired(&mut self) {
        let undesired: Vec<WorkloadId> =
            self.here.keys().copied().filter(|id| self.desired.stopped.contains(*id)).collect();
        for id in undesired {
            self.stop(id, "an operator stopped it");
        }
    }

    /// Ends a workload on this host gracefully.
    pub(super) fn stop(&mut self, id: WorkloadId, why: &str) {
        match self.here.get(&id) {
            Some(Here::Claimed(_) | Here::Intended(..)) => self.withdraw_claim(id, why),
            Some(Here::Running) => {
                self.here.insert(id, Here::Stopping { kill: false, failed: false });
                self.act(id, Act::Stop);
                self.tell(id, "stopping", why.to_owned());
            }
            // A start in progress is waited for: its end decides.
            Some(Here::Starting | Here::Stopping { .. }) | None => {}
        }
    }

    /// SAFE-3: "a kill, not a graceful shutdown". True if anything was there to kill.
    pub(super) fn kill_everything(&mut self) -> bool {
        let here: Vec<(WorkloadId, Here)> = self.here.iter().map(|(id, here)| (*id, *here)).collect();
        let any = !here.is_empty();
        for (id, state) in here {
            match state {
                Here::Claimed(_) | Here::Intended(..) => self.withdraw_claim(id, "standing was lost"),
                Here::Starting | Here::Running | Here::Stopping { .. } => self.kill(id),
            }
        }
        any
    }

    pub(super) fn kill(&mut self, id: WorkloadId) {
        self.here.insert(id, Here::Stopping { kill: true, failed: false });
        self.act(id, Act::Kill);
    }

    fn act(&mut self, id: WorkloadId, act: Act) {
        self.actions.push_back(Action::Workload { id, act });
    }

    fn tell(&mut self, id: WorkloadId, state: &str, detail: String) {
        let workload = self.what(id);
        self.record(Event::Workload { workload, state: state.to_owned(), detail });
    }

    /// A workload's driver reports.
    pub fn handle_workload(&mut self, id: WorkloadId, report: WorkloadReport, now: Time) {
        self.begin(now);
        let state = self.here.get(&id).copied();
        match report {
            WorkloadReport::Started => self.take_started(id, state),
            WorkloadReport::StartFailed(why) => self.take_ended(id, state, &why),
            WorkloadReport::Stopped => {
                if matches!(state, Some(Here::Stopping { .. })) {
                    self.here.remove(&id);
                    self.unseen.remove(id);
                    self.dirty = true;
                    self.tell(id, "stopped", String::new());
                }
                self.alarms.clear(&mut self.actions, &format!("stop {id}"));
            }
            WorkloadReport::StopFailed(why) => self.take_stop_failed(id, state, why),
            WorkloadReport::Seen(seen) => self.take_seen(id, state, seen),
        }
        self.settle();
    }

    fn take_started(&mut self, id: WorkloadId, state: Option<Here>) {
        match state {
            Some(Here::Starting) => {
                self.here.insert(id, Here::Running);
                self.failures.remove(&id);
                self.alarms.clear(&mut self.actions, &format!("failed {id}"));
                self.dirty = true;
                self.tell(id, "running", String::new());
                if self.leaving.is_some() {
                    self.stop(id, "this host leaves");
                }
            }
            // It came up while it was to go: once more.
            Some(Here::Stopping { .. }) | None => self.kill(id),
            Some(Here::Claimed(_) | Here::Intended(..) | Here::Running) => {}
        }
    }

    fn take_ended(&mut self, id: WorkloadId, state: Option<Here>, why: &str) {
        match state {
            Some(Here::Starting | Here::Running) => {
                self.here.remove(&id);
                self.dirty = true;
                let (failures, last) = self.failures.entry(id).or_insert((0, self.now));
                *failures = failures.saturating_add(1);
                *last = self.now;
                let count = *failures;
                self.tell(id, "failed", format!("{why} (failure {count})"));
                if count >= MAX_FAILURES {
                    let what = format!(
                        "workload {} failed {count} times on {}: {why}",
                        self.what(id),
                        self.name(self.me.host)
                    );
                    self.alarms.raise_for(&mut self.actions, format!("failed {id}"), what);
                }
            }
            Some(Here::Stopping { .. }) => {
                self.here.remove(&id);
                self.unseen.remove(id);
                self.dirty = true;
                self.tell(id, "stopped", String::new());
            }
            Some(Here::Claimed(_) | Here::Intended(..)) | None => {}
        }
    }

    fn take_stop_failed(&mut self, id: WorkloadId, state: Option<Here>, why: String) {
        if let Some(Here::Stopping { kill, .. }) = state {
            if kill {
                self.here.insert(id, Here::Stopping { kill, failed: true });
                let what = format!("workload {} cannot be killed: {why}", self.what(id));
                self.alarms.raise_for(&mut self.actions, format!("stop {id}"), what);
            } else {
                self.kill(id);
            }
        }
    }

    fn take_seen(&mut self, id: WorkloadId, state: Option<Here>, seen: Seen) {
        let first_look = self.now < self.started.after(self.timing().suspect());
        match (state, seen) {
            // SAFE-9: "an un-admitted life that finds one running kills it before its first heartbeat"; what cannot be told is
            // taken for running.
            (None, Seen::Running | Seen::Unknown(_))
                if self.presence == Presence::Joining && self.unseen.contains(id) =>
            {
                self.tell(id, "stopping", "found running in a life that is not admitted".to_owned());
                self.kill(id);
            }
            // "A running workload found by a new agent process is busy from the start."
            (None, Seen::Running) if self.is_admitted() && first_look => {
                self.here.insert(id, Here::Running);
                self.dirty = true;
                self.tell(id, "running", "found running by a new agent process".to_owned());
            }
            // SAFE-9: guarded workloads start through the agent alone.
            (None, Seen::Running) => {
                let what = format!(
                    "workload {} was started past the agent on {}; it is killed here",
                    self.what(id),
                    self.name(self.me.host)
                );
                self.alarms.raise_for(&mut self.actions, format!("intruder {id}"), what);
                self.kill(id);
            }
            (None, Seen::Stopped) => {
                self.unseen.remove(id);
                self.alarms.clear(&mut self.actions, &format!("intruder {id}"));
            }
            (Some(Here::Running), Seen::Stopped) => self.take_ended(id, state, "it stopped by itself"),
            (Some(Here::Stopping { failed: true, .. }), Seen::Stopped) => self.take_ended(id, state, ""),
            // A kill that failed is tried again at each look.
            (Some(Here::Stopping { failed: true, .. }), Seen::Running | Seen::Unknown(_)) => self.kill(id),
            (None, Seen::Unknown(_))
            | (Some(Here::Running), Seen::Running | Seen::Unknown(_))
            // The driver's own report ends a stop: a look may have begun before it.
            | (Some(Here::Stopping { failed: false, .. }), Seen::Running | Seen::Stopped | Seen::Unknown(_))
            | (
                Some(Here::Claimed(_) | Here::Intended(..) | Here::Starting),
                Seen::Running | Seen::Stopped | Seen::Unknown(_),
            ) => {}
        }
    }

    /// DESIGN, "Workloads": "desired state, which persists: what an operator stopped stays stopped".
    pub(super) fn desire(&mut self, id: WorkloadId, run: bool, by: &str) {
        let changed = if run { self.desired.stopped.remove(id) } else { self.desired.stopped.insert(id) };
        if run {
            self.failures.remove(&id);
        }
        if changed {
            self.desired.version = self.desired.version.saturating_add(1);
            self.dirty = true;
            self.record_desired(format!("operator {by}"));
        }
    }

    fn record_desired(&mut self, by: String) {
        let stopped = self.desired.stopped.iter().map(|id| self.what(id)).collect();
        self.record(Event::Desired { version: self.desired.version, stopped, by });
    }

    pub(super) fn merge_desired(&mut self, heartbeat: &Heartbeat) {
        let (theirs, mine) = (heartbeat.desired, self.desired);
        if (theirs.version, theirs.stopped.to_bytes()) > (mine.version, mine.stopped.to_bytes()) {
            self.desired = theirs;
            self.dirty = true;
            self.record_desired(format!("word of {}", self.name(heartbeat.from.host)));
        }
    }
}

enum Clearance {
    Cleared { by: String },
    Awaiting,
    Busy { on: String },
}

fn echoes(heartbeat: &Heartbeat, me: Incarnation, seq: Seq) -> bool {
    heartbeat.echo_of(me.host).is_some_and(|echo| echo.of == me && echo.seq >= seq)
}
