//! Side by side on the same host: a cut by nftables, by routes and at an iSCSI target (tgt) and its proof, by this driver and by hand;
//! over ssh, and by nftables also on this host itself.
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
mod side_by_side;

use std::process::{Command as Process, Stdio};
use std::time::Instant;

use enforcing::points::{self, ADM, B, checking, tgtd};
use enforcing::{Lab, run};
use palisade_devices::lun::Target;
use palisade_devices::nft::{Nft, NftPoint};
use palisade_devices::ssh::{Enforcing, Point, Site};
use palisade_ladder::{Command, Reading, Response};
use side_by_side::tell;

const RUNS: usize = 10;

/// A login that must succeed; without a lab, a shell of this host.
fn by_hand(lab: Option<&Lab>, command: &str) {
    let Some(lab) = lab else {
        let mut sh = Process::new("sh");
        sh.args(["-c", command]).stdout(Stdio::null());
        assert!(sh.status().unwrap().success(), "{command}");
        return;
    };
    let known = format!("UserKnownHostsFile={}", lab.path("known_hosts").display());
    let mut ssh = Process::new("ssh");
    ssh.args(["-q", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", &known, "-i"])
        .arg(lab.path("id"));
    ssh.args(["-p", "2222", "root@10.9.0.2", command]);
    ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(ssh.status().unwrap().success(), "{command}");
}

async fn compare<P: Point>(
    lab: Option<&Lab>,
    runs: usize,
    kind: &str,
    mut device: Enforcing<P>,
    hand: [&str; 3],
) {
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
    tell(&format!("{kind} by hand"), theirs);
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let runs = std::env::args().nth(1).map_or(RUNS, |runs| runs.parse().unwrap());
    // What checks the source of packets, as routes need it.
    let lab = checking(1);
    let _tgtd = tgtd(&lab);
    println!("\na host cut off and read back, {runs} runs, median (least-most)");
    let nft = points::nft(lab.ssh(), &["10.0.0.2"]);
    let cut = "nft 'add table inet hand; add chain inet hand in { type filter hook prerouting priority -500; }; \
               add rule inet hand in ip saddr 10.0.0.2 drop; add chain inet hand out { type filter hook output priority -500; }; \
               add rule inet hand out ip daddr 10.0.0.2 drop'";
    let hand = [cut, "nft list table inet hand", "nft delete table inet hand"];
    compare(Some(&lab), runs, "nft over ssh", nft, hand).await;
    // This thread has a network namespace of its own.
    let point = NftPoint::new(&["10.0.0.2".parse().unwrap()]).unwrap().sparing(&[7411]);
    compare(None, runs, "nft on this host", Nft::new(Site::Here, point), hand).await;
    let route = points::route(lab.ssh(), &["10.0.0.2"]);
    let hand =
        ["ip route add unreachable 10.0.0.2", "! ip route get 10.0.0.2", "ip route del unreachable 10.0.0.2"];
    compare(Some(&lab), runs, "route over ssh", route, hand).await;
    let lun = points::lun(lab.ssh(), Target::Tgt, B);
    let (cut, undo) = (
        format!("{ADM} --op unbind --mode target --tid 1 -Q {B}"),
        format!("{ADM} --op bind --mode target --tid 1 -Q {B}"),
    );
    compare(Some(&lab), runs, "lun over ssh", lun, [&cut, &format!("{ADM} --op show --mode target"), &undo])
        .await;
}
