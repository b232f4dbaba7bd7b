//! View and quorum: with whom this host stands, whether it may act, and what it owes when it may not.

use std::collections::BTreeSet;

use palisade_ladder::Proof;
use palisade_proto::message::{HealthClass, Presence};
use palisade_proto::mutant::{self, Mutant};
use palisade_proto::{Heartbeat, Incarnation, MAX_HOSTS, Time};

use super::Engine;
use crate::action::Action;
use crate::config::OnQuorumLoss;
use crate::record::{Event, Lost};
use crate::view::{Candidate, best_clique, bits};

/// The rest before another try to arm a watchdog that could not be armed.
const REARM_REST: palisade_proto::Duration = palisade_proto::Duration::secs(1);
/// Feeds per watchdog time-out (SAFE-10: feed at most every T/4).
const FEEDS_PER_TIMEOUT: u64 = 4;

impl Engine {
    /// PROTOCOL, "Views": the best clique of links among admitted p in E\D with h in E(p).
    pub(super) fn refresh_view(&mut self) {
        let candidates = if self.is_admitted() { self.candidates() } else { Vec::new() };
        if candidates == self.candidates {
            return;
        }
        let view = match candidates.is_empty() {
            true => BTreeSet::new(),
            false => best_clique(self.me, &candidates).into_iter().collect(),
        };
        self.candidates = candidates;
        if view == self.view {
            return;
        }
        let grows = self.view.is_subset(&view);
        self.support.view_changed(grows);
        if !grows && self.quorum_until.is_some() {
            // The quorum was one for the view that is no more: nothing may act on it in between.
            self.end_quorum(self.now);
        }
        let gone: Vec<Incarnation> = self.view.difference(&view).copied().collect();
        let lost = gone
            .iter()
            .map(|who| Lost {
                who: self.who(*who),
                silent_ms: self
                    .accepted(who.host)
                    .filter(|last| last.heartbeat.from == *who)
                    .map_or(0, |last| self.now.since(last.at).0),
            })
            .collect();
        for who in &view {
            // "The coordinator does not fence x until restart_hold [...] or until x is back in V": then the hold is over.
            if let Some(peer) = self.peers.get_mut(&who.host) {
                peer.away_since = None;
            }
        }
        self.outside_since.retain(|who, _| !view.contains(who));
        for who in gone {
            self.outside_since.insert(who, self.now);
        }
        self.view = view;
        self.view_since = self.now;
        self.next_ask = self.next_ask.min(self.now.after(super::MIN_GAP));
        self.dirty = true;
        self.grant_again();
        if !self.view.is_empty() {
            let view = self.whos(&self.view);
            self.record(Event::View { view, lost });
        }
    }

    /// This host and everybody who may stand in a view with it.
    fn candidates(&mut self) -> Vec<Candidate> {
        let (me, suspect) = (self.me, self.timing().suspect());
        let mut next_silence = None::<Time>;
        let mut members: Vec<&Heartbeat> = Vec::with_capacity(self.peers.len());
        for accepted in self.heard() {
            let (heartbeat, silence) = (&*accepted.heartbeat, accepted.at.after(suspect));
            next_silence = Some(next_silence.map_or(silence, |earlier| earlier.min(silence)));
            if heartbeat.presence == Presence::Admitted
                && self.electorate.is_living(heartbeat.from)
                && heartbeat.electorate.contains(me)
            {
                members.push(heartbeat);
            }
        }
        // A life that was cut off ends when it hears so. Until then it stands with nobody; so does one that was cut under another
        // configuration, where the others are a quorum without it: then it is cut anew, and told so.
        let (cut, n) = (&self.electorate, self.electorate.counted().len());
        let whole = |heartbeat: &&Heartbeat| !cut.is_cut(heartbeat.from);
        let others_suffice = (members.iter().filter(|heartbeat| whole(heartbeat)).count() + 1) * 2 > n;
        members.retain(|heartbeat| {
            !cut.is_cut_under(heartbeat.from, self.digest) && (whole(heartbeat) || !others_suffice)
        });
        let health = members.iter().map(|heartbeat| (heartbeat.from, heartbeat.health));
        let links = links(me, &members);
        let candidates = health
            .chain([(me, self.own_health())])
            .map(|(who, health)| Candidate {
                who,
                health: weight(health),
                links: links.get(who.host.index()).copied().unwrap_or(0),
            })
            .collect();
        if let Some(at) = next_silence {
            self.wake_at(at);
        }
        candidates
    }

    /// Recounts the quorum after whatever changed.
    pub(super) fn refresh_standing(&mut self) {
        let tally = self.support.tally(self.electorate.counted(), self.now);
        let until = if self.is_admitted() { tally.until } else { None };
        match (self.quorum_until.is_some(), until.is_some()) {
            (false, true) => {
                self.quorate_since.get_or_insert(self.now);
                self.lost_since = None;
            }
            (true, false) => self.end_quorum(self.now),
            (true, true) | (false, false) => {}
        }
        self.quorum_until = until;
        if let Some(until) = until {
            self.self_fenced = false;
            self.wake_at(until);
        }
        let quorate = until.is_some();
        let other_votes = self.told_votes.1 != tally.witness || !self.told_votes.0.iter().eq(&tally.votes);
        if other_votes {
            self.told_votes = (tally.votes.iter().copied().collect(), tally.witness);
        }
        if quorate != self.told_quorate || (!quorate && self.is_admitted() && other_votes) {
            self.dirty |= quorate != self.told_quorate;
            self.told_quorate = quorate;
            let votes = self.whos(&tally.votes);
            let needed = format!("{} of {} votes", tally.votes.len(), tally.counted);
            self.record(Event::Standing { quorate, votes, witness: tally.witness, needed });
        }
        self.prove_by_watchdog();
    }

    /// The quorum ended at `at`.
    pub(super) fn end_quorum(&mut self, at: Time) {
        self.quorum_until = None;
        self.lost_since = Some(at);
        if !mutant::on(Mutant::WatchdogGapForgotten) {
            self.quorate_since = None;
        }
    }

    /// SAFE-3: a host that is not quorate kills its workloads within `grace`.
    pub(super) fn guard_standing(&mut self) {
        let Some(lost) = self.lost_since else { return };
        if self.cluster.on_quorum_loss() == OnQuorumLoss::Keep || self.self_fenced || !self.is_admitted() {
            return;
        }
        if mutant::on(Mutant::LoserRunsOn) {
            return;
        }
        let end = lost.after(self.timing().grace());
        if self.now < end {
            return self.wake_at(end);
        }
        self.self_fenced = true;
        let why = format!("no quorum for {}", self.now.since(lost));
        if self.kill_everything() {
            self.record(Event::SelfFenced { why });
        }
    }

    /// "The watchdog is fed only right after a check says quorate."
    pub(super) fn feed_watchdog(&mut self) {
        let configured =
            self.cluster.watchdog().filter(|_| self.cluster.on_quorum_loss() == OnQuorumLoss::Stop);
        let Some(timeout) = configured.map(crate::config::Watchdog::timeout) else {
            return self.retire_watchdog();
        };
        if self.is_quorate(self.now) {
            self.arm_watchdog();
        }
        let due = self.now >= self.next_feed;
        let may_feed = self.is_quorate(self.now) || mutant::on(Mutant::WatchdogFedUnasked);
        if self.watchdog_armed && due && may_feed {
            self.actions.push_back(Action::FeedWatchdog);
            self.next_feed = self.now.after(palisade_proto::Duration(timeout.0 / FEEDS_PER_TIMEOUT));
        }
        self.wake_at(self.next_feed);
    }

    /// A watchdog that this life had armed and that the configuration no longer wants: unfed it would reset a healthy host. It is
    /// stopped right after a check says quorate, once every host in the view has had the time to hear that there is no bound.
    fn retire_watchdog(&mut self) {
        if !self.watchdog_armed {
            return;
        }
        if self.watchdog_wanted {
            self.watchdog_wanted = false;
            self.next_arm = self.now.after(self.timing().suspect());
        }
        if self.now < self.next_arm {
            self.wake_at(self.next_arm);
        } else if self.is_quorate(self.now) {
            self.actions.push_back(Action::DisarmWatchdog);
            self.watchdog_armed = false;
        }
    }

    /// "A process opens the device only right after a check says quorate, or at admission".
    pub(super) fn arm_watchdog(&mut self) {
        if self.cluster.watchdog().is_some()
            && self.cluster.on_quorum_loss() == OnQuorumLoss::Stop
            && !self.watchdog_wanted
            && self.now >= self.next_arm
        {
            self.watchdog_wanted = true;
            self.actions.push_back(Action::ArmWatchdog);
        }
    }

    /// The shell armed the watchdog, adopted an armed one, or could not.
    pub fn handle_watchdog(&mut self, armed: Result<(), String>, now: palisade_proto::Time) {
        self.begin(now);
        match armed {
            Ok(()) => {
                self.watchdog_armed = true;
                self.watchdog_wanted = true;
                self.next_feed = self.now;
                self.alarms.clear(&mut self.actions, "watchdog");
            }
            Err(error) => {
                self.watchdog_armed = false;
                self.watchdog_wanted = false;
                self.next_arm = self.now.after(REARM_REST);
                self.alarms.raise_for(
                    &mut self.actions,
                    "watchdog".to_owned(),
                    format!("the hardware watchdog is not armed: {error}"),
                );
            }
        }
        self.settle();
    }

    /// "watchdog: h has been quorate **without any gap** with x not in V for x's bound, counted from the later of that and the
    /// first time h heard x say it is admitted."
    fn prove_by_watchdog(&mut self) {
        let Some(since) = self.quorate_since.filter(|_| self.is_quorate(self.now)) else { return };
        let absent: Vec<Incarnation> =
            self.electorate.living().filter(|who| *who != self.me && !self.view.contains(who)).collect();
        for who in absent {
            let said =
                self.heartbeat_of(who).map(|heartbeat| heartbeat.watchdog_bound).filter(|bound| bound.0 > 0);
            let Some(bound) = said.or_else(|| self.unsaid_bound()) else { continue };
            // Silence it must be: a host that still speaks has a watchdog that did not fire.
            if self.hears(who).is_some() {
                continue;
            }
            let armed = self.peers.get(&who.host).and_then(|peer| peer.armed_since);
            let Some(armed) = armed.or_else(|| mutant::on(Mutant::WatchdogNeverArmed).then_some(since))
            else {
                continue;
            };
            let outside = self.outside_since.get(&who).copied();
            let Some(outside) = outside.or_else(|| mutant::on(Mutant::WatchdogNeverArmed).then_some(since))
            else {
                continue;
            };
            let spoke = self.accepted(who.host).map_or(armed, |last| last.at);
            let from = since.max(outside).max(armed).max(spoke);
            let bound = match self.cluster.watchdog() {
                Some(dog) if mutant::on(Mutant::WatchdogBoundOnce) => dog.timeout(),
                Some(_) | None => bound,
            };
            match Proof::watchdog_expired(who, self.now.since(from), bound, self.now) {
                Some(proof) => self.bury(proof),
                None => self.wake_at(from.after(bound)),
            }
        }
    }

    /// What no host has said: that it may be taken to have armed a watchdog like ours.
    fn unsaid_bound(&self) -> Option<palisade_proto::Duration> {
        let ours = self.cluster.watchdog().filter(|_| mutant::on(Mutant::WatchdogNeverArmed))?;
        Some(ours.bound(self.timing().drift()))
    }

    /// PROTOCOL, "Witness": "the half that ranks worse as last known (health, then running workloads, then lowest index)
    /// waits 2*hb before it first asks W for a view. No wait if every member not in V is in D or said `away`."
    pub(super) fn may_ask_witness(&mut self) -> bool {
        let counted = self.electorate.counted().len();
        let can_vote = self.view.iter().filter(|who| self.can_vote(**who)).count();
        // "h asks W iff n is even and exactly n/2 members of V can vote (admitted, not silent)."
        if self.cluster.witness().is_none() || !counted.is_multiple_of(2) || can_vote != counted / 2 {
            return false;
        }
        let others: Vec<Incarnation> =
            self.electorate.living().filter(|who| !self.view.contains(who)).collect();
        let away =
            |who: &Incarnation| self.peers.get(&who.host).is_some_and(|peer| peer.away_since.is_some());
        if others.iter().all(away) || self.ranks_above(&others) {
            return true;
        }
        let from = self.view_since.after(self.timing().heartbeat().times(2));
        if self.now < from {
            self.wake_at(from);
            return false;
        }
        true
    }

    fn can_vote(&self, who: Incarnation) -> bool {
        if who == self.me {
            !self.voter.is_silent(self.now) || mutant::on(Mutant::SilentCountAsVoters)
        } else {
            self.heartbeat_of(who).is_some_and(|heartbeat| {
                heartbeat.presence == Presence::Admitted
                    && (!heartbeat.silent || mutant::on(Mutant::SilentCountAsVoters))
            })
        }
    }

    fn ranks_above(&self, others: &[Incarnation]) -> bool {
        let rank = |members: &mut dyn Iterator<Item = Incarnation>| {
            let (mut health, mut running, mut lowest) = (0, 0, u8::MAX);
            for who in members {
                lowest = lowest.min(who.host.number());
                if who == self.me {
                    health += weight(self.own_health());
                    running += self.busy().len();
                } else if let Some(heartbeat) = self.heartbeat_of(who) {
                    health += weight(heartbeat.health);
                    running += heartbeat.busy.len();
                }
            }
            (health, usize::MAX - running, lowest)
        };
        rank(&mut self.view.iter().copied()) < rank(&mut others.iter().copied())
    }
}

/// How much a health class weighs against a member.
pub(super) fn weight(class: HealthClass) -> u32 {
    match class {
        HealthClass::Healthy => 0,
        HealthClass::Degraded => 1,
        HealthClass::Failed => 2,
    }
}

/// With whom each host is linked, by its id: one bit a host. PROTOCOL, "Views": "link(a,b) iff a hears b and b says it hears a";
/// `me` hears all the others.
fn links(me: Incarnation, others: &[&Heartbeat]) -> [u32; MAX_HOSTS] {
    let bit = |who: Incarnation| 1u32 << who.host.number();
    let mut lives = [None; MAX_HOSTS];
    for who in others.iter().map(|heartbeat| heartbeat.from).chain([me]) {
        if let Some(life) = lives.get_mut(who.host.index()) {
            *life = Some(who);
        }
    }
    let is_known = |who: &Incarnation| lives.get(who.host.index()).is_some_and(|life| *life == Some(*who));
    let mut hears = [0; MAX_HOSTS];
    let mut note = |who: Incarnation, heard: u32| {
        if let Some(mask) = hears.get_mut(who.host.index()) {
            *mask = heard;
        }
    };
    note(me, others.iter().fold(0, |mask, heartbeat| mask | bit(heartbeat.from)));
    for heartbeat in others {
        note(heartbeat.from, heartbeat.heard.iter().filter(is_known).fold(0, |mask, who| mask | bit(who)));
    }
    let mut links = [0; MAX_HOSTS];
    for (index, link) in links.iter_mut().enumerate() {
        let mutual = |other: &u32| hears.get(*other as usize).is_some_and(|theirs| theirs >> index & 1 == 1);
        let heard = hears.get(index).copied().unwrap_or(0);
        *link = bits(heard).filter(mutual).fold(0, |mask, other| mask | 1 << other);
    }
    links
}
