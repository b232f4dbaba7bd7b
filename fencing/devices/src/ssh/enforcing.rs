//! The device: something that is switched for one host by another one, over ssh, or by this one.

use palisade_ladder::{Command, Failure, Identity, Proven, Reading, Response};
use tokio::time::Instant;

use super::Site;
use super::shell::Shell;
use crate::text::clean;
use crate::{Device, Warrant};

/// What is switched there, and how. Pure: scripts of a POSIX shell go out, their answers come in.
pub trait Point: Send + Sync {
    /// What the answers to [`Self::questions`] show.
    type View: Send;

    /// Scripts that change nothing, each asked in turn.
    fn questions(&self) -> Vec<String>;

    /// What they printed, one answer for each question.
    ///
    /// # Errors
    /// With what cannot be understood.
    fn view(&self, answers: &[String]) -> Result<Self::View, String>;

    /// Off is only what lets nothing of the host through (SAFE-4).
    fn reading(&self, view: &Self::View) -> Reading;

    /// Why an off would prove nothing here: none is given then.
    fn hindrance(&self, view: &Self::View) -> Option<String>;

    /// The script that cuts the host off.
    fn cut(&self, view: &Self::View) -> String;

    /// The script that gives it back.
    fn open(&self, view: &Self::View) -> String;

    /// Whose paths these are; for people.
    fn subject(&self) -> String;
}

/// A host that enforces a cut.
pub struct Enforcing<P> {
    site: Site,
    point: P,
}

impl<P: Point> Device for Enforcing<P> {
    async fn run(&mut self, command: Command, warrant: Warrant) -> Result<Response, Failure> {
        warrant.in_time(self.carry_out(command, &warrant)).await
    }

    async fn close(&mut self, _deadline: Instant) {
        // Each command takes its own leave.
    }
}

impl<P: Point> Enforcing<P> {
    /// One that nothing has been asked of yet.
    #[must_use]
    pub fn new(site: impl Into<Site>, point: P) -> Self {
        Self { site: site.into(), point }
    }

    async fn carry_out(&self, command: Command, warrant: &Warrant) -> Result<Response, Failure> {
        if matches!(command, Command::Off | Command::On) && !warrant.holds() {
            // SAFE-2: not even a login for an order that may not be given any more.
            return Err(Failure::Cancelled);
        }
        let mut shell = Shell::open(&self.site).await?;
        let mut answers = Vec::new();
        for question in self.point.questions() {
            answers.push(shell.ask(&question).await?);
        }
        let view = self.point.view(&answers).map_err(|detail| Failure::Garbage { detail: clean(&detail) })?;
        let (reads, hindrance) = (self.point.reading(&view), self.point.hindrance(&view));
        match (command, reads, hindrance) {
            (Command::Read, reads, _) => Ok(Response::Reads(reads)),
            (Command::Prove | Command::Off, _, Some(words)) => Err(Failure::Refused { code: clean(&words) }),
            (Command::Prove, reads, None) => {
                let identity = Identity(clean(&format!("{} {}", self.site, self.point.subject())));
                Ok(Response::Proven(Proven { identity, may_fence: true, reads }))
            }
            (Command::Off, Reading::Off, None) | (Command::On, Reading::On, _) => Ok(Response::AlreadySo),
            (Command::Off, Reading::On | Reading::Unknown, None) => {
                shell.order(&self.point.cut(&view), warrant).await?;
                Ok(Response::Acknowledged)
            }
            (Command::On, Reading::Off | Reading::Unknown, _) => {
                shell.order(&self.point.open(&view), warrant).await?;
                Ok(Response::Acknowledged)
            }
        }
    }
}
