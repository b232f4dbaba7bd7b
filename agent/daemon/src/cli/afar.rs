//! `palisade order make`, `sign` and `send`: an operator's order from afar.

use std::cell::Cell;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use palisade_core::config::Verb;
use ring::rand::{SecureRandom as _, SystemRandom};
use rumqttc::{AsyncClient, Publish, QoS};
use tokio::sync::mpsc;

use super::{Ended, Failure, MakeOptions, audit, order, print, wish};
use crate::afar::written::{MESSAGE_MAX, PURPOSE, Written, split};
use crate::afar::{Answer, COUNTS_MAX};
use crate::mqtt::{self, Session, Settings, Talk};
use crate::order::Wanted;
use crate::run::telemetry_access;

/// A broker that takes longer to be noticed is no way for an order.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

pub(super) fn make(options: &MakeOptions) -> Ended {
    let MakeOptions { order: name, about, cluster, to, length, counts, reason, key, out } = options;
    let verb = verb(name)?;
    let length_ms = length.as_deref().map_or(Ok(0), wish::milliseconds)?;
    let counts = Duration::from_secs(wish::milliseconds(counts)?.div_ceil(1000));
    if counts > COUNTS_MAX {
        let most = COUNTS_MAX.as_secs() / 60;
        return Err(Failure::usage(format!("no order counts for longer than {most} min")));
    }
    let about = about.clone().unwrap_or_default();
    let wanted = Wanted { verb, name: about, length_ms, reason: reason.clone() };
    let Wanted { name: about, reason, .. } = wanted.checked().map_err(Failure::usage)?;
    let mut nonce = [0; 16];
    SystemRandom::new().fill(&mut nonce).map_err(|_| Failure::failed("the kernel gives no random bytes"))?;
    let made = whole_seconds(SystemTime::now());
    let written = Written {
        cluster: cluster.clone(),
        to: to.clone(),
        verb,
        about,
        length_ms,
        reason,
        nonce: nonce.iter().map(|byte| format!("{byte:02x}")).collect(),
        made,
        expires: made + counts,
    };
    let text = written.text();
    if Written::parse(&text).as_ref() != Ok(&written) {
        return Err(Failure::usage("a name is empty or has a character that no name has"));
    }
    let signature = order::sign(key, PURPOSE, &text)?;
    let message = format!("{text}{signature}");
    match out {
        None => print(&message),
        Some(out) => audit::write_new(out, message.as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn sign(file: &Path, key: &Path) -> Ended {
    let (message, _) = read(file)?;
    let (text, signatures) = split(&message);
    // What one signs is what one has seen.
    eprint!("{text}");
    let signature = order::sign(key, PURPOSE, text)?;
    if signatures.iter().any(|other| other.trim() == signature.trim()) {
        return Err(Failure::failed("this key has signed it already"));
    }
    let failed = |error| Failure::failed(format!("{}: {error}", file.display()));
    let mut file = OpenOptions::new().append(true).open(file).map_err(failed)?;
    file.write_all(signature.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn send(file: &Path, config: &Path, wait: Duration) -> Ended {
    let (message, written) = read(file)?;
    let cluster = super::configuration(config)?;
    if cluster.name() != written.cluster {
        let (says, here) = (&written.cluster, cluster.name());
        return Err(Failure::usage(format!(
            "the order is for the cluster `{says}`, and {} is of `{here}`",
            config.display()
        )));
    }
    let Some(telemetry) = cluster.telemetry() else {
        return Err(Failure::usage(format!(
            "{} names no [telemetry] broker that it could go by",
            config.display()
        )));
    };
    let access = telemetry_access(&cluster).map_err(Failure::failed)?;
    let settings = Settings {
        broker: telemetry.broker().clone(),
        client_id: format!("palisade-{}-order-{}", cluster.name(), written.nonce),
        access,
        keep_alive: KEEP_ALIVE,
        last_will: None,
        queue: 4,
        packet_max: 2 * MESSAGE_MAX,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(error.to_string()))?;
    let (answers, mut answered) = mpsc::channel(1);
    let sent = Rc::new(Cell::new(false));
    let talk = Sending {
        command: format!("palisade/{}/command", cluster.name()),
        answer: format!("palisade/{}/host/{}/order", cluster.name(), written.to),
        nonce: written.nonce.clone(),
        message,
        sent: sent.clone(),
        answers,
    };
    let session = Session::default();
    let (open, outbox) = mpsc::channel(1);
    let answer = runtime.block_on(async {
        tokio::select! {
            answer = tokio::time::timeout(wait, answered.recv()) => answer.ok().flatten(),
            () = mqtt::keep(settings, &session, outbox, talk) => None,
        }
    });
    drop(open);
    match answer {
        Some(Answer { accepted: true, message, .. }) => {
            print(&format!("{}: {message}\n", written.to));
            Ok(ExitCode::SUCCESS)
        }
        Some(Answer { message, .. }) => Err(Failure::failed(format!("{} refused: {message}", written.to))),
        None => Err(Failure::failed(silence(&written, sent.get(), session.trouble(), wait))),
    }
}

/// What is known when nobody has answered.
fn silence(written: &Written, sent: bool, trouble: Option<String>, wait: Duration) -> String {
    let to = &written.to;
    match (sent, trouble) {
        (true, None) => format!(
            "{to} has not answered within {} s: it is down, has no session with the broker, or takes no orders ([orders]); \
             whether it has the order its journal tells, and until then none is to be made anew",
            wait.as_secs()
        ),
        (true, Some(trouble)) => {
            format!("the order went out, and then the broker was lost: {trouble}; {to} may have it")
        }
        (false, trouble) => {
            format!(
                "the order did not go out: {}",
                trouble.unwrap_or_else(|| "the broker was not reached".to_owned())
            )
        }
    }
}

fn read(file: &Path) -> Result<(String, Written), Failure> {
    let failed = |what: String| Failure::failed(format!("{}: {what}", file.display()));
    let message = fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    let (text, _) = split(&message);
    let written = Written::parse(text).map_err(|line| {
        failed(format!("line {line} is not what it should be in an order: `palisade order make` writes them"))
    })?;
    Ok((message, written))
}

fn verb(name: &str) -> Result<Verb, Failure> {
    let found = Verb::FROM_AFAR.iter().find(|(known, _)| *known == name);
    found.map(|(_, verb)| *verb).ok_or_else(|| {
        let known: Vec<&str> = Verb::FROM_AFAR.iter().map(|(known, _)| *known).collect();
        Failure::usage(format!(
            "`{name}` is no order that can be given from afar; these can: {}",
            known.join(", ")
        ))
    })
}

fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

/// One order on its way, and its answer.
struct Sending {
    command: String,
    answer: String,
    nonce: String,
    message: String,
    /// Sent once: a second one would be answered as taken before.
    sent: Rc<Cell<bool>>,
    answers: mpsc::Sender<Answer>,
}

impl Talk for Sending {
    type Out = ();

    fn topic(&self) -> Option<&str> {
        Some(&self.answer)
    }

    fn connected(&mut self, client: &AsyncClient) {
        if !self.sent.get() {
            let published = client.try_publish(&*self.command, QoS::AtLeastOnce, false, self.message.clone());
            self.sent.set(published.is_ok());
        }
    }

    fn say(&mut self, (): (), _: &AsyncClient) {}

    fn hear(&mut self, publish: Publish) {
        if let Ok(answer) = serde_json::from_slice::<Answer>(&publish.payload)
            && answer.nonce == self.nonce
        {
            drop(self.answers.try_send(answer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::tests as keys;
    use crate::testing::TempDir;

    fn options(dir: &TempDir, order: &str, about: Option<&str>, length: Option<&str>) -> MakeOptions {
        MakeOptions {
            order: order.to_owned(),
            about: about.map(str::to_owned),
            cluster: "edge-7".to_owned(),
            to: "h0".to_owned(),
            length: length.map(str::to_owned),
            counts: "5min".to_owned(),
            reason: "a new board".to_owned(),
            key: dir.path().join("anna"),
            out: Some(dir.path().join("order")),
        }
    }

    #[test]
    fn an_order_is_made_and_signed_by_two() {
        let dir = TempDir::new();
        for name in ["anna", "bert"] {
            keys::key(&dir, name, "ed25519");
        }
        let file = dir.path().join("order");
        make(&options(&dir, "maintenance-on", Some("h1"), Some("2h"))).unwrap();
        let (message, written) = read(&file).unwrap();
        assert_eq!(
            (written.verb, written.length_ms, written.about.as_str()),
            (Verb::MaintenanceOn, 7_200_000, "h1")
        );
        assert_eq!(split(&message).1.len(), 1);
        let again = make(&options(&dir, "arm", None, None)).unwrap_err();
        assert!(again.message.contains("name a new file"), "never over another: {}", again.message);
        sign(&file, &dir.path().join("bert")).unwrap();
        let twice = sign(&file, &dir.path().join("bert")).unwrap_err();
        assert!(twice.message.contains("has signed it already"), "{}", twice.message);
        let (message, same) = read(&file).unwrap();
        assert!(same == written && split(&message).1.len() == 2);
    }

    #[test]
    fn what_makes_no_order_is_a_mistake_of_usage() {
        let dir = TempDir::new();
        for (order, about, length, says) in [
            ("confirm", Some("h1"), None, "is no order that can be given from afar"),
            ("fence", None, None, "the name must be"),
            ("fence", Some("h1"), Some("1h"), "nothing of this lasts"),
            ("disarm", None, None, "for how long"),
            ("disarm", None, Some("soon"), "no length of time"),
            ("arm", Some("h1"), None, "names none"),
        ] {
            let failure = make(&options(&dir, order, about, length)).unwrap_err();
            assert!(failure.status == 2 && failure.message.contains(says), "{order}: {}", failure.message);
        }
        let long = MakeOptions { counts: "11min".to_owned(), ..options(&dir, "arm", None, None) };
        assert!(make(&long).unwrap_err().message.contains("longer than 10 min"));
        let nobody = MakeOptions { to: String::new(), ..options(&dir, "arm", None, None) };
        assert!(make(&nobody).unwrap_err().message.contains("a name is empty"));
    }

    /// A broker that does not answer, and one's own configuration.
    #[test]
    fn an_order_that_does_not_go_out_is_said_to_be_none() {
        let dir = TempDir::new();
        let key = keys::key(&dir, "anna", "ed25519");
        make(&options(&dir, "fence", Some("h1"), None)).unwrap();
        let (file, config) = (dir.path().join("order"), dir.path().join("cluster.toml"));
        let wait = Duration::from_millis(300);
        fs::write(&config, keys::configuration(&[("anna", &key)])).unwrap();
        let failure = send(&file, &config, wait).unwrap_err();
        assert!(failure.message.contains("names no [telemetry] broker"), "{}", failure.message);
        let broker = "[telemetry]\nbroker = \"mqtt://127.0.0.1:1\"\n";
        fs::write(&config, keys::configuration(&[("anna", &key)]) + broker).unwrap();
        let failure = send(&file, &config, wait).unwrap_err();
        assert!(failure.message.starts_with("the order did not go out: "), "{}", failure.message);
        fs::write(&file, "fence h1, please").unwrap();
        let failure = send(&file, &config, wait).unwrap_err();
        assert!(failure.message.contains("line 1 is not what it should be"), "{}", failure.message);
    }
}
