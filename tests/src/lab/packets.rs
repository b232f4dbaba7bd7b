//! An intruder on the wire: listens to what hosts send to one another, and sends it again, or nonsense.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::trouble::{Context, Result, Trouble};

/// The port that agents talk to one another on.
pub const PEER_PORT: u16 = 7411;
/// A heartbeat is at most 1,400 bytes; an Ethernet frame not much more.
const FRAME_LIMIT: usize = 2048;
/// What an intruder remembers at most.
const PACKETS_LIMIT: usize = 4096;

/// One datagram between hosts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packet {
    /// For whom.
    pub to: SocketAddrV4,
    /// Its payload.
    pub bytes: Vec<u8>,
}

/// Listens in a namespace for `time` to everything that goes to the peers' port.
///
/// # Errors
/// No such namespace, or no right to listen.
pub fn listen(netns: &str, time: Duration) -> Result<Vec<Packet>> {
    within(netns, || {
        let all = SockProtocol::EthAll;
        let ear = socket(AddressFamily::Packet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, all)
            .during("a packet socket")?;
        setsockopt(&ear, sockopt::ReceiveTimeout, &TimeVal::milliseconds(100)).during("a packet socket")?;
        let mut heard = BTreeSet::new();
        let mut frame = [0_u8; FRAME_LIMIT];
        let end = Instant::now() + time;
        while Instant::now() < end && heard.len() < PACKETS_LIMIT {
            let Ok(length) = recv(ear.as_raw_fd(), &mut frame, MsgFlags::empty()) else { continue };
            heard.extend(frame.get(..length).and_then(peer_datagram));
        }
        Ok(heard.into_iter().collect())
    })
}

/// Sends datagrams from a namespace.
///
/// # Errors
/// No such namespace.
pub fn send(netns: &str, packets: &[Packet]) -> Result<()> {
    within(netns, || {
        let mouth = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).during("a socket")?;
        for packet in packets {
            mouth.send_to(&packet.bytes, packet.to).during(packet.to)?;
        }
        Ok(())
    })
}

/// `count` datagrams of random bytes and random length for each address.
///
/// # Errors
/// The kernel gives no random bytes.
pub fn nonsense(to: &[SocketAddrV4], count: usize) -> Result<Vec<Packet>> {
    let mut source = File::open("/dev/urandom").during("/dev/urandom")?;
    let mut packets = Vec::new();
    for round in 0..count {
        for address in to {
            let mut bytes = vec![0_u8; (round * 37) % 1400];
            source.read_exact(&mut bytes).during("/dev/urandom")?;
            packets.push(Packet { to: *address, bytes });
        }
    }
    Ok(packets)
}

/// Every packet cut to each of a few lengths, and with one byte turned over.
#[must_use]
pub fn mangled(packets: &[Packet]) -> Vec<Packet> {
    let cut = |packet: &Packet, keep: usize| Packet {
        to: packet.to,
        bytes: packet.bytes.get(..keep).unwrap_or(&packet.bytes).to_vec(),
    };
    let turned = |packet: &Packet| {
        let mut bytes = packet.bytes.clone();
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 0x10;
        }
        Packet { to: packet.to, bytes }
    };
    let one = |packet: &Packet| {
        let length = packet.bytes.len();
        let mut all: Vec<_> =
            [0, 1, 8, length / 2, length.saturating_sub(1)].map(|keep| cut(packet, keep)).into();
        all.push(turned(packet));
        all
    };
    packets.iter().flat_map(one).collect()
}

/// The payload of an IPv4 UDP packet for the peers' port.
fn peer_datagram(packet: &[u8]) -> Option<Packet> {
    let first = *packet.first()?;
    let (version, header) = (first >> 4, usize::from(first & 0x0f) * 4);
    if version != 4 || *packet.get(9)? != 17 {
        return None;
    }
    let address: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    let port = u16::from_be_bytes(packet.get(header + 2..header + 4)?.try_into().ok()?);
    let length = usize::from(u16::from_be_bytes(packet.get(header + 4..header + 6)?.try_into().ok()?));
    let bytes = packet.get(header + 8..header + length)?.to_vec();
    (port == PEER_PORT).then(|| Packet { to: SocketAddrV4::new(Ipv4Addr::from(address), port), bytes })
}

/// Runs `what` on a thread of its own in a network namespace.
fn within<T: Send>(netns: &str, what: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let path = format!("/run/netns/{netns}");
    let namespace = File::open(&path).during(&path)?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(&namespace, CloneFlags::CLONE_NEWNET).during(&path)?;
            what()
        });
        thread.join().unwrap_or_else(|_| Err(Trouble::new("the intruder's thread died")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_for_a_peer_is_told_from_others() {
        let mut packet = vec![0x45, 0, 0, 31, 0, 0, 0, 0, 64, 17, 0, 0, 10, 77, 1, 1, 10, 77, 1, 2];
        packet.extend([0x1c, 0xf3, 0x1c, 0xf3, 0, 11, 0, 0, b'a', b'b', b'c']);
        let datagram = peer_datagram(&packet).unwrap();
        assert_eq!(
            (datagram.to.to_string().as_str(), datagram.bytes.as_slice()),
            ("10.77.1.2:7411", &b"abc"[..])
        );
        packet[9] = 6;
        assert_eq!(peer_datagram(&packet), None);
        assert_eq!(peer_datagram(&packet[..10]), None);
    }
}
