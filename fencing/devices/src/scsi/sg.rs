//! A path to a SCSI logical unit of this host's kernel, spoken to by `SG_IO` (linux/include/scsi/sg.h).

use std::fs::File;
use std::os::fd::AsRawFd as _;

use palisade_ladder::Failure;

use super::way::Path;
use super::words::{RESERVATION_CONFLICT, Reply, Request};

/// Sense data are at most so long (SPC-4 4.5.1).
const SENSE_MAX: usize = 252;

/// One `/dev/sdX`.
pub(super) struct Disk {
    name: String,
    file: File,
}

impl Disk {
    pub(super) fn new(name: String, file: File) -> Self {
        Self { name, file }
    }
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
