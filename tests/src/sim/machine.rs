//! One machine: its power, its boot, its `/run`, its watchdog, its BMC, the workloads that run on it, and the agent's process.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use palisade_core::action::Ticket;
use palisade_core::engine::Engine;
use palisade_core::health::Board;
use palisade_core::standing::Saved;
use palisade_ladder::Command;
use palisade_proto::{Incarnation, WorkloadId};

use super::ailing::PROBES;
use super::event::Event;
use super::faults::BmcMode;
use super::{Clock, Micros, ms};

/// What a workload does on a machine. Present from the moment its start is ordered until its stop is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Starting,
    Running,
    Stopping,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) phase: Phase,
    /// Which order's end is awaited.
    pub(super) step: u64,
    /// The machine started it by itself: what else runs at the same time is not the agents' doing.
    pub(super) stray: bool,
}

pub(super) struct Process {
    pub(super) id: u64,
    pub(super) engine: Engine,
    /// The tick that is scheduled, in true time.
    pub(super) tick: Micros,
    /// Since when it has not been quorate, as the world sees it.
    pub(super) unquorate_since: Micros,
    /// Intents that it has handed to its journal.
    pub(super) intents: BTreeMap<Ticket, Intent>,
    /// What it makes of its probes, where there are any.
    pub(super) board: Option<Board>,
    /// Whether its engine has heard of them.
    pub(super) sampled: bool,
    /// The intent whose record has just become durable, while the engine hears of it.
    pub(super) durable: Option<Intent>,
}

/// What a journal was told before it is done (SAFE-5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    /// To send this to the device that fences the host of this name.
    Order(Command, String),
    /// To start this.
    Start(WorkloadId),
}

pub(super) struct Dog {
    pub(super) timeout: Micros,
    pub(super) fed: u64,
}

pub(super) struct Bmc {
    pub(super) mode: BmcMode,
    /// Refuses an off (or on) with "already so".
    pub(super) says_already: bool,
}

/// One machine.
pub(super) struct Machine {
    pub(super) power: bool,
    /// Since when.
    pub(super) power_since: Micros,
    /// Its board is beyond repair: it never has power again.
    pub(super) broken: bool,
    /// Counts boots; names the boot id.
    pub(super) boot: u64,
    pub(super) clock: Clock,
    /// The operating system is up.
    pub(super) up: bool,
    pub(super) frozen: bool,
    /// Until when its words come a second time, and how much later.
    pub(super) echo: Option<(Micros, Micros)>,
    /// It freezes for so long when it is about to feed its watchdog.
    pub(super) freezes_at_feed: Option<Micros>,
    /// It freezes for so long while the intent of its next fence is written.
    pub(super) freezes_at_intent: Option<Micros>,
    /// What every boot of it starts, whatever the agent thinks of it.
    pub(super) autostarts: Option<WorkloadId>,
    /// The feed that it was about to do comes when it thaws.
    pub(super) feeds_at_thaw: bool,
    /// What waits for a thaw.
    pub(super) deferred: VecDeque<Event>,
    pub(super) run_dir: Option<Saved>,
    /// The journal's last word on what operators want of hosts; it outlives a boot.
    pub(super) journal_wished: Option<palisade_core::record::Event>,
    pub(super) journal_says_admitted: bool,
    pub(super) journal_fails: bool,
    pub(super) waiting_for_disk: Vec<Ticket>,
    pub(super) starts_fail: bool,
    /// Since when each probe fails: what it looks at does not care about boots.
    pub(super) fails: [Option<Micros>; PROBES],
    /// What failed to start on it.
    pub(super) failed_to_start: BTreeSet<WorkloadId>,
    /// Lives of which its agent can know that a fence cut their power.
    pub(super) knows_fenced: BTreeSet<String>,
    /// Its supervisor starts the agent again when it ends.
    pub(super) agent_wanted: bool,
    pub(super) process: Option<Process>,
    /// How many further actions are carried out before the process dies.
    pub(super) dies_after: Option<(usize, Micros)>,
    /// When the agent comes back from a planned end.
    pub(super) comes_back: Option<Micros>,
    /// The life of the last process of this boot.
    pub(super) me: Option<Incarnation>,
    pub(super) runs: BTreeMap<WorkloadId, Run>,
    pub(super) dog: Option<Dog>,
    pub(super) bmc: Bmc,
    /// The device that cuts its network, where there is one.
    pub(super) path: Bmc,
    pub(super) path_open: bool,
    /// Whom its own firewall keeps out.
    pub(super) walls: BTreeSet<usize>,
}

impl Machine {
    pub(super) fn new(ppm: i64) -> Self {
        Self {
            power: false,
            power_since: 0,
            broken: false,
            boot: 0,
            clock: Clock::new(0, ppm),
            up: false,
            frozen: false,
            echo: None,
            freezes_at_feed: None,
            freezes_at_intent: None,
            autostarts: None,
            feeds_at_thaw: false,
            deferred: VecDeque::new(),
            run_dir: None,
            journal_wished: None,
            journal_says_admitted: false,
            journal_fails: false,
            waiting_for_disk: Vec::new(),
            starts_fail: false,
            fails: [None; PROBES],
            failed_to_start: BTreeSet::new(),
            knows_fenced: BTreeSet::new(),
            agent_wanted: true,
            process: None,
            dies_after: None,
            comes_back: None,
            me: None,
            runs: BTreeMap::new(),
            dog: None,
            bmc: Bmc { mode: BmcMode::Fine(ms(10)), says_already: false },
            path: Bmc { mode: BmcMode::Fine(ms(10)), says_already: false },
            path_open: true,
            walls: BTreeSet::new(),
        }
    }

    /// Everything that a loss of power or a reset takes with it.
    pub(super) fn lose_state(&mut self) {
        self.up = false;
        self.frozen = false;
        self.feeds_at_thaw = false;
        self.deferred.clear();
        self.run_dir = None;
        self.journal_says_admitted = false;
        self.waiting_for_disk.clear();
        self.process = None;
        self.dies_after = None;
        self.comes_back = None;
        self.me = None;
        self.runs.clear();
        self.walls.clear();
        self.dog = None;
        self.agent_wanted = true;
    }

    /// The truth about lives: the incarnation that can still do something, if any.
    pub(super) fn living(&self) -> Option<(Incarnation, &Saved)> {
        let saved = self.run_dir.as_ref().filter(|saved| self.up && !saved.left)?;
        Some((self.me?, saved))
    }

    pub(super) fn boot_id(&self, host: usize) -> [u8; 16] {
        let mut id = [0; 16];
        id[0] = host as u8 + 1;
        id[8..].copy_from_slice(&self.boot.to_be_bytes());
        id
    }
}
