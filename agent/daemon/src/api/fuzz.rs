//! Whatever a local process writes into the agent's socket, and whatever answers the command line there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a broken property ends the run"
)]

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use palisade_core::status::Status;
use palisade_proto::fuzz::{Bytes, check_words};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::routes::Shared;
use super::*;
use crate::journal::fuzz::sample;
use palisade_core::config::Verb;

/// The longest answer to a request in these runs: a status of three hosts, or the counters.
const ANSWER_MAX: usize = 32 * 1024;
/// More than a head and a body may have together.
const MORE: usize = 16 * 1024;
const STATUSES: [u16; 10] = [200, 202, 400, 403, 404, 405, 409, 413, 431, 503];

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().expect("no runtime")
    })
}

/// A journal for `why` to read.
fn journal_dir() -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let dir = std::env::temp_dir().join("palisade-fuzz-why");
        std::fs::create_dir_all(&dir).expect("no directory for a journal");
        std::fs::write(dir.join("journal-000000000001.jsonl"), sample()).expect("no journal");
        dir
    };
    MADE.get_or_init(make).clone()
}

/// Any bytes get one well-formed answer or none; an order gets through only from root, with a name and a reason of one line;
/// nothing else reaches the run loop.
///
/// # Panics
/// If not.
pub fn local_api(bytes: &[u8]) {
    let mut bytes = Bytes::new(bytes);
    let mode = bytes.byte();
    if let Some(answer) = client::parse(bytes.rest()) {
        assert!(answer.body.len() + 12 <= bytes.rest().len());
    }
    drop(serde_json::from_slice::<Status>(bytes.rest()));
    let caller = Caller { uid: if mode & 1 == 0 { 0 } else { 1000 }, pid: Some(7) };
    let request = if mode & 2 == 0 { bytes.rest().to_vec() } else { order(&mut bytes) };
    let (answer, orders) = runtime().block_on(converse(&request, mode & 4 == 0, caller));
    assert!(answer.len() <= ANSWER_MAX, "an answer of {} bytes", answer.len());
    for order in &orders {
        let name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        assert_eq!(order.by.uid, 0, "SAFE-7: only root orders");
        let Wanted { verb, name: about, reason, .. } = &order.wanted;
        let all = matches!(verb, Verb::Disarm | Verb::Arm);
        assert!(about.len() <= 64 && about.bytes().all(name) && all == about.is_empty());
        assert!((1..=500).contains(&reason.chars().count()) && !reason.contains(char::is_control));
        check_words(&order.by);
    }
    if answer.is_empty() {
        return assert!(orders.is_empty(), "an order without an answer");
    }
    // The command line never asks whether to go on; who does is told first, and answered then.
    let answer = answer.strip_prefix(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&answer);
    // Who asks by HTTP/1.0 is answered so; the command line never does.
    let answer =
        answer.strip_prefix(b"HTTP/1.0").map_or(answer.to_vec(), |rest| [b"HTTP/1.1", rest].concat());
    let said = client::parse(&answer).expect("an answer that the command line reads");
    assert!(STATUSES.contains(&said.status), "status {}", said.status);
    let taken = said.status == 202 || said.status == 409;
    assert!(orders.len() <= 1 && (orders.len() == 1 || !taken), "{} orders", orders.len());
}

/// A request for an order with any body.
fn order(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let paths = [
        "/v1/disarm",
        "/v1/maintenance/on",
        "/v1/host/drain",
        "/v1/fence",
        "/v1/confirm",
        "/v1/workload/stop",
        "/v1/workload/start",
        "/v1/why?host=",
    ];
    let (path, shape) = (paths[bytes.below(paths.len())], bytes.byte());
    let body = match shape % 4 {
        0 => bytes.rest().to_vec(),
        _ => {
            let host = String::from_utf8_lossy(bytes.part()).into_owned();
            let reason = String::from_utf8_lossy(bytes.rest());
            serde_json::to_vec(&serde_json::json!({ "host": host, "reason": reason })).unwrap()
        }
    };
    let mut request =
        format!("POST {path} HTTP/1.1\r\nhost: agent\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    request.extend(body);
    request
}

/// Writes the request and reads the whole answer; also the orders that reached the run loop. A caller that does not end writes
/// on until the agent has had enough.
async fn converse(request: &[u8], ends: bool, caller: Caller) -> (Vec<u8>, Vec<Order>) {
    let (ours, theirs) = UnixStream::pair().expect("no socket");
    let (requests, mut asked) = mpsc::channel(REQUESTS);
    let shared = Arc::new(Shared {
        counters: Arc::default(),
        health: Default::default(),
        requests,
        journal: journal_dir(),
    });
    let orders = Mutex::new(Vec::new());
    let run_loop = async {
        while let Some(request) = asked.recv().await {
            match request {
                ApiRequest::Status { reply } => drop(reply),
                ApiRequest::FromAfar(order) => panic!("an order from afar by the socket: {order:?}"),
                ApiRequest::Order(Order { wanted, stated, by, reply }) => {
                    let (unheard, _) = tokio::sync::oneshot::channel();
                    drop(reply.send(Outcome::Refused { message: "no".to_owned() }));
                    orders.lock().unwrap().push(Order { wanted, stated, by, reply: unheard });
                }
            }
        }
    };
    let talk = async {
        let (mut read, mut write) = ours.into_split();
        let write = async {
            // An agent that has had enough closes: what it did not read is lost.
            let _ = write.write_all(request).await;
            if ends {
                let _ = write.shutdown().await;
            } else {
                let _ = write.write_all(&[b'x'; MORE]).await;
            }
            write
        };
        let mut answer = Vec::new();
        // What was answered before the connection broke counts.
        let (_write, _) = tokio::join!(write, read.read_to_end(&mut answer));
        answer
    };
    let (answer, (), ()) = tokio::join!(talk, server::converse(theirs, caller, shared), run_loop);
    (answer, orders.into_inner().unwrap())
}
