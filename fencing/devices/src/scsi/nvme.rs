//! What is said to an NVMe namespace and what it answers, as bytes. Pure.
//!
//! NVM Express Base Specification 2.0: 7.2 Reservation Acquire, 7.3 Reservation Register, 7.5 Reservation Report, 8.19
//! Reservations, 5.17 Identify, 5.15 Get Features, 5.27.1 (Host Identifier), 3.3.3.2 Status Field; NVM Command Set Specification
//! 1.0: 4.1.5.1 Identify Namespace. Numbers are little-endian.
//!
//! A registration is a host's, known by its Host Identifier, and not a path's: by whichever controller it comes, it has one key.

use std::time::Duration;

use palisade_ladder::Failure;

use super::key::Key;
use super::meaning::{
    Capabilities, HostIdentifier, Look, Out, Registrant, Reservation, Verdict, garbage, hex, uuid,
};

/// More controllers than 32 hosts have with 7 each. A report that is longer is not read in part: it proves nothing.
const CONTROLLERS_MAX: usize = 255;
/// Of a report, and of each entry (7.5, the extended data structures).
const HEADER_BYTES: usize = 64;
const ENTRY_BYTES: usize = 64;
/// Of an Identify data structure.
const IDENTIFY_BYTES: usize = 4096;
/// Write Exclusive - Registrants Only (7.2, Reservation Type).
const WERO: u8 = 3;
/// Of Get Features (5.27.1).
const HOST_IDENTIFIER: u32 = 0x81;
/// Status Field: Do Not Retry.
const DNR: u16 = 0x4000;

/// Which commands a command is one of: opcodes mean different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Of the controller.
    Admin,
    /// Of the namespace.
    Io,
}

/// One command for one path of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NvmeRequest {
    /// Where it goes.
    pub queue: Queue,
    /// What it is.
    pub opcode: u8,
    /// Whether it is about this namespace.
    pub of_namespace: bool,
    /// Command Dwords 10 and 11.
    pub dwords: [u32; 2],
    /// What goes out with it.
    pub out: Vec<u8>,
    /// As many bytes come back.
    pub expect: usize,
    /// When to give up.
    pub within: Duration,
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NvmeReply {
    /// The Status Field without its phase tag.
    pub status: u16,
    /// As long as was asked for; what was not transferred is zeros.
    pub data: Vec<u8>,
}

/// A command that changes something.
pub(super) fn order(out: Out, within: Duration) -> NvmeRequest {
    let (opcode, dword, keys) = match out {
        Out::Register { key, instead_of, persist } => {
            // The key that it has is compared: never does one host take over what another by its identifier has registered.
            let (action, current) = match instead_of {
                None => (0, [0; 8]),
                Some(before) => (2, before.to_le_bytes()),
            };
            let cptpl = if persist { 0b11 << 30 } else { 0 };
            (0x0d, action | cptpl, [current, key.to_le_bytes()])
        }
        Out::Reserve { key } => (0x11, u32::from(WERO) << 8, [key.to_le_bytes(), [0; 8]]),
        Out::PreemptAndAbort { key, victim } => {
            (0x11, 2 | u32::from(WERO) << 8, [key.to_le_bytes(), victim.to_le_bytes()])
        }
    };
    NvmeRequest {
        queue: Queue::Io,
        opcode,
        of_namespace: true,
        dwords: [dword, 0],
        out: keys.concat(),
        expect: 0,
        within,
    }
}

pub(super) const fn name_of(out: Out) -> &'static str {
    match out {
        Out::Register { instead_of: None, .. } => "Reservation Register",
        Out::Register { instead_of: Some(_), .. } => "Reservation Register (replace)",
        Out::Reserve { .. } => "Reservation Acquire",
        Out::PreemptAndAbort { .. } => "Reservation Acquire (preempt and abort)",
    }
}

/// What is asked without changing anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Controller,
    Namespace,
    /// By which names the world knows the namespace, UUID included (since NVMe 1.3).
    Descriptors,
    HostIdentifier,
    Report,
}

impl Question {
    pub(super) fn request(self, within: Duration) -> NvmeRequest {
        let ask = |opcode, of_namespace, dwords, expect| NvmeRequest {
            queue: Queue::Admin,
            opcode,
            of_namespace,
            dwords,
            out: Vec::new(),
            expect,
            within,
        };
        match self {
            Self::Controller => ask(0x06, false, [0x01, 0], IDENTIFY_BYTES),
            Self::Namespace => ask(0x06, true, [0x00, 0], IDENTIFY_BYTES),
            Self::Descriptors => ask(0x06, true, [0x03, 0], IDENTIFY_BYTES),
            // EXHID: all 128 bits.
            Self::HostIdentifier => ask(0x0a, false, [HOST_IDENTIFIER, 1], 16),
            Self::Report => {
                let bytes = HEADER_BYTES + CONTROLLERS_MAX * ENTRY_BYTES;
                // Dwords, counted from zero; EDS: Host Identifiers of 128 bits.
                let dwords = [bytes as u32 / 4 - 1, 1];
                NvmeRequest { queue: Queue::Io, ..ask(0x0e, true, dwords, bytes) }
            }
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Controller => "Identify Controller",
            Self::Namespace => "Identify Namespace",
            Self::Descriptors => "Identify (Namespace Identification Descriptors)",
            Self::HostIdentifier => "Get Features (Host Identifier)",
            Self::Report => "Reservation Report",
        }
    }
}

pub(super) fn verdict(status: u16) -> Verdict {
    let (kind, code) = (status >> 8 & 0x7, status & 0xff);
    let named = |name: &str| format!("{name} (status {kind:x}h/{code:02x}h)");
    match (kind, code) {
        (0x0, 0x00) => Verdict::Done,
        (0x0, 0x83) => Verdict::Conflict,
        // Command Interrupted, Namespace Not Ready.
        (0x0, 0x21 | 0x82) if status & DNR == 0 => Verdict::Again,
        (0x0, 0x07 | 0x08) => Verdict::Lost(named("Command Aborted")),
        (0x0, 0x22) => Verdict::Lost(named("Transient Transport Error")),
        // Path Related Status.
        (0x3, 0x01..=0x03) => Verdict::Lost(named("the path's Asymmetric Access State keeps it out")),
        (0x3, 0x70) => Verdict::Lost(named("Host Pathing Error")),
        (0x3, 0x71) => Verdict::Lost(named("Command Aborted By Host")),
        (0x3, _) => Verdict::Lost(named("the path failed")),
        (0x0, 0x01) => Verdict::Refused(named("Invalid Command Opcode: reservations are not done here")),
        (0x0, 0x02) => Verdict::Refused(named("Invalid Field in Command")),
        (0x0, 0x0b) => Verdict::Refused(named("Invalid Namespace or Format")),
        (0x0, 0x15) => Verdict::Refused(named("Operation Denied")),
        (0x0, 0x18) => Verdict::Refused(named(
            "Host Identifier Inconsistent Format: this host has none of 128 bits there, and needs one",
        )),
        (0x0, 0x20) => Verdict::Refused(named("Namespace is Write Protected")),
        (0x0, _) => Verdict::Refused(named("a generic status")),
        (0x1, _) => Verdict::Refused(named("a status of this command")),
        (_, _) => Verdict::Refused(named("a status")),
    }
}

/// Reservation Report in its extended form: who is registered, and what stands.
pub(super) fn report(data: &[u8]) -> Result<Look, Failure> {
    let wrong = |what: String| garbage(format!("{}: {what}", Question::Report.name()));
    let Some((header, rest)) = data.split_first_chunk::<HEADER_BYTES>() else {
        return Err(wrong(format!("{} bytes, no header", data.len())));
    };
    let [_, _, _, _, kind, low, high, ..] = *header;
    let count = usize::from(u16::from_le_bytes([low, high]));
    let Some(list) = rest.get(..count * ENTRY_BYTES) else {
        return Err(wrong(format!("{count} controllers announced, {} bytes came for them", rest.len())));
    };
    let mut registrants = Vec::with_capacity(count);
    let mut holder = None;
    for entry in list.chunks_exact(ENTRY_BYTES) {
        let at = |index: usize| entry.get(index).copied().unwrap_or_default();
        let key = Key::from_le_bytes(core::array::from_fn(|byte| at(8 + byte)));
        let host = HostIdentifier(core::array::from_fn(|byte| at(16 + byte)));
        // SAFE-4: nobody is told how much was transferred. An entry of zeros is one that did not come, and could be the victim's.
        if host.is_unset() {
            return Err(wrong(format!("{count} controllers announced, one of them of no host")));
        }
        if at(2) & 0x01 != 0 {
            holder = Some(key);
        }
        registrants.push(Registrant { key, host: Some(host) });
    }
    let reservation = match (kind, holder) {
        (0, _) => Reservation::None,
        (WERO, Some(holder)) => Reservation::Ours { holder },
        (WERO, None) => return Err(wrong("a reservation that nobody holds".into())),
        (kind, _) => Reservation::Other { kind },
    };
    Ok(Look { registrants, reservation })
}

/// Whether a controller does reservations at all (Identify Controller, ONCS).
pub(super) fn reserves(controller: &[u8]) -> Result<bool, Failure> {
    match controller.get(520) {
        Some(oncs) => Ok(oncs & 0x20 != 0),
        None => Err(short(Question::Controller, controller)),
    }
}

/// What a namespace can do (Identify Namespace, RESCAP); `None` if no reservation at all.
pub(super) fn capabilities(namespace: &[u8]) -> Result<Option<Capabilities>, Failure> {
    let Some(rescap) = namespace.get(31) else { return Err(short(Question::Namespace, namespace)) };
    // Bits 1 to 6 are the kinds.
    if rescap & 0x7e == 0 {
        return Ok(None);
    }
    Ok(Some(Capabilities { persists: rescap & 0x01 != 0, wero: Some(rescap & 0x08 != 0) }))
}

/// The names that an Identify Namespace data structure has: NGUID and EUI64.
pub(super) fn names(namespace: &[u8]) -> Result<Vec<String>, Failure> {
    let (Some(nguid), Some(eui64)) = (namespace.get(104..120), namespace.get(120..128)) else {
        return Err(short(Question::Namespace, namespace));
    };
    let set = |name: &&[u8]| name.iter().any(|byte| *byte != 0);
    Ok([nguid, eui64].into_iter().filter(set).map(|name| format!("eui.{}", hex(name))).collect())
}

/// The names in a list of Namespace Identification Descriptors (Identify, CNS 03h).
pub(super) fn described(list: &[u8]) -> Result<Vec<String>, Failure> {
    if list.is_empty() {
        return Err(short(Question::Descriptors, list));
    }
    let (mut rest, mut names) = (list, Vec::new());
    while let Some(([kind, length, _, _], tail)) = rest.split_first_chunk::<4>() {
        let Some((name, next)) = tail.split_at_checked(usize::from(*length)) else { break };
        match (kind, <&[u8; 16]>::try_from(name)) {
            // It ends with an empty one.
            (0, _) => break,
            (1 | 2, _) => names.push(format!("eui.{}", hex(name))),
            (3, Ok(name)) => names.push(format!("uuid.{}", uuid(name))),
            (_, _) => {}
        }
        rest = next;
    }
    Ok(names)
}

/// Who this host is to the controller; `None` if it never said so.
pub(super) fn host_identifier(data: &[u8]) -> Result<Option<HostIdentifier>, Failure> {
    let Some(bytes) = data.first_chunk::<16>() else { return Err(short(Question::HostIdentifier, data)) };
    Ok(Some(HostIdentifier(*bytes)).filter(|host| !host.is_unset()))
}

fn short(question: Question, data: &[u8]) -> Failure {
    garbage(format!("{}: {} bytes", question.name(), data.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(1);
    const MINE: Key = Key([1, 2, 3, 4, 5, 6, 7, 8]);
    const MINE_LE: [u8; 8] = [8, 7, 6, 5, 4, 3, 2, 1];

    /// NVM Express Base Specification 2.0, 7.2 and 7.3; never to be edited.
    #[test]
    fn golden_orders() {
        let said = |out: Out| {
            let request = order(out, WITHIN);
            assert!(request.queue == Queue::Io && request.of_namespace && request.dwords[1] == 0);
            (request.opcode, request.dwords[0], request.out)
        };
        let theirs = Key([9, 9, 9, 9, 9, 9, 9, 1]);
        let (none, theirs_le) = ([0; 8], [1, 9, 9, 9, 9, 9, 9, 9]);
        let register = |instead_of, persist| said(Out::Register { key: MINE, instead_of, persist });
        assert_eq!(register(None, false), (0x0d, 0x0000_0000, [none, MINE_LE].concat()));
        assert_eq!(register(None, true), (0x0d, 0xc000_0000, [none, MINE_LE].concat()));
        assert_eq!(register(Some(theirs), true), (0x0d, 0xc000_0002, [theirs_le, MINE_LE].concat()));
        assert_eq!(said(Out::Reserve { key: MINE }), (0x11, 0x0300, [MINE_LE, none].concat()));
        assert_eq!(
            said(Out::PreemptAndAbort { key: MINE, victim: theirs }),
            (0x11, 0x0302, [MINE_LE, theirs_le].concat())
        );
    }

    /// As above, 5.15, 5.17 and 7.5.
    #[test]
    fn golden_questions() {
        let asked = |question: Question| {
            let request = question.request(WITHIN);
            assert!(request.out.is_empty());
            (request.queue, request.opcode, request.of_namespace, request.dwords, request.expect)
        };
        assert_eq!(asked(Question::Controller), (Queue::Admin, 0x06, false, [1, 0], 4096));
        assert_eq!(asked(Question::Namespace), (Queue::Admin, 0x06, true, [0, 0], 4096));
        assert_eq!(asked(Question::Descriptors), (Queue::Admin, 0x06, true, [3, 0], 4096));
        assert_eq!(asked(Question::HostIdentifier), (Queue::Admin, 0x0a, false, [0x81, 1], 16));
        assert_eq!(asked(Question::Report), (Queue::Io, 0x0e, true, [4095, 1], 16384));
    }

    /// As Linux 7.3's target answered two registered hosts, the second of which holds the reservation.
    fn two_hosts() -> Vec<u8> {
        let mut data = vec![0; 16384];
        data[..7].copy_from_slice(&[6, 0, 0, 0, 3, 2, 0]);
        for (at, holds, key, host) in [(64, 0, 0xa2, 0x01), (128, 1, 0xb1, 0x02)] {
            data[at..at + 3].copy_from_slice(&[0xff, 0xff, holds]);
            data[at + 8] = key;
            data[at + 16..at + 32].copy_from_slice(&[
                0x11, 0x11, 0x11, 0x11, 0x22, 0x22, 0x43, 0x33, 0x84, 0x44, 0x55, 0x55, 0x55, 0x55, 0x55,
                host,
            ]);
        }
        data
    }

    #[test]
    fn a_report_tells_who_is_registered_and_what_stands() {
        let look = report(&two_hosts()).unwrap();
        let [first, second] = look.registrants[..] else { panic!("{look:?}") };
        assert_eq!(
            (first.key, second.key),
            (Key([0, 0, 0, 0, 0, 0, 0, 0xa2]), Key([0, 0, 0, 0, 0, 0, 0, 0xb1]))
        );
        assert_eq!(first.host.unwrap().to_string(), "11111111-2222-4333-8444-555555555501");
        assert_eq!(look.reservation, Reservation::Ours { holder: second.key });
        let of_kind = |kind: u8| {
            let mut data = two_hosts();
            data[4] = kind;
            report(&data).unwrap().reservation
        };
        assert_eq!(of_kind(0), Reservation::None);
        for kind in [1, 2, 4, 5, 6, 7, 255] {
            assert_eq!(of_kind(kind), Reservation::Other { kind });
        }
        assert_eq!(report(&[0; 64]).unwrap(), Look { registrants: vec![], reservation: Reservation::None });
    }

    /// SAFE-4: a report that did not come whole must not look like one without the victim's key.
    #[test]
    fn a_report_comes_whole_or_not_at_all() {
        let whole = two_hosts();
        for length in [0, 7, 63, 64, 191] {
            assert!(matches!(report(&whole[..length]), Err(Failure::Garbage { .. })), "{length} bytes");
        }
        // What was not transferred is zeros to whoever asked.
        for length in [65, 100, 128, 129, 140, 144] {
            let mut cut = whole.clone();
            cut[length..].fill(0);
            let read = report(&cut);
            assert!(matches!(read, Err(Failure::Garbage { .. })), "{length} bytes transferred: {read:?}");
        }
        let mut unheld = whole;
        unheld[130] = 0;
        assert!(matches!(report(&unheld), Err(Failure::Garbage { .. })), "no entry says that it holds");
    }

    #[test]
    fn a_status_is_told_by_its_name() {
        assert_eq!(verdict(0), Verdict::Done);
        assert_eq!(verdict(0x4083), Verdict::Conflict, "with Do Not Retry, as Linux's target says it");
        assert_eq!(verdict(0x2083), Verdict::Conflict, "with More");
        assert_eq!((verdict(0x82), verdict(0x21)), (Verdict::Again, Verdict::Again));
        let words = |status| match verdict(status) {
            Verdict::Refused(words) => format!("refused: {words}"),
            Verdict::Lost(words) => format!("lost: {words}"),
            other @ (Verdict::Done | Verdict::Again | Verdict::Conflict) => format!("{other:?}"),
        };
        for (status, want) in [
            (0x4001, "refused: Invalid Command Opcode: reservations are not done here (status 0h/01h)"),
            (0x4018, "refused: Host Identifier Inconsistent Format"),
            (0x4015, "refused: Operation Denied"),
            (0x4082, "refused: a generic status (status 0h/82h)"),
            (0x4183, "refused: a status of this command (status 1h/83h)"),
            (0x0783, "refused: a status (status 7h/83h)"),
            (0x0370, "lost: Host Pathing Error"),
            (0x0371, "lost: Command Aborted By Host"),
            (0x0302, "lost: the path's Asymmetric Access State"),
            (0x0007, "lost: Command Aborted"),
        ] {
            assert!(words(status).starts_with(want), "{status:x}h: {}", words(status));
        }
    }

    #[test]
    fn names_are_the_namespaces_own() {
        let mut namespace = vec![0; 4096];
        assert_eq!(names(&namespace).unwrap(), Vec::<String>::new());
        namespace[104..120].copy_from_slice(&[0x6e; 16]);
        namespace[120..128].copy_from_slice(&[0, 0x25, 0x38, 0x5b, 0x71, 0xb0, 0x0f, 0]);
        assert_eq!(
            names(&namespace).unwrap(),
            [format!("eui.{}", "6e".repeat(16)), "eui.0025385b71b00f00".into()]
        );
        let uuid =
            [0xe6, 0x3a, 0xd6, 0x39, 0xd3, 0x98, 0x4b, 0xb1, 0x9c, 0xb4, 0x8f, 0x7a, 0xbb, 0x3e, 0x69, 0x10];
        let list = [&[3, 16, 0, 0][..], &uuid, &[4, 1, 0, 0, 0], &[1, 8, 0, 0], &[7; 8], &[0; 4000]].concat();
        assert_eq!(
            described(&list).unwrap(),
            ["uuid.e63ad639-d398-4bb1-9cb4-8f7abb3e6910", "eui.0707070707070707"]
        );
        assert_eq!(described(&[3, 200, 0, 0, 1]).unwrap(), Vec::<String>::new(), "cut short");
        assert!(described(&[]).is_err() && names(&[0; 127]).is_err());
    }

    #[test]
    fn who_does_no_reservations_says_so() {
        let (mut controller, mut namespace) = (vec![0; 4096], vec![0; 4096]);
        // What Linux's target says: Write Zeroes, Dataset Management, and Reservations.
        controller[520] = 0x2c;
        assert!(reserves(&controller).unwrap());
        controller[520] = 0x0c;
        assert!(!reserves(&controller).unwrap() && reserves(&controller[..520]).is_err());
        for (rescap, want) in [
            (0x00, None),
            (0x81, None),
            (0xfe, Some(Capabilities { persists: false, wero: Some(true) })),
            (0x09, Some(Capabilities { persists: true, wero: Some(true) })),
            (0x77, Some(Capabilities { persists: true, wero: Some(false) })),
        ] {
            namespace[31] = rescap;
            assert_eq!(capabilities(&namespace).unwrap(), want, "{rescap:02x}h");
        }
        assert!(capabilities(&namespace[..31]).is_err());
        assert_eq!(host_identifier(&[0; 16]).unwrap(), None, "never set");
        assert_eq!(host_identifier(&[7; 16]).unwrap(), Some(HostIdentifier([7; 16])));
        assert!(host_identifier(&[7; 8]).is_err(), "one of 64 bits");
    }
}
