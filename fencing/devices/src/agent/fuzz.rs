//! What a fence agent may say: any bytes.

use palisade_ladder::Reading;

use super::driver::reading;
use super::metadata::Metadata;
use crate::text::{WORDS_MAX, clean};

/// Whatever an agent says of itself is read without a panic, and has only the acts that stand in it; whatever its status says, it reads
/// off only with exit status 2, the first byte, and the words of it, and no words of it act on a terminal.
///
/// # Panics
/// If one of these does not hold.
pub fn agent_reply(bytes: &[u8]) {
    let Some((exit, output)) = bytes.split_first() else { return };
    let output = String::from_utf8_lossy(output);
    match reading(Some(i32::from(*exit)), &output) {
        Some(Reading::Off) => {
            assert!(*exit == 2 && output.to_ascii_lowercase().contains("status: off"));
        }
        Some(Reading::On) => assert_eq!(*exit, 0),
        Some(Reading::Unknown) | None => assert_ne!(*exit, 0),
    }
    assert_eq!(reading(None, &output), None, "killed by a signal it reads nothing");
    match Metadata::parse(&output) {
        Ok(metadata) if metadata.lacks().is_none() => {
            assert!(["off", "on", "status"].iter().all(|action| output.contains(action)));
        }
        Ok(_) => {}
        Err(words) => {
            let words = clean(&words);
            assert!(!words.is_empty(), "an error without words");
            assert!(!words.chars().any(char::is_control) && words.chars().count() <= WORDS_MAX);
        }
    }
}
