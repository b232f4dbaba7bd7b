//! A storage array: a guest whose kernel (LIO) serves disks in its memory by iSCSI, with real persistent reservations.

use super::{Guest, Hardware, Rack};
use crate::lab::trouble::{Context, Result, Trouble};

/// Where initiators find the target in the guest.
const ISCSI_PORT: u16 = 3260;
/// The target's name.
const IQN: &str = "iqn.2026-11.lab:array";
/// Hexadecimal digits of a serial number that LIO makes the name of.
const SERIAL_DIGITS: usize = 25;

/// A logical unit, known by its unit serial number.
#[derive(Clone, Copy, Debug)]
pub struct Lun {
    /// 25 to 32 hexadecimal digits; the first 25 are in its name.
    pub serial: &'static str,
}

impl Lun {
    /// Its name as sysfs and `/dev/disk/by-id` tell it (VPD page 0x83, NAA 6, LIO's company id 001405).
    #[must_use]
    pub fn wwid(&self) -> String {
        format!("naa.6001405{}", self.serial.chars().take(SERIAL_DIGITS).collect::<String>())
    }
}

/// A running array.
#[derive(Debug)]
pub struct Lio {
    guest: Guest,
    port: u16,
}

impl Lio {
    /// Starts an array with these logical units of 16 MiB each, numbered from 0. Every initiator may log in, write and reserve.
    ///
    /// # Errors
    /// The guest does not come up, or its kernel refuses the disks.
    pub fn start(rack: &Rack, name: &str, luns: &[Lun]) -> Result<Self> {
        Self::start_with(rack, name, luns, Hardware::default())
    }

    /// As [`Lio::start`], on a machine that has more.
    ///
    /// # Errors
    /// The guest does not come up, or its kernel refuses the disks.
    pub fn start_with(rack: &Rack, name: &str, luns: &[Lun], mut hardware: Hardware) -> Result<Self> {
        for lun in luns {
            let digits = lun.serial.len();
            let hexadecimal = lun.serial.chars().all(|digit| matches!(digit, '0'..='9' | 'a'..='f'));
            if !(SERIAL_DIGITS..=32).contains(&digits) || !hexadecimal {
                let what = format!("serial {}: want 25 to 32 lower-case hexadecimal digits", lun.serial);
                return Err(Trouble::new(what));
            }
        }
        hardware.forward = Some(ISCSI_PORT);
        let mut guest = Guest::start(rack, name, hardware)?;
        let serials: Vec<&str> = luns.iter().map(|lun| lun.serial).collect();
        guest.run(&format!("sh /lib/guest/lio {IQN} 16 {}", serials.join(" ")))?;
        let port = guest.port().during("the array's port")?;
        Ok(Self { guest, port })
    }

    /// Where initiators on this machine log in: `127.0.0.1:PORT`.
    #[must_use]
    pub fn portal(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The target's name.
    #[must_use]
    pub fn iqn(&self) -> &'static str {
        IQN
    }

    /// A logical unit as libiscsi's tools want it.
    #[must_use]
    pub fn url(&self, lun: usize) -> String {
        format!("iscsi://{}/{IQN}/{lun}", self.portal())
    }

    /// What the array itself says of a unit's registrations and its reservation.
    ///
    /// # Errors
    /// The guest does not answer.
    pub fn reservations(&mut self, lun: usize) -> Result<String> {
        let folder = format!("/sys/kernel/config/target/core/iblock_{lun}/disk/pr");
        self.guest
            .run(&format!("cd {folder} && cat res_holder res_type res_pr_registered_i_pts res_pr_generation"))
    }

    /// The guest that it is.
    pub fn guest(&mut self) -> &mut Guest {
        &mut self.guest
    }
}
