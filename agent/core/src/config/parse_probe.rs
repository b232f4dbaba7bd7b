//! Probes, checked: those that are written, and those that every host has.

use core::ops::Range;
use std::net::IpAddr;
use std::path::PathBuf;

use palisade_proto::{Duration, HostId};
use toml::Spanned;

use super::{
    CapacityLimits, Health, Host, HttpProbe, Level, Policy, Probe, ProbeId, ProbeKind, Storage,
    error::ConfigError,
    raw::{RawHealth, RawProbe, Text},
    source::{Seen, Source, shown},
};

/// The most probes of one host (SAFE-12): each has its task, its last sample and its baselines.
const PROBES_MAX: usize = 128;
/// The shortest interval.
const EVERY_MIN: Duration = Duration::ms(100);
/// The longest name of a process that the kernel keeps (`TASK_COMM_LEN` less its end).
const COMM_MAX: usize = 15;
/// The longest path of a URL.
const URL_PATH_MAX: usize = 512;
/// Room on these is looked at on every host.
const DISKS: [&str; 2] = ["/", "/var"];

/// A key, the kinds of probe that it is for, and where it stands in the file.
type Key<'a> = (&'a str, &'a [&'a str], Option<Range<usize>>);

impl Source<'_> {
    pub(super) fn health(&self, raw: &RawHealth) -> Result<Health, ConfigError> {
        let usual = Health::default();
        let mut health = usual.clone();
        if let Some(after) = &raw.after {
            health.after = self.number(after, 1..=100, "health.after")?;
        }
        if let Some(back) = &raw.back {
            health.back = self.number(back, 1..=100, "health.back")?;
        }
        let every = [&raw.l1, &raw.l2, &raw.l3, &raw.l4];
        for (text, every) in every.into_iter().zip(&mut health.every) {
            if let Some(text) = text {
                *every = self.interval(text)?;
            }
        }
        let on_failure = [&raw.on_l1, &raw.on_l2, &raw.on_l3, &raw.on_l4];
        for (text, policy) in on_failure.into_iter().zip(&mut health.on_failure) {
            if let Some(text) = text {
                *policy = self.policy(text)?;
            }
        }
        Ok(health)
    }

    fn interval(&self, text: &Text) -> Result<Duration, ConfigError> {
        let every = self.duration(text)?;
        if every < EVERY_MIN {
            let what = format!("a probe every {every} does more harm than good");
            return Err(self.error(text.span(), what, format!("write at least \"{EVERY_MIN}\"")));
        }
        Ok(every)
    }

    fn policy(&self, text: &Text) -> Result<Policy, ConfigError> {
        let policies = [("report", Policy::Report), ("drain", Policy::Drain), ("fence", Policy::Fence)];
        self.choice(text, "policy", &policies)
    }

    /// The probes of the file, and for each storage, the capacity and the clock one that every host has unless the file has its
    /// own.
    pub(super) fn probes(
        &self,
        raw: &[Spanned<RawProbe>],
        health: &Health,
        hosts: &[Host],
        storages: &[Storage],
    ) -> Result<Vec<Probe>, ConfigError> {
        if let Some(probe) = raw.get(PROBES_MAX) {
            let what = format!("more than {PROBES_MAX} probes");
            return Err(self.error(probe.span(), what, "look at what workloads need, and at no more"));
        }
        let (mut names, mut ids) = (Seen::new(), Seen::new());
        let mut probes = Vec::with_capacity(raw.len());
        for spanned in raw {
            let name = &spanned.get_ref().name;
            let label = self.label(name, "probe")?;
            let help = "give each probe a name of its own";
            self.once(&mut names, label.clone(), name.span(), &format!("probe `{label}`"), help)?;
            let what = format!("the short name of probe `{label}`");
            self.once(&mut ids, ProbeId::of(&label), name.span(), &what, "call one of the two otherwise")?;
            probes.push(self.probe(spanned, label, health, hosts, storages)?);
        }
        for storage in storages {
            if !probes.iter().any(|probe| probe.storage() == Some(storage.name())) {
                let kind = ProbeKind::Storage {
                    storage: Some(storage.name().to_owned()),
                    path: storage.path().to_owned(),
                };
                probes.push(built_in(&format!("storage-{}", storage.name()), Level::L2, kind, health, hosts));
            }
        }
        if !probes.iter().any(|probe| matches!(probe.kind, ProbeKind::Capacity(_))) {
            let kind = ProbeKind::Capacity(CapacityLimits::usual());
            probes.push(built_in("capacity", Level::L3, kind, health, hosts));
        }
        if !probes.iter().any(|probe| matches!(probe.kind, ProbeKind::Clock { .. })) {
            let kind = ProbeKind::Clock { within: Duration::ms(500) };
            probes.push(built_in("clock", Level::L4, kind, health, hosts));
        }
        for (at, probe) in probes.iter().enumerate() {
            if probes.iter().skip(at + 1).any(|other| other.id() == probe.id()) {
                let what = format!("two probes are `{}`, or share its short name", probe.name);
                return Err(self.placeless(what, "call the probe of yours otherwise"));
            }
        }
        Ok(probes)
    }

    fn probe(
        &self,
        spanned: &Spanned<RawProbe>,
        name: String,
        health: &Health,
        hosts: &[Host],
        storages: &[Storage],
    ) -> Result<Probe, ConfigError> {
        let raw = spanned.get_ref();
        let kind = self.probe_kind(spanned, &name, storages)?;
        let level = match &raw.level {
            Some(text) => {
                let levels = [("l1", Level::L1), ("l2", Level::L2), ("l3", Level::L3), ("l4", Level::L4)];
                self.choice(text, "level", &levels)?
            }
            None => usual_level(&kind),
        };
        let every = raw.every.as_ref().map_or(Ok(health.every(level)), |text| self.interval(text))?;
        let timeout = match &raw.timeout {
            Some(text) => self.duration(text)?,
            None => usual_timeout(every),
        };
        if timeout > every {
            // A cause common to all must show on every host before it makes a verdict on one.
            let span = raw.timeout.as_ref().map_or_else(|| spanned.span(), Spanned::span);
            let what = format!(
                "probe `{name}` is given longer ({timeout}) than passes until its next look ({every})"
            );
            return Err(self.error(span, what, "write a shorter `timeout`, or a longer `every`"));
        }
        let slow = raw.slow.as_ref().map(|text| self.duration(text)).transpose()?;
        if let (Some(slow), Some(text)) = (slow, &raw.slow)
            && slow >= timeout
        {
            let what = format!("probe `{name}` has failed before it is slow");
            return Err(self.error(text.span(), what, format!("write less than its time-out, {timeout}")));
        }
        let count = |number: &Option<super::raw::Number>, usual: u32, what: &str| {
            number.as_ref().map_or(Ok(usual), |number| self.number(number, 1..=100, what))
        };
        let mut on = Vec::new();
        for text in raw.on.iter().flatten() {
            on.push(self.reference(text, "host", hosts, Host::name)?.id());
        }
        if let (ProbeKind::Storage { storage: Some(storage), .. }, Some(_)) = (&kind, &raw.on) {
            let what = format!(
                "probe `{name}` leaves hosts out, but what needs storage `{storage}` starts only where it is looked at"
            );
            return Err(self.error(spanned.span(), what, "remove `on`"));
        }
        if raw.on.is_none() {
            on = hosts.iter().map(Host::id).collect();
        }
        Ok(Probe {
            id: ProbeId::of(&name),
            written: true,
            level,
            kind,
            on,
            every,
            timeout,
            slow,
            after: count(&raw.after, health.after, "after")?,
            back: count(&raw.back, health.back, "back")?,
            on_failure: match &raw.on_failure {
                Some(text) => self.policy(text)?,
                None => health.on_failure(level),
            },
            name,
        })
    }

    fn probe_kind(
        &self,
        spanned: &Spanned<RawProbe>,
        name: &str,
        storages: &[Storage],
    ) -> Result<ProbeKind, ConfigError> {
        let raw = spanned.get_ref();
        let kinds = [
            "process", "unit", "tcp", "http", "command", "storage", "gateway", "libvirt", "capacity", "clock",
        ];
        let written = raw.kind.get_ref().as_str();
        let Some(kind) = kinds.into_iter().find(|kind| *kind == written) else {
            let what = format!("unknown kind of probe `{}`", shown(written));
            return Err(self.error(raw.kind.span(), what, format!("write one of: {}", kinds.join(", "))));
        };
        self.only_of_its_kind(raw, kind)?;
        let need = |text: &Option<Text>, key: &str| {
            let what = format!("probe `{name}` of kind `{kind}` needs `{key}`");
            text.clone().ok_or_else(|| self.error(raw.kind.span(), what, format!("add {key} = ...")))
        };
        Ok(match kind {
            "process" => {
                let process = need(&raw.process, "process")?;
                let comm = process.get_ref();
                if comm.is_empty() || comm.len() > COMM_MAX || comm.contains(char::is_control) {
                    let what = format!("`{}` is no name of a process", shown(comm));
                    let help = "write what `cat /proc/PID/comm` says of it: 1 to 15 bytes";
                    return Err(self.error(process.span(), what, help));
                }
                ProbeKind::Process { name: comm.clone() }
            }
            "unit" => ProbeKind::Unit { unit: self.unit(&need(&raw.unit, "unit")?)? },
            "tcp" => {
                let address = need(&raw.address, "address")?;
                ProbeKind::Tcp { address: self.address(&address, "address")? }
            }
            "http" => ProbeKind::Http(self.http(&need(&raw.url, "url")?)?),
            "command" => {
                let what = format!("probe `{name}` of kind `command` needs `command`");
                let help = "add command = [\"/path/to/program\", ...]";
                let command = raw.command.as_ref().ok_or_else(|| self.error(raw.kind.span(), what, help))?;
                ProbeKind::Command { command: self.words(command)? }
            }
            "storage" => match (&raw.storage, &raw.path) {
                (Some(storage), None) => {
                    let storage = self.reference(storage, "storage", storages, Storage::name)?;
                    let (name, path) = (storage.name().to_owned(), storage.path().to_owned());
                    ProbeKind::Storage { storage: Some(name), path }
                }
                (None, Some(path)) => ProbeKind::Storage { storage: None, path: self.absolute(path)? },
                (Some(_), Some(_)) | (None, None) => {
                    let what = format!("probe `{name}` needs exactly one of `storage` and `path`");
                    let help = "name a [[storage]], or the directory to write to";
                    return Err(self.error(raw.kind.span(), what, help));
                }
            },
            "gateway" => {
                let address = need(&raw.address, "address")?;
                let Ok(parsed) = address.get_ref().parse::<IpAddr>() else {
                    let what = format!("`{}` is no address", shown(address.get_ref()));
                    return Err(self.error(
                        address.span(),
                        what,
                        "write a numeric one, such as \"10.0.0.1\"",
                    ));
                };
                ProbeKind::Gateway { address: parsed }
            }
            "libvirt" => {
                let uri = need(&raw.uri, "uri")?;
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":/+._-?=&@".contains(&byte);
                if !uri.get_ref().bytes().all(plain) || !uri.get_ref().contains(":///") {
                    let what = format!("`{}` is no URI of this host's libvirt", shown(uri.get_ref()));
                    return Err(self.error(uri.span(), what, "write one such as \"qemu:///system\""));
                }
                ProbeKind::Libvirt { uri: uri.get_ref().clone() }
            }
            "capacity" => ProbeKind::Capacity(self.limits(raw)?),
            _ => ProbeKind::Clock { within: self.duration_or(raw.within.as_ref(), Duration::ms(500))? },
        })
    }

    /// A key that means nothing for this kind is a mistake, not a wish.
    fn only_of_its_kind(&self, raw: &RawProbe, kind: &str) -> Result<(), ConfigError> {
        let span = |text: &Option<Text>| text.as_ref().map(Spanned::span);
        let number = |number: &Option<super::raw::Number>| number.as_ref().map(Spanned::span);
        let keys: [Key<'_>; 14] = [
            ("process", &["process"], span(&raw.process)),
            ("unit", &["unit"], span(&raw.unit)),
            ("address", &["tcp", "gateway"], span(&raw.address)),
            ("url", &["http"], span(&raw.url)),
            ("command", &["command"], raw.command.as_ref().map(Spanned::span)),
            ("storage", &["storage"], span(&raw.storage)),
            ("path", &["storage"], span(&raw.path)),
            ("uri", &["libvirt"], span(&raw.uri)),
            ("within", &["clock"], span(&raw.within)),
            ("memory", &["capacity"], number(&raw.memory)),
            ("pressure", &["capacity"], number(&raw.pressure)),
            ("disk", &["capacity"], number(&raw.disk)),
            ("disk_full", &["capacity"], number(&raw.disk_full)),
            ("disks", &["capacity"], raw.disks.as_ref().map(Spanned::span)),
        ];
        for (key, kinds, span) in keys {
            if let Some(span) = span.filter(|_| !kinds.contains(&kind)) {
                let what = format!("`{key}` means nothing for a probe of kind `{kind}`");
                return Err(self.error(span, what, format!("remove it; it is for: {}", kinds.join(", "))));
            }
        }
        Ok(())
    }

    fn http(&self, text: &Text) -> Result<HttpProbe, ConfigError> {
        let written = text.get_ref();
        let fail = || {
            let help = "write one such as \"http://127.0.0.1:8080/healthz\": numeric address, no user, no query from a secret";
            self.error(text.span(), format!("`{}` is no URL of a probe", shown(written)), help)
        };
        let rest = written.strip_prefix("http://").ok_or_else(fail)?;
        let (authority, path) =
            rest.split_at_checked(rest.find('/').unwrap_or(rest.len())).ok_or_else(fail)?;
        let path = if path.is_empty() { "/" } else { path };
        let address = authority
            .parse()
            .or_else(|_| authority.trim_matches(['[', ']']).parse::<IpAddr>().map(|ip| (ip, 80).into()))
            .map_err(|_| fail())?;
        if path.len() > URL_PATH_MAX || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(fail());
        }
        Ok(HttpProbe { address, path: path.to_owned() })
    }

    fn limits(&self, raw: &RawProbe) -> Result<CapacityLimits, ConfigError> {
        let mut limits = CapacityLimits::usual();
        let percents = [
            (&raw.memory, &mut limits.memory, "memory"),
            (&raw.pressure, &mut limits.pressure, "pressure"),
            (&raw.disk, &mut limits.disk, "disk"),
            (&raw.disk_full, &mut limits.disk_full, "disk_full"),
        ];
        for (number, limit, what) in percents {
            if let Some(number) = number {
                *limit = self.number::<u32>(number, 1..=100, what)? * 10;
            }
        }
        if let Some(disks) = &raw.disks {
            limits.disks =
                disks.get_ref().iter().map(|disk| self.absolute(disk)).collect::<Result<_, _>>()?;
        }
        Ok(limits)
    }
}

impl CapacityLimits {
    fn usual() -> Self {
        Self {
            memory: 950,
            pressure: 600,
            disk: 900,
            disk_full: 990,
            disks: DISKS.into_iter().map(PathBuf::from).collect(),
        }
    }
}

fn usual_level(kind: &ProbeKind) -> Level {
    match kind {
        ProbeKind::Process { .. } | ProbeKind::Unit { .. } => Level::L1,
        ProbeKind::Tcp { .. }
        | ProbeKind::Http(_)
        | ProbeKind::Command { .. }
        | ProbeKind::Storage { .. }
        | ProbeKind::Gateway { .. }
        | ProbeKind::Libvirt { .. } => Level::L2,
        ProbeKind::Capacity(_) => Level::L3,
        ProbeKind::Clock { .. } => Level::L4,
    }
}

/// Ten seconds, or what passes until the next look.
fn usual_timeout(every: Duration) -> Duration {
    every.min(Duration::secs(10))
}

fn built_in(name: &str, level: Level, kind: ProbeKind, health: &Health, hosts: &[Host]) -> Probe {
    let every = health.every(level);
    Probe {
        id: ProbeId::of(name),
        written: false,
        name: name.to_owned(),
        level,
        kind,
        on: hosts.iter().map(Host::id).collect::<Vec<HostId>>(),
        every,
        timeout: usual_timeout(every),
        slow: None,
        after: health.after,
        back: health.back,
        on_failure: health.on_failure(level),
    }
}
