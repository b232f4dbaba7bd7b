//! What hosts and witness say to each other and the one rule by which they vote.
//!
//! Decides: who gets a lease (the voter's grant rule, the witness's rules), what bytes mean, whether they are authentic.
//! Never: reads a clock, a socket or a file; allocates; panics on input; knows a host's policy.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod arbiter;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod ids;
pub mod message;
pub mod mutant;
#[cfg(feature = "seal")]
pub mod seal;
pub mod time;
pub mod voter;
pub mod wire;

pub use arbiter::{Arbiter, Ignored};
pub use ids::{HostId, Incarnation, LifeName, MAX_HOSTS, MAX_WORKLOADS, WorkloadId, WorkloadSet};
pub use message::{Answer, Ask, AskKind, Founding, Heartbeat, Names, Seq, Verdict};
pub use time::{Drift, Duration, Time};
pub use voter::{Refusal, Voter};
