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

/// The body of `/metrics/global`, for the example in the repository.
#[cfg(test)]
pub(crate) fn global_example(status: &Status) -> Vec<u8> {
    serde_json::to_vec(&metrics::Global::of(status, &crate::counters::Counters::default())).unwrap()
}

/// The body of `/metrics/capacity`, for the example in the repository.
#[cfg(test)]
pub(crate) fn capacity_example(health: &crate::health::Health) -> Vec<u8> {
    serde_json::to_vec(&metrics::Capacity::of(health)).unwrap()
}

use std::fmt;

use crate::order::Wanted;

use palisade_core::status::Status;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

pub(crate) use server::{bind, serve, serve_monitoring};

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
    /// An operator orders something.
    Order(Order),
    /// The same from afar, or something that is not taken.
    FromAfar(FromAfar),
}

/// A statement as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stated {
    /// Its text; not read yet.
    pub(crate) text: String,
    /// What `ssh-keygen -Y sign` made of it; not checked yet.
    pub(crate) signature: Option<String>,
}

/// An operator's order.
#[derive(Debug)]
pub(crate) struct Order {
    /// What is to be done.
    pub(crate) wanted: Wanted,
    /// What is stated, word by word, with the signature under it: of a confirmation alone.
    pub(crate) stated: Option<Stated>,
    /// Who orders; always root.
    pub(crate) by: Caller,
    /// Where the answer goes.
    pub(crate) reply: oneshot::Sender<Outcome>,
}

/// An order from afar, as far as everything but the engine has judged it.
#[derive(Debug)]
pub(crate) struct FromAfar {
    /// What is to be done, or why nothing is.
    pub(crate) wanted: Result<Wanted, String>,
    /// Who signed it.
    pub(crate) by: String,
    /// What it is, in words.
    pub(crate) order: String,
    /// Word by word, with its signatures; nothing of what no operator signed.
    pub(crate) text: Option<String>,
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

impl Outcome {
    /// What came of it, in words.
    pub(crate) fn message(self) -> String {
        match self {
            Self::Accepted { message } | Self::Refused { message } => message,
            Self::UnknownHost { known } => {
                format!("there is nothing of that name; configured are: {}", known.join(", "))
            }
        }
    }
}
