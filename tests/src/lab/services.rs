//! What stands beside the hosts: the broker (mosquitto) and the real witness, each in a namespace of its own, and the switch's
//! agent (snmpd) in that of the bridges.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::network::BROKER_ADDRESS;
use super::shell;
use super::snmp;
use super::trouble::{Context, Result, Trouble};
use super::wait;

/// mosquitto and snmpd open their ports within 0.1 s.
const START_LIMIT: Duration = Duration::from_secs(5);

/// An open socket in /proc/net: its table, and its line there (own address, peer's, state).
type Socket = (&'static str, &'static str);
/// Port 1883, listening.
const BROKER_SOCKET: Socket = ("tcp", ":075B 00000000:0000 0A");
/// 10.77.1.252, port 161, of any peer.
const SNMPD_SOCKET: Socket = ("udp", "FC014D0A:00A1 00000000:0000 07");

/// One program in a namespace.
#[derive(Debug)]
pub struct Service {
    name: String,
    netns: String,
    cgroup: PathBuf,
    dir: PathBuf,
    command: String,
    opens: Option<Socket>,
    process: Option<Child>,
}

impl Service {
    fn new(name: &str, netns: String, cgroup: &Path, dir: &Path, command: String) -> Self {
        Self {
            name: name.into(),
            netns,
            cgroup: cgroup.into(),
            dir: dir.into(),
            command,
            opens: None,
            process: None,
        }
    }

    /// The broker, listening in its namespace.
    ///
    /// # Errors
    /// Its files cannot be written.
    pub fn broker(netns: String, cgroup: &Path, dir: &Path) -> Result<Self> {
        shell::make_dir(dir)?;
        let conf = format!(
            "listener 1883 {BROKER_ADDRESS}\nallow_anonymous true\nuser root\nmax_queued_messages 0\n"
        );
        // Killed, it knows afterwards who had subscribed a second before.
        let keeps =
            format!("persistence true\npersistence_location {}/\nautosave_interval 1\n", dir.display());
        let conf = conf + &keeps;
        shell::write(&dir.join("mosquitto.conf"), &conf, 0o644)?;
        let broker = Self::new("broker", netns, cgroup, dir, "mosquitto -c mosquitto.conf".into());
        Ok(Self { opens: Some(BROKER_SOCKET), ..broker })
    }

    /// Central monitoring: a consumer with a session of its own at the broker, which comes back after it. What it hears is its log.
    ///
    /// # Errors
    /// Its files cannot be written.
    pub fn central(netns: String, cgroup: &Path, dir: &Path) -> Result<Self> {
        shell::make_dir(dir)?;
        let subscribe =
            format!("mosquitto_sub -h {BROKER_ADDRESS} -i central -c -q 1 -t 'palisade/#' -F '%t %p'");
        let command = format!("sh -c \"while :; do {subscribe} 2>/dev/null; sleep 0.1; done\"");
        Ok(Self::new("central", netns, cgroup, dir, command))
    }

    /// The switch's agent, in the bridges' namespace.
    ///
    /// # Errors
    /// Its files cannot be written.
    pub fn snmpd(netns: String, cgroup: &Path, dir: &Path) -> Result<Self> {
        shell::make_dir(dir)?;
        shell::write(&dir.join("snmpd.conf"), &snmp::config(), 0o600)?;
        let command =
            "env MIBS= SNMP_PERSISTENT_DIR=. /usr/sbin/snmpd -f -Lo -C -c snmpd.conf -p snmpd.pid".into();
        let snmpd = Self::new("snmpd", netns, cgroup, dir, command);
        Ok(Self { opens: Some(SNMPD_SOCKET), ..snmpd })
    }

    /// The witness of one cluster.
    ///
    /// # Errors
    /// Its files cannot be written.
    pub fn witness(
        netns: String,
        cgroup: &Path,
        dir: &Path,
        binary: &Path,
        cluster: &WitnessCluster<'_>,
    ) -> Result<Self> {
        shell::make_dir(dir)?;
        let key_file = dir.join("witness.key");
        shell::write(&key_file, &format!("{}\n", cluster.key), 0o600)?;
        let config = format!(
            "broker = \"mqtt://{BROKER_ADDRESS}:1883\"\n\n[[cluster]]\nname = \"{}\"\n\
             keys = [ {{ id = 1, file = \"{}\" }} ]\nlease = \"{}\"\ndrift = \"{}\"\n",
            cluster.name,
            key_file.display(),
            cluster.lease,
            cluster.drift,
        );
        shell::write(&dir.join("witness.toml"), &config, 0o644)?;
        let command = format!("{} --config witness.toml", binary.display());
        Ok(Self::new("witness", netns, cgroup, dir, command))
    }

    /// Starts it.
    ///
    /// # Errors
    /// The program is not there.
    pub fn start(&mut self) -> Result<()> {
        let path = self.dir.join(format!("{}.log", self.name));
        let log = fs::OpenOptions::new().create(true).append(true).open(&path).during(path.display())?;
        let start = format!(
            "echo 0 > {}/cgroup.procs && exec nsenter --net=/run/netns/{} {}",
            self.cgroup.display(),
            self.netns,
            self.command
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &start]).current_dir(&self.dir).stdin(Stdio::null());
        shell.stdout(log.try_clone().during(path.display())?).stderr(log);
        self.process = Some(shell.spawn().during(&self.name)?);
        Ok(())
    }

    /// Waits until its port is open.
    ///
    /// # Errors
    /// It did not open in time; the error carries the broker's own words.
    pub fn listening(&mut self) -> Result<()> {
        let pid = self.pid().during(format!("the process of {}", self.name))?;
        let (table, socket) = self.opens.during(format!("{} opens no port", self.name))?;
        let open = || {
            fs::read_to_string(format!("/proc/{pid}/net/{table}")).is_ok_and(|table| table.contains(socket))
        };
        if wait::until_quick(Instant::now() + START_LIMIT, open) {
            return Ok(());
        }
        let log = fs::read_to_string(self.dir.join(format!("{}.log", self.name))).unwrap_or_default();
        Err(Trouble::new(format!("{} does not listen: {log}", self.name)))
    }

    /// Its process number while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Kills it.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// What the witness has to know of the lab's cluster.
#[derive(Clone, Copy, Debug)]
pub struct WitnessCluster<'a> {
    /// The cluster's name.
    pub name: &'a str,
    /// The witness key, 64 hex digits.
    pub key: &'a str,
    /// The cluster's lease, as its file writes it.
    pub lease: &'a str,
    /// The cluster's drift.
    pub drift: &'a str,
}
