//! Records of several journals on one clock.

use std::collections::BTreeMap;

use palisade_core::record::Event;

use crate::api::why::Entry;

/// Within one boot the wall clock may be set; further apart than this, and in another life, it is another boot.
const SAME_BOOT_MS: i64 = 1_000;

/// One record, when it was written, and what it says if this program knows such records.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    /// Milliseconds since 1970: the wall clock of the first record of that boot, and the boot's own clock from there on, so that a
    /// clock that is set in the middle of an incident does not change the times between.
    pub(crate) ms: i64,
    /// The record.
    pub(crate) entry: Entry,
    /// Its event; `None` for one of a later version.
    pub(crate) event: Option<Event>,
}

impl Moment {
    /// The host that wrote it.
    pub(crate) fn writer(&self) -> &str {
        &self.entry.host
    }
}

/// The clock of one host's boot.
struct Boot {
    life: String,
    boot_ms: i64,
    /// The wall clock at the boot clock's zero.
    zero: i64,
}

/// All records by time; a record that two directories hold stands once.
pub(crate) fn merge(journals: Vec<Vec<Entry>>) -> Vec<Moment> {
    let mut moments = Vec::new();
    for entries in journals {
        let mut boots: BTreeMap<String, Boot> = BTreeMap::new();
        for entry in entries {
            let ms = on_one_clock(&mut boots, &entry);
            let event = serde_json::from_value(entry.event.clone()).ok();
            moments.push(Moment { ms, entry, event });
        }
    }
    // Stable: what one host wrote within a millisecond stays in its order.
    moments.sort_by_key(|moment| moment.ms);
    let mut seen = std::collections::BTreeSet::new();
    moments.retain(|Moment { entry, .. }| seen.insert((entry.host.clone(), entry.n, entry.time.clone())));
    moments
}

fn on_one_clock(boots: &mut BTreeMap<String, Boot>, entry: &Entry) -> i64 {
    let wall = wall_ms(&entry.time);
    let boot_ms = span_ms(entry.boot_ms);
    let known = boots.get_mut(&entry.host).filter(|boot| {
        let apart = (wall - boot.zero.saturating_add(boot_ms)).abs();
        boot.boot_ms <= boot_ms && (boot.life == entry.life || apart < SAME_BOOT_MS)
    });
    if let Some(boot) = known {
        (boot.boot_ms, boot.life) = (boot_ms, entry.life.clone());
        return boot.zero.saturating_add(boot_ms);
    }
    let zero = wall.saturating_sub(boot_ms);
    boots.insert(entry.host.clone(), Boot { life: entry.life.clone(), boot_ms, zero });
    wall
}

/// A span of time as a record tells it. None is longer than this: a journal may be anybody's copy, and times are reckoned with.
pub(super) fn span_ms(ms: u64) -> i64 {
    const LONGEST_MS: i64 = 1 << 52;
    i64::try_from(ms).map_or(LONGEST_MS, |ms| ms.min(LONGEST_MS))
}

/// A time that is none is the beginning of time: the record is shown first, and not lost.
fn wall_ms(time: &str) -> i64 {
    let since = humantime::parse_rfc3339(time)
        .ok()
        .and_then(|at| at.duration_since(std::time::SystemTime::UNIX_EPOCH).ok());
    since.and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(0)
}
