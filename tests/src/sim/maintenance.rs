//! Hosts that operators keep out, in the middle of whatever else happens; and what nobody does to them meanwhile.

use palisade_core::action::{DeviceOrder, Request};
use palisade_ladder::Command;
use palisade_proto::{Duration, HostId};

use super::faults::{BmcMode, Fault, Timeline};
use super::world::World;
use super::{Micros, NAMES, Rng, Setup, ms};

/// A host is put into maintenance and let back, again and again. Meanwhile agents start anew, its power and that of others goes and
/// comes, its BMC is gone, and the whole cluster goes dark.
pub(super) fn maintenance(rng: &mut Rng, setup: &Setup, begin: Micros, length: Micros, line: &mut Timeline) {
    let mut at = begin;
    while at < begin + length {
        let (on, host, other) = (rng.index(setup.hosts), rng.index(setup.hosts), rng.index(setup.hosts));
        let stays = ms(rng.scale(setup.lease * 2, setup.lease * 20));
        line.push((at, Fault::OperatorMaintains { on, host, begins: true }));
        for _ in 0..rng.below(4) {
            let (when, soon) = (at + rng.below(stays), ms(rng.scale(10, setup.lease * 4)));
            match rng.below(7) {
                0 => line.push((when, Fault::AgentRestart { host, down: soon })),
                1 => line.push((when, Fault::PowerLoss { host, back: Some(soon) })),
                2 => line.push((when, Fault::PowerLoss { host, back: None })),
                3 => line.push((when, Fault::PowerLoss { host: other, back: Some(soon) })),
                4 => line.push((when, Fault::Leave { host, back: Some(soon) })),
                5 => line.push((when, Fault::Bmc { host, mode: BmcMode::Dead })),
                _ => {
                    let dark = (0..setup.hosts).map(|host| Fault::PowerLoss { host, back: Some(soon) });
                    line.extend(dark.map(|fault| (when, fault)));
                }
            }
        }
        line.push((at + stays, Fault::OperatorMaintains { on: rng.index(setup.hosts), host, begins: false }));
        at += stays + ms(rng.scale(setup.lease, setup.lease * 20));
    }
}

/// The same where nothing is wrong: it costs nobody his power.
pub(super) fn beside(rng: &mut Rng, setup: &Setup, begin: Micros, end: Micros, line: &mut Timeline) {
    let (on, host) = (rng.index(setup.hosts), rng.index(setup.hosts));
    let at = begin + rng.below(end.saturating_sub(begin).max(1));
    line.push((at, Fault::OperatorMaintains { on, host, begins: true }));
    let back = at + ms(rng.scale(setup.lease, setup.lease * 20));
    line.push((back, Fault::OperatorMaintains { on: rng.index(setup.hosts), host, begins: false }));
}

impl World {
    pub(super) fn operator_maintains(&mut self, on: usize, host: usize, begins: bool) {
        let host = HostId::new(host as u8).expect("few hosts");
        let (reason, by) = ("drawn".to_owned(), "root".to_owned());
        let length = begins.then_some(Duration::secs(5));
        self.request(on, Request::Maintain { host, length, reason, by });
    }

    /// Somebody ends every maintenance that is still known of.
    pub(super) fn end_maintenances(&mut self) {
        for on in 0..self.machines.len() {
            let process = self.machines[on].process.as_ref();
            let kept_out: Vec<HostId> = process
                .map(|process| process.engine.wished().maintenance.keys().copied().collect())
                .unwrap_or_default();
            kept_out.into_iter().for_each(|host| self.operator_maintains(on, host.index(), false));
        }
    }

    /// Whoever knows that a host is kept out neither powers it on nor, in a cold start, off. A member's fence is of a life that has
    /// not left yet.
    pub(super) fn check_maintenance(&mut self, by: usize, order: &DeviceOrder) {
        let Some(process) = &self.machines[by].process else { return };
        let engine = &process.engine;
        let kept_out = engine.wished().maintenance.contains_key(&order.host);
        let wrong = match order.command {
            Command::On => !self.is_path(order),
            Command::Off => !engine.admitted() && !self.is_path(order),
            Command::Read | Command::Prove => false,
        };
        if kept_out && wrong {
            let host = NAMES[order.host.index()];
            self.fail(format!(
                "maintenance: {} orders {:?} of {host}, which is kept out",
                NAMES[by], order.command
            ));
        }
    }
}
