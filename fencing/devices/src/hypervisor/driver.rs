//! The device: one virtual machine, known by its UUID.

use palisade_ladder::{Command, Failure, Identity, Proven, Response};
use tokio::time::Instant;

use super::libvirt::Libvirt;
use super::qmp::Monitor;
use super::words::State;
use super::{HypervisorConfig, Way};
use crate::{Device, Warrant};

/// A host that is a virtual machine, as what runs it sees it.
pub struct Hypervisor {
    config: HypervisorConfig,
}

/// The machine within reach, for one command.
enum Machine<'a> {
    Monitored(Box<Monitor>),
    Domain(Libvirt<'a>),
}

impl Device for Hypervisor {
    async fn run(&mut self, command: Command, warrant: Warrant) -> Result<Response, Failure> {
        warrant.in_time(self.carry_out(command, &warrant)).await
    }

    async fn close(&mut self, _deadline: Instant) {
        // Each command takes its own leave.
    }
}

impl Hypervisor {
    /// A machine that nothing has been asked of yet.
    #[must_use]
    pub fn new(config: HypervisorConfig) -> Self {
        Self { config }
    }

    async fn carry_out(&self, command: Command, warrant: &Warrant) -> Result<Response, Failure> {
        if matches!(command, Command::Off | Command::On) && !warrant.holds() {
            // SAFE-2: not even a look for an order that may not be given any more.
            return Err(Failure::Cancelled);
        }
        let (mut machine, state) = self.look().await?;
        match (command, state) {
            (Command::Read, state) => Ok(Response::Reads(state.reading())),
            // Its life may be elsewhere: ending what is here would prove nothing, and a path that takes no order is not proven.
            (Command::Prove | Command::Off | Command::On, State::Unclear(words)) => {
                Err(Failure::Refused { code: format!("{words}: its life may be elsewhere") })
            }
            (Command::Prove, state) => {
                let identity = self.config.uuid.clone();
                Ok(Response::Proven(Proven { identity, may_fence: true, reads: state.reading() }))
            }
            (Command::Off, State::Off) | (Command::On, State::Running) => Ok(Response::AlreadySo),
            (Command::Off, State::Running | State::Held(_)) => {
                machine.off(warrant).await?;
                Ok(Response::Acknowledged)
            }
            (Command::On, State::Off) => {
                machine.on(warrant).await?;
                Ok(Response::Acknowledged)
            }
            (Command::On, State::Held(words)) => Err(Failure::Refused {
                code: format!("{words}: a life of it is held; fence it, or let it go on by hand"),
            }),
        }
    }

    /// The machine, and what it does. It is the one with the configured UUID.
    async fn look(&self) -> Result<(Machine<'_>, State), Failure> {
        let monitor = match &self.config.way {
            Way::QmpSocket(path) => Monitor::at_socket(path).await?,
            Way::QmpAddress(address) => Monitor::at_address(*address).await?,
            Way::Libvirt(uri) => {
                let libvirt = Libvirt::new(uri, &self.config.uuid);
                let domain = libvirt.look().await?;
                self.is_ours(domain.uuid)?;
                return Ok((Machine::Domain(libvirt), domain.state));
            }
        };
        let mut monitor = Box::new(monitor);
        self.is_ours(monitor.uuid().await?)?;
        let state = monitor.state().await?;
        Ok((Machine::Monitored(monitor), state))
    }

    /// SAFE-4: no order to another machine.
    fn is_ours(&self, found: Identity) -> Result<(), Failure> {
        if found == self.config.uuid {
            return Ok(());
        }
        Err(Failure::WrongIdentity { expected: self.config.uuid.clone(), found })
    }
}

impl Machine<'_> {
    async fn off(&mut self, warrant: &Warrant) -> Result<(), Failure> {
        match self {
            Self::Monitored(monitor) => monitor.off(warrant).await,
            Self::Domain(libvirt) => libvirt.off(warrant).await,
        }
    }

    async fn on(&mut self, warrant: &Warrant) -> Result<(), Failure> {
        match self {
            Self::Monitored(monitor) => monitor.on(warrant).await,
            Self::Domain(libvirt) => libvirt.on(warrant).await,
        }
    }
}
