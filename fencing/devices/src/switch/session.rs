//! Questions and orders on one UDP socket, which lives as long as one command.
//!
//! An answer counts only if it carries the number of the question, drawn at random for each: what is late, doubled or another's is
//! passed over. A question is repeated freely. An order is sent again only after the switch was asked meanwhile and has not carried
//! it out.

use std::time::Duration;

use palisade_ladder::Failure;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::net::UdpSocket;
use tokio::time::{self, Instant};

use super::ber::{Oid, Wrong};
use super::message::{self, Binding, Kind, Pdu, Value};
use super::usm::{self, ANSWER_LEN_MAX, Engine, Keys, Opened, Report};
use super::{Login, SwitchConfig};
use crate::Warrant;
use crate::text::clean;

/// Copies of one question, the first after no wait; each waits twice as long as the one before. More would only fill a busy
/// switch's queue.
const COPIES_MAX: u32 = 6;
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// How many names one step of a walk asks for: their answer fits in one packet.
const STEP_LEN: i64 = 24;

/// What went wrong by the way, for when the time is over: the difference between a silent switch and a babbling one.
#[derive(Default)]
pub(super) struct Trouble(Option<Wrong>);

impl Trouble {
    pub(super) fn at_deadline(&self, waited: Duration) -> Failure {
        match self.0 {
            Some(last) => Failure::Garbage { detail: format!("SNMP: {last}") },
            None => Failure::NoAnswer { waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX) },
        }
    }
}

/// A login at a switch, for one command.
pub(super) struct Session<'a> {
    socket: UdpSocket,
    login: &'a Login,
    user: Option<User<'a>>,
    trouble: &'a mut Trouble,
    buffer: Vec<u8>,
}

/// What a user's messages are sealed with.
struct User<'a> {
    name: &'a str,
    keys: &'a Keys,
    engine: Engine,
    /// When its time was told.
    heard: Instant,
}

/// Keys of an engine that was spoken to before: making them takes a million bytes of hashing.
pub(super) type KnownKeys = Option<(Vec<u8>, Keys)>;

/// An order on its way: how many copies of it, the last one when.
#[derive(Clone, Copy)]
pub(super) struct Sent {
    pub(super) admin: i64,
    pub(super) copies: u32,
    pub(super) last: Instant,
}

impl<'a> Session<'a> {
    /// Binds a socket and, for a user, asks for the engine and makes the keys that are right there. Sends no order.
    pub(super) async fn open(
        config: &'a SwitchConfig,
        known: &'a mut KnownKeys,
        trouble: &'a mut Trouble,
    ) -> Result<Self, Failure> {
        let any = if config.address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).await.map_err(|error| unreachable(&error))?;
        socket.connect(config.address).await.map_err(|error| unreachable(&error))?;
        let buffer = vec![0; ANSWER_LEN_MAX];
        let mut session = Self { socket, login: &config.login, user: None, trouble, buffer };
        if let Login::User { user, auth_protocol, auth_password, priv_password } = &config.login {
            let engine = session.discover().await?;
            if known.as_ref().is_none_or(|(id, _)| *id != engine.id) {
                let (auth, privacy) = (auth_password.expose(), priv_password.expose());
                let keys = Keys::new(*auth_protocol, auth, privacy, &engine.id);
                *known = Some((engine.id.clone(), keys));
            }
            let keys = known.as_ref().map(|(_, keys)| keys);
            session.user = keys.map(|keys| User { name: user, keys, engine, heard: Instant::now() });
        }
        Ok(session)
    }

    /// The engine's name and time, as whoever answers says; the keys that come of it are right at the engine of that name only.
    async fn discover(&mut self) -> Result<Engine, Failure> {
        let id = number()?;
        let asked = usm::discovery(id);
        let heard = self.repeatedly(&asked, |_, bytes| match usm::open(bytes, None)? {
            Opened::Report { message_id, what: Report::UnknownEngine, engine, .. }
                if message_id == id && !engine.id.is_empty() =>
            {
                Ok(Some(engine))
            }
            Opened::Report { .. } | Opened::Answer { .. } => Ok(None),
        });
        heard.await
    }

    /// The value of each object.
    pub(super) async fn get(&mut self, bindings: Vec<Binding>) -> Result<Vec<Binding>, Failure> {
        let answer = self.ask(Kind::Get, (0, 0), bindings).await?;
        well(answer)
    }

    /// What follows `from`.
    pub(super) async fn next(&mut self, from: Oid) -> Result<Vec<Binding>, Failure> {
        let answer = self.ask(Kind::GetBulk, (0, STEP_LEN), vec![(from, Value::Null)]).await?;
        well(answer)
    }

    /// What a write that cannot be carried out is refused with.
    pub(super) async fn refusal(&mut self, impossible: Vec<Binding>) -> Result<i64, Failure> {
        Ok(self.ask(Kind::Set, (0, 0), impossible).await?.status)
    }

    async fn ask(
        &mut self,
        kind: Kind,
        (status, index): (i64, i64),
        bindings: Vec<Binding>,
    ) -> Result<Pdu, Failure> {
        let pdu = Pdu { kind, request: number()?, status, index, bindings };
        // Once more with the engine's own time, if it says that ours is wrong.
        for _ in 0..2 {
            let (id, sealed) = self.seal(&pdu)?;
            let request = pdu.request;
            match self.repeatedly(&sealed, |session, bytes| session.heard(bytes, id, request)).await? {
                Heard::Answer(answer) => return Ok(answer),
                Heard::Resync(engine) => self.resync(engine),
                Heard::Refused(failure) => return Err(failure),
            }
        }
        Err(garbage("the switch says a second time that its clock is another one than it has just told"))
    }

    /// Sends one copy of an order if the warrant still holds (SAFE-2), and waits for its answer for `wait`; `None`: there was none.
    pub(super) async fn send_order(
        &mut self,
        order: &Order,
        warrant: &Warrant,
        sent: &mut Option<Sent>,
        wait: Duration,
    ) -> Result<Option<i64>, Failure> {
        if !warrant.holds() {
            // SAFE-2
            return Err(Failure::Cancelled);
        }
        let copies = sent.map_or(0, |sent| sent.copies).saturating_add(1);
        // Before it leaves: whoever drops this future leaves the order in doubt.
        *sent = Some(Sent { admin: order.admin, copies, last: Instant::now() });
        self.socket.send(&order.sealed).await.map_err(|error| unreachable(&error))?;
        let answer = self.receive(Instant::now() + wait, |session, bytes| {
            session.heard(bytes, order.message_id, order.request)
        });
        match answer.await? {
            None => Ok(None),
            Some(Heard::Answer(answer)) => Ok(Some(answer.status)),
            // Its clock was reset under way: it took no order (RFC 3414 section 3.2.7). So says whoever has the keys.
            Some(Heard::Resync(_)) if copies == 1 => {
                Err(Failure::Refused { code: "the switch has booted in between".to_owned() })
            }
            // What nobody has signed is no word that nothing was done.
            Some(Heard::Resync(_) | Heard::Refused(_)) => Err(Failure::Garbage {
                detail: "SNMP: a report instead of an answer; it may have been done all the same".to_owned(),
            }),
        }
    }

    /// An order, sealed once for all of its copies.
    pub(super) fn order(&self, admin: i64, bindings: Vec<Binding>) -> Result<Order, Failure> {
        let pdu = Pdu { kind: Kind::Set, request: number()?, status: 0, index: 0, bindings };
        let (message_id, sealed) = self.seal(&pdu)?;
        Ok(Order { admin, request: pdu.request, message_id, sealed })
    }

    fn seal(&self, pdu: &Pdu) -> Result<(i64, Vec<u8>), Failure> {
        let id = number()?;
        let sealed = match (&self.user, self.login) {
            (Some(user), _) => {
                let passed = u32::try_from(user.heard.elapsed().as_secs()).unwrap_or(u32::MAX);
                let engine = Engine { time: user.engine.time.saturating_add(passed), ..user.engine.clone() };
                usm::seal(user.name, user.keys, &engine, random()?, id, pdu)
            }
            (None, Login::Community(community)) => message::in_community(community.expose(), pdu),
            // Discovery goes before; without it there is no session.
            (None, Login::User { .. }) => Vec::new(),
        };
        Ok((id, sealed))
    }

    fn resync(&mut self, engine: Engine) {
        if let Some(user) = &mut self.user {
            user.engine = engine;
            user.heard = Instant::now();
        }
    }

    /// What a datagram says to the question with these numbers; `None`: it is not about it.
    fn heard(&self, bytes: &[u8], id: i64, request: i64) -> Result<Option<Heard>, Wrong> {
        let answer = match (&self.user, self.login) {
            (None, Login::Community(community)) => message::of_community(community.expose(), bytes)?,
            (Some(User { name, keys, engine, .. }), _) => {
                match usm::open(bytes, Some((name, keys, &engine.id)))? {
                    Opened::Answer { message_id, .. } | Opened::Report { message_id, .. }
                        if message_id != id =>
                    {
                        return Ok(None);
                    }
                    Opened::Answer { pdu, .. } => pdu,
                    Opened::Report { what, engine, signed, .. } => {
                        return Ok(Some(reported(what, engine, signed)));
                    }
                }
            }
            (None, Login::User { .. }) => return Ok(None),
        };
        Ok((answer.request == request).then_some(Heard::Answer(answer)))
    }

    /// Asks until `hear` makes something of an answer. The caller's deadline ends it.
    async fn repeatedly<T>(
        &mut self,
        question: &[u8],
        hear: impl Fn(&Self, &[u8]) -> Result<Option<T>, Wrong>,
    ) -> Result<T, Failure> {
        let mut wait = FIRST_WAIT;
        for _ in 0..COPIES_MAX {
            self.socket.send(question).await.map_err(|error| unreachable(&error))?;
            if let Some(heard) = self.receive(Instant::now() + wait, &hear).await? {
                return Ok(heard);
            }
            wait *= 2;
        }
        // Past the last copy nothing is left but to wait for a late answer.
        loop {
            if let Some(heard) = self.receive(Instant::now() + wait, &hear).await? {
                return Ok(heard);
            }
        }
    }

    /// The first datagram of which `hear` makes something; `None` once it is `until`.
    async fn receive<T>(
        &mut self,
        until: Instant,
        hear: impl Fn(&Self, &[u8]) -> Result<Option<T>, Wrong>,
    ) -> Result<Option<T>, Failure> {
        loop {
            let received = time::timeout_at(until, self.socket.recv(&mut self.buffer)).await;
            let Ok(received) = received else { return Ok(None) };
            let len = received.map_err(|error| unreachable(&error))?;
            match hear(self, self.buffer.get(..len).unwrap_or_default()) {
                Ok(Some(heard)) => return Ok(Some(heard)),
                // Late and doubled datagrams are how UDP is.
                Ok(None) => {}
                Err(wrong) => self.trouble.0 = Some(wrong),
            }
        }
    }
}

/// A write, with the numbers of its answer.
pub(super) struct Order {
    pub(super) admin: i64,
    request: i64,
    message_id: i64,
    sealed: Vec<u8>,
}

enum Heard {
    Answer(Pdu),
    /// The engine says, signed, what its time is.
    Resync(Engine),
    Refused(Failure),
}

/// What a report means.
fn reported(what: Report, engine: Engine, signed: bool) -> Heard {
    let refused = |at: &str| Heard::Refused(Failure::LoginRefused { at: at.to_owned() });
    let odd = |words: &str| Heard::Refused(garbage(words));
    match what {
        Report::NotInTimeWindow if signed => Heard::Resync(engine),
        // No word of the password: a switch that boots may say either of these two, and the next command finds its clock anew.
        Report::NotInTimeWindow => odd("the switch says that its clock is another one, and does not sign it"),
        Report::UnknownEngine => odd("the switch's engine has another name than it has just told"),
        Report::UnknownUser => refused("the user's name"),
        Report::WrongDigest => refused("authentication (auth_protocol, auth_password)"),
        Report::DecryptionError => refused("privacy (priv_protocol, priv_password)"),
        Report::UnsupportedSecurityLevel => {
            refused("the security level: the user has no authentication with privacy")
        }
        Report::Other => odd("a report of something else"),
    }
}

/// An answer without an error.
fn well(answer: Pdu) -> Result<Vec<Binding>, Failure> {
    match answer.status {
        0 => Ok(answer.bindings),
        status if message::says_no_right(status) => {
            let detail = format!("the login may not read the port: {}", message::error_name(status));
            Err(Failure::PrivilegeTooLow { detail })
        }
        status => Err(Failure::Refused { code: format!("a reading: {}", message::error_name(status)) }),
    }
}

/// A number that nobody guesses and no answer to an earlier question carries. RFC 3416 has 31 bits for it.
fn number() -> Result<i64, Failure> {
    Ok(i64::from(u32::from_be_bytes(random()?) >> 1))
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| Failure::Refused { code: "this host gives no random numbers".to_owned() })?;
    Ok(bytes)
}

fn garbage(words: &str) -> Failure {
    Failure::Garbage { detail: format!("SNMP: {words}") }
}

fn unreachable(error: &std::io::Error) -> Failure {
    Failure::Unreachable { error: clean(&format!("SNMP: {error}")) }
}
