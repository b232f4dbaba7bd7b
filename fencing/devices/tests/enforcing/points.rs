//! The devices that cut somebody off at such a host, and what they need there.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;

use palisade_devices::lun::{Lun, LunPoint, Target};
use palisade_devices::nft::{Nft, NftPoint};
use palisade_devices::route::{Route, RoutePoint};
use palisade_devices::ssh::SshConfig;

use super::{DEADLINE, Lab, Running};

pub const STORE: &str = "iqn.2026-01.example:store";
pub const B: &str = "iqn.2026-01.example:b";
pub const C: &str = "iqn.2026-01.example:c";
pub const ADM: &str = "tgtadm --lld iscsi";

fn parsed(addresses: &[&str]) -> Vec<IpAddr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

pub fn nft(ssh: SshConfig, addresses: &[&str]) -> Nft {
    Nft::new(ssh, NftPoint::new(&parsed(addresses)).unwrap())
}

pub fn route(ssh: SshConfig, addresses: &[&str]) -> Route {
    Route::new(ssh, RoutePoint::new(&parsed(addresses)).unwrap())
}

/// One whose kernel checks sources, in the stricter or the looser way.
pub fn checking(way: u8) -> Lab {
    let lab = Lab::new();
    lab.host.sh(&format!("for file in /proc/sys/net/ipv4/conf/*/rp_filter; do echo {way} >$file; done"));
    lab
}

/// A tgtd that lets b and c write to its one LUN.
pub fn tgtd(lab: &Lab) -> Running {
    tgtd_on(lab, &lab.path("disk"))
}

pub fn tgtd_on(lab: &Lab, disk: &Path) -> Running {
    fs::write(disk, vec![0; 1 << 20]).unwrap();
    // Its children end with it.
    let tgtd = ["--pid", "--fork", "--kill-child", "tgtd", "-f", "--iscsi", "portal=10.0.0.1:3260"];
    let tgtd = lab.host.start("unshare", &tgtd);
    let until = Instant::now() + DEADLINE;
    while !lab.host.sh(&format!("{ADM} --op show --mode target >/dev/null 2>&1 || echo not yet")).is_empty() {
        assert!(Instant::now() < until, "no tgtd: install the package tgt");
    }
    lab.host.sh(&format!(
        "{ADM} --op new --mode target --tid 1 -T {STORE}
         {ADM} --op new --mode logicalunit --tid 1 --lun 1 -b {}
         {ADM} --op bind --mode target --tid 1 -Q {B}
         {ADM} --op bind --mode target --tid 1 -Q {C}",
        disk.display()
    ));
    tgtd
}

pub fn lun(ssh: SshConfig, target: Target, initiator: &str) -> Lun {
    Lun::new(ssh, LunPoint::new(target, STORE, initiator).unwrap())
}
