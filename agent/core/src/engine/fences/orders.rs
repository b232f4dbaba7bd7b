//! How an order reaches a device: intent on the disk, standing checked, then sent; and what comes back.

use palisade_ladder::{Command, DeviceId, Effect, Failure, Order, Proven, Reading, Response};
use palisade_proto::mutant::{self, Mutant};
use palisade_proto::{HostId, Incarnation, Time};

use super::super::Engine;
use super::outcomes::answer_in_words;
use super::{Flight, Intended, Purpose};
use crate::action::{Action, DeviceOrder, OrderId, Ticket};
use crate::config::FencingMode;
use crate::record::Event;

impl Engine {
    /// SAFE-5: the intent is on the disk before a command that changes anything leaves. A reading changes nothing and waits
    /// for nothing.
    pub(super) fn intend(&mut self, purpose: Purpose, order: Order) {
        match order.command {
            Command::Off | Command::On => {
                let event = Event::OrderIntended {
                    victim: self.who(self.whom(purpose)),
                    device: self.device_name(order.device),
                    command: order.command,
                    attempt: order.attempt,
                };
                let ticket = self.record_intent(event);
                self.fences.intended.retain(|_, intended| {
                    intended.purpose != purpose || intended.order.device != order.device
                });
                if mutant::on(Mutant::OrderUnintended) {
                    return self.send_order(purpose, order);
                }
                self.fences.intended.insert(ticket, Intended { purpose, order });
            }
            Command::Read | Command::Prove => self.dispatch(purpose, order),
        }
    }

    /// Who stands in the records about an order.
    pub(super) fn whom(&self, purpose: Purpose) -> Incarnation {
        match purpose {
            Purpose::Fence(victim) | Purpose::Wall(victim) => victim,
            Purpose::Restore(host, effect) => {
                let restore = self.fences.restores.get(&(host, effect));
                restore.map_or(Incarnation::new(host, [0; 8]), |restore| restore.whom)
            }
            Purpose::Cold(host) => Incarnation::new(host, [0; 8]),
        }
    }

    /// An intent is durable: check standing, send. True if the ticket was a fence's.
    pub(in crate::engine) fn fence_durable(&mut self, ticket: Ticket) -> bool {
        let Some(Intended { purpose, order }) = self.fences.intended.remove(&ticket) else { return false };
        self.send_order(purpose, order);
        true
    }

    /// SAFE-2: whether an order that switches may be sent now.
    fn may_switch(&self, purpose: Purpose, command: Command) -> bool {
        match (purpose, command) {
            (Purpose::Fence(victim), Command::Off) => {
                let running = self.fences.running.get(&victim);
                running.is_some_and(|running| self.is_wanted(victim, &running.authority))
            }
            (Purpose::Fence(victim), Command::On) => {
                self.fences.running.contains_key(&victim) && self.is_quorate(self.now)
            }
            (Purpose::Restore(host, effect), Command::On) => self.may_restore(host, effect),
            (Purpose::Cold(host), Command::Off) => self.holds_consent(host),
            (Purpose::Wall(who), command) => self.may_switch_wall(who, command),
            (Purpose::Restore(..), Command::Off)
            | (Purpose::Cold(_), Command::On)
            | (_, Command::Read | Command::Prove) => false,
        }
    }

    fn send_order(&mut self, purpose: Purpose, order: Order) {
        // SAFE-2: standing is checked immediately before each device command.
        let allowed = match purpose {
            Purpose::Fence(victim) if mutant::on(Mutant::StaleStanding) => {
                self.fences.running.contains_key(&victim)
            }
            Purpose::Fence(_) | Purpose::Restore(..) | Purpose::Cold(_) | Purpose::Wall(_) => {
                self.may_switch(purpose, order.command)
            }
        };
        if allowed && self.now < order.deadline {
            return self.dispatch(purpose, order);
        }
        if let Purpose::Wall(who) = purpose {
            self.withdraw_wall(who);
        }
        let now = self.now;
        // Past its deadline the fence has counted it as unanswered, and may have another one in flight by now.
        let chain = self.chain_of(purpose, order.device);
        let Some(chain) = chain else { return };
        if now < order.deadline {
            chain.withdraw(order.device, now);
        }
        let why = if allowed {
            "the journal took longer than the order's deadline"
        } else {
            "standing was lost while the journal wrote"
        };
        let what = format!("sending the order to {}", self.device_name(order.device));
        self.record(Event::Withheld { what, why: why.to_owned() });
    }

    fn dispatch(&mut self, purpose: Purpose, order: Order) {
        if self.is_wall(order.device) && !matches!(purpose, Purpose::Wall(_)) {
            return self.order_walls(purpose, order);
        }
        let stands = self.stands_until(purpose, order.command);
        let id = self.send_to_device(purpose.host(), order.device, order.command, order.deadline, stands);
        let Order { device, command, attempt, .. } = order;
        self.fences.flights.insert(id, Flight { purpose, device, command, attempt, sent: self.now });
    }

    pub(super) fn chain_of(
        &mut self,
        purpose: Purpose,
        device: DeviceId,
    ) -> Option<&mut palisade_ladder::Fence> {
        let effect = self.effect_of(device);
        match purpose {
            Purpose::Fence(victim) => self.fences.running.get_mut(&victim)?.chain(effect),
            Purpose::Restore(host, effect) => self.fences.restores.get_mut(&(host, effect))?.fence.as_mut(),
            Purpose::Cold(_) | Purpose::Wall(_) => None,
        }
    }

    pub(in crate::engine) fn send_to_device(
        &mut self,
        host: HostId,
        device: DeviceId,
        command: Command,
        deadline: Time,
        stands: Option<Time>,
    ) -> OrderId {
        self.fences.next_order += 1;
        let id = OrderId(self.fences.next_order);
        let standing_until = match command {
            // SAFE-2: without standing it may not be sent at all.
            Command::Off | Command::On => Some(stands.unwrap_or(self.now)),
            Command::Read | Command::Prove => None,
        };
        let order = DeviceOrder { id, device, host, command, deadline, standing_until };
        self.actions.push_back(Action::Device(order));
        id
    }

    /// SAFE-2: until when an order under way that switches may be put on the wire, as things are now; none if it may not any more.
    #[must_use]
    pub fn order_stands_until(&self, id: OrderId) -> Option<Time> {
        let flight = self.fences.flights.get(&id)?;
        let stands = self.may_switch(flight.purpose, flight.command);
        stands.then(|| self.stands_until(flight.purpose, flight.command)).flatten()
    }

    /// The life that an order under way is about.
    #[must_use]
    pub fn order_whom(&self, id: OrderId) -> Option<Incarnation> {
        self.fences.flights.get(&id).map(|flight| self.whom(flight.purpose))
    }

    /// How far this host's right to switch reaches: its quorum, or in a cold start the witness's consent to an off. To open its own
    /// paths, before it is anybody's peer, it needs nobody: that lasts as long as the order.
    fn stands_until(&self, purpose: Purpose, command: Command) -> Option<Time> {
        let opens_own = matches!(purpose, Purpose::Restore(host, Effect::Storage | Effect::Network)
            if host == self.me.host && self.opens_itself(host));
        if let Purpose::Wall(who) = purpose {
            self.wall_stands_until(who, command)
        } else if opens_own {
            Some(Time(u64::MAX))
        } else if command == Command::Off && !self.is_admitted() {
            self.cold.consent_until()
        } else {
            self.quorum_until
        }
    }

    /// A device answered an order, or its deadline passed.
    pub fn handle_device(&mut self, order: OrderId, answer: Result<Response, Failure>, now: Time) {
        self.begin(now);
        if !self.take_cold_reading(order, &answer)
            && let Some(flight) = self.fences.flights.remove(&order)
        {
            let Flight { purpose, device, command, attempt, sent } = flight;
            let event = Event::OrderAnswered {
                victim: self.who(self.whom(purpose)),
                device: self.device_name(device),
                command,
                answer: answer_in_words(&answer),
                took_ms: self.now.since(sent).0,
            };
            let told = match purpose {
                Purpose::Wall(who) => self.take_wall_answer(who, command, &answer),
                Purpose::Fence(_) | Purpose::Restore(..) | Purpose::Cold(_) => true,
            };
            if told {
                self.record(event);
            }
            let now = self.now;
            if let Some(chain) = self.chain_of(purpose, device) {
                chain.handle_answer(device, command, attempt, answer, now);
            }
            if let (Purpose::Cold(host), Command::Off) = (purpose, command) {
                self.cold.read_at_once(host);
            }
            // The proof is taken before anything else happens: what it releases should not wait for another input.
            self.drive_fences();
        }
        self.settle();
    }

    /// A fence path was tried without harm: it works, or why not.
    pub fn handle_fence_path(&mut self, device: DeviceId, result: Result<Proven, Failure>, now: Time) {
        self.begin(now);
        let path = self.fences.paths.entry(device).or_default();
        let (error, reads) = match result {
            Ok(proven) if proven.may_fence => {
                path.proven = Some(self.now);
                (None, Some(proven.reads))
            }
            Ok(_) => (Some("the login may not switch".to_owned()), None),
            Err(failure) => (Some(failure.to_string()), None),
        };
        path.error.clone_from(&error);
        let what =
            error.map(|error| format!("the fence path {} does not work: {error}", self.device_name(device)));
        self.alarms.set(&mut self.actions, &format!("path {}", device.0), what);
        let what = reads.and_then(|reads| self.contradicts(device, reads));
        self.alarms.set(&mut self.actions, &format!("reads {}", device.0), what);
        self.settle();
    }

    /// A device that reads off what a member of the view surely has is not that member's, or has kept it from an earlier life.
    fn contradicts(&self, device: DeviceId, reads: Reading) -> Option<String> {
        let (name, configured) =
            (self.device_name(device), self.cluster.devices().get(usize::from(device.0))?);
        let host = self.name(configured.fences());
        let member = self.view.iter().any(|who| who.host == configured.fences());
        let what = match configured.effect() {
            Effect::Power => {
                format!("{name} reads off, and {host} is heard: it may be another host's device")
            }
            Effect::Storage | Effect::Network => {
                format!(
                    "{name} keeps {host} cut off: stop the agent of {host} and start it again; its next life gets its paths back"
                )
            }
        };
        (member && reads == Reading::Off).then_some(what)
    }

    /// A cold start's off, with the witness's consent: intent first.
    pub(in crate::engine) fn cold_off(&mut self, host: HostId) {
        let purpose = Purpose::Cold(host);
        let waiting = self.fences.intended.values().any(|intended| intended.purpose == purpose)
            || self.fences.flights.values().any(|flight| flight.purpose == purpose);
        let shadow = self.cluster.fencing().mode() == FencingMode::Shadow;
        if waiting || shadow || self.journal_failing.is_some() {
            return;
        }
        self.cold.force(host, self.now);
        let devices: Vec<(DeviceId, Time)> = self
            .devices_of(host, Effect::Power)
            .map(|(id, device)| (id, self.now.after(device.deadline())))
            .collect();
        for (device, deadline) in devices {
            self.intend(purpose, Order { device, command: Command::Off, deadline, attempt: 1 });
        }
    }

    pub(in crate::engine) fn device_name(&self, device: DeviceId) -> String {
        self.cluster
            .devices()
            .get(usize::from(device.0))
            .map_or_else(|| format!("device {}", device.0), |device| device.name().to_owned())
    }
}
