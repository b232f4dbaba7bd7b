//! Central monitoring as people run it: mosquitto with the configuration and the access list of `doc/`, certificates on both
//! sides, `mosquitto_sub` as the consumer.

use std::collections::BTreeSet;
use std::io::BufRead as _;
use std::process::{Child, Command, Stdio};

use super::*;
use crate::mqtt::broker::{Ca, free_port};
use crate::mqtt::tls;

/// Ten events a second and host, each with a long text: an incident that does not end.
const TEN_MINUTES: u64 = 600 * 10;
const BEFORE: u64 = 50;
const AFTER: u64 = 500;
const TEXT_BYTES: usize = 1000;

struct Site {
    ca: Ca,
    kept: TempDir,
    port: u16,
}

impl Site {
    fn new() -> Self {
        let ca = Ca::new();
        ca.sign("broker", "IP:127.0.0.1");
        ["a", "b", "monitoring"].iter().for_each(|name| ca.sign(name, &format!("DNS:{name}")));
        for name in ["a.key", "b.key"] {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(ca.file(name), std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        Self { ca, kept: TempDir::new(), port: free_port() }
    }

    fn broker(&self) -> Broker {
        let (doc, kept) = (concat!(env!("CARGO_MANIFEST_DIR"), "/doc/"), self.kept.path());
        let config = std::fs::read_to_string(format!("{doc}mosquitto.conf")).unwrap();
        let certs = self.ca.file("");
        let mut config = config
            .replace("listener 8883\n", &format!("listener {} 127.0.0.1\nuser root\n", self.port))
            .replace("/etc/mosquitto/certs/palisade-ca.pem", &format!("{}ca.pem", certs.display()))
            .replace("/etc/mosquitto/certs/", &certs.display().to_string())
            .replace("/etc/mosquitto/palisade.acl", &format!("{doc}mosquitto.acl"))
            .replace("/var/lib/mosquitto/", &format!("{}/", kept.display()));
        // Whatever is said is said here.
        config.push_str("log_dest none\n");
        Broker::start_as(&config, self.port)
    }

    fn client(&self, program: &str, user: &str) -> Command {
        let mut command = Command::new(program);
        let port = self.port.to_string();
        command.args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "--cafile"]).arg(self.ca.file("ca.pem"));
        command.arg("--cert").arg(self.ca.file(&format!("{user}.pem")));
        command.arg("--key").arg(self.ca.file(&format!("{user}.key")));
        command
    }

    /// The configuration with this host's certificate.
    fn cluster(&self, name: &str) -> Cluster {
        let host = |id: u8, name: &str| {
            format!(
                "[[host]]\nid = {id}\nname = \"{name}\"\nmachine = \"0000000{}-0000-0000-0000-000000000001\"\n\
                 links = [\"127.0.0.1:{}\"]\n",
                id + 1,
                7411 + u16::from(id)
            )
        };
        let file = |name: &str| self.ca.file(name).display().to_string();
        let text = format!(
            "[cluster]\nname = \"edge-a\"\nkeys = [ {{ id = 1, file = \"/k\" }} ]\n\
             [telemetry]\nbroker = \"mqtts://127.0.0.1:{}\"\nca = \"{}\"\ncertificate = \"{}\"\n\
             key = {{ file = \"{}\" }}\n{}{}",
            self.port,
            file("ca.pem"),
            file(&format!("{name}.pem")),
            file(&format!("{name}.key")),
            host(0, "a"),
            host(1, "b"),
        );
        Cluster::parse(&text, "t").unwrap_or_else(|error| panic!("{error}"))
    }

    /// The telemetry of this host.
    fn agent(&self, name: &'static str, dir: &TempDir) -> (Agent, impl Future<Output = ()> + use<>) {
        let counters = Arc::new(Counters::default());
        let teller = Teller { host: name.to_owned(), life: "00000000000000aa".to_owned() };
        let (outlet, seat) = outlet(teller, counters.clone());
        let keeper = seat.begin_on(Disk::new(dir.path()), Limits::of(64 << 20)).unwrap();
        let (tell, outbox) = mpsc::channel(QUEUE);
        let ends = (tell.downgrade(), outbox, None);
        let agent = Agent { outlet, tell: Some(tell), counters: counters.clone() };
        let cluster = self.cluster(name);
        let own = cluster.telemetry().unwrap().broker().tls().unwrap();
        let tls = tls::load(own, &mut ring::digest::Context::new(&ring::digest::SHA256));
        let access = Access { login: None, tls: Some(tls.unwrap_or_else(|error| panic!("{error}"))) };
        let session = async move {
            let session = Session::default();
            super::super::run(&cluster, name, access, &session, ends, keeper, counters, Default::default())
                .await;
        };
        (agent, session)
    }
}

/// A consumer with a session of its own at the broker.
struct Monitoring {
    process: Child,
    lines: mpsc::Receiver<String>,
}

impl Drop for Monitoring {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Monitoring {
    fn subscribe(site: &Site) -> Self {
        let mut command = site.client("mosquitto_sub", "monitoring");
        command.args(["-i", "central", "-c", "-F", "%t %p", "-t", "palisade/edge-a/#"]);
        let process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut process = process.expect("mosquitto_sub is not installed: apt-get install mosquitto-clients");
        let (heard, lines) = mpsc::channel(64);
        let stdout = std::io::BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if heard.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        Self { process, lines }
    }

    /// The next line, if one is there. `mosquitto_sub` ends with its connection: another one goes on with its session.
    fn next(&mut self, site: &Site) -> Option<String> {
        match self.lines.try_recv() {
            Ok(line) => Some(line),
            Err(mpsc::error::TryRecvError::Empty) => None,
            Err(mpsc::error::TryRecvError::Disconnected) => {
                *self = Self::subscribe(site);
                None
            }
        }
    }
}

/// What central monitoring knows of a host: the numbers of its events in the order of their first coming.
#[derive(Default)]
struct Known {
    ids: BTreeSet<String>,
    events: Vec<u64>,
    again: usize,
}

impl Known {
    fn hear(&mut self, said: &serde_json::Value) {
        if !self.ids.insert(said["id"].as_str().unwrap().to_owned()) {
            self.again += 1;
            return;
        }
        assert_eq!(said["event"]["kind"], "alarm", "no gap, nothing else: {said}");
        let n = said["event"]["what"].as_str().unwrap().split(' ').nth(1).unwrap();
        self.events.push(n.parse().unwrap());
    }
}

fn long_event(n: u64) -> Box<Event> {
    Box::new(Event::Alarm { what: format!("number {n} {}", "x".repeat(TEXT_BYTES)) })
}

/// Hands over events as the run loop does, no faster than the spool takes them.
async fn load(agent: &mut Agent, numbers: std::ops::Range<u64>) {
    for n in numbers {
        agent.event(long_event(n));
        while agent.counters.spool_events.value() + agent.counters.telemetry_acknowledged.value() + 100 < n {
            tokio::task::yield_now().await;
        }
        // SAFE-12: what waits, waits on the disk.
        assert!(agent.counters.spool_memory_bytes.value() < 256 * 1024);
    }
}

/// What this process holds in memory.
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Mosquitto is killed, ten minutes of load go by without it, it comes back, is stopped and started once more while the hosts
/// catch up, and central monitoring has every event, in order per host, once by id. Meanwhile a host tries to speak for another.
#[test]
fn ten_minutes_of_load_without_a_broker_cost_nothing() {
    let site = Site::new();
    run(async {
        let broker = site.broker();
        while std::net::TcpStream::connect(("127.0.0.1", site.port)).is_err() {
            tokio::task::yield_now().await;
        }
        let mut monitoring = Monitoring::subscribe(&site);
        let (dir_a, dir_b) = (TempDir::new(), TempDir::new());
        let ((mut a, session_a), (mut b, session_b)) = (site.agent("a", &dir_a), site.agent("b", &dir_b));
        // The access list: taken with thanks, and told to nobody.
        let mut rogue = site.client("mosquitto_pub", "a");
        rogue.args(["-t", "palisade/edge-a/host/b/state", "-r", "-m", "{\"rogue\":true}"]);
        assert!(rogue.status().expect("mosquitto_pub is not installed").success());

        let test = async {
            let (mut known_a, mut known_b, mut states) =
                (Known::default(), Known::default(), BTreeSet::new());
            let mut hear = |line: String, known_a: &mut Known, known_b: &mut Known| {
                let (topic, payload) = line.split_once(' ').unwrap();
                let said: serde_json::Value = serde_json::from_str(payload).unwrap();
                assert!(said.get("rogue").is_none(), "{line}");
                match (topic, said["host"].as_str()) {
                    ("palisade/edge-a/event", Some("a")) => known_a.hear(&said),
                    ("palisade/edge-a/event", Some("b")) => known_b.hear(&said),
                    _ => drop(states.insert(topic.to_owned())),
                }
            };
            let state = Tell::State(serde_json::from_str(STATUS).unwrap());
            assert!(a.tell.as_ref().unwrap().try_send(state).is_ok());
            load(&mut a, 0..BEFORE).await;
            load(&mut b, 0..BEFORE).await;
            while known_a.events.len() + known_b.events.len() < 2 * usize::try_from(BEFORE).unwrap() {
                match monitoring.next(&site) {
                    Some(line) => hear(line, &mut known_a, &mut known_b),
                    None => tokio::task::yield_now().await,
                }
            }
            // The broker writes down who has subscribed.
            nix::sys::signal::kill(broker.pid(), nix::sys::signal::Signal::SIGUSR1).unwrap();
            let kept = site.kept.path().join("mosquitto.db");
            while !std::fs::read(&kept).is_ok_and(|kept| kept.windows(7).any(|part| part == b"central")) {
                tokio::task::yield_now().await;
            }
            broker.stop();

            let up_to = BEFORE + TEN_MINUTES;
            load(&mut a, BEFORE..up_to / 2).await;
            load(&mut b, BEFORE..up_to / 2).await;
            let half = resident_bytes();
            load(&mut a, up_to / 2..up_to).await;
            load(&mut b, up_to / 2..up_to).await;
            // Some 12 MB of events went to the disk.
            let grown = resident_bytes().saturating_sub(half);
            assert!(grown < 4 << 20, "memory grew by {grown} bytes");

            let broker = site.broker();
            while a.counters.telemetry_acknowledged.value() < TEN_MINUTES / 3 {
                match monitoring.next(&site) {
                    Some(line) => hear(line, &mut known_a, &mut known_b),
                    None => tokio::task::yield_now().await,
                }
            }
            broker.end();
            let _broker = site.broker();
            let all = up_to + AFTER;
            for n in up_to..all {
                load(&mut a, n..n + 1).await;
                load(&mut b, n..n + 1).await;
                while let Some(line) = monitoring.next(&site) {
                    hear(line, &mut known_a, &mut known_b);
                }
            }
            let whole: Vec<u64> = (0..all).collect();
            while known_a.events.len() < whole.len() || known_b.events.len() < whole.len() {
                match monitoring.next(&site) {
                    Some(line) => hear(line, &mut known_a, &mut known_b),
                    None => tokio::task::yield_now().await,
                }
            }
            // Every one, in order, once.
            assert!(known_a.events == whole && known_b.events == whole);
            eprintln!("{} events of each host; again: {} and {}", all, known_a.again, known_b.again);
            assert!(states.contains("palisade/edge-a/host/a/state"), "{states:?}");
            assert_eq!(a.counters.spool_lost.value() + b.counters.spool_lost.value(), 0);
            (a.tell, b.tell) = (None, None);
        };
        tokio::join!(session_a, session_b, test);
    });
}
