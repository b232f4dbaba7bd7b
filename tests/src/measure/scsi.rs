//! A host cut from a disk and the proof of it: this driver and `fence_scsi`, by turns, in the same virtual machine at the same array.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::guests::{Guest, Hardware, Lio, Lun, Rack, built};
use crate::lab::shell;
use crate::lab::trouble::{Context, Result, Trouble};

const LUN: Lun = Lun { serial: "b1000000000000000000000000000007" };
const RUNS: usize = 5;
/// An interpreter starts slowly on an emulated processor.
const SLOW: Duration = Duration::from_secs(120);
/// The key of `fence_scsi`'s own host, and of its victim.
const THEIR_KEYS: (&str, &str) = ("b2", "a1");

/// Prints a table.
///
/// # Errors
/// The guests do not come up, or one of the two does not cut.
pub fn run() -> Result<()> {
    let rack = Rack::new()?;
    let bench = built::example(&rack, "palisade-devices", "scsi_bench")?;
    let key = shell::run(&bench.display().to_string(), &["key"])?.trim().to_owned();
    let array = Lio::start(&rack, "array", &[LUN])?;
    let mut victim = host(&rack, "victim", &array, |_| Ok(()))?;
    let mut fencer = host(&rack, "fencer", &array, |hardware| {
        hardware.files.program(&bench, "/opt/scsi_bench")?;
        fence_scsi(hardware)
    })?;
    let register = |guest: &mut Guest, key: &str| {
        // The first command after another's cut may only be told of it.
        let command = format!("sg_persist --out --register-ignore --param-sark={key} /dev/sda");
        guest.run(&format!("{command} || {command}")).map(drop)
    };
    let (mut warm, mut cold, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    let their_cut = format!("fence_scsi -o off -d /dev/sda -k {}", THEIR_KEYS.1);
    // By turns, so that whatever else the machine does strikes all alike.
    for _ in 0..RUNS {
        register(&mut victim, &key)?;
        let words = fencer.run(&format!("scsi_bench {}", LUN.wwid()))?;
        let times: Vec<f64> = words.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [ordered, began] = times.as_slice() else {
            return Err(Trouble::new(format!("scsi_bench: {words}")));
        };
        warm.push(*ordered);
        cold.push(*began);

        register(&mut victim, THEIR_KEYS.1)?;
        fencer.run(&format!("mkdir -p /var/run && echo {} >/var/run/cluster.key", THEIR_KEYS.0))?;
        register(&mut fencer, THEIR_KEYS.0)?;
        let start = Instant::now();
        let done = fencer.call_within(SLOW, &their_cut)?;
        let took = start.elapsed().as_secs_f64() * 1000.0;
        let keys = fencer.run("sg_persist --in --read-keys /dev/sda")?;
        let cut = done.code == Some(0) && !keys.contains(&format!("0x{}", THEIR_KEYS.1));
        if !cut {
            return Err(Trouble::new(format!("{their_cut}: {done:?}, then {keys}")));
        }
        theirs.push(took);
    }
    println!(
        "\na host cut from a disk of LIO and read back, in a virtual machine, {RUNS} runs, median (least-most), ms"
    );
    for (name, mut times) in
        [("palisade, warm", warm), ("palisade, cold", cold), ("fence_scsi -o off", theirs)]
    {
        times.sort_by(f64::total_cmp);
        let at = |index: usize| times.get(index).copied().unwrap_or_default();
        println!("  {name:<32} {:>9.1} ({:.1}-{:.1})", at(RUNS / 2), at(0), at(RUNS - 1));
    }
    Ok(())
}

fn host(
    rack: &Rack,
    name: &str,
    array: &Lio,
    more: impl FnOnce(&mut Hardware) -> Result<()>,
) -> Result<Guest> {
    let mut hardware = Hardware::default();
    hardware.path(array, 0, &format!("iqn.2026-11.lab:{name}"));
    hardware.files.program(Path::new("/usr/bin/sg_persist"), "/usr/bin/sg_persist")?;
    more(&mut hardware)?;
    let mut guest = Guest::start(rack, name, hardware)?;
    guest.load_disks(1)?;
    guest.run("mkdir -p /opt && ln -sf /usr/bin/sg_persist /opt/sg_persist")?;
    Ok(guest)
}

/// The agent, its interpreter and what both import.
fn fence_scsi(hardware: &mut Hardware) -> Result<()> {
    hardware.memory_mib = 512;
    let files = &mut hardware.files;
    files.program(Path::new("/usr/bin/python3"), "/usr/bin/python3")?;
    files.program(Path::new("/usr/bin/sg_turs"), "/usr/bin/sg_turs")?;
    files
        .copy(Path::new("/usr/sbin/fence_scsi"), "/opt/fence_scsi")
        .during("fence_scsi (package fence-agents)")?;
    files.tree(Path::new("/usr/share/fence"), &[])?;
    let heavy =
        ["config-3.11-x86_64-linux-gnu", "test", "lib2to3", "pydoc_data", "distutils", "unittest", "tkinter"];
    files.tree(Path::new("/usr/lib/python3.11"), &heavy)?;
    let packages = Path::new("/usr/lib/python3/dist-packages");
    for package in ["pexpect", "ptyprocess"] {
        files.tree(&packages.join(package), &[])?;
    }
    let curl = packages.join("pycurl.cpython-311-x86_64-linux-gnu.so");
    files.program(&curl, &curl.display().to_string())?;
    Ok(())
}
