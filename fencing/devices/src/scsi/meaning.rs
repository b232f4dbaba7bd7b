//! What is said to a logical unit and what it answers, as it is meant, in whichever protocol. Pure.

use core::fmt;

use palisade_ladder::Failure;

use super::key::Key;
use crate::text::clean;

/// What a persistent reservation is asked to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Out {
    /// This path (SCSI) or this host (NVMe) has this key from now on; `instead_of` the one that an NVMe host has there. With
    /// `persist`, also after the target lost its power.
    Register { key: Key, instead_of: Option<Key>, persist: bool },
    /// Write exclusive for registrants.
    Reserve { key: Key },
    /// Every path or host with the victim's key loses it, and what it has under way is aborted.
    PreemptAndAbort { key: Key, victim: Key },
}

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was carried out.
    Done,
    /// It was not carried out, since the logical unit has something to tell first (unit attention), or is busy: say it again.
    Again,
    /// Another key is needed, or another reservation stands.
    Conflict,
    /// It was not carried out, and why.
    Refused(String),
    /// Nobody knows whether it was carried out: its path was lost, and how.
    Lost(String),
}

/// Who may write while our reservation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Registrant {
    pub(super) key: Key,
    /// Who that is to an NVMe namespace. SCSI registers paths, and READ KEYS does not say which.
    pub(super) host: Option<HostIdentifier>,
}

/// What the registrations of one logical unit say, by one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// One for each registered path (SCSI), or for each controller by which a registered host comes (NVMe).
    pub(super) registrants: Vec<Registrant>,
    pub(super) reservation: Reservation,
}

impl Look {
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.registrants.iter().map(|registrant| registrant.key)
    }

    pub(super) fn has(&self, key: Key) -> bool {
        self.keys().any(|there| there == key)
    }
}

/// The reservation that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reservation {
    /// None: whoever reaches the logical unit may write.
    None,
    /// Only who is registered may write.
    Ours { holder: Key },
    /// Of another kind (SPC-4 table 52; in NVMe 8.19, the Reservation Type).
    Other { kind: u8 },
}

/// Whether registrations outlast a loss of the target's power, and whether it can do our kind of reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capabilities {
    pub(super) persists: bool,
    /// Unknown where the logical unit does not tell its kinds.
    pub(super) wero: Option<bool>,
}

/// Who a host is to NVMe, whichever controller it comes by: 128 bits, on Linux those of `/etc/nvme/hostid`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HostIdentifier(pub(super) [u8; 16]);

impl HostIdentifier {
    /// None was ever set: such a host is nobody, and takes no part in reservations.
    pub(super) fn is_unset(self) -> bool {
        self.0 == [0; 16]
    }
}

impl fmt::Display for HostIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&uuid(&self.0))
    }
}

impl fmt::Debug for HostIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// In groups of 8, 4, 4, 4 and 12 digits.
pub(super) fn uuid(bytes: &[u8; 16]) -> String {
    let mut text = hex(bytes);
    for at in [20, 16, 12, 8] {
        text.insert(at, '-');
    }
    text
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn garbage(detail: String) -> Failure {
    Failure::Garbage { detail: clean(&detail) }
}
