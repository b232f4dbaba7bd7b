//! A host's server in a load balancer, checked.

use std::net::IpAddr;

use toml::Spanned;

use super::super::{
    Device, HaProxy, HaProxySocket,
    error::ConfigError,
    raw::{RawDevice, Text},
    source::{Source, shown},
};

/// Longer than any name in use.
const NAME_MAX: usize = 255;

impl Source<'_> {
    pub(super) fn haproxy(&self, raw: &RawDevice) -> Result<HaProxy, ConfigError> {
        let socket = self.needed(raw, "socket", &raw.socket)?;
        let socket = match socket.get_ref().starts_with('/') {
            true => HaProxySocket::Path(self.absolute(socket)?),
            false => HaProxySocket::Address(self.address(socket, "address of HAProxy's runtime API")?),
        };
        Ok(HaProxy {
            socket,
            backend: self.haproxy_name(self.needed(raw, "backend", &raw.backend)?)?,
            server: self.haproxy_name(self.needed(raw, "server", &raw.server)?)?,
            server_address: self.server_address(self.needed(
                raw,
                "server_address",
                &raw.server_address,
            )?)?,
        })
    }

    /// As HAProxy itself has them (configuration manual, section 2.2).
    fn haproxy_name(&self, text: &Text) -> Result<String, ConfigError> {
        let name = text.get_ref();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        if (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(plain) {
            return Ok(name.clone());
        }
        let what = format!("`{}` is no name of HAProxy's", shown(name));
        Err(self.error(text.span(), what, "write the name as in haproxy.cfg: letters, digits and -_.:"))
    }

    fn server_address(&self, text: &Text) -> Result<IpAddr, ConfigError> {
        match text.get_ref().parse::<IpAddr>() {
            Ok(address) if !address.is_unspecified() && !address.is_multicast() => Ok(address),
            Ok(_) | Err(_) => {
                let what = format!("`{}` is no address of a server", shown(text.get_ref()));
                Err(self.error(
                    text.span(),
                    what,
                    "write the numeric address on its line in haproxy.cfg, without the port",
                ))
            }
        }
    }

    /// SAFE-4: one server must not stand for two hosts, nor twice for one; nor one address for two hosts.
    pub(super) fn of_one_server(
        &self,
        (earlier, a): (&Device, &HaProxy),
        (device, b): (&Device, &HaProxy),
        raw: &RawDevice,
    ) -> Result<(), ConfigError> {
        let place = |text: &Option<Text>| text.as_ref().map_or_else(|| raw.name.span(), Spanned::span);
        if (&a.socket, &a.backend, &a.server) == (&b.socket, &b.backend, &b.server) {
            let what = format!("device `{}` is the server of `{}` once more", device.name, earlier.name);
            return Err(self.error(
                place(&raw.server),
                what,
                "write the server that it is meant to cut off, or leave it out",
            ));
        }
        if earlier.fences != device.fences && a.server_address == b.server_address {
            let what = format!(
                "device `{}` has the server address of `{}`, which fences another host",
                device.name, earlier.name
            );
            return Err(self.error(place(&raw.server_address), what, "write this host's own address"));
        }
        Ok(())
    }
}
