//! Two hosts at one disk: one is frozen while it writes, loses its registrations to the other, and writes nothing once it goes on.

use std::path::Path;
use std::time::Duration;

use super::expect;
use crate::guests::{Guest, Hardware, Lio, Lun, Rack};
use crate::lab::shell::Finished;
use crate::lab::trouble::{Context, Result, Trouble};

const LUN: Lun = Lun { serial: "c0000000000000000000000000000003" };
/// From `sg_persist(8)`: another I_T nexus did something that the device tells before it obeys again.
const UNIT_ATTENTION: i32 = 6;
/// And: somebody else's reservation forbids it.
const CONFLICT: i32 = 24;
/// Disks are found within a second of their driver; a guest notices a thaw and a conflict as fast.
const SOON: Duration = Duration::from_secs(20);

pub(super) fn check(rack: &Rack) -> Result<()> {
    let mut array = Lio::start(rack, "array", &[LUN])?;
    let mut first = host(rack, "first", &array, 2)?;
    let mut second = host(rack, "second", &array, 1)?;
    for disk in ["sda", "sdb"] {
        let wwid = first.run(&format!("cat /sys/block/{disk}/device/wwid"))?;
        expect(wwid.trim() == LUN.wwid(), || format!("{disk} is {wwid}, want {}", LUN.wwid()))?;
    }

    for (path, key) in [("sda", "0xa1"), ("sdb", "0xa1")] {
        out(&mut first, path, &format!("--register --param-sark={key}"))?;
    }
    out(&mut first, "sda", "--reserve --param-rk=0xa1 --prout-type=5")?;
    let seen = array.reservations(0)?;
    expect(seen.matches("iqn.2026-11.lab:first").count() >= 2, || {
        format!("two paths are not two registrations: {seen}")
    })?;
    let refused = write_once(&mut second)?;
    expect(refused.code != Some(0), || "who is not registered could write".into())?;
    out(&mut second, "sda", "--register --param-sark=0xb2")?;
    let allowed = write_once(&mut second)?;
    expect(allowed.code == Some(0), || format!("who is registered could not write: {}", allowed.text))?;

    first.run(&format!(
        "(while {WRITE}; do echo >>/tmp/written; done; echo $? >/tmp/ended) >/tmp/words 2>&1 &"
    ))?;
    first.wait_for(SOON, "test -s /tmp/written")?;
    first.freeze()?;
    out(&mut second, "sda", "--preempt-abort --param-rk=0xb2 --param-sark=0xa1 --prout-type=5")?;
    let keys = second.run("sg_persist --in --read-keys /dev/sda")?;
    expect(!keys.contains("0xa1") && keys.contains("0xb2"), || format!("keys after the preemption: {keys}"))?;
    second.run("dd if=/bin/busybox of=/dev/sda bs=4096 count=1 oflag=direct")?;
    first.thaw()?;
    first.wait_for(SOON, "test -e /tmp/ended")?;
    second
        .run("cmp -n 4096 /bin/busybox /dev/sda")
        .during("the frozen host wrote over its successor's data")?;
    for path in ["sda", "sdb"] {
        let late = persist(&mut first, path, "--register --param-rk=0xa1 --param-sark=0xa3")?;
        expect(late.code == Some(CONFLICT), || format!("a lost key still counts on {path}: {late:?}"))?;
    }
    Ok(())
}

/// One block past the page cache; busybox's own `dd` cannot.
const WRITE: &str = "dd if=/dev/zero of=/dev/sda bs=4096 count=1 oflag=direct";

fn host(rack: &Rack, name: &str, array: &Lio, paths: usize) -> Result<Guest> {
    let mut hardware = Hardware::default();
    for _ in 0..paths {
        hardware.path(array, 0, &format!("iqn.2026-11.lab:{name}"));
    }
    for program in ["/usr/bin/sg_persist", "/bin/dd", "/usr/bin/cmp"] {
        let name = Path::new(program).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let added = hardware.files.program(Path::new(program), &format!("/opt/{name}"));
        added.during("`sh tests/setup.sh` installs what is missing")?;
    }
    let mut guest = Guest::start(rack, name, hardware)?;
    guest.load_disks(paths)?;
    Ok(guest)
}

fn write_once(guest: &mut Guest) -> Result<Finished> {
    guest.call(WRITE)
}

/// A PERSISTENT RESERVE OUT that has to succeed.
fn out(guest: &mut Guest, disk: &str, what: &str) -> Result<()> {
    let done = persist(guest, disk, what)?;
    if done.code == Some(0) { Ok(()) } else { Err(Trouble::new(format!("sg_persist {what}: {done:?}"))) }
}

/// A PERSISTENT RESERVE OUT; one that only met a unit attention is given again.
fn persist(guest: &mut Guest, disk: &str, what: &str) -> Result<Finished> {
    let command = format!("sg_persist --out {what} /dev/{disk}");
    let done = guest.call(&command)?;
    if done.code == Some(UNIT_ATTENTION) { guest.call(&command) } else { Ok(done) }
}
