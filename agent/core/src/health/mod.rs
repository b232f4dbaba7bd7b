//! This host's own health: samples in, verdicts out.
//!
//! Decides: what a sample of a probe means, how many of them in a row make a verdict, and what stands out against the host's own
//! past. Never: takes a sample, knows of other hosts, or acts on a verdict; the engine does, which hears of the others.

mod baseline;
mod board;
mod course;
mod judge;
mod sample;
mod trend;

pub use baseline::{Anomaly, Baseline};
pub use board::{Board, LevelReport, ProbeReport};
pub use course::Course;
pub use judge::{Finding, judge};
pub use sample::{Capacity, Metric, Sample};
pub use trend::{Trend, Warning};

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::config::ProbeId;

/// What is known of something that is probed. Ordered by how bad it is, but for `Unknown`, which is no more than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Healthy,
    /// It serves, worse than it should.
    Degraded,
    /// It does not serve.
    Failed,
    /// Not looked at yet, or it cannot be looked at: neither good nor bad, and nothing is done because of it.
    Unknown,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        })
    }
}

/// A probe of this host that is not plainly healthy, as the engine is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ill {
    /// Which probe.
    pub probe: ProbeId,
    /// Its verdict.
    pub verdict: Verdict,
    /// What the last sample alone says.
    pub last: Verdict,
    /// Whether there was one.
    pub looked: bool,
    /// In words.
    pub why: String,
}

impl Ill {
    /// Whether nobody may take it for good: the peers are told. A first failure is enough, and so is that nothing is known: a cause
    /// common to half of them shows before anybody's verdict stands.
    #[must_use]
    pub fn ails(&self) -> bool {
        match (self.verdict, self.last) {
            (Verdict::Failed, _) | (_, Verdict::Failed | Verdict::Unknown) => true,
            (
                Verdict::Healthy | Verdict::Degraded | Verdict::Unknown,
                Verdict::Healthy | Verdict::Degraded,
            ) => false,
        }
    }
}
