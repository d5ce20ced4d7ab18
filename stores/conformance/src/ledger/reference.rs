//! A reference for ledgers, written slowly and plainly. Stores are compared with it.

use std::{collections::BTreeMap, time::Duration};

use tower_klikit::dedupe::{BodyDigest, Claim, ClaimOutcome, ClaimTerms, EventKey};

/// The entries of a ledger. The caller passes the time to each call, counted from the beginning.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entries(pub(crate) BTreeMap<EventKey, Entry>);

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

    /// Whether the entry is a claim that others may take over.
    #[cfg(test)]
    pub(crate) fn has_expired(&self, now: Duration) -> bool {
        !self.is_done && self.until <= now
    }
}

impl Entries {
    /// Returns an entry that is still kept.
    #[cfg(test)]
    pub(crate) fn kept(&self, key: &EventKey, now: Duration) -> Option<&Entry> {
        self.0.get(key).filter(|entry| entry.kept_until > now)
    }

    /// Returns an entry that no other token may claim.
    pub(crate) fn live(&self, key: &EventKey, now: Duration) -> Option<&Entry> {
        self.0.get(key).filter(|entry| entry.until > now)
    }

    /// Returns the kept entry that this token has claimed or completed.
    pub(crate) fn own(&mut self, claim: &Claim, now: Duration) -> Option<&mut Entry> {
        self.0.get_mut(claim.key()).filter(|entry| entry.kept_until > now && entry.claim.token() == claim.token())
    }

    /// Returns the kept entry that this token has claimed and not completed.
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

    /// Removes the entries that `chosen` chooses. Returns how many of them were still kept.
    pub(crate) fn forget(&mut self, now: Duration, chosen: impl Fn(&Entry) -> bool) -> u64 {
        let forgotten = self.0.values().filter(|entry| chosen(entry) && entry.kept_until > now).count();
        self.0.retain(|_, entry| !chosen(entry));
        forgotten as u64
    }

    /// Deletes up to `limit` entries that are over. Returns how many.
    #[cfg(test)]
    pub(crate) fn purge(&mut self, limit: u32, now: Duration) -> u64 {
        let over = self.0.iter().filter(|(_, entry)| entry.kept_until <= now);
        let over: Vec<EventKey> = over.map(|(key, _)| *key).take(limit as usize).collect();
        over.iter().filter(|key| self.0.remove(key).is_some()).count() as u64
    }
}
