//! A machine's own monitor: one connection for each command, since a monitor serves one client at a time.
//!
//! Off is `stop`, which ends the processors and waits for what is under way to the disks, then `system_reset`: what lived in it can not go
//! on, whoever continues it. On is `cont`. QEMU itself runs on, so its console and its disks' locks stay where they are.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use palisade_ladder::{Failure, Identity};
use serde_json::Value;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpStream, UnixStream};

use super::words::{self, Message, State};
use crate::Warrant;
use crate::text::clean;

/// Of one line. What is asked here is answered in some hundred bytes; an event can be longer.
const LINE_MAX: u64 = 64 * 1024;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A monitor that takes commands.
pub(super) struct Monitor {
    stream: BufReader<Box<dyn Stream>>,
    /// Begins anywhere: QEMU gives a client what is left of the answers to the one before it.
    next: u64,
}

impl Monitor {
    pub(super) async fn at_socket(path: &Path) -> Result<Self, Failure> {
        let failed = |error| Failure::Unreachable { error: format!("{}: {error}", path.display()) };
        Self::greet(Box::new(UnixStream::connect(path).await.map_err(failed)?)).await
    }

    pub(super) async fn at_address(address: SocketAddr) -> Result<Self, Failure> {
        Self::greet(Box::new(TcpStream::connect(address).await.map_err(|error| unreachable(&error))?)).await
    }

    /// A monitor that is busy with another client answers when that one has gone.
    async fn greet(stream: Box<dyn Stream>) -> Result<Self, Failure> {
        let mut monitor = Self { stream: BufReader::new(stream), next: first_id()? };
        match monitor.line().await? {
            Message::Greeting => {}
            Message::Event | Message::Return { .. } | Message::Error { .. } => {
                return Err(Failure::Garbage { detail: "QMP: no greeting".to_owned() });
            }
        }
        monitor.ask("qmp_capabilities").await?;
        Ok(monitor)
    }

    pub(super) async fn uuid(&mut self) -> Result<Identity, Failure> {
        let answer = self.ask("query-uuid").await?;
        words::uuid(&answer).ok_or_else(|| Failure::Garbage { detail: "query-uuid: no UUID".to_owned() })
    }

    pub(super) async fn state(&mut self) -> Result<State, Failure> {
        let migration = self.ask("query-migrate").await?;
        let status = self.ask("query-status").await?;
        Ok(words::monitored(&status, &migration))
    }

    pub(super) async fn off(&mut self, warrant: &Warrant) -> Result<(), Failure> {
        self.order(["stop", "system_reset"], warrant).await
    }

    /// A machine that its firmware has switched off wants the reset before it goes on.
    pub(super) async fn on(&mut self, warrant: &Warrant) -> Result<(), Failure> {
        self.order(["system_reset", "cont"], warrant).await
    }

    /// Both commands in one breath: what may be begun must not be left half done because standing ended in between.
    async fn order(&mut self, commands: [&str; 2], warrant: &Warrant) -> Result<(), Failure> {
        let requests = commands.map(|command| self.request(command));
        if !warrant.holds() {
            // SAFE-2
            return Err(Failure::Cancelled);
        }
        let both: Vec<u8> = requests.iter().flat_map(|(_, bytes)| bytes).copied().collect();
        // From here on it may have been done, whatever goes wrong.
        let in_doubt = |words: &str| Failure::Garbage {
            detail: clean(&format!("{}: {words}; it may have been done all the same", commands.join(", "))),
        };
        self.stream.write_all(&both).await.map_err(|error| in_doubt(&error.to_string()))?;
        for (id, _) in requests {
            match self.answer(id).await {
                Ok(_) => {}
                Err(Failure::Refused { code }) => return Err(in_doubt(&code)),
                Err(failure) => return Err(in_doubt(&failure.to_string())),
            }
        }
        Ok(())
    }

    async fn ask(&mut self, command: &str) -> Result<Value, Failure> {
        let (id, bytes) = self.request(command);
        let sent = self.stream.write_all(&bytes).await;
        sent.map_err(|error| unreachable(&error))?;
        match self.answer(id).await {
            Err(Failure::Refused { code }) => Err(Failure::Refused { code: format!("{command}: {code}") }),
            answered => answered,
        }
    }

    fn request(&mut self, command: &str) -> (u64, Vec<u8>) {
        self.next += 1;
        (self.next, format!("{{\"execute\":\"{command}\",\"id\":{}}}\n", self.next).into_bytes())
    }

    async fn answer(&mut self, of: u64) -> Result<Value, Failure> {
        loop {
            match self.line().await? {
                Message::Return { id, value } if id == Some(of) => return Ok(value),
                Message::Error { id, words } if id == Some(of) => {
                    return Err(Failure::Refused { code: clean(&words) });
                }
                // SAFE-4: not what an earlier client had asked, which was so then.
                Message::Event | Message::Return { id: Some(_), .. } | Message::Error { id: Some(_), .. } => {
                }
                Message::Greeting | Message::Return { id: None, .. } | Message::Error { id: None, .. } => {
                    return Err(Failure::Garbage { detail: "QMP: the answer to something else".to_owned() });
                }
            }
        }
    }

    async fn line(&mut self) -> Result<Message, Failure> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(LINE_MAX).read_until(b'\n', &mut line).await;
        match read {
            Err(error) => Err(unreachable(&error)),
            Ok(_) if line.ends_with(b"\n") => words::message(&line)
                .map_err(|detail| Failure::Garbage { detail: format!("QMP: {}", clean(&detail)) }),
            Ok(_) if u64::try_from(line.len()).is_ok_and(|len| len < LINE_MAX) => {
                Err(Failure::Unreachable { error: "QMP: the connection was closed".to_owned() })
            }
            Ok(_) => Err(Failure::Garbage { detail: format!("QMP: a line of more than {LINE_MAX} bytes") }),
        }
    }
}

/// No client of before had its requests numbered near it.
fn first_id() -> Result<u64, Failure> {
    let random = ring::rand::generate::<[u8; 8]>(&ring::rand::SystemRandom::new());
    let random =
        random.map_err(|_| Failure::Unreachable { error: "no random numbers from the system".to_owned() })?;
    // 48 bits: a number in JSON, with room to count on.
    Ok(u64::from_ne_bytes(random.expose()) >> 16)
}

fn unreachable(error: &io::Error) -> Failure {
    Failure::Unreachable { error: format!("QMP: {error}") }
}
