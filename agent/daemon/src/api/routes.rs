//! What can be asked, by whom, and how the answer looks.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes};
use hyper::{Method, Request, Response, StatusCode, header};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use palisade_core::status::Status;

use super::{ApiRequest, Caller, Order, Outcome, Stated, metrics, why};
use crate::counters::Counters;
use crate::health::Health;
use crate::order::{Wanted, is_name};
use palisade_core::config::Verb;

/// The longest body of a request (SAFE-12).
const BODY_MAX: usize = 4096;
/// How long the run loop may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What monitoring may read over TCP.
const MONITORING: [&str; 5] = ["/healthz", "/ready", "/metrics", "/metrics/capacity", "/metrics/global"];
/// No user's number.
const NOBODY: u32 = u32::MAX;

/// What every connection needs.
pub(super) struct Shared {
    /// What this process counts, for `/metrics`.
    pub(super) counters: Arc<Counters>,
    /// What this host finds of itself.
    pub(super) health: Health,
    pub(super) requests: mpsc::Sender<ApiRequest>,
    pub(super) journal: PathBuf,
}

/// A request that gets no answer of its own.
#[derive(Debug)]
struct Refusal(StatusCode, String);

type Reply = Response<Full<Bytes>>;

/// The body of every order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderBody {
    /// A host's name, or a workload's; empty where it is about all hosts.
    #[serde(default, alias = "workload")]
    pub(super) host: String,
    pub(super) reason: String,
    /// For how long, where it lasts.
    #[serde(default)]
    pub(super) length_ms: u64,
    /// Of a confirmation: the statement's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) statement: Option<String>,
    /// And the signature under it, as `ssh-keygen -Y sign` writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) signature: Option<String>,
}

/// The body of every refusal.
#[derive(Serialize, Deserialize)]
pub(super) struct ErrorBody {
    pub(super) error: String,
}

/// Answers one request.
pub(super) async fn respond<B>(request: Request<B>, caller: Caller, shared: &Shared) -> Reply
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send,
{
    match answer(request, caller, shared).await {
        Ok(reply) => reply,
        Err(Refusal(status, error)) => json(status, &ErrorBody { error }),
    }
}

async fn answer<B>(request: Request<B>, caller: Caller, shared: &Shared) -> Result<Reply, Refusal>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send,
{
    let path = request.uri().path().to_owned();
    let verb = verb(&path);
    let allowed = match path.as_str() {
        "/v1/status" | "/v1/why" | "/healthz" | "/ready" | "/metrics" | "/metrics/capacity"
        | "/metrics/global" => Method::GET,
        _ if verb.is_some() => Method::POST,
        _ => return Err(Refusal(StatusCode::NOT_FOUND, "there is no such resource".to_owned())),
    };
    if request.method() != allowed {
        let what = format!("{path} takes {allowed}");
        return Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, what));
    }
    if let Some(verb) = verb {
        return order(request, verb, caller, shared).await;
    }
    match path.as_str() {
        "/v1/why" => read_why(request.uri().query(), shared).await,
        "/healthz" => status(shared).await.map(|_| text("ok\n")),
        "/ready" => status(shared).await.map(|status| ready(&status)),
        "/metrics" => status(shared).await.map(|status| {
            text(&(metrics::prometheus(&status, &shared.health) + &shared.counters.prometheus()))
        }),
        "/metrics/capacity" => Ok(json(StatusCode::OK, &metrics::Capacity::of(&shared.health))),
        "/metrics/global" => status(shared)
            .await
            .map(|status| json(StatusCode::OK, &metrics::Global::of(&status, &shared.counters))),
        _ => status(shared).await.map(|status| json(StatusCode::OK, &status)),
    }
}

/// Answers one request of monitoring, over TCP, where nobody says who asks: what is for reading, and nothing else.
pub(super) async fn respond_to_monitoring<B>(request: Request<B>, shared: &Shared) -> Reply
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send,
{
    // SAFE-7: whatever becomes of the other paths, no order comes this way.
    if !MONITORING.contains(&request.uri().path()) {
        let error = "there is no such resource here; the agent's socket may have it".to_owned();
        return json(StatusCode::NOT_FOUND, &ErrorBody { error });
    }
    respond(request, Caller { uid: NOBODY, pid: None }, shared).await
}

async fn status(shared: &Shared) -> Result<Status, Refusal> {
    let (reply, answer) = oneshot::channel();
    ask(shared, ApiRequest::Status { reply }, answer).await
}

/// Ready is who may act and is counted; the reasons against it are the body.
fn ready(status: &Status) -> Reply {
    let mut reasons = Vec::new();
    if !status.admitted {
        reasons.push("this host is not admitted");
    }
    if !status.quorate {
        reasons.push("this host is not quorate");
    }
    if !status.journal.ok {
        reasons.push("the journal cannot be written");
    }
    if reasons.is_empty() {
        return text("ready\n");
    }
    let mut reply = text(&format!("{}\n", reasons.join("\n")));
    *reply.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    reply
}

async fn read_why(query: Option<&str>, shared: &Shared) -> Result<Reply, Refusal> {
    let host = match query {
        None | Some("") => None,
        Some(query) => {
            // A name needs no escape, so an escape is no name.
            let host = query.strip_prefix("host=").filter(|host| is_name(host)).ok_or_else(|| {
                Refusal(StatusCode::BAD_REQUEST, "the query may be host=NAME and nothing else".to_owned())
            })?;
            Some(host.to_owned())
        }
    };
    let journal = shared.journal.clone();
    let read = tokio::task::spawn_blocking(move || why::read(&journal, host.as_deref(), why::ENTRIES_MAX));
    match read.await {
        Ok(Ok(story)) => Ok(json(StatusCode::OK, &story)),
        Ok(Err(error)) => Err(Refusal(StatusCode::INTERNAL_SERVER_ERROR, format!("the journal: {error}"))),
        Err(_) => {
            Err(Refusal(StatusCode::INTERNAL_SERVER_ERROR, "reading the journal was cut short".to_owned()))
        }
    }
}

/// SAFE-7: the kernel says who asks; only root may order.
async fn body_of_root<B>(request: Request<B>, caller: Caller) -> Result<Bytes, Refusal>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send,
{
    if caller.uid != 0 {
        let what = format!("only root may order, and this is {caller}");
        return Err(Refusal(StatusCode::FORBIDDEN, what));
    }
    let body = Limited::new(request.into_body(), BODY_MAX).collect().await.map_err(|error| {
        Refusal(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body cannot be read (at most {BODY_MAX} bytes): {error}"),
        )
    })?;
    Ok(body.to_bytes())
}

fn code(outcome: &Outcome) -> StatusCode {
    match outcome {
        Outcome::Accepted { .. } => StatusCode::ACCEPTED,
        Outcome::Refused { .. } => StatusCode::CONFLICT,
        Outcome::UnknownHost { .. } => StatusCode::NOT_FOUND,
    }
}

async fn order<B>(request: Request<B>, verb: Verb, by: Caller, shared: &Shared) -> Result<Reply, Refusal>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send,
{
    let body = body_of_root(request, by).await?;
    let bad = |what: String| Refusal(StatusCode::BAD_REQUEST, what);
    let body: OrderBody = serde_json::from_slice(&body).map_err(|error| {
        bad(format!("the body must be {{\"host\": ..., \"reason\": ..., \"length_ms\": ...}}: {error}"))
    })?;
    let OrderBody { host: name, reason, length_ms, statement, signature } = body;
    if verb != Verb::Confirm && (statement.is_some() || signature.is_some()) {
        return Err(bad("only a confirmation takes a statement".to_owned()));
    }
    let wanted = Wanted { verb, name, length_ms, reason }.checked().map_err(bad)?;
    let (reply, answer) = oneshot::channel();
    let stated = statement.map(|text| Stated { text, signature });
    let outcome = ask(shared, ApiRequest::Order(Order { wanted, stated, by, reply }), answer).await?;
    Ok(json(code(&outcome), &outcome))
}

/// Which order a path is for.
fn verb(path: &str) -> Option<Verb> {
    Some(match path {
        "/v1/fence" => Verb::Fence,
        "/v1/unfence" => Verb::Unfence,
        "/v1/confirm" => Verb::Confirm,
        "/v1/host/drain" => Verb::Drain,
        "/v1/host/undrain" => Verb::Undrain,
        "/v1/maintenance/on" => Verb::MaintenanceOn,
        "/v1/maintenance/off" => Verb::MaintenanceOff,
        "/v1/disarm" => Verb::Disarm,
        "/v1/arm" => Verb::Arm,
        "/v1/workload/stop" => Verb::Stop,
        "/v1/workload/start" => Verb::Start,
        _ => return None,
    })
}

async fn ask<T>(shared: &Shared, request: ApiRequest, answer: oneshot::Receiver<T>) -> Result<T, Refusal> {
    let unavailable = |what: &str| Refusal(StatusCode::SERVICE_UNAVAILABLE, what.to_owned());
    shared.requests.try_send(request).map_err(|error| match error {
        mpsc::error::TrySendError::Full(_) => unavailable("the agent is busy; ask again"),
        mpsc::error::TrySendError::Closed(_) => unavailable("the agent is stopping"),
    })?;
    match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(unavailable("the agent is stopping")),
        Err(_) => Err(unavailable("the agent did not answer within 5 s")),
    }
}

fn json<T: Serialize>(status: StatusCode, value: &T) -> Reply {
    match serde_json::to_vec(value) {
        Ok(mut body) => {
            body.push(b'\n');
            reply(status, "application/json", body)
        }
        Err(error) => reply(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string().into_bytes()),
    }
}

fn text(body: &str) -> Reply {
    reply(StatusCode::OK, "text/plain; version=0.0.4", body.as_bytes().to_vec())
}

fn reply(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    reply
}
