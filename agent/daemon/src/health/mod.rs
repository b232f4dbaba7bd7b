//! This host's eyes: looks at what the configuration wants looked at, hands samples to the board that judges them, and tells the run
//! loop what is not healthy. Nothing here is waited for by anybody, and nothing here decides.

mod capacity;
mod guard;
mod http;
mod look;
mod storage;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use palisade_core::action::StorageHealth;
use palisade_core::config::{Cluster, Probe, ProbeId, ProbeKind};
use palisade_core::health::{Board, Ill, Sample, Verdict};
use palisade_proto::{HostId, Time};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::identity::boottime_ms;
use guard::Guard;
use look::Eye;

/// Samples that may wait for the board: every probe has at most one look under way.
const SAMPLES_MAX: usize = 64;
/// What is not known yet is looked at this often, however rarely it is looked at later.
const SOON: Duration = Duration::from_secs(1);

/// What the run loop is told.
#[derive(Debug)]
pub(crate) enum Told {
    /// What is not plainly healthy: all of it.
    Ills(Vec<Ill>),
    /// A storage of the configuration, by its position.
    Storage(usize, StorageHealth),
    /// The load in 1/1000.
    Load(u16),
}

/// The board, for whoever reports on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health(Arc<Mutex<Board>>);

impl Health {
    /// Held for a moment only.
    pub(crate) fn board(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The clock that the board is kept by.
    pub(crate) fn now() -> Time {
        Time(boottime_ms())
    }
}

/// Looks until `reloads` closes; every configuration that comes out of it takes the place of the one before.
pub(crate) async fn run(
    mut cluster: Arc<Cluster>,
    me: HostId,
    health: Health,
    mut reloads: mpsc::Receiver<Arc<Cluster>>,
    told: mpsc::Sender<Told>,
) {
    let mut guards: BTreeMap<ProbeId, Guard> = BTreeMap::new();
    loop {
        guards.retain(|id, _| cluster.probe(*id).is_some());
        let host = cluster.host(me).map_or("", |host| host.name()).to_owned();
        let arranged = std::mem::take(&mut *health.board()).arranged(&cluster, me);
        *health.board() = arranged;
        let (samples, mut sampled) = mpsc::channel(SAMPLES_MAX);
        // Dropped, they end: a program under way is killed, a look that hangs is left to its thread.
        let mut eyes = JoinSet::new();
        for probe in cluster.probes().iter().filter(|probe| probe.is_on(me)) {
            // What hangs from before hangs on: no second thread beside it.
            let guard = guards.entry(probe.id()).or_default().clone();
            eyes.spawn_local(watch(
                probe.clone(),
                host.clone(),
                Eye::new(guard),
                health.clone(),
                samples.clone(),
            ));
        }
        drop(samples);
        // Told in any case after the first look: the engine may know another state, of another configuration.
        let mut storages: Vec<Option<StorageHealth>> = vec![None; cluster.storages().len()];
        let ills = health.board().ills();
        if told.send(Told::Ills(ills)).await.is_err() {
            return;
        }
        loop {
            let (id, sample) = tokio::select! {
                reloaded = reloads.recv() => match reloaded {
                    Some(reloaded) => {
                        cluster = reloaded;
                        break;
                    }
                    None => return,
                },
                Some(sample) = sampled.recv() => sample,
                // No probe is this host's: a reload may change that.
                else => match reloads.recv().await {
                    Some(reloaded) => {
                        cluster = reloaded;
                        break;
                    }
                    None => return,
                },
            };
            let mut news = Vec::new();
            if health.board().take(id, &sample, Health::now()) {
                news.push(Told::Ills(health.board().ills()));
            }
            if let Sample::Capacity(capacity) = &sample {
                news.push(Told::Load(capacity::load(capacity)));
            }
            if let Some((at, known)) = storage_of(&cluster, id)
                && let Some(slot) = storages.get_mut(at)
                && let Some(now) = storage_health(known, &sample)
                && *slot != Some(now.clone())
            {
                *slot = Some(now.clone());
                news.push(Told::Storage(at, now));
            }
            for news in news {
                if told.send(news).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Looks at one thing again and again, one look at a time; sooner while nothing is known of it.
async fn watch(
    probe: Probe,
    host: String,
    mut eye: Eye,
    health: Health,
    samples: mpsc::Sender<(ProbeId, Sample)>,
) {
    let every = Duration::from_millis(probe.every().0);
    let mut soon = interval(every.min(SOON));
    soon.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut later = interval(every);
    later.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let unknown = health.board().verdict(probe.id()).is_none_or(|verdict| verdict == Verdict::Unknown);
        if unknown && !eye.has_no_means() {
            soon.tick().await;
            later.reset();
        } else {
            later.tick().await;
        }
        let sample = eye.look(&probe, &host).await;
        if samples.send((probe.id(), sample)).await.is_err() {
            return;
        }
    }
}

/// The storage of the configuration that a probe looks at, with its position.
fn storage_of(cluster: &Cluster, id: ProbeId) -> Option<(usize, &Probe)> {
    let probe = cluster.probe(id)?;
    let name = probe.storage()?;
    let at = cluster.storages().iter().position(|storage| storage.name() == name)?;
    Some((at, probe))
}

/// What one look says of a storage: no workload is started on what does not answer, and none is stopped for that alone.
fn storage_health(probe: &Probe, sample: &Sample) -> Option<StorageHealth> {
    matches!(probe.kind(), ProbeKind::Storage { .. }).then(|| match sample {
        Sample::Written { .. } => StorageHealth::Healthy,
        Sample::Refused(why) => StorageHealth::Failed(why.clone()),
        Sample::Answered { .. }
        | Sample::Http { .. }
        | Sample::Exit { .. }
        | Sample::Unit { .. }
        | Sample::Processes(_)
        | Sample::Capacity(_)
        | Sample::Clock { .. }
        | Sample::Hung { .. }
        | Sample::Untaken(_) => StorageHealth::Unknown,
    })
}

/// A host whose gateway does not answer and whose disk fills up.
#[cfg(test)]
pub(crate) fn example() -> Health {
    use palisade_core::health::Capacity;

    let text = "[cluster]\nname = \"edge-a\"\nkeys = [ { id = 1, file = \"/k\" } ]\n\
        [[host]]\nid = 0\nname = \"a\"\nmachine = \"00000001-0000-0000-0000-000000000001\"\nlinks = [\"127.0.0.1:1\"]\n\
        [[host]]\nid = 1\nname = \"b\"\nmachine = \"00000002-0000-0000-0000-000000000001\"\nlinks = [\"127.0.0.1:2\"]\n\
        [[probe]]\nname = \"gateway\"\nkind = \"gateway\"\naddress = \"10.0.0.1\"\n\
        [[probe]]\nname = \"page\"\nkind = \"http\"\nurl = \"http://127.0.0.1:8080/ready\"\n";
    let cluster = Cluster::parse(text, "example").unwrap();
    let health = Health::default();
    let arranged = Board::default().arranged(&cluster, HostId::new(0).unwrap());
    *health.board() = arranged;
    for minute in 0..60u32 {
        let at = Time(u64::from(minute) * 60_000);
        let take = |name: &str, sample: &Sample| health.board().take(ProbeId::of(name), sample, at);
        let busy = if minute == 59 { 900 } else { 200 };
        take(
            "capacity",
            &Sample::Capacity(Capacity {
                load_permille: Some(busy),
                disk_permille: [("/var".to_owned(), 800 + minute)].into(),
                ..Capacity::default()
            }),
        );
        take("page", &Sample::Http { status: 200, took_us: 3_000 });
        take("gateway", &Sample::Refused("10.0.0.1: no echo".to_owned()));
    }
    health
}
