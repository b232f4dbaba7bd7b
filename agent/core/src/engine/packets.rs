//! Which packets count, and what follows from one that does: deaths, gossip, grants.

use std::sync::Arc;

use palisade_ladder::{Proof, ProofKind};
use palisade_proto::message::{Echo, Grant, Presence, Verdict};
use palisade_proto::mutant::{self, Mutant};
use palisade_proto::{Answer, Heartbeat, HostId, Incarnation, Time};

use super::{Accepted, Engine};
use crate::record::Event;

impl Engine {
    /// An authentic heartbeat arrived. `now` was read after the packet left the socket.
    pub fn handle_heartbeat(&mut self, heartbeat: Arc<Heartbeat>, now: Time) {
        self.begin(now);
        if !self.exited {
            self.take_heartbeat(heartbeat);
        }
        self.settle();
    }

    /// An authentic answer of the witness arrived.
    pub fn handle_answer(&mut self, answer: &Answer, now: Time) {
        self.begin(now);
        if answer.to == self.me && !self.exited {
            self.take_answer(answer);
        }
        self.settle();
    }

    fn take_heartbeat(&mut self, heartbeat: Arc<Heartbeat>) {
        let from = heartbeat.from;
        let Some(host) = self.cluster.host(from.host) else { return };
        // A peer is the machine that the configuration pins; any other under its name is an alarm, and nothing follows.
        if heartbeat.machine != host.machine().bytes() {
            let what =
                format!("another machine speaks under the name of {}: check for a cloned host", host.name());
            self.clones.insert(from.host, self.now);
            return self.alarms.raise_for(&mut self.actions, format!("clone {}", from.host), what);
        }
        if from.host == self.me.host {
            return;
        }
        self.note_echo(Echo { of: from, seq: heartbeat.seq });
        let known = self.known(from.host);
        let reborn = known != Some(from);
        if reborn {
            if !self.is_fresh(&heartbeat) && !mutant::on(Mutant::DeadBootsSpeak) {
                if mutant::on(Mutant::LeftByHost) && heartbeat.presence == Presence::Left {
                    self.bury_host(from.host);
                }
                return;
            }
        } else if self
            .accepted(from.host)
            .is_some_and(|last| last.heartbeat.from == from && heartbeat.seq <= last.heartbeat.seq)
        {
            // "Drop the rest whole (an old ask must not replace a newer lease)."
            if !mutant::on(Mutant::OldPacketsCount) {
                return;
            }
        }
        // Each packet that answers our last one is fresh; it proves what another life of that host in E is.
        let fresh = reborn || self.is_fresh(&heartbeat) || mutant::on(Mutant::DeadBootsSpeak);
        self.accept(Arc::clone(&heartbeat), reborn, fresh);
        self.refresh_view();
        self.grant(&heartbeat);
        self.take_grant(&heartbeat);
        self.follow_coordinator(&heartbeat);
        self.follow_walls(&heartbeat);
    }

    /// What goes back as the echo: the highest seq received. A packet that was not accepted needs an echo only so that a new
    /// life can be; while the known life speaks, a replayed packet of a dead one takes neither its echo nor its grant away
    /// (SAFE-7).
    fn note_echo(&mut self, seen: Echo) {
        let (now, speaks_within) = (self.now, self.timing().heartbeat().times(2));
        let Some(peer) = self.peers.get_mut(&seen.of.host) else { return };
        let speaks = peer.accepted.as_ref().is_some_and(|last| {
            last.heartbeat.from != seen.of
                && last.heartbeat.presence != Presence::Left
                && now < last.at.after(speaks_within)
        });
        let older = peer.last_seen.is_some_and(|last| last.of == seen.of && last.seq >= seen.seq);
        if !speaks && !older {
            peer.last_seen = Some(seen);
        }
    }

    /// PROTOCOL, "Which packets count": "For host j, h knows one incarnation (from the last accepted packet, from E, or from
    /// its lock)."
    fn known(&self, host: HostId) -> Option<Incarnation> {
        let accepted = self.accepted(host).map(|accepted| accepted.heartbeat.from);
        let living = || self.electorate.of_host(host).find(|who| self.electorate.is_living(*who));
        let counted = || self.electorate.of_host(host).next();
        let locked = || self.cold.lock().map(|lock| lock.decider).filter(|decider| decider.host == host);
        accepted.or_else(living).or_else(counted).or_else(locked)
    }

    /// "another incarnation, or none known: accept iff it echoes a seq that this process sent after it last accepted a packet
    /// from j, put j's incarnation into E, or started. (Old packets of a dead boot cannot do this.)"
    fn is_fresh(&self, heartbeat: &Heartbeat) -> bool {
        let from = self.peers.get(&heartbeat.from.host).map_or(u64::MAX, |peer| peer.fresh_from);
        heartbeat
            .echo_of(self.me.host)
            .is_some_and(|echo| echo.of == self.me && echo.seq >= from && echo.seq < self.next_seq)
    }

    fn accept(&mut self, heartbeat: Arc<Heartbeat>, reborn: bool, fresh: bool) {
        let from = heartbeat.from;
        let (now, next_seq, suspect) = (self.now, self.next_seq, self.timing().suspect());
        let Some(peer) = self.peers.get_mut(&from.host) else { return };
        let steady_since = match &peer.accepted {
            Some(last) if last.heartbeat.from == from && now < last.at.after(suspect) => last.steady_since,
            Some(_) | None => now,
        };
        let same_life = peer.accepted.as_ref().is_some_and(|last| last.heartbeat.from == from);
        if !same_life {
            peer.away_since = None;
            peer.armed_since = None;
            peer.granted = None;
        }
        peer.fresh_from = next_seq;
        match heartbeat.presence {
            Presence::Away => peer.away_since = peer.away_since.or(Some(now)),
            Presence::Admitted if heartbeat.watchdog_bound.0 > 0 => {
                peer.armed_since = peer.armed_since.or(Some(now))
            }
            Presence::Admitted => peer.armed_since = None,
            // PROTOCOL, "Leaving and restarting", has `away` for members alone. An un-admitted host that hears nobody is about
            // to restart: it is held for as long (I4).
            Presence::Joining => {
                peer.away_since = peer.away_since.or(Some(now)).filter(|_| heartbeat.heard.is_empty());
            }
            Presence::Left => {}
        }
        peer.accepted = Some(Accepted { heartbeat: Arc::clone(&heartbeat), at: now, steady_since });
        self.cold.heard(from.host);

        if reborn {
            self.cold.other_incarnation(from);
        }
        // "If accepted and h is admitted, every other incarnation of j in E is proven dead".
        if fresh && (self.is_admitted() || mutant::on(Mutant::NewcomerBuries)) {
            let others: Vec<Incarnation> =
                self.electorate.of_host(from.host).filter(|who| *who != from).collect();
            for other in others {
                if let Some(proof) = Proof::reborn(other, from, now) {
                    self.bury(proof);
                }
            }
        }
        if mutant::on(Mutant::HoldEndsWhenHeard)
            && heartbeat.presence != Presence::Away
            && let Some(peer) = self.peers.get_mut(&from.host)
        {
            peer.away_since = None;
        }
        match heartbeat.presence {
            Presence::Left if self.is_admitted() && self.electorate.counts(from) => {
                self.bury(Proof::left(from, now))
            }
            // "A host drops its lease for x when x is in D, or when it accepts x's `away`."
            Presence::Away => self.voter.drop_lease(from),
            Presence::Left | Presence::Joining | Presence::Admitted => {}
        }
        self.merge_desired(&heartbeat);
        self.merge_wishes(&heartbeat);
        if self.is_admitted() {
            self.merge_electorate(&heartbeat);
        } else {
            self.learn_electorate(&heartbeat);
        }
        // "... or when an accepted heartbeat names h in `awaits`": answer at once.
        if heartbeat.awaits.contains(self.me) {
            self.dirty = true;
        }
    }

    /// "From an admitted p in E with equal found, h takes D(h) |= D(p) ∩ E(h) and E(h) |= E(p) \ D(p) \ D(h)."
    fn merge_electorate(&mut self, heartbeat: &Heartbeat) {
        let admitted = matches!(heartbeat.presence, Presence::Admitted | Presence::Away);
        if !admitted || !self.electorate.counts(heartbeat.from) || heartbeat.found != self.found {
            return;
        }
        for dead in heartbeat.dead.iter().filter(|who| self.electorate.counts(*who)).collect::<Vec<_>>() {
            if dead == self.me {
                return self.end_this_life(&format!(
                    "{} holds a proof that this life is dead",
                    self.name(heartbeat.from.host)
                ));
            }
            self.bury(Proof::gossiped(dead, heartbeat.from, heartbeat.fenced.contains(dead), self.now));
        }
        // SAFE-8: who came back was a death by its own word; that a fence had cut its power may be learned only now.
        for dead in heartbeat.fenced.iter() {
            if self.electorate.was_fenced(dead) {
                self.spend_budget(dead);
                self.dirty = true;
            }
        }
        let counted = heartbeat.electorate.iter();
        let new: Vec<Incarnation> =
            counted.filter(|who| !heartbeat.dead.contains(*who) && !self.electorate.is_dead(*who)).collect();
        self.count_all(new);
        self.learn_cuts(heartbeat);
    }

    /// Puts incarnations into E.
    pub(super) fn count_all(&mut self, new: Vec<Incarnation>) {
        let mut joined = Vec::new();
        for who in new {
            if self.electorate.count(who) {
                joined.push(who);
                self.is_up(who.host);
                self.joining.insert(who, self.now);
                if let Some(peer) = self.peers.get_mut(&who.host) {
                    peer.fresh_from = self.next_seq;
                }
            }
        }
        if joined.is_empty() {
            return;
        }
        self.dirty = true;
        if self.is_admitted() {
            let joined = self.whos(&joined);
            self.record(Event::Electorate {
                joined,
                removed: Vec::new(),
                count: self.electorate.counted().len(),
            });
        }
    }

    /// Takes a proof by value: the dead leave the view at once and E one voter's lease later.
    pub(super) fn bury(&mut self, proof: Proof) {
        let victim = proof.victim();
        if !self.electorate.counts(victim) || self.electorate.is_dead(victim) {
            return;
        }
        let event = Event::Dead {
            victim: self.who(victim),
            proof: proof.kind().to_string(),
            evidence: self.in_words(&proof),
        };
        if proof.spent_budget() {
            self.spend_budget(victim);
        }
        // SAFE-8: an off that was sent before this fence began, or answered by another proof, may be what killed it.
        let fenced = self.has_spent_budget(victim);
        let hearsay = proof.kind() == ProofKind::Gossiped && !proof.spent_budget();
        if self.electorate.bury(proof, fenced, self.now) {
            self.voter.drop_lease(victim);
            self.record(event);
            self.dirty = true;
            self.note_quarantine(victim.host);
            // An operator may have said so elsewhere, and be at the open machine.
            if hearsay && !self.hears_another_life(victim) {
                self.power_owed.remove(&victim.host);
            }
        }
    }

    /// Buries every life of a host: what no rule does (see [`Mutant::LeftByHost`]).
    fn bury_host(&mut self, host: HostId) {
        let all: Vec<Incarnation> = self.electorate.of_host(host).collect();
        all.into_iter().for_each(|who| self.bury(Proof::left(who, self.now)));
    }

    /// Removes from E whose time has come.
    pub(super) fn shrink(&mut self) {
        let voter_lease = self.timing().voter_lease();
        let gone = self.electorate.forget(voter_lease, self.now);
        self.outside_since.retain(|who, _| self.electorate.counts(*who));
        for who in &gone {
            // What was said of a life that is over.
            for about in ["fence", "isolate", "half"] {
                self.alarms.clear(&mut self.actions, &format!("{about} {}", who.host));
            }
        }
        if !gone.is_empty() {
            let removed = self.whos(&gone);
            self.record(Event::Electorate {
                joined: Vec::new(),
                removed,
                count: self.electorate.counted().len(),
            });
            self.dirty = true;
        }
        if let Some(at) = self.electorate.next_forget(voter_lease) {
            self.wake_at(at);
        }
    }

    /// The grant rule for an accepted ask: conditions 1 and 2 are the voter's, 3 is a host's.
    fn grant(&mut self, ask: &Heartbeat) {
        // "3. Ls and drift equal v's; if v is a host: v is admitted, same found, h in E(v)\D(v), h in V(v), v in V."
        let stands = self.is_admitted() && self.view.contains(&ask.from) && ask.view.contains(self.me);
        let allowed = ask.presence == Presence::Admitted
            && (stands || (self.presence == Presence::Joining && mutant::on(Mutant::UnadmittedVote)))
            && !self.is_ending()
            && ask.lease == self.timing().lease()
            && ask.drift == self.timing().drift()
            && ask.found == self.found
            && self.electorate.is_living(ask.from);
        if !allowed {
            return;
        }
        let lease = self.voter.lease_of(ask.from, self.now);
        let for_another_view = lease.is_none_or(|lease| lease.view.as_slice() != ask.view.as_slice());
        if self.voter.grant(ask.from, ask.view.as_slice(), self.now).is_ok()
            && let Some(peer) = self.peers.get_mut(&ask.from.host)
        {
            peer.granted = Some(Grant { to: ask.from, seq: ask.seq });
            // Who asks for another view has no quorum until it is answered.
            self.dirty |= for_another_view;
        }
    }

    /// The view changed: what was refused because of the old one is looked at again. This is as if the last accepted ask of
    /// each member had arrived only now; it is still the newest of its sender, so it replaces no newer lease.
    pub(super) fn grant_again(&mut self) {
        let asks: Vec<Arc<Heartbeat>> = self
            .peers
            .values()
            .filter_map(|peer| {
                let last = peer.accepted.as_ref()?;
                let answered =
                    peer.granted == Some(Grant { to: last.heartbeat.from, seq: last.heartbeat.seq });
                (!answered && self.view.contains(&last.heartbeat.from)).then(|| Arc::clone(&last.heartbeat))
            })
            .collect();
        asks.iter().for_each(|ask| self.grant(ask));
    }

    fn take_grant(&mut self, heartbeat: &Heartbeat) {
        if let Some(seq) = heartbeat.grant_to(self.me) {
            self.support.granted(heartbeat.from, seq, self.now);
        }
    }

    fn take_answer(&mut self, answer: &Answer) {
        // Only an answer to an ask of this process says that the witness is there now.
        let Some(asked) = self.pending_asks.remove(&answer.ask) else { return };
        self.witness_answered = self.witness_answered.max(Some(asked));
        let awaited = self.witness_awaited.take();
        if awaited.is_some_and(|since| self.now >= since.after(self.timing().suspect())) {
            self.note_witness_again();
        }
        match answer.verdict {
            Verdict::Granted => {
                self.support.witness_granted(answer.ask);
                self.cold.consented(answer.ask, self.now);
            }
            Verdict::Noted
            | Verdict::Silent
            | Verdict::IncumbentsOnly
            | Verdict::Conflict
            | Verdict::ElectorateLives
            | Verdict::OtherTiming
            | Verdict::Full => {}
        }
        if self.witness_verdict != Some(answer.verdict) && answer.verdict != Verdict::Noted {
            self.witness_verdict = Some(answer.verdict);
            let verdict = super::report::verdict_in_words(answer.verdict).to_owned();
            self.record(Event::Witness { verdict });
        }
    }
}
