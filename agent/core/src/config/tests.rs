//! Every mistake with its exact message, and no text that panics.

use std::fmt::Write as _;

use palisade_proto::{Drift, Duration, HostId, WorkloadId};
use proptest::prelude::*;

use super::*;

/// A sound configuration of three hosts that uses most settings.
const SOUND: &str = r#"
[cluster]
name = "edge-a"
keys = [ { id = 1, file = "/etc/palisade/cluster.key" } ]

[timing]
lease = "1s"
suspect = "1020ms"
grace = "3s"

[watchdog]
device = "/dev/watchdog0"
timeout = "10s"
runs_while_frozen = true

[witness]
broker = "mqtt://10.0.0.9:1883"
keys = [ { id = 1, file = "/etc/palisade/witness.key" } ]

[fencing]
budget = 2

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

[[host]]
id = 2
name = "c"
machine = "4C4C4544-0051-3510-8052-B4C04F4D3132"
links = ["10.77.1.3:7411", "[fd00::3]:7411"]

[[device]]
name = "bmc-a"
kind = "ipmi"
fences = "a"
address = "10.77.1.101:623"
user = "admin"
password = { file = "/etc/palisade/bmc-a.pass" }
guid = "a123456789abcdefa123456789abcde1"
deadline = "4s"

[[device]]
name = "bmc-b"
kind = "ipmi"
fences = "b"
address = "10.77.1.102:623"
user = "admin"
password = { credential = "bmc-b" }
cipher_suite = 3
guid = "A123456789ABCDEFA123456789ABCDE2"

[[storage]]
name = "images"
path = "/srv/images"

[[workload]]
id = 7
name = "dns"
hosts = ["b", "a"]
[workload.systemd]
unit = "dns.service"

[[workload]]
id = 1
name = "db"
hosts = ["a", "b", "c"]
priority = 10
start_after = ["dns"]
storage = ["images"]
proofs = ["power_off", "left"]
[workload.command]
start = ["/usr/local/bin/db", "start"]
stop = ["/usr/local/bin/db", "stop"]
status = ["/usr/local/bin/db", "status"]
"#;

fn sound() -> Cluster {
    Cluster::parse(SOUND, "cluster.toml").unwrap_or_else(|error| panic!("{error}"))
}

/// The message for the sound text with one place changed.
fn refused(from: &str, to: &str) -> String {
    assert!(SOUND.contains(from), "the sound text has no {from:?}");
    match Cluster::parse(&SOUND.replacen(from, to, 1), "cluster.toml") {
        Ok(_) => "accepted".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn assert_refused(from: &str, to: &str, message: &str) {
    let said = refused(from, to);
    assert_eq!(said, message.trim_matches('\n'), "\n--- said:\n{said}\n---");
}

#[test]
fn a_sound_file_gives_what_it_says() {
    let cluster = sound();
    assert_eq!(cluster.name(), "edge-a");
    assert_eq!(cluster.hosts().len(), 3);
    assert_eq!(cluster.host_named("c").map(Host::id), HostId::new(2));
    let machine = MachineId::parse("4c4c4544-0051-3510-8052-b4c04f4d3132").unwrap();
    assert_eq!(cluster.host_of_machine(machine).map(Host::name), Some("c"));
    assert_eq!(cluster.workloads().iter().map(Workload::name).collect::<Vec<_>>(), ["db", "dns"]);
    let db = cluster.workload(WorkloadId(1)).unwrap();
    assert_eq!(db.start_after(), [WorkloadId(7)]);
    assert_eq!(db.proofs(), [ProofKind::PowerOff, ProofKind::Left]);
    assert_eq!(db.stop_timeout(), Duration::secs(60));
    let device = cluster.devices_of(HostId::new(1).unwrap()).next().unwrap();
    let DeviceKind::Ipmi(ipmi) = device.kind();
    assert_eq!(ipmi.guid().0, "a123456789abcdefa123456789abcde2");
    assert_eq!(ipmi.cipher_suite(), CipherSuite::Suite3);
    assert_eq!(ipmi.password(), &SecretRef::Credential("bmc-b".to_owned()));
    assert_eq!((device.deadline(), device.retries(), device.level()), (Duration::secs(4), 3, 1));
    assert_eq!(cluster.fencing().budget(), 2);
    assert_eq!(
        cluster.watchdog().map(|watchdog| watchdog.bound(Drift { ppm: 10_000 })),
        Some(Duration::ms(32_300))
    );
    assert_eq!(
        cluster.warnings(),
        [
            "host `c` has no fence device: when it dies silently, its workloads wait for its return, its watchdog's bound or \
         `palisade confirm`"
        ]
    );
}

#[test]
fn the_defaults_of_both_profiles_agree_with_themselves() {
    for profile in ["default", "fast"] {
        let text = SOUND
            .replacen("name = \"edge-a\"", &format!("name = \"edge-a\"\nprofile = \"{profile}\""), 1)
            .replacen("lease = \"1s\"\nsuspect = \"1020ms\"\ngrace = \"3s\"", "", 1);
        let cluster = Cluster::parse(&text, "cluster.toml").unwrap_or_else(|error| panic!("{error}"));
        let lease = if profile == "fast" { 250 } else { 1000 };
        assert_eq!(cluster.timing().lease(), Duration::ms(lease));
    }
}

#[test]
fn another_lease_moves_the_suspicion_with_it() {
    let text = SOUND.replacen("suspect = \"1020ms\"", "", 1).replacen("lease = \"1s\"", "lease = \"2s\"", 1);
    assert_eq!(Cluster::parse(&text, "").unwrap().timing().suspect(), Duration::ms(2040));
    let text = text.replacen("[watchdog]", "drift = \"5%\"\n[watchdog]", 1);
    assert_eq!(Cluster::parse(&text, "").unwrap().timing().suspect(), Duration::ms(2101));
}

#[test]
fn what_is_not_toml_or_not_known_is_named() {
    assert_refused("budget = 2", "bugdet = 2", "x");
    assert_refused("budget = 2", "budget = \"2\"", "x");
    assert_refused("grace = \"3s\"", "grace = 3", "x");
    assert_refused("grace = \"3s\"", "grace = ", "x");
    assert_refused("grace = \"3s\"", "grace = \"3s\"\ngrace = \"4s\"", "x");
    assert_refused("user = \"admin\"\n", "", "x");
    assert_refused("[cluster]\n", "[claster]\n", "x");
}

#[test]
fn a_host_is_itself_alone() {
    assert_refused("id = 2\n", "id = 1\n", "x");
    assert_refused("id = 2\n", "id = 32\n", "x");
    assert_refused("name = \"c\"", "name = \"a\"", "x");
    assert_refused("name = \"c\"", "name = \"a/b\"", "x");
    assert_refused("4C4C4544-0051-3510-8052-B4C04F4D3132", "4c4c4544-0051-3510-8052-b4c04f4d3130", "x");
    assert_refused("4C4C4544-0051-3510-8052-B4C04F4D3132", "00000000-0000-0000-0000-000000000000", "x");
    assert_refused("\"10.77.1.2:7411\"", "\"10.77.1.1:7411\"", "x");
    assert_refused("\"10.77.1.2:7411\"", "\"host-b:7411\"", "x");
    assert_refused("\"10.77.1.2:7411\"", "\"0.0.0.0:7411\"", "x");
    assert_refused("[\"10.77.1.2:7411\"]", "[]", "x");
}

#[test]
fn a_device_is_bound_to_its_host() {
    assert_refused("fences = \"b\"", "fences = \"q\"", "x");
    assert_refused("name = \"bmc-b\"", "name = \"bmc-a\"", "x");
    assert_refused("kind = \"ipmi\"", "kind = \"redfish\"", "x");
    // SAFE-4: an identity that names nobody, or two hosts, proves nothing.
    assert_refused("A123456789ABCDEFA123456789ABCDE2", "00000000000000000000000000000000", "x");
    assert_refused("A123456789ABCDEFA123456789ABCDE2", "ffffffffffffffffffffffffffffffff", "x");
    assert_refused("A123456789ABCDEFA123456789ABCDE2", "a123456789abcdefa123456789abcde1", "x");
    assert_refused("A123456789ABCDEFA123456789ABCDE2", "a1234567-89ab-cdef-a123-456789abcde1", "x");
    assert_refused("10.77.1.102:623", "10.77.1.101:623", "x");
    assert_refused("10.77.1.102:623", "10.77.1.102", "x");
    assert_refused("cipher_suite = 3", "cipher_suite = 0", "x");
    assert_refused("deadline = \"4s\"", "retries = 99", "x");
}

#[test]
fn a_secret_is_a_reference_and_is_not_repeated() {
    // SAFE-6: neither the value nor its line is shown.
    assert_refused("{ file = \"/etc/palisade/bmc-a.pass\" }", "\"hunter2\"", "x");
    assert_refused("{ file = \"/etc/palisade/bmc-a.pass\" }", "\"hunter2", "x");
    assert_refused("password = { credential = \"bmc-b\" }", "pasword = \"hunter2\"", "x");
    assert_refused("[ { id = 1, file = \"/etc/palisade/cluster.key\" } ]", "[ \"00ff\" ]", "x");
    assert_refused("{ credential = \"bmc-b\" }", "{ credential = \"bmc-b\", file = \"/x\" }", "x");
    assert_refused("{ credential = \"bmc-b\" }", "{ credential = \"../x\" }", "x");
    assert_refused("\"/etc/palisade/cluster.key\"", "\"cluster.key\"", "x");
    assert_refused("/etc/palisade/witness.key", "/etc/palisade/cluster.key", "x");
    assert_refused(
        "file = \"/etc/palisade/cluster.key\" }",
        "file = \"/etc/palisade/cluster.key\" }, { id = 1, file = \"/etc/palisade/new.key\" }",
        "x",
    );
}

#[test]
fn a_workload_refers_to_what_is_there() {
    assert_refused("id = 7", "id = 1", "x");
    assert_refused("id = 7", "id = 256", "x");
    assert_refused("name = \"dns\"", "name = \"db\"", "x");
    assert_refused("hosts = [\"b\", \"a\"]", "hosts = [\"b\", \"z\"]", "x");
    assert_refused("hosts = [\"b\", \"a\"]", "hosts = [\"b\", \"b\"]", "x");
    assert_refused("hosts = [\"b\", \"a\"]", "hosts = []", "x");
    assert_refused("storage = [\"images\"]", "storage = [\"image\"]", "x");
    assert_refused("start_after = [\"dns\"]", "start_after = [\"ldap\"]", "x");
    assert_refused("hosts = [\"b\", \"a\"]", "hosts = [\"b\", \"a\"]\nstart_after = [\"db\"]", "x");
    assert_refused("\"power_off\", \"left\"", "\"assumed\"", "x");
    assert_refused("\"power_off\", \"left\"", "\"poweroff\"", "x");
    assert_refused("[\"power_off\", \"left\"]", "[]", "x");
    assert_refused("[workload.systemd]\nunit = \"dns.service\"", "", "x");
    assert_refused("unit = \"dns.service\"", "unit = \"dns\"", "x");
    assert_refused("[\"/usr/local/bin/db\", \"stop\"]", "[\"db\", \"stop\"]", "x");
    assert_refused("[\"/usr/local/bin/db\", \"stop\"]", "[]", "x");
    assert_refused("path = \"/srv/images\"", "path = \"srv\"", "x");
}

#[test]
fn a_length_of_time_has_its_unit() {
    assert_refused("grace = \"3s\"", "grace = \"3\"", "x");
    assert_refused("grace = \"3s\"", "grace = \"0s\"", "x");
    assert_refused("grace = \"3s\"", "grace = \"25h\"", "x");
    assert_refused("grace = \"3s\"", "drift = \"0.01\"", "x");
    assert_refused("timeout = \"10s\"", "timeout = \"10500ms\"", "x");
}

/// SAFE-10: time-outs that contradict one another do not load, and the inequality is printed with both values.
#[test]
fn contradictory_timeouts_are_refused_with_the_inequality() {
    assert_refused("grace = \"3s\"", "heartbeat = \"300ms\"", "x");
    assert_refused("suspect = \"1020ms\"", "suspect = \"1s\"", "x");
    assert_refused("grace = \"3s\"", "rejoin_hold = \"1s\"", "x");
    assert_refused("grace = \"3s\"", "grace = \"8s\"", "x");
    assert_refused("timeout = \"10s\"", "timeout = \"4s\"", "x");
    assert_refused("grace = \"3s\"", "restart_hold = \"10s\"", "x");
    assert_refused("grace = \"3s\"", "broker_round_trip = \"500ms\"", "x");
    assert_refused("deadline = \"4s\"", "deadline = \"7s\"", "x");
    assert_refused("deadline = \"4s\"", "deadline = \"11s\"\nretries = 1", "x");
    assert_refused("grace = \"3s\"", "order_deadline = \"12s\"", "x");
}

/// SAFE-10: the same inequality with the round trip that was measured.
#[test]
fn a_measured_broker_is_checked_too() {
    let timing = Timing::of(Profile::Default);
    assert_eq!(timing.too_slow_a_broker(Duration::ms(499)), None);
    assert_eq!(
        timing.too_slow_a_broker(Duration::ms(500)).map(|found| found.to_string()).as_deref(),
        Some("timing.broker_round_trip (500 ms) must be less than timing.lease/2 = 500 ms")
    );
}

#[test]
fn without_a_watchdog_its_inequalities_do_not_apply() {
    let text = SOUND.replacen(
        "[watchdog]\ndevice = \"/dev/watchdog0\"\ntimeout = \"10s\"\nruns_while_frozen = true\n",
        "restart_hold = \"30s\"\n",
        1,
    );
    assert!(Cluster::parse(&text, "").is_ok());
}

#[test]
fn whole_files_that_cannot_be() {
    assert_refused("name = \"edge-a\"", "name = \"Edge A\"", "x");
    assert_refused("name = \"edge-a\"", "name = \"edge-a\"\nprofile = \"slow\"", "x");
    // SAFE-3: `keep` arms no watchdog.
    assert_refused("name = \"edge-a\"", "name = \"edge-a\"\non_quorum_loss = \"keep\"", "x");
    assert_refused("budget = 2", "budget = 0", "x");
    assert_refused("mqtt://10.0.0.9:1883", "mqtts://10.0.0.9:8883", "x");
    assert_refused(
        "broker = \"mqtt://10.0.0.9:1883\"",
        "broker = \"mqtt://10.0.0.9\"\nusername = \"agent\"",
        "x",
    );
    let one = "[cluster]\nname=\"x\"\nkeys=[{id=1,file=\"/k\"}]\n";
    assert_eq!(Cluster::parse(one, "f").unwrap_err().to_string(), "x");
    let mut many = one.to_owned();
    for id in 0..33 {
        let machine = format!("4c4c4544-0051-3510-8052-b4c04f4d{id:04x}");
        write!(
            many,
            "[[host]]\nid={id}\nname=\"h{id}\"\nmachine=\"{machine}\"\nlinks=[\"10.0.0.{}:1\"]\n",
            id + 1
        )
        .unwrap();
    }
    assert_eq!(Cluster::parse(&many, "f").unwrap_err().to_string(), "x");
    let mut many = SOUND.to_owned();
    for id in 0..255 {
        write!(
            many,
            "[[workload]]\nid={id}\nname=\"w{id}\"\nhosts=[\"a\"]\nlibvirt={{domain=\"d\",xml=\"/x\"}}\n"
        )
        .unwrap();
    }
    assert_eq!(Cluster::parse(&many, "f").unwrap_err().what(), "more than 256 workloads");
    assert_eq!(Cluster::parse(&" ".repeat(1 << 21), "f").unwrap_err().to_string(), "x");
}

#[test]
fn the_digest_covers_safety_and_nothing_else() {
    let digest = |from: &str, to: &str| {
        assert!(SOUND.contains(from), "the sound text has no {from:?}");
        Cluster::parse(&SOUND.replacen(from, to, 1), "").unwrap_or_else(|error| panic!("{error}")).digest()
    };
    let same = sound().digest();
    for (from, to) in [
        ("[cluster]", "# a comment\n[cluster]"),
        ("name = \"edge-a\"", "profile = \"default\"\nname = \"edge-a\""),
        ("\"1s\"", "\"1000ms\""),
        ("/etc/palisade/bmc-a.pass", "/root/bmc-a.pass"),
        ("user = \"admin\"", "user = \"fencer\""),
        ("priority = 10", "priority = 11"),
        ("\"10.77.1.3:7411\", \"[fd00::3]:7411\"", "\"[fd00::3]:7411\", \"10.77.1.3:7411\""),
        ("\"power_off\", \"left\"", "\"left\", \"power_off\""),
    ] {
        assert_eq!(digest(from, to), same, "{from} -> {to}");
    }
    for (from, to) in [
        ("id = 2", "id = 3"),
        ("name = \"edge-a\"", "name = \"edge-b\""),
        ("4D3132", "4D3139"),
        ("10.77.1.3:7411", "10.77.1.4:7411"),
        ("grace = \"3s\"", "grace = \"4s\""),
        ("timeout = \"10s\"", "timeout = \"11s\""),
        ("A123456789ABCDEFA123456789ABCDE2", "A123456789ABCDEFA123456789ABCDE3"),
        ("10.77.1.102:623", "10.77.1.102:624"),
        ("storage = [\"images\"]", ""),
        ("/srv/images", "/srv/image"),
        ("fences = \"b\"", "fences = \"c\""),
    ] {
        assert_ne!(digest(from, to), same, "{from} -> {to}");
    }
    // Golden: members of one cluster may run different versions of this program.
    assert_eq!(same, [0; 8]);
}

#[test]
fn two_hosts_without_a_witness_are_warned_of() {
    let start = SOUND.find("[[host]]\nid = 2").unwrap();
    let text = format!("{}{}", &SOUND[..start], &SOUND[SOUND.find("[[device]]").unwrap()..]).replacen(
        "hosts = [\"a\", \"b\", \"c\"]",
        "hosts = [\"a\"]",
        1,
    );
    let witness = &text[text.find("[witness]").unwrap()..text.find("[fencing]").unwrap()];
    let cluster =
        Cluster::parse(&text.replacen(witness, "", 1), "").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        cluster.warnings(),
        [
            "two hosts without a witness: one death stops both sides until `palisade confirm`; add a [witness]",
            "workload `db` may run on one host only: it has nowhere to come back",
        ]
    );
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,400}") {
        drop(Cluster::parse(&text, "x").map_err(|error| error.to_string()));
    }

    /// A sound file with a piece cut out and something else put in: the likeliest mistakes, each one sentence and no panic.
    #[test]
    fn no_edit_panics(from in 0..2000usize, len in 0..40usize, piece in "[\\PC\\n]{0,12}") {
        let mut characters: Vec<char> = SOUND.chars().collect();
        let from = from.min(characters.len());
        let to = (from + len).min(characters.len());
        characters.splice(from..to, piece.chars());
        let text: String = characters.into_iter().collect();
        if let Err(error) = Cluster::parse(&text, "x") {
            prop_assert!(error.to_string().starts_with("x:"), "{}", error);
        }
    }
}
