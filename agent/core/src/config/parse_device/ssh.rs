//! Hosts that enforce a cut, over ssh or each by itself, checked.

use std::net::{IpAddr, SocketAddr};

use toml::Spanned;

use super::super::{
    Cut, Device, DeviceKind, Host, Lun, LunTarget, SecretRef, Ssh, Wall,
    error::ConfigError,
    raw::{RawDevice, Text},
    source::{Source, shown},
};

/// The most addresses of one host.
const ADDRESSES_MAX: usize = 64;
/// Longer than any name that useradd takes.
const USER_MAX: usize = 32;
/// Of a name in iSCSI (RFC 3720, section 3.2.6.1).
const NAME_MAX: usize = 223;
/// Where an sshd listens unless it is told otherwise.
const PORT: u16 = 22;

impl Source<'_> {
    /// On another host, by ssh, or on every host of the cluster.
    pub(super) fn nft(
        &self,
        raw: &RawDevice,
        host: &Host,
        hosts: &[Host],
    ) -> Result<DeviceKind, ConfigError> {
        let Some(on) = &raw.on else { return Ok(DeviceKind::Nft(self.cut(raw, host, hosts)?)) };
        self.choice(on, "place of an nftables device", &[("survivors", ())])?;
        if let Some(login) = [&raw.ssh, &raw.identity, &raw.known_hosts].into_iter().flatten().next() {
            let what = "nobody is logged in to for what each host does by itself".to_owned();
            let help = "leave it out, or leave `on` out for another host's firewall";
            return Err(self.error(login.span(), what, help));
        }
        Ok(DeviceKind::Wall(Wall { addresses: self.cut_addresses(raw, None, host, hosts)? }))
    }

    pub(super) fn cut(&self, raw: &RawDevice, host: &Host, hosts: &[Host]) -> Result<Cut, ConfigError> {
        let ssh = self.ssh(raw)?;
        let addresses = self.cut_addresses(raw, Some(&ssh), host, hosts)?;
        Ok(Cut { ssh, addresses })
    }

    /// SAFE-4: what comes from an address is stopped by the check of its source, which IPv6 has not.
    pub(super) fn cut_by_routes(
        &self,
        raw: &RawDevice,
        host: &Host,
        hosts: &[Host],
    ) -> Result<Cut, ConfigError> {
        let cut = self.cut(raw, host, hosts)?;
        let written = raw.addresses.iter().flat_map(|list| list.get_ref());
        match written.into_iter().find(|text| text.get_ref().contains(':')) {
            None => Ok(cut),
            Some(text) => {
                let what = format!("routes do not stop what comes from {}", shown(text.get_ref()));
                Err(self.error(text.span(), what, "write kind = \"nft\" for a host with IPv6"))
            }
        }
    }

    pub(super) fn taken_lun(&self, raw: &RawDevice) -> Result<Lun, ConfigError> {
        let ssh = self.ssh(raw)?;
        let targets = [LunTarget::Tgt, LunTarget::Lio].map(|target| (target.name(), target));
        let target =
            self.choice(self.needed(raw, "target", &raw.target)?, "kind of iSCSI target", &targets)?;
        let iqn = self.iscsi_name(self.needed(raw, "iqn", &raw.iqn)?)?;
        let initiator = self.needed(raw, "initiator", &raw.initiator)?;
        let name = self.iscsi_name(initiator)?;
        if name == iqn {
            let help = "write what stands in the host's own /etc/iscsi/initiatorname.iscsi";
            return Err(self.error(initiator.span(), "the initiator has the name of its target", help));
        }
        Ok(Lun { ssh, target, iqn, initiator: name })
    }

    fn iscsi_name(&self, text: &Text) -> Result<String, ConfigError> {
        let name = text.get_ref();
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:".contains(&byte);
        let kind =
            ["iqn.", "eui.", "naa."].iter().any(|kind| name.len() > kind.len() && name.starts_with(kind));
        if kind && name.len() <= NAME_MAX && name.bytes().all(plain) {
            return Ok(name.clone());
        }
        let what = format!("`{}` is no name in iSCSI", shown(name));
        Err(self.error(text.span(), what, "write one such as \"iqn.2026-01.example:b\", in lower case"))
    }

    fn ssh(&self, raw: &RawDevice) -> Result<Ssh, ConfigError> {
        let text = self.needed(raw, "ssh", &raw.ssh)?;
        let (user, address) = self.ssh_login(text)?;
        let identity = SecretRef::File(self.plain_path(self.needed(raw, "identity", &raw.identity)?)?);
        let known_hosts = self.plain_path(self.needed(raw, "known_hosts", &raw.known_hosts)?)?;
        Ok(Ssh { user, address, identity, known_hosts })
    }

    fn ssh_login(&self, text: &Text) -> Result<(String, SocketAddr), ConfigError> {
        let written = text.get_ref();
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-".contains(&byte);
        let first = |first: u8| first.is_ascii_lowercase() || first == b'_';
        let parts = written.split_once('@').filter(|(user, _)| {
            user.bytes().next().is_some_and(first) && user.bytes().all(plain) && user.len() <= USER_MAX
        });
        let address = |text: &str| {
            let alone = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
            let alone = alone.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT));
            alone.ok().or_else(|| text.parse().ok())
        };
        match parts.and_then(|(user, rest)| Some((user, address(rest)?))) {
            Some((user, address))
                if !address.ip().is_unspecified()
                    && !address.ip().is_multicast()
                    && address.port() != 0
                    // The client would take the address without it.
                    && !matches!(address, SocketAddr::V6(address) if address.scope_id() != 0) =>
            {
                Ok((user.to_owned(), address))
            }
            Some(_) | None => {
                let what = format!("`{}` is no login", shown(written));
                let help = "write a user and a numeric address, such as \"palisade@10.77.1.9\" or \"palisade@[fd00::9]:2222\"";
                Err(self.error(text.span(), what, help))
            }
        }
    }

    /// One that the ssh client takes as it is.
    fn plain_path(&self, text: &Text) -> Result<std::path::PathBuf, ConfigError> {
        let path = self.absolute(text)?;
        if text.get_ref().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte)) {
            return Ok(path);
        }
        let what = format!("the ssh client would not take `{}` as it is", shown(text.get_ref()));
        Err(self.error(text.span(), what, "use letters, digits, slashes, dots, hyphens and underscores"))
    }

    fn cut_addresses(
        &self,
        raw: &RawDevice,
        ssh: Option<&Ssh>,
        host: &Host,
        hosts: &[Host],
    ) -> Result<Vec<IpAddr>, ConfigError> {
        // Not the links unless written: a host may reach its storage by other addresses, and then a cut of these is none.
        let list = self.needed(raw, "addresses", &raw.addresses)?;
        if !(1..=ADDRESSES_MAX).contains(&list.get_ref().len()) {
            let what = format!("{} addresses to cut off", list.get_ref().len());
            return Err(self.error(
                list.span(),
                what,
                format!("write 1 to {ADDRESSES_MAX}: every one of the host there"),
            ));
        }
        let mut addresses = Vec::new();
        for text in list.get_ref() {
            let address = self.cut_address(text)?;
            let other = hosts.iter().filter(|other| other.id() != host.id());
            if let Some(other) =
                other.into_iter().find(|other| other.links().iter().any(|link| link.ip() == address))
            {
                let what = format!("{address} is a link of host `{}`", other.name());
                return Err(self.error(
                    text.span(),
                    what,
                    "write the addresses of the host that this device fences",
                ));
            }
            if ssh.is_some_and(|ssh| ssh.address.ip() == address) {
                let what = format!("{address} is the host that enforces the cut");
                return Err(self.error(
                    text.span(),
                    what,
                    "write the addresses of the host that this device fences",
                ));
            }
            addresses.push(address);
        }
        addresses.sort();
        addresses.dedup();
        Ok(addresses)
    }

    fn cut_address(&self, text: &Text) -> Result<IpAddr, ConfigError> {
        let help = "write numeric addresses of single hosts, such as \"10.0.0.2\"";
        let address: Option<IpAddr> = text.get_ref().parse().ok();
        let single = |address: &IpAddr| {
            let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
            let unspecific = address.is_unspecified() || address.is_multicast() || address.is_loopback();
            !unspecific && !broadcast && address.to_canonical() == *address
        };
        address.filter(single).ok_or_else(|| {
            self.error(text.span(), format!("`{}` is no address of a host", shown(text.get_ref())), help)
        })
    }

    /// SAFE-4: what is cut off is one host's; and one cut that is read twice says nothing of a second one.
    pub(super) fn enforced_once(
        &self,
        earlier: &Device,
        earlier_raw: &RawDevice,
        device: &Device,
        raw: &RawDevice,
    ) -> Result<(), ConfigError> {
        if let (DeviceKind::Lun(a), DeviceKind::Lun(b)) = (&earlier.kind, &device.kind) {
            return self.of_one_initiator((earlier, a), earlier_raw, (device, b), raw);
        }
        if earlier.fences == device.fences && earlier.kind.is_wall() && device.kind.is_wall() {
            let what = format!("device `{}` is `{}` once more", device.name, earlier.name);
            let place = raw.on.as_ref().map_or_else(|| raw.name.span(), Spanned::span);
            return Err(self.error(place, what, "write all addresses of the host in one"));
        }
        let place = || raw.addresses.as_ref().map_or_else(|| raw.name.span(), Spanned::span);
        let shared = device.kind.cuts().iter().find(|address| earlier.kind.cuts().contains(address));
        match shared {
            Some(address) if earlier.fences != device.fences => {
                let what = format!(
                    "device `{}` cuts off {address}, as does `{}`, which fences host `{}`",
                    device.name,
                    earlier.name,
                    shown(earlier_raw.fences.get_ref())
                );
                Err(self.error(place(), what, "write this host's own addresses"))
            }
            // Another login there is no other host.
            Some(_)
                if at_one_place(&earlier.kind, &device.kind) && earlier.kind.cuts() == device.kind.cuts() =>
            {
                let what = format!("device `{}` is `{}` once more", device.name, earlier.name);
                Err(self.error(place(), what, "write the other host that enforces, or leave it out"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// SAFE-4: an initiator is one host's, at whatever target.
    fn of_one_initiator(
        &self,
        (earlier, a): (&Device, &Lun),
        earlier_raw: &RawDevice,
        (device, b): (&Device, &Lun),
        raw: &RawDevice,
    ) -> Result<(), ConfigError> {
        let place = raw.initiator.as_ref().map_or_else(|| raw.name.span(), Spanned::span);
        if earlier.fences != device.fences && a.initiator == b.initiator {
            let other = shown(earlier_raw.fences.get_ref());
            let what = format!(
                "device `{}` has the initiator of `{}`, which fences host `{other}`",
                device.name, earlier.name
            );
            return Err(self.error(place, what, "write the name of this host's own initiator"));
        }
        if earlier.fences == device.fences && at_one_place(&earlier.kind, &device.kind) && a.iqn == b.iqn {
            let what = format!("device `{}` is `{}` once more", device.name, earlier.name);
            return Err(self.error(place, what, "write the other target, or leave it out"));
        }
        Ok(())
    }
}

/// Whether both enforce in the same way on the same host.
fn at_one_place(a: &DeviceKind, b: &DeviceKind) -> bool {
    let address = |kind: &DeviceKind| kind.ssh().map(Ssh::address);
    std::mem::discriminant(a) == std::mem::discriminant(b) && address(a) == address(b)
}
