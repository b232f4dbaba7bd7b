//! `palisade-witness`: breaks ties for many small clusters over MQTT, on a small board.
//!
//! Decides nothing itself: [`palisade_proto::arbiter`] does, one for each cluster. Writes nothing to disk.

mod clock;
mod cluster;
mod config;
mod dropped;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod log;
mod pool;
mod realtime;
mod session;
mod witness;

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use config::Config;
use witness::Witness;

const USAGE: &str = "usage: palisade-witness --config FILE";
/// How often the clock is compared and the service watchdog fed, if systemd does not want it more often.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// A resolver thread is the only other one, and needs less.
const THREAD_STACK_BYTES: usize = 256 * 1024;
/// Exit status for a wrong command line or configuration.
const EXIT_USAGE: u8 = 2;

// A program whose rules can be broken guards nobody.
const _: () = assert!(!palisade_proto::mutant::MUTABLE, "the feature `mutants` is for the tests alone");

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    keep_memory_to_ourselves();
    log::start();
    let path = match arguments(std::env::args_os().skip(1)) {
        Ok(Command::Run(path)) => path,
        Ok(Command::Version) => {
            println!("palisade-witness {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Err(Usage) => {
            eprintln!("{USAGE}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let config = match Config::read(&path) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// SAFE-6: keys and passwords are in this process's memory, so it leaves no core dump, not to a pipe either (which ignores the
/// limit).
fn keep_memory_to_ourselves() {
    // Neither is refused to a process for itself; `LimitCORE=0` in the unit stays in any case.
    let _ = nix::sys::prctl::set_dumpable(false);
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
}

fn serve(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    let (settings, clusters) = config.into_parts();
    let witness = RefCell::new(Witness::start(clusters)?);
    for missing in realtime::apply() {
        tracing::warn!("{missing}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .thread_stack_size(THREAD_STACK_BYTES)
        .build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tell_systemd(&[NotifyState::Ready]);
        tokio::select! {
            never = session::keep(&settings, &witness) => match never {},
            never = keep_house(&witness) => match never {},
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tell_systemd(&[NotifyState::Stopping]);
        witness.borrow_mut().log_dropped();
        tracing::info!("stopped");
        Ok(())
    })
}

/// What is due without any message: noticing that the board slept, the count of what was dropped, the service watchdog.
async fn keep_house(witness: &RefCell<Witness>) -> std::convert::Infallible {
    let watchdog = sd_notify::watchdog_enabled().map(|allowed| allowed / 2);
    let mut tick = tokio::time::interval(watchdog.unwrap_or(HOUSEKEEPING).min(HOUSEKEEPING));
    loop {
        tick.tick().await;
        witness.borrow_mut().keep_house();
        if watchdog.is_some() {
            tell_systemd(&[NotifyState::Watchdog]);
        }
    }
}

fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("systemd is not told: {error}");
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Command {
    Run(PathBuf),
    Version,
}

#[derive(Debug, PartialEq, Eq)]
struct Usage;

fn arguments(arguments: impl Iterator<Item = std::ffi::OsString>) -> Result<Command, Usage> {
    let arguments: Vec<_> = arguments.collect();
    match arguments.as_slice() {
        [flag, path] if flag == "--config" => Ok(Command::Run(path.into())),
        [flag] if flag == "--version" => Ok(Command::Version),
        _ => Err(Usage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_one_of_two() {
        let parse = |words: &[&str]| arguments(words.iter().map(Into::into));
        assert_eq!(parse(&["--config", "w.toml"]), Ok(Command::Run("w.toml".into())));
        assert_eq!(parse(&["--version"]), Ok(Command::Version));
        for wrong in [&[][..], &["--config"], &["w.toml"], &["--config", "a", "b"], &["--help"]] {
            assert_eq!(parse(wrong), Err(Usage));
        }
    }
}
