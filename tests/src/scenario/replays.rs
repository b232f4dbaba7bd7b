//! At the end of every scenario: each host's recording, fed to the same engine again, has to give the decisions in its journal.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::lab::trouble::{Context, Result, Trouble};
use crate::lab::{Lab, shell};

/// A scenario's recording replays in well under a second.
const REPLAY_LIMIT: Duration = Duration::from_secs(60);
/// How much of a replay that parts is shown.
const SHOWN_LINES: usize = 30;

/// Replays every host's recording: all of it, and what covers each file of its journal.
///
/// # Errors
/// A recording and the engine part, or a host that has run has no recording.
pub fn check(lab: &Lab, name: &str) -> Result<()> {
    for host in &lab.hardware.hosts {
        let journal = lab.machine(host)?.dir.join("var/journal");
        let files = files(&journal, "jsonl");
        if files.is_empty() {
            // It never had power.
            continue;
        }
        for from in [vec![journal.clone()], files].concat() {
            let from = from.display().to_string();
            let palisade = lab.palisade().display().to_string();
            let replayed = shell::call_within(REPLAY_LIMIT, &palisade, &["replay", &from])?;
            if replayed.code != Some(0) {
                let kept = keep(&journal, name, host);
                let lines: Vec<&str> = replayed.text.lines().collect();
                let shown = lines.get(lines.len().saturating_sub(SHOWN_LINES)..).unwrap_or_default();
                return Err(Trouble::new(format!(
                    "{host}: `palisade replay {from}` ended with {:?}{kept}:\n{}",
                    replayed.code,
                    shown.join("\n")
                )));
            }
            println!("         {host}: {}", replayed.text.trim_end().lines().last().unwrap_or_default());
        }
    }
    Ok(())
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut files: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|other| other == extension)).collect();
    files.sort();
    files
}

/// Keeps the recording and the journal for a look: the lab goes away with its directory.
fn keep(journal: &Path, name: &str, host: &str) -> String {
    let to = Path::new(env!("CARGO_MANIFEST_DIR")).join(".lab").join(format!("{name}.{host}"));
    let copied = copy(journal, &to).and_then(|()| copy(&journal.join("recording"), &to.join("recording")));
    match copied {
        Ok(()) => format!(" (kept in {})", to.display()),
        Err(_) => String::new(),
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    shell::make_dir(to)?;
    for path in [files(from, "jsonl"), files(from, "seg")].concat() {
        let name = path.file_name().during("a file's name")?;
        fs::copy(&path, to.join(name)).during(path.display())?;
    }
    Ok(())
}
