//! What a Redfish service may answer: any bytes.

use palisade_ladder::Reading;

use super::resource::{Collection, Root, System, error_words, is_path, read};
use crate::text::WORDS_MAX;

/// Whatever comes in the place of a resource or an error is read without a panic; a system is off only if it says so, is switched
/// only at a path of its own service, and no words of the service act on a terminal.
///
/// # Panics
/// If one of these does not hold.
#[allow(clippy::indexing_slicing, reason = "an index into a JSON value gives null where there is nothing")]
pub fn redfish_reply(bytes: &[u8]) {
    let harmless = |words: &str| {
        assert!(!words.chars().any(char::is_control) && words.chars().count() <= WORDS_MAX);
    };
    if let Ok(system) = System::parse(bytes) {
        let value: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
        assert_eq!(system.power == Reading::Off, value["PowerState"] == "Off");
        assert_eq!(system.power == Reading::On, value["PowerState"] == "On");
        harmless(&system.uuid.0);
        assert!(system.reset.is_none_or(|reset| is_path(&reset.target)));
    }
    if let Some(words) = error_words(bytes) {
        harmless(&words);
    }
    drop((read::<Root>("root", bytes), read::<Collection>("systems", bytes)));
}
