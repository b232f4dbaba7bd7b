//! What a hypervisor says of a machine, read. Pure.
//!
//! QMP: RunState and MigrationStatus of QEMU's `qapi/run-state.json` and `qapi/migration.json`. libvirt: virDomainState and its
//! reasons, as `virsh domstate --reason` and `virsh dominfo` print them with `LANG=C`.

use palisade_ladder::{Identity, Reading};
use serde_json::Value;

/// What a machine does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its processors run.
    Running,
    /// No life of it can go on: it starts from its firmware.
    Off,
    /// Its processors stand still, and its life goes on with the next `cont`; in the hypervisor's words.
    Held(String),
    /// Its life may be elsewhere, or what is said is not known here; in the hypervisor's words.
    Unclear(String),
}

impl State {
    /// SAFE-4: off is only what can not go on.
    pub(super) fn reading(&self) -> Reading {
        match self {
            Self::Running | Self::Held(_) => Reading::On,
            Self::Off => Reading::Off,
            Self::Unclear(_) => Reading::Unknown,
        }
    }
}

/// One line of a monitor.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Message {
    /// The first line of a connection.
    Greeting,
    /// Something happened.
    Event,
    /// A command was carried out.
    Return {
        /// Of which command.
        id: Option<u64>,
        /// What it gives.
        value: Value,
    },
    /// A command was refused.
    Error {
        /// Of which command.
        id: Option<u64>,
        /// Why.
        words: String,
    },
}

/// Reads one line. Fails with what is wrong with it.
pub(super) fn message(line: &[u8]) -> Result<Message, String> {
    let mut value: Value = serde_json::from_slice(line).map_err(|error| format!("no JSON: {error}"))?;
    let Some(object) = value.as_object_mut() else { return Err("no object".to_owned()) };
    let id = object.get("id").and_then(Value::as_u64);
    if let Some(value) = object.remove("return") {
        return Ok(Message::Return { id, value });
    }
    if let Some(error) = object.get("error") {
        let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
        return Ok(Message::Error { id, words: format!("{}: {}", text("class"), text("desc")) });
    }
    match (object.contains_key("event"), object.contains_key("QMP")) {
        (true, _) => Ok(Message::Event),
        (false, true) => Ok(Message::Greeting),
        (false, false) => Err("neither an answer nor an event".to_owned()),
    }
}

/// What `query-uuid` says, without hyphens.
pub(super) fn uuid(answer: &Value) -> Option<Identity> {
    answer.get("UUID").and_then(Value::as_str).map(plain)
}

/// What `query-status` and `query-migrate` say together.
pub(super) fn monitored(status: &Value, migration: &Value) -> State {
    let text = |answer: &Value| answer.get("status").and_then(Value::as_str).unwrap_or_default().to_owned();
    let (status, migration) = (text(status), text(migration));
    // Also one that came from elsewhere: then this monitor cannot tell whether its source lives on.
    if !matches!(migration.as_str(), "" | "none" | "failed" | "cancelled") {
        return State::Unclear(format!("{status}, migration {migration}"));
    }
    match status.as_str() {
        "running" => State::Running,
        // A reset was done while its processors stood still, or its firmware has ended it: `cont` starts it anew or is refused.
        "prelaunch" | "shutdown" => State::Off,
        "paused" | "suspended" | "io-error" | "guest-panicked" | "watchdog" | "debug" | "internal-error" => {
            State::Held(status)
        }
        _ => State::Unclear(status),
    }
}

/// What libvirt says of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Domain {
    pub(super) uuid: Identity,
    pub(super) state: State,
}

/// What `virsh domstate --reason` and `virsh dominfo` print. Fails with what is missing, or why its end could not be read.
pub(super) fn domain(state: &str, info: &str) -> Result<Domain, String> {
    let state = state.trim();
    let field = |name: &str| {
        let found = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        found.map(str::trim).ok_or_else(|| format!("dominfo without `{name}`"))
    };
    let saved = field("Managed save")? != "no";
    let parts = state.strip_suffix(')').and_then(|state| state.split_once(" ("));
    let state = match parts.ok_or_else(|| format!("domstate without a reason: {state}"))? {
        ("running" | "idle" | "in shutdown", _) => State::Running,
        ("paused" | "pmsuspended" | "crashed", _) => State::Held(state.to_owned()),
        ("shut off", _) if saved => State::Unclear(format!("{state}, with its memory saved")),
        // SAFE-4: of the reasons, these leave no life of it; not that it was migrated or saved, nor one that is not known here.
        // "unknown" is what a daemon says that was started since.
        ("shut off", "destroyed" | "shutdown" | "crashed" | "failed" | "daemon" | "unknown") => State::Off,
        _ => State::Unclear(state.to_owned()),
    };
    if field("Persistent")? != "yes" {
        return Err(
            "a transient domain is unknown once it is destroyed, and nothing could read it off: define it"
                .to_owned(),
        );
    }
    Ok(Domain { uuid: plain(field("UUID")?), state })
}

fn plain(uuid: &str) -> Identity {
    Identity(uuid.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_monitor_is_one_of_four_things() {
        let read = |line: &str| message(line.as_bytes());
        assert_eq!(read(r#"{"QMP": {"version": {}, "capabilities": []}}"#), Ok(Message::Greeting));
        assert_eq!(read(r#"{"timestamp": {"seconds": 1}, "event": "STOP"}"#), Ok(Message::Event));
        assert!(matches!(read(r#"{"return": {}, "id": 7}"#), Ok(Message::Return { id: Some(7), .. })));
        let refused = read(r#"{"error": {"class": "GenericError", "desc": "no"}, "id": 7}"#);
        assert_eq!(refused, Ok(Message::Error { id: Some(7), words: "GenericError: no".to_owned() }));
        for line in ["", "{", "[]", "{}", "7", "{\"returns\": 1}"] {
            assert!(read(line).is_err(), "{line:?}");
        }
    }

    /// SAFE-4
    #[test]
    fn only_a_machine_that_cannot_go_on_is_off() {
        let state = |status: &str, migration: &str| {
            let migration = match migration {
                "" => serde_json::json!({}),
                status => serde_json::json!({ "status": status }),
            };
            monitored(&serde_json::json!({ "status": status }), &migration).reading()
        };
        for off in ["prelaunch", "shutdown"] {
            assert_eq!(state(off, ""), Reading::Off);
            assert_eq!(state(off, "cancelled"), Reading::Off);
            for elsewhere in ["active", "completed", "postcopy-active", "device", "new-in-a-later-qemu"] {
                assert_eq!(state(off, elsewhere), Reading::Unknown, "{off}, migration {elsewhere}");
            }
        }
        for on in ["running", "paused", "suspended", "io-error", "guest-panicked", "watchdog"] {
            assert_eq!(state(on, ""), Reading::On, "{on}");
        }
        for unclear in ["postmigrate", "inmigrate", "finish-migrate", "save-vm", "", "new-in-a-later-qemu"] {
            assert_eq!(state(unclear, ""), Reading::Unknown, "{unclear}");
        }
    }

    /// SAFE-4
    #[test]
    fn a_domain_is_off_unless_its_life_was_saved_or_moved() {
        let info = |saved: &str| {
            format!(
                "Id:             -\nUUID:           4c4c4544-0051-3510-8052-B4C04F4D3130\nPersistent:     yes\nManaged save:   {saved}\n"
            )
        };
        let read = |state: &str, saved: &str| domain(state, &info(saved)).unwrap().state.reading();
        for (state, saved, reading) in [
            ("shut off (destroyed)\n\n", "no", Reading::Off),
            ("shut off (shutdown)", "no", Reading::Off),
            ("shut off (unknown)", "no", Reading::Off),
            ("shut off (crashed)", "no", Reading::Off),
            ("shut off (migrated)", "no", Reading::Unknown),
            ("shut off (saved)", "no", Reading::Unknown),
            ("shut off (from snapshot)", "no", Reading::Unknown),
            ("shut off (new in a later libvirt)", "no", Reading::Unknown),
            ("shut off (saved)", "yes", Reading::Unknown),
            ("shut off (unknown)", "yes", Reading::Unknown),
            ("running (booted)", "no", Reading::On),
            ("paused (user)", "no", Reading::On),
            ("crashed (panicked)", "no", Reading::On),
            ("in shutdown (user)", "no", Reading::On),
            ("no state (unknown)", "no", Reading::Unknown),
        ] {
            assert_eq!(read(state, saved), reading, "{state}, managed save {saved}");
        }
        let whole = domain("running (booted)", &info("no")).unwrap();
        assert_eq!(whole.uuid.0, "4c4c4544005135108052b4c04f4d3130");
        let transient = domain("running (booted)", &info("no").replace("yes", "no")).unwrap_err();
        assert!(transient.contains("define it"), "{transient}");
        for (state, info) in [("", info("no")), ("shut off", info("no")), ("running (booted)", String::new())]
        {
            assert!(domain(state, &info).is_err(), "{state:?} {info:?}");
        }
    }
}
