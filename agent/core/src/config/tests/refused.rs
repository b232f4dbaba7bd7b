//! Every mistake with its exact message.

use std::fmt::Write as _;

use super::{super::Cluster, SOUND};

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
fn what_is_not_toml_or_not_known_is_named() {
    assert_refused(
        "budget = 2",
        "bugdet = 2",
        r#"
cluster.toml:21:1: unknown field `bugdet`, expected one of `budget`, `budget_window`, `after_off`, `mode`, `quarantine_after`, `quarantine_window`
21 | bugdet
   | ^^^^^^
  way out: correct its spelling or remove it
"#,
    );
    assert_refused(
        "budget = 2",
        "budget = \"2\"",
        r#"
cluster.toml:21:10: invalid type: string "2", expected a whole number
21 | budget = "2"
   |          ^^^
  way out: write a value of the expected type
"#,
    );
    assert_refused(
        "grace = \"3s\"",
        "grace = 3",
        r#"
cluster.toml:9:9: invalid type: integer `3`, expected a string
9 | grace = 3
  |         ^
  way out: put it in quotes; a length of time needs its unit, such as "200ms"
"#,
    );
    assert_refused(
        "grace = \"3s\"",
        "grace = ",
        r#"
cluster.toml:9:9: string values must be quoted, expected literal string
9 | grace = 
  |         ^
  way out: correct the TOML at this place
"#,
    );
    assert_refused(
        "grace = \"3s\"",
        "grace = \"3s\"\ngrace = \"4s\"",
        r#"
cluster.toml:10:1: duplicate key
10 | grace = "4s"
   | ^^^^^
  way out: keep one of the two
"#,
    );
    assert_refused(
        "user = \"admin\"\n",
        "",
        r#"
cluster.toml:42:8: device `bmc-a` has no `user`
42 | name = "bmc-a"
   |        ^^^^^^^
  way out: a device of kind "ipmi" needs one
"#,
    );
    assert_refused(
        "[cluster]\n",
        "[claster]\n",
        r#"
cluster.toml:2:2: unknown field `claster`, expected one of `cluster`, `timing`, `watchdog`, `witness`, `telemetry`, `metrics`, `fencing`, `host`, `device`, `storage`, `workload`, `health`, `probe`, `operator`, `orders`
2 | [claster
  |  ^^^^^^^
  way out: correct its spelling or remove it
"#,
    );
}

#[test]
fn a_host_is_itself_alone() {
    assert_refused(
        "id = 2\n",
        "id = 1\n",
        r#"
cluster.toml:36:6: host id 1 is already in line 30
36 | id = 1
   |      ^
  way out: give each host an id of its own; an id is permanent, so change that of the newer host
"#,
    );
    assert_refused(
        "id = 2\n",
        "id = 32\n",
        r#"
cluster.toml:36:6: host id 32 is out of range
36 | id = 32
   |      ^^
  way out: write a number from 0 to 31
"#,
    );
    assert_refused(
        "name = \"c\"",
        "name = \"a\"",
        r#"
cluster.toml:37:8: host name `a` is already in line 25
37 | name = "a"
   |        ^^^
  way out: give each host a name of its own
"#,
    );
    assert_refused(
        "name = \"c\"",
        "name = \"a/b\"",
        r#"
cluster.toml:37:8: `a/b` cannot be the name of a host
37 | name = "a/b"
   |        ^^^^^
  way out: use 1 to 64 letters, digits, dots, underscores and hyphens
"#,
    );
    assert_refused(
        "4C4C4544-0051-3510-8052-B4C04F4D3132",
        "4c4c4544-0051-3510-8052-b4c04f4d3130",
        r#"
cluster.toml:38:11: machine 4c4c4544-0051-3510-8052-b4c04f4d3130 is already in line 26
38 | machine = "4c4c4544-0051-3510-8052-b4c04f4d3130"
   |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  way out: write what /sys/class/dmi/id/product_uuid says on each host; two boards that say the same cannot be told apart
"#,
    );
    assert_refused(
        "4C4C4544-0051-3510-8052-B4C04F4D3132",
        "00000000-0000-0000-0000-000000000000",
        r#"
cluster.toml:38:11: `00000000-0000-0000-0000-000000000000` is no machine's UUID
38 | machine = "00000000-0000-0000-0000-000000000000"
   |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  way out: write what /sys/class/dmi/id/product_uuid says on the host, such as "4c4c4544-0051-3510-8052-b4c04f4d3132"; one that many boards ship with (all zeros, all ones, 03000200-...) names no machine
"#,
    );
    assert_refused(
        "\"10.77.1.2:7411\"",
        "\"10.77.1.1:7411\"",
        r#"
cluster.toml:33:10: link 10.77.1.1:7411 is already in line 27
33 | links = ["10.77.1.1:7411"]
   |          ^^^^^^^^^^^^^^^^
  way out: give each link an address and port of its own
"#,
    );
    assert_refused(
        "\"10.77.1.2:7411\"",
        "\"host-b:7411\"",
        r#"
cluster.toml:33:10: `host-b:7411` is no link address
33 | links = ["host-b:7411"]
   |          ^^^^^^^^^^^^^
  way out: write a numeric address with its port, such as "10.0.0.1:7411" or "[fd00::1]:7411"; a name would need a resolver in the middle of an incident
"#,
    );
    assert_refused(
        "\"10.77.1.2:7411\"",
        "\"0.0.0.0:7411\"",
        r#"
cluster.toml:33:10: 0.0.0.0:7411 names no single link address
33 | links = ["0.0.0.0:7411"]
   |          ^^^^^^^^^^^^^^
  way out: write a numeric address with its port, such as "10.0.0.1:7411" or "[fd00::1]:7411"; a name would need a resolver in the middle of an incident
"#,
    );
    assert_refused(
        "[\"10.77.1.2:7411\"]",
        "[]",
        r#"
cluster.toml:33:9: host `b` has 0 links
33 | links = []
   |         ^^
  way out: name 1 to 4 UDP addresses of the host
"#,
    );
}

#[test]
fn a_device_is_bound_to_its_host() {
    assert_refused(
        "fences = \"b\"",
        "fences = \"q\"",
        r#"
cluster.toml:54:10: there is no host `q`
54 | fences = "q"
   |          ^^^
  way out: add a [[host]] of that name, or write one of: a, b, c
"#,
    );
    assert_refused(
        "name = \"bmc-b\"",
        "name = \"bmc-a\"",
        r#"
cluster.toml:52:8: device `bmc-a` is already in line 42
52 | name = "bmc-a"
   |        ^^^^^^^
  way out: give each device a name of its own
"#,
    );
    assert_refused(
        "kind = \"ipmi\"",
        "kind = \"redfisch\"",
        r#"
cluster.toml:43:8: unknown kind of device `redfisch`
43 | kind = "redfisch"
   |        ^^^^^^^^^^
  way out: write "ipmi" or "redfish" or "hypervisor" or "switch" or "haproxy" or "agent" or "scsi" or "nft" or "route" or "lun"
"#,
    );
    assert_refused(
        "kind = \"ipmi\"",
        "kind = \"redfish\"",
        r#"
cluster.toml:48:8: `guid` is no setting of a device of kind "redfish"
48 | guid = "a123456789abcdefa123456789abcde1"
   |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  way out: its own settings are: address, user, password, auth, ca, tls_name, insecure_http, system, uuid
"#,
    );
    // SAFE-4: an identity that names nobody, or two hosts, proves nothing.
    assert_refused(
        "A123456789ABCDEFA123456789ABCDE2",
        "00000000000000000000000000000000",
        r#"
cluster.toml:59:8: a GUID that many BMCs ship with does not identify this one
59 | guid = "00000000000000000000000000000000"
   |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  way out: set a GUID in the BMC's own settings; without one it cannot prove whose power it reads
"#,
    );
    assert_refused(
        "A123456789ABCDEFA123456789ABCDE2",
        "ffffffffffffffffffffffffffffffff",
        r#"
cluster.toml:59:8: a GUID that many BMCs ship with does not identify this one
59 | guid = "ffffffffffffffffffffffffffffffff"
   |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  way out: set a GUID in the BMC's own settings; without one it cannot prove whose power it reads
"#,
    );
    assert_refused(
        "A123456789ABCDEFA123456789ABCDE2",
        "a123456789abcdefa123456789abcde1",
        r#"
cluster.toml:59:8: device `bmc-b` has the GUID of `bmc-a`, which fences host `a`
59 | guid = "a123456789abcdefa123456789abcde1"
   |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  way out: read each BMC's GUID and write it; two BMCs that say the same GUID cannot be told apart: set one
"#,
    );
    assert_refused(
        "A123456789ABCDEFA123456789ABCDE2",
        "a1234567-89ab-cdef-a123-456789abcde1",
        r#"
cluster.toml:59:8: `a1234567-89ab-cdef-a123-456789abcde1` is no BMC's GUID
59 | guid = "a1234567-89ab-cdef-a123-456789abcde1"
   |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  way out: write 32 hexadecimal digits in wire order, without hyphens
"#,
    );
    assert_refused(
        "10.77.1.102:623",
        "10.77.1.101:623",
        r#"
cluster.toml:55:11: device `bmc-b` has the address of `bmc-a`, which fences host `a`
55 | address = "10.77.1.101:623"
   |           ^^^^^^^^^^^^^^^^^
  way out: write the address of this host's own BMC
"#,
    );
    assert_refused(
        "10.77.1.102:623",
        "10.77.1.102",
        r#"
cluster.toml:55:11: `10.77.1.102` is no BMC address
55 | address = "10.77.1.102"
   |           ^^^^^^^^^^^^^
  way out: write a numeric address with its port, such as "10.0.0.1:7411" or "[fd00::1]:7411"; a name would need a resolver in the middle of an incident
"#,
    );
    assert_refused(
        "cipher_suite = 3",
        "cipher_suite = 0",
        r#"
cluster.toml:58:16: cipher suite 0 is not supported
58 | cipher_suite = 0
   |                ^
  way out: write 17 (SHA-256) or, for a BMC without it, 3 (SHA-1)
"#,
    );
    assert_refused(
        "deadline = \"4s\"",
        "retries = 99",
        r#"
cluster.toml:49:11: device retries 99 is out of range
49 | retries = 99
   |           ^^
  way out: write a number from 1 to 10
"#,
    );
}

#[test]
fn a_secret_is_a_reference_and_is_not_repeated() {
    // SAFE-6: neither the value nor its line is shown.
    assert_refused(
        "{ file = \"/etc/palisade/bmc-a.pass\" }",
        "\"hunter2\"",
        r#"
cluster.toml:47:12: a secret never stands in the configuration itself
  way out: put it in a file of root's with mode 0600 and write { file = "/path" }; a secret that stood here should be changed
"#,
    );
    assert_refused(
        "{ file = \"/etc/palisade/bmc-a.pass\" }",
        "\"hunter2",
        r#"
cluster.toml:47:20: invalid basic string, expected `"`
  way out: correct the TOML at this place
"#,
    );
    assert_refused(
        "password = { credential = \"bmc-b\" }",
        "pasword = \"hunter2\"",
        r#"
cluster.toml:57:1: unknown field `pasword`, expected one of `name`, `kind`, `fences`, `level`, `deadline`, `retries`, `race`, `storage`, `address`, `user`, `password`, `kg`, `cipher_suite`, `privilege`, `guid`, `auth`, `ca`, `tls_name`, `insecure_http`, `system`, `uuid`, `qmp`, `libvirt`, `port`, `alias`, `community`, `auth_protocol`, `auth_password`, `priv_protocol`, `priv_password`, `socket`, `backend`, `server`, `server_address`, `ssh`, `identity`, `known_hosts`, `addresses`, `on`, `target`, `iqn`, `initiator`, `agent`, `proof`, `options`, `secrets`
57 | pasword
   | ^^^^^^^
  way out: correct its spelling or remove it
"#,
    );
    assert_refused(
        "[ { id = 1, file = \"/etc/palisade/cluster.key\" } ]",
        "[ \"00ff\" ]",
        r#"
cluster.toml:4:10: a secret never stands in the configuration itself
  way out: put it in a file of root's with mode 0600 and write { file = "/path" }; a secret that stood here should be changed
"#,
    );
    assert_refused(
        "{ credential = \"bmc-b\" }",
        "{ credential = \"bmc-b\", file = \"/x\" }",
        r#"
cluster.toml:57:12: a secret needs exactly one of `file` and `credential`
57 | password = { credential = "bmc-b", file = "/x" }
   |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  way out: write { file = "/path" } or { credential = "name" }
"#,
    );
    assert_refused(
        "{ credential = \"bmc-b\" }",
        "{ credential = \"../x\" }",
        r#"
cluster.toml:57:27: `../x` cannot be the name of a credential
57 | password = { credential = "../x" }
   |                           ^^^^^^
  way out: use 1 to 64 letters, digits, dots, underscores and hyphens
"#,
    );
    assert_refused(
        "\"/etc/palisade/cluster.key\"",
        "\"cluster.key\"",
        r#"
cluster.toml:4:27: `cluster.key` is no absolute path
4 | keys = [ { id = 1, file = "cluster.key" } ]
  |                           ^^^^^^^^^^^^^
  way out: write the whole path, from the first slash
"#,
    );
    assert_refused(
        "/etc/palisade/witness.key",
        "/etc/palisade/cluster.key",
        r#"
cluster.toml:18:8: the witness must not hold a cluster key
18 | keys = [ { id = 1, file = "/etc/palisade/cluster.key" } ]
   |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  way out: make a key for the witness with `palisade keygen witness` and name its file
"#,
    );
    assert_refused(
        "file = \"/etc/palisade/cluster.key\" }",
        "file = \"/etc/palisade/cluster.key\" }, { id = 1, file = \"/etc/palisade/new.key\" }",
        r#"
cluster.toml:4:65: key id 1 is already in line 4
4 | keys = [ { id = 1, file = "/etc/palisade/cluster.key" }, { id = 1, file = "/etc/palisade/new.key" } ]
  |                                                                 ^
  way out: a new key needs a new id, so that old packets are not taken for new ones
"#,
    );
}

#[test]
fn a_workload_refers_to_what_is_there() {
    assert_refused(
        "id = 7",
        "id = 1",
        r#"
cluster.toml:73:6: workload id 1 is already in line 66
73 | id = 1
   |      ^
  way out: give each workload an id of its own; an id is permanent, so change that of the newer workload
"#,
    );
    assert_refused(
        "id = 7",
        "id = 256",
        r#"
cluster.toml:66:6: workload id 256 is out of range
66 | id = 256
   |      ^^^
  way out: write a number from 0 to 255
"#,
    );
    assert_refused(
        "name = \"dns\"",
        "name = \"db\"",
        r#"
cluster.toml:74:8: workload `db` is already in line 67
74 | name = "db"
   |        ^^^^
  way out: give each workload a name of its own
"#,
    );
    assert_refused(
        "hosts = [\"b\", \"a\"]",
        "hosts = [\"b\", \"z\"]",
        r#"
cluster.toml:68:15: there is no host `z`
68 | hosts = ["b", "z"]
   |               ^^^
  way out: add a [[host]] of that name, or write one of: a, b, c
"#,
    );
    assert_refused(
        "hosts = [\"b\", \"a\"]",
        "hosts = [\"b\", \"b\"]",
        r#"
cluster.toml:68:15: host `b` is already in line 68
68 | hosts = ["b", "b"]
   |               ^^^
  way out: name each host once
"#,
    );
    assert_refused(
        "hosts = [\"b\", \"a\"]",
        "hosts = []",
        r#"
cluster.toml:68:9: workload `dns` may run nowhere
68 | hosts = []
   |         ^^
  way out: name its hosts, the preferred one first
"#,
    );
    assert_refused(
        "storage = [\"images\"]",
        "storage = [\"image\"]",
        r#"
cluster.toml:78:12: there is no storage `image`
78 | storage = ["image"]
   |            ^^^^^^^
  way out: add a [[storage]] of that name, or write one of: images
"#,
    );
    assert_refused(
        "start_after = [\"dns\"]",
        "start_after = [\"ldap\"]",
        r#"
cluster.toml:77:16: there is no workload `ldap`
77 | start_after = ["ldap"]
   |                ^^^^^^
  way out: add a [[workload]] of that name, or write one of: dns, db
"#,
    );
    assert_refused(
        "hosts = [\"b\", \"a\"]",
        "hosts = [\"b\", \"a\"]\nstart_after = [\"db\"]",
        r#"
cluster.toml:69:16: workload `dns` waits for itself through start_after
69 | start_after = ["db"]
   |                ^^^^
  way out: break the circle among: dns, db
"#,
    );
    assert_refused(
        "[workload.systemd]\nunit = \"dns.service\"",
        "",
        r#"
cluster.toml:67:8: workload `dns` needs exactly one of `command`, `systemd` and `libvirt`
67 | name = "dns"
   |        ^^^^^
  way out: say how it is started in one of these tables
"#,
    );
    assert_refused(
        "unit = \"dns.service\"",
        "unit = \"dns\"",
        r#"
cluster.toml:70:8: `dns` is no service unit
70 | unit = "dns"
   |        ^^^^^
  way out: write the unit's full name, such as "db.service"
"#,
    );
    assert_refused(
        "[\"/usr/local/bin/db\", \"stop\"]",
        "[\"db\", \"stop\"]",
        r#"
cluster.toml:82:9: `db` is no absolute path
82 | stop = ["db", "stop"]
   |         ^^^^
  way out: write the whole path, from the first slash
"#,
    );
    assert_refused(
        "[\"/usr/local/bin/db\", \"stop\"]",
        "[]",
        r#"
cluster.toml:82:8: an empty command
82 | stop = []
   |        ^^
  way out: write the program's absolute path and its arguments, such as ["/bin/true"]
"#,
    );
    assert_refused(
        "path = \"/srv/images\"",
        "path = \"srv\"",
        r#"
cluster.toml:63:8: `srv` is no absolute path
63 | path = "srv"
   |        ^^^^^
  way out: write the whole path, from the first slash
"#,
    );
}

#[test]
fn a_length_of_time_has_its_unit() {
    assert_refused(
        "grace = \"3s\"",
        "grace = \"3\"",
        r#"
cluster.toml:9:9: `3` is no length of time
9 | grace = "3"
  |         ^^^
  way out: write a whole number with its unit: ms, s, min or h, such as "200ms" or "10min"
"#,
    );
    assert_refused(
        "grace = \"3s\"",
        "grace = \"0s\"",
        r#"
cluster.toml:9:9: a length of time must be more than zero
9 | grace = "0s"
  |         ^^^^
  way out: write a whole number with its unit: ms, s, min or h, such as "200ms" or "10min"
"#,
    );
    assert_refused(
        "grace = \"3s\"",
        "grace = \"25h\"",
        r#"
cluster.toml:9:9: `25h` is too long
9 | grace = "25h"
  |         ^^^^^
  way out: write at most "24h"
"#,
    );
    assert_refused(
        "grace = \"3s\"",
        "drift = \"0.01\"",
        r#"
cluster.toml:9:9: `0.01` is no drift
9 | drift = "0.01"
  |         ^^^^^^
  way out: write a percentage from "0%" to "20%", such as "1%" or "0.5%"
"#,
    );
    assert_refused(
        "timeout = \"10s\"",
        "timeout = \"10500ms\"",
        r#"
cluster.toml:13:11: a watchdog cannot be set to 10500 ms
13 | timeout = "10500ms"
   |           ^^^^^^^^^
  way out: write whole seconds, such as "10s"
"#,
    );
}

/// SAFE-10: time-outs that contradict one another do not load, and the inequality is printed with both values.
#[test]
fn contradictory_timeouts_are_refused_with_the_inequality() {
    assert_refused(
        "grace = \"3s\"",
        "heartbeat = \"300ms\"",
        r#"
cluster.toml:7:9: timing.lease (1 s) must be at least 4*timing.heartbeat = 1200 ms
7 | lease = "1s"
  |         ^^^^
  way out: change one side of each; the agent does not arm with contradictory time-outs
"#,
    );
    assert_refused(
        "suspect = \"1020ms\"",
        "suspect = \"1s\"",
        r#"
cluster.toml:8:11: timing.suspect (1 s) must be at least timing.lease*(1+drift), rounded up = 1011 ms
8 | suspect = "1s"
  |           ^^^^
  way out: change one side of each; the agent does not arm with contradictory time-outs
"#,
    );
    assert_refused(
        "grace = \"3s\"",
        "rejoin_hold = \"1s\"",
        r#"
cluster.toml:9:15: timing.rejoin_hold (1 s) must be more than timing.suspect = 1020 ms
9 | rejoin_hold = "1s"
  |               ^^^^
  and: timing.rejoin_hold (1 s) must be at least the deadline of device `bmc-a` = 4 s (line 9)
  and: timing.rejoin_hold (1 s) must be at least the deadline of device `bmc-b` = 4 s (line 9)
  way out: change one side of each; the agent does not arm with contradictory time-outs
"#,
    );
    assert_refused(
        "grace = \"3s\"",
        "grace = \"8s\"",
        r#"
cluster.toml:9:9: timing.grace plus 5 s for the kill (13 s) must be less than watchdog.timeout = 10 s
9 | grace = "8s"
  |         ^^^^
  way out: change one side of each; the agent does not arm with contradictory time-outs
"#,
    );
    assert_refused(
        "timeout = \"10s\"",
        "timeout = \"4s\"",
        r#"
cluster.toml:13:11: watchdog.timeout (4 s) must be at least 5*timing.lease = 5 s
13 | timeout = "4s"
   |           ^^^^
  and: timing.grace plus 5 s for the kill (8 s) must be less than watchdog.timeout = 4 s (line 9)
  and: timing.restart_hold (5 s) must be less than watchdog.timeout = 4 s (line 13)
  way out: change one side of each; the agent does not arm with contradictory time-outs
"#,
    );
    assert_refused(
        "grace = \"3s\"",
        "restart_hold = \"10s\"",
        r#"
cluster.toml:9:16: timing.restart_hold (10 s) must be less than watchdog.timeout = 10 s
9 | restart_hold = "10s"
  |                ^^^^^
  way out: change one side of each; the agent does not arm with contradictory time-outs
"#,
    );
    assert_refused(
        "grace = \"3s\"",
        "broker_round_trip = \"500ms\"",
        r#"
cluster.toml:9:21: timing.broker_round_trip (500 ms) must be less than timing.lease/2 = 500 ms
9 | broker_round_trip = "500ms"
  |                     ^^^^^^^
  way out: change one side of each; the agent does not arm with contradictory time-outs
"#,
    );
    assert_refused(
        "deadline = \"4s\"",
        "deadline = \"7s\"",
        r#"
cluster.toml:49:12: device `bmc-a`: deadline*retries (21 s) must be less than timing.order_deadline = 20 s
49 | deadline = "7s"
   |            ^^^^
  way out: change one side of each; the agent does not arm with contradictory time-outs
"#,
    );
    assert_refused(
        "deadline = \"4s\"",
        "deadline = \"11s\"\nretries = 1",
        r#"
cluster.toml:49:12: timing.rejoin_hold (10 s) must be at least the deadline of device `bmc-a` = 11 s
49 | deadline = "11s"
   |            ^^^^^
  way out: change one side of each; the agent does not arm with contradictory time-outs
"#,
    );
    assert_refused(
        "grace = \"3s\"",
        "order_deadline = \"12s\"",
        r#"
cluster.toml:49:12: device `bmc-a`: deadline*retries (12 s) must be less than timing.order_deadline = 12 s
49 | deadline = "4s"
   |            ^^^^
  and: device `bmc-b`: deadline*retries (12 s) must be less than timing.order_deadline = 12 s (line 52)
  way out: change one side of each; the agent does not arm with contradictory time-outs
"#,
    );
}

#[test]
fn whole_files_that_cannot_be() {
    assert_refused(
        "name = \"edge-a\"",
        "name = \"Edge A\"",
        r#"
cluster.toml:3:8: `Edge A` cannot be the name of a cluster
3 | name = "Edge A"
  |        ^^^^^^^^
  way out: use 1 to 32 lower-case letters, digits and hyphens
"#,
    );
    assert_refused(
        "name = \"edge-a\"",
        "name = \"edge-a\"\nprofile = \"slow\"",
        r#"
cluster.toml:4:11: unknown profile `slow`
4 | profile = "slow"
  |           ^^^^^^
  way out: write "default" or "fast"
"#,
    );
    // SAFE-3: `keep` arms no watchdog.
    assert_refused(
        "name = \"edge-a\"",
        "name = \"edge-a\"\non_quorum_loss = \"keep\"",
        r#"
cluster.toml:12:1: on_quorum_loss = "keep" arms no watchdog, yet one is configured
12 | [watchdog]
   | ^^^^^^^^^^
  way out: remove [watchdog], or write on_quorum_loss = "stop"
"#,
    );
    assert_refused(
        "budget = 2",
        "budget = 0",
        r#"
cluster.toml:21:10: fencing.budget 0 is out of range
21 | budget = 0
   |          ^
  way out: write a number from 1 to 31
"#,
    );
    assert_refused(
        "mqtt://10.0.0.9:1883",
        "http://10.0.0.9",
        r#"
cluster.toml:17:10: `http://10.0.0.9` is no broker's address
17 | broker = "http://10.0.0.9"
   |          ^^^^^^^^^^^^^^^^^
  way out: write "mqtt://HOST" or "mqtt://HOST:PORT", or with TLS "mqtts://HOST"
"#,
    );
    assert_refused(
        "mqtt://10.0.0.9:1883",
        "mqtts://10.0.0.9:8883",
        r#"
cluster.toml:17:10: TLS without a CA: any broker would be believed
17 | broker = "mqtts://10.0.0.9:8883"
   |          ^^^^^^^^^^^^^^^^^^^^^^^
  way out: add ca = "/path": the certificate of who signed the broker's, in PEM form
"#,
    );
    assert_refused(
        "broker = \"mqtt://10.0.0.9:1883\"",
        "broker = \"mqtt://10.0.0.9\"\nusername = \"agent\"",
        r#"
cluster.toml:18:12: a username without a password
18 | username = "agent"
   |            ^^^^^^^
  way out: add password = { file = "..." }
"#,
    );
    let one = "[cluster]\nname=\"x\"\nkeys=[{id=1,file=\"/k\"}]\n";
    assert_eq!(
        Cluster::parse(one, "f").unwrap_err().to_string(),
        "f: a cluster needs at least 2 hosts, this one has 0\n  way out: add a [[host]] for each host"
    );
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
    assert_eq!(
        Cluster::parse(&many, "f").unwrap_err().to_string(),
        "f:164:1: more than 32 hosts\n164 | [[host]]\n    | ^^^^^^^^\n  way out: split the hosts into several clusters"
    );
    let mut many = SOUND.to_owned();
    for id in 0..255 {
        write!(
            many,
            "[[workload]]\nid={id}\nname=\"w{id}\"\nhosts=[\"a\"]\nlibvirt={{domain=\"d\",xml=\"/x\"}}\n"
        )
        .unwrap();
    }
    assert_eq!(Cluster::parse(&many, "f").unwrap_err().what(), "more than 256 workloads");
    assert_eq!(
        Cluster::parse(&" ".repeat(1 << 21), "f").unwrap_err().to_string(),
        "f: the file has 2097152 bytes, more than 1048576\n  way out: is this the right file?"
    );
}

#[test]
fn operators_have_names_and_keys_of_their_own() {
    let anna = "[[operator]]\nname = \"anna\"\nkey = \"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEbhDzOQfy0ZC42T0lRFxLcYUPqhEwjSQxMf9JperkpT\"\n\n";
    let with = |text: &str| refused("[[storage]]", &format!("{text}[[storage]]"));
    assert_eq!(with(anna), "accepted");
    assert!(with(&anna.repeat(2)).contains("operator `anna`"), "{}", with(&anna.repeat(2)));
    let twice = with(&format!("{anna}{}", anna.replace("\"anna", "\"bert")));
    assert!(twice.contains("this operator's key") && twice.contains("one key is one person's"), "{twice}");
    let none = with(&anna.replace("ssh-ed25519 ", "ssh-rsa "));
    assert!(
        none.contains("this is no Ed25519 public key of OpenSSH") && none.contains("ssh-keygen"),
        "{none}"
    );
}
