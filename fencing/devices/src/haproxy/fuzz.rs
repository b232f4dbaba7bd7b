//! What HAProxy may say: any bytes.

use palisade_ladder::Reading;

use super::words::{reading, server, sessions};

/// Whatever a load balancer says is read without a panic, and reads off only with the words of it.
///
/// # Panics
/// If one of these does not hold.
pub fn haproxy_reply(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (state, stat) = text.split_once("\n\n").unwrap_or((&text, ""));
    if let Ok(sessions) = sessions(stat, "web", "b") {
        // A sum of two.
        assert!(sessions != 0 || stat.contains('0'), "a number that nobody said");
    }
    let Ok(server) = server(state, "web", "b") else { return };
    assert!(
        state.lines().next() == Some("1")
            && state.contains("srv_admin_state")
            && state.contains(&server.address)
    );
    let Ok(sessions) = sessions(stat, "web", "b") else { return };
    if reading(server.admin, sessions) == Reading::Off {
        assert!(server.admin & 1 == 1 && sessions == 0);
    }
}
