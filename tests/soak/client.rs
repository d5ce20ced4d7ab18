//! Who sends the deliveries, as klikit does: each again until it is answered with 200.

use std::collections::{BTreeSet, HashMap, VecDeque};

/// What was sent, and what became of it.
pub(crate) struct Client {
    /// The event of each delivery, by its number.
    events: Box<dyn Fn(u64) -> String>,
    made: u64,
    /// What has no answer yet, and the process that it was sent to.
    open: HashMap<String, u32>,
    again: VecDeque<String>,
    pub(crate) acknowledged: BTreeSet<String>,
    pub(crate) refused: usize,
    pub(crate) unanswered: usize,
}

impl Client {
    pub(crate) fn new(events: impl Fn(u64) -> String + 'static) -> Self {
        Self {
            events: Box::new(events),
            made: 0,
            open: HashMap::new(),
            again: VecDeque::new(),
            acknowledged: BTreeSet::new(),
            refused: 0,
            unanswered: 0,
        }
    }

    /// Sends some of those again that were answered with 200, as when the answer does not arrive.
    pub(crate) fn repeat_some(&mut self) {
        let step = self.acknowledged.len() / 32 + 1;
        self.again.extend(self.acknowledged.iter().step_by(step).cloned());
    }

    /// How many wait for an answer of this process.
    pub(crate) fn open_at(&self, process: u32) -> usize {
        self.open.values().filter(|other| **other == process).count()
    }

    /// What to send to this process next: first what is to be sent again.
    pub(crate) fn next(&mut self, process: u32) -> String {
        let event = self.again().unwrap_or_else(|| {
            self.made += 1;
            (self.events)(self.made)
        });
        self.open.insert(event.clone(), process);
        event
    }

    /// The same, without anything new.
    pub(crate) fn next_again(&mut self, process: u32) -> Option<String> {
        let event = self.again()?;
        self.open.insert(event.clone(), process);
        Some(event)
    }

    fn again(&mut self) -> Option<String> {
        // Never twice at once, or it would not be known which was answered.
        let at = self.again.iter().position(|event| !self.open.contains_key(event))?;
        self.again.remove(at)
    }

    pub(crate) fn answered(&mut self, status: u16, event: String) {
        self.open.remove(&event);
        match status {
            200 => {
                self.acknowledged.insert(event);
            }
            503 => {
                self.refused += 1;
                self.again.push_back(event);
            }
            other => panic!("{event} was answered with {other}"),
        }
    }

    /// The process has died: what it has not answered is sent again.
    pub(crate) fn lost(&mut self, process: u32) {
        let lost: Vec<_> = self.open.extract_if(|_, other| *other == process).map(|(event, _)| event).collect();
        self.unanswered += lost.len();
        self.again.extend(lost);
    }

    pub(crate) fn is_all_acknowledged(&self) -> bool {
        self.open.is_empty() && self.again.is_empty()
    }
}
