//! `palisade workload list`, `stop` and `start`: what operators want to run.

use std::path::Path;
use std::process::ExitCode;

use palisade_core::status::Status;

use super::{DesireOptions, Ended, Failure, ask, give, print, status};

pub(super) fn list(socket: &Path, json: bool) -> Ended {
    let answer = ask(socket, "/v1/status", None)?;
    let no_sense = |error| Failure::failed(format!("the agent's answer makes no sense: {error}"));
    let status: Status = serde_json::from_slice(&answer.body).map_err(no_sense)?;
    if json {
        let text = serde_json::to_string(&status.workloads).map_err(no_sense)?;
        print(&format!("{text}\n"));
        return Ok(ExitCode::SUCCESS);
    }
    let text = status::workloads(&status);
    print(if text.is_empty() { "no workload is configured\n" } else { text.trim_end_matches('\n') });
    print(if text.is_empty() { "" } else { "\n" });
    Ok(ExitCode::SUCCESS)
}

pub(super) fn run(socket: &Path, run: bool, options: &DesireOptions) -> Ended {
    let DesireOptions { workload, reason } = options;
    let path = if run { "/v1/workload/start" } else { "/v1/workload/stop" };
    let body = serde_json::json!({ "workload": workload, "reason": reason });
    let message = give(socket, path, &body, |known| {
        let known = known.join(", ");
        Failure::usage(format!("there is no workload `{workload}`; configured are: {known}"))
    })?;
    print(&format!("{message}\n"));
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::agent;
    use crate::testing::TempDir;

    #[test]
    fn a_workload_is_stopped_or_unknown() {
        let dir = TempDir::new();
        let socket = agent(&dir);
        let desire = |name: &str| {
            let options = DesireOptions { workload: name.to_owned(), reason: "upgrade".to_owned() };
            run(&socket, false, &options)
        };
        assert_eq!(desire("db").unwrap(), ExitCode::SUCCESS);
        let unknown = desire("q").unwrap_err();
        assert_eq!(
            (unknown.status, unknown.message.as_str()),
            (2, "there is no workload `q`; configured are: db")
        );
    }
}
