//! What a sound file gives, its digest and warnings, and no text that panics.

mod probes;
mod refused;

use palisade_ladder::Effect;
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
start_timeout = "30s"
[workload.command]
start = ["/usr/local/bin/db", "start"]
stop = ["/usr/local/bin/db", "stop"]
status = ["/usr/local/bin/db", "status"]
"#;

fn sound() -> Cluster {
    Cluster::parse(SOUND, "cluster.toml").unwrap_or_else(|error| panic!("{error}"))
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
    assert_eq!(db.stop_timeout(), Duration::secs(60));
    let device = cluster.devices_of(HostId::new(1).unwrap()).next().unwrap();
    let DeviceKind::Ipmi(ipmi) = device.kind() else { panic!("a BMC") };
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
            "host `c` has no fence device that switches its power: when it dies silently, its workloads wait for its return, its watchdog's bound or \
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
    assert_eq!(same, [33, 229, 124, 42, 36, 226, 156, 144]);
}

#[test]
fn tls_with_a_broker_is_whole_or_refused() {
    let with = |broker: &str, more: &str| {
        let witness = format!("broker = \"{broker}\"\n{more}");
        Cluster::parse(&SOUND.replacen("broker = \"mqtt://10.0.0.9:1883\"", &witness, 1), "f")
    };
    let (ca, certificate, key) =
        ("ca = \"/c\"\n", "certificate = \"/p\"\n", "key = { credential = \"mqtt\" }\n");
    let broker = |broker: &str, more: &str| {
        let cluster = with(broker, more).unwrap_or_else(|error| panic!("{error}"));
        cluster.witness().map(|witness| witness.broker().clone()).unwrap()
    };
    let plain = broker("mqtts://broker.lan", ca);
    assert_eq!((plain.to_string().as_str(), plain.port()), ("mqtts://broker.lan:8883", 8883));
    let tls = plain.tls().unwrap();
    assert_eq!((tls.ca(), tls.client()), (std::path::Path::new("/c"), None));
    let both = broker("mqtts://10.0.0.9:9000", &format!("{ca}{certificate}{key}"));
    let (path, secret) = both.tls().and_then(BrokerTls::client).unwrap();
    assert_eq!((path.to_str(), secret), (Some("/p"), &SecretRef::Credential("mqtt".to_owned())));
    for (address, more, what) in [
        ("mqtts://10.0.0.9", "", "TLS without a CA"),
        ("mqtts://10.0.0.9", certificate, "TLS without a CA"),
        ("mqtt://10.0.0.9", ca, "the broker's address says mqtt://"),
        ("mqtt://10.0.0.9", key, "the broker's address says mqtt://"),
        ("mqtts://10.0.0.9", &format!("{ca}{certificate}"), "a certificate without its key"),
        ("mqtts://10.0.0.9", &format!("{ca}{key}"), "a key without its certificate"),
        ("mqtts://[fd00::9]", ca, "cannot be known by an IPv6 address"),
    ] {
        let error = with(address, more).unwrap_err().to_string();
        assert!(error.contains(what), "{address} {more}: {error}");
    }
    // A password in clear is warned of, one in TLS is not.
    let login = "username = \"u\"\npassword = { file = \"/w\" }\n";
    let warned = |address: &str, more: &str| {
        let cluster = with(address, more).unwrap_or_else(|error| panic!("{error}"));
        cluster.warnings().iter().any(|warning| warning.contains("witness broker is sent in clear"))
    };
    assert!(warned("mqtt://10.0.0.9", login));
    assert!(!warned("mqtts://10.0.0.9", &format!("{ca}{login}")) && !warned("mqtt://10.0.0.9", ""));
}

#[test]
fn monitoring_is_answered_where_it_is_said_and_nowhere_else() {
    let with = |metrics: &str| Cluster::parse(&SOUND.replacen("[fencing]", metrics, 1), "f");
    assert_eq!(with("[fencing]").map(|cluster| cluster.monitoring()), Ok(None));
    let listening = with("[metrics]\nlisten = \"0.0.0.0:9753\"\n[fencing]");
    assert_eq!(listening.map(|cluster| cluster.monitoring()), Ok("0.0.0.0:9753".parse().ok()));
    let error = with("[metrics]\nlisten = \"9753\"\n[fencing]").unwrap_err().to_string();
    assert!(error.contains("9753"), "{error}");
}

/// Nobody's order counts from afar unless the file says whose, by which broker, and who has to agree.
#[test]
fn orders_from_afar_are_taken_where_the_file_says_so() {
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEbhDzOQfy0ZC42T0lRFxLcYUPqhEwjSQxMf9JperkpT";
    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";
    let anna = format!("[[operator]]\nname = \"anna\"\nkey = \"{key}\"\n");
    let bert = format!("[[operator]]\nname = \"bert\"\nkey = \"{other}\"\n");
    let broker = "[telemetry]\nbroker = \"mqtt://10.0.0.8\"\n";
    let with = |more: &str| Cluster::parse(&SOUND.replacen("[fencing]", &format!("{more}[fencing]"), 1), "f");
    assert!(with(broker).is_ok_and(|cluster| cluster.orders().is_none()));
    let taken = with(&format!("{broker}{anna}{bert}[orders]\ntwo_operators = [\"fence\", \"disarm\"]\n"));
    let taken = taken.unwrap_or_else(|error| panic!("{error}"));
    let orders = taken.orders().unwrap();
    let needed = [Verb::Fence, Verb::Disarm, Verb::Unfence, Verb::Stop].map(|verb| orders.signatures(verb));
    assert_eq!(needed, [2, 2, 1, 1]);
    for (more, what) in [
        (format!("{anna}[orders]\n"), "without a broker"),
        (format!("{broker}[orders]\n"), "that nobody may sign"),
        (format!("{broker}{anna}[orders]\ntwo_operators = [\"fence\"]\n"), "`anna` is the only one"),
        (format!("{broker}{anna}{bert}[orders]\ntwo_operators = [\"confirm\"]\n"), "unknown order `confirm`"),
        (format!("{broker}{anna}[orders]\nthree_operators = []\n"), "unknown field `three_operators`"),
    ] {
        let error = with(&more).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn the_spool_has_a_size() {
    let with = |spool: &str| {
        let telemetry = format!("[telemetry]\nbroker = \"mqtt://10.0.0.8\"\n{spool}\n[fencing]");
        Cluster::parse(&SOUND.replacen("[fencing]", &telemetry, 1), "f")
    };
    let bytes = |spool: &str| with(spool).map(|cluster| cluster.telemetry().map(Telemetry::spool_bytes));
    assert_eq!(bytes(""), Ok(Some(64 << 20)));
    assert_eq!(bytes("spool = \"16MiB\""), Ok(Some(16 << 20)));
    // What central monitoring hears is no part of what keeps the cluster safe.
    let plain = Cluster::parse(SOUND, "f").map(|cluster| cluster.digest());
    assert_eq!(with("spool = \"16MiB\"").map(|cluster| cluster.digest()), plain);
    for (spool, what) in [("64", "`64` is no size"), ("64KiB", "`64KiB` is out of range")] {
        let error = with(&format!("spool = \"{spool}\"")).unwrap_err().to_string();
        assert!(error.contains(what) && error.contains("\"1MiB\" to \"4096MiB\""), "{error}");
    }
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

/// The sound file with the second BMC as a Redfish service that is set so.
fn with_redfish(settings: &str) -> Result<Cluster, super::ConfigError> {
    Cluster::parse(&with_redfish_text(settings), "cluster.toml")
}

fn with_redfish_text(settings: &str) -> String {
    let start = SOUND.find("[[device]]\nname = \"bmc-b\"").unwrap();
    let end = start + SOUND[start..].find("[[storage]]").unwrap();
    let device = format!(
        "[[device]]\nname = \"bmc-b\"\nkind = \"redfish\"\nfences = \"b\"\naddress = \"10.77.1.102:443\"\n\
         user = \"admin\"\npassword = {{ credential = \"bmc-b\" }}\n{settings}\n\n"
    );
    SOUND.replacen(&SOUND[start..end], &device, 1)
}

#[test]
fn a_redfish_service_is_bound_to_its_host_by_the_machines_uuid() {
    let cluster = with_redfish("ca = \"/etc/palisade/bmc-ca.pem\"").unwrap_or_else(|error| panic!("{error}"));
    let host = cluster.host_named("b").unwrap();
    let device = cluster.devices_of(host.id()).next().unwrap();
    let DeviceKind::Redfish(redfish) = device.kind() else { panic!("a Redfish service") };
    let machine: String = host.machine().bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(redfish.uuid().0, machine);
    let tls = redfish.tls().unwrap();
    assert_eq!((tls.ca().to_str(), tls.name()), (Some("/etc/palisade/bmc-ca.pem"), "10.77.1.102"));
    assert_eq!((redfish.auth(), redfish.system()), (RedfishAuth::Session, None));
    assert_eq!((device.deadline(), device.retries()), (Duration::secs(6), 3));
    for name in ["bmc-b.lab.example", "fd00::66"] {
        let named = with_redfish(&format!("ca = \"/x\"\ntls_name = \"{name}\"")).unwrap();
        let device = named.devices_of(host.id()).next().unwrap().kind();
        assert!(matches!(device, DeviceKind::Redfish(redfish) if redfish.tls().unwrap().name() == name));
    }
    let settings = "insecure_http = true\nauth = \"basic\"\nsystem = \"/redfish/v1/Systems/2\"\n\
                    uuid = \"4C4C4544-0051-3510-8052-00000000000A\"";
    let cluster = with_redfish(settings).unwrap_or_else(|error| panic!("{error}"));
    let device = cluster.devices_of(host.id()).next().unwrap();
    let DeviceKind::Redfish(redfish) = device.kind() else { panic!("a Redfish service") };
    assert_eq!(redfish.uuid().0, "4c4c454400513510805200000000000a");
    assert_eq!((redfish.tls(), redfish.auth()), (None, RedfishAuth::Basic));
    assert_eq!(redfish.system(), Some("/redfish/v1/Systems/2"));
    assert!(cluster.warnings().iter().any(|warning| warning.contains("plain HTTP")));
}

/// SAFE-4: the web service and the IPMI port of one BMC are one BMC.
#[test]
fn a_bmc_of_two_protocols_stands_for_one_host() {
    let text = with_redfish_text("ca = \"/x\"").replace("10.77.1.102:443", "10.77.1.101:443");
    let error = Cluster::parse(&text, "cluster.toml").unwrap_err().to_string();
    assert!(error.contains("device `bmc-b` has the address of `bmc-a`"), "{error}");
}

#[test]
fn a_redfish_service_that_is_set_wrongly_is_refused() {
    let table = [
        ("", "device `bmc-b` has no `ca`"),
        ("insecure_http = false", "device `bmc-b` has no `ca`"),
        ("ca = \"/x\"\ninsecure_http = true", "contradict"),
        ("ca = \"x\"", "`x` is no absolute path"),
        ("ca = \"/x\"\nauth = \"digest\"", "unknown way to log in `digest`"),
        ("ca = \"/x\"\nsystem = \"http://other/\"", "is no path of a system"),
        ("ca = \"/x\"\nsystem = \"//other/x\"", "is no path of a system"),
        ("ca = \"/x\"\nuuid = \"00000000-0000-0000-0000-000000000000\"", "is no system's UUID"),
        ("ca = \"/x\"\ntls_name = \"a b\"", "cannot be the name in a certificate"),
        ("ca = \"/x\"\ntls_name = \"10.0.0.1:443\"", "cannot be the name in a certificate"),
        ("ca = \"/x\"\ncipher_suite = 3", "`cipher_suite` is no setting of a device of kind \"redfish\""),
    ];
    for (settings, expected) in table {
        let error = with_redfish(settings).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("way out"), "{settings}: {error}");
    }
}

/// The sound file with the second BMC as a fence agent that is set so.
fn with_agent(settings: &str) -> Result<Cluster, super::ConfigError> {
    let start = SOUND.find("[[device]]\nname = \"bmc-b\"").unwrap();
    let end = start + SOUND[start..].find("[[storage]]").unwrap();
    let device = format!("[[device]]\nname = \"pdu-b\"\nkind = \"agent\"\nfences = \"b\"\n{settings}\n\n");
    Cluster::parse(&SOUND.replacen(&SOUND[start..end], &device, 1), "cluster.toml")
}

#[test]
fn a_fence_agent_is_told_what_is_written() {
    let settings = "agent = \"fence_apc\"\noptions = { ip = \"10.0.0.5\", plug = 7, ssh = true, passwd_script = \"/x\" }\n\
                    secrets = { password = { file = \"/etc/palisade/pdu.pass\" } }";
    let cluster = with_agent(settings).unwrap_or_else(|error| panic!("{error}"));
    let device = cluster.devices_of(cluster.host_named("b").unwrap().id()).next().unwrap();
    let DeviceKind::Agent(agent) = device.kind() else { panic!("a fence agent") };
    assert_eq!(agent.program().to_str(), Some("/usr/sbin/fence_apc"));
    let told: Vec<_> = agent.options().iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(told, ["ip=10.0.0.5", "passwd_script=/x", "plug=7", "ssh=true"]);
    let secrets: Vec<_> = agent.secrets().iter().map(|(name, secret)| format!("{name}: {secret}")).collect();
    assert_eq!(secrets, ["password: file /etc/palisade/pdu.pass"]);
    assert_eq!((device.deadline(), device.retries()), (Duration::secs(9), 2));
    assert_ne!(cluster.digest(), with_agent(&settings.replace('7', "8")).unwrap().digest());
    let own = with_agent("agent = \"/opt/fence_x\"").unwrap_or_else(|error| panic!("{error}"));
    let device = own.devices_of(own.host_named("b").unwrap().id()).next().unwrap();
    assert!(
        matches!(device.kind(), DeviceKind::Agent(agent) if agent.program().to_str() == Some("/opt/fence_x"))
    );
}

#[test]
fn a_fence_agent_that_is_set_wrongly_is_refused() {
    let table = [
        ("", "device `pdu-b` has no `agent`"),
        ("agent = \"../fence_x\"", "cannot be the name of a fence agent"),
        (
            "agent = \"fence_x\"\naddress = \"10.0.0.1:1\"",
            "`address` is no setting of a device of kind \"agent\"",
        ),
        ("agent = \"fence_x\"\noptions = { action = \"off\" }", "what an agent does is not set here"),
        ("agent = \"fence_x\"\noptions = { Plug = 1 }", "`Plug` cannot be a setting"),
        ("agent = \"fence_x\"\noptions = { plug = [1] }", "a text, a whole number, true or false"),
        ("agent = \"fence_x\"\noptions = { plug = \"1\\naction=on\" }", "holds a control character"),
        // SAFE-6
        ("agent = \"fence_x\"\noptions = { password = \"hunter2\" }", "`password` is a secret"),
        (
            "agent = \"fence_x\"\noptions = { snmp_priv_passwd = \"hunter2\" }",
            "`snmp_priv_passwd` is a secret",
        ),
        ("agent = \"fence_x\"\noptions = { community = \"hunter2\" }", "`community` is a secret"),
        (
            "agent = \"fence_x\"\nsecrets = { password = \"hunter2\" }",
            "a secret never stands in the configuration",
        ),
        (
            "agent = \"fence_x\"\noptions = { plug = 1 }\nsecrets = { plug = { file = \"/x\" } }",
            "stands under `options` and under `secrets`",
        ),
    ];
    for (settings, expected) in table {
        let error = with_agent(settings).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("hunter2"), "{settings}: {error}");
    }
}

/// SAFE-4: the options alone tell one host's plug from another's.
#[test]
fn one_plug_fences_one_host() {
    let of = |host: &str, plug: u8| {
        format!(
            "[[device]]\nname = \"pdu-{host}\"\nkind = \"agent\"\nfences = \"{host}\"\nagent = \"fence_apc\"\n\
             options = {{ ip = \"10.0.0.5\", plug = {plug} }}\nlevel = 2\n\n"
        )
    };
    let with = |a: u8, b: u8| {
        let text = SOUND.replacen("[[storage]]", &format!("{}{}[[storage]]", of("a", a), of("b", b)), 1);
        Cluster::parse(&text, "cluster.toml")
    };
    assert!(with(1, 2).is_ok());
    let error = with(1, 1).unwrap_err().to_string();
    assert!(error.contains("device `pdu-b` has the agent and options of `pdu-a`"), "{error}");
}

/// The sound file with a device that isolates host b beside its BMC, and settings of its workload.
fn with_isolation(device: &str, workload: &str) -> Result<Cluster, super::ConfigError> {
    let device = format!(
        "[[device]]\nname = \"san-b\"\nkind = \"agent\"\nfences = \"b\"\nagent = \"fence_san\"\n{device}\n\n[[storage]]"
    );
    let text = SOUND.replacen("storage = [\"images\"]\n", &format!("{workload}\n"), 1);
    Cluster::parse(&text.replacen("[[storage]]", &device, 1), "cluster.toml")
}

#[test]
fn a_device_says_what_it_takes_and_a_workload_what_suffices() {
    let images = "storage = [\"images\"]";
    let san = "level = 2\nproof = \"storage_revoked\"\nrace = true\nstorage = [\"images\"]";
    let cluster = with_isolation(san, images).unwrap_or_else(|error| panic!("{error}"));
    let devices: Vec<_> = cluster.devices_of(cluster.host_named("b").unwrap().id()).collect();
    assert_eq!((devices[0].effect(), devices[0].races()), (Effect::Power, false));
    assert_eq!((devices[1].effect(), devices[1].races()), (Effect::Storage, true));
    assert_eq!(devices[1].storage(), ["images"]);
    let proofs = |workload: &str| {
        let cluster = with_isolation(san, workload).unwrap_or_else(|error| panic!("{error}"));
        let db = cluster.workloads().iter().find(|workload| workload.name() == "db").unwrap();
        db.proofs().to_vec()
    };
    assert_eq!(proofs(images), [Effect::Storage], "from its storage");
    assert_eq!(proofs("proofs = [\"network_cut\"]"), [Effect::Network]);
    assert_eq!(proofs(&format!("{images}\nproofs = []")), []);
    assert_eq!(proofs(""), []);
    // Peers must agree on what a cut frees.
    let digest = |device: &str, workload: &str| with_isolation(device, workload).unwrap().digest();
    let same = digest(san, images);
    assert_ne!(
        digest(
            &san.replace("storage_revoked", "power_off").replace("\nrace = true\nstorage = [\"images\"]", ""),
            images
        ),
        same
    );
    assert_ne!(digest(&san.replace("\nrace = true", ""), images), same);
    assert_ne!(digest(san, &format!("{images}\nproofs = []")), same);
}

#[test]
fn isolation_that_is_set_wrongly_is_refused() {
    let images = "storage = [\"images\"]";
    let revoked = "proof = \"storage_revoked\"\nstorage = [\"images\"]";
    let table = [
        (
            "proof = \"storage_revoked\"\nlevel = 2".to_owned(),
            images,
            "does not say which `storage` it takes away",
        ),
        (
            "proof = \"network_cut\"\nlevel = 2\nstorage = [\"images\"]".to_owned(),
            images,
            "takes no storage away",
        ),
        ("level = 2\nrace = true".to_owned(), images, "has nothing to race with"),
        ("proof = \"left\"".to_owned(), images, "unknown proof of a fence device `left`"),
        (format!("{revoked}\nlevel = 1"), images, "give them levels of their own"),
        (
            format!(
                "{revoked}\nlevel = 2\n[[device]]\nname = \"net-b\"\nkind = \"agent\"\nfences = \"b\"\nagent = \"fence_net\"\n\
                 proof = \"network_cut\"\nlevel = 3"
            ),
            images,
            "choose one of the two",
        ),
        (
            format!("{revoked}\nlevel = 2"),
            "proofs = [\"storage_revoked\"]",
            "names no storage that could be revoked",
        ),
        (
            format!("{revoked}\nlevel = 2"),
            "proofs = [\"power_off\"]",
            "unknown proof short of death `power_off`",
        ),
    ];
    for (device, workload, expected) in table {
        let error = with_isolation(&device, workload).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("way out"), "{device}: {error}");
    }
    let on_ipmi = SOUND.replacen("deadline = \"4s\"", "proof = \"network_cut\"", 1);
    let error = Cluster::parse(&on_ipmi, "cluster.toml").unwrap_err().to_string();
    assert!(error.contains("`proof` is no setting of a device of kind \"ipmi\""), "{error}");
}

/// The sound file with the second BMC as the hypervisor below a machine.
fn with_hypervisor(settings: &str) -> Result<Cluster, super::ConfigError> {
    let start = SOUND.find("[[device]]\nname = \"bmc-b\"").unwrap();
    let end = start + SOUND[start..].find("[[storage]]").unwrap();
    let device =
        format!("[[device]]\nname = \"vm-b\"\nkind = \"hypervisor\"\nfences = \"b\"\n{settings}\n\n");
    Cluster::parse(&SOUND.replacen(&SOUND[start..end], &device, 1), "cluster.toml")
}

#[test]
fn a_machine_is_known_by_its_uuid_and_reached_in_one_way() {
    for (settings, way, soon) in [
        ("qmp = \"/run/b.qmp\"", HypervisorWay::QmpSocket("/run/b.qmp".into()), true),
        ("qmp = \"10.77.1.9:4444\"", HypervisorWay::QmpAddress("10.77.1.9:4444".parse().unwrap()), true),
        (
            "libvirt = \"qemu+ssh://x@y/system\"",
            HypervisorWay::Libvirt("qemu+ssh://x@y/system".into()),
            false,
        ),
    ] {
        let cluster = with_hypervisor(settings).unwrap_or_else(|error| panic!("{error}"));
        let host = cluster.host_named("b").unwrap();
        let device = cluster.devices_of(host.id()).next().unwrap();
        let DeviceKind::Hypervisor(below) = device.kind() else { panic!("a hypervisor") };
        let machine: String = host.machine().bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((below.way(), &below.uuid().0), (&way, &machine));
        assert_eq!(device.kind().reads_soon(), soon);
        let tcp = matches!(way, HypervisorWay::QmpAddress(_));
        assert_eq!(cluster.warnings().iter().any(|warning| warning.contains("QMP over TCP")), tcp);
    }
    for (settings, words) in [
        ("", "has neither `qmp` nor `libvirt`"),
        ("qmp = \"/x\"\nlibvirt = \"qemu:///system\"", "two ways to one machine"),
        ("qmp = \"b.qmp\"", "QEMU monitor"),
        ("libvirt = \"system\"", "no URI of libvirt"),
        ("libvirt = \"-c:x\"", "no URI of libvirt"),
        // SAFE-6
        ("libvirt = \"qemu+ssh://u:p@h/system\"", "holds a password"),
        ("qmp = \"/x\"\nuuid = \"0\"", "no system's UUID"),
        ("qmp = \"/x\"\nuser = \"x\"", "no setting of a device of kind \"hypervisor\""),
    ] {
        let error = with_hypervisor(settings).unwrap_err().to_string();
        assert!(error.contains(words), "{settings}: {error}");
    }
}

/// The sound file with another device for the second host, whose storage is made of `luns`.
fn with_reservations(luns: &str, device: &str) -> Result<Cluster, super::ConfigError> {
    let storage = format!("[[storage]]\nname = \"san\"\npath = \"/san\"\n{luns}\n\n");
    let text = SOUND.replacen("[[storage]]", &format!("{device}\n\n{storage}[[storage]]"), 1);
    Cluster::parse(&text, "cluster.toml")
}

const SCSI: &str =
    "[[device]]\nname = \"san-b\"\nkind = \"scsi\"\nfences = \"b\"\nlevel = 2\nstorage = [\"san\"]";
const LUNS: &str = "luns = [\"naa.6001405AAAAAAAAAAAAAAAAAAAAAAAA1\", \"eui.0025385b71b00f00\", \"uuid.E63AD639-d398-4bb1-9cb4-8f7abb3e6910\"]";

#[test]
fn reservations_take_the_logical_units_of_their_storage() {
    let cluster = with_reservations(LUNS, SCSI).unwrap_or_else(|error| panic!("{error}"));
    let device = cluster.devices().iter().find(|device| device.name() == "san-b").unwrap();
    let DeviceKind::Scsi(scsi) = device.kind() else { panic!("reservations") };
    assert_eq!(
        scsi.luns(),
        [
            "naa.6001405aaaaaaaaaaaaaaaaaaaaaaaa1",
            "eui.0025385b71b00f00",
            "uuid.e63ad639-d398-4bb1-9cb4-8f7abb3e6910"
        ]
    );
    assert_eq!(device.effect(), palisade_ladder::Effect::Storage);
    assert!(device.kind().opened_by_its_host() && device.kind().reads_soon());
    let other = with_reservations("luns = [\"naa.6001405aaaaaaaaaaaaaaaaaaaaaaaa2\"]", SCSI).unwrap();
    let unregistered = |cluster: &Cluster| -> Vec<String> {
        cluster
            .warnings()
            .into_iter()
            .filter(|warning| warning.contains("storage `san` is reserved"))
            .collect()
    };
    let warned = unregistered(&cluster);
    assert!(!warned.is_empty() && warned.iter().all(|warning| !warning.contains("host `b`")), "{warned:?}");
    assert_ne!(cluster.digest(), other.digest(), "which units a host is cut from is everybody's business");
    for (luns, device, words) in [
        ("", SCSI.to_owned(), "storage `san` names no `luns`"),
        ("luns = [\"/dev/sda\"]", SCSI.to_owned(), "`/dev/sda` is no name of a logical unit"),
        ("luns = [\"naa.0000000000000000\"]", SCSI.to_owned(), "is no name of a logical unit"),
        ("luns = [\"naa.6001405aaaaaaaaa\", \"naa.6001405AAAAAAAAA\"]", SCSI.to_owned(), "is named twice"),
        (LUNS, SCSI.replace("storage = [\"san\"]", ""), "does not say which `storage` it takes away"),
        (LUNS, format!("{SCSI}\nuser = \"x\""), "`user` is no setting of a device of kind \"scsi\""),
        (
            LUNS,
            format!("{SCSI}\nproof = \"power_off\""),
            "`proof` is no setting of a device of kind \"scsi\"",
        ),
        (
            LUNS,
            format!(
                "{SCSI}\n\n[[device]]\nname = \"zone-b\"\nkind = \"agent\"\nfences = \"b\"\nlevel = 3\nstorage = [\"san\"]\n\
                 agent = \"fence_brocade\"\nproof = \"storage_revoked\""
            ),
            "cut one host off in two ways",
        ),
    ] {
        let error = with_reservations(luns, &device).unwrap_err().to_string();
        assert!(error.contains(words), "{luns} {device}: {error}");
    }
}

/// The sound file with a switch port of a host beside its power.
fn with_switch(settings: &str) -> Result<Cluster, super::ConfigError> {
    let device = format!(
        "[[device]]\nname = \"port-b\"\nkind = \"switch\"\nfences = \"b\"\nlevel = 2\n{settings}\n\n[[storage]]"
    );
    Cluster::parse(&SOUND.replacen("[[storage]]", &device, 1), "cluster.toml")
}

#[test]
fn a_switch_port_is_known_by_its_alias_and_cuts_the_network() {
    let v2c = "address = \"10.77.1.50:161\"\ncommunity = { file = \"/c\" }\n";
    let passwords = "auth_password = { file = \"/a\" }\npriv_password = { file = \"/p\" }\n";
    let v3 = format!("address = \"10.77.1.50:161\"\nuser = \"palisade\"\n{passwords}");
    for (settings, port, alias, clear) in [
        (format!("{v2c}port = \"Gi1/0/12\""), SwitchPort::Name("Gi1/0/12".to_owned()), "b", true),
        (format!("{v2c}port = 12\nalias = \"rack 3\"\nrace = true"), SwitchPort::Index(12), "rack 3", true),
        (format!("{v3}port = \"12\""), SwitchPort::Name("12".to_owned()), "b", false),
        (
            format!("{v3}port = 12\nauth_protocol = \"sha1\"\npriv_protocol = \"aes128\""),
            SwitchPort::Index(12),
            "b",
            false,
        ),
    ] {
        let cluster = with_switch(&settings).unwrap_or_else(|error| panic!("{error}"));
        let device = cluster.devices().iter().find(|device| device.name() == "port-b").unwrap();
        let DeviceKind::Switch(switch) = device.kind() else { panic!("a switch") };
        assert_eq!((switch.port(), switch.alias().0.as_str()), (&port, alias));
        assert_eq!((device.effect(), device.races()), (Effect::Network, settings.contains("race")));
        assert_eq!(cluster.warnings().iter().any(|warning| warning.contains("SNMPv2c")), clear);
        let sha1 = matches!(switch.login(), SnmpLogin::User { auth: SnmpAuth::Sha1, .. });
        assert_eq!(sha1, settings.contains("sha1"));
        let more = settings.replace("/c", "/elsewhere").replace("/a\"", "/elsewhere\"");
        assert_eq!(with_switch(&more).unwrap().digest(), cluster.digest(), "where a secret lies");
        let other = settings.replace("port = 12", "port = 13").replace("12\"", "13\"");
        assert_ne!(with_switch(&other).unwrap().digest(), cluster.digest(), "another port");
    }
    for (settings, words) in [
        (v2c.to_owned(), "has no `port`"),
        (format!("{v2c}port = 0"), "no port of a switch"),
        (format!("{v2c}port = \"\""), "no port of a switch"),
        (format!("{v2c}port = 1\nalias = \"\""), "alias of a port"),
        (format!("{v2c}port = 1\nuser = \"x\""), "two logins"),
        (format!("{v2c}port = 1\nauth_protocol = \"sha1\""), "no other password"),
        ("address = \"10.77.1.50:161\"\nport = 1".to_owned(), "neither `user` nor `community`"),
        (format!("{v3}port = 1\nauth_protocol = \"md5\""), "authentication of SNMPv3"),
        (format!("{v3}port = 1\npriv_protocol = \"des\""), "privacy of SNMPv3"),
        (
            format!("{}port = 1", v3.replace("priv_password = { file = \"/p\" }\n", "")),
            "has no `priv_password`",
        ),
        (
            format!("{}port = 1", v3.replace("auth_password = { file = \"/a\" }\n", "")),
            "has no `auth_password`",
        ),
        (format!("{v2c}port = 1\nproof = \"power_off\""), "no setting of a device of kind \"switch\""),
        (
            format!("{v2c}port = 1\npassword = {{ file = \"/x\" }}"),
            "no setting of a device of kind \"switch\"",
        ),
        (format!("{v2c}port = 1\nstorage = [\"images\"]"), "takes no storage away"),
    ] {
        let error = with_switch(&settings).unwrap_err().to_string();
        assert!(error.contains(words), "{settings}: {error}");
        assert!(!error.contains("write proof"), "no way out of a switch's: {error}");
    }
    let second = |fences: &str, rest: &str| {
        with_switch(&format!(
            "{v2c}port = 1\n\n[[device]]\nname = \"second\"\nkind = \"switch\"\nfences = \"{fences}\"\nlevel = 2\n{v2c}{rest}"
        ))
    };
    assert!(second("b", "port = 2").is_ok(), "two links of one host");
    assert!(second("c", "port = 2").is_ok());
    // SAFE-4
    for (fences, rest, words) in [
        ("b", "port = 1", "once more"),
        ("c", "port = 1", "once more"),
        ("c", "port = 2\nalias = \"b\"", "the port alias of"),
    ] {
        let error = second(fences, rest).unwrap_err().to_string();
        assert!(error.contains(words), "{fences} {rest}: {error}");
    }
}

/// The sound file with a load balancer's server of a host beside its power.
fn with_haproxy(settings: &str) -> Result<Cluster, super::ConfigError> {
    let device = format!(
        "[[device]]\nname = \"web-b\"\nkind = \"haproxy\"\nfences = \"b\"\nlevel = 2\n{settings}\n\n[[storage]]"
    );
    Cluster::parse(&SOUND.replacen("[[storage]]", &device, 1), "cluster.toml")
}

#[test]
fn a_server_of_haproxy_is_known_by_its_address_and_cuts_the_network() {
    let named = "backend = \"web\"\nserver = \"b\"\nserver_address = \"10.77.1.2\"\n";
    for (socket, tcp) in [("/run/haproxy/admin.sock", false), ("10.77.1.60:9999", true)] {
        let cluster = with_haproxy(&format!("{named}socket = \"{socket}\"")).unwrap();
        let device = cluster.devices().iter().find(|device| device.name() == "web-b").unwrap();
        let DeviceKind::HaProxy(balancer) = device.kind() else { panic!("a load balancer") };
        assert_eq!(balancer.socket().to_string(), socket);
        assert_eq!((balancer.backend(), balancer.server()), ("web", "b"));
        assert_eq!(balancer.server_address().to_string(), "10.77.1.2");
        assert_eq!((device.effect(), device.deadline()), (Effect::Network, Duration::secs(4)));
        let warned = |words: &str| cluster.warnings().iter().any(|warning| warning.contains(words));
        assert_eq!((warned("HAProxy over TCP"), warned("the HAProxy of whichever host fences")), (tcp, !tcp));
        assert!(!device.kind().opened_by_its_host() && device.kind().reads_soon());
        let other = with_haproxy(&format!("{}socket = \"{socket}\"", named.replace("web", "api")));
        assert_ne!(other.unwrap().digest(), cluster.digest());
    }
    let without = |setting: &str| {
        named.lines().filter(|line| !line.starts_with(setting)).collect::<Vec<_>>().join("\n")
    };
    for (settings, words) in [
        (named.to_owned(), "has no `socket`"),
        (format!("{}\nsocket = \"/s\"", without("backend")), "has no `backend`"),
        (format!("{}\nsocket = \"/s\"", without("server ")), "has no `server`"),
        (format!("{}\nsocket = \"/s\"", without("server_address")), "has no `server_address`"),
        (format!("{named}socket = \"admin.sock\""), "runtime API"),
        (format!("{}socket = \"/s\"", named.replace("web", "web;quit")), "no name of HAProxy's"),
        (format!("{}socket = \"/s\"", named.replace("\"b\"", "\"\"")), "no name of HAProxy's"),
        (format!("{}socket = \"/s\"", named.replace(".2\"", ".2:80\"")), "no address of a server"),
        (format!("{}socket = \"/s\"", named.replace("10.77.1.2", "0.0.0.0")), "no address of a server"),
        (
            format!("{named}socket = \"/s\"\nproof = \"network_cut\""),
            "no setting of a device of kind \"haproxy\"",
        ),
    ] {
        let error = with_haproxy(&settings).unwrap_err().to_string();
        assert!(error.contains(words), "{settings}: {error}");
    }
    let second = |fences: &str, socket: &str, server: &str, address: &str| {
        with_haproxy(&format!(
            "{named}socket = \"/s\"\n\n[[device]]\nname = \"second\"\nkind = \"haproxy\"\nfences = \"{fences}\"\nlevel = 2\n\
             socket = \"{socket}\"\nbackend = \"web\"\nserver = \"{server}\"\nserver_address = \"{address}\""
        ))
    };
    assert!(second("b", "10.77.1.61:9999", "b", "10.77.1.2").is_ok(), "two load balancers");
    assert!(second("c", "/s", "c", "10.77.1.3").is_ok());
    // SAFE-4
    for (fences, server, address, words) in [
        ("b", "b", "10.77.1.2", "once more"),
        ("c", "b", "10.77.1.3", "once more"),
        ("c", "c", "10.77.1.2", "the server address of"),
    ] {
        let error = second(fences, "/s", server, address).unwrap_err().to_string();
        assert!(error.contains(words), "{fences} {server} {address}: {error}");
    }
}

/// The sound file with what isolates host b over ssh beside its BMC.
fn with_enforcing(kind: &str, settings: &str) -> Result<Cluster, super::ConfigError> {
    Cluster::parse(&enforcing(kind, settings), "cluster.toml")
}

/// The same, sound but for the login.
fn with_enforcing_at(login: &str, identity: &str) -> Result<Cluster, super::ConfigError> {
    let text = enforcing("nft", "addresses = [\"10.0.0.2\"]").replacen("palisade@10.77.1.9", login, 1);
    Cluster::parse(&text.replacen("/etc/palisade/id", identity, 1), "cluster.toml")
}

fn enforcing(kind: &str, settings: &str) -> String {
    let ssh = "ssh = \"palisade@10.77.1.9\"\nidentity = \"/etc/palisade/id\"\nknown_hosts = \"/etc/palisade/known_hosts\"";
    let device = format!(
        "[[device]]\nname = \"cut-b\"\nkind = \"{kind}\"\nfences = \"b\"\nlevel = 2\nrace = true\n{ssh}\n{settings}\n\n[[storage]]"
    );
    SOUND.replacen("[[storage]]", &device, 1)
}

#[test]
fn a_host_that_enforces_a_cut_is_logged_in_to() {
    let cluster = with_enforcing("nft", "addresses = [\"fd00::2\", \"10.0.0.2\", \"10.0.0.2\"]").unwrap();
    let device = cluster.devices().last().unwrap();
    assert_eq!((device.effect(), device.races(), device.level()), (Effect::Network, true, 2));
    let DeviceKind::Nft(nft) = device.kind() else { panic!("nftables") };
    assert_eq!(nft.addresses().iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.2", "fd00::2"]);
    assert_eq!(nft.ssh().to_string(), "palisade@10.77.1.9:22");
    assert!(device.kind().address().is_none() && !device.kind().reads_soon());
    let cluster = with_enforcing("route", "addresses = [\"10.0.0.2\"]").unwrap();
    let device = cluster.devices().last().unwrap();
    assert!(matches!(device.kind(), DeviceKind::Route(_)) && device.effect() == Effect::Network);
    assert_ne!(cluster.digest(), with_enforcing("nft", "addresses = [\"10.0.0.2\"]").unwrap().digest());
    // Peers must agree on whom it cuts off, not on where a key lies.
    let changed = |from: &str, to: &str| {
        let text = "addresses = [\"10.0.0.2\"]".replacen(from, to, 1);
        with_enforcing("nft", &text).unwrap().digest()
    };
    assert_ne!(changed("10.0.0.2", "10.0.0.3"), changed("", ""));
    for (login, shown) in [
        ("root@10.77.1.9:2222", "root@10.77.1.9:2222"),
        ("p@fd00::9", "p@[fd00::9]:22"),
        ("p@[fd00::9]", "p@[fd00::9]:22"),
        ("p@[fd00::9]:2222", "p@[fd00::9]:2222"),
    ] {
        let cluster = with_enforcing_at(login, "/i").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(cluster.devices().last().unwrap().kind().ssh().unwrap().to_string(), shown);
    }
}

/// The sound file with host b kept out by the others' own firewalls.
fn with_wall(settings: &str) -> Result<Cluster, super::ConfigError> {
    let device = format!(
        "[[device]]\nname = \"wall-b\"\nkind = \"nft\"\nfences = \"b\"\nlevel = 2\nrace = true\n{settings}\n\n[[storage]]"
    );
    Cluster::parse(&SOUND.replacen("[[storage]]", &device, 1), "cluster.toml")
}

#[test]
fn a_host_is_kept_out_by_all_others() {
    let addresses = "addresses = [\"fd00::2\", \"10.0.0.2\"]";
    let cluster = with_wall(&format!("on = \"survivors\"\n{addresses}")).unwrap();
    let device = cluster.devices().last().unwrap();
    assert_eq!((device.effect(), device.races()), (Effect::Network, true));
    let DeviceKind::Wall(wall) = device.kind() else { panic!("everybody's nftables") };
    assert_eq!(wall.addresses().iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.2", "fd00::2"]);
    assert!(device.kind().is_wall() && device.kind().ssh().is_none() && device.kind().reads_soon());
    let other = with_wall("on = \"survivors\"\naddresses = [\"10.0.0.2\"]").unwrap();
    assert_ne!(cluster.digest(), other.digest(), "peers must agree on whom they keep out");
    let twice = "[[device]]\nname = \"wall-2\"\nkind = \"nft\"\nfences = \"b\"\nlevel = 2\non = \"survivors\"\naddresses = [\"10.0.0.4\"]";
    for (settings, words) in [
        (addresses.to_owned(), "has no `ssh`"),
        (format!("on = \"all\"\n{addresses}"), "place of an nftables device"),
        ("on = \"survivors\"".to_owned(), "has no `addresses`"),
        ("on = \"survivors\"\naddresses = [\"10.77.1.1\"]".to_owned(), "10.77.1.1 is a link of host `a`"),
        (format!("on = \"survivors\"\nssh = \"root@10.0.0.9\"\n{addresses}"), "nobody is logged in to"),
        (format!("on = \"survivors\"\n{addresses}\n{twice}"), "device `wall-2` is `wall-b` once more"),
    ] {
        let error = with_wall(&settings).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("way out"), "{settings}: {error}");
    }
}

/// SAFE-4: a wrong address cuts off somebody else, or nobody.
#[test]
fn a_cut_over_ssh_that_is_set_wrongly_is_refused() {
    let again = |host: &str, address: &str| {
        format!(
            "addresses = [\"10.0.0.2\"]\n[[device]]\nname = \"cut-2\"\nkind = \"nft\"\nfences = \"{host}\"\nlevel = 2\n\
             ssh = \"palisade@10.77.1.9\"\nidentity = \"/etc/palisade/id\"\nknown_hosts = \"/etc/palisade/known_hosts\"\n\
             addresses = [\"{address}\"]"
        )
    };
    assert!(with_enforcing("nft", &again("a", "10.0.0.1")).is_ok());
    for (settings, words) in [
        (String::new(), "has no `addresses`"),
        ("addresses = []".to_owned(), "0 addresses to cut off"),
        ("addresses = [\"b\"]".to_owned(), "`b` is no address of a host"),
        ("addresses = [\"127.0.0.1\"]".to_owned(), "is no address of a host"),
        ("addresses = [\"::ffff:10.0.0.2\"]".to_owned(), "is no address of a host"),
        ("addresses = [\"10.0.0.0/24\"]".to_owned(), "is no address of a host"),
        ("addresses = [\"10.77.1.1\"]".to_owned(), "10.77.1.1 is a link of host `a`"),
        ("addresses = [\"10.77.1.9\"]".to_owned(), "is the host that enforces the cut"),
        (again("a", "10.0.0.2"), "device `cut-2` cuts off 10.0.0.2, as does `cut-b`, which fences host `b`"),
        (again("b", "10.0.0.2"), "device `cut-2` is `cut-b` once more"),
        (again("b", "10.0.0.2").replace("palisade@", "root@"), "device `cut-2` is `cut-b` once more"),
        (
            "addresses = [\"10.0.0.2\"]\nproof = \"power_off\"".to_owned(),
            "`proof` is no setting of a device of kind \"nft\"",
        ),
        ("addresses = [\"10.0.0.2\"]\npassword = { file = \"/p\" }".to_owned(), "`password` is no setting"),
        ("addresses = [\"10.0.0.2\"]\nstorage = [\"images\"]".to_owned(), "takes no storage away"),
    ] {
        let error = with_enforcing("nft", &settings).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("way out"), "{settings}: {error}");
    }
    let error = with_enforcing("route", "addresses = [\"10.0.0.2\", \"fd00::2\"]").unwrap_err().to_string();
    assert!(error.contains("routes do not stop what comes from fd00::2"), "{error}");
    let error = with_enforcing("route", &again("a", "10.0.0.2")).unwrap_err().to_string();
    assert!(error.contains("cuts off 10.0.0.2, as does `cut-b`"), "{error}");
    assert!(with_enforcing_at("palisade@10.77.1.9", "/etc/palisade/id").is_ok());
    for login in [
        "10.77.1.9",
        "@10.77.1.9",
        "-p@10.77.1.9",
        "p@store.example",
        "p@10.77.1.9:0",
        "p@0.0.0.0",
        "p@[fe80::9%2]:22",
        "p@",
    ] {
        let error = with_enforcing_at(login, "/etc/palisade/id").unwrap_err().to_string();
        assert!(error.contains(&format!("`{login}` is no login")), "{error}");
    }
    for path in ["id", "/etc/pali sade/id", "/etc/%h"] {
        let error = with_enforcing_at("palisade@10.77.1.9", path).unwrap_err().to_string();
        assert!(error.contains(path), "{error}");
    }
}

#[test]
fn a_lun_is_taken_from_one_initiator_at_one_target() {
    let names =
        "iqn = \"iqn.2026-01.example:store\"\ninitiator = \"iqn.2026-01.example:b\"\nstorage = [\"images\"]";
    let of = |target: &str| with_enforcing("lun", &format!("target = \"{target}\"\n{names}"));
    let cluster = of("tgt").unwrap_or_else(|error| panic!("{error}"));
    let device = cluster.devices().last().unwrap();
    assert_eq!((device.effect(), device.storage()), (Effect::Storage, &["images".to_owned()][..]));
    let DeviceKind::Lun(lun) = device.kind() else { panic!("a LUN") };
    assert_eq!((lun.iqn(), lun.initiator()), ("iqn.2026-01.example:store", "iqn.2026-01.example:b"));
    assert_eq!((lun.target(), device.kind().reads_soon()), (LunTarget::Tgt, false));
    assert_ne!(cluster.digest(), of("lio").unwrap().digest());
    let again = |host: &str, iqn: &str| {
        format!(
            "target = \"tgt\"\n{names}\n[[device]]\nname = \"cut-2\"\nkind = \"lun\"\nfences = \"{host}\"\nlevel = 2\n\
             ssh = \"palisade@10.77.1.9\"\nidentity = \"/etc/palisade/id\"\nknown_hosts = \"/etc/palisade/known_hosts\"\n\
             target = \"tgt\"\n{}",
            names.replace(":store", iqn)
        )
    };
    assert!(with_enforcing("lun", &again("b", ":store2")).is_ok());
    for (settings, words) in [
        (names.to_owned(), "has no `target`"),
        (format!("target = \"scst\"\n{names}"), "unknown kind of iSCSI target `scst`"),
        (
            format!("target = \"tgt\"\n{}", names.replace("iqn.2026-01.example:b", "b")),
            "`b` is no name in iSCSI",
        ),
        (format!("target = \"tgt\"\n{}", names.replace(":b", ":B")), "is no name in iSCSI"),
        (format!("target = \"tgt\"\n{}", names.replace(":b", ":b;reboot")), "is no name in iSCSI"),
        (format!("target = \"tgt\"\n{}", names.replace(":b", ":store")), "has the name of its target"),
        (
            format!("target = \"tgt\"\n{}", names.replace("storage = [\"images\"]", "")),
            "which `storage` it takes away",
        ),
        (format!("target = \"tgt\"\n{names}\naddresses = [\"10.0.0.2\"]"), "`addresses` is no setting"),
        // SAFE-4
        (again("a", ":store2"), "device `cut-2` has the initiator of `cut-b`, which fences host `b`"),
        (again("b", ":store"), "device `cut-2` is `cut-b` once more"),
        (again("b", ":store").replace("palisade@", "root@"), "device `cut-2` is `cut-b` once more"),
    ] {
        let error = with_enforcing("lun", &settings).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("way out"), "{settings}: {error}");
    }
}
