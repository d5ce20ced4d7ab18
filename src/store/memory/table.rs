//! One shard's entries, and the two orders in which they go.

use std::{
    collections::{
        BTreeSet, HashMap, VecDeque,
        hash_map::{Entry as Place, RandomState},
    },
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use crate::dedupe::{BodyDigest, Claim, ClaimOutcome, EventKey, Token};

/// Nanoseconds on tokio's clock since the store was made. The last one is never reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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

/// Too long for 64 bits, five centuries, is for ever.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// When an entry was claimed.
#[derive(Clone, Copy)]
pub(super) struct ClaimedAt {
    wall: SystemTime,
    tick: Tick,
}

impl ClaimedAt {
    /// Now. `wall` was read before `tick`, so that the wall clock never seems to lag behind tokio's by the time between two
    /// readings.
    pub(super) fn new(wall: SystemTime, tick: Tick) -> Self {
        Self { wall, tick }
    }

    #[cfg(feature = "inbox")]
    pub(super) fn tick(self) -> Tick {
        self.tick
    }

    /// The time of day at which it was claimed, told at `now`, which was read before `wall`.
    ///
    /// What the wall clock said, unless tokio's clock has gone further since. Then it was paused and moved on by hand, and the
    /// claim has grown older by as much.
    pub(super) fn on_the_wall(self, now: Tick, wall: SystemTime) -> SystemTime {
        let by_tick = Duration::from_nanos(now.0.saturating_sub(self.tick.0));
        let by_wall = wall.duration_since(self.wall).unwrap_or_default();
        self.wall.checked_sub(by_tick.saturating_sub(by_wall)).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

pub(super) struct Entry {
    pub(super) event: EventKey,
    pub(super) claimed_at: ClaimedAt,
    digest: BodyDigest,
    token: Token,
    until: Tick,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Claimed,
    /// With a number that grows from one completion to the next.
    Done {
        turn: u64,
    },
}

impl Entry {
    fn is_up(&self, now: Tick) -> bool {
        self.until <= now
    }

    fn belongs_to(&self, claim: &Claim, now: Tick) -> bool {
        self.token == claim.token && !self.is_up(now)
    }

    fn is_claimed_by(&self, claim: &Claim, now: Tick) -> bool {
        self.state == State::Claimed && self.belongs_to(claim, now)
    }
}

pub(super) struct Table {
    /// Boxed, so that what is looked through lies close together.
    entries: HashMap<EventKey, Box<Entry>>,
    /// What is done, in the order of completion. Some that are gone are still here, but never at the front.
    done: VecDeque<Done>,
    /// How many those are.
    gone: usize,
    /// The latest end of any that came to `done`.
    latest_end: Tick,
    /// The ends of all but those that are done and end no earlier than what was done before them: their order is that of
    /// `done`. With one retention for all, that is of the claims in flight.
    ends: BTreeSet<(Tick, EventKey)>,
}

struct Done {
    turn: u64,
    until: Tick,
    key: EventKey,
}

/// How many entries were taken out.
pub(super) struct Forgotten {
    /// Those that counted as present.
    pub(super) live: u64,
    pub(super) all: usize,
}

impl Table {
    pub(super) fn new(random: RandomState) -> Self {
        Self {
            entries: HashMap::with_hasher(random),
            done: VecDeque::new(),
            gone: 0,
            latest_end: Tick(0),
            ends: BTreeSet::new(),
        }
    }

    /// When the first entry's time is up.
    pub(super) fn soonest_up(&self) -> Tick {
        // Should the front's end be among `ends`, then it is earlier than that of all behind it that are not.
        let done = self.done.front().map_or(Tick::NEVER, |done| done.until);
        self.ends.first().map_or(done, |&(until, _)| until.min(done))
    }

    /// The turn of what was completed longest ago, or a number that is no turn.
    pub(super) fn oldest_done(&self) -> u64 {
        self.done.front().map_or(u64::MAX, |done| done.turn)
    }

    /// `None` when it could be claimed, but `room` gives no room for one entry more.
    pub(super) fn claim(
        &mut self,
        claim: &Claim,
        claimed_at: ClaimedAt,
        lease: Duration,
        room: impl FnOnce() -> bool,
    ) -> Option<ClaimOutcome> {
        let now = claimed_at.tick;
        let until = now.after(lease);
        let make = || {
            let (event, digest, token) = (claim.event, claim.digest, claim.token);
            Box::new(Entry { event, digest, token, claimed_at, until, state: State::Claimed })
        };
        match self.entries.entry(claim.key) {
            Place::Occupied(place) if place.get().is_up(now) => {
                self.remove(&claim.key);
                self.entries.insert(claim.key, make());
            }
            Place::Occupied(mut place) => {
                let entry = place.get_mut();
                let digest = entry.digest;
                match entry.state {
                    State::Done { .. } => return Some(ClaimOutcome::Done { digest }),
                    State::Claimed if entry.token != claim.token => {
                        let remaining = Duration::from_nanos(entry.until.0 - now.0);
                        return Some(ClaimOutcome::InFlight { digest, remaining });
                    }
                    State::Claimed => {
                        self.ends.remove(&(entry.until, claim.key));
                        entry.until = until;
                    }
                }
            }
            Place::Vacant(place) => {
                if !room() {
                    return None;
                }
                place.insert(make());
            }
        }
        self.ends.insert((until, claim.key));
        Some(ClaimOutcome::Claimed)
    }

    /// `turn` counts completions.
    pub(super) fn complete(&mut self, claim: &Claim, now: Tick, retention: Duration, turn: &AtomicU64) -> bool {
        let Some(entry) = self.entries.get_mut(&claim.key) else { return false };
        if !entry.belongs_to(claim, now) {
            return false;
        }
        if entry.state == State::Claimed {
            let until = now.after(retention);
            // Under the lock, so that a later one in this queue has a later turn. Only the order matters.
            let turn = turn.fetch_add(1, Ordering::Relaxed);
            self.ends.remove(&(entry.until, claim.key));
            if until < self.latest_end {
                self.ends.insert((until, claim.key));
            }
            self.latest_end = self.latest_end.max(until);
            (entry.until, entry.state) = (until, State::Done { turn });
            self.done.push_back(Done { turn, until, key: claim.key });
        }
        true
    }

    pub(super) fn renew(&mut self, claim: &Claim, now: Tick, lease: Duration) -> bool {
        match self.entries.get_mut(&claim.key) {
            Some(entry) if entry.is_claimed_by(claim, now) => {
                self.ends.remove(&(entry.until, claim.key));
                entry.until = now.after(lease);
                self.ends.insert((entry.until, claim.key));
                true
            }
            _ => false,
        }
    }

    /// Whether it did.
    pub(super) fn release(&mut self, claim: &Claim, now: Tick) -> bool {
        self.entries.get(&claim.key).is_some_and(|entry| entry.is_claimed_by(claim, now)) && self.remove(&claim.key)
    }

    pub(super) fn forget(&mut self, now: Tick, mut which: impl FnMut(&Entry) -> bool) -> Forgotten {
        let chosen = self.entries.iter().filter(|(_, entry)| which(entry));
        let chosen: Vec<_> = chosen.map(|(key, entry)| (*key, !entry.is_up(now))).collect();
        for (key, _) in &chosen {
            self.remove(key);
        }
        let live = chosen.iter().map(|&(_, live)| u64::from(live)).sum();
        Forgotten { live, all: chosen.len() }
    }

    /// The keys of those that count as present and that `which` chooses.
    #[cfg(feature = "inbox")]
    pub(super) fn live_keys(&self, now: Tick, which: impl Fn(&Entry) -> bool) -> Vec<EventKey> {
        let live = self.entries.iter().filter(|(_, entry)| !entry.is_up(now) && which(entry));
        live.map(|(key, _)| *key).collect()
    }

    /// Whether it was there.
    #[cfg(feature = "inbox")]
    pub(super) fn forget_key(&mut self, key: &EventKey) -> bool {
        self.remove(key)
    }

    /// How many it took out.
    pub(super) fn purge(&mut self, now: Tick, limit: usize) -> usize {
        let mut gone = 0;
        while gone < limit && self.soonest_up() <= now {
            let front = self.done.front().filter(|done| done.until <= now).map(|done| done.key);
            let Some(key) = front.or_else(|| self.ends.first().map(|&(_, key)| key)) else { break };
            self.remove(&key);
            gone += 1;
        }
        gone
    }

    /// Takes out what was completed longest ago, if this is its turn.
    pub(super) fn evict(&mut self, turn: u64) -> bool {
        match self.done.front() {
            Some(done) if done.turn == turn => {
                let key = done.key;
                self.remove(&key)
            }
            _ => false,
        }
    }

    fn remove(&mut self, key: &EventKey) -> bool {
        let Some(entry) = self.entries.remove(key) else { return false };
        // Few are there, when all have one retention, so this is cheap also for one that is not.
        self.ends.remove(&(entry.until, *key));
        if let State::Done { turn } = entry.state {
            self.gone += 1;
            if self.oldest_done() == turn {
                self.done.pop_front();
                self.gone -= 1;
                self.drop_gone_from_the_front();
            } else if self.gone > self.done.len() / 2 {
                self.gone = 0;
                self.done.retain(|done| is_there(&self.entries, done));
            }
        }
        true
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

fn is_there(entries: &HashMap<EventKey, Box<Entry>>, done: &Done) -> bool {
    entries.get(&done.key).is_some_and(|entry| entry.state == State::Done { turn: done.turn })
}
