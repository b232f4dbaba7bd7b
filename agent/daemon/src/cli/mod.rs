//! The command line. `palisade agent` is the daemon; everything else is the operator's.
//!
//! Exit status: 0 done or so, 1 failed or not so, 2 wrong usage or a configuration that does not check.

mod afar;
mod audit;
mod check;
mod direct;
mod dry_run;
mod fences;
mod keygen;
mod order;
mod papers;
mod records;
mod replay;
mod status;
mod terminal;
mod watch;
mod why;
mod wish;
mod workload;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use palisade_core::config::Cluster;

use crate::api::{self, Outcome};

/// The configuration, unless a command names another.
const CONFIG: &str = "/etc/palisade/cluster.toml";
/// The largest configuration file that is read; the parser's own limit is below it.
const CONFIG_MAX: u64 = 4 << 20;
/// The journal.
const JOURNAL: &str = "/var/lib/palisade/journal";

/// Guards a small cluster of hypervisors: fences a lost host, proves it, and brings its workloads back elsewhere.
#[derive(Debug, Parser)]
#[command(name = "palisade", version, max_term_width = 100, disable_help_subcommand = true)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent of this host.
    Agent(ConfigOption),
    /// Show what the agent of this host sees.
    Status {
        /// As JSON.
        #[arg(long, conflicts_with = "watch")]
        json: bool,
        /// Live, until q is pressed.
        #[arg(long)]
        watch: bool,
        /// How often --watch asks, such as 500ms or 5s.
        #[arg(long, value_name = "TIME", default_value = "1s", requires = "watch", value_parser = interval)]
        interval: Duration,
    },
    /// Fence a host: power it off, prove it, and start its workloads elsewhere.
    Fence(FenceOptions),
    /// Let a host return that is kept out: give it its power and paths back, and end its quarantine.
    Unfence(OrderOptions),
    /// State that a host is dead and can do no more harm, after you made sure of it yourself.
    Confirm(ConfirmOptions),
    /// Have a host give its workloads away and take none, or let it run some again.
    #[command(subcommand)]
    Host(Wish),
    /// Have a host leave and stay out, for as long as people work on it: nothing fences it or powers it on.
    #[command(subcommand)]
    Maintenance(Maintenance),
    /// Stop all automatic fencing for a while. A host that is lost meanwhile is fenced, and its workloads come back, only afterwards.
    Disarm {
        /// For how long, such as 30min; at most 24h. Then fencing arms itself.
        #[arg(long = "for", value_name = "TIME", default_value = "1h")]
        length: String,
        /// Why, for the journal.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Go on with automatic fencing at once.
    Arm {
        /// Why, for the journal.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Orders from afar: signed texts that go to one host's agent over the broker of central monitoring.
    ///
    /// palisade order make fence b --cluster edge-a --to a --reason "it hangs" --key ~/.ssh/id_ed25519 --out b.order;
    /// palisade order send b.order
    #[command(subcommand)]
    Order(Afar),
    /// List the workloads, stop one for good, or let it run again.
    #[command(subcommand)]
    Workload(Desire),
    /// Tell why something happened to a host, from the journal; also when no agent runs.
    ///
    /// The first line names the cause; then what led to what, with the times between, as much as the screen holds; then what was not
    /// done, and why. Without an argument: one line for each thing that happened.
    Why(WhyOptions),
    /// A fence certificate for somebody who was not there, and whether one holds.
    #[command(subcommand)]
    Audit(Audit),
    /// Feed what an agent recorded to the same engine again, and tell whether it decides the same.
    ///
    /// Exit status 0: everything is as recorded, or --set was given; 1: they part, or something cannot be replayed.
    Replay(ReplayOptions),
    /// Check the configuration or the fence paths, without harm.
    #[command(subcommand)]
    Check(Check),
    /// Print the completion script of a shell: source <(palisade completions bash)
    Completions {
        /// Which shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Write the manual pages: man -l DIR/palisade.1
    Man {
        /// Where; made if missing.
        dir: PathBuf,
    },
    /// Make a cluster key, or with `witness` a witness key.
    Keygen {
        /// Which key.
        #[arg(value_enum, default_value_t = keygen::Kind::Cluster)]
        kind: keygen::Kind,
        /// Where to write it; never over an existing file.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
enum Audit {
    /// Write the records of an incident with their chain of hashes, as a file that can be verified anywhere.
    Export(AuditExportOptions),
    /// Verify certificates, or whole journals; offline. Certificates of several hosts are held against one another.
    ///
    /// Exit status 0: all of it holds; 1: something does not, and the first line that does not is named.
    Verify(AuditVerifyOptions),
}

#[derive(Debug, Subcommand)]
enum Check {
    /// Check a configuration with its secrets, and print its timing.
    Config {
        /// The file.
        #[arg(default_value = CONFIG)]
        file: PathBuf,
    },
    /// Log in to every BMC and read privilege, identity and power. Switches nothing.
    Fences(ConfigOption),
}

#[derive(Debug, Subcommand)]
enum Desire {
    /// What each one is to do, where it runs, and what this host makes of it.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Stop it, wherever it runs; it stays stopped, over restarts and boots, until it is started again.
    Stop(DesireOptions),
    /// Let it run again: it is placed like any other.
    Start(DesireOptions),
}

#[derive(Debug, Subcommand)]
enum Wish {
    /// Its workloads move to others that may run them, one stop and one start each; it stays a member.
    Drain(WishOptions),
    /// It may run workloads again; none comes back by itself.
    Undrain(WishOptions),
}

#[derive(Debug, Subcommand)]
enum Afar {
    /// Make one and sign it. It counts for a few minutes, by the clock of the host that takes it, and once.
    Make(MakeOptions),
    /// Add another operator's signature, where the policy (two_operators) asks for two. What is signed is shown.
    Sign {
        /// What `make` wrote.
        file: PathBuf,
        /// The private Ed25519 key, or the public one of a key in an agent.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Send one, and tell what came of it.
    ///
    /// Exit status 0: it was taken; 1: it was not, or nobody answered. `mosquitto_pub -t palisade/CLUSTER/command -f FILE` does the same
    /// where there is no configuration; the answer comes on palisade/CLUSTER/host/HOST/order.
    Send {
        /// What `make` wrote.
        file: PathBuf,
        /// The configuration, or a copy: what it says of telemetry is how the broker is reached.
        #[arg(long, value_name = "FILE", default_value = CONFIG)]
        config: PathBuf,
        /// How long to wait for the answer, such as 10s.
        #[arg(long, value_name = "TIME", default_value = "10s", value_parser = interval)]
        wait: Duration,
    },
}

#[derive(Debug, Args)]
struct MakeOptions {
    /// fence, unfence, drain, undrain, maintenance-on, maintenance-off, disarm, arm, workload-stop or workload-start.
    order: String,
    /// The host or the workload that it is about; none for disarm and arm.
    about: Option<String>,
    /// The cluster's name.
    #[arg(long, value_name = "NAME")]
    cluster: String,
    /// The host whose agent is to take it: one that has a quorum (for `unfence`, the coordinator).
    #[arg(long, value_name = "HOST")]
    to: String,
    /// For how long, for maintenance-on and disarm, such as 2h.
    #[arg(long = "for", value_name = "TIME")]
    length: Option<String>,
    /// For how long the order counts; at most 10min.
    #[arg(long, value_name = "TIME", default_value = "5min")]
    counts: String,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The private Ed25519 key, or the public one of a key in an agent.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where to write it; never over an existing file. Otherwise it is printed.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Maintenance {
    /// It stops what it runs, which others take where they may, and leaves. Its power and its agent may come and go.
    On(MaintenanceOptions),
    /// It comes back when its agent speaks. Nothing powers it on, and no workload comes back to it by itself.
    Off(WishOptions),
}

#[derive(Debug, Args)]
struct MaintenanceOptions {
    /// The host's name in the configuration.
    host: String,
    /// For how long it is planned to last, such as 90min or 2days; at most 31days. When it lasts longer an alarm says so, and it goes on.
    #[arg(long = "for", value_name = "TIME", default_value = "4h")]
    length: String,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

#[derive(Debug, Args)]
struct WishOptions {
    /// The host's name in the configuration.
    host: String,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

#[derive(Debug, Args)]
struct DesireOptions {
    /// The workload's name in the configuration.
    workload: String,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

#[derive(Debug, Args)]
struct WhyOptions {
    /// A host, whose last incident is told; or a record's number (17, or b:17 of several journals), whose incident is told.
    #[arg(value_name = "HOST|RECORD")]
    about: Option<String>,
    /// Everything, however long.
    #[arg(long)]
    all: bool,
    /// As JSON, with the records.
    #[arg(long)]
    json: bool,
    /// A journal's directory; several, such as copies from other hosts, are told together by their wall clocks.
    #[arg(long, value_name = "DIR", default_value = JOURNAL)]
    journal: Vec<PathBuf>,
    /// The configuration, for the names of devices; it need not be there.
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct AuditExportOptions {
    /// A host, whose last incident is certified; or the number of one of an incident's records.
    #[arg(value_name = "HOST|RECORD")]
    about: String,
    /// Where to write it; never over an existing file. Otherwise it is printed.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The journal's directory.
    #[arg(long, value_name = "DIR", default_value = JOURNAL)]
    journal: PathBuf,
    /// The configuration, for the names of devices and operators; it need not be there.
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct AuditVerifyOptions {
    /// Certificates, and directories of journals.
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// The configuration whose operators' signatures count; that of this host unless given.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// An operator's public key (NAME.pub); may be repeated.
    #[arg(long, value_name = "FILE")]
    operator: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct ReplayOptions {
    /// A segment of a recording, a directory of them, the journal's directory, or one file of a journal that has its recording
    /// beside it.
    #[arg(default_value = JOURNAL)]
    from: PathBuf,
    /// Show what another time of `[timing]` would have decided, such as suspect=2s; may be repeated.
    ///
    /// It applies from the snapshot on with which each segment begins. The inputs are those of the recorded world: peers and
    /// devices do not react to what would have been decided otherwise, so the first difference says most. `lease` and `drift`
    /// cannot be set: the peers' recorded heartbeats promise theirs.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// As JSON, one line a segment.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ConfigOption {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct FenceOptions {
    /// The host's name in the configuration.
    host: String,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    reason: Option<String>,
    /// Do not ask for the host's name to be typed.
    #[arg(long)]
    yes: bool,
    /// Show how it would be fenced, when each path was last proven, and what would stop; send nothing.
    #[arg(long, conflicts_with_all = ["reason", "yes"])]
    dry_run: bool,
    /// Without an agent, from the configuration alone: refused while one answers here.
    ///
    /// The devices are driven level by level, and success is a reading, as with an agent. Nothing is started elsewhere.
    #[arg(long, conflicts_with = "dry_run")]
    direct: bool,
    /// Take the risk that this side has no quorum, which nobody can tell where no agent runs.
    #[arg(long, requires = "direct")]
    without_quorum: bool,
    /// The journal that --direct writes its intents to before each order.
    #[arg(long, value_name = "DIR", default_value = JOURNAL)]
    journal: PathBuf,
    /// The configuration, for --dry-run and --direct.
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct ConfirmOptions {
    #[command(flatten)]
    order: OrderOptions,
    /// What you looked at yourself, such as "both power cords are out"; it stands in your statement.
    #[arg(long, value_name = "TEXT")]
    checked: String,
    /// Your private Ed25519 key, or the public one of a key that ssh-agent or a token holds: `ssh-keygen` signs with it. Needed
    /// where the configuration names operators.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct OrderOptions {
    /// The host's name in the configuration.
    host: String,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Do not ask for the host's name to be typed.
    #[arg(long)]
    yes: bool,
}

/// How often a screen asks: no more often than a person sees, nor than an agent should be asked.
fn interval(text: &str) -> Result<Duration, String> {
    let (least, most) = (Duration::from_millis(100), Duration::from_secs(3600));
    match humantime::parse_duration(text) {
        Ok(time) if (least..=most).contains(&time) => Ok(time),
        Ok(_) => Err("from 100ms to 1h".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Runs what the command line asks for.
pub(crate) fn main() -> ExitCode {
    let socket = Path::new(api::SOCKET);
    let ended = match Line::parse().command {
        Command::Agent(option) => return crate::run::main(&option.config),
        Command::Status { watch: true, interval, .. } => watch::run(socket, interval),
        Command::Status { json, .. } => status::run(socket, json),
        Command::Fence(FenceOptions { host, dry_run: true, config, .. }) => {
            dry_run::run(socket, &config, &host)
        }
        Command::Fence(options @ FenceOptions { direct: true, .. }) => direct::run(socket, &options),
        Command::Fence(FenceOptions { host, reason, yes, .. }) => {
            let options = OrderOptions { host, reason: reason.unwrap_or_default(), yes };
            order::run(socket, order::Kind::Fence, &options)
        }
        Command::Unfence(options) => order::run(socket, order::Kind::Unfence, &options),
        Command::Confirm(options) => order::confirm(socket, &options),
        Command::Host(Wish::Drain(options)) => wish::host(socket, true, &options),
        Command::Host(Wish::Undrain(options)) => wish::host(socket, false, &options),
        Command::Maintenance(Maintenance::On(options)) => wish::maintenance_on(socket, &options),
        Command::Maintenance(Maintenance::Off(options)) => wish::maintenance_off(socket, &options),
        Command::Order(Afar::Make(options)) => afar::make(&options),
        Command::Order(Afar::Sign { file, key }) => afar::sign(&file, &key),
        Command::Order(Afar::Send { file, config, wait }) => afar::send(&file, &config, wait),
        Command::Disarm { length, reason } => wish::disarm(socket, &length, &reason),
        Command::Arm { reason } => wish::arm(socket, &reason),
        Command::Workload(Desire::List { json }) => workload::list(socket, json),
        Command::Workload(Desire::Stop(options)) => workload::run(socket, false, &options),
        Command::Workload(Desire::Start(options)) => workload::run(socket, true, &options),
        Command::Audit(Audit::Export(options)) => audit::export(&options),
        Command::Audit(Audit::Verify(options)) => audit::verify(&options),
        Command::Why(options) => why::run(&options),
        Command::Replay(options) => replay::run(&options),
        Command::Check(Check::Config { file }) => check::run(&file),
        Command::Check(Check::Fences(option)) => fences::run(&option.config),
        Command::Completions { shell } => papers::completions(shell),
        Command::Man { dir } => papers::man(&dir),
        Command::Keygen { kind, out } => keygen::run(kind, out.as_deref()),
    };
    ended.unwrap_or_else(|failure| {
        eprintln!("palisade: {}", failure.message);
        ExitCode::from(failure.status)
    })
}

/// How a command ends that does not do what it was asked.
#[derive(Debug)]
struct Failure {
    status: u8,
    message: String,
}

impl Failure {
    /// The thing asked is not so, or did not work.
    fn failed(message: impl Into<String>) -> Self {
        Self { status: 1, message: message.into() }
    }

    /// Wrong usage, or a configuration that does not check.
    fn usage(message: impl Into<String>) -> Self {
        Self { status: 2, message: message.into() }
    }
}

/// What every command comes to.
type Ended = Result<ExitCode, Failure>;

/// Prints to a reader that may go away (`| head`), which is no error.
fn print(text: &str) {
    use std::io::Write;
    if cfg!(test) {
        // Only this way a test's output is kept back while the test passes.
        std::print!("{text}");
        return;
    }
    drop(std::io::stdout().write_all(text.as_bytes()));
}

/// Reads and checks a configuration.
fn configuration(path: &Path) -> Result<Cluster, Failure> {
    use std::io::Read;
    let unreadable =
        |error| Failure::usage(format!("{}: {error}; name the configuration's file", path.display()));
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(CONFIG_MAX).read_to_string(&mut text).map_err(unreadable)?;
    Cluster::parse(&text, &path.display().to_string()).map_err(|error| Failure::usage(error.to_string()))
}

/// Columns of text, each as wide as its widest cell, two spaces apart.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A time span for people: `340 ms`, `12.3 s`, `5 min`, `3 h`.
fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        60_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

/// Gives the agent an order; what it says of it. `unknown` makes a sentence of the names that are configured.
fn give(
    socket: &Path,
    path: &str,
    body: &serde_json::Value,
    unknown: impl FnOnce(&[String]) -> Failure,
) -> Result<String, Failure> {
    let answer = ask(socket, path, Some(body.to_string().as_bytes()))?;
    match serde_json::from_slice(&answer.body) {
        Ok(Outcome::Accepted { message }) => Ok(message),
        Ok(Outcome::Refused { message }) => Err(Failure::failed(format!("refused: {message}"))),
        Ok(Outcome::UnknownHost { known }) => Err(unknown(&known)),
        Err(error) => Err(Failure::failed(format!("the agent's answer makes no sense: {error}"))),
    }
}

/// The agent's answer to one request, or the sentence that says why there is none.
fn ask(socket: &Path, path: &str, body: Option<&[u8]>) -> Result<api::client::Answer, Failure> {
    let answer = api::client::ask(socket, path, body).map_err(|error| Failure::failed(error.to_string()))?;
    #[derive(serde::Deserialize)]
    struct Refused {
        error: String,
    }
    match serde_json::from_slice::<Refused>(&answer.body) {
        Ok(refused) if answer.status >= 400 => Err(Failure::failed(refused.error)),
        Ok(_) | Err(_) => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Line::command().debug_assert();
        for line in [
            "palisade agent --config /x",
            "palisade status --json",
            "palisade status --watch --interval 500ms",
            "palisade fence b --reason broken --yes",
            "palisade fence b --direct --without-quorum --reason broken --config /x --journal /y",
            "palisade workload list --json",
            "palisade confirm b --reason burnt --checked unplugged",
            "palisade host drain b --reason upgrade",
            "palisade host undrain b --reason done",
            "palisade maintenance on b --reason board",
            "palisade maintenance on b --for 2days --reason board",
            "palisade maintenance off b --reason done",
            "palisade order make fence b --cluster edge-a --to a --reason hangs --key k --out b.order",
            "palisade order make disarm --cluster edge-a --to a --for 1h --counts 10min --reason switch --key k",
            "palisade order sign b.order --key k",
            "palisade order send b.order --config /x --wait 5s",
            "palisade disarm --reason switch",
            "palisade disarm --for 30min --reason switch",
            "palisade arm --reason done",
            "palisade workload stop db --reason upgrade",
            "palisade workload start db --reason done",
            "palisade why",
            "palisade why b --json --all",
            "palisade why 17 --journal /x --journal /y --config /z",
            "palisade audit export b --out /x --journal /y",
            "palisade audit verify /x /y --config /z --operator anna.pub --operator bert.pub",
            "palisade replay",
            "palisade replay /x --set suspect=2s --set grace=5s --json",
            "palisade check config",
            "palisade check config /x",
            "palisade check fences --config /x",
            "palisade keygen",
            "palisade completions zsh",
            "palisade man /x",
            "palisade keygen witness --out /x",
        ] {
            Line::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        for line in [
            "palisade",
            "palisade fence b --reason x --without-quorum",
            "palisade fence",
            "palisade fence b",
            "palisade keygen other",
            "palisade check",
        ] {
            assert_eq!(Line::try_parse_from(line.split(' ')).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn a_table_is_as_wide_as_its_cells() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        assert_eq!(
            table(&[row(["HOST", "STATE"]), row(["hypervisor-1", "dead"])]),
            "HOST          STATE\nhypervisor-1  dead\n"
        );
        assert_eq!([span(7), span(1_250), span(90_000), span(8_000_000)], ["7 ms", "1.2 s", "1 min", "2 h"]);
    }
}
