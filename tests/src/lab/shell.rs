//! Running other programs, bounded in time, with their words in the error.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::trouble::{Context, Result, Trouble};

/// No program that the lab calls for itself takes longer; `timeout` ends it.
const CALL_LIMIT_S: u64 = 30;

/// A finished program.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output, then standard error.
    pub text: String,
}

/// Runs a program and gives its exit code and words, whatever the code.
///
/// # Errors
/// The program could not be started.
pub fn call(program: &str, arguments: &[&str]) -> Result<Finished> {
    call_within(Duration::from_secs(CALL_LIMIT_S), program, arguments)
}

/// As [`call`], ended after `limit` (exit code 124).
///
/// # Errors
/// The program could not be started.
pub fn call_within(limit: Duration, program: &str, arguments: &[&str]) -> Result<Finished> {
    let output = Command::new("timeout")
        .args(["--kill-after=2", &limit.as_secs().max(1).to_string(), program])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .during(program)?;
    Ok(finished(&output))
}

/// Runs a program that has to succeed and gives its words.
///
/// # Errors
/// It could not be started, or its exit code was not 0.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let done = call(program, arguments)?;
    if done.code == Some(0) {
        return Ok(done.text);
    }
    Err(Trouble::new(format!(
        "{program} {}: exit {:?}: {}",
        arguments.join(" "),
        done.code,
        done.text.trim()
    )))
}

/// Runs a program that has to succeed, with `input` on its standard input.
///
/// # Errors
/// It could not be started, or its exit code was not 0.
pub fn feed(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let mut child = Command::new("timeout")
        .args([&CALL_LIMIT_S.to_string(), program])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .during(program)?;
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(input.as_bytes()).during(program)?;
    }
    let done = finished(&child.wait_with_output().during(program)?);
    if done.code == Some(0) {
        return Ok(done.text);
    }
    Err(Trouble::new(format!(
        "{program} {}: exit {:?}: {}\n{input}",
        arguments.join(" "),
        done.code,
        done.text.trim()
    )))
}

fn finished(output: &Output) -> Finished {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Finished { code: output.status.code(), text }
}

/// Writes a file whole, with `mode`, and says which file when it cannot.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .during(path.display())?;
    file.set_permissions(std::fs::Permissions::from_mode(mode)).during(path.display())?;
    file.write_all(text.as_bytes()).during(path.display())
}

/// Reads a file; a missing one is an error that names it.
///
/// # Errors
/// The file cannot be read.
pub fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).during(path.display())
}

/// Makes a directory and its parents.
///
/// # Errors
/// It cannot be made.
pub fn make_dir(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).during(path.display())
}
