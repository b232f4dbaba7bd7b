//! The array, as other software sees it: libiscsi's conformance tests of persistent reservations, and its names.

use std::time::Duration;

use super::expect;
use crate::guests::{Lio, Lun, Rack};
use crate::lab::trouble::{Context, Result};

const LUNS: [Lun; 2] =
    [Lun { serial: "a0000000000000000000000000000001" }, Lun { serial: "b0000000000000000000000000000002" }];
/// Suites of `iscsi-test-cu`, and how many tests they have.
const SUITES: [(&str, &str); 7] = [
    ("PrinReadKeys", "2"),
    ("PrinServiceactionRange", "1"),
    ("PrinReportCapabilities", "1"),
    ("ProutRegister", "1"),
    ("ProutReserve", "13"),
    ("ProutClear", "1"),
    ("ProutPreempt", "1"),
];
const SUITE_LIMIT: Duration = Duration::from_secs(60);

pub(super) fn check(rack: &Rack) -> Result<()> {
    let mut array = Lio::start(rack, "array", &LUNS)?;
    for (number, lun) in LUNS.iter().enumerate() {
        let page = rack
            .run("iscsi-inq", &["-e", "1", "-c", "128", &array.url(number)])
            .during("iscsi-inq (package libiscsi-bin)")?;
        expect(page.contains(lun.serial), || format!("LUN {number} has another serial number: {page}"))?;
    }
    for (suite, tests) in SUITES {
        // --dataloss: to write to the disk is allowed; nobody's data is on it.
        let arguments = ["--dataloss", "--test", &format!("SCSI.{suite}"), &array.url(0)];
        let done = rack.call_within(SUITE_LIMIT, "iscsi-test-cu", &arguments)?;
        let row = done.text.lines().find(|line| line.trim().starts_with("tests")).unwrap_or_default();
        let words: Vec<&str> = row.split_whitespace().collect();
        // Total, run, passed, failed.
        let all_passed = words.get(1..5) == Some(&[tests, tests, tests, "0"]);
        let skipped = done.text.contains("Skipping");
        expect(done.code == Some(0) && all_passed && !skipped, || format!("{suite}: {}", done.text.trim()))?;
    }
    let left = array.reservations(0)?;
    expect(left.contains("No SPC-3 Reservation holder"), || format!("the tests left a reservation: {left}"))
}
