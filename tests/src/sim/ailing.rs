//! Probes of hosts that fail: the real board of each agent, fed with samples of what is really so; and what no host may do for a
//! cause that it shares with half of them.

use palisade_core::config::ProbeKind;
use palisade_core::engine::Engine;
use palisade_core::health::{Board, Capacity, Sample};
use palisade_core::record::Event as Record;
use palisade_proto::HostId;

use super::event::Event;
use super::faults::{Fault, Timeline};
use super::world::World;
use super::{Micros, NAMES, Rng, Setup, ms};

/// Probes that can fail: `p0` drains, `p1` fences.
pub(super) const PROBES: usize = 2;
/// How often each is looked at.
pub(super) const EVERY: u64 = 400;

/// Probes as the configuration has them.
pub(super) fn text() -> String {
    let probe = |(at, policy): (usize, &str)| {
        format!(
            "[[probe]]\nname = \"p{at}\"\nkind = \"tcp\"\naddress = \"10.0.2.{}:1\"\nevery = \"{EVERY}ms\"\n\
             timeout = \"{EVERY}ms\"\non_failure = \"{policy}\"\n",
            at + 1
        )
    };
    [(0, "drain"), (1, "fence")].map(probe).concat()
}

/// What fails on one host, on some, or on all of them at once, and is mended; agents that start anew beside it, and operators who
/// drain hosts and disarm the cluster.
pub(super) fn ailing(rng: &mut Rng, setup: &Setup, begin: Micros, length: Micros, line: &mut Timeline) {
    let mut at = begin;
    while at < begin + length {
        let (probe, stays) = (rng.index(PROBES), ms(rng.scale(EVERY, EVERY * 20)));
        let share = rng.pick(&[0, 0, 500, 1000]);
        let one = rng.index(setup.hosts);
        for host in (0..setup.hosts).filter(|host| *host == one || rng.chance(share)).collect::<Vec<_>>() {
            line.push((at, Fault::Ail { host, probe, fails: true }));
            line.push((at + stays, Fault::Ail { host, probe, fails: false }));
        }
        if rng.chance(300) {
            let (host, down) = (rng.index(setup.hosts), ms(rng.scale(5, setup.lease / 4)));
            let restart = at + rng.below(stays);
            line.push((restart, Fault::AgentRestart { host, down }));
        }
        if rng.chance(150) {
            let (on, host) = (rng.index(setup.hosts), rng.index(setup.hosts));
            line.push((at, Fault::OperatorDrains { on, host, drain: true }));
            line.push((at + stays, Fault::OperatorDrains { on, host, drain: false }));
        }
        if rng.chance(150) {
            let (on, length) = (rng.index(setup.hosts), ms(rng.scale(50, setup.lease * 8)));
            line.push((at + rng.below(stays), Fault::OperatorDisarms { on, length }));
        }
        at += stays + ms(rng.scale(EVERY, EVERY * 30));
    }
}

impl World {
    pub(super) fn board(&self, host: usize) -> Option<Board> {
        let id = HostId::new(host as u8).expect("few hosts");
        self.setup.probes.then(|| Board::default().arranged(&self.cluster, id))
    }

    /// The shell looks at everything once, and again later.
    pub(super) fn sample(&mut self, host: usize, process: u64) {
        if !self.is_process(host, process) {
            return;
        }
        let (fails, now) = (self.machines[host].fails, self.machines[host].clock.time(self.now));
        let Some(running) = &mut self.machines[host].process else { return };
        let Some(board) = &mut running.board else { return };
        let probes: Vec<_> = board.probes().map(|probe| (probe.id(), probe.clone())).collect();
        let mut changed = false;
        for (id, probe) in probes {
            let failing = (0..PROBES).any(|at| fails[at].is_some() && probe.name() == format!("p{at}"));
            let sample = match probe.kind() {
                _ if failing => Sample::Refused("drawn".to_owned()),
                ProbeKind::Capacity(_) => Sample::Capacity(Capacity::default()),
                ProbeKind::Clock { .. } => Sample::Clock { synchronised: true, error_us: 0 },
                _ => Sample::Answered { took_us: 1 },
            };
            changed |= board.take(id, &sample, now);
        }
        // The first is told in any case: until then nobody may rely on this host.
        if changed || !std::mem::replace(&mut running.sampled, true) {
            let ills = board.ills();
            self.with_engine(host, |engine: &mut Engine, now| engine.handle_ills(ills, now));
        }
        self.queue.push(self.now + ms(EVERY), Event::Sample { host, process });
    }

    pub(super) fn set_ail(&mut self, host: usize, probe: usize, fails: bool) {
        let since = &mut self.machines[host].fails[probe];
        *since = fails.then(|| since.unwrap_or(self.now));
    }

    /// SAFE-8: "never a host because half or more of the hosts fail the same probe".
    pub(super) fn check_common_cause(&mut self, host: usize, event: &Record) {
        let why = match event {
            Record::Reboots { why } => why,
            Record::Workload { detail, .. } if detail.contains("gives it away") => detail,
            _ => return,
        };
        let Some(probe) = (0..PROBES).find(|at| why.contains(&format!("p{at} has failed"))) else { return };
        // Whoever runs an agent is heard, or soon is: also one that is not taken in yet.
        let looks: Vec<usize> =
            (0..self.machines.len()).filter(|at| self.machines[*at].process.is_some()).collect();
        // Told and heard by now, or not heard at all.
        let told = self.now.saturating_sub(ms(EVERY + self.setup.suspect + self.setup.heartbeat));
        let fails =
            |at: usize| at == host || self.machines[at].fails[probe].is_some_and(|since| since < told);
        let failing = looks.iter().filter(|at| fails(**at)).count();
        if self.expects_no_common_cause && failing >= 2 && failing * 2 >= looks.len() {
            self.fail(format!(
                "SAFE-8: {} acts on p{probe}, which fails on {failing} of {} hosts: {why}",
                NAMES[host],
                looks.len()
            ));
        }
    }
}
