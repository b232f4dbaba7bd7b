//! Drivers for the devices that fence a host: one module a device kind.
//!
//! A driver carries out one [`Command`] and hands back what the device said. It never judges whether a fence succeeded, and it
//! never repeats by itself what a second time could harm. [`spawn`] gives a device its own task, which keeps its fence
//! path proven between orders; [`fault`] wraps a device for tests and drills.
#![deny(unsafe_code)]

mod actor;
pub mod agent;
pub mod fault;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod haproxy;
pub mod hypervisor;
pub mod ipmi;
pub mod lun;
pub mod nft;
mod process;
pub mod redfish;
pub mod route;
pub mod scsi;
mod secret;
pub mod ssh;
pub mod switch;
mod text;
mod warrant;

use std::future::Future;

use palisade_ladder::{Command, Failure, Response};
use tokio::time::Instant;

pub use actor::{DeviceHandle, PathHealth, Reprove, spawn};
pub use secret::Secret;
pub use warrant::{Standing, Warrant};

/// One device that can fence one host.
pub trait Device: Send {
    /// Carries out `command` and ends by the warrant's deadline, whatever the device does. Each copy of a power order is sent
    /// only if [`Warrant::holds`] right before it (SAFE-2); without it the end is [`Failure::Cancelled`]. Dropping the future
    /// cancels it: the device may or may not have taken the command then, and the driver remembers that it might have.
    fn run(
        &mut self,
        command: Command,
        warrant: Warrant,
    ) -> impl Future<Output = Result<Response, Failure>> + Send;

    /// Takes leave of the device, as far as it answers by `deadline`.
    fn close(&mut self, deadline: Instant) -> impl Future<Output = ()> + Send;
}
