//! `palisade check fences`: proves every fence path from this host, and switches nothing.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use palisade_core::config::{Cluster, Device, DeviceKind, Host, MachineId};
use palisade_ladder::{Failure as DeviceFailure, Proven, Reading, Response};

use super::{Ended, Failure, configuration, print, table};
use crate::fences::Access;
use crate::identity;

/// What the check of one device came to.
type Verdict = Result<Proven, String>;

pub(super) fn run(config: &Path) -> Ended {
    let cluster = configuration(config)?;
    if cluster.devices().is_empty() {
        return Err(Failure::failed("no fence device is configured: no host can be fenced"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    let verdicts = runtime.block_on(prove_all(&cluster));
    print(&report(&cluster, &verdicts));
    let unproven = verdicts.iter().filter(|verdict| verdict.is_err()).count();
    let unfenced: Vec<&str> = cluster
        .hosts()
        .iter()
        .filter(|host| cluster.devices_of(host.id()).next().is_none())
        .map(|host| host.name())
        .collect();
    if unproven > 0 {
        return Err(Failure::failed(format!("{unproven} of {} fence paths are not proven", verdicts.len())));
    }
    if !unfenced.is_empty() {
        return Err(Failure::failed(format!("no device fences: {}", unfenced.join(", "))));
    }
    print("every fence path is proven from this host\n");
    Ok(ExitCode::SUCCESS)
}

/// All devices at once: a slow BMC does not delay the others.
async fn prove_all(cluster: &Cluster) -> Vec<Verdict> {
    // Asked on a host of the cluster or on any other machine.
    let machine = identity::machine_uuid().ok().and_then(|machine| MachineId::parse(&machine));
    let me = machine.and_then(|machine| cluster.host_of_machine(machine)).map(Host::id);
    let tasks: Vec<_> = cluster
        .devices()
        .iter()
        .map(|device| tokio::spawn(prove(device.clone(), Access::to(device, cluster, me))))
        .collect();
    let mut verdicts = Vec::with_capacity(tasks.len());
    for task in tasks {
        verdicts.push(task.await.unwrap_or_else(|error| Err(error.to_string())));
    }
    verdicts
}

async fn prove(device: Device, access: Result<Access, String>) -> Verdict {
    match access?.prove(Duration::from_millis(device.deadline().0)).await {
        Ok(Response::Proven(proven)) if proven.may_fence => Ok(proven),
        Ok(Response::Proven(_)) => {
            Err(format!("it answers, but cuts nobody off this way: {}", right(device.kind())))
        }
        Ok(Response::Acknowledged | Response::AlreadySo | Response::Reads(_)) => {
            Err("the driver answered something else than was asked".to_owned())
        }
        Err(failure) => Err(format!("{failure}{}", hint(device.kind(), &failure))),
    }
}

/// What to do about a failure, where that is not in its words.
fn hint(kind: &DeviceKind, failure: &DeviceFailure) -> String {
    match failure {
        DeviceFailure::NoAnswer { .. } => format!("; is {}, is the deadline long enough?", service(kind)),
        DeviceFailure::Unreachable { .. } => format!("; is {}, is there a way from here?", service(kind)),
        DeviceFailure::WrongIdentity { .. } => format!("; {}", identity(kind)),
        DeviceFailure::NoCommonCipher { .. } => "; try cipher_suite = 3".to_owned(),
        DeviceFailure::PrivilegeTooLow { .. } => format!("; {}", right(kind)),
        DeviceFailure::LoginRefused { .. }
        | DeviceFailure::Refused { .. }
        | DeviceFailure::Garbage { .. }
        | DeviceFailure::Cancelled => String::new(),
    }
}

/// What is asked about a device of this kind that says nothing.
fn service(kind: &DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Ipmi(_) => "the address right, is IPMI over LAN enabled",
        DeviceKind::Redfish(_) => "the address right, is Redfish enabled",
        DeviceKind::Hypervisor(_) => {
            "the machine's monitor or libvirt there, is another client at the monitor"
        }
        DeviceKind::Switch(_) => {
            "the address right, is SNMP enabled there, is the community right (SNMPv2c says nothing to a wrong one)"
        }
        DeviceKind::HaProxy(_) => "HAProxy running, is this one of its `stats socket` lines",
        DeviceKind::Nft(_) | DeviceKind::Route(_) | DeviceKind::Lun(_) => {
            "the address right, does sshd run there"
        }
        DeviceKind::Wall(_) => "the system's shell there",
        DeviceKind::Agent(_) => "its setting for the address right",
        DeviceKind::Scsi(_) => "every path of this host to the logical units well",
    }
}

/// What to correct if a device is another host's.
fn identity(kind: &DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Ipmi(_) => "correct the address, or the GUID if the board was replaced",
        DeviceKind::Redfish(_) => "correct the address, or the UUID if the board was replaced",
        DeviceKind::Hypervisor(_) => "correct the way to the machine, or its UUID",
        DeviceKind::Switch(_) => {
            "correct the port, or set its ifAlias (its description) at the switch, or write `alias`"
        }
        DeviceKind::HaProxy(_) => "correct the server's name, or `server_address`",
        DeviceKind::Nft(_) | DeviceKind::Route(_) | DeviceKind::Lun(_) => {
            "correct the address, or `known_hosts` if that host was replaced"
        }
        DeviceKind::Agent(_) | DeviceKind::Scsi(_) | DeviceKind::Wall(_) => "correct its settings",
    }
}

/// What a device of this kind needs before it cuts anybody off.
fn right(kind: &DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Ipmi(_) => "give the login operator privilege in the BMC",
        DeviceKind::Redfish(_) => {
            "give the login operator privilege in the BMC, and see that the device offers a forced off"
        }
        DeviceKind::Hypervisor(_) => "let the login end machines",
        DeviceKind::Switch(_) => {
            "let the login write ifAdminStatus of IF-MIB (a view or community with write access)"
        }
        DeviceKind::HaProxy(_) => "write `level admin` on its `stats socket` line in haproxy.cfg",
        DeviceKind::Nft(_) | DeviceKind::Route(_) | DeviceKind::Lun(_) => {
            "give the login the superuser's rights there (root, or `sudo -n`)"
        }
        DeviceKind::Wall(_) => "ask as root, on each host of the cluster, and install nftables there",
        DeviceKind::Agent(_) => "see its settings, and that the agent offers an off",
        DeviceKind::Scsi(_) => {
            "run it as root, and give the agent's unit CAP_SYS_ADMIN (see README.md, NVMe)"
        }
    }
}

fn report(cluster: &Cluster, verdicts: &[Verdict]) -> String {
    let mut rows = vec![["DEVICE", "FENCES", "ADDRESS", "READS", "VERDICT"].map(str::to_owned).to_vec()];
    for (device, verdict) in cluster.devices().iter().zip(verdicts) {
        let host = cluster.host(device.fences()).map_or("?", |host| host.name());
        let (power, verdict) = match verdict {
            Ok(proven) => {
                (power(proven.reads), format!("proven: {} {}", what(device.kind()), proven.identity))
            }
            Err(error) => ("-", format!("NOT proven: {error}")),
        };
        rows.push(vec![
            device.name().to_owned(),
            host.to_owned(),
            place(device.kind()),
            power.to_owned(),
            verdict,
        ]);
    }
    table(&rows)
}

fn place(kind: &DeviceKind) -> String {
    match kind {
        DeviceKind::Ipmi(ipmi) => ipmi.address().to_string(),
        DeviceKind::Redfish(redfish) => redfish.address().to_string(),
        DeviceKind::Hypervisor(below) => below.way().to_string(),
        DeviceKind::HaProxy(balancer) => {
            format!("{} {}/{}", balancer.socket(), balancer.backend(), balancer.server())
        }
        DeviceKind::Switch(switch) => format!("{} {}", switch.address(), switch.port()),
        DeviceKind::Agent(_) => "-".to_owned(),
        DeviceKind::Scsi(scsi) => scsi.luns().join(" "),
        DeviceKind::Nft(cut) | DeviceKind::Route(cut) => cut.ssh().to_string(),
        DeviceKind::Lun(lun) => lun.ssh().to_string(),
        DeviceKind::Wall(_) => "this host, as every other".to_owned(),
    }
}

/// What a proof of a device of this kind shows, before the identity that it gave.
fn what(kind: &DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Ipmi(_) | DeviceKind::Redfish(_) => "login, privilege, identity",
        DeviceKind::Hypervisor(_) => "it answers, identity",
        DeviceKind::Scsi(_) => "reserved for registered hosts, identity",
        DeviceKind::HaProxy(_) => "right to switch, the server's address",
        DeviceKind::Switch(_) => "login, right to write, the port's alias",
        DeviceKind::Nft(_) | DeviceKind::Route(_) | DeviceKind::Lun(_) => "host key, login, rights,",
        DeviceKind::Wall(_) => "rights,",
        DeviceKind::Agent(_) => "it answers; bound to its host only by its settings,",
    }
}

fn power(power: Reading) -> &'static str {
    match power {
        Reading::On => "on",
        Reading::Off => "off",
        Reading::Unknown => "unknown",
    }
}
