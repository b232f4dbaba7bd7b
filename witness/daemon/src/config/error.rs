//! What is wrong with a configuration, with its place.

use std::fmt;
use std::ops::Range;

/// The most characters of a message: room for every key that a table can have.
const WHAT_MAX: usize = 1000;

/// `FILE: line L, column C: what is wrong`. The line itself is not quoted: it may hold what somebody took for the place of a
/// password (SAFE-6).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ConfigError {
    file: String,
    place: Option<(usize, usize)>,
    what: String,
}

impl ConfigError {
    pub(crate) fn unreadable(file: &str, error: &std::io::Error) -> Self {
        Self { file: file.to_owned(), place: None, what: error.to_string() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file)?;
        if let Some((line, column)) = self.place {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&self.what)
    }
}

impl std::error::Error for ConfigError {}

/// The text being read and its name.
pub(super) struct Source<'text> {
    pub(super) name: &'text str,
    pub(super) text: &'text str,
}

impl Source<'_> {
    pub(super) fn error(&self, span: Range<usize>, what: impl Into<String>) -> ConfigError {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let column = before.chars().rev().take_while(|letter| *letter != '\n').count() + 1;
        let place = Some((self.line(span.start), column));
        ConfigError { file: self.name.to_owned(), place, what: printable(&what.into()) }
    }

    pub(super) fn toml_error(&self, error: &toml::de::Error) -> ConfigError {
        let what = error.message().trim().replace('\n', "; ");
        match error.span() {
            Some(span) => self.error(span, what),
            None => ConfigError { file: self.name.to_owned(), place: None, what: printable(&what) },
        }
    }

    /// The line, from 1, of a byte of the text.
    pub(super) fn line(&self, at: usize) -> usize {
        self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
    }
}

/// What a message may repeat of the text: short, and nothing that a terminal obeys.
fn printable(what: &str) -> String {
    let clean = |letter: char| if letter.is_control() { '?' } else { letter };
    let mut shown: String = what.chars().take(WHAT_MAX).map(clean).collect();
    if what.chars().count() > WHAT_MAX {
        shown.push_str("...");
    }
    shown
}
