//! Every kind of device, on its real or fake peer, goes through one table of faults: each ends by the deadline with an error of its
//! name, tells nothing that was not so, and works again when the fault is over.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at the variants it is about")]
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
mod iscsi;
mod outcome;
mod redfish_peers;
mod switch_peers;

use std::collections::BTreeMap;
use std::time::Duration;

use common::Bmc;
use enforcing::Lab;
use enforcing::points::{self, checking, tgtd};
use iscsi::{Tgt, life};
use outcome::{in_time, name};
use palisade_devices::agent::{AgentConfig, Driver};
use palisade_devices::fault::{Fault, Faulty};
use palisade_devices::ipmi::Suite;
use palisade_devices::lun::Target;
use palisade_devices::redfish::Auth;
use palisade_devices::{Device, Warrant};
use palisade_ladder::{Command, Failure, Reading, Response};
use palisade_proto::Incarnation;
use redfish_peers::{Fake, UUID};
use tempfile::TempDir;
use tokio::time::Instant;

const WAIT: Duration = Duration::from_secs(5);
/// Less than any of the commands may take; what is slower than this is silence.
const SHORT: Duration = Duration::from_millis(200);

/// A kind of device, and what its peer here does when nothing goes wrong.
struct Kind {
    name: &'static str,
    /// Enough for a command to be carried out, and short to wait out.
    enough: Duration,
    /// So long after an off it may still read otherwise.
    reads_off_within: Duration,
    /// Orders that this peer, or this device, carries out for nobody: the refusal says so in these words.
    cannot: &'static [(Command, &'static str)],
    /// What it reads after an off.
    off_reads: Reading,
    whom: Option<Incarnation>,
}

impl Kind {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            enough: Duration::from_secs(1),
            reads_off_within: Duration::ZERO,
            cannot: &[],
            off_reads: Reading::Off,
            whom: None,
        }
    }

    /// One whose every command is a login or a program of its own.
    fn slow(name: &'static str) -> Self {
        Self { enough: Duration::from_secs(3), ..Self::new(name) }
    }

    async fn run(
        &self,
        device: &mut impl Device,
        command: Command,
        within: Duration,
    ) -> Result<Response, Failure> {
        let deadline = Instant::now() + within;
        let warrant = Warrant { deadline, standing: None, whom: self.whom };
        in_time(self.name, device, command, warrant).await
    }

    /// Whether that is how a command ends that has reached the peer.
    fn is_its_own(&self, command: Command, answer: &Result<Response, Failure>) -> bool {
        let cannot = self.cannot.iter().find(|(cannot, _)| *cannot == command);
        match (command, answer, cannot) {
            (_, Err(Failure::Refused { code }), Some((_, words))) => code.contains(words),
            (_, _, Some(_)) => false,
            (Command::Prove, Ok(Response::Proven(proven)), None) => proven.may_fence,
            (Command::Read, Ok(Response::Reads(_)), None) => true,
            (Command::Off | Command::On, Ok(Response::Acknowledged | Response::AlreadySo), None) => true,
            _ => false,
        }
    }

    async fn goes_through_the_table(&self, inner: impl Device) {
        // What each command comes to (nothing: to what the peer says), and whether it reaches the peer.
        let table = [
            (Fault::Delay(Duration::from_millis(50)), WAIT, None, true),
            (Fault::Delay(WAIT), SHORT, Some("no answer"), false),
            (Fault::LoseAnswer, self.enough, Some("no answer"), true),
            (Fault::LoseCommand, SHORT, Some("no answer"), false),
            (Fault::Garbage, WAIT, Some("garbage"), false),
            (Fault::Refuse, WAIT, Some("refused"), false),
            (Fault::Lie(Reading::Off), WAIT, Some("an answer"), false),
        ];
        let mut device = Faulty::new(inner);
        for (fault, wait, expected, reaches) in table {
            for command in [Command::Prove, Command::Read, Command::Off, Command::On] {
                device = device.then(Some(fault.clone()));
                let answer = self.run(&mut device, command, wait).await;
                let as_expected = match expected {
                    Some(expected) => answer.as_ref().map_or_else(name, |_| "an answer") == expected,
                    None => self.is_its_own(command, &answer),
                };
                assert!(as_expected, "{}: {fault:?}, {command:?}: {answer:?}", self.name);
            }
            // And it is over with the fault: what it reads is what it was told last that reached it.
            let told = if reaches { Reading::On } else { self.off_reads };
            let read = self.run(&mut device, Command::Read, WAIT).await;
            assert_eq!(read, Ok(Response::Reads(told)), "{}, after {fault:?}", self.name);
            let ordered = self.run(&mut device, Command::Off, WAIT).await;
            assert!(self.is_its_own(Command::Off, &ordered), "{}: {ordered:?}", self.name);
            self.comes_to_read_off(&mut device, &fault).await;
        }
    }

    async fn comes_to_read_off(&self, device: &mut impl Device, fault: &Fault) {
        let until = Instant::now() + self.reads_off_within;
        loop {
            let read = self.run(device, Command::Read, WAIT).await;
            if read == Ok(Response::Reads(self.off_reads)) {
                return;
            }
            assert!(read.is_ok() && Instant::now() < until, "{}, after {fault:?}: {read:?}", self.name);
        }
    }
}

#[tokio::test]
async fn ipmi() {
    let bmc = Bmc::pyghmi();
    Kind::new("ipmi").goes_through_the_table(bmc.device(Suite::Seventeen)).await;
}

#[tokio::test]
async fn redfish() {
    let fake = Fake::start().await;
    let device = redfish_peers::device(fake.address, None, Auth::Session, "secret", UUID);
    Kind::new("redfish").goes_through_the_table(device).await;
}

#[tokio::test]
async fn agent() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state").display().to_string();
    let options = BTreeMap::from([("status_file".to_owned(), state)]);
    let program = std::path::PathBuf::from("/usr/sbin/fence_dummy");
    assert!(program.exists(), "fence_dummy is missing: run tests/peers/install.sh");
    let config = AgentConfig::new(program, options, BTreeMap::new()).unwrap();
    let mut device = Driver::new(config);
    let kind = Kind::slow("agent");
    assert!(kind.run(&mut device, Command::On, WAIT).await.is_ok());
    kind.goes_through_the_table(device).await;
}

#[tokio::test]
async fn hypervisor_by_its_monitor() {
    let dir = TempDir::new().unwrap();
    let (_machine, socket) = hypervisor_peers::qemu(&dir).await;
    let device = hypervisor_peers::monitored(&socket, hypervisor_peers::UUID);
    Kind::new("hypervisor (QMP)").goes_through_the_table(device).await;
}

#[tokio::test]
async fn hypervisor_by_libvirt() {
    let dir = TempDir::new().unwrap();
    let (_daemon, _keeper, uri) = hypervisor_peers::libvirt(&dir).await;
    hypervisor_peers::virsh(&uri, &["define", &hypervisor_peers::domain(&dir)]);
    Kind::slow("hypervisor (libvirt)").goes_through_the_table(hypervisor_peers::at_libvirt(&uri)).await;
}

/// snmpd tells an interface's operational status some seconds late, and a port is off only if that says so, too.
#[tokio::test]
async fn switch() {
    let _agent = switch_peers::agent().await;
    let kind = Kind { reads_off_within: switch_peers::DEADLINE, ..Kind::new("switch") };
    kind.goes_through_the_table(switch_peers::writer(switch_peers::AGENT)).await;
}

#[tokio::test]
async fn haproxy() {
    let balancer = haproxy_peers::balancer().await;
    let device = balancer.device("b", haproxy_peers::HOST_B);
    Kind::new("haproxy").goes_through_the_table(device).await;
}

/// tgtd has no PREEMPT AND ABORT: an off is refused, and leaves the host's paths open. At LIO, which has it, `lio_*` of scsi.rs
/// show what an off comes to.
#[tokio::test]
async fn scsi() {
    let (_tgt, places) = Tgt::start(2);
    let (a, b) = (iscsi::Host::new("a", &places, 1), iscsi::Host::new("b", &places, 1));
    iscsi::open(&a, &places, life(0, 1)).await;
    iscsi::open(&b, &places, life(1, 1)).await;
    let cannot = &[(Command::Off, "PREEMPT AND ABORT"), (Command::On, "a host registers its paths itself")];
    let of_another = Kind { cannot, off_reads: Reading::On, whom: Some(life(0, 1)), ..Kind::new("scsi") };
    of_another.goes_through_the_table(iscsi::device(&b, &places, 0, life(1, 1))).await;
}

/// What opens a host's own paths never cuts them.
#[tokio::test]
async fn scsi_of_the_host_itself() {
    let (_tgt, places) = Tgt::start(2);
    let a = iscsi::Host::new("a", &places, 2);
    iscsi::open(&a, &places, life(0, 1)).await;
    let cannot = &[(Command::Off, "is not whom this device cuts")];
    let own = Kind { cannot, off_reads: Reading::On, whom: Some(life(0, 1)), ..Kind::new("scsi, own paths") };
    own.goes_through_the_table(iscsi::device(&a, &places, 0, life(0, 1))).await;
}

#[tokio::test]
async fn nft() {
    let lab = Lab::new();
    Kind::slow("nft").goes_through_the_table(points::nft(lab.ssh(), &["10.0.0.2", "fd00::2"])).await;
}

#[tokio::test]
async fn route() {
    let lab = checking(1);
    Kind::slow("route").goes_through_the_table(points::route(lab.ssh(), &["10.0.0.2"])).await;
}

#[tokio::test]
async fn lun() {
    let lab = Lab::new();
    let _tgtd = tgtd(&lab);
    Kind::slow("lun").goes_through_the_table(points::lun(lab.ssh(), Target::Tgt, points::B)).await;
}
