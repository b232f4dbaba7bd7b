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
    let pid = machine.init_pid()?;
    let path = format!("/proc/{pid}/root/run/palisade/agent.sock");
    let mut stream = UnixStream::connect(&path).during(format!("{}: agent.sock", machine.name))?;
    stream.set_read_timeout(Some(ANSWER_LIMIT)).during("agent.sock")?;
    stream.set_write_timeout(Some(ANSWER_LIMIT)).during("agent.sock")?;
    let request = "GET /v1/status HTTP/1.1\r\nHost: palisade\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).during("agent.sock")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).during(format!("{}: status", machine.name))?;
    body(&String::from_utf8_lossy(&answer)).during(format!("{}: status", machine.name))
}

fn body(answer: &str) -> Result<Value> {
    let (_, body) = answer.split_once("\r\n\r\n").during("an HTTP answer")?;
    let (open, close) = (body.find('{').during("a JSON object")?, body.rfind('}').during("a JSON object")?);
    let object = body.get(open..=close).ok_or_else(|| Trouble::new("a JSON object"))?;
    serde_json::from_str(object).during("JSON")
}
