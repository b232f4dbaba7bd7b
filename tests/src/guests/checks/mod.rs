//! What is shown with guests: `cargo lab guests`.

mod array;
mod bmc;
mod initiators;
mod lun;
mod nvme;
mod scsi;
mod storage;
mod watchdog;

use std::time::Instant;

use super::Rack;
use crate::lab::trouble::{Result, Trouble};
use crate::side_by_side;

/// A check: its name, what it shows, and how.
type Check = (&'static str, &'static str, fn(&Rack) -> Result<()>);

const CHECKS: &[Check] = &[
    (
        "array",
        "the array keeps persistent reservations as the standard says, and has the names that we expect",
        array::check,
    ),
    (
        "initiators",
        "a host that is preempted while it is frozen writes nothing any more once it goes on",
        initiators::check,
    ),
    (
        "scsi",
        "the driver cuts a host on every path of every disk, and takes nothing less for a proof",
        scsi::check,
    ),
    (
        "lun",
        "an initiator that writes is cut off at its target over ssh, and nothing less than its end there is taken for one",
        lun::check,
    ),
    (
        "nvme",
        "the driver cuts a host from a namespace of an NVMe target, on every path of it, and takes two hosts with one identifier for no cut",
        nvme::check,
    ),
    (
        "storage-frozen",
        "no BMC answers: a hung host is cut from its disk, only what lives there moves, and it writes nothing any more",
        storage::frozen,
    ),
    (
        "storage-race",
        "the disk's cut releases before a silent BMC answers; hosts that come back open their paths and clear their old keys",
        storage::race,
    ),
    (
        "bmc",
        "a BMC is one and the same from its host and from the network, and its off ends the whole machine",
        bmc::check,
    ),
    (
        "watchdog",
        "the agent opens, feeds, hands over and stops the kernel's watchdogs, and refuses those that it could not stop",
        watchdog::obeys,
    ),
    (
        "watchdog-bites",
        "an armed watchdog ends its host when the agent is killed or hangs, and when the kernel hangs",
        watchdog::bites,
    ),
];

/// Runs the checks of these names (all of them when there is none), `jobs` at a time, each in a rack of its own. Prints one line
/// each and a closing line; says whether all passed.
///
/// # Errors
/// There is no check of one of these names.
pub fn run(names: &[String], jobs: usize) -> Result<bool> {
    let known = || CHECKS.iter().map(|(name, ..)| *name);
    if let Some(unknown) = names.iter().find(|name| known().all(|known| known != *name)) {
        let known: Vec<&str> = known().collect();
        return Err(Trouble::new(format!("no check {unknown}; there are: {}", known.join(", "))));
    }
    let wanted: Vec<&Check> = CHECKS
        .iter()
        .filter(|(name, ..)| names.is_empty() || names.iter().any(|wanted| wanted == name))
        .collect();
    Ok(side_by_side::run(&wanted, jobs, |check| run_one(check)))
}

fn run_one((name, shows, check): &Check) -> bool {
    let start = Instant::now();
    let outcome = Rack::new().and_then(|rack| check(&rack));
    let took = start.elapsed().as_secs_f64();
    match outcome {
        Ok(()) => println!("PASS {name} ({took:.1} s): {shows}"),
        Err(ref trouble) => println!("FAIL {name} ({took:.1} s): {trouble}"),
    }
    outcome.is_ok()
}

/// What a check says when it does not hold.
fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Trouble::new(otherwise())) }
}
