//! Taking another configuration while everything runs. A bad one is told and recorded, and the old one stays.

use palisade_core::Input;
use palisade_core::record::Event;
use palisade_proto::Time;
use tokio::sync::mpsc;

use super::slow::{Brokered, Control};
use super::{Agent, Setup, probes};
use crate::fences;
use crate::mqtt;
use crate::systemd;
use crate::telemetry;
use crate::witness::{self, Access};

impl Agent {
    /// The configuration was read again: the engine judges it first, then every part follows.
    pub(super) fn reload(&mut self, setup: Result<Box<Setup>, String>, now: Time) {
        self.reloading = false;
        match setup {
            Ok(setup) => self.take_setup(*setup, now),
            Err(error) => {
                tracing::error!("the new configuration does not check:\n{error}");
                self.refuse(error.lines().next().unwrap_or_default());
            }
        }
        systemd::ready("configuration read");
    }

    fn refuse(&mut self, why: &str) {
        let outcome = format!("a new one was refused, the old one stays: {why}");
        self.record(None, Box::new(Event::Configuration { outcome }));
    }

    fn take_setup(&mut self, setup: Setup, now: Time) {
        // The device runs with the time-out that it was opened with, and peers were told a bound that follows from it.
        if setup.cluster.watchdog() != self.cluster.watchdog() {
            return self.refuse("the watchdog's settings change only by `systemctl stop palisade`, then `systemctl start palisade`");
        }
        // From here on nothing can fail half-way: places in both queues are taken first.
        let (Ok(devices), Ok(probes)) = (self.hands.devices.try_reserve(), self.hands.probes.try_reserve())
        else {
            return self.refuse("too busy to take it; reload again");
        };
        if let Err(why) = self.engine.take(Input::Cluster(setup.written), now) {
            return tracing::error!("the new configuration is refused, the old one stays: {why}");
        }
        devices.send(fences::Work::Reload(setup.devices));
        probes.send(probes::Work::Reload(setup.cluster.clone()));
        if let Err(error) = self.links.reload(&setup.cluster, setup.keyring) {
            tracing::error!("the links keep their keys: {error}");
        }
        self.cluster = setup.cluster;
        self.join_brokers(setup.witness, setup.witness_print, setup.telemetry);
    }

    /// Begins the sessions with the brokers; one that nothing changed for goes on.
    pub(super) fn join_brokers(
        &mut self,
        witness: Option<Access>,
        print: Option<[u8; 32]>,
        telemetry: mqtt::Access,
    ) {
        let broker = |cluster: &palisade_core::config::Cluster| {
            cluster.witness().map(|witness| witness.broker().clone())
        };
        let same = self.hands.asks.is_some()
            && self.witness_at == broker(&self.cluster)
            && self.witness_print == print;
        match witness {
            Some(_) if same => {}
            Some(access) => {
                let (asks, outbox) = mpsc::channel(witness::ASKS_MAX);
                let cluster = self.cluster.clone();
                let brokered = Box::new(Brokered { cluster, access, outbox });
                self.hands.asks = Some(asks);
                self.control(Control::Witness(brokered));
            }
            None => self.hands.asks = None,
        }
        self.witness_at = broker(&self.cluster);
        self.witness_print = print;
        self.control(Control::Monitoring(self.cluster.monitoring()));
        self.hands.telemetry = None;
        if let Some(configured) = self.cluster.telemetry() {
            self.hands.spool.set_size(configured.spool_bytes());
            let (tell, outbox) = mpsc::channel(telemetry::QUEUE);
            let access = (telemetry, tell.downgrade());
            let brokered = Box::new(Brokered { cluster: self.cluster.clone(), access, outbox });
            self.hands.telemetry = Some(tell);
            self.control(Control::Telemetry(brokered));
        }
    }

    fn control(&self, control: Control) {
        if self.hands.control.try_send(control).is_err() {
            tracing::error!("the second thread takes no orders; a reload sets this right");
        }
    }
}
