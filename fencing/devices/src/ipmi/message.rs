//! IPMI messages on a LAN (IPMI 2.0 section 13.8) and the few commands that fencing needs. Pure.
//!
//! `ipmi-rs-core` gives the message, the network functions, the completion codes and the trait [`IpmiCommand`]; it has no
//! chassis, GUID or session commands, so those six stand here.

use std::fmt;

use ipmi_rs_core::connection::{CompletionErrorCode, IpmiCommand, Message, NetFn, NotEnoughData};
use palisade_ladder::Reading;

use super::rmcp::Ignored;

/// The BMC's address on its own bus, and the one that remote consoles use (section 5.5).
const BMC_ADDRESS: u8 = 0x20;
const CONSOLE_ADDRESS: u8 = 0x81;
/// Request sequence numbers have 6 bits.
pub(super) const REQUEST_SEQUENCES: u8 = 64;

/// The bytes of a request: header, checksum, header, data, checksum.
pub(super) fn encode(message: &Message, request_sequence: u8) -> Vec<u8> {
    let head = [BMC_ADDRESS, message.netfn_raw() << 2];
    let mut bytes = vec![head[0], head[1], checksum(&head)];
    bytes.extend_from_slice(&[CONSOLE_ADDRESS, request_sequence << 2, message.cmd()]);
    bytes.extend_from_slice(message.data());
    bytes.push(checksum(bytes.get(3..).unwrap_or_default()));
    bytes
}

/// A response as it came; whose request it answers is for the session to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) netfn: u8,
    pub(super) command: u8,
    pub(super) request_sequence: u8,
    /// 0 is success (section 5.2).
    pub(super) completion: u8,
    pub(super) data: Vec<u8>,
}

impl Answer {
    /// Whether this answers `message`, sent as `request_sequence`.
    pub(super) fn answers(&self, message: &Message, request_sequence: u8) -> bool {
        self.netfn == message.netfn().response_value()
            && self.command == message.cmd()
            && self.request_sequence == request_sequence
    }
}

/// Parses a response. Addresses are not compared: some BMCs answer under another one, and the session's tag has
/// said already whose it is.
pub(super) fn decode(bytes: &[u8]) -> Result<Answer, Ignored> {
    let (checked, last) = bytes.split_last().map_or((bytes, 0), |(last, rest)| (rest, *last));
    match checked {
        [to, netfn, head_sum, from, sequence, command, completion, data @ ..] => {
            if checksum(&[*to, *netfn]) != *head_sum {
                return Err(Ignored::Garbage("header checksum differs"));
            }
            let mut tail = vec![*from, *sequence, *command, *completion];
            tail.extend_from_slice(data);
            if checksum(&tail) != last {
                return Err(Ignored::Garbage("data checksum differs"));
            }
            Ok(Answer {
                netfn: netfn >> 2,
                command: *command,
                request_sequence: sequence >> 2,
                completion: *completion,
                data: data.to_vec(),
            })
        }
        _ => Err(Ignored::Garbage("message cut off")),
    }
}

/// Two's complement of the sum (section 13.8).
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

/// A completion code with its name, for an operator.
pub(super) struct CodeName(pub(super) u8);

impl fmt::Display for CodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match CompletionErrorCode::try_from(self.0) {
            Ok(name) => write!(f, "{:#04x} {name:?}", self.0),
            Err(()) => write!(f, "{:#04x}", self.0),
        }
    }
}

/// Chassis Control (section 28.3). Cycle, reset and soft shutdown exist in IPMI and not here, on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChassisControl {
    PowerDown,
    PowerUp,
}

impl From<ChassisControl> for Message {
    fn from(control: ChassisControl) -> Self {
        let code = match control {
            ChassisControl::PowerDown => 0x00,
            ChassisControl::PowerUp => 0x01,
        };
        Message::new_request(NetFn::Chassis, 0x02, vec![code])
    }
}

impl IpmiCommand for ChassisControl {
    type Output = ();
    type Error = NotEnoughData;

    fn parse_success_response(_data: &[u8]) -> Result<Self::Output, Self::Error> {
        Ok(())
    }
}

/// Get Chassis Status (section 28.2).
#[derive(Clone, Copy, Debug)]
pub(super) struct GetChassisStatus;

impl From<GetChassisStatus> for Message {
    fn from(_: GetChassisStatus) -> Self {
        Message::new_request(NetFn::Chassis, 0x01, Vec::new())
    }
}

impl IpmiCommand for GetChassisStatus {
    type Output = Reading;
    type Error = NotEnoughData;

    /// Bit 0 of the first byte: system power is on. The fault bits beside it say why, not whether.
    fn parse_success_response(data: &[u8]) -> Result<Reading, NotEnoughData> {
        match data {
            [state, _last_event, _misc, ..] if state & 0x01 == 0 => Ok(Reading::Off),
            [_, _, _, ..] => Ok(Reading::On),
            _ => Err(NotEnoughData),
        }
    }
}

/// Get System GUID (section 22.14).
#[derive(Clone, Copy, Debug)]
pub(super) struct GetSystemGuid;

impl From<GetSystemGuid> for Message {
    fn from(_: GetSystemGuid) -> Self {
        Message::new_request(NetFn::App, 0x37, Vec::new())
    }
}

impl IpmiCommand for GetSystemGuid {
    type Output = [u8; 16];
    type Error = NotEnoughData;

    fn parse_success_response(data: &[u8]) -> Result<[u8; 16], NotEnoughData> {
        data.try_into().map_err(|_| NotEnoughData)
    }
}

/// Set Session Privilege Level (section 22.18); answers with the level that now holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct SetSessionPrivilege(pub(super) u8);

impl From<SetSessionPrivilege> for Message {
    fn from(SetSessionPrivilege(level): SetSessionPrivilege) -> Self {
        Message::new_request(NetFn::App, 0x3b, vec![level])
    }
}

impl IpmiCommand for SetSessionPrivilege {
    type Output = u8;
    type Error = NotEnoughData;

    fn parse_success_response(data: &[u8]) -> Result<u8, NotEnoughData> {
        data.first().map(|level| level & 0x0f).ok_or(NotEnoughData)
    }
}

/// Close Session (section 22.19).
#[derive(Clone, Copy, Debug)]
pub(super) struct CloseSession(pub(super) u32);

impl From<CloseSession> for Message {
    fn from(CloseSession(session): CloseSession) -> Self {
        Message::new_request(NetFn::App, 0x3c, session.to_le_bytes().to_vec())
    }
}

impl IpmiCommand for CloseSession {
    type Output = ();
    type Error = NotEnoughData;

    fn parse_success_response(_data: &[u8]) -> Result<(), NotEnoughData> {
        Ok(())
    }
}

/// Get Channel Authentication Capabilities (section 22.13) for the present channel: the one command that every BMC answers
/// outside any session. `ipmi-rs-core` has it too, but with an answer type that its own transport alone can read.
#[derive(Clone, Copy, Debug)]
pub(super) struct GetChannelAuthCapabilities;

impl From<GetChannelAuthCapabilities> for Message {
    fn from(_: GetChannelAuthCapabilities) -> Self {
        Message::new_request(NetFn::App, 0x38, vec![0x8e, 0x02])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_are_golden() {
        let golden = |message: Message| encode(&message, 5);
        assert_eq!(golden(GetChassisStatus.into()), [0x20, 0x00, 0xe0, 0x81, 0x14, 0x01, 0x6a]);
        assert_eq!(
            golden(ChassisControl::PowerDown.into()),
            [0x20, 0x00, 0xe0, 0x81, 0x14, 0x02, 0x00, 0x69]
        );
        assert_eq!(golden(ChassisControl::PowerUp.into()), [0x20, 0x00, 0xe0, 0x81, 0x14, 0x02, 0x01, 0x68]);
        assert_eq!(golden(GetSystemGuid.into()), [0x20, 0x18, 0xc8, 0x81, 0x14, 0x37, 0x34]);
        assert_eq!(golden(SetSessionPrivilege(3).into()), [0x20, 0x18, 0xc8, 0x81, 0x14, 0x3b, 0x03, 0x2d]);
        assert_eq!(
            golden(CloseSession(0x0403_0201).into()),
            [0x20, 0x18, 0xc8, 0x81, 0x14, 0x3c, 1, 2, 3, 4, 0x25]
        );
        assert_eq!(
            golden(GetChannelAuthCapabilities.into()),
            [0x20, 0x18, 0xc8, 0x81, 0x14, 0x38, 0x8e, 0x02, 0xa3]
        );
    }

    #[test]
    fn an_answer_is_matched_by_function_command_and_sequence() {
        let bytes = [0x81, 0x04, 0x7b, 0x20, 0x14, 0x01, 0x00, 0x41, 0x00, 0x00, 0x8a];
        let answer = decode(&bytes).unwrap();
        assert!(answer.answers(&GetChassisStatus.into(), 5));
        assert!(!answer.answers(&GetChassisStatus.into(), 6));
        assert!(!answer.answers(&ChassisControl::PowerDown.into(), 5));
        assert!(!answer.answers(&GetSystemGuid.into(), 5));
        assert_eq!(answer.data, [0x41, 0, 0]);
        for i in 0..bytes.len() {
            let mut bad = bytes;
            bad[i] ^= 0x10;
            assert!(decode(&bad).is_err(), "byte {i}");
        }
    }

    #[test]
    fn power_is_bit_0_and_a_short_status_says_nothing() {
        assert_eq!(GetChassisStatus::parse_success_response(&[0x20, 0, 0]), Ok(Reading::Off));
        assert_eq!(GetChassisStatus::parse_success_response(&[0x61, 0, 0, 0]), Ok(Reading::On));
        assert_eq!(GetChassisStatus::parse_success_response(&[0x00]), Err(NotEnoughData));
        assert_eq!(GetChassisStatus::parse_success_response(&[]), Err(NotEnoughData));
    }

    #[test]
    fn codes_have_names() {
        assert_eq!(CodeName(0xd4).to_string(), "0xd4 InsufficientPrivilege");
        assert_eq!(CodeName(0xd5).to_string(), "0xd5 CannotExecuteCommandInCurrentState");
    }

    proptest! {
        #[test]
        fn no_bytes_can_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(answer) = decode(&bytes) {
                let _ = GetChassisStatus::parse_success_response(&answer.data);
                let _ = GetSystemGuid::parse_success_response(&answer.data);
                let _ = SetSessionPrivilege::parse_success_response(&answer.data);
            }
        }
    }
}
