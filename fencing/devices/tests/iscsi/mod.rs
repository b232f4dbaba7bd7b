//! A small iSCSI initiator (RFC 7143) as the driver's way to a real target: each session is an I_T nexus of its own, as each path
//! of each host is. And Debian's `tgtd` as such a target, on loopback, with the devices that use it.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "clippy knows a test only inside #[test]"
)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command as Process, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use palisade_devices::scsi::{Fabric, Me, Path, Reply, Request, Scsi, ScsiConfig, Way};
use palisade_devices::{Device as _, Warrant};
use palisade_ladder::{Command, Failure, Reading, Response};
use palisade_proto::{HostId, Incarnation};

pub const CLUSTER: &str = "edge-7";
pub const DEADLINE: Duration = Duration::from_secs(10);

/// A logical unit of a target on the network.
#[derive(Clone, Debug)]
pub struct Place {
    pub portal: SocketAddr,
    pub target: String,
    pub lun: u8,
    /// As in VPD page 83h.
    pub name: String,
}

/// One session.
pub struct Session {
    stream: TcpStream,
    lun: u8,
    tag: u32,
    command: u32,
    status: u32,
}

const HEADER: usize = 48;

impl Session {
    /// Logs in as `initiator`, without authentication.
    pub fn open(place: &Place, initiator: &str, isid: u8) -> std::io::Result<Self> {
        Self::begin(place, initiator, isid)?.finish(isid)
    }

    /// The first half of a login: who it is.
    pub fn begin(place: &Place, initiator: &str, isid: u8) -> std::io::Result<Self> {
        let stream = TcpStream::connect(place.portal)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut session = Self { stream, lun: place.lun, tag: 1, command: 1, status: 0 };
        let text = [
            format!("InitiatorName={initiator}"),
            format!("TargetName={}", place.target),
            "SessionType=Normal".into(),
            "AuthMethod=None".into(),
        ];
        session.login(isid, 0, 1, &text)?;
        Ok(session)
    }

    /// The second half: how it talks.
    pub fn finish(mut self, isid: u8) -> std::io::Result<Self> {
        let text = [
            "HeaderDigest=None".into(),
            "DataDigest=None".into(),
            "ErrorRecoveryLevel=0".into(),
            "InitialR2T=No".into(),
            "ImmediateData=Yes".into(),
            "MaxBurstLength=262144".into(),
            "FirstBurstLength=65536".into(),
            "MaxConnections=1".into(),
            "MaxOutstandingR2T=1".into(),
            "DefaultTime2Wait=0".into(),
            "DefaultTime2Retain=0".into(),
            "MaxRecvDataSegmentLength=262144".into(),
        ];
        self.login(isid, 1, 3, &text)?;
        Ok(self)
    }

    fn login(&mut self, isid: u8, stage: u8, next: u8, text: &[String]) -> std::io::Result<()> {
        let mut pdu = [0; HEADER];
        (pdu[0], pdu[1]) = (0x43, 0x80 | stage << 2 | next);
        pdu[8..14].copy_from_slice(&[0x80, 0, 0, 0x50, 0x61, isid]);
        pdu[16..20].copy_from_slice(&self.tag.to_be_bytes());
        pdu[24..28].copy_from_slice(&self.command.to_be_bytes());
        pdu[28..32].copy_from_slice(&self.status.to_be_bytes());
        let data: Vec<u8> = text.iter().flat_map(|line| line.bytes().chain([0])).collect();
        self.send(pdu, &data)?;
        let (answer, _) = self.receive()?;
        if answer[0] & 0x3f != 0x23 || answer[36] != 0 || answer[1] & 0x80 == 0 {
            return Err(std::io::Error::other(format!(
                "login refused: {:02x}{:02x}",
                answer[36], answer[37]
            )));
        }
        Ok(())
    }

    fn send(&mut self, mut pdu: [u8; HEADER], data: &[u8]) -> std::io::Result<()> {
        pdu[5..8].copy_from_slice(&(data.len() as u32).to_be_bytes()[1..]);
        let mut bytes = pdu.to_vec();
        bytes.extend(data);
        bytes.resize(HEADER + data.len().next_multiple_of(4), 0);
        self.stream.write_all(&bytes)
    }

    fn receive(&mut self) -> std::io::Result<([u8; HEADER], Vec<u8>)> {
        let mut pdu = [0; HEADER];
        self.stream.read_exact(&mut pdu)?;
        let length = u32::from_be_bytes([0, pdu[5], pdu[6], pdu[7]]) as usize;
        let mut data = vec![0; length.next_multiple_of(4)];
        self.stream.read_exact(&mut data)?;
        data.truncate(length);
        self.status = u32::from_be_bytes(pdu[24..28].try_into().unwrap()).wrapping_add(1);
        Ok((pdu, data))
    }

    /// Says a command, and does not wait for what becomes of it.
    pub fn say(&mut self, request: &Request) -> std::io::Result<()> {
        self.tag += 1;
        let mut pdu = [0; HEADER];
        (pdu[0], pdu[1]) = (0x01, 0x81 | if request.out.is_empty() { 0x40 } else { 0x20 });
        if request.out.is_empty() && request.expect == 0 {
            pdu[1] = 0x81;
        }
        pdu[9] = self.lun;
        pdu[16..20].copy_from_slice(&self.tag.to_be_bytes());
        let length = request.out.len().max(request.expect) as u32;
        pdu[20..24].copy_from_slice(&length.to_be_bytes());
        pdu[24..28].copy_from_slice(&self.command.to_be_bytes());
        pdu[28..32].copy_from_slice(&self.status.to_be_bytes());
        pdu[32..32 + request.cdb.len()].copy_from_slice(&request.cdb);
        self.command = self.command.wrapping_add(1);
        self.send(pdu, &request.out)
    }

    /// What became of what was said last.
    pub fn hear(&mut self) -> std::io::Result<Reply> {
        let mut reply = Reply::default();
        loop {
            let (pdu, data) = self.receive()?;
            match pdu[0] & 0x3f {
                0x21 => {
                    if pdu[2] != 0 {
                        return Err(std::io::Error::other(format!("response {:02x}h", pdu[2])));
                    }
                    reply.status = pdu[3];
                    reply.sense = data.get(2..).unwrap_or_default().to_vec();
                    return Ok(reply);
                }
                0x25 => {
                    reply.data.extend(data);
                    if pdu[1] & 0x01 != 0 {
                        reply.status = pdu[3];
                        return Ok(reply);
                    }
                }
                // A ping of the target's, which wants none of its own back, or news.
                0x20 | 0x32 => {}
                other => return Err(std::io::Error::other(format!("opcode {other:02x}h"))),
            }
        }
    }

    pub fn command(&mut self, request: &Request) -> std::io::Result<Reply> {
        self.say(request)?;
        self.hear()
    }

    /// WRITE(10) of one block; the SCSI status. What the unit has to tell first is passed over.
    pub fn write(&mut self, block: u8) -> u8 {
        self.write_full_of(0xa5, block).unwrap()
    }

    /// The same, of a block that is full of `fill`; fails where the session does.
    pub fn write_full_of(&mut self, fill: u8, block: u8) -> std::io::Result<u8> {
        loop {
            let reply = self.command(&writing(fill, block))?;
            let attention = reply.status == 2 && reply.sense.get(2).is_some_and(|key| key & 0x0f == 6);
            if !attention {
                return Ok(reply.status);
            }
        }
    }
}

/// WRITE(10) of one block.
pub fn writing(fill: u8, block: u8) -> Request {
    let cdb = vec![0x2a, 0, 0, 0, 0, block, 0, 0, 1, 0];
    Request { cdb, out: vec![fill; 512], expect: 0, within: Duration::from_secs(5) }
}

/// Where it leads, its session, and what operators would call it.
type OnePath = (Place, Arc<Mutex<Session>>, String);

/// The paths of one host: a session each, opened once. Those to one logical unit stand together, in the order of the places.
#[derive(Clone)]
pub struct Host {
    pub paths: Arc<Vec<OnePath>>,
    /// What to do before each command that changes something.
    pub before_order: Arc<dyn Fn() + Send + Sync>,
}

impl Host {
    /// `paths`: how many to each place.
    pub fn new(name: &str, places: &[Place], paths: u8) -> Self {
        let mut all = Vec::new();
        for place in places {
            for path in 0..paths {
                // A second session with the same number would end the first one (RFC 7143 6.3.5).
                let number = all.len() as u8 + 1;
                let session = Session::open(place, &format!("iqn.2026-11.lab:{name}"), number).unwrap();
                all.push((place.clone(), Arc::new(Mutex::new(session)), format!("{name}{path}")));
            }
        }
        Self { paths: Arc::new(all), before_order: Arc::new(|| {}) }
    }

    /// Whether a write on that path goes through.
    pub fn writes(&self, path: usize) -> bool {
        match self.paths[path].1.lock().unwrap().write(path as u8) {
            0x00 => true,
            0x18 => false,
            other => panic!("a write ended with status {other:02x}h"),
        }
    }

    /// The raw session, for what a host should not do.
    pub fn session(&self, path: usize) -> Arc<Mutex<Session>> {
        Arc::clone(&self.paths[path].1)
    }
}

impl Fabric for Host {
    fn paths(&self, lun: &str) -> Result<Vec<Way>, Failure> {
        let ours = self.paths.iter().filter(|(place, ..)| place.name == lun);
        let route = |session, name: &String| {
            let before_order = Arc::clone(&self.before_order);
            Way::Scsi(Box::new(Route { session: Arc::clone(session), name: name.clone(), before_order }))
        };
        Ok(ours.map(|(_, session, name)| route(session, name)).collect())
    }
}

struct Route {
    session: Arc<Mutex<Session>>,
    name: String,
    before_order: Arc<dyn Fn() + Send + Sync>,
}

impl Path for Route {
    fn name(&self) -> &str {
        &self.name
    }

    fn command(&mut self, request: &Request) -> Result<Reply, Failure> {
        if !request.out.is_empty() {
            (self.before_order)();
        }
        let mut session = self.session.lock().unwrap();
        session.stream.set_read_timeout(Some(request.within)).unwrap();
        session.command(request).map_err(|error| Failure::Unreachable { error: error.to_string() })
    }
}

/// `tgtd` with its own control socket and port. Killed when dropped.
pub struct Tgt {
    process: Child,
    control: String,
    portal: SocketAddr,
    folder: tempfile::TempDir,
}

impl Tgt {
    pub const IQN: &'static str = "iqn.2026-11.lab:san";

    /// With so many logical units.
    pub fn start(luns: u8) -> (Self, Vec<Place>) {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let portal = SocketAddr::from(([127, 0, 0, 1], port));
        // The control socket is named by a number of 15 bits; ephemeral ports have their first bit set.
        let control = (port & 0x7fff).to_string();
        let process = Process::new("tgtd")
            .args(["-f", "-C", &control, "--iscsi", &format!("portal={portal}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("tgtd (package tgt): {error}"));
        let tgt = Self { process, control, portal, folder };
        let started = Instant::now();
        while !tgt.admin(&["--op", "show", "--mode", "target"]) {
            assert!(started.elapsed() < Duration::from_secs(10), "tgtd does not come up");
            std::thread::yield_now();
        }
        assert!(tgt.admin(&["--op", "new", "--mode", "target", "--tid", "1", "-T", Self::IQN]));
        let mut places = Vec::new();
        for lun in 1..=luns {
            let image = tgt.folder.path().join(format!("{lun}.img"));
            std::fs::File::create(&image).unwrap().set_len(1 << 20).unwrap();
            let (number, image) = (lun.to_string(), image.display().to_string());
            let new = ["--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", &number, "-b", &image];
            assert!(tgt.admin(&new));
            places.push(Place { portal, target: Self::IQN.into(), lun, name: String::new() });
        }
        assert!(tgt.admin(&["--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL"]));
        for place in &mut places {
            place.name = name_of(place);
        }
        (tgt, places)
    }

    fn admin(&self, arguments: &[&str]) -> bool {
        let mut admin = Process::new("tgtadm");
        admin.args(["-C", &self.control, "--lld", "iscsi"]).args(arguments);
        admin.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }

    /// Answers nothing from now on.
    pub fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    pub fn freeze(&self, frozen: bool) {
        use nix::sys::signal::{Signal, kill};
        let signal = if frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        kill(nix::unistd::Pid::from_raw(self.process.id() as i32), signal).unwrap();
    }
}

impl Drop for Tgt {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Asks the logical unit for its NAA name.
pub fn name_of(place: &Place) -> String {
    let mut session = Session::open(place, "iqn.2026-11.lab:name", 9).unwrap();
    let cdb = vec![0x12, 1, 0x83, 4, 0, 0];
    let request = Request { cdb, out: vec![], expect: 1024, within: Duration::from_secs(5) };
    let data = loop {
        let reply = session.command(&request).unwrap();
        if reply.status == 0 {
            break reply.data;
        }
    };
    let mut rest = &data[4..];
    while rest.len() >= 4 {
        let (kind, length) = (rest[1] & 0x3f, usize::from(rest[3]));
        if kind == 3 {
            return format!(
                "naa.{}",
                rest[4..4 + length].iter().map(|b| format!("{b:02x}")).collect::<String>()
            );
        }
        rest = &rest[4 + length..];
    }
    panic!("no NAA name in {data:02x?}");
}

pub fn life(host: u8, life: u8) -> Incarnation {
    Incarnation::new(HostId::new(host).unwrap(), [life; 8])
}

/// The device that cuts `host`, as `me` uses it over its own paths.
pub fn device(paths: &Host, places: &[Place], host: u8, me: Incarnation) -> Scsi<Host> {
    let luns: Vec<String> = places.iter().map(|place| place.name.clone()).collect();
    let config = ScsiConfig::new(CLUSTER, &luns, HostId::new(host).unwrap()).unwrap();
    Scsi::new(config, Some(Me { life: me, first_of_boot: true }), paths.clone())
}

pub async fn run(
    device: &mut Scsi<Host>,
    command: Command,
    whom: Option<Incarnation>,
) -> Result<Response, Failure> {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    device.run(command, Warrant { deadline, standing: None, whom }).await
}

pub async fn reads(device: &mut Scsi<Host>) -> Reading {
    match run(device, Command::Read, None).await {
        Ok(Response::Reads(reading)) => reading,
        other => panic!("{other:?}"),
    }
}

/// Opens the paths of a life, as its agent does when it starts.
pub async fn open(paths: &Host, places: &[Place], me: Incarnation) {
    let mut own = device(paths, places, me.host.number(), me);
    assert_eq!(run(&mut own, Command::On, Some(me)).await, Ok(Response::Acknowledged));
    assert_eq!(reads(&mut own).await, Reading::On);
}
