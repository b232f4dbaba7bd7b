//! Frames: a length, a check, a body. What a crash tore is told from what was changed afterwards.

use ring::digest;

/// The longest body. The first frame of a segment is the longest: a configuration and a snapshot of 32 hosts.
pub(super) const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;
const LENGTH_BYTES: usize = 4;
const CHECK_BYTES: usize = 4;

/// Appends `body` as one frame: its length (u32, little-endian), four bytes of the SHA-256 over length and body, the body.
/// False: it is longer than a frame may be, and nothing was appended.
pub(super) fn put(out: &mut Vec<u8>, body: &[u8]) -> bool {
    let Some(length) = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_BODY_BYTES) else {
        return false;
    };
    let length = length.to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&check(length, body));
    out.extend_from_slice(body);
    true
}

/// What stands at some place of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// A frame's body, and how many bytes the frame takes.
    Frame(&'a [u8], usize),
    /// Nothing more.
    Nothing,
    /// The beginning of a frame, or room that was never written.
    Torn,
    /// Bytes that were never written so.
    Damaged,
}

/// Reads the frame at the start of `bytes`, which reach to the end of the segment.
pub(super) fn take(bytes: &[u8]) -> Found<'_> {
    if bytes.is_empty() {
        return Found::Nothing;
    }
    // A file system may give a file its length before its bytes.
    if bytes.iter().all(|byte| *byte == 0) {
        return Found::Torn;
    }
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else { return Found::Torn };
    let size = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if size == 0 || size > MAX_BODY_BYTES {
        return Found::Damaged;
    }
    let Some((stated, rest)) = rest.split_first_chunk::<CHECK_BYTES>() else { return Found::Torn };
    let Some((body, after)) = rest.split_at_checked(size) else { return Found::Torn };
    if check(*length, body) == *stated {
        return Found::Frame(body, LENGTH_BYTES + CHECK_BYTES + size);
    }
    // The last frame's bytes may have been lost with the power although its length was not.
    if after.is_empty() { Found::Torn } else { Found::Damaged }
}

fn check(length: [u8; LENGTH_BYTES], body: &[u8]) -> [u8; CHECK_BYTES] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&length);
    context.update(body);
    let hash = context.finish();
    hash.as_ref().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_as_it_was_put_and_every_cut_and_every_changed_bit_is_found() {
        let mut two = Vec::new();
        assert!(put(&mut two, b"one") && put(&mut two, b"other"));
        assert_eq!(take(&two), Found::Frame(b"one", 11));
        assert_eq!(take(&two[11..]), Found::Frame(b"other", 13));
        assert_eq!(take(&two[24..]), Found::Nothing);
        for length in 1..11 {
            assert_eq!(take(&two[..length]), Found::Torn, "cut at {length}");
        }
        for at in 0..11 * 8 {
            let mut bad = two.clone();
            bad[at / 8] ^= 1 << (at % 8);
            assert!(matches!(take(&bad), Found::Torn | Found::Damaged), "bit {at}");
        }
    }

    #[test]
    fn room_that_was_never_written_is_no_frame() {
        assert_eq!(take(&[0; 100]), Found::Torn);
        let mut bytes = vec![0; 8];
        bytes.push(1);
        assert_eq!(take(&bytes), Found::Damaged);
        assert!(!put(&mut Vec::new(), &vec![0; MAX_BODY_BYTES + 1]));
    }
}
