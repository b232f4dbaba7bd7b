//! Where a number is going: a straight line through its recent past, in fixed memory. It reports and nothing else.

use palisade_proto::{Duration, Time};

/// Points of the line: two hours at one a minute, thinned out from there.
const POINTS: usize = 120;
/// Fewer say nothing.
const ENOUGH: usize = 10;
/// Nobody is told of what lies further ahead.
const HORIZON: Duration = Duration::secs(48 * 3600);
/// How well the line must fit: the share of the movement that it explains.
const FIT: f64 = 0.8;

/// A number's recent past.
#[derive(Clone, Debug, Default)]
pub struct Trend {
    points: Vec<(Time, f64)>,
    /// Every so many samples become a point; it doubles when the points are full.
    every: u32,
    skipped: u32,
}

/// A number that reaches its limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warning {
    /// When, from now, if it goes on so.
    pub reached_in: Duration,
}

impl Trend {
    /// Takes a number in; when it reaches `limit` if it goes on as it does, and that is soon.
    pub fn see(&mut self, now: Time, value: f64, limit: f64) -> Option<Warning> {
        if !value.is_finite() {
            return None;
        }
        self.skipped += 1;
        if self.skipped >= self.every.max(1) {
            self.skipped = 0;
            self.points.push((now, value));
            if self.points.len() >= POINTS {
                // The older half is thinned out; what is left reaches back twice as far.
                let mut at = 0;
                self.points.retain(|_| {
                    at += 1;
                    at % 2 == 0
                });
                self.every = self.every.max(1).saturating_mul(2);
            }
        }
        let slope = self.slope()?;
        if slope <= 0.0 || value >= limit {
            return None;
        }
        let ms = (limit - value) / slope;
        // The cast saturates.
        (ms <= HORIZON.0 as f64).then_some(Warning { reached_in: Duration(ms as u64) })
    }

    /// By least squares, for each ms; none if the points do not lie on a line.
    fn slope(&self) -> Option<f64> {
        let (first, _) = *self.points.first()?;
        if self.points.len() < ENOUGH {
            return None;
        }
        let count = self.points.len() as f64;
        let x = |at: Time| at.since(first).0 as f64;
        let mean_x = self.points.iter().map(|(at, _)| x(*at)).sum::<f64>() / count;
        let mean_y = self.points.iter().map(|(_, value)| value).sum::<f64>() / count;
        let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
        for (at, value) in &self.points {
            let (dx, dy) = (x(*at) - mean_x, value - mean_y);
            xx += dx * dx;
            xy += dx * dy;
            yy += dy * dy;
        }
        (xx > 0.0 && yy > 0.0 && xy * xy >= FIT * xx * yy).then_some(xy / xx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(at: u64) -> Time {
        Time(at * 60_000)
    }

    #[test]
    fn a_disk_that_fills_is_told_hours_ahead() {
        let mut trend = Trend::default();
        let mut last = None;
        for at in 0..60 {
            last = trend.see(minutes(at), 50.0 + at as f64 * 0.1, 100.0);
        }
        // 44.1 % to go at 6 % an hour.
        let hours = last.unwrap().reached_in.0 as f64 / 3_600_000.0;
        assert!((7.3..7.4).contains(&hours), "{hours}");
    }

    #[test]
    fn what_stands_swings_falls_or_creeps_is_not_told() {
        let grows: [fn(u64) -> f64; 4] = [
            |_| 50.0,
            |at| if at % 2 == 0 { 40.0 } else { 60.0 },
            |at| 90.0 - at as f64 * 0.1,
            |at| 50.0 + at as f64 * 0.001,
        ];
        for (which, value) in grows.into_iter().enumerate() {
            let mut trend = Trend::default();
            for at in 0..300 {
                assert_eq!(trend.see(minutes(at), value(at), 100.0), None, "{which} at {at}");
            }
        }
    }

    #[test]
    fn its_memory_is_bounded_and_reaches_back() {
        let mut trend = Trend::default();
        (0..10_000).for_each(|at| {
            trend.see(minutes(at), at as f64, 1e9);
        });
        assert!(trend.points.len() <= POINTS && trend.points.capacity() <= 2 * POINTS);
        assert!(trend.points.last().unwrap().0.since(trend.points[0].0) > Duration::secs(5000 * 60));
    }
}
