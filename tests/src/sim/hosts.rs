//! What happens to machines: power, boots, freezes, agents that start and end; and what an operator does at them.

use std::sync::Arc;

use palisade_core::action::{ExitKind, Request, Seen, Ticket, WorkloadReport};
use palisade_core::engine::{Engine, Wished};
use palisade_core::standing::{Awakening, Birth, SavedState, awaken};
use palisade_proto::{HostId, Time};

use super::ailing::EVERY;
use super::event::Event;
use super::faults::BmcMode;
use super::machine::{Phase, Process, Run};
use super::world::{World, name, names};
use super::{Clock, Micros, NAMES, ms};

/// The daemon looks at its workloads this often.
const LOOK_EVERY: Micros = ms(10_000);

impl World {
    pub(super) fn boot(&mut self, host: usize) {
        let machine = &mut self.machines[host];
        if !machine.power || machine.up {
            return;
        }
        machine.up = true;
        machine.boot += 1;
        machine.knows_fenced.clear();
        machine.clock = Clock::new(self.now, machine.clock.ppm);
        let boot = machine.boot;
        if let Some(id) = machine.autostarts {
            machine.runs.insert(id, Run { phase: Phase::Running, step: 0, stray: true });
        }
        self.trace(|| format!("{}: boots ({boot})", NAMES[host]));
        let after = self.rng.scale(1000, ms(300));
        self.queue.push(self.now + after, Event::StartAgent { host, boot });
    }

    pub(super) fn lose_power(&mut self, host: usize, back: Option<Micros>) {
        self.machines[host].power = false;
        self.machines[host].lose_state();
        self.truth.gone(host);
        if let Some(back) = back {
            self.give_power(host, back);
        }
    }

    pub(super) fn give_power(&mut self, host: usize, boots_after: Micros) {
        if !self.machines[host].broken && !self.machines[host].power {
            self.machines[host].power = true;
            self.machines[host].power_since = self.now;
            self.queue.push(self.now + boots_after, Event::Boot { host });
        }
    }

    /// A reset: power stays, everything else goes.
    pub(super) fn reset(&mut self, host: usize) {
        self.machines[host].lose_state();
        self.truth.gone(host);
        let after = ms(self.rng.scale(50, 20_000));
        self.queue.push(self.now + after, Event::Boot { host });
    }

    pub(super) fn start_agent(&mut self, host: usize) {
        let machine = &mut self.machines[host];
        if !machine.up || machine.process.is_some() || !machine.agent_wanted {
            return;
        }
        let id = HostId::new(host as u8).expect("few hosts");
        let configured = self.cluster.host(id).expect("configured");
        let saved = match &machine.run_dir {
            Some(saved) => SavedState::Found(Box::new(saved.clone())),
            None => SavedState::Absent,
        };
        let birth = Birth {
            host: id,
            boot_id: machine.boot_id(host),
            machine: configured.machine().bytes(),
            first_seq: machine.clock.micros(self.now),
            saved,
            journal_says_admitted: machine.journal_says_admitted,
        };
        match awaken(&birth) {
            Awakening::Live { me, mut saved, resumed } => {
                if matches!(birth.saved, SavedState::Absent)
                    && let Some(event) = &machine.journal_wished
                {
                    let now = machine.clock.time(self.now);
                    saved.wished = Wished::recorded(event, &self.cluster, now).unwrap_or_default();
                }
                let now = machine.clock.time(self.now);
                let engine = Engine::new(Arc::clone(&self.cluster), &birth, me, *saved, resumed, now);
                self.next_process += 1;
                machine.me = Some(me);
                machine.dies_after = None;
                let board = self.board(host);
                let machine = &mut self.machines[host];
                machine.process = Some(Process {
                    id: self.next_process,
                    engine,
                    tick: Micros::MAX,
                    unquorate_since: self.now,
                    intents: std::collections::BTreeMap::new(),
                    board,
                    sampled: false,
                    durable: None,
                });
                self.trace(|| format!("{}: agent starts as {}", NAMES[host], name(me)));
                // A look through a hanging hypervisor or mount takes its time.
                let slow = !self.is_measuring() && self.rng.chance(50);
                let takes = if slow { self.rng.scale(ms(30), ms(3000)) } else { self.rng.scale(500, ms(30)) };
                let look = self.now + takes;
                if self.setup.probes {
                    let first = self.rng.aside(self.next_process).below(ms(EVERY));
                    self.queue.push(self.now + first, Event::Sample { host, process: self.next_process });
                }
                self.queue.push(look, Event::Look { host, process: self.next_process });
                self.drain(host);
            }
            Awakening::MustReboot { why } => {
                self.trace(|| format!("{}: must reboot: {why}", NAMES[host]));
                self.reset(host);
            }
        }
    }

    /// The process is gone; what it runs and its `/run` stay.
    pub(super) fn kill_agent(&mut self, host: usize, back: Option<Micros>) {
        // The kernel may feed a watchdog once more when it closes the device for a dead process.
        if self.machines[host].dog.is_some() && self.rng.chance(500) {
            self.feed_dog(host);
        }
        let machine = &mut self.machines[host];
        machine.process = None;
        machine.dies_after = None;
        machine.waiting_for_disk.clear();
        self.truth.no_process(host);
        if let Some(back) = back {
            let boot = machine.boot;
            self.queue.push(self.now + back, Event::StartAgent { host, boot });
        }
    }

    /// The process ended by its own will.
    pub(super) fn exited(&mut self, host: usize, kind: ExitKind) {
        self.trace(|| format!("{}: agent exits ({kind:?})", NAMES[host]));
        let back = self.machines[host].comes_back.take();
        match kind {
            ExitKind::Left => {
                let back = back.or(self.is_mended().then_some(ms(100)));
                self.machines[host].agent_wanted = back.is_some();
                self.kill_agent(host, back);
            }
            ExitKind::Restart => self.kill_agent(host, Some(back.unwrap_or(ms(100)))),
            ExitKind::Reborn => {
                let after = ms(self.rng.scale(50, 1000));
                self.kill_agent(host, Some(after));
            }
        }
    }

    pub(super) fn plan_restart(&mut self, host: usize, down: Micros) {
        if self.machines[host].frozen || self.machines[host].process.is_none() {
            return;
        }
        self.machines[host].comes_back = Some(down);
        self.with_engine(host, Engine::handle_restart);
    }

    pub(super) fn plan_leave(&mut self, host: usize, back: Option<Micros>) {
        if self.machines[host].frozen || self.machines[host].process.is_none() {
            return;
        }
        self.machines[host].comes_back = back;
        self.with_engine(host, |engine, now| engine.handle_leave("stopped", now));
    }

    pub(super) fn freeze(&mut self, host: usize, length: Micros) {
        let machine = &mut self.machines[host];
        if machine.up && !machine.frozen {
            machine.frozen = true;
            let boot = machine.boot;
            self.queue.push(self.now + length, Event::Thaw { host, boot });
        }
    }

    pub(super) fn thaw(&mut self, host: usize, boot: u64) {
        if self.machines[host].boot != boot || !self.machines[host].frozen {
            return;
        }
        self.machines[host].frozen = false;
        self.trace(|| format!("{}: thaws", NAMES[host]));
        if std::mem::take(&mut self.machines[host].feeds_at_thaw) {
            self.feed_dog(host);
        }
        let mut waiting: Vec<Event> = self.machines[host].deferred.drain(..).collect();
        // Whatever the kernel hands over first.
        match self.rng.below(3) {
            0 => waiting.sort_by_key(|event| matches!(event, Event::Tick { .. })),
            1 => waiting.sort_by_key(|event| !matches!(event, Event::Tick { .. })),
            _ => {}
        }
        for event in waiting {
            let gap = self.rng.below(300);
            self.queue.push(self.now + gap, event);
        }
    }

    pub(super) fn look(&mut self, host: usize, process: u64) {
        if !self.is_process(host, process) {
            return;
        }
        let ids: Vec<_> = self.cluster.workloads().iter().map(|workload| workload.id()).collect();
        for id in ids {
            let seen = if self.machines[host].runs.contains_key(&id) { Seen::Running } else { Seen::Stopped };
            self.with_engine(host, |engine, now| engine.handle_workload(id, WorkloadReport::Seen(seen), now));
        }
        self.queue.push(self.now + LOOK_EVERY, Event::Look { host, process });
    }

    pub(super) fn set_journal(&mut self, host: usize, fails: bool) {
        self.machines[host].journal_fails = fails;
        let error = fails.then(|| "no space left on device".to_owned());
        self.with_engine(host, |engine, now| engine.handle_journal(error, now));
        if !fails {
            let waiting = std::mem::take(&mut self.machines[host].waiting_for_disk);
            for ticket in waiting {
                self.tell_durable(host, ticket);
            }
        }
    }

    pub(super) fn durable(&mut self, host: usize, process: u64, ticket: Ticket) {
        if !self.is_process(host, process) {
            return;
        }
        if self.machines[host].journal_fails {
            self.machines[host].waiting_for_disk.push(ticket);
        } else {
            self.tell_durable(host, ticket);
        }
    }

    fn tell_durable(&mut self, host: usize, ticket: Ticket) {
        if let Some(process) = &mut self.machines[host].process {
            process.durable = process.intents.remove(&ticket);
        }
        self.with_engine(host, |engine, now| engine.handle_durable(ticket, now));
        if let Some(process) = &mut self.machines[host].process {
            process.durable = None;
        }
    }

    // The operator.

    pub(super) fn operator_fences(&mut self, on: usize, victim: usize) {
        let host = HostId::new(victim as u8).expect("few hosts");
        self.request(on, Request::Fence { host, reason: "drawn".to_owned(), by: "root".to_owned() });
    }

    /// Lets a host return from its quarantine; whoever does not coordinate refuses.
    fn operator_unfences(&mut self, on: usize, victim: usize) {
        let host = HostId::new(victim as u8).expect("few hosts");
        self.request(on, Request::Unfence { host, reason: "mended".to_owned(), by: "root".to_owned() });
    }

    /// Says that a host is dead only after a look at it.
    pub(super) fn operator_confirms(&mut self, on: usize, victim: usize) {
        if !self.machines[victim].power {
            let host = HostId::new(victim as u8).expect("few hosts");
            self.request(
                on,
                Request::Confirm {
                    host,
                    reason: "saw it".to_owned(),
                    by: "root".to_owned(),
                    statement: Ok(None),
                },
            );
        }
    }

    pub(super) fn operator_desires(&mut self, on: usize, workload: usize, run: bool) {
        let workload = self.cluster.workloads()[workload].id();
        self.request(
            on,
            Request::Desire { workload, run, reason: "drawn".to_owned(), by: "root".to_owned() },
        );
    }

    pub(super) fn operator_drains(&mut self, on: usize, host: usize, drain: bool) {
        let host = HostId::new(host as u8).expect("few hosts");
        let (reason, by) = ("drawn".to_owned(), "root".to_owned());
        self.request(on, Request::Drain { host, drain, reason, by });
    }

    pub(super) fn operator_arms(&mut self, on: usize, disarmed: Micros) {
        let disarmed = palisade_proto::Duration(disarmed / 1000);
        self.request(on, Request::Arm { disarmed, reason: "drawn".to_owned(), by: "root".to_owned() });
    }

    pub(super) fn request(&mut self, on: usize, request: Request) {
        if self.machines[on].frozen {
            return;
        }
        if let Request::Fence { host, .. } = &request {
            self.truth.operator_ordered(host.index());
        }
        let mut said = None;
        self.with_engine(on, |engine, now| said = Some(engine.handle_request(request.clone(), now)));
        self.trace(|| format!("{}: operator asks {request:?}: {said:?}", NAMES[on]));
    }

    /// At the end somebody lets run what was stopped or failed, switches on what a fence left off, and confirms the host that
    /// stays dead, wherever nobody can know it by proof.
    pub(super) fn operator_walks_round(&mut self, healed: Micros) {
        let passed = (self.now - healed) / 1000;
        if passed < 5_000 || passed % 5000 >= 250 {
            return;
        }
        for workload in 0..self.cluster.workloads().len() {
            let id = self.cluster.workloads()[workload].id();
            let stopped = |machine: &super::machine::Machine| {
                machine.run_dir.as_ref().is_some_and(|saved| saved.stopped.contains(&id))
            };
            if let Some(on) = self.machines.iter().position(stopped) {
                self.operator_desires(on, workload, true);
            }
        }
        for host in 0..if self.setup.probes { self.machines.len() } else { 0 } {
            for on in 0..self.machines.len() {
                if self.machines[on]
                    .run_dir
                    .as_ref()
                    .is_some_and(|saved| saved.wished.drained >> host & 1 == 1)
                {
                    self.operator_drains(on, host, false);
                }
            }
        }
        self.end_maintenances();
        if passed < 20_000 {
            return;
        }
        // What went wrong with it has been repaired; the host would try again only after its memory of failures.
        for on in 0..self.machines.len() {
            for workload in std::mem::take(&mut self.machines[on].failed_to_start) {
                self.operator_desires(on, usize::from(workload.0), true);
            }
        }
        (0..self.machines.len()).for_each(|host| self.give_power(host, ms(1000)));
        for host in (0..self.machines.len()).filter(|_| self.setup.quarantine_after > 0).collect::<Vec<_>>() {
            (0..self.machines.len()).for_each(|on| self.operator_unfences(on, host));
        }
        for victim in 0..self.machines.len() {
            if self.machines[victim].broken {
                for on in (0..self.machines.len()).filter(|on| *on != victim) {
                    self.operator_confirms(on, victim);
                }
            }
        }
    }

    pub(super) fn mend(&mut self, host: usize) {
        let says_already = self.machines[host].bmc.says_already;
        self.machines[host].bmc = super::machine::Bmc { mode: BmcMode::Fine(ms(10)), says_already };
        self.machines[host].path.mode = BmcMode::Fine(ms(10));
        // What has not struck yet strikes no more: the quiet end is quiet.
        self.machines[host].dies_after = None;
        self.machines[host].freezes_at_feed = None;
        self.machines[host].freezes_at_intent = None;
        self.machines[host].starts_fail = false;
        self.machines[host].fails = Default::default();
        if self.machines[host].journal_fails {
            self.set_journal(host, false);
        }
        if !self.machines[host].power {
            self.give_power(host, ms(200));
        } else if self.machines[host].up && !self.machines[host].agent_wanted {
            self.machines[host].agent_wanted = true;
            let boot = self.machines[host].boot;
            self.queue.push(self.now + ms(100), Event::StartAgent { host, boot });
        }
    }

    /// What is not as it should be at the quiet end (I4); `None`: all is well.
    pub(super) fn what_lacks(&self) -> Option<String> {
        let mut all = Vec::new();
        for (host, machine) in self.machines.iter().enumerate().filter(|(_, machine)| !machine.broken) {
            let Some(process) = &machine.process else {
                return Some(format!("no agent runs on {}", NAMES[host]));
            };
            if machine.frozen {
                return Some(format!("{} stands still", NAMES[host]));
            }
            if !process.engine.admitted() {
                return Some(format!("{} is not admitted", NAMES[host]));
            }
            all.push(process.engine.me());
        }
        for (host, machine) in self.machines.iter().enumerate() {
            let Some(process) = &machine.process else { continue };
            let now: Time = machine.clock.time(self.now);
            if !process.engine.is_quorate(now) {
                return Some(format!("{} is not quorate", NAMES[host]));
            }
            if !process.engine.view().iter().eq(&all) || !process.engine.counted().iter().eq(&all) {
                let (view, counted) =
                    (process.engine.view().iter().copied(), process.engine.counted().iter().copied());
                return Some(format!(
                    "{} stands with {} and counts {}",
                    NAMES[host],
                    names(view),
                    names(counted)
                ));
            }
        }
        for workload in self.cluster.workloads() {
            let id = workload.id();
            let running = |machine: &&super::machine::Machine| {
                machine.runs.get(&id).is_some_and(|run| run.phase == Phase::Running)
            };
            if self.machines.iter().filter(running).count() != 1 {
                return Some(format!("{} runs nowhere", workload.name()));
            }
        }
        None
    }
}
