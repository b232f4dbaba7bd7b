//! The driver of kind `scsi` at an array that does all of it: `fencing/devices/tests/scsi.rs`, its tests `lio_*`.

use std::time::Duration;

use super::expect;
use crate::guests::{Lio, Lun, Rack, built};
use crate::lab::trouble::Result;

const LUNS: [Lun; 2] =
    [Lun { serial: "d0000000000000000000000000000004" }, Lun { serial: "e0000000000000000000000000000005" }];
const LIMIT: Duration = Duration::from_secs(120);

pub(super) fn check(rack: &Rack) -> Result<()> {
    let tests = built::tests(rack, "palisade-devices", "--test=scsi")?;
    let array = Lio::start(rack, "array", &LUNS)?;
    let target = format!("PALISADE_ISCSI={},{},0,1", array.portal(), array.iqn());
    // One after another: each begins with an array that nobody is registered at.
    let arguments = [&target, &tests.display().to_string(), "--ignored", "--test-threads=1"];
    let done = rack.call_within(LIMIT, "env", &arguments)?;
    expect(done.code == Some(0) && done.text.contains("3 passed"), || done.text.trim().to_owned())
}
