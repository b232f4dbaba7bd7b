//! The device: the paths of one host to its logical units, as their registrations say.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use palisade_ladder::{Command, Failure, Identity, Proven, Reading, Response};
use palisade_proto::Incarnation;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use super::ScsiConfig;
use super::key::Key;
use super::meaning::{Capabilities, HostIdentifier, Look, Out, Registrant, Reservation, garbage};
use super::way::{Ordered, Talk, Way};
use crate::text::clean;
use crate::{Device, Warrant};

/// For a thread that waits in the kernel; all of it is resident where memory is locked.
const STACK_BYTES: usize = 128 * 1024;
/// By so many Host Identifiers a host is remembered, the latest ones. It has one, or a new one with each installation.
const IDENTIFIERS_MAX: usize = 16;

/// Who gives the orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Me {
    /// This life, with whose key they are given.
    pub life: Incarnation,
    /// Whether it is the first one of its host's boot. The kernel's memory may hold what an earlier one of the same boot wrote and
    /// was not allowed to bring to the disk.
    pub first_of_boot: bool,
}

/// Where the paths are.
pub trait Fabric: Send + Sync + 'static {
    /// Every path that this host has now to the logical unit of that name; none is no failure.
    ///
    /// # Errors
    /// What keeps this host from looking.
    fn paths(&self, lun: &str) -> Result<Vec<Way>, Failure>;
}

/// The paths of one host to shared disks.
pub struct Scsi<F> {
    config: Arc<ScsiConfig>,
    me: Option<Me>,
    fabric: Arc<F>,
    /// A command may hang in the kernel for as long as the disk likes: no second one joins it.
    one: Arc<Semaphore>,
    known_by: Arc<Mutex<VecDeque<HostIdentifier>>>,
}

impl<F: Fabric> Device for Scsi<F> {
    async fn run(&mut self, command: Command, warrant: Warrant) -> Result<Response, Failure> {
        warrant.in_time(self.carry_out(command, &warrant)).await
    }

    async fn close(&mut self, _deadline: Instant) {
        // Nothing is held between commands.
    }
}

impl<F: Fabric> Scsi<F> {
    /// A device that nothing has been asked of yet. `me`: the life with whose key orders are given; none for a look by hand.
    #[must_use]
    pub fn new(config: ScsiConfig, me: Option<Me>, fabric: F) -> Self {
        Self {
            config: Arc::new(config),
            me,
            fabric: Arc::new(fabric),
            one: Arc::new(Semaphore::new(1)),
            known_by: Arc::default(),
        }
    }

    async fn carry_out(&self, command: Command, warrant: &Warrant) -> Result<Response, Failure> {
        // Waits for one that hangs, as long as there is time.
        let turn = Arc::clone(&self.one).acquire_owned().await.map_err(|_| Failure::Cancelled)?;
        let (me, (reply, answer)) = (self.me, oneshot::channel());
        let (config, fabric, warrant) = (Arc::clone(&self.config), Arc::clone(&self.fabric), warrant.clone());
        let known_by = Arc::clone(&self.known_by);
        let work = move || {
            let talk = Talk { warrant: &warrant, reply: &reply };
            let job = Job { config: &config, me, fabric: &*fabric, talk, known_by: &known_by };
            let outcome = job.carry_out(command);
            drop(turn);
            // Whoever asked may have gone.
            let _ = reply.send(outcome);
        };
        std::thread::Builder::new()
            .name("palisade-scsi".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(work)
            .map_err(|error| Failure::Refused { code: format!("no thread: {error}") })?;
        answer.await.unwrap_or(Err(Failure::Cancelled))
    }
}

/// One command, on a thread of its own.
struct Job<'a> {
    config: &'a ScsiConfig,
    me: Option<Me>,
    fabric: &'a dyn Fabric,
    talk: Talk<'a>,
    /// By which Host Identifiers this host was seen registered (NVMe), since this device is there.
    known_by: &'a Mutex<VecDeque<HostIdentifier>>,
}

/// One logical unit and the paths to it.
struct Lun<'a> {
    name: &'a str,
    /// Those that have shown whose they are.
    paths: Vec<Way>,
    /// Why another one has not.
    silent: Option<Failure>,
}

impl Job<'_> {
    fn carry_out(&self, command: Command) -> Result<Response, Failure> {
        match command {
            Command::Off => self.off(),
            Command::On => self.on(),
            Command::Read => self
                .luns()?
                .iter_mut()
                .try_fold(Reading::Off, |reads, lun| Ok(more_open(reads, self.reading(lun)?)))
                .map(Response::Reads),
            Command::Prove => self.prove(),
        }
    }

    /// Whether the host is this one, whose paths this process opens.
    fn is_own(&self) -> bool {
        self.me.is_some_and(|me| me.life.host == self.config.host)
    }

    /// Every logical unit, each by at least one path, and each the one that its name says.
    fn luns(&self) -> Result<Vec<Lun<'_>>, Failure> {
        let mut luns = Vec::new();
        for name in &self.config.luns {
            let mut lun = Lun { name, paths: self.fabric.paths(name)?, silent: None };
            if lun.paths.is_empty() {
                return Err(Failure::Unreachable { error: format!("this host has no path to {name}") });
            }
            lun.identify(self)?;
            luns.push(lun);
        }
        Ok(luns)
    }

    /// Takes the key of the life that the order names. By one path: the list of registrations is the logical unit's, not the path's
    /// (SPC-4 5.13.1; NVMe 8.19).
    fn off(&self) -> Result<Response, Failure> {
        let Some(victim) = self.talk.warrant.whom else { return Err(unnamed()) };
        let Some(me) = self.me else { return Err(unnamed()) };
        if victim.host != self.config.host || self.is_own() {
            return Err(Failure::Refused { code: format!("{victim} is not whom this device cuts") });
        }
        let (mine, theirs) = (self.config.key_of(me.life), self.config.key_of(victim));
        let (mut took, mut failed) = (false, None);
        for mut lun in self.luns()? {
            if !lun.look(self)?.has(theirs) {
                continue;
            }
            match self.take(&mut lun, Out::PreemptAndAbort { key: mine, victim: theirs }) {
                Ok(()) => took = true,
                Err(failure) => {
                    failed = Some(failure);
                    break;
                }
            }
        }
        match failed {
            // It has lost some of its paths: nobody may take this for an order that did nothing.
            Some(failure) if took => Err(Failure::Garbage {
                detail: clean(&format!("cut from some logical units, not from all: {failure}")),
            }),
            Some(failure) => Err(failure),
            None if took => Ok(Response::Acknowledged),
            None => Ok(Response::AlreadySo),
        }
    }

    /// By the first path of ours that is there and allowed to.
    fn take(&self, lun: &mut Lun<'_>, out: Out) -> Result<(), Failure> {
        let (mut silent, mut conflict) = (None, None);
        for path in &mut lun.paths {
            match path.order(out, self.talk) {
                Ok(Ordered::Done) => return Ok(()),
                Ok(Ordered::Conflict) => conflict = Some(path.name().to_owned()),
                Err(failure @ Failure::Unreachable { .. }) => silent = Some(failure),
                Err(failure) => return Err(failure),
            }
        }
        match (silent, conflict) {
            // What a silent path was sent may have been carried out.
            (Some(failure), _) => Err(failure),
            (None, conflict) => {
                let path = conflict.unwrap_or_default();
                let code = format!(
                    "{}: reservation conflict on {path}: this host is not registered itself, or another was faster",
                    lun.name
                );
                Err(Failure::Refused { code })
            }
        }
    }

    /// Registers this life on each of its own paths, and takes what earlier lives of this host have left.
    fn on(&self) -> Result<Response, Failure> {
        let Some(me) = self.me.filter(|me| me.life.host == self.config.host) else {
            return Err(Failure::Refused {
                code: "a host registers its paths itself, when its agent starts".into(),
            });
        };
        let mine = self.config.key_of(me.life);
        for mut lun in self.luns()? {
            if let Some(failure) = lun.silent.take() {
                // It would stay unregistered, and its disk would fail whenever the kernel chooses that path.
                return Err(failure);
            }
            let can = lun.capabilities(self)?;
            self.is_clean(me, &mut lun)?;
            for path in &mut lun.paths {
                let instead_of = self.left_there(lun.name, path, mine)?;
                let out = Out::Register { key: mine, instead_of, persist: can.persists };
                if path.order(out, self.talk)? == Ordered::Conflict {
                    return Err(may_not_register(lun.name, path));
                }
            }
            self.reserve(&mut lun, mine)?;
            self.clear_earlier_lives(&mut lun, mine)?;
        }
        Ok(Response::Acknowledged)
    }

    /// The key of an earlier life, where registrations are the host's (NVMe): it is replaced, and only while it is that one. A key
    /// of anybody else there means that two hosts have one Host Identifier: to the namespace they are one, and whoever cuts one of
    /// them lets it write on by the other's registration.
    fn left_there(&self, lun: &str, path: &mut Way, mine: Key) -> Result<Option<Key>, Failure> {
        let Some(host) = path.host_identifier(self.talk)? else { return Ok(None) };
        let look = path.look(self.talk)?;
        let there = look.registrants.iter().find(|there| there.host == Some(host) && there.key != mine);
        match there.map(|there| there.key) {
            Some(other) if !self.config.keys().contains(other) => Err(shared(lun, host, other)),
            left => Ok(left),
        }
    }

    /// A host that was cut in this boot may have writes in its memory that were refused and are tried again: they are older than
    /// what its survivors have written since. With a key of an earlier life still there nothing was ever refused.
    fn is_clean(&self, me: Me, lun: &mut Lun<'_>) -> Result<(), Failure> {
        let of_host = self.config.keys();
        if me.first_of_boot || lun.look(self)?.keys().any(|key| of_host.contains(key)) {
            return Ok(());
        }
        let code = format!(
            "{}: this host was cut from it in this boot, and may still hold writes for it: reboot this host",
            lun.name
        );
        Err(Failure::Refused { code })
    }

    fn reserve(&self, lun: &mut Lun<'_>, mine: Key) -> Result<(), Failure> {
        match lun.look(self)?.reservation {
            Reservation::Ours { .. } => return Ok(()),
            Reservation::Other { kind } => return Err(other_kind(lun.name, kind)),
            Reservation::None => {}
        }
        let Some(path) = lun.paths.first_mut() else { return Ok(()) };
        match path.order(Out::Reserve { key: mine }, self.talk)? {
            Ordered::Done => Ok(()),
            // Another host was faster: what stands now is what counts.
            Ordered::Conflict => match lun.look(self)?.reservation {
                Reservation::Ours { .. } => Ok(()),
                Reservation::Other { kind } => Err(other_kind(lun.name, kind)),
                Reservation::None => {
                    Err(Failure::Refused { code: format!("{} cannot be reserved", lun.name) })
                }
            },
        }
    }

    /// A path that this host had in an earlier life (another adapter, another initiator name) would otherwise stay open.
    fn clear_earlier_lives(&self, lun: &mut Lun<'_>, mine: Key) -> Result<(), Failure> {
        let of_host = self.config.keys();
        let stale: BTreeSet<Key> =
            lun.look(self)?.keys().filter(|key| of_host.contains(*key) && *key != mine).collect();
        let Some(path) = lun.paths.first_mut() else { return Ok(()) };
        for victim in stale {
            if path.order(Out::PreemptAndAbort { key: mine, victim }, self.talk)? == Ordered::Conflict {
                // Gone by itself meanwhile, or our own registration is: the reading tells.
                break;
            }
        }
        Ok(())
    }

    fn prove(&self) -> Result<Response, Failure> {
        let mut reads = Reading::Off;
        for mut lun in self.luns()? {
            lun.capabilities(self)?;
            let look = lun.look(self)?;
            match look.reservation {
                Reservation::Ours { .. } => {}
                Reservation::Other { kind } => return Err(other_kind(lun.name, kind)),
                Reservation::None => {
                    let code =
                        format!("{} is not reserved: every host may write to it, a fenced one too", lun.name);
                    return Err(Failure::Refused { code });
                }
            }
            self.is_registered(&mut lun, &look)?;
            reads = more_open(reads, self.reading(&mut lun)?);
        }
        let identity = Identity(self.config.luns.join(" "));
        Ok(Response::Proven(Proven { identity, may_fence: true, reads }))
    }

    /// Of another host it takes one path to give the order; of its own a host needs each. A look by hand has no key.
    fn is_registered(&self, lun: &mut Lun<'_>, look: &Look) -> Result<(), Failure> {
        let Some(mine) = self.me.map(|me| self.config.key_of(me.life)) else { return Ok(()) };
        let registered = if self.is_own() {
            lun.registered(self, look, mine)?
        } else {
            look.keys().filter(|key| *key == mine).count()
        };
        let paths = lun.paths.len();
        if registered >= if self.is_own() { paths } else { 1 } {
            return Ok(());
        }
        let code = format!(
            "{}: {registered} of {paths} paths of this host are registered: stop its agent and start it again; its next life \
             registers each",
            lun.name
        );
        Err(Failure::Refused { code })
    }

    /// What one logical unit reads, by every path of ours that answers: a target whose ports keep lists of their own shows it here.
    fn reading(&self, lun: &mut Lun<'_>) -> Result<Reading, Failure> {
        let looks = lun.looks(self)?;
        for look in &looks {
            self.is_known_by_nobody_else(lun.name, look)?;
        }
        Ok(looks.iter().map(|look| self.read(look)).fold(Reading::Off, more_open))
    }

    /// SAFE-4: a host that lost its key writes on where another one has its Host Identifier and is registered.
    fn is_known_by_nobody_else(&self, lun: &str, look: &Look) -> Result<(), Failure> {
        let of_host = self.config.keys();
        let known_by = self.known_by.lock().unwrap_or_else(PoisonError::into_inner);
        let other = look.registrants.iter().filter(|there| !of_host.contains(there.key));
        let mut other = other.filter_map(|there| there.host.map(|host| (host, there.key)));
        match other.find(|(host, _)| known_by.contains(host)) {
            Some((host, key)) => Err(shared(lun, host, key)),
            None => Ok(()),
        }
    }

    fn remember(&self, look: &Look) {
        let of_host = self.config.keys();
        let mut known_by = self.known_by.lock().unwrap_or_else(PoisonError::into_inner);
        let its = look.registrants.iter().filter(|there| of_host.contains(there.key));
        for host in its.filter_map(|there| there.host) {
            if known_by.contains(&host) {
                continue;
            }
            if known_by.len() == IDENTIFIERS_MAX {
                known_by.pop_front();
            }
            known_by.push_back(host);
        }
    }

    fn read(&self, look: &Look) -> Reading {
        let of_host = self.config.keys();
        let has = |key: &Key| of_host.contains(*key);
        let (some, reserved) =
            (look.keys().any(|key| has(&key)), matches!(look.reservation, Reservation::Ours { .. }));
        let own = self.me.filter(|_| self.is_own()).map(|me| self.config.key_of(me.life));
        match own {
            // Open is: this life and no earlier one, and nobody else may write.
            Some(mine) if look.has(mine) => {
                let alone = !look.keys().any(|key| has(&key) && key != mine);
                if alone && reserved { Reading::On } else { Reading::Unknown }
            }
            // SAFE-4: whichever life's it is, on whichever path.
            Some(_) | None if some => Reading::On,
            // SAFE-4: without a reservation of ours an unregistered host writes as it likes.
            Some(_) | None if !reserved => Reading::Unknown,
            Some(_) | None => Reading::Off,
        }
    }
}

impl Lun<'_> {
    /// SAFE-4: each path that is used leads to the logical unit with that name. What the kernel has noted is from when it found the
    /// disk. A path that does not answer is not used for anything else either: at least one does.
    fn identify(&mut self, job: &Job<'_>) -> Result<(), Failure> {
        for mut path in std::mem::take(&mut self.paths) {
            let found = match path.names(self.name, job.talk) {
                Ok(found) => found,
                Err(failure @ Failure::Unreachable { .. }) => {
                    self.silent = Some(failure);
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            if !found.iter().any(|name| name == self.name) {
                let found = if found.is_empty() { "nothing".to_owned() } else { found.join(" ") };
                return Err(Failure::WrongIdentity {
                    expected: Identity(self.name.to_owned()),
                    found: Identity(found),
                });
            }
            self.paths.push(path);
        }
        match (&self.silent, self.paths.is_empty()) {
            (Some(failure), true) => Err(failure.clone()),
            (Some(_) | None, _) => Ok(()),
        }
    }

    /// What it can do; our kind of reservation is among it.
    fn capabilities(&mut self, job: &Job<'_>) -> Result<Capabilities, Failure> {
        let mut all = self.each(|path| path.capabilities(job.talk))?;
        let can = all.pop().ok_or_else(|| garbage(format!("{} has no path left", self.name)))?;
        if can.wero == Some(false) {
            let code = format!("{} does not do Write Exclusive - Registrants Only", self.name);
            return Err(Failure::Refused { code });
        }
        Ok(can)
    }

    /// How many of these paths are registered with a key: with SCSI as many as have it, with NVMe those that the registered host
    /// comes by.
    fn registered(&mut self, job: &Job<'_>, look: &Look, key: Key) -> Result<usize, Failure> {
        let mut count = 0;
        for path in &mut self.paths {
            let Some(host) = path.host_identifier(job.talk)? else {
                return Ok(look.keys().filter(|there| *there == key).count());
            };
            count += usize::from(look.registrants.contains(&Registrant { key, host: Some(host) }));
        }
        Ok(count)
    }

    /// By the first path that answers.
    fn look(&mut self, job: &Job<'_>) -> Result<Look, Failure> {
        let mut looks = self.looks(job)?;
        if looks.is_empty() {
            Err(garbage(format!("{} has no path left", self.name)))
        } else {
            Ok(looks.swap_remove(0))
        }
    }

    /// By each path that answers.
    fn looks(&mut self, job: &Job<'_>) -> Result<Vec<Look>, Failure> {
        let looks = self.each(|path| path.look(job.talk))?;
        looks.iter().for_each(|look| job.remember(look));
        Ok(looks)
    }

    /// What each path says; one that cannot be reached is left out as long as another one answers. Never empty.
    fn each<T>(&mut self, mut what: impl FnMut(&mut Way) -> Result<T, Failure>) -> Result<Vec<T>, Failure> {
        let (mut said, mut silent) = (Vec::new(), None);
        for path in &mut self.paths {
            match what(path) {
                Ok(one) => said.push(one),
                Err(failure @ Failure::Unreachable { .. }) => silent = Some(failure),
                Err(failure) => return Err(failure),
            }
        }
        match silent {
            Some(failure) if said.is_empty() => Err(failure),
            Some(_) | None => Ok(said),
        }
    }
}

/// On beats unknown, and unknown beats off: one open path is enough to write.
fn more_open(one: Reading, other: Reading) -> Reading {
    match (one, other) {
        (Reading::On, _) | (_, Reading::On) => Reading::On,
        (Reading::Unknown, _) | (_, Reading::Unknown) => Reading::Unknown,
        (Reading::Off, Reading::Off) => Reading::Off,
    }
}

/// Two hosts with one Host Identifier: one registrant.
fn shared(lun: &str, host: HostIdentifier, key: Key) -> Failure {
    let code = format!(
        "{lun}: the Host Identifier {host} is registered with a key that is not this host's ({key}): two hosts have it, and the \
         disk takes them for one. Give each its own (/etc/nvme/hostid, then connect anew) and start the agents again; a key that \
         was left behind goes with `nvme resv-register --rrega=1 --iekey` on its host"
    );
    Failure::Refused { code }
}

fn may_not_register(lun: &str, path: &Way) -> Failure {
    let why = match path {
        Way::Scsi(_) => "another's reservation forbids to register",
        Way::Nvme(_) => {
            "the Host Identifier of this host got another key just now: has another host the same?"
        }
    };
    Failure::Refused { code: format!("{lun}: {why}") }
}

fn other_kind(lun: &str, kind: u8) -> Failure {
    let code = format!("{lun} is reserved by somebody else (type {kind:x}h), who must give it up first");
    Failure::Refused { code }
}

fn unnamed() -> Failure {
    Failure::Refused { code: "no life is named whose key is to be taken, or by whose key".into() }
}

#[cfg(test)]
mod nvme_tests;
#[cfg(test)]
mod tests;
