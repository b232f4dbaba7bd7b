//! What one sample of one probe says. It has no memory: a row of samples makes a verdict, in [`super::Course`].

use palisade_proto::Duration;

use super::{Capacity, Sample, Verdict};
use crate::config::{CapacityLimits, ProbeKind};

/// The grade of one sample, and why in words; empty when it is healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it says.
    pub grade: Verdict,
    /// Why it is not healthy.
    pub why: String,
}

impl Finding {
    fn healthy() -> Self {
        Self { grade: Verdict::Healthy, why: String::new() }
    }

    fn degraded(why: impl Into<String>) -> Self {
        Self { grade: Verdict::Degraded, why: why.into() }
    }

    fn failed(why: impl Into<String>) -> Self {
        Self { grade: Verdict::Failed, why: why.into() }
    }

    fn unknown(why: impl Into<String>) -> Self {
        Self { grade: Verdict::Unknown, why: why.into() }
    }
}

/// Grades one sample. An answer that takes longer than `slow` is no better than degraded.
#[must_use]
pub fn judge(kind: &ProbeKind, slow: Option<Duration>, sample: &Sample) -> Finding {
    let answered = |took_us: u64, better: Finding| match slow {
        Some(slow) if took_us > slow.0.saturating_mul(1000) && better.grade == Verdict::Healthy => {
            Finding::degraded(format!("it took {} ms, more than {slow}", took_us / 1000))
        }
        Some(_) | None => better,
    };
    match (kind, sample) {
        (_, Sample::Refused(why)) => Finding::failed(why),
        (_, Sample::Untaken(why)) => Finding::unknown(why),
        // A host that waits for it waits for ever, whatever it would say.
        (_, Sample::Hung { for_ms }) => Finding::failed(format!("it has not answered for {for_ms} ms")),
        (ProbeKind::Tcp { .. } | ProbeKind::Gateway { .. }, Sample::Answered { took_us })
        | (ProbeKind::Storage { .. }, Sample::Written { took_us }) => answered(*took_us, Finding::healthy()),
        (ProbeKind::Http(_), Sample::Http { status: 200..=299, took_us }) => {
            answered(*took_us, Finding::healthy())
        }
        (ProbeKind::Http(_), Sample::Http { status, .. }) => {
            Finding::failed(format!("it answers with status {status}"))
        }
        (ProbeKind::Process { .. }, Sample::Processes(0)) => Finding::failed("no such process runs"),
        (ProbeKind::Process { .. }, Sample::Processes(_)) => Finding::healthy(),
        (ProbeKind::Unit { .. }, Sample::Unit { state }) => unit(state),
        (ProbeKind::Command { .. }, Sample::Exit { code, took_us, said }) => {
            answered(*took_us, exit(*code, said))
        }
        (ProbeKind::Libvirt { .. }, Sample::Exit { code: Some(0), took_us, .. }) => {
            answered(*took_us, Finding::healthy())
        }
        (ProbeKind::Libvirt { .. }, Sample::Exit { said, .. }) => {
            Finding::failed(format!("the hypervisor does not answer: {said}"))
        }
        (ProbeKind::Capacity(limits), Sample::Capacity(capacity)) => capacity_left(limits, capacity),
        (ProbeKind::Clock { within }, Sample::Clock { synchronised, error_us }) => {
            clock(*within, *synchronised, *error_us)
        }
        (
            ProbeKind::Process { .. }
            | ProbeKind::Unit { .. }
            | ProbeKind::Tcp { .. }
            | ProbeKind::Http(_)
            | ProbeKind::Command { .. }
            | ProbeKind::Storage { .. }
            | ProbeKind::Gateway { .. }
            | ProbeKind::Libvirt { .. }
            | ProbeKind::Capacity(_)
            | ProbeKind::Clock { .. },
            Sample::Answered { .. }
            | Sample::Http { .. }
            | Sample::Exit { .. }
            | Sample::Unit { .. }
            | Sample::Processes(_)
            | Sample::Written { .. }
            | Sample::Capacity(_)
            | Sample::Clock { .. },
        ) => Finding::unknown("this sample is not of this kind of probe"),
    }
}

/// `ActiveState` of org.freedesktop.systemd1(5).
fn unit(state: &str) -> Finding {
    match state {
        "active" => Finding::healthy(),
        "reloading" | "refreshing" => Finding::healthy(),
        "activating" | "deactivating" | "maintenance" => Finding::degraded(format!("it is {state}")),
        "inactive" | "failed" => Finding::failed(format!("it is {state}")),
        other => Finding::unknown(format!("systemd calls it `{other}`")),
    }
}

/// The exit statuses of monitoring plug-ins: 0 OK, 1 warning, 2 critical, 3 unknown.
fn exit(code: Option<i32>, said: &str) -> Finding {
    let words = |what: &str| if said.is_empty() { what.to_owned() } else { said.to_owned() };
    match code {
        Some(0) => Finding::healthy(),
        Some(1) => Finding::degraded(words("it ended with status 1")),
        Some(3) => Finding::unknown(words("it ended with status 3")),
        Some(code) => Finding::failed(words(&format!("it ended with status {code}"))),
        None => Finding::failed(words("a signal killed it")),
    }
}

fn capacity_left(limits: &CapacityLimits, capacity: &Capacity) -> Finding {
    let percent = |permille: u32| format!("{}.{} %", permille / 10, permille % 10);
    let (mut degraded, mut failed) = (Vec::new(), Vec::new());
    if let Some(memory) = capacity.memory_permille.filter(|memory| *memory > limits.memory()) {
        degraded.push(format!("{} of memory is taken", percent(memory)));
    }
    for (what, waited) in capacity.pressure_permille.iter().filter(|(_, waited)| **waited > limits.pressure())
    {
        degraded.push(format!("tasks waited for {what} in {} of the time", percent(*waited)));
    }
    for (disk, taken) in &capacity.disk_permille {
        let what = format!("{} of {disk} is taken", percent(*taken));
        if *taken > limits.disk_full() {
            failed.push(what);
        } else if *taken > limits.disk() {
            degraded.push(what);
        }
    }
    for (sensor, (now, critical)) in &capacity.temperature_millicelsius {
        if critical.is_some_and(|critical| *now >= critical) {
            failed.push(format!("{sensor} is at {} °C, which its maker calls critical", now / 1000));
        }
    }
    if !failed.is_empty() {
        failed.extend(degraded);
        return Finding::failed(failed.join(", "));
    }
    if degraded.is_empty() { Finding::healthy() } else { Finding::degraded(degraded.join(", ")) }
}

fn clock(within: Duration, synchronised: bool, error_us: u64) -> Finding {
    if !synchronised {
        return Finding::degraded(
            "nothing disciplines this host's clock: install or mend chrony or systemd-timesyncd",
        );
    }
    if error_us > within.0.saturating_mul(1000) {
        return Finding::degraded(format!(
            "this host's clock may be off by {} ms, more than {within}",
            error_us / 1000
        ));
    }
    Finding::healthy()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::Cluster;

    /// Probes of every kind, by their names.
    fn kinds() -> BTreeMap<String, ProbeKind> {
        let text = "[cluster]\nname = \"t\"\nkeys = [ { id = 1, file = \"/k\" } ]\n\
            [[host]]\nid = 0\nname = \"a\"\nmachine = \"00000001-0000-0000-0000-000000000001\"\nlinks = [\"127.0.0.1:1\"]\n\
            [[host]]\nid = 1\nname = \"b\"\nmachine = \"00000002-0000-0000-0000-000000000001\"\nlinks = [\"127.0.0.1:2\"]\n\
            [[storage]]\nname = \"disk\"\npath = \"/x\"\n\
            [[probe]]\nname = \"process\"\nkind = \"process\"\nprocess = \"x\"\n\
            [[probe]]\nname = \"unit\"\nkind = \"unit\"\nunit = \"x.service\"\n\
            [[probe]]\nname = \"tcp\"\nkind = \"tcp\"\naddress = \"127.0.0.1:3\"\n\
            [[probe]]\nname = \"http\"\nkind = \"http\"\nurl = \"http://127.0.0.1:3/ready\"\n\
            [[probe]]\nname = \"command\"\nkind = \"command\"\ncommand = [\"/bin/true\"]\n\
            [[probe]]\nname = \"gateway\"\nkind = \"gateway\"\naddress = \"127.0.0.1\"\n\
            [[probe]]\nname = \"libvirt\"\nkind = \"libvirt\"\nuri = \"qemu:///system\"\n";
        let cluster = Cluster::parse(text, "t").unwrap();
        cluster.probes().iter().map(|probe| (probe.kind().name().to_owned(), probe.kind().clone())).collect()
    }

    fn grade(kind: &str, sample: &Sample) -> (Verdict, String) {
        let Finding { grade, why } = judge(&kinds()[kind], Some(Duration::ms(100)), sample);
        (grade, why)
    }

    #[test]
    fn each_kind_has_a_sample_that_is_healthy_and_one_that_is_not() {
        use Verdict::{Degraded, Failed, Healthy, Unknown};
        let exit = |code, said: &str| Sample::Exit { code, took_us: 5, said: said.to_owned() };
        let unit = |state: &str| Sample::Unit { state: state.to_owned() };
        let http = |status| Sample::Http { status, took_us: 7 };
        let clock = |synchronised, error_us| Sample::Clock { synchronised, error_us };
        let table: [(&str, Sample, Verdict, &str); 27] = [
            ("process", Sample::Processes(2), Healthy, ""),
            ("process", Sample::Processes(0), Failed, "no such process runs"),
            ("unit", unit("active"), Healthy, ""),
            ("unit", unit("activating"), Degraded, "it is activating"),
            ("unit", unit("failed"), Failed, "it is failed"),
            ("unit", unit("elsewhere"), Unknown, "systemd calls it `elsewhere`"),
            ("tcp", Sample::Answered { took_us: 100_000 }, Healthy, ""),
            ("tcp", Sample::Answered { took_us: 100_001 }, Degraded, "it took 100 ms, more than 100 ms"),
            ("tcp", Sample::Refused("refused".to_owned()), Failed, "refused"),
            ("http", http(204), Healthy, ""),
            ("http", http(503), Failed, "it answers with status 503"),
            ("command", exit(Some(0), "fine"), Healthy, ""),
            ("command", exit(Some(1), ""), Degraded, "it ended with status 1"),
            ("command", exit(Some(2), "lost"), Failed, "lost"),
            ("command", exit(Some(3), ""), Unknown, "it ended with status 3"),
            ("command", exit(None, ""), Failed, "a signal killed it"),
            ("storage", Sample::Written { took_us: 9 }, Healthy, ""),
            ("storage", Sample::Written { took_us: 900_000 }, Degraded, "it took 900 ms, more than 100 ms"),
            ("storage", Sample::Hung { for_ms: 30_000 }, Failed, "it has not answered for 30000 ms"),
            ("gateway", Sample::Answered { took_us: 9 }, Healthy, ""),
            ("gateway", Sample::Untaken("no ping".to_owned()), Unknown, "no ping"),
            ("libvirt", exit(Some(0), ""), Healthy, ""),
            ("libvirt", exit(Some(1), "gone"), Failed, "the hypervisor does not answer: gone"),
            ("clock", clock(true, 20), Healthy, ""),
            (
                "clock",
                clock(true, 3_600_000_000),
                Degraded,
                "this host's clock may be off by 3600000 ms, more than 500 ms",
            ),
            ("process", Sample::Written { took_us: 9 }, Unknown, "this sample is not of this kind of probe"),
            (
                "clock",
                clock(false, 0),
                Degraded,
                "nothing disciplines this host's clock: install or mend chrony or systemd-timesyncd",
            ),
        ];
        for (kind, sample, verdict, why) in table {
            assert_eq!(grade(kind, &sample), (verdict, why.to_owned()), "{kind}: {sample:?}");
        }
    }

    #[test]
    fn what_is_short_is_told_together() {
        let full = |disk, memory| {
            Sample::Capacity(Capacity {
                memory_permille: Some(memory),
                disk_permille: [("/".to_owned(), disk)].into(),
                pressure_permille: [("io".to_owned(), 700)].into(),
                temperature_millicelsius: [("cpu".to_owned(), (45_000, Some(90_000)))].into(),
                ..Capacity::default()
            })
        };
        let waited = "tasks waited for io in 70.0 % of the time";
        assert_eq!(grade("capacity", &full(100, 100)), (Verdict::Degraded, waited.to_owned()));
        let both = format!("99.9 % of / is taken, 95.1 % of memory is taken, {waited}");
        assert_eq!(grade("capacity", &full(999, 951)), (Verdict::Failed, both));
        let hot = Capacity {
            temperature_millicelsius: [("cpu".to_owned(), (95_000, Some(90_000)))].into(),
            ..Capacity::default()
        };
        let why = "cpu is at 95 °C, which its maker calls critical".to_owned();
        assert_eq!(grade("capacity", &Sample::Capacity(hot)), (Verdict::Failed, why));
        assert_eq!(grade("capacity", &Sample::Capacity(Capacity::default())).0, Verdict::Healthy);
    }
}
