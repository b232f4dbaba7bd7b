//! Small values with a strict shape: machine ids, brokers, references to secrets.

use core::fmt;
use std::path::{Path, PathBuf};

use palisade_ladder::Identity;

/// A machine's DMI product UUID; never one that many boards ship with ([`Identity::is_blank`]).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineId([u8; 16]);

impl MachineId {
    /// Reads `4c4c4544-0051-3510-8052-b4c04f4d3132`, upper or lower case, as `/sys/class/dmi/id/product_uuid` prints it.
    /// `None` if it is not a UUID or a blank one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let groups: Vec<&str> = text.split('-').collect();
        if groups.iter().map(|group| group.len()).ne([8, 4, 4, 4, 12]) {
            return None;
        }
        let bytes = hex(&groups.concat())?;
        (!is_blank(&bytes)).then_some(Self(bytes))
    }

    /// The sixteen bytes in the order of the text.
    #[must_use]
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Thirty-two hexadecimal digits as sixteen bytes.
pub(super) fn hex(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)
}

/// A name that names nobody.
pub(super) fn is_blank(bytes: &[u8; 16]) -> bool {
    Identity(hex_digits(*bytes)).is_blank()
}

/// Sixteen bytes as thirty-two lower-case hexadecimal digits.
pub(super) fn hex_digits(bytes: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(bytes))
}

/// An MQTT broker: `mqtt://HOST[:PORT]`, or `mqtts://HOST[:PORT]` for TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: Option<BrokerTls>,
}

impl Broker {
    /// Name or address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port, by default 1883, or 8883 with TLS.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How it is known, and how it knows this host; `None`: in clear.
    #[must_use]
    pub fn tls(&self) -> Option<&BrokerTls> {
        self.tls.as_ref()
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "mqtts" } else { "mqtt" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// TLS with a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerTls {
    pub(super) ca: PathBuf,
    pub(super) client: Option<(PathBuf, SecretRef)>,
}

impl BrokerTls {
    /// The certificates of whoever may have signed the broker's, in PEM form. Nobody else is believed.
    #[must_use]
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// This host's certificate with those that lead to its CA, in PEM form, and where its private key lies.
    #[must_use]
    pub fn client(&self) -> Option<(&Path, &SecretRef)> {
        self.client.as_ref().map(|(certificate, key)| (certificate.as_path(), key))
    }
}

/// Where a secret lies; the secret itself is never in the configuration (SAFE-6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    /// An absolute path to a file of root's with mode 0600 or less.
    File(PathBuf),
    /// The name of a systemd credential, in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Credential(name) => write!(f, "credential {name}"),
        }
    }
}

/// One key of a rotation: its id on the wire and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRef {
    pub(super) id: u8,
    pub(super) secret: SecretRef,
}

impl KeyRef {
    /// The id that sealed packets name.
    #[must_use]
    pub fn id(&self) -> u8 {
        self.id
    }

    /// Where the key lies.
    #[must_use]
    pub fn secret(&self) -> &SecretRef {
        &self.secret
    }
}
