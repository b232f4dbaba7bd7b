//! What the ladder asks of a device and what a device answers. A driver carries these out; it never judges them.

use core::fmt;

use serde::{Deserialize, Serialize};

/// One single act of a device, by the names that fence agents use: what is switched is the host's power, its way to storage, or its
/// network ([`crate::Effect`]). A fence is made of several: off, then a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Cut the host off, at once. For power: never a cycle, never a soft shutdown.
    #[serde(alias = "power_off")]
    Off,
    /// Give it back.
    #[serde(alias = "power_on")]
    On,
    /// Read whether the host has it; harmless.
    #[serde(alias = "read_power")]
    Read,
    /// Log in, and read privilege and identity without touching the host; harmless.
    Prove,
}

/// What a device answered to one [`Command`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// The device took the order. This says nothing about the host (SAFE-4).
    Acknowledged,
    /// The device refused an off (or on) because it is so already.
    AlreadySo,
    /// What the device reads.
    #[serde(alias = "power")]
    Reads(Reading),
    /// What [`Command::Prove`] found.
    Proven(Proven),
}

/// What a device reads of what it switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// The host has power, or at least one open path.
    On,
    /// The host has no power, or not one path: it can do nothing there.
    Off,
    /// The device answered, but the answer does not say (in transition, sensor not available). Never taken for off.
    Unknown,
}

/// A fence path found in working order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proven {
    /// What the device calls itself (for IPMI the GUID in lower-case hexadecimal, 32 digits, in wire order).
    pub identity: Identity,
    /// Whether the login has the privilege to switch.
    pub may_fence: bool,
    /// What it reads now.
    pub reads: Reading,
}

/// 03000200-0400-0500-0006-000700080009, as it is told in the three byte orders that are about.
const UNSET: [&str; 3] = [
    "03000200040005000006000700080009",
    "00020003000400050006000700080009",
    "09000800070006000005000400020003",
];

/// A device's own name for itself, compared with the one in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity(pub String);

impl Identity {
    /// An identity that says nothing: all zeros, all ones, or the UUID that AMI's firmware gives a board whose maker set none. Many
    /// machines ship so.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        let same = |byte: u8| !self.0.is_empty() && self.0.bytes().all(|b| b == byte);
        same(b'0') || same(b'f') || UNSET.contains(&self.0.as_str())
    }
}

impl Identity {
    /// The name of a logical unit, in lower case: `naa.` or `eui.` and 8, 12 or 16 bytes in hexadecimal that say something, as VPD
    /// page 83h (SPC-4 7.8.6) and `/sys/block/sd*/device/wwid` tell it; for an NVMe namespace `eui.`, or `uuid.` and a UUID, as its
    /// Namespace Identification Descriptors (Base Specification 2.0, 5.17) and `/sys/block/nvme*/wwid` do. `None` for any other text.
    #[must_use]
    pub fn of_lun(text: &str) -> Option<Self> {
        let lun = text.to_ascii_lowercase();
        let (kind, name) = lun.split_once('.')?;
        let digits = match kind {
            "naa" | "eui" => Some(name.to_owned()).filter(|digits| matches!(digits.len(), 16 | 24 | 32)),
            "uuid" => {
                let groups: Vec<&str> = name.split('-').collect();
                let lengths = groups.iter().map(|group| group.len());
                lengths.eq([8, 4, 4, 4, 12]).then(|| groups.concat())
            }
            _ => None,
        }?;
        let sound =
            digits.bytes().all(|byte| byte.is_ascii_hexdigit()) && digits.bytes().any(|byte| byte != b'0');
        sound.then_some(Self(lun))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a command brought no answer to build on. The words reach the operator; none holds a secret (SAFE-6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// Nothing came back before the deadline.
    NoAnswer {
        /// How long was waited, in ms.
        waited_ms: u64,
    },
    /// The network says that the device cannot be reached (refused, no route).
    Unreachable {
        /// The system's words.
        error: String,
    },
    /// The device does not know the user, or the password or key is wrong.
    LoginRefused {
        /// Which step refused, and the device's code.
        at: String,
    },
    /// Logged in, but without the right to do this.
    PrivilegeTooLow {
        /// What was needed and what was granted.
        detail: String,
    },
    /// The device calls itself otherwise than the configuration says: nothing was ordered (SAFE-4).
    WrongIdentity {
        /// From the configuration.
        expected: Identity,
        /// From the device.
        found: Identity,
    },
    /// The device offers no cipher suite (protocol, version) that the configuration allows.
    NoCommonCipher {
        /// What was asked and what came.
        detail: String,
    },
    /// The device answered the command with an error of its own.
    Refused {
        /// The completion code or status, with its name.
        code: String,
    },
    /// The device's answer is not what the protocol allows.
    Garbage {
        /// What was wrong with it.
        detail: String,
    },
    /// The driver was told to stop before an answer came.
    Cancelled,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer { waited_ms } => write!(f, "no answer within {waited_ms} ms"),
            Self::Unreachable { error } => write!(f, "unreachable: {error}"),
            Self::LoginRefused { at } => write!(f, "login refused at {at}: check user and password"),
            Self::PrivilegeTooLow { detail } => write!(f, "privilege too low: {detail}"),
            Self::WrongIdentity { expected, found } => {
                write!(f, "this is another host's device: expected identity {expected}, it says {found}")
            }
            Self::NoCommonCipher { detail } => write!(f, "no common cipher suite: {detail}"),
            Self::Refused { code } => write!(f, "refused: {code}"),
            Self::Garbage { detail } => write!(f, "answer not understood: {detail}"),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_that_many_boards_ship_with_is_none() {
        let blank = |text: &str| Identity(text.to_owned()).is_blank();
        assert!(blank(&"0".repeat(32)) && blank(&"f".repeat(32)) && UNSET.iter().all(|unset| blank(unset)));
        assert!(!blank("") && !blank("a123456789abcdefa123456789abcde1"));
    }

    #[test]
    fn a_logical_unit_is_named_by_the_world_and_not_by_its_host() {
        let named = |text: &str| Identity::of_lun(text).map(|Identity(lun)| lun);
        assert_eq!(named("naa.6001405AAAAAAAAA").as_deref(), Some("naa.6001405aaaaaaaaa"));
        assert!(named("eui.0025385b71b00f00").is_some());
        assert_eq!(
            named("uuid.E63AD639-d398-4bb1-9cb4-8f7abb3e6910").as_deref(),
            Some("uuid.e63ad639-d398-4bb1-9cb4-8f7abb3e6910")
        );
        for text in [
            "",
            "naa.",
            "sda",
            "/dev/sda",
            "naa.6001405",
            "naa.600140512345678g",
            "naa.0000000000000000",
            "uuid.e63ad639d3984bb19cb48f7abb3e6910",
            "uuid.e63ad63-9d398-4bb1-9cb4-8f7abb3e6910",
            "uuid.00000000-0000-0000-0000-000000000000",
            "nvme.8086-414243-51454d55-00000001",
        ] {
            assert_eq!(named(text), None, "{text}");
        }
    }
}
