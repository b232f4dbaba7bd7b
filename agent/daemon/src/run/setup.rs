//! What a configuration file comes to on this host: the checked configuration with every secret it names. Read at the start
//! and at each reload; nothing half-loaded gets out.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use palisade_core::config::{Broker, Cluster, Host, KeyRef, Login, MachineId, Written};
use palisade_proto::HostId;
use palisade_proto::seal::{Keyring, RootKey};
use ring::digest;
use zeroize::Zeroizing;

use crate::fences::{self, Known};
use crate::identity;
use crate::mqtt::{Access, Credentials, tls};
use crate::secret;
use crate::witness;

/// The longest configuration file: 32 hosts and 256 workloads fit many times.
const CONFIG_MAX: u64 = 1024 * 1024;

/// A configuration with its secrets.
pub(crate) struct Setup {
    /// What the file says.
    pub(crate) cluster: Arc<Cluster>,
    /// The same with the file's text, for the recording.
    pub(crate) written: Written,
    /// Which of its hosts this is.
    pub(crate) me: HostId,
    /// This machine's identity.
    pub(crate) machine: MachineId,
    /// The cluster keys.
    pub(crate) keyring: Keyring,
    /// How to reach the witness.
    pub(crate) witness: Option<witness::Access>,
    /// Tells whether a reload changed anything about the witness; not the secret itself.
    pub(crate) witness_print: Option<[u8; 32]>,
    /// How to be let in by the telemetry broker.
    pub(crate) telemetry: Access,
    /// The fence devices.
    pub(crate) devices: Vec<Known>,
}

impl Setup {
    /// Reads `path` and everything it names. The error is one message with the place, what is wrong and the way out.
    pub(crate) fn load(path: &Path) -> Result<Self, String> {
        let written = configuration(path)?;
        let cluster = written.cluster().clone();
        let machine = identity::machine_uuid().map_err(|error| error.to_string())?;
        let machine =
            MachineId::parse(&machine).ok_or_else(|| format!("{machine} is not a machine's UUID"))?;
        let me = cluster.host_of_machine(machine).map(Host::id).ok_or_else(|| nobody(path, machine))?;
        let (keyring, _) = keyring(&cluster, cluster.keys())?;
        let mut witness = None;
        let mut witness_print = None;
        if let Some(configured) = cluster.witness() {
            let (keyring, mut print) = self::keyring(&cluster, configured.keys())?;
            let broker = access("witness", configured.broker(), configured.login(), &mut print)?;
            witness = Some(witness::Access { keyring, broker });
            witness_print = print.finish().as_ref().try_into().ok();
        }
        let telemetry = telemetry_access(&cluster)?;
        let devices = fences::known(&cluster, me)?;
        Ok(Self { cluster, written, me, machine, keyring, witness, witness_print, telemetry, devices })
    }

    /// This host's name.
    pub(crate) fn name(&self) -> &str {
        self.cluster.host(self.me).map_or("", Host::name)
    }
}

fn configuration(path: &Path) -> Result<Written, String> {
    let unreadable =
        |error| format!("{}: {error}; name the configuration's file with --config", path.display());
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(CONFIG_MAX).read_to_string(&mut text).map_err(unreadable)?;
    Written::parse(&text, &path.display().to_string()).map_err(|error| error.to_string())
}

fn nobody(path: &Path, machine: MachineId) -> String {
    format!(
        "{}: no [[host]] has machine = \"{machine}\", which is this machine's UUID (/sys/class/dmi/id/product_uuid); add \
         this host, or correct its machine",
        path.display()
    )
}

fn keyring(cluster: &Cluster, keys: &[KeyRef]) -> Result<(Keyring, digest::Context), String> {
    let mut print = digest::Context::new(&digest::SHA256);
    let mut roots = Vec::with_capacity(keys.len());
    for key in keys {
        let secret = secret::load_key(key.secret()).map_err(|error| error.to_string())?;
        print.update(&[key.id()]);
        print.update(secret.expose());
        roots.push((key.id(), RootKey::new(*secret.expose())));
    }
    let keyring = Keyring::new(cluster.name(), roots).map_err(|error| error.to_string())?;
    Ok((keyring, print))
}

/// How to be let in by the telemetry broker; without telemetry there is nothing to know.
pub(crate) fn telemetry_access(cluster: &Cluster) -> Result<Access, String> {
    let telemetry = cluster.telemetry().map(|telemetry| {
        // Its session begins anew at each reload.
        let mut print = digest::Context::new(&digest::SHA256);
        access("telemetry", telemetry.broker(), telemetry.login(), &mut print)
    });
    Ok(telemetry.transpose()?.unwrap_or_default())
}

fn access(
    whose: &str,
    broker: &Broker,
    configured: Option<&Login>,
    print: &mut digest::Context,
) -> Result<Access, String> {
    let login = configured.map(login).transpose()?;
    if let Some((user, password)) = &login {
        print.update(user.as_bytes());
        print.update(password.as_bytes());
    }
    let tls = broker.tls().map(|tls| tls::load(tls, print)).transpose();
    let tls = tls.map_err(|error| format!("TLS with the {whose} broker: {error}"))?;
    Ok(Access { login, tls })
}

fn login(login: &Login) -> Result<Credentials, String> {
    let password = secret::load(login.password()).map_err(|error| error.to_string())?;
    let password = String::from_utf8(password.into_bytes())
        .map_err(|_| format!("the password of `{}` at the broker is not UTF-8", login.username()))?;
    Ok((login.username().to_owned(), Zeroizing::new(password)))
}
