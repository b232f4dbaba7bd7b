//! `palisade keygen`: makes a key, once, and says where it belongs.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::{Ended, Failure, print};
use crate::secret::{self, KEY_BYTES};

/// Which key to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Kind {
    /// Shared by the hosts; the witness never holds it.
    Cluster,
    /// Shared by the hosts and the witness.
    Witness,
}

impl Kind {
    fn default_file(self) -> &'static Path {
        Path::new(match self {
            Self::Cluster => "/etc/palisade/cluster.key",
            Self::Witness => "/etc/palisade/witness.key",
        })
    }
}

pub(super) fn run(kind: Kind, out: Option<&Path>) -> Ended {
    let path = out.unwrap_or(kind.default_file());
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    SystemRandom::new().fill(key.as_mut()).map_err(|_| Failure::failed("the system gave no random bytes"))?;
    write(path, secret::key_text(*key).as_bytes()).map_err(|error| {
        let path = path.display();
        let way_out = if error.kind() == io::ErrorKind::AlreadyExists {
            "; it is not touched: to change keys, make another with --out and list both under `keys`"
        } else {
            ""
        };
        Failure::failed(format!("{path}: {error}{way_out}"))
    })?;
    print(&advice(kind, path));
    Ok(ExitCode::SUCCESS)
}

/// Never over a file that is there, never readable by others, and on the disk before we say so.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(text).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // Half a key is none; the file is ours, we have just made it.
        drop(std::fs::remove_file(path));
        return Err(error);
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn advice(kind: Kind, path: &Path) -> String {
    let path = path.display();
    match kind {
        Kind::Cluster => format!(
            "{path}: a new cluster key (mode 0600).\n\
             Copy it to every host of the cluster, and nowhere else:\n\
             \n    scp -p {path} root@HOST:{path}\n\
             \nand name it under [cluster] in cluster.toml on each host:\n\
             \n    keys = [ {{ id = 1, file = \"{path}\" }} ]\n\
             \nTo change keys later: give the new one a new id; list it last everywhere, then first everywhere, then remove the \
             old one.\n"
        ),
        Kind::Witness => format!(
            "{path}: a new witness key (mode 0600).\n\
             Copy it to every host of the cluster and to the witness's board; the board gets no other key:\n\
             \n    scp -p {path} root@HOST:{path}\n    scp -p {path} root@BOARD:/etc/palisade-witness/CLUSTER.key\n\
             \nand name it under [witness] in cluster.toml on each host:\n\
             \n    keys = [ {{ id = 1, file = \"{path}\" }} ]\n"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use palisade_core::config::SecretRef;

    use super::*;
    use crate::testing::TempDir;

    #[test]
    fn a_key_is_made_once_and_can_be_loaded() {
        let dir = TempDir::new();
        let path = dir.path().join("cluster.key");
        assert_eq!(run(Kind::Cluster, Some(&path)).unwrap(), ExitCode::SUCCESS);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let first = secret::load_key(&SecretRef::File(path.clone())).unwrap();
        let failure = run(Kind::Witness, Some(&path)).unwrap_err();
        assert!(failure.message.contains("it is not touched"), "{}", failure.message);
        assert_eq!(secret::load_key(&SecretRef::File(path)).unwrap().expose(), first.expose());
        let other = dir.path().join("witness.key");
        run(Kind::Witness, Some(&other)).unwrap();
        assert_ne!(secret::load_key(&SecretRef::File(other)).unwrap().expose(), first.expose());
    }

    #[test]
    fn a_key_needs_its_directory() {
        let dir = TempDir::new();
        let failure = run(Kind::Cluster, Some(&dir.path().join("none/cluster.key"))).unwrap_err();
        assert!(failure.status == 1 && failure.message.contains("none/cluster.key"), "{}", failure.message);
    }
}
