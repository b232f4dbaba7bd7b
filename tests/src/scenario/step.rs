//! The language of a scenario's `steps`: one line, one thing that a person does or one thing that has to be so.
//!
//! ```text
//! kill a                                  # wires out and every process killed at once
//! wait db runs on b within 5s             # has to become so
//! expect c not fenced                     # has to be so now (since `mark`, or since the start)
//! always quorate b c for 3s               # has to stay so
//! ```

use std::time::Duration;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its number in the file, from 1.
    pub line: usize,
    /// As written.
    pub text: String,
    /// What it means.
    pub kind: Kind,
}

/// What a line means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Somebody does something.
    Do(Action),
    /// It becomes so within the time.
    Wait(Condition, Duration),
    /// It is so.
    Expect(Condition),
    /// It is so, and stays so for the time.
    Always(Condition, Duration),
}

/// What a person, an accident or the weather does to the lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Wires out and every process killed, at once.
    Kill(Vec<String>),
    /// The power goes, the wires stay.
    PowerOff(Vec<String>),
    /// Somebody presses the power button.
    Boot(Vec<String>),
    /// The host hangs until it is thawed.
    Freeze(String),
    /// It goes on.
    Thaw(String),
    /// Both directions between one end and others.
    Cut(String, Vec<String>),
    /// Takes every rule of a host's firewall away.
    Flush(String),
    /// What one end sends to another no longer arrives.
    CutOneWay(String, String),
    /// Loses this share of what one end sends to another.
    Lose(u32, String, String),
    /// Mends all wires, or one end's.
    Heal(Option<String>),
    /// A BMC's knob.
    Bmc(String, BmcKnob),
    /// Something happens to the agent's process alone.
    Agent(String, AgentAct),
    /// Something happens to the witness or the broker.
    Service(Service, ServiceAct),
    /// The file that names every host is laid out, and every agent told to load it.
    Reload,
    /// The host's disk moves into another machine.
    SwapMachine(String),
    /// Something happens to a host's own disk.
    Disk(String, DiskAct),
    /// An intruder listens to what hosts send to one another.
    Listen(Duration),
    /// And sends all of it again.
    Replay,
    /// And sends it cut short, altered, and random bytes.
    Babble,
    /// A file of the scenario is laid in a host's /etc/palisade with this mode.
    Lay {
        /// The file, from the scenario's folder.
        file: String,
        /// On which host.
        host: String,
        /// Under which name.
        name: String,
        /// With which mode.
        mode: u32,
    },
    /// From here on it is looked at whether a host shows a secret.
    WatchSecrets,
    /// Every agent's and the witness's memory and processor time are measured and held against the budgets.
    Measure(Duration),
    /// A shell on a host runs this; what it leaves in the background stays there until the host's power goes.
    Run(String, String),
    /// Time goes by.
    Pass(Duration),
    /// `since` starts again here.
    Mark,
}

/// What a BMC is made to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BmcKnob {
    /// Its chassis takes that long for an order.
    Delay(Duration),
    /// Accepts orders, does nothing.
    Lie,
    /// Fails orders.
    Fail,
    /// Obeys again.
    Honest,
    /// Loses its own power: sessions and orders in progress are gone.
    Unplug,
    /// Comes back.
    PlugIn,
    /// Its wire is cut from every host.
    Unreachable,
    /// Somebody gives its user another password, and tells nobody.
    NewPassword,
}

/// What happens to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskAct {
    /// To the last byte.
    Fill,
    /// There is room again.
    Free,
    /// Every write waits, without an error.
    Hang,
    /// Writes come through again.
    GoOn,
}

/// What happens to an agent's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentAct {
    /// A planned restart (`systemctl restart`).
    Restart,
    /// SIGKILL; the supervisor starts it again.
    Crash,
    /// Another binary is laid in place, then a planned restart.
    Upgrade,
    /// `systemctl stop`.
    Stop,
    /// `systemctl start`.
    Start,
    /// `systemctl reload`.
    Reload,
}

/// Which service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// The witness.
    Witness,
    /// The broker.
    Broker,
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceAct {
    /// Killed.
    Stop,
    /// Started.
    Start,
    /// Killed and started.
    Restart,
}

/// Something that is so, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// These agents say that they hold a quorum.
    Quorate(Vec<String>),
    /// These agents answer and say that they hold none.
    NotQuorate(Vec<String>),
    /// Exactly one of these says that it holds a quorum.
    OneQuorate(Vec<String>),
    /// At most one of these says so.
    AtMostOneQuorate(Vec<String>),
    /// For each of these, the one that would fence it has proven the path, and names nothing that is not armed.
    Armed(Vec<String>),
    /// The last host's view is exactly the hosts before it.
    View(Vec<String>, String),
    /// The workload runs on exactly one host, one of these.
    RunsOn(String, Vec<String>),
    /// The workload runs nowhere.
    RunsNowhere(String),
    /// The same process that ran at the last mark runs, and no other has since.
    Untouched(String),
    /// Off was read from the host's BMC, says a survivor's journal.
    Fenced(String),
    /// No BMC was told to switch these off, and nobody holds a proof from their BMC.
    NotFenced(Vec<String>),
    /// Something on the first host reaches the second one, or nothing does.
    Reaches(String, String, bool),
    /// This port of the switch is open, or closed, whatever its agent says.
    Port(String, bool),
    /// Exactly one of these was fenced.
    OneFenced(Vec<String>),
    /// A journal holds this proof about a host.
    Dead(String, String),
    /// Nobody holds any proof about this host.
    NotDead(String),
    /// The host wrote such a record, containing these words.
    Says(String, String, String),
    /// The host finds its probe so: `healthy`, `degraded`, `failed` or `unknown`.
    Finds(String, String, String),
    /// The host has told its kernel to reboot at once.
    Reboots(String),
    /// It has not.
    NeverReboots(String),
    /// The console of this host shows these words, written by nobody but its agent.
    Shows(String, String),
    /// It wrote no such record.
    NeverSays(String, String),
    /// Central monitoring has heard every record of these hosts' journals, in their order, each once by its id.
    CentralHasAll(Vec<String>),
    /// The host has dropped packets for this reason, say its metrics.
    Counts(String, String),
    /// `palisade why VICTIM` on a host contains these words.
    Why(String, String, String),
    /// The first line of `palisade why VICTIM` on a host begins so; `...` stands for any words between.
    WhyBegins(String, String, String),
    /// The same of whichever of two was fenced, or else has no quorum, asked on the other one.
    WhyTheLoser(Vec<String>, String),
    /// `palisade ARGS` on a host exits with this code and its words contain these.
    Cli(String, Vec<String>, i32, String),
    /// No process of a host had one of its secrets in its arguments or environment, and none stands in what the agents wrote down.
    SecretsHidden,
    /// Only this program, which is none of ours, had one, and it did; none stands in what the agents wrote down.
    SecretsShownBy(String),
    /// The host has power.
    On(Vec<String>),
    /// It has none.
    Off(Vec<String>),
}
