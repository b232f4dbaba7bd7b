//! From what is written to what is checked: the cluster, its hosts and its timing. Devices and workloads have a file each.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use core::ops::Range;

use palisade_proto::{Duration, HostId, MAX_HOSTS, time::voter_length};

use super::{
    AfterOff, Broker, BrokerTls, Cluster, Fencing, FencingMode, Host, KeyRef, Login, MachineId, OnQuorumLoss,
    Profile, SecretRef, Telemetry, Timing, Watchdog, Witness,
    contradiction::contradictions,
    error::{ConfigError, Place},
    raw::{
        RawCluster, RawFencing, RawFile, RawHost, RawKey, RawSecret, RawTelemetry, RawTiming, RawWatchdog,
        RawWitness, Text,
    },
    source::{Seen, Source, shown},
    written::Override,
};

/// The largest configuration that is read (SAFE-12): 32 hosts and 256 workloads need a tenth of it.
const TEXT_MAX: usize = 1 << 20;
/// The longest name of a cluster.
const CLUSTER_NAME_MAX: usize = 32;
/// The most links of one host.
const LINKS_MAX: usize = 4;
/// The least that telemetry's spool may take: some thousands of events.
const SPOOL_MIN: u64 = 1024 * 1024;
/// The most: more events than anybody reads after the broker is back.
const SPOOL_MAX: u64 = 4096 * 1024 * 1024;
/// What it takes by default: days of incidents.
const SPOOL: u64 = 64 * 1024 * 1024;
/// The most keys of one rotation: the old one, the new one, and room for a mistake.
const KEYS_MAX: usize = 4;

/// Where each setting that takes part in the timing check stands, by its name in a contradiction.
pub(super) type Settings = BTreeMap<String, Range<usize>>;

impl Cluster {
    /// Reads and checks a whole configuration. `name` is what messages call the file.
    ///
    /// # Errors
    /// The first mistake found, with its place and the way out; all contradictions between time-outs together (SAFE-10).
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        Self::parse_with(text, name, &[])
    }

    /// The same with some of its times replaced, before they are checked against one another.
    pub(super) fn parse_with(text: &str, name: &str, overrides: &[Override]) -> Result<Self, ConfigError> {
        let source = Source { text, name };
        if text.len() > TEXT_MAX {
            let what = format!("the file has {} bytes, more than {TEXT_MAX}", text.len());
            return Err(source.placeless(what, "is this the right file?"));
        }
        let raw: RawFile = toml::from_str(text).map_err(|error| source.toml_error(&error))?;
        let mut settings = Settings::new();

        let cluster_name = source.cluster_name(&raw.cluster)?;
        let profile = match &raw.cluster.profile {
            Some(text) => {
                source.choice(text, "profile", &[("default", Profile::Default), ("fast", Profile::Fast)])?
            }
            None => Profile::Default,
        };
        let on_quorum_loss = match &raw.cluster.on_quorum_loss {
            Some(text) => {
                let choices = [("stop", OnQuorumLoss::Stop), ("keep", OnQuorumLoss::Keep)];
                source.choice(text, "on_quorum_loss", &choices)?
            }
            None => OnQuorumLoss::Stop,
        };
        let keys = source.keys(raw.cluster.keys.span(), raw.cluster.keys.get_ref())?;
        let hosts = source.hosts(&raw.host)?;
        let mut timing = source.timing(&raw.timing, profile, &mut settings)?;
        for other in overrides {
            other.apply(&mut timing);
            // What the file says of it is not to blame any more.
            settings.remove(&other.name());
        }
        let watchdog =
            raw.watchdog.as_ref().map(|raw| source.watchdog(raw.get_ref(), &mut settings)).transpose()?;
        if let (Some(raw), OnQuorumLoss::Keep) = (&raw.watchdog, on_quorum_loss) {
            // SAFE-3: `keep` arms no watchdog and yields no WatchdogExpired.
            let what = "on_quorum_loss = \"keep\" arms no watchdog, yet one is configured";
            return Err(source.error(
                raw.span(),
                what,
                "remove [watchdog], or write on_quorum_loss = \"stop\"",
            ));
        }
        let witness = raw.witness.as_ref().map(|raw| source.witness(raw, &keys)).transpose()?;
        let telemetry = raw.telemetry.as_ref().map(|raw| source.telemetry(raw)).transpose()?;
        let listen = raw.metrics.as_ref().map(|raw| source.listen(&raw.listen));
        let fencing = source.fencing(&raw.fencing, hosts.len())?;
        let storages = source.storages(&raw.storage)?;
        let devices = source.devices(&raw.device, &hosts, &storages, &mut settings)?;
        let health = source.health(&raw.health)?;
        let probes = source.probes(&raw.probe, &health, &hosts, &storages)?;
        let workloads = source.workloads(&raw.workload, &hosts, &storages)?;

        let operators = source.operators(&raw.operator)?;
        let orders = raw.orders.as_ref().map(|raw| source.orders(raw, telemetry.is_some(), &operators));

        // SAFE-10: a configuration whose time-outs contradict one another does not load, so nothing can arm with it.
        let found = contradictions(&timing, watchdog.as_ref(), witness.is_some(), &devices);
        if !found.is_empty() {
            return Err(source.contradictory(found, &settings));
        }
        Ok(Self {
            name: cluster_name,
            profile,
            on_quorum_loss,
            keys,
            timing,
            watchdog,
            witness,
            telemetry,
            monitoring: listen.transpose()?,
            fencing,
            hosts,
            devices,
            storages,
            workloads,
            operators,
            orders: orders.transpose()?,
            health,
            probes,
        })
    }
}

impl Source<'_> {
    fn cluster_name(&self, raw: &RawCluster) -> Result<String, ConfigError> {
        let name = raw.name.get_ref();
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=CLUSTER_NAME_MAX).contains(&name.len()) && name.bytes().all(allowed) {
            return Ok(name.clone());
        }
        let what = format!("`{}` cannot be the name of a cluster", shown(name));
        Err(self.error(raw.name.span(), what, "use 1 to 32 lower-case letters, digits and hyphens"))
    }

    fn hosts(&self, raw: &[toml::Spanned<RawHost>]) -> Result<Vec<Host>, ConfigError> {
        if let Some(host) = raw.get(MAX_HOSTS) {
            let help = "split the hosts into several clusters";
            return Err(self.error(host.span(), format!("more than {MAX_HOSTS} hosts"), help));
        }
        if raw.len() < 2 {
            let what = format!("a cluster needs at least 2 hosts, this one has {}", raw.len());
            return Err(self.placeless(what, "add a [[host]] for each host"));
        }
        let (mut ids, mut names, mut machines, mut links) =
            (Seen::new(), Seen::new(), Seen::new(), Seen::new());
        let mut hosts = Vec::with_capacity(raw.len());
        for raw in raw.iter().map(toml::Spanned::get_ref) {
            let id: u8 = self.number(&raw.id, 0..=31, "host id")?;
            let help =
                "give each host an id of its own; an id is permanent, so change that of the newer host";
            self.once(&mut ids, id, raw.id.span(), &format!("host id {id}"), help)?;
            let name = self.label(&raw.name, "host")?;
            let help = "give each host a name of its own";
            self.once(&mut names, name.clone(), raw.name.span(), &format!("host name `{name}`"), help)?;
            let machine = self.machine(&raw.machine)?;
            let help = "write what /sys/class/dmi/id/product_uuid says on each host; \
                        two boards that say the same cannot be told apart";
            self.once(&mut machines, machine, raw.machine.span(), &format!("machine {machine}"), help)?;
            let span = raw.links.span();
            if !(1..=LINKS_MAX).contains(&raw.links.get_ref().len()) {
                let what = format!("host `{name}` has {} links", raw.links.get_ref().len());
                return Err(self.error(
                    span,
                    what,
                    format!("name 1 to {LINKS_MAX} UDP addresses of the host"),
                ));
            }
            let mut own = Vec::new();
            for link in raw.links.get_ref() {
                let address = self.address(link, "link address")?;
                let help = "give each link an address and port of its own";
                self.once(&mut links, address, link.span(), &format!("link {address}"), help)?;
                own.push(address);
            }
            let Some(id) = HostId::new(id) else {
                return Err(self.error(
                    raw.id.span(),
                    "host id is out of range",
                    "write a number from 0 to 31",
                ));
            };
            hosts.push(Host { id, name, machine, links: own });
        }
        hosts.sort_by_key(Host::id);
        Ok(hosts)
    }

    fn machine(&self, text: &Text) -> Result<MachineId, ConfigError> {
        MachineId::parse(text.get_ref()).ok_or_else(|| {
            let what = format!("`{}` is no machine's UUID", shown(text.get_ref()));
            let help = "write what /sys/class/dmi/id/product_uuid says on the host, such as \
                        \"4c4c4544-0051-3510-8052-b4c04f4d3132\"; one that many boards ship with (all zeros, all ones, 03000200-...) names no machine";
            self.error(text.span(), what, help)
        })
    }

    fn timing(
        &self,
        raw: &RawTiming,
        profile: Profile,
        settings: &mut Settings,
    ) -> Result<Timing, ConfigError> {
        let mut timing = Timing::of(profile);
        if let Some(text) = &raw.drift {
            timing.drift = self.drift(text)?;
            settings.insert("timing.drift".to_owned(), text.span());
        }
        let lengths = [
            ("heartbeat", &raw.heartbeat, &mut timing.heartbeat),
            ("lease", &raw.lease, &mut timing.lease),
            ("suspect", &raw.suspect, &mut timing.suspect),
            ("grace", &raw.grace, &mut timing.grace),
            ("rejoin_hold", &raw.rejoin_hold, &mut timing.rejoin_hold),
            ("join_timeout", &raw.join_timeout, &mut timing.join_timeout),
            ("boot_wait", &raw.boot_wait, &mut timing.boot_wait),
            ("restart_hold", &raw.restart_hold, &mut timing.restart_hold),
            ("cold_off_wait", &raw.cold_off_wait, &mut timing.cold_off_wait),
            ("order_deadline", &raw.order_deadline, &mut timing.order_deadline),
            ("broker_round_trip", &raw.broker_round_trip, &mut timing.broker_round_trip),
        ];
        for (name, text, field) in lengths {
            if let Some(text) = text {
                *field = self.duration(text)?;
                settings.insert(format!("timing.{name}"), text.span());
            }
        }
        if raw.suspect.is_none() && (raw.lease.is_some() || raw.drift.is_some()) {
            // PROTOCOL, Views: 1.02*Ls by default, never below vls.
            let usual = Duration(timing.lease.0.saturating_mul(102).div_ceil(100));
            timing.suspect = usual.max(voter_length(timing.lease, timing.drift));
        }
        Ok(timing)
    }

    fn watchdog(&self, raw: &RawWatchdog, settings: &mut Settings) -> Result<Watchdog, ConfigError> {
        let timeout = self.duration_or(raw.timeout.as_ref(), Duration::secs(10))?;
        if let Some(text) = &raw.timeout {
            settings.insert("watchdog.timeout".to_owned(), text.span());
            if !timeout.0.is_multiple_of(1000) {
                let what = format!("a watchdog cannot be set to {timeout}");
                return Err(self.error(text.span(), what, "write whole seconds, such as \"10s\""));
            }
        }
        Ok(Watchdog {
            device: self.absolute(&raw.device)?,
            timeout,
            margin: self.duration_or(raw.margin.as_ref(), Duration::secs(2))?,
            runs_while_frozen: raw.runs_while_frozen,
        })
    }

    fn witness(&self, raw: &RawWitness, cluster_keys: &[KeyRef]) -> Result<Witness, ConfigError> {
        let keys = self.keys(raw.keys.span(), raw.keys.get_ref())?;
        if keys.iter().any(|key| cluster_keys.iter().any(|cluster_key| cluster_key.secret == key.secret)) {
            let what = "the witness must not hold a cluster key";
            let help = "make a key for the witness with `palisade keygen witness` and name its file";
            return Err(self.error(raw.keys.span(), what, help));
        }
        let login = self.login(raw.username.as_ref(), raw.password.as_ref())?;
        let tls =
            RawTls { ca: raw.ca.as_ref(), certificate: raw.certificate.as_ref(), key: raw.key.as_ref() };
        Ok(Witness { broker: self.broker(&raw.broker, &tls)?, keys, login })
    }

    fn telemetry(&self, raw: &RawTelemetry) -> Result<Telemetry, ConfigError> {
        let login = self.login(raw.username.as_ref(), raw.password.as_ref())?;
        let spool_bytes = match &raw.spool {
            Some(text) => self.size(text, SPOOL_MIN..=SPOOL_MAX)?,
            None => SPOOL,
        };
        let tls =
            RawTls { ca: raw.ca.as_ref(), certificate: raw.certificate.as_ref(), key: raw.key.as_ref() };
        Ok(Telemetry { broker: self.broker(&raw.broker, &tls)?, login, spool_bytes })
    }

    fn login(
        &self,
        username: Option<&Text>,
        password: Option<&toml::Spanned<RawSecret>>,
    ) -> Result<Option<Login>, ConfigError> {
        match (username, password) {
            (None, None) => Ok(None),
            (Some(username), Some(password)) => {
                let password = self.secret(password)?;
                Ok(Some(Login { username: username.get_ref().clone(), password }))
            }
            (Some(username), None) => {
                let help = "add password = { file = \"...\" }";
                Err(self.error(username.span(), "a username without a password", help))
            }
            (None, Some(password)) => {
                Err(self.error(password.span(), "a password without a username", "add username = \"...\""))
            }
        }
    }

    fn broker(&self, text: &Text, tls: &RawTls<'_>) -> Result<Broker, ConfigError> {
        let Some((secure, host, port)) = broker(text.get_ref()) else {
            let what = format!("`{}` is no broker's address", shown(text.get_ref()));
            let help = "write \"mqtt://HOST\" or \"mqtt://HOST:PORT\", or with TLS \"mqtts://HOST\"";
            return Err(self.error(text.span(), what, help));
        };
        let tls = self.broker_tls(text, secure, tls)?;
        if tls.is_some() && host.contains(':') {
            let what = "a broker with TLS cannot be known by an IPv6 address";
            return Err(self.error(text.span(), what, "write the name that stands in its certificate"));
        }
        Ok(Broker { host: host.to_owned(), port, tls })
    }

    /// Never half of it: what asks for TLS without saying who is believed is refused, and so is the opposite.
    fn broker_tls(
        &self,
        broker: &Text,
        secure: bool,
        raw: &RawTls<'_>,
    ) -> Result<Option<BrokerTls>, ConfigError> {
        let stray = raw.ca.or(raw.certificate).map(toml::Spanned::span);
        if let (false, Some(span)) = (secure, stray.or(raw.key.map(toml::Spanned::span))) {
            let help = "write broker = \"mqtts://HOST\", or remove `ca`, `certificate` and `key`";
            return Err(self.error(span, "this is for TLS, and the broker's address says mqtt://", help));
        }
        let Some(ca) = raw.ca else {
            if !secure {
                return Ok(None);
            }
            let help = "add ca = \"/path\": the certificate of who signed the broker's, in PEM form";
            return Err(self.error(broker.span(), "TLS without a CA: any broker would be believed", help));
        };
        let client = match (raw.certificate, raw.key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((self.absolute(certificate)?, self.secret(key)?)),
            (Some(certificate), None) => {
                let help = "add key = { file = \"...\" }";
                return Err(self.error(certificate.span(), "a certificate without its key", help));
            }
            (None, Some(key)) => {
                let help = "add certificate = \"/path\"";
                return Err(self.error(key.span(), "a key without its certificate", help));
            }
        };
        Ok(Some(BrokerTls { ca: self.absolute(ca)?, client }))
    }

    /// The file is the same on every host: here `0.0.0.0` and `[::]` make sense.
    fn listen(&self, text: &Text) -> Result<SocketAddr, ConfigError> {
        let address = text.get_ref().parse().ok();
        address.filter(|address: &SocketAddr| address.port() != 0).ok_or_else(|| {
            let help = "write an address with its port, such as \"127.0.0.1:9753\" or \"0.0.0.0:9753\"";
            self.error(text.span(), format!("`{}` is nowhere to listen", shown(text.get_ref())), help)
        })
    }

    fn fencing(&self, raw: &RawFencing, hosts: usize) -> Result<Fencing, ConfigError> {
        // SAFE-8: by default at most floor(n/2) fences in 10 minutes.
        let budget = match &raw.budget {
            Some(budget) => self.number(budget, 1..=31, "fencing.budget")?,
            None => u32::try_from(hosts / 2).unwrap_or(1),
        };
        let after_off = match &raw.after_off {
            Some(text) => self.choice(text, "after_off", &[("on", AfterOff::On), ("off", AfterOff::Off)])?,
            None => AfterOff::On,
        };
        let budget_window = self.duration_or(raw.budget_window.as_ref(), Duration::secs(600))?;
        let mode = match &raw.mode {
            Some(text) => {
                let modes = [("enforce", FencingMode::Enforce), ("shadow", FencingMode::Shadow)];
                self.choice(text, "fencing mode", &modes)?
            }
            None => FencingMode::Enforce,
        };
        let quarantine_after = match &raw.quarantine_after {
            Some(fences) => self.number(fences, 0..=4, "fencing.quarantine_after")?,
            None => 3,
        };
        let quarantine_window = self.duration_or(raw.quarantine_window.as_ref(), Duration::secs(3600))?;
        Ok(Fencing { budget, budget_window, after_off, mode, quarantine_after, quarantine_window })
    }

    fn keys(&self, span: Range<usize>, raw: &[RawKey]) -> Result<Vec<KeyRef>, ConfigError> {
        if !(1..=KEYS_MAX).contains(&raw.len()) {
            let help = format!("name 1 to {KEYS_MAX} keys; the first seals, all open");
            return Err(self.error(span, format!("{} keys", raw.len()), help));
        }
        let mut ids = Seen::new();
        let mut keys = Vec::with_capacity(raw.len());
        for raw in raw {
            let id: u8 = self.number(&raw.id, 0..=255, "key id")?;
            let help = "a new key needs a new id, so that old packets are not taken for new ones";
            self.once(&mut ids, id, raw.id.span(), &format!("key id {id}"), help)?;
            let secret = self.secret_of(raw.id.span(), raw.file.as_ref(), raw.credential.as_ref())?;
            keys.push(KeyRef { id, secret });
        }
        Ok(keys)
    }

    pub(super) fn secret(&self, raw: &toml::Spanned<RawSecret>) -> Result<SecretRef, ConfigError> {
        self.secret_of(raw.span(), raw.get_ref().file.as_ref(), raw.get_ref().credential.as_ref())
    }

    fn secret_of(
        &self,
        span: Range<usize>,
        file: Option<&Text>,
        credential: Option<&Text>,
    ) -> Result<SecretRef, ConfigError> {
        match (file, credential) {
            (Some(file), None) => Ok(SecretRef::File(self.absolute(file)?)),
            // The name becomes part of a path: a label has no slash.
            (None, Some(name)) => Ok(SecretRef::Credential(self.label(name, "credential")?)),
            (Some(_), Some(_)) | (None, None) => {
                let help = "write { file = \"/path\" } or { credential = \"name\" }";
                Err(self.error(span, "a secret needs exactly one of `file` and `credential`", help))
            }
        }
    }

    /// One message for all contradictions, at the first setting of the first one that stands in the file.
    fn contradictory(&self, found: Vec<super::Contradiction>, settings: &Settings) -> ConfigError {
        let place = |contradiction: &super::Contradiction| {
            let span = contradiction.settings.iter().find_map(|setting| settings.get(setting))?;
            Some(Place::of(self.text, span))
        };
        let also = found.iter().skip(1).map(|contradiction| match place(contradiction) {
            Some(place) => format!("{contradiction} (line {})", place.line()),
            None => contradiction.to_string(),
        });
        let what = found.first().map(ToString::to_string).unwrap_or_default();
        let help = "change one side of each; the agent does not arm with contradictory time-outs";
        let mut error = self.placeless(what, help);
        error.0.place = found.first().and_then(place);
        error.0.also = also.collect();
        error.0.contradictions = found;
        error
    }
}

/// What a section says about TLS.
struct RawTls<'a> {
    ca: Option<&'a Text>,
    certificate: Option<&'a Text>,
    key: Option<&'a toml::Spanned<RawSecret>>,
}

/// `mqtt://HOST[:PORT]`, an IPv6 address in brackets; whether it is `mqtts`, the host and the port.
fn broker(text: &str) -> Option<(bool, &str, u16)> {
    const MQTT_PORT: u16 = 1883;
    const MQTTS_PORT: u16 = 8883;
    let (secure, usual, rest) = match text.strip_prefix("mqtts://") {
        Some(rest) => (true, MQTTS_PORT, rest),
        None => (false, MQTT_PORT, text.strip_prefix("mqtt://")?),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => {
            host.parse::<core::net::Ipv6Addr>().ok()?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Some(usual), |port| port.parse().ok().filter(|port| *port != 0))?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:_".contains(&byte);
    (!host.is_empty() && host.bytes().all(plain)).then_some((secure, host, port))
}
