//! What is sound but will disappoint: printed by `palisade check config`, never a reason to refuse.

use super::{Cluster, DeviceKind, Host};

impl Cluster {
    /// One sentence each, in the operator's words.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let count = self.hosts.len();
        if self.witness.is_none() && count == 2 {
            warnings.push(
                "two hosts without a witness: one death stops both sides until `palisade confirm`; add a [witness]"
                    .to_owned(),
            );
        } else if self.witness.is_none() && count.is_multiple_of(2) {
            warnings.push(format!(
                "{count} hosts without a witness: when half of them fall silent at once, the other half stops until \
                 `palisade confirm`; add a [witness]"
            ));
        }
        for host in &self.hosts {
            self.warn_of_host(host, &mut warnings);
        }
        if self.watchdog.as_ref().is_some_and(|watchdog| !watchdog.runs_while_frozen()) {
            warnings.push(
                "the watchdog stops while its host is frozen: it resets a hung host, but never proves a death".to_owned(),
            );
        }
        for device in &self.devices {
            if let DeviceKind::Redfish(redfish) = device.kind()
                && redfish.tls().is_none()
            {
                let name = device.name();
                warnings.push(format!(
                    "device `{name}` sends its password over plain HTTP: whoever hears it can switch the host"
                ));
            }
        }
        for workload in &self.workloads {
            let name = workload.name();
            if workload.hosts().len() == 1 {
                warnings
                    .push(format!("workload `{name}` may run on one host only: it has nowhere to come back"));
            }
        }
        warnings
    }

    fn warn_of_host(&self, host: &Host, warnings: &mut Vec<String>) {
        if self.devices_of(host.id()).next().is_none() {
            warnings.push(format!(
                "host `{}` has no fence device: when it dies silently, its workloads wait for its return, its watchdog's \
                 bound or `palisade confirm`",
                host.name()
            ));
        }
    }
}
