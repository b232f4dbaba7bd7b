//! Palisade: the agent of a host, and the operator's command line. Decides nothing; see `palisade-core` for what does.

mod afar;
mod api;
mod bus;
mod certificate;
mod cli;
mod counters;
mod fences;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod health;
mod identity;
mod journal;
mod link;
mod log;
mod mqtt;
mod order;
mod readiness;
mod realtime;
mod recording;
mod run;
mod secret;
mod standing;
mod statement;
mod story;
mod systemd;
mod telemetry;
#[cfg(test)]
mod testing;
mod watchdog;
mod witness;
mod workload;

// A program whose rules can be broken guards nobody.
const _: () = assert!(!palisade_proto::mutant::MUTABLE, "the feature `mutants` is for the tests alone");

/// The program.
#[must_use]
pub fn main() -> std::process::ExitCode {
    keep_memory_to_ourselves();
    cli::main()
}

/// SAFE-6: keys and passwords are in this process's memory, so it leaves no core dump, not to a pipe either (which ignores the
/// limit). Programs that it starts have a memory of their own.
fn keep_memory_to_ourselves() {
    // Neither is refused to a process for itself; `LimitCORE=0` in the unit stays in any case.
    let _ = nix::sys::prctl::set_dumpable(false);
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    /// Not a test by itself: a process of its own, because it is for the whole process.
    #[test]
    fn the_process_that_keeps_its_memory() {
        if std::env::var_os("PALISADE_TEST_MEMORY").is_none() {
            return;
        }
        super::keep_memory_to_ourselves();
        println!("\nsaw dumpable {:?}", nix::sys::prctl::get_dumpable());
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
        println!("saw core {}", core.split_whitespace().collect::<Vec<_>>().join(" "));
    }

    #[test]
    fn safe_6_no_core_dump_is_left() {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "--nocapture", "tests::the_process_that_keeps_its_memory"]);
        let output = child.env("PALISADE_TEST_MEMORY", "1").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("saw dumpable Ok(false)\nsaw core 0 0 bytes\n"), "{text}");
    }
}
