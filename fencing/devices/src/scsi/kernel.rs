//! Logical units and namespaces of this host's kernel, found by their world-wide names in sysfs.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path as FilePath, PathBuf};

use palisade_ladder::Failure;

use super::driver::Fabric;
use super::passthrough::Namespace;
use super::sg::Disk;
use super::way::Way;

/// The disks of this host.
#[derive(Clone, Debug)]
pub struct Kernel {
    sysfs: PathBuf,
    dev: PathBuf,
}

impl Default for Kernel {
    fn default() -> Self {
        Self { sysfs: "/sys/block".into(), dev: "/dev".into() }
    }
}

/// What speaks which protocol.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Scsi,
    Nvme,
}

impl Fabric for Kernel {
    fn paths(&self, lun: &str) -> Result<Vec<Way>, Failure> {
        let unreadable =
            |error: io::Error| Failure::Unreachable { error: format!("{}: {error}", self.sysfs.display()) };
        let mut found: Vec<(String, Kind)> = Vec::new();
        for entry in fs::read_dir(&self.sysfs).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let Some((kind, name)) = named(&entry.path()) else { continue };
            if name.eq_ignore_ascii_case(lun) && is_way(&entry.path(), kind) {
                found.push((entry.file_name().to_string_lossy().into_owned(), kind));
            }
        }
        found.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        found.into_iter().map(|(name, kind)| self.open(&name, kind)).collect()
    }
}

impl Kernel {
    fn open(&self, name: &str, kind: Kind) -> Result<Way, Failure> {
        let node = self.dev.join(name);
        let file = open(&node)
            .map_err(|error| Failure::Unreachable { error: format!("{}: {error}", node.display()) })?;
        Ok(match kind {
            Kind::Scsi => Way::Scsi(Box::new(Disk::new(node.display().to_string(), file))),
            Kind::Nvme => Way::Nvme(Box::new(Namespace::new(&node, file)?)),
        })
    }
}

/// A disk's world-wide name. A device mapper's disk has none: it is made of those that have.
fn named(disk: &FilePath) -> Option<(Kind, String)> {
    let is_nvme = disk.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with("nvme"));
    let (kind, file) = if is_nvme { (Kind::Nvme, "wwid") } else { (Kind::Scsi, "device/wwid") };
    read(&disk.join(file)).map(|name| (kind, name))
}

/// Not what the kernel has given up (offline, transport-offline, blocked; a controller that is not live), and not the single paths
/// that it has taken together (native multipath): those have no node.
fn is_way(disk: &FilePath, kind: Kind) -> bool {
    let well = match kind {
        Kind::Scsi => "running",
        Kind::Nvme => "live",
    };
    let works = read(&disk.join("device/state")).is_none_or(|state| state == well);
    let hidden = read(&disk.join("hidden")).is_some_and(|hidden| hidden == "1");
    works && !hidden
}

/// Read-only is enough as root, and nobody is told of a writer that closes (udev would look at the disk anew).
fn open(node: &FilePath) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC).open(node)
}

fn read(path: &FilePath) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::words::Request;
    use super::*;

    struct Place {
        _dir: tempfile::TempDir,
        kernel: Kernel,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (sysfs, dev) = (dir.path().join("block"), dir.path().join("dev"));
            fs::create_dir_all(&dev).unwrap();
            fs::create_dir_all(&sysfs).unwrap();
            Self { _dir: dir, kernel: Kernel { sysfs, dev } }
        }

        fn disk(&self, name: &str, files: &[(&str, &str)]) {
            let disk = self.kernel.sysfs.join(name);
            fs::create_dir_all(disk.join("device")).unwrap();
            for (file, text) in files {
                fs::write(disk.join(file), format!("{text}\n")).unwrap();
            }
            fs::write(self.kernel.dev.join(name), "").unwrap();
        }
    }

    #[test]
    fn a_lun_is_found_by_its_name_on_every_path_that_runs() {
        let place = Place::new();
        for (name, wwid, state) in [
            ("sda", "naa.6001405aaaaaaaaaaaaaaaaaaaaaaaa1", "running"),
            ("sdb", "naa.6001405AAAAAAAAAAAAAAAAAAAAAAAA1", "running"),
            ("sdc", "naa.6001405aaaaaaaaaaaaaaaaaaaaaaaa1", "transport-offline"),
            ("sdd", "naa.6001405bbbbbbbbbbbbbbbbbbbbbbbb2", "running"),
        ] {
            place.disk(name, &[("device/wwid", wwid), ("device/state", state)]);
        }
        place.disk("dm-0", &[]);
        let names = |lun: &str| -> Vec<String> {
            let paths = place.kernel.paths(lun).unwrap();
            paths.iter().map(|path| path.name().rsplit('/').next().unwrap_or_default().to_owned()).collect()
        };
        assert_eq!(names("naa.6001405aaaaaaaaaaaaaaaaaaaaaaaa1"), ["sda", "sdb"]);
        assert_eq!(names("naa.6001405bbbbbbbbbbbbbbbbbbbbbbbb2"), ["sdd"]);
        assert!(names("naa.6001405ccccccccccccccccccccccccc").is_empty());
        // No SCSI device answers behind a plain file.
        let mut paths = place.kernel.paths("naa.6001405bbbbbbbbbbbbbbbbbbbbbbbb2").unwrap();
        let request = Request { cdb: vec![0; 6], out: vec![], expect: 8, within: Duration::from_secs(1) };
        let Some(Way::Scsi(mut path)) = paths.pop() else { panic!("a SCSI disk") };
        let refused = path.command(&request).unwrap_err();
        assert!(matches!(refused, Failure::Unreachable { error } if error.contains("sdd: SG_IO")));
    }

    /// As Linux 6.1 shows a namespace with two controllers, with and without native multipath.
    #[test]
    fn a_namespace_is_found_at_its_head_or_at_each_path_that_lives() {
        let place = Place::new();
        let (head, apart) = ("uuid.e63ad639-d398-4bb1-9cb4-8f7abb3e6910", "eui.0025385b71b00f00");
        place.disk("nvme0n1", &[("wwid", head), ("hidden", "0")]);
        place.disk("nvme0c0n1", &[("wwid", head), ("hidden", "1"), ("device/state", "live")]);
        place.disk("nvme0c1n1", &[("wwid", head), ("hidden", "1"), ("device/state", "live")]);
        for (name, state) in [("nvme1n1", "live"), ("nvme2n1", "live"), ("nvme3n1", "connecting")] {
            place.disk(name, &[("wwid", apart), ("hidden", "0"), ("device/state", state)]);
        }
        place.disk("sda", &[("wwid", head), ("device/state", "running")]);
        // Behind a plain file is no namespace: which one was opened is told by the refusal.
        let opened = |lun: &str| place.kernel.paths(lun).map(|ways| ways.len()).unwrap_err().to_string();
        assert!(opened(head).contains("nvme0n1: NVMe passthrough"), "{}", opened(head));
        assert!(opened(apart).contains("nvme1n1: NVMe passthrough"), "{}", opened(apart));
        fs::remove_dir_all(place.kernel.sysfs.join("nvme0n1")).unwrap();
        assert!(
            place.kernel.paths(head).unwrap().is_empty(),
            "a single path without its head, or a SCSI disk"
        );
    }
}
