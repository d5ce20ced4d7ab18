//! A child, as its parent has it.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::Sender,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::FOR_EVER;

/// What a child says, and which.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) process: u32,
    pub(crate) what: Line,
}

#[derive(Debug)]
pub(crate) enum Line {
    Ready,
    /// It has answered the delivery of an event with a status.
    Answered {
        status: u16,
        event: String,
    },
    /// So many are still to be handled.
    Left(u64),
    /// It has ended.
    Ended,
}

/// It goes with its parent: killed when this is dropped, and by the end of its input when its parent is killed.
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

    /// To one that has just died, it is said in vain.
    pub(crate) fn tell(&mut self, line: &str) {
        let _ = writeln!(self.input, "{line}");
    }

    /// Tells it to stop as a service manager does.
    pub(crate) fn terminate(&self) {
        let kill = format!("kill -TERM {}", self.process());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("sh runs").success());
    }

    /// Waits until it has ended by itself. Whether it says that all went well.
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

    /// SIGKILL. All that it has said is heard then.
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
    /// `None` for what the test harness prints.
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
