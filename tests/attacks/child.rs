//! Child processes: this program as the server or as the attacker.
//!
//! A child reads its [`Role`] from an environment variable, prints lines that begin with `> `, and ends when its input ends.

use std::{
    env,
    io::{BufRead, BufReader, Lines, Read, Write},
    process::{self, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::{attackers::Attack, server};

const ROLE: &str = "KLIKIT_ATTACKS_ROLE";

/// The time after which a child ends if its parent neither closes its input nor ends.
const LIFETIME: Duration = Duration::from_secs(180);

/// A script that raises the limit on open files as far as possible and then runs the program.
const WITH_MANY_FILES: &str = r#"ulimit -n "$(ulimit -H -n)"; exec "$@""#;

/// The role of a child process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Role {
    Server,
    Attacker { port: u16, attack: Attack },
}

/// A child process. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Child {
    process: process::Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Child {
    pub(crate) fn server() -> Self {
        Self::start(Command::new("sh"), &Role::Server)
    }

    /// Starts an attacker with a low priority, because a real attacker would not use the server's processors.
    pub(crate) fn attacker(port: u16, attack: &Attack) -> Self {
        let mut command = Command::new("nice");
        command.args(["-n", "19", "sh"]);
        Self::start(command, &Role::Attacker { port, attack: attack.clone() })
    }

    fn start(mut command: Command, role: &Role) -> Self {
        command.args(["-c", WITH_MANY_FILES, "sh"]).arg(env::current_exe().expect("this program has a path"));
        command.args(["--exact", "--nocapture", "child::run_role"]);
        command.env(ROLE, serde_json::to_string(role).expect("a role is plain data"));
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sh runs");
        let input = process.stdin.take();
        let lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        Self { process, input, lines }
    }

    /// Returns the program's pid, which is also that of `nice` and `sh`, because both replace themselves with the program.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Returns the rest of the next line that begins with `> `. The other lines are those of the test harness.
    pub(crate) fn line(&mut self) -> String {
        let lines = self.lines.by_ref().map_while(Result::ok);
        let mut said = lines.filter_map(|line| line.strip_prefix("> ").map(str::to_owned));
        said.next().expect("the child prints a line")
    }

    /// Closes the child's input.
    pub(crate) fn stop(&mut self) {
        self.input = None;
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs the role of a child process. Does nothing in the parent. It is a test because the child is this test program.
#[test]
fn run_role() {
    let Ok(role) = env::var(ROLE) else { return };
    thread::spawn(|| {
        thread::sleep(LIFETIME);
        process::exit(1);
    });
    let runtime = Runtime::new().expect("a runtime");
    match serde_json::from_str(&role).expect("a role") {
        Role::Server => runtime.block_on(server::serve()),
        Role::Attacker { port, attack } => runtime.block_on(attack.run(port)),
    }
}

/// Prints a line for the parent.
pub(crate) fn tell_parent(text: &str) {
    // Begin a new line, because the test harness may have begun one. Ignore an error, because the parent may be gone.
    let _ = writeln!(std::io::stdout(), "\n> {text}");
}

/// Waits for the end of the input. Blocks the thread.
pub(crate) fn wait_for_stop() {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}
