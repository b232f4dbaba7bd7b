//! What a switch may answer: any bytes.

use palisade_ladder::Reading;

use super::message::{Pdu, of_community};
use super::usm::{AuthProtocol, Keys, Opened, open};
use super::words::{self, Port};

const ENGINE_ID: [u8; 5] = [0x80, 0, 0, 0, 1];

/// Whatever a switch answers is read without a panic; off and on only with the status of it; signed is nothing without the keys.
///
/// # Panics
/// If one of these does not hold.
pub fn switch_reply(bytes: &[u8]) {
    thread_local! {
        static KEYS: Keys = Keys::new(AuthProtocol::Sha256, b"authentic", b"encrypted", &ENGINE_ID);
    }
    if let Ok(pdu) = of_community(b"public", bytes) {
        means_what_it_says(&pdu);
    }
    let with_keys = KEYS.with(|keys| open(bytes, Some(("palisade", keys, &ENGINE_ID))));
    match with_keys {
        // An answer of a switch that has the keys is in the corpus.
        Ok(Opened::Answer { pdu, .. }) => means_what_it_says(&pdu),
        Ok(Opened::Report { .. }) | Err(_) => {}
    }
    if let Ok(opened) = open(bytes, None) {
        assert!(matches!(opened, Opened::Report { signed: false, .. }), "signed without a key");
    }
}

fn means_what_it_says(pdu: &Pdu) {
    let index = pdu.bindings.first().and_then(|(object, _)| object.last().copied()).unwrap_or(1);
    if let Ok(Some(port)) = Port::read(index, &pdu.bindings) {
        match port.reading() {
            Reading::Off => assert!(port.admin == 2 && matches!(port.oper, 2 | 6 | 7)),
            Reading::On => assert!(port.admin == 1 && (1..=7).contains(&port.oper)),
            Reading::Unknown => {}
        }
    }
    let mut from = words::names();
    if let Ok((_, Some(next))) = words::step(&from, &pdu.bindings) {
        assert!(next > from, "a walk that does not go on");
        from = next;
        assert!(words::step(&from, &pdu.bindings).is_err() || pdu.bindings.is_empty(), "a walk in a circle");
    }
    if words::may_write(pdu.status) == Some(true) {
        assert!((3..=10).contains(&pdu.status), "a login that may write without the word of it");
    }
}
