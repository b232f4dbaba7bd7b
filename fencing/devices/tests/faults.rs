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
mod redfish_peers;

use std::collections::BTreeMap;
use std::time::Duration;

use common::Bmc;
use palisade_devices::Device;
use palisade_devices::agent::{AgentConfig, Driver};
use palisade_devices::fault::{Fault, Faulty};
use palisade_devices::ipmi::Suite;
use palisade_devices::redfish::Auth;
use palisade_ladder::{Command, Failure, Reading, Response};
use redfish_peers::{Fake, UUID};
use tokio::time::Instant;

const WAIT: Duration = Duration::from_secs(5);
/// Enough for a command to be carried out, and short to wait out.
const SILENT: Duration = Duration::from_secs(1);
/// Less than any of the commands may take; what is slower than this is silence.
const SHORT: Duration = Duration::from_millis(200);

fn name(answer: &Result<Response, Failure>) -> &'static str {
    match answer {
        Ok(_) => "an answer",
        Err(Failure::NoAnswer { .. }) => "no answer",
        Err(Failure::Garbage { .. }) => "garbage",
        Err(Failure::Refused { .. }) => "refused",
        Err(other) => panic!("{other:?}"),
    }
}

async fn goes_through_the_table(kind: &str, inner: impl Device) {
    let late = Duration::from_millis(50);
    let table = [
        (Fault::Delay(late), WAIT, ["an answer"; 4]),
        (Fault::Delay(WAIT), SHORT, ["no answer"; 4]),
        (Fault::LoseAnswer, SILENT, ["no answer"; 4]),
        (Fault::LoseCommand, SHORT, ["no answer"; 4]),
        (Fault::Garbage, WAIT, ["garbage"; 4]),
        (Fault::Refuse, WAIT, ["refused"; 4]),
        (Fault::Lie(Reading::Off), WAIT, ["an answer"; 4]),
    ];
    let mut device = Faulty::new(inner);
    for (fault, wait, expected) in table {
        for (command, expected) in
            [Command::Prove, Command::Read, Command::Off, Command::On].into_iter().zip(expected)
        {
            device = device.then(Some(fault.clone()));
            let started = Instant::now();
            let answer = device.run(command, (started + wait).into()).await;
            assert_eq!(name(&answer), expected, "{kind}: {fault:?}, {command:?}: {answer:?}");
            assert!(started.elapsed() < wait + Duration::from_millis(200), "{kind}: {fault:?} overran");
        }
        // And it is over with the fault: what it reads is what it was told last that reached it.
        let ordered = device.run(Command::Off, (Instant::now() + WAIT).into()).await;
        assert!(matches!(ordered, Ok(Response::Acknowledged | Response::AlreadySo)), "{kind}: {ordered:?}");
        let read = device.run(Command::Read, (Instant::now() + WAIT).into()).await;
        assert_eq!(read, Ok(Response::Reads(Reading::Off)), "{kind}, after {fault:?}");
    }
}

#[tokio::test]
async fn ipmi() {
    let bmc = Bmc::pyghmi();
    goes_through_the_table("ipmi", bmc.device(Suite::Seventeen)).await;
}

#[tokio::test]
async fn redfish() {
    let fake = Fake::start().await;
    let device = redfish_peers::device(fake.address, None, Auth::Session, "secret", UUID);
    goes_through_the_table("redfish", device).await;
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
    assert!(device.run(Command::On, (Instant::now() + WAIT).into()).await.is_ok());
    goes_through_the_table("agent", device).await;
}
