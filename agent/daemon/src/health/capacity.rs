//! How full this host is: from sysinfo what it has, from `/proc` and `/sys` the rest. What cannot be read is left out.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use palisade_core::health::Capacity;
use sysinfo::{Components, MemoryRefreshKind, System};

const PRESSURES: [&str; 3] = ["cpu", "memory", "io"];
/// The most sensors that are told of (SAFE-12): a large board has some fifty.
const SENSORS_MAX: usize = 64;

/// Reads it all. May never return: a dead NFS server holds whoever asks for the room on it.
pub(super) fn look(disks: &[PathBuf]) -> Capacity {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // The cast saturates.
    let load = System::load_average().ok().map(|load| (load.one * 1000.0 / cores as f64) as u32);
    let pressure = PRESSURES.iter().filter_map(|what| {
        let text = fs::read_to_string(format!("/proc/pressure/{what}")).ok()?;
        Some(((*what).to_owned(), pressure(&text)?))
    });
    let disks = disks.iter().filter_map(|disk| Some((disk.display().to_string(), taken(disk)?)));
    Capacity {
        load_permille: load,
        memory_permille: memory(),
        pressure_permille: pressure.collect(),
        disk_permille: disks.collect(),
        temperature_millicelsius: temperatures(),
        corrected_memory_errors: corrected(Path::new("/sys/devices/system/edac/mc")),
    }
}

fn memory() -> Option<u32> {
    let mut system = System::new().ok()?;
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let total = system.total_memory();
    let taken = total.saturating_sub(system.available_memory());
    permille(taken, total)
}

/// `some avg60` of a pressure stall file (Documentation/accounting/psi.rst).
fn pressure(text: &str) -> Option<u32> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let percent: f64 = some.split(' ').find_map(|part| part.strip_prefix("avg60="))?.parse().ok()?;
    // The cast saturates, and takes what is no number for none.
    Some((percent * 10.0).round() as u32)
}

/// What only root may still take counts as taken, as `df` has it.
fn taken(disk: &Path) -> Option<u32> {
    let room = statvfs(disk).ok()?;
    let used = room.blocks().saturating_sub(room.blocks_free());
    permille(used, used + room.blocks_available())
}

fn permille(part: u64, whole: u64) -> Option<u32> {
    u32::try_from(u128::from(part) * 1000 / u128::from(whole).max(1)).ok().filter(|_| whole > 0)
}

fn temperatures() -> std::collections::BTreeMap<String, (i64, Option<i64>)> {
    let Ok(components) = Components::new_with_refreshed_list() else { return Default::default() };
    let sensor = |component: &sysinfo::Component| {
        // The casts saturate.
        let milli = |degrees: f32| (f64::from(degrees) * 1000.0) as i64;
        let now = component.temperature().filter(|degrees| degrees.is_finite())?;
        Some((component.label().to_owned(), (milli(now), component.critical().map(milli))))
    };
    components.iter().filter_map(sensor).take(SENSORS_MAX).collect()
}

/// Of all memory controllers (Documentation/admin-guide/RAS: `ce_count`); none: this machine counts none.
fn corrected(controllers: &Path) -> Option<u64> {
    let counts = fs::read_dir(controllers).ok()?.flatten().filter_map(|controller| {
        let count = fs::read_to_string(controller.path().join("ce_count")).ok()?;
        count.trim().parse::<u64>().ok()
    });
    counts.reduce(u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    #[test]
    fn this_host_has_a_load_memory_and_room() {
        let capacity = look(&[PathBuf::from("/"), PathBuf::from("/gone")]);
        assert!(capacity.load_permille.is_some());
        assert!((1..1000).contains(&capacity.memory_permille.unwrap()), "{capacity:?}");
        assert_eq!(capacity.disk_permille.keys().collect::<Vec<_>>(), ["/"]);
        assert!(capacity.load() > 0);
    }

    #[test]
    fn pressure_is_read_and_nonsense_is_not() {
        let text = "some avg10=0.00 avg60=12.34 avg300=1.00 total=5\nfull avg10=0.00 avg60=99.00 avg300=0.00 total=1\n";
        assert_eq!(pressure(text), Some(123));
        for text in ["", "full avg60=1.00", "some avg10=1.00", "some avg60=x"] {
            assert_eq!(pressure(text), None, "{text}");
        }
    }

    #[test]
    fn corrected_errors_are_those_of_all_controllers() {
        let dir = TempDir::new();
        assert_eq!(corrected(dir.path()), None);
        for (controller, count) in [("mc0", "3\n"), ("mc1", "4\n"), ("power", "")] {
            fs::create_dir(dir.path().join(controller)).unwrap();
            fs::write(dir.path().join(controller).join("ce_count"), count).unwrap();
        }
        assert_eq!(corrected(dir.path()), Some(7));
    }
}
