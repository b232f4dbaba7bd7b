//! HAProxy's driver on a real HAProxy with two servers, and on peers that do wrong.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at the variants it is about")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy knows a test only inside #[test]"
)]

mod haproxy_peers;

use std::cell::Cell;
use std::time::Duration;

use haproxy_peers::{Balancer, DEADLINE, HOST_B, HOST_C, balancer, device, free_port};
use palisade_devices::haproxy::{HaProxy, HaProxyConfig, Socket};
use palisade_devices::{Device as _, Standing, Warrant};
use palisade_ladder::{Command, Failure, Reading, Response};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener};
use tokio::time::Instant;

async fn run(device: &mut HaProxy, command: Command) -> Result<Response, Failure> {
    device.run(command, (Instant::now() + DEADLINE).into()).await
}

thread_local! {
    static LOOKS: Cell<u64> = const { Cell::new(0) };
}

/// Standing that is lost after so many looks at it.
fn holds_for(looks: u64) -> Warrant {
    LOOKS.set(0);
    let standing = Standing::new(looks, || LOOKS.replace(LOOKS.get() + 1));
    Warrant { deadline: Instant::now() + DEADLINE, standing: Some(standing), whom: None }
}

async fn reads(device: &mut HaProxy) -> Reading {
    match run(device, Command::Read).await {
        Ok(Response::Reads(reading)) => reading,
        other => panic!("{other:?}"),
    }
}

/// Reads until it is so, as the ladder does.
async fn comes_to_read(device: &mut HaProxy, wanted: Reading) {
    let until = Instant::now() + DEADLINE;
    while reads(device).await != wanted {
        assert!(Instant::now() < until, "it never reads {wanted:?}");
    }
}

async fn proven(device: &mut HaProxy) -> (String, bool) {
    match run(device, Command::Prove).await {
        Ok(Response::Proven(proven)) => (proven.identity.0, proven.may_fence),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_server_is_taken_out_with_its_sessions_read_off_and_given_back() {
    let balancer = balancer().await;
    let mut device = balancer.device("b", HOST_B);
    assert_eq!(reads(&mut device).await, Reading::On);
    assert_eq!(proven(&mut device).await, (HOST_B.to_owned(), true));
    balancer.by_hand("set server web/c state ready").await;
    let (mut client, name) = balancer.client().await;
    assert_eq!(name, b'b');
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!(client.read(&mut [0]).await.unwrap_or(0), 0, "an open session ends");
    comes_to_read(&mut device, Reading::Off).await;
    assert_eq!(balancer.client().await.1, b'c', "new ones go elsewhere");
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::AlreadySo));
    assert_eq!(run(&mut device, Command::On).await, Ok(Response::Acknowledged));
    assert_eq!(reads(&mut device).await, Reading::On);
    assert_eq!(run(&mut device, Command::On).await, Ok(Response::AlreadySo));
    assert_eq!(balancer.client().await.1, b'b');
}

/// SAFE-4: in maintenance by hand it keeps the sessions that it has.
#[tokio::test]
async fn safe_4_a_server_with_a_session_is_not_off() {
    let balancer = balancer().await;
    let mut device = balancer.device("b", HOST_B);
    let (mut client, _) = balancer.client().await;
    balancer.by_hand("set server web/b state drain").await;
    assert_eq!(reads(&mut device).await, Reading::Unknown);
    balancer.by_hand("set server web/b state maint").await;
    assert_eq!(reads(&mut device).await, Reading::Unknown);
    client.write_u8(7).await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), 7, "it lives");
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    comes_to_read(&mut device, Reading::Off).await;
    assert_eq!(client.read(&mut [0]).await.unwrap_or(0), 0);
}

/// SAFE-4: who waits in the server's queue gets it although it is in maintenance.
#[tokio::test]
async fn safe_4_a_server_is_not_off_before_its_queue_is_empty() {
    let balancer = balancer().await;
    let socket = Socket::Path(balancer.socket());
    let mut device = HaProxy::new(HaProxyConfig::new(socket, "stuck", "b", HOST_B.parse().unwrap()).unwrap());
    let (mut first, _) = Balancer::client_at(balancer.queue).await;
    let mut second = TcpStream::connect(balancer.queue).await.unwrap();
    let until = Instant::now() + DEADLINE;
    while !balancer.asked("show stat -1 4 -1").await.contains("\nstuck,b,1,1,1,1,") {
        assert!(Instant::now() < until, "the second one does not wait");
    }
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!(reads(&mut device).await, Reading::Unknown, "the second one is on its way or there");
    assert_eq!(first.read(&mut [0]).await.unwrap_or(0), 0);
    assert_eq!(second.read_u8().await.unwrap(), b'b');
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    comes_to_read(&mut device, Reading::Off).await;
    assert_eq!(second.read(&mut [0]).await.unwrap_or(0), 0);
}

/// SAFE-4: a session that was given to the server counts nowhere for a moment.
#[tokio::test]
async fn safe_4_one_look_without_a_session_is_not_enough() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("api");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let mut stats = 0;
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut question = [0; 256];
            let len = stream.read(&mut question).await.unwrap();
            let says = match question[..len].starts_with(b"show stat") {
                true => {
                    stats += 1;
                    format!("# pxname,svname,qcur,qmax,scur\nweb,b,0,0,{}\n\n", u8::from(stats == 2))
                }
                false => {
                    "1\n# be_id be_name srv_id srv_name srv_addr srv_admin_state\n3 web 1 b 127.0.0.2 1\n\n"
                        .to_owned()
                }
            };
            stream.write_all(says.as_bytes()).await.unwrap();
        }
    });
    let mut device = device(Socket::Path(path), "b", HOST_B);
    assert_eq!(reads(&mut device).await, Reading::Unknown);
    assert_eq!(reads(&mut device).await, Reading::Off);
}

/// One that the configuration has disabled is off, and on once it is told so.
#[tokio::test]
async fn a_disabled_server_can_be_given_back() {
    let balancer = balancer().await;
    let mut device = balancer.device("c", HOST_C);
    assert_eq!(reads(&mut device).await, Reading::Off);
    assert_eq!(run(&mut device, Command::On).await, Ok(Response::Acknowledged));
    assert_eq!(reads(&mut device).await, Reading::On);
}

/// SAFE-4, SAFE-2
#[tokio::test]
async fn another_server_and_an_order_without_standing_are_left_alone() {
    let balancer = balancer().await;
    let mut stranger = balancer.device("b", HOST_C);
    for command in [Command::Prove, Command::Off, Command::On, Command::Read] {
        let failure = run(&mut stranger, command).await.unwrap_err();
        assert!(matches!(&failure, Failure::WrongIdentity { found, .. } if found.0 == HOST_B), "{failure}");
    }
    let failure = run(&mut balancer.device("d", HOST_B), Command::Off).await.unwrap_err();
    assert!(matches!(&failure, Failure::Refused { code } if code.contains("no server web/d")), "{failure}");
    let mut device = balancer.device("b", HOST_B);
    for looks in [0, 1] {
        let answer = device.run(Command::Off, holds_for(looks)).await;
        assert_eq!(answer, Err(Failure::Cancelled), "{looks} looks");
        assert_eq!(reads(&mut device).await, Reading::On);
    }
    assert_eq!(device.run(Command::Off, holds_for(2)).await, Ok(Response::Acknowledged));
    assert_eq!(device.run(Command::On, holds_for(1)).await, Err(Failure::Cancelled));
}

#[tokio::test]
async fn a_socket_that_may_not_switch_is_told_apart_and_refused() {
    let balancer = balancer().await;
    let mut device = device(Socket::Address(balancer.operator), "b", HOST_B);
    assert_eq!(proven(&mut device).await, (HOST_B.to_owned(), false));
    let failure = run(&mut device, Command::Off).await.unwrap_err();
    assert!(matches!(failure, Failure::PrivilegeTooLow { .. }), "{failure}");
    assert_eq!(reads(&mut device).await, Reading::On);
}

#[tokio::test]
async fn silence_a_closed_port_garbage_and_half_an_answer_are_told_apart() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("api");
    let state = "1\n# be_id be_name srv_id srv_name srv_addr srv_admin_state\n3 web 1 b 127.0.0.2 1\n";
    for (says, means) in [
        (None, "no answer"),
        (Some("what?\n\n"), "refused: HAProxy: what?"),
        (Some(state), "without its end"),
        (Some(""), "without its end"),
    ] {
        drop(std::fs::remove_file(&path));
        let listener = UnixListener::bind(&path).unwrap();
        let peer = tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                match says {
                    // The question is read first, or closing would be a reset.
                    Some(says) => {
                        drop(stream.read(&mut [0; 256]).await);
                        drop(stream.write_all(says.as_bytes()).await);
                    }
                    None => kept.push(stream),
                }
            }
        });
        let mut device = device(Socket::Path(path.clone()), "b", HOST_B);
        let started = Instant::now();
        let soon = started + Duration::from_millis(300);
        let failure = device.run(Command::Off, soon.into()).await.unwrap_err();
        assert!(failure.to_string().contains(means), "{says:?}: {failure}");
        assert!(started.elapsed() < Duration::from_secs(5), "past its deadline");
        peer.abort();
    }
    drop(std::fs::remove_file(&path));
    for socket in [Socket::Path(path), Socket::Address(free_port().await)] {
        let failure = run(&mut device(socket, "b", HOST_B), Command::Off).await.unwrap_err();
        assert!(matches!(failure, Failure::Unreachable { .. }), "{failure}");
    }
}
