//! A device's own task: takes commands one at a time, and proves the fence path in between.
//!
//! Whoever drops the answer cancels the command. A command that comes while the path is being proven goes first: the proof is
//! dropped, never waited for.

use std::time::Duration;

use palisade_ladder::{Command, Failure, Proven, Response};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{self, Instant};

use crate::warrant::no_answer_since;
use crate::{Device, Warrant};

/// Commands that may wait for one device. A fence has one on its way at a time; the rest is an operator's.
const QUEUE_LEN: usize = 4;
/// A refused login is tried again this many times more slowly at most: BMCs lock accounts, and an operator needs this one.
const REFUSED_SLOWDOWN_MAX: u32 = 8;
/// After so many refused logins in a row an order does not try another one before [`REFUSED_REST`] is over.
const REFUSED_MAX: u32 = 2;
const REFUSED_REST: Duration = Duration::from_secs(30);
/// For taking leave when the agent ends.
const CLOSE_WAIT: Duration = Duration::from_millis(500);

/// How often the fence path is proven, and how long one proof may take.
#[derive(Clone, Copy, Debug)]
pub struct Reprove {
    /// From one proof to the next, shortened at random by up to a quarter so that many hosts do not ask one BMC at once.
    pub every: Duration,
    /// For one proof.
    pub deadline: Duration,
    /// Whether the device keeps its session from one proof to the next. BMCs have a handful of sessions, and only who may have to
    /// fence needs one at hand.
    pub stays: bool,
}

/// What is known of a fence path.
#[derive(Clone, Debug, Default)]
pub struct PathHealth {
    /// When it was last found in working order.
    pub proven_at: Option<Instant>,
    /// The newest proof, and how it ended.
    pub last: Option<Result<Proven, Failure>>,
}

/// A device as the agent holds it. The task ends when the last handle is dropped.
#[derive(Clone, Debug)]
pub struct DeviceHandle {
    orders: mpsc::Sender<Order>,
    health: watch::Receiver<PathHealth>,
    pace: watch::Sender<Option<Reprove>>,
}

#[derive(Debug)]
struct Order {
    command: Command,
    warrant: Warrant,
    reply: oneshot::Sender<Result<Response, Failure>>,
}

/// Gives `device` a task on the current runtime. With `reprove` absent it only does as it is told.
pub fn spawn<D: Device + 'static>(device: D, reprove: Option<Reprove>) -> DeviceHandle {
    let (orders, inbox) = mpsc::channel(QUEUE_LEN);
    let (publish, health) = watch::channel(PathHealth::default());
    let (pace, reprove) = watch::channel(reprove);
    tokio::spawn(Actor { device, inbox, publish, reprove, slowdown: 1, refused: None }.live());
    DeviceHandle { orders, health, pace }
}

impl DeviceHandle {
    /// Carries out `command` while `warrant` holds. Dropping the future cancels it.
    ///
    /// # Errors
    /// The device's failure; [`Failure::NoAnswer`] if the deadline passes while other commands go first;
    /// [`Failure::Cancelled`] if standing ends before the command is sent.
    pub async fn run(&self, command: Command, warrant: impl Into<Warrant>) -> Result<Response, Failure> {
        let (started, warrant) = (Instant::now(), warrant.into());
        let deadline = warrant.deadline;
        let (reply, answer) = oneshot::channel();
        let order = Order { command, warrant, reply };
        let outcome = time::timeout_at(deadline + CLOSE_WAIT, async {
            self.orders.send(order).await.map_err(|_| Failure::Cancelled)?;
            answer.await.map_err(|_| Failure::Cancelled)?
        });
        outcome.await.unwrap_or_else(|_| Err(no_answer_since(started)))
    }

    /// Proves the path at another pace from now on, and once at once: a host that becomes responsible for this device
    /// wants it warm.
    pub fn pace(&self, reprove: Option<Reprove>) {
        self.pace.send_replace(reprove);
    }

    /// The state of the fence path, and a way to wait for the next proof of it.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<PathHealth> {
        self.health.clone()
    }
}

struct Actor<D> {
    device: D,
    inbox: mpsc::Receiver<Order>,
    publish: watch::Sender<PathHealth>,
    reprove: watch::Receiver<Option<Reprove>>,
    slowdown: u32,
    refused: Option<Refused>,
}

/// Logins refused, with none that went through since.
struct Refused {
    times: u32,
    newest: Instant,
    failure: Failure,
}

impl<D: Device> Actor<D> {
    async fn live(mut self) {
        let mut next_proof = Instant::now();
        loop {
            let proves = self.reprove.borrow().is_some();
            let due = async {
                if proves {
                    time::sleep_until(next_proof).await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            let order = tokio::select! {
                biased;
                order = self.inbox.recv() => order,
                Ok(()) = self.reprove.changed() => {
                    next_proof = Instant::now();
                    continue;
                }
                () = due => {
                    let interrupted = self.prove().await;
                    next_proof = self.next_proof();
                    match interrupted {
                        Interrupted::No => continue,
                        Interrupted::By(order) => order,
                    }
                }
            };
            match order {
                Some(order) => self.obey(order).await,
                None => break,
            }
        }
        self.device.close(Instant::now() + CLOSE_WAIT).await;
    }

    async fn obey(&mut self, mut order: Order) {
        if order.warrant.deadline <= Instant::now() {
            // Never sent: an order that waited out its deadline is one that somebody has given up.
            let _ = order.reply.send(Err(Failure::NoAnswer { waited_ms: 0 }));
            return;
        }
        if !order.warrant.stands() {
            // SAFE-2: what waited here until standing was lost is not begun.
            let _ = order.reply.send(Err(Failure::Cancelled));
            return;
        }
        if let Some(Refused { times: REFUSED_MAX.., newest, failure }) = &self.refused
            && newest.elapsed() < REFUSED_REST
        {
            let _ = order.reply.send(Err(failure.clone()));
            return;
        }
        let outcome = tokio::select! {
            biased;
            () = order.reply.closed() => return,
            outcome = self.device.run(order.command, order.warrant) => outcome,
        };
        self.count_refusals(&outcome);
        if order.command == Command::Prove {
            self.record(&outcome);
        }
        // Whoever asked may have gone in this very moment.
        let _ = order.reply.send(outcome);
    }

    /// Proves the path, unless a command comes meanwhile.
    async fn prove(&mut self) -> Interrupted {
        let Some(reprove) = *self.reprove.borrow() else { return Interrupted::No };
        let deadline = Instant::now() + reprove.deadline;
        let outcome = tokio::select! {
            biased;
            order = self.inbox.recv() => return Interrupted::By(order),
            outcome = self.device.run(Command::Prove, deadline.into()) => outcome,
        };
        self.count_refusals(&outcome);
        self.record(&outcome);
        if reprove.stays {
            return Interrupted::No;
        }
        tokio::select! {
            biased;
            order = self.inbox.recv() => Interrupted::By(order),
            () = self.device.close(Instant::now() + CLOSE_WAIT) => Interrupted::No,
        }
    }

    fn count_refusals(&mut self, outcome: &Result<Response, Failure>) {
        match outcome {
            Err(failure @ Failure::LoginRefused { .. }) => {
                let times = self.refused.take().map_or(1, |refused| refused.times.saturating_add(1));
                self.refused = Some(Refused { times, newest: Instant::now(), failure: failure.clone() });
            }
            Ok(_) => self.refused = None,
            Err(_) => {}
        }
    }

    fn record(&mut self, outcome: &Result<Response, Failure>) {
        let proof = match outcome {
            Ok(Response::Proven(proven)) => Ok(proven.clone()),
            Ok(Response::Acknowledged | Response::AlreadySo | Response::Reads(_)) => {
                Err(Failure::Garbage { detail: "the driver answered a proof with something else".into() })
            }
            Err(failure) => Err(failure.clone()),
        };
        self.slowdown = match &proof {
            Err(Failure::LoginRefused { .. }) => (self.slowdown * 2).min(REFUSED_SLOWDOWN_MAX),
            Ok(_) | Err(_) => 1,
        };
        self.publish.send_modify(|health| {
            if proof.is_ok() {
                health.proven_at = Some(Instant::now());
            }
            health.last = Some(proof);
        });
    }

    fn next_proof(&self) -> Instant {
        let every = self.reprove.borrow().map_or(Duration::MAX, |reprove| reprove.every);
        let jitter = ring::rand::generate::<[u8; 1]>(&ring::rand::SystemRandom::new())
            .map_or(0, |random| u32::from(random.expose()[0]));
        let shorter = (every / 4).saturating_mul(jitter) / u32::from(u8::MAX);
        let every = every.saturating_sub(shorter).saturating_mul(self.slowdown);
        Instant::now().checked_add(every).unwrap_or_else(Instant::now)
    }
}

enum Interrupted {
    No,
    /// `None`: the last handle is gone.
    By(Option<Order>),
}
