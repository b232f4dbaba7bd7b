//! Fence agents of ClusterLabs (FenceAgentAPI): any program that takes `action=off` and the like on its standard input.
//!
//! Decides nothing: it has the agent do `off`, `on` or `status`, and hands back what came. An agent's success is no proof; its
//! status afterwards is the reading (SAFE-4). What cannot be had: a device's own name for itself. The settings alone say which
//! plug, domain or blade is the host's, so [`Driver`] compares what it is given with what the agent says that it understands.
//!
//! From the bottom: `metadata` reads what an agent says of itself, `driver` is the device.

mod driver;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod metadata;

use core::fmt;
use std::collections::BTreeMap;
use std::path::PathBuf;

pub use driver::Driver;

use crate::Secret;

/// The most settings of one agent.
const OPTIONS_MAX: usize = 64;

/// Which agent, and what it is told. Checked once, by [`AgentConfig::new`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    program: PathBuf,
    options: BTreeMap<String, String>,
    secrets: BTreeMap<String, Secret>,
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentConfigError {
    /// The program is no absolute path.
    Program {
        /// As configured.
        program: PathBuf,
    },
    /// More settings than any agent has.
    TooMany,
    /// A name that no agent has, or that is not the configuration's to set.
    Name {
        /// As configured.
        name: String,
    },
    /// A value that cannot be written on a line of its own.
    Value {
        /// Whose.
        name: String,
    },
}

impl fmt::Display for AgentConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program { program } => write!(f, "{} is no absolute path", program.display()),
            Self::TooMany => write!(f, "more than {OPTIONS_MAX} settings"),
            Self::Name { name } => write!(f, "{name:?} cannot be a setting of a fence agent"),
            Self::Value { name } => write!(f, "the value of {name:?} holds a line break or is not UTF-8"),
        }
    }
}

impl std::error::Error for AgentConfigError {}

impl AgentConfig {
    /// `program`: an absolute path. `options` and `secrets` go to it line by line as `name=value`, the secrets by its standard
    /// input only; `action` is the driver's own.
    ///
    /// # Errors
    /// The first thing that cannot be used.
    pub fn new(
        program: PathBuf,
        options: BTreeMap<String, String>,
        secrets: BTreeMap<String, Secret>,
    ) -> Result<Self, AgentConfigError> {
        if !program.is_absolute() {
            return Err(AgentConfigError::Program { program });
        }
        if options.len() + secrets.len() > OPTIONS_MAX {
            return Err(AgentConfigError::TooMany);
        }
        let lines = |text: &[u8]| {
            core::str::from_utf8(text)
                .is_ok_and(|text| !text.chars().any(|c| matches!(c, '\n' | '\r' | '\0')))
        };
        let values = options.iter().map(|(name, value)| (name, value.as_bytes()));
        for (name, value) in values.chain(secrets.iter().map(|(name, value)| (name, value.expose()))) {
            let plain =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
            if name.is_empty() || !name.bytes().all(plain) || name == "action" || name == "option" {
                return Err(AgentConfigError::Name { name: name.clone() });
            }
            if !lines(value) {
                return Err(AgentConfigError::Value { name: name.clone() });
            }
        }
        Ok(Self { program, options, secrets })
    }

    /// What people call it.
    fn name(&self) -> String {
        self.program.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(program: &str, name: &str, value: &str) -> Result<AgentConfig, AgentConfigError> {
        let options = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        AgentConfig::new(program.into(), options, BTreeMap::new())
    }

    #[test]
    fn a_config_is_checked_once() {
        assert!(config("/usr/sbin/fence_dummy", "plug", "a b=c").is_ok());
        assert!(matches!(config("fence_dummy", "plug", "1"), Err(AgentConfigError::Program { .. })));
        for name in ["", "action", "option", "Plug", "a b", "a=b", "a\nb"] {
            assert!(matches!(config("/x", name, "1"), Err(AgentConfigError::Name { .. })), "{name:?}");
        }
        for value in ["1\naction=on", "1\r", "\0"] {
            assert!(matches!(config("/x", "plug", value), Err(AgentConfigError::Value { .. })), "{value:?}");
        }
        let secrets = BTreeMap::from([("password".to_owned(), Secret::new(b"a\nb".to_vec()))]);
        let refused = AgentConfig::new("/x".into(), BTreeMap::new(), secrets);
        assert!(matches!(refused, Err(AgentConfigError::Value { .. })));
    }

    #[test]
    fn safe_6_a_config_prints_without_its_secrets() {
        let secrets = BTreeMap::from([("password".to_owned(), Secret::new(b"hunter2".to_vec()))]);
        let config = AgentConfig::new("/x".into(), BTreeMap::new(), secrets).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
