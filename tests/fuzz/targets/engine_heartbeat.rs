//! The engine of one host of three, told anything that authentic peers, the witness, devices, disk and operators could say.

mod bench;
mod words;

use palisade_core::action::{Request, Seen, StorageHealth, WorkloadReport};
use palisade_core::config::ProbeId;
use palisade_core::health::{Ill, Verdict as Health};
use palisade_ladder::{DeviceId, Failure, Identity, Proven, Reading, Response};
use palisade_proto::fuzz::Bytes;
use palisade_proto::message::{HealthClass, Verdict};
use palisade_proto::wire::decode_heartbeat;
use palisade_proto::{Answer, HostId, WorkloadId};

use bench::Bench;

/// The most inputs of one run: more find nothing new, and take long.
const INPUTS_MAX: usize = 256;
/// How far one step of time goes, in ms: from less than the shortest gap to more than most holds.
const STEPS_MS: [u64; 7] = [0, 1, 10, 50, 200, 1000, 5000];
/// For how long a host freezes: for longer than any hold.
const FROZEN_MS: u64 = 60_000;

/// Whatever is said: every input ends in a bounded number of actions, time goes on, what is sent fits a packet, and nothing
/// acts before its intent is durable or without standing (see [`Bench::drain`]).
pub(crate) fn target(bytes: &[u8]) {
    let mut bytes = Bytes::new(bytes);
    let mut bench = Bench::new(&mut bytes);
    for _ in 0..INPUTS_MAX {
        if bytes.is_empty() || bench.is_over() {
            break;
        }
        input(&mut bench, &mut bytes);
        bench.drain();
    }
    bench.check_readers();
}

fn input(bench: &mut Bench, bytes: &mut Bytes<'_>) {
    match bytes.byte() % 18 {
        0..=3 => match STEPS_MS.get(bytes.below(STEPS_MS.len() + 1)) {
            Some(step_ms) => bench.wait(*step_ms),
            None => bench.freeze(FROZEN_MS),
        },
        4 => {
            let from = words::life(bytes);
            let (seq, message) = (bytes.word(), bytes.part());
            if let Ok(heartbeat) = decode_heartbeat(from, seq, message) {
                bench.hear(heartbeat);
            }
        }
        5..=8 => {
            let heartbeat = words::heartbeat(bench, bytes);
            bench.hear(heartbeat);
        }
        9 => answer_ask(bench, bytes),
        10 => answer_order(bench, bytes),
        11 => bench.durable(bytes.below(4)),
        12 => {
            let report = workload_report(bytes.byte());
            bench.engine.handle_workload(WorkloadId(bytes.byte() % 3), report, bench.now());
        }
        13 => {
            let health = match bytes.byte() % 3 {
                0 => StorageHealth::Healthy,
                1 => StorageHealth::Failed("no".to_owned()),
                _ => StorageHealth::Unknown,
            };
            bench.engine.handle_storage(bytes.below(2), health, bench.now());
        }
        14 => request(bench, bytes),
        15 => own_state(bench, bytes),
        16 => bench.disk_hangs = bytes.byte() % 2 == 1,
        _ => ending(bench, bytes.byte()),
    }
}

fn answer_ask(bench: &mut Bench, bytes: &mut Bytes<'_>) {
    let verdicts = [
        Verdict::Granted,
        Verdict::Noted,
        Verdict::Silent,
        Verdict::IncumbentsOnly,
        Verdict::Conflict,
        Verdict::ElectorateLives,
        Verdict::OtherTiming,
        Verdict::Full,
    ];
    let verdict = verdicts.get(bytes.below(verdicts.len())).copied().unwrap_or(Verdict::Full);
    let back = bytes.below(3);
    let ask = bench.asks.iter().rev().nth(back).map_or(bytes.word(), |ask| ask.seq);
    let to = if bytes.byte() == 255 { words::life(bytes) } else { bench.engine.me() };
    bench.engine.handle_answer(&Answer { start: [1; 8], seq: ask, to, ask, verdict }, bench.now());
}

fn answer_order(bench: &mut Bench, bytes: &mut Bytes<'_>) {
    let proven = |reads, may_fence| Proven { identity: Identity("1".repeat(32)), may_fence, reads };
    let answer = match bytes.byte() % 10 {
        0 => Ok(Response::Acknowledged),
        1 => Ok(Response::AlreadySo),
        2 | 3 => Ok(Response::Reads(Reading::Off)),
        4 => Ok(Response::Reads(Reading::On)),
        5 => Ok(Response::Reads(Reading::Unknown)),
        6 => Ok(Response::Proven(proven(Reading::On, true))),
        7 => Err(Failure::Cancelled),
        8 => Err(Failure::NoAnswer { waited_ms: 1000 }),
        _ => Err(Failure::Refused { code: "0xc1".to_owned() }),
    };
    if bytes.byte().is_multiple_of(8) {
        let path = if answer.is_ok() {
            Ok(proven(Reading::On, bytes.byte().is_multiple_of(2)))
        } else {
            Err(Failure::Cancelled)
        };
        return bench.engine.handle_fence_path(DeviceId(bytes.byte().into()), path, bench.now());
    }
    if let Some(order) = bench.take_order(bytes.below(3)) {
        bench.engine.handle_device(order.id, answer, bench.now());
    }
}

fn workload_report(kind: u8) -> WorkloadReport {
    let why = || "why".to_owned();
    match kind % 7 {
        0 => WorkloadReport::Started,
        1 => WorkloadReport::StartFailed(why()),
        2 => WorkloadReport::Stopped,
        3 => WorkloadReport::StopFailed(why()),
        4 => WorkloadReport::Seen(Seen::Running),
        5 => WorkloadReport::Seen(Seen::Stopped),
        _ => WorkloadReport::Seen(Seen::Unknown(why())),
    }
}

fn request(bench: &mut Bench, bytes: &mut Bytes<'_>) {
    let (reason, by) = ("seen".to_owned(), "root".to_owned());
    let host = HostId::new(bytes.byte() % 5).unwrap_or(bench.engine.me().host);
    let request = match bytes.byte() % 3 {
        0 => Request::Fence { host, reason, by },
        1 => Request::Confirm { host, reason, by, statement: Ok(None) },
        _ => {
            let (workload, run) = (WorkloadId(bytes.byte() % 3), bytes.byte().is_multiple_of(2));
            Request::Desire { workload, run, reason, by }
        }
    };
    let told = bench.engine.handle_request(request, bench.now());
    let words = told.unwrap_or_else(|refused| refused.to_string());
    palisade_proto::fuzz::check_words(&words);
}

fn own_state(bench: &mut Bench, bytes: &mut Bytes<'_>) {
    let now = bench.now();
    let bad = (bytes.byte() % 2 == 1).then(|| "no".to_owned());
    match bytes.byte() % 6 {
        5 => {
            let verdicts = [Health::Healthy, Health::Degraded, Health::Failed, Health::Unknown];
            let ills = (0..bytes.below(3)).map(|_| {
                let (verdict, last) = (verdicts[bytes.below(4)], verdicts[bytes.below(4)]);
                Ill { probe: ProbeId(bench.probe(bytes)), verdict, last, looked: true, why: "no".to_owned() }
            });
            let ills = ills.collect();
            bench.engine.handle_ills(ills, now);
        }
        0 => bench.engine.handle_journal(bad, now),
        1 => bench.engine.handle_unfit(bad.into_iter().collect(), now),
        2 => bench.engine.handle_watchdog(bad.map_or(Ok(()), Err), now),
        3 => {
            let class = if bad.is_some() { HealthClass::Failed } else { HealthClass::Degraded };
            bench.engine.handle_health(class, bytes.short(), now);
        }
        _ => bench.engine.handle_slept(now),
    }
}

/// Rare, since little happens after it.
fn ending(bench: &mut Bench, kind: u8) {
    match kind {
        0..=7 => bench.engine.handle_leave("asked to", bench.now()),
        8..=15 => bench.engine.handle_restart(bench.now()),
        _ => {}
    }
}
