//! The workloads' hands: starts, stops, kills, looks; and what this host's own probes tell. Everything here may be slow; it runs
//! beside the run loop and reports to it. It never decides what should run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use palisade_core::action::{Act, Seen, StorageHealth, WorkloadReport};
use palisade_core::config::{Cluster, Workload, WorkloadKind};
use palisade_core::health::Ill;
use palisade_proto::{HostId, MAX_WORKLOADS, WorkloadId};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};

use crate::health::{self, Health};
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
/// L2: how often it is asked whether workloads start by themselves.
const AUTOSTART: Duration = Duration::from_secs(30);
/// Configurations that may wait for the probes: reloads come one by one.
const RELOADS_MAX: usize = 4;

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
    /// This host's probes that are not plainly healthy.
    Ills(Vec<Ill>),
    /// This host's load in 1/1000.
    Load(u16),
    /// Why this host must not be armed (SAFE-9).
    Unfit(Vec<String>),
}

/// Works until `work` closes. Looks at every configured workload first: until all were seen, a new life says nothing.
pub(crate) async fn run(
    cluster: Arc<Cluster>,
    me: HostId,
    run_dir: &Path,
    health: Health,
    mut work: mpsc::Receiver<Work>,
    reports: mpsc::Sender<Report>,
) {
    let (workloads, mut events) = Workloads::new(specs(&cluster), Options::new(run_dir.to_owned()));
    let (tell, mut told_by_eyes) = mpsc::channel(REPORTS_MAX);
    let (reload, reloads) = mpsc::channel(RELOADS_MAX);
    tokio::task::spawn_local(health::run(cluster.clone(), me, health, reloads, tell));
    let mut hands = Hands {
        me,
        workloads,
        waiting: BTreeMap::new(),
        leftover: BTreeMap::new(),
        unlooked: BTreeSet::new(),
        autostart: BTreeMap::new(),
        told_unfit: None,
        reports,
        cluster: cluster.clone(),
    };
    hands.arrange(cluster);
    let started = Instant::now();
    let mut look = interval_at(started + LOOK_SOON, LOOK_SOON);
    let mut autostart = interval(AUTOSTART);
    for timer in [&mut look, &mut autostart] {
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let mut looked = started;
    loop {
        let told = tokio::select! {
            biased;
            work = work.recv() => match work {
                Some(Work::Act(id, act)) => hands.act(id, act),
                Some(Work::Reload(cluster)) => {
                    hands.arrange(cluster.clone());
                    // It takes them as they come; closed only when the agent ends.
                    if reload.send(cluster).await.is_err() {
                        return;
                    }
                    Vec::new()
                }
                None => return,
            },
            Some(event) = events.recv() => hands.ended(event),
            Some(told) = told_by_eyes.recv() => vec![match told {
                health::Told::Ills(ills) => Report::Ills(ills),
                health::Told::Storage(at, health) => Report::Storage(at, health),
                health::Told::Load(load) => Report::Load(load),
            }],
            _ = look.tick() => {
                let early = started.elapsed() < EARLY || !hands.leftover.is_empty() || !hands.unlooked.is_empty();
                if early || looked.elapsed() >= LOOK {
                    looked = Instant::now();
                    hands.look();
                }
                Vec::new()
            }
            _ = autostart.tick() => {
                hands.ask_autostart();
                Vec::new()
            }
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
    reports: mpsc::Sender<Report>,
}

impl Hands {
    fn arrange(&mut self, cluster: Arc<Cluster>) {
        self.workloads.replace(specs(&cluster));
        self.unlooked = cluster.workloads().iter().map(Workload::id).collect();
        self.autostart.retain(|id, _| cluster.workload(*id).is_some());
        self.cluster = cluster;
        // SAFE-9: whether something starts by itself is known before the last look, and so before a new life may speak.
        self.ask_autostart();
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
