//! A host that enforces cuts, for the drivers' tests: a network namespace with a real sshd in it, between the test's own
//! namespace, a host that is cut off, and one behind it. Nothing here touches the machine's own network.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy knows a test only inside #[test]"
)]

pub mod points;

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use palisade_devices::ssh::{Enforcing, Point, SshConfig};
use palisade_devices::{Device as _, Standing, Warrant};
use palisade_ladder::{Command, Failure, Reading, Response};
use tempfile::TempDir;

pub const DEADLINE: Duration = Duration::from_secs(20);
/// What has not come by then was stopped; what flows comes in less than a millisecond.
pub const STOPPED: Duration = Duration::from_millis(300);
/// A connection that was cut sends again by itself, ever later.
pub const FLOWS: Duration = Duration::from_secs(20);
pub const SSHD: &str = "10.9.0.2:2222";

/// Ended with the test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A network namespace, as long as this lives.
pub struct Space(Running);

impl Space {
    /// Programs in there have a `/run` of their own, and neither configfs nor programs in `/usr/local/sbin`.
    fn new() -> Self {
        let mut holder = Process::new("unshare");
        let script = "for place in /run /sys/kernel /usr/local/sbin; do mount -t tmpfs tmpfs $place; done
                      mkdir /run/sshd; ip link set lo up; echo up; exec cat";
        holder.args(["--net", "--mount", "sh", "-ec", script]);
        let holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut holder = Running(holder.expect("no unshare program: install util-linux"));
        let mut up = [0; 3];
        holder.0.stdout.as_mut().unwrap().read_exact(&mut up).expect("no namespace: run this as root");
        Self(holder)
    }

    fn id(&self) -> String {
        self.0.0.id().to_string()
    }

    /// Does `work` in there.
    pub fn within<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let space = File::open(format!("/proc/{}/ns/net", self.id())).unwrap();
        let inside = std::thread::spawn(move || {
            setns(space, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        inside.join().unwrap()
    }

    /// Runs shell commands in there.
    pub fn sh(&self, script: &str) -> String {
        let mut inside = Process::new("nsenter");
        inside.args(["--net", "--mount", "--target", &self.id(), "sh", "-ec", script]);
        let output = inside.stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "{script}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts a program in there.
    pub fn start(&self, program: &str, arguments: &[&str]) -> Running {
        let mut inside = Process::new("nsenter");
        inside.args(["--net", "--mount", "--target", &self.id(), program]).args(arguments);
        Running(inside.stdin(Stdio::null()).spawn().unwrap_or_else(|error| panic!("{program}: {error}")))
    }
}

fn here(script: &str) {
    assert!(Process::new("sh").args(["-ec", script]).status().unwrap().success(), "{script}");
}

/// The whole of it: `host` enforces, `victim` is cut off, and also has the address of a neighbour; `behind` lies behind `host`.
pub struct Lab {
    pub dir: TempDir,
    pub host: Space,
    pub victim: Space,
    pub behind: Space,
    _sshd: Running,
}

impl Lab {
    /// Moves this thread into a network of its own first.
    pub fn new() -> Self {
        Self::with("")
    }

    /// `settings` go into the sshd's configuration.
    pub fn with(settings: &str) -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("run this as root");
        let (host, victim, behind) = (Space::new(), Space::new(), Space::new());
        here(&format!(
            "ip link set lo up; ip link add way type veth peer name way netns {host}; ip addr add 10.9.0.1/24 dev way; ip link set way up",
            host = host.id()
        ));
        host.sh(&format!(
            "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
             ip link add victim type veth peer name eth0 netns {}; ip link add behind type veth peer name eth0 netns {}
             for link in way victim behind; do ip link set $link up; done
             ip addr add 10.9.0.2/24 dev way; ip addr add 10.0.0.1/24 dev victim; ip addr add 10.1.0.1/24 dev behind
             ip addr add fd00::1/64 dev victim nodad; ip addr add fd01::1/64 dev behind nodad",
            victim.id(),
            behind.id()
        ));
        victim.sh(
            "ip link set eth0 up; ip addr add 10.0.0.2/24 dev eth0; ip addr add 10.0.0.3/24 dev eth0
             ip addr add fd00::2/64 dev eth0 nodad; ip route add default via 10.0.0.1; ip route add default via fd00::1",
        );
        behind.sh(
            "ip link set eth0 up; ip addr add 10.1.0.2/24 dev eth0; ip addr add fd01::2/64 dev eth0 nodad
             ip route add default via 10.1.0.1; ip route add default via fd01::1",
        );
        let dir = TempDir::new().unwrap();
        let path = dir.path().display();
        for key in ["host_key", "other_host_key", "id", "other_id"] {
            here(&format!("ssh-keygen -q -t ed25519 -N '' -C '' -f {path}/{key}"));
        }
        let known = |file: &str, key: &str| {
            let key = fs::read_to_string(dir.path().join(format!("{key}.pub"))).unwrap();
            fs::write(dir.path().join(file), format!("[10.9.0.2]:2222 {key}")).unwrap();
        };
        known("known_hosts", "host_key");
        known("other_known_hosts", "other_host_key");
        fs::write(dir.path().join("empty_known_hosts"), "").unwrap();
        fs::copy(dir.path().join("id.pub"), dir.path().join("authorized_keys")).unwrap();
        let config = format!(
            "ListenAddress {SSHD}\nHostKey {path}/host_key\nAuthorizedKeysFile {path}/authorized_keys\nStrictModes no\n\
             PidFile none\nUsePAM no\nPermitRootLogin prohibit-password\nPrintMotd no\nLogLevel QUIET\n{settings}\n"
        );
        fs::write(dir.path().join("sshd_config"), config).unwrap();
        let mut sshd = host.start("/usr/sbin/sshd", &["-D", "-e", "-f", &format!("{path}/sshd_config")]);
        appears(SSHD.parse().unwrap(), &mut sshd);
        Self { dir, host, victim, behind, _sshd: sshd }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// How to log in to `host`.
    pub fn ssh(&self) -> SshConfig {
        self.ssh_with("id", "known_hosts")
    }

    pub fn ssh_with(&self, identity: &str, known_hosts: &str) -> SshConfig {
        self.ssh_at(SSHD.parse().unwrap(), identity, known_hosts)
    }

    pub fn ssh_at(&self, address: SocketAddr, identity: &str, known_hosts: &str) -> SshConfig {
        SshConfig::new("root", address, self.path(identity), self.path(known_hosts)).unwrap()
    }
}

/// Waits until somebody listens there; the program's end before that fails the test.
fn appears(address: SocketAddr, by: &mut Running) {
    let until = Instant::now() + DEADLINE;
    while TcpStream::connect(address).is_err() {
        if let Some(status) = by.0.try_wait().unwrap() {
            panic!("it ends with {status}; this test needs the package openssh-server, and root");
        }
        assert!(Instant::now() < until, "nobody at {address}");
        std::thread::yield_now();
    }
}

pub async fn run<P: Point>(device: &mut Enforcing<P>, command: Command) -> Result<Response, Failure> {
    device.run(command, (tokio::time::Instant::now() + DEADLINE).into()).await
}

pub async fn reads<P: Point>(device: &mut Enforcing<P>) -> Reading {
    match run(device, Command::Read).await {
        Ok(Response::Reads(reading)) => reading,
        other @ (Ok(_) | Err(_)) => panic!("{other:?}"),
    }
}

thread_local! {
    static LOOKS: Cell<u64> = const { Cell::new(0) };
}

/// Standing that is lost after so many looks at it.
pub fn holds_for(looks: u64) -> Warrant {
    LOOKS.set(0);
    let standing = Standing::new(looks, || LOOKS.replace(LOOKS.get() + 1));
    Warrant { deadline: tokio::time::Instant::now() + DEADLINE, standing: Some(standing), whom: None }
}

/// A TCP connection from the victim's `from` to somebody who listens at `to` in `server`.
pub struct Flow {
    pub near: TcpStream,
    pub far: TcpStream,
}

impl Flow {
    pub fn new(lab: &Lab, from: &str, server: &Space, to: &str) -> Self {
        let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let listener = server.within(move || TcpListener::bind(to).unwrap());
        let near = lab.victim.within(move || connect(from, to).expect("a connection that flows"));
        let (far, _) = listener.accept().unwrap();
        Self { near, far }
    }

    /// Whether a word from the victim arrives.
    pub fn arrives(&mut self) -> bool {
        self.near.write_all(b"x").unwrap();
        heard(&mut self.far, FLOWS)
    }

    /// Whether a word from the victim does not arrive.
    pub fn is_stopped(&mut self) -> bool {
        self.near.write_all(b"x").unwrap();
        !heard(&mut self.far, STOPPED)
    }

    /// Whether what was sent meanwhile arrives at last, and an answer as well.
    pub fn resumes(&mut self) -> bool {
        heard(&mut self.far, FLOWS) && self.far.write_all(b"y").is_ok() && heard(&mut self.near, FLOWS)
    }
}

fn heard(stream: &mut TcpStream, within: Duration) -> bool {
    received(within, |left| {
        stream.set_read_timeout(Some(left)).unwrap();
        stream.read(&mut [0; 16])
    })
}

/// Whether anything comes. The end of a program that a test has started interrupts the wait.
fn received(within: Duration, mut read: impl FnMut(Duration) -> std::io::Result<usize>) -> bool {
    let until = Instant::now() + within;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match read(left.max(Duration::from_millis(1))) {
            Ok(read) => return read > 0,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return false;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Over a socket that is bound to `from`; std has no way to.
pub fn connect(from: SocketAddr, to: SocketAddr) -> Option<TcpStream> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};
    use std::os::fd::AsRawFd as _;
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let stream = socket(family, SockType::Stream, SockFlag::empty(), None).unwrap();
    bind(stream.as_raw_fd(), &SockaddrStorage::from(from)).unwrap();
    connect(stream.as_raw_fd(), &SockaddrStorage::from(to)).ok()?;
    Some(TcpStream::from(stream))
}

/// Whether a datagram gets from one to the other.
pub fn datagram(from: &Space, source: &str, to: &Space, target: &str) -> bool {
    datagram_by(from, source, to, target, target, FLOWS)
}

/// Whether none does.
pub fn no_datagram(from: &Space, source: &str, to: &Space, target: &str) -> bool {
    !datagram_by(from, source, to, target, target, STOPPED)
}

/// Whether one gets to `target` that is sent to another address, which somebody on the way translates.
pub fn datagram_by(from: &Space, source: &str, to: &Space, target: &str, by: &str, within: Duration) -> bool {
    let [source, target, by] = [source, target, by].map(|address| address.parse::<SocketAddr>().unwrap());
    let far = to.within(move || UdpSocket::bind(target).unwrap());
    // One that is stopped where it is sent may be an error.
    from.within(move || drop(UdpSocket::bind(source).unwrap().send_to(b"x", by)));
    comes(&far, within)
}

/// Whether a datagram of the type of service 0x08 gets from one to the other, which routes and rules may treat otherwise.
pub fn datagram_of_service(from: &Space, source: &str, to: &Space, target: &str, within: Duration) -> bool {
    let [source, target] = [source, target].map(|address| address.parse::<SocketAddr>().unwrap());
    let far = to.within(move || UdpSocket::bind(target).unwrap());
    from.within(move || {
        let near = UdpSocket::bind(source).unwrap();
        nix::sys::socket::setsockopt(&near, nix::sys::socket::sockopt::Ipv4Tos, &0x08).unwrap();
        drop(near.send_to(b"x", target));
    });
    comes(&far, within)
}

fn comes(socket: &UdpSocket, within: Duration) -> bool {
    received(within, |left| {
        socket.set_read_timeout(Some(left)).unwrap();
        socket.recv(&mut [0; 16])
    })
}

/// A host's known key, for a server that a test has somewhere else.
pub fn known_at(lab: &Lab, file: &str, address: SocketAddr) {
    let key = fs::read_to_string(lab.path("host_key.pub")).unwrap();
    fs::write(lab.path(file), format!("[{}]:{} {key}", address.ip(), address.port())).unwrap();
}
