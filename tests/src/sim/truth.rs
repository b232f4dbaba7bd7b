//! What is really so, and the invariants that are held against it after every event (PROTOCOL, "Invariants").

use std::collections::BTreeSet;

use palisade_core::action::DeviceOrder;
use palisade_ladder::Command;
use palisade_proto::{Ask, AskKind, Incarnation, WorkloadId};

use super::event::Event;
use super::world::{World, name, names};
use super::{Micros, NAMES, ms};

/// How much longer than `grace` a host may take to order its kills: a heartbeat may be between two looks at the clock.
const GRACE_SLACK: Micros = ms(300);

/// A quorum as a host holds it.
struct Quorum {
    me: Incarnation,
    view: BTreeSet<Incarnation>,
    /// It holds before this instant.
    until: Micros,
}

struct WitnessLease {
    holder: Incarnation,
    view: Vec<Incarnation>,
    until: Micros,
}

/// What the world remembers in order to judge.
pub(super) struct Truth {
    quorums: Vec<Option<Quorum>>,
    /// Deaths that were already judged, by the host that holds them.
    judged: Vec<BTreeSet<Incarnation>>,
    witness_leases: Vec<WitnessLease>,
    by_operator: BTreeSet<usize>,
    /// When each automatic fence that cut power was ordered.
    cuts: Vec<Micros>,
    well_since: Option<(Micros, u64)>,
    /// Workloads that ran on the first machine to lose power, in a measured history.
    pub(super) lost: BTreeSet<WorkloadId>,
    pub(super) lost_at: Option<Micros>,
}

impl Truth {
    pub(super) fn new(hosts: usize) -> Self {
        Self {
            quorums: (0..hosts).map(|_| None).collect(),
            judged: vec![BTreeSet::new(); hosts],
            witness_leases: Vec::new(),
            by_operator: BTreeSet::new(),
            cuts: Vec::new(),
            well_since: None,
            lost: BTreeSet::new(),
            lost_at: None,
        }
    }

    /// The machine lost everything.
    pub(super) fn gone(&mut self, host: usize) {
        self.quorums[host] = None;
        self.judged[host].clear();
    }

    pub(super) fn no_process(&mut self, host: usize) {
        self.quorums[host] = None;
    }

    /// Power was cut by an order that somebody gave at `ordered`. SAFE-8: so many within the window, and no more; operators'
    /// orders and a cold start's are not counted. `window` is in true time.
    pub(super) fn cut(
        &mut self,
        host: usize,
        cold: bool,
        ordered: Micros,
        budget: usize,
        window: Micros,
    ) -> Option<String> {
        if cold || self.by_operator.contains(&host) {
            return None;
        }
        self.cuts.push(ordered);
        let within = self.cuts.iter().filter(|at| **at + window > ordered && **at <= ordered).count();
        (within > budget).then(|| {
            format!(
                "SAFE-8: {within} hosts were fenced within {} s, the budget is {budget}",
                window / 1_000_000
            )
        })
    }

    pub(super) fn operator_ordered(&mut self, host: usize) {
        self.by_operator.insert(host);
    }

    /// I3: the witness never has two conflicting unexpired grants, restarts included.
    pub(super) fn witness_granted(&mut self, ask: &Ask, now: Micros, until: Micros) -> Option<String> {
        self.witness_leases.retain(|lease| lease.until > now && lease.holder != ask.from);
        let conflict = self.witness_leases.iter().find(|lease| {
            !(ask.view.contains(lease.holder) && lease.view.contains(&ask.from))
                && ask.kind != AskKind::Beacon
        });
        let failure = conflict.map(|lease| {
            format!(
                "I3: the witness supports {} for {} while it supports {}",
                name(ask.from),
                names(ask.view.iter()),
                name(lease.holder)
            )
        });
        self.witness_leases.push(WitnessLease { holder: ask.from, view: ask.view.iter().collect(), until });
        failure
    }

    /// Since when all has been well, without a further cut.
    pub(super) fn note_wellness(&mut self, well: bool, cuts: u64, now: Micros) -> Option<Micros> {
        match (well, self.well_since) {
            (false, _) => self.well_since = None,
            (true, Some((_, before))) if before == cuts => {}
            (true, Some(_) | None) => self.well_since = Some((now, cuts)),
        }
        self.well_since.map(|(since, _)| since)
    }
}

impl World {
    /// After each input of a host: its new state against everybody's.
    pub(super) fn observe(&mut self, host: usize) {
        let clock = self.machines[host].clock;
        let Some(process) = &mut self.machines[host].process else { return };
        let engine = &process.engine;
        let me = engine.me();
        let wake = clock.when(engine.wake());
        let process_id = process.id;
        if wake < process.tick {
            process.tick = wake;
            self.queue.push(wake.max(self.now), Event::Tick { host, process: process_id });
        }
        let until = engine.quorum_until().map(|until| clock.when(until));
        let quorum = until.filter(|until| *until > self.now).map(|until| Quorum {
            me,
            view: engine.view().clone(),
            until,
        });
        let admitted = engine.admitted();
        self.check_exclusion(host, quorum);
        if admitted {
            self.check_electorates(host, me);
        }
        self.check_deaths(host);
        self.check_grace(host);
    }

    /// I1: never are h and g both quorate at the same real time with g not in V(h).
    fn check_exclusion(&mut self, host: usize, quorum: Option<Quorum>) {
        if let Some(mine) = &quorum {
            let now = self.now;
            let clash = self.truth.quorums.iter().enumerate().filter(|(other, _)| *other != host).find_map(
                |(_, theirs)| {
                    let theirs = theirs.as_ref().filter(|theirs| theirs.until > now)?;
                    (!mine.view.contains(&theirs.me) || !theirs.view.contains(&mine.me)).then(|| {
                        let (left, right) =
                            (names(mine.view.iter().copied()), names(theirs.view.iter().copied()));
                        format!(
                            "I1: {} is quorate with {left} while {} is with {right}",
                            name(mine.me),
                            name(theirs.me)
                        )
                    })
                },
            );
            if let Some(clash) = clash {
                self.fail(clash);
            }
        }
        if let Some(process) = &mut self.machines[host].process
            && (quorum.is_some() || self.truth.quorums[host].is_some())
        {
            process.unquorate_since = quorum.as_ref().map_or(self.now, |quorum| quorum.until);
        }
        self.truth.quorums[host] = quorum;
    }

    /// I0: every live admitted incarnation is in E of every other live admitted incarnation.
    fn check_electorates(&mut self, host: usize, me: Incarnation) {
        let mut broken = None;
        for other in (0..self.machines.len()).filter(|other| *other != host) {
            let machine = &self.machines[other];
            let Some((them, saved)) = machine.living() else { continue };
            let engine = machine.process.as_ref().map(|process| &process.engine);
            if !engine.map_or(saved.admitted, |engine| engine.admitted()) {
                continue;
            }
            let they_count = engine
                .map_or_else(|| saved.electorate.contains(&me), |engine| engine.counted().contains(&me));
            let we_count = self.machines[host]
                .process
                .as_ref()
                .is_some_and(|process| process.engine.counted().contains(&them));
            if !they_count || !we_count {
                let (counter, left_out) = if they_count { (me, them) } else { (them, me) };
                broken = Some(format!(
                    "I0: {} does not count {}, and both live and are admitted",
                    name(counter),
                    name(left_out)
                ));
            }
        }
        if let Some(broken) = broken {
            self.fail(broken);
        }
    }

    /// P: a proof of death is never about a live incarnation.
    fn check_deaths(&mut self, host: usize) {
        let Some(process) = &self.machines[host].process else { return };
        let new: Vec<Incarnation> =
            process.engine.dead().filter(|who| !self.truth.judged[host].contains(who)).collect();
        for who in new {
            self.truth.judged[host].insert(who);
            let other = &self.machines[who.host.index()];
            if other.living().is_some_and(|(them, _)| them == who) {
                self.fail(format!(
                    "P: {} holds a proof that {} is dead, and it lives",
                    NAMES[host],
                    name(who)
                ));
            }
        }
    }

    /// SAFE-3: a host that is not quorate kills its workloads within `grace`.
    fn check_grace(&mut self, host: usize) {
        let machine = &self.machines[host];
        let Some(process) = &machine.process else { return };
        let quorate = self.truth.quorums[host].as_ref().is_some_and(|quorum| quorum.until > self.now);
        // Its own clock may be slow by half of the drift bound.
        let grace = ms(self.setup.grace) * (1_000_000 + self.setup.drift_ppm) / 1_000_000 + GRACE_SLACK;
        let late = !quorate && self.now > process.unquorate_since + grace;
        let runs = machine.runs.values().any(|run| run.phase != super::machine::Phase::Stopping);
        if late && runs && process.engine.admitted() {
            self.fail(format!(
                "SAFE-3: {} has had no quorum for {} ms and still runs a workload",
                NAMES[host],
                (self.now - process.unquorate_since) / 1000
            ));
        }
    }

    /// I2, SAFE-1, SAFE-9: before a start.
    pub(super) fn check_start(&mut self, host: usize, id: WorkloadId) {
        let elsewhere = (0..self.machines.len())
            .find(|other| *other != host && self.machines[*other].runs.contains_key(&id));
        if let Some(other) = elsewhere {
            self.fail(format!("I2: {} starts w{id} while it runs on {}", NAMES[host], NAMES[other]));
        }
        let process = self.machines[host].process.as_ref();
        if !process.is_some_and(|process| process.engine.admitted()) {
            self.fail(format!("SAFE-9: {} starts w{id} before it is admitted", NAMES[host]));
        }
        if self.machines[host].runs.contains_key(&id) {
            self.fail(format!("SAFE-1: {} starts w{id} though it runs there already", NAMES[host]));
        }
    }

    /// SAFE-2: an automatic fence command is sent only by the coordinator of a quorate view, or in a cold start.
    pub(super) fn check_order(&mut self, by: usize, order: &DeviceOrder) {
        if order.command != Command::PowerOff {
            return;
        }
        let now = self.machines[by].clock.time(self.now);
        let Some(process) = &self.machines[by].process else { return };
        let engine = &process.engine;
        let victim = order.host.index();
        let allowed = if !engine.admitted() {
            self.setup.witness
        } else if self.truth.by_operator.contains(&victim) {
            engine.is_quorate(now)
        } else {
            engine.is_coordinator(now)
        };
        if !allowed {
            self.fail(format!("SAFE-2: {} orders {} off without the standing to", NAMES[by], NAMES[victim]));
        }
    }

    pub(super) fn note_recovery(&mut self, id: WorkloadId) {
        if let Some(lost_at) = self.truth.lost_at
            && self.truth.lost.remove(&id)
            && self.truth.lost.is_empty()
        {
            self.report.recovery = Some(self.now - lost_at);
        }
    }
}
