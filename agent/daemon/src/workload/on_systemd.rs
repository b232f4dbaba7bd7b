//! Workloads where systemd is PID 1. Ignored by default: run them inside a booted container (`systemd-nspawn -b`), as root, with
//! `--ignored on_systemd`.

use std::fs;
use std::process::Command as Process;
use std::time::Duration;

use super::driver::{Host, Place};
use super::*;
use crate::testing::{TempDir, run};

const LONG: Duration = Duration::from_secs(20);
const ID: WorkloadId = WorkloadId(7);

fn systemctl(arguments: &[&str]) {
    let status = Process::new("systemctl").args(arguments).status().expect("no systemctl");
    assert!(status.success(), "systemctl {arguments:?}");
}

fn spec(kind: Kind) -> Spec {
    Spec { id: ID, name: "db".into(), kind, start_timeout: LONG, stop_timeout: LONG }
}

fn host(dir: &TempDir) -> Host {
    let host = Host::new(Options::new(dir.path().to_owned()));
    assert!(matches!(host.place, Place::Units), "systemd is not PID 1 here");
    host
}

async fn next(events: &mut mpsc::Receiver<WorkloadEvent>) -> (Op, Result<Answer, OpError>) {
    let event = events.recv().await.expect("the workloads are gone");
    (event.op, event.result)
}

fn state(observed: Observed) -> Result<Answer, OpError> {
    Ok(Answer::State(observed))
}

/// Writes a unit of the test's own and has systemd read it.
fn write_unit(name: &str, text: &str) {
    fs::write(format!("/etc/systemd/system/{name}"), text).unwrap();
    systemctl(&["daemon-reload"]);
}

#[test]
#[ignore = "needs systemd as PID 1"]
fn on_systemd_a_unit_starts_runs_stops_and_is_killed_for_good() {
    let unit = "palisade-test-unit.service";
    // Restarted by systemd whatever happens, and deaf to SIGTERM.
    let text = "[Service]\nExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 1; done'\nRestart=always\nRestartSec=0\nTimeoutStopSec=60\n[Install]\nWantedBy=multi-user.target\n";
    write_unit(unit, text);
    let dir = TempDir::new();
    run(async {
        let kind = Kind::Systemd { unit: unit.into() };
        let (mut workloads, mut events) = Workloads::on(host(&dir), vec![spec(kind)]);
        workloads.autostart(ID).unwrap();
        assert_eq!(next(&mut events).await.1, Ok(Answer::Autostart(Autostart::Off)));
        systemctl(&["enable", unit]);
        workloads.autostart(ID).unwrap();
        assert!(matches!(next(&mut events).await.1, Ok(Answer::Autostart(Autostart::On { .. }))));
        systemctl(&["disable", unit]);
        for _ in 0..2 {
            workloads.status(ID).unwrap();
            assert_eq!(next(&mut events).await, (Op::Status, state(Observed::Stopped)));
            workloads.start(ID).unwrap();
            assert_eq!(next(&mut events).await, (Op::Start, state(Observed::Running)));
            workloads.kill(ID).unwrap();
            assert_eq!(next(&mut events).await, (Op::Kill, state(Observed::Stopped)));
        }
        write_unit(unit, "[Service]\nExecStart=/bin/sleep 1000\n");
        workloads.start(ID).unwrap();
        assert_eq!(next(&mut events).await, (Op::Start, state(Observed::Running)));
        workloads.stop(ID).unwrap();
        assert_eq!(next(&mut events).await, (Op::Stop, state(Observed::Stopped)));
    });
}

#[test]
#[ignore = "needs systemd as PID 1"]
fn on_systemd_a_unit_that_is_missing_or_fails_is_an_error_and_stopped() {
    write_unit("palisade-test-bad.service", "[Service]\nType=oneshot\nExecStart=/bin/false\n");
    let dir = TempDir::new();
    run(async {
        for (unit, said) in
            [("palisade-test-none.service", "NoSuchUnit"), ("palisade-test-bad.service", "\"failed\"")]
        {
            let kind = Kind::Systemd { unit: unit.into() };
            let (mut workloads, mut events) = Workloads::on(host(&dir), vec![spec(kind)]);
            workloads.start(ID).unwrap();
            let error = next(&mut events).await.1.unwrap_err();
            assert!(error.why.contains(unit) && error.why.contains(said), "{error}");
            assert_eq!(error.after, Observed::Stopped, "{error}");
        }
    });
}

#[test]
#[ignore = "needs systemd as PID 1"]
fn on_systemd_a_kill_does_not_need_d_bus() {
    let unit = "palisade-test-nobus.service";
    write_unit(unit, "[Service]\nExecStart=/bin/sleep 1000\n");
    let dir = TempDir::new();
    run(async {
        let kind = Kind::Systemd { unit: unit.into() };
        let (mut workloads, mut events) = Workloads::on(host(&dir), vec![spec(kind.clone())]);
        workloads.start(ID).unwrap();
        assert_eq!(next(&mut events).await, (Op::Start, state(Observed::Running)));
        // An agent that has never looked has to find the cgroup as well.
        for (mut workloads, mut events) in [(workloads, events), Workloads::on(host(&dir), vec![spec(kind)])]
        {
            systemctl(&["start", unit]);
            systemctl(&["stop", "dbus.socket", "dbus.service"]);
            workloads.kill(ID).unwrap();
            let (op, result) = next(&mut events).await;
            systemctl(&["start", "dbus.socket"]);
            assert!(
                matches!((op, &result), (Op::Kill, Ok(Answer::State(Observed::Unknown { .. })))),
                "{result:?}"
            );
            workloads.status(ID).unwrap();
            assert_eq!(next(&mut events).await, (Op::Status, state(Observed::Stopped)));
        }
    });
}

fn programs(dir: &TempDir, script: &str) -> Kind {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.path().join("service");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let argv = |word: &str| vec![path.to_str().unwrap().to_owned(), word.to_owned()];
    Kind::Command { start: argv("start"), stop: argv("stop"), status: argv("status") }
}

const SERVICE: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 9
case "$1" in
start) sleep 1000 & echo $! > pid; cat /proc/$!/cgroup > cgroup; env > environment ;;
stop) echo asked >> stops; kill "$(cat pid)"; rm -f pid ;;
status) [ -e pid ] && [ -d "/proc/$(cat pid)" ] || exit 3 ;;
esac
"#;

#[test]
#[ignore = "needs systemd as PID 1"]
fn on_systemd_programs_run_as_transient_units_outside_the_agents_cgroup() {
    let dir = TempDir::new();
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    run(async {
        let (mut workloads, mut events) = Workloads::on(host(&dir), vec![spec(programs(&dir, SERVICE))]);
        workloads.status(ID).unwrap();
        assert_eq!(next(&mut events).await, (Op::Status, state(Observed::Stopped)));
        for _ in 0..2 {
            workloads.start(ID).unwrap();
            assert_eq!(next(&mut events).await, (Op::Start, state(Observed::Running)));
            assert!(read("cgroup").trim().ends_with("0::/system.slice/palisade-workload-7.service"));
            assert!(read("environment").contains("PALISADE_WORKLOAD=db\n"));
            workloads.status(ID).unwrap();
            assert_eq!(next(&mut events).await, (Op::Status, state(Observed::Running)));
            // A start after a kill clears the killed unit away, which asks its stop program: that one does not count.
            drop(fs::remove_file(dir.path().join("stops")));
            workloads.stop(ID).unwrap();
            assert_eq!(next(&mut events).await, (Op::Stop, state(Observed::Stopped)));
            assert_eq!(read("stops"), "asked\n", "its own stop program ended it");
            workloads.start(ID).unwrap();
            assert_eq!(next(&mut events).await, (Op::Start, state(Observed::Running)));
            workloads.kill(ID).unwrap();
            assert_eq!(next(&mut events).await, (Op::Kill, state(Observed::Stopped)));
            assert_eq!(read("stops"), "asked\n", "a kill is no shutdown");
        }
    });
}

#[test]
#[ignore = "needs systemd as PID 1"]
fn on_systemd_programs_that_fail_or_hang_are_told_as_they_are() {
    let dir = TempDir::new();
    run(async {
        let failing = programs(&dir, &SERVICE.replace("env > environment", "exit 1"));
        let (mut workloads, mut events) = Workloads::on(host(&dir), vec![spec(failing)]);
        workloads.start(ID).unwrap();
        let error = next(&mut events).await.1.unwrap_err();
        assert!(
            error.why.contains("palisade-workload-7.service: systemd's start job ended as \"failed\""),
            "{error}"
        );
        assert_eq!(error.after, Observed::Stopped);
        let odd = programs(&dir, "#!/bin/sh\nexit 4\n");
        let (mut workloads, mut events) = Workloads::on(host(&dir), vec![spec(odd)]);
        workloads.status(ID).unwrap();
        let (_, result) = next(&mut events).await;
        assert!(
            matches!(&result, Ok(Answer::State(Observed::Unknown { why })) if why.contains("exit status 4")),
            "{result:?}"
        );
        let hanging = programs(&dir, "#!/bin/sh\nexec sleep 1000\n");
        let (mut workloads, mut events) = Workloads::on(host(&dir), vec![spec(hanging)]);
        workloads.status(ID).unwrap();
        let (_, result) = next(&mut events).await;
        assert!(matches!(&result, Ok(Answer::State(Observed::Unknown { .. }))), "{result:?}");
        // A start that hangs is cut short by a kill.
        workloads.start(ID).unwrap();
        tokio::task::yield_now().await;
        while fs::read_to_string("/sys/fs/cgroup/system.slice/palisade-workload-7.service/cgroup.events")
            .is_err()
        {
            tokio::task::yield_now().await;
        }
        workloads.kill(ID).unwrap();
        let (op, result) = next(&mut events).await;
        assert!(op == Op::Start && result.is_err(), "{result:?}");
        let (op, result) = next(&mut events).await;
        assert_eq!(op, Op::Kill);
        assert!(
            !fs::read_to_string("/sys/fs/cgroup/system.slice/palisade-workload-7.service/cgroup.events")
                .is_ok_and(|text| text.contains("populated 1")),
            "{result:?}"
        );
    });
}
