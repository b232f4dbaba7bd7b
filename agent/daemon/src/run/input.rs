//! What the loop waits for, in the order in which it is served: heartbeats first, the clock, then everything else.

use std::io;
use std::sync::Arc;

use palisade_core::action::{OrderId, StorageHealth, Ticket, WorkloadReport};
use palisade_ladder::{DeviceId, Failure, Proven, Response};
use palisade_proto::message::HealthClass;
use palisade_proto::{Answer, Heartbeat, WorkloadId};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::probes::Report;
use super::slow::Told;
use super::{Agent, STREAK_MAX, Setup};
use crate::api::ApiRequest;
use crate::fences::Reply;
use crate::systemd::StopKind;

/// One thing that happened.
pub(super) enum Input {
    /// The engine's timer is due.
    Tick,
    /// The machine has slept.
    Slept,
    /// An authentic heartbeat.
    Heartbeat(Arc<Heartbeat>),
    /// A record is on the disk.
    Durable(Ticket),
    /// The journal began to fail, or takes records again.
    Journal(Option<String>),
    /// A device answered an order.
    Device(OrderId, Result<Response, Failure>),
    /// A fence path was proven, or was not.
    Path(DeviceId, Result<Proven, Failure>),
    /// A workload's driver reports.
    Workload(WorkloadId, WorkloadReport),
    /// A storage was probed.
    Storage(usize, StorageHealth),
    /// This host's verdict on itself.
    Health(HealthClass, u16),
    /// Why this host must not be armed.
    Unfit(Vec<String>),
    /// The witness answered.
    Answer(Answer),
    /// The hardware watchdog was armed or adopted, or could not be.
    Watchdog(Result<(), String>),
    /// Somebody asks on the local socket.
    Request(ApiRequest),
    /// A signal.
    Signal(Asked),
    /// Whether the stop is a restart.
    Stop(StopKind),
    /// The configuration was read again.
    Setup(Result<Box<Setup>, String>),
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// SIGTERM, SIGINT: end, and systemd knows whether for a restart.
    End,
    /// SIGUSR2: an announced restart.
    Restart,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// The signals that mean something to the agent.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: Signal,
}

impl Signals {
    /// Called within the run loop's runtime.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined2())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            Some(()) = self.terminate.recv() => Asked::End,
            Some(()) = self.interrupt.recv() => Asked::End,
            Some(()) = self.user.recv() => Asked::Restart,
            Some(()) = self.hangup.recv() => Asked::Reload,
        }
    }
}

impl Agent {
    /// The next input. Nothing is lost by not being chosen; every source is bounded where it is filled (SAFE-12).
    pub(super) async fn wait(&mut self) -> Input {
        if let Some(own) = self.own.pop_front() {
            return own;
        }
        loop {
            let (now_us, wake) = (self.clock.now_us(), self.engine.wake());
            if now_us / 1000 >= wake.0 {
                self.counters.latest_tick_us.see(now_us.saturating_sub(wake.0.saturating_mul(1000)));
                self.streak = 0;
                return Input::Tick;
            }
            if let Err(error) = self.alarm.set(wake, now_us) {
                tracing::error!("the timer cannot be set: {error}");
            }
            let input = tokio::select! {
                biased;
                heartbeat = self.links.recv(), if self.streak < STREAK_MAX => {
                    self.streak += 1;
                    return Input::Heartbeat(heartbeat);
                }
                // Whether it is time is asked again at the top.
                _ = self.alarm.ring() => continue,
                Some(durable) = self.durable.recv() => Input::Durable(Ticket(durable.token)),
                Some(reply) = self.ears.devices.recv() => match reply {
                    Reply::Answer(order, result) => Input::Device(order, result),
                    Reply::Path(device, result) => Input::Path(device, result),
                },
                Some(answer) = self.ears.answers.recv() => Input::Answer(answer),
                Some(report) = self.ears.probes.recv() => match report {
                    Report::Workload(id, report) => Input::Workload(id, report),
                    Report::Storage(at, health) => Input::Storage(at, health),
                    Report::Health(class, load) => Input::Health(class, load),
                    Report::Unfit(reasons) => Input::Unfit(reasons),
                },
                Some(told) = self.ears.told.recv() => match told {
                    Told::Stop(kind) => Input::Stop(kind),
                    Told::Setup(setup) => Input::Setup(setup),
                },
                asked = self.signals.next() => Input::Signal(asked),
                Some(request) = self.ears.requests.recv() => Input::Request(request),
                // Everybody else had a turn and had nothing: heartbeats again.
                () = std::future::ready(()), if self.streak >= STREAK_MAX => {
                    self.streak = 0;
                    continue;
                }
            };
            self.streak = 0;
            return input;
        }
    }
}
