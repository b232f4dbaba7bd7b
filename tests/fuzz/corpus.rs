//! Every fuzz target over its committed corpus: good inputs, and what fuzzing once found. Runs on each machine, without libFuzzer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a broken property fails the test"
)]

mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A small corpus is read and kept by people.
const FILES_MAX: usize = 30;
const BYTES_MAX: u64 = 4096;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn run(name: &str) {
    let (_, target) = targets::ALL.iter().find(|(known, _)| *known == name).expect("a target of that name");
    let folder = folder("corpus").join(name);
    let files = names(&folder);
    assert!((1..=FILES_MAX).contains(&files.len()), "{} files in {}", files.len(), folder.display());
    for file in files {
        let path = folder.join(&file);
        assert!(path.metadata().unwrap().len() <= BYTES_MAX, "{} is too long", path.display());
        println!("{name}/{file}");
        target(&fs::read(&path).unwrap());
    }
}

macro_rules! corpora {
    ($($name:ident)*) => {
        /// The tests below.
        const TESTED: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                run(stringify!($name));
            }
        )*
    };
}

corpora! {
    agent_reply cluster_config engine_heartbeat fence_certificate haproxy_reply heartbeat_sealed heartbeat_wire hypervisor_reply
    ipmi_dialogue ipmi_reply journal_file journal_line local_api lun_reply nft_reply nvme_reply order_from_afar redfish_reply route_reply scsi_reply
    ssh_words standing_file switch_reply witness_answer witness_ask witness_config
}

#[test]
fn every_target_has_a_test_a_corpus_and_a_binary() {
    let all: BTreeSet<String> = targets::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    let set = |names: Vec<String>| names.into_iter().collect::<BTreeSet<_>>();
    assert_eq!(set(TESTED.iter().map(|name| (*name).to_owned()).collect()), all);
    assert_eq!(set(names(&folder("corpus"))), all);
    let binaries = names(&folder("fuzz_targets"));
    assert_eq!(set(binaries.iter().map(|file| file.trim_end_matches(".rs").to_owned()).collect()), all);
}
