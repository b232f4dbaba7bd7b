//! Power: a host is a cgroup; `cgroup.kill` is its power switch and `cgroup.freeze` hangs it.
//!
//! These functions work on files alone, so that a BMC's chassis command (`lab power DIR off`) pulls the switch
//! while the lab itself is busy or gone.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::shell;
use super::trouble::{Context, Result, Trouble};
use super::wait;

/// Where cgroup2 hangs beside the v1 controllers, and where it hangs alone.
const CGROUP2: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

/// The kernel has killed a whole host in 8 ms; a second means that it is not going to.
const SWITCH_LIMIT: Duration = Duration::from_secs(5);

/// What the power switch has to know of a host; kept in its directory as `machine.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// The host's name.
    pub name: String,
    /// Its own directory in the lab.
    pub dir: PathBuf,
    /// Its cgroup2.
    pub cgroup: PathBuf,
    /// Its network namespace.
    pub netns: String,
    /// The bridges' network namespace.
    pub switch_netns: String,
    /// Its links.
    pub links: usize,
    /// The directory that all hosts share.
    pub shared: PathBuf,
}

/// The cgroup2 mount.
///
/// # Errors
/// This kernel has no writable cgroup2.
pub fn cgroup2() -> Result<PathBuf> {
    let found = CGROUP2.iter().map(Path::new).find(|root| root.join("cgroup.procs").exists());
    found
        .map(Path::to_path_buf)
        .during("cgroup2 (looked for cgroup.procs in /sys/fs/cgroup/unified and /sys/fs/cgroup)")
}

impl Machine {
    /// Reads `machine.json` of a host's directory.
    ///
    /// # Errors
    /// No such host.
    pub fn load(dir: &Path) -> Result<Self> {
        serde_json::from_str(&shell::read(&dir.join("machine.json"))?).during(dir.display())
    }

    /// Writes `machine.json`.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn save(&self) -> Result<()> {
        let text = serde_json::to_string(self).during("machine.json")?;
        shell::write(&self.dir.join("machine.json"), &text, 0o644)
    }

    /// Whether anything in the host runs (or hangs): what an honest BMC reads.
    #[must_use]
    pub fn is_on(&self) -> bool {
        fs::read_to_string(self.cgroup.join("cgroup.events"))
            .is_ok_and(|events| events.contains("populated 1"))
    }

    /// Takes the power away: every process of the host is gone when this returns.
    ///
    /// # Errors
    /// The kernel did not kill the cgroup in time.
    pub fn switch_off(&self) -> Result<()> {
        self.kill()?;
        self.plug("down")
    }

    /// Silent death: the wires go first, so that not even the kernel says a last word, then every process at once.
    ///
    /// # Errors
    /// The link or the cgroup did not obey.
    pub fn die_silently(&self) -> Result<()> {
        self.plug("down")?;
        self.kill()
    }

    /// Gives power: a new boot, with a new boot id and an empty /run. Does nothing to a host that is on.
    ///
    /// # Errors
    /// The host's first process did not appear.
    pub fn switch_on(&self) -> Result<()> {
        if self.is_on() {
            return Ok(());
        }
        for leaf in leaves(&self.cgroup) {
            let _ = fs::remove_dir(leaf);
        }
        // A host that lost its power while it hung does not hang after the boot.
        self.freeze(false)?;
        let init = self.cgroup.join("init");
        shell::make_dir(&init)?;
        shell::make_dir(&self.cgroup.join("agent"))?;
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/uuid").during("a new boot id")?;
        shell::write(&self.dir.join("boot_id"), &boot_id, 0o444)?;
        self.plug("up")?;
        let lab = std::env::current_exe().during("the lab's own binary")?;
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir.join("console.log"));
        let log = log.during("console.log")?;
        // Double fork: the shell exits at once, so the host belongs to nobody who would have to wait for it.
        let boot = format!(
            "(echo 0 > {cgroup}/cgroup.procs && exec setsid nsenter --net=/run/netns/{netns} -- \
             unshare --mount --uts --ipc --pid --fork --kill-child -- {lab} host {dir}) &",
            cgroup = init.display(),
            netns = self.netns,
            lab = lab.display(),
            dir = self.dir.display(),
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &boot]).stdin(Stdio::null());
        shell.stdout(log.try_clone().during("console.log")?).stderr(log).process_group(0);
        shell.status().during("booting")?;
        wait::until_quick(Instant::now() + SWITCH_LIMIT, || self.is_on()).then_some(()).ok_or_else(|| {
            Trouble::new(format!("{}: power is on and nothing runs; see console.log", self.name))
        })
    }

    /// Hangs or thaws the host; its kernel still answers.
    ///
    /// # Errors
    /// The cgroup does not take the order.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let knob = self.cgroup.join("cgroup.freeze");
        fs::write(&knob, if frozen { "1" } else { "0" }).during(knob.display())
    }

    fn kill(&self) -> Result<()> {
        let knob = self.cgroup.join("cgroup.kill");
        fs::write(&knob, "1").during(knob.display())?;
        wait::until_quick(Instant::now() + SWITCH_LIMIT, || !self.is_on())
            .then_some(())
            .ok_or_else(|| Trouble::new(format!("{}: still runs after cgroup.kill", self.name)))
    }

    /// At the host's own end: whether the port at the other end is open is the switch's.
    fn plug(&self, state: &str) -> Result<()> {
        let batch: String =
            (1..=self.links).map(|link| format!("link set dev eth{link} {state}\n")).collect();
        shell::feed("ip", &["-n", &self.netns, "-batch", "-"], &batch).map(drop)
    }

    /// The host's first process as this machine sees it; its namespaces are the host's.
    ///
    /// # Errors
    /// The host is off, or has not come that far in its boot.
    pub fn init_pid(&self) -> Result<i32> {
        pids(&self.cgroup.join("init"))
            .into_iter()
            .find(|pid| {
                let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                let inner = status.lines().find(|line| line.starts_with("NSpid:"));
                inner.is_some_and(|line| line.split_whitespace().skip(2).eq(["1"]))
            })
            .during(format!("{}: first process (is it on?)", self.name))
    }

    /// The agent's process, if there is one.
    #[must_use]
    pub fn agent_pid(&self) -> Option<i32> {
        pids(&self.cgroup.join("agent")).into_iter().find(|pid| {
            fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|comm| comm.trim_end().starts_with("palisade"))
        })
    }
}

/// Processes of one cgroup, without those below it.
#[must_use]
pub fn pids(cgroup: &Path) -> Vec<i32> {
    let procs = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    procs.lines().filter_map(|line| line.parse().ok()).collect()
}

/// The cgroups right below one.
#[must_use]
pub fn leaves(cgroup: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(cgroup) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).filter(|path| path.is_dir()).collect()
}
