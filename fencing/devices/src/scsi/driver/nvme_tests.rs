//! What is different with NVMe: against **a fake of ours**, a namespace in memory that does reservations as far as the driver goes.
//! The real target: `cargo lab guests nvme`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use palisade_proto::HostId;

use super::super::nvme::{NvmeReply, NvmeRequest, Queue};
use super::super::way::NvmePath;
use super::*;

const DISK: &str = "uuid.e63ad639-d398-4bb1-9cb4-8f7abb3e6910";
const UUID: [u8; 16] =
    [0xe6, 0x3a, 0xd6, 0x39, 0xd3, 0x98, 0x4b, 0xb1, 0x9c, 0xb4, 0x8f, 0x7a, 0xbb, 0x3e, 0x69, 0x10];

/// What stands on the namespace.
#[derive(Default)]
struct State {
    registered: BTreeMap<[u8; 16], Key>,
    holder: Option<[u8; 16]>,
    /// Orders that changed nothing count as well.
    orders: u32,
    /// Neither the controller nor the namespace does reservations.
    plain: (bool, bool),
    /// A status for the next orders.
    fails: Option<u16>,
}

#[derive(Clone, Default)]
struct World(Arc<Mutex<State>>);

impl World {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

struct Route(World, [u8; 16]);

/// As many paths as there are identifiers.
struct Of(World, Vec<[u8; 16]>);

impl Fabric for Of {
    fn paths(&self, lun: &str) -> Result<Vec<Way>, Failure> {
        assert_eq!(lun, DISK);
        Ok(self.1.iter().map(|host| Way::Nvme(Box::new(Route(self.0.clone(), *host)))).collect())
    }
}

const CONFLICT: u16 = 0x4083;

impl NvmePath for Route {
    fn name(&self) -> &str {
        "/dev/nvme0n1"
    }

    fn command(&mut self, request: &NvmeRequest) -> Result<NvmeReply, Failure> {
        let mut state = self.0.state();
        let status = |status| Ok(NvmeReply { status, data: Vec::new() });
        let filled = |parts: &[(usize, &[u8])]| {
            let mut data = vec![0; request.expect];
            for (at, bytes) in parts {
                data[*at..*at + bytes.len()].copy_from_slice(bytes);
            }
            Ok(NvmeReply { status: 0, data })
        };
        let key = |at: usize| Key::from_le_bytes(request.out[at..at + 8].try_into().unwrap());
        let (plain_controller, plain) = state.plain;
        match (request.queue, request.opcode, request.dwords[0]) {
            (Queue::Admin, 0x06, 1) => filled(&[(520, &[if plain_controller { 0x0c } else { 0x2c }])]),
            (Queue::Admin, 0x06, 0) => filled(&[(31, &[if plain { 0 } else { 0xfe }])]),
            (Queue::Admin, 0x06, 3) => filled(&[(0, &[3, 16]), (4, &UUID)]),
            (Queue::Admin, 0x0a, 0x81) => filled(&[(0, &self.1)]),
            (Queue::Io, _, _) if plain || plain_controller => status(0x4001),
            (Queue::Io, 0x0e, _) => {
                let count = u8::try_from(state.registered.len()).unwrap();
                let kind = if state.holder.is_some() { 3 } else { 0 };
                let entries = state.registered.iter().enumerate().map(|(at, (host, key))| {
                    let mut entry = vec![0xff, 0xff, u8::from(state.holder == Some(*host)), 0, 0, 0, 0, 0];
                    entry.extend(key.to_le_bytes());
                    entry.extend(host);
                    (64 + 64 * at, entry)
                });
                let entries: Vec<(usize, Vec<u8>)> = entries.collect();
                let mut parts: Vec<(usize, &[u8])> = vec![];
                let head = [kind, count];
                parts.push((4, &head));
                parts.extend(entries.iter().map(|(at, entry)| (*at, entry.as_slice())));
                filled(&parts)
            }
            (Queue::Io, opcode, dword) => {
                state.orders += 1;
                if let Some(fails) = state.fails {
                    return status(fails);
                }
                let there = state.registered.get(&self.1).copied();
                match (opcode, dword & 0x7) {
                    (0x0d, 0) if there.is_none_or(|there| there == key(8)) => {
                        state.registered.insert(self.1, key(8));
                        status(0)
                    }
                    (0x0d, 2) if there == Some(key(0)) => {
                        state.registered.insert(self.1, key(8));
                        status(0)
                    }
                    (0x11, 0)
                        if there == Some(key(0)) && state.holder.is_none_or(|holder| holder == self.1) =>
                    {
                        state.holder = Some(self.1);
                        status(0)
                    }
                    (0x11, 2)
                        if there == Some(key(0))
                            && state.registered.values().any(|other| *other == key(8)) =>
                    {
                        state.registered.retain(|_, other| *other != key(8));
                        if state.holder.is_some_and(|holder| !state.registered.contains_key(&holder)) {
                            state.holder = Some(self.1);
                        }
                        status(0)
                    }
                    (_, _) => status(CONFLICT),
                }
            }
            (queue, opcode, dword) => panic!("{queue:?} {opcode:x}h {dword:x}h"),
        }
    }
}

fn life(host: u8, life: u8) -> Incarnation {
    Incarnation::new(HostId::new(host).unwrap(), [life; 8])
}

fn device(world: &World, paths: &[u8], host: u8, me: Incarnation) -> Scsi<Of> {
    let config = ScsiConfig::new("edge", &[DISK.to_owned()], HostId::new(host).unwrap()).unwrap();
    let paths = paths.iter().map(|&digit| [digit; 16]).collect();
    Scsi::new(config, Some(Me { life: me, first_of_boot: true }), Of(world.clone(), paths))
}

async fn run(device: &mut Scsi<Of>, command: Command, whom: Incarnation) -> Result<Response, Failure> {
    let deadline = Instant::now() + Duration::from_secs(5);
    device.run(command, Warrant { deadline, standing: None, whom: Some(whom) }).await
}

async fn open(world: &World, paths: &[u8], me: Incarnation) {
    let mut own = device(world, paths, me.host.number(), me);
    assert_eq!(run(&mut own, Command::On, me).await, Ok(Response::Acknowledged));
    assert_eq!(run(&mut own, Command::Read, me).await, Ok(Response::Reads(Reading::On)));
    assert!(matches!(run(&mut own, Command::Prove, me).await, Ok(Response::Proven(_))));
}

const ACKNOWLEDGED: Result<Response, Failure> = Ok(Response::Acknowledged);
const OFF: Result<Response, Failure> = Ok(Response::Reads(Reading::Off));
const ON: Result<Response, Failure> = Ok(Response::Reads(Reading::On));

#[tokio::test]
async fn a_host_is_cut_by_its_key_and_its_next_life_replaces_what_is_left() {
    let world = World::default();
    open(&world, &[0xa], life(0, 1)).await;
    open(&world, &[0xb], life(1, 1)).await;
    let mut of_a = device(&world, &[0xb], 0, life(1, 1));
    assert_eq!(run(&mut of_a, Command::Read, life(0, 1)).await, ON);
    assert_eq!(run(&mut of_a, Command::Off, life(0, 1)).await, ACKNOWLEDGED);
    assert_eq!(run(&mut of_a, Command::Read, life(0, 1)).await, OFF);
    assert_eq!(world.state().holder, Some([0xb; 16]), "the reservation stands, by another holder");
    assert_eq!(run(&mut of_a, Command::Off, life(0, 1)).await, Ok(Response::AlreadySo));
    open(&world, &[0xa], life(0, 2)).await;
    // A reboot leaves the key of the life before.
    open(&world, &[0xa], life(0, 3)).await;
    assert_eq!(world.state().registered[&[0xa; 16]], Key::of("edge", life(0, 3)));
    assert_eq!(run(&mut of_a, Command::Off, life(0, 2)).await, Ok(Response::AlreadySo), "a late order");
    assert_eq!(run(&mut of_a, Command::Read, life(0, 2)).await, ON);
}

/// Registrations are the host's: two paths have one, and are proven by it.
#[tokio::test]
async fn two_paths_of_one_host_are_one_registration_and_of_two_identifiers_two() {
    let world = World::default();
    open(&world, &[0xa, 0xa], life(0, 1)).await;
    assert_eq!(world.state().registered.len(), 1);
    let world = World::default();
    open(&world, &[0xa, 0xc], life(0, 1)).await;
    assert_eq!(world.state().registered.len(), 2);
    // One of them loses its key.
    world.state().registered.remove(&[0xc; 16]);
    let mut own = device(&world, &[0xa, 0xc], 0, life(0, 1));
    let refused = run(&mut own, Command::Prove, life(0, 1)).await.unwrap_err().to_string();
    assert!(refused.contains("1 of 2 paths"), "{refused}");
}

#[tokio::test]
async fn a_host_that_has_anothers_identifier_is_refused_and_takes_nothing() {
    let world = World::default();
    open(&world, &[0xa], life(0, 1)).await;
    let mut clone = device(&world, &[0xa], 1, life(1, 1));
    let orders = world.state().orders;
    let refused = run(&mut clone, Command::On, life(1, 1)).await.unwrap_err().to_string();
    assert!(refused.contains("0a0a0a0a-0a0a-0a0a-0a0a-0a0a0a0a0a0a is registered with a key"), "{refused}");
    assert_eq!(world.state().orders, orders, "nothing was sent");
    assert_eq!(world.state().registered[&[0xa; 16]], Key::of("edge", life(0, 1)));
    // The other registers in between: the key is compared by the controller, too.
    *world.state() = State { fails: Some(CONFLICT), ..State::default() };
    let refused = run(&mut clone, Command::On, life(1, 1)).await.unwrap_err().to_string();
    assert!(refused.contains("got another key just now"), "{refused}");
}

/// SAFE-4: its keys are gone, and it writes by the registration of the other that has its identifier.
#[tokio::test]
async fn a_cut_host_whose_identifier_another_registers_is_not_off() {
    let world = World::default();
    open(&world, &[0xa], life(0, 1)).await;
    open(&world, &[0xb], life(1, 1)).await;
    let mut of_a = device(&world, &[0xb], 0, life(1, 1));
    assert_eq!(run(&mut of_a, Command::Off, life(0, 1)).await, ACKNOWLEDGED);
    assert_eq!(run(&mut of_a, Command::Read, life(0, 1)).await, OFF);
    // A clone of a, which was refused as long as a was there.
    open(&world, &[0xa], life(2, 1)).await;
    for command in [Command::Read, Command::Prove] {
        let refused = run(&mut of_a, command, life(0, 1)).await.unwrap_err().to_string();
        assert!(refused.contains("two hosts have it"), "{command:?}: {refused}");
    }
    // Of the clone itself nothing is wrong.
    let mut of_clone = device(&world, &[0xb], 2, life(1, 1));
    assert_eq!(run(&mut of_clone, Command::Read, life(2, 1)).await, ON);
}

#[tokio::test]
async fn a_disk_that_does_no_reservations_and_a_host_without_identifier_are_told() {
    for (plain, words) in [
        ((true, false), "the controller does no reservations (ONCS)"),
        ((false, true), "the namespace does no reservations (RESCAP)"),
    ] {
        let world = World::default();
        world.state().plain = plain;
        let mut own = device(&world, &[0xa], 0, life(0, 1));
        for command in [Command::On, Command::Prove] {
            let refused = run(&mut own, command, life(0, 1)).await.unwrap_err().to_string();
            assert!(refused.contains(words), "{command:?}: {refused}");
        }
        let refused = run(&mut own, Command::Read, life(0, 1)).await.unwrap_err().to_string();
        assert!(refused.contains("Invalid Command Opcode"), "{refused}");
    }
    let world = World::default();
    let mut own = device(&world, &[0], 0, life(0, 1));
    let refused = run(&mut own, Command::On, life(0, 1)).await.unwrap_err().to_string();
    assert!(refused.contains("(Host Identifier): it is unset"), "{refused}");
    assert_eq!(world.state().orders, 0);
}

/// SAFE-4: an order that the kernel has lost may have been carried out.
#[tokio::test]
async fn a_lost_order_is_in_doubt_and_a_busy_namespace_is_asked_again() {
    let world = World::default();
    open(&world, &[0xa], life(0, 1)).await;
    open(&world, &[0xb], life(1, 1)).await;
    let mut of_a = device(&world, &[0xb], 0, life(1, 1));
    for (status, orders) in [(0x0371, 1), (0x0082, 8)] {
        world.state().fails = Some(status);
        world.state().orders = 0;
        let outcome = run(&mut of_a, Command::Off, life(0, 1)).await;
        assert_eq!(matches!(outcome, Err(Failure::Unreachable { .. })), orders == 1, "{outcome:?}");
        assert_eq!(world.state().orders, orders);
    }
    world.state().fails = None;
    assert_eq!(run(&mut of_a, Command::Read, life(0, 1)).await, ON);
}
