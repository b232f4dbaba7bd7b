//! What the proof of the protocol rests on, held against the truth: each of these fails long before a quorum does.
//!
//! I1 says that two hosts are never quorate against each other. That a single vote is out of place is seen in many more histories.

use std::collections::BTreeSet;

use palisade_core::Engine;
use palisade_proto::{Incarnation, Time};

use super::NAMES;
use super::world::{World, name, names};

/// What an admitted host counts, as it was last seen.
#[derive(Default)]
pub(super) struct Counted {
    votes: Vec<Vote>,
    /// V.
    view: BTreeSet<Incarnation>,
    /// E.
    voters: BTreeSet<Incarnation>,
}

/// A vote that a host counts.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Vote {
    /// Whose; `None`: the witness's.
    of: Option<Incarnation>,
    /// It counts before this instant of the counting host's clock.
    until: Time,
}

impl World {
    /// After each input of a host: what is new in what it counts.
    pub(super) fn check_votes(&mut self, host: usize) {
        let mut old = std::mem::take(&mut self.truth.counted[host]);
        let Some(engine) = self.admitted_engine(host) else { return };
        let now = self.machines[host].clock.time(self.now);
        let votes: Vec<Vote> =
            engine.votes().filter(|(_, until)| now < *until).map(|(of, until)| Vote { of, until }).collect();
        let same_view = *engine.view() == old.view;
        let news: Vec<Vote> =
            votes.iter().filter(|vote| !same_view || !old.votes.contains(vote)).copied().collect();
        let same_voters = *engine.counted() == old.voters;
        let failure = self.clocks_keep_bound().then(|| {
            self.counted_twice(host, engine, &votes)
                .or_else(|| self.vote_of_the_uncounted(host, engine, &news))
                .or_else(|| if same_voters { None } else { self.uncounts_a_vote(host, engine) })
                .or_else(|| self.grows_without_all(host, engine, &old.voters))
                .or_else(|| news.iter().find_map(|vote| self.without_lease(host, engine, *vote)))
        });
        if !same_view {
            old.view = engine.view().clone();
        }
        if !same_voters {
            old.voters = engine.counted().clone();
        }
        self.truth.ever_counted.extend(&old.voters);
        self.truth.counted[host] = Counted { votes, ..old };
        if let Some(failure) = failure.flatten() {
            self.fail(failure);
        }
    }

    /// PROTOCOL, "Grant rule", which I1 is made of: no vote counts at once for two views that exclude each other.
    fn counted_twice(&self, host: usize, mine: &Engine, votes: &[Vote]) -> Option<String> {
        for other in (0..self.machines.len()).filter(|other| *other != host) {
            let Some(theirs) = self.admitted_engine(other) else { continue };
            if theirs.view().contains(&mine.me()) && mine.view().contains(&theirs.me()) {
                continue;
            }
            let running: Vec<_> = self.running_votes(other).map(|vote| vote.of).collect();
            if let Some(vote) = votes.iter().find(|vote| running.contains(&vote.of)) {
                return Some(format!(
                    "Vote: {} counts the vote of {} for {}, and so does {} for {}",
                    NAMES[host],
                    voter(vote.of),
                    names(mine.view().iter().copied()),
                    NAMES[other],
                    names(theirs.view().iter().copied())
                ));
            }
        }
        None
    }

    /// S2: "every E contains every voter whose vote anyone can still count": new votes in everybody's E.
    fn vote_of_the_uncounted(&self, host: usize, mine: &Engine, news: &[Vote]) -> Option<String> {
        for theirs in (0..self.machines.len()).filter(|other| *other != host) {
            let Some(theirs) = self.admitted_engine(theirs).filter(|theirs| theirs.found() == mine.found())
            else {
                continue;
            };
            let uncounted = news.iter().filter_map(|vote| vote.of).find(|of| !theirs.counted().contains(of));
            if let Some(of) = uncounted {
                return Some(uncounted_vote(host, of, theirs));
            }
        }
        None
    }

    /// The same: everybody's votes in a new E.
    fn uncounts_a_vote(&self, host: usize, mine: &Engine) -> Option<String> {
        for by in (0..self.machines.len()).filter(|other| *other != host) {
            if self.admitted_engine(by).is_none_or(|theirs| theirs.found() != mine.found()) {
                continue;
            }
            let votes = self.running_votes(by).filter_map(|vote| vote.of);
            if let Some(of) = votes.into_iter().find(|of| !mine.counted().contains(of)) {
                return Some(uncounted_vote(by, of, mine));
            }
        }
        None
    }

    /// PROTOCOL, "Growing" 1: who first counts a newcomer stands with everybody whom it counted until then. (Else a quorum of
    /// those who are there becomes a minority of those who are counted.)
    fn grows_without_all(
        &self,
        host: usize,
        mine: &Engine,
        before: &BTreeSet<Incarnation>,
    ) -> Option<String> {
        let new = mine.counted().difference(&self.truth.ever_counted).find(|who| **who != mine.me())?;
        let absent = before.iter().find(|who| mine.counted().contains(who) && !mine.view().contains(who))?;
        Some(format!(
            "Growth: {} counts {} though {} is not in its view",
            NAMES[host],
            name(*new),
            name(*absent)
        ))
    }

    /// Whoever's vote is counted is bound by a lease that lasts as long, and that excludes nobody whom the view does not.
    fn without_lease(&self, host: usize, mine: &Engine, vote: Vote) -> Option<String> {
        let until = self.machines[host].clock.when(vote.until);
        let lease = match vote.of {
            None => self.truth.witness_lease_of(mine.me()),
            Some(of) => {
                let machine = &self.machines[of.host.index()];
                let voter = self.admitted_engine(of.host.index()).filter(|voter| voter.me() == of)?;
                // These have forgotten their leases, and grant nothing that could oppose them.
                if voter.is_silent(machine.clock.time(self.now))
                    || voter.is_leaving()
                    || voter.dead().any(|who| who == mine.me())
                {
                    return None;
                }
                let lease = voter.leases().find(|(holder, ..)| *holder == mine.me());
                lease.map(|(_, view, until)| (view, machine.clock.when(until)))
            }
        };
        let broken = match lease {
            None => "has no lease for it".to_owned(),
            Some((_, bound)) if bound < until => "is bound for a shorter time".to_owned(),
            Some((view, _)) if view.iter().any(|who| !mine.view().contains(who)) => {
                format!("is bound to {}", names(view.iter().copied()))
            }
            Some(_) => return None,
        };
        Some(format!(
            "Lease: {} counts the vote of {} for {}, which {broken}",
            NAMES[host],
            voter(vote.of),
            names(mine.view().iter().copied())
        ))
    }

    fn running_votes(&self, host: usize) -> impl Iterator<Item = &Vote> {
        let now = self.machines[host].clock.time(self.now);
        self.truth.counted[host].votes.iter().filter(move |vote| now < vote.until)
    }

    fn admitted_engine(&self, host: usize) -> Option<&Engine> {
        self.machines[host].process.as_ref().map(|process| &process.engine).filter(|engine| engine.admitted())
    }
}

fn uncounted_vote(by: usize, of: Incarnation, theirs: &Engine) -> String {
    format!("S2: {} counts the vote of {}, whom {} no longer counts", NAMES[by], name(of), name(theirs.me()))
}

fn voter(of: Option<Incarnation>) -> String {
    of.map_or_else(|| "the witness".to_owned(), name)
}
