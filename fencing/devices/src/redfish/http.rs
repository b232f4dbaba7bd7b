//! One HTTP/1.1 connection to a Redfish service: one request at a time, nothing sent twice.

use std::io::ErrorKind;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode, Version};
use hyper_util::rt::TokioIo;
use palisade_ladder::Failure;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Tls;
use super::resource::clean;

/// The most bytes of one answer. A ComputerSystem has a few thousand.
const BODY_MAX: usize = 256 * 1024;

/// What came back.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

type Sender = SendRequest<Full<Bytes>>;

pub(super) struct Connection {
    address: SocketAddr,
    tls: Option<Tls>,
    /// Taken for the time of a request, so that a request whose future is dropped takes its connection with it.
    idle: Option<Sender>,
}

impl Connection {
    pub(super) fn new(address: SocketAddr, tls: Option<Tls>) -> Self {
        Self { address, tls, idle: None }
    }

    /// A reading, sent anew once if an idle connection turns out to be closed.
    pub(super) async fn get(
        &mut self,
        path: &str,
        authority: Option<&(HeaderName, HeaderValue)>,
    ) -> Result<Reply, Failure> {
        let reused = self.idle.is_some();
        match self.send(Method::GET, path, authority, None).await {
            Err(_) if reused => self.send(Method::GET, path, authority, None).await,
            other => other,
        }
    }

    /// One request, sent once at the most.
    pub(super) async fn send(
        &mut self,
        method: Method,
        path: &str,
        authority: Option<&(HeaderName, HeaderValue)>,
        body: Option<Bytes>,
    ) -> Result<Reply, Failure> {
        self.send_if(|| true, method, path, authority, body).await
    }

    /// The same, unless `may` says otherwise once the connection stands, right before the request is handed to it.
    pub(super) async fn send_if(
        &mut self,
        may: impl Fn() -> bool,
        method: Method,
        path: &str,
        authority: Option<&(HeaderName, HeaderValue)>,
        body: Option<Bytes>,
    ) -> Result<Reply, Failure> {
        let mut sender = self.connect().await?;
        let request = self.request(method, path, authority, body)?;
        if !may() {
            return Err(Failure::Cancelled);
        }
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, BODY_MAX).collect().await.map_err(|error| Failure::Garbage {
            detail: format!("the answer's body: {}", clean(&error.to_string())),
        })?;
        let closes = head.headers.get(CONNECTION).is_some_and(|value| value.as_bytes() == b"close");
        if head.version == Version::HTTP_11 && !closes {
            self.idle = Some(sender);
        }
        Ok(Reply { status: head.status, headers: head.headers, body: body.to_bytes() })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        authority: Option<&(HeaderName, HeaderValue)>,
        body: Option<Bytes>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.address.to_string())
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

    async fn connect(&mut self) -> Result<Sender, Failure> {
        if let Some(mut idle) = self.idle.take()
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
                let connector = TlsConnector::from(std::sync::Arc::clone(&tls.config));
                let stream = connector.connect(tls.name.clone(), stream).await.map_err(tls_refused)?;
                handshake(TokioIo::new(stream)).await
            }
        }
    }
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
        Failure::Refused { code: format!("TLS: {}", clean(&error.to_string())) }
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
