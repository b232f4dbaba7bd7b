//! `palisade host drain`, `maintenance`, `disarm` and what takes them back: what operators want of hosts.

use std::path::Path;
use std::process::ExitCode;

use super::{Ended, Failure, MaintenanceOptions, WishOptions, give, order, print};

pub(super) fn host(socket: &Path, drain: bool, options: &WishOptions) -> Ended {
    let WishOptions { host, reason } = options;
    let path = if drain { "/v1/host/drain" } else { "/v1/host/undrain" };
    tell(socket, path, &serde_json::json!({ "host": host, "reason": reason }))
}

pub(super) fn disarm(socket: &Path, length: &str, reason: &str) -> Ended {
    let length_ms = milliseconds(length)?;
    tell(socket, "/v1/disarm", &serde_json::json!({ "length_ms": length_ms, "reason": reason }))
}

pub(super) fn maintenance_on(socket: &Path, options: &MaintenanceOptions) -> Ended {
    let MaintenanceOptions { host, length, reason } = options;
    let length_ms = milliseconds(length)?;
    let body = serde_json::json!({ "host": host, "length_ms": length_ms, "reason": reason });
    tell(socket, "/v1/maintenance/on", &body)
}

pub(super) fn maintenance_off(socket: &Path, options: &WishOptions) -> Ended {
    let WishOptions { host, reason } = options;
    tell(socket, "/v1/maintenance/off", &serde_json::json!({ "host": host, "reason": reason }))
}

pub(super) fn arm(socket: &Path, reason: &str) -> Ended {
    tell(socket, "/v1/arm", &serde_json::json!({ "reason": reason }))
}

pub(super) fn milliseconds(text: &str) -> Result<u64, Failure> {
    let length = humantime::parse_duration(text).ok().and_then(|time| u64::try_from(time.as_millis()).ok());
    length.filter(|ms| *ms > 0).ok_or_else(|| {
        Failure::usage(format!(
            "`{text}` is no length of time: write a whole number with its unit, such as 30min or 2h"
        ))
    })
}

fn tell(socket: &Path, path: &str, body: &serde_json::Value) -> Ended {
    let host = body.get("host").and_then(serde_json::Value::as_str).unwrap_or_default();
    let message = give(socket, path, body, |known| order::unknown(host, known))?;
    print(&format!("{message}\n"));
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::agent;
    use crate::testing::TempDir;

    #[test]
    fn a_host_is_drained_kept_out_or_unknown_and_the_cluster_disarmed() {
        let dir = TempDir::new();
        let socket = agent(&dir);
        let drain = |name: &str| {
            host(&socket, true, &WishOptions { host: name.to_owned(), reason: "a new disk".to_owned() })
        };
        assert_eq!(drain("b").unwrap(), ExitCode::SUCCESS);
        assert_eq!(drain("q").unwrap_err().status, 2);
        let maintenance = |host: &str, length: &str| {
            let (host, length, reason) = (host.to_owned(), length.to_owned(), "a new board".to_owned());
            maintenance_on(&socket, &MaintenanceOptions { host, length, reason })
        };
        assert_eq!(maintenance("b", "4h").unwrap(), ExitCode::SUCCESS);
        assert_eq!(maintenance("q", "4h").unwrap_err().status, 2);
        assert_eq!(maintenance("b", "long").unwrap_err().status, 2);
        let off = WishOptions { host: "b".to_owned(), reason: "done".to_owned() };
        assert_eq!(maintenance_off(&socket, &off).unwrap(), ExitCode::SUCCESS);
        assert_eq!(disarm(&socket, "30min", "a new switch").unwrap(), ExitCode::SUCCESS);
        assert_eq!(arm(&socket, "done").unwrap(), ExitCode::SUCCESS);
        for length in ["", "30", "min", "-1h", "0h", "soon"] {
            assert_eq!(disarm(&socket, length, "x").unwrap_err().status, 2, "{length}");
        }
    }
}
