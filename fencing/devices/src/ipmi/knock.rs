//! Asks a BMC, outside any session, whether it is there at all. If it answers this but not its session, the session is gone
//! (the BMC has restarted, or closed it), and waiting longer would be in vain.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::UdpSocket;

use super::message::{self, GetChannelAuthCapabilities};
use super::rmcp::{self, DATAGRAM_LEN_MAX};

/// A socket of its own: some BMCs know a session by the console's port and end it when something else comes from there.
pub(super) struct Knock {
    socket: UdpSocket,
}

impl Knock {
    pub(super) async fn new(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { socket: connected(address).await? })
    }

    pub(super) async fn send(&self) -> io::Result<()> {
        let message = message::encode(&GetChannelAuthCapabilities.into(), 0);
        self.socket.send(&rmcp::frame_sessionless(&message)).await.map(drop)
    }

    /// Ends once the BMC has answered; never, if the socket says that it cannot.
    pub(super) async fn answered(&self) {
        let mut buffer = [0; DATAGRAM_LEN_MAX];
        loop {
            let Ok(len) = self.socket.recv(&mut buffer).await else {
                // Refused: there is nobody. The session's own socket hears it too and decides.
                return std::future::pending().await;
            };
            let datagram = buffer.get(..len).unwrap_or_default();
            let answer = rmcp::parse_sessionless(datagram).and_then(message::decode);
            if answer.is_ok_and(|answer| answer.answers(&GetChannelAuthCapabilities.into(), 0)) {
                return;
            }
        }
    }
}

/// A UDP socket that hears from `address` alone, and hears of ICMP errors.
pub(super) async fn connected(address: SocketAddr) -> io::Result<UdpSocket> {
    let local: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(address).await?;
    Ok(socket)
}
