//! The port of a managed switch, checked.

use palisade_ladder::Identity;
use toml::Spanned;

use super::super::{
    Device, Host, SnmpAuth, SnmpLogin, Switch, SwitchPort,
    error::ConfigError,
    raw::{RawDevice, RawPort},
    source::{Source, shown},
};

/// RFC 2863: ifName and ifAlias; RFC 3411: a user's name. In bytes.
const NAME_MAX: usize = 255;
const ALIAS_MAX: usize = 64;
const SNMP_USER_MAX: usize = 32;

impl Source<'_> {
    pub(super) fn switch(&self, raw: &RawDevice, host: &Host) -> Result<Switch, ConfigError> {
        let address = self.address(self.needed(raw, "address", &raw.address)?, "address of a switch")?;
        let port = self.switch_port(self.needed(raw, "port", &raw.port)?)?;
        let alias = match &raw.alias {
            Some(text) if !is_plain(text.get_ref(), ALIAS_MAX) => {
                let what = format!("`{}` cannot be the alias of a port", shown(text.get_ref()));
                return Err(self.error(
                    text.span(),
                    what,
                    "write the port's ifAlias (its description), 1 to 64 bytes",
                ));
            }
            Some(text) => text.get_ref().clone(),
            None => host.name().to_owned(),
        };
        let login = self.snmp_login(raw)?;
        Ok(Switch { address, port, alias: Identity(alias), login })
    }

    fn switch_port(&self, port: &Spanned<RawPort>) -> Result<SwitchPort, ConfigError> {
        let written = match port.get_ref() {
            RawPort::Name(name) if is_plain(name, NAME_MAX) => return Ok(SwitchPort::Name(name.clone())),
            RawPort::Index(index) => match u32::try_from(*index) {
                Ok(index @ 1..=0x7fff_ffff) => return Ok(SwitchPort::Index(index)),
                Ok(_) | Err(_) => index.to_string(),
            },
            RawPort::Name(name) => shown(name),
        };
        let help = "write its ifName, such as \"Gi1/0/12\", or its ifIndex, such as 10112";
        Err(self.error(port.span(), format!("`{written}` is no port of a switch"), help))
    }

    fn snmp_login(&self, raw: &RawDevice) -> Result<SnmpLogin, ConfigError> {
        let of_a_user = [
            raw.auth_protocol.as_ref().map(Spanned::span),
            raw.auth_password.as_ref().map(Spanned::span),
            raw.priv_protocol.as_ref().map(Spanned::span),
            raw.priv_password.as_ref().map(Spanned::span),
        ];
        match (&raw.community, &raw.user) {
            (Some(community), None) => match of_a_user.into_iter().flatten().next() {
                None => Ok(SnmpLogin::Community(self.secret(community)?)),
                Some(place) => {
                    let what = "a community (SNMPv2c) has no other password";
                    Err(self.error(place, what, "leave it out, or write `user` instead of `community`"))
                }
            },
            (Some(community), Some(_)) => {
                let what = "`community` (SNMPv2c) and `user` (SNMPv3) are two logins";
                Err(self.error(community.span(), what, "write one of them; `user` if the switch can"))
            }
            (None, None) => {
                let what =
                    format!("device `{}` has neither `user` nor `community`", shown(raw.name.get_ref()));
                let help =
                    "write `user`, `auth_password` and `priv_password` (SNMPv3), or `community` (SNMPv2c)";
                Err(self.error(raw.name.span(), what, help))
            }
            (None, Some(user)) => {
                if !is_plain(user.get_ref(), SNMP_USER_MAX) {
                    let what = format!("`{}` cannot be an SNMP user", shown(user.get_ref()));
                    return Err(self.error(user.span(), what, "use 1 to 32 bytes"));
                }
                let auths = [("sha256", SnmpAuth::Sha256), ("sha1", SnmpAuth::Sha1)];
                let auth = raw.auth_protocol.as_ref();
                let auth = auth.map_or(Ok(SnmpAuth::Sha256), |text| {
                    self.choice(text, "authentication of SNMPv3", &auths)
                })?;
                if let Some(text) = &raw.priv_protocol {
                    self.choice(text, "privacy of SNMPv3", &[("aes128", ())])?;
                }
                // A user without both is refused: whoever cuts hosts off must not be overheard or imitated.
                let auth_password = self.needed(raw, "auth_password", &raw.auth_password)?;
                let priv_password = self.needed(raw, "priv_password", &raw.priv_password)?;
                Ok(SnmpLogin::User {
                    user: user.get_ref().clone(),
                    auth,
                    auth_password: self.secret(auth_password)?,
                    priv_password: self.secret(priv_password)?,
                })
            }
        }
    }

    /// SAFE-4: one port must not stand for two hosts, nor twice for one; nor one alias for two hosts.
    pub(super) fn of_one_port(
        &self,
        (earlier, a): (&Device, &Switch),
        (device, b): (&Device, &Switch),
        raw: &RawDevice,
    ) -> Result<(), ConfigError> {
        if a.address == b.address && a.port == b.port {
            let what = format!("device `{}` is the port of `{}` once more", device.name, earlier.name);
            let place = raw.port.as_ref().map_or_else(|| raw.name.span(), Spanned::span);
            return Err(self.error(place, what, "write the port that it is meant to close, or leave it out"));
        }
        if earlier.fences != device.fences && a.alias == b.alias {
            let what = format!(
                "device `{}` has the port alias of `{}`, which fences another host",
                device.name, earlier.name
            );
            let place = raw.alias.as_ref().map_or_else(|| raw.name.span(), Spanned::span);
            return Err(self.error(
                place,
                what,
                "give each host's ports an alias of their own, and write it",
            ));
        }
        Ok(())
    }
}

fn is_plain(text: &str, len_max: usize) -> bool {
    (1..=len_max).contains(&text.len()) && !text.chars().any(char::is_control)
}
