//! Workloads as real processes: in cgroups, in sessions, hanging, stubborn, and outliving their agent.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::Duration;

use super::cgroup::Cgroup;
use super::driver::{Host, Place};
use super::*;
use crate::testing::{TempDir, run};

const LONG: Duration = Duration::from_secs(20);
const ID: WorkloadId = WorkloadId(7);

/// A service as people write them: start leaves a process behind, stop ends it, status answers as the LSB says. Its process
/// writes to its output all the time.
const SERVICE: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 9
case "$1" in
start)
    env > environment
    (while :; do echo still here; sleep 0.01; done) &
    echo $! > pid
    cat /proc/$!/oom_score_adj > oom
    ;;
stop) [ ! -e pid ] || kill "$(cat pid)"; rm -f pid ;;
status) [ -e pid ] && [ -d "/proc/$(cat pid)" ] && ! grep -q '^State:.Z' "/proc/$(cat pid)/status" || exit 3 ;;
esac
"#;

/// One workload on a host of the test's own.
struct Bench {
    dir: TempDir,
    place: Place,
    cgroup: Option<TestCgroup>,
}

impl Bench {
    fn in_cgroup() -> Self {
        let cgroup = TestCgroup::new();
        Self { dir: TempDir::new(), place: Place::Cgroups(cgroup.0.clone()), cgroup: Some(cgroup) }
    }

    fn in_session() -> Self {
        Self { dir: TempDir::new(), place: Place::Sessions, cgroup: None }
    }

    fn host(&self) -> Host {
        Host::placed(Options::new(self.dir.path().to_owned()), self.place.clone())
    }

    fn script(&self, name: &str, text: &str) -> String {
        use std::os::unix::fs::PermissionsExt;
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn spec(&self, script: &str) -> Spec {
        let path = self.script("service", script);
        let argv = |word: &str| vec![path.clone(), word.to_owned()];
        let kind = Kind::Command { start: argv("start"), stop: argv("stop"), status: argv("status") };
        Spec { id: ID, name: "db".into(), kind, start_timeout: LONG, stop_timeout: LONG }
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.dir.path().join(file)).unwrap().trim().to_owned()
    }

    /// Waits until a file is there with a whole line in it.
    async fn line_in(&self, file: &str) -> String {
        loop {
            let text = fs::read_to_string(self.dir.path().join(file)).unwrap_or_default();
            if let Some((line, _)) = text.split_once('\n') {
                return line.to_owned();
            }
            tokio::task::yield_now().await;
        }
    }
}

/// A cgroup2 for one test.
struct TestCgroup(PathBuf);

impl TestCgroup {
    fn new() -> Self {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mount = cgroup::mount()
            .expect("this test needs cgroup2 mounted at /sys/fs/cgroup or /sys/fs/cgroup/unified");
        let path = mount.join(format!("palisade-test-{}-{next}", std::process::id()));
        fs::create_dir(&path).expect("this test needs root, to make a cgroup");
        Self(path)
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        drop(fs::write(self.0.join("cgroup.kill"), "1"));
        let below = fs::read_dir(&self.0).into_iter().flatten().flatten().map(|entry| entry.path());
        for path in below.filter(|path| path.is_dir()).chain([self.0.clone()]) {
            for _ in 0..1_000_000 {
                if fs::remove_dir(&path).is_ok() || !path.exists() {
                    break;
                }
                std::thread::yield_now();
            }
        }
    }
}

fn alive(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    !status.is_empty() && !status.contains("State:\tZ")
}

/// The next event's operation and result; the test's minute bounds the wait.
async fn next(events: &mut mpsc::Receiver<WorkloadEvent>) -> (Op, Result<Answer, OpError>) {
    let event = events.recv().await.expect("the workloads are gone");
    assert_eq!(event.id, ID);
    (event.op, event.result)
}

fn state(observed: Observed) -> Result<Answer, OpError> {
    Ok(Answer::State(observed))
}

#[test]
fn a_workload_starts_runs_and_stops() {
    for bench in [Bench::in_cgroup(), Bench::in_session()] {
        run(async {
            let (mut workloads, mut events) = Workloads::on(bench.host(), vec![bench.spec(SERVICE)]);
            workloads.status(ID).unwrap();
            assert_eq!(next(&mut events).await, (Op::Status, state(Observed::Stopped)));
            workloads.start(ID).unwrap();
            assert_eq!(next(&mut events).await, (Op::Start, state(Observed::Running)));
            let pid = bench.read("pid");
            assert!(alive(&pid));
            workloads.status(ID).unwrap();
            assert_eq!(next(&mut events).await, (Op::Status, state(Observed::Running)));
            workloads.stop(ID).unwrap();
            assert_eq!(next(&mut events).await, (Op::Stop, state(Observed::Stopped)));
            assert!(!alive(&pid));
            workloads.autostart(ID).unwrap();
            assert_eq!(next(&mut events).await, (Op::Autostart, Ok(Answer::Autostart(Autostart::Off))));
        });
    }
}

#[test]
fn safe_6_a_workload_sees_nothing_of_the_agents_environment_nor_its_protection() {
    let bench = Bench::in_cgroup();
    // The agent's value is another one than the workload's; raised, because that takes no privilege.
    fs::write("/proc/self/oom_score_adj", "500").unwrap();
    run(async {
        let (mut workloads, mut events) = Workloads::on(bench.host(), vec![bench.spec(SERVICE)]);
        workloads.start(ID).unwrap();
        assert_eq!(next(&mut events).await, (Op::Start, state(Observed::Running)));
    });
    fs::write("/proc/self/oom_score_adj", "0").unwrap();
    let environment = bench.read("environment");
    let names: Vec<&str> = environment.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    let known = ["PATH", "LANG", "PALISADE_WORKLOAD", "PALISADE_RUN", "PWD", "OLDPWD", "SHLVL", "_"];
    assert!(names.iter().all(|name| known.contains(name)), "{names:?}");
    assert!(names.contains(&"PALISADE_WORKLOAD"));
    assert_eq!(bench.read("oom"), "0");
}

/// Ignores SIGTERM, forks a grandchild into another session, and has a stop program that does nothing.
const STUBBORN: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 9
case "$1" in
start)
    setsid sh -c 'trap "" TERM; echo $$ > pid; (trap "" TERM; sh -c "echo \$\$ > grandchild; exec sleep 1000"); sleep 1000' &
    while [ ! -s grandchild ]; do sleep 0.01; done
    ;;
stop) exit "${STOP_EXIT:-0}" ;;
status) [ -e pid ] && [ -d "/proc/$(cat pid)" ] && ! grep -q '^State:.Z' "/proc/$(cat pid)/status" || exit 3 ;;
esac
"#;

#[test]
fn safe_3_a_kill_ends_every_process_of_a_workload_that_will_not_stop() {
    for bench in [Bench::in_cgroup(), Bench::in_session()] {
        run(async {
            let (mut workloads, mut events) = Workloads::on(bench.host(), vec![bench.spec(STUBBORN)]);
            workloads.start(ID).unwrap();
            assert_eq!(next(&mut events).await, (Op::Start, state(Observed::Running)));
            let (pid, grandchild) = (bench.read("pid"), bench.read("grandchild"));
            assert!(alive(&pid) && alive(&grandchild));
            workloads.kill(ID).unwrap();
            assert_eq!(next(&mut events).await, (Op::Kill, state(Observed::Stopped)));
            assert!(!alive(&pid) && !alive(&grandchild));
        });
    }
}

#[test]
fn what_a_graceful_stop_leaves_behind_is_swept_up() {
    let bench = Bench::in_cgroup();
    run(async {
        let (mut workloads, mut events) = Workloads::on(bench.host(), vec![bench.spec(STUBBORN)]);
        workloads.start(ID).unwrap();
        assert_eq!(next(&mut events).await, (Op::Start, state(Observed::Running)));
        let grandchild = bench.read("grandchild");
        workloads.stop(ID).unwrap();
        assert_eq!(next(&mut events).await, (Op::Stop, state(Observed::Stopped)));
        assert!(!alive(&grandchild));
    });
}

#[test]
fn a_stop_that_fails_or_hangs_becomes_a_kill_and_says_so() {
    for (stop, said) in [("exit 5", "exit status 5"), ("exec sleep 1000", "no end after 200 ms, killed")] {
        let bench = Bench::in_cgroup();
        run(async {
            let spec = bench.spec(&STUBBORN.replace(r#"exit "${STOP_EXIT:-0}""#, stop));
            let spec = Spec { stop_timeout: Duration::from_millis(200), ..spec };
            let (mut workloads, mut events) = Workloads::on(bench.host(), vec![spec]);
            workloads.start(ID).unwrap();
            assert_eq!(next(&mut events).await, (Op::Start, state(Observed::Running)));
            workloads.stop(ID).unwrap();
            let (op, result) = next(&mut events).await;
            let error = result.unwrap_err();
            assert_eq!((op, &error.after), (Op::Stop, &Observed::Stopped));
            assert!(error.why.contains(said), "{error}");
            assert!(!alive(&bench.read("grandchild")));
        });
    }
}

#[test]
fn a_start_that_fails_or_hangs_leaves_nothing_running() {
    for (end, said) in [("exit 1", "exit status 1"), ("exec sleep 1000", "no end after 500 ms, killed")] {
        for bench in [Bench::in_cgroup(), Bench::in_session()] {
            run(async {
                let spec = bench.spec(&SERVICE.replace("> oom\n", &format!("> oom\n{end}\n")));
                let spec = Spec { start_timeout: Duration::from_millis(500), ..spec };
                let (mut workloads, mut events) = Workloads::on(bench.host(), vec![spec]);
                workloads.start(ID).unwrap();
                let (op, result) = next(&mut events).await;
                let error = result.unwrap_err();
                assert_eq!((op, &error.after), (Op::Start, &Observed::Stopped));
                assert!(error.why.contains("/service: ") && error.why.contains(said), "{error}");
                assert!(!alive(&bench.read("pid")));
            });
        }
    }
}

#[test]
fn a_start_reads_as_running_once_it_does_and_as_it_reads_if_it_never_does() {
    let late = SERVICE.replace("    echo $! > pid\n", "    (sleep 0.3; echo $! > pid) &\n");
    let never = SERVICE.replace("    echo $! > pid\n", "");
    for (script, read) in [(late, Observed::Running), (never, Observed::Stopped)] {
        let bench = Bench::in_cgroup();
        run(async {
            let (mut workloads, mut events) = Workloads::on(bench.host(), vec![bench.spec(&script)]);
            workloads.start(ID).unwrap();
            assert_eq!(next(&mut events).await, (Op::Start, state(read)));
        });
    }
}

#[test]
fn a_program_that_is_missing_is_named() {
    let bench = Bench::in_cgroup();
    let mut spec = bench.spec(SERVICE);
    if let Kind::Command { start, status, .. } = &mut spec.kind {
        start[0] = "/nonexistent/db".into();
        status[0] = "/nonexistent/db".into();
    }
    run(async {
        let (mut workloads, mut events) = Workloads::on(bench.host(), vec![spec]);
        workloads.start(ID).unwrap();
        let (_, result) = next(&mut events).await;
        let error = result.unwrap_err();
        assert!(error.why.starts_with("/nonexistent/db: No such file"), "{error}");
        assert!(
            matches!(&error.after, Observed::Unknown { why } if why.contains("/nonexistent/db")),
            "{error}"
        );
    });
}

#[test]
fn a_kill_cuts_short_what_goes_on_and_each_operation_reports_once() {
    for bench in [Bench::in_cgroup(), Bench::in_session()] {
        run(async {
            let slow = SERVICE.replace("> oom\n", "> oom\necho x > begun\nsleep 1000\n");
            let (mut workloads, mut events) = Workloads::on(bench.host(), vec![bench.spec(&slow)]);
            workloads.start(ID).unwrap();
            assert_eq!(workloads.start(ID), Err(Refused::Busy(Op::Start)));
            assert_eq!(workloads.status(ID), Err(Refused::Busy(Op::Start)));
            assert_eq!(workloads.busy(ID), Some(Op::Start));
            bench.line_in("begun").await;
            workloads.kill(ID).unwrap();
            assert_eq!(workloads.kill(ID), Err(Refused::Busy(Op::Kill)));
            let (op, result) = next(&mut events).await;
            assert!(
                matches!((op, &result), (Op::Start, Err(error)) if error.why.contains("cut short")),
                "{result:?}"
            );
            assert_eq!(next(&mut events).await, (Op::Kill, state(Observed::Stopped)));
            assert!(!alive(&bench.read("pid")));
            assert_eq!(workloads.start(WorkloadId(9)), Err(Refused::NoSuchWorkload));
            assert!(events.try_recv().is_err());
        });
    }
}

#[test]
fn a_look_that_hangs_makes_way_for_a_start_and_a_stop() {
    // The first look after `hang` was made never ends by itself.
    let slow = SERVICE.replace(
        "status) ",
        "status) if [ -e hang ]; then rm hang; sh -c 'echo $$ > looking; exec sleep 1000'; fi; ",
    );
    for bench in [Bench::in_cgroup(), Bench::in_session()] {
        run(async {
            let (mut workloads, mut events) = Workloads::on(bench.host(), vec![bench.spec(&slow)]);
            let hang = || {
                drop(fs::remove_file(bench.dir.path().join("looking")));
                fs::write(bench.dir.path().join("hang"), "").unwrap();
            };
            hang();
            workloads.status(ID).unwrap();
            let looking = bench.line_in("looking").await;
            workloads.start(ID).unwrap();
            assert_eq!(workloads.busy(ID), Some(Op::Start));
            assert_eq!(next(&mut events).await, (Op::Start, state(Observed::Running)));
            while alive(&looking) {
                tokio::task::yield_now().await;
            }
            hang();
            workloads.status(ID).unwrap();
            bench.line_in("looking").await;
            workloads.stop(ID).unwrap();
            assert_eq!(next(&mut events).await, (Op::Stop, state(Observed::Stopped)));
            assert!(events.try_recv().is_err());
        });
    }
}

#[test]
fn safe_12_what_a_workload_says_while_it_runs_is_bounded() {
    let bench = Bench::in_cgroup();
    run(async {
        let (mut workloads, mut events) = Workloads::on(bench.host(), vec![bench.spec(SERVICE)]);
        workloads.start(ID).unwrap();
        assert_eq!(next(&mut events).await, (Op::Start, state(Observed::Running)));
        let output = bench.dir.path().join("workload-7.out");
        let len = || fs::metadata(&output).unwrap().len();
        let file = fs::File::options().append(true).open(&output).unwrap();
        std::io::Write::write_all(&mut &file, &vec![b'x'; 2 * 1024 * 1024]).unwrap();
        workloads.status(ID).unwrap();
        assert_eq!(next(&mut events).await, (Op::Status, state(Observed::Running)));
        assert!(len() < 1024 * 1024, "{}", len());
        // It goes on at the new end.
        let cut = len();
        while len() < cut + 40 {
            tokio::task::yield_now().await;
        }
        assert!(len() < 1024 * 1024, "{}", len());
        workloads.kill(ID).unwrap();
        assert_eq!(next(&mut events).await, (Op::Kill, state(Observed::Stopped)));
    });
}

#[test]
fn all_are_killed_at_once() {
    const COUNT: u8 = 20;
    let bench = Bench::in_cgroup();
    let specs = (0..COUNT).map(|id| {
        let dir = bench.dir.path().join(id.to_string());
        fs::create_dir(&dir).unwrap();
        let path = bench.script(&format!("{id}/service"), STUBBORN);
        let argv = |word: &str| vec![path.clone(), word.to_owned()];
        let kind = Kind::Command { start: argv("start"), stop: argv("stop"), status: argv("status") };
        Spec { id: WorkloadId(id), name: format!("w{id}"), kind, start_timeout: LONG, stop_timeout: LONG }
    });
    run(async {
        let (mut workloads, mut events) = Workloads::on(bench.host(), specs.collect());
        (0..COUNT).for_each(|id| workloads.start(WorkloadId(id)).unwrap());
        for _ in 0..COUNT {
            assert_eq!(events.recv().await.unwrap().result, state(Observed::Running));
        }
        (0..COUNT).for_each(|id| workloads.kill(WorkloadId(id)).unwrap());
        for _ in 0..COUNT {
            let event = events.recv().await.unwrap();
            assert_eq!((event.op, event.result), (Op::Kill, state(Observed::Stopped)));
        }
    });
    for id in 0..COUNT {
        assert!(!alive(&bench.read(&format!("{id}/grandchild"))));
    }
}

#[test]
fn an_exit_status_is_read_as_the_lsb_says() {
    for (status, read) in [
        ("exit 0", Some(Observed::Running)),
        ("exit 3", Some(Observed::Stopped)),
        ("exit 1", None),
        ("kill -9 $$", None),
    ] {
        let bench = Bench::in_cgroup();
        run(async {
            let spec = bench.spec(&format!("#!/bin/sh\n{status}\n"));
            let observed = Driver::new(&spec, &Arc::new(bench.host())).status().await;
            match read {
                Some(read) => assert_eq!(observed, read),
                None => assert!(matches!(observed, Observed::Unknown { .. }), "{observed:?}"),
            }
        });
    }
}

#[test]
fn a_status_program_that_talks_without_end_is_bounded() {
    let bench = Bench::in_cgroup();
    run(async {
        let path = bench.script("yes", "#!/bin/sh\nyes | head -c 10000000\nexit 3\n");
        let program = process::Program {
            argv: &[path],
            environment: &[],
            cgroup: None,
            output: process::Output::Kept,
            timeout: LONG,
        };
        let ended = process::run(program).await.unwrap();
        assert_eq!((ended.status.code(), ended.output.len()), (Some(3), 16 * 1024 - 1));
    });
}

#[test]
fn a_status_program_that_hangs_is_unknown_and_killed() {
    let bench = Bench::in_cgroup();
    run(async {
        let spec = bench.spec("#!/bin/sh\ncd \"$(dirname \"$0\")\"; sleep 1000 &\necho $! > sleeper; wait\n");
        let Driver::Command(command) = Driver::new(&spec, &Arc::new(bench.host())) else {
            panic!("another kind")
        };
        let observed = command.look(Duration::from_millis(300)).await;
        assert!(
            matches!(&observed, Observed::Unknown { why } if why.contains("no end after 300 ms, killed")),
            "{observed:?}"
        );
        let sleeper = bench.line_in("sleeper").await;
        while alive(&sleeper) {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_status_program_that_not_even_sigkill_ends_is_not_started_again() {
    // A frozen process does not die: as near to a process on a dead NFS mount as a test gets.
    let freezer = Path::new("/sys/fs/cgroup/freezer").join(format!("palisade-test-{}", std::process::id()));
    fs::create_dir(&freezer).expect("this test needs the freezer of cgroup v1");
    let bench = Bench::in_cgroup();
    run(async {
        let path = freezer.display();
        let spec = bench.spec(&format!(
            "#!/bin/sh\ncd \"$(dirname \"$0\")\"; echo x >> runs\necho $$ > {path}/cgroup.procs\necho FROZEN > {path}/freezer.state\nexit 3\n"
        ));
        let Driver::Command(command) = Driver::new(&spec, &Arc::new(bench.host())) else {
            panic!("another kind")
        };
        let observed = command.look(Duration::from_millis(300)).await;
        assert!(
            matches!(&observed, Observed::Unknown { why } if why.contains("SIGKILL does not end it")),
            "{observed:?}"
        );
        for _ in 0..3 {
            let observed = command.look(LONG).await;
            assert!(
                matches!(&observed, Observed::Unknown { why } if why.contains("cannot be killed")),
                "{observed:?}"
            );
        }
        assert_eq!(bench.read("runs"), "x");
        fs::write(freezer.join("freezer.state"), "THAWED").unwrap();
        while fs::read_to_string(freezer.join("cgroup.procs")).is_ok_and(|procs| !procs.is_empty()) {
            tokio::task::yield_now().await;
        }
        bench.script("service", "#!/bin/sh\nexit 3\n");
        while command.look(LONG).await != Observed::Stopped {
            tokio::task::yield_now().await;
        }
    });
    fs::remove_dir(&freezer).unwrap();
}

#[test]
fn a_workload_outlives_its_agent_and_the_next_agent_finds_and_kills_it() {
    for bench in [Bench::in_cgroup(), Bench::in_session()] {
        bench.script("service", SERVICE);
        let mut agent = std::process::Command::new(std::env::current_exe().unwrap());
        agent.args(["--exact", "--nocapture", "workload::tests::an_agent_to_be_killed"]);
        agent.env("PALISADE_TEST_DIR", bench.dir.path()).stdout(std::process::Stdio::null());
        if let Some(cgroup) = &bench.cgroup {
            agent.env("PALISADE_TEST_CGROUP", &cgroup.0);
        }
        let mut agent = agent.process_group(0).spawn().unwrap();
        run(async {
            bench.line_in("started").await;
            // All of the agent's process group, as hard as can be.
            let group = nix::unistd::Pid::from_raw(i32::try_from(agent.id()).unwrap());
            nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).unwrap();
            agent.wait().unwrap();
            // The workload goes on writing to its output, which would end it by SIGPIPE if that had ended with the agent.
            let output = bench.dir.path().join("workload-7.out");
            let written = || fs::metadata(&output).unwrap().len();
            let before = written();
            while written() < before + 40 {
                tokio::task::yield_now().await;
            }
            let pid = bench.read("pid");
            assert!(alive(&pid));
            let (mut workloads, mut events) = Workloads::on(bench.host(), vec![bench.spec(SERVICE)]);
            workloads.status(ID).unwrap();
            assert_eq!(next(&mut events).await, (Op::Status, state(Observed::Running)));
            workloads.kill(ID).unwrap();
            assert_eq!(next(&mut events).await, (Op::Kill, state(Observed::Stopped)));
            assert!(!alive(&pid));
        });
    }
}

/// Not a test by itself: the process that the test above kills.
#[test]
fn an_agent_to_be_killed() {
    let Some(dir) = std::env::var_os("PALISADE_TEST_DIR").map(PathBuf::from) else { return };
    let place =
        std::env::var_os("PALISADE_TEST_CGROUP").map_or(Place::Sessions, |path| Place::Cgroups(path.into()));
    let path = dir.join("service").to_str().unwrap().to_owned();
    let argv = |word: &str| vec![path.clone(), word.to_owned()];
    let kind = Kind::Command { start: argv("start"), stop: argv("stop"), status: argv("status") };
    let spec = Spec { id: ID, name: "db".into(), kind, start_timeout: LONG, stop_timeout: LONG };
    run(async {
        let (mut workloads, mut events) =
            Workloads::on(Host::placed(Options::new(dir.clone()), place), vec![spec]);
        workloads.start(ID).unwrap();
        assert_eq!(next(&mut events).await, (Op::Start, state(Observed::Running)));
        fs::write(dir.join("started"), "yes\n").unwrap();
        std::future::pending::<()>().await;
    });
}

#[test]
fn a_reload_keeps_what_goes_on() {
    let bench = Bench::in_cgroup();
    run(async {
        let (mut workloads, mut events) = Workloads::on(bench.host(), vec![bench.spec(SERVICE)]);
        workloads.start(ID).unwrap();
        let changed = Spec { stop_timeout: LONG * 2, ..bench.spec(SERVICE) };
        workloads.replace(vec![changed]);
        assert_eq!(workloads.busy(ID), Some(Op::Start));
        assert_eq!(next(&mut events).await, (Op::Start, state(Observed::Running)));
        workloads.stop(ID).unwrap();
        assert_eq!(next(&mut events).await, (Op::Stop, state(Observed::Stopped)));
        workloads.start(ID).unwrap();
        workloads.replace(vec![]);
        assert_eq!(next(&mut events).await, (Op::Start, state(Observed::Running)), "ends as it began");
        assert_eq!(workloads.stop(ID), Err(Refused::NoSuchWorkload));
        assert!(alive(&bench.read("pid")), "gone from the configuration, left as it is");
    });
}

#[test]
fn without_cgroup_kill_every_process_is_met_one_by_one() {
    let parent = TestCgroup::new();
    let below = parent.0.join("below");
    fs::create_dir(&below).unwrap();
    let mut sleepers: Vec<_> = [&parent.0, &below]
        .map(|cgroup| {
            let enter = format!("echo 0 > {}/cgroup.procs && exec sleep 1000", cgroup.display());
            std::process::Command::new("sh").args(["-c", &enter]).spawn().unwrap()
        })
        .into();
    let cgroup = Cgroup::at(parent.0.clone());
    run(async {
        while !Cgroup::at(below.clone()).populated().unwrap()
            || fs::read(parent.0.join("cgroup.procs")).unwrap().is_empty()
        {
            tokio::task::yield_now().await;
        }
        while cgroup.populated().unwrap() {
            cgroup.signal_each().unwrap();
            tokio::task::yield_now().await;
        }
    });
    sleepers.iter_mut().for_each(|sleeper| assert!(!sleeper.wait().unwrap().success()));
    fs::remove_dir(&below).unwrap();
}

#[test]
fn an_emptied_cgroup_is_removed_and_one_that_is_gone_counts_as_empty() {
    let parent = TestCgroup::new();
    let cgroup = Cgroup::at(parent.0.join("w"));
    run(async {
        assert!(!cgroup.populated().unwrap());
        assert!(cgroup.kill(LONG).await.unwrap());
        drop(cgroup.enter().unwrap());
        assert!(parent.0.join("w").exists());
        assert!(cgroup.kill(LONG).await.unwrap());
        cgroup.remove();
        assert!(!parent.0.join("w").exists());
    });
}
