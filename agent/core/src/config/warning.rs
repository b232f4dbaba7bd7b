//! What is sound but will disappoint: printed by `palisade check config`, never a reason to refuse.

use palisade_ladder::Effect;

use super::{Cluster, Device, DeviceKind, HaProxySocket, Host, HypervisorWay, SnmpLogin};

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
        let witness = self.witness.as_ref().map(|witness| ("witness", &witness.broker, &witness.login));
        let telemetry =
            self.telemetry.as_ref().map(|telemetry| ("telemetry", &telemetry.broker, &telemetry.login));
        for (whose, broker, login) in [witness, telemetry].into_iter().flatten() {
            if login.is_some() && broker.tls.is_none() {
                warnings.push(format!(
                    "the password for the {whose} broker is sent in clear: whoever hears it can log in there; write \
                     broker = \"mqtts://...\" and `ca`"
                ));
            }
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
        for device in &self.devices {
            if let DeviceKind::Hypervisor(below) = device.kind()
                && let HypervisorWay::QmpAddress(address) = below.way()
            {
                let name = device.name();
                warnings.push(format!(
                    "device `{name}` speaks QMP over TCP: whoever reaches {address} commands the machine; let nobody but the hosts"
                ));
            }
        }
        for device in &self.devices {
            if let DeviceKind::Switch(switch) = device.kind()
                && matches!(switch.login(), SnmpLogin::Community(_))
            {
                let name = device.name();
                warnings.push(format!(
                    "device `{name}` speaks SNMPv2c: whoever hears its community can switch ports, and answers are signed by \
                     nobody; write `user` if the switch knows SNMPv3"
                ));
            }
        }
        for device in &self.devices {
            let DeviceKind::HaProxy(balancer) = device.kind() else { continue };
            let name = device.name();
            warnings.push(match balancer.socket() {
                HaProxySocket::Address(address) => format!(
                    "device `{name}` speaks to HAProxy over TCP: whoever reaches {address} commands it; let nobody but the hosts"
                ),
                // Which HAProxy is read off depends on who reads.
                HaProxySocket::Path(path) => format!(
                    "device `{name}` cuts its host off at the HAProxy of whichever host fences ({}): if more than one host runs its own, \
                     write a device for each of them with the address of its socket",
                    path.display()
                ),
            });
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

    /// Only who registers may write to a storage that is reserved, and take another's key there.
    fn warn_of_reservations(&self, host: &Host, warnings: &mut Vec<String>) {
        let reserved = |device: &&Device| matches!(device.kind(), DeviceKind::Scsi(_));
        let own = |name: &String| {
            self.devices_of(host.id()).filter(reserved).any(|device| device.storage().contains(name))
        };
        let mut missing: Vec<&String> = self
            .devices
            .iter()
            .filter(reserved)
            .flat_map(Device::storage)
            .filter(|name| !own(name))
            .collect();
        missing.sort_unstable();
        missing.dedup();
        for storage in missing {
            warnings.push(format!(
                "storage `{storage}` is reserved for hosts that register there, and host `{}` has no device of kind \"scsi\" for it: it \
                 can neither write to it nor cut others from it",
                host.name()
            ));
        }
    }

    fn warn_of_host(&self, host: &Host, warnings: &mut Vec<String>) {
        self.warn_of_reservations(host, warnings);
        for storage in &self.storages {
            let of_storage =
                self.devices_of(host.id()).filter(|device| device.storage.contains(&storage.name));
            let mut levels: Vec<u8> = of_storage.map(|device| device.level).collect();
            levels.sort_unstable();
            levels.dedup();
            if levels.len() > 1 {
                warnings.push(format!(
                    "storage `{}` of host `{}` is taken away on several levels, of which each proves alone: that is right only if \
                     each closes every path to it",
                    storage.name,
                    host.name()
                ));
            }
        }
        if self.devices_of(host.id()).all(|device| device.effect != Effect::Power) {
            warnings.push(format!(
                "host `{}` has no fence device that switches its power: when it dies silently, its workloads wait for its return, its watchdog's \
                 bound or `palisade confirm`",
                host.name()
            ));
        }
    }
}
