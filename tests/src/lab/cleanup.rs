//! What a lab leaves behind: nothing. Everything carries its id, so it can be removed by anybody, at any time.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};

use super::disk;
use super::network;
use super::power;
use super::shell;
use super::trouble::{Context, Result};
use super::wait;

/// Prefix of the cgroup and of the directory in the temporary directory; namespaces use the id alone.
const PREFIX: &str = "palisade-";
/// A killed lab is gone within milliseconds.
const KILL_LIMIT: Duration = Duration::from_secs(5);

static COUNT: AtomicU32 = AtomicU32::new(0);
/// Labs of this process, for the signal that ends it.
static MINE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// A fresh id, `lab-PID-N`; removes what dead labs left.
///
/// # Errors
/// There is no cgroup2.
pub fn claim() -> Result<String> {
    sweep()?;
    let id = format!("lab-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    if let Ok(mut mine) = MINE.lock() {
        mine.insert(id.clone());
    }
    shell::make_dir(&cgroup(&id)?)?;
    Ok(id)
}

/// A lab's directory.
#[must_use]
pub fn directory(id: &str) -> PathBuf {
    std::env::temp_dir().join(format!("{PREFIX}{id}"))
}

/// A lab's cgroup; hosts and services are below it.
///
/// # Errors
/// There is no cgroup2.
pub fn cgroup(id: &str) -> Result<PathBuf> {
    Ok(power::cgroup2()?.join(format!("{PREFIX}{id}")))
}

/// Removes a lab: kills what runs in it, then its namespaces, mounts, cgroups and files.
pub fn remove(id: &str) {
    let hosts = power::leaves(&directory(id).join("hosts"));
    // What waits for a disk that hangs cannot even be killed.
    hosts.iter().for_each(|host| disk::release(host));
    if let Ok(cgroup) = cgroup(id) {
        let _ = fs::write(cgroup.join("cgroup.kill"), "1");
        wait::until_quick(Instant::now() + KILL_LIMIT, || {
            fs::read_to_string(cgroup.join("cgroup.events"))
                .is_ok_and(|events| events.contains("populated 0"))
        });
        remove_cgroup(&cgroup);
    }
    let _ = network::remove(id);
    hosts.iter().for_each(|host| disk::unmount(host));
    let _ = fs::remove_dir_all(directory(id));
    if let Ok(mut mine) = MINE.lock() {
        mine.remove(id);
    }
}

fn remove_cgroup(cgroup: &Path) {
    for below in power::leaves(cgroup) {
        remove_cgroup(&below);
    }
    let _ = fs::remove_dir(cgroup);
}

/// Removes labs whose process is gone (killed before it could clean up).
fn sweep() -> Result<()> {
    for left in power::leaves(&power::cgroup2()?) {
        let name = left.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(id) = name.strip_prefix(PREFIX).filter(|id| id.starts_with("lab-")) else { continue };
        let owner: Option<u32> = id.split('-').nth(1).and_then(|pid| pid.parse().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            remove(id);
        }
    }
    Ok(())
}

/// Cleans up when a person interrupts: call once, before any other thread starts.
///
/// # Errors
/// The thread cannot be started.
pub fn on_interrupt() -> Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().during("blocking signals")?;
    let wait = move || {
        if let Ok(signal) = signals.wait() {
            let mine: Vec<String> =
                MINE.lock().map(|mine| mine.iter().cloned().collect()).unwrap_or_default();
            for id in &mine {
                remove(id);
            }
            std::process::exit(128 + signal as i32);
        }
    };
    std::thread::Builder::new().name("interrupt".into()).spawn(wait).map(drop).during("a thread for signals")
}
