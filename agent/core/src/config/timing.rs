//! Every time-out of the protocol and the relations between them (SAFE-10; PROTOCOL, "Limits on parameters").

use std::path::{Path, PathBuf};

use palisade_proto::mutant::{self, Mutant};
use palisade_proto::{Drift, Duration, time::voter_length};

use super::contradiction::{Contradiction, round_trip_contradiction};

/// Which set of defaults [`Timing`] starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Lease 1 s.
    #[default]
    Default,
    /// Lease 250 ms, for quiet networks with a fast broker.
    Fast,
}

/// All time-outs of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    pub(super) heartbeat: Duration,
    pub(super) lease: Duration,
    pub(super) suspect: Duration,
    pub(super) drift: Drift,
    pub(super) grace: Duration,
    pub(super) rejoin_hold: Duration,
    pub(super) join_timeout: Duration,
    pub(super) boot_wait: Duration,
    pub(super) restart_hold: Duration,
    pub(super) cold_off_wait: Duration,
    pub(super) order_deadline: Duration,
    pub(super) broker_round_trip: Duration,
}

impl Timing {
    /// The defaults of a profile.
    #[must_use]
    pub fn of(profile: Profile) -> Self {
        let (heartbeat, lease, suspect, broker_round_trip) = match profile {
            Profile::Default => (200, 1000, 1020, 200),
            Profile::Fast => (50, 250, 260, 50),
        };
        Self {
            heartbeat: Duration::ms(heartbeat),
            lease: Duration::ms(lease),
            suspect: Duration::ms(suspect),
            drift: Drift { ppm: 10_000 },
            grace: Duration::secs(3),
            rejoin_hold: Duration::secs(10),
            join_timeout: Duration::secs(10),
            boot_wait: Duration::secs(2),
            restart_hold: Duration::secs(5),
            cold_off_wait: Duration::secs(600),
            order_deadline: Duration::secs(20),
            broker_round_trip: Duration::ms(broker_round_trip),
        }
    }

    /// hb: how often a heartbeat goes out.
    #[must_use]
    pub fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    /// Ls: how long a holder counts a grant.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// vls: how long a voter keeps one; also its silent period after a start.
    #[must_use]
    pub fn voter_lease(&self) -> Duration {
        if mutant::on(Mutant::NoDrift) { self.lease } else { voter_length(self.lease, self.drift) }
    }

    /// After how much silence a host is no longer heard.
    #[must_use]
    pub fn suspect(&self) -> Duration {
        self.suspect
    }

    /// The bound on the ratio of two clock rates.
    #[must_use]
    pub fn drift(&self) -> Drift {
        self.drift
    }

    /// How long a host may be without quorum before it kills its workloads.
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// How long a new incarnation is heard steadily before it may join.
    #[must_use]
    pub fn rejoin_hold(&self) -> Duration {
        self.rejoin_hold
    }

    /// How long a joining host has until it is admitted.
    #[must_use]
    pub fn join_timeout(&self) -> Duration {
        self.join_timeout
    }

    /// How long a host must be silent in a cold start before its BMC is read.
    #[must_use]
    pub fn boot_wait(&self) -> Duration {
        self.boot_wait
    }

    /// How long a host that said `away` is not fenced.
    #[must_use]
    pub fn restart_hold(&self) -> Duration {
        self.restart_hold
    }

    /// How long a cold start waits for a silent host before it may be sent off.
    #[must_use]
    pub fn cold_off_wait(&self) -> Duration {
        self.cold_off_wait
    }

    /// The end of one fence of one victim, all retries included.
    #[must_use]
    pub fn order_deadline(&self) -> Duration {
        self.order_deadline
    }

    /// What an ask of the witness and its answer take together, assumed until measured.
    #[must_use]
    pub fn broker_round_trip(&self) -> Duration {
        self.broker_round_trip
    }

    /// Whether the broker, as measured, is too slow for the lease (SAFE-10): a reason not to arm.
    #[must_use]
    pub fn too_slow_a_broker(&self, measured: Duration) -> Option<Contradiction> {
        round_trip_contradiction(self, measured)
    }
}

/// The hardware watchdog of each host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watchdog {
    pub(super) device: PathBuf,
    pub(super) timeout: Duration,
    pub(super) margin: Duration,
    pub(super) runs_while_frozen: bool,
}

impl Watchdog {
    /// The device file.
    #[must_use]
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// T: whole seconds.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Added to the bound for the reset itself.
    #[must_use]
    pub fn margin(&self) -> Duration {
        self.margin
    }

    /// Whether it keeps running when the host is frozen; without that it never proves a death.
    #[must_use]
    pub fn runs_while_frozen(&self) -> bool {
        self.runs_while_frozen
    }

    /// After how much silence the host is dead: `3*T*(1+drift) + margin`. Three, because a freeze between the check and
    /// the feed can delay one feed by T, and the kernel pings once when a dead process's device is closed.
    #[must_use]
    pub fn bound(&self, drift: Drift) -> Duration {
        Duration(drift.stretch(self.timeout.times(3)).0.saturating_add(self.margin.0))
    }
}
