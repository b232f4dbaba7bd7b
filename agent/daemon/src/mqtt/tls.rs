//! How to know a broker, and to be known by it: TLS 1.2 or 1.3 with the configured CA alone. Neither the system's own CAs nor
//! anything less is ever believed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use palisade_core::config::BrokerTls;
use ring::digest;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use crate::secret;

/// Certificates that one file may hold: a chain, or a CA that is being replaced (SAFE-12).
const CERTIFICATES_MAX: usize = 16;

/// What is wrong with the files for TLS with a broker. Says nothing of a key but where it lies (SAFE-6).
#[derive(Debug)]
pub(crate) enum TlsError {
    /// A file cannot be read.
    Read {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It holds no certificate in PEM form, or too many.
    Certificates {
        /// Which one.
        path: PathBuf,
        /// How many it holds.
        found: usize,
    },
    /// One of its certificates is none.
    Certificate {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        error: String,
    },
    /// The key cannot be read.
    Secret(secret::SecretError),
    /// The key is none, or not this certificate's.
    Key {
        /// Where it lies.
        reference: String,
        /// What is wrong.
        error: String,
    },
}

impl std::fmt::Display for TlsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Certificates { path, found } => write!(
                f,
                "{}: {found} certificates in PEM form; there must be 1 to {CERTIFICATES_MAX}",
                path.display()
            ),
            Self::Certificate { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Secret(error) => write!(f, "{error}"),
            Self::Key { reference, error } => write!(f, "the broker's client key, {reference}: {error}"),
        }
    }
}

impl std::error::Error for TlsError {}

/// Reads everything that `tls` names, and takes it into `print`, which tells whether a reload changed any of it.
pub(crate) fn load(tls: &BrokerTls, print: &mut digest::Context) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    let not_a_ca =
        |error: rustls::Error| TlsError::Certificate { path: tls.ca().to_owned(), error: error.to_string() };
    for certificate in certificates(tls.ca(), print)? {
        roots.add(certificate).map_err(not_a_ca)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(not_a_ca)?
        .with_root_certificates(roots);
    let Some((path, reference)) = tls.client() else {
        return Ok(Arc::new(builder.with_no_client_auth()));
    };
    let chain = certificates(path, print)?;
    let secret = secret::load(reference).map_err(TlsError::Secret)?;
    let pem = Zeroizing::new(secret.into_bytes());
    print.update(&pem);
    let bad = |error: String| TlsError::Key { reference: reference.to_string(), error };
    // SAFE-6: the reader's own words may quote the file.
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| bad("it holds no private key in PEM form".to_owned()))?;
    let config = builder.with_client_auth_cert(chain, key).map_err(|error| bad(error.to_string()))?;
    Ok(Arc::new(config))
}

fn certificates(path: &Path, print: &mut digest::Context) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })?;
    print.update(&pem);
    let bad = |error: String| TlsError::Certificate { path: path.to_owned(), error };
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(&pem).map(|found| found.map(CertificateDer::into_owned)).collect();
    let found = found.map_err(|error| bad(error.to_string()))?;
    if !(1..=CERTIFICATES_MAX).contains(&found.len()) {
        return Err(TlsError::Certificates { path: path.to_owned(), found: found.len() });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use palisade_core::config::Cluster;
    use rumqttc::{AsyncClient, Publish};
    use tokio::sync::mpsc;

    use super::*;
    use crate::mqtt::broker::{Broker, Ca, free_port};
    use crate::mqtt::{Access, Session, Settings, Talk, keep};
    use crate::testing::run;

    struct Silent;

    impl Talk for Silent {
        type Out = ();

        fn topic(&self) -> Option<&str> {
            None
        }

        fn connected(&mut self, _: &AsyncClient) {}

        fn say(&mut self, (): (), _: &AsyncClient) {}

        fn hear(&mut self, _: Publish) {}
    }

    /// A configuration that reaches the broker so, as its `[witness]` and as its `[telemetry]`.
    fn cluster(address: &str, tls: &str) -> Cluster {
        let text = format!(
            "[cluster]\nname = \"t\"\nkeys = [ {{ id = 1, file = \"/k\" }} ]\n\
             [witness]\nbroker = \"{address}\"\nkeys = [ {{ id = 1, file = \"/w\" }} ]\n{tls}\
             [telemetry]\nbroker = \"{address}\"\n{tls}\
             [[host]]\nid = 0\nname = \"a\"\nmachine = \"00000001-0000-0000-0000-000000000001\"\nlinks = [\"127.0.0.1:7411\"]\n\
             [[host]]\nid = 1\nname = \"b\"\nmachine = \"00000002-0000-0000-0000-000000000001\"\nlinks = [\"127.0.0.1:7412\"]\n"
        );
        Cluster::parse(&text, "t").unwrap_or_else(|error| panic!("{error}"))
    }

    fn secret(ca: &Ca, name: &str) {
        std::fs::set_permissions(ca.file(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn names(ca: &Ca, client: Option<&str>) -> String {
        let mut text = format!("ca = \"{}\"\n", ca.file("ca.pem").display());
        if let Some(client) = client {
            let (certificate, key) = (ca.file(&format!("{client}.pem")), ca.file(&format!("{client}.key")));
            text += &format!(
                "certificate = \"{}\"\nkey = {{ file = \"{}\" }}\n",
                certificate.display(),
                key.display()
            );
        }
        text
    }

    /// Why the session does not stand; `None`, it does.
    fn outcome(address: &str, tls: &str) -> Option<String> {
        let cluster = cluster(address, tls);
        let broker = cluster.witness().unwrap().broker().clone();
        assert_eq!(Some(&broker), cluster.telemetry().map(|telemetry| telemetry.broker()));
        let mut print = digest::Context::new(&digest::SHA256);
        let tls = broker.tls().map(|tls| load(tls, &mut print).unwrap_or_else(|error| panic!("{error}")));
        let settings = Settings {
            broker,
            client_id: "test".to_owned(),
            access: Access { login: None, tls },
            keep_alive: std::time::Duration::from_secs(5),
            last_will: None,
            queue: 1,
            packet_max: 1024,
        };
        run(async {
            let session = Session::default();
            let (out, outbox) = mpsc::channel(1);
            let watch = async {
                loop {
                    let trouble = session.trouble();
                    // Refused is a broker that is not up yet.
                    let early =
                        |trouble: &String| trouble == "not connected yet" || trouble.contains("refused");
                    if session.is_connected() || trouble.as_ref().is_some_and(|trouble| !early(trouble)) {
                        drop(out);
                        return trouble;
                    }
                    tokio::task::yield_now().await;
                }
            };
            let ((), trouble) = tokio::join!(keep(settings, &session, outbox, Silent), watch);
            trouble
        })
    }

    #[test]
    fn only_the_broker_of_the_ca_is_believed_and_only_a_host_of_the_ca_is_let_in() {
        let (ours, others) = (Ca::new(), Ca::new());
        for ca in [&ours, &others] {
            ca.sign("a", "DNS:a");
            secret(ca, "a.key");
        }
        ours.sign("broker", "IP:127.0.0.1");
        let port = free_port();
        let file = |name: &str| ours.file(name).display().to_string();
        let config = format!(
            "listener {port} 127.0.0.1\nuser root\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n\
             use_identity_as_username true\n",
            file("ca.pem"),
            file("broker.pem"),
            file("broker.key")
        );
        let _broker = Broker::start_as(&config, port);
        let address = format!("mqtts://127.0.0.1:{port}");
        assert_eq!(outcome(&address, &names(&ours, Some("a"))), None, "the right ones on both sides");
        let refused = |address: &str, tls: &str, why: &str| {
            let trouble = outcome(address, tls).unwrap_or_else(|| panic!("let in: {address}"));
            assert!(trouble.contains(why), "{address}: {trouble}");
        };
        refused(&address, &names(&others, Some("a")), "invalid peer certificate");
        refused(&format!("mqtts://localhost:{port}"), &names(&ours, Some("a")), "certificate");
        // The broker refuses: its alert, or a connection that ends.
        refused(&address, &names(&ours, None), "");
        // Never in clear to a port with TLS.
        refused(&format!("mqtt://127.0.0.1:{port}"), "", "");
    }

    #[test]
    fn safe_6_what_cannot_be_used_is_named_and_no_key_is_shown() {
        let ca = Ca::new();
        ca.sign("a", "DNS:a");
        ca.sign("b", "DNS:b");
        ["a.key", "b.key"].iter().for_each(|name| secret(&ca, name));
        let fails = |client: &str, cert: &str| {
            let text = names(&ca, Some(client)).replace(&format!("/{client}.pem"), &format!("/{cert}"));
            let cluster = cluster("mqtts://h", &text);
            let tls = cluster.telemetry().and_then(|telemetry| telemetry.broker().tls().cloned()).unwrap();
            load(&tls, &mut digest::Context::new(&digest::SHA256)).unwrap_err().to_string()
        };
        assert!(fails("a", "b.pem").contains("a.key"), "{}", fails("a", "b.pem"));
        assert!(fails("a", "none.pem").contains("none.pem: No such file"), "{}", fails("a", "none.pem"));
        assert!(fails("a", "a.key").contains("0 certificates"), "{}", fails("a", "a.key"));
        std::fs::write(ca.file("a.key"), "hunter2 is not a key").unwrap();
        let error = fails("a", "a.pem");
        assert!(error.contains("no private key in PEM form") && !error.contains("hunter2"), "{error}");
        std::fs::set_permissions(ca.file("a.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(fails("a", "a.pem").contains("a.key"), "readable by all");
    }
}
