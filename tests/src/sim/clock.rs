//! True time, in microseconds since the simulation began, and each node's own clock that drifts from it.

use palisade_proto::Time;

/// True time in microseconds. Only the simulation knows it.
pub type Micros = u64;

/// More than [`Clock::micros`] rounds away.
const ROUNDING: Micros = 8;

/// `ms` milliseconds of true time.
#[must_use]
pub const fn ms(ms: u64) -> Micros {
    ms * 1000
}

/// A node's boot clock: zero at its boot, at a rate that differs from true time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// From here on it has had its present rate.
    since: Micros,
    /// What it read then.
    read: u64,
    /// Parts per million that this clock is fast (or slow, if negative).
    pub ppm: i64,
}

impl Clock {
    /// Reads zero at `booted`.
    #[must_use]
    pub fn new(booted: Micros, ppm: i64) -> Self {
        Self { since: booted, read: 0, ppm }
    }

    /// The same clock, going at another rate from `now` on.
    #[must_use]
    pub fn at_rate(&self, ppm: i64, now: Micros) -> Self {
        Self { since: now, read: self.micros(now), ppm }
    }

    /// What it reads at `now`, in its microseconds.
    #[must_use]
    pub fn micros(&self, now: Micros) -> u64 {
        let since = now.saturating_sub(self.since);
        self.read + since.saturating_add_signed((since as i64).saturating_mul(self.ppm) / 1_000_000)
    }

    /// What the shell hands to the engine: truncated to milliseconds.
    #[must_use]
    pub fn time(&self, now: Micros) -> Time {
        Time(self.micros(now) / 1000)
    }

    /// The first true instant at which the clock reads `time` or later.
    #[must_use]
    pub fn when(&self, time: Time) -> Micros {
        let own = time.0.saturating_mul(1000).saturating_sub(self.read);
        let rate = u64::try_from(1_000_000 + self.ppm).unwrap_or(1);
        let since = u128::from(own) * 1_000_000 / u128::from(rate);
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        let near = self.since.saturating_add(since);
        let (mut early, mut late) = (near.saturating_sub(ROUNDING), near.saturating_add(ROUNDING));
        while early < late {
            let middle = early + (late - early) / 2;
            if self.time(middle) < time {
                early = middle + 1;
            } else {
                late = middle;
            }
        }
        early
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_is_the_inverse_of_time() {
        for ppm in [-300_000, -24_000, -4_970, 0, 4_970, 24_000, 300_000] {
            let clock = Clock::new(5_000_123, ppm / 3).at_rate(ppm, 5_700_456);
            for at in [6_000_000, 123_456_789, 999_999_999] {
                let time = clock.time(at);
                let when = clock.when(time);
                assert!(when <= at && clock.time(when) == time && clock.time(when - 1) < time, "{ppm} {at}");
            }
        }
    }
}
