//! The completions in a real bash on a real terminal, and the manual pages in a real `man`.

#![allow(clippy::unwrap_used, reason = "clippy knows a test only inside #[test]")]

mod common;

use std::path::Path;
use std::process::Command;

use common::Terminal;

const PALISADE: &str = env!("CARGO_BIN_EXE_palisade");

#[test]
fn bash_completes_commands_and_options() {
    let dir = tempfile::tempdir().unwrap();
    let beside = Path::new(PALISADE).parent().unwrap().display();
    let bash = format!("env PATH={beside}:$PATH PS1=ready: bash --norc --noprofile -i");
    let terminal = Terminal::start(&dir.path().join("tmux"), &bash);
    terminal.shows("ready:");
    terminal.types("source <(palisade completions bash); echo sourced-$?");
    terminal.shows("\nsourced-0");
    terminal.tmux(&["send-keys", "-l", "palisade fe"]);
    terminal.tmux(&["send-keys", "Tab"]);
    terminal.shows("palisade fence");
    terminal.tmux(&["send-keys", "-l", "--", "--without"]);
    terminal.tmux(&["send-keys", "Tab"]);
    terminal.shows("palisade fence --without-quorum");
    terminal.tmux(&["send-keys", "C-c"]);
    terminal.tmux(&["send-keys", "-l", "palisade audit ver"]);
    terminal.tmux(&["send-keys", "Tab"]);
    terminal.shows("palisade audit verify");
}

#[test]
fn every_shell_has_a_script() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = Command::new(PALISADE).args(["completions", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && script.contains("without-quorum"), "{shell}");
    }
}

#[test]
fn each_manual_page_renders_without_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    assert!(Command::new(PALISADE).arg("man").arg(&pages).status().unwrap().success());
    let mut names = Vec::new();
    for page in std::fs::read_dir(&pages).unwrap() {
        let page = page.unwrap().path();
        names.push(page.file_name().unwrap().to_string_lossy().into_owned());
        // As Debian's lintian looks at a page.
        let mut man = Command::new("man");
        man.env("LC_ALL", "C.UTF-8").env("MANROFFSEQ", "").env("MANWIDTH", "80");
        let output =
            man.args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"]).arg(&page).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{}: {said}", page.display());
    }
    names.sort();
    for name in
        ["palisade.1", "palisade-fence.1", "palisade-audit-verify.1", "palisade-status.1", "palisade-why.1"]
    {
        assert!(names.iter().any(|found| found == name), "{name}: {names:?}");
    }
    let mut man = Command::new("man");
    man.env("LC_ALL", "C.UTF-8").env("MANWIDTH", "80").env("MANPAGER", "cat");
    let output = man.args(["--nh", "--nj", "-l"]).arg(pages.join("palisade-fence.1")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    for part in ["palisade-fence - Fence a host", "palisade fence", "--without-quorum"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}
