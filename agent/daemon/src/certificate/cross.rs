//! Certificates of several hosts held against one another: what one host alone could rewrite, it cannot rewrite in the others'
//! journals.

use palisade_core::record::{Event, Who};

use super::Shown;

/// Clocks of hosts, and the time a proof takes to be told, may differ by so much.
const APART_MS: i128 = 60_000;
/// A member that holds a proof says so in its heartbeats; others record whose word it was.
const HOLDS: &str = " holds the proof";

/// What two certificates say about one life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// They agree: `teller` had the word of `prover`, whose certificate holds the proof.
    Agree { teller: String, prover: String, victim: String, proof: String },
    /// `teller` had the word of `prover`, whose certificate knows of no such proof.
    Contradict { teller: String, prover: String, victim: String },
    /// The certificate of `prover` was not given.
    Unheard { teller: String, prover: String, victim: String },
}

struct Death {
    teller: String,
    victim: Who,
    proof: String,
    evidence: String,
    ms: i128,
}

/// Every death that one of these heard of from another host, held against that host's certificate.
pub(crate) fn check(all: &[Shown]) -> Vec<Finding> {
    let deaths: Vec<Death> = all.iter().flat_map(deaths).collect();
    let given = |host: &str| all.iter().any(|shown| shown.head.journal_of == host);
    let told = deaths.iter().filter(|death| death.proof == "gossiped");
    told.filter_map(|told| {
        let prover = told.evidence.strip_suffix(HOLDS)?.to_owned();
        let (teller, victim) = (told.teller.clone(), told.victim.host.clone());
        let proof = deaths.iter().find(|death| {
            death.teller == prover && death.victim == told.victim && (death.ms - told.ms).abs() <= APART_MS
        });
        Some(match proof {
            Some(death) => Finding::Agree { teller, prover, victim, proof: death.proof.clone() },
            None if given(&prover) => Finding::Contradict { teller, prover, victim },
            None => Finding::Unheard { teller, prover, victim },
        })
    })
    .collect()
}

fn deaths(shown: &Shown) -> Vec<Death> {
    let one = |entry: &crate::api::why::Entry| {
        let Ok(Event::Dead { victim, proof, evidence }) = serde_json::from_value(entry.event.clone()) else {
            return None;
        };
        let since = humantime::parse_rfc3339(&entry.time).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        let ms = i128::try_from(since.as_millis()).ok()?;
        Some(Death { teller: entry.host.clone(), victim, proof, evidence, ms })
    };
    shown.entries.iter().filter_map(one).collect()
}
