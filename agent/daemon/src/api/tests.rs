//! The API as its callers meet it: a real socket, a run loop of the test's.

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use palisade_core::status::{HostStatus, JournalStatus, Status, WitnessStatus, WorkloadStatus};
use proptest::prelude::*;
use tokio::sync::mpsc;

use super::routes::{Shared, respond};
use super::*;
use crate::counters::Counters;
use crate::order::Wanted;
use crate::testing::{TempDir, run};
use palisade_core::config::Verb;

mod monitoring;

const ROOT: Caller = Caller { uid: 0, pid: Some(7) };

pub(crate) fn status() -> Status {
    Status {
        cluster: "edge-a".into(),
        host: "a".into(),
        incarnation: "0/0123456789abcdef".into(),
        admitted: true,
        quorate: true,
        found: None,
        coordinator: Some("a".into()),
        view: vec!["a".into(), "c".into()],
        electorate: vec!["a".into(), "b".into(), "c".into()],
        dead: vec!["b".into()],
        hosts: ["a", "b", "c"]
            .into_iter()
            .zip(0..)
            .map(|(name, id)| HostStatus {
                name: name.into(),
                id,
                state: if name == "b" { "dead" } else { "member" }.into(),
                drained: false,
                maintenance_ms: None,
                incarnation: None,
                heard_ms: Some(1_234),
                health: None,
            })
            .collect(),
        workloads: vec![WorkloadStatus {
            name: "db".into(),
            id: 1,
            desired: "running".into(),
            on: vec!["a".into()],
            here: "running".into(),
        }],
        witness: WitnessStatus { configured: true, proven_ms: Some(350), granting: true },
        fence_paths: Vec::new(),
        not_armed: Vec::new(),
        journal: JournalStatus { ok: true, error: None },
        disarmed_ms: None,
        ills: Vec::new(),
        alarms: Vec::new(),
    }
}

/// A run loop that answers each request in turn, and hands what was ordered to the test.
fn run_loop(mut requests: mpsc::Receiver<ApiRequest>) -> mpsc::UnboundedReceiver<String> {
    let (told, tells) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            match request {
                ApiRequest::Status { reply } => drop(reply.send(status())),
                ApiRequest::FromAfar(order) => drop(order.reply),
                ApiRequest::Order(order) => {
                    let Wanted { verb, name, length_ms, reason } = order.wanted;
                    drop(
                        told.send(format!(
                            "{verb:?} {name} for {length_ms} because {reason} by {}",
                            order.by
                        )),
                    );
                    let accepted = |message: &str| Outcome::Accepted { message: message.to_owned() };
                    let known = |name: &str| Outcome::UnknownHost { known: vec![name.to_owned()] };
                    let outcome = match (verb, name.as_str()) {
                        // A stopping agent drops it unanswered.
                        (Verb::Confirm | Verb::Unfence, _) => continue,
                        (_, "c") => Outcome::Refused { message: "c is healthy".to_owned() },
                        (Verb::Fence, "b") => accepted("fencing b"),
                        (Verb::Stop | Verb::Start, "db") | (Verb::Disarm | Verb::Arm, "") | (_, "b") => {
                            accepted("done")
                        }
                        (Verb::Stop | Verb::Start, _) => known("db"),
                        _ => Outcome::UnknownHost { known: vec!["a".to_owned(), "b".to_owned()] },
                    };
                    drop(order.reply.send(outcome));
                }
            }
        }
    });
    tells
}

/// An agent at a socket in `dir`, for as long as the test's process lives.
pub(crate) fn agent(dir: &TempDir) -> PathBuf {
    let path = dir.path().join("agent.sock");
    let (bound, wait) = std::sync::mpsc::channel();
    let (socket, journal) = (path.clone(), dir.path().to_owned());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (requests, receiver) = mpsc::channel(REQUESTS);
            let _told = run_loop(receiver);
            let listener = bind(&socket).unwrap();
            bound.send(()).unwrap();
            serve(listener, requests, journal, Default::default(), Default::default()).await;
        });
    });
    wait.recv().expect("the agent of the test did not start");
    path
}

fn shared() -> (Shared, mpsc::Receiver<ApiRequest>) {
    let (requests, receiver) = mpsc::channel(REQUESTS);
    (
        Shared {
            counters: Default::default(),
            health: Default::default(),
            requests,
            journal: PathBuf::from("/nonexistent"),
        },
        receiver,
    )
}

async fn call(
    shared: &Shared,
    caller: Caller,
    method: Method,
    path: &str,
    body: &str,
) -> (StatusCode, String) {
    use http_body_util::BodyExt;
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    let request = Request::builder().method(method).uri(path).body(body).unwrap();
    let (head, body) = respond(request, caller, shared).await.into_parts();
    (head.status, String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

#[test]
fn an_operator_orders_and_a_reader_reads() {
    run(async {
        let (shared, receiver) = shared();
        let mut told = run_loop(receiver);
        let (code, body) =
            call(&shared, Caller { uid: 1000, pid: None }, Method::GET, "/v1/status", "").await;
        assert_eq!(code, StatusCode::OK);
        assert_eq!(serde_json::from_str::<Status>(&body).unwrap(), status());
        let order = r#"{"host":"b","reason":" disk on fire "}"#;
        let (code, body) = call(&shared, ROOT, Method::POST, "/v1/fence", order).await;
        assert_eq!(
            (code, body.as_str()),
            (StatusCode::ACCEPTED, "{\"outcome\":\"accepted\",\"message\":\"fencing b\"}\n")
        );
        assert_eq!(told.recv().await.unwrap(), "Fence b for 0 because disk on fire by root (process 7)");
        let order = |host: &str| format!("{{\"host\":\"{host}\",\"reason\":\"x\"}}");
        assert_eq!(call(&shared, ROOT, Method::POST, "/v1/fence", &order("c")).await.0, StatusCode::CONFLICT);
        assert_eq!(
            call(&shared, ROOT, Method::POST, "/v1/fence", &order("q")).await.0,
            StatusCode::NOT_FOUND
        );
        // The run loop above drops a `confirm` unanswered, as a stopping agent does.
        let (code, body) = call(&shared, ROOT, Method::POST, "/v1/confirm", &order("b")).await;
        assert_eq!(
            (code, body.as_str()),
            (StatusCode::SERVICE_UNAVAILABLE, "{\"error\":\"the agent is stopping\"}\n")
        );
    });
}

/// SAFE-7: who may not order changes nothing; the run loop does not even hear of it.
#[test]
fn only_root_orders() {
    run(async {
        let (shared, mut receiver) = shared();
        let order = r#"{"host":"b","reason":"x"}"#;
        for path in [
            "/v1/fence",
            "/v1/unfence",
            "/v1/confirm",
            "/v1/disarm",
            "/v1/arm",
            "/v1/host/drain",
            "/v1/host/undrain",
            "/v1/maintenance/on",
            "/v1/maintenance/off",
            "/v1/workload/stop",
            "/v1/workload/start",
        ] {
            let (code, body) =
                call(&shared, Caller { uid: 1000, pid: Some(9) }, Method::POST, path, order).await;
            assert_eq!(code, StatusCode::FORBIDDEN);
            assert_eq!(body, "{\"error\":\"only root may order, and this is uid 1000 (process 9)\"}\n");
        }
        assert!(receiver.try_recv().is_err());
    });
}

#[test]
fn what_makes_no_sense_is_refused_before_the_run_loop() {
    run(async {
        let (shared, mut receiver) = shared();
        let long = format!(r#"{{"host":"b","reason":"{}"}}"#, "x".repeat(501));
        let huge = format!(r#"{{"host":"b","reason":"{}"}}"#, "x".repeat(5000));
        for (method, path, body, code) in [
            (Method::GET, "/", "", StatusCode::NOT_FOUND),
            (Method::GET, "/v1/fence", "", StatusCode::METHOD_NOT_ALLOWED),
            (Method::POST, "/v1/status", "", StatusCode::METHOD_NOT_ALLOWED),
            (Method::POST, "/v1/fence", "", StatusCode::BAD_REQUEST),
            (Method::POST, "/v1/fence", "[]", StatusCode::BAD_REQUEST),
            (Method::POST, "/v1/fence", r#"{"host":"b"}"#, StatusCode::BAD_REQUEST),
            (Method::POST, "/v1/fence", r#"{"host":"b","reason":"x","force":true}"#, StatusCode::BAD_REQUEST),
            (
                Method::POST,
                "/v1/fence",
                r#"{"host":"b","reason":"x","statement":"y"}"#,
                StatusCode::BAD_REQUEST,
            ),
            (Method::POST, "/v1/fence", r#"{"host":"b","reason":" "}"#, StatusCode::BAD_REQUEST),
            (Method::POST, "/v1/fence", r#"{"host":"b","reason":"a\nb"}"#, StatusCode::BAD_REQUEST),
            (Method::POST, "/v1/fence", r#"{"host":"../b","reason":"x"}"#, StatusCode::BAD_REQUEST),
            (Method::POST, "/v1/fence", &long, StatusCode::BAD_REQUEST),
            (Method::POST, "/v1/fence", &huge, StatusCode::PAYLOAD_TOO_LARGE),
            (Method::POST, "/v1/disarm", r#"{"length_ms":0,"reason":"x"}"#, StatusCode::BAD_REQUEST),
            (Method::POST, "/v1/arm", r#"{"length_ms":5,"reason":"x"}"#, StatusCode::BAD_REQUEST),
            (Method::POST, "/v1/disarm", r#"{"length_ms":-5,"reason":"x"}"#, StatusCode::BAD_REQUEST),
            (Method::POST, "/v1/disarm", r#"{"length_ms":5,"reason":" "}"#, StatusCode::BAD_REQUEST),
            (
                Method::POST,
                "/v1/disarm",
                r#"{"host":"b","length_ms":5,"reason":"x"}"#,
                StatusCode::BAD_REQUEST,
            ),
            (Method::POST, "/v1/maintenance/on", r#"{"host":"b","reason":"x"}"#, StatusCode::BAD_REQUEST),
            (
                Method::POST,
                "/v1/maintenance/off",
                r#"{"host":"b","reason":"x","length_ms":5}"#,
                StatusCode::BAD_REQUEST,
            ),
            (Method::GET, "/v1/why?host=..%2f", "", StatusCode::BAD_REQUEST),
            (Method::GET, "/v1/why?host=b&x=y", "", StatusCode::BAD_REQUEST),
            (Method::GET, "/v1/why", "", StatusCode::INTERNAL_SERVER_ERROR),
        ] {
            let (said, body) = call(&shared, ROOT, method.clone(), path, body).await;
            assert_eq!(said, code, "{method} {path}: {body}");
            assert!(body.starts_with("{\"error\":\""), "{method} {path}: {body}");
        }
        assert!(receiver.try_recv().is_err());
    });
}

#[test]
fn a_busy_agent_says_so() {
    run(async {
        let (shared, _receiver) = shared();
        for _ in 0..REQUESTS {
            let (reply, _) = tokio::sync::oneshot::channel();
            shared.requests.try_send(ApiRequest::Status { reply }).unwrap();
        }
        let (code, body) = call(&shared, ROOT, Method::GET, "/healthz", "").await;
        assert_eq!(
            (code, body.as_str()),
            (StatusCode::SERVICE_UNAVAILABLE, "{\"error\":\"the agent is busy; ask again\"}\n")
        );
    });
}

#[test]
fn monitoring_gets_health_readiness_and_metrics() {
    run(async {
        let (shared, receiver) = shared();
        let _told = run_loop(receiver);
        assert_eq!(call(&shared, ROOT, Method::GET, "/healthz", "").await, (StatusCode::OK, "ok\n".into()));
        assert_eq!(call(&shared, ROOT, Method::GET, "/ready", "").await, (StatusCode::OK, "ready\n".into()));
        let (_, text) = call(&shared, ROOT, Method::GET, "/metrics", "").await;
        for line in [
            "# TYPE palisade_quorate gauge",
            "palisade_quorate 1",
            "palisade_host_state{host=\"b\",state=\"dead\"} 1",
            "palisade_host_heard_seconds{host=\"b\"} 1.234",
            "palisade_workload_running{workload=\"db\"} 1",
            "palisade_witness_proven_seconds 0.350",
            "palisade_packets_dropped_total{reason=\"forged\"} 0",
        ] {
            assert!(text.lines().any(|said| said == line), "no {line:?} in:\n{text}");
        }
        assert!(!text.contains("palisade_fence_path"), "a metric without a value is left out:\n{text}");
    });
}

/// Through the socket, with the command line's own client: the file's mode, the kernel's word on who asks, garbage.
#[test]
fn the_socket_serves_and_outlives_garbage() {
    let dir = TempDir::new();
    let path = dir.path().join("agent.sock");
    run(async {
        // What a dead agent left behind is no obstacle.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listener = bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        let error = bind(&path).unwrap_err();
        assert!(error.to_string().contains("another agent answers here"), "{error}");
        let (requests, receiver) = mpsc::channel(REQUESTS);
        let mut told = run_loop(receiver);
        tokio::spawn(serve(
            listener,
            requests,
            dir.path().to_owned(),
            Default::default(),
            Default::default(),
        ));
        let answers = tokio::task::spawn_blocking(move || {
            for garbage in [
                &b"\0\xff\0\xff\r\n\r\n"[..],
                b"GET",
                &[b'A'; 100_000],
                b"POST /v1/fence HTTP/1.1\r\n\r\n",
                b"",
            ] {
                let mut stream = UnixStream::connect(&path).unwrap();
                // It may hang up in the middle of this.
                drop(stream.write_all(garbage).and_then(|()| stream.shutdown(std::net::Shutdown::Write)));
                drop(stream.read_to_end(&mut Vec::new()));
            }
            let order = br#"{"host":"b","reason":"x"}"#;
            (
                client::ask(&path, "/v1/status", None).unwrap(),
                client::ask(&path, "/v1/fence", Some(order)).unwrap(),
            )
        });
        let (seen, fenced) = answers.await.unwrap();
        assert_eq!(serde_json::from_slice::<Status>(&seen.body).unwrap(), status());
        assert_eq!(fenced.status, 202, "this test needs root");
        let expected = format!("Fence b for 0 because x by root (process {})", std::process::id());
        assert_eq!(told.recv().await.unwrap(), expected);
    });
}

/// With curl, as people look; and no order gets in this way.
#[test]
fn safe_7_monitoring_over_tcp_reads_and_orders_nothing() {
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (requests, receiver) = mpsc::channel(REQUESTS);
        let mut told = run_loop(receiver);
        tokio::spawn(super::server::answer_monitoring(
            listener,
            requests,
            Default::default(),
            Default::default(),
        ));
        let curl = move |arguments: &[&str], path: &str| {
            let mut command = tokio::process::Command::new("curl");
            command.args(["--silent", "--write-out", " %{http_code}"]).args(arguments);
            let output = command.arg(format!("http://127.0.0.1:{port}{path}")).output();
            async { String::from_utf8(output.await.expect("curl is not installed").stdout).unwrap() }
        };
        assert_eq!(curl(&[], "/healthz").await, "ok\n 200");
        assert_eq!(curl(&[], "/ready").await, "ready\n 200");
        let text = curl(&[], "/metrics").await;
        assert!(text.contains("\npalisade_quorum_margin 0\n"), "{text}");
        let text = curl(&[], "/metrics/global").await;
        let global: serde_json::Value = serde_json::from_str(text.strip_suffix(" 200").unwrap()).unwrap();
        assert_eq!((&global["schema"], &global["quorum_margin"]), (&1.into(), &0.into()), "{text}");
        assert_eq!(global["readiness"]["parts"][0]["part"], "quorum");
        let order = ["--data", r#"{"host":"b","reason":"x"}"#];
        for path in ["/v1/fence", "/v1/confirm", "/v1/unfence", "/v1/workload/stop", "/v1/workload/start"] {
            assert!(curl(&order, path).await.ends_with(" 404"), "{path}");
        }
        for path in ["/v1/status", "/v1/why", "/"] {
            assert!(curl(&[], path).await.ends_with(" 404"), "{path}");
        }
        assert!(curl(&order, "/metrics").await.ends_with(" 405"));
        assert!(told.try_recv().is_err(), "an order came through");
    });
}

/// promtool knows the conventions: names, units, help, types.
#[test]
fn promtool_finds_nothing_to_say_about_the_metrics() {
    let text = super::metrics::prometheus(&status(), &Default::default()) + &Counters::default().prometheus();
    let mut promtool = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("promtool is not installed: apt-get install prometheus");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn a_client_without_an_agent_is_told_what_to_do() {
    let dir = TempDir::new();
    let said = client::ask(&dir.path().join("agent.sock"), "/v1/status", None).unwrap_err().to_string();
    assert!(said.contains("no agent runs on this host; start it with `systemctl start palisade`"), "{said}");
    assert!(std::fs::metadata(dir.path()).unwrap().uid() == 0, "this test needs root");
}

proptest! {
    #[test]
    fn no_answer_of_a_stranger_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(client::parse(&bytes));
        let mut answer = b"HTTP/1.1 ".to_vec();
        answer.extend(bytes);
        answer.extend(b"\r\n\r\n");
        drop(client::parse(&answer));
    }
}
