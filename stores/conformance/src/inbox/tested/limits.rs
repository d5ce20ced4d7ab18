//! Calls that count, evict and purge deliveries.

use std::time::Duration;

use tower_klikit::inbox::{Counts, InboxStore};

use super::TestedInbox;

impl<S: InboxStore, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    /// Checks the numbers of ready, leased, dead and done deliveries.
    pub(crate) async fn counts(&self, expected: [u64; 4], why: &str) -> Counts {
        let counts = self.answer("counts", self.store.counts().await);
        let found = [counts.ready, counts.leased, counts.dead, counts.done];
        let [ready, leased, dead, done] = expected;
        let text = format!("{ready} ready, {leased} leased, {dead} dead, {done} done");
        self.holds(found == expected, &format!("counts returned {counts:?}, not {text}: {why}"));
        counts
    }

    pub(crate) async fn purge(&self, limit: u32) -> u64 {
        let purged = self.answer("purge_done", self.store.purge_done(limit).await);
        self.holds(purged <= u64::from(limit), &format!("purge_done({limit}) returned {purged}"));
        purged
    }

    /// Evicts up to `limit` kept deliveries.
    pub(crate) async fn evict(&self, limit: u32, expected: u64, why: &str) {
        let evicted = self.answer("evict_done", self.store.evict_done(limit).await);
        self.same("evict_done", &evicted, &expected, &format!("the limit is {limit}, and {why}"));
    }

    /// Deletes up to `limit` dead letters that were accepted at least `age` ago.
    pub(crate) async fn purge_dead(&self, age: Duration, limit: u32, expected: u64, why: &str) {
        let purged = self.answer("purge_dead", self.store.purge_dead(age, limit).await);
        self.same("purge_dead", &purged, &expected, &format!("the limit is {limit}, and {why}"));
    }
}
