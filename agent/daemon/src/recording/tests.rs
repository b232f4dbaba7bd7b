//! The recording on real files, on a disk that is full or hangs, torn and changed; and a segment of each layout so far.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex};

use palisade_core::record::Event;
use palisade_core::replay::{Replayed, replay};

use super::flight::{Flight, text};
use super::format::{MAGIC, Mark};
use super::frame::{self, Found};
use super::read::ReadError;
use super::writer::{Disk, Storage};
use super::*;
use crate::testing::TempDir;

fn options(dir: &Path) -> Options {
    Options { retry: Duration::ZERO, ..Options::new(dir) }
}

fn recorder(dir: &Path) -> Recorder {
    Recorder::open(options(dir), Arc::default()).unwrap()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    list(&dir.join(DIR)).unwrap().into_iter().map(|(_, path)| path).collect()
}

fn fed(segment: &mut Segment) -> Replayed {
    let engine = segment.engine(segment.written()).unwrap();
    replay(engine, segment)
}

/// Everything in `dir` replays as recorded; what was decided, and how each segment ends.
fn replayed(dir: &Path) -> (u64, Vec<Event>, Vec<Ending>) {
    let (mut inputs, mut decided, mut endings) = (0, Vec::new(), Vec::new());
    for path in segments(dir) {
        let mut segment = Segment::open(&path).unwrap();
        let replayed = fed(&mut segment);
        assert!(replayed.parting.is_none(), "{}: {:?}", path.display(), replayed.parting);
        inputs += replayed.inputs;
        decided.extend(replayed.decisions.into_iter().map(|decision| decision.event));
        endings.push(segment.ending());
    }
    (inputs, decided, endings)
}

/// Waits until nothing waits for the disk.
fn written(shared: &Shared) {
    while shared.queued_bytes.load(Ordering::Acquire) > 0 {
        std::thread::yield_now();
    }
}

/// The segment of a flight of a second.
fn short() -> Vec<u8> {
    let dir = TempDir::new();
    let mut flight = Flight::begin("", recorder(dir.path()));
    flight.live(1_000, &[1, 2]);
    flight.land();
    fs::read(&segments(dir.path())[0]).unwrap()
}

/// The same with other bytes for the digest of the first step that decided something, as if it had been recorded so.
pub(crate) fn tampered(bytes: &[u8]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    let mut rest = &bytes[MAGIC.len()..];
    let mut done = false;
    while let Found::Frame(body, length) = frame::take(rest) {
        let mark = postcard::from_bytes(body).ok().filter(|_| out.len() > MAGIC.len());
        let body = match mark {
            Some(Mark::Step { after_ms, input, digest: Some(mut digest), events })
                if !done && !events.is_empty() =>
            {
                done = true;
                digest[0] ^= 1;
                let mark = Mark::Step { after_ms, input, digest: Some(digest), events };
                postcard::to_allocvec(&mark).unwrap()
            }
            _ => body.to_vec(),
        };
        assert!(frame::put(&mut out, &body));
        rest = &rest[length..];
    }
    assert!(done && rest.is_empty());
    out
}

#[test]
fn a_flight_is_recorded_and_replays() {
    let dir = TempDir::new();
    let mut flight = Flight::begin("", recorder(dir.path()));
    flight.live(2_000, &[1, 2]);
    flight.live(2_000, &[1]);
    let (inputs, decided) = (flight.inputs, flight.decided.clone());
    flight.land();
    assert!(decided.iter().any(|event| matches!(event, Event::FenceDecided { .. })), "{decided:?}");
    assert_eq!(replayed(dir.path()), (inputs, decided, vec![Ending::Whole]));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&dir.path().join(DIR)), mode(&segments(dir.path())[0])), (0o700, 0o600));
}

/// A segment of each layout that was ever written. These files are never edited. When this fails after a change of the engine,
/// its inputs, its actions or its decisions: raise `LAYOUT`, write the new one (`cargo test -p palisade --lib -- --ignored
/// writes_a_golden_segment`), and commit it beside the old ones, which from then on are refused by their layout.
#[test]
fn golden_segments_replay_or_are_refused_by_their_layout() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/recording/golden");
    for layout in 1..=LAYOUT {
        let path = golden.join(format!("layout-{layout}.seg"));
        if layout < LAYOUT {
            let error = Segment::open(&path).unwrap_err();
            assert!(matches!(error, ReadError::OtherLayout { .. }), "{error}");
            continue;
        }
        let mut segment = Segment::open(&path).unwrap();
        let replayed = fed(&mut segment);
        assert!(replayed.parting.is_none(), "{:?}", replayed.parting);
        assert!(replayed.decisions.iter().any(|one| matches!(one.event, Event::FenceDecided { .. })));
        assert_eq!((segment.ending(), segment.head().host.as_str()), (Ending::Whole, "a"));
        assert!(replayed.inputs >= 50);
    }
}

#[test]
#[ignore = "writes the golden segment of a new layout; never over an old one"]
fn writes_a_golden_segment() {
    let dir = TempDir::new();
    let mut flight = Flight::begin("", recorder(dir.path()));
    flight.live(1_000, &[1, 2]);
    flight.live(1_500, &[1]);
    flight.land();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/recording/golden");
    fs::create_dir_all(&golden).unwrap();
    let path = golden.join(format!("layout-{LAYOUT}.seg"));
    assert!(!path.exists(), "{} is never edited", path.display());
    fs::copy(&segments(dir.path())[0], path).unwrap();
}

#[test]
fn a_segment_cut_anywhere_gives_the_whole_steps_before() {
    let bytes = short();
    let all: Vec<_> = Segment::parse(bytes.clone()).unwrap().collect();
    let mut given = 0;
    for length in 0..bytes.len() {
        let Ok(mut segment) = Segment::parse(bytes[..length].to_vec()) else {
            assert_eq!(given, 0, "cut at {length}");
            continue;
        };
        let steps: Vec<_> = segment.by_ref().collect();
        assert_eq!(steps, all[..steps.len()], "cut at {length}");
        assert!(steps.len() >= given, "cut at {length}");
        given = steps.len();
        assert!(matches!(segment.ending(), Ending::Open | Ending::Torn { .. }), "cut at {length}");
    }
    assert_eq!(given, all.len(), "all but the last mark");
}

#[test]
fn a_changed_byte_is_noticed_and_nothing_after_it_is_fed() {
    let bytes = short();
    let all: Vec<_> = Segment::parse(bytes.clone()).unwrap().collect();
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 0x10;
        let Ok(mut segment) = Segment::parse(bad) else { continue };
        let steps: Vec<_> = segment.by_ref().collect();
        assert_eq!(steps, all[..steps.len()], "byte {at}");
        assert!(
            matches!(segment.ending(), Ending::Torn { .. } | Ending::Damaged { .. }),
            "byte {at}: {:?}",
            segment.ending()
        );
    }
}

#[test]
fn what_was_recorded_otherwise_is_told() {
    let mut segment = Segment::parse(tampered(&short())).unwrap();
    let parting = fed(&mut segment).parting.expect("they part");
    assert_eq!(parting.recorded, parting.decided);
}

/// A disk that hangs while its gate is shut.
#[derive(Clone, Default)]
struct Hangs(Arc<(Mutex<bool>, Condvar)>);

impl Hangs {
    fn set(&self, hangs: bool) {
        *self.0.0.lock().unwrap() = hangs;
        self.0.1.notify_all();
    }
}

impl Storage for Hangs {
    fn write(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        let guard = self.0.1.wait_while(self.0.0.lock().unwrap(), |hangs| *hangs).unwrap();
        drop(guard);
        Disk.write(file, bytes)
    }
}

#[test]
fn a_disk_that_hangs_leaves_a_gap_that_is_told_and_counted() {
    let dir = TempDir::new();
    let (disk, counters) = (Hangs::default(), Arc::<Counters>::default());
    let recorder = Recorder::open_on(options(dir.path()), counters.clone(), disk.clone()).unwrap();
    let shared = recorder.shared.clone();
    let mut flight = Flight::begin("", recorder);
    flight.live(500, &[1, 2]);
    disk.set(true);
    while counters.recording_lost.value() < 100 {
        flight.live(100, &[1, 2]);
    }
    let lost = counters.recording_lost.value();
    disk.set(false);
    written(&shared);
    flight.live(500, &[1, 2]);
    let inputs = flight.inputs;
    flight.land();
    let (fed, _, endings) = replayed(dir.path());
    assert_eq!(endings, [Ending::Gap { lost }, Ending::Whole]);
    assert_eq!((fed + lost, counters.recording_lost.value()), (inputs, lost));
}

/// A disk with room for so many bytes.
#[derive(Clone)]
struct Room(Arc<Mutex<usize>>);

impl Storage for Room {
    fn write(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        let mut room = self.0.lock().unwrap();
        let fits = bytes.len().min(*room);
        *room -= fits;
        Disk.write(file, &bytes[..fits])?;
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

#[test]
fn a_full_disk_is_told_and_the_recording_goes_on_when_there_is_room() {
    let dir = TempDir::new();
    let (disk, counters) = (Room(Arc::new(Mutex::new(12_000))), Arc::<Counters>::default());
    let recorder = Recorder::open_on(options(dir.path()), counters.clone(), disk.clone()).unwrap();
    let shared = recorder.shared.clone();
    let mut flight = Flight::begin("", recorder);
    let settle = |flight: &mut Flight| {
        flight.live(200, &[1, 2]);
        written(&shared);
    };
    while flight.engine.alarm().is_none() {
        settle(&mut flight);
    }
    let alarm = flight.engine.alarm().unwrap();
    assert!(alarm.contains("guarding goes on"), "{alarm}");
    settle(&mut flight);
    *disk.0.lock().unwrap() = usize::MAX;
    while flight.engine.alarm().is_some() {
        settle(&mut flight);
    }
    settle(&mut flight);
    let inputs = flight.inputs;
    flight.land();
    let (fed, _, endings) = replayed(dir.path());
    assert_eq!(endings, [Ending::Open, Ending::Whole]);
    assert_eq!(fed + counters.recording_lost.value(), inputs);
}

#[test]
fn all_segments_together_stay_within_their_bound_and_each_replays() {
    let dir = TempDir::new();
    let (segment_bytes, total_bytes) = (128 * 1024, 512 * 1024);
    let options = Options { segment_bytes, full_bytes: 32 * 1024, total_bytes, ..options(dir.path()) };
    let recorder = Recorder::open(options, Arc::default()).unwrap();
    let shared = recorder.shared.clone();
    let mut flight = Flight::begin("", recorder);
    let first = |dir: &Path| list(&dir.join(DIR)).ok().and_then(|list| Some(list.first()?.0)).unwrap_or(1);
    while first(dir.path()) < 4 {
        flight.live(1_000, &[1, 2]);
        written(&shared);
        let total: u64 = segments(dir.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        assert!(total <= total_bytes, "{total}");
    }
    flight.land();
    let (_, _, endings) = replayed(dir.path());
    assert!(endings.len() > 3 && endings.iter().all(|ending| *ending == Ending::Whole), "{endings:?}");
}

#[test]
fn each_start_and_each_configuration_begins_a_segment_of_its_own() {
    let dir = TempDir::new();
    for _ in 0..2 {
        let recorder = recorder(dir.path());
        let shared = recorder.shared.clone();
        let mut flight = Flight::begin("", recorder);
        flight.live(500, &[1, 2]);
        written(&shared);
        let other = palisade_core::config::Written::parse(&text("# another\n"), "test").unwrap();
        flight.take(palisade_core::Input::Cluster(other));
        flight.live(500, &[1, 2]);
        flight.land();
    }
    let (_, _, endings) = replayed(dir.path());
    assert_eq!(endings, vec![Ending::Whole; 4]);
    let configurations: Vec<bool> = segments(dir.path())
        .iter()
        .map(|path| Segment::open(path).unwrap().head().configuration.contains("# another"))
        .collect();
    assert_eq!(configurations, [false, true, false, true]);
}

#[test]
fn what_is_no_segment_or_of_another_layout_says_so() {
    assert!(matches!(Segment::parse(b"{\"n\":1}".to_vec()), Err(ReadError::NoSegment)));
    let mut bytes = MAGIC.to_vec();
    assert!(frame::put(&mut bytes, &postcard::to_allocvec(&(LAYOUT + 1, 7)).unwrap()));
    let error = Segment::parse(bytes).unwrap_err();
    assert!(error.to_string().contains("replay it with"), "{error}");
}

#[test]
#[ignore = "measures: run it in a release build with --nocapture"]
fn what_recording_a_step_costs() {
    let dir = TempDir::new();
    let mut flight = Flight::begin("", recorder(dir.path()));
    flight.live(20_000, &[1, 2]);
    flight.land();
    let path = &segments(dir.path())[0];
    let mut segment = Segment::open(path).unwrap();
    let written = segment.written().clone();
    let (engine, again) = (|| segment.engine(&written).unwrap(), segment.engine(&written).unwrap());
    let (cold, warm) = (engine(), engine());
    let steps: Vec<_> = segment.by_ref().collect();
    let per_step = |since: std::time::Instant| since.elapsed().as_nanos() / steps.len() as u128;
    let run = |mut plain: palisade_core::Engine, steps: Vec<palisade_core::replay::Step>| {
        let begun = std::time::Instant::now();
        for step in steps {
            drop(plain.take(step.input, step.at));
            while plain.poll_action().is_some() {}
        }
        per_step(begun)
    };
    // The first pass pays for caches and pages.
    let _ = run(cold, steps.clone());
    let alone = run(warm, steps.clone());
    let mut recorded = Recorded::new(again, written, recorder(dir.path()));
    let again = steps.clone();
    let begun = std::time::Instant::now();
    for step in again {
        drop(recorded.take(step.input, step.at));
        while recorded.poll_action().is_some() {}
    }
    let both = per_step(begun);
    let begun = std::time::Instant::now();
    let fed = fed(&mut Segment::open(path).unwrap()).inputs;
    println!(
        "{fed} steps, {} bytes each; a step: {alone} ns alone, {both} ns recorded; a replayed one: {} ns",
        fs::metadata(path).unwrap().len() / fed,
        per_step(begun)
    );
}
