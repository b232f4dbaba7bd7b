//! What central monitoring reads: the JSON of each topic, with its schema version. `TELEMETRY.md` documents it, and the examples
//! beside it are checked against what is written here.
//!
//! **The id of an event** is `HOST/LIFE/MICROSECONDS`: the configured name, the life's name of sixteen hexadecimal digits, and the
//! time since boot at which the run loop passed the record on, made to rise strictly. A life never outlasts its boot, so no two
//! records share an id, over restarts of the agent neither; and the id does not need the journal, whose own numbers are given by a
//! disk that may be failing just then. The journal's line of the same record has the same `life`, and its `boot_ms` is these
//! microseconds in whole milliseconds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use palisade_core::health::{LevelReport, ProbeReport};
use palisade_core::record::Event;
use palisade_core::status::Status;
use serde::{Deserialize, Serialize};

use super::ledger::Gap;
use crate::readiness::Readiness;

/// Rises when a field changes its meaning or goes; a new field does not raise it.
pub(crate) const SCHEMA: u32 = 1;
/// The longest event as it is sent, twice the journal's: the record and its sentence. A longer one goes without its record.
pub(super) const EVENT_BYTES_MAX: usize = 2 * crate::journal::MAX_EVENT_BYTES;

/// Whose events these are.
#[derive(Clone, Debug)]
pub(crate) struct Teller {
    /// The host's configured name.
    pub(crate) host: String,
    /// The life's name.
    pub(crate) life: String,
}

impl Teller {
    /// The id of the record that was passed on so many microseconds after the boot.
    pub(super) fn id(&self, boot_us: u64) -> String {
        format!("{}/{}/{boot_us}", self.host, self.life)
    }

    /// A record as consumers read it.
    pub(super) fn event(&self, id: &str, boot_us: u64, time: SystemTime, event: &Event) -> Vec<u8> {
        let text = event.to_string();
        let told = |event: Said<'_>| {
            let message = EventMessage {
                schema: SCHEMA,
                id,
                host: &self.host,
                life: &self.life,
                boot_us,
                time_ms: since_epoch(time),
                event,
                text: shortened(&text),
            };
            // Strings and numbers always serialise.
            serde_json::to_vec(&message).unwrap_or_default()
        };
        let whole = told(Said::Record(event));
        if whole.len() <= EVENT_BYTES_MAX { whole } else { told(Said::Own(Own::TooLong)) }
    }

    /// That events are missing. The same gap has the same id each time that it is told.
    pub(super) fn gap(&self, gap: &Gap, boot_us: u64, time: SystemTime) -> Vec<u8> {
        let id = match &gap.last {
            Some(last) => format!("{last}/gap"),
            // Its events could not be read any more; numbers of the spool never come again.
            None => format!("{}/{}/gap", self.host, gap.number),
        };
        let named = match (&gap.first, &gap.last) {
            (Some(first), Some(last)) => format!(", from {first} to {last}"),
            (Some(first), None) => format!(", from {first} on"),
            (None, Some(last)) => format!(", to {last}"),
            (None, None) => String::new(),
        };
        let Gap { lost, first, last, number: _ } = gap;
        let text = format!("{lost} events were not kept for the broker{named}; the journal has them");
        let message = EventMessage {
            schema: SCHEMA,
            id: &id,
            host: &self.host,
            life: &self.life,
            boot_us,
            time_ms: since_epoch(time),
            event: Said::Own(Own::TelemetryGap {
                lost: *lost,
                first: first.as_deref(),
                last: last.as_deref(),
            }),
            text: &text,
        };
        serde_json::to_vec(&message).unwrap_or_default()
    }
}

/// A message of `palisade/<cluster>/event`.
#[derive(Serialize)]
struct EventMessage<'a> {
    schema: u32,
    id: &'a str,
    host: &'a str,
    life: &'a str,
    boot_us: u64,
    time_ms: u64,
    event: Said<'a>,
    text: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Said<'a> {
    Record(&'a Event),
    Own(Own<'a>),
}

/// What telemetry says about itself, in the place of a record.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Own<'a> {
    /// Events were not kept.
    TelemetryGap { lost: u64, first: Option<&'a str>, last: Option<&'a str> },
    /// A record that is too long to be sent; the journal has it.
    TooLong,
}

/// A message of `palisade/<cluster>/host/<host>/state`.
#[derive(Serialize)]
pub(super) struct StateMessage<'a> {
    pub(super) schema: u32,
    pub(super) agent: &'static str,
    pub(super) time_ms: u64,
    pub(super) readiness: Readiness,
    #[serde(flatten)]
    pub(super) status: &'a Status,
}

/// What the broker says there once the agent has fallen silent. No host acts on it (SAFE-11).
#[derive(Serialize)]
pub(super) struct GoneMessage<'a> {
    pub(super) schema: u32,
    pub(super) agent: &'static str,
    pub(super) cluster: &'a str,
    pub(super) host: &'a str,
}

/// The state as it is told.
pub(super) fn state(status: &Status, time: SystemTime) -> Vec<u8> {
    let (time_ms, readiness) = (since_epoch(time), Readiness::of(status));
    let message = StateMessage { schema: SCHEMA, agent: "running", time_ms, readiness, status };
    serde_json::to_vec(&message).unwrap_or_default()
}

/// A message of `palisade/<cluster>/host/<host>/health/<level>`.
#[derive(Serialize)]
struct LevelMessage<'a> {
    schema: u32,
    time_ms: u64,
    #[serde(flatten)]
    level: &'a LevelReport,
}

/// A level as it is told.
pub(super) fn level(level: &LevelReport, time: SystemTime) -> Vec<u8> {
    serde_json::to_vec(&LevelMessage { schema: SCHEMA, time_ms: since_epoch(time), level })
        .unwrap_or_default()
}

/// Whether two reports say the same, whenever they were sampled.
pub(super) fn is_same(one: &LevelReport, other: &LevelReport) -> bool {
    let said = |probe: &ProbeReport| (probe.name.clone(), probe.verdict, probe.why.clone(), probe.policy);
    one.verdict == other.verdict && one.probes.iter().map(said).eq(other.probes.iter().map(said))
}

/// The last will.
pub(super) fn gone(cluster: &str, host: &str) -> Vec<u8> {
    let message = GoneMessage { schema: SCHEMA, agent: "gone", cluster, host };
    serde_json::to_vec(&message).unwrap_or_default()
}

/// What is lost with a message that was spooled: itself, or what it stands for.
pub(super) fn if_shed(number: u64, payload: &[u8]) -> Gap {
    #[derive(Deserialize)]
    struct Head {
        id: String,
        event: Kind,
    }
    #[derive(Deserialize)]
    struct Kind {
        kind: String,
        lost: Option<u64>,
        first: Option<String>,
        last: Option<String>,
    }
    match serde_json::from_slice(payload) {
        Ok(Head { event: Kind { kind, lost: Some(lost), first, last }, .. }) if kind == "telemetry_gap" => {
            Gap { number, lost, first, last }
        }
        Ok(Head { id, .. }) => Gap::of(number, &id),
        Err(_) => Gap { number, lost: 1, first: None, last: None },
    }
}

pub(crate) fn since_epoch(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A sentence is for people; the longest that any of them reads.
fn shortened(text: &str) -> &str {
    const TEXT_BYTES_MAX: usize = 4096;
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or_default()
}
