//! The other end of the local API: one request over one connection, blocking. For the command line only.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest answer that is read.
const ANSWER_MAX: u64 = 8 << 20;
/// Longer than the agent takes to give up on itself.
const TIMEOUT: Duration = Duration::from_secs(15);

/// An answer of the agent.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The HTTP status code.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: Vec<u8>,
}

/// No answer came.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// The socket cannot be opened or broke.
    Socket {
        /// Where.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// What came is no HTTP.
    Malformed {
        /// Where.
        path: PathBuf,
    },
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket { path, source } => {
                use io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
                let way_out = if [NotFound, ConnectionRefused].contains(&source.kind()) {
                    "no agent runs on this host; start it with `systemctl start palisade`"
                } else if source.kind() == PermissionDenied {
                    "run this as root, or join the group `palisade` to read"
                } else {
                    "look at `journalctl -u palisade`"
                };
                write!(f, "{}: {source}; {way_out}", path.display())
            }
            Self::Malformed { path } => write!(f, "{}: what answers there is no agent", path.display()),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Socket { source, .. } => Some(source),
            Self::Malformed { .. } => None,
        }
    }
}

/// Asks the agent at `socket`: a GET, or with a body a POST.
pub(crate) fn ask(socket: &Path, path: &str, body: Option<&[u8]>) -> Result<Answer, ClientError> {
    let whole = exchange(socket, path, body)
        .map_err(|source| ClientError::Socket { path: socket.to_owned(), source })?;
    parse(&whole).ok_or_else(|| ClientError::Malformed { path: socket.to_owned() })
}

fn exchange(socket: &Path, path: &str, body: Option<&[u8]>) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let method = if body.is_some() { "POST" } else { "GET" };
    let body = body.unwrap_or_default();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: agent\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    )?;
    stream.write_all(body)?;
    let mut whole = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut whole)?;
    Ok(whole)
}

/// The agent sends its bodies whole, with their length, and closes: nothing else needs to be understood.
pub(super) fn parse(whole: &[u8]) -> Option<Answer> {
    let head_end = whole.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, rest) = whole.split_at_checked(head_end)?;
    let first = std::str::from_utf8(head).ok()?.lines().next()?;
    let status = first.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(Answer { status, body: rest.get(4..)?.to_vec() })
}
