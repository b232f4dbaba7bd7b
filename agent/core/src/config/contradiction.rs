//! The timing check (SAFE-10): which time-outs contradict one another. A configuration with one refuses to load.

use core::fmt;

use palisade_proto::Duration;

use super::{Device, Timing, Watchdog};

/// How long killing every workload of a host may take once `grace` has run out: a kill, never a graceful shutdown.
pub const KILL: Duration = Duration::secs(5);

/// One inequality between time-outs that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    left: String,
    value: Duration,
    relation: Relation,
    right: String,
    bound: Duration,
    /// The settings that take part, the likeliest culprit first.
    pub(super) settings: Vec<String>,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { left, value, relation, right, bound, .. } = self;
        write!(f, "{left} ({value}) must be {relation} {right} = {bound}")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    AtLeast,
    AtMost,
    Above,
    Below,
}

impl Relation {
    fn holds(self, value: Duration, bound: Duration) -> bool {
        match self {
            Self::AtLeast => value >= bound,
            Self::AtMost => value <= bound,
            Self::Above => value > bound,
            Self::Below => value < bound,
        }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AtLeast => "at least",
            Self::AtMost => "at most",
            Self::Above => "more than",
            Self::Below => "less than",
        })
    }
}

/// The inequalities that do not hold, in the order of the protocol's list.
#[derive(Default)]
struct Findings(Vec<Contradiction>);

impl Findings {
    fn require(
        &mut self,
        (left, value): (&str, Duration),
        relation: Relation,
        (right, bound): (&str, Duration),
        settings: &[&str],
    ) {
        if !relation.holds(value, bound) {
            self.0.push(Contradiction {
                left: left.to_owned(),
                value,
                relation,
                right: right.to_owned(),
                bound,
                settings: settings.iter().map(|setting| (*setting).to_owned()).collect(),
            });
        }
    }
}

/// Every inequality that does not hold among these (SAFE-10).
pub(super) fn contradictions(
    timing: &Timing,
    watchdog: Option<&Watchdog>,
    with_witness: bool,
    devices: &[Device],
) -> Vec<Contradiction> {
    use Relation::{Above, AtLeast};
    let mut found = Findings::default();
    // SAFE-10: Ls >= 4*hb, so that three lost heartbeats cost no quorum.
    found.require(
        ("timing.lease", timing.lease),
        AtLeast,
        ("4*timing.heartbeat", timing.heartbeat.times(4)),
        &["timing.lease", "timing.heartbeat"],
    );
    // SAFE-10: suspect >= vls, so that leases given to a crashed host have run out when it leaves the view.
    found.require(
        ("timing.suspect", timing.suspect),
        AtLeast,
        ("timing.lease*(1+drift), rounded up", timing.voter_lease()),
        &["timing.suspect", "timing.lease", "timing.drift"],
    );
    // SAFE-10: rejoin_hold > suspect.
    found.require(
        ("timing.rejoin_hold", timing.rejoin_hold),
        Above,
        ("timing.suspect", timing.suspect),
        &["timing.rejoin_hold", "timing.suspect"],
    );
    if with_witness {
        found.0.extend(round_trip_contradiction(timing, timing.broker_round_trip));
    }
    if let Some(watchdog) = watchdog {
        watchdog_contradictions(timing, watchdog, &mut found);
    }
    for device in devices {
        device_contradictions(timing, device, &mut found);
    }
    found.0
}

fn watchdog_contradictions(timing: &Timing, watchdog: &Watchdog, found: &mut Findings) {
    use Relation::{AtLeast, AtMost, Below};
    let period = ("watchdog.timeout", watchdog.timeout);
    // SAFE-10: T >= 5*Ls.
    found.require(
        period,
        AtLeast,
        ("5*timing.lease", timing.lease.times(5)),
        &["watchdog.timeout", "timing.lease"],
    );
    // SAFE-10: grace < T and grace + kill < T: the second says both, since a kill takes time.
    found.require(
        ("timing.grace plus 5 s for the kill", Duration(timing.grace.0.saturating_add(KILL.0))),
        Below,
        period,
        &["timing.grace", "watchdog.timeout"],
    );
    // SAFE-10: feed at most every T/4; the check that feeds runs once a heartbeat.
    found.require(
        ("timing.heartbeat", timing.heartbeat),
        AtMost,
        ("watchdog.timeout/4", Duration(watchdog.timeout.0 / 4)),
        &["timing.heartbeat", "watchdog.timeout"],
    );
    // SAFE-10: restart_hold < T: an agent that does not come back is reset by its own watchdog, not shot first.
    found.require(
        ("timing.restart_hold", timing.restart_hold),
        Below,
        period,
        &["timing.restart_hold", "watchdog.timeout"],
    );
}

fn device_contradictions(timing: &Timing, device: &Device, found: &mut Findings) {
    let Device { name, deadline, retries, .. } = device;
    let settings = [format!("device.{name}.deadline"), format!("device.{name}.retries")];
    // SAFE-10: device deadline x retries < order deadline.
    found.require(
        (&format!("device `{name}`: deadline*retries"), deadline.times(u64::from(*retries))),
        Relation::Below,
        ("timing.order_deadline", timing.order_deadline),
        &[&settings[0], &settings[1], "timing.order_deadline"],
    );
    // SAFE-10: rejoin_hold >= the longest BMC read that a cold start accepts.
    found.require(
        ("timing.rejoin_hold", timing.rejoin_hold),
        Relation::AtLeast,
        (&format!("the deadline of device `{name}`"), *deadline),
        &["timing.rejoin_hold", &settings[0]],
    );
}

/// Whether the broker is too slow for the lease: `round_trip` assumed at load, measured later (SAFE-10).
pub(super) fn round_trip_contradiction(timing: &Timing, round_trip: Duration) -> Option<Contradiction> {
    let mut found = Findings::default();
    // SAFE-10: broker round trip < Ls/2, else the witness's support expires before it arrives.
    found.require(
        ("timing.broker_round_trip", round_trip),
        Relation::Below,
        ("timing.lease/2", Duration(timing.lease.0 / 2)),
        &["timing.broker_round_trip", "timing.lease"],
    );
    found.0.pop()
}
