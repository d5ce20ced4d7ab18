//! A client that sends deliveries as klikit does: each again until it is answered with 200.

use std::collections::{BTreeSet, HashMap, VecDeque};

/// The deliveries that were sent, and their answers.
pub(crate) struct Client {
    /// Returns the event of a delivery by its number.
    events: Box<dyn Fn(u64) -> String>,
    made: u64,
    /// The deliveries without an answer, and the process that each was sent to.
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

    /// Repeats some deliveries that were answered with 200, as if the answer had been lost.
    pub(crate) fn repeat_some(&mut self) {
        let step = self.acknowledged.len() / 32 + 1;
        self.again.extend(self.acknowledged.iter().step_by(step).cloned());
    }

    /// Returns how many deliveries wait for an answer of this process.
    pub(crate) fn open_at(&self, process: u32) -> usize {
        self.open.values().filter(|other| **other == process).count()
    }

    /// Returns the next delivery for this process: first one that must be sent again.
    pub(crate) fn next(&mut self, process: u32) -> String {
        let event = self.again().unwrap_or_else(|| {
            self.made += 1;
            (self.events)(self.made)
        });
        self.open.insert(event.clone(), process);
        event
    }

    /// Returns a delivery for this process that must be sent again.
    pub(crate) fn next_again(&mut self, process: u32) -> Option<String> {
        let event = self.again()?;
        self.open.insert(event.clone(), process);
        Some(event)
    }

    fn again(&mut self) -> Option<String> {
        // Never twice at a time, because it would not be known which one was answered.
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

    /// Notes that a process has died. The deliveries that it has not answered are sent again.
    pub(crate) fn lost(&mut self, process: u32) {
        let lost: Vec<_> = self.open.extract_if(|_, other| *other == process).map(|(event, _)| event).collect();
        self.unanswered += lost.len();
        self.again.extend(lost);
    }

    pub(crate) fn is_all_acknowledged(&self) -> bool {
        self.open.is_empty() && self.again.is_empty()
    }
}
