//! A switch for the driver's tests: net-snmp's `snmpd` with real interfaces, in a network namespace of the test's thread.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy knows a test only inside #[test]"
)]

use std::process::{Child, Command as Process, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use palisade_devices::switch::{AuthProtocol, Login, PortRef, Switch, SwitchConfig};
use palisade_devices::{Device as _, Secret};
use palisade_ladder::{Command, Failure, Response};
use tempfile::TempDir;
use tokio::time::Instant;

pub const AGENT: &str = "127.0.0.1:16100";
pub const DEADLINE: Duration = Duration::from_secs(20);
pub const AUTH: &str = "authentic words";
pub const PRIV: &str = "private words";

/// A switch: its ports are the ends of a cable in a network of its own.
pub struct Agent {
    child: Child,
    _dir: TempDir,
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub fn tool(program: &str, arguments: &[&str], needs: &str) -> String {
    let output = Process::new(program).args(arguments).env("MIBS", "").output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; install the package {needs}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn set_alias(port: &str, alias: &str) {
    let object = format!("1.3.6.1.2.1.31.1.1.1.18.{}", index(port));
    tool("snmpset", &["-v2c", "-c", "writer", AGENT, &object, "s", alias], "snmp");
}

pub fn index(port: &str) -> u32 {
    let line = tool("ip", &["-o", "link", "show", port], "iproute2");
    line.split_once(':').unwrap().0.parse().unwrap()
}

/// This thread moves into a network of its own; so do the programs that it starts.
pub async fn agent() -> Agent {
    unshare(CloneFlags::CLONE_NEWNET).expect("this test makes a network namespace: run it as root");
    for line in
        ["link set lo up", "link add sw1 type veth peer name far1", "link set sw1 up", "link set far1 up"]
    {
        tool("ip", &line.split(' ').collect::<Vec<_>>(), "iproute2");
    }
    let agent = boot().await;
    set_alias("sw1", "host-b");
    set_alias("far1", "host-c");
    agent
}

/// The switch boots: it knows its ports' aliases no more.
pub async fn boot() -> Agent {
    let dir = TempDir::new().unwrap();
    let config = dir.path().join("snmpd.conf");
    let users: String = [("sha1", "SHA"), ("sha2", "SHA-256"), ("viewer", "SHA")]
        .map(|(user, hash)| format!("createUser {user} {hash} \"{AUTH}\" AES \"{PRIV}\"\n"))
        .concat();
    let text = format!(
        "agentaddress udp:{AGENT}\nrwcommunity writer\nrocommunity reader\nrwuser sha1 priv\nrwuser sha2 priv\nrouser viewer priv\n{users}"
    );
    std::fs::write(&config, text).unwrap();
    let mut snmpd = Process::new("/usr/sbin/snmpd");
    snmpd.args(["-f", "-Ln", "-C", "-c"]).arg(&config).arg("-p").arg(dir.path().join("pid"));
    snmpd.env("MIBS", "").env("SNMP_PERSISTENT_DIR", dir.path()).stdin(Stdio::null()).stderr(Stdio::null());
    let child = snmpd.spawn().expect("no snmpd: install the package snmpd");
    let agent = Agent { child, _dir: dir };
    // It listens once it answers; until then a port that is closed says so at once.
    let until = Instant::now() + DEADLINE;
    let mut probe = Switch::new(config_of(AGENT, PortRef::Index(1), "x", community("writer")));
    while let Err(Failure::Unreachable { .. } | Failure::NoAnswer { .. }) =
        run(&mut probe, Command::Read).await
    {
        assert!(Instant::now() < until, "snmpd does not answer");
        tokio::task::yield_now().await;
    }
    agent
}

pub fn community(text: &str) -> Login {
    Login::Community(Secret::new(text.as_bytes().to_vec()))
}

pub fn user(user: &str, auth_protocol: AuthProtocol, auth: &str, privacy: &str) -> Login {
    let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
    Login::User {
        user: user.to_owned(),
        auth_protocol,
        auth_password: secret(auth),
        priv_password: secret(privacy),
    }
}

pub fn config_of(address: &str, port: PortRef, alias: &str, login: Login) -> SwitchConfig {
    SwitchConfig::new(address.parse().unwrap(), port, alias, login).unwrap()
}

pub fn named(address: &str, port: &str, alias: &str, login: Login) -> Switch {
    Switch::new(config_of(address, PortRef::Name(port.to_owned()), alias, login))
}

pub fn writer(address: &str) -> Switch {
    named(address, "sw1", "host-b", community("writer"))
}

pub async fn run(device: &mut Switch, command: Command) -> Result<Response, Failure> {
    device.run(command, (Instant::now() + DEADLINE).into()).await
}
