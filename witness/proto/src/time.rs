//! Time as the pure crates know it: whole milliseconds since an arbitrary start (the shell uses `CLOCK_BOOTTIME`).
//!
//! Rounding is one-sided, so that a millisecond's truncation can never lengthen a right: a shell truncates its clock;
//! a holder adds [`Duration`]s as they are to a send time read before the packet was built; a voter's lengths go through
//! [`voter_length`], which rounds up and adds the millisecond that truncation may have taken.

use core::fmt;

use serde::{Deserialize, Serialize};

/// An instant, in ms since an arbitrary start. Never compared between hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Time(pub u64);

/// A length of time, in ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Duration(pub u64);

impl Time {
    /// This instant plus `length`; stays at the end of time instead of wrapping.
    #[must_use]
    pub const fn after(self, length: Duration) -> Self {
        Self(self.0.saturating_add(length.0))
    }

    /// How long ago `earlier` was; zero if it is in the future.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }
}

impl Duration {
    /// So many milliseconds.
    #[must_use]
    pub const fn ms(ms: u64) -> Self {
        Self(ms)
    }

    /// So many seconds.
    #[must_use]
    pub const fn secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// `self` times a whole number.
    #[must_use]
    pub const fn times(self, factor: u64) -> Self {
        Self(self.0.saturating_mul(factor))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 >= 1000 && self.0.is_multiple_of(1000) {
            write!(f, "{} s", self.0 / 1000)
        } else {
            write!(f, "{} ms", self.0)
        }
    }
}

/// The bound on the ratio of two clock rates, in parts per million (1 % = 10,000).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Drift {
    /// Parts per million.
    pub ppm: u32,
}

impl Drift {
    /// `length * (1 + drift)`, rounded up.
    #[must_use]
    pub const fn stretch(self, length: Duration) -> Duration {
        let scaled = length.0 as u128 * (1_000_000 + self.ppm as u128);
        let ms = scaled.div_ceil(1_000_000);
        Duration(if ms > u64::MAX as u128 { u64::MAX } else { ms as u64 })
    }
}

/// A voter's length for a holder's `lease` (PROTOCOL: vls = Ls*(1+drift), rounded up): one more ms covers the truncation
/// of the voter's clock.
#[must_use]
pub const fn voter_length(lease: Duration, drift: Drift) -> Duration {
    Duration(drift.stretch(lease).0.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_voters_length_rounds_up_and_covers_truncation() {
        let one_percent = Drift { ppm: 10_000 };
        assert_eq!(voter_length(Duration::ms(1000), one_percent), Duration::ms(1011));
        assert_eq!(voter_length(Duration::ms(250), one_percent), Duration::ms(254));
        assert_eq!(voter_length(Duration::ms(1000), Drift { ppm: 0 }), Duration::ms(1001));
        assert_eq!(Drift { ppm: u32::MAX }.stretch(Duration(u64::MAX)), Duration(u64::MAX));
    }
}
