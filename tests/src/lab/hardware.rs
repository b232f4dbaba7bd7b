//! What a lab is made of: read from a scenario's `hardware.toml`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::shell;
use super::trouble::{Context, Result, Trouble};

/// Host ids on the wire go up to 31; a lab address is 10.77.x.(id + 1).
const HOSTS_LIMIT: usize = 32;

/// The machines, wires and workloads of one lab.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hardware {
    /// Hosts by name; the position is the host's id.
    pub hosts: Vec<String>,
    /// Hosts that stay dark at the start.
    #[serde(default)]
    pub off: Vec<String>,
    /// Hosts that the first configuration does not know yet (`reload` brings them in).
    #[serde(default)]
    pub later: Vec<String>,
    /// Links (bridges) per host.
    #[serde(default = "one")]
    pub links: usize,
    /// Whether a broker and a witness stand beside the hosts.
    #[serde(default)]
    pub witness: bool,
    /// Whether a broker and central monitoring stand beside the hosts, which tell it all.
    #[serde(default)]
    pub telemetry: bool,
    /// Timing profile of the cluster.
    #[serde(default = "default_profile")]
    pub profile: String,
    /// Copied into the cluster file's `[cluster]` table.
    #[serde(default)]
    pub cluster: toml::Table,
    /// Copied into the cluster file's `[timing]` table.
    #[serde(default)]
    pub timing: toml::Table,
    /// Copied into the cluster file's `[fencing]` table.
    #[serde(default)]
    pub fencing: toml::Table,
    /// BMCs that differ from an honest one, by host.
    #[serde(default)]
    pub bmc: BTreeMap<String, Bmc>,
    /// Present: each host's port on the switch is a second fence device, with these settings in its table.
    pub switch: Option<toml::Table>,
    /// Present: the switch speaks SNMP, and each port of a host is a fence device of kind `switch`.
    pub snmp: Option<Snmp>,
    /// Present: each host is kept out by the others' firewalls, a fence device with these settings in its table.
    pub firewall: Option<toml::Table>,
    /// Hosts whose /var/lib/palisade is a disk of its own.
    #[serde(default)]
    pub disk: BTreeMap<String, Disk>,
    /// Whose signature counts; the private key of each lies on every host as /etc/palisade/NAME.
    #[serde(default)]
    pub operators: Vec<String>,
    /// Copied into the cluster file's `[health]` table.
    #[serde(default)]
    pub health: toml::Table,
    /// Copied into the cluster file's `[orders]` table.
    #[serde(default)]
    pub orders: toml::Table,
    /// Each is a `[[probe]]` of the cluster file.
    #[serde(default)]
    pub probe: Vec<toml::Table>,
    /// What the cluster runs.
    #[serde(default)]
    pub workload: Vec<Workload>,
}

/// How one BMC differs from an honest one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bmc {
    /// What the hosts believe its password is.
    pub believed_password: Option<String>,
    /// Shows the GUID of that host's BMC instead of its own.
    pub guid_of: Option<String>,
    /// Seconds that its chassis takes for any order.
    #[serde(default)]
    pub delay_s: u32,
    /// Accepts orders and does nothing.
    #[serde(default)]
    pub lies: bool,
    /// The fence agent through which the hosts reach it, instead of speaking IPMI themselves.
    pub by: Option<String>,
    /// Copied into its device's table.
    #[serde(default)]
    pub settings: toml::Table,
}

/// The switch as SNMP shows it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snmp {
    /// Whose ports the cluster file takes for a host's, by host; its own unless said.
    #[serde(default)]
    pub takes_ports_of: BTreeMap<String, String>,
    /// Copied into each port's device.
    #[serde(default)]
    pub settings: toml::Table,
}

/// A disk of a host's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Disk {
    /// 4 MiB: too small for the journal to reserve anything, so that it can be filled.
    Small,
    /// ext4 in a file: it can be made to hang (`disk a hangs`).
    Own,
}

/// One workload: a process that writes a line every 20 ms.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Its name.
    pub name: String,
    /// Where it may run, preferred first.
    pub hosts: Vec<String>,
    /// Copied into the workload's table.
    #[serde(default)]
    pub settings: toml::Table,
}

fn one() -> usize {
    1
}

fn default_profile() -> String {
    "default".into()
}

impl Hardware {
    /// Reads `hardware.toml`.
    ///
    /// # Errors
    /// Unknown keys, wrong types, hosts that are not there.
    pub fn read(path: &Path) -> Result<Self> {
        let hardware: Self = toml::from_str(&shell::read(path)?).during(path.display())?;
        hardware.checked().during(path.display())
    }

    /// `count` hosts a, b, c, ... with one workload `db`.
    #[must_use]
    pub fn plain(count: usize, witness: bool, profile: &str) -> Self {
        let hosts: Vec<String> = ('a'..='z').take(count).map(String::from).collect();
        let workload = Workload { name: "db".into(), hosts: hosts.clone(), settings: toml::Table::new() };
        Self {
            hosts,
            off: Vec::new(),
            later: Vec::new(),
            links: 1,
            witness,
            telemetry: false,
            profile: profile.into(),
            cluster: toml::Table::new(),
            timing: toml::Table::new(),
            fencing: toml::Table::new(),
            bmc: BTreeMap::new(),
            switch: None,
            snmp: None,
            firewall: None,
            disk: BTreeMap::new(),
            operators: Vec::new(),
            health: toml::Table::new(),
            orders: toml::Table::new(),
            probe: Vec::new(),
            workload: vec![workload],
        }
    }

    fn checked(self) -> Result<Self> {
        if self.hosts.is_empty() || self.hosts.len() > HOSTS_LIMIT {
            return Err(Trouble::new(format!("{} hosts; a lab has 1 to {HOSTS_LIMIT}", self.hosts.len())));
        }
        let named = self.off.iter().chain(&self.later).chain(self.bmc.keys()).chain(self.disk.keys());
        let mistaken =
            self.snmp.iter().flat_map(|snmp| &snmp.takes_ports_of).flat_map(|(one, other)| [one, other]);
        let named = named.chain(mistaken).chain(self.workload.iter().flat_map(|workload| &workload.hosts));
        for name in named {
            if !self.hosts.contains(name) {
                return Err(Trouble::new(format!("{name}: no such host in `hosts`")));
            }
        }
        Ok(self)
    }

    /// The id of a host, its position in `hosts`.
    ///
    /// # Errors
    /// No host has that name.
    pub fn id(&self, host: &str) -> Result<usize> {
        self.hosts.iter().position(|name| name == host).during(format!("host {host}"))
    }
}

/// Address of a host on one link (from 1).
#[must_use]
pub fn host_address(link: usize, id: usize) -> String {
    format!("10.77.{link}.{}", id + 1)
}

/// Address of a host's BMC.
#[must_use]
pub fn bmc_address(id: usize) -> String {
    format!("10.77.1.{}", id + 101)
}

/// The machine's DMI UUID; `generation` counts how often the disk moved into another machine.
#[must_use]
pub fn machine_uuid(id: usize, generation: u8) -> String {
    format!("4c4c4544-0051-3510-80{generation:02x}-b4c04f4d31{id:02x}")
}

/// The BMC's GUID, 32 hex digits in wire order.
#[must_use]
pub fn bmc_guid(id: usize) -> String {
    format!("a123456789abcdefa123456789abcd{:02x}", 0xc0 + id)
}
