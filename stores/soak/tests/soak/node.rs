//! A child process, seen from its parent.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::Sender,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::FOR_EVER;

/// A line that a child has printed.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) process: u32,
    pub(crate) what: Line,
}

#[derive(Debug)]
pub(crate) enum Line {
    Ready,
    /// The child has answered the delivery of an event with a status.
    Answered {
        status: u16,
        event: String,
    },
    /// So many deliveries have yet to be handled.
    Left(u64),
    /// The child has ended.
    Ended,
}

/// A child. It is killed when this is dropped, and ends with its input when its parent is killed.
#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    input: ChildStdin,
    reader: Option<JoinHandle<()>>,
}

impl Node {
    pub(crate) fn start(command: &mut Command, said: &Sender<Said>) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("this program runs");
        let (input, output) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        let (process, said) = (child.id(), said.clone());
        let reader = thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            for what in lines.filter_map(|line| Line::parse(&line)).chain([Line::Ended]) {
                let _ = said.send(Said { process, what });
            }
        });
        Self { child, input, reader: Some(reader) }
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Sends a line to the child, which may have died.
    pub(crate) fn tell(&mut self, line: &str) {
        let _ = writeln!(self.input, "{line}");
    }

    /// Tells the child to stop, as a service manager does.
    pub(crate) fn terminate(&self) {
        let kill = format!("kill -TERM {}", self.process());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("sh runs").success());
    }

    /// Waits until the child has ended by itself. Returns whether it succeeded.
    pub(crate) fn end(&mut self) -> bool {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the state of a child") {
                self.hear_the_rest();
                return status.success();
            }
            assert!(started.elapsed() < FOR_EVER, "a child does not end");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Kills the child with SIGKILL, and reads everything that it has printed.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a child of ours");
        self.child.wait().expect("the end of a child");
        self.hear_the_rest();
    }

    fn hear_the_rest(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("it does not panic");
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
    /// Returns `None` for lines of the test harness.
    fn parse(line: &str) -> Option<Self> {
        let line = line.strip_prefix("> ")?;
        Some(match line.split_once(' ') {
            None => Self::Ready,
            Some(("left", number)) => Self::Left(number.parse().expect("a number")),
            Some((status, event)) => {
                Self::Answered { status: status.parse().expect("a status"), event: event.to_owned() }
            }
        })
    }
}
