//! The story of a host as the journal tells it. Reads files only: it works with and without a running agent.

use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use palisade_core::record::Event;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::journal::{self, Line};

/// The most records of one story; the newest are kept.
pub(crate) const ENTRIES_MAX: usize = 500;
/// What happens so soon after a host's end belongs to its story: votes, placements, starts.
const AFTERMATH_MS: u64 = 60_000;

/// One record, oldest first in a [`Story`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Its number in the journal.
    pub(crate) n: u64,
    /// Wall clock, RFC 3339.
    pub(crate) time: String,
    /// Milliseconds since the host's boot: what differences are taken from.
    pub(crate) boot_ms: u64,
    /// The host that wrote it.
    pub(crate) host: String,
    /// The life that wrote it.
    pub(crate) life: String,
    /// What happened.
    pub(crate) event: Value,
}

/// What the journal tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Story {
    /// The records.
    pub(crate) entries: Vec<Entry>,
    /// How many older records of this story were left out.
    pub(crate) left_out: u64,
}

/// Reads the journal in `dir`: all of it, or what concerns `host` and followed from its end.
pub(crate) fn read(dir: &Path, host: Option<&str>, entries_max: usize) -> io::Result<Story> {
    let mut newest: VecDeque<Entry> = VecDeque::new();
    let mut left_out = 0;
    let mut so_far = SoFar::default();
    journal::scan(dir, |line| {
        if host.is_none_or(|host| so_far.belongs(&line, host)) {
            if newest.len() >= entries_max {
                newest.pop_front();
                left_out += 1;
            }
            newest.push_back(entry(line));
        }
        ControlFlow::Continue(())
    })?;
    Ok(Story { entries: newest.into(), left_out })
}

/// The line without what chains it.
pub(crate) fn entry(line: Line) -> Entry {
    let Line { n, time, boot_ms, host, life, event } = line;
    Entry { n, time, boot_ms, host, life, event }
}

/// What the story of a host was up to here.
#[derive(Default)]
struct SoFar {
    /// The writing life and the time of the host's last end.
    end: Option<(String, u64)>,
    /// The writing life that does not stand with the host any more.
    lost_by: Option<String>,
}

impl SoFar {
    /// Whether a record belongs to the story of `host`.
    fn belongs(&mut self, line: &Line, host: &str) -> bool {
        if ends(&line.event, host) {
            self.end = Some((line.life.clone(), line.boot_ms));
            return true;
        }
        if kind(&line.event) == Some("view") {
            let in_it = |at: &str| line.event.get(at).is_some_and(|hosts| mentions(hosts, host));
            if in_it("view") {
                self.lost_by = None;
            } else if in_it("lost") {
                self.lost_by = Some(line.life.clone());
            }
        }
        let follows = self.end.as_ref().is_some_and(|(life, ms)| {
            *life == line.life && (*ms..=ms.saturating_add(AFTERMATH_MS)).contains(&line.boot_ms)
        });
        let meanwhile = self.lost_by.as_ref() == Some(&line.life) && is_own_standing(&line.event);
        follows || meanwhile || line.host == host || mentions(&line.event, host)
    }
}

/// What became of the teller itself: without it the story of a split would end with "lost".
fn is_own_standing(event: &Value) -> bool {
    matches!(
        kind(event),
        Some("standing" | "self_fenced" | "witness" | "claim_dropped" | "withheld" | "alarm")
    )
}

fn kind(event: &Value) -> Option<&str> {
    event.get("kind").and_then(Value::as_str)
}

fn ends(event: &Value, host: &str) -> bool {
    let victim = event.pointer("/victim/host").and_then(Value::as_str);
    matches!(kind(event), Some("fence_decided" | "dead")) && victim == Some(host)
}

/// Whether the host's name stands anywhere in the event as a value of its own.
fn mentions(value: &Value, host: &str) -> bool {
    match value {
        Value::String(text) => text == host,
        Value::Array(items) => items.iter().any(|item| mentions(item, host)),
        Value::Object(fields) => fields.values().any(|field| mentions(field, host)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// An event in words; one that this program does not know (of a newer version) with its fields as they are.
pub(crate) fn words(event: &Value) -> String {
    if let Ok(known) = serde_json::from_value::<Event>(event.clone()) {
        return plain(&known.to_string());
    }
    let Value::Object(fields) = event else { return plain(&event.to_string()) };
    let kind = event.get("kind").and_then(Value::as_str).unwrap_or("something").replace('_', " ");
    let details: Vec<String> = fields
        .iter()
        .filter(|(name, _)| *name != "kind")
        .map(|(name, value)| format!("{} {}", name.replace('_', " "), value_words(value)))
        .collect();
    plain(&if details.is_empty() { kind } else { format!("{kind}: {}", details.join(", ")) })
}

fn value_words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(value_words).collect::<Vec<_>>().join(" "),
        // A host or a workload: its name is enough.
        Value::Object(fields) => match fields.get("host").or_else(|| fields.get("name")) {
            Some(name) => value_words(name),
            None => value.to_string(),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// One line, and nothing that a terminal would obey: a peer or a BMC may have chosen some of these words.
fn plain(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use palisade_core::record::{Event, Lost, Who};
    use serde_json::json;

    use super::*;
    use crate::journal::{Journal, Options};
    use crate::testing::{TempDir, run};

    fn who(host: &str) -> Who {
        Who { host: host.to_owned(), life: "0123456789abcdef".to_owned() }
    }

    /// A real journal with these events.
    fn journal(events: &[Value]) -> TempDir {
        let dir = TempDir::new();
        let (mut journal, _durable) =
            Journal::open(Options::new(dir.path().to_owned(), "a", [1; 8])).unwrap();
        for event in events {
            journal.try_append(event, None).unwrap();
        }
        run(async { journal.close().await.unwrap() });
        dir
    }

    fn kinds(story: &Story) -> Vec<&str> {
        story.entries.iter().filter_map(|entry| entry.event.get("kind")?.as_str()).collect()
    }

    #[test]
    fn the_story_of_a_host_is_what_names_it_and_what_followed_from_its_end() {
        let event = |event: &Event| serde_json::to_value(event).unwrap();
        let dir = journal(&[
            json!({ "kind": "before", "text": "nothing to do with it" }),
            event(&Event::View { view: vec![who("a"), who("b")], lost: Vec::new() }),
            event(&Event::FenceDecided { victim: who("b"), because: "not heard".into() }),
            json!({ "kind": "after", "text": "in its aftermath" }),
        ]);
        assert_eq!(kinds(&read(dir.path(), Some("b"), 10).unwrap()), ["view", "fence_decided", "after"]);
        assert_eq!(kinds(&read(dir.path(), Some("q"), 10).unwrap()), Vec::<&str>::new());
        assert_eq!(
            kinds(&read(dir.path(), Some("a"), 10).unwrap()).len(),
            4,
            "the writer's own story is all"
        );
        let story = read(dir.path(), None, 2).unwrap();
        assert_eq!((kinds(&story), story.left_out), (vec!["fence_decided", "after"], 2));
    }

    #[test]
    fn the_story_of_a_split_tells_what_became_of_the_teller() {
        let event = |event: &Event| serde_json::to_value(event).unwrap();
        let standing = |quorate| {
            let needed = "2 of 2".to_owned();
            event(&Event::Standing { quorate, votes: Vec::new(), witness: false, needed })
        };
        let lost = vec![Lost { who: who("b"), silent_ms: 1021 }];
        let dir = journal(&[
            standing(true),
            event(&Event::View { view: vec![who("a")], lost }),
            standing(false),
            json!({ "kind": "started", "text": "nothing to do with it" }),
            event(&Event::SelfFenced { why: "no quorum".into() }),
            event(&Event::View { view: vec![who("a"), who("b")], lost: Vec::new() }),
            standing(true),
        ]);
        let story = read(dir.path(), Some("b"), 10).unwrap();
        assert_eq!(kinds(&story), ["view", "standing", "self_fenced", "view"]);
    }

    #[test]
    fn every_event_has_words_also_one_of_a_later_version() {
        let decided = Event::FenceDecided { victim: who("b"), because: "not heard for 1021 ms".into() };
        assert_eq!(words(&serde_json::to_value(&decided).unwrap()), decided.to_string());
        let later = json!({
            "kind": "lease_moved", "from": { "host": "b", "life": "00" }, "to": ["a", { "id": 1, "name": "db" }], "ms": 7
        });
        assert_eq!(words(&later), "lease moved: from b, ms 7, to a db");
        assert_eq!(words(&json!("\u{1b}[2J\n")), "\" [2J \"".replace(" [2J ", "\\u001b[2J\\n"));
        assert_eq!(words(&json!({ "kind": "said", "text": "\u{1b}[2J" })), "said: text  [2J");
    }

    #[test]
    fn a_missing_journal_is_an_error() {
        let dir = TempDir::new();
        assert!(read(&dir.path().join("none"), None, 1).is_err());
    }
}
