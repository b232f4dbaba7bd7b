//! Managed switches: a host's port is closed by SNMP (`ifAdminStatus` of IF-MIB, RFC 2863), and read back.
//!
//! Decides which of a switch's words mean closed. Never: an order to a port with another alias (SAFE-4); a user of version 3
//! without authentication and privacy.
//!
//! SNMP itself is ours. The one kept client for Rust, `snmp2` 0.5, takes a late answer for an error of the next question, takes
//! over a boot count from reports that nobody has signed, writes through a shared reference, and keeps passwords in memory that it
//! neither wipes nor hides from a debug print; orders that cut a host off want each of these otherwise.
//!
//! From the bottom: `ber` reads and writes shapes, `message` PDUs, `usm` what version 3 puts around them, `words` what they say of
//! a port (all pure); `session` asks, `driver` is the device.

mod ber;
mod driver;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod message;
mod session;
mod usm;
mod words;

use core::fmt;
use std::net::SocketAddr;

use palisade_ladder::Identity;

use crate::Secret;

pub use driver::Switch;
pub use usm::AuthProtocol;

/// RFC 3411: a user's name has at most 32 bytes.
const USER_LEN_MAX: usize = 32;
/// RFC 2863: ifAlias has at most 64 characters, ifName 255.
const ALIAS_LEN_MAX: usize = 64;
const NAME_LEN_MAX: usize = 255;

/// Which port of the switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortRef {
    /// By ifName.
    Name(String),
    /// By ifIndex, for switches whose ports have no names.
    Index(u32),
}

/// Who the switch is told one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// Version 2c. The community goes in the clear, and nothing is signed.
    Community(Secret),
    /// Version 3, with authentication and privacy (AES-128).
    User {
        /// The user's name.
        user: String,
        /// With what messages are signed.
        auth_protocol: AuthProtocol,
        /// At least eight bytes.
        auth_password: Secret,
        /// At least eight bytes.
        priv_password: Secret,
    },
}

/// Which port of which switch, and how to log in. Checked once, by [`SwitchConfig::new`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchConfig {
    address: SocketAddr,
    port: PortRef,
    alias: Identity,
    login: Login,
}

/// Why a configuration cannot be used. None of it shows a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwitchConfigError {
    /// The port has no name, or one that no port can have.
    Port,
    /// The alias is empty or longer than 64 bytes.
    Alias,
    /// The community is empty.
    Community,
    /// The user's name is empty or longer than 32 bytes.
    User,
    /// A password of version 3 has less than eight bytes (RFC 3414 section 11.2).
    Password {
        /// The setting's name.
        which: &'static str,
    },
}

impl fmt::Display for SwitchConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port => f.write_str("no port has such a name or index"),
            Self::Alias => write!(f, "an alias has 1 to {ALIAS_LEN_MAX} bytes"),
            Self::Community => f.write_str("the community is empty"),
            Self::User => write!(f, "an SNMP user has 1 to {USER_LEN_MAX} bytes"),
            Self::Password { which } => {
                write!(
                    f,
                    "{which} has less than {} bytes: SNMPv3 takes none that short",
                    usm::PASSWORD_LEN_MIN
                )
            }
        }
    }
}

impl std::error::Error for SwitchConfigError {}

impl SwitchConfig {
    /// `alias`: what the port's ifAlias must be; it binds the port to its host.
    ///
    /// # Errors
    /// The first thing that cannot be used.
    pub fn new(
        address: SocketAddr,
        port: PortRef,
        alias: &str,
        login: Login,
    ) -> Result<Self, SwitchConfigError> {
        let named = match &port {
            PortRef::Name(name) => (1..=NAME_LEN_MAX).contains(&name.len()),
            PortRef::Index(index) => (1..=0x7fff_ffff).contains(index),
        };
        if !named {
            return Err(SwitchConfigError::Port);
        }
        if !(1..=ALIAS_LEN_MAX).contains(&alias.len()) {
            return Err(SwitchConfigError::Alias);
        }
        match &login {
            Login::Community(community) if community.is_empty() => return Err(SwitchConfigError::Community),
            Login::User { user, .. } if !(1..=USER_LEN_MAX).contains(&user.len()) => {
                return Err(SwitchConfigError::User);
            }
            Login::User { auth_password, priv_password, .. } => {
                for (which, password) in [("auth_password", auth_password), ("priv_password", priv_password)]
                {
                    if password.len() < usm::PASSWORD_LEN_MIN {
                        return Err(SwitchConfigError::Password { which });
                    }
                }
            }
            Login::Community(_) => {}
        }
        Ok(Self { address, port, alias: Identity(alias.to_owned()), login })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_is_checked_once() {
        let address: SocketAddr = "10.77.1.50:161".parse().unwrap();
        let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
        let config =
            |port: PortRef, alias: &str, login: Login| SwitchConfig::new(address, port, alias, login);
        let name = || PortRef::Name("Gi1/0/12".to_owned());
        let community = |text: &str| Login::Community(secret(text));
        let user = |user: &str, auth: &str, privacy: &str| Login::User {
            user: user.to_owned(),
            auth_protocol: AuthProtocol::Sha256,
            auth_password: secret(auth),
            priv_password: secret(privacy),
        };
        assert!(config(name(), "b", community("private")).is_ok());
        assert!(config(PortRef::Index(12), "b", user("palisade", "12345678", "12345678")).is_ok());
        assert_eq!(config(PortRef::Index(0), "b", community("c")), Err(SwitchConfigError::Port));
        assert_eq!(config(PortRef::Name(String::new()), "b", community("c")), Err(SwitchConfigError::Port));
        assert_eq!(config(name(), "", community("c")), Err(SwitchConfigError::Alias), "SAFE-4");
        assert_eq!(config(name(), &"b".repeat(65), community("c")), Err(SwitchConfigError::Alias));
        assert_eq!(config(name(), "b", community("")), Err(SwitchConfigError::Community));
        assert_eq!(config(name(), "b", user("", "12345678", "12345678")), Err(SwitchConfigError::User));
        for (auth, privacy, which) in
            [("1234567", "12345678", "auth_password"), ("12345678", "", "priv_password")]
        {
            let refused = config(name(), "b", user("palisade", auth, privacy));
            assert_eq!(refused, Err(SwitchConfigError::Password { which }));
        }
    }
}
