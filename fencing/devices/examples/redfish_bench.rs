//! Side by side on the same Redfish services: this driver warm and cold, and fence_redfish.
//!
//! `cargo run --release -p palisade-devices --example redfish_bench [RUNS]` (tests/peers/install.sh brings the others). sushy-tools'
//! emulator is read only: its power changes one to eleven seconds after an order, at random.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark stops at the first oddity"
)]
#![allow(dead_code, reason = "the tests use more of the peers")]

#[path = "../tests/redfish_peers/mod.rs"]
mod redfish_peers;
mod side_by_side;

use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use palisade_devices::Device as _;
use palisade_devices::redfish::{Auth, Redfish};
use palisade_ladder::{Command, Reading, Response};
use redfish_peers::{Sushy, UUID, device};
use side_by_side::tell;

const RUNS: usize = 10;
const DEADLINE: Duration = Duration::from_secs(10);

async fn run(device: &mut Redfish, command: Command) -> Response {
    device.run(command, (tokio::time::Instant::now() + DEADLINE).into()).await.unwrap()
}

/// The tool's own status: 0, it read on.
async fn fence_redfish(port: u16) -> Option<i32> {
    let input = format!(
        "action=status\nip=127.0.0.1\nipport={port}\nusername=admin\npassword=secret\nsystems_uri=/redfish/v1/Systems/{UUID}\n\
         ssl_insecure=1\n"
    );
    let mut child = Process::new("/usr/sbin/fence_redfish")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("fence_redfish: {error}"));
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
    tokio::task::spawn_blocking(move || child.wait().unwrap().code()).await.unwrap()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let runs = std::env::args().nth(1).map_or(RUNS, |runs| runs.parse().unwrap());
    let sushy = Sushy::start();
    println!("power read from sushy-tools over TLS, {runs} runs, median (least-most)");
    let (mut warm, mut cold, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    let new = || device(sushy.address, Some(sushy.tls("127.0.0.1")), Auth::Basic, "secret", UUID);
    let mut kept = new();
    run(&mut kept, Command::Prove).await;
    // By turns, so that whatever else the machine does strikes all alike.
    for _ in 0..runs {
        let started = Instant::now();
        assert_eq!(run(&mut kept, Command::Read).await, Response::Reads(Reading::On));
        warm.push(started.elapsed());
        let started = Instant::now();
        assert_eq!(run(&mut new(), Command::Read).await, Response::Reads(Reading::On));
        cold.push(started.elapsed());
        let started = Instant::now();
        assert_eq!(fence_redfish(sushy.address.port()).await, Some(0));
        theirs.push(started.elapsed());
    }
    tell("palisade, warm", warm);
    tell("palisade, cold", cold);
    tell("fence_redfish -o status", theirs);
}
