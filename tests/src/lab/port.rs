//! The switch that the hosts are plugged into, as a fence agent sees it: nftables rules in the bridges' namespace close a host's ports,
//! whatever the host's own side of them does. Spoken to by FenceAgentAPI.

use std::fmt::Write as _;
use std::io::Read as _;

use super::inside::SWITCH;
use super::network;
use super::shell;
use super::trouble::{Context, Result, Trouble};

/// Exit statuses of FenceAgentAPI's `status`.
const ON: u8 = 0;
const OFF: u8 = 2;
const METADATA: &str = "<?xml version=\"1.0\"?>\n<resource-agent name=\"fence_port\" shortdesc=\"the lab's switch\"><parameters>\
    <parameter name=\"plug\"/></parameters><actions><action name=\"on\"/><action name=\"off\"/><action name=\"status\"/></actions>\
    </resource-agent>";

/// The rules that look at the set of closed ports; laid down with the bridges.
pub(super) const RULES: &str = "table bridge ports {\n set closed { type ifname; }\n chain forward {\n  \
    type filter hook forward priority -1; policy accept;\n  iifname @closed drop\n  oifname @closed drop\n }\n}\n";

/// Where the hosts find the agent.
pub const AGENT: &str = "/etc/palisade/fence_port";

/// The agent's program.
///
/// # Errors
/// The lab does not know its own binary.
pub fn script(links: usize) -> Result<String> {
    let lab = std::env::current_exe().during("the lab's own binary")?;
    Ok(format!("#!/bin/sh\nexec {} fence-port {links}\n", lab.display()))
}

/// Does what the standard input says; the exit status.
///
/// # Errors
/// nft failed, or it is told something else than a fence agent is.
pub fn main(links: usize) -> Result<u8> {
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input).during("standard input")?;
    let told = |name: &str| input.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let action = told("action").unwrap_or_default();
    if action == "metadata" {
        println!("{METADATA}");
        return Ok(ON);
    }
    let host = told("plug").during("no plug")?;
    let ports = network::ports(host, links);
    let listed = nft("list set bridge ports closed\n")?;
    let closed = |port: &String| listed.contains(&format!("\"{port}\""));
    match action {
        "status" if ports.iter().all(closed) => {
            println!("Status: OFF");
            Ok(OFF)
        }
        "status" => {
            println!("Status: ON");
            Ok(ON)
        }
        "off" | "on" => {
            let verb = if action == "off" { "add" } else { "delete" };
            let mut rules = String::new();
            for port in ports.iter().filter(|port| closed(port) == (action == "on")) {
                let _ = writeln!(rules, "{verb} element bridge ports closed {{ \"{port}\" }}");
            }
            nft(&rules).map(|_| ON)
        }
        other => Err(Trouble::new(format!("{other}: no action of a fence agent"))),
    }
}

fn nft(rules: &str) -> Result<String> {
    shell::feed("nsenter", &[&format!("--net={SWITCH}"), "nft", "-f", "-"], rules)
}
