//! The status as Prometheus text, and as JSON for `/metrics/global`: in exposition format 0.0.4. Nothing is measured here.

use std::collections::BTreeMap;
use std::fmt::Display;

use palisade_core::health::Anomaly;
use palisade_core::status::{FencePathStatus, Status, WitnessStatus};
use serde::Serialize;

use crate::counters::Counters;
use crate::health::Health;
use crate::readiness::{Readiness, quorum_margin};
use crate::telemetry::SCHEMA;

/// The body of `/metrics/global`: what concerns the whole cluster, as this host sees it.
#[derive(Serialize)]
pub(super) struct Global<'a> {
    schema: u32,
    cluster: &'a str,
    host: &'a str,
    admitted: bool,
    quorate: bool,
    /// Hosts counted, and hosts in the view.
    counted: usize,
    view: usize,
    quorum_margin: i64,
    witness: &'a WitnessStatus,
    fence_paths: &'a [FencePathStatus],
    not_armed: &'a [String],
    alarms: &'a [String],
    telemetry: Telemetry,
    readiness: Readiness,
}

/// How telemetry stands.
#[derive(Serialize)]
struct Telemetry {
    connected: bool,
    spool_events: u64,
    spool_bytes: u64,
    spool_failing: bool,
    lost_events: u64,
}

impl<'a> Global<'a> {
    pub(super) fn of(status: &'a Status, counters: &Counters) -> Self {
        Self {
            schema: SCHEMA,
            cluster: &status.cluster,
            host: &status.host,
            admitted: status.admitted,
            quorate: status.quorate,
            counted: status.electorate.len(),
            view: status.view.len(),
            quorum_margin: quorum_margin(status),
            witness: &status.witness,
            fence_paths: &status.fence_paths,
            not_armed: &status.not_armed,
            alarms: &status.alarms,
            telemetry: Telemetry {
                connected: counters.telemetry_connected.value() == 1,
                spool_events: counters.spool_events.value(),
                spool_bytes: counters.spool_bytes.value(),
                spool_failing: counters.spool_failing.value() == 1,
                lost_events: counters.spool_lost.value(),
            },
            readiness: Readiness::of(status),
        }
    }
}

/// The body of `/metrics/capacity`: what this host measures of itself, what is not as usual, and what runs out.
#[derive(Serialize)]
pub(super) struct Capacity {
    schema: u32,
    /// Percent, degrees Celsius or milliseconds, as the name says.
    values: BTreeMap<String, f64>,
    anomalies: Vec<Unusual>,
    warnings: Vec<String>,
}

/// A number beyond two standard deviations of what is usual for it.
#[derive(Serialize)]
struct Unusual {
    metric: String,
    value: f64,
    mean: f64,
    deviation: f64,
}

impl Capacity {
    pub(super) fn of(health: &Health) -> Self {
        let board = health.board();
        let unusual = |(metric, anomaly): (&str, &Anomaly)| Unusual {
            metric: metric.to_owned(),
            value: anomaly.value,
            mean: anomaly.mean,
            deviation: anomaly.deviation,
        };
        Self {
            schema: SCHEMA,
            values: board.values().map(|(metric, value)| (metric.to_owned(), value)).collect(),
            anomalies: board.anomalies().map(unusual).collect(),
            warnings: board.warnings().map(|(_, what)| what).collect(),
        }
    }
}

/// Every metric of one agent. Names begin with `palisade_`; ages are in seconds; a metric without a value is left out.
pub(super) fn prometheus(status: &Status, health: &Health) -> String {
    let mut text = Text(String::with_capacity(4096));
    text.gauge("admitted", "Whether this host is counted by its peers.", [("", u8::from(status.admitted))]);
    text.gauge("quorate", "Whether this host may act.", [("", u8::from(status.quorate))]);
    text.gauge("electorate_hosts", "Hosts that are counted.", [("", status.electorate.len())]);
    text.gauge("view_hosts", "Hosts that this host stands with.", [("", status.view.len())]);
    text.gauge("dead_hosts", "Hosts proven dead and still counted.", [("", status.dead.len())]);
    text.gauge(
        "host_state",
        "1 for the state that a host is in.",
        status.hosts.iter().map(|host| (labels(&[("host", &host.name), ("state", &host.state)]), 1)),
    );
    let heard = status
        .hosts
        .iter()
        .filter_map(|host| Some((labels(&[("host", &host.name)]), seconds(host.heard_ms?))));
    text.gauge("host_heard_seconds", "Time since a host was last heard.", heard);
    let workloads = status.workloads.iter();
    text.gauge(
        "workload_running",
        "Whether a workload runs on this host.",
        workloads
            .map(|workload| (labels(&[("workload", &workload.name)]), u8::from(workload.here == "running"))),
    );
    let witness = status.witness.proven_ms.map(|age| ("", seconds(age)));
    text.gauge("witness_proven_seconds", "Time since the witness last answered.", witness);
    let paths = status.fence_paths.iter();
    let proven = paths.clone().filter_map(|path| Some((path_labels(path), seconds(path.proven_ms?))));
    text.gauge("fence_path_proven_seconds", "Time since a fence path was last proven.", proven);
    let failed = paths.map(|path| (path_labels(path), u8::from(path.error.is_some())));
    text.gauge("fence_path_failed", "Whether the last proof of a fence path failed.", failed);
    text.gauge("not_armed", "Reasons why something is not armed.", [("", status.not_armed.len())]);
    text.gauge("journal_ok", "Whether records become durable.", [("", u8::from(status.journal.ok))]);
    text.gauge("alarms", "Alarms that stand now.", [("", status.alarms.len())]);
    text.gauge(
        "quorum_margin",
        "Hosts that can fall silent at once and leave the others quorate; below zero, so many are missing.",
        [("", quorum_margin(status))],
    );
    let readiness = Readiness::of(status);
    text.gauge("readiness_score", "How ready for the next incident, 0 to 100.", [("", readiness.score)]);
    text.gauge(
        "readiness_part",
        "How much of a part of the readiness is there, 0 to 1.",
        readiness
            .parts
            .iter()
            .map(|part| (labels(&[("part", part.part)]), seconds(part.there_permille.into()))),
    );
    text.gauge(
        "disarmed_seconds",
        "For how much longer fencing is disarmed by an operator.",
        [("", seconds(status.disarmed_ms.unwrap_or(0)))],
    );
    text.gauge(
        "host_drained",
        "Whether an operator has drained a host.",
        status.hosts.iter().map(|host| (labels(&[("host", &host.name)]), u8::from(host.drained))),
    );
    let maintained =
        || status.hosts.iter().map(|host| (labels(&[("host", &host.name)]), host.maintenance_ms));
    text.gauge(
        "host_maintenance",
        "Whether an operator keeps a host out for maintenance.",
        maintained().map(|(labels, left)| (labels, u8::from(left.is_some()))),
    );
    text.gauge(
        "host_maintenance_overdue",
        "Whether a maintenance lasts longer than was planned.",
        maintained().map(|(labels, left)| (labels, u8::from(left == Some(0)))),
    );
    let board = health.board();
    let levels = board.levels(Health::now());
    text.gauge(
        "probe_verdict",
        "1 for what a probe of this host comes to.",
        levels.iter().flat_map(|level| level.probes.iter().map(move |probe| (level.level, probe))).map(
            |(level, probe)| {
                let verdict = probe.verdict.to_string();
                let labels = [("probe", &*probe.name), ("level", level.name()), ("verdict", &*verdict)];
                (self::labels(&labels), 1)
            },
        ),
    );
    text.gauge(
        "capacity",
        "What the host measures of itself, in percent, degrees Celsius or milliseconds, as the metric says.",
        board.values().map(|(metric, value)| (labels(&[("metric", metric)]), value)),
    );
    text.gauge(
        "anomalies",
        "Numbers of /metrics/capacity that are not as usual.",
        [("", board.anomalies().count())],
    );
    text.gauge("running_out", "What is full or too hot within two days.", [("", board.warnings().count())]);
    text.0
}

struct Text(String);

impl Text {
    fn gauge<L: Display, V: Display>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, V)>,
    ) {
        let mut head = Some(format!("# HELP palisade_{name} {help}\n# TYPE palisade_{name} gauge\n"));
        for (labels, value) in samples {
            self.0.extend(head.take());
            self.0.push_str(&format!("palisade_{name}{labels} {value}\n"));
        }
    }
}

fn path_labels(path: &FencePathStatus) -> String {
    labels(&[("device", &path.device), ("fences", &path.fences)])
}

/// Names here are configured ones, which hold nothing that needs an escape; escaped all the same.
fn labels(pairs: &[(&str, &str)]) -> String {
    let pair = |(name, value): &(&str, &str)| {
        format!("{name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
    };
    format!("{{{}}}", pairs.iter().map(pair).collect::<Vec<_>>().join(","))
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}
