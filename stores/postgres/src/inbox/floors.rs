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

/// How long searches begin at a floor until one begins at the start again, at least. The time is also at least this many
/// times what a search from the start takes.
///
/// Only that one finds a delivery that is due before the floor: one whose transaction took longer than the margin, that
/// another node had locked and released, or that was changed by hand.
const FLOORED: Duration = Duration::from_secs(30);
const SHARE: u32 = 20;

/// How long the transaction that makes a delivery due may take to commit, unless the deadline is shorter. Each search reads
/// the entries of that time.
const MARGIN: Duration = Duration::from_millis(250);

/// The times before which probably no delivery is due.
pub(crate) struct Floors {
    margin: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    floors: Times,
    /// Until when searches begin at a floor.
    floored_until: Option<Instant>,
}

/// A time for the deliveries without ordering keys, and one for those with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) loose: Option<SystemTime>,
    pub(super) ordered: Option<SystemTime>,
}

impl Floors {
    pub(crate) fn new(deadline: Duration) -> Self {
        Self { margin: deadline.min(MARGIN), state: Mutex::default() }
    }

    /// Returns where the next search begins. Returns `None` if it begins at the start.
    pub(super) fn next(&self) -> Option<Times> {
        let (now, mut state) = (Instant::now(), self.state());
        if state.floored_until.is_some_and(|until| now < until) {
            return Some(state.floors);
        }
        // If this search never ends, the next ones must not begin at the start too.
        state.floored_until = (state.floors != Times::default()).then(|| now + FLOORED);
        None
    }

    /// Notes when the first deliveries were due that a search has found.
    pub(super) fn found(&self, first: Times) {
        let before = |time: SystemTime| time.checked_sub(self.margin);
        let floors = &mut self.state().floors;
        floors.loose = first.loose.map_or(floors.loose, before);
        floors.ordered = first.ordered.map_or(floors.ordered, before);
    }

    /// Notes how many entries a search has read from the start, and how long it took.
    pub(super) fn read(&self, entries: i64, took: Duration) {
        let floored = FLOORED.max(took.saturating_mul(SHARE));
        self.state().floored_until = (entries > MANY).then(|| Instant::now() + floored);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const SHORT: Duration = Duration::from_millis(100);

    fn loose(time: SystemTime) -> Times {
        Times { loose: Some(time), ordered: None }
    }

    #[test]
    fn searches_begin_at_what_was_found() {
        let (floors, time) = (Floors::new(SHORT), SystemTime::UNIX_EPOCH + 10 * SECOND);
        floors.read(MANY + 1, SECOND);
        floors.found(loose(time));
        assert_eq!(floors.next(), Some(loose(time - SHORT)));
        floors.found(Times { loose: None, ordered: Some(time) });
        assert_eq!(floors.next(), Some(Times { loose: Some(time - SHORT), ordered: Some(time - SHORT) }));
        // The server's clock may be set back.
        floors.found(loose(time - SHORT));
        assert_eq!(floors.next().unwrap().loose, Some(time - 2 * SHORT));
    }

    #[test]
    fn searches_begin_at_the_start_unless_they_read_many() {
        let floors = Floors::new(SHORT);
        assert_eq!(floors.next(), None);
        floors.read(MANY, SECOND);
        assert_eq!(floors.next(), None);
        floors.read(MANY + 1, SECOND);
        assert_eq!(floors.next(), Some(Times::default()));
    }

    #[test]
    fn search_that_fails_is_not_repeated_at_once() {
        let floors = Floors::new(SHORT);
        floors.found(loose(SystemTime::UNIX_EPOCH + 10 * SECOND));
        assert_eq!(floors.next(), None);
        assert!(floors.next().is_some());
        floors.state().floored_until = Some(Instant::now());
        assert_eq!(floors.next(), None);
    }
}
