//! How a command may end: by its deadline, and under which name.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this")]
#![allow(clippy::panic, reason = "clippy knows a test only inside #[test]")]

use std::time::Duration;

use palisade_devices::{Device, Warrant};
use palisade_ladder::{Command, Failure, Response};
use tokio::time::{Instant, timeout_at};

/// For a machine that is busy with other tests.
const SLACK: Duration = Duration::from_millis(300);

/// Holds the device to its deadline; one that would never end is not waited for.
pub async fn in_time(
    what: &str,
    device: &mut impl Device,
    command: Command,
    warrant: Warrant,
) -> Result<Response, Failure> {
    let deadline = warrant.deadline;
    let answer = timeout_at(deadline + SLACK, device.run(command, warrant)).await;
    // One that blocks ends late, and its end is seen before the time that is over.
    match answer {
        Ok(answer) if Instant::now() < deadline + SLACK => answer,
        Ok(_) | Err(_) => panic!("{what}, {command:?}: past its deadline by {:?}", deadline.elapsed()),
    }
}

pub fn name(failure: &Failure) -> &'static str {
    match failure {
        Failure::NoAnswer { .. } => "no answer",
        Failure::Unreachable { .. } => "unreachable",
        Failure::LoginRefused { .. } => "login refused",
        Failure::PrivilegeTooLow { .. } => "privilege too low",
        Failure::WrongIdentity { .. } => "wrong identity",
        Failure::NoCommonCipher { .. } => "no common cipher",
        Failure::Refused { .. } => "refused",
        Failure::Garbage { .. } => "garbage",
        Failure::Cancelled => "cancelled",
    }
}
