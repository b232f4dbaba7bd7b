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
use palisade_core::config::{Cluster, Probe, ProbeId};
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
            };
            let mut news = Vec::new();
            if health.board().take(id, &sample, Health::now()) {
                news.push(Told::Ills(health.board().ills()));
            }
            if let Sample::Capacity(capacity) = &sample {
                news.push(Told::Load(capacity.load()));
            }
            if let Some(at) = storage_of(&cluster, id)
                && let Some(slot) = storages.get_mut(at)
                && let now = sample.of_storage()
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

/// The position of the storage of the configuration that a probe looks at.
fn storage_of(cluster: &Cluster, id: ProbeId) -> Option<usize> {
    let name = cluster.probe(id)?.storage()?;
    cluster.storages().iter().position(|storage| storage.name() == name)
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

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;
    use crate::testing::{TempDir, run as block_on};

    /// The engine may hold another state, of the configuration before: what is seen first is told, whatever it is.
    #[test]
    fn a_storage_is_told_of_anew_after_a_reload() {
        let dir = TempDir::new();
        let text = format!(
            "[cluster]\nname = \"t\"\nkeys = [ {{ id = 1, file = \"/k\" }} ]\n\
             [[host]]\nid = 0\nname = \"a\"\nmachine = \"00000001-0000-0000-0000-000000000001\"\nlinks = [\"127.0.0.1:1\"]\n\
             [[host]]\nid = 1\nname = \"b\"\nmachine = \"00000002-0000-0000-0000-000000000001\"\nlinks = [\"127.0.0.1:2\"]\n\
             [[storage]]\nname = \"s\"\npath = \"{}\"\n",
            dir.path().display()
        );
        let cluster = Arc::new(Cluster::parse(&text, "t").unwrap());
        block_on(async {
            let (reload, reloads) = mpsc::channel(1);
            let (tell, mut told) = mpsc::channel(SAMPLES_MAX);
            let eyes = run(cluster.clone(), HostId::new(0).unwrap(), Health::default(), reloads, tell);
            let test = async move {
                for _ in 0..3 {
                    while !matches!(told.recv().await.unwrap(), Told::Storage(0, StorageHealth::Healthy)) {}
                    reload.send(cluster.clone()).await.unwrap();
                }
            };
            LocalSet::new().run_until(async { tokio::join!(eyes, test) }).await;
        });
    }
}
