//! `palisade why`: the story of a host, one line a record, with the time between them.

use std::path::Path;
use std::process::ExitCode;

use super::{Ended, Failure, print};
use crate::api::why::{self, Entry, Story};

/// After such a gap the clock starts anew: another incident.
const NEW_STORY_MS: u64 = 60_000;

pub(super) fn run(journal: &Path, host: Option<&str>, json: bool) -> Ended {
    let story = why::read(journal, host, why::ENTRIES_MAX).map_err(|error| {
        Failure::failed(format!(
            "{}: {error}; the agent writes its journal there, for root to read",
            journal.display()
        ))
    })?;
    if json {
        let text = serde_json::to_string(&story).map_err(|error| Failure::failed(error.to_string()))?;
        print(&format!("{text}\n"));
        return Ok(ExitCode::SUCCESS);
    }
    if story.entries.is_empty() {
        let what = host.map_or("nothing".to_owned(), |host| format!("nothing about `{host}`"));
        return Err(Failure::failed(format!("the journal tells {what}")));
    }
    print(&render(&story));
    Ok(ExitCode::SUCCESS)
}

/// Each incident under its date, its lines with the time since its first.
pub(super) fn render(story: &Story) -> String {
    let mut text = String::new();
    if story.left_out > 0 {
        text.push_str(&format!("({} older records are not shown)\n", story.left_out));
    }
    let mut start: Option<&Entry> = None;
    let mut last: Option<&Entry> = None;
    for entry in &story.entries {
        let goes_on = last.is_some_and(|last| {
            last.host == entry.host
                && last.boot_ms <= entry.boot_ms
                && entry.boot_ms - last.boot_ms < NEW_STORY_MS
        });
        let first = match start {
            Some(first) if goes_on => first,
            Some(_) | None => {
                let gap = if text.is_empty() { "" } else { "\n" };
                text.push_str(&format!("{gap}{} on host {}\n", entry.time, entry.host));
                entry
            }
        };
        start = Some(first);
        last = Some(entry);
        let since = entry.boot_ms.saturating_sub(first.boot_ms);
        let at = format!("+{}.{:03} s", since / 1000, since % 1000);
        text.push_str(&format!("{at:>12}  {}\n", why::words(&entry.event)));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::TempDir;

    fn entry(n: u64, boot_ms: u64, text: &str) -> Entry {
        Entry {
            n,
            time: format!("2026-11-20T14:00:00.{n:03}Z"),
            boot_ms,
            host: "a".into(),
            life: "0123456789abcdef".into(),
            event: json!({ "kind": text }),
        }
    }

    #[test]
    fn each_incident_has_its_own_clock() {
        let entries = vec![
            entry(1, 5_000, "one"),
            entry(2, 6_234, "two"),
            entry(3, 70_000, "three"),
            entry(4, 9, "boot"),
        ];
        assert_eq!(
            render(&Story { entries, left_out: 3 }).trim_start_matches("(3 older records are not shown)\n"),
            "\n2026-11-20T14:00:00.001Z on host a
    +0.000 s  one
    +1.234 s  two

2026-11-20T14:00:00.003Z on host a
    +0.000 s  three

2026-11-20T14:00:00.004Z on host a
    +0.000 s  boot
"
        );
    }

    #[test]
    fn an_empty_or_missing_journal_is_said() {
        let dir = TempDir::new();
        let failure = run(dir.path(), Some("b"), false).unwrap_err();
        assert_eq!((failure.status, failure.message.as_str()), (1, "the journal tells nothing about `b`"));
        let failure = run(&dir.path().join("none"), None, false).unwrap_err();
        assert!(failure.message.contains("the agent writes its journal there"), "{}", failure.message);
    }
}
