//! Hosts cut from shared disks by persistent reservations, those of SCSI (SPC-4 5.13) or of NVMe (Base Specification 2.0, 8.19),
//! kind Write Exclusive - Registrants Only: only a path (SCSI) or a host (NVMe) that is registered may write.
//!
//! Each life of a host registers a key of its own on each of its paths, before it is taken in ([`Command::On`], for a device of this
//! host itself). The others take that very key away ([`Command::Off`]: PREEMPT AND ABORT), on every logical unit; what the host had
//! under way is aborted, and what it sends later, also after it was frozen for an hour, meets a reservation conflict. Off reads a
//! logical unit only where no key of **any** life of that host is left on any path, and a reservation of our kind stands: without it
//! everybody may write.
//!
//! Never: a key taken from a life other than the one that the order names; registering again for another host.
//!
//! To an NVMe namespace a host is its Host Identifier, whichever controller it comes by: one registration, one key. Two hosts with
//! one identifier are one to it, so that a cut of either cuts none: the second one is refused when it registers; and a device that
//! has seen its host under an identifier takes nothing for a cut while somebody else is registered by that. What no device has
//! seen, none can tell.
//!
//! From the bottom: `key` names lives, `meaning` is what is said and answered, `words` (SCSI) and `nvme` are its bytes (all of them
//! pure), `sg` and `passthrough` are the ways to a disk, `kernel` finds them, `way` is either of them, `driver` is the device.
//!
//! [`Command::On`]: palisade_ladder::Command::On
//! [`Command::Off`]: palisade_ladder::Command::Off

mod driver;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod kernel;
mod key;
mod meaning;
mod nvme;
#[expect(unsafe_code, reason = "NVMe passthrough is an ioctl that takes pointers")]
mod passthrough;
#[expect(unsafe_code, reason = "SG_IO is an ioctl that takes pointers")]
mod sg;
mod way;
mod words;

use core::fmt;

use palisade_ladder::Identity;
use palisade_proto::{HostId, Incarnation};

pub use driver::{Fabric, Me, Scsi};
pub use kernel::Kernel;
pub use key::Key;
pub use nvme::{NvmeReply, NvmeRequest, Queue};
pub use way::{NvmePath, Path, Way};
pub use words::{Reply, Request};

use key::Keys;

/// Whom to cut from which logical units. Checked once, by [`ScsiConfig::new`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScsiConfig {
    cluster: String,
    luns: Vec<String>,
    host: HostId,
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScsiConfigError {
    /// There is no logical unit to cut from.
    NoLun,
    /// Not a name as `/sys/block/sd*/device/wwid` or `/sys/block/nvme*/wwid` tells it.
    Lun {
        /// As configured.
        lun: String,
    },
}

impl fmt::Display for ScsiConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLun => f.write_str("no logical unit is named"),
            Self::Lun { lun } => {
                write!(
                    f,
                    "{lun:?} is no name of a logical unit, such as naa.6001405123456789, nor of an NVMe namespace (eui. or uuid.)"
                )
            }
        }
    }
}

impl std::error::Error for ScsiConfigError {}

impl ScsiConfig {
    /// The device that cuts `host` of `cluster` from `luns`, named as the kernel's `wwid` has it: `naa.` or `eui.` and hexadecimal
    /// digits, or `uuid.` and a UUID.
    ///
    /// # Errors
    /// The first thing that cannot be used.
    pub fn new(cluster: &str, luns: &[String], host: HostId) -> Result<Self, ScsiConfigError> {
        if luns.is_empty() {
            return Err(ScsiConfigError::NoLun);
        }
        let luns = luns.iter().map(|lun| {
            let named = Identity::of_lun(lun).map(|Identity(lun)| lun);
            named.ok_or_else(|| ScsiConfigError::Lun { lun: lun.clone() })
        });
        Ok(Self { cluster: cluster.to_owned(), luns: luns.collect::<Result<_, _>>()?, host })
    }

    fn keys(&self) -> Keys {
        Keys::new(&self.cluster, self.host)
    }

    fn key_of(&self, who: Incarnation) -> Key {
        Key::of(&self.cluster, who)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_is_checked_once() {
        let new = |luns: &[&str]| {
            let luns: Vec<String> = luns.iter().map(|&lun| lun.to_owned()).collect();
            ScsiConfig::new("edge", &luns, HostId::new(1).unwrap())
        };
        assert_eq!(new(&["naa.6001405AAAAAAAAA"]).unwrap().luns, ["naa.6001405aaaaaaaaa"]);
        assert_eq!(new(&[]), Err(ScsiConfigError::NoLun));
        assert_eq!(new(&["sda"]), Err(ScsiConfigError::Lun { lun: "sda".into() }));
    }
}
