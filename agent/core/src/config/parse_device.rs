//! Fence devices, checked. Whom a device fences is bound to its identity here: a wrong binding shoots a healthy host.

use core::ops::Range;

use palisade_ladder::Effect;
use palisade_proto::Duration;
use toml::Spanned;

use super::{
    Device, DeviceKind, Host, HypervisorWay, Scsi, Storage,
    error::ConfigError,
    parse::Settings,
    raw::{RawDevice, Text},
    source::{Seen, Source, shown},
};

mod agent;
mod haproxy;
mod hypervisor;
mod ipmi;
mod redfish;
mod ssh;
mod switch;

/// The most devices of a cluster: four for each of 32 hosts.
const DEVICES_MAX: usize = 128;

impl Source<'_> {
    pub(super) fn devices(
        &self,
        raw: &[Spanned<RawDevice>],
        hosts: &[Host],
        storages: &[Storage],
        settings: &mut Settings,
    ) -> Result<Vec<Device>, ConfigError> {
        if let Some(device) = raw.get(DEVICES_MAX) {
            let help = "a host needs no more than four";
            return Err(self.error(device.span(), format!("more than {DEVICES_MAX} devices"), help));
        }
        let mut names = Seen::new();
        let mut devices: Vec<Device> = Vec::with_capacity(raw.len());
        let mut places: Vec<&RawDevice> = Vec::with_capacity(raw.len());
        for raw in raw.iter().map(Spanned::get_ref) {
            let name = self.label(&raw.name, "device")?;
            let help = "give each device a name of its own";
            self.once(&mut names, name.clone(), raw.name.span(), &format!("device `{name}`"), help)?;
            let device = self.device(raw, name, hosts, storages)?;
            for (earlier, place) in devices.iter().zip(&places) {
                self.of_one_host(earlier, place, &device, raw)?;
                self.of_one_effect(earlier, &device, raw)?;
                self.of_one_opener(earlier, &device, raw)?;
            }
            for (setting, place) in [
                ("deadline", raw.deadline.as_ref().map(Spanned::span)),
                ("retries", raw.retries.as_ref().map(Spanned::span)),
            ] {
                // Where a default contradicts, the device's name is the place.
                let span = place.unwrap_or_else(|| raw.name.span());
                settings.insert(format!("device.{}.{setting}", device.name), span);
            }
            devices.push(device);
            places.push(raw);
        }
        Ok(devices)
    }

    fn device(
        &self,
        raw: &RawDevice,
        name: String,
        hosts: &[Host],
        storages: &[Storage],
    ) -> Result<Device, ConfigError> {
        let kinds = [
            ("ipmi", Kind::Ipmi),
            ("redfish", Kind::Redfish),
            ("hypervisor", Kind::Hypervisor),
            ("switch", Kind::Switch),
            ("haproxy", Kind::HaProxy),
            ("agent", Kind::Agent),
            ("scsi", Kind::Scsi),
            ("nft", Kind::Nft),
            ("route", Kind::Route),
            ("lun", Kind::Lun),
        ];
        let kind = self.choice(&raw.kind, "kind of device", &kinds)?;
        let host = self.reference(&raw.fences, "host", hosts, Host::name)?;
        let level = raw.level.as_ref().map_or(Ok(1), |level| self.number(level, 1..=9, "device level"))?;
        let deadline = self.duration_or(raw.deadline.as_ref(), kind.deadline())?;
        let retries = raw
            .retries
            .as_ref()
            .map_or(Ok(kind.retries()), |tries| self.number(tries, 1..=10, "device retries"))?;
        self.only_settings_of(kind, raw)?;
        let effect = self.effect(kind, raw)?;
        let race = self.race(raw, effect)?;
        let storage = self.taken_storage(kind, raw, effect, storages)?;
        let kind = match kind {
            Kind::Ipmi => DeviceKind::Ipmi(self.ipmi(raw)?),
            Kind::Redfish => DeviceKind::Redfish(self.redfish(raw, host)?),
            Kind::Hypervisor => DeviceKind::Hypervisor(self.hypervisor(raw, host)?),
            Kind::Switch => DeviceKind::Switch(self.switch(raw, host)?),
            Kind::HaProxy => DeviceKind::HaProxy(self.haproxy(raw)?),
            Kind::Agent => DeviceKind::Agent(self.fence_agent(raw)?),
            Kind::Scsi => DeviceKind::Scsi(self.reservations(raw, storages)?),
            Kind::Nft => self.nft(raw, host, hosts)?,
            Kind::Route => DeviceKind::Route(self.cut_by_routes(raw, host, hosts)?),
            Kind::Lun => DeviceKind::Lun(self.taken_lun(raw)?),
        };
        Ok(Device { name, fences: host.id(), level, deadline, retries, effect, race, storage, kind })
    }

    fn effect(&self, kind: Kind, raw: &RawDevice) -> Result<Effect, ConfigError> {
        match kind {
            Kind::Switch | Kind::HaProxy | Kind::Nft | Kind::Route => return Ok(Effect::Network),
            Kind::Scsi | Kind::Lun => return Ok(Effect::Storage),
            Kind::Ipmi | Kind::Redfish | Kind::Hypervisor | Kind::Agent => {}
        }
        let choices =
            [Effect::Power, Effect::Storage, Effect::Network].map(|effect| (effect.proves().name(), effect));
        raw.proof
            .as_ref()
            .map_or(Ok(Effect::Power), |text| self.choice(text, "proof of a fence device", &choices))
    }

    fn race(&self, raw: &RawDevice, effect: Effect) -> Result<bool, ConfigError> {
        let race = raw.race.as_ref().filter(|race| *race.get_ref());
        match race {
            Some(race) if effect == Effect::Power => {
                let what = "a device that switches power has nothing to race with";
                Err(self.error(
                    race.span(),
                    what,
                    "power begins at once; write `race` on the storage or network device",
                ))
            }
            Some(_) => Ok(true),
            None => Ok(false),
        }
    }

    fn taken_storage(
        &self,
        kind: Kind,
        raw: &RawDevice,
        effect: Effect,
        storages: &[Storage],
    ) -> Result<Vec<String>, ConfigError> {
        let mut taken = Vec::new();
        for text in &raw.storage {
            taken.push(self.reference(text, "storage", storages, Storage::name)?.name().to_owned());
        }
        match (effect, raw.storage.first()) {
            (Effect::Storage, None) => {
                let what = format!(
                    "device `{}` does not say which `storage` it takes away",
                    shown(raw.name.get_ref())
                );
                let help = "name the storages that its host cannot reach any more once it reads off";
                Err(self.error(raw.name.span(), what, help))
            }
            (Effect::Power | Effect::Network, Some(text)) => {
                let what = format!("device `{}` takes no storage away", shown(raw.name.get_ref()));
                let help = match kind {
                    Kind::Agent => "leave `storage` out, or write proof = \"storage_revoked\"",
                    Kind::Ipmi
                    | Kind::Redfish
                    | Kind::Hypervisor
                    | Kind::Switch
                    | Kind::HaProxy
                    | Kind::Nft
                    | Kind::Route
                    | Kind::Lun
                    | Kind::Scsi => "leave `storage` out",
                };
                Err(self.error(text.span(), what, help))
            }
            (Effect::Storage, Some(_)) | (Effect::Power | Effect::Network, None) => Ok(taken),
        }
    }

    /// The logical units of the storages that it takes away.
    fn reservations(&self, raw: &RawDevice, storages: &[Storage]) -> Result<Scsi, ConfigError> {
        let mut luns: Vec<String> = Vec::new();
        for text in &raw.storage {
            let storage = self.reference(text, "storage", storages, Storage::name)?;
            if storage.luns().is_empty() {
                let what = format!("storage `{}` names no `luns`", storage.name());
                let help = "write `luns = [\"naa...\"]` (NVMe: \"uuid...\") in its [[storage]]: the logical units that it is made of";
                return Err(self.error(text.span(), what, help));
            }
            let new = storage.luns().iter().filter(|lun| !luns.contains(lun));
            let new: Vec<String> = new.cloned().collect();
            luns.extend(new);
        }
        Ok(Scsi { luns })
    }

    /// A level is one proof, and a host is isolated in one way: peers say that somebody is cut, and the configuration from what.
    fn of_one_effect(&self, earlier: &Device, device: &Device, raw: &RawDevice) -> Result<(), ConfigError> {
        if earlier.fences != device.fences || earlier.effect == device.effect {
            return Ok(());
        }
        if earlier.level == device.level {
            let what = format!(
                "device `{}` of level {} proves {}, and `{}` of the same level {}",
                device.name,
                device.level,
                device.effect.proves(),
                earlier.name,
                earlier.effect.proves()
            );
            let place = raw.level.as_ref().map_or_else(|| raw.name.span(), Spanned::span);
            return Err(self.error(place, what, "give them levels of their own"));
        }
        if earlier.effect != Effect::Power && device.effect != Effect::Power {
            let what = format!(
                "`{}` would take the storage and `{}` the network of one host",
                if earlier.effect == Effect::Storage { &earlier.name } else { &device.name },
                if earlier.effect == Effect::Storage { &device.name } else { &earlier.name },
            );
            let place = raw.proof.as_ref().map_or_else(|| raw.name.span(), Spanned::span);
            return Err(self.error(place, what, "choose one of the two beside its power"));
        }
        Ok(())
    }

    /// Some paths a host opens itself before it is taken in, others the coordinator opens: one host is not done in both ways.
    fn of_one_opener(&self, earlier: &Device, device: &Device, raw: &RawDevice) -> Result<(), ConfigError> {
        let isolate = earlier.effect != Effect::Power && device.effect != Effect::Power;
        if earlier.fences != device.fences
            || !isolate
            || earlier.kind.opened_by_its_host() == device.kind.opened_by_its_host()
        {
            return Ok(());
        }
        let what = format!("`{}` and `{}` cut one host off in two ways", earlier.name, device.name);
        let help = "cut all of its storage by reservations (kind \"scsi\"), or all of it in other ways";
        Err(self.error(raw.kind.span(), what, help))
    }

    /// A setting of another kind of device would be believed to do something.
    fn only_settings_of(&self, kind: Kind, raw: &RawDevice) -> Result<(), ConfigError> {
        let allowed = kind.settings();
        match written(raw).into_iter().find(|(setting, _)| !allowed.contains(setting)) {
            None => Ok(()),
            Some((setting, span)) => {
                let what =
                    format!("`{setting}` is no setting of a device of kind \"{}\"", raw.kind.get_ref());
                let help = if allowed.is_empty() {
                    "it has none of its own".to_owned()
                } else {
                    format!("its own settings are: {}", allowed.join(", "))
                };
                Err(self.error(span, what, help))
            }
        }
    }

    fn needed<'r, T>(&self, raw: &RawDevice, name: &str, value: &'r Option<T>) -> Result<&'r T, ConfigError> {
        value.as_ref().ok_or_else(|| {
            let what = format!("device `{}` has no `{name}`", shown(raw.name.get_ref()));
            let help = format!("a device of kind \"{}\" needs one", raw.kind.get_ref());
            self.error(raw.name.span(), what, help)
        })
    }

    /// SAFE-4: one BMC, told by its GUID or its address, must not stand for two hosts.
    fn of_one_host(
        &self,
        earlier: &Device,
        earlier_raw: &RawDevice,
        device: &Device,
        raw: &RawDevice,
    ) -> Result<(), ConfigError> {
        let same_agent = matches!(
            (&earlier.kind, &device.kind),
            (DeviceKind::Agent(a), DeviceKind::Agent(b)) if a.program == b.program && a.options == b.options
        );
        if let (DeviceKind::Switch(a), DeviceKind::Switch(b)) = (&earlier.kind, &device.kind) {
            return self.of_one_port((earlier, a), (device, b), raw);
        }
        if let (DeviceKind::HaProxy(a), DeviceKind::HaProxy(b)) = (&earlier.kind, &device.kind) {
            return self.of_one_server((earlier, a), (device, b), raw);
        }
        self.enforced_once(earlier, earlier_raw, device, raw)?;
        if earlier.fences == device.fences {
            // One port that is read off twice says nothing of a second one.
            return match same_agent {
                false => Ok(()),
                true => {
                    let what = format!("device `{}` is `{}` once more", device.name, earlier.name);
                    let place = raw.agent.as_ref().map_or_else(|| raw.name.span(), Spanned::span);
                    Err(self.error(place, what, "write the plug that it is meant to switch, or leave it out"))
                }
            };
        }
        let what = |same: &str| {
            let Device { name, .. } = device;
            let other = earlier_raw.fences.get_ref();
            format!("device `{name}` has the {same} of `{}`, which fences host `{other}`", earlier.name)
        };
        let place = |text: &Option<Text>| text.as_ref().map_or_else(|| raw.name.span(), Spanned::span);
        match (&earlier.kind, &device.kind) {
            (DeviceKind::Ipmi(a), DeviceKind::Ipmi(b)) if a.guid == b.guid => {
                let help = "read each BMC's GUID and write it; two BMCs that say the same GUID cannot be told apart: set one";
                Err(self.error(place(&raw.guid), what("GUID"), help))
            }
            (DeviceKind::Redfish(a), DeviceKind::Redfish(b)) if a.uuid == b.uuid => {
                let help = "write the UUID of this host's own system";
                Err(self.error(place(&raw.uuid), what("system UUID"), help))
            }
            // A chassis of several systems has one service; the UUID tells them apart.
            (DeviceKind::Redfish(_), DeviceKind::Redfish(_)) => Ok(()),
            (DeviceKind::Hypervisor(a), DeviceKind::Hypervisor(b)) if a.uuid == b.uuid => {
                let help = "write the UUID of this host's own machine";
                Err(self.error(place(&raw.uuid), what("machine UUID"), help))
            }
            (DeviceKind::Hypervisor(a), DeviceKind::Hypervisor(b))
                if a.way == b.way && !matches!(a.way, HypervisorWay::Libvirt(_)) =>
            {
                let help = "a monitor is of one machine: write this host's own";
                Err(self.error(place(&raw.qmp), what("monitor"), help))
            }
            (DeviceKind::Agent(_), DeviceKind::Agent(_)) if same_agent => {
                let help = "write what tells this host's plug, blade or domain from the other's";
                Err(self.error(place(&raw.agent), what("agent and options"), help))
            }
            // By two protocols one BMC listens on two ports; two BMCs behind one forwarding address differ in their ports.
            (DeviceKind::Ipmi(a), DeviceKind::Ipmi(b)) if a.address != b.address => Ok(()),
            (a, b) if a.address().is_some_and(|a| b.address().is_some_and(|b| a.ip() == b.ip())) => {
                let help = "write the address of this host's own BMC";
                Err(self.error(place(&raw.address), what("address"), help))
            }
            (
                DeviceKind::Ipmi(_)
                | DeviceKind::Redfish(_)
                | DeviceKind::Hypervisor(_)
                | DeviceKind::Switch(_)
                | DeviceKind::HaProxy(_)
                | DeviceKind::Agent(_)
                | DeviceKind::Scsi(_)
                | DeviceKind::Nft(_)
                | DeviceKind::Wall(_)
                | DeviceKind::Route(_)
                | DeviceKind::Lun(_),
                DeviceKind::Ipmi(_)
                | DeviceKind::Redfish(_)
                | DeviceKind::Hypervisor(_)
                | DeviceKind::Switch(_)
                | DeviceKind::HaProxy(_)
                | DeviceKind::Agent(_)
                | DeviceKind::Scsi(_)
                | DeviceKind::Nft(_)
                | DeviceKind::Wall(_)
                | DeviceKind::Route(_)
                | DeviceKind::Lun(_),
            ) => Ok(()),
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Ipmi,
    Redfish,
    Hypervisor,
    Switch,
    HaProxy,
    Agent,
    Scsi,
    Nft,
    Route,
    Lun,
}

impl Kind {
    /// For one command, unless written.
    fn deadline(self) -> Duration {
        match self {
            Self::Ipmi | Self::HaProxy => Duration::secs(4),
            // TLS, a login, a reading and the order take some BMCs seconds.
            Self::Redfish => Duration::secs(6),
            // By ssh a look and an order are three logins.
            Self::Hypervisor => Duration::secs(6),
            // Some switches tell a port's new status some seconds late; and an order that goes unanswered is sent up to four times.
            Self::Switch => Duration::secs(6),
            // Agents wait by themselves until the power is off, and their interpreters take their time.
            Self::Agent => Duration::secs(9),
            // A target that aborts what is under way on a slow disk takes its time.
            Self::Scsi => Duration::secs(5),
            // One login, which a busy host takes seconds for.
            Self::Nft | Self::Route | Self::Lun => Duration::secs(6),
        }
    }

    /// The most tries, unless written.
    fn retries(self) -> u32 {
        match self {
            Self::Ipmi
            | Self::Redfish
            | Self::Hypervisor
            | Self::Switch
            | Self::HaProxy
            | Self::Scsi
            | Self::Nft
            | Self::Route
            | Self::Lun => 3,
            Self::Agent => 2,
        }
    }

    /// Beyond those that every device has.
    fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Ipmi => &["address", "user", "password", "kg", "cipher_suite", "privilege", "guid"],
            Self::Redfish => {
                &["address", "user", "password", "auth", "ca", "tls_name", "insecure_http", "system", "uuid"]
            }
            Self::Hypervisor => &["qmp", "libvirt", "uuid"],
            Self::Switch => &[
                "address",
                "port",
                "alias",
                "community",
                "user",
                "auth_protocol",
                "auth_password",
                "priv_protocol",
                "priv_password",
            ],
            Self::HaProxy => &["socket", "backend", "server", "server_address"],
            Self::Agent => &["agent", "options", "secrets", "proof"],
            // What it takes away (`storage`) is every device's, and its logical units stand there.
            Self::Scsi => &[],
            Self::Nft => &["on", "ssh", "identity", "known_hosts", "addresses"],
            Self::Route => &["ssh", "identity", "known_hosts", "addresses"],
            Self::Lun => &["ssh", "identity", "known_hosts", "target", "iqn", "initiator"],
        }
    }
}

/// The settings of single kinds that are written, each with its place.
fn written(raw: &RawDevice) -> Vec<(&'static str, Range<usize>)> {
    fn place<T>(value: &Option<Spanned<T>>) -> Option<Range<usize>> {
        value.as_ref().map(Spanned::span)
    }
    let settings = [
        ("address", place(&raw.address)),
        ("user", place(&raw.user)),
        ("password", place(&raw.password)),
        ("kg", place(&raw.kg)),
        ("cipher_suite", place(&raw.cipher_suite)),
        ("privilege", place(&raw.privilege)),
        ("guid", place(&raw.guid)),
        ("auth", place(&raw.auth)),
        ("ca", place(&raw.ca)),
        ("tls_name", place(&raw.tls_name)),
        ("insecure_http", place(&raw.insecure_http)),
        ("system", place(&raw.system)),
        ("uuid", place(&raw.uuid)),
        ("qmp", place(&raw.qmp)),
        ("libvirt", place(&raw.libvirt)),
        ("port", place(&raw.port)),
        ("alias", place(&raw.alias)),
        ("community", place(&raw.community)),
        ("auth_protocol", place(&raw.auth_protocol)),
        ("auth_password", place(&raw.auth_password)),
        ("priv_protocol", place(&raw.priv_protocol)),
        ("priv_password", place(&raw.priv_password)),
        ("socket", place(&raw.socket)),
        ("backend", place(&raw.backend)),
        ("server", place(&raw.server)),
        ("server_address", place(&raw.server_address)),
        ("ssh", place(&raw.ssh)),
        ("identity", place(&raw.identity)),
        ("known_hosts", place(&raw.known_hosts)),
        ("addresses", place(&raw.addresses)),
        ("on", place(&raw.on)),
        ("target", place(&raw.target)),
        ("iqn", place(&raw.iqn)),
        ("initiator", place(&raw.initiator)),
        ("agent", place(&raw.agent)),
        ("proof", place(&raw.proof)),
        ("options", place(&raw.options)),
        ("secrets", place(&raw.secrets)),
    ];
    settings.into_iter().filter_map(|(name, place)| Some((name, place?))).collect()
}
