//! The cluster's configuration: TOML text in, a validated [`Cluster`] out.
//!
//! Decides: whether a file is sound, and says in one message where it is not. Never: opens a file, resolves a name,
//! loads a secret (secrets are references here), or lets a half-checked value out: only this module makes these types.

mod contradiction;
mod device;
mod digest;
mod error;
mod names;
mod operator;
mod orders;
mod parse;
mod parse_device;
mod parse_probe;
mod parse_workload;
mod probe;
mod raw;
mod source;
mod timing;
mod warning;
mod workload;
mod written;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use palisade_proto::{Duration, HostId, WorkloadId};

pub use contradiction::{Contradiction, KILL};
pub use device::{
    CipherSuite, Cut, Device, DeviceKind, FenceAgent, HaProxy, HaProxySocket, Hypervisor, HypervisorWay,
    Ipmi, Lun, LunTarget, Privilege, Redfish, RedfishAuth, Scsi, SnmpAuth, SnmpLogin, Ssh, Switch,
    SwitchPort, Tls, Wall,
};
pub use error::ConfigError;
pub use names::{Broker, BrokerTls, KeyRef, MachineId, SecretRef};
pub use operator::Operator;
pub use orders::{Orders, Verb};
pub use probe::{CapacityLimits, Health, HttpProbe, Level, Policy, Probe, ProbeId, ProbeKind};
pub use timing::{Profile, Timing, Watchdog};
pub use workload::{Storage, Workload, WorkloadKind};
pub use written::{Override, Written};

/// A whole, checked configuration: the same on each host of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    name: String,
    profile: Profile,
    on_quorum_loss: OnQuorumLoss,
    keys: Vec<KeyRef>,
    timing: Timing,
    watchdog: Option<Watchdog>,
    witness: Option<Witness>,
    telemetry: Option<Telemetry>,
    monitoring: Option<SocketAddr>,
    fencing: Fencing,
    hosts: Vec<Host>,
    devices: Vec<Device>,
    storages: Vec<Storage>,
    workloads: Vec<Workload>,
    operators: Vec<Operator>,
    orders: Option<Orders>,
    health: Health,
    probes: Vec<Probe>,
}

impl Cluster {
    /// No cluster: what an engine has that was read from a snapshot, until it is given its configuration.
    pub(crate) fn none() -> Arc<Self> {
        Arc::new(Self {
            name: String::new(),
            profile: Profile::default(),
            on_quorum_loss: OnQuorumLoss::default(),
            keys: Vec::new(),
            timing: Timing::of(Profile::default()),
            watchdog: None,
            witness: None,
            telemetry: None,
            monitoring: None,
            fencing: Fencing {
                budget: 0,
                budget_window: Duration(0),
                after_off: AfterOff::Off,
                mode: FencingMode::Enforce,
                quarantine_after: 0,
                quarantine_window: Duration(0),
            },
            hosts: Vec::new(),
            devices: Vec::new(),
            storages: Vec::new(),
            workloads: Vec::new(),
            operators: Vec::new(),
            orders: None,
            health: Health::default(),
            probes: Vec::new(),
        })
    }

    /// The cluster's name: `[a-z0-9-]{1,32}`; part of every MQTT topic.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which set of timing defaults the file asked for.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// What a host does with its workloads when it loses quorum (SAFE-3).
    #[must_use]
    pub fn on_quorum_loss(&self) -> OnQuorumLoss {
        self.on_quorum_loss
    }

    /// The cluster keys, never empty: the first seals, all open.
    #[must_use]
    pub fn keys(&self) -> &[KeyRef] {
        &self.keys
    }

    /// All time-outs of the protocol, checked against one another (SAFE-10).
    #[must_use]
    pub fn timing(&self) -> &Timing {
        &self.timing
    }

    /// The hardware watchdog of each host, where there is one; never together with [`OnQuorumLoss::Keep`].
    #[must_use]
    pub fn watchdog(&self) -> Option<&Watchdog> {
        self.watchdog.as_ref()
    }

    /// The witness, where there is one.
    #[must_use]
    pub fn witness(&self) -> Option<&Witness> {
        self.witness.as_ref()
    }

    /// Where each host answers monitoring over TCP, for reading alone; nowhere unless it is said.
    #[must_use]
    pub fn monitoring(&self) -> Option<SocketAddr> {
        self.monitoring
    }

    /// Where telemetry goes, if anywhere.
    #[must_use]
    pub fn telemetry(&self) -> Option<&Telemetry> {
        self.telemetry.as_ref()
    }

    /// Limits on fencing (SAFE-8) and what follows a fence.
    #[must_use]
    pub fn fencing(&self) -> &Fencing {
        &self.fencing
    }

    /// The hosts by rising id: 2 to 32 of them.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The host with this id.
    #[must_use]
    pub fn host(&self, id: HostId) -> Option<&Host> {
        self.hosts.iter().find(|host| host.id == id)
    }

    /// The host with this name.
    #[must_use]
    pub fn host_named(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name == name)
    }

    /// The host that is this machine.
    #[must_use]
    pub fn host_of_machine(&self, machine: MachineId) -> Option<&Host> {
        self.hosts.iter().find(|host| host.machine == machine)
    }

    /// Every fence device, in the order of the file.
    #[must_use]
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// The devices that fence one host, in the order of the file; [`Device::level`] orders them for a fence.
    pub fn devices_of(&self, host: HostId) -> impl Iterator<Item = &Device> {
        self.devices.iter().filter(move |device| device.fences() == host)
    }

    /// The storages that workloads may name.
    #[must_use]
    pub fn storages(&self) -> &[Storage] {
        &self.storages
    }

    /// The workloads by rising id.
    #[must_use]
    pub fn workloads(&self) -> &[Workload] {
        &self.workloads
    }

    /// Whose signature counts under a statement that a host is dead; when there is one, nobody else's word does.
    #[must_use]
    pub fn operators(&self) -> &[Operator] {
        &self.operators
    }

    /// Whether orders from afar are taken, and how.
    #[must_use]
    pub fn orders(&self) -> Option<&Orders> {
        self.orders.as_ref()
    }

    /// What holds for every probe that says nothing else.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// What hosts look at on themselves: the probes of the file, then those that every host has.
    #[must_use]
    pub fn probes(&self) -> &[Probe] {
        &self.probes
    }

    /// The probe with this short name.
    #[must_use]
    pub fn probe(&self, id: ProbeId) -> Option<&Probe> {
        self.probes.iter().find(|probe| probe.id() == id)
    }

    /// The workload with this id.
    #[must_use]
    pub fn workload(&self, id: WorkloadId) -> Option<&Workload> {
        self.workloads.iter().find(|workload| workload.id() == id)
    }

    /// The workload with this name.
    #[must_use]
    pub fn workload_named(&self, name: &str) -> Option<&Workload> {
        self.workloads.iter().find(|workload| workload.name() == name)
    }
}

/// What a host that lost quorum does with what it runs (SAFE-3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnQuorumLoss {
    /// Kill the workloads within `grace`.
    #[default]
    Stop,
    /// Let them run; arms no watchdog and never yields a watchdog proof.
    Keep,
}

/// One configured host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    id: HostId,
    name: String,
    machine: MachineId,
    links: Vec<SocketAddr>,
}

impl Host {
    /// Explicit and permanent; never a position in the file.
    #[must_use]
    pub fn id(&self) -> HostId {
        self.id
    }

    /// What operators call it: `[A-Za-z0-9._-]{1,64}`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The DMI product UUID: how a host knows which one it is, and how peers know it for the same machine.
    #[must_use]
    pub fn machine(&self) -> MachineId {
        self.machine
    }

    /// The UDP addresses it listens on, never empty.
    #[must_use]
    pub fn links(&self) -> &[SocketAddr] {
        &self.links
    }
}

/// How to reach the witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    broker: Broker,
    keys: Vec<KeyRef>,
    login: Option<Login>,
}

impl Witness {
    /// The MQTT broker between hosts and witness.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The witness keys, never empty: the first seals, all open. Never the cluster keys.
    #[must_use]
    pub fn keys(&self) -> &[KeyRef] {
        &self.keys
    }

    /// User and password at the broker, if it asks for them.
    #[must_use]
    pub fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }
}

/// Where telemetry goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    broker: Broker,
    login: Option<Login>,
    spool_bytes: u64,
}

impl Telemetry {
    /// What events may take on the disk while the broker is away, in bytes.
    #[must_use]
    pub fn spool_bytes(&self) -> u64 {
        self.spool_bytes
    }

    /// The MQTT broker of central monitoring.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// User and password at the broker, if it asks for them.
    #[must_use]
    pub fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }
}

/// A user name with the reference to its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    username: String,
    password: SecretRef,
}

impl Login {
    /// The user's name.
    #[must_use]
    pub fn username(&self) -> &str {
        &self.username
    }

    /// Where the password lies.
    #[must_use]
    pub fn password(&self) -> &SecretRef {
        &self.password
    }
}

/// Limits on fencing and what follows a fence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fencing {
    budget: u32,
    budget_window: Duration,
    after_off: AfterOff,
    mode: FencingMode,
    quarantine_after: u32,
    quarantine_window: Duration,
}

impl Fencing {
    /// The most automatic fences within [`Self::budget_window`] (SAFE-8); at least 1, half of the hosts by default.
    #[must_use]
    pub fn budget(&self) -> u32 {
        self.budget
    }

    /// The window in which the budget counts.
    #[must_use]
    pub fn budget_window(&self) -> Duration {
        self.budget_window
    }

    /// What to do with the power once the host is proven off.
    #[must_use]
    pub fn after_off(&self) -> AfterOff {
        self.after_off
    }

    /// Whether fences are ordered, or only recorded.
    #[must_use]
    pub fn mode(&self) -> FencingMode {
        self.mode
    }

    /// So many fences of one host within [`Self::quarantine_window`] keep it out until an operator lets it return (SAFE-8);
    /// zero: none does.
    #[must_use]
    pub fn quarantine_after(&self) -> u32 {
        self.quarantine_after
    }

    /// The window in which the fences of one host count.
    #[must_use]
    pub fn quarantine_window(&self) -> Duration {
        self.quarantine_window
    }
}

/// Whether fences are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FencingMode {
    /// They are.
    #[default]
    Enforce,
    /// They are decided and recorded; nothing is sent that switches anything.
    Shadow,
}

/// What becomes of a fenced host's power.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AfterOff {
    /// Give it back, so that the host can return; never to one that has left.
    #[default]
    On,
    /// Leave it off.
    Off,
}
