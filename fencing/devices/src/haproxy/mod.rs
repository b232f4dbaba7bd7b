//! HAProxy: a host's server in a load balancer is put into maintenance and its sessions are shut, by the runtime API (the `stats
//! socket`), and both are read back.
//!
//! Decides which of HAProxy's words mean cut off. Never: an order to a server with another address (SAFE-4).
//!
//! From the bottom: `words` reads what HAProxy says (pure), `driver` is the device.

mod driver;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod words;

use core::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use palisade_ladder::Identity;

pub use driver::HaProxy;

/// Longer than any name in use; HAProxy itself has no limit.
const NAME_LEN_MAX: usize = 255;

/// Where the runtime API listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Socket {
    /// At this path (`stats socket PATH level admin`).
    Path(PathBuf),
    /// At this address (`stats socket ipv4@ADDRESS level admin`). It asks nobody who they are.
    Address(SocketAddr),
}

/// Which server of which load balancer. Checked once, by [`HaProxyConfig::new`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HaProxyConfig {
    socket: Socket,
    backend: String,
    server: String,
    address: Identity,
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HaProxyConfigError {
    /// The socket's path is not absolute.
    Path {
        /// As configured.
        path: PathBuf,
    },
    /// HAProxy gives nothing such a name.
    Name {
        /// As configured.
        name: String,
    },
    /// The address is one of all hosts, or of none.
    Address {
        /// As configured.
        address: IpAddr,
    },
}

impl fmt::Display for HaProxyConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path { path } => write!(f, "{} is no absolute path", path.display()),
            Self::Name { name } => write!(f, "{name:?} is no name of HAProxy's"),
            Self::Address { address } => write!(f, "{address} is no server's address"),
        }
    }
}

impl std::error::Error for HaProxyConfigError {}

impl HaProxyConfig {
    /// `address`: the server's, which binds it to its host.
    ///
    /// # Errors
    /// The first thing that cannot be used.
    pub fn new(
        socket: Socket,
        backend: &str,
        server: &str,
        address: IpAddr,
    ) -> Result<Self, HaProxyConfigError> {
        if let Socket::Path(path) = &socket
            && !path.is_absolute()
        {
            return Err(HaProxyConfigError::Path { path: path.clone() });
        }
        // As HAProxy itself has them; so none of them ends a command or begins one.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        for name in [backend, server] {
            if !(1..=NAME_LEN_MAX).contains(&name.len()) || !name.bytes().all(plain) {
                return Err(HaProxyConfigError::Name { name: name.to_owned() });
            }
        }
        if address.is_unspecified() || address.is_multicast() {
            return Err(HaProxyConfigError::Address { address });
        }
        let address = Identity(address.to_string());
        Ok(Self { socket, backend: backend.to_owned(), server: server.to_owned(), address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_is_checked_once() {
        let config = |path: &str, backend: &str, server: &str, address: &str| {
            HaProxyConfig::new(Socket::Path(path.into()), backend, server, address.parse().unwrap())
        };
        assert_eq!(config("/run/h", "web", "b", "FD00::2").unwrap().address.0, "fd00::2");
        assert!(matches!(config("h", "web", "b", "10.0.0.2"), Err(HaProxyConfigError::Path { .. })));
        for name in ["", "a b", "a;quit", "a/b", "a\n", &"x".repeat(256)] {
            assert!(
                matches!(config("/h", name, "b", "10.0.0.2"), Err(HaProxyConfigError::Name { .. })),
                "{name:?}"
            );
            assert!(
                matches!(config("/h", "web", name, "10.0.0.2"), Err(HaProxyConfigError::Name { .. })),
                "{name:?}"
            );
        }
        for address in ["0.0.0.0", "::", "224.0.0.1"] {
            let refused = config("/h", "web", "b", address);
            assert!(matches!(refused, Err(HaProxyConfigError::Address { .. })), "SAFE-4: {address}");
        }
    }
}
