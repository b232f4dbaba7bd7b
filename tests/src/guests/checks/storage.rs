//! Whole hosts at a real disk: what an agent may conclude from the disk's reservations when no BMC answers.

use std::time::Duration;

use super::expect;
use crate::guests::Rack;
use crate::guests::cluster::{Cluster, Plan};
use crate::lab::trouble::Result;

/// A cut, two starts and a status take seconds on emulated processors.
const SOON: Duration = Duration::from_secs(60);
/// The BMC's level fails after its retries.
const LADDER: Duration = Duration::from_secs(120);
const DB_RUNS: &str = "workload db status && test -s /tmp/written";

/// A host hangs in the middle of its writes, and its BMC with it: the disk is taken from it, and only what lives there moves.
pub(super) fn frozen(rack: &Rack) -> Result<()> {
    let mut cluster = Cluster::start(rack, Plan { race: false })?;
    cluster.wait("a", SOON, DB_RUNS)?;
    cluster.wait("a", SOON, "workload log status")?;
    cluster.bmc("a")?.set_silent(true)?;
    cluster.guest("a")?.freeze()?;

    cluster.wait("b", LADDER, &records("\"kind\":\"isolated\""))?;
    cluster.wait("b", SOON, DB_RUNS)?;
    cluster.wait("b", SOON, "palisade status | grep -q 'isolated'")?;
    cluster.wait("b", SOON, "palisade status | grep -q 'ALARM: .*a cannot be fenced'")?;
    let keys = cluster.array().reservations(0)?;
    expect(!keys.contains("iqn.2026-11.lab:a"), || format!("a is registered still: {keys}"))?;
    // Its power is not proven off: it may run what needs no disk.
    for host in ["b", "c"] {
        let moved = cluster.guest(host)?.call("workload log status")?;
        expect(moved.code == Some(3), || format!("log runs on {host}, and a's power is not proven off"))?;
    }

    // Nobody writes now, so that whatever a still brings to the disk would stay there.
    cluster.guest("b")?.run("kill -STOP $(cat /run/db.pid)")?;
    cluster.wait("b", SOON, NO_WRITE)?;
    cluster.guest("b")?.run(UNCHANGED)?;
    cluster.guest("a")?.thaw()?;
    // What was on its way, and the next one of its own, bounces; the agent ends the rest.
    cluster.wait("a", SOON, "! workload db status && ! workload log status")?;
    let late = "dd if=/bin/busybox of=/dev/sda bs=4096 seek=1 count=1 oflag=direct";
    let late = cluster.guest("a")?.call(late)?;
    expect(late.code != Some(0), || "a wrote after it was cut".into())?;
    cluster.guest("b")?.run(UNCHANGED)?;
    cluster.guest("b")?.run("rm /tmp/written && kill -CONT $(cat /run/db.pid)")?;
    cluster.wait("b", SOON, DB_RUNS)
}

/// The last write has ended: nobody who is stopped takes note of that, so its process may remain as a zombie.
const NO_WRITE: &str =
    "( for pid in $(pidof dd); do grep -q '^State:.*Z' /proc/$pid/status || exit 1; done )";
/// On the disk itself, past the page cache: the word of b in the first block, and nothing in the second.
const UNCHANGED: &str = "dd if=/dev/sda of=/tmp/blocks bs=4096 count=2 iflag=direct 2>/dev/null && \
                         test \"$(head -n 1 /tmp/blocks)\" = b && test \"$(tail -c 4096 /tmp/blocks | tr -d '\\000' | wc -c)\" -eq 0";

/// Power and storage race for one host, and its BMC does not answer: the storage releases what lives there, the power the rest as
/// soon as it can. Then the host comes back, and another that is rebooted finds the keys of its last life.
pub(super) fn race(rack: &Rack) -> Result<()> {
    let mut cluster = Cluster::start(rack, Plan { race: true })?;
    cluster.wait("a", SOON, DB_RUNS)?;
    cluster.wait("a", SOON, "workload log status")?;
    cluster.bmc("a")?.set_silent(true)?;
    cluster.switch_off("a")?;

    cluster.wait("b", SOON, DB_RUNS)?;
    cluster.wait("b", SOON, &records("\"kind\":\"isolated\""))?;
    let dead = cluster.guest("b")?.call(&records(DEAD))?;
    expect(dead.code != Some(0), || "a is proven dead, and its BMC has not answered".into())?;

    cluster.bmc("a")?.set_silent(false)?;
    cluster.wait("b", LADDER, &records(DEAD))?;
    cluster.wait("b", SOON, "workload log status")?;
    cluster.switch_on("a")?;
    cluster.settle()?;
    expect(registered(&mut cluster, "a")? == 2, || {
        "a is not registered once on each of its two paths".into()
    })?;

    let writes = "rm /tmp/written && until test -s /tmp/written; do usleep 20000; done";
    cluster.guest("b")?.run(writes)?;
    cluster.switch_off("c")?;
    cluster.switch_on("c")?;
    cluster.settle()?;
    expect(registered(&mut cluster, "c")? == 1, || "c has not cleared the key of its last life".into())?;
    cluster.guest("b")?.run(writes)?;
    Ok(())
}

/// How many registrations the array has of a host.
fn registered(cluster: &mut Cluster<'_>, host: &str) -> Result<usize> {
    Ok(cluster.array().reservations(0)?.matches(&format!("iqn.2026-11.lab:{host},")).count())
}

/// A record of a proven death.
const DEAD: &str = "\"kind\":\"dead\"";

/// A shell condition: the journal has such a record.
fn records(part: &str) -> String {
    format!("grep -q '{part}' /var/lib/palisade/journal/*.jsonl")
}
