//! Secrets: where they lie, and that nobody else can read them (SAFE-6).

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use zeroize::Zeroizing;

/// Longer than any key or sensible password.
const SECRET_BYTES_MAX: u64 = 4096;
/// Permissions of others that a secret's file must not grant.
const GROUP_AND_OTHERS: u32 = 0o077;

/// `{ file = PATH }` or `{ credential = NAME }`.
pub(super) struct SecretText {
    pub(super) file: Option<String>,
    pub(super) credential: Option<String>,
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            file: Option<String>,
            credential: Option<String>,
        }
        struct Table;
        impl<'de> Visitor<'de> for Table {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("{ file = PATH } or { credential = NAME }")
            }

            // SAFE-6: serde would repeat the text, which may be the secret itself.
            fn visit_str<E: Error>(self, _: &str) -> Result<Fields, E> {
                Err(E::custom(
                    "a secret never stands in the configuration: write { file = PATH } or { credential = NAME }",
                ))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Fields, A::Error> {
                Fields::deserialize(MapAccessDeserializer::new(map))
            }
        }
        let Fields { file, credential } = deserializer.deserialize_any(Table)?;
        Ok(Self { file, credential })
    }
}

impl SecretText {
    pub(super) fn place(self) -> Result<SecretPlace, String> {
        match (self.file, self.credential) {
            (Some(file), None) if Path::new(&file).is_absolute() => Ok(SecretPlace::File(file.into())),
            (Some(file), None) => Err(format!("\"{file}\" is no absolute path")),
            (None, Some(name)) if !name.is_empty() && !name.contains('/') && name != ".." => {
                Ok(SecretPlace::Credential(name))
            }
            (None, Some(name)) => Err(format!("\"{name}\" is no credential's name")),
            (Some(_), Some(_)) | (None, None) => Err("a secret has either a file or a credential".to_owned()),
        }
    }
}

/// Where a secret lies.
#[derive(Debug)]
pub(super) enum SecretPlace {
    File(PathBuf),
    /// In systemd's `$CREDENTIALS_DIRECTORY`, which guards it.
    Credential(String),
}

impl fmt::Display for SecretPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Credential(name) => write!(f, "credential {name}"),
        }
    }
}

impl SecretPlace {
    pub(super) fn read(&self) -> Result<Zeroizing<Vec<u8>>, String> {
        let result = match self {
            Self::File(path) => private(path).and_then(|file| bounded(file, SECRET_BYTES_MAX)),
            Self::Credential(name) => match std::env::var_os("CREDENTIALS_DIRECTORY") {
                Some(directory) => read_bounded(&Path::new(&directory).join(name), SECRET_BYTES_MAX),
                None => {
                    Err(io::Error::other("systemd passes no credentials ($CREDENTIALS_DIRECTORY is unset)"))
                }
            },
        };
        result.map_err(|error| format!("{self}: {error}"))
    }
}

/// Opens a file that belongs to root or to us and that nobody else may touch.
fn private(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.mode() & GROUP_AND_OTHERS != 0 {
        let mode = metadata.mode() & 0o7777;
        return Err(io::Error::other(format!("others may touch it: mode is {mode:04o}, must be 0600")));
    }
    // Not the owner of /proc/self, which is root's for a process that leaves no core dump.
    let me = nix::unistd::geteuid().as_raw();
    if metadata.uid() != 0 && metadata.uid() != me {
        return Err(io::Error::other(format!("it belongs to user {}, must be root's", metadata.uid())));
    }
    Ok(file)
}

/// The whole file, if it is no longer than `max` bytes.
pub(super) fn read_bounded(path: &Path, max: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    bounded(File::open(path)?, max)
}

fn bounded(file: File, max: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for all of it at once: a growing vector would leave copies behind.
    let room = file.metadata()?.len().min(max).saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(room).unwrap_or(0)));
    file.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::other(format!("longer than {max} bytes")));
    }
    Ok(bytes)
}
