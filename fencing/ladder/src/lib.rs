//! How a host is fenced: which devices, in which order, and when what they read amounts to a proof.
//!
//! Decides: the next command of a fence, whether a reading proves anything. Never: touches a device, reads a clock.
#![forbid(unsafe_code)]

pub mod command;

pub use command::{Command, Failure, Identity, Power, Proven, Response};
