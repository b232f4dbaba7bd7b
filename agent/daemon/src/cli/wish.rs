//! `palisade host drain`, `disarm` and what takes them back: what operators want of hosts.

use std::path::Path;
use std::process::ExitCode;

use super::{Ended, Failure, WishOptions, ask, order, print};
use crate::api::Outcome;

pub(super) fn host(socket: &Path, drain: bool, options: &WishOptions) -> Ended {
    let WishOptions { host, reason } = options;
    let path = if drain { "/v1/host/drain" } else { "/v1/host/undrain" };
    give(socket, path, &serde_json::json!({ "host": host, "reason": reason }))
}

pub(super) fn disarm(socket: &Path, length: &str, reason: &str) -> Ended {
    let disarmed_ms = milliseconds(length).filter(|ms| *ms > 0).ok_or_else(|| {
        Failure::usage(format!(
            "`{length}` is no length of time: write a whole number with its unit, such as 30min or 2h"
        ))
    })?;
    give(socket, "/v1/disarm", &serde_json::json!({ "disarmed_ms": disarmed_ms, "reason": reason }))
}

pub(super) fn arm(socket: &Path, reason: &str) -> Ended {
    give(socket, "/v1/arm", &serde_json::json!({ "disarmed_ms": 0, "reason": reason }))
}

/// `90s`, `30min`, `2h`.
fn milliseconds(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let factor = match unit {
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn give(socket: &Path, path: &str, body: &serde_json::Value) -> Ended {
    let answer = ask(socket, path, Some(body.to_string().as_bytes()))?;
    match serde_json::from_slice(&answer.body) {
        Ok(Outcome::Accepted { message }) => {
            print(&format!("{message}\n"));
            Ok(ExitCode::SUCCESS)
        }
        Ok(Outcome::Refused { message }) => Err(Failure::failed(format!("refused: {message}"))),
        Ok(Outcome::UnknownHost { known }) => {
            let host = body.get("host").and_then(serde_json::Value::as_str).unwrap_or_default();
            Err(order::unknown(host, &known))
        }
        Err(error) => Err(Failure::failed(format!("the agent's answer makes no sense: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::agent;
    use crate::testing::TempDir;

    #[test]
    fn a_host_is_drained_or_unknown_and_the_cluster_disarmed() {
        let dir = TempDir::new();
        let socket = agent(&dir);
        let drain = |name: &str| {
            host(&socket, true, &WishOptions { host: name.to_owned(), reason: "a new disk".to_owned() })
        };
        assert_eq!(drain("b").unwrap(), ExitCode::SUCCESS);
        assert_eq!(drain("q").unwrap_err().status, 2);
        assert_eq!(disarm(&socket, "30min", "a new switch").unwrap(), ExitCode::SUCCESS);
        assert_eq!(arm(&socket, "done").unwrap(), ExitCode::SUCCESS);
        for length in ["", "30", "min", "-1h", "1.5h", "0h", "1d"] {
            assert_eq!(disarm(&socket, length, "x").unwrap_err().status, 2, "{length}");
        }
    }
}
