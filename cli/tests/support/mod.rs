//! Runs the command as a process, with a time limit on every wait.

use std::{
    collections::BTreeSet,
    env, fmt,
    io::{self, Read, Write},
    mem,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// The secret of the tests.
pub(crate) const SECRET: &str = "a-secret-for-the-tests-of-klikit";

/// The longest time that a test waits for anything. Far more than needed, for busy machines.
const LIMIT: Duration = Duration::from_secs(60);

/// A run of the command that has not started.
pub(crate) struct Klikit {
    command: Command,
    stdin: Vec<u8>,
}

/// A run of the command that has ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A run of the command.
pub(crate) struct Running {
    child: Child,
    stdout: Pipe,
    stderr: Pipe,
}

/// The output of a process.
struct Pipe {
    chunks: Receiver<Vec<u8>>,
    /// The chunks that were received.
    bytes: Vec<u8>,
}

/// Prepares a run with [`SECRET`] as the only secret in the environment, and an empty standard input.
pub(crate) fn klikit<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Klikit {
    let mut command = Command::new(env!("CARGO_BIN_EXE_klikit"));
    command.args(arguments);
    Klikit::with_secret(command)
}

/// Prepares a run of a line in a shell that finds the command, in a folder, with [`SECRET`] as the only secret in the
/// environment.
pub(crate) fn shell(line: &str, folder: &Path) -> Klikit {
    let programs = Path::new(env!("CARGO_BIN_EXE_klikit")).parent().expect("a folder");
    let path = format!("{}:{}", programs.display(), env::var("PATH").expect("the path is UTF-8"));
    let mut command = Command::new("sh");
    command.args(["-c", line]).current_dir(folder).env("PATH", path);
    Klikit::with_secret(command)
}

/// Returns the examples that the help of a command ends with. Asserts that the README shows each.
#[track_caller]
pub(crate) fn examples<'a>(command: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let help = klikit(command.into_iter().chain(["--help"])).run().success();
    let (_, examples) = help.split_once("\nExamples:\n").expect("examples at the end");
    let examples: Vec<_> = examples.lines().map(|line| line.trim().to_owned()).collect();
    assert!(!examples.is_empty(), "{help}");
    for example in &examples {
        assert!(include_str!("../../README.md").contains(&format!("\n{example}\n")), "not in the README: {example}");
    }
    examples
}

/// Asserts that the outputs of a command with `--json` have the fields that a row of the README's table documents, and
/// no others. `row` is the row's first cell.
#[track_caller]
pub(crate) fn assert_documented(row: &str, outputs: &[Value]) {
    let mut fields = BTreeSet::new();
    outputs.iter().for_each(|output| add_fields(output, &mut fields));
    let mut documented = documented_fields(row);
    if fields.contains("store") {
        documented.extend(documented_fields("all commands on a store"));
    }
    assert_eq!(fields, documented, "the fields of {row}, and those in the README");
}

/// Adds the names of a value's fields, and of the fields in them.
fn add_fields(value: &Value, fields: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            fields.extend(object.keys().cloned());
            object.values().for_each(|value| add_fields(value, fields));
        }
        Value::Array(values) => values.iter().for_each(|value| add_fields(value, fields)),
        _ => {}
    }
}

/// Returns the fields in a row of the README's table.
fn documented_fields(row: &str) -> BTreeSet<String> {
    let start = format!("| {row} | ");
    let mut lines = include_str!("../../README.md").lines();
    let cell = lines.find_map(|line| line.strip_prefix(&start)).unwrap_or_else(|| panic!("no row {row}"));
    let mut fields = BTreeSet::new();
    if cell.contains("those of a delivery") {
        fields.extend(documented_fields("a delivery"));
    }
    // The values of a field are in parentheses.
    let outside = cell.split('(').flat_map(|part| part.rsplit(')').next());
    // Every second part is between backticks. Of these, options and `null` are no fields.
    let quoted = outside.flat_map(|part| part.split('`').skip(1).step_by(2));
    fields.extend(quoted.filter(|name| !name.starts_with("--") && *name != "null").map(str::to_owned));
    fields
}

impl Klikit {
    fn with_secret(mut command: Command) -> Self {
        command.env("KLIKIT_WEBHOOK_SECRET", SECRET).env_remove("KLIKIT_WEBHOOK_SECRET_OLD");
        Self { command, stdin: Vec::new() }
    }

    /// Sets a variable of the environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs without a secret in the environment.
    pub(crate) fn without_secret(mut self) -> Self {
        self.command.env_remove("KLIKIT_WEBHOOK_SECRET");
        self
    }

    /// Sets the standard input.
    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Starts the process.
    pub(crate) fn start(mut self) -> Running {
        let piped = self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("the command starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        // The process need not read its input.
        thread::spawn(move || stdin.write_all(&self.stdin));
        let stdout = Pipe::from(child.stdout.take().expect("a pipe"));
        let stderr = Pipe::from(child.stderr.take().expect("a pipe"));
        Running { child, stdout, stderr }
    }

    /// Runs the process to its end.
    pub(crate) fn run(self) -> Ended {
        self.start().wait()
    }

    /// Runs the process with a standard output whose reader is gone. Returns the exit code and the errors.
    pub(crate) fn run_with_closed_pipe(mut self) -> Ended {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let command = self.command.stdin(Stdio::piped()).stdout(writer).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        thread::spawn(move || stdin.write_all(&self.stdin));
        let stderr = Pipe::from(child.stderr.take().expect("a pipe"));
        Running { child, stdout: Pipe::from(io::empty()), stderr }.wait()
    }
}

impl Pipe {
    fn from(mut source: impl Read + Send + 'static) -> Self {
        let (send, chunks) = mpsc::channel();
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let len @ 1.. = source.read(&mut chunk).expect("the output is readable") {
                let _ = send.send(chunk[..len].to_vec());
            }
        });
        Self { chunks, bytes: Vec::new() }
    }

    /// Waits for a chunk. Returns whether there was one before the end.
    #[track_caller]
    fn read(&mut self) -> bool {
        match self.chunks.recv_timeout(LIMIT) {
            Ok(chunk) => self.bytes.extend_from_slice(&chunk),
            Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => panic!("no output within {LIMIT:?}, after {}", self.text()),
        }
        true
    }

    /// Waits until the output so far satisfies the condition.
    #[track_caller]
    fn wait_for(&mut self, holds: impl Fn(&str) -> bool) {
        let started = Instant::now();
        while !holds(&self.text()) {
            assert!(started.elapsed() < LIMIT, "not printed within {LIMIT:?}, but: {}", self.text());
            assert!(self.read(), "the process has ended after {}", self.text());
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

impl Running {
    /// Sends ctrl-c.
    pub(crate) fn interrupt(&self) {
        self.signal("-INT");
    }

    /// Sends a signal, such as `-TERM`.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status().expect("kill runs");
        assert!(status.success(), "the process has ended before {signal}");
    }

    /// Waits until standard output contains a text so many times.
    #[track_caller]
    pub(crate) fn wait_for_output(&mut self, text: &str, times: usize) {
        self.stdout.wait_for(|output| output.matches(text).count() >= times);
    }

    /// Waits until standard error contains a text.
    #[track_caller]
    pub(crate) fn wait_for_note(&mut self, text: &str) {
        self.stderr.wait_for(|notes| notes.contains(text));
    }

    /// Waits for the end of the process.
    pub(crate) fn wait(mut self) -> Ended {
        let started = Instant::now();
        let status = loop {
            match self.child.try_wait().expect("the process can be waited for") {
                Some(status) => break status,
                None if started.elapsed() > LIMIT => panic!("the process did not end within {LIMIT:?}"),
                None => thread::sleep(Duration::from_millis(5)),
            }
        };
        let text = |pipe: &mut Pipe| {
            while pipe.read() {}
            String::from_utf8(mem::take(&mut pipe.bytes)).expect("the output is UTF-8")
        };
        Ended { code: status.code(), stdout: text(&mut self.stdout), stderr: text(&mut self.stderr) }
    }
}

/// Ends the process if its test fails before that.
impl Drop for Running {
    fn drop(&mut self) {
        // The process may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Asserts that the run succeeded without a word on standard error, and returns its output.
    #[track_caller]
    pub(crate) fn success(self) -> String {
        assert_eq!((self.code, &*self.stderr), (Some(0), ""), "{self}");
        self.stdout
    }

    /// Asserts that the run failed with exit code 2 and this line on standard error.
    #[track_caller]
    pub(crate) fn assert_error(&self, line: &str) {
        assert_eq!((&*self.stderr, self.code, &*self.stdout), (&*format!("error: {line}\n"), Some(2), ""));
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "code {:?}\nstdout:\n{}\nstderr:\n{}", self.code, self.stdout, self.stderr)
    }
}
