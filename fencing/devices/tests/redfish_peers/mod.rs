//! Redfish services for the driver's tests: sushy-tools' emulator, which is a real one and switches seconds late, and a fake of
//! ours for what the emulator lacks (sessions, connections that stay open) or never does wrong.
#![allow(clippy::wildcard_enum_match_arm, reason = "a fake looks at the faults it is about")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy knows a test only inside #[test]"
)]

use std::fs;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use palisade_devices::Secret;
use palisade_devices::redfish::{Auth, Redfish, RedfishConfig, Tls};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

pub(crate) const UUID: &str = "4c4c4544-0051-3510-8052-00000000000a";
pub(crate) const OTHER: &str = "4c4c4544-0051-3510-8052-00000000000b";
pub(crate) const SYSTEM: &str = "/redfish/v1/Systems/1";
const TWIN: &str = "/redfish/v1/Systems/2";
pub(crate) const RESET: &str = "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset";
const ROOT: &str = "/redfish/v1/";
const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";
/// `secret`, as htpasswd writes it with bcrypt.
const HTPASSWD: &str = "admin:$2b$04$e59YmiJ3oCWCg3ZNB61O1OQU0Z7SGRdKmBCZMNvuNZXnagKKUZ1Ra\n";
const START_WAIT: Duration = Duration::from_secs(20);

pub(crate) fn device(
    address: SocketAddr,
    tls: Option<Tls>,
    auth: Auth,
    password: &str,
    uuid: &str,
) -> Redfish {
    let secret = Secret::new(password.as_bytes().to_vec());
    let uuid = uuid.replace('-', "");
    Redfish::new(RedfishConfig::new(address, tls, "admin".into(), secret, auth, None, &uuid).unwrap())
}

/// sushy-tools' emulator: two systems, TLS with a CA of its own, user `admin`, password `secret`. Killed when dropped.
pub(crate) struct Sushy {
    pub(crate) address: SocketAddr,
    process: Child,
    folder: tempfile::TempDir,
}

impl Sushy {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        make_certificates(folder.path());
        fs::write(folder.path().join("users"), HTPASSWD).unwrap();
        let dir = folder.path().display();
        let config = format!(
            "SUSHY_EMULATOR_LISTEN_IP = '127.0.0.1'\nSUSHY_EMULATOR_LISTEN_PORT = {}\nSUSHY_EMULATOR_STATE_DIR = '{dir}'\n\
             SUSHY_EMULATOR_SSL_CERT = '{dir}/bmc.pem'\nSUSHY_EMULATOR_SSL_KEY = '{dir}/bmc.key'\n\
             SUSHY_EMULATOR_AUTH_FILE = '{dir}/users'\nSUSHY_EMULATOR_FAKE_DRIVER = True\n\
             SUSHY_EMULATOR_FAKE_SYSTEMS = [{{'uuid': '{OTHER}', 'name': 'b', 'power_state': 'On', 'nics': []}},\n\
             {{'uuid': '{UUID}', 'name': 'a', 'power_state': 'On', 'nics': []}}]\n",
            address.port()
        );
        fs::write(folder.path().join("config"), config).unwrap();
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers").canonicalize().unwrap();
        let emulator = std::env::var_os("PALISADE_PEERS_VENV")
            .map_or_else(|| peers.join("../.lab/venv"), PathBuf::from)
            .join("bin/sushy-emulator");
        assert!(emulator.exists(), "{} is missing: run tests/peers/install.sh", emulator.display());
        let log = || {
            Stdio::from(
                fs::File::options().create(true).append(true).open(folder.path().join("log")).unwrap(),
            )
        };
        let mut process = Process::new(emulator);
        process.arg("--fake").arg("--config").arg(folder.path().join("config"));
        let process = process.stdin(Stdio::null()).stdout(log()).stderr(log()).spawn().unwrap();
        let mut sushy = Self { address, process, folder };
        let started = Instant::now();
        while StdStream::connect(address).is_err() {
            let ended = sushy.process.try_wait().unwrap();
            assert!(ended.is_none() && started.elapsed() < START_WAIT, "sushy-emulator: {}", sushy.log());
        }
        sushy
    }

    pub(crate) fn tls(&self, name: &str) -> Tls {
        Tls::new(&fs::read(self.folder.path().join("ca.pem")).unwrap(), name).unwrap()
    }

    /// The service's own certificate, as one would copy it from a BMC that has signed its own.
    pub(crate) fn pinned_tls(&self, name: &str) -> Tls {
        Tls::new(&fs::read(self.folder.path().join("bmc.pem")).unwrap(), name).unwrap()
    }

    /// Another CA's certificate.
    pub(crate) fn strangers_tls(&self) -> Tls {
        Tls::new(&fs::read(self.folder.path().join("other.pem")).unwrap(), "127.0.0.1").unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Sushy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn make_certificates(folder: &Path) {
    let script = "set -e\n\
        for ca in ca other; do\n\
          openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=$ca -keyout $ca.key -out $ca.pem\n\
        done\n\
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=bmc -keyout bmc.key -out bmc.csr\n\
        printf 'subjectAltName=IP:127.0.0.1,DNS:bmc-a.example\\nbasicConstraints=CA:FALSE\\n' >ext\n\
        openssl x509 -req -in bmc.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out bmc.pem\n";
    let made = Process::new("sh").arg("-c").arg(script).current_dir(folder).output().unwrap();
    assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
}

/// What goes wrong at the fake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    Nothing,
    /// An order is acknowledged and not carried out.
    Lies,
    /// An order is carried out and its connection closed without a word.
    DropsOrder,
    /// What is so already is refused with 409.
    RefusesSame,
    /// Every order is refused so.
    Refuses(u16),
    /// No answer at all.
    Silent,
    /// An answer that ends before its length.
    Half,
    /// No HTTP.
    Babbles,
    /// HTTP, and no JSON.
    NoJson,
    /// The body never ends.
    Endless,
    /// The only reset is a graceful one.
    OnlyGraceful,
    /// The action is to be sent to another service.
    Elsewhere,
    /// The action is another system's.
    Neighbours,
    /// Each answer closes its connection.
    Closes,
    /// Every session is taken, says it with this status.
    NoSessionLeft(u16),
    /// A session that has just begun may nothing.
    NoRights,
    /// Everything lies at paths with a slash at the end.
    Slashes,
    /// What would change nothing is not among the allowed.
    AllowsChanges,
    /// A member of the systems that is gone, before the right one.
    EmptySlot,
    /// Two systems of this UUID.
    Twins,
    /// Members that are null instead of absent.
    Nulls,
    /// A new session's place is told in its body alone.
    PlaceInBody,
    /// Connections that were idle are forgotten without a word.
    ForgetsIdle,
}

pub(crate) struct State {
    pub(crate) power: &'static str,
    pub(crate) uuid: &'static str,
    pub(crate) wrong: Wrong,
    pub(crate) orders: Vec<String>,
    pub(crate) logins: usize,
    pub(crate) tokens: Vec<String>,
    pub(crate) connections: usize,
    /// A login is answered only when this is notified.
    pub(crate) slow_login: Option<Arc<Notify>>,
    /// A reading of the system, likewise.
    pub(crate) slow_reading: Option<Arc<Notify>>,
    pub(crate) host: String,
}

/// A fake service with sessions and lasting connections, one system, user `admin`, password `secret`.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = State {
            power: "On",
            uuid: UUID,
            wrong: Wrong::Nothing,
            orders: vec![],
            logins: 0,
            tokens: vec![],
            connections: 0,
            slow_login: None,
            slow_reading: None,
            host: String::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.lock().unwrap().connections += 1;
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { address, state }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Logins, connections, orders.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let state = self.state();
        (state.logins, state.connections, state.orders.len())
    }

    pub(crate) fn goes(&self, wrong: Wrong) {
        self.state().wrong = wrong;
    }
}

struct Request {
    method: String,
    path: String,
    host: String,
    token: Option<String>,
    basic: bool,
    body: String,
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut served = 0;
    while let Some(request) = read(&mut stream).await {
        let (wrong, slow_login, slow_reading) = {
            let mut state = state.lock().unwrap();
            state.host.clone_from(&request.host);
            (state.wrong, state.slow_login.clone(), state.slow_reading.clone())
        };
        served += 1;
        if wrong == Wrong::ForgetsIdle && served > 1 {
            std::future::pending::<()>().await;
        }
        let slow = match (request.method.as_str(), request.path.as_str()) {
            ("POST", SESSIONS) => slow_login,
            ("GET", SYSTEM) => slow_reading,
            _ => None,
        };
        if let Some(slow) = slow {
            slow.notified().await;
        }
        let (status, headers, body) = answer(&mut state.lock().unwrap(), &request);
        let is_order = request.path.trim_end_matches('/') == RESET;
        let headers =
            if wrong == Wrong::Closes { format!("{headers}Connection: close\r\n") } else { headers };
        let text = format!("HTTP/1.1 {status} Fake\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len());
        let out = match wrong {
            Wrong::Silent => std::future::pending().await,
            Wrong::DropsOrder if is_order => return,
            Wrong::Half => text[..text.len() - 5].to_owned(),
            Wrong::Babbles => "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(),
            Wrong::NoJson => "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>".to_owned(),
            Wrong::Endless => {
                format!("HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n{}", "x".repeat(400_000))
            }
            _ => text,
        };
        if stream.write_all(out.as_bytes()).await.is_err() || matches!(wrong, Wrong::Half | Wrong::Closes) {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    };
    let length: usize = header("content-length").map_or(0, |length| length.parse().unwrap());
    while bytes.len() < head_end + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let mut words = head.split(' ');
    Some(Request {
        method: words.next()?.to_owned(),
        path: words.next()?.to_owned(),
        host: header("host").unwrap_or_default(),
        token: header("x-auth-token"),
        // admin:secret
        basic: header("authorization").is_some_and(|value| value == "Basic YWRtaW46c2VjcmV0"),
        body: String::from_utf8(bytes[head_end..].to_vec()).unwrap(),
    })
}

fn answer(state: &mut State, request: &Request) -> (u16, String, String) {
    let none = String::new;
    let error = |message: &str| {
        format!("{{\"error\": {{\"code\": \"Base.1.0.GeneralError\", \"message\": \"{message}\"}}}}")
    };
    if state.wrong == Wrong::Slashes && !request.path.ends_with('/') {
        let headers = format!("Location: {}/\r\n", request.path);
        return (if request.method == "GET" { 301 } else { 308 }, headers, String::new());
    }
    let path = match request.path.as_str() {
        ROOT => ROOT,
        path => path.trim_end_matches('/'),
    };
    let known = request.token.as_ref().is_some_and(|token| state.tokens.contains(token));
    match (request.method.as_str(), path) {
        ("GET", ROOT) => {
            let links = format!("\"Links\": {{\"Sessions\": {{\"@odata.id\": \"{SESSIONS}\"}}}}");
            (200, none(), format!("{{\"Systems\": {{\"@odata.id\": \"/redfish/v1/Systems\"}}, {links}}}"))
        }
        ("POST", SESSIONS) => {
            if request.body != "{\"UserName\":\"admin\",\"Password\":\"secret\"}" {
                // As some do, it repeats what it was given.
                let given = request.body.replace('"', "'");
                return (401, none(), error(&format!("wrong user or password: {given}")));
            }
            if let Wrong::NoSessionLeft(status) = state.wrong {
                let info = "[{\"MessageId\": \"Base.1.16.SessionLimitExceeded\"}]";
                let body = format!("{{\"error\": {{\"@Message.ExtendedInfo\": {info}}}}}");
                return (status, none(), body);
            }
            state.logins += 1;
            let token = format!("token-{}", state.logins);
            let place = format!("{SESSIONS}/{token}");
            let (headers, body) = match state.wrong {
                Wrong::PlaceInBody => (String::new(), format!("{{\"@odata.id\": \"{place}\"}}")),
                _ => (format!("Location: http://x{place}\r\n"), "{}".to_owned()),
            };
            let headers = format!("X-Auth-Token: {token}\r\n{headers}");
            state.tokens.push(token);
            (201, headers, body)
        }
        ("GET", path) if state.wrong == Wrong::NoRights && path != ROOT => {
            (401, none(), error("not yours to read"))
        }
        _ if !known && !request.basic => (401, none(), error("no session")),
        ("DELETE", path) => {
            state.tokens.retain(|token| path != format!("{SESSIONS}/{token}"));
            (204, none(), none())
        }
        ("GET", "/redfish/v1/Systems") => {
            let members = match state.wrong {
                Wrong::EmptySlot => vec!["/redfish/v1/Systems/0", SYSTEM],
                Wrong::Twins => vec![SYSTEM, TWIN],
                _ => vec![SYSTEM],
            };
            let members: Vec<_> = members.iter().map(|id| format!("{{\"@odata.id\": \"{id}\"}}")).collect();
            (200, none(), format!("{{\"Members\": [{}]}}", members.join(", ")))
        }
        ("GET", SYSTEM | TWIN) if state.wrong == Wrong::Nulls => {
            let (uuid, power) = (state.uuid, state.power);
            let body = format!("{{\"UUID\": \"{uuid}\", \"PowerState\": \"{power}\", \"Actions\": null}}");
            (200, none(), body)
        }
        ("GET", SYSTEM | TWIN) => {
            let allowed = match (state.wrong, state.power) {
                (Wrong::OnlyGraceful, _) => "\"GracefulShutdown\"",
                (Wrong::AllowsChanges, "On") => "\"ForceOff\"",
                (Wrong::AllowsChanges, _) => "\"On\"",
                _ => "\"On\", \"ForceOff\"",
            };
            let target = match state.wrong {
                Wrong::Elsewhere => "http://evil/x",
                Wrong::Neighbours => "/redfish/v1/Systems/12/Actions/ComputerSystem.Reset",
                _ => RESET,
            };
            let action =
                format!("{{\"target\": \"{target}\", \"ResetType@Redfish.AllowableValues\": [{allowed}]}}");
            let (uuid, power) = (state.uuid, state.power);
            (
                200,
                none(),
                format!(
                    "{{\"UUID\": \"{uuid}\", \"PowerState\": \"{power}\", \"Actions\": {{\"#ComputerSystem.Reset\": {action}}}}}"
                ),
            )
        }
        ("POST", RESET) => {
            let off = request.body == "{\"ResetType\":\"ForceOff\"}";
            assert!(off || request.body == "{\"ResetType\":\"On\"}", "{}", request.body);
            state.orders.push(if off { "ForceOff" } else { "On" }.to_owned());
            let wanted = if off { "Off" } else { "On" };
            match state.wrong {
                Wrong::Refuses(status) => return (status, none(), error("not now")),
                Wrong::RefusesSame if state.power == wanted => {
                    return (409, none(), error("it is so already"));
                }
                Wrong::Lies => {}
                _ => state.power = wanted,
            }
            (204, none(), none())
        }
        // A neighbour's, which obeys.
        ("POST", path) if path.ends_with("/Actions/ComputerSystem.Reset") => {
            state.orders.push(path.to_owned());
            (204, none(), none())
        }
        _ => (404, none(), error("nothing here")),
    }
}
