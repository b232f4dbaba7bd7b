//! Whatever is published on the topic of answers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a broken property ends the run"
)]

use palisade_proto::fuzz::Bytes;
use palisade_proto::seal::RootKey;
use palisade_proto::{HostId, LifeName};

use super::*;

/// Messages of one run: more than may wait.
const ANSWERS: usize = 2 * ANSWERS_MAX;
const TOPIC: &str = "palisade/t/witness/answer/1";

fn ring(key: u8) -> Keyring {
    Keyring::new("t", [(1, RootKey::new([key; 32]))]).unwrap()
}

/// SAFE-7 and SAFE-11: only what the witness sealed, and what no broker kept, is an answer; it says what was sealed and no more;
/// what finds no room is dropped and nothing waits.
///
/// # Panics
/// If not.
pub fn witness_answer(bytes: &[u8]) {
    let me = Incarnation::new(HostId::new(1).unwrap(), [1; 8]);
    let (answers, mut heard) = mpsc::channel(ANSWERS_MAX);
    let mut talk = Asking {
        ask_topic: String::new(),
        answer_topic: TOPIC.to_owned(),
        sealer: Sealer::new(&ring(3), Kind::Ask, Sender::Host(me.host), me.life).unwrap(),
        opener: Opener::new(ring(3), Kind::Answer),
        unanswered: (0..UNANSWERED_MAX as u64).map(|seq| (seq, Instant::now())).collect(),
        way: Arc::default(),
        answers,
        counters: Arc::default(),
    };
    let mut bytes = Bytes::new(bytes);
    if bytes.byte().is_multiple_of(4) {
        assert!(talk.open(bytes.rest()).is_none(), "an answer without a key");
        talk.hear(Publish::new(TOPIC, QoS::AtMostOnce, bytes.rest()));
        return assert!(heard.try_recv().is_err() && talk.unanswered.len() == UNANSWERED_MAX);
    }
    let mut expected = Vec::new();
    for _ in 0..ANSWERS {
        if bytes.is_empty() {
            break;
        }
        answer(&mut talk, &mut bytes, &mut expected);
        assert!(talk.unanswered.len() <= UNANSWERED_MAX && talk.opener.lives() <= LIVES);
    }
    drop(talk);
    let mut came = Vec::new();
    while let Ok(answer) = heard.try_recv() {
        came.push(answer);
    }
    expected.truncate(ANSWERS_MAX);
    assert_eq!(came, expected);
}

fn answer(talk: &mut Asking, bytes: &mut Bytes<'_>, expected: &mut Vec<Answer>) {
    let (kind, start, seq) = (bytes.byte(), LifeName([bytes.byte() % 4; 8]), u64::from(bytes.byte()));
    let message = if kind & 0x10 == 0 {
        // The host, its life, the ask's seq, the verdict: as the encoder writes them.
        let mut text = vec![wire::VERSION, bytes.byte() % 40];
        text.extend([1; 8]);
        text.extend([bytes.byte() & 0x7f, bytes.byte() % 10]);
        text
    } else {
        bytes.part().to_vec()
    };
    let (said, sender, key) = match kind & 0x0f {
        0 => (Kind::Ask, Sender::Host(HostId::new(1).unwrap()), 3),
        1 => (Kind::Answer, Sender::Witness, 4),
        // Sealed by a host under the key of an answer: a host holds that key, too.
        2 => (Kind::Answer, Sender::Host(HostId::new(2).unwrap()), 3),
        _ => (Kind::Answer, Sender::Witness, 3),
    };
    let mut sealed = [0; MAX_DATAGRAM];
    let mut sealer = Sealer::new(&ring(key), said, sender, start).unwrap();
    let Ok(len) = sealer.seal(seq, &message, &mut sealed) else { return };
    let mut sealed = sealed[..len].to_vec();
    let damage = bytes.byte();
    if damage >= 0xe0 {
        sealed[usize::from(bytes.short()) % len] ^= 1 << (damage & 7);
    }
    let mut publish = Publish::new(TOPIC, QoS::AtMostOnce, sealed);
    publish.retain = damage & 0x0f == 7;
    let sound = (said, sender, key) == (Kind::Answer, Sender::Witness, 3) && damage < 0xe0 && !publish.retain;
    if sound && let Ok(answer) = wire::decode_answer(start.0, seq, &message) {
        expected.push(answer);
    }
    talk.hear(publish);
}
