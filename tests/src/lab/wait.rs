//! Waiting: always for something, always with a deadline.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::os::fd::AsFd;

use super::trouble::{Context, Result};

/// Between two looks at something that announces nothing (a cgroup's state, another process's socket).
const QUICK_TICK_MS: u16 = 2;
/// Between two looks when no file changed: what is asked over the API changes without a file.
const TICK_MS: u16 = 25;

/// Looks every 2 ms until `there` or the deadline; says whether it came.
pub fn until_quick(deadline: Instant, mut there: impl FnMut() -> bool) -> bool {
    loop {
        if there() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        let _ = poll(&mut [], QUICK_TICK_MS);
    }
}

/// Lets time pass where time itself is the thing (a workload's pace, a BMC's slowness), never to wait for something.
pub fn pause(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        let left_ms = u16::try_from(left.as_millis()).unwrap_or(u16::MAX).max(1);
        let _ = poll(&mut [], left_ms);
    }
}

/// Wakes when a host wrote to its journal or a workload to its log, and at least every 25 ms.
#[derive(Debug)]
pub struct Pulse(Inotify);

impl Pulse {
    /// Watches these directories.
    ///
    /// # Errors
    /// One of them is not there.
    pub fn watching<'a>(directories: impl IntoIterator<Item = &'a Path>) -> Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).during("inotify")?;
        for directory in directories {
            let mask = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE;
            inotify.add_watch(directory, mask).during(directory.display())?;
        }
        Ok(Self(inotify))
    }

    /// Waits for the next change, the next tick or `deadline`, whichever comes first.
    pub fn wait(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let tick = left.min(Duration::from_millis(u64::from(TICK_MS)));
        let tick_ms = u16::try_from(tick.as_millis()).unwrap_or(TICK_MS).max(1);
        let mut watched = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut watched, PollTimeout::from(tick_ms));
        // What changed does not matter; the queue only has to be empty for the next wait.
        let _ = self.0.read_events();
    }
}
