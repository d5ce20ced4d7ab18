//! Children on one store, the client that sends them deliveries, and the journal.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc::{Receiver, Sender, channel},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    FOR_EVER, LEASE,
    child::{Orders, Place, Work},
    client::Client,
    journal::{self, Journal, Record},
    node::{Line, Node, Said},
};

pub(crate) struct Soak {
    pub(crate) orders: Orders,
    pub(crate) client: Client,
    /// How many deliveries may wait for an answer of each child.
    pub(crate) window: usize,
    pub(crate) kills: usize,
    /// How many children have died of a delivery. `None` if no delivery is poisonous.
    pub(crate) aborts: Option<usize>,
    nodes: Vec<Node>,
    journal: Journal,
    said: Receiver<Said>,
    speaker: Sender<Said>,
    _folder: TempDir,
}

/// Makes a folder for a test, on the disk of the target folder.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

impl Soak {
    /// Puts the journal into `folder`, which is deleted with this.
    pub(crate) fn new(folder: TempDir, store: Place, client: Client) -> Self {
        let path = folder.path().join("journal");
        let (speaker, said) = channel();
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
            said,
            speaker,
            _folder: folder,
        }
    }

    /// Uses SQLite, with a file in a folder of its own next to the journal.
    pub(crate) fn sqlite(client: Client) -> Self {
        let folder = folder();
        let file = store_file(folder.path());
        Self::new(folder, Place::Sqlite(file), client)
    }

    pub(crate) fn start(&mut self) {
        let command = self.orders.command();
        self.start_as(command);
        self.until("a child is ready", |said| matches!(said, Line::Ready));
    }

    /// Starts a child without waiting until it is ready.
    pub(crate) fn start_as(&mut self, mut command: Command) {
        let node = Node::start(&mut command, &self.speaker);
        self.nodes.push(node);
    }

    /// Keeps sending deliveries, for this long from the first answer on.
    pub(crate) fn load(&mut self, time: Duration) {
        let started = Instant::now();
        let mut first_answer = None;
        loop {
            // Each time, because a new child is started when one has died of a delivery.
            self.fill();
            let end = first_answer.map_or(started + FOR_EVER, |at| at + time);
            let Some(left) = end.checked_duration_since(Instant::now()) else { break };
            let Ok(said) = self.said.recv_timeout(left) else { break };
            if matches!(said.what, Line::Answered { .. }) {
                first_answer.get_or_insert_with(Instant::now);
            }
            self.hear(said);
        }
        assert!(first_answer.is_some(), "no delivery is answered");
    }

    /// Sends unanswered deliveries until each is answered, and waits until nothing is left to handle.
    pub(crate) fn settle(&mut self) {
        let mut progressed = Instant::now();
        let mut left = None;
        while left != Some(0) {
            assert!(progressed.elapsed() < FOR_EVER, "{left:?} are left, and not handled");
            for node in &mut self.nodes {
                while self.client.open_at(node.process()) < self.window
                    && let Some(event) = self.client.next_again(node.process())
                {
                    node.tell(&event);
                }
            }
            match self.said.recv_timeout(Duration::from_millis(20)) {
                Ok(said) => {
                    if let Line::Left(number) = said.what
                        && left.is_none_or(|left| number < left)
                    {
                        left = Some(number);
                        progressed = Instant::now();
                    }
                    self.hear(said);
                }
                Err(_) if self.client.is_all_acknowledged() => self.nodes[0].tell("?"),
                Err(_) => {}
            }
        }
    }

    /// Kills a child, and starts no other.
    pub(crate) fn kill(&mut self, index: usize) {
        let mut node = self.nodes.remove(index);
        node.kill();
        self.kills += 1;
        self.buried(node.process());
    }

    pub(crate) fn kill_all(&mut self) {
        while !self.nodes.is_empty() {
            self.kill(0);
        }
    }

    /// Tells a child to stop, and goes on sending deliveries to it until it has.
    pub(crate) fn terminate(&mut self, index: usize) {
        let mut node = self.nodes.remove(index);
        node.terminate();
        for _ in 0..self.window {
            let event = self.client.next(node.process());
            node.tell(&event);
        }
        assert!(node.end(), "a child that was told to stop has failed");
        self.buried(node.process());
    }

    fn buried(&mut self, process: u32) {
        self.journal.died(process);
        while let Ok(said) = self.said.try_recv() {
            self.hear(said);
        }
        self.client.lost(process);
    }

    fn fill(&mut self) {
        for node in &mut self.nodes {
            while self.client.open_at(node.process()) < self.window {
                let event = self.client.next(node.process());
                node.tell(&event);
            }
        }
    }

    fn until(&mut self, what: &str, holds: impl Fn(&Line) -> bool) {
        let started = Instant::now();
        loop {
            let left = FOR_EVER.saturating_sub(started.elapsed());
            let said = self.said.recv_timeout(left).unwrap_or_else(|_| panic!("never: {what}"));
            let holds = holds(&said.what);
            self.hear(said);
            if holds {
                return;
            }
        }
    }

    fn hear(&mut self, said: Said) {
        match said.what {
            Line::Answered { status, event } => self.client.answered(status, event),
            Line::Ready | Line::Left(_) => {}
            Line::Ended => {
                // A child that was killed is not in the list any more.
                if let Some(index) = self.nodes.iter().position(|node| node.process() == said.process) {
                    let mut node = self.nodes.remove(index);
                    assert!(!node.end() && self.aborts.is_some(), "a child has ended by itself");
                    self.aborts = self.aborts.map(|aborts| aborts + 1);
                    self.buried(node.process());
                    self.start_as(self.orders.command());
                }
            }
        }
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        journal::read(&self.orders.journal)
    }
}

pub(crate) fn store_file(folder: &Path) -> PathBuf {
    let folder = folder.join("store");
    std::fs::create_dir_all(&folder).expect("a folder");
    folder.join("klikit.db")
}
