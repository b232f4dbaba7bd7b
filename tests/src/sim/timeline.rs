//! What goes wrong, and when: a timeline drawn from the seed before the history begins.
//!
//! Half of the histories follow a plot: a way for things to go wrong together that the protocol has a rule against. The others
//! mix faults freely, one kind of them more than the rest.

use super::ailing::ailing;
use super::faults::{BmcMode, Fault, Timeline, Weather};
use super::maintenance;
use super::plots::{self, Plot};
use super::{Micros, Rng, Setup, ms};

/// When each host boots, and what happens until the quiet end. The plot is drawn unless it is given.
pub(super) fn draw(rng: &mut Rng, setup: &Setup, plot: Option<Plot>) -> (Vec<Micros>, Timeline) {
    let mut line = Timeline::new();
    let boots = boots(rng, setup);
    let formed = boots.iter().copied().max().unwrap_or(0) + ms(setup.lease * 3);
    if plot == Some(Plot::Harmless) {
        let end = plots::harmless(rng, setup, formed, &mut line);
        if rng.aside(8).chance(300) {
            maintenance::beside(&mut rng.aside(9), setup, formed, end, &mut line);
        }
        line.push((end, Fault::Heal { dead_for_good: None }));
        line.sort_by_key(|(at, _)| *at);
        return (boots, line);
    }
    // What is checked in it holds on a network on which everybody is heard.
    if plot != Some(Plot::Ailing) && rng.chance(300) {
        line.push((0, Fault::Weather(Weather::draw(rng, setup.lease))));
    }
    for host in 0..setup.hosts {
        let says = rng.chance(500);
        line.push((0, Fault::BmcSaysAlready { host, says }));
    }
    // Most histories let the cluster form first.
    let begin = if rng.chance(200) { 0 } else { formed };
    let drawn = rng.pick(&Plot::DRAWN);
    let plot = plot.unwrap_or(if drawn.suits(setup) { drawn } else { Plot::Mix });
    let length = plot.length(setup, ms(rng.scale(2000, 20_000)));
    plot.happen(rng, setup, begin, length, &mut line);
    if setup.probes && plot != Plot::Ailing && rng.aside(6).chance(500) {
        ailing(&mut rng.aside(7), setup, begin, length, &mut line);
    }
    if rng.aside(8).chance(100) {
        maintenance::maintenance(&mut rng.aside(9), setup, begin, length, &mut line);
    }
    let end = begin + length;
    let bearable = setup.hosts > 2 || setup.witness;
    let dead_for_good = (bearable && rng.chance(150)).then(|| rng.index(setup.hosts));
    line.retain(|(at, _)| *at < end);
    line.push((end, Fault::Heal { dead_for_good }));
    line.sort_by_key(|(at, _)| *at);
    (boots, line)
}

fn boots(rng: &mut Rng, setup: &Setup) -> Vec<Micros> {
    let spread = match rng.below(10) {
        0..=6 => ms(300),
        7..=8 => ms(setup.boot_wait * 2),
        _ => ms(10_000),
    };
    (0..setup.hosts).map(|_| rng.below(spread)).collect()
}

/// Where a BMC fails, the device that cuts its host's network does as well, or does not: of a stream of its own.
pub(super) fn path_beside(rng: &Rng, setup: &Setup, at: Micros, host: usize, line: &mut Timeline) {
    let mut aside = rng.aside(at);
    if setup.isolation.is_some() && aside.chance(600) {
        let late = ms(aside.scale(5, 4000));
        let mode = aside.pick(&[
            BmcMode::Fine(late),
            BmcMode::Dead,
            BmcMode::Deaf(late),
            BmcMode::Lying,
            BmcMode::Late(late),
            BmcMode::Twice(late),
            BmcMode::Refusing,
            BmcMode::Vague,
        ]);
        line.push((at, Fault::Path { host, mode }));
    }
}

/// Some faults of all kinds, a focus among them, so that rare rules meet.
pub(super) fn mix(rng: &mut Rng, setup: &Setup, begin: Micros, length: Micros, line: &mut Timeline) {
    let focus = rng.below(13);
    for _ in 0..rng.range(1, 9) {
        let at = begin + rng.below(length);
        let kind = if rng.chance(600) { focus } else { rng.below(13) };
        draw_fault(rng, setup, at, kind, line);
    }
}

pub(super) fn draw_fault(rng: &mut Rng, setup: &Setup, at: Micros, kind: u64, line: &mut Timeline) {
    let lease = setup.lease;
    let host = rng.index(setup.hosts);
    let for_a_while = |rng: &mut Rng| ms(rng.scale(lease / 8, lease * 12));
    match kind {
        0 => {
            line.push((at, Fault::Weather(Weather::draw(rng, lease))));
            if rng.chance(700) {
                line.push((at + for_a_while(rng), Fault::Weather(Weather::CALM)));
            }
        }
        1 => {
            let length = for_a_while(rng);
            one_way(rng, setup, at, length, line);
        }
        2 => {
            let length = for_a_while(rng);
            partition(rng, setup, at, length, line);
        }
        3 => {
            let back = rng.chance(800).then(|| ms(rng.scale(50, 20_000)));
            line.push((at, Fault::PowerLoss { host, back }));
            if rng.chance(200) {
                let on = rng.index(setup.hosts);
                line.push((at + ms(rng.scale(100, 10_000)), Fault::OperatorConfirm { on, victim: host }));
            }
        }
        4 => {
            let down = ms(rng.scale(20, lease * 4));
            line.push((at, Fault::AgentCrash { host, down, after_actions: rng.index(6) }));
        }
        5 => line.push((at, Fault::AgentRestart { host, down: ms(rng.scale(20, lease * 6)) })),
        6 => {
            let back = rng.chance(800).then(|| ms(rng.scale(20, 15_000)));
            line.push((at, Fault::Leave { host, back }));
        }
        7 => line.push((at, Fault::Freeze { host, length: for_a_while(rng) })),
        8 => {
            // Now and then it is lost for most of the history.
            let longest = if rng.chance(100) { 60_000 } else { lease * 4 };
            line.push((at, Fault::WitnessRestart { down: ms(rng.scale(1, longest)) }));
            if rng.chance(500) {
                // A restart of the witness bites when it is needed.
                let (before, length) = (ms(rng.below(lease * 2)), for_a_while(rng));
                partition(rng, setup, at.saturating_sub(before), length, line);
            }
        }
        9 => {
            if rng.chance(400) {
                let (down, keeps) = (ms(rng.scale(20, lease * 8)), rng.chance(600));
                return line.push((at, Fault::BrokerRestart { down, keeps }));
            }
            let weather = Weather::draw(rng, lease);
            line.push((at, Fault::Broker(weather)));
            line.push((at + for_a_while(rng), Fault::Broker(Weather::BROKER)));
            if rng.chance(500) {
                let cut = rng.chance(700);
                line.push((at, Fault::WitnessWay { host, cut }));
                line.push((at + for_a_while(rng), Fault::WitnessWay { host, cut: false }));
            }
        }
        10 => {
            let mode = match rng.below(10) {
                0..=1 => BmcMode::Fine(ms(rng.scale(5, 12_000))),
                2 => BmcMode::Dead,
                3 => BmcMode::Deaf(ms(rng.scale(5, 2000))),
                4 => BmcMode::Lying,
                5 => BmcMode::Late(ms(rng.scale(5, 12_000))),
                6 => BmcMode::Refusing,
                7 => BmcMode::Vague,
                8 => BmcMode::Twice(ms(rng.scale(20, 12_000))),
                _ => BmcMode::Stranger,
            };
            line.push((at, Fault::Bmc { host, mode }));
            path_beside(rng, setup, at, host, line);
            if rng.chance(600) {
                let other = rng.below(8);
                draw_fault(rng, setup, at, other, line);
            }
        }
        11 => {
            echo(rng, setup, at, host, line);
            if rng.chance(600) {
                let (before, length) = (ms(rng.below(lease)), for_a_while(rng));
                partition(rng, setup, at.saturating_sub(before), length, line);
            }
        }
        _ => match rng.below(5) {
            0 => {
                line.push((at, Fault::Journal { host, fails: true }));
                line.push((at + for_a_while(rng) * 2, Fault::Journal { host, fails: false }));
            }
            1 => {
                line.push((at, Fault::StartsFail { host, fails: true }));
                line.push((at + for_a_while(rng) * 2, Fault::StartsFail { host, fails: false }));
            }
            2 => {
                let (on, workload) = (rng.index(setup.hosts), rng.index(setup.workloads));
                line.push((at, Fault::OperatorDesires { on, workload, run: false }));
                let run = Fault::OperatorDesires { on: rng.index(setup.hosts), workload, run: true };
                line.push((at + for_a_while(rng), run));
            }
            3 => line.push((at, Fault::OperatorFence { on: rng.index(setup.hosts), victim: host })),
            _ => line.push((at, Fault::OperatorConfirm { on: rng.index(setup.hosts), victim: host })),
        },
    }
}

pub(super) fn echo(rng: &mut Rng, setup: &Setup, at: Micros, host: usize, line: &mut Timeline) {
    let length = ms(rng.scale(setup.heartbeat, setup.lease * 4));
    let late = ms(rng.scale(setup.heartbeat, setup.lease * 4 + setup.rejoin_hold));
    line.push((at, Fault::Echo { host, length, late }));
}

fn one_way(rng: &mut Rng, setup: &Setup, at: Micros, length: Micros, line: &mut Timeline) {
    let from = rng.index(setup.hosts);
    let to = (from + 1 + rng.index(setup.hosts - 1)) % setup.hosts;
    let mut at = at;
    // Sometimes the link flaps.
    for _ in 0..rng.pick(&[1, 1, 1, 4, 12]) {
        line.push((at, Fault::Way { from, to, cut: true }));
        line.push((at + length, Fault::Way { from, to, cut: false }));
        at += length + ms(rng.scale(1, setup.lease * 2));
    }
}

pub(super) fn partition(rng: &mut Rng, setup: &Setup, at: Micros, length: Micros, line: &mut Timeline) {
    let side: Vec<bool> = (0..setup.hosts).map(|_| rng.chance(500)).collect();
    let both = rng.chance(800);
    let healed = rng.chance(700).then_some(at + length);
    for from in 0..setup.hosts {
        for to in 0..setup.hosts {
            if side[from] != side[to] && (both || side[from]) {
                line.push((at, Fault::Way { from, to, cut: true }));
                line.extend(healed.map(|healed| (healed, Fault::Way { from, to, cut: false })));
            }
        }
    }
    if setup.witness && rng.chance(400) {
        for host in (0..setup.hosts).filter(|host| side[*host]) {
            line.push((at, Fault::WitnessWay { host, cut: true }));
            line.extend(healed.map(|healed| (healed, Fault::WitnessWay { host, cut: false })));
        }
    }
}
