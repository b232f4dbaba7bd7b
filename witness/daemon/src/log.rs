//! The log: one line an event on stderr, nothing else. A subscriber of its own keeps the binary small.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Sends every event of level INFO and above to stderr; journald gets its priority prefix.
pub(crate) fn start() {
    let journald = std::env::var_os("JOURNAL_STREAM").is_some();
    // Only a second call could fail.
    let _ = tracing::subscriber::set_global_default(Stderr { journald });
}

struct Stderr {
    journald: bool,
}

impl Subscriber for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn event(&self, event: &Event<'_>) {
        let level = *event.metadata().level();
        let mut line = if self.journald { prefix(level).to_owned() } else { format!("{level}: ") };
        event.record(&mut Line(&mut line));
        line.push('\n');
        // There is nowhere to say that nothing can be said.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The priorities of sd-daemon(3).
fn prefix(level: Level) -> &'static str {
    if level == Level::ERROR {
        "<3>"
    } else if level == Level::WARN {
        "<4>"
    } else {
        "<6>"
    }
}

struct Line<'line>(&'line mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = if field.name() == "message" {
            write!(self.0, "{value:?}")
        } else {
            write!(self.0, " {field}={value:?}")
        };
    }
}
