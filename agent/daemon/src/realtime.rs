//! Keeps the agent running while the host is short of memory and processor time: locked memory, a real-time priority, the
//! last in line for the out-of-memory killer. None of it is a condition to run: what is missing becomes a warning that names
//! it. Children and later threads inherit none of the priority.

use std::fmt;
use std::io;

use nix::libc;
use nix::sys::mman::{MlockAllFlags, mlockall};

/// The stack of each of our threads. Locked memory counts in full, so stacks are small; the deepest (the journal's, in a debug
/// build) uses under a quarter of this.
pub(crate) const THREAD_STACK_BYTES: usize = 256 * 1024;
/// Above ordinary processes and below the kernel's own threads (50).
const PRIORITY: libc::c_int = 20;
const OOM_SCORE: &str = "-1000";

/// What could not be had, and what it takes.
#[derive(Debug)]
pub(crate) struct Missing {
    what: &'static str,
    takes: &'static str,
    source: io::Error,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; it takes {}", self.what, self.source, self.takes)
    }
}

impl std::error::Error for Missing {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Asks for everything; call it on the run loop's thread, after the large allocations of starting and before the first
/// heartbeat. Returns what was refused.
#[must_use]
pub(crate) fn apply() -> Vec<Missing> {
    let wanted: [(&'static str, &'static str, io::Result<()>); 3] = [
        ("memory is not locked", "CAP_IPC_LOCK or LimitMEMLOCK=infinity", lock_memory()),
        (
            "no real-time priority",
            "CAP_SYS_NICE or LimitRTPRIO=20, and no RestrictRealtime=",
            raise_priority(),
        ),
        (
            "not protected from the out-of-memory killer",
            "CAP_SYS_RESOURCE or OOMScoreAdjust=-1000",
            std::fs::write("/proc/self/oom_score_adj", OOM_SCORE),
        ),
    ];
    let refused = |(what, takes, result): (_, _, io::Result<()>)| {
        result.err().map(|source| Missing { what, takes, source })
    };
    wanted.into_iter().filter_map(refused).collect()
}

/// What is mapped now is read in and stays; what is mapped later stays once it is touched. (Reading in later mappings too
/// would make every thread's stack and allocation arena count whole.)
fn lock_memory() -> io::Result<()> {
    mlockall(MlockAllFlags::MCL_CURRENT)?;
    // MCL_ONFAULT (Linux 4.4); nix has no name for it on every target.
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    mlockall(MlockAllFlags::MCL_FUTURE | on_fault)?;
    Ok(())
}

/// SCHED_RR for the calling thread. With reset-on-fork, so that no workload or helper program inherits it.
fn raise_priority() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // The system call itself: musl's wrapper refuses always.
    // SAFETY: `parameters` is a live sched_param, which the kernel only reads; thread 0 is the caller.
    let result = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const parameters) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
