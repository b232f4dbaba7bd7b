//! `palisade check fences`: proves every fence path from this host, and switches nothing.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use palisade_core::config::{Cluster, Device, DeviceKind};
use palisade_ladder::{Failure as DeviceFailure, Proven, Reading, Response};

use super::{Ended, Failure, configuration, print, table};
use crate::fences::Access;

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
    let tasks: Vec<_> = cluster
        .devices()
        .iter()
        .map(|device| tokio::spawn(prove(device.clone(), Access::to(device, cluster))))
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
            Err("logged in, but the power cannot be switched this way: give the login operator privilege, \
                 and see that the device offers a forced off"
                .to_owned())
        }
        Ok(Response::Acknowledged | Response::AlreadySo | Response::Reads(_)) => {
            Err("the driver answered something else than was asked".to_owned())
        }
        Err(failure) => Err(hint(&failure)),
    }
}

/// The failure with what to do about it, where that is not in its words.
fn hint(failure: &DeviceFailure) -> String {
    let hint = match failure {
        DeviceFailure::NoAnswer { .. } => {
            "; is the address right, is the service (IPMI over LAN, Redfish) enabled, is another client at the QEMU monitor, is \
             the deadline long enough?"
        }
        DeviceFailure::Unreachable { .. } => "; is the address right, is there a route from here?",
        DeviceFailure::WrongIdentity { .. } => {
            "; correct the address, or the GUID, UUID or host key if the board or host was replaced"
        }
        DeviceFailure::NoCommonCipher { .. } => "; try cipher_suite = 3",
        DeviceFailure::PrivilegeTooLow { .. } => {
            "; give the login operator privilege in the BMC, or over ssh the superuser's rights"
        }
        DeviceFailure::LoginRefused { .. }
        | DeviceFailure::Refused { .. }
        | DeviceFailure::Garbage { .. }
        | DeviceFailure::Cancelled => "",
    };
    format!("{failure}{hint}")
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
        DeviceKind::Agent(_) => "-".to_owned(),
        DeviceKind::Scsi(scsi) => scsi.luns().join(" "),
        DeviceKind::Nft(cut) | DeviceKind::Route(cut) => cut.ssh().to_string(),
        DeviceKind::Lun(lun) => lun.ssh().to_string(),
    }
}

/// What a proof of a device of this kind shows, before the identity that it gave.
fn what(kind: &DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Ipmi(_) | DeviceKind::Redfish(_) => "login, privilege, identity",
        DeviceKind::Hypervisor(_) => "it answers, identity",
        DeviceKind::Scsi(_) => "reserved for registered hosts, identity",
        DeviceKind::Nft(_) | DeviceKind::Route(_) | DeviceKind::Lun(_) => "host key, login, rights,",
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
