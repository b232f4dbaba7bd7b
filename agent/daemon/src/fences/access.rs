//! How to reach a configured device: its settings with its secrets, and the driver of its kind.

use std::time::Duration;

use palisade_core::config::{
    CipherSuite, Cluster, Device, DeviceKind, FenceAgent, HaProxySocket, HypervisorWay, Ipmi, LunTarget,
    Privilege, Redfish, RedfishAuth, SecretRef, SnmpAuth, SnmpLogin, SwitchPort,
};
use palisade_devices::agent::{self, AgentConfig};
use palisade_devices::haproxy::{HaProxy, HaProxyConfig, Socket};
use palisade_devices::hypervisor::{Hypervisor, HypervisorConfig, Way};
use palisade_devices::ipmi::{self, IpmiConfig};
use palisade_devices::lun::{Lun, LunPoint, Target};
use palisade_devices::nft::{Nft, NftPoint};
use palisade_devices::redfish::{self, RedfishConfig};
use palisade_devices::route::{Route, RoutePoint};
use palisade_devices::scsi::{Kernel, Me, Scsi, ScsiConfig};
use palisade_devices::ssh::{Site, SshConfig};
use palisade_devices::switch::{self, Switch, SwitchConfig};
use palisade_devices::{DeviceHandle, Reprove, Secret};
use palisade_ladder::{Command, Failure, Response};
use palisade_proto::HostId;
use tokio::time::Instant;

use crate::secret;

/// For taking leave of a device that was asked once.
const LEAVE: Duration = Duration::from_secs(1);

/// What a driver needs to know of its device.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Ipmi(Box<IpmiConfig>),
    Redfish(Box<RedfishConfig>),
    Agent(Box<AgentConfig>),
    Hypervisor(Box<HypervisorConfig>),
    Scsi(Box<ScsiConfig>),
    Switch(Box<SwitchConfig>),
    HaProxy(Box<HaProxyConfig>),
    Nft(Box<(Site, NftPoint)>),
    Route(Box<(SshConfig, RoutePoint)>),
    Lun(Box<(SshConfig, LunPoint)>),
}

impl Access {
    /// Reads the secrets and certificates from where the configuration says. Fails with what is wrong, and where.
    ///
    /// `me`: the host that reads it, if it is one of the cluster's.
    pub(crate) fn to(device: &Device, cluster: &Cluster, me: Option<HostId>) -> Result<Self, String> {
        match device.kind() {
            DeviceKind::Ipmi(ipmi) => ipmi_config(ipmi).map(|config| Self::Ipmi(Box::new(config))),
            DeviceKind::Redfish(redfish) => {
                redfish_config(redfish).map(|config| Self::Redfish(Box::new(config)))
            }
            DeviceKind::Agent(agent) => agent_config(agent).map(|config| Self::Agent(Box::new(config))),
            DeviceKind::Hypervisor(below) => {
                hypervisor_config(below).map(|config| Self::Hypervisor(Box::new(config)))
            }
            DeviceKind::Scsi(scsi) => ScsiConfig::new(cluster.name(), scsi.luns(), device.fences())
                .map(|config| Self::Scsi(Box::new(config)))
                .map_err(|error| error.to_string()),
            DeviceKind::Switch(port) => switch_config(port).map(|config| Self::Switch(Box::new(config))),
            DeviceKind::HaProxy(balancer) => {
                haproxy_config(balancer).map(|config| Self::HaProxy(Box::new(config)))
            }
            DeviceKind::Nft(cut) => {
                let point = NftPoint::new(cut.addresses()).map_err(|error| error.to_string())?;
                Ok(Self::Nft(Box::new((ssh_config(cut.ssh())?.into(), point))))
            }
            DeviceKind::Wall(wall) => {
                let point = NftPoint::new(wall.addresses()).map_err(|error| error.to_string())?;
                let links = me.and_then(|me| cluster.host(me)).map(palisade_core::config::Host::links);
                let ports: Vec<u16> =
                    links.unwrap_or_default().iter().map(std::net::SocketAddr::port).collect();
                Ok(Self::Nft(Box::new((Site::Here, point.sparing(&ports)))))
            }
            DeviceKind::Route(cut) => {
                let point = RoutePoint::new(cut.addresses()).map_err(|error| error.to_string())?;
                Ok(Self::Route(Box::new((ssh_config(cut.ssh())?, point))))
            }
            DeviceKind::Lun(lun) => {
                let target = match lun.target() {
                    LunTarget::Tgt => Target::Tgt,
                    LunTarget::Lio => Target::Lio,
                };
                let point = LunPoint::new(target, lun.iqn(), lun.initiator());
                let point = point.map_err(|error| error.to_string())?;
                Ok(Self::Lun(Box::new((ssh_config(lun.ssh())?, point))))
            }
        }
    }

    /// Proves the fence path once, and takes leave.
    pub(crate) async fn prove(&self, within: Duration) -> Result<Response, Failure> {
        match self {
            Self::Ipmi(config) => prove(ipmi::Ipmi::new(IpmiConfig::clone(config)), within).await,
            Self::Redfish(config) => prove(redfish::Redfish::new(RedfishConfig::clone(config)), within).await,
            Self::Agent(config) => prove(agent::Driver::new(AgentConfig::clone(config)), within).await,
            Self::Hypervisor(config) => prove(Hypervisor::new(HypervisorConfig::clone(config)), within).await,
            Self::Scsi(config) => {
                prove(Scsi::new(ScsiConfig::clone(config), None, Kernel::default()), within).await
            }
            Self::Switch(config) => prove(Switch::new(SwitchConfig::clone(config)), within).await,
            Self::HaProxy(config) => prove(HaProxy::new(HaProxyConfig::clone(config)), within).await,
            Self::Nft(config) => prove(Nft::new(config.0.clone(), config.1.clone()), within).await,
            Self::Route(config) => prove(Route::new(config.0.clone(), config.1.clone()), within).await,
            Self::Lun(config) => prove(Lun::new(config.0.clone(), config.1.clone()), within).await,
        }
    }

    /// Gives the device a task of its own. `me`: whose orders it takes.
    pub(crate) fn spawn(&self, me: Me, reprove: Option<Reprove>) -> DeviceHandle {
        match self {
            Self::Ipmi(config) => {
                palisade_devices::spawn(ipmi::Ipmi::new(IpmiConfig::clone(config)), reprove)
            }
            Self::Redfish(config) => {
                palisade_devices::spawn(redfish::Redfish::new(RedfishConfig::clone(config)), reprove)
            }
            Self::Agent(config) => {
                palisade_devices::spawn(agent::Driver::new(AgentConfig::clone(config)), reprove)
            }
            Self::Hypervisor(config) => {
                palisade_devices::spawn(Hypervisor::new(HypervisorConfig::clone(config)), reprove)
            }
            Self::Scsi(config) => {
                let scsi = Scsi::new(ScsiConfig::clone(config), Some(me), Kernel::default());
                palisade_devices::spawn(scsi, reprove)
            }
            Self::Switch(config) => {
                palisade_devices::spawn(Switch::new(SwitchConfig::clone(config)), reprove)
            }
            Self::HaProxy(config) => {
                palisade_devices::spawn(HaProxy::new(HaProxyConfig::clone(config)), reprove)
            }
            Self::Nft(config) => {
                palisade_devices::spawn(Nft::new(config.0.clone(), config.1.clone()), reprove)
            }
            Self::Route(config) => {
                palisade_devices::spawn(Route::new(config.0.clone(), config.1.clone()), reprove)
            }
            Self::Lun(config) => {
                palisade_devices::spawn(Lun::new(config.0.clone(), config.1.clone()), reprove)
            }
        }
    }
}

async fn prove(mut device: impl palisade_devices::Device, within: Duration) -> Result<Response, Failure> {
    let answer = device.run(Command::Prove, (Instant::now() + within).into()).await;
    device.close(Instant::now() + LEAVE).await;
    answer
}

fn load(reference: &SecretRef) -> Result<Secret, String> {
    secret::load(reference).map(|secret| Secret::new(secret.into_bytes())).map_err(|error| error.to_string())
}

fn ipmi_config(ipmi: &Ipmi) -> Result<IpmiConfig, String> {
    let password = load(ipmi.password())?;
    let kg = ipmi.kg().map(load).transpose()?;
    let suite = match ipmi.cipher_suite() {
        CipherSuite::Suite3 => ipmi::Suite::Three,
        CipherSuite::Suite17 => ipmi::Suite::Seventeen,
    };
    let privilege = match ipmi.privilege() {
        Privilege::Operator => ipmi::Privilege::Operator,
        Privilege::Administrator => ipmi::Privilege::Administrator,
    };
    let user = ipmi.user().to_owned();
    IpmiConfig::new(ipmi.address(), user, password, kg, suite, privilege, &ipmi.guid().0)
        .map_err(|error| error.to_string())
}

fn redfish_config(redfish: &Redfish) -> Result<RedfishConfig, String> {
    let tls = |tls: &palisade_core::config::Tls| {
        let path = tls.ca().display();
        let pem = std::fs::read(tls.ca()).map_err(|error| format!("ca {path}: {error}"))?;
        redfish::Tls::new(&pem, tls.name()).map_err(|error| format!("ca {path}: {error}"))
    };
    let tls = redfish.tls().map(tls).transpose()?;
    let auth = match redfish.auth() {
        RedfishAuth::Session => redfish::Auth::Session,
        RedfishAuth::Basic => redfish::Auth::Basic,
    };
    let (user, system) = (redfish.user().to_owned(), redfish.system().map(str::to_owned));
    let password = load(redfish.password())?;
    RedfishConfig::new(redfish.address(), tls, user, password, auth, system, &redfish.uuid().0)
        .map_err(|error| error.to_string())
}

fn agent_config(agent: &FenceAgent) -> Result<AgentConfig, String> {
    let secret = |(name, reference): (&String, &SecretRef)| {
        load(reference).map(|secret| (name.clone(), secret)).map_err(|error| format!("{name}: {error}"))
    };
    let secrets = agent.secrets().iter().map(secret).collect::<Result<_, _>>()?;
    AgentConfig::new(agent.program().to_owned(), agent.options().clone(), secrets)
        .map_err(|error| error.to_string())
}

fn hypervisor_config(below: &palisade_core::config::Hypervisor) -> Result<HypervisorConfig, String> {
    let way = match below.way() {
        HypervisorWay::QmpSocket(path) => Way::QmpSocket(path.clone()),
        HypervisorWay::QmpAddress(address) => Way::QmpAddress(*address),
        HypervisorWay::Libvirt(uri) => Way::Libvirt(uri.clone()),
    };
    HypervisorConfig::new(way, &below.uuid().0).map_err(|error| error.to_string())
}

fn switch_config(port: &palisade_core::config::Switch) -> Result<SwitchConfig, String> {
    let named = match port.port() {
        SwitchPort::Name(name) => switch::PortRef::Name(name.clone()),
        SwitchPort::Index(index) => switch::PortRef::Index(*index),
    };
    let login = match port.login() {
        SnmpLogin::Community(community) => switch::Login::Community(load(community)?),
        SnmpLogin::User { user, auth, auth_password, priv_password } => switch::Login::User {
            user: user.clone(),
            auth_protocol: match auth {
                SnmpAuth::Sha1 => switch::AuthProtocol::Sha1,
                SnmpAuth::Sha256 => switch::AuthProtocol::Sha256,
            },
            auth_password: load(auth_password)?,
            priv_password: load(priv_password)?,
        },
    };
    SwitchConfig::new(port.address(), named, &port.alias().0, login).map_err(|error| error.to_string())
}

fn haproxy_config(balancer: &palisade_core::config::HaProxy) -> Result<HaProxyConfig, String> {
    let socket = match balancer.socket() {
        HaProxySocket::Path(path) => Socket::Path(path.clone()),
        HaProxySocket::Address(address) => Socket::Address(*address),
    };
    HaProxyConfig::new(socket, balancer.backend(), balancer.server(), balancer.server_address())
        .map_err(|error| error.to_string())
}

/// The key stays where it is: the ssh client reads it by itself, and only if nobody else can.
fn ssh_config(ssh: &palisade_core::config::Ssh) -> Result<SshConfig, String> {
    load(ssh.identity()).map_err(|error| format!("identity: {error}"))?;
    let SecretRef::File(identity) = ssh.identity() else {
        return Err("identity: the ssh client reads a file".to_owned());
    };
    SshConfig::new(ssh.user(), ssh.address(), identity.clone(), ssh.known_hosts().to_owned())
        .map_err(|error| error.to_string())
}
