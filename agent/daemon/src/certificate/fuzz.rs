//! Certificates as somebody hands them over: anything. And what `why` makes of a journal with anything in it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a broken property ends the run"
)]

use crate::api::why::entry;
use crate::certificate::{What, check, make};
use crate::journal::{self, Line};
use crate::story::{self, Names};

/// Whatever comes is judged without a panic. A certificate of any events holds, but for an operator's signature that does not; with one
/// bit of it changed, it does not hold. Every story about any events ends, and has a first line.
pub fn fence_certificate(bytes: &[u8]) {
    if let Ok(shown) = check(bytes, &[]) {
        assert!(!shown.entries.is_empty(), "a certificate of nothing");
    }
    let file = journal::fuzz::lines(bytes);
    let lines: Vec<Vec<u8>> =
        file.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect();
    let (mut newest, mut entries) = (None, Vec::new());
    for (at, line) in lines.iter().enumerate() {
        let before = newest.map(|(_, hash)| hash);
        let (hash, n) = journal::follows(line, before, at as u64 + 1).expect("a chain of ours");
        newest = Some((n, hash));
        entries.push(entry(serde_json::from_slice::<Line>(line).unwrap()));
    }
    let newest = newest.expect("at least one line");
    let made = make("b", "a", "x", &lines, 1, newest, "2026-11-30T14:03:22Z").unwrap();
    match check(&made, &[]) {
        Ok(shown) => assert_eq!((shown.entries.len(), shown.missing()), (lines.len(), 0)),
        Err(flaw) => assert!(matches!(flaw.what, What::Signature(_)), "{flaw}"),
    }
    let at = made.len() * usize::from(bytes.first().copied().unwrap_or(0)) / 256;
    let mut changed = made;
    changed[at] ^= 1 << (bytes.last().copied().unwrap_or(0) % 8);
    assert!(check(&changed, &[]).is_err(), "byte {at} was changed, and nobody found it");
    let moments = story::merge(vec![entries]);
    for host in ["a", "b", ""] {
        let account = story::of_host(&moments, host, &Names::default());
        assert!(!account.headline.is_empty(), "a story without a first line");
    }
    story::all(&moments, &Names::default());
    for n in 1..=lines.len() as u64 {
        assert!(story::of_record(&moments, n, None, &Names::default()).is_some(), "record {n} has no story");
    }
}
