//! What an ssh client and a shell behind it may say: any bytes.

use palisade_ladder::Failure;

use super::words::{answer, no_login};

/// Whatever comes is read without a panic, an answer only up to its own end, and no word of it acts on a terminal.
///
/// # Panics
/// If one of these does not hold.
pub fn ssh_words(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some(answer) = answer(&text, "palisade-0-1") {
        assert!(text.ends_with("\npalisade-0-1.\n") && text.starts_with(&answer.output));
    }
    let failure = no_login(&text, "[10.0.0.1]:2222", "/etc/palisade/known_hosts");
    assert!(!failure.to_string().contains(char::is_control), "{failure}");
    // SAFE-4
    let says = text.contains("Host key verification failed");
    assert_eq!(says, matches!(failure, Failure::WrongIdentity { .. }), "{failure}");
}
