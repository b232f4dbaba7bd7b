//! `palisade status --watch` on a real terminal (tmux): what it shows, and that the terminal is as before, whatever ended it.

#![allow(clippy::unwrap_used, reason = "clippy knows a test only inside #[test]")]

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// What becomes so becomes so within this time, on a busy machine too.
const LIMIT: Duration = Duration::from_secs(30);

fn status() -> Value {
    json!({
        "cluster": "edge-7", "host": "a", "incarnation": "0123456789abcdef", "admitted": true, "quorate": true, "found": null,
        "coordinator": "a", "view": ["a", "b"], "electorate": ["a", "b"], "dead": [],
        "hosts": [
            { "name": "a", "id": 0, "state": "member", "incarnation": null, "heard_ms": 0, "health": "healthy" },
            { "name": "b", "id": 1, "state": "suspect", "incarnation": null, "heard_ms": 61000, "health": null },
        ],
        "workloads": [{ "name": "db", "id": 1, "desired": "running", "on": ["b"], "here": "stopped" }],
        "witness": { "configured": true, "proven_ms": 1200, "granting": false },
        "fence_paths": [{ "device": "bmc-b", "fences": "b", "proven_ms": 12345, "error": "no answer" }],
        "not_armed": [], "journal": { "ok": true, "error": null },
        "alarms": ["the fence path bmc-b does not work: no answer within 4000 ms, which is told at such length that no screen holds it"],
    })
}

/// Stands for the agent: answers with whatever the status is now.
struct Agent {
    socket: PathBuf,
    status: Arc<Mutex<Value>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    fn start(socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let (status, stop) = (Arc::new(Mutex::new(status())), Arc::new(AtomicBool::new(false)));
        let (told, stopped) = (Arc::clone(&status), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let mut stream = stream.unwrap();
                let (mut asked, mut bytes): (Vec<u8>, _) = (Vec::new(), [0; 1024]);
                while !asked.windows(4).any(|window| window == b"\r\n\r\n") {
                    match stream.read(&mut bytes) {
                        Ok(0) | Err(_) => break,
                        Ok(count) => asked.extend(bytes.iter().take(count)),
                    }
                }
                let body = told.lock().unwrap().to_string();
                // A client that is gone is no failure of the test.
                drop(write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
            }
        });
        Self { socket: socket.to_owned(), status, stop, thread: Some(thread) }
    }

    fn says(&self, name: &str, value: Value) {
        *self.status.lock().unwrap().get_mut(name).unwrap() = value;
    }

    fn stop(mut self) {
        self.stop.store(true, Ordering::Release);
        drop(std::os::unix::net::UnixStream::connect(&self.socket));
        self.thread.take().unwrap().join().unwrap();
        std::fs::remove_file(&self.socket).unwrap();
    }
}

/// A terminal of its own, gone with the test.
struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    /// A shell in a mount namespace in which `run` is /run/palisade.
    fn start(run: &Path) -> Self {
        let terminal = Self { socket: run.join("tmux") };
        let shell = format!(
            "unshare -m sh -c 'mount -t tmpfs tmpfs /run && mkdir /run/palisade && mount --bind {} /run/palisade && PS1=ready: exec sh -i'",
            run.display()
        );
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", &shell]);
        terminal.tmux(&["set-option", "-g", "status", "off"]);
        terminal.tmux(&["resize-window", "-x", "80", "-y", "24"]);
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut tmux = Command::new("tmux");
        let output = tmux.arg("-S").arg(&self.socket).args(arguments).output().unwrap();
        assert!(output.status.success(), "tmux {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    fn about(&self, what: &str) -> String {
        self.tmux(&["display-message", "-p", what]).trim().to_owned()
    }

    fn types(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.tmux(&["send-keys", "Enter"]);
    }

    #[track_caller]
    fn waits(&self, what: &str, there: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            let screen = self.screen();
            if there(&screen) {
                return screen;
            }
            assert!(Instant::now() < end, "not so: {what}\n{screen}");
        }
    }

    #[track_caller]
    fn shows(&self, part: &str) -> String {
        self.waits(part, |screen| screen.contains(part))
    }

    /// The terminal is the shell's again: its own screen, a cursor, lines and echo, and how the program ended.
    #[track_caller]
    fn is_as_before(&self, round: &str) {
        self.shows(&format!("ended {round} with 0"));
        assert_eq!(self.about("#{alternate_on} #{cursor_flag}"), "0 1");
        self.types(&format!(
            "stty -a | tr ';' '\\n' | grep -wo -e '-*icanon' -e '-*echo' | tr '\\n' ' '; echo seen-{round}"
        ));
        let screen = self.shows(&format!("\nicanon echo seen-{round}"));
        assert!(screen.contains("ready:"), "{screen}");
    }

    /// The program in the terminal.
    fn program(&self) -> Option<String> {
        let shell = self.about("#{pane_pid}");
        let mut parents = vec![shell];
        while let Some(parent) = parents.pop() {
            let children =
                std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
            for child in children.split_whitespace() {
                let name = std::fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
                if name.trim() == "palisade" {
                    return Some(child.to_owned());
                }
                parents.push(child.to_owned());
            }
        }
        None
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Its server ends with it; one that is gone is no failure.
        drop(Command::new("tmux").arg("-S").arg(&self.socket).arg("kill-server").output());
    }
}

#[test]
fn a_live_view_follows_the_agent_the_terminals_size_and_gives_the_terminal_back() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let agent = Agent::start(&socket);
    let terminal = Terminal::start(dir.path());
    terminal.shows("ready:");
    let watch = |round: &str| {
        let palisade = env!("CARGO_BIN_EXE_palisade");
        terminal
            .types(&format!("{palisade} status --watch --interval 100ms; echo \"ended {round} with $?\""));
        terminal.waits("its own screen", |screen| {
            screen.contains("q ends") && terminal.about("#{alternate_on}") == "1"
        })
    };
    watch("first");
    // A screen may be seen while it is drawn: what is on it comes to stand there.
    for part in [
        "edge-7 seen by a: quorate; coordinator a; witness 1.2 s ago",
        "b     suspect  1 min ago",
        "bmc-b",
        "ALARM: the fence",
    ] {
        terminal.shows(part);
    }
    let screen = terminal.waits("a whole screen", |screen| !screen.contains("nothing is known yet"));
    assert_eq!((screen.lines().count(), terminal.about("#{cursor_flag}")), (24, "0".to_owned()), "{screen}");
    assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");

    agent.says("quorate", json!(false));
    terminal.shows("NOT quorate");
    terminal.tmux(&["resize-window", "-x", "60", "-y", "12"]);
    let small = terminal.waits("a small screen", |screen| {
        screen.lines().count() == 12 && screen.lines().last().is_some_and(|line| line.contains("q ends"))
    });
    assert!(small.lines().all(|line| line.chars().count() <= 60), "{small}");
    // What is wrong is never what is left out.
    terminal.shows("ALARM");
    terminal.tmux(&["resize-window", "-x", "100", "-y", "30"]);
    terminal
        .waits("a large screen", |screen| screen.lines().nth(29).is_some_and(|line| line.contains("q ends")));

    agent.stop();
    let screen = terminal.shows("THE AGENT DOES NOT ANSWER since ");
    assert!(
        screen.contains("; above is as of ") && screen.contains("no agent runs on this host"),
        "{screen}"
    );
    let agent = Agent::start(&socket);
    terminal.waits("it answers again", |screen| {
        !screen.contains("DOES NOT ANSWER") && screen.contains(": quorate")
    });

    terminal.tmux(&["send-keys", "q"]);
    terminal.is_as_before("first");
    watch("second");
    terminal.tmux(&["send-keys", "C-c"]);
    terminal.is_as_before("second");
    watch("third");
    let program = terminal.program().unwrap();
    assert!(Command::new("kill").args(["-TERM", &program]).status().unwrap().success());
    terminal.is_as_before("third");
    agent.stop();
}

#[test]
fn without_a_terminal_it_says_what_to_ask_for() {
    let output = Command::new(env!("CARGO_BIN_EXE_palisade")).args(["status", "--watch"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("palisade status --json"), "{said}");
}
