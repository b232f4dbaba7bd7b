//! What a switch says of its ports: the objects of IF-MIB (RFC 2863), and what they mean for a fence. Pure.

use palisade_ladder::{Failure, Reading};

use super::ber::Oid;
use super::message::{Binding, Value, error_name, says_no_right};

/// ifAdminStatus, ifOperStatus, ifName, ifAlias: columns; a port's index follows.
const ADMIN: [u32; 10] = [1, 3, 6, 1, 2, 1, 2, 2, 1, 7];
const OPER: [u32; 10] = [1, 3, 6, 1, 2, 1, 2, 2, 1, 8];
const NAME: [u32; 11] = [1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 1];
const ALIAS: [u32; 11] = [1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 18];

/// ifAdminStatus.
pub(super) const UP: i64 = 1;
pub(super) const DOWN: i64 = 2;
/// ifOperStatus beside up and down; the last of those that RFC 2863 knows.
const NOT_PRESENT: i64 = 6;
const LOWER_LAYER_DOWN: i64 = 7;

/// One port as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    /// ifName, where the switch tells one.
    pub(super) name: Option<Vec<u8>>,
    /// ifAlias: what its operator calls it.
    pub(super) alias: Vec<u8>,
    /// What it is told to be.
    pub(super) admin: i64,
    /// What it is.
    pub(super) oper: i64,
}

impl Port {
    /// SAFE-4: off is only a port that is told to be closed and is. Both notPresent (its module is pulled) and lowerLayerDown are
    /// kinds of down (RFC 2863 section 3.1.14): no frame passes. On is a port that is told to be open, with a link or without: it
    /// is not cut, and what is opened for a host that is still off has no link before that host is up.
    pub(super) fn reading(&self) -> Reading {
        match (self.admin, self.oper) {
            (DOWN, DOWN | NOT_PRESENT | LOWER_LAYER_DOWN) => Reading::Off,
            (UP, UP..=LOWER_LAYER_DOWN) => Reading::On,
            // Told to be closed and not yet so; or a status that the standard does not know.
            (_, _) => Reading::Unknown,
        }
    }

    /// What is asked about the port with this index.
    pub(super) fn questions(index: u32) -> Vec<Binding> {
        let at = |column: &[u32]| (instance(column, index), Value::Null);
        vec![at(&NAME), at(&ALIAS), at(&ADMIN), at(&OPER)]
    }

    /// Reads the answer. `None`: there is no such port.
    pub(super) fn read(index: u32, answer: &[Binding]) -> Result<Option<Self>, Failure> {
        let garbage = |detail: &str| Failure::Garbage { detail: format!("SNMP: {detail}") };
        let told = |column: &[u32]| {
            let object = instance(column, index);
            let found = answer.iter().find(|(told, _)| *told == object);
            found.map(|(_, value)| value).ok_or_else(|| garbage("an answer about something else"))
        };
        let status = |column: &[u32]| match told(column)? {
            Value::Integer(status) => Ok(Some(*status)),
            Value::Absent => Ok(None),
            Value::Text(_) | Value::Null | Value::Other => Err(garbage("a port's status that is none")),
        };
        let text = |column: &[u32]| match told(column)? {
            Value::Text(text) => Ok(Some(text.clone())),
            Value::Absent => Ok(None),
            Value::Integer(_) | Value::Null | Value::Other => Err(garbage("a port's name that is none")),
        };
        let (Some(admin), Some(oper)) = (status(&ADMIN)?, status(&OPER)?) else { return Ok(None) };
        let Some(alias) = text(&ALIAS)? else {
            // SAFE-4: nothing else binds a port to its host.
            let code = format!("the switch tells no ifAlias of the port with index {index}");
            return Err(Failure::Refused { code });
        };
        Ok(Some(Self { name: text(&NAME)?, alias, admin, oper }))
    }
}

/// What opens or closes a port.
pub(super) fn order(index: u32, admin: i64) -> Vec<Binding> {
    vec![(instance(&ADMIN, index), Value::Integer(admin))]
}

/// A write that no switch can carry out: a text where a number belongs. Whether the login may write there is found out before the
/// type is looked at (RFC 3416 section 4.2.5).
pub(super) fn impossible_order(index: u32) -> Vec<Binding> {
    vec![(instance(&ADMIN, index), Value::Text(Vec::new()))]
}

/// Whether the answer to [`impossible_order`] says that the login may write. `None`: it does not say.
pub(super) fn may_write(status: i64) -> Option<bool> {
    match status {
        status if says_no_right(status) => Some(false),
        // badValue, wrongType, wrongLength, wrongEncoding, wrongValue
        3 | 7..=10 => Some(true),
        _ => None,
    }
}

/// Where a walk through the ports' names begins.
pub(super) fn names() -> Oid {
    NAME.to_vec()
}

/// Ports by index and name, and where a walk through them goes on; `None` at its end.
pub(super) type Step = (Vec<(u32, Vec<u8>)>, Option<Oid>);

/// One step of that walk.
pub(super) fn step(from: &Oid, answer: &[Binding]) -> Result<Step, Failure> {
    let mut ports = Vec::new();
    let mut last = from.clone();
    for (object, value) in answer {
        let Some([index]) = object.strip_prefix(&NAME) else { return Ok((ports, None)) };
        match value {
            Value::Absent => return Ok((ports, None)),
            Value::Text(name) => ports.push((*index, name.clone())),
            Value::Integer(_) | Value::Null | Value::Other => {}
        }
        if *object <= last {
            // Walked on, it would never end.
            return Err(Failure::Garbage { detail: "SNMP: ports that do not follow one another".to_owned() });
        }
        last.clone_from(object);
    }
    let next = (last != *from).then_some(last);
    Ok((ports, next))
}

/// What an error says of an order. With more than one copy of it on its way nothing says that none was carried out.
pub(super) fn refusal(status: i64, copies: u32) -> Failure {
    let name = error_name(status);
    if copies > 1 || matches!(status, 5 | 14 | 15) {
        // genErr, commitFailed, undoFailed
        return Failure::Garbage { detail: format!("SNMP: {name}; it may have been done all the same") };
    }
    match says_no_right(status) {
        true => Failure::PrivilegeTooLow { detail: format!("the login may not set ifAdminStatus: {name}") },
        false => Failure::Refused { code: name.to_owned() },
    }
}

fn instance(column: &[u32], index: u32) -> Oid {
    column.iter().copied().chain([index]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(admin: i64, oper: i64) -> Port {
        Port { name: None, alias: b"b".to_vec(), admin, oper }
    }

    /// SAFE-4
    #[test]
    fn a_port_is_off_only_if_it_is_told_so_and_is_so_and_on_whenever_it_is_told_to_be_open() {
        for oper in 0..=9 {
            let off = matches!(oper, 2 | 6 | 7);
            assert_eq!(port(2, oper).reading() == Reading::Off, off, "admin down, oper {oper}");
            let on = if (1..=7).contains(&oper) { Reading::On } else { Reading::Unknown };
            assert_eq!(port(1, oper).reading(), on, "admin up, oper {oper}");
            for admin in [0, 3, 4, -1] {
                assert_eq!(port(admin, oper).reading(), Reading::Unknown, "admin {admin}, oper {oper}");
            }
        }
    }

    #[test]
    fn an_answer_about_another_port_is_none_and_a_port_without_alias_is_no_device() {
        let mut answer = Port::questions(7);
        answer[0].1 = Value::Text(b"Gi1/0/7".to_vec());
        answer[1].1 = Value::Text(b"b".to_vec());
        answer[2].1 = Value::Integer(2);
        answer[3].1 = Value::Integer(1);
        let read = Port::read(7, &answer).unwrap().unwrap();
        assert_eq!(read, Port { name: Some(b"Gi1/0/7".to_vec()), ..port(2, 1) });
        assert!(matches!(Port::read(8, &answer), Err(Failure::Garbage { .. })));
        answer[3].1 = Value::Absent;
        assert_eq!(Port::read(7, &answer), Ok(None));
        answer[3].1 = Value::Text(Vec::new());
        assert!(matches!(Port::read(7, &answer), Err(Failure::Garbage { .. })));
        answer[3].1 = Value::Integer(1);
        answer[1].1 = Value::Absent;
        assert!(matches!(Port::read(7, &answer), Err(Failure::Refused { .. })));
    }

    #[test]
    fn a_walk_ends_with_the_column_and_never_goes_in_circles() {
        let name = |index: u32| (instance(&NAME, index), Value::Text(vec![u8::try_from(index).unwrap()]));
        let (ports, next) = step(&names(), &[name(1), name(5)]).unwrap();
        assert_eq!((ports.len(), next), (2, Some(instance(&NAME, 5))));
        let other = (instance(&ALIAS, 1), Value::Text(Vec::new()));
        assert_eq!(step(&names(), &[name(1), other]).unwrap(), (vec![(1, vec![1])], None));
        assert_eq!(step(&names(), &[]).unwrap(), (Vec::new(), None));
        assert!(step(&names(), &[name(5), name(1)]).is_err());
        assert!(step(&instance(&NAME, 5), &[name(5)]).is_err());
    }

    #[test]
    fn an_error_says_that_nothing_was_done_only_where_the_standard_says_so() {
        assert!(matches!(refusal(16, 1), Failure::PrivilegeTooLow { .. }));
        assert!(matches!(refusal(10, 1), Failure::Refused { .. }));
        for (status, copies) in [(5, 1), (14, 1), (15, 1), (16, 2), (10, 2)] {
            assert!(matches!(refusal(status, copies), Failure::Garbage { .. }), "{status}, {copies} copies");
        }
    }
}
