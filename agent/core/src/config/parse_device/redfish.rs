//! A BMC by Redfish, checked.

use std::net::SocketAddr;

use palisade_ladder::Identity;

use super::super::{
    Host, Redfish, RedfishAuth, Tls,
    error::ConfigError,
    names::{hex, hex_digits, is_blank},
    raw::{RawDevice, Text},
    source::{Source, shown},
};

/// More than any service knows.
const REDFISH_USER_MAX: usize = 256;
/// The longest host name (RFC 1035 section 2.3.4).
const NAME_MAX: usize = 253;
/// The longest path of a system.
const PATH_MAX: usize = 512;

impl Source<'_> {
    pub(super) fn redfish(&self, raw: &RawDevice, host: &Host) -> Result<Redfish, ConfigError> {
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
        let uuid = self.machine_uuid(raw, host)?;
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

    /// As the device calls the host's machine: by the UUID that the machine reads of itself, unless another is written.
    pub(super) fn machine_uuid(&self, raw: &RawDevice, host: &Host) -> Result<Identity, ConfigError> {
        let written = raw.uuid.as_ref().map(|text| self.system_uuid(text)).transpose()?;
        Ok(written.unwrap_or_else(|| Identity(hex_digits(host.machine().bytes()))))
    }

    fn system_uuid(&self, text: &Text) -> Result<Identity, ConfigError> {
        let bytes = hex(&text.get_ref().replace('-', "")).filter(|bytes| !is_blank(bytes));
        bytes.map(|bytes| Identity(hex_digits(bytes))).ok_or_else(|| {
            let what = format!("`{}` is no system's UUID", shown(text.get_ref()));
            let help = "write what the service says as the system's UUID; one that many boards ship with (all zeros, all ones, 03000200-...) names no system";
            self.error(text.span(), what, help)
        })
    }
}

/// Whether it is an absolute path that HTTP carries as it is.
fn is_service_path(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"#\\<>?".contains(&byte);
    text.starts_with('/') && !text.starts_with("//") && text.len() <= PATH_MAX && text.bytes().all(plain)
}
