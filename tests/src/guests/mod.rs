//! Guests: virtual machines with kernels of their own, for what no namespace has: watchdogs that bite, SCSI targets that keep
//! reservations, disks that several hosts write to. QEMU emulates their processors, so they run anywhere, some ten times slower.
//!
//! A guest reaches nothing but what its hardware names, over loopback. Its time is its own: it stands still while QEMU is
//! stopped, and a watchdog of a guest with it.

pub mod bmc;
pub mod checks;
pub mod files;
pub mod guest;
pub mod lio;
mod process;
pub mod qmp;
mod wire;

use std::path::{Path, PathBuf};

use crate::lab::cleanup;
use crate::lab::shell;
use crate::lab::trouble::{Context, Result, Trouble};

pub use self::files::Files;
pub use self::guest::{Guest, Hardware};
pub use self::lio::{Lio, Lun};

/// Building the image downloads some 70 MB when it is done for the first time.
const BUILD_LIMIT: std::time::Duration = std::time::Duration::from_secs(300);

/// The folder with the scripts that the image is made of.
fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guests")
}

/// Where guests run: whatever is started in it ends with it, also when this process is interrupted.
#[derive(Debug)]
pub struct Rack {
    id: String,
    image: PathBuf,
}

impl Rack {
    /// An empty rack. Builds the image if it is not there or its scripts changed.
    ///
    /// # Errors
    /// A program that guests need is missing, the image cannot be built, or there is no cgroup2.
    pub fn new() -> Result<Self> {
        for (program, package) in [("qemu-system-x86_64", "qemu-system-x86"), ("xz", "xz-utils")] {
            shell::call(program, &["--version"]).ok().filter(|done| done.code == Some(0)).during(format!(
                "{program} (package {package}; `sh tests/setup.sh` installs what is missing)"
            ))?;
        }
        let image = Path::new(env!("CARGO_MANIFEST_DIR")).join(".lab/guests");
        let script = scripts().join("build.sh").display().to_string();
        let built = shell::call_within(BUILD_LIMIT, "sh", &[&script, &image.display().to_string()])?;
        if built.code != Some(0) {
            return Err(Trouble::new(format!("{script}: {}", built.text.trim())));
        }
        let id = cleanup::claim()?;
        shell::make_dir(&cleanup::directory(&id))?;
        Ok(Self { id, image })
    }

    /// Its directory: a folder per guest, removed with the rack.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        cleanup::directory(&self.id)
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
