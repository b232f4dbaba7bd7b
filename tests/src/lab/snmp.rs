//! The switch that the hosts are plugged into, as SNMP shows it: net-snmp's `snmpd` in the bridges' namespace. The hosts' ports there
//! are the switch's ports, named as the kernel names them (`a-1`); what it is told to close, the kernel closes.

use std::fmt::Write as _;

use super::hardware::{Hardware, Snmp};
use super::network::{self, Network};
use super::shell;
use super::trouble::{Context, Result};

/// The switch's own address, on the first bridge: no host's port leads there but its own.
pub const ADDRESS: &str = "10.77.1.252";
/// Who may close ports.
const USER: &str = "palisade";
/// The passwords, by the names of their files in /etc/palisade.
pub const SECRETS: [(&str, &str); 2] =
    [("switch.auth", "nQ4w-switch-auth"), ("switch.priv", "kT9c-switch-priv")];
/// ifAlias of IF-MIB; a port's index follows.
const ALIAS: &str = "1.3.6.1.2.1.31.1.1.1.18";

/// What `snmpd.conf` says: one user, signed and encrypted, who may write.
#[must_use]
pub fn config() -> String {
    let [(_, auth), (_, privacy)] = SECRETS;
    format!(
        "agentaddress udp:{ADDRESS}:161\ncreateUser {USER} SHA-256 \"{auth}\" AES \"{privacy}\"\nrwuser {USER} priv\n"
    )
}

/// The fence devices of a host: one for each of its ports, or those of the host that the file takes for its own.
#[must_use]
pub fn devices(snmp: &Snmp, host: &str, links: usize) -> String {
    let plugged = snmp.takes_ports_of.get(host).map_or(host, String::as_str);
    let mut devices = String::new();
    for (link, port) in (1..).zip(network::ports(plugged, links)) {
        let _ = writeln!(
            devices,
            "[[device]]\nname = \"port-{host}-{link}\"\nkind = \"switch\"\nfences = \"{host}\"\naddress = \"{ADDRESS}:161\"\n\
             port = \"{port}\"\nuser = \"{USER}\"\nauth_password = {{ file = \"/etc/palisade/switch.auth\" }}\n\
             priv_password = {{ file = \"/etc/palisade/switch.priv\" }}\n{}",
            snmp.settings
        );
    }
    devices
}

/// Tells the switch whose ports its ports are: each has its host's name for an alias, as an operator would write it.
///
/// # Errors
/// A port is not there, or `snmpset` (package snmp) is not, or is refused.
pub fn name_ports(network: &Network, hardware: &Hardware) -> Result<()> {
    let switch = network.netns("switch");
    let listed = shell::run("ip", &["-n", &switch, "-o", "link", "show"])?;
    let [(_, auth), (_, privacy)] = SECRETS;
    let login = [
        "-v3", "-l", "authPriv", "-u", USER, "-a", "SHA-256", "-A", auth, "-x", "AES", "-X", privacy, ADDRESS,
    ];
    let (inside, mut objects) = (format!("--net=/run/netns/{switch}"), Vec::new());
    for host in &hardware.hosts {
        for port in network::ports(host, hardware.links) {
            // 7: a-1@if2: <BROADCAST,...
            let line = listed.lines().find(|line| line.contains(&format!(": {port}@")));
            let index = line.and_then(|line| line.split(':').next()).during(format!("port {port}"))?;
            objects.extend([format!("{ALIAS}.{index}"), "s".into(), host.clone()]);
        }
    }
    let mut arguments = vec![inside.as_str(), "env", "MIBS=", "snmpset"];
    arguments.extend(login);
    arguments.extend(objects.iter().map(String::as_str));
    shell::run("nsenter", &arguments).map(drop)
}

/// Whether the kernel lets a port carry anything, whatever `snmpd` says.
///
/// # Errors
/// No such port.
pub fn is_open(network: &Network, port: &str) -> Result<bool> {
    let shown = shell::run("ip", &["-n", &network.netns("switch"), "-o", "link", "show", "dev", port])?;
    Ok(shown.contains(",UP"))
}
