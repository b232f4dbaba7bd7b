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

use super::{ApiRequest, Caller, Disarming, Order, Outcome, Stated, metrics, why};
use crate::counters::Counters;

/// The longest body of a request (SAFE-12).
const BODY_MAX: usize = 4096;
/// The longest reason, in characters: it is kept in the journal for good.
const REASON_MAX: usize = 500;
/// The longest host name that is passed on.
const HOST_MAX: usize = 64;
/// How long the run loop may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What every connection needs.
pub(super) struct Shared {
    /// What this process counts, for `/metrics`.
    pub(super) counters: Arc<Counters>,
    pub(super) requests: mpsc::Sender<ApiRequest>,
    pub(super) journal: PathBuf,
}

/// A request that gets no answer of its own.
#[derive(Debug)]
struct Refusal(StatusCode, String);

type Reply = Response<Full<Bytes>>;

/// The body of `POST /v1/fence` and `POST /v1/confirm`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderBody {
    /// A host's name, or a workload's.
    #[serde(alias = "workload")]
    pub(super) host: String,
    pub(super) reason: String,
    /// Of a confirmation: the statement's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) statement: Option<String>,
    /// And the signature under it, as `ssh-keygen -Y sign` writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) signature: Option<String>,
}

/// The body of `POST /v1/disarm` and `POST /v1/arm`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ArmBody {
    disarmed_ms: u64,
    reason: String,
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
    let allowed = match path.as_str() {
        "/v1/status" | "/v1/why" | "/healthz" | "/ready" | "/metrics" => Method::GET,
        "/v1/fence" | "/v1/unfence" | "/v1/confirm" | "/v1/workload/stop" | "/v1/workload/start"
        | "/v1/host/drain" | "/v1/host/undrain" | "/v1/disarm" | "/v1/arm" => Method::POST,
        _ => return Err(Refusal(StatusCode::NOT_FOUND, "there is no such resource".to_owned())),
    };
    if request.method() != allowed {
        let what = format!("{path} takes {allowed}");
        return Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, what));
    }
    match path.as_str() {
        "/v1/why" => read_why(request.uri().query(), shared).await,
        "/v1/fence" => {
            let body = order_body(request, caller).await?;
            order(shared, body, caller, ApiRequest::Fence).await
        }
        "/v1/unfence" => {
            let body = order_body(request, caller).await?;
            order(shared, body, caller, ApiRequest::Unfence).await
        }
        "/v1/confirm" => {
            let body = order_body(request, caller).await?;
            order(shared, body, caller, ApiRequest::Confirm).await
        }
        "/v1/host/drain" => {
            let body = order_body(request, caller).await?;
            order(shared, body, caller, |order| ApiRequest::Drain(order, true)).await
        }
        "/v1/host/undrain" => {
            let body = order_body(request, caller).await?;
            order(shared, body, caller, |order| ApiRequest::Drain(order, false)).await
        }
        "/v1/disarm" | "/v1/arm" => arm(request, caller, shared).await,
        "/v1/workload/stop" => {
            let body = order_body(request, caller).await?;
            order(shared, body, caller, ApiRequest::Stop).await
        }
        "/v1/workload/start" => {
            let body = order_body(request, caller).await?;
            order(shared, body, caller, ApiRequest::Start).await
        }
        "/healthz" => status(shared).await.map(|_| text("ok\n")),
        "/ready" => status(shared).await.map(|status| ready(&status)),
        "/metrics" => status(shared)
            .await
            .map(|status| text(&(metrics::prometheus(&status) + &shared.counters.prometheus()))),
        _ => status(shared).await.map(|status| json(StatusCode::OK, &status)),
    }
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

fn check_reason(reason: &str) -> Result<(), Refusal> {
    let length = reason.chars().count();
    if reason.trim().is_empty() || length > REASON_MAX || reason.chars().any(char::is_control) {
        let what = format!("the reason must be one line of 1 to {REASON_MAX} characters");
        return Err(Refusal(StatusCode::BAD_REQUEST, what));
    }
    Ok(())
}

async fn order_body<B>(request: Request<B>, caller: Caller) -> Result<OrderBody, Refusal>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send,
{
    let confirms = request.uri().path() == "/v1/confirm";
    let body = body_of_root(request, caller).await?;
    let bad = |what: String| Refusal(StatusCode::BAD_REQUEST, what);
    let body: OrderBody = serde_json::from_slice(&body)
        .map_err(|error| bad(format!("the body must be {{\"host\": ..., \"reason\": ...}}: {error}")))?;
    if !confirms && (body.statement.is_some() || body.signature.is_some()) {
        return Err(bad("only a confirmation takes a statement".to_owned()));
    }
    if !is_name(&body.host) {
        return Err(bad(
            "the host's name must be 1 to 64 letters, digits, dots, underscores and hyphens".to_owned()
        ));
    }
    check_reason(&body.reason)?;
    Ok(body)
}

async fn arm<B>(request: Request<B>, by: Caller, shared: &Shared) -> Result<Reply, Refusal>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send,
{
    let disarms = request.uri().path() == "/v1/disarm";
    let body = body_of_root(request, by).await?;
    let bad = |what: String| Refusal(StatusCode::BAD_REQUEST, what);
    let ArmBody { disarmed_ms, reason } = serde_json::from_slice(&body).map_err(|error| {
        bad(format!("the body must be {{\"disarmed_ms\": ..., \"reason\": ...}}: {error}"))
    })?;
    if disarms != (disarmed_ms > 0) {
        return Err(bad("`disarmed_ms` is more than zero to disarm, and zero to arm".to_owned()));
    }
    check_reason(&reason)?;
    let (reply, answer) = oneshot::channel();
    let disarming = Disarming { disarmed_ms, reason: reason.trim().to_owned(), by, reply };
    let outcome = ask(shared, ApiRequest::Arm(disarming), answer).await?;
    Ok(json(code(&outcome), &outcome))
}

fn code(outcome: &Outcome) -> StatusCode {
    match outcome {
        Outcome::Accepted { .. } => StatusCode::ACCEPTED,
        Outcome::Refused { .. } => StatusCode::CONFLICT,
        Outcome::UnknownHost { .. } => StatusCode::NOT_FOUND,
    }
}

async fn order(
    shared: &Shared,
    body: OrderBody,
    by: Caller,
    request: impl FnOnce(Order) -> ApiRequest,
) -> Result<Reply, Refusal> {
    let (reply, answer) = oneshot::channel();
    let OrderBody { host, reason, statement, signature } = body;
    let stated = statement.map(|text| Stated { text, signature });
    let order = Order { host, reason: reason.trim().to_owned(), stated, by, reply };
    let outcome = ask(shared, request(order), answer).await?;
    Ok(json(code(&outcome), &outcome))
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

fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=HOST_MAX).contains(&text.len()) && text.bytes().all(allowed)
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
