//! What a hypervisor may say: any bytes.

use palisade_ladder::Reading;
use serde_json::Value;

use super::words::{Message, domain, message, monitored, uuid};

/// Whatever a monitor or `virsh` says is read without a panic, and reads off only with the words of it.
///
/// # Panics
/// If one of these does not hold.
pub fn hypervisor_reply(bytes: &[u8]) {
    if let Ok(Message::Return { value, .. }) = message(bytes) {
        drop(uuid(&value));
        let status = value.get("status").and_then(Value::as_str);
        if monitored(&value, &Value::Null).reading() == Reading::Off {
            assert!(matches!(status, Some("prelaunch" | "shutdown")));
        }
        // As a migration's status nothing but these leaves a machine off.
        if monitored(&serde_json::json!({ "status": "prelaunch" }), &value).reading() == Reading::Off {
            assert!(matches!(status, None | Some("" | "none" | "failed" | "cancelled")));
        }
    }
    let text = String::from_utf8_lossy(bytes);
    let Some((state, info)) = text.split_once('\n') else { return };
    if let Ok(domain) = domain(state, info)
        && domain.state.reading() == Reading::Off
    {
        let reasons = ["destroyed", "shutdown", "crashed", "failed", "daemon", "unknown"];
        assert!(reasons.iter().any(|reason| state.trim() == format!("shut off ({reason})")));
    }
}
