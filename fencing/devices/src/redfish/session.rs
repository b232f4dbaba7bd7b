//! Showing who one is: a session, or user and password with each request.
//!
//! A login runs to its own end in a task: a command whose deadline passes meanwhile leaves no session at the service that nobody
//! knows of, and the next command finds it.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue, LOCATION};
use hyper::{Method, StatusCode};
use palisade_ladder::Failure;
use tokio::task::JoinHandle;
use tokio::time::{self, Instant};
use zeroize::Zeroizing;

use super::http::{Authority, Connection, Reply, path_within};
use super::resource::{self, Link, Root, is_path, path_of};
use super::{Auth, RedfishConfig};
use crate::text::clean;

/// DSP0266 section 13.3.4.
const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
/// What the slowest services take for a login; after that it is begun anew.
const LOGIN_WAIT: Duration = Duration::from_secs(10);
/// How long a service that had no session to give is not asked for one again.
const WITHOUT_SESSION: Duration = Duration::from_secs(60);

/// One login's standing with the service.
pub(super) struct Identification {
    config: Arc<RedfishConfig>,
    session: Option<Session>,
    login: Option<JoinHandle<LoggedIn>>,
    /// Until then user and password go with each request.
    basic_until: Option<Instant>,
}

struct Session {
    authority: Authority,
    /// Deleted when the agent takes its leave.
    location: Option<String>,
}

/// The connection comes back; no session: the service has none to give.
type LoggedIn = (Connection, Result<Option<Session>, Failure>);

/// How a request shows who asks.
pub(super) enum Shown {
    /// With each request anew.
    Basic(Authority),
    /// By a session that this very request began.
    NewSession(Authority),
    /// By a session that may have ended since.
    Session(Authority),
}

impl Shown {
    pub(super) fn authority(&self) -> &Authority {
        match self {
            Self::Basic(authority) | Self::NewSession(authority) | Self::Session(authority) => authority,
        }
    }
}

impl Identification {
    pub(super) fn new(config: Arc<RedfishConfig>) -> Self {
        Self { config, session: None, login: None, basic_until: None }
    }

    /// Logs in if need be, on this connection.
    pub(super) async fn show(&mut self, connection: &mut Connection) -> Result<Shown, Failure> {
        if let Some(session) = &self.session {
            return Ok(Shown::Session(session.authority.clone()));
        }
        if self.config.auth == Auth::Basic || self.basic_until.is_some_and(|until| Instant::now() < until) {
            return Ok(Shown::Basic(basic(&self.config)?));
        }
        // One that an earlier command began may have made a session that has ended since.
        let begun_now = self.login.is_none();
        self.finish_login(connection).await?;
        match &self.session {
            Some(session) if begun_now => Ok(Shown::NewSession(session.authority.clone())),
            Some(session) => Ok(Shown::Session(session.authority.clone())),
            None => {
                self.basic_until = Some(Instant::now() + WITHOUT_SESSION);
                Ok(Shown::Basic(basic(&self.config)?))
            }
        }
    }

    /// Ends with a session, or without one that the service would have.
    async fn finish_login(&mut self, connection: &mut Connection) -> Result<(), Failure> {
        if self.login.is_none() {
            let Some(sessions) = sessions(connection).await? else { return Ok(()) };
            let fresh = connection.another();
            let mut connection = std::mem::replace(connection, fresh);
            let config = Arc::clone(&self.config);
            self.login = Some(tokio::spawn(async move {
                let made = time::timeout(LOGIN_WAIT, log_in(&config, &mut connection, &sessions)).await;
                let waited_ms = u64::try_from(LOGIN_WAIT.as_millis()).unwrap_or(u64::MAX);
                (connection, made.unwrap_or(Err(Failure::NoAnswer { waited_ms })))
            }));
        }
        let Some(login) = &mut self.login else { return Ok(()) };
        let ended = login.await;
        self.login = None;
        let Ok((back, made)) = ended else { return Err(Failure::Cancelled) };
        *connection = back;
        self.session = made?;
        Ok(())
    }

    /// The service knows the session no more.
    pub(super) fn forget_session(&mut self) {
        self.session = None;
    }

    /// Gives the session back, also one that is only being made.
    pub(super) async fn take_leave(&mut self, connection: &mut Connection) {
        if self.login.is_some() && self.finish_login(connection).await.is_err() {
            return;
        }
        // Best effort: a service forgets an idle session by itself.
        if let Some(Session { authority, location: Some(location) }) = self.session.take() {
            drop(connection.send_if(|| true, Method::DELETE, &location, Some(&authority), None).await);
        }
    }
}

/// User and password with a request (RFC 7617).
fn basic(config: &RedfishConfig) -> Result<Authority, Failure> {
    let mut pair = Zeroizing::new(config.user.clone().into_bytes());
    pair.push(b':');
    pair.extend_from_slice(config.password.expose());
    let encoded = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(&*pair)));
    let mut value = HeaderValue::from_str(&encoded).map_err(|_| Failure::Garbage {
        detail: "user and password cannot be put into a header".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok((AUTHORIZATION, value))
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

/// DSP0266 section 13.3.4: a session is made at the Sessions that the root links to.
async fn sessions(connection: &mut Connection) -> Result<Option<String>, Failure> {
    let root = connection.get(super::driver::ROOT, None).await?;
    if !root.status.is_success() {
        return Err(Failure::LoginRefused { at: format!("the service root: {}", root.status) });
    }
    let root: Root = resource::read("the service root", &root.body)
        .map_err(|detail| Failure::Garbage { detail: clean(&detail) })?;
    let sessions = root.links.unwrap_or_default().sessions;
    sessions.map(|sessions| path_of("Sessions", Some(sessions))).transpose()
}

async fn log_in(
    config: &RedfishConfig,
    connection: &mut Connection,
    sessions: &str,
) -> Result<Option<Session>, Failure> {
    let password = core::str::from_utf8(config.password.expose()).unwrap_or_default();
    let body = serde_json::to_string(&Login { user: &config.user, password })
        .map_err(|error| Failure::Garbage { detail: format!("the login cannot be written: {error}") })?;
    let body = Bytes::from_owner(Wiped(Zeroizing::new(body)));
    let reply = connection.send_if(|| true, Method::POST, sessions, None, Some(body)).await?;
    if has_none_left(&reply) {
        return Ok(None);
    }
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
    Ok(Some(Session { authority: (TOKEN, token), location: location(&reply) }))
}

/// Services allow a handful of sessions; DSP8011 has a message for when they are used up.
fn has_none_left(reply: &Reply) -> bool {
    let used_up = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::INSUFFICIENT_STORAGE];
    !reply.status.is_success()
        && (used_up.contains(&reply.status)
            || resource::error_id(&reply.body).is_some_and(|id| id.ends_with(".SessionLimitExceeded")))
}

fn location(reply: &Reply) -> Option<String> {
    let in_header = reply.headers.get(LOCATION).and_then(|location| location.to_str().ok());
    let location = match in_header {
        Some(location) => path_within(location).to_owned(),
        None => resource::read::<Link>("Session", &reply.body).ok()?.id,
    };
    is_path(&location).then_some(location)
}
