//! True time, in microseconds since the simulation began, and each node's own clock that drifts from it.

use palisade_proto::Time;

/// True time in microseconds. Only the simulation knows it.
pub type Micros = u64;

/// More than [`Clock::micros`] rounds away: it takes the drift of whole milliseconds, at most 5 %.
const ROUNDING: Micros = 64;

/// `ms` milliseconds of true time.
#[must_use]
pub const fn ms(ms: u64) -> Micros {
    ms * 1000
}

/// A node's boot clock: zero at its boot, at a rate that differs from true time by a constant.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    booted: Micros,
    /// Parts per million that this clock is fast (or slow, if negative).
    pub ppm: i64,
}

impl Clock {
    /// Reads zero at `booted`.
    #[must_use]
    pub fn new(booted: Micros, ppm: i64) -> Self {
        Self { booted, ppm }
    }

    /// What it reads at `now`, in its microseconds.
    #[must_use]
    pub fn micros(&self, now: Micros) -> u64 {
        let since = now.saturating_sub(self.booted);
        since.saturating_add_signed((since as i64) / 1000 * self.ppm / 1000)
    }

    /// What the shell hands to the engine: truncated to milliseconds.
    #[must_use]
    pub fn time(&self, now: Micros) -> Time {
        Time(self.micros(now) / 1000)
    }

    /// The first true instant at which the clock reads `time` or later.
    #[must_use]
    pub fn when(&self, time: Time) -> Micros {
        let own = time.0.saturating_mul(1000);
        let rate = u64::try_from(1_000_000 + self.ppm).unwrap_or(1);
        let since = u128::from(own) * 1_000_000 / u128::from(rate);
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        let mut at = self.booted.saturating_add(since.saturating_sub(ROUNDING));
        while self.time(at) < time {
            at += 1;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_is_the_inverse_of_time() {
        for ppm in [-24_000, -4_970, 0, 4_970, 24_000] {
            let clock = Clock::new(5_000_123, ppm);
            for at in [6_000_000, 123_456_789, 999_999_999] {
                let time = clock.time(at);
                let when = clock.when(time);
                assert!(when <= at && clock.time(when) == time && clock.time(when - 1) < time, "{ppm} {at}");
            }
        }
    }
}
