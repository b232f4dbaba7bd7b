//! Keeps the witness answering while its board is short of memory and processor time. None of it is a condition to run: what
//! is missing becomes a warning that names it.

use std::fmt;
use std::io;

use nix::libc;
use nix::sys::mman::{MlockAllFlags, mlockall};

/// Above ordinary processes and below the kernel's own threads (50).
const PRIORITY: libc::c_int = 20;

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

/// Asks for everything, after the large allocations of the start; returns what was refused.
pub(crate) fn apply() -> Vec<Missing> {
    give_back();
    let wanted: [(&'static str, &'static str, io::Result<()>); 2] = [
        ("memory is not locked", "CAP_IPC_LOCK or LimitMEMLOCK=infinity", lock_memory()),
        (
            "no real-time priority",
            "CAP_SYS_NICE or LimitRTPRIO=20, and no RestrictRealtime=",
            raise_priority(),
        ),
    ];
    let refused = |(what, takes, result): (_, _, io::Result<()>)| {
        result.err().map(|source| Missing { what, takes, source })
    };
    wanted.into_iter().filter_map(refused).collect()
}

/// Returns what reading the configuration took: locked, it would stay for good. musl's allocator does so by itself.
fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim only gives free memory back to the system; it takes the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// What has been touched stays. (Reading in the rest of every mapping would take more memory than the witness may have.)
fn lock_memory() -> io::Result<()> {
    // MCL_ONFAULT (Linux 4.4); nix has no name for it on every target.
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault)?;
    Ok(())
}

/// SCHED_RR for this thread; the resolver's does not inherit it.
fn raise_priority() -> io::Result<()> {
    // The kernel's sched_param; libc's has more fields on musl.
    let parameters: libc::c_int = PRIORITY;
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // The system call itself: musl's wrapper refuses always.
    // SAFETY: `parameters` lives on, and the kernel reads one int from it; thread 0 is the caller.
    let result = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const parameters) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
