//! `palisade check fences` against real BMCs: what it says of each path, and that it switches nothing.

#![allow(clippy::unwrap_used, reason = "clippy knows a test only inside #[test]")]

#[path = "../../../fencing/devices/tests/common/mod.rs"]
mod bmc;

use std::fmt::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bmc::{Bmc, GUID, PASSWORD, USER};

/// One device of the configuration: the BMC's address, the password and the GUID to write.
struct Fence<'a>(SocketAddr, &'a str, &'a str);

fn configuration(dir: &Path, devices: &[Fence<'_>]) -> PathBuf {
    let secret = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, format!("{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let key = secret("key", &"5a".repeat(32));
    let mut text = format!("[cluster]\nname = \"x\"\nkeys = [ {{ id = 1, file = \"{key}\" }} ]\n");
    for (id, Fence(address, password, guid)) in devices.iter().enumerate() {
        let password = secret(&format!("password-{id}"), password);
        write!(
            text,
            "[[host]]\nid = {id}\nname = \"h{id}\"\nmachine = \"4c4c4544-0051-3510-8052-b4c04f4d313{id}\"\n\
             links = [\"10.77.1.{id}:7411\"]\n\
             [[device]]\nname = \"bmc-{id}\"\nkind = \"ipmi\"\nfences = \"h{id}\"\naddress = \"{address}\"\n\
             user = \"{USER}\"\npassword = {{ file = \"{password}\" }}\ncipher_suite = 3\nguid = \"{guid}\"\n\
             deadline = \"3s\"\n"
        )
        .unwrap();
    }
    let path = dir.join("cluster.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn check(config: &Path) -> (Output, String) {
    let palisade = Path::new(env!("CARGO_BIN_EXE_palisade"));
    let output = Command::new(palisade).args(["check", "fences", "--config"]).arg(config).output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output, said)
}

#[track_caller]
fn assert_line(said: &str, parts: &[&str]) {
    assert!(
        said.lines().any(|line| parts.iter().all(|part| line.contains(part))),
        "no line with {parts:?} in:\n{said}"
    );
}

fn second() -> Bmc {
    Bmc::start(bmc::Kind::Sim, &bmc::Setup { guid: OTHER, ..bmc::Setup::default() })
}

const OTHER: &str = "b123456789abcdefa123456789abcde2";
const NOBODYS: &str = "c123456789abcdefa123456789abcde3";

#[test]
fn paths_in_order_are_proven_without_harm() {
    let (a, b) = (Bmc::sim(), second());
    let dir = tempfile::tempdir().unwrap();
    let config =
        configuration(dir.path(), &[Fence(a.address, PASSWORD, GUID), Fence(b.address, PASSWORD, OTHER)]);
    let (output, said) = check(&config);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_line(&said, &["bmc-0", "h0", "on", "proven: login, privilege, identity", GUID]);
    assert_line(&said, &["bmc-1", "h1", "on", "proven: login, privilege, identity", OTHER]);
    for bmc in [&a, &b] {
        assert!(bmc.power_is_on() && bmc.calls("set power 0") + bmc.calls("set power 1") == 0);
    }
}

/// SAFE-4: a path whose BMC is another's is not proven; neither is any that cannot be logged in to. SAFE-6: no password is shown.
#[test]
fn each_broken_path_is_named_with_its_reason() {
    let (a, b) = (Bmc::sim(), second());
    // Bound and never answered: silent as a BMC that hangs.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let devices = [
        Fence(a.address, "hunter2", GUID),
        Fence(b.address, PASSWORD, NOBODYS),
        Fence(silent.local_addr().unwrap(), PASSWORD, OTHER),
    ];
    let dir = tempfile::tempdir().unwrap();
    let (output, said) = check(&configuration(dir.path(), &devices));
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_line(&said, &["bmc-0", "NOT proven: login refused", "check user and password"]);
    assert_line(&said, &["bmc-1", "NOT proven: this is another host's device", OTHER, NOBODYS]);
    assert_line(&said, &["bmc-2", "NOT proven: no answer within"]);
    assert_line(&said, &["3 of 3 fence paths are not proven"]);
    assert!(!said.contains("hunter2"), "{said}");
    assert!(a.calls("set power 0") + b.calls("set power 0") == 0);
}
