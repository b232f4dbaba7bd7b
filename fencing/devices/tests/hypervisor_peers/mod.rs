//! Virtual machines for the driver's tests: QEMU with its own monitor, and a libvirt daemon with its test hypervisor.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy knows a test only inside #[test]"
)]

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::time::Duration;

use palisade_devices::hypervisor::{Hypervisor, HypervisorConfig, Way};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::time::Instant;

pub const UUID: &str = "4c4c4544005135108052b4c04f4d3130";
pub const HYPHENATED: &str = "4c4c4544-0051-3510-8052-b4c04f4d3130";
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Ended with the test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Waits for a socket that a program makes; its end before that fails the test.
pub async fn appears(path: &Path, by: &mut Running, needs: &str) {
    let until = Instant::now() + DEADLINE;
    while UnixStream::connect(path).await.is_err() {
        if let Some(status) = by.0.try_wait().unwrap() {
            panic!("it ends with {status}; this test needs {needs}");
        }
        assert!(Instant::now() < until, "no {}", path.display());
        tokio::task::yield_now().await;
    }
}

/// A machine without a disk: its firmware runs for ever.
pub async fn qemu(dir: &TempDir) -> (Running, PathBuf) {
    let socket = dir.path().join("b.qmp");
    let qmp = format!("unix:{},server=on,wait=off", socket.display());
    let mut machine = Process::new("qemu-system-x86_64");
    machine.args([
        "-M",
        "q35",
        "-accel",
        "tcg",
        "-m",
        "64",
        "-nodefaults",
        "-display",
        "none",
        "-uuid",
        HYPHENATED,
    ]);
    let machine = machine.args(["-qmp", &qmp]).stdin(Stdio::null()).spawn();
    let mut machine = Running(machine.expect("no qemu-system-x86_64: install the package qemu-system-x86"));
    appears(&socket, &mut machine, "qemu-system-x86").await;
    (machine, socket)
}

pub fn monitored(socket: &Path, uuid: &str) -> Hypervisor {
    Hypervisor::new(HypervisorConfig::new(Way::QmpSocket(socket.to_owned()), uuid).unwrap())
}

/// A libvirt daemon that sees no other's state, and a connection that keeps the test hypervisor's memory.
pub async fn libvirt(dir: &TempDir) -> (Running, Running, String) {
    let path = dir.path().display().to_string();
    let config = format!("unix_sock_dir = \"{path}\"\nauth_unix_rw = \"none\"\nauth_unix_ro = \"none\"\n");
    std::fs::write(dir.path().join("libvirtd.conf"), config).unwrap();
    let script = "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib/libvirt && \
                  exec libvirtd --config \"$0/libvirtd.conf\" --pid-file \"$0/pid\"";
    let mut daemon = Process::new("unshare");
    daemon.args(["--mount", "sh", "-c", script, &path]).stdin(Stdio::null()).stderr(Stdio::null());
    let mut daemon = Running(daemon.spawn().expect("no unshare program"));
    appears(&dir.path().join("libvirt-sock"), &mut daemon, "libvirt-daemon-system and root").await;
    let uri = format!("test+unix:///default?socket={path}/libvirt-sock");
    let mut keeper = Process::new("virsh");
    keeper.args(["-q", "-c", &uri]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut keeper = Running(keeper.spawn().expect("no virsh: install the package libvirt-clients"));
    // It is connected once it answers: what is defined before that is forgotten.
    keeper.0.stdin.as_mut().unwrap().write_all(b"uri\n").unwrap();
    keeper.0.stdout.as_mut().unwrap().read_exact(&mut [0]).expect("virsh keeps no connection");
    (daemon, keeper, uri)
}

pub fn virsh(uri: &str, arguments: &[&str]) {
    let mut virsh = Process::new("virsh");
    let status = virsh.args(["-q", "-c", uri]).args(arguments).stdout(Stdio::null()).status();
    assert!(status.unwrap().success(), "virsh {arguments:?}");
}

/// What defines a domain of the test hypervisor.
pub fn domain(dir: &TempDir) -> String {
    let xml = dir.path().join("b.xml");
    let text = format!(
        "<domain type='test'><name>b</name><uuid>{HYPHENATED}</uuid><memory>1024</memory><os><type>hvm</type></os></domain>"
    );
    std::fs::write(&xml, text).unwrap();
    xml.to_str().unwrap().to_owned()
}

pub fn at_libvirt(uri: &str) -> Hypervisor {
    Hypervisor::new(HypervisorConfig::new(Way::Libvirt(uri.to_owned()), UUID).unwrap())
}
