//! The lab's command: `lab --help`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use palisade_tests::guests;
use palisade_tests::lab::hardware::Hardware;
use palisade_tests::lab::trouble::Result;
use palisade_tests::lab::{Lab, bmc, cleanup, inside, port, power, wait, workload};
use palisade_tests::measure::{bench, demo, quiet, scsi};
use palisade_tests::scenario::{self, parse};

/// A lab of real agents, BMCs, broker and witness on this machine.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The demonstration: a host dies, is fenced, and its workload comes back.
    Demo,
    /// Measures recovery times, what an agent of eight takes, and BMC orders beside ipmitool's and fence_ipmilan's.
    Bench {
        /// Deaths per row.
        #[arg(long, default_value_t = 10)]
        deaths: usize,
        /// Only the fence devices, beside other tools.
        #[arg(long)]
        devices: bool,
    },
    /// Leaves a cluster alone with every core loaded and counts suspicions.
    Quiet {
        /// How long.
        #[arg(long, default_value = "10min", value_parser = |text: &str| parse::duration(text))]
        time: Duration,
        /// Which timings.
        #[arg(long, default_value = "fast")]
        profile: String,
    },
    /// Plays scenarios and says which passed.
    Scenario {
        /// Their names, or `all`.
        #[arg(required = true)]
        names: Vec<String>,
        /// How many at a time.
        #[arg(long, default_value_t = 3)]
        jobs: usize,
    },
    /// Boots virtual machines and checks what needs a kernel of its own, and says which checks passed.
    Guests {
        /// Their names; all when there is none.
        names: Vec<String>,
        /// How many at a time.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
    },
    /// Plays one scenario aloud.
    Play {
        /// Its name.
        name: String,
    },
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
    /// (of the hosts) The fence agent of the switch that they are plugged into.
    #[command(hide = true)]
    FencePort {
        /// How many ports each host has.
        links: usize,
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
        Command::Demo => {
            cleanup::on_interrupt()?;
            demo::run()?;
        }
        Command::Bench { deaths, devices } => {
            cleanup::on_interrupt()?;
            let clusters = devices || (bench::run(deaths)? & bench::eight()?);
            let within = clusters & bench::devices()?;
            scsi::run()?;
            return Ok(code(within));
        }
        Command::Quiet { time, profile } => {
            cleanup::on_interrupt()?;
            return quiet::run(&profile, time).map(code);
        }
        Command::Scenario { names, jobs } => {
            let names = if names.iter().any(|name| name == "all") { scenario::names()? } else { names };
            return Ok(code(scenario::play_all(&names, jobs)));
        }
        Command::Guests { names, jobs } => {
            cleanup::on_interrupt()?;
            return guests::checks::run(&names, jobs).map(code);
        }
        Command::Play { name } => {
            cleanup::on_interrupt()?;
            scenario::play(&name)?;
        }
        Command::Up { hardware } => up(&hardware)?,
        Command::Host { dir } => inside::main(&dir)?,
        Command::Chassis { dir, words } => bmc::chassis(&dir, &words)?,
        Command::Workload { name, order } => {
            return workload::main(&name, &order).map(|code| ExitCode::from(u8::try_from(code).unwrap_or(1)));
        }
        Command::FencePort { links } => {
            return port::main(links).map(ExitCode::from);
        }
        Command::Power { dir, order } if order == "on" => power::Machine::load(&dir)?.switch_on()?,
        Command::Power { dir, .. } => power::Machine::load(&dir)?.switch_off()?,
    }
    Ok(ExitCode::SUCCESS)
}

fn code(well: bool) -> ExitCode {
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
