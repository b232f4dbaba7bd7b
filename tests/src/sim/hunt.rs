//! Looking for the first history that sees a broken rule.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use palisade_proto::mutant::Mutant;

use super::shrink::kind;
use super::{History, Plot, run};

/// How far to look for one broken rule.
#[derive(Clone, Copy, Debug)]
pub struct Hunt {
    /// Which rule.
    pub mutant: Mutant,
    /// In which histories; `None`: in those that the seeds draw.
    pub plot: Option<Plot>,
    /// The number of seeds within which it must be seen.
    pub within: u64,
}

/// Where a broken rule was seen.
#[derive(Clone, Debug)]
pub struct Found {
    /// Which invariant failed.
    pub invariant: String,
    /// In which seed.
    pub seed: u64,
}

/// Every rule whose loss the histories show: where it is seen soonest, and within how many seeds, at least twice as many as it
/// took when this was written. The others are seen by the exploration ([`crate::explore::SEEN`]).
#[must_use]
pub fn hunts() -> Vec<Hunt> {
    let hunt = |mutant: &Mutant| {
        let (plot, within) = place(*mutant)?;
        Some(Hunt { mutant: *mutant, plot, within })
    };
    Mutant::ALL.iter().filter_map(hunt).collect()
}

fn place(mutant: Mutant) -> Option<(Option<Plot>, u64)> {
    use Mutant as M;
    Some(match mutant {
        M::DeadBootsSpeak | M::LeftByHost => (Some(Plot::OldWords), 100),
        M::WitnessTakesOldAsks => (Some(Plot::Halves), 1500),
        M::BudgetIgnored | M::FencesUntold => (Some(Plot::Halves), 300),
        M::LeftLifeGrants => (Some(Plot::Flapping), 6000),
        M::WatchdogBoundOnce | M::WatchdogFedUnasked => (Some(Plot::WatchdogAlone), 200),
        M::WatchdogGapForgotten => (Some(Plot::Seesaw), 100),
        M::WatchdogNeverArmed => (Some(Plot::LateJoin), 100),
        M::TakenInWithoutAll => (Some(Plot::JoinBesideLoss), 100),
        M::StaleStanding => (Some(Plot::FrozenHosts), 1000),
        M::NewLifeLooksAway => (Some(Plot::Strays), 100),
        M::LockNeverReleased | M::ColdOffUnasked | M::ConsentWhileAlive => (Some(Plot::ColdChaos), 200),
        M::HoldIgnored | M::HoldEndsWhenHeard | M::SpeaksAtOnce | M::SilentCountAsVoters => {
            (Some(Plot::Harmless), 100)
        }
        M::CutLifeGoesOn | M::CutOpenedAgain | M::CutFreesAll | M::ClaimUnawaited => {
            (Some(Plot::CutOff), 500)
        }
        M::MaintenanceForgotten => (Some(Plot::Maintenance), 500),
        M::CommonCauseDrains => (Some(Plot::Ailing), 100),
        M::WallOfOneProves => (Some(Plot::CutOff), 100),
        M::WallUnasked => (Some(Plot::CutOff), 3000),
        M::WallFallsWithOrder => (Some(Plot::LostProof), 3000),
        M::ProofNamesTheLiving | M::ClaimsUnwritten => (None, 2000),
        M::DeathsKeptInEOnly | M::WitnessSkipsSilence => (None, 6000),
        M::DeadLeaveAtOnce
        | M::OldPacketsCount
        | M::ViewsReturnWithGrants
        | M::RestartForgetsElectorate
        | M::AdmissionTakenBack
        | M::ColdStartWithoutSilent
        | M::LeftUnwritten
        | M::AwayKeepsGrants
        | M::DeathsForgotten
        | M::HostSkipsSilence
        | M::LeaseFromReceipt
        | M::NoDrift
        | M::OneSidedConflict
        | M::HalfIsQuorum
        | M::AdmittedByMost
        | M::ProofWithoutReading
        | M::OrderUnintended
        | M::ClaimAwaitsViewOnly
        | M::StartUnintended
        | M::LoserRunsOn
        | M::UnadmittedVote
        | M::LivesAreOne => (None, 300),
        M::ColdStartUnconfirmed
        | M::LockedJoinsAnyone
        | M::LockReleasedOnSilence
        | M::LockReleasedOnOldPacket
        | M::WitnessServesAnyone
        | M::NewcomerBuries
        | M::WitnessLeasesByHost
        | M::OldLeftCounts
        | M::OldReadingCounts
        | M::UnknownsFenced => return None,
    })
}

/// The first seed, on every core, whose history fails.
#[must_use]
pub fn hunt(hunt: &Hunt, times: u64) -> Option<Found> {
    let within = hunt.within.saturating_mul(times);
    let (next, best) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let found = Mutex::new(None::<Found>);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= within || seed > best.load(Ordering::Relaxed) {
                return;
            }
            let history = History { seed, plot: hunt.plot };
            // A broken rule may also end in an assertion.
            let report = std::panic::catch_unwind(|| run(history, false));
            let invariant = match report {
                Ok(report) => kind(&report),
                Err(_) => Some("panic".to_owned()),
            };
            if let Some(invariant) = invariant
                && best.fetch_min(seed, Ordering::Relaxed) > seed
                && let Ok(mut found) = found.lock()
                && found.as_ref().is_none_or(|found| found.seed > seed)
            {
                *found = Some(Found { invariant, seed });
            }
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    found.into_inner().ok().flatten()
}
