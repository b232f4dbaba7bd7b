//! The standing as it lies in `/run`: arbitrary bytes, and arbitrary content behind a right checksum.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a broken property ends the run"
)]

use std::sync::Arc;

use palisade_core::Engine;
use palisade_core::standing::{Awakening, Birth, Saved, SavedState, awaken};
use palisade_proto::fuzz::{Bytes, check_words};
use palisade_proto::{HostId, Time};

use super::*;

/// When the new process starts, in ms of the boot.
const BEGIN_MS: u64 = 1_000_000;
/// Turns of the new process, and what each may want done: the standing's own size bounds the first.
const TURNS: usize = 40;
const ACTIONS_MAX: usize = 4096;

/// Only the bytes that were written for a content in this boot are read as that content; any other file is an error or another
/// boot's. Whatever the content says, an agent comes to life with it, or not, and goes on within bounds.
///
/// # Panics
/// If not.
pub fn standing_file(bytes: &[u8]) {
    let boot = crate::identity::BootId::for_fuzz();
    let file = StandingFile::new(Path::new("/run/palisade/standing"), &boot);
    let mut bytes = Bytes::new(bytes);
    let mode = bytes.byte();
    match file.content(bytes.rest()) {
        Ok(Some(content)) => assert_eq!(file.whole(&content), bytes.rest(), "another file with this content"),
        Ok(None) => assert!(bytes.rest().len() >= MAGIC.len() + BOOT_BYTES + DIGEST_BYTES),
        Err(error) => check_words(&error),
    }
    if mode.is_multiple_of(4) {
        return;
    }
    let at = usize::from(bytes.short());
    let content = bytes.rest();
    let mut whole = file.whole(content);
    assert_eq!(file.content(&whole).ok().flatten().as_deref(), Some(content));
    let at = at % whole.len();
    whole[at] ^= mode;
    assert!(file.content(&whole).is_err(), "byte {at} was changed");
    assert!(file.content(&whole[..at]).is_err(), "cut at {at}");
    if let Ok(saved) = serde_json::from_slice::<Saved>(content) {
        let again = serde_json::to_vec(&saved).expect("a standing can be written");
        assert_eq!(serde_json::from_slice::<Saved>(&again).ok().as_ref(), Some(&saved));
        live(&saved);
    }
}

/// What a process does that finds this.
fn live(saved: &Saved) {
    let cluster = crate::fuzz::cluster();
    let host = HostId::new(0).unwrap();
    let birth = Birth {
        host,
        boot_id: [7; 16],
        machine: cluster.host(host).unwrap().machine().bytes(),
        first_seq: BEGIN_MS * 1000,
        saved: SavedState::Found(Box::new(saved.clone())),
        journal_says_admitted: false,
    };
    let Awakening::Live { me, saved: found, resumed } = awaken(&birth) else {
        panic!("a standing that was read is no reason to reboot");
    };
    assert!(resumed != saved.left && found.life == saved.life.saturating_add(u64::from(saved.left)));
    let cluster = Arc::new(cluster.clone());
    let mut engine = Engine::new(cluster, &birth, me, *found, resumed, Time(BEGIN_MS));
    for _ in 0..TURNS {
        let mut actions = 0;
        while engine.poll_action().is_some() {
            actions += 1;
            assert!(actions <= ACTIONS_MAX, "one turn draws {actions} actions and more");
        }
        let now = engine.wake();
        drop(engine.status(now));
        engine.handle_tick(now);
    }
}
