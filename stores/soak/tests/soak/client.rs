//! A client that sends deliveries as klikit does: it repeats each delivery until the response is 200.

use std::collections::{BTreeSet, HashMap, VecDeque};

/// The state of a client: the deliveries that it has sent, and the responses to them.
pub(crate) struct Client {
    /// Returns the event id for a number.
    events: Box<dyn Fn(u64) -> String>,
    /// The number of events so far.
    made: u64,
    /// The deliveries without a response, each with the process that it was sent to.
    open: HashMap<String, u32>,
    /// The deliveries to send again.
    again: VecDeque<String>,
    pub(crate) acknowledged: BTreeSet<String>,
    /// The number of responses with 503.
    pub(crate) rejected: usize,
    /// The number of deliveries whose process died before it responded.
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
            rejected: 0,
            unanswered: 0,
        }
    }

    /// Schedules some acknowledged deliveries to be sent again, as if the response had been lost.
    pub(crate) fn repeat_some(&mut self) {
        let step = self.acknowledged.len() / 32 + 1;
        self.again.extend(self.acknowledged.iter().step_by(step).cloned());
    }

    /// Returns how many deliveries wait for a response from this process.
    pub(crate) fn open_at(&self, process: u32) -> usize {
        self.open.values().filter(|other| **other == process).count()
    }

    /// Returns the next delivery for this process. Prefers deliveries that must be sent again to new ones.
    pub(crate) fn next(&mut self, process: u32) -> String {
        let event = self.again().unwrap_or_else(|| {
            self.made += 1;
            (self.events)(self.made)
        });
        self.open.insert(event.clone(), process);
        event
    }

    /// Returns a delivery for this process that must be sent again, or `None` if there are no such deliveries.
    pub(crate) fn next_again(&mut self, process: u32) -> Option<String> {
        let event = self.again()?;
        self.open.insert(event.clone(), process);
        Some(event)
    }

    fn again(&mut self) -> Option<String> {
        // Skip open deliveries: with two copies open, a response could belong to either.
        let at = self.again.iter().position(|event| !self.open.contains_key(event))?;
        self.again.remove(at)
    }

    /// Records a response.
    pub(crate) fn answered(&mut self, status: u16, event: String) {
        self.open.remove(&event);
        match status {
            200 => {
                self.acknowledged.insert(event);
            }
            503 => {
                self.rejected += 1;
                self.again.push_back(event);
            }
            other => panic!("the response to {event} has the status {other}"),
        }
    }

    /// Records the death of a process. Schedules its open deliveries to be sent again.
    pub(crate) fn lost(&mut self, process: u32) {
        let lost: Vec<_> = self.open.extract_if(|_, other| *other == process).map(|(event, _)| event).collect();
        self.unanswered += lost.len();
        self.again.extend(lost);
    }

    pub(crate) fn is_all_acknowledged(&self) -> bool {
        self.open.is_empty() && self.again.is_empty()
    }
}
