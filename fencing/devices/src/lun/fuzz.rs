//! What a target may say of itself: any bytes.

use palisade_ladder::Reading;

use super::point::Names;
use super::{lio, tgt};

/// Whatever is said is read without a panic; off only with the trace of a cut and without the right, and no script but for numbers.
///
/// # Panics
/// If one of these does not hold.
pub fn lun_reply(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let names = Names {
        target: "iqn.2026-01.example:store".to_owned(),
        initiator: "iqn.2026-01.example:b".to_owned(),
    };
    if let Ok(rights) = tgt::read(&text, &names) {
        if rights.reading() == Reading::Off {
            // SAFE-4
            let its = |line: &&str| line.trim().eq_ignore_ascii_case("palisade-cut:iqn.2026-01.example:b");
            assert!(text.lines().any(|line| its(&line)) && rights.hindrance(&names).is_none());
        }
        for line in rights.cut(&names).lines().chain(rights.open(&names).lines()) {
            assert!(
                line.starts_with("tgtadm --lld iscsi --op ") || line.starts_with("echo 'nothing"),
                "{line}"
            );
        }
    }
    if let Ok(rights) = lio::read(&text, &names)
        && rights.reading() == Reading::Off
    {
        let has = |line: &str| text.lines().any(|other| other == line);
        assert!(has("kept") && has("group 0 0") && !has("acl") && rights.hindrance(&names).is_none());
    }
}
