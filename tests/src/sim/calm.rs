//! A fault that leaves a quorum standing must not be felt by those that it did not strike (PROTOCOL, counterexamples 13 and 14).

use super::faults::Fault;
use super::world::World;
use super::{Micros, NAMES, ms};

/// What an ask through the broker and its answer take at most on a calm network.
const BROKER_ROUND_TRIP: Micros = ms(12);

/// What is owed since the last fault.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Calm {
    owed: Option<Owed>,
}

#[derive(Clone, Copy, Debug)]
struct Owed {
    /// Who may lose its quorum.
    struck: Option<usize>,
    /// For how long the others may be without.
    gap: Micros,
}

impl World {
    /// A fault strikes: what is owed by it, if every host stood with every other until now.
    pub(super) fn note_calm(&mut self, fault: &Fault) {
        if self.calm.is_none() {
            return;
        }
        // Votes are asked for again: a round trip and what lies between two heartbeats.
        let (heartbeat, lease) = (ms(self.setup.heartbeat), ms(self.setup.lease));
        let announced = heartbeat;
        // A vote is up to two heartbeats old when its voter is lost; the witness is asked once the voter has said that it is silent.
        let silent = |down: Micros| {
            let drift = self.setup.drift_ppm;
            let until_asked =
                (heartbeat * 31 / 10 + down + BROKER_ROUND_TRIP) * (1_000_000 + drift) / 1_000_000;
            until_asked.saturating_sub(lease)
        };
        let struck = match *fault {
            Fault::AgentCrash { host, down, .. } => Some((Some(host), silent(down))),
            Fault::Freeze { host, .. } => Some((Some(host), 0)),
            Fault::WitnessRestart { .. } => Some((None, 0)),
            Fault::AgentRestart { host, .. } | Fault::Leave { host, .. } => Some((Some(host), announced)),
            _ => None,
        };
        let others_suffice = self.setup.hosts > 2 || self.setup.witness;
        let owed = struck
            .filter(|_| others_suffice && self.is_calm() && self.is_whole())
            .map(|(struck, gap)| Owed { struck, gap });
        self.calm = Some(Calm { owed });
    }

    /// Every host is quorate, with everybody, none is about to leave or to crash, and the witness is bound to none.
    fn is_whole(&self) -> bool {
        self.truth.witness_is_free(self.now)
            && self.machines.iter().all(|machine| {
                machine.dies_after.is_none()
                    && machine.process.as_ref().is_some_and(|process| {
                        let (engine, now) = (&process.engine, machine.clock.time(self.now));
                        engine.is_quorate(now)
                            && !engine.is_silent(now)
                            && !engine.is_leaving()
                            && engine.wished().maintenance.is_empty()
                            && engine.view().len() == self.setup.hosts
                    })
            })
    }

    /// After each input of a host.
    pub(super) fn check_calm(&mut self, host: usize) {
        let Some(owed) = self.calm.and_then(|calm| calm.owed).filter(|owed| owed.struck != Some(host)) else {
            return;
        };
        let machine = &self.machines[host];
        let Some(process) = &machine.process else { return };
        let without = self.now.saturating_sub(process.unquorate_since);
        if !process.engine.is_quorate(machine.clock.time(self.now)) && without > owed.gap {
            let struck = owed.struck.map_or("the witness", |struck| NAMES[struck]);
            self.fail(format!(
                "I4: {} has no quorum for {without} us, and only {struck} was disturbed",
                NAMES[host]
            ));
        }
    }
}
