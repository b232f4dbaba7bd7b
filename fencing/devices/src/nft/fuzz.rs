//! What nft may print: any bytes.

use palisade_ladder::Reading;

use super::table::{names_every_hook, read};

const NO_FLOWTABLES: &str = r#"{"nftables": [{"metainfo": {}}]}"#;

/// Whatever nft prints is read without a panic, and reads off only with the address and every drop in it (SAFE-4).
///
/// # Panics
/// If one of these does not hold.
pub fn nft_reply(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (four, six) = ("10.0.0.2".parse(), "fd00::2".parse());
    let (Ok(four), Ok(six)) = (four, six) else { return };
    if let Ok(table) = read(&text, NO_FLOWTABLES, &[]) {
        if table.reading(&[four]) == Reading::Off {
            assert!(text.contains("10.0.0.2") && names_every_hook(&text));
        }
        if table.reading(&[four, six]) == Reading::Off {
            assert!(table.reading(&[four]) == Reading::Off && table.reading(&[six]) == Reading::Off);
        }
    }
    // Whatever it says of flowtables, it is not taken for a table that cuts.
    if let Ok(table) = read("", &text, &[]) {
        assert_eq!(table.reading(&[four]), Reading::On);
    }
}
