//! The end of a life, and the planned restart of an agent.

use palisade_proto::message::Presence;
use palisade_proto::mutant::{self, Mutant};
use palisade_proto::{Duration, Time, WorkloadId};
use serde::{Deserialize, Serialize};

use super::Engine;
use crate::action::{Action, ExitKind};
use crate::record::Event;

/// `left` is said "at once and a few times more": so often, so far apart.
const LEFT_WORDS: (u8, Duration) = (4, Duration::ms(60));
/// `away` is said "one to three times", close together: the restart should be short.
const AWAY_WORDS: (u8, Duration) = (3, Duration::ms(20));

/// A life or a process on its way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leaving {
    how: ExitKind,
    why: String,
    said: u8,
    next: Time,
    /// For maintenance: the process stays, and says `left` for as long as that lasts.
    stays: bool,
}

impl Engine {
    /// PROTOCOL, "Leaving and restarting": stops the workloads, says `left`, and ends this life.
    pub fn handle_leave(&mut self, why: &str, now: Time) {
        self.begin(now);
        match &mut self.leaving {
            Some(leaving) => leaving.stays = false,
            None => self.begin_to_leave(why, false),
        }
        self.settle();
    }

    fn begin_to_leave(&mut self, why: &str, stays: bool) {
        let (how, next) = (ExitKind::Left, self.now);
        self.leaving = Some(Leaving { how, why: why.to_owned(), said: 0, next, stays });
        self.record(Event::Left { why: why.to_owned() });
        if mutant::on(Mutant::LeftLifeGrants) {
            self.voter.clear();
        }
    }

    /// "Leave (shutdown, `systemctl stop`, maintenance) [...]: says `left` at once and a few times more (in maintenance: on every
    /// heartbeat)."
    pub(super) fn leave_for_maintenance(&mut self) {
        if self.leaving.is_none() {
            self.begin_to_leave("an operator has put it into maintenance", true);
        }
    }

    /// It leaves, and its process does not wait for what it does not know.
    pub(super) fn leaves_for_good(&self) -> bool {
        self.leaving.as_ref().is_some_and(|leaving| !leaving.stays)
    }

    /// This life has left for maintenance, and its process goes on.
    pub(super) fn stays_out(&self) -> bool {
        self.presence == Presence::Left && self.leaving.as_ref().is_some_and(|leaving| leaving.stays)
    }

    /// "Restart (upgrade [...]): x voids its grants and unanswered asks, says `away` one to three times with V empty, sends and
    /// grants nothing more, and exits without stopping its watchdog; its workloads run on."
    pub fn handle_restart(&mut self, now: Time) {
        self.begin(now);
        if let Some(leaving) = &mut self.leaving {
            // For maintenance: its next life leaves by itself.
            leaving.stays = false;
        } else {
            let (how, why, next) = (ExitKind::Restart, "restart".to_owned(), self.now);
            self.leaving = Some(Leaving { how, why, said: 0, next, stays: false });
            if !mutant::on(Mutant::AwayKeepsGrants) {
                self.support.void();
            }
            if self.is_admitted() {
                self.save();
                self.presence = Presence::Away;
                self.view.clear();
                self.candidates.clear();
            }
            self.record(Event::Away);
        }
        self.settle();
    }

    /// Nothing is said any more but parting words.
    pub(super) fn is_parting(&self) -> bool {
        self.leaving
            .as_ref()
            .is_some_and(|leaving| leaving.how == ExitKind::Restart || self.presence == Presence::Left)
    }

    /// Nothing of its own holds this life back any more: its last word follows in this very turn, and nobody would read what an
    /// order of now came to.
    pub(super) fn is_about_to_leave(&self) -> bool {
        self.leaving.as_ref().is_some_and(|leaving| leaving.how == ExitKind::Left && self.here.is_empty())
    }

    /// This life is over, and what it ran is being killed: it acts and votes no more.
    pub(super) fn is_ending(&self) -> bool {
        self.leaving.as_ref().is_some_and(|leaving| leaving.how == ExitKind::Reborn)
    }

    /// This life is dead in the eyes of its peers, or cut off from its storage: nothing of it may go on.
    pub(super) fn end_this_life(&mut self, why: &str) {
        if self.is_ending() || self.presence == Presence::Left {
            return;
        }
        let (how, next) = (ExitKind::Reborn, self.now);
        self.leaving = Some(Leaving { how, why: why.to_owned(), said: 0, next, stays: false });
        self.kill_everything();
        self.record(Event::SelfFenced { why: why.to_owned() });
    }

    pub(super) fn run_leave(&mut self) {
        let Some(leaving) = self.leaving.clone() else { return };
        if leaving.stays && self.presence == Presence::Joining {
            // It stays for long enough to look at its workloads and to listen.
            if !self.unseen.is_empty() {
                return;
            }
            if self.now < self.next_send {
                return self.wake_at(self.next_send);
            }
        }
        // SAFE-9: a life that has not looked at its workloads, or never spoke, ends without a word: `left` would vouch for what
        // it does not know.
        let unheard = !self.unseen.is_empty()
            || (self.last_sent.is_none() && self.presence == Presence::Joining && !leaving.stays);
        if leaving.how != ExitKind::Restart && self.presence != Presence::Left {
            let running: Vec<WorkloadId> = self.here.keys().copied().collect();
            running.into_iter().for_each(|id| self.stop(id, "this host leaves"));
            if !self.here.is_empty() {
                return;
            }
            // "... drops claims, grants and lock, writes `left`, stops its watchdog, then says `left`". That life never again
            // asks, grants, claims, locks or runs.
            self.presence = Presence::Left;
            self.support.void();
            self.voter.clear();
            self.peers.values_mut().for_each(|peer| peer.granted = None);
            self.cold.clear();
            self.view.clear();
            self.candidates.clear();
            self.place.clear();
            self.save();
            // Whatever was last heard of it: a device whose feed has failed runs all the same.
            if self.cluster.watchdog().is_some() || self.watchdog_armed {
                self.actions.push_back(Action::DisarmWatchdog);
                self.watchdog_armed = false;
            }
        }
        let kept_out = self.is_in_maintenance(self.me.host);
        while let Some(leaving) = self.leaving.as_mut() {
            let (words, gap) = if leaving.how == ExitKind::Restart { AWAY_WORDS } else { LEFT_WORDS };
            if leaving.said >= words || unheard {
                if leaving.stays && kept_out {
                    return self.say_that_it_is_out();
                }
                // Maintenance is over: the next life is to come back.
                let how = if leaving.stays { ExitKind::Reborn } else { leaving.how };
                // Also what nothing was said after: the next process must not take up a maintenance that is over.
                self.save();
                self.exited = true;
                self.actions.push_back(Action::Exit(how));
                return;
            }
            if self.now < leaving.next {
                let next = leaving.next;
                return self.wake_at(next);
            }
            leaving.said += 1;
            leaving.next = self.now.after(gap);
            self.say();
        }
    }

    fn say_that_it_is_out(&mut self) {
        if self.now >= self.next_send {
            self.say();
        }
        self.wake_at(self.next_send);
    }
}
