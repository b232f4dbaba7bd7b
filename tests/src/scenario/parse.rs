//! Reading the language of `steps`: words of a line to a [`Step`], or the line and what is wrong with it.

use std::time::Duration;

use super::step::{Action, AgentAct, BmcKnob, Condition, DiskAct, Kind, Service, ServiceAct, Step};
use crate::lab::trouble::{Context, Result, Trouble};

/// Reads a whole `steps` file.
///
/// # Errors
/// Names the first line that is not in the language.
pub fn parse(text: &str) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let words = words(line);
        if words.is_empty() {
            continue;
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let line_number = number + 1;
        let kind = kind(&words).during(format!("steps, line {line_number}: {}", line.trim()))?;
        steps.push(Step { line: line_number, text: line.trim().into(), kind });
    }
    Ok(steps)
}

/// Words of a line; "quoted words" are one, `#` begins a comment.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut quoted, mut open) = (false, false);
    for letter in line.chars() {
        match letter {
            '"' => {
                open |= !quoted;
                quoted = !quoted;
            }
            '#' if !quoted => break,
            letter if letter.is_whitespace() && !quoted => {
                if open || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                open = false;
            }
            letter => word.push(letter),
        }
    }
    if open || !word.is_empty() {
        words.push(word);
    }
    words
}

fn kind(words: &[&str]) -> Result<Kind> {
    match words {
        ["wait", said @ .., "within", time] => Ok(Kind::Wait(condition(said)?, duration(time)?)),
        ["always", said @ .., "for", time] => Ok(Kind::Always(condition(said)?, duration(time)?)),
        ["expect", said @ ..] => Ok(Kind::Expect(condition(said)?)),
        _ => Ok(Kind::Do(action(words)?)),
    }
}

fn action(words: &[&str]) -> Result<Action> {
    let name = |word: &&str| (*word).to_owned();
    Ok(match words {
        ["kill", hosts @ ..] if !hosts.is_empty() => Action::Kill(names(hosts)),
        ["power-off", hosts @ ..] if !hosts.is_empty() => Action::PowerOff(names(hosts)),
        ["boot", hosts @ ..] if !hosts.is_empty() => Action::Boot(names(hosts)),
        ["freeze", host] => Action::Freeze(name(host)),
        ["thaw", host] => Action::Thaw(name(host)),
        ["flush", host] => Action::Flush(name(host)),
        ["cut", one, "from", others @ ..] if !others.is_empty() => Action::Cut(name(one), names(others)),
        ["cut", one, "to", other] => Action::CutOneWay(name(one), name(other)),
        ["lose", share, "from", one, "to", other] => Action::Lose(percent(share)?, name(one), name(other)),
        ["heal"] => Action::Heal(None),
        ["heal", end] => Action::Heal(Some(name(end))),
        ["bmc", host, knob @ ..] => Action::Bmc(name(host), bmc_knob(knob)?),
        ["agent", host, act] => Action::Agent(name(host), agent_act(act)?),
        ["witness", act] => Action::Service(Service::Witness, service_act(act)?),
        ["broker", act] => Action::Service(Service::Broker, service_act(act)?),
        ["reload"] => Action::Reload,
        ["swap-machine", host] => Action::SwapMachine(name(host)),
        ["disk", host, act] => Action::Disk(name(host), disk_act(act)?),
        ["lay", file, "on", host, "mode", mode] => {
            let (_, last) = file.rsplit_once('/').unwrap_or(("", file));
            Action::Lay { file: name(file), host: name(host), name: last.into(), mode: octal(mode)? }
        }
        ["lay", file, "on", host, "as", place, "mode", mode] => {
            Action::Lay { file: name(file), host: name(host), name: name(place), mode: octal(mode)? }
        }
        ["intruder", "listens", "for", time] => Action::Listen(duration(time)?),
        ["intruder", "replays"] => Action::Replay,
        ["intruder", "babbles"] => Action::Babble,
        ["watch", "secrets"] => Action::WatchSecrets,
        ["measure", "for", time] => Action::Measure(duration(time)?),
        ["on", host, "run", command] => Action::Run(name(host), name(command)),
        ["pass", time] => Action::Pass(duration(time)?),
        ["mark"] => Action::Mark,
        _ => return Err(Trouble::new("not a step")),
    })
}

fn bmc_knob(words: &[&str]) -> Result<BmcKnob> {
    Ok(match words {
        ["delay", time] => BmcKnob::Delay(duration(time)?),
        ["lies"] => BmcKnob::Lie,
        ["fails"] => BmcKnob::Fail,
        ["honest"] => BmcKnob::Honest,
        ["unplug"] => BmcKnob::Unplug,
        ["plug-in"] => BmcKnob::PlugIn,
        ["unreachable"] => BmcKnob::Unreachable,
        ["new-password"] => BmcKnob::NewPassword,
        _ => {
            return Err(Trouble::new(
                "bmc: delay TIME, lies, fails, honest, unplug, plug-in, unreachable or new-password",
            ));
        }
    })
}

fn agent_act(word: &str) -> Result<AgentAct> {
    Ok(match word {
        "restart" => AgentAct::Restart,
        "crash" => AgentAct::Crash,
        "upgrade" => AgentAct::Upgrade,
        "stop" => AgentAct::Stop,
        "start" => AgentAct::Start,
        "reload" => AgentAct::Reload,
        _ => return Err(Trouble::new("agent: restart, crash, upgrade, stop, start or reload")),
    })
}

fn disk_act(word: &str) -> Result<DiskAct> {
    Ok(match word {
        "fills" => DiskAct::Fill,
        "is-freed" => DiskAct::Free,
        "hangs" => DiskAct::Hang,
        "goes-on" => DiskAct::GoOn,
        _ => return Err(Trouble::new("disk: fills, is-freed, hangs or goes-on")),
    })
}

fn service_act(word: &str) -> Result<ServiceAct> {
    Ok(match word {
        "stop" => ServiceAct::Stop,
        "start" => ServiceAct::Start,
        "restart" => ServiceAct::Restart,
        _ => return Err(Trouble::new("stop, start or restart")),
    })
}

fn condition(words: &[&str]) -> Result<Condition> {
    let name = |word: &&str| (*word).to_owned();
    Ok(match words {
        ["quorate", hosts @ ..] if !hosts.is_empty() => Condition::Quorate(names(hosts)),
        ["not", "quorate", hosts @ ..] if !hosts.is_empty() => Condition::NotQuorate(names(hosts)),
        ["one", "of", hosts @ .., "quorate"] => Condition::OneQuorate(names(hosts)),
        ["at", "most", "one", "of", hosts @ .., "quorate"] => Condition::AtMostOneQuorate(names(hosts)),
        ["armed", hosts @ ..] if !hosts.is_empty() => Condition::Armed(names(hosts)),
        ["view", hosts @ .., "on", host] => Condition::View(names(hosts), name(host)),
        [workload, "runs", "on", "one", "of", hosts @ ..] => Condition::RunsOn(name(workload), names(hosts)),
        [workload, "runs", "on", host] => Condition::RunsOn(name(workload), vec![name(host)]),
        [workload, "runs", "nowhere"] => Condition::RunsNowhere(name(workload)),
        [workload, "untouched"] => Condition::Untouched(name(workload)),
        ["one", "of", hosts @ .., "fenced"] => Condition::OneFenced(names(hosts)),
        [hosts @ .., "not", "fenced"] if !hosts.is_empty() => Condition::NotFenced(names(hosts)),
        [one, "reaches", other] => Condition::Reaches(name(one), name(other), true),
        [one, "cannot", "reach", other] => Condition::Reaches(name(one), name(other), false),
        ["port", port, "open"] => Condition::Port(name(port), true),
        ["port", port, "closed"] => Condition::Port(name(port), false),
        [host, "fenced"] => Condition::Fenced(name(host)),
        [host, "dead", "by", proof] => Condition::Dead(name(host), name(proof)),
        [host, "not", "dead"] => Condition::NotDead(name(host)),
        ["secrets", "hidden"] => Condition::SecretsHidden,
        ["secrets", "shown", "by", program, "alone"] => Condition::SecretsShownBy(name(program)),
        [host, "says", kind] => Condition::Says(name(host), name(kind), String::new()),
        [host, "says", kind, "with", said] => Condition::Says(name(host), name(kind), name(said)),
        [host, "finds", probe, verdict @ ("healthy" | "degraded" | "failed" | "unknown")] => {
            Condition::Finds(name(host), name(probe), name(verdict))
        }
        [host, "reboots", "itself"] => Condition::Reboots(name(host)),
        [host, "never", "reboots", "itself"] => Condition::NeverReboots(name(host)),
        ["console", "of", host, "shows", said] => Condition::Shows(name(host), name(said)),
        [host, "never", "says", kind] => Condition::NeverSays(name(host), name(kind)),
        ["central", "has", "all", "of", hosts @ ..] if !hosts.is_empty() => {
            Condition::CentralHasAll(names(hosts))
        }
        [host, "counts", reason, "packets"] => Condition::Counts(name(host), name(reason)),
        ["why", victim, "on", host, "contains", said] => Condition::Why(name(victim), name(host), name(said)),
        ["why", "the", "loser", "of", hosts @ .., "begins", said] if !hosts.is_empty() => {
            Condition::WhyTheLoser(names(hosts), name(said))
        }
        ["why", victim, "on", host, "begins", said] => {
            Condition::WhyBegins(name(victim), name(host), name(said))
        }
        ["palisade", arguments @ .., "on", host, "exits", code, "with", said] => {
            Condition::Cli(name(host), names(arguments), code.parse().during("an exit code")?, name(said))
        }
        ["on", hosts @ ..] if !hosts.is_empty() => Condition::On(names(hosts)),
        ["off", hosts @ ..] if !hosts.is_empty() => Condition::Off(names(hosts)),
        _ => return Err(Trouble::new("not a condition")),
    })
}

fn names(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn octal(word: &str) -> Result<u32> {
    u32::from_str_radix(word, 8).during("a mode like 0600")
}

fn percent(word: &str) -> Result<u32> {
    word.trim_end_matches('%').parse().during("a share like 30%")
}

/// `250ms`, `5s`, `2min`.
///
/// # Errors
/// Not a time.
pub fn duration(word: &str) -> Result<Duration> {
    let digits = word.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let count: u64 = digits.parse().during(format!("{word}: a time like 250ms, 5s or 2min"))?;
    match word.get(digits.len()..) {
        Some("ms") => Ok(Duration::from_millis(count)),
        Some("s") => Ok(Duration::from_secs(count)),
        Some("min") => Ok(Duration::from_secs(count * 60)),
        _ => Err(Trouble::new(format!("{word}: a time like 250ms, 5s or 2min"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Kind {
        parse(line).unwrap().remove(0).kind
    }

    #[test]
    fn a_line_reads_as_a_person_means_it() {
        assert_eq!(one("kill a b # both"), Kind::Do(Action::Kill(vec!["a".into(), "b".into()])));
        let runs = Condition::RunsOn("db".into(), vec!["b".into()]);
        assert_eq!(one("wait db runs on b within 5s"), Kind::Wait(runs, Duration::from_secs(5)));
        let not_fenced = Condition::NotFenced(vec!["a".into(), "c".into()]);
        assert_eq!(one("expect a c not fenced"), Kind::Expect(not_fenced));
        let why = Condition::Why("a".into(), "b".into(), "wrong password".into());
        assert_eq!(one("expect why a on b contains \"wrong password\""), Kind::Expect(why));
        let why = Condition::WhyBegins("a".into(), "b".into(), "a was fenced ... off by bmc-a".into());
        assert_eq!(one("expect why a on b begins \"a was fenced ... off by bmc-a\""), Kind::Expect(why));
        let why = Condition::WhyTheLoser(vec!["a".into(), "b".into()], "...".into());
        assert_eq!(one("expect why the loser of a b begins ..."), Kind::Expect(why));
        let unreached = Condition::Reaches("a".into(), "b".into(), false);
        assert_eq!(one("expect a cannot reach b"), Kind::Expect(unreached));
        assert_eq!(one("expect port a-1 closed"), Kind::Expect(Condition::Port("a-1".into(), false)));
        let run = Action::Run("a".into(), "touch /run/x".into());
        assert_eq!(one("on a run \"touch /run/x\""), Kind::Do(run));
        let finds = Condition::Finds("a".into(), "gateway".into(), "failed".into());
        assert_eq!(one("expect a finds gateway failed"), Kind::Expect(finds));
        let said = Condition::Says("b".into(), "alarm".into(), String::new());
        assert_eq!(one("always b says alarm for 2min"), Kind::Always(said, Duration::from_secs(120)));
    }

    #[test]
    fn a_line_that_is_not_in_the_language_is_named() {
        let trouble = parse("kill a\n\nwait db hopes within 5s").unwrap_err().to_string();
        assert_eq!(trouble, "steps, line 3: wait db hopes within 5s: not a condition");
        assert!(parse("pass soon").unwrap_err().to_string().contains("a time like"));
    }
}
