//! The hypervisor below a host that is a virtual machine, checked.

use super::super::{
    Host, Hypervisor, HypervisorWay,
    error::ConfigError,
    raw::{RawDevice, Text},
    source::{Source, shown},
};

/// Longer than any URI that libvirt documents.
const URI_MAX: usize = 512;

impl Source<'_> {
    pub(super) fn hypervisor(&self, raw: &RawDevice, host: &Host) -> Result<Hypervisor, ConfigError> {
        let way = match (&raw.qmp, &raw.libvirt) {
            (Some(qmp), None) => self.monitor(qmp)?,
            (None, Some(uri)) => HypervisorWay::Libvirt(self.libvirt_uri(uri)?),
            (Some(_), Some(uri)) => {
                let what = "`qmp` and `libvirt` are two ways to one machine";
                return Err(self.error(
                    uri.span(),
                    what,
                    "write one of them; libvirt keeps the monitors of its own machines",
                ));
            }
            (None, None) => {
                let what = format!("device `{}` has neither `qmp` nor `libvirt`", shown(raw.name.get_ref()));
                let help =
                    "write where QEMU's monitor of this host is, or the URI of the libvirt that runs it";
                return Err(self.error(raw.name.span(), what, help));
            }
        };
        Ok(Hypervisor { way, uuid: self.machine_uuid(raw, host)? })
    }

    fn monitor(&self, text: &Text) -> Result<HypervisorWay, ConfigError> {
        if text.get_ref().starts_with('/') {
            return Ok(HypervisorWay::QmpSocket(self.absolute(text)?));
        }
        Ok(HypervisorWay::QmpAddress(self.address(text, "address of a QEMU monitor")?))
    }

    fn libvirt_uri(&self, text: &Text) -> Result<String, ConfigError> {
        let uri = text.get_ref();
        let authority =
            uri.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or_default());
        if authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) {
            // SAFE-6: the URI stands in the arguments of virsh, for everybody to read. It is not repeated here either.
            let help = "let virsh log in by an ssh key or a certificate of its own";
            return Err(self.error(text.span(), "this URI of libvirt holds a password", help));
        }
        let scheme = uri.split_once(':').map_or("", |(scheme, _)| scheme);
        let letter = |byte: u8| byte.is_ascii_lowercase() || b"+".contains(&byte);
        if scheme.starts_with(|first: char| first.is_ascii_lowercase())
            && scheme.bytes().all(letter)
            && uri.len() <= URI_MAX
            && uri.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Ok(uri.clone());
        }
        let what = format!("`{}` is no URI of libvirt", shown(uri));
        Err(self.error(text.span(), what, "write one such as \"qemu+ssh://palisade@10.77.1.9/system\""))
    }
}
