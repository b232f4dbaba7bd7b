//! `palisade status`: what the agent of this host sees, for people.

use std::path::Path;
use std::process::ExitCode;

use palisade_core::config::Policy;
use palisade_core::status::{HostStatus, IllStatus, Status};

use super::{Ended, Failure, ask, print, span, table};

pub(super) fn run(socket: &Path, json: bool) -> Ended {
    let answer = ask(socket, "/v1/status", None)?;
    if json {
        print(&String::from_utf8_lossy(&answer.body));
        return Ok(ExitCode::SUCCESS);
    }
    let status: Status = serde_json::from_slice(&answer.body)
        .map_err(|error| Failure::failed(format!("the agent's answer makes no sense: {error}")))?;
    print(&render(&status));
    Ok(ExitCode::SUCCESS)
}

fn render(status: &Status) -> String {
    let yes_no =
        |yes: bool, yes_text: &str, no_text: &str| if yes { yes_text.to_owned() } else { no_text.to_owned() };
    let mut text = format!(
        "cluster `{}`, seen by host `{}` ({})\n{}, {}; coordinator {}\n",
        status.cluster,
        status.host,
        status.incarnation,
        yes_no(status.quorate, "quorate", "NOT quorate"),
        yes_no(status.admitted, "admitted", "NOT admitted"),
        status.coordinator.as_deref().unwrap_or("none"),
    );
    text.push_str(&format!(
        "stands with {} of {} counted{}\n\n",
        list(&status.view),
        status.electorate.len(),
        if status.dead.is_empty() { String::new() } else { format!("; proven dead: {}", list(&status.dead)) },
    ));
    text.push_str(&hosts(status));
    text.push_str(&workloads(status));
    text.push_str(&paths(status));
    text.push_str(&witness(status));
    if let Some(left) = status.disarmed_ms {
        let left = span(left);
        text.push_str(&format!(
            "DISARMED for another {left}: no host is fenced automatically (`palisade arm` ends that)\n"
        ));
    }
    if !status.journal.ok {
        let error = status.journal.error.as_deref().unwrap_or("no reason given");
        text.push_str(&format!("JOURNAL cannot be written, so no fence is sent: {error}\n"));
    }
    for reason in &status.not_armed {
        text.push_str(&format!("NOT ARMED: {reason}\n"));
    }
    for ill in &status.ills {
        text.push_str(&format!("{}\n", ill_in_words(ill)));
    }
    for alarm in &status.alarms {
        text.push_str(&format!("ALARM: {alarm}\n"));
    }
    text
}

fn policy(policy: Policy) -> &'static str {
    match policy {
        Policy::Report => "reports",
        Policy::Drain => "drains",
        Policy::Fence => "fences itself",
    }
}

/// What a probe of this host finds wrong.
pub(super) fn ill_in_words(ill: &IllStatus) -> String {
    let level = ill.level.name().to_uppercase();
    format!("{level} {}: {}, {} ({})", ill.probe, ill.verdict, ill.why, policy(ill.policy))
}

fn hosts(status: &Status) -> String {
    let mut rows = vec![["ID", "HOST", "STATE", "HEARD", "HEALTH"].map(str::to_owned).to_vec()];
    rows.extend(status.hosts.iter().map(|host| {
        vec![
            host.id.to_string(),
            host.name.clone(),
            state(host),
            if host.name == status.host { "itself".to_owned() } else { ago(host.heard_ms) },
            host.health.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    }));
    format!("{}\n", table(&rows))
}

/// Where it stands, and what operators want of it.
pub(super) fn state(host: &HostStatus) -> String {
    let state = &host.state;
    let out = state == "maintenance";
    match host.maintenance_ms {
        Some(0) if out => format!("{state}, too long"),
        Some(left) if out => format!("{state}, {} left", span(left)),
        Some(_) => format!("{state}, to leave for maintenance"),
        None if host.drained => format!("{state}, drained"),
        None => state.clone(),
    }
}

pub(super) fn workloads(status: &Status) -> String {
    if status.workloads.is_empty() {
        return String::new();
    }
    let mut rows = vec![["ID", "WORKLOAD", "DESIRED", "ON", "HERE"].map(str::to_owned).to_vec()];
    rows.extend(status.workloads.iter().map(|workload| {
        vec![
            workload.id.to_string(),
            workload.name.clone(),
            workload.desired.clone(),
            list(&workload.on),
            workload.here.clone(),
        ]
    }));
    format!("{}\n", table(&rows))
}

fn paths(status: &Status) -> String {
    if status.fence_paths.is_empty() {
        return "no fence device is configured\n".to_owned();
    }
    let mut rows = vec![["DEVICE", "FENCES", "PROVEN", "ERROR"].map(str::to_owned).to_vec()];
    rows.extend(status.fence_paths.iter().map(|path| {
        let error = path.error.clone().unwrap_or_else(|| "-".to_owned());
        vec![path.device.clone(), path.fences.clone(), ago(path.proven_ms), error]
    }));
    format!("{}\n", table(&rows))
}

fn witness(status: &Status) -> String {
    let witness = &status.witness;
    if !witness.configured {
        return "witness: none\n".to_owned();
    }
    let granting = if witness.granting { ", supports this host now" } else { "" };
    match witness.proven_ms {
        Some(age) => format!("witness: answered {} ago{granting}\n", span(age)),
        None => "witness: has NEVER answered\n".to_owned(),
    }
}

fn ago(ms: Option<u64>) -> String {
    ms.map_or_else(|| "never".to_owned(), |ms| format!("{} ago", span(ms)))
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_reads_well_and_shows_what_is_wrong() {
        let status: Status = serde_json::from_value(serde_json::json!({
            "cluster": "edge-a", "host": "a", "incarnation": "0123456789abcdef", "admitted": true, "quorate": false,
            "found": null, "coordinator": null, "view": ["a"], "electorate": ["a", "b"], "dead": [],
            "hosts": [
                { "name": "a", "id": 0, "state": "member", "incarnation": null, "heard_ms": 0, "health": "healthy" },
                { "name": "b", "id": 1, "state": "suspect", "incarnation": null, "heard_ms": 61000, "health": null },
            ],
            "workloads": [{ "name": "db", "id": 1, "desired": "running", "on": ["b"], "here": "stopped" }],
            "witness": { "configured": true, "proven_ms": null, "granting": false },
            "fence_paths": [{ "device": "bmc-b", "fences": "b", "proven_ms": 12345, "error": "no answer" }],
            "not_armed": ["watchdog: /dev/watchdog0 is missing"],
            "journal": { "ok": false, "error": "no space" },
            "alarms": ["clone"],
        }))
        .unwrap();
        assert_eq!(
            render(&status),
            "\
cluster `edge-a`, seen by host `a` (0123456789abcdef)
NOT quorate, admitted; coordinator none
stands with a of 2 counted

ID  HOST  STATE    HEARD      HEALTH
0   a     member   itself     healthy
1   b     suspect  1 min ago  -

ID  WORKLOAD  DESIRED  ON  HERE
1   db        running  b   stopped

DEVICE  FENCES  PROVEN      ERROR
bmc-b   b       12.3 s ago  no answer

witness: has NEVER answered
JOURNAL cannot be written, so no fence is sent: no space
NOT ARMED: watchdog: /dev/watchdog0 is missing
ALARM: clone
"
        );
    }
}
