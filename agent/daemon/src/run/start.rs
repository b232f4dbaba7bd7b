//! From nothing to a living agent: who this host is, which life it goes on with, and every part set up before the first
//! packet. Each failure is one message with the way out.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use palisade_core::standing::{Awakening, Birth, Saved, SavedState, awaken, life_name};

use palisade_core::config::Cluster;
use palisade_core::engine::Wished;
use palisade_core::record::Event;
use palisade_proto::{Time, WorkloadId};

use super::setup::Setup;
use crate::identity::{self, BootId};
use crate::journal;
use crate::standing::StandingFile;
use crate::systemd::Passed;

/// This boot's own directory; systemd keeps it across restarts of the service (RuntimeDirectoryPreserve=yes).
pub(super) const RUN_DIR: &str = "/run/palisade";
/// Where the standing lies.
const STANDING: &str = "/run/palisade/standing";
/// Where the journal lies.
pub(super) const JOURNAL_DIR: &str = "/var/lib/palisade/journal";
/// Where events wait for the telemetry broker.
pub(super) const SPOOL_DIR: &str = "/var/lib/palisade/spool";
/// Which orders from afar were taken.
pub(super) const ORDERS_TAKEN: &str = "/var/lib/palisade/orders";
/// Lives of one boot that are recognised in the journal: each ends by a leave of the agent, so this is a thousand of them.
const LIVES_MAX: u64 = 1024;

/// Who begins, and with what.
pub(super) struct Born {
    pub(super) birth: Birth,
    pub(super) awakening: Awakening,
    pub(super) standing: StandingFile,
}

/// The descriptor that systemd kept for us under `name`, if any.
pub(super) fn passed(name: &str) -> Option<OwnedFd> {
    // SAFETY: called once, at the start of `main`, before this process has opened anything.
    match unsafe { Passed::take() } {
        Ok(mut passed) => passed.by_name(name),
        Err(error) => {
            tracing::warn!(%error, "descriptors passed by systemd cannot be taken");
            None
        }
    }
}

/// Finds out with which life this process begins.
pub(super) fn born(setup: &Setup) -> Result<Born, String> {
    make_run_dir()?;
    let boot = identity::boot_id().map_err(|error| error.to_string())?;
    let boot_bytes = bytes(&boot).ok_or_else(|| format!("boot id {boot} is not a UUID"))?;
    let standing = StandingFile::new(Path::new(STANDING), &boot);
    let saved = match standing.load() {
        Ok(None) => SavedState::Absent,
        Ok(Some(content)) => match serde_json::from_slice::<Saved>(&content) {
            Ok(saved) => SavedState::Found(Box::new(saved)),
            Err(error) => SavedState::Unreadable(format!("{STANDING}: {error}")),
        },
        Err(error) => SavedState::Unreadable(error.to_string()),
    };
    // Only where the standing is lost does the journal matter; reading it takes time.
    let journal_says_admitted = match &saved {
        SavedState::Found(_) => false,
        SavedState::Absent | SavedState::Unreadable(_) => was_admitted(Path::new(JOURNAL_DIR), boot_bytes)?,
    };
    let birth = Birth {
        host: setup.me,
        boot_id: boot_bytes,
        machine: setup.machine.bytes(),
        first_seq: identity::boottime_us(),
        saved,
        journal_says_admitted,
    };
    let mut awakening = awaken(&birth);
    if let (Awakening::Live { saved, .. }, SavedState::Absent) = (&mut awakening, &birth.saved) {
        // A new boot: what operators stopped before it stays stopped.
        (saved.desired_version, saved.stopped) = last_desired(Path::new(JOURNAL_DIR))?;
        // And what they drained or keep out stays so.
        let now = Time(birth.first_seq / 1000);
        saved.wished = last_wished(Path::new(JOURNAL_DIR), &setup.cluster, now)?;
    }
    Ok(Born { birth, awakening, standing })
}

fn make_run_dir() -> Result<(), String> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(RUN_DIR);
    made.map_err(|error| format!("{RUN_DIR}: {error}; the agent runs as root"))
}

/// Whether the journal holds an admission of a life of this boot. An unreadable journal is no answer: never start as new then.
fn was_admitted(dir: &Path, boot: [u8; 16]) -> Result<bool, String> {
    let found = journal::last_matching(dir, "\"kind\":\"admitted\"", |line| {
        line.event.get("kind").and_then(serde_json::Value::as_str) == Some("admitted")
    });
    match found {
        Ok(line) => Ok(line.is_some_and(|line| is_of_boot(&line.life, boot))),
        Err(error) => Err(format!(
            "{}: {error}; it must tell whether an agent was admitted in this boot; repair it, or reboot this host",
            dir.display()
        )),
    }
}

/// What the journal's last word on it says that operators want; nothing said: everything runs.
fn last_desired(dir: &Path) -> Result<(u64, Vec<WorkloadId>), String> {
    let found = journal::last_matching(dir, "\"kind\":\"desired\"", |line| {
        line.event.get("kind").and_then(serde_json::Value::as_str) == Some("desired")
    });
    let line = found.map_err(|error| {
        format!("{}: {error}; it must tell which workloads operators stopped; repair it", dir.display())
    })?;
    match line.map(|line| serde_json::from_value::<Event>(line.event)) {
        Some(Ok(Event::Desired { version, stopped, .. })) => {
            Ok((version, stopped.into_iter().map(|what| what.id).collect()))
        }
        Some(_) | None => Ok((0, Vec::new())),
    }
}

/// What the journal's last word on it says that operators want of hosts; nothing said: they want nothing.
fn last_wished(dir: &Path, cluster: &Cluster, now: Time) -> Result<Wished, String> {
    let found = journal::last_matching(dir, "\"kind\":\"wished\"", |line| {
        line.event.get("kind").and_then(serde_json::Value::as_str) == Some("wished")
    });
    let line = found.map_err(|error| {
        format!(
            "{}: {error}; it must tell which hosts operators drained or keep out; repair it",
            dir.display()
        )
    })?;
    let event = line.and_then(|line| serde_json::from_value::<Event>(line.event).ok());
    Ok(event.and_then(|event| Wished::recorded(&event, cluster, now)).unwrap_or_default())
}

fn is_of_boot(life: &str, boot: [u8; 16]) -> bool {
    (0..LIVES_MAX).any(|number| life_name(boot, number).to_string() == life)
}

fn bytes(boot: &BootId) -> Option<[u8; 16]> {
    let digits: String = boot.as_str().chars().filter(|char| *char != '-').collect();
    u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32).map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    #[test]
    fn a_boot_id_is_read_in_the_order_of_its_text() {
        assert_eq!(bytes(&BootId::for_test('a')), None, "no UUID");
        let here = identity::boot_id().unwrap();
        let text: String = bytes(&here).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, here.as_str().replace('-', ""));
    }

    #[test]
    fn only_lives_of_this_boot_count_as_admitted_in_it() {
        let (this, other) = ([1; 16], [2; 16]);
        for life in [0, 1, 1000] {
            assert!(is_of_boot(&life_name(this, life).to_string(), this));
            assert!(!is_of_boot(&life_name(other, life).to_string(), this));
        }
    }

    #[test]
    fn no_journal_says_that_nobody_was_admitted() {
        let dir = TempDir::new();
        assert_eq!(was_admitted(&dir.path().join("journal"), [1; 16]), Ok(false));
    }
}
