//! Hosts that enforce a cut: mostly some that are guarded by nobody here, such as a storage host or a router, spoken to over ssh, by
//! the system's own OpenSSH client; or this one.
//!
//! Decides what the client's words mean, and when an order may still be carried out. Never: what is cut, and what reads as cut;
//! that is a [`Point`] of a kind of its own. A host is known by its host key, pinned in a file of ours; the client reads no other
//! file and asks no agent, and no secret is in its arguments or environment (SAFE-6).
//!
//! From the bottom: `words` reads what the client says (pure), `shell` is one login, `enforcing` is the device.

mod enforcing;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod shell;
pub(crate) mod words;

use core::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

pub use enforcing::{Enforcing, Point};

/// Longer than any name that useradd takes.
const USER_MAX: usize = 32;

/// Whom to log in as, where, and how both sides are known. Checked once, by [`SshConfig::new`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshConfig {
    user: String,
    address: SocketAddr,
    identity: PathBuf,
    known_hosts: PathBuf,
}

/// Which host enforces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Site {
    /// Another one, over ssh.
    There(SshConfig),
    /// This one.
    Here,
}

impl From<SshConfig> for Site {
    fn from(config: SshConfig) -> Self {
        Self::There(config)
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::There(config) => config.fmt(f),
            Self::Here => f.write_str("this host"),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SshConfigError {
    /// No name of a user.
    User {
        /// As configured.
        user: String,
    },
    /// No path that the client would take as it is.
    Path {
        /// As configured.
        path: PathBuf,
    },
}

impl fmt::Display for SshConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User { user } => write!(f, "{user:?} is no name of a user"),
            Self::Path { path } => write!(
                f,
                "{:?} is no absolute path of letters, digits, slashes, dots, hyphens and underscores",
                path.display().to_string()
            ),
        }
    }
}

impl std::error::Error for SshConfigError {}

impl SshConfig {
    /// `identity` is the file of the private key, which has no passphrase; `known_hosts` the file with the host's key, as
    /// `ssh-keyscan` prints it.
    ///
    /// # Errors
    /// The first thing that cannot be used.
    pub fn new(
        user: &str,
        address: SocketAddr,
        identity: PathBuf,
        known_hosts: PathBuf,
    ) -> Result<Self, SshConfigError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-".contains(&byte);
        let first = |first: u8| first.is_ascii_lowercase() || first == b'_';
        if !user.bytes().next().is_some_and(first) || !user.bytes().all(plain) || user.len() > USER_MAX {
            return Err(SshConfigError::User { user: user.to_owned() });
        }
        for path in [&identity, &known_hosts] {
            // In its options the client splits at spaces, and replaces what follows a percent sign, a tilde or a dollar.
            let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
            if !path.is_absolute() || !path.as_os_str().as_encoded_bytes().iter().all(plain) {
                return Err(SshConfigError::Path { path: path.clone() });
            }
        }
        Ok(Self { user: user.to_owned(), address, identity, known_hosts })
    }

    /// `user@address`, as the client takes it.
    fn destination(&self) -> String {
        format!("{}@{}", self.user, self.address.ip())
    }

    /// How a file of known hosts calls it.
    fn known_as(&self) -> String {
        match (self.address.port(), self.address.ip()) {
            (22, ip) => ip.to_string(),
            (port, IpAddr::V4(_) | IpAddr::V6(_)) => format!("[{}]:{port}", self.address.ip()),
        }
    }
}

impl fmt::Display for SshConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.user, self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_is_checked_once() {
        let with = |user: &str, path: &str| {
            SshConfig::new(user, "10.0.0.1:22".parse().unwrap(), path.into(), "/etc/known_hosts".into())
        };
        assert_eq!(with("palisade", "/etc/palisade/id_ed25519").unwrap().to_string(), "palisade@10.0.0.1:22");
        for user in ["", "-oProxyCommand=x", "a b", "a@b", "Root", &"a".repeat(33)] {
            assert!(matches!(with(user, "/x"), Err(SshConfigError::User { .. })), "{user:?}");
        }
        for path in ["id", "/a b", "/%h", "/~/x", "/${HOME}", "/a\n", "/a\"b"] {
            assert!(matches!(with("palisade", path), Err(SshConfigError::Path { .. })), "{path:?}");
        }
    }
}
