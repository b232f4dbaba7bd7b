//! What a logical unit or a namespace may answer: any bytes.

use super::meaning::Reservation;
use super::nvme;
use super::words::{Reply, capabilities, keys, names, reservation, verdict};

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

/// As above, of NVMe: a status of two bytes, then what came.
///
/// # Panics
/// If one of these does not hold.
pub fn nvme_reply(bytes: &[u8]) {
    let Some((status, data)) = bytes.split_first_chunk::<2>() else { return };
    drop(nvme::verdict(u16::from_le_bytes(*status)));
    if let Ok(look) = nvme::report(data) {
        let count = look.registrants.len();
        // SAFE-4: as many as were announced, each of them a host.
        assert!(data.get(5..7) == Some(&u16::try_from(count).unwrap_or_default().to_le_bytes()));
        assert!(data.len() >= 64 + 64 * count);
        assert!(look.registrants.iter().all(|one| one.host.is_some_and(|host| !host.is_unset())));
        if let Reservation::Ours { holder } = look.reservation {
            assert!(data.get(4) == Some(&3) && look.has(holder));
        }
    }
    let _ = nvme::reserves(data);
    let _ = nvme::capabilities(data);
    let _ = nvme::host_identifier(data);
    for names in [nvme::names(data), nvme::described(data)].into_iter().flatten() {
        assert!(names.iter().all(|name| name.starts_with("eui.") || name.starts_with("uuid.")));
    }
}
