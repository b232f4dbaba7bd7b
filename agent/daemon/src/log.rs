//! The log. Whoever speaks never waits (SAFE-5): lines go over a bounded channel to a thread of its own, and only that one
//! waits for stderr, which hangs when the disk that the log lies on does. What finds no room is counted and told later.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::realtime::THREAD_STACK_BYTES;

/// Lines that may wait for the thread (SAFE-12).
const LINES_MAX: usize = 1024;
/// A longer line is cut: it bounds what the lines that wait may hold.
const LINE_BYTES: usize = 8 * 1024;

/// The way to the thread.
#[derive(Clone)]
pub(crate) struct Log {
    to: SyncSender<Said>,
    lost: Arc<AtomicU64>,
}

enum Said {
    Line(Box<[u8]>),
    /// Everything before this is written.
    End(SyncSender<()>),
}

/// Logs from here on; to the journal as it is (it keeps the time itself), else with the time.
pub(crate) fn start() -> io::Result<Log> {
    let log = Log::to(io::stderr(), LINES_MAX)?;
    let level = std::env::var("PALISADE_LOG").ok().and_then(|level| level.parse().ok());
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_target(false).with_ansi(false);
    let subscriber = subscriber.with_max_level(level.unwrap_or(LevelFilter::INFO));
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        subscriber.without_time().init();
    } else {
        subscriber.init();
    }
    Ok(log)
}

impl Log {
    fn to(out: impl Write + Send + 'static, lines_max: usize) -> io::Result<Self> {
        let (to, said) = mpsc::sync_channel(lines_max);
        let lost = Arc::new(AtomicU64::new(0));
        let log = Self { to, lost: lost.clone() };
        let thread = std::thread::Builder::new().name("palisade-log".to_owned());
        thread.stack_size(THREAD_STACK_BYTES).spawn(move || write_out(out, &said, &lost))?;
        Ok(log)
    }

    /// Says one line as it is.
    pub(crate) fn say(&self, line: &[u8]) {
        let kept = line.get(..LINE_BYTES).map_or_else(|| line.to_vec(), |start| [start, b"...\n"].concat());
        if self.to.try_send(Said::Line(kept.into())).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }

    /// Waits until everything said is written, but no longer than `limit`.
    pub(crate) fn finish(&self, limit: Duration) {
        let (end, ended) = mpsc::sync_channel(1);
        if self.to.try_send(Said::End(end)).is_ok() {
            // In time or not: nothing more can be done for it.
            let _ = ended.recv_timeout(limit);
        }
    }
}

fn write_out(mut out: impl Write, said: &Receiver<Said>, lost: &AtomicU64) {
    while let Ok(said) = said.recv() {
        match said {
            // There is nowhere to say that nothing can be said.
            Said::Line(line) => drop(out.write_all(&line)),
            Said::End(end) => drop(end.try_send(())),
        }
        let lost = lost.swap(0, Relaxed);
        if lost > 0 {
            let told = format!("palisade: {lost} lines of the log were lost: nobody took them in time\n");
            drop(out.write_all(told.as_bytes()));
        }
    }
}

impl<'log> MakeWriter<'log> for Log {
    type Writer = &'log Self;

    fn make_writer(&'log self) -> &'log Self {
        self
    }
}

/// The subscriber writes each line in one piece.
impl Write for &Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.say(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    /// Stderr of a test: says that a line arrives, and then hangs until it is let go on.
    struct Hanging {
        arrived: SyncSender<Vec<u8>>,
        go_on: Receiver<()>,
    }

    impl Write for Hanging {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.arrived.send(bytes.to_vec()).map_err(io::Error::other)?;
            // Let go for good when the test drops the other end.
            let _ = self.go_on.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn safe_5_who_logs_never_waits_for_stderr_and_what_is_lost_is_told() {
        let (arrived, arrives) = mpsc::sync_channel(64);
        let (let_go, go_on) = mpsc::channel();
        let log = Log::to(Hanging { arrived, go_on }, 2).unwrap();
        log.say(b"hangs\n");
        assert_eq!(arrives.recv_timeout(LIMIT).unwrap(), b"hangs\n");
        // Two wait, three find no room; that this returns is the promise.
        (0..5).for_each(|_| log.say(b"more\n"));
        log.finish(Duration::from_millis(1));
        drop(let_go);
        let mut rest = Vec::new();
        while !rest.ends_with(b"in time\nmore\nmore\n") {
            rest.extend(arrives.recv_timeout(LIMIT).unwrap());
        }
        let rest = String::from_utf8(rest).unwrap();
        assert_eq!(rest, "palisade: 3 lines of the log were lost: nobody took them in time\nmore\nmore\n");
        log.say(&[b'x'; LINE_BYTES + 1]);
        log.finish(LIMIT);
        let cut = arrives.try_recv().unwrap();
        assert_eq!((cut.len(), cut.ends_with(b"x...\n")), (LINE_BYTES + 4, true));
    }
}
