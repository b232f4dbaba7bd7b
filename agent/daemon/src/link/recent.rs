//! The newest packet of each life, so that a replayed or twice delivered one is known before it is decoded.

use palisade_proto::{Incarnation, MAX_HOSTS, Seq};

/// Lives remembered for each host: the living one, the one before, and room for two that an attacker replays.
const LIVES: usize = 4;

/// What was heard last, by host and life. A fixed table.
#[derive(Debug, Default)]
pub(super) struct Recent {
    hosts: [[Option<(Incarnation, Seq)>; LIVES]; MAX_HOSTS],
}

/// How a packet compares with what was heard of the same life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    /// Newer than all, or the first of its life.
    New,
    /// The newest one, again.
    Same,
    /// Older. The engine would drop it whole (PROTOCOL, "Which packets count"); UDP may lose it anyway.
    Old,
}

impl Recent {
    /// How a packet of `from` with `seq` compares.
    pub(super) fn judge(&self, from: Incarnation, seq: Seq) -> Freshness {
        let lives = self.hosts.get(from.host.index());
        let known = lives.into_iter().flatten().flatten().find(|(life, _)| *life == from);
        match known {
            Some((_, last)) if seq < *last => Freshness::Old,
            Some((_, last)) if seq == *last => Freshness::Same,
            Some(_) | None => Freshness::New,
        }
    }

    /// Takes a new packet in; it stands first, the life unheard for longest falls out.
    pub(super) fn note(&mut self, from: Incarnation, seq: Seq) {
        if let Some(lives) = self.hosts.get_mut(from.host.index()) {
            let at = lives.iter().position(|life| life.is_some_and(|(life, _)| life == from));
            if let Some(front) = lives.get_mut(..=at.unwrap_or(LIVES - 1)) {
                front.rotate_right(1);
                if let Some(first) = front.first_mut() {
                    *first = Some((from, seq));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use palisade_proto::HostId;

    use super::*;

    fn life(host: u8, life: u8) -> Incarnation {
        Incarnation::new(HostId::new(host).unwrap(), [life; 8])
    }

    #[test]
    fn a_packet_is_new_once_and_old_for_ever() {
        let mut recent = Recent::default();
        assert_eq!(recent.judge(life(3, 1), 10), Freshness::New);
        recent.note(life(3, 1), 10);
        assert_eq!(recent.judge(life(3, 1), 10), Freshness::Same);
        assert_eq!(recent.judge(life(3, 1), 9), Freshness::Old);
        assert_eq!(recent.judge(life(3, 1), 11), Freshness::New);
        assert_eq!(recent.judge(life(4, 1), 9), Freshness::New, "another host");
    }

    #[test]
    fn a_replayed_earlier_life_does_not_make_the_living_one_forgotten() {
        let mut recent = Recent::default();
        recent.note(life(0, 1), 100);
        for (dead, seq) in [(2, 7), (3, 7), (4, 7)] {
            recent.note(life(0, dead), seq);
            recent.note(life(0, 1), 100 + u64::from(dead));
        }
        assert_eq!(recent.judge(life(0, 1), 100), Freshness::Old);
        assert_eq!(recent.judge(life(0, 2), 7), Freshness::Same);
    }
}
