//! Which orders were taken: a file of `/var/lib/palisade`, written and synced before anything is done for an order, so that none is
//! taken twice, over a crash and a boot neither.
//!
//! What the host's clock says never makes it forget: an order is forgotten by the time at which a later one was made, as its signer
//! says.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::judge::{AHEAD_MAX, Refusal};
use super::written::Written;
use crate::telemetry::since_epoch;

/// Orders that count at once: more within ten minutes are refused.
const KEPT_MAX: usize = 256;

/// The file's content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    /// When the newest order that was taken was made, in ms since 1970.
    newest_ms: u64,
    taken: Vec<Taken>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Taken {
    nonce: String,
    expires_ms: u64,
}

/// The orders that were taken and could come again.
pub(crate) struct Used {
    path: &'static Path,
    /// Absent until the file has been read.
    content: Option<Content>,
}

impl Used {
    pub(crate) fn new(path: &'static Path) -> Self {
        Self { path, content: None }
    }

    /// Writes down that this order is taken.
    ///
    /// # Errors
    /// It was before; or nobody could know the next time.
    pub(super) fn note(&mut self, written: &Written, now: SystemTime) -> Result<(), Refusal> {
        let before = match self.content.take() {
            Some(content) => content,
            None => read(self.path).map_err(Refusal::NotNoted)?,
        };
        let next = before.with(written, now);
        let stored = next.and_then(|next| {
            let failed = |error: io::Error| Refusal::NotNoted(format!("{}: {error}", self.path.display()));
            write(self.path, &next).map(|()| next).map_err(failed)
        });
        match stored {
            Ok(next) => {
                self.content = Some(next);
                Ok(())
            }
            // A write that failed may have been one: what the file holds is read again.
            Err(refusal @ Refusal::NotNoted(_)) => Err(refusal),
            Err(refusal) => {
                self.content = Some(before);
                Err(refusal)
            }
        }
    }
}

impl Content {
    fn with(&self, written: &Written, now: SystemTime) -> Result<Self, Refusal> {
        let (made_ms, now_ms) = (since_epoch(written.made), since_epoch(now));
        let ahead_ms = u64::try_from(AHEAD_MAX.as_millis()).unwrap_or(u64::MAX);
        if now_ms.saturating_add(ahead_ms) < self.newest_ms {
            let newest = UNIX_EPOCH + Duration::from_millis(self.newest_ms);
            return Err(Refusal::ClockWentBack { newest, now });
        }
        if self.taken.iter().any(|taken| taken.nonce == written.nonce) {
            return Err(Refusal::Replayed);
        }
        let newest_ms = self.newest_ms.max(made_ms);
        // Whoever still counted with one of these would be refused by the rule above.
        let mut taken: Vec<Taken> = self
            .taken
            .iter()
            .filter(|taken| taken.expires_ms.saturating_add(ahead_ms) >= newest_ms)
            .cloned()
            .collect();
        if taken.len() >= KEPT_MAX {
            return Err(Refusal::NotNoted(format!("{KEPT_MAX} orders were taken within minutes; wait")));
        }
        taken.push(Taken { nonce: written.nonce.clone(), expires_ms: since_epoch(written.expires) });
        Ok(Self { newest_ms, taken })
    }
}

/// Nothing there: no order has been taken on this host.
fn read(path: &Path) -> Result<Content, String> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::default()),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    serde_json::from_slice(&bytes).map_err(|error| {
        let path = path.display();
        format!("{path} cannot be read ({error}); no order is taken before it is mended, or removed ten minutes after the last one")
    })
}

fn write(path: &Path, content: &Content) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec(content)?)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    File::open(dir)?.sync_all()
}
