//! A recorded flight, fed again: the same decisions; another flight told from it; other settings.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at the variants it is about")]

mod common;

use std::sync::Arc;

use common::{Bench, life, text};
use palisade_core::action::{OrderId, Request, Seen, StorageHealth, Ticket, WorkloadReport};
use palisade_core::config::{Override, ProbeId, Written};
use palisade_core::health::{self, Ill};
use palisade_core::record::Event;
use palisade_core::replay::{Outcome, Step, Told, otherwise, replay};
use palisade_core::{Engine, Input};
use palisade_ladder::{DeviceId, Failure, Identity, Proven, Reading, Response};
use palisade_proto::message::{Grant, HealthClass, Verdict};
use palisade_proto::{Answer, HostId, Incarnation, Time, WorkloadId};

/// An engine whose every input is kept with what came of it.
struct Flight {
    bench: Bench,
    written: Written,
    snapshot: Vec<u8>,
    steps: Vec<Step>,
}

impl Flight {
    /// Three hosts that have stood together for a while; from then on it is recorded.
    fn begin(extra: &str) -> Self {
        let members = [life(1, 1), life(2, 1)];
        let mut bench = Bench::new(3, extra, &members);
        bench.live(15_000, &members);
        bench.disk_hangs = true;
        let snapshot = postcard::to_allocvec(&bench.engine).unwrap();
        let written = Written::parse(&text(3, extra, &[0]), "test").unwrap();
        Self { bench, written, snapshot, steps: Vec::new() }
    }

    fn take(&mut self, input: Input) {
        let at = Time(self.bench.now);
        drop(self.bench.engine.take(input.clone(), at));
        self.steps.push(Step { at, input, outcome: Outcome::of(&self.bench.engine) });
        self.bench.drain();
    }

    /// Lets time pass; the disk takes 3 ms for a record.
    fn wait(&mut self, ms: u64) {
        let end = self.bench.now + ms;
        loop {
            let waiting = std::mem::take(&mut self.bench.waiting);
            if !waiting.is_empty() {
                self.bench.now += 3;
            }
            waiting.into_iter().for_each(|ticket| self.take(Input::Durable(ticket)));
            let wake = self.bench.engine.wake().0;
            if wake > end {
                break;
            }
            self.bench.now = self.bench.now.max(wake);
            self.take(Input::Tick);
        }
        self.bench.now = self.bench.now.max(end);
    }

    /// These speak, and grant what is asked.
    fn live(&mut self, ms: u64, speakers: &[Incarnation]) {
        for _ in 0..ms / 50 {
            self.wait(50);
            for member in speakers {
                let mut word = self.bench.word(*member, self.bench.now * 1000, &[life(1, 1), life(2, 1)]);
                word.grants =
                    [Grant { to: self.bench.me(), seq: self.bench.last_seq() }].into_iter().collect();
                self.take(Input::Heartbeat(Arc::new(word)));
            }
        }
    }

    fn engine(&self, written: &Written) -> Engine {
        let engine: Engine = postcard::from_bytes(&self.snapshot).unwrap();
        engine.configured(Arc::clone(written.cluster()))
    }

    fn with(&self, set: &str) -> Vec<Told> {
        let set = [Override::parse(set).unwrap()];
        let would = self.engine(&self.written.with(&set).unwrap());
        let told = otherwise(self.engine(&self.written), would, &set, self.steps.clone()).unwrap();
        assert!(told.parting.is_none(), "{:?}", told.parting);
        assert_eq!(told.inputs, self.steps.len() as u64);
        told.lines
    }
}

/// Host c falls silent for 1.7 s and speaks again.
fn silence(extra: &str) -> Flight {
    let (b, c) = (life(1, 1), life(2, 1));
    let mut flight = Flight::begin(extra);
    flight.live(1_000, &[b, c]);
    flight.live(1_700, &[b]);
    flight.live(1_000, &[b, c]);
    flight
}

fn when(lines: &[Told], otherwise: bool, kind: impl Fn(&Event) -> bool) -> Option<u64> {
    lines.iter().find_map(|line| match line {
        Told::Both(one) if kind(&one.event) => Some(one.at.0),
        Told::Recorded(one) if !otherwise && kind(&one.event) => Some(one.at.0),
        Told::Otherwise(one) if otherwise && kind(&one.event) => Some(one.at.0),
        Told::Both(_) | Told::Recorded(_) | Told::Otherwise(_) => None,
    })
}

fn is_fence(event: &Event) -> bool {
    matches!(event, Event::FenceDecided { .. })
}

#[test]
fn a_flight_fed_again_gives_the_same_decisions() {
    let flight = silence("");
    let replayed = replay(flight.engine(&flight.written), flight.steps.clone());
    assert!(replayed.parting.is_none(), "{:?}", replayed.parting);
    assert_eq!(replayed.inputs, flight.steps.len() as u64);
    assert!(replayed.decisions.iter().any(|decision| is_fence(&decision.event)));
    let recorded: Vec<&Event> = flight.steps.iter().flat_map(|step| &step.outcome.events).collect();
    assert!(replayed.decisions.iter().map(|decision| &decision.event).eq(recorded));
}

#[test]
fn the_first_input_at_which_they_part_is_told() {
    let flight = silence("");
    let decided = flight.steps.iter().position(|step| step.outcome.events.iter().any(is_fence)).unwrap();
    let mut other_act = flight.steps.clone();
    if let Some(digest) = &mut other_act[decided].outcome.digest {
        digest[7] ^= 1;
    }
    let mut other_word = flight.steps.clone();
    other_word[decided].outcome.events.clear();
    for steps in [other_act, other_word] {
        let parting = replay(flight.engine(&flight.written), steps).parting.unwrap();
        assert_eq!((parting.number, parting.at), (decided as u64 + 1, flight.steps[decided].at));
        assert!(parting.decided.iter().any(is_fence) && !parting.actions.is_empty());
    }
}

#[test]
fn with_a_shorter_suspect_the_verdict_comes_earlier() {
    let flight = silence("[timing]\nsuspect = \"1400ms\"\n");
    let lines = flight.with("suspect=1020ms");
    let (was, would) = (when(&lines, false, is_fence).unwrap(), when(&lines, true, is_fence).unwrap());
    // 380 ms at best; the peer's grant for the new view is that for the next heartbeat recorded.
    assert!((180..=380).contains(&(was - would)), "{was} and {would}");
    // So much earlier that the device is ordered off before the host is back.
    let is_order = |event: &Event| matches!(event, Event::OrderIntended { .. });
    assert_eq!(when(&lines, false, is_order), None);
    assert!(when(&lines, true, is_order).is_some());
}

#[test]
fn with_a_longer_suspect_the_fence_never_comes_and_the_quorum_stays() {
    let flight = silence("");
    let lines = flight.with("suspect=2s");
    assert!(when(&lines, false, is_fence).is_some());
    assert_eq!(when(&lines, true, is_fence), None);
    let lost = |event: &Event| matches!(event, Event::Standing { quorate: false, .. });
    assert_eq!(when(&lines, true, lost), None, "the peers' grants are for what it would have asked");
}

#[test]
fn with_the_same_settings_nothing_differs() {
    let flight = silence("");
    for line in flight.with("suspect=1020ms") {
        assert!(matches!(line, Told::Both(_)), "{line:?}");
    }
}

#[test]
fn a_setting_that_is_none_is_refused_with_the_way_out() {
    let refused = |text| Override::parse(text).unwrap_err();
    assert!(
        refused("suspekt=2s").contains("can be set: heartbeat, suspect, grace"),
        "{}",
        refused("suspekt=2s")
    );
    assert!(refused("lease=2s").contains("every recorded heartbeat"), "{}", refused("lease=2s"));
    assert!(refused("suspect").contains("KEY=VALUE"), "{}", refused("suspect"));
    assert!(refused("suspect=2").contains("`2` is no length of time"), "{}", refused("suspect=2"));
    assert_eq!(Override::parse("timing.suspect = \"2s\"").unwrap().to_string(), "suspect = 2 s");
    let written = Written::parse(&text(3, "", &[0]), "test").unwrap();
    let error = written.with(&[Override::parse("suspect=500ms").unwrap()]).unwrap_err();
    assert!(!error.contradictions().is_empty(), "{error}");
}

/// Every variant, once or more: a new one is to be added here, and at the end of the enum.
fn every_input() -> Vec<Input> {
    let flight = {
        let mut flight = Flight::begin("");
        flight.live(200, &[life(1, 1)]);
        flight
    };
    let host = HostId::new(2).unwrap();
    let proven = Proven { identity: Identity("a1".into()), may_fence: true, reads: Reading::On };
    let answer = Answer { start: [1; 8], seq: 3, to: life(0, 1), ask: 9, verdict: Verdict::Granted };
    let heartbeat = flight.steps.iter().find(|step| matches!(step.input, Input::Heartbeat(_))).unwrap();
    let (reason, by) = ("seen".to_owned(), "root".to_owned());
    vec![
        Input::Tick,
        Input::Slept,
        heartbeat.input.clone(),
        Input::Answer(answer),
        Input::Durable(Ticket(7)),
        Input::Journal(None),
        Input::Journal(Some("no room".into())),
        Input::Device(OrderId(4), Ok(Response::Reads(Reading::Off))),
        Input::Device(OrderId(4), Err(Failure::NoAnswer { waited_ms: 5 })),
        Input::FencePath(DeviceId(1), Ok(proven)),
        Input::FencePath(DeviceId(1), Err(Failure::Cancelled)),
        Input::Workload(WorkloadId(0), WorkloadReport::Seen(Seen::Unknown("hangs".into()))),
        Input::Storage(0, StorageHealth::Failed("read-only".into())),
        Input::Health(HealthClass::Degraded, 250),
        Input::Unfit(vec!["autostart".into()]),
        Input::Ills(vec![Ill {
            probe: ProbeId(7),
            verdict: health::Verdict::Failed,
            last: health::Verdict::Unknown,
            looked: true,
            why: "gone".into(),
        }]),
        Input::Watchdog(Err("busy".into())),
        Input::Request(Request::Fence { host, reason: reason.clone(), by: by.clone() }),
        Input::Request(Request::Confirm {
            host,
            reason: reason.clone(),
            by: by.clone(),
            statement: Ok(None),
        }),
        Input::Request(Request::Desire { workload: WorkloadId(0), run: false, reason, by }),
        Input::Leave("the agent is stopped".into()),
        Input::Restart,
        Input::Cluster(flight.written),
    ]
}

#[test]
fn every_input_reads_back_as_it_was_written() {
    for input in every_input() {
        let bytes = postcard::to_allocvec(&input).unwrap();
        assert_eq!(postcard::from_bytes::<Input>(&bytes).unwrap(), input);
    }
}

#[test]
fn every_input_is_taken_the_same_way_twice() {
    let mut flight = Flight::begin("");
    for input in every_input() {
        flight.bench.now += 10;
        flight.take(input);
    }
    let replayed = replay(flight.engine(&flight.written), flight.steps.clone());
    assert!(replayed.parting.is_none(), "{:?}", replayed.parting);
}
