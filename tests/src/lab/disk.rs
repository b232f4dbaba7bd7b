//! Disks of a host's own under /var/lib/palisade: one that fills up, one that hangs.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, umount2};

use super::hardware::Disk;
use super::shell;
use super::trouble::{Context, Result};

/// Too small for the journal to reserve room ahead.
const SMALL: &str = "size=4m,mode=755";
/// Size of an ext4 disk; the file is sparse.
const OWN_BYTES: u64 = 256 << 20;
/// The file that fills a small disk.
const BALLAST: &str = "ballast";

/// Mounts a disk of this kind on a host's `var`.
///
/// # Errors
/// The mount failed.
pub fn mount(host_dir: &Path, kind: Disk) -> Result<()> {
    let var = host_dir.join("var");
    match kind {
        Disk::Small => nix::mount::mount(Some("tmpfs"), &var, Some("tmpfs"), MsFlags::empty(), Some(SMALL))
            .during("a small disk"),
        Disk::Own => {
            let image = host_dir.join("disk.img");
            File::create(&image).and_then(|file| file.set_len(OWN_BYTES)).during(image.display())?;
            let (image, var) = (image.display().to_string(), var.display().to_string());
            shell::run("mkfs.ext4", &["-q", "-F", &image])?;
            shell::run("mount", &["-o", "loop", &image, &var]).map(drop)
        }
    }
}

/// Writes until the disk says no.
///
/// # Errors
/// The ballast cannot be made at all.
pub fn fill(host_dir: &Path) -> Result<()> {
    let ballast = host_dir.join("var").join(BALLAST);
    let mut file = File::create(&ballast).during(ballast.display())?;
    let block = vec![b'.'; 4096];
    while file.write_all(&block).is_ok() {}
    Ok(())
}

/// Frees what [`fill`] took.
///
/// # Errors
/// It was not filled.
pub fn free(host_dir: &Path) -> Result<()> {
    let ballast = host_dir.join("var").join(BALLAST);
    std::fs::remove_file(&ballast).during(ballast.display())
}

/// From now on every write hangs, without an error.
///
/// # Errors
/// It is not a disk of kind `own`.
pub fn hang(host_dir: &Path) -> Result<()> {
    shell::run("fsfreeze", &["--freeze", &host_dir.join("var").display().to_string()]).map(drop)
}

/// The disk goes on; nothing happens to one that does not hang.
pub fn release(host_dir: &Path) {
    let _ = shell::call("fsfreeze", &["--unfreeze", &host_dir.join("var").display().to_string()]);
}

/// Unmounts a disk, if there is one.
pub fn unmount(host_dir: &Path) {
    let _ = umount2(&host_dir.join("var"), MntFlags::MNT_DETACH);
}
