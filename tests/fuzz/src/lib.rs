//! The fuzz targets for libFuzzer. What they check stands in `../targets`, which the test `corpus` runs too.

#[path = "../targets/mod.rs"]
mod targets;

/// Runs one target on one input.
///
/// # Panics
/// If a property does not hold, or there is no such target.
pub fn run(name: &str, bytes: &[u8]) {
    match targets::ALL.iter().find(|(known, _)| *known == name) {
        Some((_, target)) => target(bytes),
        None => panic!("there is no target {name}"),
    }
}
