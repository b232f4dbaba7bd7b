//! One cluster as the witness knows it: its keys, its arbiter, and the way from a sealed ask to a sealed answer.

use palisade_proto::seal::{Keyring, KeyringError, Kind, Opener, Sealer, Sender};
use palisade_proto::wire::{self, MAX_DATAGRAM, MAX_MESSAGE};
use palisade_proto::{Answer, Arbiter, Drift, Duration, HostId, Incarnation, LifeName, Seq, Time};

use crate::config::ClusterConfig;
use crate::dropped::DropReason;

/// A sealed answer.
pub(crate) type Datagram = [u8; MAX_DATAGRAM];

/// One cluster, whatever its size class.
pub(crate) trait Cluster {
    fn name(&self) -> &str;

    /// Answers the `sealed` ask that came on the topic of `host`; how many bytes of `out` are the answer.
    fn answer(
        &mut self,
        host: HostId,
        sealed: &[u8],
        now: Time,
        seq: Seq,
        out: &mut Datagram,
    ) -> Result<usize, DropReason>;

    /// The witness starts, or starts anew after a sleep: silent, with no memory.
    fn start(&mut self, now: Time);

    /// The connection was interrupted until now.
    fn was_deaf(&mut self, now: Time);
}

/// A cluster of up to `HOSTS` hosts, which remembers `LIVES` incarnations at once. Its memory is all in here.
pub(crate) struct FixedCluster<const HOSTS: usize, const LIVES: usize> {
    name: Box<str>,
    lease: Duration,
    drift: Drift,
    start: LifeName,
    opener: Opener<HOSTS>,
    sealer: Sealer,
    arbiter: Arbiter<HOSTS, LIVES>,
}

impl<const HOSTS: usize, const LIVES: usize> FixedCluster<HOSTS, LIVES> {
    pub(crate) fn new(config: ClusterConfig, start: LifeName, now: Time) -> Result<Self, KeyringError> {
        let ClusterConfig { name, keyring, lease, drift, hosts: _ } = config;
        let sealer = answers(&keyring, start)?;
        let opener = Opener::new(keyring, Kind::Ask);
        Ok(Self { name, lease, drift, start, opener, sealer, arbiter: Arbiter::new(now, lease, drift) })
    }
}

fn answers(keyring: &Keyring, start: LifeName) -> Result<Sealer, KeyringError> {
    Sealer::new(keyring, Kind::Answer, Sender::Witness, start)
}

impl<const HOSTS: usize, const LIVES: usize> Cluster for FixedCluster<HOSTS, LIVES> {
    fn name(&self) -> &str {
        &self.name
    }

    fn answer(
        &mut self,
        host: HostId,
        sealed: &[u8],
        now: Time,
        seq: Seq,
        out: &mut Datagram,
    ) -> Result<usize, DropReason> {
        let mut message = [0; MAX_DATAGRAM];
        // SAFE-7: authentic, for this cluster, and an ask.
        let opened = self.opener.open(sealed, &mut message).map_err(DropReason::Sealed)?;
        if opened.sender != Sender::Host(host) {
            return Err(DropReason::OtherSender);
        }
        let from = Incarnation { host, life: opened.life };
        let ask = wire::decode_ask(from, opened.seq, opened.message).map_err(DropReason::Undecodable)?;
        // SAFE-7: fresh; the arbiter ignores what is not.
        let verdict = self.arbiter.handle(&ask, now).map_err(DropReason::Ignored)?;

        let answer = Answer { start: self.start.0, seq, to: from, ask: ask.seq, verdict };
        let mut message = [0; MAX_MESSAGE];
        let len = wire::encode_answer(&answer, &mut message).map_err(|_| DropReason::NotSealed)?;
        let message = message.get(..len).ok_or(DropReason::NotSealed)?;
        self.sealer.seal(seq, message, out).map_err(|_| DropReason::NotSealed)
    }

    fn start(&mut self, now: Time) {
        self.arbiter = Arbiter::new(now, self.lease, self.drift);
    }

    fn was_deaf(&mut self, now: Time) {
        self.arbiter.was_deaf(now);
    }
}
