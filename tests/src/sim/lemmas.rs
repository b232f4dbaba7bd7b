//! What the proof of the protocol rests on, held against the truth: each of these fails long before a quorum does.
//!
//! I1 says that two hosts are never quorate against each other. That a single vote is out of place is seen in many more histories.

use palisade_proto::Incarnation;

use super::world::{World, name, names};
use super::{Micros, NAMES};

/// A vote that a host counts: whose (`None`: the witness's), and until when.
pub(super) struct Vote {
    of: Option<Incarnation>,
    until: Micros,
}

impl World {
    /// After each input of a host: the votes that it counts.
    pub(super) fn check_votes(&mut self, host: usize) {
        let votes = self.votes_of(host);
        let failure = if self.clocks_keep_bound() {
            let once = self.counted_twice(host, &votes);
            once.or_else(|| self.counted_by_the_dead(host, &votes))
                .or_else(|| self.without_lease(host, &votes))
        } else {
            None
        };
        self.truth.votes[host] = votes;
        if let Some(failure) = failure {
            self.fail(failure);
        }
    }

    fn votes_of(&self, host: usize) -> Vec<Vote> {
        let machine = &self.machines[host];
        let Some(process) = machine.process.as_ref().filter(|process| process.engine.admitted()) else {
            return Vec::new();
        };
        let votes = process.engine.votes().map(|(of, until)| Vote { of, until: machine.clock.when(until) });
        votes.filter(|vote| vote.until > self.now).collect()
    }

    /// PROTOCOL, "Grant rule", which I1 is made of: no vote counts at once for two views that exclude each other.
    fn counted_twice(&self, host: usize, votes: &[Vote]) -> Option<String> {
        let mine = &self.machines[host].process.as_ref()?.engine;
        for (other, theirs) in self.machines.iter().enumerate().filter(|(other, _)| *other != host) {
            let Some(process) = &theirs.process else { continue };
            let engine = &process.engine;
            if engine.view().contains(&mine.me()) && mine.view().contains(&engine.me()) {
                continue;
            }
            let counts = |vote: &Vote| {
                let same = |their: &&Vote| their.of == vote.of && their.until > self.now;
                self.truth.votes[other].iter().any(|their| same(&their))
            };
            if let Some(vote) = votes.iter().find(|vote| counts(vote)) {
                return Some(format!(
                    "Vote: {} counts the vote of {} for {}, and so does {} for {}",
                    NAMES[host],
                    voter(vote.of),
                    names(mine.view().iter().copied()),
                    NAMES[other],
                    names(engine.view().iter().copied())
                ));
            }
        }
        None
    }

    /// S2: "every E contains every voter whose vote anyone can still count".
    fn counted_by_the_dead(&self, host: usize, votes: &[Vote]) -> Option<String> {
        let mine = &self.machines[host].process.as_ref()?.engine;
        for other in (0..self.machines.len()).filter(|other| *other != host) {
            let Some(theirs) = self.admitted_engine(other) else { continue };
            if theirs.found() != mine.found() {
                continue;
            }
            let my_votes = votes.iter().map(|vote| (host, vote, theirs));
            let their_votes = self.truth.votes[other].iter().map(|vote| (other, vote, mine));
            for (by, vote, counts) in my_votes.chain(their_votes) {
                let Some(of) = vote.of.filter(|_| vote.until > self.now) else { continue };
                if !counts.counted().contains(&of) && counts.admitted() {
                    return Some(format!(
                        "S2: {} counts the vote of {}, whom {} no longer counts",
                        NAMES[by],
                        name(of),
                        name(counts.me())
                    ));
                }
            }
        }
        None
    }

    /// Whoever's vote is counted is bound by a lease that lasts as long, and that excludes nobody whom the view does not.
    fn without_lease(&self, host: usize, votes: &[Vote]) -> Option<String> {
        let mine = &self.machines[host].process.as_ref()?.engine;
        for vote in votes {
            let Some(of) = vote.of else {
                let lease = self.truth.witness_lease_of(mine.me());
                if lease.is_none_or(|(view, until)| {
                    until < vote.until || view.iter().any(|who| !mine.view().contains(who))
                }) {
                    return Some(format!(
                        "Lease: {} counts the vote of the witness for {}, which it is not bound to",
                        NAMES[host],
                        names(mine.view().iter().copied())
                    ));
                }
                continue;
            };
            let machine = &self.machines[of.host.index()];
            let Some(engine) = self.admitted_engine(of.host.index()).filter(|engine| engine.me() == of)
            else {
                continue;
            };
            // These have forgotten their leases, and grant nothing that could oppose them.
            let is_bound = !engine.is_silent(machine.clock.time(self.now))
                && !engine.is_leaving()
                && !engine.dead().any(|who| who == mine.me());
            if !is_bound {
                continue;
            }
            let lease = engine.leases().find(|(holder, ..)| *holder == mine.me());
            let broken = match lease {
                None => Some("has no lease for it".to_owned()),
                Some((_, _, until)) if machine.clock.when(until) < vote.until => {
                    Some("is bound for a shorter time".to_owned())
                }
                Some((_, view, _)) if view.iter().any(|who| !mine.view().contains(who)) => {
                    Some(format!("is bound to {}", names(view.iter().copied())))
                }
                Some(_) => None,
            };
            if let Some(broken) = broken {
                return Some(format!(
                    "Lease: {} counts the vote of {} for {}, which {broken}",
                    NAMES[host],
                    name(of),
                    names(mine.view().iter().copied())
                ));
            }
        }
        None
    }

    fn admitted_engine(&self, host: usize) -> Option<&palisade_core::Engine> {
        self.machines[host].process.as_ref().map(|process| &process.engine).filter(|engine| engine.admitted())
    }
}

fn voter(of: Option<Incarnation>) -> String {
    of.map_or_else(|| "the witness".to_owned(), name)
}
