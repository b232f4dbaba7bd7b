use std::path::Path;

use palisade_core::config::Verb;

use super::*;
use crate::afar::judge::Sound;
use crate::afar::written::{PURPOSE, Written, split};
use crate::order::Wanted;
use crate::statement::{self, tests as keys};
use crate::testing::{TempDir, run};

const TEXT: &str = "palisade order, version 1\ncluster: edge-7\nto: h0\norder: fence\nabout: h1\nlength: -\nreason: its BMC burnt\n\
                    nonce: 000102030405060708090a0b0c0d0e0f\nmade: 2026-11-01T07:00:00Z\nexpires: 2026-11-01T07:05:00Z\n";

fn at(time: &str) -> SystemTime {
    humantime::parse_rfc3339(&format!("2026-11-01T{time}Z")).unwrap()
}

fn written() -> Written {
    let [cluster, to, about, reason, nonce] =
        ["edge-7", "h0", "h1", "its BMC burnt", "000102030405060708090a0b0c0d0e0f"].map(str::to_owned);
    let (made, expires) = (at("07:00:00"), at("07:05:00"));
    Written { cluster, to, verb: Verb::Fence, about, length_ms: 0, reason, nonce, made, expires }
}

/// Two operators, of whom a fence and a disarming take both.
struct People {
    dir: TempDir,
    cluster: Arc<Cluster>,
}

impl People {
    fn new(two_operators: &str) -> Self {
        let dir = TempDir::new();
        let known = ["anna", "bert"].map(|name| (name, keys::key(&dir, name, "ed25519")));
        keys::key(&dir, "mallory", "ed25519");
        let mut file = keys::configuration(&known.each_ref().map(|(name, key)| (*name, key.as_str())));
        file.push_str(&format!(
            "[telemetry]\nbroker = \"mqtt://127.0.0.1:1\"\n[orders]\ntwo_operators = [{two_operators}]\n"
        ));
        let cluster = Cluster::parse(&file, "test").unwrap_or_else(|error| panic!("{error}"));
        Self { dir, cluster: Arc::new(cluster) }
    }

    fn signed(&self, text: &str, by: &[&str]) -> String {
        let signatures = by.iter().map(|name| keys::sign(&self.dir, name, PURPOSE, text));
        text.to_owned() + &signatures.collect::<String>()
    }

    fn judge(&self, message: &str, now: &str) -> Judged {
        judge(message.as_bytes(), &self.cluster, "h0", at(now))
    }

    fn refusal(&self, message: &str, now: &str) -> Refusal {
        match self.judge(message, now) {
            Judged::Refused { refusal, .. } => refusal,
            other @ (Judged::NotOurs | Judged::Sound(_)) => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_text_is_written_and_read_letter_by_letter() {
    assert_eq!(written().text(), TEXT);
    assert_eq!(Written::parse(TEXT), Ok(written()));
    assert_eq!(written().words(), "fence h1 (its BMC burnt)");
    let long = Written { verb: Verb::Disarm, about: String::new(), length_ms: 5_400_000, ..written() };
    assert_eq!(Written::parse(&long.text()), Ok(long.clone()));
    assert_eq!(long.words(), "disarm for 1h 30m (its BMC burnt)");
    for (from, to, line) in [
        ("version 1", "version 2", 1),
        ("cluster: edge-7\n", "", 2),
        ("to: h0", "to:", 3),
        ("order: fence", "order: confirm", 4),
        ("order: fence", "order: Fence", 4),
        ("length: -", "length: soon", 6),
        ("length: -", "length: 60s", 11),
        ("reason: its", "reason: its\u{1b}[2J", 7),
        ("0e0f", "0e0", 8),
        ("0e0f", "0E0F", 8),
        ("07:00:00Z", "noon", 9),
        ("07:05:00Z", "07:05:00.5Z", 11),
        ("07:05:00Z\n", "07:05:00Z", 11),
        ("07:05:00Z\n", "07:05:00Z\nmore\n", 11),
    ] {
        assert_eq!(Written::parse(&TEXT.replacen(from, to, 1)), Err(line), "{from:?} {to:?}");
    }
}

/// SAFE-7
#[test]
fn what_an_operator_signed_just_now_for_this_host_is_taken() {
    let people = People::new("");
    let message = people.signed(TEXT, &["anna"]);
    for now in ["06:59:00", "07:00:00", "07:05:00"] {
        let Judged::Sound(Sound { wanted, by, text, .. }) = people.judge(&message, now) else {
            panic!("{now}")
        };
        let name = "h1".to_owned();
        assert_eq!(
            wanted,
            Wanted { verb: Verb::Fence, name, length_ms: 0, reason: "its BMC burnt".to_owned() }
        );
        assert_eq!((by.as_str(), text.as_str()), ("anna from afar", message.as_str()));
    }
    let elsewhere = people.signed(&TEXT.replacen("to: h0", "to: h1", 1), &["anna"]);
    assert_eq!(people.judge(&elsewhere, "07:01:00"), Judged::NotOurs);
    assert_eq!(split(&message).1.len(), 1);
}

/// SAFE-7: unsigned, wrongly signed, altered, of another purpose, another cluster, too old, too young: nothing of it is done.
#[test]
fn everything_else_is_refused_by_name() {
    let people = People::new("");
    let sound = people.signed(TEXT, &["anna"]);
    let now = "07:01:00";
    assert_eq!(people.refusal(TEXT, now), Refusal::Unsigned);
    assert_eq!(people.refusal("", now), Refusal::NoOrder { line: 1 });
    assert_eq!(people.refusal(&"x".repeat(7_000), now), Refusal::NoOrder { line: 0 });
    let judged = judge(b"\xff", &people.cluster, "h0", at(now));
    assert!(matches!(judged, Judged::Refused { refusal: Refusal::NoOrder { line: 0 }, .. }));
    let forged = sound.replacen("about: h1", "about: h0", 1);
    let anna = Refusal::Signature(statement::Refusal::Forged { operator: "anna".to_owned() });
    assert_eq!(people.refusal(&forged, now), anna);
    let stranger = people.signed(TEXT, &["mallory"]);
    assert_eq!(people.refusal(&stranger, now), Refusal::Signature(statement::Refusal::NoOperator));
    // One good signature does not carry a bad one.
    let both = people.signed(TEXT, &["anna", "mallory"]);
    assert_eq!(people.refusal(&both, now), Refusal::Signature(statement::Refusal::NoOperator));
    let purpose = TEXT.to_owned() + &keys::sign(&people.dir, "anna", statement::NAMESPACE, TEXT);
    assert!(people.refusal(&purpose, now).to_string().contains("made for another purpose"));
    let cut = &sound[..sound.len() - 40];
    assert!(matches!(people.refusal(cut, now), Refusal::Signature(statement::Refusal::NoSignature { .. })));
    let elsewhere = people.signed(&TEXT.replacen("edge-7", "edge-8", 1), &["anna"]);
    assert_eq!(people.refusal(&elsewhere, now), Refusal::OtherCluster { says: "edge-8".to_owned() });
    let nobody = people.signed(&TEXT.replacen("about: h1", "about: -", 1), &["anna"]);
    assert!(matches!(people.refusal(&nobody, now), Refusal::Incomplete(_)));
    let forever = people.signed(&TEXT.replacen("07:05:00", "07:11:00", 1), &["anna"]);
    assert_eq!(people.refusal(&forever, now), Refusal::CountsTooLong);
    let backwards = people.signed(&TEXT.replacen("07:05:00", "06:59:00", 1), &["anna"]);
    assert!(matches!(people.refusal(&backwards, now), Refusal::Expired { .. }));
    // By the host's clock, which may be wrong by an hour: nothing is done, and that is why.
    for (now, says) in [
        ("07:05:01", "too old, or one of the clocks is wrong"),
        ("08:01:00", "too old, or one of the clocks is wrong"),
        ("06:58:59", "made at 2026-11-01T07:00:00Z, and it is 2026-11-01T06:58:59Z here"),
        ("06:01:00", "one of the clocks is wrong; nothing is done by it"),
    ] {
        let refusal = people.refusal(&sound, now).to_string();
        assert!(refusal.contains(says), "{now}: {refusal}");
    }
    let Judged::Refused { by, text, .. } = people.judge(&sound, "08:01:00") else { panic!() };
    assert_eq!(
        (by.as_deref(), text),
        (Some("anna from afar"), Some(sound.clone())),
        "it is on the record whole"
    );
    let Judged::Refused { by, text, written, .. } = people.judge(&stranger, now) else { panic!() };
    assert!(
        by.is_none() && text.is_none() && written.is_some(),
        "of a stranger's nothing is kept but what it asks"
    );
}

/// SAFE-7: two different people, where the policy says so.
#[test]
fn two_operators_are_two() {
    let people = People::new("\"fence\", \"disarm\"");
    let now = "07:01:00";
    let too_few = Refusal::TooFew { by: "anna".to_owned(), verb: Verb::Fence };
    assert_eq!(people.refusal(&people.signed(TEXT, &["anna"]), now), too_few);
    assert_eq!(people.refusal(&people.signed(TEXT, &["anna", "anna"]), now), too_few, "and not one twice");
    let Judged::Sound(both) = people.judge(&people.signed(TEXT, &["anna", "bert"]), now) else { panic!() };
    assert_eq!(both.by, "anna and bert from afar");
    let drain = TEXT.replacen("order: fence", "order: drain", 1);
    assert!(
        matches!(people.judge(&people.signed(&drain, &["bert"]), now), Judged::Sound(_)),
        "others take one"
    );
}

fn path(dir: &TempDir, name: &str) -> &'static Path {
    Box::leak(dir.path().join(name).into_boxed_path())
}

fn numbered(nonce: u32, made: &str) -> Written {
    let made = at(made);
    Written { nonce: format!("{nonce:032x}"), made, expires: made + Duration::from_secs(300), ..written() }
}

/// SAFE-7: over a restart of the agent, and whatever its clock does.
#[test]
fn an_order_is_taken_once() {
    let dir = TempDir::new();
    let path = path(&dir, "orders");
    let mut used = Used::new(path);
    let now = at("07:01:00");
    used.note(&numbered(1, "07:00:00"), now).unwrap();
    assert_eq!(used.note(&numbered(1, "07:00:00"), now), Err(Refusal::Replayed));
    used.note(&numbered(2, "07:01:30"), now).unwrap();
    let mut again = Used::new(path);
    for nonce in [1, 2] {
        assert_eq!(again.note(&numbered(nonce, "07:00:00"), now), Err(Refusal::Replayed));
    }
    // A clock that runs away and comes back makes it forget nothing that could still count.
    assert_eq!(again.note(&numbered(1, "07:00:00"), at("09:00:00")), Err(Refusal::Replayed));
    again.note(&numbered(3, "07:30:00"), at("07:30:00")).unwrap();
    let kept = std::fs::read_to_string(path).unwrap();
    assert!(!kept.contains(&format!("{:032x}", 1)) && kept.contains(&format!("{:032x}", 3)), "{kept}");
    let back = again.note(&numbered(1, "07:00:00"), at("07:01:00")).unwrap_err();
    assert!(matches!(back, Refusal::ClockWentBack { .. }), "{back}");
}

#[test]
fn an_order_that_cannot_be_noted_is_not_taken() {
    let dir = TempDir::new();
    let now = at("07:01:00");
    let mut nowhere = Used::new(path(&dir, "gone/orders"));
    let error = nowhere.note(&numbered(1, "07:00:00"), now).unwrap_err().to_string();
    assert!(error.contains("could be taken twice") && error.contains("gone/orders"), "{error}");
    let torn = path(&dir, "torn");
    std::fs::write(torn, "{\"newest_ms\":1,").unwrap();
    let error = Used::new(torn).note(&numbered(1, "07:00:00"), now).unwrap_err().to_string();
    assert!(error.contains("torn cannot be read"), "{error}");
    let many = path(&dir, "many");
    let mut used = Used::new(many);
    for nonce in 0..256 {
        used.note(&numbered(nonce, "07:00:00"), now).unwrap();
    }
    let full = used.note(&numbered(256, "07:00:00"), now).unwrap_err();
    assert!(full.to_string().contains("256 orders were taken within minutes"), "{full}");
}

/// What the run loop of the test was handed.
type Handed = mpsc::UnboundedReceiver<(Result<Wanted, String>, String)>;

/// Takes these messages; what was handed to the run loop, what was said back, and the counters.
fn take(people: &People, messages: Vec<String>) -> (Handed, Vec<Answer>, Arc<Counters>) {
    run(async {
        let (requests, mut asked) = mpsc::channel(4);
        let (out, mut said) = mpsc::channel(256);
        let (hand, handed) = mpsc::unbounded_channel();
        let counters = Arc::new(Counters::default());
        let orders = Orders {
            cluster: people.cluster.clone(),
            host: "h0".to_owned(),
            used: Arc::new(Mutex::new(Used::new(path(&people.dir, "orders")))),
            requests,
            out: out.downgrade(),
            counters: counters.clone(),
        };
        let (send, heard) = mpsc::channel(messages.len().max(1));
        for message in messages {
            send.send(message.into_bytes()).await.unwrap();
        }
        drop(send);
        let run_loop = async {
            while let Some(ApiRequest::FromAfar(FromAfar { wanted, by, reply, .. })) = asked.recv().await {
                let outcome = match &wanted {
                    Ok(_) => Outcome::Accepted { message: "the fence of h1 has begun".to_owned() },
                    Err(why) => Outcome::Refused { message: why.clone() },
                };
                hand.send((wanted, by)).unwrap();
                reply.send(outcome).unwrap();
            }
        };
        tokio::join!(orders.run(heard), run_loop);
        drop((out, hand));
        let mut answers = Vec::new();
        while let Ok(Tell::Order(answer)) = said.try_recv() {
            answers.push(serde_json::from_slice(&answer).unwrap());
        }
        (handed, answers, counters)
    })
}

fn fresh() -> String {
    let made = SystemTime::now();
    Written { made, expires: made + Duration::from_secs(300), ..written() }.text()
}

#[test]
fn an_order_is_done_once_and_each_answer_says_why() {
    let people = People::new("");
    let message = people.signed(&fresh(), &["anna"]);
    let old = people.signed(TEXT, &["bert"]);
    let (mut handed, answers, counters) = take(&people, vec![message.clone(), message, old, fresh()]);
    let taken = handed.try_recv().unwrap();
    assert!(taken.0.is_ok() && taken.1 == "anna from afar");
    for (why, by) in [
        ("this very order was taken before", "anna from afar"),
        ("counted until", "bert from afar"),
        ("nobody has signed", "somebody from afar"),
    ] {
        let (wanted, who) = handed.try_recv().unwrap();
        let refused = wanted.unwrap_err();
        assert!(refused.contains(why) && who == by, "{refused} {who}");
    }
    assert!(handed.try_recv().is_err());
    let said: Vec<(bool, &str)> =
        answers.iter().map(|answer| (answer.accepted, answer.message.as_str())).collect();
    assert_eq!(said[0], (true, "the fence of h1 has begun"));
    assert!(said[1..].iter().all(|(accepted, _)| !accepted) && said.len() == 4, "{said:?}");
    assert!(answers.iter().all(|answer| answer.nonce == written().nonce && answer.schema == SCHEMA));
    assert_eq!(counters.orders_taken.value(), 1);
    for why in [OrderRefused::Replayed, OrderRefused::Expired, OrderRefused::Unsigned] {
        assert_eq!(counters.refused_orders(why), 1, "{why:?}");
    }
}

/// SAFE-12: who may write to the broker fills no journal, and everything is counted.
#[test]
fn a_flood_is_counted_and_told_a_few_times() {
    let people = People::new("");
    let (mut handed, answers, counters) = take(&people, vec![fresh(); 200]);
    let mut told = 0;
    while handed.try_recv().is_ok() {
        told += 1;
    }
    assert_eq!((told, answers.len()), (16, 16));
    assert_eq!(counters.refused_orders(OrderRefused::Unsigned), 200);
}

#[test]
fn refusals_are_told_again_after_a_while_with_how_many_there_were() {
    let begin = Instant::now();
    let mut refusals = Refusals { left: 1, since: begin, untold: 0 };
    assert_eq!(refusals.next(begin), Some(0));
    assert_eq!([(); 3].map(|()| refusals.next(begin)), [None; 3]);
    assert_eq!(refusals.next(begin + Duration::from_secs(11)), Some(3));
}
