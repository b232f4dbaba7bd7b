//! The clock of leases, and noticing that the board slept.

use nix::time::{ClockId, clock_gettime};
use palisade_proto::Time;

/// More than two readings of different clocks one after another can lie apart, less than any sleep.
const SLEPT_MS: u64 = 20;
/// The start takes the largest difference of so many readings: being interrupted between two makes it smaller.
const START_READINGS: usize = 8;

/// The clock of this process.
#[derive(Debug)]
pub(crate) struct Clock {
    /// `CLOCK_BOOTTIME - CLOCK_MONOTONIC` as far as it is known: the time slept since the boot.
    slept_ms: u64,
}

impl Clock {
    pub(crate) fn start() -> nix::Result<Self> {
        read(ClockId::CLOCK_MONOTONIC_RAW)?;
        let mut slept_ms = 0;
        for _ in 0..START_READINGS {
            slept_ms = slept_ms.max(slept()?);
        }
        Ok(Self { slept_ms })
    }

    /// Now, in ms of `CLOCK_MONOTONIC_RAW`: "nothing slews it; chrony may slew the others by far more than drift"
    /// (PROTOCOL, "Words").
    pub(crate) fn now(&self) -> Time {
        // It worked at the start. If it ever fails: before the start, when the witness is silent and no lease runs out.
        Time(read(ClockId::CLOCK_MONOTONIC_RAW).unwrap_or(0))
    }

    /// "If BOOTTIME - MONOTONIC has grown, the host slept: drop all grants, start a new silent period." True once a sleep.
    pub(crate) fn has_slept(&mut self) -> bool {
        let slept_ms = slept().unwrap_or(self.slept_ms);
        let grown = slept_ms > self.slept_ms.saturating_add(SLEPT_MS);
        if grown {
            self.slept_ms = slept_ms;
        }
        grown
    }
}

/// `CLOCK_BOOTTIME` is read first: what comes between the readings makes the difference smaller, never larger.
fn slept() -> nix::Result<u64> {
    let boottime = read(ClockId::CLOCK_BOOTTIME)?;
    Ok(boottime.saturating_sub(read(ClockId::CLOCK_MONOTONIC)?))
}

fn read(clock: ClockId) -> nix::Result<u64> {
    let time = clock_gettime(clock)?;
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let milliseconds = u64::try_from(time.tv_nsec()).unwrap_or(0) / 1_000_000;
    Ok(seconds.saturating_mul(1000).saturating_add(milliseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_awake_machine_has_not_slept_and_one_that_has_says_so_once() {
        let mut clock = Clock::start().unwrap();
        for _ in 0..1000 {
            assert!(!clock.has_slept());
        }
        let true_sleep = clock.slept_ms;
        if true_sleep > SLEPT_MS {
            clock.slept_ms = true_sleep - SLEPT_MS - 1;
            assert!(clock.has_slept());
            assert!(!clock.has_slept());
        }
    }
}
