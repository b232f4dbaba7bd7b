//! This boot's standing in `/run`: written whole before the heartbeat that says it, gone with the boot on purpose. What it
//! means is the core's; here it is bytes. Never tells "absent" from "unreadable" by guessing: the two are different answers,
//! because an agent that forgets its boot's standing must reboot rather than start as new.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ring::digest;

use crate::identity::BootId;

/// The first line of the file. Another layout gets another number.
const MAGIC: &[u8] = b"palisade standing 1\n";
/// No standing of 32 hosts and 256 workloads comes near this.
const MAX_BYTES: usize = 256 * 1024;
const BOOT_BYTES: usize = 36;
const DIGEST_BYTES: usize = 32;

/// The file that holds this boot's standing.
pub(crate) struct StandingFile {
    path: PathBuf,
    temporary: PathBuf,
    boot: BootId,
}

/// The standing cannot be read although it is there. The boot may have had an admitted life: never start as new.
#[derive(Debug)]
pub(crate) enum LoadError {
    /// The file system's answer.
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is there and is not what was written.
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Corrupt { path, what } => write!(f, "{}: {what}", path.display()),
        }
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } => Some(source),
            Self::Corrupt { .. } => None,
        }
    }
}

impl StandingFile {
    /// The file at `path` (its directory exists), for this boot.
    pub(crate) fn new(path: &Path, boot: &BootId) -> Self {
        let temporary = path.with_extension("new");
        Self { path: path.to_owned(), temporary, boot: boot.clone() }
    }

    /// Replaces the content in one step: after a crash at any point the file holds the old content or the new.
    /// No fsync: the file lives as long as the kernel's memory does.
    pub(crate) fn save(&self, content: &[u8]) -> io::Result<()> {
        if content.len() > MAX_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("standing of {} bytes", content.len()),
            ));
        }
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&self.temporary)?;
        file.write_all(&self.whole(content))?;
        std::fs::rename(&self.temporary, &self.path)
    }

    /// The file's bytes for this content.
    fn whole(&self, content: &[u8]) -> Vec<u8> {
        let mut whole = Vec::with_capacity(MAGIC.len() + BOOT_BYTES + DIGEST_BYTES + content.len());
        whole.extend_from_slice(MAGIC);
        whole.extend_from_slice(self.boot.as_str().as_bytes());
        whole.extend_from_slice(checksum(self.boot.as_str().as_bytes(), content).as_ref());
        whole.extend_from_slice(content);
        whole
    }

    /// The content saved last in this boot; `None` if nothing was saved (also if only an earlier boot's file lies there,
    /// on a `/run` that outlives a boot).
    pub(crate) fn load(&self) -> Result<Option<Vec<u8>>, LoadError> {
        let read = |source| LoadError::Read { path: self.path.clone(), source };
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(read(error)),
        };
        let header_bytes = MAGIC.len() + BOOT_BYTES + DIGEST_BYTES;
        let mut whole = Vec::new();
        file.take((header_bytes + MAX_BYTES + 1) as u64).read_to_end(&mut whole).map_err(read)?;
        self.content(&whole)
    }

    /// The content in the file's bytes.
    fn content(&self, whole: &[u8]) -> Result<Option<Vec<u8>>, LoadError> {
        let corrupt = |what| LoadError::Corrupt { path: self.path.clone(), what };
        let rest = whole.strip_prefix(MAGIC).ok_or_else(|| corrupt("not a standing of this version"))?;
        let (boot, rest) = rest.split_at_checked(BOOT_BYTES).ok_or_else(|| corrupt("cut short"))?;
        let (sum, content) = rest.split_at_checked(DIGEST_BYTES).ok_or_else(|| corrupt("cut short"))?;
        if checksum(boot, content).as_ref() != sum {
            return Err(corrupt("the checksum does not match the content"));
        }
        if boot != self.boot.as_str().as_bytes() {
            return Ok(None);
        }
        Ok(Some(content.to_vec()))
    }
}

/// Over the boot id too: a flipped bit there must not turn this boot's standing into another's.
fn checksum(boot: &[u8], content: &[u8]) -> digest::Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(boot);
    context.update(content);
    context.finish()
}

#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    fn standing(dir: &TempDir) -> StandingFile {
        StandingFile::new(&dir.path().join("standing"), &crate::identity::boot_id().unwrap())
    }

    #[test]
    fn what_was_saved_last_is_loaded() {
        let dir = TempDir::new();
        let file = standing(&dir);
        assert!(file.load().unwrap().is_none());
        for content in [&b""[..], b"one", &[7; MAX_BYTES], b"two"] {
            file.save(content).unwrap();
            assert_eq!(file.load().unwrap().unwrap(), content);
        }
        assert!(file.save(&vec![0; MAX_BYTES + 1]).is_err());
        assert_eq!(file.load().unwrap().unwrap(), b"two");
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file.path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_an_error_and_never_absence() {
        let dir = TempDir::new();
        let file = standing(&dir);
        file.save(b"life 3, admitted").unwrap();
        let whole = std::fs::read(&file.path).unwrap();
        let boot = MAGIC.len()..MAGIC.len() + BOOT_BYTES;
        for at in 0..whole.len() {
            std::fs::write(&file.path, &whole[..at]).unwrap();
            assert!(matches!(file.load(), Err(LoadError::Corrupt { .. })), "cut at {at}");
            let mut bad = whole.clone();
            bad[at] ^= 0x20;
            std::fs::write(&file.path, &bad).unwrap();
            let loaded = file.load();
            assert!(
                matches!(loaded, Err(LoadError::Corrupt { .. })),
                "flipped at {at} (boot id at {boot:?})"
            );
        }
        std::fs::remove_file(&file.path).unwrap();
        std::fs::create_dir(&file.path).unwrap();
        assert!(matches!(file.load(), Err(LoadError::Read { .. })));
    }

    #[test]
    fn a_save_cut_short_leaves_the_old_content() {
        let dir = TempDir::new();
        let file = standing(&dir);
        file.save(b"old").unwrap();
        std::fs::write(&file.temporary, b"palisade stand").unwrap();
        assert_eq!(file.load().unwrap().unwrap(), b"old");
        file.save(b"new").unwrap();
        assert_eq!(file.load().unwrap().unwrap(), b"new");
    }

    #[test]
    fn an_earlier_boots_standing_is_absent() {
        let dir = TempDir::new();
        let file = standing(&dir);
        file.save(b"of another boot").unwrap();
        let later = StandingFile { boot: crate::identity::BootId::for_test('x'), ..standing(&dir) };
        assert!(later.load().unwrap().is_none());
    }
}
