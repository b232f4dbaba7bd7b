//! One run of a program: what it needs on its standard input, a clean environment, an end by the deadline.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use zeroize::Zeroizing;

/// Of what a program says, so much is kept; the rest is read and dropped. Metadata of the longest fence agents have some 40 KB.
pub(crate) const OUTPUT_MAX: usize = 256 * 1024;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How a run ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
    pub(crate) errors: String,
}

/// Kills a program and what it started, unless it has ended.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Gone already is as good.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// A program under way. Dropped, it is killed, with everything that it started.
pub(crate) struct Running {
    child: Child,
    group: Group,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<ChildStdout>,
    pub(crate) stderr: Option<ChildStderr>,
}

/// Starts the program with an environment that holds nothing of ours. SAFE-6: everybody can read `arguments`.
pub(crate) fn start(program: &Path, arguments: &[&str]) -> io::Result<Running> {
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("LANG", "C")
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let group = Group(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw));
    make_ordinary(&child);
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    Ok(Running { child, group, stdin, stdout, stderr })
}

impl Running {
    /// Once it has ended by itself, how.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.group.0 = None;
        status
    }
}

/// Runs the program to its end. Dropping the future kills it, with everything that it started. SAFE-6: everybody can read
/// `arguments`; a secret goes into `input`.
pub(crate) async fn run(program: &Path, arguments: &[&str], input: &Zeroizing<Vec<u8>>) -> io::Result<Ended> {
    let mut running = start(program, arguments)?;
    let (stdin, stdout, stderr) = (running.stdin.take(), running.stdout.take(), running.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // One that does not read to the end says so by its exit status.
            drop(stdin.write_all(input).await);
        }
    };
    let ((), output, errors, status) = tokio::join!(feed, text(stdout), text(stderr), running.ended());
    Ok(Ended { status: status?, output, errors })
}

/// This process is spared by the out-of-memory killer; what it starts is not.
fn make_ordinary(child: &Child) {
    let Some(id) = child.id() else { return };
    if let Err(error) = std::fs::write(format!("/proc/{id}/oom_score_adj"), "0") {
        tracing::debug!(%error, "a program keeps our place before the out-of-memory killer");
    }
}

/// All that it says.
pub(crate) async fn text(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        let room = OUTPUT_MAX.saturating_sub(kept.len());
        kept.extend(buffer.iter().take(read.min(room)));
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// How a program ended, in words.
pub(crate) fn how(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit status {code}"),
        None => "killed by a signal".to_owned(),
    }
}
