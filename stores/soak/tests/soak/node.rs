//! The parent's handle to a child process.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::Sender,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::TIMEOUT;

/// A message from a child.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) process: u32,
    pub(crate) line: Line,
}

/// A line that a child has printed, or its end.
#[derive(Debug)]
pub(crate) enum Line {
    /// The child accepts deliveries.
    Ready,
    /// The child has responded to the delivery of an event.
    Answered { status: u16, event: String },
    /// The number of deliveries that are not finished yet.
    Left(u64),
    /// The child has ended.
    Ended,
}

/// A child process, killed on drop. If the parent is killed, the child ends because its input ends.
#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    input: ChildStdin,
    reader: Option<JoinHandle<()>>,
}

impl Node {
    pub(crate) fn start(command: &mut Command, messages: &Sender<Message>) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the child starts");
        let (input, output) =
            (child.stdin.take().expect("stdin is a pipe"), child.stdout.take().expect("stdout is a pipe"));
        let (process, messages) = (child.id(), messages.clone());
        let reader = thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            for line in lines.filter_map(|line| Line::parse(&line)).chain([Line::Ended]) {
                let _ = messages.send(Message { process, line });
            }
        });
        Self { child, input, reader: Some(reader) }
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Sends a line to the child. Ignores errors, since the child may have died.
    pub(crate) fn tell(&mut self, line: &str) {
        let _ = writeln!(self.input, "{line}");
    }

    /// Sends SIGTERM to the child, as a service manager does.
    pub(crate) fn terminate(&self) {
        let kill = format!("kill -TERM {}", self.process());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("sh runs").success());
    }

    /// Waits until the child has ended by itself. Returns whether it succeeded.
    pub(crate) fn end(&mut self) -> bool {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                self.read_to_end();
                return status.success();
            }
            assert!(started.elapsed() < TIMEOUT, "a child does not end");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Kills the child with SIGKILL, and reads the rest of its output.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the child can be killed");
        self.child.wait().expect("the child can be waited for");
        self.read_to_end();
    }

    fn read_to_end(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader does not panic");
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Line {
    /// Parses a line. Returns `None` for lines of the test harness.
    fn parse(line: &str) -> Option<Self> {
        let line = line.strip_prefix("> ")?;
        Some(match line.split_once(' ') {
            None => Self::Ready,
            Some(("left", number)) => Self::Left(number.parse().expect("the count is a number")),
            Some((status, event)) => {
                Self::Answered { status: status.parse().expect("the status is a number"), event: event.to_owned() }
            }
        })
    }
}
