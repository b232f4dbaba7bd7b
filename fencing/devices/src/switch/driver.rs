//! The device: one port of a switch, known by its alias.
//!
//! The port's index is looked up by its name in each command, since indices change when a switch boots or a module is added; the
//! last one is only where the look begins. An order whose fate is not certain (no answer, or more copies than one) is remembered:
//! the opposite one waits until no copy of it can be on its way any more, or a late "down" would undo an "up", and a late "up" a
//! proof.

use std::time::Duration;

use palisade_ladder::{Command, Failure, Identity, Proven, Reading, Response};
use tokio::time::{self, Instant};

use super::session::{KnownKeys, Sent, Session, Trouble};
use super::words::{self, DOWN, Port, UP};
use super::{PortRef, SwitchConfig};
use crate::text::clean;
use crate::{Device, Warrant};

/// Longer than any datagram lives on a management network.
const QUIET: Duration = Duration::from_secs(2);
/// For the answer to an order; some switches write their configuration before they give it.
const ORDER_WAIT: Duration = Duration::from_secs(1);
/// Copies of an order: the switch was asked after each, and had not carried it out.
const ORDER_COPIES_MAX: u32 = 4;
/// More ports than any switch has; a stack has some hundred, with its virtual ones some thousand.
const PORTS_MAX: usize = 8192;

/// A managed switch, as far as one host is concerned.
pub struct Switch {
    config: SwitchConfig,
    keys: KnownKeys,
    /// Where the port was last.
    index: Option<u32>,
    /// An order of which a copy may still take effect.
    unsettled: Option<Sent>,
}

impl Device for Switch {
    async fn run(&mut self, command: Command, warrant: Warrant) -> Result<Response, Failure> {
        let started = Instant::now();
        let mut trouble = Trouble::default();
        match time::timeout_at(warrant.deadline, self.carry_out(command, &warrant, &mut trouble)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(trouble.at_deadline(started.elapsed())),
        }
    }

    async fn close(&mut self, _deadline: Instant) {
        // SNMP knows no sessions.
    }
}

impl Switch {
    /// A switch that nothing has been asked of yet.
    #[must_use]
    pub fn new(config: SwitchConfig) -> Self {
        Self { config, keys: None, index: None, unsettled: None }
    }

    async fn carry_out(
        &mut self,
        command: Command,
        warrant: &Warrant,
        trouble: &mut Trouble,
    ) -> Result<Response, Failure> {
        let admin = match command {
            Command::Off => Some(DOWN),
            Command::On => Some(UP),
            Command::Read | Command::Prove => None,
        };
        if admin.is_some() && !warrant.holds() {
            // SAFE-2: not even a look for an order that may not be given any more.
            return Err(Failure::Cancelled);
        }
        if let Some(admin) = admin {
            self.settle(admin).await;
        }
        let Self { config, keys, index: hint, unsettled } = self;
        let mut session = Session::open(config, keys, trouble).await?;
        let (index, port) = find(&mut session, config, *hint).await?;
        *hint = Some(index);
        let reads = port.reading();
        match command {
            Command::Read => Ok(Response::Reads(reads)),
            Command::Prove => {
                let status = session.refusal(words::impossible_order(index)).await?;
                let may_fence = words::may_write(status).ok_or_else(|| {
                    let name = super::message::error_name(status);
                    let code = format!("{name}: that does not say whether the login may close the port");
                    Failure::Refused { code }
                })?;
                let identity = config.alias.clone();
                Ok(Response::Proven(Proven { identity, may_fence, reads }))
            }
            Command::Off if reads == Reading::Off => Ok(Response::AlreadySo),
            Command::On if reads == Reading::On => Ok(Response::AlreadySo),
            Command::Off => obey(&mut session, config, (index, DOWN), warrant, unsettled).await,
            Command::On => obey(&mut session, config, (index, UP), warrant, unsettled).await,
        }
    }

    /// Waits until no copy of the opposite order can take effect any more.
    async fn settle(&mut self, admin: i64) {
        if let Some(sent) = self.unsettled.filter(|sent| sent.admin != admin) {
            time::sleep_until(sent.last + QUIET).await;
        }
        // What is left is of this very order, and adds nothing to it; or it is settled.
        self.unsettled.take_if(|sent| sent.admin != admin || sent.last.elapsed() >= QUIET);
    }
}

/// The port with the configured name, and its index. It is the configured host's (SAFE-4).
async fn find(
    session: &mut Session<'_>,
    config: &SwitchConfig,
    hint: Option<u32>,
) -> Result<(u32, Port), Failure> {
    let name = match &config.port {
        PortRef::Index(index) => {
            let port = look(session, *index).await?.ok_or_else(|| Failure::Refused {
                code: format!("the switch has no port with index {index}"),
            })?;
            return Ok((*index, ours(config, port)?));
        }
        PortRef::Name(name) => name.as_bytes(),
    };
    if let Some(index) = hint
        && let Some(port) = look(session, index).await?
        && port.name.as_deref() == Some(name)
    {
        return Ok((index, ours(config, port)?));
    }
    let index = search(session, name).await?;
    match look(session, index).await? {
        Some(port) if port.name.as_deref() == Some(name) => Ok((index, ours(config, port)?)),
        Some(_) | None => {
            Err(Failure::Refused { code: "the switch's ports are changing their indices".to_owned() })
        }
    }
}

async fn look(session: &mut Session<'_>, index: u32) -> Result<Option<Port>, Failure> {
    Port::read(index, &session.get(Port::questions(index)).await?)
}

/// The index of the one port with this name.
async fn search(session: &mut Session<'_>, name: &[u8]) -> Result<u32, Failure> {
    let shown = clean(&String::from_utf8_lossy(name));
    let refused = |words: &str| Failure::Refused { code: format!("the switch has {words} called {shown}") };
    let mut found = None;
    let mut seen = 0;
    let mut from = Some(words::names());
    while let Some(at) = from {
        let (ports, next) = words::step(&at, &session.next(at.clone()).await?)?;
        seen += ports.len();
        if seen > PORTS_MAX {
            return Err(Failure::Garbage { detail: format!("SNMP: more than {PORTS_MAX} ports") });
        }
        for (index, _) in ports.into_iter().filter(|(_, told)| told == name) {
            if found.replace(index).is_some() {
                return Err(refused("two ports"));
            }
        }
        from = next;
    }
    found.ok_or_else(|| refused("no port"))
}

/// SAFE-4: no order to another host's port.
fn ours(config: &SwitchConfig, port: Port) -> Result<Port, Failure> {
    if port.alias == config.alias.0.as_bytes() {
        return Ok(port);
    }
    let found = Identity(clean(&String::from_utf8_lossy(&port.alias)));
    Err(Failure::WrongIdentity { expected: config.alias.clone(), found })
}

/// Opens or closes the port.
async fn obey(
    session: &mut Session<'_>,
    config: &SwitchConfig,
    (index, admin): (u32, i64),
    warrant: &Warrant,
    unsettled: &mut Option<Sent>,
) -> Result<Response, Failure> {
    let order = session.order(admin, words::order(index, admin))?;
    let earlier = unsettled.map_or(0, |sent| sent.copies);
    for copies in 1..=ORDER_COPIES_MAX {
        match session.send_order(&order, warrant, unsettled, ORDER_WAIT).await? {
            Some(status) => {
                if copies == 1 && earlier == 0 {
                    *unsettled = None;
                }
                return match status {
                    0 => Ok(Response::Acknowledged),
                    status => Err(words::refusal(status, copies.saturating_add(earlier))),
                };
            }
            // Was it lost on its way there, or its answer on the way back?
            None => {
                let in_doubt = |words: &str| Failure::Garbage {
                    detail: format!(
                        "{words}, while an order was on its way; it may have been done all the same"
                    ),
                };
                // Whatever goes wrong now, a copy is out: no failure may say that nothing was done.
                let port = look(session, index).await.map_err(|failure| in_doubt(&failure.to_string()))?;
                let port = port.filter(|port| ours(config, port.clone()).is_ok());
                let port = port.ok_or_else(|| in_doubt("SNMP: the port has become another one"))?;
                if port.admin == admin {
                    return Ok(Response::Acknowledged);
                }
            }
        }
    }
    // It answers questions and no order.
    Err(Failure::Garbage { detail: format!("SNMP: {ORDER_COPIES_MAX} copies of an order were not answered") })
}
