//! The device: one server of a load balancer, known by its address. One connection for each request; HAProxy closes it behind the
//! answer.

use std::io;
use std::time::Duration;

use palisade_ladder::{Command, Failure, Identity, Proven, Reading, Response};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{self, Instant};

use super::words::{self, Server};
use super::{HaProxyConfig, Socket};
use crate::text::clean;
use crate::{Device, Warrant};

/// Of one answer. A backend of some thousand servers is told in less.
const ANSWER_MAX: u64 = 1024 * 1024;

/// Between two looks that both find no session: one that was given to the server a moment ago, out of its queue too, counts nowhere
/// until its connection is begun. HAProxy 2.6 took 0.1 ms for that; the rest is for one that is starved.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A load balancer, as far as one host is concerned.
pub struct HaProxy {
    config: HaProxyConfig,
}

impl Device for HaProxy {
    async fn run(&mut self, command: Command, warrant: Warrant) -> Result<Response, Failure> {
        warrant.in_time(self.carry_out(command, &warrant)).await
    }

    async fn close(&mut self, _deadline: Instant) {
        // Each request takes its own leave.
    }
}

impl HaProxy {
    /// A load balancer that nothing has been asked of yet.
    #[must_use]
    pub fn new(config: HaProxyConfig) -> Self {
        Self { config }
    }

    async fn carry_out(&self, command: Command, warrant: &Warrant) -> Result<Response, Failure> {
        if matches!(command, Command::Off | Command::On) && !warrant.holds() {
            // SAFE-2: not even a look for an order that may not be given any more.
            return Err(Failure::Cancelled);
        }
        let reads = self.look().await?;
        let name = format!("{}/{}", self.config.backend, self.config.server);
        match command {
            Command::Read => Ok(Response::Reads(reads)),
            Command::Prove => {
                let may_fence = self.ask("show cli level").await?.trim() == "admin";
                let identity = self.config.address.clone();
                Ok(Response::Proven(Proven { identity, may_fence, reads }))
            }
            Command::Off if reads == Reading::Off => Ok(Response::AlreadySo),
            Command::On if reads == Reading::On => Ok(Response::AlreadySo),
            // Both in one breath: what is begun must not be left half done because standing ended in between. New sessions first.
            Command::Off => {
                let orders = format!("set server {name} state maint;shutdown sessions server {name}");
                self.order(&orders, warrant).await
            }
            Command::On => self.order(&format!("set server {name} state ready"), warrant).await,
        }
    }

    /// What the configured host's server is. SAFE-4: off only if two looks say so.
    async fn look(&self) -> Result<Reading, Failure> {
        match self.glance().await? {
            Reading::Off => {
                time::sleep(LOOK_AGAIN).await;
                self.glance().await
            }
            reads @ (Reading::On | Reading::Unknown) => Ok(reads),
        }
    }

    /// The state before the sessions: in maintenance it gets no new ones.
    async fn glance(&self) -> Result<Reading, Failure> {
        let HaProxyConfig { backend, server: name, .. } = &self.config;
        let state = self.ask(&format!("show servers state {backend}")).await?;
        let said = |words: String| Failure::Refused { code: clean(&format!("HAProxy: {words}")) };
        let server = words::server(&state, backend, name).map_err(said)?;
        self.is_ours(&server)?;
        let (proxy, id) = server.ids;
        // Type 4: servers.
        let stat = self.ask(&format!("show stat {proxy} 4 {id}")).await?;
        Ok(words::reading(server.admin, words::sessions(&stat, backend, name).map_err(said)?))
    }

    /// SAFE-4: no order to another host's server.
    fn is_ours(&self, server: &Server) -> Result<(), Failure> {
        let expected = self.config.address.clone();
        let found = server.address.parse().map(|address: std::net::IpAddr| address.to_string());
        match Identity(found.unwrap_or_else(|_| clean(&server.address))) {
            found if found == expected => Ok(()),
            found => Err(Failure::WrongIdentity { expected, found }),
        }
    }

    async fn order(&self, orders: &str, warrant: &Warrant) -> Result<Response, Failure> {
        let stream = self.connect().await.map_err(|error| unreachable(&error))?;
        if !warrant.holds() {
            // SAFE-2
            return Err(Failure::Cancelled);
        }
        // From here on it may have been done, whatever goes wrong.
        let in_doubt = |words: &str| Failure::Garbage {
            detail: clean(&format!("HAProxy: {words}; it may have been done all the same")),
        };
        let answer = exchange(stream, orders).await.map_err(|failure| in_doubt(&failure.to_string()))?;
        match answer.trim() {
            // One empty line for each order.
            "" if answer.len() == orders.split(';').count() => Ok(Response::Acknowledged),
            // The level is the socket's, so it goes for each of them.
            words if words.contains("Permission denied") => {
                Err(Failure::PrivilegeTooLow { detail: "the stats socket has not level admin".to_owned() })
            }
            words => Err(in_doubt(words)),
        }
    }

    async fn ask(&self, question: &str) -> Result<String, Failure> {
        let stream = self.connect().await.map_err(|error| unreachable(&error))?;
        exchange(stream, question).await
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match &self.config.socket {
            Socket::Path(path) => Box::new(UnixStream::connect(path).await?),
            Socket::Address(address) => Box::new(TcpStream::connect(address).await?),
        })
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One line, and all that is said to it.
async fn exchange(mut stream: Box<dyn Stream>, line: &str) -> Result<String, Failure> {
    stream.write_all(format!("{line}\n").as_bytes()).await.map_err(|error| unreachable(&error))?;
    let mut answer = Vec::new();
    let read = stream.take(ANSWER_MAX).read_to_end(&mut answer).await;
    read.map_err(|error| unreachable(&error))?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    // Each answer ends with an empty line.
    match answer == "\n" || answer.ends_with("\n\n") {
        true => Ok(answer),
        false => Err(Failure::Garbage { detail: "HAProxy: an answer without its end".to_owned() }),
    }
}

fn unreachable(error: &io::Error) -> Failure {
    Failure::Unreachable { error: format!("HAProxy: {error}") }
}
