//! How ready this host is for the next incident: a score of 0 to 100 and the parts that it is made of. It reports; it decides
//! nothing.
//!
//! Each part says how much of it is there, from nothing to all, and why not all of it; the score is their mean by weight. A part
//! that does not apply to a cluster is left out, and costs it nothing.

use palisade_core::status::{FencePathStatus, Status};
use serde::Serialize;

/// A witness that has answered within this is there. It is asked more often than once a second.
const WITNESS_FRESH_MS: u64 = 30_000;

/// The score and what it is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Readiness {
    /// 0 to 100.
    pub(crate) score: u8,
    /// In a fixed order.
    pub(crate) parts: Vec<Part>,
}

/// One part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Part {
    /// Its name.
    pub(crate) part: &'static str,
    /// Its share of the score, against the others' weights.
    pub(crate) weight: u32,
    /// How much of it is there, in thousandths.
    #[serde(rename = "permille")]
    pub(crate) there_permille: u32,
    /// What is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}

impl Readiness {
    /// As `status` has it.
    pub(crate) fn of(status: &Status) -> Self {
        let parts: Vec<Part> = [
            quorum(status),
            margin(status),
            fencing(status),
            witness(status),
            armed(status),
            whole("journal", 10, status.journal.ok, || {
                status.journal.error.clone().unwrap_or_else(|| "the journal cannot be written".to_owned())
            }),
            whole("alarms", 5, status.alarms.is_empty(), || format!("{} alarms stand", status.alarms.len())),
        ]
        .into_iter()
        .flatten()
        .collect();
        let weights: u32 = parts.iter().map(|part| part.weight).sum();
        let there: u32 = parts.iter().map(|part| part.weight * part.there_permille).sum();
        // Rounded down: 100 is everything.
        let score = there / weights.max(1) / 10;
        Self { score: u8::try_from(score).unwrap_or(100), parts }
    }
}

/// How many hosts can fall silent at once and leave the others quorate; below zero, as many are missing.
pub(crate) fn quorum_margin(status: &Status) -> i64 {
    let counted = status.electorate.len();
    let by_half = counted > 0 && counted.is_multiple_of(2) && status.witness.granting;
    // PROTOCOL, "Quorum": more than half, or half and the witness.
    let needed = if by_half { counted / 2 } else { counted / 2 + 1 };
    let stands = i64::try_from(status.view.len()).unwrap_or(i64::MAX);
    stands.saturating_sub(i64::try_from(needed).unwrap_or(i64::MAX))
}

fn part(
    part: &'static str,
    weight: u32,
    there: usize,
    of: usize,
    why: impl FnOnce() -> String,
) -> Option<Part> {
    let there_permille = u32::try_from(there.min(of) * 1000 / of.max(1)).unwrap_or(0);
    Some(Part { part, weight, there_permille, why: (there < of).then(why) })
}

fn whole(name: &'static str, weight: u32, there: bool, why: impl FnOnce() -> String) -> Option<Part> {
    part(name, weight, usize::from(there), 1, why)
}

fn quorum(status: &Status) -> Option<Part> {
    whole("quorum", 25, status.admitted && status.quorate, || {
        let what = if status.admitted { "quorate" } else { "admitted" };
        format!("this host is not {what}")
    })
}

fn margin(status: &Status) -> Option<Part> {
    let margin = quorum_margin(status);
    whole("quorum_margin", 15, margin >= 1, || format!("no host more may be lost (margin {margin})"))
}

/// Every path by which another host can be fenced, as this host proved it.
fn fencing(status: &Status) -> Option<Part> {
    let sound = |path: &&FencePathStatus| path.proven_ms.is_some() && path.error.is_none();
    let others = || status.fence_paths.iter().filter(|path| path.fences != status.host);
    let (there, of) = (others().filter(sound).count(), others().count());
    if of == 0 {
        return whole("fence_paths", 25, false, || "no other host can be fenced".to_owned());
    }
    part("fence_paths", 25, there, of, || {
        let failing: Vec<&str> =
            others().filter(|path| !sound(path)).map(|path| path.device.as_str()).collect();
        format!("not proven: {}", failing.join(", "))
    })
}

/// An odd number of hosts needs none.
fn witness(status: &Status) -> Option<Part> {
    if !status.witness.configured {
        let even = status.hosts.len().is_multiple_of(2);
        return even
            .then(|| whole("witness", 10, false, || "an even number of hosts, no witness".to_owned()))?;
    }
    let fresh = status.witness.proven_ms.is_some_and(|age| age <= WITNESS_FRESH_MS);
    whole("witness", 10, fresh, || "the witness does not answer".to_owned())
}

fn armed(status: &Status) -> Option<Part> {
    whole("armed", 10, status.not_armed.is_empty(), || status.not_armed.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::status;

    fn path(device: &str, fences: &str, sound: bool) -> FencePathStatus {
        FencePathStatus {
            device: device.to_owned(),
            fences: fences.to_owned(),
            proven_ms: Some(5),
            error: (!sound).then(|| "no answer".to_owned()),
        }
    }

    fn whole_status() -> Status {
        Status {
            view: vec!["a".into(), "b".into(), "c".into()],
            dead: Vec::new(),
            fence_paths: vec![path("bmc-b", "b", true), path("bmc-c", "c", true), path("bmc-a", "a", false)],
            ..status()
        }
    }

    #[test]
    fn a_hundred_is_everything_and_each_part_costs_its_weight() {
        let all = Readiness::of(&whole_status());
        assert_eq!(all.score, 100, "{all:?}");
        assert!(all.parts.iter().all(|part| part.there_permille == 1000 && part.why.is_none()));
        type Spoil = fn(&mut Status);
        let spoiled: [(&str, u8, Spoil); 7] = [
            ("quorum", 75, |status| status.quorate = false),
            ("quorum_margin", 85, |status| status.view.truncate(2)),
            ("fence_paths", 87, |status| status.fence_paths[0].error = Some("x".into())),
            ("witness", 90, |status| status.witness.proven_ms = Some(30_001)),
            ("armed", 90, |status| status.not_armed.push("storage".into())),
            ("journal", 90, |status| status.journal.ok = false),
            ("alarms", 95, |status| status.alarms.push("look".into())),
        ];
        for (name, score, spoil) in spoiled {
            let mut status = whole_status();
            spoil(&mut status);
            let readiness = Readiness::of(&status);
            let missing: Vec<&str> =
                readiness.parts.iter().filter(|part| part.why.is_some()).map(|part| part.part).collect();
            assert_eq!((readiness.score, missing), (score, vec![name]));
        }
    }

    #[test]
    fn what_does_not_apply_costs_nothing_and_what_nobody_configured_does() {
        let mut status = whole_status();
        status.witness.configured = false;
        assert_eq!(Readiness::of(&status).score, 100, "three hosts need no witness");
        status.hosts.pop();
        assert_eq!(Readiness::of(&status).score, 90, "two do");
        status.fence_paths.clear();
        assert_eq!(Readiness::of(&status).score, 65);
    }

    #[test]
    fn the_margin_is_the_hosts_that_can_be_lost_at_once() {
        let with = |counted: usize, view: usize, granting: bool| {
            let names = |count: usize| (0..count).map(|n| n.to_string()).collect();
            let mut status = whole_status();
            (status.electorate, status.view, status.witness.granting) =
                (names(counted), names(view), granting);
            quorum_margin(&status)
        };
        assert_eq!([with(3, 3, false), with(3, 2, false), with(3, 1, false)], [1, 0, -1]);
        assert_eq!([with(2, 2, true), with(2, 2, false), with(2, 1, true), with(2, 1, false)], [1, 0, 0, -1]);
        assert_eq!([with(5, 5, false), with(8, 8, true)], [2, 4]);
    }
}
