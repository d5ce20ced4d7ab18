//! The state that a store keeps between its searches for due deliveries.
//!
//! **Floors** are the times at which searches begin. While an old snapshot is open, such as that of a dump, an index keeps the
//! entries of deliveries that were leased or settled since. A search from the start of the index reads all of them. After a
//! search that has read many entries, the next searches begin at a floor, shortly before the first delivery that was found.
//!
//! **Deliveries with ordering keys** are left out of a search at first, because the server then plans the statement in less
//! time. If some are due, the search is repeated with them, and the searches of the next 30 seconds include them.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// The number of entries that a search from the start may read before the next searches begin at a floor.
const MANY_ENTRIES: i64 = 2_000;

/// The least time between two searches from the start. It is also at least [`PERIOD_FACTOR`] times the duration of a
/// search from the start.
///
/// Only a search from the start finds a delivery that is due before the floor. Its transaction took longer than the
/// margin, another node had locked and released it, or it was changed by hand.
const FLOOR_PERIOD: Duration = Duration::from_secs(30);
const PERIOD_FACTOR: u32 = 20;

/// The time that a transaction may take to commit after it made a delivery due. A shorter deadline replaces it. Each search
/// reads the index entries of that time again.
const MARGIN: Duration = Duration::from_millis(250);

/// The time for which searches include deliveries with ordering keys, after a search that left out some.
const ORDERED_PERIOD: Duration = Duration::from_secs(30);

/// The state that a store keeps between its searches.
pub(crate) struct Searches {
    margin: Duration,
    state: Mutex<SearchState>,
}

#[derive(Default)]
struct SearchState {
    /// Times before which probably no delivery is due.
    floors: FloorTimes,
    /// The time until which searches begin at a floor.
    floored_until: Option<Instant>,
    /// The pauses of the last search, as the statement that leases describes them.
    pauses: Option<String>,
    /// The time at which missing tenants were added last.
    tenants_added: Option<Instant>,
    /// The time of the last search that left out due deliveries with ordering keys.
    left_out_ordered: Option<Instant>,
}

/// A time for deliveries without ordering keys, and a time for deliveries with ordering keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct FloorTimes {
    pub(super) loose: Option<SystemTime>,
    pub(super) ordered: Option<SystemTime>,
}

impl Searches {
    pub(crate) fn new(deadline: Duration) -> Self {
        Self { margin: deadline.min(MARGIN), state: Mutex::default() }
    }

    /// Returns the floors of the next search, or `None` if the search begins at the start.
    pub(super) fn for_next_search(&self) -> Option<FloorTimes> {
        let (now, mut state) = (Instant::now(), self.state());
        if state.floored_until.is_some_and(|until| now < until) {
            return Some(state.floors);
        }
        // The next searches must not begin at the start too, even if this one never ends.
        state.floored_until = (state.floors != FloorTimes::default()).then(|| now + FLOOR_PERIOD);
        None
    }

    /// Records the pauses that a search has obeyed. If they have changed, the next search begins at the start, because a floor
    /// lies behind the paused deliveries.
    pub(super) fn record_pauses(&self, pauses: String) {
        let mut state = self.state();
        let before = state.pauses.replace(pauses);
        if before.is_some() && before != state.pauses {
            state.floored_until = None;
        }
    }

    /// Returns whether missing tenants must be added before the next search. Then returns `false` for the next 30 seconds.
    pub(super) fn tenants_must_be_added(&self) -> bool {
        let (now, mut state) = (Instant::now(), self.state());
        let must_be = state.tenants_added.is_none_or(|added| now.duration_since(added) >= FLOOR_PERIOD);
        if must_be {
            state.tenants_added = Some(now);
        }
        must_be
    }

    /// Returns whether the next search may leave out deliveries with ordering keys.
    pub(super) fn may_leave_out_ordered(&self) -> bool {
        self.state().left_out_ordered.is_none_or(|time| time.elapsed() >= ORDERED_PERIOD)
    }

    /// Records that a search with these floors has left out due deliveries with ordering keys. If the search began at the
    /// start, so does its repetition, because these deliveries may be due before the floor.
    pub(super) fn record_left_out_ordered(&self, floors: Option<FloorTimes>) {
        let mut state = self.state();
        state.left_out_ordered = Some(Instant::now());
        if floors.is_none() {
            state.floored_until = None;
        }
    }

    /// Records the due times of the first deliveries that a search found, or the time of the search if it found none.
    pub(super) fn record_first_found(&self, first: FloorTimes) {
        let before = |time: SystemTime| time.checked_sub(self.margin);
        let floors = &mut self.state().floors;
        floors.loose = first.loose.map_or(floors.loose, before);
        floors.ordered = first.ordered.map_or(floors.ordered, before);
    }

    /// Records the number of entries that a search from the start has read, and its duration.
    pub(super) fn record_search_from_start(&self, entries: i64, took: Duration) {
        let floored = FLOOR_PERIOD.max(took.saturating_mul(PERIOD_FACTOR));
        self.state().floored_until = (entries > MANY_ENTRIES).then(|| Instant::now() + floored);
    }

    fn state(&self) -> MutexGuard<'_, SearchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const SHORT: Duration = Duration::from_millis(100);

    fn loose(time: SystemTime) -> FloorTimes {
        FloorTimes { loose: Some(time), ordered: None }
    }

    #[test]
    fn searches_begin_at_the_first_found_delivery() {
        let (searches, time) = (Searches::new(SHORT), SystemTime::UNIX_EPOCH + 10 * SECOND);
        searches.record_search_from_start(MANY_ENTRIES + 1, SECOND);
        searches.record_first_found(loose(time));
        assert_eq!(searches.for_next_search(), Some(loose(time - SHORT)));
        searches.record_first_found(FloorTimes { loose: None, ordered: Some(time) });
        assert_eq!(
            searches.for_next_search(),
            Some(FloorTimes { loose: Some(time - SHORT), ordered: Some(time - SHORT) })
        );
        // The server's clock may be set back.
        searches.record_first_found(loose(time - SHORT));
        assert_eq!(searches.for_next_search().unwrap().loose, Some(time - 2 * SHORT));
    }

    #[test]
    fn searches_begin_at_the_start_unless_they_read_many() {
        let searches = Searches::new(SHORT);
        assert_eq!(searches.for_next_search(), None);
        searches.record_search_from_start(MANY_ENTRIES, SECOND);
        assert_eq!(searches.for_next_search(), None);
        searches.record_search_from_start(MANY_ENTRIES + 1, SECOND);
        assert_eq!(searches.for_next_search(), Some(FloorTimes::default()));
    }

    #[test]
    fn search_that_fails_is_not_repeated_at_once() {
        let searches = Searches::new(SHORT);
        searches.record_first_found(loose(SystemTime::UNIX_EPOCH + 10 * SECOND));
        assert_eq!(searches.for_next_search(), None);
        assert!(searches.for_next_search().is_some());
        searches.state().floored_until = Some(Instant::now());
        assert_eq!(searches.for_next_search(), None);
    }

    #[test]
    fn search_after_changed_pauses_begins_at_the_start() {
        let searches = Searches::new(SHORT);
        searches.record_pauses("0 0".into());
        searches.record_search_from_start(MANY_ENTRIES + 1, SECOND);
        searches.record_pauses("0 0".into());
        assert!(searches.for_next_search().is_some());
        searches.record_pauses("1 1".into());
        assert_eq!(searches.for_next_search(), None);
    }

    #[test]
    fn tenants_are_added_once_in_a_period() {
        let searches = Searches::new(SHORT);
        assert!(searches.tenants_must_be_added());
        assert!(!searches.tenants_must_be_added());
        searches.state().tenants_added = Instant::now().checked_sub(FLOOR_PERIOD);
        assert!(searches.tenants_must_be_added());
    }

    /// Otherwise a delivery with ordering keys that is due before the floor would never be leased.
    #[test]
    fn repetition_with_ordered_begins_at_the_start_too() {
        let searches = Searches::new(SHORT);
        searches.record_first_found(FloorTimes { loose: None, ordered: Some(SystemTime::UNIX_EPOCH + 10 * SECOND) });
        let floors = searches.for_next_search();
        assert_eq!(floors, None);
        searches.record_search_from_start(MANY_ENTRIES + 1, SECOND);
        searches.record_left_out_ordered(floors);
        assert_eq!(searches.for_next_search(), None);
    }

    #[test]
    fn searches_include_ordered_after_some_were_left_out() {
        let searches = Searches::new(SHORT);
        assert!(searches.may_leave_out_ordered());
        searches.record_left_out_ordered(Some(FloorTimes::default()));
        assert!(!searches.may_leave_out_ordered());
        searches.state().left_out_ordered = Instant::now().checked_sub(ORDERED_PERIOD);
        assert!(searches.may_leave_out_ordered());
    }
}
