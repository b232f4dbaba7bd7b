//! A board's BMC: OpenIPMI's `ipmi_sim`, which a guest reaches as `/dev/ipmi0` and others over the network, and which switches the
//! guest's power.

use std::fs;
use std::time::{Duration, Instant};

use super::Rack;
use super::process::Process;
use crate::lab::shell;
use crate::lab::trouble::Result;
use crate::lab::wait;

/// The name to log in with.
pub const USER: &str = "admin";
/// And its password.
pub const PASSWORD: &str = "power";
/// It opens its ports within 0.1 s.
const START_LIMIT: Duration = Duration::from_secs(10);

/// A running BMC, of one guest at most.
#[derive(Debug)]
pub struct Bmc {
    process: Process,
    lan: u16,
    system: u16,
}

impl Bmc {
    /// Starts a BMC with this GUID (32 hexadecimal digits), which `ipmi_sim` tells over the network alone.
    ///
    /// # Errors
    /// `ipmi_sim` (package openipmi) does not come up.
    pub fn start(rack: &Rack, name: &str, guid: &str) -> Result<Self> {
        let dir = rack.dir().join(name);
        shell::make_dir(&dir.join("state"))?;
        let (lan, system) = (rack.port(), rack.port());
        let conf = format!(
            "name \"{name}\"\nset_working_mc 0x20\n  startlan 1\n    addr 127.0.0.1 {lan}\n    priv_limit admin\n    \
             allowed_auths_callback none md2 md5 straight\n    allowed_auths_user none md2 md5 straight\n    \
             allowed_auths_operator none md2 md5 straight\n    allowed_auths_admin none md2 md5 straight\n    \
             guid {guid}\n  endlan\n  serial 15 127.0.0.1 {system} codec VM\n  \
             user 1 true \"\" \"test\" user 10 none md2 md5 straight\n  \
             user 2 true \"{USER}\" \"{PASSWORD}\" admin 10 none md2 md5 straight\n"
        );
        shell::write(&dir.join("lan.conf"), &conf, 0o600)?;
        let emu = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\n\
                   sel_enable 0x20 1000 0x0a\nmc_enable 0x20\n";
        shell::write(&dir.join("sim.emu"), emu, 0o644)?;
        let arguments = ["-n", "-c", "lan.conf", "-f", "sim.emu", "-s", "state"].map(str::to_owned);
        let mut process = Process::start(rack, name, &dir, "ipmi_sim", &arguments)?;
        let tables = format!("/proc/{}/net", process.id());
        let has = |table: &str, port: u16, state: &str| {
            let at = format!("0100007F:{port:04X} 00000000:0000 {state}");
            fs::read_to_string(format!("{tables}/{table}")).is_ok_and(|table| table.contains(&at))
        };
        wait::until_quick(Instant::now() + START_LIMIT, || {
            // 07 is a bound UDP socket, 0A a listening TCP socket.
            (has("udp", lan, "07") && has("tcp", system, "0A")) || process.has_ended()
        });
        if process.has_ended() || !has("tcp", system, "0A") {
            return Err(process.said(format!("{name}: ipmi_sim (package openipmi) did not open its ports:")));
        }
        Ok(Self { process, lan, system })
    }

    /// Its UDP port at the rack's 127.0.0.1, where it speaks IPMI 2.0 (RMCP+, cipher suite 3) with [`USER`].
    #[must_use]
    pub fn port(&self) -> u16 {
        self.lan
    }

    /// Lets it answer nobody, as if its network, or itself, had died; or lets it go on.
    ///
    /// # Errors
    /// It does not freeze, or thaw.
    pub fn set_silent(&self, silent: bool) -> Result<()> {
        self.process.set_frozen(silent)
    }

    /// Where QEMU finds it: the board's side.
    pub(super) fn system_port(&self) -> u16 {
        self.system
    }
}
