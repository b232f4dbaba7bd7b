//! Fence devices: what the configuration says about each.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use palisade_ladder::{Effect, Identity};
use palisade_proto::{Duration, HostId};

use super::SecretRef;

/// One device that can fence one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub(super) name: String,
    pub(super) fences: HostId,
    pub(super) level: u8,
    pub(super) deadline: Duration,
    pub(super) retries: u32,
    pub(super) effect: Effect,
    pub(super) race: bool,
    pub(super) storage: Vec<String>,
    pub(super) kind: DeviceKind,
}

impl Device {
    /// What operators call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host whose power (or paths) it cuts.
    #[must_use]
    pub fn fences(&self) -> HostId {
        self.fences
    }

    /// What it takes from the host, and so what its reading proves. The devices of one level take one thing.
    #[must_use]
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// Whether its level begins together with the power's, instead of when a level before it has failed.
    #[must_use]
    pub fn races(&self) -> bool {
        self.race
    }

    /// The storages that the host cannot reach any more once this device reads off; only of one that takes storage.
    #[must_use]
    pub fn storage(&self) -> &[String] {
        &self.storage
    }

    /// Devices of one level run together; lower levels first.
    #[must_use]
    pub fn level(&self) -> u8 {
        self.level
    }

    /// How long one command may take.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The most tries of one command within an order, the first included.
    #[must_use]
    pub fn retries(&self) -> u32 {
        self.retries
    }

    /// What it is and how to reach it.
    #[must_use]
    pub fn kind(&self) -> &DeviceKind {
        &self.kind
    }
}

/// The kinds of device that can be configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// A BMC by IPMI 2.0 over LAN (RMCP+).
    Ipmi(Ipmi),
    /// A BMC by Redfish (DSP0266).
    Redfish(Redfish),
    /// Whatever a fence agent of ClusterLabs can switch.
    Agent(FenceAgent),
    /// What runs the host, which is a virtual machine.
    Hypervisor(Hypervisor),
    /// SCSI-3 persistent reservations on shared logical units, or those of NVMe on namespaces.
    Scsi(Scsi),
    /// The switch that connects the host, by SNMP.
    Switch(Switch),
    /// A load balancer in front of the host.
    HaProxy(HaProxy),
    /// The network of the host, cut by nftables on another one.
    Nft(Cut),
    /// The same, cut by nftables on every other host of the cluster, each by itself.
    Wall(Wall),
    /// The same, cut by the routes of another host.
    Route(Cut),
    /// Its LUNs, taken away at the iSCSI target that serves them.
    Lun(Lun),
}

impl DeviceKind {
    /// Where the BMC listens. A fence agent knows that itself, and behind one hypervisor or switch are many hosts.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Ipmi(ipmi) => Some(ipmi.address),
            Self::Redfish(redfish) => Some(redfish.address),
            Self::Agent(_)
            | Self::Hypervisor(_)
            | Self::Scsi(_)
            | Self::Switch(_)
            | Self::HaProxy(_)
            | Self::Nft(_)
            | Self::Wall(_)
            | Self::Route(_)
            | Self::Lun(_) => None,
        }
    }

    /// The addresses of its host that it cuts off.
    pub(super) fn cuts(&self) -> &[IpAddr] {
        match self {
            Self::Nft(cut) | Self::Route(cut) => &cut.addresses,
            Self::Wall(wall) => &wall.addresses,
            Self::Ipmi(_)
            | Self::Redfish(_)
            | Self::Agent(_)
            | Self::Hypervisor(_)
            | Self::Scsi(_)
            | Self::Switch(_)
            | Self::HaProxy(_)
            | Self::Lun(_) => &[],
        }
    }

    /// The host that it logs in to.
    #[must_use]
    pub fn ssh(&self) -> Option<&Ssh> {
        match self {
            Self::Nft(cut) | Self::Route(cut) => Some(&cut.ssh),
            Self::Lun(lun) => Some(&lun.ssh),
            Self::Ipmi(_)
            | Self::Wall(_)
            | Self::Redfish(_)
            | Self::Agent(_)
            | Self::Hypervisor(_)
            | Self::Switch(_)
            | Self::HaProxy(_)
            | Self::Scsi(_) => None,
        }
    }

    /// Whether a reading comes soon enough to go before an off. A program would be killed in the middle of one.
    #[must_use]
    pub fn reads_soon(&self) -> bool {
        match self {
            Self::Ipmi(_)
            | Self::Redfish(_)
            | Self::Scsi(_)
            | Self::Switch(_)
            | Self::HaProxy(_)
            | Self::Wall(_) => true,
            Self::Agent(_) | Self::Nft(_) | Self::Route(_) | Self::Lun(_) => false,
            Self::Hypervisor(hypervisor) => match hypervisor.way {
                HypervisorWay::QmpSocket(_) | HypervisorWay::QmpAddress(_) => true,
                HypervisorWay::Libvirt(_) => false,
            },
        }
    }

    /// Whether every host has one of its own, which the coordinator switches through the heartbeats alone.
    #[must_use]
    pub fn is_wall(&self) -> bool {
        matches!(self, Self::Wall(_))
    }

    /// Whether a host opens its own paths, once, before it is taken in (PROTOCOL, "Isolation"), where for other kinds the
    /// coordinator does.
    #[must_use]
    pub fn opened_by_its_host(&self) -> bool {
        match self {
            Self::Scsi(_) => true,
            // A host behind a closed port or a closed balancer may reach neither: only a peer can open it.
            Self::Switch(_) | Self::HaProxy(_) => false,
            Self::Ipmi(_)
            | Self::Redfish(_)
            | Self::Agent(_)
            | Self::Hypervisor(_)
            | Self::Nft(_)
            | Self::Wall(_)
            | Self::Route(_)
            | Self::Lun(_) => false,
        }
    }
}

/// The logical units from which a host is cut by its reservation keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scsi {
    pub(super) luns: Vec<String>,
}

impl Scsi {
    /// Those of each storage that the device takes away; never empty.
    #[must_use]
    pub fn luns(&self) -> &[String] {
        &self.luns
    }
}

/// A login on a host that enforces a cut, and is guarded by nobody here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssh {
    pub(super) user: String,
    pub(super) address: SocketAddr,
    pub(super) identity: SecretRef,
    pub(super) known_hosts: PathBuf,
}

impl Ssh {
    /// The login's name.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Where its sshd listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The file of the private key.
    #[must_use]
    pub fn identity(&self) -> &SecretRef {
        &self.identity
    }

    /// The file with the host's own key.
    #[must_use]
    pub fn known_hosts(&self) -> &Path {
        &self.known_hosts
    }
}

impl fmt::Display for Ssh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.user, self.address)
    }
}

/// A host that stands between this one and what it could harm, and what it cuts off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    pub(super) ssh: Ssh,
    pub(super) addresses: Vec<IpAddr>,
}

impl Cut {
    /// The host that enforces the cut.
    #[must_use]
    pub fn ssh(&self) -> &Ssh {
        &self.ssh
    }

    /// What is cut off there: sorted, never empty, never of two hosts.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }
}

/// What every other host of the cluster keeps out by its own firewall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wall {
    pub(super) addresses: Vec<IpAddr>,
}

impl Wall {
    /// The addresses of the host: sorted, never empty, never of two hosts.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }
}

/// What one initiator may reach at one iSCSI target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lun {
    pub(super) ssh: Ssh,
    pub(super) target: LunTarget,
    pub(super) iqn: String,
    pub(super) initiator: String,
}

impl Lun {
    /// The host that serves the LUNs.
    #[must_use]
    pub fn ssh(&self) -> &Ssh {
        &self.ssh
    }

    /// By what it serves them.
    #[must_use]
    pub fn target(&self) -> LunTarget {
        self.target
    }

    /// The target's name in iSCSI, in lower case.
    #[must_use]
    pub fn iqn(&self) -> &str {
        &self.iqn
    }

    /// The name of the host's initiator, in lower case; never of two hosts.
    #[must_use]
    pub fn initiator(&self) -> &str {
        &self.initiator
    }
}

/// What serves LUNs by iSCSI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LunTarget {
    /// The user space target of scsi-target-utils.
    Tgt,
    /// The kernel's.
    Lio,
}

impl LunTarget {
    /// Its name in the configuration.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Tgt => "tgt",
            Self::Lio => "lio",
        }
    }
}

/// The hypervisor below a host that is a virtual machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hypervisor {
    pub(super) way: HypervisorWay,
    pub(super) uuid: Identity,
}

impl Hypervisor {
    /// How it is spoken to.
    #[must_use]
    pub fn way(&self) -> &HypervisorWay {
        &self.way
    }

    /// The machine's UUID: 32 lower-case hexadecimal digits; never blank, never of two hosts.
    #[must_use]
    pub fn uuid(&self) -> &Identity {
        &self.uuid
    }
}

/// How a hypervisor is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HypervisorWay {
    /// QEMU's monitor of this one machine, at a path of this host.
    QmpSocket(PathBuf),
    /// The same over TCP. It asks nobody who they are.
    QmpAddress(SocketAddr),
    /// libvirt, at this URI.
    Libvirt(String),
}

impl fmt::Display for HypervisorWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QmpSocket(path) => write!(f, "{}", path.display()),
            Self::QmpAddress(address) => write!(f, "{address}"),
            Self::Libvirt(uri) => f.write_str(uri),
        }
    }
}

/// The port of a managed switch to which the host is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    pub(super) address: SocketAddr,
    pub(super) port: SwitchPort,
    pub(super) alias: Identity,
    pub(super) login: SnmpLogin,
}

impl Switch {
    /// Where its SNMP agent listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Which of its ports; never of two hosts.
    #[must_use]
    pub fn port(&self) -> &SwitchPort {
        &self.port
    }

    /// The port's ifAlias: the host's name unless written; never of two hosts.
    #[must_use]
    pub fn alias(&self) -> &Identity {
        &self.alias
    }

    /// Who the switch is told one is.
    #[must_use]
    pub fn login(&self) -> &SnmpLogin {
        &self.login
    }
}

/// A port of a switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwitchPort {
    /// By ifName.
    Name(String),
    /// By ifIndex.
    Index(u32),
}

impl fmt::Display for SwitchPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Index(index) => write!(f, "index {index}"),
        }
    }
}

/// How to log in at an SNMP agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnmpLogin {
    /// Version 2c, with the community that lies there. It goes in the clear.
    Community(SecretRef),
    /// Version 3 with authentication and privacy (AES-128).
    User {
        /// The user's name.
        user: String,
        /// With what messages are signed.
        auth: SnmpAuth,
        /// Where the password for that lies.
        auth_password: SecretRef,
        /// Where the password for the encryption lies.
        priv_password: SecretRef,
    },
}

/// With what an SNMPv3 user signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnmpAuth {
    /// HMAC-SHA-96.
    Sha1,
    /// HMAC-192-SHA-256.
    Sha256,
}

/// A host's server in a load balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HaProxy {
    pub(super) socket: HaProxySocket,
    pub(super) backend: String,
    pub(super) server: String,
    pub(super) server_address: IpAddr,
}

impl HaProxy {
    /// Where its runtime API listens.
    #[must_use]
    pub fn socket(&self) -> &HaProxySocket {
        &self.socket
    }

    /// The backend's name.
    #[must_use]
    pub fn backend(&self) -> &str {
        &self.backend
    }

    /// The server's name in the backend; never of two hosts.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The server's address, by which it is known; never of two hosts.
    #[must_use]
    pub fn server_address(&self) -> IpAddr {
        self.server_address
    }
}

/// Where a load balancer is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HaProxySocket {
    /// At a path of this host.
    Path(PathBuf),
    /// Over TCP. It asks nobody who they are.
    Address(SocketAddr),
}

impl fmt::Display for HaProxySocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

/// A program that speaks FenceAgentAPI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FenceAgent {
    pub(super) program: PathBuf,
    pub(super) options: BTreeMap<String, String>,
    pub(super) secrets: BTreeMap<String, SecretRef>,
}

impl FenceAgent {
    /// The program's absolute path.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// What it is told, beside what to do. These alone say which plug, blade or domain is the host's.
    #[must_use]
    pub fn options(&self) -> &BTreeMap<String, String> {
        &self.options
    }

    /// Where the secrets lie that it is told.
    #[must_use]
    pub fn secrets(&self) -> &BTreeMap<String, SecretRef> {
        &self.secrets
    }
}

/// A BMC by IPMI over LAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipmi {
    pub(super) address: SocketAddr,
    pub(super) user: String,
    pub(super) password: SecretRef,
    pub(super) kg: Option<SecretRef>,
    pub(super) cipher_suite: CipherSuite,
    pub(super) privilege: Privilege,
    pub(super) guid: Identity,
}

impl Ipmi {
    /// Where the BMC listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The login's name, at most 16 bytes.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Where the login's password lies.
    #[must_use]
    pub fn password(&self) -> &SecretRef {
        &self.password
    }

    /// Where the BMC key Kg lies, for BMCs that have one set.
    #[must_use]
    pub fn kg(&self) -> Option<&SecretRef> {
        self.kg.as_ref()
    }

    /// The one cipher suite to speak; no other is accepted from the BMC.
    #[must_use]
    pub fn cipher_suite(&self) -> CipherSuite {
        self.cipher_suite
    }

    /// The privilege to ask for.
    #[must_use]
    pub fn privilege(&self) -> Privilege {
        self.privilege
    }

    /// The BMC's GUID, pinned: 32 lower-case hexadecimal digits in wire order; never blank, never of two hosts.
    #[must_use]
    pub fn guid(&self) -> &Identity {
        &self.guid
    }
}

/// The IPMI 2.0 cipher suites that are spoken (IPMI 2.0 table 22-20).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CipherSuite {
    /// HMAC-SHA1, HMAC-SHA1-96, AES-CBC-128.
    Suite3,
    /// HMAC-SHA256, HMAC-SHA256-128, AES-CBC-128.
    #[default]
    Suite17,
}

impl CipherSuite {
    /// Its number in the standard.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Suite3 => 3,
            Self::Suite17 => 17,
        }
    }
}

/// The IPMI privilege level to ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Privilege {
    /// Enough for chassis control.
    #[default]
    Operator,
    /// For BMCs that do not let an operator switch power.
    Administrator,
}

/// A BMC by Redfish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redfish {
    pub(super) address: SocketAddr,
    pub(super) tls: Option<Tls>,
    pub(super) user: String,
    pub(super) password: SecretRef,
    pub(super) auth: RedfishAuth,
    pub(super) system: Option<String>,
    pub(super) uuid: Identity,
}

impl Redfish {
    /// Where the service listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How the service shows that it is the right one. `None`: plain HTTP, as the configuration says in so many words.
    #[must_use]
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// The login's name.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Where the login's password lies.
    #[must_use]
    pub fn password(&self) -> &SecretRef {
        &self.password
    }

    /// How to log in.
    #[must_use]
    pub fn auth(&self) -> RedfishAuth {
        self.auth
    }

    /// The path of the ComputerSystem, where the service has several and the UUID is not enough.
    #[must_use]
    pub fn system(&self) -> Option<&str> {
        self.system.as_deref()
    }

    /// ComputerSystem.UUID, pinned: 32 lower-case hexadecimal digits; the host's machine UUID unless written.
    #[must_use]
    pub fn uuid(&self) -> &Identity {
        &self.uuid
    }
}

/// Whose certificates are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    pub(super) ca: PathBuf,
    pub(super) name: String,
}

impl Tls {
    /// The file with the CA's certificates, PEM.
    #[must_use]
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// The name that the certificate must carry: the address, unless another one is written.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// How to log in to a Redfish service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedfishAuth {
    /// With a session and its token.
    #[default]
    Session,
    /// With user and password in each request.
    Basic,
}
