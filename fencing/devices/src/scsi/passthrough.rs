//! An NVMe namespace of this host's kernel, spoken to by passthrough (linux/include/uapi/linux/nvme_ioctl.h).
//!
//! Where the kernel has all paths of a namespace together (native multipath), it takes one that works for each command. It does not
//! take the next one for a command that failed: whoever asked asks again.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::Path as FilePath;
use std::time::Duration;

use nix::errno::Errno;
use palisade_ladder::Failure;

use super::nvme::{NvmeReply, NvmeRequest, Queue};
use super::way::NvmePath;

/// The kernel's own timer is never shorter: over a network it drops the whole connection when that ends, with all that the
/// workloads have under way by it. Whoever asked does not wait so long.
const TIMER_MIN: Duration = Duration::from_secs(5);

/// One `/dev/nvmeXnY`.
pub(super) struct Namespace {
    name: String,
    file: File,
    id: u32,
}

/// `struct nvme_passthru_cmd`.
#[repr(C)]
struct Passthrough {
    opcode: u8,
    flags: u8,
    rsvd1: u16,
    nsid: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    addr: u64,
    metadata_len: u32,
    data_len: u32,
    cdw10: u32,
    cdw11: u32,
    cdw12: u32,
    cdw13: u32,
    cdw14: u32,
    cdw15: u32,
    timeout_ms: u32,
    result: u32,
}

mod ioctls {
    nix::ioctl_none!(namespace_id, b'N', 0x40);
    nix::ioctl_readwrite!(admin_command, b'N', 0x41, super::Passthrough);
    nix::ioctl_readwrite!(io_command, b'N', 0x43, super::Passthrough);
}

impl Namespace {
    /// Asks the kernel for the namespace's number at its controllers.
    pub(super) fn new(node: &FilePath, file: File) -> Result<Self, Failure> {
        let name = node.display().to_string();
        // SAFETY: it takes no argument.
        let id = unsafe { ioctls::namespace_id(file.as_raw_fd()) }.map_err(|errno| failed(&name, errno))?;
        let id = u32::try_from(id).map_err(|_| failed(&name, Errno::EINVAL))?;
        Ok(Self { name, file, id })
    }
}

impl NvmePath for Namespace {
    fn name(&self) -> &str {
        &self.name
    }

    fn command(&mut self, request: &NvmeRequest) -> Result<NvmeReply, Failure> {
        let outward = !request.out.is_empty();
        let mut data = if outward { request.out.clone() } else { vec![0; request.expect] };
        let [cdw10, cdw11] = request.dwords;
        let mut command = Passthrough {
            opcode: request.opcode,
            flags: 0,
            rsvd1: 0,
            nsid: if request.of_namespace { self.id } else { 0 },
            cdw2: 0,
            cdw3: 0,
            metadata: 0,
            addr: data.as_mut_ptr() as u64,
            metadata_len: 0,
            data_len: u32::try_from(data.len()).unwrap_or_default(),
            cdw10,
            cdw11,
            cdw12: 0,
            cdw13: 0,
            cdw14: 0,
            cdw15: 0,
            timeout_ms: u32::try_from(request.within.max(TIMER_MIN).as_millis()).unwrap_or(u32::MAX),
            result: 0,
        };
        let ioctl = match request.queue {
            Queue::Admin => ioctls::admin_command,
            Queue::Io => ioctls::io_command,
        };
        // SAFETY: `Passthrough` is laid out as the kernel's, its address is that of a buffer of the length beside it, and both
        // outlive the call, which returns only when the command has ended.
        let status = unsafe { ioctl(self.file.as_raw_fd(), &raw mut command) }
            .map_err(|errno| failed(&self.name, errno))?;
        if outward {
            data.clear();
        }
        // What is no error of the kernel's own is the Status Field.
        let status = u16::try_from(status).map_err(|_| failed(&self.name, Errno::EPROTO))?;
        Ok(NvmeReply { status, data })
    }
}

fn failed(name: &str, errno: Errno) -> Failure {
    if [Errno::EACCES, Errno::EPERM].contains(&errno) {
        let detail = format!("{name}: NVMe commands need CAP_SYS_ADMIN, which this process has not");
        return Failure::PrivilegeTooLow { detail };
    }
    let why = if errno == Errno::EINTR {
        "cancelled: its controller does not answer, or is reset"
    } else if errno == Errno::EAGAIN {
        "no path to it works"
    } else {
        errno.desc()
    };
    Failure::Unreachable { error: format!("{name}: NVMe passthrough: {why}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_refuses_is_told_apart_from_what_does_not_answer() {
        let failed = |errno| failed("/dev/nvme0n1", errno);
        for errno in [Errno::EACCES, Errno::EPERM] {
            let told = failed(errno);
            assert!(matches!(&told, Failure::PrivilegeTooLow { detail } if detail.contains("CAP_SYS_ADMIN")));
        }
        for errno in [Errno::EINTR, Errno::EAGAIN, Errno::ENODEV] {
            assert!(matches!(failed(errno), Failure::Unreachable { .. }), "{errno}");
        }
    }

    /// `struct nvme_passthru_cmd` of linux/include/uapi/linux/nvme_ioctl.h.
    #[test]
    fn a_command_is_laid_out_as_the_kernels() {
        assert_eq!(size_of::<Passthrough>(), 72);
        assert_eq!(core::mem::offset_of!(Passthrough, addr), 24);
        assert_eq!(core::mem::offset_of!(Passthrough, cdw10), 40);
        assert_eq!(core::mem::offset_of!(Passthrough, timeout_ms), 64);
    }
}
