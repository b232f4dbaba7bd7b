//! tgt: who may log in to a target, and who has, as `tgtadm --op show --mode target` prints it. Pure.
//!
//! A name that is bound may log in; an address that is bound lets in everybody who comes from there, whatever their name. Where
//! nothing is bound nobody may. A name that was taken away leaves a trace among the bound ones, under which nobody logs in.

use palisade_ladder::Reading;

use super::point::{Names, is_name};

/// Without the LUNs, of which a target may have more than an answer holds.
const SHOW: &str = "shown=$(tgtadm --lld iscsi --op show --mode target) || return $?\n\
     printf '%s\\n' \"$shown\" | awk '/^Target / || /^    [^ ]/ { lun = ($0 == \"    LUN information:\") } !lun'";
/// Before the name of an initiator that was cut off.
const TRACE: &str = "palisade-cut:";

/// What one initiator may do at one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// The target's number.
    target: u32,
    bound: bool,
    traced: bool,
    /// Bound entries that let in whoever comes from somewhere.
    addresses: Vec<String>,
    /// Its sessions, each with its connections.
    sessions: Vec<(u64, Vec<u32>)>,
}

impl Rights {
    /// SAFE-4: off only if it was known here, has no right and no session, and nobody is let in without a name.
    pub(super) fn reading(&self) -> Reading {
        match (self.bound, self.traced) {
            (true, _) => Reading::On,
            (false, true) if self.sessions.is_empty() && self.addresses.is_empty() => Reading::Off,
            (false, true | false) => Reading::Unknown,
        }
    }

    pub(super) fn hindrance(&self, names: &Names) -> Option<String> {
        let Names { target, initiator } = names;
        if let Some(address) = self.addresses.first() {
            return Some(format!(
                "{target} lets in {address} whatever its name: bind the names of initiators there, and no address"
            ));
        }
        (!self.bound && !self.traced)
            .then(|| format!("{target} knows no initiator {initiator}: bind its name there"))
    }

    /// First no new session, then none at all.
    pub(super) fn cut(&self, names: &Names) -> String {
        let (target, initiator) = (self.target, &names.initiator);
        let mut lines = Vec::new();
        if !self.traced {
            lines.push(format!(
                "tgtadm --lld iscsi --op bind --mode target --tid {target} -Q {TRACE}{initiator}"
            ));
        }
        if self.bound {
            lines.push(format!("tgtadm --lld iscsi --op unbind --mode target --tid {target} -Q {initiator}"));
        }
        for (session, connections) in &self.sessions {
            lines.extend(connections.iter().map(|connection| {
                format!("tgtadm --lld iscsi --op delete --mode conn --tid {target} --sid {session} --cid {connection}")
            }));
        }
        lines.join(" &&\n")
    }

    pub(super) fn open(&self, names: &Names) -> String {
        let (target, initiator) = (self.target, &names.initiator);
        if !self.traced {
            return "echo 'nothing was taken from this initiator' >&2; return 1".to_owned();
        }
        format!(
            "tgtadm --lld iscsi --op bind --mode target --tid {target} -Q {initiator} &&\n\
             tgtadm --lld iscsi --op unbind --mode target --tid {target} -Q {TRACE}{initiator}"
        )
    }
}

pub(super) fn question() -> String {
    SHOW.to_owned()
}

/// Reads who may log in to the target, and who has. Fails with what is missing.
pub(super) fn read(answer: &str, names: &Names) -> Result<Rights, String> {
    let mut lines = answer.lines();
    let number = lines.by_ref().find_map(|line| {
        let (number, name) = line.strip_prefix("Target ")?.split_once(": ")?;
        (name == names.target).then(|| number.parse::<u32>().ok())
    });
    let target = number.ok_or_else(|| format!("tgtadm: no target {}", names.target))?;
    let target = target.ok_or_else(|| "tgtadm: a target without a number".to_owned())?;
    let mut rights =
        Rights { target, bound: false, traced: false, addresses: Vec::new(), sessions: Vec::new() };
    let (mut section, mut sections, mut session) = ("", Vec::new(), None);
    for line in lines.take_while(|line| !line.starts_with("Target ")) {
        let text = line.trim();
        if !line.starts_with("     ") {
            section = text;
            sections.push(text);
        } else if section == "ACL information:" {
            let trace = text.strip_prefix(TRACE);
            let is_its = |name: &str| name.eq_ignore_ascii_case(&names.initiator);
            rights.bound |= is_its(text);
            rights.traced |= trace.is_some_and(is_its);
            if !is_name(text) && trace.is_none() {
                rights.addresses.push(text.to_owned());
            }
        } else if section == "I_T nexus information:" {
            nexus(text, names, &mut session, &mut rights.sessions)?;
        }
    }
    // The ACL stands last: an answer that breaks off has none.
    for needed in ["I_T nexus information:", "ACL information:"] {
        if sections.iter().filter(|section| **section == needed).count() != 1 {
            return Err(format!("tgtadm: not one `{needed}` of {}", names.target));
        }
    }
    Ok(rights)
}

/// One line on the sessions; `session` is the one that is being told, and whether it is the initiator's.
fn nexus(
    line: &str,
    names: &Names,
    session: &mut Option<(u64, bool)>,
    sessions: &mut Vec<(u64, Vec<u32>)>,
) -> Result<(), String> {
    let strange = || format!("tgtadm: a session told as {line}");
    if let Some(number) = line.strip_prefix("I_T nexus: ") {
        *session = Some((number.parse().map_err(|_| strange())?, false));
    } else if let Some(rest) = line.strip_prefix("Initiator: ") {
        let name = rest.split_once(" alias:").map_or(rest, |(name, _)| name).trim();
        let Some((number, its)) = session else { return Err(strange()) };
        *its = name.eq_ignore_ascii_case(&names.initiator);
        if *its {
            sessions.push((*number, Vec::new()));
        }
    } else if let (Some(number), Some((_, true))) = (line.strip_prefix("Connection: "), *session) {
        let Some((_, connections)) = sessions.last_mut() else { return Err(strange()) };
        connections.push(number.parse().map_err(|_| strange())?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What tgtadm 1.0.85 prints, without the LUNs.
    fn shown(sessions: &str, acl: &[&str]) -> String {
        let acl: String = acl.iter().map(|entry| format!("        {entry}\n")).collect();
        let other = "Target 1: iqn.2026-01.example:other\n    I_T nexus information:\n    ACL information:\n        ALL\n";
        format!(
            "{other}Target 2: iqn.2026-01.example:store\n    System information:\n        Driver: iscsi\n        State: ready\n    I_T nexus information:\n\
             {sessions}    LUN information:\n        LUN: 0\n            Type: controller\n    Account information:\n    ACL information:\n{acl}"
        )
    }

    const SESSIONS: &str = "        I_T nexus: 7\n            Initiator: iqn.2026-01.example:c alias: none\n            Connection: 0\n                IP Address: 10.0.0.3\n\
                            \x20       I_T nexus: 8\n            Initiator: iqn.2026-01.example:b alias: none\n            Connection: 0\n                IP Address: 10.0.0.2\n\
                            \x20           Connection: 1\n                IP Address: 10.0.0.2\n";
    const B: &str = "iqn.2026-01.example:b";
    const CUT: &str = "palisade-cut:iqn.2026-01.example:b";

    fn names() -> Names {
        Names { target: "iqn.2026-01.example:store".to_owned(), initiator: B.to_owned() }
    }

    /// SAFE-4
    #[test]
    fn off_is_no_right_no_session_and_nobody_without_a_name() {
        let reading = |sessions: &str, acl: &[&str]| read(&shown(sessions, acl), &names()).unwrap().reading();
        assert_eq!(reading("", &[CUT]), Reading::Off);
        assert_eq!(reading("", &["iqn.2026-01.example:c", CUT]), Reading::Off);
        assert_eq!(reading("", &[B, CUT]), Reading::On);
        assert_eq!(reading(SESSIONS, &[B]), Reading::On);
        assert_eq!(reading(SESSIONS, &[CUT]), Reading::Unknown, "its session goes on");
        for (open, shown) in [(vec![CUT, "ALL"], "ALL"), (vec!["10.0.0.0/24", CUT], "10.0.0.0/24")] {
            assert_eq!(reading("", &open), Reading::Unknown);
            let hindrance = read(&self::shown("", &open), &names()).unwrap().hindrance(&names());
            assert!(hindrance.unwrap().contains(&format!("lets in {shown}")));
        }
        let unknown = read(&shown("", &["iqn.2026-01.example:c"]), &names()).unwrap();
        assert_eq!(unknown.reading(), Reading::Unknown, "a mistyped one was never cut off");
        assert!(unknown.hindrance(&names()).unwrap().contains("knows no initiator"));
        assert!(unknown.open(&names()).contains("return 1"));
    }

    #[test]
    fn its_own_connections_are_ended_after_its_right() {
        let script = read(&shown(SESSIONS, &[B, "iqn.2026-01.example:c"]), &names()).unwrap().cut(&names());
        let acts: Vec<&str> = script.lines().collect();
        assert_eq!(acts.len(), 4, "{script}");
        assert!(acts[0].contains(&format!("--op bind --mode target --tid 2 -Q {CUT}")));
        assert!(acts[1].contains(&format!("--op unbind --mode target --tid 2 -Q {B}")));
        assert!(acts[2].contains("--tid 2 --sid 8 --cid 0") && acts[3].contains("--tid 2 --sid 8 --cid 1"));
    }

    #[test]
    fn half_an_answer_is_none() {
        let whole = shown(SESSIONS, &[CUT]);
        assert!(read("", &names()).is_err());
        for (end, _) in whole.char_indices() {
            let read = read(&whole[..end], &names()).map(|rights| rights.reading());
            assert_ne!(read, Ok(Reading::Off), "{}", &whole[..end]);
        }
        for (from, to) in
            [("I_T nexus: 8", "I_T nexus: x"), ("Connection: 1", "Connection: x"), ("Target 2", "Target x")]
        {
            assert!(read(&whole.replacen(from, to, 1), &names()).is_err(), "{to}");
        }
    }
}
