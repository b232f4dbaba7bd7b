//! Hosts at a namespace of Linux's own NVMe target: the device of kind `scsi` (`fencing/devices/examples/reservations.rs`) at their
//! kernel's own disks, and what `nvme` and the disk itself say of it.

use std::path::Path;
use std::time::Duration;

use super::expect;
use crate::guests::{Guest, Hardware, Kernel, Nvmet, Rack, Space, built};
use crate::lab::shell::Finished;
use crate::lab::trouble::{Context, Result};

const DISK: Space = Space { wwid: "uuid.5a6b0001-0000-4000-8000-00000000000a", reserves: true };
/// Known by an NGUID, and by no UUID.
const OTHER: Space = Space { wwid: "eui.5a6b000400000000000000000000000d", reserves: true };
/// Serves no reservations, beside two that do.
const PLAIN: Space = Space { wwid: "uuid.5a6b0002-0000-4000-8000-00000000000b", reserves: false };
/// Of an array whose controllers do none at all.
const OLD: Space = Space { wwid: "uuid.5a6b0003-0000-4000-8000-00000000000c", reserves: false };
/// Of the hosts, as `/etc/nvme/hostid` has them.
const IDENTIFIERS: [&str; 3] = [
    "11111111-2222-4333-8444-555555555501",
    "11111111-2222-4333-8444-555555555502",
    "11111111-2222-4333-8444-555555555503",
];
/// A guest notices a thaw, a conflict and an answer within a second.
const SOON: Duration = Duration::from_secs(20);

pub(super) fn check(rack: &Rack) -> Result<()> {
    let program = built::example(rack, "palisade-devices", "reservations")?;
    let array = Nvmet::start(rack, "array", Kernel::Backport, &[DISK, PLAIN, OTHER])?;
    let [a, b, c] = IDENTIFIERS;
    let mut first = host(rack, "first", &program)?;
    let mut second = host(rack, "second", &program)?;
    array.connect(&mut first, a, 2)?;
    array.connect(&mut second, b, 1)?;

    registered_and_read_back(&mut first, &mut second)?;
    cut_in_the_middle_of_its_writes(&mut first, &mut second)?;

    // The machine with another adapter, which has a key of an older life.
    let mut third = host(rack, "third", &program)?;
    array.connect(&mut third, c, 1)?;
    opened_again_and_one_key_left(&mut first, &mut second, &mut third)?;
    // And now it is a clone of the first one.
    array.disconnect(&mut third)?;
    array.connect(&mut third, a, 1)?;
    cloned(&mut first, &mut second, &mut third)?;
    lives(&mut second, OTHER, 1, 2)?;
    says(&mut second, "on", "acknowledged")?;
    says(&mut second, "prove 1", "proven, reads on")?;
    told_what_right_it_lacks(&mut second)?;
    refused_where_none_are_done(rack, &mut third)
}

/// Both register; who has not may not write; one of two paths may go.
fn registered_and_read_back(first: &mut Guest, second: &mut Guest) -> Result<()> {
    for (host, number) in [(&mut *first, 0), (&mut *second, 1)] {
        let wwid = host.run("cat /sys/block/nvme0n1/wwid")?;
        expect(wwid.trim() == DISK.wwid, || format!("/dev/nvme0n1 is {wwid}, want {}", DISK.wwid))?;
        lives(host, DISK, number, 1)?;
    }
    says(second, "prove 0", "failed: refused: uuid.5a6b0001-0000-4000-8000-00000000000a is not reserved")?;
    says(first, "on", "acknowledged")?;
    writes(second, false, "who is not registered could write")?;
    says(second, "prove 0", "failed: refused: uuid.5a6b0001-0000-4000-8000-00000000000a: 0 of 1 paths")?;
    says(second, "on", "acknowledged")?;
    writes(second, true, "who is registered could not write")?;
    says(second, "prove 0", "proven, reads on")?;
    says(first, "prove 0", "proven, reads on")?;
    let (key_a, key_b) = (key(second, 0, 1)?, key(second, 1, 1)?);
    report(second, &[(IDENTIFIERS[0], &key_a), (IDENTIFIERS[1], &key_b)])?;
    first.run("nvme disconnect --device=nvme1")?;
    says(first, "prove 0", "proven, reads on")
}

/// The first one is frozen while it writes, and loses its key; what it sends once it goes on changes nothing.
fn cut_in_the_middle_of_its_writes(first: &mut Guest, second: &mut Guest) -> Result<()> {
    first.run(&format!(
        "(while {WRITE}; do echo >>/tmp/written; done; echo $? >/tmp/ended) >/tmp/writer 2>&1 &"
    ))?;
    first.wait_for(SOON, "test -s /tmp/written")?;
    first.freeze()?;
    says(second, "off 0 1", "acknowledged")?;
    says(second, "read 0", "reads off")?;
    says(second, "off 0 1", "already so")?;
    let key_b = key(second, 1, 1)?;
    report(second, &[(IDENTIFIERS[1], &key_b)])?;
    second.run("dd if=/bin/busybox of=/dev/nvme0n1 bs=4096 count=1 oflag=direct")?;
    first.thaw()?;
    first.wait_for(SOON, "test -e /tmp/ended")?;
    let words = first.run("cat /tmp/writer")?;
    // EBADE, which is what Linux makes of a reservation conflict.
    expect(words.contains("Invalid exchange"), || format!("it ended in another way: {words}"))?;
    writes(first, false, "a cut host could write")?;
    second.run(UNCHANGED).during("the cut host wrote over its successor's data")?;
    says(first, "read 0", "reads off")
}

/// The next lives register keys of their own; a key of any life that is left, wherever, is no off.
fn opened_again_and_one_key_left(first: &mut Guest, second: &mut Guest, third: &mut Guest) -> Result<()> {
    lives(first, DISK, 0, 2)?;
    says(first, "on", "acknowledged")?;
    writes(first, true, "a host that was opened again could not write")?;
    says(second, "off 0 1", "already so")?;
    says(second, "read 0", "reads on")?;
    // A reboot leaves the key of the life before.
    lives(first, DISK, 0, 3)?;
    says(first, "on", "acknowledged")?;
    let (key_a, key_b, old) = (key(second, 0, 3)?, key(second, 1, 1)?, key(second, 0, 9)?);
    report(second, &[(IDENTIFIERS[0], &key_a), (IDENTIFIERS[1], &key_b)])?;
    third.run(&format!("nvme resv-register /dev/nvme0n1 --nrkey={old} --rrega=0"))?;
    says(second, "off 0 3", "acknowledged")?;
    says(second, "read 0", "reads on")?;
    writes(third, true, "the key that is left does not count")?;
    report(second, &[(IDENTIFIERS[1], &key_b), (IDENTIFIERS[2], &old)])?;
    lives(first, DISK, 0, 4)?;
    says(first, "on", "acknowledged")?;
    writes(third, false, "a new life did not clear what an old one had left")
}

/// Two machines with one Host Identifier are one to the disk: the second one is refused while the first one is registered; and what
/// it makes of the first one, once that is cut, is never read off.
fn cloned(first: &mut Guest, second: &mut Guest, third: &mut Guest) -> Result<()> {
    lives(third, DISK, 2, 1)?;
    says(
        third,
        "on",
        "failed: refused: uuid.5a6b0001-0000-4000-8000-00000000000a: the Host Identifier 11111111",
    )?;
    says(second, "read 0", "reads on")?;
    says(second, "off 0 4", "acknowledged")?;
    says(second, "read 0", "reads off")?;
    writes(first, false, "a cut host could write")?;
    says(third, "on", "acknowledged")?;
    writes(
        first,
        true,
        "a namespace tells two hosts with one identifier apart: then this need not be refused",
    )?;
    says(
        second,
        "read 0",
        "failed: refused: uuid.5a6b0001-0000-4000-8000-00000000000a: the Host Identifier 11111111",
    )?;
    says(second, "off 2 1", "acknowledged")?;
    writes(first, false, "a host whose clone was cut could write")
}

/// With the rights that the agent's unit has (`systemd/palisade.service`), SCSI commands pass and NVMe commands do not.
fn told_what_right_it_lacks(host: &mut Guest) -> Result<()> {
    for (rights, want) in [
        (
            "-all,+dac_override,+sys_rawio",
            "failed: privilege too low: /dev/nvme0n1: NVMe commands need CAP_SYS_ADMIN",
        ),
        ("-all,+dac_override,+sys_rawio,+sys_admin", "proven, reads off"),
    ] {
        let said = host.run(&format!(
            "echo prove 0 | /opt/setpriv --bounding-set={rights} /opt/reservations {} 1 1",
            DISK.wwid
        ))?;
        expect(said.starts_with(want), || format!("with {rights} it said {said:?}, want {want:?}"))?;
    }
    Ok(())
}

fn refused_where_none_are_done(rack: &Rack, host: &mut Guest) -> Result<()> {
    lives(host, PLAIN, 2, 1)?;
    says(
        host,
        "on",
        "failed: refused: /dev/nvme0n2: Identify Namespace: the namespace does no reservations (RESCAP)",
    )?;
    let old = Nvmet::start(rack, "old", Kernel::Stable, &[OLD])?;
    old.connect(host, IDENTIFIERS[2], 1)?;
    lives(host, OLD, 2, 1)?;
    let said = say(host, "prove 1")?;
    let want = "Identify Controller: the controller does no reservations (ONCS)";
    expect(said.contains(want), || format!("of Linux 6.1's target: {said}"))
}

/// One block past the page cache; busybox's own `dd` cannot.
const WRITE: &str = "dd if=/dev/zero of=/dev/nvme0n1 bs=4096 count=1 oflag=direct";
/// On the disk itself: what the second one wrote.
const UNCHANGED: &str =
    "dd if=/dev/nvme0n1 of=/tmp/block bs=4096 count=1 iflag=direct && cmp -n 4096 /bin/busybox /tmp/block";

fn host(rack: &Rack, name: &str, program: &Path) -> Result<Guest> {
    let mut hardware = Hardware::default();
    hardware.reaches_rack();
    hardware.files.program(program, "/opt/reservations")?;
    for program in ["/usr/sbin/nvme", "/bin/dd", "/usr/bin/cmp", "/usr/bin/setpriv"] {
        let name = Path::new(program).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let added = hardware.files.program(Path::new(program), &format!("/opt/{name}"));
        added.during("`sh tests/setup.sh` installs what is missing")?;
    }
    let mut guest = Guest::start(rack, name, hardware)?;
    guest.run(
        "for driver in virtio_pci virtio_net nvme-tcp; do modprobe $driver || exit 1; done; \
         ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up && mkfifo /tmp/orders",
    )?;
    Ok(guest)
}

/// Begins a life of a host, and ends the one before.
fn lives(guest: &mut Guest, disk: Space, host: u8, life: u8) -> Result<()> {
    guest.run(&format!(
        "[ ! -e /tmp/pid ] || kill $(cat /tmp/pid); : >/tmp/words; \
         reservations {} {host} {life} <>/tmp/orders >>/tmp/words 2>&1 & echo $! >/tmp/pid",
        disk.wwid
    ))?;
    Ok(())
}

/// Gives the life that lives an order, and waits for its answer.
fn say(guest: &mut Guest, order: &str) -> Result<String> {
    let before: usize = guest.run("wc -l </tmp/words")?.trim().parse().during("a number of lines")?;
    guest.run(&format!("echo {order} >/tmp/orders"))?;
    guest.wait_for(SOON, &format!("[ $(wc -l </tmp/words) -gt {before} ]"))?;
    Ok(guest.run("tail -n 1 /tmp/words")?.trim().to_owned())
}

fn says(guest: &mut Guest, order: &str, want: &str) -> Result<()> {
    let said = say(guest, order)?;
    expect(said.starts_with(want), || format!("to `{order}` it said {said:?}, want {want:?}"))
}

fn key(guest: &mut Guest, host: u8, life: u8) -> Result<String> {
    say(guest, &format!("key {host} {life}"))
}

fn writes(guest: &mut Guest, may: bool, otherwise: &str) -> Result<()> {
    let done: Finished = guest.call(WRITE)?;
    expect((done.code == Some(0)) == may, || format!("{otherwise}: {}", done.text.trim()))
}

/// What `nvme` reads: write exclusive for registrants, and these are registered and nobody else.
fn report(guest: &mut Guest, registered: &[(&str, &str)]) -> Result<()> {
    let text = guest.run("nvme resv-report --eds /dev/nvme0n1")?;
    let number = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split(':').nth(1)).map(|number| number.trim().to_owned())
    };
    let counted =
        number("rtype").as_deref() == Some("3") && number("regctl") == Some(registered.len().to_string());
    let named = registered.iter().all(|(host, key)| {
        let key = key.trim_start_matches("0x").trim_start_matches('0');
        text.contains(&format!("rkey       : {key}")) && text.contains(&host.replace('-', ""))
    });
    expect(counted && named, || format!("want {registered:?} in {text}"))
}
