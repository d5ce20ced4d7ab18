//! A shell in which an operator runs the commands of the guide.

use std::{env, path::Path, process::Command};

use tower_klikit_test_support::service::OLD_SECRET;

use crate::GUIDE;

/// A shell in a folder with stores and other files.
pub(crate) struct Shell<'a> {
    pub(crate) folder: &'a Path,
    /// The value of `KLIKIT_STORE`.
    pub(crate) store: &'a str,
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
        let programs = Path::new(env!("CARGO_BIN_EXE_klikit")).parent().unwrap();
        let path = format!("{}:{}", programs.display(), env::var("PATH").unwrap());
        let output = Command::new("timeout")
            .args(["120", "sh", "-c", command])
            .current_dir(self.folder)
            .envs([("PATH", &*path), ("KLIKIT_STORE", self.store), ("KLIKIT_WEBHOOK_SECRET", OLD_SECRET)])
            .output()
            .expect("a shell runs");
        let text = |bytes| String::from_utf8(bytes).expect("the output is UTF-8");
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        assert_eq!(output.status.code(), Some(code), "{command}\n{stdout}{stderr}");
        stdout
    }
}

/// Asserts that the guide shows a command.
#[track_caller]
pub(crate) fn assert_shown(command: &str) {
    assert!(GUIDE.contains(&format!("\n{command}\n")), "not in the guide: {command}");
}
