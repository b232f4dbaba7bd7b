//! The driver of kind `lun` at a LIO with sessions that write, over ssh: `fencing/devices/tests/lio.rs`.

use std::time::Duration;

use super::expect;
use crate::guests::{Hardware, Lio, Lun, Rack, Sshd, built};
use crate::lab::trouble::Result;

const LUNS: [Lun; 2] =
    [Lun { serial: "f0000000000000000000000000000006" }, Lun { serial: "f1000000000000000000000000000007" }];
/// Some sixty logins at an emulated processor.
const LIMIT: Duration = Duration::from_secs(240);

pub(super) fn check(rack: &Rack) -> Result<()> {
    let tests = built::tests(rack, "palisade-devices", "--test=lio")?;
    let mut hardware = Hardware::default();
    let sshd = Sshd::install(rack, &mut hardware)?;
    let mut array = Lio::start_with(rack, "array", &LUNS, hardware)?;
    // The first card is the one that the target is served at.
    sshd.start(array.guest(), "eth1")?;
    let (portal, iqn, folder) = (array.portal(), array.iqn(), sshd.folder().display());
    let target = format!("PALISADE_LIO={portal},{iqn},{},{folder}", sshd.address());
    // One after another: each begins with ACLs of its own.
    let arguments = [&target, &tests.display().to_string(), "--ignored", "--test-threads=1"];
    let done = rack.call_within(LIMIT, "env", &arguments)?;
    expect(done.code == Some(0) && done.text.contains("5 passed"), || done.text.trim().to_owned())
}
