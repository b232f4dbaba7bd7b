//! The driver of fence agents: Debian's own agents, and programs of ours that do what agents do wrong.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at the variants it is about")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy knows a test only inside #[test]"
)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Bmc, PASSWORD, USER};
use palisade_devices::agent::{AgentConfig, Driver};
use palisade_devices::{Device as _, Secret, Standing, Warrant};
use palisade_ladder::{Command, Failure, Reading, Response};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::time::Instant;

const DEADLINE: Duration = Duration::from_secs(20);
const SECRET: &str = "hunter2";

fn agent(program: &Path, options: &[(&str, &str)], password: &str) -> Driver {
    let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let secrets = [("password".to_owned(), Secret::new(password.as_bytes().to_vec()))];
    let secrets = if password.is_empty() { BTreeMap::new() } else { BTreeMap::from(secrets) };
    Driver::new(AgentConfig::new(program.to_owned(), options.collect(), secrets).unwrap())
}

/// One of Debian's; they are wherever the package puts them.
fn installed(name: &str) -> PathBuf {
    let path = Path::new("/usr/sbin").join(name);
    assert!(path.exists(), "{} is missing: run tests/peers/install.sh", path.display());
    path
}

/// A fake agent: a shell script that knows `plug` and `password`, and does `body` for anything but `metadata`; `$action` and
/// `$input` are what it was given.
fn fake(folder: &Path, body: &str) -> PathBuf {
    let script = format!(
        "#!/bin/sh\ninput=$(cat)\naction=$(echo \"$input\" | sed -n 's/^action=//p')\ncd {}\n\
         if [ \"$action\" = metadata ]; then cat <<'X'\n<?xml version=\"1.0\"?><resource-agent name=\"fake\"><parameters>\
         <parameter name=\"plug\"/><parameter name=\"password\"/></parameters><actions><action name=\"on\"/>\
         <action name=\"off\"/><action name=\"status\"/></actions></resource-agent>\nX\nexit 0; fi\n{body}\n",
        folder.display()
    );
    script_at(folder, "fence_fake", &script)
}

fn script_at(folder: &Path, name: &str, script: &str) -> PathBuf {
    let path = folder.join(name);
    // Closed before anybody runs it; a rename never meets a program that is being written (ETXTBSY).
    let written = folder.join(format!("{name}.new"));
    fs::write(&written, script).unwrap();
    fs::set_permissions(&written, fs::Permissions::from_mode(0o700)).unwrap();
    fs::rename(&written, &path).unwrap();
    path
}

async fn run(device: &mut Driver, command: Command) -> Result<Response, Failure> {
    device.run(command, (Instant::now() + DEADLINE).into()).await
}

#[tokio::test]
async fn debians_dummy_is_switched_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let mut device = agent(&installed("fence_dummy"), &[("status_file", state.to_str().unwrap())], "");
    assert_eq!(run(&mut device, Command::On).await, Ok(Response::Acknowledged));
    let Ok(Response::Proven(proven)) = run(&mut device, Command::Prove).await else { panic!("not proven") };
    assert_eq!(
        (proven.identity.0.as_str(), proven.may_fence, proven.reads),
        ("fence_dummy", true, Reading::On)
    );
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!(run(&mut device, Command::Read).await, Ok(Response::Reads(Reading::Off)));
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::AlreadySo));
}

#[tokio::test]
async fn debians_agent_for_ipmi_switches_a_real_bmc() {
    let bmc = Bmc::sim();
    let port = bmc.address.port().to_string();
    let told =
        [("ip", "127.0.0.1"), ("ipport", &port), ("username", USER), ("lanplus", "1"), ("cipher", "3")];
    let mut device = agent(&installed("fence_ipmilan"), &told, PASSWORD);
    let Ok(Response::Proven(proven)) = run(&mut device, Command::Prove).await else { panic!("not proven") };
    assert_eq!(proven.identity.0, format!("fence_ipmilan ip=127.0.0.1 ipport={port}"));
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert!(!bmc.power_is_on());
    assert_eq!(run(&mut device, Command::Read).await, Ok(Response::Reads(Reading::Off)));
    let mut stranger = agent(&installed("fence_ipmilan"), &told, "wrong");
    let failure = run(&mut stranger, Command::On).await.unwrap_err();
    assert!(matches!(&failure, Failure::Garbage { detail } if detail.contains("exit status 1")), "{failure}");
    assert!(!bmc.power_is_on());
}

#[tokio::test]
async fn safe_6_what_it_is_told_stands_on_its_standard_input_alone() {
    let folder = tempfile::tempdir().unwrap();
    let body = "echo \"$input\" >input\ntr '\\0' '\\n' </proc/$$/cmdline >argv\ntr '\\0' '\\n' </proc/$$/environ >environment\n\
                echo 'Status: ON'";
    let mut device = agent(&fake(folder.path(), body), &[("plug", "7")], SECRET);
    assert_eq!(run(&mut device, Command::Read).await, Ok(Response::Reads(Reading::On)));
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(read("input"), format!("action=status\nplug=7\npassword={SECRET}\n"));
    assert!(!read("argv").contains(SECRET) && !read("environment").contains(SECRET));
    let mut names: Vec<_> =
        read("environment").lines().map(|line| line.split('=').next().unwrap().to_owned()).collect();
    names.sort();
    assert_eq!(names, ["LANG", "PATH"], "nothing of ours is passed on");
    // And what it says of it is not passed on.
    let mut telltale = agent(&fake(folder.path(), "echo \"bad password: $input\" >&2; exit 1"), &[], SECRET);
    for command in [Command::Read, Command::Off] {
        let failure = run(&mut telltale, command).await.unwrap_err();
        assert!(!format!("{failure} {failure:?}").contains(SECRET), "{failure}");
    }
}

/// SAFE-4: an interpreter that cannot read the agent ends with 2 as well.
#[tokio::test]
async fn safe_4_only_what_says_off_is_off() {
    let folder = tempfile::tempdir().unwrap();
    let table = [
        ("echo 'Status: OFF'; exit 2", Ok(Reading::Off)),
        ("echo 'Status: ON'; exit 0", Ok(Reading::On)),
        ("exit 0", Ok(Reading::On)),
        ("echo \"sh: 0: cannot open fence_x: No such file\" >&2; exit 2", Err("no word of it")),
        ("echo 'Status: ON'; exit 2", Err("no word of it")),
        ("echo 'Status: OFF'; exit 1", Err("exit status 1: no word of why")),
        ("echo 'out of plugs' >&2; exit 3", Err("exit status 3: out of plugs")),
        ("kill -9 $$", Err("killed by a signal")),
        // A shell that cannot parse its script.
        ("if", Err("exit status 2")),
    ];
    for (body, expected) in table {
        let mut device = agent(&fake(folder.path(), body), &[], "");
        let read = run(&mut device, Command::Read).await;
        match expected {
            Ok(power) => assert_eq!(read, Ok(Response::Reads(power)), "{body}"),
            Err(words) => {
                assert!(read.as_ref().is_err_and(|said| said.to_string().contains(words)), "{body}: {read:?}")
            }
        }
    }
}

#[tokio::test]
async fn an_agent_that_would_not_do_what_is_written_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let program = fake(folder.path(), "echo \"$action\" >>done; echo 'Status: ON'");
    // A misspelt setting is passed over by agents: the order would go to whatever plug comes first.
    let mut misspelt = agent(&program, &[("plgu", "7")], "");
    for command in [Command::Prove, Command::Off, Command::On] {
        let failure = run(&mut misspelt, command).await.unwrap_err();
        assert!(matches!(&failure, Failure::Refused { code } if code.contains("`plgu`")), "{failure}");
    }
    // One that can do less than a fence needs, and one that does not explain itself.
    let no_power = installed("fence_kdump");
    let failure = run(&mut agent(&no_power, &[], ""), Command::Off).await.unwrap_err();
    assert!(matches!(&failure, Failure::Refused { code } if code.contains("has no action")), "{failure}");
    let mute = script_at(folder.path(), "fence_mute", "#!/bin/sh\necho hello\n");
    let failure = run(&mut agent(&mute, &[], ""), Command::Prove).await.unwrap_err();
    assert!(matches!(&failure, Failure::Garbage { detail } if detail.contains("metadata")), "{failure}");
    assert!(!folder.path().join("done").exists());
    let missing = agent(&folder.path().join("fence_none"), &[], "");
    let not_a_program = script_at(folder.path(), "fence_text", "hello");
    fs::set_permissions(&not_a_program, fs::Permissions::from_mode(0o600)).unwrap();
    for mut device in [missing, agent(&not_a_program, &[], "")] {
        let failure = run(&mut device, Command::Prove).await.unwrap_err();
        assert!(matches!(&failure, Failure::Unreachable { error } if error.contains("fence_")), "{failure}");
    }
}

/// It ends by the deadline, with everything that it started, and however much it says.
#[tokio::test]
async fn an_agent_that_hangs_is_killed_with_what_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let lives = folder.path().join("lives");
    nix::unistd::mkfifo(&lives, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut alive = pipe::OpenOptions::new().open_receiver(&lives).unwrap();
    let program = fake(folder.path(), "exec 3>lives; echo >&3; sleep 1000 & sleep 1000");
    let mut device = agent(&program, &[], "");
    let started = Instant::now();
    let wait = Duration::from_millis(700);
    let failure = device.run(Command::Read, (started + wait).into()).await.unwrap_err();
    assert!(matches!(failure, Failure::NoAnswer { .. }), "{failure}");
    assert!(started.elapsed() < wait + Duration::from_millis(200));
    // The pipe ends when nobody holds it open any more.
    let mut said = Vec::new();
    tokio::time::timeout(DEADLINE, alive.read_to_end(&mut said))
        .await
        .expect("something outlives it")
        .unwrap();
    let flood = fake(folder.path(), "yes | head -c 3000000; yes no | head -c 3000000 >&2; echo 'Status: ON'");
    let mut device = agent(&flood, &[], "");
    assert_eq!(run(&mut device, Command::Read).await, Ok(Response::Reads(Reading::On)));
}

#[tokio::test]
async fn safe_2_an_order_without_standing_is_not_given() {
    let folder = tempfile::tempdir().unwrap();
    let mut device = agent(&fake(folder.path(), "echo \"$action\" >>done"), &[], "");
    let standing = Standing::new(u64::MAX, || 1);
    standing.end();
    let warrant = Warrant { deadline: Instant::now() + DEADLINE, standing: Some(standing), whom: None };
    assert_eq!(device.run(Command::Off, warrant).await, Err(Failure::Cancelled));
    assert!(!folder.path().join("done").exists());
}
