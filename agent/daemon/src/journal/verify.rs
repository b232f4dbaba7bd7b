//! Checks the journal's chain from its oldest line to its newest. Writes nothing.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::file::{self, Lines};
use super::line::{self, LineHash, Links};

/// A chain that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Files read.
    pub(crate) files: usize,
    /// The number of the oldest line still kept; 0 if there is none.
    pub(crate) first_n: u64,
    /// The number of the newest line; 0 if there is none.
    pub(crate) last_n: u64,
    /// The hash of the newest line: whoever wrote it down elsewhere can tell whether the end was cut off.
    pub(crate) last_hash: LineHash,
    /// Bytes after the last whole line: a line being written, or torn by a crash.
    pub(crate) unfinished_bytes: u64,
}

impl Summary {
    /// Of no line at all.
    pub(super) const EMPTY: Self =
        Self { files: 0, first_n: 0, last_n: 0, last_hash: LineHash::NONE, unfinished_bytes: 0 };
}

/// Where a chain does not hold.
#[derive(Debug)]
pub(crate) struct ChainError {
    /// The file.
    pub(crate) file: PathBuf,
    /// The line in that file, from 1; 0 for the file as a whole.
    pub(crate) line: u64,
    /// What is wrong.
    pub(crate) what: Broken,
}

/// What is wrong with a line.
#[derive(Debug)]
pub(crate) enum Broken {
    /// It cannot be read.
    Read(io::Error),
    /// Its bytes do not have the hash it states.
    Hash,
    /// It is no record.
    Format(serde_json::Error),
    /// It names another line before it than the one that is there.
    Link,
    /// Its number does not follow.
    Number {
        /// The number expected.
        expected: u64,
        /// The number it has.
        found: u64,
    },
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file.display(), self.line)?;
        match &self.what {
            Broken::Read(error) => write!(f, "{error}"),
            Broken::Hash => f.write_str("the line's bytes do not have the hash it states"),
            Broken::Format(error) => write!(f, "not a record: {error}"),
            Broken::Link => f.write_str("`prev` is not the hash of the line before"),
            Broken::Number { expected, found } => write!(f, "line number {found}, expected {expected}"),
        }
    }
}

impl std::error::Error for ChainError {}

/// Checks every line's hash, number and link, over all files.
pub(crate) fn verify(dir: &Path) -> Result<Summary, ChainError> {
    let files = file::list(dir).map_err(|error| broken(dir, 0, Broken::Read(error)))?;
    let mut summary = Summary { files: files.len(), ..Summary::EMPTY };
    let newest = files.last().map(|(first_n, _)| *first_n);
    for (named_n, path) in &files {
        verify_file(path, *named_n, Some(*named_n) == newest, &mut summary)?;
    }
    Ok(summary)
}

fn verify_file(path: &Path, named_n: u64, newest: bool, summary: &mut Summary) -> Result<(), ChainError> {
    let opened = File::open(path).map_err(|error| broken(path, 0, Broken::Read(error)))?;
    verify_lines(opened, path, named_n, newest, summary)
}

/// The lines of one file, which is called `path` and whose name says that it begins with line `named_n`.
pub(super) fn verify_lines(
    lines: impl Read,
    path: &Path,
    named_n: u64,
    newest: bool,
    summary: &mut Summary,
) -> Result<(), ChainError> {
    let fail = |line, what| Err(broken(path, line, what));
    let mut lines = Lines::new(lines);
    let mut number = 0;
    loop {
        number += 1;
        let line = match lines.next() {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(()),
            Err(error) => return fail(number, Broken::Read(error)),
        };
        if !line.terminated && newest {
            summary.unfinished_bytes = line.bytes.len() as u64;
            return Ok(());
        }
        let Some(hash) = line::check(line.bytes) else { return fail(number, Broken::Hash) };
        let links: Links = match serde_json::from_slice(line.bytes) {
            Ok(links) => links,
            Err(error) => return fail(number, Broken::Format(error)),
        };
        let oldest = summary.first_n == 0;
        let expected = if number == 1 { named_n } else { summary.last_n + 1 };
        if links.n != expected || !oldest && links.n != summary.last_n + 1 {
            let expected = if oldest { expected } else { summary.last_n + 1 };
            return fail(number, Broken::Number { expected, found: links.n });
        }
        // The oldest line kept may name one that was deleted with its file; only line 1 has none before it.
        if (!oldest || links.n == 1) && links.prev != summary.last_hash.to_string() {
            return fail(number, Broken::Link);
        }
        if oldest {
            summary.first_n = links.n;
        }
        (summary.last_n, summary.last_hash) = (links.n, hash);
    }
}

/// One line by itself: that it carries its own hash, has this number, and names `before` as the hash of the line before it (`None`:
/// whichever that was). Its hash and number.
pub(crate) fn follows(
    line: &[u8],
    before: Option<LineHash>,
    expected: u64,
) -> Result<(LineHash, u64), Broken> {
    let hash = line::check(line).ok_or(Broken::Hash)?;
    let links: Links = serde_json::from_slice(line).map_err(Broken::Format)?;
    if links.n != expected {
        return Err(Broken::Number { expected, found: links.n });
    }
    if before.is_some_and(|before| links.prev != before.to_string()) {
        return Err(Broken::Link);
    }
    Ok((hash, links.n))
}

fn broken(file: &Path, line: u64, what: Broken) -> ChainError {
    ChainError { file: file.to_owned(), line, what }
}
