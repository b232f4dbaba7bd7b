//! `palisade replay`: what was recorded, fed to the engine of this program again.
//!
//! Prints the time line of decisions as `why` does, and whether they are those recorded, or the first at which they part.

mod find;
mod tell;

use std::path::Path;
use std::process::ExitCode;

use palisade_core::config::Override;
use palisade_core::replay::{self, Decision};

use super::{Ended, Failure, ReplayOptions, print};
use crate::recording::{Ending, Head, Segment};
use find::Record;

pub(super) fn run(options: &ReplayOptions) -> Ended {
    let set: Result<Vec<Override>, String> = options.set.iter().map(|text| Override::parse(text)).collect();
    let set = set.map_err(Failure::usage)?;
    let found = find::find(&options.from)?;
    let (mut inputs, mut decisions, mut well) = (0, 0, true);
    for path in &found.segments {
        let told = match one(path, &set, &found.records) {
            Ok(told) => told,
            Err(failure) if found.segments.len() == 1 => return Err(failure),
            Err(failure) => {
                // Those of an older version say nothing about the others.
                well = false;
                eprintln!("palisade: {}", failure.message);
                continue;
            }
        };
        print(&if options.json { tell::as_json(&told) } else { tell::in_words(&told, &set) });
        inputs += told.inputs;
        decisions += told.decisions();
        well &= told.is_as_recorded();
    }
    if !options.json && set.is_empty() && well {
        print(&format!("{inputs} inputs, {decisions} decisions, all as recorded\n"));
    }
    Ok(if well || !set.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What came of one segment.
struct Told {
    path: String,
    head: Head,
    inputs: u64,
    came: Came,
    parting: Option<replay::Parting>,
    /// A decision that the journal should hold after this record, and does not.
    not_in_journal: Option<(u64, Decision)>,
    ending: Ending,
}

enum Came {
    /// Replayed as recorded.
    Decided(Vec<Decision>),
    /// Beside what other settings would have decided.
    Otherwise(Vec<replay::Told>),
}

impl Told {
    fn decisions(&self) -> usize {
        match &self.came {
            Came::Decided(decisions) => decisions.len(),
            Came::Otherwise(lines) => lines.len(),
        }
    }

    fn is_as_recorded(&self) -> bool {
        let readable = match self.ending {
            Ending::Whole | Ending::Open | Ending::Gap { .. } | Ending::Torn { .. } => true,
            Ending::Damaged { .. } => false,
        };
        self.parting.is_none() && self.not_in_journal.is_none() && readable
    }
}

fn one(path: &Path, set: &[Override], records: &[Record]) -> Result<Told, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::failed(format!("{}: {error}", path.display()));
    let mut segment = Segment::open(path).map_err(|error| failed(&error))?;
    let head = segment.head().clone();
    let was = segment.engine(segment.written()).map_err(|error| failed(&error))?;
    let (inputs, came, parting) = if set.is_empty() {
        let replayed = replay::replay(was, &mut segment);
        (replayed.inputs, Came::Decided(replayed.decisions), replayed.parting)
    } else {
        let written = segment.written().with(set).map_err(|error| Failure::usage(error.to_string()))?;
        let would = segment.engine(&written).map_err(|error| failed(&error))?;
        let told = replay::otherwise(was, would, set, &mut segment)
            .map_err(|error| Failure::usage(error.to_string()))?;
        (told.inputs, Came::Otherwise(told.lines), told.parting)
    };
    let not_in_journal = match &came {
        Came::Decided(decisions) => missing(decisions, &head.life, records),
        Came::Otherwise(_) => None,
    };
    let ending = segment.ending();
    Ok(Told { path: path.display().to_string(), head, inputs, came, parting, not_in_journal, ending })
}

/// The first decision that does not stand in the journal although a later one of the same segment does, and the record before
/// it. What comes before the file's first record or after its last one stands in another file, or died with the process.
fn missing(decisions: &[Decision], life: &str, records: &[Record]) -> Option<(u64, Decision)> {
    let mut rest = records.iter().filter(|record| record.life == life);
    let mut last: Option<u64> = None;
    let mut lacking: Option<(u64, Decision)> = None;
    for decision in decisions {
        let found = rest.clone().position(|record| record.event == decision.event);
        match (found, last, &lacking) {
            (Some(_), _, Some(_)) => return lacking,
            (Some(at), _, None) => last = rest.nth(at).map(|record| record.n),
            (None, Some(n), None) => lacking = Some((n, decision.clone())),
            (None, Some(_), Some(_)) | (None, None, _) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests;
