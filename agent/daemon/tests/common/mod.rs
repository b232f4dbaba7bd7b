//! A real terminal for tests: tmux, with a server of its own. Nothing sleeps: the screen is looked at until it is so.

#![allow(dead_code, reason = "no test needs all of it")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// What becomes so becomes so within this time, on a busy machine too.
const LIMIT: Duration = Duration::from_secs(30);

/// A terminal of its own, gone with the test.
pub(crate) struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    /// This command, in a window of 80x24.
    pub(crate) fn start(socket: &Path, command: &str) -> Self {
        let terminal = Self { socket: socket.to_owned() };
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", command]);
        terminal.tmux(&["set-option", "-g", "status", "off"]);
        terminal.tmux(&["resize-window", "-x", "80", "-y", "24"]);
        terminal
    }

    /// What tmux says to a command.
    pub(crate) fn tmux(&self, arguments: &[&str]) -> String {
        let mut tmux = Command::new("tmux");
        let output = tmux.arg("-S").arg(&self.socket).args(arguments).output().unwrap();
        assert!(output.status.success(), "tmux {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What stands on the screen now.
    pub(crate) fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// What tmux knows of the window.
    pub(crate) fn about(&self, what: &str) -> String {
        self.tmux(&["display-message", "-p", what]).trim().to_owned()
    }

    /// A line, and the Enter key.
    pub(crate) fn types(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.tmux(&["send-keys", "Enter"]);
    }

    /// The screen, once it is so.
    #[track_caller]
    pub(crate) fn waits(&self, what: &str, there: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            let screen = self.screen();
            if there(&screen) {
                return screen;
            }
            assert!(Instant::now() < end, "not so: {what}\n{screen}");
        }
    }

    /// The screen, once this stands on it.
    #[track_caller]
    pub(crate) fn shows(&self, part: &str) -> String {
        self.waits(part, |screen| screen.contains(part))
    }

    /// The program in the terminal.
    pub(crate) fn program(&self) -> Option<String> {
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
