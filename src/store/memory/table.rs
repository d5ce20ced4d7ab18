//! The table of ledger entries, and the order in which they expire.

use std::{
    collections::{BTreeSet, VecDeque, hash_map::Entry as HashEntry},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use crate::dedupe::{
    BodyDigest, Claim, ClaimOutcome, ClaimTerms, EventKey, KeyMap, LedgerEntry, LedgerSelection, LedgerState, Token,
};

/// A point in time on tokio's clock, in nanoseconds since the store was created. The largest value is never reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Tick(pub(super) u64);

impl Tick {
    const NEVER: Self = Self(u64::MAX);

    pub(super) fn since(start: Instant) -> Self {
        Self(nanoseconds(Instant::now().saturating_duration_since(start)))
    }

    pub(super) fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(time)))
    }

    /// Returns the wall-clock time of this tick, as seen from `now`.
    fn wall_time(self, now: Timestamp) -> SystemTime {
        let distance = Duration::from_nanos(self.0.abs_diff(now.tick.0));
        let time = if self < now.tick { now.wall.checked_sub(distance) } else { now.wall.checked_add(distance) };
        time.unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// Returns the nanoseconds, or the largest value for more than 64 bits (five centuries).
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A point in time on the wall clock and on tokio's clock.
#[derive(Clone, Copy)]
pub(super) struct Timestamp {
    wall: SystemTime,
    tick: Tick,
}

impl Timestamp {
    /// Reads both clocks, the wall clock first. Otherwise the wall clock would seem to lag by the time between the
    /// readings.
    pub(super) fn now(start: Instant) -> Self {
        Self { wall: SystemTime::now(), tick: Tick::since(start) }
    }

    pub(super) fn tick(self) -> Tick {
        self.tick
    }

    /// Returns the wall-clock time of this timestamp, as seen from `now`.
    ///
    /// If tokio's clock has advanced more than the wall clock since, a test has advanced it. The result is then earlier
    /// by the difference, so that the timestamp looks as old as the test expects.
    pub(super) fn wall_time(self, now: Self) -> SystemTime {
        let by_tick = Duration::from_nanos(now.tick.0.saturating_sub(self.tick.0));
        let by_wall = now.wall.duration_since(self.wall).unwrap_or_default();
        self.wall.checked_sub(by_tick.saturating_sub(by_wall)).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Returns the time from this timestamp to `now`, by tokio's clock, which is never set.
    #[cfg(feature = "inbox")]
    pub(super) fn age(self, now: Self) -> Duration {
        Duration::from_nanos(now.tick.0.saturating_sub(self.tick.0))
    }
}

/// An entry of the ledger.
struct StoredEntry {
    event: EventKey,
    claimed_at: Timestamp,
    digest: BodyDigest,
    token: Token,
    /// The end of the retention, or of the claim's lease.
    until: Tick,
    /// The end of the retention, or of the claim's grace.
    kept_until: Tick,
    state: EntryState,
}

/// The state of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EntryState {
    Claimed,
    Done {
        /// The number of the completion, which orders completions on the same tick.
        completion: u64,
    },
}

impl StoredEntry {
    /// Returns whether another token may claim the key.
    fn is_claimable(&self, now: Tick) -> bool {
        self.until <= now
    }

    fn is_over(&self, now: Tick) -> bool {
        self.kept_until <= now
    }

    fn belongs_to(&self, claim: &Claim, now: Tick) -> bool {
        self.token == claim.token && !self.is_over(now)
    }

    fn is_claimed_by(&self, claim: &Claim, now: Tick) -> bool {
        self.state == EntryState::Claimed && self.belongs_to(claim, now)
    }

    fn is_in(&self, selection: &LedgerSelection, now: Timestamp) -> bool {
        selection.matches(&self.event, self.claimed_at.wall_time(now))
    }

    /// Returns the entry as the ledger lists it.
    fn listed(&self, key: EventKey, now: Timestamp) -> LedgerEntry {
        LedgerEntry {
            key,
            event: self.event,
            digest: self.digest,
            state: match self.state {
                EntryState::Claimed => LedgerState::Claimed,
                EntryState::Done { .. } => LedgerState::Done,
            },
            claimed_at: self.claimed_at.wall_time(now),
            until: self.until.wall_time(now),
            kept_until: self.kept_until.wall_time(now),
        }
    }
}

/// The entries of a ledger, with indexes for finding the next entry to expire and the next entry to evict.
///
/// With one retention for all entries, done entries expire in the order of completion. So a queue indexes most of them,
/// and the more expensive ordered set holds only the exceptions.
#[derive(Default)]
pub(super) struct LedgerTable {
    /// Boxed, so that the hash table itself is small.
    entries: KeyMap<Box<StoredEntry>>,
    /// The done entries in the order of completion. May contain removed entries, but never at the front.
    done: VecDeque<DoneEntry>,
    /// The number of removed entries in `done`.
    removed: usize,
    /// The number of the next completion.
    next_completion: u64,
    /// The latest end of retention of any entry that was added to `done`.
    latest_end: Tick,
    /// The ends of all claims, and of the done entries that expire before an entry that was completed earlier.
    ends: BTreeSet<(Tick, EventKey)>,
}

/// A done entry in the order of completion.
struct DoneEntry {
    completion: u64,
    until: Tick,
    key: EventKey,
}

impl LedgerTable {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn contains(&self, key: &EventKey) -> bool {
        self.entries.contains_key(key)
    }

    /// Returns the time at which the next entry expires.
    fn soonest_end(&self) -> Tick {
        // The front of `done` expires no later than every other entry of `done` that is not in `ends`.
        let done = self.done.front().map_or(Tick::NEVER, |done| done.until);
        self.ends.first().map_or(done, |&(until, _)| until.min(done))
    }

    pub(super) fn claim(&mut self, claim: &Claim, claimed_at: Timestamp, terms: &ClaimTerms) -> ClaimOutcome {
        let now = claimed_at.tick;
        let until = now.after(terms.lease);
        let kept_until = until.after(terms.grace);
        let make = || {
            let (event, digest, token) = (claim.event, claim.digest, claim.token);
            Box::new(StoredEntry { event, digest, token, claimed_at, until, kept_until, state: EntryState::Claimed })
        };
        match self.entries.entry(claim.key) {
            HashEntry::Occupied(place) if place.get().is_claimable(now) && !place.get().is_claimed_by(claim, now) => {
                self.remove(&claim.key);
                self.entries.insert(claim.key, make());
            }
            HashEntry::Occupied(mut place) => {
                let entry = place.get_mut();
                let digest = entry.digest;
                match entry.state {
                    EntryState::Done { .. } => return ClaimOutcome::Done { digest },
                    EntryState::Claimed if entry.token != claim.token => {
                        let remaining = Duration::from_nanos(entry.until.0 - now.0);
                        return ClaimOutcome::InFlight { digest, remaining };
                    }
                    EntryState::Claimed => {
                        self.ends.remove(&(entry.kept_until, claim.key));
                        (entry.until, entry.kept_until) = (until, kept_until);
                    }
                }
            }
            HashEntry::Vacant(place) => {
                place.insert(make());
            }
        }
        self.ends.insert((kept_until, claim.key));
        ClaimOutcome::Claimed
    }

    pub(super) fn complete(&mut self, claim: &Claim, now: Tick, retention: Duration) -> bool {
        let Some(entry) = self.entries.get_mut(&claim.key) else { return false };
        if !entry.belongs_to(claim, now) {
            return false;
        }
        if entry.state == EntryState::Claimed {
            let until = now.after(retention);
            let completion = self.next_completion;
            self.next_completion += 1;
            self.ends.remove(&(entry.kept_until, claim.key));
            if until < self.latest_end {
                self.ends.insert((until, claim.key));
            }
            self.latest_end = self.latest_end.max(until);
            (entry.until, entry.kept_until, entry.state) = (until, until, EntryState::Done { completion });
            self.done.push_back(DoneEntry { completion, until, key: claim.key });
        }
        true
    }

    pub(super) fn renew(&mut self, claim: &Claim, now: Tick, terms: &ClaimTerms) -> bool {
        match self.entries.get_mut(&claim.key) {
            Some(entry) if entry.is_claimed_by(claim, now) => {
                self.ends.remove(&(entry.kept_until, claim.key));
                entry.until = now.after(terms.lease);
                entry.kept_until = entry.until.after(terms.grace);
                self.ends.insert((entry.kept_until, claim.key));
                true
            }
            _ => false,
        }
    }

    pub(super) fn release(&mut self, claim: &Claim, now: Tick) {
        if self.entries.get(&claim.key).is_some_and(|entry| entry.is_claimed_by(claim, now)) {
            self.remove(&claim.key);
        }
    }

    /// Returns up to `limit` selected entries that have not expired, with keys larger than `after`, in the order of their
    /// keys.
    pub(super) fn listed(
        &self,
        selection: &LedgerSelection,
        after: Option<EventKey>,
        limit: usize,
        now: Timestamp,
    ) -> Vec<LedgerEntry> {
        let mut keys = self.keys(selection, now);
        keys.retain(|key| after.is_none_or(|after| *key > after));
        keys.sort_unstable();
        keys.truncate(limit);
        keys.into_iter().filter_map(|key| Some(self.entries.get(&key)?.listed(key, now))).collect()
    }

    /// Removes the selected entries. Returns the number of those that had not expired.
    pub(super) fn forget(&mut self, selection: &LedgerSelection, now: Timestamp) -> u64 {
        let chosen = self.entries.iter().filter(|(_, entry)| entry.is_in(selection, now));
        let chosen: Vec<_> = chosen.map(|(key, entry)| (*key, !entry.is_over(now.tick))).collect();
        for (key, _) in &chosen {
            self.remove(key);
        }
        chosen.iter().map(|&(_, counts)| u64::from(counts)).sum()
    }

    /// Returns the keys of the selected entries that have not expired.
    pub(super) fn keys(&self, selection: &LedgerSelection, now: Timestamp) -> Vec<EventKey> {
        let chosen = self.entries.iter().filter(|(_, entry)| !entry.is_over(now.tick) && entry.is_in(selection, now));
        chosen.map(|(key, _)| *key).collect()
    }

    #[cfg(feature = "inbox")]
    pub(super) fn forget_key(&mut self, key: &EventKey) {
        self.remove(key);
    }

    /// Deletes up to `limit` expired entries. Returns the number of deleted entries.
    pub(super) fn purge(&mut self, now: Tick, limit: usize) -> usize {
        let mut deleted = 0;
        while deleted < limit && self.soonest_end() <= now {
            let front = self.done.front().filter(|done| done.until <= now).map(|done| done.key);
            let Some(key) = front.or_else(|| self.ends.first().map(|&(_, key)| key)) else { break };
            self.remove(&key);
            deleted += 1;
        }
        deleted
    }

    /// Removes the entry that was completed longest ago. Returns `false` if no entry is done.
    pub(super) fn evict_oldest_done(&mut self) -> bool {
        let Some(key) = self.done.front().map(|done| done.key) else { return false };
        self.remove(&key);
        true
    }

    fn remove(&mut self, key: &EventKey) {
        let Some(entry) = self.entries.remove(key) else { return };
        // `ends` is usually small, so this is cheap even for an entry that is not in it.
        self.ends.remove(&(entry.kept_until, *key));
        if let EntryState::Done { completion } = entry.state {
            self.removed += 1;
            if self.done.front().is_some_and(|done| done.completion == completion) {
                self.done.pop_front();
                self.removed -= 1;
                self.pop_removed();
            } else if self.removed > self.done.len() / 2 {
                self.removed = 0;
                self.done.retain(|done| is_present(&self.entries, done));
            }
        }
    }

    /// Drops removed entries from the front of `done`.
    fn pop_removed(&mut self) {
        while self.removed > 0
            && let Some(done) = self.done.front()
            && !is_present(&self.entries, done)
        {
            self.done.pop_front();
            self.removed -= 1;
        }
    }
}

fn is_present(entries: &KeyMap<Box<StoredEntry>>, done: &DoneEntry) -> bool {
    entries.get(&done.key).is_some_and(|entry| entry.state == EntryState::Done { completion: done.completion })
}
