//! One shard's entries, and the two orders in which they go.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::RandomState},
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

    fn after(self, time: Duration) -> Self {
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
    /// Read before the tick, so that this clock never seems to lag behind tokio's by the time between two readings.
    wall: SystemTime,
    tick: Tick,
}

impl ClaimedAt {
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

    fn move_end(&mut self, by_end: &mut BTreeSet<(Tick, EventKey)>, key: &EventKey, until: Tick) {
        by_end.remove(&(self.until, *key));
        by_end.insert((until, *key));
        self.until = until;
    }
}

pub(super) struct Table {
    entries: HashMap<EventKey, Entry>,
    /// All of them, by when their time is up.
    by_end: BTreeSet<(Tick, EventKey)>,
    /// Those that are done, by when they were completed.
    done: BTreeMap<u64, EventKey>,
}

/// How many entries were taken out.
pub(super) struct Forgotten {
    /// Those that counted as present.
    pub(super) live: u64,
    pub(super) all: usize,
}

impl Table {
    pub(super) fn new(random: RandomState) -> Self {
        Self { entries: HashMap::with_hasher(random), by_end: BTreeSet::new(), done: BTreeMap::new() }
    }

    /// When the first entry's time is up.
    pub(super) fn soonest_up(&self) -> Tick {
        self.by_end.first().map_or(Tick::NEVER, |(until, _)| *until)
    }

    /// The turn of what was completed longest ago, or a number that is no turn.
    pub(super) fn oldest_done(&self) -> u64 {
        self.done.first_key_value().map_or(u64::MAX, |(turn, _)| *turn)
    }

    /// Claims where an entry lies already, if one does.
    pub(super) fn claim_present(
        &mut self,
        claim: &Claim,
        claimed_at: SystemTime,
        now: Tick,
        lease: Duration,
    ) -> Option<ClaimOutcome> {
        let entry = self.entries.get_mut(&claim.key)?;
        if entry.is_up(now) {
            self.remove(&claim.key);
            self.claim_absent(claim, claimed_at, now, lease);
            return Some(ClaimOutcome::Claimed);
        }
        let digest = entry.digest;
        Some(match entry.state {
            State::Done { .. } => ClaimOutcome::Done { digest },
            State::Claimed if entry.token == claim.token => {
                entry.move_end(&mut self.by_end, &claim.key, now.after(lease));
                ClaimOutcome::Claimed
            }
            State::Claimed => ClaimOutcome::InFlight { digest, remaining: Duration::from_nanos(entry.until.0 - now.0) },
        })
    }

    /// Claims where no entry lies.
    pub(super) fn claim_absent(&mut self, claim: &Claim, claimed_at: SystemTime, now: Tick, lease: Duration) {
        let entry = Entry {
            event: claim.event,
            claimed_at: ClaimedAt { wall: claimed_at, tick: now },
            digest: claim.digest,
            token: claim.token,
            until: now.after(lease),
            state: State::Claimed,
        };
        self.by_end.insert((entry.until, claim.key));
        self.entries.insert(claim.key, entry);
    }

    pub(super) fn complete(&mut self, claim: &Claim, now: Tick, retention: Duration, turn: u64) -> bool {
        let Some(entry) = self.entries.get_mut(&claim.key) else { return false };
        if !entry.belongs_to(claim, now) {
            return false;
        }
        if entry.state == State::Claimed {
            entry.state = State::Done { turn };
            entry.move_end(&mut self.by_end, &claim.key, now.after(retention));
            self.done.insert(turn, claim.key);
        }
        true
    }

    pub(super) fn renew(&mut self, claim: &Claim, now: Tick, lease: Duration) -> bool {
        match self.entries.get_mut(&claim.key) {
            Some(entry) if entry.is_claimed_by(claim, now) => {
                entry.move_end(&mut self.by_end, &claim.key, now.after(lease));
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

    /// How many it took out.
    pub(super) fn purge(&mut self, now: Tick, limit: usize) -> usize {
        let mut gone = 0;
        while gone < limit
            && let Some(&(until, key)) = self.by_end.first()
            && until <= now
        {
            self.remove(&key);
            gone += 1;
        }
        gone
    }

    /// Takes out what was completed at this turn. Whether it was still there.
    pub(super) fn evict(&mut self, turn: u64) -> bool {
        let Some(&key) = self.done.get(&turn) else { return false };
        self.remove(&key)
    }

    fn remove(&mut self, key: &EventKey) -> bool {
        let Some(entry) = self.entries.remove(key) else { return false };
        self.by_end.remove(&(entry.until, *key));
        if let State::Done { turn } = entry.state {
            self.done.remove(&turn);
        }
        true
    }
}
