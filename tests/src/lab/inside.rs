//! Inside a host: its first process. It lays out the host's own view of the machine, then keeps the agent running.
//!
//! What differs from machine to machine (boot id, DMI UUID, /run, /etc/palisade, /var/lib/palisade) is mounted over, so
//! that the agent reads it where it reads it on a real host; the agent has no option for any of it.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, sethostname};

use super::power::Machine;
use super::shell;
use super::trouble::{Context, Result};

/// As `RestartSec=` in the shipped unit: how long after a crash the agent starts again.
const RESTART_AFTER: Duration = Duration::from_millis(100);

/// Where the hosts' fence agent finds the namespace of the bridges.
pub(super) const SWITCH: &str = "/mnt/switch";

/// Where workloads find the directory that all hosts share.
pub const SHARED: &str = "/srv";

/// Runs as process 1 of a host, until the power goes.
///
/// # Errors
/// The host could not be laid out.
pub fn main(dir: &Path) -> Result<()> {
    let machine = Machine::load(dir)?;
    lay_out(&machine)?;
    supervise(&machine)
}

fn lay_out(machine: &Machine) -> Result<()> {
    let dir = &machine.dir;
    fresh("proc", "/proc", None)?;
    bind(&dir.join("boot_id"), "/proc/sys/kernel/random/boot_id")?;
    // A kernel may have no sysrq; where it has, a host that reboots itself must not reboot the lab.
    if Path::new("/proc/sysrq-trigger").exists() {
        bind(&dir.join("sysrq"), "/proc/sysrq-trigger")?;
    }
    // Nor does it speak in the log of this machine's kernel.
    bind(&dir.join("kmsg"), "/dev/kmsg")?;
    fresh("tmpfs", "/sys/class", None)?;
    shell::make_dir(Path::new("/sys/class/dmi/id"))?;
    let uuid = shell::read(&dir.join("product_uuid"))?;
    shell::write(Path::new("/sys/class/dmi/id/product_uuid"), &uuid, 0o400)?;
    // Mount points that this machine need not have: made in an overlay, never on its disk.
    fresh("tmpfs", "/mnt", None)?;
    for (place, name) in [("/etc", "etc"), ("/var/lib", "var")] {
        let (upper, work) = (format!("/mnt/{name}/upper"), format!("/mnt/{name}/work"));
        shell::make_dir(Path::new(&upper))?;
        shell::make_dir(Path::new(&work))?;
        fresh("overlay", place, Some(&format!("lowerdir={place},upperdir={upper},workdir={work}")))?;
    }
    for (inner, outer) in [("/etc/palisade", dir.join("etc")), ("/var/lib/palisade", dir.join("var"))] {
        shell::make_dir(Path::new(inner))?;
        bind(&outer, inner)?;
    }
    bind(&machine.shared, SHARED)?;
    // The switch is reached past the host's own wires.
    shell::write(Path::new(SWITCH), "", 0o600)?;
    bind(&Path::new("/run/netns").join(&machine.switch_netns), SWITCH)?;
    fresh("tmpfs", "/run", Some("mode=755"))?;
    sethostname(&machine.name).during("host name")
}

fn fresh(kind: &str, place: &str, data: Option<&str>) -> Result<()> {
    mount(Some(kind), place, Some(kind), MsFlags::empty(), data).during(format!("mounting {kind} on {place}"))
}

fn bind(outer: &Path, inner: &str) -> Result<()> {
    mount(Some(outer), inner, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .during(format!("binding {} to {inner}", outer.display()))
}

/// Keeps the agent running, as systemd's `Restart=always` does, and reaps what has no parent any more.
///
/// The file `want` says `run` or `stop` (what `systemctl start` and `systemctl stop` would have said); SIGUSR1 makes it read again.
fn supervise(machine: &Machine) -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals.add(Signal::SIGUSR1);
    signals.thread_block().during("blocking signals")?;
    let fd =
        SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).during("signalfd")?;
    let mut agent = start_if_wanted(machine, &signals)?;
    loop {
        let timeout = if agent.is_none() && wanted(machine) {
            PollTimeout::try_from(RESTART_AFTER).unwrap_or(PollTimeout::NONE)
        } else {
            PollTimeout::NONE
        };
        let rang =
            poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout).during("waiting for signals")?;
        while fd.read_signal().during("reading signals")?.is_some() {}
        // Also after a timeout: a death during the start of the agent has rung nowhere.
        while let Some(pid) = reap() {
            if agent
                .as_ref()
                .is_some_and(|child| i32::try_from(child.id()).is_ok_and(|id| id == pid.as_raw()))
            {
                agent = None;
            }
        }
        if agent.is_none() && rang == 0 {
            agent = start_if_wanted(machine, &signals)?;
        }
    }
}

fn reap() -> Option<Pid> {
    match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) => Some(pid),
        Ok(_) | Err(_) => None,
    }
}

fn wanted(machine: &Machine) -> bool {
    fs::read_to_string(machine.dir.join("want")).is_ok_and(|want| want.trim() == "run")
}

fn start_if_wanted(machine: &Machine, ours: &SigSet) -> Result<Option<Child>> {
    if !wanted(machine) {
        return Ok(None);
    }
    let log = fs::OpenOptions::new().create(true).append(true).open(machine.dir.join("agent.log"));
    let log = log.during("agent.log")?;
    let join = format!(
        "echo 0 > {}/cgroup.procs && exec {} agent",
        machine.cgroup.join("agent").display(),
        machine.dir.join("palisade").display()
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &join]).stdin(Stdio::null());
    shell.stdout(log.try_clone().during("agent.log")?).stderr(log).process_group(0);
    shell.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    shell.env("RUST_BACKTRACE", "1").current_dir("/");
    // The agent begins with no signal blocked, whatever the lab and this process wait for.
    SigSet::empty().thread_set_mask().during("signal mask")?;
    let agent = shell.spawn().during("starting the agent");
    ours.thread_set_mask().during("signal mask")?;
    agent.map(Some)
}
