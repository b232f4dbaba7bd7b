//! Finds records in the journal, for `why` and for a starting agent. Writes nothing.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use super::file::{self, Lines};
use super::line::{self, Line, LineHash};

/// Shows every whole record, oldest first, until `f` breaks. Lines that are none (damaged, being written) are passed over:
/// [`super::verify()`] speaks about those.
pub(crate) fn scan(dir: &Path, mut f: impl FnMut(Line) -> ControlFlow<()>) -> io::Result<()> {
    for (_, path) in file::list(dir)? {
        if scan_file(&path, &mut f)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// The same with each record's bytes as they lie on the disk, without the newline, and its hash.
pub(crate) fn scan_raw(
    dir: &Path,
    mut f: impl FnMut(&[u8], LineHash, Line) -> ControlFlow<()>,
) -> io::Result<()> {
    for (_, path) in file::list(dir)? {
        let mut lines = Lines::new(File::open(&path)?);
        while let Some(raw) = lines.next()? {
            if let Some(hash) = line::check(raw.bytes)
                && let Ok(line) = serde_json::from_slice(raw.bytes)
                && f(raw.bytes, hash, line).is_break()
            {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The same for one file of a journal; whether `f` broke.
pub(crate) fn scan_file(
    path: &Path,
    mut f: impl FnMut(Line) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    let mut lines = Lines::new(File::open(path)?);
    while let Some(raw) = lines.next()? {
        if let Some(line) = parse(raw.bytes)
            && f(line).is_break()
        {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The newest record that `wanted` accepts. `needle` is text that such a line must contain: lines without it are not parsed,
/// so a starting agent reads 256 MiB in well under a second.
pub(crate) fn last_matching(
    dir: &Path,
    needle: &str,
    mut wanted: impl FnMut(&Line) -> bool,
) -> io::Result<Option<Line>> {
    let files = match file::list(dir) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for (_, path) in files.iter().rev() {
        let mut lines = Lines::new(File::open(path)?);
        let mut last = None;
        while let Some(raw) = lines.next()? {
            if contains(raw.bytes, needle.as_bytes())
                && let Some(line) = parse(raw.bytes)
                && wanted(&line)
            {
                last = Some(line);
            }
        }
        if last.is_some() {
            return Ok(last);
        }
    }
    Ok(None)
}

pub(super) fn parse(bytes: &[u8]) -> Option<Line> {
    line::check(bytes)?;
    serde_json::from_slice(bytes).ok()
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    needle.is_empty() || bytes.windows(needle.len()).any(|window| window == needle)
}
