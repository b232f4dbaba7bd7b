//! The configuration out of arbitrary text.
#![allow(clippy::indexing_slicing, reason = "a broken property ends the run")]

use std::collections::BTreeSet;

use palisade_proto::fuzz::check_words;

use super::*;

/// No file is opened: a text could name any device there is.
fn secret(place: &SecretPlace) -> Result<Zeroizing<Vec<u8>>, String> {
    let place = place.to_string();
    match place.bytes().map(usize::from).sum::<usize>() % 4 {
        0 => Err(format!("{place}: no such file")),
        1 => Ok(Zeroizing::new(place.into_bytes())),
        _ => Ok(Zeroizing::new(b"5a".repeat(32))),
    }
}

/// Any text is a configuration that is in itself consistent, or a message that an operator can use and that quotes no line.
///
/// # Panics
/// If not.
pub fn witness_config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let config = match Config::parse(&Source { name: "witness.toml", text }, secret) {
        Ok(config) => config,
        Err(error) => return check_words(&error),
    };
    let (settings, clusters) = config.into_parts();
    assert!(!settings.broker.host().is_empty() && settings.broker.port() != 0);
    assert!(!format!("{:?}", settings.login).contains("5a5a"), "SAFE-6: a password is printed");
    assert!(!clusters.is_empty());
    let names: BTreeSet<&str> = clusters.iter().map(|cluster| &*cluster.name).collect();
    assert_eq!(names.len(), clusters.len(), "a name stands for one cluster");
    for cluster in &clusters {
        assert!((2..=MAX_HOSTS).contains(&cluster.hosts));
        assert!((1..=MAX_CLUSTER_NAME).contains(&cluster.name.len()));
        // A name becomes a level of a topic: nothing in it may be one of MQTT's own characters.
        assert!(!cluster.name.contains(['/', '+', '#', '\0']));
        assert!(cluster.lease.0 > 0);
    }
}
