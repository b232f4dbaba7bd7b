//! Domains on a real libvirt daemon with its test hypervisor, in a mount namespace of the test's own; and what virsh's words
//! are taken for.

use std::process::{Child, Command, Stdio};

use super::super::driver::{Driver, Place};
use super::super::{Kind, OpError, Options, Spec};
use super::*;
use crate::testing::{TempDir, run};

const LONG: Duration = Duration::from_secs(20);
const XML: &str = "<domain type='test'>\n  <name>db</name>\n  <memory>1024</memory>\n  <os><type>hvm</type></os>\n</domain>\n";

/// A libvirt daemon that sees no other's state, and a connection that keeps the test hypervisor's memory from being dropped.
struct Libvirt {
    dir: TempDir,
    daemon: Child,
    keeper: Child,
}

impl Libvirt {
    fn new() -> Self {
        let dir = TempDir::new();
        let path = dir.path().to_str().unwrap();
        let config =
            format!("unix_sock_dir = \"{path}\"\nauth_unix_rw = \"none\"\nauth_unix_ro = \"none\"\n");
        std::fs::write(dir.path().join("libvirtd.conf"), config).unwrap();
        let script = "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib/libvirt && exec libvirtd --config \"$0/libvirtd.conf\" --pid-file \"$0/pid\"";
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, path]).stdin(Stdio::null()).stderr(log);
        let mut daemon = command.spawn().expect("no unshare program");
        run(async {
            while !dir.path().join("libvirt-sock").exists() {
                if let Some(status) = daemon.try_wait().unwrap() {
                    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
                    panic!(
                        "libvirtd ends with {status}; this test needs libvirt-daemon-system and root\n{log}"
                    );
                }
                tokio::task::yield_now().await;
            }
        });
        let uri = Self::uri_in(dir.path());
        let keeper = Command::new("virsh")
            .args(["-q", "-c", &uri])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        let keeper = keeper.expect("no virsh; this test needs libvirt-clients");
        Self { dir, daemon, keeper }
    }

    fn uri_in(dir: &Path) -> String {
        format!("test+unix:///default?socket={}/libvirt-sock", dir.display())
    }

    fn driver(&self, xml: &str) -> Driver {
        let path = self.dir.path().join("db.xml");
        std::fs::write(&path, xml).unwrap();
        driver(&Self::uri_in(self.dir.path()), path)
    }

    fn virsh(&self, arguments: &[&str]) {
        let uri = Self::uri_in(self.dir.path());
        let status =
            Command::new("virsh").args(["-q", "-c", &uri]).args(arguments).stdout(Stdio::null()).status();
        assert!(status.unwrap().success(), "virsh {arguments:?}");
    }
}

impl Drop for Libvirt {
    fn drop(&mut self) {
        for child in [&mut self.keeper, &mut self.daemon] {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn driver(uri: &str, xml: PathBuf) -> Driver {
    let run_dir = std::env::temp_dir();
    let host =
        Host::placed(Options { libvirt_uri: uri.to_owned(), ..Options::new(run_dir) }, Place::Sessions);
    let kind = Kind::Libvirt { domain: "db".into(), xml };
    let id = palisade_proto::WorkloadId(1);
    let spec = Spec { id, name: "db".into(), kind, start_timeout: LONG, stop_timeout: LONG };
    Driver::new(&spec, &Arc::new(host))
}

#[test]
fn a_domain_is_created_read_shut_down_and_destroyed() {
    let libvirt = Libvirt::new();
    let driver = libvirt.driver(XML);
    run(async {
        assert_eq!(driver.status().await, Observed::Stopped);
        assert_eq!(driver.stop().await, Ok(Observed::Stopped), "stopping what does not run is no failure");
        assert_eq!(driver.kill().await, Ok(Observed::Stopped), "nor is killing it");
        assert_eq!(driver.start().await, Ok(Observed::Running));
        assert_eq!(driver.autostart().await, Autostart::Off);
        let again = driver
            .virsh_of()
            .virsh(&["create", &driver.virsh_of().xml.to_string_lossy()], LONG)
            .await
            .unwrap_err();
        assert!(again.contains("virsh create db: exit status 1: ") && again.contains("already"), "{again}");
        libvirt.virsh(&["suspend", "db"]);
        assert_eq!(driver.status().await, Observed::Running, "a paused guest can go on at any time");
        assert_eq!(driver.kill().await, Ok(Observed::Stopped));
        assert_eq!(driver.start().await, Ok(Observed::Running));
        assert_eq!(driver.stop().await, Ok(Observed::Stopped));
    });
}

#[test]
#[ignore = "needs libvirt's system daemon and QEMU"]
fn on_qemu_a_guest_starts_and_is_killed_with_and_without_libvirt() {
    let dir = TempDir::new();
    let path = dir.path().join("db.xml");
    std::fs::write(&path, "<domain type='qemu'><name>db</name><memory unit='MiB'>64</memory><os><type arch='x86_64' machine='pc'>hvm</type></os><devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices></domain>").unwrap();
    let driver = driver("qemu:///system", path);
    run(async {
        assert_eq!(driver.status().await, Observed::Stopped);
        assert_eq!(driver.start().await, Ok(Observed::Running));
        assert_eq!(driver.autostart().await, Autostart::Off);
        assert_eq!(driver.kill().await, Ok(Observed::Stopped));
        assert_eq!(driver.start().await, Ok(Observed::Running));
        let pid: i32 = std::fs::read_to_string("/run/libvirt/qemu/db.pid").unwrap().trim().parse().unwrap();
        // libvirt's daemon hangs: the guest is killed all the same, and what it reads is unknown.
        let daemon: i32 = std::fs::read_to_string("/run/libvirtd.pid").unwrap().trim().parse().unwrap();
        kill(Pid::from_raw(daemon), Signal::SIGSTOP).unwrap();
        let killed = driver.kill().await;
        let gone = !std::fs::exists(format!("/proc/{pid}")).unwrap();
        kill(Pid::from_raw(daemon), Signal::SIGCONT).unwrap();
        assert!(gone, "{killed:?}");
        assert!(matches!(killed, Err(OpError { after: Observed::Unknown { .. }, .. })), "{killed:?}");
        while driver.status().await != Observed::Stopped {
            tokio::task::yield_now().await;
        }
        // This guest ignores ACPI: a stop becomes a kill, and says so.
        assert_eq!(driver.start().await, Ok(Observed::Running));
        let stopped = driver.stop().await;
        assert!(
            matches!(&stopped, Err(error) if error.why.contains("has not shut down") && error.after == Observed::Stopped),
            "{stopped:?}"
        );
    });
}

#[test]
fn safe_9_a_domain_on_autostart_is_found() {
    let libvirt = Libvirt::new();
    let driver = libvirt.driver(XML);
    run(async {
        assert_eq!(driver.autostart().await, Autostart::Off, "libvirt knows no such domain");
        libvirt.virsh(&["define", &libvirt.dir.path().join("db.xml").to_string_lossy()]);
        assert_eq!(driver.autostart().await, Autostart::Off);
        libvirt.virsh(&["autostart", "db"]);
        assert!(
            matches!(driver.autostart().await, Autostart::On { what } if what.contains("virsh autostart --disable db"))
        );
    });
}

#[test]
fn a_libvirt_that_does_not_answer_is_unknown_and_never_stopped() {
    let nowhere = driver("test+unix:///default?socket=/nonexistent/sock", "/nonexistent/db.xml".into());
    run(async {
        let observed = nowhere.status().await;
        assert!(
            matches!(&observed, Observed::Unknown { why } if why.contains("failed to connect")),
            "{observed:?}"
        );
        assert!(matches!(nowhere.autostart().await, Autostart::Unknown { .. }));
        let error = nowhere.kill().await.unwrap_err();
        assert!(matches!(&error.after, Observed::Unknown { .. }), "{error}");
        let error = nowhere.start().await.unwrap_err();
        assert!(error.why.contains("/nonexistent/db.xml: No such file"), "{error}");
    });
}

#[test]
fn xml_that_hangs_holds_up_nothing_else_and_one_thread_at_most() {
    let dir = TempDir::new();
    let path = dir.path().join("db.xml");
    // Opening it for reading blocks until somebody writes.
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let driver = driver("test:///default", path.clone());
    let domain = driver.virsh_of();
    run(async {
        let late = domain.read_xml(Duration::from_millis(20)).await.unwrap_err();
        assert!(late.contains("not read after 20 ms"), "{late}");
        let again = domain.read_xml(LONG).await.unwrap_err();
        assert!(again.contains("still hangs"), "{again}");
        // It comes back, and what it then holds is read.
        std::fs::write(&path, XML).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, XML).unwrap();
        while let Err(error) = domain.read_xml(LONG).await {
            assert!(error.contains("still hangs"), "{error}");
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn xml_of_another_domain_is_refused() {
    let dir = TempDir::new();
    let path = dir.path().join("db.xml");
    std::fs::write(&path, XML.replace("<name>db<", "<name>web<")).unwrap();
    let error = run(driver("test:///default", path).start()).unwrap_err();
    assert!(error.why.contains("expected the domain \"db\", found \"web\""), "{error}");
}

#[test]
fn virshs_words_are_read_in_full() {
    for word in ["running", "idle", "paused", "in shutdown", "pmsuspended"] {
        assert_eq!(State::from(word), State::Active);
    }
    assert_eq!(State::from("shut off"), State::Absent);
    assert_eq!(State::from("crashed"), State::Crashed);
    assert_eq!(State::from("no state"), State::Other("no state".into()));
    assert_eq!(autostart("db", "Autostart:      disable\n"), Autostart::Off);
    assert!(matches!(autostart("db", "Name: db\n"), Autostart::Unknown { .. }));
    assert_eq!(name_in("<domain><name> db </name><x><name>y</name>"), Some("db"));
    assert_eq!(name_in("<domain/>"), None);
}

#[test]
fn safe_3_a_guest_is_killed_by_its_process_without_libvirt() {
    let dir = TempDir::new();
    let mut guest = Command::new("sh").args(["-c", "exec sleep 1000 # $0", "-name", "x"]).spawn().unwrap();
    std::fs::write(dir.path().join("db.pid"), guest.id().to_string()).unwrap();
    assert_eq!(kill_process(dir.path(), "db"), None, "a process that is not this domain's is left alone");
    guest.kill().unwrap();
    guest.wait().unwrap();
    let mut guest = Command::new("tail")
        .args(["-f", "/dev/null", "guest=db,debug-threads=on"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::fs::write(dir.path().join("db.pid"), guest.id().to_string()).unwrap();
    run(async {
        // Until the exec, the process has our own command line.
        while kill_process(dir.path(), "db").is_none() {
            tokio::task::yield_now().await;
        }
    });
    assert!(!guest.wait().unwrap().success());
}
