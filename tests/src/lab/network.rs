//! Wires: bridges in a namespace of their own, a veth for every link of every host, and nft rules that cut them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::hardware::{self, Hardware};
use super::shell;
use super::trouble::{Context, Result, Trouble};

/// The broker's address in every lab.
pub const BROKER_ADDRESS: &str = "10.77.1.250";
/// The witness's address.
const WITNESS_ADDRESS: &str = "10.77.1.251";

/// Where a wire ends (`a`, one link of it `a/1`, `bmc-a`, `broker`, `witness`): its ports on the bridges and, for a BMC (all BMCs share one port), its address.
#[derive(Clone, Debug)]
struct End {
    ports: Vec<String>,
    address: Option<String>,
}

/// One direction of a wire that does not carry everything.
#[derive(Clone, Debug)]
struct Fault {
    from: String,
    to: String,
    loss_percent: u32,
}

/// The lab's network.
#[derive(Debug)]
pub struct Network {
    /// The lab's id, a prefix of every namespace.
    id: String,
    ends: BTreeMap<String, End>,
    faults: Vec<Fault>,
}

impl Network {
    /// Makes namespaces, bridges and veths; the hosts' own ports stay down until they have power.
    ///
    /// # Errors
    /// `ip` or `nft` failed (not root, or a part is not installed).
    pub fn build(id: &str, hardware: &Hardware) -> Result<Self> {
        let mut network = Self { id: id.into(), ends: BTreeMap::new(), faults: Vec::new() };
        let switch = network.netns("switch");
        let mut batch = format!("netns add {switch}\n");
        for part in ["bmc", "broker", "witness"] {
            let _ = writeln!(batch, "netns add {}", network.netns(part));
        }
        for host in &hardware.hosts {
            let _ = writeln!(batch, "netns add {}", network.netns(host));
        }
        shell::feed("ip", &["-batch", "-"], &batch)?;

        let mut batch = String::new();
        for link in 1..=hardware.links {
            let _ = writeln!(batch, "link add br{link} type bridge\nlink set br{link} up");
        }
        for part in ["broker", "witness"] {
            network.wire(&mut batch, part, 1);
            network.ends.insert(part.into(), End { ports: vec![format!("{part}-1")], address: None });
        }
        network.wire(&mut batch, "bmc", 1);
        for (host_id, host) in hardware.hosts.iter().enumerate() {
            let address = Some(hardware::bmc_address(host_id));
            network.ends.insert(format!("bmc-{host}"), End { ports: vec!["bmc-1".into()], address });
            for link in 1..=hardware.links {
                network.wire(&mut batch, host, link);
            }
            for (link, port) in ports(host, hardware.links).into_iter().enumerate() {
                network.ends.insert(format!("{host}/{}", link + 1), End { ports: vec![port], address: None });
            }
            network.ends.insert(host.clone(), End { ports: ports(host, hardware.links), address: None });
        }
        shell::feed("ip", &["-n", &switch, "-batch", "-"], &batch)?;
        let inside = format!("--net=/run/netns/{switch}");
        shell::feed("nsenter", &[&inside, "nft", "-f", "-"], super::port::RULES)?;

        for (host_id, host) in hardware.hosts.iter().enumerate() {
            for link in 1..=hardware.links {
                network.addresses(host, link, &[hardware::host_address(link, host_id)])?;
            }
        }
        for (part, address) in [("broker", BROKER_ADDRESS), ("witness", WITNESS_ADDRESS)] {
            network.addresses(part, 1, &[address.into()])?;
        }
        let bmcs: Vec<String> = (0..hardware.hosts.len()).map(hardware::bmc_address).collect();
        network.addresses("bmc", 1, &bmcs)?;
        Ok(network)
    }

    /// The namespace of a host, `bmc`, `broker`, `witness` or `switch` (the bridges').
    #[must_use]
    pub fn netns(&self, part: &str) -> String {
        format!("{}-{part}", self.id)
    }

    /// Whether anything at all comes back from this address, to a program on that host which asks for a port where nobody listens.
    ///
    /// # Errors
    /// The programs for that are not there.
    pub fn reaches(&self, host: &str, address: &str) -> Result<bool> {
        /// The end of a bash that was refused, and not of one that was killed in the silence.
        const REFUSED: i32 = 1;
        let netns = format!("--net=/run/netns/{}", self.netns(host));
        let ask = format!("exec 3<>/dev/tcp/{address}/9");
        let asked = shell::call("nsenter", &[&netns, "timeout", "-s", "KILL", "0.5", "bash", "-c", &ask])?;
        Ok(asked.code == Some(REFUSED))
    }

    /// Takes every rule of a host's own firewall away.
    ///
    /// # Errors
    /// nft failed.
    pub fn flush(&self, host: &str) -> Result<()> {
        let netns = format!("--net=/run/netns/{}", self.netns(host));
        shell::run("nsenter", &[&netns, "nft", "flush", "ruleset"]).map(drop)
    }

    fn wire(&self, batch: &mut String, part: &str, link: usize) {
        let inner = self.netns(part);
        let _ = writeln!(
            batch,
            "link add {part}-{link} type veth peer name eth{link} netns {inner}\n\
             link set {part}-{link} master br{link}\nlink set {part}-{link} up"
        );
    }

    fn addresses(&self, part: &str, link: usize, addresses: &[String]) -> Result<()> {
        let mut batch = String::from("link set lo up\n");
        for address in addresses {
            let _ = writeln!(batch, "address add {address}/24 dev eth{link}");
        }
        let _ = writeln!(batch, "link set eth{link} up");
        shell::feed("ip", &["-n", &self.netns(part), "-batch", "-"], &batch).map(drop)
    }

    /// Cuts the wire from one end to another, one way.
    ///
    /// # Errors
    /// No such end; nft failed.
    pub fn cut(&mut self, from: &str, to: &str) -> Result<()> {
        self.lose(from, to, 100)
    }

    /// Loses a share of what goes from one end to another.
    ///
    /// # Errors
    /// No such end; nft failed.
    pub fn lose(&mut self, from: &str, to: &str, loss_percent: u32) -> Result<()> {
        self.fault(from, to, loss_percent);
        self.apply()
    }

    /// Cuts, both ways, every wire between the two groups, at one instant.
    ///
    /// # Errors
    /// No such end; nft failed.
    pub fn part(&mut self, group: &[String], others: &[String]) -> Result<()> {
        for one in group {
            for other in others {
                self.fault(one, other, 100);
                self.fault(other, one, 100);
            }
        }
        self.apply()
    }

    /// Mends the wires of one end, or all of them.
    ///
    /// # Errors
    /// nft failed.
    pub fn heal(&mut self, end: Option<&str>) -> Result<()> {
        self.faults.retain(|fault| end.is_some_and(|end| fault.from != end && fault.to != end));
        self.apply()
    }

    fn fault(&mut self, from: &str, to: &str, loss_percent: u32) {
        self.faults.retain(|fault| fault.from != from || fault.to != to);
        self.faults.push(Fault { from: from.into(), to: to.into(), loss_percent });
    }

    fn apply(&self) -> Result<()> {
        // One transaction: no packet ever meets half of a partition.
        let mut rules = String::from(
            "table bridge lab {}\ndelete table bridge lab\ntable bridge lab {\n chain forward {\n  \
             type filter hook forward priority 0; policy accept;\n",
        );
        for fault in &self.faults {
            let (from, to) = (self.end(&fault.from)?, self.end(&fault.to)?);
            for from_port in &from.ports {
                for to_port in &to.ports {
                    let _ = write!(rules, "  iifname \"{from_port}\" oifname \"{to_port}\"");
                    if let Some(address) = &from.address {
                        let _ = write!(rules, " ip saddr {address}");
                    }
                    if let Some(address) = &to.address {
                        let _ = write!(rules, " ip daddr {address}");
                    }
                    if fault.loss_percent < 100 {
                        let _ = write!(rules, " numgen random mod 100 < {}", fault.loss_percent);
                    }
                    rules.push_str(" drop\n");
                }
            }
        }
        rules.push_str(" }\n}\n");
        let switch = format!("--net=/run/netns/{}", self.netns("switch"));
        shell::feed("nsenter", &[&switch, "nft", "-f", "-"], &rules).map(drop)
    }

    fn end(&self, name: &str) -> Result<&End> {
        let known = || self.ends.keys().cloned().collect::<Vec<_>>().join(" ");
        self.ends
            .get(name)
            .ok_or_else(|| Trouble::new(format!("{name}: no such end of a wire; there are {}", known())))
    }
}

/// The ports of a host on the bridges, one a link.
pub(super) fn ports(host: &str, links: usize) -> Vec<String> {
    (1..=links).map(|link| format!("{host}-{link}")).collect()
}

/// Removes every network namespace of a lab, whatever state it was left in.
///
/// # Errors
/// The namespaces cannot be listed.
pub fn remove(id: &str) -> Result<()> {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return Ok(()) };
    let prefix = format!("{id}-");
    let names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(&prefix))
        .collect();
    let batch: String = names.iter().map(|name| format!("netns delete {name}\n")).collect();
    shell::feed("ip", &["-force", "-batch", "-"], &batch).map(drop).during("removing network namespaces")
}
