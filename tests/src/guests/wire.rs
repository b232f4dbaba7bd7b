//! A stream socket that is read by lines and by length, always with a deadline.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::lab::trouble::{Context, Result, Trouble};

/// The other side's socket, and what of its words is not taken yet.
#[derive(Debug)]
pub(super) struct Wire {
    stream: UnixStream,
    taken: Vec<u8>,
}

impl Wire {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, taken: Vec::new() }
    }

    /// One line, without its end; `None` at the deadline, and what came of it until then is kept.
    pub(super) fn line(&mut self, deadline: Instant) -> Result<Option<String>> {
        loop {
            if let Some(end) = self.taken.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.taken.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()));
            }
            if !self.more(deadline)? {
                return Ok(None);
            }
        }
    }

    /// So many bytes; `None` at the deadline.
    pub(super) fn bytes(&mut self, length: usize, deadline: Instant) -> Result<Option<Vec<u8>>> {
        while self.taken.len() < length {
            if !self.more(deadline)? {
                return Ok(None);
            }
        }
        Ok(Some(self.taken.drain(..length).collect()))
    }

    pub(super) fn send(&mut self, line: &str) -> Result<()> {
        self.stream.write_all(format!("{line}\n").as_bytes()).during("sending")
    }

    /// Takes what comes next; `false` at the deadline.
    fn more(&mut self, deadline: Instant) -> Result<bool> {
        let left = deadline.saturating_duration_since(Instant::now());
        // No time-out at all is what a zero would mean.
        self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1)))).during("a time-out")?;
        let mut block = [0; 4096];
        match self.stream.read(&mut block) {
            Ok(0) => Err(Trouble::new("the other side has hung up")),
            Ok(length) => {
                self.taken.extend(block.iter().take(length));
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error).during("reading"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_lengths_come_whole_and_a_deadline_keeps_what_came() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut wire = Wire::new(ours);
        theirs.write_all(b"0 5\nab\ncdhalf").unwrap();
        let far = Instant::now() + Duration::from_secs(5);
        assert_eq!(wire.line(far).unwrap().as_deref(), Some("0 5"));
        assert_eq!(wire.bytes(5, far).unwrap().as_deref(), Some(b"ab\ncd".as_slice()));
        assert_eq!(wire.line(Instant::now()).unwrap(), None);
        theirs.write_all(b" and half\n").unwrap();
        assert_eq!(wire.line(far).unwrap().as_deref(), Some("half and half"));
        drop(theirs);
        assert!(wire.line(far).is_err());
    }
}
