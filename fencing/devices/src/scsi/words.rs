//! What is said to a SCSI logical unit and what it answers, as bytes. Pure.
//!
//! Commands and parameter data: SPC-4 (INCITS 513), 6.15 PERSISTENT RESERVE IN, 6.16 PERSISTENT RESERVE OUT, 6.6 INQUIRY, 7.8.6 Device
//! Identification VPD page, 4.5 sense data.

use std::time::Duration;

use palisade_ladder::Failure;

use super::key::Key;
use super::meaning::{Capabilities, Out, Reservation, Verdict, garbage, hex};

/// More registrations than 32 hosts with 8 paths each have. A list that is longer is not read in part: it proves nothing.
const KEYS_MAX: usize = 512;
/// Write Exclusive - Registrants Only (SPC-4 table 52), logical unit scope.
const WERO: u8 = 5;
const GOOD: u8 = 0x00;
const CHECK_CONDITION: u8 = 0x02;
pub(super) const RESERVATION_CONFLICT: u8 = 0x18;

/// One command for one path of a logical unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The command descriptor block.
    pub cdb: Vec<u8>,
    /// What goes out with it.
    pub out: Vec<u8>,
    /// The most bytes that come back.
    pub expect: usize,
    /// For the initiator's own timer: when to give up.
    pub within: Duration,
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// SAM-5 status code.
    pub status: u8,
    /// Sense data, with a check condition.
    pub sense: Vec<u8>,
    /// As much as came.
    pub data: Vec<u8>,
}

impl Out {
    pub(super) fn request(self, within: Duration) -> Request {
        let (action, reservation, for_action, persist) = match self {
            Self::Register { key, instead_of: _, persist } => (0x06, [0; 8], key.0, persist),
            Self::Reserve { key } => (0x01, key.0, [0; 8], false),
            Self::PreemptAndAbort { key, victim } => (0x05, key.0, victim.0, false),
        };
        let mut out = Vec::with_capacity(24);
        out.extend(reservation);
        out.extend(for_action);
        out.extend([0, 0, 0, 0, u8::from(persist), 0, 0, 0]);
        Request { cdb: vec![0x5f, action, WERO, 0, 0, 0, 0, 0, 24, 0], out, expect: 0, within }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Register { .. } => "REGISTER AND IGNORE EXISTING KEY",
            Self::Reserve { .. } => "RESERVE",
            Self::PreemptAndAbort { .. } => "PREEMPT AND ABORT",
        }
    }
}

/// What is asked without changing anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum In {
    Keys,
    Reservation,
    Capabilities,
    Identification,
}

impl In {
    pub(super) fn request(self, within: Duration) -> Request {
        let expect: u16 = match self {
            Self::Keys => 8 + 8 * KEYS_MAX as u16,
            Self::Reservation => 24,
            Self::Capabilities => 8,
            Self::Identification => 1024,
        };
        let [high, low] = expect.to_be_bytes();
        let cdb = match self {
            Self::Keys => vec![0x5e, 0x00, 0, 0, 0, 0, 0, high, low, 0],
            Self::Reservation => vec![0x5e, 0x01, 0, 0, 0, 0, 0, high, low, 0],
            Self::Capabilities => vec![0x5e, 0x02, 0, 0, 0, 0, 0, high, low, 0],
            Self::Identification => vec![0x12, 0x01, 0x83, high, low, 0],
        };
        Request { cdb, out: Vec::new(), expect: usize::from(expect), within }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Keys => "READ KEYS",
            Self::Reservation => "READ RESERVATION",
            Self::Capabilities => "REPORT CAPABILITIES",
            Self::Identification => "INQUIRY of VPD page 83h",
        }
    }
}

pub(super) fn verdict(reply: &Reply) -> Verdict {
    match reply.status {
        GOOD => Verdict::Done,
        RESERVATION_CONFLICT => Verdict::Conflict,
        // BUSY, TASK SET FULL
        0x08 | 0x28 => Verdict::Again,
        CHECK_CONDITION => match sense(&reply.sense) {
            Some(Sense { key: 0x6, .. }) => Verdict::Again,
            Some(Sense { key: 0x5, code: (0x20, 0x00) }) => {
                Verdict::Refused("the logical unit does not know this command".into())
            }
            Some(Sense { key: 0x5, code: (0x24, 0x00) }) => {
                Verdict::Refused("the logical unit does not know this service action".into())
            }
            Some(Sense { key, code: (code, qualifier) }) => {
                Verdict::Refused(format!("sense key {key:x}h, {code:02x}h/{qualifier:02x}h"))
            }
            None => Verdict::Refused("a check condition without sense data".into()),
        },
        status => Verdict::Refused(format!("status {status:02x}h")),
    }
}

struct Sense {
    key: u8,
    /// Additional sense code and qualifier.
    code: (u8, u8),
}

fn sense(bytes: &[u8]) -> Option<Sense> {
    let at = |index: usize| bytes.get(index).copied();
    match at(0)? & 0x7f {
        0x70 | 0x71 => {
            Some(Sense { key: at(2)? & 0x0f, code: (at(12).unwrap_or_default(), at(13).unwrap_or_default()) })
        }
        0x72 | 0x73 => Some(Sense { key: at(1)? & 0x0f, code: (at(2)?, at(3)?) }),
        _ => None,
    }
}

/// READ KEYS: one entry for each registered path; a host with two paths has its key there twice.
pub(super) fn keys(data: &[u8]) -> Result<Vec<Key>, Failure> {
    let list = after_header(data, "READ KEYS")?;
    let keys = list.chunks_exact(8);
    if !keys.remainder().is_empty() {
        return Err(garbage("READ KEYS: half a key".into()));
    }
    Ok(keys.filter_map(|key| key.try_into().ok().map(Key)).collect())
}

pub(super) fn reservation(data: &[u8]) -> Result<Reservation, Failure> {
    let rest = after_header(data, "READ RESERVATION")?;
    if rest.is_empty() {
        return Ok(Reservation::None);
    }
    let (Some(holder), Some(kind)) = (rest.first_chunk::<8>(), rest.get(13)) else {
        return Err(garbage(format!("READ RESERVATION: {} bytes", rest.len())));
    };
    Ok(if *kind == WERO {
        Reservation::Ours { holder: Key(*holder) }
    } else {
        Reservation::Other { kind: *kind }
    })
}

/// Generation and length, then the list; whole, or nothing.
fn after_header<'a>(data: &'a [u8], what: &str) -> Result<&'a [u8], Failure> {
    let Some((header, rest)) = data.split_first_chunk::<8>() else {
        return Err(garbage(format!("{what}: {} bytes, no header", data.len())));
    };
    let [_, _, _, _, a, b, c, d] = *header;
    let length = u32::from_be_bytes([a, b, c, d]);
    usize::try_from(length)
        .ok()
        .and_then(|length| rest.get(..length))
        .ok_or_else(|| garbage(format!("{what}: {length} bytes announced, {} came", rest.len())))
}

pub(super) fn capabilities(data: &[u8]) -> Result<Capabilities, Failure> {
    let Some([_, _, flags, more, kinds, ..]) = data.first_chunk::<8>() else {
        return Err(garbage(format!("REPORT CAPABILITIES: {} bytes", data.len())));
    };
    let tells_kinds = more & 0x80 != 0;
    Ok(Capabilities { persists: flags & 0x01 != 0, wero: tells_kinds.then_some(kinds & 0x20 != 0) })
}

/// The names of the logical unit itself (not of its ports) that the world agrees on, such as `naa.60014051234...`.
pub(super) fn names(data: &[u8]) -> Result<Vec<String>, Failure> {
    let wrong = || garbage("VPD page 83h is not as SPC-4 7.8.6 has it".into());
    let (header, rest) = data.split_first_chunk::<4>().ok_or_else(wrong)?;
    let [_, page, high, low] = *header;
    if page != 0x83 {
        return Err(wrong());
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    // A page that was longer than what was asked for is read as far as it goes.
    let mut rest = rest.get(..length).unwrap_or(rest);
    let mut names = Vec::new();
    while let Some((head, tail)) = rest.split_first_chunk::<4>() {
        let [set, kind, _, length] = *head;
        let Some((name, next)) = tail.split_at_checked(usize::from(length)) else { break };
        let (binary, of_unit) = (set & 0x0f == 1, kind & 0x30 == 0);
        let prefix = match kind & 0x0f {
            0x2 => Some("eui."),
            0x3 => Some("naa."),
            _ => None,
        };
        if let Some(prefix) = prefix.filter(|_| binary && of_unit) {
            names.push(format!("{prefix}{}", hex(name)));
        }
        rest = next;
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(1);

    /// SPC-4 tables 206 and 211; never to be edited.
    #[test]
    fn golden_commands() {
        let (mine, theirs) = (Key([1, 2, 3, 4, 5, 6, 7, 8]), Key([9; 8]));
        let out = |out: Out| out.request(WITHIN);
        let register = out(Out::Register { key: mine, instead_of: None, persist: true });
        assert_eq!(register.cdb, [0x5f, 0x06, 0x05, 0, 0, 0, 0, 0, 24, 0]);
        assert_eq!(register.out, [0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 1, 0, 0, 0]);
        let reserve = out(Out::Reserve { key: mine });
        assert_eq!(reserve.cdb, [0x5f, 0x01, 0x05, 0, 0, 0, 0, 0, 24, 0]);
        assert_eq!(reserve.out, [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let preempt = out(Out::PreemptAndAbort { key: mine, victim: theirs });
        assert_eq!(preempt.cdb, [0x5f, 0x05, 0x05, 0, 0, 0, 0, 0, 24, 0]);
        assert_eq!(preempt.out, [1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9, 9, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0]);
        let read = |question: In| question.request(WITHIN).cdb;
        assert_eq!(read(In::Keys), [0x5e, 0, 0, 0, 0, 0, 0, 0x10, 0x08, 0]);
        assert_eq!(read(In::Reservation), [0x5e, 1, 0, 0, 0, 0, 0, 0, 24, 0]);
        assert_eq!(read(In::Capabilities), [0x5e, 2, 0, 0, 0, 0, 0, 0, 8, 0]);
        assert_eq!(read(In::Identification), [0x12, 1, 0x83, 4, 0, 0]);
    }

    /// SAFE-4: a list of keys that did not come whole must not look like one without the victim's.
    #[test]
    fn keys_come_whole_or_not_at_all() {
        let list = |announced: u8, keys: &[u8]| [&[0, 0, 0, 7, 0, 0, 0, announced], keys].concat();
        assert_eq!(keys(&list(0, &[])).unwrap(), []);
        assert_eq!(keys(&list(16, &[[1; 8], [2; 8]].concat())).unwrap(), [Key([1; 8]), Key([2; 8])]);
        assert_eq!(keys(&list(8, &[[1; 8], [0; 8]].concat())).unwrap(), [Key([1; 8])], "padding is none");
        for short in [list(16, &[1; 8]), list(12, &[1; 12]), list(8, &[]), vec![0; 7], Vec::new()] {
            assert!(matches!(keys(&short), Err(Failure::Garbage { .. })), "{short:?}");
        }
    }

    #[test]
    fn a_reservation_is_of_our_kind_of_another_or_none() {
        let of = |kind: u8| {
            let mut data = vec![0, 0, 0, 7, 0, 0, 0, 16, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0];
            if let Some(byte) = data.get_mut(21) {
                *byte = kind;
            }
            reservation(&data).unwrap()
        };
        assert_eq!(of(5), Reservation::Ours { holder: Key([1; 8]) });
        for kind in [0x01, 0x03, 0x06, 0x07, 0x08, 0x15] {
            assert_eq!(of(kind), Reservation::Other { kind });
        }
        assert_eq!(reservation(&[0, 0, 0, 7, 0, 0, 0, 0]).unwrap(), Reservation::None);
        assert!(reservation(&[0, 0, 0, 7, 0, 0, 0, 8, 1, 1, 1, 1, 1, 1, 1, 1]).is_err());
    }

    #[test]
    fn what_a_unit_answers_is_told_apart() {
        let checked = |sense: &[u8]| verdict(&Reply { status: 2, sense: sense.to_vec(), data: vec![] });
        let fixed = |key: u8, code: u8, qualifier: u8| {
            checked(&[0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, code, qualifier])
        };
        assert_eq!(verdict(&Reply::default()), Verdict::Done);
        assert_eq!(verdict(&Reply { status: 0x18, ..Reply::default() }), Verdict::Conflict);
        assert_eq!(verdict(&Reply { status: 0x08, ..Reply::default() }), Verdict::Again);
        // REGISTRATIONS PREEMPTED, in both formats.
        assert_eq!(fixed(6, 0x2a, 0x05), Verdict::Again);
        assert_eq!(checked(&[0x72, 6, 0x2a, 0x05]), Verdict::Again);
        let words = |verdict| match verdict {
            Verdict::Refused(words) => words,
            other @ (Verdict::Done | Verdict::Again | Verdict::Conflict | Verdict::Lost(_)) => {
                format!("{other:?}")
            }
        };
        assert!(words(fixed(5, 0x20, 0)).contains("does not know this command"));
        assert!(words(fixed(5, 0x24, 0)).contains("does not know this service action"));
        assert_eq!(words(fixed(5, 0x55, 0x04)), "sense key 5h, 55h/04h");
        assert!(words(checked(&[])).contains("without sense data"));
        assert_eq!(words(verdict(&Reply { status: 0x40, ..Reply::default() })), "status 40h");
    }

    #[test]
    fn names_are_the_logical_units_own() {
        let naa = [&[0x01, 0x03, 0, 8][..], &[0x60, 1, 0x40, 5, 0xaa, 0xbb, 0xcc, 0xdd]].concat();
        // Of its target port, and in text.
        let port = [&[0x61, 0x93, 0, 8][..], &[0x50, 1, 1, 1, 1, 1, 1, 1]].concat();
        let text = [&[0x02, 0x01, 0, 3][..], b"LIO"].concat();
        let body = [port, text, naa].concat();
        let page = [&[0, 0x83, 0, body.len() as u8][..], &body].concat();
        assert_eq!(names(&page).unwrap(), ["naa.60014005aabbccdd"]);
        assert_eq!(names(&[0, 0x83, 0, 0]).unwrap(), Vec::<String>::new());
        assert!(names(&[0, 0x80, 0, 0]).is_err() && names(&[0]).is_err());
        assert_eq!(names(&[0, 0x83, 0, 9, 1, 3, 0, 200, 1]).unwrap(), Vec::<String>::new(), "cut short");
    }

    #[test]
    fn capabilities_tell_whether_our_kind_can_be_done() {
        let of = |flags, more, kinds| capabilities(&[0, 8, flags, more, kinds, 1, 0, 0]).unwrap();
        assert_eq!(of(1, 0x80, 0x20), Capabilities { persists: true, wero: Some(true) });
        assert_eq!(of(0, 0x80, 0xca), Capabilities { persists: false, wero: Some(false) });
        assert_eq!(of(0x1c, 0, 0), Capabilities { persists: false, wero: None });
        assert!(capabilities(&[0, 8, 1]).is_err());
    }
}
