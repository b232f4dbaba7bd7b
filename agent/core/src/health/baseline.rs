//! What is usual for one number, and what is not. It reports and nothing else: no order rests on it.

use serde::{Deserialize, Serialize};

/// Samples before anything is called unusual.
const LEARNT: u32 = 30;
/// Each new sample counts for this share once the baseline is full: the memory is some five hours at one a minute.
const WEIGHT: f64 = 1.0 / 300.0;
/// More than so many standard deviations from the mean is unusual.
const SIGMAS: f64 = 2.0;
/// A deviation below this share of the mean is nobody's concern, however steady the number was.
const FLOOR: f64 = 0.05;

/// The rolling mean and deviation of one number, in fixed memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    count: u32,
    mean: f64,
    variance: f64,
}

/// A number that is not as usual.
#[derive(Clone, Debug, PartialEq)]
pub struct Anomaly {
    /// The number.
    pub value: f64,
    /// What it usually is.
    pub mean: f64,
    /// The standard deviation of that.
    pub deviation: f64,
}

impl Baseline {
    /// Takes a number in; what is unusual about it.
    pub fn see(&mut self, value: f64) -> Option<Anomaly> {
        if !value.is_finite() {
            return None;
        }
        let deviation = self.variance.max(0.0).sqrt();
        let away = (value - self.mean).abs();
        let unusual = self.count >= LEARNT && away > SIGMAS * deviation && away > FLOOR * self.mean.abs();
        let found = unusual.then_some(Anomaly { value, mean: self.mean, deviation });
        self.count = self.count.saturating_add(1);
        // The plain mean at first, then one that forgets.
        let weight = (1.0 / f64::from(self.count)).max(WEIGHT);
        let from_mean = value - self.mean;
        self.mean += weight * from_mean;
        self.variance = (1.0 - weight) * (self.variance + weight * from_mean * from_mean);
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_far_from_usual_is_found_after_it_has_learnt_what_is() {
        let mut baseline = Baseline::default();
        for at in 0..LEARNT {
            assert_eq!(baseline.see(50.0 + f64::from(at % 3)), None);
        }
        assert_eq!(baseline.see(52.0), None);
        let anomaly = baseline.see(80.0).unwrap();
        assert!((50.0..53.0).contains(&anomaly.mean) && anomaly.deviation < 1.5, "{anomaly:?}");
    }

    #[test]
    fn a_number_that_never_moved_may_move_a_little() {
        let mut baseline = Baseline::default();
        (0..100).for_each(|_| assert_eq!(baseline.see(40.0), None));
        assert_eq!(baseline.see(41.0), None);
        assert!(baseline.see(50.0).is_some());
    }

    #[test]
    fn the_usual_moves_along() {
        let mut baseline = Baseline::default();
        assert!((0..100).all(|_| baseline.see(10.0).is_none()));
        assert!((0..2000).filter(|_| baseline.see(90.0).is_some()).count() < 200);
        assert_eq!(baseline.see(90.0), None);
        assert!(baseline.see(10.0).is_some());
    }

    proptest! {
        #[test]
        fn the_mean_lies_between_what_was_seen(values in proptest::collection::vec(-1e9..1e9f64, 1..200)) {
            let mut baseline = Baseline::default();
            for value in &values {
                let _ = baseline.see(*value);
            }
            let (least, most) =
                values.iter().fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(*value), most.max(*value)));
            prop_assert!(baseline.mean >= least - 1e-3 && baseline.mean <= most + 1e-3);
            prop_assert!(baseline.variance >= -1e-3);
        }
    }
}
