//! One authenticated session with a BMC: asks, orders, matches answers.
//!
//! An answer counts only if it is authentic, newer than the last one taken, and carries the network function, command and
//! request number of what was asked; everything else is passed over. A request is repeated under a **new** session
//! sequence number (the BMC drops an old one as a replay) and the **same** request number (by which a BMC may know it again).
//!
//! A question may be repeated freely. A power order may not: a BMC that is busy executes every copy in its queue, one after the
//! other, and a late copy of an "off" can undo a later "on". So an order that goes unacknowledged is not repeated; a
//! question follows it instead. Only when that later question is answered is the order taken for lost, and sent again.
//!
//! Every future here may be dropped at any await: numbers are taken before they are used and never used twice.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ipmi_rs_core::connection::Message;
use tokio::net::UdpSocket;
use tokio::time::{self, Instant};

use super::crypto::SessionKeys;
use super::knock::Knock;
use super::message::{self, Answer, ChassisControl, CloseSession, GetChassisStatus, REQUEST_SEQUENCES};
use super::rakp;
use super::rmcp::{self, DATAGRAM_LEN_MAX, Ignored};
use super::trouble::Trouble;
use crate::Warrant;

/// How long a request may stay unanswered before it is repeated (or, an order, asked after); doubles.
const WAIT_FIRST: Duration = Duration::from_millis(200);
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Copies of one question. A BMC that has not answered so many is stuck, and each copy lengthens its queue.
const QUESTION_COPIES_MAX: u32 = 6;
/// Copies of one order, over all sessions of one command. Each but the first follows an answer that shows the one before
/// as lost, so only a BMC that answers everything but orders gets so many.
pub(super) const ORDER_COPIES_MAX: u32 = 8;
/// A BMC ends a session that has been idle for 60 s (IPMI 2.0 section 6.12.15); past this it may be gone.
const IDLE_MAX: Duration = Duration::from_secs(50);
/// Request numbers that late answers may hold before the session is given up. Such a number is not used again in this
/// session, so a late answer can never be taken for another request's.
const OPEN_NUMBERS_MAX: u32 = 16;

/// The session is of no use any more; log in again.
#[derive(Debug)]
pub(super) enum Lost {
    /// The BMC is there and does not know the session, or its numbers are used up.
    Gone,
    Unreachable(io::Error),
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        Self::Unreachable(error)
    }
}

/// An order has no answer.
#[derive(Debug)]
pub(super) enum NotOrdered {
    Lost(Lost),
    /// The order may not be given any more, and the copy that was due has not been sent.
    Withheld,
}

impl From<Lost> for NotOrdered {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

impl From<io::Error> for NotOrdered {
    fn from(error: io::Error) -> Self {
        Self::Lost(error.into())
    }
}

/// A power order on its way: how many copies, and when the last.
#[derive(Debug)]
pub(super) struct Copies {
    /// Sent and not known to be dead.
    pub(super) out: u32,
    pub(super) last_sent: Instant,
    /// How many this command may still send.
    pub(super) left: u32,
}

pub(super) struct Session {
    socket: UdpSocket,
    address: SocketAddr,
    keys: SessionKeys,
    console_session: u32,
    bmc_session: u32,
    next_sequence: u32,
    last_taken: Option<u32>,
    next_request: u8,
    /// One bit for each request number that an answer may still come for: never answered, or sent more than once.
    open_numbers: u64,
    /// The last request went unanswered for a while: knock with the next one at once.
    suspect: bool,
    last_heard: Instant,
    /// Whether nobody needs to tell the BMC that we are leaving.
    closed: bool,
    /// The GUID in RAKP message 2.
    pub(super) login_guid: [u8; 16],
}

impl Session {
    pub(super) fn new(
        socket: UdpSocket,
        address: SocketAddr,
        keys: SessionKeys,
        console_session: u32,
        bmc_session: u32,
        login_guid: [u8; 16],
    ) -> Self {
        Self {
            socket,
            address,
            keys,
            console_session,
            bmc_session,
            next_sequence: 1,
            last_taken: None,
            next_request: 0,
            open_numbers: 0,
            suspect: false,
            last_heard: Instant::now(),
            closed: false,
            login_guid,
        }
    }

    /// Asks something harmless, as often as it takes.
    pub(super) async fn ask(&mut self, question: Message, trouble: &mut Trouble) -> Result<Answer, Lost> {
        let request = self.take_request()?;
        let mut knock = None;
        let mut wait = WAIT_FIRST;
        let mut copies = 0;
        loop {
            if copies < QUESTION_COPIES_MAX {
                self.send(&question, request).await?;
                copies += 1;
            }
            if copies > 1 || self.suspect {
                self.suspect = true;
                self.knock(&mut knock).await?;
            }
            let until = Instant::now() + wait;
            while let Some(answer) = self.hear(knock.as_ref(), until, trouble).await? {
                if answer.answers(&question, request) {
                    self.settled(request, copies);
                    return Ok(answer);
                }
            }
            wait = (wait * 2).min(WAIT_MAX);
        }
    }

    /// Sends a power order. See the module's header for when it sends a second copy.
    pub(super) async fn order(
        &mut self,
        control: ChassisControl,
        warrant: &Warrant,
        copies: &mut Copies,
        trouble: &mut Trouble,
    ) -> Result<Answer, NotOrdered> {
        let order = Message::from(control);
        let request = self.take_request()?;
        let out_before = copies.out;
        self.send_copy(&order, request, warrant, copies).await?;
        let question = Message::from(GetChassisStatus);
        let mut asked = None;
        let mut knock = None;
        let mut wait = WAIT_FIRST;
        loop {
            if self.suspect {
                self.knock(&mut knock).await?;
            }
            let until = Instant::now() + wait;
            let mut lost = false;
            while let Some(answer) = self.hear(knock.as_ref(), until, trouble).await? {
                if answer.answers(&order, request) {
                    self.settled(request, copies.out.saturating_sub(out_before));
                    return Ok(answer);
                }
                if asked.is_some_and(|asked| answer.answers(&question, asked)) {
                    lost = true;
                    break;
                }
            }
            if lost {
                // The later question was answered, so the BMC has nothing of the order in its queue before it: the order,
                // or its answer, was lost on the way.
                asked = None;
                knock = None;
                self.suspect = false;
                self.send_copy(&order, request, warrant, copies).await?;
                wait = WAIT_FIRST;
                continue;
            }
            self.suspect = true;
            let number = match asked {
                Some(number) => number,
                None => self.take_request()?,
            };
            asked = Some(number);
            self.send(&question, number).await?;
            wait = (wait * 2).min(WAIT_MAX);
        }
    }

    /// Closes the session and waits until the BMC has said so: nothing sent before can have an effect after that.
    pub(super) async fn close(mut self, trouble: &mut Trouble) -> Result<Answer, Lost> {
        let answer = self.ask(CloseSession(self.bmc_session).into(), trouble).await?;
        self.closed = true;
        Ok(answer)
    }

    async fn send_copy(
        &mut self,
        order: &Message,
        request: u8,
        warrant: &Warrant,
        copies: &mut Copies,
    ) -> Result<(), NotOrdered> {
        if copies.left == 0 {
            return Ok(());
        }
        let datagram = self.sealed(order, request).ok_or(Lost::Gone)?;
        loop {
            // SAFE-2: looked at for each copy, with nothing that waits between this and the send.
            if !warrant.holds() {
                return Err(NotOrdered::Withheld);
            }
            let sent = self.socket.try_send(&datagram);
            if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                self.socket.writable().await?;
                continue;
            }
            // Counted even if the system reports an error: one copy too many is counted, never one too few.
            copies.left -= 1;
            copies.out = copies.out.saturating_add(1);
            copies.last_sent = Instant::now();
            sent?;
            return Ok(());
        }
    }

    async fn send(&mut self, message: &Message, request: u8) -> Result<(), Lost> {
        let datagram = self.sealed(message, request).ok_or(Lost::Gone)?;
        self.socket.send(&datagram).await?;
        Ok(())
    }

    /// The datagram of the next session sequence number; none once they are used up.
    fn sealed(&mut self, message: &Message, request: u8) -> Option<Vec<u8>> {
        let sequence = self.next_sequence;
        self.next_sequence = sequence.checked_add(1)?;
        let iv = rakp::random().ok()?;
        let bytes = message::encode(message, request);
        Some(rmcp::seal(&self.keys, self.bmc_session, sequence, *iv, &bytes))
    }

    async fn knock(&self, knock: &mut Option<Knock>) -> Result<(), Lost> {
        let knock = match knock {
            Some(knock) => knock,
            None => knock.insert(Knock::new(self.address).await?),
        };
        Ok(knock.send().await?)
    }

    /// The next answer of this session; `None` at `until`.
    async fn hear(
        &mut self,
        knock: Option<&Knock>,
        until: Instant,
        trouble: &mut Trouble,
    ) -> Result<Option<Answer>, Lost> {
        let knocked = async {
            match knock {
                Some(knock) => knock.answered().await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(knocked);
        let mut buffer = [0; DATAGRAM_LEN_MAX + 1];
        loop {
            let received = tokio::select! {
                // In this order: a BMC that takes datagrams one by one has answered the session's first.
                biased;
                received = self.socket.recv(&mut buffer) => received?,
                () = &mut knocked => return Err(Lost::Gone),
                () = time::sleep_until(until) => return Ok(None),
            };
            match self.take(buffer.get(..received).unwrap_or_default()) {
                Ok(answer) => return Ok(Some(answer)),
                Err(ignored) => trouble.passed_over(ignored),
            }
        }
    }

    /// SAFE-4: a reading counts only if this BMC made it for this session and after everything taken before.
    fn take(&mut self, datagram: &[u8]) -> Result<Answer, Ignored> {
        let (sequence, bytes) = rmcp::open(&self.keys, self.console_session, datagram)?;
        if self.last_taken.is_some_and(|last| sequence <= last) {
            return Err(Ignored::Replayed);
        }
        self.last_taken = Some(sequence);
        self.last_heard = Instant::now();
        let answer = message::decode(&bytes)?;
        Ok(answer)
    }

    /// A request number that no late answer can carry.
    fn take_request(&mut self) -> Result<u8, Lost> {
        if self.open_numbers.count_ones() >= OPEN_NUMBERS_MAX {
            return Err(Lost::Gone);
        }
        self.suspect |= self.last_heard.elapsed() >= IDLE_MAX;
        for _ in 0..REQUEST_SEQUENCES {
            let request = self.next_request;
            self.next_request = (request + 1) % REQUEST_SEQUENCES;
            if self.open_numbers & bit(request) == 0 {
                self.open_numbers |= bit(request);
                return Ok(request);
            }
        }
        Err(Lost::Gone)
    }

    /// `request` has its answer; of more copies than one, another answer may follow.
    fn settled(&mut self, request: u8, copies: u32) {
        self.suspect = false;
        if copies <= 1 {
            self.open_numbers &= !bit(request);
        }
    }
}

const fn bit(request: u8) -> u64 {
    1 << (request % REQUEST_SEQUENCES)
}

impl Drop for Session {
    /// Best effort, one datagram: BMCs have few session slots, and keep a forgotten one for a minute.
    fn drop(&mut self) {
        if !self.closed
            && let Some(datagram) = self.sealed(&CloseSession(self.bmc_session).into(), self.next_request)
        {
            let _ = self.socket.try_send(&datagram);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::crypto::Suite;
    use super::super::knock::connected;
    use super::*;

    const CONSOLE: u32 = 0x0102_0304;

    fn keys() -> SessionKeys {
        SessionKeys::derive(Suite::Seventeen, b"session integrity key")
    }

    async fn session() -> Session {
        let socket = connected(([127, 0, 0, 1], 9).into()).await.unwrap();
        Session::new(socket, ([127, 0, 0, 1], 9).into(), keys(), CONSOLE, 7, [0; 16])
    }

    /// A reading as a BMC seals it.
    fn reading(sequence: u32, request: u8, state: u8) -> Vec<u8> {
        let mut bytes = vec![0x81, 0x04, 0x7b, 0x20, request << 2, 0x01, 0x00, state, 0x00, 0x00];
        let sum = bytes[3..].iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        bytes.push(sum.wrapping_neg());
        rmcp::seal(&keys(), CONSOLE, sequence, [9; 16], &bytes)
    }

    #[tokio::test]
    async fn safe_7_an_answer_is_taken_once_and_never_after_a_newer_one() {
        let mut session = session().await;
        assert!(session.take(&reading(5, 1, 0)).is_ok(), "the first may have any number");
        assert_eq!(session.take(&reading(5, 1, 0)), Err(Ignored::Replayed));
        assert_eq!(session.take(&reading(4, 1, 0)), Err(Ignored::Replayed));
        assert!(session.take(&reading(6, 2, 1)).is_ok());
        assert!(session.take(&reading(u32::MAX, 2, 1)).is_ok());
        assert_eq!(session.take(&reading(0, 3, 0)), Err(Ignored::Replayed), "no wrapping round");
    }

    #[tokio::test]
    async fn a_number_that_a_late_answer_may_carry_is_not_used_again() {
        let mut session = session().await;
        let open: BTreeSet<u8> = (0..OPEN_NUMBERS_MAX - 1).map(|_| session.take_request().unwrap()).collect();
        assert_eq!(open.len(), OPEN_NUMBERS_MAX as usize - 1);
        for _ in 0..200 {
            let request = session.take_request().unwrap();
            assert!(!open.contains(&request), "{request}");
            session.settled(request, 1);
        }
        let request = session.take_request().unwrap();
        session.settled(request, 2); // a second answer may follow
        assert!(matches!(session.take_request(), Err(Lost::Gone)), "too many are open: log in again");
    }

    #[tokio::test]
    async fn safe_2_no_copy_is_sent_past_the_deadline_and_none_is_counted() {
        let bmc = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        bmc.set_nonblocking(true).unwrap();
        let address = bmc.local_addr().unwrap();
        let socket = connected(address).await.unwrap();
        let mut session = Session::new(socket, address, keys(), CONSOLE, 7, [0; 16]);
        let order = Message::from(ChassisControl::PowerDown);
        let mut copies = Copies { out: 0, last_sent: Instant::now(), left: ORDER_COPIES_MAX };
        let over = Warrant::from(Instant::now());
        let sent = session.send_copy(&order, 0, &over, &mut copies).await;
        assert!(matches!(sent, Err(NotOrdered::Withheld)), "{sent:?}");
        let mut buffer = [0; DATAGRAM_LEN_MAX];
        assert_eq!(bmc.recv(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!((copies.out, copies.left), (0, ORDER_COPIES_MAX));
        let lasting = Warrant::from(Instant::now() + Duration::from_secs(60));
        session.send_copy(&order, 0, &lasting, &mut copies).await.unwrap();
        assert!(bmc.recv(&mut buffer).is_ok(), "loopback delivers within the send");
        assert_eq!((copies.out, copies.left), (1, ORDER_COPIES_MAX - 1));
    }

    #[tokio::test]
    async fn every_copy_has_a_session_sequence_of_its_own() {
        let mut session = session().await;
        let question = Message::from(GetChassisStatus);
        for expected in 1..=3 {
            let datagram = session.sealed(&question, 0).unwrap();
            assert_eq!(rmcp::open(&keys(), 7, &datagram).unwrap().0, expected);
        }
        session.next_sequence = u32::MAX;
        assert!(session.sealed(&question, 0).is_none(), "never round again");
    }
}
