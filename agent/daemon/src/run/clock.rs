//! The engine's clock and its alarm.
//!
//! PROTOCOL: leases are measured on a clock that nothing slews, and a host that slept must notice. So `now` is
//! CLOCK_MONOTONIC_RAW plus the time that this boot has slept (CLOCK_BOOTTIME minus CLOCK_MONOTONIC): it never runs
//! back, never follows chrony, and means the same to every process of one boot.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use palisade_proto::Time;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::identity;

/// BOOTTIME and MONOTONIC are read one after the other: a difference smaller than this is the gap between the reads, and no
/// machine sleeps so shortly. Well below what drift allows for in the shortest lease.
const SLEEP_MIN_US: u64 = 2_000;
/// A timer is never armed for longer: nothing in the engine waits for more than this unasked.
const ALARM_MAX_US: u64 = 60_000_000;

/// The engine's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    slept_us: u64,
    slept: bool,
}

impl Clock {
    /// The clock of this boot.
    pub(crate) fn new() -> Self {
        Self { slept_us: slept_us(), slept: false }
    }

    /// Now, in us.
    pub(crate) fn now_us(&mut self) -> u64 {
        let slept = slept_us();
        if slept > self.slept_us.saturating_add(SLEEP_MIN_US) {
            self.slept_us = slept;
            self.slept = true;
        }
        identity::raw_us().saturating_add(self.slept_us)
    }

    /// Whether the machine has slept since this was last asked.
    pub(crate) fn has_slept(&mut self) -> bool {
        std::mem::take(&mut self.slept)
    }

    /// Now as the engine counts: truncated to ms.
    pub(crate) fn now(&mut self) -> Time {
        Time(self.now_us() / 1000)
    }
}

/// Now in us, for a right that ends: never earlier than [`Clock`] says, whatever comes between the reads. Without state, for
/// the second thread.
pub(crate) fn latest_us() -> u64 {
    let awake = identity::monotonic_us();
    // One more for the fractions that whole us leave out.
    let slept = identity::boottime_us().saturating_add(1).saturating_sub(awake);
    identity::raw_us().saturating_add(slept)
}

/// How long this boot has slept. Being moved off the processor between two of the reads shows in the outer pair.
fn slept_us() -> u64 {
    let mut slept = 0;
    for _ in 0..4 {
        let before = identity::monotonic_us();
        let boot = identity::boottime_us();
        let after = identity::monotonic_us();
        slept = boot.saturating_sub(after);
        if after.saturating_sub(before) < 1000 {
            break;
        }
    }
    slept
}

/// Wakes the run loop. A kernel timer on CLOCK_BOOTTIME: precise to the scheduler, and due at once after a sleep.
pub(crate) struct Alarm {
    timer: AsyncFd<Timer>,
    due_us: Option<u64>,
}

struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Alarm {
    /// An alarm that is not set. Called within the run loop's runtime.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?;
        // SAFETY: the descriptor is the timer's own, from its creation until it is dropped with the `AsyncFd`.
        let timer = unsafe { AsyncFd::register_with_interest(Timer(timer), Interest::READABLE) };
        Ok(Self { timer: timer.map_err(io::Error::from)?, due_us: None })
    }

    /// Sets it for `wake`, unless it is set for that already. A `wake` that is past rings at once.
    pub(crate) fn set(&mut self, wake: Time, now_us: u64) -> io::Result<()> {
        let due_us = wake.0.saturating_mul(1000);
        if self.due_us == Some(due_us) {
            return Ok(());
        }
        let delay = due_us.saturating_sub(now_us).clamp(1, ALARM_MAX_US);
        let delay = TimeSpec::from_duration(std::time::Duration::from_micros(delay));
        self.timer.get_ref().0.set(Expiration::OneShot(delay), TimerSetTimeFlags::empty())?;
        self.due_us = Some(due_us);
        Ok(())
    }

    /// Waits until it rings. It may ring early by what the clocks differ: the caller compares times and sets it again.
    /// Dropped before it rings, it stays set.
    pub(crate) async fn ring(&mut self) -> io::Result<()> {
        loop {
            let mut guard = self.timer.readable().await?;
            // The count of expirations does not matter; reading it is what makes the timer quiet again.
            match guard.try_io(|timer| {
                let mut count = [0; 8];
                nix::unistd::read(timer.get_ref().0.as_fd(), &mut count).map_err(io::Error::from)
            }) {
                Ok(read) => {
                    read?;
                    self.due_us = None;
                    return Ok(());
                }
                Err(_would_block) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_does_not_run_back() {
        let mut clock = Clock::new();
        let mut last = clock.now_us();
        for _ in 0..10_000 {
            let now = clock.now_us();
            assert!(now >= last);
            last = now;
        }
    }

    #[test]
    fn the_clock_of_ending_rights_is_never_behind() {
        let mut clock = Clock::new();
        for _ in 0..10_000 {
            let now = clock.now_us();
            assert!(latest_us() >= now);
        }
    }

    #[test]
    fn an_alarm_rings_when_set_and_a_past_one_at_once() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut clock = Clock::new();
            let mut alarm = Alarm::new().unwrap();
            let start = clock.now_us();
            alarm.set(Time(start / 1000 + 30), start).unwrap();
            tokio::time::timeout(std::time::Duration::from_secs(5), alarm.ring()).await.unwrap().unwrap();
            let rang = clock.now_us() - start;
            assert!((28_000..2_000_000).contains(&rang), "rang after {rang} us");
            alarm.set(Time(0), clock.now_us()).unwrap();
            tokio::time::timeout(std::time::Duration::from_secs(5), alarm.ring()).await.unwrap().unwrap();
        });
    }
}
