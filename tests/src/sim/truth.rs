//! What is really so, and the invariants that are held against it after every event (PROTOCOL, "Invariants").

use std::collections::BTreeSet;

use palisade_core::action::DeviceOrder;
use palisade_core::record::Who;
use palisade_ladder::Command;
use palisade_proto::arbiter::BEACON_TTL;
use palisade_proto::{Ask, AskKind, Incarnation, WorkloadId};

use super::event::{Event, Given};
use super::lemmas::Counted;
use super::machine::Intent;
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
    /// A cold start's consent rather than a vote.
    cold: bool,
}

/// A fence that cut power: which boot of which host, by whom, when it was ordered.
struct Cut {
    host: usize,
    boot: u64,
    victim: Option<Incarnation>,
    by: usize,
    by_boot: u64,
    at: Micros,
}

/// What the world remembers in order to judge.
pub(super) struct Truth {
    quorums: Vec<Option<Quorum>>,
    /// What each host counts.
    pub(super) counted: Vec<Counted>,
    /// Who was ever counted by an admitted host.
    pub(super) ever_counted: BTreeSet<Incarnation>,
    /// Deaths that were already judged, by the host that holds them.
    judged: Vec<BTreeSet<Incarnation>>,
    witness_leases: Vec<WitnessLease>,
    by_operator: BTreeSet<usize>,
    /// Automatic fences that cut power.
    cuts: Vec<Cut>,
    /// When the witness last heard that an electorate lives, and in which of its lives.
    alive: Option<(Micros, u64)>,
    well_since: Option<(Micros, u64)>,
    /// Workloads that ran on the first machine to lose power, in a measured history.
    pub(super) lost: BTreeSet<WorkloadId>,
    pub(super) lost_at: Option<Micros>,
}

impl Truth {
    pub(super) fn new(hosts: usize) -> Self {
        Self {
            quorums: (0..hosts).map(|_| None).collect(),
            counted: (0..hosts).map(|_| Counted::default()).collect(),
            ever_counted: BTreeSet::new(),
            judged: vec![BTreeSet::new(); hosts],
            witness_leases: Vec::new(),
            by_operator: BTreeSet::new(),
            cuts: Vec::new(),
            alive: None,
            well_since: None,
            lost: BTreeSet::new(),
            lost_at: None,
        }
    }

    /// The machine lost everything.
    pub(super) fn gone(&mut self, host: usize) {
        self.no_process(host);
        self.judged[host].clear();
    }

    pub(super) fn no_process(&mut self, host: usize) {
        self.quorums[host] = None;
        self.counted[host] = Counted::default();
    }

    pub(super) fn operator_ordered(&mut self, host: usize) {
        self.by_operator.insert(host);
    }

    /// I3: the witness never has two conflicting unexpired grants, restarts included.
    pub(super) fn witness_granted(
        &mut self,
        ask: &Ask,
        now: Micros,
        until: Micros,
        life: u64,
    ) -> Option<String> {
        let cold = ask.kind == AskKind::Cold;
        if let Some((heard, in_life)) = self.alive
            && cold
            && in_life == life
            && now < heard + ms(BEACON_TTL.0) * 9 / 10
        {
            let ago = (now - heard) / 1000;
            return Some(format!(
                "SAFE-2: the witness consents to a cold start, {ago} ms after it heard that an electorate lives"
            ));
        }
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
        self.witness_leases.push(WitnessLease {
            holder: ask.from,
            view: ask.view.iter().collect(),
            until,
            cold,
        });
        failure
    }

    /// What the witness is bound to towards `holder`, whichever of its processes granted it, and until when.
    pub(super) fn witness_lease_of(&self, holder: Incarnation) -> Option<(&[Incarnation], Micros)> {
        let lease = self.witness_leases.iter().find(|lease| lease.holder == holder)?;
        Some((&lease.view, lease.until))
    }

    /// Whether the witness is bound to nobody.
    pub(super) fn witness_is_free(&self, now: Micros) -> bool {
        self.witness_leases.iter().all(|lease| lease.until <= now)
    }

    /// The witness heard that an electorate lives.
    pub(super) fn note_alive(&mut self, now: Micros, life: u64) {
        self.alive = Some((now, life));
    }

    /// Whether the witness consents to what this host does in a cold start.
    fn consents(&self, who: Incarnation, now: Micros) -> bool {
        self.witness_leases.iter().any(|lease| lease.cold && lease.holder == who && now < lease.until)
    }

    /// Since when all has been well.
    pub(super) fn well_since(&self) -> Option<Micros> {
        self.well_since.map(|(since, _)| since)
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
        self.check_votes(host);
        self.check_deaths(host);
        self.check_grace(host);
        self.check_calm(host);
    }

    /// Whether what rests on the drift bound can be expected: clocks that keep none take quorum, leases and grace with them.
    pub(super) fn clocks_keep_bound(&self) -> bool {
        let settled = ms(self.setup.lease * 20);
        !self.setup.wild || self.is_mended_since(settled)
    }

    /// I1: never are h and g both quorate at the same real time with g not in V(h).
    fn check_exclusion(&mut self, host: usize, quorum: Option<Quorum>) {
        if let Some(mine) = quorum.as_ref().filter(|_| self.clocks_keep_bound()) {
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
        if late && runs && process.engine.admitted() && self.clocks_keep_bound() {
            self.fail(format!(
                "SAFE-3: {} has had no quorum for {} ms and still runs a workload",
                NAMES[host],
                (self.now - process.unquorate_since) / 1000
            ));
        }
    }

    /// Whether a workload runs on a machine that can reach its shared state (PROTOCOL, "Isolation").
    fn can_harm(&self, host: usize, id: WorkloadId) -> bool {
        let machine = &self.machines[host];
        let reaches = self.reaches_network(host) || !self.setup.by_network(usize::from(id.0));
        reaches && machine.runs.get(&id).is_some_and(|run| !run.stray)
    }

    /// Whether the network is open to a host: by the device that cuts it, or by any other member that does not keep it out.
    fn reaches_network(&self, host: usize) -> bool {
        if !self.setup.walls {
            return self.machines[host].path_open;
        }
        let mut members = self.machines.iter().enumerate().filter(|(other, machine)| {
            *other != host && machine.living().is_some_and(|(_, saved)| saved.admitted)
        });
        members.any(|(_, machine)| !machine.walls.contains(&host))
    }

    /// I2: a network that is opened lets nothing loose that runs elsewhere.
    pub(super) fn check_opened(&mut self, host: usize) {
        let ids: Vec<WorkloadId> = self.machines[host].runs.keys().copied().collect();
        for id in ids.into_iter().filter(|id| self.can_harm(host, *id)).collect::<Vec<_>>() {
            let other = (0..self.machines.len()).find(|other| *other != host && self.can_harm(*other, id));
            if let Some(other) = other {
                let (host, other) = (NAMES[host], NAMES[other]);
                self.fail(format!(
                    "I2: w{id} runs on {other}, and the network of {host} is opened, which runs it"
                ));
            }
        }
    }

    /// P, for isolation: whoever proves that a life is cut off, and does not know it from others only, is right.
    pub(super) fn check_isolation(&mut self, by: usize, victim: &Who, evidence: &str) {
        let Some(host) = NAMES.iter().position(|name| *name == victim.host) else { return };
        let machine = &self.machines[host];
        let lives = machine.living().is_some_and(|(who, _)| who.life.to_string() == victim.life);
        if !evidence.starts_with("the word of") && lives && self.reaches_network(host) {
            self.fail(format!(
                "P: {} holds a proof that {} is cut off, and it is not",
                NAMES[by], NAMES[host]
            ));
        }
    }

    /// I2, SAFE-1, SAFE-9: before a start.
    pub(super) fn check_start(&mut self, host: usize, id: WorkloadId) {
        let elsewhere = (0..self.machines.len()).find(|other| *other != host && self.can_harm(*other, id));
        if let Some(other) = elsewhere {
            self.fail(format!("I2: {} starts w{id} while it runs on {}", NAMES[host], NAMES[other]));
        }
        let process = self.machines[host].process.as_ref();
        let admitted = process.is_some_and(|process| process.engine.admitted());
        let intended = process.is_some_and(|process| process.durable == Some(Intent::Start(id)));
        if !admitted {
            self.fail(format!("SAFE-9: {} starts w{id} before it is admitted", NAMES[host]));
        }
        if !intended {
            self.fail(format!("SAFE-5: {} starts w{id}, and the intent is not on its disk", NAMES[host]));
        }
        if self.machines[host].runs.contains_key(&id) {
            self.fail(format!("SAFE-1: {} starts w{id} though it runs there already", NAMES[host]));
        }
    }

    /// SAFE-9: a life that is not admitted speaks only when every workload was looked at and what ran is dead.
    pub(super) fn check_first_word(&mut self, host: usize) {
        let machine = &self.machines[host];
        let joins = machine
            .process
            .as_ref()
            .is_some_and(|process| !process.engine.admitted() && !process.engine.is_leaving());
        if let Some(id) = machine.runs.keys().next().filter(|_| joins) {
            self.fail(format!("SAFE-9: {} speaks un-admitted while w{id} runs on it", NAMES[host]));
        }
    }

    /// SAFE-8: so many victims within the window, and no more, of the fences that a host ordered in this boot and of those that
    /// it was told of. A fence that nobody is left to tell of cannot be counted; operators' orders and a cold start's are not.
    /// One victim is one life as the orderer counts it: an off that a device executes twice is one fence, and one that was sent
    /// to a host without power and executes after its next boot is none.
    pub(super) fn check_cut(&mut self, host: usize, by: usize, given: Given) {
        if self.is_well_since(given.at) && !self.truth.by_operator.contains(&host) {
            self.fail(format!("I4: {} was fenced by {} though all was well", NAMES[host], NAMES[by]));
        }
        let machine = &self.machines[by];
        if machine.process.as_ref().is_none_or(|process| !process.engine.admitted()) {
            return;
        }
        if self.truth.by_operator.contains(&host) || machine.boot != given.by_boot {
            return;
        }
        let Some(boot) = given.victim_boot else { return };
        let (victim, at) = (given.victim, given.at);
        let same =
            |cut: &Cut| (cut.host, cut.boot) == (host, boot) || (cut.victim == victim && victim.is_some());
        if !self.truth.cuts.iter().any(same) {
            self.truth.cuts.push(Cut { host, boot, victim, by, by_boot: given.by_boot, at });
        }
        // A little less than the hosts' window, whose clocks drift.
        let window = ms(self.setup.budget_window) * 9 / 10;
        let counted = self.truth.cuts.iter().filter(|cut| {
            let known = (cut.by == by && cut.by_boot == machine.boot)
                || cut.victim.is_some_and(|victim| machine.knows_fenced.contains(&victim.life.to_string()));
            known && cut.at + window > at && cut.at <= at
        });
        let (counted, budget) = (counted.count(), self.setup.budget as usize);
        if counted > budget && self.clocks_keep_bound() {
            self.fail(format!(
                "SAFE-8: {counted} hosts were fenced within {} s, the budget is {budget}",
                window / 1_000_000
            ));
        }
    }

    /// SAFE-2: an automatic fence command is sent only by the coordinator of a quorate view, or in a cold start.
    pub(super) fn check_order(&mut self, by: usize, order: &DeviceOrder) {
        if !matches!(order.command, Command::Off | Command::On) {
            return;
        }
        let intent = Intent::Order(order.command, NAMES[order.host.index()].to_owned());
        if self.machines[by].process.as_ref().is_none_or(|process| process.durable.as_ref() != Some(&intent))
        {
            self.fail(format!("SAFE-5: {} sends {intent:?}, which is not on its disk", NAMES[by]));
        }
        if order.command != Command::Off || !self.clocks_keep_bound() {
            return;
        }
        let now = self.machines[by].clock.time(self.now);
        let Some(process) = &self.machines[by].process else { return };
        let engine = &process.engine;
        let victim = order.host.index();
        let allowed = if self.is_wall(order) {
            // Whoever is not a member yet follows; a member takes the victim for lost, or knows it for cut.
            let lost = engine.is_quorate(now) && engine.view().iter().all(|who| who.host != order.host);
            !engine.admitted() || lost || engine.cut().any(|who| who.host == order.host)
        } else if !engine.admitted() {
            self.truth.consents(engine.me(), self.now)
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
