//! A process of a rack: in a cgroup of its own, killed with all that it started when it is dropped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Rack;
use crate::lab::shell;
use crate::lab::trouble::{Context, Result, Trouble};
use crate::lab::wait;

/// It ends when it has computed for so long, whatever happens to us; a guest's init has such a limit in its own time.
const LIFE_LIMIT_S: u32 = 900;
/// The kernel freezes a process within milliseconds.
const FREEZE_LIMIT: Duration = Duration::from_secs(5);

/// A running process.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    cgroup: PathBuf,
    log: PathBuf,
}

impl Process {
    /// Starts a program in `dir`, with its words in `dir/PROGRAM.log`. `name` is its own in the rack.
    pub(super) fn start(
        rack: &Rack,
        name: &str,
        dir: &Path,
        program: &str,
        arguments: &[String],
    ) -> Result<Self> {
        let cgroup = rack.cgroup(name)?;
        shell::make_dir(&cgroup)?;
        let log = dir.join(format!("{program}.log"));
        let words = File::create(&log).during(log.display())?;
        let child = Command::new("nsenter")
            .args([&rack.inside(), "sh", "-c"])
            .args(["echo 0 > \"$1/cgroup.procs\" && ulimit -t \"$2\" && shift 2 && exec \"$@\"", "sh"])
            .arg(&cgroup)
            .args([&LIFE_LIMIT_S.to_string(), program])
            .args(arguments)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(words.try_clone().during(log.display())?)
            .stderr(words)
            .spawn()
            .during(program)?;
        Ok(Self { child, cgroup, log })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// A trouble with what the program said.
    pub(super) fn said(&self, trouble: impl std::fmt::Display) -> Trouble {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let way_out = if log.contains("Unknown driver 'iscsi'") { " (install qemu-block-extra)" } else { "" };
        Trouble::new(format!("{trouble} {}{way_out}", log.trim()).trim_end())
    }

    pub(super) fn set_frozen(&self, frozen: bool) -> Result<()> {
        let state = u8::from(frozen).to_string();
        fs::write(self.cgroup.join("cgroup.freeze"), &state).during("cgroup.freeze")?;
        let want = format!("frozen {state}");
        let so = wait::until_quick(Instant::now() + FREEZE_LIMIT, || {
            fs::read_to_string(self.cgroup.join("cgroup.events")).is_ok_and(|events| events.contains(&want))
        });
        if so { Ok(()) } else { Err(Trouble::new(format!("{}: not {want}", self.cgroup.display()))) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = fs::write(self.cgroup.join("cgroup.kill"), "1");
        let _ = self.child.wait();
    }
}
