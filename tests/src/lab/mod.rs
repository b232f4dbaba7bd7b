//! A lab: hosts, BMCs, wires, broker and witness of one cluster, in one directory, gone without a trace when dropped.
//!
//! A host is a network namespace, a cgroup (its power) and a mount namespace (its boot id, DMI UUID, /run, /etc/palisade).

pub mod api;
pub mod bmc;
pub mod cleanup;
pub mod cluster;
pub mod disk;
pub mod hardware;
pub mod inside;
pub mod journal;
pub mod network;
pub mod packets;
pub mod port;
pub mod power;
pub mod services;
pub mod shell;
pub mod snmp;
pub mod spy;
pub mod trouble;
pub mod wait;
pub mod workload;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use self::bmc::Bmc;
use self::cluster::Keys;
use self::hardware::Hardware;
use self::journal::Line;
use self::network::Network;
use self::power::Machine;
use self::services::{Service, WitnessCluster};
use self::spy::Spy;
use self::trouble::{Context, Result, Trouble};

/// How much of each host's journal a failure shows.
const DUMP_LINES: usize = 25;

/// Milliseconds of CLOCK_BOOTTIME, the clock of every `boot_ms`.
#[must_use]
pub fn clock_ms() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    now.map_or(0, |now| u64::try_from(Duration::from(now).as_millis()).unwrap_or(0))
}

/// The binaries under test.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// The agent and its CLI.
    pub palisade: PathBuf,
    /// The witness.
    pub witness: PathBuf,
}

impl Binaries {
    /// Those beside the lab's own binary.
    ///
    /// # Errors
    /// They have not been built.
    pub fn beside() -> Result<Self> {
        let lab = std::env::current_exe().during("the lab's own binary")?;
        let dir = lab.parent().during("the lab's directory")?;
        let found = Self { palisade: dir.join("palisade"), witness: dir.join("palisade-witness") };
        for binary in [&found.palisade, &found.witness] {
            if !binary.exists() {
                return Err(Trouble::new(format!(
                    "{} is not there; build it: cargo build --release -p palisade-witness; cargo build --release -p palisade",
                    binary.display()
                )));
            }
        }
        Ok(found)
    }
}

/// One running lab.
#[derive(Debug)]
pub struct Lab {
    /// Prefix of everything that the lab makes.
    pub id: String,
    /// Its directory.
    pub dir: PathBuf,
    /// What it is made of.
    pub hardware: Hardware,
    /// The wires.
    pub network: Network,
    /// Hosts by name.
    pub machines: BTreeMap<String, Machine>,
    /// BMCs by host.
    pub bmcs: BTreeMap<String, Bmc>,
    /// The broker, when there is one.
    pub broker: Option<Service>,
    /// The witness, when there is one.
    pub witness: Option<Service>,
    /// Central monitoring, when the hosts tell it anything.
    pub central: Option<Service>,
    /// The switch's own agent, when it speaks SNMP.
    pub snmpd: Option<Service>,
    /// Who looks whether a host shows its secrets, once it does.
    pub spy: Option<Spy>,
    /// What the intruder has heard so far.
    pub heard: Vec<packets::Packet>,
    keys: Keys,
    binaries: Binaries,
    /// How often each host's disk moved into another machine, by id.
    generations: Vec<u8>,
}

impl Lab {
    /// Builds everything and gives power to every host that is not to stay dark.
    ///
    /// # Errors
    /// Not root, a part is not installed, or something did not come up; what was built is removed.
    pub fn build(hardware: &Hardware) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Trouble::new("the lab makes namespaces and cgroups: it has to run as root"));
        }
        let lab = Self::lay_out(hardware)?;
        for host in &hardware.hosts {
            if !hardware.off.contains(host) && !hardware.later.contains(host) {
                lab.machine(host)?.switch_on()?;
            }
        }
        Ok(lab)
    }

    fn lay_out(hardware: &Hardware) -> Result<Self> {
        let binaries = Binaries::beside()?;
        let id = cleanup::claim()?;
        let dir = cleanup::directory(&id);
        let cgroup = cleanup::cgroup(&id)?;
        for part in [dir.join("hosts"), dir.join("shared"), cgroup.join("infra")] {
            shell::make_dir(&part)?;
        }
        let network = Network::build(&id, hardware)?;
        let generations = vec![0; hardware.hosts.len()];
        let keys = Keys::fresh()?.with_operators(&hardware.operators, &dir)?;
        let mut lab = Self {
            id,
            dir,
            hardware: hardware.clone(),
            network,
            machines: BTreeMap::new(),
            bmcs: BTreeMap::new(),
            broker: None,
            witness: None,
            central: None,
            snmpd: None,
            spy: None,
            heard: Vec::new(),
            keys,
            binaries,
            generations,
        };
        let known = lab.known_at_first();
        for host in &hardware.hosts {
            lab.install(host, &known, &cgroup)?;
        }
        if hardware.witness || hardware.telemetry {
            lab.install_broker(&cgroup)?;
        }
        if hardware.witness {
            lab.install_witness(&cgroup)?;
        }
        if hardware.snmp.is_some() {
            lab.install_snmpd(&cgroup)?;
        }
        Ok(lab)
    }

    /// The hosts that the first cluster file names.
    fn known_at_first(&self) -> Vec<String> {
        self.hardware.hosts.iter().filter(|host| !self.hardware.later.contains(host)).cloned().collect()
    }

    fn install(&mut self, host: &str, known: &[String], cgroup: &Path) -> Result<()> {
        let host_id = self.hardware.id(host)?;
        let dir = self.dir.join("hosts").join(host);
        for part in [dir.join("etc"), dir.join("var"), cgroup.join(host)] {
            shell::make_dir(&part)?;
        }
        if let Some(kind) = self.hardware.disk.get(host) {
            disk::mount(&dir, *kind)?;
        }
        shell::make_dir(&dir.join("var/journal"))?;
        shell::write(&dir.join("want"), "run", 0o644)?;
        shell::write(&dir.join("sysrq"), "", 0o644)?;
        shell::write(&dir.join("kmsg"), "", 0o644)?;
        shell::write(&dir.join("product_uuid"), &format!("{}\n", hardware::machine_uuid(host_id, 0)), 0o400)?;
        fs::copy(&self.binaries.palisade, dir.join("palisade")).during("copying the agent")?;
        let file = cluster::render(&self.hardware, known, &self.generations, &self.keys)?;
        cluster::install(&dir.join("etc"), &file, &self.hardware, &self.keys)?;
        if self.hardware.switch.is_some() {
            let script = port::script(self.hardware.links)?;
            shell::write(&dir.join("etc/fence_port"), &script, 0o700)?;
        }
        let machine = Machine {
            name: host.into(),
            dir,
            cgroup: cgroup.join(host),
            netns: self.network.netns(host),
            switch_netns: self.network.netns("switch"),
            links: self.hardware.links,
            shared: self.dir.join("shared"),
        };
        machine.save()?;
        let settings = self.hardware.bmc.get(host).cloned().unwrap_or_default();
        let guid_of = self.hardware.id(settings.guid_of.as_deref().unwrap_or(host))?;
        let mut bmc =
            Bmc::install(&machine, host_id, guid_of, &self.network.netns("bmc"), &cgroup.join("infra"))?;
        if settings.delay_s > 0 {
            bmc.knob("delay", Some(&settings.delay_s.to_string()))?;
        }
        if settings.lies {
            bmc.knob("lie", Some(""))?;
        }
        bmc.start()?;
        self.machines.insert(host.into(), machine);
        self.bmcs.insert(host.into(), bmc);
        Ok(())
    }

    fn install_broker(&mut self, cgroup: &Path) -> Result<()> {
        let infra = cgroup.join("infra");
        let mut broker = Service::broker(self.network.netns("broker"), &infra, &self.dir.join("broker"))?;
        broker.start()?;
        broker.listening()?;
        self.broker = Some(broker);
        if self.hardware.telemetry {
            let netns = self.network.netns("witness");
            let mut central = Service::central(netns, &infra, &self.dir.join("central"))?;
            central.start()?;
            self.central = Some(central);
        }
        Ok(())
    }

    fn install_witness(&mut self, cgroup: &Path) -> Result<()> {
        let infra = cgroup.join("infra");
        let timing = |key: &str, otherwise: &str| {
            let set = self.hardware.timing.get(key).and_then(|value| value.as_str());
            set.unwrap_or(otherwise).to_owned()
        };
        let lease = timing("lease", if self.hardware.profile == "fast" { "250ms" } else { "1s" });
        let drift = timing("drift", "1%");
        let served =
            WitnessCluster { name: cluster::NAME, key: &self.keys.witness, lease: &lease, drift: &drift };
        let netns = self.network.netns("witness");
        let mut witness =
            Service::witness(netns, &infra, &self.dir.join("witness"), &self.binaries.witness, &served)?;
        witness.start()?;
        self.witness = Some(witness);
        Ok(())
    }

    fn install_snmpd(&mut self, cgroup: &Path) -> Result<()> {
        let netns = self.network.netns("switch");
        // Who stands beside it, to name its ports, reaches its own address by the loopback.
        let batch = format!("link set lo up\naddress add {}/24 dev br1\n", snmp::ADDRESS);
        shell::feed("ip", &["-n", &netns, "-batch", "-"], &batch)?;
        let mut snmpd = Service::snmpd(netns, &cgroup.join("infra"), &self.dir.join("snmpd"))?;
        snmpd.start()?;
        snmpd.listening()?;
        self.snmpd = Some(snmpd);
        snmp::name_ports(&self.network, &self.hardware)
    }

    /// A host by name.
    ///
    /// # Errors
    /// No such host.
    pub fn machine(&self, host: &str) -> Result<&Machine> {
        self.machines.get(host).during(format!("host {host}"))
    }

    /// A BMC by its host.
    ///
    /// # Errors
    /// No such host.
    pub fn bmc(&mut self, host: &str) -> Result<&mut Bmc> {
        self.bmcs.get_mut(host).during(format!("the BMC of {host}"))
    }

    /// Writes the cluster file that names every host to every host, and tells the agents to load it.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn load_whole_file(&self) -> Result<()> {
        let file = cluster::render(&self.hardware, &self.hardware.hosts, &self.generations, &self.keys)?;
        for machine in self.machines.values() {
            cluster::install(&machine.dir.join("etc"), &file, &self.hardware, &self.keys)?;
        }
        for machine in self.machines.values().filter(|machine| machine.agent_pid().is_some()) {
            self.signal(&machine.name, "HUP")?;
        }
        Ok(())
    }

    /// From now on, looks whether a host shows a secret of its own to whoever looks.
    ///
    /// # Errors
    /// The thread that looks cannot be started.
    pub fn watch_secrets(&mut self) -> Result<()> {
        let mut secrets = vec![("the cluster's key".to_owned(), self.keys.cluster.clone())];
        if self.hardware.witness {
            secrets.push(("the witness's key".into(), self.keys.witness.clone()));
        }
        let passwords = self
            .hardware
            .hosts
            .iter()
            .map(|host| (format!("the password of bmc-{host}"), bmc::password(host)));
        secrets.extend(passwords);
        if self.hardware.snmp.is_some() {
            secrets.extend(snmp::SECRETS.map(|(name, secret)| (name.to_owned(), secret.to_owned())));
        }
        let cgroups = self.machines.values().map(|machine| machine.cgroup.clone()).collect();
        self.spy = Some(Spy::start(cgroups, secrets)?);
        Ok(())
    }

    /// Moves a host's disk into another machine: same name, same keys, other DMI UUID. Only its own file says so.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn swap_machine(&mut self, host: &str) -> Result<()> {
        let id = self.hardware.id(host)?;
        let mut generations = self.generations.clone();
        if let Some(generation) = generations.get_mut(id) {
            *generation += 1;
        }
        let file = cluster::render(&self.hardware, &self.known_at_first(), &generations, &self.keys)?;
        let machine = self.machine(host)?;
        cluster::install(&machine.dir.join("etc"), &file, &self.hardware, &self.keys)?;
        let uuid = hardware::machine_uuid(id, generations.get(id).copied().unwrap_or(1));
        shell::write(&machine.dir.join("product_uuid"), &format!("{uuid}\n"), 0o400)
    }

    /// Sends a signal to a host's agent.
    ///
    /// # Errors
    /// There is no agent.
    pub fn signal(&self, host: &str, signal: &str) -> Result<()> {
        let pid = self.machine(host)?.agent_pid().during(format!("{host}: the agent's process"))?;
        shell::run("kill", &[&format!("-{signal}"), &pid.to_string()]).map(drop)
    }

    /// `systemctl start` or `systemctl stop` of the agent.
    ///
    /// # Errors
    /// The host is off.
    pub fn want_agent(&self, host: &str, run: bool) -> Result<()> {
        let machine = self.machine(host)?;
        shell::write(&machine.dir.join("want"), if run { "run" } else { "stop" }, 0o644)?;
        if run {
            return shell::run("kill", &["-USR1", &machine.init_pid()?.to_string()]).map(drop);
        }
        self.signal(host, "TERM")
    }

    /// Runs the CLI inside a host and gives its exit code and words.
    ///
    /// # Errors
    /// The host is off.
    pub fn cli(&self, host: &str, arguments: &[&str]) -> Result<shell::Finished> {
        let machine = self.machine(host)?;
        let pid = machine.init_pid()?.to_string();
        let palisade = machine.dir.join("palisade").display().to_string();
        let mut all = vec!["--target", &pid, "--mount", "--uts", "--ipc", "--net", "--pid", "--", &palisade];
        all.extend(arguments);
        shell::call("nsenter", &all)
    }

    /// Has a shell inside a host run a command.
    ///
    /// # Errors
    /// The host is off, or the command fails.
    pub fn shell(&self, host: &str, command: &str) -> Result<()> {
        let pid = self.machine(host)?.init_pid()?.to_string();
        let inside =
            ["--target", &pid, "--mount", "--uts", "--ipc", "--net", "--pid", "--", "sh", "-c", command];
        shell::run("nsenter", &inside).map(drop)
    }

    /// The agent and its CLI, as built.
    #[must_use]
    pub fn palisade(&self) -> &Path {
        &self.binaries.palisade
    }

    /// A host's journal.
    ///
    /// # Errors
    /// No such host.
    pub fn journal(&self, host: &str) -> Result<Vec<Line>> {
        Ok(journal::read(host, &self.machine(host)?.dir.join("var/journal")))
    }

    /// All journals, by time.
    ///
    /// # Errors
    /// Never for the lab's own hosts.
    pub fn journals(&self) -> Result<Vec<Line>> {
        let mut lines = Vec::new();
        for host in &self.hardware.hosts {
            lines.extend(self.journal(host)?);
        }
        lines.sort_by_key(|line| line.boot_ms);
        Ok(lines)
    }

    /// Every run of a workload so far.
    #[must_use]
    pub fn runs(&self, workload: &str) -> Vec<workload::Run> {
        workload::runs(&self.dir.join("shared"), workload)
    }

    /// Where a workload runs right now: the hosts that wrote a line within the last 300 ms.
    #[must_use]
    pub fn runs_on(&self, workload: &str) -> Vec<String> {
        let since_ms = clock_ms().saturating_sub(300);
        self.runs(workload).into_iter().filter(|run| run.last_ms >= since_ms).map(|run| run.host).collect()
    }

    /// Waits until `there` says so; it is asked at every change of a journal or a workload's log, and each 25 ms.
    ///
    /// # Errors
    /// The time is over; the error says what was missing last.
    pub fn wait_until(
        &self,
        limit: Duration,
        what: &str,
        mut there: impl FnMut(&Self) -> Result<()>,
    ) -> Result<()> {
        let deadline = Instant::now() + limit;
        let journals: Vec<PathBuf> =
            self.machines.values().map(|machine| machine.dir.join("var/journal")).collect();
        let shared = self.dir.join("shared");
        let pulse = wait::Pulse::watching(journals.iter().map(PathBuf::as_path).chain([shared.as_path()]))?;
        loop {
            let Err(missing) = there(self) else { return Ok(()) };
            if Instant::now() >= deadline {
                return Err(Trouble::new(format!("{what}: not within {limit:?}; last: {missing}")));
            }
            pulse.wait(deadline);
        }
    }

    /// The last lines of every journal and log, for the person who reads about a failure.
    #[must_use]
    pub fn dump(&self) -> String {
        let mut out = String::new();
        for (host, machine) in &self.machines {
            out.push_str(&format!("--- {host}: {}\n", if machine.is_on() { "on" } else { "off" }));
            for line in tail(&self.journal(host).unwrap_or_default()) {
                out.push_str(&format!("{} #{} {}\n", line.boot_ms, line.number, line.text()));
            }
            let log = fs::read_to_string(machine.dir.join("agent.log")).unwrap_or_default();
            out.push_str(&format!("--- {host}: stderr\n"));
            for line in tail(&log.lines().collect::<Vec<_>>()) {
                out.push_str(&format!("{line}\n"));
            }
        }
        let log = fs::read_to_string(self.dir.join("witness/witness.log")).unwrap_or_default();
        out.push_str(&format!("--- witness\n{log}"));
        for workload in &self.hardware.workload {
            out.push_str(&format!("--- {}: where it ran\n", workload.name));
            for run in self.runs(&workload.name) {
                out.push_str(&format!("{run:?}\n"));
            }
        }
        out
    }
}

fn tail<T>(lines: &[T]) -> &[T] {
    lines.get(lines.len().saturating_sub(DUMP_LINES)..).unwrap_or_default()
}

impl Drop for Lab {
    fn drop(&mut self) {
        cleanup::remove(&self.id);
    }
}
