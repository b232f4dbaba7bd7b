//! One input into the engine, and what the shell owes besides: answers to the local socket, signals, its own alarms.

use std::time::{Duration, SystemTime};

use palisade_core::action::{Request, Statement as Word};
use palisade_core::config::Host;
use palisade_core::status::Status;
use palisade_proto::Time;

use super::Agent;
use super::input::{Asked, Input};
use super::slow::Control;
use crate::api::{ApiRequest, FromAfar, Order, Outcome, Stated};
use crate::fences;
use crate::journal::JournalHealth;
use crate::order::Wanted;
use crate::statement::{NAMESPACE, NO_LIFE, Refusal, Statement, signer};
use crate::systemd::{self, StopKind};
use crate::telemetry::Tell;

/// How often this host's state is told while nothing happens.
const STATE_US: u64 = 10_000_000;
/// How long a journal that did not take a record is said to fail, unless it says otherwise itself.
const REFUSED: Duration = Duration::from_secs(1);

impl Agent {
    /// Hands one input to the engine. `now_us` was read after it had arrived.
    pub(super) fn take(&mut self, input: Input, now_us: u64) {
        let now = Time(now_us / 1000);
        match input {
            Input::Engine(input) => {
                if let palisade_core::Input::Workload(id, report) = &input {
                    tracing::debug!(workload = id.0, ?report, "workload");
                }
                self.tell(input, now);
            }
            Input::Request(request) => self.answer(request, now),
            Input::Signal(asked) => self.obey(asked, now),
            Input::Setup(setup) => self.reload(setup, now),
        }
    }

    /// Hands the engine an input that nobody waits for the answer to.
    fn tell(&mut self, input: palisade_core::Input, now: Time) {
        // Only requests and configurations are ever refused.
        drop(self.engine.take(input, now));
    }

    fn obey(&mut self, asked: Asked, now: Time) {
        tracing::info!(?asked, "signal");
        match asked {
            // A second signal hurries nothing: the workloads have their stop time-outs.
            Asked::End | Asked::Restart if self.leaving => {}
            Asked::End => {
                self.leaving = true;
                if self.hands.control.try_send(Control::StopOrRestart).is_err() {
                    // Nobody to ask: a stop is always right, and merely slower for the workloads.
                    self.own.push_back(Input::stop(StopKind::Stop));
                }
            }
            Asked::Restart => {
                self.leaving = true;
                self.tell(palisade_core::Input::Restart, now);
            }
            Asked::Reload if self.reloading || self.leaving => {}
            Asked::Reload => self.reloading = self.hands.control.try_send(Control::Reload).is_ok(),
        }
    }

    fn answer(&mut self, request: ApiRequest, now: Time) {
        match request {
            ApiRequest::Status { reply } => drop(reply.send(self.status(now))),
            ApiRequest::Order(order) => {
                let outcome = self.order(&order, now);
                // Whoever asked may have gone.
                drop(order.reply.send(outcome));
            }
            ApiRequest::FromAfar(FromAfar { wanted, by, order, text, reply }) => {
                let request = wanted
                    .and_then(|wanted| wanted.request(&self.cluster, by.clone()).map_err(Outcome::message));
                let order = palisade_core::action::FromAfar { request, by, order, text };
                let outcome = self.outcome(palisade_core::Input::FromAfar(order), now);
                drop(reply.send(outcome));
            }
        }
    }

    fn order(&mut self, order: &Order, now: Time) -> Outcome {
        let mut request = match order.wanted.clone().request(&self.cluster, order.by.to_string()) {
            Ok(request) => request,
            Err(unknown) => return unknown,
        };
        if let Request::Confirm { statement, .. } = &mut request {
            *statement = self.stated(order, now).map_err(|refusal| refusal.to_string());
        }
        self.request(request, now)
    }

    /// What a confirmation states, read; and who signed it, of those whom the configuration names.
    fn stated(&self, order: &Order, now: Time) -> Result<Option<Word>, Refusal> {
        let Some(Stated { text, signature }) = &order.stated else { return Ok(None) };
        let status = self.engine.status(now);
        let Wanted { name, reason, .. } = &order.wanted;
        let life = status.hosts.iter().find(|host| host.name == *name);
        let life = life.and_then(|host| host.incarnation.as_deref()).unwrap_or(NO_LIFE);
        let statement = Statement::parse(text)?;
        statement.is_about([self.cluster.name(), name, life, reason], SystemTime::now())?;
        let operators = self.cluster.operators();
        // Where none is named, nobody here knows whose a signature is; it is kept.
        let signature = signature.as_deref().unwrap_or_default();
        let signer = (!signature.is_empty() && !operators.is_empty())
            .then(|| signer(NAMESPACE, operators, text, signature))
            .transpose()?
            .map(|operator| operator.name().to_owned());
        Ok(Some(Word { text: format!("{text}{signature}"), checked: statement.checked, signer }))
    }

    fn request(&mut self, request: Request, now: Time) -> Outcome {
        self.outcome(palisade_core::Input::Request(request), now)
    }

    fn outcome(&mut self, asked: palisade_core::Input, now: Time) -> Outcome {
        match self.engine.take(asked, now) {
            Ok(message) => Outcome::Accepted { message },
            Err(message) => Outcome::Refused { message },
        }
    }

    /// The engine's view, and what only the shell knows.
    fn status(&self, now: Time) -> Status {
        let mut status = self.engine.status(now);
        status.alarms.extend(self.links.alarms());
        if self.cluster.witness().is_some() {
            status.alarms.extend(self.way.alarm(self.cluster.timing().lease()));
        }
        if self.hands.telemetry.is_some() {
            status.alarms.extend(self.hands.spool.alarm());
        }
        status.alarms.extend(self.missing.iter().cloned());
        status.alarms.extend(self.engine.alarm());
        status
    }

    /// After each turn: what announces nothing by itself.
    pub(super) fn look_around(&mut self) {
        self.links.maintain();
        self.counters.turns.count();
        // A record that was not taken is held against the journal for a while: a retry a second, not one a turn.
        self.journal_refused.take_if(|(_, since)| since.elapsed() >= REFUSED);
        // SAFE-5: a stuck disk is noticed by its silence.
        let trouble = match self.journal.health() {
            JournalHealth::Ok => self.journal_refused.as_ref().map(|(error, _)| error.clone()),
            JournalHealth::Failing { error } => Some(error),
            // Without its age, which would be news at each look.
            JournalHealth::Stalled { .. } => Some("the disk has not answered for more than 2 s".to_owned()),
        };
        if trouble != self.journal_trouble {
            self.journal_trouble.clone_from(&trouble);
            self.own.push_back(palisade_core::Input::Journal(trouble).into());
        }
        let warm = self.engine.keeps_fences_warm();
        if warm != self.warm && self.hands.devices.try_send(fences::Work::Interest(warm)).is_ok() {
            self.warm = warm;
        }
        let now_us = self.clock.now_us();
        if self.hands.telemetry.is_some() && now_us.saturating_sub(self.state_told_us) >= STATE_US {
            self.tell_state(now_us);
        }
    }

    /// Tells central monitoring this host's state; shed if the queue is full.
    pub(super) fn tell_state(&mut self, now_us: u64) {
        self.state_told_us = now_us;
        self.hands.spool.tell_lost();
        let status = Box::new(self.status(Time(now_us / 1000)));
        if let Some(telemetry) = &self.hands.telemetry
            && telemetry.try_send(Tell::State(status)).is_err()
        {
            self.counters.telemetry_shed.count();
        }
    }

    /// One line for `systemctl status`.
    pub(super) fn tell_systemd(&mut self) {
        let now = self.clock.now();
        let view: Vec<&str> =
            self.engine.view().iter().filter_map(|who| self.cluster.host(who.host)).map(Host::name).collect();
        let standing = if self.engine.is_quorate(now) { "quorate" } else { "not quorate" };
        systemd::status(&format!("{standing}; stands with {}", view.join(", ")));
    }
}
