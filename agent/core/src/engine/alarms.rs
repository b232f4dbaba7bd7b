//! What a person should look at: said once when it begins and once when it ends.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

use crate::action::Action;
use crate::record::Event;

/// The most alarms at once: two of each kind for each host. Further ones are dropped; those that stand say enough.
const MAX_ALARMS: usize = 256;

/// The alarms that stand, by a key of ours.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Alarms {
    standing: BTreeMap<String, String>,
}

impl Alarms {
    /// Raises an alarm; other words under the same key replace the old ones without another record.
    pub(crate) fn raise_for(&mut self, actions: &mut VecDeque<Action>, key: String, what: String) {
        let full = self.standing.len() >= MAX_ALARMS;
        match self.standing.get_mut(&key) {
            Some(standing) => *standing = what,
            None if full => {}
            None => {
                let event = Box::new(Event::Alarm { what: what.clone() });
                actions.push_back(Action::Record { ticket: None, event });
                self.standing.insert(key, what);
            }
        }
    }

    pub(crate) fn clear(&mut self, actions: &mut VecDeque<Action>, key: &str) {
        if let Some(what) = self.standing.remove(key) {
            actions.push_back(Action::Record { ticket: None, event: Box::new(Event::AlarmCleared { what }) });
        }
    }

    /// Raises or clears.
    pub(crate) fn set(&mut self, actions: &mut VecDeque<Action>, key: &str, what: Option<String>) {
        match what {
            Some(what) => self.raise_for(actions, key.to_owned(), what),
            None => self.clear(actions, key),
        }
    }

    pub(crate) fn any(&self) -> bool {
        !self.standing.is_empty()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        self.standing.values().map(String::as_str)
    }
}
