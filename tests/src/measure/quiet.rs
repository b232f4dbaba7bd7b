//! The quiet run: an untouched cluster with both cores loaded. Nobody may suspect anybody.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::ready;
use crate::lab::hardware::Hardware;
use crate::lab::trouble::{Context, Result};
use crate::lab::wait;
use crate::scenario::check;

/// What a healthy cluster never writes.
const SUSPICIONS: [&str; 4] = ["view", "standing", "fence_decided", "dead"];

/// Processes that do nothing but use a core each; they end with this value.
struct Load(Vec<Child>);

impl Load {
    fn on(cores: usize) -> Result<Self> {
        let mut load = Self(Vec::new());
        for _ in 0..cores {
            let mut busy = Command::new("sh");
            busy.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
            load.0.push(busy.spawn().during("a busy loop")?);
        }
        Ok(load)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for busy in &mut self.0 {
            let _ = busy.kill();
            let _ = busy.wait();
        }
    }
}

/// Leaves three hosts alone for `time` with every core loaded; prints what they suspected and says whether it was nothing.
///
/// # Errors
/// The cluster did not come up.
pub fn run(profile: &str, time: Duration) -> Result<bool> {
    let lab = ready(&Hardware::plain(3, false, profile))?;
    let cores = std::thread::available_parallelism().during("the number of cores")?.get();
    let mark = check::Mark::now(&lab)?;
    let load = Load::on(cores)?;
    println!("three hosts, profile {profile}, {cores} cores loaded, {} s untouched", time.as_secs());
    wait::pause(time);
    drop(load);
    let lines = mark.all_since(&lab)?;
    let suspicions: Vec<_> = lines.iter().filter(|line| SUSPICIONS.contains(&line.kind.as_str())).collect();
    for line in &suspicions {
        println!("  {} {} {}", line.boot_ms, line.host, line.text());
    }
    println!("{} suspicions", suspicions.len());
    Ok(suspicions.is_empty())
}
