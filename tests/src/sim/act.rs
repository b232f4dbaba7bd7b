//! Carrying out what an engine wants, as the daemon does: in order, one by one; a crash may come between any two.

use palisade_core::Engine;
use palisade_core::action::{Act, Action, DeviceOrder, WorkloadReport};
use palisade_core::record::Event as Record;
use palisade_ladder::{Command, Effect, Failure, Identity, ProofKind, Reading, Response};
use palisade_proto::{Incarnation, Time, WorkloadId};

use super::event::{Event, Given};
use super::faults::BmcMode;
use super::machine::{Dog, Intent, Phase, Run};
use super::world::World;
use super::{Micros, NAMES, ms};

/// What a healthy workload takes to start.
const START_TAKES: Micros = ms(20);

impl World {
    /// One input for the agent of a host, if it runs, and everything that follows from it.
    pub(super) fn with_engine(&mut self, host: usize, input: impl FnOnce(&mut Engine, Time)) {
        let machine = &mut self.machines[host];
        let now = machine.clock.time(self.now);
        let Some(process) = &mut machine.process else { return };
        input(&mut process.engine, now);
        self.drain(host);
    }

    pub(super) fn drain(&mut self, host: usize) {
        while let Some(process) = &mut self.machines[host].process {
            let Some(action) = process.engine.poll_action() else { break };
            if let Some((left, down)) = self.machines[host].dies_after {
                if left == 0 {
                    self.trace(|| format!("{}: agent dies", NAMES[host]));
                    return self.kill_agent(host, Some(down));
                }
                self.machines[host].dies_after = Some((left - 1, down));
            }
            self.act(host, action);
            if self.report.failure.is_some() {
                return;
            }
        }
        if self.goes_through_snapshots()
            && let Some(process) = &mut self.machines[host].process
        {
            let bytes = postcard::to_stdvec(&process.engine).expect("an engine is plain data");
            let back: Engine = postcard::from_bytes(&bytes).expect("what was written is read");
            process.engine = back.configured(std::sync::Arc::clone(&self.cluster));
        }
        self.observe(host);
    }

    fn act(&mut self, host: usize, action: Action) {
        match action {
            Action::Save(saved) => self.machines[host].run_dir = Some(*saved),
            Action::Send(heartbeat) => {
                self.check_first_word(host);
                self.send(host, &heartbeat);
            }
            Action::Ask(ask) => self.send_ask(host, *ask),
            Action::Record { ticket, event } => {
                self.trace(|| format!("{}: {event}", NAMES[host]));
                self.check_common_cause(host, &event);
                if matches!(*event, Record::Wished { .. }) {
                    self.machines[host].journal_wished = Some(Record::clone(&event));
                }
                if let Record::Dead { victim, proof, evidence } = &*event {
                    self.note_death(host, &victim.life, proof, evidence);
                }
                if let Record::Isolated { victim, evidence, .. } = &*event {
                    self.check_isolation(host, victim, evidence);
                }
                if matches!(*event, Record::Admitted { .. }) {
                    self.machines[host].journal_says_admitted = true;
                    // One more firewall that has to keep out whoever is cut.
                    (0..self.machines.len()).for_each(|other| self.check_opened(other));
                }
                if let (Some(ticket), Some(process)) = (ticket, &mut self.machines[host].process) {
                    let intent = match &*event {
                        Record::OrderIntended { victim, command, .. } => {
                            Some(Intent::Order(*command, victim.host.clone()))
                        }
                        Record::StartIntended { workload, .. } => Some(Intent::Start(workload.id)),
                        _ => None,
                    };
                    let fences = matches!(intent, Some(Intent::Order(..)));
                    process.intents.extend(intent.map(|intent| (ticket, intent)));
                    let event = Event::Durable { host, process: process.id, ticket };
                    if fences && let Some(length) = self.machines[host].freezes_at_intent.take() {
                        self.freeze(host, length);
                    }
                    let slow = if !self.is_measuring() && self.rng.chance(20) { ms(400) } else { 1500 };
                    let after = self.rng.range(200, slow);
                    self.queue.push(self.now + after, event);
                }
            }
            Action::Device(order) => self.order(host, order),
            // What is on its way to a BMC cannot be called back; its answer is ignored.
            Action::CancelDevice(_) => {}
            Action::Workload { id, act } => self.workload(host, id, act),
            Action::ArmWatchdog => {
                let timeout = ms(self.setup.watchdog.unwrap_or(60) * 1000);
                let machine = &mut self.machines[host];
                machine.dog.get_or_insert(Dog { timeout, fed: 0 });
                self.feed_dog(host);
                let now = self.machines[host].clock.time(self.now);
                if let Some(process) = &mut self.machines[host].process {
                    process.engine.handle_watchdog(Ok(()), now);
                }
            }
            Action::FeedWatchdog => match self.machines[host].freezes_at_feed.take() {
                Some(length) => {
                    self.freeze(host, length);
                    self.machines[host].feeds_at_thaw = self.machines[host].frozen;
                }
                None => self.feed_dog(host),
            },
            Action::DisarmWatchdog => self.machines[host].dog = None,
            // Now and then the kernel does not do it: then this life ends as well as it can.
            Action::Reboot { .. } => {
                if !self.rng.chance(200) {
                    self.trace(|| format!("{}: reboots itself", NAMES[host]));
                    self.reset(host);
                }
            }
            Action::Exit(kind) => self.exited(host, kind),
        }
    }

    pub(super) fn feed_dog(&mut self, host: usize) {
        let (now, boot) = (self.now, self.machines[host].boot);
        self.next_step += 1;
        let Some(dog) = &mut self.machines[host].dog else { return };
        dog.fed = self.next_step;
        let (at, fed) = (now + dog.timeout, dog.fed);
        self.queue.push(at, Event::DogBites { host, boot, fed });
    }

    /// Who knows of whom that a fence cut its power: its prover, and whoever took the proof from somebody who knew.
    fn note_death(&mut self, host: usize, life: &str, proof: &str, evidence: &str) {
        let knows = if proof == ProofKind::PowerOff.to_string() {
            !evidence.contains("was off before")
        } else if proof == ProofKind::Gossiped.to_string() {
            let from = NAMES.iter().position(|name| evidence == format!("{name} holds the proof"));
            from.is_some_and(|from| self.machines[from].knows_fenced.contains(life))
        } else {
            false
        };
        if knows {
            self.machines[host].knows_fenced.insert(life.to_owned());
        }
    }

    // Workloads.

    fn workload(&mut self, host: usize, id: WorkloadId, act: Act) {
        self.next_step += 1;
        let (step, boot) = (self.next_step, self.machines[host].boot);
        self.trace(|| format!("{}: {act:?} of w{id}", NAMES[host]));
        let (phase, takes) = match act {
            Act::Start => {
                self.check_start(host, id);
                let slow = !self.is_measuring() && self.rng.chance(50);
                (Phase::Starting, if slow { ms(self.rng.scale(20, 3000)) } else { START_TAKES })
            }
            Act::Stop => (Phase::Stopping, ms(self.rng.scale(5, 2000))),
            Act::Kill => (Phase::Stopping, ms(self.rng.scale(1, 50))),
        };
        let runs = self.machines[host].runs.get(&id).copied();
        if act == Act::Start || runs.is_some() {
            let stray = act != Act::Start && runs.is_some_and(|run| run.stray);
            self.machines[host].runs.insert(id, Run { phase, step, stray });
        }
        let fails = act == Act::Start && self.machines[host].starts_fail;
        self.queue.push(self.now + takes, Event::WorkloadDone { host, boot, id, step, fails });
    }

    pub(super) fn workload_done(&mut self, host: usize, boot: u64, id: WorkloadId, step: u64, fails: bool) {
        let machine = &mut self.machines[host];
        if machine.boot != boot {
            return;
        }
        let report = match machine.runs.get_mut(&id) {
            Some(run) if run.step != step => return,
            Some(run) => match run.phase {
                Phase::Starting if !fails => {
                    run.phase = Phase::Running;
                    WorkloadReport::Started
                }
                Phase::Starting => {
                    machine.runs.remove(&id);
                    machine.failed_to_start.insert(id);
                    WorkloadReport::StartFailed("drawn".to_owned())
                }
                Phase::Running => return,
                Phase::Stopping => {
                    machine.runs.remove(&id);
                    WorkloadReport::Stopped
                }
            },
            None => WorkloadReport::Stopped,
        };
        self.trace(|| format!("{}: w{id}: {report:?}", NAMES[host]));
        if report == WorkloadReport::Started {
            self.note_recovery(id);
        }
        self.with_engine(host, |engine, now| engine.handle_workload(id, report, now));
    }

    // BMCs.

    /// The life of `victim` that `by` counts, and thus fences.
    fn counted_life(&self, by: usize, victim: usize) -> Option<Incarnation> {
        let engine = &self.machines[by].process.as_ref()?.engine;
        let dead: Vec<Incarnation> = engine.dead().collect();
        let mut counted = engine.counted().iter().filter(|who| who.host.index() == victim);
        counted.find(|who| !dead.contains(who)).copied()
    }

    fn order(&mut self, by: usize, order: DeviceOrder) {
        let Some(process) = self.machines[by].process.as_ref().map(|process| process.id) else { return };
        self.check_order(by, &order);
        self.check_maintenance(by, &order);
        let deadline = self.machines[by].clock.when(order.deadline).max(self.now);
        let victim = order.host.index();
        // Whoever read off just before has spent nothing, also if the power came back in between.
        let machine = &self.machines[victim];
        let on_for_long = machine.power && self.now >= machine.power_since + ms(self.setup.deadline);
        let given = Given {
            at: self.now,
            by_boot: self.machines[by].boot,
            victim_boot: on_for_long.then_some(self.machines[victim].boot),
            victim: self.counted_life(by, victim).or(self.machines[victim].me),
        };
        let mode = match self.is_path(&order) {
            false => self.machines[victim].bmc.mode,
            true if self.is_wall(&order) => self.wall_mode(by),
            true => self.path_mode(victim, order.command),
        };
        self.trace(|| format!("{}: orders {:?} of {} ({mode:?})", NAMES[by], order.command, NAMES[victim]));
        let soon = ms(10);
        let switches = matches!(order.command, Command::Off | Command::On);
        // (acts after, says after, says without acting)
        let (acts, says, instead) = match mode {
            BmcMode::Fine(takes) => (Some(takes / 2), Some(takes), None),
            BmcMode::Dead => (None, None, None),
            BmcMode::Deaf(takes) => (Some(takes), None, None),
            BmcMode::Lying if switches => (None, Some(soon), Some(Ok(Response::Acknowledged))),
            BmcMode::Twice(_) => (Some(soon / 2), Some(soon), None),
            BmcMode::Late(takes) if switches => (Some(takes), Some(soon), Some(Ok(Response::Acknowledged))),
            BmcMode::Lying | BmcMode::Late(_) => (Some(soon / 2), Some(soon), None),
            BmcMode::Refusing => (None, Some(soon), Some(Err(Failure::Refused { code: "0xc0".to_owned() }))),
            BmcMode::Vague if !switches && self.rng.chance(500) => {
                (None, Some(soon), Some(Ok(Response::Reads(Reading::Unknown))))
            }
            BmcMode::Vague => (Some(soon / 2), Some(soon), None),
            BmcMode::Stranger => {
                let names = ["a1", "b2"].map(|name| Identity(name.to_owned()));
                let [expected, found] = names;
                (None, Some(soon), Some(Err(Failure::WrongIdentity { expected, found })))
            }
        };
        let says_at = says.map(|says| self.now + says).filter(|at| *at < deadline);
        if let Some(acts) = acts {
            let say_at = says_at.filter(|_| instead.is_none()).unwrap_or(Micros::MAX);
            self.queue.push(self.now + acts, Event::BmcActs { by, process, order, given, say_at });
        }
        if let BmcMode::Twice(later) = mode
            && switches
        {
            let again = Event::BmcActs { by, process, order, given, say_at: Micros::MAX };
            self.queue.push(self.now + later, again);
        }
        let answer = match (says_at, instead) {
            (Some(at), Some(answer)) => Some((at, answer)),
            (Some(_), None) => None,
            (None, _) => Some((deadline, Err(Failure::NoAnswer { waited_ms: (deadline - self.now) / 1000 }))),
        };
        if let Some((at, answer)) = answer {
            self.queue.push(at, Event::BmcSays { to: by, process, order: order.id, answer });
        }
    }

    /// Whether an order is for the device that cuts a host's network.
    pub(super) fn is_path(&self, order: &DeviceOrder) -> bool {
        let device = self.cluster.devices().get(usize::from(order.device.0));
        device.is_some_and(|device| device.effect() == Effect::Network)
    }

    /// Whether it is about the firewall of the very host that sends it.
    pub(super) fn is_wall(&self, order: &DeviceOrder) -> bool {
        self.setup.walls && self.is_path(order)
    }

    /// What a host does on itself ends with its deadline, done or not.
    fn wall_mode(&self, by: usize) -> BmcMode {
        let most = ms(self.setup.deadline) * 9 / 10;
        match self.machines[by].path.mode {
            BmcMode::Fine(takes) => BmcMode::Fine(takes.min(most)),
            BmcMode::Deaf(takes) | BmcMode::Late(takes) | BmcMode::Twice(takes) => {
                BmcMode::Deaf(takes.min(most))
            }
            mode => mode,
        }
    }

    /// What the firewall of `by` does about `victim`.
    fn wall_acts(&mut self, by: usize, victim: usize, command: Command) -> Response {
        match command {
            Command::Off => {
                self.trace(|| format!("{}: keeps {} out", NAMES[by], NAMES[victim]));
                match self.machines[by].walls.insert(victim) {
                    true => Response::Acknowledged,
                    false => Response::AlreadySo,
                }
            }
            Command::On => {
                self.trace(|| format!("{}: lets {} through", NAMES[by], NAMES[victim]));
                self.machines[by].walls.remove(&victim);
                self.check_opened(victim);
                Response::Acknowledged
            }
            Command::Read | Command::Prove => match self.machines[by].walls.contains(&victim) {
                true => Response::Reads(Reading::Off),
                false => Response::Reads(Reading::On),
            },
        }
    }

    /// A device opens within its deadline or never: whoever sends an opening awaits its end before a host is taken in, and whoever
    /// coordinates after them as long (PROTOCOL, "Isolation"). A cut may come as late as it likes.
    fn path_mode(&self, host: usize, command: Command) -> BmcMode {
        let most = ms(self.setup.deadline) * 9 / 10;
        match self.machines[host].path.mode {
            BmcMode::Deaf(takes) | BmcMode::Late(takes) | BmcMode::Twice(takes) if command == Command::On => {
                BmcMode::Deaf(takes.min(most))
            }
            BmcMode::Fine(takes) if command == Command::On => BmcMode::Fine(takes.min(most)),
            mode => mode,
        }
    }

    /// What the device that cuts a host's network does.
    fn path_acts(&mut self, host: usize, command: Command) -> Response {
        let open = self.machines[host].path_open;
        match command {
            Command::Off => {
                self.trace(|| format!("{}: network is cut", NAMES[host]));
                self.machines[host].path_open = false;
                if open { Response::Acknowledged } else { Response::AlreadySo }
            }
            Command::On => {
                self.trace(|| format!("{}: network is open", NAMES[host]));
                self.machines[host].path_open = true;
                self.check_opened(host);
                Response::Acknowledged
            }
            Command::Read | Command::Prove => Response::Reads(if open { Reading::On } else { Reading::Off }),
        }
    }

    pub(super) fn bmc_acts(
        &mut self,
        by: usize,
        process: u64,
        order: &DeviceOrder,
        given: Given,
        say_at: Micros,
    ) {
        let host = order.host.index();
        // Its own firewall is gone with the boot that was told.
        if self.is_wall(order) && self.machines[by].boot != given.by_boot {
            return;
        }
        let power = self.machines[host].power;
        let already = self.machines[host].bmc.says_already;
        let answer = match order.command {
            command if self.is_wall(order) => self.wall_acts(by, host, command),
            command if self.is_path(order) => self.path_acts(host, command),
            Command::Off | Command::On if already && power == (order.command == Command::On) => {
                Response::AlreadySo
            }
            Command::Off => {
                if power {
                    self.trace(|| format!("{}: power is cut", NAMES[host]));
                    self.report.cuts += 1;
                    self.check_cut(host, by, given);
                    self.lose_power(host, None);
                }
                Response::Acknowledged
            }
            Command::On => {
                let boots_after = ms(self.rng.scale(50, 20_000));
                self.give_power(host, boots_after);
                Response::Acknowledged
            }
            Command::Read | Command::Prove => Response::Reads(if power { Reading::On } else { Reading::Off }),
        };
        if say_at != Micros::MAX {
            self.queue.push(say_at, Event::BmcSays { to: by, process, order: order.id, answer: Ok(answer) });
        }
    }
}
