//! The test bench: children that share a store, the client that sends them deliveries, and the journal.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc::{Receiver, Sender, channel},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    LEASE, TIMEOUT,
    child::{Orders, Place, Work},
    client::Client,
    journal::{self, Journal, Record},
    node::{Line, Message, Node},
};

/// A test bench.
pub(crate) struct Soak {
    /// The orders of the children that are started next.
    pub(crate) orders: Orders,
    pub(crate) client: Client,
    /// The maximum number of deliveries that wait for a response from each child.
    pub(crate) window: usize,
    pub(crate) kills: usize,
    /// The number of children that a delivery has killed, or `None` if the test has no poisonous deliveries.
    pub(crate) aborts: Option<usize>,
    nodes: Vec<Node>,
    journal: Journal,
    messages: Receiver<Message>,
    sender: Sender<Message>,
    _folder: TempDir,
}

/// Creates a temporary folder on the disk of the target folder.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the folder can be created")
}

impl Soak {
    /// Returns a test bench with its journal in `folder`. The folder is deleted on drop.
    pub(crate) fn new(folder: TempDir, store: Place, client: Client) -> Self {
        let path = folder.path().join("journal");
        let (sender, messages) = channel();
        Self {
            journal: Journal::open(&path),
            orders: Orders {
                store,
                journal: path,
                log: folder.path().join("log"),
                by_branch: false,
                work: Work::All,
                max_attempts: 1000,
                lease: LEASE,
            },
            client,
            window: 48,
            kills: 0,
            aborts: None,
            nodes: Vec::new(),
            messages,
            sender,
            _folder: folder,
        }
    }

    /// Returns a test bench with SQLite, whose file is in a separate folder next to the journal.
    pub(crate) fn sqlite(client: Client) -> Self {
        let folder = folder();
        let file = store_file(folder.path());
        Self::new(folder, Place::Sqlite(file), client)
    }

    /// Starts a child, and waits until it is ready.
    pub(crate) fn start(&mut self) {
        let command = self.orders.command();
        self.start_as(command);
        self.until("a child is ready", |line| matches!(line, Line::Ready));
    }

    /// Starts a child with this command, without waiting until it is ready.
    pub(crate) fn start_as(&mut self, mut command: Command) {
        let node = Node::start(&mut command, &self.sender);
        self.nodes.push(node);
    }

    /// Sends deliveries to all children until `time` has passed since the first response.
    pub(crate) fn load(&mut self, time: Duration) {
        let started = Instant::now();
        let mut first_answer = None;
        loop {
            // Fill all windows in each round, because a child that a delivery has killed is replaced.
            self.fill();
            let end = first_answer.map_or(started + TIMEOUT, |at| at + time);
            let Some(left) = end.checked_duration_since(Instant::now()) else { break };
            let Ok(message) = self.messages.recv_timeout(left) else { break };
            if matches!(message.line, Line::Answered { .. }) {
                first_answer.get_or_insert_with(Instant::now);
            }
            self.receive(message);
        }
        assert!(first_answer.is_some(), "no delivery was answered");
    }

    /// Sends unanswered deliveries again until all are acknowledged, and waits until the backlog is empty.
    pub(crate) fn settle(&mut self) {
        let mut progressed = Instant::now();
        let mut left = None;
        while left != Some(0) {
            assert!(progressed.elapsed() < TIMEOUT, "no progress, with {left:?} deliveries left");
            for node in &mut self.nodes {
                while self.client.open_at(node.process()) < self.window
                    && let Some(event) = self.client.next_again(node.process())
                {
                    node.tell(&event);
                }
            }
            match self.messages.recv_timeout(Duration::from_millis(20)) {
                Ok(message) => {
                    if let Line::Left(number) = message.line
                        && left.is_none_or(|left| number < left)
                    {
                        left = Some(number);
                        progressed = Instant::now();
                    }
                    self.receive(message);
                }
                Err(_) if self.client.is_all_acknowledged() => self.nodes[0].tell("?"),
                Err(_) => {}
            }
        }
    }

    /// Kills a child. Does not start another one.
    pub(crate) fn kill(&mut self, index: usize) {
        let mut node = self.nodes.remove(index);
        node.kill();
        self.kills += 1;
        self.record_death(node.process());
    }

    pub(crate) fn kill_all(&mut self) {
        while !self.nodes.is_empty() {
            self.kill(0);
        }
    }

    /// Sends SIGTERM to a child and then more deliveries, and waits until the child has ended.
    pub(crate) fn terminate(&mut self, index: usize) {
        let mut node = self.nodes.remove(index);
        node.terminate();
        for _ in 0..self.window {
            let event = self.client.next(node.process());
            node.tell(&event);
        }
        assert!(node.end(), "a child has failed while it stopped");
        self.record_death(node.process());
    }

    /// Records the death of a process in the journal, receives all its messages, and schedules its open deliveries
    /// again.
    fn record_death(&mut self, process: u32) {
        self.journal.died(process);
        while let Ok(message) = self.messages.try_recv() {
            self.receive(message);
        }
        self.client.lost(process);
    }

    /// Sends deliveries to all children until their windows are full.
    fn fill(&mut self) {
        for node in &mut self.nodes {
            while self.client.open_at(node.process()) < self.window {
                let event = self.client.next(node.process());
                node.tell(&event);
            }
        }
    }

    /// Receives messages until a line matches.
    fn until(&mut self, event: &str, matches: impl Fn(&Line) -> bool) {
        let started = Instant::now();
        loop {
            let left = TIMEOUT.saturating_sub(started.elapsed());
            let message =
                self.messages.recv_timeout(left).unwrap_or_else(|_| panic!("timed out waiting until {event}"));
            let is_match = matches(&message.line);
            self.receive(message);
            if is_match {
                return;
            }
        }
    }

    /// Processes a message. If a delivery has killed the child, starts another child.
    fn receive(&mut self, message: Message) {
        match message.line {
            Line::Answered { status, event } => self.client.answered(status, event),
            Line::Ready | Line::Left(_) => {}
            Line::Ended => {
                // A child that this test has killed or stopped is no longer in the list.
                if let Some(index) = self.nodes.iter().position(|node| node.process() == message.process) {
                    let mut node = self.nodes.remove(index);
                    assert!(!node.end() && self.aborts.is_some(), "a child has ended unexpectedly");
                    self.aborts = self.aborts.map(|aborts| aborts + 1);
                    self.record_death(node.process());
                    self.start_as(self.orders.command());
                }
            }
        }
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        journal::read(&self.orders.journal)
    }
}

/// Creates a folder for the store's files, and returns the path of the database file.
pub(crate) fn store_file(folder: &Path) -> PathBuf {
    let folder = folder.join("store");
    std::fs::create_dir_all(&folder).expect("the folder can be created");
    folder.join("klikit.db")
}
