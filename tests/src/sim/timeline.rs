//! What goes wrong, and when: a timeline drawn from the seed before the history begins.
//!
//! Half of the histories follow a plot: a way for things to go wrong together that the protocol has a rule against. The others
//! mix faults freely, one kind of them more than the rest.

use super::faults::{BmcMode, Fault, Timeline, Weather};
use super::{Micros, Rng, Setup, ms};

/// When each host boots, and what happens until the quiet end.
pub(super) fn draw(rng: &mut Rng, setup: &Setup) -> (Vec<Micros>, Timeline) {
    let mut line = Timeline::new();
    let boots = boots(rng, setup);
    if rng.chance(300) {
        line.push((0, Fault::Weather(Weather::draw(rng, setup.lease))));
    }
    for host in 0..setup.hosts {
        let says = rng.chance(500);
        line.push((0, Fault::BmcSaysAlready { host, says }));
    }
    // Most histories let the cluster form first.
    let formed = boots.iter().copied().max().unwrap_or(0) + ms(setup.lease * 3);
    let begin = if rng.chance(200) { 0 } else { formed };
    let length = ms(rng.scale(2000, 20_000));
    let plot = rng.below(18);
    let length = match setup.watchdog {
        // It bites three time-outs and a margin after the last look at the clock.
        Some(timeout) if plot == 8 => length.max(ms(timeout * 6000)),
        Some(_) | None => length,
    };
    match plot {
        0..=1 => flapping(rng, setup, begin, length, &mut line),
        2 => witness_in_a_split(rng, setup, begin, length, &mut line),
        3 => restarts(rng, setup, begin, length, &mut line),
        4 => deaths_in_a_row(rng, setup, begin, length, &mut line),
        5 => cold_chaos(rng, setup, length, &mut line),
        6 => frozen_hosts(rng, setup, begin, length, &mut line),
        7 => slow_fences(rng, setup, begin, length, &mut line),
        8 => watchdog_alone(rng, setup, begin, length, &mut line),
        9 => old_words(rng, setup, begin, length, &mut line),
        _ => mix(rng, setup, begin, length, &mut line),
    }
    let end = begin + length;
    let bearable = setup.hosts > 2 || setup.witness;
    let dead_for_good = (bearable && rng.chance(150)).then(|| rng.index(setup.hosts));
    line.retain(|(at, _)| *at < end);
    line.push((end, Fault::Heal { dead_for_good }));
    line.sort_by_key(|(at, _)| *at);
    (boots, line)
}

/// What must never cost anybody his power: agents restarted, crashed and back at once, hosts that leave and return, a witness
/// that restarts, on a network with nothing wrong.
pub(super) fn harmless(rng: &mut Rng, setup: &Setup) -> (Vec<Micros>, Timeline) {
    let mut line = Timeline::new();
    let boots = boots(rng, setup);
    let mut at = boots.iter().copied().max().unwrap_or(0) + ms(setup.lease * 3);
    for _ in 0..rng.range(1, 6) {
        let host = rng.index(setup.hosts);
        let quick = ms(rng.scale(5, setup.lease / 4));
        line.push((
            at,
            match rng.below(5) {
                0 => Fault::AgentRestart { host, down: ms(rng.scale(5, setup.restart_hold / 2)) },
                1 => Fault::AgentCrash { host, down: quick, after_actions: rng.index(6) },
                2 => Fault::Leave { host, back: Some(ms(rng.scale(5, 5000))) },
                3 => Fault::WitnessRestart { down: quick },
                _ => Fault::Freeze { host, length: quick },
            },
        ));
        // Until everybody is back and every vote counts again.
        at += ms(setup.restart_hold + setup.rejoin_hold + setup.lease * 6 + 10_000);
    }
    line.push((at, Fault::Heal { dead_for_good: None }));
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

/// Some faults of all kinds, a focus among them, so that rare rules meet.
fn mix(rng: &mut Rng, setup: &Setup, begin: Micros, length: Micros, line: &mut Timeline) {
    let focus = rng.below(13);
    for _ in 0..rng.range(1, 9) {
        let at = begin + rng.below(length);
        let kind = if rng.chance(600) { focus } else { rng.below(13) };
        draw_fault(rng, setup, at, kind, line);
    }
}

/// Partitions that change within a lease, so that old votes and old views are still about.
fn flapping(rng: &mut Rng, setup: &Setup, begin: Micros, length: Micros, line: &mut Timeline) {
    if rng.chance(500) {
        line.push((begin, Fault::Weather(Weather::draw(rng, setup.lease))));
    }
    let mut at = begin;
    for _ in 0..rng.range(3, 14) {
        let stays = ms(rng.scale(setup.lease / 10, setup.lease * 2));
        partition(rng, setup, at, stays, line);
        at += stays + ms(rng.below(setup.lease / 2));
        if rng.chance(250) {
            let (host, back) = (rng.index(setup.hosts), ms(rng.scale(50, 5000)));
            line.push((at, Fault::PowerLoss { host, back: Some(back) }));
        }
        if rng.chance(150) {
            let (host, back) = (rng.index(setup.hosts), Some(ms(rng.scale(20, 3000))));
            line.push((at, Fault::Leave { host, back }));
        }
        if at > begin + length {
            break;
        }
    }
}

/// A split, and the witness lost, restarted or late in it.
fn witness_in_a_split(rng: &mut Rng, setup: &Setup, begin: Micros, length: Micros, line: &mut Timeline) {
    let at = begin + rng.below(length / 2);
    partition(rng, setup, at, length, line);
    for _ in 0..rng.range(1, 4) {
        let restart = at + ms(rng.scale(1, setup.lease * 8));
        line.push((restart, Fault::WitnessRestart { down: ms(rng.scale(1, setup.lease * 2)) }));
    }
    if rng.chance(500) {
        line.push((at, Fault::Broker(Weather::draw(rng, setup.lease))));
    }
    if rng.chance(200) {
        let down = ms(rng.scale(20, setup.lease * 4));
        line.push((at + ms(rng.below(setup.lease * 4)), Fault::BrokerRestart { down, keeps: true }));
    }
}

/// Agents that lose their memory again and again while the network is bad.
fn restarts(rng: &mut Rng, setup: &Setup, begin: Micros, length: Micros, line: &mut Timeline) {
    if rng.chance(500) {
        line.push((begin, Fault::Weather(Weather::draw(rng, setup.lease))));
    }
    for _ in 0..rng.range(2, 8) {
        let at = begin + rng.below(length);
        let (host, down) = (rng.index(setup.hosts), ms(rng.scale(20, setup.lease * 2)));
        line.push((
            at,
            match rng.below(3) {
                0 => Fault::AgentRestart { host, down },
                _ => Fault::AgentCrash { host, down, after_actions: rng.index(6) },
            },
        ));
        if rng.chance(600) {
            // Its peers change their views just then.
            let (before, stays) =
                (ms(rng.below(setup.lease)), ms(rng.scale(setup.lease / 8, setup.lease * 3)));
            partition(rng, setup, at.saturating_sub(before), stays, line);
        }
    }
}

/// One host after another is lost, some come back at once.
fn deaths_in_a_row(rng: &mut Rng, setup: &Setup, begin: Micros, length: Micros, line: &mut Timeline) {
    let mut at = begin;
    for _ in 0..rng.range(2, 6) {
        let host = rng.index(setup.hosts);
        line.push((
            at,
            match rng.below(5) {
                0 => Fault::Leave { host, back: rng.chance(700).then(|| ms(rng.scale(20, 5000))) },
                _ => Fault::PowerLoss { host, back: rng.chance(700).then(|| ms(rng.scale(50, 8000))) },
            },
        ));
        if rng.chance(500) {
            let stays = ms(rng.scale(setup.lease / 8, setup.lease * 4));
            let later = at + ms(rng.below(setup.lease));
            partition(rng, setup, later, stays, line);
        }
        if rng.chance(300) {
            let (host, down) = (rng.index(setup.hosts), ms(rng.scale(20, setup.lease)));
            line.push((
                at + ms(rng.below(setup.lease * 2)),
                Fault::AgentCrash { host, down, after_actions: rng.index(6) },
            ));
        }
        at += ms(rng.scale(setup.lease / 4, setup.lease * 6));
        if at > begin + length {
            break;
        }
    }
}

/// Everything goes wrong while a first electorate forms.
fn cold_chaos(rng: &mut Rng, setup: &Setup, length: Micros, line: &mut Timeline) {
    let length = length.min(ms(setup.boot_wait * 6 + 2000));
    for _ in 0..rng.range(2, 9) {
        let at = rng.below(length);
        let kind = rng.pick(&[0, 1, 2, 2, 3, 3, 4, 5, 6, 7, 10]);
        draw_fault(rng, setup, at, kind, line);
    }
}

/// Hosts that stand still at the wrong moment, together with what they miss.
fn frozen_hosts(rng: &mut Rng, setup: &Setup, begin: Micros, length: Micros, line: &mut Timeline) {
    for _ in 0..rng.range(1, 4) {
        let at = begin + rng.below(length);
        let host = rng.index(setup.hosts);
        line.push((at, Fault::Freeze { host, length: ms(rng.scale(setup.lease / 2, setup.lease * 12)) }));
        let other = rng.pick(&[0, 1, 2, 3, 4, 10, 10]);
        let later = at + ms(rng.below(setup.lease * 2));
        draw_fault(rng, setup, later, other, line);
        if rng.chance(400) {
            // Its own BMC does not help, so that it comes back as it was.
            line.push((
                at,
                Fault::Bmc { host, mode: rng.pick(&[BmcMode::Dead, BmcMode::Refusing, BmcMode::Lying]) },
            ));
        }
    }
}

/// Fences that take longer than what they are about: late commands, late answers, journals that hang.
fn slow_fences(rng: &mut Rng, setup: &Setup, begin: Micros, length: Micros, line: &mut Timeline) {
    for host in 0..setup.hosts {
        if rng.chance(700) {
            let takes = ms(rng.scale(20, 12_000));
            let mode = rng.pick(&[
                BmcMode::Fine(takes),
                BmcMode::Late(takes),
                BmcMode::Deaf(takes),
                BmcMode::Vague,
                BmcMode::Twice(takes),
            ]);
            line.push((begin, Fault::Bmc { host, mode }));
        }
        if rng.chance(200) {
            line.push((begin, Fault::Journal { host, fails: true }));
            line.push((begin + rng.below(length), Fault::Journal { host, fails: false }));
        }
    }
    for _ in 0..rng.range(1, 4) {
        let kind = rng.pick(&[1, 2, 3, 3, 4, 7]);
        let at = begin + rng.below(length);
        draw_fault(rng, setup, at, kind, line);
    }
}

/// What a host said before it was lost, left or changed its mind arrives once more when all that is over.
fn old_words(rng: &mut Rng, setup: &Setup, begin: Micros, length: Micros, line: &mut Timeline) {
    let mut at = begin;
    for _ in 0..rng.range(1, 4) {
        let host = rng.index(setup.hosts);
        echo(rng, setup, at, host, line);
        let (lost, soon) = (at + ms(rng.below(setup.lease * 2)), ms(rng.scale(20, 3000)));
        line.push((
            lost,
            match rng.below(6) {
                0..=1 => Fault::PowerLoss { host, back: Some(soon) },
                2 => Fault::AgentCrash { host, down: soon, after_actions: rng.index(6) },
                3 => Fault::AgentRestart { host, down: soon },
                4 => Fault::Leave { host, back: Some(soon) },
                _ => Fault::Freeze { host, length: soon },
            },
        ));
        if rng.chance(500) {
            let stays = ms(rng.scale(setup.lease / 8, setup.lease * 4));
            let later = at + ms(rng.below(setup.lease * 2));
            partition(rng, setup, later, stays, line);
        }
        at += ms(rng.scale(setup.lease, setup.lease * 8));
        if at > begin + length {
            break;
        }
    }
}

/// A host is cut off and no BMC helps: its watchdog is all that there is, and everything delays its last feed.
fn watchdog_alone(rng: &mut Rng, setup: &Setup, begin: Micros, length: Micros, line: &mut Timeline) {
    let Some(timeout) = setup.watchdog else {
        return mix(rng, setup, begin, length, line);
    };
    let (victim, timeout) = (rng.index(setup.hosts), ms(timeout * 1000));
    let mode = rng.pick(&[BmcMode::Dead, BmcMode::Refusing, BmcMode::Vague]);
    line.push((0, Fault::Bmc { host: victim, mode }));
    // Now and then it is lost while it joins.
    let at = if rng.chance(300) { begin.saturating_sub(rng.below(ms(setup.lease * 6))) } else { begin };
    let cut = |line: &mut Timeline, at: Micros, until: Micros, one: usize| {
        for other in (0..setup.hosts).filter(|other| *other != one) {
            for (from, to) in [(one, other), (other, one)] {
                line.push((at, Fault::Way { from, to, cut: true }));
                line.push((until, Fault::Way { from, to, cut: false }));
            }
        }
    };
    cut(line, at, at + timeout * 5, victim);
    if setup.witness {
        line.push((at, Fault::WitnessWay { host: victim, cut: true }));
        line.push((at + timeout * 5, Fault::WitnessWay { host: victim, cut: false }));
    }
    if rng.chance(600) {
        let before = ms(rng.below(setup.lease * 2));
        let stays = timeout.saturating_sub(ms(rng.scale(1, 1000)));
        line.push((
            (at + ms(setup.lease)).saturating_sub(before),
            Fault::FreezeAtFeed { host: victim, length: stays },
        ));
    }
    if rng.chance(400) {
        let down = ms(rng.scale(20, setup.lease * 4));
        let crash = at + rng.below(timeout);
        line.push((crash, Fault::AgentCrash { host: victim, down, after_actions: rng.index(6) }));
    }
    for _ in 0..rng.below(3) {
        // Whoever counts the time has a gap in its quorum, or stands still.
        let (host, when) = (rng.index(setup.hosts), at + rng.below(timeout * 4));
        let stays = ms(rng.scale(setup.lease, setup.lease * 6));
        if rng.chance(500) {
            cut(line, when, when + stays, host);
        } else {
            line.push((when, Fault::Freeze { host, length: stays }));
        }
    }
}

fn draw_fault(rng: &mut Rng, setup: &Setup, at: Micros, kind: u64, line: &mut Timeline) {
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

fn echo(rng: &mut Rng, setup: &Setup, at: Micros, host: usize, line: &mut Timeline) {
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

fn partition(rng: &mut Rng, setup: &Setup, at: Micros, length: Micros, line: &mut Timeline) {
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
