//! What a person should look at: said once when it begins and once when it ends.

use std::collections::{BTreeMap, VecDeque};

use palisade_proto::Time;

use crate::action::Action;
use crate::record::Event;

/// The most alarms at once: two of each kind for each host. Further ones are dropped; those that stand say enough.
const MAX_ALARMS: usize = 256;

/// The alarms that stand, by a key of ours.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alarms {
    standing: BTreeMap<String, (String, Time)>,
}

impl Alarms {
    pub(crate) fn raise_for(&mut self, actions: &mut VecDeque<Action>, key: String, what: String, now: Time) {
        let full = self.standing.len() >= MAX_ALARMS;
        match self.standing.get_mut(&key) {
            Some((standing, _)) if *standing == what => {}
            Some((standing, since)) => {
                *standing = what;
                *since = now;
            }
            None if full => {}
            None => {
                actions.push_back(Action::Record {
                    ticket: None,
                    event: Box::new(Event::Alarm { what: what.clone() }),
                });
                self.standing.insert(key, (what, now));
            }
        }
    }

    pub(crate) fn clear(&mut self, actions: &mut VecDeque<Action>, key: &str, now: Time) {
        let _ = now;
        if let Some((what, _)) = self.standing.remove(key) {
            actions.push_back(Action::Record { ticket: None, event: Box::new(Event::AlarmCleared { what }) });
        }
    }

    /// Raises or clears.
    pub(crate) fn set(&mut self, actions: &mut VecDeque<Action>, key: &str, what: Option<String>, now: Time) {
        match what {
            Some(what) => self.raise_for(actions, key.to_owned(), what, now),
            None => self.clear(actions, key, now),
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        self.standing.values().map(|(what, _)| what.as_str())
    }
}
