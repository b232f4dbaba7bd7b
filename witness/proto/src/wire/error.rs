//! What can be wrong with bytes, named so that it can be counted and told.

use core::fmt;

use crate::HostId;

/// Why a message could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// It does not fit the buffer.
    TooLarge,
    /// It names more distinct incarnations than [`crate::message::MAX_NAMES`], not counting the dead outside the electorate.
    TooManyNames,
    /// It echoes two packets of one host.
    TwoEchoes {
        /// The host.
        host: HostId,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("the message does not fit its buffer"),
            Self::TooManyNames => f.write_str("the message names too many incarnations"),
            Self::TwoEchoes { host } => write!(f, "the heartbeat echoes two packets of host {host}"),
        }
    }
}

impl core::error::Error for EncodeError {}

/// The part of a message in which something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the part of the message with its name")]
pub enum Field {
    AskKind,
    Awaits,
    Busy,
    Cut,
    Dead,
    Echo,
    Electorate,
    Fenced,
    Flags,
    Found,
    Health,
    Heard,
    Lock,
    Place,
    Presence,
    Refused,
    Stopped,
    To,
    Verdict,
    View,
    Walled,
    Walls,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AskKind => "ask kind",
            Self::Awaits => "awaits",
            Self::Busy => "busy",
            Self::Cut => "cut",
            Self::Dead => "dead",
            Self::Echo => "echo",
            Self::Electorate => "electorate",
            Self::Fenced => "fenced",
            Self::Flags => "flags",
            Self::Found => "found",
            Self::Health => "health",
            Self::Heard => "heard",
            Self::Lock => "lock",
            Self::Place => "place",
            Self::Presence => "presence",
            Self::Refused => "refused",
            Self::Stopped => "stopped",
            Self::To => "to",
            Self::Verdict => "verdict",
            Self::View => "view",
            Self::Walled => "walled",
            Self::Walls => "walls",
        })
    }
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// They end too early.
    Truncated,
    /// Their first byte is a version that is not read here: see [`super::VERSION`] and [`super::HEARTBEAT_VERSION`].
    OtherVersion {
        /// That byte.
        got: u8,
    },
    /// A length or a number in them is impossible.
    Malformed,
    /// Bytes follow the message.
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// A host id above 31.
    NoSuchHost {
        /// The id.
        id: u8,
    },
    /// A list of incarnations is not in strictly rising order: a name may stand twice.
    NamesNotRising,
    /// A set has a member past the end of the message's table of names.
    BeyondTable {
        /// The set.
        field: Field,
    },
    /// A number stands for nothing in this version.
    UnknownCode {
        /// Where.
        field: Field,
        /// The number.
        code: u8,
    },
    /// A workload set is longer than all workloads.
    SetTooLong {
        /// Which set.
        field: Field,
    },
    /// The number of echoes differs from the number of echoed names.
    EchoCount,
    /// Two echoes of one host.
    TwoEchoes {
        /// The host.
        host: HostId,
    },
    /// A grant of a seq below zero.
    GrantBelowZero,
    /// Something is fenced but not dead.
    FencedNotDead,
    /// A wall is read back that is not there.
    WalledWithoutWall,
    /// A version that tells of walls, and tells of none.
    NoWalls,
    /// A version that tells of failing probes and operators' wishes, and tells of none.
    NoCare,
    /// Version 4 without a host in maintenance: that is another version's.
    NoMaintenance,
    /// There are not as many times as hosts in maintenance.
    MaintenanceCount,
    /// The failing probes are not in strictly rising order.
    AilsNotRising,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the message ends too early"),
            Self::OtherVersion { got } => {
                write!(f, "message of version {got}, this build reads 1 to {}", super::HEARTBEAT_VERSION)
            }
            Self::Malformed => f.write_str("a length or a number in the message is impossible"),
            Self::TrailingBytes { count } => write!(f, "{count} bytes follow the message"),
            Self::NoSuchHost { id } => write!(f, "host id {id} is above 31"),
            Self::NamesNotRising => f.write_str("a list of incarnations is not in rising order"),
            Self::BeyondTable { field } => write!(f, "{field} names an incarnation beyond the table"),
            Self::UnknownCode { field, code } => write!(f, "{code} means nothing in {field}"),
            Self::SetTooLong { field } => write!(f, "the set {field} is longer than all workloads"),
            Self::EchoCount => f.write_str("there are more or fewer echoes than echoed names"),
            Self::TwoEchoes { host } => write!(f, "two echoes of host {host}"),
            Self::GrantBelowZero => f.write_str("a grant lies below seq zero"),
            Self::FencedNotDead => f.write_str("an incarnation is fenced but not dead"),
            Self::WalledWithoutWall => f.write_str("an incarnation is walled off without a wall"),
            Self::NoWalls => f.write_str("the message is of the version with walls and has none"),
            Self::NoCare => {
                f.write_str("the message is of the version with failing probes and wishes and has none")
            }
            Self::NoMaintenance => f.write_str("a heartbeat of version 4 tells of no host in maintenance"),
            Self::MaintenanceCount => {
                f.write_str("the heartbeat has not as many times as hosts in maintenance")
            }
            Self::AilsNotRising => f.write_str("the failing probes are not in rising order"),
        }
    }
}

impl core::error::Error for DecodeError {}
