//! Paths that fail in ways that no real target does when asked to: against **a fake of ours**, a logical unit in memory that does
//! persistent reservations as far as the driver goes. Real targets: `fencing/devices/tests/scsi.rs`.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use palisade_proto::HostId;

use super::super::way::Path;
use super::super::words::{Reply, Request};
use super::*;

const DEADLINE: Duration = Duration::from_secs(5);
const LUN: [&str; 2] = ["naa.6001405aaaaaaaaa", "naa.6001405bbbbbbbbb"];

/// What stands on one logical unit.
#[derive(Default)]
struct Unit {
    registered: BTreeMap<&'static str, Key>,
    holder: Option<&'static str>,
    /// Refuses PREEMPT AND ABORT.
    cannot_abort: bool,
}

/// How a path fails.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Well,
    Dead,
    /// It is not there for the first so many commands.
    Late(u32),
    /// Inquiries are answered, orders are lost.
    LosesOrders,
    /// Orders are carried out, and their answers are lost.
    LosesAnswers,
}

#[derive(Default)]
struct State {
    units: BTreeMap<&'static str, Unit>,
    ways: Vec<(&'static str, &'static str, Way)>,
    /// Orders that came, by path.
    orders: Vec<&'static str>,
    asked: u32,
}

#[derive(Clone, Default)]
struct World {
    state: Arc<(Mutex<State>, Condvar)>,
    /// Every command waits until this is let go.
    hangs: Arc<Mutex<bool>>,
}

impl World {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap()
    }

    fn path(&self, name: &'static str, lun: &'static str, way: Way) {
        let mut state = self.state();
        state.units.entry(lun).or_default();
        state.ways.push((name, lun, way));
    }

    fn keys(&self, lun: &str) -> Vec<Key> {
        self.state().units[lun].registered.values().copied().collect()
    }
}

struct Route {
    world: World,
    name: &'static str,
    lun: &'static str,
}

/// The paths whose names begin with the host's.
struct Of(World, &'static str);

impl Fabric for Of {
    fn paths(&self, lun: &str) -> Result<Vec<super::Way>, Failure> {
        let state = self.0.state();
        let ours = state.ways.iter().filter(|(name, of, _)| *of == lun && name.starts_with(self.1));
        let route = |name, lun| super::Way::Scsi(Box::new(Route { world: self.0.clone(), name, lun }));
        Ok(ours.map(|(name, lun, _)| route(name, lun)).collect())
    }
}

impl Path for Route {
    fn name(&self) -> &str {
        self.name
    }

    fn command(&mut self, request: &Request) -> Result<Reply, Failure> {
        let mut state = self.world.state();
        state.asked += 1;
        while *self.world.hangs.lock().unwrap() {
            state = self.world.state.1.wait(state).unwrap();
        }
        let lost = || Err(Failure::Unreachable { error: "no answer".into() });
        let order = !request.out.is_empty();
        let way =
            state.ways.iter_mut().find(|(name, lun, _)| (*name, *lun) == (self.name, self.lun)).unwrap();
        match &mut way.2 {
            Way::Dead => return lost(),
            Way::Late(left @ 1..) => {
                *left -= 1;
                return lost();
            }
            Way::LosesOrders if order => return lost(),
            Way::Well | Way::Late(_) | Way::LosesOrders | Way::LosesAnswers => {}
        }
        let loses = way.2 == Way::LosesAnswers && order;
        if order {
            state.orders.push(self.name);
        }
        let unit = state.units.get_mut(self.lun).unwrap();
        let reply = unit.carry_out(self.name, self.lun, request);
        if loses { lost() } else { Ok(reply) }
    }
}

impl Unit {
    fn carry_out(&mut self, path: &'static str, lun: &str, request: &Request) -> Reply {
        let good = |data: Vec<u8>| Reply { data, ..Reply::default() };
        let listed = |body: Vec<u8>| {
            good([&[0, 0, 0, 1][..], &u32::try_from(body.len()).unwrap().to_be_bytes(), &body].concat())
        };
        let conflict = Reply { status: 0x18, ..Reply::default() };
        let key = |at: usize| Key(request.out[at..at + 8].try_into().unwrap());
        match (request.cdb[0], request.cdb[1]) {
            (0x12, _) => {
                let digits = lun.strip_prefix("naa.").unwrap();
                let name: Vec<u8> =
                    (0..8).map(|at| u8::from_str_radix(&digits[at * 2..at * 2 + 2], 16).unwrap()).collect();
                good([&[0, 0x83, 0, 12, 1, 3, 0, 8][..], &name].concat())
            }
            (0x5e, 0) => listed(self.registered.values().flat_map(|key| key.0).collect()),
            (0x5e, 1) => match self.holder.and_then(|holder| self.registered.get(holder)) {
                Some(holder) => listed([&holder.0[..], &[0, 0, 0, 0, 0, 5, 0, 0]].concat()),
                None => listed(Vec::new()),
            },
            (0x5e, _) => good(vec![0, 8, 1, 0x80, 0x20, 1, 0, 0]),
            (_, 6) => {
                self.registered.insert(path, key(8));
                good(Vec::new())
            }
            (_, _) if self.registered.get(path) != Some(&key(0)) => conflict,
            (_, 1) => {
                self.holder = self.holder.or(Some(path));
                good(Vec::new())
            }
            (_, _) if self.cannot_abort => Reply {
                status: 2,
                sense: vec![0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0],
                data: vec![],
            },
            // SPC-4 5.13.11.2.4: a key that nobody has is a conflict.
            (_, _) if !self.registered.values().any(|other| *other == key(8)) => conflict,
            (_, _) => {
                self.registered.retain(|_, other| *other != key(8));
                if self.holder.is_some_and(|holder| !self.registered.contains_key(holder)) {
                    self.holder = Some(path);
                }
                good(Vec::new())
            }
        }
    }
}

fn life(host: u8, life: u8) -> Incarnation {
    Incarnation::new(HostId::new(host).unwrap(), [life; 8])
}

fn device(world: &World, paths: &'static str, luns: &[&str], host: u8, me: Incarnation) -> Scsi<Of> {
    let luns: Vec<String> = luns.iter().map(|&lun| lun.to_owned()).collect();
    let config = ScsiConfig::new("edge", &luns, HostId::new(host).unwrap()).unwrap();
    Scsi::new(config, Some(Me { life: me, first_of_boot: true }), Of(world.clone(), paths))
}

async fn run(device: &mut Scsi<Of>, command: Command, whom: Incarnation) -> Result<Response, Failure> {
    let warrant = Warrant { deadline: Instant::now() + DEADLINE, standing: None, whom: Some(whom) };
    device.run(command, warrant).await
}

/// Hosts 0 (`a`, to be cut) and 1 (`b`), registered on each logical unit by one path; b has another one that goes `second`.
async fn two_hosts(luns: &[&'static str], second: Way) -> (World, Scsi<Of>) {
    let world = World::default();
    for lun in luns {
        world.path("a1", lun, Way::Well);
        world.path("b2", lun, Way::Well);
    }
    for (paths, host) in [("a", 0), ("b", 1)] {
        let me = life(host, 1);
        let mut own = device(&world, paths, luns, host, me);
        assert_eq!(run(&mut own, Command::On, me).await, Ok(Response::Acknowledged));
    }
    for lun in luns {
        // First in the order in which paths are tried.
        world.state().ways.insert(0, ("b1", lun, second));
        let mine = Key::of("edge", life(1, 1));
        world.state().units.get_mut(lun).unwrap().registered.insert("b1", mine);
    }
    let of_a = device(&world, "b", luns, 0, life(1, 1));
    world.state().orders.clear();
    (world, of_a)
}

#[tokio::test]
async fn a_dead_path_does_not_keep_the_other_one_from_cutting() {
    for way in [Way::Dead, Way::LosesOrders] {
        let (_world, mut of_a) = two_hosts(&LUN, way).await;
        assert_eq!(run(&mut of_a, Command::Off, life(0, 1)).await, Ok(Response::Acknowledged));
        assert_eq!(run(&mut of_a, Command::Read, life(0, 1)).await, Ok(Response::Reads(Reading::Off)));
    }
}

/// SAFE-4: it may lead elsewhere by now.
#[tokio::test]
async fn a_path_that_did_not_say_whose_it_is_gets_no_order() {
    let (world, mut of_a) = two_hosts(&LUN[..1], Way::Late(1)).await;
    assert_eq!(run(&mut of_a, Command::Off, life(0, 1)).await, Ok(Response::Acknowledged));
    assert_eq!(
        world.state().orders,
        ["b2"],
        "b1 was silent when it was asked for its name, and answers since"
    );
}

#[tokio::test]
async fn an_order_whose_answer_is_lost_is_in_doubt_and_the_reading_tells() {
    let (_world, mut of_a) = two_hosts(&LUN[..1], Way::LosesAnswers).await;
    // By b1 it was carried out; by b2 there is nothing left to take.
    let outcome = run(&mut of_a, Command::Off, life(0, 1)).await;
    assert!(matches!(outcome, Err(Failure::Unreachable { .. })), "{outcome:?}");
    assert_eq!(run(&mut of_a, Command::Off, life(0, 1)).await, Ok(Response::AlreadySo));
    assert_eq!(run(&mut of_a, Command::Read, life(0, 1)).await, Ok(Response::Reads(Reading::Off)));
}

#[tokio::test]
async fn a_host_that_lost_one_of_two_units_is_never_told_to_have_lost_none() {
    let (world, mut of_a) = two_hosts(&LUN, Way::Dead).await;
    world.state().units.get_mut(LUN[1]).unwrap().cannot_abort = true;
    let outcome = run(&mut of_a, Command::Off, life(0, 1)).await.unwrap_err();
    assert!(matches!(&outcome, Failure::Garbage { detail } if detail.contains("not from all")), "{outcome}");
    assert_eq!(world.keys(LUN[0]).iter().filter(|key| **key == Key::of("edge", life(0, 1))).count(), 0);
    assert_eq!(run(&mut of_a, Command::Read, life(0, 1)).await, Ok(Response::Reads(Reading::On)));
    // With the first unit alone it is a plain refusal.
    let (world, mut of_a) = two_hosts(&LUN[..1], Way::Dead).await;
    world.state().units.get_mut(LUN[0]).unwrap().cannot_abort = true;
    let outcome = run(&mut of_a, Command::Off, life(0, 1)).await;
    assert!(matches!(outcome, Err(Failure::Refused { .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_host_does_not_begin_with_a_path_that_it_could_not_register() {
    let world = World::default();
    world.path("a1", LUN[0], Way::Well);
    world.path("a2", LUN[0], Way::Dead);
    let mut own = device(&world, "a", &LUN[..1], 0, life(0, 1));
    assert!(matches!(run(&mut own, Command::On, life(0, 1)).await, Err(Failure::Unreachable { .. })));
    assert!(world.state().orders.is_empty());
}

#[tokio::test]
async fn what_earlier_lives_left_is_cleared_and_a_key_of_any_of_them_is_no_off() {
    let (world, mut of_a) = two_hosts(&LUN[..1], Way::Dead).await;
    let old = Key::of("edge", life(0, 9));
    world.state().units.get_mut(LUN[0]).unwrap().registered.insert("a0", old);
    assert_eq!(run(&mut of_a, Command::Off, life(0, 1)).await, Ok(Response::Acknowledged));
    assert_eq!(run(&mut of_a, Command::Read, life(0, 1)).await, Ok(Response::Reads(Reading::On)), "by a0");
    let mut own = device(&world, "a", &LUN[..1], 0, life(0, 2));
    assert_eq!(run(&mut own, Command::On, life(0, 2)).await, Ok(Response::Acknowledged));
    assert_eq!(run(&mut own, Command::Read, life(0, 2)).await, Ok(Response::Reads(Reading::On)));
    assert!(!world.keys(LUN[0]).contains(&old));
    // A late order for the life before takes nothing from this one, and is no proof about it.
    assert_eq!(run(&mut of_a, Command::Off, life(0, 1)).await, Ok(Response::AlreadySo));
    assert_eq!(run(&mut of_a, Command::Read, life(0, 1)).await, Ok(Response::Reads(Reading::On)));
}

#[tokio::test]
async fn a_command_that_hangs_in_the_kernel_is_joined_by_no_second() {
    let (world, mut of_a) = two_hosts(&LUN[..1], Way::Dead).await;
    world.state().asked = 0;
    *world.hangs.lock().unwrap() = true;
    for _ in 0..3 {
        let soon = Instant::now() + Duration::from_millis(20);
        let outcome = of_a.run(Command::Read, soon.into()).await;
        assert!(matches!(outcome, Err(Failure::NoAnswer { .. })), "{outcome:?}");
    }
    assert!(world.state().asked <= 1);
    {
        // With the state held: whoever waits has seen it or will be told.
        let _state = world.state();
        *world.hangs.lock().unwrap() = false;
        world.state.1.notify_all();
    }
    assert_eq!(run(&mut of_a, Command::Read, life(0, 1)).await, Ok(Response::Reads(Reading::On)));
}
