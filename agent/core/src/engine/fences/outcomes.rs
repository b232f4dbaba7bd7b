//! What a fence has to tell, and what follows.

use palisade_ladder::{Effect, Exhaustion, Failure, Outcome, Reading, Response};
use palisade_proto::mutant::{self, Mutant};
use palisade_proto::{HostId, Incarnation};

use super::super::Engine;
use crate::record::Event;

impl Engine {
    pub(super) fn take_outcome(&mut self, who: Incarnation, effect: Effect, outcome: Outcome) {
        let key = match effect {
            Effect::Power => format!("fence {}", who.host),
            Effect::Storage | Effect::Network => format!("isolate {}", who.host),
        };
        let (name, now) = (self.name(who.host).to_owned(), self.now);
        match outcome {
            Outcome::Proven(proof) => {
                self.alarms.clear(&mut self.actions, &key);
                if mutant::on(Mutant::ProofNamesTheLiving) {
                    let now_there: Vec<Incarnation> = self.electorate.of_host(who.host).collect();
                    now_there.into_iter().for_each(|life| {
                        self.bury(palisade_ladder::Proof::gossiped(life, who, false, now));
                    });
                }
                if !proof.kills() {
                    return self.isolate(proof);
                }
                self.bury(proof);
                // What was closed is opened before the host comes back: else nobody could hear it.
                self.end_isolation(who);
                let kept = match () {
                    () if self.keeps_out(who.host) => Some("it is in maintenance"),
                    () if self.is_quarantined(who.host) => Some("it is quarantined: it was fenced too often"),
                    () => None,
                };
                if let Some(why) = kept {
                    let what = format!("giving {name} its power back");
                    self.record(Event::Withheld { what, why: why.to_owned() });
                } else if let Some(running) = self.fences.running.get_mut(&who) {
                    running.power.give_back(now);
                }
            }
            Outcome::Assumed { device, attempt } => {
                let what = format!("taking {name} for {} after try {attempt}", proven_as(effect));
                let why = format!(
                    "{} acknowledged the off, but nothing could be read back",
                    self.device_name(device)
                );
                self.record(Event::Withheld { what, why });
            }
            Outcome::Withheld { device, reads } => {
                let what = match effect {
                    Effect::Power => format!("cutting the power of {name}"),
                    Effect::Storage => format!("cutting {name} from its storage"),
                    Effect::Network => format!("cutting {name} from the network"),
                };
                let why = format!(
                    "the fence budget is spent and {} reads {}",
                    self.device_name(device),
                    reading_in_words(reads)
                );
                self.record(Event::Withheld { what, why });
            }
            Outcome::WrongIdentity { device, failure } => {
                let what = format!(
                    "{}: {failure}; nothing was ordered, and it is not used again for this fence",
                    self.device_name(device)
                );
                self.alarms.raise_for(&mut self.actions, format!("identity {}", device.0), what);
            }
            Outcome::LevelFailed { level, setbacks } => {
                let level = self.level_number(who.host, effect, level);
                let what = format!("taking {name} for {} by fence level {level}", proven_as(effect));
                let told: Vec<String> = setbacks
                    .iter()
                    .map(|(device, setback)| match self.is_wall(*device) {
                        true => {
                            let lack = self.walls_lack(who).into_iter().map(|host| self.name(host));
                            let lack = lack.collect::<Vec<_>>().join(", ");
                            format!("{}: {setback}; not read back by {lack}", self.device_name(*device))
                        }
                        false => format!("{}: {setback}", self.device_name(*device)),
                    })
                    .collect();
                let why = if told.is_empty() { "it has no device".to_owned() } else { told.join("; ") };
                if let Some(running) = self.fences.running.get_mut(&who) {
                    if effect == Effect::Power {
                        running.power_failed = running.power_failed.max(Some(level));
                    }
                    running.setbacks.clone_from(&why);
                }
                self.record(Event::Withheld { what, why });
            }
            Outcome::Exhausted { why, retry_at } => {
                let why = match why {
                    Exhaustion::EveryLevelFailed => "no level could prove",
                    Exhaustion::OrderDeadline => "the order's deadline passed",
                    Exhaustion::NothingToTry => "there is no device to try",
                };
                let setbacks = self.fences.running.get(&who).map_or("", |running| running.setbacks.as_str());
                let why = if setbacks.is_empty() { why.to_owned() } else { format!("{why}: {setbacks}") };
                let retry_in_ms = retry_at.map_or(0, |at| at.since(now).0);
                let victim = self.who(who);
                self.record(Event::FenceFailed { victim, why: why.clone(), retry_in_ms });
                if let Some(running) = self.fences.running.get_mut(&who)
                    && effect == Effect::Power
                {
                    running.power_failed = Some(u8::MAX);
                }
                let what = match effect {
                    Effect::Power => format!(
                        "{name} cannot be fenced ({why}); what isolation does not free stays down until it is proven dead; if it surely is, say `palisade confirm {name}`"
                    ),
                    Effect::Storage | Effect::Network => format!("{name} cannot be isolated ({why})"),
                };
                self.alarms.raise_for(&mut self.actions, key, what);
            }
            Outcome::Restored { .. } => {}
            Outcome::NotRestored { device, setback } => {
                let what = format!(
                    "{name} stays off: {} did not give the power back ({setback})",
                    self.device_name(device)
                );
                self.alarms.raise_for(&mut self.actions, format!("power {}", who.host), what);
                // Tried again until it is back, or nobody wants it any more.
                self.power_owed.insert(who.host, now);
            }
        }
    }

    /// How the configuration numbers the nth level of a chain.
    fn level_number(&self, host: HostId, effect: Effect, nth: usize) -> u8 {
        let levels: std::collections::BTreeSet<u8> =
            self.devices_of(host, effect).map(|(_, device)| device.level()).collect();
        levels.into_iter().nth(nth).unwrap_or(0)
    }
}

fn proven_as(effect: Effect) -> &'static str {
    match effect {
        Effect::Power => "dead",
        Effect::Storage => "cut from its storage",
        Effect::Network => "cut from the network",
    }
}

pub(super) fn answer_in_words(answer: &Result<Response, Failure>) -> String {
    match answer {
        Ok(Response::Acknowledged) => "acknowledged".to_owned(),
        Ok(Response::AlreadySo) => "refused, it is so already".to_owned(),
        Ok(Response::Reads(reading)) => format!("reads {}", reading_in_words(*reading)),
        Ok(Response::Proven(proven)) => format!("works, identity {}", proven.identity),
        Err(failure) => failure.to_string(),
    }
}

fn reading_in_words(reading: Reading) -> &'static str {
    match reading {
        Reading::On => "on",
        Reading::Off => "off",
        Reading::Unknown => "neither on nor off",
    }
}
