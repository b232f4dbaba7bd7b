//! One cut by SCSI reservations and its proof, timed, on a host that sees the disk. `cargo lab bench` runs it in a virtual machine
//! beside `fence_scsi`, which needs the kernel's own devices as this does.
//!
//! `scsi_bench key` prints the key that the victim must have registered; `scsi_bench naa.LUN` opens this host's own paths, then cuts the
//! victim off, reads it off, and prints how long that took in ms: `warm` from the order on, as an agent does it, and `cold` from the
//! beginning.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark stops at the first oddity")]

use std::time::{Duration, Instant};

use palisade_devices::scsi::{Kernel, Key, Me, Scsi, ScsiConfig};
use palisade_devices::{Device as _, Warrant};
use palisade_ladder::{Command, Reading, Response};
use palisade_proto::{HostId, Incarnation};

const CLUSTER: &str = "bench";
const DEADLINE: Duration = Duration::from_secs(20);

fn life(host: u8) -> Incarnation {
    Incarnation::new(HostId::new(host).unwrap(), [host; 8])
}

async fn run(device: &mut Scsi<Kernel>, command: Command, whom: Incarnation) -> Response {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    let warrant = Warrant { deadline, standing: None, whom: Some(whom) };
    device.run(command, warrant).await.unwrap()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let began = Instant::now();
    let word = std::env::args().nth(1).unwrap_or_default();
    let (victim, own) = (life(0), life(1));
    if word == "key" {
        println!("{}", Key::of(CLUSTER, victim));
        return;
    }
    let device = |host: HostId| {
        let config = ScsiConfig::new(CLUSTER, std::slice::from_ref(&word), host).unwrap();
        Scsi::new(config, Some(Me { life: own, first_of_boot: true }), Kernel::default())
    };
    assert_eq!(run(&mut device(own.host), Command::On, own).await, Response::Acknowledged);
    let mut cut = device(victim.host);
    assert_eq!(
        run(&mut cut, Command::Read, victim).await,
        Response::Reads(Reading::On),
        "the victim is not registered"
    );
    let ordered = Instant::now();
    assert_eq!(run(&mut cut, Command::Off, victim).await, Response::Acknowledged);
    assert_eq!(run(&mut cut, Command::Read, victim).await, Response::Reads(Reading::Off));
    let ms = |since: Instant| since.elapsed().as_secs_f64() * 1000.0;
    println!("{:.2} {:.2}", ms(ordered), ms(began));
}
