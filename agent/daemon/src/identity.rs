//! Who this host is: its boot, its machine, its clocks. Reads what the kernel says and nothing else;
//! there is no option to say otherwise.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use nix::time::{ClockId, clock_gettime};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const PRODUCT_UUID: &str = "/sys/class/dmi/id/product_uuid";

/// The kernel's name for this boot: another one after each reboot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BootId(String);

impl BootId {
    /// As the kernel prints it: `01234567-89ab-...` in lower case.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
impl BootId {
    /// A boot that never was.
    pub(crate) fn for_test(fill: char) -> Self {
        Self(fill.to_string().repeat(36))
    }
}

#[cfg(feature = "fuzz")]
impl BootId {
    /// A boot that never was.
    pub(crate) fn for_fuzz() -> Self {
        Self("01234567-89ab-cdef-0123-456789abcdef".to_owned())
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// This host cannot tell who it is.
#[derive(Debug)]
pub(crate) enum IdentityError {
    /// The file cannot be read.
    Read {
        /// Which file.
        path: PathBuf,
        /// What to do about it.
        way_out: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The file does not hold a UUID of its own.
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What it holds.
        found: String,
        /// What to do about it.
        way_out: &'static str,
    },
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, way_out, source } => write!(f, "{}: {source}; {way_out}", path.display()),
            Self::Malformed { path, found, way_out } => {
                write!(f, "{}: expected the UUID of one machine, found {found:?}; {way_out}", path.display())
            }
        }
    }
}

impl std::error::Error for IdentityError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } => Some(source),
            Self::Malformed { .. } => None,
        }
    }
}

/// This boot's id.
pub(crate) fn boot_id() -> Result<BootId, IdentityError> {
    let way_out = "mount /proc, it comes with every Linux kernel";
    read_uuid(Path::new(BOOT_ID), way_out).map(BootId)
}

/// This machine's DMI product UUID in lower case, to compare with `machine` in the configuration.
pub(crate) fn machine_uuid() -> Result<String, IdentityError> {
    read_machine(Path::new(PRODUCT_UUID))
}

fn read_machine(path: &Path) -> Result<String, IdentityError> {
    let way_out = "run as root, and set the machine's UUID in its firmware (or in its hypervisor)";
    let uuid = read_uuid(path, way_out)?;
    // Boards leave the factory with these; two such machines could not be told apart.
    let digits = || uuid.bytes().filter(|byte| *byte != b'-');
    if digits().all(|byte| byte == b'0') || digits().all(|byte| byte == b'f') {
        return Err(IdentityError::Malformed { path: path.to_owned(), found: uuid, way_out });
    }
    Ok(uuid)
}

fn read_uuid(path: &Path, way_out: &'static str) -> Result<String, IdentityError> {
    let text = std::fs::read_to_string(path).map_err(|source| IdentityError::Read {
        path: path.to_owned(),
        way_out,
        source,
    })?;
    let uuid = text.trim().to_ascii_lowercase();
    let lengths = uuid.split('-').map(str::len);
    let hex = uuid.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    if hex && lengths.eq([8, 4, 4, 4, 12]) {
        Ok(uuid)
    } else {
        let found = text.chars().take(64).collect();
        Err(IdentityError::Malformed { path: path.to_owned(), found, way_out })
    }
}

/// CLOCK_BOOTTIME in microseconds: where a process's `seq` starts. Goes on while the host sleeps.
pub(crate) fn boottime_us() -> u64 {
    read_us(ClockId::CLOCK_BOOTTIME)
}

/// CLOCK_BOOTTIME in milliseconds.
pub(crate) fn boottime_ms() -> u64 {
    boottime_us() / 1000
}

/// CLOCK_MONOTONIC in microseconds; `boottime_us` minus this grows when the host has slept.
pub(crate) fn monotonic_us() -> u64 {
    read_us(ClockId::CLOCK_MONOTONIC)
}

/// CLOCK_MONOTONIC_RAW in microseconds: the clock of the leases, which nothing slews.
pub(crate) fn raw_us() -> u64 {
    read_us(ClockId::CLOCK_MONOTONIC_RAW)
}

fn read_us(clock: ClockId) -> u64 {
    // These clocks are in every kernel that boots us; 0 (never later than the truth) stands for the impossible error.
    clock_gettime(clock).map_or(0, |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec()).unwrap_or(0);
        seconds.saturating_mul(1_000_000).saturating_add(nanos / 1000)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (crate::testing::TempDir, PathBuf) {
        let dir = crate::testing::TempDir::new();
        let path = dir.path().join("uuid");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn a_boot_has_a_name() {
        assert_eq!(boot_id().unwrap().as_str().len(), 36);
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
    }

    #[test]
    fn a_machine_without_its_own_uuid_is_refused_with_a_way_out() {
        let (_dir, path) = file("4C4C4544-0051-3510-8052-B4C04F4D3132\n");
        assert_eq!(read_machine(&path).unwrap(), "4c4c4544-0051-3510-8052-b4c04f4d3132");
        for bad in [
            "00000000-0000-0000-0000-000000000000\n",
            "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF\n",
            "Not Settable\n",
            "",
        ] {
            let (_dir, path) = file(bad);
            let said = read_machine(&path).unwrap_err().to_string();
            assert!(said.contains("uuid") && said.contains("firmware"), "{said}");
        }
        let said = read_machine(Path::new("/nonexistent/product_uuid")).unwrap_err().to_string();
        assert!(said.contains("/nonexistent/product_uuid") && said.contains("run as root"), "{said}");
    }

    #[test]
    fn clocks_never_run_backwards() {
        let (boot, raw, mono) = (boottime_us(), raw_us(), monotonic_us());
        assert!(boot > 0 && raw > 0 && mono > 0);
        assert!(boottime_us() >= boot && raw_us() >= raw && monotonic_us() >= mono);
        assert!(boottime_ms() >= boot / 1000);
    }
}
