use std::fs;
use std::path::PathBuf;

use super::*;
use crate::journal::{Journal, Options};
use crate::recording::flight::Flight;
use crate::recording::tests::tampered;
use crate::recording::{self, DIR, Recorder};
use crate::testing::{TempDir, run as finish};

fn options(from: PathBuf, set: &[&str]) -> ReplayOptions {
    ReplayOptions { from, set: set.iter().map(|text| (*text).to_owned()).collect(), json: false }
}

/// A journal with its recording: host c falls silent and is to be fenced.
fn journal(left_out: Option<usize>) -> TempDir {
    let dir = TempDir::new();
    let recorder = Recorder::open(recording::Options::new(dir.path()), Default::default()).unwrap();
    let mut flight = Flight::begin("", recorder);
    flight.live(1_000, &[1, 2]);
    flight.live(1_500, &[1]);
    let life = flight.engine.me().life.0;
    let (mut journal, _durable) = Journal::open(Options::new(dir.path().to_owned(), "a", life)).unwrap();
    for (at, event) in flight.decided.iter().enumerate() {
        if Some(at) != left_out {
            journal.try_append(event, None).unwrap();
        }
    }
    finish(async { journal.close().await.unwrap() });
    flight.land();
    dir
}

fn segment(dir: &TempDir) -> PathBuf {
    recording::list(&dir.path().join(DIR)).unwrap()[0].1.clone()
}

fn code(ended: Ended) -> String {
    format!("{:?}", ended.unwrap())
}

fn good() -> String {
    format!("{:?}", ExitCode::SUCCESS)
}

#[test]
fn a_segment_a_directory_and_a_journals_file_replay() {
    let dir = journal(None);
    let file = dir.path().join("journal-000000000001.jsonl");
    for from in [segment(&dir), dir.path().join(DIR), dir.path().to_owned(), file] {
        assert_eq!(code(run(&options(from, &[]))), good());
    }
}

#[test]
fn a_parting_is_an_exit_code_and_a_place() {
    let dir = journal(None);
    let path = segment(&dir);
    fs::write(&path, tampered(&fs::read(&path).unwrap())).unwrap();
    assert_ne!(code(run(&options(path.clone(), &[]))), good());
    let told = one(&path, &[], &[]).unwrap();
    let words = tell::in_words(&told, &[]);
    assert!(words.contains("THEY PART at ") && words.contains("not the same acts"), "{words}");
    let value: serde_json::Value = serde_json::from_str(&tell::as_json(&told)).unwrap();
    assert_eq!(value["as_recorded"], false);
    assert!(value["parting"]["number"].as_u64().is_some());
}

#[test]
fn a_journal_that_lacks_a_decision_is_told_after_which_record() {
    let dir = journal(Some(2));
    let file = dir.path().join("journal-000000000001.jsonl");
    assert_ne!(code(run(&options(file.clone(), &[]))), good());
    let found = find::find(&file).unwrap();
    let told = one(&found.segments[0], &[], &found.records).unwrap();
    assert_eq!(told.not_in_journal.as_ref().map(|(n, _)| *n), Some(2));
    let words = tell::in_words(&told, &[]);
    assert!(words.contains("the journal parts after its record 2"), "{words}");
}

#[test]
fn other_settings_are_told_beside_what_was() {
    let dir = journal(None);
    let path = segment(&dir);
    assert_eq!(code(run(&options(path.clone(), &["suspect=3s"]))), good());
    let set = [Override::parse("suspect=3s").unwrap()];
    let words = tell::in_words(&one(&path, &set, &[]).unwrap(), &set);
    assert!(words.lines().any(|line| line.starts_with("- ") && line.contains("must be fenced")), "{words}");
    assert!(words.contains("with suspect = 3 s: ") && words.contains("do not react"), "{words}");
    let refused = |set: &str| run(&options(path.clone(), &[set])).unwrap_err();
    let (unknown, contradictory) = (refused("suspekt=3s"), refused("suspect=100ms"));
    assert_eq!((unknown.status, contradictory.status), (2, 2));
    assert!(contradictory.message.contains("must be at least"), "{}", contradictory.message);
}

#[test]
fn a_journal_without_a_recording_says_what_can_be_done() {
    let dir = journal(None);
    fs::remove_dir_all(dir.path().join(DIR)).unwrap();
    let failure = run(&options(dir.path().join("journal-000000000001.jsonl"), &[])).unwrap_err();
    assert!(failure.message.contains("`palisade why` tells its story"), "{}", failure.message);
    let failure = run(&options(dir.path().to_owned(), &[])).unwrap_err();
    assert!(failure.message.contains("no recording there"), "{}", failure.message);
}
