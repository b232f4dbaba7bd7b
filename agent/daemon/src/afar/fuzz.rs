//! Whatever the broker hands over as an order.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a broken property ends the run")]

use std::sync::OnceLock;

use palisade_proto::fuzz::check_words;

use super::judge::{Judged, judge};
use super::written::{Written, split};
use super::*;

/// Whose signatures stand in the corpus. The private keys are gone.
const OPERATORS: [(&str, &str); 2] = [
    ("anna", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILMijCttSTyWaU1bNpDyzGg3O/V41m06lcfKW7vUIt6D"),
    ("bert", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIM48J6w2TP1esvc6lmJ61jiZ6i9PIaISTs1HB6NOc19a"),
];
/// What they signed.
const SIGNED: &str = "palisade order, version 1\ncluster: edge-7\nto: h0\norder: maintenance-on\nabout: h1\nlength: 2h\n\
    reason: a new board\nnonce: 000102030405060708090a0b0c0d0e0f\nmade: 2026-11-01T07:00:00Z\nexpires: 2026-11-01T07:05:00Z\n";

fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Arc<Cluster>> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let host = |id: u8| {
            format!(
                "[[host]]\nid = {id}\nname = \"h{id}\"\nmachine = \"0000000{id}-0000-0000-0000-000000000001\"\n\
                 links = [\"127.0.0.1:741{id}\"]\n"
            )
        };
        let operators =
            OPERATORS.map(|(name, key)| format!("[[operator]]\nname = \"{name}\"\nkey = \"{key}\"\n"));
        let text = format!(
            "[cluster]\nname = \"edge-7\"\nkeys = [ {{ id = 1, file = \"/k\" }} ]\n[telemetry]\nbroker = \"mqtt://127.0.0.1\"\n\
             [orders]\ntwo_operators = [\"fence\"]\n{}{}{}{}",
            host(1),
            host(0),
            operators[0],
            operators[1]
        );
        Arc::new(Cluster::parse(&text, "cluster.toml").unwrap())
    })
}

/// SAFE-7: nothing is an order but what an operator signed, word by word; and no refusal acts on a terminal.
pub fn order_from_afar(bytes: &[u8]) {
    let now = humantime::parse_rfc3339("2026-11-01T07:01:00Z").unwrap();
    let message = std::str::from_utf8(bytes).unwrap_or_default();
    let (text, _) = split(message);
    if let Ok(written) = Written::parse(text) {
        assert_eq!(written.text(), text);
        check_words(&written.words());
    }
    match judge(bytes, cluster(), "h0", now) {
        Judged::NotOurs => {}
        Judged::Sound(sound) => {
            assert!(text == SIGNED && sound.text == message && sound.wanted.checked().is_ok());
        }
        Judged::Refused { refusal, by, text: kept, .. } => {
            check_words(&refusal);
            // Nothing is kept of what nobody signed.
            assert!(kept.is_none() || (by.is_some() && text == SIGNED), "{refusal}");
        }
    }
}
