//! How long incidents took, read off the records as they pass: nothing is measured anew, and nothing is decided by it.
//!
//! **Detection** is the time for which a host had not been heard when it fell out of the view. **Recovery** is the time from
//! when a host was last heard until a workload runs here that was started after that host was proven dead or cut off, within
//! [`RECOVERY_US`] of the proof: what is started later was started for another reason.

use std::collections::BTreeMap;

use palisade_core::record::Event;
use palisade_proto::WorkloadId;

use crate::counters::Counters;

/// Longer than any start takes that a proof has set off.
const RECOVERY_US: u64 = 600_000_000;

/// What is known of the incidents that are not over. Bounded by the configured hosts and workloads, whose names these are.
#[derive(Debug, Default)]
pub(super) struct Incidents {
    /// When each silent host was last heard.
    silent: BTreeMap<String, u64>,
    /// When the host was last heard, and when the last proof came.
    proven: Option<(u64, u64)>,
    /// Workloads that are being started for it, with when their host was last heard.
    starting: BTreeMap<WorkloadId, u64>,
}

impl Incidents {
    /// Takes in one record.
    pub(super) fn see(&mut self, event: &Event, now_us: u64, counters: &Counters) {
        match event {
            Event::View { view, lost } => {
                self.silent.retain(|host, _| view.iter().all(|who| who.host != *host));
                for lost in lost {
                    counters.detection.see(lost.silent_ms.saturating_mul(1000));
                    let heard_us = now_us.saturating_sub(lost.silent_ms.saturating_mul(1000));
                    self.silent.insert(lost.who.host.clone(), heard_us);
                }
            }
            Event::Dead { victim, .. } | Event::Isolated { victim, .. } => {
                if let Some(heard_us) = self.silent.remove(&victim.host) {
                    self.proven = Some((heard_us, now_us));
                }
            }
            Event::StartIntended { workload, .. } => {
                let recent =
                    self.proven.filter(|(_, proven_us)| now_us.saturating_sub(*proven_us) < RECOVERY_US);
                if let Some((heard_us, _)) = recent {
                    self.starting.insert(workload.id, heard_us);
                }
            }
            Event::Workload { workload, state, .. } if state == "running" => {
                if let Some(heard_us) = self.starting.remove(&workload.id) {
                    counters.recovery.see(now_us.saturating_sub(heard_us));
                }
            }
            Event::Workload { workload, state, .. } if state != "starting" => {
                self.starting.remove(&workload.id);
            }
            Event::Started { .. }
            | Event::Lock { .. }
            | Event::Founded { .. }
            | Event::Admitted { .. }
            | Event::Electorate { .. }
            | Event::Standing { .. }
            | Event::Witness { .. }
            | Event::FenceDecided { .. }
            | Event::OrderIntended { .. }
            | Event::OrderAnswered { .. }
            | Event::FenceFailed { .. }
            | Event::Withheld { .. }
            | Event::Placed { .. }
            | Event::Claimed { .. }
            | Event::ClaimDropped { .. }
            | Event::Workload { .. }
            | Event::SelfFenced { .. }
            | Event::Reboots { .. }
            | Event::Probe { .. }
            | Event::Wished { .. }
            | Event::Left { .. }
            | Event::Away
            | Event::Desired { .. }
            | Event::Alarm { .. }
            | Event::AlarmCleared { .. }
            | Event::Configuration { .. }
            | Event::Operator { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use palisade_core::record::{Lost, What, Who};

    use super::*;

    fn who(host: &str) -> Who {
        Who { host: host.to_owned(), life: "00".to_owned() }
    }

    fn what() -> What {
        What { id: WorkloadId(1), name: "db".to_owned() }
    }

    fn lost() -> Event {
        Event::View { view: vec![who("a")], lost: vec![Lost { who: who("b"), silent_ms: 1020 }] }
    }

    fn dead() -> Event {
        Event::Dead { victim: who("b"), proof: "power_off".to_owned(), evidence: String::new() }
    }

    fn intended() -> Event {
        Event::StartIntended { workload: what(), cleared_by: String::new() }
    }

    fn state(state: &str) -> Event {
        Event::Workload { workload: what(), state: state.to_owned(), detail: String::new() }
    }

    /// Each record at its time in ms; how many detections and recoveries, and their sums in us.
    fn seen(records: &[(u64, Event)]) -> [(u64, u64); 2] {
        let (mut incidents, counters) = (Incidents::default(), Counters::default());
        for (ms, event) in records {
            incidents.see(event, ms * 1000, &counters);
        }
        [counters.detection.count_and_sum_us(), counters.recovery.count_and_sum_us()]
    }

    #[test]
    fn from_the_last_sign_of_life_to_the_workload_that_runs() {
        let records = [
            (5000, lost()),
            (5400, dead()),
            (5410, intended()),
            (5420, state("starting")),
            (5500, state("running")),
        ];
        assert_eq!(seen(&records), [(1, 1_020_000), (1, 1_520_000)]);
    }

    #[test]
    fn a_start_for_another_reason_is_no_recovery() {
        // Nobody was lost, nobody was proven dead, long after the proof, or it did not come to run.
        assert_eq!(seen(&[(1, intended()), (2, state("running"))])[1], (0, 0));
        assert_eq!(seen(&[(5000, lost()), (5001, intended()), (5002, state("running"))])[1], (0, 0));
        let late = 5400 + RECOVERY_US / 1000;
        assert_eq!(
            seen(&[(5000, lost()), (5400, dead()), (late, intended()), (late + 1, state("running"))])[1],
            (0, 0)
        );
        let failed = [(5000, lost()), (5400, dead()), (5401, intended()), (5402, state("failed"))];
        assert_eq!(seen(&[&failed[..], &[(9000, state("running"))]].concat())[1], (0, 0));
        // A host that came back before it was proven dead.
        let back = Event::View { view: vec![who("a"), who("b")], lost: Vec::new() };
        assert_eq!(
            seen(&[
                (5000, lost()),
                (5100, back),
                (9000, dead()),
                (9001, intended()),
                (9002, state("running"))
            ])[1],
            (0, 0)
        );
    }
}
