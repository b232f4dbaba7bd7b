//! Every history of a scene with at most so many deviations, at any step.
//!
//! From each state the world goes on by itself until it comes to a state that was seen with no more deviations spent: so far,
//! no depth bounds the search. Each new state with deviations left is put down, and each deviation is tried from it. Where a
//! history comes round to itself, everything is mended and must become well (I4).

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use palisade_core::config::Cluster;

use super::fingerprint::Scratch;
use super::scene::Scene;
use super::world::{Snapshot, World, setup};
use super::{Bounds, Failure, Outcome};
use crate::sim::NAMES;

/// The most steps from one deviation to a state that was seen, and from a mended world to its being well.
const MAX_CHAIN: u64 = 1500;
/// The set of seen states is kept in so many parts, so that threads seldom wait for one another.
const SHARDS: u64 = 64;
/// Above so many states put down those with the most deviations are gone on with first: they leave the fewest behind.
const MANY_JOBS: usize = 20_000;

/// How a state was reached: the deviation last taken, at which step of the scene.
struct Path {
    before: Option<Arc<Path>>,
    at: u64,
    index: usize,
}

struct Job {
    snapshot: Snapshot,
    path: Option<Arc<Path>>,
}

#[derive(Default)]
struct Jobs {
    /// By deviations spent.
    waiting: Vec<Vec<Job>>,
    working: usize,
}

struct Search<'s> {
    scene: &'s Scene,
    cluster: Arc<Cluster>,
    bounds: Bounds,
    seen: Vec<Mutex<HashMap<u64, u8>>>,
    /// States that become well once everything is mended.
    well: Mutex<HashSet<u64>>,
    jobs: Mutex<Jobs>,
    more: Condvar,
    stop: AtomicBool,
    states: AtomicU64,
    transitions: AtomicU64,
    deepest: AtomicU64,
    failure: Mutex<Option<Failure>>,
}

/// Explores a scene.
#[must_use]
pub fn run(scene: &Scene, bounds: Bounds) -> Outcome {
    let cluster = setup(scene.hosts, scene.witness).cluster();
    let search = Search {
        scene,
        cluster,
        bounds,
        seen: (0..SHARDS).map(|_| Mutex::default()).collect(),
        well: Mutex::default(),
        jobs: Mutex::new(Jobs { waiting: (0..=bounds.deviations).map(|_| Vec::new()).collect(), working: 0 }),
        more: Condvar::new(),
        stop: AtomicBool::new(false),
        states: AtomicU64::new(0),
        transitions: AtomicU64::new(0),
        deepest: AtomicU64::new(0),
        failure: Mutex::default(),
    };
    search.begin();
    std::thread::scope(|scope| {
        for _ in 0..bounds.threads.max(1) {
            scope.spawn(|| search.work());
        }
    });
    let failure = search.failure.into_inner().expect("nobody panicked");
    Outcome {
        states: search.states.into_inner(),
        transitions: search.transitions.into_inner(),
        deepest: search.deepest.into_inner(),
        exhausted: !search.stop.into_inner(),
        failure,
    }
}

/// One history again: the scene's, with the given deviations (step, position in the scene's list). Told line by line.
#[must_use]
pub fn replay(scene: &Scene, path: &[(u64, usize)]) -> (Vec<String>, Option<String>) {
    let cluster = setup(scene.hosts, scene.witness).cluster();
    let mut world = scene.begin(&cluster, true);
    let began = world.body.steps;
    let last = path.iter().map(|(at, _)| *at).max().unwrap_or(0);
    let mut scratch = Scratch::default();
    let mut chain = HashSet::new();
    let mut steps = 0;
    while world.failure.is_none() {
        let at = world.body.steps - began;
        let deviation =
            path.iter().find(|(when, _)| *when == at).and_then(|(_, index)| scene.kinds.get(*index));
        world.step(deviation.copied());
        check_cuts(scene, &mut world);
        if at < last {
            continue;
        }
        steps += 1;
        if !chain.insert(world.fingerprint(&mut scratch)) || steps > MAX_CHAIN {
            become_well(&mut world, &mut scratch, &Mutex::default());
            break;
        }
    }
    (world.told.take().unwrap_or_default(), world.failure)
}

/// Nobody was fenced whom the scene spares.
fn check_cuts(scene: &Scene, world: &mut World) {
    if let Some(host) = scene.spared.iter().find(|host| world.body.cut[**host]) {
        world.fail(format!(
            "I4: {} was fenced, and nothing that happened should cost it its power",
            NAMES[*host]
        ));
    }
}

/// I4: mended, the world becomes well and stays so.
fn become_well(world: &mut World, scratch: &mut Scratch, well: &Mutex<HashSet<u64>>) -> u64 {
    if !world.is_mended() {
        world.tell(|| "=== everything is mended".to_owned());
        world.mend();
    }
    let mut chain = Vec::new();
    let mut own = HashSet::new();
    loop {
        let print = world.fingerprint(scratch);
        if well.lock().expect("nobody panicked").contains(&print) {
            break;
        }
        if !own.insert(print) || chain.len() as u64 > MAX_CHAIN {
            if let Some(lacks) = world.what_lacks() {
                world.fail(format!("I4: everything is mended, and for good {lacks}"));
                return chain.len() as u64;
            }
            break;
        }
        chain.push(print);
        world.step(None);
        if world.failure.is_some() {
            return chain.len() as u64;
        }
    }
    let steps = chain.len() as u64;
    well.lock().expect("nobody panicked").extend(chain);
    steps
}

impl Search<'_> {
    fn begin(&self) {
        let mut world = self.scene.begin(&self.cluster, false);
        if let Some(what) = world.failure.take() {
            return self.found(what, None);
        }
        self.follow(&mut world, &mut Scratch::default(), 0, None);
    }

    fn work(&self) {
        let mut world = World::new(&self.cluster, false);
        let mut scratch = Scratch::default();
        while let Some((used, job)) = self.next_job() {
            for (index, deviation) in self.scene.kinds.iter().enumerate() {
                if self.stop.load(Ordering::Relaxed) {
                    break;
                }
                world.restore(&job.snapshot);
                if !self.scene.allows(*deviation, &world) {
                    continue;
                }
                let at = world.body.steps - self.scene.begins_at();
                let path = Arc::new(Path { before: job.path.clone(), at, index });
                world.step(Some(*deviation));
                self.transitions.fetch_add(1, Ordering::Relaxed);
                self.follow(&mut world, &mut scratch, used + 1, Some(&path));
            }
            self.jobs.lock().expect("nobody panicked").working -= 1;
            self.more.notify_all();
        }
    }

    fn next_job(&self) -> Option<(u8, Job)> {
        let mut jobs = self.jobs.lock().expect("nobody panicked");
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            let many = jobs.waiting.iter().map(Vec::len).sum::<usize>() > MANY_JOBS;
            let filled = |level: &usize| !jobs.waiting[*level].is_empty();
            let level = if many {
                (0..jobs.waiting.len()).rev().find(filled)
            } else {
                (0..jobs.waiting.len()).find(filled)
            };
            if let Some(level) = level {
                jobs.working += 1;
                let job = jobs.waiting[level].pop()?;
                return Some((level as u8, job));
            }
            if jobs.working == 0 {
                self.more.notify_all();
                return None;
            }
            jobs = self.more.wait(jobs).expect("nobody panicked");
        }
    }

    /// Lets the world go on by itself until it comes to what was seen.
    fn follow(&self, world: &mut World, scratch: &mut Scratch, used: u8, path: Option<&Arc<Path>>) {
        let mut own = HashSet::new();
        for _ in 0..MAX_CHAIN {
            check_cuts(self.scene, world);
            if let Some(what) = world.failure.take() {
                return self.found(what, path);
            }
            let print = world.fingerprint(scratch);
            if self.was_seen(print, used) {
                if own.contains(&print) {
                    let steps = become_well(world, scratch, &self.well);
                    self.transitions.fetch_add(steps, Ordering::Relaxed);
                    if let Some(what) = world.failure.take() {
                        self.found(what, path);
                    }
                }
                return;
            }
            own.insert(print);
            self.deepest.fetch_max(world.body.steps - self.scene.begins_at(), Ordering::Relaxed);
            if used < self.bounds.deviations {
                let job = Job { snapshot: world.snapshot(), path: path.cloned() };
                self.jobs.lock().expect("nobody panicked").waiting[usize::from(used)].push(job);
                self.more.notify_one();
            }
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            world.step(None);
            self.transitions.fetch_add(1, Ordering::Relaxed);
        }
        self.found(format!("{MAX_CHAIN} steps without coming to a state that was seen"), path);
    }

    fn was_seen(&self, print: u64, used: u8) -> bool {
        let mut seen = self.seen[(print % SHARDS) as usize].lock().expect("nobody panicked");
        match seen.get_mut(&print) {
            Some(before) if *before <= used => true,
            Some(before) => {
                *before = used;
                false
            }
            None => {
                seen.insert(print, used);
                if self.states.fetch_add(1, Ordering::Relaxed) + 1 >= self.bounds.states {
                    self.halt();
                }
                false
            }
        }
    }

    fn halt(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.more.notify_all();
    }

    fn found(&self, what: String, path: Option<&Arc<Path>>) {
        let mut steps = Vec::new();
        let mut last = path;
        while let Some(path) = last {
            steps.push((path.at, path.index));
            last = path.before.as_ref();
        }
        steps.reverse();
        let mut failure = self.failure.lock().expect("nobody panicked");
        if failure.as_ref().is_none_or(|other| other.path.len() > steps.len()) {
            *failure = Some(Failure { what, path: steps });
        }
        self.halt();
    }
}
