//! Asking an agent over its own socket, from outside its namespaces.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

use super::power::Machine;
use super::trouble::{Context, Result, Trouble};

/// An agent answers in milliseconds; a frozen one never does.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);

/// The agent's own view of the cluster (`palisade status --json`).
///
/// # Errors
/// The host is off, or its agent does not answer.
pub fn status(machine: &Machine) -> Result<Value> {
    let answer = ask(machine, "/v1/status")?;
    let body = answer.trim();
    serde_json::from_str(body).during(format!("{}: status: {body}", machine.name))
}

/// One sample of the agent's Prometheus metrics; the name with its labels, as it stands there.
///
/// # Errors
/// The agent does not answer, or has no such metric.
pub fn metric(machine: &Machine, name: &str) -> Result<u64> {
    let text = ask(machine, "/metrics")?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.during(format!("{}: metric {name}", machine.name))
}

/// The body of what the agent answers to a GET.
fn ask(machine: &Machine, path: &str) -> Result<String> {
    let pid = machine.init_pid()?;
    let socket = format!("/proc/{pid}/root/run/palisade/agent.sock");
    let mut stream = UnixStream::connect(&socket).during(format!("{}: agent.sock", machine.name))?;
    stream.set_read_timeout(Some(ANSWER_LIMIT)).during("agent.sock")?;
    stream.set_write_timeout(Some(ANSWER_LIMIT)).during("agent.sock")?;
    // HTTP/1.0: the body comes whole and ends with the connection, never in chunks.
    let request = format!("GET {path} HTTP/1.0\r\nHost: palisade\r\n\r\n");
    stream.write_all(request.as_bytes()).during("agent.sock")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).during(format!("{}: {path}", machine.name))?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").during("an HTTP answer")?;
    if !head.lines().next().is_some_and(|first| first.contains(" 200 ")) {
        return Err(Trouble::new(format!("{}: {path}: {answer}", machine.name)));
    }
    Ok(body.to_owned())
}
