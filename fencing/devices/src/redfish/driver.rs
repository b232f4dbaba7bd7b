//! The device: commands to one system of one Redfish service.
//!
//! Each order is preceded by a reading of the system in the same breath, so that it goes to the UUID that the configuration
//! names (SAFE-4). An order is sent once; whether one that was not answered took effect, only a later reading tells.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue, LOCATION};
use hyper::{Method, StatusCode};
use palisade_ladder::{Command, Failure, Identity, Power, Proven, Response};
use tokio::time::{self, Instant};
use zeroize::Zeroizing;

use super::http::{Connection, Reply};
use super::resource::{self, Collection, Root, System, clean, is_path};
use super::{Auth, RedfishConfig};
use crate::{Device, Warrant};

const ROOT: &str = "/redfish/v1/";
/// DSP0266 section 13.3.4.
const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
/// A chassis of blades has a few dozen systems at the most.
const SYSTEMS_MAX: usize = 64;

/// A BMC that speaks Redfish.
pub struct Redfish {
    config: RedfishConfig,
    connection: Connection,
    session: Option<Session>,
    /// Where the system with the configured UUID was found.
    system: Option<String>,
}

struct Session {
    token: (HeaderName, HeaderValue),
    /// Deleted when the agent takes its leave.
    location: Option<String>,
}

impl Device for Redfish {
    async fn run(&mut self, command: Command, warrant: Warrant) -> Result<Response, Failure> {
        let started = Instant::now();
        let outcome = time::timeout_at(warrant.deadline, self.carry_out(command, &warrant)).await;
        outcome.unwrap_or_else(|_| Err(no_answer(started.elapsed())))
    }

    async fn close(&mut self, deadline: Instant) {
        let Some(Session { token, location: Some(location) }) = self.session.take() else { return };
        // Best effort: a service forgets an idle session by itself.
        let farewell = self.connection.send(Method::DELETE, &location, Some(&token), None);
        drop(time::timeout_at(deadline, farewell).await);
    }
}

fn no_answer(waited: Duration) -> Failure {
    Failure::NoAnswer { waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX) }
}

impl Redfish {
    /// A service that nothing has been said to yet.
    #[must_use]
    pub fn new(config: RedfishConfig) -> Self {
        let connection = Connection::new(config.address, config.tls.clone());
        Self { config, connection, session: None, system: None }
    }

    async fn carry_out(&mut self, command: Command, warrant: &Warrant) -> Result<Response, Failure> {
        match command {
            Command::ReadPower => Ok(Response::Power(self.read_system().await?.power)),
            Command::PowerOff => self.order("ForceOff", Power::Off, warrant).await,
            Command::PowerOn => self.order("On", Power::On, warrant).await,
            Command::Prove => {
                let System { power, reset, .. } = self.read_system().await?;
                // Whether the login's role may reset, no service has to tell it.
                let may_fence = reset.is_some_and(|reset| reset.allows("ForceOff"));
                Ok(Response::Proven(Proven { identity: self.config.uuid.clone(), may_fence, power }))
            }
        }
    }

    async fn order(
        &mut self,
        reset_type: &str,
        wanted: Power,
        warrant: &Warrant,
    ) -> Result<Response, Failure> {
        if !warrant.holds() {
            // SAFE-2: not even a login for an order that may not be given any more.
            return Err(Failure::Cancelled);
        }
        let Some(reset) = self.read_system().await?.reset else {
            return Err(Failure::Refused {
                code: "this system has no action ComputerSystem.Reset of its own".to_owned(),
            });
        };
        if !reset.allows(reset_type) {
            let allowed = clean(&reset.allowed.unwrap_or_default().join(", "));
            return Err(Failure::Refused {
                code: format!("ResetType {reset_type}: only {allowed} are allowed"),
            });
        }
        let authority = self.authority().await?;
        let body = Bytes::from(format!("{{\"ResetType\":\"{reset_type}\"}}"));
        // SAFE-2: asked once the connection stands, however long that took.
        let may = || warrant.holds();
        let reply =
            self.connection.send_if(may, Method::POST, &reset.target, Some(&authority), Some(body)).await?;
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
        let authority = match self.config.auth {
            Auth::Basic => Some(self.basic()?),
            Auth::Session => None,
        };
        let root = self.root(authority.as_ref()).await?;
        let systems = path_of("Systems", root.systems)?;
        let reply = self.read(&systems).await?;
        let collection: Collection = self.body("Systems", &reply)?;
        let mut found = Identity(String::new());
        for member in collection.members.into_iter().take(SYSTEMS_MAX) {
            let path = path_of("Systems", Some(member))?;
            found = self.system_at(&path).await?.uuid;
            if found == self.config.uuid {
                return Ok(path);
            }
        }
        // None of them; the last one stands for all.
        Err(self.not_this_one(found))
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

    /// The service root needs no login (DSP0266 section 13.3.1); some services ask for one all the same.
    async fn root(&mut self, authority: Option<&(HeaderName, HeaderValue)>) -> Result<Root, Failure> {
        let reply = self.connection.get(ROOT, authority).await?;
        self.body("the service root", &reply)
    }

    /// One resource; logs in first, and anew if the session is no more.
    async fn read(&mut self, path: &str) -> Result<Reply, Failure> {
        let had_session = self.session.is_some();
        let authority = self.authority().await?;
        let reply = self.connection.get(path, Some(&authority)).await?;
        if reply.status != StatusCode::UNAUTHORIZED || !had_session {
            return Ok(reply);
        }
        self.session = None;
        let authority = self.authority().await?;
        self.connection.get(path, Some(&authority)).await
    }

    fn body<T: serde::de::DeserializeOwned>(&self, what: &str, reply: &Reply) -> Result<T, Failure> {
        if !reply.status.is_success() {
            return Err(self.refused(what, reply));
        }
        resource::read(what, &reply.body).map_err(|detail| Failure::Garbage { detail: clean(&detail) })
    }

    async fn authority(&mut self) -> Result<(HeaderName, HeaderValue), Failure> {
        match (self.config.auth, &self.session) {
            (Auth::Basic, _) => self.basic(),
            (Auth::Session, Some(session)) => Ok(session.token.clone()),
            (Auth::Session, None) => self.login().await,
        }
    }

    fn basic(&self) -> Result<(HeaderName, HeaderValue), Failure> {
        let mut pair = Zeroizing::new(self.config.user.clone().into_bytes());
        pair.push(b':');
        pair.extend_from_slice(self.config.password.expose());
        let encoded = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(&*pair)));
        Ok((AUTHORIZATION, secret_header(&encoded)?))
    }

    /// DSP0266 section 13.3.4: a session is made at the Sessions that the root links to.
    async fn login(&mut self) -> Result<(HeaderName, HeaderValue), Failure> {
        let root = self.root(None).await?;
        let Some(sessions) = root.links.sessions else {
            let at = "the service root, which links to no Sessions; set auth = \"basic\"".to_owned();
            return Err(Failure::LoginRefused { at });
        };
        let sessions = path_of("Sessions", Some(sessions))?;
        let password = core::str::from_utf8(self.config.password.expose()).unwrap_or_default();
        let login = Login { user: &self.config.user, password };
        let body = serde_json::to_string(&login)
            .map_err(|error| Failure::Garbage { detail: format!("the login cannot be written: {error}") })?;
        let body = Zeroizing::new(body);
        let body = Bytes::from_owner(Wiped(body));
        let reply = self.connection.send(Method::POST, &sessions, None, Some(body)).await?;
        // SAFE-6: a service may repeat in its words what it was given, so none of them are passed on.
        let said = format!("Sessions: {}", reply.status);
        match reply.status {
            status if status.is_success() => {}
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(Failure::LoginRefused { at: said });
            }
            _ => return Err(Failure::Refused { code: said }),
        }
        let Some(token) = reply.headers.get(TOKEN) else {
            return Err(Failure::Garbage { detail: "a new session without an X-Auth-Token".to_owned() });
        };
        let mut token = token.clone();
        token.set_sensitive(true);
        let location = reply.headers.get(LOCATION).and_then(|location| location.to_str().ok());
        // Some services give a whole address; its path is what counts.
        let location =
            location.map(|location| location.find("/redfish/").map_or(location, |at| &location[at..]));
        let location = location.filter(|location| is_path(location)).map(str::to_owned);
        let token = (TOKEN, token);
        self.session = Some(Session { token: token.clone(), location });
        Ok(token)
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

/// DSP8010, Session.
#[derive(serde::Serialize)]
struct Login<'c> {
    #[serde(rename = "UserName")]
    user: &'c str,
    #[serde(rename = "Password")]
    password: &'c str,
}

/// A body that is wiped once it was sent.
struct Wiped(Zeroizing<String>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

fn secret_header(value: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(value).map_err(|_| Failure::Garbage {
        detail: "user and password cannot be put into a header".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn path_of(what: &str, link: Option<resource::Link>) -> Result<String, Failure> {
    match link {
        Some(link) if is_path(&link.id) => Ok(link.id),
        Some(link) => Err(Failure::Garbage {
            detail: format!("{what}: {} is no path on this service", clean(&link.id)),
        }),
        None => Err(Failure::Garbage { detail: format!("the service root links to no {what}") }),
    }
}
