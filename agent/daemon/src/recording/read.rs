//! Reads a segment: its head, its steps one by one, and how it ends. Whatever the bytes are, what stands before the first
//! bad one is given, and the rest is told of.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use palisade_core::config::{ConfigError, Written};
use palisade_core::record::Event;
use palisade_core::replay::{Outcome, Step};
use palisade_core::{Engine, Input};
use palisade_proto::Time;

use super::format::{MAGIC, Mark, Said, patched};
use super::frame::{self, Found};
use super::{Head, LAYOUT, SEGMENT_BYTES};

/// A segment that cannot be replayed at all.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The file system's answer.
    Read(io::Error),
    /// It does not begin as a segment does.
    NoSegment,
    /// Its head is torn or was changed.
    Head,
    /// It was made by a program whose engine is laid out otherwise.
    OtherLayout {
        /// The recording's.
        layout: u32,
    },
    /// Its configuration does not check in this program.
    Configuration(ConfigError),
    /// Its engine does not read.
    Engine,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "{error}"),
            Self::NoSegment => f.write_str("this is no segment of a recording"),
            Self::Head => {
                f.write_str("its first frame is torn or damaged: without it nothing can be replayed")
            }
            Self::OtherLayout { layout } => write!(
                f,
                "it was recorded by a version with another engine (layout {layout}, this one reads {LAYOUT}); replay it with \
                 the version that recorded it"
            ),
            Self::Configuration(error) => {
                write!(f, "its configuration does not check in this version: {error}")
            }
            Self::Engine => f.write_str(
                "its snapshot of the engine does not read; replay it with the version that recorded it",
            ),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(error) => Some(error),
            Self::Configuration(error) => Some(error),
            Self::NoSegment | Self::Head | Self::OtherLayout { .. } | Self::Engine => None,
        }
    }
}

/// How a segment ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With its last mark: it goes on in the next one, or the process ended.
    Whole,
    /// Without one: it is being written, or the process was killed.
    Open,
    /// Inputs after it were not recorded: the disk did not take them.
    Gap {
        /// How many.
        lost: u64,
    },
    /// Within a frame: the power went. This many bytes are left over.
    Torn {
        /// How many.
        bytes: usize,
    },
    /// Bytes from this place on were changed or do not read.
    Damaged {
        /// The byte's place in the file.
        at: usize,
    },
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("whole"),
            Self::Open => f.write_str("no closing mark: it is being written, or the agent was killed"),
            Self::Gap { lost } => {
                write!(f, "a gap follows: {lost} inputs were not recorded, the disk did not take them")
            }
            Self::Torn { bytes } => write!(f, "torn: the last {bytes} bytes are no whole entry"),
            Self::Damaged { at } => {
                write!(f, "damaged at byte {at}: what follows cannot be trusted and was not replayed")
            }
        }
    }
}

/// A segment, from whose steps one after the other is taken.
pub(crate) struct Segment {
    head: Head,
    written: Written,
    bytes: Vec<u8>,
    at: usize,
    at_ms: u64,
    heard: BTreeMap<u8, Vec<u8>>,
    ending: Option<Ending>,
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment").field("head", &self.head).field("at", &self.at).finish_non_exhaustive()
    }
}

impl Segment {
    /// Reads the segment in `path`.
    ///
    /// # Errors
    /// Why nothing of it can be replayed.
    pub(crate) fn open(path: &Path) -> Result<Self, ReadError> {
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(ReadError::Read)?;
        file.take(SEGMENT_BYTES).read_to_end(&mut bytes).map_err(ReadError::Read)?;
        Self::parse(bytes)
    }

    pub(super) fn parse(bytes: Vec<u8>) -> Result<Self, ReadError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(ReadError::NoSegment)?;
        let Found::Frame(body, length) = frame::take(rest) else { return Err(ReadError::Head) };
        let (layout, _) = postcard::take_from_bytes::<u32>(body).map_err(|_| ReadError::Head)?;
        if layout != LAYOUT {
            return Err(ReadError::OtherLayout { layout });
        }
        let head: Head = postcard::from_bytes(body).map_err(|_| ReadError::Head)?;
        let written = Written::parse(&head.configuration, "the recorded configuration")
            .map_err(ReadError::Configuration)?;
        let (at, at_ms) = (MAGIC.len() + length, head.at_ms);
        Ok(Self { head, written, bytes, at, at_ms, heard: BTreeMap::new(), ending: None })
    }

    /// What it begins with.
    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// The configuration that it begins under.
    pub(crate) fn written(&self) -> &Written {
        &self.written
    }

    /// The engine as it stood at the beginning, under `written`.
    ///
    /// # Errors
    /// It does not read.
    pub(crate) fn engine(&self, written: &Written) -> Result<Engine, ReadError> {
        let engine: Engine = postcard::from_bytes(&self.head.engine).map_err(|_| ReadError::Engine)?;
        Ok(engine.configured(written.cluster().clone()))
    }

    /// How it ends, once every step was taken.
    pub(crate) fn ending(&self) -> Ending {
        self.ending.clone().unwrap_or(Ending::Open)
    }

    fn step(&mut self) -> Result<Step, Ending> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let damaged = Ending::Damaged { at: self.at };
        let (body, length) = match frame::take(rest) {
            Found::Frame(body, length) => (body, length),
            Found::Nothing => return Err(Ending::Open),
            Found::Torn => return Err(Ending::Torn { bytes: rest.len() }),
            Found::Damaged => return Err(damaged),
        };
        let (after_ms, said, digest, events) = match postcard::from_bytes(body) {
            Ok(Mark::Step { after_ms, input, digest, events }) => (after_ms, input, digest, events),
            Ok(Mark::Gap { lost }) => return Err(Ending::Gap { lost }),
            Ok(Mark::End) => return Err(Ending::Whole),
            Err(_) => return Err(damaged),
        };
        let bytes = match said {
            Said::Whole(bytes) => Some(bytes),
            Said::Like { host, runs } => self.heard.get(&host).and_then(|old| patched(old, &runs)),
        };
        let bytes = bytes.ok_or_else(|| damaged.clone())?;
        let input: Input = postcard::from_bytes(&bytes).map_err(|_| damaged.clone())?;
        let events: Result<Vec<Event>, _> = events.iter().map(|event| serde_json::from_str(event)).collect();
        let outcome = Outcome { digest, events: events.map_err(|_| damaged)? };
        if let Input::Heartbeat(heartbeat) = &input {
            self.heard.insert(heartbeat.from.host.number(), bytes);
        }
        self.at += length;
        self.at_ms = self.at_ms.saturating_add(after_ms);
        Ok(Step { at: Time(self.at_ms), input, outcome })
    }
}

impl Iterator for Segment {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.ending.is_some() {
            return None;
        }
        match self.step() {
            Ok(step) => Some(step),
            Err(ending) => {
                self.ending = Some(ending);
                None
            }
        }
    }
}
