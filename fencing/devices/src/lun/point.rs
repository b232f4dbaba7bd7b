//! What is asked and ordered at the target.

use core::fmt;

use palisade_ladder::Reading;

use super::{lio, tgt};
use crate::ssh::Point;

/// Of a name in iSCSI (RFC 3720, section 3.2.6.1).
const NAME_MAX: usize = 223;

/// What serves the LUNs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The user space target of scsi-target-utils.
    Tgt,
    /// The kernel's.
    Lio,
}

/// One initiator at one target. Checked once, by [`LunPoint::new`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LunPoint {
    target: Target,
    names: Names,
}

/// Who is cut off from what, by their names in iSCSI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) target: String,
    pub(super) initiator: String,
}

/// A name that nobody has in iSCSI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LunConfigError {
    /// As configured.
    pub name: String,
}

impl fmt::Display for LunConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no name of a target or an initiator", self.name)
    }
}

impl std::error::Error for LunConfigError {}

impl LunPoint {
    /// `iqn` is the target's name, `initiator` that of the host's initiator; both in lower case, as they are compared.
    ///
    /// # Errors
    /// The first thing that cannot be used.
    pub fn new(target: Target, iqn: &str, initiator: &str) -> Result<Self, LunConfigError> {
        for name in [iqn, initiator] {
            let plain =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:".contains(&byte);
            if !is_name(name) || !name.bytes().all(plain) || name.len() > NAME_MAX {
                return Err(LunConfigError { name: name.to_owned() });
            }
        }
        Ok(Self { target, names: Names { target: iqn.to_owned(), initiator: initiator.to_owned() } })
    }
}

/// Whether it has the form of one.
pub(super) fn is_name(text: &str) -> bool {
    ["iqn.", "eui.", "naa."].iter().any(|kind| text.strip_prefix(kind).is_some_and(|rest| !rest.is_empty()))
}

/// What the target says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// Of tgt.
    Tgt(tgt::Rights),
    /// Of LIO.
    Lio(lio::Rights),
}

impl Point for LunPoint {
    type View = View;

    fn questions(&self) -> Vec<String> {
        vec![match self.target {
            Target::Tgt => tgt::question(),
            Target::Lio => lio::question(&self.names),
        }]
    }

    fn view(&self, answers: &[String]) -> Result<View, String> {
        let [answer] = answers else { return Err("not one answer".to_owned()) };
        match self.target {
            Target::Tgt => tgt::read(answer, &self.names).map(View::Tgt),
            Target::Lio => lio::read(answer, &self.names).map(View::Lio),
        }
    }

    fn reading(&self, view: &View) -> Reading {
        match view {
            View::Tgt(rights) => rights.reading(),
            View::Lio(rights) => rights.reading(),
        }
    }

    fn hindrance(&self, view: &View) -> Option<String> {
        match view {
            View::Tgt(rights) => rights.hindrance(&self.names),
            View::Lio(rights) => rights.hindrance(&self.names),
        }
    }

    fn cut(&self, view: &View) -> String {
        match view {
            View::Tgt(rights) => rights.cut(&self.names),
            View::Lio(rights) => rights.cut(&self.names),
        }
    }

    fn open(&self, view: &View) -> String {
        match view {
            View::Tgt(rights) => rights.open(&self.names),
            View::Lio(rights) => rights.open(&self.names),
        }
    }

    fn subject(&self) -> String {
        format!("for {} at {}", self.names.initiator, self.names.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_iscsi() {
        let new = |initiator: &str| LunPoint::new(Target::Tgt, "iqn.2026-01.example:store", initiator);
        assert_eq!(
            new("iqn.2026-01.example:b").unwrap().subject(),
            "for iqn.2026-01.example:b at iqn.2026-01.example:store"
        );
        for name in [
            "",
            "b",
            "iqn.",
            "ALL",
            "iqn.2026-01.Example:b",
            "iqn.a b",
            "iqn.a;b",
            "iqn.a/..",
            &format!("iqn.{}", "a".repeat(220)),
        ] {
            assert_eq!(new(name), Err(LunConfigError { name: name.to_owned() }));
        }
    }
}
