//! Where an exploration begins, and what the adversary may do there.

use std::sync::Arc;

use palisade_core::config::Cluster;

use super::deviation::{BRIEF, Deviation as D, LONG, NONE};
use super::world::World;

const ALL: [u8; 4] = [0, 0, 0, NONE];
const A_BC: [u8; 4] = [0, 1, 1, NONE];
const B_AC: [u8; 4] = [1, 0, 1, NONE];
const C_AB: [u8; 4] = [0, 0, 1, NONE];
const ALONE: [u8; 4] = [0, 1, 2, NONE];

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
    /// Whose power nothing that may happen costs.
    pub spared: Vec<usize>,
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
        world.body.cut.fill(false);
        world
    }

    /// Whether this may happen now. A harmless scene restarts only who stands in every view: a second restart beyond the
    /// hold of the first is fenced as the protocol says.
    pub(super) fn allows(&self, deviation: D, world: &World) -> bool {
        let unheld = matches!(deviation, D::Restart(host, _) if !self.spared.is_empty() && !world.stands(host) && !world.joins(host));
        !unheld && world.can_deviate(deviation)
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
    (0..hosts)
        .flat_map(|from| (0..hosts).map(move |to| (from, to)))
        .filter(|(from, to)| from != to)
        .map(|(from, to)| kind(from, to))
        .collect()
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

fn scene(
    name: &'static str,
    words: &'static str,
    hosts: usize,
    deviations: u8,
    prelude: Prelude,
    kinds: Vec<Vec<D>>,
) -> Scene {
    Scene {
        name,
        words,
        hosts,
        witness: hosts == 2,
        spared: Vec::new(),
        kinds: kinds.concat(),
        deviations,
        prelude,
    }
}

/// The next off for each host is carried out late: a split lasts longer than the fence that would end it.
fn slow_bmcs(hosts: usize) -> Prelude {
    (0..hosts).map(|host| (Some(D::LateOff(host, LONG)), 1)).collect()
}

/// Every scene.
#[must_use]
pub fn scenes() -> Vec<Scene> {
    [standing(), growing(), cold(), old_packets(), old_answers(), harmless()].concat()
}

/// Clusters that stand well when trouble begins.
fn standing() -> Vec<Scene> {
    let two = scene(
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
    );
    let two_deep = scene(
        "two-deep",
        "two hosts and the witness, a slow BMC each: splits, late asks, crashes",
        2,
        3,
        [formed(), slow_bmcs(2)].concat(),
        vec![
            parts(2),
            ways(2, D::Deaf),
            each(2, |host| D::LateAsk(host, 3)),
            each(2, |host| D::Crash(host, 0)),
            vec![D::WitnessRestart(1)],
        ],
    );
    let three = scene(
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
    );
    let three_deep = scene(
        "three-deep",
        "three hosts, a slow BMC each: one-way cuts, late packets, crashes",
        3,
        2,
        [formed(), slow_bmcs(3)].concat(),
        vec![ways(3, D::Deaf), ways(3, |from, to| D::Late(from, to, 3)), each(3, |host| D::Crash(host, 0))],
    );
    let three_and_witness = Scene {
        witness: true,
        ..scene(
            "three-and-witness",
            "three hosts and a witness, a slow BMC each: splits and reboots",
            3,
            2,
            [formed(), slow_bmcs(3)].concat(),
            vec![parts(3), each(3, |host| D::Reboot(host, 1))],
        )
    };
    // a has the witness and cannot fence b yet: whatever becomes of the witness, b must not get it and fence a in turn.
    let no_bmcs = vec![(Some(D::NoBmc(0, 40)), 1), (Some(D::NoBmc(1, 40)), 1), (Some(D::Part(ALONE)), 12)];
    let split = Scene {
        spared: vec![0],
        ..scene(
            "split",
            "two hosts are split, one has the witness, and no BMC answers for a while",
            2,
            2,
            [formed(), no_bmcs].concat(),
            vec![
                vec![D::WitnessRestart(3)],
                each(2, |host| D::LateAsk(host, 2)),
                each(2, |host| D::LateAnswer(host, 2)),
            ],
        )
    };
    vec![two, two_deep, three, three_deep, three_and_witness, split]
}

/// A third host joins an electorate of two.
fn growing() -> Vec<Scene> {
    let joining = [formed(), vec![(Some(D::Reboot(2, 1)), 4)]].concat();
    let wide = Scene {
        witness: true,
        ..scene(
            "growth-three",
            "a third host joins an electorate of two, with a witness",
            3,
            2,
            joining.clone(),
            vec![
                parts(3),
                ways(3, D::Deaf),
                ways(3, |from, to| D::Late(from, to, BRIEF)),
                each(3, |host| D::Reboot(host, 1)),
                each(3, |host| D::Crash(host, 1)),
                each(3, |host| D::Leave(host, 2)),
            ],
        )
    };
    let deep = Scene {
        witness: true,
        ..scene(
            "growth-deep",
            "a third host joins an electorate of two, with a witness: splits, reboots, crashes",
            3,
            2,
            joining,
            vec![parts(3), each(3, |host| D::Reboot(host, 1)), vec![D::Crash(2, 1)]],
        )
    };
    vec![wide, deep]
}

/// Nothing stands yet.
fn cold() -> Vec<Scene> {
    let kinds = |hosts| {
        vec![
            parts(hosts),
            ways(hosts, D::Deaf),
            ways(hosts, |from, to| D::Late(from, to, BRIEF)),
            each(hosts, |host| D::Reboot(host, 1)),
            each(hosts, |host| D::Crash(host, 1)),
            each(hosts, D::PowerLoss),
            each(hosts, D::PowerOn),
            each(hosts, |host| D::Leave(host, 2)),
            each(hosts, |host| D::LateReading(host, BRIEF)),
        ]
    };
    let boots = || vec![(None, 1)];
    vec![
        scene("cold-two-witness", "two hosts found an electorate", 2, 2, boots(), kinds(2)),
        scene("cold-three", "three hosts found an electorate", 3, 2, boots(), kinds(3)),
    ]
}

/// A lineage of b's lives or has lived, and packets of it are still under way.
fn old_packets() -> Vec<Scene> {
    // c has been isolated and fenced, then a has lost its power: b stands alone with the witness, and a and c boot isolated.
    let alone: Prelude =
        vec![(None, 40), (Some(D::Part(C_AB)), 16), (Some(D::Part(ALONE)), 1), (Some(D::PowerLoss(0)), 20)];
    // b counts c, its word of it does not arrive, and b is gone.
    let counted: Prelude = vec![
        (Some(D::Part(A_BC)), 5),
        (Some(D::Hold(1, 2)), 4),
        (Some(D::PowerLoss(1)), 1),
        (Some(D::Part(ALL)), 1),
    ];
    let old_lineage = Scene {
        witness: true,
        ..scene(
            "old-lineage",
            "a cold start while a dead lineage's word is under way to one of its hosts",
            3,
            2,
            [alone.clone(), counted].concat(),
            vec![
                vec![D::Leak(1, 2), D::Part(C_AB), D::Part(ALL), D::Deaf(0, 2), D::Deaf(2, 0), D::PowerOn(1)],
                vec![D::Late(2, 0, 3), D::Late(2, 0, 4), D::Hold(0, 2), D::Leak(0, 2)],
                vec![D::Reboot(0, 1), D::Reboot(2, 1), D::Crash(0, 1), D::Crash(2, 1)],
            ],
        )
    };
    // b and d count c; d's word of it and one of b's are under way when both are gone. So is a's first word of its new life, from
    // before it locked on itself.
    let before_lock: Prelude = vec![
        (None, 40),
        (Some(D::Part([0, 1, 2, 1])), 20),
        (Some(D::Part([0, 1, 1, 1])), 5),
        (Some(D::Late(3, 2, 18)), 1),
        (Some(D::PowerLoss(3)), 1),
        (Some(D::Late(1, 2, 16)), 1),
        (Some(D::PowerLoss(1)), 1),
        (Some(D::Part([0, 0, 0, 0])), 1),
        (Some(D::Reboot(0, 1)), 3),
        (Some(D::Late(0, 2, 9)), 1),
    ];
    let old_unlocked = Scene {
        witness: true,
        ..scene(
            "old-unlocked",
            "a decider's word from before it decided is under way to one that is locked on it",
            4,
            2,
            before_lock,
            vec![vec![D::Deaf(0, 2), D::Crash(2, 1), D::Crash(0, 1)]],
        )
    };
    // c locks on a, its word of it does not arrive; c then begins a new life and joins b.
    let locked: Prelude = vec![
        (Some(D::Part(B_AC)), 6),
        (Some(D::Hold(2, 0)), 2),
        (Some(D::Part(A_BC)), 1),
        (Some(D::Reboot(2, 1)), 14),
    ];
    let old_lock = Scene {
        witness: true,
        ..scene(
            "old-lock",
            "an old life's word of its lock is under way while its host's new life is a member elsewhere",
            3,
            2,
            [alone, locked].concat(),
            vec![
                vec![D::Leak(2, 0), D::Release(2, 0), D::PowerLoss(1), D::PowerOn(1)],
                parts(3),
                each(3, |host| D::Reboot(host, 1)),
            ],
        )
    };
    // a is no member and has heard c leave; it is cut off before c comes back to b.
    let left: Prelude = vec![
        (None, 40),
        (Some(D::Part(A_BC)), 16),
        (Some(D::Deaf(0, 1)), 1),
        (Some(D::Part(ALL)), 2),
        (Some(D::Leave(2, 8)), 2),
        (Some(D::Part(A_BC)), 2),
    ];
    let leaving = Scene {
        witness: true,
        ..scene(
            "leaving",
            "a host has left, and comes back unheard by one that heard it leave",
            3,
            2,
            left,
            vec![
                parts(3),
                each(3, |host| D::Leave(host, 2)),
                each(3, |host| D::Restart(host, 1)),
                each(3, |host| D::Reboot(host, 1)),
                each(3, |host| D::Crash(host, 1)),
                each(3, D::PowerLoss),
                each(3, D::PowerOn),
            ],
        )
    };
    // a asks the witness for itself alone and loses its power before the ask arrives: its next life is a member by then.
    let asked: Prelude =
        vec![(None, 40), (Some(D::Deaf(0, 1)), 5), (Some(D::LateAsk(0, 25)), 1), (Some(D::Reboot(0, 1)), 1)];
    let old_ask = scene(
        "old-ask",
        "a dead life's ask to the witness is under way",
        2,
        2,
        asked,
        vec![
            parts(2),
            late_ways(2),
            each(2, |host| D::Reboot(host, 1)),
            each(2, |host| D::Crash(host, 1)),
            each(2, |host| D::Restart(host, 1)),
            each(2, D::NoWitness),
            vec![D::WitnessRestart(1)],
        ],
    );
    vec![old_lineage, old_unlocked, old_lock, leaving, old_ask]
}

/// What was so once is no more: words and readings that were true when they were said.
fn old_answers() -> Vec<Scene> {
    // a counts c and tells c alone before it is lost; b counts a's next life instead, and c hears nobody.
    let counted_by_one: Prelude = vec![
        (None, 40),
        (Some(D::Reboot(2, 1)), 8),
        (Some(D::Cut(0, 1)), 1),
        (Some(D::PowerLoss(0)), 1),
        (Some(D::Part(C_AB)), 12),
        (Some(D::Mend(0, 1)), 18),
    ];
    let lost_word = Scene {
        witness: true,
        ..scene(
            "lost-word",
            "a host was counted by one that is lost, and the others go on without its word",
            3,
            2,
            counted_by_one,
            vec![
                parts(3),
                each(3, |host| D::Reboot(host, 1)),
                each(3, |host| D::Crash(host, 1)),
                each(3, D::PowerLoss),
            ],
        )
    };
    // a reads c off, then c has power and joins b, and a hears neither.
    let read_off: Prelude = vec![
        (None, 40),
        (Some(D::Part(C_AB)), 16),
        (Some(D::Part(ALONE)), 1),
        (Some(D::PowerLoss(0)), 20),
        (Some(D::PowerLoss(2)), 12),
        (Some(D::PowerOn(2)), 1),
        (Some(D::Part(A_BC)), 12),
    ];
    let old_reading = Scene {
        witness: true,
        ..scene(
            "old-reading",
            "a host was read off by one that hears nobody, and is a member elsewhere since",
            3,
            2,
            read_off,
            vec![
                parts(3),
                each(3, |host| D::Reboot(host, 1)),
                each(3, |host| D::Crash(host, 1)),
                each(3, D::PowerLoss),
                each(3, D::PowerOn),
            ],
        )
    };
    vec![lost_word, old_reading]
}

/// What must never cost anybody his power: restarts, leaves, packets late by less than `suspect`.
fn harmless() -> Vec<Scene> {
    let kinds = |hosts| {
        vec![
            ways(hosts, |from, to| D::Late(from, to, 2)),
            each(hosts, |host| D::Restart(host, 1)),
            each(hosts, |host| D::Restart(host, 8)),
            each(hosts, |host| D::Restart(host, 3)),
            each(hosts, |host| D::Leave(host, 2)),
            vec![D::WitnessRestart(1)],
        ]
    };
    let harmless = |scene: Scene| Scene { spared: (0..scene.hosts).collect(), ..scene };
    // d has booted and is about to be counted.
    let joins: Prelude = vec![(None, 40), (Some(D::Reboot(3, 1)), 4)];
    let joining = Scene {
        witness: true,
        ..harmless(scene(
            "harmless-join",
            "a fourth host joins three, agents are restarted, and words between it and them are late",
            4,
            2,
            joins,
            vec![
                each(4, |host| D::Restart(host, 1)),
                vec![D::Late(3, 0, 2), D::Late(3, 0, 3)],
                (0..3).map(|host| D::Late(host, 3, 2)).collect(),
            ],
        ))
    };
    vec![
        joining,
        harmless(scene(
            "harmless-two",
            "nothing happens to two that should cost a host its power",
            2,
            2,
            formed(),
            kinds(2),
        )),
        harmless(scene(
            "harmless-three",
            "nothing happens to three that should cost a host its power",
            3,
            2,
            formed(),
            kinds(3),
        )),
    ]
}
