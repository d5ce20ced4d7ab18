//! Process tests of the commands that the README names: the examples and `tests/run`.
#![cfg(unix)]

mod arguments;
mod cleaning;
mod run;
mod secrecy;

use std::{
    env,
    path::PathBuf,
    process::{Command, Output},
};

use tempfile::TempDir;

/// An example, which `cargo test` builds along with this program.
struct Example {
    command: Command,
    /// The working directory, which is also the folder for temporary files.
    folder: TempDir,
}

/// The end of a process.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Example {
    /// Prepares an example that uses any free port and has no secret in its environment.
    fn new(name: &str, arguments: &[&str]) -> Self {
        let program = env::current_exe().expect("this program has a path");
        let target = program.ancestors().nth(2).expect("this program is in target/debug/deps");
        let program = target.join("examples").join(name);
        assert!(program.exists(), "the examples are not built: run `cargo build --examples`");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&folder).env("TMPDIR", folder.path());
        command.env("PORT", "0").env_remove("KLIKIT_WEBHOOK_SECRET").env_remove("KLIKIT_WEBHOOK_SECRET_OLD");
        Self { command, folder }
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs the example to its end. Asserts that it leaves no file.
    #[track_caller]
    fn run(mut self) -> Ended {
        let ended = Ended::of(&mut self.command);
        let mut left = self.folder.path().read_dir().expect("the folder exists");
        assert!(left.next().is_none(), "{:?} left files: {ended}", self.command);
        ended
    }
}

impl Ended {
    fn of(command: &mut Command) -> Self {
        let Output { status, stdout, stderr } = command.output().expect("the program starts");
        let text = |bytes| String::from_utf8(bytes).expect("the output is UTF-8");
        Self { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {:?}\n{}{}", self.code, self.stdout, self.stderr)
    }
}

/// Returns the root of the repository.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}
