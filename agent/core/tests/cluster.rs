//! Engines on a perfect network: what an operator would see, without a fault but the one each test makes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at the variants it is about")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use palisade_core::Engine;
use palisade_core::action::{Act, Action, ExitKind, Seen, WorkloadReport};
use palisade_core::config::Cluster;
use palisade_core::record::Event;
use palisade_core::standing::{Awakening, Birth, Saved, SavedState, awaken};
use palisade_ladder::{Command, Reading, Response};
use palisade_proto::{Heartbeat, HostId, Time, WorkloadId};

/// One way of a packet, in ms.
const DELAY: u64 = 2;
const BEGIN: u64 = 100_000;

struct Host {
    engine: Engine,
    saved: Saved,
    runs: BTreeSet<WorkloadId>,
}

struct World {
    now: u64,
    cluster: Arc<Cluster>,
    hosts: BTreeMap<u8, Host>,
    powered: BTreeSet<u8>,
    boots: BTreeMap<u8, u8>,
    wire: Vec<(u64, u8, Arc<Heartbeat>)>,
    log: Vec<(u64, u8, Event)>,
    exits: Vec<(u8, ExitKind)>,
}

fn config(hosts: u8, workloads: u8) -> Arc<Cluster> {
    let mut text = String::from("[cluster]\nname = \"t\"\nkeys = [ { id = 1, file = \"/k\" } ]\n");
    let name = |host: u8| char::from(b'a' + host);
    for host in 0..hosts {
        let (name, n) = (name(host), host + 1);
        write!(
            text,
            "[[host]]\nid = {host}\nname = \"{name}\"\nmachine = \"4c4c4544-0051-3510-8052-0000000000{n:02x}\"\n\
             links = [\"10.0.0.{n}:7411\"]\n[[device]]\nname = \"bmc-{name}\"\nkind = \"ipmi\"\nfences = \"{name}\"\n\
             address = \"10.0.1.{n}:623\"\nuser = \"u\"\npassword = {{ file = \"/p\" }}\nguid = \"a123456789abcdefa123456789abcd{n:02x}\"\n"
        )
        .unwrap();
    }
    let names: Vec<String> = (0..hosts).map(|host| format!("\"{}\"", name(host))).collect();
    for id in 0..workloads {
        write!(
            text,
            "[[workload]]\nid = {id}\nname = \"w{id}\"\nhosts = [{}]\n[workload.command]\nstart = [\"/s\"]\nstop = [\"/s\"]\nstatus = [\"/s\"]\n",
            names.join(", ")
        )
        .unwrap();
    }
    Arc::new(Cluster::parse(&text, "test").unwrap_or_else(|error| panic!("{error}")))
}

impl World {
    fn new(hosts: u8, workloads: u8) -> Self {
        let mut world = Self {
            now: BEGIN,
            cluster: config(hosts, workloads),
            hosts: BTreeMap::new(),
            powered: BTreeSet::new(),
            boots: BTreeMap::new(),
            wire: Vec::new(),
            log: Vec::new(),
            exits: Vec::new(),
        };
        (0..hosts).for_each(|host| world.boot(host));
        world
    }

    /// All up, quorate, and each workload running once.
    fn settled(hosts: u8, workloads: u8) -> Self {
        let mut world = Self::new(hosts, workloads);
        world.until(20_000, "all quorate", Self::all_quorate);
        world.until(5_000, "workloads run", Self::each_runs_once);
        world
    }

    fn boot(&mut self, host: u8) {
        *self.boots.entry(host).or_insert(0) += 1;
        self.powered.insert(host);
        self.start(host, SavedState::Absent, BTreeSet::new());
    }

    fn start(&mut self, host: u8, saved: SavedState, runs: BTreeSet<WorkloadId>) {
        let id = HostId::new(host).unwrap();
        let birth = Birth {
            host: id,
            boot_id: [self.boots[&host]; 16],
            machine: self.cluster.host(id).unwrap().machine().bytes(),
            first_seq: self.now * 1000,
            saved,
            journal_says_admitted: false,
        };
        let Awakening::Live { me, saved, resumed } = awaken(&birth) else { panic!("must reboot") };
        let mut engine =
            Engine::new(Arc::clone(&self.cluster), &birth, me, *saved.clone(), resumed, Time(self.now));
        for workload in self.cluster.workloads() {
            let seen = if runs.contains(&workload.id()) { Seen::Running } else { Seen::Stopped };
            engine.handle_workload(workload.id(), WorkloadReport::Seen(seen), Time(self.now));
        }
        self.hosts.insert(host, Host { engine, saved: *saved, runs });
        self.drain(host);
    }

    fn crash(&mut self, host: u8) {
        self.hosts.remove(&host);
        self.powered.remove(&host);
    }

    fn restart_agent(&mut self, host: u8) {
        let old = self.hosts.remove(&host).unwrap();
        self.start(host, SavedState::Found(Box::new(old.saved)), old.runs);
    }

    fn drain(&mut self, host: u8) {
        let now = Time(self.now);
        while let Some(action) = self.hosts.get_mut(&host).and_then(|at| at.engine.poll_action()) {
            let at = self.hosts.get_mut(&host).unwrap();
            match action {
                Action::Save(saved) => at.saved = *saved,
                Action::Send(heartbeat) => {
                    let others = self.boots.keys().filter(|to| **to != host);
                    self.wire.extend(others.map(|to| (self.now + DELAY, *to, Arc::clone(&heartbeat))));
                }
                Action::Record { ticket, event } => {
                    self.log.push((self.now, host, *event));
                    if let Some(ticket) = ticket {
                        at.engine.handle_durable(ticket, now);
                    }
                }
                Action::Device(order) => {
                    let target = order.host.number();
                    let was_on = self.powered.contains(&target);
                    let answer = match order.command {
                        Command::Off => {
                            self.crash(target);
                            if was_on { Response::Acknowledged } else { Response::AlreadySo }
                        }
                        Command::On | Command::Prove => Response::Acknowledged,
                        Command::Read => Response::Reads(if was_on { Reading::On } else { Reading::Off }),
                    };
                    let at = self.hosts.get_mut(&host).unwrap();
                    at.engine.handle_device(order.id, Ok(answer), now);
                    if order.command == Command::On && !was_on && self.boots.contains_key(&target) {
                        self.boot(target);
                    }
                }
                Action::Workload { id, act } => {
                    let report = match act {
                        Act::Start => {
                            at.runs.insert(id);
                            WorkloadReport::Started
                        }
                        Act::Stop | Act::Kill => {
                            at.runs.remove(&id);
                            WorkloadReport::Stopped
                        }
                    };
                    at.engine.handle_workload(id, report, now);
                }
                Action::Exit(kind) => {
                    self.exits.push((host, kind));
                    self.hosts.remove(&host);
                }
                Action::CancelDevice(_)
                | Action::Ask(_)
                | Action::ArmWatchdog
                | Action::FeedWatchdog
                | Action::DisarmWatchdog => {}
                Action::Reboot { why } => panic!("nothing is probed here: {why}"),
            }
        }
    }

    fn step(&mut self) {
        self.now += 1;
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.wire).into_iter().partition(|(at, ..)| *at <= self.now);
        self.wire = later;
        for (_, to, heartbeat) in due {
            if let Some(at) = self.hosts.get_mut(&to) {
                at.engine.handle_heartbeat(heartbeat, Time(self.now));
                self.drain(to);
            }
        }
        for host in self.hosts.keys().copied().collect::<Vec<_>>() {
            if let Some(at) = self.hosts.get_mut(&host)
                && at.engine.wake().0 <= self.now
            {
                at.engine.handle_tick(Time(self.now));
                self.drain(host);
            }
        }
    }

    fn run(&mut self, ms: u64) {
        (0..ms).for_each(|_| self.step());
    }

    fn until(&mut self, limit_ms: u64, what: &str, holds: impl Fn(&Self) -> bool) -> u64 {
        let begin = self.now;
        while !holds(self) {
            assert!(self.now < begin + limit_ms, "{what}: not within {limit_ms} ms\n{}", self.story());
            self.step();
        }
        self.now - begin
    }

    fn all_quorate(&self) -> bool {
        let up = self.hosts.len();
        let now = Time(self.now);
        self.hosts.values().all(|at| {
            at.engine.is_quorate(now) && at.engine.view().len() == up && at.engine.counted().len() == up
        })
    }

    fn each_runs_once(&self) -> bool {
        let runs = |id| self.hosts.values().filter(|at| at.runs.contains(&id)).count();
        self.cluster.workloads().iter().all(|workload| runs(workload.id()) == 1)
    }

    fn story(&self) -> String {
        self.log.iter().fold(String::new(), |mut story, (at, host, event)| {
            let _ = writeln!(story, "{:>8} {} {event}", at - BEGIN, char::from(b'a' + host));
            story
        })
    }

    fn fences(&self) -> usize {
        self.log.iter().filter(|(_, _, event)| matches!(event, Event::FenceDecided { .. })).count()
    }
}

#[test]
fn three_hosts_form_one_electorate_and_start_each_workload_once() {
    let world = World::settled(3, 3);
    assert_eq!(world.fences(), 0, "{}", world.story());
}

#[test]
fn a_silent_death_is_fenced_and_its_workload_returns() {
    for victim in 0..3 {
        let mut world = World::settled(3, 3);
        world.crash(victim);
        let took = world.until(5_000, "workloads run again", World::each_runs_once);
        println!("victim {victim}: {took} ms");
        world.until(60_000, "the victim is back", |world| world.hosts.len() == 3 && world.all_quorate());
        assert_eq!(world.fences(), 1, "{}", world.story());
    }
}

#[test]
fn an_agent_restart_costs_no_fence_and_no_workload() {
    for host in 0..3 {
        let mut world = World::settled(3, 3);
        world.restart_agent(host);
        world.run(20_000);
        assert_eq!(world.fences(), 0, "{}", world.story());
        assert!(world.all_quorate() && world.each_runs_once(), "{}", world.story());
    }
}

#[test]
fn a_planned_leave_moves_the_workloads_without_a_fence() {
    let mut world = World::settled(3, 3);
    let now = Time(world.now);
    world.hosts.get_mut(&0).unwrap().engine.handle_leave("test", now);
    world.drain(0);
    world.until(5_000, "left", |world| world.exits == [(0, ExitKind::Left)]);
    world.until(5_000, "workloads run elsewhere", World::each_runs_once);
    world.run(10_000);
    assert_eq!(world.fences(), 0, "{}", world.story());
    assert!(world.all_quorate(), "{}", world.story());
}

#[test]
fn five_hosts_die_one_after_another_down_to_two() {
    let mut world = World::settled(5, 2);
    for victim in 0..3 {
        world.crash(victim);
        world.boots.remove(&victim);
        world.until(10_000, "workloads run again", World::each_runs_once);
        world.until(10_000, "all quorate", World::all_quorate);
    }
}
