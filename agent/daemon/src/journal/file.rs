//! The journal's files: names, the end of the chain after a crash, the current file, rotation. Writes at explicit places, so
//! that a write that failed half-way is simply written over by the next try.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, Flock, FlockArg, fallocate};

use super::line::{self, LineHash, Links, MAX_LINE_BYTES};

/// What was torn off by crashes is kept for people to look at, the newest few.
const MAX_TORN_FILES: usize = 4;
/// A copy of a torn end while it is made: one fixed name, so that a try that fails litters nothing.
const TORN_COPY: &str = "torn.part";

/// What the journal does to a disk; a fault-injecting one wraps it in tests.
pub(super) trait Storage: Send + 'static {
    fn write_at(&mut self, file: &File, bytes: &[u8], at: u64) -> io::Result<()>;
    fn sync(&mut self, file: &File) -> io::Result<()>;
}

/// The disk itself.
pub(super) struct Disk;

impl Storage for Disk {
    fn write_at(&mut self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}

/// The last line of the chain.
#[derive(Clone, Copy)]
pub(super) struct End {
    pub(super) n: u64,
    pub(super) hash: LineHash,
}

/// The file being written.
pub(super) struct Current {
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// Bytes of lines known to be on the disk.
    pub(super) len: u64,
}

/// What was found when the journal was opened.
pub(super) struct Found {
    pub(super) end: End,
    pub(super) current: Option<Current>,
    /// Bytes after the last whole line, and where they were moved; nowhere if the disk had no room for a copy.
    pub(super) torn: Vec<(u64, Option<PathBuf>)>,
}

/// `journal-000000000001.jsonl`: named after its first line.
pub(super) fn name(first_n: u64) -> String {
    format!("journal-{first_n:012}.jsonl")
}

/// The journal's files, oldest first.
pub(crate) fn list(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("journal-")?.strip_suffix(".jsonl"));
        if let Some(n) = number.and_then(|digits| digits.parse().ok()) {
            files.push((n, entry.path()));
        }
    }
    files.sort();
    Ok(files)
}

/// Names a file in an error that has none.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Two that write one journal would break its chain: an agent, and a fence by hand without one.
pub(super) fn lock(dir: &Path) -> io::Result<Flock<File>> {
    fs::create_dir_all(dir).map_err(at(dir))?;
    let held = File::open(dir).map_err(at(dir))?;
    Flock::lock(held, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
        let why =
            if errno == Errno::EWOULDBLOCK { "another process writes this journal" } else { errno.desc() };
        io::Error::new(io::Error::from(errno).kind(), format!("{}: {why}", dir.display()))
    })
}

/// Finds the end of the chain. What follows the last whole line (a crash tore it) is moved aside; lines before it are left
/// as they are, damaged or not: that is for `verify` to say.
pub(super) fn recover(dir: &Path, file_bytes: u64) -> io::Result<Found> {
    fs::create_dir_all(dir).map_err(at(dir))?;
    let mut torn = Vec::new();
    for (first_n, path) in list(dir).map_err(at(dir))?.into_iter().rev() {
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(at(&path))?;
        let total = file.metadata().map_err(at(&path))?.len();
        let last = last_whole_line(&file).map_err(at(&path))?;
        let len = last.as_ref().map_or(0, |(_, end_at)| *end_at);
        if total > len {
            torn.push((total - len, move_aside(dir, &path, &file, len).map_err(at(&path))?));
        }
        match last {
            Some((end, len)) => {
                // Cutting a torn end off gave the reserved blocks back.
                reserve(&path, &file, file_bytes);
                return Ok(Found { end, current: Some(Current { path, file, len }), torn });
            }
            // Made just before a crash: nothing in it. The chain's end is in the file before, or nowhere.
            None => fs::remove_file(&path).map_err(at(&dir.join(name(first_n))))?,
        }
    }
    Ok(Found { end: End { n: 0, hash: LineHash::NONE }, current: None, torn })
}

/// The last line that carries its own right hash, and where it ends.
fn last_whole_line(file: &File) -> io::Result<Option<(End, u64)>> {
    let mut lines = Lines::new(file);
    let mut last = None;
    while let Some(line) = lines.next()? {
        if let Some(hash) = line::check(line.bytes) {
            let links: Option<Links> = serde_json::from_slice(line.bytes).ok();
            if line.terminated
                && let Some(links) = links
            {
                last = Some((End { n: links.n, hash }, line.end_at));
            }
        }
    }
    Ok(last)
}

/// Cuts a file off after `len`, and keeps a copy of the rest where there is room for one.
fn move_aside(dir: &Path, path: &Path, file: &File, len: u64) -> io::Result<Option<PathBuf>> {
    let part = dir.join(TORN_COPY);
    let aside = match copy_aside(dir, path, file, len, &part) {
        Ok(aside) => Some(aside),
        Err(error) => {
            // It may never have been made.
            drop(fs::remove_file(&part));
            // SAFE-12: a disk filled by others must not keep the journal shut, and with it fencing, for the sake of a copy.
            if !matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
                return Err(error);
            }
            None
        }
    };
    file.set_len(len)?;
    file.sync_all()?;
    keep_newest_torn(dir)?;
    Ok(aside)
}

fn copy_aside(dir: &Path, path: &Path, file: &File, len: u64, part: &Path) -> io::Result<PathBuf> {
    let mut options = OpenOptions::new();
    let mut copy = options.write(true).create(true).truncate(true).mode(0o600).open(part)?;
    let mut from = file;
    io::Seek::seek(&mut from, io::SeekFrom::Start(len))?;
    io::copy(&mut from, &mut copy)?;
    copy.sync_all()?;
    let mut aside = path.with_extension("torn");
    for again in 1.. {
        if !aside.exists() {
            break;
        }
        aside = path.with_extension(format!("{again}.torn"));
    }
    fs::rename(part, &aside)?;
    File::open(dir)?.sync_all()?;
    Ok(aside)
}

fn keep_newest_torn(dir: &Path) -> io::Result<()> {
    let mut torn = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "torn") {
            torn.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    torn.sort();
    let too_many = torn.len().saturating_sub(MAX_TORN_FILES);
    torn.iter().take(too_many).try_for_each(|(_, path)| fs::remove_file(path))
}

/// Makes the file whose first line will be `first_n`, and deletes the oldest ones so that all stay within `total_bytes`.
pub(super) fn begin(dir: &Path, first_n: u64, file_bytes: u64, total_bytes: u64) -> io::Result<Current> {
    let keep = usize::try_from((total_bytes / file_bytes).max(2) - 1).unwrap_or(usize::MAX);
    let files = list(dir).map_err(at(dir))?;
    let path = dir.join(name(first_n));
    let too_many = files.len().saturating_sub(keep);
    for (_, old) in files.iter().take(too_many).filter(|(_, old)| *old != path) {
        fs::remove_file(old).map_err(at(old))?;
    }
    // Truncated: if it is there, it is left from a try that failed before its first line was durable.
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .map_err(at(&path))?;
    reserve(&path, &file, file_bytes);
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(at(dir))?;
    Ok(Current { path, file, len: 0 })
}

/// Reserved so that a disk filled by others does not stop the journal in the middle of an incident. A disk that cannot reserve
/// (or is nearly full) may still take lines, and the writes tell.
fn reserve(path: &Path, file: &File, file_bytes: u64) {
    let reserved =
        fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, i64::try_from(file_bytes).unwrap_or(0));
    if let Err(error) = reserved {
        tracing::debug!(path = %path.display(), %error, "no space reserved for the journal's file");
    }
}

/// One line of a file.
pub(super) struct RawLine<'a> {
    /// Without its newline.
    pub(super) bytes: &'a [u8],
    /// Whether it ended with a newline.
    pub(super) terminated: bool,
    /// Where the next line begins.
    pub(super) end_at: u64,
}

/// Reads a file line by line, holding at most [`MAX_LINE_BYTES`] of it: a longer run of bytes without a newline comes in
/// pieces, none of which is a line.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    buffer: Vec<u8>,
    at: u64,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(file: R) -> Self {
        Self { reader: BufReader::with_capacity(64 * 1024, file), buffer: Vec::new(), at: 0 }
    }

    pub(super) fn next(&mut self) -> io::Result<Option<RawLine<'_>>> {
        self.buffer.clear();
        let limit = (MAX_LINE_BYTES + 1) as u64;
        let read = (&mut self.reader).take(limit).read_until(b'\n', &mut self.buffer)?;
        if read == 0 {
            return Ok(None);
        }
        self.at += read as u64;
        let terminated = self.buffer.last() == Some(&b'\n');
        let bytes = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        Ok(Some(RawLine { bytes, terminated, end_at: self.at }))
    }
}
