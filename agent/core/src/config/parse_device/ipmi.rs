//! A BMC by IPMI, checked.

use palisade_ladder::Identity;

use super::super::{
    CipherSuite, Ipmi, Privilege,
    error::ConfigError,
    names::{hex, is_blank},
    raw::{RawDevice, Text},
    source::{Source, shown},
};

/// The longest user name (IPMI 2.0 section 22.28).
const IPMI_USER_MAX: usize = 16;

impl Source<'_> {
    pub(super) fn ipmi(&self, raw: &RawDevice) -> Result<Ipmi, ConfigError> {
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
}
