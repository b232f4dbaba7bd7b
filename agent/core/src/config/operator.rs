//! Operators: the people whose signature counts under a statement.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use toml::Spanned;

use super::{
    error::ConfigError,
    raw::RawOperator,
    source::{Seen, Source},
};

/// The most operators.
const OPERATORS_MAX: usize = 64;
/// What stands before the key's own bytes (RFC 8709, 4): both parts with their lengths.
const PREFIX: &[u8] = b"\0\0\0\x0bssh-ed25519\0\0\0\x20";

/// A person, and the key that is that person's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    name: String,
    key: [u8; 32],
}

impl Operator {
    /// Whoever has the private part of this key, which is a line of a `.pub` file; `None` if it is no Ed25519 key of OpenSSH.
    #[must_use]
    pub fn of(name: &str, line: &str) -> Option<Self> {
        Some(Self { name: name.to_owned(), key: public_key(line)? })
    }

    /// The name in the configuration; it stands in the record.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The Ed25519 public key (RFC 8032).
    #[must_use]
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }
}

impl Source<'_> {
    pub(super) fn operators(&self, raw: &[Spanned<RawOperator>]) -> Result<Vec<Operator>, ConfigError> {
        if let Some(one) = raw.get(OPERATORS_MAX) {
            let what = format!("more than {OPERATORS_MAX} operators");
            return Err(self.error(one.span(), what, "name those who may speak for a dead host"));
        }
        let (mut names, mut keys) = (Seen::new(), Seen::new());
        let mut operators = Vec::with_capacity(raw.len());
        for raw in raw.iter().map(Spanned::get_ref) {
            let name = self.label(&raw.name, "operator")?;
            let help = "give each operator a name of its own";
            self.once(&mut names, name.clone(), raw.name.span(), &format!("operator `{name}`"), help)?;
            let key = public_key(raw.key.get_ref()).ok_or_else(|| {
                let help = "write the line of the public key (the file that ends with .pub) of `ssh-keygen -t ed25519`";
                self.error(raw.key.span(), "this is no Ed25519 public key of OpenSSH", help)
            })?;
            let help = "one key is one person's";
            self.once(&mut keys, key, raw.key.span(), "this operator's key", help)?;
            operators.push(Operator { name, key });
        }
        Ok(operators)
    }
}

/// `ssh-ed25519 AAAA... comment`, as in a `.pub` file.
fn public_key(line: &str) -> Option<[u8; 32]> {
    let mut words = line.split_whitespace();
    let blob = words.next().filter(|kind| *kind == "ssh-ed25519").and(words.next())?;
    STANDARD.decode(blob).ok()?.strip_prefix(PREFIX)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEbhDzOQfy0ZC42T0lRFxLcYUPqhEwjSQxMf9JperkpT anna@desk";

    #[test]
    fn a_public_key_is_read_as_openssh_writes_it_and_no_other() {
        let key = public_key(LINE).unwrap();
        assert_eq!((key[0], key[31]), (0x46, 0x53));
        assert_eq!(public_key(LINE.trim_end_matches(" anna@desk")), Some(key));
        for other in [
            "",
            "ssh-ed25519",
            "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIEbhDzOQfy0ZC42T0lRFxLcYUPqhEwjSQxMf9JperkpT",
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEbhDzOQfy0ZC42T0lRFxLcYUPqhEwjSQxMf9JperkpTAAAA",
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEbhDzOQfy0ZC42T0lRFxLcYUPqhEwjSQxMf",
            "AAAAC3NzaC1lZDI1NTE5AAAAIEbhDzOQfy0ZC42T0lRFxLcYUPqhEwjSQxMf9JperkpT",
        ] {
            assert_eq!(public_key(other), None, "{other}");
        }
    }
}
