//! The agent's own watchdog code at the kernel's devices: `agent/daemon/src/watchdog.rs`, its tests `in_a_guest`.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::expect;
use crate::guests::{Guest, Hardware, Rack, built};
use crate::lab::trouble::{Context, Result};

/// Where the tests are in their executable.
const TESTS: &str = "watchdog::tests::in_a_guest";
/// As those tests arm it.
const TIMEOUT: Duration = Duration::from_secs(4);
/// A bite may come so much later than armed, on a machine that is busy.
const SLACK: Duration = Duration::from_secs(4);
/// It counts from the last feed, 0.2 s ago, or longer on a machine that is busy.
const EARLY: Duration = Duration::from_secs(1);
/// The longest one passes several time-outs.
const TEST_LIMIT: Duration = Duration::from_secs(90);

/// A device in its hardware, and one that is a timer of the kernel.
const DRIVERS: [&str; 2] = ["i6300esb", "softdog"];

pub(super) fn obeys(rack: &Rack) -> Result<()> {
    let tests = built::tests(rack, "palisade", "--lib")?;
    for driver in DRIVERS {
        let mut guest = boot(rack, driver, driver, &tests)?;
        for test in [
            "fed_it_holds_and_stopped_it_leaves_the_host_alone",
            "a_timeout_that_it_cannot_do_is_refused_and_it_is_stopped",
            "a_pretimeout_is_refused_and_it_is_stopped",
            "nowayout_is_refused_before_it_is_opened",
        ] {
            let done =
                guest.call_within(TEST_LIMIT, &format!("/opt/unit --ignored --exact {TESTS}::{test}"))?;
            let passed = done.code == Some(0) && done.text.contains("1 passed");
            expect(passed, || format!("{driver}: {test}: {}", done.text.trim()))?;
        }
    }
    let mut guest = boot(rack, "nowayout", "softdog nowayout=1", &tests)?;
    let test = format!("{TESTS}::nowayout_is_refused_before_it_is_opened");
    let done = guest.call_within(TEST_LIMIT, &format!("/opt/unit --ignored --exact {test}"))?;
    expect(done.code == Some(0), || format!("softdog loaded with nowayout: {}", done.text.trim()))
}

pub(super) fn bites(rack: &Rack) -> Result<()> {
    let tests = built::tests(rack, "palisade", "--lib")?;
    // A process that dies says no farewell; one that hangs feeds no more; a kernel that hangs runs nobody who could.
    for (name, driver, end) in [
        ("killed", "i6300esb", "kill -KILL $(cat /tmp/armed)"),
        ("stopped", "i6300esb", "kill -STOP $(cat /tmp/armed)"),
        ("hung", "i6300esb", "echo 0 >/proc/sys/kernel/panic; echo c >/proc/sysrq-trigger"),
        ("softdog-killed", "softdog", "kill -KILL $(cat /tmp/armed)"),
    ] {
        let mut guest = boot(rack, name, driver, &tests)?;
        guest.run(&format!("/opt/unit --ignored --exact {TESTS}::fed_until_killed >/tmp/words 2>&1 &"))?;
        guest.wait_for(TIMEOUT, "test -s /tmp/armed")?;
        // Fed, it lets its machine live past the time-out.
        guest.call(&format!("sleep {}", TIMEOUT.as_secs() + 2))?;
        let start = Instant::now();
        guest.order(end)?;
        // The board's own tells QEMU; the kernel's own resets the machine, which is not started again.
        let event = if driver == "softdog" { "SHUTDOWN" } else { "WATCHDOG" };
        let bite = guest.qmp().event(event, TIMEOUT + SLACK)?.during(format!("{name}: the event {event}"))?;
        let after = start.elapsed();
        println!("     {name}: {driver} set to {TIMEOUT:?} bit {:.2} s later", after.as_secs_f64());
        expect(after + EARLY >= TIMEOUT, || format!("{name}: bit after {after:?}, armed with {TIMEOUT:?}"))?;
        let what = bite.get(if driver == "softdog" { "reason" } else { "action" }).and_then(Value::as_str);
        let want = if driver == "softdog" { "guest-reset" } else { "poweroff" };
        expect(what == Some(want), || format!("{name}: {bite}"))?;
        expect(guest.ends_within(SLACK), || format!("{name}: still there after the bite"))?;
    }
    Ok(())
}

fn boot(rack: &Rack, name: &str, driver: &str, tests: &Path) -> Result<Guest> {
    let mut hardware = Hardware::default();
    hardware.device(["-device", "i6300esb", "-action", "watchdog=poweroff"]);
    hardware.files.program(tests, "/opt/unit")?;
    let mut guest = Guest::start(rack, name, hardware)?;
    guest.run(&format!("modprobe {driver} && test -c /dev/watchdog0"))?;
    Ok(guest)
}
