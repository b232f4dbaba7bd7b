//! Logs in to a BMC over UDP: Open Session and RAKP (IPMI 2.0 section 13.15).
//!
//! A step that goes unanswered restarts the whole exchange with new randomness, new session ids and a new socket: a BMC may
//! have taken the step and lost its answer, and then takes no second one. Ends only with a session or with a refusal;
//! the deadline is the caller's.

use std::io;
use std::time::Duration;

use palisade_ladder::Failure;
use tokio::net::UdpSocket;
use tokio::time::{self, Instant};

use super::knock::connected;
use super::rakp::{self, Denied, Login, Step, status_name};
use super::rmcp::{self, DATAGRAM_LEN_MAX, Payload};
use super::session::Session;
use super::trouble::Trouble;
use super::{IpmiConfig, Privilege};

/// How long one step may stay unanswered. Doubles at every third exchange: small BMCs compute slowly, lossy networks
/// want another try soon.
const STEP_WAIT_FIRST: Duration = Duration::from_millis(200);
const STEP_WAIT_MAX: Duration = Duration::from_millis(1600);
const EXCHANGES_PER_WAIT: u32 = 3;
/// How long a better answer may follow a denial.
const DENIAL_WAIT: Duration = Duration::from_millis(200);
/// Exchanges that fail by a wrong proof before it counts as a refusal. More than one, since a damaged or forged datagram
/// fails so; not many, since BMCs lock accounts.
const WRONG_PROOFS_MAX: u32 = 2;
/// Exchanges that end with "unreachable" or "no room for a session" before they count. A BMC that restarts says both for a while.
const SETBACKS_MAX: u32 = 3;
/// Between such exchanges; doubles.
const SETBACK_PAUSE_FIRST: Duration = Duration::from_millis(100);

/// Where an exchange stands; in the words of section 13.15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    OpenSession,
    Message2,
    Message4,
}

impl At {
    const fn name(self) -> &'static str {
        match self {
            Self::OpenSession => "Open Session",
            Self::Message2 => "RAKP message 2",
            Self::Message4 => "RAKP message 4",
        }
    }
}

/// How one exchange ended without a session.
enum Setback {
    Silent(At),
    Unreachable(io::Error),
    Denied(At, Denied),
    /// The BMC took a datagram that the network doubled for a new beginning, and no proof fits any more.
    StartedOver,
    NoRandomness,
}

impl From<io::Error> for Setback {
    fn from(error: io::Error) -> Self {
        Self::Unreachable(error)
    }
}

/// Exchanges until one leaves a session, or until the BMC has refused.
pub(super) async fn login(config: &IpmiConfig, trouble: &mut Trouble) -> Result<Session, Failure> {
    let mut wait = STEP_WAIT_FIRST;
    let mut pause = SETBACK_PAUSE_FIRST;
    let (mut wrong_proofs, mut setbacks, mut silences) = (0, 0, 0u32);
    loop {
        let verdict = match exchange(config, wait, trouble).await {
            Ok(session) => return Ok(session),
            Err(Setback::Silent(at)) => {
                if at == At::Message2 {
                    trouble.name_ignored();
                }
                silences = silences.saturating_add(1);
                if silences.is_multiple_of(EXCHANGES_PER_WAIT) {
                    wait = (wait * 2).min(STEP_WAIT_MAX);
                }
                continue;
            }
            Err(Setback::StartedOver) => continue,
            Err(Setback::Unreachable(error)) => {
                trouble.unreachable(&error);
                Verdict::Perhaps(Failure::Unreachable { error: error.to_string() })
            }
            Err(Setback::Denied(at, denied)) => judge(config, at, denied),
            Err(Setback::NoRandomness) => {
                Verdict::Final(Failure::Unreachable { error: "the system has no randomness".into() })
            }
        };
        match verdict {
            Verdict::Final(failure) => return Err(failure),
            Verdict::WrongProof(failure) => {
                wrong_proofs += 1;
                if wrong_proofs >= WRONG_PROOFS_MAX {
                    return Err(failure);
                }
            }
            Verdict::Perhaps(failure) => {
                setbacks += 1;
                if setbacks >= SETBACKS_MAX {
                    return Err(failure);
                }
                time::sleep(pause).await;
                pause *= 2;
            }
        }
    }
}

/// Whether a refusal stands.
enum Verdict {
    Final(Failure),
    WrongProof(Failure),
    Perhaps(Failure),
}

fn judge(config: &IpmiConfig, at: At, denied: Denied) -> Verdict {
    let step = at.name();
    match denied {
        Denied::Algorithms(chosen) => Verdict::Final(Failure::NoCommonCipher {
            detail: format!("asked for suite {}, the BMC answered algorithms {chosen:02x?}", config.suite),
        }),
        Denied::Proof => Verdict::WrongProof(Failure::LoginRefused {
            at: match at {
                At::OpenSession | At::Message2 => format!("{step}: the BMC does not know this password"),
                At::Message4 => format!("{step}: the BMC has another Kg"),
            },
        }),
        Denied::Status(status) => {
            let said = format!("{step}: {status:#04x} {}", status_name(status));
            match (status, at) {
                (0x04 | 0x05 | 0x10 | 0x11, _) => Verdict::Final(Failure::NoCommonCipher {
                    detail: format!("asked for suite {}, {said}", config.suite),
                }),
                (0x09 | 0x0a, _) => Verdict::Final(privilege_too_low(config.privilege, &said)),
                // No room now, or the BMC forgot the half-open session (it restarts, or another console pushed us out).
                (0x01 | 0x02 | 0x08 | 0x0b, _) => Verdict::Perhaps(Failure::Refused { code: said }),
                (_, At::OpenSession) => Verdict::Final(Failure::Refused { code: said }),
                // A damaged message 3 gets 0x0f as well, so it is counted like a wrong proof.
                (0x0f, At::Message2 | At::Message4) => {
                    Verdict::WrongProof(Failure::LoginRefused { at: said })
                }
                (_, At::Message2 | At::Message4) => Verdict::Final(Failure::LoginRefused { at: said }),
            }
        }
    }
}

pub(super) fn privilege_too_low(needed: Privilege, said: &str) -> Failure {
    Failure::PrivilegeTooLow { detail: format!("needed {needed}, {said}") }
}

/// One whole exchange, from nothing to keys.
async fn exchange(config: &IpmiConfig, wait: Duration, trouble: &mut Trouble) -> Result<Session, Setback> {
    let secrets = rakp::random::<21>().map_err(|_| Setback::NoRandomness)?;
    let [tag, i0, i1, i2, i3, console_random @ ..] = *secrets;
    let login = Login {
        suite: config.suite,
        user: config.user.as_bytes(),
        password: config.password.expose(),
        kg: config.kg.as_ref().map(|kg| kg.expose()),
        privilege: config.privilege.code(),
        tag,
        console_session: u32::from_le_bytes([i0, i1, i2, i3]).max(1),
        console_random,
    };
    let socket = connected(config.address).await?;
    let mut line = Line { socket: &socket, wait, trouble, previous: None };

    let request = rmcp::frame_login(Payload::OpenSessionRequest, &login.open_session());
    let parse = |body: &[u8]| login.opened(body);
    let bmc_session = line.ask(At::OpenSession, &request, Payload::OpenSessionResponse, parse).await?;

    let request = rmcp::frame_login(Payload::Rakp1, &login.message_1(bmc_session));
    let parse = |body: &[u8]| login.challenged(bmc_session, body);
    let challenge = match line.ask(At::Message2, &request, Payload::Rakp2, parse).await {
        Err(Setback::Denied(at, Denied::Proof)) => {
            // Best effort: lets the BMC free the half-open session.
            let _ = socket.send(&rmcp::frame_login(Payload::Rakp3, &login.give_up(bmc_session))).await;
            return Err(Setback::Denied(at, Denied::Proof));
        }
        other => other?,
    };

    let request = rmcp::frame_login(Payload::Rakp3, &login.message_3(bmc_session, &challenge));
    let parse = |body: &[u8]| login.finished(bmc_session, &challenge, body);
    let keys = line.ask(At::Message4, &request, Payload::Rakp4, parse).await?;

    let console_session = login.console_session;
    Ok(Session::new(socket, config.address, keys, console_session, bmc_session, challenge.guid))
}

/// The socket of one exchange, and how long it waits for each answer.
struct Line<'a> {
    socket: &'a UdpSocket,
    wait: Duration,
    trouble: &'a mut Trouble,
    /// The answer to the step before.
    previous: Option<(Payload, Vec<u8>)>,
}

impl Line<'_> {
    /// Sends one request once, and passes over whatever is no answer to it. Nothing vouches for a denial, so it stands only
    /// if nothing better follows.
    async fn ask<T>(
        &mut self,
        at: At,
        request: &[u8],
        answer: Payload,
        parse: impl Fn(&[u8]) -> Result<T, Step>,
    ) -> Result<T, Setback> {
        self.socket.send(request).await?;
        let mut until = Instant::now() + self.wait;
        let mut buffer = [0; DATAGRAM_LEN_MAX + 1];
        let mut setback = Setback::Silent(at);
        let mut started_over = false;
        loop {
            let Ok(received) = time::timeout_at(until, self.socket.recv(&mut buffer)).await else {
                return Err(setback);
            };
            let datagram = buffer.get(..received?).unwrap_or_default();
            started_over |= self.answers_the_previous_step_anew(datagram);
            let body = rmcp::parse_login(answer, datagram);
            match body.map_err(Step::from).and_then(&parse) {
                Ok(value) => {
                    self.previous = body.ok().map(|body| (answer, body.to_vec()));
                    return Ok(value);
                }
                Err(Step::Ignore(ignored)) => self.trouble.passed_over(ignored),
                Err(Step::Denied(_)) if started_over => return Err(Setback::StartedOver),
                Err(Step::Denied(denied)) => {
                    setback = Setback::Denied(at, denied);
                    until = until.min(Instant::now() + DENIAL_WAIT);
                }
            }
        }
    }

    fn answers_the_previous_step_anew(&self, datagram: &[u8]) -> bool {
        self.previous.as_ref().is_some_and(|(payload, body)| {
            rmcp::parse_login(*payload, datagram).is_ok_and(|anew| anew != body.as_slice())
        })
    }
}
