//! A UDP proxy between the driver and a BMC: each console port gets its own port towards the BMC, as through a router.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// Which way a datagram goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    ToBmc,
    FromBmc,
}

/// What happens to one datagram: the datagrams to hand on in its place, now.
pub type Rule = dyn FnMut(Way, &[u8]) -> Vec<Vec<u8>> + Send;

pub struct Proxy {
    pub address: SocketAddr,
    trace: Trace,
    _tasks: JoinSet<()>,
}

/// What came by last; printed when a test fails.
#[derive(Clone)]
struct Trace(Arc<Mutex<VecDeque<String>>>, Instant);

const TRACE_LEN: usize = 100;

impl Trace {
    fn note(&self, way: Way, datagram: &[u8], copies: usize) {
        let mut lines = self.0.lock().unwrap();
        if lines.len() == TRACE_LEN {
            lines.pop_front();
        }
        let head = &datagram[4..datagram.len().min(16)];
        let at = self.1.elapsed();
        lines.push_back(format!("{at:?} {way:?} x{copies} len {} {head:02x?}", datagram.len()));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for line in self.trace.0.lock().unwrap().iter() {
                println!("{line}");
            }
        }
    }
}

impl Proxy {
    pub async fn start(bmc: SocketAddr, rule: Box<Rule>) -> Self {
        let outside = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = outside.local_addr().unwrap();
        let rule = Arc::new(Mutex::new(rule));
        let trace = Trace(Arc::default(), Instant::now());
        let tracing = trace.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut consoles: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
            let mut answers = JoinSet::new();
            let mut buffer = [0; 2048];
            loop {
                // A console that has gone leaves an ICMP error behind.
                let Ok((len, console)) = outside.recv_from(&mut buffer).await else { continue };
                let inside = match consoles.entry(console) {
                    Entry::Occupied(known) => Arc::clone(known.get()),
                    Entry::Vacant(new) => {
                        let inside = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                        inside.connect(bmc).await.unwrap();
                        let ways =
                            (Arc::clone(&inside), Arc::clone(&outside), Arc::clone(&rule), tracing.clone());
                        answers.spawn(hand_back(ways, console));
                        Arc::clone(new.insert(inside))
                    }
                };
                let datagrams = (rule.lock().unwrap())(Way::ToBmc, &buffer[..len]);
                tracing.note(Way::ToBmc, &buffer[..len], datagrams.len());
                for datagram in datagrams {
                    let _ = inside.send(&datagram).await;
                }
            }
        });
        Self { address, trace, _tasks: tasks }
    }
}

type Ways = (Arc<UdpSocket>, Arc<UdpSocket>, Arc<Mutex<Box<Rule>>>, Trace);

/// From the BMC to one console.
async fn hand_back((inside, outside, rule, trace): Ways, console: SocketAddr) {
    let mut buffer = [0; 2048];
    loop {
        let Ok(len) = inside.recv(&mut buffer).await else { continue };
        let datagrams = (rule.lock().unwrap())(Way::FromBmc, &buffer[..len]);
        trace.note(Way::FromBmc, &buffer[..len], datagrams.len());
        for datagram in datagrams {
            let _ = outside.send_to(&datagram, console).await;
        }
    }
}

/// Repeatable dice: 0 to 99.
pub struct Dice(AtomicU32);

impl Dice {
    pub fn new(seed: u32) -> Self {
        Self(AtomicU32::new(seed))
    }

    pub fn percent(&self) -> u32 {
        let next = self.0.load(Ordering::Relaxed).wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0.store(next, Ordering::Relaxed);
        (next >> 8) % 100
    }
}
