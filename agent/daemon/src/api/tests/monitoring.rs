//! What `agent/monitoring` ships is about metrics and fields that exist.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use palisade_core::status::FencePathStatus;

use super::*;

fn dir() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../monitoring"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(dir().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every name of a series that an agent has, whatever its status.
fn series() -> BTreeSet<String> {
    let path =
        FencePathStatus { device: "bmc-b".into(), fences: "b".into(), proven_ms: Some(1), error: None };
    let status = Status { fence_paths: vec![path], ..status() };
    let text = super::super::metrics::prometheus(&status, &crate::health::example())
        + &Counters::default().prometheus();
    let name = |line: &str| line.split(['{', ' ']).next().unwrap().to_owned();
    text.lines().filter(|line| !line.starts_with('#')).map(name).collect()
}

/// Every name of a metric of ours in a text.
fn named(text: &str) -> BTreeSet<String> {
    let word = |char: char| !(char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_');
    text.split(word).filter(|word| word.starts_with("palisade_")).map(str::to_owned).collect()
}

#[test]
fn rules_and_dashboard_name_metrics_that_exist() {
    let series = series();
    for name in ["palisade.rules.yml", "palisade.test.yml"] {
        let named = named(&read(name));
        assert!(named.len() > 10, "{name}: {named:?}");
        let unknown: Vec<_> = named.difference(&series).collect();
        assert!(unknown.is_empty(), "{name}: {unknown:?}");
    }
    let dashboard: serde_json::Value = serde_json::from_str(&read("palisade.dashboard.json")).unwrap();
    let (mut panels, mut taken) = (0, BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        panels += 1;
        let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        for (x, y) in
            (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
        {
            assert!(x < 24 && taken.insert((x, y)), "{} lies over another panel", panel["title"]);
        }
        for target in panel["targets"].as_array().unwrap() {
            let named = named(target["expr"].as_str().unwrap());
            let unknown: Vec<_> = named.difference(&series).collect();
            assert!(!named.is_empty() && unknown.is_empty(), "{}: {unknown:?}", panel["title"]);
        }
    }
    assert!(panels > 10);
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let unknown: Vec<_> = named(&variable["query"].to_string()).difference(&series).cloned().collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}

#[test]
fn promtool_tests_the_rules() {
    for arguments in [
        &["check", "rules", "palisade.rules.yml"][..],
        &["test", "rules", "palisade.test.yml"],
        &["check", "config", "--syntax-only", "prometheus.yml"],
    ] {
        let output = Command::new("promtool").current_dir(dir()).args(arguments).output();
        let output = output.expect("promtool is not installed: apt-get install prometheus");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said));
    }
    // Every alert is tested, both ways.
    let (rules, tests) = (read("palisade.rules.yml"), read("palisade.test.yml"));
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.matches(alert).count() >= 2, "{alert} is not tested");
    }
}

/// Telegraf itself is not at hand; the fields that it is told to read are those of the examples.
#[test]
fn telegraf_reads_fields_that_exist() {
    let mut at = "";
    let text = read("telegraf.conf");
    for line in text.lines().map(str::trim) {
        if let Some(topics) = line.strip_prefix("topics = ") {
            at = if topics.contains("event") { "event" } else { "state" };
        }
        let path = line.strip_prefix("path = ").or(line.strip_prefix("timestamp_path = "));
        let Some(path) = path.map(|path| path.trim_matches('"')) else { continue };
        let example =
            PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/examples")).join(format!("{at}.json"));
        let example: serde_json::Value = serde_json::from_slice(&std::fs::read(example).unwrap()).unwrap();
        let pointer = format!("/{}", path.replace('.', "/"));
        assert!(example.pointer(&pointer).is_some(), "{at}: {path}");
    }
    assert_eq!(at, "state");
}
