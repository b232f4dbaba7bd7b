//! Logical units of this host's kernel: found by their world-wide names in sysfs, spoken to by `SG_IO` (linux/include/scsi/sg.h).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path as FilePath, PathBuf};

use palisade_ladder::Failure;

use super::driver::{Fabric, Path};
use super::words::{RESERVATION_CONFLICT, Reply, Request};

/// Sense data are at most so long (SPC-4 4.5.1).
const SENSE_MAX: usize = 252;

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

impl Fabric for Kernel {
    fn paths(&self, lun: &str) -> Result<Vec<Box<dyn Path>>, Failure> {
        let unreadable =
            |error: io::Error| Failure::Unreachable { error: format!("{}: {error}", self.sysfs.display()) };
        let mut paths: Vec<Box<dyn Path>> = Vec::new();
        let mut names: Vec<String> = Vec::new();
        for entry in fs::read_dir(&self.sysfs).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            // Only a SCSI device has one; a device mapper's disk is made of them.
            let Some(name) = read(&entry.path().join("device/wwid")) else { continue };
            // One that the kernel has given up (offline, transport-offline, blocked) is no path now.
            let running = read(&entry.path().join("device/state")).is_none_or(|state| state == "running");
            if name.eq_ignore_ascii_case(lun) && running {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort_unstable();
        for name in names {
            let node = self.dev.join(&name);
            // Read-only is enough for SG_IO as root, and nobody is told of a writer that closes (udev would look at the disk anew).
            let opened = OpenOptions::new()
                .read(true)
                .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC)
                .open(&node);
            let file = opened
                .map_err(|error| Failure::Unreachable { error: format!("{}: {error}", node.display()) })?;
            paths.push(Box::new(Disk { name: node.display().to_string(), file }));
        }
        Ok(paths)
    }
}

fn read(path: &FilePath) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// One `/dev/sdX`.
struct Disk {
    name: String,
    file: File,
}

/// `struct sg_io_hdr`.
#[repr(C)]
struct Header {
    interface_id: i32,
    dxfer_direction: i32,
    cmd_len: u8,
    mx_sb_len: u8,
    iovec_count: u16,
    dxfer_len: u32,
    dxferp: *mut u8,
    cmdp: *const u8,
    sbp: *mut u8,
    timeout: u32,
    flags: u32,
    pack_id: i32,
    usr_ptr: *mut u8,
    status: u8,
    masked_status: u8,
    msg_status: u8,
    sb_len_wr: u8,
    host_status: u16,
    driver_status: u16,
    resid: i32,
    duration: u32,
    info: u32,
}

mod ioctls {
    // sg.h predates the encoding of directions and sizes.
    nix::ioctl_readwrite_bad!(sg_io, 0x2285, super::Header);
}

const TO_DEVICE: i32 = -2;
const FROM_DEVICE: i32 = -3;
/// DRIVER_SENSE: sense data are there, no failure of its own (linux/include/scsi/scsi.h before 5.14).
const DRIVER_SENSE: u16 = 0x08;

/// With this kernels before 6.0 pass on a reservation conflict (linux/drivers/scsi/scsi_error.c).
const DID_NEXUS_FAILURE: u16 = 0x11;

impl Path for Disk {
    fn name(&self) -> &str {
        &self.name
    }

    fn command(&mut self, request: &Request) -> Result<Reply, Failure> {
        let trouble = |what: String| Failure::Unreachable { error: format!("{}: {what}", self.name) };
        let mut cdb = request.cdb.clone();
        let outward = !request.out.is_empty();
        let mut data = if outward { request.out.clone() } else { vec![0; request.expect] };
        let mut sense = vec![0; SENSE_MAX];
        let mut header = Header {
            interface_id: i32::from(b'S'),
            dxfer_direction: if outward { TO_DEVICE } else { FROM_DEVICE },
            cmd_len: u8::try_from(cdb.len()).unwrap_or_default(),
            mx_sb_len: u8::try_from(sense.len()).unwrap_or_default(),
            iovec_count: 0,
            dxfer_len: u32::try_from(data.len()).unwrap_or_default(),
            dxferp: data.as_mut_ptr(),
            cmdp: cdb.as_mut_ptr(),
            sbp: sense.as_mut_ptr(),
            timeout: u32::try_from(request.within.as_millis()).unwrap_or(u32::MAX).max(1),
            flags: 0,
            pack_id: 0,
            usr_ptr: core::ptr::null_mut(),
            status: 0,
            masked_status: 0,
            msg_status: 0,
            sb_len_wr: 0,
            host_status: 0,
            driver_status: 0,
            resid: 0,
            duration: 0,
            info: 0,
        };
        // SAFETY: `Header` is laid out as the kernel's, its pointers are to buffers of the lengths beside them, and all of them
        // outlive the call, which returns only when the command has ended.
        unsafe { ioctls::sg_io(self.file.as_raw_fd(), &raw mut header) }
            .map_err(|errno| trouble(format!("SG_IO: {}", errno.desc())))?;
        // DID_OK is zero; 3 is DID_TIME_OUT, after the kernel has aborted the command.
        let answered = header.host_status == 0
            || (header.host_status == DID_NEXUS_FAILURE && header.status == RESERVATION_CONFLICT);
        if !answered || header.driver_status & !DRIVER_SENSE != 0 {
            return Err(trouble(format!(
                "no answer from the logical unit (host status {:02x}h, driver status {:02x}h)",
                header.host_status, header.driver_status
            )));
        }
        sense.truncate(usize::from(header.sb_len_wr));
        let left = usize::try_from(header.resid).unwrap_or_default();
        data.truncate(data.len().saturating_sub(left));
        if outward {
            data.clear();
        }
        Ok(Reply { status: header.status, sense, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lun_is_found_by_its_name_on_every_path_that_runs() {
        let dir = tempfile::tempdir().unwrap();
        let (sysfs, dev) = (dir.path().join("block"), dir.path().join("dev"));
        fs::create_dir_all(&dev).unwrap();
        for (name, wwid, state) in [
            ("sda", "naa.6001405aaaaaaaaaaaaaaaaaaaaaaaa1", "running"),
            ("sdb", "naa.6001405AAAAAAAAAAAAAAAAAAAAAAAA1", "running"),
            ("sdc", "naa.6001405aaaaaaaaaaaaaaaaaaaaaaaa1", "transport-offline"),
            ("sdd", "naa.6001405bbbbbbbbbbbbbbbbbbbbbbbb2", "running"),
        ] {
            let device = sysfs.join(name).join("device");
            fs::create_dir_all(&device).unwrap();
            fs::write(device.join("wwid"), format!("{wwid}\n")).unwrap();
            fs::write(device.join("state"), format!("{state}\n")).unwrap();
            fs::write(dev.join(name), "").unwrap();
        }
        fs::create_dir_all(sysfs.join("dm-0")).unwrap();
        let kernel = Kernel { sysfs, dev: dev.clone() };
        let names = |lun: &str| -> Vec<String> {
            let paths = kernel.paths(lun).unwrap();
            paths.iter().map(|path| path.name().rsplit('/').next().unwrap_or_default().to_owned()).collect()
        };
        assert_eq!(names("naa.6001405aaaaaaaaaaaaaaaaaaaaaaaa1"), ["sda", "sdb"]);
        assert_eq!(names("naa.6001405bbbbbbbbbbbbbbbbbbbbbbbb2"), ["sdd"]);
        assert!(names("naa.6001405ccccccccccccccccccccccccc").is_empty());
        // No SCSI device answers behind a plain file.
        let mut paths = kernel.paths("naa.6001405bbbbbbbbbbbbbbbbbbbbbbbb2").unwrap();
        let request =
            Request { cdb: vec![0; 6], out: vec![], expect: 8, within: std::time::Duration::from_secs(1) };
        let refused = paths.pop().unwrap().command(&request).unwrap_err();
        assert!(matches!(refused, Failure::Unreachable { error } if error.contains("sdd: SG_IO")));
    }
}
