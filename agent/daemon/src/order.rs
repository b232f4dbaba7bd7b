//! What an operator orders, by the names of the configuration: the same on the local socket and from afar.
//!
//! Decides: whether an order is complete, and which request of the engine it is. Never: whether whoever gave it may.

use palisade_core::action::Request;
use palisade_core::config::{Cluster, Host, Verb, Workload};
use palisade_proto::Duration;

use crate::api::Outcome;

/// The longest reason, in characters: it is kept in the journal for good.
const REASON_MAX: usize = 500;
/// The longest name that is passed on.
const NAME_MAX: usize = 64;

/// What it is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    Host,
    Workload,
    All,
}

fn about(verb: Verb) -> About {
    match verb {
        Verb::Fence
        | Verb::Unfence
        | Verb::Confirm
        | Verb::Drain
        | Verb::Undrain
        | Verb::MaintenanceOn
        | Verb::MaintenanceOff => About::Host,
        Verb::Stop | Verb::Start => About::Workload,
        Verb::Disarm | Verb::Arm => About::All,
    }
}

/// Whether it is said for how long.
fn lasts(verb: Verb) -> bool {
    matches!(verb, Verb::Disarm | Verb::MaintenanceOn)
}

/// An order, not checked against the configuration yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) verb: Verb,
    /// The host's or the workload's name; empty where it is about all of them.
    pub(crate) name: String,
    /// For how long; zero where nothing lasts.
    pub(crate) length_ms: u64,
    /// What the operator says about why: one line, never empty.
    pub(crate) reason: String,
}

impl Wanted {
    /// Whether everything is there that such an order needs, and nothing else.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn checked(self) -> Result<Self, String> {
        let named = is_name(&self.name);
        match about(self.verb) {
            About::All if !self.name.is_empty() => {
                return Err("this is about all hosts and names none".to_owned());
            }
            About::Host | About::Workload if !named => {
                return Err(format!(
                    "the name must be 1 to {NAME_MAX} letters, digits, dots, underscores and hyphens"
                ));
            }
            About::All | About::Host | About::Workload => {}
        }
        match (lasts(self.verb), self.length_ms > 0) {
            (true, false) => {
                return Err("it must be said for how long, in more than zero `length_ms`".to_owned());
            }
            (false, true) => return Err("nothing of this lasts: `length_ms` must not be there".to_owned()),
            (true, true) | (false, false) => {}
        }
        let reason = self.reason.trim().to_owned();
        let length = reason.chars().count();
        if reason.is_empty() || length > REASON_MAX || reason.chars().any(char::is_control) {
            return Err(format!("the reason must be one line of 1 to {REASON_MAX} characters"));
        }
        Ok(Self { reason, ..self })
    }

    /// The engine's request, as `by` makes it. A confirmation goes without a statement.
    ///
    /// # Errors
    /// There is nothing of that name.
    pub(crate) fn request(self, cluster: &Cluster, by: String) -> Result<Request, Outcome> {
        let Self { verb, name, length_ms, reason } = self;
        let host = || {
            let known = || cluster.hosts().iter().map(|host| host.name().to_owned()).collect();
            cluster.host_named(&name).map(Host::id).ok_or_else(|| Outcome::UnknownHost { known: known() })
        };
        let workload = || {
            let known = || cluster.workloads().iter().map(|workload| workload.name().to_owned()).collect();
            let found = cluster.workload_named(&name).map(Workload::id);
            found.ok_or_else(|| Outcome::UnknownHost { known: known() })
        };
        let length = Duration(length_ms);
        Ok(match verb {
            Verb::Fence => Request::Fence { host: host()?, reason, by },
            Verb::Unfence => Request::Unfence { host: host()?, reason, by },
            Verb::Confirm => Request::Confirm { host: host()?, reason, by, statement: Ok(None) },
            Verb::Drain => Request::Drain { host: host()?, drain: true, reason, by },
            Verb::Undrain => Request::Drain { host: host()?, drain: false, reason, by },
            Verb::MaintenanceOn => Request::Maintain { host: host()?, length: Some(length), reason, by },
            Verb::MaintenanceOff => Request::Maintain { host: host()?, length: None, reason, by },
            Verb::Disarm | Verb::Arm => Request::Arm { disarmed: length, reason, by },
            Verb::Stop => Request::Desire { workload: workload()?, run: false, reason, by },
            Verb::Start => Request::Desire { workload: workload()?, run: true, reason, by },
        })
    }
}

/// Whether this can be a host's or a workload's name.
pub(crate) fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(allowed)
}
