//! What 500 numbers on baseline take: memory, by an allocator that counts, and the processor time of one look at all of them, as a
//! share of the minute in which they are looked at once. Run it in release.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark has a clock, and a broken one ends"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use palisade_core::config::{Cluster, ProbeId};
use palisade_core::health::{Board, Capacity, Sample};
use palisade_proto::{HostId, Time};

const NUMBERS: usize = 500;
const LOOKS: u32 = 2_000;
const MINUTE_US: f64 = 60e6;

struct Counting;
static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let text = "[cluster]\nname = \"t\"\nkeys = [ { id = 1, file = \"/k\" } ]\n\
        [[host]]\nid = 0\nname = \"a\"\nmachine = \"00000001-0000-0000-0000-000000000001\"\nlinks = [\"127.0.0.1:1\"]\n\
        [[host]]\nid = 1\nname = \"b\"\nmachine = \"00000002-0000-0000-0000-000000000001\"\nlinks = [\"127.0.0.1:2\"]\n";
    let cluster = Cluster::parse(text, "bench").unwrap();
    let mut board = Board::default().arranged(&cluster, HostId::new(0).unwrap());
    let sample = |look: u32| {
        let pressure_permille = (0..NUMBERS).map(|at| (format!("number {at:03}"), look % 300)).collect();
        Sample::Capacity(Capacity { pressure_permille, ..Capacity::default() })
    };
    let before = HELD.load(Relaxed);
    let mut took = Duration::ZERO;
    for look in 0..LOOKS {
        let sample = sample(look);
        let begin = Instant::now();
        board.take(ProbeId::of("capacity"), &sample, Time(u64::from(look) * 60_000));
        took += begin.elapsed();
    }
    let held = HELD.load(Relaxed).saturating_sub(before);
    let each_us = took.as_secs_f64() * 1e6 / f64::from(LOOKS);
    println!(
        "{} numbers: {held} bytes held, {each_us:.0} us a look, {:.5} % of a core at one look a minute",
        board.values().count(),
        each_us / MINUTE_US * 100.0
    );
}
