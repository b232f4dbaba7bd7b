//! Whether a storage takes a write: a small file, written and synced.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::libc;
use palisade_core::health::Sample;

use crate::identity::boottime_ms;

/// The file by which `host` looks at the directory `path`: hosts share storages, and so each has its own.
pub(super) fn file(path: &Path, host: &str) -> PathBuf {
    path.join(format!(".palisade-probe-{host}"))
}

/// Writes and syncs. May never return.
pub(super) fn look(file: &Path) -> Sample {
    let begin = Instant::now();
    match write_and_sync(file) {
        Ok(()) => Sample::Written { took_us: u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX) },
        Err(error) => Sample::Refused(format!("{}: {error}", file.display())),
    }
}

fn write_and_sync(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    // Written over, never truncated first: a full disk must fail here and not lend the block it just freed. No symbolic link is
    // followed: others may write to that directory.
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC;
    let mut file = options.write(true).create(true).mode(0o600).custom_flags(flags).open(path)?;
    file.write_all(format!("{:020}\n", boottime_ms()).as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    #[test]
    fn a_storage_that_takes_a_write_says_how_long_it_took() {
        let dir = TempDir::new();
        let file = file(dir.path(), "a");
        assert!(matches!(look(&file), Sample::Written { .. }));
        assert!(matches!(look(&file), Sample::Written { .. }), "a second time over the first");
        assert_eq!(std::fs::read(dir.path().join(".palisade-probe-a")).unwrap().len(), 21);
    }

    #[test]
    fn a_missing_path_and_a_planted_link_fail_by_name() {
        let dir = TempDir::new();
        let sample = look(&file(&dir.path().join("gone"), "a"));
        assert!(
            matches!(&sample, Sample::Refused(why) if why.contains("gone/.palisade-probe-a: No such")),
            "{sample:?}"
        );
        std::fs::write(dir.path().join("precious"), "content").unwrap();
        std::os::unix::fs::symlink("precious", dir.path().join(".palisade-probe-a")).unwrap();
        let sample = look(&file(dir.path(), "a"));
        assert!(matches!(sample, Sample::Refused(_)), "{sample:?}");
        assert_eq!(std::fs::read(dir.path().join("precious")).unwrap(), b"content");
    }
}
