//! What ip and the kernel may print: any bytes.

use std::net::Ipv4Addr;

use palisade_ladder::Reading;

use super::table::read;

const RULES: &str =
    r#"[{"priority":0,"src":"all","table":"255"},{"priority":10,"src":"all","table":"7700"}]"#;
const ROUTES: &str = r#"[{"type":"unreachable","dst":"10.0.0.2","protocol":"77","flags":[]}]"#;
const WAYS: &str = "10.0.0.2 RTNETLINK answers: No route to host\n";
const CHECKS: &str = "1 all\n1 default\n";

/// Whatever comes in the place of one of the answers is read without a panic, and leaves off only what it must (SAFE-4).
///
/// # Panics
/// If one of these does not hold.
pub fn route_reply(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let address = [Ipv4Addr::new(10, 0, 0, 2)];
    let is = |read: Result<super::table::Routes, String>, reading| {
        read.is_ok_and(|routes| routes.reading(&address) == reading)
    };
    if is(read(&text, ROUTES, WAYS, CHECKS, ""), Reading::Off) {
        assert!(text.contains("7700") || text.contains('\\'));
    }
    if is(read(RULES, &text, WAYS, CHECKS, ""), Reading::Off) {
        assert!(text.contains("10.0.0.2") || text.contains('\\'));
    }
    if is(read(RULES, ROUTES, &text, CHECKS, ""), Reading::Off) {
        assert!(text.contains(WAYS.trim()));
    }
    if is(read(RULES, ROUTES, WAYS, &text, ""), Reading::Off) {
        assert!(text.contains(" all") && text.contains(" default"));
    }
    if is(read(RULES, ROUTES, WAYS, CHECKS, &text), Reading::Off) {
        assert!(text.trim().is_empty() || text.contains("nftables") || text.contains('\\'));
    }
}
