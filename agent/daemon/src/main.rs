//! Palisade: the agent of a host, and the operator's command line. Decides nothing; see `palisade-core` for what does.
#![allow(dead_code, unused_imports, reason = "until the run loop is in")]

mod api;
mod bus;
mod cli;
mod identity;
mod journal;
mod realtime;
mod secret;
mod standing;
mod storage;
mod systemd;
#[cfg(test)]
mod testing;
mod watchdog;
mod workload;

/// (being written)
mod run {
    use std::{path::Path, process::ExitCode};

    pub(crate) fn main(_config: &Path) -> ExitCode {
        eprintln!("palisade: the agent is not in this build");
        ExitCode::FAILURE
    }
}

fn main() -> std::process::ExitCode {
    cli::main()
}
