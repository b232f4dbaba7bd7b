//! The status as Prometheus text (exposition format 0.0.4). Nothing is measured here.

use std::fmt::Display;

use palisade_core::status::{FencePathStatus, Status};

/// Every metric of one agent. Names begin with `palisade_`; ages are in seconds; a metric without a value is left out.
pub(super) fn prometheus(status: &Status) -> String {
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
