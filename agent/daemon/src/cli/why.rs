//! `palisade why`: the cause first, then what led to what on one screen, then what was not done.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use palisade_core::config::Cluster;

use super::terminal::{self, clip, fold};
use super::{Ended, Failure, WhyOptions, print};
use crate::api::why::{Entry, entry};
use crate::journal;
use crate::story::{self, Account, Moment, Names, Step};

/// The most records of one journal that are looked at, the newest: some months of a quiet cluster.
const RECORDS_MAX: usize = 20_000;
/// The most incidents that the overview shows, the newest.
const INCIDENTS_MAX: usize = 20;
/// The most lines about what was not done, where a screen has to hold everything.
const NOT_DONE_MAX: usize = 4;
/// The fewest lines of the time line, however small the screen.
const STEPS_MIN: usize = 5;

/// The paper on which an incident is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sheet {
    /// Lines are folded or clipped to it; `None`: whoever reads on cuts them.
    columns: Option<usize>,
    /// What does not fit is left out, the least first; `None`: everything is told.
    rows: Option<usize>,
}

impl Sheet {
    /// The operator's terminal; a pipe gets as many lines, each whole.
    fn here(all: bool) -> Self {
        let size = terminal::size();
        let rows = size.map_or(terminal::ROWS, |(_, rows)| rows);
        Self { columns: size.map(|(columns, _)| columns), rows: (!all).then_some(rows) }
    }
}

/// What is asked about.
#[derive(Debug, PartialEq, Eq)]
enum About<'a> {
    Everything,
    Host(&'a str),
    /// A record's number, and whose journal.
    Record(u64, Option<&'a str>),
}

impl<'a> About<'a> {
    /// `b`, `17`, `b:17`. A host may be named by digits alone.
    fn parse(word: Option<&'a str>, hosts: &[String]) -> Self {
        let Some(word) = word else { return Self::Everything };
        let known = |name: &str| hosts.iter().any(|host| host == name);
        let split = word.rsplit_once(':').and_then(|(host, n)| Some((host, n.parse().ok()?)));
        match (word.parse(), split) {
            (Ok(n), _) if !known(word) => Self::Record(n, None),
            (Err(_), Some((host, n))) if !known(word) => Self::Record(n, Some(host)),
            _ => Self::Host(word),
        }
    }
}

/// The records of every journal named, and how many older ones were not looked at.
struct Records {
    moments: Vec<Moment>,
    left_out: u64,
}

/// The incident that is asked about, of one journal, and that journal's records.
pub(super) fn account(journal: &Path, config: &Path, about: &str) -> Result<(Account, Vec<Entry>), Failure> {
    let names = names(config);
    let records = read(&[journal.to_owned()])?;
    let account = find(&records, &names, &About::parse(Some(about), &hosts(&records, &names)))?;
    Ok((account, records.moments.into_iter().map(|moment| moment.entry).collect()))
}

fn hosts(records: &Records, names: &Names) -> Vec<String> {
    let mut hosts = names.hosts.clone();
    hosts.extend(story::hosts(&records.moments));
    hosts.sort();
    hosts.dedup();
    hosts
}

pub(super) fn run(options: &WhyOptions) -> Ended {
    let WhyOptions { about, all, json, journal, config } = options;
    let names = names(config);
    let records = read(journal)?;
    let about = About::parse(about.as_deref(), &hosts(&records, &names));
    let account = match about {
        About::Everything if *all => {
            print(&everything(&records, *json)?);
            return Ok(ExitCode::SUCCESS);
        }
        About::Everything => {
            print(&overview(&records, &names, *json)?);
            return Ok(ExitCode::SUCCESS);
        }
        About::Host(_) | About::Record(..) => find(&records, &names, &about)?,
    };
    if *json {
        print(&to_json(&account, &records)?);
    } else {
        print(&render(&account, records.left_out, Sheet::here(*all)));
    }
    Ok(ExitCode::SUCCESS)
}

fn find(records: &Records, names: &Names, about: &About<'_>) -> Result<Account, Failure> {
    let known = hosts(records, names);
    match about {
        About::Host(host) if known.iter().any(|known| known == host) => {
            Ok(story::of_host(&records.moments, host, names))
        }
        About::Host(host) => {
            let known = if known.is_empty() { "nobody".to_owned() } else { known.join(", ") };
            Err(Failure::failed(format!(
                "the journal tells nothing about `{host}`; it tells about {known}; a record is asked for by its number"
            )))
        }
        About::Record(n, writer) => story::of_record(&records.moments, *n, *writer, names).ok_or_else(|| {
            let left_out = if records.left_out > 0 { " (older ones were not looked at)" } else { "" };
            Failure::failed(format!(
                "there is no record number {n} here{left_out}; `palisade why` lists what happened"
            ))
        }),
        About::Everything => Err(Failure::usage("name a host or a record")),
    }
}

fn read(journals: &[PathBuf]) -> Result<Records, Failure> {
    let mut left_out = 0;
    let mut all = Vec::new();
    for dir in journals {
        let mut newest: VecDeque<Entry> = VecDeque::new();
        let scanned = journal::scan(dir, |line| {
            // SAFE-12: a journal of any size is read with a bounded memory.
            if newest.len() >= RECORDS_MAX {
                newest.pop_front();
                left_out += 1;
            }
            newest.push_back(entry(line));
            ControlFlow::Continue(())
        });
        scanned.map_err(|error| {
            let what = if error.kind() == ErrorKind::PermissionDenied {
                "it is for root to read: try sudo"
            } else {
                "the agent writes its journal there; name another host's copy with --journal DIR"
            };
            Failure::failed(format!("{}: {error}; {what}", dir.display()))
        })?;
        all.push(newest.into());
    }
    Ok(Records { moments: story::merge(all), left_out })
}

/// Which host each device fences, where the configuration can be read: the journal alone is told without it.
fn names(config: &Path) -> Names {
    let Ok(text) = std::fs::read_to_string(config) else { return Names::default() };
    let Ok(cluster) = Cluster::parse(&text, "") else { return Names::default() };
    let host = |device: &palisade_core::config::Device| {
        Some((device.name().to_owned(), cluster.host(device.fences())?.name().to_owned()))
    };
    Names {
        devices: cluster.devices().iter().filter_map(host).collect(),
        hosts: cluster.hosts().iter().map(|host| host.name().to_owned()).collect(),
    }
}

fn to_json(account: &Account, records: &Records) -> Result<String, Failure> {
    #[derive(serde::Serialize)]
    struct Told<'a> {
        #[serde(flatten)]
        account: &'a Account,
        records: Vec<&'a Entry>,
        left_out: u64,
    }
    let entries =
        account.moments.iter().filter_map(|at| records.moments.get(*at)).map(|moment| &moment.entry);
    line(&Told { account, records: entries.collect(), left_out: records.left_out })
}

fn line(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map(|text| format!("{text}\n"))
        .map_err(|error| Failure::failed(error.to_string()))
}

/// One line for each thing that happened, the newest last.
fn overview(records: &Records, names: &Names, json: bool) -> Result<String, Failure> {
    let accounts = story::all(&records.moments, names);
    let newest = accounts.get(accounts.len().saturating_sub(INCIDENTS_MAX)..).unwrap_or_default();
    if json {
        return line(&serde_json::json!({ "incidents": newest, "left_out": records.left_out }));
    }
    let Some((first, last)) = records.moments.first().zip(records.moments.last()) else {
        return Err(Failure::failed("the journal is empty: no agent has written there yet"));
    };
    if newest.is_empty() {
        let (first, last) = (&first.entry.time, &last.entry.time);
        return Ok(format!("nothing has happened to any host from {first} to {last}\n"));
    }
    let mut text = String::new();
    for account in newest {
        let date = account.since.as_deref().and_then(|time| time.get(..10)).unwrap_or("-");
        text.push_str(&format!("{date}  {}\n", account.headline));
    }
    text.push_str("`palisade why HOST` tells the last of a host, `palisade why --all` every record\n");
    Ok(text)
}

/// Every record as it is.
fn everything(records: &Records, json: bool) -> Result<String, Failure> {
    let entries: Vec<Entry> = records.moments.iter().map(|moment| moment.entry.clone()).collect();
    let story = crate::api::why::Story { entries, left_out: records.left_out };
    if json { line(&story) } else { Ok(super::records::render(&story)) }
}

fn render(account: &Account, left_out: u64, sheet: Sheet) -> String {
    let mut head = match sheet.columns {
        Some(columns) => fold(&account.headline, columns),
        None => vec![account.headline.clone()],
    };
    if account.steps.is_empty() {
        return format!("{}\n", head.join("\n"));
    }
    head.push(clipped(&source(account, left_out), sheet));
    head.push(String::new());
    let mut undone = not_done(account, sheet);
    let width =
        account.steps.iter().map(|step| record(step).chars().count()).max().unwrap_or(0).max("RECORD".len());
    let title = format!("{:>9} {:>8}  {:width$}  WHAT", "SECONDS", "LATER", "RECORD");
    // The title, the empty line, the word about what is left out, and the prompt that follows.
    let taken = head.len() + undone.len() + 4;
    let room = sheet.rows.map_or(usize::MAX, |rows| rows.saturating_sub(taken).max(STEPS_MIN));
    let kept = weightiest(&account.steps, room);
    let missing = account.steps.len() - kept.len();
    if missing > 0 {
        undone.push(clipped(
            &format!(
                "({missing} lesser lines are left out; `palisade why {} --all` shows them)",
                account.host
            ),
            sheet,
        ));
    }
    let mut lines = head;
    lines.push(title);
    let mut before = None;
    for step in kept {
        // The time since the line that is shown, not since one that is not.
        let later = before.map_or(0, |at| step.at_ms - at);
        before = Some(step.at_ms);
        let times = if step.times > 1 { format!(" ({} times)", step.times) } else { String::new() };
        let (at, later) = (seconds(step.at_ms), seconds(later));
        let text = format!("{at:>9} {later:>8}  {:width$}  {}{times}", record(step), step.text);
        lines.push(clipped(&text, sheet));
    }
    lines.push(String::new());
    lines.extend(undone);
    lines.join("\n") + "\n"
}

/// How the record is asked for: whose journal, and its number there.
fn record(step: &Step) -> String {
    step.n.map_or_else(|| step.by.clone(), |n| format!("{}:{n}", step.by))
}

fn source(account: &Account, left_out: u64) -> String {
    let date = account.since.as_deref().and_then(|time| time.get(..10)).unwrap_or_default();
    let life =
        account.life.as_ref().map_or(String::new(), |life| format!("; life {life} of {}", account.host));
    let journals = if account.told_by.len() > 1 { "journals (whose clocks may differ)" } else { "journal" };
    let older =
        if left_out > 0 { format!("; {left_out} older records were not looked at") } else { String::new() };
    format!("{date}, UTC; told by the {journals} of {}{life}{older}", account.told_by.join(", "))
}

fn not_done(account: &Account, sheet: Sheet) -> Vec<String> {
    if account.not_done.is_empty() {
        return vec!["Nothing was held back.".to_owned()];
    }
    let most = if sheet.rows.is_some() { NOT_DONE_MAX } else { usize::MAX };
    let mut lines = vec!["Not done, and why:".to_owned()];
    lines.extend(account.not_done.iter().take(most).map(|text| clipped(&format!("- {text}"), sheet)));
    if account.not_done.len() > most {
        lines.push(format!("- and {} more (--all)", account.not_done.len() - most));
    }
    lines
}

fn clipped(text: &str, sheet: Sheet) -> String {
    // A sheet without an end shows whole lines: the terminal breaks them.
    sheet
        .columns
        .filter(|_| sheet.rows.is_some())
        .map_or_else(|| text.to_owned(), |columns| clip(text, columns))
}

/// The steps that say most, in their order.
fn weightiest(steps: &[Step], room: usize) -> Vec<&Step> {
    let mut places: Vec<usize> = (0..steps.len()).collect();
    places.sort_by_key(|at| steps.get(*at).map(|step| std::cmp::Reverse(step.weight)));
    places.truncate(room);
    places.sort_unstable();
    places.into_iter().filter_map(|at| steps.get(at)).collect()
}

/// `1.034`, or `12 min`.
fn seconds(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let size = ms.unsigned_abs();
    if size < 1_000_000 {
        format!("{sign}{}.{:03}", size / 1000, size % 1000)
    } else {
        format!("{sign}{} min", size / 60_000)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::TempDir;

    fn step(at_ms: i64, weight: u8) -> Step {
        let text = format!(
            "something of weight {weight}, told at {at_ms} and in many more words than a terminal has columns for"
        );
        Step { at_ms, after_ms: 0, by: "host-1".to_owned(), n: Some(7), text, times: 1, weight }
    }

    fn account(steps: usize) -> Account {
        Account {
            host: "host-2".to_owned(),
            life: Some("0123456789abcdef".to_owned()),
            cause: story::Cause::Fenced,
            headline: "host-2 was fenced at 14:03:22: not heard for 1.02 s by host-1 (coordinator, quorate 2 of 3); proven off by \
                       bmc-host-2 240 ms later (after 3 tries without a proof: no level could prove: bmc-host-2: no answer within \
                       4000 ms); db runs on host-1, 1.31 s after host-2 was last heard"
                .to_owned(),
            since: Some("2026-11-30T14:03:22.000Z".to_owned()),
            told_by: vec!["host-1".to_owned()],
            steps: (0..steps).map(|at| step(i64::try_from(at).unwrap() * 17, (at % 11) as u8)).collect(),
            not_done: (0..9).map(|at| format!("thing {at}: {}", "because ".repeat(20))).collect(),
            moments: Vec::new(),
        }
    }

    #[test]
    fn it_fits_a_small_terminal_and_keeps_what_says_most() {
        let small = Sheet { columns: Some(80), rows: Some(24) };
        for steps in [1, 5, 9, 40, 200] {
            let told = render(&account(steps), 3, small);
            assert!(told.lines().count() <= 23, "{steps}: {}\n{told}", told.lines().count());
            assert!(told.lines().all(|line| line.chars().count() <= 80), "{told}");
            assert!(
                told.starts_with(
                    "host-2 was fenced at 14:03:22: not heard for 1.02 s by host-1 (coordinator,\n"
                ),
                "{told}"
            );
        }
        let told = render(&account(40), 0, small);
        assert!(
            told.contains("weight 10")
                && !told.contains("weight 1,")
                && told.contains("lesser lines are left out"),
            "{told}"
        );
        let all = render(&account(40), 0, Sheet { columns: None, rows: None });
        assert!(all.lines().next().unwrap().ends_with("last heard"), "the first line is whole");
        assert!(all.contains("weight 1,") && all.contains("thing 8") && !all.contains("left out"), "{all}");
    }

    #[test]
    fn what_is_asked_about_is_a_host_or_a_record() {
        let hosts = ["b".to_owned(), "7".to_owned()];
        for (word, about) in [
            (None, About::Everything),
            (Some("b"), About::Host("b")),
            (Some("7"), About::Host("7")),
            (Some("17"), About::Record(17, None)),
            (Some("b:17"), About::Record(17, Some("b"))),
            (Some("b:x"), About::Host("b:x")),
        ] {
            assert_eq!(About::parse(word, &hosts), about);
        }
    }

    fn options(about: Option<&str>, journal: &Path) -> WhyOptions {
        WhyOptions {
            about: about.map(str::to_owned),
            all: false,
            json: false,
            journal: vec![journal.to_owned()],
            config: journal.join("none.toml"),
        }
    }

    #[test]
    fn an_empty_or_missing_journal_and_an_unknown_host_or_record_are_said() {
        let dir = TempDir::new();
        let says = |about: Option<&str>, dir: &Path| run(&options(about, dir)).unwrap_err().message;
        assert!(says(None, dir.path()).contains("the journal is empty"));
        assert!(says(Some("b"), dir.path()).contains("tells nothing about `b`; it tells about nobody"));
        assert!(says(Some("12"), dir.path()).contains("there is no record number 12"));
        assert!(says(None, &dir.path().join("none")).contains("the agent writes its journal there"));
    }

    #[test]
    fn a_real_journal_is_told_listed_and_given_as_json() {
        use palisade_core::record::{Event, Lost, Who};
        let who = |host: &str| Who { host: host.to_owned(), life: "0123456789abcdef".to_owned() };
        let dir = TempDir::new();
        let opened =
            crate::journal::Journal::open(crate::journal::Options::new(dir.path().to_owned(), "a", [1; 8]));
        let (mut journal, _durable) = opened.unwrap();
        let lost = vec![Lost { who: who("b"), silent_ms: 1021 }];
        journal.try_append(&Event::View { view: vec![who("a")], lost }, None).unwrap();
        journal
            .try_append(
                &Event::FenceDecided { victim: who("b"), because: "not heard for 1021 ms".into() },
                None,
            )
            .unwrap();
        journal.try_append(&json!({ "kind": "of_a_later_version" }), None).unwrap();
        crate::testing::run(async { journal.close().await.unwrap() });
        for about in [None, Some("b"), Some("2"), Some("a:2")] {
            assert_eq!(run(&options(about, dir.path())).unwrap(), ExitCode::SUCCESS, "{about:?}");
        }
        let records = read(&[dir.path().to_owned()]).unwrap();
        let listed = overview(&records, &Names::default(), false).unwrap();
        assert!(
            listed.contains("  b was NOT fenced: nothing was ordered yet; not heard for 1.02 s by a"),
            "{listed}"
        );
        let account = story::of_host(&records.moments, "b", &Names::default());
        let told: serde_json::Value = serde_json::from_str(&to_json(&account, &records).unwrap()).unwrap();
        assert_eq!(
            (told["cause"].as_str(), told["records"].as_array().map(Vec::len)),
            (Some("not_fenced"), Some(2))
        );
        assert!(everything(&records, false).unwrap().contains("of a later version"));
    }
}
