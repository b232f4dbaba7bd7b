//! `explore [SCENE...]`: every history of a scene within its bounds, over the shipped engines, voters and arbiter.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use palisade_tests::explore::{Bounds, Outcome, Scene, replay, run, scenes};

/// Explores scenes exhaustively within stated bounds.
#[derive(Parser)]
struct Arguments {
    /// These scenes only.
    scenes: Vec<String>,
    /// So many deviations in one history, instead of each scene's own number.
    #[arg(long)]
    deviations: Option<u8>,
    /// Give up a scene at so many states.
    #[arg(long, default_value_t = 2_000_000)]
    states: u64,
    /// Threads; all cores by default.
    #[arg(long)]
    threads: Option<usize>,
    /// Tell one history of one scene: `STEP:DEVIATION,...`, as a failure prints it.
    #[arg(long, value_delimiter = ',', value_parser = place)]
    path: Option<Vec<(u64, usize)>>,
    /// Tell only so many lines of the end of a failing history.
    #[arg(long, default_value_t = 80)]
    tail: usize,
    /// Break this rule; a failure is expected.
    #[cfg(feature = "mutants")]
    #[arg(long)]
    mutant: Option<String>,
}

fn place(text: &str) -> Result<(u64, usize), String> {
    let parts = text.split_once(':').and_then(|(at, index)| Some((at.parse().ok()?, index.parse().ok()?)));
    parts.ok_or_else(|| format!("`{text}` is no place such as 12:3"))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let all = scenes();
    if let Some(unknown) = arguments.scenes.iter().find(|name| !all.iter().any(|scene| scene.name == **name))
    {
        let names: Vec<&str> = all.iter().map(|scene| scene.name).collect();
        eprintln!("explore: there is no scene `{unknown}`; all are: {}", names.join(", "));
        return ExitCode::FAILURE;
    }
    #[cfg(feature = "mutants")]
    if let Some(name) = &arguments.mutant {
        use palisade_proto::mutant::{Mutant, break_rule};
        let Some(mutant) = Mutant::ALL.iter().find(|mutant| mutant.name() == *name) else {
            eprintln!("explore: there is no mutant `{name}`");
            return ExitCode::FAILURE;
        };
        break_rule(Some(*mutant));
    }
    let chosen = all.iter().filter(|scene| {
        arguments.scenes.is_empty() || arguments.scenes.iter().any(|name| name == scene.name)
    });
    let (mut passed, mut failed) = (0, 0);
    for scene in chosen {
        let well = match &arguments.path {
            Some(path) => tell(scene, path, usize::MAX).is_none(),
            None => explore(scene, &arguments),
        };
        if well { passed += 1 } else { failed += 1 }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn explore(scene: &Scene, arguments: &Arguments) -> bool {
    let began = Instant::now();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let bounds = Bounds {
        deviations: arguments.deviations.unwrap_or(scene.deviations),
        states: arguments.states,
        threads: arguments.threads.unwrap_or(cores),
    };
    let outcome = run(scene, bounds);
    let Outcome { states, transitions, deepest, exhausted, failure } = outcome;
    let how = match (&failure, exhausted) {
        (Some(_), _) => "FAILED".to_owned(),
        (None, true) => "exhausted".to_owned(),
        (None, false) => format!("bounded at {} states", arguments.states),
    };
    println!(
        "{}: {} ({} kinds of deviation, at most {} in a history): {states} states, {transitions} transitions, {deepest} steps deep, {:.1} s, {how}",
        scene.name,
        scene.words,
        scene.kinds.len(),
        bounds.deviations,
        began.elapsed().as_secs_f64()
    );
    let Some(failure) = failure else { return true };
    println!("  {}", failure.what);
    for (at, index) in &failure.path {
        let deviation = scene.kinds.get(*index).map_or_else(String::new, ToString::to_string);
        println!("  step {at}: {deviation}");
    }
    let path: Vec<String> = failure.path.iter().map(|(at, index)| format!("{at}:{index}")).collect();
    println!("  whole: explore {} --path {}", scene.name, path.join(","));
    let _ = tell(scene, &failure.path, arguments.tail);
    false
}

fn tell(scene: &Scene, path: &[(u64, usize)], tail: usize) -> Option<String> {
    let (told, failure) = replay(scene, path);
    let lines = told.iter().filter(|line| !line.ends_with(" --")).collect::<Vec<_>>();
    lines.iter().skip(lines.len().saturating_sub(tail)).for_each(|line| println!("  {line}"));
    failure
}
