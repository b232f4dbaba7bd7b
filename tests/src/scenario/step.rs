//! The language of a scenario's `steps`: one line, one thing that a person does or one thing that has to be so.
//!
//! ```text
//! kill a                                  # wires out and every process killed at once
//! wait db runs on b within 5s             # has to become so
//! expect c not fenced                     # has to be so now (since `mark`, or since the start)
//! always quorate b c for 3s               # has to stay so
//! ```

use std::time::Duration;

use crate::lab::trouble::{Context, Result, Trouble};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its number in the file, from 1.
    pub line: usize,
    /// As written.
    pub text: String,
    /// What it means.
    pub kind: Kind,
}

/// What a line means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Somebody does something.
    Do(Action),
    /// It becomes so within the time.
    Wait(Condition, Duration),
    /// It is so.
    Expect(Condition),
    /// It is so, and stays so for the time.
    Always(Condition, Duration),
}

/// What a person, an accident or the weather does to the lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Wires out and every process killed, at once.
    Kill(Vec<String>),
    /// The power goes, the wires stay.
    PowerOff(Vec<String>),
    /// Somebody presses the power button.
    Boot(Vec<String>),
    /// The host hangs until it is thawed.
    Freeze(String),
    /// It goes on.
    Thaw(String),
    /// Both directions between one end and others.
    Cut(String, Vec<String>),
    /// What one end sends to another no longer arrives.
    CutOneWay(String, String),
    /// Loses this share of what one end sends to another.
    Lose(u32, String, String),
    /// Mends all wires, or one end's.
    Heal(Option<String>),
    /// A BMC's knob.
    Bmc(String, BmcKnob),
    /// Something happens to the agent's process alone.
    Agent(String, AgentAct),
    /// Something happens to the witness or the broker.
    Service(Service, ServiceAct),
    /// The file that names every host is laid out, and every agent told to load it.
    Reload,
    /// The host's disk moves into another machine.
    SwapMachine(String),
    /// Something happens to a host's own disk.
    Disk(String, DiskAct),
    /// An intruder listens to what hosts send to one another.
    Listen(Duration),
    /// And sends all of it again.
    Replay,
    /// And sends it cut short, altered, and random bytes.
    Babble,
    /// A file of the scenario is laid in a host's /etc/palisade with this mode.
    Lay {
        /// The file, from the scenario's folder.
        file: String,
        /// On which host.
        host: String,
        /// Under which name.
        name: String,
        /// With which mode.
        mode: u32,
    },
    /// Every agent's and the witness's memory and processor time are measured and held against the budgets.
    Measure(Duration),
    /// Time goes by.
    Pass(Duration),
    /// `since` starts again here.
    Mark,
}

/// What a BMC is made to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BmcKnob {
    /// Its chassis takes that long for an order.
    Delay(Duration),
    /// Accepts orders, does nothing.
    Lie,
    /// Fails orders.
    Fail,
    /// Obeys again.
    Honest,
    /// Loses its own power: sessions and orders in progress are gone.
    Unplug,
    /// Comes back.
    PlugIn,
    /// Its wire is cut from every host.
    Unreachable,
}

/// What happens to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskAct {
    /// To the last byte.
    Fill,
    /// There is room again.
    Free,
    /// Every write waits, without an error.
    Hang,
    /// Writes come through again.
    GoOn,
}

/// What happens to an agent's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentAct {
    /// A planned restart (`systemctl restart`).
    Restart,
    /// SIGKILL; the supervisor starts it again.
    Crash,
    /// Another binary is laid in place, then a planned restart.
    Upgrade,
    /// `systemctl stop`.
    Stop,
    /// `systemctl start`.
    Start,
    /// `systemctl reload`.
    Reload,
}

/// Which service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// The witness.
    Witness,
    /// The broker.
    Broker,
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceAct {
    /// Killed.
    Stop,
    /// Started.
    Start,
    /// Killed and started.
    Restart,
}

/// Something that is so, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// These agents say that they hold a quorum.
    Quorate(Vec<String>),
    /// These agents answer and say that they hold none.
    NotQuorate(Vec<String>),
    /// Exactly one of these says that it holds a quorum.
    OneQuorate(Vec<String>),
    /// At most one of these says so.
    AtMostOneQuorate(Vec<String>),
    /// For each of these, the one that would fence it has proven the path, and names nothing that is not armed.
    Armed(Vec<String>),
    /// The last host's view is exactly the hosts before it.
    View(Vec<String>, String),
    /// The workload runs on exactly one host, one of these.
    RunsOn(String, Vec<String>),
    /// The workload runs nowhere.
    RunsNowhere(String),
    /// The same process that ran at the last mark runs, and no other has since.
    Untouched(String),
    /// Off was read from the host's BMC, says a survivor's journal.
    Fenced(String),
    /// No BMC was told to switch these off, and nobody holds a proof from their BMC.
    NotFenced(Vec<String>),
    /// Exactly one of these was fenced.
    OneFenced(Vec<String>),
    /// A journal holds this proof about a host.
    Dead(String, String),
    /// Nobody holds any proof about this host.
    NotDead(String),
    /// The host wrote such a record, containing these words.
    Says(String, String, String),
    /// It wrote no such record.
    NeverSays(String, String),
    /// The host has dropped packets for this reason, say its metrics.
    Counts(String, String),
    /// `palisade why VICTIM` on a host contains these words.
    Why(String, String, String),
    /// `palisade ARGS` on a host exits with this code and its words contain these.
    Cli(String, Vec<String>, i32, String),
    /// The host has power.
    On(Vec<String>),
    /// It has none.
    Off(Vec<String>),
}

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
        ["measure", "for", time] => Action::Measure(duration(time)?),
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
        _ => {
            return Err(Trouble::new("bmc: delay TIME, lies, fails, honest, unplug, plug-in or unreachable"));
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
        [host, "fenced"] => Condition::Fenced(name(host)),
        [host, "dead", "by", proof] => Condition::Dead(name(host), name(proof)),
        [host, "not", "dead"] => Condition::NotDead(name(host)),
        [host, "says", kind] => Condition::Says(name(host), name(kind), String::new()),
        [host, "says", kind, "with", said] => Condition::Says(name(host), name(kind), name(said)),
        [host, "never", "says", kind] => Condition::NeverSays(name(host), name(kind)),
        [host, "counts", reason, "packets"] => Condition::Counts(name(host), name(reason)),
        ["why", victim, "on", host, "contains", said] => Condition::Why(name(victim), name(host), name(said)),
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
