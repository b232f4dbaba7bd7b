//! What comes from this host itself rather than from its peers: operators, probes, the journal, the configuration.

use std::sync::Arc;

use palisade_ladder::{Opening, Proof};
use palisade_proto::message::HealthClass;
use palisade_proto::{HostId, Incarnation, Time, WorkloadId};

use super::{Engine, Peer, fences::Authority};
use crate::action::{FromAfar, Request, RequestRefused, StorageHealth, Ticket};
use crate::config::{Cluster, FencingMode, Host};
use crate::record::Event;

/// What an operator asked, and what came of it.
struct Asked {
    by: String,
    order: String,
    outcome: Result<String, RequestRefused>,
    statement: Option<String>,
}

impl Engine {
    /// An operator asks something of this host.
    ///
    /// # Errors
    /// Why it was refused; that is on the record too.
    pub fn handle_request(&mut self, request: Request, now: Time) -> Result<String, RequestRefused> {
        self.begin(now);
        let asked = self.obey(request);
        self.answer(asked)
    }

    /// An operator asks the same from afar, or something that is not taken.
    ///
    /// # Errors
    /// Why it was refused; that is on the record too.
    pub fn handle_from_afar(&mut self, order: FromAfar, now: Time) -> Result<String, RequestRefused> {
        self.begin(now);
        let FromAfar { request, by, order, text } = order;
        let asked = match request {
            Ok(request) => self.obey(request),
            // SAFE-7: what is not authentic, fresh and signed by enough changes nothing, and is on the record.
            Err(why) => Asked { by, order, outcome: Err(RequestRefused::Statement(why)), statement: None },
        };
        self.answer(Asked { statement: text, ..asked })
    }

    fn answer(&mut self, asked: Asked) -> Result<String, RequestRefused> {
        let Asked { by, order: asked, outcome, statement } = asked;
        let told = match &outcome {
            Ok(done) => done.clone(),
            Err(refused) => format!("refused: {refused}"),
        };
        self.record(Event::Operator { by, asked, outcome: told, statement });
        self.settle();
        outcome
    }

    fn obey(&mut self, request: Request) -> Asked {
        let mut stated = None;
        let (by, asked, outcome) = match request {
            Request::Fence { host, reason, by } => {
                let asked = format!("fence {} ({reason})", self.name(host));
                let outcome = self.fence_by_hand(host, &reason, &by);
                (by, asked, outcome)
            }
            Request::Desire { workload, run, reason, by } => {
                let asked =
                    format!("{} {} ({reason})", if run { "start" } else { "stop" }, self.what(workload));
                let outcome = self.desire_by_hand(workload, run, &by);
                (by, asked, outcome)
            }
            Request::Drain { host, drain, reason, by } => {
                let asked =
                    format!("{} {} ({reason})", if drain { "drain" } else { "undrain" }, self.name(host));
                let outcome = self.drain_by_hand(host, drain, &by);
                (by, asked, outcome)
            }
            Request::Arm { disarmed, reason, by } => {
                let what = if disarmed.0 > 0 { format!("disarm for {disarmed}") } else { "arm".to_owned() };
                let outcome = self.arm_by_hand(disarmed, &by);
                (by, format!("{what} ({reason})"), outcome)
            }
            Request::Maintain { host, length, reason, by } => {
                let name = self.name(host);
                let (asked, outcome) = match length {
                    Some(length) => (
                        format!("maintenance of {name} for {length} ({reason})"),
                        self.begin_maintenance(host, length, &by),
                    ),
                    None => (
                        format!("end of the maintenance of {name} ({reason})"),
                        self.end_maintenance(host, &by),
                    ),
                };
                (by, asked, outcome)
            }
            Request::Unfence { host, reason, by } => {
                let asked = format!("unfence {} ({reason})", self.name(host));
                let outcome = self.unfence_by_hand(host);
                (by, asked, outcome)
            }
            Request::Confirm { host, reason, by, statement } => {
                let word = statement.as_ref().ok().and_then(Option::as_ref);
                let signer = word.and_then(|word| word.signer.as_deref());
                let reason =
                    word.map_or(reason.clone(), |word| format!("{reason}; checked: {}", word.checked));
                let by = signer.map_or(by.clone(), |signer| format!("{signer}, who signed, and {by}"));
                let outcome = match &statement {
                    Err(why) => Err(RequestRefused::Statement(why.clone())),
                    // SAFE-7: where the configuration names operators, nobody else's word counts.
                    Ok(_) if signer.is_none() && !self.cluster.operators().is_empty() => {
                        Err(RequestRefused::Unsigned)
                    }
                    Ok(_) => self.confirm_by_hand(host, &reason, &by),
                };
                stated = word.map(|word| word.text.clone());
                (by, format!("confirm that {} is dead ({reason})", self.name(host)), outcome)
            }
        };
        Asked { by, order: asked, outcome, statement: stated }
    }

    fn fence_by_hand(&mut self, host: HostId, reason: &str, by: &str) -> Result<String, RequestRefused> {
        if host == self.me.host {
            return Err(RequestRefused::Itself);
        }
        if !self.is_quorate(self.now) {
            return Err(RequestRefused::NotQuorate);
        }
        if let Some(error) = &self.journal_failing {
            return Err(RequestRefused::JournalFailing(error.clone()));
        }
        if self.cluster.devices_of(host).next().is_none() {
            return Err(RequestRefused::NoDevice);
        }
        if self.cluster.fencing().mode() == FencingMode::Shadow {
            return Err(RequestRefused::Shadow);
        }
        let victims: Vec<Incarnation> =
            self.electorate.of_host(host).filter(|who| self.electorate.is_living(*who)).collect();
        let Some(victim) = victims.first().copied() else { return Err(RequestRefused::NotCounted) };
        if self.is_fencing(victim) {
            return Err(RequestRefused::UnderWay);
        }
        self.start_fence(victim, Authority::Operator, Opening::LookFirst, format!("operator {by}: {reason}"));
        Ok(format!(
            "the fence of {} has begun; `palisade why {}` tells how it goes",
            self.name(host),
            self.name(host)
        ))
    }

    fn unfence_by_hand(&mut self, host: HostId) -> Result<String, RequestRefused> {
        if host == self.me.host {
            return Err(RequestRefused::Itself);
        }
        if !self.is_quorate(self.now) {
            return Err(RequestRefused::NotQuorate);
        }
        if !self.is_coordinator(self.now) {
            let coordinator = self.view.first().map_or("another host", |who| self.name(who.host)).to_owned();
            return Err(RequestRefused::NotCoordinator { coordinator });
        }
        if let Some(error) = &self.journal_failing {
            return Err(RequestRefused::JournalFailing(error.clone()));
        }
        if self.cluster.fencing().mode() == FencingMode::Shadow {
            return Err(RequestRefused::Shadow);
        }
        if self.electorate.of_host(host).any(|who| self.electorate.is_living(who)) {
            return Err(RequestRefused::StillCounted);
        }
        if self.is_in_maintenance(host) {
            return Err(RequestRefused::InMaintenance);
        }
        if self.has_left(host) {
            return Err(RequestRefused::HasLeft);
        }
        self.let_return(host);
        Ok(format!(
            "{} may return: its power and paths are given back, and it is taken in when it speaks",
            self.name(host)
        ))
    }

    fn desire_by_hand(&mut self, id: WorkloadId, run: bool, by: &str) -> Result<String, RequestRefused> {
        if !self.is_quorate(self.now) {
            return Err(RequestRefused::NotQuorate);
        }
        if let Some(error) = &self.journal_failing {
            return Err(RequestRefused::JournalFailing(error.clone()));
        }
        self.desire(id, run, by);
        let told = if run {
            "may run again, and is placed"
        } else {
            "is stopped, and stays so until it is started again"
        };
        Ok(format!("workload {} {told}", self.what(id)))
    }

    /// Operator's word as a proof: "refused while any member hears the host".
    fn confirm_by_hand(&mut self, host: HostId, reason: &str, by: &str) -> Result<String, RequestRefused> {
        if host == self.me.host {
            return Err(RequestRefused::Itself);
        }
        if let Some(error) = &self.journal_failing {
            return Err(RequestRefused::JournalFailing(error.clone()));
        }
        if self.heard().any(|accepted| accepted.heartbeat.from.host == host) {
            return Err(RequestRefused::StillHeard { by: "this host".to_owned() });
        }
        let hearing =
            self.heard().find(|accepted| accepted.heartbeat.heard.iter().any(|who| who.host == host));
        if let Some(accepted) = hearing {
            return Err(RequestRefused::StillHeard {
                by: self.name(accepted.heartbeat.from.host).to_owned(),
            });
        }
        if !self.is_admitted() {
            self.forget_power_of(host);
            self.cold.confirm_dead(host);
            return Ok(format!("noted for this cold start: {} is dead", self.name(host)));
        }
        let victims: Vec<Incarnation> =
            self.electorate.of_host(host).filter(|who| self.electorate.is_living(*who)).collect();
        if victims.is_empty() {
            return Err(RequestRefused::NotCounted);
        }
        // Somebody may be at the open machine: nothing of ours switches it on.
        self.forget_power_of(host);
        for victim in victims {
            self.bury(Proof::operator(victim, by.to_owned(), reason.to_owned(), self.now));
        }
        Ok(format!("{} is taken for dead by your word", self.name(host)))
    }

    /// A record with this ticket is on the disk.
    pub fn handle_durable(&mut self, ticket: Ticket, now: Time) {
        self.begin(now);
        if !self.fence_durable(ticket) {
            self.start_durable(ticket);
        }
        self.settle();
    }

    /// The journal's state: `None`, it takes records; else why not.
    pub fn handle_journal(&mut self, failing: Option<String>, now: Time) {
        self.begin(now);
        let what = failing.as_ref().map(|error| {
            format!("the journal cannot be written: {error}; no automatic fence and no start until it can")
        });
        self.alarms.set(&mut self.actions, "journal", what);
        self.journal_failing = failing;
        self.settle();
    }

    /// A storage was probed; `storage` is its position in the configuration.
    pub fn handle_storage(&mut self, storage: usize, health: StorageHealth, now: Time) {
        self.begin(now);
        let name = self.cluster.storages().get(storage).map(|storage| storage.name().to_owned());
        if let (Some(name), Some(slot)) = (name, self.storages.get_mut(storage)) {
            if *slot != health {
                self.dirty = true;
            }
            slot.clone_from(&health);
            let what = match health {
                StorageHealth::Healthy | StorageHealth::Unknown => None,
                StorageHealth::Failed(why) => {
                    Some(format!("storage {name} does not serve on {}: {why}", self.name(self.me.host)))
                }
            };
            self.alarms.set(&mut self.actions, &format!("storage {storage}"), what);
        }
        self.settle();
    }

    /// This host's own verdict on itself, and its load in 1/1000 of its capacity.
    pub fn handle_health(&mut self, class: HealthClass, load: u16, now: Time) {
        self.begin(now);
        self.dirty |= self.health != class;
        self.health = class;
        self.load = load;
        self.settle();
    }

    /// Why this host must not be armed; empty: it may be (SAFE-9: "an enabled unit or an autostart flag refuses to arm").
    pub fn handle_unfit(&mut self, reasons: Vec<String>, now: Time) {
        self.begin(now);
        if reasons != self.unfit {
            let what = (!reasons.is_empty())
                .then(|| format!("{} is not armed: {}", self.name(self.me.host), reasons.join("; ")));
            self.alarms.set(&mut self.actions, "unfit", what);
            self.unfit = reasons;
            self.dirty = true;
        }
        self.settle();
    }

    /// A new configuration was read and checked.
    ///
    /// # Errors
    /// Why it cannot be taken while this life runs; the old one stays.
    pub fn handle_cluster(&mut self, cluster: Arc<Cluster>, now: Time) -> Result<(), String> {
        self.begin(now);
        let taken = self.take_cluster(cluster);
        let outcome = match &taken {
            Ok(()) => "a new one was read and is in force".to_owned(),
            Err(why) => format!("a new one was refused, the old one stays: {why}"),
        };
        self.record(Event::Configuration { outcome });
        self.settle();
        taken
    }

    fn take_cluster(&mut self, new: Arc<Cluster>) -> Result<(), String> {
        let old = Arc::clone(&self.cluster);
        if new.name() != old.name() {
            return Err(format!("the cluster's name changed from {} to {}", old.name(), new.name()));
        }
        if new.timing().lease() != old.timing().lease() || new.timing().drift() != old.timing().drift() {
            return Err("lease and drift change only with the whole cluster stopped".to_owned());
        }
        if new.on_quorum_loss() != old.on_quorum_loss() {
            // An armed watchdog would go unfed, or promise a bound that nobody keeps.
            return Err("on_quorum_loss changes only with this agent stopped and started".to_owned());
        }
        match new.host(self.me.host) {
            Some(me) if me.machine().bytes() == self.machine => {}
            Some(_) | None => {
                return Err("this host is no longer in it, or under another machine's identity".to_owned());
            }
        }
        for gone in old.hosts().iter().filter(|host| new.host(host.id()).is_none()) {
            if self.electorate.of_host(gone.id()).any(|who| self.electorate.is_living(who)) {
                return Err(format!(
                    "host {} was removed, but it is counted: stop its agent, or fence it, first",
                    gone.name()
                ));
            }
        }
        for changed in old
            .hosts()
            .iter()
            .filter(|host| new.host(host.id()).is_some_and(|other| other.machine() != host.machine()))
        {
            if self.electorate.of_host(changed.id()).any(|who| self.electorate.is_living(who)) {
                return Err(format!(
                    "host {} got another machine identity while it is counted",
                    changed.name()
                ));
            }
        }
        if let Some(id) = self.here.keys().find(|id| new.workload(**id).is_none()) {
            return Err(format!("workload {} was removed, but it runs here: stop it first", self.what(*id)));
        }
        let changed = |id: &&palisade_proto::WorkloadId| {
            new.workload(**id).map(crate::config::Workload::kind)
                != old.workload(**id).map(crate::config::Workload::kind)
        };
        if let Some(id) = self.here.keys().find(changed) {
            // The old one would run on unseen beside the new (SAFE-1).
            return Err(format!(
                "workload {} became another thing while it runs here: stop it first",
                self.what(*id)
            ));
        }
        if self.presence == palisade_proto::message::Presence::Joining {
            // SAFE-9: what is new has not been looked at; what is gone will not be.
            self.unseen = new
                .workloads()
                .iter()
                .map(crate::config::Workload::id)
                .filter(|id| self.unseen.contains(*id) || old.workload(*id).is_none())
                .collect();
        }
        self.forget_devices();
        let fresh_from = self.next_seq;
        for host in new.hosts().iter().map(Host::id).filter(|host| *host != self.me.host) {
            self.peers.entry(host).or_insert_with(|| Peer { fresh_from, ..Peer::default() });
        }
        self.peers.retain(|host, _| new.host(*host).is_some());
        self.storages = new
            .storages()
            .iter()
            .map(|storage| {
                let before = old.storages().iter().position(|other| other == storage);
                before.and_then(|at| self.storages.get(at).cloned()).unwrap_or(StorageHealth::Unknown)
            })
            .collect();
        self.forget_probes(&new);
        self.retell_wishes();
        self.digest = new.digest();
        self.cluster = new;
        self.dirty = true;
        Ok(())
    }
}
