//! Everything that can happen to an engine, as one value: what is handed to it is what a recording holds.
//!
//! Decides nothing. Never: an input that a `handle_*` of [`Engine`] takes and this enum does not name; the shell has no other
//! way in.

use std::sync::Arc;

use palisade_ladder::{DeviceId, Failure, Proven, Response};
use palisade_proto::message::HealthClass;
use palisade_proto::{Answer, Heartbeat, Time, WorkloadId};
use serde::{Deserialize, Serialize};

use crate::Engine;
use crate::action::{FromAfar, OrderId, Request, StorageHealth, Ticket, WorkloadReport};
use crate::config::Written;
use crate::health::Ill;

/// One thing that happened. Variants are only ever added at the end: recordings number them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// The engine's timer is due.
    Tick,
    /// The machine has slept.
    Slept,
    /// An authentic heartbeat.
    Heartbeat(Arc<Heartbeat>),
    /// An authentic answer of the witness.
    Answer(Answer),
    /// A record is on the disk.
    Durable(Ticket),
    /// The journal began to fail, or takes records again.
    Journal(Option<String>),
    /// A device answered an order.
    Device(OrderId, Result<Response, Failure>),
    /// A fence path was proven, or was not.
    FencePath(DeviceId, Result<Proven, Failure>),
    /// A workload's driver reports.
    Workload(WorkloadId, WorkloadReport),
    /// A storage was probed: its position in the configuration, and what came.
    Storage(u32, StorageHealth),
    /// This host's verdict on itself, and its load in 1/1000 of its capacity.
    Health(HealthClass, u16),
    /// Why this host must not be armed.
    Unfit(Vec<String>),
    /// The hardware watchdog was armed or adopted, or could not be.
    Watchdog(Result<(), String>),
    /// An operator asks something of this host.
    Request(Request),
    /// This life is to leave, and why.
    Leave(String),
    /// A planned restart of the agent.
    Restart,
    /// A new configuration was read and checked.
    Cluster(Written),
    /// This host's probes that are not plainly healthy, all of them.
    Ills(Vec<Ill>),
    /// An operator asks something of this host from afar.
    FromAfar(FromAfar),
}

impl Engine {
    /// Takes one input; `now` was read after it had arrived. What is told to whoever asked; empty when nobody did.
    ///
    /// # Errors
    /// Why a request or a configuration was refused; that is on the record too.
    pub fn take(&mut self, input: Input, now: Time) -> Result<String, String> {
        match input {
            Input::Tick => self.handle_tick(now),
            Input::Slept => self.handle_slept(now),
            Input::Heartbeat(heartbeat) => self.handle_heartbeat(heartbeat, now),
            Input::Answer(answer) => self.handle_answer(&answer, now),
            Input::Durable(ticket) => self.handle_durable(ticket, now),
            Input::Journal(trouble) => self.handle_journal(trouble, now),
            Input::Device(order, answer) => self.handle_device(order, answer, now),
            Input::FencePath(device, result) => self.handle_fence_path(device, result, now),
            Input::Workload(id, report) => self.handle_workload(id, report, now),
            // One that no configuration can have is none.
            Input::Storage(at, health) => {
                self.handle_storage(usize::try_from(at).unwrap_or(usize::MAX), health, now);
            }
            Input::Health(class, load) => self.handle_health(class, load, now),
            Input::Ills(ills) => self.handle_ills(ills, now),
            Input::Unfit(reasons) => self.handle_unfit(reasons, now),
            Input::Watchdog(armed) => self.handle_watchdog(armed, now),
            Input::Request(request) => {
                return self.handle_request(request, now).map_err(|refused| refused.to_string());
            }
            Input::FromAfar(order) => {
                return self.handle_from_afar(order, now).map_err(|refused| refused.to_string());
            }
            Input::Leave(why) => self.handle_leave(&why, now),
            Input::Restart => self.handle_restart(now),
            Input::Cluster(written) => {
                self.handle_cluster(Arc::clone(written.cluster()), now)?;
            }
        }
        Ok(String::new())
    }
}
