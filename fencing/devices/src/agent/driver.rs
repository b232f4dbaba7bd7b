//! The device: one agent with its settings, run once for each command.

use palisade_ladder::{Command, Failure, Identity, Proven, Reading, Response};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::AgentConfig;
use super::metadata::Metadata;
use crate::process::{self, Ended, how};
use crate::text::{WORDS_MAX, clean};
use crate::{Device, Warrant};

/// FenceAgentAPI: how `status` ends when the host is off.
const EXIT_OFF: i32 = 2;
/// What tells a host among others at one device; for people.
const WHICH: [&str; 6] = ["ip", "ipaddr", "ipport", "plug", "port", "uuid"];

/// A fence agent.
pub struct Driver {
    config: AgentConfig,
    /// What it says of itself, once it has been asked.
    metadata: Option<Metadata>,
}

impl Device for Driver {
    async fn run(&mut self, command: Command, warrant: Warrant) -> Result<Response, Failure> {
        warrant.in_time(self.carry_out(command, &warrant)).await
    }

    async fn close(&mut self, _deadline: Instant) {
        // Each run takes its own leave.
    }
}

impl Driver {
    /// An agent that has not been run yet.
    #[must_use]
    pub fn new(config: AgentConfig) -> Self {
        Self { config, metadata: None }
    }

    async fn carry_out(&mut self, command: Command, warrant: &Warrant) -> Result<Response, Failure> {
        match command {
            Command::Read => Ok(Response::Reads(self.status().await?)),
            Command::Off => self.order("off", warrant).await,
            Command::On => self.order("on", warrant).await,
            Command::Prove => {
                self.understand().await?;
                let reads = self.status().await?;
                Ok(Response::Proven(Proven { identity: self.identity(), may_fence: true, reads }))
            }
        }
    }

    /// Whether the agent knows every setting that it is given, and can do what a fence needs.
    async fn understand(&mut self) -> Result<(), Failure> {
        if self.metadata.is_none() {
            let ended = self.execute("metadata").await?;
            if !ended.status.success() {
                return Err(self.failed("metadata", &ended));
            }
            let metadata = Metadata::parse(&ended.output);
            let detail = |error: String| format!("{} metadata: {}", self.config.name(), clean(&error));
            self.metadata = Some(metadata.map_err(|error| Failure::Garbage { detail: detail(error) })?);
        }
        let (Some(metadata), name) = (&self.metadata, self.config.name()) else { return Ok(()) };
        if let Some(unknown) = metadata.unknown(self.config.options.keys().chain(self.config.secrets.keys()))
        {
            let code = format!("{name} knows no setting `{unknown}`: see `{name} -o metadata`");
            return Err(Failure::Refused { code });
        }
        match metadata.lacks() {
            None => Ok(()),
            Some(action) => Err(Failure::Refused { code: format!("{name} has no action `{action}`") }),
        }
    }

    async fn order(&mut self, action: &str, warrant: &Warrant) -> Result<Response, Failure> {
        // Settings that it does not know could leave it with another host's plug.
        self.understand().await?;
        if !warrant.holds() {
            // SAFE-2
            return Err(Failure::Cancelled);
        }
        let ended = self.execute(action).await?;
        if !ended.status.success() {
            return Err(self.failed(action, &ended));
        }
        // How the agents that are built on the common library say it.
        let already = ended.output.lines().any(|line| line.starts_with("Success: Already "));
        Ok(if already { Response::AlreadySo } else { Response::Acknowledged })
    }

    async fn status(&mut self) -> Result<Reading, Failure> {
        let ended = self.execute("status").await?;
        let exit = ended.status.code();
        match (reading(exit, &ended.output), exit) {
            (Some(reading), _) => Ok(reading),
            (None, Some(EXIT_OFF)) => {
                let detail = format!("{} status: exit status 2 (off), and no word of it", self.config.name());
                Err(Failure::Garbage { detail })
            }
            (None, _) => Err(self.failed("status", &ended)),
        }
    }

    async fn execute(&self, action: &str) -> Result<Ended, Failure> {
        let mut input = Zeroizing::new(Vec::with_capacity(4096));
        let options = self.config.options.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let secrets = self.config.secrets.iter().map(|(name, value)| (name.as_str(), value.expose()));
        for (name, value) in [("action", action.as_bytes())].into_iter().chain(options).chain(secrets) {
            for part in [name.as_bytes(), b"=", value, b"\n"] {
                input.extend_from_slice(part);
            }
        }
        process::run(&self.config.program, &[], &input).await.map_err(|error| Failure::Unreachable {
            error: format!("{} cannot be run: {error}", self.config.program.display()),
        })
    }

    /// An agent that fails may have done its work all the same.
    fn failed(&self, action: &str, ended: &Ended) -> Failure {
        let lines = || ended.errors.lines().map(str::trim).filter(|line| !line.is_empty());
        let all = lines().collect::<Vec<_>>().join("; ");
        // The end of a long story says most.
        let words =
            if all.len() <= WORDS_MAX { all.as_str() } else { lines().next_back().unwrap_or_default() };
        let words = if words.is_empty() { "no word of why" } else { words };
        // SAFE-6: an agent may repeat what it was given.
        let told = self.config.secrets.values().any(|secret| holds(ended.errors.as_bytes(), secret.expose()));
        let words = if told { "its words hold a secret".to_owned() } else { clean(words) };
        let how = how(ended.status);
        Failure::Garbage { detail: format!("{} {action}: {how}: {words}", self.config.name()) }
    }

    fn identity(&self) -> Identity {
        let which = WHICH.iter().filter_map(|name| Some((name, self.config.options.get(*name)?)));
        let which: Vec<String> = which.map(|(name, value)| format!(" {name}={value}")).collect();
        Identity(clean(&format!("{}{}", self.config.name(), which.concat())))
    }
}

/// What a `status` that ended so, with that output, reads; nothing if it read nothing.
pub(super) fn reading(exit: Option<i32>, output: &str) -> Option<Reading> {
    match exit {
        Some(0) => Some(Reading::On),
        // SAFE-4: shells and interpreters end so, too, when they cannot read the program; off is only what says so.
        Some(EXIT_OFF) if says_off(output) => Some(Reading::Off),
        Some(_) | None => None,
    }
}

fn says_off(output: &str) -> bool {
    output.lines().any(|line| line.trim().eq_ignore_ascii_case("status: off"))
}

fn holds(text: &[u8], secret: &[u8]) -> bool {
    !secret.is_empty() && text.windows(secret.len()).any(|part| part == secret)
}
