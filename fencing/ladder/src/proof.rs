//! What makes an incarnation harmless for good, with the evidence for it.
//!
//! Decides: which evidence amounts to a proof. A [`Proof`] can be made in this crate only, is not `Clone`, and is not read
//! back from disk or wire: recovery takes it by value. There is no way to make one out of elapsed time alone.

use core::fmt;

use palisade_proto::{Duration, Incarnation, Time};
use serde::{Deserialize, Serialize};

use crate::{DeviceId, Effect};

/// The kinds of proof (DESIGN, "Proof"). An assumption is none of them: see [`crate::Outcome::Assumed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProofKind {
    /// Power read off after the off was acknowledged, or refused because already off.
    PowerOff,
    /// The incarnation's own word that it has ended.
    Left,
    /// Another incarnation of the same machine was heard.
    Reborn,
    /// Silence past the bound of an armed hardware watchdog.
    WatchdogExpired,
    /// Every path to shared storage cut, and read back so.
    StorageRevoked,
    /// Every network path cut, and read back so.
    NetworkCut,
    /// An operator's statement.
    Operator,
    /// A member of the same lineage holds a proof; its own record says of which kind.
    Gossiped,
}

impl ProofKind {
    /// Its name in configuration and records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PowerOff => "power_off",
            Self::Left => "left",
            Self::Reborn => "reborn",
            Self::WatchdogExpired => "watchdog_expired",
            Self::StorageRevoked => "storage_revoked",
            Self::NetworkCut => "network_cut",
            Self::Operator => "operator",
            Self::Gossiped => "gossiped",
        }
    }

    /// Whether the incarnation is dead (its vote is gone), rather than only cut from shared state.
    #[must_use]
    pub const fn kills(self) -> bool {
        match self {
            Self::PowerOff
            | Self::Left
            | Self::Reborn
            | Self::WatchdogExpired
            | Self::Operator
            | Self::Gossiped => true,
            Self::StorageRevoked | Self::NetworkCut => false,
        }
    }
}

impl fmt::Display for ProofKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What one power device showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffReading {
    /// The device.
    pub device: DeviceId,
    /// Which of its attempts.
    pub attempt: u32,
    /// The off was refused because the power was off already (otherwise: acknowledged).
    pub already_off: bool,
    /// When the device answered the off.
    pub answered_at: Time,
    /// When the reading that says off arrived; it was sent after `answered_at`.
    pub read_at: Time,
}

/// What a proof rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// Every power device of one level read off.
    PowerOff {
        /// One entry per device.
        readings: Vec<OffReading>,
        /// This fence cut power that was not known to be off already (SAFE-8).
        cut: bool,
    },
    /// Every device of one level read off: no path of that kind is open to the host any more.
    Isolated {
        /// One entry per device.
        readings: Vec<OffReading>,
        /// This fence cut a path that was not known to be cut already (SAFE-8).
        cut: bool,
    },
    /// The host's own sealed word.
    Left,
    /// A sealed, fresh heartbeat of the same machine.
    Reborn {
        /// The incarnation that spoke.
        by: Incarnation,
    },
    /// An armed watchdog that had no feed for long enough.
    WatchdogExpired {
        /// How long the prover has been quorate without the victim, without a gap.
        silent: Duration,
        /// The bound that the victim advertised.
        bound: Duration,
    },
    /// A statement.
    Operator {
        /// Who states it.
        by: String,
        /// What was checked, in their words.
        statement: String,
    },
    /// Another member's proof.
    Gossiped {
        /// Who holds it.
        from: Incarnation,
        /// It died by a fence that cut power.
        fenced: bool,
    },
}

/// One incarnation can do no more harm; `kind` says in which sense.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[must_use = "a proof releases workloads: record it and hand it to recovery"]
pub struct Proof {
    victim: Incarnation,
    kind: ProofKind,
    at: Time,
    evidence: Evidence,
}

impl Proof {
    /// The victim said, in an accepted packet, that this life of it has ended.
    pub fn left(victim: Incarnation, at: Time) -> Self {
        Self { victim, kind: ProofKind::Left, at, evidence: Evidence::Left }
    }

    /// A packet of `by` was accepted, from the machine that the configuration pins. `None` unless `by` is another life of
    /// the victim's host.
    pub fn reborn(victim: Incarnation, by: Incarnation, at: Time) -> Option<Self> {
        (by.host == victim.host && by != victim).then_some(Self {
            victim,
            kind: ProofKind::Reborn,
            at,
            evidence: Evidence::Reborn { by },
        })
    }

    /// The prover has been quorate without the victim for `silent`, without a gap. `None` if that is shorter than the bound
    /// which the victim advertised, or if it advertised none (zero).
    pub fn watchdog_expired(
        victim: Incarnation,
        silent: Duration,
        bound: Duration,
        at: Time,
    ) -> Option<Self> {
        (bound > Duration::ms(0) && silent >= bound).then_some(Self {
            victim,
            kind: ProofKind::WatchdogExpired,
            at,
            evidence: Evidence::WatchdogExpired { silent, bound },
        })
    }

    /// An operator says so. The caller has checked who that is and that no member hears the host.
    pub fn operator(victim: Incarnation, by: String, statement: String, at: Time) -> Self {
        Self { victim, kind: ProofKind::Operator, at, evidence: Evidence::Operator { by, statement } }
    }

    /// An admitted member of the same electorate and lineage lists the victim as dead.
    pub fn gossiped(victim: Incarnation, from: Incarnation, fenced: bool, at: Time) -> Self {
        Self { victim, kind: ProofKind::Gossiped, at, evidence: Evidence::Gossiped { from, fenced } }
    }

    /// SAFE-4: only the fence machine of this crate has such readings.
    pub(crate) fn read_off(
        victim: Incarnation,
        effect: Effect,
        readings: Vec<OffReading>,
        cut: bool,
        at: Time,
    ) -> Self {
        let evidence = match effect {
            Effect::Power => Evidence::PowerOff { readings, cut },
            Effect::Storage | Effect::Network => Evidence::Isolated { readings, cut },
        };
        Self { victim, kind: effect.proves(), at, evidence }
    }

    /// The incarnation that can do no more harm.
    #[must_use]
    pub fn victim(&self) -> Incarnation {
        self.victim
    }

    /// Of which kind.
    #[must_use]
    pub fn kind(&self) -> ProofKind {
        self.kind
    }

    /// When the prover had it, on its own clock.
    #[must_use]
    pub fn at(&self) -> Time {
        self.at
    }

    /// What it rests on.
    #[must_use]
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// Whether the incarnation is dead, rather than only cut from shared state.
    #[must_use]
    pub fn kills(&self) -> bool {
        self.kind.kills()
    }

    /// SAFE-8: whether this counts against the fence budget: a fence cut what was not off already.
    #[must_use]
    pub fn spent_budget(&self) -> bool {
        match &self.evidence {
            Evidence::PowerOff { cut, .. } | Evidence::Isolated { cut, .. } => *cut,
            Evidence::Gossiped { fenced, .. } => *fenced,
            Evidence::Left
            | Evidence::Reborn { .. }
            | Evidence::WatchdogExpired { .. }
            | Evidence::Operator { .. } => false,
        }
    }
}

/// One line for an operator.
impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.victim)?;
        match &self.evidence {
            Evidence::PowerOff { readings, .. } | Evidence::Isolated { readings, .. } => {
                f.write_str(match self.kind {
                    ProofKind::StorageRevoked => "reaches its storage no more: ",
                    ProofKind::NetworkCut => "reaches its network no more: ",
                    ProofKind::PowerOff
                    | ProofKind::Left
                    | ProofKind::Reborn
                    | ProofKind::WatchdogExpired
                    | ProofKind::Operator
                    | ProofKind::Gossiped => "is off: ",
                })?;
                for (index, reading) in readings.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    let answer = if reading.already_off { "refused as already off" } else { "acknowledged" };
                    write!(f, "{comma}device {} {answer}, then read off", reading.device)?;
                }
                Ok(())
            }
            Evidence::Left => f.write_str("has left by its own word"),
            Evidence::Reborn { by } => write!(f, "is gone: its machine now lives as {by}"),
            Evidence::WatchdogExpired { silent, bound } => {
                write!(f, "was reset by its watchdog: silent for {silent}, bound {bound}")
            }
            Evidence::Operator { by, statement } => write!(f, "is dead, says {by}: {statement}"),
            Evidence::Gossiped { from, .. } => write!(f, "is dead: {from} holds the proof"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_proto::HostId;

    fn life(host: u8, life: u8) -> Incarnation {
        Incarnation::new(HostId::new(host).unwrap(), [life; 8])
    }

    #[test]
    fn only_another_life_of_the_same_host_proves_a_rebirth() {
        assert!(Proof::reborn(life(1, 1), life(1, 2), Time(5)).is_some());
        assert_eq!(Proof::reborn(life(1, 1), life(1, 1), Time(5)), None);
        assert_eq!(Proof::reborn(life(1, 1), life(2, 2), Time(5)), None);
    }

    #[test]
    fn a_watchdog_proves_nothing_before_its_bound_or_without_one() {
        let proof = |silent, bound| {
            Proof::watchdog_expired(life(1, 1), Duration::ms(silent), Duration::ms(bound), Time(9))
        };
        assert!(proof(32_300, 32_300).is_some());
        assert_eq!(proof(32_299, 32_300), None);
        assert_eq!(proof(1_000_000, 0), None);
    }

    #[test]
    fn isolation_is_not_death() {
        for kind in [ProofKind::StorageRevoked, ProofKind::NetworkCut] {
            assert!(!kind.kills(), "{kind}");
        }
        assert!(Proof::left(life(1, 1), Time(0)).kills());
    }

    /// SAFE-8
    #[test]
    fn a_gossiped_fence_counts_against_the_budget_and_other_deaths_do_not() {
        assert!(Proof::gossiped(life(1, 1), life(2, 1), true, Time(0)).spent_budget());
        assert!(!Proof::gossiped(life(1, 1), life(2, 1), false, Time(0)).spent_budget());
        assert!(!Proof::left(life(1, 1), Time(0)).spent_budget());
        assert!(!Proof::operator(life(1, 1), "root".into(), "saw it".into(), Time(0)).spent_budget());
    }
}
