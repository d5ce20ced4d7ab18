//! The reference for ledgers, with which stores are compared. The code is simple rather than fast.

use std::{collections::BTreeMap, ops::Bound, time::Duration};

use tower_klikit::dedupe::{BodyDigest, Claim, ClaimOutcome, ClaimTerms, EventKey};

/// The entries of a ledger. The caller passes the current time to each call, measured from the ledger's creation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entries(pub(crate) BTreeMap<EventKey, Entry>);

/// An entry of a ledger.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) claim: Claim,
    pub(crate) is_done: bool,
    /// The end of the lease, or of the retention.
    pub(crate) until: Duration,
    /// The end of the grace, or of the retention.
    pub(crate) kept_until: Duration,
    pub(crate) claimed_at: Duration,
}

impl Entry {
    pub(crate) fn claimed(claim: &Claim, terms: &ClaimTerms, now: Duration) -> Self {
        let until = now + terms.lease;
        Self { claim: claim.clone(), is_done: false, until, kept_until: until + terms.grace, claimed_at: now }
    }

    pub(crate) fn done(claim: &Claim, retention: Duration, now: Duration) -> Self {
        let until = now + retention;
        Self { claim: claim.clone(), is_done: true, until, kept_until: until, claimed_at: now }
    }

    pub(crate) fn digest(&self) -> BodyDigest {
        *self.claim.digest()
    }

    pub(crate) fn is_of(&self, event: &EventKey) -> bool {
        self.claim.event() == event
    }

    /// Returns whether the entry is a claim that another token may take over.
    #[cfg(test)]
    pub(crate) fn has_expired(&self, now: Duration) -> bool {
        !self.is_done && self.until <= now
    }
}

impl Entries {
    /// Returns the entry, unless its grace or retention is over.
    #[cfg(test)]
    pub(crate) fn kept(&self, key: &EventKey, now: Duration) -> Option<&Entry> {
        self.0.get(key).filter(|entry| entry.kept_until > now)
    }

    /// Returns the entry, unless its lease or retention is over, so that another token may claim it.
    pub(crate) fn live(&self, key: &EventKey, now: Duration) -> Option<&Entry> {
        self.0.get(key).filter(|entry| entry.until > now)
    }

    /// Returns the kept entry if this token claimed or completed it.
    pub(crate) fn own(&mut self, claim: &Claim, now: Duration) -> Option<&mut Entry> {
        self.0.get_mut(claim.key()).filter(|entry| entry.kept_until > now && entry.claim.token() == claim.token())
    }

    /// Returns the kept entry if this token claimed it and has not completed it.
    pub(crate) fn held(&mut self, claim: &Claim, now: Duration) -> Option<&mut Entry> {
        self.own(claim, now).filter(|entry| !entry.is_done)
    }

    pub(crate) fn claim(&mut self, claim: &Claim, terms: &ClaimTerms, now: Duration) -> ClaimOutcome {
        if self.renew(claim, terms, now) {
            return ClaimOutcome::Claimed;
        }
        match self.live(claim.key(), now) {
            Some(entry) if entry.is_done => ClaimOutcome::Done { digest: entry.digest() },
            Some(entry) => ClaimOutcome::InFlight { digest: entry.digest(), remaining: entry.until - now },
            None => {
                self.0.insert(*claim.key(), Entry::claimed(claim, terms, now));
                ClaimOutcome::Claimed
            }
        }
    }

    pub(crate) fn complete(&mut self, claim: &Claim, retention: Duration, now: Duration) -> bool {
        if let Some(entry) = self.held(claim, now) {
            *entry = Entry { claimed_at: entry.claimed_at, ..Entry::done(&entry.claim, retention, now) };
        }
        self.own(claim, now).is_some()
    }

    pub(crate) fn release(&mut self, claim: &Claim, now: Duration) {
        if self.held(claim, now).is_some() {
            self.0.remove(claim.key());
        }
    }

    pub(crate) fn renew(&mut self, claim: &Claim, terms: &ClaimTerms, now: Duration) -> bool {
        let Some(entry) = self.held(claim, now) else { return false };
        *entry = Entry { claimed_at: entry.claimed_at, ..Entry::claimed(&entry.claim, terms, now) };
        true
    }

    /// Returns up to `limit` kept entries that `chosen` selects, with keys larger than `after`, in the order of their keys.
    pub(crate) fn list(
        &self,
        now: Duration,
        after: Option<EventKey>,
        limit: u32,
        chosen: impl Fn(&Entry) -> bool,
    ) -> Vec<Entry> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let following = self.0.range((start, Bound::Unbounded)).map(|(_, entry)| entry);
        let kept = following.filter(|entry| entry.kept_until > now && chosen(entry));
        kept.take(limit as usize).cloned().collect()
    }

    /// Returns the number of kept entries that `chosen` selects.
    pub(crate) fn count(&self, now: Duration, chosen: impl Fn(&Entry) -> bool) -> u64 {
        self.0.values().filter(|entry| chosen(entry) && entry.kept_until > now).count() as u64
    }

    /// Removes the entries that `chosen` selects. Returns the number of those that were still kept.
    pub(crate) fn forget(&mut self, now: Duration, chosen: impl Fn(&Entry) -> bool) -> u64 {
        let forgotten = self.count(now, &chosen);
        self.0.retain(|_, entry| !chosen(entry));
        forgotten
    }

    /// Deletes up to `limit` entries whose grace or retention is over. Returns the number of deleted entries.
    #[cfg(test)]
    pub(crate) fn purge(&mut self, limit: u32, now: Duration) -> u64 {
        let over = self.0.iter().filter(|(_, entry)| entry.kept_until <= now);
        let over: Vec<EventKey> = over.map(|(key, _)| *key).take(limit as usize).collect();
        over.iter().filter(|key| self.0.remove(key).is_some()).count() as u64
    }
}
