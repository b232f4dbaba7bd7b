//! Logging in to real BMCs: what works, and what each kind of refusal is called. No refusal may leave an order behind.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy knows a test only inside #[test]"
)]

mod common;

use std::time::Duration;

use common::{Bmc, GUID, Kind, PASSWORD, Setup, USER, config};
use nix::sys::signal::Signal;
use palisade_devices::Device;
use palisade_devices::ipmi::{Ipmi, IpmiConfig, Privilege, Suite};
use palisade_ladder::{Command, Failure, Identity, Proven, Reading, Response};
use tokio::time::Instant;

const DEADLINE: Duration = Duration::from_secs(4);

/// Runs one command and holds the driver to its deadline.
async fn run_within(device: &mut Ipmi, command: Command, wait: Duration) -> Result<Response, Failure> {
    let started = Instant::now();
    let outcome = device.run(command, (started + wait).into()).await;
    let took = started.elapsed();
    assert!(took < wait + Duration::from_millis(100), "{command:?} took {took:?}, its deadline was {wait:?}");
    outcome
}

async fn run(device: &mut Ipmi, command: Command) -> Result<Response, Failure> {
    run_within(device, command, DEADLINE).await
}

/// Tries to fence with `config` and expects a refusal before anything reached the host.
async fn refusal(bmc: &Bmc, config: IpmiConfig) -> Failure {
    let mut device = Ipmi::new(config);
    let failure = run(&mut device, Command::Off).await.unwrap_err();
    assert!(bmc.power_is_on(), "the host lost power");
    assert_eq!(bmc.calls("set power 0"), 0, "an order was sent");
    failure
}

fn with_user(bmc: &Bmc, suite: Suite, user: (&str, &str), privilege: Privilege) -> IpmiConfig {
    config(bmc.address, suite, user, None, privilege, GUID)
}

/// Each BMC with each suite that it speaks.
fn all() -> Vec<(Bmc, Suite)> {
    vec![(Bmc::sim(), Suite::Three), (Bmc::pyghmi(), Suite::Three), (Bmc::pyghmi(), Suite::Seventeen)]
}

#[tokio::test]
async fn a_path_is_proven_with_both_suites_and_both_privileges() {
    for (bmc, suite) in all() {
        let proven = Proven { identity: Identity(GUID.into()), may_fence: true, reads: Reading::On };
        for (user, privilege) in
            [((USER, PASSWORD), Privilege::Administrator), (("fencer", "fence"), Privilege::Operator)]
        {
            let mut device = Ipmi::new(with_user(&bmc, suite, user, privilege));
            for _ in 0..3 {
                let outcome = run(&mut device, Command::Prove).await;
                assert_eq!(outcome, Ok(Response::Proven(proven.clone())), "{:?} suite {suite}", bmc.kind);
            }
            device.close(Instant::now() + DEADLINE).await;
        }
        assert_eq!(bmc.calls("set power 0"), 0);
    }
}

#[tokio::test]
async fn a_wrong_password_is_a_refused_login() {
    for (bmc, suite) in all() {
        let failure = refusal(&bmc, with_user(&bmc, suite, (USER, "Secret"), Privilege::Operator)).await;
        assert!(
            matches!(&failure, Failure::LoginRefused { at } if at.contains("RAKP message 2")),
            "{:?}: {failure:?}",
            bmc.kind
        );
    }
}

#[tokio::test]
async fn a_wrong_user_is_a_refused_login() {
    for (bmc, suite) in all() {
        let failure = refusal(&bmc, with_user(&bmc, suite, ("nobody", PASSWORD), Privilege::Operator)).await;
        assert!(matches!(failure, Failure::LoginRefused { .. }), "{:?}: {failure:?}", bmc.kind);
    }
}

#[tokio::test]
async fn a_bmc_that_ignores_unknown_users_is_a_refused_login() {
    let bmc = Bmc::start(Kind::Pyghmi, &Setup { silent_user: true, ..Setup::default() });
    let failure =
        refusal(&bmc, with_user(&bmc, Suite::Seventeen, ("nobody", PASSWORD), Privilege::Operator)).await;
    assert!(matches!(&failure, Failure::LoginRefused { at } if at.contains("unknown user")), "{failure:?}");
}

#[tokio::test]
async fn kg_is_used_and_a_wrong_one_is_a_refused_login() {
    let setup = Setup { kg: Some("sixteen-byte-key"), ..Setup::default() };
    for (kind, suite) in
        [(Kind::Sim, Suite::Three), (Kind::Pyghmi, Suite::Three), (Kind::Pyghmi, Suite::Seventeen)]
    {
        let bmc = Bmc::start(kind, &setup);
        let with_kg = |kg| config(bmc.address, suite, (USER, PASSWORD), kg, Privilege::Operator, GUID);
        for wrong in [Some("sixteen-byte-kez"), None] {
            let failure = refusal(&bmc, with_kg(wrong)).await;
            assert!(
                matches!(&failure, Failure::LoginRefused { at } if at.contains("RAKP message 4")),
                "{kind:?}: {failure:?}"
            );
        }
        let mut device = Ipmi::new(with_kg(setup.kg));
        assert!(run(&mut device, Command::Prove).await.is_ok(), "{kind:?} suite {suite}");
    }
}

#[tokio::test]
async fn a_user_who_may_only_look_is_a_privilege_too_low() {
    // Not on ipmi_sim: it lets any user of RMCP+ have any level (ipmitool can power off with such a user, too).
    for suite in [Suite::Three, Suite::Seventeen] {
        let bmc = Bmc::pyghmi();
        // Found out by asking for the level, long before an order would be refused.
        let mut viewer = Ipmi::new(with_user(&bmc, suite, ("viewer", "look"), Privilege::Operator));
        let failure = run(&mut viewer, Command::Prove).await.unwrap_err();
        assert!(matches!(failure, Failure::PrivilegeTooLow { .. }), "{failure:?}");
        let failure = refusal(&bmc, with_user(&bmc, suite, ("viewer", "look"), Privilege::Operator)).await;
        assert!(matches!(failure, Failure::PrivilegeTooLow { .. }), "{:?}: {failure:?}", bmc.kind);
    }
}

#[tokio::test]
async fn safe_4_another_hosts_bmc_is_ordered_nothing_and_read_nothing() {
    for (bmc, suite) in all() {
        let other = "b123456789abcdefa123456789abcde1";
        let config = config(bmc.address, suite, (USER, PASSWORD), None, Privilege::Operator, other);
        let mut device = Ipmi::new(config);
        for command in [Command::Off, Command::Prove, Command::Read, Command::On] {
            let failure = run(&mut device, command).await.unwrap_err();
            let expected =
                Failure::WrongIdentity { expected: Identity(other.into()), found: Identity(GUID.into()) };
            assert_eq!(failure, expected, "{:?} {command:?}", bmc.kind);
        }
        assert!(bmc.power_is_on() && bmc.calls("set power 0") + bmc.calls("set power 1") == 0);
    }
}

#[tokio::test]
async fn safe_4_a_blank_guid_is_nobodys() {
    for guid in ["00000000000000000000000000000000", "ffffffffffffffffffffffffffffffff"] {
        for kind in [Kind::Sim, Kind::Pyghmi] {
            let bmc = Bmc::start(kind, &Setup { guid, ..Setup::default() });
            let failure = refusal(&bmc, bmc.config(Suite::Three)).await;
            assert!(
                matches!(&failure, Failure::WrongIdentity { found, .. } if found.is_blank()),
                "{kind:?}: {failure:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_bmc_without_the_suite_has_no_common_cipher() {
    let bmc = Bmc::sim(); // knows no SHA-256
    let failure = refusal(&bmc, bmc.config(Suite::Seventeen)).await;
    assert!(matches!(failure, Failure::NoCommonCipher { .. }), "{failure:?}");
}

#[tokio::test]
async fn a_bmc_that_answers_with_another_suite_is_not_followed() {
    for (asked, forced) in [(Suite::Seventeen, 3), (Suite::Three, 17)] {
        let bmc = Bmc::start(Kind::Pyghmi, &Setup { force_suite: Some(forced), ..Setup::default() });
        let failure = refusal(&bmc, bmc.config(asked)).await;
        assert!(matches!(failure, Failure::NoCommonCipher { .. }), "{failure:?}");
    }
}

#[tokio::test]
async fn a_closed_port_is_unreachable_and_said_soon() {
    let mut bmc = Bmc::sim();
    let mut device = bmc.device(Suite::Three);
    assert!(run(&mut device, Command::Prove).await.is_ok());
    bmc.stop();
    for _ in 0..2 {
        // Warm at first, cold then.
        let failure = run_within(&mut device, Command::Off, Duration::from_secs(2)).await.unwrap_err();
        assert!(matches!(failure, Failure::Unreachable { .. }), "{failure:?}");
    }
}

#[tokio::test]
async fn a_stopped_bmc_is_no_answer_at_the_deadline() {
    for (bmc, suite) in all() {
        let mut warm = bmc.device(suite);
        assert!(run(&mut warm, Command::Prove).await.is_ok());
        bmc.signal(Signal::SIGSTOP);
        for device in [&mut warm, &mut bmc.device(suite)] {
            let failure = run_within(device, Command::Read, Duration::from_secs(1)).await.unwrap_err();
            assert!(matches!(failure, Failure::NoAnswer { waited_ms: 900..=1100 }), "{failure:?}");
        }
        bmc.signal(Signal::SIGCONT);
        assert_eq!(run(&mut warm, Command::Read).await, Ok(Response::Reads(Reading::On)), "it recovers");
    }
}
