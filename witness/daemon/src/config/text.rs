//! Single values of the configuration, each checked where it is read, so that a message names its line and column.

use palisade_proto::seal::MAX_CLUSTER_NAME;
use palisade_proto::{Drift, Duration};
use serde::Deserialize;

use super::Broker;

const MQTT_PORT: u16 = 1883;
/// Shorter than any lease that a broker can keep up with, longer than any that is of use.
const LEASE_MIN: Duration = Duration::ms(50);
const LEASE_MAX: Duration = Duration::secs(60);
/// Clocks further apart than this are broken, not drifting.
const DRIFT_MAX: Drift = Drift { ppm: 200_000 };

/// A cluster's name: `[a-z0-9-]{1,32}`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct NameText(pub(super) String);

impl TryFrom<String> for NameText {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=MAX_CLUSTER_NAME).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text))
        } else {
            Err(format!("a cluster's name is 1 to {MAX_CLUSTER_NAME} of a-z, 0-9 and -"))
        }
    }
}

/// A lease's length.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct DurationText(pub(super) Duration);

impl TryFrom<String> for DurationText {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let length: Duration = text.parse().map_err(|error| format!("\"{text}\": {error}"))?;
        if (LEASE_MIN..=LEASE_MAX).contains(&length) {
            Ok(Self(length))
        } else {
            Err(format!("a lease of {length} is not between {LEASE_MIN} and {LEASE_MAX}"))
        }
    }
}

/// A drift bound.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct DriftText(pub(super) Drift);

impl TryFrom<String> for DriftText {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let drift: Drift = text.parse().map_err(|error| format!("\"{text}\": {error}"))?;
        if drift <= DRIFT_MAX { Ok(Self(drift)) } else { Err(format!("a drift of {text} is above 20%")) }
    }
}

/// A broker's address.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct BrokerText(pub(super) Broker);

impl TryFrom<String> for BrokerText {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let expected = || format!("\"{text}\" is not mqtt://HOST[:PORT]");
        if text.starts_with("mqtts://") {
            return Err("TLS to the broker is not supported yet: write mqtt://HOST[:PORT]".to_owned());
        }
        let address = text.strip_prefix("mqtt://").ok_or_else(expected)?;
        let address = address.strip_suffix('/').unwrap_or(address);
        let after_host = address.rfind(']').map_or(0, |bracket| bracket + 1);
        let colon = address.get(after_host..).and_then(|rest| rest.find(':')).map(|at| after_host + at);
        let (host, port) = match colon.and_then(|at| Some((address.get(..at)?, address.get(at + 1..)?))) {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0).ok_or_else(expected)?),
            None => (address, MQTT_PORT),
        };
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let good = match bracketed {
            Some(inside) => inside.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.bytes().all(plain),
        };
        if good { Ok(Self(Broker { host: host.to_owned(), port })) } else { Err(expected()) }
    }
}
