//! The first line: what it was, in one sentence.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "one kind of record is looked for among many; the others say nothing about it"
)]

use palisade_core::record::Event;
use serde::Serialize;

use super::Moment;
use super::facts::{Decision, Facts, Proven};
use super::incident::SILENT_MS;
use super::step::secs;

/// What happened, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cause {
    /// Its power was cut, and read off.
    Fenced,
    /// Its power was off before anybody cut it, and read so.
    FoundOff,
    /// It was cut from its storage or network; no death was proven.
    Isolated,
    /// It left by its own word.
    Left,
    /// It began another life by itself.
    Reborn,
    /// An operator stated its death.
    Stated,
    /// Its own watchdog reset it.
    Watchdog,
    /// Somebody else proved its death.
    ToldDead,
    /// It was to be fenced, and was not.
    NotFenced,
    /// It was lost from sight, and nobody here decided anything.
    Lost,
    /// It rebooted itself.
    Rebooted,
    /// It gave its workloads away, since it could not serve.
    Drained,
    /// It ended its own workloads.
    SelfFenced,
    /// It had no quorum for a while.
    NoQuorum,
    /// Its life ended without a word of its own, and no journal at hand tells how.
    EndedUnsaid,
    /// Its agent was restarted.
    Restarted,
    /// An operator let it return.
    LetReturn,
    /// An operator asked for something and was refused.
    Refused,
    /// Only an alarm speaks of it.
    Alarm,
    /// Nothing.
    Nothing,
}

/// The most workloads that the first line names.
const NAMED: usize = 3;

/// What the facts amount to, the gravest first.
pub(super) fn tell(facts: &Facts<'_>) -> (Cause, String) {
    if let Some((at, why)) = facts.reboot() {
        return itself(facts, at, why);
    }
    if let Some(death) = facts.death() {
        return dead(facts, death);
    }
    if let Some(cut) = facts.isolation() {
        let (head, from) = opening(facts, "was cut off");
        let told = format!(
            "{head}{}; proven {} by {}, which proves no death{}",
            failures(facts),
            cut_from(cut.proof),
            devices(cut.evidence),
            recovery(facts, from.unwrap_or(cut.at.ms), cut.at.ms)
        );
        return (Cause::Isolated, told);
    }
    if facts.decision().is_some() {
        return not_fenced(facts);
    }
    if let Some(told) = own_end(facts) {
        return told;
    }
    if let Some(told) = lost(facts) {
        return told;
    }
    lesser(facts)
}

/// Its own word comes before what the others made of its silence.
fn itself(facts: &Facts<'_>, at: &Moment, why: &str) -> (Cause, String) {
    let proven = facts.death().map_or_else(String::new, |death| {
        format!("; proven dead by {} {} later", death.proof, secs(death.at.ms - at.ms))
    });
    let told = format!(
        "{} fenced itself by a reboot at {}: {why}{proven}{}",
        facts.host,
        time(at),
        recovery(facts, at.ms, at.ms)
    );
    (Cause::Rebooted, told)
}

fn dead(facts: &Facts<'_>, death: Proven<'_>) -> (Cause, String) {
    let host = facts.host;
    match death.proof {
        "power_off" => {
            let was_off = death.evidence.contains("(it was off before)");
            let (cause, verb) = if was_off {
                (Cause::FoundOff, "was found without power")
            } else {
                (Cause::Fenced, "was fenced")
            };
            let (head, from) = opening(facts, verb);
            let since = facts.decision().map_or(death.at.ms, |decision| decision.at.ms);
            let cut = facts.isolation().map_or(String::new(), |cut| {
                format!("; {} {} later", cut_from(cut.proof), secs(cut.at.ms - since))
            });
            let off = if was_off { "read off" } else { "proven off" };
            let told = format!(
                "{head}{}{cut}; {off} by {} {} later{}{}{}",
                held_up(facts),
                devices(death.evidence),
                secs(death.at.ms - since),
                failures(facts),
                quarantine(facts),
                recovery(facts, from.unwrap_or(since), since)
            );
            (cause, told)
        }
        "left" => {
            let why = facts.events().find_map(|(at, event)| match event {
                Event::Left { why } if facts.own(at) => Some(format!(" ({why})")),
                _ => None,
            });
            let kept_out = format!("{host} is in maintenance");
            let maintenance = facts.alarms().iter().any(|(_, what, _)| what.starts_with(&kept_out));
            let why = why.or(maintenance.then(|| " (an operator has put it into maintenance)".to_owned()));
            let from = first_ms(facts, death.at.ms);
            let told = format!(
                "{host} left by its own word at {}{}; nobody fenced it{}",
                time(death.at),
                why.unwrap_or_default(),
                recovery(facts, from, from)
            );
            (Cause::Left, told)
        }
        "reborn" => {
            let from = facts.last_heard_ms().unwrap_or(death.at.ms);
            let told = format!(
                "{host} was NOT fenced: it began a new life by itself, heard at {}{}{}{}",
                time(death.at),
                tried(facts),
                was_cut(facts),
                recovery(facts, from, death.at.ms)
            );
            (Cause::Reborn, told)
        }
        "operator" => {
            let word = death.evidence.strip_prefix("operator ").unwrap_or(death.evidence);
            let (by, statement) = word.split_once(" states: ").unwrap_or(("somebody", word));
            let told = format!(
                "operator {} stated at {} that {host} is dead: {statement}; no device proved it{}{}",
                person(by),
                time(death.at),
                tried(facts),
                recovery(facts, death.at.ms, death.at.ms)
            );
            (Cause::Stated, told)
        }
        "watchdog_expired" => {
            let from = facts.last_heard_ms().unwrap_or(death.at.ms);
            let told = format!(
                "{host} was reset by its own watchdog by {}: {}{}{}",
                time(death.at),
                death.evidence,
                tried(facts),
                recovery(facts, from, death.at.ms)
            );
            (Cause::Watchdog, told)
        }
        _ => {
            let from = facts.last_heard_ms().unwrap_or(death.at.ms);
            let told = format!(
                "{host} is proven dead since {}: {}, and its journal tells how{}",
                time(death.at),
                death.evidence,
                recovery(facts, from, death.at.ms)
            );
            (Cause::ToldDead, told)
        }
    }
}

/// "b was fenced at 14:03:22: not heard for 1.02 s by a (coordinator, quorate 2 of 3)", and the instant to count from.
fn opening(facts: &Facts<'_>, verb: &str) -> (String, Option<i64>) {
    let host = facts.host;
    let Some(Decision { at, because }) = facts.decision() else {
        return (format!("{host} {verb}, and no record here tells who decided it"), facts.last_heard_ms());
    };
    let when = time(at);
    if let Some((by, reason)) = by_hand(because) {
        let told = format!("operator {by} had {host} fenced at {when} by {}: {reason}", at.writer());
        let told = if verb == "was fenced" { told } else { format!("{told}; {host} {verb}") };
        return (told, Some(at.ms));
    }
    let told = format!("{host} {verb} at {when}: {}", because_of(facts, at, because));
    (told, facts.last_heard_ms())
}

/// The decider's reason, and what stood behind it.
fn because_of(facts: &Facts<'_>, at: &Moment, because: &str) -> String {
    let writer = at.writer();
    let standing = facts.standing(writer, at).filter(|(quorate, _)| *quorate);
    let standing = standing.map_or_else(String::new, |(_, votes)| format!(", quorate {votes}"));
    let silent =
        because.strip_prefix("not heard for ").and_then(|rest| rest.strip_suffix(" ms")?.parse().ok());
    match silent {
        Some(ms) => format!("not heard for {} by {writer} (coordinator{standing})", secs(ms)),
        None => format!("{because}, decided {writer} (coordinator{standing})"),
    }
}

/// Who asked for it by hand, and why.
pub(super) fn by_hand(because: &str) -> Option<(String, &str)> {
    let (by, reason) = because.strip_prefix("operator ")?.split_once(": ")?;
    Some((person(by), reason))
}

/// `root (process 12)` is root.
pub(super) fn person(by: &str) -> String {
    match by.find(" (process ") {
        Some(at) => by.get(..at).unwrap_or(by).to_owned(),
        None => by.to_owned(),
    }
}

fn not_fenced(facts: &Facts<'_>) -> (Cause, String) {
    let host = facts.host;
    let Some(Decision { at, because }) = facts.decision() else { return lesser(facts) };
    let whose = match by_hand(because) {
        Some((by, reason)) => format!("operator {by} asked {} for it at {}: {reason}", at.writer(), time(at)),
        None => format!("{} at {}", because_of(facts, at, because), time(at)),
    };
    let (failed, said) = facts.failures();
    let stopped = facts.withheld().rev().find(|(_, what, _)| what.contains("goes no further"));
    let held = facts.withheld().rev().find(|(_, what, why)| {
        why.contains("shadow mode")
            || why.contains("disarmed")
            || why.contains("budget")
            || what.starts_with("sending the order")
    });
    let why = match (held, stopped, said) {
        (Some((_, _, why)), _, _) if why.contains("shadow mode") => "fencing is in shadow mode".to_owned(),
        (_, Some((_, _, why)), said) => {
            let said = said.map(str::to_owned).or(facts.unanswered());
            let said = said.map_or_else(String::new, |said| format!(" ({said})"));
            format!("{why}{said}")
        }
        (Some((_, _, why)), None, _) => why.to_owned(),
        (None, None, Some(said)) => format!("{said}{}", times(failed)),
        (None, None, None) if facts.ordered_off() => "no device has answered yet".to_owned(),
        (None, None, None) => "nothing was ordered yet".to_owned(),
    };
    let clone = facts.alarms().into_iter().find(|(_, what, _)| what.starts_with("another machine speaks"));
    let clone = clone.map_or_else(String::new, |(at, what, _)| format!("; {what} (since {})", time(at)));
    (Cause::NotFenced, format!("{host} was NOT fenced: {why}{clone}; {whose}"))
}

/// What the host did by itself, as its own journal tells.
fn own_end(facts: &Facts<'_>) -> Option<(Cause, String)> {
    let host = facts.host;
    let fenced = facts.events().find_map(|(at, event)| match event {
        Event::SelfFenced { why } if facts.own(at) => Some((at, why)),
        _ => None,
    });
    if let Some((at, why)) = fenced {
        let told = format!("{host} ended its workloads at {}: {why}{}", time(at), votes(facts, at));
        return Some((Cause::SelfFenced, told));
    }
    let left = facts.events().find_map(|(at, event)| match event {
        Event::Left { why } if facts.own(at) => Some((at, why)),
        _ => None,
    });
    if let Some((at, why)) = left {
        let told = format!(
            "{host} left by its own word at {} ({why}); nobody fenced it{}",
            time(at),
            recovery(facts, at.ms, at.ms)
        );
        return Some((Cause::Left, told));
    }
    if let Some((at, why)) = facts.drain() {
        let told = format!(
            "{host} gave its workloads away at {}: {why}; nobody fenced it{}",
            time(at),
            recovery(facts, at.ms, at.ms)
        );
        return Some((Cause::Drained, told));
    }
    let (outage, back) = facts.outage()?;
    let how_long =
        back.map_or_else(|| " and has none since".to_owned(), |at| format!(" for {}", secs(at - outage.ms)));
    let told = format!("{host} had no quorum from {}{how_long}{}", time(outage), votes(facts, outage));
    Some((Cause::NoQuorum, told))
}

/// " (1 of 2 votes; it had lost b)".
fn votes(facts: &Facts<'_>, at: &Moment) -> String {
    let standing = facts.standing(facts.host, at).map(|(_, votes)| format!("it had {votes} votes"));
    let mut lost: Vec<&str> = facts
        .events()
        .filter(|(seen, _)| facts.own(seen) && seen.ms <= at.ms)
        .filter_map(|(_, event)| match event {
            Event::View { lost, .. } => Some(lost),
            _ => None,
        })
        .flatten()
        .map(|lost| lost.who.host.as_str())
        .collect();
    lost.sort_unstable();
    lost.dedup();
    let lost = (!lost.is_empty()).then(|| format!("had lost {}", lost.join(", ")));
    let told: Vec<String> = standing.into_iter().chain(lost).collect();
    if told.is_empty() { String::new() } else { format!(" ({})", told.join(" and ")) }
}

/// It fell out of somebody's view, and nobody whose journal is at hand decided to fence it.
fn lost(facts: &Facts<'_>) -> Option<(Cause, String)> {
    let (host, loss) = (facts.host, facts.loss()?);
    let writer = loss.at.writer();
    let seen = if loss.silent_ms < SILENT_MS {
        format!("it left the view of {writer} at {}, as for a restart", time(loss.at))
    } else {
        format!("not heard for {} by {writer} at {}", secs(loss.silent_ms), time(loss.at))
    };
    let since = facts.events().skip_while(|(at, _)| !std::ptr::eq(*at, loss.at)).skip(1);
    let back = since.into_iter().find(|(at, event)| {
        at.writer() == writer
            && matches!(event, Event::View { view, .. } if view.iter().any(|who| who.host == host))
    });
    let later = facts.moments.last().copied().unwrap_or(loss.at);
    let until = back.map_or(later, |(at, _)| at);
    let standing = facts.settled_standing(writer, loss.at.ms, until.ms);
    let stands_still = facts.alarms().into_iter().find(|(_, what, _)| what.contains("fencing stands still"));
    let ended = facts.events().find_map(|(at, event)| match event {
        Event::SelfFenced { .. } if at.writer() == writer => {
            Some(format!(", and ended its own workloads at {}", time(at)))
        }
        _ => None,
    });
    let told = match (standing, stands_still, back) {
        (_, Some((_, what, _)), _) => format!("{host} was NOT fenced: {what}; {seen}"),
        (Some((false, votes)), None, _) => {
            let ended = ended.unwrap_or_default();
            format!("{host} was NOT fenced by {writer}, which had no quorum ({votes} votes){ended}; {seen}")
        }
        (_, None, Some((at, _))) => {
            format!("{host} was NOT fenced: it was back {} later; {seen}", secs(at.ms - loss.at.ms))
        }
        (_, None, None) => format!(
            "{host} was lost from sight: {seen}; {writer} decided nothing about it, so the journal of its coordinator tells more"
        ),
    };
    let not = told.contains("NOT fenced");
    Some((if not { Cause::NotFenced } else { Cause::Lost }, told))
}

fn lesser(facts: &Facts<'_>) -> (Cause, String) {
    let host = facts.host;
    if let Some((at, by, asked, outcome)) = facts.requests().last() {
        let by = person(by);
        return match outcome.strip_prefix("refused: ") {
            Some(why) => {
                let told = format!(
                    "{host} was NOT touched: operator {by} asked at {} to {asked}, refused: {why}",
                    time(at)
                );
                (Cause::Refused, told)
            }
            None => (Cause::LetReturn, format!("operator {by} asked at {} to {asked}: {outcome}", time(at))),
        };
    }
    if let Some((at, what, why)) = facts.withheld().last() {
        return (Cause::NotFenced, format!("{host}: NOT done at {}: {what}, because {why}", time(at)));
    }
    if let Some((before, at)) = facts.began_anew() {
        let told = format!(
            "{host} began a new life at {}; the one before ended without a word after {}: it lost its power, was reset or was fenced, \
             and the journals of the others tell which",
            time(at),
            time(before)
        );
        return (Cause::EndedUnsaid, told);
    }
    if let Some((at, probe, why)) = facts.ill() {
        let told =
            format!("nothing happened to {host}, but its {probe} has failed since {}: {why}", time(at));
        return (Cause::Alarm, told);
    }
    let restarted = facts.events().rev().find(|(at, event)| {
        facts.own(at) && matches!(event, Event::Away | Event::Started { resumed: true, .. })
    });
    if let Some((at, _)) = restarted {
        let told = format!(
            "{host} was NOT fenced: its agent was restarted at {} and goes on with its life",
            time(at)
        );
        return (Cause::Restarted, told);
    }
    if let Some((at, what, stands)) = facts.alarms().last() {
        let stands = if *stands { "" } else { " (over since)" };
        return (
            Cause::Alarm,
            format!(
                "nothing happened to {host}, but an alarm speaks of it since {}: {what}{stands}",
                time(at)
            ),
        );
    }
    (Cause::Nothing, format!("nothing happened to {host}"))
}

/// " (after 2 tries that proved nothing: bmc-a: no answer)".
fn failures(facts: &Facts<'_>) -> String {
    match facts.failures() {
        (0, _) | (_, None) => String::new(),
        (count, Some(said)) => format!(" (after {count} {} without a proof: {said})", tries(count)),
    }
}

/// What was tried where another proof came first.
fn tried(facts: &Facts<'_>) -> String {
    let shadow = facts.withheld().any(|(_, _, why)| why.contains("shadow mode"));
    match facts.failures() {
        _ if shadow => "; fencing is in shadow mode".to_owned(),
        (count, Some(said)) if count > 0 => format!("; fenced in vain before ({said}{})", times(count)),
        _ => String::new(),
    }
}

/// What it had been cut from before it was dead.
fn was_cut(facts: &Facts<'_>) -> String {
    facts.isolation().map_or_else(String::new, |cut| {
        format!("; {} by {} before", cut_from(cut.proof), devices(cut.evidence))
    })
}

fn tries(count: usize) -> &'static str {
    if count == 1 { "try" } else { "tries" }
}

fn times(count: usize) -> String {
    if count < 2 { String::new() } else { format!(", {count} times") }
}

/// Why it was not decided at once.
fn held_up(facts: &Facts<'_>) -> String {
    let alarm = facts.alarms().into_iter().find(|(_, what, _)| what.contains("fencing stands still"));
    alarm.map_or_else(String::new, |(at, what, _)| format!(" ({what}, at {})", time(at)))
}

/// What became of it after too many fences.
fn quarantine(facts: &Facts<'_>) -> String {
    if !facts.withheld().any(|(_, _, why)| why.contains("quarantined")) {
        return String::new();
    }
    let let_return = facts
        .requests()
        .find(|(_, _, asked, outcome)| asked.starts_with("unfence ") && !outcome.starts_with("refused"));
    match let_return {
        Some((at, by, _, _)) => {
            format!(
                "; quarantined after too many fences, until operator {} let it return at {}",
                person(by),
                time(at)
            )
        }
        None => "; quarantined after too many fences, so its power stays off".to_owned(),
    }
}

/// "; db runs on a, 1.06 s after b was last heard".
fn recovery(facts: &Facts<'_>, from: i64, moved_from: i64) -> String {
    let moved = facts.moved(moved_from.min(from));
    if moved.is_empty() {
        return String::new();
    }
    let heard = facts.last_heard_ms() == Some(from);
    let after = |ms: i64| {
        let since = if heard { format!(" after {} was last heard", facts.host) } else { " later".to_owned() };
        format!("{}{since}", secs(ms - from))
    };
    let mut told: Vec<String> = moved
        .iter()
        .take(NAMED)
        .map(|moved| match moved.runs {
            Some(_) => format!("{} runs on {}", moved.workload, moved.on),
            None => format!("{} was placed on {}", moved.workload, moved.on),
        })
        .collect();
    if let Some(last) = moved.iter().filter_map(|moved| moved.runs).max()
        && let Some(text) = told.last_mut()
    {
        text.push_str(&format!(", {}", after(last)));
    }
    if moved.len() > NAMED {
        told.push(format!("and {} more", moved.len() - NAMED));
    }
    format!("; {}", told.join(", "))
}

/// The devices that evidence names.
fn devices(evidence: &str) -> String {
    let evidence = evidence.trim_end_matches(" (it was off before)");
    let named: Vec<&str> = evidence.split(", ").filter_map(|part| part.split(' ').next()).collect();
    named.join(" and ")
}

fn cut_from(proof: &str) -> &'static str {
    match proof {
        "storage_revoked" => "cut from its storage",
        "network_cut" => "cut from the network",
        _ => "cut off",
    }
}

fn first_ms(facts: &Facts<'_>, otherwise: i64) -> i64 {
    facts.moments.first().map_or(otherwise, |moment| moment.ms)
}

/// `14:03:22`.
fn time(at: &Moment) -> &str {
    at.entry.time.get(11..19).unwrap_or(&at.entry.time)
}
