//! The way to a host that enforces: what a real sshd comes to, and one that breaks off. Closed ports, silence and
//! rubbish are in `wire_faults.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy knows a test only inside #[test]"
)]

mod enforcing;
mod wire;

use std::fs;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use enforcing::points::nft;
use enforcing::{Lab, SSHD, known_at, reads, run};
use palisade_devices::nft::Nft;
use palisade_devices::ssh::SshConfig;
use palisade_devices::{Device as _, Standing, Warrant};
use palisade_ladder::{Command, Failure, Reading, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;
use wire::{Fault, Link, Place};

fn device(ssh: SshConfig) -> Nft {
    nft(ssh, &["10.0.0.2"])
}

/// SAFE-4: whoever has another host key gets no order, and no login.
#[tokio::test]
async fn safe_4_another_host_key_is_another_host() {
    let lab = Lab::new();
    for (file, words) in [("other_known_hosts", "SHA256:"), ("empty_known_hosts", "ED25519")] {
        let mut stranger = device(lab.ssh_with("id", file));
        for command in [Command::Prove, Command::Off, Command::On, Command::Read] {
            let failure = run(&mut stranger, command).await.unwrap_err();
            let Failure::WrongIdentity { expected, found } = &failure else { panic!("{failure}") };
            assert!(expected.0.contains(file) && found.0.contains(words), "{failure}");
        }
    }
    assert_eq!(reads(&mut device(lab.ssh())).await, Reading::On);
}

#[tokio::test]
async fn a_key_that_is_not_let_in_is_a_refused_login() {
    let lab = Lab::new();
    for identity in ["other_id", "missing", "known_hosts"] {
        let failure =
            run(&mut device(lab.ssh_with(identity, "known_hosts")), Command::Off).await.unwrap_err();
        assert!(
            matches!(&failure, Failure::LoginRefused { at } if at.contains("Permission denied")),
            "{failure}"
        );
    }
    // Not even the client itself takes a key that everybody can read.
    fs::set_permissions(lab.path("id"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let failure = run(&mut device(lab.ssh()), Command::Prove).await.unwrap_err();
    assert!(matches!(&failure, Failure::LoginRefused { at } if at.contains("UNPROTECTED")), "{failure}");
}

#[tokio::test]
async fn a_login_without_a_shell_or_without_rights_is_told() {
    let lab = Lab::new();
    let key = fs::read_to_string(lab.path("id.pub")).unwrap();
    let with = |options: &str| fs::write(lab.path("authorized_keys"), format!("{options} {key}")).unwrap();
    with("restrict,command=\"echo no shell here >&2; exit 3\"");
    let failure = run(&mut device(lab.ssh()), Command::Off).await.unwrap_err();
    assert!(
        matches!(&failure, Failure::Refused { code } if code.contains("exit status 3: no shell here")),
        "{failure}"
    );
    with("restrict,command=\"setpriv --reuid 65534 --clear-groups sh\"");
    let failure = run(&mut device(lab.ssh()), Command::Off).await.unwrap_err();
    assert!(
        matches!(&failure, Failure::PrivilegeTooLow { detail } if detail.contains("uid 65534")),
        "{failure}"
    );
    // What a shell says of its own accord does not confuse.
    with("restrict,command=\"echo welcome; exec sh\"");
    assert_eq!(reads(&mut device(lab.ssh())).await, Reading::On);
}

/// Between the client and the host: passes everything on, and keeps back what the client says while `held`.
struct Proxy {
    address: SocketAddr,
    held: watch::Sender<bool>,
    /// Set once the host has ended a connection.
    ended: watch::Receiver<bool>,
}

impl Proxy {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (held, holding) = watch::channel(false);
        let (end, ended) = watch::channel(false);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let host = TcpStream::connect(SSHD).await.unwrap();
                let ((mut said, mut client), (mut answers, mut host)) =
                    (client.into_split(), host.into_split());
                let (mut holding, end) = (holding.clone(), end.clone());
                tokio::spawn(async move {
                    let mut buffer = vec![0; 65536];
                    while let Ok(read @ 1..) = said.read(&mut buffer).await {
                        holding.wait_for(|held| !held).await.unwrap();
                        drop(host.write_all(&buffer[..read]).await);
                    }
                });
                tokio::spawn(async move {
                    drop(tokio::io::copy(&mut answers, &mut client).await);
                    end.send_replace(true);
                });
            }
        });
        Self { address, held, ended }
    }
}

/// SAFE-2: an order that the network keeps back until its deadline is over is not carried out when it arrives at last.
#[tokio::test]
async fn safe_2_an_order_that_arrives_late_is_not_carried_out() {
    static HOLD: Mutex<Option<watch::Sender<bool>>> = Mutex::new(None);
    let lab = Lab::new();
    let mut proxy = Proxy::new().await;
    known_at(&lab, "known_proxy", proxy.address);
    let mut device_late = device(lab.ssh_at(proxy.address, "id", "known_proxy"));
    *HOLD.lock().unwrap() = Some(proxy.held.clone());
    static ASKED: AtomicBool = AtomicBool::new(false);
    // The second look is the one right before the order; what follows it is held.
    let standing = Standing::new(1, || {
        if ASKED.swap(true, Ordering::SeqCst) {
            HOLD.lock().unwrap().as_ref().unwrap().send_replace(true);
        }
        0
    });
    let warrant =
        Warrant { deadline: Instant::now() + Duration::from_secs(3), standing: Some(standing), whom: None };
    let failure = device_late.run(Command::Off, warrant).await.unwrap_err();
    assert!(matches!(failure, Failure::NoAnswer { .. }), "{failure}");
    assert!(*proxy.held.borrow(), "the order was on its way");
    proxy.held.send_replace(false);
    proxy.ended.wait_for(|ended| *ended).await.unwrap();
    assert_eq!(reads(&mut device(lab.ssh())).await, Reading::On);
}

/// A connection that breaks off anywhere is no answer, and never off.
#[tokio::test]
async fn half_an_answer_is_none() {
    let lab = Lab::new();
    assert_eq!(run(&mut device(lab.ssh()), Command::Off).await, Ok(Response::Acknowledged));
    let mut whole = 0;
    for bytes in (0..).map(|step| 400 + 400 * step) {
        let mut link = Link::start(&Place::any(), &Place::Address(SSHD.parse().unwrap())).await;
        link.goes(Fault::Ends(bytes)).await;
        let address = link.place.address();
        known_at(&lab, "known_wire", address);
        let answer = run(&mut device(lab.ssh_at(address, "id", "known_wire")), Command::Read).await;
        match answer {
            Err(Failure::Unreachable { .. } | Failure::Garbage { .. }) => {}
            Ok(Response::Reads(Reading::Off)) => {
                whole = bytes;
                break;
            }
            other @ (Ok(_) | Err(_)) => panic!("after {bytes} bytes: {other:?}"),
        }
    }
    assert!(whole > 4000, "{whole}");
}
