//! `palisade check config`: everything that can be said about a configuration on the host that will run it.

use std::path::Path;
use std::process::ExitCode;

use palisade_core::config::{BrokerTls, Cluster, DeviceKind, Policy, Profile, SecretRef, SnmpLogin};
use palisade_proto::Duration;

use super::{Ended, Failure, configuration, print, table};
use crate::mqtt::tls;
use crate::secret;

pub(super) fn run(file: &Path) -> Ended {
    let cluster = configuration(file)?;
    print(&summary(&cluster));
    for warning in cluster.warnings() {
        print(&format!("warning: {warning}\n"));
    }
    let (notes, faults) = secrets(&cluster);
    for note in notes {
        print(&format!("note: {note}\n"));
    }
    if faults.is_empty() {
        print("the configuration is sound\n");
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::usage(faults.join("\npalisade: ")))
}

fn summary(cluster: &Cluster) -> String {
    let digest: String = cluster.digest().iter().map(|byte| format!("{byte:02x}")).collect();
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let mut text = format!(
        "cluster `{}`: {}, {}, {}, {}; digest {digest}\n\n",
        cluster.name(),
        count(cluster.hosts().len(), "host"),
        if cluster.witness().is_some() { "a witness" } else { "no witness" },
        count(cluster.devices().len(), "fence device"),
        count(cluster.workloads().len(), "workload"),
    );
    let hosts = cluster.hosts().iter().map(|host| {
        let devices: Vec<&str> = cluster.devices_of(host.id()).map(|device| device.name()).collect();
        let links: Vec<String> = host.links().iter().map(ToString::to_string).collect();
        let devices = if devices.is_empty() { "none".to_owned() } else { devices.join(", ") };
        vec![
            host.id().to_string(),
            host.name().to_owned(),
            host.machine().to_string(),
            links.join(", "),
            devices,
        ]
    });
    let head = ["ID", "HOST", "MACHINE", "LINKS", "FENCED BY"].map(str::to_owned).to_vec();
    text.push_str(&table(&std::iter::once(head).chain(hosts).collect::<Vec<_>>()));
    text.push('\n');
    text.push_str(&timing(cluster));
    text.push('\n');
    text.push_str(&probes(cluster));
    text.push('\n');
    text
}

/// What hosts look at on themselves, and how long a failure takes to be a verdict at most.
fn probes(cluster: &Cluster) -> String {
    let head =
        ["PROBE", "LEVEL", "KIND", "EVERY", "VERDICT WITHIN", "ON FAILURE"].map(str::to_owned).to_vec();
    let rows = cluster.probes().iter().map(|probe| {
        let policy = match probe.on_failure() {
            Policy::Report => "report",
            Policy::Drain => "drain",
            Policy::Fence => "fence",
        };
        vec![
            probe.name().to_owned(),
            probe.level().name().to_owned(),
            probe.kind().name().to_owned(),
            probe.every().to_string(),
            probe.verdict_within().to_string(),
            policy.to_owned(),
        ]
    });
    table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

fn timing(cluster: &Cluster) -> String {
    let timing = cluster.timing();
    let profile = match cluster.profile() {
        Profile::Default => "default",
        Profile::Fast => "fast",
    };
    let mut rows = vec![["TIMING".to_owned(), format!("profile {profile}"), String::new()]];
    let mut row = |name: &str, length: Duration, meaning: &str| {
        rows.push([format!("  {name}"), length.to_string(), meaning.to_owned()]);
    };
    row("heartbeat", timing.heartbeat(), "between two heartbeats");
    row("lease", timing.lease(), "how long support counts for who holds it");
    row("voter's lease", timing.voter_lease(), "how long the voter keeps it, and is silent after a start");
    row("suspect", timing.suspect(), "silence after which a host is no longer heard");
    row("grace", timing.grace(), "without quorum, until workloads are killed");
    row("rejoin_hold", timing.rejoin_hold(), "heard steadily, until a new life may join");
    row("join_timeout", timing.join_timeout(), "for a joining host to be admitted");
    row("boot_wait", timing.boot_wait(), "silence in a cold start, until a BMC is read");
    row("restart_hold", timing.restart_hold(), "an announced restart may take");
    row("cold_off_wait", timing.cold_off_wait(), "a cold start waits for a silent host");
    row("order_deadline", timing.order_deadline(), "one fence of one host, all tries");
    row("broker_round_trip", timing.broker_round_trip(), "assumed until measured");
    match cluster.watchdog() {
        Some(watchdog) => {
            row("watchdog", watchdog.timeout(), "until an unfed watchdog resets its host");
            if watchdog.runs_while_frozen() {
                row(
                    "watchdog's bound",
                    watchdog.bound(timing.drift()),
                    "silence that proves a death by watchdog",
                );
            }
        }
        None => rows.push(["  watchdog".to_owned(), "none".to_owned(), String::new()]),
    }
    table(&rows.map_to_vecs())
}

/// Rows as [`table`] takes them.
trait MapToVecs {
    fn map_to_vecs(self) -> Vec<Vec<String>>;
}

impl MapToVecs for Vec<[String; 3]> {
    fn map_to_vecs(self) -> Vec<Vec<String>> {
        self.into_iter().map(Vec::from).collect()
    }
}

/// Loads each secret and forgets it again: what was only noted, and what is wrong.
fn secrets(cluster: &Cluster) -> (Vec<String>, Vec<String>) {
    let (mut notes, mut faults) = (Vec::new(), Vec::new());
    let mut check = |whose: String, secret: &SecretRef, is_key: bool| {
        if let (SecretRef::Credential(name), None) = (secret, std::env::var_os("CREDENTIALS_DIRECTORY")) {
            notes.push(format!(
                "{whose}: credential `{name}` is given to the service alone and is not checked here"
            ));
            return;
        }
        let loaded = if is_key { secret::load_key(secret).map(drop) } else { secret::load(secret).map(drop) };
        if let Err(error) = loaded {
            faults.push(format!("{whose}: {error}"));
        }
    };
    for key in cluster.keys() {
        check(format!("cluster key {}", key.id()), key.secret(), true);
    }
    if let Some(witness) = cluster.witness() {
        for key in witness.keys() {
            check(format!("witness key {}", key.id()), key.secret(), true);
        }
        if let Some(login) = witness.login() {
            check("witness broker's password".to_owned(), login.password(), false);
        }
    }
    if let Some(login) = cluster.telemetry().and_then(|telemetry| telemetry.login()) {
        check("telemetry broker's password".to_owned(), login.password(), false);
    }
    let witness = cluster.witness().map(|witness| ("witness", witness.broker()));
    let telemetry = cluster.telemetry().map(|telemetry| ("telemetry", telemetry.broker()));
    let brokers: Vec<_> = [witness, telemetry].into_iter().flatten().collect();
    for (whose, broker) in &brokers {
        if let Some((_, key)) = broker.tls().and_then(BrokerTls::client) {
            check(format!("{whose} broker's client key"), key, false);
        }
    }
    for device in cluster.devices() {
        let secrets: Vec<(&str, &SecretRef)> = match device.kind() {
            DeviceKind::Ipmi(ipmi) => {
                [("password", ipmi.password())].into_iter().chain(ipmi.kg().map(|kg| ("Kg", kg))).collect()
            }
            DeviceKind::Redfish(redfish) => vec![("password", redfish.password())],
            DeviceKind::Hypervisor(_)
            | DeviceKind::HaProxy(_)
            | DeviceKind::Scsi(_)
            | DeviceKind::Wall(_) => Vec::new(),
            DeviceKind::Switch(switch) => match switch.login() {
                SnmpLogin::Community(community) => vec![("community", community)],
                SnmpLogin::User { auth_password, priv_password, .. } => {
                    vec![("auth_password", auth_password), ("priv_password", priv_password)]
                }
            },
            DeviceKind::Nft(cut) | DeviceKind::Route(cut) => vec![("identity", cut.ssh().identity())],
            DeviceKind::Lun(lun) => vec![("identity", lun.ssh().identity())],
            DeviceKind::Agent(agent) => {
                agent.secrets().iter().map(|(name, secret)| (name.as_str(), secret)).collect()
            }
        };
        for (what, secret) in secrets {
            check(format!("{what} of device `{}`", device.name()), secret, false);
        }
    }
    for (whose, broker) in brokers {
        let mut print = ring::digest::Context::new(&ring::digest::SHA256);
        let loaded = broker.tls().map(|tls| tls::load(tls, &mut print)).transpose();
        match loaded {
            // The key alone was checked above.
            Ok(_) | Err(tls::TlsError::Secret(_)) => {}
            Err(error) => faults.push(format!("TLS with the {whose} broker: {error}")),
        }
    }
    (notes, faults)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    const HOSTS: &str = r#"
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
"#;

    fn file(dir: &TempDir, key: &str) -> std::path::PathBuf {
        let path = dir.path().join("cluster.toml");
        std::fs::write(&path, format!("[cluster]\nname = \"x\"\nkeys = [ {{ id = 1, {key} }} ]\n{HOSTS}"))
            .unwrap();
        path
    }

    #[test]
    fn a_sound_configuration_is_summed_up() {
        let dir = TempDir::new();
        let key = dir.path().join("key");
        super::super::keygen::run(super::super::keygen::Kind::Cluster, Some(&key)).unwrap();
        let file = file(&dir, &format!("file = {key:?}"));
        assert_eq!(run(&file).unwrap(), ExitCode::SUCCESS);
        let text = summary(&configuration(&file).unwrap());
        assert!(
            text.starts_with("cluster `x`: 2 hosts, no witness, 0 fence devices, 0 workloads; digest "),
            "{text}"
        );
        assert!(text.contains("  voter's lease      1011 ms"), "{text}");
        let capacity = text.lines().find(|line| line.starts_with("capacity ")).unwrap();
        let words: Vec<&str> = capacity.split("  ").filter(|word| !word.is_empty()).map(str::trim).collect();
        assert_eq!(words, ["capacity", "l3", "capacity", "60 s", "190 s", "report"]);
    }

    #[test]
    fn a_missing_key_and_a_missing_file_are_each_one_message_and_status_2() {
        let dir = TempDir::new();
        let failure = run(&file(&dir, "file = \"/nonexistent/key\"")).unwrap_err();
        assert_eq!(
            failure.message,
            "cluster key 1: secret /nonexistent/key: No such file or directory (os error 2); put the secret there, or \
             correct the path"
        );
        assert_eq!(failure.status, 2);
        let failure = run(&dir.path().join("none.toml")).unwrap_err();
        assert!(failure.status == 2 && failure.message.contains("none.toml"), "{}", failure.message);
    }
}
