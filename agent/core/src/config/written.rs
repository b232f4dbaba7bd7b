//! A configuration that still has its text, so that a recording can carry it; and the same one with other times.

use std::fmt;
use std::sync::Arc;

use palisade_proto::Duration;
use serde::{Deserialize, Serialize};

use super::{Cluster, ConfigError, Timing, source::Source};

/// What messages call a configuration that comes out of a recording.
const RECORDED: &str = "the recorded configuration";

/// A checked configuration together with the text that says it. Serialised it is the text alone, and it is checked again when
/// it is read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Written {
    text: Arc<str>,
    cluster: Arc<Cluster>,
}

impl Written {
    /// Checks `text` as [`Cluster::parse`] does, and keeps it.
    ///
    /// # Errors
    /// Those of [`Cluster::parse`].
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        Ok(Self { cluster: Arc::new(Cluster::parse(text, name)?), text: text.into() })
    }

    /// What it says.
    #[must_use]
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// The file's text. It names secrets by where they lie and holds none (SAFE-6).
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The same file with other times in its place; the text stays.
    ///
    /// # Errors
    /// The times contradict one another (SAFE-10).
    pub fn with(&self, overrides: &[Override]) -> Result<Self, ConfigError> {
        let cluster = Cluster::parse_with(&self.text, RECORDED, overrides)?;
        Ok(Self { text: Arc::clone(&self.text), cluster: Arc::new(cluster) })
    }
}

impl From<Written> for String {
    fn from(written: Written) -> Self {
        Self::from(&*written.text)
    }
}

impl TryFrom<String> for Written {
    type Error = ConfigError;

    fn try_from(text: String) -> Result<Self, ConfigError> {
        Self::parse(&text, RECORDED)
    }
}

type Field = fn(&mut Timing) -> &mut Duration;

/// The settings of `[timing]` that can be replaced. Not `lease` and `drift`: the peers' recorded words promise theirs.
const SETTABLE: [(&str, Field); 10] = [
    ("heartbeat", |timing| &mut timing.heartbeat),
    ("suspect", |timing| &mut timing.suspect),
    ("grace", |timing| &mut timing.grace),
    ("rejoin_hold", |timing| &mut timing.rejoin_hold),
    ("join_timeout", |timing| &mut timing.join_timeout),
    ("boot_wait", |timing| &mut timing.boot_wait),
    ("restart_hold", |timing| &mut timing.restart_hold),
    ("cold_off_wait", |timing| &mut timing.cold_off_wait),
    ("order_deadline", |timing| &mut timing.order_deadline),
    ("broker_round_trip", |timing| &mut timing.broker_round_trip),
];

/// Another value for one setting of `[timing]`, as `suspect=2s`.
#[derive(Clone, Copy)]
pub struct Override {
    key: &'static str,
    field: Field,
    value: Duration,
}

impl Override {
    /// Reads `KEY=VALUE`; the key as it stands in `[timing]`, the value as it would stand there, without quotes.
    ///
    /// # Errors
    /// In one message: what is wrong, and what can be written.
    pub fn parse(text: &str) -> Result<Self, String> {
        let keys = || SETTABLE.map(|(key, _)| key).join(", ");
        let Some((key, value)) = text.split_once('=') else {
            return Err(format!("`{text}` is no setting; write KEY=VALUE, such as suspect=2s"));
        };
        let key = key.trim().strip_prefix("timing.").unwrap_or(key.trim());
        if matches!(key, "lease" | "drift") {
            return Err(format!(
                "{key} cannot be set: every recorded heartbeat of a peer promises the recorded one; can be set: {}",
                keys()
            ));
        }
        let Some((key, field)) = SETTABLE.iter().find(|(name, _)| *name == key) else {
            return Err(format!("there is no setting `{key}` in [timing]; can be set: {}", keys()));
        };
        let value = value.trim().trim_matches('"');
        let written = toml::Spanned::new(0..value.len(), value.to_owned());
        let value =
            Source { text: value, name: key }.duration(&written).map_err(|error| error.to_string())?;
        Ok(Self { key, field: *field, value })
    }

    /// Its name in a contradiction.
    pub(super) fn name(&self) -> String {
        format!("timing.{}", self.key)
    }

    pub(super) fn apply(&self, timing: &mut Timing) {
        *(self.field)(timing) = self.value;
    }
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.key, self.value)
    }
}

impl fmt::Debug for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
