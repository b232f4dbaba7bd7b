//! A real broker for tests: mosquitto, one for each test.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use crate::testing::TempDir;

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
        let port =
            port.unwrap_or_else(|| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
        let dir = TempDir::new();
        let config = dir.path().join("mosquitto.conf");
        std::fs::write(&config, format!("listener {port} 127.0.0.1\nallow_anonymous true\n")).unwrap();
        let found = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto"]
            .into_iter()
            .find(|path| std::path::Path::new(path).exists());
        let binary = found.expect("mosquitto is not installed: apt-get install mosquitto");
        let process =
            Command::new(binary).arg("-c").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self { process: process.unwrap(), port, dir }
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
