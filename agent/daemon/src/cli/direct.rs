//! `palisade fence HOST --direct`: a fence by hand where no agent runs, from the configuration alone. It drives the same devices,
//! and the same judge decides what is a proof. Never: a fence while an agent answers here, or a word of success without a reading.
//!
//! Nobody knows here who has the quorum: that is the operator's risk, and is said before.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use palisade_core::config::{Cluster, Device, DeviceKind, FencingMode, Host, MachineId};
use palisade_core::record::{Event, Who};
use palisade_devices::scsi::Me;
use palisade_devices::{DeviceHandle, Warrant};
use palisade_ladder::{
    After, Command, DeviceId, Effect, Evidence, Failure as DeviceFailure, Fence, Level, Opening, Order,
    Outcome, Plan, PlannedDevice, Proof, Reading, Response,
};
use palisade_proto::{HostId, Incarnation, Time};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Ended, Failure, FenceOptions, configuration, order, print, table};
use crate::fences::Access;
use crate::identity;
use crate::journal::{Durable, Journal, JournalHealth, Options};

/// A disk that has not taken an intent after so long takes none: nothing is sent.
const DURABLE_WAIT: Duration = Duration::from_secs(5);
/// Of a life that nobody here knows.
const NO_LIFE: [u8; 8] = [0; 8];

pub(super) fn run(socket: &Path, options: &FenceOptions) -> Ended {
    let FenceOptions { host: name, reason, yes, without_quorum, config, journal, .. } = options;
    if UnixStream::connect(socket).is_ok() {
        return Err(Failure::failed(format!(
            "an agent answers at {}: fence through it (without --direct), or stop it first (`systemctl stop palisade`); two at once \
             would write one journal",
            socket.display()
        )));
    }
    let cluster = configuration(config)?;
    let host = cluster.host_named(name).ok_or_else(|| {
        let known: Vec<&str> = cluster.hosts().iter().map(Host::name).collect();
        Failure::usage(format!("there is no host `{name}`; configured are: {}", known.join(", ")))
    })?;
    let machine = identity::machine_uuid().ok().and_then(|machine| MachineId::parse(&machine));
    let me = machine.and_then(|machine| cluster.host_of_machine(machine));
    if me.is_some_and(|me| me.id() == host.id()) {
        return Err(Failure::failed(format!(
            "this is `{name}` itself: a host does not fence itself; ask on another one"
        )));
    }
    if cluster.fencing().mode() == FencingMode::Shadow {
        return Err(Failure::failed("fencing is in shadow mode ([fencing] mode): nothing is switched"));
    }
    let (chains, left_out) = chains(&cluster, host.id());
    if chains.is_empty() {
        return Err(Failure::failed(format!(
            "no device that can be used from here fences `{name}`{}",
            said(&left_out)
        )));
    }
    print(&risk(&cluster, host, &chains, &left_out));
    if !without_quorum {
        return Err(Failure::usage(
            "nothing was done: no agent runs here to say whether this side has the quorum; if you take that risk, add --without-quorum",
        ));
    }
    if !yes {
        order::typed(name)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    let reason = reason.clone().unwrap_or_default();
    let teller = me.map_or("operator", Host::name).to_owned();
    let by = order::caller();
    runtime.block_on(async {
        let mut direct = Direct::begin(&cluster, host, me.map(Host::id), journal, &teller)?;
        let ended = direct.fence(&by, &reason, chains).await;
        direct.end().await;
        ended
    })
}

/// One thing to take from the host, and the levels that do.
type Chain = (Effect, BTreeMap<u8, Vec<DeviceId>>);

/// Power first, then whatever else cuts it off; without the levels that cannot be used from here, each with its reason. A level
/// proves with all of its devices or not at all.
fn chains(cluster: &Cluster, host: HostId) -> (Vec<Chain>, Vec<String>) {
    let (mut chains, mut left_out) = (Vec::new(), Vec::new());
    for effect in [Effect::Power, Effect::Storage, Effect::Network] {
        let mut levels: BTreeMap<u8, Vec<DeviceId>> = BTreeMap::new();
        let devices = (0u16..).map(DeviceId).zip(cluster.devices());
        let of_it = |device: &Device| device.fences() == host && device.effect() == effect;
        for (id, device) in devices.clone().filter(|(_, device)| of_it(device)) {
            levels.entry(device.level()).or_default().push(id);
        }
        for (_, device) in devices.filter(|(_, device)| of_it(device)) {
            if let Some(why) = needs_an_agent(device.kind())
                && levels.remove(&device.level()).is_some()
            {
                left_out.push(format!("level {} ({}: {why})", device.level(), device.name()));
            }
        }
        if !levels.is_empty() {
            chains.push((effect, levels));
        }
    }
    (chains, left_out)
}

/// Why a device of this kind can be used by a living member alone.
fn needs_an_agent(kind: &DeviceKind) -> Option<&'static str> {
    match kind {
        DeviceKind::Scsi(_) => Some("only a host that is registered there can take another one's key"),
        DeviceKind::Wall(_) => Some("the other hosts' agents do it"),
        DeviceKind::Ipmi(_)
        | DeviceKind::Redfish(_)
        | DeviceKind::Hypervisor(_)
        | DeviceKind::Switch(_)
        | DeviceKind::HaProxy(_)
        | DeviceKind::Nft(_)
        | DeviceKind::Route(_)
        | DeviceKind::Lun(_)
        | DeviceKind::Agent(_) => None,
    }
}

fn said(left_out: &[String]) -> String {
    if left_out.is_empty() {
        String::new()
    } else {
        format!("; not usable from here: {}", left_out.join("; "))
    }
}

/// What the operator must know before.
fn risk(cluster: &Cluster, host: &Host, chains: &[Chain], left_out: &[String]) -> String {
    let name = host.name();
    let mut rows = vec![["LEVEL", "TAKES", "DEVICE"].map(str::to_owned).to_vec()];
    for (effect, levels) in chains {
        for (level, devices) in levels {
            for device in devices {
                rows.push(vec![level.to_string(), takes(*effect).to_owned(), device_name(cluster, *device)]);
            }
        }
    }
    let may_run: Vec<&str> = cluster
        .workloads()
        .iter()
        .filter(|workload| workload.hosts().contains(&host.id()))
        .map(palisade_core::config::Workload::name)
        .collect();
    let may_run = if may_run.is_empty() { "no workload".to_owned() } else { may_run.join(", ") };
    format!(
        "This fences host `{name}` from here, without any agent:\n\n{}{}\n\
         What may run there, and stops: {may_run}. Nothing is started elsewhere by this: that is the agents' work.\n\
         The risk: no agent runs here, so nobody knows whether this side has the quorum. The rest of the cluster may be whole, count on\n\
         `{name}`, or be about to fence this side. Data on shared storage is safe only once PROVEN stands here: start nothing of `{name}`\n\
         elsewhere by hand before.\n",
        table(&rows),
        if left_out.is_empty() { String::new() } else { format!("left out{}\n", said(left_out)) },
    )
}

fn takes(effect: Effect) -> &'static str {
    match effect {
        Effect::Power => "power",
        Effect::Storage => "storage",
        Effect::Network => "network",
    }
}

fn device_name(cluster: &Cluster, device: DeviceId) -> String {
    cluster
        .devices()
        .get(usize::from(device.0))
        .map_or_else(|| "?".to_owned(), |device| device.name().to_owned())
}

/// What came of an order.
struct Answered {
    order: Order,
    answer: Result<Response, DeviceFailure>,
    took: Duration,
}

/// One fence by hand.
struct Direct<'a> {
    cluster: &'a Cluster,
    victim: Incarnation,
    who: Who,
    handles: BTreeMap<DeviceId, Result<DeviceHandle, String>>,
    journal: Journal,
    durable: mpsc::Receiver<Durable>,
    token: u64,
    begun: Instant,
    under_way: JoinSet<Answered>,
}

impl<'a> Direct<'a> {
    fn begin(
        cluster: &'a Cluster,
        host: &Host,
        me: Option<HostId>,
        journal: &Path,
        teller: &str,
    ) -> Result<Self, Failure> {
        let mut life = NO_LIFE;
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut life)
            .map_err(|_| Failure::failed("the kernel gives no random bytes"))?;
        let (journal, durable) = Journal::open(Options::new(journal.to_owned(), teller, life))
            .map_err(|error| Failure::failed(format!("the journal: {error}; nothing was sent")))?;
        let by = Me { life: Incarnation::new(me.unwrap_or(host.id()), life), first_of_boot: false };
        let handle = |device: &Device| Access::to(device, cluster, me).map(|access| access.spawn(by, None));
        let devices = (0u16..).map(DeviceId).zip(cluster.devices());
        let handles = devices
            .filter(|(_, device)| device.fences() == host.id() && needs_an_agent(device.kind()).is_none())
            .map(|(id, device)| (id, handle(device)))
            .collect();
        let victim = Incarnation::new(host.id(), NO_LIFE);
        Ok(Self {
            cluster,
            victim,
            who: Who::new(host.name(), victim),
            handles,
            journal,
            durable,
            token: 0,
            begun: Instant::now(),
            under_way: JoinSet::new(),
        })
    }

    async fn fence(&mut self, by: &str, reason: &str, chains: Vec<Chain>) -> Ended {
        let name = self.who.host.clone();
        let asked = format!("fence {name} ({reason})");
        let outcome = "directly, where no agent runs, and without a quorum".to_owned();
        self.intend(&Event::Operator { by: by.to_owned(), asked, outcome, statement: None }).await?;
        let because = format!("operator {by}: {reason} (directly, without a quorum)");
        self.intend(&Event::FenceDecided { victim: self.who.clone(), because }).await?;
        let mut failures = Vec::new();
        for (effect, levels) in chains {
            match self.run_chain(effect, &levels).await? {
                Ok(proof) => return Ok(self.proven(&proof)),
                Err(why) => failures.push(why),
            }
        }
        let why = failures.join("; ");
        let victim = self.who.clone();
        self.record(&Event::FenceFailed { victim, why: why.clone(), retry_in_ms: 0 });
        Err(Failure::failed(format!(
            "NOT proven: {why}. `{name}` may run: start nothing of it elsewhere. If you make sure of its death yourself, tell the agents \
             with `palisade confirm {name}`"
        )))
    }

    /// One run through the levels; `Err`: why it came to no proof.
    async fn run_chain(
        &mut self,
        effect: Effect,
        levels: &BTreeMap<u8, Vec<DeviceId>>,
    ) -> Result<Result<Proof, String>, Failure> {
        let mut fence = Fence::new(self.victim, self.plan(effect, levels), self.now());
        let mut setbacks = Vec::new();
        loop {
            while let Some(order) = fence.poll_order(self.now()) {
                self.send(&mut fence, order).await?;
            }
            while let Some(outcome) = fence.poll_outcome() {
                match outcome {
                    Outcome::Proven(proof) => {
                        self.under_way.abort_all();
                        return Ok(Ok(proof));
                    }
                    Outcome::Exhausted { .. } => {
                        // Nothing is tried again by itself: whoever asked decides.
                        let _ = fence.abandon(self.now());
                        self.under_way.abort_all();
                        let why = if setbacks.is_empty() {
                            "no level could prove".to_owned()
                        } else {
                            setbacks.join("; ")
                        };
                        return Ok(Err(format!("{}: {why}", takes(effect))));
                    }
                    Outcome::LevelFailed { setbacks: found, .. } => {
                        let told = found
                            .iter()
                            .map(|(id, setback)| format!("{}: {setback}", device_name(self.cluster, *id)));
                        setbacks.extend(told);
                    }
                    Outcome::WrongIdentity { device, failure } => {
                        let what = format!(
                            "{}: {failure}; nothing was ordered there",
                            device_name(self.cluster, device)
                        );
                        self.say(&what);
                        self.record(&Event::Alarm { what });
                    }
                    Outcome::Assumed { device, .. } => {
                        let why = format!(
                            "{} acknowledged the off, but nothing could be read back",
                            device_name(self.cluster, device)
                        );
                        self.record(&Event::Withheld {
                            what: format!("taking {} for dead", self.who.host),
                            why,
                        });
                    }
                    Outcome::Withheld { .. } | Outcome::Restored { .. } | Outcome::NotRestored { .. } => {}
                }
            }
            self.wait(&mut fence).await;
        }
    }

    fn plan(&self, effect: Effect, levels: &BTreeMap<u8, Vec<DeviceId>>) -> Plan {
        let device =
            |id: &DeviceId| self.cluster.devices().get(usize::from(id.0)).map(|device| (*id, device));
        let all = || levels.values().flatten().filter_map(device);
        let planned = |(id, device): (DeviceId, &Device)| PlannedDevice {
            id,
            deadline: device.deadline(),
            retries: device.retries(),
        };
        let level =
            |ids: &Vec<DeviceId>| Level { devices: ids.iter().filter_map(device).map(planned).collect() };
        let looks = all().all(|(_, device)| device.kind().reads_soon());
        Plan {
            effect,
            levels: levels.values().map(level).collect(),
            opening: if looks { Opening::LookFirst } else { Opening::CutAtOnce },
            // Who gives it back is the cluster's to say, or the operator's.
            after_off: After::Off,
            order_deadline: self.cluster.timing().order_deadline(),
        }
    }

    async fn send(&mut self, fence: &mut Fence, order: Order) -> Result<(), Failure> {
        let name = device_name(self.cluster, order.device);
        match order.command {
            Command::Off | Command::On => {
                // SAFE-5: the intent is on the disk before the command leaves.
                let victim = self.who.clone();
                let (device, command, attempt) = (name.clone(), order.command, order.attempt);
                self.intend(&Event::OrderIntended { victim, device, command, attempt }).await?;
                self.say(&format!("{name} <- off (try {attempt})"));
            }
            Command::Read | Command::Prove => {}
        }
        if self.now() >= order.deadline {
            fence.withdraw(order.device, self.now());
            return Ok(());
        }
        let Some(Ok(handle)) = self.handles.get(&order.device) else {
            let why = match self.handles.get(&order.device) {
                Some(Err(why)) => why.clone(),
                Some(Ok(_)) | None => "it cannot be used".to_owned(),
            };
            self.say(&format!("{name}: {why}"));
            let answer = Err(DeviceFailure::Cancelled);
            fence.handle_answer(order.device, order.command, order.attempt, answer, self.now());
            return Ok(());
        };
        let (handle, deadline) = (handle.clone(), self.begun + Duration::from_millis(order.deadline.0));
        self.under_way.spawn(async move {
            let sent = Instant::now();
            // By hand: no standing to lose.
            let warrant = Warrant { deadline: deadline.into(), standing: None, whom: None };
            let answer = handle.run(order.command, warrant).await;
            Answered { order, answer, took: sent.elapsed() }
        });
        Ok(())
    }

    /// Until a device answers, or the fence has something to do.
    async fn wait(&mut self, fence: &mut Fence) {
        let wake = fence.wake().map_or(self.begun, |at| self.begun + Duration::from_millis(at.0));
        let answered = tokio::select! {
            Some(answered) = self.under_way.join_next() => answered,
            () = tokio::time::sleep_until(wake.into()) => return fence.handle_time(self.now()),
        };
        let Ok(Answered { order, answer, took }) = answered else { return };
        let (device, words) = (device_name(self.cluster, order.device), in_words(&answer));
        self.say(&format!("{device} -> {words}"));
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let (victim, command) = (self.who.clone(), order.command);
        self.record(&Event::OrderAnswered { victim, device, command, answer: words, took_ms });
        // SAFE-4: what an answer amounts to is the ladder's to say; only a reading after the order is a proof.
        fence.handle_answer(order.device, order.command, order.attempt, answer, self.now());
    }

    fn proven(&mut self, proof: &Proof) -> ExitCode {
        let name = self.who.host.clone();
        let evidence = self.evidence(proof);
        let victim = self.who.clone();
        let kind = proof.kind().name().to_owned();
        if proof.kills() {
            self.record(&Event::Dead { victim, proof: kind.clone(), evidence: evidence.clone() });
            print(&format!(
                "\nPROVEN {kind}: {evidence}\n`{name}` is off and stays so until somebody switches it on. Agents of the cluster learn nothing of \
                 this from here:\nwhere one runs and has a quorum, it reads the same by itself, or takes your word (`palisade confirm {name}`).\n"
            ));
        } else {
            self.record(&Event::Isolated {
                victim,
                proof: kind.clone(),
                evidence: evidence.clone(),
                frees: Vec::new(),
            });
            print(&format!(
                "\nPROVEN {kind}: {evidence}\n`{name}` is cut off, and NOT proven dead: it may run, and reach whatever else it can.\n"
            ));
        }
        ExitCode::SUCCESS
    }

    fn evidence(&self, proof: &Proof) -> String {
        match proof.evidence() {
            Evidence::PowerOff { readings, cut } | Evidence::Isolated { readings, cut } => {
                let read = readings.iter().map(|reading| {
                    let answer = if reading.already_off {
                        "said that it is off already"
                    } else {
                        "acknowledged the off"
                    };
                    format!("{} {answer} and then read off", device_name(self.cluster, reading.device))
                });
                let before = if *cut { "" } else { " (it was off before)" };
                format!("{}{before}", read.collect::<Vec<_>>().join(", "))
            }
            Evidence::Left
            | Evidence::Reborn { .. }
            | Evidence::WatchdogExpired { .. }
            | Evidence::Operator { .. }
            | Evidence::Gossiped { .. } => proof.to_string(),
        }
    }

    /// Milliseconds since this fence began.
    fn now(&self) -> Time {
        Time(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn say(&self, text: &str) {
        let ms = self.now().0;
        let text: String = text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
        print(&format!("{:>5}.{:03} s  {text}\n", ms / 1000, ms % 1000));
    }

    /// What nothing waits for; it is synced when the journal is closed.
    fn record(&mut self, event: &Event) {
        if let Err(error) = self.journal.try_append(event, None) {
            self.say(&format!("not in the journal: {error}"));
        }
    }

    /// SAFE-5: durable, or nothing is sent.
    async fn intend(&mut self, event: &Event) -> Result<(), Failure> {
        self.token += 1;
        let lost = |what: String| {
            Failure::failed(format!(
                "the journal: {what}; nothing more was sent (--journal names another directory)"
            ))
        };
        self.journal.try_append(event, Some(self.token)).map_err(|error| lost(error.to_string()))?;
        let token = self.token;
        let durable = async {
            while let Some(done) = self.durable.recv().await {
                if done.token == token {
                    return true;
                }
            }
            false
        };
        match tokio::time::timeout(DURABLE_WAIT, durable).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(lost(match self.journal.health() {
                JournalHealth::Failing { error } => error,
                JournalHealth::Stalled { .. } | JournalHealth::Ok => "the disk does not answer".to_owned(),
            })),
        }
    }

    async fn end(self) {
        drop(self.handles);
        if tokio::time::timeout(DURABLE_WAIT, self.journal.close()).await.is_err() {
            print("the journal's disk does not answer: the last records may be lost\n");
        }
    }
}

fn in_words(answer: &Result<Response, DeviceFailure>) -> String {
    match answer {
        Ok(Response::Acknowledged) => "acknowledged".to_owned(),
        Ok(Response::AlreadySo) => "refused, it is so already".to_owned(),
        Ok(Response::Reads(Reading::On)) => "reads on".to_owned(),
        Ok(Response::Reads(Reading::Off)) => "reads off".to_owned(),
        Ok(Response::Reads(Reading::Unknown)) => "reads neither on nor off".to_owned(),
        Ok(Response::Proven(proven)) => format!("works, identity {}", proven.identity),
        Err(failure) => failure.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::agent;
    use crate::testing::TempDir;

    #[test]
    fn while_an_agent_answers_here_nothing_is_fenced_without_it() {
        let dir = TempDir::new();
        let options = FenceOptions {
            host: "b".to_owned(),
            reason: Some("x".to_owned()),
            yes: true,
            dry_run: false,
            direct: true,
            without_quorum: true,
            journal: dir.path().join("journal"),
            config: dir.path().join("none.toml"),
        };
        let failure = run(&agent(&dir), &options).unwrap_err();
        assert!(
            failure.status == 1 && failure.message.contains("an agent answers at"),
            "{}",
            failure.message
        );
        assert!(!options.journal.exists());
        let failure = run(&dir.path().join("nobody.sock"), &options).unwrap_err();
        assert!(
            failure.status == 2 && failure.message.contains("name the configuration's file"),
            "{}",
            failure.message
        );
    }

    #[test]
    fn a_level_that_needs_an_agent_is_left_out_as_a_whole() {
        let cluster = Cluster::parse(
            r#"
[cluster]
name = "edge"
keys = [ { id = 1, file = "/k" } ]
[[host]]
id = 0
name = "a"
machine = "4c4c4544-0051-3510-8052-b4c04f4d3130"
links = ["10.77.1.1:7411"]
[[host]]
id = 1
name = "b"
machine = "4c4c4544-0051-3510-8052-b4c04f4d3131"
links = ["10.77.1.2:7411"]
[[device]]
name = "bmc-b"
kind = "ipmi"
fences = "b"
address = "10.77.1.102:623"
user = "admin"
password = { file = "/p" }
guid = "a123456789abcdefa123456789abcde2"
[[device]]
name = "wall-b"
kind = "nft"
on = "survivors"
fences = "b"
level = 2
addresses = ["10.77.1.2"]
"#,
            "test",
        )
        .unwrap();
        let (chains, left_out) = chains(&cluster, HostId::new(1).unwrap());
        let power = BTreeMap::from([(1, vec![DeviceId(0)])]);
        assert_eq!(chains, [(Effect::Power, power)]);
        assert!(
            left_out.len() == 1 && left_out[0].contains("wall-b: the other hosts' agents do it"),
            "{left_out:?}"
        );
        let told = risk(&cluster, cluster.host_named("b").unwrap(), &chains, &left_out);
        assert!(told.contains("left out; not usable from here: level 2"), "{told}");
        assert!(told.lines().all(|line| line.chars().count() <= 132), "{told}");
    }
}
