//! The socket: who connects, how many, for how long.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};

use super::routes::{self, Shared};
use super::{ApiRequest, Caller};
use crate::counters::Counters;
use crate::health::Health;

/// Connections served at once (SAFE-12): an operator, monitoring, and room for both to be slow.
const CONNECTIONS: usize = 16;
/// Connections of monitoring over TCP, which take nothing from those (SAFE-12).
const SCRAPES: usize = 8;
/// Between two tries to listen.
const BIND_PAUSE: Duration = Duration::from_secs(5);
/// The end of a connection, whatever it does: longer than the run loop may take to answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failed accept: no file descriptor is free, and none becomes free by asking.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// A request's head; hyper takes no less.
const HEAD_MAX: usize = 8192;
/// Its members may read the agent's state.
const GROUP: &str = "palisade";

/// Opens the socket at `path`; its directory exists. An old socket that nobody answers on is replaced.
/// To be called within a tokio runtime.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    match StdUnixStream::connect(path) {
        Ok(_) => {
            let what = format!("{}: another agent answers here; only one can run on a host", path.display());
            return Err(io::Error::new(io::ErrorKind::AddrInUse, what));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(_) => std::fs::remove_file(path).map_err(at)?,
    }
    let listener = UnixListener::bind(path).map_err(at)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(at)?;
    // Without the group (no package installed it) root alone reads.
    if let Ok(Some(group)) = nix::unistd::Group::from_name(GROUP) {
        std::os::unix::fs::chown(path, None, Some(group.gid.as_raw())).map_err(at)?;
    }
    Ok(listener)
}

/// Serves the socket for ever. Requests go to `requests`; `why` reads the journal in `journal`.
pub(crate) async fn serve(
    listener: UnixListener,
    requests: mpsc::Sender<ApiRequest>,
    journal: PathBuf,
    counters: Arc<Counters>,
    health: Health,
) {
    let shared = Arc::new(Shared { counters, health, requests, journal });
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    if tokio::time::timeout(CONNECTION_TIMEOUT, connection(stream, shared)).await.is_err() {
                        tracing::debug!(
                            "a connection to the local API was closed after {CONNECTION_TIMEOUT:?}"
                        );
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!("local API: cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers monitoring at `address`, for reading alone and for ever. An address that cannot be had yet, as one of a network that is
/// not up, is tried again.
pub(crate) async fn serve_monitoring(
    address: SocketAddr,
    requests: mpsc::Sender<ApiRequest>,
    counters: Arc<Counters>,
    health: Health,
) {
    let mut told = false;
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!("monitoring is not answered at {address}, trying again: {error}");
                }
                tokio::time::sleep(BIND_PAUSE).await;
            }
        }
    };
    answer_monitoring(listener, requests, counters, health).await;
}

/// The same at a socket that listens.
pub(super) async fn answer_monitoring(
    listener: TcpListener,
    requests: mpsc::Sender<ApiRequest>,
    counters: Arc<Counters>,
    health: Health,
) {
    let shared = Arc::new(Shared { counters, health, requests, journal: PathBuf::new() });
    let slots = Arc::new(Semaphore::new(SCRAPES));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let shared = Arc::clone(&shared);
                        async move {
                            Ok::<_, std::convert::Infallible>(
                                routes::respond_to_monitoring(request, &shared).await,
                            )
                        }
                    });
                    let conversation = one_request().serve_connection(TokioIo::new(stream), service);
                    // Who is cut off asks again.
                    drop(tokio::time::timeout(CONNECTION_TIMEOUT, conversation).await);
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!("monitoring: cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One request a connection, and a limit on the whole of it: no timer of hyper's own is needed.
fn one_request() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.keep_alive(false).header_read_timeout(None).max_buf_size(HEAD_MAX);
    http
}

async fn connection(stream: UnixStream, shared: Arc<Shared>) {
    let caller = match stream.peer_cred() {
        Ok(credentials) => Caller { uid: credentials.uid(), pid: credentials.pid() },
        Err(error) => {
            tracing::warn!("local API: the kernel does not say who connects: {error}");
            return;
        }
    };
    converse(stream, caller, shared).await;
}

/// One request and its answer.
pub(super) async fn converse(stream: UnixStream, caller: Caller, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, std::convert::Infallible>(routes::respond(request, caller, &shared).await) }
    });
    if let Err(error) = one_request().serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!("local API: {caller}: {error}");
    }
}
