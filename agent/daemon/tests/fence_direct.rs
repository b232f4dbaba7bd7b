//! `palisade fence --direct` against real BMCs: success is a reading, the journal comes first, and nothing is sent without the
//! operator's word that there may be no quorum.

#![allow(clippy::unwrap_used, reason = "clippy knows a test only inside #[test]")]

#[path = "../../../fencing/devices/tests/common/mod.rs"]
mod bmc;

use std::fmt::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bmc::{Bmc, GUID, PASSWORD, USER};

/// A cluster of two, of which neither is this machine; `h1` has these devices, each on the level of its place.
fn configuration(dir: &Path, devices: &[(SocketAddr, &str)], more: &str) -> PathBuf {
    let secret = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, format!("{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let (key, password) = (secret("key", &"5a".repeat(32)), secret("password", PASSWORD));
    let mut text = format!("{more}[cluster]\nname = \"x\"\nkeys = [ {{ id = 1, file = \"{key}\" }} ]\n");
    for id in 0..2 {
        write!(
            text,
            "[[host]]\nid = {id}\nname = \"h{id}\"\nmachine = \"4c4c4544-0051-3510-8052-b4c04f4d313{id}\"\n\
             links = [\"10.77.1.{id}:7411\"]\n"
        )
        .unwrap();
    }
    for (level, (address, guid)) in devices.iter().enumerate() {
        write!(
            text,
            "[[device]]\nname = \"bmc-{level}\"\nkind = \"ipmi\"\nfences = \"h1\"\nlevel = {}\naddress = \"{address}\"\n\
             user = \"{USER}\"\npassword = {{ file = \"{password}\" }}\ncipher_suite = 3\nguid = \"{guid}\"\ndeadline = \"2s\"\n",
            level + 1
        )
        .unwrap();
    }
    text += "[[workload]]\nid = 1\nname = \"db\"\nhosts = [\"h1\", \"h0\"]\n[workload.systemd]\nunit = \"db.service\"\n";
    let path = dir.join("cluster.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn palisade(arguments: &[&str], config: &Path) -> (Output, String) {
    let palisade = Path::new(env!("CARGO_BIN_EXE_palisade"));
    let output = Command::new(palisade).args(arguments).arg("--config").arg(config).output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output, said)
}

fn fence(config: &Path, journal: &Path, more: &[&str]) -> (Output, String) {
    let journal = journal.display().to_string();
    let mut all = vec!["fence", "h1", "--direct", "--reason", "smoke", "--yes", "--journal", &journal];
    all.extend(more);
    palisade(&all, config)
}

/// The kinds of the records, and whether the chain holds.
fn journal(dir: &Path) -> Vec<String> {
    let (output, said) = {
        let palisade = Path::new(env!("CARGO_BIN_EXE_palisade"));
        let output = Command::new(palisade).args(["audit", "verify"]).arg(dir).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output, said)
    };
    assert!(output.status.success(), "{said}");
    let lines = std::fs::read_to_string(dir.join("journal-000000000001.jsonl")).unwrap();
    let kind = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let event = line.get("event").unwrap();
        let part = |name: &str| event.get(name).and_then(|part| part.as_str()).unwrap_or_default().to_owned();
        format!("{} {}", part("kind"), part("command")).trim().to_owned()
    };
    lines.lines().map(kind).collect()
}

/// SAFE-4: proven by a reading after the off. SAFE-5: the intent stands before the answer.
#[test]
fn a_host_is_fenced_read_off_and_on_record() {
    let bmc = Bmc::sim();
    let dir = tempfile::tempdir().unwrap();
    let config = configuration(dir.path(), &[(bmc.address, GUID)], "");
    let records = dir.path().join("journal");
    let (output, said) = fence(&config, &records, &["--without-quorum"]);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for part in [
        "nobody knows whether this side has the quorum",
        "What may run there, and stops: db",
        "bmc-0 <- off",
        "bmc-0 -> acknowledged",
        "bmc-0 -> reads off",
        "PROVEN power_off: bmc-0 acknowledged the off and then read off\n",
    ] {
        assert!(said.contains(part), "{part}\n---\n{said}");
    }
    assert!(!bmc.power_is_on());
    let kinds = journal(&records);
    let at = |kind: &str| {
        kinds.iter().position(|found| found == kind).unwrap_or_else(|| panic!("{kind}: {kinds:?}"))
    };
    assert_eq!(at("operator"), 0);
    assert!(at("fence_decided") < at("order_intended off"));
    assert!(at("order_intended off") < at("order_answered off"));
    assert_eq!(kinds.last().map(String::as_str), Some("dead"));
    assert!(!said.contains(PASSWORD), "SAFE-6");
    let journal = records.display().to_string();
    let (_, why) = palisade(&["why", "h1", "--journal", &journal], &config);
    assert!(why.starts_with("operator root had h1 fenced at "), "{why}");
}

#[test]
fn without_the_operators_word_on_the_quorum_nothing_is_sent() {
    let bmc = Bmc::sim();
    let dir = tempfile::tempdir().unwrap();
    let config = configuration(dir.path(), &[(bmc.address, GUID)], "");
    let records = dir.path().join("journal");
    let (output, said) = fence(&config, &records, &[]);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("add --without-quorum"), "{said}");
    assert!(bmc.power_is_on() && bmc.calls("set power 0") == 0 && !records.exists());
    let (output, said) = fence(&configuration(dir.path(), &[], ""), &records, &["--without-quorum"]);
    assert!(output.status.code() == Some(1) && said.contains("no device"), "{said}");
    let shadow = configuration(dir.path(), &[(bmc.address, GUID)], "[fencing]\nmode = \"shadow\"\n");
    let (output, said) = fence(&shadow, &records, &["--without-quorum"]);
    assert!(output.status.code() == Some(1) && said.contains("shadow mode"), "{said}");
    assert!(bmc.calls("set power 0") == 0);
}

/// SAFE-4: an acknowledgement is no proof. SAFE-5: no intent on the disk, no order.
#[test]
fn a_bmc_that_lies_or_a_journal_that_cannot_be_written_is_no_success() {
    let bmc = Bmc::sim();
    bmc.knob("lie", "");
    let dir = tempfile::tempdir().unwrap();
    let config = configuration(dir.path(), &[(bmc.address, GUID)], "[timing]\norder_deadline = \"8s\"\n");
    let records = dir.path().join("journal");
    let (output, said) = fence(&config, &records, &["--without-quorum"]);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("NOT proven: power: bmc-0: took the order but still reads on"), "{said}");
    assert!(journal(&records).contains(&"fence_failed".to_owned()));
    // Something else lies where the journal should.
    let taken = dir.path().join("taken");
    std::fs::write(&taken, "").unwrap();
    let before = bmc.calls("set power 0");
    let (output, said) = fence(&config, &taken, &["--without-quorum"]);
    assert!(output.status.code() == Some(1) && said.contains("nothing more was sent"), "{said}");
    assert_eq!(bmc.calls("set power 0"), before);
}

#[test]
fn a_level_that_cannot_prove_gives_way_to_the_next() {
    let bmc = Bmc::sim();
    // Bound and never answered: silent as a BMC that hangs.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let other = "b123456789abcdefa123456789abcde2";
    let devices = [(silent.local_addr().unwrap(), other), (bmc.address, GUID)];
    let config = configuration(dir.path(), &devices, "");
    let (output, said) = fence(&config, &dir.path().join("journal"), &["--without-quorum"]);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("bmc-0 -> no answer within") && said.contains("PROVEN power_off: bmc-1"), "{said}");
    assert!(!bmc.power_is_on());
}
