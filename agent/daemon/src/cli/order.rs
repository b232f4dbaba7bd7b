//! `palisade fence` and `palisade confirm`: an operator's order, typed twice.

use std::io::{BufRead, IsTerminal};
use std::path::Path;
use std::process::ExitCode;

use palisade_core::status::{Status, WorkloadStatus};

use super::{Ended, Failure, OrderOptions, ask, print};
use crate::api::Outcome;

/// Which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Switch it off and prove it.
    Fence,
    /// Take the operator's word for it.
    Confirm,
}

impl Kind {
    fn path(self) -> &'static str {
        match self {
            Self::Fence => "/v1/fence",
            Self::Confirm => "/v1/confirm",
        }
    }

    /// What the operator must know before.
    fn warning(self, host: &str) -> String {
        match self {
            Self::Fence => format!(
                "This cuts the power of host `{host}` at once, and starts its workloads elsewhere when it reads off."
            ),
            Self::Confirm => format!(
                "You state that host `{host}` is dead: powered off or unplugged, seen by yourself, and unable to come back on.\n\
                 Its workloads start elsewhere on your word alone. If it still runs, its data can be destroyed."
            ),
        }
    }
}

pub(super) fn run(socket: &Path, kind: Kind, options: &OrderOptions) -> Ended {
    let OrderOptions { host, reason, yes } = options;
    // Asked before anything is typed: a wrong name or a missing agent shows at once.
    let status = ask(socket, "/v1/status", None)?;
    if let Ok(status) = serde_json::from_slice::<Status>(&status.body) {
        known(&status, host)?;
        if !yes {
            print(&format!("{}\n{}", kind.warning(host), blast_radius(&status, host)));
        }
    }
    if !yes {
        typed(host)?;
    }
    let body = serde_json::json!({ "host": host, "reason": reason }).to_string();
    let answer = ask(socket, kind.path(), Some(body.as_bytes()))?;
    match serde_json::from_slice(&answer.body) {
        Ok(Outcome::Accepted { message }) => {
            print(&format!("{message}\nfollow it with `palisade why {host}`\n"));
            Ok(ExitCode::SUCCESS)
        }
        Ok(Outcome::Refused { message }) => Err(Failure::failed(format!("refused: {message}"))),
        Ok(Outcome::UnknownHost { known }) => Err(unknown(host, &known)),
        Err(error) => Err(Failure::failed(format!("the agent's answer makes no sense: {error}"))),
    }
}

fn known(status: &Status, host: &str) -> Result<(), Failure> {
    let names: Vec<String> = status.hosts.iter().map(|host| host.name.clone()).collect();
    if names.iter().any(|name| name == host) { Ok(()) } else { Err(unknown(host, &names)) }
}

fn unknown(host: &str, known: &[String]) -> Failure {
    Failure::usage(format!("there is no host `{host}`; configured are: {}", known.join(", ")))
}

/// What stops with the host, as far as this agent knows.
fn blast_radius(status: &Status, host: &str) -> String {
    let runs = |workload: &&WorkloadStatus| workload.on.iter().any(|name| name == host);
    let there: Vec<&str> =
        status.workloads.iter().filter(runs).map(|workload| workload.name.as_str()).collect();
    let state =
        status.hosts.iter().find(|known| known.name == host).map_or("unknown", |known| known.state.as_str());
    let workloads = if there.is_empty() { "no workload".to_owned() } else { there.join(", ") };
    format!("It is `{state}` here and was last known to run: {workloads}.\n")
}

fn typed(host: &str) -> Result<(), Failure> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(Failure::usage(
            "this asks for the host's name to be typed; without a terminal, give --yes",
        ));
    }
    print("Type the host's name to go on: ");
    let mut line = String::new();
    input.lock().read_line(&mut line).map_err(|error| Failure::failed(error.to_string()))?;
    if line.trim() == host {
        Ok(())
    } else {
        Err(Failure::failed("another name was typed; nothing was done"))
    }
}
