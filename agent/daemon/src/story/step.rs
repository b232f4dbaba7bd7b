//! The time line: the records of an incident as short sentences, each with what it weighs, so that a small screen shows the ones
//! that say most.

use palisade_core::health::Verdict;
use palisade_core::record::{Event, Who};
use palisade_ladder::Command;
use serde::Serialize;

use super::facts::Facts;
use super::moment::span_ms;
use super::{Moment, Names};
use crate::api::why::words;

/// Changes of standing so close together are one: each change of the view asks for every vote anew.
const BURST_MS: i64 = 100;

/// One line of the time line.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Step {
    /// Since the incident began, in ms: since its host was last heard, where that is known.
    pub(crate) at_ms: i64,
    /// Since the line before, in ms.
    pub(crate) after_ms: i64,
    /// The host whose journal says so.
    pub(crate) by: String,
    /// The record's number there; `None` for a line that is reckoned from another record.
    pub(crate) n: Option<u64>,
    /// What happened.
    pub(crate) text: String,
    /// How often in a row.
    pub(crate) times: usize,
    /// From 0 to 10: what a screen leaves out first to last.
    pub(crate) weight: u8,
}

/// The time line of an incident.
pub(super) fn steps(facts: &Facts<'_>, names: &Names) -> Vec<Step> {
    let mut lines: Vec<(i64, Step)> = before(facts, names);
    if let (Some(heard), Some(loss)) = (facts.last_heard_ms(), facts.loss()) {
        let text = format!("{} is last heard by {}", facts.host, loss.at.writer());
        lines.push((heard, new(loss.at.writer(), None, text, 8)));
    }
    for (at, moment) in facts.moments.iter().enumerate() {
        if is_passing(facts, at, moment) {
            continue;
        }
        let Some((weight, text)) = told(facts, moment) else { continue };
        lines.push((moment.ms, new(moment.writer(), Some(moment.entry.n), text, weight)));
    }
    lines.sort_by_key(|(ms, _)| *ms);
    let zero = facts.last_heard_ms().or(facts.moments.first().map(|moment| moment.ms)).unwrap_or(0);
    let mut steps: Vec<Step> = Vec::new();
    let mut last_ms = None;
    for (ms, mut step) in lines {
        // The same reading over and over is one line.
        if let Some(last) = steps.last_mut().filter(|last| last.by == step.by && last.text == step.text) {
            last.times += 1;
            continue;
        }
        step.at_ms = ms - zero;
        step.after_ms = last_ms.map_or(0, |last| ms - last);
        last_ms = Some(ms);
        steps.push(step);
    }
    steps
}

fn new(by: &str, n: Option<u64>, text: String, weight: u8) -> Step {
    let text = text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    Step { at_ms: 0, after_ms: 0, by: by.to_owned(), n, text, times: 1, weight }
}

/// What stood against the host before: alarms of whoever tells, raised and not cleared.
fn before(facts: &Facts<'_>, names: &Names) -> Vec<(i64, Step)> {
    let Some(first) = facts.moments.first() else { return Vec::new() };
    let about = |what: &str| {
        super::incident::mentions(what, facts.host)
            || names
                .devices
                .iter()
                .any(|(device, host)| host == facts.host && super::incident::has_word(what, device))
    };
    let mut standing: Vec<(&Moment, &str)> = Vec::new();
    let mut ill: std::collections::BTreeMap<&str, &Moment> = std::collections::BTreeMap::new();
    for moment in facts.all.iter().take_while(|moment| moment.ms < first.ms) {
        match &moment.event {
            Some(Event::Alarm { what }) if about(what) => standing.push((moment, what)),
            Some(Event::AlarmCleared { what }) => standing.retain(|(raised, said)| {
                raised.writer() != moment.writer() || said.split(' ').next() != what.split(' ').next()
            }),
            Some(Event::Probe { probe, verdict: Verdict::Healthy, .. }) if facts.own(moment) => {
                ill.remove(probe.as_str());
            }
            Some(Event::Probe { probe, .. }) if facts.own(moment) => {
                ill.insert(probe, moment);
            }
            Some(Event::Started { .. }) => standing.retain(|(raised, _)| raised.writer() != moment.writer()),
            Some(_) | None => {}
        }
    }
    let alarms = standing.into_iter().map(|(moment, what)| (moment, format!("before that, ALARM: {what}")));
    let ills = ill.values().map(|moment| (*moment, format!("before that, {}", words(&moment.entry.event))));
    alarms
        .chain(ills)
        .map(|(moment, text)| (moment.ms, new(moment.writer(), Some(moment.entry.n), text, 6)))
        .collect()
}

/// A standing that another one follows at once.
fn is_passing(facts: &Facts<'_>, at: usize, moment: &Moment) -> bool {
    if !matches!(moment.event, Some(Event::Standing { .. })) {
        return false;
    }
    let later = facts.moments.iter().skip(at + 1).take_while(|later| later.ms - moment.ms <= BURST_MS);
    later
        .into_iter()
        .any(|later| later.writer() == moment.writer() && matches!(later.event, Some(Event::Standing { .. })))
}

fn told(facts: &Facts<'_>, moment: &Moment) -> Option<(u8, String)> {
    let Some(event) = &moment.event else { return Some((2, words(&moment.entry.event))) };
    let host = facts.host;
    let (me, own) = (moment.writer(), facts.own(moment));
    let decider = facts.decision().is_some_and(|decision| decision.at.writer() == me);
    Some(match event {
        Event::View { view, lost } => {
            let with: Vec<&str> =
                view.iter().map(|who| who.host.as_str()).filter(|name| *name != me).collect();
            let with = if with.is_empty() { "nobody".to_owned() } else { with.join(", ") };
            let gone: Vec<String> = lost
                .iter()
                .map(|lost| {
                    let silent = span_ms(lost.silent_ms);
                    format!("{} (silent on every link for {})", lost.who, secs(silent))
                })
                .collect();
            let about = lost.iter().any(|lost| lost.who.host == host);
            match (gone.is_empty(), view.iter().any(|who| who.host == host)) {
                (false, _) => (
                    if about && decider {
                        9
                    } else if about || own {
                        6
                    } else {
                        3
                    },
                    format!("loses {}; stands with {with}", gone.join(", ")),
                ),
                (true, true) if !own => (5, format!("hears {host} again; stands with {with}")),
                (true, _) => (2, format!("stands with {with}")),
            }
        }
        Event::Standing { quorate, votes, witness, needed } => {
            let mut by: Vec<&str> = votes.iter().map(|who| who.host.as_str()).collect();
            if *witness {
                by.push("the witness");
            }
            let by = if by.is_empty() { "nobody".to_owned() } else { by.join(", ") };
            let needed = needed.trim_end_matches(" votes");
            match quorate {
                true => (if decider { 7 } else { 2 }, format!("is quorate {needed}: votes of {by}")),
                false => (
                    if own || decider { 7 } else { 4 },
                    format!("is NOT quorate, {needed}: votes of {by} only"),
                ),
            }
        }
        Event::FenceDecided { because, .. } => (9, format!("decides to fence {host}: {because}")),
        Event::OrderIntended { device, command, attempt, .. } => match command {
            Command::Off => (8, format!("orders off from {device} (try {attempt}), journal first")),
            Command::On => (3, format!("orders on from {device}: {host} gets it back")),
            Command::Read | Command::Prove => (2, format!("asks {device}")),
        },
        Event::OrderAnswered { device, command, answer, took_ms, .. } => {
            let took = secs(span_ms(*took_ms));
            match command {
                Command::Off => (7, format!("{device} answers the off: {answer} (took {took})")),
                Command::On => (2, format!("{device} answers the on: {answer} (took {took})")),
                Command::Read | Command::Prove if answer.starts_with("reads") => {
                    (if answer.ends_with("off") { 7 } else { 3 }, format!("{device} {answer}"))
                }
                Command::Read | Command::Prove => (5, format!("{device}: {answer}")),
            }
        }
        Event::Dead { proof, evidence, .. } if proof == "gossiped" => {
            (2, format!("{host} is proven dead: {evidence}"))
        }
        Event::Dead { proof, evidence, .. } => (10, format!("PROOF {proof}: {evidence}")),
        Event::Isolated { proof, evidence, .. } => {
            (10, format!("PROOF {proof}: {evidence}; no proof of death"))
        }
        Event::FenceFailed { why, retry_in_ms, .. } => {
            let retry = span_ms(*retry_in_ms);
            let retry = if retry == 0 {
                "not tried again".to_owned()
            } else {
                format!("tried again in {}", secs(retry))
            };
            (8, format!("NO proof: {why}; {retry}"))
        }
        Event::Withheld { what, why } => (7, format!("NOT done: {what}: {why}")),
        Event::Placed { workload, on, .. } => (4, format!("{workload} is to run on {on}")),
        Event::Claimed { workload } => (1, format!("claims {workload}")),
        Event::ClaimDropped { workload, why } => (2, format!("gives up its claim on {workload}: {why}")),
        Event::StartIntended { workload, cleared_by } => {
            (5, format!("will start {workload}, cleared by {cleared_by}"))
        }
        Event::Workload { workload, state, detail } => {
            let weight = match state.as_str() {
                "running" => 9,
                "starting" => 1,
                "failed" => 8,
                _ => 6,
            };
            let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
            (weight, format!("{workload} is {state}{detail}"))
        }
        Event::Wished { .. } => (6, words(&moment.entry.event)),
        Event::SelfFenced { why } => (9, format!("killed its own workloads: {why}")),
        Event::Reboots { why } => (10, format!("fences itself by a reboot: {why}")),
        Event::Probe { verdict, .. } => {
            let weight = match verdict {
                Verdict::Failed => 8,
                Verdict::Healthy | Verdict::Degraded => 4,
                Verdict::Unknown => 2,
            };
            (weight, words(&moment.entry.event))
        }
        Event::Left { why } => (9, format!("leaves: {why}")),
        Event::Away => (6, "announces a restart of its agent".to_owned()),
        Event::Alarm { what } => (6, format!("ALARM: {what}")),
        Event::AlarmCleared { what } => (2, format!("alarm over: {what}")),
        Event::Operator { by, asked, outcome, statement } => {
            let signed = if statement.is_some() { " (with a statement)" } else { "" };
            (8, format!("operator {by} asked: {asked}{signed}: {outcome}"))
        }
        Event::Electorate { joined, removed, count } => {
            let names = |all: &[Who]| all.iter().map(|who| who.host.clone()).collect::<Vec<_>>().join(", ");
            let mut parts = Vec::new();
            if !joined.is_empty() {
                parts.push(format!("takes in {}", names(joined)));
            }
            if !removed.is_empty() {
                parts.push(format!("no longer counts {}", names(removed)));
            }
            (
                if joined.iter().any(|who| who.host == host) { 6 } else { 3 },
                format!("{}; {count} are counted", parts.join(", ")),
            )
        }
        Event::Started { resumed: true, .. } => {
            (6, "its agent is back, and goes on with its life".to_owned())
        }
        Event::Started { resumed: false, .. } => (5, "begins a new life".to_owned()),
        Event::Admitted { .. } => (5, "is taken in".to_owned()),
        Event::Witness { verdict } => (5, format!("the witness: {verdict}")),
        Event::Lock { .. } | Event::Founded { .. } | Event::Desired { .. } | Event::Configuration { .. } => {
            (2, words(&moment.entry.event))
        }
    })
}

/// A time between, for people.
pub(super) fn secs(ms: i64) -> String {
    let ms = ms.max(0);
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{:02} s", ms / 1000, ms % 1000 / 10),
        60_000..7_200_000 => format!("{} min {} s", ms / 60_000, ms / 1000 % 60),
        _ => format!("{} h {} min", ms / 3_600_000, ms / 60_000 % 60),
    }
}
