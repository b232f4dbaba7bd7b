//! `mutants [NAME...]`: breaks one rule of the shipped code at a time and looks for the first seed, or for the scene of the
//! exploration, that sees it.
//!
//! A mutant that survives is a hole in the checks. Prints the tables of `tests/README.md`.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use palisade_proto::mutant::{Mutant, break_rule};
use palisade_tests::explore::{self, Bounds, SEEN, Scene, scenes};
use palisade_tests::sim::hunt::{Hunt, hunts};
use palisade_tests::sim::{self, Plot};

/// Where the exploration of a broken rule gives up.
const MOST_STATES: u64 = 500_000;

/// Breaks one rule at a time; each must be caught within its number of seeds, or by its scene.
#[derive(Parser)]
struct Arguments {
    /// These only.
    names: Vec<String>,
    /// Look this many times as far as the stated number of seeds.
    #[arg(long, default_value_t = 1)]
    times: u64,
    /// Look for the named ones in every plot, in so many seeds of each, and in every scene: where is each seen soonest?
    #[arg(long, value_name = "SEEDS")]
    everywhere: Option<u64>,
    /// Look in these plots and scenes only.
    #[arg(long = "in", value_name = "PLOT-OR-SCENE", requires = "everywhere")]
    places: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let unknown = |name: &&String| !Mutant::ALL.iter().any(|mutant| mutant.name() == **name);
    if let Some(name) = arguments.names.iter().find(unknown) {
        eprintln!("mutants: there is none called `{name}`; all are: {}", names());
        return ExitCode::FAILURE;
    }
    if let Some(within) = arguments.everywhere {
        let named = |mutant: &&Mutant| arguments.names.iter().any(|name| name == mutant.name());
        let wanted =
            |place: &str| arguments.places.is_empty() || arguments.places.iter().any(|name| name == place);
        Mutant::ALL.iter().filter(named).for_each(|mutant| everywhere(*mutant, within, wanted));
        return ExitCode::SUCCESS;
    }
    let chosen = |mutant: Mutant| {
        arguments.names.is_empty() || arguments.names.iter().any(|name| name == mutant.name())
    };
    let (mut caught, mut survived) = (0, 0);
    println!("| mutant | what is broken | caught by | plot | seed | within |");
    println!("|---|---|---|---|---|---|");
    for hunt in hunts().iter().filter(|hunt| chosen(hunt.mutant)) {
        if by_a_history(hunt, arguments.times) { caught += 1 } else { survived += 1 }
    }
    println!("\n| mutant | what is broken | caught by | scene | states until then |");
    println!("|---|---|---|---|---|");
    for (mutant, scene) in SEEN.into_iter().filter(|(mutant, _)| chosen(*mutant)) {
        if by_a_scene(mutant, scene) { caught += 1 } else { survived += 1 }
    }
    println!("{caught} passed, {survived} failed");
    if survived == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn everywhere(mutant: Mutant, within: u64, wanted: impl Fn(&str) -> bool) {
    println!("{}: {}", mutant.name(), mutant.words().trim());
    break_rule(Some(mutant));
    let plots = Plot::NAMES.iter().map(|(name, plot)| (*name, Some(*plot)));
    for (name, plot) in std::iter::once(("any", None)).chain(plots).filter(|(name, _)| wanted(name)) {
        let found = sim::hunt::hunt(&Hunt { mutant, plot, within }, 1);
        if let Some(found) = found {
            println!("  {name}, seed {}: {}", found.seed, found.invariant);
        }
    }
    break_rule(None);
    for scene in scenes().into_iter().filter(|scene| wanted(scene.name)) {
        if let Some((what, states)) = explore_broken(mutant, &scene) {
            println!("  {}, {states} states: {what}", scene.name);
        }
    }
}

/// The first failure of a scene under a broken rule, and after how many states.
fn explore_broken(mutant: Mutant, scene: &Scene) -> Option<(String, u64)> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    break_rule(Some(mutant));
    let outcome = explore::run(scene, Bounds { deviations: scene.deviations, states: MOST_STATES, threads });
    break_rule(None);
    let invariant = outcome.failure?.what.split(':').next().unwrap_or_default().to_owned();
    Some((invariant, outcome.states))
}

fn by_a_history(hunt: &Hunt, times: u64) -> bool {
    let began = Instant::now();
    break_rule(Some(hunt.mutant));
    let found = sim::hunt::hunt(hunt, times);
    break_rule(None);
    let (name, words) = (hunt.mutant.name(), hunt.mutant.words().trim());
    let (plot, within) = (hunt.plot.map_or("any", Plot::name), hunt.within);
    match &found {
        Some(found) => {
            println!("| {name} | {words} | {} | {plot} | {} | {within} |", found.invariant, found.seed);
        }
        None => {
            let took = began.elapsed().as_secs_f64();
            println!("| {name} | {words} | **survived** | {plot} | {took:.0} s | {within} |");
        }
    }
    found.is_some()
}

fn by_a_scene(mutant: Mutant, name: &str) -> bool {
    let scenes = scenes();
    let Some(scene) = scenes.iter().find(|scene| scene.name == name) else {
        println!("| {} | | **there is no scene {name}** | | |", mutant.name());
        return false;
    };
    let found = explore_broken(mutant, scene);
    let (by, states) = found.clone().unwrap_or(("**survived**".to_owned(), MOST_STATES));
    println!("| {} | {} | {by} | {name} | {states} |", mutant.name(), mutant.words().trim());
    found.is_some()
}

fn names() -> String {
    Mutant::ALL.iter().map(|mutant| mutant.name()).collect::<Vec<_>>().join(", ")
}
