//! The switch's driver on net-snmp's `snmpd` with real interfaces, in a network namespace of each test, and on peers that do wrong.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at the variants it is about")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy knows a test only inside #[test]"
)]

mod switch_peers;

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use palisade_devices::switch::{AuthProtocol, PortRef, Switch};
use palisade_devices::{Device as _, Standing, Warrant};
use palisade_ladder::{Command, Failure, Reading, Response};
use switch_peers::{
    AGENT, AUTH, DEADLINE, PRIV, agent, boot, community, config_of, index, named, run, set_alias, tool, user,
    writer,
};
use tokio::net::UdpSocket;
use tokio::time::Instant;

const RELAY: &str = "127.0.0.1:16101";
/// The tags of a set and of its answer.
const SET: u8 = 0xa3;
const RESPONSE: u8 = 0xa2;

/// Until the agent says that it is told to be up, and is not: it tells an interface's operational status some seconds late.
fn loses_its_link(port: &str) {
    let object = |column: u32| format!("1.3.6.1.2.1.2.2.1.{column}.{}", index(port));
    let (admin, oper) = (object(7), object(8));
    let until = Instant::now() + DEADLINE;
    loop {
        let said = tool("snmpget", &["-v2c", "-c", "reader", "-Oqve", AGENT, &admin, &oper], "snmp");
        match said.split_whitespace().collect::<Vec<_>>()[..] {
            ["1", "1"] => assert!(Instant::now() < until, "it keeps its link"),
            ["1", _] => return,
            _ => panic!("{said}"),
        }
    }
}

/// What the kernel says, whatever the agent does.
fn is_open(port: &str) -> bool {
    tool("ip", &["-o", "link", "show", port], "iproute2").contains(",UP")
}

async fn within(device: &mut Switch, command: Command, time: Duration) -> Result<Response, Failure> {
    let started = Instant::now();
    let answer = device.run(command, (started + time).into()).await;
    assert!(started.elapsed() < time + Duration::from_secs(2), "past its deadline");
    answer
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

/// Reads until it is so, as the ladder does: snmpd tells an interface's operational status some seconds late.
async fn comes_to_read(device: &mut Switch, wanted: Reading) {
    let until = Instant::now() + DEADLINE;
    loop {
        match run(device, Command::Read).await {
            Ok(Response::Reads(reading)) if reading == wanted => return,
            Ok(Response::Reads(_)) => assert!(Instant::now() < until, "it never reads {wanted:?}"),
            other => panic!("{other:?}"),
        }
    }
}

async fn proven(device: &mut Switch) -> (String, bool) {
    match run(device, Command::Prove).await {
        Ok(Response::Proven(proven)) => (proven.identity.0, proven.may_fence),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_port_is_closed_read_off_and_opened_by_every_login() {
    let _agent = agent().await;
    for login in [
        community("writer"),
        user("sha1", AuthProtocol::Sha1, AUTH, PRIV),
        user("sha2", AuthProtocol::Sha256, AUTH, PRIV),
    ] {
        let mut device = named(AGENT, "sw1", "host-b", login);
        comes_to_read(&mut device, Reading::On).await;
        assert_eq!(proven(&mut device).await, ("host-b".to_owned(), true));
        assert!(is_open("sw1"), "a proof changes nothing");
        assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
        assert!(!is_open("sw1"));
        comes_to_read(&mut device, Reading::Off).await;
        assert_eq!(run(&mut device, Command::Off).await, Ok(Response::AlreadySo));
        assert_eq!(proven(&mut device).await, ("host-b".to_owned(), true));
        assert!(!is_open("sw1"), "a proof changes nothing");
        assert_eq!(run(&mut device, Command::On).await, Ok(Response::Acknowledged));
        assert!(is_open("sw1"));
        comes_to_read(&mut device, Reading::On).await;
        assert_eq!(run(&mut device, Command::On).await, Ok(Response::AlreadySo));
    }
}

/// The far end closed: the port is told to be open, and has no link. SAFE-4: it is not off. Nor is it cut: what is opened for a host
/// that is still down reads on, or that host would wait for its own link.
#[tokio::test]
async fn safe_4_a_port_without_a_link_is_not_off_and_one_that_is_opened_without_a_link_reads_on() {
    let _agent = agent().await;
    let mut far = named(AGENT, "far1", "host-c", community("writer"));
    assert_eq!(run(&mut far, Command::Off).await, Ok(Response::Acknowledged));
    let mut device = writer(AGENT);
    loses_its_link("sw1");
    assert_eq!(run(&mut device, Command::Read).await, Ok(Response::Reads(Reading::On)));
    assert_eq!(run(&mut device, Command::On).await, Ok(Response::AlreadySo));
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    comes_to_read(&mut device, Reading::Off).await;
    assert_eq!(run(&mut device, Command::On).await, Ok(Response::Acknowledged));
    comes_to_read(&mut device, Reading::On).await;
    loses_its_link("sw1");
    assert!(is_open("sw1"));
}

#[tokio::test]
async fn who_may_only_read_is_told_apart_and_refused() {
    let _agent = agent().await;
    for login in [community("reader"), user("viewer", AuthProtocol::Sha1, AUTH, PRIV)] {
        let mut device = named(AGENT, "sw1", "host-b", login);
        assert_eq!(proven(&mut device).await, ("host-b".to_owned(), false));
        let failure = run(&mut device, Command::Off).await.unwrap_err();
        assert!(matches!(failure, Failure::PrivilegeTooLow { .. }), "{failure}");
        assert!(is_open("sw1"));
    }
}

/// Version 2c has no word for a wrong community; version 3 has.
#[tokio::test]
async fn a_wrong_login_is_refused_where_snmp_can_say_so() {
    let _agent = agent().await;
    let second = Duration::from_secs(1);
    let mut stranger = named(AGENT, "sw1", "host-b", community("nobody"));
    let failure = within(&mut stranger, Command::Off, second).await.unwrap_err();
    assert!(matches!(failure, Failure::NoAnswer { .. }), "{failure}");
    for (login, at) in [
        (user("nobody", AuthProtocol::Sha1, AUTH, PRIV), "the user's name"),
        (user("sha1", AuthProtocol::Sha1, "not the words", PRIV), "authentication"),
        (user("sha1", AuthProtocol::Sha256, AUTH, PRIV), "authentication"),
    ] {
        let mut device = named(AGENT, "sw1", "host-b", login);
        let failure = within(&mut device, Command::Off, second).await.unwrap_err();
        assert!(matches!(&failure, Failure::LoginRefused { at: step } if step.contains(at)), "{failure}");
    }
    // What cannot be decrypted is no message: snmpd drops some of it, and says so of some.
    let mut device = named(AGENT, "sw1", "host-b", user("sha1", AuthProtocol::Sha1, AUTH, "not the words"));
    let failure = within(&mut device, Command::Off, second).await.unwrap_err();
    assert!(matches!(failure, Failure::NoAnswer { .. } | Failure::LoginRefused { .. }), "{failure}");
    assert!(is_open("sw1"));
}

/// SAFE-4, SAFE-2
#[tokio::test]
async fn another_port_and_an_order_without_standing_are_left_alone() {
    let _agent = agent().await;
    for port in [PortRef::Name("sw1".to_owned()), PortRef::Index(index("sw1"))] {
        let mut stranger = Switch::new(config_of(AGENT, port, "host-a", community("writer")));
        for command in [Command::Prove, Command::Off, Command::On, Command::Read] {
            let failure = run(&mut stranger, command).await.unwrap_err();
            assert!(
                matches!(&failure, Failure::WrongIdentity { found, .. } if found.0 == "host-b"),
                "{failure}"
            );
        }
    }
    let mut none = named(AGENT, "Gi1/0/12", "host-b", community("writer"));
    let failure = run(&mut none, Command::Off).await.unwrap_err();
    assert!(matches!(&failure, Failure::Refused { code } if code.contains("no port")), "{failure}");
    let mut device = writer(AGENT);
    for looks in [0, 1] {
        let answer = device.run(Command::Off, holds_for(looks)).await;
        assert_eq!(answer, Err(Failure::Cancelled), "{looks} looks");
        assert!(is_open("sw1"));
    }
    assert_eq!(device.run(Command::Off, holds_for(2)).await, Ok(Response::Acknowledged));
}

/// SAFE-4: after a boot the port's name stands at another index, and another port at its old one.
#[tokio::test]
async fn a_port_is_looked_up_anew_in_each_command() {
    let before = agent().await;
    let mut device = writer(AGENT);
    assert_eq!(proven(&mut device).await.0, "host-b");
    let known = index("sw1");
    drop(before);
    for line in ["sw1 down", "far1 down", "sw1 name sw9", "far1 name sw1", "sw1 up", "sw9 up"] {
        let line = format!("link set {line}");
        tool("ip", &line.split(' ').collect::<Vec<_>>(), "iproute2");
    }
    let _agent = boot().await;
    assert_eq!(index("sw9"), known);
    set_alias("sw9", "host-b");
    let failure = run(&mut device, Command::Off).await.unwrap_err();
    assert!(matches!(failure, Failure::WrongIdentity { .. }), "{failure}");
    set_alias("sw1", "host-b");
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert!(is_open("sw9") && !is_open("sw1"));
}

/// Hands datagrams on, or not: `passes` is asked with each, and whether it goes to the agent.
async fn relay(mut passes: impl FnMut(bool, &[u8]) -> bool + Send + 'static) {
    let near = UdpSocket::bind(RELAY).await.unwrap();
    let far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    far.connect(AGENT).await.unwrap();
    tokio::spawn(async move {
        let mut client: Option<SocketAddr> = None;
        let (mut there, mut back) = (vec![0; 65_536], vec![0; 65_536]);
        loop {
            tokio::select! {
                Ok((len, from)) = near.recv_from(&mut there) => {
                    client = Some(from);
                    if passes(true, &there[..len]) { drop(far.send(&there[..len]).await); }
                }
                Ok(len) = far.recv(&mut back) => {
                    let Some(client) = client else { continue };
                    if passes(false, &back[..len]) { drop(near.send_to(&back[..len], client).await); }
                }
            }
        }
    });
}

/// The tag of a message's PDU, with the community "writer".
fn kind(message: &[u8]) -> u8 {
    let at = message.windows(6).position(|six| six == b"writer").unwrap();
    message[at + 6]
}

#[tokio::test]
async fn an_order_that_is_lost_is_sent_again_and_one_whose_answer_is_lost_is_not() {
    let _agent = agent().await;
    let (orders, order) = std::sync::mpsc::channel();
    let (mut lost, mut answer_due) = (0, false);
    relay(move |there, message| {
        if there && kind(message) == SET {
            orders.send((Instant::now(), message.to_vec())).unwrap();
            lost += 1;
            // The first is lost itself, the third's answer is.
            answer_due = lost == 3;
            return lost != 1;
        }
        let swallowed = !there && answer_due && kind(message) == RESPONSE;
        answer_due &= !swallowed;
        !swallowed
    })
    .await;
    let mut device = writer(RELAY);
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert!(!is_open("sw1"));
    let off: Vec<(Instant, Vec<u8>)> = order.try_iter().collect();
    assert_eq!(off.len(), 2);
    assert_eq!(off[0].1, off[1].1, "a copy, not another order");
    assert_eq!(run(&mut device, Command::On).await, Ok(Response::Acknowledged));
    assert!(is_open("sw1"));
    let on: Vec<(Instant, Vec<u8>)> = order.try_iter().collect();
    assert_eq!(on.len(), 1, "the port said that it was done");
    let waited = on[0].0 - off[1].0;
    assert!(
        waited > Duration::from_millis(1900),
        "a copy of the off may be late: the on came after {waited:?}"
    );
}

/// A failure after a copy has left never says that nothing was done.
#[tokio::test]
async fn an_order_is_in_doubt_when_its_port_becomes_another_ones() {
    let _agent = agent().await;
    relay(|there, message| {
        let is_order = there && kind(message) == SET;
        if is_order {
            set_alias("sw1", "host-x");
        }
        !is_order
    })
    .await;
    let failure = run(&mut writer(RELAY), Command::Off).await.unwrap_err();
    assert!(
        matches!(&failure, Failure::Garbage { detail } if detail.contains("may have been done")),
        "{failure}"
    );
    assert!(is_open("sw1"));
}

/// SAFE-2: standing is looked at before each copy.
#[tokio::test]
async fn safe_2_no_further_copy_leaves_once_standing_is_lost() {
    let _agent = agent().await;
    let (orders, order) = std::sync::mpsc::channel();
    relay(move |there, message| {
        let is_order = there && kind(message) == SET;
        if is_order {
            orders.send(()).unwrap();
        }
        !is_order
    })
    .await;
    assert_eq!(writer(RELAY).run(Command::Off, holds_for(2)).await, Err(Failure::Cancelled));
    assert_eq!(order.try_iter().count(), 1);
    assert!(is_open("sw1"));
}

#[tokio::test]
async fn answers_to_other_questions_and_lost_ones_change_nothing() {
    let _agent = agent().await;
    let mut held: Vec<u8> = Vec::new();
    let near = UdpSocket::bind(RELAY).await.unwrap();
    let far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    far.connect(AGENT).await.unwrap();
    // Before each answer comes the one before it once more; the first copy of every second question is lost.
    tokio::spawn(async move {
        let (mut buffer, mut asked) = (vec![0; 65_536], Vec::new());
        loop {
            let (len, client) = near.recv_from(&mut buffer).await.unwrap();
            let question = buffer[..len].to_vec();
            if !asked.contains(&question) {
                asked.push(question);
                if asked.len() % 2 == 0 {
                    continue;
                }
            }
            far.send(&buffer[..len]).await.unwrap();
            let len = far.recv(&mut buffer).await.unwrap();
            drop(near.send_to(&held, client).await);
            held = buffer[..len].to_vec();
            drop(near.send_to(&held, client).await);
        }
    });
    let mut device = writer(RELAY);
    comes_to_read(&mut device, Reading::On).await;
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    comes_to_read(&mut device, Reading::Off).await;
}
