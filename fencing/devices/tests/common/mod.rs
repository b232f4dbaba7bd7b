//! Real BMCs for the driver's tests: OpenIPMI's `ipmi_sim` and pyghmi's, each its own process on its own loopback port, and
//! a UDP proxy that loses, doubles, damages or keeps back. A missing part fails the test with its name.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy knows a test only inside #[test]"
)]

pub mod proxy;

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use palisade_devices::Secret;
use palisade_devices::ipmi::{Ipmi, IpmiConfig, Privilege, Suite};

pub const GUID: &str = "a123456789abcdefa123456789abcde1";
pub const USER: &str = "admin";
pub const PASSWORD: &str = "secret";
/// A BMC that does not answer in this time will not.
const START_WAIT: Duration = Duration::from_secs(10);
const START_TRIES: u32 = 5;

/// Name, password, IPMI privilege level.
pub type User = (&'static str, &'static str, u8);

/// How a BMC is set up.
#[derive(Clone)]
pub struct Setup {
    pub guid: &'static str,
    pub users: Vec<User>,
    pub kg: Option<&'static str>,
    /// pyghmi: answer with this suite, whatever is asked.
    pub force_suite: Option<u8>,
    /// pyghmi: pass over unknown users instead of refusing them.
    pub silent_user: bool,
}

impl Default for Setup {
    fn default() -> Self {
        let users = vec![(USER, PASSWORD, 4), ("fencer", "fence", 3), ("viewer", "look", 2)];
        Self { guid: GUID, users, kg: None, force_suite: None, silent_user: false }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// OpenIPMI's simulator with a chassis script; suite 3 only, one thing at a time.
    Sim,
    /// pyghmi's BMC with suite 17 added; acts at once.
    Pyghmi,
}

/// A BMC process, its state folder and its port. Killed when dropped.
pub struct Bmc {
    pub kind: Kind,
    pub address: SocketAddr,
    process: Child,
    folder: tempfile::TempDir,
}

impl Bmc {
    pub fn start(kind: Kind, setup: &Setup) -> Self {
        for _ in 0..START_TRIES {
            let mut bmc = Self::launch(kind, setup);
            match bmc.wait_until_up() {
                Ok(()) => return bmc,
                // Somebody was given the port between our look and the BMC's bind.
                Err(why) if why.contains("in use") => {}
                Err(why) => panic!("{why}"),
            }
        }
        panic!("{kind:?} found no free port in {START_TRIES} tries");
    }

    fn launch(kind: Kind, setup: &Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        fs::write(folder.path().join("power"), "1\n").unwrap();
        match kind {
            Kind::Sim => write_sim(folder.path(), port, setup),
            Kind::Pyghmi => write_pyghmi(folder.path(), port, setup),
        }
        let process = launch(kind, folder.path());
        Self { kind, address, process, folder }
    }

    pub fn sim() -> Self {
        Self::start(Kind::Sim, &Setup::default())
    }

    pub fn pyghmi() -> Self {
        Self::start(Kind::Pyghmi, &Setup::default())
    }

    /// Sets one of the chassis' knobs.
    pub fn knob(&self, name: &str, value: &str) {
        fs::write(self.folder.path().join(name), format!("{value}\n")).unwrap();
    }

    pub fn unset(&self, name: &str) {
        fs::remove_file(self.folder.path().join(name)).unwrap();
    }

    /// What the host behind it really has.
    pub fn power_is_on(&self) -> bool {
        fs::read_to_string(self.folder.path().join("power")).unwrap().trim() == "1"
    }

    /// How often the chassis was told exactly this.
    pub fn calls(&self, call: &str) -> usize {
        let calls = fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        calls.lines().filter(|line| line.trim() == call).count()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.process.id()).unwrap()), signal).unwrap();
    }

    pub fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Another process on the same port: every session is forgotten.
    pub fn restart(&mut self) {
        self.stop();
        self.process = launch(self.kind, self.folder.path());
        self.wait_until_up().unwrap();
    }

    /// Asks for channel authentication capabilities until it answers.
    fn wait_until_up(&mut self) -> Result<(), String> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let question = b"\x06\x00\xff\x07\0\0\0\0\0\0\0\0\0\x09\x20\x18\xc8\x81\x00\x38\x8e\x04\xb5";
        let started = Instant::now();
        loop {
            // Refused while it is not there yet.
            let answered = socket.send(question).is_ok() && socket.recv(&mut [0; 100]).is_ok();
            if answered {
                return Ok(());
            }
            if let Some(status) = self.process.try_wait().unwrap() {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                return Err(format!("{:?} ended at its start ({status}): {log}", self.kind));
            }
            if started.elapsed() > START_WAIT {
                return Err(format!("{:?} does not answer", self.kind));
            }
        }
    }

    pub fn config(&self, suite: Suite) -> IpmiConfig {
        config(self.address, suite, (USER, PASSWORD), None, Privilege::Operator, GUID)
    }

    pub fn device(&self, suite: Suite) -> Ipmi {
        Ipmi::new(self.config(suite))
    }
}

impl Drop for Bmc {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            println!("log of {:?}: {log}", self.kind);
        }
    }
}

pub fn config(
    address: SocketAddr,
    suite: Suite,
    (user, password): (&str, &str),
    kg: Option<&str>,
    privilege: Privilege,
    guid: &str,
) -> IpmiConfig {
    let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
    IpmiConfig::new(address, user.into(), secret(password), kg.map(secret), suite, privilege, guid).unwrap()
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers").canonicalize().unwrap()
}

fn write_sim(folder: &Path, port: u16, setup: &Setup) {
    let mut lan = String::from("name \"peer\"\nset_working_mc 0x20\n  startlan 1\n");
    writeln!(lan, "    addr 127.0.0.1 {port}\n    priv_limit admin").unwrap();
    for level in ["callback", "user", "operator", "admin"] {
        writeln!(lan, "    allowed_auths_{level} none md2 md5 straight").unwrap();
    }
    writeln!(lan, "    guid {}", setup.guid).unwrap();
    if let Some(kg) = setup.kg {
        writeln!(lan, "    bmc_key \"{kg}\"").unwrap();
    }
    let script = peers().join("chassis.sh");
    writeln!(lan, "  endlan\n  chassis_control \"{} {}\"", script.display(), folder.display()).unwrap();
    writeln!(lan, "  user 1 true \"\" \"test\" user 10 none md2 md5 straight").unwrap();
    for (number, (name, password, level)) in (2..).zip(&setup.users) {
        let level = ["", "", "user", "operator", "admin"][usize::from(*level)];
        writeln!(lan, "  user {number} true \"{name}\" \"{password}\" {level} 10 none md2 md5 straight")
            .unwrap();
    }
    fs::write(folder.join("lan.conf"), lan).unwrap();
    let emulation = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\n\
                     sel_enable 0x20 1000 0x0a\nmc_enable 0x20\n";
    fs::write(folder.join("sim.emu"), emulation).unwrap();
    fs::create_dir(folder.join("state")).unwrap();
}

fn write_pyghmi(folder: &Path, port: u16, setup: &Setup) {
    let quoted = |text: Option<&str>| text.map_or("null".to_owned(), |text| format!("{text:?}"));
    let users: Vec<String> = setup
        .users
        .iter()
        .map(|(name, password, level)| {
            format!("{name:?}: {{\"password\": {password:?}, \"privilege\": {level}}}")
        })
        .collect();
    let bmc = format!(
        "{{\"port\": {port}, \"guid\": {:?}, \"kg\": {}, \"users\": {{{}}}, \"suites\": [3, 17], \
         \"force_suite\": {}, \"silent_user\": {}}}",
        setup.guid,
        quoted(setup.kg),
        users.join(", "),
        setup.force_suite.map_or("null".to_owned(), |suite| suite.to_string()),
        setup.silent_user
    );
    fs::write(folder.join("bmc.json"), bmc).unwrap();
}

fn launch(kind: Kind, folder: &Path) -> Child {
    let mut process = match kind {
        Kind::Sim => {
            let mut process = Process::new("ipmi_sim");
            process.args(["-c", "lan.conf", "-f", "sim.emu", "-s", "state", "-n"]);
            process
        }
        Kind::Pyghmi => {
            let python = std::env::var_os("PALISADE_PEERS_VENV")
                .map_or_else(|| peers().join("../.lab/venv"), PathBuf::from)
                .join("bin/python3");
            assert!(python.exists(), "{} is missing: run tests/peers/install.sh", python.display());
            let mut process = Process::new(python);
            process.arg(peers().join("pyghmi_bmc.py")).arg(folder);
            process
        }
    };
    let log = || Stdio::from(fs::File::options().create(true).append(true).open(folder.join("log")).unwrap());
    process.current_dir(folder).stdin(Stdio::null()).stdout(log()).stderr(log());
    process
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {kind:?} (run tests/peers/install.sh): {error}"))
}
