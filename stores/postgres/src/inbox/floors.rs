//! Where the searches for deliveries begin.
//!
//! An index keeps the entries of what was leased and settled for as long as a snapshot is open that might see it, such
//! as that of a dump. A search from the start reads all of them. If it has read many, the next searches begin shortly
//! before the first delivery that it found.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// How many entries a search may read from the start until the next ones begin at a floor.
const MANY: i64 = 2_000;

/// How long searches begin at a floor until one begins at the start again.
///
/// Only that one finds a delivery that is due before the floor: one whose transaction took longer than the margin, that
/// another node had locked and released, or that was changed by hand.
const FLOORED: Duration = Duration::from_secs(5);

/// The times before which probably no delivery is due.
pub(crate) struct Floors {
    /// How long the transaction that makes a delivery due may take to commit.
    margin: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    floors: Times,
    /// When a search from the start has read many entries, unless the last one has not.
    read_many: Option<Instant>,
}

/// A time for the deliveries without ordering keys, and one for those with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) loose: Option<SystemTime>,
    pub(super) ordered: Option<SystemTime>,
}

impl Floors {
    pub(crate) fn new(margin: Duration) -> Self {
        Self { margin, state: Mutex::default() }
    }

    /// Returns where the next search begins. Returns `None` if it begins at the start.
    pub(super) fn next(&self) -> Option<Times> {
        let state = self.state();
        let is_floored = state.read_many.is_some_and(|since| since.elapsed() < FLOORED);
        is_floored.then_some(state.floors)
    }

    /// Notes when the first deliveries were due that a search has found.
    pub(super) fn found(&self, first: Times) {
        let before = |time: SystemTime| time.checked_sub(self.margin);
        let floors = &mut self.state().floors;
        floors.loose = first.loose.map_or(floors.loose, before);
        floors.ordered = first.ordered.map_or(floors.ordered, before);
    }

    /// Notes how many entries a search has read from the start.
    pub(super) fn read(&self, entries: i64) {
        self.state().read_many = (entries > MANY).then(Instant::now);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn searches_begin_at_what_was_found() {
        let (floors, time) = (Floors::new(SECOND), SystemTime::UNIX_EPOCH + 10 * SECOND);
        floors.read(MANY + 1);
        floors.found(Times { loose: Some(time), ordered: None });
        assert_eq!(floors.next(), Some(Times { loose: Some(time - SECOND), ordered: None }));
        floors.found(Times { loose: None, ordered: Some(time) });
        assert_eq!(floors.next(), Some(Times { loose: Some(time - SECOND), ordered: Some(time - SECOND) }));
        // The server's clock may be set back.
        floors.found(Times { loose: Some(time - SECOND), ordered: None });
        assert_eq!(floors.next().unwrap().loose, Some(time - 2 * SECOND));
    }

    #[test]
    fn searches_begin_at_the_start_unless_they_read_many() {
        let floors = Floors::new(SECOND);
        assert_eq!(floors.next(), None);
        floors.read(MANY);
        assert_eq!(floors.next(), None);
        floors.read(MANY + 1);
        assert_eq!(floors.next(), Some(Times::default()));
        floors.state().read_many = Instant::now().checked_sub(FLOORED);
        assert_eq!(floors.next(), None);
    }
}
