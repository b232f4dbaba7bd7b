//! A device's task, on a device that does as the test says: who goes first, what is cancelled, what is published.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy knows a test only inside #[test]"
)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use palisade_devices::fault::{Fault, Faulty};
use palisade_devices::{Device, Reprove, Standing, Warrant, spawn};
use palisade_ladder::{Command, Failure, Identity, Proven, Reading, Response};
use tokio::time::Instant;

type Log = Arc<Mutex<Vec<&'static str>>>;

/// Takes as long as it is told, and keeps a log.
struct Scripted {
    log: Log,
    prove_takes: Duration,
    off_takes: Duration,
    login: Result<(), Failure>,
}

impl Scripted {
    fn new(log: &Log) -> Self {
        let quick = Duration::from_millis(1);
        Self { log: Arc::clone(log), prove_takes: quick, off_takes: quick, login: Ok(()) }
    }
}

/// Says when a command was dropped before its end.
struct Unfinished(Log, bool);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.1 {
            self.0.lock().unwrap().push("dropped");
        }
    }
}

impl Device for Scripted {
    async fn run(&mut self, command: Command, warrant: Warrant) -> Result<Response, Failure> {
        let mut unfinished = Unfinished(Arc::clone(&self.log), false);
        let (name, takes, response) = match command {
            Command::Off => ("off", self.off_takes, Response::Acknowledged),
            Command::On => ("on", Duration::ZERO, Response::Acknowledged),
            Command::Read => ("read", Duration::ZERO, Response::Reads(Reading::Off)),
            Command::Prove => ("prove", self.prove_takes, Response::Proven(proven())),
        };
        self.log.lock().unwrap().push(name);
        let ended = tokio::time::timeout_at(warrant.deadline, tokio::time::sleep(takes)).await;
        unfinished.1 = true;
        ended.map_err(|_| Failure::NoAnswer { waited_ms: 0 })?;
        self.login.clone()?;
        Ok(response)
    }

    async fn close(&mut self, _deadline: Instant) {
        self.log.lock().unwrap().push("close");
    }
}

fn proven() -> Proven {
    Proven { identity: Identity("a1".into()), may_fence: true, reads: Reading::On }
}

fn every(seconds: u64) -> Option<Reprove> {
    let deadline = Duration::from_secs(60);
    Some(Reprove { every: Duration::from_secs(seconds), deadline, stays: true })
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

#[tokio::test(start_paused = true)]
async fn an_order_goes_before_a_proof_that_hangs() {
    let log = Log::default();
    let device = Scripted { prove_takes: Duration::from_secs(3600), ..Scripted::new(&log) };
    let handle = spawn(device, every(10));
    tokio::time::sleep(Duration::from_secs(1)).await; // paused time: lets the proof begin
    let started = Instant::now();
    assert_eq!(handle.run(Command::Off, soon()).await, Ok(Response::Acknowledged));
    assert!(started.elapsed() < Duration::from_millis(10), "{:?}", started.elapsed());
    assert_eq!(*log.lock().unwrap(), ["prove", "dropped", "off"]);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_answer_cancels_the_command() {
    let log = Log::default();
    let device = Scripted { off_takes: Duration::from_secs(3600), ..Scripted::new(&log) };
    let handle = spawn(device, None);
    let far = Instant::now() + Duration::from_secs(7200);
    let gone = tokio::time::timeout(Duration::from_secs(1), handle.run(Command::Off, far)).await;
    assert!(gone.is_err());
    assert_eq!(handle.run(Command::Read, soon()).await, Ok(Response::Reads(Reading::Off)));
    assert_eq!(*log.lock().unwrap(), ["off", "dropped", "read"]);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_waited_out_its_deadline_is_never_sent() {
    let log = Log::default();
    // Ends a little after the deadline of the second order, while its sender still waits for word.
    let device = Scripted { off_takes: Duration::from_millis(5200), ..Scripted::new(&log) };
    let handle = spawn(device, None);
    let long = handle.run(Command::Off, Instant::now() + Duration::from_secs(20));
    let late = handle.run(Command::On, soon());
    let (long, late) = tokio::join!(long, late);
    assert_eq!(long, Ok(Response::Acknowledged));
    assert!(matches!(late, Err(Failure::NoAnswer { .. })), "{late:?}");
    assert_eq!(handle.run(Command::Read, soon()).await, Ok(Response::Reads(Reading::Off)));
    assert_eq!(*log.lock().unwrap(), ["off", "read"]);
}

#[tokio::test(start_paused = true)]
async fn the_path_is_proven_at_once_and_then_at_its_pace() {
    let log = Log::default();
    let handle = spawn(Scripted::new(&log), every(10));
    let mut health = handle.health();
    assert!(health.borrow().last.is_none(), "nothing is known before the first proof");
    let mut at = Vec::new();
    for _ in 0..20 {
        health.changed().await.unwrap();
        assert_eq!(health.borrow().last, Some(Ok(proven())));
        at.push(health.borrow().proven_at.unwrap());
    }
    for pair in at.windows(2) {
        let apart = pair[1] - pair[0];
        assert!((7500..=10_010).contains(&apart.as_millis()), "{apart:?}");
    }
    assert!(at.windows(3).any(|w| w[1] - w[0] != w[2] - w[1]), "never the same rhythm");
}

#[tokio::test(start_paused = true)]
async fn the_pace_can_change() {
    let log = Log::default();
    let handle = spawn(Scripted::new(&log), None);
    let mut health = handle.health();
    handle.pace(every(10));
    let started = Instant::now();
    health.changed().await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(1), "at once");
    health.changed().await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(11));
    handle.pace(None);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(*log.lock().unwrap(), ["prove", "prove"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_login_is_tried_ever_more_slowly() {
    let log = Log::default();
    let refused = Failure::LoginRefused { at: "RAKP message 2".into() };
    let device = Scripted { login: Err(refused.clone()), ..Scripted::new(&log) };
    let handle = spawn(device, every(10));
    let mut health = handle.health();
    let started = Instant::now();
    for _ in 0..5 {
        health.changed().await.unwrap();
        assert_eq!(health.borrow().last, Some(Err(refused.clone())));
        assert!(health.borrow().proven_at.is_none());
    }
    let took = started.elapsed();
    assert!(took > Duration::from_secs(150), "an account must not be locked by us: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn orders_do_not_lock_an_account_either() {
    let log = Log::default();
    let refused = Failure::LoginRefused { at: "Sessions: 401".into() };
    let device = Scripted { login: Err(refused.clone()), ..Scripted::new(&log) };
    let handle = spawn(device, None);
    for _ in 0..5 {
        assert_eq!(handle.run(Command::Off, soon()).await, Err(refused.clone()));
    }
    assert_eq!(*log.lock().unwrap(), ["off", "off"], "then it rests");
    tokio::time::sleep(Duration::from_secs(31)).await; // paused time: the rest
    for _ in 0..2 {
        assert_eq!(handle.run(Command::Read, soon()).await, Err(refused.clone()));
    }
    assert_eq!(*log.lock().unwrap(), ["off", "off", "read"], "one more");
}

#[tokio::test(start_paused = true)]
async fn who_only_looks_now_and_then_keeps_no_session() {
    let log = Log::default();
    let handle = spawn(Scripted::new(&log), every(10).map(|pace| Reprove { stays: false, ..pace }));
    let mut health = handle.health();
    health.changed().await.unwrap();
    health.changed().await.unwrap();
    assert_eq!(handle.run(Command::Off, soon()).await, Ok(Response::Acknowledged));
    assert_eq!(*log.lock().unwrap(), ["prove", "close", "prove", "close", "off"]);
}

#[tokio::test(start_paused = true)]
async fn the_task_takes_leave_when_the_last_handle_goes() {
    let log = Log::default();
    let handle = spawn(Scripted::new(&log), every(10));
    let mut health = handle.health();
    health.changed().await.unwrap();
    drop(handle);
    while health.changed().await.is_ok() {}
    assert_eq!(*log.lock().unwrap(), ["prove", "close"]);
}

#[tokio::test(start_paused = true)]
async fn faults_are_injected_and_end_by_the_deadline() {
    let log = Log::default();
    let faulty = Faulty::new(Scripted::new(&log))
        .then(Some(Fault::Delay(Duration::from_secs(2))))
        .then(Some(Fault::Delay(Duration::from_secs(60))))
        .then(Some(Fault::LoseAnswer))
        .then(Some(Fault::LoseCommand))
        .then(Some(Fault::Garbage))
        .then(Some(Fault::Refuse))
        .then(None)
        .always(Fault::Lie(Reading::On));
    let handle = spawn(faulty, None);
    let started = Instant::now();
    assert_eq!(handle.run(Command::Off, soon()).await, Ok(Response::Acknowledged));
    assert!(started.elapsed() >= Duration::from_secs(2));
    for _ in 0..3 {
        let started = Instant::now();
        let lost = handle.run(Command::Off, soon()).await;
        assert!(matches!(lost, Err(Failure::NoAnswer { .. })), "{lost:?}");
        assert!(started.elapsed() <= Duration::from_millis(5010));
    }
    assert!(matches!(handle.run(Command::Off, soon()).await, Err(Failure::Garbage { .. })));
    assert!(matches!(handle.run(Command::Off, soon()).await, Err(Failure::Refused { .. })));
    assert_eq!(handle.run(Command::Off, soon()).await, Ok(Response::Acknowledged));
    assert_eq!(*log.lock().unwrap(), ["off", "off", "off"], "late, its answer lost, and as told");
    assert_eq!(handle.run(Command::Off, soon()).await, Ok(Response::Acknowledged));
    assert_eq!(handle.run(Command::Read, soon()).await, Ok(Response::Reads(Reading::On)));
    assert_eq!(log.lock().unwrap().len(), 3, "a lie orders nothing");
}

/// An order that waits behind another one until standing is lost is never begun; a reading needs no standing.
#[tokio::test(start_paused = true)]
async fn safe_2_an_order_that_waited_until_standing_was_lost_is_not_begun() {
    let log = Log::default();
    let device = Scripted { off_takes: Duration::from_secs(2), ..Scripted::new(&log) };
    let handle = spawn(device, None);
    let standing = Standing::new(2, || 1);
    let warrant = || Warrant { deadline: soon(), standing: Some(standing.clone()), whom: None };
    let first = handle.run(Command::Off, warrant());
    let waiting = handle.run(Command::Off, warrant());
    let lost = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        standing.end();
    };
    let (first, waiting, ()) = tokio::join!(first, waiting, lost);
    assert_eq!(first, Ok(Response::Acknowledged), "sent while it stood: its answer counts");
    assert_eq!(waiting, Err(Failure::Cancelled));
    assert_eq!(handle.run(Command::Read, soon()).await, Ok(Response::Reads(Reading::Off)));
    assert_eq!(*log.lock().unwrap(), ["off", "read"]);
}
