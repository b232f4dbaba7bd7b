//! The cluster file, its keys and passwords, as an operator would lay them out on every host.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::path::Path;

use super::bmc;
use super::hardware::{self, Hardware};
use super::network::BROKER_ADDRESS;
use super::packets::PEER_PORT;
use super::port;
use super::shell;
use super::snmp;
use super::trouble::{Context, Result};

/// The cluster's name in every lab (labs do not see one another).
pub const NAME: &str = "lab";

/// Keys of one lab: as many hosts as it has, one cluster.
#[derive(Debug)]
pub struct Keys {
    /// Seals heartbeats.
    pub cluster: String,
    /// Seals asks and answers of the witness.
    pub witness: String,
    /// Signs for an operator, by name: the private key's file, and the line of the public one.
    operators: BTreeMap<String, (String, String)>,
}

impl Keys {
    /// Two fresh keys.
    ///
    /// # Errors
    /// The kernel gives no random bytes.
    pub fn fresh() -> Result<Self> {
        Ok(Self { cluster: random_hex()?, witness: random_hex()?, operators: BTreeMap::new() })
    }

    /// The same, with a key for each operator; `dir` is where they are made.
    ///
    /// # Errors
    /// `ssh-keygen` (package openssh-client) makes none.
    pub fn with_operators(mut self, names: &[String], dir: &Path) -> Result<Self> {
        for name in names {
            let file = dir.join(format!("key-of-{name}"));
            let text = file.display().to_string();
            shell::run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", &text])?;
            let keys = (shell::read(&file)?, shell::read(&file.with_extension("pub"))?.trim().to_owned());
            self.operators.insert(name.clone(), keys);
        }
        Ok(self)
    }
}

/// 32 random bytes as 64 hex digits.
fn random_hex() -> Result<String> {
    let mut bytes = [0_u8; 32];
    fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .during("/dev/urandom")?;
    Ok(bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    }))
}

/// Writes /etc/palisade of one host: the cluster file, the keys and the BMC passwords.
///
/// # Errors
/// A file cannot be written.
pub fn install(etc: &Path, file: &str, hardware: &Hardware, keys: &Keys) -> Result<()> {
    shell::make_dir(etc)?;
    shell::write(&etc.join("cluster.toml"), file, 0o644)?;
    shell::write(&etc.join("cluster.key"), &format!("{}\n", keys.cluster), 0o600)?;
    if hardware.witness {
        shell::write(&etc.join("witness.key"), &format!("{}\n", keys.witness), 0o600)?;
    }
    if hardware.snmp.is_some() {
        for (name, secret) in snmp::SECRETS {
            shell::write(&etc.join(name), &format!("{secret}\n"), 0o600)?;
        }
    }
    for (name, (private, _)) in &keys.operators {
        shell::write(&etc.join(name), private, 0o600)?;
    }
    for host in &hardware.hosts {
        let believed = hardware.bmc.get(host).and_then(|bmc| bmc.believed_password.clone());
        let password = believed.unwrap_or_else(|| bmc::password(host));
        shell::write(&etc.join(format!("bmc-{host}.pass")), &format!("{password}\n"), 0o600)?;
    }
    Ok(())
}

/// The cluster file. `known` are the hosts that it names, `machines` how often each host's disk moved (index = id).
///
/// # Errors
/// A table of the hardware cannot be written as TOML.
pub fn render(hardware: &Hardware, known: &[String], machines: &[u8], keys: &Keys) -> Result<String> {
    let mut file = format!(
        "[cluster]\nname = \"{NAME}\"\nprofile = \"{}\"\nkeys = [ {{ id = 1, file = \"/etc/palisade/cluster.key\" }} ]\n{}\n",
        hardware.profile, hardware.cluster
    );
    let tables = [
        ("timing", &hardware.timing),
        ("fencing", &hardware.fencing),
        ("health", &hardware.health),
        ("orders", &hardware.orders),
    ];
    for (name, table) in tables {
        if !table.is_empty() {
            let _ = writeln!(file, "[{name}]\n{table}");
        }
    }
    for probe in &hardware.probe {
        let _ = writeln!(file, "[[probe]]\n{probe}");
    }
    if hardware.witness {
        let _ = writeln!(
            file,
            "[witness]\nbroker = \"mqtt://{BROKER_ADDRESS}:1883\"\n\
             keys = [ {{ id = 1, file = \"/etc/palisade/witness.key\" }} ]\n"
        );
    }
    if hardware.telemetry {
        let _ = writeln!(file, "[telemetry]\nbroker = \"mqtt://{BROKER_ADDRESS}:1883\"\n");
    }
    for host in known {
        let id = hardware.id(host)?;
        let links =
            (1..=hardware.links).map(|link| format!("\"{}:{PEER_PORT}\"", hardware::host_address(link, id)));
        let machine = hardware::machine_uuid(id, machines.get(id).copied().unwrap_or(0));
        let links = links.collect::<Vec<_>>().join(", ");
        let _ = writeln!(
            file,
            "[[host]]\nid = {id}\nname = \"{host}\"\nmachine = \"{machine}\"\nlinks = [{links}]\n"
        );
    }
    for host in known {
        let id = hardware.id(host)?;
        let address = hardware::bmc_address(id);
        let password = format!("{{ file = \"/etc/palisade/bmc-{host}.pass\" }}");
        let bmc = hardware.bmc.get(host);
        let how = match bmc.and_then(|bmc| bmc.by.as_ref()) {
            None => format!(
                "kind = \"ipmi\"\naddress = \"{address}:623\"\nuser = \"{}\"\npassword = {password}\n\
                 cipher_suite = 3\nguid = \"{}\"",
                bmc::USER,
                hardware::bmc_guid(id),
            ),
            Some(agent) => format!(
                "kind = \"agent\"\nagent = \"{agent}\"\n\
                 options = {{ ip = \"{address}\", username = \"{}\", lanplus = true, cipher = 3 }}\n\
                 secrets = {{ password = {password} }}",
                bmc::USER,
            ),
        };
        let settings = bmc.map(|bmc| bmc.settings.to_string()).unwrap_or_default();
        let _ = writeln!(file, "[[device]]\nname = \"bmc-{host}\"\nfences = \"{host}\"\n{how}\n{settings}");
        if let Some(settings) = &hardware.switch {
            let _ = writeln!(
                file,
                "[[device]]\nname = \"port-{host}\"\nkind = \"agent\"\nfences = \"{host}\"\nagent = \"{}\"\n\
                 options = {{ plug = \"{host}\" }}\n{settings}",
                port::AGENT
            );
        }
        if let Some(settings) = &hardware.firewall {
            let addresses =
                (1..=hardware.links).map(|link| format!("\"{}\"", hardware::host_address(link, id)));
            let _ = writeln!(
                file,
                "[[device]]\nname = \"wall-{host}\"\nkind = \"nft\"\non = \"survivors\"\nfences = \"{host}\"\n\
                 addresses = [{}]\n{settings}",
                addresses.collect::<Vec<_>>().join(", ")
            );
        }
        if let Some(snmp) = &hardware.snmp {
            file.push_str(&snmp::devices(snmp, host, hardware.links));
        }
    }
    for (name, (_, public)) in &keys.operators {
        let _ = writeln!(file, "[[operator]]\nname = \"{name}\"\nkey = \"{public}\"\n");
    }
    let lab = std::env::current_exe().during("the lab's own binary")?;
    for (id, workload) in hardware.workload.iter().enumerate() {
        let hosts =
            workload.hosts.iter().filter(|host| known.contains(host)).map(|host| format!("\"{host}\""));
        let _ = writeln!(
            file,
            "[[workload]]\nid = {}\nname = \"{}\"\nhosts = [{}]\n{}",
            id + 1,
            workload.name,
            hosts.collect::<Vec<_>>().join(", "),
            workload.settings
        );
        let _ = writeln!(file, "[workload.command]");
        for order in ["start", "stop", "status"] {
            let _ = writeln!(
                file,
                "{order} = [\"{}\", \"workload\", \"{}\", \"{order}\"]",
                lab.display(),
                workload.name
            );
        }
        file.push('\n');
    }
    Ok(file)
}
