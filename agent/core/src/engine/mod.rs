//! The agent's one state machine: health, electorate, view, standing, fences, claims. `handle_*` in, `poll_action` out.
//!
//! Decides everything the agent decides. Never: I/O, a clock of its own, randomness. Each input
//! is taken whole, then `settle` draws every consequence, so that no order of inputs leaves a half-done thought.

mod alarms;
mod claims;
mod cold;
mod fences;
mod growth;
mod health;
mod leave;
mod operator;
mod packets;
mod report;
mod speak;
mod standing;
mod wishes;

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use palisade_proto::message::{Desired, Grant, HealthClass, Place, Presence};
use palisade_proto::mutant::{self, Mutant};
use palisade_proto::{
    Duration, Founding, Heartbeat, HostId, Incarnation, Seq, Time, Voter, WorkloadId, WorkloadSet,
};

use crate::action::{Action, StorageHealth, Ticket};
use crate::config::{Cluster, ProbeId};
use crate::electorate::Electorate;
use crate::record::{Event, What, Who};
use crate::standing::{Birth, Saved};
use crate::support::Support;
use crate::view::Candidate;

use alarms::Alarms;
use claims::Here;
use cold::Cold;
use fences::Fences;

pub use wishes::Wished;

/// Leases a host may owe at once: one for each live incarnation, and one for each that died within a lease.
pub(crate) const MAX_LEASES: usize = 64;
/// A changed heartbeat goes at once, but not more often than this.
const MIN_GAP: Duration = Duration::ms(10);
/// A new process listens for this many hundredths of a heartbeat interval before it first sends.
const LISTEN_PERCENT: u64 = 110;

/// What this host knows of another one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Peer {
    /// The last packet received, accepted or not: goes back as the echo.
    pub(crate) last_seen: Option<palisade_proto::message::Echo>,
    /// The last packet accepted.
    pub(crate) accepted: Option<Accepted>,
    /// An incarnation not known must echo at least this seq of ours.
    pub(crate) fresh_from: Seq,
    /// When this incarnation first said `away`; cleared once it is back in the view.
    pub(crate) away_since: Option<Time>,
    /// Since when this incarnation has said that it is admitted and that its watchdog is armed.
    pub(crate) armed_since: Option<Time>,
    /// The last ask of its that was granted.
    pub(crate) granted: Option<Grant>,
}

/// The last packet accepted from a host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Accepted {
    pub(crate) heartbeat: Arc<Heartbeat>,
    pub(crate) at: Time,
    /// Since when this incarnation has been heard without a gap.
    pub(crate) steady_since: Time,
}

/// The agent's state machine. Create it after [`crate::standing::awaken`].
///
/// Serialised (between two inputs, every action polled) it is a snapshot for recordings and explorations; read back, it has no
/// configuration and does nothing right before [`Engine::configured`] gives it one.
#[derive(Debug, Serialize, Deserialize)]
pub struct Engine {
    #[serde(skip, default = "Cluster::none")]
    cluster: Arc<Cluster>,
    digest: [u8; 8],
    me: Incarnation,
    machine: [u8; 16],
    life: u64,
    started: Time,
    now: Time,

    next_seq: Seq,
    presence: Presence,
    found: Option<Founding>,
    /// A heartbeat that echoes at least this seq was built after `found` became what it is.
    found_from: Seq,
    electorate: Electorate,
    cold: Cold,
    /// Whom a cold start's ask for consent names, while one is wanted.
    cold_ask: Option<BTreeSet<Incarnation>>,
    /// Incarnations that joined E un-admitted, and since when they have been in it.
    joining: BTreeMap<Incarnation, Time>,

    peers: BTreeMap<HostId, Peer>,
    voter: Voter<MAX_LEASES, { palisade_proto::MAX_HOSTS }>,
    support: Support,
    view: BTreeSet<Incarnation>,
    /// What the view was last computed from: it changes only with this.
    #[serde(skip)]
    candidates: Vec<Candidate>,
    view_since: Time,
    /// Since when each member of E has not been in the view.
    outside_since: BTreeMap<Incarnation, Time>,
    /// The quorum held as of the last input; it holds before this instant.
    quorum_until: Option<Time>,
    /// Since when there has been a quorum without any gap.
    quorate_since: Option<Time>,
    /// Since when there has been none.
    lost_since: Option<Time>,
    told_quorate: bool,
    told_votes: (BTreeSet<Incarnation>, bool),
    self_fenced: bool,

    witness_answered: Option<Time>,
    /// Since when nothing that the witness was asked has been answered.
    witness_awaited: Option<Time>,
    witness_verdict: Option<palisade_proto::Verdict>,
    next_beacon: Time,
    next_ask: Time,
    pending_asks: BTreeMap<Seq, Time>,

    fences: Fences,
    /// Which lives lost their power by a fence, and when (SAFE-8).
    fence_times: Vec<(Incarnation, Time)>,
    /// Hosts whose power an order of this life cut, or may have, and no fence is to give back: a cold start's, and those of a
    /// fence that ended otherwise. It comes back once there is a quorum, and no earlier than then.
    power_owed: BTreeMap<HostId, Time>,
    /// Hosts that were fenced too often: until one of their lives is counted again, or an operator lets them return.
    quarantined: BTreeSet<HostId>,
    /// Hosts that an operator lets return, until they are counted.
    pardoned: BTreeSet<HostId>,
    /// Since when only the fences of a host count towards a quarantine: since an operator let it return.
    counts_from: BTreeMap<HostId, Time>,
    /// Who is outside the view and was lost without a word; and when it, or the witness after a silence, was first heard since.
    heard_again: BTreeMap<Incarnation, Option<Time>>,
    /// Whom a fence in shadow mode would have been for.
    shadowed: BTreeSet<Incarnation>,
    /// Since when this host has been the coordinator.
    coordinates_since: Option<Time>,
    here: BTreeMap<WorkloadId, Here>,
    unseen: WorkloadSet,
    place: BTreeMap<WorkloadId, Incarnation>,
    /// Failures in a row on this host, and when the last one was.
    failures: BTreeMap<WorkloadId, (u32, Time)>,
    desired: Desired,
    wished: Wished,
    /// Of which wishes there are alarms: the drained hosts, and those in maintenance, with whether that lasts too long.
    told_wished: (u32, BTreeMap<HostId, bool>),
    storages: Vec<StorageHealth>,
    health: HealthClass,
    load: u16,
    ills: BTreeMap<ProbeId, health::Standing>,
    /// Whether this process has heard of its own probes.
    looked: bool,
    /// What the last heartbeat said of this host.
    told_health: HealthClass,
    /// What runs here, is not to, and goes nowhere.
    stays: WorkloadSet,
    /// When this host was last not served in time.
    stalled: Option<Time>,
    unfit: Vec<String>,
    journal_failing: Option<String>,

    watchdog_armed: bool,
    watchdog_wanted: bool,
    next_feed: Time,
    next_arm: Time,
    leaving: Option<leave::Leaving>,
    exited: bool,

    saved: Saved,
    last_sent: Option<Time>,
    next_send: Time,
    dirty: bool,
    next_ticket: u64,
    wake: Time,
    /// When another machine last spoke under a host's name.
    clones: BTreeMap<HostId, Time>,
    alarms: Alarms,
    #[serde(skip)]
    actions: VecDeque<Action>,
}

impl Engine {
    /// An engine for the life that [`crate::standing::awaken`] chose. `now` is the process's start on the boot clock.
    #[must_use]
    pub fn new(
        cluster: Arc<Cluster>,
        birth: &Birth,
        me: Incarnation,
        saved: Saved,
        resumed: bool,
        now: Time,
    ) -> Self {
        // Written with the first save: also a process that crashes before it speaks has used up its part of the grace.
        let saved = Saved { lost_since: saved.lost_since.or(Some(now)), ..saved };
        let saved = match saved.admitted && mutant::on(Mutant::RestartForgetsElectorate) {
            true => Saved { electorate: vec![me], dead: Vec::new(), ..saved },
            false => saved,
        };
        let timing = cluster.timing().clone();
        let digest = cluster.digest();
        let listen = if mutant::on(Mutant::SpeaksAtOnce) { 0 } else { LISTEN_PERCENT };
        let first_send = now.after(Duration(timing.heartbeat().0.saturating_mul(listen).div_ceil(100)));
        let presence = if saved.admitted { Presence::Admitted } else { Presence::Joining };
        let peers = cluster
            .hosts()
            .iter()
            .filter(|host| host.id() != me.host)
            .map(|host| (host.id(), Peer { fresh_from: birth.first_seq, ..Peer::default() }))
            .collect();
        let storages = cluster.storages().iter().map(|_| StorageHealth::Unknown).collect();
        let mut engine = Self {
            digest,
            me,
            machine: birth.machine,
            life: saved.life,
            started: now,
            now,
            next_seq: birth.first_seq,
            presence,
            found: saved.found,
            found_from: birth.first_seq,
            electorate: Electorate::restore(&saved.electorate, &saved.dead, &saved.cut, &saved.cut_under),
            cold: Cold::restore(saved.lock),
            cold_ask: None,
            joining: BTreeMap::new(),
            peers,
            voter: Voter::new(silent_from(now, timing.voter_lease()), timing.voter_lease()),
            support: Support::new(timing.lease()),
            view: BTreeSet::new(),
            candidates: Vec::new(),
            view_since: now,
            outside_since: BTreeMap::new(),
            quorum_until: None,
            quorate_since: None,
            lost_since: saved.lost_since,
            told_quorate: false,
            told_votes: (BTreeSet::new(), false),
            self_fenced: false,
            witness_answered: None,
            witness_awaited: None,
            witness_verdict: None,
            next_beacon: now,
            next_ask: now,
            pending_asks: BTreeMap::new(),
            fences: Fences::default(),
            fence_times: saved.fences.clone(),
            power_owed: BTreeMap::new(),
            quarantined: saved.quarantined.iter().copied().collect(),
            pardoned: BTreeSet::new(),
            counts_from: BTreeMap::new(),
            heard_again: BTreeMap::new(),
            shadowed: BTreeSet::new(),
            coordinates_since: None,
            here: saved
                .claims
                .iter()
                .filter(|id| cluster.workload(**id).is_some())
                .map(|id| (*id, Here::Running))
                .collect(),
            unseen: WorkloadSet::EMPTY,
            place: BTreeMap::new(),
            failures: BTreeMap::new(),
            desired: Desired {
                version: saved.desired_version,
                stopped: saved.stopped.iter().copied().collect(),
            },
            wished: saved.wished.clone(),
            told_wished: (0, BTreeMap::new()),
            storages,
            health: HealthClass::Healthy,
            load: 0,
            ills: BTreeMap::new(),
            looked: false,
            told_health: HealthClass::Healthy,
            stays: WorkloadSet::EMPTY,
            stalled: None,
            unfit: Vec::new(),
            journal_failing: None,
            watchdog_armed: saved.watchdog_armed,
            watchdog_wanted: saved.watchdog_armed,
            next_feed: now,
            next_arm: now,
            leaving: None,
            exited: false,
            saved: saved.clone(),
            last_sent: None,
            next_send: first_send,
            dirty: false,
            next_ticket: 0,
            wake: now,
            clones: BTreeMap::new(),
            alarms: Alarms::default(),
            actions: VecDeque::new(),
            cluster,
        };
        // SAFE-9: an un-admitted life looks at every workload before its first heartbeat.
        if presence == Presence::Joining && !mutant::on(Mutant::NewLifeLooksAway) {
            engine.unseen = engine.cluster.workloads().iter().map(crate::config::Workload::id).collect();
        }
        engine.remember_walls(&saved.walls);
        let (unsettled, saved_claims) = (saved.unsettled.clone(), saved.claims.clone());
        engine.actions.push_back(Action::Save(Box::new(saved)));
        let me = engine.who(me);
        engine.record(Event::Started { me, resumed });
        for id in saved_claims.iter().filter(|id| engine.cluster.workload(**id).is_none()) {
            let what = format!(
                "workload {} ran here and is no longer in the configuration: it is not guarded, end it by hand",
                id.0
            );
            engine.alarms.raise_for(&mut engine.actions, format!("unguarded {id}"), what);
        }
        // A start that an earlier process began may yet go on, whatever a look says now: it is ended before its claim is.
        unsettled
            .into_iter()
            .filter(|id| engine.here.contains_key(id))
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|id| engine.kill(id));
        engine.settle();
        engine
    }

    /// Lets time pass: call it no later than [`Self::wake`].
    pub fn handle_tick(&mut self, now: Time) {
        self.begin(now);
        self.settle();
    }

    /// The machine slept. PROTOCOL, "Words": "If BOOTTIME - MONOTONIC has grown, the host slept: drop all grants, start a new
    /// silent period."
    pub fn handle_slept(&mut self, now: Time) {
        self.now = self.now.max(now);
        self.support.void();
        self.voter =
            Voter::new(silent_from(self.now, self.timing().voter_lease()), self.timing().voter_lease());
        if self.quorum_until.is_some() {
            self.end_quorum(self.now);
        }
        self.begin(now);
        self.settle();
    }

    /// A snapshot that was read back goes on under this configuration, which should be the one it was taken under.
    #[must_use]
    pub fn configured(self, cluster: Arc<Cluster>) -> Self {
        Self { cluster, ..self }
    }

    /// Everything that [`Self::poll_action`] has yet to give, in its order.
    pub fn actions(&self) -> impl Iterator<Item = &Action> {
        self.actions.iter()
    }

    /// The next thing to do; poll until `None` after each input.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Self::handle_tick`] at the latest.
    #[must_use]
    pub fn wake(&self) -> Time {
        self.wake
    }

    /// Every input begins here: what the clock says about the quorum comes first, so that a frozen host notices what it lost
    /// before it acts on anything.
    fn begin(&mut self, now: Time) {
        self.now = self.now.max(now);
        self.notice_stall();
        if let Some(until) = self.quorum_until.filter(|until| now >= *until) {
            // PROTOCOL, "Death and shrinking": "A gap is any instant past the expiry of h's quorum, also one that passed
            // while h was frozen."
            self.end_quorum(until);
        }
        self.refresh_view();
    }

    /// Draws every consequence of the input just taken.
    fn settle(&mut self) {
        self.wake = self.now.after(self.cluster.timing().heartbeat());
        if self.exited {
            return;
        }
        self.shrink();
        self.refresh_view();
        self.run_cold_start();
        self.run_growth();
        self.refresh_standing();
        self.guard_standing();
        let since = self.coordinates_since.unwrap_or(self.now);
        self.coordinates_since = self.is_coordinator(self.now).then_some(since);
        self.run_fences();
        self.run_wishes();
        self.run_health();
        self.run_placement();
        self.run_claims();
        self.run_leave();
        if self.exited || self.is_parting() {
            if self.stays_out() {
                self.watch_peers();
            }
            return;
        }
        self.feed_watchdog();
        self.watch_peers();
        self.speak();
        self.ask_witness();
    }

    /// Asks for a tick at `at`. What is due already was done in this very turn.
    fn wake_at(&mut self, at: Time) {
        if at > self.now {
            self.wake = self.wake.min(at);
        }
    }

    fn timing(&self) -> &crate::config::Timing {
        self.cluster.timing()
    }

    fn record(&mut self, event: Event) {
        self.actions.push_back(Action::Record { ticket: None, event: Box::new(event) });
    }

    /// Records an intent; what waits for it goes on in `handle_durable` (SAFE-5).
    fn record_intent(&mut self, event: Event) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.actions.push_back(Action::Record { ticket: Some(ticket), event: Box::new(event) });
        ticket
    }

    fn who(&self, who: Incarnation) -> Who {
        Who::new(self.name(who.host), who)
    }

    fn whos<'a>(&self, who: impl IntoIterator<Item = &'a Incarnation>) -> Vec<Who> {
        who.into_iter().map(|who| self.who(*who)).collect()
    }

    fn name(&self, host: HostId) -> &str {
        self.cluster.host(host).map_or("(unknown host)", crate::config::Host::name)
    }

    fn what(&self, id: WorkloadId) -> What {
        What {
            id,
            name: self
                .cluster
                .workload(id)
                .map_or("(unknown workload)", crate::config::Workload::name)
                .to_owned(),
        }
    }

    fn accepted(&self, host: HostId) -> Option<&Accepted> {
        self.peers.get(&host)?.accepted.as_ref()
    }

    /// The last heartbeat accepted from exactly this incarnation.
    fn heartbeat_of(&self, who: Incarnation) -> Option<&Heartbeat> {
        let said = self.accepted(who.host).map(|accepted| &*accepted.heartbeat);
        said.filter(|heartbeat| heartbeat.from == who)
    }

    /// PROTOCOL, "Views": "h hears p if it accepted a heartbeat within `suspect`".
    fn hears(&self, who: Incarnation) -> Option<&Heartbeat> {
        let suspect = self.timing().suspect();
        let accepted = self.accepted(who.host)?;
        (accepted.heartbeat.from == who && self.now < accepted.at.after(suspect))
            .then_some(&*accepted.heartbeat)
    }

    /// Every peer that is heard.
    fn heard(&self) -> impl Iterator<Item = &Accepted> {
        let (now, suspect) = (self.now, self.timing().suspect());
        self.peers
            .values()
            .filter_map(|peer| peer.accepted.as_ref())
            .filter(move |accepted| now < accepted.at.after(suspect))
    }

    fn is_admitted(&self) -> bool {
        self.presence == Presence::Admitted
            || (mutant::on(Mutant::AwayKeepsGrants) && self.presence == Presence::Away)
    }

    /// Not to be armed: something guarded starts by itself here, or this life has not opened its paths yet.
    fn is_unfit(&self) -> bool {
        !self.unfit.is_empty() || self.awaits_own_paths()
    }

    // Bare getters, for tests, simulation and the shell.

    /// This life.
    #[must_use]
    pub fn me(&self) -> Incarnation {
        self.me
    }

    /// Whether a quorum is held at `now`.
    #[must_use]
    pub fn is_quorate(&self, now: Time) -> bool {
        self.is_admitted() && !self.is_ending() && self.quorum_until.is_some_and(|until| now < until)
    }

    /// Until when the quorum lasts that was held at the last input, if there was one: it holds before this instant.
    #[must_use]
    pub fn quorum_until(&self) -> Option<Time> {
        self.quorum_until.filter(|_| self.is_admitted())
    }

    /// Whether this life is admitted.
    #[must_use]
    pub fn admitted(&self) -> bool {
        self.is_admitted()
    }

    /// V.
    #[must_use]
    pub fn view(&self) -> &BTreeSet<Incarnation> {
        &self.view
    }

    /// E.
    #[must_use]
    pub fn counted(&self) -> &BTreeSet<Incarnation> {
        self.electorate.counted()
    }

    /// C.
    pub fn cut(&self) -> impl Iterator<Item = Incarnation> + '_ {
        self.electorate.cut()
    }

    /// D, in the order learned.
    pub fn dead(&self) -> impl Iterator<Item = Incarnation> + '_ {
        self.electorate.deaths().iter().map(|death| death.who)
    }

    /// Which cold start the electorate stems from.
    #[must_use]
    pub fn found(&self) -> Option<Founding> {
        self.found
    }

    /// The cold-start lock.
    #[must_use]
    pub fn lock(&self) -> Option<Founding> {
        self.cold.lock()
    }

    /// Whether this host is the coordinator of a quorate view at `now`.
    #[must_use]
    pub fn is_coordinator(&self, now: Time) -> bool {
        self.is_quorate(now) && self.view.first() == Some(&self.me) && !self.is_about_to_leave()
    }

    /// Whether this host should hold its sessions to the fence devices open: the coordinator and its deputy.
    #[must_use]
    pub fn keeps_fences_warm(&self) -> bool {
        self.view.iter().take(2).any(|who| *who == self.me)
    }

    /// The configuration in force.
    #[must_use]
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// The votes held for the present view, for the checks of the simulation: whose (`None`: the witness's), and the instant
    /// before which each counts.
    pub fn votes(&self) -> impl Iterator<Item = (Option<Incarnation>, Time)> {
        self.support.held()
    }

    /// Whether this process grants nothing yet at `now`.
    #[must_use]
    pub fn is_silent(&self, now: Time) -> bool {
        self.voter.is_silent(now)
    }

    /// Whether this life or this process is on its way out, or has left.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_some() || self.presence == Presence::Left
    }

    /// What operators want of hosts, as this one knows it.
    #[must_use]
    pub fn wished(&self) -> &Wished {
        &self.wished
    }

    /// The leases owed, for the checks of the simulation.
    pub fn leases(&self) -> impl Iterator<Item = (Incarnation, &[Incarnation], Time)> {
        self.voter.leases(self.now).map(|lease| (lease.holder, lease.view.as_slice(), lease.expires))
    }
}

/// When a voter's silent period begins: with its process.
fn silent_from(now: Time, voter_lease: Duration) -> Time {
    if mutant::on(Mutant::HostSkipsSilence) { Time(now.0.saturating_sub(voter_lease.0)) } else { now }
}

/// A placement as it goes on the wire.
pub(crate) fn place(workload: WorkloadId, on: Incarnation) -> Place {
    Place { workload, on }
}
