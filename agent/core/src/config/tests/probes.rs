//! Probes: what a file gives, and every mistake with its message.

use super::*;

fn parse(more: &str) -> Result<Cluster, String> {
    Cluster::parse(&format!("{SOUND}{more}"), "cluster.toml").map_err(|error| error.to_string())
}

fn probe(more: &str) -> String {
    format!("[[probe]]\nname = \"x\"\n{more}\n")
}

#[test]
fn every_host_looks_at_its_storages_its_capacity_and_its_clock() {
    let cluster = parse("").unwrap();
    let told: Vec<_> = cluster
        .probes()
        .iter()
        .map(|probe| (probe.name(), probe.level(), probe.on_failure(), probe.every(), probe.timeout()))
        .collect();
    let (drain, report) = (Policy::Drain, Policy::Report);
    let (ten, thirty) = (Duration::secs(10), Duration::secs(30));
    let storages =
        cluster.storages().iter().map(|storage| format!("storage-{}", storage.name())).collect::<Vec<_>>();
    let mut expected: Vec<_> =
        storages.iter().map(|name| (name.as_str(), Level::L2, drain, thirty, ten)).collect();
    expected.push(("capacity", Level::L3, report, Duration::secs(60), ten));
    expected.push(("clock", Level::L4, report, Duration::secs(300), ten));
    assert_eq!(told, expected);
    assert!(cluster.probes().iter().all(|probe| cluster.hosts().iter().all(|host| probe.is_on(host.id()))));
    assert_eq!(cluster.probes()[0].verdict_within(), Duration::secs(100));
}

#[test]
fn a_probe_says_what_differs_from_its_level() {
    let health = "[health]\nafter = 5\nback = 2\nl2 = \"1s\"\non_l2 = \"report\"\n";
    let cluster = parse(&format!("{health}{}", probe("kind = \"tcp\"\naddress = \"10.0.0.1:80\""))).unwrap();
    let x = &cluster.probes()[0];
    assert_eq!((x.after(), x.back(), x.every(), x.timeout()), (5, 2, Duration::secs(1), Duration::secs(1)));
    assert_eq!((x.on_failure(), x.level(), x.slow()), (Policy::Report, Level::L2, None));
    let own = "kind = \"tcp\"\naddress = \"10.0.0.1:80\"\nlevel = \"l1\"\non = [\"b\"]\nevery = \"2s\"\ntimeout = \"500ms\"\n\
               slow = \"100ms\"\nafter = 1\nback = 7\non_failure = \"fence\"";
    let cluster = parse(&format!("{health}{}", probe(own))).unwrap();
    let x = &cluster.probes()[0];
    assert_eq!((x.after(), x.back(), x.every(), x.timeout()), (1, 7, Duration::secs(2), Duration::ms(500)));
    assert_eq!((x.on_failure(), x.level(), x.slow()), (Policy::Fence, Level::L1, Some(Duration::ms(100))));
    let on: Vec<bool> = cluster.hosts().iter().map(|host| x.is_on(host.id())).collect();
    assert_eq!(on, [false, true, false]);
}

/// Hosts that look at other things, or draw other conclusions, say so: they do not vouch for one another. What leads to nothing, and
/// what every host has anyway, is nobody's business.
#[test]
fn what_leads_to_something_is_in_the_digest() {
    let digest = |more: &str| parse(more).unwrap().digest();
    let gate = |more: &str| probe(&format!("kind = \"gateway\"\naddress = \"10.0.0.1\"\n{more}"));
    let plain = digest("");
    assert_eq!(digest(&gate("on_failure = \"report\"")), plain);
    let acting = [
        digest(&gate("")),
        digest(&gate("on_failure = \"fence\"")),
        digest(&gate("every = \"9s\"\ntimeout = \"5s\"")),
        digest(&gate("on = [\"a\"]")),
        digest(&gate("").replace("10.0.0.1", "10.0.0.2")),
        digest("[health]\nafter = 4\n"),
        plain,
    ];
    for (at, one) in acting.iter().enumerate() {
        assert!(!acting[at + 1..].contains(one), "{at}");
    }
}

#[test]
fn each_kind_is_read() {
    for (written, kind) in [
        ("kind = \"process\"\nprocess = \"libvirtd\"", ProbeKind::Process { name: "libvirtd".into() }),
        ("kind = \"unit\"\nunit = \"nfs.service\"", ProbeKind::Unit { unit: "nfs.service".into() }),
        (
            "kind = \"tcp\"\naddress = \"[fd00::1]:80\"",
            ProbeKind::Tcp { address: "[fd00::1]:80".parse().unwrap() },
        ),
        (
            "kind = \"http\"\nurl = \"http://127.0.0.1:8080/healthz?deep=1\"",
            ProbeKind::Http(HttpProbe {
                address: "127.0.0.1:8080".parse().unwrap(),
                path: "/healthz?deep=1".into(),
            }),
        ),
        (
            "kind = \"http\"\nurl = \"http://[fd00::1]\"",
            ProbeKind::Http(HttpProbe { address: "[fd00::1]:80".parse().unwrap(), path: "/".into() }),
        ),
        (
            "kind = \"command\"\ncommand = [\"/bin/true\", \"x\"]",
            ProbeKind::Command { command: vec!["/bin/true".into(), "x".into()] },
        ),
        ("kind = \"storage\"\npath = \"/srv\"", ProbeKind::Storage { storage: None, path: "/srv".into() }),
        (
            "kind = \"gateway\"\naddress = \"fd00::1\"",
            ProbeKind::Gateway { address: "fd00::1".parse().unwrap() },
        ),
        ("kind = \"libvirt\"\nuri = \"qemu:///system\"", ProbeKind::Libvirt { uri: "qemu:///system".into() }),
        ("kind = \"clock\"\nwithin = \"50ms\"", ProbeKind::Clock { within: Duration::ms(50) }),
    ] {
        assert_eq!(
            parse(&probe(written)).unwrap_or_else(|error| panic!("{error}")).probes()[0].kind(),
            &kind
        );
    }
    let own = parse(&probe(
        "kind = \"capacity\"\nmemory = 80\ndisk = 70\ndisk_full = 95\npressure = 20\ndisks = [\"/srv\"]",
    ))
    .unwrap();
    let ProbeKind::Capacity(limits) = own.probes()[0].kind() else { panic!("{:?}", own.probes()[0]) };
    assert_eq!((limits.memory(), limits.disk(), limits.disk_full(), limits.pressure()), (800, 700, 950, 200));
    assert!(limits.disks().eq([std::path::Path::new("/srv")]));
    // In place of the one that every host has.
    assert!(!own.probes().iter().any(|probe| probe.name() == "capacity"));
}

#[test]
fn each_mistake_is_named() {
    let tcp = "kind = \"tcp\"\naddress = \"10.0.0.1:80\"";
    for (text, message) in [
        (probe("kind = \"ping\""), "unknown kind of probe `ping`"),
        (probe("kind = \"tcp\""), "probe `x` of kind `tcp` needs `address`"),
        (probe("kind = \"tcp\"\naddress = \"gw:80\""), "`gw:80` is no address"),
        (
            probe("kind = \"tcp\"\naddress = \"10.0.0.1:80\"\nunit = \"x.service\""),
            "`unit` means nothing for a probe of kind `tcp`",
        ),
        (probe("kind = \"process\"\nprocess = \"a-name-that-is-too-long\""), "is no name of a process"),
        (probe("kind = \"http\"\nurl = \"https://10.0.0.1/\""), "is no URL of a probe"),
        (probe("kind = \"http\"\nurl = \"http://u:p@10.0.0.1/\""), "is no URL of a probe"),
        (probe("kind = \"http\"\nurl = \"http://10.0.0.1/a b\""), "is no URL of a probe"),
        (probe("kind = \"command\""), "probe `x` of kind `command` needs `command`"),
        (probe("kind = \"command\"\ncommand = [\"true\"]"), "`true` is no absolute path"),
        (probe("kind = \"storage\""), "probe `x` needs exactly one of `storage` and `path`"),
        (probe("kind = \"storage\"\nstorage = \"none\""), "there is no storage `none`"),
        (probe("kind = \"storage\"\nstorage = \"images\"\non = [\"a\"]"), "leaves hosts out"),
        (probe("kind = \"gateway\"\naddress = \"gw\""), "`gw` is no address"),
        (probe("kind = \"libvirt\"\nuri = \"qemu+ssh://root@b/system\""), "is no URI of this host's libvirt"),
        (probe(&format!("{tcp}\nlevel = \"l5\"")), "unknown level `l5`"),
        (probe(&format!("{tcp}\non_failure = \"shoot\"")), "unknown policy `shoot`"),
        (probe(&format!("{tcp}\non = [\"z\"]")), "there is no host `z`"),
        (probe(&format!("{tcp}\nevery = \"50ms\"")), "a probe every 50 ms does more harm than good"),
        (
            probe(&format!("{tcp}\nevery = \"1s\"\ntimeout = \"2s\"")),
            "probe `x` is given longer (2 s) than passes until its next look (1 s)",
        ),
        (probe(&format!("{tcp}\ntimeout = \"1s\"\nslow = \"1s\"")), "probe `x` has failed before it is slow"),
        (probe(&format!("{tcp}\nafter = 0")), "after 0 is out of range"),
        (probe(&format!("{tcp}\n{}", probe(tcp))), "probe `x` is already in line"),
        ("[health]\nl1 = \"10ms\"\n".to_owned(), "a probe every 10 ms does more harm than good"),
        ("[health]\non_l4 = \"reboot\"\n".to_owned(), "unknown policy `reboot`"),
        (format!("[[probe]]\nname = \"clock\"\n{tcp}\n"), "two probes are `clock`, or share its short name"),
    ] {
        let said = parse(&text).expect_err(&text);
        assert!(said.contains(message), "{text}\n{said}");
    }
}

/// Packets name them by it: it is never to change.
#[test]
fn a_short_name_is_what_it_always_was() {
    assert_eq!(ProbeId::of("gateway"), ProbeId(0x4ea5_ee68));
}
