//! `palisade fence HOST --dry-run`: how a host would be fenced now, and what would follow. Sends nothing.

use std::path::Path;
use std::process::ExitCode;

use palisade_core::config::{Cluster, Device, FencingMode, Host, Workload};
use palisade_core::status::Status;
use palisade_ladder::Effect;

use super::{Ended, Failure, ask, configuration, order, print, table};

pub(super) fn run(socket: &Path, config: &Path, name: &str) -> Ended {
    let cluster = configuration(config)?;
    let answer = ask(socket, "/v1/status", None)?;
    let status: Status = serde_json::from_slice(&answer.body)
        .map_err(|error| Failure::failed(format!("the agent's answer makes no sense: {error}")))?;
    order::known(&status, name)?;
    let host = cluster.host_named(name).ok_or_else(|| {
        Failure::failed(format!(
            "{} names no host `{name}`: the agent has another one loaded",
            config.display()
        ))
    })?;
    print(&report(&cluster, &status, host));
    Ok(ExitCode::SUCCESS)
}

fn report(cluster: &Cluster, status: &Status, host: &Host) -> String {
    let state =
        status.hosts.iter().find(|known| known.name == host.name()).map_or("unknown", |known| &known.state);
    let mut out = format!("{} is `{state}` here. It would be fenced so:\n\n", host.name());
    if cluster.fencing().mode() == FencingMode::Shadow {
        out = format!(
            "{} is `{state}` here. Fencing is in shadow mode; otherwise it would be fenced so:\n\n",
            host.name()
        );
    }
    let mut devices: Vec<&Device> = cluster.devices_of(host.id()).collect();
    devices.sort_by_key(|device| device.level());
    if devices.is_empty() {
        out = format!("{} is `{state}` here, and no device fences it.\n", host.name());
    } else {
        out += &ladder(status, &devices);
    }
    out += &format!("\n{}", workloads(cluster, status, host));
    out += "\nNothing was sent.\n";
    out
}

fn ladder(status: &Status, devices: &[&Device]) -> String {
    let mut rows = vec![["LEVEL", "TAKES", "DEVICE", "BEGINS", "PATH"].map(str::to_owned).to_vec()];
    for device in devices {
        let takes = match device.effect() {
            Effect::Power => "power".to_owned(),
            Effect::Storage => format!("storage {}", device.storage().join(", ")),
            Effect::Network => "network".to_owned(),
        };
        let begins = begins(devices, device);
        let path = status.fence_paths.iter().find(|path| path.device == device.name());
        let path = match path.map(|path| (path.proven_ms, path.error.as_deref())) {
            None | Some((None, None)) => "not tried yet".to_owned(),
            Some((proven, Some(error))) => format!("NOT working: {error} (last proven {})", ago(proven)),
            Some((proven, None)) => format!("proven {}", ago(proven)),
        };
        rows.push(vec![device.level().to_string(), takes, device.name().to_owned(), begins.to_owned(), path]);
    }
    table(&rows)
}

/// Power begins with its first level; isolation in a race, or once no level of power is left before it.
fn begins(devices: &[&Device], device: &Device) -> &'static str {
    let same = |other: &&&Device| (other.effect() == Effect::Power) == (device.effect() == Effect::Power);
    let first = devices.iter().filter(same).map(|other| other.level()).min() == Some(device.level());
    let power_before =
        devices.iter().any(|other| other.effect() == Effect::Power && other.level() < device.level());
    let races = devices.iter().filter(same).any(|other| other.races());
    match (first, device.effect() == Effect::Power || races || !power_before) {
        (true, true) => "at once",
        (true, false) => "when power has failed before it",
        (false, _) => "when the level before it has failed",
    }
}

fn ago(ms: Option<u64>) -> String {
    ms.map_or_else(|| "never".to_owned(), |ms| format!("{} s ago", ms / 1000))
}

fn workloads(cluster: &Cluster, status: &Status, host: &Host) -> String {
    let there: Vec<&Workload> = cluster
        .workloads()
        .iter()
        .filter(|workload| {
            let known = status.workloads.iter().find(|known| known.name == workload.name());
            known.is_some_and(|known| known.on.iter().any(|on| on == host.name()))
        })
        .collect();
    if there.is_empty() {
        return "It was last known to run no workload.\n".to_owned();
    }
    let mut rows = vec![["STOPS", "MAY RUN ON", "MOVES AT A PROOF OF"].map(str::to_owned).to_vec()];
    for workload in there {
        let may = workload.hosts().iter().filter(|on| **on != host.id());
        let may: Vec<&str> = may.filter_map(|on| cluster.host(*on)).map(Host::name).collect();
        let members: Vec<&str> = may.iter().copied().filter(|name| is_member(status, name)).collect();
        let on = match (may.is_empty(), members.is_empty()) {
            (true, _) => "no other host: it stays down".to_owned(),
            (false, true) => format!("{}, of which none is a member now: it stays down", may.join(", ")),
            (false, false) => members.join(", "),
        };
        let isolation: Vec<&str> = workload.proofs().iter().map(|effect| effect.proves().name()).collect();
        let proofs = [&["death"], isolation.as_slice()].concat().join(", ");
        rows.push(vec![workload.name().to_owned(), on, proofs]);
    }
    table(&rows)
}

fn is_member(status: &Status, name: &str) -> bool {
    status.hosts.iter().any(|host| host.name == name && host.state == "member")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = r#"
[cluster]
name = "edge"
keys = [ { id = 1, file = "/k" } ]
[[host]]
id = 0
name = "a"
machine = "4c4c4544-0051-3510-8052-b4c04f4d3130"
links = ["10.77.1.1:7411"]
[[host]]
id = 1
name = "b"
machine = "4c4c4544-0051-3510-8052-b4c04f4d3131"
links = ["10.77.1.2:7411"]
[[device]]
name = "bmc-b"
kind = "ipmi"
fences = "b"
address = "10.77.1.102:623"
user = "admin"
password = { file = "/p" }
guid = "a123456789abcdefa123456789abcde2"
[[device]]
name = "san-b"
kind = "agent"
fences = "b"
level = 2
agent = "fence_san"
proof = "storage_revoked"
storage = ["images"]
[[storage]]
name = "images"
path = "/srv/images"
[[workload]]
id = 1
name = "db"
hosts = ["b", "a"]
storage = ["images"]
[workload.systemd]
unit = "db.service"
[[workload]]
id = 2
name = "log"
hosts = ["b"]
[workload.systemd]
unit = "log.service"
"#;

    fn status(on: &str) -> Status {
        serde_json::from_value(serde_json::json!({
            "cluster": "edge", "host": "a", "incarnation": "", "admitted": true, "quorate": true, "found": null,
            "coordinator": null, "view": [], "electorate": [], "dead": [],
            "hosts": [
                { "name": "a", "id": 0, "state": "member", "incarnation": null, "heard_ms": 1, "health": null },
                { "name": "b", "id": 1, "state": "suspect", "incarnation": null, "heard_ms": 1, "health": null },
            ],
            "workloads": [
                { "name": "db", "id": 1, "desired": "running", "on": [on], "here": "stopped" },
                { "name": "log", "id": 2, "desired": "running", "on": [on], "here": "stopped" },
            ],
            "witness": { "configured": false, "proven_ms": null, "granting": false },
            "fence_paths": [
                { "device": "bmc-b", "fences": "b", "proven_ms": 300_000, "error": "no answer within 4000 ms" },
                { "device": "san-b", "fences": "b", "proven_ms": 12_000, "error": null },
            ],
            "not_armed": [], "journal": { "ok": true, "error": null }, "alarms": [],
        }))
        .unwrap()
    }

    #[test]
    fn it_tells_the_ladder_path_by_path_and_what_would_stop() {
        let cluster = Cluster::parse(CLUSTER, "test").unwrap();
        let host = |name: &str| cluster.host_named(name).unwrap();
        let told = report(&cluster, &status("b"), host("b"));
        for line in [
            "b is `suspect` here. It would be fenced so:",
            "1      power           bmc-b   at once                          NOT working: no answer within 4000 ms (last proven 300 s ago)",
            "2      storage images  san-b   when power has failed before it  proven 12 s ago",
            "db     a                             death, storage_revoked",
            "log    no other host: it stays down  death",
            "Nothing was sent.",
        ] {
            let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(told.lines().any(|said| words(said) == words(line)), "{line}\n---\n{told}");
        }
        let told = report(&cluster, &status("a"), host("a"));
        assert!(
            told.contains("no device fences it") && told.contains("b, of which none is a member now"),
            "{told}"
        );
        assert!(report(&cluster, &status("a"), host("b")).contains("no workload"));
    }
}
