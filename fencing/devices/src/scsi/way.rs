//! One way to a logical unit: what is meant goes out in the words of its protocol, until it is heard.

use std::time::Duration;

use palisade_ladder::{Failure, Response};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::meaning::{Capabilities, HostIdentifier, Look, Out, Registrant, Verdict};
use super::nvme::{self, NvmeReply, NvmeRequest, Question};
use super::words::{self, In, Reply, Request};
use crate::Warrant;
use crate::text::clean;

/// A logical unit has a few things to tell first (a reset, registrations preempted): each costs one try.
const TRIES: u32 = 8;

/// A way that speaks SCSI. Blocks.
pub trait Path: Send {
    /// What operators call it.
    fn name(&self) -> &str;

    /// Carries out one command, and returns when it has ended, whichever way.
    ///
    /// # Errors
    /// [`Failure::Unreachable`] where no answer came from the logical unit; it may have carried out the command.
    fn command(&mut self, request: &Request) -> Result<Reply, Failure>;
}

/// A way that speaks NVMe. Blocks.
pub trait NvmePath: Send {
    /// What operators call it.
    fn name(&self) -> &str;

    /// As [`Path::command`].
    ///
    /// # Errors
    /// [`Failure::Unreachable`] where no answer came from the namespace; it may have carried out the command.
    fn command(&mut self, request: &NvmeRequest) -> Result<NvmeReply, Failure>;
}

/// One way to a logical unit, or to what NVMe calls a namespace.
pub enum Way {
    /// A `/dev/sdX`.
    Scsi(Box<dyn Path>),
    /// A `/dev/nvmeXnY`: all paths of it, where the kernel has them together (native multipath).
    Nvme(Box<dyn NvmePath>),
}

/// For whom is spoken, and how long.
#[derive(Clone, Copy)]
pub(super) struct Talk<'a> {
    pub(super) warrant: &'a Warrant,
    pub(super) reply: &'a oneshot::Sender<Result<Response, Failure>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ordered {
    Done,
    Conflict,
}

impl Talk<'_> {
    fn left(&self) -> Result<Duration, Failure> {
        let left = self.warrant.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(Failure::NoAnswer { waited_ms: 0 }) } else { Ok(left) }
    }

    /// A command that changes something. Each copy of it is sent only while it may be (SAFE-2).
    fn order(
        &self,
        (path, what): (&str, &str),
        mut copy: impl FnMut(Duration) -> Result<Verdict, Failure>,
    ) -> Result<Ordered, Failure> {
        for _ in 0..TRIES {
            // SAFE-2: right before each copy; whoever asked and has gone wants none either.
            if !self.warrant.holds() || self.reply.is_closed() {
                return Err(Failure::Cancelled);
            }
            match copy(self.left()?)? {
                Verdict::Done => return Ok(Ordered::Done),
                Verdict::Conflict => return Ok(Ordered::Conflict),
                Verdict::Again => {}
                Verdict::Refused(why) => return Err(refused(path, what, &why)),
                Verdict::Lost(why) => return Err(lost(path, what, &why)),
            }
        }
        Err(refused(path, what, TOO_OFTEN))
    }

    /// A command that changes nothing.
    fn ask(
        &self,
        (path, what): (&str, &str),
        mut copy: impl FnMut(Duration) -> Result<(Verdict, Vec<u8>), Failure>,
    ) -> Result<Vec<u8>, Failure> {
        for _ in 0..TRIES {
            let (verdict, data) = copy(self.left()?)?;
            match verdict {
                Verdict::Done => return Ok(data),
                Verdict::Again => {}
                Verdict::Conflict => return Err(refused(path, what, "reservation conflict")),
                Verdict::Refused(why) => return Err(refused(path, what, &why)),
                Verdict::Lost(why) => return Err(lost(path, what, &why)),
            }
        }
        Err(refused(path, what, TOO_OFTEN))
    }

    fn ask_scsi(&self, path: &mut dyn Path, question: In) -> Result<Vec<u8>, Failure> {
        let name = path.name().to_owned();
        self.ask((&name, question.name()), |within| {
            let reply = path.command(&question.request(within))?;
            Ok((words::verdict(&reply), reply.data))
        })
    }

    fn ask_nvme(&self, path: &mut dyn NvmePath, question: Question) -> Result<Vec<u8>, Failure> {
        let name = path.name().to_owned();
        self.ask((&name, question.name()), |within| {
            let reply = path.command(&question.request(within))?;
            Ok((nvme::verdict(reply.status), reply.data))
        })
    }
}

const TOO_OFTEN: &str = "it is busy, or has ever more to tell first";

impl Way {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Scsi(path) => path.name(),
            Self::Nvme(path) => path.name(),
        }
    }

    pub(super) fn order(&mut self, out: Out, talk: Talk<'_>) -> Result<Ordered, Failure> {
        let name = self.name().to_owned();
        match self {
            Self::Scsi(path) => talk.order((&name, out.name()), |within| {
                Ok(words::verdict(&path.command(&out.request(within))?))
            }),
            Self::Nvme(path) => talk.order((&name, nvme::name_of(out)), |within| {
                Ok(nvme::verdict(path.command(&nvme::order(out, within))?.status))
            }),
        }
    }

    /// By what names the world knows what is at its end; of a namespace those of the sort that is wanted.
    pub(super) fn names(&mut self, wanted: &str, talk: Talk<'_>) -> Result<Vec<String>, Failure> {
        match self {
            Self::Scsi(path) => words::names(&talk.ask_scsi(path.as_mut(), In::Identification)?),
            Self::Nvme(path) if wanted.starts_with("uuid.") => {
                nvme::described(&talk.ask_nvme(path.as_mut(), Question::Descriptors)?)
            }
            Self::Nvme(path) => nvme::names(&talk.ask_nvme(path.as_mut(), Question::Namespace)?),
        }
    }

    pub(super) fn capabilities(&mut self, talk: Talk<'_>) -> Result<Capabilities, Failure> {
        match self {
            Self::Scsi(path) => words::capabilities(&talk.ask_scsi(path.as_mut(), In::Capabilities)?),
            Self::Nvme(path) => {
                let controller = talk.ask_nvme(path.as_mut(), Question::Controller)?;
                if !nvme::reserves(&controller)? {
                    let why = "the controller does no reservations (ONCS)";
                    return Err(refused(path.name(), Question::Controller.name(), why));
                }
                let namespace = talk.ask_nvme(path.as_mut(), Question::Namespace)?;
                nvme::capabilities(&namespace)?.ok_or_else(|| {
                    let why = "the namespace does no reservations (RESCAP)";
                    refused(path.name(), Question::Namespace.name(), why)
                })
            }
        }
    }

    pub(super) fn look(&mut self, talk: Talk<'_>) -> Result<Look, Failure> {
        match self {
            Self::Scsi(path) => {
                let keys = words::keys(&talk.ask_scsi(path.as_mut(), In::Keys)?)?;
                let reservation = words::reservation(&talk.ask_scsi(path.as_mut(), In::Reservation)?)?;
                let registrants = keys.into_iter().map(|key| Registrant { key, host: None }).collect();
                Ok(Look { registrants, reservation })
            }
            Self::Nvme(path) => nvme::report(&talk.ask_nvme(path.as_mut(), Question::Report)?),
        }
    }

    /// Who this host is at its end, where registrations are the host's (NVMe). `None` where they are the path's own (SCSI).
    pub(super) fn host_identifier(&mut self, talk: Talk<'_>) -> Result<Option<HostIdentifier>, Failure> {
        match self {
            Self::Scsi(_) => Ok(None),
            Self::Nvme(path) => {
                let data = talk.ask_nvme(path.as_mut(), Question::HostIdentifier)?;
                let host = nvme::host_identifier(&data)?;
                host.map(Some).ok_or_else(|| {
                    let why = "it is unset, so that the controller cannot tell this host from others: set it";
                    refused(path.name(), Question::HostIdentifier.name(), why)
                })
            }
        }
    }
}

fn refused(path: &str, command: &str, why: &str) -> Failure {
    Failure::Refused { code: clean(&format!("{path}: {command}: {why}")) }
}

fn lost(path: &str, command: &str, why: &str) -> Failure {
    Failure::Unreachable { error: clean(&format!("{path}: {command}: {why}")) }
}
