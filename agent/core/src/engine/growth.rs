//! How the electorate grows: one new incarnation at a time, admitted only once everybody counts it.

use palisade_proto::message::{HealthClass, MAX_NAMES, Presence};
use palisade_proto::mutant::{self, Mutant};
use palisade_proto::{Heartbeat, Incarnation};

use super::Engine;
use crate::record::Event;

/// E may not outgrow what a heartbeat can name, dead members included.
const MAX_COUNTED: usize = MAX_NAMES * 3 / 4;

impl Engine {
    /// Growing 1 and 3, and the time limit of 3.
    pub(super) fn run_growth(&mut self) {
        let (now, join_timeout) = (self.now, self.timing().join_timeout());
        let electorate = &self.electorate;
        self.joining.retain(|who, _| electorate.counts(*who));
        if mutant::on(Mutant::AdmissionTakenBack) && self.is_admitted() {
            let late = self.joining.iter().filter(|(_, since)| now >= since.after(join_timeout));
            let late: Vec<_> = late.map(|(who, _)| *who).filter(|who| !self.view.contains(who)).collect();
            late.into_iter().for_each(|who| self.electorate.uncount(who));
        }
        if self.is_admitted() {
            self.take_in();
            let ends: Vec<_> = self
                .joining
                .values()
                .map(|since| since.after(join_timeout))
                .filter(|end| now < *end)
                .collect();
            ends.into_iter().for_each(|end| self.wake_at(end));
        } else if self.leaving.is_none() {
            self.become_admitted();
        }
    }

    /// "1. The coordinator of a quorate view with V == E adds x to its E, when no incarnation of that host is in E, and x is
    /// un-admitted, heard steadily for `rejoin_hold` and linked with every member."
    fn take_in(&mut self) {
        let all = self.view == *self.electorate.counted() || mutant::on(Mutant::TakenInWithoutAll);
        if !self.is_coordinator(self.now) || !all || self.leaving.is_some() {
            return;
        }
        let hold = self.timing().rejoin_hold();
        let mut ready_ones = Vec::new();
        let mut waits = Vec::new();
        for accepted in self.heard() {
            let x = &accepted.heartbeat;
            // Locked on another's cold start it may not join this one; its decider, once it hears us, gives that up.
            let bound =
                x.lock.is_some_and(|lock| lock.decider != x.from && self.hears(lock.decider).is_some());
            let fit = x.presence == Presence::Joining
                && !bound
                && x.digest == self.digest
                && x.lease == self.timing().lease()
                && x.drift == self.timing().drift()
                && x.health != HealthClass::Failed
                && self.electorate.of_host(x.from.host).next().is_none()
                && !self.electorate.is_dead(x.from)
                && !self.is_quarantined(x.from.host)
                && !self.is_in_maintenance(x.from.host)
                && self.is_linked_with_all(x);
            if !fit {
                continue;
            }
            let ready = accepted.steady_since.after(hold);
            if self.now >= ready {
                ready_ones.push(x.from);
            } else {
                waits.push(ready);
            }
        }
        waits.into_iter().for_each(|at| self.wake_at(at));
        if self.electorate.counted().len() >= MAX_COUNTED {
            return;
        }
        // One whose paths cannot be opened keeps nobody else out.
        let open = ready_ones.into_iter().find(|x| self.opens_paths_of(*x));
        if let Some(x) = open {
            self.count_all(vec![x]);
        }
    }

    fn is_linked_with_all(&self, x: &Heartbeat) -> bool {
        self.view.iter().all(|member| {
            let hears = if *member == self.me {
                self.hears(x.from).is_some()
            } else {
                self.heartbeat_of(*member).is_some_and(|heartbeat| heartbeat.heard.contains(x.from))
            };
            hears && x.heard.contains(*member)
        })
    }

    /// "2. x (un-admitted), on a heartbeat from an admitted p with x in E(p): if found differs, found(x) = found(p), E(x) = {}.
    /// Then D(x) |= D(p), E(x) |= E(p) \ D(x)."
    pub(super) fn learn_electorate(&mut self, heartbeat: &Heartbeat) {
        if !matches!(heartbeat.presence, Presence::Admitted | Presence::Away) {
            return;
        }
        self.cold.gossiped_deaths(&heartbeat.dead);
        if heartbeat.dead.contains(self.me) {
            let why = format!("{} holds a proof that this life is dead", self.name(heartbeat.from.host));
            return self.end_this_life(&why);
        }
        if self.leaving.is_some() || heartbeat.digest != self.digest || self.is_unfit() {
            return;
        }
        if !heartbeat.electorate.contains(self.me) || heartbeat.found.is_none() {
            return;
        }
        if self.found != heartbeat.found && !self.may_follow_elsewhere(heartbeat) {
            return;
        }
        // "3. While locked on (d, epoch), h joins [...] no found other than (d, epoch). A self-locked host may join anything; it
        // drops its lock first."
        if !self.cold.may_join(self.me, heartbeat.found) {
            return;
        }
        let before = (self.electorate.counted().len(), self.electorate.deaths().len());
        if self.found != heartbeat.found {
            self.found = heartbeat.found;
            self.found_from = self.next_seq;
            self.electorate.clear_counted();
            self.dirty = true;
        }
        for dead in heartbeat.dead.iter() {
            let fenced = heartbeat.fenced.contains(dead);
            if fenced && !self.electorate.is_dead(dead) {
                self.spend_budget(dead);
            }
            self.electorate.learn_death(dead, fenced, heartbeat.from, self.now);
        }
        let new: Vec<Incarnation> =
            heartbeat.electorate.iter().filter(|who| !self.electorate.is_dead(*who)).collect();
        for who in new {
            if self.electorate.count(who) {
                self.is_up(who.host);
                if let Some(peer) = self.peers.get_mut(&who.host) {
                    peer.fresh_from = self.next_seq;
                }
            }
        }
        self.learn_cuts(heartbeat);
        self.dirty |= before != (self.electorate.counted().len(), self.electorate.deaths().len());
    }

    /// A lineage that this life has begun to join may have gone on with it: "a grant from x is itself the evidence", and so is
    /// what x says of its E. It turns to another only on the word of a host that lives: one that has heard it since. A delayed
    /// word of a dead lineage cannot have (I0). PROTOCOL, "Growing" 2, lacks this condition; the trace that needs it is told at
    /// the test `a_counted_newcomer_turns_to_another_lineage_only_on_a_fresh_word`.
    fn may_follow_elsewhere(&self, heartbeat: &Heartbeat) -> bool {
        let echo = heartbeat.echo_of(self.me.host);
        let answers = echo.is_some_and(|echo| {
            echo.of == self.me && echo.seq >= self.found_from && echo.seq < self.next_seq
        });
        self.found.is_none() || answers
    }

    /// "3. x is admitted when **every** other member of E(x), with equal found, has said x in its E, and one of them is
    /// admitted."
    fn become_admitted(&mut self) {
        let Some(found) = self.found else { return };
        // Cold start 3: while locked on another's cold start, a delayed packet of a dead lineage admits nobody.
        let locked_elsewhere = self.cold.lock().is_some_and(|lock| lock.decider != self.me && lock != found);
        if locked_elsewhere && !mutant::on(Mutant::LockedJoinsAnyone) {
            return;
        }
        if !self.electorate.is_living(self.me)
            || !self.unseen.is_empty()
            || self.is_unfit()
            || !self.nothing_runs_here()
        {
            return;
        }
        let mut one_admitted = false;
        let mut missing = 0;
        for member in self.electorate.counted().iter().filter(|who| **who != self.me) {
            let said = self.heartbeat_of(*member).is_some_and(|heartbeat| {
                let says = heartbeat.found == Some(found) && heartbeat.electorate.contains(self.me);
                one_admitted |= says && heartbeat.presence == Presence::Admitted;
                says
            });
            missing += usize::from(!said);
        }
        let most = mutant::on(Mutant::AdmittedByMost) && missing * 2 < self.electorate.counted().len();
        if one_admitted && (missing == 0 || most) {
            self.admit();
        }
    }

    /// This life is counted by everybody it counts: from here on it may ask, grant and run.
    pub(super) fn admit(&mut self) {
        self.presence = Presence::Admitted;
        let now = self.now;
        self.power_owed.extend(self.cold.forced().into_iter().map(|host| (host, now)));
        self.cold.clear();
        // Each member has its join_timeout from here: when this process began says nothing about it.
        let now = self.now;
        self.joining = self.electorate.counted().iter().map(|who| (*who, now)).collect();
        self.lost_since = Some(self.now);
        self.dirty = true;
        self.arm_watchdog();
        let electorate = self.whos(self.electorate.counted());
        self.record(Event::Admitted { electorate });
        self.refresh_view();
    }
}
