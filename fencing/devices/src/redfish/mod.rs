//! Redfish (DSP0266 1.20, schema ComputerSystem of DSP8010): powers a host off through its BMC's web service.
//!
//! Decides nothing: it reads the one ComputerSystem whose UUID is the configured one, orders it `ForceOff` or `On`, and hands
//! back the service's own words. It never restarts a system, and never sends an order to a system with another UUID. An accepted
//! order is no success: many services answer at once and switch seconds later.
//!
//! From the bottom: `resource` reads what the service says (pure), `tls` knows the service, `http` carries one request at a time,
//! `session` logs in, `driver` is the device.

mod driver;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod http;
mod resource;
mod session;
mod tls;

use core::fmt;
use std::net::SocketAddr;

use palisade_ladder::Identity;

pub use driver::Redfish;
pub use tls::Tls;

use crate::Secret;

/// How to show who one is (DSP0266 section 13.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// A session with a token, kept between commands; user and password with each request while the service has none to give.
    #[default]
    Session,
    /// User and password with each request, for services without sessions.
    Basic,
}

/// What it takes to speak with one Redfish service about one system; checked once, by [`RedfishConfig::new`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedfishConfig {
    address: SocketAddr,
    tls: Option<Tls>,
    user: String,
    password: Secret,
    auth: Auth,
    system: Option<String>,
    uuid: Identity,
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedfishConfigError {
    /// The CA's certificates cannot be used.
    Ca {
        /// What is wrong.
        error: String,
    },
    /// The name that the certificate is to carry is neither a host name nor an address.
    TlsName {
        /// As configured.
        name: String,
    },
    /// The user is empty, or holds what HTTP cannot carry.
    User,
    /// The password is empty or no UTF-8.
    Password,
    /// The UUID is not 32 hexadecimal digits, or says nothing.
    Uuid {
        /// As configured.
        uuid: String,
    },
}

impl fmt::Display for RedfishConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ca { error } => write!(f, "the CA's certificates cannot be used: {error}"),
            Self::TlsName { name } => write!(f, "{name:?} is neither a host name nor an address"),
            Self::User => f.write_str("the user is empty, or holds a colon or a control character"),
            Self::Password => f.write_str("the password is empty or not UTF-8"),
            Self::Uuid { uuid } => write!(f, "uuid {uuid:?} is not 32 hexadecimal digits that say something"),
        }
    }
}

impl std::error::Error for RedfishConfigError {}

impl RedfishConfig {
    /// Checks what the service would choke on. `system` is the path of the ComputerSystem; without it the only one, or the
    /// one with this UUID, is taken. `uuid`: ComputerSystem.UUID, 32 hexadecimal digits, without hyphens, either case.
    ///
    /// # Errors
    /// The first thing that cannot be used.
    pub fn new(
        address: SocketAddr,
        tls: Option<Tls>,
        user: String,
        password: Secret,
        auth: Auth,
        system: Option<String>,
        uuid: &str,
    ) -> Result<Self, RedfishConfigError> {
        // RFC 7617, section 2: a user name with a colon cannot be told from the password.
        if user.is_empty() || user.chars().any(|c| c == ':' || c.is_control()) {
            return Err(RedfishConfigError::User);
        }
        if password.is_empty() || core::str::from_utf8(password.expose()).is_err() {
            return Err(RedfishConfigError::Password);
        }
        let uuid = Identity(uuid.to_ascii_lowercase());
        if uuid.0.len() != 32 || !uuid.0.bytes().all(|b| b.is_ascii_hexdigit()) || uuid.is_blank() {
            return Err(RedfishConfigError::Uuid { uuid: uuid.0 });
        }
        Ok(Self { address, tls, user, password, auth, system, uuid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(user: &str, password: &[u8], uuid: &str) -> Result<RedfishConfig, RedfishConfigError> {
        let address = ([127, 0, 0, 1], 443).into();
        let password = Secret::new(password.to_vec());
        RedfishConfig::new(address, None, user.into(), password, Auth::Session, None, uuid)
    }

    const UUID: &str = "4C4C454400513510805200000000000a";

    #[test]
    fn a_config_is_checked_once() {
        assert_eq!(config("admin", b"secret", UUID).unwrap().uuid.0, UUID.to_ascii_lowercase());
        for user in ["", "a:b", "a\nb"] {
            assert_eq!(config(user, b"secret", UUID), Err(RedfishConfigError::User), "{user:?}");
        }
        for password in [&b""[..], b"\xff"] {
            assert_eq!(config("admin", password, UUID), Err(RedfishConfigError::Password));
        }
        for uuid in ["", "a1", &"0".repeat(32), &"F".repeat(32), &"g".repeat(32)] {
            let refused = config("admin", b"secret", uuid);
            assert!(matches!(refused, Err(RedfishConfigError::Uuid { .. })), "SAFE-4: {uuid}");
        }
    }

    #[test]
    fn safe_6_a_config_prints_without_its_secrets() {
        let shown = format!("{:?}", config("admin", b"hunter2", UUID).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
