//! The second thread: everything that may wait (devices, workloads, brokers, the local API, the configuration's files) lives
//! here, beside the run loop, joined to it by bounded channels only.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use palisade_core::config::Cluster;
use palisade_devices::scsi::Me;
use palisade_proto::{Answer, Ask, Incarnation};
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

use super::probes;
use super::setup::Setup;
use crate::afar;
use crate::api::{self, ApiRequest};
use crate::counters::Counters;
use crate::fences::{self, Known};
use crate::health::Health;
use crate::mqtt::{self, Session};
use crate::systemd::{self, StopKind};
use crate::telemetry::{self, Outlet, Tell};
use crate::witness::{self, Access, Way};

/// More than the deepest call on this thread needs (JSON, D-Bus, RMCP+). All of it is resident: memory is locked.
const STACK_BYTES: usize = 512 * 1024;
/// Requests of the run loop to this thread itself: a signal, or a reload, which takes three.
const CONTROL_MAX: usize = 8;
/// For the goodbyes to the brokers when the agent ends.
const GOODBYE: Duration = Duration::from_millis(500);

/// The run loop's ends of the channels out: it never waits at any of them.
pub(crate) struct Hands {
    pub(crate) devices: mpsc::Sender<fences::Work>,
    pub(crate) probes: mpsc::Sender<probes::Work>,
    /// Absent without a witness.
    pub(crate) asks: Option<mpsc::Sender<Box<Ask>>>,
    /// Absent without telemetry.
    pub(crate) telemetry: Option<mpsc::Sender<Tell>>,
    /// Where events are kept for it.
    pub(crate) spool: Outlet,
    pub(crate) control: mpsc::Sender<Control>,
}

/// The run loop's ends of the channels in.
pub(crate) struct Ears {
    pub(crate) devices: mpsc::Receiver<fences::Reply>,
    pub(crate) probes: mpsc::Receiver<probes::Report>,
    pub(crate) answers: mpsc::Receiver<Answer>,
    pub(crate) requests: mpsc::Receiver<ApiRequest>,
    pub(crate) told: mpsc::Receiver<Told>,
}

/// What the run loop asks of this thread.
pub(crate) enum Control {
    /// Is the stop that we were told of a restart?
    StopOrRestart,
    /// Read the configuration again.
    Reload,
    /// Speak to the witness's broker so from now on.
    Witness(Box<Brokered<Access, Box<Ask>>>),
    /// Answer monitoring there from now on, and nowhere else.
    Monitoring(Option<SocketAddr>),
    /// Speak to the telemetry broker so from now on.
    Telemetry(Box<Brokered<Monitoring, Tell>>),
}

/// How to reach the telemetry broker, and the outbox's other end, for the spool.
pub(crate) type Monitoring = (mqtt::Access, mpsc::WeakSender<Tell>);

/// An MQTT session to begin; the one before ended when its sender was dropped.
pub(crate) struct Brokered<A, T> {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) access: A,
    pub(crate) outbox: mpsc::Receiver<T>,
}

/// What this thread answers.
pub(crate) enum Told {
    /// Why we were told to stop.
    Stop(StopKind),
    /// The configuration as it reads now, or what is wrong with it.
    Setup(Result<Box<Setup>, String>),
}

/// What this thread needs to begin with.
pub(crate) struct Start {
    pub(crate) config: PathBuf,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) me: Incarnation,
    /// Whether no life of this boot was before this one.
    pub(crate) first_of_boot: bool,
    pub(crate) devices: Vec<Known>,
    pub(crate) run_dir: &'static Path,
    pub(crate) journal_dir: &'static Path,
    pub(crate) spool_dir: &'static Path,
    pub(crate) orders_taken: &'static Path,
    pub(crate) listener: UnixListener,
    pub(crate) way: Arc<Way>,
    pub(crate) counters: Arc<Counters>,
}

/// The runtime of the second thread; entered to bind the API's socket before anything else begins.
pub(crate) fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_stack_size(STACK_BYTES)
        .max_blocking_threads(4)
        .thread_name("palisade-block")
        .build()
}

/// Starts the thread. The receiver resolves when it has ended, which it does once [`Hands`] is dropped.
pub(crate) fn spawn(runtime: Runtime, start: Start) -> io::Result<(Hands, Ears, oneshot::Receiver<()>)> {
    let (devices, device_work) = mpsc::channel(fences::WORK_MAX);
    let (replies, device_replies) = mpsc::channel(fences::REPLIES_MAX);
    let (probes, probe_work) = mpsc::channel(probes::WORK_MAX);
    let (reports, probe_reports) = mpsc::channel(probes::REPORTS_MAX);
    let (answers, heard_answers) = mpsc::channel(witness::ANSWERS_MAX);
    let (requests, asked_requests) = mpsc::channel(api::REQUESTS);
    let (control, controlled) = mpsc::channel(CONTROL_MAX);
    let (tell, told) = mpsc::channel(CONTROL_MAX);
    let (end, ended) = oneshot::channel();
    let name = start.cluster.host(start.me.host).map_or("", |host| host.name());
    let teller = telemetry::Teller { host: name.to_owned(), life: start.me.life.to_string() };
    let (spool, seat) = telemetry::outlet(teller, start.counters.clone());

    let work = async move {
        let Start {
            config,
            cluster,
            me,
            first_of_boot,
            devices,
            run_dir,
            journal_dir,
            spool_dir,
            orders_taken,
            listener,
            way,
            counters,
        } = start;
        tokio::spawn(fences::run(Me { life: me, first_of_boot }, devices, device_work, replies));
        let health = Health::default();
        tokio::task::spawn_local(probes::run(cluster, me.host, run_dir, health.clone(), probe_work, reports));
        let serve =
            api::serve(listener, requests.clone(), journal_dir.to_owned(), counters.clone(), health.clone());
        tokio::spawn(serve);
        tokio::spawn(stay_alive(counters.clone()));
        let spool = Spooling { dir: spool_dir, seat: Some(seat), keeper: None };
        let sessions = Vec::new();
        let listening = Listening { requests: requests.clone(), at: None, task: None };
        let controller = Controller {
            config,
            me,
            way,
            answers,
            counters,
            health,
            tell,
            sessions,
            spool,
            listening,
            requests,
            orders_taken: Arc::new(Mutex::new(afar::Used::new(orders_taken))),
        };
        controller.run(controlled).await;
    };
    std::thread::Builder::new().name("palisade-slow".to_owned()).stack_size(STACK_BYTES).spawn(
        move || {
            LocalSet::new().block_on(&runtime, work);
            // A blocking read that hangs must not hold up the end.
            runtime.shutdown_background();
            let _ = end.send(());
        },
    )?;
    let hands = Hands { devices, probes, asks: None, telemetry: None, spool, control };
    let ears = Ears {
        devices: device_replies,
        probes: probe_reports,
        answers: heard_answers,
        requests: asked_requests,
        told,
    };
    Ok((hands, ears, ended))
}

/// Feeds systemd's service watchdog for as long as the run loop turns.
async fn stay_alive(counters: Arc<Counters>) {
    let Some(every) = systemd::watchdog_interval() else { return };
    let mut seen = 0;
    loop {
        tokio::time::sleep(every).await;
        let turns = counters.turns.value();
        if std::mem::replace(&mut seen, turns) != turns {
            systemd::alive();
        }
    }
}

struct Controller {
    config: PathBuf,
    me: Incarnation,
    way: Arc<Way>,
    answers: mpsc::Sender<Answer>,
    counters: Arc<Counters>,
    health: Health,
    tell: mpsc::Sender<Told>,
    sessions: Vec<tokio::task::JoinHandle<()>>,
    spool: Spooling,
    listening: Listening,
    /// For orders from afar.
    requests: mpsc::Sender<ApiRequest>,
    orders_taken: Arc<Mutex<afar::Used>>,
}

/// Where monitoring is answered over TCP.
struct Listening {
    requests: mpsc::Sender<ApiRequest>,
    at: Option<SocketAddr>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Listening {
    fn set(&mut self, at: Option<SocketAddr>, counters: &Arc<Counters>, health: &Health) {
        if self.at == at {
            return;
        }
        if let Some(task) = self.task.take() {
            task.abort();
        }
        self.at = at;
        self.task = at.map(|at| {
            tokio::spawn(api::serve_monitoring(at, self.requests.clone(), counters.clone(), health.clone()))
        });
    }
}

/// The spool's thread begins with the first telemetry that is configured, and stays.
struct Spooling {
    dir: &'static Path,
    seat: Option<telemetry::Seat>,
    keeper: Option<telemetry::Keeper>,
}

impl Spooling {
    fn keeper(&mut self, bytes: u64) -> Option<telemetry::Keeper> {
        if let Some(seat) = self.seat.take() {
            match seat.begin(self.dir, bytes) {
                Ok(keeper) => self.keeper = Some(keeper),
                Err(error) => tracing::error!("telemetry has no thread for its spool: {error}"),
            }
        }
        self.keeper.clone()
    }
}

impl Controller {
    async fn run(mut self, mut controlled: mpsc::Receiver<Control>) {
        while let Some(control) = controlled.recv().await {
            self.sessions.retain(|session| !session.is_finished());
            match control {
                Control::StopOrRestart => {
                    let tell = self.tell.clone();
                    tokio::spawn(async move {
                        let kind = systemd::stop_or_restart().await;
                        drop(tell.send(Told::Stop(kind)).await);
                    });
                }
                Control::Reload => {
                    let (tell, config) = (self.tell.clone(), self.config.clone());
                    tokio::spawn(async move {
                        systemd::reloading();
                        let read =
                            tokio::task::spawn_blocking(move || Setup::load(&config).map(Box::new)).await;
                        let setup = read.unwrap_or_else(|error| Err(error.to_string()));
                        drop(tell.send(Told::Setup(setup)).await);
                    });
                }
                Control::Witness(brokered) => self.witness(*brokered),
                Control::Telemetry(brokered) => self.telemetry(*brokered),
                Control::Monitoring(at) => self.listening.set(at, &self.counters, &self.health),
            }
        }
        // The run loop has ended: say goodbye where somebody listens.
        let goodbyes = async {
            for session in self.sessions {
                drop(session.await);
            }
        };
        let _ = tokio::time::timeout(GOODBYE, goodbyes).await;
    }

    fn witness(&mut self, brokered: Brokered<Access, Box<Ask>>) {
        let Brokered { cluster, access, outbox } = brokered;
        let (me, way, answers, counters) =
            (self.me, self.way.clone(), self.answers.clone(), self.counters.clone());
        self.sessions.push(tokio::task::spawn_local(async move {
            if let Err(error) = witness::run(&cluster, me, access, way, outbox, answers, counters).await {
                tracing::error!("no session with the witness: {error}");
            }
        }));
    }

    fn telemetry(&mut self, brokered: Brokered<Monitoring, Tell>) {
        let Brokered { cluster, access: (access, out), outbox } = brokered;
        let (me, counters, health) = (self.me, self.counters.clone(), self.health.clone());
        let bytes = cluster.telemetry().map_or(0, palisade_core::config::Telemetry::spool_bytes);
        let Some(keeper) = self.spool.keeper(bytes) else { return };
        let host = cluster.host(me.host).map_or("", |host| host.name()).to_owned();
        let orders = cluster.orders().is_some().then(|| {
            let (orders, heard) = mpsc::channel(afar::WAITING_MAX);
            let taking = afar::Orders {
                cluster: cluster.clone(),
                host: host.clone(),
                used: self.orders_taken.clone(),
                requests: self.requests.clone(),
                out: out.clone(),
                counters: counters.clone(),
            };
            // Ends with the session, which holds the other end.
            tokio::task::spawn_local(taking.run(heard));
            orders
        });
        self.sessions.push(tokio::task::spawn_local(async move {
            let session = Session::default();
            let ends = (out, outbox, orders);
            telemetry::run(&cluster, &host, access, &session, ends, keeper, counters, health).await;
        }));
    }
}
