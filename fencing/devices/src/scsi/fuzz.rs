//! What a logical unit may answer: any bytes.

use super::words::{Reply, Reservation, capabilities, keys, names, reservation, verdict};

/// Whatever comes back is read without a panic, and whole or not at all.
///
/// # Panics
/// If one of these does not hold.
pub fn scsi_reply(bytes: &[u8]) {
    let Some((status, data)) = bytes.split_first() else { return };
    drop(verdict(&Reply { status: *status, sense: data.to_vec(), data: Vec::new() }));
    if let Ok(keys) = keys(data) {
        assert!(data.len() >= 8 + 8 * keys.len());
    }
    if let Ok(Reservation::Ours { .. }) = reservation(data) {
        assert!(data.get(21) == Some(&5));
    }
    let _ = capabilities(data);
    if let Ok(names) = names(data) {
        assert!(names.iter().all(|name| name.starts_with("naa.") || name.starts_with("eui.")));
    }
}
