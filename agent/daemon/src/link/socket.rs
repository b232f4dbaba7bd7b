//! One UDP socket on one address of this host, bound as soon as the address is there.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

/// The first wait before an address is tried again; it doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(200);
/// The longest: an address that came up is used within seconds.
const RETRY_MAX: Duration = Duration::from_secs(3);

/// A link of this host.
pub(super) struct Socket {
    address: SocketAddr,
    state: State,
}

enum State {
    Bound {
        receiver: UdpSocket,
        /// The same socket, for sends: tokio would refuse one until it has seen the socket writable once.
        sender: std::net::UdpSocket,
    },
    Waiting {
        error: Option<io::Error>,
        next: Instant,
        wait: Duration,
    },
}

impl Socket {
    /// Not bound yet: [`Self::maintain`] binds it.
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, state: State::Waiting { error: None, next: Instant::now(), wait: RETRY_MIN } }
    }

    /// The configured address.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Binds it if it is not bound and its back-off is over.
    pub(super) fn maintain(&mut self) {
        let State::Waiting { error, next, wait } = &mut self.state else {
            return;
        };
        if Instant::now() < *next {
            return;
        }
        match bind(self.address) {
            Ok((receiver, sender)) => {
                tracing::info!(address = %self.address, "link open");
                self.state = State::Bound { receiver, sender };
            }
            Err(failed) => {
                if error.is_none() {
                    tracing::warn!(address = %self.address, "link cannot be opened, will be tried again: {failed}");
                }
                *error = Some(failed);
                *next = Instant::now() + *wait;
                *wait = (*wait * 2).min(RETRY_MAX);
            }
        }
    }

    /// Hands a datagram to the kernel, without waiting.
    pub(super) fn send(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        match &self.state {
            State::Bound { sender, .. } => sender.send_to(datagram, to).map(|_| ()),
            State::Waiting { .. } => Err(io::ErrorKind::AddrNotAvailable.into()),
        }
    }

    /// One datagram into `buffer`; false for an error that stood in its place.
    pub(super) fn poll_recv(&self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<bool> {
        match &self.state {
            State::Bound { receiver, .. } => {
                receiver.poll_recv_from(context, buffer).map(|result| result.is_ok())
            }
            State::Waiting { .. } => Poll::Pending,
        }
    }

    /// Why it is not bound.
    pub(super) fn trouble(&self) -> Option<String> {
        match &self.state {
            State::Bound { .. } => None,
            State::Waiting { error, .. } => {
                let error = error.as_ref().map_or_else(|| "not tried yet".to_owned(), ToString::to_string);
                Some(format!("link {} of this host is not open: {error}", self.address))
            }
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<(UdpSocket, std::net::UdpSocket)> {
    let sender = std::net::UdpSocket::bind(address)?;
    sender.set_nonblocking(true)?;
    Ok((UdpSocket::from_std(sender.try_clone()?)?, sender))
}
