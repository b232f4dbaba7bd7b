//! Time as the pure crates know it: whole milliseconds since an arbitrary start (the shells use `CLOCK_MONOTONIC_RAW`, which nothing slews, and notice a sleep).
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

/// `200ms`, `1s`, `10 min`, `2h`: a whole number with its unit.
impl core::str::FromStr for Duration {
    type Err = NotADuration;

    fn from_str(text: &str) -> Result<Self, NotADuration> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at_checked(digits).ok_or(NotADuration)?;
        let factor = match unit.strip_prefix(' ').unwrap_or(unit) {
            "ms" => 1,
            "s" => 1000,
            "min" => 60_000,
            "h" => 3_600_000,
            _ => return Err(NotADuration),
        };
        let number: u64 = number.parse().map_err(|_| NotADuration)?;
        number.checked_mul(factor).map(Self).ok_or(NotADuration)
    }
}

/// A text that is no length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotADuration;

impl fmt::Display for NotADuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a length of time is a whole number with its unit (ms, s, min, h), such as \"200ms\"")
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

/// `1%`, `0.5%`: a percentage with at most four digits after the point, so that it is a whole number of ppm.
impl core::str::FromStr for Drift {
    type Err = NotADrift;

    fn from_str(text: &str) -> Result<Self, NotADrift> {
        let number = text.strip_suffix('%').ok_or(NotADrift)?;
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(part) {
            return Err(NotADrift);
        }
        let places = u32::try_from(part.len()).map_err(|_| NotADrift)?;
        let unit = 10_u32.pow(4_u32.checked_sub(places).ok_or(NotADrift)?);
        let part = part.parse::<u32>().map_err(|_| NotADrift)?.checked_mul(unit).ok_or(NotADrift)?;
        let whole = whole.parse::<u32>().ok().and_then(|whole| whole.checked_mul(10_000)).ok_or(NotADrift)?;
        whole.checked_add(part).map(|ppm| Self { ppm }).ok_or(NotADrift)
    }
}

/// A text that is no drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotADrift;

impl fmt::Display for NotADrift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a drift is a percentage, such as \"1%\" or \"0.5%\"")
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
    #[test]
    fn lengths_and_drifts_are_read_strictly() {
        for (text, ms) in [("200ms", 200), ("1s", 1000), ("10 min", 600_000), ("2h", 7_200_000), ("0s", 0)] {
            assert_eq!(text.parse(), Ok(Duration(ms)), "{text}");
        }
        for text in ["", "1", "s", "1.5s", "-1s", "1  s", "1S", "99999999999999999999s", "1sx"] {
            assert_eq!(text.parse::<Duration>(), Err(NotADuration), "{text}");
        }
        for (text, ppm) in [("1%", 10_000), ("0.5%", 5000), ("0.0001%", 1), ("20%", 200_000)] {
            assert_eq!(text.parse(), Ok(Drift { ppm }), "{text}");
        }
        for text in ["", "%", "1", ".5%", "1.%", "0.00001%", "-1%", "1e2%", "999999%"] {
            assert_eq!(text.parse::<Drift>(), Err(NotADrift), "{text}");
        }
    }
}
