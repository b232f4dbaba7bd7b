//! A storage array: a guest whose kernel (nvmet) serves disks in its memory by NVMe over TCP, with real reservations.

use std::time::Duration;

use super::{Guest, Hardware, Kernel, Rack};
use crate::lab::trouble::{Context, Result};

/// Where hosts find the target in the guest.
const NVME_PORT: u16 = 4420;
/// Where a guest finds what is on the loopback of its rack.
const RACK: &str = "10.0.2.2";
/// A namespace is there a fraction of a second after its controller.
const FOUND_LIMIT: Duration = Duration::from_secs(20);

/// A namespace.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    /// As sysfs tells it, in lower case: `uuid.` and a UUID, or `eui.` and the 32 digits of an NGUID.
    pub wwid: &'static str,
    /// Whether it keeps reservations.
    pub reserves: bool,
}

/// A running array.
#[derive(Debug)]
pub struct Nvmet {
    guest: Guest,
    nqn: String,
    port: u16,
    first: Space,
}

impl Nvmet {
    /// Starts an array with these namespaces of 16 MiB each, numbered from 1. Every host may connect, write and reserve. Linux 6.13
    /// is the first whose target keeps reservations.
    ///
    /// # Errors
    /// The guest does not come up, or its kernel refuses the disks.
    pub fn start(rack: &Rack, name: &str, boots: Kernel, spaces: &[Space]) -> Result<Self> {
        let first = *spaces.first().during("a namespace")?;
        let mut hardware = Hardware::default();
        hardware.boots = boots;
        hardware.forward = Some(NVME_PORT);
        let mut guest = Guest::start(rack, name, hardware)?;
        let nqn = format!("nqn.2026-11.lab:{name}");
        let name = |space: &Space| format!("{}{}", if space.reserves { "" } else { "-" }, space.wwid);
        let names: Vec<String> = spaces.iter().map(name).collect();
        guest.run(&format!("sh /lib/guest/nvmet {nqn} 16 {}", names.join(" ")))?;
        let port = guest.port().during("the array's port")?;
        Ok(Self { guest, nqn, port, first })
    }

    /// Connects a host that reaches the rack ([`Hardware::reaches_rack`]) by its kernel's driver, `nvme-tcp`: so many controllers,
    /// under one Host Identifier.
    ///
    /// # Errors
    /// The host is not let in, or does not find the namespaces.
    pub fn connect(&self, host: &mut Guest, identifier: &str, controllers: usize) -> Result<()> {
        for _ in 0..controllers {
            // As `nvme connect` does it, which does not connect twice.
            host.run(&format!(
                "exec 5<>/dev/nvme-fabrics && echo nqn={},transport=tcp,traddr={RACK},trsvcid={},duplicate_connect,\
                 hostnqn=nqn.2026-11.lab:{identifier},hostid={identifier} >&5 && grep instance <&5",
                self.nqn, self.port
            ))?;
        }
        host.wait_for(FOUND_LIMIT, &self.found())
    }

    /// Ends all of a host's connections.
    ///
    /// # Errors
    /// It has none.
    pub fn disconnect(&self, host: &mut Guest) -> Result<()> {
        host.run(&format!("nvme disconnect --nqn={}", self.nqn))?;
        host.wait_for(FOUND_LIMIT, &format!("! {}", self.found()))
    }

    /// A shell condition.
    fn found(&self) -> String {
        format!("grep -qs {} /sys/block/nvme*/wwid", self.first.wwid)
    }

    /// The guest that it is.
    pub fn guest(&mut self) -> &mut Guest {
        &mut self.guest
    }
}
