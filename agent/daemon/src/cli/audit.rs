//! `palisade audit`: the fence certificate, made on a host and verified anywhere; the journal's chain.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use palisade_core::config::{Cluster, Operator};
use palisade_core::record::Event;

use super::{AuditExportOptions, AuditVerifyOptions, CONFIG, Ended, Failure, configuration, print, why};
use crate::api::why::Entry;
use crate::certificate::{self, BYTES_MAX, Shown, Word, cross};
use crate::journal::{self, Broken, ChainError, LineHash};
use crate::story::{self, Account};

/// So many records before an incident may stand in its certificate, so that it shows who was counted and what stood.
const CONTEXT_RECORDS: u64 = 500;
/// The most records of a certificate; what is newer is named by its number alone.
const RECORDS_MAX: usize = 20_000;

pub(super) fn export(options: &AuditExportOptions) -> Ended {
    let AuditExportOptions { about, out, journal, config } = options;
    let (account, entries) = why::account(journal, config, about)?;
    let (first, last) = range(&account, &entries)
        .ok_or_else(|| Failure::failed(format!("nothing to certify: {}", account.headline)))?;
    let journal_of = entries.iter().find(|entry| entry.n == first).map_or("", |entry| entry.host.as_str());
    let copied = copy(journal, first)?;
    let held_until = copied.newest.0.min(first + copied.lines.len() as u64 - 1);
    if held_until < last {
        return Err(Failure::failed(format!(
            "the incident goes on to record {last}, and a certificate holds at most {RECORDS_MAX} records and {BYTES_MAX} bytes: keep \
             the journal's directory itself"
        )));
    }
    let made = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let bytes = certificate::make(
        &account.host,
        journal_of,
        &account.headline,
        &copied.lines,
        first,
        copied.newest,
        &made,
    )
    .map_err(|error| Failure::failed(error.to_string()))?;
    // What is given away holds, or it is said here and now.
    if let Err(flaw) = certificate::check(&bytes, &operators_here(config)) {
        return Err(Failure::failed(format!(
            "the journal does not hold, so no certificate was made: its record {}: {flaw}; `palisade audit verify {}` checks all of it",
            first + flaw.line.saturating_sub(2),
            journal.display()
        )));
    }
    match out {
        None => print(&String::from_utf8_lossy(&bytes)),
        Some(path) => {
            write_new(path, &bytes)?;
            print(&format!(
                "{}\nrecords {first} to {held_until} of {journal_of} are in {}; check it with `palisade audit verify {}`\n",
                account.headline,
                path.display(),
                path.display()
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// From the beginning of the life that tells (if that is near) to the incident's last record.
fn range(account: &Account, entries: &[Entry]) -> Option<(u64, u64)> {
    let of_it = || account.moments.iter().filter_map(|at| entries.get(*at));
    let (begins, last) = (of_it().map(|entry| entry.n).min()?, of_it().map(|entry| entry.n).max()?);
    let life = &of_it().find(|entry| entry.n == begins)?.life;
    let from = begins.saturating_sub(CONTEXT_RECORDS);
    let near = entries.iter().filter(|entry| (from..=begins).contains(&entry.n) && entry.life == *life);
    Some((near.map(|entry| entry.n).min().unwrap_or(begins), last))
}

struct Copied {
    lines: Vec<Vec<u8>>,
    newest: (u64, LineHash),
}

/// The journal's lines from `first` on, as they lie there.
fn copy(journal: &Path, first: u64) -> Result<Copied, Failure> {
    let mut copied = Copied { lines: Vec::new(), newest: (0, LineHash::NONE) };
    let mut bytes = 0;
    let scanned = journal::scan_raw(journal, |raw, hash, line| {
        copied.newest = (line.n, hash);
        // SAFE-12: a certificate is held in memory.
        let fits = copied.lines.len() < RECORDS_MAX && bytes + raw.len() < BYTES_MAX - (1 << 20);
        let in_order = line.n == first + copied.lines.len() as u64;
        if line.n >= first && fits && in_order {
            bytes += raw.len() + 1;
            copied.lines.push(raw.to_vec());
        }
        ControlFlow::Continue(())
    });
    scanned.map_err(|error| Failure::failed(format!("{}: {error}", journal.display())))?;
    Ok(copied)
}

/// Never over another file: it may be the only copy of another incident.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o600).open(path);
    opened
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(|error| Failure::failed(format!("{}: {error}; name a new file", path.display())))
}

pub(super) fn verify(options: &AuditVerifyOptions) -> Ended {
    let AuditVerifyOptions { paths, config, operator } = options;
    let operators = operators(config.as_deref(), operator)?;
    let (mut text, mut holds) = (String::new(), true);
    let mut shown = Vec::new();
    for path in paths {
        let told = if path.is_dir() {
            journal_of(path, &operators)
        } else {
            one(path, &operators).map(|certificate| {
                let told = certificate_in_words(path, &certificate);
                shown.push(certificate);
                told
            })
        };
        match told {
            Ok(told) => text.push_str(&told),
            Err(failure) if failure.status == 2 => return Err(failure),
            Err(failure) => {
                holds = false;
                text.push_str(&format!("{}: DOES NOT HOLD: {}\n", path.display(), failure.message));
            }
        }
    }
    let findings = cross::check(&shown);
    holds &= !findings.iter().any(|finding| matches!(finding, cross::Finding::Contradict { .. }));
    findings.iter().for_each(|finding| text.push_str(&in_words(finding)));
    if let Some(first) = shown.first() {
        text.push_str(&limits(first, shown.len()));
    }
    print(&text);
    if holds { Ok(ExitCode::SUCCESS) } else { Err(Failure::failed("not all of it holds; see above")) }
}

fn one(path: &Path, operators: &[Operator]) -> Result<Shown, Failure> {
    let unreadable = |error: std::io::Error| Failure::usage(format!("{}: {error}", path.display()));
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    // SAFE-12: whatever the file is, no more than a certificate's worth of it is read.
    file.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > BYTES_MAX {
        return Err(Failure::failed(format!("it is longer than {BYTES_MAX} bytes: no certificate is")));
    }
    if !certificate::is_one(&bytes) && path.extension().is_some_and(|extension| extension == "jsonl") {
        return Err(Failure::usage(format!(
            "{}: a journal is verified as a whole: name its directory",
            path.display()
        )));
    }
    certificate::check(&bytes, operators).map_err(|flaw| Failure::failed(flaw.to_string()))
}

fn certificate_in_words(path: &Path, shown: &Shown) -> String {
    let Shown { head, entries, last_hash, words } = shown;
    let last = entries.last().map_or(head.first, |entry| entry.n);
    let moments = story::merge(vec![entries.clone()]);
    // From the records, and not as the head has it: the head is nobody's word.
    let account = story::of_host(&moments, &head.about, &story::Names::default());
    let missing = match shown.missing() {
        0 => "the newest there was".to_owned(),
        count => format!("not the newest: {count} more followed"),
    };
    let mut text = format!(
        "{}: holds\n  records {} to {last} of the journal of {}, unbroken; {last} was {missing} at {}; its hash is {last_hash}\n  {}\n",
        path.display(),
        head.first,
        head.journal_of,
        head.made,
        account.headline
    );
    words.iter().for_each(|word| text.push_str(&word_in_words(word)));
    text
}

fn word_in_words(word: &Word) -> String {
    let Word { n, host, checked, signer, unknown_key } = word;
    let whose = match (signer, unknown_key) {
        (Some(signer), _) => format!("signed by {signer}, and the signature holds"),
        (None, true) => {
            "signed with a key that was not given: name the operators with --config or --operator".to_owned()
        }
        (None, false) => "NOT signed: the word of whoever was root on that host".to_owned(),
    };
    format!("  record {n}: a statement that {host} is dead (checked: {checked}), {whose}\n")
}

fn in_words(finding: &cross::Finding) -> String {
    match finding {
        cross::Finding::Agree { teller, prover, victim, proof } => format!(
            "{teller} and {prover} agree: {teller} heard from {prover} that {victim} is dead, and {prover} proved it by {proof}\n"
        ),
        cross::Finding::Contradict { teller, prover, victim } => format!(
            "{teller} and {prover} CONTRADICT each other: {teller} heard from {prover} that {victim} is dead, and the certificate of \
             {prover} holds no such proof at that time: one of them is not what was written then\n"
        ),
        cross::Finding::Unheard { teller, prover, victim } => format!(
            "{teller} heard from {prover} that {victim} is dead: the certificate of {prover}, made there, would show the proof\n"
        ),
    }
}

fn limits(shown: &Shown, count: usize) -> String {
    let host = &shown.head.journal_of;
    let more = if count > 1 {
        "The same is so of each of them; what they agree on, nobody wrote alone."
    } else {
        "Certificates of other hosts, given together, show whether they saw the same."
    };
    format!(
        "What this does not show: that it is true. The chain shows that no record was changed, moved or taken out after it was \
         written; whoever is root on {host} can write another chain from its beginning, or leave its end away. {more}\n"
    )
}

/// The whole journal.
fn journal_of(dir: &Path, operators: &[Operator]) -> Result<String, Failure> {
    let summary = journal::verify(dir).map_err(|error| match error.what {
        Broken::Read(_) if error.line == 0 => Failure::usage(error.to_string()),
        Broken::Read(_) | Broken::Hash | Broken::Format(_) | Broken::Link | Broken::Number { .. } => {
            Failure::failed(meaning(&error))
        }
    })?;
    let mut text = format!(
        "{}: holds\n  records {} to {} in {} files, unbroken; the hash of the newest is {}\n",
        dir.display(),
        summary.first_n,
        summary.last_n,
        summary.files,
        summary.last_hash
    );
    if summary.first_n > 1 {
        text.push_str("  older ones were rotated away\n");
    }
    if summary.unfinished_bytes > 0 {
        text.push_str("  the last line is not whole: it was being written, or a crash tore it\n");
    }
    let mut stated: Vec<Entry> = Vec::new();
    let scanned = journal::scan(dir, |line| {
        let event = serde_json::from_value(line.event.clone());
        if stated.len() < RECORDS_MAX && matches!(event, Ok(Event::Operator { statement: Some(_), .. })) {
            stated.push(crate::api::why::entry(line));
        }
        ControlFlow::Continue(())
    });
    scanned.map_err(|error| Failure::usage(format!("{}: {error}", dir.display())))?;
    let words = certificate::words(&stated, operators).map_err(|(at, why)| {
        let n = stated.get(at).map_or(0, |entry| entry.n);
        Failure::failed(format!("record {n}: the operator's signature does not hold: {why}"))
    })?;
    words.iter().for_each(|word| text.push_str(&word_in_words(word)));
    Ok(text)
}

fn meaning(error: &ChainError) -> String {
    let means = match &error.what {
        Broken::Read(_) => "",
        Broken::Hash => ": it was altered after it was written, or the disk lost a part of it",
        Broken::Format(_) => ": whoever wrote it was no agent",
        Broken::Link => ": the line before was rewritten, or one was put in or taken out",
        Broken::Number { .. } => ": lines are missing, or their order was changed",
    };
    format!("{error}{means}")
}

/// Whose signatures count: those of the configuration, and those given by hand.
fn operators(config: Option<&Path>, files: &[PathBuf]) -> Result<Vec<Operator>, Failure> {
    let mut all = match config {
        Some(path) => configuration(path)?.operators().to_vec(),
        None => operators_here(Path::new(CONFIG)),
    };
    for path in files {
        let mut line = String::new();
        let read = File::open(path).and_then(|file| file.take(4096).read_to_string(&mut line));
        read.map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        let name = path.file_stem().map_or_else(|| "?".into(), |name| name.to_string_lossy());
        all.push(Operator::of(&name, &line).ok_or_else(|| {
            let path = path.display();
            Failure::usage(format!(
                "{path}: no Ed25519 public key of OpenSSH; name the file that ends with .pub"
            ))
        })?);
    }
    Ok(all)
}

/// Those of a configuration that may not be there.
fn operators_here(config: &Path) -> Vec<Operator> {
    let text = std::fs::read_to_string(config).unwrap_or_default();
    Cluster::parse(&text, "").map_or_else(|_| Vec::new(), |cluster| cluster.operators().to_vec())
}

#[cfg(test)]
mod tests {
    use palisade_core::record::Who;

    use super::*;
    use crate::testing::TempDir;

    fn journal(dir: &Path, host: &str, events: &[Event]) {
        let opened = journal::Journal::open(journal::Options::new(dir.to_owned(), host, [1; 8]));
        let (mut journal, _durable) = opened.unwrap();
        events.iter().for_each(|event| journal.try_append(event, None).unwrap());
        crate::testing::run(async { journal.close().await.unwrap() });
    }

    fn dead(proof: &str, evidence: &str) -> Event {
        let victim = Who { host: "b".to_owned(), life: "0123456789abcdef".to_owned() };
        Event::Dead { victim, proof: proof.to_owned(), evidence: evidence.to_owned() }
    }

    fn exported(dir: &TempDir, host: &str, events: &[Event]) -> PathBuf {
        let (from, out) = (dir.path().join(host), dir.path().join(format!("{host}.cert")));
        journal(&from, host, events);
        let options = AuditExportOptions {
            about: "b".to_owned(),
            out: Some(out.clone()),
            journal: from,
            config: dir.path().join("none.toml"),
        };
        assert_eq!(export(&options).unwrap(), ExitCode::SUCCESS);
        assert!(
            export(&options).unwrap_err().message.contains("name a new file"),
            "not over an existing one"
        );
        out
    }

    fn verified(paths: &[&Path]) -> Ended {
        verify(&AuditVerifyOptions {
            paths: paths.iter().map(|path| path.to_path_buf()).collect(),
            config: None,
            operator: Vec::new(),
        })
    }

    #[test]
    fn what_is_exported_is_verified_with_its_journal_and_with_what_other_hosts_heard() {
        let dir = TempDir::new();
        let a = exported(&dir, "a", &[dead("power_off", "bmc-b acknowledged the off and then read off")]);
        let c = exported(&dir, "c", &[dead("gossiped", "a holds the proof")]);
        assert_eq!(verified(&[&a, &c, &dir.path().join("a")]).unwrap(), ExitCode::SUCCESS);
        // A journal that was rewritten holds by itself, and not against what the other one heard.
        let rewritten = TempDir::new();
        let a = exported(&rewritten, "a", &[dead("left", "its own word")]);
        assert_eq!(verified(&[&a]).unwrap(), ExitCode::SUCCESS);
        let nothing = exported(&rewritten, "x", &[dead("left", "its own word")]);
        assert_eq!(verified(&[&nothing, &c]).unwrap(), ExitCode::SUCCESS, "of another host");
        std::fs::remove_dir_all(rewritten.path().join("a")).unwrap();
        std::fs::remove_file(&a).unwrap();
        let victim = Who { host: "b".to_owned(), life: "0123456789abcdef".to_owned() };
        let a = exported(&rewritten, "a", &[Event::FenceDecided { victim, because: "x".to_owned() }]);
        assert_eq!(verified(&[&a, &c]).unwrap_err().status, 1);
    }

    #[test]
    fn what_does_not_hold_is_told_from_what_is_not_there() {
        let dir = TempDir::new();
        let cert = exported(&dir, "a", &[dead("power_off", "x read off"), dead("left", "y")]);
        let mut text = std::fs::read_to_string(&cert).unwrap();
        text = text.replace("power_off", "power_ofF");
        std::fs::write(&cert, text).unwrap();
        assert_eq!(verified(&[&cert]).unwrap_err().status, 1);
        assert_eq!(verified(&[&dir.path().join("nowhere")]).unwrap_err().status, 2);
        let file = journal::list(&dir.path().join("a")).unwrap().remove(0).1;
        assert!(verified(&[&file]).unwrap_err().message.contains("name its directory"));
        let mut text = std::fs::read_to_string(&file).unwrap();
        text = text.replace("power_off", "power_ofF");
        std::fs::write(&file, text).unwrap();
        assert_eq!(verified(&[&dir.path().join("a")]).unwrap_err().status, 1);
    }
}
