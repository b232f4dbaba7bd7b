//! Looks over the hosts' shoulders: whether a secret of theirs stands in the arguments or the environment of any process that they
//! run, where every user of a host could read it, or in what they write down (SAFE-6).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::power;
use super::trouble::{Context, Result};
use super::wait;

/// Between two looks at everything that runs: the shortest program takes longer.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Programs by which a secret was shown, as `NAME: which`.
type Seen = BTreeSet<(String, String)>;

/// A running look-out.
#[derive(Debug)]
pub struct Spy {
    secrets: Vec<(String, String)>,
    found: Arc<Mutex<Found>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Found {
    shown: Seen,
    programs: BTreeSet<String>,
}

impl Spy {
    /// Looks at every process below these cgroups, all the time, for these secrets (what each is, and the secret).
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(cgroups: Vec<PathBuf>, secrets: Vec<(String, String)>) -> Result<Self> {
        let (found, ends) = (Arc::new(Mutex::new(Found::default())), Arc::new(AtomicBool::new(false)));
        let look = {
            let (secrets, found, ends) = (secrets.clone(), Arc::clone(&found), Arc::clone(&ends));
            move || {
                while !ends.load(Ordering::Relaxed) {
                    for cgroup in &cgroups {
                        look(cgroup, &secrets, &found);
                    }
                    wait::pause(LOOK_EVERY);
                }
            }
        };
        let thread = std::thread::Builder::new().name("spy".into()).spawn(look).during("a thread")?;
        Ok(Self { secrets, found, ends, thread: Some(thread) })
    }

    /// The programs that showed a secret so far, and which.
    #[must_use]
    pub fn shown(&self) -> Seen {
        self.found.lock().map(|found| found.shown.clone()).unwrap_or_default()
    }

    /// Every program that it looked at.
    #[must_use]
    pub fn programs(&self) -> BTreeSet<String> {
        self.found.lock().map(|found| found.programs.clone()).unwrap_or_default()
    }

    /// The files at or below a path in which one of the secrets stands.
    #[must_use]
    pub fn written(&self, path: &Path) -> Vec<String> {
        if let Ok(entries) = fs::read_dir(path) {
            return entries.filter_map(|entry| Some(self.written(&entry.ok()?.path()))).flatten().collect();
        }
        let bytes = fs::read(path).unwrap_or_default();
        let known = self.secrets.iter().filter(|(_, secret)| holds(&bytes, secret));
        known.map(|(what, _)| format!("{}: {what}", path.display())).collect()
    }
}

impl Drop for Spy {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn look(cgroup: &Path, secrets: &[(String, String)], found: &Mutex<Found>) {
    for pid in fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default().lines() {
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let name = String::from_utf8_lossy(&read("comm")).trim().to_owned();
        let text = [read("cmdline"), read("environ")].concat();
        if let Ok(mut found) = found.lock() {
            for (what, _) in secrets.iter().filter(|(_, secret)| holds(&text, secret)) {
                found.shown.insert((name.clone(), what.clone()));
            }
            found.programs.insert(name);
        }
    }
    for below in power::leaves(cgroup) {
        look(&below, secrets, found);
    }
}

fn holds(bytes: &[u8], secret: &str) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
}
