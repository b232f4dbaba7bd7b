//! Which segments a replay is about.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use palisade_core::record::Event;

use super::Failure;
use crate::journal;
use crate::recording::{self, DIR, Segment};

/// One record of a journal's file.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) n: u64,
    pub(super) life: String,
    pub(super) event: Event,
}

/// What to replay.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) segments: Vec<PathBuf>,
    /// The records to compare with besides, where a journal's file was named.
    pub(super) records: Vec<Record>,
}

/// Finds what `from` means: a segment, a directory, a file of a journal.
pub(super) fn find(from: &Path) -> Result<Found, Failure> {
    let unreadable = |error: io::Error| Failure::failed(format!("{}: {error}", from.display()));
    if from.is_dir() {
        let own = recording::list(from).map_err(unreadable)?;
        let segments = if own.is_empty() { beside(from) } else { own };
        if segments.is_empty() {
            return Err(Failure::failed(format!(
                "{}: no recording there (no *.seg, and no {DIR}/*.seg); an agent makes one from its first start on",
                from.display()
            )));
        }
        return Ok(Found { segments: paths(segments), records: Vec::new() });
    }
    let mut start = Vec::new();
    File::open(from).and_then(|file| file.take(1).read_to_end(&mut start)).map_err(unreadable)?;
    if start == b"{" {
        return of_journal(from).map_err(unreadable)?.ok_or_else(|| unrecorded(from));
    }
    Ok(Found { segments: vec![from.to_owned()], records: Vec::new() })
}

/// The segments beside a journal in `dir`; none if there is no such directory.
fn beside(dir: &Path) -> Vec<(u64, PathBuf)> {
    recording::list(&dir.join(DIR)).unwrap_or_default()
}

fn paths(segments: Vec<(u64, PathBuf)>) -> Vec<PathBuf> {
    segments.into_iter().map(|(_, path)| path).collect()
}

fn unrecorded(journal: &Path) -> Failure {
    Failure::failed(format!(
        "{}: no recording beside it covers this journal ({DIR}/*.seg): it was written by a version that does not record, the \
         recording has gone on since (it is bounded), or it was not copied along; a journal holds decisions only, so \
         `palisade why` tells its story, but to replay it, take the directory {DIR} from the host while it still covers it",
        journal.display()
    ))
}

/// The segments that cover a journal's file: of a life that wrote in it, and of its time.
fn of_journal(path: &Path) -> io::Result<Option<Found>> {
    let mut found = Found::default();
    let mut lives = BTreeSet::new();
    let mut times: Option<(u64, u64)> = None;
    let _ = journal::scan_file(path, |line| {
        if let Some(ms) = unix_ms(&line.time) {
            times = Some(times.map_or((ms, ms), |(first, _)| (first, ms)));
        }
        lives.insert((line.host, line.life.clone()));
        if let Ok(event) = serde_json::from_value(line.event) {
            found.records.push(Record { n: line.n, life: line.life, event });
        }
        ControlFlow::Continue(())
    })?;
    let Some((first, last)) = times else { return Ok(None) };
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut covering: Vec<(PathBuf, u64)> = Vec::new();
    for (_, path) in beside(dir) {
        let Ok(segment) = Segment::open(&path) else { continue };
        let head = segment.head();
        if lives.contains(&(head.host.clone(), head.life.clone())) && head.unix_ms <= last {
            covering.push((path, head.unix_ms));
        }
    }
    // One that had ended before the journal's file began has another one after it that began by then.
    let begun = covering.iter().rposition(|(_, begins)| *begins <= first).unwrap_or(0);
    found.segments = covering.into_iter().skip(begun).map(|(path, _)| path).collect();
    Ok((!found.segments.is_empty()).then_some(found))
}

fn unix_ms(time: &str) -> Option<u64> {
    let time = humantime::parse_rfc3339(time).ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(time.as_millis()).ok()
}
