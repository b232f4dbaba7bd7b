//! What went wrong during one command that then ran out of time: the difference between a silent BMC and a babbling one.

use std::time::Duration;

use palisade_ladder::Failure;

use super::rmcp::Ignored;

/// So many logins that stop right after the user's name are a BMC that ignores an unknown user, not a lossy network.
const NAMES_IGNORED_MIN: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct Trouble {
    garbage: u32,
    last_garbage: &'static str,
    /// Logins whose Open Session was answered and whose RAKP message 1 was not.
    names_ignored: u32,
    unreachable: Option<String>,
}

impl Trouble {
    /// A datagram was passed over.
    pub(super) fn passed_over(&mut self, ignored: Ignored) {
        match ignored {
            Ignored::Garbage(why) => {
                self.garbage = self.garbage.saturating_add(1);
                self.last_garbage = why;
            }
            // Late and doubled datagrams are how UDP is, and say nothing about the BMC.
            Ignored::NotOurs | Ignored::Replayed => {}
        }
    }

    pub(super) fn name_ignored(&mut self) {
        self.names_ignored = self.names_ignored.saturating_add(1);
    }

    pub(super) fn unreachable(&mut self, error: &std::io::Error) {
        self.unreachable = Some(error.to_string());
    }

    /// The name of a command's end at its deadline.
    pub(super) fn at_deadline(&self, waited: Duration) -> Failure {
        let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        if self.garbage > 0 {
            let (count, last) = (self.garbage, self.last_garbage);
            let detail = format!("{count} datagrams passed over in {waited_ms} ms, the last because: {last}");
            return Failure::Garbage { detail };
        }
        if self.names_ignored >= NAMES_IGNORED_MIN {
            let at = format!(
                "RAKP message 1: unanswered {} times though Open Session was answered (unknown user?)",
                self.names_ignored
            );
            return Failure::LoginRefused { at };
        }
        match &self.unreachable {
            Some(error) => Failure::Unreachable { error: error.clone() },
            None => Failure::NoAnswer { waited_ms },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_named_after_what_was_heard() {
        let waited = Duration::from_millis(250);
        let mut trouble = Trouble::default();
        assert_eq!(trouble.at_deadline(waited), Failure::NoAnswer { waited_ms: 250 });
        trouble.passed_over(Ignored::Replayed);
        trouble.passed_over(Ignored::NotOurs);
        assert_eq!(trouble.at_deadline(waited), Failure::NoAnswer { waited_ms: 250 });
        (0..NAMES_IGNORED_MIN).for_each(|_| trouble.name_ignored());
        assert!(matches!(trouble.at_deadline(waited), Failure::LoginRefused { .. }));
        trouble.passed_over(Ignored::Garbage("checksum"));
        assert!(matches!(trouble.at_deadline(waited), Failure::Garbage { .. }));
    }
}
