//! What is generated from the command line itself, so that it never says something else: completions for shells, manual pages.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use super::{Ended, Failure, Line, print};

/// The program's name, under which shells know it.
const NAME: &str = "palisade";

/// `palisade completions SHELL`.
pub(super) fn completions(shell: Shell) -> Ended {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Line::command(), NAME, &mut script);
    print(&String::from_utf8_lossy(&script));
    Ok(ExitCode::SUCCESS)
}

/// `palisade man DIR`: one page each for the program and every command of it.
pub(super) fn man(dir: &Path) -> Ended {
    let failed =
        |path: &Path, error: &std::io::Error| Failure::failed(format!("{}: {error}", path.display()));
    fs::create_dir_all(dir).map_err(|error| failed(dir, &error))?;
    let mut program = Line::command();
    program.build();
    let mut pages = Vec::new();
    collect(&program, &mut pages);
    for page in &pages {
        let man = clap_mangen::Man::new(page.clone());
        let path = dir.join(man.get_filename());
        let mut text = Vec::new();
        man.render(&mut text)
            .and_then(|()| fs::write(&path, &text))
            .map_err(|error| failed(&path, &error))?;
    }
    print(&format!("{} pages are in {}\n", pages.len(), dir.display()));
    Ok(ExitCode::SUCCESS)
}

/// The command and those below it. `build` has given each its whole name: palisade-audit-verify.
fn collect(command: &Command, pages: &mut Vec<Command>) {
    pages.push(command.clone());
    command.get_subcommands().filter(|below| !below.is_hide_set()).for_each(|below| collect(below, pages));
}
