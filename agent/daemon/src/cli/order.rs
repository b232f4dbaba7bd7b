//! `palisade fence`, `palisade unfence` and `palisade confirm`: an operator's order, typed twice.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::SystemTime;

use palisade_core::status::{Status, WorkloadStatus};

use super::{ConfirmOptions, Ended, Failure, OrderOptions, ask, give, print};
use crate::statement::{NAMESPACE, NO_LIFE, Statement};

/// Which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Switch it off and prove it.
    Fence,
    /// Give it back what was taken.
    Unfence,
    /// Take the operator's word for it.
    Confirm,
}

impl Kind {
    fn path(self) -> &'static str {
        match self {
            Self::Fence => "/v1/fence",
            Self::Unfence => "/v1/unfence",
            Self::Confirm => "/v1/confirm",
        }
    }

    /// What the operator must know before.
    fn warning(self, host: &str) -> String {
        match self {
            Self::Fence => format!(
                "This cuts the power of host `{host}` at once, and starts its workloads elsewhere when it reads off."
            ),
            Self::Unfence => format!(
                "This gives host `{host}` its power and paths back and lets it be taken in. Find out first why it was fenced."
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
    look(socket, kind, options).map_err(|failure| way_out(kind, failure))?;
    if !yes {
        typed(host)?;
    }
    tell(socket, kind, host, &serde_json::json!({ "host": host, "reason": reason }))
        .map_err(|failure| way_out(kind, failure))
}

/// `palisade confirm`: the same, with a statement that is shown before it is made, and signed.
pub(super) fn confirm(socket: &Path, options: &ConfirmOptions) -> Ended {
    let ConfirmOptions { order, checked, key } = options;
    let OrderOptions { host, reason, yes } = order;
    let status = look(socket, Kind::Confirm, order)?;
    let life = status.hosts.iter().find(|known| known.name == *host);
    let life = life.and_then(|known| known.incarnation.clone()).unwrap_or_else(|| NO_LIFE.to_owned());
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (checked, reason) = (words(checked), words(reason));
    if checked.is_empty() || reason.is_empty() {
        return Err(Failure::usage("--checked and --reason say something: they stand in your statement"));
    }
    let cluster = status.cluster;
    let statement = Statement {
        cluster,
        host: host.clone(),
        life,
        checked,
        reason: reason.clone(),
        time: SystemTime::now(),
    };
    let text = statement.text();
    if !yes {
        print(&format!("\n{text}\n"));
        typed(host)?;
    }
    let signature = key.as_deref().map(|key| sign(key, NAMESPACE, &text)).transpose()?;
    let mut body = serde_json::json!({ "host": host, "reason": reason, "statement": text });
    if let (Some(signature), Some(body)) = (signature, body.as_object_mut()) {
        body.insert("signature".to_owned(), signature.into());
    }
    tell(socket, Kind::Confirm, host, &body)
}

/// `ssh-keygen` asks for the passphrase or the touch itself.
pub(super) fn sign(key: &Path, purpose: &str, text: &str) -> Result<String, Failure> {
    let failed =
        |what: String| Failure::failed(format!("signing with {}: {what}; nothing was done", key.display()));
    let signing = Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", purpose, "-f"])
        .arg(key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut signing = signing
        .map_err(|error| failed(format!("ssh-keygen (package openssh-client) cannot be run: {error}")))?;
    if let Some(mut pipe) = signing.stdin.take() {
        // One that has ended says why by itself.
        let _ = pipe.write_all(text.as_bytes());
    }
    let signed = signing.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if !signed.status.success() {
        return Err(failed(format!("ssh-keygen: {}", signed.status)));
    }
    String::from_utf8(signed.stdout).map_err(|error| failed(error.to_string()))
}

/// What an operator has to know before; a wrong name or a missing agent shows at once.
fn look(socket: &Path, kind: Kind, options: &OrderOptions) -> Result<Status, Failure> {
    let OrderOptions { host, yes, .. } = options;
    let answer = ask(socket, "/v1/status", None)?;
    let status: Status = serde_json::from_slice(&answer.body)
        .map_err(|error| Failure::failed(format!("the agent's answer makes no sense: {error}")))?;
    known(&status, host)?;
    if !yes {
        print(&format!("{}\n{}", kind.warning(host), blast_radius(&status, host)));
    }
    Ok(status)
}

/// Whoever runs this, for the record.
pub(super) fn caller() -> String {
    let uid = nix::unistd::getuid();
    if uid.is_root() { "root".to_owned() } else { format!("uid {uid}") }
}

/// What an operator does next about a fence that no agent here takes.
fn way_out(kind: Kind, failure: Failure) -> Failure {
    const NO_AGENT: &str = "no agent runs on this host";
    const NO_QUORUM: &str = "has no quorum";
    let next = match kind {
        Kind::Fence if failure.message.contains(NO_AGENT) => {
            "; to fence from the configuration alone, at a risk that is told before: --direct"
        }
        Kind::Fence if failure.message.contains(NO_QUORUM) => {
            "; if no host has one, stop the agent here and add --direct, which tells the risk before anything is sent"
        }
        Kind::Fence | Kind::Unfence | Kind::Confirm => "",
    };
    Failure { message: failure.message + next, ..failure }
}

fn tell(socket: &Path, kind: Kind, host: &str, body: &serde_json::Value) -> Ended {
    let message = give(socket, kind.path(), body, |known| unknown(host, known))?;
    print(&format!("{message}\nfollow it with `palisade why {host}`\n"));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn known(status: &Status, host: &str) -> Result<(), Failure> {
    let names: Vec<String> = status.hosts.iter().map(|host| host.name.clone()).collect();
    if names.iter().any(|name| name == host) { Ok(()) } else { Err(unknown(host, &names)) }
}

pub(super) fn unknown(host: &str, known: &[String]) -> Failure {
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

pub(super) fn typed(host: &str) -> Result<(), Failure> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::agent;
    use crate::testing::TempDir;

    fn order(kind: Kind, host: &str, yes: bool) -> Ended {
        let dir = TempDir::new();
        let options = OrderOptions { host: host.to_owned(), reason: "disk on fire".to_owned(), yes };
        run(&agent(&dir), kind, &options)
    }

    #[test]
    fn an_order_is_taken_refused_or_about_nobody() {
        assert_eq!(order(Kind::Fence, "b", true).unwrap(), ExitCode::SUCCESS);
        let refused = order(Kind::Fence, "c", true).unwrap_err();
        assert_eq!((refused.status, refused.message.as_str()), (1, "refused: c is healthy"));
        let unknown = order(Kind::Fence, "q", true).unwrap_err();
        assert_eq!(
            (unknown.status, unknown.message.as_str()),
            (2, "there is no host `q`; configured are: a, b, c")
        );
        let stopping = order(Kind::Unfence, "b", true).unwrap_err();
        assert_eq!((stopping.status, stopping.message.as_str()), (1, "the agent is stopping"));
    }

    #[test]
    fn without_an_agent_nothing_is_typed() {
        let dir = TempDir::new();
        let options = OrderOptions { host: "b".to_owned(), reason: "x".to_owned(), yes: false };
        let failure = run(&dir.path().join("agent.sock"), Kind::Fence, &options).unwrap_err();
        assert!(
            failure.status == 1 && failure.message.contains("no agent runs on this host"),
            "{}",
            failure.message
        );
    }

    #[test]
    fn the_blast_radius_names_what_runs_there() {
        let status = |on: &str| -> Status {
            serde_json::from_value(serde_json::json!({
                "cluster": "x", "host": "a", "incarnation": "", "admitted": true, "quorate": true, "found": null,
                "coordinator": null, "view": [], "electorate": [], "dead": [],
                "hosts": [{ "name": "b", "id": 1, "state": "suspect", "incarnation": null, "heard_ms": 1, "health": null }],
                "workloads": [{ "name": "db", "id": 1, "desired": "running", "on": [on], "here": "stopped" }],
                "witness": { "configured": false, "proven_ms": null, "granting": false }, "fence_paths": [],
                "not_armed": [], "journal": { "ok": true, "error": null }, "alarms": [],
            }))
            .unwrap()
        };
        assert_eq!(blast_radius(&status("b"), "b"), "It is `suspect` here and was last known to run: db.\n");
        assert_eq!(
            blast_radius(&status("a"), "b"),
            "It is `suspect` here and was last known to run: no workload.\n"
        );
    }
}
