//! From grades of single samples to a verdict that does not flap.

use serde::{Deserialize, Serialize};

use super::Verdict;

/// The course of one probe. A verdict turns for the worse after so many samples in a row that are worse, and back after so many
/// that are better; a sample that tells nothing breaks either row, and as many of those in a row make the verdict unknown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Course {
    verdict: Verdict,
    row: Row,
}

/// Samples in a row that point the same way, and the least that they all say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Row {
    None,
    Worse { count: u32, mildest: Verdict },
    Better { count: u32, worst: Verdict },
    Untold { count: u32 },
}

impl Default for Course {
    fn default() -> Self {
        Self { verdict: Verdict::Unknown, row: Row::None }
    }
}

impl Course {
    /// What the samples so far come to.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Takes one sample's grade; `after` in a row turn the verdict for the worse, `back` for the better. True if it turned.
    pub fn see(&mut self, grade: Verdict, after: u32, back: u32) -> bool {
        self.row = match (self.verdict, grade) {
            (Verdict::Healthy, Verdict::Healthy)
            | (Verdict::Degraded, Verdict::Degraded)
            | (Verdict::Failed, Verdict::Failed)
            | (Verdict::Unknown, Verdict::Unknown) => Row::None,
            // Nothing is known yet: that something serves is seen at once, that it does not is seen as often as ever.
            (Verdict::Unknown, Verdict::Healthy | Verdict::Degraded) => {
                Row::Better { count: back, worst: grade }
            }
            (Verdict::Unknown, Verdict::Failed)
            | (Verdict::Healthy, Verdict::Degraded | Verdict::Failed)
            | (Verdict::Degraded, Verdict::Failed) => self.row.worse(grade),
            (Verdict::Degraded, Verdict::Healthy)
            | (Verdict::Failed, Verdict::Healthy | Verdict::Degraded) => self.row.better(grade),
            (Verdict::Healthy | Verdict::Degraded | Verdict::Failed, Verdict::Unknown) => self.row.untold(),
        };
        let turned = match self.row {
            Row::Worse { count, mildest } if count >= after => mildest,
            Row::Better { count, worst } if count >= back => worst,
            Row::Untold { count } if count >= after => Verdict::Unknown,
            Row::None | Row::Worse { .. } | Row::Better { .. } | Row::Untold { .. } => return false,
        };
        self.verdict = turned;
        self.row = Row::None;
        true
    }
}

impl Row {
    fn worse(self, grade: Verdict) -> Self {
        match self {
            Self::Worse { count, mildest } => {
                let mildest = if mildest == Verdict::Degraded { mildest } else { grade };
                Self::Worse { count: count.saturating_add(1), mildest }
            }
            Self::None | Self::Better { .. } | Self::Untold { .. } => {
                Self::Worse { count: 1, mildest: grade }
            }
        }
    }

    fn better(self, grade: Verdict) -> Self {
        match self {
            Self::Better { count, worst } => {
                let worst = if worst == Verdict::Degraded { worst } else { grade };
                Self::Better { count: count.saturating_add(1), worst }
            }
            Self::None | Self::Worse { .. } | Self::Untold { .. } => Self::Better { count: 1, worst: grade },
        }
    }

    fn untold(self) -> Self {
        match self {
            Self::Untold { count } => Self::Untold { count: count.saturating_add(1) },
            Self::None | Self::Worse { .. } | Self::Better { .. } => Self::Untold { count: 1 },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a row of samples comes to: `h`, `d`, `f`, `?`.
    fn course(samples: &str) -> String {
        let mut course = Course::default();
        let letter = |verdict| match verdict {
            Verdict::Healthy => 'h',
            Verdict::Degraded => 'd',
            Verdict::Failed => 'f',
            Verdict::Unknown => '?',
        };
        let grade = |sample| match sample {
            'h' => Verdict::Healthy,
            'd' => Verdict::Degraded,
            'f' => Verdict::Failed,
            _ => Verdict::Unknown,
        };
        let mut after = |sample| {
            course.see(grade(sample), 3, 2);
            letter(course.verdict())
        };
        samples.chars().map(&mut after).collect()
    }

    #[test]
    fn three_in_a_row_make_a_verdict_and_two_take_it_back() {
        for (samples, verdicts) in [
            ("h", "h"),
            ("fff", "??f"),
            ("ffh", "??h"),
            ("hffhff", "hhhhhh"),
            ("hfffhh", "hhhffh"),
            ("hfffhfhh", "hhhffffh"),
            // The mildest of a row that gets worse, the worst of one that gets better.
            ("hfdf", "hhhd"),
            ("hfdffff", "hhhdddf"),
            ("hfffdh", "hhhffd"),
            // What tells nothing is neither.
            ("hff?f", "hhhhh"),
            ("hfff h?h", "hhhfffff"),
            ("h???", "hhh?"),
            ("hfff???", "hhhfff?"),
            ("?d", "?d"),
        ] {
            assert_eq!(course(samples), verdicts, "{samples}");
        }
    }

    proptest! {
        /// Whatever comes before: fewer failures in a row than asked for never make a verdict of failure.
        #[test]
        fn no_verdict_of_failure_without_its_row(samples in "[hdf?]{0,40}") {
            let verdicts: Vec<char> = course(&samples).chars().collect();
            let samples: Vec<char> = samples.chars().collect();
            for (at, pair) in verdicts.windows(2).enumerate() {
                if pair == ['h', 'f'] || pair == ['d', 'f'] || pair == ['?', 'f'] {
                    prop_assert!(samples[at - 1..=at + 1].iter().all(|sample| *sample == 'f'));
                }
            }
        }
    }
}
