//! Palisade: the agent of a host, and the operator's command line. Decides nothing; see `palisade-core` for what does.

mod api;
mod bus;
mod cli;
mod counters;
mod fences;
mod identity;
mod journal;
mod link;
mod log;
mod mqtt;
mod realtime;
mod run;
mod secret;
mod standing;
mod storage;
mod systemd;
mod telemetry;
#[cfg(test)]
mod testing;
mod watchdog;
mod witness;
mod workload;

fn main() -> std::process::ExitCode {
    cli::main()
}
