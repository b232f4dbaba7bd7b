//! The agent: one loop that waits, hands one input to the engine, and carries out what the engine wants, in order.
//!
//! The loop runs on its own thread with real-time priority and never waits for anything but its inputs; whatever may be slow
//! runs on the second thread ([`slow`]) or on the journal's. It decides nothing: see `palisade_core::Engine`.

mod act;
mod clock;
mod dog;
mod feed;
mod incidents;
mod input;
mod orders;
mod probes;
mod reload;
mod setup;
mod slow;
mod start;

pub(crate) use setup::telemetry_access;

use std::collections::VecDeque;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use palisade_core::Engine;
use palisade_core::action::ExitKind;
use palisade_core::config::Cluster;
use palisade_core::standing::Awakening;

use crate::counters::Counters;
use crate::journal::{Journal, Options};
use crate::link::Links;
use crate::recording::{self, Recorded, Recorder};
use crate::standing::StandingFile;
use crate::witness::Way;
use crate::{api, log, realtime, systemd, watchdog};
use clock::{Alarm, Clock};
use dog::Dog;
use input::{Input, Signals};
use orders::Orders;
use setup::Setup;
use slow::{Ears, Hands};

/// The supervisor starts us again at once (Restart=always; SuccessExitStatus=75 keeps it from counting as a failure).
const EXIT_AGAIN: u8 = 75;
/// The configuration or a secret is not usable.
const EXIT_CONFIG: u8 = 2;
/// For the journal's last records and the goodbyes to the brokers.
const GOODBYE: Duration = Duration::from_secs(1);
/// For the log's last lines.
const LAST_LINES: Duration = Duration::from_millis(500);
/// Heartbeats taken in a row before every other source has its turn (SAFE-12).
const STREAK_MAX: u32 = 32;

/// `palisade agent`: runs until this life or this process ends.
pub(crate) fn main(config: &Path) -> ExitCode {
    let stored = start::passed(watchdog::STORED_NAME);
    let log = match log::start() {
        Ok(log) => log,
        Err(error) => {
            eprintln!("palisade: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    // A mask inherited from whoever started us would keep a stop, a reload or a child's end from us and from workloads.
    if let Err(error) = nix::sys::signal::SigSet::empty().thread_set_mask() {
        tracing::warn!(%error, "signals that were blocked at the start stay so");
    }
    let code = begin(config, stored).unwrap_or_else(|(code, error)| {
        log.say(format!("palisade: {error}\n").as_bytes());
        ExitCode::from(code)
    });
    log.finish(LAST_LINES);
    code
}

fn begin(config: &Path, stored: Option<std::os::fd::OwnedFd>) -> Result<ExitCode, (u8, String)> {
    let failed = |error: String| (1, error);
    let setup = Setup::load(config).map_err(|error| (EXIT_CONFIG, error))?;
    let born = start::born(&setup).map_err(failed)?;
    let slow = slow::runtime().map_err(|error| failed(format!("cannot start: {error}")))?;
    let listener = {
        // One agent a host: a second one is turned away here, before it has touched anything of the first one's.
        let _entered = slow.enter();
        api::bind(Path::new(api::SOCKET)).map_err(|error| failed(error.to_string()))?
    };
    let (me, saved, resumed) = match born.awakening {
        Awakening::Live { me, saved, resumed } => (me, saved, resumed),
        Awakening::MustReboot { why } => return Err(failed(act::reboot(&why))),
    };
    let (way, counters) = (Arc::new(Way::default()), Arc::new(Counters::default()));
    let options = Options::new(start::JOURNAL_DIR.into(), setup.name(), me.life.0);
    let (journal, durable) = Journal::open(options).map_err(|error| failed(error.to_string()))?;
    let recorder = Recorder::open(recording::Options::new(Path::new(start::JOURNAL_DIR)), counters.clone());
    let recorder = recorder.map_err(|error| failed(error.to_string()))?;
    let start = slow::Start {
        config: config.to_owned(),
        cluster: setup.cluster.clone(),
        me,
        first_of_boot: saved.life == 0,
        devices: setup.devices,
        run_dir: Path::new(start::RUN_DIR),
        journal_dir: Path::new(start::JOURNAL_DIR),
        spool_dir: Path::new(start::SPOOL_DIR),
        orders_taken: Path::new(start::ORDERS_TAKEN),
        listener,
        way: way.clone(),
        counters: counters.clone(),
    };
    let (hands, ears, ended) = slow::spawn(slow, start).map_err(|error| failed(error.to_string()))?;
    // Last before the loop, so that no other thread inherits its priority.
    let missing: Vec<String> = realtime::apply().iter().map(ToString::to_string).collect();
    missing.iter().for_each(|missing| tracing::warn!("{missing}"));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(format!("cannot start: {error}")))?;
    runtime.block_on(async move {
        let mut clock = Clock::new();
        let links = Links::open(&setup.cluster, me, setup.keyring, counters.clone());
        let links = links.map_err(|error| (EXIT_CONFIG, error.to_string()))?;
        let dog = Dog::new(setup.cluster.watchdog(), stored, saved.watchdog_armed);
        let engine = Engine::new(setup.cluster.clone(), &born.birth, me, *saved, resumed, clock.now());
        let engine = Recorded::new(engine, setup.written, recorder);
        let mut agent = Agent {
            cluster: setup.cluster,
            engine,
            alarm: Alarm::new().map_err(|error| failed(error.to_string()))?,
            clock,
            links,
            standing: born.standing,
            journal,
            journal_trouble: None,
            journal_refused: None,
            dog,
            hands,
            ears,
            durable,
            signals: Signals::new().map_err(|error| failed(error.to_string()))?,
            own: VecDeque::new(),
            orders: Orders::default(),
            streak: 0,
            warm: false,
            leaving: false,
            reloading: false,
            witness_at: None,
            witness_print: None,
            state_told_us: 0,
            incidents: incidents::Incidents::default(),
            missing,
            way,
            counters,
        };
        agent.join_brokers(setup.witness, setup.witness_print, setup.telemetry);
        agent.own.extend(agent.dog.adopted().map(Into::into));
        let exit = agent.run().await;
        Ok(agent.end(exit, ended).await)
    })
}

/// Everything the loop holds.
struct Agent {
    cluster: Arc<Cluster>,
    engine: Recorded,
    clock: Clock,
    alarm: Alarm,
    links: Links,
    standing: StandingFile,
    journal: Journal,
    /// What the engine was last told about the journal.
    journal_trouble: Option<String>,
    /// The last record that it did not take, and when.
    journal_refused: Option<(String, tokio::time::Instant)>,
    dog: Dog,
    hands: Hands,
    ears: Ears,
    durable: tokio::sync::mpsc::Receiver<crate::journal::Durable>,
    signals: Signals,
    /// Inputs that carrying out an action gave rise to; each at most one an action.
    own: VecDeque<Input>,
    /// Power orders that the devices have been given.
    orders: Orders,
    streak: u32,
    /// Whether the fence devices were told to keep their sessions warm.
    warm: bool,
    leaving: bool,
    reloading: bool,
    /// The broker that the session with the witness goes by, and the print of its secrets.
    witness_at: Option<palisade_core::config::Broker>,
    witness_print: Option<[u8; 32]>,
    state_told_us: u64,
    /// How long incidents took, for metrics.
    incidents: incidents::Incidents,
    missing: Vec<String>,
    way: Arc<Way>,
    counters: Arc<Counters>,
}

/// How the loop ended.
enum Ended {
    /// As the engine wanted.
    By(ExitKind),
    /// Going on would break a promise.
    Failed(String),
}

impl Agent {
    /// The run loop: wait, one input, carry out everything that follows from it.
    async fn run(&mut self) -> Ended {
        systemd::ready("starting");
        if let Some(ended) = self.carry_out() {
            return ended;
        }
        loop {
            let mut input = self.wait().await;
            let begun_us = self.clock.now_us();
            if self.clock.has_slept() {
                // Before anything that arrived meanwhile.
                self.own.push_front(std::mem::replace(&mut input, palisade_core::Input::Slept.into()));
            }
            self.take(input, begun_us);
            self.orders.renew(|id| self.engine.order_stands_until(id));
            if let Some(ended) = self.carry_out() {
                return ended;
            }
            self.look_around();
            self.counters.longest_turn_us.see(self.clock.now_us().saturating_sub(begun_us));
        }
    }

    fn carry_out(&mut self) -> Option<Ended> {
        while let Some(action) = self.engine.poll_action() {
            if let Some(ended) = self.act(action) {
                return Some(ended);
            }
        }
        None
    }

    /// Nothing is left to decide: the last records, the goodbyes, the exit status.
    async fn end(self, ended: Ended, slow_ended: tokio::sync::oneshot::Receiver<()>) -> ExitCode {
        let (code, words) = match &ended {
            Ended::By(ExitKind::Left) => (ExitCode::SUCCESS, "this life has left"),
            Ended::By(ExitKind::Restart) => (ExitCode::from(EXIT_AGAIN), "restarting"),
            Ended::By(ExitKind::Reborn) => (ExitCode::from(EXIT_AGAIN), "starting again as a new life"),
            Ended::Failed(error) => {
                tracing::error!("{error}");
                (ExitCode::FAILURE, "failed")
            }
        };
        systemd::stopping(words);
        let (written, recorded) = (self.journal.close(), self.engine.close());
        let mut hands = self.hands;
        if let Some(session) = hands.telemetry.take() {
            hands.spool.close(session);
        }
        drop((hands, self.ears));
        let both = async {
            drop(written.await);
            drop(recorded.await);
            drop(slow_ended.await);
        };
        if tokio::time::timeout(GOODBYE, both).await.is_err() {
            tracing::warn!("the disk or a broker did not take the last words in time");
        }
        tracing::info!("{words}");
        // A watchdog that was not disarmed must outlive this process: its descriptor is not closed by hand.
        std::mem::forget(self.dog);
        code
    }
}
