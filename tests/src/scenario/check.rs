//! Whether a condition holds, by what hosts, BMCs and workloads show.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use super::step::Condition;
use crate::lab::hardware::host_address;
use crate::lab::journal::Line;
use crate::lab::trouble::{Result, Trouble};
use crate::lab::workload::Run;
use crate::lab::{Lab, api, shell, snmp};

/// The proof that a BMC gives.
const POWER_OFF: &str = "power_off";

/// Where `since` begins: the ends of all journals and order logs, and who ran what.
#[derive(Clone, Debug, Default)]
pub struct Mark {
    journal: BTreeMap<String, u64>,
    orders: BTreeMap<String, usize>,
    running: BTreeMap<String, Run>,
}

impl Mark {
    /// The lab as it is now.
    ///
    /// # Errors
    /// Never for the lab's own hosts.
    pub fn now(lab: &Lab) -> Result<Self> {
        let mut mark = Self::default();
        for host in &lab.hardware.hosts {
            let last = lab.journal(host)?.last().map(|line| line.number);
            mark.journal.insert(host.clone(), last.map_or(0, |number| number + 1));
            mark.orders.insert(host.clone(), orders(lab, host)?.len());
        }
        for workload in &lab.hardware.workload {
            if let Some(run) = lab.runs(&workload.name).pop() {
                mark.running.insert(workload.name.clone(), run);
            }
        }
        Ok(mark)
    }

    /// A host's records since the mark.
    fn since(&self, lab: &Lab, host: &str) -> Result<Vec<Line>> {
        let first = self.journal.get(host).copied().unwrap_or(0);
        Ok(lab.journal(host)?.into_iter().filter(|line| line.number >= first).collect())
    }

    /// Every host's records since the mark.
    ///
    /// # Errors
    /// Never for the lab's own hosts.
    pub fn all_since(&self, lab: &Lab) -> Result<Vec<Line>> {
        let mut lines = Vec::new();
        for host in &lab.hardware.hosts {
            lines.extend(self.since(lab, host)?);
        }
        Ok(lines)
    }

    /// Orders to switch off that a host's BMC took since the mark.
    fn shots(&self, lab: &Lab, host: &str) -> Result<usize> {
        let first = self.orders.get(host).copied().unwrap_or(0);
        let shot = |order: &&String| !order.ends_with(" power 1");
        Ok(orders(lab, host)?.iter().skip(first).filter(shot).count())
    }
}

fn orders(lab: &Lab, host: &str) -> Result<Vec<String>> {
    let log = fs::read_to_string(lab.machine(host)?.dir.join("bmc/orders.log")).unwrap_or_default();
    Ok(log.lines().map(str::to_owned).collect())
}

/// `Ok` when the condition holds; otherwise what is so instead.
///
/// # Errors
/// It does not hold.
pub fn check(lab: &Lab, mark: &Mark, condition: &Condition) -> Result<()> {
    match condition {
        Condition::Quorate(hosts) => hosts.iter().try_for_each(|host| says_quorate(lab, host, true)),
        Condition::NotQuorate(hosts) => hosts.iter().try_for_each(|host| says_quorate(lab, host, false)),
        Condition::OneQuorate(hosts) => {
            let quorate: Vec<_> = hosts.iter().filter(|host| says_quorate(lab, host, true).is_ok()).collect();
            demand(quorate.len() == 1, || format!("quorate: {quorate:?}"))
        }
        Condition::AtMostOneQuorate(hosts) => {
            let quorate: Vec<_> = hosts.iter().filter(|host| says_quorate(lab, host, true).is_ok()).collect();
            demand(quorate.len() <= 1, || format!("quorate: {quorate:?}"))
        }
        Condition::Armed(hosts) => hosts.iter().try_for_each(|victim| {
            // The coordinator fences; when it is the victim itself, its deputy does.
            let fencer = hosts.iter().find(|host| *host != victim);
            fencer.map_or(Ok(()), |fencer| armed(lab, fencer, victim))
        }),
        Condition::View(hosts, on) => {
            let status = api::status(lab.machine(on)?)?;
            let mut view = texts(status.get("view"));
            view.sort();
            let mut hosts = hosts.clone();
            hosts.sort();
            demand(view == hosts, || format!("{on} stands with {view:?}"))
        }
        Condition::RunsOn(workload, hosts) => {
            let on = lab.runs_on(workload);
            demand(on.len() == 1 && on.iter().all(|host| hosts.contains(host)), || {
                format!("{workload} runs on {on:?}")
            })
        }
        Condition::RunsNowhere(workload) => {
            let on = lab.runs_on(workload);
            demand(on.is_empty(), || format!("{workload} runs on {on:?}"))
        }
        Condition::Untouched(workload) => untouched(lab, mark, workload),
        Condition::Fenced(host) => {
            demand(fenced(lab, mark, host)?, || format!("{host}: no journal holds a power-off proof"))
        }
        Condition::NotFenced(hosts) => hosts.iter().try_for_each(|host| {
            let shots = mark.shots(lab, host)?;
            demand(shots == 0 && !fenced(lab, mark, host)?, || {
                format!("{host} was fenced ({shots} orders to its BMC)")
            })
        }),
        Condition::Reaches(one, other, wanted) => {
            let address = host_address(1, lab.hardware.id(other)?);
            let reached = lab.network.reaches(one, &address)?;
            demand(reached == *wanted, || {
                format!("{one} {} {other}", if reached { "reaches" } else { "does not reach" })
            })
        }
        Condition::Port(port, wanted) => {
            let open = snmp::is_open(&lab.network, port)?;
            demand(open == *wanted, || format!("port {port} is {}", if open { "open" } else { "closed" }))
        }
        Condition::OneFenced(hosts) => the_fenced(lab, mark, hosts).map(drop),
        Condition::Dead(host, proof) => {
            let held = proofs(&mark.all_since(lab)?, host);
            demand(held.contains(proof), || format!("proofs about {host}: {held:?}"))
        }
        Condition::NotDead(host) => {
            let held = proofs(&mark.all_since(lab)?, host);
            demand(held.is_empty(), || format!("proofs about {host}: {held:?}"))
        }
        Condition::Says(host, kind, words) => {
            let lines = mark.since(lab, host)?;
            let found =
                lines.iter().any(|line| line.kind == *kind && unquoted(line).contains(words.as_str()));
            demand(found, || format!("{host} wrote {:?}", kinds(&lines)))
        }
        Condition::Shows(host, words) => {
            let shown = shell::read(&lab.machine(host)?.dir.join("kmsg"))?;
            demand(shown.contains(words.as_str()), || format!("{host}'s console: {shown:?}"))
        }
        Condition::Finds(host, probe, verdict) => {
            let status = api::status(lab.machine(host)?)?;
            let ills = status.get("ills").and_then(Value::as_array).cloned().unwrap_or_default();
            let ill = ills.iter().find(|ill| ill.get("probe").and_then(Value::as_str) == Some(probe));
            let found = ill.map_or(Some("healthy"), |ill| ill.get("verdict").and_then(Value::as_str));
            demand(found == Some(verdict), || format!("{host} finds {probe} {found:?}: {ill:?}"))
        }
        Condition::Reboots(host) => {
            demand(told_to_reboot(lab, host)?, || format!("{host} has not told its kernel to reboot"))
        }
        Condition::NeverReboots(host) => {
            demand(!told_to_reboot(lab, host)?, || format!("{host} has told its kernel to reboot"))
        }
        Condition::NeverSays(host, kind) => {
            let said = mark.since(lab, host)?.into_iter().find(|line| line.kind == *kind);
            demand(said.is_none(), || {
                format!("{host} wrote {}", said.map(|line| line.text()).unwrap_or_default())
            })
        }
        Condition::CentralHasAll(hosts) => hosts.iter().try_for_each(|host| central_has_all(lab, host)),
        Condition::Counts(host, reason) => {
            let name = format!("palisade_packets_dropped_total{{reason=\"{reason}\"}}");
            let count = api::metric(lab.machine(host)?, &name)?;
            demand(count > 0, || format!("{host} has dropped no {reason} packets"))
        }
        Condition::Why(victim, host, words) => {
            let done = lab.cli(host, &["why", victim])?;
            demand(done.text.contains(words.as_str()), || format!("palisade why {victim}:\n{}", done.text))
        }
        Condition::WhyBegins(victim, host, words) => why_begins(lab, victim, host, words),
        Condition::WhyTheLoser(hosts, words) => {
            let loser = the_fenced(lab, mark, hosts).or_else(|_| {
                let loser = hosts.iter().find(|host| says_quorate(lab, host, true).is_err());
                loser.ok_or_else(|| Trouble::new("nobody was fenced, and nobody is without a quorum"))
            })?;
            let teller = hosts.iter().find(|host| *host != loser).unwrap_or(loser);
            why_begins(lab, loser, teller, words)
        }
        Condition::Cli(host, arguments, code, words) => {
            let done = lab.cli(host, &arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
            demand(done.code == Some(*code) && done.text.contains(words.as_str()), || {
                format!("exit {:?}: {}", done.code, done.text)
            })
        }
        Condition::SecretsHidden => secrets(lab, None),
        Condition::SecretsShownBy(program) => secrets(lab, Some(program)),
        Condition::On(hosts) => hosts.iter().try_for_each(|host| {
            let on = lab.machine(host)?.is_on();
            demand(on, || format!("{host} is off"))
        }),
        Condition::Off(hosts) => hosts.iter().try_for_each(|host| {
            let on = lab.machine(host)?.is_on();
            demand(!on, || format!("{host} is on"))
        }),
    }
}

/// A lab's kernel may know no sysrq, and obeys none that its hosts give: what is said right before is seen.
fn told_to_reboot(lab: &Lab, host: &str) -> Result<bool> {
    Ok(shell::read(&lab.machine(host)?.dir.join("kmsg"))?.contains("palisade: reboots this host: "))
}

/// What holds in every scenario, whatever its steps say.
///
/// # Errors
/// A workload ran twice at once, or a proof has no reading before it.
pub fn invariants(lab: &Lab) -> Result<()> {
    for workload in &lab.hardware.workload {
        let runs = lab.runs(&workload.name);
        if let Some((earlier, later)) = crate::lab::workload::ran_twice(&runs) {
            return Err(Trouble::new(format!(
                "{} ran twice at once: {earlier:?} and {later:?}",
                workload.name
            )));
        }
    }
    for host in &lab.hardware.hosts {
        let lines = lab.journal(host)?;
        for (position, line) in lines.iter().enumerate() {
            if line.kind == "dead" && text(line.event.get("proof")) == POWER_OFF {
                let victim = name(line.event.get("victim"));
                // SAFE-4: a proof stands on a reading, and the reading stands before it in the same journal.
                let read = lines.iter().take(position).any(|earlier| {
                    earlier.kind == "order_answered" && name(earlier.event.get("victim")) == victim
                });
                if !read {
                    return Err(Trouble::new(format!(
                        "{host} holds a power-off proof of {victim} without a reading"
                    )));
                }
            }
        }
    }
    Ok(())
}

/// The only one of these that was fenced.
fn the_fenced<'a>(lab: &Lab, mark: &Mark, hosts: &'a [String]) -> Result<&'a String> {
    let mut shot = Vec::new();
    for host in hosts {
        if fenced(lab, mark, host)? {
            shot.push(host);
        }
    }
    match shot.as_slice() {
        [one] => Ok(one),
        _ => Err(Trouble::new(format!("fenced: {shot:?}"))),
    }
}

fn why_begins(lab: &Lab, victim: &str, host: &str, words: &str) -> Result<()> {
    let done = lab.cli(host, &["why", victim])?;
    let first = done.text.lines().next().unwrap_or_default();
    demand(begins(first, words), || format!("palisade why {victim} on {host} begins: {first}"))
}

/// Whether a line begins with these words, in their order, where `...` stands for any others.
fn begins(line: &str, words: &str) -> bool {
    let mut rest = line;
    words.split("...").map(str::trim).enumerate().all(|(at, part)| {
        let found =
            if at == 0 { rest.strip_prefix(part) } else { rest.split_once(part).map(|(_, after)| after) };
        found.map(|after| rest = after).is_some()
    })
}

fn demand(holds: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Trouble::new(otherwise())) }
}

fn says_quorate(lab: &Lab, host: &str, wanted: bool) -> Result<()> {
    let status = api::status(lab.machine(host)?)?;
    let quorate = status.get("quorate").and_then(Value::as_bool);
    demand(quorate == Some(wanted), || {
        format!("{host}: quorate {quorate:?}, stands with {:?}", texts(status.get("view")))
    })
}

fn armed(lab: &Lab, fencer: &str, victim: &str) -> Result<()> {
    let status = api::status(lab.machine(fencer)?)?;
    // A container without CAP_SYS_RESOURCE cannot protect anybody from the out-of-memory killer; that is the lab's fault.
    let missing = texts(status.get("not_armed"));
    let missing: Vec<_> = missing.iter().filter(|reason| !reason.contains("out-of-memory")).collect();
    demand(missing.is_empty(), || format!("{fencer} is not armed: {missing:?}"))?;
    let paths = status.get("fence_paths").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let paths: Vec<_> = paths.iter().filter(|path| text(path.get("fences")) == victim).collect();
    let proven = |path: &&Value| path.get("proven_ms").is_some_and(Value::is_number);
    demand(!paths.is_empty() && paths.iter().all(proven), || {
        format!("{fencer} has not proven how to fence {victim}: {paths:?}")
    })
}

/// What the journal holds is what monitoring heard: the same records at the same times, in the same order, whatever came twice.
fn central_has_all(lab: &Lab, host: &str) -> Result<()> {
    let log = shell::read(&lab.dir.join("central/central.log"))?;
    let (mut ids, mut heard) = (BTreeSet::new(), Vec::new());
    for line in log.lines() {
        let Some((topic, payload)) = line.split_once(' ') else { continue };
        let Ok(said) = serde_json::from_str::<Value>(payload) else { continue };
        if topic.ends_with("/event") && text(said.get("host")) == host && ids.insert(text(said.get("id"))) {
            let boot_ms = said.get("boot_us").and_then(Value::as_u64).unwrap_or_default() / 1000;
            heard.push((boot_ms, said.get("event").cloned().unwrap_or_default()));
        }
    }
    let own = ["journal_torn", "journal_gap"];
    let lines = lab.journal(host)?.into_iter().filter(|line| !own.contains(&line.kind.as_str()));
    let written: Vec<_> = lines.map(|line| (line.boot_ms, line.event)).collect();
    let same = written.iter().zip(&heard).take_while(|(written, heard)| written == heard).count();
    demand(!written.is_empty() && same == written.len() && same == heard.len(), || {
        format!(
            "{host}: {} records and {} heard; they part at {same}: {:?} and {:?}",
            written.len(),
            heard.len(),
            written.get(same),
            heard.get(same)
        )
    })
}

fn secrets(lab: &Lab, but: Option<&str>) -> Result<()> {
    let Some(spy) = &lab.spy else { return Err(Trouble::new("nobody looks: `watch secrets` comes first")) };
    let (shown, programs) = (spy.shown(), spy.programs());
    demand(programs.contains("palisade"), || format!("looked at no agent, only at {programs:?}"))?;
    demand(but.is_none_or(|but| shown.iter().any(|(program, _)| program == but)), || {
        format!("{but:?} showed none; looked at {programs:?}")
    })?;
    demand(shown.iter().all(|(program, _)| Some(program.as_str()) == but), || format!("shown by {shown:?}"))?;
    for machine in lab.machines.values() {
        let mut written = spy.written(&machine.dir.join("var"));
        written.extend(spy.written(&machine.dir.join("agent.log")));
        demand(written.is_empty(), || format!("written down: {written:?}"))?;
    }
    Ok(())
}

fn untouched(lab: &Lab, mark: &Mark, workload: &str) -> Result<()> {
    let runs = lab.runs(workload);
    let (Some(before), Some(now)) = (mark.running.get(workload), runs.last()) else {
        return Err(Trouble::new(format!("{workload} did not run at the mark")));
    };
    let same = (&before.host, &before.boot_id, before.pid) == (&now.host, &now.boot_id, now.pid);
    demand(same && lab.runs_on(workload).len() == 1, || format!("{workload}: {before:?} then, {now:?} now"))
}

fn fenced(lab: &Lab, mark: &Mark, host: &str) -> Result<bool> {
    Ok(proofs(&mark.all_since(lab)?, host).iter().any(|proof| proof == POWER_OFF))
}

fn proofs(lines: &[Line], host: &str) -> Vec<String> {
    let about = lines.iter().filter(|line| line.kind == "dead" && name(line.event.get("victim")) == host);
    about.map(|line| text(line.event.get("proof"))).collect()
}

/// A record as `key:value` without quotation marks, so that a step can name both.
fn unquoted(line: &Line) -> String {
    line.text().replace('"', "")
}

fn kinds(lines: &[Line]) -> Vec<&str> {
    lines.iter().map(|line| line.kind.as_str()).collect()
}

/// The host of a record's `{"host": ..., "life": ...}`.
#[must_use]
pub fn name(who: Option<&Value>) -> String {
    text(who.and_then(|who| who.get("host")))
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn texts(value: Option<&Value>) -> Vec<String> {
    let all = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::begins;

    #[test]
    fn a_first_line_is_held_against_words_in_their_order() {
        let line =
            "a was fenced at 14:03:22: not heard for 1.02 s by b (quorate 2 of 3); proven off by bmc-a";
        for so in ["a was fenced", "a was fenced at ... by b ... proven off by bmc-a", "... proven off", ""] {
            assert!(begins(line, so), "{so}");
        }
        for not in ["was fenced", "a was NOT fenced", "a was fenced ... proven off ... by b (", "... bmc-b"] {
            assert!(!begins(line, not), "{not}");
        }
    }
}
