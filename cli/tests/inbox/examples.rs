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
        // Ctrl-c ends `tail`, and then its exit code is 130.
        let (line, code) = match command {
            ["inbox", "tail"] => (format!("timeout --signal INT --preserve-status 3 {example}"), 130),
            _ => (example, 0),
        };
        let ended = shell(&line, folder).env("KLIKIT_STORE", "klikit.db").run();
        assert!(ended.code == Some(code) && ended.stderr.starts_with("store: klikit.db\n"), "{line}\n{ended}");
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
