//! Whether a message is an order that this host is to take: pure, given what time it is.
//!
//! Never: whether it was taken before, which is the disk's to say ([`super::used`]), or whether what it asks is possible now, which is
//! the engine's.

use std::fmt;
use std::time::{Duration, SystemTime};

use palisade_core::config::{Cluster, Operator, Verb};

use super::written::{MESSAGE_MAX, PURPOSE, Written, split};
use crate::counters::OrderRefused;
use crate::order::Wanted;
use crate::statement::{self, signer};

/// The longest that an order counts.
pub(crate) const COUNTS_MAX: Duration = Duration::from_secs(600);
/// So much the clocks of an operator and of a host may differ.
pub(super) const AHEAD_MAX: Duration = Duration::from_secs(60);
/// More signatures than any policy asks for are not looked at.
const SIGNATURES_MAX: usize = 4;

/// What a message is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// For another host's agent.
    NotOurs,
    /// Authentic, fresh and signed by enough.
    Sound(Sound),
    /// None that is taken.
    Refused {
        refusal: Refusal,
        /// What it says, if it is an order at all.
        written: Option<Written>,
        /// Who has signed it, and the whole of it, if an operator has.
        by: Option<String>,
        text: Option<String>,
    },
}

/// An order to be taken, unless it was before.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sound {
    pub(super) written: Written,
    pub(super) wanted: Wanted,
    /// Who signed it.
    pub(super) by: String,
    /// Word by word, with the signatures.
    pub(super) text: String,
}

/// Why an order is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The text is none that this version writes.
    NoOrder {
        /// The line that is missing or otherwise, from 1; 0: it is too long, or no text.
        line: usize,
    },
    /// Something that such an order needs is missing, or too much.
    Incomplete(String),
    /// It is for another cluster.
    OtherCluster {
        /// Which.
        says: String,
    },
    /// Nobody signed.
    Unsigned,
    /// A signature under it is none of an operator's over this text.
    Signature(statement::Refusal),
    /// The policy asks for more people.
    TooFew {
        /// Who has signed.
        by: String,
        /// Which order takes two.
        verb: Verb,
    },
    /// It counts for longer than any may.
    CountsTooLong,
    /// It was made in the future.
    Early {
        /// When it says that it was made.
        made: SystemTime,
        /// What time it is here.
        now: SystemTime,
    },
    /// Its time is over.
    Expired {
        /// When it was.
        expires: SystemTime,
        /// What time it is here.
        now: SystemTime,
    },
    /// It was taken before.
    Replayed,
    /// A later order was taken at a time that this host's clock has yet to reach.
    ClockWentBack {
        /// When the newest order that was taken was made.
        newest: SystemTime,
        /// What time it is here.
        now: SystemTime,
    },
    /// That it was taken cannot be written down.
    NotNoted(String),
}

impl Refusal {
    pub(super) fn kind(&self) -> OrderRefused {
        match self {
            Self::NoOrder { .. } | Self::Incomplete(_) | Self::OtherCluster { .. } => OrderRefused::Malformed,
            Self::Unsigned => OrderRefused::Unsigned,
            Self::Signature(_) => OrderRefused::Forged,
            Self::TooFew { .. } => OrderRefused::TooFewOperators,
            Self::Early { .. } | Self::ClockWentBack { .. } => OrderRefused::Early,
            Self::Expired { .. } | Self::CountsTooLong => OrderRefused::Expired,
            Self::Replayed => OrderRefused::Replayed,
            Self::NotNoted(_) => OrderRefused::NotNoted,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |time: &SystemTime| humantime::format_rfc3339_seconds(*time);
        match self {
            Self::NoOrder { line: 0 } => f.write_str("this is no order: it is too long, or not text"),
            Self::NoOrder { line } => {
                write!(
                    f,
                    "the order's line {line} is not what it should be: take the `palisade` of this agent's version"
                )
            }
            Self::Incomplete(what) => write!(f, "the order is not complete: {what}"),
            Self::OtherCluster { says } => {
                write!(f, "the order is for the cluster `{says}`, and this is another")
            }
            Self::Unsigned => f.write_str("nobody has signed the order: `palisade order sign` does"),
            Self::Signature(refusal) => write!(f, "{refusal}"),
            Self::TooFew { by, verb } => write!(
                f,
                "`{}` takes two operators ([orders] two_operators), and {by} is one: have another sign it with `palisade order sign`",
                verb.name()
            ),
            Self::CountsTooLong => {
                write!(f, "the order counts for longer than {} min: make another", COUNTS_MAX.as_secs() / 60)
            }
            Self::Early { made, now } => write!(
                f,
                "the order was made at {}, and it is {} here: one of the clocks is wrong; nothing is done by it before they agree",
                time(made),
                time(now)
            ),
            Self::Expired { expires, now } => write!(
                f,
                "the order counted until {}, and it is {} here: it is too old, or one of the clocks is wrong; make another, or set the clock",
                time(expires),
                time(now)
            ),
            Self::Replayed => {
                f.write_str("this very order was taken before: make another to have it done again")
            }
            Self::ClockWentBack { newest, now } => write!(
                f,
                "an order that was made at {} has been taken, and it is {} here: the clock of this host went back; set it",
                time(newest),
                time(now)
            ),
            Self::NotNoted(error) => {
                write!(
                    f,
                    "it cannot be written down that the order was taken, so it could be taken twice: {error}"
                )
            }
        }
    }
}

pub(super) fn judge(message: &[u8], cluster: &Cluster, host: &str, now: SystemTime) -> Judged {
    let refused = |refusal, written| Judged::Refused { refusal, written, by: None, text: None };
    let Some(message) = std::str::from_utf8(message).ok().filter(|text| text.len() <= MESSAGE_MAX) else {
        return refused(Refusal::NoOrder { line: 0 }, None);
    };
    let (text, signatures) = split(message);
    let written = match Written::parse(text) {
        Ok(written) => written,
        Err(line) => return refused(Refusal::NoOrder { line }, None),
    };
    if written.to != host {
        return Judged::NotOurs;
    }
    let by = match signers(cluster, text, &signatures) {
        Ok(by) => by,
        Err(refusal) => return refused(refusal, Some(written)),
    };
    let (names, text) = (named(&by), message.to_owned());
    match allowed(&written, cluster, &by, now) {
        Ok(wanted) => Judged::Sound(Sound { written, wanted, by: format!("{names} from afar"), text }),
        Err(refusal) => {
            let by = Some(format!("{names} from afar"));
            Judged::Refused { refusal, written: Some(written), by, text: Some(text) }
        }
    }
}

/// SAFE-7: who has signed, each once; and no signature under it is another's.
fn signers<'a>(cluster: &'a Cluster, text: &str, signatures: &[&str]) -> Result<Vec<&'a Operator>, Refusal> {
    if signatures.is_empty() {
        return Err(Refusal::Unsigned);
    }
    if signatures.len() > SIGNATURES_MAX {
        return Err(Refusal::Incomplete(format!("more than {SIGNATURES_MAX} signatures stand under it")));
    }
    let mut by: Vec<&Operator> = Vec::new();
    for signature in signatures {
        let operator = signer(PURPOSE, cluster.operators(), text, signature).map_err(Refusal::Signature)?;
        if !by.contains(&operator) {
            by.push(operator);
        }
    }
    Ok(by)
}

fn allowed(
    written: &Written,
    cluster: &Cluster,
    by: &[&Operator],
    now: SystemTime,
) -> Result<Wanted, Refusal> {
    let Written { verb, about, length_ms, reason, made, expires, .. } = written;
    if written.cluster != cluster.name() {
        return Err(Refusal::OtherCluster { says: written.cluster.clone() });
    }
    let counts = expires.duration_since(*made).map_err(|_| Refusal::Expired { expires: *expires, now })?;
    // SAFE-7: wherever this host's clock is off by more, nothing is done: it fails closed.
    match () {
        () if counts > COUNTS_MAX => return Err(Refusal::CountsTooLong),
        () if *made > now + AHEAD_MAX => return Err(Refusal::Early { made: *made, now }),
        () if *expires < now => return Err(Refusal::Expired { expires: *expires, now }),
        () => {}
    }
    let needed = cluster.orders().map_or(usize::MAX, |orders| orders.signatures(*verb));
    if by.len() < needed {
        return Err(Refusal::TooFew { by: named(by), verb: *verb });
    }
    let wanted = Wanted { verb: *verb, name: about.clone(), length_ms: *length_ms, reason: reason.clone() };
    wanted.checked().map_err(Refusal::Incomplete)
}

fn named(by: &[&Operator]) -> String {
    by.iter().map(|operator| operator.name()).collect::<Vec<_>>().join(" and ")
}
