//! A real HAProxy with two servers, for the driver's tests.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy knows a test only inside #[test]"
)]

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command as Process, Stdio};
use std::time::Duration;

use palisade_devices::haproxy::{HaProxy, HaProxyConfig, Socket};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::Instant;

pub const DEADLINE: Duration = Duration::from_secs(20);
pub const HOST_B: &str = "127.0.0.2";
pub const HOST_C: &str = "127.0.0.3";

/// A load balancer and its two servers.
pub struct Balancer {
    child: Child,
    pub dir: TempDir,
    /// Of the runtime API with level operator.
    pub operator: SocketAddr,
    pub clients: SocketAddr,
    /// Of the backend `stuck`: one session at a time, and the same server for whoever comes again.
    pub queue: SocketAddr,
}

impl Drop for Balancer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Balancer {
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("api")
    }

    pub fn device(&self, server: &str, address: &str) -> HaProxy {
        device(Socket::Path(self.socket()), server, address)
    }

    /// A client that a server has answered with its name.
    pub async fn client(&self) -> (TcpStream, u8) {
        Self::client_at(self.clients).await
    }

    pub async fn client_at(address: SocketAddr) -> (TcpStream, u8) {
        let mut client = TcpStream::connect(address).await.unwrap();
        let name = client.read_u8().await.unwrap();
        (client, name)
    }

    pub async fn by_hand(&self, line: &str) {
        assert_eq!(self.asked(line).await, "\n", "{line}");
    }

    pub async fn asked(&self, line: &str) -> String {
        let mut socket = UnixStream::connect(self.socket()).await.unwrap();
        socket.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

/// Greets with its name, and then echoes for as long as the client stays.
pub async fn server(address: &str, name: u8) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reads, mut writes) = stream.split();
                drop(writes.write_u8(name).await);
                drop(tokio::io::copy(&mut reads, &mut writes).await);
            });
        }
    });
    address
}

pub async fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

pub async fn balancer() -> Balancer {
    let (b, c) = (server(HOST_B, b'b').await, server(HOST_C, b'c').await);
    let (operator, clients, queue) = (free_port().await, free_port().await, free_port().await);
    let dir = TempDir::new().unwrap();
    let path = dir.path().display();
    let text = format!(
        "global\n stats socket {path}/api level admin\n stats socket ipv4@{operator} level operator\n\
         defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
         frontend all\n bind {clients}\n default_backend web\n\
         backend web\n balance first\n server b {b}\n server c {c} disabled\n\
         frontend queue\n bind {queue}\n default_backend stuck\n\
         backend stuck\n stick-table type ip size 10 expire 1m\n stick on src\n server b {b} maxconn 1\n"
    );
    std::fs::write(dir.path().join("haproxy.cfg"), text).unwrap();
    let mut haproxy = Process::new("/usr/sbin/haproxy");
    haproxy
        .arg("-db")
        .arg("-f")
        .arg(dir.path().join("haproxy.cfg"))
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let child = haproxy.spawn().expect("no haproxy: install the package haproxy");
    let mut balancer = Balancer { child, dir, operator, clients, queue };
    let until = Instant::now() + DEADLINE;
    while UnixStream::connect(balancer.socket()).await.is_err() {
        assert_eq!(balancer.child.try_wait().unwrap(), None, "it ends at once");
        assert!(Instant::now() < until, "haproxy does not start");
        tokio::task::yield_now().await;
    }
    balancer
}

pub fn device(socket: Socket, server: &str, address: &str) -> HaProxy {
    let address: IpAddr = address.parse().unwrap();
    HaProxy::new(HaProxyConfig::new(socket, "web", server, address).unwrap())
}
