//! Hosts that are virtual machines: cut off by the hypervisor below them, over QEMU's own monitor (QMP) or libvirt (`virsh`).
//!
//! Decides which of the hypervisor's words mean off. A machine that is only paused is on: its life goes on with the next `cont`. So is
//! one whose memory was saved. A machine that is, or was, migrated reads unknown: its life may be elsewhere. Never: an order to a
//! machine with another UUID (SAFE-4).
//!
//! From the bottom: `words` reads what the hypervisor says (pure), `qmp` and `libvirt` are the two ways to it, `driver` is the device.

mod driver;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod libvirt;
mod qmp;
mod words;

use core::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use palisade_ladder::Identity;

pub use driver::Hypervisor;

/// How the hypervisor is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// The machine's own monitor, at this path (`-qmp unix:PATH,server=on,wait=off`).
    QmpSocket(PathBuf),
    /// The machine's own monitor, at this address (`-qmp tcp:ADDRESS,server=on,wait=off`). It asks nobody who they are.
    QmpAddress(SocketAddr),
    /// libvirt, at this URI; `virsh` knows how.
    Libvirt(String),
}

/// Which machine, and how to reach what runs it. Checked once, by [`HypervisorConfig::new`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HypervisorConfig {
    way: Way,
    uuid: Identity,
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HypervisorConfigError {
    /// The monitor's path is not absolute.
    Path {
        /// As configured.
        path: PathBuf,
    },
    /// The URI is empty, or `virsh` would take it for something else.
    Uri {
        /// As configured.
        uri: String,
    },
    /// The UUID is not 32 hexadecimal digits, or says nothing.
    Uuid {
        /// As configured.
        uuid: String,
    },
}

impl fmt::Display for HypervisorConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path { path } => write!(f, "{} is no absolute path", path.display()),
            Self::Uri { uri } => write!(f, "{uri:?} is no URI of libvirt"),
            Self::Uuid { uuid } => write!(f, "uuid {uuid:?} is not 32 hexadecimal digits that say something"),
        }
    }
}

impl std::error::Error for HypervisorConfigError {}

impl HypervisorConfig {
    /// `uuid`: the machine's, 32 hexadecimal digits without hyphens, either case; what the machine itself reads as its DMI product
    /// UUID.
    ///
    /// # Errors
    /// The first thing that cannot be used.
    pub fn new(way: Way, uuid: &str) -> Result<Self, HypervisorConfigError> {
        match &way {
            Way::QmpSocket(path) if !path.is_absolute() => {
                return Err(HypervisorConfigError::Path { path: path.clone() });
            }
            Way::Libvirt(uri) if !uri.contains(':') || !is_plain(uri) => {
                return Err(HypervisorConfigError::Uri { uri: uri.clone() });
            }
            Way::QmpSocket(_) | Way::QmpAddress(_) | Way::Libvirt(_) => {}
        }
        let uuid = Identity(uuid.to_ascii_lowercase());
        if uuid.0.len() != 32 || !uuid.0.bytes().all(|b| b.is_ascii_hexdigit()) || uuid.is_blank() {
            return Err(HypervisorConfigError::Uuid { uuid: uuid.0 });
        }
        Ok(Self { way, uuid })
    }
}

/// Whether it goes to a program as one argument that is no option.
fn is_plain(text: &str) -> bool {
    !text.starts_with('-') && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "4C4C454400513510805200000000000a";

    #[test]
    fn a_config_is_checked_once() {
        let libvirt = |uri: &str| HypervisorConfig::new(Way::Libvirt(uri.to_owned()), UUID);
        assert_eq!(libvirt("qemu+ssh://root@10.0.0.1/system").unwrap().uuid.0, UUID.to_ascii_lowercase());
        for uri in ["", "qemu", "--help:", "qemu:///system x", "qemu:\n"] {
            assert!(matches!(libvirt(uri), Err(HypervisorConfigError::Uri { .. })), "{uri:?}");
        }
        let socket = |path: &str| HypervisorConfig::new(Way::QmpSocket(path.into()), UUID);
        assert!(socket("/run/b.qmp").is_ok());
        assert!(matches!(socket("b.qmp"), Err(HypervisorConfigError::Path { .. })));
        for uuid in ["", "a1", &"0".repeat(32), &"f".repeat(32), &"g".repeat(32)] {
            let refused = HypervisorConfig::new(Way::QmpSocket("/b".into()), uuid);
            assert!(matches!(refused, Err(HypervisorConfigError::Uuid { .. })), "SAFE-4: {uuid}");
        }
    }
}
