//! Side by side on the same host over ssh: a cut by nftables and by routes and its proof, by this driver and by hand.
//!
//! `cargo run --release -p palisade-devices --example enforce_bench [RUNS]`, as root. By hand: one login that sets the rules, another
//! that prints them, by the same ssh client with the same key; nobody judges there what is printed.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark stops at the first oddity"
)]

#[path = "../tests/enforcing/mod.rs"]
mod enforcing;

use std::net::IpAddr;
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use enforcing::{Lab, run};
use palisade_devices::nft::{Nft, NftPoint};
use palisade_devices::route::{Route, RoutePoint};
use palisade_devices::ssh::{Enforcing, Point};
use palisade_ladder::{Command, Reading, Response};

const RUNS: usize = 10;

/// A login that must succeed.
fn by_hand(lab: &Lab, command: &str) {
    let known = format!("UserKnownHostsFile={}", lab.path("known_hosts").display());
    let mut ssh = Process::new("ssh");
    ssh.args(["-q", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", &known, "-i"])
        .arg(lab.path("id"));
    ssh.args(["-p", "2222", "root@10.9.0.2", command]);
    ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(ssh.status().unwrap().success(), "{command}");
}

async fn compare<P: Point>(lab: &Lab, runs: usize, kind: &str, mut device: Enforcing<P>, hand: [&str; 3]) {
    let [cut, read, undo] = hand;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // By turns, so that whatever else the machine does strikes all alike.
    for _ in 0..runs {
        let started = Instant::now();
        assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
        assert_eq!(run(&mut device, Command::Read).await, Ok(Response::Reads(Reading::Off)));
        ours.push(started.elapsed());
        assert_eq!(run(&mut device, Command::On).await, Ok(Response::Acknowledged));
        let started = Instant::now();
        by_hand(lab, cut);
        by_hand(lab, read);
        theirs.push(started.elapsed());
        by_hand(lab, undo);
    }
    tell(&format!("palisade, kind {kind}"), ours);
    tell(&format!("{kind} by hand over ssh"), theirs);
}

fn tell(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let ms = |time: &Duration| time.as_secs_f64() * 1000.0;
    let (median, last) = (times[times.len() / 2], times[times.len() - 1]);
    println!("  {name:<32} {:>9.1} ({:.1}-{:.1}) ms", ms(&median), ms(&times[0]), ms(&last));
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let runs = std::env::args().nth(1).map_or(RUNS, |runs| runs.parse().unwrap());
    let lab = Lab::new();
    let addresses: [IpAddr; 1] = ["10.0.0.2".parse().unwrap()];
    println!("\na host's network cut over ssh and read back, {runs} runs, median (least-most)");
    let nft = Nft::new(lab.ssh(), NftPoint::new(&addresses).unwrap());
    let cut = "nft 'add table inet hand; add chain inet hand in { type filter hook prerouting priority -500; }; \
               add rule inet hand in ip saddr 10.0.0.2 drop; add chain inet hand out { type filter hook output priority -500; }; \
               add rule inet hand out ip daddr 10.0.0.2 drop'";
    compare(&lab, runs, "nft", nft, [cut, "nft list table inet hand", "nft delete table inet hand"]).await;
    // What checks the source of packets, on every interface and those to come.
    lab.host.sh("for check in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 >$check; done");
    let route = Route::new(lab.ssh(), RoutePoint::new(&addresses).unwrap());
    let hand =
        ["ip route add unreachable 10.0.0.2", "! ip route get 10.0.0.2", "ip route del unreachable 10.0.0.2"];
    compare(&lab, runs, "route", route, hand).await;
}
