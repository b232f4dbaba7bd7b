//! A replay for people, and for programs.

use std::time::{Duration, UNIX_EPOCH};

use palisade_core::Input;
use palisade_core::config::Override;
use palisade_core::record::Event;
use palisade_core::replay::{self, Decision, Parting};
use palisade_proto::Time;
use serde_json::{Value, json};

use super::{Came, Told};
use crate::api::why::{self, Entry, Story};
use crate::cli::records::render;
use crate::recording::{Ending, Head};

/// The most actions that a parting shows.
const ACTIONS_SHOWN: usize = 20;

/// One segment, in lines.
pub(super) fn in_words(told: &Told, set: &[Override]) -> String {
    let Head { host, life, program, .. } = &told.head;
    let begun = time(&told.head, Time(told.head.at_ms));
    let mut text = format!("{}: host {host}, life {life}, from {begun}, recorded by {program}\n", told.path);
    match &told.came {
        Came::Decided(decisions) => {
            let entries = decisions.iter().map(|decision| entry(&told.head, decision)).collect();
            text.push_str(&render(&Story { entries, left_out: 0 }));
        }
        Came::Otherwise(lines) => text.push_str(&both(&told.head, lines, set)),
    }
    if let Some(parting) = &told.parting {
        text.push_str(&parted(&told.head, parting));
    }
    if let Some((n, decision)) = &told.not_in_journal {
        text.push_str(&format!(
            "the journal parts after its record {n}: decided at {} and not in it: {}\n",
            time(&told.head, decision.at),
            words(&decision.event)
        ));
    }
    if told.ending != Ending::Whole {
        text.push_str(&format!("({} inputs; {})\n", told.inputs, told.ending));
    }
    text.push('\n');
    text
}

/// One segment, as one line of JSON.
pub(super) fn as_json(told: &Told) -> String {
    let decision = |decision: &Decision| json!({ "time": time(&told.head, decision.at), "at_ms": decision.at.0, "event": decision.event });
    let mut value = json!({
        "segment": told.path,
        "host": told.head.host,
        "life": told.head.life,
        "program": told.head.program,
        "begun": time(&told.head, Time(told.head.at_ms)),
        "inputs": told.inputs,
        "ending": told.ending.to_string(),
        "as_recorded": told.is_as_recorded(),
    });
    let mut put = |key: &str, part: Value| {
        if let Some(object) = value.as_object_mut() {
            object.insert(key.to_owned(), part);
        }
    };
    match &told.came {
        Came::Decided(decisions) => put("decisions", decisions.iter().map(decision).collect()),
        Came::Otherwise(lines) => {
            let (mut both, mut recorded, mut otherwise) = (Vec::new(), Vec::new(), Vec::new());
            for line in lines {
                match line {
                    replay::Told::Both(one) => both.push(decision(one)),
                    replay::Told::Recorded(one) => recorded.push(decision(one)),
                    replay::Told::Otherwise(one) => otherwise.push(decision(one)),
                }
            }
            put("both", both.into());
            put("only_recorded", recorded.into());
            put("only_with_settings", otherwise.into());
        }
    }
    if let Some(parting) = &told.parting {
        let Parting { at, number, input, recorded, decided, actions } = parting;
        let parting = json!({
            "time": time(&told.head, *at), "at_ms": at.0, "number": number, "input": describe(input),
            "recorded": recorded, "decided": decided, "actions": actions,
        });
        put("parting", parting);
    }
    if let Some((n, lacking)) = &told.not_in_journal {
        put("not_in_journal", json!({ "after_record": n, "decision": decision(lacking) }));
    }
    format!("{value}\n")
}

fn entry(head: &Head, decision: &Decision) -> Entry {
    Entry {
        n: 0,
        time: time(head, decision.at),
        boot_ms: decision.at.0,
        host: head.host.clone(),
        life: head.life.clone(),
        event: serde_json::to_value(&decision.event).unwrap_or_default(),
    }
}

/// Both time lines, what differs marked.
fn both(head: &Head, lines: &[replay::Told], set: &[Override]) -> String {
    let mut text = String::new();
    let (mut only_recorded, mut only_otherwise) = (0, 0);
    for line in lines {
        let (sign, decision) = match line {
            replay::Told::Both(decision) => (' ', decision),
            replay::Told::Recorded(decision) => {
                only_recorded += 1;
                ('-', decision)
            }
            replay::Told::Otherwise(decision) => {
                only_otherwise += 1;
                ('+', decision)
            }
        };
        let at = since(head, decision.at);
        text.push_str(&format!("{sign} {at:>12}  {}\n", words(&decision.event)));
    }
    let settings: Vec<String> = set.iter().map(ToString::to_string).collect();
    let settings = settings.join(", ");
    if only_recorded == 0 && only_otherwise == 0 {
        text.push_str(&format!("with {settings} the same would have been decided\n"));
        return text;
    }
    text.push_str(&format!(
        "with {settings}: {only_recorded} recorded decisions would not have been made, or not so (-); {only_otherwise} others \
         would have (+)\nthe inputs are those of the recorded world: peers and devices do not react to what would have been \
         decided\n"
    ));
    text
}

fn parted(head: &Head, parting: &Parting) -> String {
    let Parting { at, number, input, recorded, decided, actions } = parting;
    let mut text = format!(
        "THEY PART at {} ({}), input {number}: {}\n",
        time(head, *at),
        since(head, *at),
        describe(input)
    );
    let list = |events: &[Event]| {
        let events: Vec<String> = events.iter().map(words).collect();
        if events.is_empty() { "no decision".to_owned() } else { events.join("; ") }
    };
    text.push_str(&format!("  recorded: {}\n  now:      {}\n", list(recorded), list(decided)));
    if recorded == decided {
        text.push_str("  the same words, but not the same acts; now they are:\n");
        for action in actions.iter().take(ACTIONS_SHOWN) {
            text.push_str(&format!("    {action}\n"));
        }
    }
    text
}

fn words(event: &Event) -> String {
    why::words(&serde_json::to_value(event).unwrap_or_default())
}

/// An input in a few words, without what would act on a terminal.
fn describe(input: &Input) -> String {
    let words = match input {
        Input::Tick => "the timer".to_owned(),
        Input::Slept => "the machine had slept".to_owned(),
        Input::Heartbeat(heartbeat) => {
            format!("heartbeat {} of host id {}", heartbeat.seq, heartbeat.from.host.number())
        }
        Input::Answer(answer) => format!("the witness's answer to {}", answer.ask),
        Input::Durable(ticket) => format!("record {} is on the disk", ticket.0),
        Input::Journal(None) => "the journal takes records again".to_owned(),
        Input::Journal(Some(error)) => format!("the journal fails: {error}"),
        Input::Device(order, answer) => format!("a device's answer to order {}: {answer:?}", order.0),
        Input::FencePath(device, result) => format!("the path to device {}: {result:?}", device.0),
        Input::Workload(id, report) => format!("workload {}: {report:?}", id.0),
        Input::Storage(at, health) => format!("storage {at}: {health:?}"),
        Input::Health(class, load) => format!("own health {class:?}, load {load}"),
        Input::Ills(ills) => {
            let ill = |ill: &palisade_core::health::Ill| {
                format!("{:08x} {} (now {})", ill.probe.0, ill.verdict, ill.last)
            };
            format!("own probes: {}", ills.iter().map(ill).collect::<Vec<_>>().join(", "))
        }
        Input::Unfit(reasons) => format!("not to be armed: {}", reasons.join("; ")),
        Input::Watchdog(armed) => format!("the watchdog: {armed:?}"),
        Input::Request(request) => format!("an operator asks: {request:?}"),
        Input::FromAfar(order) => format!("an operator asks from afar: {order:?}"),
        Input::Leave(why) => format!("this life is to leave: {why}"),
        Input::Restart => "the agent is to restart".to_owned(),
        Input::Cluster(_) => "a new configuration".to_owned(),
    };
    words.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

fn time(head: &Head, at: Time) -> String {
    let ms = head.unix_ms.saturating_add(at.0.saturating_sub(head.at_ms));
    UNIX_EPOCH
        .checked_add(Duration::from_millis(ms))
        .map_or_else(|| "(no time)".to_owned(), |time| humantime::format_rfc3339_millis(time).to_string())
}

fn since(head: &Head, at: Time) -> String {
    let ms = at.0.saturating_sub(head.at_ms);
    format!("+{}.{:03} s", ms / 1000, ms % 1000)
}
