//! One login, or none where the host is this one: a shell on it that takes one script after the other by its standard input.

use std::path::Path;

use palisade_ladder::Failure;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::words::{Answer, answer, framed, last_line, no_login};
use super::{Site, SshConfig};
use crate::Warrant;
use crate::process::{self, OUTPUT_MAX, Running, how, text};
use crate::text::clean;

const SSH: &str = "/usr/bin/ssh";
const SH: &str = "/bin/sh";
/// For a connection, in s; the deadline of a command mostly comes sooner.
const CONNECT_TIMEOUT: &str = "ConnectTimeout=10";
/// How the client ends when something is wrong with the connection, and not with the command.
const EXIT_NO_LOGIN: i32 = 255;
/// What the host says of an order that arrives when it does not hold any more; then nothing of it has been done.
const LATE: &str = "palisade: the order came after its deadline";
/// The exit status with those words.
const EXIT_LATE: u8 = 75;
/// Who we are there, and how long that host has been up, in s.
const HELLO: &str = "read -r up rest </proc/uptime; echo; echo \"$(id -u) $up\"";

/// A shell of the superuser on the host. Dropped, its client is killed, and the host sees the connection end.
pub(super) struct Shell {
    running: Running,
    mark: String,
    asked: u32,
    /// The host's uptime in hundredths of a second, and when it had been told.
    clock: (u64, Instant),
}

impl Shell {
    /// Logs in. Nothing has been ordered if that fails.
    pub(super) async fn open(site: &Site) -> Result<Self, Failure> {
        let (program, arguments, package) = match site {
            Site::There(config) => (SSH, arguments(config), "openssh-client"),
            Site::Here => (SH, Vec::new(), "dash"),
        };
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let running = process::start(Path::new(program), &arguments);
        let running = running.map_err(|error| Failure::Unreachable {
            error: format!("{program} cannot be run: {error}; it comes with the package {package}"),
        })?;
        let mut shell = Self { running, mark: mark()?, asked: 0, clock: (0, Instant::now()) };
        let mark = match shell.send(HELLO).await {
            Ok(mark) => mark,
            Err(_) => return Err(shell.why_none(site).await),
        };
        let Ok(answer) = shell.hear(&mark).await else { return Err(shell.why_none(site).await) };
        let hello = answer.output.lines().last().and_then(|line| line.split_once(' '));
        let Some((user, uptime)) = hello.and_then(|(user, up)| Some((user, hundredths(up)?))) else {
            let detail = format!("ssh: no greeting of a shell: {} {}", answer.output.trim(), answer.errors);
            return Err(Failure::Garbage { detail: clean(&detail) });
        };
        if user != "0" {
            let detail = format!(
                "{site} is not the superuser there (uid {}): log in as root, or write command=\"sudo -n sh\" before the key",
                clean(user)
            );
            return Err(Failure::PrivilegeTooLow { detail });
        }
        shell.clock = (uptime, Instant::now());
        Ok(shell)
    }

    /// What `script` prints, which changes nothing.
    pub(super) async fn ask(&mut self, script: &str) -> Result<String, Failure> {
        let lost = |_| Failure::Unreachable { error: "ssh: the connection was closed".to_owned() };
        let mark = self.send(script).await.map_err(lost)?;
        let answer = self.hear(&mark).await?;
        if answer.status == 0 {
            return Ok(answer.output);
        }
        Err(Failure::Refused { code: clean(&format!("exit status {}: {}", answer.status, answer.errors)) })
    }

    /// Has `script` done, which switches something. It is not begun past the warrant's deadline, however late it arrives.
    pub(super) async fn order(&mut self, script: &str, warrant: &Warrant) -> Result<(), Failure> {
        let (uptime, heard) = self.clock;
        let allowed = warrant.deadline.saturating_duration_since(heard).as_millis() / 10;
        let latest = uptime.saturating_add(u64::try_from(allowed).unwrap_or(u64::MAX / 2));
        let script = until(latest, script);
        if !warrant.holds() {
            // SAFE-2
            return Err(Failure::Cancelled);
        }
        // From here on it may have been done, whatever goes wrong.
        let lost = |error: std::io::Error| Failure::Unreachable { error: in_doubt(&format!("ssh: {error}")) };
        let mark = self.send(&script).await.map_err(lost)?;
        let answer = self.hear(&mark).await.map_err(|failure| match failure {
            Failure::Unreachable { error } => Failure::Unreachable { error: in_doubt(&error) },
            Failure::Garbage { detail } => Failure::Garbage { detail: in_doubt(&detail) },
            other @ (Failure::NoAnswer { .. }
            | Failure::LoginRefused { .. }
            | Failure::PrivilegeTooLow { .. }
            | Failure::WrongIdentity { .. }
            | Failure::NoCommonCipher { .. }
            | Failure::Refused { .. }
            | Failure::Cancelled) => Failure::Garbage { detail: in_doubt(&other.to_string()) },
        })?;
        done(&answer)
    }

    async fn send(&mut self, script: &str) -> std::io::Result<String> {
        self.asked += 1;
        let mark = format!("{}-{}", self.mark, self.asked);
        if let Some(stdin) = &mut self.running.stdin {
            stdin.write_all(framed(script, &mark).as_bytes()).await?;
            stdin.flush().await?;
        }
        Ok(mark)
    }

    async fn hear(&mut self, mark: &str) -> Result<Answer, Failure> {
        let (mut heard, mut buffer, end) = (Vec::new(), [0; 4096], last_line(mark));
        let Some(stdout) = &mut self.running.stdout else { return Err(closed()) };
        while !heard.ends_with(end.as_bytes()) {
            match stdout.read(&mut buffer).await {
                Ok(read @ 1..) => heard.extend(buffer.iter().take(read)),
                Ok(0) | Err(_) => return Err(closed()),
            }
            if heard.len() > OUTPUT_MAX {
                return Err(Failure::Garbage {
                    detail: format!("ssh: an answer of more than {OUTPUT_MAX} bytes"),
                });
            }
        }
        let text = String::from_utf8_lossy(&heard);
        answer(&text, mark)
            .ok_or_else(|| Failure::Garbage { detail: clean(&format!("ssh: no answer of a shell: {text}")) })
    }

    /// Why there is no shell.
    async fn why_none(mut self, site: &Site) -> Failure {
        // A client that waits for more would never say.
        self.running.stdin = None;
        let (stdout, stderr) = (self.running.stdout.take(), self.running.stderr.take());
        let (_, words, status) = tokio::join!(text(stdout), text(stderr), self.running.ended());
        match (status, site) {
            (Ok(status), Site::There(config)) if status.code() == Some(EXIT_NO_LOGIN) => {
                no_login(&words, &config.known_as(), &config.known_hosts.display().to_string())
            }
            (Ok(status), _) => {
                let words = words.lines().map(str::trim).collect::<Vec<_>>().join("; ");
                Failure::Refused {
                    code: clean(&format!("ssh: no shell for {site}: {}: {words}", how(status))),
                }
            }
            (Err(error), _) => Failure::Unreachable { error: format!("ssh: {error}") },
        }
    }
}

/// Has the host not begin with `script` once it has been up for longer than `latest`, in hundredths of a second. SAFE-2: a segment
/// that the network has kept back must not cut off who was taken in meanwhile.
fn until(latest: u64, script: &str) -> String {
    format!(
        "read -r up rest </proc/uptime; up=${{up%.*}}${{up#*.}}\n\
         [ \"$up\" -le {latest} ] || {{ echo \"{LATE}\" >&2; return {EXIT_LATE}; }}\n{script}"
    )
}

/// What an answer to an order says of it: that it was done, surely was not, or may have been.
fn done(answer: &Answer) -> Result<(), Failure> {
    match answer.status {
        0 => Ok(()),
        EXIT_LATE if answer.errors == LATE => Err(Failure::Refused {
            code: format!("{LATE}, and nothing was done: give the device a longer `deadline`"),
        }),
        status => {
            Err(Failure::Garbage { detail: in_doubt(&format!("exit status {status}: {}", answer.errors)) })
        }
    }
}

fn in_doubt(words: &str) -> String {
    clean(&format!("it may have been done: {words}"))
}

fn closed() -> Failure {
    Failure::Unreachable { error: "ssh: the connection was closed in the middle of an answer".to_owned() }
}

/// What tells our answers from whatever else a shell prints.
fn mark() -> Result<String, Failure> {
    let random = ring::rand::generate::<[u8; 8]>(&ring::rand::SystemRandom::new());
    let random =
        random.map_err(|_| Failure::Unreachable { error: "no random numbers from the system".to_owned() })?;
    Ok(format!("palisade-{:016x}", u64::from_ne_bytes(random.expose())))
}

/// `12.34` as 1234.
fn hundredths(uptime: &str) -> Option<u64> {
    let (seconds, rest) = uptime.trim().split_once('.')?;
    if rest.len() != 2 {
        return None;
    }
    seconds.parse::<u64>().ok()?.checked_mul(100)?.checked_add(rest.parse().ok()?)
}

/// Everything that a file of the user or of the system could change is said here, and no such file is read.
fn arguments(config: &SshConfig) -> Vec<String> {
    let known_hosts = format!("UserKnownHostsFile={}", config.known_hosts.display());
    let options = [
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        &known_hosts,
        "GlobalKnownHostsFile=/dev/null",
        "UpdateHostKeys=no",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "PreferredAuthentications=publickey",
        CONNECT_TIMEOUT,
        "ConnectionAttempts=1",
        "LogLevel=ERROR",
    ];
    let mut arguments =
        vec!["-F".to_owned(), "none".to_owned(), "-T".to_owned(), "-a".to_owned(), "-x".to_owned()];
    for option in options {
        arguments.extend(["-o".to_owned(), option.to_owned()]);
    }
    arguments.extend(["-i".to_owned(), config.identity.display().to_string()]);
    arguments.extend(["-p".to_owned(), config.address.port().to_string(), config.destination()]);
    arguments.extend(["--".to_owned(), "exec sh".to_owned()]);
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SAFE-2: the host itself looks at its clock, and what it takes for late was surely not done.
    #[test]
    fn an_order_that_a_shell_takes_for_late_is_refused_and_nothing_else_is() {
        let run = |script: &str| {
            let mut shell = std::process::Command::new("sh");
            let output = shell.args(["-c", &framed(script, "M")]).output().unwrap();
            answer(&String::from_utf8(output.stdout).unwrap(), "M").unwrap()
        };
        let late = run(&until(0, "echo done"));
        assert!(!late.output.contains("done"));
        assert!(
            matches!(done(&late), Err(Failure::Refused { code }) if code.contains("nothing was done")),
            "{late:?}"
        );
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let now = hundredths(uptime.split_once(' ').unwrap().0).unwrap();
        let in_time = run(&until(now + 60_000, "echo done"));
        assert_eq!((done(&in_time), in_time.output.trim()), (Ok(()), "done"));
        // One that ends with the same status by itself has begun.
        let failed = run(&until(now + 60_000, "echo half; return 75"));
        assert!(
            matches!(done(&failed), Err(Failure::Garbage { detail }) if detail.contains("may have been"))
        );
    }

    #[test]
    fn an_uptime_is_read_as_the_kernel_writes_it() {
        assert_eq!((hundredths("12.34"), hundredths("0.05")), (Some(1234), Some(5)));
        for other in ["", "12", "12.3", "a.bc", "12.345"] {
            assert_eq!(hundredths(other), None, "{other}");
        }
    }
}
