//! The local API: HTTP/1.1 over `/run/palisade/agent.sock`.
//!
//! It decides nothing: who may ask is checked here, and what is asked goes to the run loop over a bounded channel with a
//! place for the answer. Anyone who can open the socket may read; only root may order.

pub(crate) mod client;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod metrics;
mod routes;
mod server;
pub(crate) mod why;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;

use palisade_core::status::Status;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

pub(crate) use server::{bind, serve};

/// Where the agent listens.
pub(crate) const SOCKET: &str = "/run/palisade/agent.sock";
/// Requests that may wait for the run loop (SAFE-12); one more is answered "busy".
pub(crate) const REQUESTS: usize = 16;

/// What is asked of the run loop. An answer that is dropped is reported as the agent stopping.
#[derive(Debug)]
pub(crate) enum ApiRequest {
    /// What the agent sees.
    Status {
        /// Where the answer goes.
        reply: oneshot::Sender<Status>,
    },
    /// An operator orders a host fenced.
    Fence(Order),
    /// An operator states that a host is dead and harmless.
    Confirm(Order),
    /// An operator lets a host return that is kept out.
    Unfence(Order),
    /// An operator drains a host, or lets it run workloads again.
    Drain(Order, bool),
    /// An operator disarms fencing for so many milliseconds, or arms it with zero.
    Arm(Disarming),
    /// An operator stops a workload for good (the order's name is the workload's).
    Stop(Order),
    /// An operator lets a workload run again.
    Start(Order),
}

/// A statement as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stated {
    /// Its text; not read yet.
    pub(crate) text: String,
    /// What `ssh-keygen -Y sign` made of it; not checked yet.
    pub(crate) signature: Option<String>,
}

/// An operator's order about one host or workload.
#[derive(Debug)]
pub(crate) struct Order {
    /// The host's or workload's name as given; not checked against the configuration yet.
    pub(crate) host: String,
    /// What the operator says about why: one line, never empty.
    pub(crate) reason: String,
    /// What is stated, word by word, with the signature under it: of a confirmation alone.
    pub(crate) stated: Option<Stated>,
    /// Who orders; always root.
    pub(crate) by: Caller,
    /// Where the answer goes.
    pub(crate) reply: oneshot::Sender<Outcome>,
}

/// An operator's order about fencing as a whole.
#[derive(Debug)]
pub(crate) struct Disarming {
    /// For so long nothing is fenced automatically; zero: fencing is armed.
    pub(crate) disarmed_ms: u64,
    /// What the operator says about why: one line, never empty.
    pub(crate) reason: String,
    /// Who orders; always root.
    pub(crate) by: Caller,
    /// Where the answer goes.
    pub(crate) reply: oneshot::Sender<Outcome>,
}

/// Who is at the other end of the socket, by the kernel's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The process's user.
    pub(crate) uid: u32,
    /// The process, if the kernel says.
    pub(crate) pid: Option<i32>,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.uid == 0 {
            f.write_str("root")?
        } else {
            write!(f, "uid {}", self.uid)?
        };
        self.pid.map_or(Ok(()), |pid| write!(f, " (process {pid})"))
    }
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It was taken on; the journal tells the rest.
    Accepted {
        /// What happens now.
        message: String,
    },
    /// It was not.
    Refused {
        /// Why, and the way out.
        message: String,
    },
    /// No host or workload of that name is configured.
    UnknownHost {
        /// Those that are.
        known: Vec<String>,
    },
}
