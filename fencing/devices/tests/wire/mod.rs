//! What lies between a driver and its real peer, and fails as networks and strangers on a port do: a relay of connections whose
//! answers it keeps back, breaks off, slows down or replaces, and a rule for the proxy of datagrams that does the same.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "clippy knows a test only inside #[test]")]

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;

/// Between two bytes of a slow peer: no answer is whole within any deadline here, and no pause is long.
const PACE: Duration = Duration::from_millis(20);
/// No protocol's words. It has lines, and an empty one, so that nothing waits for an end.
pub const NOISE: &[u8] = b"\xff\xfe\x00 what? \x80\x81\xff\xff\xff\xff\xff\xff\xff\n\n";

/// What becomes of a peer's answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Passes,
    /// Nobody listens.
    Closed,
    /// What is said is heard, and not answered.
    Silence,
    /// Something else comes instead, and then the end.
    Garbage,
    /// Something else comes, for ever.
    Flood,
    /// So much of it comes (bytes of connections, or datagrams), and then the end.
    Ends(usize),
    /// So much of it comes, and then nothing.
    Stops(usize),
    /// It comes byte by byte.
    Slow,
    /// Datagrams: the first half of each.
    Halves,
}

/// Where somebody listens.
#[derive(Clone, Debug)]
pub enum Place {
    Address(SocketAddr),
    Socket(PathBuf),
}

impl Place {
    /// A port that the system chooses.
    pub fn any() -> Self {
        Self::Address(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Address(address) => *address,
            Self::Socket(path) => panic!("{} is no address", path.display()),
        }
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Address(address) => Box::new(TcpStream::connect(address).await?),
            Self::Socket(path) => Box::new(UnixStream::connect(path).await?),
        })
    }
}

pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

enum Listener {
    Address(TcpListener),
    Socket(UnixListener),
}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Address(listener) => Box::new(listener.accept().await?.0),
            Self::Socket(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// The fault of now, and how much has been handed back without one.
#[derive(Clone)]
pub struct Condition(Arc<Mutex<(Fault, usize)>>);

impl Condition {
    pub fn good() -> Self {
        Self(Arc::new(Mutex::new((Fault::Passes, 0))))
    }

    pub fn goes(&self, fault: Fault) {
        self.0.lock().unwrap().0 = fault;
    }

    pub fn passed(&self) -> usize {
        self.0.lock().unwrap().1
    }

    fn now(&self) -> Fault {
        self.0.lock().unwrap().0
    }

    /// How much of so much may pass.
    fn pass(&self, amount: usize) -> usize {
        let (fault, passed) = &mut *self.0.lock().unwrap();
        match fault {
            Fault::Passes => *passed += amount,
            Fault::Ends(left) | Fault::Stops(left) => {
                let passes = amount.min(*left);
                *left -= passes;
                return passes;
            }
            Fault::Slow | Fault::Halves => {}
            Fault::Closed | Fault::Silence | Fault::Garbage | Fault::Flood => return 0,
        }
        amount
    }

    /// What comes instead of a datagram.
    pub fn datagrams(&self, answer: &[u8]) -> Vec<Vec<u8>> {
        match self.now() {
            Fault::Garbage | Fault::Flood => vec![NOISE.to_vec()],
            Fault::Slow => answer.iter().map(|byte| vec![*byte]).collect(),
            Fault::Halves => vec![answer[..answer.len() / 2].to_vec()],
            Fault::Passes | Fault::Closed | Fault::Silence | Fault::Ends(_) | Fault::Stops(_) => {
                (0..self.pass(1)).map(|_| answer.to_vec()).collect()
            }
        }
    }
}

/// A relay of connections.
pub struct Link {
    pub place: Place,
    pub condition: Condition,
    serving: JoinSet<()>,
}

impl Link {
    /// Listens at `near`, and hands on to `peer`.
    pub async fn start(near: &Place, peer: &Place) -> Self {
        let (listener, place) = match near {
            Place::Address(address) => {
                let listener = TcpListener::bind(address).await.unwrap();
                let address = listener.local_addr().unwrap();
                (Listener::Address(listener), Place::Address(address))
            }
            Place::Socket(path) => {
                drop(std::fs::remove_file(path));
                (Listener::Socket(UnixListener::bind(path).unwrap()), near.clone())
            }
        };
        let (condition, peer) = (Condition::good(), peer.clone());
        let mut serving = JoinSet::new();
        let shared = condition.clone();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok(near) = listener.accept().await {
                connections.spawn(relay(near, peer.clone(), shared.clone()));
            }
        });
        Self { place, condition, serving }
    }

    pub async fn goes(&mut self, fault: Fault) {
        self.condition.goes(fault);
        if fault == Fault::Closed {
            self.serving.shutdown().await;
        }
    }
}

/// Ends when either side does.
async fn relay(near: Box<dyn Stream>, peer: Place, condition: Condition) {
    let Ok(far) = peer.connect().await else { return };
    let ((mut said, mut near), (mut answers, mut far)) = (tokio::io::split(near), tokio::io::split(far));
    tokio::select! {
        _ = tokio::io::copy(&mut said, &mut far) => {}
        _ = hand_back(&mut answers, &mut near, &condition) => {}
    }
}

async fn hand_back(
    answers: &mut (impl AsyncRead + Unpin),
    near: &mut (impl AsyncWrite + Unpin),
    condition: &Condition,
) -> io::Result<()> {
    let mut buffer = vec![0; 65_536];
    loop {
        let read = answers.read(&mut buffer).await.unwrap_or(0);
        let bytes = &buffer[..condition.pass(read)];
        match condition.now() {
            // Not even that there is no more.
            Fault::Silence => {}
            Fault::Stops(0) if bytes.is_empty() => {}
            Fault::Garbage => return near.write_all(NOISE).await,
            Fault::Flood => loop {
                near.write_all(NOISE).await?;
            },
            Fault::Slow => {
                for byte in bytes {
                    near.write_all(&[*byte]).await?;
                    tokio::time::sleep(PACE).await;
                }
            }
            Fault::Ends(0) => return near.write_all(bytes).await,
            Fault::Passes | Fault::Closed | Fault::Ends(_) | Fault::Stops(_) | Fault::Halves => {
                near.write_all(bytes).await?;
            }
        }
        match (read, condition.now()) {
            (0, Fault::Silence | Fault::Stops(0)) => std::future::pending().await,
            (0, _) => return Ok(()),
            _ => {}
        }
    }
}
