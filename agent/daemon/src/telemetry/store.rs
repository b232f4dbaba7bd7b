//! The spool on the disk: segments of lines, each `CHECK NUMBER JSON`, and the place up to which the broker has acknowledged. It
//! does what the ledger says and decides nothing.
//!
//! **Nothing here is synced.** What a process wrote outlives its end; a loss of power may cost the last seconds, which the
//! journal has, and which is a smaller evil than a second sync a record. A line that a crash tore is cut off, one that was damaged
//! is passed over and told as a gap.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ring::digest;

use super::ledger::{Gap, Position};
use super::said;

/// Digits of the check before each line: of the SHA-256 over what follows it.
const CHECK_DIGITS: usize = 8;
/// What stands around an event on its line, at most: the check, the number, two spaces and the newline.
pub(super) const LINE_EXTRA: usize = CHECK_DIGITS + 20 + 3;
/// What is read at once: most events fit; a longer one takes several reads.
const READ_BYTES: usize = 8 * 1024;
const POSITION: &str = "position";
const POSITION_NEW: &str = "position.new";

/// What was found.
pub(super) struct Found {
    /// First number and bytes of each segment, oldest first.
    pub(super) segments: Vec<(u64, u64)>,
    /// The number after the last event.
    pub(super) end: u64,
    pub(super) position: Option<Position>,
    /// Bytes of a torn end that were cut off.
    pub(super) torn: u64,
}

/// What stands where the next event was looked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// An event, and whether lines before it were damaged.
    Event { number: u64, payload: Vec<u8>, damaged: u64 },
    /// The segment holds none, but for damaged lines.
    End { damaged: u64 },
}

/// What the spool does to a disk; a faulty one takes its place in tests.
pub(super) trait Store: Send + 'static {
    fn open(&mut self) -> io::Result<Found>;
    fn begin(&mut self, segment: u64) -> io::Result<()>;
    fn write(&mut self, segment: u64, at: u64, line: &[u8]) -> io::Result<()>;
    fn remove(&mut self, segment: u64) -> io::Result<()>;
    fn read(&mut self, segment: u64, from: u64) -> io::Result<Read>;
    fn save(&mut self, position: &Position) -> io::Result<()>;
}

/// What is lost with a segment, of its events from this number on.
pub(super) fn lost(store: &mut impl Store, segment: u64, from: u64, end: u64) -> Option<Gap> {
    let mut gap: Option<Gap> = None;
    let mut add = |later: Gap| match &mut gap {
        Some(gap) => gap.extend(later),
        none => *none = Some(later),
    };
    let mut at = from;
    while at < end {
        match store.read(segment, at) {
            Ok(Read::Event { number, payload, .. }) if number < end => {
                add(said::if_shed(number, &payload));
                at = number + 1;
            }
            Ok(Read::Event { .. } | Read::End { .. }) => break,
            Err(error) => {
                tracing::warn!(%error, "what the spool sheds cannot be read any more");
                add(Gap { number: end.saturating_sub(1), lost: end - at, first: None, last: None });
                break;
            }
        }
    }
    gap
}

/// One event as a line.
pub(super) fn line(number: u64, payload: &[u8]) -> Vec<u8> {
    let number = number.to_string();
    let mut line = Vec::with_capacity(LINE_EXTRA + payload.len());
    line.extend_from_slice(&check(number.as_bytes(), payload));
    line.push(b' ');
    line.extend_from_slice(number.as_bytes());
    line.push(b' ');
    line.extend_from_slice(payload);
    line.push(b'\n');
    line
}

fn check(number: &[u8], payload: &[u8]) -> [u8; CHECK_DIGITS] {
    let mut context = digest::Context::new(&digest::SHA256);
    [number, b" ", payload].iter().for_each(|part| context.update(part));
    let hash = context.finish();
    let mut check = [b'0'; CHECK_DIGITS];
    let digits = |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from_digit(u32::from(digit), 16));
    for (to, digit) in check.iter_mut().zip(hash.as_ref().iter().flat_map(digits)) {
        *to = digit.map_or(b'0', |digit| u8::try_from(digit).unwrap_or(b'0'));
    }
    check
}

/// The number and the event of a line without its newline, if it is whole.
fn parse(line: &[u8]) -> Option<(u64, &[u8])> {
    let (stated, rest) = line.split_at_checked(CHECK_DIGITS)?;
    let rest = rest.strip_prefix(b" ")?;
    let space = rest.iter().position(|byte| *byte == b' ')?;
    let (number, payload) = rest.split_at_checked(space)?;
    let payload = payload.strip_prefix(b" ")?;
    if check(number, payload) != *stated {
        return None;
    }
    Some((std::str::from_utf8(number).ok()?.parse().ok()?, payload))
}

/// A line that stands somewhere.
enum Line {
    Whole {
        number: u64,
        payload: Vec<u8>,
        end_at: u64,
    },
    Damaged {
        end_at: u64,
    },
    /// No newline follows any more.
    Torn,
}

/// The disk itself.
pub(super) struct Disk {
    dir: PathBuf,
    written: Option<(u64, File)>,
    /// The segment that is read, and where the event after the last one read begins.
    reading: Option<(u64, File, u64, u64)>,
}

impl Disk {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), written: None, reading: None }
    }

    fn path(&self, segment: u64) -> PathBuf {
        self.dir.join(format!("{segment:020}.spool"))
    }

    fn list(&self) -> io::Result<Vec<u64>> {
        let mut segments = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".spool")?.parse::<u64>().ok());
            segments.extend(number);
        }
        segments.sort_unstable();
        Ok(segments)
    }
}

impl Store for Disk {
    fn open(&mut self) -> io::Result<Found> {
        (self.written, self.reading) = (None, None);
        // What happened on this host is for root alone.
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(at(&self.dir))?;
        let position = fs::read(self.dir.join(POSITION)).ok();
        let position = position.and_then(|text| serde_json::from_slice::<Position>(&text).ok());
        let (mut segments, mut end, mut torn) = (Vec::new(), 0, 0);
        let numbers = self.list().map_err(at(&self.dir))?;
        for (index, segment) in numbers.iter().enumerate() {
            let path = self.path(*segment);
            let file = OpenOptions::new().read(true).write(true).open(&path).map_err(at(&path))?;
            let mut bytes = file.metadata().map_err(at(&path))?.len();
            if index + 1 == numbers.len() {
                let (last, whole) = end_of(&file).map_err(at(&path))?;
                if bytes > whole {
                    torn = bytes - whole;
                    file.set_len(whole).map_err(at(&path))?;
                    bytes = whole;
                }
                end = last.map_or(*segment, |last| last + 1);
                self.written = Some((*segment, file));
            }
            segments.push((*segment, bytes));
        }
        Ok(Found { segments, end, position, torn })
    }

    fn begin(&mut self, segment: u64) -> io::Result<()> {
        let path = self.path(segment);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&path).map_err(at(&path))?;
        self.written = Some((segment, file));
        Ok(())
    }

    fn write(&mut self, segment: u64, offset: u64, line: &[u8]) -> io::Result<()> {
        let path = self.path(segment);
        let written = self.written.as_ref().filter(|(number, _)| *number == segment);
        let gone = || io::Error::new(io::ErrorKind::NotFound, "this segment is not open");
        let (_, file) = written.ok_or_else(gone).map_err(at(&path))?;
        // Always at the same place until it succeeds: what a failed write left is written over.
        file.write_all_at(line, offset).map_err(at(&path))
    }

    fn remove(&mut self, segment: u64) -> io::Result<()> {
        self.written.take_if(|(number, _)| *number == segment);
        self.reading.take_if(|(number, ..)| *number == segment);
        let path = self.path(segment);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(at(&path)),
        }
    }

    fn read(&mut self, segment: u64, from: u64) -> io::Result<Read> {
        let path = self.path(segment);
        let continued =
            self.reading.take().filter(|(number, _, next, _)| (*number, *next) == (segment, from));
        let (file, mut offset) = match continued {
            Some((_, file, _, offset)) => (file, offset),
            None => (File::open(&path).map_err(at(&path))?, 0),
        };
        let mut damaged = 0;
        loop {
            match line_at(&file, offset).map_err(at(&path))? {
                Line::Whole { number, end_at, .. } if number < from => {
                    offset = end_at;
                    damaged = 0;
                }
                Line::Whole { number, payload, end_at } => {
                    self.reading = Some((segment, file, number + 1, end_at));
                    return Ok(Read::Event { number, payload, damaged });
                }
                Line::Damaged { end_at } => {
                    offset = end_at;
                    damaged += 1;
                }
                Line::Torn => return Ok(Read::End { damaged }),
            }
        }
    }

    fn save(&mut self, position: &Position) -> io::Result<()> {
        let (path, new) = (self.dir.join(POSITION), self.dir.join(POSITION_NEW));
        let text = serde_json::to_vec(position)?;
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&new);
        file.and_then(|file| file.write_all_at(&text, 0)).map_err(at(&new))?;
        // In one step, so that a crash leaves the old place or the new one.
        fs::rename(&new, &path).map_err(at(&path))
    }
}

/// The number of the last whole line, and where it ends.
fn end_of(file: &File) -> io::Result<(Option<u64>, u64)> {
    let (mut last, mut whole, mut offset) = (None, 0, 0);
    loop {
        match line_at(file, offset)? {
            Line::Whole { number, end_at, .. } => {
                (last, whole, offset) = (Some(number), end_at, end_at);
            }
            Line::Damaged { end_at } => offset = end_at,
            Line::Torn => return Ok((last, whole)),
        }
    }
}

/// The line that begins there. Read anew each time: what lies behind the last whole line may be written over.
fn line_at(file: &File, offset: u64) -> io::Result<Line> {
    let mut bytes = vec![0; READ_BYTES];
    let mut filled = 0;
    loop {
        let read = match bytes.get_mut(filled..) {
            Some(free) => file.read_at(free, offset + filled as u64)?,
            None => 0,
        };
        let new = bytes.get(filled..filled + read).unwrap_or_default();
        if let Some(newline) = new.iter().position(|byte| *byte == b'\n') {
            let length = filled + newline;
            let end_at = offset + length as u64 + 1;
            let line = bytes.get(..length).unwrap_or_default();
            return Ok(match parse(line) {
                Some((number, payload)) => Line::Whole { number, payload: payload.to_vec(), end_at },
                None => Line::Damaged { end_at },
            });
        }
        filled += read;
        if read == 0 {
            return Ok(Line::Torn);
        }
        if filled > said::EVENT_BYTES_MAX + LINE_EXTRA {
            // Longer than any line: passed over in pieces.
            return Ok(Line::Damaged { end_at: offset + filled as u64 });
        }
        if filled == bytes.len() {
            bytes.resize(filled * 2, 0);
        }
    }
}

/// Names a file in an error that has none.
fn at(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
