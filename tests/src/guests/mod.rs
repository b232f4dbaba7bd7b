//! Guests: virtual machines with kernels of their own, for what no namespace has: watchdogs that bite, SCSI and NVMe targets that
//! keep reservations, disks that several hosts write to. QEMU emulates their processors, so they run anywhere, some ten times slower.
//!
//! A rack has a network namespace with nothing in it but loopback: all that is in the rack meets there, and nothing leaves it. A
//! guest's time is its own: it stands still while QEMU is stopped, and a watchdog of a guest with it.

pub mod bmc;
pub mod built;
pub mod checks;
pub mod cluster;
pub mod files;
pub mod guest;
pub mod lio;
pub mod nvmet;
mod process;
pub mod qmp;
pub mod sshd;
mod wire;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crate::lab::cleanup;
use crate::lab::shell::{self, Finished};
use crate::lab::trouble::{Context, Result, Trouble};

pub use self::bmc::Bmc;
pub use self::files::Files;
pub use self::guest::{Guest, Hardware};
pub use self::lio::{Lio, Lun};
pub use self::nvmet::{Nvmet, Space};
pub use self::sshd::Sshd;

/// Building an image downloads some 70 MB when it is done for the first time.
const BUILD_LIMIT: Duration = Duration::from_secs(300);
/// The first port of a rack's loopback that is given away.
const FIRST_PORT: u16 = 10_000;
/// Where guests on one wire meet ([`Hardware::lan`]).
const WIRES: &str = "230.0.0.0/8";

/// The folder with the scripts that the image is made of.
fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guests")
}

/// Which of Debian's kernels a guest boots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kernel {
    /// That of Debian 12, as hosts have it.
    #[default]
    Stable,
    /// The newest one in Debian 13's backports, for what the other one has not.
    Backport,
}

impl Kernel {
    fn name(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Backport => "backport",
        }
    }
}

/// Where guests run: whatever is started in it ends with it, also when this process is interrupted.
#[derive(Debug)]
pub struct Rack {
    id: String,
    next_port: AtomicU16,
}

impl Rack {
    /// An empty rack.
    ///
    /// # Errors
    /// A program that guests need is missing, or there is no cgroup2.
    pub fn new() -> Result<Self> {
        for (program, package) in
            [("qemu-system-x86_64", "qemu-system-x86"), ("xz", "xz-utils"), ("zstd", "zstd")]
        {
            shell::call(program, &["--version"]).ok().filter(|done| done.code == Some(0)).during(format!(
                "{program} (package {package}; `sh tests/setup.sh` installs what is missing)"
            ))?;
        }
        let id = cleanup::claim()?;
        let rack = Self { id, next_port: AtomicU16::new(FIRST_PORT) };
        shell::make_dir(&rack.dir())?;
        shell::feed("ip", &["-batch", "-"], &format!("netns add {}\n", rack.netns()))?;
        let up = format!("link set lo up\nlink set lo multicast on\nroute add {WIRES} dev lo\n");
        shell::feed("ip", &["-n", &rack.netns(), "-batch", "-"], &up)?;
        Ok(rack)
    }

    /// Its directory: a folder per guest, removed with the rack.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        cleanup::directory(&self.id)
    }

    /// Runs a program that reaches what is in the rack, and gives its exit code and words, whatever the code.
    ///
    /// # Errors
    /// The program could not be started.
    pub fn call_within(&self, limit: Duration, program: &str, arguments: &[&str]) -> Result<Finished> {
        shell::call_within(limit, "nsenter", &[&[&self.inside(), program], arguments].concat())
    }

    /// Runs a program that reaches what is in the rack and has to succeed, and gives its words.
    ///
    /// # Errors
    /// It could not be started, or its exit code was not 0.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        shell::run("nsenter", &[&[self.inside().as_str(), program], arguments].concat())
    }

    /// Where a kernel and its initramfs are. Builds them if they are not there or their scripts changed.
    ///
    /// # Errors
    /// They cannot be built.
    fn image(kernel: Kernel) -> Result<PathBuf> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(".lab/guests");
        let script = scripts().join("build.sh").display().to_string();
        let arguments = [script.as_str(), &dir.display().to_string(), kernel.name()];
        let built = shell::call_within(BUILD_LIMIT, "sh", &arguments)?;
        if built.code != Some(0) {
            return Err(Trouble::new(format!("{script}: {}", built.text.trim())));
        }
        Ok(dir.join(kernel.name()))
    }

    fn netns(&self) -> String {
        format!("{}-rack", self.id)
    }

    /// What tells `nsenter` to go in.
    fn inside(&self) -> String {
        format!("--net=/run/netns/{}", self.netns())
    }

    /// A port of its loopback that nobody has yet.
    fn port(&self) -> u16 {
        self.next_port.fetch_add(1, Ordering::Relaxed)
    }

    fn cgroup(&self, guest: &str) -> Result<PathBuf> {
        Ok(cleanup::cgroup(&self.id)?.join(format!("guest-{guest}")))
    }
}

impl Drop for Rack {
    fn drop(&mut self) {
        cleanup::remove(&self.id);
    }
}
