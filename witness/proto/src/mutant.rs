//! Deliberate breaks of the rules, so that the tests can show that each rule is needed and that its loss would be seen.
//!
//! A line that enforces a rule asks [`on`] whether that rule is broken just now. Without the feature `mutants` the answer is a
//! constant `false` and nothing of this is left in the program; the agent and the witness refuse to be built with it.

/// Whether this build can be broken. No program that ships may be.
pub const MUTABLE: bool = cfg!(feature = "mutants");

macro_rules! mutants {
    ($($(#[doc = $words:literal])+ $name:ident,)+) => {
        /// One rule, broken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mutant {
            $($(#[doc = $words])+ $name,)+
        }

        impl Mutant {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            /// What is broken, in words.
            #[must_use]
            pub const fn words(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($words,)+),)+
                }
            }
        }
    };
}

mutants! {
    /// Counterexample 1: the dead leave E at once.
    DeadLeaveAtOnce,
    /// Counterexample 2: an older packet of a known life is taken like a new one.
    OldPacketsCount,
    /// Counterexample 2, at the witness: an older ask is taken like a new one.
    WitnessTakesOldAsks,
    /// Counterexample 3: a view that returns brings its grants back.
    ViewsReturnWithGrants,
    /// Counterexample 4: a packet of another life counts without an echo.
    DeadBootsSpeak,
    /// Counterexample 5: the proof names who lives when the answer comes.
    ProofNamesTheLiving,
    /// Counterexample 6: the watchdog's bound is a single time-out.
    WatchdogBoundOnce,
    /// Counterexample 6: a gap in the prover's own quorum is forgotten.
    WatchdogGapForgotten,
    /// Counterexample 6: the clock on a watchdog runs from before it was armed.
    WatchdogNeverArmed,
    /// Counterexample 6: a starting process feeds before it is quorate.
    WatchdogFedUnasked,
    /// Counterexample 7: E and D are lost by an agent restart.
    RestartForgetsElectorate,
    /// Counterexample 8: a member takes an admission back that another member has gone on with.
    AdmissionTakenBack,
    /// Counterexample 9: a cold start counts silent hosts as absent.
    ColdStartWithoutSilent,
    /// Counterexample 10: a cold start commits without its confirm round.
    ColdStartUnconfirmed,
    /// Counterexample 11: a locked host joins any lineage.
    LockedJoinsAnyone,
    /// Counterexample 11: a lock is released on mere silence.
    LockReleasedOnSilence,
    /// Counterexample 11: a lock is released on a packet older than it.
    LockReleasedOnOldPacket,
    /// Counterexample 11: a dead decider holds its locks for ever.
    LockNeverReleased,
    /// Counterexample 12: what may still run is not written down.
    ClaimsUnwritten,
    /// Counterexample 13: a restarted witness serves whoever asks first.
    WitnessServesAnyone,
    /// Counterexample 14: a new process speaks before it has listened.
    SpeaksAtOnce,
    /// Counterexample 14: silent members are taken for voters.
    SilentCountAsVoters,
    /// Counterexample 15: `left` is matched by host.
    LeftByHost,
    /// Counterexample 15: `left` is said before it is written.
    LeftUnwritten,
    /// Counterexample 15: a life that leaves has dropped its leases and goes on granting.
    LeftLifeGrants,
    /// Counterexample 16: who announces a restart keeps the grants it holds.
    AwayKeepsGrants,
    /// Counterexample 16: the hold of a restart ends when the host is heard.
    HoldEndsWhenHeard,
    /// Counterexample 17: a death is forgotten while it is still in E: only the last one is kept.
    DeathsForgotten,
    /// A death is forgotten as soon as its host is out of E.
    DeathsKeptInEOnly,
    /// A host grants in its silent period.
    HostSkipsSilence,
    /// The witness grants in its silent period.
    WitnessSkipsSilence,
    /// A grant counts from its receipt.
    LeaseFromReceipt,
    /// A voter's lease is no longer than a holder's.
    NoDrift,
    /// A lease conflicts only if its holder is left out, not if the asker is.
    OneSidedConflict,
    /// Half is a quorum.
    HalfIsQuorum,
    /// Un-admitted hosts vote.
    UnadmittedVote,
    /// Most members suffice for an admission.
    AdmittedByMost,
    /// A newcomer holds others dead by its own observation.
    NewcomerBuries,
    /// The coordinator takes hosts in though members are missing.
    TakenInWithoutAll,
    /// Lives are not told apart: a death is its host's, not its life's.
    LivesAreOne,
    /// The witness keys its leases by host.
    WitnessLeasesByHost,
    /// An acknowledged off is a proof.
    ProofWithoutReading,
    /// Standing is not looked at again when an order is sent.
    StaleStanding,
    /// An order leaves before its intent is on the disk.
    OrderUnintended,
    /// A start does not wait for anybody's word.
    ClaimUnawaited,
    /// A start waits for the view's words, not for everybody's who is counted.
    ClaimAwaitsViewOnly,
    /// A start does not wait for the disk.
    StartUnintended,
    /// The fence budget is ignored.
    BudgetIgnored,
    /// A death by a fence is passed on as any death.
    FencesUntold,
    /// A host in maintenance is given power as any other.
    MaintenanceForgotten,
    /// A host that lost its quorum lets its workloads run.
    LoserRunsOn,
    /// A new life does not look at what runs.
    NewLifeLooksAway,
    /// In a cold start any old `left` counts.
    OldLeftCounts,
    /// In a cold start any old reading counts.
    OldReadingCounts,
    /// In a cold start a silent host is switched off without the witness's consent.
    ColdOffUnasked,
    /// The witness consents to a cold start while an electorate lives.
    ConsentWhileAlive,
    /// The hold of an announced restart is ignored.
    HoldIgnored,
    /// A process fences whom it has never stood with, without waiting for one that may be restarting.
    UnknownsFenced,
    /// A life that hears that it is cut off goes on.
    CutLifeGoesOn,
    /// Cutting a host off frees every workload, also those that it could still harm.
    CutFreesAll,
    /// Paths are opened again for the life that they were closed to.
    CutOpenedAgain,
    /// The coordinator's own firewall is enough of a wall.
    WallOfOneProves,
    /// A wall falls with the order for it, while the life that it is against goes on.
    WallFallsWithOrder,
    /// A member puts up a wall without a quorum.
    WallUnasked,
    /// A host drains and fences itself for a cause that all of them share.
    CommonCauseDrains,
}

/// Whether `mutant` is the one that is broken now.
#[cfg(not(feature = "mutants"))]
#[must_use]
#[inline]
pub const fn on(_mutant: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
static BROKEN: core::sync::atomic::AtomicUsize = core::sync::atomic::AtomicUsize::new(usize::MAX);

/// Whether `mutant` is the one that is broken now.
#[cfg(feature = "mutants")]
#[must_use]
pub fn on(mutant: Mutant) -> bool {
    BROKEN.load(core::sync::atomic::Ordering::Relaxed) == mutant as usize
}

/// Breaks one rule of this process, on every thread; `None` mends it.
#[cfg(feature = "mutants")]
pub fn break_rule(mutant: Option<Mutant>) {
    BROKEN.store(mutant.map_or(usize::MAX, |mutant| mutant as usize), core::sync::atomic::Ordering::Relaxed);
}
