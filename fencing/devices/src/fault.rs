//! A device that wraps another and fails on purpose, for tests and drills. It keeps to the rules of a device: it ends by
//! the deadline, and says nothing that a real device could not say.

use std::collections::VecDeque;
use std::time::Duration;

use palisade_ladder::{Command, Failure, Reading, Response};
use tokio::time::{self, Instant};

use crate::warrant::no_answer_since;
use crate::{Device, Warrant};

/// One thing that goes wrong with one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The command goes through, late.
    Delay(Duration),
    /// The command is carried out, and its answer is lost.
    LoseAnswer,
    /// The command never reaches the device.
    LoseCommand,
    /// What comes back makes no sense.
    Garbage,
    /// The device refuses, and does nothing.
    Refuse,
    /// The device acknowledges and does nothing; asked for power, it says so.
    Lie(Reading),
}

/// `inner`, failing as told.
#[derive(Debug)]
pub struct Faulty<D> {
    inner: D,
    next: VecDeque<Option<Fault>>,
    always: Option<Fault>,
}

impl<D> Faulty<D> {
    /// Fails never, until told.
    #[must_use]
    pub fn new(inner: D) -> Self {
        Self { inner, next: VecDeque::new(), always: None }
    }

    /// Fails so with every command that no [`Self::then`] speaks of.
    #[must_use]
    pub fn always(mut self, fault: Fault) -> Self {
        self.always = Some(fault);
        self
    }

    /// Fails so (or not) with the next command, then with the one after it, and so on.
    #[must_use]
    pub fn then(mut self, fault: Option<Fault>) -> Self {
        self.next.push_back(fault);
        self
    }

    /// The wrapped device.
    pub fn inner(&self) -> &D {
        &self.inner
    }
}

impl<D: Device> Device for Faulty<D> {
    async fn run(&mut self, command: Command, warrant: Warrant) -> Result<Response, Failure> {
        let (started, deadline) = (Instant::now(), warrant.deadline);
        let fault = self.next.pop_front().unwrap_or_else(|| self.always.clone());
        match fault {
            None => self.inner.run(command, warrant).await,
            Some(Fault::Delay(by)) => {
                if Instant::now() + by >= deadline {
                    return silence(started, deadline).await;
                }
                time::sleep(by).await;
                self.inner.run(command, warrant).await
            }
            Some(Fault::LoseAnswer) => {
                let _ = self.inner.run(command, warrant).await;
                silence(started, deadline).await
            }
            Some(Fault::LoseCommand) => silence(started, deadline).await,
            Some(Fault::Garbage) => Err(Failure::Garbage { detail: "fault injected".into() }),
            Some(Fault::Refuse) => Err(Failure::Refused { code: "0xd5 (fault injected)".into() }),
            Some(Fault::Lie(power)) => match command {
                Command::Off | Command::On => Ok(Response::Acknowledged),
                Command::Read => Ok(Response::Reads(power)),
                Command::Prove => match self.inner.run(command, warrant).await? {
                    Response::Proven(proven) => {
                        Ok(Response::Proven(palisade_ladder::Proven { reads: power, ..proven }))
                    }
                    other @ (Response::Acknowledged | Response::AlreadySo | Response::Reads(_)) => Ok(other),
                },
            },
        }
    }

    async fn close(&mut self, deadline: Instant) {
        self.inner.close(deadline).await;
    }
}

async fn silence(started: Instant, deadline: Instant) -> Result<Response, Failure> {
    time::sleep_until(deadline).await;
    Err(no_answer_since(started))
}
