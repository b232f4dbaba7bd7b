//! Asks an HTTP resource for its status code and reads no further. Plain HTTP/1.1: what a host asks of itself crosses no network.

use std::time::{Duration, Instant};

use palisade_core::config::HttpProbe;
use palisade_core::health::Sample;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Room for `HTTP/1.1 200`, with which every response begins (RFC 9112, 4).
const STATUS_LINE: usize = 12;

pub(super) async fn look(probe: &HttpProbe, timeout: Duration) -> Sample {
    let begin = Instant::now();
    match tokio::time::timeout(timeout, ask(probe)).await {
        Ok(Ok(status)) => Sample::Http { status, took_us: super::look::micros(begin.elapsed()) },
        Ok(Err(why)) => Sample::Refused(format!("{}: {why}", probe.address())),
        Err(_) => Sample::Refused(format!("{}: no answer in {} ms", probe.address(), timeout.as_millis())),
    }
}

async fn ask(probe: &HttpProbe) -> Result<u16, String> {
    let mut stream = TcpStream::connect(probe.address()).await.map_err(|error| error.to_string())?;
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: {}\r\nuser-agent: palisade\r\nconnection: close\r\n\r\n",
        probe.path(),
        probe.address()
    );
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut line = [0; STATUS_LINE];
    stream.read_exact(&mut line).await.map_err(|error| error.to_string())?;
    status(&line).ok_or_else(|| format!("`{}` is no HTTP response", line.escape_ascii()))
}

fn status(line: &[u8; STATUS_LINE]) -> Option<u16> {
    let line = std::str::from_utf8(line).ok()?;
    let (version, status) = line.split_once(' ')?;
    let digits = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit());
    (version == "HTTP/1.1" || version == "HTTP/1.0").then_some(status).filter(|_| digits)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line_is_read_and_nothing_else() {
        for (line, code) in [
            (b"HTTP/1.1 200", Some(200)),
            (b"HTTP/1.0 503", Some(503)),
            (b"HTTP/2.0 200", None),
            (b"HTTP/1.1 +20", None),
            (b"HTTP/1.1  20", None),
            (b"SSH-2.0-Open", None),
            (b"\xff\xffTP/1.1 200", None),
        ] {
            assert_eq!(status(line), code, "{}", line.escape_ascii());
        }
    }
}
