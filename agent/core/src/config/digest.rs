//! The digest of the part of the configuration on which safety rests. Heartbeats carry it.
//!
//! It covers hosts, timings, watchdog, devices, workloads' storage and the proofs that suffice for them, from the checked values:
//! comments, order and ways of writing do not change it. It never covers a secret or where one lies: hosts may keep theirs in
//! different places.

use std::net::IpAddr;

use palisade_ladder::Effect;
use sha2::{Digest, Sha256};

use super::{
    CipherSuite, Cluster, Device, DeviceKind, Health, Host, HypervisorWay, OnQuorumLoss, Policy, Privilege,
    Probe, RedfishAuth, SnmpAuth, SnmpLogin, Workload,
};

/// The version of the encoding below; a change of it makes every digest differ.
const VERSION: u8 = 1;

impl Cluster {
    /// Eight bytes that differ when the safety part differs.
    #[must_use]
    pub fn digest(&self) -> [u8; 8] {
        let mut canonical = Canonical(Sha256::new());
        canonical.number(u64::from(VERSION));
        canonical.text(self.name());
        canonical.number(match self.on_quorum_loss {
            OnQuorumLoss::Stop => 0,
            OnQuorumLoss::Keep => 1,
        });
        canonical.list(self.hosts.iter(), Canonical::host);
        canonical.timing(self);
        let mut devices: Vec<&Device> = self.devices.iter().collect();
        devices.sort_by(|a, b| a.name.cmp(&b.name));
        canonical.list(devices.iter().copied(), Canonical::device);
        canonical.list(self.workloads.iter(), |canonical, workload| canonical.workload(self, workload));
        canonical.isolation(self, &devices);
        canonical.health(self);
        let mut digest = [0; 8];
        digest.iter_mut().zip(canonical.0.finalize()).for_each(|(byte, hashed)| *byte = hashed);
        digest
    }
}

/// Every value with its length before it, so that no two configurations write the same bytes.
struct Canonical(Sha256);

impl Canonical {
    fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.update(text.as_bytes());
    }

    fn list<T>(&mut self, items: impl ExactSizeIterator<Item = T>, mut item: impl FnMut(&mut Self, T)) {
        self.number(items.len() as u64);
        items.for_each(|value| item(self, value));
    }

    /// What storage and network fencing adds; nothing without it, so that hosts whose version knows none agree.
    fn isolation(&mut self, cluster: &Cluster, devices: &[&Device]) {
        let isolating: Vec<&&Device> =
            devices.iter().filter(|device| device.effect != Effect::Power).collect();
        if isolating.is_empty() {
            return;
        }
        self.text("isolation");
        self.list(isolating.into_iter(), |canonical, device| {
            canonical.text(&device.name);
            canonical.text(device.effect.proves().name());
            canonical.number(u64::from(device.race));
            canonical.names(&device.storage);
        });
        self.list(cluster.workloads.iter(), |canonical, workload| {
            let mut proofs: Vec<&str> = workload.proofs.iter().map(|effect| effect.proves().name()).collect();
            proofs.sort_unstable();
            canonical.list(proofs.into_iter(), |canonical, proof| canonical.text(proof));
        });
    }

    /// The probes that lead to something, where the file says anything of them: whoever counts the others' failures has to know that
    /// they look at the same. Nothing without them, as above.
    fn health(&mut self, cluster: &Cluster) {
        let acting = |probe: &&Probe| probe.on_failure > Policy::Report;
        let mut probes: Vec<&Probe> = cluster.probes.iter().filter(acting).collect();
        if cluster.health == Health::default() && !probes.iter().any(|probe| probe.written) {
            return;
        }
        probes.sort_by(|a, b| a.name.cmp(&b.name));
        self.text("health");
        self.list(probes.into_iter(), |canonical, probe| {
            canonical.text(&probe.name);
            // What is looked at, with every setting: its own words are unambiguous.
            canonical.text(&format!("{:?} {:?}", probe.kind, probe.slow));
            canonical.number(u64::from(probe.on_failure == Policy::Fence));
            for number in [probe.every.0, probe.timeout.0, u64::from(probe.after), u64::from(probe.back)] {
                canonical.number(number);
            }
            let mut on: Vec<u8> = probe.on.iter().map(|host| host.number()).collect();
            on.sort_unstable();
            canonical.list(on.into_iter(), |canonical, host| canonical.number(u64::from(host)));
        });
    }

    fn names(&mut self, names: &[String]) {
        let mut sorted: Vec<&str> = names.iter().map(String::as_str).collect();
        sorted.sort_unstable();
        self.list(sorted.into_iter(), |canonical, name| canonical.text(name));
    }

    fn host(&mut self, host: &Host) {
        self.number(u64::from(host.id.number()));
        self.text(&host.name);
        self.0.update(host.machine.bytes());
        let mut links: Vec<String> = host.links.iter().map(ToString::to_string).collect();
        links.sort();
        self.list(links.into_iter(), |canonical, link| canonical.text(&link));
    }

    fn timing(&mut self, cluster: &Cluster) {
        // Destructured in full: a new time-out cannot be forgotten here.
        let super::Timing {
            heartbeat,
            lease,
            suspect,
            drift,
            grace,
            rejoin_hold,
            join_timeout,
            boot_wait,
            restart_hold,
            cold_off_wait,
            order_deadline,
            broker_round_trip,
        } = &cluster.timing;
        self.number(u64::from(drift.ppm));
        for length in [
            heartbeat,
            lease,
            suspect,
            grace,
            rejoin_hold,
            join_timeout,
            boot_wait,
            restart_hold,
            cold_off_wait,
            order_deadline,
            broker_round_trip,
        ] {
            self.number(length.0);
        }
        self.number(u64::from(cluster.witness.is_some()));
        self.number(u64::from(cluster.watchdog.is_some()));
        if let Some(super::Watchdog { device: _, timeout, margin, runs_while_frozen }) = &cluster.watchdog {
            self.number(timeout.0);
            self.number(margin.0);
            self.number(u64::from(*runs_while_frozen));
        }
    }

    fn device(&mut self, device: &Device) {
        // What is not the power's follows in a section of its own.
        let Device { name, fences, level, deadline, retries, effect: _, race: _, storage: _, kind } = device;
        self.text(name);
        self.number(u64::from(fences.number()));
        self.number(u64::from(*level));
        self.number(deadline.0);
        self.number(u64::from(*retries));
        match kind {
            DeviceKind::Ipmi(super::Ipmi {
                address,
                user: _,
                password: _,
                kg: _,
                cipher_suite,
                privilege,
                guid,
            }) => {
                self.text("ipmi");
                self.text(&address.to_string());
                self.text(&guid.0);
                self.number(match cipher_suite {
                    CipherSuite::Suite3 => 3,
                    CipherSuite::Suite17 => 17,
                });
                self.number(match privilege {
                    Privilege::Operator => 3,
                    Privilege::Administrator => 4,
                });
            }
            DeviceKind::Redfish(super::Redfish {
                address,
                tls,
                user: _,
                password: _,
                auth,
                system,
                uuid,
            }) => {
                self.text("redfish");
                self.text(&address.to_string());
                self.text(&uuid.0);
                self.text(system.as_deref().unwrap_or_default());
                self.text(tls.as_ref().map_or("", |tls| &tls.name));
                self.number(match auth {
                    RedfishAuth::Session => 0,
                    RedfishAuth::Basic => 1,
                });
            }
            DeviceKind::Hypervisor(super::Hypervisor { way, uuid }) => {
                self.text("hypervisor");
                self.text(match way {
                    HypervisorWay::QmpSocket(_) | HypervisorWay::QmpAddress(_) => "qmp",
                    HypervisorWay::Libvirt(_) => "libvirt",
                });
                self.text(&way.to_string());
                self.text(&uuid.0);
            }
            DeviceKind::Scsi(super::Scsi { luns }) => {
                self.text("scsi");
                self.names(luns);
            }
            DeviceKind::Switch(super::Switch { address, port, alias, login }) => {
                self.text("switch");
                self.text(&address.to_string());
                self.text(&port.to_string());
                self.text(&alias.0);
                self.text(match login {
                    SnmpLogin::Community(_) => "2c",
                    SnmpLogin::User { auth: SnmpAuth::Sha1, .. } => "sha1",
                    SnmpLogin::User { auth: SnmpAuth::Sha256, .. } => "sha256",
                });
            }
            DeviceKind::HaProxy(super::HaProxy { socket, backend, server, server_address }) => {
                self.text("haproxy");
                self.text(&socket.to_string());
                self.text(backend);
                self.text(server);
                self.text(&server_address.to_string());
            }
            DeviceKind::Agent(super::FenceAgent { program, options, secrets: _ }) => {
                self.text("agent");
                self.text(&program.display().to_string());
                self.list(options.iter(), |canonical, (name, value)| {
                    canonical.text(name);
                    canonical.text(value);
                });
            }
            DeviceKind::Nft(super::Cut { ssh, addresses }) => self.cut("nft", ssh, addresses),
            DeviceKind::Wall(super::Wall { addresses }) => {
                self.text("wall");
                self.list(addresses.iter(), |canonical, address| canonical.text(&address.to_string()));
            }
            DeviceKind::Route(super::Cut { ssh, addresses }) => self.cut("route", ssh, addresses),
            DeviceKind::Lun(super::Lun { ssh, target, iqn, initiator }) => {
                self.text("lun");
                self.text(&ssh.address.to_string());
                for text in [target.name(), iqn, initiator] {
                    self.text(text);
                }
            }
        }
    }

    /// Which host enforces, and for whom; not how one logs in there.
    fn cut(&mut self, kind: &str, ssh: &super::Ssh, addresses: &[IpAddr]) {
        self.text(kind);
        self.text(&ssh.address.to_string());
        self.list(addresses.iter(), |canonical, address| canonical.text(&address.to_string()));
    }

    fn workload(&mut self, cluster: &Cluster, workload: &Workload) {
        self.number(u64::from(workload.id.0));
        let mut storage: Vec<&str> = workload.storage.iter().map(String::as_str).collect();
        storage.sort_unstable();
        self.list(storage.into_iter(), |canonical, name| {
            canonical.text(name);
            let path =
                cluster.storages.iter().find(|storage| storage.name == name).map(|storage| &storage.path);
            canonical.text(&path.map(|path| path.display().to_string()).unwrap_or_default());
        });
    }
}
