//! Fence devices, checked. Whom a device fences is bound to its identity here: a wrong binding shoots a healthy host.

use core::ops::Range;
use std::net::SocketAddr;

use palisade_ladder::Identity;
use palisade_proto::Duration;
use toml::Spanned;

use super::{
    CipherSuite, Device, DeviceKind, Host, Ipmi, Privilege, Redfish, RedfishAuth, Tls,
    error::ConfigError,
    names::{hex, hex_digits, is_blank},
    parse::Settings,
    raw::{RawDevice, Text},
    source::{Seen, Source, shown},
};

/// The most devices of a cluster: four for each of 32 hosts.
const DEVICES_MAX: usize = 128;
/// The longest user name (IPMI 2.0 section 22.28).
const IPMI_USER_MAX: usize = 16;
/// More than any service knows.
const REDFISH_USER_MAX: usize = 256;
/// The longest host name (RFC 1035 section 2.3.4).
const NAME_MAX: usize = 253;
/// The longest path of a system.
const PATH_MAX: usize = 512;

impl Source<'_> {
    pub(super) fn devices(
        &self,
        raw: &[Spanned<RawDevice>],
        hosts: &[Host],
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
            let device = self.device(raw, name, hosts)?;
            for (earlier, place) in devices.iter().zip(&places) {
                self.of_one_host(earlier, place, &device, raw)?;
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

    fn device(&self, raw: &RawDevice, name: String, hosts: &[Host]) -> Result<Device, ConfigError> {
        let kind =
            self.choice(&raw.kind, "kind of device", &[("ipmi", Kind::Ipmi), ("redfish", Kind::Redfish)])?;
        let host = self.reference(&raw.fences, "host", hosts, Host::name)?;
        let level = raw.level.as_ref().map_or(Ok(1), |level| self.number(level, 1..=9, "device level"))?;
        let deadline = self.duration_or(raw.deadline.as_ref(), kind.deadline())?;
        let retries =
            raw.retries.as_ref().map_or(Ok(3), |tries| self.number(tries, 1..=10, "device retries"))?;
        self.only_settings_of(kind, raw)?;
        let kind = match kind {
            Kind::Ipmi => DeviceKind::Ipmi(self.ipmi(raw)?),
            Kind::Redfish => DeviceKind::Redfish(self.redfish(raw, host)?),
        };
        Ok(Device { name, fences: host.id(), level, deadline, retries, kind })
    }

    /// A setting of another kind of device would be believed to do something.
    fn only_settings_of(&self, kind: Kind, raw: &RawDevice) -> Result<(), ConfigError> {
        let allowed = kind.settings();
        match written(raw).into_iter().find(|(setting, _)| !allowed.contains(setting)) {
            None => Ok(()),
            Some((setting, span)) => {
                let what =
                    format!("`{setting}` is no setting of a device of kind \"{}\"", raw.kind.get_ref());
                Err(self.error(span, what, format!("its own settings are: {}", allowed.join(", "))))
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

    fn ipmi(&self, raw: &RawDevice) -> Result<Ipmi, ConfigError> {
        let written_user = self.needed(raw, "user", &raw.user)?;
        let user = written_user.get_ref();
        if !(1..=IPMI_USER_MAX).contains(&user.len()) || !user.bytes().all(|byte| byte.is_ascii_graphic()) {
            let what = format!("`{}` cannot be an IPMI user", shown(user));
            return Err(self.error(written_user.span(), what, "use 1 to 16 printable ASCII characters"));
        }
        let cipher_suite = match raw.cipher_suite.as_ref().map(|suite| (*suite.get_ref(), suite.span())) {
            None | Some((17, _)) => CipherSuite::Suite17,
            Some((3, _)) => CipherSuite::Suite3,
            Some((other, span)) => {
                let help = "write 17 (SHA-256) or, for a BMC without it, 3 (SHA-1)";
                return Err(self.error(span, format!("cipher suite {other} is not supported"), help));
            }
        };
        let privilege = match &raw.privilege {
            Some(text) => {
                let choices =
                    [("operator", Privilege::Operator), ("administrator", Privilege::Administrator)];
                self.choice(text, "privilege", &choices)?
            }
            None => Privilege::Operator,
        };
        Ok(Ipmi {
            address: self.address(self.needed(raw, "address", &raw.address)?, "BMC address")?,
            user: user.clone(),
            password: self.secret(self.needed(raw, "password", &raw.password)?)?,
            kg: raw.kg.as_ref().map(|kg| self.secret(kg)).transpose()?,
            cipher_suite,
            privilege,
            guid: self.guid(self.needed(raw, "guid", &raw.guid)?)?,
        })
    }

    fn redfish(&self, raw: &RawDevice, host: &Host) -> Result<Redfish, ConfigError> {
        let address =
            self.address(self.needed(raw, "address", &raw.address)?, "address of a Redfish service")?;
        let written_user = self.needed(raw, "user", &raw.user)?;
        let user = written_user.get_ref();
        // RFC 7617, section 2: a name with a colon cannot be told from the password.
        if !(1..=REDFISH_USER_MAX).contains(&user.len())
            || user.chars().any(|character| character == ':' || character.is_control())
        {
            let what = format!("`{}` cannot be a Redfish user", shown(user));
            return Err(self.error(
                written_user.span(),
                what,
                "use 1 to 256 characters, no colon among them",
            ));
        }
        let auth = match &raw.auth {
            Some(text) => self.choice(
                text,
                "way to log in",
                &[("session", RedfishAuth::Session), ("basic", RedfishAuth::Basic)],
            )?,
            None => RedfishAuth::Session,
        };
        let system = match &raw.system {
            Some(text) if !is_service_path(text.get_ref()) => {
                let what = format!("`{}` is no path of a system", shown(text.get_ref()));
                let help = "write the system's @odata.id, such as \"/redfish/v1/Systems/1\"";
                return Err(self.error(text.span(), what, help));
            }
            system => system.as_ref().map(|text| text.get_ref().clone()),
        };
        let uuid = match &raw.uuid {
            Some(text) => self.system_uuid(text)?,
            None => Identity(hex_digits(host.machine().bytes())),
        };
        let tls = self.tls(raw, address)?;
        let password = self.secret(self.needed(raw, "password", &raw.password)?)?;
        Ok(Redfish { address, tls, user: user.clone(), password, auth, system, uuid })
    }

    fn tls(&self, raw: &RawDevice, address: SocketAddr) -> Result<Option<Tls>, ConfigError> {
        let plain = raw.insecure_http.as_ref().filter(|plain| *plain.get_ref());
        match (&raw.ca, plain) {
            (Some(ca), None) => {
                let name = raw.tls_name.as_ref().map(|name| self.tls_name(name)).transpose()?;
                let name = name.unwrap_or_else(|| address.ip().to_string());
                Ok(Some(Tls { ca: self.absolute(ca)?, name }))
            }
            (None, Some(_)) => Ok(None),
            (Some(_), Some(plain)) => {
                let what = "`ca` and `insecure_http` contradict one another";
                Err(self.error(plain.span(), what, "leave `insecure_http` out"))
            }
            (None, None) => {
                let what = format!("device `{}` has no `ca`", shown(raw.name.get_ref()));
                let help = "write the file with the certificate of the CA that signed the BMC's (or the BMC's own CA \
                            certificate), PEM; `insecure_http = true` does without, and sends the password in the clear";
                Err(self.error(raw.name.span(), what, help))
            }
        }
    }

    /// A host name (RFC 1123 section 2.1) or an address.
    fn tls_name(&self, text: &Text) -> Result<String, ConfigError> {
        let name = text.get_ref();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-:".contains(&byte);
        let is_address = name.parse::<std::net::IpAddr>().is_ok();
        if (1..=NAME_MAX).contains(&name.len())
            && name.bytes().all(allowed)
            && (is_address || !name.contains(':'))
        {
            return Ok(name.clone());
        }
        let what = format!("`{}` cannot be the name in a certificate", shown(name));
        Err(self.error(text.span(), what, "write a host name, or an address without a port"))
    }

    fn system_uuid(&self, text: &Text) -> Result<Identity, ConfigError> {
        let bytes = hex(&text.get_ref().replace('-', "")).filter(|bytes| !is_blank(bytes));
        bytes.map(|bytes| Identity(hex_digits(bytes))).ok_or_else(|| {
            let what = format!("`{}` is no system's UUID", shown(text.get_ref()));
            let help = "write what the service says as the system's UUID; one that many boards ship with (all zeros, all ones, 03000200-...) names no system";
            self.error(text.span(), what, help)
        })
    }

    fn guid(&self, text: &Text) -> Result<Identity, ConfigError> {
        let written = text.get_ref();
        let Some(bytes) = hex(written) else {
            let what = format!("`{}` is no BMC's GUID", shown(written));
            return Err(self.error(
                text.span(),
                what,
                "write 32 hexadecimal digits in wire order, without hyphens",
            ));
        };
        // SAFE-4: an identity that says nothing cannot be bound to a host.
        if is_blank(&bytes) {
            let what = "a GUID that many BMCs ship with does not identify this one";
            let help =
                "set a GUID in the BMC's own settings; without one it cannot prove whose power it reads";
            return Err(self.error(text.span(), what, help));
        }
        Ok(Identity(written.to_ascii_lowercase()))
    }

    /// SAFE-4: one BMC, told by its GUID or its address, must not stand for two hosts.
    fn of_one_host(
        &self,
        earlier: &Device,
        earlier_raw: &RawDevice,
        device: &Device,
        raw: &RawDevice,
    ) -> Result<(), ConfigError> {
        if earlier.fences == device.fences {
            return Ok(());
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
            // By two protocols one BMC listens on two ports; two BMCs behind one forwarding address differ in their ports.
            (DeviceKind::Ipmi(a), DeviceKind::Ipmi(b)) if a.address != b.address => Ok(()),
            (a, b) if a.address().ip() == b.address().ip() => {
                let help = "write the address of this host's own BMC";
                Err(self.error(place(&raw.address), what("address"), help))
            }
            (DeviceKind::Ipmi(_) | DeviceKind::Redfish(_), DeviceKind::Ipmi(_) | DeviceKind::Redfish(_)) => {
                Ok(())
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Ipmi,
    Redfish,
}

impl Kind {
    /// For one command, unless written.
    fn deadline(self) -> Duration {
        match self {
            Self::Ipmi => Duration::secs(4),
            // TLS, a login, a reading and the order take some BMCs seconds.
            Self::Redfish => Duration::secs(6),
        }
    }

    /// Beyond those that every device has.
    fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Ipmi => &["address", "user", "password", "kg", "cipher_suite", "privilege", "guid"],
            Self::Redfish => {
                &["address", "user", "password", "auth", "ca", "tls_name", "insecure_http", "system", "uuid"]
            }
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
    ];
    settings.into_iter().filter_map(|(name, place)| Some((name, place?))).collect()
}

/// Whether it is an absolute path that HTTP carries as it is.
fn is_service_path(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"#\\<>?".contains(&byte);
    text.starts_with('/') && !text.starts_with("//") && text.len() <= PATH_MAX && text.bytes().all(plain)
}
