//! The device of kind `scsi` as one life of one host has it, ordered by hand, on a machine whose kernel has the disk: `cargo lab
//! guests nvme` runs it in virtual machines.
//!
//! `reservations LUN HOST LIFE` takes orders on its standard input, one a line, and answers each with one line: `on` opens this
//! host's own paths, `off HOST LIFE` cuts that life, `read HOST` and `prove HOST` change nothing. `key HOST LIFE` names a life's key.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what it is told by hand is right")]

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_devices::scsi::{Kernel, Key, Me, Scsi, ScsiConfig};
use palisade_devices::{Device as _, Warrant};
use palisade_ladder::{Command, Reading, Response};
use palisade_proto::{HostId, Incarnation};

const CLUSTER: &str = "by-hand";
const DEADLINE: Duration = Duration::from_secs(10);

fn life(host: &str, life: &str) -> Incarnation {
    Incarnation::new(HostId::new(host.parse().unwrap()).unwrap(), [life.parse().unwrap(); 8])
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [lun, host, own] = words.as_slice() else { panic!("LUN HOST LIFE") };
    let me = life(host, own);
    let mut devices: BTreeMap<HostId, Scsi<Kernel>> = BTreeMap::new();
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let order: Vec<&str> = line.split_whitespace().collect();
        let (command, whom) = match order.as_slice() {
            ["on"] => (Command::On, me),
            ["off", host, its] => (Command::Off, life(host, its)),
            ["read", host] => (Command::Read, life(host, "0")),
            ["prove", host] => (Command::Prove, life(host, "0")),
            ["key", host, its] => {
                println!("{}", Key::of(CLUSTER, life(host, its)));
                continue;
            }
            _ => panic!("{line}"),
        };
        // Each stays, as an agent's do.
        let device = devices.entry(whom.host).or_insert_with(|| {
            let config = ScsiConfig::new(CLUSTER, std::slice::from_ref(lun), whom.host).unwrap();
            Scsi::new(config, Some(Me { life: me, first_of_boot: true }), Kernel::default())
        });
        let deadline = tokio::time::Instant::now() + DEADLINE;
        let warrant = Warrant { deadline, standing: None, whom: Some(whom) };
        match device.run(command, warrant).await {
            Ok(Response::Acknowledged) => println!("acknowledged"),
            Ok(Response::AlreadySo) => println!("already so"),
            Ok(Response::Reads(reads)) => println!("reads {}", name(reads)),
            Ok(Response::Proven(proven)) => println!("proven, reads {}", name(proven.reads)),
            Err(failure) => println!("failed: {failure}"),
        }
    }
}

fn name(reading: Reading) -> &'static str {
    match reading {
        Reading::On => "on",
        Reading::Off => "off",
        Reading::Unknown => "unknown",
    }
}
