//! Carrying out what the engine wants, in its order and without waiting.

use std::io::{self, Write};

use palisade_core::Input;
use palisade_core::action::{Act, Action, DeviceOrder, OrderId, Ticket, WorkloadReport};
use palisade_core::record::Event;
use palisade_core::standing::Saved;
use palisade_devices::Warrant;
use palisade_ladder::Failure;
use palisade_proto::{Ask, Time, WorkloadId};
use tokio::time::Instant;

use super::probes;
use super::{Agent, Ended};
use crate::fences;

const SYSRQ: &str = "/proc/sysrq-trigger";

impl Agent {
    /// Does one thing; `Some` ends the loop.
    pub(super) fn act(&mut self, action: Action) -> Option<Ended> {
        match action {
            Action::Save(saved) => return self.save(&saved),
            Action::Send(heartbeat) => self.links.send(&heartbeat),
            Action::Ask(ask) => self.ask(ask),
            Action::Record { ticket, event } => self.record(ticket, event),
            Action::Device(order) => self.device(order),
            Action::CancelDevice(id) => self.cancel(id),
            Action::Workload { id, act } => self.workload(id, act),
            Action::ArmWatchdog => self.own.extend(self.dog.arm().map(Into::into)),
            Action::FeedWatchdog => self.own.extend(self.dog.feed().map(Into::into)),
            Action::DisarmWatchdog => self.dog.disarm(),
            // What this returns is said only if the host lives on; the engine ends this life either way.
            Action::Reboot { why } => tracing::error!("{}", reboot(&why)),
            Action::Exit(kind) => return Some(Ended::By(kind)),
        }
        None
    }

    /// Before the heartbeat that says it: what a restart would forget must never have been said.
    fn save(&self, saved: &Saved) -> Option<Ended> {
        let written = serde_json::to_vec(saved)
            .map_err(std::io::Error::other)
            .and_then(|content| self.standing.save(&content));
        written.err().map(|error| {
            Ended::Failed(format!("the standing cannot be written, so nothing more is said: {error}"))
        })
    }

    fn ask(&self, ask: Box<Ask>) {
        let sent = match &self.hands.asks {
            Some(asks) if self.way.is_connected() => asks.try_send(ask).is_ok(),
            Some(_) | None => false,
        };
        if !sent {
            self.counters.witness_unsent.count();
        }
    }

    pub(super) fn record(&mut self, ticket: Option<Ticket>, event: Box<Event>) {
        if matches!(&*event, Event::Alarm { .. } | Event::FenceFailed { .. } | Event::SelfFenced { .. }) {
            tracing::warn!("{event}");
        } else {
            tracing::info!("{event}");
        }
        // One time for the journal and for telemetry, so that either leads to the other.
        let boot_us = self.hands.spool.stamp_us();
        let token = ticket.map(|Ticket(token)| token);
        if let Err(error) = self.journal.try_append_at(&*event, token, boot_us / 1000) {
            tracing::error!("{error}");
            // SAFE-5: what waits for this record would wait for ever; the engine hears of it when this turn ends.
            self.journal_refused = Some((error.to_string(), Instant::now()));
        }
        if matches!(&*event, Event::SelfFenced { .. }) {
            // In place of a watchdog's pretimeout, which ends the host early and whose words few drivers have.
            let bites = self.cluster.watchdog().map(|watchdog| {
                format!(
                    "; without a quorum the watchdog resets this host {} after its last feed",
                    watchdog.timeout()
                )
            });
            last_words(&format!("{event}{}", bites.unwrap_or_default()));
        }
        if matches!(&*event, Event::Standing { .. } | Event::View { .. }) {
            self.tell_systemd();
        }
        let now_us = self.clock.now_us();
        self.incidents.see(&event, now_us, &self.counters);
        let changes_state =
            matches!(&*event, Event::Standing { .. } | Event::Admitted { .. } | Event::Left { .. });
        if self.hands.telemetry.is_some() {
            self.hands.spool.event(boot_us, event);
        }
        if changes_state && self.hands.telemetry.is_some() {
            self.tell_state(now_us);
        }
    }

    /// The intent is durable and standing was checked a moment ago (SAFE-2, SAFE-5): at once, or not at all.
    fn device(&mut self, order: DeviceOrder) {
        let DeviceOrder { id, device, host, command, deadline, standing_until } = order;
        let now = Time(self.clock.now_us() / 1000);
        if standing_until.is_some_and(|until| now >= until) {
            // SAFE-2: what held up this loop since the engine's check has used up the standing.
            return self.own.push_back(Input::Device(id, Err(Failure::Cancelled)).into());
        }
        let standing = standing_until.map(|until| self.orders.begin(id, until, deadline));
        let left = std::time::Duration::from_millis(deadline.since(now).0);
        let warrant = Warrant { deadline: Instant::now() + left, standing, whom: self.engine.order_whom(id) };
        let work = fences::Work::Order { id, device, host, command, warrant };
        if self.hands.devices.try_send(work).is_err() {
            self.counters.work_refused.count();
            self.own.push_back(Input::Device(id, Err(Failure::NoAnswer { waited_ms: 0 })).into());
        }
    }

    fn cancel(&self, id: OrderId) {
        // A full queue: the answer comes, and the engine does not know the order any more.
        let _ = self.hands.devices.try_send(fences::Work::Cancel(id));
    }

    fn workload(&mut self, id: WorkloadId, act: Act) {
        if self.hands.probes.try_send(probes::Work::Act(id, act)).is_err() {
            self.counters.work_refused.count();
            let why = "too many acts wait for their workloads".to_owned();
            let report = match act {
                Act::Start => WorkloadReport::StartFailed(why),
                Act::Stop | Act::Kill => WorkloadReport::StopFailed(why),
            };
            self.own.push_back(Input::Workload(id, report).into());
        }
    }
}

/// Reboots at once, without a shutdown: nothing of this life may go on, and a shutdown could hang. Returns only if it failed.
pub(super) fn reboot(why: &str) -> String {
    last_words(&format!("reboots this host: {why}"));
    // SAFE-5: before the log, which nothing of this may wait for; the caller logs what this returns.
    let trigger = std::fs::OpenOptions::new().write(true).open(SYSRQ);
    let error = match trigger.and_then(|mut trigger| trigger.write_all(b"b")) {
        Ok(()) => return format!("this host reboots itself: {why}"),
        Err(error) => error,
    };
    let also = if is_withheld(&error) { ask_the_kernel() } else { String::new() };
    format!("this host must be rebooted by hand: {why} ({SYSRQ}: {error}{also})")
}

/// The kernel's log outlives us on a console, in pstore or at a netconsole; without it all is as it would be.
fn last_words(words: &str) {
    let log = std::fs::OpenOptions::new().append(true).open("/dev/kmsg");
    if let Ok(mut log) = log {
        // One write is one line.
        let _ = log.write_all(format!("<2>palisade: {words}\n").as_bytes());
    }
}

/// Whether the trigger is there and only kept from us: masked in a container, or by `ProtectKernelTunables=`.
fn is_withheld(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// The other way to the same end; says why if this returns.
#[cfg(not(test))]
fn ask_the_kernel() -> String {
    let Err(error) = nix::sys::reboot::reboot(nix::sys::reboot::RebootMode::RB_AUTOBOOT);
    format!("; reboot(2): {error}")
}

/// No test may come near the real one.
#[cfg(test)]
fn ask_the_kernel() -> String {
    "; reboot(2): not in a test".to_owned()
}

#[cfg(test)]
mod tests {
    use nix::libc;

    use super::*;

    #[test]
    fn only_a_trigger_that_is_there_and_kept_from_us_leads_to_the_other_way() {
        for (code, withheld) in [
            (libc::EACCES, true),
            (libc::EPERM, true),
            (libc::EROFS, true),
            (libc::ENOENT, false),
            (libc::EIO, false),
        ] {
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(is_withheld(&error), withheld, "{error}");
        }
    }
}
