//! What this host looks at by itself, and its workloads' hands: starts, stops, kills, looks, storage probes, load. Everything
//! here may be slow; it runs beside the run loop and reports to it. It never decides what should run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use palisade_core::action::{Act, Seen, StorageHealth, WorkloadReport};
use palisade_core::config::{Cluster, Workload, WorkloadKind};
use palisade_proto::message::HealthClass;
use palisade_proto::{HostId, MAX_WORKLOADS, WorkloadId};
use sysinfo::{MemoryRefreshKind, System};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};

use crate::storage::{self, StorageProbe};
use crate::workload::{
    Answer, Autostart, Kind, Observed, Op, OpError, Options, Refused, Spec, WorkloadEvent, Workloads,
};

/// Acts that may wait: a kill of every workload while each has another act queued, twice over.
pub(crate) const WORK_MAX: usize = 4 * MAX_WORKLOADS;
/// Reports that may wait for the run loop.
pub(crate) const REPORTS_MAX: usize = 2 * MAX_WORKLOADS;
/// L1: how often each workload that may be here is looked at.
const LOOK: Duration = Duration::from_secs(10);
/// Right after the start, and where a kill or look failed, sooner.
const LOOK_SOON: Duration = Duration::from_secs(2);
/// How long after the start looks come sooner.
const EARLY: Duration = Duration::from_secs(20);
/// L2: how often storages and autostart are probed.
const PROBE: Duration = Duration::from_secs(30);
/// A storage that takes longer for one write and fsync cannot be told to be healthy.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// L3: how often load is measured.
const LOAD: Duration = Duration::from_secs(60);

/// What the run loop wants done.
#[derive(Debug)]
pub(crate) enum Work {
    /// Something to do with a workload.
    Act(WorkloadId, Act),
    /// Another configuration.
    Reload(Arc<Cluster>),
}

/// What the run loop is told.
#[derive(Debug)]
pub(crate) enum Report {
    /// About a workload.
    Workload(WorkloadId, WorkloadReport),
    /// About a storage, by its position in the configuration.
    Storage(usize, StorageHealth),
    /// This host's verdict on itself and its load in 1/1000.
    Health(HealthClass, u16),
    /// Why this host must not be armed (SAFE-9).
    Unfit(Vec<String>),
}

/// Works until `work` closes. Looks at every configured workload first: until all were seen, a new life says nothing.
pub(crate) async fn run(
    cluster: Arc<Cluster>,
    me: HostId,
    run_dir: &Path,
    mut work: mpsc::Receiver<Work>,
    reports: mpsc::Sender<Report>,
) {
    let (workloads, mut events) = Workloads::new(specs(&cluster), Options::new(run_dir.to_owned()));
    let (probed, mut probes) = mpsc::channel(REPORTS_MAX);
    let mut hands = Hands {
        me,
        workloads,
        waiting: BTreeMap::new(),
        leftover: BTreeMap::new(),
        unlooked: BTreeSet::new(),
        autostart: BTreeMap::new(),
        told_unfit: None,
        storages: Vec::new(),
        probed,
        load: System::new().ok(),
        reports,
        cluster: cluster.clone(),
    };
    hands.arrange(cluster);
    let started = Instant::now();
    let mut look = interval_at(started + LOOK_SOON, LOOK_SOON);
    let mut probe = interval(PROBE);
    let mut load = interval(LOAD);
    for timer in [&mut look, &mut probe, &mut load] {
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let mut looked = started;
    loop {
        let told = tokio::select! {
            biased;
            work = work.recv() => match work {
                Some(Work::Act(id, act)) => hands.act(id, act),
                Some(Work::Reload(cluster)) => {
                    hands.arrange(cluster);
                    Vec::new()
                }
                None => return,
            },
            Some(event) = events.recv() => hands.ended(event),
            Some((at, health)) = probes.recv() => hands.storage(at, health),
            _ = look.tick() => {
                let early = started.elapsed() < EARLY || !hands.leftover.is_empty() || !hands.unlooked.is_empty();
                if early || looked.elapsed() >= LOOK {
                    looked = Instant::now();
                    hands.look();
                }
                Vec::new()
            }
            _ = probe.tick() => {
                hands.probe();
                Vec::new()
            }
            _ = load.tick() => vec![hands.health()],
        };
        for report in told {
            // Closed only when the agent ends.
            if hands.reports.send(report).await.is_err() {
                return;
            }
        }
    }
}

struct Hands {
    me: HostId,
    cluster: Arc<Cluster>,
    workloads: Workloads,
    /// Acts that wait for the operation that goes on with their workload.
    waiting: BTreeMap<WorkloadId, Act>,
    /// Failed starts that may have left something behind, and why they failed: killed until nothing is read.
    leftover: BTreeMap<WorkloadId, String>,
    /// Workloads not looked at yet since the start.
    unlooked: BTreeSet<WorkloadId>,
    autostart: BTreeMap<WorkloadId, Option<String>>,
    told_unfit: Option<Vec<String>>,
    storages: Vec<(Arc<StorageProbe>, StorageHealth)>,
    probed: mpsc::Sender<(usize, storage::StorageHealth)>,
    load: Option<System>,
    reports: mpsc::Sender<Report>,
}

impl Hands {
    fn arrange(&mut self, cluster: Arc<Cluster>) {
        self.workloads.replace(specs(&cluster));
        let host = cluster.host(self.me).map_or("", |host| host.name());
        let probe = |path: &Path| Arc::new(StorageProbe::new(path, host, PROBE_TIMEOUT));
        self.storages = cluster
            .storages()
            .iter()
            .map(|storage| (probe(storage.path()), StorageHealth::Unknown))
            .collect();
        self.unlooked = cluster.workloads().iter().map(Workload::id).collect();
        self.autostart.retain(|id, _| cluster.workload(*id).is_some());
        self.cluster = cluster;
        // SAFE-9: whether something starts by itself is known before the last look, and so before a new life may speak.
        self.ask_autostart();
        self.probe_storages();
    }

    fn mine(&self) -> Vec<WorkloadId> {
        let here = |workload: &&Workload| {
            workload.hosts().contains(&self.me) || self.unlooked.contains(&workload.id())
        };
        self.cluster.workloads().iter().filter(here).map(Workload::id).collect()
    }

    fn ask_autostart(&mut self) {
        // On hosts where a workload may not run it must not start by itself either.
        for id in self.cluster.workloads().iter().map(Workload::id) {
            match self.workloads.autostart(id) {
                // Something goes on with it: asked again at the next probe; until then what was known stands.
                Ok(()) | Err(Refused::Busy(_) | Refused::NoSuchWorkload) => {}
            }
        }
    }

    fn look(&mut self) {
        for id in self.mine() {
            if self.leftover.contains_key(&id) {
                self.begin(id, Act::Kill);
            } else {
                match self.workloads.status(id) {
                    Ok(()) | Err(Refused::Busy(_) | Refused::NoSuchWorkload) => {}
                }
            }
        }
    }

    fn probe(&mut self) {
        self.ask_autostart();
        self.probe_storages();
    }

    fn probe_storages(&self) {
        for (at, (probe, _)) in self.storages.iter().enumerate() {
            let (probe, probed) = (probe.clone(), self.probed.clone());
            tokio::spawn(async move {
                let health = probe.probe().await;
                drop(probed.send((at, health)).await);
            });
        }
    }

    fn act(&mut self, id: WorkloadId, act: Act) -> Vec<Report> {
        self.waiting.remove(&id);
        if act == Act::Kill {
            self.leftover.remove(&id);
        }
        self.begin(id, act).into_iter().collect()
    }

    /// Begins an act, or has it wait for what goes on with its workload.
    fn begin(&mut self, id: WorkloadId, act: Act) -> Option<Report> {
        let begun = match act {
            Act::Start => self.workloads.start(id),
            Act::Stop => self.workloads.stop(id),
            Act::Kill => self.workloads.kill(id),
        };
        match (begun, act) {
            // A kill that goes on is what is wanted, and will report.
            (Ok(()), _) | (Err(Refused::Busy(_)), Act::Kill) => None,
            (Err(Refused::Busy(_)), Act::Start | Act::Stop) => {
                self.waiting.insert(id, act);
                None
            }
            (Err(refused @ Refused::NoSuchWorkload), Act::Start) => {
                Some(Report::Workload(id, WorkloadReport::StartFailed(refused.to_string())))
            }
            (Err(refused @ Refused::NoSuchWorkload), Act::Stop | Act::Kill) => {
                Some(Report::Workload(id, WorkloadReport::StopFailed(refused.to_string())))
            }
        }
    }

    fn ended(&mut self, event: WorkloadEvent) -> Vec<Report> {
        let WorkloadEvent { id, op, result } = event;
        let mut told = match op {
            Op::Autostart => self.autostart_known(id, &result),
            Op::Status => self.looked(id, result),
            // Cut short: the kill that did it reports.
            Op::Start | Op::Stop if self.workloads.busy(id) == Some(Op::Kill) => Vec::new(),
            Op::Start => self.started(id, result),
            Op::Stop => vec![Report::Workload(id, stopped(result))],
            Op::Kill => self.killed(id, result),
        };
        if let Some(act) = self.waiting.remove(&id) {
            told.extend(self.begin(id, act));
        }
        told
    }

    fn autostart_known(&mut self, id: WorkloadId, result: &Result<Answer, OpError>) -> Vec<Report> {
        let name = self.cluster.workload(id).map_or("?", Workload::name);
        let reason = match result {
            Ok(Answer::Autostart(Autostart::Off)) => None,
            // SAFE-9: a guarded workload starts through the agent alone.
            Ok(Answer::Autostart(Autostart::On { what })) => {
                Some(format!("workload {name} starts by itself: {what}"))
            }
            Ok(Answer::Autostart(Autostart::Unknown { why })) => {
                Some(format!("workload {name}: cannot tell whether it starts by itself: {why}"))
            }
            Ok(Answer::State(state)) => Some(format!("workload {name}: asked for autostart, told {state}")),
            Err(error) => Some(format!("workload {name}: cannot tell whether it starts by itself: {error}")),
        };
        self.autostart.insert(id, reason);
        let mut told = Vec::new();
        if self.cluster.workloads().iter().all(|workload| self.autostart.contains_key(&workload.id())) {
            let unfit: Vec<String> = self.autostart.values().flatten().cloned().collect();
            if self.told_unfit.as_ref() != Some(&unfit) {
                told.push(Report::Unfit(unfit.clone()));
                self.told_unfit = Some(unfit);
            }
            if !self.unlooked.is_empty() {
                self.look();
            }
        }
        told
    }

    fn looked(&mut self, id: WorkloadId, result: Result<Answer, OpError>) -> Vec<Report> {
        self.unlooked.remove(&id);
        // An act was asked for while the look went on: what it saw is older than that.
        if self.waiting.contains_key(&id) {
            return Vec::new();
        }
        let seen = match read(result) {
            Ok(Observed::Running) => Seen::Running,
            Ok(Observed::Stopped) => Seen::Stopped,
            Ok(Observed::Unknown { why }) => Seen::Unknown(why),
            Err(error) => Seen::Unknown(error.why),
        };
        vec![Report::Workload(id, WorkloadReport::Seen(seen))]
    }

    fn started(&mut self, id: WorkloadId, result: Result<Answer, OpError>) -> Vec<Report> {
        let (why, after) = match read(result) {
            Ok(Observed::Running) => return vec![Report::Workload(id, WorkloadReport::Started)],
            Ok(after) => (format!("started, then read as {after}"), after),
            Err(error) => (error.why, error.after),
        };
        match after {
            Observed::Stopped => vec![Report::Workload(id, WorkloadReport::StartFailed(why))],
            // Something may have been left behind: a start has failed only once nothing is read to run.
            Observed::Running | Observed::Unknown { .. } => {
                self.leftover.insert(id, why);
                self.begin(id, Act::Kill).into_iter().collect()
            }
        }
    }

    fn killed(&mut self, id: WorkloadId, result: Result<Answer, OpError>) -> Vec<Report> {
        let report = stopped(result);
        match (self.leftover.remove(&id), report) {
            (Some(why), WorkloadReport::Stopped) => {
                vec![Report::Workload(id, WorkloadReport::StartFailed(why))]
            }
            // Killed again at the next look.
            (Some(why), _) => {
                tracing::warn!(
                    workload = id.0,
                    "a failed start ({why}) left something that cannot be killed yet"
                );
                self.leftover.insert(id, why);
                Vec::new()
            }
            (None, report) => vec![Report::Workload(id, report)],
        }
    }

    fn storage(&mut self, at: usize, health: storage::StorageHealth) -> Vec<Report> {
        let health = match health {
            storage::StorageHealth::Healthy { .. } => StorageHealth::Healthy,
            storage::StorageHealth::Failed { why } => StorageHealth::Failed(why),
            storage::StorageHealth::Unknown { why } => {
                tracing::warn!("storage: {why}");
                StorageHealth::Unknown
            }
        };
        let Some((_, known)) = self.storages.get_mut(at) else { return Vec::new() };
        if *known == health {
            return Vec::new();
        }
        known.clone_from(&health);
        vec![Report::Storage(at, health), self.health()]
    }

    /// Degraded while a storage is not known to be healthy; the further levels come with their probes.
    fn health(&mut self) -> Report {
        let class = if self.storages.iter().all(|(_, health)| *health == StorageHealth::Healthy) {
            HealthClass::Healthy
        } else {
            HealthClass::Degraded
        };
        Report::Health(class, self.load())
    }

    /// The busier of processor and memory. What cannot be measured counts as idle: a hint for placement, no more.
    fn load(&mut self) -> u16 {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let queue = System::load_average().map_or(0.0, |load| load.one);
        // The cast saturates.
        let processor = (queue * 1000.0 / cores as f64) as u16;
        let memory = self.load.as_mut().map_or(0, |system| {
            system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
            u128::from(system.used_memory()) * 1000 / u128::from(system.total_memory().max(1))
        });
        processor.max(u16::try_from(memory).unwrap_or(1000))
    }
}

fn read(result: Result<Answer, OpError>) -> Result<Observed, OpError> {
    match result? {
        Answer::State(observed) => Ok(observed),
        Answer::Autostart(_) => {
            let why = "asked for a state, told about autostart".to_owned();
            Ok(Observed::Unknown { why })
        }
    }
}

fn stopped(result: Result<Answer, OpError>) -> WorkloadReport {
    match read(result) {
        Ok(Observed::Stopped) | Err(OpError { after: Observed::Stopped, .. }) => WorkloadReport::Stopped,
        Ok(after @ (Observed::Running | Observed::Unknown { .. })) => {
            WorkloadReport::StopFailed(format!("then read as {after}"))
        }
        Err(error) => WorkloadReport::StopFailed(error.to_string()),
    }
}

fn specs(cluster: &Cluster) -> Vec<Spec> {
    let length = |length: palisade_proto::Duration| Duration::from_millis(length.0);
    let spec = |workload: &Workload| Spec {
        id: workload.id(),
        name: workload.name().to_owned(),
        kind: match workload.kind().clone() {
            WorkloadKind::Command { start, stop, status } => Kind::Command { start, stop, status },
            WorkloadKind::Systemd { unit } => Kind::Systemd { unit },
            WorkloadKind::Libvirt { domain, xml } => Kind::Libvirt { domain, xml },
        },
        start_timeout: length(workload.start_timeout()),
        stop_timeout: length(workload.stop_timeout()),
    };
    cluster.workloads().iter().map(spec).collect()
}
