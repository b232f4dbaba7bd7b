//! libvirt, by `virsh`: `destroy`, `start`, and the domain's own words. A program of its own: the library would block, and a connection
//! over ssh is a program in any case.

use std::path::Path;

use palisade_ladder::{Failure, Identity};
use zeroize::Zeroizing;

use super::words::{self, Domain};
use crate::Warrant;
use crate::process::{self, how};
use crate::text::clean;

const VIRSH: &str = "/usr/bin/virsh";

/// The domain with this UUID, wherever its libvirt is.
pub(super) struct Libvirt<'a> {
    uri: &'a str,
    /// As virsh knows it for one: with hyphens. Anything else could be a domain's name.
    uuid: String,
}

impl<'a> Libvirt<'a> {
    pub(super) fn new(uri: &'a str, uuid: &Identity) -> Self {
        let digits = |from: usize, to: usize| uuid.0.get(from..to).unwrap_or_default();
        let parts = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)].map(|(from, to)| digits(from, to));
        Self { uri, uuid: parts.join("-") }
    }

    pub(super) async fn look(&self) -> Result<Domain, Failure> {
        let state = self.virsh(&["domstate", "--reason", "--domain", &self.uuid]).await?;
        let info = self.virsh(&["dominfo", "--domain", &self.uuid]).await?;
        words::domain(&state, &info)
            .map_err(|detail| Failure::Garbage { detail: format!("virsh: {}", clean(&detail)) })
    }

    pub(super) async fn off(&self, warrant: &Warrant) -> Result<(), Failure> {
        self.order(&["destroy", "--domain", &self.uuid], warrant).await
    }

    /// From its firmware, never from memory that somebody has saved.
    pub(super) async fn on(&self, warrant: &Warrant) -> Result<(), Failure> {
        self.order(&["start", "--force-boot", "--domain", &self.uuid], warrant).await
    }

    async fn order(&self, arguments: &[&str], warrant: &Warrant) -> Result<(), Failure> {
        if !warrant.holds() {
            // SAFE-2
            return Err(Failure::Cancelled);
        }
        match self.virsh(arguments).await {
            Ok(_) => Ok(()),
            // A virsh that fails may have done its work all the same.
            Err(Failure::Refused { code }) => Err(Failure::Garbage { detail: code }),
            Err(failure) => Err(failure),
        }
    }

    async fn virsh(&self, arguments: &[&str]) -> Result<String, Failure> {
        let arguments = [&["--quiet", "--connect", self.uri], arguments].concat();
        let run = process::run(Path::new(VIRSH), &arguments, &Zeroizing::new(Vec::new())).await;
        let ended = run.map_err(|error| Failure::Unreachable {
            error: format!("{VIRSH} cannot be run: {error}; it comes with the package libvirt-clients"),
        })?;
        if ended.status.success() {
            return Ok(ended.output);
        }
        let words = ended
            .errors
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect::<Vec<_>>()
            .join("; ");
        let words = clean(&format!("virsh: {}: {words}", how(ended.status)));
        Err(match words.contains("failed to connect") {
            true => Failure::Unreachable { error: words },
            false => Failure::Refused { code: words },
        })
    }
}
