//! Where an exploration begins, and what the adversary may do there.

use std::sync::Arc;

use palisade_core::config::Cluster;

use super::deviation::{BRIEF, Deviation as D, LONG};
use super::world::World;

const ALL: [u8; 3] = [0, 0, 0];
const A_BC: [u8; 3] = [0, 1, 1];
const B_AC: [u8; 3] = [1, 0, 1];
const C_AB: [u8; 3] = [0, 0, 1];
const ALONE: [u8; 3] = [0, 1, 2];

/// How a scene begins: what is done, and how many steps pass after it.
type Prelude = Vec<(Option<D>, u64)>;

/// One scene.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub words: &'static str,
    /// How many hosts.
    pub hosts: usize,
    /// Whether there is a witness.
    pub witness: bool,
    /// Nothing that may happen costs anybody his power.
    pub harmless: bool,
    /// What may happen, at any step.
    pub kinds: Vec<D>,
    /// The bound that the program explores to.
    pub deviations: u8,
    prelude: Prelude,
}

impl Scene {
    /// The world as the scene begins.
    pub(super) fn begin(&self, cluster: &Arc<Cluster>, tells: bool) -> World {
        let mut world = World::new(cluster, tells);
        (0..self.hosts).for_each(|host| world.give_power(host));
        for (deviation, steps) in &self.prelude {
            world.step(*deviation);
            (1..*steps).for_each(|_| world.step(None));
        }
        world.body.cuts = 0;
        world
    }

    /// How many steps its beginning takes.
    pub(super) fn begins_at(&self) -> u64 {
        self.prelude.iter().map(|(_, steps)| (*steps).max(1)).sum()
    }
}

/// For each host one.
fn each(hosts: usize, kind: impl Fn(usize) -> D) -> Vec<D> {
    (0..hosts).map(kind).collect()
}

/// For each way between two hosts one.
fn ways(hosts: usize, kind: impl Fn(usize, usize) -> D) -> Vec<D> {
    (0..hosts).flat_map(|from| (0..hosts).map(move |to| (from, to))).filter(|(from, to)| from != to).map(|(from, to)| kind(from, to)).collect()
}

fn parts(hosts: usize) -> Vec<D> {
    let all = if hosts == 2 { vec![ALL, ALONE] } else { vec![ALL, A_BC, B_AC, C_AB, ALONE] };
    all.into_iter().map(D::Part).collect()
}

fn late_ways(hosts: usize) -> Vec<D> {
    [ways(hosts, |from, to| D::Late(from, to, 2)), ways(hosts, |from, to| D::Late(from, to, BRIEF))].concat()
}

/// A cluster that has formed and stands still.
fn formed() -> Prelude {
    vec![(None, 40)]
}

fn scene(name: &'static str, words: &'static str, hosts: usize, deviations: u8, prelude: Prelude, kinds: Vec<Vec<D>>) -> Scene {
    Scene { name, words, hosts, witness: hosts == 2, harmless: false, kinds: kinds.concat(), deviations, prelude }
}

/// Every scene.
#[must_use]
pub fn scenes() -> Vec<Scene> {
    vec![
        scene(
            "two-and-witness",
            "two hosts and the witness stand well",
            2,
            2,
            formed(),
            vec![
                parts(2),
                ways(2, D::Deaf),
                late_ways(2),
                each(2, D::NoWitness),
                each(2, |host| D::LateAsk(host, LONG)),
                each(2, |host| D::LateAnswer(host, 2)),
                vec![D::WitnessRestart(1)],
                each(2, |host| D::Reboot(host, 1)),
                each(2, |host| D::Crash(host, 1)),
                each(2, |host| D::Restart(host, 1)),
                each(2, |host| D::Leave(host, 2)),
                each(2, |host| D::Freeze(host, BRIEF)),
                each(2, |host| D::LateOff(host, LONG)),
                each(2, |host| D::LateReading(host, LONG)),
            ],
        ),
        scene(
            "three",
            "three hosts stand well",
            3,
            2,
            formed(),
            vec![
                parts(3),
                ways(3, D::Deaf),
                late_ways(3),
                each(3, |host| D::Reboot(host, 1)),
                each(3, |host| D::Crash(host, 1)),
                each(3, |host| D::Restart(host, 1)),
                each(3, |host| D::Leave(host, 2)),
                each(3, |host| D::Freeze(host, BRIEF)),
            ],
        ),
    ]
}
