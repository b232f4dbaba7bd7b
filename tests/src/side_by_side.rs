//! Several things at a time, and the closing line.

use std::sync::Mutex;

/// Does each of these, `jobs` at a time, and prints a closing line. `passes` does one and says whether it passed; so says this of all.
pub fn run<T: Sync>(items: &[T], jobs: usize, passes: impl Fn(&T) -> bool + Sync) -> bool {
    let queue = Mutex::new(items.iter());
    let failed = Mutex::new(0_usize);
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(item) = queue.lock().ok().and_then(|mut queue| queue.next()) {
                    let passed = passes(item);
                    if let Ok(mut failed) = failed.lock() {
                        *failed += usize::from(!passed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or(items.len());
    println!("{} passed, {failed} failed", items.len().saturating_sub(failed));
    failed == 0
}

#[cfg(test)]
mod tests {
    use super::run;

    #[test]
    fn one_that_fails_fails_all_and_each_is_done_once() {
        let done = std::sync::atomic::AtomicUsize::new(0);
        let passes = |item: &usize| {
            done.fetch_add(*item, std::sync::atomic::Ordering::Relaxed);
            *item != 3
        };
        assert!(run(&[1, 2, 4], 2, passes) && !run(&[1, 3], 5, passes));
        assert_eq!(done.into_inner(), 11);
    }
}
