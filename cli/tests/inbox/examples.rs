//! Runs the examples that each command's `--help` ends with, and compares the README with them.

use std::{env, path::Path, process::Command};

use crate::{stores::TestStore, support::klikit};

/// The commands whose examples run, one after the other, on one store.
const COMMANDS: &[&[&str]] = &[
    &["inbox"],
    &["inbox", "stats"],
    &["inbox", "list"],
    &["inbox", "show"],
    &["inbox", "tail"],
    &["inbox", "retry"],
    &["inbox", "replay"],
    &["inbox", "dead-letter"],
    &["inbox", "pause"],
    &["inbox", "pauses"],
    &["inbox", "resume"],
    &["inbox", "backup"],
    &["inbox", "forget"],
    &["inbox", "erase"],
    &["inbox", "purge"],
    &["ledger", "forget"],
    &["migrate"],
];

fn examples(command: &[&str]) -> Vec<String> {
    let help = klikit(command.iter().copied().chain(["--help"])).run().success();
    let (_, examples) = help.split_once("\nExamples:\n").expect("examples at the end");
    assert!(!examples.is_empty());
    examples.lines().map(|line| line.trim().to_owned()).collect()
}

/// Runs the examples of a command in a shell, in the folder of the store.
fn run_examples(command: &[&str], folder: &Path) {
    let programs = Path::new(env!("CARGO_BIN_EXE_klikit")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), env::var("PATH").unwrap());
    for line in examples(command) {
        // Ctrl-c ends `tail`, and then its exit code is 130.
        let (limit, code) = if command.contains(&"tail") { ("3", 130) } else { ("60", 0) };
        let mut shell = Command::new("timeout");
        shell.args(["--signal", "INT", "--preserve-status", limit, "sh", "-c", &format!("exec {line}")]);
        shell.current_dir(folder).env("PATH", &path).env("KLIKIT_STORE", "klikit.db");
        let output = shell.output().expect("a shell runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        let shown = format!("{line}\n{}{stderr}", String::from_utf8_lossy(&output.stdout));
        assert!(output.status.code() == Some(code) && stderr.starts_with("store: klikit.db\n"), "{shown}");
    }
}

#[tokio::test]
async fn examples_run() {
    let store = TestStore::sqlite();
    store.accept(1..=3).await;
    for command in COMMANDS {
        run_examples(command, store.service.folder.path());
    }
}

#[test]
fn readme_shows_the_examples() {
    let readme = include_str!("../../README.md");
    for example in COMMANDS.iter().copied().flat_map(examples) {
        assert!(readme.contains(&format!("\n{example}\n")), "{example}");
    }
}
