//! The file as it is written: every key that may stand in it, with its place, and nothing checked yet.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

pub(super) type Text = Spanned<String>;
pub(super) type Number = Spanned<i64>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a configuration")]
pub(super) struct RawFile {
    pub(super) cluster: RawCluster,
    #[serde(default)]
    pub(super) timing: RawTiming,
    pub(super) watchdog: Option<Spanned<RawWatchdog>>,
    pub(super) witness: Option<RawWitness>,
    pub(super) telemetry: Option<RawTelemetry>,
    pub(super) metrics: Option<RawMetrics>,
    #[serde(default)]
    pub(super) fencing: RawFencing,
    #[serde(default)]
    pub(super) host: Vec<Spanned<RawHost>>,
    #[serde(default)]
    pub(super) device: Vec<Spanned<RawDevice>>,
    #[serde(default)]
    pub(super) storage: Vec<Spanned<RawStorage>>,
    #[serde(default)]
    pub(super) workload: Vec<Spanned<RawWorkload>>,
    #[serde(default)]
    pub(super) health: RawHealth,
    #[serde(default)]
    pub(super) probe: Vec<Spanned<RawProbe>>,
    #[serde(default)]
    pub(super) operator: Vec<Spanned<RawOperator>>,
    pub(super) orders: Option<Spanned<RawOrders>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawOrders {
    #[serde(default)]
    pub(super) two_operators: Vec<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawOperator {
    pub(super) name: Text,
    pub(super) key: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawCluster {
    pub(super) name: Text,
    pub(super) profile: Option<Text>,
    pub(super) on_quorum_loss: Option<Text>,
    pub(super) keys: Spanned<Vec<RawKey>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table that says where the key lies")]
pub(super) struct RawKey {
    pub(super) id: Number,
    pub(super) file: Option<Text>,
    pub(super) credential: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table that says where the secret lies")]
pub(super) struct RawSecret {
    pub(super) file: Option<Text>,
    pub(super) credential: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawTiming {
    pub(super) heartbeat: Option<Text>,
    pub(super) lease: Option<Text>,
    pub(super) suspect: Option<Text>,
    pub(super) drift: Option<Text>,
    pub(super) grace: Option<Text>,
    pub(super) rejoin_hold: Option<Text>,
    pub(super) join_timeout: Option<Text>,
    pub(super) boot_wait: Option<Text>,
    pub(super) restart_hold: Option<Text>,
    pub(super) cold_off_wait: Option<Text>,
    pub(super) order_deadline: Option<Text>,
    pub(super) broker_round_trip: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawWatchdog {
    pub(super) device: Text,
    pub(super) timeout: Option<Text>,
    pub(super) margin: Option<Text>,
    pub(super) runs_while_frozen: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawWitness {
    pub(super) broker: Text,
    pub(super) keys: Spanned<Vec<RawKey>>,
    pub(super) ca: Option<Text>,
    pub(super) certificate: Option<Text>,
    pub(super) key: Option<Spanned<RawSecret>>,
    pub(super) username: Option<Text>,
    pub(super) password: Option<Spanned<RawSecret>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawTelemetry {
    pub(super) broker: Text,
    pub(super) spool: Option<Text>,
    pub(super) ca: Option<Text>,
    pub(super) certificate: Option<Text>,
    pub(super) key: Option<Spanned<RawSecret>>,
    pub(super) username: Option<Text>,
    pub(super) password: Option<Spanned<RawSecret>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawMetrics {
    pub(super) listen: Text,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawFencing {
    pub(super) budget: Option<Number>,
    pub(super) budget_window: Option<Text>,
    pub(super) after_off: Option<Text>,
    pub(super) mode: Option<Text>,
    pub(super) quarantine_after: Option<Number>,
    pub(super) quarantine_window: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawHost {
    pub(super) id: Number,
    pub(super) name: Text,
    pub(super) machine: Text,
    pub(super) links: Spanned<Vec<Text>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawDevice {
    pub(super) name: Text,
    pub(super) kind: Text,
    pub(super) fences: Text,
    pub(super) level: Option<Number>,
    pub(super) deadline: Option<Text>,
    pub(super) retries: Option<Number>,
    pub(super) race: Option<Spanned<bool>>,
    #[serde(default)]
    pub(super) storage: Vec<Text>,
    // Each of some kinds: which ones is told in `parse_device`.
    pub(super) address: Option<Text>,
    pub(super) user: Option<Text>,
    pub(super) password: Option<Spanned<RawSecret>>,
    pub(super) kg: Option<Spanned<RawSecret>>,
    pub(super) cipher_suite: Option<Number>,
    pub(super) privilege: Option<Text>,
    pub(super) guid: Option<Text>,
    pub(super) auth: Option<Text>,
    pub(super) ca: Option<Text>,
    pub(super) tls_name: Option<Text>,
    pub(super) insecure_http: Option<Spanned<bool>>,
    pub(super) system: Option<Text>,
    pub(super) uuid: Option<Text>,
    pub(super) qmp: Option<Text>,
    pub(super) libvirt: Option<Text>,
    pub(super) port: Option<Spanned<RawPort>>,
    pub(super) alias: Option<Text>,
    pub(super) community: Option<Spanned<RawSecret>>,
    pub(super) auth_protocol: Option<Text>,
    pub(super) auth_password: Option<Spanned<RawSecret>>,
    pub(super) priv_protocol: Option<Text>,
    pub(super) priv_password: Option<Spanned<RawSecret>>,
    pub(super) socket: Option<Text>,
    pub(super) backend: Option<Text>,
    pub(super) server: Option<Text>,
    pub(super) server_address: Option<Text>,
    pub(super) ssh: Option<Text>,
    pub(super) identity: Option<Text>,
    pub(super) known_hosts: Option<Text>,
    pub(super) addresses: Option<Spanned<Vec<Text>>>,
    pub(super) on: Option<Text>,
    pub(super) target: Option<Text>,
    pub(super) iqn: Option<Text>,
    pub(super) initiator: Option<Text>,
    pub(super) agent: Option<Text>,
    pub(super) proof: Option<Text>,
    pub(super) options: Option<Spanned<BTreeMap<Text, RawValue>>>,
    pub(super) secrets: Option<Spanned<BTreeMap<Text, Spanned<RawSecret>>>>,
}

/// A port of a switch: by its name, or by its index.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a port's name, or its index as a whole number")]
pub(super) enum RawPort {
    Name(String),
    Index(i64),
}

/// What a fence agent is told.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a text, a whole number, true or false")]
pub(super) enum RawValue {
    Text(String),
    Number(i64),
    Flag(bool),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawStorage {
    pub(super) name: Text,
    pub(super) path: Text,
    #[serde(default)]
    pub(super) luns: Vec<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawWorkload {
    pub(super) id: Number,
    pub(super) name: Text,
    pub(super) hosts: Spanned<Vec<Text>>,
    pub(super) priority: Option<Number>,
    #[serde(default)]
    pub(super) start_after: Vec<Text>,
    pub(super) anti_affinity: Option<Text>,
    #[serde(default)]
    pub(super) storage: Vec<Text>,
    pub(super) proofs: Option<Spanned<Vec<Text>>>,
    pub(super) start_timeout: Option<Text>,
    pub(super) stop_timeout: Option<Text>,
    pub(super) command: Option<Spanned<RawCommand>>,
    pub(super) systemd: Option<Spanned<RawSystemd>>,
    pub(super) libvirt: Option<Spanned<RawLibvirt>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawCommand {
    pub(super) start: Spanned<Vec<Text>>,
    pub(super) stop: Spanned<Vec<Text>>,
    pub(super) status: Spanned<Vec<Text>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawSystemd {
    pub(super) unit: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawLibvirt {
    pub(super) domain: Text,
    pub(super) xml: Text,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawHealth {
    pub(super) after: Option<Number>,
    pub(super) back: Option<Number>,
    pub(super) l1: Option<Text>,
    pub(super) l2: Option<Text>,
    pub(super) l3: Option<Text>,
    pub(super) l4: Option<Text>,
    pub(super) on_l1: Option<Text>,
    pub(super) on_l2: Option<Text>,
    pub(super) on_l3: Option<Text>,
    pub(super) on_l4: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawProbe {
    pub(super) name: Text,
    pub(super) kind: Text,
    pub(super) level: Option<Text>,
    pub(super) on: Option<Vec<Text>>,
    pub(super) every: Option<Text>,
    pub(super) timeout: Option<Text>,
    pub(super) slow: Option<Text>,
    pub(super) after: Option<Number>,
    pub(super) back: Option<Number>,
    pub(super) on_failure: Option<Text>,
    // Each of some kinds: which ones is told in `parse_probe`.
    pub(super) process: Option<Text>,
    pub(super) unit: Option<Text>,
    pub(super) address: Option<Text>,
    pub(super) url: Option<Text>,
    pub(super) command: Option<Spanned<Vec<Text>>>,
    pub(super) storage: Option<Text>,
    pub(super) path: Option<Text>,
    pub(super) uri: Option<Text>,
    pub(super) within: Option<Text>,
    pub(super) memory: Option<Number>,
    pub(super) pressure: Option<Number>,
    pub(super) disk: Option<Number>,
    pub(super) disk_full: Option<Number>,
    pub(super) disks: Option<Spanned<Vec<Text>>>,
}
