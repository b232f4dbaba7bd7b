//! A real broker for tests: mosquitto, one for each test.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use crate::testing::TempDir;

/// A port that nobody listens at.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A CA of this test alone, and what it signs, as an operator makes them.
pub(crate) struct Ca {
    dir: TempDir,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let ca = Self { dir: TempDir::new() };
        ca.openssl("req -x509 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem");
        ca
    }

    /// `NAME.pem` and `NAME.key`, for this common name and this address or name.
    pub(crate) fn sign(&self, name: &str, san: &str) {
        self.openssl(&format!(
            "req -nodes -subj /CN={name} -addext subjectAltName={san} -keyout {name}.key -out {name}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -copy_extensions copy \
             -out {name}.pem"
        ));
    }

    /// The path of a file of it.
    pub(crate) fn file(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn openssl(&self, arguments: &str) {
        let mut command = Command::new("openssl");
        command.current_dir(self.dir.path()).args(arguments.split_whitespace());
        if arguments.starts_with("req") {
            command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
        }
        let output = command.output().expect("openssl is not installed: apt-get install openssl");
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A broker of this test alone.
pub(crate) struct Broker {
    process: Child,
    /// Where it listens.
    pub(crate) port: u16,
    dir: TempDir,
}

impl Broker {
    /// On `port`, or on any free one.
    pub(crate) fn start(port: Option<u16>) -> Self {
        let port = port.unwrap_or_else(free_port);
        Self::start_as(&format!("listener {port} 127.0.0.1\nallow_anonymous true\n"), port)
    }

    /// As `config` says, which names `port`.
    pub(crate) fn start_as(config: &str, port: u16) -> Self {
        let dir = TempDir::new();
        let path = dir.path().join("mosquitto.conf");
        std::fs::write(&path, config).unwrap();
        let found = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto"]
            .into_iter()
            .find(|path| std::path::Path::new(path).exists());
        let binary = found.expect("mosquitto is not installed: apt-get install mosquitto");
        let process =
            Command::new(binary).arg("-c").arg(&path).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self { process: process.unwrap(), port, dir }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(i32::try_from(self.process.id()).unwrap())
    }

    /// Ends it as `systemctl stop` does, after it has written down what it holds.
    pub(crate) fn end(mut self) {
        nix::sys::signal::kill(self.pid(), nix::sys::signal::Signal::SIGTERM).unwrap();
        self.process.wait().unwrap();
    }

    /// Kills it; its port, to start again there.
    pub(crate) fn stop(mut self) -> u16 {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let _ = &self.dir;
        self.port
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
