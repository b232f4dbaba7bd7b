//! A spool on a disk of memory that fails, tears and forgets as the test wants; then on a real one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::*;
use crate::telemetry::ledger::WINDOW;
use crate::telemetry::store::{Disk, Found};
use crate::testing::TempDir;

const LIMITS: Limits = Limits { disk_bytes: 4096, segment_bytes: 1024, memory_bytes: 1024 };

fn teller() -> Teller {
    Teller { host: "a".to_owned(), life: "00000000000000aa".to_owned() }
}

/// An event with its number as its id.
fn payload(n: u64) -> Vec<u8> {
    let padding = "x".repeat(usize::try_from(n % 40).unwrap());
    format!("{{\"id\":\"{n}\",\"event\":{{\"kind\":\"test\"}},\"text\":\"{padding}\"}}").into_bytes()
}

/// The disk outlives the spool, as a real one does.
#[derive(Clone, Default)]
struct Model(Arc<Mutex<Files>>);

#[derive(Default)]
struct Files {
    segments: BTreeMap<u64, Vec<(u64, Vec<u8>)>>,
    position: Option<Position>,
    full: bool,
    most_bytes: usize,
}

impl Model {
    fn with<T>(&self, f: impl FnOnce(&mut Files) -> T) -> T {
        f(&mut self.0.lock().unwrap())
    }
}

impl Files {
    fn refuse(&self) -> io::Result<()> {
        if self.full { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(()) }
    }
}

impl Store for Model {
    fn open(&mut self) -> io::Result<Found> {
        self.with(|files| {
            files.refuse()?;
            let bytes = |lines: &[(u64, Vec<u8>)]| lines.iter().map(|(_, line)| line.len() as u64).sum();
            let segments = files.segments.iter().map(|(first, lines)| (*first, bytes(lines))).collect();
            let last = files.segments.last_key_value();
            let end = last.map_or(0, |(first, lines)| lines.last().map_or(*first, |(number, _)| number + 1));
            Ok(Found { segments, end, position: files.position.clone(), torn: 0 })
        })
    }

    fn begin(&mut self, segment: u64) -> io::Result<()> {
        self.with(|files| {
            files.refuse()?;
            files.segments.insert(segment, Vec::new());
            Ok(())
        })
    }

    fn write(&mut self, segment: u64, at: u64, line: &[u8]) -> io::Result<()> {
        self.with(|files| {
            files.refuse()?;
            let lines = files.segments.get_mut(&segment).unwrap();
            assert_eq!(lines.iter().map(|(_, line)| line.len() as u64).sum::<u64>(), at, "written elsewhere");
            let text = std::str::from_utf8(line).unwrap();
            let number = text.split(' ').nth(1).unwrap().parse().unwrap();
            assert!(lines.last().is_none_or(|(last, _)| *last < number), "numbers rise");
            lines.push((number, line.to_vec()));
            let total = files.segments.values().flatten().map(|(_, line)| line.len()).sum();
            files.most_bytes = files.most_bytes.max(total);
            Ok(())
        })
    }

    fn remove(&mut self, segment: u64) -> io::Result<()> {
        self.with(|files| files.segments.remove(&segment));
        Ok(())
    }

    fn read(&mut self, segment: u64, from: u64) -> io::Result<Read> {
        self.with(|files| {
            let found = files.segments[&segment].iter().find(|(number, _)| *number >= from);
            Ok(found.map_or(Read::End { damaged: 0 }, |(number, line)| {
                let text = line.splitn(3, |byte| *byte == b' ').nth(2).unwrap();
                Read::Event {
                    number: *number,
                    payload: text.strip_suffix(b"\n").unwrap().to_vec(),
                    damaged: 0,
                }
            }))
        })
    }

    fn save(&mut self, position: &Position) -> io::Result<()> {
        self.with(|files| {
            files.refuse()?;
            files.position = Some(position.clone());
            Ok(())
        })
    }
}

/// What a consumer makes of what it hears: ids in the order of their first coming, and the ids that a gap stands for.
#[derive(Default)]
struct Consumer {
    heard: Vec<u64>,
    gaps: Vec<(u64, u64, u64)>,
}

impl Consumer {
    fn hear(&mut self, payload: &[u8]) {
        let message: serde_json::Value = serde_json::from_slice(payload).unwrap();
        if message["event"]["kind"] == "telemetry_gap" {
            let id = |name: &str| message["event"][name].as_str().unwrap().parse().unwrap();
            self.gaps.push((id("first"), id("last"), message["event"]["lost"].as_u64().unwrap()));
            return;
        }
        let id = message["id"].as_str().unwrap().parse().unwrap();
        if !self.heard.contains(&id) {
            self.heard.push(id);
        }
    }

    /// Every event came, in order, or a gap stands for it; and no gap counts more than it spans.
    fn check(&self, events: u64) {
        assert!(self.heard.is_sorted(), "out of order: {:?}", self.heard);
        for (first, last, lost) in &self.gaps {
            assert!(*lost >= 1 && *lost <= last - first + 1, "{lost} lost from {first} to {last}");
        }
        for id in 0..events {
            let told = self.heard.contains(&id);
            let missing = self.gaps.iter().any(|(first, last, _)| (*first..=*last).contains(&id));
            assert!(told || missing, "{id} of {events} is lost without a word: {:?}", self.gaps);
        }
    }
}

/// Hands over all that the window takes and has it acknowledged, until nothing is left.
fn drain<S: Store>(spool: &mut Spool<S>, consumer: &mut Consumer) {
    spool.flush();
    spool.begin_session();
    let mut rounds = 0;
    while let Some(item) = spool.next() {
        spool.told(&item);
        consumer.hear(&item.payload);
        spool.acknowledged(item.number);
        rounds += 1;
        assert!(rounds < 10_000, "no end");
    }
    spool.save();
    assert_eq!(spool.waiting(), 0);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Events(u8),
    Full(bool),
    Session,
    Tell(u8),
    Acknowledge(u8),
    /// The agent's process ends, and another one begins.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_u8..30).prop_map(Step::Events),
        1 => any::<bool>().prop_map(Step::Full),
        2 => Just(Step::Session),
        4 => (1_u8..20).prop_map(Step::Tell),
        4 => (1_u8..20).prop_map(Step::Acknowledge),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_event_comes_in_order_or_a_gap_stands_for_it_and_what_is_kept_is_bounded(
        steps in proptest::collection::vec(step(), 1..80)
    ) {
        let model = Model::default();
        let mut spool = Spool::new(model.clone(), LIMITS, teller());
        let (mut consumer, mut events) = (Consumer::default(), 0);
        let mut under_way: Vec<u64> = Vec::new();
        for step in steps {
            match step {
                Step::Events(count) => for _ in 0..count {
                    spool.put(payload(events));
                    events += 1;
                    prop_assert!(spool.bytes().1 <= LIMITS.memory_bytes, "memory: {:?}", spool.bytes());
                },
                Step::Full(full) => model.with(|files| files.full = full),
                Step::Session => {
                    under_way.clear();
                    spool.begin_session();
                }
                Step::Tell(count) => for _ in 0..count {
                    let Some(item) = spool.next() else { break };
                    spool.told(&item);
                    consumer.hear(&item.payload);
                    under_way.push(item.number);
                    prop_assert!(under_way.len() <= WINDOW);
                },
                // The broker acknowledges what it likes first.
                Step::Acknowledge(which) => if !under_way.is_empty() {
                    let at = usize::from(which) % under_way.len();
                    spool.acknowledged(under_way.remove(at));
                    spool.save();
                },
                // What memory alone holds would be lost: a disk that takes it is there when the agent ends.
                Step::Restart => {
                    model.with(|files| files.full = false);
                    spool.flush();
                    spool.save();
                    under_way.clear();
                    spool = Spool::new(model.clone(), LIMITS, teller());
                }
            }
        }
        model.with(|files| files.full = false);
        drain(&mut spool, &mut consumer);
        consumer.check(events);
        // SAFE-12: the bound holds at every moment.
        let most = model.with(|files| files.most_bytes) as u64;
        prop_assert!(most <= LIMITS.disk_bytes, "{most} bytes on the disk");
    }
}

#[test]
fn an_event_leaves_only_once_it_and_all_before_it_are_acknowledged() {
    let mut spool = Spool::new(Model::default(), LIMITS, teller());
    (0..3).for_each(|n| spool.put(payload(n)));
    spool.begin_session();
    let items: Vec<Item> = std::iter::from_fn(|| {
        let item = spool.next()?;
        spool.told(&item);
        Some(item)
    })
    .collect();
    assert_eq!(items.len(), 3);
    spool.acknowledged(items[1].number);
    assert_eq!(spool.waiting(), 3);
    spool.begin_session();
    assert_eq!(spool.next().as_ref(), items.first(), "told again from the first one on");
}

#[test]
fn safe_12_a_full_spool_sheds_the_oldest_and_names_them() {
    let model = Model::default();
    let mut spool = Spool::new(model.clone(), LIMITS, teller());
    let events = 500;
    (0..events).for_each(|n| spool.put(payload(n)));
    // The process ends before the broker is back: the gap is remembered.
    drop(spool);
    let mut spool = Spool::new(model, LIMITS, teller());
    let mut consumer = Consumer::default();
    drain(&mut spool, &mut consumer);
    let [(0, last, lost)] = consumer.gaps[..] else {
        panic!("one gap from the first on: {:?}", consumer.gaps)
    };
    assert_eq!((lost, consumer.heard[0]), (last + 1, last + 1), "the gap ends where the events begin");
    assert_eq!(*consumer.heard.last().unwrap(), events - 1);
    assert_eq!(consumer.heard.len() as u64 + lost, events);
}

#[test]
fn a_disk_that_takes_nothing_leaves_the_newest_events_in_memory() {
    let model = Model::default();
    model.with(|files| files.full = true);
    let mut spool = Spool::new(model.clone(), LIMITS, teller());
    (0..100).for_each(|n| spool.put(payload(n)));
    assert!(spool.trouble().is_some() && spool.bytes().0 == 0);
    // Told from memory while the disk still refuses.
    spool.begin_session();
    let first = spool.next().unwrap();
    assert!(String::from_utf8_lossy(&first.payload).contains("telemetry_gap"));
    model.with(|files| files.full = false);
    let mut consumer = Consumer::default();
    drain(&mut spool, &mut consumer);
    consumer.check(100);
    assert_eq!((spool.trouble(), consumer.gaps.len()), (None, 1));
}

#[test]
fn a_disk_is_well_again_once_it_takes_something_and_not_because_nothing_waits() {
    let model = Model::default();
    let mut spool = Spool::new(model.clone(), LIMITS, teller());
    model.with(|files| files.full = true);
    spool.put(payload(0));
    let mut consumer = Consumer::default();
    drain(&mut spool, &mut consumer);
    assert_eq!((consumer.heard, spool.bytes().1), (vec![0], 0), "told from memory");
    spool.flush();
    assert!(spool.trouble().is_some());
    model.with(|files| files.full = false);
    spool.flush();
    assert_eq!(spool.trouble(), None);
}

#[test]
fn what_the_run_loop_had_no_room_for_is_told_in_its_place() {
    let mut spool = Spool::new(Model::default(), LIMITS, teller());
    spool.put(payload(0));
    spool.put_gap(7, 100, 200);
    spool.put(payload(1));
    spool.begin_session();
    let kinds: Vec<String> = std::iter::from_fn(|| {
        let item = spool.next()?;
        spool.told(&item);
        Some(String::from_utf8(item.payload).unwrap())
    })
    .collect();
    assert_eq!(kinds.len(), 3);
    let gap: serde_json::Value = serde_json::from_str(&kinds[1]).unwrap();
    let expected = serde_json::json!({
        "kind": "telemetry_gap", "lost": 7, "first": "a/00000000000000aa/100", "last": "a/00000000000000aa/200"
    });
    assert_eq!(gap["event"], expected);
    assert_eq!(gap["id"], "a/00000000000000aa/200/gap");
}

fn segments(dir: &TempDir) -> Vec<std::path::PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "spool"))
        .collect();
    found.sort();
    found
}

#[test]
fn a_restart_goes_on_where_the_broker_had_acknowledged() {
    let dir = TempDir::new();
    let mut spool = Spool::new(Disk::new(dir.path()), LIMITS, teller());
    (0..40).for_each(|n| spool.put(payload(n)));
    spool.begin_session();
    for _ in 0..10 {
        let item = spool.next().unwrap();
        spool.told(&item);
        spool.acknowledged(item.number);
    }
    spool.save();
    drop(spool);
    let mut spool = Spool::new(Disk::new(dir.path()), LIMITS, teller());
    assert_eq!(spool.waiting(), 30);
    let mut consumer = Consumer::default();
    drain(&mut spool, &mut consumer);
    assert_eq!((consumer.heard, consumer.gaps), ((10..40).collect(), Vec::new()));
    // What is acknowledged takes no room for long.
    (40..45).for_each(|n| spool.put(payload(n)));
    assert!(spool.bytes().0 < LIMITS.segment_bytes, "{:?}", spool.bytes());
}

#[test]
fn a_torn_end_is_cut_off_wherever_it_tore() {
    let dir = TempDir::new();
    let mut spool = Spool::new(Disk::new(dir.path()), LIMITS, teller());
    (0..3).for_each(|n| spool.put(payload(n)));
    drop(spool);
    let [path] = &segments(&dir)[..] else { panic!("one segment") };
    let whole = std::fs::read(path).unwrap();
    let second = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).unwrap().0 + 1;
    for length in second..whole.len() {
        std::fs::write(path, &whole[..length]).unwrap();
        let mut spool = Spool::new(Disk::new(dir.path()), LIMITS, teller());
        assert_eq!(std::fs::metadata(path).unwrap().len(), second as u64, "cut at {length}");
        spool.put(payload(3));
        let mut consumer = Consumer::default();
        drain(&mut spool, &mut consumer);
        assert_eq!((consumer.heard, consumer.gaps), (vec![0, 1, 3], Vec::new()), "cut at {length}");
        std::fs::remove_file(dir.path().join("position")).unwrap();
    }
}

#[test]
fn a_damaged_line_is_told_as_a_gap_and_holds_up_nothing() {
    let dir = TempDir::new();
    let mut spool = Spool::new(Disk::new(dir.path()), LIMITS, teller());
    (0..3).for_each(|n| spool.put(payload(n)));
    drop(spool);
    let [path] = &segments(&dir)[..] else { panic!("one segment") };
    let mut bytes = std::fs::read(path).unwrap();
    let second = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    bytes[second + 40] ^= 1;
    std::fs::write(path, bytes).unwrap();
    let mut spool = Spool::new(Disk::new(dir.path()), LIMITS, teller());
    spool.begin_session();
    let mut told = Vec::new();
    while let Some(item) = spool.next() {
        spool.told(&item);
        let message: serde_json::Value = serde_json::from_slice(&item.payload).unwrap();
        told.push((message["event"]["kind"].as_str().unwrap().to_owned(), message["event"]["lost"].as_u64()));
        spool.acknowledged(item.number);
    }
    let [(first, None), (gap, Some(1)), (last, None)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((first.as_str(), gap.as_str(), last.as_str()), ("test", "telemetry_gap", "test"));
    assert_eq!(spool.waiting(), 0);
}

#[test]
fn a_directory_that_cannot_be_made_is_tried_again_and_costs_nothing() {
    let dir = TempDir::new();
    let spool_dir = dir.path().join("spool");
    std::fs::write(&spool_dir, "a file in its place").unwrap();
    let mut spool = Spool::new(Disk::new(&spool_dir), LIMITS, teller());
    (0..5).for_each(|n| spool.put(payload(n)));
    assert!(spool.trouble().is_some_and(|trouble| trouble.contains("/spool: ")), "{:?}", spool.trouble());
    std::fs::remove_file(&spool_dir).unwrap();
    spool.put(payload(5));
    assert_eq!((spool.trouble(), spool.bytes().1), (None, 0));
    let mut consumer = Consumer::default();
    drain(&mut spool, &mut consumer);
    assert_eq!((consumer.heard, consumer.gaps), ((0..6).collect(), Vec::new()));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&spool_dir).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn an_event_longer_than_one_read_comes_whole() {
    let dir = TempDir::new();
    let limits = Limits { disk_bytes: 1 << 20, segment_bytes: 1 << 18, memory_bytes: 1 << 18 };
    let mut spool = Spool::new(Disk::new(dir.path()), limits, teller());
    let long =
        format!("{{\"id\":\"0\",\"event\":{{\"kind\":\"test\"}},\"text\":\"{}\"}}", "y".repeat(100_000));
    spool.put(long.clone().into_bytes());
    spool.put(payload(1));
    spool.begin_session();
    let item = spool.next().unwrap();
    spool.told(&item);
    assert_eq!(item.payload, long.as_bytes());
    assert_eq!(spool.next().unwrap().payload, payload(1));
}
