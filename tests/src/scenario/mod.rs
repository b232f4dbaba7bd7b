//! Scenarios: folders that a person can read (README.md, hardware.toml, steps), played on a lab.

pub mod action;
pub mod budget;
pub mod check;
pub mod parse;
pub mod replays;
pub mod step;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use self::check::Mark;
use self::step::{Action, Kind, Step};
use crate::lab::hardware::Hardware;
use crate::lab::trouble::{Context, Result, Trouble};
use crate::lab::{Lab, shell};
use crate::side_by_side;

/// A look may take that long on a busy machine.
const ALWAYS_SLACK: Duration = Duration::from_secs(5);

/// Where the scenarios are.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// The names of all scenarios, sorted.
///
/// # Errors
/// There is no such folder.
pub fn names() -> Result<Vec<String>> {
    let entries = fs::read_dir(folder()).during("tests/scenarios")?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.join("steps").exists())
        .filter_map(|path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}

/// Plays one scenario in this process.
///
/// # Errors
/// The first step that did not hold, with the journals.
pub fn play(name: &str) -> Result<()> {
    let dir = folder().join(name);
    let steps = parse::parse(&shell::read(&dir.join("steps"))?)?;
    let mut lab = Lab::build(&Hardware::read(&dir.join("hardware.toml"))?)?;
    let played = play_steps(&mut lab, &dir, &steps);
    // Also after a step that did not hold: a broken invariant is the graver news.
    let held = check::invariants(&lab);
    held.and(played)
        .and_then(|()| replays::check(&lab, name))
        .map_err(|trouble| Trouble::new(format!("{trouble}\n{}", lab.dump())))
}

fn play_steps(lab: &mut Lab, dir: &Path, steps: &[Step]) -> Result<()> {
    let start = Instant::now();
    // An alarm of the first moment counts, too.
    let mut mark = Mark::default();
    for step in steps {
        println!("{:8.3} {}", start.elapsed().as_secs_f64(), step.text);
        play_step(lab, dir, &mut mark, step).during(format!("line {}: {}", step.line, step.text))?;
    }
    Ok(())
}

fn play_step(lab: &mut Lab, dir: &Path, mark: &mut Mark, step: &Step) -> Result<()> {
    match &step.kind {
        Kind::Do(Action::Mark) => *mark = Mark::now(lab)?,
        Kind::Do(action) => action::perform(lab, dir, action)?,
        Kind::Expect(condition) => check::check(lab, mark, condition)?,
        Kind::Wait(condition, limit) => {
            lab.wait_until(*limit, "not so", |lab| check::check(lab, mark, condition))?;
        }
        Kind::Always(condition, time) => {
            let end = Instant::now() + *time;
            let mut broken = None;
            lab.wait_until(*time + ALWAYS_SLACK, "not looked at", |lab| {
                broken = check::check(lab, mark, condition).err();
                if broken.is_some() || Instant::now() >= end { Ok(()) } else { Err(Trouble::new("not over")) }
            })?;
            if let Some(trouble) = broken {
                return Err(trouble);
            }
        }
    }
    Ok(())
}

/// Plays scenarios, each in a process of its own, `jobs` at a time; prints one line each and a closing line.
/// Says whether all passed.
#[must_use]
pub fn play_all(names: &[String], jobs: usize) -> bool {
    side_by_side::run(names, jobs, |name| play_apart(name))
}

fn play_apart(name: &str) -> bool {
    let start = Instant::now();
    let ran = std::env::current_exe().and_then(|lab| {
        let mut play = Command::new(lab);
        play.args(["play", name]).stdin(Stdio::null()).output()
    });
    let took = start.elapsed().as_secs_f64();
    match ran {
        Ok(output) if output.status.success() => {
            println!("PASS {name} ({took:.1} s)");
            true
        }
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stderr);
            let reason = words.lines().next().unwrap_or_default();
            let kept = keep(name, &words);
            println!("FAIL {name} ({took:.1} s): {reason}{kept}");
            false
        }
        Err(error) => {
            println!("FAIL {name}: {error}");
            false
        }
    }
}

/// Keeps what a failed scenario left to read.
fn keep(name: &str, words: &str) -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(".lab");
    let path = dir.join(format!("{name}.log"));
    match shell::make_dir(&dir).and_then(|()| shell::write(&path, words, 0o644)) {
        Ok(()) => format!("\n     journals: {}", path.display()),
        Err(_) => String::new(),
    }
}
