//! Runs a program for a workload: cleaned environment, no descriptor of ours but its output, none of the agent's privileges of
//! scheduling, a time limit, and an end to how much of its output is kept. A workload that a program leaves behind does not
//! depend on the agent's life.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

/// Of what a program says, so much is kept; the rest is read and dropped.
const OUTPUT_BYTES: usize = 16 * 1024;
/// How long a SIGKILLed program may take to be gone before it counts as hanging.
const REAP: Duration = Duration::from_millis(200);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One run of a program.
pub(crate) struct Program<'a> {
    /// Program and arguments.
    pub(crate) argv: &'a [String],
    /// The environment beside PATH and LANG.
    pub(crate) environment: &'a [(&'static str, String)],
    /// `cgroup.procs` of the cgroup it runs in; `None`: the agent's.
    pub(crate) cgroup: Option<File>,
    /// Where its output goes.
    pub(crate) output: Output<'a>,
    /// It is killed after this.
    pub(crate) timeout: Duration,
}

/// Where a program's output goes.
pub(crate) enum Output<'a> {
    /// To the agent, which keeps the first part. For programs that leave nothing behind.
    Kept,
    /// To a file. For programs that leave a workload behind: it would die of SIGPIPE if its output ended with the agent.
    File(&'a Path),
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// The beginning of its output (both streams).
    pub(crate) output: String,
}

impl Ended {
    /// `exit status 3`, `killed by signal 9`.
    pub(crate) fn how(&self) -> String {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None) => "an end without status".to_owned(),
        }
    }
}

/// A program did not end by itself.
#[derive(Debug)]
pub(crate) enum RunError {
    /// It could not be started.
    Spawn {
        /// Its path.
        program: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// It was killed after its time.
    TimedOut {
        /// Its path.
        program: String,
        /// Its time.
        limit: Duration,
        /// The process, if even SIGKILL did not end it: whoever runs it again first looks whether it is gone.
        hanging: Option<Child>,
    },
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spawn { program, source } => write!(f, "{program}: {source}"),
            Self::TimedOut { program, limit, hanging: None } => {
                write!(f, "{program}: no end after {} ms, killed", limit.as_millis())
            }
            Self::TimedOut { program, limit, hanging: Some(_) } => {
                write!(f, "{program}: no end after {} ms, and SIGKILL does not end it", limit.as_millis())
            }
        }
    }
}

/// Runs a program to its end. Dropping the future kills it.
pub(crate) async fn run(program: Program<'_>) -> Result<Ended, RunError> {
    let Program { argv, environment, cgroup, output, timeout } = program;
    let path = argv.first().cloned().unwrap_or_default();
    let fail = |source| RunError::Spawn { program: path.clone(), source };
    let mut command = Command::new(&path);
    command.args(argv.iter().skip(1)).env_clear().env("PATH", PATH).env("LANG", "C").current_dir("/");
    command
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let mut sink = Sink::open(&output, &mut command).map_err(fail)?;
    let cgroup_fd = cgroup.as_ref().map(AsRawFd::as_raw_fd);
    // SAFETY: between fork and exec the closure makes four system calls (setsid, write, open, write), all async-signal-safe; it
    // neither allocates nor locks. `cgroup` outlives the spawn.
    unsafe { command.pre_exec(move || leave_the_agent(cgroup_fd)) };
    let mut child = command.spawn().map_err(fail)?;
    // The write end of the pipe lives on in `command`.
    drop(command);
    drop(cgroup);
    let mut cut_short = KillOnDrop(session(&child));
    let waited = tokio::time::timeout(timeout, sink.until(child.wait())).await;
    // Reaped, or killed below: what a program leaves behind when it ends by itself may be the workload.
    cut_short.0 = None;
    match waited {
        Ok(Ok(status)) => {
            let output = sink.text();
            tracing::debug!(program = path, %status, output, "a workload's program ended");
            Ok(Ended { status, output })
        }
        Ok(Err(source)) => Err(fail(source)),
        Err(_) => {
            tracing::debug!(program = path, output = sink.text(), "a workload's program is killed");
            kill_session(&child);
            let gone = tokio::time::timeout(REAP, child.wait()).await.is_ok();
            Err(RunError::TimedOut { program: path, limit: timeout, hanging: (!gone).then_some(child) })
        }
    }
}

/// In the child: a session of its own, the workload's cgroup, and an ordinary place before the out-of-memory killer. (The
/// real-time priority is left behind by SCHED_RESET_ON_FORK.)
fn leave_the_agent(cgroup_procs: Option<i32>) -> io::Result<()> {
    nix::unistd::setsid()?;
    if let Some(fd) = cgroup_procs {
        // SAFETY: writes one byte from a static; a closed descriptor is an error and no more.
        if unsafe { libc::write(fd, c"0".as_ptr().cast(), 1) } != 1 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: open, write and close with static arguments. A failure leaves the inherited value, which is no reason not to
    // start.
    unsafe {
        let fd = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd >= 0 {
            libc::write(fd, c"0".as_ptr().cast(), 1);
            libc::close(fd);
        }
    }
    Ok(())
}

/// The group of a program's processes: setsid made it its leader. None once it is reaped, and the number may be another's.
fn session(child: &Child) -> Option<Pid> {
    child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw)
}

fn kill_session(child: &Child) {
    if let Some(group) = session(child) {
        // Gone already is as good.
        let _ = killpg(group, Signal::SIGKILL);
    }
}

/// Kills what a program that is cut short has begun. Dropped before the child, which is not reaped until then.
struct KillOnDrop(Option<Pid>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Gone already is as good.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// The agent's end of a program's output.
enum Sink {
    Kept { pipe: pipe::Receiver, bytes: Vec<u8> },
    File(File),
}

impl Sink {
    fn open(output: &Output<'_>, command: &mut Command) -> io::Result<Self> {
        match output {
            Output::Kept => {
                let (reader, writer) = io::pipe()?;
                command.stdout(writer.try_clone()?).stderr(writer);
                Ok(Self::Kept { pipe: pipe::Receiver::from_owned_fd(reader.into())?, bytes: Vec::new() })
            }
            Output::File(path) => {
                let mut options = OpenOptions::new();
                let file = options.create(true).append(true).read(true).mode(0o600).open(path)?;
                file.set_len(0)?;
                command.stdout(file.try_clone()?).stderr(file.try_clone()?);
                Ok(Self::File(file))
            }
        }
    }

    /// Reads output until `end` comes; what outlives the program is not waited for.
    async fn until<T>(&mut self, end: impl Future<Output = T>) -> T {
        match self {
            Self::File(_) => end.await,
            Self::Kept { pipe, bytes } => {
                tokio::pin!(end);
                loop {
                    tokio::select! {
                        biased;
                        ended = &mut end => {
                            let _ = drain(pipe, bytes);
                            return ended;
                        }
                        ready = pipe.readable() => {
                            if ready.is_err() || drain(pipe, bytes).is_break() {
                                return end.await;
                            }
                        }
                    }
                }
            }
        }
    }

    fn text(&mut self) -> String {
        let bytes = match self {
            Self::Kept { bytes, .. } => std::mem::take(bytes),
            Self::File(file) => {
                let mut bytes = Vec::new();
                let read = file
                    .seek(SeekFrom::Start(0))
                    .and_then(|_| file.take(OUTPUT_BYTES as u64).read_to_end(&mut bytes));
                if let Err(error) = read {
                    tracing::debug!(%error, "a program's output cannot be read back");
                }
                bytes
            }
        };
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }
}

/// Takes what is in the pipe now (at most a pipe's fill a call); breaks at its end.
fn drain(pipe: &pipe::Receiver, bytes: &mut Vec<u8>) -> std::ops::ControlFlow<()> {
    let mut chunk = [0; 4096];
    for _ in 0..16 {
        match pipe.try_read(&mut chunk) {
            Ok(0) => return std::ops::ControlFlow::Break(()),
            Ok(count) => {
                let room = OUTPUT_BYTES.saturating_sub(bytes.len());
                bytes.extend(chunk.iter().take(count.min(room)));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return std::ops::ControlFlow::Continue(());
            }
            Err(_) => return std::ops::ControlFlow::Break(()),
        }
    }
    std::ops::ControlFlow::Continue(())
}
