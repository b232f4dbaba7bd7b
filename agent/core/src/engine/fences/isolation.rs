//! Isolation (PROTOCOL, "Isolation"): a host that cannot be proven dead is cut from what it could harm. It stays counted, and whoever
//! is cut never gets its paths back in that life.

use palisade_ladder::{Abandoned, Effect, Fence, Proof};
use palisade_proto::message::Presence;
use palisade_proto::mutant::{self, Mutant};
use palisade_proto::{Heartbeat, HostId, Incarnation, WorkloadId};

use super::super::Engine;
use super::Purpose;
use super::restore::Restore;
use crate::config::{Device, FencingMode};
use crate::record::Event;

impl Engine {
    /// The one way beside its power in which a host can be cut off.
    pub(super) fn isolation_of(&self, host: HostId) -> Option<Effect> {
        self.cluster.devices_of(host).map(Device::effect).find(|effect| *effect != Effect::Power)
    }

    /// Whether a host opens its own paths: once, in each life, before it is taken in.
    pub(super) fn opens_itself(&self, host: HostId) -> bool {
        self.cluster.devices_of(host).any(|device| device.kind().opened_by_its_host())
    }

    /// PROTOCOL, "Isolation": "x's path is opened (unfence) once, by x, and has completed before x says admitted". Whether this life
    /// has still to.
    pub(in crate::engine) fn awaits_own_paths(&self) -> bool {
        self.presence == Presence::Joining
            && self.cluster.fencing().mode() == FencingMode::Enforce
            && self.opens_itself(self.me.host)
            && !self.fences.opened.contains(&self.me)
    }

    /// Whether this life may open its own paths: not while anything of an earlier life may run here, which was cut off perhaps.
    pub(super) fn may_open_own_paths(&self) -> bool {
        self.awaits_own_paths()
            && self.leaving.is_none()
            && self.unseen.is_empty()
            && self.nothing_runs_here()
    }

    /// This life opens its own paths. One that was admitted never does it again, not even after a restart of its agent.
    pub(super) fn open_own_paths(&mut self) {
        let host = self.me.host;
        let Some(effect) = self.isolation_of(host).filter(|_| self.may_open_own_paths()) else { return };
        self.fences.restores.entry((host, effect)).or_insert_with(|| Restore::new(self.me, self.now));
    }

    /// Begins it once the ladder has come to it: at once in a race, or where its level comes first; else once every level of
    /// power before it has failed.
    pub(super) fn begin_isolation(&mut self, who: Incarnation) {
        let Some(effect) = self.isolation_of(who.host) else { return };
        let Some(running) = self.fences.running.get(&who) else { return };
        let is_cut = self.electorate.is_cut_under(who, self.digest);
        if running.isolation.is_some() || running.power.has_proven() || is_cut {
            return;
        }
        // "A cut of x is ordered only after its sender heard x say admitted", since x opens its paths until then. What the coordinator
        // opens, it opened before it counted x, and x is counted.
        let said = self.heartbeat_of(who).map(|heartbeat| heartbeat.presence);
        let may_open = !matches!(said, Some(Presence::Admitted | Presence::Away));
        if may_open && self.opens_itself(who.host) {
            return;
        }
        let levels = |effect| self.devices_of(who.host, effect).map(|(_, device)| device.level());
        let Some(first) = levels(effect).min() else { return };
        let races = self.devices_of(who.host, effect).any(|(_, device)| device.races());
        let power_before = levels(Effect::Power).filter(|level| *level < first).max();
        let has_power = levels(Effect::Power).next().is_some();
        let begins = match power_before {
            Some(last) => running.power_failed >= Some(last),
            None => has_power || running.power_failed.is_some(),
        };
        if !races && !begins {
            return;
        }
        let plan = self.plan(who.host, effect, running.opening);
        let now = self.now;
        if let Some(running) = self.fences.running.get_mut(&who) {
            running.isolation = Some(Fence::new(who, plan, now));
        }
    }

    /// Takes a proof that the victim reaches its storage, or the network, no more.
    pub(super) fn isolate(&mut self, proof: Proof) {
        let victim = proof.victim();
        if proof.spent_budget() {
            self.spend_budget(victim);
        }
        let event = Event::Isolated {
            victim: self.who(victim),
            proof: proof.kind().to_string(),
            evidence: self.in_words(&proof),
            frees: self.freed_by(victim),
        };
        if self.electorate.isolate(proof, self.digest) {
            self.record(event);
            self.dirty = true;
        }
        if let Some(effect) = self.isolation_of(victim.host).filter(|_| mutant::on(Mutant::CutOpenedAgain)) {
            self.begin_restore(victim.host, effect, victim);
        }
    }

    /// "C(h): the cut incarnations, in /run, gossiped for members of E". Only from whoever reads the same devices out of its
    /// configuration.
    pub(in crate::engine) fn learn_cuts(&mut self, heartbeat: &Heartbeat) {
        // "It is never opened again for that incarnation: an x that hears x in C stops its workloads, leaves, and rejoins as a new
        // life", whatever it believes to be cut from.
        if heartbeat.cut.contains(self.me) && !mutant::on(Mutant::CutLifeGoesOn) {
            let why = format!("{} has cut this life off", self.name(heartbeat.from.host));
            return self.end_this_life(&why);
        }
        if heartbeat.digest != self.digest {
            return;
        }
        // A wall stays until its life is dead, also when the fence that it was for has ended otherwise.
        if heartbeat.walled.contains(self.me) && heartbeat.view.contains(self.me) {
            let why =
                format!("{} takes this life for a member, and keeps it out", self.name(heartbeat.from.host));
            return self.end_this_life(&why);
        }
        for who in heartbeat.cut.iter() {
            if !self.electorate.learn_cut(who, self.digest) {
                continue;
            }
            self.spend_budget(who);
            self.dirty = true;
            let proof = self.isolation_of(who.host).map_or("isolation", |effect| effect.proves().name());
            let event = Event::Isolated {
                victim: self.who(who),
                proof: proof.to_owned(),
                evidence: format!("the word of {}, which holds the proof", self.name(heartbeat.from.host)),
                frees: self.freed_by(who),
            };
            self.record(event);
        }
    }

    /// Whether an incarnation that is counted and lives can do a workload no harm any more: "counts, for w alone, as x having said
    /// that it does not run w".
    pub(in crate::engine) fn is_harmless_to(&self, who: Incarnation, id: WorkloadId) -> bool {
        self.electorate.is_cut_under(who, self.digest) && self.isolation_frees(who.host, id)
    }

    /// Whether cutting this host off, in the way that its devices can, frees a workload: whichever level proved it.
    fn isolation_frees(&self, host: HostId, id: WorkloadId) -> bool {
        let Some(effect) = self.isolation_of(host) else { return false };
        let Some(workload) = self.cluster.workload(id) else { return false };
        if mutant::on(Mutant::CutFreesAll) {
            return true;
        }
        workload.proofs().contains(&effect)
            && match effect {
                Effect::Power => false,
                Effect::Network => true,
                Effect::Storage => self.devices_of(host, effect).all(|(_, level)| {
                    let of_level = || {
                        self.devices_of(host, effect).filter(|(_, device)| device.level() == level.level())
                    };
                    let taken =
                        |storage: &String| of_level().any(|(_, device)| device.storage().contains(storage));
                    workload.storage().iter().all(taken)
                }),
            }
    }

    fn freed_by(&self, who: Incarnation) -> Vec<crate::record::What> {
        let frees = |id: &WorkloadId| self.isolation_frees(who.host, *id);
        self.cluster
            .workloads()
            .iter()
            .map(crate::config::Workload::id)
            .filter(frees)
            .map(|id| self.what(id))
            .collect()
    }

    /// The fence goes no further. What it began to close may be closed: nobody opens it again in that life.
    pub(super) fn abandon_isolation(&mut self, who: Incarnation) {
        let isolation = self.fences.running.get_mut(&who).and_then(|running| running.isolation.take());
        let Some(fence) = isolation else { return };
        let half = fence.has_cut() && !fence.has_proven();
        if fence.has_cut() {
            self.spend_budget(who);
        }
        if fence.has_cut() || fence.has_proven() {
            // Opened once that life is dead.
            self.fences.closed.insert(who.host);
        }
        self.fences.wall_orders.remove(&who.host);
        let Abandoned { in_flight, settled_at, .. } = fence.abandon(self.now);
        self.cancel(Purpose::Fence(who), false, &in_flight);
        if let Some(effect) = self.isolation_of(who.host) {
            self.note_unsettled(who.host, effect, settled_at);
        }
        if half && self.electorate.is_living(who) {
            let name = self.name(who.host);
            let what = format!(
                "the isolation of {name} was begun and not ended: if it lacks its storage or network now, restart its host"
            );
            self.alarms.raise_for(&mut self.actions, format!("half {}", who.host), what);
        }
    }

    /// Its power is proven off: what else was closed is opened for the next life of its host.
    pub(super) fn end_isolation(&mut self, who: Incarnation) {
        let began = self
            .fences
            .running
            .get(&who)
            .and_then(|running| running.isolation.as_ref())
            .is_some_and(|isolation| isolation.has_cut() || isolation.has_proven());
        self.abandon_isolation(who);
        if let Some(effect) = self.isolation_of(who.host).filter(|_| began) {
            self.begin_restore(who.host, effect, who);
        }
    }
}
