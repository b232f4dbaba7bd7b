//! `palisade status --watch` on a real terminal (tmux): what it shows, and that the terminal is as before, whatever ended it.

#![allow(clippy::unwrap_used, reason = "clippy knows a test only inside #[test]")]

mod common;

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use common::Terminal;
use serde_json::{Value, json};

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

/// A shell in a mount namespace in which `run` is /run/palisade.
fn shell(run: &Path) -> Terminal {
    let command = format!(
        "unshare -m sh -c 'mount -t tmpfs tmpfs /run && mkdir /run/palisade && mount --bind {} /run/palisade && PS1=ready: exec sh -i'",
        run.display()
    );
    Terminal::start(&run.join("tmux"), &command)
}

/// The terminal is the shell's again: its own screen, a cursor, lines and echo, and how the program ended.
#[track_caller]
fn is_as_before(terminal: &Terminal, round: &str) {
    terminal.shows(&format!("ended {round} with 0"));
    assert_eq!(terminal.about("#{alternate_on} #{cursor_flag}"), "0 1");
    terminal.types(&format!(
        "stty -a | tr ';' '\\n' | grep -wo -e '-*icanon' -e '-*echo' | tr '\\n' ' '; echo seen-{round}"
    ));
    let screen = terminal.shows(&format!("\nicanon echo seen-{round}"));
    assert!(screen.contains("ready:"), "{screen}");
}

#[test]
fn a_live_view_follows_the_agent_the_terminals_size_and_gives_the_terminal_back() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let agent = Agent::start(&socket);
    let terminal = shell(dir.path());
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
    is_as_before(&terminal, "first");
    watch("second");
    terminal.tmux(&["send-keys", "C-c"]);
    is_as_before(&terminal, "second");
    watch("third");
    let program = terminal.program().unwrap();
    assert!(Command::new("kill").args(["-TERM", &program]).status().unwrap().success());
    is_as_before(&terminal, "third");
    agent.stop();
}

#[test]
fn without_a_terminal_it_says_what_to_ask_for() {
    let output = Command::new(env!("CARGO_BIN_EXE_palisade")).args(["status", "--watch"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("palisade status --json"), "{said}");
}
