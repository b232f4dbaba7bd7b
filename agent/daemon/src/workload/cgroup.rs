//! The cgroup2 of a workload that the agent forked: where it is, who is in it, and the switch that kills them all.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::{AccessFlags, Pid, access};

/// Between two looks whether a killed cgroup is empty; it is after some milliseconds.
const LOOK: Duration = Duration::from_millis(2);

/// Where cgroup2 is mounted: alone (unified), or beside the old hierarchies (hybrid).
pub(super) fn mount() -> Option<PathBuf> {
    let is_cgroup2 =
        |path: &&str| statfs(*path).is_ok_and(|found| found.filesystem_type() == CGROUP2_SUPER_MAGIC);
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].iter().copied().find(is_cgroup2).map(PathBuf::from)
}

/// The cgroup that holds the agent's own: workloads get theirs beside the agent's, so that what ends the agent's cgroup leaves
/// them alone. In the root cgroup the agent has no siblings; theirs are then directly below the root.
pub(super) fn parent_of_own() -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let parent = parent_in(&mount()?, path)?;
    access(&parent, AccessFlags::W_OK).is_ok().then_some(parent)
}

fn parent_in(mount: &Path, own: &str) -> Option<PathBuf> {
    // Outside our cgroup namespace: that tree is not ours to write.
    if own.split('/').any(|part| part == "..") {
        return None;
    }
    match own.rsplit_once('/') {
        Some((parent, _)) => Some(mount.join(parent)),
        None => Some(mount.to_owned()),
    }
}

/// A cgroup that may or may not exist.
#[derive(Clone, Debug)]
pub(super) struct Cgroup(PathBuf);

impl Cgroup {
    pub(super) fn at(dir: PathBuf) -> Self {
        Self(dir)
    }

    /// Makes it, and opens what a process writes `0` to in order to enter it.
    pub(super) fn enter(&self) -> io::Result<File> {
        match fs::create_dir(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(self.named(error)),
            Ok(()) | Err(_) => {}
        }
        OpenOptions::new().write(true).open(self.0.join("cgroup.procs")).map_err(|error| self.named(error))
    }

    /// Whether a process is in it or below; not for a cgroup that is not there.
    pub(super) fn populated(&self) -> io::Result<bool> {
        match fs::read_to_string(self.0.join("cgroup.events")) {
            Ok(events) => Ok(events.lines().any(|line| line == "populated 1")),
            Err(error) if gone(&error) => Ok(false),
            Err(error) => Err(self.named(error)),
        }
    }

    /// SIGKILL to everyone in it, and waits until they are gone: `Ok(true)` if they are within `limit`.
    pub(super) async fn kill(&self, limit: Duration) -> io::Result<bool> {
        let emptied = async {
            loop {
                self.signal()?;
                for _ in 0..50 {
                    if !self.populated()? {
                        return Ok(());
                    }
                    tokio::time::sleep(LOOK).await;
                }
            }
        };
        match tokio::time::timeout(limit, emptied).await {
            Ok(Ok(())) => Ok(true),
            Ok(Err(error)) => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// Removes it if nobody is in it; one that has cgroups of its own below stays, empty. Only for what the agent made: systemd
    /// would wait for ever for word that a cgroup removed under it has emptied.
    pub(super) fn remove(&self) {
        match fs::remove_dir(&self.0) {
            Ok(()) => {}
            Err(error) if gone(&error) => {}
            Err(error) => tracing::debug!(path = %self.0.display(), %error, "an emptied cgroup stays"),
        }
    }

    fn signal(&self) -> io::Result<()> {
        match fs::write(self.0.join("cgroup.kill"), "1") {
            Ok(()) => Ok(()),
            Err(_) if !self.0.exists() => Ok(()),
            // The file is missing before Linux 5.14, and read-only for a service with ProtectControlGroups=.
            Err(error) => {
                tracing::debug!(path = %self.0.display(), %error, "no cgroup.kill; its processes are killed one by one");
                self.signal_each()
            }
        }
    }

    /// One by one, also in the cgroups below; who forks meanwhile is met in the next round.
    pub(super) fn signal_each(&self) -> io::Result<()> {
        let procs = match fs::read_to_string(self.0.join("cgroup.procs")) {
            Ok(procs) => procs,
            Err(error) if gone(&error) => return Ok(()),
            Err(error) => return Err(self.named(error)),
        };
        for pid in procs.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0) {
            // Gone already is as good.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let mut below = entries.filter(|entry| entry.file_type().is_ok_and(|of| of.is_dir()));
        below.try_for_each(|entry| Self(entry.path()).signal_each())
    }

    fn named(&self, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.0.display()))
    }
}

/// A cgroup that is removed under an open or half-done access answers ENODEV.
fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ENODEV)
}

/// SIGKILL to every process whose environment holds `mark`: for hosts without a writable cgroup2. `Ok(true)` once a whole round
/// over all processes meets none.
pub(super) async fn kill_marked(mark: &str, limit: Duration) -> io::Result<bool> {
    let emptied = async {
        while signal_marked(mark)? > 0 {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    };
    match tokio::time::timeout(limit, emptied).await {
        Ok(result) => result.map(|()| true),
        Err(_) => Ok(false),
    }
}

fn signal_marked(mark: &str) -> io::Result<usize> {
    let mut met = 0;
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // A process that ends while it is looked at has no environment to read; nor has a zombie.
        let Ok(environment) = fs::read(entry.path().join("environ")) else { continue };
        if environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()) {
            met += 1;
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    Ok(met)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_live_beside_the_agent() {
        let parent = |own| parent_in(Path::new("/sys/fs/cgroup"), own);
        assert_eq!(parent(""), Some("/sys/fs/cgroup".into()));
        assert_eq!(parent("agent"), Some("/sys/fs/cgroup".into()));
        assert_eq!(parent("hosts/a/agent"), Some("/sys/fs/cgroup/hosts/a".into()));
        assert_eq!(parent("../a"), None);
    }
}
