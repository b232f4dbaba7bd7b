//! All probes of one host: their verdicts, level by level, and the usual values of what they measure.

use std::collections::BTreeMap;

use palisade_proto::{Duration, HostId, Time};
use serde::{Deserialize, Serialize};

use super::{Anomaly, Baseline, Course, Finding, Ill, Metric, Sample, Trend, Verdict, judge};
use crate::config::{Cluster, Level, Policy, Probe, ProbeId};

/// The most numbers that have a baseline (SAFE-12); further ones are measured and not compared.
const METRICS_MAX: usize = 512;
/// A sensor without a critical temperature of its own is told about on its way to this one, in °C.
const HOT: f64 = 95.0;

/// The probes of one host.
#[derive(Debug, Default)]
pub struct Board {
    watched: BTreeMap<ProbeId, Watched>,
    metrics: BTreeMap<Metric, Usual>,
}

#[derive(Debug)]
struct Watched {
    probe: Probe,
    course: Course,
    last: Finding,
    seen: Option<Time>,
}

#[derive(Debug, Default)]
struct Usual {
    value: f64,
    baseline: Baseline,
    trend: Trend,
    anomaly: Option<Anomaly>,
    reached_in: Option<Duration>,
}

/// A level of this host's health, as monitoring reads it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LevelReport {
    /// Which.
    pub level: Level,
    /// The worst verdict of its probes; `unknown` only if nothing is worse than healthy and something is not known.
    pub verdict: Verdict,
    /// Each probe, by name.
    pub probes: Vec<ProbeReport>,
}

/// One probe, as monitoring reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// Its name in the configuration.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Its verdict.
    pub verdict: Verdict,
    /// What the last sample said, where it was not healthy.
    pub why: String,
    /// What a verdict of failure leads to.
    pub policy: Policy,
    /// How long ago the last sample was taken, in ms.
    pub sampled_ms: Option<u64>,
}

impl Board {
    /// Looks at what `cluster` wants `me` to look at; what was looked at in the same way before goes on.
    #[must_use]
    pub fn arranged(mut self, cluster: &Cluster, me: HostId) -> Self {
        let watched = cluster.probes().iter().filter(|probe| probe.is_on(me)).map(|probe| {
            let id = probe.id();
            let before = self.watched.remove(&id).filter(|before| before.probe == *probe);
            (id, before.unwrap_or_else(|| Watched::new(probe.clone())))
        });
        self.watched = watched.collect();
        self
    }

    /// What is looked at.
    pub fn probes(&self) -> impl Iterator<Item = &Probe> {
        self.watched.values().map(|watched| &watched.probe)
    }

    /// Takes a sample. True if what [`Self::ills`] says has changed by it, apart from words.
    pub fn take(&mut self, id: ProbeId, sample: &Sample, now: Time) -> bool {
        if let Sample::Capacity(capacity) = sample {
            for (metric, value) in capacity.metrics() {
                let limit = match metric.split_once(' ') {
                    Some(("disk", _)) => Some(100.0),
                    Some(("temperature", sensor)) => {
                        let critical =
                            capacity.temperature_millicelsius.get(sensor).and_then(|(_, critical)| *critical);
                        // The cast is exact below 2^53 m°C.
                        Some(critical.map_or(HOT, |critical| critical as f64 / 1000.0))
                    }
                    Some(_) | None => None,
                };
                self.measure(metric, value, limit, now);
            }
        }
        let Some(watched) = self.watched.get_mut(&id) else { return false };
        let before = (watched.course.verdict(), watched.last.grade);
        watched.last = judge(watched.probe.kind(), watched.probe.slow(), sample);
        watched.seen = Some(now);
        watched.course.see(watched.last.grade, watched.probe.after(), watched.probe.back());
        let changed = before != (watched.course.verdict(), watched.last.grade);
        let took = match sample {
            Sample::Answered { took_us }
            | Sample::Written { took_us }
            | Sample::Http { took_us, .. }
            | Sample::Exit { took_us, .. } => *took_us,
            Sample::Refused(_)
            | Sample::Unit { .. }
            | Sample::Processes(_)
            | Sample::Capacity(_)
            | Sample::Clock { .. }
            | Sample::Hung { .. }
            | Sample::Untaken(_) => return changed,
        };
        let metric = format!("{} took ms", watched.probe.name());
        // The cast is exact below 2^53 us.
        self.measure(metric, took as f64 / 1000.0, None, now);
        changed
    }

    fn measure(&mut self, metric: Metric, value: f64, limit: Option<f64>, now: Time) {
        if self.metrics.len() >= METRICS_MAX && !self.metrics.contains_key(&metric) {
            return;
        }
        let usual = self.metrics.entry(metric).or_default();
        usual.value = value;
        usual.anomaly = usual.baseline.see(value);
        usual.reached_in =
            limit.and_then(|limit| usual.trend.see(now, value, limit)).map(|warning| warning.reached_in);
    }

    /// The verdict of one probe of this host.
    #[must_use]
    pub fn verdict(&self, id: ProbeId) -> Option<Verdict> {
        self.watched.get(&id).map(|watched| watched.course.verdict())
    }

    /// What is not plainly healthy: for the engine.
    #[must_use]
    pub fn ills(&self) -> Vec<Ill> {
        let ill = |(id, watched): (&ProbeId, &Watched)| {
            let (verdict, last) = (watched.course.verdict(), watched.last.grade);
            let why = watched.last.why.clone();
            let well = verdict == Verdict::Healthy && last == Verdict::Healthy;
            let looked = watched.seen.is_some();
            (!well).then_some(Ill { probe: *id, verdict, last, looked, why })
        };
        self.watched.iter().filter_map(ill).collect()
    }

    /// The four levels.
    #[must_use]
    pub fn levels(&self, now: Time) -> Vec<LevelReport> {
        Level::ALL.into_iter().map(|level| self.level(level, now)).collect()
    }

    fn level(&self, level: Level, now: Time) -> LevelReport {
        let mut probes: Vec<ProbeReport> = self
            .watched
            .values()
            .filter(|watched| watched.probe.level() == level)
            .map(|watched| ProbeReport {
                name: watched.probe.name().to_owned(),
                kind: watched.probe.kind().name().to_owned(),
                verdict: watched.course.verdict(),
                why: watched.last.why.clone(),
                policy: watched.probe.on_failure(),
                sampled_ms: watched.seen.map(|seen| now.since(seen).0),
            })
            .collect();
        probes.sort_by(|one, other| one.name.cmp(&other.name));
        let has = |verdict| probes.iter().any(|probe| probe.verdict == verdict);
        let worst =
            [Verdict::Failed, Verdict::Degraded, Verdict::Unknown].into_iter().find(|verdict| has(*verdict));
        LevelReport { level, verdict: worst.unwrap_or(Verdict::Healthy), probes }
    }

    /// Every number that was measured last.
    pub fn values(&self) -> impl Iterator<Item = (&str, f64)> {
        self.metrics.iter().map(|(metric, usual)| (metric.as_str(), usual.value))
    }

    /// The numbers that are not as usual.
    pub fn anomalies(&self) -> impl Iterator<Item = (&str, &Anomaly)> {
        self.metrics.iter().filter_map(|(metric, usual)| Some((metric.as_str(), usual.anomaly.as_ref()?)))
    }

    /// What runs out, or gets too hot, if it goes on as it does; one sentence each.
    pub fn warnings(&self) -> impl Iterator<Item = (&str, String)> {
        self.metrics.iter().filter_map(|(metric, usual)| {
            let hours = usual.reached_in?.0 / 3_600_000;
            let what = match metric.split_once(' ')? {
                ("disk", disk) => format!("{disk} is full in some {hours} h if it fills on as it does"),
                (_, sensor) => format!("{sensor} is too hot in some {hours} h if it gets on as it does"),
            };
            Some((metric.as_str(), what))
        })
    }
}

impl Watched {
    fn new(probe: Probe) -> Self {
        let last = Finding { grade: Verdict::Unknown, why: "not looked at yet".to_owned() };
        Self { probe, course: Course::default(), last, seen: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Capacity;

    fn cluster(more: &str) -> Cluster {
        let text = format!(
            "[cluster]\nname = \"t\"\nkeys = [ {{ id = 1, file = \"/k\" }} ]\n\
             [[host]]\nid = 0\nname = \"a\"\nmachine = \"00000001-0000-0000-0000-000000000001\"\nlinks = [\"127.0.0.1:1\"]\n\
             [[host]]\nid = 1\nname = \"b\"\nmachine = \"00000002-0000-0000-0000-000000000001\"\nlinks = [\"127.0.0.1:2\"]\n\
             [[probe]]\nname = \"gateway\"\nkind = \"gateway\"\naddress = \"127.0.0.1\"\n\
             [[probe]]\nname = \"of-b\"\nkind = \"gateway\"\naddress = \"127.0.0.1\"\non = [\"b\"]\n{more}"
        );
        Cluster::parse(&text, "t").unwrap()
    }

    fn board(more: &str) -> Board {
        Board::default().arranged(&cluster(more), HostId::new(0).unwrap())
    }

    fn no() -> Sample {
        Sample::Refused("no echo".to_owned())
    }

    #[test]
    fn the_first_failure_is_told_and_then_the_verdict_and_then_its_end() {
        let (mut board, gateway) = (board(""), ProbeId::of("gateway"));
        let of = |board: &Board| board.ills().into_iter().find(|ill| ill.probe == gateway);
        let ill = of(&board).unwrap();
        assert_eq!((ill.verdict, ill.ails()), (Verdict::Unknown, true), "nobody may rely on it yet");
        let yes = Sample::Answered { took_us: 5 };
        assert!(board.take(gateway, &yes, Time(0)));
        assert_eq!(of(&board), None);
        assert!(board.take(gateway, &no(), Time(1)), "peers are told of the first failure");
        let ill = of(&board).unwrap();
        assert_eq!((ill.verdict, ill.ails(), ill.why.as_str()), (Verdict::Healthy, true, "no echo"));
        assert!(!board.take(gateway, &no(), Time(2)));
        assert!(board.take(gateway, &no(), Time(3)));
        assert_eq!(of(&board).unwrap().verdict, Verdict::Failed);
        assert!(board.take(gateway, &yes, Time(4)) && !board.take(gateway, &yes, Time(5)));
        let ill = of(&board).unwrap();
        assert_eq!((ill.last, ill.ails()), (Verdict::Healthy, true), "until the verdict is taken back");
        assert!(board.take(gateway, &yes, Time(6)));
        assert_eq!(of(&board), None);
        assert!(!board.take(ProbeId::of("of-b"), &no(), Time(7)), "another host's");
    }

    #[test]
    fn a_level_is_as_bad_as_its_worst_probe() {
        let mut board = board("");
        for at in 0..3 {
            board.take(ProbeId::of("gateway"), &no(), Time(at));
        }
        let verdicts: Vec<(Level, Verdict)> =
            board.levels(Time(9)).iter().map(|level| (level.level, level.verdict)).collect();
        let (unknown, healthy) = (Verdict::Unknown, Verdict::Healthy);
        assert_eq!(
            verdicts,
            [(Level::L1, healthy), (Level::L2, Verdict::Failed), (Level::L3, unknown), (Level::L4, unknown)]
        );
        let gateway = &board.levels(Time(9))[1].probes[0];
        assert_eq!(
            (gateway.name.as_str(), gateway.sampled_ms, gateway.policy),
            ("gateway", Some(7), Policy::Drain)
        );
    }

    #[test]
    fn another_configuration_goes_on_with_what_is_the_same() {
        let mut board = board("");
        for at in 0..3 {
            board.take(ProbeId::of("gateway"), &no(), Time(at));
        }
        let more = "[[probe]]\nname = \"disk\"\nkind = \"storage\"\npath = \"/x\"\n";
        let board = board.arranged(&cluster(more), HostId::new(0).unwrap());
        let verdicts: Vec<Verdict> =
            board.levels(Time(9))[1].probes.iter().map(|probe| probe.verdict).collect();
        assert_eq!(verdicts, [Verdict::Unknown, Verdict::Failed]);
        let slower = cluster("[health]\nafter = 5\n");
        let board = board.arranged(&slower, HostId::new(0).unwrap());
        assert_eq!(board.levels(Time(9))[1].verdict, Verdict::Unknown, "it asks for more now");
    }

    #[test]
    fn what_fills_up_and_what_is_unusual_is_told() {
        let mut board = board("");
        let id = ProbeId::of("capacity");
        let disk = |taken| {
            let disk_permille = [("/".to_owned(), taken)].into();
            Sample::Capacity(Capacity { disk_permille, load_permille: Some(100), ..Capacity::default() })
        };
        for at in 0..60 {
            board.take(id, &disk(500 + u32::try_from(at).unwrap()), Time(at * 60_000));
        }
        let warnings: Vec<_> = board.warnings().collect();
        assert_eq!(warnings, [("disk /", "/ is full in some 7 h if it fills on as it does".to_owned())]);
        assert_eq!(board.anomalies().count(), 0);
        let busy = Capacity { load_permille: Some(900), ..Capacity::default() };
        board.take(id, &Sample::Capacity(busy), Time(61 * 60_000));
        let anomalies: Vec<_> = board.anomalies().map(|(metric, anomaly)| (metric, anomaly.value)).collect();
        assert_eq!(anomalies, [("load", 90.0)]);
    }

    #[test]
    fn numbers_without_end_have_an_end() {
        let mut board = board("");
        for at in 0..2 * METRICS_MAX as u64 {
            let disk_permille = [(format!("/{at}"), 5)].into();
            let sample = Sample::Capacity(Capacity { disk_permille, ..Capacity::default() });
            board.take(ProbeId::of("capacity"), &sample, Time(at));
        }
        assert_eq!(board.values().count(), METRICS_MAX);
    }
}
