//! Every kind of device whose peer is on a wire goes through one table of what a wire does: a closed port, silence, garbage, half
//! an answer and slowness each end by the deadline with a failure of their name, never with a reading, and the device works
//! again when they are over.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    dead_code,
    reason = "clippy knows a test only inside #[test]; each test file uses its own part of the peers"
)]

mod common;
mod enforcing;
mod haproxy_peers;
mod hypervisor_peers;
mod outcome;
mod redfish_peers;
mod switch_peers;
mod wire;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

use common::proxy::{Proxy, Way as Direction};
use common::{Bmc, GUID, PASSWORD, USER};
use enforcing::points::{self, checking, tgtd};
use enforcing::{Lab, SSHD, known_at};
use haproxy_peers::HOST_B;
use hypervisor_peers::UUID as MACHINE;
use outcome::{in_time, name};
use palisade_devices::haproxy::Socket;
use palisade_devices::hypervisor::{Hypervisor, HypervisorConfig, Way};
use palisade_devices::ipmi::{Ipmi, Privilege, Suite};
use palisade_devices::lun::Target;
use palisade_devices::redfish::Auth;
use palisade_devices::ssh::{Enforcing, Point, SshConfig};
use palisade_devices::switch::{AuthProtocol, Login};
use palisade_devices::{Device, Standing, Warrant};
use palisade_ladder::{Command, Failure, Reading, Response};
use redfish_peers::{Fake, Sushy, UUID};
use switch_peers::{AUTH, PRIV, community, named, user};
use tempfile::TempDir;
use tokio::time::Instant;
use wire::{Condition, Fault, Link, Place};

/// For a command that a working peer answers, and for what ends by itself.
const WAIT: Duration = Duration::from_secs(10);
/// For what only the deadline ends.
const SHORT: Duration = Duration::from_millis(400);

/// One fault, how long a command may take, and what it may be called.
type Row = (Fault, Duration, &'static [&'static str]);

/// Each command ends in time with one of the names. `begin` begins the fault anew.
async fn each_is_named(kind: &str, row: Row, device: &mut impl Device, mut begin: impl AsyncFnMut()) {
    let (fault, wait, expected) = row;
    for command in [Command::Prove, Command::Read, Command::Off] {
        begin().await;
        let deadline = Instant::now() + wait;
        let answer = in_time(&format!("{kind}: {fault:?}"), device, command, deadline.into()).await;
        let Err(failure) = answer else { panic!("{kind}: {fault:?}, {command:?}: {answer:?}") };
        assert!(expected.contains(&name(&failure)), "{kind}: {fault:?}, {command:?}: {failure}");
    }
}

async fn run(device: &mut impl Device, command: Command) -> Result<Response, Failure> {
    device.run(command, (Instant::now() + WAIT).into()).await
}

/// How much of its peer's answers a reading takes: of a device that is new, or has proven its path.
async fn whole(device: &mut impl Device, is_warm: bool, condition: &Condition) -> usize {
    if is_warm {
        assert!(run(device, Command::Prove).await.is_ok());
    }
    let before = condition.passed();
    assert_eq!(run(device, Command::Read).await, Ok(Response::Reads(Reading::On)));
    condition.passed() - before
}

/// How garbage and half an answer are called by a kind: who runs a program tells what that says.
struct Names {
    garbage: &'static [&'static str],
    half: &'static [&'static str],
}

/// A device over connections. No order leaves before its peer was looked at, so whatever goes wrong it stays on.
async fn over_connections<D: Device>(
    kind: &str,
    names: Names,
    (near, peer): (&Place, &Place),
    device: impl Fn(&Place) -> D,
) {
    for is_warm in [false, true] {
        let link = Link::start(near, peer).await;
        let half = whole(&mut device(&link.place), is_warm, &link.condition).await / 2;
        drop(link);
        let table: [Row; 7] = [
            (Fault::Closed, WAIT, &["unreachable"]),
            (Fault::Silence, SHORT, &["no answer"]),
            (Fault::Garbage, WAIT, names.garbage),
            (Fault::Flood, WAIT, names.garbage),
            (Fault::Ends(half), WAIT, names.half),
            (Fault::Stops(half), SHORT, &["no answer"]),
            (Fault::Slow, SHORT, &["no answer"]),
        ];
        for row in table {
            let mut link = Link::start(near, peer).await;
            let mut device = device(&link.place);
            if is_warm {
                assert!(run(&mut device, Command::Prove).await.is_ok(), "{kind}");
            }
            each_is_named(kind, row, &mut device, async || link.goes(row.0).await).await;
            if row.0 == Fault::Closed {
                link = Link::start(&link.place, peer).await;
            }
            link.goes(Fault::Passes).await;
            let read = run(&mut device, Command::Read).await;
            assert_eq!(read, Ok(Response::Reads(Reading::On)), "{kind}, after {:?}", row.0);
        }
    }
    an_order_whose_answer_breaks_off_is_in_doubt(kind, (near, peer), device).await;
}

thread_local! {
    /// How often standing was looked at, and what breaks at the second look.
    static LOOKS: RefCell<(u64, Condition)> = RefCell::new((0, Condition::good()));
}

/// Nor is it called by a name that says that nothing was done.
async fn an_order_whose_answer_breaks_off_is_in_doubt<D: Device>(
    kind: &str,
    (near, peer): (&Place, &Place),
    device: impl Fn(&Place) -> D,
) {
    let mut link = Link::start(near, peer).await;
    LOOKS.set((0, link.condition.clone()));
    // The first look is when the order begins, the second one right before it is sent.
    let standing = Standing::new(1, || {
        LOOKS.with_borrow_mut(|(looks, condition)| {
            *looks += 1;
            if *looks == 2 {
                condition.goes(Fault::Ends(0));
            }
        });
        0
    });
    let warrant = Warrant { deadline: Instant::now() + WAIT, standing: Some(standing), whom: None };
    let answer = in_time(kind, &mut device(&link.place), Command::Off, warrant).await;
    assert_eq!(LOOKS.with_borrow(|(looks, _)| *looks), 2, "{kind}");
    let Err(failure) = answer else { panic!("{kind}: {answer:?}") };
    assert!(["no answer", "unreachable", "garbage"].contains(&name(&failure)), "{kind}: {failure}");
    link.goes(Fault::Passes).await;
    // An order may also be half done: QEMU forgets a reset behind a stop when its client goes, and the machine reads on, paused.
    for command in [Command::Off, Command::On] {
        let answer = run(&mut device(&link.place), command).await;
        assert!(answer.is_ok(), "{kind}, {command:?} after it: {answer:?}");
    }
}

/// A device over datagrams: what comes is no answer, so only the deadline ends it.
async fn over_datagrams<D: Device>(kind: &str, peer: SocketAddr, device: impl Fn(SocketAddr) -> D) {
    for is_warm in [false, true] {
        let (_proxy, condition, address) = proxy(peer).await;
        let half = whole(&mut device(address), is_warm, &condition).await / 2;
        let table: [Row; 6] = [
            (Fault::Silence, SHORT, &["no answer"]),
            (Fault::Garbage, SHORT, &["garbage"]),
            (Fault::Halves, SHORT, &["garbage"]),
            (Fault::Slow, SHORT, &["garbage"]),
            (Fault::Stops(half), SHORT, &["no answer"]),
            (Fault::Closed, WAIT, &["unreachable"]),
        ];
        for row in table {
            let (proxy, condition, address) = proxy(peer).await;
            let mut proxy = Some(proxy);
            let mut device = device(address);
            if is_warm {
                assert!(run(&mut device, Command::Prove).await.is_ok(), "{kind}");
            }
            each_is_named(kind, row, &mut device, async || {
                condition.goes(row.0);
                if row.0 == Fault::Closed {
                    proxy = None;
                    // Its tasks go when they are next looked at.
                    while std::net::UdpSocket::bind(address).is_err() {
                        tokio::task::yield_now().await;
                    }
                }
            })
            .await;
            if proxy.is_some() {
                condition.goes(Fault::Passes);
                // Whether an order has reached the peer, its garbled answer does not say.
                assert!(run(&mut device, Command::On).await.is_ok(), "{kind}, after {:?}", row.0);
                let read = run(&mut device, Command::Read).await;
                assert_eq!(read, Ok(Response::Reads(Reading::On)), "{kind}, after {:?}", row.0);
            }
        }
    }
}

async fn proxy(peer: SocketAddr) -> (Proxy, Condition, SocketAddr) {
    let condition = Condition::good();
    let ruling = condition.clone();
    let rule = move |way: Direction, datagram: &[u8]| match way {
        Direction::ToBmc => vec![datagram.to_vec()],
        Direction::FromBmc => ruling.datagrams(datagram),
    };
    let proxy = Proxy::start(peer, Box::new(rule)).await;
    let address = proxy.address;
    (proxy, condition, address)
}

#[tokio::test]
async fn ipmi() {
    let bmc = Bmc::pyghmi();
    let device = |address| {
        let user = (USER, PASSWORD);
        Ipmi::new(common::config(address, Suite::Seventeen, user, None, Privilege::Operator, GUID))
    };
    over_datagrams("ipmi", bmc.address, device).await;
}

async fn a_switch(login: impl Fn() -> Login) {
    let _agent = switch_peers::agent().await;
    let device = |address: SocketAddr| named(&address.to_string(), "sw1", "host-b", login());
    over_datagrams("switch", switch_peers::AGENT.parse().unwrap(), device).await;
}

#[tokio::test]
async fn switch_with_a_community() {
    a_switch(|| community("writer")).await;
}

#[tokio::test]
async fn switch_with_a_user() {
    a_switch(|| user("sha2", AuthProtocol::Sha256, AUTH, PRIV)).await;
}

#[tokio::test]
async fn redfish() {
    let fake = Fake::start().await;
    let names = Names { garbage: &["garbage"], half: &["garbage", "unreachable"] };
    over_connections("redfish", names, (&Place::any(), &Place::Address(fake.address)), |at| {
        redfish_peers::device(at.address(), None, Auth::Session, "secret", UUID)
    })
    .await;
}

#[tokio::test]
async fn redfish_over_tls() {
    let sushy = Sushy::start();
    let names = Names { garbage: &["garbage"], half: &["garbage", "unreachable"] };
    over_connections("redfish, TLS", names, (&Place::any(), &Place::Address(sushy.address)), |at| {
        redfish_peers::device(at.address(), Some(sushy.tls("127.0.0.1")), Auth::Basic, "secret", UUID)
    })
    .await;
}

#[tokio::test]
async fn hypervisor_by_its_monitor() {
    let dir = TempDir::new().unwrap();
    let (_machine, socket) = hypervisor_peers::qemu(&dir).await;
    for near in [Place::Socket(dir.path().join("wire")), Place::any()] {
        let names = Names { garbage: &["garbage"], half: &["unreachable"] };
        over_connections("QMP", names, (&near, &Place::Socket(socket.clone())), |at| {
            let way = match at {
                Place::Socket(path) => Way::QmpSocket(path.clone()),
                Place::Address(address) => Way::QmpAddress(*address),
            };
            Hypervisor::new(HypervisorConfig::new(way, MACHINE).unwrap())
        })
        .await;
    }
}

#[tokio::test]
async fn hypervisor_by_libvirt() {
    let dir = TempDir::new().unwrap();
    let (_daemon, _keeper, uri) = hypervisor_peers::libvirt(&dir).await;
    hypervisor_peers::virsh(&uri, &["define", &hypervisor_peers::domain(&dir)]);
    hypervisor_peers::virsh(&uri, &["start", "b"]);
    let (near, peer) = (dir.path().join("wire"), dir.path().join("libvirt-sock"));
    let names = Names { garbage: &["unreachable"], half: &["unreachable", "refused"] };
    over_connections("libvirt", names, (&Place::Socket(near.clone()), &Place::Socket(peer)), |_| {
        hypervisor_peers::at_libvirt(&format!("test+unix:///default?socket={}", near.display()))
    })
    .await;
}

#[tokio::test]
async fn haproxy() {
    let balancer = haproxy_peers::balancer().await;
    for near in [Place::Socket(balancer.dir.path().join("wire")), Place::any()] {
        let names = Names { garbage: &["garbage", "refused"], half: &["garbage"] };
        over_connections("haproxy", names, (&near, &Place::Socket(balancer.socket())), |at| {
            let socket = match at {
                Place::Socket(path) => Socket::Path(path.clone()),
                Place::Address(address) => Socket::Address(*address),
            };
            haproxy_peers::device(socket, "b", HOST_B)
        })
        .await;
    }
}

/// A point of a host that is reached over ssh.
async fn over_ssh<P: Point>(kind: &str, lab: &Lab, device: impl Fn(SshConfig) -> Enforcing<P>) {
    let names = Names { garbage: &["garbage", "unreachable"], half: &["unreachable", "garbage"] };
    let sshd = Place::Address(SSHD.parse().unwrap());
    over_connections(kind, names, (&Place::any(), &sshd), |at| {
        known_at(lab, "known_wire", at.address());
        device(lab.ssh_at(at.address(), "id", "known_wire"))
    })
    .await;
}

#[tokio::test]
async fn nft() {
    let lab = Lab::new();
    over_ssh("nft", &lab, |ssh| points::nft(ssh, &["10.0.0.2"])).await;
}

#[tokio::test]
async fn route() {
    let lab = checking(1);
    over_ssh("route", &lab, |ssh| points::route(ssh, &["10.0.0.2"])).await;
}

#[tokio::test]
async fn lun() {
    let lab = Lab::new();
    let _tgtd = tgtd(&lab);
    over_ssh("lun", &lab, |ssh| points::lun(ssh, Target::Tgt, points::B)).await;
}
