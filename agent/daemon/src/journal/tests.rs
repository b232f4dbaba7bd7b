//! The journal on real files, on a disk that is full, fails, tears and hangs.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Condvar;

use nix::libc;
use serde::Serialize;
use tokio::sync::mpsc::Receiver;

use super::file::{Disk, Storage};
use super::verify::Broken;
use super::*;
use crate::testing::{TempDir, run};

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Event {
    Admitted { boot: &'static str },
    Step { text: String },
}

fn step(text: impl Into<String>) -> Event {
    Event::Step { text: text.into() }
}

fn options(dir: &Path) -> Options {
    Options::new(dir.to_owned(), "a", *b"\x01\x23\x45\x67\x89\xab\xcd\xef")
}

/// Waits until every one of `tokens` is durable, in this order.
fn durable(answers: &mut Receiver<Durable>, tokens: impl IntoIterator<Item = u64>) {
    run(async {
        for token in tokens {
            assert_eq!(answers.recv().await.expect("the writer ended").token, token);
        }
    });
}

fn close(journal: Journal) {
    run(async { journal.close().await.expect("the writer ended without a word") });
}

/// Writes `count` records and waits for the last.
fn write(options: Options, count: u64) {
    let (mut journal, mut answers) = Journal::open(options).unwrap();
    for token in 0..count {
        journal.try_append(&step(format!("number {token}")), Some(token)).unwrap();
    }
    durable(&mut answers, 0..count);
    assert_eq!(journal.health(), JournalHealth::Ok);
    close(journal);
}

fn events(dir: &Path) -> Vec<serde_json::Value> {
    let mut events = Vec::new();
    scan(dir, |line| {
        events.push(line.event);
        ControlFlow::Continue(())
    })
    .unwrap();
    events
}

/// Waits for a state that the writer's thread brings about; bounded by the test's minute.
fn until(mut reached: impl FnMut() -> bool) {
    run(async {
        while !reached() {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn what_is_durable_is_on_the_disk_in_one_chain_across_restarts() {
    let dir = TempDir::new();
    write(options(dir.path()), 100);
    write(options(dir.path()), 50);
    let summary = verify(dir.path()).unwrap();
    assert_eq!((summary.files, summary.first_n, summary.last_n), (1, 1, 150));
    assert_eq!(summary.unfinished_bytes, 0);
    assert_eq!(events(dir.path())[149]["text"], "number 49");
}

#[test]
fn any_change_is_found_with_file_and_line() {
    let dir = TempDir::new();
    write(options(dir.path()), 5);
    let path = dir.path().join("journal-000000000001.jsonl");
    let good = fs::read(&path).unwrap();
    let starts: Vec<usize> = std::iter::once(0)
        .chain(good.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1))
        .collect();
    for at in (0..good.len()).filter(|at| good[*at] != b'\n') {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, &bad).unwrap();
        let error = verify(dir.path()).unwrap_err();
        let line = starts.iter().filter(|start| **start <= at).count() as u64;
        assert_eq!((error.file.as_path(), error.line), (path.as_path(), line), "byte {at}: {error}");
    }
    let line = |n: usize| &good[starts[n - 1]..starts[n]];
    let check = |lines: &[usize]| {
        fs::write(&path, lines.iter().flat_map(|n| line(*n).to_vec()).collect::<Vec<_>>()).unwrap();
        verify(dir.path()).map_err(|error| (error.line, error.what))
    };
    assert!(
        matches!(check(&[1, 2, 4, 5]), Err((3, Broken::Number { expected: 3, found: 4 }))),
        "a line left out"
    );
    assert!(matches!(check(&[1, 3, 2, 4, 5]), Err((2, Broken::Number { .. }))), "two lines exchanged");
    assert!(
        matches!(check(&[2, 3, 4, 5]), Err((1, Broken::Number { expected: 1, found: 2 }))),
        "the first cut off"
    );
    assert_eq!(
        check(&[1, 2, 3]).unwrap().last_n,
        3,
        "the end cut off is seen by whoever noted the last hash"
    );
    // A line written anew, with a right hash of its own, does not fit what follows it.
    let draft = Draft { time: SystemTime::UNIX_EPOCH, boot_ms: 0, event: b"\"forged\"".to_vec() };
    let mut forged = line(1).to_vec();
    let first = line::check(line(1).trim_ascii_end()).unwrap();
    line::encode(&mut forged, 2, &draft, "a", "0123456789abcdef", first);
    forged.extend_from_slice(line(3));
    fs::write(&path, forged).unwrap();
    assert!(matches!(verify(dir.path()).unwrap_err(), ChainError { line: 3, what: Broken::Link, .. }));
}

#[test]
fn a_torn_end_is_moved_aside_and_the_chain_goes_on() {
    let dir = TempDir::new();
    let path = dir.path().join("journal-000000000001.jsonl");
    write(options(dir.path()), 3);
    let whole = fs::read(&path).unwrap();
    let mut n = 3;
    // Cut within the line, its newline missing, and blocks of zeros as a file system leaves them.
    let last_start = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    for tail in [&whole[last_start..whole.len() - 40], &whole[last_start..whole.len() - 1], &[0; 70_000]] {
        let before = fs::read(&path).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(tail).unwrap();
        write(options(dir.path()), 1);
        n += 2;
        let summary = verify(dir.path()).unwrap();
        assert_eq!((summary.last_n, summary.unfinished_bytes), (n, 0));
        let all = events(dir.path());
        let torn = &all[all.len() - 2];
        assert_eq!(
            (torn["kind"].as_str(), torn["bytes"].as_u64()),
            (Some("journal_torn"), Some(tail.len() as u64))
        );
        assert_eq!(fs::read(torn["moved_to"].as_str().unwrap()).unwrap(), tail);
        assert!(fs::read(&path).unwrap().starts_with(&before), "what was whole stays");
    }
}

#[test]
fn safe_12_a_torn_end_on_a_full_disk_leaves_no_litter_and_the_journal_goes_on() {
    let dir = TempDir::new();
    let _disk = Tmpfs::mount(dir.path(), "512k");
    let options = || Options { file_bytes: 128 * 1024, ..options(dir.path()) };
    let path = dir.path().join("journal-000000000001.jsonl");
    let tear = || {
        let tail = [b'x'; 70_000];
        OpenOptions::new().append(true).open(&path).unwrap().write_all(&tail).unwrap();
    };
    write(options(), 3);
    tear();
    write(options(), 1);
    let reserved = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&path).unwrap()) * 512;
    assert!(reserved >= 128 * 1024, "reserved again after the end was cut off: {reserved}");
    tear();
    let mut filler = File::create(dir.path().join("filler")).unwrap();
    while filler.write(&[0; 4096]).is_ok() {}
    let names =
        || fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    let before = names();
    write(options(), 1);
    assert_eq!(names().len(), before.len(), "{:?}", names());
    let all = events(dir.path());
    let torn = &all[all.len() - 2];
    assert_eq!((torn["kind"].as_str(), &torn["moved_to"]), (Some("journal_torn"), &serde_json::Value::Null));
    assert_eq!(verify(dir.path()).unwrap().unfinished_bytes, 0);
}

#[test]
fn damage_before_the_end_is_left_for_the_audit() {
    let dir = TempDir::new();
    write(options(dir.path()), 5);
    let path = dir.path().join("journal-000000000001.jsonl");
    OpenOptions::new().write(true).open(&path).unwrap().write_all_at(b"X", 20).unwrap();
    write(options(dir.path()), 1);
    let error = verify(dir.path()).unwrap_err();
    assert!(matches!(error, ChainError { line: 1, what: Broken::Hash, .. }), "{error}");
    assert_eq!(events(dir.path()).len(), 5, "the damaged line is passed over, the other five are read");
}

#[test]
fn a_file_begun_just_before_a_crash_does_not_cut_the_chain() {
    let dir = TempDir::new();
    write(options(dir.path()), 3);
    fs::write(dir.path().join("journal-000000000004.jsonl"), b"{\"n\":4,\"ti").unwrap();
    write(options(dir.path()), 2);
    let summary = verify(dir.path()).unwrap();
    assert_eq!((summary.files, summary.last_n), (1, 6));
}

#[test]
fn rotation_carries_the_chain_and_drops_the_oldest() {
    let dir = TempDir::new();
    let small = Options { file_bytes: 4096, total_bytes: 4 * 4096, ..options(dir.path()) };
    write(small.clone(), 100);
    write(small, 100);
    let files = file::list(dir.path()).unwrap();
    assert_eq!(files.len(), 4);
    let sizes = files.iter().map(|(_, path)| fs::metadata(path).unwrap().len());
    assert!(sizes.max().unwrap() <= 4096);
    let summary = verify(dir.path()).unwrap();
    assert_eq!((summary.files, summary.last_n), (4, 200));
    assert_eq!(summary.first_n, files[0].0);
    assert!(summary.first_n > 100);
    // A file missing in the middle is a break.
    fs::remove_file(&files[2].1).unwrap();
    let error = verify(dir.path()).unwrap_err();
    assert!(matches!(error.what, Broken::Number { .. }) && error.file == files[3].1, "{error}");
}

#[test]
fn the_newest_matching_record_is_found_through_all_files() {
    let dir = TempDir::new();
    assert!(last_matching(&dir.path().join("none"), "", |_| true).unwrap().is_none());
    let (mut journal, mut answers) =
        Journal::open(Options { file_bytes: 4096, ..options(dir.path()) }).unwrap();
    journal.try_append(&Event::Admitted { boot: "x" }, None).unwrap();
    journal.try_append(&Event::Admitted { boot: "y" }, None).unwrap();
    for token in 0..60 {
        journal.try_append(&step("admitted is only a word here"), Some(token)).unwrap();
    }
    durable(&mut answers, 0..60);
    close(journal);
    assert!(file::list(dir.path()).unwrap().len() > 2);
    let found =
        last_matching(dir.path(), "admitted", |line| line.event["kind"] == "admitted").unwrap().unwrap();
    assert_eq!((found.n, found.event["boot"].as_str()), (2, Some("y")));
    assert!(last_matching(dir.path(), "admitted", |line| line.event["kind"] == "never").unwrap().is_none());
}

#[test]
fn safe_5_a_full_disk_shows_and_recovers_by_itself() {
    let dir = TempDir::new();
    let mounted = Tmpfs::mount(dir.path(), "1m");
    let ballast = dir.path().join("ballast");
    fs::write(&ballast, vec![1; 1000 * 1024]).unwrap();
    let (mut journal, mut answers) = Journal::open(options(&dir.path().join("journal"))).unwrap();
    const RECORDS: u64 = 200;
    for token in 0..RECORDS {
        journal.try_append(&step("x".repeat(200)), Some(token)).unwrap();
    }
    until(|| matches!(journal.health(), JournalHealth::Failing { .. }));
    let JournalHealth::Failing { error } = journal.health() else { panic!("{:?}", journal.health()) };
    assert!(error.contains("journal-000000000001.jsonl") && error.contains("No space left"), "{error}");
    let early = std::iter::from_fn(|| answers.try_recv().ok()).count() as u64;
    assert!(early < RECORDS);
    journal.try_append(&step("while the disk is full"), Some(RECORDS)).unwrap();
    fs::remove_file(&ballast).unwrap();
    durable(&mut answers, early..=RECORDS);
    until(|| journal.health() == JournalHealth::Ok);
    close(journal);
    assert_eq!(verify(&dir.path().join("journal")).unwrap().last_n, RECORDS + 1);
    drop(mounted);
}

#[test]
fn safe_5_a_stuck_disk_is_seen_by_its_age_and_never_waited_for() {
    let dir = TempDir::new();
    let faults = Faults::default();
    let quick = Options { stall: Duration::from_millis(20), ..options(dir.path()) };
    let (mut journal, mut answers) = Journal::open_on(quick, faults.disk()).unwrap();
    journal.try_append(&step("before"), Some(0)).unwrap();
    durable(&mut answers, [0]);
    faults.set(Fault::Hang);
    journal.try_append(&step("stuck"), Some(1)).unwrap();
    until(|| matches!(journal.health(), JournalHealth::Stalled { ms } if ms > 20));
    // The queue takes what it is made for and then refuses; each call returns at once.
    let mut taken = 0;
    let refused = loop {
        match journal.try_append(&step("y".repeat(500)), None) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken <= QUEUE_RECORDS);
    };
    assert!(matches!(refused, AppendError::Full), "{refused}");
    assert!(taken > 1000, "{taken}");
    assert!(answers.try_recv().is_err(), "nothing is durable yet");
    faults.set(Fault::None);
    durable(&mut answers, [1]);
    until(|| journal.health() == JournalHealth::Ok);
    journal.try_append(&step("after"), Some(2)).unwrap();
    durable(&mut answers, [2]);
    close(journal);
    let all = events(dir.path());
    let gaps: Vec<_> = all.iter().filter(|event| event["kind"] == "journal_gap").collect();
    assert_eq!(gaps.len(), 1);
    assert_eq!(gaps[0]["lost"], 1);
    assert_eq!(verify(dir.path()).unwrap().last_n, taken as u64 + 4);
}

#[test]
fn safe_12_what_waits_is_bounded_in_bytes() {
    let dir = TempDir::new();
    let faults = Faults::default();
    let (mut journal, mut answers) = Journal::open_on(options(dir.path()), faults.disk()).unwrap();
    faults.set(Fault::Hang);
    let large = "v".repeat(60_000);
    let taken =
        (0..).take_while(|token| journal.try_append(&step(large.clone()), Some(*token)).is_ok()).count();
    assert_eq!(taken, QUEUE_BYTES / 60_030);
    faults.set(Fault::None);
    durable(&mut answers, 0..taken as u64);
    journal.try_append(&step(large), None).unwrap();
}

#[test]
fn safe_5_nothing_is_durable_before_its_sync_and_a_failed_sync_is_written_again() {
    let dir = TempDir::new();
    let faults = Faults::default();
    let (mut journal, mut answers) = Journal::open_on(options(dir.path()), faults.disk()).unwrap();
    faults.set(Fault::Sync(libc::EIO));
    journal.try_append(&step("one"), Some(1)).unwrap();
    until(
        || matches!(journal.health(), JournalHealth::Failing { error } if error.contains("Input/output error")),
    );
    assert!(answers.try_recv().is_err());
    let writes = faults.writes();
    // A write that stops half-way is written over as well.
    faults.set(Fault::HalfWrite(libc::ENOSPC));
    until(|| matches!(journal.health(), JournalHealth::Failing { error } if error.contains("No space left")));
    assert!(answers.try_recv().is_err());
    faults.set(Fault::None);
    durable(&mut answers, [1]);
    until(|| journal.health() == JournalHealth::Ok);
    assert!(faults.writes() > writes + 1, "the line was not written again");
    close(journal);
    assert_eq!(verify(dir.path()).unwrap().last_n, 1);
}

#[test]
fn many_records_share_a_sync() {
    let dir = TempDir::new();
    let faults = Faults::default();
    let (mut journal, mut answers) = Journal::open_on(options(dir.path()), faults.disk()).unwrap();
    faults.set(Fault::Hang);
    for token in 0..1000 {
        journal.try_append(&step("z"), Some(token)).unwrap();
    }
    faults.set(Fault::None);
    durable(&mut answers, 0..1000);
    assert!(faults.writes() <= 4, "{} writes", faults.writes());
}

#[test]
fn an_oversized_event_is_refused_and_a_directory_that_cannot_be_made_is_a_failure() {
    let dir = TempDir::new();
    fs::write(dir.path().join("file"), "").unwrap();
    let (mut journal, _answers) = Journal::open(options(&dir.path().join("file/journal"))).unwrap();
    until(|| matches!(journal.health(), JournalHealth::Failing { error } if error.contains("file/journal")));
    let large = journal.try_append(&step("w".repeat(MAX_EVENT_BYTES)), None);
    assert!(matches!(large, Err(AppendError::TooLong { .. })));
    // Closing does not wait for a disk that never comes.
    close(journal);
}

/// A small file system of the test's own.
struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    fn mount(at: &'a Path, size: &str) -> Self {
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(at)
            .status();
        assert!(mounted.expect("no mount program").success(), "cannot mount a tmpfs: this test needs root");
        Self(at)
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        // Lazily: the writer may still have its file open.
        let status = std::process::Command::new("umount").arg("-l").arg(self.0).status();
        assert!(status.is_ok_and(|status| status.success()), "cannot unmount {}", self.0.display());
    }
}

#[derive(Clone, Copy, Default)]
enum Fault {
    #[default]
    None,
    Hang,
    Sync(i32),
    HalfWrite(i32),
}

/// What the wrapping disk does, set by the test.
#[derive(Clone, Default)]
struct Faults(Arc<(Mutex<(Fault, usize)>, Condvar)>);

impl Faults {
    fn disk(&self) -> FaultyDisk {
        FaultyDisk { faults: self.clone(), disk: Disk }
    }

    fn set(&self, fault: Fault) {
        self.0.0.lock().unwrap().0 = fault;
        self.0.1.notify_all();
    }

    fn writes(&self) -> usize {
        self.0.0.lock().unwrap().1
    }
}

struct FaultyDisk {
    faults: Faults,
    disk: Disk,
}

impl FaultyDisk {
    /// Holds the caller while the disk hangs.
    fn now(&self) -> Fault {
        let (state, changed) = &*self.faults.0;
        let held = changed.wait_while(state.lock().unwrap(), |(fault, _)| matches!(fault, Fault::Hang));
        held.unwrap().0
    }
}

impl Storage for FaultyDisk {
    fn write_at(&mut self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        self.faults.0.0.lock().unwrap().1 += 1;
        match self.now() {
            Fault::HalfWrite(error) => {
                self.disk.write_at(file, &bytes[..bytes.len() / 2], at)?;
                Err(io::Error::from_raw_os_error(error))
            }
            Fault::None | Fault::Hang | Fault::Sync(_) => self.disk.write_at(file, bytes, at),
        }
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        match self.now() {
            Fault::Sync(error) => Err(io::Error::from_raw_os_error(error)),
            Fault::None | Fault::Hang | Fault::HalfWrite(_) => self.disk.sync(file),
        }
    }
}

#[test]
fn two_writers_never_share_a_journal_and_the_second_goes_on_when_the_first_has_ended() {
    let dir = TempDir::new();
    let (mut first, mut first_answers) = Journal::open(options(dir.path())).unwrap();
    first.try_append(&step("first"), Some(1)).unwrap();
    durable(&mut first_answers, [1]);
    let (mut second, mut answers) = Journal::open(options(dir.path())).unwrap();
    second.try_append(&step("second"), Some(2)).unwrap();
    let refused = || match second.health() {
        JournalHealth::Failing { error } => error.contains("another process writes this journal"),
        JournalHealth::Ok | JournalHealth::Stalled { .. } => false,
    };
    let end = std::time::Instant::now() + Duration::from_secs(10);
    let mut refused = refused;
    while !refused() {
        assert!(std::time::Instant::now() < end, "the second writer is not refused");
        std::thread::yield_now();
    }
    close(first);
    durable(&mut answers, [2]);
    close(second);
    assert_eq!(verify(dir.path()).unwrap().last_n, 2);
}
