//! Fence devices, checked. Whom a device fences is bound to its identity here: a wrong binding shoots a healthy host.

use palisade_ladder::Identity;
use palisade_proto::Duration;
use toml::Spanned;

use super::{
    CipherSuite, Device, DeviceKind, Host, Ipmi, Privilege,
    error::ConfigError,
    names::{hex, is_blank},
    parse::Settings,
    raw::{RawDevice, Text},
    source::{Seen, Source, shown},
};

/// The most devices of a cluster: four for each of 32 hosts.
const DEVICES_MAX: usize = 128;
/// The longest user name (IPMI 2.0 section 22.28).
const IPMI_USER_MAX: usize = 16;

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
        let () = self.choice(&raw.kind, "kind of device", &[("ipmi", ())])?;
        let fences = self.reference(&raw.fences, "host", hosts, Host::name)?.id();
        let level = raw.level.as_ref().map_or(Ok(1), |level| self.number(level, 1..=9, "device level"))?;
        let deadline = self.duration_or(raw.deadline.as_ref(), Duration::secs(4))?;
        let retries =
            raw.retries.as_ref().map_or(Ok(3), |tries| self.number(tries, 1..=10, "device retries"))?;
        let kind = DeviceKind::Ipmi(self.ipmi(raw)?);
        Ok(Device { name, fences, level, deadline, retries, kind })
    }

    fn ipmi(&self, raw: &RawDevice) -> Result<Ipmi, ConfigError> {
        let user = raw.user.get_ref();
        if !(1..=IPMI_USER_MAX).contains(&user.len()) || !user.bytes().all(|byte| byte.is_ascii_graphic()) {
            let what = format!("`{}` cannot be an IPMI user", shown(user));
            return Err(self.error(raw.user.span(), what, "use 1 to 16 printable ASCII characters"));
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
            address: self.address(&raw.address, "BMC address")?,
            user: user.clone(),
            password: self.secret(&raw.password)?,
            kg: raw.kg.as_ref().map(|kg| self.secret(kg)).transpose()?,
            cipher_suite,
            privilege,
            guid: self.guid(&raw.guid)?,
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
            let what = "a GUID of all zeros or all ones does not identify a BMC";
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
        let DeviceKind::Ipmi(a) = &earlier.kind;
        let DeviceKind::Ipmi(b) = &device.kind;
        let what = |same: &str| {
            let Device { name, .. } = device;
            let other = earlier_raw.fences.get_ref();
            format!("device `{name}` has the {same} of `{}`, which fences host `{other}`", earlier.name)
        };
        if a.guid == b.guid {
            let help = "read each BMC's GUID and write it; two BMCs that say the same GUID cannot be told apart: set one";
            return Err(self.error(raw.guid.span(), what("GUID"), help));
        }
        if a.address == b.address {
            return Err(self.error(
                raw.address.span(),
                what("address"),
                "write the address of this host's own BMC",
            ));
        }
        Ok(())
    }
}
