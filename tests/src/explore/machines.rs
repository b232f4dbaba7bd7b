//! What machines do: power, boots, agents that start and end, and carrying out what an engine wants.

use std::sync::Arc;

use palisade_core::Engine;
use palisade_core::action::{Act, Action, DeviceOrder, ExitKind, OrderId, Seen, WorkloadReport};
use palisade_core::record::Event as Record;
use palisade_core::standing::{Awakening, Birth, SavedState, awaken};
use palisade_ladder::{Command, Failure, Reading, Response};
use palisade_proto::{HostId, Time, WorkloadId};

use super::world::{Input, Later, STEP_MS, World, name};
use crate::sim::NAMES;

/// From power to a running agent, in steps.
const BOOT_TAKES: u64 = 1;
/// From the end of an agent to its next start.
const AGENT_TAKES: u64 = 1;

impl World {
    pub(super) fn with_engine(&mut self, host: usize, input: impl FnOnce(&mut Engine, Time)) {
        let now = self.body.now;
        let Some(engine) = &mut self.engines[host] else { return };
        input(engine, now);
        self.drain(host);
    }

    fn drain(&mut self, host: usize) {
        while let Some(action) = self.engines[host].as_mut().and_then(Engine::poll_action) {
            self.act(host, action);
        }
        self.check_exclusion(host);
    }

    fn act(&mut self, host: usize, action: Action) {
        match action {
            Action::Save(saved) => self.body.machines[host].run_dir = Some(*saved),
            Action::Send(heartbeat) => self.send(host, &heartbeat),
            Action::Ask(ask) => self.send_ask(host, *ask),
            Action::Record { ticket, event } => {
                self.tell(|| format!("{}: {event}", NAMES[host]));
                if matches!(*event, Record::Admitted { .. }) {
                    self.body.machines[host].journal_says_admitted = true;
                }
                if let Some(ticket) = ticket {
                    self.queue.push_back(Input::Durable { to: host, ticket });
                }
            }
            Action::Device(order) => self.order(host, &order),
            Action::Workload { id, act } => self.workload(host, id, act),
            // No watchdog is configured, and what is on its way to a BMC cannot be called back.
            Action::CancelDevice(_) | Action::ArmWatchdog | Action::FeedWatchdog | Action::DisarmWatchdog => {
            }
            // No probe fails here.
            Action::Reboot { .. } => {}
            Action::Exit(kind) => self.exited(host, kind),
        }
    }

    fn workload(&mut self, host: usize, id: WorkloadId, act: Act) {
        self.tell(|| format!("{}: {act:?} of w{id}", NAMES[host]));
        let report = match act {
            Act::Start => {
                self.check_start(host, id);
                self.body.machines[host].runs.insert(id);
                WorkloadReport::Started
            }
            Act::Stop | Act::Kill => {
                self.body.machines[host].runs.remove(&id);
                WorkloadReport::Stopped
            }
        };
        self.queue.push_back(Input::Done { to: host, id, report });
    }

    // Power.

    pub(super) fn lose_power(&mut self, host: usize) {
        let machine = &mut self.body.machines[host];
        let kept = super::world::Machine {
            boots: machine.boots,
            processes: machine.processes,
            ..Default::default()
        };
        *machine = super::world::Machine {
            late_off: machine.late_off,
            late_answer: machine.late_answer,
            no_bmc: machine.no_bmc,
            ..kept
        };
        self.engines[host] = None;
        self.forget_inputs_of(host);
        let of_machine = |later: &Later| {
            matches!(later, Later::StartAgent(of) | Later::Thaw(of) | Later::Boot(of) if *of == host)
                || matches!(later, Later::Input(Input::Packet { to, .. } | Input::Answer { to, .. }) if *to == host)
        };
        // What was on its way to it may still arrive at its next boot: only what the machine itself was to do is gone.
        self.body.agenda.retain(|(_, later)| !of_machine(later) || matches!(later, Later::Input(_)));
    }

    pub(super) fn give_power(&mut self, host: usize) {
        if !self.body.machines[host].power {
            self.body.machines[host].power = true;
            self.after_steps(BOOT_TAKES, Later::Boot(host));
        }
    }

    pub(super) fn boot(&mut self, host: usize) {
        let machine = &mut self.body.machines[host];
        if machine.power && !machine.up {
            machine.up = true;
            machine.boots += 1;
            self.tell(|| format!("{}: boots", NAMES[host]));
            self.start_agent(host);
        }
    }

    // Agents.

    pub(super) fn start_agent(&mut self, host: usize) {
        let now = self.body.now;
        let machine = &mut self.body.machines[host];
        if !machine.up || self.engines[host].is_some() {
            return;
        }
        let id = HostId::new(host as u8).expect("few hosts");
        machine.processes += 1;
        let mut boot_id = [host as u8 + 1; 16];
        boot_id[8..].copy_from_slice(&machine.boots.to_be_bytes());
        let birth = Birth {
            host: id,
            boot_id,
            machine: self.cluster.host(id).expect("configured").machine().bytes(),
            first_seq: super::fingerprint::first_seq(host, machine.processes),
            saved: machine
                .run_dir
                .clone()
                .map_or(SavedState::Absent, |saved| SavedState::Found(Box::new(saved))),
            journal_says_admitted: machine.journal_says_admitted,
        };
        match awaken(&birth) {
            Awakening::Live { me, saved, resumed } => {
                machine.me = Some(me);
                self.tell(|| format!("{}: agent starts as {}", NAMES[host], name(me)));
                self.engines[host] =
                    Some(Engine::new(Arc::clone(&self.cluster), &birth, me, *saved, resumed, now));
                self.drain(host);
                self.look(host);
            }
            Awakening::MustReboot { .. } => {
                self.lose_power(host);
                self.give_power(host);
            }
        }
    }

    fn look(&mut self, host: usize) {
        let ids: Vec<WorkloadId> = self.cluster.workloads().iter().map(|workload| workload.id()).collect();
        for id in ids {
            let runs = self.body.machines[host].runs.contains(&id);
            let seen = if runs { Seen::Running } else { Seen::Stopped };
            self.with_engine(host, |engine, now| engine.handle_workload(id, WorkloadReport::Seen(seen), now));
        }
    }

    pub(super) fn kill_agent(&mut self, host: usize, back: Option<u64>) {
        self.engines[host] = None;
        self.forget_inputs_of(host);
        if let Some(back) = back {
            self.after_steps(back, Later::StartAgent(host));
        }
    }

    fn exited(&mut self, host: usize, kind: ExitKind) {
        self.tell(|| format!("{}: agent exits ({kind:?})", NAMES[host]));
        let back = self.body.machines[host].back_after.take();
        let back = match kind {
            ExitKind::Left => back,
            ExitKind::Restart | ExitKind::Reborn => Some(back.unwrap_or(AGENT_TAKES)),
        };
        self.kill_agent(host, back);
    }

    pub(super) fn thaw(&mut self, host: usize) {
        let machine = &mut self.body.machines[host];
        machine.frozen = false;
        self.queue.extend(std::mem::take(&mut machine.deferred));
    }

    // BMCs.

    fn order(&mut self, by: usize, order: &DeviceOrder) {
        let (host, command) = (order.host.index(), order.command);
        self.tell(|| format!("{}: orders {command:?} of {}", NAMES[by], NAMES[host]));
        self.check_order(by, order);
        let machine = &mut self.body.machines[host];
        if machine.no_bmc {
            let waited_ms = order.deadline.since(self.body.now).0;
            let answer = Err(Failure::NoAnswer { waited_ms });
            let none = Later::Input(Input::BmcSays { to: by, order: order.id, answer });
            return self.after_steps(waited_ms.div_ceil(STEP_MS), none);
        }
        if command == Command::Off
            && let Some(late) = machine.late_off.take()
        {
            self.after_steps(late, Later::BmcActs { by, order: order.id, host, command });
            // A slow device acknowledges at once.
            return self.queue.push_back(Input::BmcSays {
                to: by,
                order: order.id,
                answer: Ok(Response::Acknowledged),
            });
        }
        self.bmc_acts(by, order.id, host, command, true);
    }

    /// A BMC carries a command out: the moment of truth.
    pub(super) fn bmc_acts(
        &mut self,
        by: usize,
        order: OrderId,
        host: usize,
        command: Command,
        answers: bool,
    ) {
        let power = self.body.machines[host].power;
        let answer = match command {
            Command::Off => {
                if power {
                    self.tell(|| format!("{}: power is cut", NAMES[host]));
                    self.body.cut[host] = true;
                    self.lose_power(host);
                }
                Response::Acknowledged
            }
            Command::On => {
                self.give_power(host);
                Response::Acknowledged
            }
            Command::Read | Command::Prove => Response::Reads(if power { Reading::On } else { Reading::Off }),
        };
        if !answers {
            return;
        }
        let says = Input::BmcSays { to: by, order, answer: Ok(answer) };
        match self.body.machines[host].late_answer.take().filter(|_| self.engines[by].is_some()) {
            Some(late) => self.after_steps(late, Later::Input(says)),
            None => self.queue.push_back(says),
        }
    }
}
