//! The fence devices of the other hosts, each with a task of its own that keeps its session warm. Carries out single
//! commands and tells what came back; which command, and whether it proves anything, is decided elsewhere (SAFE-4).

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_core::action::OrderId;
use palisade_core::config::{Cluster, Device};
use palisade_devices::scsi::Me;
use palisade_devices::{DeviceHandle, Reprove, Warrant};
use palisade_ladder::{Command, DeviceId, Failure, Proven, Response};
use palisade_proto::HostId;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

pub(crate) use access::Access;

/// Orders and cancellations that may wait for their device. A fence has one order a device under way.
pub(crate) const WORK_MAX: usize = 128;
/// Answers that may wait for the run loop.
pub(crate) const REPLIES_MAX: usize = 128;
/// How often a host that may have to fence proves each path: the session stays warm.
const WARM: Duration = Duration::from_secs(30);
/// How often the others do: often enough that a changed password is found before the incident (FIELD, what hurts, 3).
const COLD: Duration = Duration::from_secs(5 * 60);

/// What the run loop wants of the devices.
#[derive(Debug)]
pub(crate) enum Work {
    /// Carry out one command now.
    Order {
        /// Quoted in the answer.
        id: OrderId,
        /// Which device, by position.
        device: DeviceId,
        /// The host it must fence: an order that a reload has overtaken must not reach another host's device.
        host: HostId,
        /// What to do.
        command: Command,
        /// When to give up, and until when a power order may be sent.
        warrant: Warrant,
    },
    /// The answer no longer matters.
    Cancel(OrderId),
    /// Whether this host may have to fence: the coordinator and its deputy keep every session warm.
    Interest(bool),
    /// Another configuration.
    Reload(Vec<Known>),
}

/// What the devices tell the run loop.
#[derive(Debug)]
pub(crate) enum Reply {
    /// An order ended; exactly one for each order that was not cancelled.
    Answer(OrderId, Result<Response, Failure>),
    /// A fence path was proven, or was not.
    Path(DeviceId, Result<Proven, Failure>),
}

/// One configured device with its secrets, ready to be spoken to.
#[derive(Debug)]
pub(crate) struct Known {
    device: Device,
    access: Access,
    /// Of this host itself: proven now and then, never kept warm, since nobody fences itself.
    own: bool,
}

/// The devices of `cluster` in its order, each with its secrets, as `me` uses them.
///
/// Fails with the device's name and what is wrong with it.
pub(crate) fn known(cluster: &Cluster, me: HostId) -> Result<Vec<Known>, String> {
    let one = |device: &Device| {
        let access = Access::to(device, cluster, Some(me))
            .map_err(|error| format!("device `{}`: {error}", device.name()))?;
        Ok(Known { device: device.clone(), access, own: device.fences() == me })
    };
    cluster.devices().iter().map(one).collect()
}

/// Serves the devices, by the orders of `me`, until `work` closes.
pub(crate) async fn run(
    me: Me,
    known: Vec<Known>,
    mut work: mpsc::Receiver<Work>,
    replies: mpsc::Sender<Reply>,
) {
    let mut fences = Fences { me, devices: Vec::new(), open: BTreeMap::new(), warm: false, replies };
    fences.arrange(known);
    let mut done = Vec::new();
    while let Some(work) = work.recv().await {
        match work {
            Work::Order { id, device, host, command, warrant } => {
                let handle = fences.handle(device, host);
                fences.order(id, handle, command, warrant);
            }
            Work::Cancel(id) => {
                if let Some(task) = fences.open.remove(&id) {
                    task.abort();
                }
            }
            Work::Interest(warm) => fences.interest(warm),
            Work::Reload(known) => fences.arrange(known),
        }
        done.extend(fences.open.iter().filter(|(_, task)| task.is_finished()).map(|(id, _)| *id));
        done.drain(..).for_each(|id| {
            fences.open.remove(&id);
        });
    }
}

struct Fences {
    me: Me,
    devices: Vec<Held>,
    open: BTreeMap<OrderId, AbortHandle>,
    warm: bool,
    replies: mpsc::Sender<Reply>,
}

struct Held {
    device: Device,
    access: Access,
    handle: DeviceHandle,
    own: bool,
    /// Passes on what each proof came to.
    watch: AbortHandle,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Fences {
    /// Takes the devices of a configuration; one that has not changed keeps its session.
    fn arrange(&mut self, known: Vec<Known>) {
        let mut old = std::mem::take(&mut self.devices);
        for (index, known) in known.into_iter().enumerate() {
            let id = DeviceId(u16::try_from(index).unwrap_or(u16::MAX));
            let same = old.iter().position(|held| held.device == known.device && held.access == known.access);
            let handle = same.map(|at| old.swap_remove(at).handle.clone());
            let handle = handle.unwrap_or_else(|| {
                let reprove = self.reprove(&known.device, known.own);
                known.access.spawn(self.me, Some(reprove))
            });
            let watch = tokio::spawn(pass_on(id, handle.clone(), self.replies.clone())).abort_handle();
            self.devices.push(Held {
                device: known.device,
                access: known.access,
                handle,
                own: known.own,
                watch,
            });
        }
    }

    fn interest(&mut self, warm: bool) {
        if std::mem::replace(&mut self.warm, warm) != warm {
            for held in &self.devices {
                held.handle.pace(Some(self.reprove(&held.device, held.own)));
            }
        }
    }

    fn reprove(&self, device: &Device, own: bool) -> Reprove {
        let warm = self.warm && !own;
        let every = if warm { WARM } else { COLD };
        Reprove { every, deadline: Duration::from_millis(device.deadline().0), stays: warm }
    }

    /// The paths that work only once this host has opened its own.
    fn proven_by_own_key(&self) -> Vec<(DeviceHandle, Reprove)> {
        let ours = self.devices.iter().filter(|held| held.device.kind().opened_by_its_host());
        ours.map(|held| (held.handle.clone(), self.reprove(&held.device, held.own))).collect()
    }

    fn handle(&self, device: DeviceId, host: HostId) -> Option<DeviceHandle> {
        let held = self.devices.get(usize::from(device.0)).filter(|held| held.device.fences() == host);
        held.map(|held| held.handle.clone())
    }

    fn order(&mut self, id: OrderId, handle: Option<DeviceHandle>, command: Command, warrant: Warrant) {
        let replies = self.replies.clone();
        let proven_anew = if command == Command::On { self.proven_by_own_key() } else { Vec::new() };
        let task = tokio::spawn(async move {
            let result = match handle {
                Some(handle) => handle.run(command, warrant).await,
                // Gone from the configuration while the order was on its way.
                None => Err(Failure::Cancelled),
            };
            if result.is_ok() {
                proven_anew.into_iter().for_each(|(handle, reprove)| handle.pace(Some(reprove)));
            }
            // The run loop is gone only when the agent ends.
            drop(replies.send(Reply::Answer(id, result)).await);
        });
        self.open.insert(id, task.abort_handle());
    }
}

/// Tells each proof of one device.
async fn pass_on(id: DeviceId, device: DeviceHandle, replies: mpsc::Sender<Reply>) {
    let mut health = device.health();
    // Without its handle the device would not be held by this task alone.
    drop(device);
    // What was proven before a reload counts for the new configuration too.
    let known = health.borrow_and_update().last.clone();
    if let Some(last) = known {
        drop(replies.send(Reply::Path(id, last)).await);
    }
    while health.changed().await.is_ok() {
        let last = health.borrow_and_update().last.clone();
        if let Some(last) = last
            && replies.send(Reply::Path(id, last)).await.is_err()
        {
            return;
        }
    }
}

mod access;
#[cfg(test)]
mod tests;
