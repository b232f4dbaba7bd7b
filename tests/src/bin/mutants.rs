//! `mutants [NAME...]`: breaks one rule of the shipped code at a time and looks for the first seed that sees it.
//!
//! A mutant that survives is a hole in the checks of the simulation. Prints the table of `tests/README.md`.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use palisade_proto::mutant::{Mutant, break_rule};
use palisade_tests::sim::Plot;
use palisade_tests::sim::hunt::{Hunt, hunt, hunts, unseen};

/// Breaks one rule at a time; each must be caught within its number of seeds.
#[derive(Parser)]
struct Arguments {
    /// These only.
    names: Vec<String>,
    /// Look this many times as far as the stated number of seeds.
    #[arg(long, default_value_t = 1)]
    times: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let unknown = |name: &&String| !Mutant::ALL.iter().any(|mutant| mutant.name() == **name);
    if let Some(name) = arguments.names.iter().find(unknown) {
        eprintln!("mutants: there is none called `{name}`; all are: {}", names());
        return ExitCode::FAILURE;
    }
    let chosen = |hunt: &&Hunt| {
        arguments.names.is_empty() || arguments.names.iter().any(|name| name == hunt.mutant.name())
    };
    let (mut caught, mut survived) = (0, 0);
    let hunts = hunts();
    println!("| mutant | what is broken | caught by | plot | seed | within |");
    println!("|---|---|---|---|---|---|");
    for hunt_for in hunts.iter().filter(chosen) {
        let began = Instant::now();
        break_rule(Some(hunt_for.mutant));
        let found = hunt(hunt_for, arguments.times);
        break_rule(None);
        let (name, words) = (hunt_for.mutant.name(), hunt_for.mutant.words().trim());
        let within = hunt_for.within;
        let plot = hunt_for.plot.map_or("any", Plot::name);
        match found {
            Some(found) => {
                caught += 1;
                println!("| {name} | {words} | {} | {plot} | {} | {within} |", found.invariant, found.seed);
            }
            None => {
                survived += 1;
                println!(
                    "| {name} | {words} | **survived** | {plot} | {:.0} s | {within} |",
                    began.elapsed().as_secs_f64()
                );
            }
        }
    }
    if arguments.names.is_empty() {
        let unseen: Vec<&str> = unseen().iter().map(|mutant| mutant.name()).collect();
        println!("not hunted, no history has shown them yet: {}", unseen.join(", "));
    }
    println!("{caught} passed, {survived} failed");
    if survived == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn names() -> String {
    Mutant::ALL.iter().map(|mutant| mutant.name()).collect::<Vec<_>>().join(", ")
}
