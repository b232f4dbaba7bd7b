//! What a shell saw when it looked once. No sample says whether that is good.

use std::collections::BTreeMap;

use crate::action::StorageHealth;

/// One look at one thing. Times are in microseconds.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    /// A connection was accepted, or an echo came back.
    Answered {
        /// From the request to the answer.
        took_us: u64,
    },
    /// An HTTP response.
    Http {
        /// Its status code (RFC 9110, 15).
        status: u16,
        /// From the request to its head.
        took_us: u64,
    },
    /// A definite no: refused, unreachable, an error of the disk, no echo within the time.
    Refused(String),
    /// A program ended.
    Exit {
        /// Its exit status; `None`: a signal killed it.
        code: Option<i32>,
        /// How long it ran.
        took_us: u64,
        /// The first line of what it said.
        said: String,
    },
    /// A systemd unit's `ActiveState`.
    Unit {
        /// `active`, `failed`, `inactive`, ...
        state: String,
    },
    /// So many processes have the name.
    Processes(u32),
    /// A small file was written and synced.
    Written {
        /// Both together.
        took_us: u64,
    },
    /// How full the host is.
    Capacity(Capacity),
    /// The kernel's own word on its clock (`adjtimex(2)`).
    Clock {
        /// Whether something disciplines it.
        synchronised: bool,
        /// The most that it may be off.
        error_us: u64,
    },
    /// The look itself has not come back; no second one was begun.
    Hung {
        /// For so long.
        for_ms: u64,
    },
    /// It could not be looked at: a missing tool, a permission, a thread that could not start.
    Untaken(String),
}

impl Sample {
    /// What this one look says of a storage. It needs no row: no workload is started on what does not answer, and none is stopped for
    /// that alone.
    #[must_use]
    pub fn of_storage(&self) -> StorageHealth {
        match self {
            Self::Written { .. } => StorageHealth::Healthy,
            Self::Refused(why) => StorageHealth::Failed(why.clone()),
            Self::Answered { .. }
            | Self::Http { .. }
            | Self::Exit { .. }
            | Self::Unit { .. }
            | Self::Processes(_)
            | Self::Capacity(_)
            | Self::Clock { .. }
            | Self::Hung { .. }
            | Self::Untaken(_) => StorageHealth::Unknown,
        }
    }
}

/// Names a number that is measured again and again, such as `memory used`.
pub type Metric = String;

/// How full a host is. What could not be read is absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Capacity {
    /// One-minute load average for each processor, in 1/1000.
    pub load_permille: Option<u32>,
    /// Memory that is not available, in 1/1000 of all.
    pub memory_permille: Option<u32>,
    /// Share of time in which some task waited for a processor, memory or a disk: the pressure stall information's `some avg60`,
    /// in 1/1000, by `cpu`, `memory` and `io`.
    pub pressure_permille: BTreeMap<String, u32>,
    /// Space that is taken, in 1/1000, by where the file system is mounted.
    pub disk_permille: BTreeMap<String, u32>,
    /// Each sensor's temperature and the one at which its maker calls it critical, in 1/1000 °C.
    pub temperature_millicelsius: BTreeMap<String, (i64, Option<i64>)>,
    /// Memory errors that the hardware corrected since the boot (EDAC).
    pub corrected_memory_errors: Option<u64>,
}

impl Capacity {
    /// The load that heartbeats tell, in 1/1000: the busier of processor and memory. What could not be read counts as idle: it is a
    /// hint for placement, no more.
    #[must_use]
    pub fn load(&self) -> u16 {
        let load = self.load_permille.unwrap_or(0).max(self.memory_permille.unwrap_or(0));
        u16::try_from(load).unwrap_or(u16::MAX)
    }

    /// Every number in it, by its name.
    pub fn metrics(&self) -> impl Iterator<Item = (Metric, f64)> {
        let percent = |permille: u32| f64::from(permille) / 10.0;
        let load = self.load_permille.map(|load| ("load".to_owned(), percent(load)));
        let memory = self.memory_permille.map(|memory| ("memory".to_owned(), percent(memory)));
        let named = move |kind: &'static str, values: &BTreeMap<String, u32>| {
            values.iter().map(|(name, value)| (format!("{kind} {name}"), percent(*value))).collect::<Vec<_>>()
        };
        // The cast is exact below 2^53 m°C.
        let degrees = |(name, (now, _)): (&String, &(i64, Option<i64>))| {
            (format!("temperature {name}"), *now as f64 / 1000.0)
        };
        let temperatures: Vec<_> = self.temperature_millicelsius.iter().map(degrees).collect();
        let errors =
            self.corrected_memory_errors.map(|errors| ("corrected memory errors".to_owned(), errors as f64));
        load.into_iter()
            .chain(memory)
            .chain(named("pressure", &self.pressure_permille))
            .chain(named("disk", &self.disk_permille))
            .chain(temperatures)
            .chain(errors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_write_makes_a_storage_healthy_and_only_a_no_a_failed_one() {
        let no = Sample::Refused("read-only".to_owned());
        assert_eq!(Sample::Written { took_us: 9 }.of_storage(), StorageHealth::Healthy);
        assert_eq!(no.of_storage(), StorageHealth::Failed("read-only".to_owned()));
        for sample in [Sample::Hung { for_ms: 5 }, Sample::Untaken("no thread".to_owned())] {
            assert_eq!(sample.of_storage(), StorageHealth::Unknown, "{sample:?}");
        }
    }

    #[test]
    fn the_load_is_that_of_what_is_busier() {
        let of = |load_permille, memory_permille| Capacity {
            load_permille,
            memory_permille,
            ..Capacity::default()
        };
        assert_eq!(of(Some(300), Some(700)).load(), 700);
        assert_eq!(of(Some(900_000), Some(700)).load(), u16::MAX);
        assert_eq!(of(None, None).load(), 0);
    }
}
