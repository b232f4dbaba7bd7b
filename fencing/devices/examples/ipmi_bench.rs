//! Off and read back, side by side on the same BMCs: this driver warm and cold, ipmitool, fence_ipmilan.
//!
//! `cargo run --release -p palisade-devices --example ipmi_bench [RUNS]` (tests/peers/install.sh brings the others).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark stops at the first oddity"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::io::Write as _;
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use common::{Bmc, Kind, PASSWORD, USER};
use palisade_devices::Device;
use palisade_devices::ipmi::{Ipmi, Suite};
use palisade_ladder::{Command, Reading, Response};

const RUNS: usize = 10;
const DEADLINE: Duration = Duration::from_secs(10);

async fn run(device: &mut Ipmi, command: Command) -> Response {
    device.run(command, (tokio::time::Instant::now() + DEADLINE).into()).await.unwrap()
}

/// Off and read back.
async fn off(device: &mut Ipmi) {
    assert_eq!(run(device, Command::Off).await, Response::Acknowledged);
    assert_eq!(run(device, Command::Read).await, Response::Reads(Reading::Off));
}

fn succeed(mut process: Process, input: &str) {
    process.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = process.spawn().unwrap_or_else(|error| panic!("{process:?}: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{process:?} failed");
}

fn ipmitool(bmc: &Bmc, what: [&str; 2]) {
    let mut process = Process::new("ipmitool");
    // -E: the password from the environment, not from argv.
    process.args(["-I", "lanplus", "-C", "3", "-H", "127.0.0.1", "-p", &bmc.address.port().to_string()]);
    process.args(["-U", USER, "-L", "OPERATOR", "-E"]).args(what).env("IPMI_PASSWORD", PASSWORD);
    succeed(process, "");
}

fn fence_ipmilan(bmc: &Bmc, more: &str) {
    let port = bmc.address.port();
    let input = format!(
        "action=off\nip=127.0.0.1\nipport={port}\nusername={USER}\npassword={PASSWORD}\nlanplus=1\ncipher=3\n\
         privlvl=operator\n{more}"
    );
    succeed(Process::new("/usr/sbin/fence_ipmilan"), &input);
}

struct Row {
    name: String,
    median: Duration,
    least: Duration,
    most: Duration,
}

fn row(name: impl Into<String>, mut times: Vec<Duration>) -> Row {
    times.sort();
    let middle = times.len() / 2;
    let median = if times.len() % 2 == 1 { times[middle] } else { (times[middle - 1] + times[middle]) / 2 };
    Row { name: name.into(), median, least: times[0], most: times[times.len() - 1] }
}

async fn ours(bmc: &Bmc, suite: Suite, runs: usize) -> [Row; 2] {
    let (mut warm, mut cold) = (Vec::new(), Vec::new());
    let mut device = bmc.device(suite);
    for _ in 0..runs {
        run(&mut device, Command::On).await;
        run(&mut device, Command::Prove).await;
        let started = Instant::now();
        off(&mut device).await;
        warm.push(started.elapsed());
        assert!(!bmc.power_is_on());
    }
    for _ in 0..runs {
        run(&mut device, Command::On).await;
        let started = Instant::now();
        let mut fresh = bmc.device(suite);
        off(&mut fresh).await;
        cold.push(started.elapsed());
        assert!(!bmc.power_is_on());
    }
    [
        row(format!("palisade, warm session, suite {suite}"), warm),
        row(format!("palisade, cold (login first), suite {suite}"), cold),
    ]
}

async fn theirs(bmc: &Bmc, name: &str, runs: usize, act: impl Fn(&Bmc)) -> Row {
    let mut times = Vec::new();
    let mut device = bmc.device(Suite::Three);
    for _ in 0..runs {
        run(&mut device, Command::On).await;
        let started = Instant::now();
        act(bmc);
        times.push(started.elapsed());
        assert!(!bmc.power_is_on(), "{name} left the host on");
    }
    row(name, times)
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let runs = std::env::args().nth(1).map_or(RUNS, |runs| runs.parse().unwrap());
    for (kind, title) in
        [(Kind::Sim, "ipmi_sim, chassis script per request"), (Kind::Pyghmi, "pyghmi BMC, acts at once")]
    {
        let bmc = Bmc::start(kind, &common::Setup::default());
        let mut rows = Vec::from(ours(&bmc, Suite::Three, runs).await);
        if kind == Kind::Pyghmi {
            rows.extend(ours(&bmc, Suite::Seventeen, runs).await);
        }
        let tool = |bmc: &Bmc| {
            ipmitool(bmc, ["power", "off"]);
            ipmitool(bmc, ["power", "status"]);
        };
        rows.push(theirs(&bmc, "ipmitool power off && power status", runs, tool).await);
        let name = "fence_ipmilan -o off --power-wait=0";
        rows.push(theirs(&bmc, name, runs, |bmc| fence_ipmilan(bmc, "power_wait=0\n")).await);
        rows.push(theirs(&bmc, "fence_ipmilan -o off", runs, |bmc| fence_ipmilan(bmc, "")).await);
        println!("\n{title}: off and read back, {runs} runs");
        println!("{:<44} {:>10} {:>10} {:>10} {:>9}", "", "median ms", "least", "most", "x warm");
        let warm = rows[0].median;
        for row in &rows {
            let ms = |time: Duration| time.as_secs_f64() * 1000.0;
            let times = row.median.as_secs_f64() / warm.as_secs_f64();
            let (median, least, most) = (ms(row.median), ms(row.least), ms(row.most));
            println!("{:<44} {median:>10.2} {least:>10.2} {most:>10.2} {times:>9.1}", row.name);
        }
    }
}
