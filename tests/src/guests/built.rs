//! Programs of the other crates, built here to be run beside or in a guest, without what only a debugger reads.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::Rack;
use crate::lab::shell;
use crate::lab::trouble::{Context, Result, Trouble};

/// Building them from nothing, beside others.
const LIMIT: Duration = Duration::from_secs(1200);

/// The tests of a package (`which` as `cargo test` takes it: `--lib`, `--test=NAME`).
///
/// # Errors
/// They do not build.
pub fn tests(rack: &Rack, package: &str, which: &str) -> Result<PathBuf> {
    cargo(rack, &["test", "--no-run", &format!("--package={package}"), which])
}

/// An example of a package, optimised.
///
/// # Errors
/// It does not build.
pub fn example(rack: &Rack, package: &str, name: &str) -> Result<PathBuf> {
    let example = format!("--example={name}");
    cargo(rack, &["build", "--release", &format!("--package={package}"), &example])
}

fn cargo(rack: &Rack, what: &[&str]) -> Result<PathBuf> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml").display().to_string();
    let always = ["--locked", "--message-format=json", "--manifest-path", &manifest];
    let built = shell::call_within(LIMIT, &cargo, &[what, &always].concat())?;
    let executable = built
        .text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|word| word.get("executable").and_then(Value::as_str).map(str::to_owned))
        .next_back();
    let Some(executable) = executable.filter(|_| built.code == Some(0)) else {
        return Err(Trouble::new(format!("cargo {}: {}", what.join(" "), built.text.trim())));
    };
    let small = rack.dir().join("program");
    shell::run("strip", &["-o", &small.display().to_string(), &executable])
        .during("strip (package binutils)")?;
    Ok(small)
}
