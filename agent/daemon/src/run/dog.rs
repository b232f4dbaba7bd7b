//! The hardware watchdog as the loop holds it: armed, fed and disarmed at the engine's word only.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use palisade_core::{Input, config};

use crate::systemd;
use crate::watchdog::{STORED_NAME, Watchdog};

/// The configured watchdog, open or not.
pub(super) struct Dog {
    device: Option<(PathBuf, Duration)>,
    open: Option<Watchdog>,
    /// What became of the descriptor of the process before us, to be told once.
    adopted: Option<Result<(), String>>,
}

impl Dog {
    /// With the descriptor that systemd kept for us. `armed`: this life's earlier process had armed it.
    pub(super) fn new(configured: Option<&config::Watchdog>, stored: Option<OwnedFd>, armed: bool) -> Self {
        let device = configured.map(|dog| (dog.device().to_owned(), Duration::from_millis(dog.timeout().0)));
        let mut dog = Self { device, open: None, adopted: None };
        match (&dog.device, stored) {
            (Some((path, timeout)), Some(fd)) => {
                let (open, as_configured) = Watchdog::adopt(fd, path, *timeout);
                dog.open = Some(open);
                dog.adopted = match as_configured {
                    Ok(()) => armed.then_some(Ok(())),
                    // Told first, so that no bound is advertised that the device does not keep; set right by the next `arm`.
                    Err(error) => Some(Err(error.to_string())),
                };
            }
            // It may run unfed; it is opened again with the first feed, right after a check says quorate.
            (Some(_), None) => {}
            (None, Some(fd)) => {
                tracing::warn!(
                    "systemd keeps a watchdog that is not configured any more; it is stopped once quorate"
                );
                let (open, _) =
                    Watchdog::adopt(fd, Path::new("the watchdog kept by systemd"), Duration::ZERO);
                dog.open = Some(open);
                // It runs, whatever its state: the engine says when it may be stopped.
                dog.adopted = Some(Ok(()));
            }
            (None, None) => {}
        }
        dog
    }

    /// What to tell the engine about the descriptor of the process before us.
    pub(super) fn adopted(&mut self) -> Option<Input> {
        self.adopted.take().map(Input::Watchdog)
    }

    /// Opens and first feeds it: standing was checked a moment ago.
    pub(super) fn arm(&mut self) -> Option<Input> {
        let (path, timeout) = self.device.as_ref()?;
        let armed = match &self.open {
            Some(open) => open.rearm(*timeout).map_err(|error| error.to_string()),
            None => match Watchdog::open(path, *timeout) {
                Ok(open) => {
                    if let Err(error) = systemd::store(open.as_fd(), STORED_NAME) {
                        tracing::warn!(%error, "systemd does not keep the watchdog; a crash of the agent resets this host");
                    }
                    self.open = Some(open);
                    Ok(())
                }
                Err(error) => Err(error.to_string()),
            },
        };
        Some(Input::Watchdog(armed))
    }

    /// Feeds it: standing was checked a moment ago.
    pub(super) fn feed(&mut self) -> Option<Input> {
        match &self.open {
            Some(open) => match open.feed() {
                Ok(()) => None,
                Err(error) => Some(Input::Watchdog(Err(error.to_string()))),
            },
            None => self.arm(),
        }
    }

    /// Stops it by magic close: this life leaves.
    pub(super) fn disarm(&mut self) {
        let Some(open) = self.open.take() else { return };
        match open.disarm() {
            Ok(()) => {
                if let Err(error) = systemd::forget(STORED_NAME) {
                    tracing::warn!(%error, "systemd is not told that the watchdog is stopped");
                }
            }
            Err((open, error)) => {
                tracing::error!(%error, "the watchdog cannot be stopped: it will reset this host");
                self.open = Some(open);
            }
        }
    }
}
