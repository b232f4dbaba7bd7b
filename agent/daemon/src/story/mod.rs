//! Why something happened to a host: its last incident, found among the records of one or more journals and put in causal order,
//! the cause first, and what was not done last.
//!
//! Decides which records belong to an incident, what to call it, and which of its steps say most. Never: reads a file or a clock
//! (the records come as an argument), or claims what no record says: where the journals at hand do not tell, it says whose would.

mod cause;
mod facts;
mod incident;
mod moment;
mod step;
#[cfg(test)]
mod tests;
mod undone;

use std::collections::BTreeMap;

use serde::Serialize;

pub(crate) use cause::Cause;
pub(crate) use incident::hosts;
pub(crate) use moment::{Moment, merge};
pub(crate) use step::Step;

use facts::Facts;
use incident::Incident;

/// What the configuration tells about names; empty where none can be read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    /// Which host each device fences.
    pub(crate) devices: BTreeMap<String, String>,
    /// Every host.
    pub(crate) hosts: Vec<String>,
}

/// One incident, told.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Account {
    /// About which host.
    pub(crate) host: String,
    /// Which of its lives, where a record says so.
    pub(crate) life: Option<String>,
    /// What it was.
    pub(crate) cause: Cause,
    /// One sentence: what happened, why, by whom, and what followed.
    pub(crate) headline: String,
    /// When the first record of it was written (wall clock, RFC 3339); `None` if there is none.
    pub(crate) since: Option<String>,
    /// Whose journals tell of it.
    pub(crate) told_by: Vec<String>,
    /// What led to what, oldest first.
    pub(crate) steps: Vec<Step>,
    /// What was not done, and why.
    pub(crate) not_done: Vec<String>,
    /// Places among the moments, oldest first.
    #[serde(skip)]
    pub(crate) moments: Vec<usize>,
}

/// The last incident of `host` in which something happened to it; else the last lesser one (a restart, a refusal, an alarm); else
/// the account of nothing.
pub(crate) fn of_host(moments: &[Moment], host: &str, names: &Names) -> Account {
    let found = incident::find(moments, host, names);
    let last = found.iter().rev().find(|incident| incident.grave).or(found.last());
    last.map_or_else(|| nothing(moments, host), |incident| account(moments, incident, names))
}

/// The incident to which the record number `n` belongs, of the journal of `writer` if several are at hand. `None`: there is no
/// such record. A record that belongs to none is told alone.
pub(crate) fn of_record(moments: &[Moment], n: u64, writer: Option<&str>, names: &Names) -> Option<Account> {
    let is_it = |moment: &Moment| moment.entry.n == n && writer.is_none_or(|host| moment.entry.host == host);
    let (at, moment) = moments.iter().enumerate().find(|(_, moment)| is_it(moment))?;
    let mut hosts: Vec<&str> = moment.event.as_ref().map(incident::subjects).unwrap_or_default();
    hosts.push(&moment.entry.host);
    hosts.extend(names.hosts.iter().map(String::as_str));
    let of_it = hosts.iter().find_map(|host| {
        let found = incident::find(moments, host, names);
        found.into_iter().rev().find(|incident| incident.moments.contains(&at))
    });
    Some(match of_it {
        Some(incident) => account(moments, &incident, names),
        None => alone(moment, at),
    })
}

/// Every incident of every host, by its beginning: `grave` ones, and refusals and alarms of no other incident.
pub(crate) fn all(moments: &[Moment], names: &Names) -> Vec<Account> {
    let mut hosts = incident::hosts(moments);
    hosts.extend(names.hosts.iter().cloned());
    let mut found: Vec<Incident> =
        hosts.iter().flat_map(|host| incident::find(moments, host, names)).collect();
    found.retain(|incident| incident.grave);
    found.sort_by_key(|incident| incident.moments.first().copied());
    found.iter().map(|incident| account(moments, incident, names)).collect()
}

fn account(moments: &[Moment], incident: &Incident, names: &Names) -> Account {
    let facts = Facts::of(moments, incident);
    let (cause, headline) = cause::tell(&facts);
    let first = facts.moments.first();
    let mut told_by: Vec<String> = facts.moments.iter().map(|moment| moment.entry.host.clone()).collect();
    told_by.sort();
    told_by.dedup();
    Account {
        host: incident.host.clone(),
        life: incident.life.clone(),
        cause,
        headline,
        since: first.map(|moment| moment.entry.time.clone()),
        told_by,
        steps: step::steps(&facts, names),
        not_done: undone::tell(&facts),
        moments: incident.moments.clone(),
    }
}

fn alone(moment: &Moment, at: usize) -> Account {
    let text = crate::api::why::words(&moment.entry.event);
    Account {
        host: moment.entry.host.clone(),
        life: Some(moment.entry.life.clone()),
        cause: Cause::Nothing,
        headline: format!(
            "record {} of {} belongs to no incident: {text}",
            moment.entry.n, moment.entry.host
        ),
        since: Some(moment.entry.time.clone()),
        told_by: vec![moment.entry.host.clone()],
        steps: Vec::new(),
        not_done: Vec::new(),
        moments: vec![at],
    }
}

/// A fence without a record is none that these journals could tell of, and that is said.
fn nothing(moments: &[Moment], host: &str) -> Account {
    let mut told_by: Vec<String> = moments.iter().map(|moment| moment.entry.host.clone()).collect();
    told_by.sort();
    told_by.dedup();
    let since = moments.first().map(|moment| moment.entry.time.clone());
    let headline = match (&since, told_by.is_empty()) {
        (Some(since), false) => format!(
            "nothing happened to {host} since {since}, as far as the journal of {} tells; if it was fenced before, or by others, \
             their journals say so (--journal)",
            told_by.join(", ")
        ),
        _ => format!("no record tells of {host}: the journal is empty"),
    };
    Account {
        host: host.to_owned(),
        life: None,
        cause: Cause::Nothing,
        headline,
        since,
        told_by,
        steps: Vec::new(),
        not_done: Vec::new(),
        moments: Vec::new(),
    }
}
