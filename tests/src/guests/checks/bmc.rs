//! One BMC, from its own host by `/dev/ipmi0` and from others by the network; an off from there is the end of the machine.

use std::path::Path;
use std::time::Duration;

use super::expect;
use crate::guests::bmc::{self, Bmc};
use crate::guests::{Guest, Hardware, Rack};
use crate::lab::trouble::{Context, Result};

const GUID: &str = "a123456789abcdefa123456789abcde1";
/// An off reaches QEMU within milliseconds.
const OFF_LIMIT: Duration = Duration::from_secs(10);

pub(super) fn check(rack: &Rack) -> Result<()> {
    let controller = Bmc::start(rack, "bmc", GUID)?;
    let port = controller.port().to_string();
    let remote = |words: &[&str]| {
        let login = [
            "-I",
            "lanplus",
            "-C",
            "3",
            "-H",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            bmc::USER,
            "-P",
            bmc::PASSWORD,
        ];
        rack.run("ipmitool", &[login.as_slice(), words].concat())
    };
    let mut hardware = Hardware::default();
    hardware.bmc(&controller)?;
    let ipmitool = Path::new("/usr/bin/ipmitool");
    hardware
        .files
        .program(ipmitool, "/opt/ipmitool")
        .during("`sh tests/setup.sh` installs what is missing")?;
    let mut guest = Guest::start(rack, "guest", hardware)?;
    guest.run("modprobe ipmi_si && modprobe ipmi_devintf && test -c /dev/ipmi0")?;
    let told = remote(&["raw", "0x06", "0x37"])?;
    let told: String = told.chars().filter(char::is_ascii_hexdigit).collect();
    expect(told == GUID, || format!("its GUID is {told}, want {GUID}"))?;
    // An entry that its own host writes into the log is read over the network: they speak with one and the same.
    let entry = "0 0 2 0 0 0 0 0x20 0 4 1 1 0x6f 0x5a 0xa5 0xff";
    guest.run(&format!("ipmitool -I open raw 0x0a 0x44 {entry}"))?;
    let log = remote(&["raw", "0x0a", "0x43", "0", "0", "0xff", "0xff", "0", "0xff"])?;
    let bytes: Vec<&str> = log.split_whitespace().collect();
    expect(bytes.ends_with(&["6f", "5a", "a5", "ff"]), || {
        format!("the host's entry is not the last one in its log: {log}")
    })?;
    let on = remote(&["chassis", "power", "status"])?;
    expect(on.contains("Power is on"), || format!("while the machine runs: {on}"))?;
    remote(&["chassis", "power", "off"])?;
    expect(guest.ends_within(OFF_LIMIT), || "the BMC was told off, and the machine runs on".into())?;
    let power = remote(&["chassis", "power", "status"])?;
    expect(power.contains("Power is off"), || format!("read back: {power}"))
}
