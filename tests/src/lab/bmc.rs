//! A host's BMC: OpenIPMI's `ipmi_sim`, a real IPMI 2.0 controller, whose chassis command pulls the host's power switch.
//!
//! The knobs are files in the host's `bmc` directory: `delay` (seconds an order takes), `lie` (accept, do nothing), `fail`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::hardware;
use super::power::Machine;
use super::shell;
use super::trouble::{Context, Result, Trouble};
use super::wait;

/// The name that the hosts log in with.
pub const USER: &str = "admin";
/// A BMC opens its socket within 0.1 s.
const START_LIMIT: Duration = Duration::from_secs(5);

/// The running controller of one host.
#[derive(Debug)]
pub struct Bmc {
    machine: Machine,
    netns: String,
    cgroup: PathBuf,
    process: Option<Child>,
}

/// The password of a host's BMC; each has its own.
#[must_use]
pub fn password(host: &str) -> String {
    format!("hV7q-power-{host}")
}

impl Bmc {
    /// Writes the controller's files; it runs after [`Bmc::start`].
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn install(
        machine: &Machine,
        host_id: usize,
        guid_of: usize,
        netns: &str,
        cgroup: &Path,
    ) -> Result<Self> {
        let dir = machine.dir.join("bmc");
        shell::make_dir(&dir.join("state"))?;
        let lab = std::env::current_exe().during("the lab's own binary")?;
        let lan = format!(
            "name \"{name}\"\nset_working_mc 0x20\n  startlan 1\n    addr {address} 623\n    priv_limit admin\n    \
             allowed_auths_callback none md2 md5 straight\n    allowed_auths_user none md2 md5 straight\n    \
             allowed_auths_operator none md2 md5 straight\n    allowed_auths_admin none md2 md5 straight\n    \
             guid {guid}\n  endlan\n  chassis_control \"{lab} chassis {dir}\"\n  \
             user 1 true \"\" \"test\" user 10 none md2 md5 straight\n  \
             user 2 true \"{USER}\" \"{password}\" admin 10 none md2 md5 straight\n",
            name = machine.name,
            address = hardware::bmc_address(host_id),
            guid = hardware::bmc_guid(guid_of),
            lab = lab.display(),
            dir = machine.dir.display(),
            password = password(&machine.name),
        );
        shell::write(&dir.join("lan.conf"), &lan, 0o600)?;
        let emu = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\n\
                   sel_enable 0x20 1000 0x0a\nmc_enable 0x20\n";
        shell::write(&dir.join("sim.emu"), emu, 0o644)?;
        Ok(Self { machine: machine.clone(), netns: netns.into(), cgroup: cgroup.into(), process: None })
    }

    /// Starts the controller and waits until its port is open.
    ///
    /// # Errors
    /// `ipmi_sim` did not come up.
    pub fn start(&mut self) -> Result<()> {
        let dir = self.machine.dir.join("bmc");
        let log = fs::OpenOptions::new().create(true).append(true).open(dir.join("ipmi_sim.log"));
        let log = log.during("ipmi_sim.log")?;
        let start = format!(
            "echo 0 > {}/cgroup.procs && exec nsenter --net=/run/netns/{} ipmi_sim -n -c lan.conf -f sim.emu -s state",
            self.cgroup.display(),
            self.netns
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &start]).current_dir(&dir).stdin(Stdio::null());
        shell.stdout(log.try_clone().during("ipmi_sim.log")?).stderr(log);
        let process = shell.spawn().during("ipmi_sim")?;
        let pid = process.id();
        self.process = Some(process);
        let open =
            || fs::read_to_string(format!("/proc/{pid}/net/udp")).is_ok_and(|table| self.listens(&table));
        wait::until_quick(Instant::now() + START_LIMIT, open)
            .then_some(())
            .ok_or_else(|| Trouble::new(format!("ipmi_sim of {} did not open port 623", self.machine.name)))
    }

    fn listens(&self, table: &str) -> bool {
        // /proc/net/udp writes 10.77.1.101:623 as 65014D0A:026F.
        let lan = fs::read_to_string(self.machine.dir.join("bmc/lan.conf")).unwrap_or_default();
        let address = lan.lines().find_map(|line| line.trim().strip_prefix("addr 10.77.1."));
        let last = address.and_then(|rest| rest.split(' ').next()).and_then(|byte| byte.parse::<u8>().ok());
        last.is_some_and(|last| table.contains(&format!("{last:02X}014D0A:026F")))
    }

    /// Pulls the controller's own plug: sessions and orders in progress are gone.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // The chassis command that it may wait for belongs to it and must not finish its order.
            for pid in children(process.id()) {
                let _ = shell::call("kill", &["-9", &pid.to_string()]);
            }
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Gives its user another password; every session ends.
    ///
    /// # Errors
    /// Its file cannot be written, or it did not come up again.
    pub fn rotate_password(&mut self) -> Result<()> {
        let path = self.machine.dir.join("bmc/lan.conf");
        let old = password(&self.machine.name);
        let rotated = shell::read(&path)?.replace(&format!("\"{old}\""), &format!("\"new-{old}\""));
        shell::write(&path, &rotated, 0o600)?;
        self.stop();
        self.start()
    }

    /// Sets or clears a knob.
    ///
    /// # Errors
    /// The knob's file cannot be written.
    pub fn knob(&self, name: &str, value: Option<&str>) -> Result<()> {
        let path = self.machine.dir.join("bmc").join(name);
        match value {
            Some(value) => shell::write(&path, value, 0o644),
            None if path.exists() => fs::remove_file(&path).during(path.display()),
            None => Ok(()),
        }
    }
}

/// All processes below one, deepest first.
fn children(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut all = Vec::new();
    for child in listed.split_whitespace().filter_map(|child| child.parse().ok()) {
        all.extend(children(child));
        all.push(child);
    }
    all
}

/// The chassis command: what `ipmi_sim` runs for each order and each question.
///
/// # Errors
/// Knob `fail`, an order that this chassis does not know, or the switch did not obey.
pub fn chassis(dir: &Path, words: &[String]) -> Result<()> {
    close_inherited()?;
    let machine = Machine::load(dir)?;
    let knob = |name: &str| fs::read_to_string(dir.join("bmc").join(name)).ok();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["get", "power"] => {
            println!("power:{}", u8::from(machine.is_on()));
            Ok(())
        }
        ["get", ..] => Ok(()),
        ["set", order @ ("power" | "reset" | "shutdown"), value] => {
            note(dir, &format!("{order} {value}"))?;
            let delay_s = knob("delay").and_then(|delay| delay.trim().parse().ok()).unwrap_or(0);
            wait::pause(Duration::from_secs(delay_s));
            if knob("fail").is_some() {
                return Err(Trouble::new("the chassis fails (knob `fail`)"));
            }
            if knob("lie").is_some() {
                return Ok(());
            }
            match (*order, *value) {
                ("power", "1") => machine.switch_on(),
                ("reset", _) => machine.switch_off().and_then(|()| machine.switch_on()),
                (_, _) => machine.switch_off(),
            }
        }
        _ => Err(Trouble::new(format!("chassis: {}: not known", words.join(" ")))),
    }
}

/// Keeps every order with its time, so that a scenario can say who was shot and how often.
fn note(dir: &Path, order: &str) -> Result<()> {
    use std::io::Write;
    let path = dir.join("bmc/orders.log");
    let mut log = fs::OpenOptions::new().create(true).append(true).open(&path).during(path.display())?;
    writeln!(log, "{} {order}", super::clock_ms()).during(path.display())
}

/// A host that this command boots must not hold the BMC's sockets open.
fn close_inherited() -> Result<()> {
    let open = fs::read_dir("/proc/self/fd").during("/proc/self/fd")?;
    let open: Vec<i32> = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        // One of them is the directory just read, closed by now: its error says nothing.
        let _ = nix::unistd::close(fd);
    }
    Ok(())
}
