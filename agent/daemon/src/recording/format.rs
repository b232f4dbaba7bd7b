//! What the frames of a segment say. The first is a [`Head`], every other one a [`Mark`].

use serde::{Deserialize, Serialize};

use palisade_core::replay::Digest;

/// The first bytes of a segment. Another layout of the frames gets another number.
pub(super) const MAGIC: &[u8] = b"palisade recording 1\n";

/// The layout of what the core serialises into a recording: the engine, its inputs, its actions. Raise it with any change of
/// those, and add a segment of the new one to `golden/`: the test beside this tells.
pub(crate) const LAYOUT: u32 = 12;

/// Where a segment begins: everything to build the engine as it stood then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// See [`LAYOUT`]. First, so that it can be read whatever the rest is.
    pub(crate) layout: u32,
    /// The version of the program that wrote it.
    pub(crate) program: String,
    /// The highest wire version that it spoke.
    pub(crate) wire: u8,
    /// The host's name in the configuration.
    pub(crate) host: String,
    /// Its life, in hexadecimal.
    pub(crate) life: String,
    /// The wall clock then, in ms since 1970. For people; nothing is decided by it.
    pub(crate) unix_ms: u64,
    /// The engine's clock at that moment, in ms.
    pub(crate) at_ms: u64,
    /// The configuration's text. It names secrets by where they lie and holds none (SAFE-6).
    pub(crate) configuration: String,
    /// The engine between two inputs, in postcard.
    pub(crate) engine: Vec<u8>,
}

/// Everything after the head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Mark {
    /// One input, and what came of it.
    Step {
        /// Since the one before, or since the head, on the engine's clock.
        after_ms: u64,
        /// The input, in postcard.
        input: Said,
        /// Of the actions that followed, if any did.
        digest: Option<Digest>,
        /// The records among them, as JSON (the journal's own form).
        events: Vec<String>,
    },
    /// Inputs were not recorded from here on: the disk did not take them.
    Gap {
        /// How many.
        lost: u64,
    },
    /// The recording goes on in the next segment, or the process ended.
    End,
}

/// The bytes of an input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Said {
    /// As they are.
    Whole(Vec<u8>),
    /// Those of the last heartbeat of this host, with these runs of bytes replaced.
    Like {
        /// The host's id.
        host: u8,
        /// What differs, from the front.
        runs: Vec<Run>,
    },
}

/// Some bytes that differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    /// How many before them are the same.
    skip: u16,
    bytes: Vec<u8>,
}

/// What turns `old` into `new`, if they are of one length; heartbeats of a quiet peer differ in a few counters.
pub(super) fn difference(old: &[u8], new: &[u8]) -> Option<Vec<Run>> {
    if old.len() != new.len() || u16::try_from(new.len()).is_err() {
        return None;
    }
    let mut runs: Vec<Run> = Vec::new();
    let mut skip = 0;
    for (old, new) in old.iter().zip(new) {
        match runs.last_mut() {
            _ if old == new => skip += 1,
            Some(run) if skip == 0 => run.bytes.push(*new),
            Some(_) | None => runs.push(Run { skip: std::mem::take(&mut skip), bytes: vec![*new] }),
        }
    }
    Some(runs)
}

/// `old` with the runs replaced; `None` if they do not lie within it.
pub(super) fn patched(old: &[u8], runs: &[Run]) -> Option<Vec<u8>> {
    let mut new = old.to_vec();
    let mut at = 0_usize;
    for run in runs {
        at = at.checked_add(usize::from(run.skip))?;
        let end = at.checked_add(run.bytes.len())?;
        new.get_mut(at..end)?.copy_from_slice(&run.bytes);
        at = end;
    }
    Some(new)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_difference_turns_the_one_into_the_other(
            pairs in prop::collection::vec((any::<u8>(), prop::option::of(any::<u8>())), 0..200),
        ) {
            let old: Vec<u8> = pairs.iter().map(|(old, _)| *old).collect();
            let new: Vec<u8> = pairs.iter().map(|(old, new)| new.unwrap_or(*old)).collect();
            let runs = difference(&old, &new).unwrap();
            prop_assert_eq!(patched(&old, &runs), Some(new));
        }
    }

    #[test]
    fn runs_that_lie_outside_are_refused() {
        assert_eq!(difference(b"ab", b"abc"), None);
        assert_eq!(patched(b"ab", &[Run { skip: 1, bytes: vec![1, 2] }]), None);
        assert_eq!(patched(b"ab", &[Run { skip: 9, bytes: vec![] }]), None);
    }
}
