//! Plots: ways for things to go wrong together that the protocol has a rule against.

use super::ailing::ailing;
use super::faults::{BmcMode, Fault, Timeline, Weather};
use super::maintenance::maintenance;
use super::timeline::{draw_fault, echo, mix, partition};
use super::{Micros, Rng, Setup, ms};

/// What a history is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plot {
    /// Faults of all kinds, one kind of them more than the rest.
    Mix,
    /// Partitions that change within a lease.
    Flapping,
    /// The witness is lost, restarted or late in a split.
    WitnessInASplit,
    /// An even cluster is split into halves again and again, in other ways.
    Halves,
    /// Agents lose their memory while the network is bad.
    Restarts,
    /// One host after another is lost.
    DeathsInARow,
    /// Everything goes wrong while a first electorate forms.
    ColdChaos,
    /// Hosts stand still at the wrong moment.
    FrozenHosts,
    /// Fences take longer than what they are about.
    SlowFences,
    /// A host is cut off and only its watchdog helps.
    WatchdogAlone,
    /// Two hosts that do not hear each other are in the quorum by turns, and only watchdogs help.
    Seesaw,
    /// What a host said arrives once more when all is over.
    OldWords,
    /// A host is cut off from some while it is being taken in.
    LateJoin,
    /// A host comes back while another is lost and no fence of it succeeds.
    JoinBesideLoss,
    /// Machines start workloads by themselves when they boot.
    Strays,
    /// A BMC is lost with its host, which stands still or is cut off, and comes back as it was: only its network can be cut.
    CutOff,
    /// Everybody keeps a host out, and whoever holds the proof of it is cut off himself before he could say so.
    LostProof,
    /// Nothing that could cost a host its power: any cut is a failure.
    Harmless,
    /// Probes fail, on one host, on some or on all of them.
    Ailing,
    /// Operators keep hosts out and let them back.
    Maintenance,
}

impl Plot {
    /// From which a seed draws its own; the more often, the more of them there are.
    pub(super) const DRAWN: [Self; 24] = [
        Self::Flapping,
        Self::Flapping,
        Self::WitnessInASplit,
        Self::Halves,
        Self::Restarts,
        Self::DeathsInARow,
        Self::ColdChaos,
        Self::ColdChaos,
        Self::FrozenHosts,
        Self::SlowFences,
        Self::WatchdogAlone,
        Self::Seesaw,
        Self::OldWords,
        Self::LateJoin,
        Self::JoinBesideLoss,
        Self::Strays,
        Self::Mix,
        Self::Mix,
        Self::Mix,
        Self::Mix,
        Self::Mix,
        Self::Mix,
        Self::Mix,
        Self::Mix,
    ];

    /// All, with their names on the command line.
    pub const NAMES: [(&str, Self); 20] = [
        ("mix", Self::Mix),
        ("flapping", Self::Flapping),
        ("witness-in-a-split", Self::WitnessInASplit),
        ("halves", Self::Halves),
        ("restarts", Self::Restarts),
        ("deaths-in-a-row", Self::DeathsInARow),
        ("cold-chaos", Self::ColdChaos),
        ("frozen-hosts", Self::FrozenHosts),
        ("slow-fences", Self::SlowFences),
        ("watchdog-alone", Self::WatchdogAlone),
        ("seesaw", Self::Seesaw),
        ("old-words", Self::OldWords),
        ("late-join", Self::LateJoin),
        ("join-beside-loss", Self::JoinBesideLoss),
        ("strays", Self::Strays),
        ("cut-off", Self::CutOff),
        ("lost-proof", Self::LostProof),
        ("ailing", Self::Ailing),
        ("maintenance", Self::Maintenance),
        ("harmless", Self::Harmless),
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, plot)| *plot == self).map_or("", |(name, _)| name)
    }

    /// Whether it can happen in such a cluster.
    pub(super) fn suits(self, setup: &Setup) -> bool {
        match self {
            Self::WitnessInASplit => setup.witness,
            Self::Halves => setup.witness && setup.hosts.is_multiple_of(2) && (4..=6).contains(&setup.hosts),
            Self::WatchdogAlone => setup.watchdog.is_some(),
            Self::Seesaw => setup.watchdog.is_some() && setup.hosts == 3,
            // Whoever remains is a quorum of those who were, and none of those who would be with one more.
            Self::JoinBesideLoss => setup.hosts == 4 || (setup.hosts == 3 && setup.witness),
            Self::LostProof => setup.isolation.is_some() && setup.walls && (3..=7).contains(&setup.hosts),
            Self::CutOff => setup.isolation.is_some() && (setup.hosts > 2 || setup.witness),
            // Beyond the bound a healthy host may look silent.
            Self::Harmless => !setup.wild,
            Self::Ailing => setup.probes && !setup.wild,
            _ => true,
        }
    }

    /// How long it takes, if others take `length`.
    pub(super) fn length(self, setup: &Setup, length: Micros) -> Micros {
        let timeout = setup.watchdog.unwrap_or(0);
        match self {
            // A watchdog's bound is three time-outs and a margin.
            Self::WatchdogAlone | Self::Seesaw => length.max(ms(timeout * 6000)),
            Self::LateJoin | Self::JoinBesideLoss => {
                length.max(ms(timeout * 5000 + setup.rejoin_hold * 2 + 4000))
            }
            Self::Ailing | Self::Maintenance => length * 3,
            _ => length,
        }
    }

    /// Writes it down, from `begin` on.
    pub(super) fn happen(
        self,
        rng: &mut Rng,
        setup: &Setup,
        begin: Micros,
        length: Micros,
        line: &mut Timeline,
    ) {
        let plot = match self {
            Self::Mix => mix,
            // It has a length of its own.
            Self::Harmless => return,
            Self::Flapping => flapping,
            Self::WitnessInASplit => witness_in_a_split,
            Self::Halves => halves,
            Self::Restarts => restarts,
            Self::DeathsInARow => deaths_in_a_row,
            Self::ColdChaos => return cold_chaos(rng, setup, length, line),
            Self::FrozenHosts => frozen_hosts,
            Self::SlowFences => slow_fences,
            Self::WatchdogAlone => watchdog_alone,
            Self::Seesaw => seesaw,
            Self::OldWords => old_words,
            Self::LateJoin => late_join,
            Self::JoinBesideLoss => join_beside_loss,
            Self::Strays => strays,
            Self::CutOff => cut_off,
            Self::LostProof => lost_proof,
            Self::Ailing => ailing,
            Self::Maintenance => maintenance,
        };
        plot(rng, setup, begin, length, line);
    }
}

/// What must never cost anybody his power: agents restarted, crashed and back at once, hosts that leave and return, a witness
/// that restarts, on a network with nothing wrong. Returns when it is over.
pub(super) fn harmless(rng: &mut Rng, setup: &Setup, formed: Micros, line: &mut Timeline) -> Micros {
    let mut at = formed;
    if rng.chance(300) {
        // An ask, the wait for the next heartbeat and the answer take less than a lease together.
        line.push((0, Fault::Weather(Weather { delay: (100, ms(setup.heartbeat)), ..Weather::CALM })));
    }
    for _ in 0..rng.range(1, 6) {
        let host = rng.index(setup.hosts);
        let quick = ms(rng.scale(5, setup.lease / 4));
        if rng.chance(150) {
            upgrade(rng, setup, at, line);
        } else {
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
        }
        // Until everybody is back and every vote counts again.
        at += ms(setup.restart_hold + setup.rejoin_hold + setup.lease * 6 + 10_000);
    }
    at
}

/// Agents of several hosts are restarted together, each once.
fn upgrade(rng: &mut Rng, setup: &Setup, at: Micros, line: &mut Timeline) {
    for host in 0..setup.hosts {
        if rng.chance(700) {
            let (after, down) = (rng.below(setup.restart_hold / 2), rng.scale(5, setup.restart_hold / 2));
            line.push((at + ms(after), Fault::AgentRestart { host, down: ms(down) }));
        }
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
        let (host, lost) = two(rng, setup);
        let length = ms(rng.scale(setup.lease / 2, setup.lease * 12));
        if rng.chance(250) {
            line.push((at, Fault::FreezeAtIntent { host, length }));
            isolate(setup, at, at + length, lost, line);
        } else {
            line.push((at, Fault::Freeze { host, length }));
        }
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

/// Hosts stand still or are cut off, their BMCs are lost with them, and they come back as they were.
fn cut_off(rng: &mut Rng, setup: &Setup, begin: Micros, length: Micros, line: &mut Timeline) {
    for _ in 0..rng.range(1, 4) {
        let (host, at) = (rng.index(setup.hosts), begin + rng.below(length));
        let stays = ms(rng.scale(setup.lease, setup.lease * 20));
        let mode = rng.pick(&[BmcMode::Dead, BmcMode::Refusing, BmcMode::Vague, BmcMode::Lying]);
        line.push((at, Fault::Bmc { host, mode }));
        super::timeline::path_beside(rng, setup, at, host, line);
        if rng.chance(600) {
            line.push((at + ms(1), Fault::Freeze { host, length: stays }));
        } else {
            isolate(setup, at, at + stays, host, line);
        }
        if rng.chance(300) {
            let (kind, later) = (rng.below(13), at + rng.below(stays));
            draw_fault(rng, setup, later, kind, line);
        }
    }
}

fn lost_proof(rng: &mut Rng, setup: &Setup, begin: Micros, length: Micros, line: &mut Timeline) {
    let at = begin + rng.below(length);
    // The lowest one coordinates.
    let victim = 1 + rng.index(setup.hosts - 1);
    let mode = rng.pick(&[BmcMode::Dead, BmcMode::Refusing]);
    line.push((at, Fault::Bmc { host: victim, mode }));
    let suspected = at + ms(setup.suspect);
    let stays = ms(setup.suspect + rng.below(setup.lease * 3));
    line.push((at + 1, Fault::Freeze { host: victim, length: stays }));
    let cut = suspected + rng.below(ms(setup.lease));
    isolate(setup, cut, cut + ms(rng.range(setup.lease, setup.lease * 6)), 0, line);
}

/// A host is cut off and no BMC helps: its watchdog is all that there is, and everything delays its last feed.
fn watchdog_alone(rng: &mut Rng, setup: &Setup, begin: Micros, _: Micros, line: &mut Timeline) {
    let (victim, timeout) = (rng.index(setup.hosts), ms(setup.watchdog.unwrap_or(0) * 1000));
    let mode = rng.pick(&[BmcMode::Dead, BmcMode::Refusing, BmcMode::Vague]);
    line.push((0, Fault::Bmc { host: victim, mode }));
    // Now and then it is lost while it joins.
    let at = if rng.chance(300) { begin.saturating_sub(rng.below(ms(setup.lease * 6))) } else { begin };
    isolate(setup, at, at + timeout * 5, victim, line);
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
            isolate(setup, when, when + stays, host, line);
        } else {
            line.push((when, Fault::Freeze { host, length: stays }));
        }
    }
}

/// An even cluster falls into halves, in other ways again and again, and old asks come to the witness once more.
fn halves(rng: &mut Rng, setup: &Setup, begin: Micros, length: Micros, line: &mut Timeline) {
    let mut at = begin;
    while at < begin + length {
        let stays = ms(rng.scale(setup.lease / 2, setup.lease * 5));
        let mut order: Vec<usize> = (0..setup.hosts).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, rng.index(last + 1));
        }
        let (left, right) = order.split_at(setup.hosts / 2);
        for (one, other) in left.iter().flat_map(|one| right.iter().map(move |other| (*one, *other))) {
            between(one, other, at, at + stays, line);
        }
        for host in 0..setup.hosts {
            if rng.chance(400) {
                let (speaks, late) = (ms(rng.scale(50, setup.lease * 2)), ms(rng.scale(50, setup.lease * 4)));
                let later = at + rng.below(stays);
                line.push((later, Fault::Echo { host, length: speaks, late }));
            }
        }
        at += stays;
    }
}

/// Two of three hosts do not hear each other and share the third by turns, each for less than its watchdog bears.
fn seesaw(rng: &mut Rng, setup: &Setup, begin: Micros, length: Micros, line: &mut Timeline) {
    let timeout = ms(setup.watchdog.unwrap_or(0) * 1000);
    let third = rng.index(setup.hosts);
    let (one, other) = ((third + 1) % setup.hosts, (third + 2) % setup.hosts);
    for host in 0..setup.hosts {
        line.push((0, Fault::Bmc { host, mode: rng.pick(&[BmcMode::Dead, BmcMode::Refusing]) }));
    }
    between(one, other, begin, begin + length, line);
    let mut at = begin;
    let mut turn = one;
    while at < begin + length {
        // A quorum takes a lease to be lost, and as long to be had again.
        let stays = ms(setup.lease * 2) + rng.below(timeout / 2);
        between(turn, third, at, at + stays, line);
        turn = if turn == one { other } else { one };
        at += stays;
    }
}

/// A host comes back, and is cut off from some of the others about when it is taken in.
fn late_join(rng: &mut Rng, setup: &Setup, begin: Micros, length: Micros, line: &mut Timeline) {
    let host = rng.index(setup.hosts);
    let back = ms(rng.scale(50, 2000));
    if rng.chance(700) {
        line.push((begin, Fault::Weather(Weather::draw(rng, setup.lease))));
    }
    line.push((
        begin,
        match rng.below(3) {
            0 => Fault::Leave { host, back: Some(back) },
            _ => Fault::PowerLoss { host, back: Some(back) },
        },
    ));
    if rng.chance(700) {
        let mode = rng.pick(&[BmcMode::Dead, BmcMode::Refusing, BmcMode::Lying]);
        line.push((begin + ms(1), Fault::Bmc { host, mode }));
    }
    let joins = begin + back + ms(setup.rejoin_hold) + ms(rng.below(setup.lease * 3));
    let stays = if rng.chance(500) { length } else { ms(rng.scale(setup.lease / 4, setup.lease * 8)) };
    for other in (0..setup.hosts).filter(|other| *other != host) {
        for (from, to) in [(host, other), (other, host)] {
            if rng.chance(600) {
                line.push((joins, Fault::Way { from, to, cut: true }));
                line.push((joins + stays, Fault::Way { from, to, cut: false }));
            }
        }
    }
    for _ in 0..rng.below(3) {
        let (at, kind) = (joins + ms(rng.below(setup.lease * 4)), rng.pick(&[1, 2, 3, 4, 6, 7, 11]));
        draw_fault(rng, setup, at, kind, line);
    }
}

/// A host has left and comes back about when another is lost, whose BMC is lost with it for the while.
fn join_beside_loss(rng: &mut Rng, setup: &Setup, begin: Micros, length: Micros, line: &mut Timeline) {
    let (joins, lost) = two(rng, setup);
    line.push((begin, Fault::Leave { host: joins, back: Some(ms(rng.scale(50, 1000))) }));
    let taken_in = begin + ms(setup.lease * 2 + setup.rejoin_hold);
    let at = (taken_in + rng.below(ms(setup.rejoin_hold))).saturating_sub(ms(setup.lease * 2));
    let mode = rng.pick(&[BmcMode::Dead, BmcMode::Refusing]);
    line.push((at, Fault::Bmc { host: lost, mode }));
    if rng.chance(500) {
        line.push((at, Fault::PowerLoss { host: lost, back: None }));
    } else {
        isolate(setup, at, begin + length, lost, line);
        line.push((at, Fault::WitnessWay { host: lost, cut: true }));
    }
}

/// Machines are lost and come back with workloads running that no agent started.
fn strays(rng: &mut Rng, setup: &Setup, begin: Micros, length: Micros, line: &mut Timeline) {
    for host in 0..setup.hosts {
        if rng.chance(600) {
            line.push((0, Fault::Autostart { host, workload: rng.index(setup.workloads) }));
        }
    }
    deaths_in_a_row(rng, setup, begin, length, line);
}

/// Two different hosts.
fn two(rng: &mut Rng, setup: &Setup) -> (usize, usize) {
    let one = rng.index(setup.hosts);
    (one, (one + 1 + rng.index(setup.hosts - 1)) % setup.hosts)
}

/// Nothing goes either way.
fn between(one: usize, other: usize, from: Micros, until: Micros, line: &mut Timeline) {
    for (sender, to) in [(one, other), (other, one)] {
        line.push((from, Fault::Way { from: sender, to, cut: true }));
        line.push((until, Fault::Way { from: sender, to, cut: false }));
    }
}

fn isolate(setup: &Setup, from: Micros, until: Micros, one: usize, line: &mut Timeline) {
    for other in (0..setup.hosts).filter(|other| *other != one) {
        between(one, other, from, until, line);
    }
}
