//! Side by side on the same switch and load balancer and the same virtual machine: a cut and its proof, by this driver and by the tool of
//! the ecosystem.
//!
//! `cargo run --release -p palisade-devices --example network_bench [RUNS]`, as root: net-snmp's snmpd and `fence_ifmib`; HAProxy and
//! its runtime API alone; libvirt's test hypervisor and `virsh` by hand. Nobody judges there what is printed.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark stops at the first oddity"
)]
#![allow(dead_code, reason = "the tests use more of the peers")]

#[path = "../tests/haproxy_peers/mod.rs"]
mod haproxy_peers;
#[path = "../tests/hypervisor_peers/mod.rs"]
mod hypervisor_peers;
mod side_by_side;
#[path = "../tests/switch_peers/mod.rs"]
mod switch_peers;

use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use haproxy_peers::HOST_B;
use palisade_devices::Device;
use palisade_ladder::{Command, Reading, Response};
use side_by_side::tell;
use switch_peers::AGENT;
use tempfile::TempDir;

const RUNS: usize = 10;
const DEADLINE: Duration = Duration::from_secs(20);

async fn ours(device: &mut impl Device, command: Command) -> Response {
    device.run(command, (tokio::time::Instant::now() + DEADLINE).into()).await.unwrap()
}

/// A program that must succeed, with these words on its standard input.
fn theirs(program: &str, arguments: &[&str], input: &str) {
    let mut tool = Process::new(program);
    tool.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut tool = tool.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
    std::io::Write::write_all(&mut tool.stdin.take().unwrap(), input.as_bytes()).unwrap();
    assert!(tool.wait().unwrap().success(), "{program} {arguments:?} {input}");
}

/// By turns, so that whatever else the machine does strikes all alike.
async fn compare(runs: usize, mut device: impl Device, names: [&str; 2], by_hand: impl AsyncFn()) {
    let (mut driver, mut tool) = (Vec::new(), Vec::new());
    ours(&mut device, Command::Prove).await;
    for _ in 0..runs {
        let started = Instant::now();
        assert_eq!(ours(&mut device, Command::Off).await, Response::Acknowledged);
        while ours(&mut device, Command::Read).await != Response::Reads(Reading::Off) {}
        driver.push(started.elapsed());
        ours(&mut device, Command::On).await;
        let started = Instant::now();
        by_hand().await;
        tool.push(started.elapsed());
        ours(&mut device, Command::On).await;
    }
    tell(names[0], driver);
    tell(names[1], tool);
}

/// Off the run loop: its peers may live on it.
async fn apart(work: impl FnOnce() + Send + 'static) {
    tokio::task::spawn_blocking(work).await.unwrap();
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let runs = std::env::args().nth(1).map_or(RUNS, |runs| runs.parse().unwrap());
    println!("\ncut off and read back, {runs} runs, median (least-most)");

    let dir = TempDir::new().unwrap();
    let (_daemon, _keeper, uri) = hypervisor_peers::libvirt(&dir).await;
    hypervisor_peers::virsh(&uri, &["define", &hypervisor_peers::domain(&dir)]);
    hypervisor_peers::virsh(&uri, &["start", "b"]);
    let virsh = async || {
        let uri = uri.clone();
        apart(move || {
            theirs("virsh", &["-q", "-c", &uri, "destroy", "b"], "");
            theirs("virsh", &["-q", "-c", &uri, "domstate", "--reason", "b"], "");
        })
        .await;
    };
    let names = ["palisade, kind hypervisor", "virsh destroy, virsh domstate"];
    compare(runs, hypervisor_peers::at_libvirt(&uri), names, virsh).await;

    let balancer = haproxy_peers::balancer().await;
    let api = async || {
        for line in
            ["set server web/b state maint", "shutdown sessions server web/b", "show servers state web"]
        {
            balancer.asked(line).await;
        }
    };
    let names = ["palisade, kind haproxy", "its runtime API, nobody judges"];
    compare(runs, balancer.device("b", HOST_B), names, api).await;

    // This thread moves into another network, so it comes last.
    let _agent = switch_peers::agent().await;
    let port = AGENT.rsplit(':').next().unwrap();
    let settings =
        format!("action=off\nip=127.0.0.1\nipport={port}\ncommunity=writer\nsnmp_version=2c\nplug=sw1\n");
    let ifmib = async || theirs("/usr/sbin/fence_ifmib", &[], &settings);
    let names = ["palisade, kind switch (v2c)", "fence_ifmib -o off"];
    compare(runs, switch_peers::writer(AGENT), names, ifmib).await;
}
