//! The ledger's entries, and the order in which they go.

use std::{
    collections::{BTreeSet, VecDeque, hash_map::Entry as Place},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use crate::dedupe::{BodyDigest, Claim, ClaimOutcome, ClaimTerms, EventKey, KeyMap, Token};

/// Nanoseconds on tokio's clock since the store was made. The last one is never reached.
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
}

/// Times beyond 64 bits, five centuries, never come.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// When something came, on both clocks.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    wall: SystemTime,
    tick: Tick,
}

impl Moment {
    /// Reads both clocks. The wall clock comes first, so that it never seems to lag behind tokio's by the time between
    /// the readings.
    pub(super) fn now(start: Instant) -> Self {
        Self { wall: SystemTime::now(), tick: Tick::since(start) }
    }

    pub(super) fn tick(self) -> Tick {
        self.tick
    }

    /// Returns the time of day of this moment, as it looks from `now`: what the wall clock said, unless tokio's clock
    /// has gone further since. Then a test has moved that clock by hand, and this moment has grown older by as much.
    pub(super) fn time_of_day(self, now: Self) -> SystemTime {
        let by_tick = Duration::from_nanos(now.tick.0.saturating_sub(self.tick.0));
        let by_wall = now.wall.duration_since(self.wall).unwrap_or_default();
        self.wall.checked_sub(by_tick.saturating_sub(by_wall)).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Returns how long ago this moment was.
    #[cfg(feature = "inbox")]
    pub(super) fn age(self, now: Self) -> Duration {
        now.wall.duration_since(self.time_of_day(now)).unwrap_or_default()
    }
}

pub(super) struct Entry {
    pub(super) event: EventKey,
    pub(super) claimed_at: Moment,
    digest: BodyDigest,
    token: Token,
    /// Until when the entry counts as done, or its claim is exclusive.
    until: Tick,
    /// Until when the entry is kept: an expired claim can still be completed.
    kept_until: Tick,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Claimed,
    /// With a number that grows from one completion to the next: of two on the same tick, it tells which came first.
    Done {
        turn: u64,
    },
}

impl Entry {
    /// Whether another token may claim the key.
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
        self.state == State::Claimed && self.belongs_to(claim, now)
    }
}

#[derive(Default)]
pub(super) struct Table {
    /// Boxed, so that the hash table itself is small.
    entries: KeyMap<Box<Entry>>,
    /// The done entries in the order of completion. Some of them are gone, but never the first.
    done: VecDeque<Done>,
    /// How many of `done` are gone.
    gone: usize,
    /// The number of the next completion.
    turn: u64,
    /// The latest end of any that came to `done`.
    latest_end: Tick,
    /// The ends of all other entries: the claims in flight, and the done entries that end before one that was completed
    /// earlier. With one retention for all, only the former.
    ends: BTreeSet<(Tick, EventKey)>,
}

struct Done {
    turn: u64,
    until: Tick,
    key: EventKey,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn contains(&self, key: &EventKey) -> bool {
        self.entries.contains_key(key)
    }

    /// When the first entry is over.
    fn soonest_end(&self) -> Tick {
        // If the first end of `done` is also among `ends`, it is earlier than those behind it that are not.
        let done = self.done.front().map_or(Tick::NEVER, |done| done.until);
        self.ends.first().map_or(done, |&(until, _)| until.min(done))
    }

    pub(super) fn claim(&mut self, claim: &Claim, claimed_at: Moment, terms: &ClaimTerms) -> ClaimOutcome {
        let now = claimed_at.tick;
        let until = now.after(terms.lease);
        let kept_until = until.after(terms.grace);
        let make = || {
            let (event, digest, token) = (claim.event, claim.digest, claim.token);
            Box::new(Entry { event, digest, token, claimed_at, until, kept_until, state: State::Claimed })
        };
        match self.entries.entry(claim.key) {
            Place::Occupied(place) if place.get().is_claimable(now) && !place.get().is_claimed_by(claim, now) => {
                self.remove(&claim.key);
                self.entries.insert(claim.key, make());
            }
            Place::Occupied(mut place) => {
                let entry = place.get_mut();
                let digest = entry.digest;
                match entry.state {
                    State::Done { .. } => return ClaimOutcome::Done { digest },
                    State::Claimed if entry.token != claim.token => {
                        let remaining = Duration::from_nanos(entry.until.0 - now.0);
                        return ClaimOutcome::InFlight { digest, remaining };
                    }
                    State::Claimed => {
                        self.ends.remove(&(entry.kept_until, claim.key));
                        (entry.until, entry.kept_until) = (until, kept_until);
                    }
                }
            }
            Place::Vacant(place) => {
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
        if entry.state == State::Claimed {
            let until = now.after(retention);
            let turn = self.turn;
            self.turn += 1;
            self.ends.remove(&(entry.kept_until, claim.key));
            if until < self.latest_end {
                self.ends.insert((until, claim.key));
            }
            self.latest_end = self.latest_end.max(until);
            (entry.until, entry.kept_until, entry.state) = (until, until, State::Done { turn });
            self.done.push_back(Done { turn, until, key: claim.key });
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

    /// Removes the chosen entries, and returns how many of them were not over.
    pub(super) fn forget(&mut self, now: Tick, mut which: impl FnMut(&Entry) -> bool) -> u64 {
        let chosen = self.entries.iter().filter(|(_, entry)| which(entry));
        let chosen: Vec<_> = chosen.map(|(key, entry)| (*key, !entry.is_over(now))).collect();
        for (key, _) in &chosen {
            self.remove(key);
        }
        chosen.iter().map(|&(_, counts)| u64::from(counts)).sum()
    }

    /// Returns the keys of the chosen entries that are not over.
    #[cfg(feature = "inbox")]
    pub(super) fn keys(&self, now: Tick, which: impl Fn(&Entry) -> bool) -> Vec<EventKey> {
        let chosen = self.entries.iter().filter(|(_, entry)| !entry.is_over(now) && which(entry));
        chosen.map(|(key, _)| *key).collect()
    }

    #[cfg(feature = "inbox")]
    pub(super) fn forget_key(&mut self, key: &EventKey) {
        self.remove(key);
    }

    /// Deletes up to `limit` entries that are over, and returns how many there were.
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

    /// Removes the entry that was completed longest ago. Returns `false` if none is done.
    pub(super) fn evict_oldest_done(&mut self) -> bool {
        let Some(key) = self.done.front().map(|done| done.key) else { return false };
        self.remove(&key);
        true
    }

    fn remove(&mut self, key: &EventKey) {
        let Some(entry) = self.entries.remove(key) else { return };
        // Mostly few entries are there, so this is cheap also for one that is not.
        self.ends.remove(&(entry.kept_until, *key));
        if let State::Done { turn } = entry.state {
            self.gone += 1;
            if self.done.front().is_some_and(|done| done.turn == turn) {
                self.done.pop_front();
                self.gone -= 1;
                self.drop_gone_from_the_front();
            } else if self.gone > self.done.len() / 2 {
                self.gone = 0;
                self.done.retain(|done| is_there(&self.entries, done));
            }
        }
    }

    fn drop_gone_from_the_front(&mut self) {
        while self.gone > 0
            && let Some(done) = self.done.front()
            && !is_there(&self.entries, done)
        {
            self.done.pop_front();
            self.gone -= 1;
        }
    }
}

fn is_there(entries: &KeyMap<Box<Entry>>, done: &Done) -> bool {
    entries.get(&done.key).is_some_and(|entry| entry.state == State::Done { turn: done.turn })
}
