//! How a host is fenced: which devices, in which order, and when what they read amounts to a proof.
//!
//! Decides: the next command of a fence, whether a reading proves anything. Never: touches a device, reads a clock.
#![forbid(unsafe_code)]

pub mod command;
pub mod course;
pub mod fence;
pub mod plan;
pub mod proof;

pub use command::{Command, Failure, Identity, Proven, Reading, Response};
pub use course::{Order, Setback};
pub use fence::{Abandoned, Exhaustion, Fence, Outcome};
pub use plan::{After, DeviceId, Effect, Level, Opening, Plan, PlannedDevice};
pub use proof::{Evidence, OffReading, Proof, ProofKind};
