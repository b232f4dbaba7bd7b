//! One HTTP/1.1 connection to a Redfish service: one request at a time, no order sent twice.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{
    ACCEPT, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT,
};
use hyper::{Method, Request, StatusCode, Version};
use hyper_util::rt::TokioIo;
use palisade_ladder::Failure;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{self, Instant};
use tokio_rustls::TlsConnector;

use super::resource::is_path;
use super::tls::Tls;
use crate::text::clean;

/// The most bytes of one answer. A ComputerSystem has a few thousand.
const BODY_MAX: usize = 256 * 1024;
/// How long a connection that was idle may take to answer before another one is made: whatever lies between may have forgotten
/// it without a word.
const IDLE_WAIT: Duration = Duration::from_secs(2);

/// What came back.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// A header that shows who asks.
pub(super) type Authority = (HeaderName, HeaderValue);
type Sender = SendRequest<Full<Bytes>>;
/// A reply, and the connection if it can take another request.
type Exchanged = (Result<Reply, Failure>, Option<Sender>);

pub(super) struct Connection {
    service: Service,
    /// Taken for the time of a request, so that an order whose future is dropped takes its connection with it.
    idle: Option<Sender>,
    /// A reading under way, since when. It outlives a command that is cut off, so that the next one finds its connection.
    reading: Option<(JoinSet<Exchanged>, Instant)>,
}

/// Where a service is, and how it shows that it is the right one.
#[derive(Clone)]
struct Service {
    address: SocketAddr,
    tls: Option<Tls>,
}

impl Connection {
    pub(super) fn new(address: SocketAddr, tls: Option<Tls>) -> Self {
        Self { service: Service { address, tls }, idle: None, reading: None }
    }

    /// To the same service, with nothing said on it yet.
    pub(super) fn another(&self) -> Self {
        Self { service: self.service.clone(), idle: None, reading: None }
    }

    /// A reading, sent anew once if an idle connection turns out to be closed or forgotten.
    pub(super) async fn get(&mut self, path: &str, authority: Option<&Authority>) -> Result<Reply, Failure> {
        self.finish_reading().await;
        if self.idle.is_some() {
            let answer = time::timeout(IDLE_WAIT, self.read_followed(path, authority)).await;
            if let Ok(Ok(reply)) = answer {
                return Ok(reply);
            }
            (self.idle, self.reading) = (None, None);
        }
        self.read_followed(path, authority).await
    }

    async fn read_followed(&mut self, path: &str, authority: Option<&Authority>) -> Result<Reply, Failure> {
        let reply = self.read_once(path, authority).await?;
        match self.moved(path, &reply)? {
            Some(path) => self.read_once(&path, authority).await,
            None => Ok(reply),
        }
    }

    async fn read_once(&mut self, path: &str, authority: Option<&Authority>) -> Result<Reply, Failure> {
        let request = self.service.request(Method::GET, path, authority, None)?;
        let (service, idle) = (self.service.clone(), self.idle.take());
        let mut task = JoinSet::new();
        task.spawn(async move {
            match service.connect(idle).await {
                Ok(sender) => exchange(sender, request).await,
                Err(failure) => (Err(failure), None),
            }
        });
        let (task, _) = self.reading.insert((task, Instant::now()));
        let ended = task.join_next().await;
        self.reading = None;
        let (reply, sender) = ended.and_then(Result::ok).unwrap_or((Err(Failure::Cancelled), None));
        self.idle = sender;
        reply
    }

    /// Waits for what an earlier command has left behind, for as long as it deserves.
    async fn finish_reading(&mut self) {
        let Some((task, since)) = &mut self.reading else { return };
        let ended = time::timeout_at(*since + IDLE_WAIT, task.join_next()).await;
        self.reading = None;
        if let Ok(Some(Ok((_, sender)))) = ended {
            self.idle = sender;
        }
    }

    /// One request that changes something, sent once at the most, unless `may` says otherwise once the connection stands, right
    /// before the request is handed to it.
    pub(super) async fn send_if(
        &mut self,
        may: impl Fn() -> bool,
        method: Method,
        path: &str,
        authority: Option<&Authority>,
        body: Option<Bytes>,
    ) -> Result<Reply, Failure> {
        self.finish_reading().await;
        let reply = self.send_once(&may, method.clone(), path, authority, body.clone()).await?;
        match self.moved(path, &reply)? {
            // Whoever sends elsewhere has not carried it out.
            Some(path) => self.send_once(&may, method, &path, authority, body).await,
            None => Ok(reply),
        }
    }

    async fn send_once(
        &mut self,
        may: impl Fn() -> bool,
        method: Method,
        path: &str,
        authority: Option<&Authority>,
        body: Option<Bytes>,
    ) -> Result<Reply, Failure> {
        let request = self.service.request(method, path, authority, body)?;
        let sender = self.service.connect(self.idle.take()).await?;
        if !may() {
            self.idle = Some(sender);
            return Err(Failure::Cancelled);
        }
        let (reply, sender) = exchange(sender, request).await;
        self.idle = sender;
        reply
    }

    /// Where else the service wants this to be asked: at the same resource with, or without, a slash at its end, as several
    /// services do. Nothing else is followed.
    fn moved(&self, path: &str, reply: &Reply) -> Result<Option<String>, Failure> {
        if ![
            StatusCode::MOVED_PERMANENTLY,
            StatusCode::FOUND,
            StatusCode::TEMPORARY_REDIRECT,
            StatusCode::PERMANENT_REDIRECT,
        ]
        .contains(&reply.status)
        {
            return Ok(None);
        }
        let location = reply.headers.get(LOCATION).and_then(|location| location.to_str().ok()).unwrap_or("");
        if self.service.tls.is_none() && location.starts_with("https:") {
            let code = "the service wants TLS: write `ca`, and leave `insecure_http` out".to_owned();
            return Err(Failure::Refused { code });
        }
        let to = path_within(location);
        let same = to != path && to.trim_end_matches('/') == path.trim_end_matches('/') && is_path(to);
        Ok(same.then(|| to.to_owned()))
    }
}

/// The path of a location, which some services give as a whole address.
pub(super) fn path_within(location: &str) -> &str {
    match location.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
        None => location,
    }
}

impl Service {
    fn request(
        &self,
        method: Method,
        path: &str,
        authority: Option<&Authority>,
        body: Option<Bytes>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.host())
            .header(USER_AGENT, concat!("palisade/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "application/json")
            // DSP0266 section 6.7.
            .header("OData-Version", "4.0");
        if let Some((name, value)) = authority {
            request = request.header(name, value);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        request.body(Full::new(body.unwrap_or_default())).map_err(|error| Failure::Garbage {
            detail: format!("{} cannot be asked for: {error}", clean(path)),
        })
    }

    /// RFC 9110 section 7.2: the name that the certificate carries, without the port that the scheme implies.
    fn host(&self) -> String {
        let (name, implied) = match &self.tls {
            Some(tls) => (tls.host(), 443),
            None => (None, 80),
        };
        let ip = self.address.ip();
        let name = name.unwrap_or_else(|| if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() });
        match self.address.port() {
            port if port == implied => name,
            port => format!("{name}:{port}"),
        }
    }

    async fn connect(&self, idle: Option<Sender>) -> Result<Sender, Failure> {
        if let Some(mut idle) = idle
            && idle.ready().await.is_ok()
        {
            return Ok(idle);
        }
        let unreachable = |error: std::io::Error| Failure::Unreachable { error: error.to_string() };
        let stream = TcpStream::connect(self.address).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        match &self.tls {
            None => handshake(TokioIo::new(stream)).await,
            Some(tls) => {
                let connector = TlsConnector::from(tls.client());
                let stream = connector.connect(tls.name(), stream).await.map_err(tls_refused)?;
                handshake(TokioIo::new(stream)).await
            }
        }
    }
}

async fn exchange(mut sender: Sender, request: Request<Full<Bytes>>) -> Exchanged {
    let response = match sender.send_request(request).await {
        Ok(response) => response,
        Err(error) => return (Err(broken(&error)), None),
    };
    let (head, body) = response.into_parts();
    let body = match Limited::new(body, BODY_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            let detail = format!("the answer's body: {}", clean(&error.to_string()));
            return (Err(Failure::Garbage { detail }), None);
        }
    };
    let closes = head.headers.get(CONNECTION).is_some_and(|value| value.as_bytes() == b"close");
    let lasts = head.version == Version::HTTP_11 && !closes;
    (Ok(Reply { status: head.status, headers: head.headers, body }), lasts.then_some(sender))
}

async fn handshake<S>(stream: S) -> Result<Sender, Failure>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(stream)
        .await
        .map_err(|error| Failure::Unreachable { error: clean(&error.to_string()) })?;
    // Ends with the sender, or with the other side.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// Nothing was said to whoever is there.
fn tls_refused(error: std::io::Error) -> Failure {
    if error.kind() == ErrorKind::InvalidData {
        let words = clean(&error.to_string());
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(rustls::Error::InvalidMessage(_)) => Failure::Garbage { detail: format!("no TLS: {words}") },
            Some(_) | None => Failure::Refused { code: format!("TLS: {words}") },
        }
    } else if error.kind() == ErrorKind::UnexpectedEof {
        Failure::Garbage { detail: "the connection ended during the TLS handshake".to_owned() }
    } else {
        Failure::Unreachable { error: error.to_string() }
    }
}

fn broken(error: &hyper::Error) -> Failure {
    let words = clean(&error.to_string());
    match error.is_parse() {
        true => Failure::Garbage { detail: format!("no HTTP: {words}") },
        false => Failure::Unreachable { error: format!("the connection broke: {words}") },
    }
}
