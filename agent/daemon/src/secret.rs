//! Secrets by reference: read from a file of root's or a systemd credential, wiped when dropped, never printed (SAFE-6).

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc::{O_CLOEXEC, O_NONBLOCK};
use palisade_core::config::SecretRef;
use zeroize::{Zeroize, Zeroizing};

/// The longest secret: keys and passwords are far shorter, certificates are no secrets of ours.
const SECRET_MAX: usize = 4096;
/// A cluster key or a witness key.
pub(crate) const KEY_BYTES: usize = 32;
/// Where systemd puts the credentials of a service.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// A password or the like: bytes without the line's end.
pub(crate) struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// The bytes, handed over to a type that wipes them as well.
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        std::mem::take(&mut *self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)") // SAFE-6: not even its length
    }
}

/// A cluster key or a witness key.
#[derive(Clone)]
pub(crate) struct Key(Zeroizing<[u8; KEY_BYTES]>);

impl Key {
    /// The bytes, for key derivation.
    pub(crate) fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)") // SAFE-6
    }
}

/// Why a secret cannot be used. The message names the file and the way out, never the content.
#[derive(Debug)]
pub(crate) enum SecretError {
    /// The file cannot be read.
    Read {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is a directory, a device or a pipe.
    NotRegular {
        /// Which one.
        path: PathBuf,
    },
    /// It belongs to somebody who is neither root nor us.
    Owner {
        /// Which one.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// Others can read or write it.
    Mode {
        /// Which one.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is empty or too long to be one.
    Length {
        /// Which one.
        path: PathBuf,
        /// How many bytes it has, at most one more than allowed.
        bytes: usize,
    },
    /// It is not a key of 64 hexadecimal digits.
    NoKey {
        /// Which one.
        path: PathBuf,
    },
    /// There is no place for systemd credentials: not started by systemd, or no `LoadCredential=`.
    NoCredentials {
        /// Which credential was wanted.
        name: String,
    },
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, source } => {
                write!(f, "secret {}: {source}; put the secret there, or correct the path", path.display())
            }
            Self::NotRegular { path } => {
                write!(f, "secret {}: not a regular file; write the secret into a plain file", path.display())
            }
            Self::Owner { path, uid } => {
                let path = path.display();
                write!(f, "secret {path}: belongs to uid {uid}, who can change it; run `chown root {path}`")
            }
            Self::Mode { path, mode } => {
                let path = path.display();
                write!(
                    f,
                    "secret {path}: mode {mode:04o} lets others at it; run `chmod 0600 {path}`, and change the secret"
                )
            }
            Self::Length { path, bytes: 0 } => {
                write!(f, "secret {}: empty; write the secret into it", path.display())
            }
            Self::Length { path, .. } => {
                write!(f, "secret {}: more than {SECRET_MAX} bytes; is this the right file?", path.display())
            }
            Self::NoKey { path } => write!(
                f,
                "secret {}: not a key of 64 hexadecimal digits; make one with `palisade keygen`",
                path.display()
            ),
            Self::NoCredentials { name } => write!(
                f,
                "credential `{name}`: ${CREDENTIALS} is not set; systemd sets it for the service with LoadCredential={name}:PATH"
            ),
        }
    }
}

impl std::error::Error for SecretError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } => Some(source),
            Self::NotRegular { .. }
            | Self::Owner { .. }
            | Self::Mode { .. }
            | Self::Length { .. }
            | Self::NoKey { .. }
            | Self::NoCredentials { .. } => None,
        }
    }
}

/// Reads the secret that `reference` names; one line's end at its end is not part of it.
pub(crate) fn load(reference: &SecretRef) -> Result<Secret, SecretError> {
    read(&path_of(reference)?).map(Secret)
}

/// Reads the key that `reference` names: 64 hexadecimal digits.
pub(crate) fn load_key(reference: &SecretRef) -> Result<Key, SecretError> {
    let path = path_of(reference)?;
    let text = read(&path)?;
    key(&text).ok_or(SecretError::NoKey { path })
}

fn path_of(reference: &SecretRef) -> Result<PathBuf, SecretError> {
    match reference {
        SecretRef::File(path) => Ok(path.clone()),
        SecretRef::Credential(name) => std::env::var_os(CREDENTIALS)
            .map(|dir| Path::new(&dir).join(name))
            .ok_or_else(|| SecretError::NoCredentials { name: name.clone() }),
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let failed = |source| SecretError::Read { path: path.to_owned(), source };
    // Without O_NONBLOCK a pipe under this name would hang the agent.
    let open = OpenOptions::new().read(true).custom_flags(O_NONBLOCK | O_CLOEXEC).open(path);
    let file = open.map_err(failed)?;
    allowed(path, &file)?;
    // Never grows: a reallocation would leave a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_MAX + 1));
    file.take(SECRET_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    for end in [b'\n', b'\r'] {
        if bytes.last() == Some(&end) {
            bytes.pop();
        }
    }
    if bytes.is_empty() || bytes.len() > SECRET_MAX {
        return Err(SecretError::Length { path: path.to_owned(), bytes: bytes.len() });
    }
    Ok(bytes)
}

/// Looks at the open file, not at the name: the name may mean another file a moment later.
fn allowed(path: &Path, file: &File) -> Result<(), SecretError> {
    let metadata = file.metadata().map_err(|source| SecretError::Read { path: path.to_owned(), source })?;
    if !metadata.is_file() {
        return Err(SecretError::NotRegular { path: path.to_owned() });
    }
    let uid = metadata.uid();
    if uid != 0 && uid != nix::unistd::geteuid().as_raw() {
        return Err(SecretError::Owner { path: path.to_owned(), uid });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Mode { path: path.to_owned(), mode });
    }
    Ok(())
}

fn key(text: &[u8]) -> Option<Key> {
    if text.len() != 2 * KEY_BYTES {
        return None;
    }
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    for (byte, digits) in key.iter_mut().zip(text.chunks_exact(2)) {
        let mut digits = digits.iter().map(|digit| char::from(*digit).to_digit(16));
        let (high, low) = (digits.next()??, digits.next()??);
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(Key(key))
}

/// The text of a key file.
pub(crate) fn key_text(mut key: [u8; KEY_BYTES]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(2 * KEY_BYTES + 1));
    for byte in key {
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(u32::from(digit), 16));
        }
    }
    text.push('\n');
    key.zeroize();
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::testing::TempDir;

    fn file(dir: &TempDir, text: &[u8], mode: u32) -> PathBuf {
        let path = dir.path().join("secret");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn said(path: &Path) -> String {
        load(&SecretRef::File(path.to_owned()))
            .unwrap_err()
            .to_string()
            .replace(&*path.to_string_lossy(), "PATH")
    }

    #[test]
    fn a_secret_loses_one_line_end_and_is_never_printed() {
        let dir = TempDir::new();
        for text in [&b"hunter2"[..], b"hunter2\n", b"hunter2\r\n"] {
            let secret = load(&SecretRef::File(file(&dir, text, 0o600))).unwrap();
            // SAFE-6
            assert_eq!(format!("{secret:?}"), "Secret(..)");
            assert_eq!(secret.into_bytes(), b"hunter2");
        }
    }

    #[test]
    fn a_file_that_others_can_reach_is_refused_with_the_way_out() {
        let dir = TempDir::new();
        for (mode, shown) in [(0o640, "0640"), (0o604, "0604"), (0o620, "0620"), (0o666, "0666")] {
            assert_eq!(
                said(&file(&dir, b"x", mode)),
                format!(
                    "secret PATH: mode {shown} lets others at it; run `chmod 0600 PATH`, and change the secret"
                )
            );
        }
        let path = file(&dir, b"x", 0o600);
        std::os::unix::fs::chown(&path, Some(12345), None).expect("this test needs root");
        let expected = "secret PATH: belongs to uid 12345, who can change it; run `chown root PATH`";
        assert_eq!(said(&path), expected);
    }

    #[test]
    fn what_is_no_secret_is_refused_with_the_way_out() {
        let dir = TempDir::new();
        assert_eq!(
            said(&dir.path().join("none")),
            "secret PATH: No such file or directory (os error 2); put the secret there, or correct the path"
        );
        assert_eq!(said(dir.path()), "secret PATH: not a regular file; write the secret into a plain file");
        assert_eq!(said(&file(&dir, b"\n", 0o600)), "secret PATH: empty; write the secret into it");
        let long = file(&dir, &[b'x'; SECRET_MAX + 1], 0o600);
        assert_eq!(said(&long), "secret PATH: more than 4096 bytes; is this the right file?");
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(said(&pipe), "secret PATH: not a regular file; write the secret into a plain file");
    }

    #[test]
    fn a_key_is_64_hexadecimal_digits() {
        let dir = TempDir::new();
        let text = key_text([0xa5; KEY_BYTES]);
        let good = load_key(&SecretRef::File(file(&dir, text.as_bytes(), 0o600))).unwrap();
        assert_eq!(good.expose(), &[0xa5; KEY_BYTES]);
        assert_eq!(format!("{good:?}"), "Key(..)");
        for bad in ["a5".repeat(31), "a5".repeat(33), "g5".repeat(32), "+5".repeat(32), "é".repeat(32)] {
            let path = file(&dir, bad.as_bytes(), 0o600);
            let said = load_key(&SecretRef::File(path)).unwrap_err().to_string();
            assert!(
                said.ends_with("not a key of 64 hexadecimal digits; make one with `palisade keygen`"),
                "{said}"
            );
        }
    }

    #[test]
    fn a_credential_without_systemd_is_explained() {
        let said = load(&SecretRef::Credential("bmc-a".into())).unwrap_err().to_string();
        assert!(said.contains("LoadCredential=bmc-a:PATH"), "{said}");
    }
}
