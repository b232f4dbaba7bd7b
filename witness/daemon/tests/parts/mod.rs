//! Real parts: a mosquitto on a loopback port, the witness's own binary, and hosts that ask it. Every wait is for an event and
//! has a limit; a part that is missing fails the test.
#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod host;

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The limit of every wait: far beyond what it takes on a loaded machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A directory of its own for one test, removed afterwards.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("palisade-witness-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process and the lines that it logs; killed when dropped.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Process {
    fn start(mut command: Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error} (is its package installed?)"));
        let stderr: Box<dyn Read + Send> = Box::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for the next line that contains `text`.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("no line contains {text:?}: {:#?}", self.seen)
                }
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits for its end, and for the last of its lines.
    #[track_caller]
    pub(crate) fn end(mut self) -> (ExitStatus, Vec<String>) {
        let end = Instant::now() + LIMIT;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end: {:#?}", self.seen),
            }
        }
        (self.child.wait().unwrap(), std::mem::take(&mut self.seen))
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// A line of /proc/PID/status, in KiB.
    pub(crate) fn status_kib(&self, line: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let value = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':')).unwrap();
        value.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Processor time used, in clock ticks of 1/100 s.
    pub(crate) fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts a mosquitto on `port` and waits until it serves.
pub(crate) fn broker(directory: &Directory, port: u16) -> Process {
    let config = directory.write(
        "mosquitto.conf",
        &format!("listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_dest stderr\nmax_queued_messages 0\nset_tcp_nodelay true\n"),
    );
    let mut command = Command::new(mosquitto());
    command.arg("-c").arg(config);
    let mut broker = Process::start(command);
    broker.wait_for("running");
    broker
}

fn mosquitto() -> &'static str {
    // Debian's sbin is not in everyone's PATH.
    if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" }
}

/// Starts the witness.
pub(crate) fn witness(config: &Path) -> Process {
    Process::start(witness_command(config))
}

pub(crate) fn witness_command(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_palisade-witness"));
    command.arg("--config").arg(config).env_remove("JOURNAL_STREAM");
    command
}

pub(crate) fn start(command: Command) -> Process {
    Process::start(command)
}

/// One key for all clusters of a test.
pub(crate) const KEY: [u8; 32] = [0x5a; 32];

/// Writes a configuration with one cluster of each name.
pub(crate) fn config(directory: &Directory, port: u16, names: &[&str], lease: &str) -> PathBuf {
    let key = directory.write("key", &format!("{}\n", "5a".repeat(32)));
    let clusters: String = names
        .iter()
        .map(|name| {
            format!(
                "[[cluster]]\nname = \"{name}\"\nkeys = [ {{ id = 1, file = \"{}\" }} ]\nlease = \"{lease}\"\ndrift = \"1%\"\nhosts = 4\n",
                key.display()
            )
        })
        .collect();
    directory.write("witness.toml", &format!("broker = \"mqtt://127.0.0.1:{port}\"\n{clusters}"))
}
