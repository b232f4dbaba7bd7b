//! What the hosts wrote down: their journals, read from outside.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// One line of a host's journal.
#[derive(Clone, Debug)]
pub struct Line {
    /// The host whose journal it stands in.
    pub host: String,
    /// The line's number in the chain.
    pub number: u64,
    /// CLOCK_BOOTTIME in ms, the same clock for all hosts of a lab.
    pub boot_ms: u64,
    /// What happened, in the record's own word.
    pub kind: String,
    /// The whole event.
    pub event: Value,
}

impl Line {
    /// The event as one line of text.
    #[must_use]
    pub fn text(&self) -> String {
        self.event.to_string()
    }
}

/// Reads every complete line of a host's journal, oldest first; a line that cannot be read is left out.
#[must_use]
pub fn read(host: &str, dir: &Path) -> Vec<Line> {
    let mut lines: Vec<Line> = files(dir).iter().flat_map(|path| read_file(host, path)).collect();
    lines.sort_by_key(|line| line.number);
    lines
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect()
}

fn read_file(host: &str, path: &Path) -> Vec<Line> {
    // A preallocated file ends in zeros.
    let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let lines = text.lines().map(|line| line.trim_matches('\0')).filter(|line| !line.is_empty());
    lines.filter_map(|line| parse(host, line)).collect()
}

fn parse(host: &str, line: &str) -> Option<Line> {
    let value: Value = serde_json::from_str(line).ok()?;
    let event = value.get("event")?.clone();
    Some(Line {
        host: host.into(),
        number: value.get("n")?.as_u64()?,
        boot_ms: value.get("boot_ms")?.as_u64()?,
        kind: event.get("kind")?.as_str()?.into(),
        event,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preallocated_tail_and_half_a_line_are_left_out() {
        let dir = std::env::temp_dir().join(format!("palisade-journal-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let line = r#"{"n":3,"time":"t","boot_ms":12,"host":"a","event":{"kind":"view","view":["a"]},"prev":"","hash":""}"#;
        fs::write(dir.join("journal-0.jsonl"), format!("{line}\n{{\"n\":4,\"bo\0\0\0\0")).unwrap();
        let lines = read("a", &dir);
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(lines.len(), 1);
        assert_eq!((lines[0].number, lines[0].kind.as_str()), (3, "view"));
    }
}
