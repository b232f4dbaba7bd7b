//! What benchmarks that compare share.

use std::time::Duration;

/// One line: the median, the least and the most.
pub(crate) fn tell(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let ms = |time: &Duration| time.as_secs_f64() * 1000.0;
    let (median, last) = (times[times.len() / 2], times[times.len() - 1]);
    println!("  {name:<32} {:>9.1} ({:.1}-{:.1}) ms", ms(&median), ms(&times[0]), ms(&last));
}
