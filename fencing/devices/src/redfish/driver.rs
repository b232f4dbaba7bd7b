//! The device: commands to one system of one Redfish service.
//!
//! Each order is preceded by a reading of the system in the same breath, so that it goes to the UUID that the configuration
//! names (SAFE-4). An order is sent once; whether one that was not answered took effect, only a later reading tells.

use std::sync::Arc;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use palisade_ladder::{Command, Failure, Identity, Proven, Reading, Response};
use tokio::time::{self, Instant};

use super::RedfishConfig;
use super::http::{Connection, Reply};
use super::resource::{self, Collection, Root, System, path_of};
use super::session::{Identification, Shown};
use crate::text::clean;
use crate::{Device, Warrant};

pub(super) const ROOT: &str = "/redfish/v1/";
/// A chassis of blades has a few dozen systems at the most.
const SYSTEMS_MAX: usize = 64;

/// A BMC that speaks Redfish.
pub struct Redfish {
    config: Arc<RedfishConfig>,
    connection: Connection,
    login: Identification,
    /// Where the system with the configured UUID was found.
    system: Option<String>,
}

impl Device for Redfish {
    async fn run(&mut self, command: Command, warrant: Warrant) -> Result<Response, Failure> {
        warrant.in_time(self.carry_out(command, &warrant)).await
    }

    async fn close(&mut self, deadline: Instant) {
        drop(time::timeout_at(deadline, self.login.take_leave(&mut self.connection)).await);
    }
}

impl Redfish {
    /// A service that nothing has been said to yet.
    #[must_use]
    pub fn new(config: RedfishConfig) -> Self {
        let config = Arc::new(config);
        let connection = Connection::new(config.address, config.tls.clone());
        let login = Identification::new(Arc::clone(&config));
        Self { config, connection, login, system: None }
    }

    async fn carry_out(&mut self, command: Command, warrant: &Warrant) -> Result<Response, Failure> {
        match command {
            Command::Read => Ok(Response::Reads(self.read_system().await?.power)),
            Command::Off => self.order("ForceOff", Reading::Off, warrant).await,
            Command::On => self.order("On", Reading::On, warrant).await,
            Command::Prove => {
                let System { power, reset, .. } = self.read_system().await?;
                // Some services allow only what would change something. Whether the login's role may reset, none has to tell.
                let may_fence = reset.is_some_and(|reset| power == Reading::Off || reset.allows("ForceOff"));
                Ok(Response::Proven(Proven { identity: self.config.uuid.clone(), may_fence, reads: power }))
            }
        }
    }

    async fn order(
        &mut self,
        reset_type: &str,
        wanted: Reading,
        warrant: &Warrant,
    ) -> Result<Response, Failure> {
        if !warrant.holds() {
            // SAFE-2: not even a login for an order that may not be given any more.
            return Err(Failure::Cancelled);
        }
        let system = self.read_system().await?;
        let Some(reset) = system.reset else {
            return Err(Failure::Refused {
                code: "this system has no action ComputerSystem.Reset of its own".to_owned(),
            });
        };
        if !reset.allows(reset_type) {
            if system.power == wanted {
                return Ok(Response::AlreadySo);
            }
            let allowed = clean(&reset.allowed.unwrap_or_default().join(", "));
            return Err(Failure::Refused {
                code: format!("ResetType {reset_type}: only {allowed} are allowed"),
            });
        }
        let shown = self.login.show(&mut self.connection).await?;
        let body = Bytes::from(format!("{{\"ResetType\":\"{reset_type}\"}}"));
        // SAFE-2: asked once the connection stands, however long that took.
        let may = || warrant.holds();
        let sent =
            self.connection.send_if(may, Method::POST, &reset.target, Some(shown.authority()), Some(body));
        let reply = sent.await?;
        if reply.status.is_success() {
            return Ok(Response::Acknowledged);
        }
        // Services refuse an order for what is so already with codes of their own; whether that was the reason, only a reading says.
        let already = matches!(
            reply.status,
            StatusCode::BAD_REQUEST | StatusCode::CONFLICT | StatusCode::INTERNAL_SERVER_ERROR
        ) && self.read_system().await.is_ok_and(|system| system.power == wanted);
        if already {
            return Ok(Response::AlreadySo);
        }
        if reply.status.is_server_error() || reply.status == StatusCode::REQUEST_TIMEOUT {
            // The service, or something before it, gave up: the order may still take effect.
            return Err(Failure::Garbage { detail: self.words(reset_type, &reply) });
        }
        Err(self.refused(reset_type, &reply))
    }

    /// The system, as it is now; it is the one with the configured UUID.
    async fn read_system(&mut self) -> Result<System, Failure> {
        let path = match &self.system {
            Some(path) => path.clone(),
            None => self.find_system().await?,
        };
        let mut system = self.system_at(&path).await?;
        if system.uuid != self.config.uuid {
            self.system = None;
            return Err(self.not_this_one(system.uuid));
        }
        // SAFE-4: an action below another resource could be another system's.
        let own = format!("{}/", path.trim_end_matches('/'));
        system.reset = system.reset.filter(|reset| reset.target.starts_with(&own));
        self.system = Some(path);
        Ok(system)
    }

    async fn find_system(&mut self) -> Result<String, Failure> {
        if let Some(path) = &self.config.system {
            return Ok(path.clone());
        }
        // Free to read for everybody (DSP0266 section 13.3.1); some services ask for a login all the same.
        let reply = self.read(ROOT).await?;
        let Root { systems, .. } = self.body("the service root", &reply)?;
        let reply = self.read(&path_of("Systems", systems)?).await?;
        let collection: Collection = self.body("Systems", &reply)?;
        let (mut ours, mut trouble) = (Vec::new(), None);
        for member in collection.members.into_iter().take(SYSTEMS_MAX) {
            let path = path_of("Systems", Some(member))?;
            match self.system_at(&path).await {
                Ok(system) if system.uuid == self.config.uuid => ours.push(path),
                Ok(system) => trouble = Some(self.not_this_one(system.uuid)),
                // An empty slot of a chassis, or a broken blade: it hides no other one.
                Err(failure @ (Failure::Refused { .. } | Failure::Garbage { .. })) => trouble = Some(failure),
                Err(failure) => return Err(failure),
            }
        }
        match (ours.pop(), ours.pop()) {
            (Some(path), None) => Ok(path),
            // SAFE-4: whose power would be cut?
            (Some(one), Some(other)) => Err(Failure::Refused {
                code: format!(
                    "{other} and {one} both have this UUID: set the UUID of one of them, or write `system`"
                ),
            }),
            // None of them; the last one stands for all.
            (None, _) => {
                Err(trouble.unwrap_or_else(|| Failure::Refused { code: "it has no system".to_owned() }))
            }
        }
    }

    /// Another system for sure, or one that does not say who it is: a BMC that has just started knows no UUID yet.
    fn not_this_one(&self, found: Identity) -> Failure {
        if found.0.is_empty() || found.is_blank() {
            return Failure::Refused { code: "no system here tells its UUID, or not yet".to_owned() };
        }
        Failure::WrongIdentity { expected: self.config.uuid.clone(), found }
    }

    async fn system_at(&mut self, path: &str) -> Result<System, Failure> {
        let reply = self.read(path).await?;
        if !reply.status.is_success() {
            // Looked for anew next time: firmware and blades move systems.
            self.system = None;
            return Err(self.refused(path, &reply));
        }
        System::parse(&reply.body).map_err(|detail| Failure::Garbage { detail: clean(&detail) })
    }

    /// One resource; logs in first, and anew if the session is no more.
    async fn read(&mut self, path: &str) -> Result<Reply, Failure> {
        let mut shown = self.login.show(&mut self.connection).await?;
        let mut reply = self.connection.get(path, Some(shown.authority())).await?;
        if reply.status == StatusCode::UNAUTHORIZED && matches!(shown, Shown::Session(_)) {
            self.login.forget_session();
            shown = self.login.show(&mut self.connection).await?;
            reply = self.connection.get(path, Some(shown.authority())).await?;
        }
        if reply.status == StatusCode::UNAUTHORIZED && !matches!(shown, Shown::Basic(_)) {
            // The password was right.
            return Err(Failure::PrivilegeTooLow { detail: self.words(path, &reply) });
        }
        Ok(reply)
    }

    fn body<T: serde::de::DeserializeOwned>(&self, what: &str, reply: &Reply) -> Result<T, Failure> {
        if !reply.status.is_success() {
            return Err(self.refused(what, reply));
        }
        resource::read(what, &reply.body).map_err(|detail| Failure::Garbage { detail: clean(&detail) })
    }

    /// What a status that is no success means.
    fn refused(&self, what: &str, reply: &Reply) -> Failure {
        let words = self.words(what, reply);
        match reply.status {
            StatusCode::UNAUTHORIZED => Failure::LoginRefused { at: words },
            StatusCode::FORBIDDEN => Failure::PrivilegeTooLow { detail: words },
            _ => Failure::Refused { code: words },
        }
    }

    fn words(&self, what: &str, reply: &Reply) -> String {
        match resource::error_words(&reply.body) {
            Some(words) => format!("{what}: {} ({words})", reply.status),
            None => format!("{what}: {}", reply.status),
        }
    }
}
