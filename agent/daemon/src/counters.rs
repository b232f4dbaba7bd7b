//! What this process counts, for `status` and `/metrics`. Counting never decides anything and never waits.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why an order from afar was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OrderRefused {
    /// No order, or not a complete one, or another cluster's.
    Malformed,
    /// Nobody signed.
    Unsigned,
    /// A signature under it is no operator's over this text.
    Forged,
    /// The policy asks for two people.
    TooFewOperators,
    /// Its time is over.
    Expired,
    /// It was made in the future, as this host's clock has it.
    Early,
    /// It was taken before.
    Replayed,
    /// That it was taken could not be written down.
    NotNoted,
    /// The broker had kept it: nobody knows since when.
    Retained,
    /// Too many at once.
    Busy,
    /// What it asks is refused, as it would be on the host itself.
    Engine,
}

impl OrderRefused {
    /// All reasons, in the order of the counters, with their names in metrics.
    const ALL: [(Self, &str); 11] = [
        (Self::Malformed, "malformed"),
        (Self::Unsigned, "unsigned"),
        (Self::Forged, "forged"),
        (Self::TooFewOperators, "too_few_operators"),
        (Self::Expired, "expired"),
        (Self::Early, "early"),
        (Self::Replayed, "replayed"),
        (Self::NotNoted, "not_noted"),
        (Self::Retained, "retained"),
        (Self::Busy, "busy"),
        (Self::Engine, "impossible"),
    ];
}

/// Why a datagram went no further (SAFE-7: it changes nothing and is counted).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// Shorter than any sealed packet, or longer than the largest one.
    Size,
    /// Of a wire version that this agent does not read.
    Version,
    /// Sealed under a key id that is not configured.
    UnknownKey,
    /// The seal does not match: forged, damaged, or of another cluster.
    Forged,
    /// Authentic, but not a heartbeat.
    Undecodable,
    /// From a host id that is not configured.
    UnknownHost,
    /// This host's own packet, come back.
    OwnEcho,
    /// An earlier life of this very machine, replayed.
    OldLife,
    /// An older packet than the last one of the same life.
    Replayed,
    /// The same packet again, on another link: tells that the link works.
    Duplicate,
}

impl Dropped {
    /// All reasons, in the order of the counters.
    pub(crate) const ALL: [Self; 10] = [
        Self::Size,
        Self::Version,
        Self::UnknownKey,
        Self::Forged,
        Self::Undecodable,
        Self::UnknownHost,
        Self::OwnEcho,
        Self::OldLife,
        Self::Replayed,
        Self::Duplicate,
    ];

    /// Its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Version => "version",
            Self::UnknownKey => "unknown_key",
            Self::Forged => "forged",
            Self::Undecodable => "undecodable",
            Self::UnknownHost => "unknown_host",
            Self::OwnEcho => "own_echo",
            Self::OldLife => "old_life",
            Self::Replayed => "replayed",
            Self::Duplicate => "duplicate",
        }
    }
}

/// Everything that is counted. Shared by the threads of the process; each counter only rises.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    dropped: [AtomicU64; Dropped::ALL.len()],
    /// Heartbeats handed to the engine.
    pub(crate) received: Counter,
    /// Datagrams that left.
    pub(crate) sent: Counter,
    /// Datagrams that the kernel did not take.
    pub(crate) send_failed: Counter,
    /// Asks handed to the witness session.
    pub(crate) witness_asked: Counter,
    /// Asks dropped because the broker was away or slow.
    pub(crate) witness_unsent: Counter,
    /// Authentic answers of the witness.
    pub(crate) witness_answered: Counter,
    /// Messages on the answer topic that were not authentic answers.
    pub(crate) witness_dropped: Counter,
    /// Telemetry shed because its queue was full (SAFE-12: telemetry first).
    pub(crate) telemetry_shed: Counter,
    /// Events that the telemetry broker acknowledged.
    pub(crate) telemetry_acknowledged: Counter,
    /// Whether the telemetry broker has accepted the session.
    pub(crate) telemetry_connected: Gauge,
    /// Events that the broker has not acknowledged.
    pub(crate) spool_events: Gauge,
    /// Bytes of the spool on the disk.
    pub(crate) spool_bytes: Gauge,
    /// Bytes of events in memory because the disk does not take them.
    pub(crate) spool_memory_bytes: Gauge,
    /// Events that the spool shed: a gap was told for each.
    pub(crate) spool_lost: Gauge,
    /// Whether the disk refuses the spool.
    pub(crate) spool_failing: Gauge,
    /// Work for a device or workload that found its queue full; answered as a failure.
    pub(crate) work_refused: Counter,
    /// Inputs that are not in the recording: the disk did not keep up, or did not take them.
    pub(crate) recording_lost: Counter,
    /// Bytes that were recorded.
    pub(crate) recording_bytes: Counter,
    /// Turns of the run loop: it lives as long as these rise.
    pub(crate) turns: Counter,
    /// Orders from afar that were taken.
    pub(crate) orders_taken: Counter,
    orders_refused: [Counter; OrderRefused::ALL.len()],
    /// The longest the run loop took for one input, in us.
    pub(crate) longest_turn_us: Highest,
    /// The latest that a timer was served, in us.
    pub(crate) latest_tick_us: Highest,
    /// For how long each lost host had not been heard when it fell out of the view.
    pub(crate) detection: Histogram,
    /// From a lost host's last sign of life until a workload of its runs here.
    pub(crate) recovery: Histogram,
}

/// How often something took how long.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// Not cumulative; the last one is for all that is longer.
    buckets: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_us: AtomicU64,
}

/// The bounds of an incident's times: the fast profile's, the default profile's, and what takes people's help.
const BOUNDS_MS: [u64; 10] = [250, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000, 120_000, 300_000];

impl Histogram {
    /// Takes one in.
    pub(crate) fn see(&self, us: u64) {
        let at = BOUNDS_MS.iter().position(|bound| us <= bound * 1000).unwrap_or(BOUNDS_MS.len());
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Relaxed);
        }
        self.sum_us.fetch_add(us, Relaxed);
    }

    /// How many, and how long together.
    #[cfg(test)]
    pub(crate) fn count_and_sum_us(&self) -> (u64, u64) {
        (self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum(), self.sum_us.load(Relaxed))
    }

    fn prometheus(&self, text: &mut String, name: &str, help: &str) {
        head(text, name, "histogram", help);
        let mut count = 0;
        for (bucket, bound) in self.buckets.iter().zip(BOUNDS_MS.map(Some).into_iter().chain([None])) {
            count += bucket.load(Relaxed);
            let bound = bound.map_or("+Inf".to_owned(), |ms| seconds(ms * 1000, 2));
            let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let sum = seconds(self.sum_us.load(Relaxed), 6);
        let _ = writeln!(text, "{name}_sum {sum}\n{name}_count {count}");
    }
}

/// So many digits after the point.
fn seconds(us: u64, digits: usize) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    let length = text.len().saturating_sub(6 - digits);
    text.get(..length).unwrap_or(&text).to_owned()
}

/// A count that only rises.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// So many more.
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// How many so far.
    pub(crate) fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What stands now.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    /// It stands at so much.
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// How it stands.
    pub(crate) fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The highest value seen.
#[derive(Debug, Default)]
pub(crate) struct Highest(AtomicU64);

impl Highest {
    /// Takes a value in.
    pub(crate) fn see(&self, value: u64) {
        self.0.fetch_max(value, Relaxed);
    }

    /// The highest so far.
    pub(crate) fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Counters {
    /// Counts a datagram that goes no further.
    pub(crate) fn drop_packet(&self, why: Dropped) {
        // The enum numbers its variants in the order of the counters.
        if let Some(counter) = self.dropped.get(why as usize) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// How many datagrams went no further for this reason.
    pub(crate) fn dropped(&self, why: Dropped) -> u64 {
        self.dropped.get(why as usize).map_or(0, |counter| counter.load(Relaxed))
    }

    /// Counts one order from afar that was not taken.
    pub(crate) fn order_refused(&self, why: OrderRefused) {
        if let Some(counter) = self.orders_refused.get(why as usize) {
            counter.count();
        }
    }

    /// How many orders from afar were not taken for this.
    pub(crate) fn refused_orders(&self, why: OrderRefused) -> u64 {
        self.orders_refused.get(why as usize).map_or(0, Counter::value)
    }

    /// All counters in the Prometheus text format, each with its help line.
    pub(crate) fn prometheus(&self) -> String {
        let mut text = String::with_capacity(2048);
        head(
            &mut text,
            "palisade_packets_dropped_total",
            "counter",
            "Datagrams that changed nothing, by reason",
        );
        for why in Dropped::ALL {
            let name = why.name();
            let _ =
                writeln!(text, "palisade_packets_dropped_total{{reason=\"{name}\"}} {}", self.dropped(why));
        }
        head(
            &mut text,
            "palisade_orders_refused_total",
            "counter",
            "Orders from afar that were not taken, by reason",
        );
        for (why, name) in OrderRefused::ALL {
            let count = self.refused_orders(why);
            let _ = writeln!(text, "palisade_orders_refused_total{{reason=\"{name}\"}} {count}");
        }
        let rising: [(&str, &str, &Counter); 14] = [
            ("palisade_orders_taken_total", "Orders from afar that were taken", &self.orders_taken),
            ("palisade_packets_received_total", "Heartbeats handed to the engine", &self.received),
            ("palisade_packets_sent_total", "Datagrams that left", &self.sent),
            ("palisade_packets_unsent_total", "Datagrams that the kernel did not take", &self.send_failed),
            ("palisade_witness_asks_total", "Asks handed to the broker", &self.witness_asked),
            ("palisade_witness_asks_unsent_total", "Asks dropped: broker away or slow", &self.witness_unsent),
            ("palisade_witness_answers_total", "Authentic answers of the witness", &self.witness_answered),
            (
                "palisade_witness_dropped_total",
                "Messages that were no authentic answer",
                &self.witness_dropped,
            ),
            ("palisade_telemetry_shed_total", "Telemetry shed under load", &self.telemetry_shed),
            (
                "palisade_telemetry_acknowledged_total",
                "Events that the telemetry broker acknowledged",
                &self.telemetry_acknowledged,
            ),
            ("palisade_work_refused_total", "Work that found its queue full", &self.work_refused),
            (
                "palisade_recording_lost_total",
                "Inputs that `palisade replay` will not find: the disk did not take them",
                &self.recording_lost,
            ),
            ("palisade_recording_bytes_total", "Bytes recorded for `palisade replay`", &self.recording_bytes),
            ("palisade_loop_turns_total", "Turns of the run loop", &self.turns),
        ];
        for (name, help, counter) in rising {
            head(&mut text, name, "counter", help);
            let _ = writeln!(text, "{name} {}", counter.value());
        }
        let highest: [(&str, &str, &Highest); 2] = [
            (
                "palisade_loop_longest_turn_seconds",
                "The longest the run loop took for one input",
                &self.longest_turn_us,
            ),
            ("palisade_loop_latest_tick_seconds", "The latest that a timer was served", &self.latest_tick_us),
        ];
        for (name, help, gauge) in highest {
            head(&mut text, name, "gauge", help);
            let _ = writeln!(text, "{name} {}", seconds(gauge.value(), 6));
        }
        self.detection.prometheus(
            &mut text,
            "palisade_detection_seconds",
            "For how long a lost host had not been heard when it fell out of the view",
        );
        self.recovery.prometheus(
            &mut text,
            "palisade_recovery_seconds",
            "From a lost host's last sign of life until its workload runs here",
        );
        let standing: [(&str, &str, &Gauge); 5] = [
            (
                "palisade_telemetry_connected",
                "Whether the telemetry broker has accepted the session",
                &self.telemetry_connected,
            ),
            ("palisade_spool_events", "Events that the broker has not acknowledged", &self.spool_events),
            ("palisade_spool_bytes", "Bytes of the spool on the disk", &self.spool_bytes),
            (
                "palisade_spool_memory_bytes",
                "Bytes of events in memory because the disk does not take them",
                &self.spool_memory_bytes,
            ),
            ("palisade_spool_failing", "Whether the disk refuses the spool", &self.spool_failing),
        ];
        for (name, help, gauge) in standing {
            head(&mut text, name, "gauge", help);
            let _ = writeln!(text, "{name} {}", gauge.value());
        }
        head(
            &mut text,
            "palisade_spool_lost_total",
            "counter",
            "Events that the spool shed; a gap was told for them",
        );
        let _ = writeln!(text, "palisade_spool_lost_total {}", self.spool_lost.value());
        text
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_of_its_own() {
        let counters = Counters::default();
        for (times, why) in Dropped::ALL.into_iter().enumerate() {
            (0..=times).for_each(|_| counters.drop_packet(why));
        }
        for (times, why) in Dropped::ALL.into_iter().enumerate() {
            assert_eq!(counters.dropped(why), times as u64 + 1, "{}", why.name());
        }
        counters.recovery.see(1_500_000);
        counters.recovery.see(900_000_000);
        let text = counters.prometheus();
        for line in [
            "palisade_recovery_seconds_bucket{le=\"1.00\"} 0",
            "palisade_recovery_seconds_bucket{le=\"2.00\"} 1",
            "palisade_recovery_seconds_bucket{le=\"+Inf\"} 2",
            "palisade_recovery_seconds_sum 901.500000",
            "palisade_recovery_seconds_count 2",
        ] {
            assert!(text.lines().any(|said| said == line), "no {line:?} in {text}");
        }
        assert!(text.contains("palisade_packets_dropped_total{reason=\"size\"} 1\n"), "{text}");
        assert!(text.contains("# TYPE palisade_loop_longest_turn_seconds gauge\n"), "{text}");
    }
}
