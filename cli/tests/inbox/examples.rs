//! Runs the examples that each command's `--help` ends with.

use std::path::Path;

use crate::{
    stores::TestStore,
    support::{examples, shell},
};

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
    &["ledger"],
    &["ledger", "show"],
    &["ledger", "forget"],
    &["migrate"],
];

/// Runs the examples of a command in a shell, in the folder of the store.
fn run_examples(command: &[&str], folder: &Path) {
    for example in examples(command.iter().copied()) {
        // Ctrl-c reaches the command only if it replaces the shell.
        let mut running = shell(&format!("exec {example}"), folder).env("KLIKIT_STORE", "klikit.db").start();
        let code = if command == ["inbox", "tail"] {
            running.wait_for_note("watching, until ctrl-c");
            running.interrupt();
            130
        } else {
            0
        };
        let ended = running.wait();
        assert!(ended.code == Some(code) && ended.stderr.starts_with("store: klikit.db\n"), "{example}\n{ended}");
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
