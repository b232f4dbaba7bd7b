//! A fence certificate: the records of an incident as they lie in the journal of one host, byte for byte, with the chain from each
//! to the next up to the journal's newest record, for somebody who has nothing else. Lines of JSON: a head, the records, a seal.
//!
//! Decides whether a certificate holds, and what it shows. Never: that it is true. A chain of hashes shows that nothing was
//! changed since; whoever is root on the host that wrote it can write another chain from its beginning. What that cannot change is
//! what other hosts wrote (see [`cross`]) and what operators signed.

pub(crate) mod cross;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod signed;
#[cfg(test)]
mod tests;

use std::fmt;

use palisade_core::config::Operator;
use serde::{Deserialize, Serialize};

use crate::api::why::{Entry, entry};
use crate::journal::{self, Broken, Line, LineHash};
pub(crate) use signed::{Word, words};

/// The most bytes of a certificate: more than any incident writes, and little enough to hold in memory.
pub(crate) const BYTES_MAX: usize = 64 << 20;
const KIND: &str = "palisade fence certificate";
const VERSION: u32 = 1;

/// The first line. None of it is taken for granted: what can be found out from the records is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Head {
    kind: String,
    version: u32,
    /// About which host.
    pub(crate) about: String,
    /// Whose journal the records are from.
    pub(crate) journal_of: String,
    /// The first line of `palisade why`, when it was made.
    pub(crate) headline: String,
    /// The number of the first record.
    pub(crate) first: u64,
    /// The number and hash of the newest record of the journal when it was made; all up to it are here, unless there were too many.
    pub(crate) newest: u64,
    /// See `newest`.
    pub(crate) newest_hash: String,
    /// When it was made: the wall clock of that host.
    pub(crate) made: String,
}

/// The last line: over all bytes before it, against a file that was cut short or damaged. Anybody can compute it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seal {
    sha256: String,
}

/// What a certificate shows.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) head: Head,
    /// The records, oldest first.
    pub(crate) entries: Vec<Entry>,
    /// Hash of the last record here.
    pub(crate) last_hash: LineHash,
    /// Operators' statements, and whose signature is under each.
    pub(crate) words: Vec<Word>,
}

impl Shown {
    /// How many records of the journal, as it was then, are not here.
    pub(crate) fn missing(&self) -> u64 {
        self.head.newest.saturating_sub(self.entries.last().map_or(0, |entry| entry.n))
    }
}

/// Where a certificate does not hold.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// The line, from 1.
    pub(crate) line: u64,
    pub(crate) what: What,
}

/// What is wrong with that line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// It is no certificate, or of a later version.
    NoCertificate(String),
    /// The last line is no seal.
    CutShort,
    /// The seal is another file's.
    Seal,
    /// Its bytes are not those that were hashed.
    Altered,
    /// It is no record.
    NoRecord(String),
    /// It does not follow the record before.
    NotNext { expected: u64, found: u64 },
    /// It follows another record than the one before.
    Unchained,
    /// It is from another host's journal.
    OtherHost(String),
    /// The newest record is not the one that the head names.
    OtherEnd,
    /// An operator's signature does not hold.
    Signature(String),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match &self.what {
            What::NoCertificate(why) => write!(f, "this is no fence certificate of this version: {why}"),
            What::CutShort => f.write_str("the seal is not here: the file was cut short, or something was added to its end"),
            What::Seal => f.write_str("the seal is not over these bytes: the head, the seal or the end of a line was changed"),
            What::Altered => f.write_str("its bytes do not have the hash it states: it was altered after it was written"),
            What::NoRecord(why) => write!(f, "this is no record: {why}"),
            What::NotNext { expected, found } => write!(
                f,
                "record {found} stands where {expected} belongs: records were taken out, or their order was changed"
            ),
            What::Unchained => f.write_str(
                "it names another record before it than the one that is there: that one was rewritten, or a record was put in or taken out",
            ),
            What::OtherHost(host) => write!(f, "it is a record of `{host}`, from another journal"),
            What::OtherEnd => f.write_str(
                "the journal's newest record has another hash than the head names: the records from here on are not those of then",
            ),
            What::Signature(why) => write!(f, "the operator's signature does not hold: {why}"),
        }
    }
}

impl std::error::Error for Flaw {}

/// Makes a certificate of these lines, as they lie in the journal of `journal_of`; `newest` is its newest record.
pub(crate) fn make(
    about: &str,
    journal_of: &str,
    headline: &str,
    lines: &[Vec<u8>],
    first: u64,
    newest: (u64, LineHash),
    made: &str,
) -> Result<Vec<u8>, serde_json::Error> {
    let head = Head {
        kind: KIND.to_owned(),
        version: VERSION,
        about: about.to_owned(),
        journal_of: journal_of.to_owned(),
        headline: headline.to_owned(),
        first,
        newest: newest.0,
        newest_hash: newest.1.to_string(),
        made: made.to_owned(),
    };
    let mut out = serde_json::to_vec(&head)?;
    out.push(b'\n');
    for line in lines {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    let seal = Seal { sha256: LineHash::over(&out).to_string() };
    out.extend(serde_json::to_vec(&seal)?);
    out.push(b'\n');
    Ok(out)
}

/// Whether the bytes begin as a certificate does, rather than as a journal's file.
pub(crate) fn is_one(bytes: &[u8]) -> bool {
    bytes.starts_with(format!("{{\"kind\":\"{KIND}\"").as_bytes())
}

/// Holds a certificate against itself, and its signatures against the operators' keys.
///
/// # Errors
/// The first line that does not hold.
pub(crate) fn check(bytes: &[u8], operators: &[Operator]) -> Result<Shown, Flaw> {
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let count = lines.len() as u64;
    let flaw = |line, what| Err(Flaw { line, what });
    let ((first, rest), seal) = match lines.split_first().zip(lines.last()) {
        Some(((first, rest), seal)) => ((first, rest), seal),
        None => return flaw(1, What::NoCertificate("it is empty".to_owned())),
    };
    let head: Head = match serde_json::from_slice::<Head>(first) {
        Ok(head) if head.kind == KIND && head.version == VERSION => head,
        Ok(head) => return flaw(1, What::NoCertificate(format!("{}, version {}", head.kind, head.version))),
        Err(error) => return flaw(1, What::NoCertificate(error.to_string())),
    };
    let records = rest.split_last().map(|(_, records)| records).unwrap_or_default();
    let (entries, last_hash) = check_records(&head, records)?;
    // After the records: a line that was altered is named, and not only that some byte was.
    let sealed = bytes.get(..bytes.len() - seal.len()).unwrap_or_default();
    match serde_json::from_slice::<Seal>(seal) {
        Ok(_) if rest.is_empty() || !seal.ends_with(b"\n") => return flaw(count, What::CutShort),
        // Letter by letter: a seal has one spelling.
        Ok(found) if found.sha256 != LineHash::over(sealed).to_string() || seal.len() != SEAL_BYTES => {
            return flaw(count, What::Seal);
        }
        Ok(_) => {}
        Err(_) => return flaw(count, What::CutShort),
    }
    let words = words(&entries, operators)
        .map_err(|(at, why)| Flaw { line: at as u64 + 2, what: What::Signature(why) })?;
    Ok(Shown { head, entries, last_hash, words })
}

/// `{"sha256":"..."}` and its newline.
const SEAL_BYTES: usize = 11 + 64 + 3;

fn check_records(head: &Head, records: &[&[u8]]) -> Result<(Vec<Entry>, LineHash), Flaw> {
    let mut entries = Vec::with_capacity(records.len());
    let mut before = None;
    for (at, record) in records.iter().enumerate() {
        let flaw = |what| Flaw { line: at as u64 + 2, what };
        let line = record.strip_suffix(b"\n").ok_or(flaw(What::CutShort))?;
        let expected = head.first.saturating_add(at as u64);
        let (hash, links) = journal::follows(line, before, expected).map_err(|broken| {
            flaw(match broken {
                Broken::Hash => What::Altered,
                Broken::Link => What::Unchained,
                Broken::Number { expected, found } => What::NotNext { expected, found },
                Broken::Format(error) => What::NoRecord(error.to_string()),
                Broken::Read(error) => What::NoRecord(error.to_string()),
            })
        })?;
        let read: Line =
            serde_json::from_slice(line).map_err(|error| flaw(What::NoRecord(error.to_string())))?;
        if read.host != head.journal_of {
            return Err(flaw(What::OtherHost(read.host)));
        }
        if links == head.newest && hash.to_string() != head.newest_hash {
            return Err(flaw(What::OtherEnd));
        }
        before = Some(hash);
        entries.push(entry(read));
    }
    let last = before.ok_or(Flaw { line: 2, what: What::NoCertificate("it holds no record".to_owned()) })?;
    Ok((entries, last))
}
