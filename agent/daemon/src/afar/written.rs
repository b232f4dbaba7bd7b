//! An order as it is signed and sent: a text of ten lines that a person can read, and under it one or two signatures that
//! `ssh-keygen -Y sign -n palisade-order` makes (OpenSSH, PROTOCOL.sshsig).
//!
//! It names the one host whose agent is to take it: that host alone has to remember that it has.

use std::time::{Duration, SystemTime};

use palisade_core::config::Verb;

use crate::statement::{BEGIN, fields};

/// What a signature is for: one under a statement is none under an order.
pub(crate) const PURPOSE: &str = "palisade-order";
/// The longest message.
pub(crate) const MESSAGE_MAX: usize = 6 * 1024;
const TITLE: &str = "palisade order, version 1";
/// Where there is nothing to say.
const NONE: &str = "-";
const NONCE_DIGITS: usize = 32;

/// What is ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// The cluster's name.
    pub(crate) cluster: String,
    /// The host whose agent is to take it.
    pub(crate) to: String,
    pub(crate) verb: Verb,
    /// The host or workload that it is about; empty where it is about all.
    pub(crate) about: String,
    /// For how long, in ms; zero where nothing lasts.
    pub(crate) length_ms: u64,
    pub(crate) reason: String,
    /// 32 hexadecimal digits that no other order has.
    pub(crate) nonce: String,
    /// When it was made, and until when it counts, in whole seconds.
    pub(crate) made: SystemTime,
    pub(crate) expires: SystemTime,
}

impl Written {
    /// The text that is signed.
    pub(crate) fn text(&self) -> String {
        let Self { cluster, to, verb, about, length_ms, reason, nonce, made, expires } = self;
        let about = if about.is_empty() { NONE } else { about };
        let length = match length_ms {
            0 => NONE.to_owned(),
            ms => humantime::format_duration(Duration::from_millis(*ms)).to_string(),
        };
        let [made, expires] = [made, expires].map(|time| humantime::format_rfc3339_seconds(*time));
        format!(
            "{TITLE}\ncluster: {cluster}\nto: {to}\norder: {}\nabout: {about}\nlength: {length}\nreason: {reason}\nnonce: {nonce}\nmade: {made}\nexpires: {expires}\n",
            verb.name()
        )
    }

    /// Reads the text back, letter by letter: another text orders nothing. Which line is not as it should be.
    pub(crate) fn parse(text: &str) -> Result<Self, usize> {
        if text.lines().next() != Some(TITLE) {
            return Err(1);
        }
        let names = ["", "cluster", "to", "order", "about", "length", "reason", "nonce", "made", "expires"];
        let [_, cluster, to, verb, about, length, reason, nonce, made, expires] = fields(text, names)?;
        let known = Verb::FROM_AFAR.iter().find(|(name, _)| *name == verb);
        let (_, verb) = *known.ok_or(4_usize)?;
        let length_ms = match length.as_str() {
            NONE => 0,
            length => humantime::parse_duration(length)
                .ok()
                .and_then(|length| u64::try_from(length.as_millis()).ok())
                .ok_or(6_usize)?,
        };
        let about = if about == NONE { String::new() } else { about };
        let made = humantime::parse_rfc3339(&made).map_err(|_| 9_usize)?;
        let expires = humantime::parse_rfc3339(&expires).map_err(|_| 10_usize)?;
        let hex = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
        let written = Self { cluster, to, verb, about, length_ms, reason, nonce, made, expires };
        match () {
            () if written.nonce.len() != NONCE_DIGITS || !written.nonce.bytes().all(hex) => Err(8),
            () if written.text() != text => Err(11),
            () => Ok(written),
        }
    }

    /// The order in a few words, for the record.
    pub(crate) fn words(&self) -> String {
        let Self { verb, about, length_ms, reason, .. } = self;
        let about = if about.is_empty() { String::new() } else { format!(" {about}") };
        let length = match length_ms {
            0 => String::new(),
            ms => format!(" for {}", humantime::format_duration(Duration::from_millis(*ms))),
        };
        format!("{}{about}{length} ({reason})", verb.name())
    }
}

/// The text of a message, and the signatures under it.
pub(crate) fn split(message: &str) -> (&str, Vec<&str>) {
    let begins: Vec<usize> = message.match_indices(BEGIN).map(|(at, _)| at).collect();
    let text = message.get(..begins.first().copied().unwrap_or(message.len())).unwrap_or_default();
    let ends = begins.iter().skip(1).copied().chain([message.len()]);
    (text, begins.iter().zip(ends).filter_map(|(begin, end)| message.get(*begin..end)).collect())
}
