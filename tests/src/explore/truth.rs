//! What is really so, and the invariants held against it (PROTOCOL, "Invariants").

use palisade_core::action::DeviceOrder;
use palisade_core::standing::Saved;
use palisade_ladder::Command;
use palisade_proto::{Ask, AskKind, Incarnation, Time, WorkloadId};
use serde::Serialize;

use super::world::{World, name, names};
use crate::sim::NAMES;

/// A grant that the witness gave, in whichever of its lives.
#[derive(Clone, Debug, Serialize)]
pub(super) struct WitnessLease {
    holder: Incarnation,
    view: Vec<Incarnation>,
    until: Time,
}

impl World {
    /// I1: never are h and g both quorate at the same real time with g not in V(h).
    pub(super) fn check_exclusion(&mut self, host: usize) {
        let now = self.body.now;
        let quorate = |at: usize| {
            let engine = self.engines[at].as_ref()?;
            engine.quorum_until().filter(|until| *until > now)?;
            Some((engine.me(), engine.view()))
        };
        let Some((me, view)) = quorate(host) else { return };
        let clash = (0..self.hosts()).filter(|other| *other != host).find_map(|other| {
            let (them, their_view) = quorate(other)?;
            (!view.contains(&them) || !their_view.contains(&me)).then(|| {
                let (mine, theirs) = (names(view.iter().copied()), names(their_view.iter().copied()));
                format!("I1: {} is quorate with {mine} while {} is with {theirs}", name(me), name(them))
            })
        });
        if let Some(clash) = clash {
            self.fail(clash);
        }
    }

    /// The incarnation of a host that can still do something, if any, and what it keeps.
    fn living(&self, host: usize) -> Option<(Incarnation, &Saved)> {
        let machine = &self.body.machines[host];
        let saved = machine.run_dir.as_ref().filter(|saved| machine.up && !saved.left)?;
        Some((machine.me?, saved))
    }

    /// Whether a living host counts that incarnation.
    fn counts(&self, host: usize, who: Incarnation) -> bool {
        match (&self.engines[host], self.living(host)) {
            (Some(engine), _) => engine.counted().contains(&who),
            (None, Some((_, saved))) => saved.electorate.contains(&who),
            (None, None) => false,
        }
    }

    fn is_admitted(&self, host: usize) -> bool {
        let admitted = self.engines[host].as_ref().map(palisade_core::Engine::admitted);
        self.living(host).is_some_and(|(_, saved)| admitted.unwrap_or(saved.admitted))
    }

    /// Whether a host is a member that every running agent of a member stands with.
    pub(super) fn stands(&self, host: usize) -> bool {
        let me = self.body.machines[host].me;
        let mut members = self.engines.iter().flatten().filter(|engine| engine.admitted());
        self.is_admitted(host) && members.all(|engine| me.is_some_and(|me| engine.view().contains(&me)))
    }

    /// Whether a host runs and is no member yet.
    pub(super) fn joins(&self, host: usize) -> bool {
        self.engines[host].is_some() && !self.is_admitted(host)
    }

    /// What can be seen between two steps: I0 and P.
    pub(super) fn check_all(&mut self) {
        let living: Vec<Option<Incarnation>> =
            (0..self.hosts()).map(|host| self.living(host).map(|(me, _)| me)).collect();
        let mut broken = None;
        for host in 0..self.hosts() {
            let Some(me) = living[host] else { continue };
            // P: a proof of death is never about a live incarnation.
            let believer = self.engines.iter().flatten().find(|engine| engine.dead().any(|who| who == me));
            if let Some(believer) = believer {
                broken = Some(format!(
                    "P: {} holds a proof that {} is dead, and it lives",
                    name(believer.me()),
                    name(me)
                ));
            }
            // I0: every live admitted incarnation is in E of every other live admitted incarnation.
            for other in (0..self.hosts()).filter(|other| *other != host) {
                let Some(them) = living[other] else { continue };
                if self.is_admitted(host) && self.is_admitted(other) && !self.counts(host, them) {
                    broken = Some(format!(
                        "I0: {} does not count {}, and both live and are admitted",
                        name(me),
                        name(them)
                    ));
                }
            }
        }
        if let Some(broken) = broken {
            self.fail(broken);
        }
    }

    /// I3: the witness never has two conflicting unexpired grants, restarts included.
    pub(super) fn witness_granted(&mut self, ask: &Ask) {
        let now = self.body.now;
        if ask.kind == AskKind::Beacon {
            return;
        }
        self.body.leases.retain(|lease| lease.until > now && lease.holder != ask.from);
        let conflict = self
            .body
            .leases
            .iter()
            .find(|lease| !(ask.view.contains(lease.holder) && lease.view.contains(&ask.from)))
            .map(|lease| lease.holder);
        let until = now.after(self.cluster.timing().voter_lease());
        let view = ask.view.iter().collect();
        self.body.leases.push(WitnessLease { holder: ask.from, view, until });
        if let Some(holder) = conflict {
            let what =
                format!("I3: the witness supports {} while it supports {}", name(ask.from), name(holder));
            self.fail(what);
        }
    }

    /// I2, SAFE-9: before a start.
    pub(super) fn check_start(&mut self, host: usize, id: WorkloadId) {
        if let Some(other) = (0..self.hosts()).find(|other| self.body.machines[*other].runs.contains(&id)) {
            self.fail(format!("I2: {} starts w{id} while it runs on {}", NAMES[host], NAMES[other]));
        }
        if !self.is_admitted(host) {
            self.fail(format!("SAFE-9: {} starts w{id} before it is admitted", NAMES[host]));
        }
    }

    /// SAFE-2: an automatic fence command is sent only by the coordinator of a quorate view (no scene waits long enough for a
    /// cold start's off).
    pub(super) fn check_order(&mut self, by: usize, order: &DeviceOrder) {
        let now = self.body.now;
        let allowed = self.engines[by].as_ref().is_some_and(|engine| engine.is_coordinator(now));
        if order.command == Command::Off && !allowed {
            let victim = NAMES[order.host.index()];
            self.fail(format!("SAFE-2: {} orders {victim} off without the standing to", NAMES[by]));
        }
    }

    /// I4: what is not as it should be once everything is mended; `None`: all is well.
    pub(super) fn what_lacks(&self) -> Option<String> {
        let mut all = Vec::new();
        for (host, engine) in self.engines.iter().enumerate() {
            let Some(engine) = engine else { return Some(format!("no agent runs on {}", NAMES[host])) };
            if !engine.admitted() {
                return Some(format!("{} is not admitted", name(engine.me())));
            }
            all.push(engine.me());
        }
        for engine in self.engines.iter().flatten() {
            if !engine.is_quorate(self.body.now) {
                return Some(format!("{} is not quorate", name(engine.me())));
            }
            let (view, counted) = (engine.view().iter().copied(), engine.counted().iter().copied());
            if !view.clone().eq(all.iter().copied()) || !counted.clone().eq(all.iter().copied()) {
                return Some(format!(
                    "{} stands with {} and counts {}",
                    name(engine.me()),
                    names(view),
                    names(counted)
                ));
            }
        }
        let runs =
            |id: &WorkloadId| self.body.machines.iter().filter(|machine| machine.runs.contains(id)).count();
        let lost = self.cluster.workloads().iter().find(|workload| runs(&workload.id()) != 1)?;
        Some(format!("{} runs nowhere", lost.name()))
    }
}
