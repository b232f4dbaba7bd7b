//! What a Redfish service says, read. Unknown members are passed over; a member of the wrong shape is an error with its name.

use palisade_ladder::{Failure, Identity, Reading};
use serde::Deserialize;

use crate::text::clean;

/// The longest path that is followed.
const PATH_LEN_MAX: usize = 512;

/// A path on the same service: absolute, and nothing that HTTP could read otherwise.
pub(super) fn is_path(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"#\\<>?".contains(&byte);
    text.starts_with('/') && !text.starts_with("//") && text.len() <= PATH_LEN_MAX && text.bytes().all(plain)
}

/// One step from a resource to another.
#[derive(Debug, Deserialize)]
pub(super) struct Link {
    #[serde(rename = "@odata.id")]
    pub(super) id: String,
}

/// The service root, as far as it is needed.
#[derive(Debug, Deserialize)]
pub(super) struct Root {
    #[serde(rename = "Systems")]
    pub(super) systems: Option<Link>,
    #[serde(rename = "Links")]
    pub(super) links: Option<RootLinks>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct RootLinks {
    #[serde(rename = "Sessions")]
    pub(super) sessions: Option<Link>,
}

/// A collection's members.
#[derive(Debug, Deserialize)]
pub(super) struct Collection {
    #[serde(rename = "Members")]
    pub(super) members: Vec<Link>,
}

#[derive(Debug, Deserialize)]
struct RawSystem {
    #[serde(rename = "UUID")]
    uuid: Option<String>,
    #[serde(rename = "PowerState")]
    power: Option<String>,
    #[serde(rename = "Actions")]
    actions: Option<RawActions>,
}

#[derive(Debug, Default, Deserialize)]
struct RawActions {
    #[serde(rename = "#ComputerSystem.Reset")]
    reset: Option<RawReset>,
}

#[derive(Debug, Deserialize)]
struct RawReset {
    target: String,
    #[serde(rename = "ResetType@Redfish.AllowableValues")]
    allowed: Option<Vec<String>>,
}

/// A ComputerSystem, as far as a fence needs it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct System {
    /// 32 lower-case hexadecimal digits; empty if the service tells none.
    pub(super) uuid: Identity,
    pub(super) power: Reading,
    pub(super) reset: Option<Reset>,
}

/// How the system is switched.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reset {
    pub(super) target: String,
    /// `None`: the service does not say.
    pub(super) allowed: Option<Vec<String>>,
}

impl Reset {
    pub(super) fn allows(&self, reset_type: &str) -> bool {
        self.allowed.as_ref().is_none_or(|allowed| allowed.iter().any(|one| one == reset_type))
    }
}

impl System {
    pub(super) fn parse(body: &[u8]) -> Result<Self, String> {
        let raw: RawSystem = read("ComputerSystem", body)?;
        let reset = match raw.actions.and_then(|actions| actions.reset) {
            Some(reset) if !is_path(&reset.target) => {
                return Err(format!("ComputerSystem: {} is no path on this service", clean(&reset.target)));
            }
            Some(RawReset { target, allowed }) => Some(Reset { target, allowed }),
            None => None,
        };
        let uuid = raw.uuid.unwrap_or_default().replace('-', "").to_ascii_lowercase();
        // DSP8010, ComputerSystem.PowerState: On, Off, PoweringOn, PoweringOff, Paused, or null. Only two of them are certain.
        let power = match raw.power.as_deref() {
            Some("On") => Reading::On,
            Some("Off") => Reading::Off,
            Some(_) | None => Reading::Unknown,
        };
        Ok(Self { uuid: Identity(clean(&uuid)), power, reset })
    }
}

/// A JSON body of this kind. All of it is UTF-8 (RFC 8259 section 8.1), also what is passed over.
pub(super) fn read<'b, T: Deserialize<'b>>(what: &str, body: &'b [u8]) -> Result<T, String> {
    let text = core::str::from_utf8(body).map_err(|error| format!("{what}: {error}"))?;
    serde_json::from_str(text).map_err(|error| format!("{what}: {error}"))
}

#[derive(Deserialize)]
struct ErrorBody {
    error: Error,
}

#[derive(Deserialize)]
struct Error {
    code: Option<String>,
    message: Option<String>,
    #[serde(rename = "@Message.ExtendedInfo", default)]
    extended: Vec<Extended>,
}

#[derive(Deserialize)]
struct Extended {
    #[serde(rename = "Message")]
    message: Option<String>,
    #[serde(rename = "MessageId")]
    id: Option<String>,
}

/// The service's own words about an error (DSP0266 section 8.6), for people.
pub(super) fn error_words(body: &[u8]) -> Option<String> {
    let ErrorBody { error } = serde_json::from_slice(body).ok()?;
    let first = error.extended.into_iter().next();
    let words = first.and_then(|first| first.message.or(first.id)).or(error.message)?;
    Some(clean(&words))
}

/// Which message of a registry an error is, such as `Base.1.16.SessionLimitExceeded`.
pub(super) fn error_id(body: &[u8]) -> Option<String> {
    let ErrorBody { error } = serde_json::from_slice(body).ok()?;
    error.extended.into_iter().find_map(|info| info.id).or(error.code)
}

/// Where a link leads, if it leads to this service.
pub(super) fn path_of(what: &str, link: Option<Link>) -> Result<String, Failure> {
    match link {
        Some(link) if is_path(&link.id) => Ok(link.id),
        Some(link) => Err(Failure::Garbage {
            detail: format!("{what}: {} is no path on this service", clean(&link.id)),
        }),
        None => Err(Failure::Garbage { detail: format!("the service root links to no {what}") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::WORDS_MAX;

    fn system(power: &str, uuid: &str, actions: &str) -> Result<System, String> {
        System::parse(
            format!("{{\"UUID\": {uuid}, \"PowerState\": {power}, \"Actions\": {{{actions}}}}}").as_bytes(),
        )
    }

    #[test]
    fn only_on_and_off_are_certain() {
        let table = [
            ("\"On\"", Reading::On),
            ("\"Off\"", Reading::Off),
            ("\"off\"", Reading::Unknown),
            ("\"PoweringOff\"", Reading::Unknown),
            ("\"PoweringOn\"", Reading::Unknown),
            ("\"Paused\"", Reading::Unknown),
            ("null", Reading::Unknown),
        ];
        for (said, power) in table {
            assert_eq!(system(said, "null", "").unwrap().power, power, "{said}");
        }
        assert!(system("7", "null", "").is_err());
        assert!(System::parse(b"{\"PowerState\": \"Off\", \"Name\": \"\xff\"}").is_err());
    }

    #[test]
    fn a_uuid_is_compared_without_hyphens_and_case() {
        let uuid = "\"4C4C4544-0051-3510-8052-00000000000A\"";
        assert_eq!(system("\"On\"", uuid, "").unwrap().uuid.0, "4c4c454400513510805200000000000a");
        assert_eq!(system("\"On\"", "null", "").unwrap().uuid.0, "");
    }

    #[test]
    fn an_action_elsewhere_is_refused() {
        for target in ["http://other/x", "//other/x", "x", "", "/a b", "/a\\r\\nb", "/a?b", "/a#b"] {
            let action = format!("\"#ComputerSystem.Reset\": {{\"target\": \"{target}\"}}");
            assert!(system("\"On\"", "null", &action).is_err(), "{target}");
        }
        let action = "\"#ComputerSystem.Reset\": {\"target\": \"/redfish/v1/Systems/1/Actions/ComputerSystem.Reset\", \
                      \"ResetType@Redfish.AllowableValues\": [\"On\", \"GracefulShutdown\"]}";
        let reset = system("\"On\"", "null", action).unwrap().reset.unwrap();
        assert!(reset.allows("On") && !reset.allows("ForceOff"));
        let unsaid = Reset { allowed: None, ..reset };
        assert!(unsaid.allows("ForceOff"));
    }

    #[test]
    fn an_errors_words_are_short_and_harmless() {
        let body = format!(
            "{{\"error\": {{\"code\": \"x\", \"message\": \"general\", \"@Message.ExtendedInfo\": [{{\"Message\": \"no\\u001b[31m {}\"}}]}}}}",
            "x".repeat(900)
        );
        let words = error_words(body.as_bytes()).unwrap();
        assert!(words.starts_with("no [31m x") && words.chars().count() == WORDS_MAX, "{words}");
        assert_eq!(error_words(b"{\"error\": {\"message\": \"general\"}}").unwrap(), "general");
        assert_eq!(error_words(b"<html>"), None);
    }
}
