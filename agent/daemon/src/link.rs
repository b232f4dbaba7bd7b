//! The links to the peers: one UDP socket for each of this host's addresses, a datagram to each peer on each link.
//!
//! Decides: which datagrams are authentic heartbeats of configured peers, and newer than what was heard of the same life
//! (SAFE-7). Everything else is counted and dropped, and nothing else happens. A packet is known by its key, never by its
//! source address. Never: waits for the network, judges what a heartbeat says.

mod recent;
mod socket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use palisade_core::config::Cluster;
use palisade_proto::seal::{Keyring, KeyringError, Kind, OpenError, Opener, Sealer, Sender};
use palisade_proto::wire::{self, MAX_DATAGRAM, MAX_MESSAGE};
use palisade_proto::{Heartbeat, HostId, Incarnation, MAX_HOSTS, Seq};
use tokio::io::ReadBuf;

use crate::counters::{Counters, Dropped};
use recent::{Freshness, Recent};
use socket::Socket;

/// The datagrams that one wake-up of the run loop looks at; after these its other sources have their turn (SAFE-12).
const BATCH: usize = 64;
/// Lives whose keys are kept: two of each host, so that a reboot pushes out no living one.
const LIVES: usize = 2 * MAX_HOSTS;
/// A link on which a peer falls silent for this long while another link hears it is worth an alarm.
const LINK_SILENT_MS: u128 = 5000;

/// All links of this host.
pub(crate) struct Links {
    me: Incarnation,
    machine: [u8; 16],
    sockets: Vec<Socket>,
    peers: Vec<Peer>,
    sealer: Sealer,
    last_seq: Option<Seq>,
    opener: Box<Opener<LIVES>>,
    recent: Recent,
    counters: Arc<Counters>,
    datagram: Box<[u8; MAX_DATAGRAM + 1]>,
    message: Box<[u8; MAX_DATAGRAM]>,
    turn: usize,
}

struct Peer {
    host: HostId,
    name: String,
    addresses: Vec<SocketAddr>,
    /// When it was last heard on each of our links.
    heard: Vec<Option<Instant>>,
}

impl Links {
    /// The links of `me` in `cluster`. An address that is not there yet is tried again later ([`Self::maintain`]).
    /// Called within the run loop's runtime.
    pub(crate) fn open(
        cluster: &Cluster,
        me: Incarnation,
        keyring: Keyring,
        counters: Arc<Counters>,
    ) -> Result<Self, KeyringError> {
        let sealer = Sealer::new(&keyring, Kind::Heartbeat, Sender::Host(me.host), me.life)?;
        let mut links = Self {
            me,
            machine: cluster.host(me.host).map_or([0; 16], |host| host.machine().bytes()),
            sockets: Vec::new(),
            peers: Vec::new(),
            sealer,
            last_seq: None,
            opener: Box::new(Opener::new(keyring, Kind::Heartbeat)),
            recent: Recent::default(),
            counters,
            datagram: Box::new([0; MAX_DATAGRAM + 1]),
            message: Box::new([0; MAX_DATAGRAM]),
            turn: 0,
        };
        links.arrange(cluster);
        Ok(links)
    }

    /// Takes another configuration: links that stay keep their sockets, so nothing is interrupted.
    pub(crate) fn reload(&mut self, cluster: &Cluster, keyring: Keyring) -> Result<(), KeyringError> {
        self.sealer = Sealer::new(&keyring, Kind::Heartbeat, Sender::Host(self.me.host), self.me.life)?;
        *self.opener = Opener::new(keyring, Kind::Heartbeat);
        self.arrange(cluster);
        Ok(())
    }

    fn arrange(&mut self, cluster: &Cluster) {
        let own = cluster.host(self.me.host).map_or(&[][..], |host| host.links());
        let mut old = std::mem::take(&mut self.sockets);
        for address in own {
            let kept =
                old.iter().position(|socket| socket.address() == *address).map(|at| old.swap_remove(at));
            self.sockets.push(kept.unwrap_or_else(|| Socket::new(*address)));
        }
        let peers = cluster.hosts().iter().filter(|host| host.id() != self.me.host);
        let heard = vec![None; self.sockets.len()];
        self.peers = peers
            .map(|host| Peer {
                host: host.id(),
                name: host.name().to_owned(),
                addresses: host.links().to_vec(),
                heard: heard.clone(),
            })
            .collect();
        self.maintain();
    }

    /// Binds what is not bound yet, at most as often as its back-off allows.
    pub(crate) fn maintain(&mut self) {
        self.sockets.iter_mut().for_each(Socket::maintain);
    }

    /// Seals `heartbeat` once and sends it to each peer, from our i-th link to its i-th. Never waits: what the kernel
    /// does not take is lost, as any datagram may be.
    pub(crate) fn send(&mut self, heartbeat: &Heartbeat) {
        if self.last_seq.is_some_and(|last| heartbeat.seq <= last) {
            // The engine's seq only rises; sealing this one would use a nonce twice.
            tracing::error!(seq = heartbeat.seq, "a heartbeat with an old seq is not sent");
            return;
        }
        self.last_seq = Some(heartbeat.seq);
        let mut message = [0; MAX_MESSAGE];
        let sealed = wire::encode_heartbeat(heartbeat, &mut message)
            .map_err(|error| error.to_string())
            .and_then(|len| {
                let message = message.get(..len).unwrap_or_default();
                self.sealer
                    .seal(heartbeat.seq, message, &mut self.message[..])
                    .map_err(|error| error.to_string())
            });
        let datagram = match sealed {
            Ok(len) => self.message.get(..len).unwrap_or_default(),
            Err(error) => return tracing::error!("a heartbeat cannot be sealed: {error}"),
        };
        for (index, socket) in self.sockets.iter().enumerate() {
            for address in self.peers.iter().filter_map(|peer| peer.addresses.get(index)) {
                match socket.send(datagram, *address) {
                    Ok(()) => self.counters.sent.count(),
                    Err(_) => self.counters.send_failed.count(),
                }
            }
        }
    }

    /// The next heartbeat that counts. Nothing is lost if the wait is given up.
    pub(crate) async fn recv(&mut self) -> Arc<Heartbeat> {
        std::future::poll_fn(|context| self.poll_recv(context)).await
    }

    fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Arc<Heartbeat>> {
        for _ in 0..BATCH {
            let Poll::Ready((link, len)) = self.poll_socket(context) else {
                return Poll::Pending;
            };
            match self.read(link, len) {
                Ok(heartbeat) => {
                    self.counters.received.count();
                    return Poll::Ready(heartbeat);
                }
                Err(why) => self.counters.drop_packet(why),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// One datagram of any socket; each poll begins with another one, so that a flooded link cannot starve the rest.
    fn poll_socket(&mut self, context: &mut Context<'_>) -> Poll<(usize, usize)> {
        let links = self.sockets.len();
        self.turn = self.turn.wrapping_add(1);
        for step in 0..links {
            let link = self.turn.wrapping_add(step) % links;
            let mut buffer = ReadBuf::new(&mut self.datagram[..]);
            if let Some(socket) = self.sockets.get(link)
                && let Poll::Ready(received) = socket.poll_recv(context, &mut buffer)
            {
                // A socket error reads as an empty datagram: too short, counted, gone.
                let len = if received { buffer.filled().len() } else { 0 };
                return Poll::Ready((link, len));
            }
        }
        Poll::Pending
    }

    /// SAFE-7: a datagram acts only if authentic, of a configured peer, and newer than the last of the same life.
    fn read(&mut self, link: usize, len: usize) -> Result<Arc<Heartbeat>, Dropped> {
        let datagram = self.datagram.get(..len).filter(|_| len <= MAX_DATAGRAM).ok_or(Dropped::Size)?;
        let opened = self.opener.open(datagram, &mut self.message[..]).map_err(reason)?;
        let Sender::Host(host) = opened.sender else {
            return Err(Dropped::Undecodable);
        };
        let from = Incarnation { host, life: opened.life };
        if from == self.me {
            return Err(Dropped::OwnEcho);
        }
        if host == self.me.host {
            // An earlier life of this machine, replayed, says nothing; another machine under this name is the engine's alarm.
            return match wire::decode_heartbeat(from, opened.seq, opened.message) {
                Ok(heartbeat) if heartbeat.machine != self.machine => Ok(Arc::new(heartbeat)),
                Ok(_) => Err(Dropped::OldLife),
                Err(_) => Err(Dropped::Undecodable),
            };
        }
        let peer = self.peers.iter_mut().find(|peer| peer.host == host).ok_or(Dropped::UnknownHost)?;
        match self.recent.judge(from, opened.seq) {
            Freshness::New => {}
            Freshness::Same => {
                peer.hear(link);
                return Err(Dropped::Duplicate);
            }
            Freshness::Old => return Err(Dropped::Replayed),
        }
        let heartbeat =
            wire::decode_heartbeat(from, opened.seq, opened.message).map_err(|_| Dropped::Undecodable)?;
        self.recent.note(from, opened.seq);
        peer.hear(link);
        Ok(Arc::new(heartbeat))
    }

    /// What is wrong with the links, in an operator's words.
    pub(crate) fn alarms(&self) -> Vec<String> {
        let mut alarms: Vec<String> = self.sockets.iter().filter_map(Socket::trouble).collect();
        for peer in &self.peers {
            let silent =
                |heard: &&Option<Instant>| heard.is_none_or(|at| at.elapsed().as_millis() > LINK_SILENT_MS);
            let shared = peer.heard.len().min(peer.addresses.len());
            let on_links = peer.heard.iter().take(shared);
            let dumb = on_links.clone().filter(silent).count();
            // Silent on every link is the engine's business: it is the peer, not the link.
            if dumb > 0 && dumb < shared {
                let numbers = on_links
                    .enumerate()
                    .filter(|(_, heard)| silent(heard))
                    .map(|(at, _)| (at + 1).to_string());
                let numbers = numbers.collect::<Vec<_>>().join(", ");
                alarms.push(format!("host {} is heard, but not on link {numbers}", peer.name));
            }
        }
        alarms
    }
}

impl Peer {
    fn hear(&mut self, link: usize) {
        if let Some(heard) = self.heard.get_mut(link) {
            *heard = Some(Instant::now());
        }
    }
}

fn reason(error: OpenError) -> Dropped {
    match error {
        OpenError::TooShort | OpenError::TooLong => Dropped::Size,
        OpenError::WrongVersion(_) => Dropped::Version,
        OpenError::UnknownKey(_) => Dropped::UnknownKey,
        OpenError::UnknownKind(_) | OpenError::OtherKind(_) | OpenError::UnknownSender(_) => {
            Dropped::Undecodable
        }
        OpenError::Forged => Dropped::Forged,
    }
}

#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;
