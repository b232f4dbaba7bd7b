//! What every fuzz target needs: values out of a run of bytes, and a look at an error's words. For the feature `fuzz` alone.
//!
//! Decides nothing. A broken property panics: that is how a fuzzer hears of it.

use core::fmt::{self, Write as _};

/// The longest message about an input: a screen of text, far below anything that a hostile input could fill a disk with.
const WORDS_MAX: usize = 4096;

/// Bytes read from the front; past their end there are zeros.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// Reads from these.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether all has been read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    /// The next two bytes, little endian.
    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// The next eight bytes, little endian.
    pub fn word(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A number below `end` (0 if that is 0), out of one byte.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()).checked_rem(end).unwrap_or(0)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let (now, rest) = self.0.split_at_checked(N).unwrap_or((self.0, &[]));
        array.iter_mut().zip(now).for_each(|(to, from)| *to = *from);
        self.0 = rest;
        array
    }

    /// As many bytes as the next two say, and no more than there are.
    pub fn part(&mut self) -> &'a [u8] {
        let len = usize::from(self.short()).min(self.0.len());
        let (part, rest) = self.0.split_at_checked(len).unwrap_or((self.0, &[]));
        self.0 = rest;
        part
    }

    /// What has not been read.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.0
    }
}

/// Looks at what an operator would read about an input.
///
/// # Panics
/// If it is empty, longer than a screen, or holds a character that a terminal would obey.
pub fn check_words(words: &impl fmt::Display) {
    let mut seen = Seen::default();
    let written = write!(seen, "{words}");
    assert!(written.is_ok() && seen.len > 0, "an error without words");
    assert!(seen.len <= WORDS_MAX, "an error of {} bytes", seen.len);
    assert!(!seen.control, "an error that a terminal obeys");
}

#[derive(Default)]
struct Seen {
    len: usize,
    control: bool,
}

impl fmt::Write for Seen {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        self.len += part.len();
        self.control |= part.chars().any(|letter| letter.is_control() && letter != '\n');
        Ok(())
    }
}
