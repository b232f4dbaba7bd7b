//! QEMU's own monitor (QMP): orders, and events with a deadline.

use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::wire::Wire;
use crate::lab::trouble::{Context, Result, Trouble};

/// The monitor answers within milliseconds, unless the machine is busy.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// A connected monitor.
#[derive(Debug)]
pub struct Qmp {
    wire: Wire,
    events: VecDeque<Value>,
}

impl Qmp {
    /// Says hello on a monitor that has just connected.
    pub(super) fn greet(stream: UnixStream) -> Result<Self> {
        let mut qmp = Self { wire: Wire::new(stream), events: VecDeque::new() };
        qmp.next(Instant::now() + ANSWER_LIMIT)?.during("QMP: the greeting")?;
        qmp.order("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Gives an order and waits for its answer.
    ///
    /// # Errors
    /// QEMU refuses it, does not answer, or has ended.
    pub fn order(&mut self, name: &str, arguments: &Value) -> Result<Value> {
        self.wire.send(&json!({ "execute": name, "arguments": arguments }).to_string()).during(name)?;
        let deadline = Instant::now() + ANSWER_LIMIT;
        loop {
            let mut word = self.next(deadline).during(name)?.during(format!("QMP: an answer to {name}"))?;
            if let Some(error) = word.get("error") {
                return Err(Trouble::new(format!("QMP: {name}: {error}")));
            }
            if let Some(answer) = word.get_mut("return") {
                return Ok(answer.take());
            }
            self.events.push_back(word);
        }
    }

    /// The next event of this name, with its data; `None` when none comes within `limit`. Others that came before it are
    /// passed over.
    ///
    /// # Errors
    /// QEMU has ended.
    pub fn event(&mut self, name: &str, limit: Duration) -> Result<Option<Value>> {
        let deadline = Instant::now() + limit;
        loop {
            let word = match self.events.pop_front() {
                Some(word) => word,
                None => match self.next(deadline).during(format!("waiting for the event {name}"))? {
                    Some(word) => word,
                    None => return Ok(None),
                },
            };
            if word.get("event").and_then(Value::as_str) == Some(name) {
                return Ok(Some(word.get("data").cloned().unwrap_or(Value::Null)));
            }
        }
    }

    fn next(&mut self, deadline: Instant) -> Result<Option<Value>> {
        let Some(line) = self.wire.line(deadline)? else { return Ok(None) };
        serde_json::from_str(&line).during(format!("QMP: {line}")).map(Some)
    }
}
