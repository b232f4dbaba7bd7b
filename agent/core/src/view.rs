//! With whom a host stands: the best clique of mutual links that contains it. Liveness only; safety does not depend on it.

use palisade_proto::{Incarnation, MAX_HOSTS};

/// One host that may be in the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Who.
    pub(crate) who: Incarnation,
    /// Weight of its health class: 0 is best.
    pub(crate) health: u32,
    /// With whom it is linked: one bit a host id.
    pub(crate) links: u32,
}

/// PROTOCOL, "Views": "best clique of links containing h [...]: most members, then lowest sum of health class, then lowest
/// indices". `me` must be among the candidates; a host has one candidate at the most.
pub(crate) fn best_clique(me: Incarnation, candidates: &[Candidate]) -> Vec<Incarnation> {
    let mut search = Search { at: [None; MAX_HOSTS], best: None };
    for candidate in candidates {
        if let Some(slot) = search.at.get_mut(candidate.who.host.index()) {
            // A peer that claims to hear itself is no neighbour of its own.
            *slot = Some(Candidate { links: candidate.links & !bit(candidate.who), ..*candidate });
        }
    }
    let present = candidates.iter().fold(0, |mask, candidate| mask | bit(candidate.who));
    let mine = search.links(bit(me).trailing_zeros()) & present & !bit(me);
    search.extend(bit(me), mine, 0);
    let members = search.best.map_or(bit(me), |best| best.members);
    bits(members)
        .filter_map(|index| search.at.get(index as usize).copied().flatten())
        .map(|member| member.who)
        .collect()
}

struct Search {
    at: [Option<Candidate>; MAX_HOSTS],
    best: Option<Best>,
}

#[derive(Clone, Copy)]
struct Best {
    members: u32,
    health: u32,
}

impl Search {
    fn links(&self, index: u32) -> u32 {
        self.at.get(index as usize).copied().flatten().map_or(0, |candidate| candidate.links)
    }

    fn health(&self, members: u32) -> u32 {
        bits(members)
            .filter_map(|index| self.at.get(index as usize).copied().flatten())
            .map(|member| member.health)
            .sum()
    }

    /// Bron-Kerbosch with a pivot: at most 3^(31/3) cliques for 32 hosts, and two or three in a real network.
    fn extend(&mut self, members: u32, candidates: u32, excluded: u32) {
        if candidates == 0 {
            if excluded == 0 {
                self.offer(members);
            }
            return;
        }
        let pivot =
            bits(candidates | excluded).max_by_key(|index| (self.links(*index) & candidates).count_ones());
        let skip = pivot.map_or(0, |index| self.links(index));
        let (mut candidates, mut excluded) = (candidates, excluded);
        for index in bits(candidates & !skip) {
            let links = self.links(index);
            self.extend(members | 1 << index, candidates & links, excluded & links);
            candidates &= !(1 << index);
            excluded |= 1 << index;
        }
    }

    fn offer(&mut self, members: u32) {
        let health = self.health(members);
        let better = self.best.is_none_or(|best| {
            (members.count_ones(), u32::MAX - health, members.reverse_bits())
                > (best.members.count_ones(), u32::MAX - best.health, best.members.reverse_bits())
        });
        if better {
            self.best = Some(Best { members, health });
        }
    }
}

fn bit(who: Incarnation) -> u32 {
    1 << who.host.number()
}

/// The places of the bits that are set, the lowest first.
pub(crate) fn bits(mut mask: u32) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let lowest = (mask != 0).then(|| mask.trailing_zeros())?;
        mask &= mask - 1;
        Some(lowest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_proto::HostId;
    use proptest::prelude::*;

    fn host(id: u8) -> Incarnation {
        Incarnation::new(HostId::new(id).unwrap(), [id; 8])
    }

    fn clique(me: u8, links: &[(u8, u8)], health: &[u32]) -> Vec<u8> {
        let candidates: Vec<Candidate> = health
            .iter()
            .enumerate()
            .map(|(id, health)| {
                let id = u8::try_from(id).unwrap();
                let links = links.iter().fold(0, |mask, (a, b)| match () {
                    () if *a == id => mask | 1 << b,
                    () if *b == id => mask | 1 << a,
                    () => mask,
                });
                Candidate { who: host(id), health: *health, links }
            })
            .collect();
        best_clique(host(me), &candidates).into_iter().map(|who| who.host.number()).collect()
    }

    #[test]
    fn a_host_that_claims_to_hear_itself_changes_nothing() {
        assert_eq!(clique(0, &[(0, 1), (1, 1), (0, 0)], &[0, 0]), [0, 1]);
    }

    #[test]
    fn the_largest_clique_wins_then_health_then_low_indices() {
        assert_eq!(clique(0, &[], &[0, 0]), [0], "alone");
        assert_eq!(clique(0, &[(0, 1), (1, 2), (0, 2)], &[0, 0, 0]), [0, 1, 2], "all");
        assert_eq!(clique(1, &[(0, 1), (1, 2)], &[0, 0, 0]), [0, 1], "a chain: the lower end");
        assert_eq!(clique(1, &[(0, 1), (1, 2)], &[1, 0, 0]), [1, 2], "a chain: the healthier end");
        assert_eq!(
            clique(3, &[(0, 3), (1, 2), (1, 3), (2, 3)], &[0, 9, 9, 0]),
            [1, 2, 3],
            "size before health"
        );
    }

    proptest! {
        #[test]
        fn the_view_is_a_clique_and_no_brute_force_finds_a_better_one(edges in proptest::collection::vec((0u8..6, 0u8..6), 0..20),
                                                                      health in proptest::collection::vec(0u32..3, 6)) {
            let edges: Vec<(u8, u8)> = edges.into_iter().filter(|(a, b)| a != b).collect();
            let linked = |a: u8, b: u8| edges.contains(&(a, b)) || edges.contains(&(b, a));
            let found = clique(0, &edges, &health);
            let score = |members: &[u8]| {
                let mask = members.iter().fold(0u32, |mask, id| mask | 1 << id);
                (members.len(), u32::MAX - members.iter().map(|id| health[usize::from(*id)]).sum::<u32>(), mask.reverse_bits())
            };
            let best = (0u32..64)
                .filter(|mask| mask & 1 != 0)
                .map(|mask| bits(mask).map(|id| u8::try_from(id).unwrap()).collect::<Vec<u8>>())
                .filter(|members| members.iter().all(|a| members.iter().all(|b| a == b || linked(*a, *b))))
                .max_by_key(|members| score(members))
                .unwrap();
            prop_assert_eq!(found, best);
        }
    }
}
