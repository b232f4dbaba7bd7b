//! The bytes of an ask to the witness and of its answer.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use super::{DecodeError, EncodeError, Field, WireName, names_from_wire, read, wire_name, write};
use crate::message::MAX_NAMES;
use crate::{Answer, Ask, AskKind, Drift, Duration, HostId, Incarnation, LifeName, Seq, Verdict};

#[derive(Serialize, Deserialize)]
struct AskBody {
    kind: u8,
    view: Vec<WireName, MAX_NAMES>,
    lease_ms: u64,
    drift_ppm: u32,
}

#[derive(Serialize, Deserialize)]
struct AnswerBody {
    to: WireName,
    ask: u64,
    verdict: u8,
}

/// Writes `ask` without its `from` and `seq`, which its sealed header carries; how many bytes it took.
///
/// # Errors
/// [`EncodeError::TooLarge`].
pub fn encode_ask(ask: &Ask, out: &mut [u8]) -> Result<usize, EncodeError> {
    let body = AskBody {
        kind: ask_kind_code(ask.kind),
        view: ask.view.iter().map(wire_name).collect(),
        lease_ms: ask.lease.0,
        drift_ppm: ask.drift.ppm,
    };
    write(&body, out)
}

/// Reads an ask; `from` and `seq` are those of the sealed header.
///
/// # Errors
/// What is wrong with it.
pub fn decode_ask(from: Incarnation, seq: Seq, bytes: &[u8]) -> Result<Ask, DecodeError> {
    let body: AskBody = read(bytes)?;
    Ok(Ask {
        from,
        seq,
        kind: ask_kind(body.kind)?,
        view: names_from_wire(&body.view)?,
        lease: Duration(body.lease_ms),
        drift: Drift { ppm: body.drift_ppm },
    })
}

/// Writes `answer` without its `start` and `seq`, which its sealed header carries; how many bytes it took.
///
/// # Errors
/// [`EncodeError::TooLarge`].
pub fn encode_answer(answer: &Answer, out: &mut [u8]) -> Result<usize, EncodeError> {
    let body =
        AnswerBody { to: wire_name(answer.to), ask: answer.ask, verdict: verdict_code(answer.verdict) };
    write(&body, out)
}

/// Reads an answer; `start` (the life) and `seq` are those of the sealed header.
///
/// # Errors
/// What is wrong with it.
pub fn decode_answer(start: [u8; 8], seq: Seq, bytes: &[u8]) -> Result<Answer, DecodeError> {
    let body: AnswerBody = read(bytes)?;
    let (host, life) = body.to;
    let host = HostId::new(host).ok_or(DecodeError::NoSuchHost { id: host })?;
    let to = Incarnation { host, life: LifeName(life) };
    Ok(Answer { start, seq, to, ask: body.ask, verdict: verdict(body.verdict)? })
}

fn ask_kind_code(kind: AskKind) -> u8 {
    match kind {
        AskKind::Ordinary { incumbent: false } => 0,
        AskKind::Ordinary { incumbent: true } => 1,
        AskKind::Cold => 2,
        AskKind::Beacon => 3,
    }
}

fn ask_kind(code: u8) -> Result<AskKind, DecodeError> {
    match code {
        0 => Ok(AskKind::Ordinary { incumbent: false }),
        1 => Ok(AskKind::Ordinary { incumbent: true }),
        2 => Ok(AskKind::Cold),
        3 => Ok(AskKind::Beacon),
        code => Err(DecodeError::UnknownCode { field: Field::AskKind, code }),
    }
}

fn verdict_code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Granted => 0,
        Verdict::Noted => 1,
        Verdict::Silent => 2,
        Verdict::IncumbentsOnly => 3,
        Verdict::Conflict => 4,
        Verdict::ElectorateLives => 5,
        Verdict::OtherTiming => 6,
        Verdict::Full => 7,
    }
}

fn verdict(code: u8) -> Result<Verdict, DecodeError> {
    match code {
        0 => Ok(Verdict::Granted),
        1 => Ok(Verdict::Noted),
        2 => Ok(Verdict::Silent),
        3 => Ok(Verdict::IncumbentsOnly),
        4 => Ok(Verdict::Conflict),
        5 => Ok(Verdict::ElectorateLives),
        6 => Ok(Verdict::OtherTiming),
        7 => Ok(Verdict::Full),
        code => Err(DecodeError::UnknownCode { field: Field::Verdict, code }),
    }
}
