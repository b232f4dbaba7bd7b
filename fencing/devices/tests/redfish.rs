//! The Redfish driver on sushy-tools' emulator and on a fake that does what real services do wrong.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at the variants it is about")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy knows a test only inside #[test]"
)]

mod redfish_peers;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use palisade_devices::redfish::{Auth, Redfish};
use palisade_devices::{Device as _, Standing, Warrant};
use palisade_ladder::{Command, Failure, Reading, Response};
use redfish_peers::{Fake, OTHER, Sushy, UUID, Wrong, device};
use tokio::sync::Notify;
use tokio::time::Instant;

const DEADLINE: Duration = Duration::from_secs(4);

async fn run(device: &mut Redfish, command: Command) -> Result<Response, Failure> {
    run_within(device, command, DEADLINE).await
}

async fn run_within(device: &mut Redfish, command: Command, wait: Duration) -> Result<Response, Failure> {
    let started = Instant::now();
    let outcome = device.run(command, (started + wait).into()).await;
    assert!(started.elapsed() < wait + Duration::from_millis(200), "{command:?} overran its deadline");
    outcome
}

fn with_session(fake: &Fake) -> Redfish {
    device(fake.address, None, Auth::Session, "secret", UUID)
}

#[tokio::test]
async fn the_emulator_switches_the_system_of_this_uuid_over_tls_in_its_own_time() {
    let sushy = Sushy::start();
    let tls = || Some(sushy.tls("127.0.0.1"));
    let mut a = device(sushy.address, tls(), Auth::Basic, "secret", UUID);
    let mut b = device(sushy.address, tls(), Auth::Basic, "secret", OTHER);
    let Ok(Response::Proven(proven)) = run(&mut a, Command::Prove).await else { panic!("not proven") };
    assert_eq!(
        (proven.identity.0, proven.may_fence, proven.reads),
        (UUID.replace('-', ""), true, Reading::On)
    );
    assert_eq!(run(&mut a, Command::Off).await, Ok(Response::Acknowledged));
    // Accepted is not done: it takes up to eleven seconds more, and only a reading says when.
    let mut readings = vec![];
    while readings.last() != Some(&Ok(Response::Reads(Reading::Off))) {
        assert!(readings.len() < 10_000, "{:?}", readings.last());
        readings.push(run(&mut a, Command::Read).await);
    }
    assert_eq!(run(&mut b, Command::Read).await, Ok(Response::Reads(Reading::On)), "the other one stays on");
    // It carries the name that is asked for, and no other.
    let mut named = device(sushy.address, Some(sushy.tls("bmc-a.example")), Auth::Basic, "secret", UUID);
    assert_eq!(run(&mut named, Command::Read).await, Ok(Response::Reads(Reading::Off)));
    // Or it is known by its very certificate, whatever name that carries.
    let mut pinned =
        device(sushy.address, Some(sushy.pinned_tls("bmc-b.example")), Auth::Basic, "secret", UUID);
    assert_eq!(run(&mut pinned, Command::Read).await, Ok(Response::Reads(Reading::Off)));
    for wrong in [sushy.tls("bmc-b.example"), sushy.strangers_tls()] {
        let mut device = device(sushy.address, Some(wrong), Auth::Basic, "secret", UUID);
        let failure = run(&mut device, Command::On).await.unwrap_err();
        assert!(matches!(&failure, Failure::Refused { code } if code.starts_with("TLS: ")), "{failure:?}");
    }
    let mut stranger = device(sushy.address, tls(), Auth::Basic, "hunter2", UUID);
    let failure = run(&mut stranger, Command::On).await.unwrap_err();
    assert!(matches!(failure, Failure::LoginRefused { .. }), "{failure:?}");
    let mut lost =
        device(sushy.address, tls(), Auth::Basic, "secret", "4c4c4544-0051-3510-8052-00000000000c");
    assert!(matches!(run(&mut lost, Command::On).await, Err(Failure::WrongIdentity { .. })), "SAFE-4");
    // It has no sessions: user and password go with each request.
    let mut session = device(sushy.address, tls(), Auth::Session, "secret", UUID);
    assert!(matches!(run(&mut session, Command::Prove).await, Ok(Response::Proven(_))));
    let mut session = device(sushy.address, tls(), Auth::Session, "hunter2", UUID);
    assert!(matches!(run(&mut session, Command::Prove).await, Err(Failure::LoginRefused { .. })));
}

#[tokio::test]
async fn one_session_and_one_connection_serve_many_commands_and_are_given_back() {
    let fake = Fake::start().await;
    let mut device = with_session(&fake);
    for _ in 0..3 {
        assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
        assert_eq!(run(&mut device, Command::Read).await, Ok(Response::Reads(Reading::Off)));
        assert_eq!(run(&mut device, Command::On).await, Ok(Response::Acknowledged));
        assert_eq!(run(&mut device, Command::Read).await, Ok(Response::Reads(Reading::On)));
    }
    assert_eq!(fake.counts(), (1, 1, 6));
    device.close(Instant::now() + DEADLINE).await;
    assert!(fake.state().tokens.is_empty(), "the session is deleted");
}

#[tokio::test]
async fn a_session_that_has_ended_is_opened_anew_within_the_command() {
    let fake = Fake::start().await;
    let mut device = with_session(&fake);
    assert!(run(&mut device, Command::Prove).await.is_ok());
    fake.state().tokens.clear();
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!(fake.counts(), (2, 1, 1));
}

#[tokio::test]
async fn a_login_that_outlasts_its_command_serves_the_next_one_or_is_given_back() {
    let fake = Fake::start().await;
    let go = Arc::new(Notify::new());
    fake.state().slow_login = Some(Arc::clone(&go));
    let short = Duration::from_millis(300);
    let mut device = with_session(&fake);
    for command in [Command::Prove, Command::Read] {
        assert!(matches!(run_within(&mut device, command, short).await, Err(Failure::NoAnswer { .. })));
    }
    assert_eq!(fake.counts(), (0, 1, 0), "one login is under way, not two");
    go.notify_one();
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!(fake.counts(), (1, 1, 1));
    // Whoever leaves in the middle of one waits for it, and gives the session back.
    let mut device = with_session(&fake);
    assert!(run_within(&mut device, Command::Prove, short).await.is_err());
    go.notify_one();
    device.close(Instant::now() + DEADLINE).await;
    assert_eq!(fake.state().tokens, ["token-1"]);
}

#[tokio::test]
async fn a_reading_that_outlasts_its_command_does_not_cost_the_connection() {
    let fake = Fake::start().await;
    let mut device = with_session(&fake);
    assert!(run(&mut device, Command::Prove).await.is_ok());
    let go = Arc::new(Notify::new());
    fake.state().slow_reading = Some(Arc::clone(&go));
    let short = Duration::from_millis(300);
    assert!(run_within(&mut device, Command::Read, short).await.is_err());
    fake.state().slow_reading = None;
    go.notify_one();
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!(fake.counts(), (1, 1, 1), "one login, one connection");
    // One that was forgotten on its way is given up, within the command.
    fake.goes(Wrong::ForgetsIdle);
    assert!(run(&mut device, Command::Read).await.is_ok());
}

#[tokio::test]
async fn without_a_free_session_user_and_password_go_with_each_request() {
    for status in [503, 400] {
        let fake = Fake::start().await;
        fake.goes(Wrong::NoSessionLeft(status));
        let mut device = with_session(&fake);
        assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged), "{status}");
        assert_eq!(fake.counts(), (0, 1, 1));
    }
}

#[tokio::test]
async fn what_real_services_do_otherwise_is_understood() {
    // A slash at the end of everything, also of what is sent; null for absent; a place told in the body.
    for wrong in [Wrong::Slashes, Wrong::PlaceInBody, Wrong::EmptySlot] {
        let fake = Fake::start().await;
        fake.goes(wrong);
        let mut device = with_session(&fake);
        assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged), "{wrong:?}");
        assert_eq!(run(&mut device, Command::Read).await, Ok(Response::Reads(Reading::Off)), "{wrong:?}");
        assert_eq!(fake.state().orders, ["ForceOff"]);
        device.close(Instant::now() + DEADLINE).await;
        assert!(fake.state().tokens.is_empty(), "{wrong:?}");
        // The port is not the one that the scheme implies.
        assert_eq!(fake.state().host, fake.address.to_string());
    }
    // Only what would change something is allowed.
    let fake = Fake::start().await;
    fake.goes(Wrong::AllowsChanges);
    let mut device = with_session(&fake);
    assert_eq!(run(&mut device, Command::On).await, Ok(Response::AlreadySo));
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::AlreadySo));
    let Ok(Response::Proven(proven)) = run(&mut device, Command::Prove).await else { panic!("not proven") };
    assert!(proven.may_fence && proven.reads == Reading::Off);
    fake.goes(Wrong::Nulls);
    assert_eq!(run(&mut device, Command::Read).await, Ok(Response::Reads(Reading::Off)));
    assert!(matches!(run(&mut device, Command::On).await, Err(Failure::Refused { .. })));
}

#[tokio::test]
async fn safe_4_two_systems_of_one_uuid_are_neither_read_nor_switched() {
    let fake = Fake::start().await;
    fake.goes(Wrong::Twins);
    let mut device = with_session(&fake);
    let failure = run(&mut device, Command::Off).await.unwrap_err();
    assert!(matches!(&failure, Failure::Refused { code } if code.contains("Systems/2")), "{failure:?}");
    assert!(fake.state().orders.is_empty());
}

#[tokio::test]
async fn a_login_without_rights_is_no_wrong_password() {
    let fake = Fake::start().await;
    fake.goes(Wrong::NoRights);
    let mut device = with_session(&fake);
    fake.state().tokens.clear();
    // The root is free to read, here too.
    let failure = run(&mut device, Command::Prove).await.unwrap_err();
    assert!(matches!(failure, Failure::PrivilegeTooLow { .. }), "{failure:?}");
}

#[tokio::test]
async fn safe_4_another_systems_power_is_neither_read_nor_switched() {
    let fake = Fake::start().await;
    let mut device = with_session(&fake);
    assert!(run(&mut device, Command::Prove).await.is_ok());
    // The board was replaced, or the address now is another host's.
    for uuid in [OTHER, "00000000-0000-0000-0000-000000000000", ""] {
        fake.state().uuid = uuid;
        for command in [Command::Off, Command::Read, Command::On, Command::Prove] {
            let failure = run(&mut device, command).await.unwrap_err();
            match uuid {
                OTHER => assert!(matches!(failure, Failure::WrongIdentity { .. }), "{failure:?}"),
                // It says nothing, and may yet: no reason to give up on it.
                _ => assert!(matches!(failure, Failure::Refused { .. }), "{failure:?}"),
            }
        }
    }
    assert!(fake.state().orders.is_empty());
}

#[tokio::test]
async fn safe_4_a_service_is_reported_as_it_reads() {
    let fake = Fake::start().await;
    let mut device = with_session(&fake);
    fake.goes(Wrong::Lies);
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!(run(&mut device, Command::Read).await, Ok(Response::Reads(Reading::On)));
    fake.state().power = "PoweringOff";
    assert_eq!(run(&mut device, Command::Read).await, Ok(Response::Reads(Reading::Unknown)));
}

#[tokio::test]
async fn a_refusal_counts_as_already_so_only_if_the_service_reads_so() {
    let fake = Fake::start().await;
    let mut device = with_session(&fake);
    fake.goes(Wrong::RefusesSame);
    assert_eq!(run(&mut device, Command::On).await, Ok(Response::AlreadySo));
    fake.goes(Wrong::Refuses(409));
    let failure = run(&mut device, Command::Off).await.unwrap_err();
    assert!(
        matches!(&failure, Failure::Refused { code } if code.contains("409") && code.contains("not now")),
        "{failure:?}"
    );
    fake.goes(Wrong::Refuses(403));
    assert!(matches!(run(&mut device, Command::Off).await, Err(Failure::PrivilegeTooLow { .. })));
    // A code that speaks of something else is never taken so; whoever gave up midway may have passed the order on.
    fake.state().power = "Off";
    fake.goes(Wrong::Refuses(404));
    assert!(matches!(run(&mut device, Command::Off).await, Err(Failure::Refused { .. })));
    for status in [502, 503, 504, 408] {
        fake.goes(Wrong::Refuses(status));
        assert!(matches!(run(&mut device, Command::Off).await, Err(Failure::Garbage { .. })), "{status}");
    }
}

#[tokio::test]
async fn an_order_is_sent_once_whatever_becomes_of_its_answer() {
    let fake = Fake::start().await;
    let mut device = with_session(&fake);
    fake.goes(Wrong::DropsOrder);
    let failure = run(&mut device, Command::Off).await.unwrap_err();
    assert!(matches!(failure, Failure::Unreachable { .. }), "{failure:?}");
    assert_eq!(fake.state().orders, ["ForceOff"]);
    assert_eq!(run(&mut device, Command::Read).await, Ok(Response::Reads(Reading::Off)));
}

#[tokio::test]
async fn a_service_that_cannot_force_off_is_no_way_to_fence() {
    let fake = Fake::start().await;
    let mut device = with_session(&fake);
    fake.goes(Wrong::OnlyGraceful);
    let Ok(Response::Proven(proven)) = run(&mut device, Command::Prove).await else { panic!("not proven") };
    assert!(!proven.may_fence);
    let failure = run(&mut device, Command::Off).await.unwrap_err();
    assert!(
        matches!(&failure, Failure::Refused { code } if code.contains("GracefulShutdown")),
        "{failure:?}"
    );
    fake.goes(Wrong::Elsewhere);
    assert!(matches!(run(&mut device, Command::Off).await, Err(Failure::Garbage { .. })));
    fake.goes(Wrong::Neighbours);
    assert!(matches!(run(&mut device, Command::Off).await, Err(Failure::Refused { .. })), "SAFE-4");
    assert!(fake.state().orders.is_empty());
}

/// Each way of a service to fail has a name, and none outlasts the deadline.
#[tokio::test]
async fn every_fault_is_named_within_the_deadline() {
    let name = |failure: &Failure| match failure {
        Failure::NoAnswer { .. } => "no answer",
        Failure::Unreachable { .. } => "unreachable",
        Failure::Garbage { .. } => "garbage",
        Failure::LoginRefused { .. } => "login refused",
        other => panic!("{other:?}"),
    };
    let table = [
        (Wrong::Silent, "no answer"),
        (Wrong::Half, "garbage"),
        (Wrong::Babbles, "garbage"),
        (Wrong::NoJson, "garbage"),
        (Wrong::Endless, "garbage"),
    ];
    let wait = Duration::from_millis(500);
    for (wrong, expected) in table {
        for fresh in [true, false] {
            let fake = Fake::start().await;
            let mut device = with_session(&fake);
            if !fresh {
                assert!(run(&mut device, Command::Prove).await.is_ok());
            }
            fake.goes(wrong);
            for command in [Command::Read, Command::Off, Command::Prove] {
                let failure = run_within(&mut device, command, wait).await.unwrap_err();
                assert_eq!(name(&failure), expected, "{wrong:?}, {command:?}: {failure}");
            }
            assert!(fake.state().orders.is_empty());
            // And it is over with the fault.
            fake.goes(Wrong::Nothing);
            assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
        }
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut nobody = device(closed, None, Auth::Session, "secret", UUID);
    assert_eq!(name(&run(&mut nobody, Command::Prove).await.unwrap_err()), "unreachable");
    let fake = Fake::start().await;
    let mut stranger = device(fake.address, None, Auth::Session, "hunter2", UUID);
    let failure = run(&mut stranger, Command::Off).await.unwrap_err();
    assert_eq!(name(&failure), "login refused");
    assert!(!format!("{failure} {failure:?}").contains("hunter2"), "SAFE-6");
}

#[tokio::test]
async fn safe_2_an_order_without_standing_is_not_sent() {
    let fake = Fake::start().await;
    let mut device = with_session(&fake);
    assert!(run(&mut device, Command::Prove).await.is_ok());
    let standing = Standing::new(u64::MAX, || 1);
    standing.end();
    let warrant = Warrant { deadline: Instant::now() + DEADLINE, standing: Some(standing), whom: None };
    assert_eq!(device.run(Command::Off, warrant).await, Err(Failure::Cancelled));
    assert!(fake.state().orders.is_empty());
    // It ends while the order's own connection is being made: it is looked at a first time when the order begins, and then
    // when that connection stands.
    static LOOKS: AtomicU64 = AtomicU64::new(0);
    let fake = Fake::start().await;
    fake.goes(Wrong::Closes);
    let mut device = with_session(&fake);
    assert!(run(&mut device, Command::Prove).await.is_ok());
    let standing = Standing::new(1, || LOOKS.fetch_add(1, Ordering::Relaxed));
    let warrant = Warrant { deadline: Instant::now() + DEADLINE, standing: Some(standing), whom: None };
    assert_eq!(device.run(Command::Off, warrant).await, Err(Failure::Cancelled));
    assert_eq!(LOOKS.load(Ordering::Relaxed), 2);
    assert!(fake.state().orders.is_empty());
}
