//! What was not done, and why: as much a part of the story as what was.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "one kind of record is looked for among many; the others say nothing about it"
)]

use palisade_core::record::Event;

use super::facts::Facts;

/// Each once, the last word of each kind, in the order in which it began.
pub(super) fn tell(facts: &Facts<'_>) -> Vec<String> {
    let mut told: Vec<(String, usize)> = Vec::new();
    let mut add = |text: String| {
        let text: String = text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
        match told.iter_mut().find(|(said, _)| *said == text) {
            Some((_, times)) => *times += 1,
            None => told.push((text, 1)),
        }
    };
    for (moment, event) in facts.events() {
        match event {
            Event::Withheld { what, why } => add(format!("{what}: {why}")),
            Event::Operator { by, asked, outcome, .. } => {
                if let Some(why) = outcome.strip_prefix("refused: ") {
                    add(format!("{asked}, which {} asked for: {why}", super::cause::person(by)));
                }
            }
            Event::FenceFailed { .. } => {
                add(format!(
                    "taking {} for dead on time alone: without a reading nothing of it starts elsewhere",
                    facts.host
                ));
            }
            Event::ClaimDropped { workload, why } => {
                add(format!("starting {workload} on {}: {why}", moment.writer()));
            }
            _ => {}
        }
    }
    for (moment, what, stands) in facts.alarms() {
        if stands && !what.contains("cannot be fenced") {
            add(format!("an alarm of {} still stands: {what}", moment.writer()));
        }
    }
    if let Some(death) = facts.death()
        && death.evidence.contains("(it was off before)")
    {
        add("nobody cut its power: it read off before the order, and the order was sent only to prove it"
            .to_owned());
    }
    if facts.isolation().is_some() && facts.death().is_none() {
        add(format!("{} was not taken for dead: it stays counted, and its power pending", facts.host));
    }
    if let Some(loss) = facts.loss()
        && facts.decision().is_none()
        && facts.death().is_none()
        && let Some((false, votes)) = last_standing(facts, loss.at.writer())
    {
        add(format!(
            "fencing {}: {} had {votes} votes, and without a quorum it sends nothing",
            facts.host,
            loss.at.writer()
        ));
    }
    told.into_iter()
        .map(|(text, times)| if times > 1 { format!("{text} ({times} times)") } else { text })
        .collect()
}

fn last_standing(facts: &Facts<'_>, writer: &str) -> Option<(bool, String)> {
    let last = facts.events().rev().find(|(at, event)| {
        at.writer() == writer && matches!(event, Event::Standing { quorate: false, .. })
    })?;
    facts.standing(writer, last.0)
}
