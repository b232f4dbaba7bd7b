//! One line of the journal: how it is written, chained and read back.
//!
//! `{"n":1,"time":"...","boot_ms":1,"host":"a","life":"...","event":{...},"prev":"...","hash":"..."}` and a newline, the
//! fields in this order, without spaces. `hash` is the SHA-256 of the line's own bytes without `,"hash":"..."`, so whoever
//! checks the chain hashes what lies on the disk and needs no canonical JSON.

use std::fmt;
use std::io::Write;
use std::time::SystemTime;

use ring::digest;
use serde::Deserialize;

/// The longest event, serialised. A record larger than this is a bug of ours, not a reason to fill the disk.
pub(crate) const MAX_EVENT_BYTES: usize = 64 * 1024;
/// The longest line: the event and what stands around it.
pub(crate) const MAX_LINE_BYTES: usize = MAX_EVENT_BYTES + 1024;

/// The SHA-256 of a line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct LineHash([u8; 32]);

impl LineHash {
    /// What the first line of a chain names as the one before it.
    pub(crate) const NONE: Self = Self([0; 32]);

    /// Of bytes that are no line.
    pub(crate) fn over(bytes: &[u8]) -> Self {
        Self::of(&[bytes])
    }

    pub(super) fn of(bytes: &[&[u8]]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        bytes.iter().for_each(|part| context.update(part));
        let mut hash = [0; 32];
        for (to, from) in hash.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        Self(hash)
    }
}

impl fmt::Display for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A line as read back.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Line {
    /// Its number in the chain, from 1.
    pub(crate) n: u64,
    /// The wall clock when it was appended: RFC 3339, UTC, milliseconds. For people; nothing is decided by it.
    pub(crate) time: String,
    /// CLOCK_BOOTTIME when it was appended, in milliseconds.
    pub(crate) boot_ms: u64,
    /// The host that wrote it.
    pub(crate) host: String,
    /// That host's life, in hexadecimal.
    pub(crate) life: String,
    /// What happened.
    pub(crate) event: serde_json::Value,
}

/// What chains one line to the next.
#[derive(Deserialize)]
pub(super) struct Links {
    pub(super) n: u64,
    pub(super) prev: String,
}

/// A record before it has its place in the chain.
pub(super) struct Draft {
    pub(super) time: SystemTime,
    pub(super) boot_ms: u64,
    /// The event as JSON.
    pub(super) event: Vec<u8>,
}

/// Writes `draft` as line `n` after the line `prev` into `out`; returns its hash.
pub(super) fn encode(
    out: &mut Vec<u8>,
    n: u64,
    draft: &Draft,
    host: &str,
    life: &str,
    prev: LineHash,
) -> LineHash {
    let start = out.len();
    let time = humantime::format_rfc3339_millis(draft.time);
    // Host names and lives hold no character that JSON escapes: the configuration and `identity` see to it. A Vec never
    // refuses a write.
    drop(write!(
        out,
        r#"{{"n":{n},"time":"{time}","boot_ms":{},"host":"{host}","life":"{life}","event":"#,
        draft.boot_ms
    ));
    out.extend_from_slice(&draft.event);
    drop(write!(out, r#","prev":"{prev}""#));
    let body = out.get(start..).unwrap_or_default();
    let hash = LineHash::of(&[body, b"}"]);
    drop(writeln!(out, r#","hash":"{hash}"}}"#));
    hash
}

/// The hash that a line states, if its bytes have that hash. `line` is without its newline.
pub(super) fn check(line: &[u8]) -> Option<LineHash> {
    const TAIL: usize = r#","hash":"""#.len() + 64 + 1;
    let (body, tail) = line.split_at_checked(line.len().checked_sub(TAIL)?)?;
    let hash = LineHash::of(&[body, b"}"]);
    let expected = format!(r#","hash":"{hash}"}}"#);
    (tail == expected.as_bytes()).then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(n: u64, event: &str, prev: LineHash) -> (Vec<u8>, LineHash) {
        let draft = Draft { time: SystemTime::UNIX_EPOCH, boot_ms: 5, event: event.as_bytes().to_vec() };
        let mut out = Vec::new();
        let hash = encode(&mut out, n, &draft, "a", "0011223344556677", prev);
        (out, hash)
    }

    #[test]
    fn a_line_reads_as_documented_and_carries_its_hash() {
        let (bytes, hash) = line(1, r#"{"kind":"started"}"#, LineHash::NONE);
        let text = String::from_utf8(bytes).unwrap();
        let zeros = "0".repeat(64);
        let body = format!(
            r#"{{"n":1,"time":"1970-01-01T00:00:00.000Z","boot_ms":5,"host":"a","life":"0011223344556677","event":{{"kind":"started"}},"prev":"{zeros}""#
        );
        assert_eq!(text, format!("{body},\"hash\":\"{hash}\"}}\n"));
        assert_eq!(LineHash::of(&[body.as_bytes(), b"}"]), hash);
        assert_eq!(check(text.trim_end().as_bytes()), Some(hash));
        let read: Line = serde_json::from_str(&text).unwrap();
        assert_eq!((read.n, read.boot_ms, read.event["kind"].as_str()), (1, 5, Some("started")));
    }

    #[test]
    fn any_flipped_bit_is_found() {
        let (bytes, _) = line(7, "1", LineHash::of(&[b"before"]));
        let bytes = bytes.trim_ascii_end();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.to_vec();
                bad[at] ^= 1 << bit;
                assert_eq!(check(&bad), None, "bit {bit} of byte {at}");
            }
        }
        for length in 0..bytes.len() {
            assert_eq!(check(&bytes[..length]), None, "cut at {length}");
        }
    }
}
