//! An inbox in the memory of this process.

mod deliveries;

use std::{
    collections::BTreeSet,
    ops::Range,
    sync::{MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, SystemTime},
};

pub(super) use self::deliveries::Deliveries;
use self::deliveries::Standing;
use super::{Full, MemoryStore, Shard, Shared, table::ClaimedAt};
use crate::{
    dedupe::{Claim, ClaimOutcome, EventKey, StoreError},
    inbox::{Acceptance, Counts, DeliveryId, Entry, InboxStore, Lease, Leased, NewDelivery},
};

impl Shared {
    /// Whoever locks this and a shard locks this first.
    fn deliveries(&self) -> MutexGuard<'_, Deliveries> {
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryStore {
    /// Claims an entry that is done from the start.
    fn claim_done(&self, claim: &Claim, retention: Duration) -> Result<ClaimOutcome, Full> {
        let outcome = self.try_claim(claim, retention)?;
        if outcome == ClaimOutcome::Claimed {
            let shared = &self.shared;
            shared.shard(&claim.event).lock().complete(claim, shared.now(), retention, &shared.turns);
        }
        Ok(outcome)
    }

    /// Puts an entry that is done in the place of whatever is there, in one go: nobody can claim it in between. A full store
    /// grows by it: what was acknowledged before is not refused.
    fn put_done(&self, claim: &Claim, at: ClaimedAt, retention: Duration) {
        let shared = &self.shared;
        let mut table = shared.shard(&claim.event).lock();
        if !table.forget_key(&claim.key) {
            shared.entries.fetch_add(1, Ordering::Relaxed);
        }
        table.claim(claim, at, retention, || true);
        table.complete(claim, at.tick(), retention, &shared.turns);
    }

    fn try_accept(&self, new: &NewDelivery, retention: Duration) -> Result<Acceptance, Full> {
        let wall = SystemTime::now();
        let now = self.shared.now();
        let at = ClaimedAt::new(wall, now);
        let mut deliveries = self.shared.deliveries();
        match deliveries.standing(new.claim().key()) {
            Standing::Unfinished(digest) => {
                // If there is no room for the entry, the delivery itself is what it is known by.
                let _ = self.claim_done(&Claim { digest, ..new.claim().clone() }, retention);
                Ok(Acceptance::Known { digest })
            }
            Standing::Dead(_, digest) if !new.is_same_as(&digest) => Ok(Acceptance::Known { digest }),
            Standing::Dead(id, _) => {
                self.put_done(new.claim(), at, retention);
                deliveries.revive(id, new, at);
                Ok(Acceptance::Revived)
            }
            Standing::Absent => match self.claim_done(new.claim(), retention)? {
                ClaimOutcome::Claimed => {
                    deliveries.add(new, at);
                    Ok(Acceptance::Accepted)
                }
                ClaimOutcome::Done { digest } => Ok(Acceptance::Known { digest }),
                ClaimOutcome::InFlight { digest, remaining } => Ok(Acceptance::InFlight { digest, remaining }),
            },
        }
    }

    /// Forgets every key whose delivery or whose entry is chosen, and that is not to be handled yet.
    fn forget_keys(&self, which: impl Fn(&EventKey, &ClaimedAt) -> bool) -> u64 {
        let shared = &self.shared;
        let now = shared.now();
        let mut deliveries = shared.deliveries();
        let mut tables: Vec<_> = shared.shards.iter().map(Shard::lock).collect();
        let mut keys: BTreeSet<_> = deliveries.keys(&which).into_iter().collect();
        for table in &tables {
            keys.extend(table.live_keys(now, |entry| which(&entry.event, &entry.claimed_at)));
        }
        keys.retain(|key| !deliveries.is_unfinished(key));
        for key in &keys {
            deliveries.forget(key);
            let gone = tables.iter_mut().filter_map(|table| table.forget_key(key).then_some(())).count();
            shared.give_back(gone);
        }
        keys.len() as u64
    }
}

/// Every call looks at what it needs alone, but for `lease`, which goes through all that is due, and `counts`, `dead`, `forget_event`,
/// `forget_accepted` and `purge_done`, which go through all that is there.
///
/// Deliveries take as much memory as they are large, up to the inbox's [`max_backlog`](crate::inbox::Inbox::max_backlog) of them,
/// and those that are dead or kept.
impl InboxStore for MemoryStore {
    async fn accept(&self, delivery: &NewDelivery, retention: Duration) -> Result<Acceptance, StoreError> {
        self.try_accept(delivery, retention).map_err(StoreError::new)
    }

    async fn lease(&self, limit: u32, time: Duration, max_attempts: u32) -> Result<Vec<Leased>, StoreError> {
        Ok(self.shared.deliveries().lease(self.shared.now(), limit, time, max_attempts))
    }

    async fn extend(&self, lease: &Lease, time: Duration) -> Result<bool, StoreError> {
        Ok(self.shared.deliveries().extend(lease, self.shared.now(), time))
    }

    async fn finish(&self, lease: &Lease, keep: Duration) -> Result<bool, StoreError> {
        let until = (!keep.is_zero()).then(|| self.shared.now().after(keep));
        Ok(self.shared.deliveries().finish(lease, until))
    }

    async fn postpone(&self, lease: &Lease, pause: Duration, reason: &str) -> Result<bool, StoreError> {
        Ok(self.shared.deliveries().postpone(lease, self.shared.now().after(pause), reason))
    }

    async fn bury(&self, lease: &Lease, reason: &str) -> Result<bool, StoreError> {
        Ok(self.shared.deliveries().bury_held(lease, reason))
    }

    async fn give_back(&self, lease: &Lease) -> Result<bool, StoreError> {
        Ok(self.shared.deliveries().give_back(lease, self.shared.now()))
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        let now = self.shared.now();
        Ok(self.shared.deliveries().counts(now, SystemTime::now()))
    }

    async fn backlog(&self, limit: u64) -> Result<u64, StoreError> {
        Ok(self.shared.deliveries().backlog().min(limit))
    }

    async fn dead(&self, after: Option<DeliveryId>, limit: u32) -> Result<Vec<Entry>, StoreError> {
        let now = self.shared.now();
        let after = after.unwrap_or(DeliveryId::new(i64::MIN));
        Ok(self.shared.deliveries().dead(after, limit, now, SystemTime::now()))
    }

    async fn show(&self, id: DeliveryId) -> Result<Option<Entry>, StoreError> {
        let now = self.shared.now();
        Ok(self.shared.deliveries().show(id, now, SystemTime::now()))
    }

    async fn retry(&self, id: DeliveryId) -> Result<bool, StoreError> {
        Ok(self.shared.deliveries().retry(id, self.shared.now()))
    }

    async fn forget_event(&self, event: &EventKey) -> Result<u64, StoreError> {
        Ok(self.forget_keys(|of, _| of == event))
    }

    async fn forget_accepted(&self, window: Range<SystemTime>) -> Result<u64, StoreError> {
        let now = self.shared.now();
        let wall = SystemTime::now();
        Ok(self.forget_keys(|_, at| window.contains(&at.on_the_wall(now, wall))))
    }

    async fn purge_done(&self, limit: u32) -> Result<u64, StoreError> {
        Ok(self.shared.deliveries().purge_done(self.shared.now(), limit))
    }
}
