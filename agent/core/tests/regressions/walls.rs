//! A host that every other one keeps out by its own firewall: who orders it, who says so, and when it is a proof.

use std::sync::Arc;

use palisade_core::action::{DeviceOrder, WorkloadReport};
use palisade_core::config::Cluster;
use palisade_core::standing::{Saved, SavedState};
use palisade_ladder::{Command, DeviceId, Failure, Reading, Response};
use palisade_proto::message::{Grant, Presence};
use palisade_proto::{Founding, Incarnation, Names, Time, WorkloadId};

use crate::common::{BEGIN, Bench, life, parsed, text};

const WALL: DeviceId = DeviceId(3);

/// Hosts a, b, c; c is kept out by the others while its BMC is asked. w0 has no other way to its state than the network.
fn cluster() -> Arc<Cluster> {
    parsed(&text_of_cluster())
}

fn text_of_cluster() -> String {
    let wall = "[[device]]\nname = \"net-c\"\nkind = \"nft\"\non = \"survivors\"\nfences = \"c\"\naddresses = [\"10.0.0.3\"]\n\
                level = 2\nrace = true\n[[workload]]";
    let text = text(3, "", &[0]).replacen("[[workload]]", wall, 1);
    text.replacen("hosts = [\"a\", \"b\"]", "hosts = [\"c\", \"a\"]\nproofs = [\"network_cut\"]", 1)
}

fn member() -> Saved {
    let mut saved = Saved::new(0);
    (saved.admitted, saved.found) = (true, Some(Founding { decider: life(9, 9), epoch: 1 }));
    saved
}

/// a counts b and c, and its firewall lets everybody through; then c is not heard any more.
fn lost() -> Bench {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut saved = member();
    let me = Bench::start(cluster(), SavedState::Found(Box::new(saved.clone())), BEGIN).me();
    saved.electorate = vec![me, b, c];
    let mut bench = Bench::start(cluster(), SavedState::Found(Box::new(saved)), BEGIN);
    bench.wall_reads(Reading::On);
    bench.live(2_500, &[b, c]);
    bench.live(1_300, &[b]);
    bench
}

fn names(who: &[Incarnation]) -> Names {
    who.iter().copied().collect()
}

impl Bench {
    fn wall_order(&self) -> Option<DeviceOrder> {
        self.orders.iter().rev().find(|order| order.device == WALL).copied()
    }

    fn wall_reads(&mut self, reading: Reading) {
        let order = self.wall_order().unwrap();
        assert_eq!(order.command, Command::Read);
        self.answer(&order, Response::Reads(reading));
    }

    /// This host does what it was told about its own firewall, and reads it back.
    fn wall_done(&mut self, command: Command, reads: Reading) {
        let order = self.wall_order().unwrap();
        assert_eq!(order.command, command);
        self.answer(&order, Response::Acknowledged);
        self.wall_reads(reads);
    }

    /// b says once what it keeps out, and that it has heard `seq` of ours.
    fn b_walls(&mut self, walled: &[Incarnation], seq: u64) {
        let b = life(1, 1);
        self.now += 1;
        let mut word = self.word(b, self.now * 1000 + 1, &[b]);
        (word.speaks, word.walls, word.walled) = (2, names(walled), names(walled));
        word.grants = [Grant { to: self.me(), seq: self.last_seq() }].into_iter().collect();
        word.echo.iter_mut().for_each(|echo| echo.seq = seq);
        self.hear(word);
    }

    /// `live`, while b says that it keeps c out.
    fn live_walled(&mut self, ms: u64, c: Incarnation) {
        for _ in 0..ms / 50 {
            self.wait(50);
            let seq = self.last_seq();
            self.b_walls(&[c], seq);
        }
    }
}

/// SAFE-4: only what every host says after it has heard of the order is a proof.
#[test]
fn safe_4_everybody_reads_back_what_it_keeps_out_after_the_order() {
    let c = life(2, 1);
    let mut bench = lost();
    assert!(bench.told().walls.is_empty(), "b was last heard to read version 1 alone");
    let order = bench.wall_order().unwrap();
    assert_eq!((order.command, bench.engine.order_whom(order.id)), (Command::Off, Some(c)));
    // SAFE-2: no longer than the quorum lasts.
    assert!(
        order
            .standing_until
            .is_some_and(|until| until > Time(bench.now) && Some(until) <= bench.engine.quorum_until())
    );
    let before = bench.last_seq();
    bench.b_walls(&[], before);
    bench.wait(200);
    assert!(bench.told().walls.contains(c) && bench.told().walled.is_empty(), "ordered is not done");
    assert!(bench.saved.walls == [c], "a restart of the agent knows it");
    bench.wall_done(Command::Off, Reading::Off);
    bench.wait(20);
    assert!(bench.told().walled.contains(c));
    // b says so, in answer to what was said before the order.
    for _ in 0..10 {
        bench.b_walls(&[c], before - 1_000_000);
        bench.wait(50);
    }
    assert!(bench.told().cut.is_empty(), "its wall may have been up for something else, and be gone");
    bench.live_walled(500, c);
    assert!(bench.told().cut.contains(c) && !bench.is_dead(c));
    assert_eq!(bench.acts, [(WorkloadId(0), palisade_core::action::Act::Start)]);
}

/// Somebody flushes the rules: the wall is missed within a second, and put up again.
#[test]
fn a_wall_that_is_gone_is_put_up_again_while_its_life_goes_on() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = lost();
    bench.wall_done(Command::Off, Reading::Off);
    bench.live_walled(1_000, c);
    bench.report(WorkloadReport::Started);
    assert!(bench.told().cut.contains(c));
    bench.live_walled(1_100, c);
    bench.wall_reads(Reading::On);
    bench.live_walled(100, c);
    assert!(!bench.told().walled.contains(c), "it is not said to stand");
    bench.wall_done(Command::Off, Reading::Off);
    // The order is of no matter any more: whoever has the proof may act on it.
    bench.live_walled(1_000, c);
    let mut word = bench.word(c, bench.now * 1000 + 2, &[b, c]);
    word.busy = [WorkloadId(0)].into_iter().collect();
    bench.hear(word);
    bench.live(500, &[b, c]);
    assert!(bench.orders.iter().all(|order| order.device != WALL || order.command != Command::On));
    // It speaks as a new life: the old one is dead, and its wall goes. Whoever is not read open keeps the new one out.
    let again = life(2, 2);
    let join = |bench: &mut Bench, walls: &[Incarnation]| {
        for _ in 0..300 {
            bench.wait(50);
            let seq = bench.last_seq();
            bench.b_walls(walls, seq);
            let mut word = bench.word(again, bench.now * 1000 + 2, &[]);
            (word.presence, word.electorate, word.view) = (Presence::Joining, Names::new(), Names::new());
            bench.hear(word);
        }
    };
    let counted = |bench: &Bench| bench.engine.counted().contains(&again);
    join(&mut bench, &[c]);
    assert!(bench.is_dead(c) || !bench.engine.counted().contains(&c));
    assert!(!counted(&bench), "b keeps it out, and so does this host");
    bench.wall_done(Command::Read, Reading::Off);
}

/// What an earlier process had put up stays, and what nobody knows of is taken down.
#[test]
fn a_new_process_keeps_the_walls_of_the_one_before_and_no_others() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut saved = member();
    saved.electorate = vec![life(0, 0), b, c];
    let me = Bench::start(cluster(), SavedState::Found(Box::new(saved.clone())), BEGIN).me();
    (saved.electorate, saved.walls) = (vec![me, b, c], vec![c]);
    let mut kept = Bench::start(cluster(), SavedState::Found(Box::new(saved.clone())), BEGIN);
    kept.wall_reads(Reading::Off);
    kept.wait(300);
    assert!(kept.told().walled.contains(c), "nobody is heard who could not read it");
    assert!(kept.orders.iter().all(|order| order.command != Command::On));
    saved.walls = Vec::new();
    let mut other = Bench::start(cluster(), SavedState::Found(Box::new(saved)), BEGIN);
    other.wall_reads(Reading::Off);
    assert_eq!(other.wall_order().unwrap().command, Command::On);
    assert!(other.saved.walls.is_empty());
}

/// Whoever is not taken in yet does what the coordinator that it hears says, and undoes it only on its word.
#[test]
fn a_host_that_is_not_taken_in_yet_follows_the_coordinator_alone() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = Bench::start(cluster(), SavedState::Absent, BEGIN);
    bench.wall_reads(Reading::On);
    let say = |bench: &mut Bench, quorate: bool, walls: &[Incarnation], counted: &[Incarnation]| {
        for _ in 0..6 {
            bench.wait(50);
            let mut word = bench.word(b, bench.now * 1000 + 1, &[b]);
            (word.speaks, word.quorate, word.view) = (2, quorate, names(&[b]));
            (word.walls, word.electorate) = (names(walls), names(counted));
            bench.hear(word);
        }
    };
    say(&mut bench, false, &[c], &[b, c]);
    assert_eq!(bench.wall_order().unwrap().command, Command::Read, "it has no quorum");
    say(&mut bench, true, &[c], &[b, c]);
    bench.wall_done(Command::Off, Reading::Off);
    say(&mut bench, true, &[c], &[b, c]);
    assert!(bench.told().walled.contains(c) && !bench.engine.admitted());
    // The coordinator is lost, or restarts, or has somebody to talk to who reads less: none of that is a word about c.
    bench.wait(5_000);
    say(&mut bench, false, &[], &[b]);
    say(&mut bench, true, &[], &[b, c]);
    assert!(bench.orders.iter().all(|order| order.command != Command::On) && bench.saved.walls == [c]);
    // Neither does it forget it in its next life.
    let mut saved = bench.saved.clone();
    saved.left = true;
    let mut next = Bench::start(cluster(), SavedState::Found(Box::new(saved)), BEGIN);
    next.wall_reads(Reading::Off);
    next.wait(2_000);
    assert!(next.told().walled.contains(c) && next.orders.iter().all(|order| order.command != Command::On));
    say(&mut bench, true, &[], &[b]);
    let order = bench.wall_order().unwrap();
    bench.answer(&order, Response::Reads(Reading::Off));
    bench.wall_done(Command::On, Reading::On);
    say(&mut bench, true, &[], &[b]);
    assert!(bench.told().walls.is_empty());
}

/// SAFE-4: whoever reads another configuration keeps out other addresses.
#[test]
fn safe_4_a_peer_with_another_configuration_keeps_out_somebody_else() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut bench = lost();
    bench.wall_done(Command::Off, Reading::Off);
    for _ in 0..20 {
        bench.wait(50);
        let mut word = bench.word(b, bench.now * 1000 + 1, &[b]);
        (word.speaks, word.walls, word.walled) = (2, names(&[c]), names(&[c]));
        word.grants = [Grant { to: bench.me(), seq: bench.last_seq() }].into_iter().collect();
        word.digest = [9; 8];
        bench.hear(word);
    }
    assert!(bench.told().cut.is_empty());
    bench.live_walled(2_000, c);
    assert!(bench.told().cut.contains(c));
}

/// A wall outlasts the fence that it was for: a life that everybody takes for a member again ends, and its next one is let through.
#[test]
fn a_member_that_is_kept_out_begins_a_new_life() {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut saved = member();
    let me = Bench::start(cluster(), SavedState::Found(Box::new(saved.clone())), BEGIN).me();
    saved.electorate = vec![me, b, c];
    let mut bench = Bench::start(cluster(), SavedState::Found(Box::new(saved)), BEGIN);
    bench.live(2_500, &[b, c]);
    let mut word = bench.word(b, bench.now * 1000 + 1, &[b, c]);
    (word.walls, word.walled) = (names(&[me]), names(&[me]));
    word.view = names(&[b, c]);
    bench.hear(word.clone());
    bench.live(200, &[b, c]);
    assert!(bench.exits().is_empty(), "b does not stand with it yet");
    word.seq = bench.now * 1000 + 1;
    word.view = names(&[me, b, c]);
    bench.hear(word);
    bench.live(500, &[b, c]);
    assert_eq!(bench.exits(), [palisade_core::action::ExitKind::Reborn]);
}

/// Shadow mode puts up nothing, and lets go of what stands once that life is over: else its host would be kept out for ever.
#[test]
fn shadow_mode_puts_nothing_up_and_lets_go() {
    let (b, c) = (life(1, 1), life(2, 1));
    let shadow = text_of_cluster().replacen("[[host]]", "[fencing]\nmode = \"shadow\"\n[[host]]", 1);
    let mut saved = member();
    let me = Bench::start(cluster(), SavedState::Found(Box::new(saved.clone())), BEGIN).me();
    (saved.electorate, saved.walls) = (vec![me, b, c], vec![c]);
    let mut bench = Bench::start(parsed(&shadow), SavedState::Found(Box::new(saved)), BEGIN);
    bench.wall_reads(Reading::On);
    bench.live(3_000, &[b]);
    assert!(bench.orders.iter().all(|order| order.command != Command::Off), "flushed, and left so");
    assert!(bench.told().cut.is_empty() && bench.offs().is_empty());
    let mut word = bench.word(b, bench.now * 1000 + 1, &[b]);
    word.dead = names(&[c]);
    bench.hear(word);
    bench.live(200, &[b]);
    bench.wall_reads(Reading::Off);
    bench.wall_done(Command::On, Reading::On);
    assert!(bench.saved.walls.is_empty());
}

/// What does not help is tried less and less often: each try is on the record.
#[test]
fn a_firewall_that_will_not_is_asked_ever_less_often() {
    let c = life(2, 1);
    let mut bench = lost();
    let mut offs = 0;
    for _ in 0..600 {
        let order = bench.orders.last().copied().filter(|order| order.device == WALL);
        bench.orders.clear();
        if let Some(order) = order {
            offs += usize::from(order.command == Command::Off);
            let answer = match order.command {
                Command::Off => Response::Acknowledged,
                _ => Response::Reads(Reading::Unknown),
            };
            bench.answer(&order, answer);
        }
        bench.live_walled(100, c);
    }
    assert!((4..=8).contains(&offs), "{offs} within a minute");
    assert!(bench.told().cut.is_empty());
}

/// A firewall that does not do what it is told proves nothing, and says so.
#[test]
fn a_wall_that_cannot_be_put_up_is_an_alarm_and_no_proof() {
    let c = life(2, 1);
    let mut bench = lost();
    let order = bench.wall_order().unwrap();
    let failed = Failure::Refused { code: "exit status 127: nft: not found".to_owned() };
    bench.engine.handle_device(order.id, Err(failed), Time(bench.now));
    bench.live_walled(500, c);
    assert!(bench.has_alarm(
        "the firewall of this host does not do what it is told about c: refused: exit status 127"
    ));
    assert!(bench.told().cut.is_empty() && !bench.told().walled.contains(c));
    bench.live_walled(1_000, c);
    bench.wall_reads(Reading::On);
    bench.wall_done(Command::Off, Reading::Off);
    bench.live_walled(500, c);
    assert!(!bench.has_alarm("the firewall of this host"));
    assert!(bench.told().cut.contains(c));
}
