//! The journal's files as they come back from a disk: damaged, torn, or with anything in them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a broken property ends the run"
)]

use std::fs;
use std::path::Path;

use palisade_proto::fuzz::{Bytes, check_words};
use serde_json::Value;

use super::line::{LineHash, check, encode};
use super::read::parse;
use super::verify::{Summary, verify_lines};
use super::*;

/// Lines of one journal.
const LINES_MAX: usize = 12;
const FILE_BYTES: u64 = 64 * 1024;

/// A journal of some lines whose events the bytes tell: arbitrary JSON, or a string.
fn journal(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let (mut out, mut prev) = (Vec::new(), LineHash::NONE);
    for n in 1..=1 + bytes.below(LINES_MAX) as u64 {
        let part = bytes.part();
        let event = match serde_json::from_slice::<Value>(part) {
            Ok(event) => event,
            Err(_) => Value::from(String::from_utf8_lossy(part)),
        };
        let bytes = serde_json::to_vec(&event).unwrap();
        let draft = Draft { time: SystemTime::UNIX_EPOCH, boot_ms: n, event: bytes };
        let start = out.len();
        prev = encode(&mut out, n, &draft, "a", "0011223344556677", prev);
        let line =
            parse(out[start..].strip_suffix(b"\n").expect("a line ends")).expect("what is written reads");
        assert_eq!((line.n, line.boot_ms, line.host.as_str()), (n, n, "a"));
        // Fractions are rounded when read (no event of ours has one); the hash is over the bytes and does not mind.
        assert!(line.event == event || has_fraction(&event), "another event after a round");
    }
    out
}

/// The same for others who fuzz what is made of a journal.
pub(crate) fn lines(bytes: &[u8]) -> Vec<u8> {
    journal(&mut Bytes::new(bytes))
}

/// A sound journal of two lines.
pub(crate) fn sample() -> Vec<u8> {
    journal(&mut Bytes::new(b"\x01\x12\x00{\"kind\":\"founded\"}\x02\x00{}"))
}

fn has_fraction(event: &Value) -> bool {
    match event {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_fraction),
        Value::Object(fields) => fields.values().any(has_fraction),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

fn verified(file: &[u8]) -> Result<Summary, ChainError> {
    let mut summary = Summary::EMPTY;
    verify_lines(file, Path::new("journal-000000000001.jsonl"), 1, true, &mut summary).map(|()| summary)
}

/// A line reads back as it was written; a line of other bytes does not carry its hash; a changed file is never called good past
/// its first change.
///
/// # Panics
/// If not.
pub fn journal_line(bytes: &[u8]) {
    let mut bytes = Bytes::new(bytes);
    if bytes.byte().is_multiple_of(4) {
        return line(bytes.rest());
    }
    let sound = journal(&mut bytes);
    let summary = verified(&sound).expect("a journal as written holds");
    assert_eq!((summary.first_n, summary.unfinished_bytes), (1, 0));
    let mut damaged = sound.clone();
    for _ in 0..1 + bytes.below(4) {
        damage(&mut damaged, &mut bytes);
    }
    match verified(&damaged) {
        Ok(summary) => {
            let good = damaged.len() - usize::try_from(summary.unfinished_bytes).unwrap();
            assert!(sound.starts_with(&damaged[..good]), "changed and called good");
            assert!(good == 0 || damaged[good - 1] == b'\n');
        }
        Err(error) => check_words(&error),
    }
}

/// Any bytes as one line: what carries its own hash loses it with any change.
fn line(bytes: &[u8]) {
    let stated = check(bytes);
    assert!(stated.is_some() || parse(bytes).is_none(), "read without its hash");
    if stated.is_some() {
        for at in 0..bytes.len() {
            let mut other = bytes.to_vec();
            other[at] ^= 1;
            assert!(check(&other).is_none(), "byte {at} is covered by no hash");
        }
    }
}

/// One change, as a disk, a crash or a hand makes it.
fn damage(file: &mut Vec<u8>, bytes: &mut Bytes<'_>) {
    if file.is_empty() {
        return;
    }
    let at = usize::from(bytes.short()) % file.len();
    match bytes.byte() % 6 {
        0 => file[at] ^= bytes.byte().max(1),
        1 => file.truncate(at),
        2 => drop(file.splice(at..at, bytes.part().iter().copied())),
        3 => drop(file.drain(at..(at + 1 + usize::from(bytes.byte())).min(file.len()))),
        4 => {
            let part = file[at..].to_vec();
            file.extend(part);
        }
        _ => file[at..].fill(bytes.byte()),
    }
}

/// A journal torn or damaged on the disk opens again: every whole line up to the last sound one stays, what follows is put
/// aside, and the chain goes on from there.
///
/// # Panics
/// If not.
pub fn journal_file(bytes: &[u8]) {
    let dir = std::env::temp_dir().join(format!("palisade-fuzz-journal-{}", std::process::id()));
    drop(fs::remove_dir_all(&dir));
    fs::create_dir_all(&dir).expect("no directory for a journal");
    let mut bytes = Bytes::new(bytes);
    let sound = journal(&mut bytes);
    let mut damaged = sound.clone();
    for _ in 0..bytes.below(4) {
        damage(&mut damaged, &mut bytes);
    }
    let path = dir.join(file::name(1));
    fs::write(&path, &damaged).unwrap();
    let before = verified(&damaged);
    let found = file::recover(&dir, FILE_BYTES).expect("it opens again");
    match &found.current {
        Some(current) => {
            let kept = fs::read(&path).unwrap();
            assert_eq!((kept.len() as u64, kept.last()), (current.len, Some(&b'\n')));
            assert!(damaged.starts_with(&kept), "a line was changed");
            let last = kept[..kept.len() - 1].rsplit(|byte| *byte == b'\n').next().unwrap();
            assert_eq!(check(last), Some(found.end.hash));
            if let Ok(before) = &before {
                assert_eq!((before.last_n, before.last_hash), (found.end.n, found.end.hash));
                assert_eq!(before.unfinished_bytes as usize, damaged.len() - kept.len());
            }
        }
        None => assert!(found.end.n == 0 && !path.exists(), "no sound line, and yet a file"),
    }
    for (torn, aside) in &found.torn {
        let aside = fs::read(aside.as_ref().expect("there is room")).unwrap();
        assert!(aside.len() as u64 == *torn && damaged.ends_with(&aside), "what was torn is kept");
    }
    let mut lines = 0;
    scan(&dir, |_| {
        lines += 1;
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    assert!(lines >= u64::from(found.current.is_some()));
    let last = last_matching(&dir, "\"n\":", |_| true).unwrap();
    assert_eq!(last.map_or(0, |line| line.n), found.end.n, "the newest line is the end of the chain");
    match verify(&dir) {
        Ok(summary) => assert_eq!((summary.last_n, summary.unfinished_bytes), (found.end.n, 0)),
        Err(error) => check_words(&error.to_string().replace(&dir.display().to_string(), "")),
    }
    drop(fs::remove_dir_all(&dir));
}
