//! How long a cluster takes from the loss of a host to its workload running elsewhere: a clean network, one loss of power, a
//! BMC that answers in 10 ms, a workload that starts in 20 ms; everything else as an operator gets it by default.

use super::{Fault, Micros, Rng, Setup, World, ms};

/// The whole history is over by then.
const END: Micros = ms(60_000);

/// Which cluster to measure.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// What to call it.
    pub name: &'static str,
    /// How many hosts.
    pub hosts: usize,
    /// Whether there is a witness.
    pub witness: bool,
    /// The fast profile.
    pub fast: bool,
}

/// The clusters that PROTOCOL.md has numbers for.
pub const SUBJECTS: [Subject; 4] = [
    Subject { name: "3 hosts, default", hosts: 3, witness: false, fast: false },
    Subject { name: "2 + witness, default", hosts: 2, witness: true, fast: false },
    Subject { name: "3 hosts, fast", hosts: 3, witness: false, fast: true },
    Subject { name: "2 + witness, fast", hosts: 2, witness: true, fast: true },
];

/// From the crash to the workload running again.
///
/// # Errors
/// What went wrong instead.
pub fn recovery(subject: Subject, seed: u64) -> Result<Micros, super::Report> {
    let report = history(subject, seed, false);
    match report.recovery {
        Some(took) if report.failure.is_none() => Ok(took),
        Some(_) | None => Err(report),
    }
}

/// The same history, told line by line.
#[must_use]
pub fn trace(subject: Subject, seed: u64) -> super::Report {
    history(subject, seed, true)
}

fn history(subject: Subject, seed: u64, tracing: bool) -> super::Report {
    let mut rng = Rng::new(seed);
    let setup = Setup::plain(subject.hosts, subject.witness, subject.fast);
    let boots: Vec<Micros> = (0..subject.hosts).map(|_| rng.below(ms(300))).collect();
    // The cluster has formed and, by chance, is at any point of its heartbeats; the first workload runs on the first host.
    let crash = ms(20_000) + rng.below(ms(1000));
    let timeline = vec![(crash, Fault::PowerLoss { host: 0, back: None })];
    let mut world = World::new(setup, &boots, timeline, rng, tracing);
    world.measure_recovery();
    world.run(END)
}

/// p50, p99 and the largest of many; `None` if there is none.
#[must_use]
pub fn percentiles(mut took: Vec<Micros>) -> Option<[Micros; 3]> {
    took.sort_unstable();
    let at =
        |percent: usize| took.get((took.len() * percent / 100).min(took.len().saturating_sub(1))).copied();
    Some([at(50)?, at(99)?, took.last().copied()?])
}
