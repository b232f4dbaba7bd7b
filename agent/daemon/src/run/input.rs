//! What the loop waits for, in the order in which it is served: heartbeats first, the clock, then everything else.

use std::io;

use palisade_core::action::Ticket;
use palisade_proto::message::HealthClass;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::probes::Report;
use super::slow::Told;
use super::{Agent, STREAK_MAX, Setup};
use crate::api::ApiRequest;
use crate::fences::Reply;
use crate::systemd::StopKind;

/// One thing that happened.
pub(super) enum Input {
    /// Something that the engine is told as it is.
    Engine(palisade_core::Input),
    /// Somebody asks on the local socket.
    Request(ApiRequest),
    /// A signal.
    Signal(Asked),
    /// The configuration was read again.
    Setup(Result<Box<Setup>, String>),
}

impl Input {
    /// The agent is to end, for a restart or for good.
    pub(super) fn stop(kind: StopKind) -> Self {
        Self::Engine(match kind {
            StopKind::Stop => palisade_core::Input::Leave("the agent is stopped".to_owned()),
            StopKind::Restart => palisade_core::Input::Restart,
        })
    }
}

impl From<palisade_core::Input> for Input {
    fn from(input: palisade_core::Input) -> Self {
        Self::Engine(input)
    }
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
        use palisade_core::Input as Engine;

        if let Some(own) = self.own.pop_front() {
            return own;
        }
        loop {
            let (now_us, wake) = (self.clock.now_us(), self.engine.wake());
            if now_us / 1000 >= wake.0 {
                self.counters.latest_tick_us.see(now_us.saturating_sub(wake.0.saturating_mul(1000)));
                self.streak = 0;
                return Engine::Tick.into();
            }
            if let Err(error) = self.alarm.set(wake, now_us) {
                tracing::error!("the timer cannot be set: {error}");
            }
            let input = tokio::select! {
                biased;
                heartbeat = self.links.recv(), if self.streak < STREAK_MAX => {
                    self.streak += 1;
                    return Engine::Heartbeat(heartbeat).into();
                }
                // Whether it is time is asked again at the top.
                _ = self.alarm.ring() => continue,
                Some(durable) = self.durable.recv() => Engine::Durable(Ticket(durable.token)).into(),
                Some(reply) = self.ears.devices.recv() => match reply {
                    Reply::Answer(order, result) => Engine::Device(order, result).into(),
                    Reply::Path(device, result) => Engine::FencePath(device, result).into(),
                },
                Some(answer) = self.ears.answers.recv() => Engine::Answer(answer).into(),
                Some(report) = self.ears.probes.recv() => match report {
                    Report::Workload(id, report) => Engine::Workload(id, report),
                    // A configuration has at most 256 of them.
                    Report::Storage(at, health) => Engine::Storage(u32::try_from(at).unwrap_or(u32::MAX), health),
                    Report::Ills(ills) => Engine::Ills(ills),
                    // What is not healthy is told by the probes.
                    Report::Load(load) => Engine::Health(HealthClass::Healthy, load),
                    Report::Unfit(reasons) => Engine::Unfit(reasons),
                }
                .into(),
                Some(told) = self.ears.told.recv() => match told {
                    Told::Stop(kind) => Input::stop(kind),
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
