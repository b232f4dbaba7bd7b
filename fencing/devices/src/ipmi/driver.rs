//! The device: commands over one warm session with the BMC that the configuration names.
//!
//! The session is opened when first needed, stays open, and is opened anew within the same command when the BMC has lost it.
//! It is used only after its BMC has been asked for its GUID **in this session** and has given the configured one (SAFE-4);
//! otherwise nothing is read and nothing ordered.
//!
//! An order whose fate is not certain (no acknowledgement, or more copies than one) stays on the books. The opposite
//! order waits until it is settled: the session that carried it is closed, and the BMC has said so, behind every copy in its queue; or,
//! if that session is lost, a new one answers after [`QUIET`]. Without this, a late "off" would undo an "on", and a late
//! "on" would undo a proof.

use std::time::Duration;

use ipmi_rs_core::connection::{IpmiCommand, Message};
use palisade_ladder::{Command, Failure, Identity, Proven, Reading, Response};
use tokio::time::{self, Instant};

use super::login::{self, privilege_too_low};
use super::message::{
    Answer, ChassisControl, CodeName, GetChassisStatus, GetSystemGuid, SetSessionPrivilege,
};
use super::session::{Copies, Lost, NotOrdered, ORDER_COPIES_MAX, Session};
use super::trouble::Trouble;
use super::{IpmiConfig, Privilege};
use crate::{Device, Warrant};

/// Longer than any datagram lives on a management network.
const QUIET: Duration = Duration::from_secs(2);
/// How often a BMC that says it is busy is ordered again, and after which pause.
const BUSY_MAX: u32 = 3;
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// Completion codes, IPMI 2.0 section 5.2, table 5-2 (and 22.18 for the two of Set Session Privilege Level).
const OK: u8 = 0x00;
const PRIVILEGE_NOT_FOR_USER: u8 = 0x80;
const PRIVILEGE_OVER_LIMIT: u8 = 0x81;
const NODE_BUSY: u8 = 0xc0;
const INVALID_COMMAND: u8 = 0xc1;
const DUPLICATE_REQUEST: u8 = 0xcf;
const INSUFFICIENT_PRIVILEGE: u8 = 0xd4;
const NOT_IN_PRESENT_STATE: u8 = 0xd5;
const UNSPECIFIED: u8 = 0xff;

/// An IPMI BMC.
pub struct Ipmi {
    config: IpmiConfig,
    /// Present only once its BMC has shown the configured GUID and granted the privilege.
    session: Option<Session>,
    unsettled: Option<Unsettled>,
    trouble: Trouble,
}

/// A power order of which a copy may still take effect.
struct Unsettled {
    control: ChassisControl,
    copies: Copies,
    /// A session that carried a copy was lost without the BMC's word that it is closed.
    session_lost: bool,
}

impl Device for Ipmi {
    async fn run(&mut self, command: Command, warrant: Warrant) -> Result<Response, Failure> {
        let started = Instant::now();
        self.trouble = Trouble::default();
        match time::timeout_at(warrant.deadline, self.carry_out(command, &warrant)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.trouble.at_deadline(started.elapsed())),
        }
    }

    async fn close(&mut self, deadline: Instant) {
        if let Some(session) = self.session.take() {
            // Best effort: a BMC forgets an idle session by itself.
            let _ = time::timeout_at(deadline, session.close(&mut self.trouble)).await;
        }
    }
}

impl Ipmi {
    /// A BMC that nothing has been said to yet.
    #[must_use]
    pub fn new(config: IpmiConfig) -> Self {
        Self { config, session: None, unsettled: None, trouble: Trouble::default() }
    }

    async fn carry_out(&mut self, command: Command, warrant: &Warrant) -> Result<Response, Failure> {
        match command {
            Command::Off => self.order(ChassisControl::PowerDown, warrant).await,
            Command::On => self.order(ChassisControl::PowerUp, warrant).await,
            Command::Read => Ok(Response::Reads(self.read_power().await?)),
            Command::Prove => Ok(Response::Proven(self.prove().await?)),
        }
    }

    /// Logs in if need be; in a session that was there already, asks for identity and privilege again.
    async fn prove(&mut self) -> Result<Proven, Failure> {
        if self.session.is_some() {
            self.check_identity().await?;
            self.raise_privilege().await?;
        }
        let power = self.read_power().await?;
        // The BMC granted the level asked for, and no configurable level is below operator.
        let may_fence = self.config.privilege >= Privilege::Operator;
        Ok(Proven { identity: self.config.guid.clone(), may_fence, reads: power })
    }

    async fn read_power(&mut self) -> Result<Reading, Failure> {
        let answer = self.ask(|_| GetChassisStatus.into()).await?;
        match answer.completion {
            OK => GetChassisStatus::parse_success_response(&answer.data)
                .map_err(|_| Failure::Garbage { detail: "chassis status too short".into() }),
            // The BMC is there and cannot say: busy, or its reading is not to be had now.
            NODE_BUSY | 0xce | 0xd0..=0xd2 | NOT_IN_PRESENT_STATE => Ok(Reading::Unknown),
            other => Err(self.refused("Get Chassis Status", other)),
        }
    }

    async fn order(&mut self, control: ChassisControl, warrant: &Warrant) -> Result<Response, Failure> {
        if !warrant.holds() {
            // SAFE-2: not even a login for an order that may not be given any more.
            return Err(Failure::Cancelled);
        }
        // An order that ended before its first copy left nothing behind.
        self.unsettled.take_if(|unsettled| unsettled.copies.out == 0);
        if self.unsettled.as_ref().is_some_and(|unsettled| unsettled.control != control) {
            self.settle().await?;
        }
        let mut busy = 0;
        if let Some(unsettled) = &mut self.unsettled {
            unsettled.copies.left = ORDER_COPIES_MAX;
        }
        let answer = loop {
            self.admit().await?;
            let Some(session) = &mut self.session else { continue };
            let copies = Copies { out: 0, last_sent: Instant::now(), left: ORDER_COPIES_MAX };
            let unsettled = self.unsettled.get_or_insert(Unsettled { control, copies, session_lost: false });
            match session.order(control, warrant, &mut unsettled.copies, &mut self.trouble).await {
                Ok(answer) if answer.completion == NODE_BUSY && busy < BUSY_MAX => {
                    busy += 1;
                    // This copy was refused: it cannot have an effect any more.
                    unsettled.copies.out = unsettled.copies.out.saturating_sub(1);
                    unsettled.copies.left = unsettled.copies.left.max(1);
                    time::sleep(BUSY_PAUSE).await;
                }
                Ok(answer) => break answer,
                Err(NotOrdered::Lost(lost)) => self.lose_session(&lost),
                // What went out before stays on the books.
                Err(NotOrdered::Withheld) => return Err(Failure::Cancelled),
            }
        };
        if self.unsettled.as_ref().is_some_and(|unsettled| unsettled.copies.out <= 1) {
            self.unsettled = None;
        }
        self.order_answered(control, answer.completion).await
    }

    async fn order_answered(&mut self, control: ChassisControl, completion: u8) -> Result<Response, Failure> {
        match completion {
            OK => Ok(Response::Acknowledged),
            // The BMC has taken a copy of this very order before; its acknowledgement was lost.
            DUPLICATE_REQUEST => Ok(Response::Acknowledged),
            // BMCs refuse an "off" of a host that is off with D5h, and some with a code of their own. Whether that was the
            // reason, only the BMC's reading can say.
            NOT_IN_PRESENT_STATE | UNSPECIFIED | 0x80..=0xbe => {
                let wanted = match control {
                    ChassisControl::PowerDown => Reading::Off,
                    ChassisControl::PowerUp => Reading::On,
                };
                match self.read_power().await? {
                    power if power == wanted => Ok(Response::AlreadySo),
                    Reading::On | Reading::Off | Reading::Unknown => {
                        Err(self.refused("Chassis Control", completion))
                    }
                }
            }
            other => Err(self.refused("Chassis Control", other)),
        }
    }

    /// Waits until no copy of an earlier order can take effect any more (see the module's header).
    async fn settle(&mut self) -> Result<(), Failure> {
        let Some(unsettled) = &mut self.unsettled else { return Ok(()) };
        let all_in_this_session = !unsettled.session_lost;
        // Said first: if this future is dropped below, the session is gone without the BMC's word.
        unsettled.session_lost = true;
        if let Some(session) = self.session.take()
            && session.close(&mut self.trouble).await.is_ok()
            && all_in_this_session
        {
            self.unsettled = None;
            return Ok(());
        }
        let quiet = self.unsettled.as_ref().map(|unsettled| unsettled.copies.last_sent + QUIET);
        if let Some(quiet) = quiet {
            time::sleep_until(quiet).await;
        }
        self.session = None;
        self.read_power().await?;
        self.unsettled = None;
        Ok(())
    }

    /// Asks in an admitted session, in a new one if the old one is lost meanwhile.
    async fn ask(&mut self, question: impl Fn(&Session) -> Message) -> Result<Answer, Failure> {
        loop {
            self.admit().await?;
            let Some(session) = &mut self.session else { continue };
            let question = question(session);
            match session.ask(question, &mut self.trouble).await {
                Ok(answer) => return Ok(answer),
                Err(lost) => self.lose_session(&lost),
            }
        }
    }

    /// Leaves an admitted session: logged in, identity shown, privilege granted.
    async fn admit(&mut self) -> Result<(), Failure> {
        while self.session.is_none() {
            let mut session = login::login(&self.config, &mut self.trouble).await?;
            let identity = identity(&mut session, &self.config, &mut self.trouble).await;
            let privilege = match identity {
                Ok(()) => privilege(&mut session, &self.config, &mut self.trouble).await,
                Err(not) => Err(not),
            };
            match privilege {
                Ok(()) => self.session = Some(session),
                Err(NotAdmitted::Lost(lost)) => self.note(&lost),
                Err(NotAdmitted::Failed(failure)) => return Err(failure),
            }
        }
        Ok(())
    }

    async fn check_identity(&mut self) -> Result<(), Failure> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let outcome = identity(session, &self.config, &mut self.trouble).await;
        self.still_admitted(outcome)
    }

    async fn raise_privilege(&mut self) -> Result<(), Failure> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let outcome = privilege(session, &self.config, &mut self.trouble).await;
        self.still_admitted(outcome)
    }

    fn still_admitted(&mut self, outcome: Result<(), NotAdmitted>) -> Result<(), Failure> {
        match outcome {
            Ok(()) => Ok(()),
            // The next question logs in, and asks both again.
            Err(NotAdmitted::Lost(lost)) => {
                self.lose_session(&lost);
                Ok(())
            }
            Err(NotAdmitted::Failed(failure)) => {
                self.lose_session(&Lost::Gone);
                Err(failure)
            }
        }
    }

    fn lose_session(&mut self, lost: &Lost) {
        self.note(lost);
        self.session = None;
        if let Some(unsettled) = &mut self.unsettled {
            unsettled.session_lost = true;
        }
    }

    fn note(&mut self, lost: &Lost) {
        match lost {
            Lost::Gone => tracing::debug!(bmc = %self.config.address, "session lost, logging in again"),
            Lost::Unreachable(error) => self.trouble.unreachable(error),
        }
    }

    fn refused(&self, command: &str, completion: u8) -> Failure {
        let code = format!("{command}: {}", CodeName(completion));
        match completion {
            INSUFFICIENT_PRIVILEGE => privilege_too_low(self.config.privilege, &code),
            _ => Failure::Refused { code },
        }
    }
}

enum NotAdmitted {
    Lost(Lost),
    Failed(Failure),
}

impl From<Lost> for NotAdmitted {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

/// SAFE-4: the BMC of this session is the one bound to the host; a blank GUID is nobody's.
async fn identity(
    session: &mut Session,
    config: &IpmiConfig,
    trouble: &mut Trouble,
) -> Result<(), NotAdmitted> {
    let answer = session.ask(GetSystemGuid.into(), trouble).await?;
    let guid = match answer.completion {
        OK => GetSystemGuid::parse_success_response(&answer.data).map_err(|_| {
            NotAdmitted::Failed(Failure::Garbage { detail: "system GUID is not 16 bytes".into() })
        })?,
        // The login carried the same GUID (section 13.21), under the BMC's proof of the password.
        INVALID_COMMAND | INSUFFICIENT_PRIVILEGE => session.login_guid,
        other => {
            let code = format!("Get System GUID: {}", CodeName(other));
            return Err(NotAdmitted::Failed(Failure::Refused { code }));
        }
    };
    let found = Identity(guid.iter().map(|byte| format!("{byte:02x}")).collect());
    if found.is_blank() || found != config.guid {
        let expected = config.guid.clone();
        return Err(NotAdmitted::Failed(Failure::WrongIdentity { expected, found }));
    }
    Ok(())
}

async fn privilege(
    session: &mut Session,
    config: &IpmiConfig,
    trouble: &mut Trouble,
) -> Result<(), NotAdmitted> {
    let level = config.privilege.code();
    let answer = session.ask(SetSessionPrivilege(level).into(), trouble).await?;
    let said = match answer.completion {
        OK => match SetSessionPrivilege::parse_success_response(&answer.data) {
            Ok(granted) if granted >= level => return Ok(()),
            Ok(granted) => format!("Set Session Privilege Level granted level {granted}"),
            Err(_) => "Set Session Privilege Level answered no level".to_owned(),
        },
        PRIVILEGE_NOT_FOR_USER | PRIVILEGE_OVER_LIMIT | INSUFFICIENT_PRIVILEGE => {
            format!("Set Session Privilege Level: {}", CodeName(answer.completion))
        }
        other => {
            let code = format!("Set Session Privilege Level: {}", CodeName(other));
            return Err(NotAdmitted::Failed(Failure::Refused { code }));
        }
    };
    Err(NotAdmitted::Failed(privilege_too_low(config.privilege, &said)))
}
