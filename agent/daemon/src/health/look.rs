//! One look at one thing. It says what it saw, never whether that is good.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use nix::libc;
use palisade_core::config::{Probe, ProbeKind};
use palisade_core::health::Sample;
use tokio::net::TcpStream;
use tokio::process::Child;

use super::guard::Guard;
use super::{capacity, http, storage};
use crate::bus::Systemd;
use crate::workload::process::{self, Ended, Output, Program, RunError};

/// Of what a program says, so much stands in a verdict.
const SAID_MAX: usize = 200;

/// What looks at one thing keep between them.
#[derive(Default)]
pub(super) struct Eye {
    guard: Guard,
    bus: Option<Systemd>,
    /// A program that not even SIGKILL ended.
    hanging: Option<(Child, Instant)>,
    /// The last look could not be taken: asking sooner would not help.
    untaken: bool,
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Eye {
    /// One that shares what hangs with those before it.
    pub(super) fn new(guard: Guard) -> Self {
        Self { guard, ..Self::default() }
    }

    /// Whether what is needed to look was lacking.
    pub(super) fn has_no_means(&self) -> bool {
        self.untaken
    }

    /// Looks once; back within the probe's time-out and a moment.
    pub(super) async fn look(&mut self, probe: &Probe, host: &str) -> Sample {
        let sample = self.see(probe, host).await;
        self.untaken = matches!(sample, Sample::Untaken(_));
        sample
    }

    async fn see(&mut self, probe: &Probe, host: &str) -> Sample {
        let timeout = Duration::from_millis(probe.timeout().0);
        match probe.kind() {
            ProbeKind::Process { name } => {
                let name = name.clone();
                self.guard.look(timeout, move || processes(&name)).await
            }
            ProbeKind::Unit { unit } => self.unit(unit, timeout).await,
            ProbeKind::Tcp { address } => tcp(*address, timeout).await,
            ProbeKind::Http(http) => http::look(http, timeout).await,
            ProbeKind::Command { command } => self.program(command, timeout).await,
            ProbeKind::Storage { path, .. } => {
                let file = storage::file(path, host);
                self.guard.look(timeout, move || storage::look(&file)).await
            }
            ProbeKind::Gateway { address } => self.gateway(*address, timeout).await,
            ProbeKind::Libvirt { uri } => {
                let words = ["/usr/bin/virsh", "-q", "-c", uri, "list", "--name"];
                self.program(&words.map(str::to_owned), timeout).await
            }
            ProbeKind::Capacity(limits) => {
                let disks: Vec<PathBuf> = limits.disks().map(PathBuf::from).collect();
                self.guard.look(timeout, move || Sample::Capacity(capacity::look(&disks))).await
            }
            ProbeKind::Clock { .. } => clock(),
        }
    }

    async fn unit(&mut self, unit: &str, timeout: Duration) -> Sample {
        let looked = tokio::time::timeout(timeout, async {
            let bus = match &self.bus {
                Some(bus) => bus.clone(),
                None => Systemd::connect().await?,
            };
            let (state, _) = bus.state(unit).await?;
            Ok::<_, crate::bus::BusError>((bus, state))
        });
        let looked = looked.await;
        match looked {
            Ok(Ok((bus, state))) => {
                self.bus = Some(bus);
                Sample::Unit { state }
            }
            // The unit may well run: it is systemd, or the bus, that does not say.
            Ok(Err(error)) => {
                self.bus = None;
                Sample::Untaken(error.to_string())
            }
            Err(_) => {
                self.bus = None;
                Sample::Untaken(format!("systemd has not answered for {} ms", timeout.as_millis()))
            }
        }
    }

    /// The echo of `ping` (iputils): 0, one came; 1, none; 2, it could not ask.
    async fn gateway(&mut self, address: IpAddr, timeout: Duration) -> Sample {
        // No way there is as good a no as no echo; `ping` calls both that and its own troubles 2.
        if let Err(error) = has_way(address)
            && matches!(
                error.kind(),
                ErrorKind::NetworkUnreachable
                    | ErrorKind::HostUnreachable
                    | ErrorKind::NetworkDown
                    // IPv6 says so of a host that has no address to send from.
                    | ErrorKind::AddrNotAvailable
            )
        {
            return Sample::Refused(format!("{address}: {error}"));
        }
        // In whole seconds, and gone by itself before it would be killed wherever the time-out allows.
        let wait = timeout.as_secs().saturating_sub(1).max(1).to_string();
        let address = address.to_string();
        let words = ["/bin/ping", "-n", "-c", "1", "-W", &wait, &address].map(str::to_owned);
        let (ended, took_us) = match self.ended(&words, timeout).await {
            Ok(ended) => ended,
            Err(sample) => return sample,
        };
        match ended.status.code() {
            Some(0) => Sample::Answered { took_us },
            Some(1) => Sample::Refused(format!("{address}: no echo")),
            Some(_) | None => {
                Sample::Untaken(format!("ping: {}: {}", ended.how(), first_line(&ended.output)))
            }
        }
    }

    async fn program(&mut self, argv: &[String], timeout: Duration) -> Sample {
        match self.ended(argv, timeout).await {
            Ok((ended, took_us)) => Sample::Exit {
                code: ExitStatus::code(&ended.status),
                took_us,
                said: first_line(&ended.output),
            },
            Err(sample) => sample,
        }
    }

    /// Runs a program to its end; what else it came to.
    async fn ended(&mut self, argv: &[String], timeout: Duration) -> Result<(Ended, u64), Sample> {
        if let Some((child, since)) = &mut self.hanging {
            match child.try_wait() {
                Ok(None) => {
                    let for_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                    return Err(Sample::Hung { for_ms });
                }
                // Gone, or none of ours any more.
                Ok(Some(_)) | Err(_) => self.hanging = None,
            }
        }
        let begin = Instant::now();
        let program = Program { argv, environment: &[], cgroup: None, output: Output::Kept, timeout };
        process::run(program).await.map(|ended| (ended, micros(begin.elapsed()))).map_err(|error| match error
        {
            RunError::Spawn { .. } => Sample::Untaken(format!("{error}; is its package installed?")),
            RunError::TimedOut { hanging: Some(child), .. } => {
                self.hanging = Some((child, begin));
                Sample::Hung { for_ms: u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX) }
            }
            RunError::TimedOut { hanging: None, .. } => Sample::Refused(error.to_string()),
        })
    }
}

/// Whether the kernel knows a way; nothing is sent.
fn has_way(address: IpAddr) -> std::io::Result<()> {
    const DISCARD: u16 = 9;
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    std::net::UdpSocket::bind((any, 0))?.connect((address, DISCARD))
}

async fn tcp(address: SocketAddr, timeout: Duration) -> Sample {
    let begin = Instant::now();
    match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Sample::Answered { took_us: micros(begin.elapsed()) },
        Ok(Err(error)) => Sample::Refused(format!("{address}: {error}")),
        Err(_) => Sample::Refused(format!("{address}: no answer in {} ms", timeout.as_millis())),
    }
}

fn processes(name: &str) -> Sample {
    let entries = match std::fs::read_dir("/proc") {
        Ok(entries) => entries,
        Err(error) => return Sample::Untaken(format!("/proc: {error}")),
    };
    let is_one = |entry: &std::fs::DirEntry| {
        let pid = entry.file_name();
        pid.to_str().is_some_and(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()))
            && std::fs::read_to_string(entry.path().join("comm"))
                .is_ok_and(|comm| comm.trim_end_matches('\n') == name)
            && !is_zombie(&entry.path())
    };
    Sample::Processes(u32::try_from(entries.flatten().filter(is_one).count()).unwrap_or(u32::MAX))
}

/// It has ended and is not reaped: proc(5), `stat`, the state after the name in parentheses.
fn is_zombie(process: &std::path::Path) -> bool {
    let stat = std::fs::read_to_string(process.join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// adjtimex(2): `STA_UNSYNC` and `maxerror`.
fn clock() -> Sample {
    // SAFETY: a `timex` of zeros asks and sets nothing; it lives over the call.
    let (state, timex) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex)
    };
    if state < 0 {
        return Sample::Untaken(format!("adjtimex: {}", std::io::Error::last_os_error()));
    }
    let synchronised = state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0;
    Sample::Clock { synchronised, error_us: u64::try_from(timex.maxerror).unwrap_or(u64::MAX) }
}

/// As it may stand in a record: short, and without what would act on a terminal.
fn first_line(output: &str) -> String {
    output
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|char| !char.is_control())
        .take(SAID_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use palisade_core::config::Cluster;

    use super::*;
    use crate::testing::run;

    /// What `kind` sees on this very machine.
    fn seen(kind: &str) -> Sample {
        let host = |id: u8| {
            format!(
                "[[host]]\nid = {id}\nname = \"h{id}\"\nmachine = \"0000000{}-0000-0000-0000-000000000001\"\n\
                 links = [\"127.0.0.1:{}\"]\n",
                id + 1,
                id + 1
            )
        };
        let text = format!(
            "[cluster]\nname = \"t\"\nkeys = [ {{ id = 1, file = \"/k\" }} ]\n{}{}[[probe]]\nname = \"x\"\nevery = \"20s\"\n{kind}\n",
            host(0),
            host(1)
        );
        let cluster = Cluster::parse(&text, "t").unwrap_or_else(|error| panic!("{error}"));
        run(async { Eye::default().look(&cluster.probes()[0], "h0").await })
    }

    #[test]
    fn a_port_that_listens_answers_and_another_refuses() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let kind = format!("kind = \"tcp\"\naddress = \"{address}\"");
        assert!(matches!(seen(&kind), Sample::Answered { .. }));
        drop(listener);
        assert!(matches!(seen(&kind), Sample::Refused(why) if why.contains("refused")));
    }

    #[test]
    fn an_http_resource_tells_its_status() {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            for answer in [
                "HTTP/1.1 204 No Content\r\n\r\n",
                "HTTP/1.1 503 No\r\n\r\nbusy",
                "SSH-2.0-OpenSSH_9.2\r\n",
                "",
            ] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let length = stream.read(&mut request).unwrap();
                assert!(request[..length].starts_with(b"GET /ready?x=1 HTTP/1.1\r\nhost: 127.0.0.1:"));
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let kind = format!("kind = \"http\"\nurl = \"http://{address}/ready?x=1\"");
        assert!(matches!(seen(&kind), Sample::Http { status: 204, .. }));
        assert!(matches!(seen(&kind), Sample::Http { status: 503, .. }));
        assert!(matches!(seen(&kind), Sample::Refused(why) if why.contains("is no HTTP response")));
        assert!(matches!(seen(&kind), Sample::Refused(_)));
        server.join().unwrap();
    }

    #[test]
    fn a_program_says_how_it_ended_and_a_missing_one_cannot_be_asked() {
        let command =
            |words: &str| seen(&format!("kind = \"command\"\ncommand = [{words}]\ntimeout = \"300ms\""));
        let said = command("\"/bin/sh\", \"-c\", \"echo warm; echo more; exit 1\"");
        assert!(matches!(&said, Sample::Exit { code: Some(1), said, .. } if said == "warm"), "{said:?}");
        let long = command("\"/bin/sh\", \"-c\", \"exec sleep 60\"");
        assert!(
            matches!(&long, Sample::Refused(why) if why.contains("no end after 300 ms, killed")),
            "{long:?}"
        );
        assert!(matches!(command("\"/bin/no-such-program\""), Sample::Untaken(_)));
    }

    #[test]
    fn processes_are_counted_by_name() {
        let own = std::fs::read_to_string("/proc/self/comm").unwrap();
        let kind = |name: &str| format!("kind = \"process\"\nprocess = \"{name}\"");
        assert!(matches!(seen(&kind(own.trim())), Sample::Processes(1..)));
        assert_eq!(seen(&kind("no-such-process")), Sample::Processes(0));
    }

    #[test]
    fn loopback_answers_an_echo() {
        assert!(matches!(seen("kind = \"gateway\"\naddress = \"127.0.0.1\""), Sample::Answered { .. }));
    }

    /// A host that has lost its address or its route: the most usual way to lose a gateway.
    #[test]
    fn without_a_way_there_is_no_gateway() {
        let alone = std::thread::spawn(|| {
            // SAFETY: this thread alone gets a network namespace of its own, in which nothing is up; it ends with it.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "this test needs root");
            [
                seen("kind = \"gateway\"\naddress = \"10.0.0.1\""),
                seen("kind = \"gateway\"\naddress = \"fd00::1\""),
            ]
        });
        for sample in alone.join().unwrap() {
            assert!(matches!(&sample, Sample::Refused(_)), "{sample:?}");
        }
    }

    #[test]
    fn libvirts_test_hypervisor_answers() {
        let seen = seen("kind = \"libvirt\"\nuri = \"test:///default\"");
        assert!(matches!(&seen, Sample::Exit { code: Some(0), said, .. } if said == "test"), "{seen:?}");
    }

    #[test]
    fn the_kernel_tells_of_its_clock() {
        assert!(matches!(seen("kind = \"clock\""), Sample::Clock { .. }));
    }
}
