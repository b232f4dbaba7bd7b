//! A peer's message once it is unsealed: bytes to meaning and back.

use palisade_proto::fuzz::{Bytes, check_words};
use palisade_proto::wire::{
    DecodeError, MAX_MESSAGE, decode_answer, decode_ask, decode_heartbeat, encode_answer, encode_ask,
    encode_heartbeat,
};
use palisade_proto::{HostId, Incarnation};

/// The same bytes as a heartbeat, an ask and an answer. What decodes encodes again into no more bytes, and means the same.
pub(crate) fn target(bytes: &[u8]) {
    let mut header = Bytes::new(bytes);
    let host = HostId::new(header.byte() % 32);
    let (from, seq) = (host.map(|host| Incarnation::new(host, header.array())), header.word());
    let Some(from) = from else { return };
    let message = header.rest();
    let decode = |bytes: &[u8]| decode_heartbeat(from, seq, bytes);
    round(message, decode, encode_heartbeat);
    round(message, |bytes| decode_ask(from, seq, bytes), encode_ask);
    round(message, |bytes| decode_answer(from.life.0, seq, bytes), encode_answer);
    if let Ok(heartbeat) = decode(message) {
        assert!(heartbeat.from == from && heartbeat.seq == seq, "the sealed header names sender and seq");
        assert!(heartbeat.fenced.iter().all(|who| heartbeat.dead.contains(who)), "fenced and not dead");
        assert!(heartbeat.grants.iter().all(|grant| heartbeat.echo.iter().any(|echo| echo.of == grant.to)));
    }
}

fn round<T: PartialEq + std::fmt::Debug, E: std::fmt::Debug>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
    encode: impl Fn(&T, &mut [u8]) -> Result<usize, E>,
) {
    let meant = match decode(bytes) {
        Ok(meant) => meant,
        Err(error) => return check_words(&error),
    };
    let mut out = vec![0; bytes.len().min(MAX_MESSAGE)];
    let len = match encode(&meant, &mut out) {
        Ok(len) => len,
        Err(_) if bytes.len() > MAX_MESSAGE => return,
        Err(error) => panic!("{meant:?} came in {} bytes and does not fit them: {error:?}", bytes.len()),
    };
    let written = &out[..len];
    assert_eq!(decode(written).as_ref(), Ok(&meant), "another meaning after a round");
    let mut again = vec![0; len];
    assert!(encode(&meant, &mut again).is_ok_and(|again| again == len) && again == written);
    // A message has one end: cut or grown, it is none.
    assert_eq!(decode(&written[..len - 1]), Err(DecodeError::Truncated));
    again.push(0);
    assert_eq!(decode(&again), Err(DecodeError::TrailingBytes { count: 1 }));
}
