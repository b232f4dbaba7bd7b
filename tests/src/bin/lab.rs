//! The lab's command: `lab --help`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use palisade_tests::lab::hardware::Hardware;
use palisade_tests::lab::trouble::Result;
use palisade_tests::lab::{Lab, bmc, cleanup, inside, power, wait, workload};

/// A lab of real agents, BMCs, broker and witness on this machine.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds a lab and keeps it until it is interrupted, for a look around.
    Up {
        /// Its hardware.
        hardware: PathBuf,
    },
    /// (of a host) Its first process.
    #[command(hide = true)]
    Host {
        /// The host's directory.
        dir: PathBuf,
    },
    /// (of a BMC) Its chassis: get power, set power 0, ...
    #[command(hide = true)]
    Chassis {
        /// The host's directory.
        dir: PathBuf,
        /// The order.
        words: Vec<String>,
    },
    /// (of a workload) Start, stop, status or run.
    #[command(hide = true)]
    Workload {
        /// Its name.
        name: String,
        /// The order.
        order: String,
    },
    /// Switches a host on or off by hand.
    #[command(hide = true)]
    Power {
        /// The host's directory.
        dir: PathBuf,
        /// on, off
        order: String,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(trouble) => {
            eprintln!("lab: {trouble}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Up { hardware } => up(&hardware)?,
        Command::Host { dir } => inside::main(&dir)?,
        Command::Chassis { dir, words } => bmc::chassis(&dir, &words)?,
        Command::Workload { name, order } => {
            return workload::main(&name, &order).map(|code| ExitCode::from(u8::try_from(code).unwrap_or(1)));
        }
        Command::Power { dir, order } if order == "on" => power::Machine::load(&dir)?.switch_on()?,
        Command::Power { dir, .. } => power::Machine::load(&dir)?.switch_off()?,
    }
    Ok(ExitCode::SUCCESS)
}

fn up(hardware: &std::path::Path) -> Result<()> {
    cleanup::on_interrupt()?;
    let lab = Lab::build(&Hardware::read(hardware)?)?;
    println!("{}: interrupt to take it down", lab.dir.display());
    lab.wait_until(Duration::from_secs(5), "every host's first process", |lab| {
        lab.machines.values().try_for_each(|machine| machine.init_pid().map(drop))
    })?;
    for (host, machine) in &lab.machines {
        println!("  {host}: nsenter --target {} --all --wdns=/", machine.init_pid()?);
    }
    loop {
        wait::pause(Duration::from_secs(60));
    }
}
