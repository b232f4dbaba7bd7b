//! IPMI over LAN (RMCP+, IPMI 2.0 section 13): powers a host off through its BMC over a warm, authenticated session.
//!
//! Decides nothing: it carries one command to the BMC whose GUID is the configured one, and hands back the BMC's own words.
//! It never sends a cycle or a reset, never says that a host is off unless the BMC read so after being asked, and
//! never sends any power order to a BMC with another identity.
//!
//! From the bottom: `rmcp` frames and seals datagrams, `rakp` builds and checks the login's messages, `message` the
//! commands inside a session; these three are pure. `login` and `session` run them over UDP, `driver` is the device.

mod crypto;
mod driver;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod knock;
mod login;
mod message;
mod rakp;
mod rmcp;
mod session;
mod trouble;

use core::fmt;
use std::net::SocketAddr;

use palisade_ladder::Identity;

pub use crypto::Suite;
pub use driver::Ipmi;

use crate::secret::Secret;

/// Longest user name (IPMI 2.0 section 22.28), in bytes.
pub const USER_LEN_MAX: usize = 16;
/// Longest password and longest Kg of an RMCP+ session (sections 22.30 and 13.31), in bytes.
pub const PASSWORD_LEN_MAX: usize = 20;

/// The level that a session asks for. Chassis Control needs at least operator (appendix G).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Privilege {
    /// Enough to fence.
    Operator,
    /// For BMCs whose only usable account is an administrator.
    Administrator,
}

impl Privilege {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Operator => 3,
            Self::Administrator => 4,
        }
    }
}

impl fmt::Display for Privilege {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Operator => "operator",
            Self::Administrator => "administrator",
        })
    }
}

/// What it takes to speak with one BMC; checked once, by [`IpmiConfig::new`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpmiConfig {
    address: SocketAddr,
    user: String,
    password: Secret,
    kg: Option<Secret>,
    suite: Suite,
    privilege: Privilege,
    guid: Identity,
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IpmiConfigError {
    /// The user name is longer than a BMC can know.
    UserTooLong {
        /// Its length, in bytes.
        len: usize,
    },
    /// The password is empty.
    PasswordEmpty,
    /// The password is longer than RMCP+ carries: a BMC would compare a part of it only.
    PasswordTooLong {
        /// Its length, in bytes.
        len: usize,
    },
    /// Kg is empty or longer than RMCP+ carries.
    KgLength {
        /// Its length, in bytes.
        len: usize,
    },
    /// The GUID is not 32 hexadecimal digits.
    GuidMalformed {
        /// As configured.
        guid: String,
    },
    /// The GUID says nothing: zeros or ones.
    GuidBlank {
        /// As configured.
        guid: String,
    },
}

impl fmt::Display for IpmiConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UserTooLong { len } => {
                write!(f, "the user name has {len} bytes; IPMI knows at most {USER_LEN_MAX}")
            }
            Self::PasswordEmpty => f.write_str("the password is empty"),
            Self::PasswordTooLong { len } => {
                write!(f, "the password has {len} bytes; IPMI 2.0 knows at most {PASSWORD_LEN_MAX}")
            }
            Self::KgLength { len } => write!(f, "Kg has {len} bytes; it must have 1 to {PASSWORD_LEN_MAX}"),
            Self::GuidMalformed { guid } => {
                write!(f, "guid {guid:?} is not 32 hexadecimal digits (as `ipmitool raw 6 0x37` prints them)")
            }
            Self::GuidBlank { guid } => {
                write!(
                    f,
                    "guid {guid} is blank: a BMC that calls itself so could be any host's; give it a GUID"
                )
            }
        }
    }
}

impl std::error::Error for IpmiConfigError {}

impl IpmiConfig {
    /// Checks lengths and the GUID (32 hexadecimal digits in wire order, either case).
    ///
    /// # Errors
    /// The first thing that cannot be used.
    pub fn new(
        address: SocketAddr,
        user: String,
        password: Secret,
        kg: Option<Secret>,
        suite: Suite,
        privilege: Privilege,
        guid: &str,
    ) -> Result<Self, IpmiConfigError> {
        if user.len() > USER_LEN_MAX {
            return Err(IpmiConfigError::UserTooLong { len: user.len() });
        }
        if password.is_empty() {
            return Err(IpmiConfigError::PasswordEmpty);
        }
        if password.len() > PASSWORD_LEN_MAX {
            return Err(IpmiConfigError::PasswordTooLong { len: password.len() });
        }
        if let Some(kg) = &kg
            && (kg.is_empty() || kg.len() > PASSWORD_LEN_MAX)
        {
            return Err(IpmiConfigError::KgLength { len: kg.len() });
        }
        if guid.len() != 32 || !guid.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(IpmiConfigError::GuidMalformed { guid: guid.to_owned() });
        }
        let guid = Identity(guid.to_ascii_lowercase());
        if guid.is_blank() {
            // SAFE-4: a reading must come from a device bound to the host; a blank GUID binds nothing.
            return Err(IpmiConfigError::GuidBlank { guid: guid.0 });
        }
        Ok(Self { address, user, password, kg, suite, privilege, guid })
    }

    /// Where the BMC listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The BMC's GUID as configured.
    #[must_use]
    pub fn guid(&self) -> &Identity {
        &self.guid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(
        user: &str,
        password: &str,
        kg: Option<&str>,
        guid: &str,
    ) -> Result<IpmiConfig, IpmiConfigError> {
        IpmiConfig::new(
            ([127, 0, 0, 1], 623).into(),
            user.into(),
            Secret::new(password.into()),
            kg.map(|kg| Secret::new(kg.into())),
            Suite::Seventeen,
            Privilege::Operator,
            guid,
        )
    }

    const GUID: &str = "A123456789abcdefa123456789abcde1";

    #[test]
    fn a_config_is_checked_once() {
        let good = config("admin", "secret", None, GUID).unwrap();
        assert_eq!(good.guid().0, GUID.to_ascii_lowercase());
        assert!(config(&"u".repeat(16), &"p".repeat(20), Some(&"k".repeat(20)), GUID).is_ok());
        let fails = |user: &str, password: &str, kg: Option<&str>, guid: &str| {
            config(user, password, kg, guid).unwrap_err()
        };
        assert_eq!(fails(&"u".repeat(17), "p", None, GUID), IpmiConfigError::UserTooLong { len: 17 });
        assert_eq!(fails("u", "", None, GUID), IpmiConfigError::PasswordEmpty);
        assert_eq!(fails("u", &"p".repeat(21), None, GUID), IpmiConfigError::PasswordTooLong { len: 21 });
        assert_eq!(fails("u", "p", Some(""), GUID), IpmiConfigError::KgLength { len: 0 });
        assert_eq!(fails("u", "p", Some(&"k".repeat(21)), GUID), IpmiConfigError::KgLength { len: 21 });
        assert!(matches!(fails("u", "p", None, "a1"), IpmiConfigError::GuidMalformed { .. }));
        assert!(matches!(fails("u", "p", None, &"é".repeat(16)), IpmiConfigError::GuidMalformed { .. }));
        for blank in ["0".repeat(32), "f".repeat(32), "F".repeat(32)] {
            assert!(matches!(fails("u", "p", None, &blank), IpmiConfigError::GuidBlank { .. }), "SAFE-4");
        }
    }

    #[test]
    fn safe_6_a_config_prints_without_its_secrets() {
        let shown = format!("{:?}", config("admin", "hunter2", Some("kgkgkg"), GUID).unwrap());
        assert!(!shown.contains("hunter2") && !shown.contains("kgkgkg"), "{shown}");
    }
}
