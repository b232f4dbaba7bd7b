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

/// Asks for everything; call it on the run loop's thread before the first heartbeat. The stacks of threads that are there
/// already are read in whole, of later ones what they touch. Returns what was refused.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// What the process below saw after `apply`, run by `wrapper`.
    fn applied_in_a_process(wrapper: &[&str]) -> Vec<String> {
        let program = std::env::current_exe().unwrap();
        let mut argv = wrapper.iter().map(Into::into).chain([program.into_os_string()]);
        let mut command = Command::new(argv.next().unwrap());
        command.args(argv).args(["--exact", "--nocapture", "realtime::tests::the_process_that_applies"]);
        let output = command.env("PALISADE_TEST_APPLY", "1").output().expect("the process cannot be started");
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter_map(|line| line.strip_prefix("saw ")).map(str::to_owned).collect()
    }

    /// Not a test by itself: a process of its own, because all of it is for the whole process.
    #[test]
    fn the_process_that_applies() {
        if std::env::var_os("PALISADE_TEST_APPLY").is_none() {
            return;
        }
        let policy = |stat: &str| stat.rsplit(") ").next().unwrap().split(' ').nth(38).unwrap().to_owned();
        println!();
        apply().iter().for_each(|missing| println!("saw {missing}"));
        println!("saw policy {}", policy(&std::fs::read_to_string("/proc/thread-self/stat").unwrap()));
        let thread = std::thread::spawn(|| std::fs::read_to_string("/proc/thread-self/stat").unwrap());
        println!("saw thread's policy {}", policy(&thread.join().unwrap()));
        let child = Command::new("cat").arg("/proc/self/stat").output().unwrap();
        println!("saw child's policy {}", policy(&String::from_utf8(child.stdout).unwrap()));
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let kib = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
        };
        println!("saw locked {}", kib("VmLck") > 0);
        println!("saw oom {}", std::fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim());
        // A thread's stack is mapped whole and locked as it is touched: it must not count whole.
        let before = resident_kib();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (here, up) = std::sync::mpsc::channel();
        let sleeper = std::thread::Builder::new().stack_size(64 << 20).spawn(move || {
            here.send(()).unwrap();
            wait.recv().unwrap();
        });
        up.recv().unwrap();
        println!("saw small stack {}", resident_kib() < before + 1024);
        go.send(()).unwrap();
        sleeper.unwrap().join().unwrap();
    }

    fn resident_kib() -> u64 {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4
    }

    #[test]
    fn as_root_everything_is_had_and_nothing_of_it_inherited() {
        let mut saw = applied_in_a_process(&[]);
        // A container's root may lack CAP_SYS_RESOURCE; then that one thing is refused, by name.
        const CAP_SYS_RESOURCE: u32 = 24;
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
        let may = u64::from_str_radix(effective, 16).unwrap() >> CAP_SYS_RESOURCE & 1 == 1;
        if !may {
            assert!(
                saw.remove(0).starts_with("not protected from the out-of-memory killer: Permission denied")
            );
        }
        let oom = if may { "oom -1000" } else { "oom 0" };
        let expected =
            ["policy 2", "thread's policy 0", "child's policy 0", "locked true", oom, "small stack true"];
        assert_eq!(saw, expected, "this test needs root");
    }

    #[test]
    fn what_is_missing_is_named_and_not_fatal() {
        let saw = applied_in_a_process(&["setpriv", "--bounding-set=-all", "--inh-caps=-all"]);
        let text = saw.join("\n");
        for name in ["CAP_SYS_NICE or LimitRTPRIO", "CAP_SYS_RESOURCE or OOMScoreAdjust", "policy 0"] {
            assert!(text.contains(name), "{name}: {text}");
        }
    }
}
