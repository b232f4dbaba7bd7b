//! `palisade status --watch`: the status as a live screen, plain enough for a serial line or ssh at 80x24. Asks the agent on a thread
//! of its own, so that a host that hangs does not hang the keys. Leaves the terminal as it found it, whatever ends it.

use std::io::{IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};
use palisade_core::status::{Status, WitnessStatus};

use super::terminal::{self, clip};
use super::{Ended, Failure, ask, span, status, table};

/// Another screen, so that the operator's own comes back as it was; no cursor to flicker.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// The way back.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// Only what is written over changes: nothing is cleared first, so nothing flickers.
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K";
const REST_OF_SCREEN: &str = "\x1b[J";
/// The smallest screen that is drawn for; on a smaller one the end is missing.
const ROWS_MIN: usize = 6;

/// What the thread that asks brings back.
type Asked = Result<Box<Status>, String>;

pub(super) fn run(socket: &Path, interval: Duration) -> Ended {
    if !std::io::stdout().is_terminal() {
        return Err(Failure::usage(
            "--watch draws on a terminal; without one, ask for `palisade status` or `palisade status --json`",
        ));
    }
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: nix::Error| Failure::failed(format!("{what}: {error}"))
    };
    // Taken as words, before anything is drawn: whichever comes, the terminal is given back first.
    let mut signals = SigSet::empty();
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGWINCH]
        .into_iter()
        .for_each(|signal| signals.add(signal));
    signals.thread_block().map_err(failed("signals"))?;
    let words = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .map_err(failed("signals"))?;
    let (news, answers) = Asking::begin(socket, interval)?;
    let _screen = Screen::enter();
    let mut watch = Watch { interval, answered: None, silent: None };
    loop {
        draw(
            &watch.frame(terminal::size().unwrap_or((terminal::COLUMNS, terminal::ROWS)), SystemTime::now()),
        );
        let keys = std::io::stdin();
        let mut fds =
            vec![PollFd::new(words.as_fd(), PollFlags::POLLIN), PollFd::new(news.as_fd(), PollFlags::POLLIN)];
        if keys.is_terminal() {
            fds.push(PollFd::new(keys.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(failed("the terminal")(error)),
        }
        let pressed = fds.get(2).and_then(PollFd::any).unwrap_or(false);
        while let Ok(Some(word)) = words.read_signal() {
            if i32::try_from(word.ssi_signo).ok() != Some(Signal::SIGWINCH as i32) {
                return Ok(ExitCode::SUCCESS);
            }
        }
        if pressed {
            let mut bytes = [0; 64];
            // A terminal that is gone reads as its end.
            let read = nix::unistd::read(&keys, &mut bytes).unwrap_or(0);
            if read == 0 || bytes.iter().take(read).any(|byte| matches!(byte, b'q' | b'Q')) {
                return Ok(ExitCode::SUCCESS);
            }
        }
        let _ = nix::unistd::read(&news, &mut [0; 64]);
        answers.try_iter().for_each(|asked| watch.take(asked, Instant::now(), SystemTime::now()));
    }
}

/// Asks again and again, and says by a byte in a pipe that there is an answer.
struct Asking;

impl Asking {
    fn begin(socket: &Path, interval: Duration) -> Result<(OwnedFd, mpsc::Receiver<Asked>), Failure> {
        use nix::fcntl::OFlag;
        let no_thread = |error: String| Failure::failed(format!("cannot start: {error}"));
        let (news, tell) = nix::unistd::pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)
            .map_err(|error| no_thread(error.to_string()))?;
        let (answer, answers) = mpsc::sync_channel(2);
        let socket: PathBuf = socket.to_owned();
        let thread = std::thread::Builder::new().name("ask".into()).spawn(move || {
            loop {
                let asked = Instant::now();
                if answer.send(status(&socket)).is_err() || nix::unistd::write(&tell, b"!").is_err() {
                    return;
                }
                std::thread::park_timeout(interval.saturating_sub(asked.elapsed()));
            }
        });
        thread.map_err(|error| no_thread(error.to_string()))?;
        Ok((news, answers))
    }
}

fn status(socket: &Path) -> Asked {
    let answer = ask(socket, "/v1/status", None).map_err(|failure| failure.message)?;
    serde_json::from_slice(&answer.body)
        .map(Box::new)
        .map_err(|error| format!("its answer makes no sense: {error}"))
}

/// The terminal as this program needs it, given back when dropped.
struct Screen {
    before: Option<Termios>,
}

impl Screen {
    fn enter() -> Self {
        let input = std::io::stdin();
        let before = tcgetattr(&input).ok();
        if let Some(before) = &before {
            let mut keys = before.clone();
            // Keys come at once and are not shown; Ctrl-C stays a signal.
            keys.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
            let single = [(SpecialCharacterIndices::VMIN, 1), (SpecialCharacterIndices::VTIME, 0)];
            for (index, value) in single {
                if let Some(slot) = keys.control_chars.get_mut(index as usize) {
                    *slot = value;
                }
            }
            let _ = tcsetattr(&input, SetArg::TCSANOW, &keys);
        }
        put(ENTER);
        Self { before }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        put(LEAVE);
        if let Some(before) = &self.before {
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, before);
        }
    }
}

/// At once, so that no half of a frame is ever seen.
fn put(text: &str) {
    let mut output = std::io::stdout();
    // A terminal that is gone is seen at the next key.
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}

fn draw(lines: &[String]) {
    let mut text = String::from(HOME);
    for (at, line) in lines.iter().enumerate() {
        text.push_str(if at == 0 { "" } else { "\r\n" });
        text.push_str(line);
        text.push_str(REST_OF_LINE);
    }
    text.push_str(REST_OF_SCREEN);
    put(&text);
}

/// What is known, and since when nothing new is.
struct Watch {
    interval: Duration,
    /// The last status, and when it came.
    answered: Option<(Box<Status>, SystemTime)>,
    /// Since when the agent has not answered, and why.
    silent: Option<(Instant, SystemTime, String)>,
}

impl Watch {
    fn take(&mut self, asked: Asked, now: Instant, wall: SystemTime) {
        match (asked, &mut self.silent) {
            (Ok(status), _) => {
                self.answered = Some((status, wall));
                self.silent = None;
            }
            (Err(why), Some((_, _, last))) => *last = why,
            (Err(why), None) => self.silent = Some((now, wall, why)),
        }
    }

    /// The screen's lines, as many as it has rows, none longer than it is wide.
    fn frame(&self, (columns, rows): (usize, usize), now: SystemTime) -> Vec<String> {
        let rows = rows.max(ROWS_MIN);
        let mut lines = Vec::new();
        match &self.answered {
            Some((status, _)) => lines.extend(head(status)),
            None => lines.push("nothing is known yet".to_owned()),
        }
        let foot = self.foot(now);
        let room = rows.saturating_sub(lines.len() + foot.len());
        if let Some((status, _)) = &self.answered {
            lines.extend(body(status, room));
        }
        lines.truncate(rows.saturating_sub(foot.len()));
        lines.resize(rows.saturating_sub(foot.len()), String::new());
        lines.extend(foot);
        lines.iter().map(|line| clip(&plain(line), columns)).collect()
    }

    fn foot(&self, now: SystemTime) -> Vec<String> {
        let every = format!("{} UTC, every {}; q ends", time(now), span(ms(self.interval)));
        let Some((since, wall, why)) = &self.silent else { return vec![every] };
        let old = match &self.answered {
            Some((_, at)) => format!("; above is as of {}", time(*at)),
            None => String::new(),
        };
        let what =
            format!("THE AGENT DOES NOT ANSWER since {} ({}){old}", time(*wall), span(ms(since.elapsed())));
        vec![what, why.clone(), every]
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// `14:03:22`.
fn time(at: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(at).to_string();
    text.get(11..19).unwrap_or_default().to_owned()
}

/// Nothing that a terminal would obey: peers and devices choose some of these words.
fn plain(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

fn head(status: &Status) -> Vec<String> {
    let quorate = if status.quorate { "quorate" } else { "NOT quorate" };
    let admitted = if status.admitted { "" } else { ", NOT admitted" };
    let coordinator = status.coordinator.as_deref().unwrap_or("none");
    let with = if status.view.is_empty() { "nobody".to_owned() } else { status.view.join(", ") };
    vec![
        format!(
            "{} seen by {}: {quorate}{admitted}; coordinator {coordinator}; {}",
            status.cluster,
            status.host,
            witness(&status.witness)
        ),
        format!("stands with {with}; {} counted", status.electorate.len()),
        String::new(),
    ]
}

fn witness(witness: &WitnessStatus) -> String {
    match (witness.configured, witness.proven_ms) {
        (false, _) => "no witness".to_owned(),
        (true, Some(age)) => format!("witness {} ago", span(age)),
        (true, None) => "witness NEVER answered".to_owned(),
    }
}

/// What is wrong comes first and whole; hosts, workloads and paths share what is left.
fn body(status: &Status, room: usize) -> Vec<String> {
    let mut wrong: Vec<String> = Vec::new();
    if !status.journal.ok {
        let error = status.journal.error.as_deref().unwrap_or("no reason given");
        wrong.push(format!("JOURNAL cannot be written, so no fence is sent: {error}"));
    }
    if let Some(left) = status.disarmed_ms {
        wrong.push(format!(
            "DISARMED by an operator: no host is fenced automatically, for {} more",
            span(left)
        ));
    }
    wrong.extend(status.ills.iter().map(super::status::ill_in_words));
    wrong.extend(status.alarms.iter().map(|alarm| format!("ALARM: {alarm}")));
    wrong.extend(status.not_armed.iter().map(|reason| format!("NOT ARMED: {reason}")));
    let wrong = shortened(wrong, (room / 3).max(1), "more that is wrong");
    let parts = [hosts(status), workloads(status), paths(status)];
    let mut left = room.saturating_sub(wrong.len() + 1);
    let mut lines = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        // Each may take its share, and what those before it left.
        let share = left / (parts.len() - at);
        let wanted = part.len() + 1;
        let after: usize = parts.iter().skip(at + 1).map(|part| part.len() + 1).sum();
        let allowed = share.max(left.saturating_sub(after)).min(wanted);
        if part.len() < 2 || allowed < 3 {
            continue;
        }
        let mut told = shortened(part.clone(), allowed - 1, "more");
        told.push(String::new());
        left -= told.len().min(left);
        lines.extend(told);
    }
    lines.extend(wrong);
    lines
}

/// At most so many lines; the last one says how many are not there.
fn shortened(mut lines: Vec<String>, most: usize, what: &str) -> Vec<String> {
    if lines.len() > most {
        let missing = lines.len() - most.saturating_sub(1);
        lines.truncate(most.saturating_sub(1));
        lines.push(format!("... and {missing} {what}"));
    }
    lines
}

fn rows(rows: &[Vec<String>]) -> Vec<String> {
    table(rows).lines().map(str::to_owned).collect()
}

fn hosts(status: &Status) -> Vec<String> {
    let mut all = vec![["HOST", "STATE", "HEARD", "HEALTH"].map(str::to_owned).to_vec()];
    all.extend(status.hosts.iter().map(|host| {
        let heard = if host.name == status.host { "itself".to_owned() } else { ago(host.heard_ms) };
        vec![
            host.name.clone(),
            status::state(host),
            heard,
            host.health.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    }));
    rows(&all)
}

fn workloads(status: &Status) -> Vec<String> {
    let mut all = vec![["WORKLOAD", "DESIRED", "ON", "HERE"].map(str::to_owned).to_vec()];
    all.extend(status.workloads.iter().map(|workload| {
        let on = if workload.on.is_empty() { "nobody".to_owned() } else { workload.on.join(", ") };
        vec![workload.name.clone(), workload.desired.clone(), on, workload.here.clone()]
    }));
    rows(&all)
}

/// Those that do not work come first.
fn paths(status: &Status) -> Vec<String> {
    let mut all = vec![["DEVICE", "FENCES", "PROVEN", "ERROR"].map(str::to_owned).to_vec()];
    let mut paths: Vec<_> = status.fence_paths.iter().collect();
    paths.sort_by_key(|path| (path.error.is_none(), path.proven_ms.is_some()));
    all.extend(paths.iter().map(|path| {
        let error = path.error.clone().unwrap_or_else(|| "-".to_owned());
        vec![path.device.clone(), path.fences.clone(), ago(path.proven_ms), error]
    }));
    rows(&all)
}

fn ago(ms: Option<u64>) -> String {
    ms.map_or_else(|| "never".to_owned(), |ms| format!("{} ago", span(ms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(hosts: usize, alarms: usize) -> Watch {
        let names: Vec<String> = (0..hosts).map(|at| format!("hypervisor-{at}")).collect();
        let host = |(id, name): (usize, &String)| serde_json::json!({ "name": name, "id": id, "state": "member", "incarnation": null, "heard_ms": 7, "health": null });
        let path = |name: &String| {
            let error = (name == "hypervisor-1").then_some("no answer");
            serde_json::json!({ "device": format!("bmc-{name}"), "fences": name, "proven_ms": 1, "error": error })
        };
        let workload = |(id, name): (usize, &String)| serde_json::json!({ "name": format!("db-{id}"), "id": id + 1, "desired": "running", "on": [name], "here": "stopped" });
        let status = serde_json::from_value(serde_json::json!({
            "cluster": "edge-7", "host": "hypervisor-0", "incarnation": "", "admitted": true, "quorate": true, "found": null,
            "coordinator": "hypervisor-0", "view": names, "electorate": names, "dead": [],
            "hosts": names.iter().enumerate().map(host).collect::<Vec<_>>(),
            "workloads": names.iter().enumerate().map(workload).collect::<Vec<_>>(),
            "witness": { "configured": true, "proven_ms": 300, "granting": true },
            "fence_paths": names.iter().map(path).collect::<Vec<_>>(), "not_armed": [],
            "journal": { "ok": true, "error": null },
            "alarms": (0..alarms).map(|at| format!("thing {at} \u{1b}[2J is wrong")).collect::<Vec<_>>(),
        }));
        let answered = Some((Box::new(status.unwrap()), SystemTime::UNIX_EPOCH));
        Watch { interval: Duration::from_secs(1), answered, silent: None }
    }

    #[test]
    fn a_frame_fills_its_screen_exactly_and_what_is_wrong_is_on_it() {
        for (columns, rows) in [(80, 24), (40, 10), (132, 60), (32, 6)] {
            for hosts in [2, 3, 8, 32] {
                for alarms in [0, 1, 40] {
                    let frame = watch(hosts, alarms).frame((columns, rows), SystemTime::UNIX_EPOCH);
                    assert_eq!(frame.len(), rows, "{hosts} hosts, {alarms} alarms");
                    assert!(frame.iter().all(|line| line.chars().count() <= columns), "{frame:?}");
                    assert!(
                        frame.iter().all(|line| !line.contains('\u{1b}')),
                        "nothing that a terminal obeys"
                    );
                    assert_eq!(
                        frame.iter().any(|line| line.contains("ALARM") || line.contains("wrong")),
                        alarms > 0
                    );
                }
            }
        }
        let frame = watch(3, 1).frame((80, 24), SystemTime::UNIX_EPOCH);
        assert_eq!(
            frame[0],
            "edge-7 seen by hypervisor-0: quorate; coordinator hypervisor-0; witness 300 ms ~"
        );
        let all = frame.join("\n");
        for part in
            ["hypervisor-2  member", "db-2", "bmc-hypervisor-1  hypervisor-1  1 ms ago  no answer", "thing 0"]
        {
            assert!(all.contains(part), "{part}\n{all}");
        }
        assert!(frame[23].ends_with("UTC, every 1.0 s; q ends"), "{all}");
    }

    #[test]
    fn an_agent_that_does_not_answer_is_said_with_its_time_until_it_answers() {
        let mut watch = watch(2, 0);
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        watch.take(Err("no agent runs on this host".to_owned()), Instant::now(), at(60));
        watch.take(Err("it hangs".to_owned()), Instant::now(), at(90));
        let frame = watch.frame((80, 24), at(99)).join("\n");
        assert!(
            frame.contains("THE AGENT DOES NOT ANSWER since 00:01:00 (0 ms); above is as of 00:00:00"),
            "{frame}"
        );
        assert!(frame.contains("it hangs\n00:01:39 UTC") && frame.contains("hypervisor-1"), "{frame}");
        let known = watch.answered.take().unwrap().0;
        assert!(watch.frame((80, 24), at(99)).join("\n").starts_with("nothing is known yet"));
        watch.take(Ok(known), Instant::now(), at(100));
        assert!(!watch.frame((80, 24), at(101)).join("\n").contains("DOES NOT ANSWER"));
    }
}
