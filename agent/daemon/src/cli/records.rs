//! Records as they are, one line each, with the time between them.

use crate::api::why::{self, Entry, Story};

/// After such a gap the clock starts anew: another incident.
const NEW_STORY_MS: u64 = 60_000;

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
}
