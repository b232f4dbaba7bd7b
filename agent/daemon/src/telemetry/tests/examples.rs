//! The examples of `doc/examples` are what the code writes, and `TELEMETRY.md` names every field of theirs.

use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use palisade_core::config::Level;
use palisade_core::record::{Lost, Who};
use palisade_core::status::FencePathStatus;

use super::super::ledger::Gap;
use super::*;

fn doc(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"))).join(name)
}

/// Compares with the file; with PALISADE_WRITE_EXAMPLES set, writes it instead.
fn is_example(name: &str, written: &[u8]) {
    let path = doc("doc/examples").join(name);
    let written: serde_json::Value = serde_json::from_slice(written).unwrap();
    if std::env::var_os("PALISADE_WRITE_EXAMPLES").is_some() {
        std::fs::write(&path, format!("{written:#}\n")).unwrap();
    }
    let example = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let example: serde_json::Value = serde_json::from_slice(&example).unwrap();
    assert_eq!(
        example, written,
        "{name}: run this test with PALISADE_WRITE_EXAMPLES=1, and look at the change"
    );
    assert_eq!(example["schema"], said::SCHEMA);
    let text = std::fs::read_to_string(doc("TELEMETRY.md")).unwrap();
    assert!(text.contains(&format!("doc/examples/{name}")), "{name} is not told of");
}

fn status() -> Status {
    let proven = |device: &str, fences: &str, proven_ms, error: Option<&str>| FencePathStatus {
        device: device.to_owned(),
        fences: fences.to_owned(),
        proven_ms,
        error: error.map(str::to_owned),
    };
    Status {
        fence_paths: vec![
            proven("bmc-b", "b", Some(4200), None),
            proven("bmc-c", "c", Some(310_000), Some("no answer")),
        ],
        alarms: vec!["fence path bmc-c: no answer".to_owned()],
        ..crate::api::tests::status()
    }
}

#[test]
fn the_examples_are_what_is_written() {
    let teller = Teller { host: "a".to_owned(), life: "0123456789abcdef".to_owned() };
    let at = UNIX_EPOCH + Duration::from_millis(1_796_000_000_123);
    let who = |host: &str, life: &str| Who { host: host.to_owned(), life: life.to_owned() };
    let lost = Event::View {
        view: vec![who("a", "0123456789abcdef"), who("c", "00112233445566aa")],
        lost: vec![Lost { who: who("b", "fedcba9876543210"), silent_ms: 1020 }],
    };
    is_example("event.json", &teller.event(&teller.id(81_234_567), 81_234_567, at, &lost));
    let gap =
        Gap { number: 1, lost: 212, first: Some(teller.id(80_000_001)), last: Some(teller.id(81_000_000)) };
    is_example("gap.json", &teller.gap(&gap, 82_000_000, at));
    is_example("state.json", &said::state(&status(), at));
    is_example("gone.json", &said::gone("edge-a", "a"));
    let answer = crate::afar::Answer {
        schema: said::SCHEMA,
        nonce: "000102030405060708090a0b0c0d0e0f".to_owned(),
        time_ms: since_epoch(at),
        accepted: false,
        message: "this very order was taken before: make another to have it done again".to_owned(),
    };
    is_example("order.json", &serde_json::to_vec(&answer).unwrap());
    let health = crate::health::example();
    let levels = health.board().levels(palisade_proto::Time(60 * 60_000));
    let l2 = levels.iter().find(|level| level.level == Level::L2).unwrap();
    is_example("health.json", &said::level(l2, at));
    is_example("capacity.json", &crate::api::capacity_example(&health));
    is_example("global.json", &crate::api::global_example(&status()));
}

#[test]
fn every_field_of_a_message_is_documented() {
    let text = std::fs::read_to_string(doc("TELEMETRY.md")).unwrap();
    let own = serde_json::to_value(crate::api::tests::status()).unwrap();
    for name in ["event.json", "gap.json", "gone.json", "order.json", "state.json"] {
        let example = std::fs::read(doc("doc/examples").join(name)).unwrap();
        let example: serde_json::Value = serde_json::from_slice(&example).unwrap();
        // The status is documented where it is defined.
        for field in example.as_object().unwrap().keys().filter(|field| own.get(field).is_none()) {
            assert!(text.contains(&format!("`{field}`")), "{name}: `{field}` is not documented");
        }
    }
    let readiness = crate::readiness::Readiness::of(&crate::api::tests::status());
    for part in readiness.parts {
        let line = format!("| `{}` | {} |", part.part, part.weight);
        assert!(text.contains(&line), "no {line} in TELEMETRY.md");
    }
}
