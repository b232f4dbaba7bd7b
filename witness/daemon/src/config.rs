//! The configuration file: read once, checked in full, turned into types that need no further check.

mod error;
mod secret;
mod text;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use palisade_proto::seal::{Keyring, MAX_CLUSTER_NAME, MAX_KEYS, RootKey};
use palisade_proto::{Drift, Duration, MAX_HOSTS};
use serde::Deserialize;
use zeroize::Zeroizing;

pub(crate) use error::ConfigError;
use error::Source;
use secret::{SecretPlace, SecretText};
use text::{BrokerText, DriftText, DurationText, NameText};

/// The largest configuration that is read: 1,000 clusters take an eighth of it.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Fetches a secret from its place, or says why not.
type ReadSecret = fn(&SecretPlace) -> Result<Zeroizing<Vec<u8>>, String>;

/// How to reach the broker, and the clusters to serve.
#[derive(Debug)]
pub(crate) struct Config {
    settings: Settings,
    clusters: Vec<ClusterConfig>,
}

/// The broker.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) broker: Broker,
    pub(crate) login: Option<Login>,
}

/// `mqtt://HOST[:PORT]`; an IPv6 address stands in brackets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broker {
    host: String,
    port: u16,
}

impl Broker {
    /// As rumqttc wants it, which joins host and port with a colon: with the brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mqtt://{}:{}", self.host, self.port)
    }
}

/// What the broker asks for.
pub(crate) struct Login {
    pub(crate) username: String,
    pub(crate) password: Zeroizing<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFE-6: no secret in logs.
        write!(f, "Login({:?}, password not shown)", self.username)
    }
}

/// One cluster.
#[derive(Debug)]
pub(crate) struct ClusterConfig {
    pub(crate) name: Box<str>,
    pub(crate) keyring: Keyring,
    pub(crate) lease: Duration,
    pub(crate) drift: Drift,
    /// The most hosts it has: how much memory it gets.
    pub(crate) hosts: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    broker: BrokerText,
    username: Option<toml::Spanned<String>>,
    password: Option<toml::Spanned<SecretText>>,
    #[serde(default)]
    cluster: Vec<ClusterText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterText {
    name: toml::Spanned<NameText>,
    keys: toml::Spanned<Vec<toml::Spanned<KeyText>>>,
    lease: DurationText,
    drift: DriftText,
    hosts: Option<toml::Spanned<u8>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyText {
    id: u8,
    file: Option<String>,
    credential: Option<String>,
}

impl Config {
    /// Reads and checks the file, and every secret that it names.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let text = secret::read_bounded(path, FILE_BYTES_MAX)
            .and_then(|bytes| String::from_utf8(bytes.to_vec()).map_err(std::io::Error::other))
            .map_err(|error| ConfigError::unreadable(&name, &error))?;
        Self::parse(&Source { name: &name, text: &text }, SecretPlace::read)
    }

    /// `read` fetches a secret from its place.
    fn parse(source: &Source<'_>, read: ReadSecret) -> Result<Self, ConfigError> {
        let file: FileText = toml::from_str(source.text).map_err(|error| source.toml_error(&error))?;
        let login = login(source, file.username, file.password, read)?;
        if file.cluster.is_empty() {
            return Err(source.error(0..0, "no [[cluster]] is configured"));
        }
        let mut seen = BTreeMap::new();
        let mut clusters = Vec::with_capacity(file.cluster.len());
        for text in file.cluster {
            let span = text.name.span();
            let config = cluster(source, text, read)?;
            if let Some(before) = seen.insert(config.name.clone(), source.line(span.start)) {
                let what = format!("cluster \"{}\" stands already on line {before}", config.name);
                return Err(source.error(span, what));
            }
            clusters.push(config);
        }
        Ok(Self { settings: Settings { broker: file.broker.0, login }, clusters })
    }

    pub(crate) fn into_parts(self) -> (Settings, Vec<ClusterConfig>) {
        (self.settings, self.clusters)
    }
}

fn login(
    source: &Source<'_>,
    username: Option<toml::Spanned<String>>,
    password: Option<toml::Spanned<SecretText>>,
    read: ReadSecret,
) -> Result<Option<Login>, ConfigError> {
    let (username, password) = match (username, password) {
        (None, None) => return Ok(None),
        (Some(username), None) => return Err(source.error(username.span(), "a username without a password")),
        (None, Some(password)) => return Err(source.error(password.span(), "a password without a username")),
        (Some(username), Some(password)) => (username.into_inner(), password),
    };
    let span = password.span();
    let wrong = |what: String| source.error(span.clone(), what);
    let bytes = password.into_inner().place().and_then(|place| read(&place)).map_err(wrong)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong("the password is not UTF-8".to_owned()))?;
    let password = Zeroizing::new(text.strip_suffix('\n').unwrap_or(text).to_owned());
    Ok(Some(Login { username, password }))
}

fn cluster(source: &Source<'_>, text: ClusterText, read: ReadSecret) -> Result<ClusterConfig, ConfigError> {
    let name = text.name.into_inner().0;
    debug_assert!(name.len() <= MAX_CLUSTER_NAME);
    let hosts = match text.hosts {
        None => MAX_HOSTS,
        Some(hosts) => match usize::from(*hosts.get_ref()) {
            count if (2..=MAX_HOSTS).contains(&count) => count,
            _ => return Err(source.error(hosts.span(), format!("a cluster has 2 to {MAX_HOSTS} hosts"))),
        },
    };
    let span = text.keys.span();
    let texts = text.keys.into_inner();
    if texts.len() > MAX_KEYS {
        return Err(source.error(span, format!("at most {MAX_KEYS} keys")));
    }
    let mut keys = Vec::with_capacity(texts.len());
    for text in texts {
        let span = text.span();
        let key = key(text.into_inner(), read).map_err(|what| source.error(span, what))?;
        keys.push(key);
    }
    let keyring = Keyring::new(&name, keys).map_err(|error| source.error(span, error.to_string()))?;
    Ok(ClusterConfig { name: name.into(), keyring, lease: text.lease.0, drift: text.drift.0, hosts })
}

fn key(text: KeyText, read: ReadSecret) -> Result<(u8, RootKey), String> {
    let place = SecretText { file: text.file, credential: text.credential }.place()?;
    let bytes = read(&place)?;
    let key = RootKey::parse(&bytes).map_err(|error| format!("{place}: {error}"))?;
    Ok((text.id, key))
}

#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;
