//! What the records of an incident establish, each fact with the record that does.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "one kind of record is looked for among many; the others say nothing about it"
)]

use palisade_core::health::Verdict;
use palisade_core::record::{Event, Who};
use palisade_ladder::Command;

use super::Moment;
use super::incident::{GIVES_AWAY, Incident};
use super::moment::span_ms;

/// A standing that lasted so long was more than a change of the view.
const SETTLED_MS: i64 = 100;
/// A host that has no quorum for a shorter time changed its view, and nothing more: less than it takes to kill anything.
pub(super) const OUTAGE_MS: i64 = 2_000;

/// The facts of one incident.
pub(super) struct Facts<'a> {
    /// Whom it happened to.
    pub(super) host: &'a str,
    /// The incident's records.
    pub(super) moments: Vec<&'a Moment>,
    /// All records, for what stood before.
    pub(super) all: &'a [Moment],
}

/// Somebody did not hear the host any more.
#[derive(Clone, Copy)]
pub(super) struct Loss<'a> {
    pub(super) at: &'a Moment,
    pub(super) silent_ms: i64,
}

/// A decision to fence.
#[derive(Clone, Copy)]
pub(super) struct Decision<'a> {
    pub(super) at: &'a Moment,
    pub(super) because: &'a str,
}

/// A proof.
#[derive(Clone, Copy)]
pub(super) struct Proven<'a> {
    pub(super) at: &'a Moment,
    pub(super) proof: &'a str,
    pub(super) evidence: &'a str,
}

/// A workload that runs, or is to run, elsewhere.
pub(super) struct Moved<'a> {
    pub(super) workload: &'a str,
    pub(super) on: &'a str,
    /// Since when it runs there; `None`: only that it was placed there is on record here.
    pub(super) runs: Option<i64>,
}

impl<'a> Facts<'a> {
    pub(super) fn of(all: &'a [Moment], incident: &'a Incident) -> Self {
        let mut places = incident.moments.clone();
        places.sort_unstable();
        places.dedup();
        let moments = places.iter().filter_map(|at| all.get(*at)).collect();
        Self { host: &incident.host, moments, all }
    }

    /// The incident's known events, oldest first.
    pub(super) fn events(&self) -> impl DoubleEndedIterator<Item = (&'a Moment, &'a Event)> {
        self.moments.iter().filter_map(|moment| Some((*moment, moment.event.as_ref()?)))
    }

    fn is_host(&self, who: &Who) -> bool {
        who.host == self.host
    }

    /// Who lost it: whoever decided, if that is on record; else the first.
    pub(super) fn loss(&self) -> Option<Loss<'a>> {
        let decided = self.decision().map(|decision| (decision.at.writer(), decision.at.ms));
        let losses = || {
            self.events().filter_map(|(at, event)| {
                let Event::View { lost, .. } = event else { return None };
                let lost = lost.iter().find(|lost| self.is_host(&lost.who))?;
                Some(Loss { at, silent_ms: span_ms(lost.silent_ms) })
            })
        };
        let by_decider = |loss: &Loss<'_>| {
            decided.is_some_and(|(writer, ms)| loss.at.writer() == writer && loss.at.ms <= ms)
        };
        losses().rfind(by_decider).or(losses().next())
    }

    /// When it was last heard by whoever lost it before it was dead; a host that was switched off by hand was heard until then.
    pub(super) fn last_heard_ms(&self) -> Option<i64> {
        let first = self.ends().map(|proven| proven.at.ms).min();
        let loss = self.loss().filter(|loss| first.is_none_or(|end| loss.at.ms < end))?;
        Some(loss.at.ms - loss.silent_ms)
    }

    /// The first decision that led on: a later coordinator's only repeats it.
    pub(super) fn decision(&self) -> Option<Decision<'a>> {
        let decisions = || {
            self.events().filter_map(|(at, event)| match event {
                Event::FenceDecided { because, .. } => Some(Decision { at, because }),
                _ => None,
            })
        };
        // What an operator asks for goes before what was decided meanwhile.
        decisions().find(|decision| decision.because.starts_with("operator ")).or(decisions().next())
    }

    /// What was proven: deaths and isolations.
    fn ends(&self) -> impl Iterator<Item = Proven<'a>> {
        self.events().filter_map(|(at, event)| match event {
            Event::Dead { proof, evidence, .. } | Event::Isolated { proof, evidence, .. } => {
                Some(Proven { at, proof, evidence })
            }
            _ => None,
        })
    }

    /// The proof of death: the prover's own record, or else the word of one who had it.
    pub(super) fn death(&self) -> Option<Proven<'a>> {
        let deaths = || {
            self.events().filter_map(|(at, event)| match event {
                Event::Dead { proof, evidence, .. } => Some(Proven { at, proof, evidence }),
                _ => None,
            })
        };
        deaths().find(|proven| proven.proof != "gossiped").or(deaths().next())
    }

    /// The proof that it was cut off.
    pub(super) fn isolation(&self) -> Option<Proven<'a>> {
        self.events().find_map(|(at, event)| match event {
            Event::Isolated { proof, evidence, .. } => Some(Proven { at, proof, evidence }),
            _ => None,
        })
    }

    /// What a writer's quorum was at that time: `quorate 2 of 3`, or `NOT quorate: 1 of 2 votes`.
    pub(super) fn standing(&self, writer: &str, until: &Moment) -> Option<(bool, String)> {
        let before = self.all.iter().filter(|moment| moment.writer() == writer && moment.ms <= until.ms);
        before.rev().find_map(|moment| match &moment.event {
            Some(Event::Standing { quorate, witness, needed, .. }) => {
                let needed = needed.trim_end_matches(" votes");
                let witness = if *witness { " and the witness" } else { "" };
                Some((*quorate, format!("{needed}{witness}")))
            }
            // What an earlier life of that host had says nothing.
            Some(Event::Started { resumed: false, .. }) => Some((false, "it has just started".to_owned())),
            Some(_) | None => None,
        })
    }

    /// The last standing of the writer between two instants that lasted: in a change of the view it has none for an instant.
    pub(super) fn settled_standing(&self, writer: &str, from: i64, until: i64) -> Option<(bool, String)> {
        let standings: Vec<&Moment> = self
            .all
            .iter()
            .filter(|moment| {
                moment.writer() == writer
                    && moment.ms >= from
                    && matches!(moment.event, Some(Event::Standing { .. }))
            })
            .collect();
        let ends = standings.iter().skip(1).map(|next| next.ms).chain([i64::MAX]);
        let lasting = standings
            .iter()
            .zip(ends)
            .filter(|(standing, end)| standing.ms <= until && end.saturating_sub(standing.ms) >= SETTLED_MS);
        let lasting = lasting.last();
        lasting.and_then(|(standing, _)| self.standing(writer, standing))
    }

    /// When the host itself had no quorum for a while, and when it had one again.
    pub(super) fn outage(&self) -> Option<(&'a Moment, Option<i64>)> {
        let mut since: Option<&Moment> = None;
        for (at, event) in self.events().filter(|(at, _)| self.own(at)) {
            match event {
                Event::Standing { quorate: false, .. } => {
                    since.get_or_insert(at);
                }
                Event::Standing { quorate: true, .. } => {
                    if let Some(from) = since.take().filter(|from| at.ms - from.ms >= OUTAGE_MS) {
                        return Some((from, Some(at.ms)));
                    }
                }
                _ => {}
            }
        }
        let now = self.all.last()?.ms;
        since.filter(|from| now - from.ms >= OUTAGE_MS).map(|from| (from, None))
    }

    /// Its own reboot.
    pub(super) fn reboot(&self) -> Option<(&'a Moment, &'a str)> {
        self.events().find_map(|(at, event)| match event {
            Event::Reboots { why } if self.own(at) => Some((at, why.as_str())),
            _ => None,
        })
    }

    /// The first workload that it gave away, and why.
    pub(super) fn drain(&self) -> Option<(&'a Moment, &'a str)> {
        self.events().find_map(|(at, event)| match event {
            Event::Workload { detail, .. } if self.own(at) => {
                let why = detail.strip_prefix(GIVES_AWAY)?;
                Some((at, why.trim_start_matches([':', ' '])))
            }
            _ => None,
        })
    }

    /// The last probe of it that failed.
    pub(super) fn ill(&self) -> Option<(&'a Moment, &'a str, &'a str)> {
        self.events().rev().find_map(|(at, event)| match event {
            Event::Probe { probe, verdict: Verdict::Failed, why, .. } if self.own(at) => {
                Some((at, probe.as_str(), why.as_str()))
            }
            _ => None,
        })
    }

    /// The last record of its earlier life, and the first of the new one.
    pub(super) fn began_anew(&self) -> Option<(&'a Moment, &'a Moment)> {
        let began = self.events().find_map(|(at, event)| match event {
            Event::Started { resumed: false, .. } if self.own(at) => Some(at),
            _ => None,
        })?;
        let before = self.all.iter().filter(|moment| moment.writer() == self.host && moment.ms <= began.ms);
        Some((before.rev().find(|moment| moment.entry.life != began.entry.life)?, began))
    }

    /// What a device said that was told to switch off and did not prove it.
    pub(super) fn unanswered(&self) -> Option<String> {
        self.events().rev().find_map(|(_, event)| match event {
            Event::OrderAnswered { device, command: Command::Off, answer, .. } => {
                Some(format!("{device}: {answer}"))
            }
            _ => None,
        })
    }

    /// Runs that came to no proof, and what the last one said.
    pub(super) fn failures(&self) -> (usize, Option<&'a str>) {
        let failed = |(_, event): (&'a Moment, &'a Event)| match event {
            Event::FenceFailed { why, .. } => Some(why.as_str()),
            _ => None,
        };
        (self.events().filter_map(failed).count(), self.events().filter_map(failed).next_back())
    }

    /// What was withheld, newest last.
    pub(super) fn withheld(&self) -> impl DoubleEndedIterator<Item = (&'a Moment, &'a str, &'a str)> {
        self.events().filter_map(|(at, event)| match event {
            Event::Withheld { what, why } => Some((at, what.as_str(), why.as_str())),
            _ => None,
        })
    }

    /// Operators' requests: who, what, what came of it.
    pub(super) fn requests(
        &self,
    ) -> impl DoubleEndedIterator<Item = (&'a Moment, &'a str, &'a str, &'a str)> {
        self.events().filter_map(|(at, event)| match event {
            Event::Operator { by, asked, outcome, .. } => {
                Some((at, by.as_str(), asked.as_str(), outcome.as_str()))
            }
            _ => None,
        })
    }

    /// Alarms, and whether each still stood at the end.
    pub(super) fn alarms(&self) -> Vec<(&'a Moment, &'a str, bool)> {
        let mut alarms: Vec<(&Moment, &str, bool)> = Vec::new();
        for (at, event) in self.events() {
            match event {
                Event::Alarm { what } => alarms.push((at, what, true)),
                Event::AlarmCleared { what } => {
                    // Its words may have changed while it stood: the last one raised before that begins alike.
                    let same = alarms.iter_mut().rev().find(|(_, said, _)| alike(said, what));
                    if let Some(alarm) = same {
                        alarm.2 = false;
                    }
                }
                _ => {}
            }
        }
        alarms
    }

    /// Whether the writer is the host itself.
    pub(super) fn own(&self, moment: &Moment) -> bool {
        moment.writer() == self.host
    }

    /// Where its workloads went: those that others started after `from`, or were to.
    pub(super) fn moved(&self, from: i64) -> Vec<Moved<'a>> {
        let mut moved: Vec<Moved<'a>> = Vec::new();
        for (at, event) in self.events().filter(|(at, _)| at.ms >= from) {
            let (workload, on, runs) = match event {
                Event::Placed { workload, on, .. } => (&workload.name, on.host.as_str(), None),
                Event::Workload { workload, state, .. } if state == "running" => {
                    (&workload.name, at.writer(), Some(at.ms))
                }
                _ => continue,
            };
            if on == self.host {
                continue;
            }
            match moved.iter_mut().find(|known| known.workload == *workload) {
                // Where it ran first is what the incident led to; where it went later is another story.
                Some(known) if known.runs.is_some() => {}
                Some(known) => (known.on, known.runs) = (on, runs),
                None => moved.push(Moved { workload, on, runs }),
            }
        }
        moved
    }

    /// Whether an off was sent to a device, or only looked.
    pub(super) fn ordered_off(&self) -> bool {
        self.events().any(|(_, event)| matches!(event, Event::OrderIntended { command: Command::Off, .. }))
    }
}

fn alike(one: &str, other: &str) -> bool {
    let head = |text: &str| text.split([' ', ':']).take(4).map(str::to_owned).collect::<Vec<_>>();
    head(one) == head(other)
}
