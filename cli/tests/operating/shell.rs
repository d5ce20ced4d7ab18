//! A shell in which an operator runs the commands of the guide.

use std::path::Path;

use crate::{GUIDE, process::Secrets, support::shell};

/// A shell in a folder with stores and other files.
#[derive(Clone, Copy)]
pub(crate) struct Shell<'a> {
    pub(crate) folder: &'a Path,
    /// The value of `KLIKIT_STORE`.
    pub(crate) store: &'a str,
    pub(crate) secrets: Secrets,
}

impl Shell<'_> {
    /// Runs a command of the guide, which must succeed, and returns its output.
    #[track_caller]
    pub(crate) fn look(&self, command: &str) -> String {
        assert_shown(command);
        self.run(command, 0)
    }

    /// Runs a command of the guide with `--yes`, which must succeed, and returns its output.
    #[track_caller]
    pub(crate) fn act(&self, command: &str) -> String {
        assert_shown(command);
        self.run(&format!("{command} --yes"), 0)
    }

    /// Runs a command, and returns its output.
    #[track_caller]
    pub(crate) fn run(&self, command: &str, code: i32) -> String {
        let run = shell(command, self.folder).env("KLIKIT_STORE", self.store);
        let ended = self.secrets.variables().fold(run, |run, (name, secret)| run.env(name, secret)).run();
        assert_eq!(ended.code, Some(code), "{command}\n{ended}");
        ended.stdout
    }
}

/// Asserts that the guide shows a command.
#[track_caller]
pub(crate) fn assert_shown(command: &str) {
    assert!(GUIDE.contains(&format!("\n{command}\n")), "not in the guide: {command}");
}
